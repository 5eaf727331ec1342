"""Sequential: a chain of layers, and the only place where the train/eval mode is chosen.

The loop of ``fit`` stands in training.py, files in saving.py; what the layers do stands in ``layers/``.
"""

import contextlib
import copy
import threading
import warnings

import numpy as np

from minicnn import _check, inputs, layers, losses, montecarlo, optimizers
from minicnn import training as loop
from minicnn._ext.machinery.runtime import Exclusive
from minicnn.layer import Layer, collect_penalties, mean_penalty, output_of
from minicnn.metrics import get_all as chosen_metrics
from minicnn.metrics import spelling
from minicnn.outputs import Outputs, enters_at_softmax, narrow_softmax
from minicnn.outputs import of as outputs_of
from minicnn.parameters import Parameters
from minicnn.plan import Workspace, can_be_recorded
from minicnn.settings import Closed, Fixed, Given, Setting, Values, refuse

ACTIVATIONS = (
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.GELU),
    *(layers.Sigmoid, layers.Softmax, layers.Tanh),
)


# Locks, and what is made anew from the layers.
NOT_COPIED = {
    "_lock",
    "_building",
    "_settling",
    "_places",
    "_governed",
    "_read",
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


class Sequential(Parameters, Closed):
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

    layers = Given("Use add before the model is built, or make a new model")
    seed = Fixed(_check.integer, 0, 2**64 - 1)
    dtype = Fixed(_check.real_dtype)
    algorithm = Fixed(_check.choice, ("auto", "exact"))
    input_shape = Given("It is learned by build")
    output_shape = Given("It is learned by build")
    parameters = Given("Write into the array, or use load_state_dict")
    gradients = Given("Write into the array")
    optimizer = Given("Use compile(optimizer, loss, metrics)")
    loss_function = Given("Use compile(optimizer, loss, metrics)")
    metrics = Setting(chosen_metrics)
    history = Given("It is what the latest fit has returned")
    stop_training = Setting(_check.boolean)

    def __init__(self, layers=(), seed=0, dtype="float32", algorithm="auto"):
        self._put(layers=(), input_shape=None, output_shape=None)
        self.seed = seed
        self.dtype = dtype
        self.algorithm = algorithm
        self._put(parameters=None, gradients=None)  # flat vectors over all layers, once built
        self._places = ()  # (name, layer, key, offset) of each parameter in them
        self._penalties = None  # of the parameters, once built
        self._put(optimizer=None, loss_function=None, metrics=[], history=None)
        self.stop_training = False
        self._training = False
        self._declared_shape = None
        self._read = None  # (what it was read from, Outputs): outputs.of
        self._seen = None  # inputs.Seen of training
        self._make_locks()
        self._forget_plans()
        if isinstance(layers, Layer) or not hasattr(layers, "__iter__"):
            raise TypeError(_check.message("Sequential", "layers must be a list of layers", _check.kind(layers)))
        self._append(layers)
        if self._declared_shape is not None and self.layers:
            self.build(self._declared_shape)

    def _make_locks(self):
        self._lock, self._building = Exclusive(), threading.Lock()
        self._settling = threading.RLock()  # a signal handler may predict, too

    # ---- the chain ----

    def add(self, layer):
        """Appends a layer.  RuntimeError once the model is built, ValueError for one that is in a model already."""
        if self.built:
            raise RuntimeError("Sequential.add: layers must be added before the model is built")
        self._append([layer])

    def _append(self, entries):
        """Puts all of them, or none, behind the layers that are there."""
        chain, present, declared = list(self.layers), {id(layer) for layer in self.layers}, self._declared_shape
        for entry in entries:
            if isinstance(entry, layers.Input):
                if chain or declared is not None:
                    raise ValueError(_check.message("Sequential", "Input must be the first entry, once", entry))
                declared = entry.shape
                continue
            self._require_layer(entry, present)
            chain.append(entry)
            present.add(id(entry))
        self._declared_shape = declared
        self._put(layers=tuple(chain))

    def _require_layer(self, layer, present):
        if not isinstance(layer, Layer):
            fix = f"Did you mean {layer.__name__}()?" if isinstance(layer, type) and issubclass(layer, Layer) else ""
            raise TypeError(_check.message("Sequential", "every entry must be a layer", layer, fix))
        if layer.input_shape is not None or id(layer) in present:
            raise ValueError(
                _check.message("Sequential", "a layer can stand in one place only", layer, "Make a new one")
            )

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
            Outputs(self.layers, None, self.loss_function)  # what the loss says of them must fit
            output_shape = self._build_layers(shape, rng)
            if not hasattr(rng, "stored_array"):  # who reads a file has been warned when the model was made
                self._warn_of_noise_at_the_end()
                self._warn_of_narrow_softmax()
            for layer in self.layers:
                layer._in_model = True
            self._put(input_shape=shape)
            self._put(output_shape=output_shape)  # last: now others may use it

    def _build_layers(self, shape, rng):
        """Builds one layer after the other and returns the shape of the last output; all of them, or none."""
        before = [
            {
                name: type(value)(value) if type(value) in (dict, Values) else value
                for name, value in vars(layer).items()
            }
            for layer in self.layers
        ]
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

    def _warn_of_narrow_softmax(self):
        number = narrow_softmax(self.layers)
        if number is not None:
            name = type(self.layers[number]).__name__
            warnings.warn(
                f"Sequential: layer {number}, {name}: a softmax over one value is always 1 and passes no gradient. "
                'A single output needs "sigmoid"',
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
            constrained = self._governed_by("constraint")
            self.optimizer.bind(self.parameters, self.gradients, self.segments, self._settle, constrained)

    @property
    def trainable(self):
        """True if any layer is trainable; assigned, it is handed to all layers, and counts from the next step on."""
        return any(layer.trainable for layer in self.layers) or not self.layers

    @trainable.setter
    def trainable(self, trainable):
        trainable = _check.boolean("Sequential", "trainable", trainable)
        for layer in self.layers:
            layer.trainable = trainable

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

    @training.setter
    def training(self, mode):
        refuse(self, "training", "cannot be assigned", mode, "Use train() or eval()")

    @property
    def input_range(self):
        """(low, high): the smallest and the largest finite number of all inputs that the model has been trained on, by
        ``fit``, ``train_on_batch`` or ``forward`` in training mode; None before.  It is kept in files and copies."""
        return None if self._seen is None else (self._seen.low, self._seen.high)

    @property
    def input_mean(self):
        """The mean of the inputs with which training began (of the first ``fit`` or the first batch); None before."""
        return None if self._seen is None else self._seen.mean

    def _look_at(self, x):
        """What ``_trained_on`` takes for training inputs x."""
        return inputs.look(x, self.dtype, mean=self._seen is None)

    def _trained_on(self, seen):
        self._seen = inputs.joined(self._seen, seen)

    # ---- forward and backward ----

    def forward(self, x, training=None):
        """The output (N, *output_shape) for a batch x; ``training`` None takes the model's mode."""
        mode = self._training if training is None else _check.boolean("Sequential.forward", "training", training)
        x = self._inputs("forward", x)
        self._pending = None
        if mode:
            with self._exclusive("forward", again=True):
                outputs = self._training_forward(x)
                self._trained_on(self._look_at(x))
                return outputs
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
        self._settle()
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
        self._settle()
        return self._training_workspace.plan(self, n)

    def _plan_by_hand(self, n):
        """The same for a loop of one's own."""
        self._settle()
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
        self._settle()
        self._add_penalty_gradients()
        return dy if input_gradient else None

    def _backward_calls(self, input_gradient, at=None):
        """{layer number: (at_logits, wanted)}, last layer first: what ``gradient`` of each layer is to be called with.

        Without ``input_gradient`` it ends at the first layer that has parameters.
        """
        with_params = [i for i, layer in enumerate(self.layers) if layer.params]
        last = len(self.layers) - 1
        end = 0 if input_gradient else min(with_params, default=len(self.layers))
        logits = at is None and enters_at_softmax(self.layers)
        return {i: (logits and i == last, input_gradient or i > end) for i in range(last, end - 1, -1)}

    def loss(self, outputs, y, sample_weight=None):
        """(value, gradient) of the compiled loss: value = mean over N, gradient = what ``backward`` takes.

        The value has the penalties of the parameters as they are now and of the outputs of layers in the latest
        ``forward`` of this thread; RuntimeError if a layer penalises its outputs and that forward had not N samples.
        """
        self._settle()
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
        value, gradient = outputs_of(self).compute_loss(outputs, y, sample_weight, into)
        value += activity_penalty + self._penalties.value() if self._penalties else activity_penalty
        return value, gradient

    @property
    def outputs_are_logits(self):
        """True for logits, and for numbers that are no probabilities; False for probabilities (``outputs.py``).

        ValueError where that cannot be known: see ``Layer.output_function``.
        """
        return bool(outputs_of(self).from_logits)

    @property
    def output_kind(self):
        """What ``as_probabilities`` makes of the outputs: "classes", "binary" (one yes or no), "labels" (several) or
        "values", which are no probabilities.  RuntimeError before ``build``; ValueError where it cannot be known."""
        self._require_built("output_kind")
        return outputs_of(self).kind

    # ---- training, evaluation, prediction ----

    def compile(self, optimizer="sgd", loss=None, metrics=None):
        """Chooses optimiser, loss and metrics, each by name or as an object; keeps the weights.

        ``loss``: required; a name, a Loss, or a function ``(y, outputs) -> (value, gradient)``; ``metrics``: names,
        Metrics, or functions ``(y, outputs) -> number``.  (In functions the names of the parameters may say the other
        order: losses.py.)

        A metric is logged under the name that was given, of equal names the second as ``name_1`` and so on.  With the
        binary cross-entropy and several outputs a sample, "accuracy" is the share of right outputs, as
        "binary_accuracy"; "categorical_accuracy" is not.

        ValueError for a name that another log has, such as "loss", for an optimiser that trains another model, and for
        ``from_logits=True`` where a built model ends in probabilities (one that is not built yet raises it then);
        TypeError for a loss whose parameters do not say which is which.
        """
        if loss is None:
            raise ValueError(
                "Sequential.compile: loss must be given, such as 'sparse_categorical_crossentropy'; got None"
            )
        optimizer, loss = optimizers.get(optimizer), losses.get(loss)
        metrics = chosen_metrics("Sequential.compile", "metrics", metrics)
        self._require_own_optimizer("compile", optimizer)
        if self.built:
            Outputs(self.layers, self.output_shape, loss)
        self._put(optimizer=optimizer, loss_function=loss, metrics=metrics)
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
        """``as_probabilities`` of ``predict``."""
        outputs = self.predict(x, batch_size)
        return self.as_probabilities(outputs)

    def as_probabilities(self, outputs):
        """Outputs (..., *output_shape) of ``predict`` as probabilities, of a built model.

        Where the model gives logits they go through softmax, or through sigmoid if there is a single output or the
        model is compiled with the binary cross-entropy; probabilities stay as they are, but those of classes that do
        not sum to 1, as behind a max-pooling, are divided by their sum.  ValueError where it cannot be known what they
        are: see ``Layer.output_function``.
        """
        self._require_built("as_probabilities")
        return outputs_of(self).probabilities(_check.numeric_array("Sequential.as_probabilities", "outputs", outputs))

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
        give the same bits, whatever batch size and threads.  Outputs are probabilities where the model gives them, and
        are made so where it was compiled with a cross-entropy (``output_kind``).  Warns if all samples are equal, as
        they are without dropout.

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
            "input_range": None if self._seen is None else list(self.input_range),
            "input_mean": self.input_mean,
            "layers": entries,
        }

    @classmethod
    def from_config(cls, config, custom_layers=None):
        """The model of a ``get_config``, not built.  ``custom_layers``: {name: class} for layers of one's own."""
        known = {name: getattr(layers, name) for name in layers.__all__} | dict(custom_layers or {})
        ends, mean = config.get("input_range"), config.get("input_mean")  # 0.1.0 did not know them
        seen = inputs.from_config("Sequential.from_config", ends, mean)
        chain = []
        for entry in config["layers"]:
            if entry["layer"] not in known:
                required = "every layer must be one of minicnn's or be given in custom_layers"
                raise ValueError(_check.message("Sequential.from_config", required, entry["layer"]))
            chain.append(known[entry["layer"]](**entry["config"]))
            chain[-1].trainable = bool(entry.get("trainable", True))
        model = cls(chain, seed=config["seed"], dtype=config["dtype"], algorithm=config.get("algorithm", "auto"))
        model._declared_shape = None if config["input_shape"] is None else tuple(config["input_shape"])
        model._seen = seen
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
        named = [spelling(metric) for metric in chosen_metrics("Sequential", "metrics", self.metrics)]
        return {"optimizer": optimizer, "loss": loss, "metrics": [name for name in named if name is not None]}

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
        vars(self).update(state)
        self._make_locks()
        self._forget_plans()
        self._put(parameters=None, gradients=None)
        self._places, self._read = (), None
        if self.built:
            self._flatten()
            for layer in self.layers:
                layer._in_model = True

    def __copy__(self):
        return copy.deepcopy(self)  # two models cannot share their layers

    def __repr__(self):
        return f"Sequential([{', '.join(map(repr, self.layers))}], seed={self.seed}, dtype={self.dtype.name!r})"
