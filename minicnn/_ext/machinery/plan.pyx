# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Plans: jobs that were written down while layers submitted them, to be run again and again.

Design: a plan is what the layers submit while it records them, so it does the same arithmetic as they do by hand, and
running it needs no Python, no checks and no new memory.  A recorded pass (a program) is a list of phases, and between
two phases all threads wait for each other:

- BEFORE jobs, all in one phase at the beginning; AFTER jobs, all in one phase at the end;
- a stretch: IMAGES and CHUNKS jobs that follow each other.  A thread takes a block of images through all of them
  before the next block (depth-first), while their data are in its cache.  Arrays that only one stretch uses are not
  kept for the whole batch: each thread has room for one block of them;
- a WHOLE job.

All phases of a program run in one parallel region, unless Python has to be called between two of them.  The arrays of
a plan share one piece of memory, the workspace; two that are not in use at the same time may get the same place in it
(`lay_out`).
"""
from operator import itemgetter

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF
from cython.parallel cimport parallel, threadid
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.jobs cimport (AFTER, BEFORE, CHUNKS, IMAGES, LINE, WHOLE, Array, Job, Recorder, cell_start,
                                          current_recorder, lines, run_share, set_recorder)
from minicnn._ext.machinery.runtime cimport free_scratch, take_scratch, team

cdef extern from * nogil:
    """
    #ifdef _OPENMP
    #include <omp.h>
    static int team_size(void) { return omp_get_num_threads(); }
    static void wait_for_team(void)
    {
    #pragma omp barrier
    }
    #else
    static int team_size(void) { return 1; }
    static void wait_for_team(void) {}
    #endif
    #include "thread_local.h"
    static THREAD_LOCAL void *collecting = 0;
    """
    int team_size()
    void wait_for_team()
    void *collecting  # the Collector of this thread, or NULL

cdef enum:
    MOST_ARRAYS = 12         # of a job
    MOST_ARGUMENTS = 1024    # bytes
    BLOCK_BYTES = 384 << 10  # of all arrays of a stretch, for one block of images: part of a second-level cache
    SMALL_BATCH = 16         # images that are one block, so that threads can share the parts of an image
    MOST_THREADS = 256


cdef enum Kind:
    EXTERNAL  # parameters and the like: stays where it is
    SHARED    # in the workspace
    PRIVATE   # in each thread's memory, room for one block of images


cdef struct Step:                    # a recorded job
    Job job
    char *args                       # its arguments, `size` bytes
    Py_ssize_t size
    Kind kind[MOST_ARRAYS]
    Py_ssize_t place[MOST_ARRAYS]    # of the array, in the workspace or in a thread's memory
    bint has_private
    Py_ssize_t scratch               # CHUNKS: where in a thread's memory its own begins


cdef struct Phase:
    Py_ssize_t first, last           # its steps
    bint stretch
    Py_ssize_t n, block              # stretch: images, images of a block
    Py_ssize_t chunks, finest        # stretch: what the threads share out; what no block may cross; 0: images


# ---- what is recorded ----

@cython.auto_pickle(False)
cdef class _Scratch:
    """Owns memory that was borrowed while a plan was recorded."""
    cdef void *memory

    def __dealloc__(self):
        free_scratch(self.memory)


cdef _Scratch owner_of(char *memory):
    cdef _Scratch owner = _Scratch.__new__(_Scratch)
    owner.memory = memory
    return owner


def place_all(pieces):
    """Sets ``place`` of each buffer in (size, first, last, buffer); returns the bytes that all of them need.

    Two whose uses first..last overlap get places that do not.  Largest first, each into the lowest gap that it fits.
    """
    placed, total = [], 0
    for size, first, last, buffer in sorted(pieces, key=itemgetter(0), reverse=True):
        place = 0
        for other, other_size, other_first, other_last in sorted(placed):
            if other_first <= last and first <= other_last:
                if place + size <= other:
                    break
                place = max(place, other + other_size)
        placed.append((place, size, first, last))
        (<Buffer> buffer).place = place
        total = max(total, place + size)
    return total


cdef Plan recording():
    """The plan that this thread records, or None."""
    return None if current_recorder() is NULL else <Plan> current_recorder()


def is_recording():
    """True while this thread records a plan: kernels are then written down, not run."""
    return current_recorder() is not NULL


def register(array):
    """Makes a new array one of the plan's that this thread records, if it does: its memory will be laid out again."""
    cdef Plan plan = recording()
    if plan is not None:
        plan.buffers.append(Buffer(array.__array_interface__["data"][0], array.nbytes, array))


