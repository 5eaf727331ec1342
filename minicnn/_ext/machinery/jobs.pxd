# cython: language_level=3
"""Jobs: kernels with their arguments, which every kernel module submits, to be run at once or written down by a plan.

Here too: what kernels need to describe arrays and to share out sums and scratch memory.
"""
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.runtime cimport add_to, plus, real

cdef enum:
    LINE = 64     # bytes: arrays and scratch memory begin on a line of the cache
    PAGE = 4096   # bytes after which addresses fall on the same lines of a first-level cache
    PART = 16384  # elements, about, of a part of a long image
    CHUNKS_AT_LEAST = 16  # of a batch, for threads: that many, where its sums are not large
    MOST_LEVELS = 6       # of halving a batch into cells


# One array that a kernel reads or writes.  The arguments of a kernel are a struct whose first member, `arrays`, is a
# struct of all its arrays and of nothing else, so that a plan can find them and lay them out again.
cdef struct Array:
    char *data        # of item 0
    Py_ssize_t step   # bytes from one image to the next; 0: not an array of images


cdef inline Array rows_at(const real *data, Py_ssize_t width) noexcept nogil:
    """An array of images, or of rows, of `width` numbers each."""
    return Array(<char *> data, width * sizeof(real))


cdef inline Array fixed(const void *data) noexcept nogil:
    """An array of anything else; NULL: there is none."""
    return Array(<char *> data, 0)


cdef inline char *item(Array array, Py_ssize_t i) noexcept nogil:
    """Image i of an array."""
    return array.data + i * array.step


# Works on the parts `first` to `last` - 1; `args` is its struct, `scratch` memory of its own (see Job).
ctypedef void (*Kernel)(const void *args, Py_ssize_t first, Py_ssize_t last, void *scratch) noexcept nogil


cdef enum Place:
    IMAGES  # items are images: a plan takes an image through all such jobs that follow each other before the next one
    CHUNKS  # the same, for a sum over images: all images of a chunk are given to one thread, in order
    WHOLE   # items of any kind: all that came before is finished, and nothing that follows has begun
    BEFORE  # depends on parameters alone: may run ahead of the jobs that came before
    AFTER   # no other job depends on it: may run behind those that follow


cdef struct Job:
    Kernel kernel
    Place place
    Py_ssize_t arrays    # how many stand at the head of the arguments
    Py_ssize_t items     # images, or whatever the kernel's items are
    Py_ssize_t parts     # into which each item may be cut: the kernel is given parts, items * parts in all
    Py_ssize_t chunks    # CHUNKS: how many sums there are (chunks_for)
    Py_ssize_t scratch   # bytes that a call needs, 64-byte aligned; for CHUNKS they stay from call to call in a chunk
    double work          # nanoseconds of all items, about (see `team`)


