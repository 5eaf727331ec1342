"""Training: the loop of ``fit``, one step of it, evaluation, and the ``History`` that is left over.

A step is forward, loss, backward, gradients of the penalties, update.  Whatever interrupts it (Ctrl-C, a callback, a
loss of one's own), the model is afterwards as it was before the step, or as it is after it: the optimiser commits
parameters in one native call, and a step that did not get there puts the layers' states back.
"""

import copy
import math
import warnings

import numpy as np

from minicnn import _check, callbacks, datasets, metrics
from minicnn.intake import of_fit, product, require_weight, samples, slices
from minicnn.layer import output_of
from minicnn.outputs import of as outputs_of
from minicnn.progress import progress_of


class History:
    """What ``fit`` returns: ``history``, a dict of lists with a number for each epoch, and ``epoch``, from 0."""

    def __init__(self):
        self.history = {}
        self.epoch = []

    def append(self, epoch, logs):
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self):
        return f"History({self.history})"


def fit(
    model,
    x,
    y,
    batch_size=32,
    epochs=1,
    verbose="auto",
    callbacks=None,
    validation_split=0.0,
    validation_data=None,
    shuffle=True,
    class_weight=None,
    sample_weight=None,
    initial_epoch=0,
    clean_train_metrics=False,
    drop_last=None,
):
    """Trains ``model`` on the samples x (N, ...) with the targets y, as the compiled optimiser and loss say.

    - ``batch_size``: samples of a step, >= 1.  ``drop_last``: what becomes of the last batch of an epoch where it would
      be smaller.  None: it is trained on, but a single sample that is left joins the batch before it, because batch
      normalisation cannot train on one; False: it is trained on as it is; True: it is dropped (PyTorch's meaning).
      ``datasets.batches`` gives the same batches.
    - ``epochs``: the number of the last epoch; epochs ``initial_epoch`` to ``epochs`` - 1 are trained, so that training
      in pieces gives the bits of one ``fit``.
    - ``verbose``: 0 silent, 1 a progress bar, 2 a line an epoch, "auto": 1 on a terminal, otherwise 2.  On stderr.
    - ``callbacks``: a list of ``callbacks.Callback``.
    - ``validation_split``: the fraction in [0, 1) of the samples, taken from the end, that is not trained on;
      ``validation_data``: (x, y) or (x, y, sample_weight) instead.  Their results are logged as val_loss and so on.
      Warns where the split leaves none of a class to train on, as it does where samples are sorted by class.
    - ``shuffle``: the order of an epoch is a function of the model's seed and the epoch's number; False: as given.
    - ``class_weight``: {class: weight}; ``sample_weight``: (N,).  The loss is (1/N) sum_i w_i l_i, as in Keras, w_i the
      product of both.  Classes without a weight weigh 1.  Class weights are for training alone: neither val_loss nor
      clean_loss has them, as ``evaluate`` has not; sample weights are cut by ``validation_split`` as x and y are.
      Where there are metrics, which are divided by the sum of the weights, it must not be 0, of the validation neither.
    - ``clean_train_metrics``: log clean_loss and so on as well: what ``evaluate`` gives, after each epoch, for the
      samples trained on and their ``sample_weight``.  Training is the same bit for bit; it costs a forward pass.

    The loss and the metrics of an epoch are means over its batches as they were trained: in train mode, with dropout
    on, each batch with the weights before its step.  Those of the validation are computed in eval mode, with nothing
    dropped, by the weights at the end of the epoch, and often look better for that reason alone.  Comparable are
    clean_loss and val_loss; their difference is what overfitting costs.  The progress line says of each number in
    which mode it was computed.  All losses have the penalties of regularizers.py in them.

    Raises RuntimeError before ``compile`` or when the model is being trained already; ValueError and TypeError for bad
    arguments, before anything is changed, also where a batch would be too small for a layer; ValueError, before the
    first step, for callbacks that need a log which will not be there.  What only a step can show ends training there,
    and the step changes nothing: ValueError, with the sample, for a number in x that is not finite; FloatingPointError,
    with the step and the layer, if the loss is not finite.  Whatever ends training, ``on_train_end`` of the callbacks
    is called (callbacks.py).

    Warns where ``initial_epoch`` is above 0 and the optimiser, one with moments or a schedule, has done no step yet:
    it begins anew.  Files that keep it are those of ``saving.save_checkpoint`` and ModelCheckpoint's with
    ``save_optimizer``.
    """
    _require_compiled(model, "fit")
    shuffle = _check.boolean("Sequential.fit", "shuffle", shuffle)
    clean = _check.boolean("Sequential.fit", "clean_train_metrics", clean_train_metrics)
    initial_epoch = _check.integer("Sequential.fit", "initial_epoch", initial_epoch, 0)
    batch_size = _check.integer("Sequential.fit", "batch_size", batch_size, 1)
    epochs = _check.integer("Sequential.fit", "epochs", epochs, 0)
    given = sample_weight, class_weight, validation_split, validation_data
    trained_on, of_classes, validation = of_fit(model, x, y, *given)
    x, y, weights = trained_on
    weights = product(weights, of_classes)
    for what, part in (("training", (x, y, weights)), ("validation", validation or ())):
        require_weight(model, "fit", f"the {what} samples", *part[2:])
    parts = slices(model, len(x), batch_size, drop_last)
    evaluated = {"clean_": trained_on if clean else None, "val_": validation}
    names = _log_names(model, evaluated)
    params = {"epochs": epochs, "batch_size": batch_size, "steps": len(parts), "metrics": names}
    hooks = _Hooks(callbacks, params)
    if 0 < initial_epoch < epochs and model.optimizer.iterations == 0 and model.optimizer.remembers:
        warnings.warn(_BEGINS_ANEW.format(initial_epoch, type(model.optimizer).__name__), stacklevel=2)
    progress = progress_of(verbose, hooks.params)
    with model._exclusive("fit"), progress:
        before = model.training  # not earlier: of a model that another thread trains it would be that fit's mode
        history, logs = History(), {}
        model._put(history=history)
        try:
            model.train()
            model.stop_training = False
            seen = model._look_at(x)
            hooks.attach(model)
            hooks.begin()
            for epoch in range(initial_epoch, epochs):
                hooks.call("on_epoch_begin", epoch)
                order = datasets.order(len(x), model.seed, epoch) if shuffle else np.arange(len(x))
                logs = _epoch(model, x, y, weights, [order[part] for part in parts], epoch, hooks, progress, seen)
                for prefix, part in evaluated.items():
                    if part is not None:
                        results = evaluate(model, *part[:2], batch_size, True, *part[2:])
                        logs.update({prefix + name: value for name, value in results.items()})
                progress.epoch(epoch, logs)
                try:
                    hooks.call("on_epoch_end", epoch, logs)
                finally:
                    history.append(epoch, logs)
                if model.stop_training:
                    break
            hooks.end(logs)
        except BaseException as error:
            hooks.end(logs, error)
            raise
        finally:
            model._training = before  # no call, at the beginning of which a signal might be served
    return history


