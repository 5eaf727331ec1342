"""What every layer promises (minicnn/layer.py): one battery over ``layers.__all__``.

Every layer is tried alone, and once in the body of a Residual and once in a Concurrent: what holds layers promises the
same as what it holds.
"""

import concurrent.futures
import copy
import hashlib
import inspect
import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from running import LAYOUTS, arrays_of, build, inputs, normal, run

import minicnn
from minicnn import constraints, initializers, layers, regularizers
from minicnn.layer import Layer, to_config
from minicnn.testing import gradcheck
from minicnn.tree import walk

IMAGE = (6, 7, 4)
SOME = layers.Conv2D(4, 3, padding="same", activation="tanh"), layers.Dropout(0.3, seed=1)
TABLE = {  # name: (arguments of the constructor, all other than the default, shape of a sample)
    "ELU": ({"alpha": 0.7}, (5, 3)),
    "GELU": ({}, (5, 3)),
    "HardSigmoid": ({}, (5, 3)),
    "HardSwish": ({}, (5, 3)),
    "LogSoftmax": ({}, (5, 3)),
    "PReLU": ({"alpha_initializer": "ones", "alpha_regularizer": {"name": "L2", "config": {"l2": 0.5}},
               "alpha_constraint": {"name": "MaxNorm", "config": {"max_value": 0.5, "axis": [0]}},
               "shared_axes": [2]}, IMAGE),
    "SELU": ({}, (5, 3)),
    "Softplus": ({}, (5, 3)),
    "Swish": ({}, (5, 3)),
    "Activation": ({"activation": "tanh"}, (7,)),
    "AlphaDropout": ({"rate": 0.4, "noise_shape": (None, 1, None), "seed": 3}, (5, 3)),
    "AveragePooling2D": (
        {"pool_size": (2, 3), "strides": (1, 2), "padding": ((1, 0), (2, 1)), "count_include_pad": True}, IMAGE,
    ),
    "BatchNormalization": (
        {"momentum": 0.9, "epsilon": 0.01, "center": True, "scale": True, "beta_initializer": "ones",
         "gamma_initializer": "he_normal", "moving_mean_initializer": "ones", "moving_variance_initializer": "ones",
         "beta_regularizer": {"name": "L2", "config": {"l2": 0.5}}, "gamma_regularizer": None, "beta_constraint": None,
         "gamma_constraint": {"name": "NonNeg", "config": {}}, "axis": 3}, IMAGE,
    ),
    "Chain": ({"layers": [to_config(one) for one in SOME]}, IMAGE),
    "Concurrent": ({"branches": [[], [to_config(one) for one in SOME], [to_config(layers.Conv2D(2, 1))]]}, IMAGE),
    "Conv2D": (
        {"filters": 6, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same", "dilation_rate": (1, 2),
         "groups": 2, "activation": "relu", "use_bias": True, "kernel_initializer": "he_normal",
         "bias_initializer": {"name": "RandomUniform", "config": {"minval": 0.0, "maxval": 0.1, "seed": 5}},
         "kernel_regularizer": {"name": "L2", "config": {"l2": 0.5}}, "kernel_constraint": None,
         "bias_regularizer": None, "activity_regularizer": {"name": "L1", "config": {"l1": 0.25}},
         "bias_constraint": {"name": "NonNeg", "config": {}}}, IMAGE,
    ),
    "Conv2DTranspose": (
        {"filters": 6, "kernel_size": (3, 2), "strides": (2, 1), "padding": ((0, 1), (1, 0)), "output_padding": (1, 0),
         "dilation_rate": (1, 2), "activation": "gelu", "use_bias": True, "kernel_initializer": "he_normal",
         "kernel_regularizer": {"name": "L2", "config": {"l2": 0.5}}, "kernel_constraint": None,
         "bias_regularizer": None, "activity_regularizer": {"name": "L1", "config": {"l1": 0.25}},
         "bias_constraint": {"name": "NonNeg", "config": {}}}, IMAGE,
    ),
    "Cropping2D": ({"cropping": ((1, 2), (0, 3))}, IMAGE),
    "Dense": (
        {"units": 5, "activation": "gelu", "kernel_initializer": "lecun_uniform", "bias_initializer": "random_normal",
         "kernel_regularizer": None,
         "kernel_constraint": {"name": "MaxNorm", "config": {"max_value": 3.0, "axis": [0]}},
         "bias_regularizer": {"name": "L1", "config": {"l1": 0.5}},
         "activity_regularizer": {"name": "L1L2", "config": {"l1": 0.5, "l2": 0.75}},
         "bias_constraint": {"name": "UnitNorm", "config": {"axis": None}}}, (9,),
    ),
    "DepthwiseConv2D": (
        {"kernel_size": (3, 2), "strides": (2, 1), "padding": ((2, 0), (1, 1)), "depth_multiplier": 2,
         "dilation_rate": (1, 2), "activation": "gelu", "use_bias": True, "depthwise_initializer": "he_normal",
         "bias_initializer": "ones",
         "depthwise_regularizer": {"name": "L2", "config": {"l2": 0.5}}, "bias_regularizer": None,
         "activity_regularizer": {"name": "L1", "config": {"l1": 0.25}},
         "depthwise_constraint": {"name": "MaxNorm", "config": {"max_value": 3.0, "axis": [0, 1]}},
         "bias_constraint": {"name": "NonNeg", "config": {}}}, IMAGE,
    ),
    "DropBlock2D": ({"rate": 0.4, "block_size": 3, "seed": 3}, IMAGE),
    "DropConnect": (
        {"units": 5, "rate": 0.4, "mode": "classical", "seed": 3, "activation": "gelu",
         "kernel_initializer": {"name": "Orthogonal", "config": {"gain": 0.5, "seed": None}},
         "bias_initializer": {"name": "Constant", "config": {"value": 0.25}},
         "kernel_regularizer": {"name": "L2", "config": {"l2": 0.5}},
         "kernel_constraint": {"name": "MaxNorm", "config": {"max_value": 3.0, "axis": [0]}}, "bias_regularizer": None,
         "activity_regularizer": {"name": "L1", "config": {"l1": 0.5}}, "bias_constraint": None}, (9,),
    ),
    "Dropout": ({"rate": 0.4, "mode": "classical", "seed": 3, "noise_shape": (None, 1, None)}, (5, 3)),
    "Flatten": ({}, IMAGE),
    "GaussianDropout": ({"rate": 0.4, "seed": 3}, (5, 3)),
    "GaussianNoise": ({"stddev": 0.4, "seed": 3}, (5, 3)),
    "GlobalAveragePooling2D": ({}, IMAGE),
    "GlobalMaxPooling2D": ({}, IMAGE),
    "GroupNormalization": (
        {"groups": 2, "axis": 3, "epsilon": 0.01, "center": False, "scale": True, "beta_initializer": "ones",
         "gamma_initializer": "lecun_normal", "beta_regularizer": None,
         "gamma_regularizer": {"name": "L1", "config": {"l1": 0.5}}, "beta_constraint": None,
         "gamma_constraint": {"name": "NonNeg", "config": {}}}, IMAGE,
    ),
    "LayerNormalization": (
        {"axis": [2, 3], "epsilon": 0.01, "center": True, "scale": False, "beta_initializer": "ones",
         "gamma_initializer": "zeros", "beta_regularizer": {"name": "L2", "config": {"l2": 0.5}},
         "gamma_regularizer": None, "beta_constraint": {"name": "NonNeg", "config": {}}, "gamma_constraint": None},
        IMAGE,
    ),
    "LeakyReLU": ({"slope": 0.3}, (5, 3)),
    "MaxPooling2D": ({"pool_size": 3, "strides": (1, 2), "padding": "same"}, IMAGE),
    "Normalization": ({"axis": [3], "mean": [-1.5], "variance": [[[0.3]]], "invert": True}, IMAGE),
    "Permute": ({"dims": (3, 1, 2)}, (4, 3, 5)),
    "RandomBrightness": ({"factor": (-0.2, 0.3), "value_range": None, "seed": 3}, IMAGE),
    "RandomContrast": ({"factor": (0.3, 0.6), "value_range": None, "seed": 3}, IMAGE),
    "RandomCrop": ({"height": 4, "width": 5, "seed": 3}, IMAGE),
    "RandomErasing": (
        {"factor": (0.5, 0.9), "scale": (0.1, 0.4), "fill_value": 0.5, "value_range": None, "seed": 3,
         "ratio": (0.5, 1.5)}, IMAGE,
    ),
    "RandomFlip": ({"mode": "horizontal", "seed": 3}, IMAGE),
    "RandomRotation": (
        {"factor": (-0.1, 0.2), "fill_mode": "wrap", "interpolation": "nearest", "seed": 3, "fill_value": 0.5}, IMAGE,
    ),
    "RandomTranslation": (
        {"height_factor": (-0.1, 0.3), "width_factor": 0.2, "fill_mode": "nearest", "interpolation": "nearest",
         "seed": 3, "fill_value": 0.5}, IMAGE,
    ),
    "RandomZoom": (
        {"height_factor": (-0.1, 0.3), "width_factor": 0.2, "fill_mode": "constant", "interpolation": "nearest",
         "seed": 3, "fill_value": 0.5}, IMAGE,
    ),
    "ReLU": ({"max_value": 1.5, "negative_slope": 0.25, "threshold": 0.5}, (5, 3)),
    "Rescaling": ({"scale": 0.5, "offset": -1.0}, (5, 3)),
    "Residual": (
        {"body": [to_config(one) for one in SOME], "shortcut": [to_config(layers.Conv2D(4, 1))], "activation": "gelu"},
        IMAGE,
    ),
    "Resizing": (
        {"height": 4, "width": 9, "interpolation": "nearest", "crop_to_aspect_ratio": True}, IMAGE,
    ),
    "Reshape": ({"target_shape": (3, -1)}, (4, 6)),
    "SeparableConv2D": (
        {"filters": 5, "kernel_size": 3, "strides": (1, 2), "padding": "same", "dilation_rate": 1,
         "depth_multiplier": 2, "activation": "tanh", "use_bias": True, "depthwise_initializer": "he_normal",
         "bias_initializer": "ones", "pointwise_initializer": "lecun_uniform",
         "depthwise_regularizer": {"name": "L2", "config": {"l2": 0.5}},
         "pointwise_regularizer": {"name": "L1", "config": {"l1": 0.5}}, "bias_regularizer": None,
         "activity_regularizer": {"name": "L1", "config": {"l1": 0.25}},
         "depthwise_constraint": {"name": "MaxNorm", "config": {"max_value": 3.0, "axis": [0, 1]}},
         "pointwise_constraint": None, "bias_constraint": {"name": "NonNeg", "config": {}}}, IMAGE,
    ),
    "Sigmoid": ({}, (5, 3)),
    "Softmax": ({}, (5, 3)),
    "SpatialDropout2D": ({"rate": 0.4, "mode": "classical", "seed": 3}, IMAGE),
    "StochasticDepth": ({"rate": 0.4, "mode": "batch", "seed": 3}, IMAGE),
    "Tanh": ({}, (5, 3)),
    "Temperature": ({"temperature": 1.7}, (5, 3)),
    "UpSampling2D": ({"size": (2, 3), "interpolation": "bilinear"}, IMAGE),
    "ZeroPadding2D": ({"padding": ((1, 2), (0, 3))}, IMAGE),
}  # fmt: skip
NONE = np.random.default_rng(0)

