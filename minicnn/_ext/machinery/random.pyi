from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TRAINING_MASK: int
MC_MASK: int
SHUFFLE: int
AUGMENTATION: int

def philox4x32(counter: Sequence[int], key: Sequence[int]) -> tuple[int, ...]: ...
def shuffle(order: NDArray[np.int64], seed: int, epoch: int, stream: int = ...) -> None: ...
