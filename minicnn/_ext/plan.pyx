# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Runs jobs: at once, when a layer is called by hand.

Design: a kernel is a function of its arguments and a range of items; how the items are shared out among threads is
decided here, by shape alone where a sum depends on it.
"""
from cython.parallel cimport prange
from libc.string cimport memset

from minicnn._ext.runtime cimport free_scratch, take_scratch, team

cdef enum:
    LINE = 64  # bytes: arrays and scratch memory begin on a cache line


cdef Py_ssize_t lines(Py_ssize_t size) noexcept nogil:
    return (size + LINE - 1) // LINE * LINE


cdef bint recorded(const Job *job, const void *args, Py_ssize_t size) except -1:
    return False


cdef int submit(const Job *job, const void *args, Py_ssize_t size) except -1:
    cdef Py_ssize_t total = job.items * job.parts, shares = job.chunks if job.place == CHUNKS else total
    cdef Py_ssize_t scratch = max(<Py_ssize_t> LINE, lines(job.scratch)), b, threads
    cdef char *memory
    if total == 0 or recorded(job, args, size):
        return 0
    threads = team(shares, job.work)
    memory = <char *> take_scratch(threads, scratch)
    try:
        for b in prange(threads, nogil=True, num_threads=threads, schedule="static"):
            run_share(job, args, b, threads, memory + b * scratch)
    finally:
        free_scratch(memory)
    return 0


cdef void run_share(const Job *job, const void *args, Py_ssize_t share, Py_ssize_t shares, void *scratch) noexcept nogil:
    """One thread's share of the items: as many parts, or as many whole chunks, as the others have."""
    cdef Py_ssize_t total = job.items * job.parts, first = total * share // shares, last = total * (share + 1) // shares
    if job.place == CHUNKS:
        first = job.parts * chunk_start(job.chunks * share // shares, job.chunks, job.items)
        last = job.parts * chunk_start(job.chunks * (share + 1) // shares, job.chunks, job.items)
    if first < last:
        job.kernel(args, first, last, scratch)


cdef char *borrow(Py_ssize_t size, bint lasting) except NULL:
    cdef char *memory = <char *> take_scratch(1, max(<Py_ssize_t> 1, size))
    if lasting:
        memset(memory, 0, size)
    return memory


cdef void give_back(char *memory) noexcept:
    free_scratch(memory)
