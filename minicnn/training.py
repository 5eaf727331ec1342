"""Training: the loop of ``fit``, one step of it, evaluation, and the ``History`` that ``fit`` returns.

A step is forward, loss, backward, reduce, update.  If something interrupts it (Ctrl-C, a callback, a custom loss), the
model is as it was before the step, or as the whole step leaves it: the optimiser commits parameters in one native call,
and a step that did not get there puts the layers' states back.
"""

import contextlib
import copy
import functools
import itertools
import math
import warnings

import numpy as np

from minicnn import _check, callbacks, datasets, inputs, intake, losses, metrics, passes, resume, stream, targets
from minicnn.callbacks import History
from minicnn.configured import to_config
from minicnn.intake import of_fit, product, require_weight, samples, slices
from minicnn.layer import Layer, output_of
from minicnn.layers import Composite
from minicnn.layers.noise import Run
from minicnn.progress import of_pass as progress_of_pass
from minicnn.progress import progress_of, silence
from minicnn.stream import gives_batches

BATCH = 32  # samples of a batch, where nothing else is said


class Fit:
    """One ``Sequential.fit``: its arguments, all checked when it is made, and the loop.  A context."""

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
        steps_per_epoch,
        validation_steps,
        mix,
    ):
        where = "Sequential.fit"
        require_compiled(model, "fit")
        self.model, self.history = model, History()
        self.mix = None if mix is None else _mix(where, mix)
        self.shuffle = _check.boolean(where, "shuffle", shuffle)
        clean = _check.boolean(where, "clean_train_metrics", clean_train_metrics)
        first = _check.integer(where, "initial_epoch", initial_epoch, 0)
        batch_size, validation_size, steps, validation_steps = (
            None if value is None else _check.integer(where, name, value, 1)
            for name, value in {
                "batch_size": batch_size,
                "validation_batch_size": validation_batch_size,
                "steps_per_epoch": steps_per_epoch,
                "validation_steps": validation_steps,
            }.items()
        )
        self.validates, self.keeper, self.weighs = _validates(validation_freq), None, class_weight
        self.epochs = range(first, _check.integer(where, "epochs", epochs, 0))
        self.stream = self.seen = None
        self.shares = False  # whether ranks read their parts of the batches of the stream
        with contextlib.ExitStack() as opened:
            if gives_batches(x):
                arguments = {"y": y, "sample_weight": sample_weight, "validation_split": validation_split or None}
                _refuse(where, x, arguments | {"batch_size": batch_size, "drop_last": drop_last})
                self._take_data(opened, x, steps, class_weight, clean)
                trained_on, validation = (x,), intake.validation(model, validation_data)
            else:
                _require_targets(x, y)
                batch_size = batch_size or BATCH
                given = sample_weight, class_weight, validation_split, validation_data
                trained_on, of_classes, validation = of_fit(model, x, y, *given)
                self._take_arrays(opened, trained_on, of_classes, batch_size, drop_last, steps, class_weight)
            if validation is None and validation_steps is not None:
                required = "validation_steps goes with validation_data or validation_split"
                raise ValueError(_check.message(where, required, validation_steps))
            if validation is not None and len(validation) == 1:
                _refuse(where, validation[0], {"validation_batch_size": validation_size})
            elif validation is not None:
                require_weight(model, "fit", "the validation samples", validation[2])
            size = batch_size or BATCH
            self.passes = {}
            for prefix, given, *how in (
                ("clean_", trained_on if clean else None, size, None),
                ("val_", validation, validation_size or size, validation_steps),
            ):
                if given is not None:
                    self.passes[prefix] = opened.enter_context(passes.over(model, "fit", given, *how, prefix))
            self.asked = {
                "initial_epoch": first,
                "batch_size": batch_size,
                "steps": self.steps,
                "shuffle": self.shuffle,
                "validation_batch_size": None if validation is None else validation_size or batch_size,
                "validation_steps": validation_steps,
                "validation_freq": validation_freq,
                "mix": None if self.mix is None else to_config(self.mix),
            }
            params = {"epochs": epochs, "batch_size": batch_size, "steps": self.steps}
            params["metrics"] = _all_log_names(model, self.passes)
            self.hooks, self.progress = _Hooks(callbacks, params), progress_of(_shown(model, verbose), params)
            self.history.set_params(params)
            self.history.set_model(model)
            self.run = Run(model.layers, epochs, self.steps)
            if 0 < first < epochs and model.optimizer.iterations == 0 and model.optimizer.remembers:
                warnings.warn(_STARTS_AGAIN.format(first, type(model.optimizer).__name__), stacklevel=3)
            opened.enter_context(silence(not model.ranks.first))
            self.opened = opened.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return self.opened.__exit__(*error)

    def _take_arrays(self, opened, trained_on, of_classes, batch_size, drop_last, steps, class_weight):
        """Trains on rows of arrays: straight out of memory, or out of memory maps by a stream."""
        x, y, weights = trained_on
        weights = product(weights, of_classes)
        require_weight(self.model, "fit", "the training samples", weights)
        self.parts = slices(self.model, len(x), batch_size, drop_last)
        self.steps = steps or len(self.parts)
        if stream.on_disk(x) or stream.on_disk(y):
            source = stream.Rows("Sequential.fit", (x, y, weights), self.parts, self.steps, self._seed)
            self.class_weight = class_weight if of_classes is None else None
            self._open(opened, source, "step {} of epoch {}")
        else:
            self.step = self._step(x, _check.contiguous(y, y.dtype), weights)
            if self.mix is not None and max(part.stop - part.start for part in self.parts) < 2:
                required = "with mix batches must have at least 2 samples"
                raise ValueError(_check.message("Sequential.fit", required, _check.Shown("1 in each")))

    def _step(self, x, y, weights, names=None):
        if self.mix is None:
            return Step(self.model, x, y, weights, names)
        return MixedStep(self.model, x, y, weights, names, self.mix)

    def _take_data(self, opened, data, steps, class_weight, clean):
        """Trains on data that give batches."""
        where, model = "Sequential.fit", self.model
        source = stream.source_of(where, data, steps, self._seed, trains=True, first=self.epochs.start)
        if source.steps is None:
            fix = "An epoch has so many steps"
            required = "steps_per_epoch must be given with data that do not say how many batches they give"
            raise ValueError(_check.message(where, required, _check.Shown(f"{type(data).__name__} without it"), fix))
        if clean and isinstance(source, stream.Iterator):
            required = "clean_train_metrics needs data that can be read again"
            raise ValueError(_check.message(where, required, _check.Shown(type(data).__name__)))
        if class_weight is not None:  # what can be said of it without a label
            targets.class_weights(where, np.zeros(0, np.int64), class_weight, None, None)
        self.steps, self.class_weight = source.steps, class_weight
        self._open(opened, source, "batch {} of epoch {}")
        if not model.built:
            first = self.stream.first(self.epochs.start)
            if first is None:
                raise ValueError(_check.message(where, "the data must give at least one batch", 0))
            intake.batch(model, f"fit: {self.stream.place(self.epochs.start, 0)}", first)

    @property
    def _seed(self):
        return self.model.seed if self.shuffle else None

    def _open(self, opened, source, place):
        ranks, model = self.model.ranks, self.model
        self.shares = ranks.size > 1 and source.reads_rows and self.mix is None
        asked = itertools.count(0 if model.input_mean is None else 1)

        def wanted(number, n):
            whole = not next(asked)  # the first one, of which the mean is asked for
            return None if whole or not model.built else ranks.rows_of_step(model.engine, n)

        made = stream.Stream(
            source, lambda epoch, number: place.format(number, epoch), False, wanted if self.shares else None
        )
        self.stream = opened.enter_context(made)

    def train(self):
        """All epochs, or until a callback says stop; for a model that is held and in training mode."""
        hooks, logs, complete = self.hooks, {}, False
        hooks.params["metrics"] = _all_log_names(self.model, self.passes)  # it may have got names of classes by now
        try:
            if self.stream is None:
                self.seen = inputs.look(self.step.x, self.model.dtype, mean=self.model.input_mean is None)
            ranks = self.model.ranks
            if ranks.size > 1:
                ranks.require_same("Sequential.fit", self._facts())  # before a callback has done anything
            hooks.attach(self.model)
            self.keeper = resume.Keeper(hooks.all, self.model, self.history, self._about)
            hooks.begin()
            logs = self.keeper.restore()
            for epoch in self.keeper.left(self.epochs):
                hooks.call("on_epoch_begin", epoch)
                self._settle()
                found = self._epoch(epoch)
                if found is None:
                    break
                logs = found
                self.progress.epoch(epoch, logs)
                if self.rate is not None:
                    logs["learning_rate"] = self.rate
                try:
                    hooks.call("on_epoch_end", epoch, logs)
                finally:
                    self.history.append(epoch, logs)
                self._settle()
                self.keeper.epoch_done(epoch, logs)
                if self.model.stop_training:
                    break
            hooks.end(logs)
            self._settle()
            complete = True
        except BaseException as error:
            hooks.end(logs, error)
            raise
        finally:
            if self.keeper is not None:
                self.keeper.end(complete)

    def _settle(self):
        """Between epochs: what is decided on one rank is so on all."""
        if self.model.ranks.size > 1:
            settings = resume.settings(self.model)
            settings["the optimizer"].pop("learning_rate", None)  # it is the first rank's
            self.model.ranks.settle("Sequential.fit", self.model, settings)

    def _facts(self):
        """What must be the same on all ranks."""
        model = self.model
        trained_on = (self.step.x, self.step.y, self.step.weights) if self.stream is None else self.stream.source.about
        validation = self.passes["val_"].given if "val_" in self.passes else None
        return {
            "the method": "fit",
            "the model": resume.described(model),
            "its weights": model.fingerprint(),
            "the optimizer's state": resume.plain(model.optimizer.get_state()),
            "the arguments": [self.asked, [self.epochs.start, self.epochs.stop], resume.plain(self.weighs)],
            "the samples": resume.about_given(trained_on, every=True),
            "the validation samples": validation and resume.about_given(validation, every=True),
            "the logs": self.hooks.params["metrics"],
            "the callbacks": [type(one).__name__ for one in self.hooks.all],
        }

    def _about(self):
        """What must be the same where a run goes on (resume.py), beside the model."""
        trained_on = (self.step.x, self.step.y, self.step.weights) if self.stream is None else self.stream.source.about
        validation = self.passes["val_"].given if "val_" in self.passes else None
        if validation is not None and self.passes["val_"].once:
            got, fix = _check.Shown(type(validation[0]).__name__), "Give arrays or a Sequence"
            required = "validation_data must be what can be read again where a run is to go on (BackupAndRestore)"
            raise ValueError(_check.message("Sequential.fit", required, got, fix))
        return {
            **self.asked,
            "samples": resume.about_given(trained_on),
            "validation": None if validation is None else resume.about_given(validation),
            "logs": self.hooks.params["metrics"],
        }

    def _epoch(self, epoch):
        """All steps of one epoch, and the evaluations after it: the logs; None if the data had ended before."""
        mean, hooks = Means(self.model), self.hooks
        asked, shows = hooks.of_steps(), self.progress.shows_steps
        first = done = self.keeper.within(epoch, mean)
        optimizer = self.model.optimizer
        self.rate = optimizer.scheduled_rate(optimizer.iterations - done)  # that with which the epoch began
        self.progress.begin(epoch, done)
        for step, chosen in self._steps(epoch, done):
            if mean.spoilt or (hooks.finders and hooks.found):
                break
            number, done = done, done + 1
            if asked:
                hooks.call("on_train_batch_begin", number)
            self.run.begin_step(epoch, number)
            try:
                loss = step.run(chosen, mean, lambda: f"Sequential.fit: {self._place(epoch, number)}")  # noqa: B023
                if hooks.finders:
                    hooks.saw(loss)
            except FloatingPointError as error:
                if not hooks.take(error):
                    raise
                mean.spoil()
            if self.seen is None or number == first:
                self.model.trained_on(self.seen or self._look(step))
            if shows:
                self.progress.step(epoch, lambda: mean.result(of_step=True))
            if asked:
                logs = mean.result(of_step=True)
                hooks.call("on_train_batch_end", number, logs)
            self.keeper.step_done(epoch, done, mean)
        if done != self.steps and not mean.spoilt and not hooks.found:
            self._say_where_it_ended(epoch, done)
            if not done:
                return None
        if self.stream is not None:
            mean.require_weight("fit", "the training samples")
        logs = mean.result()
        for prefix, part in self.passes.items():
            if prefix != "val_" or self.validates(epoch):
                results = _evaluated(self.model, part)
                logs.update({prefix + name: value for name, value in results.items()})
        return logs

    def _look(self, step):
        """``inputs.look`` of the samples of a step, whichever ranks have read them."""
        x = step.x if step.read is None else step.x[step.read]
        found = inputs.look(x, self.model.dtype, self.model.input_mean is None)
        return functools.reduce(inputs.joined, self.model.ranks.all_of(found)) if self.shares else found

    def _steps(self, epoch, first=0):
        """(Step, the numbers of its samples), one step of the epoch after the other, from the number ``first`` on."""
        if self.stream is None:
            order = now = None
            for number in range(first, self.steps):
                visit, place = stream.place(epoch, number, self.steps, len(self.parts))
                part = self.parts[place]
                if self.shuffle and visit != now:
                    order, now = datasets.order(len(self.step.x), self.model.seed, visit), visit
                yield self.step, np.arange(part.start, part.stop) if order is None else order[part]
            return
        for number, batch in enumerate(self.stream.epoch(epoch, first=first), first):
            method = f"fit: {self.stream.place(epoch, number)}"
            x, y, weights = intake.batch(self.model, method, batch, self.class_weight, training=True)
            step = self._step(x, y, weights, batch.rows)
            step.read = batch.read
            yield step, np.arange(len(x))

    def _place(self, epoch, number):
        return f"step {number} of epoch {epoch}" if self.stream is None else self.stream.place(epoch, number)

    def _say_where_it_ended(self, epoch, done):
        """The data gave another number of batches than they should: warns, and ends training if they are at an end."""
        where, goes_on = "Sequential.fit", isinstance(self.stream.source, stream.Loader)
        if not done and (goes_on or epoch == self.epochs.start):
            required = f"the data must give at least one batch in epoch {epoch}"
            raise ValueError(_check.message(where, required, 0))
        if goes_on:
            text = f"the data gave {done} batches in epoch {epoch}, and their length says {self.steps}"
        else:
            self.model.stop_training = True
            text = f"the data ended after {done} of the {self.steps} batches of epoch {epoch}, and training with them. "
            text += "For all epochs an iterator must give steps_per_epoch * epochs batches"
        warnings.warn(f"{where}: {text}", stacklevel=5)


