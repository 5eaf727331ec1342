"""The layers that augment images, by themselves and as a share of a training step."""

import numpy as np

from benchmarks.machine import percent, side_by_side, table
from benchmarks.models import MODELS, chain, in_minicnn, samples
from minicnn import Sequential, layers, optimizers

TITLE = "Augmentation"
TEXT = """\
A training forward of one layer, called by hand on float32 images as they stand at the beginning of a network, where no
gradient of them is needed; *backward* is what it would cost elsewhere. *Share*: of a step of `keras_cifar` with as many
images, measured side by side. The step itself is timed without augmentation and with what is usual for images of 32x32
(ZeroPadding2D(4), RandomCrop(32, 32), RandomFlip("horizontal")) before it, in one plan; and with mixup and cutmix,
`fit(mix=...)`.
"""
BATCH, SHAPE = 128, (32, 32, 3)
LAYERS = {
    'RandomFlip("horizontal")': lambda: layers.RandomFlip("horizontal"),
    "RandomFlip()": layers.RandomFlip,
    "RandomCrop(28, 28)": lambda: layers.RandomCrop(28, 28),
    "RandomTranslation(0.1, 0.1)": lambda: layers.RandomTranslation(0.1, 0.1),
    'RandomTranslation(0.1, 0.1, "constant", "nearest")': lambda: layers.RandomTranslation(
        0.1, 0.1, "constant", "nearest"
    ),
    "RandomRotation(0.1)": lambda: layers.RandomRotation(0.1),
    "RandomZoom(0.2)": lambda: layers.RandomZoom(0.2),
    "RandomContrast(0.2)": lambda: layers.RandomContrast(0.2, (0, 1)),
    "RandomBrightness(0.2)": lambda: layers.RandomBrightness(0.2, (0, 1)),
    "RandomErasing(), noise": lambda: layers.RandomErasing(value_range=(0, 1)),
    "RandomErasing(fill_value=0)": lambda: layers.RandomErasing(fill_value=0, value_range=(0, 1)),
}
STEP, AUGMENTED = "a step of `keras_cifar`", "the same, augmented"
MIXES = {"the same, mix=mixup(0.2)": "mixup", "the same, mix=cutmix(1.0)": "cutmix"}


def standard():
    return [layers.ZeroPadding2D(4), layers.RandomCrop(32, 32), layers.RandomFlip("horizontal")]


def run(quick=False, plots=None):
    batch, steps = (4, 1) if quick else (BATCH, 2)
    shape, entries = MODELS["keras_cifar"]
    x, y = samples(shape, batch * steps)
    plain, augmented = in_minicnn(entries), Sequential([*standard(), *chain(entries)], seed=0)
    augmented.compile(optimizers.SGD(0.001, momentum=0.9), "sparse_categorical_crossentropy")
    cases = {STEP: fitting(plain, x, y, batch), AUGMENTED: fitting(augmented, x, y, batch)}
    cases |= {name: fitting(plain, x, y, batch, mix) for name, mix in MIXES.items()}
    images = np.random.default_rng(0).random((batch, *SHAPE), np.float32)
    for name, make in LAYERS.items():
        layer = make()
        layer.in_chain = True  # no copies for callers, as inside a model
        layer.build(SHAPE, np.random.default_rng(0))
        dy = np.ones((batch, *layer.output_shape), np.float32)
        cases[name] = lambda layer=layer: layer.forward(images, training=True)
        cases[f"{name}, and back"] = lambda layer=layer, dy=dy: (
            layer.forward(images, training=True),
            layer.backward(dy),
        )
    found = side_by_side(cases, quick, rounds=9, burst=0.01)
    step = found[STEP].median / steps
    rows = [[STEP, f"{1e3 * step:.2f}", "", percent(found[STEP].spread), percent(1)]]
    for name in (AUGMENTED, *MIXES):
        more = found[name].median / steps - step
        rows.append([name, f"{1e3 * (step + more):.2f}", "", percent(found[name].spread), f"{more / step:+.0%}"])
    for name in LAYERS:
        forward, both = found[name], found[f"{name}, and back"].median
        rows.append([
            name, f"{1e3 * forward.median:.2f}", f"{1e3 * (both - forward.median):.2f}", percent(forward.spread),
            percent(forward.median / step),
        ])  # fmt: skip
    return f"{TEXT}\n{table(['what', 'ms', 'backward', 'spread', 'share'], rows)}"


def fitting(model, x, y, batch, mix=None):
    return lambda: model.fit(x, y, batch_size=batch, epochs=1, verbose=0, mix=mix)
