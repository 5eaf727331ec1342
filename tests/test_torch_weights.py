"""PyTorch's weights: against PyTorch over random networks where it is installed, against a stored file everywhere."""

import builtins
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicnn as mc
from minicnn import interop, layers

DATA = Path(__file__).parent / "data"


def same(a, b):
    """Equal to 1e-5 of the largest value."""
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, np.abs(b).max(initial=0)))


def scrambled(model, seed=0):
    """The model with other numbers everywhere, moving statistics included."""
    rng = np.random.default_rng(seed)
    model.load_state_dict({name: rng.uniform(0.2, 1.2, a.shape) for name, a in model.state_dict().items()})
    return model


# ---- against PyTorch ----


def last(x):
    """(N, C, H, W) as (N, H, W, C)."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


@st.composite
def networks(draw):
    """(a network of PyTorch's, the layers of the same one here, the shape of a sample there)."""
    from torch import nn

    eps = draw(st.sampled_from([1e-5, 1e-3]))
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    c, h, w = shape = pick(1, 2, 3, 4), pick(5, 6, 8), pick(5, 6, 7)
    theirs, ours = [], []

    def activation():
        name = pick("relu", "gelu", "silu", "elu", "tanh", "sigmoid", "leaky", "selu", "hardswish", "relu6", "softplus",
                    "hardsigmoid", "logsoftmax", "prelu", "prelu1", "none", "none")  # fmt: skip
        found = {
            "relu": (nn.ReLU(), "relu"), "gelu": (nn.GELU(), "gelu"), "silu": (nn.SiLU(), "silu"),
            "elu": (nn.ELU(0.7), layers.ELU(0.7)), "tanh": (nn.Tanh(), "tanh"), "sigmoid": (nn.Sigmoid(), "sigmoid"),
            "leaky": (nn.LeakyReLU(0.2), layers.LeakyReLU(0.2)), "selu": (nn.SELU(), "selu"),
            "hardswish": (nn.Hardswish(), "hard_swish"), "relu6": (nn.ReLU6(), "relu6"),
            "softplus": (nn.Softplus(), "softplus"), "hardsigmoid": (nn.Hardsigmoid(), "hard_sigmoid"),
            "logsoftmax": (nn.LogSoftmax(dim=1), "log_softmax"),
        }  # fmt: skip
        if name == "none":
            return
        images = len(ours) and flat is None
        channels = c if flat is None else flat
        if name == "prelu":
            theirs.append(nn.PReLU(channels))
            ours.append(layers.PReLU(shared_axes=[1, 2] if images else None))
        elif name == "prelu1":
            theirs.append(nn.PReLU())
            ours.append(layers.PReLU(shared_axes=[1, 2, 3] if images and pick(True, False) else None))
            if images and ours[-1].shared_axes is None:
                ours[-1] = layers.PReLU(shared_axes=[1, 2])
        elif ours and isinstance(ours[-1], layers.Conv2D | layers.Dense | layers.Conv2DTranspose) and pick(True, False):
            theirs.append(found[name][0])
            if ours[-1].activation is None:
                ours[-1].activation = found[name][1]
            else:
                ours.append(layers.Activation(found[name][1]))
        else:
            theirs.append(found[name][0])
            ours.append(layers.Activation(found[name][1]))

    flat = None
    for _ in range(pick(1, 2, 3, 4)):
        what = pick(*("conv", "conv", "depthwise", "transposed", "batch", "group", "layer", "max", "average"),
                    *("up", "drop", "pad"))  # fmt: skip
        if what == "conv":
            kernel, stride, padding = (pick(1, 2, 3), pick(1, 3)), pick(1, 2), (pick(0, 1), pick(0, 1, 2))
            dilation, groups, filters, bias = pick(1, 2), pick(1, 2, c), pick(2, 4, 6), pick(True, False)
            extents = [(size - 1) * dilation + 1 for size in kernel]
            if h + 2 * padding[0] < extents[0] or w + 2 * padding[1] < extents[1]:
                continue
            groups = groups if c % groups == 0 and filters % groups == 0 else 1
            theirs.append(nn.Conv2d(c, filters, kernel, stride, padding, dilation, groups, bias))
            ours.append(layers.Conv2D(filters, kernel, stride, padding, dilation, groups, use_bias=bias))
            h, w = ((s + 2 * p - e) // stride + 1 for s, p, e in zip((h, w), padding, extents, strict=True))
            c = filters
        elif what == "depthwise":
            multiplier = pick(1, 2, 3)
            theirs.append(nn.Conv2d(c, c * multiplier, 3, padding=1, groups=c))
            ours.append(layers.DepthwiseConv2D(3, padding=1, depth_multiplier=multiplier))
            c *= multiplier
        elif what == "transposed":
            kernel, stride, padding, filters, bias = (
                pick(2, 3),
                pick(1, 2),
                pick(0, 1),
                pick(1, 2, 3),
                pick(True, False),
            )
            extra = pick(0, stride - 1)
            size = [(s - 1) * stride - 2 * padding + kernel + extra for s in (h, w)]
            if min(size) < 1:
                continue
            theirs.append(nn.ConvTranspose2d(c, filters, kernel, stride, padding, extra, bias=bias))
            ours.append(layers.Conv2DTranspose(filters, kernel, stride, padding, extra, use_bias=bias))
            (h, w), c = size, filters
        elif what == "batch":
            affine = pick(True, False)
            theirs.append(nn.BatchNorm2d(c, eps, affine=affine))
            ours.append(layers.BatchNormalization(epsilon=eps, center=affine, scale=affine))
        elif what == "group":
            groups = pick(1, c)
            theirs.append(nn.GroupNorm(groups, c, eps))
            ours.append(layers.GroupNormalization(groups, epsilon=eps))
        elif what == "layer":
            theirs.append(nn.LayerNorm([c, h, w], eps, bias=pick(True, False)))
            ours.append(layers.LayerNormalization([1, 2, 3], eps, center=theirs[-1].bias is not None))
        elif what in ("max", "average") and min(h, w) > 1:
            padding = pick(0, 1)
            average = what == "average"
            theirs.append((nn.AvgPool2d if average else nn.MaxPool2d)(2, 2, padding))
            kind = layers.AveragePooling2D if average else layers.MaxPooling2D
            ours.append(kind(2, 2, padding, **({"count_include_pad": True} if average else {})))
            h, w = ((s + 2 * padding - 2) // 2 + 1 for s in (h, w))
        elif what == "up" and h * w < 400:
            theirs.append(nn.Upsample(scale_factor=2))
            ours.append(layers.UpSampling2D(2))
            h, w = 2 * h, 2 * w
        elif what == "drop":
            theirs.append(nn.Dropout2d(0.3))
            ours.append(layers.SpatialDropout2D(0.3))
        elif what == "pad":
            theirs.append(nn.ZeroPad2d((1, 0, 2, 1)))
            ours.append(layers.ZeroPadding2D(((2, 1), (1, 0))))
            h, w = h + 3, w + 1
        activation()
    end = pick("flatten", "flatten", "pool", "none")
    if end == "pool":
        theirs += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        ours += [layers.GlobalAveragePooling2D(), *([layers.Flatten()] if pick(True, False) else [])]
        flat = c
    elif end == "flatten":
        theirs.append(nn.Flatten())
        ours.append(layers.Flatten())
        flat = c * h * w
    for _ in range(pick(1, 2, 3) if flat else 0):
        what = pick("linear", "linear", "batch", "layer", "drop", "images")
        if what == "linear":
            units, bias = pick(3, 6, 8), pick(True, False)
            theirs.append(nn.Linear(flat, units, bias))
            ours.append(layers.Dense(units, use_bias=bias))
            flat = units
        elif what == "batch":
            theirs.append(nn.BatchNorm1d(flat, eps))
            ours.append(layers.BatchNormalization(epsilon=eps))
        elif what == "layer":
            theirs.append(nn.LayerNorm(flat, eps))
            ours.append(layers.LayerNormalization(epsilon=eps))
        elif what == "drop":
            theirs.append(nn.Dropout(0.5))
            ours.append(layers.Dropout(0.5))
        else:
            theirs += [nn.Linear(flat, 24), nn.ReLU(), nn.Unflatten(1, (4, 3, 2)), nn.ConvTranspose2d(4, 3, 2, 2)]
            theirs += [nn.Flatten(), nn.Linear(72, 5)]
            ours += [layers.Dense(24, "relu"), layers.Reshape((3, 2, 4)), layers.Conv2DTranspose(3, 2, 2)]
            ours += [layers.Flatten(), layers.Dense(5)]
            flat = 5
        activation()
    if flat is not None:
        theirs.append(nn.Linear(flat, 4))
        ours.append(layers.Dense(4))
    else:
        theirs.append(nn.Conv2d(c, 2, 1))
        ours.append(layers.Conv2D(2, 1))
    return nn.Sequential(*theirs), ours, shape


def both(theirs, ours, shape, seed):
    """(outputs of PyTorch's network with other numbers in it, the model built, images for it)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.3, 2, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0.2, 0.5, generator=generator)
    x = np.random.default_rng(seed).normal(size=(3, *shape)).astype(np.float32)
    with torch.no_grad():
        y = theirs.eval()(torch.from_numpy(x)).numpy()
    model = mc.Sequential(ours)
    model.build(last(x).shape[1:])
    return y, model, last(x)


@settings(max_examples=120)
@given(st.data())
def test_random_networks_predict_what_they_predict_in_torch(data):
    """And their weights go back, under PyTorch's own names and in its order."""
    torch = pytest.importorskip("torch")
    theirs, ours, shape = data.draw(networks())
    y, model, x = both(theirs, ours, shape, data.draw(st.integers(0, 9)))
    state, names = theirs.state_dict(), data.draw(st.sampled_from(["own", "others", "module."]))
    if names == "others":
        net = torch.nn.Module()
        for number, module in enumerate(theirs):
            net.add_module(f"{type(module).__name__.lower()}{number}", module)
        state = net.state_dict()
    elif names == "module.":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    interop.load_torch(model, state)
    same(model.predict(x), last(y))

    found, wanted = interop.to_torch(model), theirs.state_dict()
    assert all(array.flags.c_contiguous for array in found.values())
    extra = [name for name in found if name not in wanted]  # a bias of 0 where PyTorch may have none
    assert not any(found.pop(name).any() for name in extra)
    assert [*found] == [*wanted]
    for name, array in found.items():
        if not name.endswith("tracked"):
            assert np.array_equal(array, np.broadcast_to(wanted[name].numpy(), array.shape)), name


# ---- branches: a convention of names, and PyTorch's modules that have them ----


def branches():
    return [
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.Residual(
            [layers.Conv2D(4, 3, padding="same", activation="relu"), layers.BatchNormalization()],
            layers.Conv2D(4, 1),
            activation="relu",
        ),
        layers.Concurrent([[], [layers.Conv2D(2, 1, activation="relu")]]),
        layers.Chain([layers.SeparableConv2D(3, 3, activation="relu"), layers.MaxPooling2D(2)]),
        layers.Flatten(),
        layers.Residual([layers.Dense(5, "relu"), layers.Dense(6)]),
        layers.Dense(3),
    ]


BRANCHES = [
    *("0.weight", "0.bias", "2.body.0.weight", "2.body.0.bias", "2.body.2.weight", "2.body.2.bias"),
    *("2.body.2.running_mean", "2.body.2.running_var", "2.body.2.num_batches_tracked"),
    *("2.shortcut.0.weight", "2.shortcut.0.bias", "4.branches.1.0.weight", "4.branches.1.0.bias"),
    *("5.0.weight", "5.1.weight", "5.1.bias", "7.body.0.weight", "7.body.0.bias", "7.body.2.weight", "7.body.2.bias"),
    *("8.weight", "8.bias"),
]


def built(chain, shape):
    model = mc.Sequential(chain)
    model.build(shape)
    return scrambled(model)


def test_names_of_branches():
    model = built(branches(), (4, 6, 2))
    found = interop.to_torch(model)
    assert [*found] == BRANCHES
    again = built(branches(), (4, 6, 2))
    scrambled(again, 1)
    interop.load_torch(again, found)
    assert again.fingerprint() == model.fingerprint()


def test_branches_predict_what_they_predict_in_torch():
    torch = pytest.importorskip("torch")
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, body, shortcut=()):
            super().__init__()
            self.body, self.shortcut = nn.Sequential(*body), nn.Sequential(*shortcut)

        def forward(self, x):
            return self.body(x) + self.shortcut(x)

    class Concurrent(nn.Module):
        def __init__(self, *branches):
            super().__init__()
            self.branches = nn.ModuleList(nn.Sequential(*branch) for branch in branches)

        def forward(self, x):
            return torch.cat([branch(x) for branch in self.branches], 1)

    theirs = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU()),
        Residual([nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4, 1e-3)], [nn.Conv2d(4, 4, 1)]),
        *(nn.ReLU(), Concurrent([], [nn.Conv2d(4, 2, 1), nn.ReLU()])),
        nn.Sequential(nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.Conv2d(6, 3, 1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), Residual([nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)]), nn.Linear(6, 3)),
    )
    y, model, x = both(theirs, branches(), (2, 4, 6), 0)
    interop.load_torch(model, theirs.state_dict())
    same(model.predict(x), y)
    assert [*interop.to_torch(model)] == [*theirs.state_dict()]


