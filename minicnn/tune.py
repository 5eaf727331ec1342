"""Choosing the dropout rate: ``dropout_curve`` trains one network at several rates and measures what each is worth.

For every rate a new network is trained, on the same parts of the data and from the same seeds as for the other rates,
and evaluated with nothing dropped, on the samples that it was trained on and on those that it has not seen.  The
result is a table, a picture, and two rates: the best, and that of the one-standard-error rule.
"""

import contextlib
import inspect
import itertools
import math
import os

import numpy as np

from minicnn import _check, _files, datasets, intake, losses, metrics, processes, progress
from minicnn.model import Sequential
from minicnn.notebook import Pictured
from minicnn.progress import verbosity

__all__ = ["DropoutCurve", "dropout_curve", "stratified_folds"]

RATES = (0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def dropout_curve(
    build,
    x,
    y,
    rates=RATES,
    cv=None,
    validation_data=None,
    repeats=1,
    epochs=10,
    batch_size=32,
    select="loss",
    seed=0,
    n_jobs=None,
    verbose="auto",
):
    """Trains ``build(rate, seed)`` at every rate and returns a ``DropoutCurve``: the table of what came out.

    - ``build``: a function ``(rate, seed)`` that returns a new, compiled model, made with
      ``Sequential(..., seed=seed)`` and with ``rate`` where the network drops.
    - x (N, ...), y (N, ...): the samples to choose the rate by, as ``fit`` takes them.  Not the test part: what has
      chosen the rate cannot judge it afterwards.
    - ``rates``: numbers in [0, 1], each once.
    - ``cv``: the number of folds K, >= 2 (``stratified_folds``; for a loss of regression, targets (N,) or (N, 1) are
      numbers and no classes): every network is trained K times, each time without one fold, which validates it.
      ``validation_data``: (x, y) or (x, y, sample_weight) instead, and x is trained on whole.  With neither of them,
      ``cv`` is 3.
    - ``repeats``: how often all this is done, >= 1, each time with other folds, initial values, masks and orders.
    - ``epochs``, ``batch_size``: as ``fit`` takes them; what counts is the network after the last epoch.
    - ``select``: "loss", the best rate has the lowest mean val_loss, or "accuracy", the highest mean val_accuracy.
    - ``seed``: 0 <= seed < 2^64.  A run's seed is a function of ``seed``, its repeat and its fold, and not of the rate:
      rates are compared run by run on the same samples, initial values and orders (paired), which takes the luck of the
      draw out of their differences.
    - ``n_jobs``: processes; -1 for one on every CPU.  None: as many as joblib's active backend has been told, such as
      the workers of a cluster (docs/clusters.md), and 1 where there is none.  The curve is the same, bit for bit, at
      any number.  More than one needs joblib (``pip install "minicnn[tune]"``) and a ``build`` that can be sent to a
      process: any function, lambdas too, unless it holds an open file, a lock or the like.  They share the threads.
    - ``verbose``: 0 silent, 1 a progress bar, 2 a line a run, "auto": 1 on a terminal or in a notebook, otherwise 2.
      On stderr, in a notebook on stdout.

    A run that fails, because its loss is not finite or for any other reason, is noted and the others continue.  Ctrl-C
    ends all processes.

    Raises TypeError and ValueError for bad arguments, before anything is trained; ImportError where joblib is missing;
    RuntimeError, with the first error, if every single run failed.
    """
    where = "dropout_curve"
    rates, verbose = _rates(where, rates), verbosity(where, verbose)
    select = _check.choice(where, "select", select, ("loss", "accuracy"))
    x, y, cv = _samples(where, x, y, cv, validation_data)
    settings = {
        "samples": len(x),
        "cv": cv,
        "repeats": _check.integer(where, "repeats", repeats, 1),
        "epochs": _check.integer(where, "epochs", epochs, 1),
        "batch_size": _check.integer(where, "batch_size", batch_size, 1),
        "seed": _check.integer(where, "seed", seed, 0, 2**64 - 1),
    }
    first = _built(where, build, rates[0], _seed(seed, 0, 0))
    for part_x, part_y, *weights in [(x, y), *([] if validation_data is None else [validation_data])]:
        intake.samples(first, "fit", part_x, part_y, *weights or [None], None)  # checked before any network is trained
    names = metrics.log_names(first.metrics)
    if select == "accuracy" and "accuracy" not in names:
        required = "select='accuracy' needs models with a metric of that name"
        raise ValueError(_check.message(where, required, names))
    dealt = np.zeros(len(x)) if _learns_numbers(first, y) else y
    folds = [None if cv is None else stratified_folds(dealt, cv, _seed(seed, repeat)) for repeat in range(repeats)]
    tasks = [(rate, *place) for rate in rates for place in np.ndindex(repeats, cv or 1)]
    shared = build, x, y, validation_data, folds, settings
    with _progress(len(tasks), verbose) as say:
        found = processes.run_all(where, _run, tasks, n_jobs, {"build": build}, say, shared)
    found.sort(key=lambda one: (one["rate"], one["repeat"], one["fold"]))  # not in the order in which they ended
    if all(one["error"] for one in found):
        raise RuntimeError(f"{where}: every run failed; the first one with {found[0]['error']}")
    return DropoutCurve(found, select, settings)


def _learns_numbers(model, y):
    """True for targets that are numbers, and would be taken for classes where all happen to be whole."""
    loss = model.loss_function
    of_numbers = losses.to_config(loss) is not None and not loss.fuses_softmax and not loss.yes_or_no
    return y.size == len(y) and model.output_kind == "values" and of_numbers


def _rates(where, rates):
    required = "rates must be a list of different numbers in [0, 1]"
    if isinstance(rates, str) or not hasattr(rates, "__iter__"):
        raise TypeError(_check.message(where, required, _check.kind(rates)))
    found = sorted(_check.number(where, "every rate", rate, 0, 1) for rate in rates)
    if not found or len(set(found)) < len(found):
        raise ValueError(_check.message(where, required, found))
    return found


def _samples(where, x, y, cv, validation):
    """x and y as arrays, and cv, None with validation data."""
    intake.require_arrays(where, "Every rate is trained on parts of them", x=x, y=y)
    x, y = _check.numeric_array(where, "x", x), _check.numeric_array(where, "y", y)
    if x.ndim < 1 or y.ndim < 1 or len(x) != len(y):
        shapes = _check.Shown(f"shapes {x.shape} and {y.shape}")
        raise ValueError(_check.message(where, "x and y must have the same number of samples", shapes))
    if validation is None:
        return x, y, _check.integer(where, "cv", 3 if cv is None else cv, 2)
    if cv is not None:
        raise ValueError(_check.message(where, "cv or validation_data must be given", _check.Shown("both")))
    if not isinstance(validation, list | tuple) or len(validation) not in (2, 3):
        required = "validation_data must be (x, y) or (x, y, sample_weight)"
        raise TypeError(_check.message(where, required, _check.Shown(type(validation).__name__)))
    return x, y, None


# ---- folds ----


def stratified_folds(y, cv, seed=0):
    """The fold of every sample: int64 (N,) with the numbers 0 .. cv - 1, a function of the arguments alone.

    Dealt out like cards, class after class, each class in an order drawn with ``seed``: any two folds differ by at most
    one sample, in total and in every class.  ``y``: class numbers (N,) or (N, 1), or one-hot
    rows (N, K); other targets are dealt out as one class.  ValueError if a class has fewer samples than folds.
    """
    where = "stratified_folds"
    y, cv = _check.numeric_array(where, "y", y), _check.integer(where, "cv", cv, 2)
    names, classes, sizes = np.unique(_classes(where, y), return_inverse=True, return_counts=True)
    if not len(y) or sizes.min() < cv:
        smallest = f"{sizes.min()} of class {names[sizes.argmin()]}" if len(y) else "no samples"
        required = f"every class must have a sample for each of the {cv} folds"
        raise ValueError(_check.message(where, required, _check.Shown(smallest), "Lower cv, or give validation_data"))
    shuffled = datasets.order(len(y), seed)
    dealt = shuffled[np.argsort(classes[shuffled], kind="stable")]
    folds = np.empty(len(y), np.int64)
    folds[dealt] = np.arange(len(y)) % cv
    return folds


def _classes(where, y):
    """Numbers (N,) that are equal for samples of one class."""
    if y.ndim < 1:
        raise ValueError(_check.message(where, "y must have a batch axis", _check.shape_of(y)))
    one_hot = y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all()
    if one_hot:
        return y.argmax(1)
    whole = y.size == len(y) and np.isfinite(y).all() and (y == np.floor(y)).all()
    return y.reshape(-1) if whole else np.zeros(len(y), np.int64)


def _seed(seed, *place):
    """A seed below 2^64 for a repeat, or for a repeat and a fold."""
    return int(np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)[0])


