"""What the numbers of a run say, in words.

Every sentence follows from a rule and names the numbers that it goes by.  Where they could be chance, it says that.
"""

import itertools
import math
import statistics

ENOUGH = 5  # epochs, for a word on their course
DONE = {"dropout": ("units", "dropped"), "augmentation": ("images", "changed")}  # what these do while training


def of_gap(history, samples, measured=None, restored=False, causes=("dropout",)):
    """Sentences on the gap between training and validation.

    - ``history``: {name: numbers, None where they are not finite}.  ``samples``: {part: number}, as far as it is known.
    - ``measured``: (part, accuracy) of the model on the part by which it is judged, or None; with the share of its most
      frequent class as a third number, where it is known.
    - ``restored``: the weights are those of the epoch with the smallest validation loss, and not of the last.
    - ``causes``: what makes the loss while training another than afterwards, "dropout" and "augmentation" among it.
    """
    history = {name: [math.nan if v is None else v for v in values] for name, values in history.items()}
    if not history.get("loss"):
        return ["No epoch has been trained, so there is no gap to speak of."]
    losses = history.get("val_loss", [])
    at = -1
    if restored and any(map(math.isfinite, losses)):
        at = losses.index(min(filter(math.isfinite, losses))) - len(losses)
    found = _broken(history["loss"]) + _dropout_in_the_loss(history, at, causes)
    found += _learned(samples, measured) + _level(history, at, samples, measured, causes)
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


def _dropout_in_the_loss(history, at, causes):
    dropped, clean = _at(history, "loss", at), _at(history, "clean_loss", at)
    if not (math.isfinite(dropped) and math.isfinite(clean)):
        return []
    done = [DONE[cause] for cause in causes if cause in DONE]
    how = f" with {' and '.join(map(' '.join, done))}" if done else ""
    without = f", with nothing {' or '.join(what for _, what in done)}," if done else ""
    said = f"The loss while training was {dropped:.4g}, a mean over the epoch{how}; on the same samples "
    said += f"after the epoch{without} it was {clean:.4g}."
    if dropped > clean:
        what = f"{', '.join(causes)} and the weights of earlier steps".removeprefix(" and ")
        said += f" The {dropped - clean:.2g} between them is what {what} add."
    return [f"{said} Compare validation with the second number."]


# ---- how large it is ----


def _learned(samples, measured):
    """A word on a network that may have learned nothing but which class is the most frequent one."""
    if measured is None or len(measured) < 3 or not samples.get(measured[0]):
        return []
    part, accuracy, usual = measured
    chance = 2 * standard_error(accuracy, samples[part])
    if accuracy - usual > chance:
        return []
    said = f"Of the {part} part {percent(accuracy)} are right; saying its most frequent class always would be right "
    said += f"for {percent(usual)}. Undecided whether it has learned more: that takes two standard errors, "
    return [f"{said}{_points(chance)}, above it."]


def _level(history, at, samples, measured, causes):
    fair = "clean_accuracy" in history
    training = _at(history, "clean_accuracy" if fair else "accuracy", at)
    part, other = "validation", _at(history, "val_accuracy", at)
    if not math.isfinite(other) and measured is not None:
        part, other, *_ = measured
    if not (math.isfinite(other) and math.isfinite(training)):
        missing = "The accuracy in training is not known" if math.isfinite(other) else (
            "There is no validation part, and no test part that could be read"
        )  # fmt: skip
        return [f"{missing}: nothing can be said of the gap. --validation 0.2 keeps samples back for that."]
    gap = training - other
    said = f"Of the samples trained on {percent(training)} are right, of the {part} part {percent(other)}: "
    said += f"a gap of {_points(gap)}."
    if not fair:
        how = " and with dropout" if "dropout" in causes else ""
        said += f" The first is a mean over the epoch, while the weights changed{how}: "
        said += "the gap may be larger than it looks."
    counts = samples.get("training"), samples.get(part)
    if not all(counts):
        return [f"{said} Undecided: how many samples there were is not known, and so not what is chance."]
    errors = [standard_error(*pair) for pair in zip((training, other), counts, strict=True)]
    error = 2 * math.hypot(*errors)
    chance = f"two standard errors, {_points(error)} with {counts[0]:,} and {counts[1]:,} samples"
    larger, said_of_it = _shares(1 - training, 1 - other, errors, part, fair, causes)
    more = [said_of_it] if larger == "trained" else []
    if abs(gap) <= error:
        return [f"{said} Undecided: that is within {chance}, and may be chance.", *more]
    if gap < 0:
        why = "the parts may differ in difficulty"
        why = why if fair else f"that may be how the first number comes about, or {why}"
        return [f"{said} It is below 0 by more than {chance}: {why}.", *more]
    return [f"{said} That is more than {chance}: overfitting.", said_of_it]


