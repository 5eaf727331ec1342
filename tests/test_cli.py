"""The command line: exit statuses, what goes to stdout, what is written, and resumed runs that equal straight ones."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import minicnn
from minicnn import Sequential, cli, datasets, layers, tasks
from minicnn.cli import main

# The tests run in folders of their own: there the package that is tested must be found, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(minicnn.__file__)))}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path / "nothing"))  # no data from outside


@pytest.fixture
def small(monkeypatch):
    """A network and a data set that train in no time."""

    def network(dropout):
        return [
            layers.Dropout(dropout / 2),
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(10, activation="softmax"),
        ]

    task = cli.TASKS["digits"]._replace(network=network)
    monkeypatch.setitem(cli.TASKS, "digits", task)
    (x, y), (x_test, y_test) = datasets.digits.load_data()
    cut = (x[:200], y[:200]), (x_test[:50], y_test[:50])
    monkeypatch.setattr(datasets.digits, "load_data", lambda: cut)
    return cut


@pytest.fixture
def model_file():
    """A small digit model in a file."""
    model = Sequential([layers.Flatten(), layers.Dense(10, activation="softmax")])
    model.build((8, 8, 1))
    model.save("m.npz")
    return "m.npz"


def run(*arguments, **options):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "minicnn", *map(str, arguments)]
    options = {"capture_output": True, "text": True, "timeout": 120, "env": ENVIRONMENT, **options}
    return subprocess.run(command, check=False, **options)


def one_object(text):
    """The only JSON object in stdout."""
    lines = text.splitlines()
    assert len(lines) == 1
    found = json.loads(lines[0], parse_constant=pytest.fail)
    assert isinstance(found, dict)
    return found


def failed(capsys, *arguments):
    """The one line that a failing command says."""
    assert main(list(arguments)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if "error" in line]
    assert lines == err.splitlines()[-1:]
    assert lines[0].startswith("minicnn: error: ")
    assert "Traceback" not in err
    return lines[0]


def usage(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


# ---- train ----


def test_train_alone_trains_on_the_digits_and_writes_model_and_history():
    done = run("train", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "1,297 training and 500 test images" in done.stdout
    assert "with dropout 0.5" in done.stdout
    assert "at rate 0" in done.stdout
    assert "epoch" not in done.stdout.replace("1 epochs", "")
    assert "epoch 1/1" in done.stderr
    files = {"checkpoint-without-dropout.npz", "checkpoint.npz", "history.json", "model.npz", "settings.json"}
    assert set(os.listdir("minicnn-run")) == files
    with open("minicnn-run/history.json") as file:
        history = json.load(file)
    lengths = {"loss": 1, "accuracy": 1, "clean_loss": 1, "clean_accuracy": 1}
    assert {name: len(values) for name, values in history.items()} == lengths
    assert history["clean_loss"] < history["loss"]  # nothing dropped, and the weights of the end of the epoch
    assert "train mode: loss" in done.stderr
    assert "eval mode: clean_loss" in done.stderr
    model = Sequential.load("minicnn-run/model.npz")
    assert any(isinstance(layer, layers.Dropout) and layer.rate == 0.5 for layer in model.layers)
    _, test = datasets.digits.load_data()
    loss, accuracy = model.evaluate(*test)
    assert f"{loss:.4f}" in done.stdout
    assert f"{100 * accuracy:.2f} %" in done.stdout


def test_train_json(small, capsys):
    assert main(["train", "--epochs", "2", "--out", "a/b", "--json", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    report = one_object(out)
    assert "epoch 2/2" in err
    assert report["epochs"] == 2
    assert report["model"] == os.path.join("a/b", "model.npz")
    assert report["seed"] == 3
    assert 0 < report["seconds"] < 100
    model = Sequential.load(report["model"])
    assert report["fingerprint"] == model.fingerprint()
    loss, accuracy = model.evaluate(*small[1], batch_size=256)
    assert (report["loss"], report["accuracy"]) == (loss, accuracy)
    without = report["without_dropout"]
    assert {"loss", "accuracy", "fingerprint"} <= set(without)
    assert without["fingerprint"] != report["fingerprint"]
    assert main(["train", "--epochs", "2", "--out", "c", "--json", "--seed", "3", "--dropout", "0"]) == 0
    plain = one_object(capsys.readouterr().out)
    assert plain["fingerprint"] == without["fingerprint"]
    assert plain["without_dropout"]["loss"] == plain["loss"]


def test_the_options_reach_the_training(small, capsys):
    reports = {}
    for options in ["", "--lr 0.01", "--momentum 0.5", "--batch-size 50", "--dropout 0.2", "--seed 1", "--threads 1"]:
        assert main(["train", "--epochs", "1", "--json", *options.split()]) == 0
        reports[options] = one_object(capsys.readouterr().out)["fingerprint"]
    assert reports.pop("--threads 1") == reports[""]
    assert len(set(reports.values())) == len(reports)


def test_a_resumed_run_is_the_straight_one(small, capsys):
    options = ["train", "--json", "--dropout", "0.4", "--batch-size", "64"]
    assert main([*options, "--epochs", "4", "--out", "straight"]) == 0
    straight = one_object(capsys.readouterr().out)
    assert main([*options, "--epochs", "2", "--out", "pieces"]) == 0
    capsys.readouterr()
    assert main(["train", "--json", "--epochs", "4", "--resume", "pieces"]) == 0  # the settings as they were
    out, err = capsys.readouterr()
    pieces = one_object(out)
    assert "continuing after epoch 2" in err
    assert "epoch 1/4" not in err
    for name in ("loss", "accuracy", "fingerprint", "epochs", "without_dropout", "dropout"):
        assert pieces[name] == straight[name]
    for name in ("history.json", "model.npz"):
        with open(f"straight/{name}", "rb") as one, open(f"pieces/{name}", "rb") as other:
            assert one.read() == other.read()


def test_resume_takes_the_same_options_and_a_complete_run_again(small, capsys):
    options = ["train", "--json", "--epochs", "2", "--lr", "0.02", "--out", "d", "--resume", "d"]
    assert main(options) == 0  # begins afresh: there is nothing yet
    first = one_object(capsys.readouterr().out)
    before = os.stat("d/checkpoint.npz").st_mtime_ns
    assert main(options) == 0
    out, err = capsys.readouterr()
    again = one_object(out)
    assert "epoch 1/2" not in err
    assert os.stat("d/checkpoint.npz").st_mtime_ns == before
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert main(["train", "--json", "--epochs", "1", "--resume", "d"]) == 0
    assert one_object(capsys.readouterr().out)["epochs"] == 2  # what is trained stays trained


def test_resume_refuses_other_settings_and_a_new_run_does_not_resume(small, capsys):
    assert main(["train", "--epochs", "1", "--out", "d"]) == 0
    capsys.readouterr()
    line = failed(capsys, "train", "--resume", "d", "--seed", "4")
    assert "d was begun with --seed 0, not 4" in line
    assert "--batch-size 32, not 8" in failed(capsys, "train", "--resume", "d", "--batch-size", "8")
    assert "--data digits, not mnist" in failed(capsys, "train", "--resume", "d", "--data", "mnist")
    assert "leave out --out, or give the same folder" in usage(capsys, "train", "--resume", "d", "--out", "e")
    assert main(["train", "--epochs", "1", "--out", "d", "--seed", "4"]) == 0
    assert "going on" not in capsys.readouterr().err


def test_resume_without_a_checkpoint_begins_afresh_with_what_is_asked(small, capsys):
    os.mkdir("d")
    with open("d/settings.json", "w") as file:
        json.dump({"data": "mnist", "epochs": 7, "seed": 9}, file)
    assert main(["train", "--resume", "d", "--data", "digits", "--epochs", "1", "--json"]) == 0
    assert one_object(capsys.readouterr().out)["seed"] == 0
    os.unlink("d/checkpoint.npz")
    assert main(["train", "--resume", "d", "--seed", "2", "--json"]) == 0
    report = one_object(capsys.readouterr().out)
    assert (report["seed"], report["epochs"]) == (2, 1)


def test_damaged_files_of_a_run(small, capsys):
    assert main(["train", "--epochs", "1", "--out", "d"]) == 0
    capsys.readouterr()
    with open("d/checkpoint.npz", "r+b") as file:
        file.truncate(500)
    assert os.path.join("d", "checkpoint.npz") + ": is truncated" in failed(capsys, "train", "--resume", "d")
    for text in ("{", "[]", '{"data": "evil"}'):
        with open("d/settings.json", "w") as file:
            file.write(text)
        assert os.path.join("d", "settings.json") in failed(capsys, "train", "--resume", "d")


def test_mnist(tmp_path, capsys, monkeypatch):
    from test_datasets import write_mnist

    write_mnist(tmp_path / "data" / "mnist", n=(40, 20))
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path / "data"))
    assert main(["train", "--data", "mnist", "--epochs", "1", "--json"]) == 0
    report = one_object(capsys.readouterr().out)
    assert report["data"] == "mnist"
    model = Sequential.load(report["model"])
    assert isinstance(model.layers[0], layers.Rescaling)
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path / "nothing"))
    assert main(["evaluate", report["model"], "--data-dir", str(tmp_path / "data" / "mnist"), "--json"]) == 0
    assert one_object(capsys.readouterr().out)["loss"] == report["loss"]
    assert "MINICNN_DATA" in failed(capsys, "train", "--data", "mnist")
    assert "--data-dir is for --data mnist" in failed(capsys, "train", "--data-dir", "x")


class Interrupt(minicnn.callbacks.Callback):
    """Ctrl-C in the middle of epoch 1 (counted from 0)."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 10:
            raise KeyboardInterrupt


