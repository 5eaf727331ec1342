"""Many tasks, one function: in this process, in several, or on a cluster, with the same results.

Who runs them is the backend of joblib (``pip install "minicnn[tune]"``) that is active: its processes, or what
``joblib.parallel_config`` names, such as dask.  On one machine the tasks share the threads.  What they compute does not
depend on the number of threads, and so not on who computes it either; docs/clusters.md.
"""

import contextlib
import copy
import ctypes
import functools
import itertools
import os
import pickle
import shutil
import signal
import socket
import sys
import threading
import time
import traceback

from minicnn import _check
from minicnn._ext.machinery.runtime import get_num_threads, set_num_threads


def run_all(where, function, tasks, n_jobs, sent=None, done=None, shared=()):
    """[function(*shared, task) for each of the tasks], in the order in which they end; ``done`` gets each result too.

    - ``n_jobs``: how many at a time; 1 for here, -1 for as many as there are CPUs, None for what the active backend
      of joblib has been told, and here where there is none.  dask takes all of its workers for any number but 1.
    - ``sent``: {name: value} of what ``function``, ``shared`` or the tasks hold and what might not be picklable.
    - ``shared``: what all tasks need, arrays above all; dask's workers get it once.

    If ``function`` or ``done`` raises, or on Ctrl-C, what has not begun never does, processes of joblib are ended, and
    tasks in threads of this process are interrupted; dask's workers finish the task they are at.  ImportError without
    joblib, TypeError for what cannot be sent, ValueError for n_jobs 0.
    """
    count, backend = how_many(where, n_jobs, len(tasks))
    if backend is None:
        return _taken(map(functools.partial(function, *shared), tasks), done)
    if not _shares_memory(backend):
        _require_picklable(where, sent or {})
    run = _Run(backend, count)
    found = []
    try:
        with run.started(function, shared, tasks) as results:
            _taken(results, done, found)
    finally:
        run.interrupt()
    return found


def how_many(where, n_jobs, most):
    """(how many tasks at a time, the backend of joblib that runs them or None for here); ``n_jobs`` as in ``run_all``.

    One at a time is done here, unless dask is to do it.
    """
    if n_jobs is not None and _check.integer(where, "n_jobs", n_jobs) == 0:
        raise ValueError(_check.message(where, "n_jobs must be a whole number other than 0", n_jobs))
    if n_jobs == 1 or (n_jobs is None and sys.modules.get("joblib") is None):  # then no backend can be active
        return 1, None
    try:
        import joblib
    except ImportError as error:
        raise ImportError('working in several processes needs joblib: pip install "minicnn[tune]"') from error
    count, (backend, _) = min(joblib.effective_n_jobs(n_jobs), most), joblib.parallel.get_active_backend()
    return (count, backend) if count > 1 or (count and _is_dask(backend)) else (1, None)


@contextlib.contextmanager
def on_dask(address):
    """Within it dask's scheduler at this address runs what ``run_all`` is given.  ImportError without dask."""
    try:
        import distributed
        import joblib
    except ImportError as error:
        raise ImportError('--dask needs dask: pip install "minicnn[dask]"') from error
    with distributed.Client(address, timeout=10) as client, joblib.parallel_config("dask", client=client):
        yield


def _taken(results, done, found=None):
    """The results as a list, each given to ``done`` as well."""
    found = [] if found is None else found
    for result in results:
        found.append(result)
        if done is not None:
            done(result)
    return found


# ---- who runs the tasks ----


class _Run:
    """Tasks that somebody else runs: joblib, or dask without joblib in between."""

    _numbers = itertools.count()

    def __init__(self, backend, count):
        import joblib

        # A pool of multiprocessing waits for ever for a process that was killed, and tells nothing before the end.
        pool = type(backend) is joblib.parallel.MultiprocessingBackend
        self.how = {"backend": "loky"} if pool else {}
        self.backend, self.count, self.joblib = backend, count, joblib
        self.threads = max(1, get_num_threads() // count)
        limit = getattr(backend, "inner_max_num_threads", None)
        self.threads = self.threads if limit is None else min(self.threads, limit)
        self.key = socket.gethostname(), os.getpid(), next(self._numbers)

    @contextlib.contextmanager
    def started(self, function, shared, tasks):
        """The results, one by one; at the end, a bad one too, nothing of it is left over."""
        function = functools.partial(_task, self.key, self.threads, function)
        if _is_dask(self.backend):
            with _in_dask(self.backend, function, shared, tasks) as found:
                yield found
            return
        _make_sure_that_processes_can_be_ended()
        streams = getattr(self.backend, "supports_return_generator", False) or self.how
        parallel = self.joblib.Parallel(self.count, return_as="generator_unordered" if streams else "list", **self.how)
        calls = (self.joblib.delayed(function)(*shared, task) for task in tasks)
        with _ctrl_c_later() if streams else contextlib.nullcontext():
            results = parallel(calls)
        try:
            yield results
        except BaseException as error:
            if streams:  # joblib's generator ends the processes, without a warning if it knows the reason
                results.throw(error)
            raise

    def interrupt(self):
        """Stops tasks of this run that are at work in threads of this process."""
        with _lock:
            for thread, key in _at_work.items():
                if key == self.key:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_Stopped))


