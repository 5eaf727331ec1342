"""``minicnn plot``: the pictures of a run, in its folder."""

import io
import json
import os
from dataclasses import dataclass, field

import numpy as np

from minicnn import _files, metrics, saving
from minicnn import plot as pictures
from minicnn.cli import building, runs, sources, words
from minicnn.model import Sequential


@dataclass(frozen=True)
class Found:
    """What is in the folder of a run: ``model``; ``history``, a dict of lists, or None, where no epoch was trained;
    ``part``, "test" or "validation", by which it is judged, with its samples ``x``, ``y`` as the model takes them, None
    where there are none, and ``reason``, why not; ``settings``, {} where they cannot be read."""

    model: Sequential
    history: dict | None
    part: str | None = None
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    reason: str = ""
    settings: dict = field(default_factory=dict)


def opened(folder, data_dir):
    """``Found`` of a folder; OSError and ValueError where it is none of a run.  Data that are gone are no error."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(2, "No such folder", folder)
    path = os.path.join(folder, "model.npz")
    if not os.path.lexists(path):
        raise FileNotFoundError(2, "No such file: the folder must be that of a run of minicnn train", path)
    model, history = saving.load_model(path), runs.json_in(os.path.join(folder, "history.json"))
    if history is not None and not (isinstance(history, dict) and all(isinstance(v, list) for v in history.values())):
        raise ValueError(f"{os.path.join(folder, 'history.json')}: must hold lists of numbers by name")
    settings = {}
    try:
        settings = runs.settings_in(os.path.join(folder, "settings.json"))
        if not settings:
            return Found(model, history, reason="there is no settings.json, which names the data")
        data = sources.load(settings, data_dir)
    except words.FAILURES as error:
        return Found(model, history, reason=words.sentence(error), settings=settings)
    if data.measured is None:
        return Found(model, history, reason="there is no test part and no validation part", settings=settings)
    x, y = data.parts[data.measured]
    x = building.as_inputs(model, x, settings)
    if x.shape[1:] != model.input_shape:
        reason = f"the data have another shape than the model, {x.shape[1:]}"
        return Found(model, history, reason=reason, settings=settings)
    return Found(model, history, data.measured, x, y, settings=settings)


def plot(options):
    """Draws what can be drawn, and names what cannot."""
    with pictures.theme(options.theme):
        found = opened(options.run, options.data_dir)
        model, left_out, files = found.model, {}, []
        for name, draw in {
            "history": lambda: pictures.history(found.history or {}),
            "architecture": lambda: pictures.architecture(model),
            "filters": lambda: pictures.filters(model),
            "confusion_matrix": lambda: pictures.confusion_matrix(_matrix(found), model.class_names),
            "mistakes": lambda: pictures.mistakes(model, found.x, found.y),
        }.items():
            if found.x is None and name in ("confusion_matrix", "mistakes"):
                left_out[name] = found.reason
                continue
            try:
                figure = draw()
            except ValueError as error:  # no epoch, no convolution, outputs that are no classes
                left_out[name] = words.sentence(error)
                continue
            files.append(os.path.join(options.run, f"{name}.{options.format}"))
            content = io.BytesIO()
            figure.savefig(content, format=options.format)
            _files.write_atomically(files[-1], [content.getvalue()])
    for name, reason in left_out.items():
        words.note(f"note: no picture {name}: {reason}")
    report = {"run": options.run, "files": files, "left_out": left_out}
    words.show(json.dumps(report) if options.json else "\n".join(files))
    return 0


def _matrix(found):
    p = found.model.predict_proba(found.x)
    taken = p.argmax(1) if p.shape[1] > 1 else (p[:, 0] > 0.5).astype(int)
    return metrics.confusion_matrix(found.y, taken, max(2, p.shape[1]))