_BEGINS_ANEW = (
    "Sequential.fit: initial_epoch={} with a new {}: its moments and its schedule begin anew. To go on bit for bit use "
    "ModelCheckpoint(..., save_optimizer=True) or saving.save_checkpoint, and saving.load_checkpoint"
)


def _require_compiled(model, method):
    if model.optimizer is None:
        raise RuntimeError(f"Sequential.{method}: needs compile(optimizer, loss) before it")


def _log_names(model, evaluated):
    """What ``fit`` logs at the end of an epoch."""
    names = ["loss", *metrics.log_names(metrics.get_all("Sequential", "metrics", model.metrics))]
    return [prefix + name for prefix in ("", *(key for key, part in evaluated.items() if part)) for name in names]


def _epoch(model, x, y, weights, batches, epoch, hooks, progress, seen):
    """All steps of one epoch, each over the samples that one of ``batches`` names; returns the means over it."""
    mean = Means(model)
    for step, chosen in enumerate(batches):
        hooks.call("on_train_batch_begin", step)
        _step(model, x, y, weights, chosen, mean, lambda: f"Sequential.fit: step {step} of epoch {epoch}")  # noqa: B023
        model._trained_on(seen)
        if hooks.all or progress.shows_steps:
            logs = mean.result()
            progress.step(epoch, logs)
            hooks.call("on_train_batch_end", step, logs)
    return mean.result()


def train_on_batch(model, x, y, sample_weight=None, class_weight=None):
    """One step on the batch x, y, in training mode; returns {"loss": ..., metrics ...} of it.  Raises like fit."""
    _require_compiled(model, "train_on_batch")
    x, y, *weights = samples(model, "train_on_batch", x, y, sample_weight, class_weight)
    weights = product(*weights)
    require_weight(model, "train_on_batch", "the samples", weights)
    with model._exclusive("train_on_batch"):
        mean = Means(model)
        _step(model, x, y, weights, np.arange(len(x)), mean, lambda: "Sequential.train_on_batch")
        model._trained_on(model._look_at(x))
        return mean.result()


