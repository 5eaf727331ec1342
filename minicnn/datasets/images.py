"""One picture as an array; needs Pillow, which is an extra: ``pip install "minicnn[images]"``."""

import os
import warnings

import numpy as np

from minicnn import _check, _files
from minicnn.datasets.errors import DataError

CHANNELS = {"rgb": 3, "grayscale": 1, "rgba": 4}  # of Keras's color_mode
COLORS = {channels: color for color, channels in CHANNELS.items()}

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels
_COMMON = ("PNG", "JPEG", "GIF", "BMP", "PPM")  # tried first: Pillow takes a while to load all that it knows
_REFUSED = ("EPS", "WMF", "MPEG")  # Pillow hands these to other programs (Ghostscript, Windows), or cannot read them
_MOST_PIXELS = 50_000_000  # a larger picture is a mistake or an attack; docs/reliability.md says what memory it takes
_STRIP = 2**20  # pixels that are converted together where it takes several steps
_ORIENTATION = 0x0112  # EXIF's tag
_BLOCKS = 8  # pixels along a side, from which on it does not matter that means are over whole pixels
_GAP = 2.5  # how many times as large as needed a JPEG is decoded at least, so that resizing still takes means


def read_image(path, shape, crop_to_aspect_ratio=False, pad_to_aspect_ratio=False):
    """The picture in ``path`` as uint8 (H, W, C), 0 to 255, for ``shape`` = (H, W, C): C = 1 grey, 3 RGB, 4 RGBA.

    Whatever Pillow reads is read, of several pictures in a file the first.  It is turned as its EXIF orientation says
    (damaged EXIF data are ignored), transparent places become white (255) unless C is 4, colours become what C asks
    for, and 16-bit grey keeps its upper 8 bits.

    If its size is not H x W it is resized to it: every new pixel is a mean over the area that it covers (Pillow's BOX
    where H and W divide the size or it is 8 times as large, else HAMMING), or interpolated where it grows.  Proportions
    change, unless

    - ``crop_to_aspect_ratio``: the largest part about the middle that has the proportions of H x W is taken, or
    - ``pad_to_aspect_ratio``: all of it is, as large as fits, in the middle, with black (RGBA: transparent) beside it.

    A large JPEG is decoded at a half, a quarter or an eighth of its size where that is still 2.5 times H x W.

    ImportError without Pillow; DataError, which names the file, if it is no picture, is damaged, has more than 50
    million pixels or 32,768 along a side, holds 32-bit numbers, or is a pipe or a device; ValueError for another
    ``shape`` and for both ways of keeping proportions.
    """
    where = "datasets.images.read_image"
    shape = _check.sample_shape(where, shape)
    if len(shape) != 3 or shape[2] not in _MODES:
        required = (
            "shape must be (height, width, 1) for grey, (height, width, 3) for RGB or (height, width, 4) for RGBA"
        )
        raise ValueError(_check.message(where, required, shape))
    fit = fitting(where, crop_to_aspect_ratio, pad_to_aspect_ratio)
    return read(path, shape, fit)


def fitting(where, crop_to_aspect_ratio, pad_to_aspect_ratio):
    """ "crop", "pad" or "stretch"; ValueError for both arguments, TypeError for what is not True or False."""
    crop = _check.boolean(where, "crop_to_aspect_ratio", crop_to_aspect_ratio)
    pad = _check.boolean(where, "pad_to_aspect_ratio", pad_to_aspect_ratio)
    if crop and pad:
        required = "of crop_to_aspect_ratio and pad_to_aspect_ratio only one can be True"
        raise ValueError(_check.message(where, required, _check.Shown("both")))
    return "crop" if crop else "pad" if pad else "stretch"


def pillow():
    """``PIL.Image``; ImportError that says what to install."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('reading images needs Pillow: pip install "minicnn[images]"') from error
    return Image


def read(path, shape, fit):
    """``read_image`` for arguments that are checked; ``fit``: what ``fitting`` gives."""
    Image = pillow()

    def decoded(picture):
        height, width, channels = shape
        _draft(picture, _MODES[channels], (width, height), fit, Image)
        picture.load()
        turn = _turn(picture, Image)
        picture = _flat(path, picture, _MODES[channels], Image)
        picture = picture if turn is None else picture.transpose(turn)
        return _resized(picture, (width, height), fit, Image)

    return np.array(_opened(path, decoded, Image), dtype=np.uint8).reshape(shape)


def look(path):
    """(height, width) of the upright picture; DataError or OSError where the beginning of the file shows that ``read``
    would raise it."""
    Image = pillow()
    return _opened(path, lambda picture: picture.size if _sideways(picture, Image) else picture.size[::-1], Image)


def is_picture(path):
    """Whether ``look`` finds a picture."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Pillow's
            look(path)
    except (DataError, OSError):
        return False
    return True


def is_called_picture(name):
    """Whether a file's name has the ending of a kind that Pillow knows."""
    ending = os.path.splitext(name)[1].lower()
    return bool(ending) and ending in pillow().registered_extensions()


