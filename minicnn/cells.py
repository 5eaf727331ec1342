"""The tree in which every sum over a batch is made, so that several processes can make it together, to the last bit.

A batch of n samples is halved, the first half with the odd one, and so is each half, ``levels(n)`` times: into
cells.  A node of that tree is a run of samples.  What any kernel sums up for them alone is the sum of the node, if it
knows which node it is (``node``), and the sum of a batch is that of its nodes, combined (``combine``).

``_ext/machinery/jobs.pxd`` has the tree, docs/kernels.md, section 7, what a process of several has to know.
"""

import contextlib
import itertools
import threading
from typing import NamedTuple

from minicnn._ext.machinery import jobs


class _OfThread(threading.local):
    first, exchange = 0, None  # of the node that this thread computes; those of a batch


_of_thread = _OfThread()
levels = jobs.levels
samples_of_batch = jobs.samples_of_batch


class Node(NamedTuple):
    """Samples ``first`` to ``last`` - 1 of a batch of ``batch``: a node at ``level`` of its tree, 0 for all of it."""

    first: int
    last: int
    level: int
    batch: int


def halves(node):
    """The two nodes below a node that is no cell."""
    first, last, level, batch = node
    middle = (first + last + 1) // 2
    return Node(first, middle, level + 1, batch), Node(middle, last, level + 1, batch)


def share_out(n, parts):
    """The nodes of a batch of n for ``parts`` >= 1 processes, a list for each, one behind the other.

    Each gets a run of whole cells, as many as the others or one more or less, in the fewest nodes; none where there are
    fewer cells than processes.
    """
    cells = 1 << levels(n)

    def within(node, cell, first, last):
        """The largest nodes of the cells ``first`` to ``last`` - 1 in this node, which begins with ``cell``."""
        end = cell + (cells >> node.level)
        if last <= cell or end <= first:
            return []
        if first <= cell and end <= last:
            return [node]
        below = zip(halves(node), (cell, (cell + end) // 2), strict=True)
        return [found for half, begin in below for found in within(half, begin, first, last)]

    ends = [cells * part // parts for part in range(parts + 1)]
    return [within(Node(0, n, 0, n), 0, *pair) for pair in itertools.pairwise(ends)]


def combine(sums, add):
    """The sum of a batch from all of its nodes: pairs (node, sum) in the order of the samples.

    ``add(a, b)`` returns the sum of two, b behind a; it may write into a.
    """
    waiting = []
    for node, total in sums:
        level = node.level
        while waiting and waiting[-1][0] == level:
            level, total = level - 1, add(waiting.pop()[1], total)
        waiting.append((level, total))
    if [level for level, _ in waiting] != [0]:
        raise ValueError("cells.combine: sums must be of all nodes of a batch")
    return waiting[0][1]


def mean(total, n):
    """total / n; where the n samples are a node of a batch, the total alone: the mean is for who has all nodes."""
    return total / n if samples_of_batch(n) == n else total


@contextlib.contextmanager
def node(node, exchange=None):
    """Within the block the kernels that this thread calls are given a node of a batch, not a batch.

    Gradients are then parts of those of the batch, by whose number of samples means are divided.  The value of a loss
    is the sum over the node's samples, not divided.

    ``exchange(sums, join)`` is called in forward and in backward of a BatchNormalization: ``sums``, a float64 array of
    the node's, must be overwritten with the batch's, which is ``combine`` of those of all nodes by ``join``.  Plans
    that are recorded within the block are for such a node, and call ``exchange`` in each run.
    """
    outer, before = (exchange_of_thread(), first_of_thread()), jobs.set_node(node.batch, node.level)
    _of_thread.exchange, _of_thread.first = exchange, node.first
    try:
        yield
    finally:
        _of_thread.exchange, _of_thread.first = outer
        jobs.set_node(*before)


def exchange_of_thread():
    """The ``exchange`` of the node that this thread computes, or None."""
    return _of_thread.exchange


def first_of_thread():
    """The place in its batch of the first sample of the node that this thread computes; 0 of a batch."""
    return _of_thread.first
