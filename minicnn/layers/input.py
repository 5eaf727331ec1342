"""Input: the shape of one sample, as an optional first entry of a model."""

from minicnn import _check
from minicnn.layer import NOT_FUNCTIONAL


class Input:
    """``Sequential([Input((28, 28, 1)), ...])`` is built at once.  Not a layer: it computes nothing and has no number.

    ``shape``: of one sample, without the batch axis.
    """

    def __init__(self, shape):
        self.shape = _check.sample_shape("Input", shape)

    def __array__(self, *arguments, **named):
        """For a model that is called with it, as one calls it in Keras's functional way."""
        raise TypeError(_check.message("Input", NOT_FUNCTIONAL[0], self, NOT_FUNCTIONAL[1]))

    def __repr__(self):
        return f"{type(self).__name__}({self.shape})"


class InputLayer(Input):
    """Keras's other word: ``InputLayer((28, 28, 1))``, ``InputLayer(input_shape=(28, 28, 1))``."""

    def __init__(self, shape=None, input_shape=None):
        if (shape is None) == (input_shape is None):
            required = "needs either shape or input_shape"
            raise ValueError(_check.message("InputLayer", required, (shape, input_shape)))
        super().__init__(input_shape if shape is None else shape)
