# cython: language_level=3
"""Jobs: kernels with their arguments, which every kernel module submits, to be run at once or written down by a plan.

Here too: what kernels need to describe arrays and to share out sums and scratch memory.
"""
from minicnn._ext.machinery.runtime cimport real

cdef enum:
    LINE = 64     # bytes: arrays and scratch memory begin on a line of the cache
    PAGE = 4096   # bytes after which addresses fall on the same lines of a first-level cache
    PART = 16384  # elements, about, of a part of a long image
    CELLS = 16    # into which a batch is cut for sums over it: a function of the batch alone, never of the machine


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


# Sums over the batch are made chunk by chunk and the chunks added in order.  Chunks are whole cells; there are fewer
# where 16 partial sums of `size` bytes would take too much memory.
cdef inline Py_ssize_t chunks_for(Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t chunks = CELLS
    while chunks > 1 and chunks * size > 32 << 20:
        chunks //= 2
    return chunks


# The first image of a chunk; chunk `chunks` begins where the batch of n ends.  A chunk may be empty.
cdef inline Py_ssize_t chunk_start(Py_ssize_t chunk, Py_ssize_t chunks, Py_ssize_t n) noexcept nogil:
    return n * (chunk * CELLS // chunks) // CELLS


cdef inline Py_ssize_t chunk_of(Py_ssize_t image, Py_ssize_t chunks, Py_ssize_t n) noexcept nogil:
    return (CELLS * image + CELLS - 1) // n * chunks // CELLS


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
