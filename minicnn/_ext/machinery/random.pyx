# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Random numbers outside the layers: the raw generator for tests, and the order of the samples in an epoch."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

# The purposes of a stream (random.pxd): training masks, Monte-Carlo masks, the order of samples, pairs of samples.
TRAINING_MASK, MC_MASK, SHUFFLE, AUGMENTATION = range(4)


def philox4x32(counter, key):
    """The four 32-bit words of Philox4x32-10 for a counter of four 32-bit words and a key of two (low word first)."""
    cdef uint32_t c[4]
    cdef int i
    for i in range(4):
        c[i] = counter[i]
    philox(c, <uint64_t> key[0] | <uint64_t> key[1] << 32)
    return tuple([c[i] for i in range(4)])


def shuffle(int64_t[::1] order not None, uint64_t seed, uint32_t epoch, uint32_t stream=SHUFFLE):
    """Permutes ``order`` in place; the permutation is a function of its length, ``seed``, ``epoch`` (or whatever is
    counted in the ``stream``) and ``stream`` alone.

    Fisher and Yates' shuffle (Knuth, The Art of Computer Programming, volume 2, algorithm P) with 64-bit draws; the
    remainder favours no place by more than length / 2^64.
    """
    cdef Py_ssize_t i, j
    cdef uint32_t c[4]
    cdef uint64_t draw
    with nogil:
        for i in range(order.shape[0] - 1, 0, -1):
            c[0], c[1], c[2], c[3] = <uint32_t> i, <uint32_t> (<uint64_t> i >> 32), epoch, stream
            philox(c, seed)
            draw = <uint64_t> c[0] | <uint64_t> c[1] << 32
            j = <Py_ssize_t> (draw % <uint64_t> (i + 1))
            order[i], order[j] = order[j], order[i]