_STARTS_AGAIN = (
    "Sequential.fit: initial_epoch={} with a new {}: its moments and schedule start again. To continue bit for bit use "
    "ModelCheckpoint(..., save_optimizer=True) or saving.save_checkpoint, and saving.load_checkpoint"
)


def require_compiled(model, method):
    if model.optimizer is None:
        raise RuntimeError(f"Sequential.{method}: needs compile(optimizer, loss) before it")


def log_names(model):
    """The names of the loss and the metrics."""
    chosen = metrics.get_all("Sequential", "metrics", model.metrics)
    shape = model.output_shape if model.built else None
    return ["loss", *(name for names in metrics.all_log_names(chosen, shape, model.class_names) for name in names)]


def _require_targets(x, y, where="Sequential.fit"):
    """TypeError for x alone, if it does not give batches."""
    if y is None:
        required = "x and y must be arrays"
        raise TypeError(_check.message(where, required, _check.Shown(f"{type(x).__name__} and no y"), "Give y"))


def _validates(freq):
    """A function of the epoch's number, from 0: whether the validation data are evaluated after it."""
    where, name = "Sequential.fit", "validation_freq"
    if isinstance(freq, list | tuple):
        chosen = {_check.integer(where, f"every epoch of {name}", epoch, 1) for epoch in freq}
        return lambda epoch: epoch + 1 in chosen
    freq = _check.integer(where, name, freq, 1)
    return lambda epoch: (epoch + 1) % freq == 0


