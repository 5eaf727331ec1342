"""Plans: how a model computes a batch of n samples again and again without asking its layers anew.

A plan is recorded once for each batch size: the layers' own ``forward`` and ``backward`` are called with the kernels
writing down what they would do (``_ext/plan.pyx``), and from then on the record is run.  So a plan computes what the
layers compute by hand, bit for bit, but image by image through runs of layers, in one parallel region, and in memory
that is taken once.

Layers that are not ``compiled`` (written in Python by a user) cut the chain into sections; they run as Python between
the recorded ones.
"""

import itertools

import numpy as np

from minicnn import _check
from minicnn._ext import plan as native
from minicnn.layer import empty
from minicnn.layers import MaxPooling2D


class Workspace:
    """Memory for plans of which one runs at a time; grown to what the largest of them needs."""

    def __init__(self):
        self.memory = np.empty(0, np.uint8)

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
    """

    def __init__(self, model, n, training, workspace):
        self.n, self.training = n, training
        self._layers, self._workspace = model.layers, workspace
        self._marks = self._marks_now()
        self._recorded = native.Plan()
        for array in model._arrays_in_place():
            self._recorded.use(array)
        numbers = itertools.groupby(range(len(model.layers)), key=lambda i: _may_be_recorded(model.layers[i]))
        self._sections = [
            (_Recorded if compiled else _InPython)(self._recorded, model.layers, [*group], n, training)
            for compiled, group in numbers
        ]
        if training:
            self._record_backward(model)
        self._recorded.lay_out()
        self._memory = None
        self._bind()

    def _record_backward(self, model):
        """Both kinds: with and without the gradient of the input; each section records its part."""
        kept = [layer._kept for layer in self._layers]
        for input_gradient in (False, True):
            calls = model._backward_calls(input_gradient)
            for section in reversed(self._sections):
                for layer, values in zip(self._layers, kept, strict=True):
                    layer._kept = values
                section.record_backward(self._recorded, calls, input_gradient)
        for layer in self._layers:
            layer._kept = None

    def _marks_now(self):
        return [(layer, layer._changes) for layer in self._layers]

    @property
    def is_valid(self):
        """False once a layer's attributes have been changed: the record may not fit them any more."""
        return self._marks == self._marks_now()

    def _bind(self):
        """Finds the arrays in the workspace, which may have been grown for another plan."""
        memory = self._workspace.at_least(self._recorded.workspace_size)
        if memory is self._memory:
            return
        self._memory = memory
        self._recorded.bind(memory.__array_interface__["data"][0])
        for section in self._sections:
            section.bind(self._view)
        self.x = self._sections[0].x
        self.dy = self._sections[-1].dy

    def _view(self, array):
        """Where an array of the record is now."""
        place = self._recorded.place_of(array)
        return self._memory[place : place + array.nbytes].view(array.dtype).reshape(array.shape)

    def take(self, x, order=None):
        """Fills ``x`` with the samples of an array of any numeric dtype, or with those that ``order`` names."""
        with np.errstate(over="ignore"):  # too large for float32: reported by who asks first_not_finite
            self.x[...] = x if order is None else x[order]
        self._may_be_infinite = x.dtype.kind == "f"
        return self

    @property
    def first_not_finite(self):
        """The first sample of ``x`` with a number that is NaN or infinite, None if there is none."""
        if not self._may_be_infinite or np.isfinite(self.x).all():
            return None
        return int(np.argwhere(~np.isfinite(self.x))[0, 0])

    def forward(self):
        """The outputs for ``x``."""
        y = self.x
        for section in self._sections:
            y = section.forward(y)
        return y

    def backward(self, input_gradient=False):
        """Fills the gradients of the parameters from ``dy``; returns dL/dx with ``input_gradient``, otherwise None."""
        dy = self.dy
        for section in reversed(self._sections):
            dy = section.backward(dy, input_gradient)
            if dy is None:
                return None
        return dy


def _may_be_recorded(layer):
    return layer.compiled and not vars(layer).keys() & {"forward", "backward"}


