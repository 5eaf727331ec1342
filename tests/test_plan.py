"""Plans: what a model records it computes as its layers do by hand, to the bit, and in memory that it takes once."""

import gc
import threading
import tracemalloc
import weakref

import determinism
import numpy as np
import pytest
from compare import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from models import Halve
from running import backward_calls, normal, use_threads

import minicnn as mc
from minicnn import layers, training
from minicnn._ext.machinery import plan as native
from minicnn.layer import Layer
from minicnn.plan import Plan, Workspace
from minicnn.recording import empty, in_between

RNG = np.random.default_rng(5)
X, LABELS = RNG.random((40, 13, 11, 3), np.float32), np.arange(40) % 5


def by_hand(model, x, y):
    """One training step, layer by layer."""
    outputs = x
    for layer in model.layers:
        outputs = layer.forward(outputs, training=True)
    value, gradient = model.loss(outputs, y)
    for number, (at_logits, wanted) in backward_calls(model).items():
        gradient = model.layers[number].gradient(gradient, at_logits, wanted)
    model.optimizer.step()
    return value, gradient


def model_of(number, extra=None, dtype="float32"):
    chain = [make() for make in determinism.CHAINS[number]]
    for place in extra or ():
        chain.insert(place, Halve())
    model = mc.Sequential(chain, seed=3, dtype=dtype)
    model.compile(determinism.OPTIMIZERS[number](), determinism.LOSSES[number])
    model.build(X.shape[1:])
    return model


def targets(number, n):
    return np.eye(5)[LABELS[:n]] if determinism.LOSSES[number].startswith("binary") else LABELS[:n]


# ---- the same bits ----


