"""What the experiments share: data, networks, training many times, means with standard errors.

An experiment is a file with

- ``TITLE``, ``PAPER`` (what the paper found, and where), ``FULL`` and ``QUICK`` (sizes), ``here(size)`` (what we run),
  perhaps ``NOTE`` (what else is to be said about the full runs) and ``SEEDS``, where it is another number of them;
- ``specs(size)``: the arguments of all its trainings but the seed, as a list of dicts;
- ``train(seed, **spec)``: one training, a dict of what was measured; it can run in any process, and is kept in a file;
- ``report(results, size)``: a ``report.Report`` made from the results of all of them.

Two ways of counting meet here.  The paper's p is the probability that a unit is *kept*; the argument of minicnn's
layers is the ``rate`` that is dropped, 1 - p.  In this folder ``keep`` is the paper's p.
"""

import functools
import hashlib
import json
import os
import statistics
import time

import numpy as np

import minicnn as mc
from minicnn import layers, processes

SEEDS = 5
BATCH_SIZE = 100
MOMENTUM = 0.9
LOSS = "sparse_categorical_crossentropy"
LEARNING_RATE = 0.1  # of the first step, times the probability of keeping a unit: see settings.py
KEEP_INPUT = 0.8  # the paper's p of the inputs, wherever it drops inputs
VALIDATION = {"mnist": 10_000, "digits": 297}  # the last samples of the training part
PIXELS = {"mnist": 784, "digits": 64}


# ---- data ----


@functools.cache
def data(name):
    """{"train", "validation", "test": (x, y)} of "mnist" or "digits"; x float32 (n, pixels) in [0, 1]."""
    (x, y), test = getattr(mc.datasets, name).load_data()
    kept = len(x) - VALIDATION[name]
    parts = {"train": (x[:kept], y[:kept]), "validation": (x[kept:], y[kept:]), "test": test}
    largest = 255 if x.dtype == np.uint8 else 1
    return {part: (a.reshape(len(a), -1).astype(np.float32) / largest, b) for part, (a, b) in parts.items()}


def sample(name, n, seed):
    """``n`` samples of the training part, others for every seed: error bars then hold the luck of the draw as well."""
    x, y = data(name)["train"]
    chosen = np.random.default_rng(seed).permutation(len(x))[:n]
    return x[chosen], y[chosen]


# ---- networks ----


def network(widths, seed, keep=1.0, keep_input=1.0, classes=10, **dense):
    """Dense layers of ReLUs, of which every unit is kept with probability ``keep``, and a softmax.

    ``dense``: further arguments of the hidden layers (regularisers, constraints).
    """
    chain = [layers.Dropout(1 - keep_input)] if keep_input < 1 else []
    for width in widths:
        chain += [layers.Dense(width, activation="relu", **dense), layers.Dropout(1 - keep)]
    return mc.Sequential([*chain, layers.Dense(classes, activation="softmax")], seed=seed)


def chain(size):
    """784-512-512-10, say."""
    return f"{PIXELS[size['data']]}-{size['units']}-{size['units']}-10"


def fit(model, x, y, epochs, learning_rate):
    """Trains with momentum and a learning rate that falls to 0 along a cosine."""
    steps = epochs * len(mc.datasets.slices(len(x), BATCH_SIZE))
    model.compile(mc.optimizers.SGD(mc.optimizers.CosineDecay(learning_rate, steps), MOMENTUM), LOSS)
    model.fit(x, y, BATCH_SIZE, epochs, verbose=0)


def error(model, x, y):
    """The share of wrong answers in percent, nothing dropped."""
    return 100 * float((model.predict(x).argmax(1) != y).mean())


# ---- many trainings ----


def run(experiment, size, seeds, n_jobs=1, folder=None, say=print):
    """The results of all trainings of an experiment, each {**spec, "seed", "cpu seconds", ...what it measured}.

    With a ``folder`` each is written there as it ends, and what is there is not run again.
    """
    tasks = [{**spec, "seed": seed} for spec in experiment.specs(size) for seed in range(seeds)]
    files = [folder and _file(folder, experiment, task) for task in tasks]
    left = [task for task, file in zip(tasks, files, strict=True) if file is None or not file.exists()]
    done = {}

    def keep(pair):
        task, result = pair
        done[_key(task)] = result
        if folder is not None:
            _keep(_file(folder, experiment, task), result)
            say(f"{experiment.TITLE}: {len(done)} of {len(left)}, {result['cpu seconds']:.1f} s: {_key(task)}")

    processes.run_all("dropout_paper", functools.partial(_timed, experiment.train), left, n_jobs, {}, keep)
    return [{**task, **(done.get(_key(task)) or json.loads(file.read_text()))}
            for task, file in zip(tasks, files, strict=True)]  # fmt: skip


def _timed(train, task):
    """(task, result) of one training on one thread; what another program takes of the CPU is not in its seconds."""
    mc.set_num_threads(1)
    begin = time.process_time()
    result = train(**task)
    return task, {**result, "cpu seconds": round(time.process_time() - begin, 2)}


def _key(task):
    return json.dumps(task)


def _file(folder, experiment, task):
    """The file of a training: a different one for different arguments."""
    name = experiment.train.__module__.rpartition(".")[2]
    return folder / f"{name}-{hashlib.sha256(_key(task).encode()).hexdigest()[:16]}.json"


def _keep(file, result):
    file.parent.mkdir(exist_ok=True)
    half = file.with_suffix(".half")
    half.write_text(json.dumps(result))
    os.replace(half, file)


# ---- numbers ----


class Mean:
    """The mean of one number per seed, with its standard error s / sqrt(n)."""

    def __init__(self, values):
        self.values = list(values)
        self.mean = statistics.fmean(self.values)
        self.se = statistics.stdev(self.values) / len(self.values) ** 0.5 if len(self.values) > 1 else float("nan")

    def __sub__(self, other):
        """The mean difference, seed by seed: both had the same samples and, as far as that goes, initial values."""
        return Mean(a - b for a, b in zip(self.values, other.values, strict=True))

    def __truediv__(self, other):
        return Mean(a / b for a, b in zip(self.values, other.values, strict=True))

    def __str__(self):
        return format(self, ".2f")

    def __format__(self, digits):
        digits = digits or ".2f"
        return f"{self.mean:{digits}}" + (f" ± {self.se:{digits}}" if len(self.values) > 1 else "")


def means(results, *keys):
    """{value of the key (or tuple of values): {measure: Mean over the seeds}}, in the order of the results."""
    groups = {}
    for result in results:
        key = tuple(result[name] for name in keys)
        groups.setdefault(key if len(keys) > 1 else key[0], []).append(result)
    numbers = {key: _numbers(group[0]) for key, group in groups.items()}
    return {key: {name: Mean(r[name] for r in group) for name in numbers[key]} for key, group in groups.items()}


def _numbers(result):
    return [name for name, value in result.items() if isinstance(value, int | float) and name != "seed"]
