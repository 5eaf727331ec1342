"""One PNG or JPEG file as an array; needs Pillow, which is an extra: ``pip install "minicnn[images]"``."""

import numpy as np

from minicnn import _check, _files
from minicnn.datasets.errors import DataError

_MOST_PIXELS = 50_000_000  # a larger picture is a mistake or an attack; docs/reliability.md says what memory it takes
_STRIP = 2**20  # pixels that are converted together where it takes several steps
_ORIENTATION = 0x0112  # EXIF's tag


def read_image(path, shape):
    """The picture in ``path`` as uint8 (H, W, C), 0 to 255, for ``shape`` = (H, W, C) with C = 1 (grey) or 3 (RGB).

    The picture is turned as its EXIF orientation says (damaged EXIF data are ignored), transparent places become white
    (255), colours become what C asks for, and if its size is not H x W it is resized to it, without regard to
    proportions: every new pixel is the mean of the area that it covers.  16-bit grey keeps its upper 8 bits.

    ImportError without Pillow; DataError, which names the file, if it is not PNG or JPEG, is damaged, has more than 50
    million pixels or 32,768 along a side, or is a pipe or a device; ValueError for another ``shape``.
    """
    shape = _check.sample_shape("datasets.images.read_image", shape)
    if len(shape) != 3 or shape[2] not in (1, 3):
        required = "shape must be (height, width, 1) for grey or (height, width, 3) for RGB"
        raise ValueError(_check.message("datasets.images.read_image", required, shape))
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('reading images needs Pillow: pip install "minicnn[images]"') from error
    file, size = _files.open_regular(path, lambda what: DataError(path, what))
    with file:
        if not size:
            raise DataError(path, "is not a readable PNG or JPEG image (it is empty)")
        try:
            picture = _read(path, file, "L" if shape[2] == 1 else "RGB", Image)
        except DataError:
            raise
        except Exception as error:  # damaged bytes lead Pillow's decoders to errors of many kinds
            raise DataError(path, f"is not a readable PNG or JPEG image ({error})") from error
    if picture.size != (shape[1], shape[0]):
        picture = picture.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.array(picture, dtype=np.uint8).reshape(shape)


def _read(path, file, mode, Image):
    """The upright picture in the mode "L" or "RGB", without transparency."""
    picture = Image.open(file, formats=("PNG", "JPEG"))
    width, height = picture.size
    if width * height > _MOST_PIXELS:
        raise DataError(path, f"has {width} x {height} pixels, more than 50 million")
    if max(width, height) > _check.MOST_PIXELS:  # Pillow takes memory for every row, however short
        raise DataError(path, f"has {width} x {height} pixels, more than {_check.MOST_PIXELS} along a side")
    picture.load()
    turn = _turn(picture, Image)
    picture = _flat(picture, mode, Image)
    return picture if turn is None else picture.transpose(turn)


def _turn(picture, Image):
    """What makes the picture upright, as its EXIF data say; None where they say nothing that is valid."""
    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # the picture itself is whole
        return None
    turns = Image.Transpose
    upright = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    return upright.get(orientation) if isinstance(orientation, int) else None


def _flat(picture, mode, Image):
    """In the mode "L" or "RGB", 8 bits a channel, transparent places white.

    Strip by strip where Pillow's own way takes several pictures of the full size, or is wrong: it cuts 16-bit values
    off at 255.
    """
    deep = picture.mode.startswith("I")
    if not deep and not picture.has_transparency_data:
        return picture if picture.mode == mode else picture.convert(mode)
    flat = Image.new(mode, picture.size)
    rows = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        strip = _upper_bits(strip, Image) if deep else _on_white(strip, Image)
        flat.paste(strip.convert(mode), (0, top))
    return flat


def _upper_bits(picture, Image):
    """16-bit grey as 8-bit grey; the value that tRNS calls transparent becomes white."""
    values = np.asarray(picture)
    found = (values >> 8).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        found[values == transparent] = 255
    return Image.fromarray(found)


def _on_white(picture, Image):
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