PLACES = {  # two of a layer, in places where their outputs must have the same shape
    "Residual": lambda a, b, **more: layers.Residual([a], [b], **more),
    "Concurrent": lambda a, b, **more: layers.Concurrent([[a], [b]], **more),
}
PLACED = [f"{name} in {place}" for name in sorted(TABLE) for place in PLACES]

every_layer = pytest.mark.parametrize("name", sorted(TABLE))
everywhere = pytest.mark.parametrize("name", [*sorted(TABLE), *PLACED])
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])


def new(name, **more):
    """A layer of the table, or of ``PLACED``."""
    name, _, place = name.partition(" in ")
    if place:
        return PLACES[place](new(name), new(name), **more)
    return getattr(layers, name)(**TABLE[name][0], **more)


def shape_of(name):
    return TABLE[name.partition(" in ")[0]][1]


def built(name, **more):
    return build(new(name, **more), shape_of(name))


def every(layer):
    """The layer and the layers in it."""
    return [layer, *(one for _, one in walk(layer.parts))]


def samples(layer, n=4, dtype="float32"):
    return inputs(layer, n, dtype)


def test_the_table_is_complete():
    assert set(TABLE) == set(layers.__all__)


@every_layer
def test_is_a_layer_with_a_docstring(name):
    cls = getattr(layers, name)
    assert issubclass(cls, Layer)
    assert cls.__name__ == name
    assert cls.__doc__
    assert cls.__doc__ != Layer.__doc__


