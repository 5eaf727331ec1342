"""What fit says while it trains: where, and in which words."""

import re
import sys

import numpy as np
import pytest
import tqdm
from models import LABELS, Hook, X, compiled


def test_progress_is_written_to_stderr(capsys, monkeypatch):
    model = compiled()
    model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0)
    assert capsys.readouterr() == ("", "")
    for verbose in (2, "auto"):
        model.fit(X, LABELS, batch_size=5, epochs=10, initial_epoch=8, verbose=verbose, validation_split=0.5)
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert [line[:11] for line in lines] == ["epoch  9/10", "epoch 10/10"]
        number = r"\d+\.\d{4}"
        modes = (
            rf" s  train mode: loss {number}  accuracy {number} \| eval mode: val_loss {number}  val_accuracy {number}$"
        )
        assert re.search(modes, lines[0])
    model.fit(X, LABELS, batch_size=5, verbose=2, clean_train_metrics=True)
    assert "accuracy" in (line := capsys.readouterr().err)
    assert re.search(
        rf" s  train mode: loss {number} .* \| eval mode: clean_loss {number}  clean_accuracy {number}$", line
    )
    model.fit(X, LABELS, batch_size=5, verbose=2)
    assert re.search(rf" s  loss {number}  accuracy {number}$", capsys.readouterr().err)
    model.fit(X, LABELS, batch_size=5, epochs=2, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2: 100%" in err
    assert "3/3" in err
    assert "accuracy" in err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    model.fit(X, LABELS, batch_size=5, verbose="auto")
    assert "epoch 1/1: 100%" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    model.fit(X, LABELS, verbose="auto")
    assert capsys.readouterr().out == ""


def test_a_bar_that_is_interrupted_is_closed(monkeypatch):
    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            bars.append(self)  # as long as it is held here, only close() ends it

    def fail(model):
        raise ValueError("stop")

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    with pytest.raises(ValueError, match="stop"):
        compiled().fit(X, LABELS, batch_size=5, verbose=1, callbacks=[Hook(fail)])
    assert [bar.disable for bar in bars] == [True]


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_one_pass_shows_itself(method, capsys, monkeypatch):
    model = compiled()
    given = (X, LABELS, 5) if method == "evaluate" else (X, 5)
    quiet = getattr(model, method)(*given)
    assert capsys.readouterr() == ("", "")
    numbers = r"  loss \d\.\d{4}  accuracy \d\.\d{4}" if method == "evaluate" else ""
    for verbose in (2, "auto"):
        assert np.array_equal(getattr(model, method)(*given, verbose=verbose), quiet)
        assert re.fullmatch(rf"{method} +\d+\.\d s{numbers}\n", capsys.readouterr().err)
    assert np.array_equal(getattr(model, method)(*given, verbose=1), quiet)
    err = capsys.readouterr().err
    assert f"{method}: 100%" in err
    assert "3/3" in err
    assert ("accuracy" in err) == (method == "evaluate")
    for verbose in (3, None, "loud"):
        with pytest.raises(ValueError, match=rf"^Sequential.{method}: verbose must be 'auto', 0, 1 or 2"):
            getattr(model, method)(*given, verbose=verbose)
