from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

KINDS: dict[str, int]

def forward(
    kind: int,
    slope: float,
    x: NDArray[_Real],
    y: NDArray[_Real],
) -> None: ...
def backward(
    kind: int,
    slope: float,
    s: NDArray[_Real],
    dy: NDArray[_Real],
    dx: NDArray[_Real],
) -> None: ...
def softmax(
    x: NDArray[_Real],
    y: NDArray[_Real],
) -> None: ...
def softmax_backward(
    y: NDArray[_Real],
    dy: NDArray[_Real],
    dx: NDArray[_Real],
) -> None: ...