def _opened(path, use, Image):
    """What ``use`` makes of the opened picture; DataError for anything that goes wrong with it."""
    file, size = _files.open_regular(path, lambda what: DataError(path, what))
    with file:
        if not size:
            raise DataError(path, "is not a readable image (it is empty)")
        try:
            picture = _identified(file, Image)
            width, height = picture.size
            if width * height > _MOST_PIXELS:
                raise DataError(path, f"has {width} x {height} pixels, more than 50 million")
            if max(width, height) > _check.MOST_PIXELS:  # Pillow takes memory for every row, however short
                raise DataError(path, f"has {width} x {height} pixels, more than {_check.MOST_PIXELS} along a side")
            return use(picture)
        except DataError:
            raise
        except Exception as error:  # damaged bytes lead Pillow's decoders to errors of many kinds
            raise DataError(path, f"is not a readable image ({_said(error)})") from error


def _identified(file, Image):
    try:
        return Image.open(file, formats=_COMMON)
    except Image.UnidentifiedImageError:
        Image.init()
        file.seek(0)
        return Image.open(file, formats=[name for name in Image.ID if name not in _REFUSED])


def _said(error):
    """Pillow's own words, without the file object that they name."""
    said = str(error) or type(error).__name__
    return "of no kind that Pillow knows" if said.startswith("cannot identify image file") else said


def _region(size, wanted, fit):
    """(the part of a picture of that size that is used: left, top, right, bottom, what size it becomes)."""
    (width, height), (new_width, new_height) = size, wanted
    if fit == "pad":
        scale = min(new_width / width, new_height / height)
        return (0, 0, width, height), tuple(
            min(new, max(1, round(scale * old))) for old, new in zip(size, wanted, strict=True)
        )
    if fit == "stretch":
        return (0, 0, width, height), wanted
    part = min(width, height * new_width / new_height), min(height, width * new_height / new_width)
    left, top = (width - part[0]) / 2, (height - part[1]) / 2
    return (left, top, left + part[0], top + part[1]), wanted


def _shrinking(size, wanted, fit):
    """(how many times as wide as needed a picture is, how many times as high)."""
    (left, top, right, bottom), (width, height) = _region(size, wanted, fit)
    return (right - left) / width, (bottom - top) / height


def _draft(picture, mode, wanted, fit, Image):
    """Has a JPEG decoded at a fraction of its size, where it is large enough, and without its colours for grey."""
    if picture.format not in ("JPEG", "MPO"):
        return
    size = picture.size[::-1] if _sideways(picture, Image) else picture.size
    by = max((by for by in (2, 4, 8) if by * _GAP <= min(_shrinking(size, wanted, fit))), default=1)
    picture.draft(mode, tuple(max(1, side // by) for side in picture.size))


def _sideways(picture, Image):
    """Whether width and height are exchanged when it is turned upright."""
    turns = Image.Transpose
    return _turn(picture, Image) in (turns.TRANSPOSE, turns.TRANSVERSE, turns.ROTATE_90, turns.ROTATE_270)


def _resized(picture, wanted, fit, Image):
    box, size = _region(picture.size, wanted, fit)
    across, down = _shrinking(picture.size, wanted, fit)
    filters = Image.Resampling
    if (across == int(across) and down == int(down)) or min(across, down) >= _BLOCKS:
        method = filters.BOX
    else:
        method = filters.HAMMING if min(across, down) >= 1 else filters.BILINEAR
    if size != picture.size or box != (0, 0, *picture.size):
        picture = picture.resize(size, method, box)
    if size == wanted:
        return picture
    padded = Image.new(picture.mode, wanted)
    padded.paste(picture, tuple((new - old) // 2 for old, new in zip(size, wanted, strict=True)))
    return padded


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


def _flat(path, picture, mode, Image):
    """In the mode "L", "RGB" or "RGBA", 8 bits a channel; in the first two transparent places are white.

    Strip by strip where Pillow's own way takes several pictures of the full size, or is wrong: it cuts 16-bit values
    off at 255.
    """
    if picture.mode == "F":
        raise DataError(path, "holds 32-bit floats, which have no brightest value")
    deep = picture.mode.startswith("I")
    if picture.mode == "LAB":  # from which Pillow knows no way to grey or to RGBA
        picture = picture.convert("RGB")
    if not deep and (mode == "RGBA" or not picture.has_transparency_data):
        return picture if picture.mode == mode else picture.convert(mode)
    flat = Image.new(mode, picture.size)
    rows = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        strip = _upper_bits(path, strip, Image) if deep else _on_white(strip, Image)
        flat.paste(strip.convert(mode), (0, top))
    return flat


def _upper_bits(path, picture, Image):
    """16-bit grey as 8-bit grey; the value that tRNS calls transparent becomes white."""
    values = np.asarray(picture)
    if picture.mode == "I" and values.size and not 0 <= values.min() <= values.max() < 2**16:
        raise DataError(path, "holds 32-bit numbers, which have no brightest value")
    found = (values >> 8).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        found[values == transparent] = 255
    return Image.fromarray(found)


def _on_white(picture, Image):
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
