"""The three loggers of docs/training.md: each is run with a stand-in for its package that records the calls."""

import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest
from models import LABELS, X, compiled

import minicnn as mc

PAGE = Path(__file__).resolve().parent.parent / "docs" / "training.md"
CLASS = r"```python\n(class {}\(.*?)```\n"


def logger(name):
    """The class as it stands on the page."""
    namespace = {"mc": mc}
    exec(re.search(CLASS.format(name), PAGE.read_text(encoding="utf-8"), re.DOTALL)[1], namespace)
    return namespace[name]


class Recorder:
    """Anything may be called on it; ``calls`` has what was, and every call gives the recorder itself."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*given, **named):
            self.calls.append((name, given, named))
            return self

        return call


def stand_in(monkeypatch, package):
    recorder, module = Recorder(), types.ModuleType(package)
    module.__getattr__ = lambda name: getattr(recorder, name)
    monkeypatch.setitem(sys.modules, package, module)
    return recorder.calls


def trained(callback):
    return compiled().fit(X, LABELS, 5, 2, verbose=0, callbacks=callback).history


def test_tensorboard(monkeypatch):
    calls = stand_in(monkeypatch, "tensorboardX")
    history = trained(logger("TensorBoard")("logs"))
    assert calls[0] == ("SummaryWriter", ("logs",), {})
    scalars = [(name, values[epoch], epoch) for epoch in range(2) for name, values in history.items()]
    assert calls[1:-1] == [("add_scalar", given, {}) for given in scalars]
    assert calls[-1] == ("close", (), {})


def test_weights_and_biases(monkeypatch):
    calls = stand_in(monkeypatch, "wandb")
    history = trained(logger("WeightsAndBiases")("project", "name"))
    assert calls[0][2]["config"]["optimizer"]["learning_rate"] == 0.01
    assert calls[0][2]["config"]["epochs"] == 2
    logs = [{name: values[epoch] for name, values in history.items()} for epoch in range(2)]
    assert calls[1:] == [*(("log", (one,), {"step": epoch}) for epoch, one in enumerate(logs)), ("finish", (), {})]


def test_mlflow(monkeypatch):
    calls = stand_in(monkeypatch, "mlflow")
    history = trained(logger("MLflow")())
    assert [name for name, *_ in calls] == ["start_run", "log_params", "log_metrics", "log_metrics", "end_run"]
    assert calls[1][1][0]["learning_rate"] == 0.01
    for epoch in range(2):
        assert calls[2 + epoch][1:] == (({name: values[epoch] for name, values in history.items()},), {"step": epoch})


@pytest.mark.skipif(importlib.util.find_spec("tensorboardX") is None, reason="needs tensorboardX")
@pytest.mark.filterwarnings("ignore")  # its own
def test_the_real_tensorboard_writes_a_file(tmp_path):
    trained(logger("TensorBoard")(str(tmp_path)))
    assert any("tfevents" in path.name for path in tmp_path.iterdir())
