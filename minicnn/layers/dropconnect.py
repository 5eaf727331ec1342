"""DropConnect: a Dense whose weights are dropped instead of its inputs.

Read next: ``dense.py``, ``noise.py`` (the rate), ``random.py`` (the step), the kernel ``_ext/dropconnect.pyx``, its
leaves in ``_ext/leaves/matrix.h``.
"""

from minicnn import _check
from minicnn._ext import dropconnect as kernels
from minicnn.layers.dense import Dense
from minicnn.layers.noise import Mask, decisions
from minicnn.recording import each_time, empty


class DropConnect(Mask, Dense, compiled=True):
    """Fully connected layer that drops a fraction ``rate`` of its weights in training, different ones for each sample.

    ::

        training, forward:    z[n,m]    = bias[m] + scale sum_d x[n,d] kernel[d,m] keep[n,d,m],     y = activation(z)
        training, backward:   dx[n,d]   = scale sum_m dz[n,m] kernel[d,m] keep[n,d,m]
                              dkernel[d,m] = scale sum_n x[n,d] dz[n,m] keep[n,d,m],     dbias[m] = sum_n dz[n,m]
        evaluation:           z         = bias + x kernel

    with keep ~ Bernoulli(1 - rate), drawn separately for every weight, sample and step, and scale = 1 / (1 - rate), so
    that z has the expectation of evaluation in training.  With ``mode="classical"`` scale = 1 in training, and in
    evaluation z = bias + (1 - rate) x kernel.

    x: (N, D), y: (N, M), float32 or float64.  Samples with more axes are refused: put ``Flatten`` before.  Parameters
    ``kernel`` (D, M) and ``bias`` (M,).  A weight that is dropped contributes exactly 0, even where it or its input is
    NaN or inf.  The mask of a batch, N D M bits, is not stored: backward makes it again.

    - ``rate``: the fraction DROPPED, a number in [0, 1] or a Schedule (``schedules.py``), a function from the layer's
      step to the rate.  At 0 the layer is ``Dense``, to the bit; at 1 z = bias, and dkernel and dx are 0.
    - ``seed``: None takes the model's.  The mask is a function of (seed, number of the layer in the model, number of
      training forwards so far, index of sample, input and output) and of nothing else.
    - The other arguments are those of ``Dense``.

    Different from the paper: there the biases are dropped as well, and evaluation draws z from a normal distribution
    with the mean that is taken here and its variance; ``Sequential.predict_mc`` averages over true samples instead.

    Raises what ``Dense`` and ``Dropout`` raise.

    Source: Wan et al., "Regularization of Neural Networks using DropConnect", ICML 2013, section 3.
    """

    def __init__(
        self,
        units,
        rate=0.5,
        mode="inverted",
        seed=None,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        kernel_constraint=None,
        bias_regularizer=None,
        activity_regularizer=None,
        bias_constraint=None,
        dtype=None,
    ):
        super().__init__(
            units,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            kernel_constraint,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
            dtype,
        )
        self._set_up_mask(rate, mode, seed)
        self._dropped = True  # whether the latest training forward has a mask

    def build(self, input_shape, rng):
        shape = _check.sample_shape("DropConnect", input_shape)
        if len(shape) != 1:
            required = "one sample must have one axis, since every sample has its own mask"
            raise ValueError(_check.message("DropConnect", required, shape, "Put Flatten before"))
        return super().build(input_shape, rng)

    def _linear(self, x, training):
        if not training:
            return super()._linear(x if self.mode == "inverted" else self._scaled(x), False)
        each_time(self._begin_step, x.shape)
        self._dropped = self._rate != 0
        return self._drop(x, self._lot, training)

    def _drop(self, x, lot, training):
        if self._rate == 0:
            return super()._linear(x, training)
        z, function = empty((len(x), self.units), self.dtype), self._function
        w, bias = self.params["kernel"], self.params.get("bias")
        kernels.forward(x, w, bias, z, *lot, function.fused(training))
        return z

    def sample(self, x, lot):
        return self._activate(self._drop(self.check_input(x), lot, False), False)[0]

    def _linear_gradient(self, x, dz, input_gradient):
        if not self._dropped:
            return super()._linear_gradient(x, dz, input_gradient)
        dx = empty(x.shape, x.dtype) if input_gradient else None
        w, dw, dbias = self.params["kernel"], self.grads["kernel"], self.grads.get("bias")
        kernels.backward(x, w, dz, dw, dbias, dx, *self._lot)
        return dx

    @property
    def last_mask(self):
        """The mask of the latest training forward: bool, (N, D, M), True where a weight was kept for a sample.

        Made again from its counter at every call.  RuntimeError before the first training forward.
        """
        return decisions(self._draw, (*self._require_latest(), self.units))
