"""Random numbers in training that are a function of their place: what every layer that draws has in common."""

import struct
from typing import NamedTuple

import numpy as np

from minicnn import _check, cells
from minicnn._ext.machinery.random import MC_MASK, TRAINING_MASK
from minicnn.tree import walk

ALL = 1 << 62  # the period of a batch in which no sample comes twice
_DRAW = struct.Struct("6Q")  # of a Lot; written in every step, and NumPy takes five times as long for six numbers


class Lot(NamedTuple):
    """All that the noise of one forward is a function of, as the kernels read it when they run.

    - ``draw``: uint64 (6,): threshold, seed, step, stream, first, period (``Draw`` in ``_ext/machinery/random.pxd``).
      Row s of the batch is sample first + s % period of the data, in step ``step`` + s // period.
    - ``scale``: float64 (1,): what the kernel multiplies by.
    """

    draw: np.ndarray
    scale: np.ndarray


def new_lot():
    return Lot(np.array([0, 0, 0, 0, 0, 1], np.uint64), np.ones(1))


class Lots(dict):
    """{id of a layer: its Lot}, for all layers that hold no others: what a Monte-Carlo sample is a function of."""

    def output(self, layer, x):
        """The layer's sample; one that holds others is given all lots."""
        return layer.sample(x, self.get(id(layer), self))


class AugmentedLots(Lots):
    """{id of a layer that augments: its Lot}: what an augmented sample is a function of, without any noise."""

    def output(self, layer, x):
        if id(layer) in self:
            return layer.augmented(x, self[id(layer)])
        inner = any(id(part) in self for _, part in walk(layer.parts))
        return layer.sample(x, self) if inner else layer.forward(x, training=False)


class Random:
    """A base beside ``Layer`` for layers that draw random numbers in training.

    The layer calls ``_set_up_random`` in its constructor, and in a training forward ``each_time(self._begin_step,
    x.shape)`` before the kernel that reads ``self._lot``.  One whose numbers have a strength (``noise.py``: a rate)
    says it in ``_strength_at``; ``sample(x, lot)`` draws for ``predict_mc``, unless ``sampled`` is False.

    A number drawn is a function of (seed, number of the layer in the model, step, index in the batch) and of nothing
    else.  ``state["step"]`` counts the training forwards, but not repetitions of a frozen one.
    """

    sampled = True  # whether predict_mc draws: not for what is no part of the network, such as augmentation
    _draws_again = True  # whether backward makes the numbers again; False if forward keeps them
    _lot = property(lambda self: Lot(self._draw, self._scale))

    def _set_up_random(self, seed):
        self.seed = seed
        self.state["step"] = 0
        self._frozen = False
        self._latest = None  # step and shape of the latest training forward
        self._draw, self._scale = new_lot()

    @property
    def seed(self):
        """The layer's own seed, 0 <= seed < 2^64; None for the model's."""
        return self._seed

    @seed.setter
    def seed(self, seed):
        self._seed = None if seed is None else _check.integer(type(self).__name__, "seed", seed, 0, 2**64 - 1)

    def _strength_at(self, step):
        """(threshold of the decisions, number to multiply by) in that step."""
        return 0, 1.0

    def _begin_step(self, shape):
        """Sets what the numbers of this training forward depend on; a frozen step repeats the latest.

        After a step that was rolled back the same numbers are drawn again.  A frozen layer that was read from a file
        repeats the last step before it was saved.
        """
        state, draw, scale = self.state, self._draw, self._scale
        step = state["step"] - self._repeats
        strength = self._strength_at(step)  # first: a schedule may fail
        state["step"], self._latest = step + 1, (step, shape)
        as_before = not self._draws_again and strength == (draw[0], scale[0])
        self._settle(draw, scale, strength, None, step, TRAINING_MASK, cells.first_of_thread(), ALL)
        if self._kept is not None and not as_before:
            self.forget()  # backward of an earlier forward would use the numbers of this one

    @property
    def _repeats(self):
        """Whether the next training forward draws the numbers of the latest one again."""
        if not self._frozen:
            return False
        step = self.state["step"]
        rolled_back = self._latest is not None and self._latest[0] >= step
        return step > 0 and not rolled_back

    def _settle(self, draw, scale, strength, seed, step, purpose, first, period):
        threshold, scale[0] = strength
        of_model, number = self.stream
        if seed is None:
            seed = of_model if self._seed is None else self._seed
        _DRAW.pack_into(draw, 0, threshold, seed, step & 0xFFFFFFFF, number * 16 + purpose, first, period)

    def settle_sample(self, lot, seed, number, first, period):
        """Sets ``lot`` for Monte-Carlo sample ``number`` of the rows ``first``, first + 1, ... of the data (``Lot``).

        ``seed`` None takes the seed of training; the numbers differ all the same, since they have another purpose.
        """
        strength = self._strength_at(max(self.state["step"] - 1, 0))
        self._settle(*lot, strength, seed, number, MC_MASK, first, period)

    def _require_latest(self, what="last_mask"):
        """The shape of x in the latest training forward."""
        if self._latest is None:
            raise RuntimeError(f"{type(self).__name__}.{what}: needs forward(x, training=True) before it")
        return self._latest[1]

    @property
    def mask_is_frozen(self):
        """Whether ``freeze_mask`` holds."""
        return self._frozen

    def freeze_mask(self):
        """Holds the step still: every training forward from now on draws the numbers of the latest one again.

        (For x of the same shape.  Before the first one, the next forward draws the numbers that are then held.)
        """
        self._frozen = True

    def unfreeze_mask(self):
        """Lets every training forward draw new numbers again."""
        self._frozen = False