def _all_log_names(model, prefixes):
    """What ``fit`` logs at the end of an epoch."""
    names = log_names(model)
    return [prefix + name for prefix in ("", *prefixes) for name in names]


def _refuse(where, data, arguments):
    """ValueError for an argument that goes with arrays only, and is given with data that give batches."""
    for name, value in arguments.items():
        if value is not None:
            required = f"{name} must be left out where the data give batches, as {type(data).__name__} does"
            raise ValueError(_check.message(where, required, value, _INSTEAD.get(name, "")))


_INSTEAD = {
    "y": "They give (x, y)",
    "sample_weight": "They may give (x, y, sample_weight)",
    "batch_size": "They say how many samples are in one",
    "validation_batch_size": "They say how many samples are in one",
    "validation_split": "Give validation_data",
    "drop_last": "They say how many samples are in one",
}


def train_on_batch(model, x, y, sample_weight=None, class_weight=None):
    """``Sequential.train_on_batch``."""
    require_compiled(model, "train_on_batch")
    x, y, *weights = samples(model, "train_on_batch", x, y, sample_weight, class_weight)
    weights = product(*weights)
    require_weight(model, "train_on_batch", "the samples", weights)
    resume.require_same(model, "train_on_batch", (x, y, weights), weights=False)
    with model.engine.hold("train_on_batch"):
        mean = Means(model)
        Step(model, x, y, weights).run(np.arange(len(x)), mean, lambda: "Sequential.train_on_batch")
        model.trained_on(inputs.look(x, model.dtype, mean=model.input_mean is None))
        return mean.result()


