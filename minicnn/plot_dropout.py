"""Pictures of dropout itself: masks, scaling, thinned networks.  ``plot`` has them all and says what they share."""

import itertools

import numpy as np

from minicnn import _check, layers, plot_axes, thinning
from minicnn.plot_axes import BEST, SIMPLE, TRAIN, VALIDATION

COLOURS = TRAIN, VALIDATION, BEST, SIMPLE
DROPPED, KEPT, PAPER = (0.902, 0.624, 0.0), (0.2, 0.2, 0.2), 0.93  # orange; dark grey; the grey of a kept 0


# ---- masks ----


def mask(mask, image=None, ax=None):
    """A mask: what is kept in grey, what is dropped in orange; with an image, the image where it is kept.

    ``mask``: bool, True = kept, (H, W), (H, W, 1) or (D,); or a layer, of which ``last_mask`` is taken; of a batch the
    first sample.  ``image``: grey values >= 0 of the same shape, dark = large.
    """
    where = "plot.mask"
    keep = _one_channel(where, "mask", _keep(where, mask))
    if image is not None:
        image = _one_channel(where, "image", _first(image))
        if image.shape != keep.shape:
            raise ValueError(_check.message(where, f"image must have the mask's shape {keep.shape}", image.shape))
    (panel,) = plot_axes.panels(where, ax, (1, 1), (4.2, 4.6))
    panel.imshow(_painted(image, keep))
    panel.set(xticks=[], yticks=[], title=f"{(~keep).sum()} of {keep.size} dropped ({100 * (~keep).mean():.0f} %)")
    _legend_of_masks(panel, [mask], new_figure=ax is None)
    return panel.figure


def feature_maps(maps, masks, ax=None):
    """The channels of one image side by side: all kept in the first row, then a row for each mask.

    ``maps``: (H, W, C) >= 0, dark = large; ``masks``: {name: mask (H, W, C), or a layer}; of batches the first sample.
    ``ax``: an Axes for each row.
    """
    where = "plot.feature_maps"
    if not isinstance(masks, dict) or not masks:
        raise TypeError(_check.message(where, "masks must be a dict {name: mask or layer}", _check.kind(masks)))
    maps, rows = _first(maps), {name: _keep(where, one) for name, one in masks.items()}
    if maps.ndim != 3 or any(keep.shape != maps.shape for keep in rows.values()):
        shapes = _check.Shown(", ".join(str(array.shape) for array in (maps, *rows.values())))
        raise ValueError(_check.message(where, "maps and every mask must have one shape (H, W, C)", shapes))
    height, width, channels = maps.shape
    wide = channels * (width + 1) - 1  # a gap of one pixel between them
    count, inches = 1 + len(rows), min(max(2 + 0.7 * channels, 8), 13)  # 8: room for the titles
    row = min(inches * height / wide, 1.5) + 0.55
    panels = plot_axes.panels(where, ax, (count, 1), (inches, count * row + 0.6))
    titles = [f"{channels} feature maps, nothing dropped (light: 0, dark: the largest of each)"]
    titles += [f"{plot_axes.named(name)}: {_share_dropped(keep)}" for name, keep in rows.items()]
    for panel, keep, title in zip(panels, (np.ones(maps.shape, bool), *rows.values()), titles, strict=True):
        strip = np.full((height, wide, 3), plot_axes.ink(panel, 0))
        for channel in range(channels):
            start = channel * (width + 1)
            strip[:, start : start + width] = _painted(maps[..., channel], keep[..., channel])
        panel.imshow(strip)
        panel.set_anchor("W")  # titles begin there
        panel.set_title(title, loc="left")
        panel.set_xticks(np.arange(channels) * (width + 1) + (width - 1) / 2, range(channels))
        panel.set(yticks=[], xlabel="channel" if panel is panels[-1] else "")
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    _legend_of_masks(panels[-1], masks.values(), new_figure=ax is None, loc="lower right", bbox_to_anchor=(1, 1))
    return panels[0].figure


def _keep(where, mask):
    """A mask or a layer's latest one, bool, of one sample."""
    keep = np.asarray(getattr(mask, "last_mask", mask))
    if keep.dtype != bool:
        required = "a mask must be an array of bool or a layer that has drawn one"
        raise TypeError(_check.message(where, required, _check.Shown(f"{type(mask).__name__} of {keep.dtype}")))
    return keep[0] if hasattr(mask, "last_mask") else _first(keep)


