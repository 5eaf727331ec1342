# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the losses: the value and the gradient, sample by sample; and what is checked and counted of them.

Design: the items are samples.  A kernel writes two things for each: its loss, in double, and its row of the gradient.
The entries then add the losses in the tree of jobs.pxd, so that a value has the same bits at any number of threads.
Probabilities come from the leaf ``softmax_row``; all else is computed in double whatever the type, since a loss costs
next to nothing beside the layers.

All losses return (1/N) sum_n w_n l_n, of a node of a batch the sum alone; N is that of the whole batch.  ``weights``
may be None for ones.  With label smoothing a target t becomes
``on`` t + ``off``.
"""
from libc.math cimport exp, expm1, fabs, log, log1p, pow, sqrt, tanh
from libc.stdint cimport int64_t, uint8_t

from minicnn._ext.machinery.jobs cimport Kernel, cells_for, share_out, sum_of, whole_batch
from minicnn._ext.machinery.runtime cimport (affine, chosen_leaves, is_double, real, require, softmax_row, team,
                                             use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 4096  # outputs that a thread gets, at least

cdef double CLIP = 1e-7  # probabilities keep this distance from 0 where a logarithm is taken (Keras's epsilon)
cdef double LOG_CLIP = log(CLIP)
cdef double LOG_2 = log(2.0)

cdef enum Kind:  # of an output
    MEAN_SQUARED_ERROR, MEAN_ABSOLUTE_ERROR, HUBER, MEAN_ABSOLUTE_PERCENTAGE_ERROR, HINGE, SQUARED_HINGE,
    BINARY_LOGITS, BINARY_PROBABILITIES,  # from here on it takes logarithms
    BINARY_FOCAL_LOGITS, BINARY_FOCAL_PROBABILITIES, MEAN_SQUARED_LOGARITHMIC_ERROR, LOG_COSH, POISSON

cdef enum RowKind:
    CROSSENTROPY, CATEGORICAL_FOCAL, KL_DIVERGENCE, CATEGORICAL_HINGE, COSINE_SIMILARITY

KINDS = {
    "mean_squared_error": MEAN_SQUARED_ERROR, "mean_absolute_error": MEAN_ABSOLUTE_ERROR, "huber": HUBER,
    "mean_absolute_percentage_error": MEAN_ABSOLUTE_PERCENTAGE_ERROR, "hinge": HINGE, "squared_hinge": SQUARED_HINGE,
    "binary_logits": BINARY_LOGITS, "binary_probabilities": BINARY_PROBABILITIES,
    "binary_focal_logits": BINARY_FOCAL_LOGITS, "binary_focal_probabilities": BINARY_FOCAL_PROBABILITIES,
    "mean_squared_logarithmic_error": MEAN_SQUARED_LOGARITHMIC_ERROR, "log_cosh": LOG_COSH, "poisson": POISSON,
}
ROW_KINDS = {
    "categorical_focal": CATEGORICAL_FOCAL, "kl_divergence": KL_DIVERGENCE, "categorical_hinge": CATEGORICAL_HINGE,
    "cosine_similarity": COSINE_SIMILARITY,
}

ctypedef struct Loss:
    Py_ssize_t n, width    # samples, outputs of one sample
    Py_ssize_t batch       # samples of the whole batch
    int kind
    bint from_logits
    double on, off, delta, gamma
    double yes, no         # binary focal: the weights of the two answers
    const double *alpha    # categorical focal: the weight of class k is alpha[k * alpha_step]
    Py_ssize_t alpha_step
    const void *outputs    # (n, width), real; so are the next two
    const void *targets
    void *gradient
    const int64_t *labels  # NULL: rows of targets
    const double *weights  # NULL: ones
    double *losses


def softmax_crossentropy(outputs not None, const int64_t[::1] labels, targets, const double[::1] weights, double on,
                         double off, bint from_logits, gradient not None, double[::1] losses not None):
    """l = -sum_k t_k log p_k with p = softmax(logits), and its gradient at the *logits*: (p sum_k t_k - t) w / N.

    The targets t are rows (N, K), or one-hot rows of the labels (N,) in [0, K); the other of the two is None.
    ``outputs`` are logits, or p itself.  ``losses`` (N,) receives the losses of the samples without their weights.
    """
    if is_double(outputs):
        return over_rows[double](CROSSENTROPY, outputs, labels, targets, weights, on, off, 0, None, from_logits,
                                 gradient, losses)
    return over_rows[float](CROSSENTROPY, outputs, labels, targets, weights, on, off, 0, None, from_logits,
                            gradient, losses)


def rows(int kind, outputs not None, const int64_t[::1] labels, targets, const double[::1] weights, double on,
         double off, double gamma, const double[::1] alpha not None, bint from_logits, gradient not None,
         double[::1] losses not None):
    """l = f(o, t) of the K outputs of a sample, and its gradient; ``kind`` is one of ROW_KINDS.

    "categorical_focal" and "kl_divergence" read the outputs as ``softmax_crossentropy`` does, and their gradient is
    the one at the *logits*; of the others it is the one at the outputs.  ``gamma`` and ``alpha``, one weight or K, are
    those of the focal loss.  The other arguments are those of ``softmax_crossentropy``.
    """
    if is_double(outputs):
        return over_rows[double](kind, outputs, labels, targets, weights, on, off, gamma, alpha, from_logits, gradient,
                                 losses)
    return over_rows[float](kind, outputs, labels, targets, weights, on, off, gamma, alpha, from_logits, gradient,
                            losses)


cdef double over_rows(int kind, const real[:, ::1] outputs, const int64_t[::1] labels, const real[:, ::1] targets,
                      const double[::1] weights, double on, double off, double gamma, const double[::1] alpha,
                      bint from_logits, real[:, ::1] gradient, double[::1] losses) except? -1:
    cdef Loss a
    cdef Py_ssize_t n = outputs.shape[0], width = outputs.shape[1]
    describe(&a, outputs.shape, gradient.shape, weights, losses)
    require((labels is None) != (targets is None), "either labels or targets must be None")
    require(targets is None or (targets.shape[0] == n and targets.shape[1] == width),
            "targets must have the shape of outputs")
    require(labels is None or (labels.shape[0] == n and all_classes(labels, width)),
            "labels must have an entry for each sample, which must be in [0, K)")
    require(alpha is None or alpha.shape[0] == 1 or alpha.shape[0] == width, "alpha must have one entry or K")
    a.kind, a.on, a.off, a.gamma, a.from_logits = kind, on, off, gamma, from_logits
    a.outputs, a.gradient = &outputs[0, 0], &gradient[0, 0]
    a.labels, a.targets = NULL, NULL
    if targets is not None:
        a.targets = &targets[0, 0]
    else:
        a.labels = &labels[0]
    a.alpha, a.alpha_step = NULL, 0
    if alpha is not None:
        a.alpha, a.alpha_step = &alpha[0], alpha.shape[0] > 1
    with nogil:
        share_out(<Kernel> each_row[real], &a, n, team(items(&a), 10.0 * n * width))
    return weighted_mean(&a)


def elementwise(int kind, outputs not None, targets not None, const double[::1] weights, double on, double off,
                double delta, double gamma, double yes, double no, gradient not None, double[::1] losses not None):
    """l = the mean over a sample's M outputs of f(o, t), and its gradient f'(o, t) w / (N M); ``kind`` is one of KINDS.

    ``delta`` is Huber's; ``gamma``, ``yes`` and ``no`` are those of the focal loss.  ``losses`` (N,) receives the
    losses of the samples without their weights.
    """
    if is_double(outputs):
        return elementwise_in[double](kind, outputs, targets, weights, on, off, delta, gamma, yes, no, gradient, losses)
    return elementwise_in[float](kind, outputs, targets, weights, on, off, delta, gamma, yes, no, gradient, losses)


cdef double elementwise_in(int kind, const real[:, ::1] outputs, const real[:, ::1] targets, const double[::1] weights,
                           double on, double off, double delta, double gamma, double yes, double no,
                           real[:, ::1] gradient, double[::1] losses) except? -1:
    cdef Loss a
    cdef Py_ssize_t n = outputs.shape[0], width = outputs.shape[1]
    describe(&a, outputs.shape, gradient.shape, weights, losses)
    require(targets.shape[0] == n and targets.shape[1] == width, "targets must have the shape of outputs")
    a.kind, a.on, a.off, a.delta, a.gamma, a.yes, a.no = kind, on, off, delta, gamma, yes, no
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
    a.batch = whole_batch(a.n)
    if weights is not None:
        a.weights = &weights[0]
    return 0


cdef inline Py_ssize_t items(const Loss *a) noexcept nogil:
    """What threads may share: runs of whole samples."""
    cdef Py_ssize_t rows = max(<Py_ssize_t> 1, BLOCK // a.width)
    return (a.n + rows - 1) // rows


cdef double weighted_mean(const Loss *a) noexcept:
    cdef double total = sum_of(a.losses, a.weights, cells_for(a.n), a.n)
    return total / a.n if a.batch == a.n else total


cdef inline double share(const Loss *a, Py_ssize_t i) noexcept nogil:
    # What sample i counts in the mean.
    return (1.0 if a.weights is NULL else a.weights[i]) / a.batch


cdef inline double clipped(double p, double low, double high) noexcept nogil:
    return low if p < low else high if p > high else p  # a NaN stays a NaN


cdef inline double target(const Loss *a, const real *targets, Py_ssize_t i, Py_ssize_t k) noexcept nogil:
    if a.labels is NULL:
        return a.off + a.on * targets[i * a.width + k]
    return a.off + (a.on if k == a.labels[i] else 0)


cdef void each_row(const Loss *a, Py_ssize_t i0, Py_ssize_t i1, real *_scratch) noexcept nogil:
    cdef Py_ssize_t i
    cdef const real *row
    cdef const real *targets = <const real *> a.targets
    cdef real *slope
    for i in range(i0, i1):
        row, slope = <const real *> a.outputs + i * a.width, <real *> a.gradient + i * a.width
        if a.kind == CATEGORICAL_HINGE:
            a.losses[i] = categorical_hinge(a, row, targets, slope, i)
        elif a.kind == COSINE_SIMILARITY:
            a.losses[i] = cosine_similarity(a, row, targets, slope, i)
        elif a.kind != CROSSENTROPY:
            a.losses[i] = of_classes(a, row, targets, slope, i)
        elif a.labels is not NULL and a.off == 0:
            a.losses[i] = label_crossentropy(a, row, slope, i)
        else:
            a.losses[i] = target_crossentropy(a, row, targets, slope, i)


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


cdef inline double power(double x, double exponent) noexcept nogil:
    # x^exponent, for x >= 0; what is common without pow.
    if exponent == 2:
        return x * x
    return 1 if exponent == 0 else x if exponent == 1 else pow(x, exponent)


cdef inline double minus_log(const Loss *a, double o, double highest, double log_sum) noexcept nogil:
    # -log p of an output o.
    return log_sum - (o - highest) if a.from_logits else -log(clipped(o, CLIP, 1))


cdef double of_class(const Loss *a, double t, double m, Py_ssize_t k, double *h) noexcept nogil:
    """f(p) and p f'(p) of class k, from m = -log p, which is exact where p is nearly 0 or nearly 1."""
    cdef double wrong, factor
    if a.kind == KL_DIVERGENCE:
        t = clipped(t, CLIP, 1)
        h[0] = -t
        return t * ((LOG_CLIP if t == CLIP else log(t)) + m)
    wrong = -expm1(-m)  # 1 - p
    factor = t * a.alpha[k * a.alpha_step] * power(wrong, a.gamma)
    h[0] = -factor * (1 + a.gamma * exp(-m) * (m / wrong if wrong > 0 else 1))
    return factor * m


