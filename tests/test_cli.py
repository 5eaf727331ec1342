"""The command line: exit statuses, what goes to stdout, what is written, and resumed runs that equal straight ones."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import minicnn
from minicnn import Sequential, datasets, inputs, layers, networks, tune
from minicnn.cli import augment, building, defaults, evaluate, main, parser, runs, sources

# The tests run in folders of their own: there the package that is tested must be found, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(minicnn.__file__)))}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path / "nothing"))  # no data from outside


@pytest.fixture
def small(monkeypatch):
    """A network and a data set that train in no time."""

    def network(input_shape, classes, dropout):
        return [
            layers.Dropout(dropout / 2),
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(classes, activation="softmax"),
        ]

    monkeypatch.setitem(networks.NETWORKS, "small", network)
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


def one_object(text, kind=dict):
    """The only JSON object in stdout."""
    lines = text.splitlines()
    assert len(lines) == 1
    found = json.loads(lines[0], parse_constant=pytest.fail)
    assert isinstance(found, kind)
    return found


def predictions(text):
    """The bare list that predict prints."""
    return one_object(text, list)


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
    assert set(os.listdir("minicnn-run-1")) == files
    with open("minicnn-run-1/history.json") as file:
        history = json.load(file)
    lengths = {"loss": 1, "accuracy": 1, "clean_loss": 1, "clean_accuracy": 1, "learning_rate": 1}
    assert {name: len(values) for name, values in history.items()} == lengths
    assert history["clean_loss"] < history["loss"]  # nothing dropped, and the weights of the end of the epoch
    assert "train mode: loss" in done.stderr
    assert "eval mode: clean_loss" in done.stderr
    model = Sequential.load("minicnn-run-1/model.npz")
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


@pytest.mark.parametrize("augments", [False, True])
def test_a_resumed_run_is_the_straight_one(augments, small, capsys, monkeypatch):
    plain = networks.NETWORKS["small"]

    def network(*arguments, **more):
        return [layers.RandomTranslation(0.2, 0.2), *plain(*arguments, **more)]

    if augments:
        monkeypatch.setitem(networks.NETWORKS, "small", network)
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
    assert "d: there is a run already, with checkpoint.npz" in failed(capsys, "train", "--out", "d")
    line = failed(capsys, "train", "--resume", "d", "--seed", "4")
    assert "d was begun with --seed 0, not 4" in line
    assert "--batch-size 32, not 8" in failed(capsys, "train", "--resume", "d", "--batch-size", "8")
    assert "--data digits, not mnist" in failed(capsys, "train", "--resume", "d", "--data", "mnist")
    assert "leave out --out, or give the same folder" in usage(capsys, "train", "--resume", "d", "--out", "e")
    assert main(["train", "--epochs", "1", "--out", "d", "--seed", "4", "--overwrite"]) == 0
    assert "going on" not in capsys.readouterr().err


def test_resume_without_a_checkpoint_begins_afresh_with_what_is_asked(small, capsys):
    os.mkdir("d")
    with open("d/settings.json", "w") as file:
        json.dump({"data": "mnist", "epochs": 7, "seed": 9}, file)
    assert main(["train", "--resume", "d", "--data", "digits", "--epochs", "1", "--json"]) == 0
    assert one_object(capsys.readouterr().out)["seed"] == 0
    os.unlink("d/checkpoint.npz")
    line = failed(capsys, "train", "--resume", "d", "--seed", "2")  # a finished model, which a new run would replace
    assert "d: there is a run already, with model.npz; choose another folder, or --overwrite it" in line
    for name in ("model.npz", "history.json"):
        os.unlink(f"d/{name}")
    assert main(["train", "--resume", "d", "--seed", "2", "--json"]) == 0
    report = one_object(capsys.readouterr().out)
    assert (report["seed"], report["epochs"]) == (2, 1)


@pytest.mark.parametrize("finished", [False, True])
def test_of_two_runs_in_one_folder_the_later_one_is_refused(small, capsys, monkeypatch, finished):
    """The other one begins, or begins and ends, while this one reads its data."""
    load = sources.load

    def slowly(*arguments, **more):
        monkeypatch.setattr(sources, "load", load)
        if finished:
            assert main(["train", "--epochs", "1", "--out", "d", "--seed", "3"]) == 0
            capsys.readouterr()
        else:
            options = parser.parser_of().parse_args(["train", "--out", "d", "--seed", "3"])
            runs.Run(options).begin({})
        return load(*arguments, **more)

    monkeypatch.setattr(sources, "load", slowly)
    assert "d: there is a run already" in failed(capsys, "train", "--epochs", "1", "--out", "d")
    with open("d/settings.json") as file:
        assert json.load(file)["seed"] == 3
    assert os.path.exists("d/model.npz") == finished


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
        hooks = runs.Saver.on_train_batch_end
        patch.setattr(runs.Saver, "on_train_batch_end", Interrupt.on_train_batch_end)
        assert main([*options, "d"]) == 130
    assert runs.Saver.on_train_batch_end is hooks
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
        patch.setattr(runs.Saver, "on_train_batch_begin", interrupt)
        assert main(["train", "--epochs", "2", "--out", "d", "--seed", "1", "--overwrite"]) == 130
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
    assert "--resume minicnn-run-1" in err
    Sequential.load("minicnn-run-1/model.npz")


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
    monkeypatch.setitem(networks.NETWORKS, "small", networks.small)  # other processes know no other
    for jobs in ("1", "2"):
        assert main([*TUNE, "--jobs", jobs, "--out", jobs]) == 0
    with open("1/tune.json", "rb") as one, open("2/tune.json", "rb") as two:
        assert one.read() == two.read()


def test_tune_in_dask(small, capsys, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setitem(networks.NETWORKS, "small", networks.small)
    assert main([*TUNE, "--out", "one"]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            assert main([*TUNE, "--dask", cluster.scheduler_address, "--out", "two"]) == 0
    one, two = (Path(folder, "tune.json").read_text() for folder in ("one", "two"))
    assert one == two


def test_tune_without_dask(small, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert 'needs dask: pip install "minicnn[dask]"' in failed(capsys, *TUNE, "--dask", "tcp://127.0.0.1:1")
    assert "with --dask all of its workers train" in usage(capsys, *TUNE, "--dask", "a", "--jobs", "2")


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
    numbers = [row["class"] for row in report["classes"]], sum(row["support"] for row in report["classes"])
    assert numbers == ([*"0123456789"], 500)
    assert report["weighted avg"]["recall"] == pytest.approx(report["accuracy"])
    assert main(["evaluate", model_file, "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert f"loss {report['loss']:.4f}" in out
    assert f"macro avg {report['macro avg']['precision']:10.2f}" in out


def test_predict_npy_files_as_they_are(model_file, capsys):
    _, (x, _) = datasets.digits.load_data()
    model = Sequential.load(model_file)
    expected = model.predict_proba(x[:3])
    np.save("one.npy", x[0])
    np.save("flat.npy", x[0, :, :, 0])
    np.save("batch.npy", x[:3].astype(np.float64))
    np.save("grey.npy", x[:3, :, :, 0])
    assert main(["predict", model_file, "one.npy", "flat.npy", "batch.npy", "grey.npy", "--json"]) == 0
    found = predictions(capsys.readouterr().out)
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
        (entry,) = predictions(capsys.readouterr().out)
        assert entry["class"] == expected.argmax()
        assert entry["probability"] == pytest.approx(expected.max(), rel=1e-5)


def test_predict_with_a_single_output(capsys):
    model = Sequential([layers.Flatten(), layers.Dense(1, activation="sigmoid", kernel_initializer="ones")])
    model.build((2,))
    model.save("m.npz")
    np.save("x.npy", np.array([[3.0, 0], [-1, -1]]))
    assert main(["predict", "m.npz", "x.npy", "--json"]) == 0
    found = predictions(capsys.readouterr().out)
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
    os.mkdir("empty")
    assert "error: empty: there is no picture in this folder" in failed(capsys, "predict", model_file, "empty")


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


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
@pytest.mark.parametrize("arguments", ["--version", "--help", "predict m.npz x.npy"])
def test_a_reader_that_went_away(arguments, model_file):
    np.save("x.npy", np.zeros((3000, 8, 8)))  # more than a buffer
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*arguments.split(), capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode in ((0, 1) if arguments == "--help" else (1,))  # argparse passes over it
    assert done.stderr == ""


def test_a_closed_stderr_leaves_stdout_as_it_is(model_file, capsys, monkeypatch):
    np.save("x.npy", np.zeros((2, 8, 8)))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        assert main(["predict", model_file, "gone.png", "x.npy", "--json"]) == 1
    assert len(predictions(capsys.readouterr().out)) == 3


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
    found = predictions(out)
    assert [entry["class"] for entry in found] == expected.argmax(1).tolist()
    np.testing.assert_allclose([entry["probability"] for entry in found], expected.max(1), atol=1e-4)
    assert err == ""
    np.save("bytes.npy", saved)
    np.save("prepared.npy", prepared(x))
    for file in ("bytes.npy", "prepared.npy"):
        assert main(["predict", "m.npz", file, "--json"]) == 0
        out, err = capsys.readouterr()
        again = [entry["probability"] for entry in predictions(out)]
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
    assert [entry["class"] for entry in predictions(out)] == expected * 2
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
    report = predictions(out)
    assert again == err
    assert [entry["file"] for entry in report] == [*files, "pair.npy"]
    assert [[*entry] for entry in report if "error" in entry] == [["file", "error"]] * 3
    assert main(["predict", model_file, *named, "--json"]) == 1
    assert [entry["file"] for entry in predictions(capsys.readouterr().out)] == named
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
    assert main(["predict", model_file, "c.npy", "f.npy", "big.npy", "two.npy", "--json"]) == 0
    found = [entry["probability"] for entry in predictions(capsys.readouterr().out)]
    assert found == found[:3] * 4


@pytest.mark.parametrize("shape", [(0,), (0, 8, 8), (0, 8, 8, 1)])
def test_a_npy_file_without_an_image_is_an_error(shape, model_file, capsys):
    np.save("none.npy", np.zeros(shape))
    assert main(["predict", model_file, "none.npy", "--json"]) == 1
    (entry,) = predictions(capsys.readouterr().out)
    assert [*entry] == ["file", "error"]
    assert entry["error"].startswith("none.npy: ")


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
    settings = {"data": "digits", "lr": 0.05, "momentum": 0.9, "optimizer": "sgd", "schedule": "exponential"}
    optimizer = building.optimizer(settings | {"batch_size": 32, "epochs": 2}, samples)
    assert optimizer.get_config()["learning_rate"]["config"]["decay_steps"] == steps


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


# ---- pictures of one's own ----


def draw(folder, name, count, seed=0, size=(10, 14)):
    """Pictures of a kind, red, green or blue on grey, in a folder; their paths."""
    image = pytest.importorskip("PIL.Image")
    os.makedirs(folder, exist_ok=True)
    rng, paths = np.random.default_rng([seed, len(name)]), []
    for number in range(count):
        pixels = rng.integers(100, 140, (*size, 3)).astype(np.uint8)
        pixels[2:8, 2:8, ("red", "green", "blue").index(name)] = 250
        paths.append(os.path.join(folder, f"{name}-{number}.png"))
        image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def pics():
    """A folder of pictures, in sizes that differ from the network's."""
    for name, count in (("red", 12), ("green", 8), ("blue", 10)):
        draw(os.path.join("pics", name), name, count)
    return "pics"


