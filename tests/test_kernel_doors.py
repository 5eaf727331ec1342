"""Kernels check at their doors what their inner loops rely on: a wrong length is a ValueError, no access beside."""

import ast
import contextlib
import pathlib
import sys

import numpy as np
import pytest

from minicnn._ext import (
    activation,
    augment,
    batch,
    compose,
    conv,
    dense,
    dropconnect,
    dropout,
    gaussian,
    loss,
    norm,
    optim,
    penalty,
    pool,
    reshape,
)
from minicnn._ext.machinery import runtime

DTYPES = [np.float32, np.float64]
DRAW = np.array([32768, 1, 0, 0, 0, 8], np.uint64)
ONE = np.ones(1)
RANGES = np.array([0.1, 0.9, 0.1, 0.3, -0.5, 0.5, 1, -1, 1])


def ints(*rows):
    return np.array(rows, np.int64)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def right():
    """{entry: (function, arguments)}: all arguments fit."""
    image, grown, kernel = zeros(2, 4, 4, 3), zeros(2, 6, 6, 3), zeros(3, 3, 3, 5)
    out, pooled = zeros(2, 4, 4, 5), zeros(2, 2, 2, 3)
    same, window = (1, 1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 0, 0)
    pieces, rules, limits = ints((0, 6, 0, 0), (6, 4, 1, 1)), ints((0, 4, 1, 2, 1, 1, 3)), np.ones(1)
    flat, squares, steps = [zeros(10) for _ in range(5)], np.zeros(2), np.zeros(1, np.int64)
    x, y, w, v3, v5 = zeros(4, 3), zeros(4, 5), zeros(3, 5), [zeros(3) for _ in range(8)], zeros(5)
    keep, x3 = zeros(4, dropout.words(3), dtype=np.uint32), zeros(4, 2, 3)
    flat3, kept = zeros(2, 48), zeros(2, dropout.block_words(48), dtype=np.uint32)
    labels, losses, weights = np.array([0, 4, 1, 2]), np.zeros(4), np.ones(4)
    step = flat[4], pieces, squares, steps, 0.1, 0.9, 0.9, 1e-7, 0.0, 1.0, 0.0, rules, limits
    return {
        "sgd": (optim.step, (optim.METHODS["sgd"], flat[0], None, None, None, *step)),
        "momentum": (optim.step, (optim.METHODS["momentum"], flat[0], flat[1], None, None, *step)),
        "adam": (optim.step, (optim.METHODS["adam"], *flat[:3], None, *step)),
        "amsgrad": (optim.step, (optim.METHODS["amsgrad"], *flat[:4], *step)),
        "rmsprop": (optim.step, (optim.METHODS["rmsprop"], *flat[:4], *step)),
        "constrain": (optim.constrain, (flat[0], rules, limits)),
        "penalty.value": (penalty.value, (flat[0], pieces[:, :2].copy(), np.ones((2, 2)))),
        "penalty.add_gradients": (penalty.add_gradients, (flat[0], flat[1], pieces[:, :2].copy(), np.ones((2, 2)))),
        "of_samples": (penalty.of_samples, (x, 0.1, 0.1, losses)),
        "slope": (penalty.slope, (x, x + 1, 0.1, 0.1, x.copy())),
        "pad": (reshape.pad, (image, grown, 1, 2)),
        "crop": (reshape.crop, (grown, image, 1, 2)),
        "rescale": (reshape.rescale, (x, 1.0, 0.0, x.copy())),
        "divide": (reshape.divide, (x, np.ones(1), x.copy())),
        "upsample": (reshape.upsample, (zeros(2, 3, 2, 5), zeros(2, 6, 6, 5), (2, 3), True)),
        "upsample_backward": (reshape.upsample_backward, (zeros(2, 6, 6, 5), zeros(2, 3, 2, 5), (2, 3), True)),
        "permute": (reshape.permute, (zeros(4, 24), zeros(4, 24), (2, 3, 4), (2, 0, 1))),
        "compose.add": (compose.add, (x, x + 1, 1, x.copy())),
        "copy_channels": (compose.copy_channels, (x3, zeros(4, 2, 5), 2)),
        "take_channels": (compose.take_channels, (zeros(4, 2, 5), 2, x3)),
        "gather": (batch.gather, (y, np.array([3, 0]), zeros(2, 5))),
        "gather_labels": (batch.gather_labels, (labels, np.array([3, 0]), np.zeros(2, np.int64))),
        "conv.forward": (conv.forward, (image, kernel, v5, out, same)),
        "conv.backward_input": (conv.backward_input, (out, kernel, image, same)),
        "conv.backward_params": (conv.backward_params, (image, out, kernel, v5, same)),
        "conv.transposed": (conv.backward_input, (out, kernel, image, same, 0, v3[0])),
        "conv.transposed_params": (conv.backward_params, (image, out, kernel, v3[0], same, 0, True)),
        "max_forward": (pool.max_forward, (image, pooled, zeros(2, 2, 2, 3, dtype=np.uint8), window)),
        "max_backward": (pool.max_backward, (pooled, zeros(2, 2, 2, 3, dtype=np.uint8), image, window)),
        "average_forward": (pool.average_forward, (image, pooled, window)),
        "average_backward": (pool.average_backward, (pooled, image, window)),
        "dense.forward": (dense.forward, (x, w, v5, y)),
        "dense.backward": (dense.backward, (x, w, y, w.copy(), v5, x.copy())),
        "dropconnect.forward": (dropconnect.forward, (x, w, v5, y, DRAW, ONE)),
        "dropconnect.backward": (dropconnect.backward, (x, w, y, w.copy(), v5, x.copy(), DRAW, ONE)),
        "dropout.forward": (dropout.forward, (x, keep, x.copy(), DRAW, ONE)),
        "dropout.backward": (dropout.backward, (x, keep, x.copy(), DRAW, ONE)),
        "dropout.alpha": (dropout.forward, (x, keep, x.copy(), DRAW, ONE, None, True)),
        "dropout.blocks": (dropout.blocks, (flat3, kept, flat3.copy(), DRAW, (4, 4, 3), 2, True)),
        "dropout.scale": (dropout.scale, (x, ONE, x.copy())),
        "gaussian": (gaussian.multiply, (x, x.copy(), DRAW, ONE)),
        "gaussian.add": (gaussian.add, (x, x.copy(), DRAW, ONE)),
        "move": (augment.move, (image, image.copy(), DRAW, RANGES, augment.ROTATION, augment.WRAP, True, 0.0)),
        "move_backward": (
            augment.move_backward,
            (image, image.copy(), DRAW, RANGES, augment.ROTATION, augment.WRAP, True),
        ),
        "augment.crop": (augment.move, (grown, image, DRAW, RANGES, augment.CROP, augment.WRAP, False, 0.0)),
        "maps": (augment.maps, (np.zeros((3, 6)), DRAW, RANGES, augment.ZOOM, (4, 4), (4, 4))),
        "colour": (augment.colour, (image, image.copy(), DRAW, RANGES, np.ones(3), augment.CONTRAST)),
        "colour_backward": (
            augment.colour_backward,
            (image, image.copy(), image.copy(), DRAW, RANGES, augment.CONTRAST),
        ),
        "factors": (augment.factors, (np.zeros(3), DRAW, RANGES)),
        "erase": (augment.erase, (image, image.copy(), DRAW, RANGES, np.ones(3), np.ones(3))),
        "erase_backward": (augment.erase_backward, (image, image.copy(), DRAW, RANGES)),
        "boxes": (augment.boxes, (np.zeros((3, 4)), DRAW, RANGES, (4, 4))),
        "activation.forward": (activation.forward, ((1, 0.0, 0.0, 0.0), x, x.copy())),
        "activation.backward": (activation.backward, ((1, 0.0, 0.0, 0.0), x, x.copy(), x.copy())),
        "softmax": (activation.softmax, (x3, x3.copy())),
        "softmax_backward": (activation.softmax_backward, (x3, x3.copy(), x3.copy())),
        "log_softmax": (activation.log_softmax, (x3, x3.copy())),
        "log_softmax_backward": (activation.log_softmax_backward, (x3, x3.copy(), x3.copy())),
        "prelu": (activation.prelu, (x, v3[0], np.arange(3), x.copy())),
        "prelu_backward": (activation.prelu_backward, (x, x.copy(), v3[0], np.arange(3), v3[1], x.copy())),
        "norm.training": (norm.forward_training, (x3, v3[0], v3[1], 1e-3, 0.9, *v3[2:6], x3.copy())),
        "norm.forward": (norm.forward, (x3, v3[0], v3[1], 1e-3, v3[2], v3[3], x3.copy())),
        "norm.backward": (norm.backward, (x3, x3.copy(), *v3[:5], x3.copy())),
        "norm.rows": (norm.normalize_samples, (x3, 0, v3[0], v3[1], 1e-3, zeros(4, 2, 3), x3.copy())),
        "norm.groups": (norm.normalize_samples, (x3, 3, v3[0], v3[1], 1e-3, zeros(4, 3, 3), x3.copy())),
        "norm.rows_backward": (
            norm.normalize_samples_backward,
            (x3, x3.copy(), 0, v3[0], zeros(4, 2, 3), v3[1], v3[2], x3.copy()),
        ),
        "norm.groups_backward": (
            norm.normalize_samples_backward,
            (x3, x3.copy(), 3, v3[0], zeros(4, 3, 3), v3[1], v3[2], x3.copy()),
        ),
        "labels": (loss.softmax_crossentropy, (y, labels, None, weights, 1.0, 0.0, True, y.copy(), losses)),
        "targets": (loss.softmax_crossentropy, (y, None, y.copy(), weights, 1.0, 0.0, True, y.copy(), losses)),
        "elementwise": (
            loss.elementwise,
            (0, y, y.copy(), weights, 1.0, 0.0, 1.0, 2.0, 1.0, 1.0, y.copy(), losses),
        ),
        "rows": (
            loss.rows,
            (1, y, labels, None, weights, 1.0, 0.0, 2.0, np.ones(5), True, y.copy(), losses),
        ),
        "rows of targets": (
            loss.rows,
            (3, y, None, y.copy(), weights, 1.0, 0.0, 0.0, np.ones(5), False, y.copy(), losses),
        ),
        "in_top": (loss.in_top, (y, labels, 1, np.zeros(4, np.uint8))),
    }


