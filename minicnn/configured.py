"""Things that their constructor's arguments describe, and how a file names them."""

import inspect

from minicnn import _check


class Configured:
    """Something that its constructor's arguments describe; each is an attribute of the same name."""

    def __new__(cls, *args, **kwargs):
        _check.keywords(cls.__name__, cls.__init__, kwargs)
        return super().__new__(cls)

    def get_config(self):
        """The constructor's arguments, ready for JSON: ``type(x)(**x.get_config())`` is the same anew."""
        names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names if name != "self"}

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_config().items())})"


def from_config(where, config, classes, make):
    """What {"name", "config"} describes: ``make(class, config)``, for a name in ``classes``."""
    if not isinstance(config, dict) or set(config) != {"name", "config"} or not isinstance(config["config"], dict):
        raise ValueError(_check.message(where, 'a dictionary with "name" and "config" is required', config))
    return make(classes[_check.choice(where, "the name", config["name"], tuple(classes))], config["config"])
