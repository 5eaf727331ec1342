"""Optimisers: how the gradients change the parameters, step by step.

An optimiser is bound to the model's flat vectors once (the model does that), and ``step()`` is then one call of one
kernel: parameters, slots (what the optimiser remembers for every parameter) and the count of steps change together or
not at all.  The bits of a step do not depend on the number of threads.  With w a parameter, g its gradient and r the
learning rate, all optimisers share these arguments:

- ``learning_rate`` >= 0: a number, or a schedule, which is asked for the rate of every step.
- ``weight_decay`` d >= 0 or None: w -= r d w before the update, apart from the gradient ("decoupled", as in Keras;
  Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019), so that adaptive rates do not scale it.
- ``clipnorm`` > 0 or None: one norm, sqrt(sum g^2) over *all* trainable parameters; where it is larger, all gradients
  are multiplied by clipnorm / norm.  This is Keras's ``global_clipnorm``, a word that is taken too, and torch's
  ``clip_grad_norm_``; Keras's own ``clipnorm`` clips every variable by itself.  A norm that is not finite is a
  FloatingPointError that names the parameter, and nothing is changed.
- ``clipvalue`` > 0 or None: every gradient is cut to [-clipvalue, clipvalue]; a NaN stays a NaN.
- ``global_clipnorm``: ``clipnorm``.  Only one of the three may be given.

Without ``clipnorm`` no norm is computed, and bad gradients pass unnoticed.

Gradients include those of penalties (regularizers.py), which are thus clipped too; weight decay is apart from both.

Wrong kinds of arguments are TypeErrors, values out of range ValueErrors; NaN and infinity are out of every range.
"""

import numbers
import weakref

import numpy as np

from minicnn import _check, configured, constraints, schedules
from minicnn._ext import optim as kernels
from minicnn.configured import Configured
from minicnn.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LinearWarmup,
    OneCycleLR,
    PiecewiseConstantDecay,
    PolynomialDecay,
    Schedule,
    StepLR,
)
from minicnn.settings import Fixed, Given, Setting, Values, owned

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LinearWarmup",
    "Nadam",
    "OneCycleLR",
    "Optimizer",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "RMSprop",
    "Schedule",
    "StepLR",
    "from_config",
    "get",
    "schedules",
    "to_config",
]


# ---- optimisers ----


class _Clip(Setting):
    """A way of clipping, where no ``other`` one is chosen."""

    def __init__(self, other):
        super().__init__(_check.number, 0, open_low=True, optional=True)
        self.other = other

    def __set__(self, optimizer, value):
        other = vars(optimizer).get(self.other)
        if value is not None and other is not None:
            got = _check.Shown(f"{self.name}={value!r} and {self.other}={other!r}")
            raise ValueError(_check.message(type(optimizer).__name__, ONE_CLIP, got))
        super().__set__(optimizer, value)


ONE_CLIP = "only one of clipnorm, clipvalue and global_clipnorm may be given"


class _Choice(Setting):
    """A setting that says what is remembered: a slot comes, from its first value, and goes with it."""

    def __set__(self, optimizer, value):
        super().__set__(optimizer, value)
        optimizer._make_slots()