def test_ctrl_c_saves_and_leaves_a_run_that_goes_on(small, capsys, monkeypatch):
    options = ["train", "--json", "--epochs", "3", "--out"]
    assert main([*options, "straight"]) == 0
    straight = one_object(capsys.readouterr().out)
    with monkeypatch.context() as patch:
        hooks = cli._Saver.on_train_batch_end
        patch.setattr(cli._Saver, "on_train_batch_end", Interrupt.on_train_batch_end)
        assert main([*options, "d"]) == 130
    assert cli._Saver.on_train_batch_end is hooks
    out, err = capsys.readouterr()
    assert out == ""
    assert "minicnn train --resume d" in err
    assert "Traceback" not in err
    assert Sequential.load("d/model.npz").layers[0].state["step"] == 10
    assert main(["train", "--json", "--resume", "d"]) == 0
    resumed = one_object(capsys.readouterr().out)
    assert resumed["fingerprint"] == straight["fingerprint"]
    assert resumed["without_dropout"] == straight["without_dropout"]


def test_a_new_run_forgets_the_checkpoints_of_an_old_one(small, capsys, monkeypatch):
    assert main(["train", "--epochs", "2", "--out", "d"]) == 0

    def interrupt(self, batch, logs=None):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(cli._Saver, "on_train_batch_begin", interrupt)
        assert main(["train", "--epochs", "2", "--out", "d", "--seed", "1"]) == 130
    capsys.readouterr()
    assert main(["train", "--json", "--resume", "d"]) == 0
    out, err = capsys.readouterr()
    assert "going on" not in err
    assert one_object(out)["seed"] == 1


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_real_ctrl_c():
    command = [sys.executable, "-m", "minicnn", "train", "--epochs", "10000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    for line in process.stderr:
        if "epoch" in line:
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert "--resume minicnn-run" in err
    Sequential.load("minicnn-run/model.npz")


def test_a_run_that_diverges(small, capsys):
    assert main(["train", "--lr", "1e38", "--epochs", "3"]) == 1
    err = capsys.readouterr().err
    assert "minicnn: error: Sequential.fit" in err
    assert "the loss must stay finite" in err
    assert "Traceback" not in err


def test_an_unwritable_place_is_found_before_training(capsys):
    with open("file", "w"):
        pass
    assert "error: file: File exists" in failed(capsys, "train", "--out", "file")
    assert "file/below: Not a directory" in failed(capsys, "train", "--out", "file/below")
    if os.name == "posix" and os.geteuid() != 0:
        os.mkdir("closed", 0o500)
        assert "Permission denied" in failed(capsys, "train", "--out", "closed/run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "x"], "argument --epochs: invalid whole number value: 'x'"),
        (["--epochs", "0"], "argument --epochs: must be at least 1 and at most 1000000; got 0"),
        (["--epochs", "1.5"], "--epochs: invalid whole number"),
        (["--batch-size", "0"], "--batch-size"),
        (["--lr", "nan"], "--lr"),
        (["--lr", "inf"], "--lr"),
        (["--lr", "-1"], "--lr"),
        (["--momentum", "1"], "argument --momentum: must be at least 0 and below 1; got 1"),
        (["--dropout", "1.1"], "--dropout"),
        (["--dropout", "half"], "argument --dropout: invalid number value: 'half'"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**64)], "--seed"),
        (["--threads", "0"], "--threads"),
        (["--data", "imagenet"], "argument --data: invalid choice"),
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
        (["--evil"], "unrecognized arguments: --evil"),
        (["extra"], "unrecognized arguments: extra"),
    ],
)
def test_wrong_usage_of_train(arguments, message, capsys, tmp_path):
    assert message in usage(capsys, "train", *arguments)
    assert os.listdir(tmp_path) == []


