from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

def add(
    a: NDArray[_Real],
    b: NDArray[_Real],
    kind: int,
    y: NDArray[_Real],
) -> None: ...
def copy_channels(
    x: NDArray[_Real],
    y: NDArray[_Real],
    first: int,
) -> None: ...
def take_channels(
    y: NDArray[_Real],
    first: int,
    x: NDArray[_Real],
) -> None: ...