# ---- construction and configuration ----


@every_layer
def test_configuration_is_the_constructor(name):
    for layer in (new(name), built(name, dtype="float64")):
        config = json.loads(json.dumps(layer.get_config()))
        assert set(config) == set(inspect.signature(type(layer).__init__).parameters) - {"self"}
        again = type(layer)(**config)
        assert json.loads(json.dumps(again.get_config())) == config
        for argument, value in TABLE[name][0].items():
            plain, found = json.loads(json.dumps(value)), _as_given(config[argument])
            assert _as_given(plain) == found or found == [value, value]
    x, dy = samples(layer, dtype="float64")
    build(again, shape_of(name))
    for one, other in zip(run(layer, x, dy).values(), run(again, x, dy).values(), strict=True):
        assert_same_bits(one, other)


def _as_given(value):
    """A configuration without what a layer hands down to the layers in it."""
    if isinstance(value, dict):
        return {key: _as_given(one) for key, one in value.items() if key not in ("dtype", "algorithm")}
    return [_as_given(one) for one in value] if isinstance(value, list) else value


@every_layer
def test_repr_is_the_constructor(name):
    layer = new(name)
    names = vars(layers) | vars(initializers) | vars(regularizers) | vars(constraints)
    assert eval(repr(layer), names).get_config() == layer.get_config()


