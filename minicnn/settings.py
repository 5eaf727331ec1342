"""Settings: what may be assigned to a public attribute, when, and what is refused.

A model in memory, in its file, in a copy and in another process is one thing.  So an assignment to a public attribute
of a layer, an optimiser, a schedule, an initialiser, a regulariser, a constraint, a loss, a metric or a model either
takes effect at once in all of them, or is refused with a sentence that says what to do:

- ``name = Setting(check, ...)`` in a class: an argument that may be assigned at any time.  ``check(where, name, value,
  ...)`` raises, or returns what is kept.
- ``name = Fixed(check, ...)``: an argument that stays what the constructor made it.
- ``name = Given(how)``: a fact that only the object itself sets (``_put``); ``how`` says what the user may do.
- A property with a setter, where an assignment has more to do.

There are no other public attributes: a misspelt name is an error.  A custom class may have more.  A method may be
replaced in one object, as everywhere in Python; such an object cannot be saved (``replaced``).
"""

import copy
import inspect
from typing import TYPE_CHECKING

import numpy as np

from minicnn import _check

PACKAGE = __name__.partition(".")[0]


class Setting:
    """An attribute that is checked whenever it is assigned.

    Its value lies in the object's ``__dict__`` under its name, where Python finds it without asking here.

    - ``check``: a function of ``_check``, or any other, called with the class's name, the attribute's name, the value
      and all further arguments.
    - ``optional``: whether None is allowed, unchecked.
    - ``forgets``: for a layer whose ``backward`` reads the attribute as ``forward`` did: what a forward kept is
      forgotten, so that a backward after the assignment asks for a new forward.
    """

    def __init__(self, check, *arguments, optional=False, forgets=False, **named):
        self.check, self.arguments, self.named = check, arguments, named
        self.optional, self.forgets = optional, forgets

    def __set_name__(self, owner, name):
        self.name = name

    def __set__(self, thing, value):
        if not (value is None and self.optional):
            value = self.check(type(thing).__name__, self.name, value, *self.arguments, **self.named)
        vars(thing)[self.name] = value
        if self.forgets:
            thing.forget()


class Fixed(Setting):
    """A setting that the constructor chooses once: what was made from it cannot follow."""

    def __set__(self, thing, value):
        if self.name in vars(thing):
            kind = type(thing).__name__
            refuse(thing, self.name, "is fixed when the object is made", value, f"Make a new {kind} with it")
        super().__set__(thing, value)


class Given(Setting):
    """A fact about an object, not a choice; ``how`` says what to do instead of assigning it."""

    def __init__(self, how):
        super().__init__(None)
        self.how = how

    def __set__(self, thing, value):
        refuse(thing, self.name, "cannot be assigned", value, self.how)


class _Signature:
    """What ``help`` and ``inspect`` show of a class: its constructor's arguments.

    Without it some versions of Python show those of ``__new__``, which takes anything.
    """

    def __get__(self, thing, cls):
        if thing is not None:  # of an object it is that of ``__call__``
            raise AttributeError("__signature__")
        found = inspect.signature(cls.__init__)
        return found.replace(parameters=[*found.parameters.values()][1:])


class Closed:
    """A base for classes with settings: they have no other public attributes."""

    __signature__ = _Signature()

    def __setattr__(self, name, value):
        if name[0] != "_":
            self._require_setting(name, value)
        object.__setattr__(self, name, value)

    def _require_setting(self, name, value):
        known = getattr(type(self), name, None)
        if isinstance(known, property) and known.fset is None:
            refuse(self, name, "cannot be assigned: it follows from other attributes", value)
        if hasattr(known, "__set__") or inspect.isfunction(known) or not is_ours(type(self)):
            return
        if hasattr(type(self), name):
            refuse(self, name, "cannot be assigned", value, "Define it in a subclass")
        near = _check.meant(name, [other for other in dir(type(self)) if other[0] != "_"])
        raise AttributeError(
            _check.message(type(self).__name__, "only its attributes may be assigned", _check.Shown(name),
                           f"Did you mean `{near}`?" if near else "")
        )  # fmt: skip

    if not TYPE_CHECKING:  # which would take it for leave to use any name

        def __getattr__(self, name):
            """Only asked for what is not there: a name that another library has is told ours."""
            ours = next((other for other in _check.OTHER_NAMES.get(name, ()) if hasattr(type(self), other)), None)
            if ours is not None:
                got, fix = _check.Shown(name), f"Did you mean `{ours}`?"
                raise AttributeError(_check.message(type(self).__name__, "there is no such attribute", got, fix))
            return object.__getattribute__(self, name)  # raises in Python's words, or those of a property

    def __delattr__(self, name):
        if name[0] != "_" and is_ours(type(self)) and name not in replaced(self):
            raise AttributeError(f"{type(self).__name__}.{name}: is not to be deleted")
        object.__delattr__(self, name)

    def _put(self, **values):
        """Sets what is Given, or Fixed by more than the constructor."""
        vars(self).update(values)

    def __copy__(self):
        return copy.deepcopy(self)  # two cannot share their arrays


