"""Batches that come one after the other: data larger than memory, made as they are needed, or without an end.

Beside arrays ``fit``, ``evaluate`` and ``predict`` take data that give batches, (x, y) or (x, y, sample_weight):

- a *sequence* has ``__len__`` and ``__getitem__(i)``, as Keras's Sequence and PyDataset have;
- a *loader* has ``__iter__`` and perhaps ``__len__``, as PyTorch's DataLoader: each iteration is a pass over its data;
- an *iterator*, such as a generator, goes on where it is.

Rows of memory maps are batches that come one after the other, too (``Rows``).  Of these, and of a sequence that has
``read_rows``, a process of several (distributed.py) reads only what it computes:

    read_rows(i, rows_of) -> (x, y) or (x, y, sample_weight)

is ``__getitem__(i)`` of which x must hold only the samples in the slice ``rows_of(n)``, where n is their number.

A ``Source`` knows which batch comes when; a ``Stream`` has it get the next one while the model computes with the one
before.  One thread does that, a batch ahead and never beyond the end of an epoch, so that all calls into the data come
one after the other and in the order in which they would come without it: what they give has the same bits.  An
attribute ``workers`` of the data that is 0 keeps them in the thread that trains, as Keras's does.
"""

import collections.abc
import contextvars
import itertools
import mmap
import os
import queue
import sys
import threading
import warnings
import weakref
from typing import Any, NamedTuple

import numpy as np

from minicnn import _check, datasets

PATIENCE = 5.0  # seconds that a stream waits at its end for data that are still at work
END = object()  # instead of a batch: there is none left
LONG = 10_000  # batches after which a pass without a known end is said to have none yet
MOST_SHUFFLED = 2**28  # batches, or rows on disk, whose order is drawn: it is in memory, 8 bytes each
_FORMS = "(x, y) or (x, y, sample_weight)"


class Batch(NamedTuple):
    """Arrays of their own: whoever gave them may overwrite his.  x is overwritten by the batch after the next one.

    ``rows``: the numbers of the samples, None if they have none.  ``read``: the slice of x that has been read, None for
    all of it: the rest of x may be anything.
    """

    x: Any
    y: Any
    weights: Any
    rows: Any = None
    read: Any = None


class Chosen(NamedTuple):
    """Rows of an array that are still to be read."""

    array: Any
    rows: Any


# ---- what is what ----


def gives_batches(data, lists=True):
    """True for data that give batches, False for what is one array, or nothing of that kind.

    ``lists``: whether a list of batches is one of them.
    """
    if type(data) is np.ndarray:  # asked several times in every call
        return False
    if isinstance(data, list):
        return (
            lists
            and bool(data)
            and all(isinstance(one, tuple) and len(one) in (2, 3) and np.ndim(one[0]) for one in data)
        )
    if isinstance(data, str | bytes | tuple | collections.abc.Mapping | np.generic) or hasattr(data, "__array__"):
        return False
    if hasattr(data, "__array_interface__") or isinstance(data, type) or _is_buffer(data):
        return False
    return hasattr(data, "__iter__") or _is_sequence(data)


def _is_sequence(data):
    return hasattr(data, "__len__") and hasattr(data, "__getitem__")


def _is_buffer(data):
    try:
        memoryview(data)
    except TypeError:
        return False
    return True


def has_no_end(data):
    """True for iterators that are known to go on for ever; of a generator nothing is known."""
    if isinstance(data, itertools.repeat):
        try:
            data.__length_hint__()
        except TypeError:
            return True
    return isinstance(data, itertools.cycle)


