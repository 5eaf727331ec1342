"""Augmentation to look at: what each layer makes of two images in six training steps, how images are filled up and
resized, and what mixup and cutmix make of a batch.

Draws two pictures and says with which numbers each layer begins.  Needs matplotlib: pip install "minicnn[plot]".
"""

import argparse
from pathlib import Path

import numpy as np

import minicnn as mc
from minicnn import layers

try:
    from matplotlib.figure import Figure
    from PIL import Image  # matplotlib cannot do without
except ImportError:
    raise SystemExit('this example draws with matplotlib: pip install "minicnn[plot]"') from None

UNIT = (0, 1)  # the range of the images
LAYERS = {  # of height and width of an image
    'RandomFlip("horizontal")': lambda h, w: layers.RandomFlip("horizontal"),
    "RandomFlip()": lambda h, w: layers.RandomFlip(),
    'RandomTranslation(0.2, 0.2, "constant")': lambda h, w: layers.RandomTranslation(0.2, 0.2, "constant"),
    "RandomRotation(0.1)": lambda h, w: layers.RandomRotation(0.1),
    "RandomZoom(0.4)": lambda h, w: layers.RandomZoom(0.4),
    "RandomZoom(0.4, 0.4)": lambda h, w: layers.RandomZoom(0.4, 0.4),
    "RandomCrop, 3/4 of each side": lambda h, w: layers.RandomCrop(3 * h // 4, 3 * w // 4),
    "RandomContrast(0.7, (0, 1))": lambda h, w: layers.RandomContrast(0.7, UNIT),
    "RandomBrightness(0.4, (0, 1))": lambda h, w: layers.RandomBrightness(0.4, UNIT),
    "RandomErasing(0.8, value_range=(0, 1))": lambda h, w: layers.RandomErasing(0.8, value_range=UNIT),
    "RandomErasing(0.8, fill_value=0.5)": lambda h, w: layers.RandomErasing(0.8, fill_value=0.5, value_range=UNIT),
}
FILLS = ("reflect", "wrap", "nearest", "constant")
NARROW, FLAT = (1, 1 / 2), (1 / 2, 1)  # parts of height and width
SIZES = ((1 / 4, 1 / 4), (1 / 2, 1 / 2), (2, 2), NARROW, FLAT)
IN_WORDS = "a quarter, half, twice the size, half as wide, half as high"
RESIZING = {
    f"Resizing, nearest: {IN_WORDS}": (SIZES, {"interpolation": "nearest"}),
    f"Resizing, bilinear: {IN_WORDS}": (SIZES, {}),
    "Resizing, crop_to_aspect_ratio=True: half as wide, half as high": ((NARROW, FLAT), {"crop_to_aspect_ratio": True}),
}
MIXES = {
    "mixup(0.2)": mc.augment.mixup(0.2),
    "mixup(1.0)": mc.augment.mixup(1.0),
    "cutmix(1.0)": mc.augment.cutmix(1.0),
}


def house(size=48):
    """A picture that tells left from right and up from down: a house, a tree beside it, a sun."""
    row, column = np.mgrid[:size, :size] / size
    picture = np.full((size, size, 3), (0.55, 0.75, 0.95))
    picture[row > 0.75] = 0.35, 0.6, 0.25
    picture[(row - 0.17) ** 2 + (column - 0.82) ** 2 < 0.01] = 1.0, 0.85, 0.2
    picture[(row > 0.45) & (row < 0.82) & (column > 0.12) & (column < 0.55)] = 0.85, 0.55, 0.4
    picture[(row < 0.46) & (row > 0.2 + 1.1 * abs(column - 0.335))] = 0.65, 0.2, 0.15
    picture[(row > 0.58) & (row < 0.82) & (column > 0.2) & (column < 0.3)] = 0.35, 0.2, 0.1
    picture[(row > 0.55) & (row < 0.67) & (column > 0.38) & (column < 0.48)] = 0.95, 0.95, 0.7
    picture[(row > 0.55) & (row < 0.85) & (column > 0.73) & (column < 0.78)] = 0.4, 0.25, 0.1
    picture[(row - 0.52) ** 2 + (column - 0.755) ** 2 < 0.015] = 0.15, 0.45, 0.2
    return picture.astype(np.float32)


def boat(size=48):
    """Another picture of that size: a boat at night."""
    row, column = np.mgrid[:size, :size] / size
    picture = np.full((size, size, 3), (0.1, 0.12, 0.3))
    picture[(row - 0.2) ** 2 + (column - 0.2) ** 2 < 0.008] = 0.95, 0.95, 0.85
    picture[row > 0.7] = 0.1, 0.3, 0.45
    picture[(row > 0.62) & (row < 0.8) & (abs(column - 0.5) < 0.95 - row)] = 0.6, 0.3, 0.2
    picture[(row > 0.2) & (row < 0.62) & (abs(column - 0.5) < 0.012)] = 0.8, 0.7, 0.6
    picture[(row > 0.22) & (row < 0.58) & (column > 0.52) & (column < 0.4 + 0.62 * row)] = 0.9, 0.35, 0.3
    picture[(row > 0.26) & (row < 0.58) & (column < 0.48) & (column > 0.54 - 0.5 * row)] = 0.9, 0.85, 0.75
    return picture.astype(np.float32)


def made(make, image):
    """The layer, built for the image."""
    layer = make(*image.shape[:2])
    if hasattr(layer, "seed"):  # Resizing draws nothing
        layer.seed = 6
    layer.build(image.shape, np.random.default_rng(0))
    return layer


def steps(layer, image, count):
    """What the layer makes of the image in so many training steps."""
    return [layer.forward(image[None], training=True)[0] for _ in range(count)]


def drawn(layer):
    """In words, what was drawn for the image in the latest step."""
    if isinstance(layer, layers.RandomErasing):
        top, left, height, width = layer.last_boxes[0]
        return f"a rectangle of {height} x {width} pixels from row {top}, column {left} on" if height else "nothing"
    if isinstance(layer, layers.RandomContrast | layers.RandomBrightness):
        return f"the factor {layer.last_factors[0]:+.2f}"
    (a, b, c), (d, e, f) = layer.last_maps[0]
    return f"(i, j) from row {a:.2f} i {b:+.2f} j {c:+.2f}, column {d:.2f} i {e:+.2f} j {f:+.2f}"


def show(panel, image, title=""):
    grey = image.shape[-1] == 1
    panel.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=1)
    panel.set_xticks([])
    panel.set_yticks([])
    if title:
        panel.set_title(title, fontsize=9, loc="left")


