"""What exporters write as several nodes and layers say as one: activations, and layer normalisation spelled out.

A value has a *form*: what its numbers are as a function of another value's, where that is a sum of products of single
numbers, that value and functions of it.  0.5 x (1 + erf(x / sqrt 2)) is 0.5 x + 0.5 x e with e = erf(0.7071 x), in
whatever order it was written; so it is compared with the layers' functions, factor by factor.
"""

import math

import numpy as np

from minicnn import layers
from minicnn.interop.onnx_layers import scalar, scaled
from minicnn.interop.onnx_values import Held

CLOSE = 1e-6  # relative: constants of files are float32
ERF = math.sqrt(0.5)
COMPARISONS = ("Greater", "LessOrEqual", "Less", "GreaterOrEqual")
MOST_TERMS = 16
MOST_ROOTS = 16  # of one value: no form that is known begins more nodes before its end


def near(a, b):
    return abs(a - b) <= CLOSE * max(abs(a), abs(b))


def _multiplied(left, right):
    """The terms of the product of two sums of terms."""
    terms = {}
    for one, factor in left.items():
        for two, times in right.items():
            key = tuple(sorted(one + two))
            terms[key] = terms.get(key, 0.0) + factor * times
    return {key: factor for key, factor in terms.items() if factor}


class Forms:
    """What the reader knows of forms.  A product is a tuple of names; "" is the value itself, others are functions of
    it by the name of the value in the graph, ``atoms`` {name: (kind, s, t, numbers)} of s x + t."""

    def __init__(self):
        self.atoms = {}

    def forms(self, x):
        """The value as functions of other ones, where they are known, and of itself."""
        return (*x.forms[1 - MOST_ROOTS :], (x, {("",): 1.0}))

    def atom(self, node, x, kind, *numbers):
        """The forms of a function of x."""
        found = []
        for root, terms in self.forms(x):
            if not terms.keys() - {("",), ()}:
                name = f"{node.outputs[0]} {len(found)}"
                self.atoms[name] = kind, terms.get(("",), 0.0), terms.get((), 0.0), numbers
                found.append((root, {(name,): 1.0}))
        return tuple(found)

    def of(self, x, root):
        """The terms of x as a function of ``root``; {} where it is none that is known."""
        return next((terms for other, terms in self.forms(x) if other is root), {})

    def single(self, terms, kind):
        """(factor, s, t, numbers) of terms that are a factor times one function of that kind, else None."""
        ((key, factor),) = terms.items() if len(terms) == 1 else [((), 0)]
        found, *rest = self.atoms.get(key[0], ("",)) if len(key) == 1 else ("",)
        return (factor, *rest) if found == kind else None

    def product(self, node, a, b):
        """What a Mul of two functions of one value is as layers; None where it is not known."""
        forms, found = [], None
        for root, left in self.forms(a):
            for other, right in self.forms(b):
                if root is other and len(left) * len(right) <= MOST_TERMS:
                    forms.append((root, _multiplied(left, right)))
                    found = found or self._activation(*forms[-1])
        broken = a.broken or b.broken
        if found is None and broken and forms:  # a part of what will be known
            found = forms[-1][0].branch()
            found.broken = broken
        if found is not None:
            found.forms = tuple(forms)
        return found

    def _activation(self, root, terms):
        names = {name for key in terms for name in key if name}
        if len(names) != 1:
            return None
        (name,) = names
        kind, s, t, numbers = self.atoms[name]
        k, rest = terms.get(("", name), 0.0), {key: one for key, one in terms.items() if key != ("", name)}
        h = root.branch()
        if kind == "Erf" and rest.keys() == {("",)} and near(rest["",], k) and near(s, ERF) and not t:
            return scaled(h.then(layers.GELU), 2 * k)
        if rest or not k:
            return None
        if kind == "Sigmoid" and s and not t:  # k x sigmoid(s x) = k / s swish(s x)
            return scaled(scaled(h, s).then(layers.Swish), k / s)
        if kind == "clip":  # k x clip(a x + b, 0, top) with a = top / 6, b = top / 2
            slope, offset, top = numbers
            if near(slope * s, top / 6) and near(slope * t + offset, top / 2):
                return scaled(h.then(layers.HardSwish), k * top)
        return None

    def quotient(self, a, b):
        """k x / (c + c |x|), which is softsign; None for other quotients."""
        for root, above in self.forms(a):
            below = dict(self.of(b, root))
            c, k = below.pop((), 0.0), above.get(("",), 0.0)
            one = self.single(below, "Abs")
            if (
                one
                and c
                and above.keys() <= {("",), ()}
                and not above.get(())
                and not one[2]
                and near(one[0] * abs(one[1]), c)
            ):
                return scaled(root.branch().then(layers.Activation, activation="softsign"), k / c)
        return None

    def chosen(self, condition, a, b):
        """Where(x > t, a, b) as a layer: a bounded, leaky ReLU with a threshold, or PyTorch's softplus; else None."""
        compared, (x, *_) = condition.origin if isinstance(condition, Held) and condition.origin else (None, (None,))
        if compared is None or not isinstance(x, Held) or compared.op not in COMPARISONS:
            return None
        if compared.op[:4] == "Less":
            a, b = b, a
        if compared.op in ("Less", "GreaterOrEqual") and scalar(compared, condition.origin[1], 1) != 0:
            return None  # what is t itself goes the other way, and only at 0 that is the same
        if not isinstance(a, Held):
            return None
        t, top, slope = scalar(compared, condition.origin[1], 1), None, 0.0
        if isinstance(b, Held) and a is x and b.origin and b.origin[0].op == "Softplus" and b.origin[1][0] is x:
            return b.branch() if t >= 17 else None  # there log(1 + exp(x)) is x
        if a is not x:
            one = self.single(self.of(a, x), "Min") if isinstance(a, Held) else None
            if one is None or one[:3] != (1, 1, 0):
                return None
            top = one[3][0]
        if isinstance(b, Held):
            terms = self.of(b, x)
            slope = terms.get(("",), 0.0)
            if not terms or terms.keys() - {("",), ()} or not near(terms.get((), 0.0), -slope * t):
                return None
        elif b.size != 1 or b.reshape(-1)[0] != 0:
            return None
        if t < 0 or slope < 0 or (top is not None and top <= 0):
            return None
        return x.branch().then(layers.ReLU, max_value=top, negative_slope=slope, threshold=t)

    # ---- normalisation of samples, node by node ----

    def normalized(self, node):
        """Div((x - mean), sqrt(mean of its square + epsilon)) as a LayerNormalization of x; None for other nodes."""
        if node.op != "Div" or len(node.inputs) != 2:
            return None
        apart = self.maker(node.inputs[0], "Sub")
        root = self.maker(node.inputs[1], "Sqrt")
        total = root and self.maker(root.inputs[0], "Add")
        if not (apart and total):
            return None
        square = self.maker(total.inputs[0], "ReduceMean")
        epsilon = self.values.get(total.inputs[1])
        mean = self.maker(apart.inputs[1], "ReduceMean")
        x = self.values.get(apart.inputs[0])
        power = square and (self.maker(square.inputs[0], "Pow") or self.maker(square.inputs[0], "Mul"))
        if not (mean and power and isinstance(x, Held) and isinstance(epsilon, np.ndarray) and epsilon.size == 1):
            return None
        second = self.values.get(power.inputs[1])
        two = isinstance(second, np.ndarray) and second.size == 1 and second.reshape(-1)[0] == 2
        same = self.named(node.inputs[0])
        if self.named(power.inputs[0]) != same or not (
            two if power.op == "Pow" else self.named(power.inputs[1]) == same
        ):
            return None
        axes = [self.axes_of_mean(one, len(x.shape)) for one in (mean, square)]
        if (
            self.named(mean.inputs[0]) != self.named(apart.inputs[0])
            or axes[0] != axes[1]
            or not axes[0]
            or 0 in axes[0]
        ):
            return None
        h = x.branch()
        order = h.order
        h = h if h.flat is None else h.settled()
        h = h.permuted(
            [*(axis for axis in h.order if axis not in axes[0]), *(axis for axis in h.order if axis in axes[0])]
        )
        shape = h.sample[-len(axes[0]) :]
        if math.prod(shape) > 2**21:
            return None
        arrays = {"gamma": np.ones(shape), "beta": np.zeros(shape)}
        last = -1 if len(shape) == 1 else [*range(len(order) - len(shape), len(order))]
        h = h.then(layers.LayerNormalization, arrays=arrays, axis=last, epsilon=float(epsilon.reshape(-1)[0]))
        return h.back(order)
