"""What the numbers of a run say, in words.

Every sentence follows from a rule and names the numbers that it goes by.  Where they could be chance, it says that.
"""

import itertools
import math
import statistics

ENOUGH = 5  # epochs, for a word on their course


def of_gap(history, samples, measured=None, restored=False):
    """Sentences on the gap between training and validation.

    - ``history``: {name: numbers, None where they are not finite}.  ``samples``: {part: number}, as far as it is known.
    - ``measured``: (part, accuracy) of the model on the part by which it is judged, or None.
    - ``restored``: the weights are those of the epoch with the smallest validation loss, and not of the last.
    """
    history = {name: [math.nan if v is None else v for v in values] for name, values in history.items()}
    if not history.get("loss"):
        return ["No epoch has been trained, so there is no gap to speak of."]
    losses = history.get("val_loss", [])
    at = -1
    if restored and any(map(math.isfinite, losses)):
        at = losses.index(min(filter(math.isfinite, losses))) - len(losses)
    found = _broken(history["loss"]) + _dropout_in_the_loss(history, at) + _level(history, at, samples, measured)
    return found + _course(losses, history.get("clean_loss", history["loss"]), restored)


def _at(history, name, at):
    values = history.get(name, [])
    return values[at] if len(values) >= -at else math.nan


def _broken(losses):
    lost = [number for number, value in enumerate(losses, 1) if not math.isfinite(value)]
    if not lost:
        return []
    which = f"in {len(lost)} of {len(losses)} epochs, first in epoch {lost[0]}"
    return [f"The loss was not finite {which}: the learning rate may be too large."]


def _dropout_in_the_loss(history, at):
    dropped, clean = _at(history, "loss", at), _at(history, "clean_loss", at)
    if not (math.isfinite(dropped) and math.isfinite(clean)):
        return []
    said = f"The loss while training was {dropped:.4g}, a mean over the epoch with units dropped; on the same samples "
    said += f"after the epoch, with nothing dropped, it was {clean:.4g}."
    if dropped > clean:
        said += f" The {dropped - clean:.2g} between them is what dropout and the weights of earlier steps add."
    return [f"{said} Compare validation with the second number."]


# ---- how large it is ----


def _level(history, at, samples, measured):
    fair = "clean_accuracy" in history
    training = _at(history, "clean_accuracy" if fair else "accuracy", at)
    part, other = "validation", _at(history, "val_accuracy", at)
    if not math.isfinite(other) and measured is not None:
        part, other = measured
    if not (math.isfinite(other) and math.isfinite(training)):
        missing = "The accuracy in training is not known" if math.isfinite(other) else (
            "There is no validation part, and no test part that could be read"
        )  # fmt: skip
        return [f"{missing}: nothing can be said of the gap. --validation 0.2 keeps samples back for that."]
    gap = training - other
    said = f"Of the samples trained on {percent(training)} are right, of the {part} part {percent(other)}: "
    said += f"a gap of {_points(gap)}."
    if not fair:
        said += " The first is a mean over the epoch, while the weights changed, with dropout where there is any: "
        said += "the gap may be larger than it looks."
    counts = samples.get("training"), samples.get(part)
    if not all(counts):
        return [f"{said} Undecided: how many samples there were is not known, and so not what is chance."]
    error = 2 * math.hypot(*map(standard_error, (training, other), counts))
    chance = f"two standard errors, {_points(error)} with {counts[0]:,} and {counts[1]:,} samples"
    if abs(gap) <= error:
        return [f"{said} Undecided: that is within {chance}, and may be chance."]
    if gap < 0:
        why = "the parts may differ in difficulty"
        why = why if fair else f"that may be how the first number comes about, or {why}"
        return [f"{said} It is below 0 by more than {chance}: {why}."]
    return [f"{said} That is more than {chance}: overfitting.", _shares(1 - training, 1 - other, part)]


