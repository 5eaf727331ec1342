"""A chain: layers one after the other, run forward and backward.

All that computes along a chain does it here: a model by hand, the stretches of a plan, the branches of a composite.
Knows no concrete layer.
"""

from minicnn.layer import in_python
from minicnn.tree import walk


def forward(layers, x, call):
    """The last layer's output for x; ``call(layer, x)`` is what one layer makes of it."""
    for layer in layers:
        x = call(layer, x)
    return x


def backward(layers, dy, at_logits=False, wanted=True):
    """Fills the gradients of all parameters from dL/dy; returns dL/dx, or None unless it is ``wanted``.

    ``at_logits``: dy is the gradient before the activation of the last layer.  Unless dL/dx is wanted, it ends at the
    first layer that has parameters.

    The gradient of an activation before a max-pooling is taken after it, where there is less to do: each gradient goes
    to one pixel, whose value the output of the pooling has as well.  So the output that the layer before kept is not
    needed, and the memory of a plan need not hold the whole batch of it.
    """
    first = 0 if wanted else first_to_train(layers)
    for number in range(len(layers) - 1, first - 1, -1):
        layer, slope = layers[number], None
        if number > first and can_wait(layers[number - 1], layer):
            slope = layers[number - 1].activation_gradient
        dy = layer.gradient(dy, at_logits, wanted or number > first, slope)
        at_logits = slope is not None
    return dy if wanted else None


def first_to_train(layers):
    """The number of the first layer that has parameters, itself or in its parts; how many layers there are if none."""
    return next((number for number, layer in enumerate(layers) if has_parameters(layer)), len(layers))


def has_parameters(layer):
    return any(part.params for _, part in walk([layer]))


def can_wait(before, after):
    """True if the gradient of the activation of ``before``, found from its output, may be taken after ``after``."""
    if before.activation_gradient is None or after.backward_behind is None:
        return False
    return not in_python(before) and not in_python(after)


def enters_at_softmax(layers):
    """True if the last layer is a softmax before which a gradient can enter (not one with its own ``backward``)."""
    if not layers or layers[-1].output_function != "softmax" or "backward" in vars(layers[-1]):
        return False
    return layers[-1].backward_logits is not None


def output_function(layers):
    """What a chain makes of its input, in the words of ``Layer.output_function``."""
    changed = False
    for layer in reversed(layers):
        says = layer.output_function
        if says == "changed":
            changed = True
        elif says in ("softmax", "sigmoid"):
            return None if changed else says  # what probabilities have become is not known
        elif says != "same":
            return says
    return "changed" if changed else "same"
