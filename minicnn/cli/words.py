"""What the command line says: notes on stderr, results on stdout, errors as one line."""

import contextlib
import os
import sys
import warnings

FAILURES = (OSError, ValueError, TypeError, RuntimeError, ArithmeticError, ImportError, MemoryError)


class Usage(Exception):
    """Options that do not go together, as it turns out when data and model are known: exit status 2."""


def sentence(error):
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def note(text):
    if sys.stderr is None:  # closed from the beginning: print would take stdout
        return
    with contextlib.suppress(OSError, ValueError):  # a closed stderr must not change what happens
        print(f"minicnn: {plain(text)}", file=sys.stderr, flush=True)


def plain(text):
    """The text with an escape for every letter that cannot be printed: names of files may break lines, or do things to
    a terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def show(text):
    try:
        print(text)
    except UnicodeEncodeError:  # a file name that the terminal cannot show
        print(text.encode("ascii", "backslashreplace").decode())


@contextlib.contextmanager
def warnings_as_notes():
    """What is warned of within is said as notes."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for one in found:
                note(f"warning: {' '.join(str(one.message).split())}")


def silence_stdout():
    """Nothing more can be written: what is still in the buffer must not raise again when Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def count(number, one, many=None):
    """ "1 picture", "1,297 pictures"."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def finite(value):
    """The value as JSON has it: what is not finite as None, in lists and dictionaries, too."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value
