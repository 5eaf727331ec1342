"""What ``fit`` says while it trains, on stderr: nothing, a line an epoch, or a bar of its steps."""

import contextlib
import sys
import time

import numpy as np

from minicnn import _check


def verbosity(where, verbose):
    """The argument ``verbose`` as 0, 1 or 2; "auto" depends on what stderr is."""
    if not isinstance(verbose, str | int | np.integer | np.bool_) or verbose not in ("auto", 0, 1, 2):  # True is 1
        raise ValueError(_check.message(where, "verbose must be 'auto', 0, 1 or 2", verbose))
    if verbose == "auto":
        verbose = 0 if sys.stderr is None else 1 if sys.stderr.isatty() else 2
    return int(verbose)


def progress_of(verbose, params):
    """The progress of one ``fit``, a context, for its argument ``verbose`` and the ``params`` of its callbacks."""
    return (_Silent, _Bar, _Lines)[verbosity("Sequential.fit", verbose)](params)


def of_pass(where, verbose, steps):
    """The same for one pass over samples, the evaluation or prediction of the method ``where``: call ``step`` and, at
    the end, ``epoch``, both with 0 and the logs."""
    title = where.rpartition(".")[2]
    return (_Silent, _Bar, _Lines)[verbosity(where, verbose)]({"epochs": 1, "steps": steps, "title": title})


class _Silent(contextlib.AbstractContextManager):
    shows_steps = False

    def __init__(self, params):
        self.params = params
        self.started = time.perf_counter()

    def __exit__(self, *error):
        pass

    def step(self, epoch, logs):
        pass

    def epoch(self, epoch, logs):
        pass

    def title(self, epoch):
        if "title" in self.params:
            return self.params["title"]
        return f"epoch {epoch + 1:{len(str(self.params['epochs']))}}/{self.params['epochs']}"


class _Lines(_Silent):
    """One line an epoch."""

    def epoch(self, epoch, logs):
        seconds = time.perf_counter() - self.started
        self.started = time.perf_counter()
        print(f"{self.title(epoch)}  {seconds:5.1f} s  {_shown(logs)}".rstrip(), file=sys.stderr, flush=True)


class _Bar(_Silent):
    """A bar of steps for each epoch, drawn by tqdm."""

    shows_steps = True
    bar = None

    def step(self, epoch, logs):
        if self.bar is None:
            from tqdm import tqdm  # here, not above: importing it takes longer than importing minicnn

            self.bar = tqdm(total=self.params["steps"], desc=self.title(epoch), unit="step", file=sys.stderr)
        self.bar.set_postfix_str(_shown(logs), refresh=False)
        self.bar.update()

    def epoch(self, epoch, logs):
        if self.bar is not None:
            self.bar.set_postfix_str(_shown(logs))
            self.bar.close()
            self.bar = None

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()


def _shown(logs):
    """The numbers, with the mode in which they were computed where there are both kinds."""
    parts = {"train mode": [], "eval mode": []}
    for name, value in logs.items():
        mode = "eval mode" if name.startswith(("clean_", "val_")) else "train mode"
        parts[mode].append(f"{name} {value:.4f}")
    if not parts["eval mode"]:
        return "  ".join(parts["train mode"])
    return " | ".join(f"{mode}: {'  '.join(numbers)}" for mode, numbers in parts.items())
