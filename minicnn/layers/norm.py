"""Normalisations: values with mean 0 and variance 1, then scaled and shifted as learned.

They differ in what has one mean and one variance: a channel of the whole batch (BatchNormalization), the last axes of a
sample (LayerNormalization), some channels of a sample (GroupNormalization).
"""

import math

import numpy as np

from minicnn import _check, cells, constraints, initializers, regularizers
from minicnn._ext import norm as kernels
from minicnn.layer import Layer, is_frozen
from minicnn.layers.governed import Governed, Rule
from minicnn.recording import empty, in_between
from minicnn.settings import Fixed, Setting


class Normalizing(Governed):
    """A second base, next to ``Layer``, for layers with the parameters gamma and beta, and what Keras says of them.

    ``__init__`` hands the arguments that all of them have to ``_set_up``; ``build`` calls ``_add_gamma_and_beta``.  The
    kernels take both parameters: where the layer has none, ``_gamma`` and ``_beta`` are ones and zeros.
    """

    output_function = "changed"

    epsilon = Setting(_check.number, 1e-30)  # below it float32 would make it 0
    center = Fixed(_check.boolean)
    scale = Fixed(_check.boolean)
    beta_initializer = Fixed(initializers.check)
    gamma_initializer = Fixed(initializers.check)
    beta_regularizer = Rule(regularizers.get, "center")
    gamma_regularizer = Rule(regularizers.get, "scale")
    beta_constraint = Rule(constraints.get, "center")
    gamma_constraint = Rule(constraints.get, "scale")

    def _set_up(
        self,
        epsilon,
        center,
        scale,
        beta_initializer,
        gamma_initializer,
        beta_regularizer,
        gamma_regularizer,
        beta_constraint,
        gamma_constraint,
    ):
        """Stores the arguments that all such layers have."""
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.beta_initializer = beta_initializer
        self.gamma_initializer = gamma_initializer
        self.beta_regularizer = beta_regularizer
        self.gamma_regularizer = gamma_regularizer
        self.beta_constraint = beta_constraint
        self.gamma_constraint = gamma_constraint

    def _require_axes(self, input_shape):
        if not input_shape:
            required = "one sample must have at least one axis"
            raise ValueError(_check.message(type(self).__name__, required, input_shape))

    def _require_last(self, axis, input_shape):
        """ValueError unless the axis is the last one, counted with that of the batch, as in Keras."""
        self._require_axes(input_shape)
        if axis not in (-1, len(input_shape)):
            required = f"axis must be -1 or {len(input_shape)}, the last one: channels come last here"
            raise ValueError(_check.message(type(self).__name__, required, axis))

    def _add_gamma_and_beta(self, shape, rng):
        where = type(self).__name__
        self._ones, self._zeros = np.ones(math.prod(shape), self.dtype), np.zeros(math.prod(shape), self.dtype)
        if self.scale:
            constraints.check(where, self.gamma_constraint, shape)
            self.add_param("gamma", shape, initializers.get(where, self.gamma_initializer), rng)
        if self.center:
            constraints.check(where, self.beta_constraint, shape)
            self.add_param("beta", shape, initializers.get(where, self.beta_initializer), rng)

    @property
    def _gamma(self):
        return self.params["gamma"].reshape(-1) if self.scale else self._ones

    @property
    def _beta(self):
        return self.params["beta"].reshape(-1) if self.center else self._zeros