def called_each_time(function, arguments):
    """True if this thread records a plan, which will call ``function(*arguments)`` at the beginning of its runs."""
    cdef Plan plan = recording()
    if plan is None:
        return False
    plan.current.calls.append((function, arguments))
    return True


def called_between(function, arguments):
    """True if this thread records a plan, which will call ``function(*arguments)`` in each of its runs: when the jobs
    that were submitted before are done (but AFTER jobs) and before those that follow (but BEFORE jobs) begin."""
    cdef Plan plan = recording()
    if plan is None:
        return False
    plan.current.breaks.append((plan.current.count, function, arguments))
    return True


@cython.final
@cython.auto_pickle(False)
cdef class Collector:
    """``with Collector() as found``: a list of what this thread hands to ``collect`` within the block.

    Native, so that no signal can come between the block and its end.  It owns itself within the block: a debugger may
    leave the block without ``__exit__``.
    """
    cdef list found
    cdef void *before

    def __enter__(self):
        global collecting
        Py_INCREF(self)
        self.before, self.found, collecting = collecting, [], <void *> self
        return self.found

    def __exit__(self, *error):
        global collecting
        if self.found is not None:
            collecting, self.found = self.before, None
            Py_DECREF(self)


def collect(array):
    """For the Collector of this thread, if there is one."""
    if collecting is not NULL:
        (<Collector> collecting).found.append(array)


@cython.auto_pickle(False)
cdef class Buffer:
    """Memory that recorded jobs use: where it was while they were recorded, and where the plan puts it."""
    cdef readonly Py_ssize_t start, size, place
    cdef readonly object array          # kept, so that nothing else gets the address while the plan records
    cdef readonly bint pinned, private
    cdef readonly Py_ssize_t first, last  # phases, counted through all programs of the plan
    cdef Py_ssize_t first_step, last_step, step

    def __cinit__(self, start, size, array=None):
        self.start, self.size, self.array = start, size, array
        self.first, self.last, self.step = -1, -1, -1

    cdef void use(self, Py_ssize_t phase, Py_ssize_t step, Py_ssize_t image_bytes):
        if self.first < 0:
            self.first, self.first_step, self.step = phase, step, image_bytes
        elif self.step != image_bytes:
            self.step = 0  # not one array of images for all: it cannot be private
        self.last, self.last_step = phase, step