def settings_of(cls):
    """The names of the settings, and of the properties that may be assigned, which a class has from minicnn's."""
    found = {}
    for owner in reversed(cls.__mro__):
        found.update(vars(owner) if is_ours(owner) else dict.fromkeys(found.keys() & vars(owner).keys()))
    return [
        name
        for name, known in found.items()
        if (isinstance(known, Setting) and not isinstance(known, Fixed | Given))
        or (isinstance(known, property) and known.fset is not None)
    ]


def is_ours(cls):
    """True for a class of minicnn's, False for a custom one, which may have any attributes."""
    return cls.__module__.partition(".")[0] == PACKAGE


def replaced(thing):
    """The names of the methods that this one object has replaced by something else."""
    return [name for name in vars(thing) if inspect.isfunction(getattr(type(thing), name, None))]


def refuse(thing, name, what, value, fix=""):
    raise AttributeError(_check.message(f"{type(thing).__name__}.{name}", what, value, fix))


def owned(value):
    """The value with every array in it writable and owning its memory, copied where it is not.

    What comes back from a pickle may lie in a file that joblib has mapped into memory, or in a foreign buffer: training
    must neither fail there nor write into it.
    """
    if isinstance(value, np.ndarray):
        return value if value.base is None and value.flags.writeable else np.array(value)
    if type(value) is tuple:
        return tuple(map(owned, value))
    if type(value) in (list, dict, Values):  # in place: another part of the copy may hold it too
        for key, entry in enumerate(value) if type(value) is list else list(value.items()):
            value[key] = owned(entry)
    return value


class Values(dict):
    """Arrays and counters by name: a layer's ``params``, ``grads`` and ``state``, an optimiser's ``slots``.

    A dict like any other until a model or an optimiser works on it (``guard``).  From then on its names stay, and an
    assignment writes into the array that is there, so that all references to it stay valid: the value must have the
    same shape and be numbers.  A counter stays a whole number from 0 to 2^62.
    """

    __slots__ = ("kind", "open", "where")

    def __init__(self, *entries, **named):
        super().__init__(*entries, **named)
        self.where = self.kind = None  # of whom they are, and what; once settled
        self.open = False  # whether other names may come

    def guard(self, where, kind, arrays=(), open=False):
        """Begins to guard the values, the ``kind`` ("params") of ``where``; ``arrays``: (name, array) that take the
        place of those of the same name."""
        dict.update(self, arrays)
        for name, value in self.items():
            if isinstance(value, np.ndarray):
                dict.__setitem__(self, name, value if value.base is not None else value[...])  # a view keeps its size
            else:
                dict.__setitem__(self, name, _check.integer(where, f"{kind}[{name!r}]", value, 0, _check.MOST_STEPS))
        self.where, self.kind, self.open = where, kind, open

    def have(self, counters, wanted):
        """Has these counters, before all else and at 0 where they are new, or has them not: for a layer that counts
        other things than before.  (A file knows the order.)"""
        if wanted == all(name in self for name in counters):
            return
        found = dict(self)
        dict.clear(self)
        dict.update(self, {name: found.get(name, 0) for name in counters} if wanted else {})
        dict.update(self, {name: value for name, value in found.items() if name not in counters})

    def __setitem__(self, name, value):
        array = self.get(name)
        counts = type(value) is type(array) is int and 0 <= value <= _check.MOST_STEPS  # many times in every step
        if self.where is None or counts or (self.open and name not in self):
            dict.__setitem__(self, name, value)
            return
        if name not in self:
            self._refuse(f"{self.kind} must have no other names than", name)
        called = f"{self.kind}[{name!r}]"
        if not isinstance(array, np.ndarray):
            dict.__setitem__(self, name, _check.integer(self.where, called, value, 0, _check.MOST_STEPS))
        elif value is not array:
            value = _check.numeric_array(self.where, called, value)
            if value.shape != array.shape:
                required = f"{called} must keep its shape {array.shape}"
                raise ValueError(_check.message(self.where, required, _check.shape_of(value)))
            array[...] = value

    def _refuse(self, required, got):
        names = ", ".join(map(repr, self)) or "none"
        raise ValueError(_check.message(self.where, f"{required} {names}", got))

    def update(self, *entries, **named):
        given = dict(*entries, **named)
        for name, value in given.items():  # it may be a view of an entry that is written before it
            given[name] = value.copy() if isinstance(value, np.ndarray) and self.get(name) is not value else value
        for name, value in given.items():
            self[name] = value

    def __ior__(self, entries):  # type: ignore[misc]
        self.update(entries)
        return self

    def setdefault(self, name, default=None):
        if name not in self:
            self[name] = default
        return self[name]

    def _refuse_removal(self):
        if self.where is not None and not self.open:
            self._refuse(f"{self.kind} must keep", _check.Shown("a removal"))

    def __delitem__(self, name):
        self._refuse_removal()
        dict.__delitem__(self, name)

    def pop(self, *arguments):
        self._refuse_removal()
        return dict.pop(self, *arguments)

    def popitem(self):
        self._refuse_removal()
        return dict.popitem(self)

    def clear(self):
        self._refuse_removal()
        dict.clear(self)

    def __reduce__(self):
        return type(self), (), None, None, iter(self.items())  # a copy belongs to no model or optimiser yet
