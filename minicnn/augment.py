"""Augmentation of whole batches, for ``fit(..., mix=...)``: mixup and cutmix, which make one sample out of two.

What changes one image at a time is a layer (``layers/augment.py``).  These change the targets as well, so they are not
layers.  docs/augmentation.md has pictures of both, and the loop that does by hand what ``fit`` does.
"""

import math
from typing import NamedTuple

import numpy as np

from minicnn import _check, configured
from minicnn._ext import augment as kernels
from minicnn._ext.machinery.random import AUGMENTATION, shuffle
from minicnn.configured import Configured
from minicnn.settings import Fixed

__all__ = ["CutMix", "Mix", "MixUp", "Pairs", "cutmix", "get", "mixup"]

BESIDE = 8  # added to the purpose of a stream: what is drawn for the whole batch, not for one sample of it
REALS = (np.dtype(np.float32), np.dtype(np.float64))
LOG_2 = 0.6931471805599453


class Pairs(NamedTuple):
    """What was drawn for a batch of N samples.

    - ``partners``: int64 (N,), a permutation: sample n is mixed with sample ``partners[n]`` of the batch.
    - ``shares``: float64 (N,), in [0, 1]: what sample n itself has of the result; its partner has the rest.
    - ``boxes``: int64 (N, 4): top, left, height and width of the part that is the partner's; None where everything is
      a weighted mean.
    """

    partners: np.ndarray
    shares: np.ndarray
    boxes: np.ndarray | None = None

    def inputs(self, x):
        """The batch x (N, ...), mixed: a new array, float32 unless x is float64."""
        x = _check.numeric_array("Pairs.inputs", "x", x)
        n, images = len(self.partners), self.boxes is not None
        if (x.ndim != 4 if images else x.ndim < 1) or len(x) != n:
            required = f"x must have shape ({n}, {'height, width, channels' if images else '...'})"
            raise ValueError(_check.message("Pairs.inputs", required, _check.shape_of(x)))
        if images and n and not (self.boxes[:, :2] + self.boxes[:, 2:] <= x.shape[1:3]).all():
            required, got = "x must have the size for which the boxes were drawn", _check.shape_of(x)
            raise ValueError(_check.message("Pairs.inputs", required, got, "One of them reaches beyond it"))
        x = np.array(x, x.dtype if x.dtype in REALS else np.float32)
        self.blend(x, x[self.partners])
        return x

    def blend(self, x, others):
        """Mixes the batch x with ``others``, which is x[partners] and will be overwritten, in the memory of x."""
        if self.boxes is None:
            others -= x
            others *= self._column(1 - self.shares, x.ndim).astype(x.dtype)
            x += others
            return
        for mine, theirs, (top, left, height, width) in zip(x, others, self.boxes.tolist(), strict=True):
            mine[top : top + height, left : left + width] = theirs[top : top + height, left : left + width]

    def targets(self, y, others=None):
        """shares y + (1 - shares) y[partners] in float64; ``others``: y[partners], where the caller has it."""
        y = self._of_samples("targets", _check.numeric_array("Pairs.targets", "y", y))
        shares = self._column(self.shares, y.ndim)
        return shares * y + (1 - shares) * (y[self.partners] if others is None else others)

    def larger(self, y, others=None):
        """Of y (N, ...) and y[partners] what has the larger share; of equal shares the sample's own."""
        y = self._of_samples("larger", np.asarray(y))
        return np.where(self._column(self.shares >= 0.5, y.ndim), y, y[self.partners] if others is None else others)

    def _of_samples(self, method, y):
        """y, which must have an entry for every sample."""
        if y.shape[:1] != (len(self.partners),):
            required = f"y must have shape ({len(self.partners)}, ...)"
            raise ValueError(_check.message(f"Pairs.{method}", required, _check.shape_of(y)))
        return y

    @staticmethod
    def _column(values, ndim):
        """(N, 1, ...), for arrays of so many axes."""
        return values.reshape(-1, *[1] * (ndim - 1))