cdef double of_classes(const Loss *a, const real *row, const real *targets, real *slope, Py_ssize_t i) noexcept nogil:
    """The loss l = sum_k f_k(p_k) of sample i, p = softmax(z), and its gradient at z.

    With h_k = p_k f_k'(p_k), which stays finite where p_k is 0, dl/dz_k = h_k - p_k sum_j h_j.
    """
    cdef Py_ssize_t k, label
    cdef const real *p = row
    cdef double highest = 0, rest = 0, log_sum = 0, loss = 0, sum_h = 0, scale = share(a, i), h, t, last
    if a.from_logits:
        highest = softmax_row(row, slope, a.width, 1, &rest)
        log_sum = log1p(rest)
        p = slope
    if a.kind == CATEGORICAL_FOCAL and a.labels is not NULL and a.off == 0:  # one target alone is not zero
        label, last = a.labels[i], p[a.labels[i]]
        loss = of_class(a, a.on, minus_log(a, row[label], highest, log_sum), label, &h)
        for k in range(a.width):
            slope[k] = <real> (-(p[k] * h) * scale)
        slope[label] = <real> ((h - last * h) * scale)
        return loss
    for k in range(a.width):
        t = target(a, targets, i, k)
        if t != 0 or a.kind == KL_DIVERGENCE:
            loss += of_class(a, t, minus_log(a, row[k], highest, log_sum), k, &h)
            sum_h += h
    for k in range(a.width):
        t, h = target(a, targets, i, k), 0
        if t != 0 and a.kind == CATEGORICAL_FOCAL:
            of_class(a, t, minus_log(a, row[k], highest, log_sum), k, &h)
        elif a.kind == KL_DIVERGENCE:
            h = -clipped(t, CLIP, 1)
        slope[k] = <real> ((h - p[k] * sum_h) * scale)
    return loss


