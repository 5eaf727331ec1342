"""Importing minicnn harms nobody: what a process has before it has after; other libraries may come first or last."""

import importlib.util
import itertools
import os
import pathlib
import subprocess
import sys
import sysconfig
import types

import pytest

import minicnn

STATE = """
import faulthandler, gc, locale, os, random, signal, sys, threading, warnings
import numpy as np

def state():
    return {
        "subnormal numbers": [sys.float_info.min / 2 > 0, float(np.float32(1e-40)) > 0],
        "signal handlers": [signal.getsignal(number) for number in signal.valid_signals()],
        "environment": dict(os.environ),
        "NumPy's random numbers": repr(np.random.get_state()),
        "Python's random numbers": random.getstate(),
        "NumPy's errors": np.geterr(),
        "NumPy's printing": repr(np.get_printoptions()),
        "warning filters": list(warnings.filters),
        "hooks": [sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook, sys.gettrace()],
        "places to import from": [list(sys.path), len(sys.meta_path), len(sys.path_hooks)],
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), gc.get_threshold(), gc.isenabled()],
        "locale": locale.setlocale(locale.LC_ALL),
        "faulthandler": faulthandler.is_enabled(),
        "threads": threading.active_count(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        "folder": os.getcwd(),
        "descriptors": len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0,
        "threads of the system": len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0,
    }

def changed(before):
    after = state()
    return [name for name in before if before[name] != after[name]]
"""
# One step with every kind of kernel, in two threads; its bits do not depend on who else is there.
TRAIN = """
import minicnn as mc
from minicnn import layers
from minicnn._ext.machinery import runtime

def train():
    rng = np.random.default_rng(0)
    runtime.set_num_threads(2), runtime.set_grain(1), runtime.set_yielding(False)
    model = mc.Sequential([layers.Conv2D(16, 3, activation="relu"), layers.BatchNormalization(), layers.MaxPooling2D(2),
                           layers.Dropout(0.5), layers.Flatten(), layers.Dense(10, activation="softmax")], seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(rng.random((64, 10, 10, 2), np.float32), rng.integers(0, 10, 64), batch_size=32, verbose=0)
    return model.fingerprint()
"""


def python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_changes_nothing():
    assert python(STATE + "before = state(); import minicnn; print(changed(before))") == ["[]"]


def test_training_changes_nothing_but_the_number_of_threads():
    code = STATE + TRAIN + "before = state(); train(); print(set(changed(before)) <= {'threads of the system'})"
    assert python(code) == ["True"]


def test_a_change_is_seen():
    code = "os.environ['NEW'] = '1'; np.random.seed(1); np.seterr(over='ignore')"
    code = f"{STATE}\nbefore = state(); {code}; print(*changed(before))"
    assert " ".join(python(code)) == "environment NumPy's random numbers NumPy's errors"


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="an interpreter that always has a GIL")
def test_the_gil_stays_off():
    """It would come back, with a warning, for a module that does not say that it can do without."""
    code = "import sys\nimport numpy as np\nbefore = sys._is_gil_enabled()\n"
    assert python(code + TRAIN + "train(); print(before, sys._is_gil_enabled())", PYTHON_GIL="") == ["False", "False"]


OTHERS = {
    "torch": "import torch; assert (torch.ones(300, 300) @ torch.ones(300, 300)).sum() == 300**3",
    "sklearn": "from sklearn.ensemble import HistGradientBoostingClassifier as Boosting; x = np.arange(400.0)[:, None];"
    "assert Boosting(max_iter=2).fit(x, x[:, 0] >= 200).score([[399.0]], [True]) == 1",
    "onnxruntime": "import onnxruntime; assert onnxruntime.get_available_providers()",
}


@pytest.mark.long
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("first", ["minicnn", "other"])
def test_other_libraries_may_come_first_or_last(other, first):
    """Each brings an OpenMP runtime of its own, or shares ours."""
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed: it is no dependency")
    ours, theirs = "fingerprint = train()\n", OTHERS[other] + "\n"
    once = ours + theirs if first == "minicnn" else theirs + ours
    code = "import numpy as np\n" + (TRAIN + once if first == "minicnn" else theirs + TRAIN + ours + theirs)
    code += "assert train() == fingerprint\n" + theirs + "print(fingerprint)"
    assert python("import warnings; warnings.simplefilter('ignore')\n" + code) == python(
        "import numpy as np\n" + TRAIN + "print(train())"
    )


@pytest.mark.long
@pytest.mark.parametrize("order", list(itertools.permutations(["minicnn", *OTHERS])), ids="-".join)
def test_every_order_of_import(order):
    missing = [name for name in OTHERS if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing} are not installed: they are no dependencies")
    imports = "".join(f"import {name}\n" for name in order)
    code = "import warnings; warnings.simplefilter('ignore')\nimport numpy as np\n" + imports + TRAIN + "print(train())"
    assert python(code) == python("import numpy as np\n" + TRAIN + "print(train())")


# ---- what is public ----

# Modules that are for minicnn's own modules.  A new one belongs here, or into minicnn.__all__.
INNER = {
    *(
        "__init__",
        "__main__",
        "_check",
        "_files",
        "advice",
        "archive",
        "cells",
        "chain",
        "configured",
        "document",
        "dropout_check",
        "engine",
        "verdicts",
    ),
    *(
        "inputs",
        "intake",
        "keras_words",
        "layer",
        "metric",
        "model",
        "montecarlo",
        "notebook",
        "outputs",
        "parameters",
        "passes",
    ),
    *("plan", "plot_architecture", "plot_axes", "plot_calibration", "plot_dropout", "plot_images", "prediction"),
    *(
        "processes",
        "progress",
        "recording",
        "resume",
        "scores",
        "settings",
        "stream",
        "summary",
        "targets",
        "training",
        "tree",
    ),
    *("_ext", "cli"),
}


def test_every_module_is_public_or_known_not_to_be():
    folder = pathlib.Path(minicnn.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")}
    modules |= {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}
    public = {name for name in minicnn.__all__ if isinstance(getattr(minicnn, name), types.ModuleType)}
    assert not public & INNER
    assert modules == public | INNER
    assert {"plot", "tune"} <= public


def test_everything_public_is_listed_and_there():
    assert sorted(name for name in dir(minicnn) if name[0] != "_") == sorted(minicnn.__all__)
    assert {"__version__", "__all__", "__doc__"} <= set(dir(minicnn))
    for name in minicnn.__all__:
        found = getattr(minicnn, name)
        listed = getattr(found, "__all__", ()) if isinstance(found, types.ModuleType) else ()
        assert len(set(listed)) == len(listed)
        for word in listed:
            assert getattr(found, word, None) is not None, f"{name}.{word}"
            assert word in dir(found), f"{name}.{word}"


def test_tab_completes_what_is_imported_later():
    code = "import rlcompleter, minicnn as mc; print(rlcompleter.Completer({'mc': mc}).complete('mc.plo', 0))"
    assert python(code) == ["mc.plot"]