class Step:
    """A training step over some of the samples x, y: forward, loss, backward, reduce, update; all of it, or nothing.

    ``weights``: of the samples, or None.  ``names``: the numbers by which errors call the samples, or None.  ``read``:
    as of a ``stream.Batch``.
    """

    read = None

    def __init__(self, model, x, y, weights, names=None):
        self.model, self.x, self.y, self.weights, self.names = model, x, y, weights, names

    def run(self, chosen, mean, place):
        """One step over the samples with the numbers ``chosen``; returns the loss.  Allocates no array.

        ``mean`` takes in the loss and the metrics; ``place()`` says in errors where this is.
        """
        model, optimizer = self.model, self.model.optimizer
        plan = model.engine.training(len(chosen))
        self.plan = plan
        self.take(plan, chosen, place)
        parts = self.right(plan, chosen)
        plan.save_states()
        steps = optimizer.iterations
        try:
            outputs = plan.forward()
            value = self.loss(plan, outputs, parts, place)
            plan.backward()
            self.reduce()
            model.engine.add_penalty_gradients()
            optimizer.step()
            self.tell(mean, value, outputs, parts)
        except BaseException as error:
            if optimizer.iterations == steps:  # interrupted before the update was committed
                plan.restore_states()
            _say_where(error, place())
            raise
        return value

    def take(self, plan, chosen, place):
        """Copies the inputs into the plan."""
        bad = plan.take(self.x, chosen)
        if bad is not None:
            required = f"{place()}: x must be finite in {self.model.dtype}"
            name = chosen[bad] if self.names is None else self.names[chosen[bad]]
            raise ValueError(f"{required}; got NaN or infinity in sample {name}")

    def right(self, plan, chosen):
        """[(y, weights)]: what is right; the loss is the sum of those of all."""
        return [(plan.pick("targets", self.y, chosen), plan.pick("weights", self.weights, chosen))]

    def loss(self, plan, outputs, parts, place):
        """The loss of the outputs; its gradient goes into ``plan.dy``."""
        into = None if plan.dy is None else (plan.dy, plan.losses)  # None: nothing has parameters
        (y, weights), *more = parts
        value, gradient = loss(self.model, outputs, y, weights, plan.activity_penalty(), into)
        if plan.dy is not None and gradient is not plan.dy:
            plan.dy[...] = gradient
        for y, weights in more:
            another, gradient = self.model.reading.compute_loss(outputs, y, weights)
            value += another
            if plan.dy is not None:
                plan.dy += gradient
        if not math.isfinite(value):
            raise FloatingPointError(_not_finite(self.model, plan.own_x, value, place()))
        return value

    def tell(self, mean, value, outputs, parts):
        """Hands the loss and what the metrics are of to ``mean``."""
        ((y, weights),) = parts
        mean.update(value, outputs, y, weights)

    def reduce(self):
        """Where the gradients of several processes become one, before those of the penalties and the update."""
        self.plan.reduce()


