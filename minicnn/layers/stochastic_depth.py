"""StochasticDepth: a whole branch is left out in training.

Read first: ``dropout.py``, whose decisions a sample, or the whole batch, shares here.
"""

from minicnn import _check
from minicnn.layers.dropout import Dropout
from minicnn.settings import refuse


class StochasticDepth(Dropout, compiled=True):
    """Drops the whole of a sample in training, or of the batch: at the end of a ``Residual``'s body, the branch.

    ::

        training, forward:    y[n]  = x[n]  * keep[n] * scale      keep ~ Bernoulli(1 - rate), scale = 1 / (1 - rate)
        training, backward:   dx[n] = dy[n] * keep[n] * scale      mode "batch": one keep for all n
        evaluation:           y  = x

    so that with ``Residual([..., StochasticDepth(rate)])`` a step trains a network in which some of the blocks are only
    their shortcuts, another one for every sample.  (The branch is computed all the same.)

    x, y: (N, ...), float32 or float64; what is dropped is exactly 0, even where it was NaN or inf.

    - ``rate``: a number in [0, 1], the fraction dropped, or a Schedule, as in ``Dropout``.  At 0 all pass and nothing
      is drawn; at 1 all is zero, forward and backward.
    - ``mode``: "row", a decision for every sample, or "batch", one for all of a step; torchvision's words.  In
      ``predict_mc`` "batch" means one decision for each of its samples, the same for all of the data, however they are
      cut into batches.
    - ``seed``: None takes the model's.  The mask is a function of (seed, number of the layer in the model, number of
      training forwards so far, index of the sample in the batch) and of nothing else.

    The fraction dropped is rate rounded to 1/65536, as in ``Dropout``.  ``noise_shape`` follows from ``mode``.

    Raises ValueError for a rate that is NaN or outside [0, 1], TypeError for one that is no number (a bool is none).

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, section 3; there evaluation is scaled, here
    training is, as in torchvision.  Their rates grow linearly with the depth of the block, from 0 to that of the last.
    """

    _inverted = True

    def __init__(self, rate, mode="row", seed=None, dtype=None):
        super().__init__(rate, mode, seed, dtype=dtype)

    @property
    def mode(self):
        """ "row" or "batch"."""
        return self._mode

    @mode.setter
    def mode(self, mode):
        self._mode = _check.choice(type(self).__name__, "mode", mode, ("row", "batch"))
        self._share_decisions()

    @property
    def noise_shape(self):
        """(None, 1, ...) in mode "row", (1, 1, ...) in mode "batch"; None before ``build``."""
        return self._noise_shape

    @noise_shape.setter
    def noise_shape(self, noise_shape):
        if type(noise_shape) is not type(self._noise_shape) or noise_shape != self._noise_shape:
            refuse(self, "noise_shape", "follows from mode", noise_shape, "Assign mode; Dropout has the argument")
        self._share_decisions()

    def _share_decisions(self):
        shape = None
        if self.input_shape is not None:
            shape = (None if self._mode == "row" else 1, *(1 for _ in self.input_shape))
        Dropout.noise_shape.fset(self, shape)
