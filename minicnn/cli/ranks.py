"""``minicnn train`` under mpiexec: the processes of MPI, ranks, train one network together (distributed.py).

Whether a launcher has started this process is read in the variables that it sets, so that mpi4py is imported under a
launcher only.  All ranks get the same words; the first alone prints and writes; all end with the same exit status.
"""

import os
import sys
import time

LAUNCHERS = (  # (number of processes, number of this one): MPICH, Intel, Microsoft; Open MPI; MVAPICH; PMIx, with Slurm
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("PMIX_SIZE", "PMIX_RANK"),
    ("SLURM_STEP_NUM_TASKS", "PMIX_RANK"),  # Slurm's alone are those of any program that it starts several times
)
TIMEOUT = 600.0  # seconds for which a rank waits for another one
LONGER = 10.0  # seconds after the first rank, after which another one says why all end
WHERE = "minicnn train"


def started_as():
    """(number of this process, number of processes) as a launcher of MPI says; (0, 1) without one."""
    for size, rank in LAUNCHERS:
        found = [os.environ.get(name, "") for name in (rank, size)]
        if all(one.isascii() and one.isdigit() for one in found):
            rank, size = map(int, found)
            return (rank, size) if rank < size else (0, 1)
    return 0, 1


def is_interrupt(error):
    """Whether it was Ctrl-C, on this rank or another one."""
    return isinstance(error, KeyboardInterrupt) or getattr(error, "kind", None) == "KeyboardInterrupt"


def together(words, started, options_of, run, status_of):
    """The exit status of all ranks: the largest of what ``run(options_of(), ranks)`` returns on each.

    ``words``: the command line, which must be the same on all; ``started``: of ``started_as``; ``status_of(error)``:
    the exit status of an error, which it prints.
    """
    rank, size = started
    streams = sys.stdout, sys.stderr
    if rank:
        sys.stdout = sys.stderr = None  # as where they are closed
    try:
        try:
            ranks = _joined(size)
        except Exception as error:
            return _status_of(error, status_of)
        failed = None
        try:
            with ranks.together(WHERE):
                ranks.require_same(WHERE, {"the command line": words, "the version of minicnn": _version()})
            options = options_of()  # it may end here, on all alike: so no rank is told
            with ranks.together(WHERE):
                status = run(options, ranks)
        except BaseException as error:
            status, failed = _status_of(error, status_of), error
        try:
            with ranks.together(WHERE):
                return max(ranks.all_of(status))
        except (RuntimeError, KeyboardInterrupt):  # a rank does not answer, for which MPI would wait at the end
            pass
        if rank:
            time.sleep(LONGER)  # the first one, if it is there, says it and ends all
            sys.stdout, sys.stderr = streams
            if failed is not None:
                _status_of(failed, status_of)
        ranks.abort(status or 1)
        return status or 1
    finally:
        sys.stdout, sys.stderr = streams


def _version():
    import minicnn

    return minicnn.__version__


def _joined(size):
    from minicnn import _check, distributed

    ranks = distributed.of(WHERE, None, TIMEOUT)
    if ranks.size != size:
        required = f"MPI must know of the {size} processes that the launcher has started"
        fix = "mpi4py must be built for the MPI whose mpiexec it is"
        raise RuntimeError(_check.message(WHERE, required, ranks.size, fix))
    return ranks


def _status_of(error, status_of):
    try:
        return status_of(error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
