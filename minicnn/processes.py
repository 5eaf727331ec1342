"""Many tasks, one function: in this process or in several, with the same results.

Processes are joblib's (``pip install "minicnn[tune]"``).  They share the threads.  What the tasks compute does not
depend on the number of threads, and so not on the number of processes either.
"""

import contextlib
import functools
import os
import pickle
import shutil
import signal

from minicnn import _check
from minicnn._ext.machinery.runtime import get_num_threads, set_num_threads


def run_all(where, function, tasks, n_jobs, sent=None, done=None):
    """[function(task) for each of the tasks], in the order in which they end; each result is given to ``done`` as well.

    - ``n_jobs``: processes, -1 for one on every CPU (joblib's rules).
    - ``sent``: {name: value} of what ``function`` holds and what might not be picklable.

    If ``function`` or ``done`` raises, or on Ctrl-C, all processes are ended.  ImportError without joblib, TypeError
    for what cannot be sent, ValueError for n_jobs 0.
    """
    count, joblib = how_many(where, n_jobs, len(tasks))
    if count > 1:
        _require_picklable(where, sent or {}, joblib)
        _make_sure_that_processes_can_be_ended()
        function = functools.partial(_with_threads, max(1, get_num_threads() // count), function)
    found, results = [], map(function, tasks)
    try:
        if count > 1:
            parallel = joblib.Parallel(count, backend="loky", return_as="generator_unordered")
            with _ctrl_c_later():
                results = parallel(joblib.delayed(function)(task) for task in tasks)
        for result in results:
            found.append(result)
            if done is not None:
                done(result)
    except BaseException as error:
        if hasattr(results, "throw"):  # joblib's generator ends the processes, without a warning if it knows the reason
            results.throw(error)
        raise
    return found


def how_many(where, n_jobs, most):
    """How many processes, and joblib where it is more than one."""
    if _check.integer(where, "n_jobs", n_jobs) == 0:
        raise ValueError(_check.message(where, "n_jobs must be a whole number other than 0", n_jobs))
    if n_jobs == 1:
        return 1, None
    try:
        import joblib
    except ImportError as error:
        raise ImportError('working in several processes needs joblib: pip install "minicnn[tune]"') from error
    return min(joblib.effective_n_jobs(n_jobs), most), joblib


def _require_picklable(where, sent, joblib):
    for name, value in sent.items():
        try:
            pickle.dumps(joblib.wrap_non_picklable_objects(value))
        except Exception as error:  # pickle's errors are of many kinds
            required = f"{name} must be picklable where n_jobs is not 1, since every process gets a copy of it"
            fix = f"Create what it needs inside {name}, or use n_jobs=1"
            got = _check.Shown(f"{value!r} ({type(error).__name__}: {error})")
            raise TypeError(_check.message(where, required, got, fix)) from error


def _make_sure_that_processes_can_be_ended():
    """joblib's loky kills its processes with psutil, or else with the program pgrep.  Where there is neither, as in
    small containers, loky's thread that tries to dies, and what waits for that thread waits for ever: there loky gets
    ``_end`` instead.
    """
    try:
        from joblib.externals.loky import process_executor
        from joblib.externals.loky.backend import utils
    except ImportError:  # a joblib that is made differently
        return
    if os.name == "posix" and getattr(utils, "psutil", None) is None and shutil.which("pgrep") is None:
        process_executor.kill_process_tree = _end


def _end(process, use_psutil=True):
    """Kills one of loky's processes and all that descend from it; waits for it.  The arguments are loky's."""
    for pid in [*_descendants(process.pid), process.pid]:
        with contextlib.suppress(OSError):  # it has ended by itself
            os.kill(pid, signal.SIGKILL)
    process.join()


def _descendants(pid):
    """All processes that descend from this one, the youngest generation first; none where there is no /proc."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found = [pid]
    for one in found:  # which grows
        found += children.get(one, [])
    return found[:0:-1]


def _with_threads(threads, function, task):
    """``function(task)`` in a process of joblib's, which may be used for other work afterwards."""
    before = get_num_threads()
    set_num_threads(threads)
    try:
        return function(task)
    finally:
        set_num_threads(before)


@contextlib.contextmanager
def _ctrl_c_later():
    """Delays Ctrl-C.  Processes that are started meanwhile never get it: this process has to end them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker  # here: nothing else needs it

    resource_tracker.ensure_running()  # before Python 3.14 its start, which processes need, would let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
