"""Batch normalisation: each channel with mean 0 and variance 1 over the batch, then scaled and shifted as learned."""

import math

import numpy as np

from minicnn import _check, initializers
from minicnn._ext import norm as kernels
from minicnn.layer import Layer, is_frozen
from minicnn.recording import empty
from minicnn.settings import Setting


class BatchNormalization(Layer, compiled=True):
    """Normalises each channel (the last axis) over the batch and all other axes, R values of each channel.

    ::

        training:    y = gamma (x - mean) s + beta,   s = 1 / sqrt(variance + epsilon), mean and variance of the batch
        evaluation:  the same with moving_mean and moving_variance

        dbeta = sum dy,  dgamma = s sum (x - mean) dy,  dx = gamma s (dy - dbeta / R - (x - mean) s dgamma / R)

    Each training forward moves the moving statistics: moving = momentum * moving + (1 - momentum) * batch; the variance
    is the biased one (divided by R), as in Keras.

    x, y: (N, ..., C), float32 or float64.  Parameters ``gamma`` (C,), begins at 1, ``beta`` (C,), at 0; state
    ``moving_mean`` (C,), begins at 0, ``moving_variance`` (C,), at 1.

    - ``momentum``: a number in [0, 1], the part of the old moving statistics that stays.
    - ``epsilon``: a number > 0, added to the variance.
    - ``inference``: True for a layer that normalises with its moving statistics in training, too, and does not move
      them: then dx = gamma s dy, with s of the moving variance.  It may be assigned at any time.

    ``trainable = False`` alone, as in PyTorch, keeps gamma and beta; the statistics are still those of the batch, and
    still move.  ``freeze()``, of this layer, of one that holds it or of the model, acts like ``inference`` as well: it
    does what ``trainable = False`` does in Keras.

    Raises ValueError for arguments out of range, and in training if a channel has fewer than two values (R < 2: the
    variance would be 0 and every output beta).

    Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1 and section 3.
    """

    output_function = "changed"

    momentum = Setting(_check.number, 0, 1)
    epsilon = Setting(_check.number, 0, open_low=True)
    inference = Setting(_check.boolean, forgets=True)

    def __init__(self, momentum=0.99, epsilon=1e-3, inference=False, dtype=None):
        super().__init__(dtype)
        self.inference = inference
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        if not input_shape:
            raise ValueError(
                _check.message("BatchNormalization", "one sample must have at least one axis", input_shape)
            )
        channels = input_shape[-1]
        self.add_param("gamma", (channels,), initializers.get("BatchNormalization", "ones"), rng)
        self.add_param("beta", (channels,), initializers.get("BatchNormalization", "zeros"), rng)
        self.state["moving_mean"] = np.zeros(channels, self.dtype)
        self.state["moving_variance"] = np.ones(channels, self.dtype)
        self._zeros, self._ones = np.zeros(channels, self.dtype), np.ones(channels, self.dtype)
        return input_shape

    def smallest_batch(self):
        """Two samples where each gives one value of a channel, so that R >= 2."""
        return 2 if math.prod(self.input_shape[:-1]) == 1 and not (self.inference or is_frozen(self)) else 1

    def forward(self, x, training=False):
        x = self.check_input(x)
        y = empty(x.shape, x.dtype)
        gamma, beta = self.params["gamma"], self.params["beta"]
        moving = self.state["moving_mean"], self.state["moving_variance"]
        rows = _rows(x)
        if not training or self.inference or is_frozen(self):
            kernels.forward(rows, gamma, beta, self.epsilon, *moving, _rows(y))
            if training:
                self.keep(len(x), self.own(x), None, None)
            return y
        if len(x) < self.smallest_batch():
            required = "training needs at least two values of each channel"
            fix = "Choose a batch_size that does not leave a last batch of one sample"
            raise ValueError(_check.message("BatchNormalization.forward", required, _check.shape_of(x), fix))
        mean, inverse_std = empty(gamma.shape, gamma.dtype), empty(gamma.shape, gamma.dtype)
        kernels.forward_training(rows, gamma, beta, self.epsilon, self.momentum, mean, inverse_std, *moving, _rows(y))
        self.keep(len(x), self.own(x), mean, inverse_std)
        return y

    def backward(self, dy):
        dy, (x, mean, inverse_std) = self.check_gradient(dy)
        dx = empty(x.shape, x.dtype)
        gamma, grads = self.params["gamma"], self.grads
        if mean is None:
            return self._backward_inference(x, dy, dx)
        kernels.backward(_rows(x), _rows(dy), gamma, mean, inverse_std, grads["gamma"], grads["beta"], _rows(dx))
        return dx

    def _backward_inference(self, x, dy, dx):
        """With constant statistics: the same sums for gamma and beta, but dx = gamma s dy."""
        gamma, grads, mean = self.params["gamma"], self.grads, self.state["moving_mean"]
        scale = self.epsilon, self._zeros, self.state["moving_variance"]  # forward by these is x gamma s
        inverse_std = empty(mean.shape, mean.dtype)
        kernels.forward(_rows(self._ones[None]), self._ones, self._zeros, *scale, _rows(inverse_std[None]))
        kernels.backward(_rows(x), _rows(dy), gamma, mean, inverse_std, grads["gamma"], grads["beta"], _rows(dx))
        kernels.forward(_rows(dy), gamma, self._zeros, *scale, _rows(dx))
        return dx


def _rows(x):
    """(N, ..., C) as (N, rows of a sample, C)."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])
