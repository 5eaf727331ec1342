from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

def multiply(x: NDArray[_Real], y: NDArray[_Real], draw: NDArray[np.uint64], sigma: NDArray[np.float64]) -> None: ...
def add(x: NDArray[_Real], y: NDArray[_Real], draw: NDArray[np.uint64], sigma: NDArray[np.float64]) -> None: ...
def factors(factor: NDArray[np.float32], draw: NDArray[np.uint64], sigma: float, mean: float = 1.0) -> None: ...
