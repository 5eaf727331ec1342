"""Training: the loop of ``fit``, one step of it, evaluation, and the ``History`` that ``fit`` returns.

A step is forward, loss, backward, reduce, update.  If something interrupts it (Ctrl-C, a callback, a custom loss), the
model is as it was before the step, or as the whole step leaves it: the optimiser commits parameters in one native call,
and a step that did not get there puts the layers' states back.
"""

import copy
import math
import warnings

import numpy as np

from minicnn import _check, callbacks, datasets, inputs, metrics, resume
from minicnn.callbacks import History
from minicnn.intake import of_fit, product, require_weight, samples, slices
from minicnn.layer import Layer, output_of
from minicnn.layers import Composite
from minicnn.progress import of_pass as progress_of_pass
from minicnn.progress import progress_of


class Fit:
    """One ``Sequential.fit``: its arguments, all checked when it is made, and the loop."""

    def __init__(
        self,
        model,
        x,
        y,
        *,
        batch_size,
        epochs,
        verbose,
        callbacks,
        validation_split,
        validation_data,
        shuffle,
        class_weight,
        sample_weight,
        initial_epoch,
        clean_train_metrics,
        drop_last,
        validation_batch_size,
        validation_freq,
    ):
        require_compiled(model, "fit")
        _require_targets(x, y)
        self.model, self.history = model, History()
        self.shuffle = _check.boolean("Sequential.fit", "shuffle", shuffle)
        clean = _check.boolean("Sequential.fit", "clean_train_metrics", clean_train_metrics)
        first = _check.integer("Sequential.fit", "initial_epoch", initial_epoch, 0)
        self.batch_size = _check.integer("Sequential.fit", "batch_size", batch_size, 1)
        size = self.batch_size if validation_batch_size is None else validation_batch_size
        size = _check.integer("Sequential.fit", "validation_batch_size", size, 1)
        self.sizes = {"clean_": self.batch_size, "val_": size}
        self.validates, self.validation_freq = _validates(validation_freq), validation_freq
        self.epochs = range(first, _check.integer("Sequential.fit", "epochs", epochs, 0))
        given = sample_weight, class_weight, validation_split, validation_data
        trained_on, of_classes, validation = of_fit(model, x, y, *given)
        self.x, y, weights = trained_on
        weights = product(weights, of_classes)
        for what, part in (("training", (x, y, weights)), ("validation", validation or ())):
            require_weight(model, "fit", f"the {what} samples", *part[2:])
        self.parts = slices(model, len(self.x), self.batch_size, drop_last)
        self.evaluated = {"clean_": trained_on if clean else None, "val_": validation}
        names = _all_log_names(model, self.evaluated)
        params = {"epochs": epochs, "batch_size": batch_size, "steps": len(self.parts), "metrics": names}
        self.hooks, self.progress = _Hooks(callbacks, params), progress_of(verbose, params)
        self.history.set_params(params)
        self.history.set_model(model)
        self.step, self.keeper = Step(model, self.x, y, weights), None
        if 0 < first < epochs and model.optimizer.iterations == 0 and model.optimizer.remembers:
            warnings.warn(_STARTS_AGAIN.format(first, type(model.optimizer).__name__), stacklevel=3)

    def train(self):
        """All epochs, or until a callback says stop; for a model that is held and in training mode."""
        hooks, logs, complete = self.hooks, {}, False
        try:
            self.seen = inputs.look(self.x, self.model.dtype, mean=self.model.input_mean is None)
            hooks.attach(self.model)
            self.keeper = resume.Keeper(hooks.all, self.model, self.history, self._about)
            hooks.begin()
            logs = self.keeper.restore()
            for epoch in self.keeper.left(self.epochs):
                hooks.call("on_epoch_begin", epoch)
                logs = self._epoch(epoch)
                self.progress.epoch(epoch, logs)
                try:
                    hooks.call("on_epoch_end", epoch, logs)
                finally:
                    self.history.append(epoch, logs)
                self.keeper.epoch_done(epoch, logs)
                if self.model.stop_training:
                    break
            hooks.end(logs)
            complete = True
        except BaseException as error:
            hooks.end(logs, error)
            raise
        finally:
            if self.keeper is not None:
                self.keeper.end(complete)

    def _about(self):
        """What must be the same where a run goes on (resume.py), beside the model."""
        validation, trained_on = self.evaluated["val_"], (self.step.x, self.step.y, self.step.weights)
        return {
            "initial_epoch": self.epochs.start,
            "batch_size": self.batch_size,
            "steps": len(self.parts),
            "shuffle": self.shuffle,
            "samples": resume.about_samples(*trained_on),
            "validation": None if validation is None else resume.about_samples(*validation),
            "validation_batch_size": self.sizes["val_"],
            "validation_freq": self.validation_freq,
            "logs": self.hooks.params["metrics"],
        }

    def _epoch(self, epoch):
        """All steps of one epoch, and the evaluations after it: the logs."""
        mean = Means(self.model)
        everything = np.arange(len(self.x))
        order = datasets.order(len(self.x), self.model.seed, epoch) if self.shuffle else everything
        done = self.keeper.within(epoch, mean)
        for number, part in enumerate(self.parts):
            if number < done or mean.spoilt or self.hooks.found:
                continue
            self.hooks.call("on_train_batch_begin", number)
            try:
                loss = self.step.run(order[part], mean, lambda: f"Sequential.fit: step {number} of epoch {epoch}")  # noqa: B023
                self.hooks.saw(loss)
            except FloatingPointError as error:
                if not self.hooks.take(error):
                    raise
                mean.spoil()
            self.model.trained_on(self.seen)
            if self.hooks.all or self.progress.shows_steps:
                logs = mean.result()
                self.progress.step(epoch, logs)
                self.hooks.call("on_train_batch_end", number, logs)
            self.keeper.step_done(epoch, number + 1, mean)
        logs = mean.result()
        for prefix, part in self.evaluated.items():
            if part is not None and (prefix != "val_" or self.validates(epoch)):
                results = evaluate(self.model, *part[:2], self.sizes[prefix], True, *part[2:])
                logs.update({prefix + name: value for name, value in results.items()})
        return logs


