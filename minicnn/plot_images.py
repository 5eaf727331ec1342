"""Pictures of what a model sees: mistakes, filters, feature maps, saliency.  ``plot`` has them all and says what they
share.
"""

import copy

import numpy as np

from minicnn import _check, intake, layers, plot_axes, targets
from minicnn.layer import Layer
from minicnn.layers.random import Random
from minicnn.model import Sequential
from minicnn.tree import walk

MOST_TILES, MOST_ROWS = 64, 16  # of filters and feature maps; of filters, and channels of each, in a table


# ---- mistakes ----


def mistakes(model, x, y=None, class_names=None, count=20, ax=None):
    """The samples of which a model is wrong, the worst first: those whose true class it gives the smallest probability.
    Above each what it is and what it was taken for, with both probabilities.

    ``x`` (N, H, W) or (N, H, W, C): images as ``predict`` takes them; ``y``: class numbers (N,), or one-hot rows; or x
    alone, ``datasets.Pictures`` that are in memory.
    ``class_names``: None for ``model.class_names``, or the numbers.  ``count``: how many at most, >= 1.  ``ax``: an
    Axes for each; those that are left over stay empty.
    """
    where = "plot.mistakes"
    model, count = _model(where, model), _check.integer(where, "count", count, 1)
    x, y = intake.unpacked(where, x, y)
    x, kind = _images(where, model, x), model.output_kind
    if kind not in ("classes", "binary") or len(model.output_shape) != 1:
        required = "model must tell classes apart"
        raise ValueError(_check.message(where, required, _check.Shown(f"{model.output_shape} {kind} a sample")))
    p = model.predict_proba(x)
    p = np.hstack([1 - p, p]) if p.shape[1] == 1 else p
    true = targets.labels(where, targets.class_numbers(where, y, len(x)), None, p.shape[1])
    names = _names(where, class_names, model, p.shape[1])
    taken, rows = p.argmax(1), np.arange(len(p))
    wrong = np.flatnonzero(taken != true)
    worst = wrong[np.argsort(p[wrong, true[wrong]], kind="stable")][:count]
    columns = min(5, max(1, len(worst)))
    shape = -(-max(1, len(worst)) // columns), columns
    size = (1.9 * shape[1] + 0.6 if shape[1] > 1 else 4, 2.3 * shape[0] + 0.4)
    panels = plot_axes.panels(where, ax, shape, None if ax is not None else size, count=max(1, len(worst)))
    show = _shown_as(x)
    for panel in panels:
        panel.set_axis_off()
    for panel, i in zip(panels, worst, strict=False):
        show(panel, x[i])
        said = [f"{names[k]}: {100 * p[i, k]:.{0 if p[i, k] > 0.1 else 1}f} %" for k in (taken[i], true[i])]
        panel.set_title(f"taken for {said[0]}\nis {said[1]}", fontsize=8)
    if ax is None:
        more = f": the worst {len(worst)}" if len(worst) < len(wrong) else ""
        are = "is" if len(wrong) == 1 else "are"
        panels[0].figure.suptitle(f"{len(wrong):,} of {len(rows):,} {are} wrong{more}", fontsize=11)
    return panels[0].figure


def _names(where, names, model, classes):
    names = model.class_names if names is None else names
    if names is None:
        return [str(number) for number in range(classes)]
    return plot_axes.all_named(_check.class_names(where, "class_names", names, classes), 12)


# ---- filters ----


def filters(model, layer=None, ax=None):
    """The kernels of a convolution: over three channels as pictures in colours, in which 0 is grey; over one from blue,
    below 0, to red, above; over others as a table, a row for each filter and a column for each channel.

    ``layer``: its number, path or name, or itself; None for the first convolution of the model.  At most 64 filters
    are drawn, in a table 16 of 16 channels: the first ones.  ``ax``: one Axes.
    """
    where = "plot.filters"
    path, layer = _chosen(where, _model(where, model), layer, _is_convolution, "a convolution")
    kernel = layer.params["kernel"]
    if isinstance(layer, layers.Conv2DTranspose):
        kernel = kernel.swapaxes(2, 3)
    if isinstance(layer, layers.DepthwiseConv2D):  # every filter sees one channel
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    channels, count = kernel.shape[2:]
    table = channels not in (1, 3)
    largest = float(np.abs(kernel).max()) or 1.0
    tiles = kernel[..., : MOST_ROWS if table else MOST_TILES].transpose(3, 0, 1, 2)
    title = _title(path, layer, count, "filter", len(tiles))
    if channels == 3:
        colours, tiles = {}, 0.5 + tiles / (2 * largest)
    else:
        colours = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
        tiles = tiles[..., :MOST_ROWS].transpose(0, 3, 1, 2).reshape(-1, *tiles.shape[1:3])
    columns = min(channels, MOST_ROWS) if table else None
    panel = _tiled(where, tiles, f"{title}\nlargest weight {largest:.2g}", colours, ax, columns)
    if table:
        shown = f": the first {columns} of {channels}" if columns < channels else ""
        panel.set(xlabel=f"channel of the input{shown}", ylabel="filter")
    return panel.figure


def _title(path, layer, count, what, shown):
    first = f", the first {shown}" if shown < count else ""
    return f"layer {path}, {type(layer).__name__}: {count} {what}{'s' * (count > 1)}{first}"


def _is_convolution(layer):
    return np.ndim(layer.params.get("kernel")) == 4


def _tiled(where, tiles, title, colours, ax, columns=None):
    """Tiles (T, H, W) or (T, H, W, 3), row by row, in one Axes, with a gap between them."""
    count, height, width = tiles.shape[:3]
    columns = columns or min(count, max(8, int(np.ceil(np.sqrt(count)))))
    rows = -(-count // columns)
    gap = max(1, round(0.08 * max(height, width)))
    scale = min(1.0 / max(height, width), 9 / (columns * (width + gap)))
    wide, high = columns * (width + gap) - gap, rows * (height + gap) - gap
    size = max(4.2, wide * scale + 0.5), min(14, high * scale + 0.9)
    (panel,) = plot_axes.panels(where, ax, (1, 1), size)
    strip = np.full((high, wide, *tiles.shape[3:]), np.nan)
    for number, tile in enumerate(tiles):
        row, column = number // columns * (height + gap), number % columns * (width + gap)
        strip[row : row + height, column : column + width] = tile
    if tiles.ndim == 4:  # in colours: NaN is black there
        strip = np.dstack([np.nan_to_num(strip), ~np.isnan(strip[..., 0])])
    panel.imshow(strip, interpolation="nearest", **colours)
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    panel.set_title(title, fontsize=10)
    return panel


# ---- feature maps ----


def feature_maps(model, x, layer=None, ax=None):
    """What the channels of a layer make of one image, dark = 0, with nothing dropped.

    ``x``: the image, (H, W, C), or a batch, of which the first is taken.  ``layer``: its number, path or name, or
    itself; None for the first convolution.  Of more than 64 channels the first 64 are drawn.  ``ax``: one Axes.
    """
    where = "plot.feature_maps"
    model = _model(where, model)
    x = _images(where, model, x, single=True)[:1]
    suits = _is_convolution if layer is None else _gives_images
    what = "a convolution" if layer is None else "one that gives images (height, width, channels)"
    path, layer = _chosen(where, model, layer, suits, what)
    maps = _output_of(model, path, x)[0]
    lowest, largest = float(maps.min()), float(maps.max())
    title = _title(path, layer, maps.shape[2], "feature map", min(maps.shape[2], MOST_TILES))
    colours = {"cmap": "viridis", "vmin": lowest, "vmax": largest if largest > lowest else lowest + 1}
    tiles = maps[..., :MOST_TILES].transpose(2, 0, 1)
    return _tiled(where, tiles, f"{title}\nfrom {lowest:.3g}, dark, to {largest:.3g}", colours, ax).figure


def _gives_images(layer):
    return len(layer.output_shape) == 3


def _output_of(model, path, x):
    """What the layer at ``path`` gives in evaluation; a copy of the model listens."""
    found, twin = [], copy.deepcopy(model)
    layer = twin.get_layer(path)

    def listen(x, training=False, forward=layer.forward):
        found.append(forward(x, training=training))
        return found[-1]

    vars(layer)["forward"] = listen
    twin.outputs(x)
    return found[0]


# ---- saliency ----


def saliency(model, x, class_number=None, samples=0, noise=0.15, seed=0, ax=None):
    """Which pixels a model goes by: an image, and beside it the saliency map of a class, bright where a small change
    of the pixel changes the score of the class most.  ``saliency_map`` says how, and what the arguments are.

    ``x``: images (N, H, W) or (N, H, W, C), a row of two panels for each, or one image.  ``ax``: 2 N Axes.
    """
    where = "plot.saliency"
    model = _model(where, model)
    x = _images(where, model, x, single=True)
    if len(x) > MOST_TILES:
        raise ValueError(_check.message(where, f"x must be at most {MOST_TILES} images", len(x)))
    maps, classes = _saliency(where, model, x, class_number, samples, noise, seed)
    names = _names(where, None, model, max(2, model.output_shape[0]))
    panels = plot_axes.panels(where, ax, (len(x), 2), (5.6, 2.7 * len(x) + 0.3))
    show = _shown_as(x)
    for number, (image, smooth) in enumerate(zip(x, maps, strict=True)):
        first, second = panels[2 * number : 2 * number + 2]
        show(first, image)
        second.imshow(smooth, cmap="inferno", vmin=0, vmax=smooth.max() or 1)
        first.set_title(f"image {number + 1}", fontsize=10)
        second.set_title(f"what counts for {names[classes[number]]}", fontsize=10)
        for panel in (first, second):
            panel.set(xticks=[], yticks=[])
    return panels[0].figure


def saliency_map(model, x, class_number=None, samples=0, noise=0.15, seed=0):
    """The saliency of every pixel for a class, float64 (N, H, W):

    ::

        M(x) = max over channels of |dS/dx|         S the score of the class: its logit, before a final softmax

    with nothing dropped and moving statistics.  With ``samples`` n > 0 the gradient is the mean of those at n noisy
    images, x + s (max x - min x) e, e normal, s = ``noise``: smoother maps.

    - ``x``: images (N, H, W) or (N, H, W, C).  ``class_number``: one for all, or (N,); None for the class that the
      model finds most probable.  ``seed``: of the noise.

    Custom layers work as in training.  Of a model that ends in a sigmoid S is the probability.

    Source: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2014 (arXiv:1312.6034), section 3;
    noise: Smilkov, Thorat, Kim, Viégas and Wattenberg, "SmoothGrad", 2017 (arXiv:1706.03825).
    """
    where = "plot.saliency_map"
    model = _model(where, model)
    return _saliency(where, model, _images(where, model, x), class_number, samples, noise, seed)[0]


def _saliency(where, model, x, class_number, samples, noise, seed):
    """(maps, the class of each)."""
    samples, noise = _check.integer(where, "samples", samples, 0, 10**6), _check.number(where, "noise", noise, 0)
    rng = np.random.default_rng(_check.integer(where, "seed", seed, 0, 2**64 - 1))
    if len(model.output_shape) != 1:
        required = "model must give one row of numbers for an image"
        raise ValueError(_check.message(where, required, _check.Shown(f"outputs of {model.output_shape}")))
    outputs = model.predict(x)
    k = outputs.shape[1]
    if class_number is None:
        chosen = outputs.argmax(1)
    else:
        chosen = _check.numeric_array(where, "class_number", class_number)
        if chosen.shape not in ((), (len(x),)):
            required = f"class_number must be a whole number, or {len(x)} of them"
            raise ValueError(_check.message(where, required, _check.shape_of(chosen)))
        chosen = targets.labels(where, np.broadcast_to(chosen, len(x)), None, max(2, k))
    dy = np.zeros((len(x), k), model.dtype)
    dy[np.arange(len(x)), chosen if k > 1 else 0] = 1
    twin, total = _as_in_evaluation(model), np.zeros(x.shape)
    x = np.asarray(x, np.float64)
    axes = tuple(range(1, x.ndim))
    spread = noise * (x.max(axes, keepdims=True) - x.min(axes, keepdims=True))
    for _ in range(max(1, samples)):
        twin.forward(x + spread * rng.standard_normal(x.shape) if samples else x, training=True)
        total += twin.backward(dy)
    found = np.abs(total).max(-1) / max(1, samples)
    return found, chosen if k > 1 else np.ones(len(x), np.int64)


def _as_in_evaluation(model):
    """A copy of the model whose training pass computes what evaluation computes."""
    twin = copy.deepcopy(model)
    twin.freeze()  # moving statistics
    for _, layer in walk(twin.layers):
        if getattr(layer, "activity_regularizer", None) is not None:
            layer.activity_regularizer = None  # it would add to the gradient
        if isinstance(layer, Random) and layer.params:  # DropConnect
            if layer.mode == "classical":
                layer.params["kernel"][...] *= 1 - layer.current_rate
            layer.rate = 0
        elif isinstance(layer, Random):
            _evaluate_only(layer)
    return twin


def _evaluate_only(layer):
    """Makes a layer that draws do in training what it does in evaluation: let pass all pixels, or cut some out, and
    multiply them by a number.  Which they are, and by what, is seen from what it makes of 1, 1, ... and 0, 1, 2, ..."""
    evaluate, size = layer.forward, int(np.prod(layer.input_shape))
    factor = np.array(evaluate(np.ones((1, *layer.input_shape)))).ravel()
    numbered = np.array(evaluate(np.arange(size).reshape(1, *layer.input_shape))).ravel()
    places = np.rint(numbered / np.where(factor == 0, 1, factor)).astype(np.int64)

    def backward(dy):
        dx = np.zeros((len(dy), size), dy.dtype)
        dx[:, places] = dy.reshape(len(dy), -1) * factor
        return dx.reshape(len(dy), *layer.input_shape)

    vars(layer).update(forward=lambda x, training=False: evaluate(x), backward=backward)


# ---- what several of them need ----


def _model(where, model):
    if not isinstance(model, Sequential):
        raise TypeError(_check.message(where, "model must be a Sequential", _check.kind(model)))
    if not model.built:
        raise RuntimeError(f"{where}: needs a model that is built. Call build(input_shape) or fit before it")
    return model


def _images(where, model, x, single=False):
    """Images (N, H, W, C), N >= 1, that fit the model; with ``single`` one (H, W, C) or (H, W) as well."""
    shape = model.input_shape
    if len(shape) != 3:
        required = "model must take images (height, width, channels)"
        raise ValueError(_check.message(where, required, _check.Shown(f"one of inputs {shape}")))
    x = _check.numeric_array(where, "x", x)
    if single and x.shape in (shape, shape[:2]):
        x = x[None]
    if x.shape[1:] == shape[:2] and shape[2] == 1:
        x = x[..., None]
    if x.shape[1:] != shape or not len(x):
        wanted = f"x must be images (N, {', '.join(map(str, shape))}), at least one"
        raise ValueError(_check.message(where, wanted, _check.shape_of(x)))
    if not np.isfinite(x).all():
        raise ValueError(_check.message(where, "x must be finite", _check.Shown("NaN or infinity")))
    return x


def _chosen(where, model, layer, suits, what):
    """(path, layer) of the layer that is asked for, or of the first that ``suits`` in it, or in the model."""
    tree = walk(model.layers)
    top = ""
    if layer is not None:
        if not isinstance(layer, Layer):
            layer = model.get_layer(**{"name" if isinstance(layer, str) else "index": layer})
        top = next((path for path, one in tree if one is layer), None)
        if top is None:
            raise ValueError(_check.message(where, "layer must be one of the model's", layer))
    for path, one in tree:
        if suits(one) and (not top or path == top or path.startswith(f"{top}.")):
            return path, one
    got = "none in the model" if layer is None else type(layer).__name__
    raise ValueError(_check.message(where, f"layer must be {what}", _check.Shown(got)))


def _shown_as(x):
    """A function (panel, image) that draws one of the images x, as dark and bright as it is among them."""
    low, high = (0.0, 255.0) if x.dtype == np.uint8 else (float(x.min()), float(x.max()))
    span = high - low or 1.0

    def draw(panel, image):
        image = (np.asarray(image, np.float64) - low) / span
        if image.shape[2] not in (3, 4):
            image = image.mean(2)
        panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")

    return draw
