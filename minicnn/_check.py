"""Argument checks and the wording of their errors; imports nothing of minicnn.

Every message has one shape: ``<Class>[.method]: <what is required>; got <value>[. <fix>]``.  TypeError is for the wrong
kind of thing, ValueError for a value or a shape out of range.  ``where`` is the part before the colon.
"""

import contextlib
import functools
import inspect
import itertools
import math
import numbers
import os
import warnings

import numpy as np


def message(where, required, got, fix=""):
    """The text of an error; ``got`` is shown with repr, shortened to 200 characters."""
    shown = got if isinstance(got, Shown) else repr(got)
    if len(shown) > 200:
        shown = f"{shown[:197]}..."
    return f"{where}: {required}; got {shown}{'. ' + fix if fix else ''}"


class Shown(str):
    """Text that ``message`` prints as it is, without quotes."""


class _Note(str):
    """A note of minicnn's on an exception; ``about``: what it tells."""

    about = None


def note(error, about, text):
    """Adds a note to an exception; what a former raise of the same object has left about this is taken off."""
    found = _Note(text)
    found.about = about
    with contextlib.suppress(TypeError):  # __notes__ of somebody's own is not a list
        error.add_note(found)
        error.__notes__[:-1] = [one for one in error.__notes__[:-1] if getattr(one, "about", None) != about]


def warn(text):
    """A warning in the name of the first line outside of this package that has led to it."""
    frame, level, inside = inspect.currentframe(), 1, os.path.dirname(__file__) + os.sep
    while frame is not None and frame.f_code.co_filename.startswith(inside):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def kind(value):
    """``value`` with its type, for messages about the wrong kind of thing: "'3' (str)"."""
    return Shown(f"{value!r} ({type(value).__name__})")


def integer(where, name, value, low=None, high=None):
    """``value`` as an int in [low, high]; bool and float are refused."""
    required = f"{name} must be a whole number{_range(low, high)}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(message(where, required, kind(value)))
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(message(where, required, int(value)))
    return int(value)


def anything(where, name, value):
    return value


def label(where, name, value):
    """A word, for people to read."""
    if not isinstance(value, str):
        raise TypeError(message(where, f"{name} must be a string", kind(value)))
    if not value.isprintable() or not value.strip():
        raise ValueError(message(where, f"{name} must have letters that can be printed", value))
    return value


def class_names(where, name, value, count=None):
    """A list of different labels, one for each of the ``count`` classes, where that is known."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, list | tuple):
        raise TypeError(message(where, f"{name} must be a list of strings, in the order of the outputs", kind(value)))
    names = [str(label(where, f"every one of {name}", one)) for one in value]
    if len(set(names)) < len(names):
        twice = next(a for a, b in itertools.pairwise(sorted(names)) if a == b)
        raise ValueError(message(where, f"{name} must be different from each other", Shown(f"{twice!r} twice")))
    if len(names) != (count or len(names)) or not names:
        required = f"{name} must have {'a name' if count is None else f'{count} names, one'} for each class"
        raise ValueError(message(where, required, value))
    return names


def each(where, name, values, called, check, *arguments):
    """A list or tuple as a tuple of what ``check`` makes of every entry; ``called``: "a boundary"."""
    if not isinstance(values, list | tuple):
        raise TypeError(message(where, f"{name} must be a list of numbers", kind(values)))
    return tuple(check(where, called, value, *arguments) for value in values)


MOST_PIXELS = 2**15  # along an axis: no window, stride, dilation or border is larger


PADDINGS = ("valid", "same")


MOST_STEPS = 2**62 - 1  # of counts that files hold and that are counted on from there: they never reach 2^63


def pair(where, name, value, low=1):
    """A whole number for both axes, or one for each: (height, width); at most MOST_PIXELS."""
    sides = value if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1) else [value]
    if len(sides) not in (1, 2) or (len(sides) == 1 and sides is value):
        raise ValueError(message(where, f"{name} must be a whole number or a pair of them", value))
    sides = [integer(where, name, side, low) for side in sides]
    if max(sides) > MOST_PIXELS:
        raise ValueError(message(where, f"{name} must be at most {MOST_PIXELS}", max(sides)))
    return sides[0], sides[-1]


def borders(where, name, value):
    """((top, bottom), (left, right)) for one whole number >= 0, for one for each axis, or for two for each axis."""
    sides = value if isinstance(value, list | tuple) else ()
    if len(sides) == 2 and any(isinstance(side, list | tuple) for side in sides):
        return tuple(pair(where, name, side, 0) for side in sides)
    return tuple((side, side) for side in pair(where, name, value, 0))


def padding(where, name, value):
    """ "valid" or "same", in capitals or not, or ``borders``."""
    if isinstance(value, str):
        word = value.lower()
        return word if word in PADDINGS else choice(where, name, value, PADDINGS)
    if value is None or isinstance(value, float):
        required = f"{name} must be 'valid', 'same', a whole number >= 0, a pair of them or a pair of pairs"
        raise TypeError(message(where, required, kind(value)))
    return borders(where, name, value)


def number(where, name, value, low=None, high=None, open_low=False, open_high=False):
    """``value`` as a finite float in the range; bool, str and None are refused."""
    required = f"{name} must be a number{_range(low, high, open_low, open_high)}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(message(where, required, kind(value)))
    try:
        inside = math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        inside = False
    if low is not None:
        inside = inside and (value > low if open_low else value >= low)
    if high is not None:
        inside = inside and (value < high if open_high else value <= high)
    if not inside:
        raise ValueError(message(where, required, value))
    return float(value)


def plain(value):
    """A NumPy scalar or an array without axes as the Python number in it; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _range(low, high, open_low=False, open_high=False):
    if low is None and high is None:
        return ""
    if high is None:
        return f" {'>' if open_low else '>='} {low}"
    if low is None:
        return f" {'<' if open_high else '<='} {high}"
    return f" in {'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"


