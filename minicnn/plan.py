"""Plans: how a model computes a batch of n samples again and again without asking its layers each time.

A plan is recorded once for each batch size: the layers' own ``forward`` and ``backward`` are called with the kernels
writing down what they would do (``_ext/machinery/plan.pyx``), and from then on the record is run.  So a plan computes
what the layers compute by hand, bit for bit, but image by image through runs of layers, in one parallel region, and in
memory that is taken once.

Layers that have to run as Python (custom ones, and those that hold a custom one) cut the chain into sections, and run
between the recorded ones.

Knows no concrete layer.
"""

import itertools

import numpy as np

from minicnn import chain
from minicnn._ext import batch
from minicnn._ext.machinery import plan as native
from minicnn.layer import arrays_of, changes, give_back, in_python, kept_by, output_of
from minicnn.recording import collect_penalties, empty, mean_penalty
from minicnn.tree import walk

GATHERED = (np.dtype("u1"), np.dtype("i8"), np.dtype("f4"), np.dtype("f8"))  # dtypes that batch.gather reads
MOST_PLANS = 8  # batch sizes whose plans are kept


class Workspace:
    """The plans of a model, one for each batch size, and the memory that they share: one of them runs at a time."""

    def __init__(self, training, by_hand=False, **part):
        self.training, self.by_hand, self.part, self.plans = training, by_hand, part, {}
        self.memory = np.empty(0, np.uint8)

    def plan(self, engine, n, node=None):
        """The plan for n samples, recorded if it is new or out of date; ``node``: what tells it from others for n."""
        key = n if node is None else (n, node)
        plan = self.plans.get(key)
        if plan is None or not plan.is_valid(engine.settled):
            self.plans.pop(key, None)
            while len(self.plans) >= MOST_PLANS:
                self.plans.pop(next(iter(self.plans)))
            plan = self.plans[key] = Plan(engine, n, self.training, self.by_hand, **self.part)
        plan.bind(self.at_least(plan.size))
        return plan

    def at_least(self, size):
        """``size`` bytes or more that begin on a cache line."""
        if self.memory.size < size:
            raw = np.empty(size + 64, np.uint8)
            start = -raw.__array_interface__["data"][0] % 64
            self.memory = raw[start : start + size]
        return self.memory


