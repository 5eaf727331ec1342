# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the optimisers: one call is one whole step over the flat vector of parameters.

Design: the items are pieces of the flat vector, at most BLOCK elements of one segment; the optimiser cuts them once.  A
step measures the norm if it clips, updates all pieces, constrains what is constrained, and counts itself in
``iterations``, all without returning to Python in between: a signal finds it either not begun or done.  Pieces do not
depend on the number of threads, and their squares are added in order, so neither does any bit.

All vectors are the model's flat ones, of equal length; ``pieces`` holds rows (offset, size, decayed, segment).
``step`` returns -1, or the number of the first piece whose gradient has no finite norm: then nothing has been changed.
ValueError where a length differs, or a piece or a rule reaches beyond the vectors.

Constraints: a row of ``rules`` is (kind, offset, five lengths), with a number in ``limits``.  The parameter at that
offset counts as an array of five axes, whose second and fourth are those of the norm; units that lie side by side on
the last axis are taken together, RUN at a time.  Both are None where there are no constraints.
"""
from libc.math cimport isfinite, pow, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset

from minicnn._ext.machinery.jobs cimport Kernel, share_out
from minicnn._ext.machinery.runtime cimport (ADADELTA, ADAGRAD, ADAM, ADAMAX, AMSGRAD, MOMENTUM, NADAM, NESTEROV,
                                             RMSPROP, SGD, Update, add_squares, chosen_leaves, cut, is_double, real,
                                             require, scale_each, sum_squares, team, update_weights, use_leaves)

use_leaves(chosen_leaves())

BLOCK = 16384
MAX_NORM, NON_NEG, UNIT_NORM = IS_MAX_NORM, IS_NON_NEG, IS_UNIT_NORM
METHODS = {"sgd": SGD, "momentum": MOMENTUM, "nesterov": NESTEROV, "adam": ADAM, "amsgrad": AMSGRAD, "nadam": NADAM,
           "adamax": ADAMAX, "rmsprop": RMSPROP, "adagrad": ADAGRAD, "adadelta": ADADELTA}

cdef enum:
    IS_MAX_NORM, IS_NON_NEG, IS_UNIT_NORM  # kinds of constraints
    RUN = 64
    PART = 1024  # gradients, cut
    WARM = 1024  # steps, after which 0.96^t is nothing beside 1

cdef int64_t MOST_STEPS = <int64_t> 1 << 62
cdef double WARMED[WARM]  # the product of 1 - 0.96^s / 2 for s = 1 ... t

cdef struct Step:
    Update update
    void *w                  # real; so are the next four
    void *a                  # slots; or absent
    void *b
    void *c
    const void *g
    const int64_t *pieces    # (count, 4)
    double *squares          # of each piece
    double decay, limit      # of the gradients; 0 for none


cdef void warm_up() noexcept:
    cdef int t
    WARMED[0] = 1
    for t in range(1, WARM):
        WARMED[t] = WARMED[t - 1] * warmth(t)


cdef inline double warmth(double t) noexcept nogil:
    return 1 - pow(0.96, t) / 2

warm_up()


def step(int method, parameters not None, a, b, c, gradients not None, const int64_t[:, ::1] pieces not None,
         double[::1] squares not None, int64_t[::1] iterations not None, double rate, double beta_1, double beta_2,
         double epsilon, double decay, double clipnorm, double clipvalue, const int64_t[:, ::1] rules=None,
         const double[::1] limits=None):
    """One step of a method (``METHODS``; leaf.h has the formulas), before it w -= rate decay w.

    ``a``, ``b``, ``c``: the slots, None where the method has none.  ``beta_1``, ``beta_2``: what stays in a step of the
    first moment or of the momentum, and of the second.  ``clipnorm`` and ``clipvalue`` 0 clip nothing.
    """
    if is_double(parameters):
        return step_in[double](method, parameters, a, b, c, gradients, pieces, squares, iterations, rate, beta_1,
                               beta_2, epsilon, decay, clipnorm, clipvalue, rules, limits)
    return step_in[float](method, parameters, a, b, c, gradients, pieces, squares, iterations, rate, beta_1, beta_2,
                          epsilon, decay, clipnorm, clipvalue, rules, limits)


cdef Py_ssize_t step_in(int method, real[::1] parameters, real[::1] a, real[::1] b, real[::1] c,
                        const real[::1] gradients, const int64_t[:, ::1] pieces, double[::1] squares,
                        int64_t[::1] iterations, double rate, double beta_1, double beta_2, double epsilon,
                        double decay, double clipnorm, double clipvalue, const int64_t[:, ::1] rules,
                        const double[::1] limits) except -2:
    cdef Step s
    cdef Py_ssize_t count = pieces.shape[0], length = parameters.shape[0]
    cdef int needed = slots_of(method), threads = team(count, length / 2.0 if method == SGD else length)
    require(needed >= 0, "there must be such a method")
    require((a is not None or needed < 1) and (b is not None or needed < 2 and (method != RMSPROP or beta_1 == 0))
            and (c is not None or needed < 3), "a method needs its slots")
    require((a is None or a.shape[0] == length) and (b is None or b.shape[0] == length)
            and (c is None or c.shape[0] == length), "slots must have the length of parameters")
    check(length, gradients.shape[0], pieces, squares, iterations)
    check_rules(length, rules, limits)
    s.w, s.g, s.pieces, s.squares = &parameters[0], &gradients[0], &pieces[0, 0], &squares[0]
    s.a, s.b, s.c = NULL, NULL, NULL
    if a is not None:
        s.a = &a[0]
    if b is not None:
        s.b = &b[0]
    if c is not None:
        s.c = &c[0]
    s.update.method, s.update.rate, s.update.epsilon, s.update.ahead = method, rate, epsilon, 0
    s.update.beta_1, s.update.beta_2, s.decay, s.limit = beta_1, beta_2, rate * decay, clipvalue
    correct(&s.update, iterations[0] + 1)
    s.update.clip = clip_factor(<Kernel> piece_squares[real], &s, count, clipnorm, threads)
    if s.update.clip < 0:
        return first_not_finite(squares, count)
    with nogil:
        share_out(<Kernel> update_pieces[real], &s, count, threads)
        if rules is not None:
            constrain_all(&parameters[0], rules, limits)
        iterations[0] += 1
    return -1


def constrain(parameters not None, const int64_t[:, ::1] rules, const double[::1] limits):
    """Constrains the parameters as a step does after its update."""
    if is_double(parameters):
        constrain_in[double](parameters, rules, limits)
    else:
        constrain_in[float](parameters, rules, limits)


cdef int constrain_in(real[::1] parameters, const int64_t[:, ::1] rules, const double[::1] limits) except -1:
    check_rules(parameters.shape[0], rules, limits)
    if rules is not None:
        with nogil:
            constrain_all(&parameters[0], rules, limits)


cdef int check(Py_ssize_t length, Py_ssize_t gradients, const int64_t[:, ::1] pieces, const double[::1] squares,
               const int64_t[::1] iterations) except -1:
    cdef Py_ssize_t p
    require(gradients == length, "gradients must have the length of parameters")
    require(pieces.shape[1] == 4 and squares.shape[0] >= pieces.shape[0], "squares must have an entry for each piece")
    require(iterations.shape[0] == 1 and 0 <= iterations[0] < MOST_STEPS, "iterations must be one number below 2^62")
    for p in range(pieces.shape[0]):
        require(0 <= pieces[p, 0] <= length and 0 <= pieces[p, 1] <= length - pieces[p, 0],
                "every piece must lie within the parameters")
    return 0


cdef int check_rules(Py_ssize_t length, const int64_t[:, ::1] rules, const double[::1] limits) except -1:
    cdef Py_ssize_t r, axis, most
    require((rules is None) == (limits is None), "rules and limits must be there both or not at all")
    if rules is None:
        return 0
    require(rules.shape[1] == 7 and limits.shape[0] == rules.shape[0], "every rule must have 7 numbers and a limit")
    for r in range(rules.shape[0]):
        require(0 <= rules[r, 1] <= length, "every rule must lie within the parameters")
        most = length - rules[r, 1]
        for axis in range(2, 7):
            require(0 <= rules[r, axis] <= most, "every rule must lie within the parameters")
            most //= max(<int64_t> 1, rules[r, axis])
    return 0


cdef double clip_factor(Kernel square_up, const Step *a, Py_ssize_t count, double clipnorm, int threads) noexcept:
    # What the gradients are multiplied by so that their norm is at most clipnorm; -1 if the norm is not finite.
    cdef double total = 0, norm
    cdef Py_ssize_t p
    if clipnorm == 0:
        return 1
    with nogil:
        share_out(square_up, a, count, threads)
    for p in range(count):
        total += a.squares[p]
    norm = sqrt(total)
    if not isfinite(norm):
        return -1
    return clipnorm / norm if norm > clipnorm else 1


cdef void piece_squares(const Step *a, Py_ssize_t first, Py_ssize_t last, real *_scratch) noexcept nogil:
    cdef Py_ssize_t p
    for p in range(first, last):
        a.squares[p] = sum_squares(<const real *> a.g + a.pieces[4 * p], a.pieces[4 * p + 1])


cdef Py_ssize_t first_not_finite(const double[::1] squares, Py_ssize_t count) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t p
    for p in range(count):
        total += squares[p]
        if not isfinite(total):
            return p
    return -1


cdef int slots_of(int method) noexcept nogil:
    if method < 0 or method > ADADELTA:
        return -1
    if method == SGD:
        return 0
    if method == AMSGRAD:
        return 3
    if method == MOMENTUM or method == NESTEROV or method == ADAGRAD or method == RMSPROP:  # which may have more
        return 1
    return 2


cdef void correct(Update *u, double t) noexcept nogil:
    # The corrections of step t: moments begin at 0, and their weights add up to 1 - beta^t.
    cdef double rest = sqrt(1 - pow(u.beta_2, t)), product, ahead
    if u.method == ADAM or u.method == AMSGRAD:
        u.rate = u.rate * rest / (1 - pow(u.beta_1, t))
    elif u.method == ADAMAX:
        u.rate /= 1 - pow(u.beta_1, t)
    elif u.method == NADAM:
        product, ahead = pow(u.beta_1, t) * WARMED[<int> min(t, WARM - 1.0)], u.beta_1 * warmth(t + 1)
        u.ahead = u.rate * rest * ahead / (1 - product * ahead)
        u.rate *= rest * (1 - u.beta_1 * warmth(t)) / (1 - product)
        u.epsilon *= rest


cdef void update_pieces(const Step *s, Py_ssize_t first, Py_ssize_t last, real *_scratch) noexcept nogil:
    cdef real part[PART]
    cdef Py_ssize_t p, at, end, n
    cdef const real *g
    cdef real decay
    for p in range(first, last):
        at, end, decay = s.pieces[4 * p], s.pieces[4 * p] + s.pieces[4 * p + 1], 0
        if s.pieces[4 * p + 2]:
            decay = <real> s.decay
        while at < end:
            g, n = <const real *> s.g + at, end - at
            if s.limit:
                n = min(n, <Py_ssize_t> PART)
                cut(g, <real> s.limit, &part[0], n)
                g = &part[0]
            update_weights(&s.update, <real *> s.w + at, g, slot(<real *> s.a, at), slot(<real *> s.b, at),
                           slot(<real *> s.c, at), decay, n)
            at += n


cdef inline real *slot(real *whole, Py_ssize_t at) noexcept nogil:
    return NULL if whole is NULL else whole + at


# ---- constraints ----

ctypedef struct Rule:
    void *w                # real, the first parameter of the rule
    const int64_t *row     # kind, offset, five lengths
    double limit


cdef void constrain_all(real *w, const int64_t[:, ::1] rules, const double[::1] limits) noexcept nogil:
    cdef Py_ssize_t r, items, size
    cdef Rule a
    for r in range(rules.shape[0]):
        a.w, a.row, a.limit = w + rules[r, 1], &rules[r, 0], limits[r]
        items = rules[r, 2] * rules[r, 4] * ((rules[r, 6] + RUN - 1) // RUN)
        size = rules[r, 2] * rules[r, 3] * rules[r, 4] * rules[r, 5] * rules[r, 6]
        if size:
            share_out(<Kernel> constrain_items[real], &a, items, team(items, size / 2.0))


cdef void constrain_items(const Rule *a, Py_ssize_t first, Py_ssize_t last, real *_scratch) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        constrain_units(<real *> a.w, <int> a.row[0], a.limit, a.row + 2, i)


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