ENTRIES = list(right())
IMAGES = {(argument, axis) for argument in (0, 1, 2, 3) for axis in (1, 2)}
MEANING = {  # (argument, axis) whose length may be another: fewer pieces, larger images, windows cut off by their end
    **{entry: {(6, 0), (7, 0)} for entry in ("sgd", "momentum", "adam", "amsgrad", "rmsprop")},
    "constrain": {(0, 0)},
    "penalty.value": {(0, 0)},
    "of_samples": {(0, 1)},
    "pad": IMAGES,
    "augment.crop": IMAGES,
    "maps": {(0, 0)},
    "factors": {(0, 0)},
    "boxes": {(0, 0)},
    "crop": IMAGES,
    "copy_channels": {(0, 2), (1, 2)},
    "take_channels": {(0, 2), (2, 2)},
    "gather": {(0, 0)},
    "gather_labels": {(0, 0)},
    "conv.forward": IMAGES | {(1, 0), (1, 1)},
    "conv.backward_input": IMAGES | {(1, 0), (1, 1)},
    "conv.backward_params": IMAGES | {(2, 0), (2, 1)},
    "conv.transposed": IMAGES | {(1, 0), (1, 1)},
    "conv.transposed_params": IMAGES | {(2, 0), (2, 1)},
    "max_forward": {(0, 1), (0, 2)},
    "max_backward": {(2, 1), (2, 2)},
    "average_forward": IMAGES,
    "average_backward": IMAGES,
    "in_top": {(0, 1)},
    "prelu": {(1, 0)},
}