def standard_error(share, count):
    """sqrt(p (1 - p) / n) of a share of n samples, with p = (k + 1) / (n + 2), so that 0 and 1 are not certain."""
    p = (share * count + 1) / (count + 2)
    return math.sqrt(p * (1 - p) / count)


def _shares(trained, mistakes, errors, part, fair, causes):
    """("gap", "trained" or "undecided", a sentence): which part of the mistakes is the larger one, by two standard
    errors, and what can help then."""
    gap, chance = max(0.0, mistakes - trained), 2 * math.hypot(2 * errors[0], errors[1])
    said = f"Of {_points(mistakes)} of mistakes in the {part} part {_points(gap)} are gap"
    if gap - trained > chance:
        help_ = "more augmentation" if "augmentation" in causes else "augmentation"
        help_ += " or more dropout" if "dropout" in causes else " or dropout"
        return "gap", f"{said}, the larger part: more data, {help_} are what can help."
    said += f", and {_points(min(trained, mistakes))} are made on the samples trained on as well"
    if trained - gap <= chance or not fair:  # while the weights changed there were more of them than at the end
        return "undecided", f"{said}: undecided which is the larger part."
    said += ", the larger part: more underfitting than overfitting, unless labels are wrong or classes look alike"
    help_ = ", more epochs or less dropout" if "dropout" in causes else " or more epochs"
    return "trained", f"{said}. A larger network{help_} are what can help."


# ---- how it came about ----


def _course(losses, trained, restored):
    if not losses:
        return []
    if len(losses) < ENOUGH or not all(map(math.isfinite, losses)):
        return [f"A word on the course of the validation loss needs {ENOUGH} epochs, and all of its numbers finite."]
    best = losses.index(min(losses))
    usual = 2 * statistics.median(abs(b - a) for a, b in itertools.pairwise(losses[len(losses) // 2 - 1 :]))
    noise = f"more than {usual:.2g}, twice the usual change from epoch to epoch"
    steady = f"from epoch to epoch in all of the last {ENOUGH}, by chance once in {math.factorial(ENOUGH)} times"
    changes = [b - a for a, b in itertools.pairwise(losses[-ENOUGH:])]
    last, back = max(3, len(losses) // 10), max(2, len(losses) // 4)
    end = min(losses[-last:])  # one bad epoch is no rise
    said = f"The validation loss was smallest in epoch {best + 1} of {len(losses)}, {losses[best]:.4g}"
    if end - losses[best] > usual or min(changes) > 0:
        by = f"of {noise}" if end - losses[best] > usual else steady
        said += f", and at least {end:.4g} in the last {last}: a rise {by}"
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
        return [f"{said}. It fell by {fell:.2g} in the last {back} epochs, {noise}: more epochs may help."]
    if max(changes) < 0:
        return [f"{said}. It fell {steady}: more epochs may help."]
    return [f"{said}. Undecided: neither a rise nor a fall at the end by {noise}."]


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
    return [f"{said} mc.calibration.fit_temperature may mend it."]


def percent(share):
    return f"{100 * share:.1f} %"


def _points(share):
    return f"{100 * share:.1f} points"
