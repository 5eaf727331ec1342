"""``minicnn plot``: the pictures of a run, in its folder."""

import io
import json
import os
import re
import warnings

from minicnn import _files, metrics
from minicnn import plot as pictures
from minicnn.cli import evaluate, runs, words

GLYPH = re.compile(r"Glyph (\d+) ")  # how matplotlib warns of a letter


def plot(options):
    """Draws what can be drawn, and names what cannot."""
    with pictures.theme(options.theme):
        found = runs.opened(options.run, options.data_dir)
        model, left_out, files, lacking = found.model, {}, [], set()
        draws = (
            lambda: pictures.history(found.history or {}),
            lambda: pictures.architecture(model),
            lambda: pictures.filters(model),
            lambda: pictures.confusion_matrix(_matrix(found), model.class_names),
            lambda: pictures.mistakes(model, found.x, found.y),
        )
        for name, draw in zip(runs.PICTURES, draws, strict=True):
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
            with warnings.catch_warnings(record=True) as found_missing:
                warnings.filterwarnings("always", "Glyph .* missing", UserWarning)
                figure.savefig(content, format=options.format)
            lacking |= {match[1] for one in found_missing if (match := GLYPH.match(str(one.message)))}
            _files.write_atomically(files[-1], [content.getvalue()])
    if lacking:
        letters = "".join(chr(int(number)) for number in sorted(lacking, key=int))
        words.note(f"note: the font has no {letters}: matplotlib's font.sans-serif chooses another")
    for name, reason in left_out.items():
        words.note(f"note: no picture {name}: {reason}")
    report = {"run": options.run, "files": files, "left_out": left_out}
    words.show(json.dumps(report) if options.json else "\n".join(files))
    return 0


def _matrix(found):
    p = found.model.predict_proba(found.x)
    return metrics.confusion_matrix(found.y, evaluate.taken_for(p), max(2, p.shape[1]))
