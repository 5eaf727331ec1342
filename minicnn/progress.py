"""What ``fit`` says while it trains: nothing, a line an epoch, or a bar of its steps.

On stderr, but in a notebook on stdout: what is on stderr is red there.
"""

import contextlib
import contextvars
import sys
import time
import warnings

import numpy as np

from minicnn import _check

OFTEN = 0.1  # seconds between two drawings of a bar


def verbosity(where, verbose):
    """The argument ``verbose`` as 0, 1 or 2; "auto" depends on where it is said."""
    if not isinstance(verbose, str | int | np.integer | np.bool_) or verbose not in ("auto", 0, 1, 2):  # True is 1
        raise ValueError(_check.message(where, "verbose must be 'auto', 0, 1 or 2", verbose))
    if verbose == "auto":
        stream = _stream()
        verbose = 0 if stream is None else 1 if in_notebook() or stream.isatty() else 2
    return int(verbose)


def in_notebook():
    """Whether a kernel of Jupyter's runs this."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _stream():
    return sys.stdout if in_notebook() else sys.stderr


_silent = contextvars.ContextVar("silent", default=False)


@contextlib.contextmanager
def silence(silent):
    """Within the block ``say`` prints nothing, if ``silent``."""
    before = _silent.set(silent or _silent.get())
    try:
        yield
    finally:
        _silent.reset(before)


def say(line):
    """Prints a line."""
    if not _silent.get():
        print(line, file=_stream(), flush=True)


def bar(**words):
    """A bar of tqdm's; in a notebook it is a widget where there are widgets."""
    # Imported here: that takes longer than importing minicnn.
    if in_notebook():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of widgets that are not installed
            from tqdm.auto import tqdm
    else:
        from tqdm import tqdm
    return tqdm(file=_stream(), **words)


def progress_of(verbose, params):
    """The progress of one ``fit``, a context, for its argument ``verbose`` and the ``params`` of its callbacks."""
    return (_Silent, _Bar, _Lines)[verbosity("Sequential.fit", verbose)](params)


def of_pass(where, verbose, steps):
    """The same for one pass over samples, the evaluation or prediction of the method ``where``: call ``step`` and, at
    the end, ``epoch``, both with 0."""
    title = where.rpartition(".")[2]
    return (_Silent, _Bar, _Lines)[verbosity(where, verbose)]({"epochs": 1, "steps": steps, "title": title})


class _Silent(contextlib.AbstractContextManager):
    shows_steps = False

    def __init__(self, params):
        self.params = params
        self.began = self.started = time.perf_counter()
        self.first = None  # the first epoch that was seen, with the share of it that had been done before
        self.done = 0  # steps of this epoch that had been done before

    def begin(self, epoch, done):
        """An epoch begins, of which so many steps were done in a run that goes on here."""
        self.done = done
        if self.first is None:
            self.first = epoch + (done / self.params["steps"] if done else 0)

    def left(self, epoch, now, share=1.0):
        """What is to come, as far as it takes as long as what was: "12 s left", after that share of the epoch; "" at
        the end of the last one, and where nothing is known yet."""
        self.first = epoch if self.first is None else self.first
        done, all_ = epoch - self.first + share, self.params["epochs"] - self.first
        if done >= all_ or not done:
            return ""
        return f"{_time((now - self.began) * (all_ - done) / done)} left"

    def __exit__(self, *error):
        pass

    def step(self, epoch, result):
        """After a step; ``result()`` gives the logs."""

    def epoch(self, epoch, logs):
        pass

    def title(self, epoch):
        if "title" in self.params:
            return self.params["title"]
        return f"epoch {epoch + 1:{len(str(self.params['epochs']))}}/{self.params['epochs']}"


class _Lines(_Silent):
    """One line an epoch."""

    def epoch(self, epoch, logs):
        now = time.perf_counter()
        seconds, left, self.started = now - self.started, self.left(epoch, now), now
        took = f"{seconds:5.1f} s{f' ({left})' if left else ''}"
        say(f"{self.title(epoch)}  {took}  {_shown(logs)}".rstrip())


class _Bar(_Silent):
    """A bar of steps for each epoch, drawn by tqdm, which says what is left of the epoch; with what is left of all."""

    shows_steps = True
    bar = None
    waiting = 0  # steps that the bar does not show yet: words and means are made for what is drawn
    drawn = 0.0

    def step(self, epoch, result):
        self.waiting += 1
        now = time.perf_counter()
        if self.bar is None:
            steps = {"total": self.params["steps"], "initial": self.done}
            self.bar = bar(**steps, desc=self.title(epoch), unit="step", mininterval=0, miniters=1)
        elif now - self.drawn < OFTEN:
            return
        self.drawn = now
        known = self.params["epochs"] > 1 and self.params["steps"]
        left = self.left(epoch, now, (self.bar.n + self.waiting) / self.params["steps"]) if known else ""
        self.bar.set_postfix_str(", ".join(filter(None, (left, _shown(result())))), refresh=False)
        self._show()

    def epoch(self, epoch, logs):
        if self.bar is not None:
            self._show()
            self.bar.set_postfix_str(_shown(logs))
            self._close()

    def __exit__(self, *error):
        if self.bar is not None:
            self._show()
            self._close()

    def _show(self):
        steps, self.waiting = self.waiting, 0
        self.bar.update(steps)

    def _close(self):
        self.bar.close()
        self.bar = None


def _time(seconds):
    """ "0.3 s", "12 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _shown(logs):
    """The numbers, with the mode in which they were computed where there are both kinds."""
    parts = {"train mode": [], "eval mode": []}
    for name, value in logs.items():
        mode = "eval mode" if name.startswith(("clean_", "val_")) else "train mode"
        parts[mode].append(f"{name} {value:.4f}")
    if not parts["eval mode"]:
        return "  ".join(parts["train mode"])
    return " | ".join(f"{mode}: {'  '.join(numbers)}" for mode, numbers in parts.items())
