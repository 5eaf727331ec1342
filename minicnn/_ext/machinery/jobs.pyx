# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Jobs that are submitted: run at once, for a layer called by hand, or handed to the plan that this thread records."""
cimport cython
from cython.parallel cimport prange
from libc.string cimport memset

from minicnn._ext.machinery.runtime cimport free_scratch, take_scratch, team

cdef extern from * nogil:
    """
    #include "thread_local.h"
    static THREAD_LOCAL void *recorder = 0;
    """
    void *recorder  # of this thread, or NULL


@cython.auto_pickle(False)
cdef class Recorder:
    """What takes the jobs of a thread instead of running them: a plan."""

    cdef int add(self, const Job *job, const void *args, Py_ssize_t size) except -1:
        raise NotImplementedError("Recorder has no add")

    cdef int borrowed(self, char *memory, Py_ssize_t size, bint lasting) except -1:
        raise NotImplementedError("Recorder has no borrowed")


cdef void *current_recorder() noexcept nogil:
    return recorder


cdef void set_recorder(void *other) noexcept nogil:
    global recorder
    recorder = other


cdef bint recorded(const Job *job, const void *args, Py_ssize_t size) except -1:
    if recorder is NULL:
        return False
    (<Recorder> recorder).add(job, args, size)
    return True


cdef int submit(const Job *job, const void *args, Py_ssize_t size) except -1:
    cdef Py_ssize_t total = job.items * job.parts, shares = job.chunks if job.place == CHUNKS else total
    cdef Py_ssize_t scratch = max(<Py_ssize_t> LINE, lines(job.scratch)), b, threads
    cdef char *memory
    if total == 0 or recorded(job, args, size):
        return 0
    threads = team(shares, job.work)
    memory = <char *> take_scratch(threads, scratch)
    try:
        if threads == 1:
            with nogil:
                run_share(job, args, 0, 1, memory)
        else:
            for b in prange(threads, nogil=True, num_threads=threads, schedule="static"):
                run_share(job, args, b, threads, memory + b * scratch)
    finally:
        free_scratch(memory)
    return 0


cdef void share_out(Kernel kernel, const void *args, Py_ssize_t items, int threads) noexcept nogil:
    cdef Py_ssize_t b
    if threads == 1:
        kernel(args, 0, items, NULL)
    else:
        for b in prange(threads, num_threads=threads, schedule="static"):
            kernel(args, items * b // threads, items * (b + 1) // threads, NULL)


cdef void run_share(const Job *job, const void *args, Py_ssize_t share, Py_ssize_t shares,
                    void *scratch) noexcept nogil:
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
    if recorder is not NULL:
        (<Recorder> recorder).borrowed(memory, size, lasting)
    return memory


cdef void give_back(char *memory) noexcept:
    if recorder is NULL:
        free_scratch(memory)
