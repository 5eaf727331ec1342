"""One thing everywhere: what is assigned to a public attribute acts at once in memory, in plans of every batch size, in
the file, in copies and in resumed runs, with the same bits, or is refused and changes nothing.  Never a third thing."""

import copy
import inspect
import json
import pickle
import warnings

import numpy as np
import pytest
from test_layer_contract import TABLE, new

import minicnn as mc
from minicnn import (
    augment,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    saving,
    schedules,
    settings,
)

N = 16
LABELS = np.arange(N) % 3
CANDIDATES = [
    *(None, True, False, 0, 1, 2, 3, 7, -1, 0.0, 0.3, 1.0, 1.5, -0.5, float("nan"), 1e30, np.float32(0.5), np.int64(2)),
    *("tanh", "softmax", "gelu", "same", "valid", "classical", "exact", "auto", "l2", "max_norm", "he_normal", "bogus"),
    *((2, 2), (1, 1), ((1, 0), (0, 1)), ((-3, -3), (-3, -3)), (None, 1, None), [], {}, {"step": -1}, np.zeros(3)),
    *(regularizers.L1L2(0.1, 0.2), constraints.MaxNorm(0.5), constraints.UnitNorm(7)),
    *(schedules.ExponentialDecay(0.2, 3, 0.9), optimizers.Adam(), [metrics.Accuracy()], "float64", "row"),
]  # fmt: skip
REFUSALS = (AttributeError, TypeError, ValueError)


def model_of(layer, shape, optimizer=None, loss=None):
    """Trained for a little while, with plans of two batch sizes for training and for evaluation."""
    model = mc.Sequential([layer, layers.Flatten(), layers.Dense(3)], seed=1)
    model.compile(optimizer or optimizers.SGD(0.05, momentum=0.9), loss or losses.SparseCategoricalCrossentropy(0.1))
    model.metrics = ["accuracy"]
    x = samples(shape)
    for n in (N, 8):
        model.train_on_batch(x[:n], LABELS[:n])
        model.evaluate(x, LABELS, batch_size=n)
    return model


def samples(shape):
    return np.random.default_rng(5).normal(size=(N, *shape)).astype("f")


def dropout_model():
    return model_of(
        layers.Dense(6, "relu", kernel_regularizer="l2", kernel_constraint="max_norm", activity_regularizer="l1"), (5,)
    )


TARGETS = {  # every kind of thing with settings: (a model that has it, where it is)
    **{name: (lambda name=name: model_of(new(name), TABLE[name][1]), lambda m: m.layers[0]) for name in TABLE},
    **{
        name: (lambda cls=cls: model_of(layers.Dense(4, "relu"), (5,), cls(0.01)), lambda m: m.optimizer)
        for name, cls in vars(optimizers).items()
        if inspect.isclass(cls)
        and issubclass(cls, optimizers.Optimizer)
        and cls is not optimizers.Optimizer
        and name[0] != "_"
    },
    **{
        type(one).__name__: (
            lambda one=one: model_of(layers.Dropout(one), (5,), optimizers.SGD(copy.copy(one), 0.5)),
            lambda m: m.layers[0].rate,
        )
        for one in (
            schedules.ExponentialDecay(0.3, 5, 0.9),
            schedules.CosineDecay(0.3, 5, 0.1, 0.2, 3),
            schedules.CosineDecayRestarts(0.3, 5),
            schedules.InverseTimeDecay(0.3, 5, 0.9),
            schedules.PolynomialDecay(0.3, 5),
            schedules.PiecewiseConstantDecay([2, 4], [0.3, 0.2, 0.1]),
            schedules.EarlyDropout(0.3, 0.5, True, 8),
            schedules.LateDropout(0.3, 0.5, 8),
            schedules.CurriculumDropout(0.3, 10, 8),
            schedules.StepLR(0.3, 5),
            schedules.LinearWarmup(schedules.StepLR(0.3, 5), 3, 0.1),
            schedules.OneCycleLR(0.3, 10),
        )
    },
    **{
        type(one).__name__: (
            lambda one=one: model_of(layers.Dense(4, kernel_regularizer=one), (5,)),
            lambda m: m.layers[0].kernel_regularizer,
        )
        for one in (regularizers.L1(), regularizers.L2(), regularizers.L1L2(0.1, 0.2))
    },
    **{
        name: (
            lambda cls=cls: model_of(layers.Dense(4, kernel_initializer=cls()), (5,)),
            lambda m: m.layers[0].kernel_initializer,
        )
        for name, cls in vars(initializers).items()
        if name in initializers.__all__ and cls not in (initializers.Initializer, initializers.get)
    },
    **{
        type(one).__name__: (
            lambda one=one: model_of(layers.Dense(4, kernel_constraint=one), (5,)),
            lambda m: m.layers[0].kernel_constraint,
        )
        for one in (constraints.MaxNorm(1), constraints.NonNeg(), constraints.UnitNorm())
    },
    **{
        cls.__name__: (lambda cls=cls: model_of(layers.Dense(4, "relu"), (5,), None, cls()), lambda m: m.loss_function)
        for cls in (losses.SparseCategoricalCrossentropy,)
    },
    "Accuracy": (lambda: model_of(layers.Dense(4), (5,)), lambda m: m.metrics[0]),
    "Sequential": (dropout_model, lambda m: m),
}
every_target = pytest.mark.parametrize("name", list(TARGETS))


