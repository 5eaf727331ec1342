from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

def words(n: int) -> int: ...
def forward(
    x: NDArray[_Real],
    keep: NDArray[np.uint32],
    y: NDArray[_Real],
    scale: float,
    threshold: int,
    seed: int,
    step: int,
    stream: int,
) -> None: ...
def backward(
    dy: NDArray[_Real],
    keep: NDArray[np.uint32],
    dx: NDArray[_Real],
    scale: float,
) -> None: ...
def draw(
    keep: NDArray[np.uint32],
    threshold: int,
    seed: int,
    step: int,
    stream: int,
) -> None: ...