def _first(array):
    """One image of a batch (N, H, W, C)."""
    array = np.asarray(array)
    return array[0] if array.ndim == 4 and len(array) else array


def _one_channel(where, name, array):
    """(H, W) from (H, W, 1) and (D,) too."""
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else np.atleast_2d(array)
    if array.ndim != 2 or not array.size:
        required = f"{name} must have shape (H, W), (H, W, 1) or (D,)"
        raise ValueError(_check.message(where, required, _check.shape_of(array), "plot.feature_maps shows channels"))
    return array


def _painted(image, keep):
    """RGB (H, W, 3): where it is kept the image, from PAPER at 0 to black at its largest value; else DROPPED."""
    if image is None:
        return np.where(keep[..., None], KEPT, DROPPED)
    grey = PAPER * (1 - np.clip(image / (image.max() or 1), 0, 1))
    return np.where(keep[..., None], grey[..., None], DROPPED)


def _share_dropped(keep):
    whole = (~keep).all((0, 1)).sum()
    return f"{100 * (~keep).mean():.0f} % of all values dropped, {whole} of {keep.shape[-1]} channels dropped whole"


def _legend_of_masks(panel, masks, new_figure, loc="upper center", bbox_to_anchor=(0.5, -0.02)):
    """Below a new figure, or at the given place of Axes that the caller gave."""
    from matplotlib.patches import Patch

    to_zero = not any(isinstance(mask, layers.AlphaDropout) for mask in masks)
    edge = plot_axes.ink(panel, 0.5)  # KEPT is nearly the paper of a dark theme
    kinds = [Patch(facecolor=KEPT, edgecolor=edge, label="kept")]
    kinds += [Patch(color=DROPPED, label="dropped: 0" if to_zero else "dropped")]
    narrow = {"ncols": 2, "handlelength": 1, "columnspacing": 1, "frameon": False}  # several may stand side by side
    if new_figure:
        panel.figure.legend(handles=kinds, loc="outside lower center", **narrow)
    else:
        panel.legend(handles=kinds, loc=loc, bbox_to_anchor=bbox_to_anchor, **narrow)


# ---- inverted and classical ----


def scaling(rate=0.3, units=100, samples=10_000, seed=0, ax=None):
    """Why something must be scaled: the sums of ``thinning.sums_of_ones``, unscaled, classical and inverted.

    ``ax``: three Axes.
    """
    found = thinning.sums_of_ones(rate, units, samples, seed)
    panels = plot_axes.panels("plot.scaling", ax, (3, 1), (8, 7.5))
    left = min(min(sums.min(), evaluation) for sums, evaluation in found.values())
    right = max(max(sums.max(), evaluation) for sums, evaluation in found.values())
    titles = {
        "unscaled": "Nothing scaled: training and evaluation do not agree",
        "classical": f"Classical: evaluation multiplies by 1 - rate = {1 - rate:.3g}, and they agree",
        "inverted": f"Inverted: training divides by 1 - rate = {1 - rate:.3g}, and they agree",
    }
    for panel, (way, (sums, evaluation)) in zip(panels, found.items(), strict=True):
        values, counts = np.unique(sums.round(9), return_counts=True)
        width = 1 / (1 - rate) if way == "inverted" else 1
        label = f"training: mean {sums.mean():.1f}, standard deviation {sums.std():.1f}"
        edge = {"edgecolor": plot_axes.ink(panel, 0), "linewidth": 0.5}
        panel.bar(values, 100 * counts / samples, width, color=TRAIN, label=label, **edge)
        panel.axvline(evaluation, 0, 0.75, color=VALIDATION, linewidth=3, label=f"evaluation: always {evaluation:.4g}")
        panel.set_title(titles[way], loc="left")
        top = 100 * counts.max() / samples / 0.75  # above it is room for the legend
        panel.set(xlim=(left - 2, right + 2), ylim=(0, top), ylabel="% of the samples")
        panel.legend(loc="upper left", ncols=2, frameon=False)
    panels[-1].set_xlabel(f"sum of {units} inputs of 1 after dropout at rate {rate:g}")
    return panels[0].figure


# ---- thinned networks ----