_STARTS_AGAIN = (
    "Sequential.fit: initial_epoch={} with a new {}: its moments and schedule start again. To continue bit for bit use "
    "ModelCheckpoint(..., save_optimizer=True) or saving.save_checkpoint, and saving.load_checkpoint"
)


def require_compiled(model, method):
    if model.optimizer is None:
        raise RuntimeError(f"Sequential.{method}: needs compile(optimizer, loss) before it")


def log_names(model):
    """The names of the loss and the metrics."""
    return ["loss", *metrics.log_names(metrics.get_all("Sequential", "metrics", model.metrics))]


def _require_targets(x, y):
    """TypeError for a generator or the like, which Keras takes for x and y."""
    if y is None:
        required = "x and y must be arrays"
        fix = "Join its batches, or call train_on_batch with each" if hasattr(x, "__next__") else "Give y"
        raise TypeError(_check.message("Sequential.fit", required, _check.Shown(f"{type(x).__name__} and no y"), fix))


def _validates(freq):
    """A function of the epoch's number, from 0: whether the validation data are evaluated after it."""
    where, name = "Sequential.fit", "validation_freq"
    if isinstance(freq, list | tuple):
        chosen = {_check.integer(where, f"every epoch of {name}", epoch, 1) for epoch in freq}
        return lambda epoch: epoch + 1 in chosen
    freq = _check.integer(where, name, freq, 1)
    return lambda epoch: (epoch + 1) % freq == 0


def _all_log_names(model, evaluated):
    """What ``fit`` logs at the end of an epoch."""
    names = log_names(model)
    return [prefix + name for prefix in ("", *(key for key, part in evaluated.items() if part)) for name in names]


def train_on_batch(model, x, y, sample_weight=None, class_weight=None):
    """``Sequential.train_on_batch``."""
    require_compiled(model, "train_on_batch")
    x, y, *weights = samples(model, "train_on_batch", x, y, sample_weight, class_weight)
    weights = product(*weights)
    require_weight(model, "train_on_batch", "the samples", weights)
    with model.engine.hold("train_on_batch"):
        mean = Means(model)
        Step(model, x, y, weights).run(np.arange(len(x)), mean, lambda: "Sequential.train_on_batch")
        model.trained_on(inputs.look(x, model.dtype, mean=model.input_mean is None))
        return mean.result()


