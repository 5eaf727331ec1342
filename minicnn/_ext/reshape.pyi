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
def divide(
    x: NDArray[_Real],
    divisor: NDArray[np.float64],
    y: NDArray[_Real],
) -> None: ...
def upsample(
    x: NDArray[_Real],
    y: NDArray[_Real],
    size: tuple[int, int],
    linear: bool,
) -> None: ...
def upsample_backward(
    dy: NDArray[_Real],
    dx: NDArray[_Real],
    size: tuple[int, int],
    linear: bool,
) -> None: ...
def permute(
    x: NDArray[_Real],
    y: NDArray[_Real],
    sizes: tuple[int, ...],
    order: tuple[int, ...],
) -> None: ...