def lengths_to_spoil(arguments):
    for place, value in enumerate(arguments):
        if isinstance(value, np.ndarray):
            for axis, length in enumerate(value.shape):
                for other in {0, length - 1, length + 1} - {length}:
                    yield place, axis, other


def other_length(array, axis, length):
    shape = list(array.shape)
    shape[axis] = length
    return np.zeros(shape, array.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_length_is_checked(entry, dtype):
    """One axis of one array at a time is shorter, longer or empty: refused, unless the call may have a meaning."""
    function, arguments = right()[entry]
    arguments = [a.astype(dtype) if getattr(a, "dtype", None) == np.float32 else a for a in arguments]
    function(*arguments)
    for place, axis, length in lengths_to_spoil(arguments):
        wrong = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        wrong[place] = other_length(arguments[place], axis, length)
        may_differ = (place, axis) in MEANING.get(entry, ())
        with contextlib.suppress(ValueError) if may_differ else refused():
            function(*wrong)


def refused():
    return pytest.raises(ValueError, match=r"^kernel: ")


def may_be_none(function):
    """Of every argument, what the stub says."""
    stub = pathlib.Path(sys.modules[function.__module__].__file__).parent / f"{function.__module__.split('.')[-1]}.pyi"
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            return ["None" in ast.unparse(argument.annotation) for argument in node.args.args]
    raise AssertionError(f"{stub} has no {function.__name__}")


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_array_is_one_of_its_type(entry):
    """None, another type and every other element are refused, one array at a time; no address is made of them."""
    function, arguments = right()[entry]
    optional, several = may_be_none(function), sum(getattr(a, "dtype", None) == np.float32 for a in arguments) > 1
    for place, value in enumerate(arguments):
        if not isinstance(value, np.ndarray):
            continue

        def call(other, place=place):
            return function(*arguments[:place], other, *arguments[place + 1 :])

        with contextlib.suppress(ValueError) if optional[place] else pytest.raises(TypeError, match=r"not be None$"):
            call(None)
        swapped = value.dtype.newbyteorder() if value.itemsize > 1 else np.int16
        for wrong in (zeros(*value.shape, dtype=np.int16), zeros(*value.shape, dtype=swapped), "text"):
            with pytest.raises((TypeError, ValueError)):
                call(wrong)
        if value.dtype == np.float32 and several and entry != "gather":  # which casts
            with pytest.raises(ValueError, match=r"^Buffer dtype mismatch"):
                call(value.astype(np.float64))
        with pytest.raises(ValueError, match="contiguous") if value.size > 1 else contextlib.nullcontext():
            call(np.zeros((*value.shape, 2), value.dtype)[..., 0])


@pytest.mark.parametrize(
    ("dtype", "letter"), [(np.float16, "e"), (np.longdouble, "g"), (np.int64, "l|q"), (bool, r"\?")]
)
def test_only_two_types_of_numbers(dtype, letter):
    x = zeros(4, 3, dtype=dtype)
    with pytest.raises(
        TypeError, match=rf"^kernel: arrays must hold float32 or float64; got numbers of format '{letter}'$"
    ):
        gaussian.multiply(x, x.copy(), DRAW, ONE)


def test_the_winners_are_written_only_where_they_may_be():
    function, arguments = right()["max_forward"]
    arguments[2].flags.writeable = False
    with refused():
        function(*arguments)


BAD_POOLS = [(0, 2, 2, 2, 0, 0), (2, -1, 2, 2, 0, 0), (2, 2, 0, 2, 0, 0), (2, 2, 2, -2, 0, 0), (2, 2, 2, 2, -1, 0),
             (2, 2, 2, 2, 0, -3), (2, 2, 2, 2, 2, 0), (2, 2, 5, 2, 0, 0), (2, 2, 2**62, 2, 0, 0),
             (2**62, 2, 2, 2, 0, 0), (2, 2, 2, 2**61 + 1, 0, 0)]  # fmt: skip


@pytest.mark.parametrize("geometry", BAD_POOLS)
@pytest.mark.parametrize("entry", ["max_forward", "max_backward", "average_forward", "average_backward"])
def test_windows_that_reach_beside_the_image(entry, geometry):
    function, arguments = right()[entry]
    with refused():
        function(*arguments[:-1], geometry)


def test_a_window_of_padding_alone():
    """An image without rows below a row of padding."""
    with refused():
        pool.average_forward(zeros(1, 0, 4, 3), zeros(1, 1, 4, 3), (2, 1, 1, 1, 1, 0))


BAD_CONVOLUTIONS = [(0, 1, 1, 1, 1, 1, 1), (1, -1, 1, 1, 1, 1, 1), (1, 1, -1, 1, 1, 1, 1), (1, 1, 1, -2**40, 1, 1, 1),
                    (1, 1, 1, 1, 0, 1, 1), (1, 1, 1, 1, 1, -1, 1), (1, 1, 1, 1, 1, 1, 0), (1, 1, 1, 1, 1, 1, -1),
                    (1, 1, 1, 1, 1, 1, 3), (2**62, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 2**62, 1),
                    (2**30, 2**30, 1, 1, 1, 1, 1), (1, 1, 2**40, 1, 1, 1, 1)]  # fmt: skip


@pytest.mark.parametrize("geometry", BAD_CONVOLUTIONS)
@pytest.mark.parametrize("entry", ["conv.forward", "conv.backward_input", "conv.backward_params"])
def test_convolutions_that_reach_beside_the_image(entry, geometry):
    function, arguments = right()[entry]
    with refused():
        function(*arguments[:-1], geometry)


@pytest.mark.parametrize("where", [(-1, 0), (0, -1), (3, 0), (0, 3), (-(10**6), 0), (2**63 - 1, 0), (0, -(2**63))])
def test_borders_that_do_not_fit(where):
    for entry in ("pad", "crop"):
        function, arguments = right()[entry]
        with refused():
            function(*arguments[:-2], *where)


@pytest.mark.parametrize("first", [-1, 3, 2**63 - 1, -(2**63)])
def test_channels_beside_the_pixel(first):
    x, y = zeros(4, 2, 3), zeros(4, 2, 5)
    with refused():
        compose.copy_channels(x, y, first)
    with refused():
        compose.take_channels(y, first, x)


@pytest.mark.parametrize("places", [[0, 1], [0, 1, 3], [0, -1, 2], [0, 1, 2**40], [], [0, 1, 2] * 2])
def test_places_that_are_none_of_alpha(places):
    x, alpha, places = zeros(4, 3), zeros(3), np.array(places, np.int64)
    with refused():
        activation.prelu(x, alpha, places, x.copy())
    with refused():
        activation.prelu_backward(x, x, alpha, places, alpha.copy(), x.copy())


@pytest.mark.parametrize("number", [-1, 6, 2**20])
def test_motions_and_colours_that_are_none(number):
    x = zeros(2, 4, 4, 3)
    for motion, fill in ((number, augment.WRAP), (augment.FLIP, number)):
        with refused():
            augment.move(x, x.copy(), DRAW, RANGES, motion, fill, True, 0.0)
        with refused():
            augment.move_backward(x, x.copy(), DRAW, RANGES, motion, fill, True)
    with refused():
        augment.maps(np.zeros((3, 6)), DRAW, RANGES, number, (4, 4), (4, 4))
    for entry, more in ((augment.colour, (x.copy(),)), (augment.colour_backward, (x.copy(), x.copy()))):
        with refused():
            entry(x, *more, DRAW, RANGES, *[np.ones(3)] * (entry is augment.colour), number)


@pytest.mark.parametrize("size", [(5, 4), (4, 0), (-1, 4)])
def test_crops_that_do_not_fit(size):
    for entry, arguments in ((augment.maps, (np.zeros((3, 6)),)), (augment.boxes, (np.zeros((3, 4)),))):
        with refused():
            motion = (augment.CROP, (4, 4), size) if entry is augment.maps else ((size[0] - 5, size[1]),)
            entry(*arguments, DRAW, RANGES, *motion)


@pytest.mark.parametrize("kind", [-1, len(activation.KINDS), 2**20])
def test_kinds_that_are_none(kind):
    x, w = zeros(4, 3), zeros(3, 3)
    for function, arguments in ((activation.forward, ()), (activation.backward, (x,))):
        with refused():
            function((kind, 0.0, 0.0, 0.0), x, *arguments, x.copy())
    with refused():
        dense.forward(x, w, None, x.copy(), (kind, 0.0, 0.0, 0.0))


def test_sums_with_other_activations():
    for kind in set(activation.KINDS.values()) - {activation.KINDS["linear"], activation.KINDS["relu"]}:
        with refused():
            compose.add(zeros(4, 3), zeros(4, 3), kind, zeros(4, 3))


@pytest.mark.parametrize("piece", [(-1, 2), (9, 2), (0, 11), (2**62, 1), (1, 2**63 - 1), (3, -1)])
@pytest.mark.parametrize("entry", ["sgd", "adam", "penalty.value", "penalty.add_gradients"])
def test_pieces_beside_the_vectors(entry, piece):
    function, arguments = right()[entry]
    arguments = list(arguments)
    place = next(i for i, a in enumerate(arguments) if getattr(a, "dtype", None) == np.int64)
    arguments[place][1, :2] = piece
    with refused():
        function(*arguments)


@pytest.mark.parametrize(
    "rule",
    [(-1, 1, 1, 1, 1, 1), (9, 1, 2, 1, 1, 1), (0, 1, 2, 2, 1, 3), (0, 2**32, 1, 2**32, 1, 1), (0, 1, -1, 1, 1, 1)],
)
@pytest.mark.parametrize("entry", ["sgd", "adam", "constrain"])
def test_rules_beside_the_vectors(entry, rule):
    function, (*rest, rules, limits) = right()[entry]
    with refused():
        function(*rest, ints((int(rules[0, 0]), *rule)), limits)
    with refused():
        function(*rest, rules, None)


@pytest.mark.parametrize("steps", [-1, 2**62, 2**63 - 1])
@pytest.mark.parametrize("entry", ["sgd", "adam"])
def test_counts_that_would_overflow(entry, steps):
    function, arguments = right()[entry]
    next(a for a in arguments if getattr(a, "shape", None) == (1,) and a.dtype == np.int64)[0] = steps
    with refused():
        function(*arguments)


NEEDED = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "amsgrad": 3, "nadam": 2, "adamax": 2, "rmsprop": 2,
          "adagrad": 1, "adadelta": 2}  # fmt: skip


