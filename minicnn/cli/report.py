"""``minicnn report``: one page on a run, in HTML, that needs nothing else.

What is on it stands in report.html.j2; what is drawn or computed, in ``_page``.  The same run gives the same bytes.
"""

import base64
import io
import json
import os
import re

import numpy as np

import minicnn
from minicnn import _files, calibration, layers, models, summary
from minicnn import plot as pictures
from minicnn.cli import building, evaluate, runs, words
from minicnn.cli.svg import Sheet
from minicnn.cli.verdict import of_calibration, of_gap, percent, standard_error
from minicnn.layers.augment import Augmentation
from minicnn.layers.random import Random
from minicnn.plot_axes import THEMES
from minicnn.tree import walk

MOST_MISTAKES = 12


def report(options):
    """Writes the page, and says what had to be left out."""
    environment = _jinja()
    found = runs.opened(options.run, options.data_dir)
    page = _page(options.run, found)
    for name, reason in page["left_out"].items():
        words.note(f"note: without {name.replace('_', ' ')}: {reason}")
    text = environment.get_template("report.html.j2").render(page)
    file = os.path.join(options.run, "report.html") if options.out is None else options.out
    _files.write_atomically(file, [text.encode("utf-8", "backslashreplace")])
    said = {"run": options.run, "file": file, "left_out": page["left_out"]}
    words.show(json.dumps(said) if options.json else file)
    return 0


def _jinja():
    try:
        import jinja2
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError('a report needs jinja2 and matplotlib: pip install "minicnn[report]"') from error
    loader = jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__)))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, finalize=_printable, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"shown": _shown, "percent": percent}
    return environment


def _printable(value):
    """Names of files may have anything in them: what is no letter and turns the text around, or ends it, as \\xNN."""
    if type(value) is not str or value.isprintable():
        return value
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in value)


