"""What a model's outputs are: logits; probabilities, of classes or of a yes each; or numbers of another kind.

Decided here and nowhere else: losses, metrics, ``predict_proba``, ``predict_mc``, ensembles and the command line ask.

The chain is read from its last layer back, by what each says in ``output_function`` (``layer.py``): through layers that
hand values on, until one is found that makes them.  A softmax or sigmoid makes probabilities; everything else that says
what it is makes logits, or numbers for which the question does not arise.  Two things cannot be known: what a custom
layer makes that does not say it, and what probabilities are after a layer has changed them one by one (a ``Rescaling``
after a softmax).  (A log_softmax makes logits: the softmax of logarithms of probabilities is those probabilities.)
There the ``from_logits`` of the loss decides; with "auto", code that needs to know gets a
ValueError, and other code does not.
"""

import copy
import math

import numpy as np

from minicnn import _check, chain
from minicnn._ext import activation as kernels
from minicnn.layers import Chain
from minicnn.layers.activation import NAMES, Function
from minicnn.losses import ROUNDING
from minicnn.metric import Unknown
from minicnn.tree import walk

PROBABILITIES = ("sigmoid", "softmax")
SAYINGS = ("same", "changed", *(name for name in NAMES if name != "hard_sigmoid"))  # which says "sigmoid"
WAYS_OUT = (
    'Say output_function = "linear", "softmax" or "sigmoid" in the class of the layer or a subclass, or give the '
    "cross-entropy from_logits=True or from_logits=False"
)


def narrow_softmax(layers):
    """(path, layer) of the first layer of a built chain whose softmax is over one value, and so constant; else None."""
    for path, layer in walk(layers):
        if layer.output_function in ("softmax", "log_softmax") and layer.output_shape[-1:] == (1,):
            return path, layer
    return None