class _Recorded:
    """Compiled layers that follow each other: a program for each direction."""

    def __init__(self, recorded, layers, numbers, n, training):
        self.layers, self.numbers, self.recorded = layers, numbers, recorded
        first, self.outputs = layers[numbers[0]], {}
        with _recording(recorded) as program:
            self.x_recorded = x = empty((n, *first.input_shape), first.dtype)
            for number in numbers:
                x = self.outputs[number] = layers[number].forward(x, training=training)
        self.y_recorded = x
        self.run_forward = program.number
        recorded.pin(self.x_recorded)
        recorded.pin(self.y_recorded)
        self.run_backward, self.dx_recorded, self.dy_recorded = {}, {}, None

    def record_backward(self, recorded, calls, input_gradient):
        if not any(number in calls for number in self.numbers):
            return
        with _recording(recorded) as program:
            if self.dy_recorded is None:
                self.dy_recorded = empty(self.y_recorded.shape, self.y_recorded.dtype)
            dy = self.dy_recorded
            for number in reversed(self.numbers):
                if number in calls:
                    dy = self.record_call(number, calls, dy)
        recorded.pin(self.dy_recorded)
        self.run_backward[input_gradient] = program.number
        self.dx_recorded[input_gradient] = dy
        if dy is not None:
            recorded.pin(dy)

    def record_call(self, number, calls, dy):
        """One layer's backward.

        The gradient of an activation in front of a max-pooling is taken behind it, where there is less to do: each
        gradient goes to one pixel, whose value the output of the pooling shows as well.  So what the layer in front
        kept of its own output is not needed, and its memory need not hold the whole batch.
        """
        layer, (at_logits, wanted) = self.layers[number], calls[number]
        if number - 1 in self.numbers and number - 1 in calls and _activation_can_wait(self.layers[number - 1], layer):
            dy = self.layers[number - 1]._function.backward(self.outputs[number], dy)
        if number + 1 in self.numbers and _activation_can_wait(layer, self.layers[number + 1]):
            at_logits = True
        return layer.gradient(dy, at_logits, wanted)

    def bind(self, view):
        self.x, self.y = view(self.x_recorded), view(self.y_recorded)
        self.dy = None if self.dy_recorded is None else view(self.dy_recorded)
        self.dx = {key: None if array is None else view(array) for key, array in self.dx_recorded.items()}

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


class _recording:
    """``with _recording(plan) as program:`` the kernels called inside become ``program.number`` of the plan."""

    def __init__(self, recorded):
        self.recorded = recorded

    def __enter__(self):
        self.recorded.begin()
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.number = self.recorded.end()
        else:
            self.recorded.abandon()


def _activation_can_wait(layer, pool):
    """True if the gradient of the layer's activation, found from its output, may be taken behind ``pool``."""
    function = getattr(layer, "_function", None)
    if function is None or function.is_softmax or function.needs_input or function.name == "linear":
        return False
    return isinstance(pool, MaxPooling2D) and all(np.greater_equal(pool.strides, pool.pool_size))


class _InPython:
    """Layers that run as they are, on arrays of their own: a layer may keep what it is given."""

    def __init__(self, recorded, layers, numbers, n, training):
        self.layers, self.training = [layers[number] for number in numbers], training
        self.numbers, self.calls = numbers, {}
        self.x = np.empty((n, *self.layers[0].input_shape), self.layers[0].dtype)
        self.dy = np.empty((n, *self.layers[-1].output_shape), self.layers[-1].dtype)

    def record_backward(self, recorded, calls, input_gradient):
        self.calls[input_gradient] = [calls.get(number) for number in self.numbers]

    def bind(self, view):
        pass

    def forward(self, x):
        x = x.copy()
        for layer in self.layers:
            x = layer.forward(x, training=self.training)
            shape = (len(self.x), *layer.output_shape)
            if np.shape(x) != shape:
                required = f"forward must return the shape that build declared, {shape}"
                raise ValueError(_check.message(f"{type(layer).__name__}.forward", required, _check.shape_of(x)))
        return x

    def backward(self, dy, input_gradient):
        dy = dy.copy()
        for layer, call in zip(reversed(self.layers), reversed(self.calls[input_gradient]), strict=True):
            if call is None:
                return None
            dy = layer.gradient(dy, *call)
        return dy
