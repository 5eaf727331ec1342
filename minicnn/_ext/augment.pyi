from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)
_Draw = NDArray[np.uint64]
_Numbers = NDArray[np.float64]

FLIP: int
TRANSLATION: int
ROTATION: int
ZOOM: int
CROP: int
RESIZE: int
REFLECT: int
WRAP: int
CONSTANT: int
NEAREST: int
CONTRAST: int
BRIGHTNESS: int

def move(
    x: NDArray[_Real],
    y: NDArray[_Real],
    draw: _Draw,
    ranges: _Numbers,
    motion: int,
    fill: int,
    linear: bool,
    value: float,
) -> None: ...
def move_backward(
    dy: NDArray[_Real], dx: NDArray[_Real], draw: _Draw, ranges: _Numbers, motion: int, fill: int, linear: bool
) -> None: ...
def maps(
    m: _Numbers, draw: _Draw, ranges: _Numbers, motion: int, size: Sequence[int], new_size: Sequence[int]
) -> None: ...
def colour(
    x: NDArray[_Real], y: NDArray[_Real], draw: _Draw, ranges: _Numbers, seen: _Numbers, colour: int
) -> None: ...
def colour_backward(
    x: NDArray[_Real], dy: NDArray[_Real], dx: NDArray[_Real], draw: _Draw, ranges: _Numbers, colour: int
) -> None: ...
def factors(found: _Numbers, draw: _Draw, ranges: _Numbers) -> None: ...
def erase(
    x: NDArray[_Real], y: NDArray[_Real], draw: _Draw, ranges: _Numbers, fill: _Numbers | None, seen: _Numbers
) -> None: ...
def erase_backward(dy: NDArray[_Real], dx: NDArray[_Real], draw: _Draw, ranges: _Numbers) -> None: ...
def boxes(found: _Numbers, draw: _Draw, ranges: _Numbers, size: Sequence[int]) -> None: ...