@contextlib.contextmanager
def _in_dask(backend, function, shared, tasks):
    """By joblib's own way a task whose workers were killed is waited for for ever, and data are sent with every task.

    ``shared`` goes to all workers once.
    """
    client, futures = backend.client, []
    try:
        shared = client.scatter([*shared], broadcast=True, hash=False) if shared else ()
        for task in tasks:
            futures.append(client.submit(function, *shared, task, pure=False, **backend.submit_kwargs))
        with backend.retrieval_context():  # within a worker: gives its place to others meanwhile
            yield _as_they_come(client, futures, backend.wait_for_workers_timeout)
    finally:
        with contextlib.suppress(Exception):  # there may be no scheduler any more, which is what the error says
            client.cancel(futures)


def _as_they_come(client, futures, patience):
    """The results; TimeoutError where there has been no worker for ``patience`` seconds, RuntimeError where dask has
    lost what the tasks need."""
    import distributed

    begun = time.monotonic()
    while futures:
        try:
            done, futures = distributed.wait(futures, timeout=1, return_when="FIRST_COMPLETED")
        except distributed.TimeoutError as error:
            if client.ncores():
                begun = time.monotonic()
            elif time.monotonic() - begun > patience:
                text = f"the cluster of dask has had no worker for {patience:g} s: all have been killed or closed"
                raise TimeoutError(text) from error
            continue
        except distributed.CancelledError as error:
            text = "the workers that held the data have been killed, or the client was closed or restarted"
            raise RuntimeError(f"the cluster of dask has dropped tasks: {text}") from error
        begun = time.monotonic()
        for future in done:
            yield future.result()


def _is_dask(backend):
    return type(backend).__name__ == "DaskDistributedBackend"  # whose module imports dask


def _shares_memory(backend):
    return getattr(backend, "supports_sharedmem", False)


def _require_picklable(where, sent):
    import joblib

    for name, value in sent.items():
        try:
            pickle.dumps(joblib.wrap_non_picklable_objects(value))
        except Exception as error:  # pickle's errors are of many kinds
            raise _no_copy(where, name, value, error) from error


def copied(where, name, value):
    """A deep copy of what tasks would change; TypeError where it cannot be copied, and so not be sent either."""
    try:
        return copy.deepcopy(value)
    except Exception as error:
        raise _no_copy(where, name, value, error) from error


def _no_copy(where, name, value, error):
    required = f"{name} must be picklable where n_jobs is not 1, since every process gets a copy of it"
    fix = f"Create what it needs inside {name}, or use n_jobs=1"
    got = _check.Shown(f"{value!r} ({type(error).__name__}: {error})")
    return TypeError(_check.message(where, required, got, fix))


# ---- where a task runs ----

_lock = threading.RLock()
_at_work: dict = {}  # {thread: the run whose task it is at}


class _Stopped(BaseException):
    """Nobody wants the result of this task any more; comes from another thread."""


def _task(key, threads, function, *arguments):
    """``function(*arguments)`` in a process or thread of somebody's, which is used for other work afterwards."""
    thread, here = threading.get_ident(), (socket.gethostname(), os.getpid())
    with contextlib.suppress(_Stopped):
        try:
            with _lock:
                _at_work[thread] = key
            with _with_threads(threads if here[0] == key[0] else None):  # other machines have their own number
                return function(*arguments)
        except Exception as error:
            other = error if here == key[:2] else _sendable(error)
            if other is error:
                raise
            raise other from None
        finally:
            with _lock:
                _at_work.pop(thread, None)
    return None


def _sendable(error):
    """The error, or one that can be sent in its place: one that cannot would break the connection."""
    import joblib

    try:
        pickle.loads(pickle.dumps(joblib.wrap_non_picklable_objects(error)))
    except Exception:
        text = "".join(traceback.format_exception(error))
        other = RuntimeError(f"{type(error).__name__}: {error}")
        other.add_note(f"which cannot be sent from one process to another; there it was\n{text}")
        return other
    return error


_together: dict = {"tasks": 0, "before": None}


@contextlib.contextmanager
def _with_threads(threads):
    """So many threads, None for as many as there are, until the last of the tasks that run here together ends."""
    with _lock:
        if not _together["tasks"]:
            _together["before"] = get_num_threads()
            set_num_threads(threads or _together["before"])
        _together["tasks"] += 1
    try:
        yield
    finally:
        with _lock:
            _together["tasks"] -= 1
            if not _together["tasks"]:
                set_num_threads(_together["before"])


# ---- ending joblib's processes ----


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
