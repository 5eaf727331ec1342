"""Objects that their constructors' arguments describe (optimisers, schedules, initialisers, regularisers, constraints),
and their form in files.

In a file such an object is {"name": its class, "config": the arguments}.  Files make objects of minicnn's classes only.
"""

import inspect

from minicnn import _check, keras_words
from minicnn.settings import Closed


class Configured(Closed):
    """An object that its constructor's arguments describe; each is an attribute of the same name, a ``Setting``."""

    def __init_subclass__(cls, **kwargs):
        """TypeError for a method of Keras's that nobody would call here."""
        super().__init_subclass__(**kwargs)
        keras_words.refuse_hooks(cls)

    def __new__(cls, *args, **kwargs):
        _check.keywords(cls.__name__, cls.__init__, kwargs)
        return super().__new__(cls)

    def __init__(self):  # object's would take any argument
        pass

    def get_config(self):
        """The constructor's arguments, ready for JSON: ``type(x)(**x.get_config())`` is an equal object.

        An argument that a custom class does not keep is not in it.
        """
        names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names if name != "self" and hasattr(self, name)}

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_config().items())})"


def to_config(thing):
    """{"name", "config"} of something Configured."""
    return {"name": type(thing).__name__, "config": thing.get_config()}


def from_config(where, config, classes, make=lambda cls, arguments: cls(**arguments)):
    """The object that ``to_config`` described; ``classes``: {name: class} of all that are allowed.

    ValueError or TypeError for anything else.
    """
    if not isinstance(config, dict) or set(config) != {"name", "config"} or not isinstance(config["config"], dict):
        raise ValueError(_check.message(where, 'config must be a dictionary with "name" and "config"', config))
    return make(classes[_check.choice(where, "the name", config["name"], tuple(classes))], config["config"])


def get(where, argument, value, base, names):
    """``value`` as an object of the class ``base``; None stays None.

    It may be such an object; one of the ``names``, {name: class}, or the name of such a class, for default arguments;
    or what ``to_config`` gave.
    """
    if value is None or isinstance(value, base):
        return value
    classes = {cls.__name__: cls for cls in names.values()}
    if isinstance(value, dict):
        return from_config(f"{where}: {argument}", value, classes)
    if isinstance(value, str):
        return (classes | names)[_check.choice(where, argument, value, (*names, *classes))]()
    is_class = isinstance(value, type) and issubclass(value, base)
    got = _check.Shown(f"the class {value.__name__}") if is_class else _check.kind(value)
    fix = f"Did you mean {value.__name__}()?" if is_class else ""
    listed = ", ".join(map(repr, names))
    required = f"{argument} must be None, one of {listed} or a {base.__name__}"
    raise TypeError(_check.message(where, required, got, fix))