@pytest.mark.parametrize("number", range(len(determinism.CHAINS)))
@pytest.mark.parametrize("extra", [None, [0], [5], [3, 3, 8], [14]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_gives_the_bits_of_layers_called_by_hand(number, extra, dtype):
    """Every layer of the registry, with layers in Python at the ends and in the middle, at several batch sizes."""
    planned, hand = model_of(number, extra, dtype), model_of(number, extra, dtype)
    for n in (17, 40, 3, 17):
        x = X[:n].astype(dtype)
        logs = planned.train_on_batch(x, targets(number, n))
        value, _ = by_hand(hand, x, targets(number, n))
        assert logs["loss"] == value
        assert planned.fingerprint() == hand.fingerprint()


@pytest.mark.parametrize("number", range(len(determinism.CHAINS)))
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_predictions_are_those_of_layers_called_by_hand(number, threads):
    model = model_of(number)
    by_hand(model, X, targets(number, 40))
    use_threads(threads)
    for n in (1, 2, 7, 40):
        outputs = X[:n]
        for layer in model.layers:
            outputs = layer.forward(outputs)
        assert_same_bits(model.predict(X[:n]), outputs)


POOLED = [
    ("relu", layers.MaxPooling2D(2)),
    ("leaky_relu", layers.MaxPooling2D(2, strides=3)),
    ("tanh", layers.MaxPooling2D((2, 3), padding="same")),
    ("elu", layers.MaxPooling2D(3, strides=2)),  # windows overlap: nothing can wait
    ("gelu", layers.MaxPooling2D(2)),  # needs its input: nothing can wait
    ("sigmoid", layers.GlobalMaxPooling2D()),
    ("softplus", layers.MaxPooling2D(2)),
    ("relu6", layers.MaxPooling2D(2)),
    ("swish", layers.MaxPooling2D(2)),
]


@pytest.mark.parametrize(("function", "pool"), POOLED, ids=[function for function, _ in POOLED])
def test_an_activation_in_front_of_a_max_pooling(function, pool):
    def chain():
        again = type(pool)(**pool.get_config())
        activation = layers.Activation(function)
        return [layers.Conv2D(6, 3, activation=function), again, layers.Conv2D(3, 1), activation, layers.Flatten()]

    def global_chain():
        return [layers.Conv2D(6, 3, activation=function), type(pool)(), layers.Flatten()]

    make = global_chain if isinstance(pool, layers.GlobalMaxPooling2D) else chain
    models = [mc.Sequential([*make(), layers.Dense(5)], seed=4) for _ in range(2)]
    for model in models:
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.build(X.shape[1:])
    for _ in range(3):
        models[0].train_on_batch(X, LABELS)
        by_hand(models[1], X, LABELS)
        assert models[0].fingerprint() == models[1].fingerprint()


LARGE = np.random.default_rng(6).random((20, 24, 22, 8), np.float32)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_images_that_are_normalised_while_they_are_in_the_cache(threads, dtype):
    """Long enough for sums of their own: 33 channels cut an image in two, and behind a pooling all images are one."""

    def make():
        normed = [layers.Conv2D(33, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
        pooled = [layers.MaxPooling2D(4), layers.BatchNormalization(), layers.GlobalAveragePooling2D()]
        model = mc.Sequential(
            [layers.BatchNormalization(), layers.Residual([*normed, layers.Conv2D(8, 3, padding="same")]), *pooled],
            seed=3,
            dtype=dtype,
        )
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.build(LARGE.shape[1:])
        return model

    planned, hand = make(), make()
    for n in (20, 3, 1, 20):
        x, y = LARGE[:n].astype(dtype), LABELS[:n]
        use_threads(threads)
        planned.train_on_batch(x, y)
        use_threads(1)
        by_hand(hand, x, y)
        assert planned.fingerprint() == hand.fingerprint()


@pytest.mark.parametrize("dtype", ["u1", "i8", "f4", "f8", "i2", "?", ">f4"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_samples_of_any_dtype(dtype, layout):
    x = layout((X * 200).astype(dtype))
    plan, order = Plan(model_of(0).engine, 3, training=False), np.array([7, 0, 39])
    plan.bind(Workspace(training=False).at_least(plan.size))
    assert plan.take(x, order) is None
    assert_same_bits(plan.x, x[order].astype(np.float32))
    if x.dtype.kind == "f":
        x[0, 1, 2, 2] = np.nan
        assert plan.take(x, order) == 1
        assert plan.take(x[37:]) is None


def test_the_gradient_of_the_input():
    model, hand = model_of(0), model_of(0)
    plan = Plan(model.engine, 40, training=True, by_hand=True)
    plan.bind(Workspace(training=True).at_least(plan.size))
    plan.take(X)
    _, gradient = model.loss(plan.forward(), LABELS)
    plan.dy[...] = gradient
    dx = plan.backward(input_gradient=True)
    assert_same_bits(dx, by_hand(hand, X, LABELS)[1])


# ---- a custom training loop ----


def one_step(model, x, y, backward):
    model.train()
    value, gradient = model.loss(model.forward(x), y)
    dx = backward(model, gradient)
    model.optimizer.step()
    return value, dx


def layer_by_layer(model, gradient):
    for number, call in backward_calls(model).items():
        gradient = model.layers[number].gradient(gradient, *call)
    return gradient


@pytest.mark.parametrize("number", range(len(determinism.CHAINS)))
@pytest.mark.parametrize("backward", [mc.Sequential.backward, layer_by_layer], ids=["model", "layers"])
def test_a_loop_of_ones_own_gives_the_same_bits(number, backward):
    """Also where it goes back layer by layer after the model's own forward."""
    own, hand = model_of(number), model_of(number)
    for n in (17, 40, 17):
        value, dx = one_step(own, X[:n], targets(number, n), backward)
        want = by_hand(hand, X[:n], targets(number, n))
        assert value == want[0]
        assert_same_bits(dx, want[1])
        assert own.fingerprint() == hand.fingerprint()


@pytest.mark.parametrize("extra", [None, [2]])
def test_what_a_loop_of_ones_own_gets_is_its_own(extra):
    model = model_of(0, extra)
    results = [one_step(model, X[:n], LABELS[:n], mc.Sequential.backward)[1] for n in (17, 40)]
    copies = [result.copy() for result in results]
    outputs = model.forward(X, training=True)
    copies.append(outputs.copy())
    one_step(model, X, LABELS, mc.Sequential.backward)
    for result, copy in zip([*results, outputs], copies, strict=True):
        assert_same_bits(result, copy)


def test_backward_needs_its_forward():
    model = model_of(0)
    one_step(model, X, LABELS, mc.Sequential.backward)
    with pytest.raises(RuntimeError, match="needs forward"):
        model.backward(np.zeros((40, 5), np.float32))
    model.forward(X, training=True)
    model.train_on_batch(X[:17], LABELS[:17])  # in between; it has memory of its own
    model.backward(np.zeros((40, 5), np.float32))
    model.forward(X, training=True)
    for dy in (np.zeros((39, 5), np.float32), np.zeros((40, 6), np.float32)):
        with pytest.raises(ValueError, match="dy must have"):
            model.backward(dy)


# ---- when a record is out of date ----


def test_a_changed_layer_is_recorded_anew():
    model = model_of(0)
    model.train_on_batch(X, LABELS)
    before = model.engine.training(40)
    assert model.engine.training(40) is before
    next(layer for layer in model.layers if isinstance(layer, layers.SpatialDropout2D)).rate = 1.0
    assert model.engine.training(40) is not before
    plan = model.engine.training(40)
    plan.take(X)
    outputs = plan.forward()
    assert (outputs == outputs[0]).all()  # all dropped: no sample differs from another


def test_parameters_that_are_assigned_anew_are_seen():
    model = model_of(1)
    before = model.predict(X)
    dense = model.layers[5]
    dense.params["kernel"] = np.zeros_like(dense.params["kernel"])
    after = model.predict(X)
    assert not np.array_equal(before, after)
    assert (after == after[0]).all()


def test_weights_set_between_predictions_are_seen():
    """What is derived from weights is kept from one prediction to the next, and made again when they change."""
    model = model_of(0)
    model.predict(X)
    convolution = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D))
    for name in ("kernel", "bias"):
        convolution.params[name][...] = RNG.random(convolution.params[name].shape)
        outputs = X
        for layer in model.layers:
            outputs = layer.forward(outputs)
        assert_same_bits(model.predict(X), outputs)


def test_arrays_live_as_long_as_a_plan_that_uses_them():
    """Their owner may take others while another thread runs the plan."""
    plan, array = native.Plan(), np.ones(3)
    plan.use(array)
    found = weakref.ref(array)
    del array
    assert found() is not None
    del plan
    assert found() is None


def test_a_forward_of_ones_own_on_an_instance_is_called():
    model = model_of(0)
    model.predict(X)
    model.layers[1].forward = lambda x, training=False: np.zeros((len(x), *model.layers[1].output_shape), np.float32)
    outputs = model.predict(X)
    assert (outputs == outputs[0]).all()


class Stretched(layers.Dense):
    """A subclass with a forward of its own; what it inherits is compiled, it is not."""

    def forward(self, x, training=False):
        return 2 * super().forward(x, training)


def test_a_subclass_runs_as_python():
    assert layers.Dense.compiled
    assert not Stretched.compiled
    plain, stretched = (mc.Sequential([layers.Flatten(), kind(3)], seed=1) for kind in (layers.Dense, Stretched))
    assert_same_bits(stretched.predict(X), 2 * plain.predict(X))


class Notes(Halve):
    """A layer in Python that changes its attributes at every call."""

    def forward(self, x, training=False):
        self.seen = x
        return super().forward(x, training)


def test_a_layer_in_python_may_note_what_it_sees():
    chain = [layers.Flatten(), Notes(), layers.Dense(5)]
    model = mc.Sequential(chain, seed=3)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(X, LABELS)
    before = model.engine.training(40)
    model.train_on_batch(X, LABELS)
    assert model.engine.training(40) is before
    model.layers[2].activation = "tanh"
    assert model.engine.training(40) is not before


class Repeated(Halve):
    """Its gradient has the shape of one sample."""

    def backward(self, dy):
        return dy[:1]


@pytest.mark.parametrize("more", [[], [Halve()]], ids=["recorded", "python"])
def test_a_gradient_of_another_shape(more):
    model = mc.Sequential([layers.Flatten(), layers.Dense(4), *more, Repeated(), layers.Dense(5)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.build(X.shape[1:]) or model.fingerprint()
    message = r"^Repeated.backward: backward must return the shape of forward's x, \(40, 4\); got shape \(1, 4\)"
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(X, LABELS)
    assert model.fingerprint() == before


def own_layer(forward=None, backward=None):
    """An identity in Python in which one direction is another."""

    class Own(mc.Layer):
        output_function = "linear"

        def forward(self, x, training=False):
            return x if forward is None else forward(x)

        def backward(self, dy):
            return dy if backward is None else backward(dy)

    return Own()


def train_by_fit(model):
    model.fit(X, LABELS, batch_size=20, epochs=1, verbose=0)


def train_on_batch(model):
    model.train_on_batch(X, LABELS)


def train_by_hand(model):
    _, gradient = model.loss(model.train().forward(X), LABELS)
    model.backward(gradient)


def check_the_gradient(model):
    mc.testing.gradcheck(model, X[:2])


WAYS = [train_by_fit, train_on_batch, train_by_hand, check_the_gradient]
BROKEN = [
    (lambda array: None, TypeError, "array of shape .*; got None. It is layer 2 of the model; is `return {}` missing"),
    (
        lambda array: array.tolist(),
        TypeError,
        "must return {}, an array of shape .*; got a list. It is layer 2 of the model",
    ),
    (lambda array: array.sum(), TypeError, "must return {}, an array of shape .*It is layer 2 of the model"),
    (lambda array: array.astype(str), TypeError, "of layer 2 of the model returns must be an array of numbers"),
    (lambda array: array * 1j, TypeError, "of layer 2 of the model returns must be an array of numbers"),
    (lambda array: array[1:], ValueError, "must return the shape .*; got shape .*It is layer 2 of the model"),
    (lambda array: array[:, :1], ValueError, "must return the shape .*; got shape .*It is layer 2 of the model"),
    (lambda array: array[..., None], ValueError, "must return the shape .*; got shape .*It is layer 2 of the model"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["forward", "backward"])
@pytest.mark.parametrize(("broken", "error", "match"), BROKEN)
def test_what_a_layer_in_python_returns_is_looked_at(way, method, broken, error, match):
    """A forgotten ``return dx`` would silently keep all layers in front of it from learning."""
    own = own_layer(**{method: broken})
    model = mc.Sequential([layers.Flatten(), layers.Dense(4), own, layers.Dense(5)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.build(X.shape[1:]) or model.fingerprint()
    match = rf"^Own\.{method}: .*" + match.format("y" if method == "forward" else "dx")
    if way is check_the_gradient and method == "backward":  # what it is there to find
        error, match = mc.testing.GradientError, r"(?s)^layer 2 of the model: .*Own\.backward"
    with pytest.raises(error, match=match):
        way(model)
    assert model.fingerprint() == before


def test_a_gradient_that_nobody_wants_may_be_none():
    class First(mc.Layer):
        def build(self, input_shape, rng):
            self.add_param("scale", (1,), lambda shape, rng: np.ones(shape), rng)
            return super().build(input_shape, rng)

        def forward(self, x, training=False):
            self.x = x
            return x * self.params["scale"]

        def backward(self, dy):
            self.grads["scale"][...] = (self.x * dy).sum()

    def new():
        model = mc.Sequential([own_layer(backward=lambda dy: None), First(), layers.Flatten(), layers.Dense(5)])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    fitted, looped = new(), new()
    fitted.train_on_batch(X, LABELS)
    _, gradient = looped.loss(looped.train().forward(X), LABELS)
    looped.backward(gradient, input_gradient=False)
    looped.optimizer.step()
    assert fitted.fingerprint() == looped.fingerprint()
    assert fitted.layers[1].params["scale"] != 1
    looped.forward(X)
    with pytest.raises(TypeError, match=r"^First\.backward: backward must return dx.*It is layer 1 of the model"):
        looped.backward(gradient)


@pytest.mark.parametrize("way", WAYS[:3])
def test_arrays_of_other_dtypes_are_cast(way):
    """At once: the next layer in Python and the loss see float32, as they would from a compiled layer."""
    seen = set()

    def note(array):
        seen.add(array.dtype.name)
        return array

    def wide(array):
        return array.astype(np.float64)

    models = []
    for own in (lambda: own_layer(), lambda: own_layer(wide, wide)):
        chain = [layers.Flatten(), layers.Dense(4), own(), own_layer(note, note), own(), layers.Dense(5), own()]
        models.append(mc.Sequential(chain))
        models[-1].compile("sgd", "sparse_categorical_crossentropy")
        way(models[-1])
    assert seen == {"float32"}
    assert models[0].fingerprint() == models[1].fingerprint()
    assert models[1].train().forward(X).dtype == models[1].eval().forward(X).dtype == np.float32


class InPlace(mc.Layer):
    """y = 2 x, written where x stands; keeps what it was given and what it returned."""

    output_function = "linear"

    def forward(self, x, training=False):
        x *= 2
        self.seen = x
        return x

    def backward(self, dy):
        dy *= 2
        dy += 0 * self.seen
        return dy


@pytest.mark.parametrize("places", [[0], [0, 0], [2], [2, 2], [4], [4, 4], [0, 3, 6]])
def test_a_layer_that_works_in_place_harms_nobody(places):
    """It has copies of its own: the caller's arrays are whole, and the loop by hand gives the bits of ``fit``."""

    def new():
        chain = [layers.Flatten(), layers.Dense(4, "tanh"), layers.BatchNormalization(), layers.Dense(5)]
        for place in places:
            chain.insert(place, InPlace())
        model = mc.Sequential(chain, seed=1)
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    fitted, looped, x = new(), new(), X.copy()
    fitted.fit(x, LABELS, batch_size=40, epochs=1, verbose=0, shuffle=False)
    x_before = x.copy()
    outputs = looped.train().forward(x)
    _, gradient = looped.loss(outputs, LABELS)
    outputs[...] = x[...] = np.nan  # a caller may use the arrays again
    gradient_before = gradient.copy()
    looped.backward(gradient)
    looped.optimizer.step()
    assert_same_bits(gradient, gradient_before)
    assert fitted.fingerprint() == looped.fingerprint()
    x[...] = x_before
    found = looped.outputs(x)
    assert_same_bits(found[-1], looped.eval().forward(x))
    assert_same_bits(found[-1], looped.predict(x))
    assert_same_bits(x, x_before)
    assert_same_bits(x, X)


@pytest.mark.parametrize("end", ["softmax", "tanh", None])
def test_a_loss_and_a_metric_may_keep_and_change_what_they_get(end):
    kept, copies = [], []

    def keep(outputs):
        kept.append(outputs)
        copies.append(outputs.copy())

    def loss(outputs, y):
        keep(outputs)
        return 0.5, 1 - 2 * outputs

    def rude(outputs, y):
        outputs *= -2
        outputs += 1
        return 0.5, outputs

    def metric(y, outputs):
        keep(outputs)
        return 0.0

    models = [mc.Sequential([layers.Flatten(), layers.Dense(5, activation=end)], seed=3) for _ in range(2)]
    for model, function in zip(models, (loss, rude), strict=True):
        model.compile("sgd", function, [metric])
        model.fit(X, LABELS, batch_size=20, epochs=2, verbose=0, validation_data=(X, LABELS))
    assert models[0].fingerprint() == models[1].fingerprint()
    assert len(kept) == 24
    for array, copy in zip(kept, copies, strict=True):
        assert_same_bits(array, copy)


class Faulty(Layer, compiled=True):
    """Says that it can be recorded and then fails."""

    def forward(self, x, training=False):
        raise ZeroDivisionError("on purpose")


UNKNOWN = np.empty((40, 13, 11, 3), np.float32)


class Leaky(Layer, compiled=True):
    """Uses an array that no plan knows of."""

    def __init__(self):
        super().__init__()
        self._inner = layers.ReLU()

    def build(self, input_shape, rng):
        self._inner.build(input_shape, rng)
        return super().build(input_shape, rng)

    def forward(self, x, training=False):
        self._inner.forward(UNKNOWN)
        return empty(x.shape, x.dtype)


@pytest.mark.parametrize(("layer", "error"), [(Faulty(), ZeroDivisionError), (Leaky(), RuntimeError)])
def test_a_recording_that_fails_leaves_nothing_behind(layer, error):
    model = mc.Sequential([layer, layers.Flatten(), layers.Dense(3)])
    with pytest.raises(error):
        model.predict(X)
    assert not native.is_recording()
    assert_same_bits(mc.Sequential([layers.Flatten()]).predict(X), X.reshape(40, -1))


@pytest.mark.parametrize("training", [False, True])
def test_a_prediction_while_another_plan_is_recorded(training, monkeypatch):
    """As a signal handler may make it, at any line of a layer."""
    model, twin, other, found = model_of(0), model_of(0), model_of(1), []
    want = model_of(1).predict(X)
    check_input = layers.Dense.check_input

    def interrupted(layer, x):
        if layer in model.layers:
            found.append(other.predict(X))
        return check_input(layer, x)

    monkeypatch.setattr(layers.Dense, "check_input", interrupted)
    run = (lambda one: one.train_on_batch(X, LABELS)["loss"]) if training else (lambda one: one.predict(X).tobytes())
    assert run(model) == run(twin)
    assert model.fingerprint() == twin.fingerprint()
    assert len(found) > 0
    for outputs in found:
        assert_same_bits(outputs, want)


# ---- memory ----


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9), st.integers(0, 5)), max_size=12))
def test_buffers_in_use_at_the_same_time_do_not_overlap(sizes):
    plan = native.Plan()
    arrays = []
    plan.record(lambda: arrays.extend(empty((64 * size,), np.uint8) for size, _, _ in sizes))
    pieces = [(64 * s, first, first + more, b) for (s, first, more), b in zip(sizes, plan.buffers, strict=True)]
    total = native.place_all(pieces)
    assert len(arrays) == len(pieces)
    for i, (size, first, last, one) in enumerate(pieces):
        assert 0 <= one.place <= one.place + size <= total
        assert one.place % 64 == 0
        for other_size, other_first, other_last, other in pieces[:i]:
            if first <= other_last and other_first <= last:
                assert one.place + size <= other.place or other.place + other_size <= one.place


@pytest.mark.parametrize("number", range(len(determinism.CHAINS)))
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_allocates_no_array(number, weighted):
    """After the first step of a batch size nothing but Python's small change is allocated: a few thousand bytes."""
    n = 1000  # so that the smallest array of a step, the labels, has 8,000 bytes
    model, x, y = model_of(number), np.resize(X, (n, *X.shape[1:])), np.resize(LABELS, n)
    y = np.eye(5, dtype=np.float32)[y] if determinism.LOSSES[number].startswith("binary") else y
    weights = np.linspace(0.5, 1.5, n) if weighted else None
    chosen = np.arange(n)

    def steps(count):
        mean = training.Means(model)
        for _ in range(count):
            training.Step(model, x, y, weights).run(chosen, mean, str)

    steps(3)
    tracemalloc.start()
    try:
        steps(1)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        steps(5)
        after, peak = tracemalloc.get_traced_memory()
        seen = np.empty(n, np.int64)
        assert tracemalloc.get_traced_memory()[0] >= after + seen.nbytes  # arrays are counted
    finally:
        tracemalloc.stop()
    assert max(after, peak) - before < 6000


def test_a_plan_in_a_circle_of_references_is_freed():
    """The garbage collector clears the lists of a plan before it frees it."""
    resource = pytest.importorskip("resource")
    layer = layers.Conv2D(64, 3, padding="same")
    layer.build((8, 8, 64), np.random.default_rng(0))
    x, peaks = np.ones((2, 8, 8, 64), np.float32), []

    def circle():
        plan = native.Plan()

        def record():
            native.called_each_time(print, (plan,))
            layer.backward(layer.forward(x, training=True))

        plan.record(record)

    gc.freeze()  # what other tests have left behind is looked through no more
    try:
        for _ in range(4):
            for _ in range(20):
                circle()
                gc.collect()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    finally:
        gc.unfreeze()
    assert peaks[3] - peaks[1] < 0.1 * peaks[1]  # 60 MB were left behind


def test_plans_of_several_batch_sizes_share_one_workspace():
    model = model_of(0)
    for n in (40, 17, 3):
        model.train_on_batch(X[:n], LABELS[:n])
    memory = model.engine._training_plans.memory
    assert all(model.engine.training(n)._memory is memory for n in (40, 17, 3))
    model.train_on_batch(np.concatenate([X, X]), np.concatenate([LABELS, LABELS]))
    assert model.engine._training_plans.memory.size > memory.size


def test_plans_of_many_batch_sizes_are_not_kept():
    model = model_of(1)
    for n in range(1, 25):
        model.predict(X[:n])
        model.train_on_batch(X[:n], targets(1, n))
    assert len(model.engine._idle) == 1
    assert len(model.engine._idle[0].plans) <= 8
    assert len(model.engine._training_plans.plans) <= 8


def test_several_threads_predict_at_once():
    model = model_of(0)
    want = model.predict(X, batch_size=7)
    found = [None] * 6

    def work(place):
        found[place] = [model.predict(X, batch_size=7) for _ in range(5)]

    workers = [threading.Thread(target=work, args=(place,)) for place in range(len(found))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for outputs in found:
        for got in outputs:
            assert_same_bits(got, want)


# ---- Python in the middle of a plan ----


class Watched(layers.BatchNormalization, compiled=True):
    """Calls ``watch`` before and behind its forward."""

    watch = staticmethod(lambda when: None)

    def forward(self, x, training=False):
        in_between(lambda: self.watch("before"))
        y = super().forward(x, training)
        in_between(lambda: self.watch("behind"))
        return y


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_what_is_called_in_between_runs_between_the_jobs(threads):
    use_threads(threads)

    def make(normalization):
        chain = [layers.Conv2D(4, 3, activation="relu"), normalization(momentum=0.5), layers.Conv2D(3, 3)]
        model = mc.Sequential([*chain, layers.Flatten(), layers.Dense(3)], seed=1)
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    seen, plain, model = [], make(layers.BatchNormalization), make(Watched)
    Watched.watch = staticmethod(lambda when: seen.append((when, model.layers[1].state["moving_mean"].copy())))
    x, y = normal((24, 9, 9, 2), "float32"), np.arange(24) % 3
    for each in (plain, model):
        each.fit(x, y, 8, epochs=2, verbose=0)
    assert model.fingerprint() == plain.fingerprint()
    assert [when for when, _ in seen] == ["before", "behind"] * 6
    for (_, before), (_, behind) in zip(seen[::2], seen[1::2], strict=True):
        assert not np.array_equal(before, behind)
    for (_, behind), (_, before) in zip(seen[1:-1:2], seen[2::2], strict=True):
        assert np.array_equal(behind, before)