class BatchNormalization(Normalizing, Layer, compiled=True):
    """Normalises each channel (the last axis) over the batch and all other axes, R values of each channel.

    ::

        training:    y = gamma (x - mean) s + beta,   s = 1 / sqrt(variance + epsilon), mean and variance of the batch
        evaluation:  the same with moving_mean and moving_variance

        dbeta = sum dy,  dgamma = s sum (x - mean) dy,  dx = gamma s (dy - dbeta / R - (x - mean) s dgamma / R)

    Each training forward moves the moving statistics: moving = momentum * moving + (1 - momentum) * batch; the variance
    is the biased one (divided by R), as in Keras.

    x, y: (N, ..., C), float32 or float64.  Parameters ``gamma`` (C,), begins at 1, ``beta`` (C,), at 0; state
    ``moving_mean`` (C,), begins at 0, ``moving_variance`` (C,), at 1.

    - ``momentum``: a number in [0, 1], the part of the old moving statistics that stays.  It is the first argument, and
      ``epsilon`` the second: Keras has ``axis`` before them, so say ``momentum=`` where code is to run with both.
    - ``epsilon``: a number >= 1e-30, added to the variance.
    - ``inference``: True for a layer that normalises with its moving statistics in training, too, and does not move
      them: then dx = gamma s dy, with s of the moving variance.  It may be assigned at any time.
    - ``center``, ``scale``: False for a layer without beta (as if it were 0), without gamma (1).
    - ``beta_initializer``, ``gamma_initializer``, ``moving_mean_initializer``, ``moving_variance_initializer``: names
      (``initializers.py``).
    - ``beta_regularizer``, ``gamma_regularizer``: a name or an object of ``regularizers.py``, or None.
      ``beta_constraint``, ``gamma_constraint``: the same of ``constraints.py``.
    - ``axis``: -1, or the number of the last axis with the batch's as 0 (3 for images): channels come last here.

    ``trainable = False`` alone, as in PyTorch, keeps gamma and beta; the statistics are still those of the batch, and
    still move.  ``freeze()``, of this layer, of one that holds it or of the model, acts like ``inference`` as well: it
    does what ``trainable = False`` does in Keras.

    Raises ValueError for arguments out of range, and in training if a channel has fewer than two values (R < 2: the
    variance would be 0 and every output beta).

    Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1 and section 3.
    """

    momentum = Setting(_check.number, 0, 1)
    inference = Setting(_check.boolean, forgets=True)
    moving_mean_initializer = Fixed(initializers.check)
    moving_variance_initializer = Fixed(initializers.check)
    axis = Fixed(_check.integer)

    def __init__(
        self,
        momentum=0.99,
        epsilon=1e-3,
        inference=False,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        axis=-1,
        dtype=None,
    ):
        super().__init__(dtype)
        self.inference = inference
        self.momentum = momentum
        self.moving_mean_initializer = moving_mean_initializer
        self.moving_variance_initializer = moving_variance_initializer
        self.axis = axis
        self._set_up(
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            beta_regularizer,
            gamma_regularizer,
            beta_constraint,
            gamma_constraint,
        )

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        self._require_last(self.axis, input_shape)
        channels = input_shape[-1:]
        self._add_gamma_and_beta(channels, rng)
        self._sums = np.zeros(1 + 2 * channels[0])
        for name in ("moving_mean", "moving_variance"):
            values = initializers.get(type(self).__name__, getattr(self, f"{name}_initializer"))(channels, rng)
            if np.shape(values) != channels:
                required, got = f"{name}_initializer must return shape {channels}", f"shape {np.shape(values)}"
                raise ValueError(_check.message(type(self).__name__, required, _check.Shown(got)))
            self.state[name] = np.array(values, self.dtype)
        if (self.state["moving_variance"] < 0).any():
            required = "moving_variance_initializer must give numbers >= 0"
            raise ValueError(_check.message(type(self).__name__, required, self.moving_variance_initializer))
        return input_shape

    def smallest_batch(self):
        """Two samples where each gives one value of a channel, so that R >= 2."""
        return 2 if math.prod(self.input_shape[:-1]) == 1 and not (self.inference or is_frozen(self)) else 1

    def forward(self, x, training=False):
        x = self.check_input(x)
        y = empty(x.shape, x.dtype)
        gamma, beta = self._gamma, self._beta
        moving = self.state["moving_mean"], self.state["moving_variance"]
        rows = _rows(x)
        if not training or self.inference or is_frozen(self):
            kernels.forward(rows, gamma, beta, self.epsilon, *moving, _rows(y))
            if training:
                self.keep(len(x), self.own(x), None, None)
            return y
        if cells.samples_of_batch(len(x)) < self.smallest_batch():
            required = "training needs at least two values of each channel"
            fix = "Choose a batch_size that does not leave a last batch of one sample"
            raise ValueError(_check.message("BatchNormalization.forward", required, _check.shape_of(x), fix))
        mean, inverse_std = empty(gamma.shape, gamma.dtype), empty(gamma.shape, gamma.dtype)
        how = rows, gamma, beta, self.epsilon, self.momentum, mean, inverse_std, *moving
        kernels.forward_training(*how, _rows(y), self._of_batch(kernels.forward_training, how, _joined))
        self.keep(len(x), self.own(x), mean, inverse_std)
        return y

    def backward(self, dy):
        dy, (x, mean, inverse_std) = self.check_gradient(dy)
        dx = empty(x.shape, x.dtype)
        if mean is None:
            return self._backward_inference(x, dy, dx)
        how = _rows(x), _rows(dy), self._gamma, mean, inverse_std, *self._gradients()
        kernels.backward(*how, _rows(dx), self._of_batch(kernels.backward, how, np.add))
        return dx

    def _of_batch(self, kernel, how, join):
        """The sums of the whole batch where x is a node of it (``cells.node``), else None: the kernel makes them."""
        exchange = cells.exchange_of_thread()
        if exchange is None:
            return None
        kernel(*how, None, self._sums)
        in_between(exchange, self._sums, join)
        return self._sums

    def _gradients(self):
        """Those of gamma and beta, or arrays in their place."""
        channels = self.input_shape[-1:]
        return [self.grads[name] if name in self.grads else empty(channels, self.dtype) for name in ("gamma", "beta")]

    def _backward_inference(self, x, dy, dx):
        """With constant statistics: the same sums for gamma and beta, but dx = gamma s dy."""
        gamma, mean = self._gamma, self.state["moving_mean"]
        scale = self.epsilon, self._zeros, self.state["moving_variance"]  # forward by these is x gamma s
        inverse_std = empty(mean.shape, mean.dtype)
        kernels.forward(_rows(self._ones[None]), self._ones, self._zeros, *scale, _rows(inverse_std[None]))
        kernels.backward(_rows(x), _rows(dy), gamma, mean, inverse_std, *self._gradients(), None, self._sums)
        kernels.forward(_rows(dy), gamma, self._zeros, *scale, _rows(dx))
        return dx


