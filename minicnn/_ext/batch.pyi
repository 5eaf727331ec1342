from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Number = TypeVar("_Number", np.uint8, np.int64, np.float32, np.float64)
_Real = TypeVar("_Real", np.float32, np.float64)

def gather(source: NDArray[_Number], order: NDArray[np.int64], out: NDArray[_Real]) -> int: ...
def gather_labels(source: NDArray[np.int64], order: NDArray[np.int64], out: NDArray[np.int64]) -> None: ...
