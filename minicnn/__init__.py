"""minicnn: train small convolutional networks on a CPU.

``Sequential`` chains ``layers``; the kernels under ``minicnn._ext`` are Cython over C.  Start with the README, then
``model.py``; for one layer from formula to machine code read ``docs/dropout.md``.
"""

import importlib
from typing import TYPE_CHECKING

try:
    from minicnn import (
        callbacks,
        constraints,
        datasets,
        initializers,
        keras_words,
        layers,
        losses,
        metrics,
        models,
        optimizers,
        regularizers,
        schedules,
        utils,
    )
    from minicnn._ext.machinery.runtime import get_num_threads, set_num_threads
    from minicnn.layer import Layer
    from minicnn.layers import Input
    from minicnn.model import Sequential
    from minicnn.training import History
except ImportError as error:
    if not (error.name or "").startswith("minicnn._ext"):
        raise
    raise ImportError(
        "minicnn's compiled modules are missing: this is a source tree that has not been built.  Build it with "
        "`pip install -e .` in the folder of pyproject.toml (needs a C compiler), or leave the folder to import an "
        "installed minicnn."
    ) from None

if TYPE_CHECKING:
    from minicnn import activations, calibration, ensemble, plot, saving, testing, thinning, tune
    from minicnn.ensemble import Ensemble
    from minicnn.prediction import Prediction
    from minicnn.saving import ModelFileError

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
    "calibration",
    "callbacks",
    "constraints",
    "datasets",
    "ensemble",
    "get_num_threads",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plot",
    "regularizers",
    "saving",
    "schedules",
    "set_num_threads",
    "show_versions",
    "testing",
    "thinning",
    "tune",
    "utils",
]


LAZY = {"Ensemble": "ensemble", "ModelFileError": "saving", "Prediction": "prediction"}  # classes and their modules


def __getattr__(name):
    """Modules that many programs never use are imported when they are first asked for: import time matters."""
    if name in LAZY:
        return getattr(importlib.import_module(f"minicnn.{LAZY[name]}"), name)
    if name in ("activations", "calibration", "ensemble", "plot", "saving", "testing", "thinning", "tune"):
        return importlib.import_module(f"minicnn.{name}")
    raise keras_words.missing("", name, "module 'minicnn'", __all__)


for _module in (  # what they have not, their users know from Keras
    *(callbacks, constraints, datasets, initializers, layers, losses, metrics, models, optimizers, regularizers),
    *(schedules, utils),
):
    vars(_module).setdefault("__getattr__", keras_words.attribute_of(_module.__name__))


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