OWN = ["train", "--data", "pics", "--image-size", "8", "--json"]


def trained(capsys, *options):
    assert main([*OWN, *options]) == 0
    out, err = capsys.readouterr()
    return one_object(out), err


def test_a_folder_becomes_a_model_with_names_and_pictures_become_names(pics, capsys):
    report, err = trained(capsys, "--epochs", "12", "--lr", "0.005", "--out", "run")
    assert [report[name] for name in ("class_names", "epochs", "measured_on", "data", "network", "skipped")] == [
        ["blue", "green", "red"], 12, "validation", "pics", "small", []
    ]  # fmt: skip
    assert report["samples"] == {"training": 24, "validation": 6}
    assert "without_dropout" not in report
    assert set(os.listdir("run")) == {"checkpoint.npz", "history.json", "model.npz", "settings.json"}
    assert err.count("resized to 8 x 8") == 1
    assert "has 10 x 14; proportions may change: --fit crop" in err
    model = Sequential.load("run/model.npz")
    assert (model.fingerprint(), model.class_names) == (report["fingerprint"], report["class_names"])
    data = datasets.image_folder("pics", 8, validation_split=0.2).validation
    assert model.evaluate(data, return_dict=True) == {name: report[name] for name in ("loss", "accuracy")}
    assert report["accuracy"] == 1
    files = draw("new", "green", 2, seed=1) + draw("new", "red", 1, seed=1)
    assert main(["predict", "run/model.npz", "new", "--json", "--top", "2"]) == 0
    found = predictions(capsys.readouterr().out)
    assert [entry["file"] for entry in found] == files
    assert [entry["class"] for entry in found] == ["green", "green", "red"]
    for entry in found:
        assert [*entry] == ["file", "class", "probability", "top"]
        assert entry["top"][0] == [entry["class"], entry["probability"]]
        assert entry["top"][0][1] > entry["top"][1][1]
        assert len(entry["top"]) == 2
    assert main(["predict", "run/model.npz", files[2], "--top", "9"]) == 0
    assert capsys.readouterr().out.split("\t")[::2][:1] == [files[2]]


def test_evaluate_compares_classes_by_their_names(pics, capsys):
    pytest.importorskip("PIL")
    trained(capsys, "--epochs", "12", "--lr", "0.005", "--out", "run")
    model = Sequential.load("run/model.npz")
    draw("part/red", "red", 3, seed=2)
    draw("part/green", "green", 2, seed=2)
    assert main(["evaluate", "run/model.npz", "part", "--json"]) == 0
    out, err = capsys.readouterr()
    report = one_object(out)
    assert report["confusion_matrix"] == [[0, 0, 0], [0, 2, 0], [0, 0, 3]]
    assert [(row["class"], row["f1-score"]) for row in report["classes"]] == [("blue", 0), ("green", 1), ("red", 1)]
    assert report["macro avg"]["f1-score"] == 1  # of the classes that there are
    assert (report["accuracy"], report["samples"], report["class_names"]) == (1, 5, ["blue", "green", "red"])
    assert "no picture of class 'blue'" in err
    data = datasets.image_folder("pics", 8, class_names=model.class_names)
    assert main(["evaluate", "run/model.npz", "--data", "pics", "--json"]) == 0
    loss, accuracy = model.evaluate(data)
    report = one_object(capsys.readouterr().out)
    np.testing.assert_allclose([report["loss"], report["accuracy"]], [loss, accuracy], rtol=1e-5)
    os.rename("part/green", "part/greem")
    assert "got 'greem'. Did you mean 'green'?" in failed(capsys, "evaluate", "run/model.npz", "part")
    with open("pics/red/bad.png", "wb") as file:
        file.write(b"no picture")
    assert main(["evaluate", "run/model.npz", "pics"]) == 1
    out, err = capsys.readouterr()
    assert "30 images: loss" in out
    assert "taken for blue, green, red" in out
    assert re.search(r"\n +blue +[01]\.\d\d +[01]\.\d\d", out)
    assert "bad.png" in err