class Optimizer(Configured):
    """What every optimiser has; see the head of this file for the arguments that all share.

    Attributes: the arguments, of which each may be assigned at any time and counts from the next step on;
    ``learning_rate`` is the rate of the next step, also where it was assigned as a schedule; ``iterations``, the number
    of steps done; ``slots``, flat arrays by name, in the layout of the flat vectors, empty until ``bind``: what is
    assigned to one is written into it.  ``copy.deepcopy`` and pickle keep slots and iterations; a copy must be bound
    again before it steps.
    """

    weight_decay = Setting(_check.number, 0, optional=True)
    clipnorm = _Clip("clipvalue")
    clipvalue = _Clip("clipnorm")
    slots = Given("Assign to the entries, such as slots['velocity']")

    def __init__(self, learning_rate, weight_decay, clipnorm, clipvalue=None, global_clipnorm=None):
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        if clipnorm is not None and global_clipnorm is not None:
            got = _check.Shown(f"clipnorm={clipnorm!r} and global_clipnorm={global_clipnorm!r}")
            raise ValueError(_check.message(type(self).__name__, ONE_CLIP, got))
        if global_clipnorm is not None:
            self.global_clipnorm = global_clipnorm
        self.clipvalue = clipvalue
        self._put(slots=Values())
        self._excluded = []
        self._iterations = np.zeros(1, np.int64)
        self._layout = None  # what the slots belong to: dtype, length, (name, offset, size) of every segment
        self._bound = None  # parameters, gradients, segments, pieces, squares
        self._before_step = None  # (a weak reference to an object, for it holds the optimizer; its method)
        self._constrained, self._rules = [], (None, None)

    @property
    def global_clipnorm(self):
        """Keras's word for what ``clipnorm`` is here, and the same number."""
        return self.clipnorm

    @global_clipnorm.setter
    def global_clipnorm(self, norm):
        if norm is not None:
            norm = _check.number(type(self).__name__, "global_clipnorm", norm, 0, open_low=True)
        self.clipnorm = norm

    @property
    def learning_rate(self):
        return self._rate if isinstance(self._rate, float) else self.scheduled_rate(self.iterations)

    @learning_rate.setter
    def learning_rate(self, rate):
        if isinstance(rate, dict):
            rate = schedules.from_config(f"{type(self).__name__}: learning_rate", rate)
        if not isinstance(rate, Schedule):
            if not isinstance(rate, numbers.Real):
                required = "learning_rate must be a number >= 0 or a schedule"
                raise TypeError(_check.message(type(self).__name__, required, _check.kind(rate)))
            rate = _check.number(type(self).__name__, "learning_rate", rate, 0)
        if schedules.goes_by_run(rate):
            required, fix = "learning_rate must be a schedule of steps", "Give it total_steps"
            raise ValueError(_check.message(type(self).__name__, required, rate, fix))
        self._rate = rate

    def scheduled_rate(self, step):
        """The learning rate of the step with this number, from 0, where a schedule says it; None where it is a number
        that is assigned."""
        if isinstance(self._rate, float):
            return None
        where = f"{type(self).__name__}: {type(self._rate).__name__}"
        return schedules.rate_at(where, f"the learning rate of step {step}", self._rate, (step,))

    @property
    def iterations(self):
        return int(self._iterations[0])

    @property
    def bound_to(self):
        """The vector of parameters that it steps on; None before ``bind``."""
        return None if self._bound is None else self._bound[0]

    @property
    def remembers(self):
        """True if a step depends on those before it: slots, or a schedule, which goes by their number."""
        return bool(self._slot_names) or isinstance(self._rate, Schedule)

    def exclude_from_weight_decay(self, var_names):
        """Excludes every parameter whose name ("0.bias") contains one of the strings ``var_names``."""
        where = f"{type(self).__name__}.exclude_from_weight_decay"
        if not isinstance(var_names, list | tuple) or not all(isinstance(name, str) for name in var_names):
            raise TypeError(_check.message(where, "var_names must be a list of strings", _check.kind(var_names)))
        self._excluded = sorted({*self._excluded, *var_names})
        self._bind_again()

    def _bind_again(self):
        if self._bound is not None:
            owner, method = self._before_step or (lambda: None, None)
            self.bind(*self._bound[:3], owner() and method.__get__(owner()), self._constrained)

    def bind(self, parameters, gradients, segments, before_step=None, constrained=()):
        """Ties the optimiser to a model's flat vectors (float32 or float64, contiguous, equal lengths).

        ``segments``: a tuple (name, offset, size, trainable, decayed) for every parameter; the rest of the vectors and
        what is not trainable are never touched.  Slots and iterations are kept if they belong to vectors of this
        layout, and begin at zero otherwise.  ``before_step``: a method of an object; every step calls it first, while
        the object lives.  ``constrained``: (name, constraint, offset, shape) of what constraints.py is to change after
        every update, in the same native call.
        """
        where = f"{type(self).__name__}.bind"
        for name, vector in (("parameters", parameters), ("gradients", gradients)):
            if not isinstance(vector, np.ndarray) or vector.ndim != 1 or not vector.flags.c_contiguous:
                raise TypeError(_check.message(where, f"{name} must be a contiguous vector", _check.kind(vector)))
            _check.float_dtype(where, vector.dtype)
        if parameters.dtype != gradients.dtype or parameters.shape != gradients.shape:
            got = _check.Shown(f"{gradients.dtype} {gradients.shape} and {parameters.dtype} {parameters.shape}")
            raise ValueError(_check.message(where, "gradients must have dtype and length of parameters", got))
        layout = (parameters.dtype, parameters.size, [tuple(segment[:3]) for segment in segments])
        if layout != self._layout:
            self._put(slots=Values())
            self._iterations = np.zeros(1, np.int64)
            self._layout = layout
        self._make_slots()
        pieces = self._pieces(where, parameters.size, segments)
        self._rules = constraints.rules(constrained, parameters.size)
        self._constrained = list(constrained)
        self._bound = parameters, gradients, list(segments), pieces, np.empty(len(pieces))
        self._before_step = before_step and (weakref.ref(before_step.__self__), before_step.__func__)

    def _make_slots(self):
        """Makes the slots that are needed, of first values where they are new; none before the layout is known."""
        if self._layout is None:
            return
        dtype, size, _ = self._layout
        slots = Values(
            (name, self.slots[name] if name in self.slots else self._new_slot(size, dtype)) for name in self._slot_names
        )
        slots.guard(type(self).__name__, "slots")
        self._put(slots=slots)

    def _pieces(self, where, length, segments):
        """The trainable segments, cut into rows (offset, size, decayed, number of the segment) for the kernel."""
        pieces = []
        for number, (name, offset, size, trainable, decayed) in enumerate(segments):
            if not 0 <= offset <= offset + size <= length:
                required = f"segment {name!r} must lie within the {length} parameters"
                raise ValueError(_check.message(where, required, (offset, size)))
            decayed = decayed and not any(part in name for part in self._excluded)
            for start in range(0, size if trainable else 0, kernels.BLOCK):
                pieces.append((offset + start, min(kernels.BLOCK, size - start), decayed, number))
        return np.array(pieces, np.int64).reshape(-1, 4)

    def step(self):
        """One update of all trainable parameters from the gradients as they are now.

        RuntimeError before ``bind``; FloatingPointError if gradients are clipped and their norm is not finite.
        """
        if self._before_step is not None:
            owner, method = self._before_step[0](), self._before_step[1]
            if owner is not None:
                method(owner)  # may bind again
        parameters, gradients, segments, pieces, squares = self._require_bound("step")
        method, *numbers, names = self._method()
        try:
            bad = kernels.step(
                kernels.METHODS[method],
                parameters,
                *map(self.slots.get, names),
                gradients,
                pieces,
                squares,
                self._iterations,
                self.learning_rate,
                *numbers,
                self.weight_decay or 0.0,
                self.clipnorm or 0.0,
                self.clipvalue or 0.0,
                *self._rules,
            )
        except (TypeError, ValueError):  # the kernel has looked at all arrays, and changed nothing
            self._require_arrays()
            raise
        if bad >= 0:
            where = f"{type(self).__name__}.step"
            required = f"the gradient of {segments[pieces[bad, 3]][0]!r} must have a finite norm to be clipped"
            got = _check.Shown("NaN, infinity or numbers too large")
            raise FloatingPointError(_check.message(where, required, got, "Nothing was changed"))

    def _require_bound(self, method):
        if self._bound is None:
            where = f"{type(self).__name__}.{method}"
            raise RuntimeError(f"{where}: the optimizer belongs to no model yet: compile and build one")
        return self._bound

    def _method(self):
        """What the kernel is to do: its method, beta_1, beta_2, epsilon, and the names of three slots, or None."""
        raise NotImplementedError(f"{type(self).__name__} has no _method")

    @property
    def _slot_names(self):
        return [name for name in self._method()[-1] if name]

    def _new_slot(self, size, dtype):
        return np.zeros(size, dtype)

    def _require_arrays(self):
        """ValueError for parameters that cannot be written, and for a slot that was replaced by what does not fit."""
        where, parameters = f"{type(self).__name__}.step", self._bound[0]
        if not parameters.flags.writeable:
            got = _check.Shown("a read-only array")
            raise ValueError(_check.message(where, "the model's parameters must be writable", got))
        for name in self._slot_names:
            slot = self.slots.get(name)
            required = f"slots[{name!r}] must be an array {parameters.shape} of {parameters.dtype}, as bind made it"
            if not isinstance(slot, np.ndarray) or (slot.shape, slot.dtype) != (parameters.shape, parameters.dtype):
                is_array = isinstance(slot, np.ndarray)
                got = _check.Shown(f"{slot.dtype} of shape {slot.shape}" if is_array else repr(slot))
                raise ValueError(_check.message(where, required, got))
            if not slot.flags.writeable:
                raise ValueError(_check.message(where, f"{required}, and writable", _check.Shown("a read-only one")))

    def get_state(self):
        """{"iterations": int, and a copy of every slot}: what a resumed run needs as well as ``get_config``."""
        return {"iterations": self.iterations, **{name: slot.copy() for name, slot in self.slots.items()}}

    def set_state(self, state):
        """Puts back what ``get_state`` gave, for an optimiser bound to vectors of the same layout.

        RuntimeError before ``bind``; ValueError for other names, shapes or dtypes, and then nothing is changed.
        """
        where = f"{type(self).__name__}.set_state"
        self._require_bound("set_state")
        wanted = {"iterations", *self.slots}
        if set(state) != wanted:
            raise ValueError(_check.message(where, f"the state must have the entries {sorted(wanted)}", sorted(state)))
        iterations = _check.integer(where, "iterations", state["iterations"], 0, _check.MOST_STEPS)
        found = {}
        for name, slot in self.slots.items():
            new = _check.numeric_array(where, name, state[name])
            if new.shape != slot.shape or new.dtype != slot.dtype:
                required = f"{name} must be a {slot.dtype} array of shape {slot.shape}"
                raise ValueError(_check.message(where, required, _check.Shown(f"{new.dtype} of shape {new.shape}")))
            found[name] = new.copy()  # it may be a view of another slot
        for name, slot in self.slots.items():
            slot[...] = found[name]
        self._iterations[0] = iterations

    def get_config(self):
        """The constructor's arguments, ready for JSON, and what is excluded from weight decay, if anything is.

        A ``global_clipnorm`` stands there as ``clipnorm``.
        """
        config = super().get_config()
        config.pop("global_clipnorm", None)
        if isinstance(self._rate, Schedule):
            config["learning_rate"] = schedules.to_config(self._rate)
        if self._excluded:
            config["excluded_from_weight_decay"] = list(self._excluded)
        return config

    @classmethod
    def from_config(cls, config):
        """The optimiser that ``get_config`` describes, without slots."""
        arguments = dict(config)
        excluded = arguments.pop("excluded_from_weight_decay", [])
        optimizer = cls(**arguments)
        optimizer.exclude_from_weight_decay(excluded)
        return optimizer

    def __setstate__(self, state):
        vars(self).update(owned(state))
        self._make_slots()

    def __getstate__(self):
        return {**self.__dict__, "_bound": None, "_before_step": None, "_constrained": [], "_rules": (None, None)}