def attributes(thing):
    """Public attributes that are no methods."""
    names = {*dir(type(thing)), *vars(thing)}
    return sorted(n for n in names if n[0] != "_" and not inspect.isroutine(getattr(type(thing), n, None)))


def worth_trying(thing):
    """What all optimisers have from one class is tried of SGD."""
    shared = vars(optimizers.Optimizer) if isinstance(thing, optimizers.Optimizer) else ()
    return [n for n in attributes(thing) if n not in shared or isinstance(thing, optimizers.SGD)]


def kind_of(value):
    """One value of each kind goes all the way (where each of them would, these tests take ten minutes): the type, and
    whether a number is one of those that switch something off or wholly on."""
    return (type(value), value if isinstance(value, bool | int | float) and value in (0, 1) else None)


def config_of(model):
    return json.dumps([model.get_config(), model.compile_config()])


def train(model, x):
    for n in (N, 8, 5):
        model.train_on_batch(x[:n], LABELS[:n])
    return model.fingerprint()


def train_by_hand(model, x):
    for n in (N, 8, 5):
        model.train()
        _, gradient = model.loss(model.forward(x[:n]), LABELS[:n])
        model.backward(gradient)
        model.optimizer.step()
    return model.fingerprint()


def require_one_thing(model, x, folder):
    """The model, its file, its checkpoint and its copies answer alike and train alike, at every batch size."""
    y = model.predict(x)
    assert np.array_equal(y[:8], model.predict(x[:8]), equal_nan=True)
    assert np.array_equal(y, model.outputs(x)[-1], equal_nan=True)
    saved, checkpoint = folder / "model.npz", folder / "checkpoint.npz"
    model.save(saved)
    saving.save_checkpoint(model, checkpoint, 1, {})
    again = mc.Sequential.load(saved)
    resumed, _, _ = saving.load_checkpoint(checkpoint)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), resumed]
    config, measured = config_of(model), [model.evaluate(x[:n], LABELS[:n], n) for n in (N, 8, 3)]
    for other in [again, *copies]:
        assert np.array_equal(y, other.predict(x), equal_nan=True)
        assert config_of(other) == config
        for n, expected in zip((N, 8, 3), measured, strict=True):
            assert np.array_equal(other.evaluate(x[:n], LABELS[:n], n), expected, equal_nan=True)
    if any("step" in layer.state for layer in model.layers):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at rate 0 all samples are equal
            means = [one.predict_mc(x, 3, seed=1, batch_size=5).mean for one in (model, again, *copies)]
            means.append(model.predict_mc(x, 3, seed=1, batch_size=N).mean)
        assert all(np.array_equal(mean, means[0], equal_nan=True) for mean in means)
    copies.append(copy.deepcopy(model))
    try:
        expected = train(model, x)
    except FloatingPointError:  # a rate of 1e30
        for other in copies:
            with pytest.raises(FloatingPointError):
                train(other, x)
        return
    assert [train(other, x) for other in copies[:-1]] == [expected] * 3
    assert train_by_hand(copies[-1], x) == expected