def _joined(sums, more):
    kernels.join_statistics(sums, more)
    return sums


class OfSamples(Normalizing):
    """A third base for the two whose statistics are those of one sample, alike in training and in evaluation.

    The layer says in ``_sides(x)`` how the kernels see an array: rows of a sample, and the parameters that a row has.
    """

    _groups = 0  # as the kernels count them; 0: each row is normalised by itself

    def _sides(self, x):
        raise NotImplementedError(f"{type(self).__name__} has no _sides(x)")

    def forward(self, x, training=False):
        x = self.check_input(x)
        y, rows = empty(x.shape, x.dtype), self._sides(x)
        kept = empty((len(x), self._groups or rows.shape[1], 3), x.dtype)
        kernels.normalize_samples(rows, self._groups, self._gamma, self._beta, self.epsilon, kept, self._sides(y))
        if training:
            self.keep(len(x), self.own(x), kept)
        return y

    def backward(self, dy):
        dy, (x, kept) = self.check_gradient(dy)
        dx = empty(x.shape, x.dtype)
        gradients = [self.grads[name].reshape(-1) if name in self.grads else None for name in ("gamma", "beta")]
        kernels.normalize_samples_backward(
            self._sides(x), self._sides(dy), self._groups, self._gamma, kept, *gradients, self._sides(dx)
        )
        return dx


def axes_of(where, name, axis):
    """The check of an ``axis`` that may name several."""
    if isinstance(axis, list | tuple):
        if not axis:
            raise ValueError(_check.message(where, f"{name} must be a whole number or some of them", axis))
        return tuple(_check.integer(where, f"an entry of {name}", one) for one in axis)
    return _check.integer(where, name, axis)


def first_of_last(where, axis, input_shape):
    """The place in a sample's shape of the first of the last axes that ``axis`` names, counting the batch's as 0."""
    axes, last = axis if isinstance(axis, tuple) else (axis,), len(input_shape)
    found = [one + last + 1 if one < 0 else one for one in axes]
    if found != list(range(last + 1 - len(found), last + 1)) or found[0] < 1:
        required = f"axis must be -1 or a list of last axes in order, such as {[*range(1, last + 1)]}"
        raise ValueError(_check.message(where, required, axis, "Axis 0 is the batch"))
    return found[0] - 1


