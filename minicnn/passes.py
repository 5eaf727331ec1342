"""Passes over samples from the first to the last, as evaluation and prediction make them, in memory or as they come."""

import warnings

from minicnn import _check, intake, stream

TITLES = {"clean_": "the training samples", "val_": "the validation samples", "": "the samples"}


def over(model, method, given, batch_size, steps=None, prefix="", inputs=False):
    """A context for passes over ``given``, (x, y, weights) or (data,): its ``batches()`` are checked (x, y, weights).

    ``method``: of Sequential, for errors; ``steps``: batches of a pass, None for all of them; ``prefix``: "val_" for
    the validation of a ``fit`` and "clean_" for its training samples; ``inputs``: only x is asked for.
    """
    kind = _Batches if len(given) == 1 else _Arrays
    return kind(model, method, given, batch_size, steps, prefix, inputs)


class _Arrays:
    """``steps``: how many batches there are, None if that is not known; ``samples``: the same; ``once``: whether the
    data cannot be read again."""

    once = False

    def __init__(self, model, method, given, batch_size, steps, prefix, inputs):
        self.method, self.title, self.given = method, TITLES[prefix], given
        starts = range(0, len(given[0]), batch_size)
        self.starts = starts[: _checked(method, prefix, steps, len(starts))]
        self.steps = len(self.starts)
        self.samples = min(len(given[0]), self.steps * batch_size)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def batches(self):
        parts = (slice(start, start + self.starts.step) for start in self.starts)  # one by one: there may be very many
        return (tuple(None if one is None else one[part] for one in self.given) for part in parts)


class _Batches:
    samples = None

    def __init__(self, model, method, given, batch_size, steps, prefix, inputs):
        self.model, self.method, self.title, self.given, self.inputs = model, method, TITLES[prefix], given, inputs
        of = f" of {TITLES[prefix]}" if prefix else ""
        source = stream.source_of(f"Sequential.{method}", given[0])
        self.once = isinstance(source, stream.Iterator)
        self.limit = _checked(method, prefix, steps, source.length)
        self.steps = source.length if self.limit is None else self.limit
        if prefix and self.steps is None and self.once:
            required = "validation_steps must be given with validation_data that go on after each epoch"
            raise ValueError(_check.message(source.where, required, _check.Shown(type(given[0]).__name__)))
        if self.steps is None and stream.has_no_end(given[0]):
            required = "steps must be given with data that have no end"
            raise ValueError(_check.message(source.where, required, _check.Shown(type(given[0]).__name__)))
        self.stream = stream.Stream(source, lambda _, number: f"batch {number}{of}", inputs, model.ranks.rows_of_pass)

    def __enter__(self):
        self.stream.__enter__()
        return self

    def __exit__(self, *error):
        return self.stream.__exit__(*error)

    def batches(self):
        number = -1
        for number, batch in enumerate(self.stream.epoch(0, self.limit)):
            method = f"{self.method}: {self.stream.place(0, number)}"
            if self.inputs:
                yield self.model.checked_inputs(method, batch.x), None, None
            else:
                yield intake.batch(self.model, method, batch)
        where, done = self.stream.source.where, number + 1
        if not done:
            raise ValueError(_check.message(where, f"{self.title} must be at least one batch", 0))
        if self.steps not in (None, done):
            warnings.warn(f"{where}: {self.title} ended after {done} of {self.steps} batches", stacklevel=6)


def _checked(method, prefix, steps, most):
    """The argument ``steps`` or ``validation_steps``, of at most so many batches of arrays or of a sequence."""
    name = "validation_steps" if prefix == "val_" else "steps"
    return None if steps is None else _check.integer(f"Sequential.{method}", name, steps, 1, most)
