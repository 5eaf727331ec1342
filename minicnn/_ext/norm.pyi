from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

def forward_training(
    x: NDArray[_Real],
    gamma: NDArray[_Real],
    beta: NDArray[_Real],
    epsilon: float,
    momentum: float,
    mean: NDArray[_Real],
    inverse_std: NDArray[_Real],
    moving_mean: NDArray[_Real],
    moving_variance: NDArray[_Real],
    y: NDArray[_Real] | None,
    sums: NDArray[np.float64] | None = ...,
) -> None: ...
def join_statistics(sums: NDArray[np.float64], more: NDArray[np.float64]) -> None: ...
def forward(
    x: NDArray[_Real],
    gamma: NDArray[_Real],
    beta: NDArray[_Real],
    epsilon: float,
    mean: NDArray[_Real],
    variance: NDArray[_Real],
    y: NDArray[_Real],
) -> None: ...
def backward(
    x: NDArray[_Real],
    dy: NDArray[_Real],
    gamma: NDArray[_Real],
    mean: NDArray[_Real],
    inverse_std: NDArray[_Real],
    dgamma: NDArray[_Real],
    dbeta: NDArray[_Real],
    dx: NDArray[_Real] | None,
    sums: NDArray[np.float64] | None = ...,
) -> None: ...
def normalize_samples(
    x: NDArray[_Real],
    groups: int,
    gamma: NDArray[_Real],
    beta: NDArray[_Real],
    epsilon: float,
    kept: NDArray[_Real],
    y: NDArray[_Real],
) -> None: ...
def normalize_samples_backward(
    x: NDArray[_Real],
    dy: NDArray[_Real],
    groups: int,
    gamma: NDArray[_Real],
    kept: NDArray[_Real],
    dgamma: NDArray[_Real] | None,
    dbeta: NDArray[_Real] | None,
    dx: NDArray[_Real],
) -> None: ...