def _step(model, x, y, weights, chosen, mean, place):
    """Forward, loss, backward, update over the samples ``chosen``; all of it, or nothing.

    ``mean`` takes in the loss and the metrics; ``place()`` says in errors where this is.  Allocates no array.
    """
    plan = model._training_plan(len(chosen))
    bad = plan.take(x, chosen)
    if bad is not None:
        required = f"{place()}: x must be finite in {model.dtype}"
        raise ValueError(f"{required}; got NaN or infinity in sample {chosen[bad]}")
    y, weights = plan.pick("targets", y, chosen), plan.pick("weights", weights, chosen)
    plan.save_states()
    steps = model.optimizer.iterations
    try:
        outputs = plan.forward()
        value, gradient = model._loss(outputs, y, weights, (plan.dy, plan.losses), plan.activity_penalty())
        if not math.isfinite(value):
            raise FloatingPointError(_not_finite(model, plan.x, value, place()))
        if gradient is not plan.dy:
            plan.dy[...] = gradient
        plan.backward()
        model._add_penalty_gradients()
        model.optimizer.step()
    except BaseException:
        if model.optimizer.iterations == steps:  # interrupted before the update was committed
            plan.restore_states()
        raise
    mean.update(value, outputs, y, weights)


def _not_finite(model, x, value, place):
    """Where a loss that is NaN or infinite came from: the first layer whose output is not finite."""
    culprit = "the loss itself: all layers give finite numbers"
    if not math.isfinite(model.penalty()):
        culprit = "the penalty of the parameters"
    with np.errstate(all="ignore"):
        for number, layer in enumerate(model.layers):
            x = output_of(layer, x)
            if not np.isfinite(x).all():
                culprit = f"the output of layer {number}, {type(layer).__name__}"
                break
    fix = "Lower the learning rate, or set the optimiser's clipnorm"
    return _check.message(place, f"the loss must stay finite; first not finite: {culprit}", value, fix)


def evaluate(model, x, y, batch_size=32, return_dict=False, sample_weight=None):
    """Loss and metrics over x, y with nothing dropped, whatever the mode: {name: value}, or the loss, or a list."""
    _require_compiled(model, "evaluate")
    batch_size = _check.integer("Sequential.evaluate", "batch_size", batch_size, 1)
    return_dict = _check.boolean("Sequential.evaluate", "return_dict", return_dict)
    x, y, weights, _ = samples(model, "evaluate", x, y, sample_weight)
    require_weight(model, "evaluate", "the samples", weights)
    mean = Means(model)
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        w = None if weights is None else weights[part]
        with model._evaluation(len(y[part])) as plan:
            plan.take(x[part])
            outputs = plan.forward().copy()
            value, _ = model._loss(outputs, y[part], w, activity_penalty=plan.activity_penalty())
            mean.update(value, outputs, y[part], w)
    logs = mean.result()
    if return_dict:
        return logs
    return [*logs.values()] if model.metrics else logs["loss"]


class Means:
    """Running means of the loss and the metrics over batches."""

    def __init__(self, model, reading=None):
        """``reading``: the ``Outputs`` of what ``update`` will get, None for the model's own."""
        self.reading = outputs_of(model) if reading is None else reading
        self.metrics = self.reading.metrics(copy.deepcopy(metrics.get_all("Sequential", "metrics", model.metrics)))
        self.names = metrics.log_names(self.metrics)
        self.total, self.count = 0.0, 0
        for metric in self.metrics:
            metric.reset()

    def update(self, loss, outputs, y, weights):
        self.total += loss * len(outputs)
        self.count += len(outputs)
        for metric in self.metrics:
            metric.update(outputs, y, weights, from_logits=self.reading.from_logits)

    def result(self):
        found = (metric.result() for metric in self.metrics)
        return {"loss": self.total / self.count, **dict(zip(self.names, found, strict=True))}


class _Hooks:
    """The callbacks of one ``fit``."""

    def __init__(self, given, params):
        required = "callbacks must be a list of minicnn.callbacks.Callback objects"
        if given is not None and not isinstance(given, list | tuple):
            raise TypeError(_check.message("Sequential.fit", required, _check.kind(given)))
        self.params, self.all, self.begun = params, list(given or []), []
        for callback in self.all:
            if not isinstance(callback, callbacks.Callback):
                raise TypeError(_check.message("Sequential.fit", required, _check.kind(callback)))

    def attach(self, model):
        for callback in self.all:
            callback.set_params(self.params)
            callback.set_model(model)
        callbacks.check_logs(self.all, self.params["metrics"])

    def begin(self):
        for callback in self.all:
            callback.on_train_begin()
            self.begun.append(callback)

    def end(self, logs, error=None):
        """``on_train_end`` of those that have begun and are not at their end yet, whatever one of them raises.

        ``error``: what ends training, if something does: it stays the exception that is seen, and those of here become
        notes on it; but Ctrl-C that comes after an error that a program may catch is raised.  Without an ``error`` the
        first one here is raised.
        """
        first = error
        while self.begun:
            try:
                self.begun.pop(0).on_train_end(logs)
            except BaseException as another:
                if first is None or (isinstance(first, Exception) and not isinstance(another, Exception)):
                    first, another = another, first
                if another is not None:
                    first.add_note(
                        f"and in a callback's on_train_end, or before it: {type(another).__name__}: {another}"
                    )
        if first is not error:
            raise first

    def call(self, hook, *arguments):
        for callback in self.all:
            getattr(callback, hook)(*arguments)
