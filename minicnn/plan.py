"""Plans: how a model computes a batch of n samples again and again without asking its layers anew.

A plan is recorded once for each batch size: the layers' own ``forward`` and ``backward`` are called with the kernels
writing down what they would do (``_ext/machinery/plan.pyx``), and from then on the record is run.  So a plan computes
what the layers compute by hand, bit for bit, but image by image through runs of layers, in one parallel region, and in
memory that is taken once.

Layers that are not ``compiled`` (written in Python by a user) cut the chain into sections; they run as Python between
the recorded ones.
"""

import itertools

import numpy as np

from minicnn._ext import batch
from minicnn._ext.machinery import plan as native
from minicnn.layer import collect_penalties, empty, in_python, mean_penalty, output_of
from minicnn.layers import MaxPooling2D

GATHERED = (np.dtype("u1"), np.dtype("i8"), np.dtype("f4"), np.dtype("f8"))  # dtypes that batch.gather reads
MOST_PLANS = 8  # batch sizes whose plans are kept


class Workspace:
    """The plans of a model, one for each batch size, and the memory that they share: one of them runs at a time."""

    def __init__(self, training, by_hand=False, **part):
        self.training, self.by_hand, self.part, self.plans = training, by_hand, part, {}
        self.memory = np.empty(0, np.uint8)

    def plan(self, model, n):
        """The plan for n samples, recorded if it is new or out of date."""
        plan = self.plans.get(n)
        if plan is None or not plan.is_valid:
            self.plans.pop(n, None)
            while len(self.plans) >= MOST_PLANS:
                self.plans.pop(next(iter(self.plans)))
            plan = self.plans[n] = Plan(model, n, self.training, self.by_hand, **self.part)
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
    """The forward pass of a model over n samples, and with ``training`` the backward pass behind it.

    Fill ``x`` (n, *input_shape), call ``forward``; in training then fill ``dy`` (n, *output_shape) and call
    ``backward``.  The arrays that both return are the plan's own: the next run overwrites them.

    ``by_hand``: for a loop of one's own, in which the gradient of the input may be asked for, and somebody may go on
    layer by layer: each recorded layer keeps what its own ``backward`` needs.

    ``layers``: a part of the model's, without ``training``.  ``lots``: a Lot for each of them; then ``forward`` makes
    the Monte-Carlo sample that the lots describe at the time.
    """

    def __init__(self, model, n, training, by_hand=False, layers=None, lots=None):
        self._layers, self._all = model.layers if layers is None else layers, np.arange(n)
        self._picked, self.losses = {}, np.empty(n)
        self._states, self._numbers = [], []  # (state, name, copy of an array or None); what is no array
        self._watched = [layer for layer in self._layers if not in_python(layer)]
        self._marks = self._marks_now()
        self._recorded = native.Plan()
        for array in model._arrays_in_place():
            self._recorded.use(array)
        for lot in (lots or {}).values():
            for array in lot:
                self._recorded.use(array)
        groups = itertools.groupby(range(len(self._layers)), key=lambda i: in_python(self._layers[i]))
        self._kept = {}  # of each layer, where it is wanted: while recorded, then where it is
        before = [layer._kept for layer in self._layers]

        def call(layer, x):
            return output_of(layer, x, training, lots[layer] if lots else None)

        try:
            self._sections = [
                (_InPython if python else _Recorded)(self._recorded, self._layers, [*numbers], n, call)
                for python, numbers in groups
            ]
            if by_hand:
                self._kept = {layer: layer._kept for layer in self._layers if not in_python(layer)}
            for input_gradient in [False, True] if by_hand else [False] if training else []:
                self._record_backward(model._backward_calls(input_gradient), input_gradient)
        finally:
            for layer, kept in zip(self._layers, before, strict=True) if training else ():
                layer._kept = kept  # what a forward by hand kept; what the recorded one kept is the plan's
        for section in self._sections:
            section.pin()
        self._each_kept(self._recorded.pin)
        self._recorded.lay_out()
        self.size = self._recorded.workspace_size
        for section in self._sections:
            section.find_places()
        self._each_kept(lambda array: _Place(self._recorded, array))
        self._memory = None

    def _record_backward(self, calls, input_gradient):
        """Each section records its part; all kinds of backward begin with what the forward pass kept."""
        kept = [layer._kept for layer in self._layers]
        for section in reversed(self._sections):
            section.record_backward(calls, input_gradient)
        for layer, values in zip(self._layers, kept, strict=True):
            layer._kept = values

    def _each_kept(self, function):
        """Replaces every array in ``_kept`` by what the function makes of it."""
        self._kept = {
            layer: (n, tuple(None if array is None else function(array) or array for array in arrays))
            for layer, (n, arrays) in self._kept.items()
        }

    def _marks_now(self):
        """Of a layer in Python nothing is recorded: it may note what it likes at every call."""
        return [layer._changes for layer in self._watched] + [layer.output_function for layer in self._layers]

    @property
    def is_valid(self):
        """False once a recorded layer's attributes have been changed: the record may not fit them any more."""
        return self._marks == self._marks_now()

    def bind(self, memory):
        """Lays the arrays into a workspace of at least ``size`` bytes; nothing to do where they are in it already."""
        if memory is self._memory:
            return
        self._recorded.bind(memory.__array_interface__["data"][0])
        for section in self._sections:
            section.bind(memory)
        self.x, self.dy = self._sections[0].x, self._sections[-1].dy
        self._kept_now = {
            layer: (n, tuple(place and place.view(memory) for place in places))
            for layer, (n, places) in self._kept.items()
        }
        self._rows = self.x.reshape(len(self.x), -1)
        self._memory = memory

    def hand_over(self):
        """Gives the layers what they would have kept of ``forward``, had they been called by hand."""
        for layer, kept in self._kept_now.items():
            layer._kept = kept

    def take_back(self):
        """True if no layer has been called since ``hand_over``: then ``backward`` may run."""
        if any(layer._kept is not kept for layer, kept in self._kept_now.items()):
            return False
        for layer in self._kept_now:
            layer._kept = None
        return True

    def take(self, x, order=None):
        """Fills ``x`` with the samples of an array, or those that ``order`` (n,) names, cast to the model's dtype.

        Returns the place of the first that holds a number not finite in that dtype, None if there is none.
        """
        if x.dtype in GATHERED and x.flags.c_contiguous and x.flags.aligned:
            bad = batch.gather(x.reshape(len(x), -1), self._all if order is None else order, self._rows)
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
        return np.take(array, order, axis=0, out=picked, mode="clip")  # "raise" would work on a copy of ``out``

    def save_states(self):
        """Remembers the layers' counters and moving statistics."""
        if len(self._states) != sum(len(layer.state) for layer in self._layers):
            states = [
                (layer.state, name, value.copy() if isinstance(value, np.ndarray) else None)
                for layer in self._layers
                for name, value in layer.state.items()
            ]
            self._states, self._numbers = [], [0] * len(states)
            self._states = states
        for i, (state, name, copy) in enumerate(self._states):
            if copy is None:
                self._numbers[i] = state[name]
            else:
                np.copyto(copy, state[name])

    def restore_states(self):
        """Puts back what ``save_states`` found."""
        for number, (state, name, copy) in zip(self._numbers, self._states, strict=True):
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
        return mean_penalty([found for section in self._sections for found in section.penalties], len(self.x))

    def backward(self, input_gradient=False):
        """Fills the gradients of the parameters from ``dy``; returns dL/dx with ``input_gradient``, otherwise None."""
        dy = self.dy
        for section in reversed(self._sections):
            dy = section.backward(dy, input_gradient)
            if dy is None:  # not wanted any further
                return None
        return dy