def standard_error(share, count):
    """sqrt(p (1 - p) / n) of a share of n samples, with p = (k + 1) / (n + 2), so that 0 and 1 are not certain."""
    p = (share * count + 1) / (count + 2)
    return math.sqrt(p * (1 - p) / count)


def _shares(trained, mistakes, part):
    said = f"Of {_points(mistakes)} of mistakes in the {part} part {_points(mistakes - trained)} are gap"
    if trained < mistakes / 2:
        return f"{said}, the larger part: more data, augmentation or more dropout are what can help."
    said += f", and {_points(trained)} are made on the samples trained on as well"
    return f"{said}, the larger part: a larger network, more epochs or less dropout are what can help."


# ---- how it came about ----


def _course(losses, trained, restored):
    if not losses:
        return []
    if len(losses) < ENOUGH or not all(map(math.isfinite, losses)):
        return [f"A word on the course of the validation loss needs {ENOUGH} epochs, and all of its numbers finite."]
    best = losses.index(min(losses))
    usual = 2 * statistics.median(abs(b - a) for a, b in itertools.pairwise(losses[len(losses) // 2 - 1 :]))
    noise = f"{usual:.2g}, twice the usual change from epoch to epoch"
    last, back = max(3, len(losses) // 10), max(2, len(losses) // 4)
    end = min(losses[-last:])  # one bad epoch is no rise
    said = f"The validation loss was smallest in epoch {best + 1} of {len(losses)}, {losses[best]:.4g}"
    if end - losses[best] > usual:
        said += f", and at least {end:.4g} in the last {last}: a rise of more than {noise}"
        if len(trained) != len(losses) or not math.isfinite(trained[best] - sum(trained[-last:])):
            return [f"{said}. Undecided: what the loss in training did meanwhile is not known."]
        now = statistics.median(trained[-last:])
        both = f"went from {trained[best]:.4g} to {now:.4g}, the median of the last {last}"
        if now >= trained[best]:
            return [f"{said}. But the loss in training {both}: no overfitting; the learning rate may be too large."]
        said += f", while the loss in training {both}: overfitting in time"
        return [f"{said}. {'The weights of the best epoch were put back' if restored else STOPPING}."]
    fell = losses[-1 - back] - losses[best]
    if fell > usual and best >= 0.9 * len(losses) - 1:
        return [f"{said}. It fell by {fell:.2g} in the last {back} epochs, more than {noise}: more epochs may help."]
    return [f"{said}. Undecided: neither a rise nor a fall at the end by more than {noise}."]


STOPPING = "--early-stopping keeps the weights of the best epoch"


# ---- how sure it is ----


def of_calibration(curve):
    """Sentences on a ``calibration.ReliabilityCurve``.

    A calibrated network has a gap as well, by chance: in a bin of n_b samples that are right with probability c_b the
    mean of |a_b - c_b| is sqrt(2 c_b (1 - c_b) / (pi n_b)), of a normal distribution.
    """
    filled = curve.count > 0
    n, c = curve.count[filled], curve.confidence[filled]
    chance = float((n / n.sum() * (2 * (c * (1 - c)).clip(0) / (math.pi * n)) ** 0.5).sum())
    said = f"The expected calibration error, the mean gap between confidence and accuracy, is {percent(curve.ece)}. "
    said += f"A perfectly calibrated network would have about {percent(chance)} with {n.sum():,} samples"
    if curve.ece <= 2 * chance:
        return [f"{said}. Undecided: that is not twice as much, and may be chance."]
    side = "surer than it is right" if curve.overconfidence > 0 else "right more often than it says"
    said += f", so that is hardly chance: on the whole the network is {side}, by {percent(abs(curve.overconfidence))}."
    return [f"{said} mc.calibration.fit_temperature can mend it."]


def percent(share):
    return f"{100 * share:.1f} %"


def _points(share):
    return f"{100 * share:.1f} points"