@every_layer
def test_unknown_keyword_is_corrected(name):
    with pytest.raises(TypeError, match=f"^{name}: the keywords are .*; got `dtyp`. Did you mean `dtype`\\?$"):
        new(name, dtyp="float32")
    with pytest.raises(TypeError, match=f"^{name}: the keywords are .*; got `zzz`$"):
        new(name, zzz=1)


@every_layer
def test_wrong_dtype(name):
    for dtype in ("float16", "int32", "flaot32", np.complex64, 3):
        message = f"^{name}: dtype must be 'float32' or 'float64'; got {re.escape(repr(dtype))}$"
        with pytest.raises(ValueError, match=message):
            new(name, dtype=dtype)


# ---- build ----


@everywhere
def test_build_declares_the_real_shape(name):
    layer = new(name)
    assert layer.input_shape is None
    assert layer.output_shape is None
    shape = layer.build(shape_of(name), NONE)
    assert layer.input_shape == shape_of(name)
    assert layer.output_shape == shape
    assert all(type(axis) is int for axis in shape)
    assert type(layer.multiply_adds()) is int
    assert layer.multiply_adds() >= 0
    for n in (1, 4):
        assert layer.forward(np.zeros((n, *layer.input_shape))).shape == (n, *shape)
    assert new(name).build((None, *shape_of(name)), NONE) == shape  # Keras's spelling
    assert new(name).build(list(shape_of(name)), NONE) == shape


@everywhere
def test_params_and_grads_are_twins(name):
    layer = built(name)
    gradients = dict(arrays_of(layer, "grads"))
    assert [key for key, _ in arrays_of(layer, "params")] == list(gradients)
    for key, values in arrays_of(layer, "params"):
        assert gradients[key].shape == values.shape
        assert gradients[key].dtype == values.dtype == layer.dtype
        assert values.flags.c_contiguous
        assert values.flags.writeable
    twin = new(name)
    twin.build(shape_of(name), np.random.default_rng(5))
    other = new(name)
    other.build(shape_of(name), np.random.default_rng(5))
    for (_, one), (_, more) in zip(arrays_of(twin, "params"), arrays_of(other, "params"), strict=True):
        assert_same_bits(one, more)


