"""``--augment``: the layers that its words stand for."""

from minicnn import layers
from minicnn.cli import defaults, words


def layers_of(settings, shape=(32, 32, 3), high=1.0):
    """The layers that ``settings`` ask for, to stand before a network for images of ``shape``, in [0, ``high``].

    ``Usage`` with the layer's own sentence for a value that it does not take.
    """
    found, text = [], settings["augment"]
    for word, value in entries(text, settings) if text else ():
        try:
            found += MAKE[word](value, shape, (0.0, high), _filling(settings))
        except (ValueError, TypeError) as error:
            raise words.Usage(f"--augment {word}: {error}") from error
    return found


def entries(text, settings):
    """[(word, value)], with the words that "standard" stands for, but for those that stand beside it; a value is text,
    or the default of the word."""
    found, own = [], [part.partition("=")[0] for part in text.split(",")]
    for part in text.split(","):
        word, _, value = part.partition("=")
        if word == defaults.STANDARD:
            kind = "writing" if _is_writing(settings) else "pictures"
            found += [one for one in entries(defaults.STANDARD_FOR[kind], settings) if one[0] not in own]
        else:
            found.append((word, value or defaults.AUGMENT[word]))
    return found


def _is_writing(settings):
    """Whether the images may be of writing, which is none if it is mirrored: grey pictures of one's own may."""
    if settings["data"] in defaults.SETTINGS:
        return settings["data"] in defaults.WRITING
    return settings["color"] == "grayscale"


def _filling(settings):
    """How what lies outside of an image is filled: writing and clothes of the known data sets lie on black."""
    return "constant" if settings["data"] in defaults.ON_BLACK else "reflect"


def _numbers(text):
    """A number, or "-0.1:0.3" as a pair."""
    found = tuple(float(one) for one in text.split(":"))
    return found if len(found) > 1 else found[0]


def _cropped(value, shape):
    """A border of so many pixels, or an eighth of each side, and a crop of the old size: the border is black."""
    h, w, _ = shape
    sides = (max(1, h // 8), max(1, w // 8)) if value == "1/8" else int(value)
    return [layers.ZeroPadding2D(sides), layers.RandomCrop(h, w)]


_MODES = {"both": "horizontal_and_vertical"}
MAKE = {  # word: (value, shape, range of the data, how to fill) -> layers
    "flip": lambda value, shape, ends, fill: [layers.RandomFlip(_MODES.get(value, value))],
    "translation": lambda value, shape, ends, fill: [layers.RandomTranslation(_numbers(value), _numbers(value), fill)],
    "rotation": lambda value, shape, ends, fill: [layers.RandomRotation(_numbers(value), fill)],
    "zoom": lambda value, shape, ends, fill: [layers.RandomZoom(_numbers(value), fill_mode=fill)],
    "crop": lambda value, shape, ends, fill: _cropped(value, shape),
    "contrast": lambda value, shape, ends, fill: [layers.RandomContrast(_numbers(value), ends)],
    "brightness": lambda value, shape, ends, fill: [layers.RandomBrightness(_numbers(value), ends)],
    "erasing": lambda value, shape, ends, fill: [layers.RandomErasing(_numbers(value), value_range=ends)],
}
