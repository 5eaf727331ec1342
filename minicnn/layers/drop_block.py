"""DropBlock2D: blocks of neighbouring pixels are dropped together.

Read next: ``noise.py`` (the rate), the second kernel of ``_ext/dropout.pyx``, its leaf ``_ext/leaves/blocks.h``.
"""

import numpy as np

from minicnn import _check
from minicnn._ext import dropout as kernels
from minicnn.layer import Layer
from minicnn.layers.noise import Noise, as_rows, decisions
from minicnn.recording import each_time, empty


class DropBlock2D(Noise, Layer, compiled=True):
    """Sets blocks of neighbouring pixels to zero in training, in every channel others, and lets all pass in evaluation.

    ::

        training, forward:    y[n]  = x[n]  * keep[n] * scale[n]      scale[n] = H W C / (how many keep[n] keeps)
        training, backward:   dx[n] = dy[n] * keep[n] * scale[n]
        evaluation:           y  = x

        corner[n, i, j, c] ~ Bernoulli(gamma)   for every block in the image: 0 <= i <= H - B, 0 <= j <= W - B
        keep[n, i, j, c] = 0 if a corner[n, i - a, j - b, c] = 1, 0 <= a, b < B, else 1         B: block_size
        gamma = rate / B^2 * H W / ((H - B + 1) (W - B + 1))

    In a feature map a pixel's neighbours tell what it showed; with a block all who know are gone.

    Each sample is scaled by what is left of itself: so what becomes of a sample does not depend on the others of its
    batch, and the factors of a sample have the mean 1.  (The paper and torchvision count over the whole batch.)  A
    sample of which nothing is left is 0, and so is its gradient.

    x, y: (N, H, W, C), float32 or float64; dropped elements are exactly 0, even where they were NaN or inf.

    - ``rate``: a number in [0, 1], or a Schedule, as in ``Dropout``.  gamma is chosen so that blocks cover the fraction
      ``rate`` of an image, counted as often as they cover it; as blocks overlap, less is dropped: about 1 - exp(-rate)
      where they have many pixels and are small beside the image, and less at its edges than in its middle.  At 0 all
      pass and nothing is drawn.  At 1, where this formula would still keep some, all is zero, forward and backward, as
      in the rest of the family.
    - ``block_size``: B, a whole number >= 1, the side of a block in pixels.  At 1 it is Dropout, but for the scale.
      ValueError at ``build`` if it does not fit into the image (torchvision takes a smaller one then, without a word).
    - ``seed``: None takes the model's.  The mask is a function of (seed, number of the layer in the model, number of
      training forwards so far, place of the block in the batch) and of nothing else.

    gamma is rounded to 1/65536 (and never to 0 for 0 < rate < 1), which moves the fraction dropped by B^2 / 131072 at
    most, or up to B^2 / 65536 where it would be 0.

    Raises ValueError for a rate that is NaN or outside [0, 1], TypeError for one that is no number (a bool is none).

    Source: Ghiasi, Lin and Le, "DropBlock: A regularization method for convolutional networks", NeurIPS 2018, algorithm
    1 and equation 1; a mask for every channel, as in its section 3 and in torchvision.
    """

    input_ndim = 3
    output_function = "same"
    _draws_again = False

    def __init__(self, rate, block_size, seed=None, dtype=None):
        super().__init__(dtype)
        self._set_up_noise(rate, seed)
        self.block_size = block_size

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        self.block_size = self.block_size  # checked again, now that the image is known
        return input_shape

    @property
    def block_size(self):
        """The side of a block, in pixels."""
        return self._block_size

    @block_size.setter
    def block_size(self, block_size):
        name = type(self).__name__
        chosen = _check.integer(name, "block_size", block_size, 1)
        if self.input_shape is not None and chosen > min(self.input_shape[:2]):
            height, width, _ = self.input_shape
            required = f"block_size must fit into an image of {height} x {width} pixels"
            raise ValueError(_check.message(name, required, chosen))
        self._block_size = chosen
        self.forget()
        self._latest = None  # the latest mask was of other blocks

    def _corners(self):
        """Places of a block's first corner: rows, columns."""
        height, width, _ = self.input_shape
        return height - self.block_size + 1, width - self.block_size + 1

    def _probability(self, rate):
        """gamma"""
        height, width, _ = self.input_shape
        rows, columns = self._corners()
        return rate if rate == 1 else rate / self.block_size**2 * height * width / (rows * columns)

    def _factor(self, rate):
        return 1.0  # not read: the kernel counts

    def forward(self, x, training=False):
        x = self.check_input(x)
        if not training:
            return self.own(x)
        each_time(self._begin_step, x.shape)
        y, mask = self._drop(x, self._lot)
        self.keep(len(x), mask)
        return y

    def _drop(self, x, lot):
        y, mask = empty(x.shape, x.dtype), empty((len(x), kernels.block_words(x[:1].size)), np.uint32)
        kernels.blocks(as_rows(x), mask, as_rows(y), lot.draw, self.input_shape, self.block_size, True)
        return y, mask

    def backward(self, dy):
        dy, (mask,) = self.check_gradient(dy)
        dx = empty(dy.shape, dy.dtype)
        kernels.blocks(as_rows(dy), mask, as_rows(dx), self._draw, self.input_shape, self.block_size, False)
        return dx

    def sample(self, x, lot):
        return self._drop(self.check_input(x), lot)[0]

    @property
    def last_mask(self):
        """The mask of the latest training forward: bool, the shape of x, True where an element was kept.

        Made again from its counter at every call.  RuntimeError before the first training forward.
        """
        shape, (rows, columns) = self._require_latest(), self._corners()
        corners = decisions(self._draw, (shape[0], rows, columns, shape[3]))
        keep = np.ones(shape, bool)
        for i, j in np.ndindex(self.block_size, self.block_size):
            keep[:, i : i + rows, j : j + columns] &= corners
        return keep
