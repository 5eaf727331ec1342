"""The files that models are read from, and ``minicnn import``."""

import json
import os

from minicnn import interop, saving
from minicnn.cli import words


def load(path):
    """The model in a file that ``Sequential.save`` wrote, or, by its ending, in one of ONNX."""
    return interop.from_onnx(path) if os.path.splitext(path)[1].lower() == ".onnx" else saving.load_model(path)


def import_(options):
    """Writes the model in a file of ONNX as one of minicnn's."""
    if os.path.exists(options.out) and os.path.exists(options.file) and os.path.samefile(options.file, options.out):
        raise words.Usage(f"OUT must be another file than {options.file}")
    model = interop.from_onnx(options.file, input_layout=options.layout, external_data=options.external_data)
    model.save(options.out)
    report = {
        "file": options.file,
        "model": options.out,
        "input_shape": model.input_shape,
        "params": model.count_params(),
    }
    words.show(json.dumps(report) if options.json else options.out)
    return 0
