"""What ``fit``, ``train_on_batch`` and ``evaluate`` are given: samples, targets, weights, checked before anything else.

For ``fit`` they are also divided into those to train on and those to validate on, and cut into batches.
"""

import math
import warnings

import numpy as np

from minicnn import _check, datasets, metrics, stream, targets

SMALL = 1 << 26  # bytes of targets in a memory map that are taken into memory


def unpacked(where, x, *y):
    """x and y as they are, or those of ``datasets.Pictures`` that stand in the place of both."""
    if not isinstance(x, datasets.Pictures):
        return (x, *y) if y else x
    if any(one is not None for one in y):
        required = "y must be left out, for the pictures have their labels"
        raise TypeError(_check.message(where, required, _check.Shown(type(*y).__name__)))
    return x.x, x.y


def samples(model, method, x, y, sample_weight, class_weight=None):
    """x, y, the weights of the samples and of their classes, as arrays of one length, at least 1.

    Weights are None where there are none.  Those of classes stand apart: only training knows them.

    Of a memory map nothing is read but small targets: large ones are looked at batch by batch (``batch``).
    """
    where = f"Sequential.{method}"
    if np.ma.is_masked(y):
        raise TypeError(_check.message(where, "y must have no masked entries", _check.Shown("a masked array")))
    x, y = _check.numeric_array(where, "x", x), np.asarray(y)
    if y.ndim < 1:
        raise ValueError(_check.message(where, "y must have a batch axis", _check.shape_of(y)))
    if x.ndim and len(x) != len(y):
        lengths = _check.Shown(f"{len(x)} and {len(y)}")
        raise ValueError(_check.message(where, "x and y must have the same number of samples", lengths))
    if not len(y):
        raise ValueError(_check.message(where, "x must have at least one sample", _check.shape_of(x)))
    x = model.checked_inputs(method, x)
    chosen = metrics.get_all(where, "metrics", model.metrics)
    model.reading.require_known(chosen)
    if stream.on_disk(y) and y.nbytes <= SMALL:
        y = np.array(y)
    if not stream.on_disk(y):
        for asks in (model.loss_function, *model.reading.metrics(chosen)):
            asks.check_targets(where, y, (len(y), *model.output_shape))
    weights = of_classes = None
    if sample_weight is not None:
        weights = targets.sample_weights(where, sample_weight, len(x))
    if class_weight is not None and not stream.on_disk(y):
        of_classes = targets.class_weights(where, y, class_weight, _classes(model), 6 if method == "fit" else 5)
    return x, y, weights, of_classes


def batch(model, method, given, class_weight=None, training=False):
    """x, y and the weights of a ``stream.Batch``, checked.

    ``method``: with what says which batch it is, "fit: batch 3 of epoch 0"; ``training``: whether it is trained on.
    """
    x, y, weights, _ = samples(model, method, given.x, given.y, given.weights)
    if class_weight is not None:
        of_classes = targets.class_weights(f"Sequential.{method}", y, class_weight, _classes(model), None)
        weights = product(weights, of_classes)
    if training:
        _require_size(model, f"Sequential.{method}", len(x), f"{len(x)}")
    return x, y, weights


def _classes(model):
    """The number of classes that the outputs tell apart; None where it is not known."""
    if len(model.output_shape) == 1 and model.output_shape[0] > 1:
        return model.output_shape[0]
    return 2 if model.output_shape in ((), (1,)) and model.loss_function.yes_or_no else None


def product(weights, of_classes):
    """Weights of samples times those of their classes, of which the first count; each may be None."""
    if weights is None or of_classes is None:
        return of_classes if weights is None else weights
    return weights * of_classes


def of_fit(model, x, y, sample_weight=None, class_weight=None, validation_split=0.0, validation_data=None):
    """``fit``'s arguments as ((x, y, sample weights) to train on, their class weights, what to validate on).

    Weights are None where there are none; for the last part see ``validation``.
    """
    x, y, weights, of_classes = samples(model, "fit", x, y, sample_weight, class_weight)
    trained_on, validation = _split(model, x, y, weights, validation_split, validation_data)
    return trained_on, None if of_classes is None else of_classes[: len(trained_on[0])], validation


