from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from typing_extensions import disjoint_base

__pyx_capi__: dict[str, object]  # what other modules cimport

def is_recording() -> bool: ...
def own(array: NDArray[Any]) -> None: ...
def called_each_time(function: Callable[..., object], arguments: tuple[object, ...]) -> bool: ...
def place_all(pieces: list[tuple[int, int, int, Buffer]]) -> int: ...

@disjoint_base
class Buffer:
    start: int
    size: int
    place: int
    array: NDArray[Any] | None
    pinned: bool
    private: bool
    first: int
    last: int

@disjoint_base
class Program: ...

@disjoint_base
class Plan:
    buffers: list[Buffer]
    programs: list[Program]
    workspace_size: int
    thread_size: int
    def record(self, function: Callable[[], object]) -> int: ...
    def use(self, array: NDArray[Any]) -> None: ...
    def pin(self, array: NDArray[Any]) -> None: ...
    def lay_out(self) -> None: ...
    def place_of(self, array: NDArray[Any]) -> int: ...
    def bind(self, workspace: int) -> None: ...
    def run(self, number: int) -> None: ...