class Plan:
    """The forward pass of an ``Engine``'s layers over n samples, and with ``training`` the backward pass after it.

    Fill ``x`` (n, *input_shape), call ``forward``; in training then fill ``dy`` (n, *output_shape) and call
    ``backward``.  The arrays that both return belong to the plan: the next run overwrites them.

    ``by_hand``: for a training loop that a user writes.  The gradient of the input may be asked for, and layers may be
    called one by one, so each recorded layer keeps what its own ``backward`` needs.

    ``layers``: a stretch of the engine's, or of those and others before them without parameters; without ``training``.
    ``lots``: as of ``output_of``; then ``forward`` makes the sample that the lots describe at the time.
    """

    def __init__(self, engine, n, training, by_hand=False, layers=None, lots=None):
        self._layers, self._numbers_of_samples = engine.layers if layers is None else layers, np.arange(n)
        self._every = [layer for _, layer in walk(self._layers)]
        self._moved = [layer.state for layer in self._every if layer.trains_state]  # the layers lie far apart
        self._picked, self.losses = {}, np.empty(n)
        self._states, self._counters = [], []  # (state, name, copy of an array or None); what is no array
        self._recorded_layers = [layer for _, layer in walk([layer for layer in self._layers if not in_python(layer)])]
        self._marks, self._checked = self._marks_now(), None
        self._recorded = native.Plan()
        vectors = engine.parameters.values, engine.parameters.gradients
        for array in (*vectors, *arrays_of(self._every)):
            self._recorded.use(array)
        for lot in (lots or {}).values():
            for array in lot:
                self._recorded.use(array)
        self._for_backward = {}  # what layers keep, where it is wanted: while recorded, then where it is
        before = kept_by(self._every)

        def call(layer, x):
            return output_of(layer, x, training, lots)

        try:
            self._sections = [
                (_InPython if python else _Recorded)(self._recorded, [*stretch], n, call)
                for python, stretch in itertools.groupby(self._layers, key=in_python)
            ]
            if by_hand:
                kept = kept_by(self._recorded_layers)
                self._for_backward = dict(zip(self._recorded_layers, kept, strict=True))
            for input_gradient in [False, True] if by_hand else [False] if training else []:
                self._record_backward(input_gradient)
        finally:
            if training:
                give_back(self._every, before)  # what a forward by hand kept; the plan has what the recorded one kept
        for section in self._sections:
            section.pin()
        for _, arrays in self._for_backward.values():
            for array in arrays:
                if array is not None:
                    self._recorded.pin(array)
        self._recorded.lay_out()
        self.size = self._recorded.workspace_size
        for section in self._sections:
            section.find_places()
        self._for_backward = {
            layer: (n, tuple(None if array is None else _Place(self._recorded, array) for array in arrays))
            for layer, (n, arrays) in self._for_backward.items()
        }
        self._memory = None

    def _record_backward(self, input_gradient):
        """Each section records its part; all kinds of backward begin with what the forward pass kept."""
        kept = kept_by(self._every)
        first = 0 if input_gradient else chain.first_to_train(self._layers)
        end = len(self._layers)
        for section in reversed(self._sections):
            begin = end - len(section.layers)
            if end > first:
                at_logits = end == len(self._layers) and chain.enters_at_softmax(self._layers)
                section.record_backward(at_logits, input_gradient or first < begin, input_gradient)
            end = begin
        give_back(self._every, kept)

    def _marks_now(self):
        """What a record depends on.  Layers in Python are not recorded: changes of their attributes do not matter."""
        return changes(self._recorded_layers) + [layer.output_function for layer in self._layers]

    def is_valid(self, changes):
        """False once a recorded layer's attributes have been changed: the record may not fit them any more.

        ``changes``: of all layers until now (``Parameters.changes``); while they stay, nothing has to be looked at.
        """
        if changes != self._checked:
            if self._marks != self._marks_now():
                return False
            self._checked = changes
        return True

    def bind(self, memory):
        """Lays the arrays into a workspace of at least ``size`` bytes; nothing to do where they are in it already."""
        if memory is self._memory:
            return
        self._recorded.bind(memory.__array_interface__["data"][0])
        for section in self._sections:
            section.bind(memory)
        self.x, self.dy = self._sections[0].x, self._sections[-1].dy
        self._to_hand_over = {
            layer: (n, tuple(place and place.view(memory) for place in places))
            for layer, (n, places) in self._for_backward.items()
        }
        self._rows = self.x.reshape(len(self.x), -1)
        self._memory = memory

    def hand_over(self):
        """Gives the layers what they would have kept of ``forward``, had they been called by hand."""
        give_back(self._to_hand_over.keys(), self._to_hand_over.values())

    def take_back(self):
        """True if no layer has been called since ``hand_over``: then ``backward`` may run."""
        layers, given = self._to_hand_over.keys(), self._to_hand_over.values()
        if any(now is not then for now, then in zip(kept_by(layers), given, strict=True)):
            return False
        for layer in layers:
            layer.forget()
        return True

    @property
    def own_x(self):
        """The samples that this process computes: here all of ``x``."""
        return self.x

    def take(self, x, order=None):
        """Fills ``x`` with the samples of an array, or those that ``order`` (n,) names, cast to the model's dtype.

        Returns the place of the first that holds a number not finite in that dtype, None if there is none.
        """
        flags = x.flags
        if x.dtype in GATHERED and flags.c_contiguous and flags.aligned:
            rows = x if x.ndim == 2 else x.reshape(len(x), -1)
            bad = batch.gather(rows, self._numbers_of_samples if order is None else order, self._rows)
            return None if bad < 0 else bad
        with np.errstate(over="ignore"):  # too large for float32
            self.x[...] = x if order is None else x[order]
        finite = np.isfinite(self._rows)
        return None if finite.all() else int(np.argmin(finite.all(axis=1)))

    def pick(self, name, array, order):
        """array[order] in memory that is kept for the next call; ``name``: what it is used for."""
        if array is None:
            return None
        picked = self._picked.get(name)
        if picked is None or picked.dtype != array.dtype or picked.shape[1:] != array.shape[1:]:
            picked = self._picked[name] = np.empty((len(order), *array.shape[1:]), array.dtype)
        return array.take(order, 0, picked, "clip")  # "raise" would work on a copy of ``out``

    def save_states(self):
        """Remembers the layers' counters and moving statistics."""
        if len(self._states) != sum(map(len, self._moved)):
            states = [
                (state, name, value.copy() if isinstance(value, np.ndarray) else None)
                for state in self._moved
                for name, value in state.items()
            ]
            self._states, self._counters = [], [0] * len(states)
            self._states = states
        for i, (state, name, copy) in enumerate(self._states):
            if copy is None:
                self._counters[i] = state[name]
            else:
                copy[...] = state[name]

    def restore_states(self):
        """Puts back what ``save_states`` found."""
        for number, (state, name, copy) in zip(self._counters, self._states, strict=True):
            if copy is None:
                state[name] = number
            else:
                state[name][...] = copy

    def forward(self):
        """The outputs for ``x``."""
        y = self.x
        for section in self._sections:
            y = section.forward(y)
        return y

    def activity_penalty(self):
        """What the layers' outputs of the latest ``forward`` add to the loss."""
        found = self.penalties()
        return mean_penalty(found, len(self.x)) if found else 0.0

    def penalties(self):
        """What each sample adds to it: a list of arrays (n,)."""
        return [found for section in self._sections for found in section.penalties]

    def backward(self, input_gradient=False):
        """Fills the gradients of the parameters from ``dy``; returns dL/dx with ``input_gradient``, otherwise None."""
        dy = self.dy
        for section in reversed(self._sections):
            dy = section.backward(dy, input_gradient)
            if dy is None:  # no section before this one needs it
                return None
        return dy

    def reduce(self):
        """After ``backward`` of all processes: the gradients become those of the batch.  Here they are already."""


