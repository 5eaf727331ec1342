"""The examples, run as a reader runs them: each with --quick in a process of its own, judged by what it prints."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_datasets import idx_bytes

import minicnn as mc
from minicnn.datasets.mnist import FILES

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def run(name, *options, folder, code=0, path=()):
    """(stdout, stderr) of the example, run in ``folder``: warnings are errors, one thread, no data from outside."""
    package = os.path.dirname(os.path.dirname(mc.__file__))
    environment = os.environ | {"MINICNN_DATA": str(folder / "nothing")}
    places = os.pathsep.join(map(str, [*path, package]))
    environment |= {"PYTHONPATH": places, "PYTHONWARNINGS": "error", "MINICNN_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *options]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == code, result.stderr
    return result.stdout, result.stderr


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in {text!r}"
    return float(found[1].replace(",", ""))


def test_every_example_is_run_here():
    assert NAMES == [
        "augmentation", "calibration", "digits", "ensemble", "mnist", "optuna_rates", "own_layer", "r_drop", "resnet",
        "see_augmentation", "see_dropout", "see_model", "training_loop", "weight_norms",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_help_names_quick(name, tmp_path):
    out, _ = run(name, "--help", folder=tmp_path)
    assert "--quick" in out


def test_digits(tmp_path):
    out, err = run("digits", "--quick", folder=tmp_path)
    assert number(r"test accuracy ([\d.]+) %", out) > 80  # usually 90 %
    assert len(re.findall(r"^epoch \d/4 .* val_accuracy ", err, re.MULTILINE)) == 4
    read, labels = re.search(r"reads the first ten as (\[.*\]); they are (\[.*\])", out).groups()
    assert sum(a == b for a, b in zip(read, labels, strict=True)) > 20  # of 30 characters
    model = mc.Sequential.load(tmp_path / "digits.npz")
    _, (x, y) = mc.datasets.digits.load_data()
    accuracy = 100 * (model.predict(x).argmax(1) == y).mean()
    assert f"test accuracy {accuracy:.1f} %" in out


def test_augmentation(tmp_path):
    out, err = run("augmentation", "--quick", folder=tmp_path)
    assert out.count("| digits, nothing | ") == 2
    assert len(re.findall(r"^\| digits, .* \| [+-][\d.]+ ± [\d.]+ \| (?:helps|harms|not decided) \|$", out, re.M)) == 3
    assert len(re.findall(r"^(?:choose|gain), digits: \d+ s$", err, re.M)) == 2
    run("augmentation", "--quick", "--write", folder=tmp_path, code=2)


@pytest.fixture
def augmentation(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("augmentation")


def test_the_tables_of_augmentation_are_made_of_the_results(augmentation):
    one = augmentation
    results, page = one.kept(), one.PAGE.read_text()
    assert {part: {*of} for part, of in results.items()} == {part: {"digits", "mnist"} for part in ("choose", "gain")}
    assert {len(values) for of in results.values() for sets in of.values() for values in sets.values()} == {one.SEEDS}
    assert one.put(results, page) == page
    results["gain"]["mnist"]["nothing"][0] += 1
    assert one.put(results, page) != page


def test_verdicts_of_augmentation(augmentation):
    assert [augmentation.verdict(v) for v in ([1, 1.1, 0.9], [-1, -1.1, -0.9], [1, -1, 2], [5])] == [
        "helps", "harms", "not decided", "not decided",
    ]  # fmt: skip


def test_mnist_without_mnist_takes_the_digits_and_says_so(tmp_path):
    out, _ = run("mnist", "--quick", folder=tmp_path)
    assert "MNIST is not at hand: these are the embedded 8 x 8 digits, enlarged to 28 x 28" in out
    assert "trained on 1,297 images, 4 epochs" in out
    assert number(r"test accuracy ([\d.]+) %", out) > 60  # usually 91 %


def test_mnist_without_data_explains_itself(tmp_path):
    _, err = run("mnist", folder=tmp_path, code=1)
    assert "Traceback" not in err
    assert "MINICNN_DATA" in err


@pytest.mark.parametrize("real", [False, True], ids=["stand-in", "optuna"])
def test_optuna_rates(real, tmp_path):
    path = []
    if real:
        pytest.importorskip("optuna")
    else:
        (tmp_path / "optuna.py").write_text((Path(__file__).parent / "optuna_stand_in.py").read_text())
        path = [tmp_path]
    out, _ = run("optuna_rates", "--quick", folder=tmp_path, path=path)
    found, pruned = re.match(r"(\d+) trials, (\d+) pruned; best validation loss [\d.]+ at {'conv': ", out).groups()
    assert int(found) == 8
    assert 0 < int(pruned) < 6  # the first three are not
    assert number(r"the best rates  test loss [\d.]+, test accuracy ([\d.]+) %", out) > 80


def test_optuna_rates_without_optuna(tmp_path):
    (tmp_path / "optuna.py").write_text("raise ImportError('hidden')")
    _, err = run("optuna_rates", "--quick", folder=tmp_path, path=[tmp_path], code=1)
    assert err == "this example needs Optuna: pip install optuna\n"


@pytest.fixture
def tiny_mnist(tmp_path):
    """A folder with the four files: 1,200 + 100 images of vertical bars, one place for each class."""
    for images, labels, n in ((*FILES[:2], 1200), (*FILES[2:], 100)):
        y = np.arange(n, dtype=np.uint8) % 10
        x = np.zeros((n, 28, 28), np.uint8)
        for image, label in zip(x, y, strict=True):
            image[:, 2 * label + 4 : 2 * label + 6] = 255
        (tmp_path / images).write_bytes(idx_bytes(x))
        (tmp_path / labels).write_bytes(idx_bytes(y))
    return tmp_path


def test_mnist_from_a_folder(tiny_mnist, tmp_path):
    out, err = run("mnist", "--data-dir", str(tiny_mnist), "--epochs", "2", folder=tmp_path)
    assert "trained on 1,200 images, 2 epochs" in out
    assert "val_loss" not in err  # the test part is not looked at before the end
    assert number(r"test accuracy ([\d.]+) % \(\d+ of 100 wrong\)", out) > 95


def test_mnist_validates_on_the_training_part(tiny_mnist, tmp_path):
    (tiny_mnist / FILES[2]).write_bytes(idx_bytes(np.zeros((100, 28, 28), np.uint8)))  # a test part that is useless
    out, err = run("mnist", "--data-dir", str(tiny_mnist), "--epochs", "2", "--validate", folder=tmp_path)
    assert "trained on 1,000 images, 2 epochs" in out
    assert "test accuracy" not in out
    assert number(r"validation accuracy ([\d.]+) % \(\d+ of 200 wrong\)", out) > 95
    assert err.count("val_accuracy") == 2


def test_ensemble(tmp_path):
    out, _ = run("ensemble", "--quick", folder=tmp_path)
    alone = [float(one) for one in re.findall(r"([\d.]+) %", re.search(r"all five: (.*)\)", out)[1])]
    assert len(alone) == 5
    assert number(r"one network +([\d.]+) %", out) == alone[0]
    assert number(r"five, by mean +([\d.]+) %", out) > np.mean(alone)  # usually 92 % and 90 %
    assert number(r"five, by vote +([\d.]+) %", out) > 85  # usually 91 %
    assert number(r"one, 50 x thinned +([\d.]+) %", out) > 85  # usually 90 %
    quarters = [float(one) for one in re.findall(r"doubtful quarter +([\d.]+) %", out)]
    assert len(quarters) == 8
    for least, most in ((quarters[0], quarters[3]), (quarters[4], quarters[7])):
        assert least > 98  # usually 100 %
        assert most < least - 10  # usually 71 %


def test_calibration(tmp_path):
    draws = importlib.util.find_spec("matplotlib") is not None
    out, _ = run("calibration", "--quick", *(["--picture", "curves.png"] if draws else []), folder=tmp_path)
    assert not draws or (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert out.startswith("2 seeds, 4 epochs, dropout at rate 0.5; mean ± standard error; ECE in %, 15 bins\n")
    rows = {line[:26].strip(): re.findall(r"(-?[\d.]+) ± [\d.]+", line) for line in out.splitlines()[3:7]}
    plain, predict, thinned, ensemble = ([float(one) for one in row] for row in rows.values())
    for wrong, ece, loss, surer, temperature, *after in (plain, predict, thinned, ensemble):
        assert wrong < 15  # usually 8 %
        assert abs(surer) <= ece + 0.05
        assert after[1] < loss + 0.1
        assert 0.2 < temperature < 3
    assert thinned[1] > 2 * predict[1] > 0  # usually 13 % and 3 %
    assert thinned[5] < thinned[1] / 2
    assert thinned[4] < 1 > ensemble[4]
    assert "the ECE of predict is smaller than that of predict_mc: holds (by " in out
    assert "a temperature makes that of predict_mc smaller: holds (by " in out
    assert out.count(" (by ") == 6


def test_own_layer(tmp_path):
    out, _ = run("own_layer", "--quick", folder=tmp_path)
    assert re.search(r"PReLU is right:\n.*\nx +\S+ +96 +0\nslope +\S+ +3 +0\n", out)  # places checked, skipped
    assert "WrongPReLU: gradient of x at" in out
    assert "zero where it should not be, and right elsewhere: is a part left out?" in out
    assert number(r"test accuracy .*: ([\d.]+) %", out) > 80  # usually 92 %
    slopes = np.array(re.search(r"slopes .*:\n\[([\d.\s-]+)\]", out)[1].split(), float)
    assert slopes.shape == (16,)
    assert (slopes != 0.25).any()


def test_resnet(tmp_path):
    out, _ = run("resnet", "--quick", folder=tmp_path)
    assert "8 layers, 78,042 parameters, trained on 1,297 images, 3 epochs" in out
    assert number(r"test accuracy ([\d.]+) %", out) > 75  # usually 90 %


def test_resnet_from_a_folder(tiny_mnist, tmp_path):
    arguments = ("--data", "mnist", "--data-dir", str(tiny_mnist), "--depth", "8", "--epochs", "1")
    out, _ = run("resnet", *arguments, folder=tmp_path)
    assert "8 layers, 78,042 parameters, trained on 1,200 images, 1 epochs" in out
    assert number(r"test accuracy ([\d.]+) %", out) > 15  # usually 30 %: the labels are places here


def test_resnet_without_data_explains_itself(tmp_path):
    _, err = run("resnet", "--data", "mnist", folder=tmp_path, code=1)
    assert "Traceback" not in err
    assert "MINICNN_DATA" in err


def test_resnet_is_the_papers(monkeypatch):
    """Two convolutions for each of 3 n blocks, one in front and the dense layer: 6 n + 2."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import resnet

    for depth in (8, 20):
        model = resnet.resnet(depth)
        model.build((32, 32, 3))
        kernels = [value.shape for name, value in model.state_dict().items() if name.endswith("kernel")]
        assert sum(shape[0] == 3 or len(shape) == 2 for shape in kernels) == depth
        assert sum(shape[:2] == (1, 1) for shape in kernels) == 2  # ways around where the shape changes
        blocks = [layer for layer in model.layers if isinstance(layer, mc.layers.Residual)]
        sizes = [layer.output_shape for layer in blocks[:: (depth - 2) // 6]]
        assert sizes == [(32, 32, 16), (16, 16, 32), (8, 8, 64)]
    with pytest.raises(ValueError, match=r"^resnet: depth must be 8, 14, 20, \.\.\.; got 10$"):
        resnet.resnet(10)


def test_see_augmentation(tmp_path):
    pytest.importorskip("matplotlib")
    out, err = run("see_augmentation", "--quick", "--out", "picture.png", folder=tmp_path)
    assert err == ""
    assert all(one.read_bytes().startswith(b"\x89PNG") for one in tmp_path.glob("*.png"))
    assert sorted(one.name for one in tmp_path.glob("*.png")) == ["picture.png", "picture_mixing.png"]
    names = re.findall(r"^Random(\w+)", out, re.MULTILINE)
    assert (
        names
        == ["Flip"] * 2
        + ["Translation", "Rotation"]
        + ["Zoom"] * 2
        + ["Crop", "Contrast", "Brightness"]
        + ["Erasing"] * 2
    )
    assert out.endswith("picture.png: the image itself is the leftmost of each row\n")


def test_see_dropout(tmp_path):
    pytest.importorskip("matplotlib")
    out, err = run("see_dropout", "--quick", "--small", "--out", "pictures", folder=tmp_path)
    assert err == ""
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    names = ["1_mask", "2_feature_maps", "3_scaling", "4_thinned", "5_mc_against_scaled", "6_ablation"]
    assert pictures == [f"{name}.png" for name in [*names, "7_blocks", "8_branches", "9_network"]]
    assert re.findall(r"^pictures[/\\](.*)$", out, re.MULTILINE) == pictures  # in the same order
    assert all((tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert number(r"^trained with dropout, 3 epochs: test accuracy ([\d.]+) %", out) > 40  # usually 70 %
    assert "they add up to 70.0 in training and to 100 in evaluation" in out
    assert "evaluation down to 70, inverted dropout takes training up to 100.0" in out
    assert "DropBlock2D(0.25, 3) drops 23 % of the values here, and Dropout as many." in out
    assert 'mode "row" 5, 5, 6 of 8 samples lose the branch in three steps' in out
    assert 'mode "batch" one coin a step is for all: 8, 0, 0.' in out
    assert "6, 7, 5 of 16 units are crossed out in three steps" in out
    assert number(r"the scaled network, in one pass, ([\d.]+) %", out) == number(r"with dropout, 3 .* ([\d.]+) %", out)
    assert number(r"without 80 %: trained with dropout, ([\d.]+) %", out) == number(
        r"with dropout, 3 .* ([\d.]+) %", out
    )


def test_see_model(tmp_path):
    pytest.importorskip("matplotlib")
    out, err = run("see_model", "--quick", "--small", "--out", "pictures", "--theme", "dark", folder=tmp_path)
    assert err == ""
    names = ["history", "confusion_matrix", "mistakes", "filters", "model_feature_maps", "saliency", "architecture"]
    assert re.findall(r"^pictures[/\\](.*)$", out, re.MULTILINE) == [f"{name}.png" for name in names]
    assert all((tmp_path / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)
    assert number(r"^2 epochs: test accuracy ([\d.]+) %", out) > 60  # usually 85 %


def test_see_dropout_without_matplotlib(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('no matplotlib')")
    code = f"import runpy; runpy.run_path({str(EXAMPLES / 'see_dropout.py')!r}, run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(mc.__file__))}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == 'this example draws with matplotlib: pip install "minicnn[plot]"\n'


def test_r_drop(tmp_path):
    out, _ = run("r_drop", "--quick", folder=tmp_path)
    assert out.startswith("3 epochs, 2 seeds, means ± standard errors")
    for name in ("dropout  ", "two masks, alpha 0 ", "R-Drop, alpha 0.3 ", "R-Drop, alpha 1 "):
        assert number(rf"{name} *test error ([\d.]+) ± [\d.]+ %, test loss [\d.]+ ± [\d.]+", out) < 40  # usually 17 %
    assert len(re.findall(r"\(-?[\d.]+ ± [\d.]+ %, -?[\d.]+ ± [\d.]+\)", out)) == 3


@pytest.fixture
def r_drop(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("r_drop")


@pytest.mark.parametrize("alpha", [0, 0.3, 2.5])
def test_the_gradient_of_r_drop_by_finite_differences(r_drop, alpha):
    rng = np.random.default_rng(0)
    logits, y = rng.standard_normal((10, 4)), np.arange(5) % 4
    _, gradient = r_drop.r_drop(logits, y, alpha)
    for place in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[place] = 1e-5
        change = r_drop.r_drop(logits + step, y, alpha)[0] - r_drop.r_drop(logits - step, y, alpha)[0]
        assert gradient[place] == pytest.approx(change / 2e-5, rel=1e-6, abs=1e-10)


def test_the_loss_of_r_drop_by_its_formula(r_drop):
    rng = np.random.default_rng(1)
    logits, y, alpha = 3 * rng.standard_normal((6, 4)), np.array([0, 3, 1]), 0.7
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    want = 0
    for p1, p2, label in zip(p[:3], p[3:], y, strict=True):
        want -= (np.log(p1[label]) + np.log(p2[label])) / 2
        want += alpha / 2 * ((p1 * np.log(p1 / p2)).sum() + (p2 * np.log(p2 / p1)).sum())
    value, gradient = r_drop.r_drop(logits, y, alpha)
    assert value == pytest.approx(want / 3)
    same = np.concatenate([logits[:3], logits[:3]])  # two equal answers: the cross-entropy alone
    loss = mc.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert r_drop.r_drop(same, y, alpha)[0] == pytest.approx(loss(logits[:3], y)[0])
    assert np.abs(gradient.sum(axis=1)).max() < 1e-12  # a constant added to all logits changes nothing
    assert np.isfinite(r_drop.r_drop(1e4 * logits, y, alpha)[1]).all()


def test_the_loop_of_r_drop_learns_and_draws_two_masks(r_drop, monkeypatch):
    (x, y), _ = mc.datasets.digits.load_data()
    x, y, seen = x[:200], y[:200], []
    real = r_drop.r_drop
    monkeypatch.setattr(r_drop, "r_drop", lambda logits, y, alpha: seen.append(logits) or real(logits, y, alpha))
    model = r_drop.network(0)
    model.build(x.shape[1:])
    before = model.evaluate(x, y)[0]
    r_drop.train(model, x, y, epochs=20, alpha=0.5)
    assert model.evaluate(x, y)[0] < before / 2
    assert not model.training
    first, second = np.split(seen[0], 2)
    assert (np.abs(first - second).max(axis=1) > 0).all()


def test_training_loop(tmp_path):
    out, _ = run("training_loop", "--quick", folder=tmp_path)
    assert re.findall(r"^epoch (\d)  loss", out, re.MULTILINE) == ["1", "2", "3"]
    by_hand, by_fit = (re.search(rf"^by {way} +([0-9a-f]{{64}})$", out, re.MULTILINE)[1] for way in ("hand", "fit"))
    assert by_hand == by_fit
    assert out.endswith("the same bits\n")
    last = number(r"epoch 3 .*test accuracy ([\d.]+) %", out)
    assert number(r"would have scored ([\d.]+) %", out) < last  # dropout left on costs
    assert last > 65  # usually 82 %


def test_weight_norms(tmp_path):
    out, _ = run("weight_norms", "--quick", folder=tmp_path)
    rows = {line[:21].strip(): [float(n) for n in re.findall(r"[\d.]+", line[21:])] for line in out.splitlines()[3:]}
    assert len(rows) == 5
    for name, (accuracy, _, *norms, penalty) in rows.items():
        assert accuracy > 60, name  # usually 84 to 86 %
        assert (penalty > 0) == name.startswith("L2")
        if "MaxNorm" in name:  # 16, 64 and 10 units of norm 1.5 at most
            assert all(norm <= 1.5 * units**0.5 + 0.01 for norm, units in zip(norms[::2], (16, 64, 10), strict=True))
    assert rows["L2(0.0003)"][4] < rows["none"][4]