class Step:
    """A training step over some of the samples x, y: forward, loss, backward, reduce, update; all of it, or nothing.

    ``weights``: of the samples, or None.
    """

    def __init__(self, model, x, y, weights):
        self.model, self.x, self.y, self.weights = model, x, y, weights

    def run(self, chosen, mean, place):
        """One step over the samples with the numbers ``chosen``; returns the loss.  Allocates no array.

        ``mean`` takes in the loss and the metrics; ``place()`` says in errors where this is.
        """
        model, optimizer = self.model, self.model.optimizer
        plan = model.engine.training(len(chosen))
        self.take(plan, chosen, place)
        y, weights = plan.pick("targets", self.y, chosen), plan.pick("weights", self.weights, chosen)
        plan.save_states()
        steps = optimizer.iterations
        try:
            outputs = plan.forward()
            value = self.loss(plan, outputs, y, weights, place)
            plan.backward()
            model.engine.add_penalty_gradients()
            self.reduce()
            optimizer.step()
        except BaseException:
            if optimizer.iterations == steps:  # interrupted before the update was committed
                plan.restore_states()
            raise
        mean.update(value, outputs, y, weights)
        return value

    def take(self, plan, chosen, place):
        """Copies the inputs into the plan."""
        bad = plan.take(self.x, chosen)
        if bad is not None:
            required = f"{place()}: x must be finite in {self.model.dtype}"
            raise ValueError(f"{required}; got NaN or infinity in sample {chosen[bad]}")

    def loss(self, plan, outputs, y, weights, place):
        """The loss of the outputs; its gradient goes into ``plan.dy``."""
        into = None if plan.dy is None else (plan.dy, plan.losses)  # None: nothing has parameters
        value, gradient = loss(self.model, outputs, y, weights, plan.activity_penalty(), into)
        if not math.isfinite(value):
            raise FloatingPointError(_not_finite(self.model, plan.x, value, place()))
        if plan.dy is not None and gradient is not plan.dy:
            plan.dy[...] = gradient
        return value

    def reduce(self):
        """Where the gradients of several passes or processes become one, before the update; here there is one pass."""


def loss(model, outputs, y, weights, activity_penalty, into=None):
    """(value, gradient) of a model's loss with all penalties; ``into``: arrays to use for the gradient and for the
    losses of the samples (``losses.Loss``)."""
    value, gradient = model.reading.compute_loss(outputs, y, weights, into)
    return value + activity_penalty + model.engine.penalty(), gradient


def _not_finite(model, x, value, place):
    """Where a loss that is NaN or infinite came from: the first layer whose output is not finite."""
    culprit = "the loss itself: all layers give finite numbers"
    if not math.isfinite(model.penalty()):
        culprit = "the penalty of the parameters"
    with np.errstate(all="ignore"):
        for number, layer in enumerate(model.layers):
            y = output_of(layer, x)
            if not np.isfinite(y).all():
                path, layer = _culprit(str(number), layer, x)
                culprit = f"the output of layer {path}, {type(layer).__name__}"
                break
            x = y
    fix = "Lower the learning rate, or set the optimiser's clipnorm"
    return _check.message(place, f"the loss must stay finite; first not finite: {culprit}", value, fix)


def _culprit(path, layer, x):
    """(path, layer): the innermost layer at fault, of one whose output for x is not finite."""
    found, names = [], {id(part): name for name, part in layer.parts.items()}

    def call(part, x):
        for one in [part] if isinstance(part, Layer) else part:
            y = output_of(one, x)
            if not found and not np.isfinite(y).all():
                found.append(_culprit(f"{path}.{names.get(id(one))}", one, x))
            x = y
        return x

    if isinstance(layer, Composite):
        layer.flow(_check.contiguous(x, layer.dtype), call)
    return found[0] if found else (path, layer)