def on_disk(array):
    """Whether an array, or what it is a view of, is a memory map."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array.obj if isinstance(array, memoryview) else array, mmap.mmap)


def place(epoch, number, steps, length):
    """(pass over the data, batch in it) of step ``number`` of an epoch of ``steps`` steps, where a pass has ``length``
    batches: passes follow each other without a gap, so a run that goes on at an epoch sees what one that was never
    stopped sees."""
    return divmod(epoch * steps + number, length)


# ---- sources: which batch comes when ----


class Source:
    """``get(epoch, number)``: what the data give for that step, or END.  ``length``: batches of a pass, None if it is
    not known; ``steps``: of an epoch, None for as many as come.

    ``trains``: whether the data are told when a pass begins and ends: ``set_epoch(pass)``, ``on_epoch_begin()``,
    ``on_epoch_end()``, as far as they have them.
    """

    @property
    def about(self):
        """What it gives batches of: (data,) or (x, y, weights)."""
        return (self.data,)

    rows = None  # the numbers of the samples of the latest batch
    wanted = None  # a function (number, n): the slice of a batch of n samples that is to be read, None for all
    read = None  # what it gave for the latest batch
    item = ""  # what says which batch it is, in the data's own words
    until_the_end = False  # whether an epoch has as many steps as there are, whatever ``steps`` says

    def __init__(self, where, data, steps, trains):
        self.where, self.data, self.trains = where, data, trains
        self.length = length_of(where, data)
        self.steps = self.length if steps is None else steps
        self.entered = None  # the pass that has begun and not ended

    @property
    def threaded(self):
        """Whether batches are to be prepared by a thread."""
        workers = getattr(self.data, "workers", 1)
        return not (isinstance(workers, int) and not isinstance(workers, bool) and workers == 0)

    def get(self, epoch, number):
        raise NotImplementedError

    @property
    def reads_rows(self):
        """Whether it can read a part of a batch."""
        return False

    def rows_of(self, number, n):
        """The slice that is to be read of batch ``number``, of n samples."""
        self.read = None if self.wanted is None else self.wanted(number, n)
        return slice(0, n) if self.read is None else self.read

    def enter(self, number):
        """The pass ``number`` begins."""
        self.leave()
        if self.trains:
            _tell(self.data, "set_epoch", number)
            _tell(self.data, "on_epoch_begin")
        self.entered = number

    def leave(self):
        if self.entered is not None and self.trains:
            _tell(self.data, "on_epoch_end")
        self.entered = None

    def end(self, epoch):
        """All steps of the epoch are done."""


def _tell(data, hook, *arguments):
    if callable(getattr(data, hook, None)):
        getattr(data, hook)(*arguments)


def _require_order(where, what, count, seed):
    """ValueError where there are too many to be shuffled."""
    if seed is not None and count > MOST_SHUFFLED:
        required = f"there must be at most {MOST_SHUFFLED} {what} to be shuffled, whose order is in memory"
        raise ValueError(_check.message(where, required, count, "Give shuffle=False, or a smaller length"))


def length_of(where, data):
    """The number of batches, where the data say it."""
    if not hasattr(data, "__len__"):
        return None
    try:
        length = len(data)
    except (TypeError, NotImplementedError):  # PyTorch: the loader has a length where what it loads has one
        return None
    except OverflowError:
        required = f"the length of the data must be at most {sys.maxsize}"
        raise ValueError(_check.message(where, required, _check.Shown("more"))) from None
    if not length:
        raise ValueError(_check.message(where, "the data must give at least one batch", 0))
    return length


class Items(Source):
    """The batches of a sequence, in an order that is a function of the seed and the pass; seed None: as they stand."""

    def __init__(self, where, data, steps=None, seed=None, trains=False):
        super().__init__(where, data, steps, trains)
        if self.length is None:
            raise TypeError(_check.message(where, "the data must have a length", _check.Shown(type(data).__name__)))
        _require_order(where, "batches", self.length, seed)
        self.seed, self.order = seed, None

    def get(self, epoch, number):
        visit, at = place(epoch, number, self.steps, self.length)
        if visit != self.entered:
            self.enter(visit)
            self.order = None if self.seed is None else datasets.order(self.length, self.seed, visit)
        at = at if self.order is None else int(self.order[at])
        self.item = f", item {at} of the data"
        try:
            if self.wanted is not None and self.reads_rows:
                return self.data.read_rows(at, lambda n: self.rows_of(number, n))
            return self.data[at]
        except StopIteration as error:  # it would end a loop without a word
            raise RuntimeError(f"{type(self.data).__name__}.__getitem__ raised StopIteration") from error

    @property
    def reads_rows(self):
        return callable(getattr(self.data, "read_rows", None))

    def end(self, epoch):
        if place(epoch, self.steps, self.steps, self.length)[1] == 0:
            self.leave()


class Loader(Source):
    """The batches of something that can be iterated again and again: without ``steps`` an epoch is one iteration.

    Where it does not begin at the first batch of a pass, those before are drawn and left.
    """

    def __init__(self, where, data, steps=None, trains=False):
        super().__init__(where, data, steps, trains)
        self.until_the_end, self.iterator = steps is None, None

    def get(self, epoch, number):
        if self.iterator is None or (self.until_the_end and number == 0):
            visit, at = epoch, number
            if not self.until_the_end:
                visit, at = place(epoch, number, self.steps, self.length) if self.length else (0, 0)
            self._begin(visit)
            for _ in range(at):
                next(self.iterator, END)
        found = next(self.iterator, END)
        if found is END and not self.until_the_end:  # goes on from the beginning
            self._begin(self.entered + 1)
            found = next(self.iterator, END)
        if found is END:
            self.iterator = None
        return found

    def _begin(self, number):
        self.enter(number)
        self.iterator = iter(self.data)

    def end(self, epoch):
        if self.until_the_end:
            self.leave()


class Iterator(Source):
    """The batches of an iterator: epoch ``first`` begins wherever it is.

    Where a run goes on later than that, the batches that it has seen are drawn and left.
    """

    def __init__(self, where, data, steps=None, first=0):
        super().__init__(where, data, steps, False)
        self.iterator, self.first, self.drawn = iter(data), first, 0

    def get(self, epoch, number):
        while self.steps is not None and self.drawn < (epoch - self.first) * self.steps + number:
            self._draw()
        return self._draw()

    def _draw(self):
        self.drawn += 1
        return next(self.iterator, END)


class Rows(Source):
    """Rows of arrays on disk, in the order and with the sizes of ``fit`` with arrays in memory."""

    def __init__(self, where, arrays, parts, steps=None, seed=None):
        super().__init__(where, parts, steps, False)
        _require_order(where, "samples", len(arrays[0]), seed)
        self.arrays, self.parts, self.seed, self.order = arrays, parts, seed, None

    reads_rows = True

    @property
    def about(self):
        return self.arrays

    def get(self, epoch, number):
        visit, at = place(epoch, number, self.steps, self.length)
        part = self.parts[at]
        self.rows_of(number, part.stop - part.start)
        if self.seed is None:
            self.rows = np.arange(part.start, part.stop)
            return tuple(None if array is None else array[part] for array in self.arrays)
        if visit != self.entered:
            self.enter(visit)
            self.order = datasets.order(len(self.arrays[0]), self.seed, visit)
        self.rows = self.order[part]
        x, *others = self.arrays
        return (Chosen(x, self.rows), *(None if array is None else array[self.rows] for array in others))


def source_of(where, data, steps=None, seed=None, trains=False, first=0):
    """The ``Source`` for data that give batches; ``first``: the first epoch."""
    if _is_sequence(data):
        return Items(where, data, steps, seed, trains)
    if hasattr(data, "__next__"):
        return Iterator(where, data, steps, first)
    return Loader(where, data, steps, trains)


# ---- the stream ----


class Stream:
    """The batches of a ``Source``, each prepared while the one before is computed with.  A context.

    ``place(epoch, number)`` says in errors which batch it is; ``inputs``: only x is asked for; ``wanted``: of a
    ``Source``.
    """

    def __init__(self, source, place, inputs=False, wanted=None):
        source.wanted = wanted
        self.source, self.place, self.inputs, self.rooms = source, place, inputs, _Rooms()
        self.ahead = _Ahead() if source.threaded else None
        self.ready = None  # (epoch, batch): the first one of a fit, if it was looked at before

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if self.ahead is not None and not self.ahead.stop():
            text = f"{self.source.where}: the data are still at work on a batch, in a thread that ends when it is done"
            if error is None:
                warnings.warn(text, RuntimeWarning, stacklevel=4)
            else:
                _check.note(error, "thread", text)

    def first(self, epoch):
        """The first batch of an epoch, which ``epoch`` is going to give again; None if there is none."""
        self._ask(epoch, 0)
        self.ready = epoch, self._answer(epoch, 0)
        return self.ready[1]

    def epoch(self, epoch=0, limit=None, first=0):
        """Yields the batches of an epoch from the number ``first`` on: up to ``source.steps``, or ``limit``, or where
        the data end."""
        number, ready, self.ready = first, self.ready, None
        if number == self.source.steps and not self.source.until_the_end:
            return
        if ready is None or (epoch, first) != (ready[0], 0):
            self._ask(epoch, first)
            ready = epoch, self._answer(epoch, first)
        batch = ready[1]
        source, known = self.source, limit is not None or not (self.source.until_the_end or self.source.steps is None)
        while batch is not None:
            number += 1
            if not known and number == max(LONG, source.length or 0) + 1:
                fix = "Data that go on for ever need steps (in fit: steps_per_epoch, validation_steps)"
                _check.warn(f"{source.where}: {self.place(epoch, number - 1)}, and no end yet. {fix}")
            more = number != limit and (number != source.steps or source.until_the_end)
            if more:
                self._ask(epoch, number)
            yield batch
            if not more:
                break
            batch = self._answer(epoch, number)
        self._do(lambda: source.end(epoch))

    def _ask(self, epoch, number):
        if self.ahead is not None:
            self.ahead.begin(lambda: self._prepare(epoch, number))

    def _answer(self, epoch, number):
        return self._prepare(epoch, number) if self.ahead is None else self.ahead.result()

    def _do(self, function):
        """In the thread in which the data are."""
        if self.ahead is None:
            return function()
        self.ahead.begin(function)
        return self.ahead.result()

    def _prepare(self, epoch, number):
        source, place = self.source, self.place(epoch, number)
        try:
            found = source.get(epoch, number)
            return None if found is END else _batch(f"{source.where}: {place}", found, self.inputs, source, self.rooms)
        except BaseException as error:
            if not str(error).startswith(f"{source.where}: {place}"):
                _check.note(error, "place", f"in {place}{source.item}")
            raise


def _batch(where, found, inputs, source, rooms):
    """What the data gave as a ``Batch``; TypeError for what is none."""
    if inputs:
        arrays = isinstance(found, list) and len(found) in (2, 3) and hasattr(found[0], "__array__")
        several = arrays or (isinstance(found, tuple) and found)
        return Batch(_taken(where, found[0] if several else found, rooms, source.read), None, None)
    if not isinstance(found, list | tuple) or len(found) not in (2, 3):
        kind = "None" if found is None else type(found).__name__
        got = f"a {kind} of length {len(found)}" if isinstance(found, list | tuple) else kind
        raise TypeError(_check.message(where, f"the data must give {_FORMS}", _check.Shown(got)))
    x, y, weights = (*found, None)[:3]
    if np.ma.is_masked(y):
        raise TypeError(_check.message(where, "y must have no masked entries", _check.Shown("a masked array")))
    weights = None if weights is None else np.array(_check.numeric_array(where, "sample weights", weights))
    y = np.array(_check.array(where, "y", y), order="C")
    return Batch(_taken(where, x, rooms, source.read), y, weights, source.rows, source.read)


def _taken(where, x, rooms, read):
    """A copy of x, or of the slice ``read`` of it; ValueError where it is none, of no sample."""
    found = rooms.take(where, x, slice(None) if read is None else read)
    if found.ndim and not len(found):
        required = "x must have at least one sample in every batch"
        raise ValueError(_check.message(where, required, _check.shape_of(found)))
    return found


class _Rooms:
    """Memory for x of two batches, which take turns: one is computed with, the other prepared."""

    def __init__(self):
        self.rooms = [np.empty(0), np.empty(0)]

    def take(self, where, x, read):
        """A copy of x, an array or ``Chosen`` rows of one; only the slice ``read`` of it is copied."""
        rows = x.rows if isinstance(x, Chosen) else None
        found = _check.numeric_array(where, "x", x) if rows is None else x.array
        room = self._next(found.shape if rows is None else (len(rows), *found.shape[1:]), found.dtype)
        flags = found.flags
        if rows is None:
            np.copyto(room[read] if room.ndim else room, found[read] if room.ndim else found)
        elif flags.c_contiguous and flags.aligned and found.dtype.isnative:
            np.take(found, rows[read], axis=0, out=room[read], mode="clip")  # "raise" would work on a copy of ``out``
        else:  # take would copy all of it
            room[read] = found[rows[read]]
        return room

    def _next(self, shape, dtype):
        self.rooms.reverse()
        if self.rooms[0].shape != shape or self.rooms[0].dtype != dtype:
            self.rooms[0] = np.empty(shape, dtype)
        return self.rooms[0]


class _Ahead:
    """A thread that does one thing at a time for the one that has made it."""

    def __init__(self):
        self.jobs, self.results, self.process = queue.SimpleQueue(), queue.SimpleQueue(), os.getpid()
        run = contextvars.copy_context().run  # np.errstate holds for the data as well
        arguments = _work, self.jobs, self.results
        self.thread = threading.Thread(target=run, args=arguments, name="minicnn data", daemon=True)
        weakref.finalize(self, self.jobs.put, None)  # also where Ctrl-C comes before anybody can call ``stop``
        self.thread.start()

    def begin(self, job):
        self.require_own_process()
        self.jobs.put(job)

    def result(self):
        """What the job has returned; raises what it raised."""
        self.require_own_process()
        found, error = self.results.get()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback has this frame
        return found

    def require_own_process(self):
        if os.getpid() != self.process:
            required = "batches come from a thread of the process that began: a fork of it cannot go on with them"
            raise RuntimeError(_check.message("minicnn", required, _check.Shown("a child"), "Begin anew in the child"))

    def stop(self):
        """Ends the thread; False if it is still at work after a while.  Then it ends when it is done."""
        if os.getpid() != self.process:
            return True
        self.jobs.put(None)
        self.thread.join(PATIENCE)
        return not self.thread.is_alive()


def _work(jobs, results):
    """What the thread does.  It knows nothing of its maker, and so ends when that is gone."""
    while (job := jobs.get()) is not None:
        try:
            found = job(), None
        except BaseException as error:  # whatever it is, it is raised where the batch is waited for
            found = None, error
        results.put(found)
        del job, found
