"""DepthwiseConv2D and SeparableConv2D against the reference."""

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, batches, borders, build, dtypes, inputs, layouts, normal, run

import minicnn as mc
from minicnn import layers
from minicnn.testing import gradcheck

NONE = np.random.default_rng(0)


@st.composite
def windows(draw):
    """Arguments of DepthwiseConv2D that an image of 1 to 12 rows and columns suits."""
    kernel, strides, dilation, image = [], [], [], [draw(st.integers(1, 12)) for _ in range(2)]
    padding = draw(st.sampled_from(["valid", "same"]) | borders)
    for axis, size in enumerate(image):
        rate = draw(st.integers(1, 3))
        padded = size if isinstance(padding, str) else size + sum(padding[axis])
        largest = 7 if padding == "same" else (padded - 1) // rate + 1
        kernel.append(draw(st.integers(1, min(7, largest))))
        strides.append(draw(st.integers(1, 4)))
        dilation.append(rate)
    names = "kernel_size", "strides", "padding", "dilation_rate"
    values = tuple(kernel), tuple(strides), padding, tuple(dilation)
    return dict(zip(names, values, strict=True)), tuple(image)


def options_of(layer):
    return layer.strides, layer.padding, layer.dilation_rate


@given(
    windows(), st.sampled_from([1, 2, 3, 5, 8, 9, 17, 32, 40]), st.sampled_from([1, 1, 2, 3, 16, 17]),
    st.booleans(), batches, dtypes, layouts,
)  # fmt: skip
def test_depthwise(case, c, multiplier, use_bias, n, dtype, layout):
    arguments, image = case
    c = c if multiplier < 16 else min(c, 3)
    layer = layers.DepthwiseConv2D(**arguments, depth_multiplier=multiplier, use_bias=use_bias, dtype=dtype)
    build(layer, (*image, c))
    x, dy = inputs(layer, n, dtype)
    got, kernel, bias = run(layer, x, dy, layout), layer.params["kernel"], layer.params.get("bias")
    size = [np.abs(array) for array in (x, kernel, dy)]
    terms = {"y": kernel.shape[0] * kernel.shape[1], "kernel": dy.size, "bias": dy.size}
    terms["dx"] = terms["y"] * multiplier
    options = options_of(layer)
    want = dict(zip(("dx", "kernel", "bias"), reference.depthwise_conv2d_grad(x, kernel, dy, *options), strict=True))
    scale = dict(zip(want, reference.depthwise_conv2d_grad(*size, *options), strict=True))
    want["y"] = reference.depthwise_conv2d(x, kernel, bias, *options)
    scale["y"] = reference.depthwise_conv2d(*size[:2], None if bias is None else np.abs(bias), *options)
    for name, array in got.items():
        assert_close(array, want[name], tolerance(dtype, terms[name]), dtype, scale[name].max(initial=0))


@given(windows(), batches, dtypes)
def test_separable(case, n, dtype):
    arguments, image = case
    layer = build(layers.SeparableConv2D(5, **arguments, depth_multiplier=2, dtype=dtype), (*image, 3))
    x, dy = inputs(layer, n, dtype)
    got, kernels = run(layer, x, dy), (layer.depthwise.params["kernel"], layer.pointwise.params["kernel"])
    options = options_of(layer)
    bias, names = layer.pointwise.params["bias"], ("dx", "depthwise.kernel", "pointwise.kernel", "pointwise.bias")
    want = dict(zip(names, reference.separable_conv2d_grad(x, *kernels, dy, *options), strict=True))
    want["y"] = reference.separable_conv2d(x, *kernels, bias, *options)
    size = [np.abs(array) for array in (x, *kernels, dy)]
    scale = dict(zip(names, reference.separable_conv2d_grad(*size, *options), strict=True))
    scale["y"] = reference.separable_conv2d(*size[:3], np.abs(bias), *options)
    assert got.keys() == want.keys()
    for name, array in got.items():
        assert_close(array, want[name], 4 * tolerance(dtype, dy.size), dtype, scale[name].max(initial=0))


def test_a_depthwise_convolution_is_one_with_a_group_for_each_channel():
    """To the bit, forward and backward: the kernels lie in memory alike."""
    arguments = {"strides": (1, 2), "padding": ((1, 2), (0, 1)), "activation": "relu"}
    one = build(layers.DepthwiseConv2D(3, depth_multiplier=2, **arguments), (7, 8, 5))
    other = build(layers.Conv2D(10, 3, groups=5, **arguments), (7, 8, 5))
    other.params["kernel"][...] = one.params["kernel"].reshape(3, 3, 1, 10)
    other.params["bias"][...] = one.params["bias"]
    x, dy = inputs(one, 3, "float32")
    got, want = run(one, x, dy), run(other, x, dy)
    for name, array in got.items():
        assert_same_bits(array, want[name].reshape(array.shape))
    assert one.multiply_adds() == other.multiply_adds() == 8 * 4 * 9 * 10


