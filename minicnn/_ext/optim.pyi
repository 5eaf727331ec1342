from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

BLOCK: int
METHODS: dict[str, int]
MAX_NORM: int
NON_NEG: int
UNIT_NORM: int

def step(
    method: int,
    parameters: NDArray[_Real],
    a: NDArray[_Real] | None,
    b: NDArray[_Real] | None,
    c: NDArray[_Real] | None,
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
    clipvalue: float,
    rules: NDArray[np.int64] | None = None,
    limits: NDArray[np.float64] | None = None,
) -> int: ...
def constrain(
    parameters: NDArray[_Real], rules: NDArray[np.int64] | None, limits: NDArray[np.float64] | None
) -> None: ...