class MixedStep(Step):
    """A step over pairs of samples (augment.py).

    A loss of classes is that of both answers, each with its share as weight, so that weights of samples and classes
    count as they would without: s w[n] l(o, y[n]) + (1 - s) w[p] l(o, y[p]).  A loss of numbers is that of the mixed
    target.  So are metrics that a loss computes, and with a loss of numbers custom ones; all others, which count what
    is right, are of the answer with the larger share.
    """

    def __init__(self, model, x, y, weights, names, mix):
        super().__init__(model, x, y, weights, names)
        self.mix, self.pairs = mix, None
        self.of_numbers = model.loss_function.mixes_targets
        where, name = "Sequential.fit", model.loss_function.name
        mix.require_shapes(where, model.input_shape, model.output_shape)
        if self.of_numbers and weights is not None:
            required = f"mix takes no sample or class weights with {name!r}, whose targets it mixes"
            raise ValueError(_check.message(where, required, _check.Shown("weights")))
        if isinstance(model.loss_function, losses.FunctionLoss) and y.dtype.kind != "f":
            required = f"mix hands the mixed targets to the custom loss {name!r}: they must be floats"
            fix = "Give one-hot rows (utils.to_categorical) for class numbers"
            raise TypeError(_check.message(where, required, _check.Shown(f"dtype {y.dtype}"), fix))

    def take(self, plan, chosen, place):
        super().take(plan, chosen, place)
        model = self.model
        self.pairs = self.mix.draw(len(chosen), model.input_shape, model.optimizer.iterations, model.seed)
        self.pairs.blend(plan.x, plan.pick("partners", plan.x, self.pairs.partners))

    def right(self, plan, chosen):
        ((y, weights),), pairs = super().right(plan, chosen), self.pairs
        others = plan.pick("partners' targets", y, pairs.partners)
        self.answers = y, others
        if self.of_numbers:
            return [(pairs.targets(y, others), None)]
        mine, theirs = pairs.shares, 1 - pairs.shares
        if weights is not None:
            mine, theirs = mine * weights, theirs * weights[pairs.partners]
        return [(y, mine), (others, theirs)]

    def tell(self, mean, value, outputs, parts):
        y = self.pairs.larger(*self.answers)
        weights = None if self.weights is None else parts[0][1] + parts[1][1]
        mixed = metrics.MeanLoss | metrics.FunctionMetric if self.of_numbers else metrics.MeanLoss
        mean.update(value, outputs, y, weights, lambda metric: parts if isinstance(metric, mixed) else [(y, weights)])


