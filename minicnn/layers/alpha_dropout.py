"""AlphaDropout: dropout for networks of SELU, which live on a mean of 0 and a variance of 1.

Read first: ``dropout.py``.
"""

from minicnn.layers.dropout import Dropout
from minicnn.settings import refuse

LOWEST = -1.0507009873554805 * 1.6732632423543772  # SELU's, for x -> -infinity: -scale * alpha


class AlphaDropout(Dropout, compiled=True):
    """Dropout that keeps mean 0 and variance 1: what is dropped becomes SELU's lowest value, and all is moved back.

    ::

        training, forward:    y  = a (x if keep else alpha') + b      keep ~ Bernoulli(1 - rate), alpha' = -1.7581
        training, backward:   dx = a dy keep                          a = ((1 - rate) (1 + rate alpha'^2))^(-1/2)
        evaluation:           y  = x                                  b = -a alpha' rate

    If the elements of x have mean 0 and variance 1, as those behind a SELU layer with lecun_normal weights have, so
    have those of y.  Where ReLU says "off" by 0, SELU says it by alpha' = -scale alpha.

    x, y: (N, ...), float32 or float64; dropped elements are a alpha' + b, even where they were NaN or inf.

    - ``rate``: a number in [0, 1], the fraction dropped, or a Schedule, as in ``Dropout``.  At 0 all pass and nothing
      is drawn.  At 1 all is exactly 0, forward and backward: that is the limit of the formula for rate -> 1, and what
      PyTorch does.  (There the mean is kept, the variance cannot be.)
    - ``noise_shape``: as in ``Dropout``; (None, 1, 1, None) is PyTorch's FeatureAlphaDropout.
    - ``seed``: None takes the model's.  The mask is that of a ``Dropout`` in the same place.

    The fraction dropped is rate rounded to 1/65536, as in ``Dropout``; b is made of the rounded one, so that the mean
    stays 0.  a is made of rate itself: beyond 0.9999, where rounding changes 1 - rate by much, the variance is above 1.

    Raises ValueError for a rate that is NaN or outside [0, 1], TypeError for one that is no number (a bool is none);
    ValueError at ``build`` if ``noise_shape`` does not fit.

    Source: Klambauer, Unterthiner, Mayr and Hochreiter, "Self-Normalizing Neural Networks", NIPS 2017, "New Dropout
    Technique".
    """

    _alpha = True

    def __init__(self, rate, noise_shape=None, seed=None, dtype=None):
        super().__init__(rate, "inverted", seed, noise_shape, dtype)

    @property
    def mode(self):
        """ "inverted": evaluation lets all pass."""
        return "inverted"

    @mode.setter
    def mode(self, mode):
        if not isinstance(mode, str) or mode != "inverted":
            refuse(self, "mode", "is 'inverted'", mode, "Dropout has the argument")

    def _factor(self, rate):
        """a"""
        return ((1 - rate) * (1 + rate * LOWEST**2)) ** -0.5 if rate < 1 else 1.0
