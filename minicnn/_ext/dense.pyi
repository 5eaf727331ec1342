from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

def forward(
    x: NDArray[_Real],
    w: NDArray[_Real],
    bias: NDArray[_Real] | None,
    y: NDArray[_Real],
    activation: tuple[int, float, float, float] | None = ...,
) -> None: ...
def backward(
    x: NDArray[_Real],
    w: NDArray[_Real],
    dy: NDArray[_Real],
    dw: NDArray[_Real],
    dbias: NDArray[_Real] | None,
    dx: NDArray[_Real] | None,
    rows: int = ...,
) -> None: ...