@pytest.mark.parametrize("folders", [["0", "1", "2"], ["a", "b", "c"], ["a", "b"]])
def test_a_model_without_names_takes_numbers_or_the_order(folders, capsys):
    pytest.importorskip("PIL")
    model = Sequential([layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3, activation="softmax")])
    model.build((4, 4, 3))
    model.save("m.npz")
    for name in folders:
        draw(os.path.join("x", name), "red", 1, size=(4, 4))
    if len(folders) < 3:
        assert "must have the 3 classes of the model, which has no names; got 2 classes, a, b" in failed(
            capsys, "evaluate", "m.npz", "x"
        )
        return
    assert main(["evaluate", "m.npz", "x", "--json"]) == 0
    out, err = capsys.readouterr()
    assert ("a, b, c are taken in this order" in err) is (folders[0] == "a")
    matrix = np.array(one_object(out)["confusion_matrix"])
    assert matrix.sum(1).tolist() == [1, 1, 1]
    assert main(["predict", "m.npz", "x", "--json"]) == 0
    assert {type(entry["class"]) for entry in predictions(capsys.readouterr().out)} == {int}


def test_numbers_are_no_words_in_the_order_of_folders(capsys):
    """The folder "10" comes before "2" in the alphabet."""
    pytest.importorskip("PIL")
    model = Sequential([layers.Flatten(), layers.Dense(11, activation="softmax")])
    model.build((4, 4, 3))
    model.save("m.npz")
    draw("x/2", "red", 2, size=(4, 4))
    draw("x/10", "red", 1, size=(4, 4))
    assert main(["evaluate", "m.npz", "x", "--json"]) == 0
    matrix = np.array(one_object(capsys.readouterr().out)["confusion_matrix"])
    assert [matrix[2].sum(), matrix[10].sum(), matrix.sum()] == [2, 1, 3]