@every_target
def test_what_is_assigned_acts_everywhere_or_nowhere(name, tmp_path):
    make, find = TARGETS[name]
    origin = make()
    x = samples(origin.input_shape)
    before, accepted, refused = (config_of(origin), origin.fingerprint()), 0, []
    for attribute in worth_trying(find(origin)):
        tried, model = set(), copy.deepcopy(origin)
        for candidate in CANDIDATES:
            try:
                setattr(find(model), attribute, candidate)
            except REFUSALS:
                refused.append((attribute, candidate))
                continue
            if (config_of(model), model.fingerprint()) != before:
                accepted += 1
                if (kind := kind_of(getattr(find(model), attribute))) not in tried:
                    tried.add(kind)
                    require_one_thing(model, x, tmp_path)
                model = copy.deepcopy(origin)
    model = copy.deepcopy(origin)
    for attribute, candidate in refused:  # what is refused changes nothing
        with pytest.raises(REFUSALS) as caught:
            setattr(find(model), attribute, candidate)
        assert str(caught.value).startswith(("metrics.get", type(find(model)).__name__))
    assert (config_of(model), model.fingerprint()) == before
    assert np.array_equal(model.predict(x), origin.predict(x))
    require_one_thing(model, x, tmp_path)
    assert accepted or not isinstance(find(origin), mc.Layer | optimizers.Optimizer)


@every_target
def test_what_is_no_attribute_is_refused(name):
    thing = TARGETS[name][1](TARGETS[name][0]())
    with pytest.raises(AttributeError, match=type(thing).__name__):
        thing.actvation = thing.momentom = 1
    for attribute in attributes(thing):
        with pytest.raises(AttributeError):
            delattr(thing, attribute)
    assert "actvation" not in vars(thing)


PUBLIC = {
    *(getattr(layers, name) for name in layers.__all__),
    *(
        cls
        for module in (optimizers, schedules, initializers, regularizers, constraints, losses, metrics, augment)
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, settings.Closed)
    ),
    mc.Sequential,
}


@pytest.mark.parametrize("cls", sorted(PUBLIC, key=lambda cls: cls.__name__))
def test_every_argument_is_a_setting(cls):
    """A new class, or a new argument, cannot escape: it is checked when it is assigned, or fixed."""
    for argument in inspect.signature(cls.__init__).parameters:
        if argument not in ("self", "args", "kwargs"):
            assert hasattr(getattr(cls, argument), "__set__"), argument


@pytest.mark.parametrize("cls", sorted(PUBLIC, key=lambda cls: cls.__name__))
def test_help_shows_the_arguments_on_every_python(cls):
    """Found by the class itself, since what Python makes of ``__new__`` and ``__init__`` differs between versions."""
    shown = cls.__signature__
    assert inspect.signature(cls) == shown
    assert ["self", *shown.parameters] == list(inspect.signature(cls.__init__).parameters)


def test_an_object_that_is_called_shows_its_call():
    assert list(inspect.signature(schedules.CosineDecay(0.1, 5)).parameters) == ["step"]
    assert list(inspect.signature(regularizers.L2()).parameters) == ["w"]


