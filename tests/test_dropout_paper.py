"""The experiments of examples/dropout_paper: all of them run, and would say so if a finding did not hold."""

import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("settings", "rate", "size", "averaging", "sparsity", "features", "regularisers", "convergence", "early",
         "family")  # fmt: skip


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def module(name):
    return importlib.import_module(f"examples.dropout_paper.{name}")


@functools.cache
def quick(name):
    """(size, results) of an experiment in the small, with two seeds."""
    return module(name).QUICK, module("lab").run(module(name), module(name).QUICK, seeds=2)


def cells(table):
    """The rows of a Markdown table below its head."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def outcomes(checks):
    return [check.outcome for check in checks]


# ---- the experiments, in the small ----

ROWS = {"settings": [2], "rate": [3], "size": [3], "averaging": [6, 6], "sparsity": [2], "features": [2],
        "regularisers": [12, 7], "convergence": [8, 3], "early": [10], "family": [12]}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_a_row_for_everything_and_numbers_in_range(name):
    size, results = quick(name)
    made = module(name).report(results, size)
    assert [len(cells(table)) for table in made.tables] == ROWS[name]
    assert len(results) == 2 * len(module(name).specs(size))
    assert {result["seed"] for result in results} == {0, 1}
    for result in results:
        for measure in ("test", "train", "validation", "scaled error", "zeros", "concentration"):
            assert 0 <= result.get(measure, 0) <= 100
        assert result["cpu seconds"] >= 0
    assert made.checks
    assert "nan" not in "".join([*made.tables, *map(str, made.checks)])


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_small(name, tmp_path):
    pytest.importorskip("matplotlib")
    size, results = quick(name)
    for file, draw in module(name).report(results, size).pictures.items():
        module("report").save(draw(), tmp_path / file)
        assert 1000 < (tmp_path / file).stat().st_size < 100_000


def test_the_same_picture_has_the_same_bytes(tmp_path):
    pytest.importorskip("matplotlib")
    size, results = quick("averaging")
    for file in ("a.svg", "b.svg"):
        module("report").save(module("averaging").report(results, size).pictures["averaging.svg"](), tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_nets_learn_and_dropout_shows():
    lab = module("lab")
    rate = lab.means(quick("rate")[1], "kind", "keep")
    assert rate["n fixed", 0.5]["test"].mean < 12  # usually 8
    assert rate["n fixed", 0.1]["train"].mean > 20  # usually 50: it underfits
    hidden = lab.means(quick("sparsity")[1], "keep")
    assert hidden[0.5]["mean activation"].mean < 0.5 * hidden[1.0]["mean activation"].mean  # usually a quarter
    averaged = lab.means(quick("averaging")[1], "keep_input")[1.0]
    assert averaged["error 25"].mean < averaged["error 5"].mean < averaged["error 1"].mean - 2
    assert averaged["deviation 25"].mean < averaged["deviation 1"].mean


def test_a_training_depends_on_its_seed_alone():
    rate = module("rate")
    spec = rate.specs(rate.QUICK)[1]
    assert rate.train(3, **spec) == rate.train(3, **spec) != rate.train(4, **spec)


# ---- the parts of the data ----


def test_no_training_sees_the_validation_or_the_test_part():
    lab = module("lab")
    parts = {name: {image.tobytes() for image in x} for name, (x, _) in lab.data("digits").items()}
    assert {name: len(images) for name, images in parts.items()} == {"train": 1000, "validation": 297, "test": 500}
    drawn = {image.tobytes() for image in lab.sample("digits", 1000, 0)[0]}
    assert drawn == parts["train"]
    assert not drawn & (parts["validation"] | parts["test"])
    assert (lab.sample("digits", 10, 0)[1] != lab.sample("digits", 10, 1)[1]).any()


# ---- many trainings ----


class Fake:
    """An experiment of three trainings a seed that counts them."""

    TITLE = "fake"
    calls = 0

    @staticmethod
    def specs(size):
        return [{"keep": keep} for keep in size]

    @staticmethod
    def train(seed, keep):
        Fake.calls += 1
        if keep == "break":
            raise KeyboardInterrupt
        return {"test": 10 * seed + keep}


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    lab = module("lab")
    monkeypatch.setattr(Fake, "calls", 0)
    with pytest.raises(KeyboardInterrupt):
        lab.run(Fake, [1, 2, "break"], 2, folder=tmp_path, say=lambda text: None)
    assert Fake.calls == 5
    said = []
    found = lab.run(Fake, [1, 2, 3], 2, folder=tmp_path, say=said.append)
    assert Fake.calls == 7
    assert len(said) == 2
    assert [result["test"] for result in found] == [1, 11, 2, 12, 3, 13]
    assert lab.run(Fake, [1, 2, 3], 2, folder=tmp_path, say=said.append) == found
    assert {file.suffix for file in tmp_path.iterdir()} == {".json"}


def test_another_argument_is_another_training(tmp_path):
    lab = module("lab")
    found = [lab.run(Fake, size, 1, folder=tmp_path, say=str)[0]["test"] for size in ([1], [2], [1])]
    assert found == [1, 2, 1]


def test_processes_change_nothing():
    pytest.importorskip("joblib")
    rate, lab = module("rate"), module("lab")
    size = {**rate.QUICK, "epochs": 2, "samples": 200}
    one, two = (lab.run(rate, size, 2, n_jobs=jobs) for jobs in (1, 2))
    for result in (*one, *two):
        del result["cpu seconds"]
    assert one == two


# ---- means and verdicts ----


def mean(value, spread=0.1):
    return module("lab").Mean([value - spread, value, value + spread])


def test_a_mean_and_its_standard_error():
    a = module("lab").Mean([1, 2, 3, 4, 5])
    assert a.mean == 3
    assert a.se == pytest.approx(np.std([1, 2, 3, 4, 5], ddof=1) / 5**0.5)
    assert f"{a:.1f}" == "3.0 ± 0.7"
    assert str(a) == "3.00 ± 0.71"


def test_differences_are_taken_seed_by_seed():
    a, b = module("lab").Mean([1, 5, 9]), module("lab").Mean([2, 6.1, 9.9])
    assert (b - a).se < 0.06 < a.se
    assert module("report").lower("a below b", a, b).outcome is True


def test_lower_has_three_outcomes():
    lower = module("report").lower
    noisy = module("lab").Mean([2, 0.9, 1.3])
    assert lower("", mean(1), mean(2, 0.2)).outcome is True
    assert lower("", mean(2, 0.2), mean(1)).outcome is False
    assert lower("", mean(1), noisy).outcome is None
    assert lower("", mean(1), mean(1)).outcome is None


def test_between_has_three_outcomes():
    between = module("report").between
    assert [between("", mean(value), 2, 3).outcome for value in (2.5, 1.95, 1.5, 3.05, 4)] == [
        True, None, False, None, False]  # fmt: skip


def test_a_verdict_is_a_sentence_with_its_figures():
    lower = module("report").lower
    text = "- **Holds:** a beats b (1.00 ± 0.06 % against 2.00 ± 0.12 %)."
    assert str(lower("a beats b", mean(1), mean(2, 0.2), " %", "The reason.")) == text
    wrong = str(lower("a beats b", mean(2, 0.2), mean(1), " %", "The reason."))
    assert wrong.startswith("- **Does not hold:** a beats b (2.00")
    assert wrong.endswith(". The reason.")
    assert str(lower("a beats b", mean(1), mean(1))).startswith("- **Not decided:**")


def made_up(spec, **numbers):
    """Results of three seeds around these numbers."""
    return [
        {**spec, "seed": seed, "cpu seconds": 1.0, **{k: v * (1 + 0.01 * shift) for k, v in numbers.items()}}
        for seed, shift in enumerate((-1, 0.1, 1))
    ]


def verdicts(name, size, numbers):
    """The outcomes on results that the function ``numbers(spec)`` makes up."""
    results = [result for spec in module(name).specs(size) for result in made_up(spec, **numbers(spec))]
    return outcomes(module(name).report(results, size).checks)


def test_verdicts_of_rate():
    size = {**module("rate").QUICK, "keeps": (0.1, 0.4, 0.5, 0.6, 0.8, 1.0)}
    paper = {"n fixed": dict(zip(size["keeps"], (3, 1.2, 1.1, 1.1, 1.2, 1.6), strict=True)),
             "p n fixed": dict(zip(size["keeps"], (2, 1.5, 1.2, 1.1, 1.3, 1.7), strict=True))}  # fmt: skip
    assert all(verdicts("rate", size, lambda s: {"test": (e := paper[s["kind"]][s["keep"]]), "train": e}))
    upside = {0.1: 1, 0.4: 1.5, 0.5: 1.1, 0.6: 3, 0.8: 4, 1.0: 1.05}

    def contrary(s):
        return {"test": upside[s["keep"]] * (1 + (s["kind"] != "n fixed")), "train": 0.5}

    assert verdicts("rate", size, contrary) == [True, False, False, False, False, False]
    assert verdicts("rate", size, lambda s: {"test": 2, "train": 2})[0] is None


def test_verdicts_of_size():
    size = {"data": "mnist", "units": 1, "epochs": {100: 1, 1_000: 1, 50_000: 1}}
    gains = {100: -0.1, 1_000: 0.4, 50_000: 0.1}

    def numbers(s, sign=1):
        return {"test": 10 * (1 - sign * gains[s["samples"]] * (s["keep"] < 1)), "train": 0}

    assert all(verdicts("size", size, numbers))
    assert verdicts("size", size, lambda s: numbers(s, -1)) == [False, False, False, False, True]
    gains.update({1_000: 0.4, 50_000: 0.7})
    assert verdicts("size", size, numbers)[-2:] == [True, False]
    unclear = module("lab").Mean([-1, 1, 3])
    assert module("size")._none(unclear) is None


@pytest.mark.parametrize(("errors", "want"), [
    ({1: 5, 5: 3.0, 50: 2.0, 100: 1.99}, [True, True, True, True]),
    ({1: 5, 5: 3.0, 50: 2.5, 100: 2.50}, [True, False, False, False]),
    ({1: 1, 5: 1.0, 50: 1.0, 100: 1.00}, [False, True, True, False]),
])  # fmt: skip
def test_verdicts_of_averaging(errors, want):
    size = {**module("averaging").QUICK, "counts": tuple(errors)}

    def numbers(s):
        found = {"scaled error": 2.01, "scaled loss": 1.0}
        for k, error in errors.items():
            found |= {f"error {k}": error, f"deviation {k}": 0.05, f"loss {k}": 1.0}
        return found

    assert verdicts("averaging", size, numbers) == 2 * want


def autoencoders(name, with_, without):
    """The outcomes for what was measured with dropout and without it."""
    size, results = module(name).QUICK, []
    for spec in module(name).specs(size):
        numbers = dict(with_ if spec["keep"] < 1 else without)
        shares = numbers.pop("histogram", [1])
        results += [{**one, "histogram": shares, "mean of each unit": [1], "pictures": None}
                    for one in made_up(spec, **{"units alive": 9}, **numbers)]  # fmt: skip
    return outcomes(module(name).report(results, size).checks)


def test_verdicts_of_sparsity():
    sparse = {"mean activation": 0.7, "zeros": 60, "histogram": [0.6, 0.3, 0.1]}
    dense = {"mean activation": 2.0, "zeros": 20, "histogram": [0.2, 0.3, 0.5]}
    assert autoencoders("sparsity", sparse, dense) == [True] * 4
    assert autoencoders("sparsity", dense, sparse) == [False] * 4


def test_verdicts_of_features():
    strokes = {"error": 10, "error without a tenth": 11, "smoothness": 0.5, "concentration": 20}
    noise = {"error": 9, "error without a tenth": 50, "smoothness": 0.1, "concentration": 10}
    assert autoencoders("features", strokes, noise) == [True] * 4
    assert autoencoders("features", noise | {"error": 5}, strokes) == [False] * 4


def test_smooth_and_concentrated_features_are_told_from_noise():
    features = module("autoencoder")
    noise = np.random.default_rng(0).standard_normal((28, 28))
    spot = np.exp(-((np.arange(28) - 9) ** 2)[:, None] / 8 - ((np.arange(28) - 20) ** 2) / 8)
    assert abs(features._smoothness(noise)) < 0.1
    assert features._smoothness(spot) > 0.8
    assert features._concentration(noise) < 15
    assert features._concentration(spot) > 80


def test_verdicts_of_regularisers():
    size = module("regularisers").QUICK
    paper = {"nothing": 1.7, "L2": 1.62, "L1": 1.6, "max-norm": 1.35, "dropout": 1.3, "dropout + L2": 1.25,
             "dropout + max-norm": 1.05}  # fmt: skip

    def numbers(s, order=1):
        value = paper[s["method"]]
        return {"validation": 1, "test": value if order == 1 else 3 - value}

    assert all(verdicts("regularisers", size, numbers))
    assert verdicts("regularisers", size, lambda s: numbers(s, -1)) == [False] * 9


def test_the_strength_is_chosen_without_the_test_part():
    """The setting that is best on validation images is the worst on test images, and is the one that is shown."""
    size = module("regularisers").QUICK

    def results(spec):
        best = spec["strength"] == size["strengths"][spec["method"]][-1] and spec["factor"] == 1
        return made_up(spec, validation=1 if best else 2, test=9 if best else 3)

    found = [result for spec in module("regularisers").specs(size) for result in results(spec)]
    for row in cells(module("regularisers").report(found, size).tables[1]):
        assert row[2] == "1"
        assert row[3].startswith("9.00 ±"), row


def test_verdicts_of_convergence():
    size = {**module("convergence").QUICK, "keeps": (1.0, 0.5)}

    def results(slower, lowest):
        found = []
        for spec in module("convergence").specs(size):
            factor = slower if spec["keep"] < 1 else 1
            falling = [max(100 / 10 ** (epoch / (4 * factor)), 1e-6) for epoch in range(120)]
            curves = {f"{part} {of}": falling for part in ("train", "validation") for of in ("loss", "error")}
            numbers = {"seconds an epoch": 1.0 * factor, "lowest validation error": 1,
                       "lowest validation loss": lowest if spec["keep"] < 1 else 1}  # fmt: skip
            found += [{**one, "curves": curves} for one in made_up(spec, **numbers)]
        return outcomes(module("convergence").report(found, size).checks)

    assert results(2.5, 0.8) == [True, True, True, True, False]
    assert results(1, 1.2) == [False, False, False, False, True]
    assert len(results(100, 1)) == 3  # one of both never gets there: only the own lowest losses can be compared


def test_verdicts_of_early():
    size, early = module("early").QUICK, module("early")

    def losses(*of):
        found = dict(zip(early.WAYS, of, strict=True))
        return verdicts("early", size, lambda s: {"loss": found[s["way"]], "test": 5})

    assert losses(1.0, 1.1, 0.8, 0.9, 1.2) == [True, True, True] * 2
    assert losses(1.0, 0.9, 1.1, 1.2, 0.5) == [False, False, False] * 2
    assert losses(1.0, 1.0, 1.0, 1.0, 1.0) == [None, None, None] * 2
    only_adam = verdicts("early", size, lambda s: {"test": 5, "loss": 1 - 0.1 * (
        s["optimizer"] == early.ADAM and s["way"].startswith("early"))})  # fmt: skip
    assert only_adam == [True, True, None, None, None, None]


def test_the_table_of_early_has_paired_differences():
    early = module("early")
    results = [one for spec in early.specs(early.QUICK)
               for one in made_up(spec, test=5, loss=0.5 if spec["way"] == "early dropout" else 1)]  # fmt: skip
    rows = cells(early.report(results, early.QUICK).tables[0])
    assert [row[3] for row in rows] == 2 * ["", "+0.0000 ± 0.0000", "-0.5002 ± 0.0029", *2 * ["+0.0000 ± 0.0000"]]


def test_early_dropout_is_trained_on_all_images():
    early, lab = module("early"), module("lab")
    x, y = early.everything("digits")
    assert len(x) == len(y) == 1297 == len(lab.data("digits")["train"][0]) + lab.VALIDATION["digits"]


def test_verdicts_of_family():
    family = module("family")

    def of(**losses):
        return verdicts("family", family.QUICK, lambda s: {"validation loss": 1, "validation": 5, "test": 5,
            "test loss": losses.get(s["member"], 1.0)})  # fmt: skip

    assert of(nothing=1.2) == [True, True]
    assert of(nothing=1.2, DropConnect=0.8) == [True, False]
    assert of(nothing=0.8) == [False, False]
    assert of(DropConnect=1.5) == [None, True]


def test_what_beats_dropout_on_one_set_of_two():
    family = module("family")
    size = {**family.QUICK, "sets": {"digits": family.QUICK["sets"]["digits"], "mnist": {"samples": 1, "epochs": 1}}}

    def of(**better):
        return verdicts("family", size, lambda s: {"validation loss": 1, "validation": 5, "test": 5,
            "test loss": 0.5 if s["member"] in better[s["data"]] else 1.0 + (s["member"] == "nothing")})  # fmt: skip

    assert of(digits=["DropConnect"], mnist=["late dropout"]) == [True, False, True, False, True]
    assert of(digits=["DropConnect"], mnist=["DropConnect"]) == [True, False, True, False, False]
    assert of(digits=[], mnist=[]) == [True] * 5


def test_the_rates_of_the_family_are_chosen_without_the_test_part():
    family = module("family")

    def results(spec):
        best = spec["rate"] == 0.5
        loss = {"validation loss": 1 if best else 2, "test loss": 9 if best else 3}
        return made_up(spec, validation=5, test=5, **loss)

    found = [result for spec in family.specs(family.QUICK) for result in results(spec)]
    for row in cells(family.report(found, family.QUICK).tables[0])[1:]:
        assert row[1] == "0.5"
        assert row[3].startswith("9.00"), row


def test_every_member_of_the_family_is_in_its_net():
    family = module("family")

    def kinds(member):
        chain = [layer for part in family.MEMBERS[member](0.5) for layer in part]
        return " ".join(type(getattr(layer, "rate", 0)).__name__.replace("float", type(layer).__name__)
                        for layer in chain if hasattr(layer, "rate"))  # fmt: skip

    assert {member: kinds(member) for member in family.MEMBERS} == {
        "nothing": "",
        "dropout": "Dropout Dropout",
        "SpatialDropout2D": "SpatialDropout2D Dropout",
        "DropBlock2D": "DropBlock2D Dropout",
        "GaussianDropout": "GaussianDropout GaussianDropout",
        "AlphaDropout": "Dropout AlphaDropout",
        "DropConnect": "Dropout DropConnect",
        "curriculum dropout": "CurriculumDropout CurriculumDropout",
        "early dropout": "EarlyDropout EarlyDropout",
        "late dropout": "LateDropout LateDropout",
        "R-Drop, alpha 0.3": "Dropout Dropout",
        "R-Drop, alpha 1": "Dropout Dropout",
    }
    found = [family.train(0, "digits", 100, 1, 2, member, 0.5) for member in ("dropout", *family.ALPHAS)]
    assert len({one["test loss"] for one in found}) == 3


def test_reached_counts_epochs_from_one():
    reached = module("convergence").reached
    assert reached([3, 2, 1], 3) == 1
    assert reached([3, 2, 1], 1.5) == 3
    assert reached([3, 2, 1], 0.5) is None


def test_verdicts_of_settings():
    size = {**module("settings").QUICK, "keeps": (0.5, 1.0), "rates": (0.01, 0.05, 0.1, 0.2)}

    def best(with_, without):
        def numbers(s):
            middle = with_ if s["keep"] < 1 else without
            return {"validation": 1 + abs(np.log(s["learning_rate"] / middle))}

        return verdicts("settings", size, numbers)

    assert best(0.05, 0.1) == [True, True, False]
    assert best(0.2, 0.05) == [False, False, True]


# ---- the command and the file ----


def test_on_the_command_line(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "examples.dropout_paper", "averaging", "--quick", "--seeds", "2"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("## 3. Monte-Carlo averaging against weight scaling\n")
    assert re.search(r"^\| mean of k = 25 .* ± ", result.stdout, re.MULTILINE)
    assert re.search(r"^- \*\*(Holds|Does not hold|Not decided):\*\* ", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(("arguments", "message"), [
    (["sizes"], "there is no experiment 'sizes'; the experiments are settings, rate, "),
    (["--quick", "--write"], "--write needs the full runs"),
    (["--seeds", "0"], "--seeds and --jobs must be at least 1"),
])  # fmt: skip
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        module("__main__").parse(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_without_mnist_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path))
    monkeypatch.setattr(module("report"), "FOLDER", tmp_path)
    module("lab").data.cache_clear()
    with pytest.raises(SystemExit, match=r"MINICNN_DATA(.|\n)*--quick needs no data"):
        module("__main__").main(["rate"])
    assert list(tmp_path.glob("runs/*")) == []


def test_sections_are_replaced_one_by_one(tmp_path):
    report, file = module("report"), tmp_path / "RESULTS.md"
    report.put(("a", "b"), "b", "## B\n\ntwo", file)
    report.put(("a", "b"), "a", "## A\n\none", file)
    report.put(("a", "b"), "b", "## B\n\n- **Holds:** twenty", file)
    assert file.read_text() == report.HEAD + (
        "|   | Holds | Does not hold | Not decided |\n"
        "| - | ----- | ------------- | ----------- |\n"
        "| A | 0     | 0             | 0           |\n"
        "| B | 1     | 0             | 0           |\n\n"
        "<!-- a -->\n## A\n\none\n\n<!-- b -->\n## B\n\n- **Holds:** twenty\n"
    )


def test_the_results_are_whole():
    """Every experiment has its section, every picture is there and small, and every verdict is one of the three."""
    report = module("report")
    sections = report.read(report.FOLDER / "RESULTS.md")
    assert tuple(sections) == NAMES
    for name, text in sections.items():
        assert text.startswith(f"## {module(name).TITLE}\n")
        seeds = getattr(module(name), "SEEDS", 5)
        assert f"`python -m examples.dropout_paper {name} --seeds {seeds}`" in text
        for file in re.findall(r"\]\(([^)]+)\)", text):
            assert 1000 < (report.FOLDER / file).stat().st_size < 100_000
        for verdict in re.findall(r"^- (.*)", text, re.MULTILINE):
            assert re.match(r"\*\*(Holds|Does not hold|Not decided):\*\* ", verdict), verdict


def test_the_page_has_the_figures_of_the_results():
    """What docs/dropout.md says of the later questions is what was measured."""
    page = (ROOT / "docs" / "dropout.md").read_text(encoding="utf-8")
    said = re.findall(r"[-+]?\d+\.\d+ ± \d+\.\d+", page[page.index("Two later questions") : page.index("**R-Drop**")])
    measured = (module("report").FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    assert len(said) > 12
    for figure in said:
        assert f" {figure} " in measured or f"({figure} " in measured or f" {figure})" in measured, figure