def boolean(where, name, value):
    if not isinstance(value, bool | np.bool_):
        raise TypeError(message(where, f"{name} must be True or False", kind(value)))
    return bool(value)


def choice(where, name, value, options, most=None):
    """``value`` if it is one of the strings ``options``; the error lists them, or the first ``most``, and suggests the
    nearest of all."""
    if isinstance(value, str) and value in options:
        return value
    near = nearest(value, options)
    error = ValueError if isinstance(value, str) else TypeError
    listed = ", ".join([*map(repr, options[:most]), *(["..."] if len(options) > len(options[:most]) else [])])
    raise error(message(where, f"{name} must be one of {listed}", value, f"Did you mean {near!r}?" if near else ""))


def nearest(word, known):
    """The one of the strings ``known`` that ``word`` was probably meant to be, or None."""
    import difflib  # here: only errors need it

    found = difflib.get_close_matches(word, known, 1, 0.6) if isinstance(word, str) else []
    return found[0] if found else None


def float_dtype(where, dtype):
    """float32 or float64 as a NumPy dtype."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):  # the latter for an object with a ``dtype`` that is none
        found = None
    if found is None or dtype is None or found not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(message(where, "dtype must be 'float32' or 'float64'", dtype))
    return found


def real_dtype(where, name, dtype):
    """``float_dtype`` as the check of a setting."""
    return float_dtype(where, dtype)


def sample_shape(where, shape):
    """The shape of one sample, without the batch axis, as a tuple of ints >= 1.  A leading None (Keras) is dropped."""
    if isinstance(shape, numbers.Integral) and not isinstance(shape, bool):
        shape = (shape,)
    if not isinstance(shape, list | tuple):
        raise TypeError(
            message(where, "input_shape must be a tuple of whole numbers, without the batch axis", kind(shape))
        )
    if shape and shape[0] is None:
        shape = shape[1:]
    return tuple(integer(where, "every axis of input_shape", axis, 1) for axis in shape)


ABSENT = {  # words of Keras's for what is not there
    **dict.fromkeys(("use_ema", "ema_momentum", "ema_overwrite_frequency"), "No moving average of weights is kept"),
    "loss_scale_factor": "Losses are not scaled: there is no float16",
    "gradient_accumulation_steps": "Gradients are not accumulated: take larger batches",
    **dict.fromkeys(("num_thresholds", "summation_method"), "The area is exact, by the order of the scores"),
    "top_k": "metrics.TopKAccuracy asks for the k largest",
}
OTHER_NAMES = {
    "p": ("rate",),
    "lr": ("learning_rate",),
    "out_channels": ("filters",),
    "out_features": ("units",),
    "alpha": ("slope",),
}
DONE_BY = {  # of a keyword that there is not: (the one that does its work, how)
    "ceil_mode": ("padding", "`padding` does it: ((0, rows), (0, columns)) makes room for the last windows"),
}


def meant(word, known):
    """The one of the names ``known`` that ``word`` is for in other libraries, or the nearest one, or None."""
    return next((name for name in OTHER_NAMES.get(word, ()) if name in known), None) or nearest(word, known)


@functools.lru_cache(256)
def _parameters(function):
    """Cached: every layer is checked when it is made, and networks are made many times in a search."""
    return inspect.signature(function).parameters


def keywords(owner, function, given, more=()):
    """TypeError for a keyword that ``function`` does not have, with the name that was probably meant.

    ``more``: words that are allowed as well.
    """
    known = _parameters(function)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    names = [*(name for name in known if name != "self"), *(word for word in more if word not in known)]
    for word in given:
        if word not in names:
            near = meant(word, names)
            fix = ABSENT.get(word) or (f"Did you mean `{near}`?" if near else "")
            if DONE_BY.get(word, ("",))[0] in names:
                fix = DONE_BY[word][1]
            raise TypeError(message(owner, f"the keywords are {', '.join(names)}", Shown(f"`{word}`"), fix))


def array(where, name, value):
    """``value`` as a NumPy array, without a copy where it is one; ValueError for ragged lists."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(
            message(where, f"{name} must be a rectangular array of numbers", Shown(f"a ragged one ({error})"))
        ) from None


