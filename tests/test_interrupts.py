"""Training that something stops, and a model that stays whole: bad numbers, Ctrl-C at any line, a second trainer."""

import contextlib
import gc
import itertools
import math
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from models import IMAGE, LABELS, ONE_HOT, Halve, Hook, Keep, X, chain, compiled, whole_state
from running import use_threads

import minicnn as mc
from minicnn import layers
from minicnn.callbacks import Callback

FIT = {"batch_size": 5, "epochs": 2, "verbose": 0}


@pytest.fixture(autouse=True)
def _nothing_called_by_the_collector():
    """hypothesis lets the garbage collector call it: an interrupt that comes there is lost, and is not ours to keep."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = callbacks


# ---- numbers that are not finite ----


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e39])
def test_an_input_that_is_not_finite(number):
    """Refused although a ReLU may hide it: the gradient of the kernel would be 0 * inf, and the model lost."""
    x = X.astype(np.float64)
    x[10, 2, 3, 1] = number
    for shuffle in (True, False):
        model, snapshots = compiled(), []
        step = mc.datasets.order(12, 1, 0).tolist().index(10) // 5 if shuffle else 2
        message = "x must be finite in float32; got NaN or infinity in sample 10$"
        before = whole_state(model)
        with pytest.raises(ValueError, match=f"^Sequential.fit: step {step} of epoch 0: {message}"):
            model.fit(x, LABELS, **FIT, shuffle=shuffle, callbacks=[Keep(snapshots)])
        assert len(snapshots) == step
        assert whole_state(model) == (snapshots or [before])[-1]
        with pytest.raises(ValueError, match=f"^Sequential.train_on_batch: {message}"):
            model.train_on_batch(x, LABELS)
    if number == 1e39:  # too large for float32 only
        assert compiled(dtype="float64").train_on_batch(x, LABELS)["loss"] > 0


class Spoiled(Halve):
    """Gives NaN from its seventh training forward on."""

    def __init__(self):
        self.state["step"] = 0

    def forward(self, x, training=False):
        self.state["step"] += training
        return x / 2 if self.state["step"] < 7 else x * np.nan


def test_a_loss_that_is_nan_stops_with_the_step_and_the_layer():
    parts = chain()
    model = mc.Sequential([*parts[:3], Spoiled(), *parts[3:]], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    snapshots = []
    message = (
        "^Sequential.fit: step 2 of epoch 1: the loss must stay finite; first not finite: the output of layer 3, "
        "Spoiled; got nan. Lower the learning rate, or set the optimiser's clipnorm$"
    )
    with pytest.raises(FloatingPointError, match=message):
        model.fit(X, LABELS, batch_size=3, epochs=2, verbose=0, callbacks=[Keep(snapshots)])
    assert len(snapshots) == 6
    assert whole_state(model) == snapshots[-1]
    assert model.training is False
    assert model.history.epoch == [0]


def test_spoiled_gives_six_good_outputs():
    """The test above depends on it: with 4 steps an epoch, the third of the second epoch is the first bad one."""
    model = mc.Sequential([Spoiled()])
    for n in range(8):
        assert np.isnan(model.forward(X, training=True)).all() == (n >= 6)


def test_a_loss_that_diverges():
    model = compiled(None, "mse", mc.optimizers.SGD(1e30))
    with pytest.raises(
        FloatingPointError, match=r"^Sequential.fit: step \d of epoch \d: the loss must stay finite; first not"
    ):
        model.fit(X, ONE_HOT, batch_size=5, epochs=50, verbose=0)
    own = compiled(None, lambda outputs, y: (math.inf, np.zeros_like(outputs)))
    before = whole_state(own)
    message = r"^Sequential.train_on_batch: .*: the loss itself: all layers give finite numbers; got inf. Lower"
    with pytest.raises(FloatingPointError, match=message):
        own.train_on_batch(X, LABELS)
    assert whole_state(own) == before


def test_a_gradient_that_cannot_be_clipped_changes_nothing():
    model = compiled(None, lambda o, y: (0.0, np.full_like(o, np.nan)), mc.optimizers.SGD(0.1, clipnorm=1.0))
    before = whole_state(model)
    with pytest.raises(FloatingPointError, match="Nothing was changed"):
        model.train_on_batch(X, LABELS)
    assert whole_state(model) == before


def test_a_batch_that_batch_normalisation_cannot_use():
    model = mc.Sequential([layers.Flatten(), layers.BatchNormalization(), layers.Dense(4)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.build(X.shape[1:]) or whole_state(model)
    with pytest.raises(
        ValueError, match=r"^BatchNormalization.forward: training needs at least two values of each channel"
    ):
        model.train_on_batch(X[:1], LABELS[:1])
    assert whole_state(model) == before


# ---- interrupted ----


def snapshots_of_every_step(**more):
    """The whole state before the first step, after it, after the second, ..."""
    model = compiled(**more)
    states = [whole_state(model)]
    model.fit(X, LABELS, **FIT, callbacks=[Keep(states)])
    return states


def assert_whole(model, states):
    assert whole_state(model) == states[model.optimizer.iterations]
    assert model.training is False
    assert np.isfinite(model.predict(X)).all()
    model.fit(X, LABELS, **FIT)  # not "being trained already"


def test_an_interrupt_at_every_line_of_a_step():
    """KeyboardInterrupt before every line of Python that three steps execute: no step is torn."""
    states = snapshots_of_every_step()
    line, interrupted_at = 0, set()
    while True:
        model = compiled()
        if not interrupt_at_line(model, line):
            break
        interrupted_at.add(model.optimizer.iterations)
        assert_whole(model, states)
        line += 1
    assert line > 300
    assert interrupted_at == {0, 1, 2, 3}


def interrupt_at_line(model, number):
    """Runs three steps of fit; True if they have as many lines and were interrupted before the one with this number."""
    count = 0
    step = mc.training.Step.run.__code__

    def trace_step(frame, event, argument):
        nonlocal count
        if event == "line":
            count += 1
            if count > number:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace_step

    def trace(frame, event, argument):
        inside = frame
        while inside is not None and inside.f_code is not step:
            inside = inside.f_back
        return trace_step if inside is not None else None

    before = sys.gettrace()
    gc.disable()  # what it calls is no line of the step, and an exception in there is lost
    sys.settrace(trace)
    try:
        model.fit(X, LABELS, batch_size=5, verbose=0)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
    return False


@pytest.mark.parametrize("where", ["callback", "loss", "metric", "layer"])
def test_an_interrupt_from_elsewhere(where):
    calls = []

    def interrupt():
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    def loss(outputs, y):
        if where == "loss":
            interrupt()
        return mc.losses.get("sparse_categorical_crossentropy")(outputs, y, from_logits=True)

    def metric(y, outputs):
        if where == "metric":
            interrupt()
        return 0.0

    class Stop(Halve):
        def backward(self, dy):
            if where == "layer":
                interrupt()
            return dy / 2

    def make():
        parts = chain(None)
        model = mc.Sequential([*parts[:4], Stop(), *parts[4:]], seed=1)
        model.build(IMAGE)
        model.compile(mc.optimizers.Adam(0.01), loss, [metric])
        return model

    model, twin, states = make(), make(), []
    twin.fit(X, LABELS, batch_size=5, verbose=0, callbacks=[Keep(states)])
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, LABELS, **FIT, callbacks=[Hook(lambda model: interrupt())] if where == "callback" else None)
    assert model.optimizer.iterations == (4 if where in ("callback", "metric") else 3)
    if model.optimizer.iterations == 3:
        assert whole_state(model) == states[2]
    assert model.history.epoch == [0]
    assert model.training is False
    model.fit(X, LABELS, **FIT)


def test_no_line_of_python_stands_between_a_model_and_its_release():
    """Signals are served between lines of Python; one there would leave the model "being trained" for ever."""
    model, lines = compiled(), []
    hold, before = model.engine.hold("fit"), sys.gettrace()
    sys.settrace(lambda frame, event, argument: lines.append(frame.f_code.co_name))
    try:
        with hold:
            pass
    finally:
        sys.settrace(before)
    assert lines == []
    model.train_on_batch(X, LABELS)


def test_an_interrupt_when_fit_puts_the_mode_back():
    model, calls = compiled(), []

    def at_the_end(frame, event, argument):
        if event == "return":
            calls.append(1)
            raise KeyboardInterrupt
        return at_the_end

    def trace(frame, event, argument):
        return at_the_end if frame.f_code is mc.training.Fit.train.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(X, LABELS, **FIT)
    finally:
        sys.settrace(before)
    assert calls
    assert model.training is False


INTERRUPTED = """
import signal, sys
sys.path.insert(0, {tests!r})
from models import *
signal.signal(signal.SIGINT, signal.default_int_handler)
model = compiled()

def ready(model):
    if model.optimizer.iterations == 20:
        print("training", flush=True)

try:
    model.fit(X, LABELS, batch_size=5, epochs=10**9, verbose=0, callbacks=[Hook(ready)])
except KeyboardInterrupt:
    twin = compiled()
    steps = model.optimizer.iterations
    epochs, rest = divmod(steps, 3)
    for epoch in range(epochs + 1):
        for xb, yb in list(mc.datasets.batches(X, LABELS, 5, 1, epoch))[: rest if epoch == epochs else None]:
            twin.train_on_batch(xb, yb)
    assert whole_state(model) == whole_state(twin), "a torn step"
    assert model.training is False
    model.fit(X, LABELS, epochs=1, verbose=0)
    print("whole after", steps if steps >= 20 else "too few")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to a process on Windows")
def test_ctrl_c():
    code = INTERRUPTED.format(tests=str(pathlib.Path(__file__).parent))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "training\n", process.stderr.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert re.fullmatch(r"whole after \d+\n", out)


def states_of_all_steps():
    """state(i): the whole state after i steps of ``fit`` with FIT's batches, for any i."""
    model = compiled()
    states, epochs = [whole_state(model)], itertools.count()

    def state(i):
        while len(states) <= i:
            for xb, yb in mc.datasets.batches(X, LABELS, 5, 1, next(epochs)):
                model.train_on_batch(xb, yb)
                states.append(whole_state(model))
        return states[i]

    return state


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers as POSIX has them")
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.long)])
def test_150_random_moments(threads):
    """KeyboardInterrupt out of a signal handler, as Ctrl-C raises it, at moments that a timer of CPU time chooses."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    use_threads(threads)
    rng, state, steps = random.Random(1), states_of_all_steps(), []
    before = signal.signal(signal.SIGPROF, interrupt)
    try:
        for _ in range(150):
            model = compiled()
            try:
                signal.setitimer(signal.ITIMER_PROF, rng.uniform(1e-5, 0.01))
                model.fit(X, LABELS, batch_size=5, epochs=10**4, verbose=0)
            except KeyboardInterrupt:
                steps.append(model.optimizer.iterations)
            assert whole_state(model) == state(steps[-1]), "a torn step"
            assert model.training is False
            model.train_on_batch(X, LABELS)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert len(steps) == 150
    assert len(set(steps)) > 5


class Broken(Callback):
    """Raises in one of the hooks, the third time."""

    def __init__(self, hook):
        self.left = 3

        def fail(*arguments):
            self.left -= 1
            if self.left == 0 or hook in ("on_train_begin", "on_train_end"):
                raise ZeroDivisionError(hook)

        setattr(self, hook, fail)


HOOKS = ("train_begin", "epoch_begin", "train_batch_begin", "train_batch_end", "epoch_end", "train_end")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_raises(hook):
    state, model = states_of_all_steps(), compiled()
    with pytest.raises(ZeroDivisionError, match=hook):
        model.fit(X, LABELS, batch_size=5, epochs=4, verbose=0, callbacks=[Broken(f"on_{hook}")])
    steps = {"train_begin": 0, "epoch_begin": 6, "train_batch_begin": 2, "train_batch_end": 3, "epoch_end": 9}
    assert model.optimizer.iterations == steps.get(hook, 12)
    assert_stopped(model, state)


def assert_stopped(model, state):
    assert whole_state(model) == state(model.optimizer.iterations)
    assert model.training is False
    model.fit(X, LABELS, **FIT)


@pytest.mark.parametrize("where", ["loss", "metric", "forward", "backward", "progress"])
def test_code_of_ones_own_that_raises(where, monkeypatch):
    """In the fifth step, which is then not done; or behind it, where a metric or the progress is reckoned."""
    calls = []

    def fail(place):
        calls.append(place)
        if place == where and calls.count(place) == 5:
            raise ZeroDivisionError(where)

    class Own(Halve):
        def forward(self, x, training=False):
            if training:
                fail("forward")
            return x / 2

        def backward(self, dy):
            fail("backward")
            return dy / 2

    def loss(outputs, y):
        fail("loss")
        return mc.losses.get("sparse_categorical_crossentropy")(outputs, y, from_logits=True)

    def metric(y, outputs):
        fail("metric")
        return 0.0

    def make():
        parts = chain(None)
        model = mc.Sequential([*parts[:4], Own(), *parts[4:]], seed=1)
        model.build(IMAGE)
        model.compile("adam", loss, [metric])
        return model

    twin, states, wanted = make(), [], where
    where = None
    states.append(whole_state(twin))
    twin.fit(X, LABELS, **FIT, callbacks=[Keep(states)])
    calls.clear()
    where, model = wanted, make()
    callbacks = [Hook(lambda model: fail("progress"))]
    with pytest.raises(ZeroDivisionError, match=where):
        model.fit(X, LABELS, **FIT, callbacks=callbacks)
    assert model.optimizer.iterations == (5 if where in ("metric", "progress") else 4)
    assert_stopped(model, states.__getitem__)


def test_a_generator_of_batches_that_raises():
    def batches():
        for number, batch in enumerate(mc.datasets.batches(X, LABELS, 5, 1, 0)):
            if number == 2:
                raise ZeroDivisionError("no more data")
            yield batch

    model, state = compiled().train(), states_of_all_steps()
    given = batches()
    for _ in range(2):
        model.train_on_batch(*next(given))
    with pytest.raises(ZeroDivisionError):
        model.train_on_batch(*next(given))
    assert whole_state(model) == state(2)
    assert model.training is True
    model.eval()
    assert_stopped(model, state)


class Unreadable:
    """Data that raise when they are looked at, as a file does that has gone."""

    def __len__(self):
        return 12

    def __array__(self, dtype=None, copy=None):
        raise ZeroDivisionError("no data")


def test_data_that_raise():
    model, state = compiled(), states_of_all_steps()
    for arguments in ((Unreadable(), LABELS), (X, Unreadable())):
        with pytest.raises(ZeroDivisionError):
            model.fit(*arguments, **FIT)
    with pytest.raises(ZeroDivisionError):
        model.predict(Unreadable())
    assert_stopped(model, state)


def test_an_initializer_that_raises():
    """The model is not half built: the next build starts again."""
    calls = []

    def values(shape, rng):
        calls.append(shape)
        if len(calls) == 1:
            raise ZeroDivisionError
        return rng.standard_normal(shape)

    def make(function):
        return mc.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3, kernel_initializer=function)])

    model, twin = make(values), make(lambda shape, rng: rng.standard_normal(shape))
    with pytest.raises(ZeroDivisionError):
        model.build(IMAGE)
    assert not model.built
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))


# ---- one trainer at a time ----


def test_two_threads_cannot_train_one_model():
    model, inside, go_on = compiled(), threading.Event(), threading.Event()

    def hold(model):
        inside.set()
        go_on.wait(60)

    thread = threading.Thread(target=lambda: model.fit(X, LABELS, batch_size=12, verbose=0, callbacks=[Hook(hold)]))
    thread.start()
    assert inside.wait(60)
    history = model.history
    try:
        for method in ("fit", "train_on_batch"):
            with pytest.raises(
                RuntimeError, match=rf"^Sequential.{method}: the model is being trained already, by another "
            ):
                getattr(model, method)(X, LABELS)
        for method, argument in (("forward", X), ("backward", np.zeros((12, 4), np.float32))):
            model.train()
            with pytest.raises(RuntimeError, match=rf"^Sequential.{method}: .* trained already, by another thread$"):
                getattr(model, method)(argument)
        model.eval()
        assert model.forward(X).shape == (12, 4)
        assert model.predict(X).shape == (12, 4)
        assert model.history is history
    finally:
        go_on.set()
        thread.join()
    assert history.epoch == [0]
    assert model.optimizer.iterations == 1
    model.fit(X, LABELS, verbose=0)


def test_a_callback_may_look_at_gradients():
    """Its thread holds the model already; the step that follows is the same but for the numbers that were drawn."""

    def look(model):
        _, gradient = model.loss(model.forward(X[:7], training=True), LABELS[:7])
        seen.append(model.backward(gradient))

    def draw(model):
        for layer in model.layers:
            layer.forward(np.zeros((7, *layer.input_shape), np.float32), training=True)

    looking, drawing, seen = compiled(None), compiled(None), []
    for model in (looking, drawing):
        model.layers[2].momentum = 1.0  # what is looked at leaves no trace in the moving statistics
    looking.fit(X, LABELS, **FIT, callbacks=[Hook(look)])
    drawing.fit(X, LABELS, **FIT, callbacks=[Hook(draw)])
    assert len(seen) == 6
    assert whole_state(looking) == whole_state(drawing)


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_a_callback_cannot_train_the_model(method):
    model, snapshots = compiled(), []

    def train(model):
        snapshots.append(whole_state(model))
        if len(snapshots) == 2:
            getattr(model, method)(X, LABELS)

    with pytest.raises(RuntimeError, match=rf"^Sequential.{method}: the model is being trained already"):
        model.fit(X, LABELS, **FIT, callbacks=[Hook(train)])
    assert whole_state(model) == snapshots[1]
    assert model.training is False
    model.fit(X, LABELS, **FIT)
