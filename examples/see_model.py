"""A trained network to look at: how it was trained, what it takes for what, what it is wrong about, and what it sees.

Draws seven pictures of a small network with branches and dropout.  Needs matplotlib: pip install "minicnn[plot]".
"""

import argparse
from pathlib import Path

import minicnn as mc
from minicnn import layers, plot

try:
    from PIL import Image  # matplotlib cannot do without
except ImportError:
    raise SystemExit('this example draws with matplotlib: pip install "minicnn[plot]"') from None


def network():
    """A convolution, a residual block, two ways side by side, and dropout."""
    return mc.Sequential(
        [
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.Residual(
                [layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization(), layers.StochasticDepth(0.1)],
                activation="relu",
            ),
            layers.MaxPooling2D(2),
            layers.Concurrent([layers.Conv2D(8, 1, activation="relu"), layers.Conv2D(8, 3, padding="same")]),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(10, activation="softmax"),
        ],
        seed=0,
        name="digits",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("see_model"), help="folder for the pictures")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="2 epochs")
    parser.add_argument("--small", action="store_true", help="smaller files, of 128 colours, for a web page")
    options = parser.parse_args()
    epochs = 2 if options.quick else options.epochs
    options.out.mkdir(parents=True, exist_ok=True)

    (x, y), (x_test, y_test) = mc.datasets.digits.load_data()
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    rates = mc.callbacks.LearningRateScheduler(lambda epoch: 0.005 * 0.8**epoch)  # which the history then has
    options_of_fit = {"validation_data": (x_test, y_test), "clean_train_metrics": True, "callbacks": rates}
    history = model.fit(x, y, 32, epochs, verbose=0, **options_of_fit)
    print(f"{epochs} epochs: test accuracy {100 * model.evaluate(x_test, y_test)[1]:.1f} %")

    with plot.theme(options.theme):
        pictures = {
            "history": plot.history(history),
            "confusion_matrix": plot.confusion_matrix(mc.metrics.confusion_matrix(y_test, model.predict(x_test))),
            "mistakes": plot.mistakes(model, x_test, y_test, count=10),
            "filters": plot.filters(model),
            "model_feature_maps": plot.feature_maps(model, x_test[0]),
            "saliency": plot.saliency(model, x_test[:2], samples=50),
            "architecture": plot.architecture(model),
        }
    for name, figure in pictures.items():
        path = options.out / f"{name}.png"
        figure.savefig(path, dpi=60 if options.small else 110)
        if options.small:
            with Image.open(path) as image:
                small = image.convert("RGB").quantize(128)
            small.save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
