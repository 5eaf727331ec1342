from typing_extensions import disjoint_base

__pyx_capi__: dict[str, object]  # what other modules cimport

@disjoint_base
class Recorder: ...
