"""Several processes of MPI, ranks, that train one model with the bits of one process; docs/distributed.md.

A rank computes one node of the tree in which all sums over a batch are made (``cells.py``).  Three things are exchanged
in a step: the outputs, so that every rank has the loss and the metrics of the whole batch and of it the gradient of its
own samples; the nodes' gradients, which every rank combines in the tree's order; and in between the sums of every
BatchNormalization.  Ranks for which there is no node compute that of another one, which is not counted: so layers'
counts and moving statistics are everywhere the same.

Messages go from rank to rank, never blocking: whoever waits also looks for the message that another rank has left with
an error, and at the clock.
"""

import atexit
import contextlib
import functools
import gc
import inspect
import itertools
import pickle
import signal
import sys
import threading
import time
import weakref

import numpy as np

from minicnn import _check, cells
from minicnn.layer import in_python
from minicnn.plan import MOST_PLANS, Plan
from minicnn.recording import mean_penalty
from minicnn.tree import walk

LEFT, TAGS = 1, 16384  # the tag of "I have left, because ..."; those of exchanges are TAGS + their number
SLICED = 4  # ranks from which on each adds up a slice of the gradients
SPIN, PAUSE = 2e-3, 2e-4  # seconds of waiting without a pause; pauses after them
MANY = 128  # copies of a communicator after which it is looked thoroughly for some to be freed
SHORT = 5.0  # seconds for which a rank is still listened to that has been waited for in vain


class RankError(RuntimeError):
    """Another rank has left a method that all are in, with the error that is named, or does not answer.

    ``rank``: the one whose error it is; None where one does not answer.  ``kind``: the name of the error's class, such
    as "KeyboardInterrupt"; None likewise.
    """

    rank = kind = None

    def __init__(self, where, rank, text, kind=None):
        super().__init__(f"{where}: {text}")
        self.rank, self.kind, self.told, self._given = rank, kind, (rank, text, kind), (where, rank, text, kind)

    def __reduce__(self):
        return RankError, self._given


class Alone:
    """The one process of a model that is not distributed.

    ``first``: whether this rank is the one that prints and writes files.
    """

    rank, size, first = 0, 1, True

    def together(self, where):
        """A context around what all ranks do: they leave it together, and with an error if one of them has one."""
        return _NOTHING

    def of_first(self, function):
        """What the function returns on the first rank, which alone calls it."""
        return function()

    def require_same(self, where, facts):
        """ValueError where a fact, a value by name, is not the same on all ranks."""

    def settle(self, where, model, settings):
        """Around an epoch: all do what callbacks have decided on one: to stop, and the first rank's learning rate.

        ValueError where ranks hold other weights or ``settings``."""

    def computed(self, batches, compute, shape):
        """Yields (number, batch, outputs, a number) for batches (x, ...), the last two from ``compute(number, batch)``
        on one of the ranks; ``shape(batch)``: (shape, dtype) of the outputs.  x may be overwritten by then."""
        return ((number, batch, *compute(number, batch)) for number, batch in enumerate(batches))

    def part(self, engine, n):
        """A ``Part``, or None where each rank computes the whole batch of n."""

    def rows_of_step(self, engine, n):
        """The slice of a batch of n samples that this rank computes in a step; None for all."""

    rows_of_pass = None  # of batch ``number`` in ``computed``: a function (number, n) that gives such a slice

    def all_of(self, value):
        """[what the function is given on each rank]"""
        return [value]


_NOTHING = contextlib.nullcontext()  # one: it is entered for every single image
ALONE = Alone()