@pytest.mark.parametrize("name", NEEDED)
def test_methods_without_their_slots(name):
    assert set(optim.METHODS) == set(NEEDED)
    function, (_, w, a, b, c, *rest) = right()["amsgrad"]
    for number in range(4):
        slots = [*(a, b, c)[:number], *[None] * (3 - number)]
        with contextlib.nullcontext() if number >= NEEDED[name] else refused():
            function(optim.METHODS[name], w, *slots, *rest)


def test_rmsprop_without_momentum():
    function, (method, w, a, _, c, *rest) = right()["rmsprop"]
    rest[5] = 0.0  # beta_1
    function(method, w, a, None, c, *rest)


@pytest.mark.parametrize("method", [-1, len(NEEDED), 2**31 - 1])
def test_methods_that_do_not_exist(method):
    function, (_, *rest) = right()["amsgrad"]
    with refused():
        function(method, *rest)


@pytest.mark.parametrize("label", [-1, 5, 2**40])
def test_labels_that_are_no_class(label):
    for entry, place in (("labels", 1), ("in_top", 1), ("rows", 2)):
        function, arguments = right()[entry]
        arguments[place][2] = label
        with refused():
            function(*arguments)


def test_either_labels_or_targets():
    function, (y, labels, _, *rest) = right()["labels"]
    for both in ((None, None), (labels, y.copy())):
        with refused():
            function(y, *both, *rest)