def _mix(where, mix):
    from minicnn import augment  # here: many programs never use it

    return augment.get(where, "mix", mix)


def _say_where(error, place):
    """Adds it to an exception that does not begin with it, such as one of a loss of somebody's own."""
    if isinstance(error, Exception) and not str(error).startswith(place):
        _check.note(error, "place", f"at {place}")


def loss(model, outputs, y, weights, activity_penalty, into=None):
    """(value, gradient) of a model's loss with all penalties; ``into``: arrays to use for the gradient and for the
    losses of the samples (``losses.Loss``)."""
    value, gradient = model.reading.compute_loss(outputs, y, weights, into)
    return value + activity_penalty + model.engine.penalty(), gradient


def _not_finite(model, x, value, place):
    """Where a loss that is NaN or infinite came from: the first layer whose output is not finite.

    ``x``: the samples of the batch that this process has; all ranks find the same.
    """
    found = len(model.layers), "the loss itself: all layers give finite numbers"
    if not math.isfinite(model.penalty()):
        found = len(model.layers), "the penalty of the parameters"
    with np.errstate(all="ignore"):
        for number, layer in enumerate(model.layers):
            y = output_of(layer, x)
            if not np.isfinite(y).all():
                path, layer = _culprit(str(number), layer, x)
                found = number, f"the output of layer {path}, {type(layer).__name__}"
                break
            x = y
    _, culprit = min(model.ranks.all_of(found), key=lambda one: one[0])
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
    y=None,
    batch_size=None,
    return_dict=False,
    sample_weight=None,
    verbose=0,
    steps=None,
    where="Sequential.evaluate",
):
    """``Sequential.evaluate``."""
    method = where.rpartition(".")[2]
    require_compiled(model, method)
    return_dict = _check.boolean(where, "return_dict", return_dict)
    if gives_batches(x):
        _refuse(where, x, {"y": y, "batch_size": batch_size, "sample_weight": sample_weight})
        given = (x,)
    else:
        _require_targets(x, y, where)
        given = samples(model, method, x, y, sample_weight)[:3]
    batch_size = BATCH if batch_size is None else _check.integer(where, "batch_size", batch_size, 1)
    part = passes.over(model, method, given, batch_size, steps)
    resume.require_same(model, method, given, batch_size, steps, log_names(model))
    with part, progress_of_pass(where, _shown(model, verbose), part.steps) as progress:
        logs = _evaluated(model, part, progress)
        progress.epoch(0, logs)
    if return_dict:
        return logs
    return [*logs.values()] if model.metrics else logs["loss"]