class Mix(Configured):
    """Makes one sample out of two of a batch: the base of MixUp and CutMix.

    ``draw`` says all that is random, and is a function of its arguments alone.
    """

    alpha = Fixed(_check.number, 0, open_low=True)
    seed = Fixed(_check.integer, 0, 2**64 - 1, optional=True)

    def __init__(self, alpha, seed=None):
        self.alpha = alpha
        self.seed = seed

    def require_shapes(self, where, inputs, outputs):
        """ValueError if samples of the shape ``inputs`` with outputs of the shape ``outputs`` cannot be mixed."""

    def draw(self, n, shape, step, seed=0):
        """The ``Pairs`` of a batch of ``n`` samples of the ``shape`` in a training step.

        ``fit`` calls it with the number of updates so far, ``optimizer.iterations``, as ``step``, and the model's seed,
        which counts where the object has none of its own.  Who is whose partner depends on (seed, step, n); all else of
        a sample on (seed, step, its index in the batch).
        """
        where = f"{type(self).__name__}.draw"
        n, step = _check.integer(where, "n", n, 0), _check.integer(where, "step", step, 0)
        seed = self.seed if self.seed is not None else _check.integer(where, "seed", seed, 0, 2**64 - 1)
        shape = _check.sample_shape(where, shape)
        self.require_shapes(where, shape, ())
        step, partners = step & 0xFFFFFFFF, np.arange(n)
        shuffle(partners, seed, step, AUGMENTATION + BESIDE)

        def numbers(which):
            """Even in [0, 1), multiples of 2^-32: one for each sample."""
            found = np.empty(n)
            kernels.factors(found, np.array([0, seed, step, AUGMENTATION, which << 48, 1 << 62], np.uint64), UNIT)
            return found

        return self._pairs(partners, shape, beta(self.alpha, numbers(0), numbers(1)), numbers)

    def _pairs(self, partners, shape, shares, numbers):
        """``shares`` (N,): of Beta(alpha, alpha); ``numbers``: a function that gives more, for 2, 3, ..."""
        raise NotImplementedError(f"{type(self).__name__} has no _pairs(partners, shape, shares, numbers)")


# ---- numbers of Beta(alpha, alpha) ----

UNIT = np.array([0.0, 1, 0, 0, 0, 0, 0, 0, 0])  # the range of `factors`


def beta(alpha, u, v):
    """Numbers of Beta(alpha, alpha), alpha > 0, from numbers u and v, multiples of 2^-32 in [0, 1):

        1/2 + 1/2 sign(c) sqrt(t / (w + t)),    w = u^(1/alpha),  c = cos(2 pi v),  t = (1 - w) c^2

    (Devroye, "Random variate generation in one line of code", Winter Simulation Conference 1996; half of 2^-32 is added
    to u and v).  Power and cosine are made of sums and products, and of square roots, whose bits are the same on every
    machine: those of a C library or of NumPy's logarithms are not.
    """
    w = power(u + 2.0**-33, 1 / alpha)
    c = cosine(v + 2.0**-33)
    t = (1 - w) * c * c
    root = np.sqrt(t / (w + t))
    return np.where(c > 0, 1 + root, 1 - root) / 2


def power(u, exponent):
    """u ** exponent of 0 < u < 1, exponent > 0: the logarithm by the series of artanh about 1, then the exponential's
    about 0; the powers of 2 beside them are exact."""
    m, e = np.frexp(u)
    low = m < 0.5**0.5
    m, e = np.where(low, 2 * m, m), e - low
    s = (m - 1) / (m + 1)
    logarithm = _horner([1 / (2 * k + 1) for k in range(11)], s * s)
    t = np.maximum((2 * s * logarithm / LOG_2 + e) * exponent, -2000.0)  # of 2; it is 0 there
    whole = np.floor(t + 0.5)
    y = _horner([1 / math.factorial(k) for k in range(15)], (t - whole) * LOG_2)
    return np.ldexp(y, whole.astype(np.int32))


def cosine(turns):
    """cos(2 pi turns) for 0 < turns < 1: the sine's series within a quarter of a turn."""
    a = 2 * math.pi * (np.abs(turns - 0.5) - 0.25)
    return a * _horner([(-1) ** k / math.factorial(2 * k + 1) for k in range(11)], a * a)


