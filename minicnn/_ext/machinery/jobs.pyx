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
    static THREAD_LOCAL Py_ssize_t whole = 0, level = 0;
    """
    void *recorder     # of this thread, or NULL
    Py_ssize_t whole   # samples of the batch of which this thread computes a node; 0: it computes batches
    Py_ssize_t level   # of that node


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
        first = job.parts * cell_start(job.chunks * share // shares, job.chunks, job.items)
        last = job.parts * cell_start(job.chunks * (share + 1) // shares, job.chunks, job.items)
    if first < last:
        job.kernel(args, first, last, scratch)


# ---- sums over the batch ----

cdef Py_ssize_t whole_batch(Py_ssize_t n) noexcept:
    return whole or n


cdef Py_ssize_t levels_of(Py_ssize_t n) noexcept:
    """How often a batch is halved into cells: into up to 4 of 16 samples or more, then into more of 32.  (Smaller ones
    cost a dense layer's gradient time: measured, 8 of 16 samples a fifth to a third of it.)"""
    cdef Py_ssize_t levels = 0
    while levels < MOST_LEVELS and n >> (levels + 1) >= (16 if levels < 2 else 32):
        levels += 1
    return levels


cdef Py_ssize_t cells_for(Py_ssize_t n) noexcept:
    return (<Py_ssize_t> 1) << (levels_of(whole_batch(n)) - level)


cdef Py_ssize_t chunks_for(Py_ssize_t n, Py_ssize_t size) noexcept:
    """Fewer where the partial sums would take too much memory."""
    cdef Py_ssize_t chunks = CHUNKS_AT_LEAST
    while chunks > 1 and chunks * size > 32 << 20:
        chunks //= 2
    return max(chunks >> level, cells_for(n))


def levels(Py_ssize_t n):
    """How often a batch of n samples is halved into the cells that all sums over it are made of."""
    return levels_of(n)


def set_node(Py_ssize_t batch, Py_ssize_t depth):
    """What kernels are given in this thread from now on is a node of a batch of so many samples, at that level of the
    tree in which sums over the batch are made; (0, 0) again: it is a batch.  Returns the two as they were."""
    global whole, level
    if not (batch > 0 and 0 <= depth <= levels_of(batch) or batch == depth == 0):
        raise ValueError(f"set_node: level must be 0 to {levels_of(batch)} for a batch of {batch}; got {depth}")
    before, whole, level = (whole, level), batch, depth
    return before


def samples_of_batch(Py_ssize_t n):
    """Samples of the batch of which this thread computes a node of n samples; n where it computes batches."""
    return whole_batch(n)


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
