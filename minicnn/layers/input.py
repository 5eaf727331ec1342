"""Input: the shape of one sample, as an optional first entry of a model."""

from minicnn import _check


class Input:
    """``Sequential([Input((28, 28, 1)), ...])`` is built at once.  Not a layer: it computes nothing and has no number.

    ``shape``: of one sample, without the batch axis.
    """

    def __init__(self, shape):
        self.shape = _check.sample_shape("Input", shape)

    def __repr__(self):
        return f"Input({self.shape})"