def of(where, comm, timeout):
    """The ``Ranks`` of a communicator; None for that of all processes."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI behind it
        fix = 'pip install "minicnn[mpi]"'
        raise ImportError(f"{where}: needs mpi4py, and MPI; got {error}. Install both: {fix}", name="mpi4py") from error
    timeout = _check.number(where, "timeout", timeout, 0, open_low=True)
    comm = MPI.COMM_WORLD if comm is None else comm
    if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
        raise TypeError(_check.message(where, "comm must be an intracommunicator of mpi4py", _check.kind(comm)))
    return ALONE if comm.size == 1 else Ranks(MPI, comm, timeout, where)


class _Copies:
    """The copies that were made of a communicator, by number, which MPI has not many of: those whose ``Ranks`` are no
    more are freed where all ranks are together, in the next ``distribute``."""

    def __init__(self):
        self.numbers, self.made = itertools.count(), {}

    def free(self, ranks):
        if len(self.made) % MANY == 0:
            gc.collect()  # a model is in cycles
        gone = [number for number, (made, _) in self.made.items() if made() is None]
        for number in sorted(set.intersection(*map(set, ranks.all_of(gone)))):
            self.made.pop(number)[1].Free()


def copies_of(MPI, comm):
    found = comm.Get_attr(_key(MPI))
    if found is None:
        comm.Set_attr(_key(MPI), found := _Copies())
    return found


@functools.cache
def _key(MPI):
    return MPI.Comm.Create_keyval()


class Ranks(Alone):
    """This process and the others of a communicator, of which it makes a copy; all ranks must do so."""

    def __init__(self, MPI, comm, timeout, where):
        self.rank, self.size, self.timeout, self.where = comm.rank, comm.size, timeout, where
        self.first, self.others = not comm.rank, [other for other in range(comm.size) if other != comm.rank]
        self._mpi, self._receives, self._sends, self._gone = MPI, {}, [], set()
        self._number, self._broken, self._warned, self._left = 0, False, False, []
        self._signals, self._finishing = _Signals(), False
        copies = copies_of(MPI, comm)
        number = next(copies.numbers)
        self._comm, request = comm.Idup()
        self._wait([request], heeding=False)
        self.where = None
        copies.made[number] = weakref.ref(self), self._comm
        with self.together(where):
            copies.free(self)

    # ---- messages ----

    def swap(self, out, into):
        """Sends the arrays ``out`` to the ranks by number, and fills those of ``into``; None or empty: nothing."""
        self._number = (self._number + 1) % TAGS
        tag, kind = TAGS + self._number, self._mpi.BYTE
        for rank in self.others:  # one by one: Ctrl-C may come in between
            if _is_some(into[rank]):
                self._receives[rank] = self._comm.Irecv([into[rank], kind], rank, tag)
        for rank in self.others:
            if _is_some(out[rank]):
                self._sends.append(self._comm.Isend([out[rank], kind], rank, tag))
        statuses = [self._mpi.Status() for _ in self._receives]
        try:
            self._wait([*self._receives.values(), *self._sends], statuses)
            same = all(
                status.Get_count(kind) == into[rank].nbytes
                for rank, status in zip(self._receives, statuses, strict=True)
            )
        except self._mpi.Exception:  # more has come than was expected
            same = False
        if not same:
            text = f"all ranks must do the same: rank {self.rank} has got something else than it waited for"
            raise RankError(self.where, None, text)
        self._receives, self._sends = {}, []

    def _wait(self, requests, statuses=(), heeding=True):
        """``statuses``: of the first requests.  Each is asked by itself: which one has failed is known then."""
        began = time.monotonic()
        pairs = [*itertools.zip_longest(requests, statuses)]
        while pairs := [pair for pair in pairs if not pair[0].Test(pair[1])]:
            waited = time.monotonic() - began
            if heeding and len(self._signals.come) > self._finishing:
                self._signals.answer()
            if heeding and self._comm.Iprobe(self._mpi.ANY_SOURCE, LEFT):
                self._listen()
            if waited > self.timeout:
                late = [rank for rank, request in self._receives.items() if not request.Get_status()]
                who = f"rank {', '.join(map(str, late))} of {self.size}" if late else "not all ranks"
                raise RankError(self.where, None, f"{who} did not answer within {self.timeout:g} s")
            time.sleep(0 if waited < SPIN else PAUSE)

    def _listen(self):
        """Another rank has left: raises what it says."""
        status = self._mpi.Status()
        told = self._comm.recv(source=self._mpi.ANY_SOURCE, tag=LEFT, status=status)
        self._gone.add(status.Get_source())
        raise RankError(self.where, *told)

    def together(self, where):
        return _Together(self, where)

    def take_signals(self):
        self._signals.take()

    def give_signals(self):
        self._signals.give()

    def enter(self, where):
        if self._broken and not self._is_quiet(0):
            required = "ranks must have left the method before together"
            fix = "Call distribute again, on all ranks"
            raise RuntimeError(_check.message(where, required, _check.Shown("one that did not answer"), fix))
        self.where = where

    def leave(self, error):
        """The end of what all ranks do; ``error``: why this one leaves, or None."""
        try:
            if error is None:
                self._finishing = True  # who has this message must not be told of a Ctrl-C any more
                self.swap([_DONE] * self.size, [_DONE.copy() for _ in range(self.size)])
        except BaseException as found:
            error = found
            raise
        finally:
            self._finishing = False
            self._tell(error)
            self.where = None

    def _tell(self, error):
        """Tells the others of an error, and takes in what they have sent before they heard of it."""
        if error is None:
            return
        self._broken = True  # until all is quiet
        told, patience = getattr(error, "told", None), self.timeout
        if told is not None and not self._gone:  # it has waited in vain
            patience = min(SHORT, patience)
        if told is None:
            kind = type(error).__name__
            told = self.rank, f"rank {self.rank} of {self.size} raised {kind}: {error}", kind
            _check.note(error, "rank", f"on rank {self.rank} of {self.size}; the others have left {self.where} with it")
        for request in filter(None, self._receives.values()):  # those that are not done
            request.Cancel()
        requests = [*self._receives.values(), *self._sends]
        for rank in self._gone:  # what came before the news; once they hear from here, new things may come
            while self._take_in(rank, requests) is not None:
                pass
        requests += [self._comm.isend(told, rank, LEFT) for rank in self.others]
        self._left = requests
        if not self._is_quiet(patience):
            if not _SILENT:
                atexit.register(_end_all)
            _SILENT.append(self)

    def _is_quiet(self, patience):
        """Waits until all others have left, too, and nothing is on its way; False if that takes too long."""
        started = time.monotonic()
        while True:
            self._gone |= {
                rank for rank in self.others if rank not in self._gone and self._take_in(rank, self._left) == LEFT
            }
            self._left = [request for request in self._left if not self._is_done(request)]
            if len(self._gone) == len(self.others) and not self._left:
                break
            if self._signals.come:  # Ctrl-C again
                patience = min(SHORT, patience)
            if time.monotonic() - started >= patience:
                return False
            time.sleep(PAUSE)
        self._receives, self._sends, self._gone, self._number, self._broken = {}, [], set(), 0, False
        return True

    def _take_in(self, rank, requests):
        """Begins to receive what has come from a rank and is of no use any more: its tag, or None."""
        status, kind = self._mpi.Status(), self._mpi.BYTE
        message = self._comm.Improbe(rank, self._mpi.ANY_TAG, status)
        if message is None:
            return None
        requests.append(message.Irecv([bytearray(status.Get_count(kind)), kind]))
        return status.Get_tag()

    def _is_done(self, request):
        try:
            return request.Test()
        except self._mpi.Exception:  # what came was too long for it
            return True

    def is_whole(self):
        """Whether all ranks answer; waits a moment for those that have not."""
        return not self._broken or self._is_quiet(SHORT)

    def abort(self, status):
        """Ends all ranks at once, where one of them does not answer any more."""
        self._comm.Abort(status)

    def all_of(self, value):
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.zeros((self.size, 1), np.int64)
        self.swap([np.array([data.size])] * self.size, [*sizes])
        found = [np.empty(int(size), np.uint8) for (size,) in sizes]
        self.swap([data] * self.size, found)
        return [value if rank == self.rank else pickle.loads(part) for rank, part in enumerate(found)]

    def of_first(self, function):
        return self.all_of(function() if self.first else None)[0]

    def require_same(self, where, facts):
        for rank, others in enumerate(self.all_of(facts)):
            for name, value in facts.items():
                if others.get(name) != value:
                    got = _check.Shown(f"another one on rank {rank} than on rank {self.rank}")
                    raise ValueError(_check.message(where, f"{name} must be the same on all ranks", got))

    def settle(self, where, model, settings):
        optimizer = model.optimizer
        rate = optimizer.get_config()["learning_rate"]
        rate = rate if isinstance(rate, float) else None  # a schedule is a function of the step
        found = self.all_of((model.stop_training, rate, {"weights": model.fingerprint(), "settings": settings}))
        model.stop_training = any(stops for stops, _, _ in found)
        first, same = found[0][1:]
        if None not in (rate, first) and first != rate:
            optimizer.learning_rate = first
        for rank, (_, _, held) in enumerate(found):
            for name in same:
                if held[name] != same[name]:
                    required = f"all ranks must hold the same {name} between epochs"
                    fix = "A callback or a custom layer changes them, or draws, on one alone"
                    got = _check.Shown(f"others on rank {rank} than on rank 0")
                    raise ValueError(_check.message(where, required, got, fix))

    # ---- what is computed ----

    def computed(self, batches, compute, shape):
        waiting = []
        for number, batch in enumerate(batches):
            mine = number % self.size == self.rank
            found = compute(number, batch) if mine else (np.empty(*shape(batch)), 0.0)
            waiting.append((number, batch, *found))
            if len(waiting) == self.size:
                yield from self._exchanged(waiting)
                waiting = []
        yield from self._exchanged(waiting)

    def _exchanged(self, waiting):
        """A batch of each rank, or of the first ones."""
        if not waiting:
            return
        outputs, numbers = [None] * self.size, np.zeros((self.size, 1))
        for rank, (_, _, found, number) in enumerate(waiting):
            outputs[rank], numbers[rank] = found, number
        for given in (outputs, [*numbers[: len(waiting)], *[None] * (self.size - len(waiting))]):
            self.swap([given[self.rank]] * self.size, given)
        for (number, batch, found, _), (other,) in zip(waiting, numbers, strict=False):
            yield number, batch, found, float(other)

    def rows_of_pass(self, number, n):
        return slice(0, n if number % self.size == self.rank else 0)

    def rows_of_step(self, engine, n):
        if not cells.levels(n) or _custom(engine):
            return None
        node, _ = nodes_of(n, self.size)[self.rank]
        return slice(node.first, node.last)

    def part(self, engine, n):
        if not cells.levels(n):
            return None
        found = engine.parts.get(n)
        if found is None:
            custom = _custom(engine)
            if custom:
                if not self._warned and self.first:
                    text = f"{type(custom[-1]).__name__} runs in Python, and may look at all samples of a batch"
                    _check.warn(f"Sequential.fit: each rank computes whole batches: {text}")
                self._warned = True
                return None
            while len(engine.parts) >= MOST_PLANS:
                engine.parts.pop(next(iter(engine.parts)))
            found = engine.parts[n] = Part(self, engine, n)
        found.settle()
        return found

    def collect(self, whole, rows):
        """Fills an array of all samples, in which this rank's are; ``rows``: those of each rank, None for none."""
        parts = [None if one is None else whole[one] for one in rows]
        self.swap([parts[self.rank]] * self.size, parts)

    def add_up(self, vector, nodes, room):
        """Makes a vector, the sum of this rank's node, that of the batch; ``nodes``: of each rank, None for none.

        ``room``: a list, empty at first, that keeps memory for the next call.
        """
        sliced = self.size >= SLICED
        ends = [len(vector) * rank // self.size for rank in range(self.size + 1)]
        slices = [slice(*ends[rank : rank + 2]) if sliced else slice(None) for rank in range(self.size)]
        mine = vector[slices[self.rank]]
        if not room:
            room += [None if node is None else np.empty_like(mine) for node in nodes]
        parts = [*room]
        counts = nodes[self.rank] is not None
        self.swap([vector[one] if counts else None for one in slices], parts)
        if counts:
            parts[self.rank] = mine
        with np.errstate(all="ignore"):  # parameters that are not trained may have any gradients
            pairs = [(node, part) for node, part in zip(nodes, parts, strict=True) if node is not None]
            mine[...] = cells.combine(pairs, lambda a, b: np.add(a, b, a))
        if sliced:
            self.swap([mine] * self.size, [vector[one] for one in slices])


_DONE = np.zeros(3, np.uint8)  # so long as nothing else that is sent
_SILENT: list = []  # Ranks of which one has not answered: they hold memory that MPI may still write into


def _end_all():
    """At the end of a program MPI would wait for ranks that do not answer, and so for ever."""
    for ranks in _SILENT:
        if ranks.is_whole():
            continue
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        ranks.abort(1)


def _custom(engine):
    return [layer for _, layer in walk(engine.layers) if in_python(layer)]


def _is_some(array):
    return array is not None and array.size


class _Together:
    """What ``Ranks.together`` gives; within another one it does nothing."""

    def __init__(self, ranks, where):
        self.ranks, self.where = ranks, where

    def __enter__(self):
        self.outer = self.ranks.where is None
        if self.outer:
            self.ranks.take_signals()
            try:
                self.ranks.enter(self.where)
            except BaseException:
                self.ranks.give_signals()
                raise

    def __exit__(self, kind, error, traceback):
        if self.outer:
            try:
                self.ranks.leave(error)
            finally:
                self.ranks.give_signals()


class _Signals:
    """Signals that have a handler in Python, such as Ctrl-C, while ranks do something together.

    They wait while messages are exchanged: a handler that raises in between would leave other ranks waiting, and
    messages on their way.  ``answer`` calls the handlers of those that have come.
    """

    def __init__(self):
        self.handlers, self.come = {}, []

    def take(self):
        if threading.current_thread() is not threading.main_thread():  # where no handler is called
            return
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler):
                self.handlers[number] = handler
                signal.signal(number, self._came)

    def give(self):
        for number, handler in self.handlers.items():
            if signal.getsignal(number) == self._came:  # or somebody has set another one meanwhile
                signal.signal(number, handler)
        self.answer()
        self.handlers = {}

    def answer(self):
        while self.come:
            number = self.come.pop(0)
            self.handlers[number](number, inspect.currentframe())

    def _came(self, number, frame):
        caller = frame
        while caller is not None:
            if caller.f_code in _WHOLE:
                self.come.append(number)
                return
            caller = caller.f_back
        self.handlers[number](number, frame)