@cython.auto_pickle(False)
cdef class Program:
    """One recorded pass, forward or backward."""
    cdef Step *steps
    cdef Phase *phases
    cdef Py_ssize_t count, phase_count, room, widest
    cdef double work
    cdef list calls   # Python functions with their arguments, before the steps
    cdef list breaks  # (steps recorded before it, function, arguments); once there are phases, phases before it

    def __cinit__(self):
        self.calls, self.breaks = [], []

    def __dealloc__(self):
        for i in range(self.count):
            free(self.steps[i].args)
        free(self.steps)
        free(self.phases)

    cdef int add(self, const Job *job, const void *args, Py_ssize_t size) except -1:
        cdef Step *grown
        cdef Step *step
        if job.arrays > MOST_ARRAYS or size > MOST_ARGUMENTS:
            raise ValueError(f"kernel: a job has at most {MOST_ARRAYS} arrays and {MOST_ARGUMENTS} bytes of arguments")
        if self.count == self.room:
            self.room = 2 * self.room + 16
            grown = <Step *> malloc(self.room * sizeof(Step))
            if grown is NULL:
                raise MemoryError("no memory for the steps of a plan")
            if self.count:
                memcpy(grown, self.steps, self.count * sizeof(Step))
            free(self.steps)
            self.steps = grown
        step = &self.steps[self.count]
        memset(step, 0, sizeof(Step))
        step.job, step.size = job[0], size
        step.args = <char *> malloc(size)
        if step.args is NULL:
            raise MemoryError("no memory for the arguments of a job")
        memcpy(step.args, args, size)
        self.count += 1
        self.work += job.work
        self.widest = max(self.widest, job.items * job.parts)
        return 0

    cdef int make_phases(self) except -1:
        """Sorts the steps (BEFORE jobs first, AFTER jobs last, the rest as recorded) and groups them."""
        cdef Step *sorted_steps = <Step *> malloc(max(<Py_ssize_t> 1, self.count) * sizeof(Step))
        cdef Py_ssize_t i, k = 0
        cdef int rank
        self.phases = <Phase *> malloc((self.count + 1) * sizeof(Phase))
        if sorted_steps is NULL or self.phases is NULL:
            free(sorted_steps)
            raise MemoryError("no memory for the phases of a plan")
        for rank in range(3):
            for i in range(self.count):
                if rank_of(&self.steps[i]) == rank:
                    sorted_steps[k] = self.steps[i]
                    k += 1
        places = [self.place_of_break(b) for b, _, _ in self.breaks]  # among the sorted steps
        free(self.steps)
        self.steps = sorted_steps
        self.room = self.count
        for i in range(self.count):
            if self.phase_count == 0 or i in places or not joins(&self.steps[i], &self.steps[i - 1]):
                memset(&self.phases[self.phase_count], 0, sizeof(Phase))
                self.phases[self.phase_count].first = i
                self.phase_count += 1
            describe(&self.phases[self.phase_count - 1], &self.steps[i], i)
        for k in range(len(places)):
            ended = sum([self.phases[i].last <= places[k] for i in range(self.phase_count)])
            self.breaks[k] = (ended, *self.breaks[k][1:])
        return 0

    cdef Py_ssize_t place_of_break(self, Py_ssize_t recorded) except -1:
        """How many of the sorted steps come before a break that ``recorded`` steps were recorded before."""
        cdef Py_ssize_t i, place = 0
        for i in range(self.count):
            place += rank_of(&self.steps[i]) == 0 or (i < recorded and rank_of(&self.steps[i]) == 1)
        return place


cdef int rank_of(const Step *step) noexcept:
    return 0 if step.job.place == BEFORE else 2 if step.job.place == AFTER else 1


cdef bint per_image(const Step *step) noexcept nogil:
    return step.job.place == IMAGES or step.job.place == CHUNKS


cdef bint joins(const Step *step, const Step *previous) noexcept:
    if per_image(step):
        return per_image(previous) and step.job.items == previous.job.items
    return step.job.place != WHOLE and step.job.place == previous.job.place


cdef void describe(Phase *phase, const Step *step, Py_ssize_t i) noexcept:
    """Adds step i to the phase."""
    phase.last = i + 1
    phase.stretch = per_image(step)
    if phase.stretch:
        phase.n = step.job.items
    if step.job.place == CHUNKS:
        phase.chunks = step.job.chunks if phase.chunks == 0 else min(phase.chunks, step.job.chunks)
        phase.finest = max(phase.finest, step.job.chunks)