def test_every_class_with_settings_has_a_target():
    bases = {settings.Closed, mc.Layer, optimizers.Optimizer, regularizers.Regularizer}
    bases |= {initializers.Initializer, constraints.Constraint, losses.Loss, metrics.Metric, losses.Configured}
    bases |= {schedules.Schedule, schedules.RunSchedule}
    names = {cls.__name__ for cls in PUBLIC - bases if cls.__name__[0] != "_"}
    others = {cls.__name__ for cls in PUBLIC if issubclass(cls, losses.Loss | metrics.Metric | augment.Mix)}
    assert names - set(TARGETS) <= others, "give the new class a place in TARGETS"


# ---- one by one ----


def test_a_misspelt_name_is_told_the_right_one():
    model = dropout_model()
    for thing, word, near in (
        (model.layers[0], "actvation", "activation"),
        (model.optimizer, "momentom", "momentum"),
        (model, "layres", "layers"),
        (model.optimizer, "lr", "learning_rate"),
    ):
        with pytest.raises(AttributeError, match=f"Did you mean `{near}`"):
            setattr(thing, word, 1)


def test_the_layers_of_a_model_are_a_tuple():
    model = dropout_model()
    with pytest.raises(AttributeError):
        model.layers.pop()
    with pytest.raises(TypeError):
        model.layers[0] = layers.Dense(6)
    assert model.predict(samples((5,))).shape == (N, 3)


def test_a_frozen_model_does_not_learn_and_a_thawed_one_does():
    model = dropout_model()
    before = model.fingerprint()
    model.trainable = False
    assert not model.trainable
    train(model, samples((5,)))
    assert model.fingerprint() == before
    model.trainable = True
    train(model, samples((5,)))
    assert model.fingerprint() != before


def test_momentum_that_is_assigned_is_obeyed():
    """As if it had been there all along, with a velocity of zeros."""
    one, other = (model_of(layers.Dense(4), (5,), optimizers.SGD(0.1, m)) for m in (0.0, 0.5))
    other.load_state_dict(one.state_dict())
    other.optimizer.slots["velocity"] = np.zeros(other.parameters.size)
    one.optimizer.momentum = 0.5
    assert train(one, samples((5,))) == train(other, samples((5,)))
    one.optimizer.momentum = 0
    assert one.optimizer.slots == {}


@pytest.mark.parametrize("optimizer", [optimizers.SGD(0.1, 0.9), optimizers.Adam()])
def test_slots_keep_their_arrays(optimizer):
    model = model_of(layers.Dense(4), (5,), optimizer)
    name, slot = next(iter(optimizer.slots.items()))
    with pytest.raises(ValueError, match=r"must keep its shape"):
        optimizer.slots[name] = np.zeros(3, "f")
    for change in (
        lambda: optimizer.slots.clear(),
        lambda: optimizer.slots.pop(name),
        lambda: optimizer.slots.__delitem__(name),
        lambda: optimizer.slots.update(other=slot),
        lambda: optimizer.slots.setdefault("other", slot),
        lambda: optimizer.slots.__ior__({"other": slot}),
        lambda: optimizer.slots.popitem(),
    ):
        with pytest.raises(ValueError, match=type(optimizer).__name__):
            change()
    with pytest.raises(ValueError, match="does not own its data"):
        slot.resize((3,), refcheck=False)
    optimizer.slots[name] = np.ones_like(slot)
    assert optimizer.slots[name] is slot
    assert (slot == 1).all()
    train(model, samples((5,)))


@pytest.mark.parametrize(
    ("kind", "name", "value", "error"),
    [
        ("params", "kernel", np.zeros((5, 6), complex), TypeError),
        ("params", "kernel", np.full((5, 6), "a"), TypeError),
        ("params", "kernel", np.zeros((6, 5)), ValueError),
        ("params", "other", np.zeros(3), ValueError),
        ("grads", "kernel", np.zeros(3), ValueError),
        ("grads", "kernel", None, TypeError),
    ],
)
def test_a_wrong_array_is_refused_with_the_layers_name(kind, name, value, error):
    model = dropout_model()
    with pytest.raises(error, match=rf"Dense: {kind}"):
        getattr(model.layers[0], kind)[name] = value
    with pytest.raises(ValueError, match="Dense: params must keep 'kernel', 'bias'; got a removal"):
        del model.layers[0].params["bias"]
    train(model, samples((5,)))


