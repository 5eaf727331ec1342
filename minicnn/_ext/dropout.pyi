from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)
_Sharing = tuple[bool, tuple[tuple[int, bool], ...]] | None

def words(size: int, sharing: _Sharing = None) -> int: ...
def forward(
    x: NDArray[_Real],
    keep: NDArray[np.uint32],
    y: NDArray[_Real],
    draw: NDArray[np.uint64],
    scale: NDArray[np.float64],
    sharing: _Sharing = None,
    alpha: bool = False,
) -> None: ...
def backward(
    dy: NDArray[_Real],
    keep: NDArray[np.uint32],
    dx: NDArray[_Real],
    draw: NDArray[np.uint64],
    scale: NDArray[np.float64],
    sharing: _Sharing = None,
) -> None: ...
def mask(keep: NDArray[np.uint32], draw: NDArray[np.uint64]) -> None: ...
def scale(x: NDArray[_Real], factor: NDArray[np.float64], y: NDArray[_Real]) -> None: ...
def block_words(size: int) -> int: ...
def blocks(
    x: NDArray[_Real],
    keep: NDArray[np.uint32],
    y: NDArray[_Real],
    draw: NDArray[np.uint64],
    shape: tuple[int, int, int],
    block: int,
    drawing: bool,
) -> None: ...