@cython.auto_pickle(False)
cdef class Plan(Recorder):
    """The passes over one batch: recorded one by one, laid out once, then run by number.

    ``workspace_size``: bytes that ``bind`` needs, 64-byte aligned; ``thread_size``: bytes each thread needs as well.
    """
    cdef readonly list buffers, programs
    cdef readonly Py_ssize_t workspace_size, thread_size
    cdef Py_ssize_t common_scratch, scratch_place  # of all jobs but CHUNKS: its size, and where it begins
    cdef Program current
    cdef list lasting, outside, used
    cdef char *memory[MOST_THREADS]
    cdef int provided

    def __cinit__(self):
        self.buffers, self.programs, self.lasting, self.outside, self.used = [], [], [], [], []

    def __dealloc__(self):
        for i in range(self.provided):
            free_scratch(self.memory[i])

    # ---- recording ----

    def record(self, function):
        """Calls the function; the jobs that this thread submits in it are written down, not run.

        Returns the number of the program that they are.  One native call, so that an interrupt cannot leave the thread
        recording.  A signal handler that predicts may come in between and record a plan of its own.
        """
        cdef void *interrupted = current_recorder()
        self.current = Program()
        set_recorder(<void *> self)
        try:
            function()
        finally:
            set_recorder(interrupted)
        self.current.make_phases()
        self.programs.append(self.current)
        return len(self.programs) - 1

    cdef int add(self, const Job *job, const void *args, Py_ssize_t size) except -1:
        return self.current.add(job, args, size)

    cdef int borrowed(self, char *memory, Py_ssize_t size, bint lasting) except -1:
        if lasting:
            self.lasting.append(owner_of(memory))
            self.outside.append((<uintptr_t> memory, <uintptr_t> memory + size))
        else:
            self.buffers.append(Buffer(<uintptr_t> memory, size, owner_of(memory)))
        return 0

    def use(self, array):
        """Jobs may use this array, which is not the plan's and stays where it is: parameters and the like."""
        address = array.__array_interface__["data"][0]
        self.outside.append((address, address + array.nbytes))
        self.used.append(array)  # its owner may let go of it while another thread runs this plan

    def pin(self, array):
        """The array is read or written between the passes: its place is its own."""
        cdef Buffer buffer = self.buffer_at(array.__array_interface__["data"][0])
        if buffer is not None:
            buffer.pinned = True

    cdef Buffer buffer_at(self, uintptr_t address):
        cdef Buffer buffer
        for buffer in self.buffers:
            if <uintptr_t> buffer.start <= address < <uintptr_t> (buffer.start + buffer.size):
                return buffer
        return None

    # ---- laying out ----

    def lay_out(self):
        """Gives every buffer its place; afterwards nothing more can be recorded."""
        self.find_uses()
        shared, private_size = [], 0
        phase = 0
        for program in self.programs:
            private_size = max(private_size, self.lay_out_threads(program, phase))
            phase += (<Program> program).phase_count
        for buffer in self.buffers:
            if not buffer.private and (buffer.first >= 0 or buffer.pinned):
                live = (0, phase) if buffer.pinned else (buffer.first, buffer.last)
                shared.append((lines(buffer.size), *live, buffer))
        self.workspace_size = place_all(shared)
        self.scratch_place = private_size
        self.thread_size = private_size + self.common_scratch + LINE
        for program in self.programs:
            self.tell_places(program)
        for buffer in self.buffers:
            (<Buffer> buffer).array = None

    cdef int find_uses(self) except -1:
        cdef Program program
        cdef Step *step
        cdef Array *arrays
        cdef Buffer buffer
        cdef Py_ssize_t p, s, a, phase = 0
        for program in self.programs:
            for p in range(program.phase_count):
                for s in range(program.phases[p].first, program.phases[p].last):
                    step = &program.steps[s]
                    arrays = <Array *> step.args
                    for a in range(step.job.arrays):
                        buffer = self.buffer_at(<uintptr_t> arrays[a].data)
                        if buffer is not None:
                            buffer.use(phase, s, arrays[a].step if program.phases[p].stretch else 0)
                phase += 1
        return 0

    cdef Py_ssize_t lay_out_threads(self, Program program, Py_ssize_t phase) except -1:
        """A thread's memory for one program: private arrays, then the scratch of CHUNKS jobs.  Returns its size."""
        cdef Phase *p
        cdef Step *step
        cdef Buffer buffer
        cdef Py_ssize_t i, s, bytes_of_image, size, largest = 0
        for i in range(program.phase_count):
            p = &program.phases[i]
            size = 0
            if p.stretch:
                used = [b for b in self.buffers if b.first <= phase + i <= b.last]
                bytes_of_image = sum([max(<Py_ssize_t> 0, (<Buffer> b).step) for b in used])
                p.block = p.n if p.n <= SMALL_BATCH else max(1, min(p.n, BLOCK_BYTES // max(1, bytes_of_image)))
                mine = [b for b in used if b.first == b.last and (<Buffer> b).step > 0 and not b.pinned]
                for buffer in mine:
                    buffer.private = True
                size = place_all([(lines((<Buffer> b).step * p.block), (<Buffer> b).first_step,
                                   (<Buffer> b).last_step, b) for b in mine])
            for s in range(p.first, p.last):
                step = &program.steps[s]
                if step.job.place == CHUNKS:
                    step.scratch = size
                    size += lines(step.job.scratch)
                else:
                    self.common_scratch = max(self.common_scratch, lines(step.job.scratch))
            largest = max(largest, size)
        return largest

    cdef int tell_places(self, Program program) except -1:
        """What `bind` and `run` have to know of each array."""
        cdef Step *step
        cdef Array *arrays
        cdef Buffer buffer
        cdef Py_ssize_t s, a
        for s in range(program.count):
            step = &program.steps[s]
            arrays = <Array *> step.args
            for a in range(step.job.arrays):
                buffer = self.buffer_at(<uintptr_t> arrays[a].data)
                step.kind[a] = EXTERNAL if buffer is None else PRIVATE if buffer.private else SHARED
                if buffer is not None:
                    step.place[a] = buffer.place + <Py_ssize_t> (<uintptr_t> arrays[a].data - <uintptr_t> buffer.start)
                    step.has_private |= buffer.private
                elif arrays[a].data is not NULL and not self.is_outside(<uintptr_t> arrays[a].data):
                    raise RuntimeError("Plan: a job uses an array that is neither the plan's nor known to it")
        return 0

    cdef bint is_outside(self, uintptr_t address) except -1:
        return any([start <= address < end for start, end in self.outside])

    def place_of(self, array):
        """Where in the workspace an array lies that was the plan's while it was recorded, in bytes."""
        cdef uintptr_t address = array.__array_interface__["data"][0]
        cdef Buffer buffer = self.buffer_at(address)
        if buffer is None or buffer.private:
            raise ValueError("Plan.place_of: the array is not in the workspace")
        return buffer.place + <Py_ssize_t> (address - <uintptr_t> buffer.start)

    def bind(self, uintptr_t workspace):
        """Puts the shared arrays into a workspace at that address."""
        cdef Program program
        cdef Step *step
        cdef Py_ssize_t s, a
        for program in self.programs:
            for s in range(program.count):
                step = &program.steps[s]
                for a in range(step.job.arrays):
                    if step.kind[a] == SHARED:
                        (<Array *> step.args)[a].data = <char *> workspace + step.place[a]

    # ---- running ----

    def run(self, Py_ssize_t number):
        """One pass over the batch."""
        cdef Program program = self.programs[number]
        cdef int threads = team(program.widest, program.work)
        cdef Py_ssize_t done = 0
        for function, arguments in program.calls:
            function(*arguments)
        while self.provided < threads:
            self.memory[self.provided] = <char *> take_scratch(1, self.thread_size)
            self.provided += 1
        for ended, function, arguments in program.breaks:
            self.run_phases(program, done, ended, threads)
            function(*arguments)
            done = ended
        self.run_phases(program, done, program.phase_count, threads)

    cdef int run_phases(self, Program program, Py_ssize_t first, Py_ssize_t last, int threads) except -1:
        if threads == 1:
            with nogil:
                self.run_thread(program.steps, program.phases + first, last - first, 0, 1)
        else:
            with nogil, parallel(num_threads=threads):
                self.run_thread(program.steps, program.phases + first, last - first, threadid(), team_size())
        return 0

    cdef void run_thread(self, const Step *steps, const Phase *phases, Py_ssize_t count, int thread,
                         int threads) noexcept nogil:
        cdef Py_ssize_t i, s
        cdef const Phase *p
        for i in range(count):
            p = &phases[i]
            if p.stretch and (p.n >= threads or p.chunks or p.block < p.n):
                self.run_stretch(steps, p, thread, threads)
            else:  # with fewer images than threads, they share the parts of each job instead
                for s in range(p.first, p.last):
                    self.run_shared(&steps[s], thread, threads)
                    if p.stretch and threads > 1 and s < p.last - 1:
                        wait_for_team()
            if threads > 1 and i < count - 1:  # the region's end waits too
                wait_for_team()

    cdef void run_stretch(self, const Step *steps, const Phase *p, int thread, int threads) noexcept nogil:
        """This thread's images, block by block; with sums over images, its chunks."""
        cdef Py_ssize_t units = p.chunks if p.chunks else p.n, fine = p.finest if p.chunks else p.n
        cdef Py_ssize_t ratio = fine // units, cell, low, high
        if p.chunks == 0:
            self.run_blocks(steps, p, thread, p.n * thread // threads, p.n * (thread + 1) // threads)
            return
        for cell in range(units * thread // threads * ratio, units * (thread + 1) // threads * ratio):
            low, high = cell_start(cell, fine, p.n), cell_start(cell + 1, fine, p.n)
            self.run_blocks(steps, p, thread, low, high)

    cdef void run_blocks(self, const Step *steps, const Phase *p, int thread, Py_ssize_t low,
                         Py_ssize_t high) noexcept nogil:
        cdef Py_ssize_t first = low, last, s
        while first < high:
            last = min(first + p.block, high)
            for s in range(p.first, p.last):
                self.call(&steps[s], first, last, thread)
            first = last

    cdef void call(self, const Step *step, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
        """Images `first` to `last` - 1, which are a block of this thread."""
        cdef char room[MOST_ARGUMENTS]
        step.job.kernel(arguments(step, room, self.memory[thread], first), first * step.job.parts,
                        last * step.job.parts, self.scratch_of(step, thread))

    cdef char *scratch_of(self, const Step *step, int thread) noexcept nogil:
        if step.job.place == CHUNKS:
            return self.memory[thread] + step.scratch
        return self.memory[thread] + self.scratch_place

    cdef void run_shared(self, const Step *step, int thread, int threads) noexcept nogil:
        """This thread's share of a job on which all threads work; private arrays are those of the first thread."""
        cdef char room[MOST_ARGUMENTS]
        run_share(&step.job, arguments(step, room, self.memory[0], 0), thread, threads, self.scratch_of(step, thread))


cdef const char *arguments(const Step *step, char *room, char *memory, Py_ssize_t first) noexcept nogil:
    """The step's arguments, its private arrays in a thread's memory: where there are any, a copy in `room`.

    A private array holds a block of images, from `first` on, and is addressed as if it held all from 0 on.
    """
    cdef Array *arrays = <Array *> room
    cdef Py_ssize_t a
    if not step.has_private:
        return step.args
    memcpy(room, step.args, step.size)
    for a in range(step.job.arrays):
        if step.kind[a] == PRIVATE:
            arrays[a].data = memory + step.place[a] - first * arrays[a].step
    return room