# ---- tune ----

TUNE = ["tune", "--rates", "0,0.5", "--epochs", "2"]


def test_tune_prints_a_table_and_writes_it_with_a_picture(small, capsys):
    pytest.importorskip("matplotlib")
    assert main(TUNE) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("digits: 200 training images, 3 folds, 3 runs a rate, 2 epochs, ")
    assert lines[2].split() == ["rate", "train_loss", "val_loss", "gap", "train_acc", "val_acc"]
    assert [line.split()[0] for line in lines[3:5]] == ["0", "0.5"]
    folder = "minicnn-tune"
    assert lines[-1] == f"saved: {os.path.join(folder, 'tune.json')}, {os.path.join(folder, 'tune.png')}"
    assert len(err.splitlines()) == 6
    assert sorted(os.listdir(folder)) == ["tune.json", "tune.png"]
    with open("minicnn-tune/tune.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"
    with open("minicnn-tune/tune.json") as file:
        found = json.load(file)
    assert [row["rate"] for row in found["table"]] == [0.0, 0.5]
    assert found["lr"] == 0.05  # as train's


def test_tune_json_and_the_options(small, capsys, monkeypatch):
    monkeypatch.setattr(datasets.digits, "load_data", lambda: (small[0], None))  # code that touches the test part fails
    reports = {}
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # no pictures: they take time
    numbers = ["--lr 0.01", "--momentum 0.5", "--batch-size 50", "--seed 1", "--epochs 1", "--threads 1"]
    for more in ["", "--repeats 2", "--cv 2", *numbers]:
        assert main([*TUNE, "--json", "--out", "a/b", *more.split()]) == 0
        reports[more] = one_object(capsys.readouterr().out)
        with open("a/b/tune.json") as file:
            assert reports[more].items() >= json.load(file).items()
    plain = reports[""]
    assert plain["saved"][0] == os.path.join("a/b", "tune.json")
    assert (plain["data"], plain["samples"], plain["cv"], plain["repeats"], plain["epochs"]) == ("digits", 200, 3, 1, 2)
    assert plain["best_rate"] in (0.0, 0.5)
    assert [len(report["runs"]) for report in reports.values()] == [6, 12, 4, 6, 6, 6, 6, 6, 6]
    assert reports.pop("--threads 1")["table"] == plain["table"]
    losses = {json.dumps([row["val_loss"] for row in report["table"]]) for report in reports.values()}
    assert len(losses) == len(reports)


def test_tune_in_two_processes(small, capsys, monkeypatch):
    pytest.importorskip("joblib")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for jobs in ("1", "2"):
        assert main([*TUNE, "--jobs", jobs, "--out", jobs]) == 0
    with open("1/tune.json", "rb") as one, open("2/tune.json", "rb") as two:
        assert one.read() == two.read()


def test_tune_without_matplotlib_and_joblib(small, capsys, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "joblib"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main([*TUNE, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == 'minicnn: no picture: plotting needs matplotlib: pip install "minicnn[plot]"'
    assert one_object(out)["saved"] == [os.path.join("minicnn-tune", "tune.json")]
    assert os.listdir("minicnn-tune") == ["tune.json"]
    assert 'pip install "minicnn[tune]"' in failed(capsys, *TUNE, "--jobs", "2")


def test_ctrl_c_in_tune(small, capsys, monkeypatch):
    def interrupt(*arguments):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Sequential, "evaluate", interrupt)
    assert main(TUNE) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")
    assert os.listdir("minicnn-tune") == []


def test_tune_finds_an_unwritable_place_and_folds_that_are_too_small_first(small, capsys):
    with open("file", "w"):
        pass
    assert "error: file: File exists" in failed(capsys, *TUNE, "--out", "file")
    assert "Lower cv" in failed(capsys, *TUNE, "--cv", "100")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--rates", ""], "argument --rates: must be different numbers from 0 to 1 with commas between them"),
    (["--rates", "0,,1"], "argument --rates: must be"), (["--rates", "0,2"], "such as 0,0.1,0.3; got '0,2'"),
    (["--rates", "nan"], "argument --rates: must be"), (["--rates", "0.1,.1"], "argument --rates: must be different"),
    (["--rates", "half"], "argument --rates: must be"), (["--rates", "-0.1,0"], "argument --rates: "),
    (["--cv", "1"], "argument --cv: must be at least 2"), (["--repeats", "0"], "argument --repeats"),
    (["--jobs", "0"], "argument --jobs"), (["--epochs", "0"], "argument --epochs"),
    (["--dropout", "0.5"], "unrecognized arguments: --dropout"), (["--resume", "d"], "unrecognized arguments"),
])  # fmt: skip
def test_wrong_usage_of_tune(arguments, message, capsys, tmp_path):
    assert message in usage(capsys, "tune", *arguments)
    assert os.listdir(tmp_path) == []


# ---- evaluate, predict, summary, info ----


def test_evaluate(model_file, capsys):
    assert main(["evaluate", model_file, "--json"]) == 0
    report = one_object(capsys.readouterr().out)
    model = Sequential.load(model_file)
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    assert [report["loss"], report["accuracy"]] == model.evaluate(*datasets.digits.load_data()[1], batch_size=256)
    assert (report["data"], report["samples"]) == ("digits", 500)
    assert main(["evaluate", model_file, "--threads", "1"]) == 0
    assert f"loss {report['loss']:.4f}" in capsys.readouterr().out


def test_predict_npy_files_as_they_are(model_file, capsys):
    _, (x, _) = datasets.digits.load_data()
    model = Sequential.load(model_file)
    expected = model.predict_proba(x[:3])
    np.save("one.npy", x[0])
    np.save("flat.npy", x[0, :, :, 0])
    np.save("batch.npy", x[:3].astype(np.float64))
    np.save("grey.npy", x[:3, :, :, 0])
    assert main(["predict", model_file, "one.npy", "flat.npy", "batch.npy", "grey.npy", "--json"]) == 0
    found = one_object(capsys.readouterr().out)["predictions"]
    places = [(entry["file"], entry["index"]) for entry in found]
    batches = [(file, index) for file in ("batch.npy", "grey.npy") for index in range(3)]
    assert places == [("one.npy", None), ("flat.npy", None), *batches]
    rows = [0, 0, 0, 1, 2, 0, 1, 2]
    assert [entry["class"] for entry in found] == expected.argmax(1)[rows].tolist()
    np.testing.assert_allclose([entry["probability"] for entry in found], expected.max(1)[rows])
    assert main(["predict", model_file, "one.npy", "batch.npy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["one.npy", "batch.npy[0]", "batch.npy[1]", "batch.npy[2]"]
    assert lines[0].split("\t")[1:] == [str(expected[0].argmax()), f"{expected[0].max():.4f}"]


def test_predict_images_scales_unless_the_model_does(model_file, capsys):
    image = pytest.importorskip("PIL.Image")
    grey = (np.arange(64) * 4).astype(np.uint8).reshape(8, 8)
    image.fromarray(grey).save("a.png")
    plain = Sequential.load(model_file)
    scaling = Sequential([layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(10, activation="softmax")])
    scaling.build((8, 8, 1))
    scaling.layers[2].params["kernel"][...] = plain.layers[1].params["kernel"]
    scaling.save("scaling.npz")
    expected = plain.predict(grey[None, :, :, None].astype(np.float32) / 255)
    for file in (model_file, "scaling.npz"):
        assert main(["predict", file, "a.png", "--json"]) == 0
        (entry,) = one_object(capsys.readouterr().out)["predictions"]
        assert entry["class"] == expected.argmax()
        assert entry["probability"] == pytest.approx(expected.max(), rel=1e-5)


def test_predict_with_a_single_output(capsys):
    model = Sequential([layers.Flatten(), layers.Dense(1, activation="sigmoid", kernel_initializer="ones")])
    model.build((2,))
    model.save("m.npz")
    np.save("x.npy", np.array([[3.0, 0], [-1, -1]]))
    assert main(["predict", "m.npz", "x.npy", "--json"]) == 0
    found = one_object(capsys.readouterr().out)["predictions"]
    assert [entry["class"] for entry in found] == [1, 0]
    np.testing.assert_allclose([entry["probability"] for entry in found], 1 / (1 + np.exp([-3, -2])), rtol=1e-6)


def test_predict_refuses_bad_files_by_name(model_file, capsys, tmp_path):
    image = pytest.importorskip("PIL.Image")
    np.save("shape.npy", np.zeros((9, 9)))
    np.save("text.npy", np.array(["a"]))
    np.save("object.npy", np.array([None]), allow_pickle=True)
    np.save("nan.npy", np.full((8, 8), np.nan))
    np.savez("archive.npz", a=np.zeros(3))
    os.rename("archive.npz", "archive.npy")
    image.new("L", (8, 8)).save("whole.png")
    with open("whole.png", "rb") as file:
        whole = file.read()
    with open("bad.png", "wb") as file:
        file.write(whole[:40])
    with open("short.npy", "wb") as file:
        file.write(b"\x93NUMPY\x01\x00")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 8, 8, 1), }"
    with open("bomb.npy", "wb") as file:
        file.write(b"\x93NUMPY\x01\x00v\x00" + header.ljust(117) + b"\n")
    for name in ("shape.npy", "text.npy", "object.npy", "nan.npy", "archive.npy", "bad.png", "short.npy", "bomb.npy"):
        assert f"error: {name}: " in failed(capsys, "predict", model_file, name)
    assert "error: absent.npy: No such file or directory" in failed(capsys, "predict", model_file, "absent.npy")
    assert "error: absent.png: No such file or directory" in failed(capsys, "predict", model_file, "absent.png")
    assert str(tmp_path) in failed(capsys, "predict", model_file, str(tmp_path))


def test_predict_without_pillow_says_what_to_install(model_file, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with open("a.png", "wb"):
        pass
    assert 'pip install "minicnn[images]"' in failed(capsys, "predict", model_file, "a.png")


@pytest.mark.parametrize("verb", ["evaluate", "summary", "predict"])
def test_files_that_are_no_models(verb, capsys, tmp_path):
    more = ["x.npy"] if verb == "predict" else []
    assert "error: absent.npz: No such file or directory" in failed(capsys, verb, "absent.npz", *more)
    assert f"error: {tmp_path}: Is a directory" in failed(capsys, verb, str(tmp_path), *more)
    with open("empty.npz", "wb"):
        pass
    assert "error: empty.npz: is empty" in failed(capsys, verb, "empty.npz", *more)
    failed(capsys, verb, "", *more)


def test_models_for_other_data(capsys):
    model = Sequential([layers.Dense(2)])
    model.build((3,))
    model.save("m.npz")
    assert "x must have shape (N, 3)" in failed(capsys, "evaluate", "m.npz")
    model = Sequential([layers.Conv2D(2, 1)])
    model.build((8, 8, 1))
    model.save("m.npz")
    assert "one row of outputs" in failed(capsys, "predict", "m.npz", "x.npy")


def test_summary(model_file, capsys):
    assert main(["summary", model_file]) == 0
    assert capsys.readouterr().out == Sequential.load(model_file).summary_text() + "\n"


def test_info(capsys):
    assert main(["info", "--json", "--threads", "1"]) == 0
    facts = one_object(capsys.readouterr().out)
    assert facts == minicnn.versions()
    assert facts["threads"] == 1
    assert {"minicnn", "python", "numpy", "instruction set", "openmp"} <= set(facts)
    assert main(["info"]) == 0
    assert f"minicnn:         {minicnn.__version__}" in capsys.readouterr().out


# ---- the door ----


def test_help_and_version(capsys):
    for arguments in (["--help"], ["train", "--help"], ["predict", "-h"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert "usage: minicnn" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"minicnn {minicnn.__version__}\n"
    assert "required: VERB" in usage(capsys)
    assert "invalid choice: 'evil'" in usage(capsys, "evil")
    assert "required: FILE" in usage(capsys, "predict", "m.npz")


def test_python_m_and_the_exit_status(model_file):
    assert run("summary", model_file).returncode == 0
    assert run("summary", "absent").returncode == 1
    assert run("--help").stdout.startswith("usage: minicnn ")
    assert run("train", "--epochs", "x").returncode == 2


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices as POSIX has them")
def test_stdout_that_takes_nothing(model_file):
    reader, writer = os.pipe()
    os.close(reader)
    done = run("summary", model_file, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
    with open("/dev/full", "w") as full:
        done = run("summary", model_file, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "minicnn: error: [Errno 28] No space left on device\n"
    shell = f"'{sys.executable}' -m minicnn info >&-"
    done = subprocess.run(shell, shell=True, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 exist on Linux only")
def test_names_that_are_not_utf_8(model_file, capsys):
    name = os.fsdecode(b"\xff.npz")
    os.rename(model_file, name)
    assert run("evaluate", name).returncode == 0
    np.save("x.npy", np.zeros((8, 8)))
    os.rename("x.npy", os.fsdecode(b"\xfe.npy"))
    done = run("predict", name, os.fsdecode(b"\xfe.npy"), env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.startswith("\\udcfe.npy\t")
    assert run("summary", os.fsdecode(b"\xfd.npz")).returncode == 1


# ---- predict: what the model was trained on ----


def pictures(low=0, high=255):
    """(uint8 pictures of two kinds, bars that lie and bars that stand, labels)."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = rng.integers(low, low + 60, (40, 10, 10, 1)).astype(np.uint8)
    for image, label in zip(x, y, strict=True):
        at = rng.integers(1, 8)
        bar = image[at : at + 2] if label else image[:, at : at + 2]
        bar[...] = rng.integers(high - 60, high + 1, bar.shape)
    x[0, 0, 0], x[0, 0, 1] = low, high
    return x, y


WAYS = {
    "bytes": (lambda v: v, []),
    "dark bytes": (lambda v: v // 4 * 3, []),
    "bytes with Rescaling": (lambda v: v, [layers.Rescaling(1 / 255)]),
    "unit": (lambda v: v.astype(np.float32) / 255, []),
    "unit with Rescaling": (lambda v: v / 255, [layers.Rescaling(2.0, -1.0)]),
    "signed": (lambda v: v / 127.5 - 1, []),
    "sixteen": (lambda v: v / 255 * 16, []),
    "standardised": (lambda v: (v / 255 - 0.3) / 0.25, []),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_command_line_answers_as_python_does(way, capsys):
    image = pytest.importorskip("PIL.Image")
    prepared, first = WAYS[way]
    chain = [layers.Conv2D(6, 3), layers.BatchNormalization(), layers.ReLU(), layers.Flatten()]
    model = Sequential([*first, *chain, layers.Dense(2, activation="softmax")])
    model.compile(minicnn.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    x, y = pictures()
    model.fit(prepared(x), y, epochs=40, batch_size=10, verbose=0)
    model.save("m.npz")
    expected = model.predict_proba(prepared(x))
    assert (expected.argmax(1) == y).mean() > 0.9
    files = [f"{number}.png" for number in range(len(x))]
    saved = prepared(x) if way == "dark bytes" else x  # with bytes that do not reach 255 nothing is stretched
    for file, values in zip(files, saved, strict=True):
        image.fromarray(values[..., 0]).save(file)
    assert main(["predict", "m.npz", *files, "--json"]) == 0
    out, err = capsys.readouterr()
    found = one_object(out)["predictions"]
    assert [entry["class"] for entry in found] == expected.argmax(1).tolist()
    np.testing.assert_allclose([entry["probability"] for entry in found], expected.max(1), atol=1e-4)
    assert err == ""
    np.save("bytes.npy", saved)
    np.save("prepared.npy", prepared(x))
    for file in ("bytes.npy", "prepared.npy"):
        assert main(["predict", "m.npz", file, "--json"]) == 0
        out, err = capsys.readouterr()
        again = [entry["probability"] for entry in one_object(out)["predictions"]]
        np.testing.assert_allclose(again, expected.max(1), atol=1e-4)
        scaled = file == "bytes.npy" and "bytes" not in way
        assert err.startswith("minicnn: note: bytes.npy: uint8, scaled like a picture") if scaled else err == ""


@pytest.fixture
def digit_model():
    """A model that has seen the digits, in [0, 1], bright ink on dark paper; some test pictures as files."""
    image = pytest.importorskip("PIL.Image")
    model = Sequential([layers.Flatten(), layers.Dense(10, activation="softmax")])
    model.compile(minicnn.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    (x, y), (x_test, _) = datasets.digits.load_data()
    model.fit(x, y, epochs=3, verbose=0)
    model.save("digits.npz")
    for number, values in enumerate(np.rint(x_test[:100, ..., 0] * 255).astype(np.uint8)):
        image.fromarray(values).save(f"{number}.png")
        image.fromarray(255 - values).save(f"{number}-negative.png")
    return model, x_test


def test_dark_ink_on_bright_paper_is_noticed_and_inverted(digit_model, capsys):
    model, x_test = digit_model
    plain, negative = [f"{n}.png" for n in range(100)], [f"{n}-negative.png" for n in range(100)]
    assert main(["predict", "digits.npz", *plain]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [int(line.split("\t")[1]) for line in out.splitlines()] == model.predict(x_test[:100]).argmax(1).tolist()
    assert main(["predict", "digits.npz", *negative]) == 0
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) >= 95
    assert all("dark and bright look exchanged" in line and line.endswith("; try --invert") for line in warned)
    assert main(["predict", "digits.npz", "--invert", *negative]) == 0
    inverted, err = capsys.readouterr()
    assert inverted.replace("-negative", "") == out
    assert err == ""
    assert main(["predict", "digits.npz", "--invert", *plain]) == 0
    assert "leave out --invert" in capsys.readouterr().err


def test_what_is_not_known_is_said_once(model_file, capsys):
    image = pytest.importorskip("PIL.Image")
    for name in ("a.png", "b.png"):
        image.fromarray(np.zeros((8, 8), np.uint8)).save(name)
    assert main(["predict", model_file, "a.png", "b.png"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "range of the model's training inputs is not known: pictures are scaled to 0 to 1" in line


@pytest.mark.parametrize(
    ("factor", "dtype", "warned"),
    [(1, "f4", False), (1.5, "f4", False), (255, "f4", True), (255, "i4", True), (0.005, "f8", True), (1, "u1", False)],
)
def test_npy_files_far_from_the_training_data(digit_model, factor, dtype, warned, capsys):
    np.save("x.npy", (digit_model[1][:5] * factor).astype(dtype))
    assert main(["predict", "digits.npz", "x.npy"]) == 0
    err = capsys.readouterr().err
    assert ("taken as it is; the model was trained on 0 to 1" in err) is warned
    assert bool(err) is warned


def test_inverting_npy_files(digit_model, capsys):
    model, x_test = digit_model
    bytes_ = np.rint(x_test[:9] * 255).astype(np.uint8)
    np.save("x.npy", 255 - bytes_)
    np.save("f.npy", x_test[:9])
    assert main(["predict", "digits.npz", "x.npy", "f.npy", "--invert", "--json"]) == 0
    out, err = capsys.readouterr()
    expected = model.predict(x_test[:9]).argmax(1).tolist()
    assert [entry["class"] for entry in one_object(out)["predictions"]] == expected * 2
    assert "f.npy: taken as it is: --invert is for pictures" in err


# ---- predict: files that are bad ----


def test_a_bad_file_costs_itself_only(model_file, capsys):
    good = np.zeros((8, 8))
    np.save("good.npy", good)
    np.save("pair.npy", np.stack([good, good]))
    np.save("shape.npy", np.zeros((9, 9)))
    with open("bad.png", "wb") as file:
        file.write(b"no picture")
    files = ["good.npy", "absent.png", "shape.npy", "bad.png", "pair.npy"]
    assert main(["predict", model_file, *files]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["good.npy", "pair.npy[0]", "pair.npy[1]"]
    named = ["absent.png", "shape.npy", "bad.png"]
    assert [line.split(": ")[:3] for line in err.splitlines()] == [["minicnn", "error", name] for name in named]
    assert main(["predict", model_file, *files, "--json"]) == 1
    out, again = capsys.readouterr()
    report = one_object(out)
    assert again == err
    assert [*report] == ["model", "predictions"]
    assert [entry["file"] for entry in report["predictions"]] == [*files, "pair.npy"]
    assert [[*entry] for entry in report["predictions"] if "error" in entry] == [["file", "error"]] * 3
    assert main(["predict", model_file, *named, "--json"]) == 1
    assert [entry["file"] for entry in one_object(capsys.readouterr().out)["predictions"]] == named
    assert main(["predict", model_file, *named]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
def test_pipes_and_devices_do_not_hang(model_file):
    for name in ("x.npy", "x.png", "pipe"):
        os.mkfifo(name)
    done = run("predict", model_file, "x.npy", "x.png", "/dev/zero", "/proc/self/status", timeout=60)
    assert done.returncode == 1
    assert [line.split(": ")[2] for line in done.stderr.splitlines()] == [
        "x.npy", "x.png", "/dev/zero", "/proc/self/status"
    ]  # fmt: skip
    assert done.stderr.count("is not a regular file") == 3
    os.makedirs("run")
    os.mkfifo("run/settings.json")
    done = run("train", "--resume", "run", timeout=60)
    assert (done.returncode, "settings.json: is not a regular file" in done.stderr) == (1, True)


@pytest.mark.parametrize("shape", ["(4611686018427387904,)", "(0, 9223372036854775808)", "(0, 4611686018427387904, 8)",
                                   "(-1, 8, 8)", "(True, 8, 8)", "(2.0, 8)"])  # fmt: skip
def test_npy_headers_that_cannot_be_say_one_line(shape, model_file):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    with open("x.npy", "wb") as file:
        file.write(b"\x93NUMPY\x01\x00v\x00" + text)
    done = run("predict", model_file, "x.npy")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("minicnn: error: x.npy: ")


def test_npy_files_of_other_layouts(model_file, capsys):
    x = np.random.default_rng(0).random((3, 8, 8))
    np.save("c.npy", x)
    np.save("f.npy", np.asfortranarray(x))
    np.save("big.npy", x.astype(">f8"))
    with open("two.npy", "wb") as file:
        np.lib.format.write_array(file, x, version=(2, 0))
    np.save("none.npy", x[:0])
    assert main(["predict", model_file, "c.npy", "f.npy", "big.npy", "two.npy", "none.npy", "--json"]) == 0
    found = [entry["probability"] for entry in one_object(capsys.readouterr().out)["predictions"]]
    assert found == found[:3] * 4


# ---- words that are nearly right ----


def test_usage_suggests_the_nearest_word(capsys):
    assert "unrecognized arguments: --epoch 3. Did you mean --epochs?" in usage(capsys, "train", "--epoch", "3")
    assert "Did you mean --invert?" in usage(capsys, "predict", "m.npz", "x.png", "--inverted")
    assert "Did you mean train?" in usage(capsys, "trian")
    assert "Did you mean" not in usage(capsys, "train", "--xyzzy")
    assert "show versions" in usage(capsys)


@pytest.mark.parametrize(("samples", "steps"), [(64, 2), (65, 2), (66, 3), (1, 1)])
def test_the_schedule_counts_the_steps_that_fit_takes(samples, steps):
    """A last sample joins the batch before it; then there is no step of its own."""
    task = tasks.TASKS["digits"]
    model = tasks.model(task, 0.5, 0, task.settings, samples)
    assert model.optimizer.get_config()["learning_rate"]["config"]["decay_steps"] == steps


@pytest.mark.parametrize(
    ("end", "loss", "words"),
    [
        ("sigmoid", "binary_crossentropy", "several probabilities, each of a yes by itself"),
        (None, "mse", "no probabilities"),
    ],
)
def test_predict_refuses_outputs_that_are_no_classes(end, loss, words, capsys):
    model = Sequential([layers.Flatten(), layers.Dense(3, activation=end)])
    model.compile("sgd", loss)
    model.build((4, 4, 1))
    model.save("other.npz")
    np.save("x.npy", np.zeros((1, 4, 4, 1), np.float32))
    assert main(["predict", "other.npz", "x.npy"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "predict needs probabilities of the classes" in err
    assert words in err