cdef double categorical_hinge(const Loss *a, const real *row, const real *targets, real *slope,
                              Py_ssize_t i) noexcept nogil:
    """max(1 + max_k (1 - t_k) o_k - sum_k t_k o_k, 0); of equal ones the first is the largest."""
    cdef Py_ssize_t k, place = 0
    cdef double o, t, right = 0, largest = 0, loss, scale = share(a, i)
    for k in range(a.width):
        o, t = row[k], target(a, targets, i, k)
        right += t * o
        if k == 0 or (1 - t) * o > largest:
            place, largest = k, (1 - t) * o
    loss = 1 + largest - right
    if loss <= 0:
        loss = scale = 0
    for k in range(a.width):
        t = target(a, targets, i, k)
        slope[k] = <real> (((1 - t if k == place else 0) - t) * scale)
    return loss


cdef double cosine_similarity(const Loss *a, const real *row, const real *targets, real *slope,
                              Py_ssize_t i) noexcept nogil:
    """-sum_k o_k t_k / (|o| |t|), where a length counts as at least CLIP; its slope there is that of a constant."""
    cdef Py_ssize_t k
    cdef double o, t, product = 0, of_outputs = 0, of_targets = 0, across, along, scale = share(a, i)
    for k in range(a.width):
        o, t = row[k], target(a, targets, i, k)
        product += o * t
        of_outputs += o * o
        of_targets += t * t
    of_outputs, of_targets = sqrt(of_outputs), sqrt(of_targets)
    across = scale / (clipped(of_outputs, CLIP, of_outputs) * clipped(of_targets, CLIP, of_targets))
    along = 0 if of_outputs < CLIP else product / of_outputs / of_outputs
    for k in range(a.width):
        slope[k] = <real> ((along * row[k] - target(a, targets, i, k)) * across)
    return -product / (clipped(of_outputs, CLIP, of_outputs) * clipped(of_targets, CLIP, of_targets))


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
    cdef double d = o - t, e, p, q
    if a.kind == MEAN_SQUARED_ERROR:
        slope[0] = 2 * d
        return d * d
    if a.kind == MEAN_ABSOLUTE_ERROR:
        slope[0] = (d > 0) - (d < 0)
        return fabs(d)
    if a.kind == HUBER:
        slope[0] = clipped(d, -a.delta, a.delta)
        return d * d / 2 if fabs(d) <= a.delta else a.delta * (fabs(d) - a.delta / 2)
    if a.kind == BINARY_LOGITS or a.kind == BINARY_FOCAL_LOGITS:
        e = exp(-fabs(o))  # at most 1, so that neither the sigmoid nor the logarithm overflows
        p, q = (1 / (1 + e), e / (1 + e)) if o > 0 else (e / (1 + e), 1 / (1 + e))
        slope[0] = (1 - t) * p - t * q  # p - t, exact where p is nearly 1
        return focal(a, t, p, q, (o if o > 0 else 0) - t * o + log1p(e), p * q, slope)
    if a.kind == BINARY_PROBABILITIES or a.kind == BINARY_FOCAL_PROBABILITIES:
        p = clipped(o, CLIP, 1 - CLIP)
        slope[0] = (p - t) / (p * (1 - p))
        return focal(a, t, p, 1 - p, -t * log(p) - (1 - t) * log1p(-p), 1, slope)
    if a.kind == HINGE or a.kind == SQUARED_HINGE:
        t = 1 if t > 0 else -1
        d = 1 - t * o
        if d <= 0:  # not where it is NaN
            d = t = 0
        slope[0] = -t if a.kind == HINGE else -2 * t * d
        return d if a.kind == HINGE else d * d
    if a.kind == MEAN_ABSOLUTE_PERCENTAGE_ERROR:
        e = 100 / (CLIP if fabs(t) < CLIP else fabs(t))
        slope[0] = e * ((d > 0) - (d < 0))
        return e * fabs(d)
    if a.kind == MEAN_SQUARED_LOGARITHMIC_ERROR:
        d = log1p(CLIP if o < CLIP else o) - log1p(CLIP if t < CLIP else t)
        slope[0] = 0 if o < CLIP else 2 * d / (1 + o)
        return d * d
    if a.kind == LOG_COSH:
        slope[0] = tanh(d)
        d = fabs(d)
        e = expm1(-d)  # cosh d - 1 is e^2 / 2 (1 + e)
        return log1p(e * e / (2 * (1 + e))) if d < 1 else d + log1p(exp(-2 * d)) - LOG_2
    slope[0] = 1 - t / (o + CLIP)
    return o - t * log(o + CLIP)