# Of whole items, without sums and scratch memory.  `arrays`: bytes of the struct of arrays, sizeof(g.arrays).
cdef inline Job new_job(Kernel kernel, Place place, Py_ssize_t arrays, Py_ssize_t items, double work) noexcept nogil:
    return Job(kernel, place, arrays // <Py_ssize_t> sizeof(Array), items, 1, 0, 0, work)


# Runs the job now, or hands it to the plan that this thread records.
cdef int submit(const Job *job, const void *args, Py_ssize_t size) except -1
# The second half alone: True if a plan took the job.
cdef bint recorded(const Job *job, const void *args, Py_ssize_t size) except -1
# A kernel that is no job, on all items at once, in so many threads.  With one thread, here as for jobs, OpenMP is not
# entered at all: where memory is short its library would end the process.
cdef void share_out(Kernel kernel, const void *args, Py_ssize_t items, int threads) noexcept nogil
# Memory for the arrays of jobs that are submitted next, 64-byte aligned: freed by give_back, unless a plan recorded
# them.  `lasting`: zero at first, and from run to run of a plan what the kernels left in it.
cdef char *borrow(Py_ssize_t size, bint lasting) except NULL
cdef void give_back(char *memory) noexcept


cdef inline Py_ssize_t lines(Py_ssize_t size) noexcept nogil:
    """`size` bytes, rounded up to whole lines of the cache."""
    return (size + LINE - 1) // LINE * LINE


# Elements one by one: how many parts an image of so many has, and where a part begins.
cdef inline Py_ssize_t parts_for(Py_ssize_t size) noexcept nogil:
    return max(<Py_ssize_t> 1, size // PART)


cdef inline Py_ssize_t part_start(Py_ssize_t part, Py_ssize_t parts, Py_ssize_t size) noexcept nogil:
    return size * part // parts


# ---- sums over the batch ----
#
# Every sum over the samples of a batch is made in one tree, a function of the batch's size alone: the sum over n
# samples is that over the first n - n // 2 and that over the rest, and so on; what is not halved any more is summed in
# order.
# All sums are halved into `cells_for` cells at least, so that another process may compute a node of the tree, such as
# its right half, from those samples alone: what any kernel sums up for them is the node's sum, to the last bit, if the
# thread says which node it is (`set_node` in jobs.pyx; docs/kernels.md, section 7).  Finer cuts, for threads or for
# digits, are halves too, and as many at each node of a level.

cdef inline Py_ssize_t first_half(Py_ssize_t n) noexcept nogil:
    return n - n // 2


cdef inline Py_ssize_t cell_start(Py_ssize_t cell, Py_ssize_t cells, Py_ssize_t n) noexcept nogil:
    """The first sample of a cell of `cells`, a power of two; cell `cells` begins where the batch ends.  If there are
    fewer samples than cells, the last ones within a node are empty, never its first."""
    cdef Py_ssize_t first = 0, half
    while cells > 1:
        half, cells = first_half(n), cells // 2
        if cell >= cells:
            cell, first, n = cell - cells, first + half, n - half
        else:
            n = half
    return first + cell * n


cdef struct Cell:
    Py_ssize_t number, first, end  # the first sample, and the one behind the last


cdef inline Cell cell_of(Py_ssize_t sample, Py_ssize_t cells, Py_ssize_t n) noexcept nogil:
    cdef Cell cell = Cell(number=0, first=0, end=n)
    cdef Py_ssize_t middle
    while cells > 1:
        middle, cells = cell.first + first_half(cell.end - cell.first), cells // 2
        if sample >= middle:
            cell.number, cell.first = cell.number + cells, middle
        else:
            cell.end = middle
    return cell


# Of the node that this thread computes, or of the batch of n: cells; chunks for threads, of sums of `size` bytes, at
# least as many; samples of the whole batch.
cdef Py_ssize_t cells_for(Py_ssize_t n) noexcept
cdef Py_ssize_t chunks_for(Py_ssize_t n, Py_ssize_t size) noexcept
cdef Py_ssize_t whole_batch(Py_ssize_t n) noexcept


cdef inline Py_ssize_t spare_for(Py_ssize_t cells, Py_ssize_t count) noexcept nogil:
    """Elements that a tree over so many cells needs beside its result, of `count` elements."""
    cdef Py_ssize_t spare = 0
    while cells > 1:
        cells, spare = cells // 2, spare + count
    return spare


cdef inline void add_tree(const real *partials, Py_ssize_t step, Py_ssize_t cells, Py_ssize_t n, real *sum, real *spare,
                          Py_ssize_t count) noexcept nogil:
    """sum[:count] = the sum of the partial sums of `cells` cells of n samples, `step` elements apart."""
    cdef Py_ssize_t half = first_half(n), middle = cells // 2 * step
    if n == 0:
        memset(sum, 0, count * sizeof(real))
    elif cells == 1 or n == 1:
        memcpy(sum, partials, count * sizeof(real))
    elif cells == 2 or n == 2:
        plus(False, partials, partials + middle, sum, count)
    else:
        add_tree(partials, step, cells // 2, half, sum, spare, count)
        add_tree(partials + middle, step, cells // 2, n - half, spare, spare + count, count)
        add_to(<const real *> spare, sum, count)


cdef inline double sum_of(const double *values, const double *weights, Py_ssize_t cells, Py_ssize_t n) noexcept nogil:
    """The sum of a number for each sample, times its weight unless there are none."""
    cdef Py_ssize_t i, half = first_half(n)
    cdef double total = 0
    if cells > 1:
        return sum_of(values, weights, cells // 2, half) + sum_of(
            values + half, weights if weights is NULL else weights + half, cells // 2, n - half)
    for i in range(n):
        total += values[i] if weights is NULL else weights[i] * values[i]
    return total


# ---- between jobs.pyx and plan.pyx ----

# What takes the jobs of a thread instead of running them.
cdef class Recorder:
    cdef int add(self, const Job *job, const void *args, Py_ssize_t size) except -1
    cdef int borrowed(self, char *memory, Py_ssize_t size, bint lasting) except -1

# The Recorder of this thread, or NULL; not owned.
cdef void *current_recorder() noexcept nogil
cdef void set_recorder(void *recorder) noexcept nogil
# One share of a job's items: as many parts, or as many whole chunks, as the others have.
cdef void run_share(const Job *job, const void *args, Py_ssize_t share, Py_ssize_t shares,
                    void *scratch) noexcept nogil
