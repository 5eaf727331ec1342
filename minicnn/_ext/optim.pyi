from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

BLOCK: int
MAX_NORM: int
NON_NEG: int
UNIT_NORM: int

def sgd(
    parameters: NDArray[_Real],
    velocity: NDArray[_Real] | None,
    gradients: NDArray[_Real],
    pieces: NDArray[np.int64],
    squares: NDArray[np.float64],
    iterations: NDArray[np.int64],
    rate: float,
    momentum: float,
    nesterov: bool,
    decay: float,
    clipnorm: float,
    rules: NDArray[np.int64] | None = None,
    limits: NDArray[np.float64] | None = None,
) -> int: ...
def adam(
    parameters: NDArray[_Real],
    m: NDArray[_Real],
    v: NDArray[_Real],
    gradients: NDArray[_Real],
    pieces: NDArray[np.int64],
    squares: NDArray[np.float64],
    iterations: NDArray[np.int64],
    rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    decay: float,
    clipnorm: float,
    rules: NDArray[np.int64] | None = None,
    limits: NDArray[np.float64] | None = None,
) -> int: ...
def constrain(
    parameters: NDArray[_Real], rules: NDArray[np.int64] | None, limits: NDArray[np.float64] | None
) -> None: ...