# ---- what is stored, for where PyTorch is not ----


def stored():
    """The network of data/make_interop.py: symmetric padding at stride 2, groups, flat features that become images."""
    return [
        layers.Conv2D(4, 3, strides=2, padding=((1, 1), (1, 1))),
        layers.BatchNormalization(epsilon=1e-5),
        layers.ReLU(),
        layers.Conv2D(8, 3, padding="same", groups=4, use_bias=False),
        layers.PReLU(shared_axes=[1, 2]),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(12, activation="tanh"),
        layers.Reshape((2, 2, 3)),
        layers.Conv2DTranspose(2, 2, strides=2),
        layers.Flatten(),
        layers.LayerNormalization(epsilon=1e-5),
        layers.Dense(3),
    ]


def test_a_stored_network_predicts_what_it_predicted_in_torch():
    data = np.load(DATA / "interop.npz")
    model = built(stored(), data["x"].shape[1:])
    interop.load_torch(model, DATA / "torch.safetensors")
    same(model.predict(data["x"]), data["torch"])


# ---- names ----


def two(filters=4):
    return built([layers.Conv2D(filters, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten(),
                  layers.Dense(3), layers.Dense(3)], (6, 5, 2))  # fmt: skip


def renamed(state, names):
    """The state_dict with other names of modules; order and suffixes stay."""
    return {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in state.items()}


NAMED = {"0": "conv", "2": "norm", "4": "fc1", "5": "fc2"}


@pytest.mark.parametrize("prefix", ["", "module.", "net._orig_mod."])
@pytest.mark.parametrize("names", [None, NAMED])
def test_names_by_number_or_by_order(prefix, names):
    model, other = two(), scrambled(two(), 1)
    state = interop.to_torch(model)
    state = state if names is None else renamed(state, names)
    state = {f"{prefix}{name}": value for name, value in state.items()}
    if names is None:
        state = dict(reversed(state.items()))  # the names say enough
    interop.load_torch(other, state)
    assert other.fingerprint() == model.fingerprint()


def test_modules_in_another_order_must_fit_in_one_way():
    """A module that is made before those that come first, and a file, whose order says nothing."""
    model, other = two(), scrambled(two(), 1)
    state = renamed(interop.to_torch(model), NAMED)
    moved = {name: state[name] for name in sorted(state, key=lambda name: (not name.startswith("norm"), name))}
    interop.load_torch(other, moved)
    assert other.fingerprint() == model.fingerprint()


def left_as_it_is(model, call, *said):
    """ConversionError that says all of that, and nothing is changed."""
    before = model.fingerprint()
    with pytest.raises(interop.ConversionError) as caught:
        call()
    assert model.fingerprint() == before
    assert not [word for word in said if word not in str(caught.value)], str(caught.value)


def equal_ones():
    return built([layers.Flatten(), *(layers.Dense(4) for _ in range(3))], (4,))


@pytest.mark.parametrize("names", [("a", "b", "c"), ("fc2", "fc1", "fc3")])
def test_equal_modules_are_not_guessed(names, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    state = renamed(interop.to_torch(equal_ones()), dict(zip("123", names, strict=True)))
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors.save(state))
    model = scrambled(equal_ones(), 1)
    if names[0] == "a":
        left_as_it_is(model, lambda: interop.load_torch(model, path), "ambiguous", "'a'", "'b'", "'c'")
        interop.load_torch(model, state)  # whose order is the network's
        assert model.fingerprint() == equal_ones().fingerprint()
    else:
        left_as_it_is(model, lambda: interop.load_torch(model, state), "ambiguous", "'fc1'", "'fc2'")


def test_equal_modules_in_a_file_are_told_apart_by_their_numbers(tmp_path):
    """fc10 comes behind fc9: files sort them by letters."""
    safetensors = pytest.importorskip("safetensors.numpy")

    def many():
        return built([layers.Dense(4) for _ in range(12)], (4,))

    names = {str(number): f"head.fc{number + 1}" for number in range(12)}
    (tmp_path / "w.safetensors").write_bytes(safetensors.save(renamed(interop.to_torch(many()), names)))
    model = scrambled(many(), 1)
    interop.load_torch(model, str(tmp_path / "w.safetensors"))
    assert model.fingerprint() == many().fingerprint()


@pytest.mark.parametrize("names", [None, NAMED])
@pytest.mark.parametrize("missing", ["0.bias", "2.running_var", "5.weight", "4."])
def test_missing_arrays_are_listed(names, missing):
    state = {name: value for name, value in interop.to_torch(two()).items() if not name.startswith(missing)}
    state = state if names is None else renamed(state, names)
    model = scrambled(two(), 1)
    left_as_it_is(model, lambda: interop.load_torch(model, state), "missing", *(() if names else (missing,)))


@pytest.mark.parametrize("names", [None, NAMED])
def test_arrays_that_are_left_over_are_listed(names):
    state = interop.to_torch(two())
    state = state if names is None else renamed(state, names)
    model = scrambled(two(), 1)
    for more in ({"9.weight": np.ones((3, 3)), "9.bias": np.ones(3)}, {"fc2.in_proj_weight": np.ones(4)}):
        left_as_it_is(model, lambda more=more: interop.load_torch(model, state | more), "left over", *more)


def test_of_very_many_arrays_some_are_named():
    """In a moment: not every name is tried as what stands before all others."""
    state = {f"x{number}.0.weight": np.zeros((3, 3)) for number in range(20_000)}
    model = two()
    left_as_it_is(model, lambda: interop.load_torch(model, state), "x1.0.weight (3, 3), ", ", ... (199")


def test_an_array_of_another_shape_is_named():
    model, state = scrambled(two(), 1), interop.to_torch(two())
    wrong = state | {"4.weight": np.ones((3, 47), np.float32)}
    left_as_it_is(model, lambda: interop.load_torch(model, wrong), "4.weight", "(3, 48)", "(3, 47)")
    left_as_it_is(model, lambda: interop.load_torch(model, renamed(wrong, NAMED)), "fc1.weight", "(3, 48)", "(3, 47)")
    wrong = state | {"5.bias": np.array([0, np.nan, 0])}
    left_as_it_is(model, lambda: interop.load_torch(model, wrong), "nan")


# ---- layers ----


def test_keys_are_those_of_modules():
    model = built(
        [
            *(layers.Conv2D(4, 3, activation="relu", use_bias=False), layers.BatchNormalization(), layers.Dropout(0.5)),
            *(layers.DepthwiseConv2D(3, activation=layers.LeakyReLU(0.1)), layers.GlobalAveragePooling2D()),
            *(layers.Dense(4, activation="linear"), layers.LayerNormalization(), layers.Dense(2, "softmax")),
        ],
        (8, 8, 1),
    )
    assert {name: value.shape for name, value in interop.to_torch(model).items()} == {
        **{"0.weight": (4, 1, 3, 3), "2.weight": (4,), "2.bias": (4,), "2.running_mean": (4,), "2.running_var": (4,)},
        **{"2.num_batches_tracked": (), "4.weight": (4, 1, 3, 3), "4.bias": (4,)},
        **{"8.weight": (4, 4), "8.bias": (4,), "9.weight": (4,), "9.bias": (4,), "10.weight": (2, 4), "10.bias": (2,)},
    }
    assert interop.to_torch(model)["2.num_batches_tracked"].dtype == np.int64


def test_layouts():
    """By hand, for where PyTorch is not installed."""
    model = built([layers.DepthwiseConv2D(2, depth_multiplier=3), layers.Flatten(), layers.Dense(2)], (3, 2, 2))
    kernel, dense = model.state_dict()["0.kernel"], model.state_dict()["2.kernel"]
    found = interop.to_torch(model)
    for channel in range(2):
        for filter_ in range(3):
            assert np.array_equal(found["0.weight"][3 * channel + filter_, 0], kernel[:, :, channel, filter_])
    for row in range(2):
        for channel in range(6):
            assert np.array_equal(found["2.weight"][:, 2 * channel + row], dense[6 * row + channel])


def test_a_normalisation_without_gamma_or_beta():
    """PyTorch has both or none: what is not there must be as if it were not."""
    model = built([layers.BatchNormalization(center=False), layers.BatchNormalization(scale=False)], (4,))
    state = interop.to_torch(model)
    assert np.array_equal(state["0.bias"], np.zeros(4))
    assert np.array_equal(state["1.weight"], np.ones(4))
    other = scrambled(built([layers.BatchNormalization(center=False), layers.BatchNormalization(scale=False)], (4,)), 1)
    interop.load_torch(other, state)
    assert other.fingerprint() == model.fingerprint()
    wrong = state | {"0.bias": np.ones(4)}
    left_as_it_is(other, lambda: interop.load_torch(other, wrong), "0", "bias must be 0")


def test_one_slope_for_all_fits_any_prelu():
    for shared in (None, [1, 2], [1, 2, 3]):
        model = built([layers.PReLU(shared_axes=shared)], (3, 2, 4))
        interop.load_torch(model, {"0.weight": np.array([0.3])})
        assert (model.state_dict()["0.alpha"] == np.float32(0.3)).all()
    with pytest.raises(interop.ConversionError, match=r"PReLU '0': a slope must be one for all"):
        interop.to_torch(built([layers.PReLU()], (3, 2, 4)))


def test_statistics_that_pytorch_has_not_stay():
    """Those of Normalization and Temperature: left where nothing is said of them, else taken."""

    def make():
        return built([layers.Normalization(), layers.Dense(3), layers.Temperature()], (4,))

    model, other = make(), scrambled(make(), 1)
    state = interop.to_torch(model)
    assert [*state] == ["0.mean", "0.variance", "0.count", "1.weight", "1.bias", "2.temperature"]
    before = other.state_dict()
    interop.load_torch(other, {name: state[name] for name in ("1.weight", "1.bias")})
    after = other.state_dict()
    assert np.array_equal(after["0.mean"], before["0.mean"])
    assert np.array_equal(after["1.kernel"], model.state_dict()["1.kernel"])
    interop.load_torch(other, state)
    assert other.fingerprint() == model.fingerprint()


def test_outputs_in_another_order_are_warned_of():
    conv = layers.Conv2D(3, 2)
    for model in (built([layers.Conv2D(3, 2), layers.Flatten()], (4, 3, 2)),
                  built([layers.Flatten(), layers.BatchNormalization(), layers.ReLU()], (4, 3, 2))):  # fmt: skip
        with pytest.warns(UserWarning, match=r"to_torch: the outputs .* order .* Permute\(\(3, 1, 2\)\)") as found:
            state = interop.to_torch(model)
        assert found[0].filename == __file__
        with pytest.warns(UserWarning, match="load_torch: the outputs stand in another order"):
            interop.load_torch(model, state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = interop.to_torch(built([conv, layers.Permute((3, 1, 2)), layers.Flatten()], (4, 3, 2)))
        interop.to_torch(built([layers.Conv2D(3, 2)], (4, 3, 2)))
        interop.to_torch(built([layers.Conv2D(3, 2), layers.GlobalMaxPooling2D(), layers.ReLU()], (4, 3, 2)))
    assert np.array_equal(state["0.weight"], conv.params["kernel"].transpose(3, 2, 0, 1))


def test_a_permutation_of_the_axes_is_followed():
    """A model that makes PyTorch's axes itself needs no other order, neither at its inputs nor before Flatten."""
    outside = built([layers.Conv2D(3, 2), layers.Permute((3, 1, 2)), layers.Flatten(), layers.Dense(4)], (4, 3, 2))
    inside = built([layers.Permute((2, 3, 1)), layers.Conv2D(3, 2), layers.Flatten(), layers.Dense(4)], (2, 4, 3))
    state = interop.to_torch(outside)
    assert np.array_equal(state["3.weight"], outside.state_dict()["3.kernel"].T)
    interop.load_torch(inside, renamed(state, {"0": "1", "3": "3"}))
    x = np.random.default_rng(0).normal(size=(5, 4, 3, 2)).astype(np.float32)
    same(inside.predict(x.transpose(0, 3, 1, 2)), outside.predict(x))


class Own(layers.Dense):
    """A custom layer with parameters."""


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ([layers.Flatten, lambda: layers.GroupNormalization(4)], "layer 2 (GroupNormalization): its groups are of"),
        ([lambda: layers.Permute((3, 1, 2)), lambda: layers.Conv2D(2, 1)], "layer 2 (Conv2D): the axes of its input"),
        ([lambda: layers.Reshape((4, 2, 3)), lambda: layers.Conv2D(2, 1)], "layer 2 (Conv2D): the axes of its input"),
        ([lambda: layers.LayerNormalization([2, 3])], "layer 1 (LayerNormalization): PyTorch's images have other last"),
        ([lambda: Own(3)], "layer 1 (Own): a custom layer"),
    ],
)
def test_what_pytorch_has_not_is_named(chain, said):
    model = built([layers.Activation("relu"), *(make() for make in chain)], (4, 3, 2))
    with pytest.raises(interop.ConversionError, match=re.escape(said)):
        interop.to_torch(model)
    with pytest.raises(interop.ConversionError, match=re.escape(said)):
        interop.load_torch(model, {})


