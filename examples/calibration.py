"""How sure is it?  The calibration errors of networks with dropout, of their thinned networks and of ensembles, before
and after temperature scaling, on the embedded digits; with ``--picture FILE`` the reliability diagrams."""

import argparse

import numpy as np

import minicnn as mc
from minicnn import calibration, layers
from minicnn.thinning import mean_and_error

MEMBERS, SAMPLES = 5, 50
WAYS = PLAIN, PREDICT, THINNED, ENSEMBLE = (
    "no dropout, predict",
    "dropout, predict",
    f"dropout, predict_mc of {SAMPLES}",
    f"dropout, ensemble of {MEMBERS}",
)
TINY = 1e-30  # a probability that a float32 softmax has rounded to 0


def network(rate, seed):
    """That of docs/dropout.md."""
    model = mc.Sequential([
        layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPooling2D(2), layers.Flatten(),
        layers.Dense(64, activation="relu"), layers.Dropout(rate), layers.Dense(10, activation="softmax"),
    ], seed=seed)  # fmt: skip
    model.compile(mc.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def temperature_of(p, y):
    """Of probabilities: their logarithms are logits.  (Of a model: ``calibration.fit_temperature``.)"""
    try:
        return calibration.optimal_temperature(y, np.log(np.maximum(p, TINY)))
    except ValueError:  # none of the samples is wrong: no temperature is the best
        return 1.0


def one_run(seed, rate, epochs):
    """{way: (probabilities for the test part, the same after scaling, T)}, and the labels of the test part."""
    (x, y), (x_test, y_test) = mc.datasets.digits.load_data()
    held, rest = np.split(np.random.default_rng(seed).permutation(len(x)), [len(x) // 5])  # a fifth is for T
    plain, *members = [network(0.0, seed)] + [network(rate, MEMBERS * seed + number) for number in range(MEMBERS)]
    for model in (plain, *members):
        model.fit(x[rest], y[rest], batch_size=32, epochs=epochs, verbose=0)
    ensemble = mc.Ensemble(members)
    asked = {
        PLAIN: plain.predict,
        PREDICT: members[0].predict,
        THINNED: lambda x: members[0].predict_mc(x, SAMPLES).mean,
        ENSEMBLE: lambda x: ensemble.predict(x).mean,
    }
    found = {}
    for way, ask in asked.items():
        before, temperature = ask(x_test), temperature_of(ask(x[held]), y[held])
        found[way] = before, mc.activations.softmax(np.log(np.maximum(before, TINY)) / temperature), temperature
    return found, y_test


def measured(p, y):
    """ECE and confidence less accuracy in %, log-loss, % wrong."""
    curve = calibration.reliability_curve(y, p)
    log_loss = calibration.negative_log_likelihood(y, np.maximum(p, TINY))
    return 100 * curve.ece, 100 * curve.overconfidence, log_loss, 100 * (p.argmax(1) != y).mean()


def by_chance(p, rng):
    """The ECE in % of a network that is calibrated perfectly: labels are drawn as its probabilities p say."""
    y = (p.cumsum(1) < rng.random((len(p), 1)) * p.sum(1, keepdims=True)).sum(1)
    return 100 * calibration.expected_calibration_error(y, p)


def shown(values, digits=1):
    mean, error = mean_and_error(values)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def verdict(claim, smaller, larger):
    """What the paired runs say of it, by twice the standard error of their difference."""
    mean, error = mean_and_error(np.subtract(larger, smaller))
    said = "holds" if mean > 2 * error else "the reverse holds" if mean < -2 * error else "cannot be told"
    print(f"{claim}: {said} (by {mean:.1f} ± {error:.1f})")


def draw(runs, path):
    curves = {}
    for name, way, side in (("predict", PREDICT, 0), ("predict_mc", THINNED, 0), ("predict_mc, scaled", THINNED, 1)):
        p, y = (np.concatenate(parts) for parts in zip(*((found[way][side], y) for found, y in runs), strict=True))
        curves[name] = calibration.reliability_curve(y, p)
    mc.plot.reliability(curves).savefig(path, dpi=70)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 seeds and 4 epochs")
    parser.add_argument("--seeds", type=int, default=10, help="runs, each with its own split and networks")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rate", type=float, default=0.5, help="of the dropout")
    parser.add_argument("--picture", help="a file for the reliability diagrams of all runs together; needs matplotlib")
    options = parser.parse_args()
    seeds, epochs = (2, 4) if options.quick else (options.seeds, options.epochs)
    runs = [one_run(seed, options.rate, epochs) for seed in range(seeds)]

    print(
        f"{seeds} seeds, {epochs} epochs, dropout at rate {options.rate:g}; mean ± standard error; ECE in %, 15 bins\n"
    )
    row = "{:<26} {:>11} {:>10} {:>15} {:>22} {:>12} {:>11} {:>15}"
    print(row.format("", "wrong in %", "ECE", "log-loss", "confidence - accuracy", "T", "ECE after", "log-loss after"))
    ece = {}
    for way in WAYS:
        before, after = (np.transpose([measured(found[way][side], y) for found, y in runs]) for side in (0, 1))
        ece[way], ece[way, "after"] = before[0], after[0]
        numbers = shown(before[3]), shown(before[0]), shown(before[2], 3), shown(before[1])
        found = shown([found[way][2] for found, _ in runs], 2)
        print(row.format(way, *numbers, found, shown(after[0]), shown(after[2], 3)))
    chance = [by_chance(found[ENSEMBLE][0], np.random.default_rng(seed)) for seed, (found, _) in enumerate(runs)]
    print(f"\nan ECE of {shown(chance)} is what {len(runs[0][1])} samples show of a perfectly calibrated ensemble\n")
    verdict("the ECE of predict is smaller than that of predict_mc", ece[PREDICT], ece[THINNED])
    verdict("a temperature makes that of predict_mc smaller", ece[THINNED, "after"], ece[THINNED])
    verdict("a temperature makes that of predict smaller", ece[PREDICT, "after"], ece[PREDICT])
    verdict("the ECE of the ensemble is smaller than that of predict", ece[ENSEMBLE], ece[PREDICT])
    verdict("and than that of predict with a temperature", ece[ENSEMBLE], ece[PREDICT, "after"])
    verdict("a temperature makes that of the ensemble smaller", ece[ENSEMBLE, "after"], ece[ENSEMBLE])
    if options.picture:
        draw(runs, options.picture)
        print(f"\n{options.picture}")


if __name__ == "__main__":
    main()
