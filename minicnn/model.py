"""Sequential: a chain of layers, and the only place where the train/eval mode is chosen.

The loop of ``fit`` is in training.py, files are in document.py; what the layers do is in ``layers/``.
"""

import copy
import inspect
import threading
import warnings

import numpy as np

from minicnn import _check, advice, distributed, inputs, intake, keras_words, layers, losses, optimizers, utils
from minicnn import training as loop
from minicnn.engine import Engine
from minicnn.layer import (
    Layer,
    declared_shape,
    from_config,
    note_build,
    noting_builds,
    output_of,
    require_layer,
    settle_late_parts,
    take_names,
    take_places,
    to_config,
)
from minicnn.metrics import get_all as chosen_metrics
from minicnn.metrics import to_config as metric_config
from minicnn.outputs import Outputs
from minicnn.settings import Closed, Fixed, Given, Setting, Values, refuse
from minicnn.tree import held_in, walk

NOT_COPIED = ("engine", "ranks", "_building")  # what a copy makes of its own layers


class Sequential(Closed):
    """A chain: ``forward`` runs the layers first to last, ``backward`` last to first.

    - ``layers``: the layers in order, optionally with ``layers.Input(shape)`` first.
    - ``seed``: 0 <= seed < 2^64; initial values, masks and the order of the samples are functions of it.  None: 0, or
      what ``utils.set_random_seed`` was given.
    - ``dtype``: "float32" or "float64", of all layers.
    - ``algorithm``: "auto" or "exact", of all convolutions that say nothing themselves (``Conv2D``).
    - ``name``: a label, kept in files and shown by ``summary``.

    Without an Input the model learns its shapes at the first ``build``, ``fit``, ``predict`` or ``forward``.  A new
    model is in eval mode; ``fit`` trains in training mode and puts the mode back as it was.

    ``predict`` and ``evaluate`` may be called from several threads at once; ``fit``, ``train_on_batch`` and, in
    training mode, ``forward`` and ``backward`` raise RuntimeError while another thread is in one of them.

    For minicnn's own modules are ``engine``, ``ranks``, ``reading``, ``checked_inputs``, ``trained_on``, ``become``,
    ``as_chain``, ``with_end``.

    Arrays x: anything NumPy takes for numbers, (N, *input_shape); images with one channel also as (N, H, W), and all
    with another axis of length 1 at the end, as ``expand_dims`` makes it.  They are cast to ``dtype`` batch by batch.
    """

    layers = Given("Use add before the model is built, or make a new model")
    seed = Fixed(_check.integer, 0, 2**64 - 1)
    dtype = Fixed(_check.real_dtype)
    algorithm = Fixed(_check.choice, ("auto", "exact"))
    input_shape = Given("It is learned by build")
    output_shape = Given("It is learned by build")
    engine = Given("It is made by build")
    ranks = Given("Use distribute(comm)")
    optimizer = Given("Use compile(optimizer, loss, metrics)")
    loss_function = Given("Use compile(optimizer, loss, metrics)")
    metrics = Setting(chosen_metrics)
    history = Given("It is what the latest fit has returned")
    stop_training = Setting(_check.boolean)
    name = Setting(_check.label, optional=True)

    def __init_subclass__(cls, **kwargs):
        """TypeError for a method of Keras's that nobody would call here."""
        super().__init_subclass__(**kwargs)
        keras_words.refuse_hooks(cls)

    def __init__(self, layers=(), seed=None, dtype="float32", algorithm="auto", name=None):
        self._put(layers=(), input_shape=None, output_shape=None)
        self._has_own_seed = seed is not None
        self.seed = utils.default_seed() if seed is None else seed
        self.name = name
        self.dtype = dtype
        self.algorithm = algorithm
        self._put(engine=None, ranks=distributed.ALONE)  # what runs the layers, once they are built
        self._put(optimizer=None, loss_function=None, metrics=[], history=None)
        self.stop_training = False
        self._training = False
        self._declared_shape = None
        self._seen = None  # inputs.Seen of training
        self._class_names = self._image_fit = None
        self._building = threading.Lock()
        if isinstance(layers, Layer) or not hasattr(layers, "__iter__"):
            raise TypeError(_check.message("Sequential", "layers must be a list of layers", _check.kind(layers)))
        self._append(layers)
        if self._declared_shape is not None and self.layers:
            self.build(self._declared_shape)

    # ---- the chain ----

    def add(self, layer):
        """Appends a layer.  RuntimeError once the model is built, ValueError for one that is in a model already."""
        if self.built:
            raise RuntimeError("Sequential.add: layers must be added before the model is built")
        self._append([layer])

    def pop(self):
        """Takes the last layer out of the model and returns it.

        RuntimeError once the model is built, for its parameters lie in one vector; ValueError if there is no layer.
        """
        if self.built:
            raise RuntimeError(
                "Sequential.pop: layers must be taken out before the model is built. Make a new model without the last "
                "one; it takes the weights of the others by new.load_state_dict(old.state_dict(), strict=False)"
            )
        if not self.layers:
            raise ValueError("Sequential.pop: the model must have at least one layer; got none")
        *rest, last = self.layers
        if not rest and declared_shape(last) == self._declared_shape:
            self._declared_shape = None
        self._put(layers=tuple(rest))
        return last

    def _append(self, entries):
        """Appends all of them, or none."""
        chosen, declared = list(self.layers), self._declared_shape
        for entry in entries:
            if isinstance(entry, layers.Input):
                if chosen or declared is not None:
                    raise ValueError(_check.message("Sequential", "Input must be the first entry, once", entry))
                declared = entry.shape
                continue
            layer = require_layer("Sequential", entry.as_chain() if isinstance(entry, Sequential) else entry)
            _require_no_model(layer)
            if not chosen and declared is None:
                declared = declared_shape(layer)
            chosen.append(layer)
        take_names(walk(chosen))  # raises where a layer stands in two places, or a name
        self._declared_shape = declared
        self._put(layers=tuple(chosen))

    def as_chain(self):
        """The layers of a model that is not built, as one layer to stand in another model: a ``layers.Chain``.

        They belong to the other one then.  RuntimeError if it is built, for its weights would be lost, or if it is more
        than its layers: it has a seed, dtype or algorithm of its own, or is of a class with another ``forward``.
        """
        if self.built or self._declared_shape is not None:
            what = "only a model without Input that is not built can be part of another model"
            fix = (
                "Leave out its Input and build, give the outer model an Input, and then its weights: "
                'load_state_dict({f"0.layers.{name}": a for name, a in inner.state_dict().items()}, strict=False)'
            )
            raise RuntimeError(_check.message("Sequential", what, self, fix))
        methods = [name for name, method in vars(Sequential).items() if callable(method) and name[:1] != "_"]
        for name in (*methods, "__call__"):
            if getattr(type(self), name) is not getattr(Sequential, name) or name in vars(self):
                what = f"a model with a {name} of its own cannot stand in another one"
                raise RuntimeError(_check.message("Sequential", what, self, "Make it a layers.Composite"))
        standard = (
            *(("seed", 0 if self._has_own_seed else self.seed), ("dtype", np.float32), ("algorithm", "auto")),
            *(("class_names", None), ("image_fit", None)),
        )
        for name, default in standard:
            if getattr(self, name) != default:
                what = f"a model that stands in another one takes the other one's {name}"
                raise RuntimeError(_check.message("Sequential", what, getattr(self, name), f"Leave out its {name}"))
        chain = layers.Chain(self.layers, name=self.name)
        if not self.trainable:
            chain.trainable = False
        return chain

    def with_end(self, end, cut=0):
        """A copy of a built model that has the layers ``end`` instead of its last ``cut`` ones.

        They have no parameters and come last, so that everything else stays: weights, counts of steps, the streams of
        random numbers, the optimiser with its moments, names of layers.
        """
        self._require_built("with_end")
        copied = copy.deepcopy(self.__getstate__())
        kept = copied["layers"][: len(self.layers) - cut]
        shape, rng = kept[-1].output_shape, np.random.default_rng(self.seed)
        for layer in end:
            layer.dtype = self.dtype
            shape = layer.build(shape, rng)
        model = type(self).__new__(type(self))
        model.__setstate__(copied | {"layers": (*kept, *end), "output_shape": shape})
        return model

    def get_layer(self, name=None, index=None):
        """The layer with the path ``name``, such as "2" or "1.body.0", or else the one of that name (``Layer``); or the
        one with the number ``index``.

        ValueError if there is none, or unless exactly one of the two is given.
        """
        where, tree = "Sequential.get_layer", dict(walk(self.layers))
        if (name is None) == (index is None):
            raise ValueError(_check.message(where, "needs either name or index", (name, index)))
        if index is not None:
            last = len(self.layers) - 1
            return self.layers[_check.integer(where, "index", index, -last - 1, last)]
        if not isinstance(name, str):
            raise TypeError(_check.message(where, "name must be the path or the name of a layer", _check.kind(name)))
        if name not in tree:
            by_name = {layer.name: layer for layer in tree.values()}
            if name in by_name:
                return by_name[name]
            within = [path for path in tree if path.startswith(f"{name}.")]
            near = None if within else _check.nearest(name, [*tree, *by_name])
            fix = f"Did you mean {near!r}?" if near else f"There are {', '.join(within or tree)}"
            raise ValueError(_check.message(where, "name must be the path or the name of a layer", name, fix))
        return tree[name]

    @property
    def built(self):
        return self.output_shape is not None

    def build(self, input_shape, source=None):
        """Makes the parameters for samples of ``input_shape`` (without the batch axis; Keras's leading None is fine).

        Called again with the same shape it does nothing, with another it raises ValueError.  ``source``: where the
        initial values come from (``layer.Source``), such as a file; None: from the layers' initialisers and the seed.
        """
        shape = _check.sample_shape("Sequential.build", input_shape)
        note_build(self)
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
            output_shape, engine = self._build_layers(shape, source)
            engine.ranks = self.ranks
            if source is None:  # for a model in a file the warnings were given when it was made
                advice.give(self.layers)
            self._put(input_shape=shape, engine=engine)
            self._put(output_shape=output_shape)  # last: now others may use it

    def _build_layers(self, shape, source):
        """Builds one layer after the other; the shape of the last output and the Engine.  All of them, or none."""
        before = [
            (layer, {name: type(value)(value) if type(value) in (dict, Values) else value for name, value in held})
            for layer, held in ((layer, vars(layer).items()) for _, layer in walk(self.layers))
        ]
        rng, number, input_shape = np.random.default_rng(self.seed), 0, shape
        try:
            for number, layer in enumerate(self.layers):  # noqa: B007 - for the error
                _require_new(layer)
            self._take_places(source)
            for number, layer in enumerate(self.layers):  # noqa: B007 - for the error
                with noting_builds() as noted:
                    output_shape = _check.sample_shape("the output of build", layer.build(shape, rng))
                self._require_dtype(layer)
                layer.input_shape, layer.output_shape = shape, output_shape
                _require_all_found(layer, noted)
                shape = output_shape
            number = None
            self._checked_class_names(self._class_names, shape)
            settle_late_parts(walk(self.layers))
            self._take_places(source)  # of layers that were made while others were built, too
            engine = Engine(self.layers, input_shape, shape, self.dtype, self.optimizer)
        except BaseException as error:
            for layer, attributes in before:
                vars(layer).clear()
                vars(layer).update(attributes)
            if type(error) in (ValueError, TypeError):
                place = "" if number is None else f"layer {number}: "
                raise type(error)(f"Sequential.build: {place}{error}") from error
            raise
        return shape, engine

    def _take_places(self, source):
        """Tells every layer its place, and the model's values of what its arguments leave open."""
        tree = walk(self.layers)
        take_names(tree)
        take_places(tree, self.seed, self.dtype, self.algorithm, source=source)
        self.layers[-1].in_chain = False

    def _require_dtype(self, layer):
        for path, part in [("", layer), *walk(layer.parts)]:
            if part.dtype != self.dtype:
                where = f"{path}: dtype" if path else "dtype"
                raise ValueError(_check.message(where, f"must be the model's, {self.dtype}", part.dtype.name))

    def _require_own_optimizer(self, method, optimizer):
        """An optimiser steps where it is bound: with two models it would silently stop training the first one."""
        bound = None if optimizer is None else optimizer.bound_to
        if bound is not None and bound is not self.parameters:
            required = "an optimizer can train one model only"
            raise ValueError(_check.message(f"Sequential.{method}", required, optimizer, "Make a new one"))

    @property
    def trainable(self):
        """True if any layer is trainable; assigned, it is handed to all layers, and counts from the next step on."""
        return any(layer.trainable for layer in self.layers) or not self.layers

    @trainable.setter
    def trainable(self, trainable):
        trainable = _check.boolean("Sequential", "trainable", trainable)
        for layer in self.layers:
            layer.trainable = trainable

    def freeze(self):
        """``Layer.freeze`` of all layers: parameters and moving statistics stay as they are."""
        for layer in self.layers:
            layer.freeze()

    def unfreeze(self):
        """Takes ``freeze`` back."""
        for layer in self.layers:
            layer.unfreeze()

    # ---- the parameters ----

    @property
    def parameters(self):
        """The flat vector of all parameters; None before ``build``."""
        return None if self.engine is None else self.engine.parameters.values

    @parameters.setter
    def parameters(self, value):
        refuse(self, "parameters", "cannot be assigned", value, "Write into the array, or use load_state_dict")

    @property
    def gradients(self):
        """The flat vector of their gradients; None before ``build``."""
        return None if self.engine is None else self.engine.parameters.gradients

    @gradients.setter
    def gradients(self, value):
        refuse(self, "gradients", "cannot be assigned", value, "Write into the array")

    @property
    def segments(self):
        """(name, offset, size, trainable, decayed) of each parameter in the flat vectors; empty before ``build``.

        ``decayed`` is True for all: what weight decay spares is the optimiser's business.
        """
        return () if self.engine is None else self.engine.parameters.segments

    def penalty(self):
        """What the regularisers of the parameters add to the loss, with the parameters as they are now.

        The penalties of outputs (``activity_regularizer``) are not in it: they belong to samples.
        """
        self._require_built("penalty")
        self.engine.settle()
        return self.engine.penalty()

    def state_dict(self):
        """Copies of all parameters and moving statistics by name: "0.kernel", "0.bias", "1.body.0.kernel", ..."""
        self._require_built("state_dict")
        return self.engine.parameters.state_dict()

    def load_state_dict(self, d, strict=True):
        """Takes the arrays of ``state_dict``; all are checked before the first is written.

        ``strict``: ValueError for missing and unknown names; without it they are ignored.  Returns (missing, unknown).
        """
        self._require_built("load_state_dict")
        return self.engine.parameters.load_state_dict(d, strict)

    def get_weights(self):
        """The arrays of ``state_dict`` as a list."""
        return list(self.state_dict().values())

    def set_weights(self, weights):
        """Takes the list of ``get_weights``."""
        self._require_built("set_weights")
        self.engine.parameters.set_weights(weights)

    @property
    def weights(self):
        """The arrays themselves whose copies ``state_dict`` gives, in that order: what is written into one counts from
        the next step on.  So for the following four, of which the names with "variables" are Keras's other ones."""
        self._require_built("weights")
        return list(self.engine.parameters.named().values())

    @property
    def trainable_weights(self):
        """Those of ``weights`` that training changes."""
        self._require_built("trainable_weights")
        table = self.engine.parameters.table
        return [segment.layer.params[segment.key] for segment in table if segment.trainable]

    @property
    def non_trainable_weights(self):
        """The others: parameters of layers that are not trainable, and moving statistics."""
        trained = {id(array) for array in self.trainable_weights}
        return [array for array in self.weights if id(array) not in trained]

    variables = property(lambda self: self.weights, doc="``weights``")
    trainable_variables = property(lambda self: self.trainable_weights, doc="``trainable_weights``")
    non_trainable_variables = property(lambda self: self.non_trainable_weights, doc="``non_trainable_weights``")

    def count_params(self):
        """The number of parameters."""
        self._require_built("count_params")
        return self.engine.parameters.count()

    def fingerprint(self):
        """SHA-256 over name, shape, dtype and values of ``state_dict``, in hexadecimal: equal for equal bits."""
        self._require_built("fingerprint")
        return self.engine.parameters.fingerprint()

    # ---- the mode ----

    def train(self, mode=True):
        """Training mode (or eval mode with False) for a training loop that you write; returns the model."""
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

    @property
    def class_names(self):
        """What the classes are called, in the order of the outputs: a list of strings, or None.

        It is kept in files and copies.  Assigned, it must have a name for each output, or two, of class 0 and class 1,
        for a single one; the names must differ.  ``fit`` sets it where its data have names and the model has none.
        """
        return self._class_names

    @class_names.setter
    def class_names(self, names):
        self._class_names = self._checked_class_names(names, self.output_shape)

    @property
    def image_fit(self):
        """What became of pictures of other proportions than the model's: "stretch", "crop" (margins were cut off) or
        "pad" (black ones were added); None where it is not known.

        It is kept in files and copies, and the command line prepares pictures by it.  ``fit`` sets it where its data
        have one, as ``datasets.Pictures`` have, and the model has none; other data of another one are warned of.
        """
        return self._image_fit

    @image_fit.setter
    def image_fit(self, fit):
        self._image_fit = None if fit is None else _check.choice("Sequential", "image_fit", fit, inputs.FITS)

    def _checked_class_names(self, names, output_shape):
        """The names as a list of the model's own; ValueError where they do not fit the outputs, if those are known."""
        if names is None:
            return None
        return _check.class_names("Sequential", "class_names", names, _most_classes(output_shape))

    def _compare_with(self, where, data):
        """``_compare_fit``, and ValueError if ``data`` and the model have names of classes that differ: their numbers
        mean something else."""
        names = getattr(data, "class_names", None)
        if names is not None and self.class_names is not None and list(names) != list(self.class_names):
            required = f"the classes of the data must be the model's, {self.class_names}, in this order"
            fix = "Read them with class_names=model.class_names, or assign model.class_names first"
            raise ValueError(_check.message(where, required, names, fix))
        self._compare_fit(where, data)

    def _compare_fit(self, where, data):
        """Warns of pictures that are prepared in another way."""
        fit = getattr(data, "image_fit", None)
        if fit is not None and self.image_fit not in (None, fit):
            _check.warn(
                f"{where}: pictures of other proportions are prepared in another way, {fit!r}, than those of training, "
                f"{self.image_fit!r}. Read them in the same way, or assign model.image_fit"
            )

    def _take_from(self, data):
        """Takes what the model does not know yet: how pictures were prepared, and the names of the classes.  Where no
        loss of classes is computed they may be something else than the outputs, and are left."""
        if self.image_fit is None:
            self.image_fit = getattr(data, "image_fit", None)
        names = getattr(data, "class_names", None)
        loss = self.loss_function
        if names is None or self.class_names is not None:
            return
        if loss.fuses_softmax or loss.yes_or_no or len(names) == _most_classes(self.output_shape):
            self.class_names = names

    def trained_on(self, seen):
        """Takes in the range of inputs that the model was trained on: ``inputs.look`` of them, or None."""
        self._seen = inputs.joined(self._seen, seen)

    # ---- forward and backward ----

    def forward(self, x, training=None):
        """The output (N, *output_shape) for a batch x; ``training`` None takes the model's mode."""
        mode = self._training if training is None else _check.boolean("Sequential.forward", "training", training)
        x = self.checked_inputs("forward", x)
        if not mode:
            return self.engine.forward(x, False)
        with self.engine.hold("forward", again=True):
            outputs = self.engine.forward(x, True)
            self.trained_on(inputs.look(x, self.dtype, mean=self._seen is None))
            return outputs

    __call__ = forward

    def backward(self, dy, at=None, input_gradient=True):
        """Fills the gradients of all parameters; returns dL/dx, or None with ``input_gradient=False``, which is faster.

        The gradients are those of the whole loss: the penalties of the parameters (regularizers.py) are in them.
        ``dy`` is what ``model.loss`` gives: the gradient at the input of a final softmax where the model ends in one,
        at the output otherwise.  With ``at="outputs"`` it is always the gradient at the output.  RuntimeError unless a
        training forward came before.
        """
        if at is not None:
            _check.choice("Sequential.backward", "at", at, ("outputs",))
        input_gradient = _check.boolean("Sequential.backward", "input_gradient", input_gradient)
        if not self.built:
            raise RuntimeError("Sequential.backward: needs forward in training mode before it")
        with self.engine.hold("backward", again=True):
            return self.engine.backward(dy, at == "outputs", input_gradient)

    def loss(self, outputs, y, sample_weight=None):
        """(value, gradient) of the compiled loss: value = mean over N, gradient = what ``backward`` takes.

        The value has the penalties of the parameters as they are now and of the outputs of layers in the latest
        ``forward`` of this thread; RuntimeError if a layer penalises its outputs and that forward had not N samples.
        """
        if self.loss_function is None:
            raise RuntimeError("Sequential.loss: needs compile(optimizer, loss) before it")
        self._require_built("loss")
        self.engine.settle()
        return loop.loss(self, outputs, y, sample_weight, self.engine.activity_penalty(len(outputs)))

    @property
    def reading(self):
        """What the outputs are, as the layers and the loss are now: an ``Outputs`` (outputs.py)."""
        engine, loss = self.engine, self.loss_function
        if engine is None:
            return Outputs(self.layers, self.output_shape, loss)
        changes = engine.parameters.changes()
        if engine.reading is None or engine.reading[0] is not loss or engine.reading[1] != changes:
            engine.reading = loss, changes, Outputs(self.layers, self.output_shape, loss)
        return engine.reading[2]

    @property
    def outputs_are_logits(self):
        """True for logits, and for numbers that are no probabilities; False for probabilities (``outputs.py``).

        ValueError where that cannot be known: see ``Layer.output_function``.
        """
        return bool(self.reading.from_logits)

    @property
    def output_kind(self):
        """What ``as_probabilities`` makes of the outputs: "classes", "binary" (one yes or no), "labels" (several) or
        "values", which are no probabilities.  RuntimeError before ``build``; ValueError where it cannot be known."""
        self._require_built("output_kind")
        return self.reading.kind

    # ---- training, evaluation, prediction ----

    def distribute(self, comm=None, timeout=600.0):
        """Lets the processes of MPI, ranks, share the work of ``fit`` and what follows, with the bits of one process.

            model.distribute()          # on all ranks:  mpiexec -n 4 python train.py
            model.fit(x, y, ...)

        Every rank runs the same program with the same data.  Each computes its part of every batch of ``fit`` and
        ``train_on_batch``, and of the batches of ``evaluate``, ``predict`` and ``predict_mc`` every so manieth; all
        hold the same weights after every step, and get the same results.  The first rank alone prints and writes files;
        callbacks run on all of them.  Copies of the model are not distributed.

        - ``comm``: an mpi4py communicator, whose ranks all call this; None for COMM_WORLD.  One of a single rank undoes
          it.
        - ``timeout``: seconds for which a rank waits for another one.

        If a rank raises, all leave the method: it with its own error, the others with ``distributed.RankError``, a
        RuntimeError that names it.  ImportError without mpi4py (``pip install "minicnn[mpi]"``).  docs/distributed.md.
        """
        self._put(ranks=distributed.of("Sequential.distribute", comm, timeout))
        if self.engine is not None:
            self.engine.ranks = self.ranks
            self.engine.forget_plans()

    @keras_words.answering
    def compile(self, optimizer="sgd", loss=None, metrics=None, **unknown):
        """Chooses optimiser, loss and metrics, each by name or as an object; keeps the weights.

        ``loss``: required; a name, a Loss, or a function ``(y, outputs) -> (value, gradient)``; ``metrics``: one or a
        list of names, Metrics, Losses, or functions ``(y, outputs) -> number``.  (In functions the names of the
        parameters may say the other order: losses.py.)

        A metric is logged under the name that was given, of equal names the second as ``name_1`` and so on.  With the
        binary cross-entropy and several outputs a sample, "accuracy" is the share of right outputs, as
        "binary_accuracy"; "categorical_accuracy" is not.

        ValueError for a name that another log has, such as "loss", for an optimiser that trains another model, and for
        ``from_logits=True`` where a built model ends in probabilities (one that is not built yet raises it then);
        TypeError for a loss whose parameters do not say which is which.
        """
        self._refuse_keywords("compile", unknown)
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
        if self.engine is not None:
            self.engine.optimizer = optimizer
            self.engine.bind()

    @property
    def metrics_names(self):
        """The names of what ``evaluate`` gives, in its order; empty before ``compile``."""
        return [] if self.optimizer is None else loop.log_names(self)

    @keras_words.answering
    def fit(
        self,
        x,
        y=None,
        batch_size=None,
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
        validation_batch_size=None,
        validation_freq=1,
        steps_per_epoch=None,
        validation_steps=None,
        mix=None,
        **unknown,
    ):
        """Trains the model on the samples x (N, ...) with the targets y, as the compiled optimiser and loss say.

        ``datasets.Pictures``, as ``image_folder`` gives, take the place of x and y, and of ``validation_data``.  Where
        the data have ``class_names`` and the model has none, it takes them; if both have they must be the same.

        Memory maps are read batch by batch.  x may also be data that give batches, (x, y) or (x, y, sample_weight):
        anything with ``__len__`` and ``__getitem__(i)``, whose batches are shuffled, anything that can be iterated
        again and again and has a length, or an iterator, with ``steps_per_epoch``; then without y, ``batch_size``,
        ``validation_split``, ``sample_weight`` and ``drop_last``.  A thread prepares the next batch (``stream.py``).

        - ``batch_size``: samples of a step, >= 1; None for 32.  ``drop_last``: what becomes of the last batch of an
          epoch where it would be smaller.  None: it is trained on, but a single sample that is left joins the batch
          before it, because batch normalisation cannot train on one; False: it is trained on as it is; True: it is
          dropped (PyTorch's meaning). ``datasets.batches`` gives the same batches.
        - ``epochs``: the number of the last epoch; epochs ``initial_epoch`` to ``epochs`` - 1 are trained, so that
          training in pieces gives the bits of one ``fit``.  Rates of dropout that go by the run (EarlyDropout and its
          like, ``schedules.RunSchedule``) need more: the run is epochs 0 to ``epochs`` - 1, so each piece must say the
          same ``epochs`` and be ended by something else, as an interrupted run is; a warning says where they differ.
          Every ``fit`` that begins at epoch 0 begins a run, also of a model that was trained before.
        - ``verbose``: 0 silent, 1 a progress bar, 2 a line an epoch, "auto": 1 on a terminal or in a notebook, else 2.
          On stderr, in a notebook on stdout.
        - ``callbacks``: a list of ``callbacks.Callback``, or one.
        - ``validation_split``: the fraction in [0, 1) of the samples, taken from the end, that is not trained on;
          ``validation_data``: (x, y) or (x, y, sample_weight) instead, or data that give them.  Their results are
          logged as val_loss and so on.
          Warns where the split leaves none of a class to train on, as it does where samples are sorted by class.
          ``validation_batch_size``: samples at a time, None for ``batch_size``.  ``validation_freq`` n: they are
          computed after every n-th epoch alone, counted from the first of all; or a list of epochs, from 1.
          ``validation_steps``: the number of their batches, None for all.
        - ``steps_per_epoch``: steps of an epoch, None for one pass over the samples.  Passes follow each other without
          a gap: an epoch goes on where the one before ended.
        - ``shuffle``: the order of an epoch is a function of the model's seed and the epoch's number; False: as given.
        - ``class_weight``: {class: weight}, classes by number, or by name where they have ``class_names``;
          ``sample_weight``: (N,).  The loss is (1/N) sum_i w_i l_i, as in Keras, w_i the product of both.  Classes
          without a weight weigh 1.  Class weights are for training alone: neither val_loss nor clean_loss has them, and
          nor does ``evaluate``; sample weights are cut by ``validation_split`` as x and y are.  Metrics are divided by
          the sum of the weights: where there are metrics it must not be 0, also in the validation part.
        - ``clean_train_metrics``: log clean_loss and so on as well: what ``evaluate`` gives, after each epoch, for the
          samples trained on and their ``sample_weight``.  Training is the same bit for bit; it costs a forward pass.
        - ``mix``: ``augment.mixup(alpha)`` or ``augment.cutmix(alpha)``, or the word alone for its default: every batch
          is trained on as pairs of its samples.  Weights stay with their samples; a loss of numbers, such as "mse", is
          that of mixed targets and takes none.  Accuracies are of the answer with the larger share.  Validation and
          ``clean_train_metrics`` see no mixing.

        The loss and the metrics of an epoch are means over its batches as they were trained: in train mode, with
        dropout on, each batch with the weights before its step.  Those of the validation are computed in eval mode,
        with nothing dropped, by the weights at the end of the epoch, and often look better for that reason alone.
        Comparable are clean_loss and val_loss; their difference is what overfitting costs.  The progress line says of
        each number in which mode it was computed.  All losses have the penalties of regularizers.py in them.

        Raises RuntimeError before ``compile`` or when the model is being trained already; ValueError and TypeError for
        bad arguments, before anything is changed, also where a batch would be too small for a layer; ValueError, before
        the first step, for callbacks that need a log which will not be there.  What only a step can show ends training
        there, and the step changes nothing: ValueError, with the sample, for a number in x that is not finite;
        ValueError or TypeError, with the batch, for one that is wrong; an exception of the data as itself, with a note
        of the batch; FloatingPointError, with the step and the layer, if the loss is not finite.  However training
        ends, ``on_train_end`` of the callbacks is called (callbacks.py).

        Warns where an iterator ends early, which ends training, and where ``initial_epoch`` is above 0 and the
        optimiser, one with moments or a schedule, has done no step yet: it begins again.  Files that keep it are those
        of ``saving.save_checkpoint`` and ModelCheckpoint's with ``save_optimizer``.
        """
        self._refuse_keywords("fit", unknown)
        with self.ranks.together("Sequential.fit"):
            data = x
            class_weight = intake.weights_by_number("Sequential.fit", self, class_weight, data)
            self._compare_with("Sequential.fit", data)
            self._compare_with("Sequential.fit", validation_data)
            x, y = intake.unpacked("Sequential.fit", data, y)
            validation_data = intake.unpacked("Sequential.fit", validation_data)
            run = loop.Fit(
                self,
                x,
                y,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                class_weight=class_weight,
                sample_weight=sample_weight,
                initial_epoch=initial_epoch,
                clean_train_metrics=clean_train_metrics,
                drop_last=drop_last,
                validation_batch_size=validation_batch_size,
                validation_freq=validation_freq,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                mix=mix,
            )
            with run, self.engine.hold("fit"), run.run, run.progress:
                before = self._training  # not earlier: if another thread trains the model, it would be that fit's mode
                self._put(history=run.history)
                self._take_from(data)
                try:
                    self._training, self.stop_training = True, False
                    run.train()
                finally:
                    self._training = before  # assigned directly: in a method call a signal handler could run
            return run.history

    def train_on_batch(self, x, y, sample_weight=None, class_weight=None):
        """One step on the batch x, y, in training mode; returns {"loss": ..., metrics ...} of it.  Raises like fit."""
        with self.ranks.together("Sequential.train_on_batch"):
            class_weight = intake.weights_by_number("Sequential.train_on_batch", self, class_weight)
            return loop.train_on_batch(self, x, y, sample_weight, class_weight)

    def test_on_batch(self, x, y, sample_weight=None, return_dict=False):
        """``evaluate`` of all samples at once."""
        with self.ranks.together("Sequential.test_on_batch"):
            intake.require_arrays("Sequential.test_on_batch", x=x, y=y)
            size = max(1, len(x)) if hasattr(x, "__len__") else 1
            return loop.evaluate(self, x, y, size, return_dict, sample_weight, where="Sequential.test_on_batch")

    @keras_words.answering
    def evaluate(
        self, x, y=None, batch_size=None, return_dict=False, sample_weight=None, verbose=0, steps=None, **unknown
    ):
        """Loss and metrics over x, y with nothing dropped, in either mode: {name: value}, or the loss, or a list in the
        order of ``metrics_names``.

        x may be ``datasets.Pictures``, without y, or data that give batches, as for ``fit``, without y, ``batch_size``
        and ``sample_weight``; those of an iterator are taken until it ends.  ``batch_size``: None for 32.
        ``verbose``: as in ``fit``, but of this one pass.  ``steps``: the number of batches, None for all.  Data
        that are known to have no end are refused without it; a warning comes after 10,000 batches of others.
        """
        self._refuse_keywords("evaluate", unknown)
        with self.ranks.together("Sequential.evaluate"):
            self._compare_with("Sequential.evaluate", x)
            x, y = intake.unpacked("Sequential.evaluate", x, y)
            return loop.evaluate(self, x, y, batch_size, return_dict, sample_weight, verbose, steps)

    @keras_words.answering
    def predict(self, x, batch_size=None, verbose=0, steps=None, **unknown):
        """The last layer's output for every sample, (N, *output_shape), with nothing dropped.

        x may be ``datasets.Pictures``, or data that give batches: x, or (x, y) and (x, y, sample_weight), of which x is
        taken; without ``batch_size``.  ``batch_size``: samples at a time, None for 256, on which no result depends.
        ``verbose``: as in ``fit``, but of this one pass.  ``steps``: the number of batches, as in ``evaluate``.
        """
        self._refuse_keywords("predict", unknown)
        with self.ranks.together("Sequential.predict"):
            self._compare_fit("Sequential.predict", x)
            x, _ = intake.unpacked("Sequential.predict", x, None)
            if not loop.gives_batches(x, lists=False):
                x = self.checked_inputs("predict", x)
            return loop.predict(self, x, batch_size, verbose, steps)

    def predict_on_batch(self, x):
        """``predict`` of all samples at once."""
        x = self.checked_inputs("predict_on_batch", x)
        return self.predict(x, max(1, len(x)))

    def _refuse_keywords(self, method, unknown):
        if unknown:
            known = [*inspect.signature(getattr(Sequential, method)).parameters][1:]
            keras_words.refuse_keywords(f"Sequential.{method}", unknown, known)

    def predict_proba(self, x, batch_size=None):
        """``as_probabilities`` of ``predict``."""
        outputs = self.predict(x, batch_size)
        return self.as_probabilities(outputs)

    def as_probabilities(self, outputs):
        """Outputs (..., *output_shape) of ``predict`` as probabilities, of a built model.

        Where the model gives logits they go through softmax, or through sigmoid if there is a single output or the
        model is compiled with the binary cross-entropy; probabilities stay as they are, but those of classes that do
        not sum to 1, as after a max-pooling, are divided by their sum.  ValueError where it cannot be known what they
        are: see ``Layer.output_function``.
        """
        self._require_built("as_probabilities")
        return self.reading.probabilities(_check.numeric_array("Sequential.as_probabilities", "outputs", outputs))

    def predict_mc(self, x, n_samples=50, seed=None, batch_size=None, return_samples=False):
        """Monte-Carlo dropout: the ``Prediction`` of ``n_samples`` thinned networks, each with its own masks.

        With T = n_samples and p_t(x) the output for x while dropout drops, mask t,

            mean = (1/T) sum_t p_t(x),    std = sqrt((1/T) sum_t (p_t(x) - mean)^2),

        and more (``minicnn.Prediction``).  Otherwise nothing behaves as in training: moving statistics are used, not
        changed, and the model's mode and counts of steps stay what they are.

        - ``n_samples``: T >= 1.  ``seed``: of the masks, 0 <= seed < 2^64; None takes the model's.
        - ``batch_size``: samples of x at a time; None chooses.
        - ``return_samples``: whether the T outputs are kept: ``samples`` (T, N, *output_shape).

        A mask is a function of (seed, layer, t, index of the sample in x, index of the element): the same x and seed
        give the same bits, at any batch size and number of threads.  Outputs are probabilities where the model gives
        them, and are made so where it was compiled with a cross-entropy (``output_kind``).  Warns if all samples are
        equal, as they are without dropout.

        Source: Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016, equation 6 for the mean; their
        variance of a regression has the noise of the data, 1/tau, as well as std^2.  For averaging thinned networks as
        such: Srivastava et al., JMLR 15 (2014), section 7.5.
        """
        from minicnn import prediction  # here: many programs never use it

        with self.ranks.together("Sequential.predict_mc"):
            return prediction.predict_mc(self, x, n_samples, seed, batch_size, return_samples)

    def predict_tta(self, x, n_samples=32, seed=None, batch_size=None, return_samples=False, augment=None):
        """Test-time augmentation: the ``Prediction`` of ``n_samples`` looks at every image, each time another version.

        With T = n_samples, f the network in evaluation and a_t(x) what the augmentation layers make of x in sample t,

            mean = (1/T) sum_t f(a_t(x)),    std = sqrt((1/T) sum_t (f(a_t(x)) - mean)^2),

        and more (``minicnn.Prediction``).  Only those layers behave as in training: nothing is dropped, moving
        statistics are used, and nothing is counted or changed.

        - ``augment``: layers to use in the place of the model's own, which stay as they are in ``predict``: a layer, or
          a list such as [ZeroPadding2D(2), RandomCrop(32, 32)] that keeps the shape of the model's inputs.  None: the
          model's own.
        - ``n_samples``, ``seed``, ``batch_size``, ``return_samples``: as of ``predict_mc``.

        What happens to an image is a function of (seed, layer, t, index of the image in x): the same x and seed give
        the same bits, at any batch size and number of threads.  ValueError for a model without augmentation layers;
        warns if all samples are equal.

        Source: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
        NIPS 2012, section 4.1, with five crops and their mirror images.
        """
        from minicnn import prediction  # here: many programs never use it

        with self.ranks.together("Sequential.predict_tta"):
            return prediction.predict_tta(self, x, n_samples, seed, batch_size, return_samples, augment)

    def outputs(self, x):
        """The output of every layer for a batch x, in eval mode, as a list."""
        x, found = _check.contiguous(self.checked_inputs("outputs", x), self.dtype), []
        for layer in self.layers:
            x = output_of(layer, x)
            found.append(x.copy())
        return found

    # ---- the door for arrays ----

    def checked_inputs(self, method, x):
        """The argument x of ``Sequential.method`` as an array (N, *input_shape), not yet cast; builds the model from it
        where that is still to do."""
        where = f"Sequential.{method}"
        intake.require_arrays(where, x=x)
        x = _check.numeric_array(where, "x", x)
        if not self.built:
            if x.ndim < 1:
                raise ValueError(_check.message(where, "x must have a batch axis", _check.shape_of(x)))
            self._build_for(where, x)
        if (*x.shape[1:], 1) == self.input_shape and x.ndim == len(self.input_shape):
            x = x[..., None]
        elif x.shape[1:] == (*self.input_shape, 1):
            x = x[..., 0]
        if x.ndim != len(self.input_shape) + 1 or x.shape[1:] != self.input_shape:
            wanted = f"x must have shape {_check.batch_shape(self.input_shape)}"
            channels_first = x.ndim == 4 and x.shape[1:] == (self.input_shape[-1], *self.input_shape[:-1])
            fix = "Channels come last here: x.transpose(0, 2, 3, 1)" if channels_first else ""
            raise ValueError(_check.message(where, wanted, _check.shape_of(x), fix))
        return x

    def _build_for(self, where, x):
        if self._declared_shape is not None:
            self.build(self._declared_shape)
            return
        sees_images = any(layer.input_ndim == 3 for _, layer in walk(self.layers))
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
            self.build((*x.shape[1:], 1))  # layers that do not work on (N, H, W) may work on grey images

    def _warn_of_axes(self, where, x, taken, fix):
        """The first array that a model sees decides its shapes for good, even where it is a wrong one."""
        warnings.warn(f"{where}: x of shape {x.shape} is taken as {taken}. {fix}", stacklevel=5)

    # ---- description, files, copies ----

    @keras_words.answering
    def summary(self, print_fn=None, **unknown):
        """Prints ``summary_text``, or calls ``print_fn`` with each line of it."""
        self._refuse_keywords("summary", unknown)
        for line in self.summary_text().splitlines():
            (print if print_fn is None else print_fn)(line)

    def summary_text(self):
        """A table: output shape, parameters with each layer's share, multiply-adds of one sample.

        The layers in a layer are indented below it; what is said of it is the sum of theirs.  Of a model that is not
        built it has the layers alone, and "?" for what follows from the shape of the samples.
        """
        return self._summary().text(self)

    def _repr_html_(self):
        """``summary_text`` as a table, for notebooks."""
        return self._summary().html(self)

    def _summary(self):
        from minicnn import summary  # here: many programs never use it

        if not self.built and self._declared_shape is not None and self.layers:
            self.build(self._declared_shape)
        return summary

    def get_config(self):
        """The architecture, ready for JSON: what ``from_config`` takes."""
        shape = self.input_shape or self._declared_shape
        return ({} if self.name is None else {"name": self.name}) | {
            "seed": self.seed,
            "dtype": self.dtype.name,
            "algorithm": self.algorithm,
            "input_shape": shape and list(shape),
            "input_range": None if self._seen is None else list(self.input_range),
            "input_mean": self.input_mean,
            **({} if self.image_fit is None else {"image_fit": self.image_fit}),
            **self._named_classes(),
            "layers": [to_config(layer) for layer in self.layers],
        }

    def _named_classes(self):
        """Their names for ``get_config``, checked again: a list may have been changed in place."""
        names = self._checked_class_names(self._class_names, self.output_shape)
        return {} if names is None else {"class_names": names}

    @classmethod
    def from_config(cls, config, custom_layers=None):
        """The model of a ``get_config``, not built.  ``custom_layers``: {name: class} for custom layers."""
        known = {name: getattr(layers, name) for name in layers.__all__} | dict(custom_layers or {})
        ends, mean = config.get("input_range"), config.get("input_mean")  # 0.1.0 did not know them
        seen = inputs.from_config("Sequential.from_config", ends, mean)
        entries = [from_config(entry, known) for entry in config["layers"]]
        model = cls(seed=config["seed"], dtype=config["dtype"], algorithm=config.get("algorithm", "auto"))
        model._append(entries)  # not built, even if its first layer says the shape
        model._declared_shape = None if config["input_shape"] is None else tuple(config["input_shape"])
        model.name = config.get("name")
        model._seen = seen
        model.image_fit = config.get("image_fit")
        model.class_names = config.get("class_names")
        return model

    def to_json(self):
        """``get_config`` as a text of JSON, for ``models.model_from_json``: the architecture, without weights."""
        import json  # here: many programs never use it

        described = {"class_name": "Sequential", "config": self.get_config()}
        try:
            return json.dumps(described, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Sequential.to_json: the arguments of every layer must be ready for JSON; {error}"
            ) from error

    def compile_config(self):
        """Optimiser, loss and metrics for JSON; None before ``compile`` or with a custom optimiser or loss.

        Custom metrics are left out: no training depends on them.
        """
        if self.optimizer is None:
            return None
        optimizer, loss = optimizers.to_config(self.optimizer), losses.to_config(self.loss_function)
        if optimizer is None or loss is None:
            return None
        described = [metric_config(metric) for metric in chosen_metrics("Sequential", "metrics", self.metrics)]
        return {"optimizer": optimizer, "loss": loss, "metrics": [one for one in described if one is not None]}

    def save(self, path):
        """Writes architecture, weights and layer states into one file, which replaces an old one in one step.

        The optimiser's state is not in it: for a run that is to continue bit for bit see ``saving.save_checkpoint``.
        """
        from minicnn import document  # here: many programs never use it

        self._require_built("save")
        document.write(path, *document.describe(self), self)

    @classmethod
    def load(cls, path, custom_layers=None):
        """The model in a file of ``save``; runs no code from it.  ``ModelFileError`` for a damaged or foreign one."""
        from minicnn import document

        return document.read(path, cls, custom_layers)[0]

    def save_weights(self, path):
        """Writes the arrays of ``state_dict`` into one file, which replaces an old one in one step: no architecture,
        no counts of steps, no optimiser.  A model that is made by the same code takes them by ``load_weights``.

        ValueError for a name that says another format, such as "x.weights.h5": the file is a .npz.
        """
        from minicnn import document

        self._require_built("save_weights")
        document.write_weights(path, self.state_dict())

    def load_weights(self, path):
        """Takes the weights in a file of ``save_weights``, ``save`` or ModelCheckpoint; runs no code from it.

        All arrays are checked before the first is written: they must have the names, shapes and dtype of this model's.
        RuntimeError before ``build``; ``ModelFileError`` for a file that is damaged, foreign, or of another model.
        """
        from minicnn import document

        self._require_built("load_weights")
        self.load_state_dict(document.read_weights(path, self.engine.parameters.named()))

    @keras_words.answering
    def export(
        self,
        path,
        opset=17,
        input_layout="NHWC",
        batch_size=None,
        training=False,
        input_name="input",
        output_name="output",
        **unknown,
    ):
        """Writes the model as a file of ONNX, whose outputs are those of ``predict``; it replaces an old one in one
        step.  Needs ``pip install "minicnn[onnx]"``.

        - ``path``: any name, in a folder that is there.
        - ``opset``: from 13 to the newest that the installed onnx knows.
        - ``input_layout``: "NHWC", or "NCHW" for inputs (N, C, H, W).  Outputs are as those of ``predict``.
        - ``batch_size``: None for any number of samples in a run, or a number for just so many.
        - ``training``: True for noise in every run, as in ``predict_mc``; False leaves out what acts in training only.
        - ``input_name``, ``output_name``: what the input and the output are called.

        Weights are float32: of a float64 model they are cast, with a warning.  ``interop.ConversionError``, a
        ValueError, names a layer that cannot be said in ONNX: a custom one, and with ``training`` one whose noise ONNX
        has not.  docs/onnx.md.
        """
        from minicnn.interop import onnx_writer  # here: many programs never use it

        self._refuse_keywords("export", unknown)
        self._require_built("export")
        onnx_writer.export(self, path, opset, input_layout, batch_size, training, (input_name, output_name))

    def _require_built(self, method):
        if not self.built and self._declared_shape is not None:
            self.build(self._declared_shape)
        if not self.built:
            raise RuntimeError(f"Sequential.{method}: needs build(input_shape), fit, predict or forward before it")

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key not in NOT_COPIED}

    def __setstate__(self, state):
        vars(self).update(state)
        self._building = threading.Lock()
        self._put(engine=None, ranks=distributed.ALONE)
        if self.history is not None:
            self.history.set_model(self)
        if self.built:
            self._take_places(None)
            self._put(engine=Engine(self.layers, self.input_shape, self.output_shape, self.dtype, self.optimizer))

    def become(self, trained):
        """Takes over what a copy of this model has learned: all objects stay the same, only what they hold changes."""
        trees = self.engine.parameters.tree, trained.engine.parameters.tree
        pairs = [*zip(*(tree.values() for tree in trees), strict=True)]
        same = {id(its): mine for mine, its in pairs}  # whatever refers to a layer of the copy refers to mine
        for mine, its in pairs:
            for name, value in vars(its).items():
                if isinstance(value, Values):
                    getattr(mine, name).update(value)  # into the arrays where they have always been
                else:
                    vars(mine)[name] = copy.deepcopy(value, same)
        vars(self.optimizer).update(vars(trained.optimizer))
        self._put(history=trained.history, stop_training=trained.stop_training)
        if self.history is not None:
            self.history.set_model(self)
        self._seen, self._class_names, self._image_fit = trained._seen, trained._class_names, trained._image_fit
        self.engine.forget_plans()  # they point to arrays that the layers had before
        self.engine.bind()

    def __copy__(self):
        return copy.deepcopy(self)  # two models cannot share their layers

    def __repr__(self):
        label = "" if self.name is None else f", name={self.name!r}"
        return f"Sequential([{', '.join(map(repr, self.layers))}], seed={self.seed}, dtype={self.dtype.name!r}{label})"

    def __getattr__(self, name):
        """Asked for what is not there: says what there is instead of Keras's."""
        if name[0] == "_":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        known = [other for other in dir(type(self)) if other[0] != "_"]
        raise keras_words.missing("Sequential", name, f"{type(self).__name__!r} object", known)