def slices(model, n, batch_size=32, drop_last=None):
    """``datasets.slices`` for ``fit``; ValueError if a batch is too small for a layer of the model, which is built."""
    parts = datasets.slices(n, batch_size, drop_last, "Sequential.fit")
    least = min(part.stop - part.start for part in parts)
    got = f"{least} in one, by batch_size={batch_size}, drop_last={drop_last} and {n} samples"
    _require_size(model, "Sequential.fit", least, got, "Choose a larger batch_size, or leave drop_last as it is")
    return parts


def _require_size(model, where, least, got, fix=""):
    """ValueError if a layer cannot be trained with ``least`` samples."""
    tree = model.engine.parameters.tree
    asking = [path for path, layer in tree.items() if least < layer.smallest_batch()]
    if asking:
        path = max(asking, key=lambda path: path.count("."))  # an inner one, not those that hold it
        name = f"layer {path}, {type(tree[path]).__name__}"
        required = f"in training {name}, needs at least {tree[path].smallest_batch()} samples in every batch"
        raise ValueError(_check.message(where, required, _check.Shown(got), fix))


def require_weight(model, method, what, weights=None):
    """ValueError where the metrics could only be 0/0."""
    if weights is not None and model.metrics and not math.fsum(weights):
        required = f"the weights of {what} must not sum to 0, since then no metric can be computed"
        fix = "Leave the metrics out, or the samples"
        raise ValueError(_check.message(f"Sequential.{method}", required, 0.0, fix))


def _split(model, x, y, weights, fraction, data):
    """((x, y, weights) to train on, and what ``validation`` gives)."""
    where = "Sequential.fit"
    fraction = _check.number(where, "validation_split", fraction, 0, 1, open_high=True)
    if data is not None:
        return (x, y, weights), validation(model, data)
    if fraction == 0:
        return (x, y, weights), None
    boundary = int(len(x) * (1 - fraction) + 1e-9)  # 10 * (1 - 0.9) is a little less than 1
    if not 0 < boundary < len(x):
        required = f"validation_split must leave samples on both sides of {len(x)}"
        raise ValueError(_check.message(where, required, fraction))
    _warn_of_classes_left_out(model, y, boundary)
    parts = slice(0, boundary), slice(boundary, None)
    return tuple((x[part], y[part], None if weights is None else weights[part]) for part in parts)


def validation(model, data):
    """The argument ``validation_data`` as (x, y, weights), or as (data,) where they give batches; None for None."""
    if data is None or stream.gives_batches(data):
        return None if data is None else (data,)
    if not isinstance(data, list | tuple) or len(data) not in (2, 3):
        required = "validation_data must be (x, y) or (x, y, sample_weight), or give such batches"
        raise TypeError(_check.message("Sequential.fit", required, _check.Shown(type(data).__name__)))
    return samples(model, "fit", *data[:2], *data[2:] or [None])[:3]


def _warn_of_classes_left_out(model, y, boundary):
    """Where samples are sorted by class, those at the end belong to classes that training would never see."""
    classes, loss = _classes(model), model.loss_function
    if classes is None or stream.on_disk(y) or not (loss.fuses_softmax or (loss.yes_or_no and y.size == len(y))):
        return
    if loss.yes_or_no and not np.isin(y, (0, 1)).all():  # probabilities, or what the loss is going to refuse
        return
    numbers = targets.class_numbers("Sequential.fit", y)
    trained, validated = (np.bincount(part, minlength=classes) > 0 for part in (numbers[:boundary], numbers[boundary:]))
    missing = np.flatnonzero(validated & ~trained).tolist()
    if missing:
        named = missing if model.class_names is None else [repr(model.class_names[number]) for number in missing]
        listed = ", ".join(map(str, named[:10])) + (", ..." if len(missing) > 10 else "")
        warnings.warn(
            "Sequential.fit: validation_split takes the samples at the end, and with them all of "
            f"{'class' if len(missing) == 1 else 'classes'} {listed}: none is left to train on. Shuffle x and y "
            "before, or give validation_data",
            stacklevel=6,
        )