# ---- one run ----


def _run(build, x, y, validation, folds, settings, task):
    """Trains and evaluates one model; a dict of numbers, with what went wrong in "error" (None if nothing did)."""
    rate, repeat, fold = task
    result = {"rate": rate, "repeat": repeat, "fold": fold, "seed": _seed(settings["seed"], repeat, fold)}
    trained_on = x, y
    if validation is None:
        left_out = folds[repeat] == fold
        trained_on, validation = (x[~left_out], y[~left_out]), (x[left_out], y[left_out])
    numbers, error = {}, None
    try:
        model = _built("dropout_curve", build, rate, result["seed"])
        model.fit(*trained_on, settings["batch_size"], settings["epochs"], verbose=0)
        for part, samples in (("train", trained_on), ("val", validation)):
            found = model.evaluate(*samples[:2], settings["batch_size"], True, *samples[2:])
            numbers |= {f"{part}_{name}": value for name, value in found.items()}
        if not math.isfinite(numbers["train_loss"] + numbers["val_loss"]):
            both = f"{numbers['train_loss']} in training, {numbers['val_loss']} in validation"
            error = f"losses that are not finite: {both}"
    except Exception as failure:  # of any kind: it must not end the other runs
        error = f"{type(failure).__name__}: {failure}"
    return result | numbers | {"error": error}