def _horner(coefficients, x):
    y = coefficients[-1]
    for one in coefficients[-2::-1]:
        y = one + y * x
    return y


# ---- the two ----


class MixUp(Mix):
    """Weighted means of two samples, and of what is right for them.

    ::

        x~[n] = s x[n] + (1 - s) x[p[n]]        l~[n] = s l(o[n], y[n]) + (1 - s) l(o[n], y[p[n]])
        s[n] ~ Beta(alpha, alpha)               p: a permutation of the batch; o: the outputs for x~

    x: (N, ...), any samples.  For losses that are linear in the target, as cross-entropies are, l~ is the loss of the
    mixed target, l(o[n], s y[n] + (1 - s) y[p[n]]), and for those of numbers (``Loss.mixes_targets``) that is what is
    computed.  See ``fit`` for weights and metrics.

    - ``alpha`` > 0: near 0 nearly every s is near 0 or 1, and hardly anything is mixed; 1 makes all s equally likely;
      the larger it is, the nearer they are to 1/2.
    - ``seed``: None takes the model's.  What is drawn is a function of (seed, number of updates so far, index in the
      batch) and of nothing else.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018
    (arXiv:1710.09412).  Their code draws one s for a batch, this one for every sample (docs/augmentation.md).
    """

    def __init__(self, alpha=0.2, seed=None):
        super().__init__(alpha, seed)

    def _pairs(self, partners, shape, shares, numbers):
        return Pairs(partners, shares)


class CutMix(Mix):
    """Images with a rectangle of another one in them, and a loss in the proportion of the areas.

    ::

        x~[n] = x[n], but in the box B[n] x[p[n]]        l~[n] = s l(o[n], y[n]) + (1 - s) l(o[n], y[p[n]])
        s = 1 - |B| / (H W)                              p: a permutation of the batch; o: the outputs for x~

        B has its middle anywhere in the image, and what reaches beyond it is cut off; before that its sides are H and W
        times sqrt(1 - t), rounded to pixels, with t ~ Beta(alpha, alpha)

    x: (N, H, W, C); outputs (N,) or (N, K): one answer for an image.  The loss is that of MixUp, also where it is one
    of numbers; whether a number is in proportion to areas is for you to say.

    - ``alpha`` > 0: 1 makes all t equally likely.
    - ``seed``: as of MixUp.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV
    2019 (arXiv:1905.04899).  Their code draws one box for a batch, this one for every sample.
    """

    def __init__(self, alpha=1.0, seed=None):
        super().__init__(alpha, seed)

    def require_shapes(self, where, inputs, outputs):
        if len(inputs) != 3:
            required = "cutmix needs images, samples of shape (height, width, channels)"
            raise ValueError(_check.message(where, required, inputs, "mixup takes all samples"))
        if len(outputs) > 1:
            required = "cutmix needs one answer for an image, outputs of shape (K,)"
            raise ValueError(_check.message(where, required, outputs, "mixup takes all outputs"))

    def _pairs(self, partners, shape, shares, numbers):
        sides = np.sqrt(1 - shares)
        ends = []
        for length, middle in zip(shape, (numbers(2), numbers(3)), strict=False):
            side = np.floor(length * sides + 0.5).astype(np.int64)
            first = np.floor(length * middle).astype(np.int64) - side // 2
            ends.append((np.maximum(first, 0), np.minimum(first + side, length)))
        (top, bottom), (left, end) = ends
        boxes = np.stack([top, left, bottom - top, end - left], axis=1)
        return Pairs(partners, 1 - boxes[:, 2] * boxes[:, 3] / (shape[0] * shape[1]), boxes)


mixup, cutmix = MixUp, CutMix  # both spellings are in use
NAMES = {"mixup": MixUp, "cutmix": CutMix}


def get(where, argument, value):
    """The Mix for a Mix, or for "mixup" or "cutmix", with default arguments; None for None.  Errors name the
    ``argument`` of ``where``."""
    return configured.get(where, argument, value, Mix, NAMES)
