"""One PNG or JPEG file as an array; needs Pillow, which is an extra: ``pip install "minicnn[images]"``."""

import numpy as np

from minicnn import _check
from minicnn.datasets.errors import DataError

_MOST_PIXELS = 50_000_000  # a larger picture is a mistake or an attack; unpacked it would take 200 MB


def read_image(path, shape):
    """The picture in ``path`` as uint8 (H, W, C), 0 to 255, for ``shape`` = (H, W, C) with C = 1 (grey) or 3 (RGB).

    The picture is turned as its EXIF orientation says, transparent places become white, colours become what C asks for,
    and if its size is not H x W it is resized to it, without regard to proportions: every new pixel is the mean of the
    area that it covers.  16-bit grey keeps its upper 8 bits.

    ImportError without Pillow; DataError, which names the file, if it is not PNG or JPEG, is damaged or has more than
    50 million pixels; ValueError for another ``shape``.
    """
    shape = _check.sample_shape("datasets.images.read_image", shape)
    if len(shape) != 3 or shape[2] not in (1, 3):
        required = "shape must be (height, width, 1) for grey or (height, width, 3) for RGB"
        raise ValueError(_check.message("datasets.images.read_image", required, shape))
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('reading images needs Pillow: pip install "minicnn[images]"') from error
    with open(path, "rb") as file:
        try:
            picture = Image.open(file, formats=("PNG", "JPEG"))
            if picture.width * picture.height > _MOST_PIXELS:
                raise DataError(path, f"has {picture.width} x {picture.height} pixels, more than 50 million")
            picture = _flat(ImageOps.exif_transpose(picture), Image).convert("L" if shape[2] == 1 else "RGB")
        except DataError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever the damaged bytes lead them to
            raise DataError(path, f"is not a readable PNG or JPEG image ({error})") from error
    if picture.size != (shape[1], shape[0]):
        picture = picture.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.array(picture, dtype=np.uint8).reshape(shape)


def _flat(picture, Image):
    """Without transparency and with 8 bits a channel; Pillow alone would cut 16-bit values off at 255."""
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture
