"""What layers with parameters of their own have in common: a regulariser and a constraint for each of them.

A model finds both by the parameter's name ("kernel_regularizer"; parameters.py).
"""

from minicnn import _check, constraints, initializers, regularizers
from minicnn.settings import Setting


class Rule(Setting):
    """A regulariser or a constraint of the parameter that its name begins with.

    A constraint must be possible for the parameter, once that is there.  ``only_if``: the name of an attribute that
    says whether the layer has the parameter at all; where it is False only None may be assigned.
    """

    def __init__(self, get, only_if=None):
        super().__init__(get)
        self.only_if = only_if

    def __set__(self, layer, value):
        where, parameter = type(layer).__name__, layer.params.get(self.name.rpartition("_")[0])
        found = self.check(where, self.name, value)
        if found is not None and self.only_if is not None and not getattr(layer, self.only_if):
            required = f"{self.name} must be None without {self.only_if}"
            raise ValueError(_check.message(where, required, value, f"Say {self.only_if}=True or leave it out"))
        if parameter is not None and isinstance(found, constraints.Constraint):
            constraints.check(where, found, parameter.shape)
        super().__set__(layer, found)


class Governed:
    """A base beside ``Layer`` for layers with such arguments."""

    def get_config(self):
        """The constructor's arguments, ready for JSON unless there is a custom regulariser or initialiser."""
        config = super().get_config()
        return {
            key: initializers.to_config(regularizers.to_config(constraints.to_config(value)))
            for key, value in config.items()
        }