def numeric_array(where, name, value):
    """``value`` as a NumPy array of real numbers, without a copy where it is one: any float, int or bool dtype.

    TypeError for strings, objects, complex numbers, dates, and masked arrays with masked entries (the mask would be
    lost); ValueError for ragged lists.
    """
    if type(value) is np.ndarray and value.dtype.kind in "biuf":  # asked several times in every step
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(message(where, f"{name} must have no masked entries", Shown("a masked array"), "Fill it first"))
    found = array(where, name, value)
    if found.dtype.kind not in "biuf":
        required = f"{name} must be an array of numbers (bool, integer or float)"
        raise TypeError(message(where, required, Shown(f"{type(value).__name__} with dtype {found.dtype}")))
    return found


def values_for(where, targets, values):
    """{name: array} of what is to be written into the arrays ``targets``, {name: array}, from ``values``: copies, of
    the same shapes and dtypes.  So all are checked before the first is written, and none may be a view of a target.

    TypeError for what is no array of numbers; ValueError for another shape, for NaN, and for a number that is too large
    for the dtype.
    """
    found = {}
    for name, target in targets.items():
        array = numeric_array(where, name, values[name])
        if array.shape != target.shape:
            raise ValueError(message(where, f"{name} must have shape {target.shape}", shape_of(array)))
        if np.isnan(array).any():
            raise ValueError(message(where, f"{name} must hold numbers", Shown("nan")))
        with np.errstate(over="ignore"):
            found[name] = np.array(array, target.dtype)
        lost = np.isinf(found[name]) & np.isfinite(array)
        if lost.any():
            required = f"{name} must hold numbers that {target.dtype} has"
            raise ValueError(message(where, required, array[lost].flat[0].item()))
    return found


def contiguous(array, dtype):
    """``array`` as the kernels need it: of that dtype, C-contiguous and aligned; itself, if it is so already."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="ignore"):  # too large for float32 becomes inf: callers that mind check it
        array = np.ascontiguousarray(array, dtype)
    return array if array.flags.aligned else array.copy()


def shape_of(value):
    """The shape of an array for a message, printed bare."""
    return Shown(f"shape {tuple(value.shape)}")


def batch_shape(shape):
    """The shape of a batch of samples of this shape for a message: "(N, 4, 3)"."""
    return f"({', '.join(map(str, ('N', *shape)))})"