cdef inline double focal(const Loss *a, double t, double p, double q, double f, double chain,
                         double *slope) noexcept nogil:
    """The binary cross-entropy f, whose ``slope`` is known, times w x^gamma with x = t q + (1 - t) p and q = 1 - p.

    ``chain`` is dp/do.  Where x is 0, f is 0 as well, and so is what gamma adds to the slope.
    """
    cdef double x, factor, weight
    if a.kind < BINARY_FOCAL_LOGITS:
        return f
    x, weight = t * q + (1 - t) * p, a.no + t * (a.yes - a.no)
    factor = weight * power(x, a.gamma)
    slope[0] *= factor
    if x > 0:
        slope[0] += factor * a.gamma * (1 - 2 * t) * (chain / x) * f
    return factor * f


# ---- what is right: checked, and counted ----

def all_classes(const int64_t[::1] labels not None, int64_t classes):
    """Whether all labels are in [0, classes)."""
    cdef Py_ssize_t i
    cdef bint found = True
    for i in range(labels.shape[0]):
        found &= 0 <= labels[i] < classes
    return found


def all_signs(values not None):
    """Whether all values are 1 or -1, or all are 1 or 0."""
    if is_double(values):
        return all_signs_in[double](values)
    return all_signs_in[float](values)


cdef bint all_signs_in(const real[::1] values) noexcept:
    cdef Py_ssize_t i
    cdef bint found = True, zeros = False, negative = False
    for i in range(values.shape[0]):
        zeros |= values[i] == 0
        negative |= values[i] == -1
        found &= values[i] == 0 or fabs(values[i]) == 1
    return found and not (zeros and negative)