class SGD(Optimizer):
    """Gradient descent with momentum: without momentum w -= r g, else

        v = momentum v - r g,    w += v    or, with ``nesterov``,    w += momentum v - r g

    (Polyak 1964; Nesterov's form as in Sutskever et al., ICML 2013, written as in Keras).  ``momentum`` in [0, 1).
    The slot is "velocity", if there is momentum; assigned later, momentum starts from zeros.
    """

    momentum = _Choice(_check.number, 0, 1, open_high=True)
    nesterov = Setting(_check.boolean)

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        nesterov=False,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
    ):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm)
        self.momentum = momentum
        self.nesterov = nesterov

    def _method(self):
        if not self.momentum:
            return "sgd", 0.0, 0.0, 0.0, (None, None, None)
        return "nesterov" if self.nesterov else "momentum", self.momentum, 0.0, 0.0, ("velocity", None, None)


class _Adaptive(Optimizer):
    """Those that divide by the size that gradients had, and by ``epsilon`` where they had none."""

    epsilon = Setting(_check.number, 1e-30)  # below it float32 would make it 0


class _OfMoments(_Adaptive):
    """Those with running means of the gradient and of its size; slots "m" and another one."""

    beta_1 = Setting(_check.number, 0, 1, open_high=True)
    beta_2 = Setting(_check.number, 0, 1, open_high=True)

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
    ):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon


class Adam(_OfMoments):
    """Steps scaled by running means of the gradient and of its square (Kingma and Ba, ICLR 2015, end of section 2):

        m += (1 - beta_1) (g - m),    v += (1 - beta_2) (g^2 - v),
        w -= r sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)    at step t = 1, 2, ...

    and with ``amsgrad`` (Reddi et al., "On the Convergence of Adam and Beyond", ICLR 2018, in Keras's form) the last
    line has v_hat = max(v_hat, v) instead of v, so that no large gradient is forgotten.

    ``beta_1`` and ``beta_2`` in [0, 1), ``epsilon`` >= 1e-30.  The slots are "m" and "v", and "v_hat" with ``amsgrad``;
    assigned later, it starts from zeros.  torch has sqrt(v / (1 - beta_2^t)) + epsilon: the same but for epsilon, which
    is larger here in the first steps.
    """

    amsgrad = _Choice(_check.boolean)

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, clipnorm, clipvalue, global_clipnorm)
        self.amsgrad = amsgrad

    def _method(self):
        numbers = self.beta_1, self.beta_2, self.epsilon
        return ("amsgrad", *numbers, ("m", "v", "v_hat")) if self.amsgrad else ("adam", *numbers, ("m", "v", None))


class AdamW(Adam):
    """Adam with weight decay by default (Loshchilov and Hutter, ICLR 2019, algorithm 2)."""

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay=0.004,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
    ):
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, clipnorm, clipvalue, global_clipnorm
        )