@pytest.mark.parametrize("layer", [
    layers.DepthwiseConv2D(3, 2, ((3, 1), (0, 2)), 2, activation="tanh"),
    layers.DepthwiseConv2D((2, 3), padding="same", dilation_rate=2, use_bias=False, activation="gelu"),
    layers.SeparableConv2D(4, 3, 2, 1, activation="softmax"),
    layers.SeparableConv2D(2, 2, padding="same", depth_multiplier=3, use_bias=False, activity_regularizer="l2"),
], ids=repr)  # fmt: skip
def test_gradient_by_finite_differences(layer):
    assert gradcheck(layer, normal((2, 5, 6, 3)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [
    lambda dtype: layers.DepthwiseConv2D(3, padding="same", activation="elu", dtype=dtype),
    lambda dtype: layers.DepthwiseConv2D(5, (2, 3), 4, depth_multiplier=2, dilation_rate=2, dtype=dtype),
    lambda dtype: layers.SeparableConv2D(16, 3, padding="same", activation="relu", dtype=dtype),
])  # fmt: skip
def test_same_bits_at_any_thread_count(make, dtype):
    shape = 20, 17, 16
    first, *others = at_every_thread_count(
        lambda: build(make(dtype), shape), *inputs(build(make(dtype), shape), 7, dtype)
    )
    for other in others:
        for name, array in first.items():
            assert_same_bits(array, other[name])


def test_a_nan_reaches_only_its_channel_and_the_pixels_that_see_it():
    layer = build(layers.DepthwiseConv2D(3, padding="same"), (7, 8, 9))
    x = normal((2, 7, 8, 9), "float32")
    x[1, 3, 0, 8] = np.nan
    want = np.zeros((2, 7, 8, 9), bool)
    want[1, 2:5, 0:2, 8] = True
    assert (np.isnan(layer.forward(x)) == want).all()


def test_initial_values_are_those_of_keras():
    """Glorot's, with KH KW C inputs and KH KW depth_multiplier outputs."""
    layer = layers.DepthwiseConv2D(3, depth_multiplier=2)
    assert layer.build((9, 9, 64), np.random.default_rng(0)) == (7, 7, 128)
    assert layer.params["kernel"].shape == (3, 3, 64, 2)
    assert layer.params["bias"].shape == (128,)
    limit = (6 / (9 * (64 + 2))) ** 0.5
    assert 0.95 * limit < np.abs(layer.params["kernel"]).max() <= limit


def test_against_torch():
    torch = pytest.importorskip("torch")
    for multiplier, strides, padding, dilation in [(1, 1, 1, 1), (2, 2, (0, 3), 1), (3, (1, 2), 4, 2)]:
        layer = layers.DepthwiseConv2D(3, strides, padding, multiplier, dilation)
        build(layer, (9, 8, 5))
        x, dy = inputs(layer, 2, "float32")
        kernel, bias, images = (
            torch.from_numpy(array).requires_grad_() for array in (layer.params["kernel"], layer.params["bias"], x)
        )
        weight = kernel.reshape(3, 3, 1, -1).permute(3, 2, 0, 1)
        y = torch.nn.functional.conv2d(images.permute(0, 3, 1, 2), weight, bias, strides, padding, dilation, 5)
        y.backward(torch.from_numpy(dy).permute(0, 3, 1, 2))
        got = run(layer, x, dy)
        want = {"y": y.detach().permute(0, 2, 3, 1), "dx": images.grad, "kernel": kernel.grad, "bias": bias.grad}
        for name, array in want.items():
            assert_close(got[name], array.numpy(), 1e-5)


# ---- the two in one ----


def make_model(**more):
    return mc.Sequential([
        layers.SeparableConv2D(6, 3, padding="same", activation="relu", depthwise_regularizer="l2", **more),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ], seed=1)  # fmt: skip


def test_names_files_and_plans_of_a_separable_convolution(tmp_path):
    model = make_model()
    model.compile(mc.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    x, y = normal((20, 6, 6, 4), "float32"), np.arange(20) % 3
    by_hand = make_model()
    by_hand.compile(mc.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    by_hand.build(x.shape[1:])
    model.fit(x, y, batch_size=7, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        for start in range(0, 20, 7):
            by_hand.train_on_batch(x[start : start + 7], y[start : start + 7])
    assert model.fingerprint() == by_hand.fingerprint()
    assert list(model.state_dict())[:3] == ["0.depthwise.kernel", "0.pointwise.kernel", "0.pointwise.bias"]
    assert "depthwise_regularizer" in model.get_config()["layers"][0]["config"]
    model.layers[0].depthwise.trainable = False
    model.layers[0].pointwise_regularizer = mc.regularizers.L1(0.25)
    model.save(tmp_path / "model.npz")
    again = mc.Sequential.load(tmp_path / "model.npz")
    assert again.get_config() == model.get_config()
    assert not again.layers[0].depthwise.trainable
    assert again.layers[0].pointwise.kernel_regularizer.l1 == again.layers[0].pointwise_regularizer.l1 == 0.25
    assert_same_bits(again.predict(x), model.predict(x))
    assert model.layers[0].multiply_adds() == 36 * (9 * 4 + 4 * 6)


def test_arguments_of_the_parts_are_one_thing_with_those_of_the_layer():
    layer = layers.SeparableConv2D(4, 3, pointwise_constraint="max_norm", bias_regularizer="l1")
    assert layer.pointwise.kernel_constraint is layer.pointwise_constraint
    assert layer.pointwise.bias_regularizer is layer.bias_regularizer
    layer.depthwise_regularizer = "l2"
    assert layer.depthwise.kernel_regularizer is layer.depthwise_regularizer
    layer.activation = "tanh"
    assert layer.pointwise.activation == layer.output_function == "tanh"
    one = layers.DepthwiseConv2D(3, depthwise_constraint="non_neg")
    assert one.kernel_constraint is one.depthwise_constraint
    build(layer, (5, 5, 2))
    layer.forward(np.zeros((1, 5, 5, 2)), training=True)
    layer.activity_regularizer = "l2"
    with pytest.raises(RuntimeError, match=r"^SeparableConv2D.backward: needs forward"):
        layer.backward(np.zeros((1, 3, 3, 4)))
    for name, value, message in [
        ("depthwise", None, "SeparableConv2D.depthwise: cannot be assigned; got None. Give the arguments"),
        ("depthwise_initializer", "zeros", "SeparableConv2D.depthwise_initializer: is fixed when the object is made"),
        ("strides", 2, "SeparableConv2D.strides: is fixed when the object is made"),
    ]:
        with pytest.raises(AttributeError, match=message):
            setattr(layer, name, value)
    with pytest.raises(ValueError, match="SeparableConv2D: axis of MaxNorm must name axes"):
        layer.bias_constraint = mc.constraints.MaxNorm(1, axis=3)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: layers.DepthwiseConv2D(0), ValueError, "DepthwiseConv2D: kernel_size must be a whole number >= 1; got 0"),
    (lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), ValueError, "DepthwiseConv2D: depth_multiplier must be"),
    (lambda: layers.DepthwiseConv2D(3, depth_multiplier=1.0), TypeError, "DepthwiseConv2D: depth_multiplier .* 1.0"),
    (lambda: layers.DepthwiseConv2D(3, padding=None), TypeError, "DepthwiseConv2D: padding must be .*; got None"),
    (lambda: layers.DepthwiseConv2D(3, groups=3), TypeError, "DepthwiseConv2D: the keywords are .*; got `groups`"),
    (lambda: layers.DepthwiseConv2D(3, depthwise_regularizer="l3"), ValueError,
     "DepthwiseConv2D: depthwise_regularizer must .*; got 'l3'"),
    (lambda: layers.DepthwiseConv2D(3, depthwise_initializer="he"), ValueError, "DepthwiseConv2D: an initializer"),
    (lambda: layers.DepthwiseConv2D(5).build((4, 9, 2), NONE), ValueError,
     r"DepthwiseConv2D: an image must be at least as large as the kernel \(5, 5\) .*; got \(4, 9, 2\)"),
    (lambda: layers.DepthwiseConv2D(3).build((4, 4), NONE), ValueError, "DepthwiseConv2D: one sample must have"),
    (lambda: layers.DepthwiseConv2D(3, depthwise_constraint=mc.constraints.MaxNorm(1, 9)).build((4, 4, 1), NONE),
     ValueError, "DepthwiseConv2D: axis of MaxNorm must name axes"),
    (lambda: layers.SeparableConv2D(-1, 3), ValueError, "SeparableConv2D: filters must be a whole number >= 1; got -1"),
    (lambda: layers.SeparableConv2D(3, float("nan")), TypeError, "SeparableConv2D: kernel_size must .*; got nan"),
    (lambda: layers.SeparableConv2D(3, 3, pointwise_initializer="x"), ValueError, "SeparableConv2D: an initializer"),
    (lambda: layers.SeparableConv2D(3, 3, activation="rleu"), ValueError, "SeparableConv2D: activation .*'relu'"),
    (lambda: layers.SeparableConv2D(3, 3, activity_regularizer=3), TypeError, "SeparableConv2D: activity_regularizer"),
    (lambda: layers.SeparableConv2D(3, 5).build((4, 4, 1), NONE), ValueError,
     "depthwise: DepthwiseConv2D: an image must be at least as large as the kernel"),
])  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()
