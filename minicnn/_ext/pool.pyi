from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

def max_forward(
    x: NDArray[_Real],
    y: NDArray[_Real],
    winner: NDArray[np.uint8] | NDArray[np.int32],
    geometry: tuple[int, ...],
) -> None: ...
def max_backward(
    dy: NDArray[_Real],
    winner: NDArray[np.uint8] | NDArray[np.int32],
    dx: NDArray[_Real],
    geometry: tuple[int, ...],
) -> None: ...
def average_forward(
    x: NDArray[_Real],
    y: NDArray[_Real],
    geometry: tuple[int, ...],
    whole: bool = ...,
) -> None: ...
def average_backward(
    dy: NDArray[_Real],
    dx: NDArray[_Real],
    geometry: tuple[int, ...],
    whole: bool = ...,
) -> None: ...
