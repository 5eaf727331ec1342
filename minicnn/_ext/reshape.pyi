from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

def pad(
    x: NDArray[_Real],
    y: NDArray[_Real],
    top: int,
    left: int,
) -> None: ...
def crop(
    y: NDArray[_Real],
    x: NDArray[_Real],
    top: int,
    left: int,
) -> None: ...
def rescale(
    x: NDArray[_Real],
    scale: float,
    offset: float,
    y: NDArray[_Real],
) -> None: ...
