"""Many networks, one answer: one network and five of them, and whether the doubtful answers are the wrong ones."""

import argparse

import numpy as np

import minicnn as mc
from minicnn import layers


def network(seed):
    model = mc.Sequential([
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ], seed=seed)  # fmt: skip
    model.compile(mc.optimizers.SGD(learning_rate=0.05, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def percent(right):
    return f"{100 * np.mean(right):5.1f} %"


def by_doubt(doubt, right):
    """Four lines: how often the answer is right, from the least to the most doubtful quarter."""
    quarters = np.array_split(np.argsort(doubt, kind="stable"), 4)
    for name, quarter in zip(("least", "second", "third", "most"), quarters, strict=True):
        print(f"  {name:<6} doubtful quarter  {percent(right[quarter])}   up to {doubt[quarter].max():.3f} nats")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 epochs instead of 30")
    parser.add_argument("--jobs", type=int, default=1, help="processes to train in; more than 1 needs joblib")
    options = parser.parse_args()
    (x, y), (x_test, y_test) = mc.datasets.digits.load_data()

    ensemble = mc.Ensemble([network] * 5)  # seeds 0 to 4
    ensemble.fit(x, y, batch_size=64, epochs=5 if options.quick else 30, verbose=0, n_jobs=options.jobs)

    alone = [model.predict(x_test).argmax(1) == y_test for model in ensemble.members]
    print(f"one network        {percent(alone[0])}   (all five: {', '.join(percent(a).strip() for a in alone)})")
    mean = ensemble.predict(x_test)
    right = mean.classes == y_test
    print(f"five, by mean      {percent(right)}")
    print(f"five, by vote      {percent(ensemble.predict(x_test, how='vote').classes == y_test)}")

    print("right by the mutual information of the five, which is what they disagree about:")
    by_doubt(mean.mutual_information, right)


if __name__ == "__main__":
    main()
