"""docs/keras.md: every row of its table is run alone, and does what it says; accepted arguments have their effect."""

import re
from pathlib import Path

import numpy as np
import pytest

import minicnn as keras
from minicnn import layers

PAGE = Path(__file__).resolve().parent.parent / "docs" / "keras.md"
ROW = re.compile(r"^\| `(.*)` \| (yes|no: .*?) \|(?: (.*))? \|$")


def rows_of(text):
    """(code, None or the words of the error) of every row; AssertionError for a row that cannot be read."""
    table = text.partition("|---|---|---|\n")[2].splitlines()
    found = []
    for line in table:
        if not re.fullmatch(r"\| \*\*\w+\*\* \| \| \|", line):  # a title
            match = ROW.match(line)
            assert match, line
            found.append((match[1], None if match[2] == "yes" else match[2].removeprefix("no: ")))
    return found


ROWS = rows_of(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else []


def net(*more, last=None, inp=True):
    start = [keras.Input(shape=(8, 8, 1))] if inp else []
    convolution = layers.Conv2D(4, 3, activation="relu")
    return keras.Sequential([*start, convolution, *more, layers.Flatten(), last or layers.Dense(10, "softmax")])


def names():
    """A fresh namespace, as the page promises it."""
    rng = np.random.default_rng(0)
    x, y = rng.random((64, 8, 8, 1)).astype("float32"), np.arange(64) % 10
    model = net()
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    given = {"keras": keras, "layers": layers, "np": np, "net": net, "model": model}
    return given | {"x": x, "y": y, "rows": np.eye(10)[y], "t": y / 10.0}


def run(code, words):
    """AssertionError unless it works, or fails with the words."""
    if words is None:
        exec(code, names())
        return
    with pytest.raises((AttributeError, TypeError, ValueError, RuntimeError, FileNotFoundError)) as caught:
        exec(code, names())
    assert words in str(caught.value), str(caught.value)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """In an empty folder, without data from outside; what set_random_seed does is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path))
    state = np.random.get_state()
    yield
    keras.utils.set_random_seed(0)
    np.random.set_state(state)


@pytest.mark.parametrize(("code", "words"), ROWS, ids=[code for code, _ in ROWS])
def test_a_row_is_true(code, words):
    run(code, words)


def test_the_page_is_read_at_all():
    assert len(ROWS) > 140
    assert 70 > sum(words is not None for _, words in ROWS) > 30
    assert len({code for code, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("code", "words", "error"), [
    ("keras.Model", None, AttributeError), ("1 + 1", "no such thing", pytest.fail.Exception),
    ("keras.Model", "there is a Model", AssertionError),
])  # fmt: skip
def test_a_row_that_is_wrong_is_seen(code, words, error):
    with pytest.raises(error):
        run(code, words)
    with pytest.raises(AssertionError):
        rows_of("|---|---|---|\n| keras.Model | maybe | |\n")


# ---- what is accepted does what it says ----


def test_words_have_their_effect(capsys):
    given = names()
    x, y, model = given["x"], given["y"], given["model"]
    assert "'digits'" in keras.Sequential([layers.Dense(1)], name="digits").summary_text()
    for method, arguments in ((model.predict, (x,)), (model.evaluate, (x, y))):
        method(*arguments, verbose=0)
        assert capsys.readouterr().err == ""
        method(*arguments, verbose=1)
        assert "100%" in capsys.readouterr().err
    history = model.fit(x, y, epochs=4, validation_split=0.5, validation_freq=2, verbose=0).history
    assert len(history["val_loss"]) == 2
    before = model.get_weights()
    model.save_weights("w.npz")
    model.fit(x, y, verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    model.load_weights("w.npz")
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    model.trainable = False
    model.fit(x, y, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.trainable_weights == []


def test_what_differs_in_silence_differs_as_the_page_says():
    given = names()
    assert net().fingerprint() == net().fingerprint()
    assert given["model"].input_shape == (8, 8, 1)
    leaky = keras.Sequential([keras.Input((1,)), layers.LeakyReLU()])
    assert leaky.predict(np.array([[-1.0]])).item() == pytest.approx(-0.01)
    with_norm = net(layers.BatchNormalization())
    assert with_norm.count_params() == sum(a.size for a in with_norm.trainable_weights)
    assert len(with_norm.get_weights()) == len(with_norm.trainable_weights) + 2
    assert isinstance(given["model"].train_on_batch(given["x"], given["y"]), dict)
