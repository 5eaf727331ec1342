"""What a compiled layer uses in ``forward`` and ``backward``, so that a plan can record them (plan.py)."""

import numpy as np

from minicnn import cells
from minicnn._ext import penalty
from minicnn._ext.machinery import plan


def empty(shape, dtype):
    """A new array for a result, its values undefined; it belongs to the plan that is being recorded, if one is."""
    array = np.empty(shape, dtype)
    plan.register(array)
    return array


def each_time(function, *arguments):
    """Calls the function now; while a plan is being recorded, at the beginning of each of its runs instead.

    For work that is not arithmetic on arrays: counting steps, setting the numbers of a ``Lot``.
    """
    if not plan.called_each_time(function, arguments):
        function(*arguments)


def in_between(function, *arguments):
    """Calls the function now; while a plan is being recorded, at this place in each of its runs instead.

    What was submitted before is then done (except gradients of parameters), and what follows has not begun.  For what
    all processes of a run must compute together, such as the statistics of a whole batch; it costs a parallel region.
    """
    if not plan.called_between(function, arguments):
        function(*arguments)


# ---- what outputs add to the loss (regularizers.py) ----

# ``with collect_penalties() as found``: a list of what this thread's forwards give to ``penalize`` within the block.
# Several threads may evaluate at once, so a layer cannot keep it.
collect_penalties = plan.Collector


def penalize(samples):
    """Tells the caller that collects (``collect_penalties``) what each sample adds to the loss: float64, (N,)."""
    plan.collect(samples)


def mean_penalty(found, n):
    """What was collected of a forward over n samples, as it counts in the loss: the mean over the samples; of a node of
    a batch (``cells.py``) the sum."""
    return cells.mean(sum(map(penalty.total, found)), n) if found and n else 0.0
