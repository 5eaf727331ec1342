"""Sequential: a chain of layers, and the only place where the train/eval mode is chosen.

The loop of ``fit`` stands in training.py, files in saving.py; what the layers do stands in ``layers/``.
"""

import contextlib
import copy
import threading
import warnings

import numpy as np

from minicnn import _check, layers, losses, montecarlo, optimizers
from minicnn import training as loop
from minicnn._ext import activation as activation_kernel
from minicnn._ext.runtime import Exclusive
from minicnn.layer import Layer, collect_penalties, mean_penalty, output_of
from minicnn.metrics import Accuracy, TopKAccuracy
from minicnn.metrics import get as get_metric
from minicnn.parameters import Parameters
from minicnn.plan import Workspace, can_be_recorded

ACTIVATIONS = (
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.GELU),
    *(layers.Sigmoid, layers.Softmax, layers.Tanh),
)

# Locks, and what is made anew from the layers.
NOT_COPIED = {
    "_lock",
    "_building",
    "_reclaiming",
    "_views",
    "_idle",
    "_idle_samplers",
    "_pending",
    "_latest",
    "_penalties",
    "_training_workspace",
    "_workspace_by_hand",
    "parameters",
    "gradients",
}


class Sequential(Parameters):
    """A chain: ``forward`` runs the layers first to last, ``backward`` last to first.

    - ``layers``: the layers in order, optionally with ``layers.Input(shape)`` first.
    - ``seed``: 0 <= seed < 2^64; initial values, masks and the order of the samples are functions of it.
    - ``dtype``: "float32" or "float64", of all layers.
    - ``algorithm``: "auto" or "exact", of all convolutions that say nothing themselves (``Conv2D``).

    Without an Input the model learns its shapes at the first ``build``, ``fit``, ``predict`` or ``forward``.  A new
    model is in eval mode; ``fit`` trains in training mode and puts the mode back as it was.

    ``predict`` and ``evaluate`` may be called from several threads at once; ``fit``, ``train_on_batch`` and, in
    training mode, ``forward`` and ``backward`` raise RuntimeError while another thread is in one of them.

    Arrays x: anything NumPy takes for numbers, (N, *input_shape); images with one channel also as (N, H, W).  They are
    cast to ``dtype`` batch by batch.
    """

    def __init__(self, layers=(), seed=0, dtype="float32", algorithm="auto"):
        self.layers = []
        self.seed = _check.integer("Sequential", "seed", seed, 0, 2**64 - 1)
        self.dtype = _check.float_dtype("Sequential", dtype)
        self.algorithm = _check.choice("Sequential", "algorithm", algorithm, ("auto", "exact"))
        self.input_shape = self.output_shape = None
        self.parameters = self.gradients = None  # flat vectors over all layers, once built
        self.segments = []  # (name, offset, size, trainable, decayed) of each parameter in them
        self._penalties = None  # of the parameters, once built
        self.optimizer = self.loss_function = self.history = None
        self.metrics = []
        self.stop_training = False
        self._training = False
        self._declared_shape = None
        self._make_locks()
        self._forget_plans()
        if isinstance(layers, Layer) or not hasattr(layers, "__iter__"):
            raise TypeError(_check.message("Sequential", "layers must be a list of layers", _check.kind(layers)))
        for layer in layers:
            self.add(layer)
        if self._declared_shape is not None and self.layers:
            self.build(self._declared_shape)

    def _make_locks(self):
        self._lock, self._building = Exclusive(), threading.Lock()
        self._reclaiming = threading.RLock()  # a signal handler may predict, too

    # ---- the chain ----

    def add(self, layer):
        """Appends a layer.  RuntimeError once the model is built, ValueError for one that is in a model already."""
        if self.built:
            raise RuntimeError("Sequential.add: layers must be added before the model is built")
        if isinstance(layer, layers.Input):
            if self.layers or self._declared_shape is not None:
                raise ValueError(_check.message("Sequential", "Input must be the first entry, once", layer))
            self._declared_shape = layer.shape
            return
        if not isinstance(layer, Layer):
            fix = f"Did you mean {layer.__name__}()?" if isinstance(layer, type) and issubclass(layer, Layer) else ""
            raise TypeError(_check.message("Sequential", "every entry must be a layer", layer, fix))
        if layer.input_shape is not None or any(layer is other for other in self.layers):
            raise ValueError(
                _check.message("Sequential", "a layer can stand in one place only", layer, "Make a new one")
            )
        self.layers.append(layer)

    @property
    def built(self):
        return self.output_shape is not None

    def build(self, input_shape):
        """Makes the parameters for samples of ``input_shape`` (without the batch axis; Keras's leading None is fine).

        Called again with the same shape it does nothing, with another it raises ValueError.
        """
        self._build(input_shape, np.random.default_rng(self.seed))

    def _build(self, input_shape, rng):
        shape = _check.sample_shape("Sequential.build", input_shape)
        with self._building:  # of two threads whose predict comes first, one builds
            if self.built:
                if shape != self.input_shape:
                    required = f"input_shape must stay {self.input_shape}"
                    raise ValueError(_check.message("Sequential.build", required, shape))
                return
            if not self.layers:
                raise ValueError("Sequential.build: the model must have at least one layer; got none")
            self._require_own_optimizer("build", self.optimizer)
            output_shape = self._build_layers(shape, rng)
            if not hasattr(rng, "stored_array"):  # who reads a file has been warned when the model was made
                self._warn_of_noise_at_the_end()
            self._bind()
            self.input_shape, self.output_shape = shape, output_shape  # last: now others may use it

    def _build_layers(self, shape, rng):
        """Builds one layer after the other and returns the shape of the last output; all of them, or none."""
        before = [{k: dict(v) if isinstance(v, dict) else v for k, v in vars(layer).items()} for layer in self.layers]
        try:
            for number, layer in enumerate(self.layers):
                if layer.input_shape is not None:
                    required = "a layer can stand in one model only"
                    raise ValueError(_check.message(type(layer).__name__, required, layer, "Make a new one"))
                layer.stream = (self.seed, number)
                layer.in_chain = number < len(self.layers) - 1
                layer.dtype = self.dtype if layer.dtype is None else layer.dtype
                if getattr(layer, "algorithm", self.algorithm) is None:
                    layer.algorithm = self.algorithm
                if layer.dtype != self.dtype:
                    raise ValueError(_check.message("dtype", f"must be the model's, {self.dtype}", layer.dtype.name))
                output_shape = _check.sample_shape("the output of build", layer.build(shape, rng))
                layer.input_shape, layer.output_shape = shape, output_shape
                shape = output_shape
            self._flatten()
        except BaseException as error:
            for layer, attributes in zip(self.layers, before, strict=True):
                vars(layer).clear()
                vars(layer).update(attributes)
            if type(error) in (ValueError, TypeError):
                raise type(error)(f"Sequential.build: layer {number}: {error}") from error
            raise
        return shape

    def _warn_of_noise_at_the_end(self):
        """Dropout on the outputs hides answers instead of units: nobody stands behind it to be made independent."""
        number = len(self.layers) - 1
        while number > 0 and type(self.layers[number]) in ACTIVATIONS:
            number -= 1
        noise = self.layers[number]
        if isinstance(noise, layers.Dropout | layers.GaussianDropout) and noise.rate != 0:
            name = type(noise).__name__
            warnings.warn(
                f"Sequential: layer {number}, {name}, is the last one but for activations: in training it puts noise "
                "on the model's outputs. Dropout belongs before a layer with parameters",
                stacklevel=2,
            )

    def _require_own_optimizer(self, method, optimizer):
        """An optimiser steps where it is bound: with two models it would leave the first one as it is, in silence."""
        bound = None if optimizer is None else optimizer._bound
        if bound is not None and bound[0] is not self.parameters:
            required = "an optimizer can train one model only"
            raise ValueError(_check.message(f"Sequential.{method}", required, optimizer, "Make a new one"))

    def _bind(self):
        if self.optimizer is not None and self.parameters is not None:
            self.segments = [
                (name, offset, size, bool(layer.trainable), decayed)
                for (name, offset, size, _, decayed), (_, layer, _) in zip(
                    self.segments, self._named_parameters(), strict=True
                )
            ]
            self._find_penalties()
            constrained = self._governed_by("constraint", only_trainable=True)
            self.optimizer.bind(self.parameters, self.gradients, self.segments, self._reclaim, constrained)

    # ---- the mode ----

    def train(self, mode=True):
        """Training mode (or eval mode with False) for a training loop of one's own; returns the model."""
        self._training = _check.boolean("Sequential.train", "mode", mode)
        return self

    def eval(self):
        """Eval mode; returns the model."""
        return self.train(False)

    @property
    def training(self):
        """True in training mode."""
        return self._training

    # ---- forward and backward ----

    def forward(self, x, training=None):
        """The output (N, *output_shape) for a batch x; ``training`` None takes the model's mode."""
        mode = self._training if training is None else _check.boolean("Sequential.forward", "training", training)
        x = self._inputs("forward", x)
        self._pending = None
        if mode:
            with self._exclusive("forward", again=True):
                return self._training_forward(x)
        if not len(x):
            return self._forward_without_plan(x, False)
        with self._evaluation(len(x)) as plan:
            plan.take(x)
            outputs = plan.forward().copy()
            self._latest.penalty = len(x), plan.activity_penalty()
        return outputs

    def _training_forward(self, x):
        if not len(x) or not can_be_recorded(self):
            return self._forward_without_plan(x, True)
        plan = self._plan_by_hand(len(x))
        plan.take(x)
        outputs = plan.forward().copy()
        plan.hand_over()
        self._pending, self._latest.penalty = plan, (len(x), plan.activity_penalty())
        return outputs

    def _forward_without_plan(self, x, training):
        x = self._cast(x).copy()  # layers keep it, and the caller may write into his own
        with collect_penalties() as found:
            outputs = self._forward(x, training)
        self._latest.penalty = len(x), mean_penalty(found, len(x))
        return outputs.copy()  # of what the last layer may have kept

    def _forward(self, x, training):
        for layer in self.layers:
            x = output_of(layer, x, training)
        return x

    __call__ = forward

    # ---- plans (plan.py) ----

    def _forget_plans(self):
        self._training_workspace, self._idle, self._idle_samplers = Workspace(training=True), [], []
        self._workspace_by_hand = Workspace(training=True, by_hand=True)
        self._pending = None  # the plan whose forward ran in a training loop of one's own
        self._latest = threading.local()  # .penalty: (samples, penalty of the outputs) of this thread's last forward

    @contextlib.contextmanager
    def _evaluation(self, n):
        """Lends a plan for n samples in eval mode; threads that evaluate at the same time get different ones."""
        self._reclaim()
        idle = self._idle  # where it goes back: not to those of after a _forget_plans, if there is one meanwhile
        try:
            workspace = idle.pop()
        except IndexError:
            workspace = Workspace(training=False)
        try:
            yield workspace.plan(self, n)
        finally:
            idle.append(workspace)

    def _training_plan(self, n):
        """The plan for training steps of n samples."""
        self._reclaim()
        return self._training_workspace.plan(self, n)

    def _plan_by_hand(self, n):
        """The same for a loop of one's own."""
        self._reclaim()
        return self._workspace_by_hand.plan(self, n)

    def backward(self, dy, at=None, input_gradient=True):
        """Fills the gradients of all parameters; returns dL/dx, or None with ``input_gradient=False``, which is faster.

        The gradients are those of the whole loss: the penalties of the parameters (regularizers.py) are in them.
        ``dy`` is what ``model.loss`` gives: the gradient at the input of a final softmax where the model ends in one,
        at the output otherwise.  With ``at="outputs"`` it is the gradient at the output in any case.  RuntimeError
        unless a training forward came before.
        """
        if at is not None:
            _check.choice("Sequential.backward", "at", at, ("outputs",))
        input_gradient = _check.boolean("Sequential.backward", "input_gradient", input_gradient)
        if not self.built:
            raise RuntimeError("Sequential.backward: needs forward in training mode before it")
        with self._exclusive("backward", again=True):
            return self._backward(dy, at, input_gradient)

    def _backward(self, dy, at, input_gradient):
        plan, self._pending = self._pending, None
        fits = plan is not None and at is None and np.shape(dy) == plan.dy.shape
        if fits and isinstance(dy, np.ndarray) and dy.dtype == self.dtype and plan.take_back():
            plan.dy[...] = dy
            dx = plan.backward(input_gradient)
            dy = None if dx is None else dx.copy()
        else:
            for i, call in self._backward_calls(input_gradient, at).items():
                dy = self.layers[i].gradient(dy, *call)
        self._reclaim()
        self._add_penalty_gradients()
        return dy if input_gradient else None

    def _backward_calls(self, input_gradient, at=None):
        """{layer number: (at_logits, wanted)}, last layer first: what ``gradient`` of each layer is to be called with.

        Without ``input_gradient`` it ends at the first layer that has parameters.
        """
        with_params = [i for i, layer in enumerate(self.layers) if layer.params]
        last = len(self.layers) - 1
        end = 0 if input_gradient else min(with_params, default=len(self.layers))
        logits = at is None and self._fused_softmax
        return {i: (logits and i == last, input_gradient or i > end) for i in range(last, end - 1, -1)}

    def loss(self, outputs, y, sample_weight=None):
        """(value, gradient) of the compiled loss: value = mean over N, gradient = what ``backward`` takes.

        The value has the penalties of the parameters as they are now and of the outputs of layers in the latest
        ``forward`` of this thread; RuntimeError if a layer penalises its outputs and that forward had not N samples.
        """
        return self._loss(outputs, y, sample_weight, activity_penalty=self._activity_penalty(len(outputs)))

    def _activity_penalty(self, n):
        samples, penalty = getattr(self._latest, "penalty", (None, 0.0))
        if samples == n:
            return penalty
        if any(getattr(layer, "activity_regularizer", None) is not None for layer in self.layers):
            what = "needs forward over the same samples before it, in this thread: a layer penalises its outputs"
            raise RuntimeError(f"Sequential.loss: {what}")
        return 0.0

    def _loss(self, outputs, y, sample_weight=None, into=None, activity_penalty=0.0):
        """``loss``; ``into``: arrays that may be used for the gradient and the samples' losses (``losses.Loss``)."""
        if self.loss_function is None:
            raise RuntimeError("Sequential.loss: needs compile(optimizer, loss) before it")
        fuses = self.loss_function.fuses_softmax
        logits = not self._ends_in("softmax") if fuses else self.outputs_are_logits
        value, gradient = self.loss_function(outputs, y, sample_weight, logits, into)
        value += activity_penalty + self._penalties.value() if self._penalties else activity_penalty
        if fuses and self._ends_in("softmax") and not self._fused_softmax:
            gradient = gradient / np.maximum(outputs, np.finfo(gradient.dtype).tiny)  # back to the outputs: dz = p dy
        elif self._fused_softmax and not fuses:
            at_outputs, rows = gradient, (len(gradient), -1, gradient.shape[-1])
            gradient = np.empty_like(at_outputs)  # the other one may be an array that a loss of one's own holds
            probabilities = _check.contiguous(outputs, gradient.dtype).reshape(rows)
            activation_kernel.softmax_backward(probabilities, at_outputs.reshape(rows), gradient.reshape(rows))
        return value, gradient

    @property
    def _fused_softmax(self):
        """True if the model ends in a softmax before which a gradient can enter (not one with its own ``backward``)."""
        return self._ends_in("softmax") and self.layers[-1].backward_logits is not None

    @property
    def outputs_are_logits(self):
        """True unless the model ends in softmax or sigmoid: then its outputs are probabilities."""
        return not (self._ends_in("softmax") or self._ends_in("sigmoid"))

    def _ends_in(self, function):
        return bool(self.layers) and self.layers[-1].output_function == function

    # ---- training, evaluation, prediction ----

    def compile(self, optimizer="sgd", loss=None, metrics=None):
        """Chooses optimiser, loss and metrics, each by name or as an object; keeps the weights.

        ``loss``: required; a name, a Loss, or a function ``(outputs, y) -> (value, gradient)``.  What is ``trainable``,
        regularised and constrained is looked up here: compile again after changing it.  ValueError for an optimiser
        that trains another model.
        """
        if loss is None:
            raise ValueError(
                "Sequential.compile: loss must be given, such as 'sparse_categorical_crossentropy'; got None"
            )
        metrics = [metrics] if isinstance(metrics, str) else metrics or []
        chosen = optimizers.get(optimizer), losses.get(loss), [get_metric(metric) for metric in metrics]
        self._require_own_optimizer("compile", chosen[0])
        self.optimizer, self.loss_function, self.metrics = chosen
        self._bind()

    fit, train_on_batch, evaluate = loop.fit, loop.train_on_batch, loop.evaluate  # methods, whose self is called model

    def predict(self, x, batch_size=None):
        """The last layer's output for every sample, (N, *output_shape), with nothing dropped.

        ``batch_size``: samples at a time, None for 256; the result does not depend on it.
        """
        x = self._inputs("predict", x)
        step = 256 if batch_size is None else _check.integer("Sequential.predict", "batch_size", batch_size, 1)
        outputs = np.empty((len(x), *self.output_shape), self.dtype)
        for start in range(0, len(x), step):
            part = x[start : start + step]
            with self._evaluation(len(part)) as plan:
                plan.take(part)
                outputs[start : start + step] = plan.forward()
        return outputs

    _monte_carlo = montecarlo.samples  # a method, too: what ``predict_mc`` makes its result of

    def predict_proba(self, x, batch_size=None):
        """``predict`` as probabilities: where the model gives logits through softmax, or through sigmoid if it has a
        single output or was compiled with the binary cross-entropy."""
        return self._probabilities(self.predict(x, batch_size))

    @property
    def _gives_yes_or_no(self):
        """True if every output is a yes or no by itself; False if they are classes, of which one is right."""
        if not self.outputs_are_logits:
            return self._ends_in("sigmoid")
        return self.output_shape in ((), (1,)) or isinstance(self.loss_function, losses.BinaryCrossentropy)

    def _probabilities(self, outputs):
        """Outputs (..., *output_shape) as probabilities: new ones where they are logits, otherwise themselves."""
        if not self.outputs_are_logits:
            return outputs
        outputs = np.ascontiguousarray(outputs)
        probabilities = np.empty_like(outputs)
        link = layers.Activation("sigmoid" if self._gives_yes_or_no else "softmax")
        link._function.forward(outputs, probabilities)
        return probabilities

    def predict_mc(self, x, n_samples=50, seed=None, batch_size=None, return_samples=False):
        """Monte-Carlo dropout: the ``Prediction`` of ``n_samples`` thinned networks, each with masks of its own.

        With T = n_samples and p_t(x) the output for x while dropout drops, mask t,

            mean = (1/T) sum_t p_t(x),    std = sqrt((1/T) sum_t (p_t(x) - mean)^2),

        and more (``minicnn.ensemble.Prediction``).  Nothing else is as in training: moving statistics are used, not
        changed, and the model's mode and counts of steps stay what they are.

        - ``n_samples``: T >= 1.  ``seed``: of the masks, 0 <= seed < 2^64; None takes the model's.
        - ``batch_size``: samples of x at a time; None chooses.
        - ``return_samples``: whether the T outputs are kept: ``samples`` (T, N, *output_shape).

        A mask is a function of (seed, layer, t, index of the sample in x, index of the element): the same x and seed
        give the same bits, whatever batch size and threads.  Outputs are probabilities where the model ends in softmax
        or sigmoid, and are made so where it was compiled with a cross-entropy.  Warns if all samples are equal, as they
        are without dropout.

        Source: Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016, equation 6 for the mean; their
        variance of a regression has the noise of the data, 1/tau, besides std^2.  For averaging thinned networks as
        such: Srivastava et al., JMLR 15 (2014), section 7.5.
        """
        from minicnn import ensemble  # here: many programs never use it, and it imports this module

        return ensemble.predict_mc(self, x, n_samples, seed, batch_size, return_samples)

    def outputs(self, x):
        """The output of every layer for a batch x, in eval mode, as a list."""
        x, found = self._cast(self._inputs("outputs", x)), []
        for layer in self.layers:
            x = output_of(layer, x)
            found.append(x.copy())
        return found

    # ---- the door for arrays ----

    def _inputs(self, method, x):
        """x as an array (N, *input_shape), not yet cast; builds the model from it where that is still to do."""
        where = f"Sequential.{method}"
        x = _check.numeric_array(where, "x", x)
        if not self.built:
            if x.ndim < 1:
                raise ValueError(_check.message(where, "x must have a batch axis", _check.shape_of(x)))
            self._build_for(where, x)
        if (*x.shape[1:], 1) == self.input_shape and x.ndim == len(self.input_shape):
            x = x[..., None]
        if x.ndim != len(self.input_shape) + 1 or x.shape[1:] != self.input_shape:
            wanted = f"x must have shape (N, {', '.join(map(str, self.input_shape))})"
            channels_first = x.ndim == 4 and x.shape[1:] == (self.input_shape[-1], *self.input_shape[:-1])
            fix = "Channels come last here: x.transpose(0, 2, 3, 1)" if channels_first else ""
            raise ValueError(_check.message(where, wanted, _check.shape_of(x), fix))
        return x

    def _build_for(self, where, x):
        if self._declared_shape is not None:
            self.build(self._declared_shape)
            return
        sees_images = any(layer.input_ndim == 3 for layer in self.layers)
        if sees_images and x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[1] < x.shape[2] == x.shape[3]:
            taken, fix = (
                f"images of {x.shape[1]} x {x.shape[2]} pixels",
                "Channels come last here: x.transpose(0, 2, 3, 1)",
            )
            self._warn_of_axes(where, x, f"{taken} with {x.shape[3]} channels", fix)
        try:
            self.build(x.shape[1:])
        except ValueError:
            if x.ndim != 3:
                raise
            if sees_images and x.shape[2] in (1, 3) and x.shape[2] < min(x.shape[:2]):
                taken = f"{x.shape[0]} grey images of {x.shape[1]} x {x.shape[2]} pixels"
                self._warn_of_axes(where, x, taken, "One image needs a batch axis: x[None]")
            self.build((*x.shape[1:], 1))  # what is no chain for (N, H, W) may be one for grey images

    def _warn_of_axes(self, where, x, taken, fix):
        """The first array that a model sees decides its shapes: for good, and for a wrong one in silence."""
        warnings.warn(f"{where}: x of shape {x.shape} is taken as {taken}. {fix}", stacklevel=5)

    def _cast(self, x):
        return _check.contiguous(x, self.dtype)

    def _exclusive(self, method, again=False):
        """Holds the model for training: RuntimeError for another thread and, unless ``again``, for a callback too."""
        by = "thread" if again else "thread or callback"
        return self._lock.held_or(f"Sequential.{method}: the model is being trained already, by another {by}", again)

    # ---- description, files, copies ----

    def summary(self):
        """Prints ``summary_text``."""
        print(self.summary_text())

    def summary_text(self):
        """A table: output shape, parameters with each layer's share, multiply-adds of one sample."""
        self._require_built("summary")
        total, rows = self.count_params(), [("layer", "output shape", "params", "share", "multiply-adds")]
        for i, layer in enumerate(self.layers):
            size = sum(array.size for array in layer.params.values())
            share = f"{100 * size / total:.1f} %" if size else ""
            rows.append(
                (
                    f"{i} {type(layer).__name__}",
                    str(layer.output_shape),
                    f"{size:,}",
                    share,
                    f"{layer.multiply_adds():,}",
                )
            )
        adds = sum(layer.multiply_adds() for layer in self.layers)
        rows.append(("total", f"{self.input_shape} ->", f"{total:,}", "", f"{adds:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        aligned = ["<", "<", ">", ">", ">"]
        lines = [
            "  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(row, aligned, widths, strict=True)).rstrip()
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def get_config(self):
        """The architecture, ready for JSON: what ``from_config`` takes."""
        entries = [
            {"layer": type(layer).__name__, "config": layer.get_config(), "trainable": bool(layer.trainable)}
            for layer in self.layers
        ]
        shape = self.input_shape or self._declared_shape
        return {
            "seed": self.seed,
            "dtype": self.dtype.name,
            "algorithm": self.algorithm,
            "input_shape": shape and list(shape),
            "layers": entries,
        }

    @classmethod
    def from_config(cls, config, custom_layers=None):
        """The model of a ``get_config``, not built.  ``custom_layers``: {name: class} for layers of one's own."""
        known = {name: getattr(layers, name) for name in layers.__all__} | dict(custom_layers or {})
        chain = []
        for entry in config["layers"]:
            if entry["layer"] not in known:
                required = "every layer must be one of minicnn's or be given in custom_layers"
                raise ValueError(_check.message("Sequential.from_config", required, entry["layer"]))
            chain.append(known[entry["layer"]](**entry["config"]))
            chain[-1].trainable = bool(entry.get("trainable", True))
        model = cls(chain, seed=config["seed"], dtype=config["dtype"], algorithm=config.get("algorithm", "auto"))
        model._declared_shape = None if config["input_shape"] is None else tuple(config["input_shape"])
        return model

    def compile_config(self):
        """Optimiser, loss and metrics for JSON; None before ``compile`` or with an optimiser or loss of one's own.

        Metrics of one's own are left out: no training depends on them.
        """
        if self.optimizer is None:
            return None
        optimizer, loss = optimizers.to_config(self.optimizer), losses.to_config(self.loss_function)
        if optimizer is None or loss is None:
            return None
        named = [metric.name for metric in self.metrics if type(metric) in (Accuracy, TopKAccuracy)]
        return {"optimizer": optimizer, "loss": loss, "metrics": named}

    def save(self, path):
        """Writes architecture, weights and layer states into one file, which replaces an old one in one step.

        The optimiser's state is not kept: for a run that is to go on bit for bit see ``saving.save_checkpoint``.
        """
        from minicnn import saving  # here: saving makes models and so imports this module

        self._require_built("save")
        saving.save_model(self, path)

    @classmethod
    def load(cls, path, custom_layers=None):
        """The model in a file of ``save``; runs no code from it.  ``ModelFileError`` for a damaged or foreign one."""
        from minicnn import saving

        return saving.load_model(path, custom_layers)

    def _require_built(self, method):
        if not self.built and self._declared_shape is not None:
            self.build(self._declared_shape)
        if not self.built:
            raise RuntimeError(f"Sequential.{method}: needs build(input_shape), fit, predict or forward before it")

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key not in NOT_COPIED}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._make_locks()
        self._forget_plans()
        self.parameters = self.gradients = None
        if self.built:
            self._flatten()
            self._bind()

    def __copy__(self):
        return copy.deepcopy(self)  # two models cannot share their layers

    def __repr__(self):
        return f"Sequential([{', '.join(map(repr, self.layers))}], seed={self.seed}, dtype={self.dtype.name!r})"