def _most_classes(output_shape):
    """How many classes outputs of this shape can tell apart; None before it is known."""
    return output_shape if output_shape is None else max(2, *output_shape[-1:])


def _require_new(layer):
    """ValueError if the layer, or one in it, is in another model by now."""
    for _, part in [("", layer), *walk(layer.parts)]:
        if part.input_shape is not None:
            required = "a layer can stand in one model only"
            raise ValueError(_check.message(type(part).__name__, required, part, "Make a new one"))


def _require_no_model(layer):
    """TypeError for a custom layer that holds a model: its weights would not be found there."""
    for path, part in [("", layer), *walk(layer.parts)]:
        for name, model in held_in(vars(part), Sequential):
            required = f"a layer can hold layers, but no model; {f'{path}.{name}' if path else name} is one"
            raise TypeError(_check.message(type(part).__name__, required, model, "Hold its layers in a list"))


def _require_all_found(layer, built):
    """ValueError for a layer that was built in ``layer`` where the walk does not see it, and for one that it sees and
    that was not built."""
    walked = walk([layer])
    found = {id(part) for _, part in walked}
    for part in filter(None, (reference() for reference in built)):
        if isinstance(part, Sequential):
            required = "a layer can hold layers, but no model, whose weights nobody would train"
            raise TypeError(_check.message(type(layer).__name__, required, part, "Hold its layers in a list"))
        if id(part) not in found:
            required = (
                "the layers that a layer holds must be in its attributes, or in lists, tuples or dictionaries there"
            )
            got = _check.Shown(f"{type(part).__name__} somewhere else")
            raise ValueError(_check.message(type(layer).__name__, required, got))
    for path, part in walked[1:]:
        if part.input_shape is None:
            required = f"its build must build all layers that it holds; {path.partition('.')[2]} is not"
            raise ValueError(_check.message(type(layer).__name__, required, part))