@every_layer
@pytest.mark.parametrize("shape", [(0,), (3, -1), (2.5,), "abc", (3, "x"), None])
def test_build_refuses_what_is_no_shape(name, shape):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: .*; got "):
        new(name).build(shape, NONE)


# ---- forward and backward ----


@everywhere
@both_types
def test_outputs_have_the_type_of_the_layer(name, dtype):
    layer = built(name, dtype=dtype)
    x, dy = samples(layer)
    for kind in ("float16", "float32", "float64", "uint8", "int64", "bool"):
        got = run(layer, (10 * x).astype(kind), dy.astype(kind))
        assert all(array.dtype == layer.dtype == np.dtype(dtype) for array in got.values())
        assert all(array.flags.c_contiguous and array.flags.writeable for array in got.values())
    assert new(name).dtype is None
    assert built(name).dtype == np.float32


@everywhere
@both_types
def test_gradient_by_finite_differences(name, dtype):
    layer = built(name, dtype=dtype)
    assert gradcheck(layer, normal((3, *layer.input_shape)))


@everywhere
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_bits_do_not_depend_on_the_layout(name, layout):
    x, dy = samples(built(name))
    for one, other in zip(run(built(name), x, dy).values(), run(built(name), x, dy, layout).values(), strict=True):
        assert_same_bits(one, other)


@everywhere
def test_never_writes_into_x_or_dy(name):
    layer = built(name)
    x, dy = samples(layer)
    before = x.copy(), dy.copy()
    run(layer, x, dy)
    layer.forward(x)
    layer.forward(x, training=True)
    layer.backward_params(dy)
    assert_same_bits(x, before[0])
    assert_same_bits(dy, before[1])
    x.flags.writeable = dy.flags.writeable = False
    run(layer, x, dy)


@everywhere
def test_what_is_returned_is_the_callers(name):
    """No two calls share memory, nor a call with its argument; what the caller does to y and dx hurts nobody."""
    layer, x = built(name), samples(built(name))[0]
    dy = samples(layer)[1]
    want = run(built(name), x, dy)
    y = layer.forward(x, training=True)
    returned = [x, dy, y, layer.forward(x), layer.forward(x)]
    assert_same_bits(y, want["y"])
    y[...] = np.nan
    dx = layer.backward(dy)
    assert_same_bits(dx, want["dx"])
    for key, gradient in arrays_of(layer, "grads"):
        assert_same_bits(gradient, want[key])
    layer.forward(x, training=True)
    held = [array for kind in ("params", "grads") for _, array in arrays_of(layer, kind)]
    returned += [dx, layer.backward(dy), *held]
    for i, one in enumerate(returned):
        assert not any(np.shares_memory(one, other) for other in returned[:i])


@everywhere
def test_evaluation_keeps_nothing_and_changes_nothing(name):
    layer = built(name)
    x, dy = samples(layer)
    want = run(built(name), x, dy)
    before = pickle.dumps(layer)
    layer.forward(x)
    assert pickle.dumps(layer) == before
    y = layer.forward(x, training=True)
    between = pickle.dumps(layer)
    layer.forward(normal((9, *layer.input_shape), "float32", 5))
    assert pickle.dumps(layer) == between
    assert_same_bits(y, want["y"])
    assert_same_bits(layer.backward(dy), want["dx"])
    for key, gradient in arrays_of(layer, "grads"):
        assert_same_bits(gradient, want[key])


@everywhere
def test_grads_are_overwritten(name):
    layer = built(name)
    x, dy = samples(layer)
    for fill in (0.0, 1e6, np.nan):
        for _, gradient in arrays_of(layer, "grads"):
            gradient[...] = fill
        layer.forward(x, training=True)
        layer.backward(dy)
        found = {key: gradient.copy() for key, gradient in arrays_of(layer, "grads")}
        for one in every(layer):
            if hasattr(one, "freeze_mask"):
                one.freeze_mask()
        layer.forward(x, training=True)
        layer.backward_params(dy)
        for key, gradient in arrays_of(layer, "grads"):
            assert_same_bits(gradient, found[key])
            assert np.isfinite(gradient).all()