def can_be_recorded(model):
    """True if no layer of the model has to run as Python."""
    return not any(map(in_python, model.layers))


class _Place:
    """Where an array that was recorded lies in the workspace."""

    def __init__(self, recorded, array):
        self.start, self.size = recorded.place_of(array), array.nbytes
        self.dtype, self.shape = array.dtype, array.shape

    def view(self, memory):
        return memory[self.start : self.start + self.size].view(self.dtype).reshape(self.shape)


class _Recorded:
    """Compiled layers that follow each other: a program for each direction."""

    def __init__(self, recorded, layers, numbers, n, call):
        self.layers, self.numbers, self.recorded = layers, numbers, recorded
        self.ends = {}  # the arrays at both ends: while recorded, then (place, dtype, shape) of each
        self.run_forward = recorded.record(lambda: self.record_forward(n, call))
        self.run_backward = {}

    def record_forward(self, n, call):
        first, self.outputs = self.layers[self.numbers[0]], {}
        self.ends["x"] = x = empty((n, *first.input_shape), first.dtype)
        with collect_penalties() as self.penalties:
            for number in self.numbers:
                x = self.outputs[number] = call(self.layers[number], x)
        self.ends["y"] = x

    def record_backward(self, calls, input_gradient):
        mine = {number: calls[number] for number in self.numbers if number in calls}
        if mine:
            self.run_backward[input_gradient] = self.recorded.record(lambda: self.record_calls(mine, input_gradient))

    def record_calls(self, calls, input_gradient):
        if "dy" not in self.ends:
            y = self.ends["y"]
            self.ends["dy"] = empty(y.shape, y.dtype)
        dy = self.ends["dy"]
        for number in reversed(self.numbers):
            if number in calls:
                dy = self.record_call(number, calls, dy)
        self.ends["dx", input_gradient] = dy

    def record_call(self, number, calls, dy):
        """One layer's backward.

        The gradient of an activation in front of a max-pooling is taken behind it, where there is less to do: each
        gradient goes to one pixel, whose value the output of the pooling shows as well.  So what the layer in front
        kept of its own output is not needed, and its memory need not hold the whole batch.
        """
        layer, (at_logits, wanted) = self.layers[number], calls[number]
        if number - 1 in calls and _activation_can_wait(self.layers[number - 1], layer):
            dy = self.layers[number - 1]._function.backward(self.outputs[number], dy)
        if number + 1 in self.numbers and _activation_can_wait(layer, self.layers[number + 1]):
            at_logits = True
        return layer.gradient(dy, at_logits, wanted)

    def pin(self):
        """What enters and leaves a section is read and written by others."""
        for array in (*self.ends.values(), *self.penalties):
            if array is not None:
                self.recorded.pin(array)

    def find_places(self):
        self.ends = {name: None if array is None else _Place(self.recorded, array) for name, array in self.ends.items()}
        self.penalty_places = [_Place(self.recorded, array) for array in self.penalties]
        self.outputs = None

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