@pytest.mark.parametrize("end", ["scaled", "bytes"])
def test_evaluate_scales_pictures_as_predict_does(end, pics, capsys):
    data = datasets.image_folder("pics", 8)
    x = data.x if end == "bytes" else data.x / 255
    first = layers.BatchNormalization(momentum=0.5)
    model = Sequential([first, layers.Flatten(), layers.Dense(3, activation="softmax")])
    model.compile(minicnn.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(x, data.y, epochs=30, verbose=0)
    model.class_names = data.class_names
    model.save("m.npz")
    loss, accuracy = model.evaluate(x, data.y)
    assert accuracy > 0.9
    assert main(["evaluate", "m.npz", "pics", "--json"]) == 0
    report = one_object(capsys.readouterr().out)
    np.testing.assert_allclose([report["loss"], report["accuracy"]], [loss, accuracy], rtol=1e-3)


def test_the_folder_of_predict_and_what_is_left_out(model_file, capsys):
    image = pytest.importorskip("PIL.Image")
    for folder in ("x/b", "x/.hidden"):
        os.makedirs(folder)
    for name in ("x/c.png", "x/b/2.PNG", "x/b/10.jpg", "x/.hidden/a.png", "x/.a.png"):
        image.new("L", (8, 8)).save(name)
    for name in ("x/Thumbs.db", "x/b/notes.txt", "x/b/bad.gif"):
        with open(name, "wb") as file:
            file.write(b"no picture")
    assert main(["predict", model_file, "x", "--json"]) == 1
    out, err = capsys.readouterr()
    found = predictions(out)
    assert [entry["file"] for entry in found] == ["x/b/10.jpg", "x/b/2.PNG", "x/b/bad.gif", "x/c.png"]
    assert ["error" in entry for entry in found] == [False, False, True, False]
    assert "1 file left out as no picture, such as x/b/notes.txt" in err
    assert "resized" not in err


def test_one_rule_for_what_is_a_picture(pics, capsys):
    """What is in a file decides, in train, evaluate and predict; names say only what nobody takes for a picture."""
    train = [*OWN, "--epochs", "1", "--validation", "0", "--out"]
    assert main([*train, "first"]) == 0
    for number, name in enumerate(("a.jfif", "b.JPE", "c", "d.TGA", "e.xyz", "f.txt")):
        os.rename(f"pics/red/red-{number}.png", f"pics/red/{name}")
    files = sorted(os.path.join(folder, name) for folder, _, names in os.walk("pics") for name in names)
    for name in ("red/notes.md", "red/labels.csv", "blue/x.npy", "blue/THUMBS.DB", "blue/.hidden.png"):
        with open(f"pics/{name}", "wb") as file:
            file.write(b"no picture")
    for status, bad in ((0, []), (1, ["pics/red/bad.jfif"]), (1, ["pics/red/bad.jfif", "pics/red/zbad"])):
        for name in bad:
            with open(name, "wb") as file:
                file.write(b"no picture")
        skipped = {*bad, "pics/red/notes.md", "pics/red/labels.csv", "pics/blue/x.npy"}
        capsys.readouterr()
        for options in (
            [*train, f"run-{len(bad)}"],
            [*train, "x", "--dry-run"],
            ["evaluate", "first/model.npz", "pics", "--json"],
        ):
            assert main(options) == status
            report = one_object(capsys.readouterr().out)
            assert {entry["file"] for entry in report["skipped"]} == skipped
            assert report["samples"] in (30, {"training": 30})
        assert main(["predict", "first/model.npz", "pics", "--json"]) == status
        out, err = capsys.readouterr()
        assert [entry["file"] for entry in predictions(out)] == sorted([*files, *bad])
        assert [entry["file"] for entry in predictions(out) if "error" in entry] == bad
        assert "3 files left out as no picture" in err
    assert os.path.exists("run-2/model.npz")


def test_a_table_with_a_picture_that_is_not_there_gives_status_1(pics, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    rows = [f"{name}/{name}-{n}.png,{name}" for name in ("red", "blue") for n in range(6)]
    for more, status in (([], 0), (["red/notes.txt,red"], 1), (["red/red-9.png,"], 1)):
        with open("pics/table.csv", "w") as file:
            file.write("\n".join([*rows, *more]))
        options = ["--epochs", "1", "--data", "pics/table.csv"]
        report = f"run-{len(os.listdir())}"
        assert main([*OWN, *options, "--out", report]) == status
        assert main(["evaluate", f"{report}/model.npz", "pics/table.csv"]) == status
    assert main([*TUNE, *options, "--image-size", "8"]) == 1


ODD_LABELS = [
    ["01", "2", "10"], ["1.0", "2.0", "10.0"], ["-1", "0", "3"], ["+1", "-2", "10"], ["a b", " c", "d  e "],
    ["\N{FULLWIDTH DIGIT ONE}", "\N{ARABIC-INDIC DIGIT TWO}", "x"], ["a,b", 'c"d', "e;f"], ["3", "N/A", "x"],
    ["1e3", "1000.5", "x"], ["0x1", "1_000", "inf"], ["cafe\u0301", "猫", "\u200bz"], ["True", "False", "None"],
    ["-0", "1", "2"], ["9" * 20, "9" * 19, "1"], ["0", "1", "2"], ["2", "1", "0"], ["file", "label", "class"],
]  # fmt: skip


@pytest.mark.parametrize("labels", ODD_LABELS, ids=repr)
def test_a_table_has_the_same_classes_in_training_and_in_evaluation(labels, pics, capsys):
    rng, rows = np.random.default_rng(len(repr(labels))), []
    for name in ("red", "green", "blue"):
        rows += [(f"pics/{name}/{name}-{n}.png", labels[rng.integers(3)]) for n in range(8)]
    rows += [("pics/red/red-8.png", labels[0]), ("pics/red/red-9.png", labels[1]), ("pics/red/red-10.png", labels[2])]
    with open("table.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *rows])
    settings = {"data": "table.csv", "validation": 0, "seed": 0, "image_size": (4, 4), "color": "rgb", "fit": "crop"}
    data = sources.load(settings, None)
    (_, y), names = data.parts["training"], data.class_names
    wanted = {file: label.strip().replace("e\u0301", "é").replace("\u200b", "\ufffd") for file, label in rows}
    assert sorted(names) == sorted(set(wanted.values()))
    order = datasets.image_csv("table.csv", "", 4, label_mode="class").files
    assert [names[number] for number in y] == [wanted[file] for file in order]
    model = Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")])
    model.build((4, 4, 3))
    model.class_names = names
    found = evaluate.pictures_for("table.csv", model, "crop")
    assert (found.class_names, found.y.tolist(), found.files) == (names, y.tolist(), order)
    model.class_names = None
    if set(names) == {"0", "1", "2"}:
        assert (
            evaluate.pictures_for("table.csv", model, "crop").y.tolist()
            == y.tolist()
            == [int(wanted[f]) for f in order]
        )


def test_numbers_that_floats_do_not_tell_apart(pics, capsys):
    names = ["9" * 20, "9" * 19 + "8", "3"]
    rows = [f"pics/red/red-{number}.png,{names[number % 3]}" for number in range(9)]
    with open("table.csv", "w") as file:
        file.write("\n".join(rows))
    assert trained(capsys, "--data", "table.csv", "--dry-run", "--validation", "0")[0]["class_names"] == names[::-1]


def test_numbers_and_names_in_one_column_are_said(pics, capsys):
    with open("table.csv", "w") as file:
        file.write("".join(f"pics/red/red-{number}.png,{['3', 'N/A'][number % 2]}\n" for number in range(8)))
    report, err = trained(capsys, "--data", "table.csv", "--dry-run")
    assert report["class_names"] == ["3", "N/A"]
    assert "some labels are numbers, as '3', and others are not, as 'N/A': all are taken for names of classes" in err


def test_two_ways_to_write_a_number_are_no_two_classes(pics, capsys):
    for labels in (("1", "01"), ("1", "1.0"), ("+1", "1")):
        with open("table.csv", "w") as file:
            file.write("".join(f"pics/red/red-{number}.png,{labels[number % 2]}\n" for number in range(8)))
        assert "a class must have one name; got '" in failed(capsys, "train", "--data", "table.csv")


def test_numbers_that_are_no_classes_are_told_so_before_they_are_divided(pics, capsys):
    with open("table.csv", "w") as file:
        file.write("".join(f"pics/red/red-{number}.png,{number / 8}\n" for number in range(8)))
    for share in ("0", "0.2"):
        line = failed(capsys, "train", "--data", "table.csv", "--validation", share)
        assert "which are classes; got 0.125; train a regression in Python" in line


@pytest.mark.skipif(os.name != "posix", reason="names that other systems do not have")
def test_names_that_break_lines_are_shown_with_escapes(model_file, capsys):
    image = pytest.importorskip("PIL.Image")
    names = ["a\nb\tc.png", "\x1b[31mred.png", "é 日.png"]
    for name in names:
        image.new("L", (8, 8)).save(name)
    assert main(["predict", model_file, *names, "\x1b[0m\r.png"]) == 1
    out, err = capsys.readouterr()
    shown = [line.split("\t")[0] for line in out.splitlines()]
    assert shown == [r"a\nb\tc.png", r"\x1b[31mred.png", "é 日.png"]
    assert err.splitlines()[-1] == r"minicnn: error: \x1b[0m\r.png: No such file or directory"
    assert main(["predict", model_file, *names, "--json"]) == 0
    assert [entry["file"] for entry in predictions(capsys.readouterr().out)] == names


def test_what_pillow_warns_of_is_not_passed_on(model_file, capsys, recwarn):
    image = pytest.importorskip("PIL.Image")
    image.new("L", (9, 9)).save("odd.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert main(["predict", model_file, "odd.png"]) == 0
    for name in "ab":
        os.makedirs(f"odd/{name}")
        shutil.copy("odd.png", f"odd/{name}")
    assert main(["train", "--data", "odd", "--validation", "0", "--dry-run"]) == 0
    assert [*recwarn] == []


def test_pictures_are_brought_to_size_as_in_the_run(pics, capsys):
    image = pytest.importorskip("PIL.Image")
    report, err = trained(capsys, "--epochs", "1", "--fit", "crop", "--out", "run")
    assert "proportions are kept, margins are cut off" in err
    pixels = np.random.default_rng(0).integers(0, 256, (8, 40, 3)).astype(np.uint8)
    image.fromarray(pixels).save("wide.png")
    model, found = Sequential.load(report["model"]), {}
    assert model.image_fit == "crop"
    os.rename("run/model.npz", "alone.npz")  # the file knows, wherever it is
    shutil.rmtree("run")
    expected = {fit: datasets.images.read_image("wide.png", (8, 8, 3), *flags) for fit, flags in
                {"crop": (True, False), "pad": (False, True), "stretch": ()}.items()}  # fmt: skip
    for options in ([], ["--fit", "crop"], ["--fit", "pad"], ["--fit", "stretch"]):
        assert main(["predict", "alone.npz", "wide.png", "--json", "--top", "3", *options]) == 0
        out, err = capsys.readouterr()
        assert ("--fit crop, as the model was trained" in err) is not bool(options)
        (entry,) = predictions(out)
        found[" ".join(options[1:])] = entry["probability"]
    for fit, x in expected.items():
        assert found[fit] == pytest.approx(model.predict(x[None]).max(), rel=1e-5)
    assert found[""] == found["crop"]
    assert len(set(found.values())) == 3
    losses = {}
    for options in ([], ["--fit", "crop"], ["--fit", "pad"]):
        assert main(["evaluate", "alone.npz", "pics", "--json", *options]) == 0
        losses[" ".join(options[1:])] = one_object(capsys.readouterr().out)["loss"]
    assert losses[""] == losses["crop"] != losses["pad"]
    assert losses[""] == model.evaluate(datasets.image_folder("pics", 8, crop_to_aspect_ratio=True), batch_size=256)[0]


def test_a_table_of_numbers_names_classes(pics, capsys):
    rows = [f"{name}/{name}-{n}.png,{label}" for name, label in (("red", 10), ("blue", 9)) for n in range(8)]
    with open("pics/table.csv", "w") as file:
        file.write("\n".join(["file,label", *rows]))
    report, _ = trained(capsys, "--data", "pics/table.csv", "--epochs", "6", "--out", "run", "--validation", "0")
    assert report["class_names"] == ["9", "10"]
    assert [report[name] for name in ("loss", "accuracy", "measured_on")] == [None, None, None]
    assert main(["evaluate", "run/model.npz", "pics/table.csv", "--json"]) == 0
    assert one_object(capsys.readouterr().out)["confusion_matrix"] == [[8, 0], [0, 8]]
    with open("pics/table.csv", "a") as file:
        file.write("\ngreen/green-0.png,0.5\n")
    assert "the labels must be names or whole numbers" in failed(capsys, "train", "--data", "pics/table.csv")


RESUMED = [
    "--schedule plateau --early-stopping 3 --lr 0.01",
    "--schedule one-cycle --optimizer sgd --momentum 0.5",
    "--schedule step --class-weight balanced --optimizer nadam --compare",
    "--model resnet8 --schedule cosine --validation 0 --color grayscale",
    "--augment standard,rotation=0.1,brightness,erasing --compare",
]


@pytest.mark.parametrize("options", RESUMED)
def test_a_run_of_ones_own_that_was_stopped_goes_on_bit_for_bit(options, pics, capsys, monkeypatch):
    options = [*options.split(), "--epochs", "6"]
    straight, _ = trained(capsys, *options, "--out", "straight")
    with monkeypatch.context() as patch:

        def interrupt(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

        patch.setattr(runs.Saver, "on_epoch_begin", interrupt)
        assert main([*OWN, *options, "--out", "pieces"]) == 130
    capsys.readouterr()
    os.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    for _ in range(2):  # the second time there is nothing left to be done
        assert main(["train", "--json", "--resume", "../pieces"]) == 0
        out, err = capsys.readouterr()
        report = one_object(out)
        assert "continuing after epoch " in err
        for name in ("loss", "accuracy", "fingerprint", "epochs", "samples", "class_names"):
            assert report[name] == straight[name]
        assert report.get("without_dropout") == straight.get("without_dropout")
    with open("../straight/history.json") as one, open("../pieces/history.json") as other:
        assert one.read() == other.read()


def test_early_stopping_keeps_the_best_weights(pics, capsys):
    report, err = trained(capsys, "--early-stopping", "1", "--epochs", "40", "--lr", "0.03", "--out", "run")
    with open("run/history.json") as file:
        history = json.load(file)
    assert report["epochs"] == len(history["val_loss"]) < 40
    assert "stopped early" in err
    assert report["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-6)
    assert main(["train", "--resume", "run", "--json"]) == 0
    assert one_object(capsys.readouterr().out)["fingerprint"] == report["fingerprint"]


def test_other_settings_of_a_run_of_ones_own_are_refused(pics, capsys):
    trained(capsys, "--schedule", "cosine", "--epochs", "1", "--out", "run")
    for given, said in {
        "--epochs 2": "--schedule cosine, which depends on it, and --epochs 1, not 2",
        "--image-size 9": "--image-size 8x8, not 9x9",
        "--validation 0.3": "--validation 0.2, not 0.3",
        "--optimizer sgd": "--optimizer adam, not sgd",
        "--compare": "--compare False, not True",
        "--model lenet5": "--model small, not lenet5",
        "--augment flip": "--augment None, not flip",
    }.items():
        assert said in failed(capsys, "train", "--resume", "run", *given.split())
    with open("run/settings.json") as file:
        older = {name: value for name, value in json.load(file).items() if name != "augment"}
    with open("run/settings.json", "w") as file:
        json.dump(older, file)
    assert "--augment None, not flip" in failed(capsys, "train", "--resume", "run", "--augment", "flip")
    with open("run/settings.json") as file:
        assert json.load(file) == older  # so it can still go on
    draw("pics/red", "red", 14)
    assert "must be a backup of this run" in failed(capsys, "train", "--resume", "run")


def test_runs_get_folders_of_their_own(pics, small, capsys):
    for number in (1, 2):
        assert main(["train", "--epochs", "1", "--json"]) == 0
        assert one_object(capsys.readouterr().out)["model"] == os.path.join(f"minicnn-run-{number}", "model.npz")
    os.mkdir("minicnn-run-7")
    assert main(["train", "--epochs", "1", "--json"]) == 0
    assert one_object(capsys.readouterr().out)["history"] == os.path.join("minicnn-run-8", "history.json")
    os.mkdir("mine")
    assert main(["train", "--epochs", "1", "--out", "mine"]) == 0  # a folder without a run
    capsys.readouterr()
    before = os.stat("mine/model.npz").st_mtime_ns
    assert "--overwrite it, or go on with it: --resume mine" in failed(capsys, "train", "--out", "mine")
    assert os.stat("mine/model.npz").st_mtime_ns == before
    assert "No such file or folder" in failed(capsys, "train", "--data", "./nothing", "--out", "mine", "--overwrite")
    assert os.stat("mine/model.npz").st_mtime_ns == before
    assert main(["train", "--epochs", "2", "--out", "mine", "--resume"]) == 0
    assert "continuing after epoch 1" in capsys.readouterr().err
    assert main(["train", "--epochs", "1", "--resume", "nope"]) == 0
    assert "there is no run in nope to go on with: it is begun there" in capsys.readouterr().err


def test_a_dry_run_says_all_and_does_nothing(pics, capsys, tmp_path, monkeypatch):
    before = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(Sequential, "fit", None)
    report, _ = trained(capsys, "--dry-run", "--class-weight", "balanced", "--out", "new")
    assert report["classes"] == {
        "blue": {"training": 8, "validation": 2},
        "green": {"training": 6, "validation": 2},
        "red": {"training": 10, "validation": 2},
    }
    assert (report["run"], report["shape"], report["dry_run"]) == ("new", [8, 8, 3], True)
    assert report["settings"]["class_weight"] == "balanced"
    assert report["files"] == ["settings.json", "checkpoint.npz", "history.json", "model.npz"]
    assert main(["train", "--data", "pics", "--dry-run", "--model", "resnet8", "--compare", "--no-compare"]) == 0
    out = capsys.readouterr().out
    assert "Residual" in out
    assert "minicnn-run-1" in out
    assert "red          10           2" in out
    assert sorted(os.listdir(tmp_path)) == before


# ---- augmentation ----

GREY, COLOUR = {"data": "/pics", "color": "grayscale"}, {"data": "/pics", "color": "rgb"}


@pytest.mark.parametrize(("text", "settings", "found"), [
    ("flip", COLOUR, [layers.RandomFlip("horizontal")]), ("flip=both", COLOUR, [layers.RandomFlip()]),
    ("translation", COLOUR, [layers.RandomTranslation(0.1, 0.1)]),
    ("translation=-0.1:0.2", {"data": "mnist"}, [layers.RandomTranslation((-0.1, 0.2), (-0.1, 0.2), "constant")]),
    ("rotation=0.2", {"data": "cifar10"}, [layers.RandomRotation(0.2)]), ("zoom", COLOUR, [layers.RandomZoom(0.1)]),
    ("crop=2", COLOUR, [layers.ZeroPadding2D(2), layers.RandomCrop(24, 16)]),
    ("contrast=0.3:0.5", COLOUR, [layers.RandomContrast((0.3, 0.5), (0, 255))]),
    ("brightness=0.3", COLOUR, [layers.RandomBrightness(0.3, (0, 255))]),
    ("erasing", COLOUR, [layers.RandomErasing(0.5, value_range=(0, 255))]),
    ("standard", COLOUR, [layers.ZeroPadding2D((3, 2)), layers.RandomCrop(24, 16), layers.RandomFlip("horizontal")]),
    ("standard", {"data": "fashion_mnist"}, [layers.ZeroPadding2D((3, 2)), layers.RandomCrop(24, 16),
                                             layers.RandomFlip("horizontal")]),
    ("standard,zoom=0", GREY, [layers.RandomTranslation(0.1, 0.1), layers.RandomRotation(0.05), layers.RandomZoom(0)]),
    ("zoom,standard,translation=0.3", GREY, [layers.RandomZoom(0.1), layers.RandomRotation(0.05),
                                             layers.RandomTranslation(0.3, 0.3)]),
    ("flip=both,standard", COLOUR, [layers.RandomFlip(), layers.ZeroPadding2D((3, 2)), layers.RandomCrop(24, 16)]),
    ("standard", {"data": "digits"}, [layers.RandomTranslation(0.1, 0.1, "constant"),
                                      layers.RandomRotation(0.05, "constant")]),
    (None, COLOUR, []),
])  # fmt: skip
def test_what_the_words_of_augment_stand_for(text, settings, found):
    assert repr(augment.layers_of({"augment": text, **settings}, (24, 16, 3), 255.0)) == repr(found)


def test_training_with_augmentation(small, capsys):
    options = ["train", "--augment", "standard, contrast", "--epochs", "2", "--json"]
    assert main([*options, "--out", "run"]) == 0
    report = one_object(capsys.readouterr().out)
    with open("run/settings.json") as file:
        assert json.load(file)["augment"] == "standard,contrast"
    with open("run/history.json") as file:
        assert {"clean_loss", "loss"} <= json.load(file).keys()
    model = Sequential.load(report["model"])
    ours = [layers.RandomTranslation, layers.RandomRotation, layers.RandomContrast]
    assert [type(layer) for layer in model.layers[:4]] == [*ours, layers.Dropout]
    assert model.layers[2].value_range == (0, 1)
    assert model.layers[0].state["step"] == 2 * 7  # batches of 32 of 200
    assert main([*options[:3], "--out", "plain", "--epochs", "2", "--dropout", "0", "--no-compare", "--json"]) == 0
    alone = one_object(capsys.readouterr().out)
    assert alone["fingerprint"] == report["without_dropout"]["fingerprint"]  # which is augmented, too
    assert main(["train", "--resume", "run", "--augment", "standard,contrast", "--json"]) == 0
    assert one_object(capsys.readouterr().out)["fingerprint"] == report["fingerprint"]


@pytest.mark.parametrize("rescales", [True, False])
def test_a_network_of_ones_own_is_augmented_in_front(pics, capsys, rescales):
    first = [layers.Rescaling(1 / 255)] if rescales else []
    with open("net.json", "w") as file:
        end = [layers.Flatten(), layers.Dense(3, activation="softmax")]
        file.write(Sequential([*first, layers.Dropout(0.1), *end], seed=5).to_json())
    options = ["--model", "net.json", "--augment", "crop=1,flip,brightness=0.1", "--epochs", "1", "--out", "run"]
    report, err = trained(capsys, *options)
    assert "value_range" not in err
    model = Sequential.load(report["model"])
    kinds = ["ZeroPadding2D", "RandomCrop", "RandomFlip", "RandomBrightness", *(["Rescaling"] if rescales else [])]
    assert [type(layer).__name__ for layer in model.layers[: len(kinds)]] == kinds
    assert model.layers[3].value_range == (0, 255 if rescales else 1)
    assert (model.input_range[1] > 1) == rescales
    assert main(["evaluate", report["model"], "pics", "--json"]) == 0
    assert main(["predict", report["model"], "pics", "--json"]) == 0


def test_balanced_class_weights():
    class Counted:
        @staticmethod
        def counts_of_classes():
            return {"a": {"training": 6}, "b": {"training": 0}, "c": {"training": 2}}

    assert building.class_weight({"class_weight": "balanced"}, Counted) == {0: 8 / 12, 2: 8 / 4}
    assert building.class_weight({"class_weight": None}, Counted) is None


def test_a_validation_part_of_known_data(small, capsys):
    assert main(["train", "--epochs", "1", "--validation", "0.25", "--no-compare", "--json"]) == 0
    report = one_object(capsys.readouterr().out)
    assert report["samples"] == {"training": 150, "validation": 50, "test": 50}
    assert report["measured_on"] == "test"
    assert "without_dropout" not in report
    assert report["class_names"] == [*"0123456789"]
    with open(report["history"]) as file:
        assert "val_loss" in json.load(file)


# ---- networks of one's own ----


def described(classes=3, shape=None, end="softmax", rate=0.5, **more):
    model = Sequential([layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dropout(rate),
                        layers.Dense(classes, activation=end)], seed=5)  # fmt: skip
    if shape is not None:
        model.build(shape)
    for name, value in more.items():
        setattr(model, name, value)
    with open("net.json", "w") as file:
        file.write(model.to_json())
    return model


def test_a_network_of_ones_own(pics, capsys):
    described(shape=(8, 6, 1))
    options = ["train", "--data", "pics", "--model", "net.json", "--epochs", "2", "--json", "--compare"]
    assert main([*options, "--out", "run"]) == 0
    report = one_object(capsys.readouterr().out)
    model = Sequential.load(report["model"])
    assert (model.input_shape, model.seed, report["seed"]) == ((8, 6, 1), 5, 5)
    assert 0.3 < model.input_range[1] <= 1  # it does not begin by rescaling
    assert report["without_dropout"]["fingerprint"] != report["fingerprint"]
    data = datasets.image_folder("pics", (8, 6), "grayscale", validation_split=0.2, seed=5).validation
    model.compile("sgd", model.loss_function, ["accuracy"])
    assert model.evaluate(data.x.astype("f4") / 255, data.y, return_dict=True)["loss"] == report["loss"]
    assert main(["evaluate", report["model"], "pics", "--json"]) == 0
    again = one_object(capsys.readouterr().out)
    assert np.trace(again["confusion_matrix"]) / 30 == again["accuracy"]
    assert main([*options[:-1], "--out", "run", "--resume", "--epochs", "3"]) == 0
    longer = one_object(capsys.readouterr().out)
    os.rename("net.json", "gone.json")
    assert main(["train", "--resume", "run", "--json"]) == 0
    assert one_object(capsys.readouterr().out)["fingerprint"] == longer["fingerprint"]
    described(rate=0.4, shape=(8, 6, 1))
    assert "is another network than that with which run was begun" in failed(
        capsys, "train", "--resume", "run", "--model", "net.json"
    )


def test_a_normalization_in_front_is_adapted(pics, capsys):
    chain = [layers.Normalization(), layers.Flatten(), layers.Dense(3, activation="softmax")]
    with open("net.json", "w") as file:
        file.write(Sequential(chain, seed=5).to_json())
    report, _ = trained(capsys, "--model", "net.json", "--augment", "flip", "--epochs", "2", "--out", "run")
    x = datasets.image_folder("pics", 8, validation_split=0.2, seed=5).x.astype("float32") / 255
    model = Sequential.load(report["model"])
    np.testing.assert_allclose(model.layers[1].state["mean"], x.mean(axis=(0, 1, 2)), rtol=1e-5)
    assert model.layers[1].state["count"].tolist() == [len(x)]
    assert main(["train", "--resume", "run", "--json"]) == 0
    assert one_object(capsys.readouterr().out)["fingerprint"] == report["fingerprint"]


def test_networks_that_do_not_fit_the_data(pics, capsys):
    command = ["train", "--data", "pics", "--model", "net.json"]
    described(classes=4)
    assert "the network must have 3 outputs, one for each class of pics; got outputs of shape (4,)" in failed(
        capsys, *command
    )
    described(shape=(28, 28, 1))
    assert "images of shape (28, 28, 1); the data have (8, 8, 1)" in failed(
        capsys, "train", "--data", "digits", "--model", "net.json"
    )
    described(shape=(8, 8, 3), class_names=["x", "y", "z"])
    assert "is a network for the classes ['x', 'y', 'z']; the data have" in failed(capsys, *command)
    for text in ("", "[]", "{}", '{"config": 3}', '{"class_name": "Sequential", "config": {"input_shape": null}}'):
        with open("net.json", "w") as file:
            file.write(text)
        assert "net.json: " in failed(capsys, *command)
    assert "absent.json: No such file or directory" in failed(capsys, "train", "--model", "absent.json")
    assert "lenet5: input_shape must be (height, width, channels) with at least 12 x 12 pixels" in failed(
        capsys, "train", "--model", "lenet5"
    )


def test_one_output_for_two_classes(capsys):
    pytest.importorskip("PIL")
    for name in ("red", "blue"):
        draw(os.path.join("pics", name), name, 8)
    described(classes=1, end="sigmoid", shape=(8, 8, 3))
    assert (
        main(["train", "--data", "pics", "--model", "net.json", "--epochs", "40", "--out", "run", "--lr", ".05"]) == 0
    )
    capsys.readouterr()
    assert main(["evaluate", "run/model.npz", "pics", "--json"]) == 0
    assert one_object(capsys.readouterr().out)["confusion_matrix"] == [[8, 0], [0, 8]]
    assert main(["predict", "run/model.npz", "pics/red", "--json", "--top", "2"]) == 0
    entry = predictions(capsys.readouterr().out)[0]
    assert [name for name, _ in entry["top"]] == ["red", "blue"]
    assert sum(p for _, p in entry["top"]) == pytest.approx(1)


# ---- data ----


def test_data_info_and_fetch(capsys, monkeypatch):
    assert main(["data", "info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*defaults.DATA]
    assert main(["data", "info", "mnist", "--json"]) == 0
    (about,) = one_object(capsys.readouterr().out).values()
    assert about["class_names"] == [*"0123456789"]
    assert about["here"] is False
    assert main(["data", "fetch", "digits", "digits", "--json"]) == 0
    assert one_object(capsys.readouterr().out) == {"digits": [datasets.digits.FILE]}
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    assert main(["data", "fetch", "mnist", "digits"]) == 1
    out, err = capsys.readouterr()
    assert "MINICNN_OFFLINE" in err
    assert out.startswith("digits: ")
    assert "fetch needs the name of a data set" in usage(capsys, "data", "fetch")
    assert "Did you mean fetch?" in usage(capsys, "data", "fetsh")
    assert "Did you mean cifar10?" in usage(capsys, "data", "fetch", "cifar1")


# ---- plot ----


def test_plot_draws_a_run(small, capsys):
    pytest.importorskip("matplotlib")
    assert main(["train", "--data", "digits", "--epochs", "2", "--no-compare", "--out", "run", "--json"]) == 0
    capsys.readouterr()
    assert main(["plot", "run", "--json"]) == 0
    with open("run/history.json") as file:
        assert json.load(file)["learning_rate"] == pytest.approx([0.05, 0.05 * 0.93])  # with which the epochs began
    out, err = capsys.readouterr()
    names = ["history", "architecture", "confusion_matrix", "mistakes"]
    reason = "plot.filters: layer must be a convolution; got none in the model"
    files = [os.path.join("run", f"{name}.png") for name in names]
    assert one_object(out) == {"run": "run", "files": files, "left_out": {"filters": reason}}
    assert err == f"minicnn: note: no picture filters: {reason}\n"
    for file in files:
        with open(file, "rb") as picture:
            assert picture.read(4) == b"\x89PNG"
    os.remove("run/history.json")
    os.remove("run/settings.json")
    assert main(["plot", "run", "--format", "svg", "--theme", "dark"]) == 0
    out, err = capsys.readouterr()
    assert out == os.path.join("run", "architecture.svg\n")
    assert "no picture history: plot.history: history must be what fit returns" in err
    assert "no picture mistakes: there is no settings.json, which names the data" in err
    with open("run/architecture.svg") as picture:
        assert "#15181c" in picture.read()


def test_plot_of_pictures_of_ones_own_and_without_them(pics, capsys):
    pytest.importorskip("matplotlib")
    trained(capsys, "--epochs", "1", "--out", "run")
    assert main(["plot", "run", "--json"]) == 0
    names = ["history", "architecture", "filters", "confusion_matrix", "mistakes"]
    assert one_object(capsys.readouterr().out)["files"] == [os.path.join("run", f"{name}.png") for name in names]
    os.rename("pics", "elsewhere")
    model = Sequential.load("run/model.npz")
    model.class_names = ["红", "蓝", "绿"]
    model.save("run/model.npz")
    os.makedirs("pics")
    for name, ours in zip(["red", "blue", "green"], model.class_names, strict=True):
        shutil.copytree(f"elsewhere/{name}", f"pics/{ours}")
    assert main(["plot", "run"]) == 0  # in letters that matplotlib's font has not
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "resized" not in line] == [
        "minicnn: note: the font has no 红绿蓝: matplotlib's font.sans-serif chooses another"
    ]
    shutil.rmtree("pics")
    assert main(["plot", "run", "--json"]) == 0
    left_out = one_object(capsys.readouterr().out)["left_out"]
    assert left_out == dict.fromkeys(names[3:], f"{os.path.abspath('pics')}: No such file or folder")


def test_what_plot_cannot_draw(model_file, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    assert failed(capsys, "plot", "nowhere") == "minicnn: error: nowhere: No such folder"
    os.mkdir("empty")
    assert "model.npz: No such file: the folder must be that of a run" in failed(capsys, "plot", "empty")
    os.rename(model_file, "empty/model.npz")
    for text, said in (("[1]", "must hold lists of numbers by name"), ("{", "is not JSON")):
        with open("empty/history.json", "w") as file:
            file.write(text)
        assert f"history.json: {said}" in failed(capsys, "plot", "empty")
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert failed(capsys, "plot", "empty").endswith('plotting needs matplotlib: pip install "minicnn[plot]"')
    assert "required: RUN" in usage(capsys, "plot")
    assert "invalid choice: 'pgn'" in usage(capsys, "plot", "empty", "--format", "pgn")


# ---- the door, once more ----


@pytest.mark.parametrize("arguments", ["", "--help", "--version", "train --help", "predict -h", "trian",
                                       "train --lrr 3", "evaluate"])  # fmt: skip
def test_help_and_wrong_words_do_not_wait_for_numpy(arguments):
    command = [sys.executable, "-X", "importtime", "-m", "minicnn", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)
    assert done.returncode == (2 if arguments in ("", "trian", "train --lrr 3", "evaluate") else 0)
    assert "argparse" in done.stderr
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "minicnn.cli.parser" in imported
    assert not {"numpy", "minicnn.model", "minicnn.layers", "json"} & imported


def test_a_program_that_is_called_minicnn_too_has_all_of_minicnn():
    with open("minicnn", "w") as file:
        file.write("import minicnn\nfrom minicnn import Layer, layers\nprint(minicnn.History, layers.ReLU)\n"
                   "print(hasattr(minicnn, 'no'), minicnn.networks.small.__name__)\n"
                   "try: layers.LSTM\nexcept AttributeError as error: print(error)\n")  # fmt: skip
    done = subprocess.run([sys.executable, "minicnn"], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.stdout.splitlines()[1] == "False small"
    assert "no recurrent layers" in done.stdout


def test_the_words_of_the_parser_are_those_of_the_package():
    assert tuple(networks.NETWORKS) == defaults.MODELS
    assert tune.RATES == defaults.RATES
    assert tuple(datasets.info()) == defaults.DATA
    assert augment.MAKE.keys() == defaults.AUGMENT.keys()
    assert {word.partition("=")[0] for text in defaults.STANDARD_FOR.values() for word in text.split(",")} <= {
        *augment.MAKE
    }
    assert inputs.FITS == defaults.FITS
    names = {name.lower() for name in minicnn.optimizers.__all__} if hasattr(minicnn.optimizers, "__all__") else None
    for name in defaults.OPTIMIZERS:
        assert type(minicnn.optimizers.get(name)).__name__.lower() == name
        assert names is None or name in names
    with_dropout = [name for name in networks.NETWORKS if any(
        hasattr(layer, "freeze_mask") for layer in networks.NETWORKS[name]((32, 32, 3)))]  # fmt: skip
    assert tuple(with_dropout) == defaults.WITH_DROPOUT


@pytest.mark.parametrize(("arguments", "said"), [
    ("train --data digts", "invalid choice: 'digts'"), ("train --data digts", "Did you mean digits?"),
    ("train --model resnet2", "Did you mean resnet20?"), ("train --optimizer adm", "Did you mean adam?"),
    ("train --schedule cosin", "Did you mean cosine?"), ("train --early-stoping 3", "Did you mean --early-stopping?"),
    ("train --augment flip,rotatoin=0.1", "invalid choice: 'rotatoin' (must be some of flip, translation, rot"),
    ("train --augment flip,rotatoin=0.1", "Did you mean rotation?"), ("train --augment flip,", "invalid choice: ''"),
    ("train --augment flip=horizontl", "flip takes one of horizontal, vertical, both; got 'horizontl'. Did you mean"),
    ("train --augment zoom=0.1:0.2:0.3", "zoom takes a number, or two with a colon between them, such as -0.1:0.2"),
    ("train --augment zoom=", "zoom takes a number"), ("train --augment crop=0.5", "crop takes a number of pixels"),
    ("train --augment crop=0", "crop takes a number of pixels; got '0'"),
    ("train --augment standard=1", "standard takes no value; got '1'"),
    ("train --augment flip,flip", "must have flip once; got 'flip,flip'"),
    ("train --augment rotation=2", "--augment rotation: RandomRotation: factor must be a number in [-1, 1]; got 2.0"),
    ("train --augment erasing=nan", "--augment erasing: RandomErasing: factor must be a number in [0, 1]; got nan"),
    ("train --augment crop=99999", "--augment crop: ZeroPadding2D: padding must be at most 32768; got 99999"),
    ("train --image-size 3y4", "must be a number of pixels such as 32, or HEIGHTxWIDTH; got '3y4'"),
    ("train --image-size 0", "must be a number of pixels"), ("train --validation 1", "at least 0 and below 1; got 1"),
    ("train --early-stopping 3", "--early-stopping needs a validation part"),
    ("train --momentum 0.5 --optimizer adam", "--momentum is for --optimizer sgd, not adam"),
    ("train --model resnet8 --dropout 0.5", "resnet8 has its own, or none"),
    ("train --model resnet8 --compare", "--compare is for networks with dropout, which resnet8 has not"),
    ("train --image-size 16", "--image-size is for pictures of your own, not for --data digits"),
    ("train --fit pad --data mnist", "--fit is for pictures of your own"),
    ("train --resume", "--resume needs the folder of the run"), ("train --overwrite", "--overwrite needs --out"),
    ("train --resume d --overwrite", "leave one of them out"),
    ("predict m.npz x.png --top 0", "--top: must be at least 1"), ("predict m.npz x.png --fit squeeze", "--fit"),
    ("data", "required: info|fetch. Say minicnn data info, or minicnn data fetch NAME"),
    ("--versoin", "unrecognized arguments: --versoin. Did you mean --version?"),
    ("--versoin info", "Did you mean --version?"), ("--hlep", "Did you mean --help?"),
    ("--json info", "unrecognized arguments: --json. The options of a verb come after it"),
    ("trian --data pics --epochs 3", "Did you mean train?"), ("evalute m.npz --json", "Did you mean evaluate?"),
    ("trian --data digits train", "Did you mean train?"), ("pics --data --json", "invalid choice: 'pics'"),
    ("--threads=3 train", "unrecognized arguments: --threads. The options of a verb come after it"),
    ("train --hlep", "Did you mean --help?"), ("data info imagenet", "invalid choice: 'imagenet'"),
])  # fmt: skip
def test_wrong_usage(arguments, said, capsys, tmp_path):
    assert said in usage(capsys, *arguments.split())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "option",
    [
        "train --out",
        "train --resume",
        "train --data-dir",
        "tune --out",
        "evaluate m --data-dir",
        "plot run --data-dir",
        "report run --data-dir",
    ],
)
def test_paths_that_are_empty(option, capsys):
    assert "must be the path of a folder; got ''" in usage(capsys, *option.split(), "")


def test_evaluate_without_data_downloads_nothing(capsys, monkeypatch):
    model = Sequential([layers.Flatten(), layers.Dense(10, activation="softmax")])
    model.build((32, 32, 3))
    model.save("m.npz")
    monkeypatch.setattr(datasets.cifar10, "load_data", pytest.fail)
    said = failed(capsys, "evaluate", "m.npz")
    assert (
        "say on which pictures: minicnn evaluate m.npz FOLDER, or a known data set that fits: cifar10, cifar1" in said
    )


def test_wrong_usage_of_evaluate(model_file, capsys):
    assert "given twice" in usage(capsys, "evaluate", model_file, "digits", "--data", "mnist")
    assert "--fit is for pictures of your own" in usage(capsys, "evaluate", model_file, "--fit", "pad")
    assert "--data-dir is for the files of known" in usage(capsys, "evaluate", model_file, "./x", "--data-dir", "y")