def all_distributions(rows not None, double tolerance):
    """Whether every row holds numbers >= 0 whose sum is at most ``tolerance`` away from 1."""
    if is_double(rows):
        return all_distributions_in[double](rows, tolerance)
    return all_distributions_in[float](rows, tolerance)


cdef bint all_distributions_in(const real[:, ::1] rows, double tolerance) noexcept:
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


def in_top(outputs not None, const int64_t[::1] labels not None, Py_ssize_t top, uint8_t[::1] right=None):
    """right[i] = 1 if fewer than ``top`` other classes are ahead of the label's, which must be in [0, K), else 0.

    Returns how many there are; ``right`` may be left out.

    Ahead is a class with a larger output, or an equal one and a smaller number.  Nothing is known of a NaN: it is ahead
    of every label, and everything is ahead of it.
    """
    if is_double(outputs):
        return mark_top[double](outputs, labels, top, right)
    return mark_top[float](outputs, labels, top, right)


cdef Py_ssize_t mark_top(const real[:, ::1] outputs, const int64_t[::1] labels, Py_ssize_t top,
                         uint8_t[::1] right) except -1:
    cdef Py_ssize_t i, k, label, ahead, count = 0
    cdef bint marks = right is not None
    require(labels.shape[0] == outputs.shape[0] and (not marks or right.shape[0] == outputs.shape[0]),
            "labels and right must have the rows of outputs")
    require(all_classes(labels, outputs.shape[1]), "labels must be in [0, K)")
    with nogil:
        for i in range(outputs.shape[0]):
            label, ahead = labels[i], 0
            for k in range(label):
                ahead += not outputs[i, k] < outputs[i, label]
            for k in range(label + 1, outputs.shape[1]):
                ahead += not outputs[i, k] <= outputs[i, label]
            count += ahead < top
            if marks:
                right[i] = ahead < top
    return count