def show_once(row, images, title, makers):
    """The images, and what each of the layers makes of them, as far as there is room."""
    for panel in row:
        panel.set_axis_off()
    for image, panels in zip(images, np.split(row, len(images)), strict=True):
        made_of = [steps(made(make, image), image, 1)[0] for make in makers]
        for panel, shown in zip(panels, [image, *made_of], strict=False):
            panel.set_axis_on()
            show(panel, shown)
    row[0].set_title(title, fontsize=9, loc="left")


def save(figure, path):
    figure.savefig(path, dpi=80)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(128, kmeans=2)  # nearer to the colours, and smaller
    small.save(path, optimize=True)


def draw_mixing(path, count):
    """A batch of pictures and one of digits, each of them twice by every way to mix; below an image what it is of."""
    views = [house(), boat(), house()[..., ::-1], boat()[:, ::-1], house()[..., [1, 0, 2]], boat()[..., [1, 2, 0]]]
    (x, y), _ = mc.datasets.digits.load_data()
    batches = [
        (np.stack([*views, house()[:, ::-1]])[:count], list("ABCDEFG")),
        (x[:count].reshape(-1, 8, 8, 1).astype(np.float32), [str(label) for label in y[:count]]),
    ]
    figure = Figure(figsize=(1.9 * count, 1.4 * (1 + 2 * len(MIXES))))
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.02, top=0.97, wspace=0.06, hspace=0.38)
    panels = figure.subplots(1 + 2 * len(MIXES), 2 * count)
    for half, (images, names) in enumerate(batches):
        places = panels[:, half * count : (half + 1) * count]
        for image, name, panel in zip(images, names, places[0], strict=False):
            show(panel, image)
            panel.set_xlabel(name, fontsize=7, labelpad=2)
        places[0, 0].set_title("" if half else "a batch, and what steps make of it", fontsize=9, loc="left")
        for number, (title, mix) in enumerate(MIXES.items()):
            for step in range(2):
                pairs, row = mix.draw(count, images.shape[1:], step, seed=17), places[1 + 2 * number + step]
                mixed = zip(pairs.inputs(images), pairs.partners, pairs.shares, row, strict=True)
                for n, (image, partner, share, panel) in enumerate(mixed):
                    show(panel, image, title if step == n == half == 0 else "")
                    rest = f"{share:.2f} {names[n]} + {1 - share:.2f} {names[partner]}"
                    panel.set_xlabel(names[n] if partner == n else rest, fontsize=7, labelpad=2)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("augmentation.png"), help="the file of the picture")
    parser.add_argument("--steps", type=int, default=6, help="training steps of each image")
    parser.add_argument("--quick", action="store_true", help="2 training steps")
    options = parser.parse_args()
    count = 2 if options.quick else options.steps

    digit = mc.datasets.digits.load_data()[0][0][2]
    images = [house(), digit.reshape(8, 8, 1).astype(np.float32)]
    rows, columns = len(LAYERS) + len(FILLS) + len(RESIZING), 2 * (count + 1)
    figure = Figure(figsize=(0.95 * columns, 1.25 * rows))
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=0.98, wspace=0.06, hspace=0.3)
    panels = figure.subplots(rows, columns)
    for number, (name, make) in enumerate(LAYERS.items()):
        for place, image in enumerate(images):
            layer, first = made(make, image), place * (count + 1)
            show(panels[number, first], image, "" if place else name)
            for step, panel in enumerate(panels[number, first + 1 : first + 1 + count]):
                show(panel, steps(layer, image, 1)[0])
                if step == 0 and place == 0:
                    print(f"{name}: {drawn(layer)}")
    for number, fill in enumerate(FILLS, len(LAYERS)):
        moving = [
            lambda h, w, fill=fill: layers.RandomTranslation((0.3, 0.3), (0.3, 0.3), fill),
            lambda h, w, fill=fill: layers.RandomRotation((0.08, 0.08), fill),
            lambda h, w, fill=fill: layers.RandomZoom((0.8, 0.8), None, fill),
        ]
        show_once(panels[number], images, f'fill_mode="{fill}": moved, turned, zoomed out', moving)
    for number, (title, (sizes, more)) in enumerate(RESIZING.items(), len(LAYERS) + len(FILLS)):
        resizing = [lambda h, w, a=a, b=b, more=more: layers.Resizing(int(a * h), int(b * w), **more) for a, b in sizes]
        show_once(panels[number], images, title, resizing)
    save(figure, options.out)
    mixing = options.out.with_name(f"{options.out.stem}_mixing.png")
    draw_mixing(mixing, count + 1)
    print(f"{mixing}: below each image what it is of")
    print(f"{options.out}: the image itself is the leftmost of each row")


if __name__ == "__main__":
    main()