def _evaluated(model, part, progress=None):
    """The loss and the metrics of a pass."""
    mean = Means(model)

    @contextlib.contextmanager
    def batch(number):
        try:
            yield
        except Exception as error:
            _say_where(error, f"Sequential.{part.method}: batch {number} of {part.title}")
            raise

    def compute(number, given):
        with batch(number):
            return _computed(model, given[0])

    for number, (_, y, weights), outputs, penalty in _everywhere(model, part, compute):
        with batch(number):
            value, _ = loss(model, outputs, y, weights, penalty)
            mean.update(value, outputs, y, weights)
        if progress is not None and progress.shows_steps:
            progress.step(0, lambda: mean.result(of_step=True))
    mean.require_weight(part.method, part.title)
    return mean.result()


def _computed(model, x):
    """(outputs, what they add to the loss)"""
    with model.engine.evaluation(len(x)) as plan:
        plan.take(x)
        return plan.forward().copy(), plan.activity_penalty()


def _everywhere(model, part, compute):
    """``Alone.computed`` of the batches of a pass."""
    return model.ranks.computed(part.batches(), compute, lambda one: ((len(one[0]), *model.output_shape), model.dtype))


def _shown(model, verbose):
    """The argument ``verbose``, for the rank that may print."""
    return verbose if model.ranks.first else 0


def predict(model, x, batch_size=None, verbose=0, steps=None):
    """``Sequential.predict`` of checked inputs, or of data that give batches."""
    where = "Sequential.predict"
    given = (x, None, None)
    if gives_batches(x, lists=False):
        _refuse(where, x, {"batch_size": batch_size})
        given = (x,)
    batch_size = 256 if batch_size is None else _check.integer(where, "batch_size", batch_size, 1)
    shown = not (type(verbose) is int and not verbose)
    if len(given) == 3 and 0 < len(x) <= batch_size and steps is None and not shown:  # one image, say: be quick
        with model.engine.evaluation(len(x)) as plan:
            plan.take(x)
            return plan.forward().copy()
    part = passes.over(model, "predict", given, batch_size, steps, inputs=True)
    resume.require_same(model, "predict", given, batch_size, steps)
    found, done = [], 0
    if part.samples is not None:
        found = np.empty((part.samples, *model.output_shape), model.dtype)
    with part, progress_of_pass(where, _shown(model, verbose), part.steps) as progress:
        for _, _, outputs, _ in _everywhere(model, part, lambda _, given: _computed(model, given[0])):
            if part.samples is None:
                found.append(outputs)
            else:
                found[done : done + len(outputs)] = outputs
            done += len(outputs)
            progress.step(0, dict)
        progress.epoch(0, {})
    return np.concatenate(found) if part.samples is None else found


