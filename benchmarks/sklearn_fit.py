"""One ``fit`` of an estimator of scikit-learn's: ours beside skorch's and ``MLPClassifier``'s.

Both sides must have learned the digits before anything is timed.
"""

import warnings

import numpy as np

from benchmarks import rivals
from benchmarks.machine import percent, side_by_side, table
from minicnn import datasets, get_num_threads

TITLE = "One fit of a classifier of scikit-learn's, the digits"
TEXT = """\
`CNNClassifier` beside the same network in skorch (convolution of 16 filters, max-pooling, 64 units, dropout 0.5) and,
with flat samples, beside scikit-learn's `MLPClassifier` of 64 units, which has no dropout; 1,297 images, {} epochs of
batches of 32 by Adam. *Accuracy*: on the 500 images of the test part, compared before anything is timed.
"""
UNITS, FILTERS, RATE = 64, 16, 0.01


def run(quick=False, plots=None):
    epochs = 3 if quick else 20
    (x, y), (x_test, y_test) = datasets.digits.load_data()
    flat, flat_test = (array.reshape(len(array), -1) for array in (x, x_test))
    networks = [(f"MLP {UNITS}", "MLPClassifier", (ours(epochs), mlp(epochs)), ((flat, y), (flat_test, y_test)))]
    if rivals.have("skorch", "torch"):
        networks.append(
            (
                f"convolution {FILTERS}, dense {UNITS}",
                "skorch",
                (ours(epochs), skorch(epochs)),
                ((x, y), (x_test, y_test)),
            )
        )
    rows = []
    for name, rival, both, (train, test) in networks:
        cases = {who: fitting(one, *train) for who, one in zip(("ours", "theirs"), both, strict=True)}
        right = [cases[who]().score(*test) for who in cases]
        assert min(right) > (0.5 if quick else 0.9), f"{name}: accuracies {right}"
        assert abs(right[0] - right[1]) < (0.3 if quick else 0.04), f"{name}: accuracies {right}"
        found = side_by_side(cases, quick, rounds=9, burst=0)
        ratio = found["theirs"].median / found["ours"].median
        rows.append([
            name, rival, f"{found['ours'].median:.3f}", f"{found['theirs'].median:.3f}", f"**{ratio:.1f}**",
            percent(max(one.spread for one in found.values())), " / ".join(f"{one:.3f}" for one in right),
        ])  # fmt: skip
    head = ["network", "beside", "s, ours", "s, theirs", "ratio", "spread", "accuracy, ours / theirs"]
    text = f"{TEXT.format(epochs)}\n{table(head, rows)}"
    return text if len(networks) > 1 else f"{text}\nNot installed, so not in the table: skorch.\n"


def fitting(estimator, x, y):
    def case():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLPClassifier's, that it has not converged
            return estimator.fit(x, y)

    return case


def ours(epochs):
    from minicnn.sklearn import CNNClassifier

    return CNNClassifier(
        (FILTERS,), hidden_layer_sizes=(UNITS,), learning_rate_init=RATE, max_iter=epochs, random_state=0
    )


def mlp(epochs):
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        (UNITS,), batch_size=32, learning_rate_init=RATE, max_iter=epochs, n_iter_no_change=epochs, random_state=0
    )


def skorch(epochs):
    """Takes the arrays of ours."""
    import torch
    from skorch import NeuralNetClassifier

    torch.set_num_threads(get_num_threads())
    torch.manual_seed(0)

    class Net(torch.nn.Sequential):
        def __init__(self):
            super().__init__(
                torch.nn.Conv2d(1, FILTERS, 3, padding=1),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
                torch.nn.Flatten(),
                torch.nn.Linear(16 * FILTERS, UNITS),
                torch.nn.ReLU(),
                torch.nn.Dropout(0.5),
                torch.nn.Linear(UNITS, 10),
            )

        def forward(self, x):
            return super().forward(x.permute(0, 3, 1, 2))

    class Estimator(NeuralNetClassifier):
        def fit(self, x, y):
            return super().fit(x, y.astype(np.int64))

    return Estimator(
        Net,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=RATE,
        max_epochs=epochs,
        batch_size=32,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