def _built(where, build, rate, seed):
    """The model that ``build(rate, seed)`` returns, checked."""
    if not callable(build) or isinstance(build, Sequential):
        raise TypeError(_check.message(where, "build must be a function (rate, seed) -> model", _check.kind(build)))
    try:
        parameters = inspect.signature(build).parameters
        by_name = "seed" in parameters and parameters["seed"].kind is not inspect.Parameter.POSITIONAL_ONLY
        arguments = ((rate,), {"seed": seed}) if by_name else ((rate, seed), {})  # (rate, units=64, seed=0) too
        inspect.signature(build).bind(*arguments[0], **arguments[1])
    except TypeError:
        fix = "Without the seed all repeats would be the same: pass it to Sequential(..., seed=seed)"
        raise TypeError(_check.message(where, "build must take two arguments, (rate, seed)", build, fix)) from None
    except ValueError:  # a callable without a signature
        arguments = (rate, seed), {}
    model = build(*arguments[0], **arguments[1])
    if not isinstance(model, Sequential):
        raise TypeError(_check.message(where, "build must return a Sequential", _check.kind(model)))
    if model.optimizer is None:
        raise ValueError(f"{where}: build must return a compiled model; got one before compile(optimizer, loss)")
    if model.optimizer.iterations:
        got = _check.Shown(f"one that has been trained for {model.optimizer.iterations} steps")
        raise ValueError(_check.message(where, "build must return a new model", got))
    if model.seed != seed:
        fix = "Make it with Sequential(..., seed=seed)"
        raise ValueError(_check.message(where, f"build must return a model with the seed {seed}", model.seed, fix))
    return model


# ---- progress ----


