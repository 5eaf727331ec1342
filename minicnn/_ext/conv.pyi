from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

ALGORITHMS: dict[str, int]
PASSES: dict[str, int]

def forward(
    x: NDArray[_Real],
    kernel: NDArray[_Real],
    bias: NDArray[_Real] | None,
    y: NDArray[_Real],
    geometry: tuple[int, ...],
    activation: tuple[int, float, float, float] | None = ...,
    algorithm: int = ...,
) -> None: ...
def backward_input(
    dy: NDArray[_Real],
    kernel: NDArray[_Real],
    dx: NDArray[_Real],
    geometry: tuple[int, ...],
    algorithm: int = ...,
    bias: NDArray[_Real] | None = ...,
    activation: tuple[int, float, float, float] | None = ...,
) -> None: ...
def backward_params(
    x: NDArray[_Real],
    dy: NDArray[_Real],
    dkernel: NDArray[_Real],
    dbias: NDArray[_Real] | None,
    geometry: tuple[int, ...],
    algorithm: int = ...,
    transposed: bool = ...,
) -> None: ...
def algorithm_of(
    pass_: str,
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    geometry: tuple[int, ...],
    algorithm: int,
) -> str: ...
