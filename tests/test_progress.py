"""What fit says while it trains: where, and in which words."""

import re
import sys

import numpy as np
import pytest
import tqdm
from models import LABELS, Hook, X, compiled

import minicnn


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
        left = r" s \(\d+\.\d s left\)"
        modes = (
            rf"  train mode: loss {number}  accuracy {number} \| eval mode: val_loss {number}  val_accuracy {number}$"
        )
        assert re.search(left + modes, lines[0])
        assert re.search(" s" + modes, lines[1])
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


def test_what_is_left_is_said(capsys, monkeypatch):
    """As far as the rest takes as long as what was, from a clock that says what it is told."""
    clock = iter(range(0, 10**6, 100))  # every look at it takes 100 s
    monkeypatch.setattr(minicnn.progress.time, "perf_counter", lambda: next(clock))
    lines = minicnn.progress.progress_of(2, {"epochs": 4, "steps": 10})
    for epoch in range(1, 4):  # epoch 0 was done before
        lines.epoch(epoch, {"loss": 1.0})
    said = re.findall(r"(\d+\.\d) s(?: \((.*) left\))?  loss", capsys.readouterr().err)
    assert said == [("100.0", "3 min 20 s"), ("100.0", "1 min 40 s"), ("100.0", "")]
    clock = iter([0.0, 3.0, 20000.0, 20001.0, 20002.0])
    bar = minicnn.progress.progress_of(1, {"epochs": 2, "steps": 2})
    with bar:
        for step in range(4):
            bar.step(step // 2, lambda: {"loss": 1.0})
            assert {0: "9.0 s left, ", 1: "5 h 33 min left, ", 2: "1 h 51 min left, ", 3: ""}[step] in bar.bar.postfix
            assert ("left" in bar.bar.postfix) == (step < 3)
            if step % 2:
                bar.epoch(step // 2, {"loss": 1.0})


def test_a_bar_asks_for_the_means_when_it_is_drawn(monkeypatch, capsys):
    """Ten times a second, not in every step; and all steps are counted in the end."""
    clock, asked = iter(number / 100 for number in range(10**6)), []
    monkeypatch.setattr(minicnn.progress.time, "perf_counter", lambda: next(clock))
    with minicnn.progress.progress_of(1, {"epochs": 2, "steps": 95}) as bar:
        for epoch in range(2):
            for _ in range(95):
                bar.step(epoch, lambda: asked.append(0) or {"loss": 1.0})
            tqdms = bar.bar
            bar.epoch(epoch, {"loss": 2.0})
            assert (tqdms.n, tqdms.postfix, bar.bar) == (95, "loss 2.0000", None)
    assert 18 <= len(asked) <= 22
    assert "95/95" in capsys.readouterr().err


def test_a_run_that_goes_on_begins_where_it_was(monkeypatch, capsys):
    """In the middle of an epoch: neither the bar nor what is left counts the steps of before."""
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(minicnn.progress.time, "perf_counter", lambda: next(clock))
    with minicnn.progress.progress_of(1, {"epochs": 2, "steps": 4}) as bar:
        bar.begin(0, 2)
        for done in (3, 4):
            bar.step(0, dict)
            assert (bar.bar.n, bar.bar.total) == (done, 4)
            assert bar.bar.postfix.startswith("50 s left" if done == 3 else "40 s left")  # 10 s for each of 5, of 4


def test_the_bar_of_a_fit_that_goes_on(capsys, tmp_path):
    def stop(model):
        if model.optimizer.iterations == 5:
            raise KeyboardInterrupt

    more = {"batch_size": 5, "epochs": 2, "verbose": 1}
    with pytest.raises(KeyboardInterrupt):
        compiled().fit(X, LABELS, **more, callbacks=[minicnn.callbacks.BackupAndRestore(tmp_path, 1), Hook(stop)])
    capsys.readouterr()
    compiled().fit(X, LABELS, **more, callbacks=[minicnn.callbacks.BackupAndRestore(tmp_path, 1), Hook(lambda m: m)])
    err = capsys.readouterr().err
    assert "3/3" in err
    assert "0/3" not in err


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