class Outputs:
    """What the outputs (N, *shape) of the chain ``layers`` are, with the ``loss`` it is compiled with, or None.

    ``function``: "linear" for logits (and for numbers of another kind), "softmax" for probabilities of classes,
    "sigmoid" for probabilities of a yes each, None where it cannot be known.

    ValueError if the loss says ``from_logits=True`` and the chain is known to end in probabilities, or if it ends in
    their logarithms and the loss takes them for probabilities, or for logits of a yes each.
    """

    def __init__(self, layers, shape, loss=None):
        self.shape, self.loss = shape, loss
        self.function, self._path, self._layer = _found(layers)
        self._fused = chain.enters_at_softmax(layers)
        self._binary = loss is not None and loss.yes_or_no
        self._whole = self._fused  # whether probabilities of classes are known to sum to 1
        said = getattr(loss, "from_logits", "auto")
        self._logarithms = self._layer is not None and self._layer.output_function == "log_softmax"
        if self._logarithms and (self._binary or said is False):
            required = f"cannot work on logarithms of probabilities of classes, in which layer {self._path} ends"
            fix = "Leave out from_logits" if not self._binary else "Take a categorical cross-entropy, or a sigmoid"
            raise ValueError(_check.message(f"Sequential: {type(loss).__name__}", required, self._layer, fix))
        if said is True and self.function in PROBABILITIES:
            required = f"from_logits=True needs outputs that are logits; layer {self._path} ends in {self.function}"
            fix = f"Leave out the {self.function}, or say from_logits=False"
            raise ValueError(_check.message(f"Sequential: {type(loss).__name__}", required, self._layer, fix))
        if said is True:
            self.function = "linear"
        if said is False and self.function not in PROBABILITIES:
            self.function = "sigmoid" if self._binary else "softmax"

    @property
    def from_logits(self):
        """True for logits, False for probabilities; where it cannot be known, an object that raises ValueError when it
        is used as True or False: only code that needs to know fails."""
        if self.function is None:
            return _unknown(self._path, self._layer)
        return self.function == "linear"

    @property
    def kind(self):
        """What ``probabilities`` makes of them: "classes", "binary" (one yes), "labels" (several) or "values".

        Numbers are "values" unless they are known to be probabilities, or a cross-entropy takes them for logits.
        Raises like ``from_logits`` with a cross-entropy.
        """
        known = self.function in PROBABILITIES or self._logarithms
        if not known and not (self._binary or getattr(self.loss, "fuses_softmax", False)):
            return "values"
        if not self._yes_or_no:
            return "classes"
        return "binary" if self.shape in ((), (1,)) else "labels"

    @property
    def _yes_or_no(self):
        """True if every output is a yes or no by itself; False if they are classes, of which one is right."""
        if not self.from_logits:
            return self.function == "sigmoid"
        return not self._logarithms and (self._binary or self.shape in ((), (1,)))

    def probabilities(self, outputs):
        """Outputs (..., *shape) as probabilities: new ones where they are logits, otherwise themselves; but those of
        classes that do not sum to 1, as after a max-pooling, are divided by their sum, as in the loss."""
        if not self.from_logits:
            if self.function != "softmax" or self._whole:
                return outputs
            total = outputs.sum(-1, keepdims=True, dtype=np.float64)
            needed = (np.abs(total - 1) > ROUNDING) & (total > 0)
            return outputs / np.where(needed, total, 1).astype(outputs.dtype) if needed.any() else outputs
        outputs = np.ascontiguousarray(outputs)
        found = np.empty_like(outputs)
        Function("sigmoid" if self._yes_or_no else "softmax").forward(outputs, found)
        return found

    def once_read(self):
        """The Outputs of what ``probabilities`` gave; of "values" the same."""
        read = copy.copy(self)
        read._fused = read._logarithms = False
        if self.kind != "values":
            read.function = "sigmoid" if self._yes_or_no else "softmax"
            read._whole = read.function == "softmax"
        return read

    def compute_loss(self, outputs, y, weights=None, into=None):
        """(value, gradient) of the loss; the gradient is the one at the outputs, or at the logits before the softmax
        where the model's last layer is one at which it can enter.

        Arguments as of a Loss.  A categorical cross-entropy of probabilities that no softmax has just made divides
        them by their sum (``losses.py``).
        """
        from_logits = bool(self.from_logits) if self.loss.needs_from_logits else False
        if self.loss.fuses_softmax and not from_logits and not self._whole:
            return self.loss.of_probabilities(outputs, y, weights)
        value, gradient = self.loss(outputs, y, weights, from_logits, into)
        if self._fused and not self.loss.fuses_softmax:
            at_outputs, rows = gradient, (len(gradient), -1, gradient.shape[-1])
            gradient = np.empty_like(at_outputs)  # the other one may be an array that a custom loss holds
            probabilities = _check.contiguous(outputs, gradient.dtype).reshape(rows)
            kernels.softmax_backward(probabilities, at_outputs.reshape(rows), gradient.reshape(rows))
        return value, gradient

    def metrics(self, given):
        """The metrics as they are to be computed of these outputs: of several, with the binary cross-entropy, each is
        a yes or no by itself."""
        several = self._binary and math.prod(self.shape) > 1
        return [metric.of_labels() if several else metric for metric in given]

    def require_known(self, given):
        """ValueError if the loss or one of the metrics ``given`` needs to know what cannot be known, or if a metric
        cannot be computed of outputs of this shape."""
        chosen = self.metrics(given)
        if self.loss.needs_from_logits or any(metric.needs_from_logits(self.shape) for metric in chosen):
            bool(self.from_logits)
        for metric in chosen:
            metric.require_shape(self.shape)


def from_the_end(layers, prefix=""):
    """(path, layer), last first, of layers one after the other; of a ``Chain`` the layers in it."""
    for number in range(len(layers) - 1, -1, -1):
        path, layer = f"{prefix}{number}", layers[number]
        if type(layer) is Chain:
            yield from from_the_end(layer.layers, f"{path}.layers.")
        else:
            yield path, layer


def _found(layers):
    """(function, path and layer that make the outputs, or None): "linear" stands for all that are not probabilities,
    None for what cannot be known, with the layer that is the reason."""
    changed = None
    for path, layer in from_the_end(layers):
        says = layer.output_function
        if says is None:
            return None, path, layer
        _check.choice(f"layer {path}, {type(layer).__name__}", "output_function", says, SAYINGS)
        if says == "changed" and changed is None:
            changed = path, layer
        if says in PROBABILITIES:
            return (says, path, layer) if changed is None else (None, *changed)
        if says not in ("same", "changed"):
            return "linear", path, layer
    return "linear", None, None


def _unknown(path, layer):
    """An object that says why it cannot be known, where it is used as True or False."""
    what = "does not say what it makes"
    if layer.output_function is not None:
        what = "changes what a softmax or sigmoid has made"
    required = "it must be known whether the outputs are logits or probabilities"
    got = _check.Shown(f"layer {path}, {type(layer).__name__}, which {what}")
    return Unknown(_check.message("Sequential", required, got, WAYS_OUT))
