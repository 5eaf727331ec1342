# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the optimisers: one call is one whole step over the flat vector of parameters.

Design: the items are pieces of the flat vector, at most BLOCK elements of one segment; the optimiser cuts them once.  A
step measures the norm if it clips, updates all pieces, constrains what is constrained, and counts itself in
``iterations``, all without returning to Python in between: a signal finds it either not begun or done.  Pieces do not
depend on the number of threads, and their squares are added in order, so neither does any bit.

All vectors are the model's flat ones, of equal length; ``pieces`` holds rows (offset, size, decayed, segment).  Both
entries return -1, or the number of the first piece whose gradient has no finite norm: then nothing has been changed.

Constraints: a row of ``rules`` is (kind, offset, five lengths), with a number in ``limits``.  The parameter at that
offset counts as an array of five axes, whose second and fourth are those of the norm; units that lie side by side on
the last axis are taken together, RUN at a time.  Both are None where there are no constraints.
"""
from cython.parallel cimport prange
from libc.math cimport isfinite, pow, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset

from minicnn._ext.runtime cimport (adam_update, add_squares, chosen_leaves, real, scale_each, sgd_update, sum_squares,
                                   team, use_leaves)

use_leaves(chosen_leaves())

BLOCK = 16384
MAX_NORM, NON_NEG, UNIT_NORM = IS_MAX_NORM, IS_NON_NEG, IS_UNIT_NORM

cdef enum:
    IS_MAX_NORM, IS_NON_NEG, IS_UNIT_NORM  # kinds of constraints
    RUN = 64

ctypedef struct Step:
    double rate, momentum, decay, clip
    bint nesterov
    double beta_1, beta_2, epsilon, corrected_rate


def sgd(real[::1] parameters not None, real[::1] velocity, const real[::1] gradients not None,
        const int64_t[:, ::1] pieces not None, double[::1] squares not None, int64_t[::1] iterations not None,
        double rate, double momentum, bint nesterov, double decay, double clipnorm,
        const int64_t[:, ::1] rules=None, const double[::1] limits=None):
    """v = momentum v - rate g;  w += v, or momentum v - rate g with Nesterov; before it w -= rate decay w.

    ``velocity`` may be None where momentum is 0; ``clipnorm`` 0 clips nothing.
    """
    cdef Step a
    cdef Py_ssize_t count = pieces.shape[0], p
    cdef real *w = &parameters[0]
    cdef real *v = NULL
    cdef const real *g = &gradients[0]
    cdef int threads = team(count, parameters.shape[0] / 2.0)
    if velocity is not None:
        v = &velocity[0]
    a.rate, a.momentum, a.nesterov, a.decay = rate, momentum, nesterov, decay
    a.clip = clip_factor(g, pieces, squares, clipnorm, threads)
    if a.clip < 0:
        return first_not_finite(squares, count)
    with nogil:
        for p in prange(count, num_threads=threads, schedule="static"):
            sgd_piece(&a, w, v, g, pieces[p, 0], pieces[p, 1], pieces[p, 2])
        if rules is not None:
            constrain_all(w, rules, limits)
        iterations[0] += 1
    return -1


def adam(real[::1] parameters not None, real[::1] m not None, real[::1] v not None,
         const real[::1] gradients not None, const int64_t[:, ::1] pieces not None, double[::1] squares not None,
         int64_t[::1] iterations not None, double rate, double beta_1, double beta_2, double epsilon, double decay,
         double clipnorm, const int64_t[:, ::1] rules=None, const double[::1] limits=None):
    """m += (1 - beta_1) (g - m);  v += (1 - beta_2) (g^2 - v);  w -= alpha m / (sqrt(v) + epsilon), with
    alpha = rate sqrt(1 - beta_2^t) / (1 - beta_1^t) at step t = iterations + 1; before it w -= rate decay w.

    ``clipnorm`` 0 clips nothing.
    """
    cdef Step a
    cdef Py_ssize_t count = pieces.shape[0], p
    cdef real *w = &parameters[0]
    cdef real *mean = &m[0]
    cdef real *square = &v[0]
    cdef const real *g = &gradients[0]
    cdef double t = iterations[0] + 1
    cdef int threads = team(count, <double> parameters.shape[0])
    a.rate, a.beta_1, a.beta_2, a.epsilon, a.decay = rate, beta_1, beta_2, epsilon, decay
    a.corrected_rate = rate * sqrt(1 - pow(beta_2, t)) / (1 - pow(beta_1, t))
    a.clip = clip_factor(g, pieces, squares, clipnorm, threads)
    if a.clip < 0:
        return first_not_finite(squares, count)
    with nogil:
        for p in prange(count, num_threads=threads, schedule="static"):
            adam_piece(&a, w, mean, square, g, pieces[p, 0], pieces[p, 1], pieces[p, 2])
        if rules is not None:
            constrain_all(w, rules, limits)
        iterations[0] += 1
    return -1


def constrain(real[::1] parameters not None, const int64_t[:, ::1] rules, const double[::1] limits):
    """Constrains the parameters as a step does after its update."""
    if rules is not None:
        with nogil:
            constrain_all(&parameters[0], rules, limits)


cdef double clip_factor(const real *g, const int64_t[:, ::1] pieces, double[::1] squares, double clipnorm,
                        int threads) noexcept:
    # What the gradients are multiplied by so that their norm is at most clipnorm; -1 if the norm is not finite.
    cdef double total = 0, norm
    cdef Py_ssize_t p, count = pieces.shape[0]
    if clipnorm == 0:
        return 1
    for p in prange(count, nogil=True, num_threads=threads, schedule="static"):
        squares[p] = sum_squares(g + pieces[p, 0], pieces[p, 1])
    for p in range(count):
        total += squares[p]
    norm = sqrt(total)
    if not isfinite(norm):
        return -1
    return clipnorm / norm if norm > clipnorm else 1


cdef Py_ssize_t first_not_finite(const double[::1] squares, Py_ssize_t count) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t p
    for p in range(count):
        total += squares[p]
        if not isfinite(total):
            return p
    return -1


cdef void sgd_piece(const Step *a, real *w, real *v, const real *g, int64_t offset, int64_t size,
                    bint decayed) noexcept nogil:
    sgd_update(w + offset, v + offset if v is not NULL else v, g + offset, size, <real> a.rate, <real> a.momentum,
               a.nesterov, <real> (a.rate * a.decay if decayed else 0), <real> a.clip)


cdef void adam_piece(const Step *a, real *w, real *m, real *v, const real *g, int64_t offset, int64_t size,
                     bint decayed) noexcept nogil:
    adam_update(w + offset, m + offset, v + offset, g + offset, size, <real> a.corrected_rate,
                <real> (1 - a.beta_1), <real> (1 - a.beta_2), <real> a.epsilon,
                <real> (a.rate * a.decay if decayed else 0), <real> a.clip)


# ---- constraints ----

cdef void constrain_all(real *w, const int64_t[:, ::1] rules, const double[::1] limits) noexcept nogil:
    cdef Py_ssize_t r, i, items
    cdef int threads
    for r in range(rules.shape[0]):
        items = rules[r, 2] * rules[r, 4] * ((rules[r, 6] + RUN - 1) // RUN)
        threads = team(items, rules[r, 2] * rules[r, 3] * rules[r, 4] * rules[r, 5] * rules[r, 6] / 2.0)
        for i in prange(items, num_threads=threads, schedule="static"):
            constrain_units(w + rules[r, 1], <int> rules[r, 0], limits[r], &rules[r, 2], i)


cdef void constrain_units(real *w, int kind, double limit, const int64_t *axes, Py_ssize_t item) noexcept nogil:
    """A run of units; ``item`` counts them along the first, the third and the last of the five axes."""
    cdef Py_ssize_t runs = (axes[4] + RUN - 1) // RUN, start = item % runs * RUN, c = item // runs % axes[2]
    cdef Py_ssize_t n = min(<Py_ssize_t> RUN, axes[4] - start), a = item // (runs * axes[2]), b, d
    cdef double numbers[RUN]  # the sum of squares of each unit, then what it is multiplied by
    if kind == IS_NON_NEG:  # no axis is one of a norm
        drop_negative(w + place(axes, a, 0, c, 0) + start, n)
        return
    memset(numbers, 0, sizeof(numbers))
    for b in range(axes[1]):
        if axes[4] == 1:
            numbers[0] += sum_squares(w + place(axes, a, b, c, 0), axes[3])
        else:
            for d in range(axes[3]):
                add_squares(w + place(axes, a, b, c, d) + start, numbers, n)
    for b in range(n):
        numbers[b] = factor(kind, limit, sqrt(numbers[b]))
    for b in range(axes[1]):
        if axes[4] == 1:
            scale(w + place(axes, a, b, c, 0), numbers[0], axes[3])
        else:
            for d in range(axes[3]):
                scale_each(w + place(axes, a, b, c, d) + start, numbers, n)


cdef inline Py_ssize_t place(const int64_t *axes, Py_ssize_t a, Py_ssize_t b, Py_ssize_t c,
                             Py_ssize_t d) noexcept nogil:
    return (((a * axes[1] + b) * axes[2] + c) * axes[3] + d) * axes[4]


cdef inline double factor(int kind, double limit, double norm) noexcept nogil:
    if kind == IS_UNIT_NORM:
        return 1 / (norm + limit)
    return limit / norm if norm > limit else 1


cdef inline void scale(real *w, double by, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        w[i] = <real> (w[i] * by)


cdef inline void drop_negative(real *w, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        w[i] = 0 if w[i] < 0 else w[i]
