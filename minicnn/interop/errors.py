"""What cannot be said on the other side."""


class ConversionError(ValueError):
    """A model, a graph or weights that the other side has no equal for; the message names the node and says why."""