# ---- what is given ----


class Tensor:
    """As much of a tensor of PyTorch's as is asked for; NumPy has no bfloat16."""

    def __init__(self, array, wide=True):
        self.array, self.wide = array, wide

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        if not self.wide:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array

    def float(self):
        return Tensor(self.array)


def test_tensors_of_any_real_dtype_and_arrays():
    model, other = two(), scrambled(two(), 1)
    model.load_state_dict({name: np.round(4 * a) / 4 for name, a in model.state_dict().items()})  # float16 has them
    state = interop.to_torch(model)
    for kind in (lambda a: a.astype(np.float16), lambda a: a.astype(float), Tensor, lambda a: Tensor(a, False)):
        interop.load_torch(scrambled(other, 1), {name: kind(array) for name, array in state.items()})
        assert other.fingerprint() == model.fingerprint()
    left_as_it_is(
        other, lambda: interop.load_torch(other, state | {"5.bias": np.ones(3, complex)}), "5.bias", "complex"
    )
    left_as_it_is(other, lambda: interop.load_torch(other, state | {"5.bias": "text"}), "5.bias", "real numbers")
    left_as_it_is(other, lambda: interop.load_torch(other, state | {"5.bias": np.full(3, 1e300)}), "float32 has")


def test_what_is_no_state_dict_is_told_what_to_give():
    model, state = two(), interop.to_torch(two())
    for checkpoint in ({"epoch": 3, "state_dict": state, "optimizer": {}}, {"model": state}):
        entry = [*checkpoint][-2 if "epoch" in checkpoint else 0]
        left_as_it_is(model, lambda c=checkpoint: interop.load_torch(model, c), f"checkpoint[{entry!r}]")

    class Net:
        def state_dict(self):
            return state

    with pytest.raises(TypeError, match=r"Give its state_dict\(\)"):
        interop.load_torch(model, Net())
    with pytest.raises(TypeError, match=r"interop.load_torch: needs a dictionary of tensors or arrays"):
        interop.load_torch(model, 3)
    with pytest.raises(TypeError, match=r"interop.load_torch: model must be a Sequential"):
        interop.load_torch([], state)
    with pytest.raises(RuntimeError, match=r"build\(input_shape\)"):
        interop.load_torch(mc.Sequential([layers.Dense(3)]), state)


