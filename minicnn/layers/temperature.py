"""Temperature: one number by which logits are divided, so that a network is as sure as it is right."""

import numpy as np

from minicnn import _check
from minicnn._ext import reshape as kernels
from minicnn.layer import Layer
from minicnn.layers.activation import flat
from minicnn.recording import empty


class Temperature(Layer, compiled=True):
    """Divides logits by a number that is found after training, on samples that were not trained on:

    ::

        y = x / T,   dx = dy / T

    x, y: float32 or float64, (N, ...).  It stands before the softmax or sigmoid, or at the end of a model that gives
    logits.  Above 1 it makes the network less sure, below 1 surer; which class is the likeliest stays.

    - ``temperature``: T, a number in [1e-30, 1e30].  It may be assigned at any time.

    T is ``state["temperature"]``, a float64 array (1,): no optimiser changes it, and it is in ``state_dict`` and in
    files of weights.  ``calibration.fit_temperature`` finds it, and puts the layer into a model that has none.

    Raises ValueError for a temperature out of range, TypeError for what is no number.

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """

    output_function = "changed"

    def __init__(self, temperature=1.0, dtype=None):
        super().__init__(dtype)
        self.temperature = temperature

    @property
    def temperature(self):
        """T."""
        return float(self.state["temperature"][0])

    @temperature.setter
    def temperature(self, temperature):
        temperature = _check.number(type(self).__name__, "temperature", temperature, 1e-30, 1e30)
        self.state["temperature"] = np.array([temperature])
        self.forget()  # backward would divide by another number than forward

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x))
        return self._divided(x)

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return self._divided(dy)

    def _divided(self, x):
        y = empty(x.shape, x.dtype)
        if x.size:
            kernels.divide(flat(x), self.state["temperature"], flat(y))
        return y
