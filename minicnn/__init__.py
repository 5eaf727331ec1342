"""minicnn: train small convolutional networks on a CPU.

``Sequential`` chains ``layers``; the kernels under ``minicnn._ext`` are Cython over C.  Start with the README, then
``model.py``; for one layer from formula to machine code read ``docs/dropout.md``.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minicnn import (
        activations,
        augment,
        calibration,
        callbacks,
        constraints,
        datasets,
        distributed,
        ensemble,
        initializers,
        interop,
        layers,
        losses,
        metrics,
        models,
        networks,
        optimizers,
        plot,
        regularizers,
        saving,
        schedules,
        sklearn,
        testing,
        thinning,
        tune,
        utils,
    )
    from minicnn._ext.machinery.runtime import get_num_threads, set_num_threads
    from minicnn.ensemble import Ensemble
    from minicnn.layer import Layer
    from minicnn.layers import Input
    from minicnn.model import Sequential
    from minicnn.prediction import Prediction
    from minicnn.saving import ModelFileError
    from minicnn.training import History

__version__ = "0.1.0"

__all__ = [
    "Ensemble",
    "History",
    "Input",
    "Layer",
    "ModelFileError",
    "Prediction",
    "Sequential",
    "activations",
    "augment",
    "calibration",
    "callbacks",
    "constraints",
    "datasets",
    "distributed",
    "ensemble",
    "get_num_threads",
    "initializers",
    "interop",
    "layers",
    "losses",
    "metrics",
    "models",
    "networks",
    "optimizers",
    "plot",
    "regularizers",
    "saving",
    "schedules",
    "set_num_threads",
    "show_versions",
    "sklearn",
    "testing",
    "thinning",
    "tune",
    "utils",
]


# What every program uses is imported by `import minicnn`: modules, whose users know from Keras what is not in them, and
# names with their modules.  The rest is imported when it is first asked for: import time matters.
MODULES = (
    *("callbacks", "constraints", "datasets", "initializers", "layers", "losses", "metrics", "models", "optimizers"),
    *("regularizers", "schedules", "utils"),
)
NAMES = {
    "History": "training",
    "Input": "layers",
    "Layer": "layer",
    "Sequential": "model",
    "get_num_threads": "_ext.machinery.runtime",
    "set_num_threads": "_ext.machinery.runtime",
}
LAZY_MODULES = (
    *("activations", "augment", "calibration", "distributed", "ensemble", "interop", "networks", "plot", "saving"),
    *("sklearn", "testing", "thinning", "tune"),
)
LAZY_NAMES = {"Ensemble": "ensemble", "ModelFileError": "saving", "Prediction": "prediction"}
_state = {"loaded": False, "loading": False}


def _load():
    """Imports MODULES and NAMES.  ImportError that says what to do where the compiled modules are missing."""
    _state["loading"] = True
    try:
        modules = [importlib.import_module(f"minicnn.{name}") for name in MODULES]
        for name, module in NAMES.items():
            globals()[name] = getattr(importlib.import_module(f"minicnn.{module}"), name)
        words = importlib.import_module("minicnn.keras_words")
    except ImportError as error:
        if not (error.name or "").startswith("minicnn._ext"):
            raise
        raise ImportError(
            "minicnn's compiled modules are missing: this is a source tree that has not been built.  Build it with "
            "`pip install -e .` in the folder of pyproject.toml (needs a C compiler), or leave the folder to import an "
            "installed minicnn."
        ) from None
    finally:
        _state["loading"] = False
    _state["loaded"] = True
    for found in modules:
        vars(found).setdefault("__getattr__", words.attribute_of(found.__name__))


def __getattr__(name):
    """What is imported when it is first asked for."""
    if _state["loading"] or name.startswith("__"):  # Python itself asks, by `from minicnn import layers`
        raise AttributeError(f"module 'minicnn' has no attribute {name!r}", name=name)
    if not _state["loaded"]:
        _load()
        if name in globals():
            return globals()[name]
    if name in LAZY_NAMES:
        return getattr(importlib.import_module(f"minicnn.{LAZY_NAMES[name]}"), name)
    if name in LAZY_MODULES:
        return importlib.import_module(f"minicnn.{name}")
    raise importlib.import_module("minicnn.keras_words").missing("", name, "module 'minicnn'", __all__)


def __dir__():
    """All that is public, also what is imported later."""
    return sorted({*__all__, *(name for name in globals() if name[:2] == "__")})


def show_versions():
    """Prints what a bug report should say: versions, instruction set, threads, OpenMP."""
    for name, value in versions().items():
        print(f"{name + ':':<17}{value}")


def versions():
    """What ``show_versions`` prints, as a dict."""
    import platform

    import numpy as np

    from minicnn._ext.machinery import runtime

    return {
        "minicnn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "instruction set": runtime.instruction_set(),
        "threads": runtime.get_num_threads(),
        "openmp": runtime.openmp(),
    }


def _runs_the_command_line():
    """Whether Python was started as ``minicnn`` or ``python -m minicnn``."""
    program = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    if program == "-m":  # the module's name is between Python's own options and the program's
        program = os.path.basename(sys.orig_argv[-len(sys.argv)].removeprefix("-m"))
    return program in ("minicnn", "minicnn-script")


# The command line says its help, and what is wrong with its options, before it asks for anything: importing NumPy takes
# longer than all of that.
if not _runs_the_command_line():
    _load()