@pytest.mark.parametrize("step", [-1, 2**62 + 1, 1.5, None, "3", True])
def test_a_counter_stays_a_whole_number(step):
    model = model_of(layers.Dropout(0.5), (5,))
    with pytest.raises((TypeError, ValueError), match=r"Dropout: state\['step'\] must be a whole number"):
        model.layers[0].state["step"] = step
    train(model, samples((5,)))


def test_metrics_may_be_appended_by_name(tmp_path):
    model = dropout_model()
    model.metrics.append("top_2_accuracy")
    model.save(tmp_path / "m.npz")
    assert [metric.name for metric in mc.Sequential.load(tmp_path / "m.npz").metrics] == ["accuracy", "top_2_accuracy"]
    assert list(model.evaluate(samples((5,)), LABELS, return_dict=True)) == ["loss", "accuracy", "top_2_accuracy"]
    model.metrics.append("acuracy")
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        model.evaluate(samples((5,)), LABELS)


class Own(mc.Layer):
    """A custom layer may have any attributes."""

    def __init__(self, scale=2.0):
        super().__init__()
        self.scale = scale
        self.calls = 0

    def forward(self, x, training=False):
        self.calls += 1
        self.note = x.shape
        if training:
            self.keep(len(x))
        return x * self.scale

    def backward(self, dy):
        self.check_gradient(dy)
        return dy * self.scale


def test_custom_classes_keep_their_freedom(tmp_path):
    model = model_of(Own(), (5,))
    model.layers[0].anything = [1]
    model.layers[0].scale = 3.0
    x = samples((5,))
    assert np.array_equal(model.predict(x)[:8], model.predict(x[:8]))
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz", {"Own": Own})
    assert np.array_equal(again.predict(x), model.predict(x))
    with pytest.raises(AttributeError, match=r"Own.output_shape: stays while the layer is in a model"):
        model.layers[0].output_shape = (7,)


# ---- files ----


class Tripled(Own):
    """Its attribute is not its argument."""

    def __init__(self, scale=2.0):
        super().__init__(3 * scale)


class Dense(layers.Dense):
    """The name of one of minicnn's."""


def replaced():
    model = model_of(layers.Dense(6), (5,))
    model.layers[0].forward = model.layers[0].forward
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: model_of(Tripled(), (5,)), "describes another model"),
        (lambda: model_of(Dense(6), (5,)), "must not have the name of one of minicnn's"),
        (replaced, "a method that was replaced"),
    ],
)
def test_a_file_that_would_be_refused_never_replaces_a_good_one(make, words, tmp_path):
    path = tmp_path / "m.npz"
    dropout_model().save(path)
    before = path.read_bytes()
    for save in (lambda m: m.save(path), lambda m: saving.save_checkpoint(m, path, 1, {})):
        with pytest.raises(ValueError, match=words):
            save(make())
    assert path.read_bytes() == before


# ---- what comes back from elsewhere ----


@pytest.mark.parametrize("optimizer", [optimizers.SGD(0.1), optimizers.SGD(0.1, 0.9), optimizers.Adam()])
def test_read_only_arrays_of_a_pickle_are_taken_over(optimizer):
    """As joblib's memory maps are: training neither fails nor writes into them."""
    model = model_of(layers.BatchNormalization(), (5,), optimizer)
    buffers = []
    pickled = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    raw = [bytes(buffer) for buffer in buffers]
    again = pickle.loads(pickled, buffers=raw)
    writable = [bytearray(buffer) for buffer in raw]
    third = pickle.loads(pickled, buffers=writable)
    x = samples((5,))
    expected = train(model, x)
    assert train(again, x) == expected
    assert train(third, x) == expected
    assert [bytes(buffer) for buffer in writable] == raw