class Nadam(_OfMoments):
    """Adam with Nesterov's momentum (Dozat, "Incorporating Nesterov Momentum into Adam", 2016), in Keras's form:

        m += (1 - beta_1) (g - m),    v += (1 - beta_2) (g^2 - v),    at step t = 1, 2, ...
        w -= r (u_{t+1} m / (1 - U_{t+1}) + (1 - u_t) g / (1 - U_t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)
        with u_t = beta_1 (1 - 0.96^t / 2) and U_t = u_1 u_2 ... u_t

    ``beta_1`` and ``beta_2`` in [0, 1), ``epsilon`` >= 1e-30.  The slots are "m" and "v".  U_t is not kept, as Keras
    does, but follows from t: a ``beta_1`` that is assigned later counts as if it had always been so.  torch's NAdam
    has 0.96^(t momentum_decay), and 0.004 as momentum_decay.
    """

    def _method(self):
        return "nadam", self.beta_1, self.beta_2, self.epsilon, ("m", "v", None)


class Adamax(_OfMoments):
    """Adam with the largest gradient in place of the mean square (Kingma and Ba, ICLR 2015, algorithm 2):

        m += (1 - beta_1) (g - m),    u = max(beta_2 u, |g|),
        w -= r / (1 - beta_1^t) m / (u + epsilon)    at step t = 1, 2, ...

    ``beta_1`` and ``beta_2`` in [0, 1), ``epsilon`` >= 1e-30.  The slots are "m" and "u".  torch takes
    max(beta_2 u, |g| + epsilon) as u.
    """

    def _method(self):
        return "adamax", self.beta_1, self.beta_2, self.epsilon, ("m", "u", None)