def _activation_can_wait(layer, pool):
    """True if the gradient of the layer's activation, found from its output, may be taken behind ``pool``."""
    function = getattr(layer, "_function", None)
    if getattr(layer, "activity_regularizer", None) is not None:
        return False  # every output has a gradient of its own: taken apart, the sum would have other bits
    if function is None or function.is_softmax or function.needs_input or function.name == "linear":
        return False
    return isinstance(pool, MaxPooling2D) and all(np.greater_equal(pool.strides, pool.pool_size))


class _InPython:
    """Layers that run as they are, on arrays of their own: a layer may keep what it is given."""

    def __init__(self, recorded, layers, numbers, n, call):
        self.layers, self.call = [layers[number] for number in numbers], call
        self.numbers, self.calls, self.penalties = numbers, {}, []
        self.x = np.empty((n, *self.layers[0].input_shape), self.layers[0].dtype)
        self.dy = np.empty((n, *self.layers[-1].output_shape), self.layers[-1].dtype)

    def record_backward(self, calls, input_gradient):
        self.calls[input_gradient] = [calls.get(number) for number in self.numbers]

    def pin(self):
        pass

    def find_places(self):
        pass

    def bind(self, memory):
        pass

    def forward(self, x):
        with collect_penalties() as self.penalties:
            for layer in self.layers:
                x = self.call(layer, x)
        return x

    def backward(self, dy, input_gradient):
        for layer, call in zip(reversed(self.layers), reversed(self.calls[input_gradient]), strict=True):
            if call is None:  # nobody behind it has parameters; where one has, ``gradient`` returns an array
                return None
            dy = layer.gradient(dy, *call)
        return dy
