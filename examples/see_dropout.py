"""Dropout to look at: masks, scaling, thinned networks, their average, and networks that lose units.

Trains a small CNN on the embedded digits twice, with dropout and without, writes nine pictures into a folder, and says
of each of them what is to be seen, with this run's numbers.  Needs matplotlib: pip install "minicnn[plot]".
"""

import argparse
from pathlib import Path

import numpy as np

import minicnn as mc
from minicnn import layers, plot, thinning

try:
    from matplotlib.figure import Figure
    from PIL import Image  # matplotlib cannot do without
except ImportError:
    raise SystemExit('this example draws with matplotlib: pip install "minicnn[plot]"') from None

RATE = 0.5  # before the last layer; half of it in the feature maps


def trained(rate, x, y, epochs):
    model = mc.Sequential([
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Dropout(rate / 2),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(rate),
        layers.Dense(10, activation="softmax"),
    ], seed=0)  # fmt: skip
    sgd = mc.optimizers.SGD(learning_rate=0.05, momentum=0.9)
    model.compile(sgd, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


def masks_of_an_image(image):
    """One image, one layer, three training steps."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    first, *others = figure.subplots(1, 4)
    plot.mask(np.ones(image.shape, bool), image, ax=first)
    first.set_title("the image: nothing dropped")
    layer, dropped = layers.Dropout(0.2, seed=1), []
    layer.build(image.shape, np.random.default_rng(0))
    for step, panel in enumerate(others, 1):
        layer.forward(image[None], training=True)
        plot.mask(layer, image, ax=panel)
        panel.set_title(f"step {step}: {panel.get_title()}")
        dropped.append(f"{(~layer.last_mask).sum()}")
    figure.suptitle("Dropout(0.2) hides other pixels of the image in every training step")
    return figure, (
        f"{', '.join(dropped)} of {image.size} pixels are dropped in three steps, {0.2 * image.size:.1f} are expected; "
        "each time others, so that no later unit can rely on a single pixel."
    )


def masks_of_feature_maps(maps):
    """The same maps under both kinds of dropout."""
    pixelwise, channelwise = layers.Dropout(0.25, seed=0), layers.SpatialDropout2D(0.25, seed=6)
    for layer in (pixelwise, channelwise):
        layer.build(maps.shape, np.random.default_rng(0))
        layer.forward(maps[None], training=True)
    shares = 100 * (~pixelwise.last_mask[0]).mean((0, 1))
    whole = (~channelwise.last_mask[0]).all((0, 1))
    figure = plot.feature_maps(maps, {"Dropout(0.25)": pixelwise, "SpatialDropout2D(0.25)": channelwise})
    return figure, (
        f"Dropout hides pixels in every channel, {shares.min():.0f} to {shares.max():.0f} % of each; what a hidden "
        f"pixel showed, its neighbours still show. SpatialDropout2D hides {whole.sum()} of {whole.size} channels "
        "whole, and what they showed is gone."
    )


def scaling():
    sums = thinning.sums_of_ones(0.3, 100)
    (plain, whole), (classical, reduced), (inverted, _) = sums.values()
    return plot.scaling(0.3, 100), (
        f"100 inputs of 1 at rate 0.3: if nothing is scaled, they add up to {plain.mean():.1f} in training and to "
        f"{whole:.0f} in evaluation. Classical dropout takes evaluation down to {reduced:.0f}, inverted dropout takes "
        f"training up to {inverted.mean():.1f}. The width stays: single sums scatter by {classical.std():.1f} and by "
        f"{inverted.std():.1f}, and that noise is the method."
    )


def thinned_networks(model, x, y):
    """An image on which all networks agree, one in between, and the one that divides them most."""
    every = model.predict_mc(x, 50, seed=0, return_samples=True)
    winner = every.votes.max(1)
    chosen = [int(winner.argmax()), int(abs(winner - 35).argmin()), int(winner.argmin())]
    prediction = mc.Prediction(every.samples[:, chosen])
    said = []
    for label, votes in zip(y[chosen], prediction.votes, strict=True):
        most = [k for k in np.argsort(-votes, kind="stable")[:3] if votes[k]]
        said.append(f"the {label} gets " + ", ".join(f"{votes[k]} for {k}" for k in most))
    return plot.thinned(prediction, x[chosen], model.predict(x[chosen]), y[chosen]), (
        f"Of 50 votes {'; '.join(said)}. Every row of a middle panel is another thinned network. Where the image is "
        f"clear they agree; all 50 agree on {100 * (winner == 50).mean():.0f} % of the test images. Where they do not, "
        "the mean is undecided: a warning that a single network may not give."
    )


def averages(model, x, y, repeats):
    curve = thinning.averaging_curve(model, x, y, repeats=repeats)
    accuracy, loss = 100 * curve.accuracy.mean(0), curve.log_loss.mean(0)
    same = 100 * (curve.mean.argmax(1) == curve.scaled.argmax(1)).mean()
    surer = (curve.scaled.max(1) > curve.mean.max(1)).sum()
    return plot.mc_against_scaled(curve), (
        f"One thinned network alone reads {accuracy[0]:.1f} % of the test images, the mean of {curve.counts[-1]} "
        f"{accuracy[-1]:.1f} %, the scaled network, in one pass, {100 * curve.scaled_accuracy:.1f} %; their log-losses "
        f"are {loss[0]:.3f}, {loss[-1]:.3f} and {curve.scaled_log_loss:.3f}. Mean and scaled network choose the same "
        f"class in {same:.1f} %; the scaled one is the surer of the two in {surer} of {len(x)} images."
    )


def removed_units(models, x, y):
    curves = {name: thinning.ablation_curve(model, x, y, layer=5, repeats=20) for name, model in models.items()}
    figure, half = plot.ablation(curves), 5
    text, title, differ = [], [], []
    for name, curve in curves.items():
        mean = 100 * curve.accuracy.mean(0)
        title.append(f"{mean[half]:.1f} % {name}")
        text.append(f"{name}, {mean[0]:.1f} %, {mean[half]:.1f} % and {mean[8]:.1f} %")
        differ.append(abs(100 * curve.accuracy_rescaled.mean(0) - mean))
    figure.axes[0].set_title(f"Half of the units gone: {', '.join(title)}")
    return figure, (
        f"Accuracy with all {curve.units} units, without half of them, and without 80 %: {'; '.join(text)}. To scale "
        f"up the units that are left would change it by {np.array(differ)[:, half].max():.1f} points with half of them "
        f"gone, and by {np.max(differ):.1f} where it does most. Dropout had removed {100 * RATE:.0f} % in every step."
    )


def masks_of_blocks(maps):
    """The same maps, pixels of them dropped and blocks, as many values in both."""
    blocks = layers.DropBlock2D(0.25, 3, seed=5)
    blocks.build(maps.shape, np.random.default_rng(0))
    blocks.forward(maps[None], training=True)
    share = (~blocks.last_mask).mean()
    pixels = layers.Dropout(share, seed=0)
    pixels.build(maps.shape, np.random.default_rng(0))
    pixels.forward(maps[None], training=True)
    figure = plot.feature_maps(maps, {f"Dropout({share:.2f})": pixels, "DropBlock2D(0.25, block_size=3)": blocks})
    return figure, (
        f"DropBlock2D(0.25, 3) drops {100 * share:.0f} % of the values here, and Dropout as many. A single dropped "
        "pixel stands between others that carry nearly the same value; in the middle of a block none is left that "
        "could tell. Every channel has blocks of its own; as they overlap, fewer are dropped on average than the rate "
        "says."
    )


def masks_of_branches(images):
    """What StochasticDepth leaves of a batch, in three steps and both modes."""
    figure = Figure(figsize=(1.25 * len(images) + 1.6, 8.6), layout="constrained")
    rows, dropped = figure.subplots(6, len(images)), {"row": [], "batch": []}
    for number, panels in enumerate(rows):
        mode, step = ("row", "batch")[number // 3], number % 3 + 1
        if step == 1:
            layer = layers.StochasticDepth(0.5, mode, seed=2)
            layer.build(images.shape[1:], np.random.default_rng(0))
        layer.forward(images, training=True)
        keep = layer.last_mask
        dropped[mode].append(str((~keep[:, 0, 0, 0]).sum()))
        for image, kept, panel in zip(images, keep, panels, strict=True):
            plot.mask(kept, image, ax=panel)
            panel.get_legend().remove()
            panel.set_title("")
        panels[0].set_ylabel(f'"{mode}"\nstep {step}', rotation=0, ha="right", va="center")
    for place, panel in enumerate(rows[0], 1):
        panel.set_title(f"sample {place}")
    figure.suptitle(
        "StochasticDepth(0.5): what a branch gives for the samples of a batch; orange: nothing, it is dropped"
    )
    return figure, (
        f'With mode "row" {", ".join(dropped["row"])} of {len(images)} samples lose the branch in three steps, each by '
        f'a coin of its own; with mode "batch" one coin a step is for all: {", ".join(dropped["batch"])}. The shortcut '
        "around the branch is not dropped."
    )


def crossed_out_network():
    """A network of dense layers as textbooks draw it: whole, in three steps of training, and in evaluation."""
    sizes, heights = (4, 6, 6, 2), []
    for size in sizes:
        heights.append(np.arange(size) - (size - 1) / 2)
    drops = [layers.Dropout(rate, seed=seed) for rate, seed in ((0.25, 4), (0.5, 1), (0.5, 0))]
    for layer, size in zip(drops, sizes, strict=False):
        layer.build((size,), np.random.default_rng(0))
    figure, counts = Figure(figsize=(12.5, 4.4), layout="constrained"), []
    for step, panel in enumerate(figure.subplots(1, 5)):
        keep = [np.ones(size, bool) for size in sizes]
        if 1 <= step <= 3:
            for number, layer in enumerate(drops):
                layer.forward(np.ones((1, sizes[number])), training=True)
                keep[number] = layer.last_mask[0]
            counts.append(str(sum((~one).sum() for one in keep)))
        _draw_network(panel, heights, keep)
        panel.set_title(("without dropout", "training, step 1", "step 2", "step 3", "evaluation (inference)")[step])
        panel.set_xlabel(("", *["kept outputs / (1 - rate)"] * 3, "all of it, nothing scaled")[step])
    figure.suptitle(
        "Dropout(0.25) on the inputs and Dropout(0.5) on two hidden layers: in every step other units are left out"
    )
    return figure, (
        f"{', '.join(counts)} of {sum(sizes[:3])} units are crossed out in three steps, drawn anew in each. A "
        "crossed-out unit gives 0 and gets no gradient: none of the lines to it and from it is there, and their "
        "weights do not learn from this sample. The outputs are never dropped. In evaluation every unit is there."
    )


def _draw_network(panel, heights, keep):
    for place in range(len(heights) - 1):
        for a, kept in zip(heights[place], keep[place], strict=True):
            for b, also in zip(heights[place + 1], keep[place + 1], strict=True):
                if kept and also:
                    panel.plot((place, place + 1), (a, b), color="0.72", linewidth=0.7, zorder=1)
    for place, (column, kept) in enumerate(zip(heights, keep, strict=True)):
        for height, here in zip(column, kept, strict=True):
            colour = "tab:blue" if here else "white"
            edge = "tab:blue" if here else "tab:orange"
            panel.scatter(place, height, s=150, color=colour, edgecolors=edge, linewidths=1.5, zorder=2)
            if not here:
                panel.scatter(place, height, s=75, color="tab:orange", marker="x", linewidths=2, zorder=3)
    panel.set_xticks(range(4), ["inputs", "hidden", "hidden", "outputs"])
    panel.set_yticks([])
    panel.set_xlim(-0.4, 3.4)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("see_dropout"), help="folder for the pictures")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="3 epochs, and fewer draws of masks")
    parser.add_argument("--small", action="store_true", help="smaller files, of 128 colours, for a web page")
    options = parser.parse_args()
    epochs = 3 if options.quick else options.epochs
    options.out.mkdir(parents=True, exist_ok=True)

    (x, y), (x_test, y_test) = mc.datasets.digits.load_data()
    models = {"trained with dropout": trained(RATE, x, y, epochs), "trained without dropout": trained(0, x, y, epochs)}
    model = models["trained with dropout"]
    for name, one in models.items():
        print(f"{name}, {epochs} epochs: test accuracy {100 * one.evaluate(x_test, y_test)[1]:.1f} %")

    pictures = {
        "1_mask": masks_of_an_image(x_test[0]),
        "2_feature_maps": masks_of_feature_maps(model.outputs(x_test[:1])[0][0]),
        "3_scaling": scaling(),
        "4_thinned": thinned_networks(model, x_test, y_test),
        "5_mc_against_scaled": averages(model, x_test, y_test, repeats=2 if options.quick else 10),
        "6_ablation": removed_units(models, x_test, y_test),
        "7_blocks": masks_of_blocks(model.outputs(x_test[:1])[0][0]),
        "8_branches": masks_of_branches(x_test[:8]),
        "9_network": crossed_out_network(),
    }
    for name, (figure, text) in pictures.items():
        path = options.out / f"{name}.png"
        figure.savefig(path, dpi=70 if options.small else 110)
        if options.small:
            with Image.open(path) as image:
                small = image.convert("RGB").quantize(128)
            small.save(path, optimize=True)
        print(f"\n{path}\n  {text}")


if __name__ == "__main__":
    main()