@everywhere
def test_a_sample_does_not_depend_on_its_neighbours(name):
    """In evaluation, to the bit: alone, in a batch of five, and in another place of it."""
    layer, x = built(name), samples(built(name), 5)[0]
    together = layer.forward(x)
    for i in range(5):
        assert_same_bits(layer.forward(x[i : i + 1]), together[i : i + 1])
    assert_same_bits(layer.forward(x[::-1]), np.ascontiguousarray(together[::-1]))


@everywhere
@both_types
def test_a_batch_of_none(name, dtype):
    layer = built(name, dtype=dtype)
    x, dy = samples(layer, 0)
    assert layer.forward(x).shape == (0, *layer.output_shape)
    if name.startswith("BatchNormalization"):
        with pytest.raises(ValueError, match="at least two values"):
            layer.forward(x, training=True)
        return
    got = run(layer, x, dy)
    assert got["y"].shape == dy.shape
    assert got["dx"].shape == x.shape
    assert all((got[key] == 0).all() for key, _ in arrays_of(layer, "grads"))


@everywhere
def test_a_batch_of_one(name):
    layer = built(name)
    got = run(layer, *samples(layer, 1))
    assert all(np.isfinite(array).all() for array in got.values())


@everywhere
def test_many_threads_may_evaluate_at_once(name):
    layer, x = built(name), samples(built(name), 16)[0]
    want = layer.forward(x)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: layer.forward(x), range(20)):
            assert_same_bits(y, want)


# ---- the order of calls, and wrong arrays ----


@every_layer
def test_backward_needs_one_training_forward(name):
    layer = built(name)
    x, dy = samples(layer)
    message = f"^{name}.backward: needs forward\\(x, training=True\\) before it, once for every backward$"
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            layer.backward(dy)
        layer.forward(x)
        with pytest.raises(RuntimeError, match=message):
            layer.backward(dy)
        layer.forward(x, training=True)
        layer.backward(dy)
    with pytest.raises(RuntimeError, match=message):
        layer.backward_params(dy)


@every_layer
def test_forward_needs_build(name):
    with pytest.raises(RuntimeError, match=f"^{name}: call build\\(input_shape, rng\\) before forward$"):
        new(name).forward(np.zeros((2, *shape_of(name))))


@every_layer
def test_wrong_shapes(name):
    layer = built(name)
    x, dy = samples(layer)
    shape = layer.input_shape
    wanted = re.escape(f"({', '.join(['N', *map(str, shape)])})")
    before = pickle.dumps(layer)
    longer = [(2, *shape, 1), (2, *shape[:-1], shape[-1] + 1), (2, shape[0] + 1, *shape[1:])]
    for other in (*longer, shape, (2, *shape[:-1]), ()):
        message = f"^{name}.forward: x must have shape {wanted}; got shape {re.escape(str(other))}$"
        for training in (False, True):
            with pytest.raises(ValueError, match=message):
                layer.forward(np.zeros(other), training=training)
    assert pickle.dumps(layer) == before
    layer.forward(x, training=True)
    for other in (dy[0], dy[..., None], np.concatenate([dy, dy], -1)):
        with pytest.raises(ValueError, match=f"^{name}.backward: dy must have shape .*; got shape"):
            layer.backward(other)
    with pytest.raises(ValueError, match=f"^{name}.backward: dy must have the 4 samples of forward; got 3$"):
        layer.backward(dy[:3])
    layer.backward(dy)  # none of these spoiled the step


@every_layer
@pytest.mark.parametrize(("make", "error"), [
    (lambda x: x.astype(str), TypeError), (lambda x: x.astype(object), TypeError), (lambda x: x + 1j, TypeError),
    (lambda x: np.full(x.shape, np.datetime64("2020")), TypeError), (lambda x: None, TypeError),
    (lambda x: np.ma.masked_array(x, x > 0), TypeError), (lambda x: [[1.0], [1.0, 2.0]], ValueError),
], ids=["text", "object", "complex", "date", "None", "masked", "ragged"])  # fmt: skip
def test_wrong_kinds(name, make, error):
    layer = built(name)
    with pytest.raises(error, match=f"^{name}.forward: x must "):
        layer.forward(make(samples(layer)[0]))


