"""The README is a promise: its code runs, its commands are those of CI, the files that it names exist."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import minicnn as mc
from minicnn import cli, layers

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""

pytestmark = pytest.mark.skipif(not README, reason="the README is not part of an installed package")


def blocks(language):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in fences if name == language]


def test_its_code_runs_and_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    first, second, _ = blocks("python")
    exec(compile(first, "README.md", "exec"), names)
    assert names["accuracy"] > 0.85
    assert (names["digits"] == names["model"].predict(names["x_test"]).argmax(axis=1)).all()
    before = names["model"].fingerprint()
    exec(compile(second, "README.md", "exec"), names)
    assert names["model"].fingerprint() != before
    assert names["model"].training is False


def test_its_loop_by_hand_is_what_fit_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second, _ = blocks("python")
    fitted, by_hand = {}, {}
    exec(first.replace("epochs=8, validation_split=0.1", "epochs=1, verbose=0"), fitted)
    exec(first.replace("epochs=8, validation_split=0.1", "epochs=0, verbose=0"), by_hand)
    exec(second, by_hand)
    assert by_hand["model"].fingerprint() == fitted["model"].fingerprint()


def test_a_folder_becomes_a_model_that_knows_names(tmp_path, monkeypatch, capsys):
    pillow = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    colours = {"green": (60, 180, 60), "red": (180, 60, 60), "night": (10, 10, 30)}
    for name, colour in colours.items():
        (tmp_path / "pics" / name).mkdir(parents=True)
        for number in range(15):
            pixels = np.clip(colour + rng.normal(0, 20, (40, 30 + number, 3)), 0, 255).astype(np.uint8)
            pillow.fromarray(pixels).save(f"pics/{name}/{number}.{'jpg' if number % 2 else 'png'}")
    *_, code = blocks("python")
    assert sum(map(bool, code.splitlines())) < 15
    for name, colour in colours.items():
        pillow.new("RGB", (200, 100), colour).save("new.jpg")
        names = {}
        exec(compile(code, "README.md", "exec"), names)
        assert capsys.readouterr().out == f"{name}\n"
        assert names["data"].validation is not None
        assert mc.Sequential.load("pics.npz").class_names == ["green", "night", "red"]


def test_two_lines_in_a_shell_name_pictures(tmp_path, monkeypatch, capsys):
    """And they are those of a shell: what follows # is no part of them."""
    pillow = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, colour in {"green": (60, 180, 60), "red": (180, 60, 60), "night": (10, 10, 30)}.items():
        (tmp_path / "pics" / name).mkdir(parents=True)
        (tmp_path / "new").mkdir(exist_ok=True)
        for number in range(12):
            pixels = np.clip(colour + rng.normal(0, 20, (40, 30 + number, 3)), 0, 255).astype(np.uint8)
            pillow.fromarray(pixels).save(f"pics/{name}/{number}.png")
        pillow.new("RGB", (60, 50), colour).save(f"new/{name}.jpg")
    (block,) = blocks("shell")
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [words[0] for words in lines] == ["minicnn", "minicnn"]
    assert [cli.main(words[1:]) for words in lines] == [0, 0]
    named = [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()[-3:]]
    assert named == [[f"new/{name}.jpg", name] for name in ("green", "night", "red")]


def test_its_two_commands_need_nothing_but_python_and_a_compiler():
    commands = [block.strip() for block in blocks("sh")]
    assert len(commands) == 2
    for command in commands:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert "minicnn train" in commands[0]
    assert "pytest" in commands[1]


def test_ci_takes_both_commands_from_here():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "command_of_readme 1" in ci
    assert "command_of_readme 2" in ci
    assert "pytest -q tests/test_conv.py" in ci  # and the other instruction sets


def test_the_files_that_it_names_exist():
    (tree,) = blocks("")
    words = re.findall(r"(?<=\s)[\w/]+(?:\.py|\.h|\.md|/)(?=\s)", f"\n{tree}")
    assert len(words) > 20
    folders = [
        ROOT,
        *(ROOT / folder for folder in ("minicnn", "minicnn/_ext", "minicnn/_ext/leaves", "minicnn/_ext/machinery")),
        *(ROOT / folder for folder in ("minicnn/layers", "benchmarks", "tests")),
    ]
    for word in words:
        assert any((folder / word).exists() for folder in folders), word
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "docs/dropout.md"])
def test_the_whole_dropout_family_is_named(page):
    family = [name for name in layers.__all__ if getattr(getattr(layers, name), "sampled", False)]  # by predict_mc
    assert len(family) > 3
    assert [name for name in family if not re.search(rf"\b{name}\b", (ROOT / page).read_text())] == []
