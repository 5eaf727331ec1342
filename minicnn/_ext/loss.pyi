from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

KINDS: dict[str, int]
ROW_KINDS: dict[str, int]

def softmax_crossentropy(
    outputs: NDArray[_Real],
    labels: NDArray[np.int64] | None,
    targets: NDArray[_Real] | None,
    weights: NDArray[np.float64] | None,
    on: float,
    off: float,
    from_logits: bool,
    gradient: NDArray[_Real],
    losses: NDArray[np.float64],
) -> float: ...
def rows(
    kind: int,
    outputs: NDArray[_Real],
    labels: NDArray[np.int64] | None,
    targets: NDArray[_Real] | None,
    weights: NDArray[np.float64] | None,
    on: float,
    off: float,
    gamma: float,
    alpha: NDArray[np.float64],
    from_logits: bool,
    gradient: NDArray[_Real],
    losses: NDArray[np.float64],
) -> float: ...
def elementwise(
    kind: int,
    outputs: NDArray[_Real],
    targets: NDArray[_Real],
    weights: NDArray[np.float64] | None,
    on: float,
    off: float,
    delta: float,
    gamma: float,
    yes: float,
    no: float,
    gradient: NDArray[_Real],
    losses: NDArray[np.float64],
) -> float: ...
def all_classes(labels: NDArray[np.int64], classes: int) -> bool: ...
def all_signs(values: NDArray[_Real]) -> bool: ...
def all_distributions(rows: NDArray[_Real], tolerance: float) -> bool: ...
def in_top(
    outputs: NDArray[_Real], labels: NDArray[np.int64], top: int, right: NDArray[np.uint8] | None = ...
) -> int: ...