def _shown(value, digits=4):
    """A number of a table, to 4 digits; "none" for None, "yes" and "no"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " x ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


# ---- what is on the page ----


def _page(folder, found):
    """What the template asks for.  Each part is there, or ``left_out`` says why not."""
    from markupsafe import Markup

    sheet, model, history = Sheet(), found.model, found.history or {}
    calls = _or_else([], lambda: runs.calls_in(os.path.join(folder, "settings.json")))
    page = {
        "name": os.path.basename(os.path.abspath(folder)),
        "part": found.part,
        "model": model,
        "layers": Markup(summary.html(model)),
        "fingerprint": model.fingerprint(),
        "settings": {name: value for name, value in found.settings.items() if value is not None},
        "calls": calls,
        "epochs": len(history.get("loss", [])),
        "version": minicnn.__version__,
        "themes": THEMES,
    }
    left_out = {}

    def add(name, make, needs_data=False):
        page[name] = None
        if needs_data and found.x is None:
            left_out[name] = found.reason
            return
        try:
            page[name] = make()
        except words.FAILURES as error:  # no epoch, no convolution, outputs that are no classes
            left_out[name] = words.sentence(error)

    def drawn(title, draw, least=10.0):
        return Markup(sheet.picture(draw, title, least))

    def confusion():
        matrix, names = np.array(page["measures"]["confusion_matrix"]), model.class_names
        title = f"Confusion matrix of {matrix.sum():,} samples: rows are true classes, columns what they were taken for"
        least = min(10.0, 600 / len(matrix))  # the size of names where there are many
        return drawn(title, lambda: pictures.confusion_matrix(matrix, names), least)

    def calibrated():
        curve = calibration.reliability_curve(found.y, model.predict_proba(found.x, batch_size=256))
        title = f"Reliability diagram: accuracy over confidence in {np.count_nonzero(curve.count)} bins"
        picture = drawn(title, lambda: pictures.reliability({"Confidence and accuracy": curve}))
        return {"picture": picture, "curve": curve, "words": of_calibration(curve)}

    add("measures", lambda: _measured(found), needs_data=True)
    if page["measures"] is not None or found.x is None:
        add("confusion_matrix", confusion, needs_data=True)
    else:
        page["confusion_matrix"] = None
    measured = page["measures"] and (found.part, page["measures"]["accuracy"], page["measures"]["usual"])
    samples = calls[-1]["samples"] if calls else {}
    restored = found.settings.get("early_stopping") is not None
    add("words", lambda: of_gap(history, samples, measured, restored, _causes(model, found.settings)))
    add("curves", lambda: _curves(history, drawn))
    page["numbers"] = _last_numbers(history)
    add("mistakes", lambda: _mistakes(found), needs_data=True)
    add("calibration", calibrated, needs_data=True)
    add("filters", lambda: drawn("The filters of the first convolution", lambda: pictures.filters(model)))
    add("architecture", lambda: drawn(_in_words(model), lambda: pictures.architecture(model), least=7.5))
    add("norms", lambda: _norms(model, calls))
    return page | {"left_out": left_out, "colours": sheet.colours}


def _or_else(default, make):
    try:
        return make()
    except words.FAILURES:
        return default


def _in_words(model):
    return f"The layers from input to output: {', '.join(type(layer).__name__ for layer in model.layers)}"


def _measured(found):
    measures, _ = evaluate.measures(found.model, found.x, found.y)
    error = standard_error(measures["accuracy"], len(found.x))
    usual = max(row["support"] for row in measures["classes"]) / len(found.x)
    return measures | {"samples": len(found.x), "error": error, "usual": usual}


def _causes(model, settings):
    """What makes the loss while training another than that of the same samples afterwards."""
    dropping = building.dropout_layers(model)
    parts = [layer for _, layer in walk(model.layers) if layer not in dropping]
    augmenting = [layer for layer in parts if isinstance(layer, Augmentation)]
    found = {
        "dropout": any(layer.rate != 0 for layer in dropping),
        "augmentation": augmenting,
        "noise": any(isinstance(layer, Random) for layer in parts if layer not in augmenting),
        "the statistics of batches": any(isinstance(layer, layers.BatchNormalization) for layer in parts),
        "the weights of classes": settings.get("class_weight"),
    }
    return [cause for cause, there in found.items() if there]


def _curves(history, drawn):
    """[(picture, [(label, colour, whether it is dotted), ...])], a picture for each measure."""
    panels = len(pictures.history(history).axes)
    found = []
    for number in range(panels):
        legend, title = [], []

        def draw(number=number, legend=legend, title=title):
            from matplotlib.figure import Figure

            aside = [Figure().subplots()] * number  # what comes before
            figure = Figure(figsize=(5.6, 3.9), layout="constrained")
            panel = figure.subplots()
            pictures.history(history, ax=[*aside, panel])
            panel.get_legend().remove()
            panel.tick_params(colors=panel.xaxis.label.get_color())
            lines = panel.get_legend_handles_labels()
            told = [(label, line.get_color(), line.get_linestyle() == ":") for line, label in zip(*lines, strict=True)]
            legend[:], title[:] = told, [panel.get_title().replace(r"\$", "$")]
            return figure

        draw()
        of_rates = title == ["Learning rate"]  # its only line needs no name
        found.append((drawn(f"{title[0]}, over the epochs", draw), [] if of_rates else legend))
    return found


def _last_numbers(history):
    """[(measure, [while training, nothing dropped, validation])], of the last epoch."""
    names = [name for name in history if not name.startswith(("clean_", "val_")) and "/" not in name]
    names = [name for name in names if name != "learning_rate"]
    columns = [[history.get(prefix + name) for prefix in ("", "clean_", "val_")] for name in names]
    found = zip(names, columns, strict=True)
    return [(name, [values[-1] if values else None for values in three]) for name, three in found if any(three)]


def _mistakes(found):
    """(title, [(address of the picture, lines of text)]): the worst mistakes."""
    from matplotlib.image import imsave

    if len(found.model.input_shape) != 3:
        raise ValueError("the samples are no pictures")
    count = max(2, found.model.output_shape[0])
    numbers = [str(k) for k in range(count)]  # a figure has room for short names only, a page for all of them
    names = found.model.class_names or numbers
    figure = pictures.mistakes(found.model, found.x, found.y, numbers, MOST_MISTAKES)
    shown = []
    for panel in figure.axes:
        for image in panel.images:
            file = io.BytesIO()
            imsave(file, image.to_rgba(image.get_array(), bytes=True), format="png", metadata={"Software": None})
            code = base64.b64encode(file.getvalue()).decode()
            lines = [re.sub(r"\d+(?=:)", lambda k: names[int(k[0])], line) for line in panel.get_title().split("\n")]
            shown.append((f"data:image/png;base64,{code}", lines))
    return figure.get_suptitle(), shown


def _norms(model, calls):
    """[{"name", "shape", "norm", "largest", "zeros", "start", "moved"}] of every parameter.

    What it was at the start follows from the seed: it is None where another version of minicnn has begun the run.
    """
    start = {}
    if calls and calls[0]["environment"].get("minicnn") == minicnn.__version__:
        twin = models.model_from_json(model.to_json())
        twin.build(model.input_shape)
        start = _parameters(twin)
    found = []
    for name, values in _parameters(model).items():
        first = start.get(name)
        row = {"name": name, "shape": values.shape, "norm": _norm(values), "largest": float(np.abs(values).max())}
        row |= {"rms": row["norm"] / values.size**0.5, "start": None, "moved": None}
        if first is not None and first.shape == values.shape:
            row |= {"start": _norm(first), "moved": _norm(values - first)}
        found.append(row)
    return found


def _parameters(model):
    """{path.name: values} in float64."""
    arrays = model.state_dict()
    return {name: arrays[name].astype(np.float64) for name, *_ in model.segments}


def _norm(values):
    return float(np.sqrt(np.square(values).sum()))