class LayerNormalization(OfSamples, Layer, compiled=True):
    """Normalises the last axis, or several last axes, of each sample: D values that have one mean and one variance.

    ::

        y = gamma z + beta,   z = (x - mean) s,   s = 1 / sqrt(variance + epsilon), mean and variance of the D values

        dbeta = sum dy,  dgamma = sum dy z,  dx = s (g - mean(g) - z mean(g z)),  g = gamma dy

    Training and evaluation are the same: there is nothing to remember of other samples, and a batch may be of one.

    x, y: (N, ...), float32 or float64.  Parameters ``gamma``, begins at 1, and ``beta``, at 0, both with the shape of
    the axes that are normalised; dgamma and dbeta are sums over all other axes, in an order that the shapes decide.

    - ``axis``: -1, the last one, or a list of last axes in order.  They are counted with the batch's as 0, as in Keras:
      [1, 2, 3] is all of an image, [2, 3] each of its rows by itself.
    - ``epsilon``: a number >= 1e-30, added to the variance.
    - ``center``, ``scale``: False for a layer without beta (as if it were 0), without gamma (1).
    - ``beta_initializer``, ``gamma_initializer``: names (``initializers.py``).
    - ``beta_regularizer``, ``gamma_regularizer``: a name or an object of ``regularizers.py``, or None.
      ``beta_constraint``, ``gamma_constraint``: the same of ``constraints.py``.

    Sums are made around the mean, and what float32 rounds off of that is taken into account: a mean that is large
    beside the deviations costs no accuracy.

    Raises ValueError for arguments out of range, and at ``build`` for axes that are not the last ones.

    Source: Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, 2016.
    """

    axis = Fixed(axes_of)

    def __init__(
        self,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        dtype=None,
    ):
        super().__init__(dtype)
        self.axis = axis
        self._set_up(
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            beta_regularizer,
            gamma_regularizer,
            beta_constraint,
            gamma_constraint,
        )

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        self._require_axes(input_shape)
        first = first_of_last("LayerNormalization", self.axis, input_shape)
        self._add_gamma_and_beta(input_shape[first:], rng)
        return input_shape

    def _sides(self, x):
        size = len(self._ones)
        return x.reshape(len(x), math.prod(x.shape[1:]) // size, size)


def _group_count(where, name, groups):
    """The check of ``groups``: a number >= 1, or -1."""
    groups = _check.integer(where, name, groups)
    if groups < 1 and groups != -1:
        raise ValueError(_check.message(where, f"{name} must be a whole number >= 1, or -1 for the channels", groups))
    return groups


class GroupNormalization(OfSamples, Layer, compiled=True):
    """Normalises groups of channels of each sample: R values, C / groups channels of all pixels, have one mean.

    ::

        y = gamma z + beta,   z = (x - mean) s,   s = 1 / sqrt(variance + epsilon), mean and variance of the R values

        dbeta = sum dy,  dgamma = sum dy z,  dx = s (g - mean(g) - z mean(g z)),  g = gamma dy

    It does not depend on the batch, as LayerNormalization does not, but keeps what pixels of one sample have in common.
    Training and evaluation are the same.

    x, y: (N, ..., C), float32 or float64, with any number of axes between; of (N, C) a group is C / groups numbers.
    Parameters ``gamma`` (C,), begins at 1, and ``beta`` (C,), at 0.

    - ``groups``: a whole number that divides C; 1 normalises each sample as a whole, -1 each channel by itself, which
      is instance normalisation.  Group k has the channels k C / groups and those that follow.
    - ``axis``: -1, or the number of the last axis with the batch's as 0 (3 for images): channels come last here.
    - ``epsilon``: a number >= 1e-30, added to the variance.
    - ``center``, ``scale``: False for a layer without beta (as if it were 0), without gamma (1).
    - ``beta_initializer``, ``gamma_initializer``: names (``initializers.py``).
    - ``beta_regularizer``, ``gamma_regularizer``: a name or an object of ``regularizers.py``, or None.
      ``beta_constraint``, ``gamma_constraint``: the same of ``constraints.py``.

    Threads share the samples: a batch of one image is done by one thread.

    Raises ValueError for arguments out of range, and at ``build`` for channels that ``groups`` does not divide.

    Source: Wu and He, "Group Normalization", ECCV 2018.
    """

    groups = Fixed(_group_count)
    axis = Fixed(_check.integer)

    def __init__(
        self,
        groups=32,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        dtype=None,
    ):
        super().__init__(dtype)
        self.groups = groups
        self.axis = axis
        self._set_up(
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            beta_regularizer,
            gamma_regularizer,
            beta_constraint,
            gamma_constraint,
        )

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        self._require_last(self.axis, input_shape)
        channels = input_shape[-1]
        if self.groups > 0 and channels % self.groups:
            fix = "Choose a number that divides them, or -1 for groups of one channel"
            required = f"groups must divide the {channels} channels"
            raise ValueError(_check.message("GroupNormalization", required, self.groups, fix))
        self._groups = channels if self.groups == -1 else self.groups
        self._add_gamma_and_beta(input_shape[-1:], rng)
        return input_shape

    def _sides(self, x):
        return _rows(x)


def _rows(x):
    """(N, ..., C) as (N, rows of a sample, C)."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])
