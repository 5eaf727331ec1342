# cython: language_level=3
"""Jobs: what every kernel module hands to plan.pyx, which runs them at once or records them."""

cdef enum:
    CELLS = 16  # into which a batch is cut for sums over it: a function of the batch alone, never of the machine


# One array that a kernel reads or writes.  The arguments of a kernel are a struct that begins with all its arrays, so
# that a plan can find them and lay them out anew.
cdef struct Array:
    char *data        # of item 0
    Py_ssize_t step   # bytes from one image to the next; 0: not an array of images


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
    Py_ssize_t arrays    # at the head of the arguments
    Py_ssize_t items     # images, or whatever the kernel's items are
    Py_ssize_t parts     # into which each item may be cut: the kernel is given parts, items * parts in all
    Py_ssize_t chunks    # CHUNKS: how many sums there are (chunks_for)
    Py_ssize_t scratch   # bytes that a call needs, 64-byte aligned; for CHUNKS they stay from call to call in a chunk
    double work          # nanoseconds of all items, about (see `team`)


# Runs the job now, or adds it to the plan that this thread records.
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
