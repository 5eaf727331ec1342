# cython: language_level=3
"""How many threads and whether a job is worth them, the instruction set, scratch memory, fork guard, build facts.

Design: every parallel loop of the library runs on ``team(items, work)`` threads, and ``team`` is the only place that
decides their number; where it is one, no loop enters OpenMP.  Results never depend on it: the kernels cut their work by
shape alone.
"""
import os
import sys

from minicnn._ext.machinery import limits

cimport cython
from cpython.buffer cimport PyBUF_FULL_RO, PyBuffer_Release, PyObject_GetBuffer
from cpython.pythread cimport (NOWAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
                               PyThread_get_thread_ident, PyThread_release_lock, PyThread_type_lock)
from libc.stdlib cimport free, malloc
from libc.stdint cimport uintptr_t

cdef extern from "simd.h" nogil:
    const Leaves *choose_leaves(int limit)

cdef extern from "threads.h" nogil:
    const bint MINICNN_OPENMP
    int forked_with_pool
    int bound_cpus()
    void guard_forks()
    void set_stack_size(size_t bytes)
    int spare_cpus()
    int startable(int threads)

INSTRUCTION_SETS = ("base", "avx2", "avx512")

DEFAULT_GRAIN = 20_000.0

cdef double the_grain = DEFAULT_GRAIN  # nanoseconds of work that each thread must get
cdef const Leaves *the_leaves
cdef int the_threads = 1
cdef bint the_yielding = True


cdef const Leaves *chosen_leaves() noexcept nogil:
    return the_leaves


cdef int is_double(array) except -1:
    cdef Py_buffer view
    cdef const char *format
    cdef char code = 0  # the last of the format: what else it may hold is looked at by the memoryviews to come
    PyObject_GetBuffer(array, &view, PyBUF_FULL_RO)
    format = view.format
    while format is not NULL and format[0]:
        code = format[0]
        format += 1
    PyBuffer_Release(&view)
    if code != b"f" and code != b"d":
        raise TypeError(f"kernel: arrays must hold float32 or float64; got numbers of format {chr(code)!r}")
    return code == b"d"


cdef int team(Py_ssize_t items, double work) noexcept nogil:
    cdef double most = work / the_grain
    cdef int threads = 1 if forked_with_pool else the_threads
    if items < threads:
        threads = <int> items
    if most < threads:
        threads = <int> most
    if threads > 1 and the_yielding:
        threads = min(threads, spare_cpus())
    if threads > 1:
        threads = startable(threads)
    return threads if threads > 1 else 1


cdef void *take_scratch(Py_ssize_t count, Py_ssize_t size) except NULL:
    # One more line of 64 bytes: up to 63 to align, and the address that malloc gave, just before the aligned one.
    cdef char *raw = NULL
    cdef char *aligned
    if 0 <= count <= (sys.maxsize - 128) // size:
        raw = <char *> malloc(count * size + 128)
    if raw is NULL:
        raise MemoryError(f"no memory for {count} x {size} bytes of scratch")
    aligned = <char *> ((<uintptr_t> raw + 64 + 63) & ~(<uintptr_t> 63))
    (<void **> aligned)[-1] = raw
    return aligned


cdef void free_scratch(void *memory) noexcept nogil:
    if memory is not NULL:
        free((<void **> memory)[-1])


@cython.final
@cython.auto_pickle(False)
cdef class Exclusive:
    """What one thread holds at a time: ``with exclusive.held_or(message):``, RuntimeError(message) where it is taken.

    With ``again`` the thread that holds it may enter once more.  Native, so that no signal can come between taking it
    and being in the ``with`` block: Ctrl-C at that moment would leave it taken for ever.
    """
    cdef PyThread_type_lock lock
    cdef unsigned long holder  # a thread, while the lock is taken

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock is NULL:
            raise MemoryError("no memory for a lock")

    def __dealloc__(self):
        if self.lock is not NULL:
            PyThread_free_lock(self.lock)

    def held_or(self, str message not None, bint again=False):
        """A context manager that holds it."""
        cdef _Hold hold = _Hold.__new__(_Hold)
        hold.of, hold.message, hold.again = self, message, again
        return hold