@every_layer
def test_lists_are_welcome(name):
    layer, x = built(name), samples(built(name))[0]
    assert_same_bits(layer.forward(x.tolist()), layer.forward(x))


# ---- copies ----


@everywhere
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
                         ids=["deepcopy", "pickle"])  # fmt: skip
def test_copies_stand_alone(name, duplicate):
    fresh = duplicate(new(name))
    assert fresh.get_config() == new(name).get_config()
    layer = built(name)
    x, dy = samples(layer)
    layer.forward(x, training=True)
    other = duplicate(layer)
    assert other.get_config() == layer.get_config()
    for kind in ("params", "grads"):
        for (_, mine), (_, its) in zip(arrays_of(layer, kind), arrays_of(other, kind), strict=True):
            assert not np.shares_memory(mine, its)
    assert_same_bits(layer.backward(dy), other.backward(dy))  # a step may be finished on the copy
    for one, more in zip(run(layer, x, dy).values(), run(other, x, dy).values(), strict=True):
        assert_same_bits(one, more)


# ---- one answer on every machine ----


def fingerprint():
    """Of one training step of every layer in both types, at sizes that leave rests everywhere."""
    found = hashlib.sha256()
    for name, (arguments, shape) in sorted(TABLE.items()):
        for dtype in ("float32", "float64"):
            layer = getattr(layers, name)(**arguments, dtype=dtype)
            large = (13, 11, 12) if shape == IMAGE else tuple(3 * axis for axis in shape)
            build(layer, large)
            for array in run(layer, *inputs(layer, 5, dtype)).values():
                found.update(array.tobytes())
    return found.hexdigest()


def test_same_bits_on_avx2_and_avx512():
    code = "import sys; sys.path[:0] = sys.argv[1:]; from test_layer_contract import fingerprint; "
    code += "from minicnn._ext.machinery.runtime import instruction_set; print(instruction_set(), fingerprint())"
    found = {}
    for name in ("avx2", "avx512"):
        result = subprocess.run(
            [sys.executable, "-c", code, *map(os.path.dirname, (__file__, os.path.dirname(minicnn.__file__)))],
            env=os.environ | {"MINICNN_SIMD": name}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        used, digest = result.stdout.split()
        found[used] = digest
    if set(found) != {"avx2", "avx512"}:
        pytest.skip(f"this machine has {', '.join(found)} only")
    assert len(set(found.values())) == 1


@everywhere
def test_both_types_compute_the_same_function(name):
    wide, narrow = built(name, dtype="float64"), built(name, dtype="float32")
    for (_, narrow_values), (_, values) in zip(arrays_of(narrow, "params"), arrays_of(wide, "params"), strict=True):
        values[...] = narrow_values
    x, dy = samples(narrow)
    for one, other in zip(run(narrow, x, dy).values(), run(wide, x, dy).values(), strict=True):
        assert_close(one, other, 1e-5, np.float32)


def test_input_is_a_shape_and_no_layer():
    entry = layers.Input((28, 28, 1))
    assert entry.shape == layers.Input([None, 28, 28, 1]).shape == (28, 28, 1)
    assert repr(entry) == "Input((28, 28, 1))"
    assert not isinstance(entry, Layer)
    with pytest.raises(ValueError, match=r"^Input: every axis of input_shape must be a whole number >= 1; got 0$"):
        layers.Input((28, 0))


@everywhere
@both_types
def test_a_layer_used_alone_keeps_nothing_of_the_callers_arrays(name, dtype):
    """x and y may be written into before backward."""
    found = []
    for spoil in (False, True):
        layer = built(name, dtype=dtype)
        x, dy = inputs(layer, 3, dtype)
        y = layer.forward(x, training=True)
        if spoil:
            x[...] = y[...] = np.nan
        found.append({"dx": layer.backward(dy), **dict(arrays_of(layer, "grads"))})
        before = found[-1]["dx"].copy()
        dy[...] = np.nan
        assert_same_bits(found[-1]["dx"], before)
    for key, want in found[0].items():
        assert_same_bits(found[1][key], want)