def evaluate(
    model,
    x,
    y,
    batch_size=32,
    return_dict=False,
    sample_weight=None,
    verbose=0,
    where="Sequential.evaluate",
):
    """``Sequential.evaluate``."""
    method = where.rpartition(".")[2]
    require_compiled(model, method)
    batch_size = _check.integer(where, "batch_size", batch_size, 1)
    return_dict = _check.boolean(where, "return_dict", return_dict)
    x, y, weights, _ = samples(model, method, x, y, sample_weight)
    require_weight(model, method, "the samples", weights)
    mean, starts = Means(model), range(0, len(x), batch_size)
    with progress_of_pass(where, verbose, len(starts)) as progress:
        for start in starts:
            part = slice(start, start + batch_size)
            w = None if weights is None else weights[part]
            with model.engine.evaluation(len(y[part])) as plan:
                plan.take(x[part])
                outputs = plan.forward().copy()
                value, _ = loss(model, outputs, y[part], w, plan.activity_penalty())
                mean.update(value, outputs, y[part], w)
            if progress.shows_steps:
                progress.step(0, mean.result())
        logs = mean.result()
        progress.epoch(0, logs)
    if return_dict:
        return logs
    return [*logs.values()] if model.metrics else logs["loss"]


class Means:
    """Running means of the loss and the metrics over batches."""

    def __init__(self, model, reading=None):
        """``reading``: the ``Outputs`` of what ``update`` will get, None for the model's own."""
        self.reading = model.reading if reading is None else reading
        self.metrics = self.reading.metrics(copy.deepcopy(metrics.get_all("Sequential", "metrics", model.metrics)))
        self.names = metrics.log_names(self.metrics)
        self.total, self.count, self.spoilt = 0.0, 0, False
        for metric in self.metrics:
            metric.reset()

    def update(self, loss, outputs, y, weights):
        self.total += loss * len(outputs)
        self.count += len(outputs)
        for metric in self.metrics:
            metric.update(outputs, y, weights, from_logits=self.reading.from_logits)

    def get_state(self):
        """What ``set_state`` needs to go on with the means of an epoch that is not over (resume.py)."""
        numbers = {"total": self.total, "count": self.count, "spoilt": self.spoilt}
        return {**numbers, "metrics": [metric.get_state() for metric in self.metrics]}

    def set_state(self, state):
        self.total, self.count, self.spoilt = state["total"], state["count"], state["spoilt"]
        for metric, kept in zip(self.metrics, state["metrics"], strict=True):
            metric.set_state(kept)

    def spoil(self):
        """A step had no finite loss: there is no mean any more."""
        self.spoilt = True

    def result(self):
        found = (metric.result() for metric in self.metrics)
        mean = math.nan if self.spoilt else self.total / self.count
        return {"loss": mean, **dict(zip(self.names, found, strict=True))}


class _Hooks:
    """The callbacks of one ``fit``."""

    def __init__(self, given, params):
        required = "callbacks must be a list of minicnn.callbacks.Callback objects"
        given = [given] if isinstance(given, callbacks.Callback) else given
        if given is not None and not isinstance(given, list | tuple):
            raise TypeError(_check.message("Sequential.fit", required, _check.kind(given)))
        self.params, self.all, self.begun = params, list(given or []), []
        for callback in self.all:
            if not isinstance(callback, callbacks.Callback):
                raise TypeError(_check.message("Sequential.fit", required, _check.kind(callback)))
        self.finders = [callback for callback in self.all if isinstance(callback, callbacks.LearningRateFinder)]

    @property
    def found(self):
        """Whether a test of learning rates has come to its end: nothing more is to be trained."""
        return any(finder.ended for finder in self.finders)

    def saw(self, loss):
        """Tells the tests of learning rates the loss of a step."""
        for finder in self.finders:
            finder.take_loss(loss)

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
        """``on_train_end`` of those that have begun and not ended, even if one of them raises.

        ``error``: the exception that ended training, if one did.  It stays the one that is raised, and those raised
        here become notes on it; but Ctrl-C after an error that a program may catch is raised.  Without an ``error`` the
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

    def take(self, error):
        """Whether a callback takes the place of the exception that a step has raised."""
        kinds = callbacks.TerminateOnNaN | callbacks.LearningRateFinder
        taking = [callback for callback in self.all if isinstance(callback, kinds)]
        return bool(taking) and taking[0].take(error)

    def call(self, hook, *arguments):
        for callback in self.all:
            getattr(callback, hook)(*arguments)
