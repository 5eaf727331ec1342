# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the losses: the value and the gradient, sample by sample; and what is checked and counted of them.

Design: the items are samples.  A kernel writes two things for each: its loss, in double, and its row of the gradient.
The entries then add the losses in the order of the samples, so that a value has the same bits at any number of threads.
Probabilities come from the leaf ``softmax_row``; all else is computed in double whatever the type, since a loss costs
next to nothing beside the layers.

Both losses return (1/N) sum_n w_n l_n; ``weights`` may be None for ones.  With label smoothing a target t becomes
``on`` t + ``off``.
"""
from libc.math cimport exp, fabs, log, log1p
from libc.stdint cimport int64_t, uint8_t

from minicnn._ext.machinery.jobs cimport Kernel, share_out
from minicnn._ext.machinery.runtime cimport affine, chosen_leaves, real, require, softmax_row, team, use_leaves

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 4096  # outputs that a thread gets, at least

cdef double CLIP = 1e-7  # probabilities keep this distance from 0 where a logarithm is taken (Keras's epsilon)

cdef enum Kind:
    MEAN_SQUARED_ERROR, MEAN_ABSOLUTE_ERROR, HUBER, BINARY_LOGITS, BINARY_PROBABILITIES

KINDS = {
    "mean_squared_error": MEAN_SQUARED_ERROR, "mean_absolute_error": MEAN_ABSOLUTE_ERROR, "huber": HUBER,
    "binary_logits": BINARY_LOGITS, "binary_probabilities": BINARY_PROBABILITIES,
}

ctypedef struct Loss:
    Py_ssize_t n, width    # samples, outputs of one sample
    int kind
    bint from_logits
    double on, off, delta
    const void *outputs    # (n, width), real; so are the next two
    const void *targets
    void *gradient
    const int64_t *labels  # NULL: rows of targets
    const double *weights  # NULL: ones
    double *losses


def softmax_crossentropy(const real[:, ::1] outputs not None, const int64_t[::1] labels, const real[:, ::1] targets,
                         const double[::1] weights, double on, double off, bint from_logits,
                         real[:, ::1] gradient not None, double[::1] losses not None):
    """l = -sum_k t_k log p_k with p = softmax(logits), and its gradient at the *logits*: (p sum_k t_k - t) w / N.

    The targets t are rows (N, K), or one-hot rows of the labels (N,) in [0, K); the other of the two is None.
    ``outputs`` are logits, or p itself.  ``losses`` (N,) receives the losses of the samples without their weights.
    """
    cdef Loss a
    cdef Py_ssize_t n = outputs.shape[0], width = outputs.shape[1]
    describe(&a, outputs.shape, gradient.shape, weights, losses)
    require((labels is None) != (targets is None), "either labels or targets must be None")
    require(targets is None or (targets.shape[0] == n and targets.shape[1] == width),
            "targets must have the shape of outputs")
    require(labels is None or (labels.shape[0] == n and all_classes(labels, width)),
            "labels must have an entry for each sample, which must be in [0, K)")
    a.on, a.off, a.from_logits = on, off, from_logits
    a.outputs, a.gradient = &outputs[0, 0], &gradient[0, 0]
    a.labels, a.targets = NULL, NULL
    if targets is not None:
        a.targets = &targets[0, 0]
    else:
        a.labels = &labels[0]
    with nogil:
        share_out(<Kernel> crossentropy_rows[real], &a, n, team(items(&a), 10.0 * n * width))
    return weighted_mean(&a)


def elementwise(int kind, const real[:, ::1] outputs not None, const real[:, ::1] targets not None,
                const double[::1] weights, double on, double off, double delta,
                real[:, ::1] gradient not None, double[::1] losses not None):
    """l = the mean over a sample's M outputs of f(o, t), and its gradient f'(o, t) w / (N M); ``kind`` is one of KINDS.

    ``delta`` is Huber's.  ``losses`` (N,) receives the losses of the samples without their weights.
    """
    cdef Loss a
    cdef Py_ssize_t n = outputs.shape[0], width = outputs.shape[1]
    describe(&a, outputs.shape, gradient.shape, weights, losses)
    require(targets.shape[0] == n and targets.shape[1] == width, "targets must have the shape of outputs")
    a.kind, a.on, a.off, a.delta = kind, on, off, delta
    a.outputs, a.targets, a.gradient = &outputs[0, 0], &targets[0, 0], &gradient[0, 0]
    with nogil:
        share_out(<Kernel> elementwise_rows[real], &a, n,
                  team(items(&a), (20.0 if kind >= BINARY_LOGITS else 2.0) * n * width))
    return weighted_mean(&a)


cdef int describe(Loss *a, const Py_ssize_t *shape, const Py_ssize_t *gradient, const double[::1] weights,
                  double[::1] losses) except -1:
    """What both have: shapes are those of outputs and gradient."""
    require(shape[1] > 0, "a sample must have at least one output")
    require(gradient[0] == shape[0] and gradient[1] == shape[1], "gradient must have the shape of outputs")
    require(losses.shape[0] == shape[0], "losses must have an entry for each sample")
    require(weights is None or weights.shape[0] == shape[0], "weights must have an entry for each sample")
    a.n, a.width, a.losses, a.weights, a.labels = shape[0], shape[1], &losses[0], NULL, NULL
    if weights is not None:
        a.weights = &weights[0]
    return 0


cdef inline Py_ssize_t items(const Loss *a) noexcept nogil:
    """What threads may share: runs of whole samples."""
    cdef Py_ssize_t rows = max(<Py_ssize_t> 1, BLOCK // a.width)
    return (a.n + rows - 1) // rows


cdef double weighted_mean(const Loss *a) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(a.n):
        total += a.losses[i] if a.weights is NULL else a.weights[i] * a.losses[i]
    return total / a.n


cdef inline double share(const Loss *a, Py_ssize_t i) noexcept nogil:
    # What sample i counts in the mean.
    return (1.0 if a.weights is NULL else a.weights[i]) / a.n


cdef inline double clipped(double p, double low, double high) noexcept nogil:
    return low if p < low else high if p > high else p  # a NaN stays a NaN


cdef inline double target(const Loss *a, const real *targets, Py_ssize_t i, Py_ssize_t k) noexcept nogil:
    if a.labels is NULL:
        return a.off + a.on * targets[i * a.width + k]
    return a.off + (a.on if k == a.labels[i] else 0)


cdef void crossentropy_rows(const Loss *a, Py_ssize_t i0, Py_ssize_t i1, real *_scratch) noexcept nogil:
    cdef Py_ssize_t i
    cdef const real *outputs = <const real *> a.outputs
    cdef const real *targets = <const real *> a.targets
    cdef real *gradient = <real *> a.gradient
    for i in range(i0, i1):
        if a.labels is not NULL and a.off == 0:
            a.losses[i] = label_crossentropy(a, outputs + i * a.width, gradient + i * a.width, i)
        else:
            a.losses[i] = target_crossentropy(a, outputs + i * a.width, targets, gradient + i * a.width, i)


cdef double label_crossentropy(const Loss *a, const real *row, real *slope, Py_ssize_t i) noexcept nogil:
    """The loss of sample i and its gradient where one target alone is not zero."""
    cdef Py_ssize_t label = a.labels[i]
    cdef double highest, rest, scale = a.on * share(a, i)
    if a.from_logits:
        highest = softmax_row(row, slope, a.width, scale, &rest)
        slope[label] -= <real> scale
        return a.on * (log1p(rest) - (row[label] - highest))
    affine(row, <real> scale, <real> 0, slope, a.width)
    slope[label] -= <real> scale
    return -a.on * log(clipped(row[label], CLIP, 1))


cdef double target_crossentropy(const Loss *a, const real *row, const real *targets, real *slope,
                                Py_ssize_t i) noexcept nogil:
    """The loss of sample i and its gradient."""
    cdef Py_ssize_t k
    cdef const real *p = row
    cdef double highest = 0, rest = 0, log_sum = 0, loss = 0, sum_t = 0, scale = share(a, i), t
    if a.from_logits:
        highest = softmax_row(row, slope, a.width, 1, &rest)
        log_sum = log1p(rest)
        p = slope
    for k in range(a.width):
        t = target(a, targets, i, k)
        sum_t += t
        if t != 0 and a.from_logits:
            loss += t * (log_sum - (row[k] - highest))
        elif t != 0:
            loss -= t * log(clipped(row[k], CLIP, 1))
    for k in range(a.width):
        slope[k] = <real> ((sum_t * p[k] - target(a, targets, i, k)) * scale)
    return loss


cdef void elementwise_rows(const Loss *a, Py_ssize_t i0, Py_ssize_t i1, real *_scratch) noexcept nogil:
    cdef Py_ssize_t i, k
    cdef const real *outputs = <const real *> a.outputs
    cdef const real *targets = <const real *> a.targets
    cdef real *gradient = <real *> a.gradient
    cdef double loss, slope, scale
    for i in range(i0, i1):
        loss = 0
        scale = share(a, i) / a.width
        for k in range(i * a.width, (i + 1) * a.width):
            loss += element(a, outputs[k], a.off + a.on * targets[k], &slope)
            gradient[k] = <real> (slope * scale)
        a.losses[i] = loss / a.width


cdef inline double element(const Loss *a, double o, double t, double *slope) noexcept nogil:
    # f(o, t) and its derivative in o; at the corner of |o - t| the derivative is 0.
    cdef double d = o - t, e, p
    if a.kind == MEAN_SQUARED_ERROR:
        slope[0] = 2 * d
        return d * d
    if a.kind == MEAN_ABSOLUTE_ERROR:
        slope[0] = (d > 0) - (d < 0)
        return fabs(d)
    if a.kind == HUBER:
        slope[0] = clipped(d, -a.delta, a.delta)
        return d * d / 2 if fabs(d) <= a.delta else a.delta * (fabs(d) - a.delta / 2)
    if a.kind == BINARY_LOGITS:
        e = exp(-fabs(o))  # at most 1, so that neither the sigmoid nor the logarithm overflows
        slope[0] = (1 / (1 + e) if o > 0 else e / (1 + e)) - t
        return (o if o > 0 else 0) - t * o + log1p(e)
    p = clipped(o, CLIP, 1 - CLIP)
    slope[0] = (p - t) / (p * (1 - p))
    return -t * log(p) - (1 - t) * log1p(-p)


# ---- what is right: checked, and counted ----

def all_classes(const int64_t[::1] labels not None, int64_t classes):
    """Whether all labels are in [0, classes)."""
    cdef Py_ssize_t i
    cdef bint found = True
    for i in range(labels.shape[0]):
        found &= 0 <= labels[i] < classes
    return found


def all_distributions(const real[:, ::1] rows not None, double tolerance):
    """Whether every row holds numbers >= 0 whose sum is at most ``tolerance`` away from 1."""
    cdef Py_ssize_t i, k
    cdef bint found = True
    cdef double total
    for i in range(rows.shape[0]):
        total = 0
        for k in range(rows.shape[1]):
            found &= rows[i, k] >= 0
            total += rows[i, k]
        found &= fabs(total - 1) <= tolerance
    return found


def in_top(const real[:, ::1] outputs not None, const int64_t[::1] labels not None, Py_ssize_t top,
           uint8_t[::1] right not None):
    """right[i] = 1 if fewer than ``top`` other classes are ahead of the label's, which must be in [0, K), else 0.

    Ahead is a class with a larger output, or an equal one and a smaller number.  Nothing is known of a NaN: it is ahead
    of every label, and everything is ahead of it.
    """
    cdef Py_ssize_t i, k, label, ahead
    require(labels.shape[0] == outputs.shape[0] == right.shape[0], "labels and right must have the rows of outputs")
    require(all_classes(labels, outputs.shape[1]), "labels must be in [0, K)")
    with nogil:
        for i in range(outputs.shape[0]):
            label, ahead = labels[i], 0
            for k in range(label):
                ahead += not outputs[i, k] < outputs[i, label]
            for k in range(label + 1, outputs.shape[1]):
                ahead += not outputs[i, k] <= outputs[i, label]
            right[i] = ahead < top