class _Place:
    """Where an array that was recorded lies in the workspace."""

    def __init__(self, recorded, array):
        self.start, self.size = recorded.place_of(array), array.nbytes
        self.dtype, self.shape = array.dtype, array.shape

    def view(self, memory):
        return memory[self.start : self.start + self.size].view(self.dtype).reshape(self.shape)


class _Recorded:
    """Compiled layers that follow each other: a program for each direction."""

    def __init__(self, recorded, layers, n, call):
        self.layers, self.recorded = layers, recorded
        self.ends = {}  # the arrays at both ends: while recorded, then (place, dtype, shape) of each
        self.run_forward = recorded.record(lambda: self._forward(n, call))
        self.run_backward = {}

    def _forward(self, n, call):
        first = self.layers[0]
        self.ends["x"] = x = empty((n, *first.input_shape), first.dtype)
        with collect_penalties() as self.penalties:
            self.ends["y"] = chain.forward(self.layers, x, call)

    def record_backward(self, at_logits, wanted, input_gradient):
        """The program for ``backward(dy, input_gradient)``; ``wanted``: whether the section before it needs dL/dx."""
        self.run_backward[input_gradient] = self.recorded.record(
            lambda: self._backward(at_logits, wanted, input_gradient)
        )

    def _backward(self, at_logits, wanted, input_gradient):
        if "dy" not in self.ends:
            y = self.ends["y"]
            self.ends["dy"] = empty(y.shape, y.dtype)
        self.ends["dx", input_gradient] = chain.backward(self.layers, self.ends["dy"], at_logits, wanted)

    def pin(self):
        """What enters and leaves a section is read and written by others."""
        for array in (*self.ends.values(), *self.penalties):
            if array is not None:
                self.recorded.pin(array)

    def find_places(self):
        self.ends = {name: None if array is None else _Place(self.recorded, array) for name, array in self.ends.items()}
        self.penalty_places = [_Place(self.recorded, array) for array in self.penalties]

    def bind(self, memory):
        ends = {name: place and place.view(memory) for name, place in self.ends.items()}
        self.x, self.y, self.dy = ends["x"], ends["y"], ends.get("dy")
        self.dx = {input_gradient: ends["dx", input_gradient] for input_gradient in self.run_backward}
        self.penalties = [place.view(memory) for place in self.penalty_places]

    def forward(self, x):
        if x is not self.x:
            self.x[...] = x
        self.recorded.run(self.run_forward)
        return self.y

    def backward(self, dy, input_gradient):
        if input_gradient not in self.run_backward:
            return None
        if dy is not self.dy:
            self.dy[...] = dy
        self.recorded.run(self.run_backward[input_gradient])
        return self.dx[input_gradient]


class _InPython:
    """Layers that run as they are, on separate arrays: a layer may keep what it is given."""

    def __init__(self, recorded, layers, n, call):
        self.layers, self.call, self.calls, self.penalties = layers, call, {}, []
        self.x = np.empty((n, *layers[0].input_shape), layers[0].dtype)
        self.dy = np.empty((n, *layers[-1].output_shape), layers[-1].dtype)

    def record_backward(self, at_logits, wanted, input_gradient):
        self.calls[input_gradient] = at_logits, wanted

    def pin(self):
        pass

    def find_places(self):
        pass

    def bind(self, memory):
        pass

    def forward(self, x):
        with collect_penalties() as self.penalties:
            return chain.forward(self.layers, x, self.call)

    def backward(self, dy, input_gradient):
        if input_gradient not in self.calls:  # no layer here or before has parameters
            return None
        return chain.backward(self.layers, dy, *self.calls[input_gradient])
