"""``minicnn export``."""

import json
import os

from minicnn import saving
from minicnn.cli import words


def export(options):
    """Writes a saved model as a file of ONNX."""
    model = saving.load_model(options.model)
    if os.path.exists(options.out) and os.path.samefile(options.model, options.out):
        raise words.Usage(f"OUT must be another file than the model, {options.model}")
    chosen = {
        "opset": options.opset,
        "input_layout": options.layout,
        "batch_size": options.batch_size,
        "training": options.training,
    }
    with words.warnings_as_notes():
        model.export(options.out, **chosen)
    report = {"model": options.model, "file": options.out, **chosen, "bytes": os.path.getsize(options.out)}
    words.show(json.dumps(report) if options.json else options.out)
    return 0