@pytest.mark.parametrize("axes", [((3, True), (2, True)), ((-1, True), (-3, True)), ((2**62 + 1, True), (3, True))])
def test_axes_that_are_not_those_of_a_sample(axes):
    function, (x, _, *rest) = right()["dropout.forward"]
    with refused():
        function(x, zeros(4, 1, dtype=np.uint32), *rest, (False, axes))


@pytest.mark.parametrize(("shape", "block"), [
    ((4, 4, 2), 2), ((4, 3, 3), 2), ((-4, -4, 3), 2), ((4, 4, 3), 5), ((4, 4, 3), 0), ((4, 4, 3), -1), ((2, 8, 3), 3),
    ((8, 2, 3), 3), ((0, 4, 3), 1), ((2**62, 4, 3), 2), ((4, 2**62, 3), 2), ((4, 4, 2**60 + 3), 2), ((4, 4, -3), 2),
])  # fmt: skip
def test_blocks_beside_the_image(shape, block):
    function, (x, keep, y, draw, *_) = right()["dropout.blocks"]
    with refused():
        function(x, keep, y, draw, shape, block, True)


def test_scratch_of_a_negative_size():
    with pytest.raises(MemoryError):
        runtime.scratch_is_aligned(-100)


@pytest.mark.parametrize(("sizes", "order"), [
    ((2, 3, 4), (0, 1)), ((2, 3, 4), (0, 1, 1)), ((2, 3, 4), (1, 2, 3)), ((2, 3, 3), (0, 1, 2)), ((), ()),
    ((2, -3, -4), (0, 1, 2)), ((0, 3, 4), (0, 1, 2)), ((2**62, 2**62, 24), (0, 1, 2)), ((1,) * 65, tuple(range(65))),
])  # fmt: skip
def test_permutations_are_checked(sizes, order):
    with refused():
        reshape.permute(zeros(4, 24), zeros(4, 24), sizes, order)


@pytest.mark.parametrize("size", [(0, 3), (2, -3), (2**31, 3), (2**62, 4)])
def test_factors_are_checked(size):
    for entry, arrays in ((reshape.upsample, (3, 2, 6, 6)), (reshape.upsample_backward, (6, 6, 3, 2))):
        with refused():
            entry(zeros(2, *arrays[:2], 5), zeros(2, *arrays[2:], 5), size, False)
