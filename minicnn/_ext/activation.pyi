from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

KINDS: dict[str, int]

def forward(
    activation: tuple[int, float, float, float] | None,
    x: NDArray[_Real],
    y: NDArray[_Real],
) -> None: ...
def backward(
    activation: tuple[int, float, float, float] | None,
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
def log_softmax(
    x: NDArray[_Real],
    y: NDArray[_Real],
) -> None: ...
def log_softmax_backward(
    y: NDArray[_Real],
    dy: NDArray[_Real],
    dx: NDArray[_Real],
) -> None: ...
def prelu(
    x: NDArray[_Real],
    alpha: NDArray[_Real],
    places: NDArray[np.int64],
    y: NDArray[_Real],
) -> None: ...
def prelu_backward(
    x: NDArray[_Real],
    dy: NDArray[_Real],
    alpha: NDArray[_Real],
    places: NDArray[np.int64],
    dalpha: NDArray[_Real],
    dx: NDArray[_Real] | None,
) -> None: ...