class RMSprop(_Adaptive):
    """Steps divided by the root of a running mean of squares (Tieleman and Hinton, Coursera 2012, lecture 6.5):

        velocity += (1 - rho) (g^2 - velocity),    change = r g / sqrt(velocity + epsilon),    w -= change

    With ``momentum``, momentum = momentum momentum + change and w -= momentum.  With ``centered`` (Graves, 2013,
    equations 38 to 42) there is average_gradient += (1 - rho) (g - average_gradient), and velocity -
    average_gradient^2 stands under the root, or 0 where rounding makes it negative.

    ``rho`` and ``momentum`` in [0, 1), ``epsilon`` >= 1e-30.  The slots have these names; what is assigned later starts
    from zeros.  As in Keras epsilon stands under the root, and r in the momentum; torch has r g / (sqrt(velocity) +
    epsilon), multiplies by r after the momentum, and calls rho alpha.
    """

    rho = Setting(_check.number, 0, 1, open_high=True)
    momentum = _Choice(_check.number, 0, 1, open_high=True)
    centered = _Choice(_check.boolean)

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.9,
        momentum=0.0,
        epsilon=1e-7,
        centered=False,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
    ):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    def _method(self):
        names = "velocity", "momentum" if self.momentum else None, "average_gradient" if self.centered else None
        return "rmsprop", self.momentum, self.rho, self.epsilon, names


class Adagrad(_Adaptive):
    """Steps divided by the root of the sum of all squares (Duchi et al., JMLR 2011, with a diagonal matrix):

        accumulator += g^2,    w -= r g / sqrt(accumulator + epsilon)

    ``initial_accumulator_value`` in [0, 1e30] is what the slot, "accumulator", begins with; ``epsilon`` >= 1e-30.  As
    in Keras epsilon stands under the root; torch has sqrt(accumulator) + epsilon, and begins with 0.
    """

    initial_accumulator_value = Fixed(_check.number, 0, 1e30)

    def __init__(
        self,
        learning_rate=0.001,
        initial_accumulator_value=0.1,
        epsilon=1e-7,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
    ):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def _new_slot(self, size, dtype):
        return np.full(size, self.initial_accumulator_value, dtype)

    def _method(self):
        return "adagrad", 0.0, 0.0, self.epsilon, ("accumulator", None, None)


class Adadelta(_Adaptive):
    """Steps in the unit of the steps before (Zeiler, "ADADELTA", 2012, algorithm 1, which has r = 1):

        accumulated_grad += (1 - rho) (g^2 - accumulated_grad)
        change = sqrt(accumulated_delta_var + epsilon) / sqrt(accumulated_grad + epsilon) g,    w -= r change
        accumulated_delta_var += (1 - rho) (change^2 - accumulated_delta_var)

    ``rho`` in [0, 1), ``epsilon`` >= 1e-30.  The slots have these names.  The default r of 0.001 is Keras's, and slow.
    """

    rho = Setting(_check.number, 0, 1, open_high=True)

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.95,
        epsilon=1e-7,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
    ):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm)
        self.rho = rho
        self.epsilon = epsilon

    def _method(self):
        return "adadelta", 0.0, self.rho, self.epsilon, ("accumulated_grad", "accumulated_delta_var", None)


# ---- by name, and from files ----

_CLASSES = {cls.__name__: cls for cls in (SGD, RMSprop, Adagrad, Adadelta, Adam, AdamW, Adamax, Nadam)}


def get(optimizer):
    """The Optimizer for a name, that of its class in small or capital letters, with default arguments; or an Optimizer.

    ValueError for a name that does not exist, TypeError for anything else.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        got = _check.Shown(f"the class {optimizer.__name__}")
        fix = f"Did you mean {optimizer.__name__}()?"
        raise TypeError(_check.message("optimizers.get", "the optimizer must be a name or an Optimizer", got, fix))
    names = {name.lower(): cls for name, cls in _CLASSES.items()}
    name = optimizer.lower() if isinstance(optimizer, str) else optimizer
    return names[_check.choice("optimizers.get", "the optimizer", name, tuple(names))]()


def to_config(optimizer):
    """{"name", "config"} for JSON; None for a custom optimiser or schedule, which no file can hold."""
    rate = optimizer._rate
    known = _CLASSES.get(type(optimizer).__name__) is type(optimizer)
    if not known or (isinstance(rate, Schedule) and not schedules.is_known(rate)):
        return None
    return configured.to_config(optimizer)


def from_config(config):
    """The Optimizer that ``to_config`` wrote; ValueError or TypeError for anything else."""
    return configured.from_config(
        "optimizers.from_config", config, _CLASSES, lambda cls, arguments: cls.from_config(arguments)
    )
