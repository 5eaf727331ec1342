"""The networks by name: what they give, for which images, and that others mean the same by the same names."""

import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn import Sequential, layers, networks

sys.path.insert(0, str(Path(__file__).parent.parent))
NAMES = [*networks.NETWORKS]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(12, 12, 1), (32, 32, 3), (50, 20, 3), (17, 64, 4)])
def test_every_network_gives_probabilities_of_the_classes(name, shape):
    model = Sequential(networks.NETWORKS[name](shape, 7))
    outputs = model.predict(np.random.default_rng(0).random((2, *shape), np.float32))
    assert outputs.shape == (2, 7)
    np.testing.assert_allclose(outputs.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["small", "keras_mnist", "keras_cifar"])
def test_dropout_is_a_rate_and_none_is_the_usual_one(name):
    def rates(**arguments):
        found = networks.NETWORKS[name]((32, 32, 3), **arguments)
        return [layer.rate for layer in found if isinstance(layer, layers.Dropout)]

    assert rates() == rates(dropout=None) == rates(dropout=0.5)
    assert rates(dropout=0.2)[-1] == 0.2
    assert set(rates(dropout=0.0)) == {0.0}
    assert all(rate == 0.1 for rate in rates(dropout=0.2)[:-1])


@pytest.mark.parametrize("side", [2, 8, 15, 16, 28, 32, 64, 224])
def test_small_is_small_for_large_images_too(side):
    model = Sequential(networks.small((side, side, 3)))
    model.build((side, side, 3))
    assert model.count_params() < 600_000


@pytest.mark.parametrize(("name", "shape"), [("small", (1, 9, 3)), ("small", (9,)), ("lenet5", (11, 12, 1)),
                                             ("keras_mnist", (9, 10, 1)), ("keras_cifar", (10, 9, 3)),
                                             ("resnet8", (32, 32))])  # fmt: skip
def test_images_that_are_too_small(name, shape):
    with pytest.raises(ValueError, match=rf"networks\.{name}: input_shape must be \(height, width, channels\) with"):
        networks.NETWORKS[name](shape)


def parts(chain, shape):
    """What a network is made of: classes and shapes of its layers, without those that compute nothing by themselves."""
    model = Sequential(chain)
    model.build(shape)
    names = [type(layer).__name__ for layer in model.layers if not isinstance(layer, layers.Rescaling)]
    return names, model.count_params()


@pytest.mark.parametrize("name", ["lenet5", "keras_mnist", "keras_cifar"])
def test_the_benchmarks_measure_the_same_networks(name):
    """Of resnet20 they do not quite: there the first convolution has a bias."""
    models = pytest.importorskip("benchmarks.models", reason="the benchmarks are not part of an installed package")
    shape, entries = models.MODELS[name]
    assert parts(models.chain(entries), shape) == parts(networks.NETWORKS[name](shape), shape)


@pytest.mark.parametrize(("name", "depth"), [("resnet8", 8), ("resnet20", 20)])
def test_the_example_writes_the_same_residual_network(name, depth):
    examples = pytest.importorskip("examples.resnet", reason="the examples are not part of an installed package")
    shape = (32, 32, 3)
    assert parts(examples.resnet(depth).layers, shape) == parts(networks.NETWORKS[name](shape), shape)