_WHOLE = {function.__code__ for function in (Ranks.swap, _Together.__enter__, _Together.__exit__)}


def nodes_of(n, ranks):
    """[(node, whether it counts)] of a batch of n for each rank: halves of halves, as far as there are ranks and cells;
    of ranks that compute the same node the first one counts."""

    def given(node, count):
        if count == 1 or node.level == cells.levels(n):
            return [(node, not number) for number in range(count)]
        left, right = cells.halves(node)
        return given(left, count - count // 2) + given(right, count // 2)

    return given(cells.Node(0, n, 0, n), ranks)


class Part:
    """To a training step the ``Plan`` of a batch of n: a rank computes a node of it, and has the rest from the others.

    ``x``, ``outputs``, ``losses`` and ``dy`` are those of the whole batch.
    """

    def __init__(self, ranks, engine, n):
        nodes = nodes_of(n, ranks.size)
        self._ranks, self._engine, self._n = ranks, engine, n
        self._node, self._nodes = nodes[ranks.rank][0], [node if counts else None for node, counts in nodes]
        self._rows = [node and slice(node.first, node.last) for node in self._nodes]
        self._mine = slice(self._node.first, self._node.last)
        self._picked, self._whole, self.losses, self._room = {}, None, np.empty(n), []
        self._outputs = np.empty((n, *engine.output_shape), engine.dtype)
        self._dy = np.empty_like(self._outputs)

    def settle(self):
        """Finds the plan as the layers are now."""
        with self._within():
            node, size = self._node, self._mine.stop - self._mine.start
            self._plan = self._engine.shared.plan(self._engine, size, (node.level, node.batch))
        self.dy = None if self._plan.dy is None else self._dy

    def _within(self):
        return cells.node(self._node, self._exchange)

    def _exchange(self, sums, join):
        parts = [np.empty_like(sums) for _ in self._nodes]
        counts = self._nodes[self._ranks.rank] is not None
        self._ranks.swap([sums if counts else None] * len(parts), [node and part for node, part in self._pairs(parts)])
        parts[self._ranks.rank][...] = sums
        sums[...] = cells.combine([pair for pair in self._pairs(parts) if pair[0]], join)

    def _pairs(self, parts):
        return zip(self._nodes, parts, strict=True)

    pick = Plan.pick

    @property
    def own_x(self):
        return self._plan.own_x

    @property
    def x(self):
        if self._whole is None:
            x, order = self._given
            with np.errstate(over="ignore"):
                self._whole = np.array(x if order is None else x[order], self._engine.dtype)
        return self._whole

    def take(self, x, order=None):
        self._given, self._whole = (x, order), None
        bad = self._plan.take(x, np.arange(self._n)[self._mine] if order is None else order[self._mine])
        return None if bad is None else bad + self._mine.start

    def save_states(self):
        self._plan.save_states()

    def restore_states(self):
        self._plan.restore_states()

    def forward(self):
        if self._whole is not None:  # it was mixed
            self._plan.x[...] = self._whole[self._mine]
        with self._within():
            self._outputs[self._mine] = self._plan.forward()
        self._ranks.collect(self._outputs, self._rows)
        return self._outputs

    def activity_penalty(self):
        found = []
        for mine in self._plan.penalties():
            found.append(np.empty(self._n))
            found[-1][self._mine] = mine
            self._ranks.collect(found[-1], self._rows)
        return mean_penalty(found, self._n)

    def backward(self):
        if self._plan.dy is not None:
            self._plan.dy[...] = self._dy[self._mine]
        with self._within():
            self._plan.backward()

    def reduce(self):
        """The nodes' gradients become those of the batch."""
        self._ranks.add_up(self._engine.parameters.gradients, self._nodes, self._room)
