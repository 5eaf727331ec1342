"""``minicnn summary`` and ``minicnn info``."""

import json

import minicnn
from minicnn.cli import models, words
from minicnn.summary import described


def summary(options):
    """Prints the layers of a saved model."""
    model = models.load(options.model)
    rows = [described(layer) for layer in model.layers]
    report = {
        "model": options.model,
        "params": model.count_params(),
        "class_names": model.class_names,
        "layers": rows,
    }
    words.show(json.dumps(report) if options.json else model.summary_text())


def info(options):
    """Prints versions, instruction set and threads."""
    facts = minicnn.versions()
    if options.json:
        words.show(json.dumps(facts))
    else:
        minicnn.show_versions()
