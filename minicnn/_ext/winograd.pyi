__pyx_capi__: dict[str, object]  # what conv cimports