class Means:
    """Running means of the loss and the metrics over batches."""

    def __init__(self, model, reading=None):
        """``reading``: the ``Outputs`` of what ``update`` will get, None for the model's own."""
        self.model, self.reading = model, model.reading if reading is None else reading
        self.metrics = self.reading.metrics(copy.deepcopy(metrics.get_all("Sequential", "metrics", model.metrics)))
        self.names = metrics.all_log_names(self.metrics, model.output_shape, model.class_names)
        self.total, self.count, self.spoilt, self.weight = 0.0, 0, False, 0.0
        for metric in self.metrics:
            metric.reset()

    def update(self, loss, outputs, y, weights, right_for=None):
        """``right_for``: a function that gives [(y, weights)] for a metric; None: (y, weights) for all."""
        self.total += loss * len(outputs)
        self.count += len(outputs)
        self.weight += len(outputs) if weights is None else math.fsum(weights)
        for metric in self.metrics:
            for y_of, weights_of in [(y, weights)] if right_for is None else right_for(metric):
                metric.update(outputs, y_of, weights_of, from_logits=self.reading.from_logits)

    def require_weight(self, method, what):
        """ValueError where the weights of all samples sum to 0, and the metrics are 0/0."""
        require_weight(self.model, method, what, [self.weight])

    def get_state(self):
        """What ``set_state`` needs to go on with the means of an epoch that is not over (resume.py)."""
        numbers = {"total": self.total, "count": self.count, "weight": self.weight, "spoilt": self.spoilt}
        return {**numbers, "metrics": [metric.get_state() for metric in self.metrics]}

    def set_state(self, state):
        self.total, self.count, self.weight, self.spoilt = (
            state[name] for name in ("total", "count", "weight", "spoilt")
        )
        for metric, kept in zip(self.metrics, state["metrics"], strict=True):
            metric.set_state(kept)

    def spoil(self):
        """A step had no finite loss: there is no mean any more."""
        self.spoilt = True

    def result(self, of_step=False):
        """{name: value}; ``of_step``: without the metrics that take too long to be computed after every step."""
        found = {"loss": math.nan if self.spoilt else self.total / self.count}
        for names, metric in zip(self.names, self.metrics, strict=True):
            if metric.of_steps or not of_step:
                value = metric.result()
                found.update(zip(names, np.ravel(value).tolist() if len(names) > 1 else [value], strict=True))
        return found


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
        return bool(self.finders) and any(finder.ended for finder in self.finders)

    def saw(self, loss):
        """Tells the tests of learning rates the loss of a step."""
        for finder in self.finders:
            finder.take_loss(loss)

    def of_steps(self):
        """Whether a callback wants to be called at every step: then the logs of each are computed."""
        names = "on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"
        base = callbacks.Callback
        return any(
            getattr(getattr(one, name), "__func__", None) is not getattr(base, name)
            for one in self.all
            for name in names
        )

    def attach(self, model):
        for callback in self.all:
            callback.set_params(self.params)
            callback.set_model(model)
            if not model.ranks.first:
                callback.writes = False
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
        self.begun.sort(key=lambda callback: callback.ends_last)
        while self.begun:
            try:
                self.begun.pop(0).on_train_end(logs)
            except BaseException as another:
                if first is None or (isinstance(first, Exception) and not isinstance(another, Exception)):
                    first, another = another, first
                if another is not None:
                    text = f"and in a callback's on_train_end, or before it: {type(another).__name__}: {another}"
                    _check.note(first, text, text)
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