@cython.final
@cython.auto_pickle(False)
cdef class _Hold:
    cdef Exclusive of
    cdef str message
    cdef bint again, taken

    def __enter__(self):
        if PyThread_acquire_lock(self.of.lock, NOWAIT_LOCK):
            self.taken, self.of.holder = True, <unsigned long> PyThread_get_thread_ident()
        elif not (self.again and self.of.holder == <unsigned long> PyThread_get_thread_ident()):
            raise RuntimeError(self.message)

    def __exit__(self, *error):
        if self.taken:
            self.taken, self.of.holder = False, 0
            PyThread_release_lock(self.of.lock)


MAX_THREADS = 256


def default_num_threads():
    """MINICNN_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs that affinity and control group leave to us."""
    return min(limits.threads_wanted() or limits.cpus(bound_cpus()), MAX_THREADS)


def set_num_threads(n):
    """Lets the kernels use up to ``n`` threads (1 to 256; small jobs take fewer).  The results do not depend on it."""
    global the_threads
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"set_num_threads: n must be a whole number from 1 to {MAX_THREADS}; got {n!r}")
    if not 1 <= n.__index__() <= MAX_THREADS:
        raise ValueError(f"set_num_threads: n must be from 1 to {MAX_THREADS}; got {n!r}")
    the_threads = n.__index__() if MINICNN_OPENMP else 1


def get_num_threads():
    """The largest number of threads that a kernel uses: set_num_threads > MINICNN_NUM_THREADS > OMP_NUM_THREADS >
    affinity and control group.  Always 1 in a build without OpenMP."""
    return 1 if forked_with_pool else the_threads


def set_grain(double nanoseconds):
    """How much work each thread must get before a kernel takes several; for tests, which use small arrays.

    The default is far more than the microseconds that a parallel region costs on an idle machine: beside other busy
    processes the threads of a region may wait for each other through a whole time slice of the scheduler.
    """
    global the_grain
    if not nanoseconds > 0:
        raise ValueError(f"set_grain: nanoseconds must be a number > 0; got {nanoseconds!r}")
    the_grain = nanoseconds


def set_yielding(bint yielding):
    """Whether kernels take fewer threads while other processes want the CPUs (the default); False is for tests."""
    global the_yielding
    the_yielding = yielding


def threads_for(Py_ssize_t items, double work):
    """How many threads a kernel would take now for ``items`` independent parts that take one ``work`` nanoseconds."""
    return team(items, work)


def instruction_set():
    """"base", "avx2" or "avx512": chosen at import, the best of this machine not above MINICNN_SIMD."""
    return the_leaves.name.decode()


def openmp():
    """True if this build runs kernels in several threads."""
    return bool(MINICNN_OPENMP)


def scratch_is_aligned(Py_ssize_t count):
    """For the tests: takes and frees ``count`` bytes of scratch; True if their address is a multiple of 64."""
    cdef void *memory = take_scratch(count, 1)
    cdef bint aligned = (<uintptr_t> memory) % 64 == 0
    free_scratch(memory)
    return aligned


def multiply_adds(Py_ssize_t n, float x, float y):
    """(number of chains, their sum) after n >= 0 multiply-adds a = a x + y in each of them; for the benchmarks.

    As many vectors as keep the arithmetic units busy, in one thread and without the GIL; each has as many chains as
    lanes, float32.  The i-th vector begins at i.
    """
    cdef float lanes[16]
    cdef int chains, lane, vectors = 12
    with nogil:
        chains = the_leaves.f32.multiply_adds(n, x, y, lanes)
    return chains, sum([lanes[lane] for lane in range(chains // vectors)])


def _start():
    global the_leaves
    limit = os.environ.get("MINICNN_SIMD") or INSTRUCTION_SETS[-1]
    if limit not in INSTRUCTION_SETS:
        raise ImportError(f"MINICNN_SIMD must be one of {', '.join(INSTRUCTION_SETS)}; got {limit!r}")
    the_leaves = choose_leaves(INSTRUCTION_SETS.index(limit))
    set_stack_size(limits.stack_size())
    guard_forks()
    set_num_threads(default_num_threads())


_start()
