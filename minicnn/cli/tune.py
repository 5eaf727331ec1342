"""``minicnn tune``."""

import contextlib
import functools
import io
import json
import os
import time

import minicnn
from minicnn import _files, processes
from minicnn.cli import building, runs, sources, words


def tune(options):
    """Trains the small network at several dropout rates, by cross-validation, and prints a table of the results."""
    begin = time.perf_counter()
    folder = options.out or "minicnn-tune"
    os.makedirs(folder, exist_ok=True)
    settings = runs.settings_of(options) | {"validation": 0.0}
    data = sources.load(settings, options.data_dir)
    x, y = data.parts.pop("training")
    data.parts = {"training": (x[:0], y[:0])}  # what the processes need of them
    trained_on = len(x) - len(x) // options.cv  # by each run, or one less
    build = functools.partial(building.model, settings=settings, data=data, samples=trained_on)
    arguments = {"rates": options.rates, "repeats": options.repeats, "cv": options.cv, "n_jobs": options.jobs}
    arguments |= {name: settings[name] for name in ("epochs", "batch_size", "seed")}
    with _workers(options):
        curve = minicnn.tune.dropout_curve(build, x, y, **arguments)
    report = {"data": settings["data"], "lr": settings["lr"], "momentum": settings["momentum"], **curve.to_dict()}
    files = _written(folder, report, curve)
    status = int(sources.failed(settings["data"], data.skipped))
    seconds = round(time.perf_counter() - begin, 3)
    if options.json:
        words.show(json.dumps({**report, "seconds": seconds, "saved": files}))
        return status
    done = (
        f"{options.cv} folds, {options.cv * options.repeats} runs a rate, {settings['epochs']} epochs, {seconds:.1f} s"
    )
    words.show(f"{data.name}: {len(x):,} training images, {done}\n\n{curve}\n\nsaved: {', '.join(files)}")
    return status


def _workers(options):
    """A context in which dask is joblib's active backend, if that is asked for."""
    if options.dask is None:
        return contextlib.nullcontext()
    if options.jobs is not None:
        raise words.Usage("--jobs is for processes: with --dask all of its workers train")
    return processes.on_dask(options.dask)


def _written(folder, report, curve):
    """The paths of tune.json and, with matplotlib, tune.png."""
    table, picture = os.path.join(folder, "tune.json"), os.path.join(folder, "tune.png")
    _files.write_atomically(table, [json.dumps(report, indent=1).encode() + b"\n"])
    image = io.BytesIO()
    try:
        curve.plot(image)
    except ImportError as error:
        words.note(f"no picture: {error}")
        return [table]
    _files.write_atomically(picture, [image.getvalue()])
    return [table, picture]
