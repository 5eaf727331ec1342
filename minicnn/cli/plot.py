"""``minicnn plot``: the pictures of a run, in its folder."""

import io
import json
import os

from minicnn import _files, metrics
from minicnn import plot as pictures
from minicnn.cli import evaluate, runs, words


def plot(options):
    """Draws what can be drawn, and names what cannot."""
    with pictures.theme(options.theme):
        found = runs.opened(options.run, options.data_dir)
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
    return metrics.confusion_matrix(found.y, evaluate.taken_for(p), max(2, p.shape[1]))