@contextlib.contextmanager
def _progress(total, verbose):
    """A function that takes the result of each run and says how far they are."""
    if verbose == 1:
        with progress.bar(total=total, desc="dropout curve", unit="run") as bar:

            def say(one):
                bar.set_postfix_str(_said(one), refresh=False)
                bar.update()

            yield say
    else:
        count = itertools.count(1)

        def say(one):
            if verbose == 2:
                place = f"repeat {one['repeat'] + 1}, fold {one['fold'] + 1}"
                title = f"run {next(count):{len(str(total))}}/{total}"
                progress.say(f"{title}  {place}  {_said(one)}")

        yield say


def _said(one):
    return f"rate {one['rate']:g}  " + (one["error"] or f"val_loss {one['val_loss']:.4f}")


# ---- the result ----


class DropoutCurve(Pictured):
    """What ``dropout_curve`` found; ``print`` it for the table, ``plot`` it for the picture.

    ``table``: one dict for each rate, in ascending order, with the means over its runs and their standard errors:

    - ``rate``; ``runs``: how many there were; ``failed``: how many of them failed, ``note``: the first error or None.
      Where one failed all means are NaN: the mean of those that are left would flatter the rate.
    - ``train_loss``, ``val_loss``, and ``train_accuracy``, ``val_accuracy`` where the models have that metric (other
      metrics likewise): all computed after the last epoch with nothing dropped, so that they can be compared.
    - ``gap`` = val_loss - train_loss, what overfitting costs.
    - ``behind_best``: by how much val_loss (with select="accuracy": val_accuracy) is worse than at ``best_rate``.
    - ``train_loss_se`` and so on: the standard error of each mean over R runs, s / sqrt(R), s^2 = sum (v - mean)^2 /
      (R - 1); NaN for one run.  Those of the differences, ``gap_se`` and ``behind_best_se``, are computed from the
      differences run by run (paired), so that what is common to both sides, a hard fold for instance, does not count.

    ``best_rate``: that of the lowest mean val_loss (highest mean val_accuracy), of equal ones the lowest.
    ``one_standard_error_rate``: the highest rate whose mean is within one standard error (the best rate's) of the best
    mean.  Breiman et al. take the simplest model of which that is true, because the place of the minimum is the luck of
    the draw where the curve is flat; with dropout, the simplest is the most regularised, the highest rate.  None where
    there is no standard error.

    What a standard error means here: how much a mean would change with other folds and seeds *on these data*.  The runs
    are not independent, since any two of the training parts overlap, and no unbiased estimate of the variance exists
    (Bengio and Grandvalet); for new data the numbers are mostly too small, and repeats make them smaller without
    telling more about new data.  They are a guide for choosing, not a test of significance.

    ``runs``: a dict for each single run: rate, repeat, fold, seed, its numbers, and ``error``.  ``settings``,
    ``select``: how they were made.

    Sources: Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees" (1984), section 3.4.3, for the
    rule; Bengio and Grandvalet, "No Unbiased Estimator of the Variance of K-Fold Cross-Validation", JMLR 5 (2004).
    """

    _picture = "dropout_curve"

    def __init__(self, runs, select="loss", settings=None):
        self.runs, self.select, self.settings = runs, select, dict(settings or {})
        sign = 1 if select == "loss" else -1
        chosen = f"val_{select}"
        by_rate = {}
        for one in runs:
            by_rate.setdefault(one["rate"], []).append(one)
        names = [name for name in max(runs, key=len) if name.startswith(("train_", "val_"))]
        self.table = [_row(rate, of_rate, names) for rate, of_rate in by_rate.items()]
        whole = [row for row in self.table if not row["failed"]]
        best = min(whole, key=lambda row: sign * row[chosen], default=None)
        self.best_rate = self.one_standard_error_rate = None
        if best is not None:
            self.best_rate = best["rate"]
            limit = sign * best[chosen] + best[f"{chosen}_se"]  # NaN for one run: then none is below
            self.one_standard_error_rate = max(
                (row["rate"] for row in whole if sign * row[chosen] <= limit), default=None
            )
        for row in self.table:
            behind = [math.nan]
            if best is not None and not row["failed"]:
                pairs = zip(by_rate[row["rate"]], by_rate[best["rate"]], strict=True)
                behind = [sign * (one[chosen] - other[chosen]) for one, other in pairs]
            row |= _mean_and_error("behind_best", behind)

    def __str__(self):
        return "\n".join([*_aligned(self._cells()), "", *self._remarks()])

    def __repr__(self):
        rates = [row["rate"] for row in self.table]
        return f"<DropoutCurve of rates {rates}: best {self.best_rate}, one SE {self.one_standard_error_rate}>"

    def _cells(self):
        """The rows of the printed table, its head first."""
        accuracy = "val_accuracy" in self.table[0]
        yield "rate", "", "train_loss", "val_loss", "gap", *(("train_acc", "val_acc") if accuracy else ())
        for row in self.table:
            mark = "*" * (row["rate"] == self.best_rate) + "+" * (row["rate"] == self.one_standard_error_rate)
            cells = [f"{row['rate']:g}", mark, _number(row, "train_loss")]
            cells += [_number(row, name, error=True) for name in ("val_loss", "gap")]
            if accuracy:
                cells += [_percent(row, "train_accuracy"), _percent(row, "val_accuracy", error=True)]
            yield cells

    def _remarks(self):
        goal = "lowest mean val_loss" if self.select == "loss" else "highest mean val_accuracy"
        yield "Means over runs, with standard errors; nothing dropped; gap = val_loss - train_loss."
        yield f"* best rate: {goal}" if self.best_rate is not None else "No rate without a failed run."
        if self.one_standard_error_rate is not None:
            yield "+ one-standard-error rule: the highest rate within one standard error of the best"
        elif self.best_rate is not None:
            yield "One run a rate: no standard errors.  Take more folds or repeats."
        for row in self.table:
            if row["failed"]:
                yield f"rate {row['rate']:g}: {row['failed']} of {row['runs']} runs failed, the first: {row['note']}"

    def to_dict(self):
        """All of it, ready for JSON: NaN and infinity are None."""
        found = {
            "select": self.select,
            "best_rate": self.best_rate,
            "one_standard_error_rate": self.one_standard_error_rate,
            **self.settings,
        }
        return found | {"table": [_finite(row) for row in self.table], "runs": [_finite(one) for one in self.runs]}

    def plot(self, path=None, ax=None):
        """``plot.dropout_curve``; with ``path`` the picture is written into that file, of the kind its ending says."""
        from minicnn import plot

        figure = plot.dropout_curve(self, ax)
        if path is not None:
            if isinstance(path, str | os.PathLike):
                _files.mode_of(path)  # OSError for a pipe, whose reader might never come
            figure.savefig(path)
        return figure


def _row(rate, runs, names):
    """Means and standard errors over the runs of one rate."""
    errors = [one["error"] for one in runs if one["error"]]
    row = {"rate": rate, "runs": len(runs), "failed": len(errors), "note": errors[0] if errors else None}
    for name in names:
        row |= _mean_and_error(name, [math.nan] if errors else [one[name] for one in runs])
    return row | _mean_and_error("gap", [math.nan] if errors else [one["val_loss"] - one["train_loss"] for one in runs])


def _mean_and_error(name, values):
    mean = math.fsum(values) / len(values)
    error = math.nan
    if len(values) > 1:
        error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    return {name: mean, f"{name}_se": error}


def _number(row, name, error=False, factor=1, digits=4):
    if math.isnan(row[name]):
        return "-"
    more = f" ± {factor * row[f'{name}_se']:.{digits}f}" if error and not math.isnan(row[f"{name}_se"]) else ""
    return f"{factor * row[name]:.{digits}f}{more}"


def _percent(row, name, error=False):
    number = _number(row, name, error, factor=100, digits=2)
    return number if number == "-" else f"{number} %"


def _aligned(rows):
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            f"{cell:<{width}}" if column == 1 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()


def _finite(row):
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