def thinned(prediction, x, scaled=None, labels=None, shown=12, ax=None):
    """Thinned networks and their votes: a row of three panels for each image.

    The image; the probabilities in each of the first ``shown`` networks, with a dot at its vote; and what all of them
    say together, as the share of the votes and as the mean, beside the scaled network's answer.

    ``prediction``: of classes, with its samples: ``predict_mc(x, return_samples=True)``, or an ensemble's.  ``x``: the
    images, (N, H, W) or (N, H, W, 1); ``scaled``: ``predict(x)`` or None; ``labels``: true classes (N,) or None.
    ``ax``: 3 N Axes, row by row.
    """
    where = "plot.thinned"
    if getattr(prediction, "samples", None) is None or prediction.kind != "classes":
        required = "prediction must be one of classes that has its samples"
        raise ValueError(_check.message(where, required, prediction, "Make it with return_samples=True"))
    shown, images, count = _check.integer(where, "shown", shown, 1), np.asarray(x), len(prediction)
    if not count or len(images) != count or images.ndim not in (3, 4):
        required = f"x must be the {count} images of the prediction, at least one"
        raise ValueError(_check.message(where, required, _check.shape_of(images)))
    for name, given, shape in (("scaled", scaled, prediction.mean.shape), ("labels", labels, (count,))):
        if given is not None and np.shape(given) != shape:
            raise ValueError(_check.message(where, f"{name} must have shape {shape}", np.shape(given)))
    widths = {"width_ratios": [1, 2.2, 2.2]}
    panels = plot_axes.panels(where, ax, (count, 3), (12, 0.9 + 3.1 * count), gridspec_kw=widths)
    for number, (first, middle, last) in enumerate(np.reshape(panels, (count, 3))):
        first.imshow(_one_channel(where, "an image", images[number]), cmap="gray_r")
        true = "" if labels is None else f": class {labels[number]}"
        first.set(xticks=[], yticks=[], title=f"image {number + 1}{true}")
        _each_network(middle, prediction, number, shown)
        _all_networks(last, prediction, number, None if scaled is None else scaled[number])
    return panels[0].figure


def _each_network(panel, prediction, number, shown):
    p = prediction.samples[:shown, number]
    drawn = panel.imshow(p, cmap=plot_axes.shades(panel), vmin=0, vmax=1, aspect="auto")
    panel.plot(p.argmax(1), range(len(p)), "o", color=VALIDATION, markersize=5)
    panel.set(xticks=range(p.shape[1]), yticks=range(len(p)), yticklabels=range(1, len(p) + 1))
    panel.set(xlabel="class", ylabel="thinned network")
    panel.set_title(f"{len(p)} of {prediction.members} networks (dot: its vote)")
    panel.figure.colorbar(drawn, ax=panel, label="probability")


def _all_networks(panel, prediction, number, scaled):
    votes = prediction.votes[number]
    bars = {
        "share of the votes": (votes / prediction.members, TRAIN),
        "mean probability": (prediction.mean[number], BEST),
    }
    if scaled is not None:
        bars["scaled network (predict)"] = scaled, VALIDATION
    width = 0.8 / len(bars)
    for place, (label, (values, colour)) in enumerate(bars.items()):
        shift = (place - (len(bars) - 1) / 2) * width
        panel.bar(np.arange(len(values)) + shift, 100 * values, width, color=colour, label=label)
    order = np.argsort(-votes, kind="stable")[:3]
    said = ", ".join(f"{votes[k]} for {k}" for k in order if votes[k])
    panel.set(xticks=range(len(votes)), ylim=(0, 100), xlabel="class", ylabel="votes, probability in %")
    panel.set_title(f"votes of all {prediction.members}: {said}")
    panel.legend()