def test_a_pickle_is_for_pytorch_alone(tmp_path, monkeypatch):
    path = tmp_path / "net.pt"
    path.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    real = builtins.__import__

    def without(name, *more, **named):
        if name == "torch":
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    model = two()
    left_as_it_is(model, lambda: interop.load_torch(model, path), "only PyTorch reads safely", "save_file")
    left_as_it_is(model, lambda: interop.load_torch(model, tmp_path / "net.npz"), "must be a .safetensors")
    with pytest.raises(FileNotFoundError):
        interop.load_torch(model, tmp_path / "other.pth")


def test_files_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    model, other = two(), scrambled(two(), 1)
    tensors = {name: torch.from_numpy(array) for name, array in interop.to_torch(model).items()}
    torch.save(tensors, tmp_path / "net.pt")
    interop.load_torch(other, tmp_path / "net.pt")
    assert other.fingerprint() == model.fingerprint()
    torch.save({"model": tensors}, tmp_path / "net.pth")
    left_as_it_is(other, lambda: interop.load_torch(other, tmp_path / "net.pth"), "checkpoint['model']")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.bin")
    left_as_it_is(other, lambda: interop.load_torch(other, tmp_path / "net.bin"), "weights_only=True", "state_dict()")
    (tmp_path / "net.pt").write_bytes((tmp_path / "net.pt").read_bytes()[:300])
    left_as_it_is(other, lambda: interop.load_torch(other, tmp_path / "net.pt"), "net.pt: PyTorch does not read it")


def test_half_precision_of_pytorch():
    torch = pytest.importorskip("torch")
    model = built([layers.Dense(3)], (4,))
    weight = torch.arange(12).reshape(3, 4) / 4
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        interop.load_torch(model, {"0.weight": weight.to(dtype).requires_grad_(), "0.bias": torch.ones(3).to(dtype)})
        assert np.array_equal(model.state_dict()["0.kernel"], weight.numpy().T)
    with pytest.raises(interop.ConversionError, match=r"'0.weight' must be an array"):
        interop.load_torch(model, {"0.weight": weight.to_sparse(), "0.bias": torch.ones(3)})