def mc_against_scaled(curve, ax=None):
    """The mean of k thinned networks beside the scaled network: accuracy and log-loss over k, and image by image.

    ``curve``: a ``thinning.AveragingCurve``.  ``ax``: three Axes.
    """
    where = "plot.mc_against_scaled"
    if not isinstance(curve, thinning.AveragingCurve):
        raise TypeError(_check.message(where, "curve must be a thinning.AveragingCurve", _check.kind(curve)))
    panels = plot_axes.panels(where, ax, (1, 3), (15, 5))
    for panel, name, form in zip(panels, ("accuracy", "log_loss"), ("{:.1f} %", "{:.3f}"), strict=False):
        factor = plot_axes.percent(name)
        values, scaled = factor * getattr(curve, name), factor * getattr(curve, f"scaled_{name}")
        _error_bars(panel, curve.counts, values, "mean of k", TRAIN, "o")
        label = f"scaled network (predict): {form.format(scaled)}"
        panel.axhline(scaled, color=VALIDATION, linestyle="--", label=label)
        unit = " in nats" if name == "log_loss" else ""
        plot_axes.label(panel, name, "k: how many thinned networks are averaged", unit)
        ends = [f"{form.format(values[:, end].mean())} for k = {curve.counts[end]}" for end in (0, -1)]
        panel.set_title(f"{panel.get_title()}\n{', '.join(ends)}")
        panel.set_xscale("log")
        panel.set_xticks(curve.counts, [f"{count}" for count in curve.counts])
        panel.minorticks_off()
        panel.legend()
    _image_by_image(panels[2], curve)
    return panels[0].figure


def _image_by_image(panel, curve):
    """The probability of the true class from both, a dot for each sample."""
    rows = np.arange(len(curve.labels))
    scaled, mean = curve.scaled[rows, curve.labels], curve.mean[rows, curve.labels]
    same = curve.mean.argmax(1) == curve.scaled.argmax(1)
    panel.plot([0, 1], [0, 1], color=plot_axes.ink(panel, 0.4), linewidth=1, zorder=0, label="equal probabilities")
    for chosen, name, colour, marker in ((same, "same", TRAIN, "o"), (~same, "another", VALIDATION, "X")):
        label = f"{name} class: {chosen.sum()} of {len(rows)}"
        panel.plot(scaled[chosen], mean[chosen], marker, color=colour, label=label, alpha=0.6)
    panel.set(xlabel="probability of the true class, scaled network", aspect="equal")
    panel.set(ylabel=f"the same, mean of {curve.counts[-1]} thinned networks")
    panel.set_title(f"Image by image\nboth choose the same class in {100 * same.mean():.1f} %")
    panel.legend()


def ablation(curves, rescaled=True, ax=None):
    """Accuracy over the share of a layer's units that is removed, mean and standard error over the random draws.

    ``curves``: {name: ``thinning.AblationCurve``}, or one.  ``rescaled``: whether the accuracy with the other units
    multiplied by 1 / (1 - share) is drawn too, dotted.
    """
    where = "plot.ablation"
    rescaled = _check.boolean(where, "rescaled", rescaled)
    curves = curves if isinstance(curves, dict) else {"accuracy": curves}
    if not curves or not all(isinstance(curve, thinning.AblationCurve) for curve in curves.values()):
        required = "curves must be an AblationCurve or a dict {name: AblationCurve}"
        raise TypeError(_check.message(where, required, _check.kind(curves)))
    (panel,) = plot_axes.panels(where, ax, (1, 1), (8, 5.5))
    for (name, curve), colour, marker in zip(curves.items(), itertools.cycle(COLOURS), itertools.cycle("os^D")):
        shares = 100 * curve.fractions
        _error_bars(panel, shares, 100 * curve.accuracy, plot_axes.named(name), colour, marker)
        if rescaled:
            panel.plot(shares, 100 * curve.accuracy_rescaled.mean(0), ":", color=colour)
    some = next(iter(curves.values()))
    what = "channels" if some.name == "Conv2D" else "units"
    plot_axes.label(panel, "accuracy", f"% of the {some.units} {what} of layer {some.layer} ({some.name}) set to 0")
    panel.set_title(f"Accuracy while {what} are removed")
    if rescaled:
        label = "dotted: the other units times 1 / (1 - share set to 0)"
        panel.plot([], [], ":", color=plot_axes.ink(panel, 0.8), label=label)
    handles, labels = panel.get_legend_handles_labels()
    first = len(handles) - len(curves)  # those with error bars come last
    panel.legend(handles[first:] + handles[:first], labels[first:] + labels[:first])
    return panel.figure


def _error_bars(panel, x, values, label, colour, marker):
    """Mean over the first axis of ``values`` (R, len(x)), with standard errors where there are several."""
    means, errors = thinning.mean_and_error(values)
    if len(values) == 1:
        errors = None
    else:
        label += f" ± standard error, {len(values)} draws"
    panel.errorbar(x, means, errors, label=label, color=colour, marker=marker, capsize=3)
