"""R-Drop: every sample goes twice through the network, with two masks, and both answers are to be alike.

With p1 and p2 the probabilities of the two passes, the loss of a sample of class y is

    (-log p1[y] - log p2[y]) / 2 + alpha (KL(p1 || p2) + KL(p2 || p1)) / 2,    KL(p || q) = sum_k p_k log(p_k / q_k).

The training loop is written by hand, with the gradients of both terms.  Beside it stand plain dropout, and two masks
without the second term (alpha 0), since a step that sees each sample twice takes twice as long.

Source: Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu, "R-Drop: Regularized Dropout for Neural Networks", NeurIPS
2021, equation 4, here divided by 2 as in the authors' code: alpha is half as large as in the equation.
"""

import argparse

import numpy as np

import minicnn as mc
from minicnn import layers

BATCH_SIZE = 64
SEEDS = range(10)
WAYS = {"dropout": None, "two masks, alpha 0": 0.0, "R-Drop, alpha 0.3": 0.3, "R-Drop, alpha 1": 1.0}


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def r_drop(logits, y, alpha):
    """(loss, gradient) for logits (2 N, K): rows i and N + i are the two answers for the sample of class y[i].

    ::

        d loss / d z1 = (p1 - onehot(y)) / 2 + alpha (p1 (log(p1 / p2) - KL(p1 || p2)) + p1 - p2) / 2

    for z1, the logits of the first pass, and the same for the second with p1 and p2 exchanged; then the mean over N.
    """
    n, rows = len(y), np.arange(len(y))
    log_p = log_softmax(logits.astype(np.float64)).reshape(2, n, -1)
    p, ratio = np.exp(log_p), log_p - log_p[::-1]  # of each pass to the other
    divergence = (p * ratio).sum(axis=2, keepdims=True)
    entropy = -log_p[:, rows, y]
    value = (entropy.sum() + alpha * divergence.sum()) / (2 * n)
    apart = p * (ratio - divergence) + p - p[::-1]
    gradient = p + alpha * apart
    gradient[:, rows, y] -= 1
    return float(value), (gradient / (2 * n)).reshape(logits.shape)


def train(model, x, y, epochs, alpha, batch_size=BATCH_SIZE):
    """The loop of ``fit``, with every batch twice in one forward pass: each row of it has a mask of its own."""
    for epoch in range(epochs):
        model.train()
        for xb, yb in mc.datasets.batches(x, y, batch_size, seed=model.seed, epoch=epoch):
            _, gradient = r_drop(model.forward(np.concatenate([xb, xb])), yb, alpha)
            model.backward(gradient, input_gradient=False)
            model.optimizer.step()
    model.eval()


def network(seed):
    model = mc.Sequential([
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10),
    ], seed=seed)  # fmt: skip
    loss = mc.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(mc.optimizers.SGD(learning_rate=0.05, momentum=0.9), loss, ["accuracy"])
    return model


def trained(seed, alpha, epochs):
    """(test error in %, test loss), nothing dropped, of one way to train; alpha None: plain dropout."""
    (x, y), (x_test, y_test) = mc.datasets.digits.load_data()
    model = network(seed)
    model.build(x.shape[1:])
    if alpha is None:
        model.fit(x, y, BATCH_SIZE, epochs, verbose=0)
    else:
        train(model, x, y, epochs, alpha)
    loss, accuracy = model.evaluate(x_test, y_test)
    return 100 * (1 - accuracy), loss


def mean(values):
    """The mean of one number per seed with its standard error."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds and 3 epochs instead of ten and 40")
    quick = parser.parse_args().quick
    seeds, epochs = (SEEDS[:2], 3) if quick else (SEEDS, 40)
    print(f"{epochs} epochs, {len(seeds)} seeds, means ± standard errors; in brackets: less that of dropout, paired\n")
    plain = None
    for name, alpha in WAYS.items():
        found = np.array([trained(seed, alpha, epochs) for seed in seeds])
        plain = found if plain is None else plain
        text = f"{name:<20} test error {mean(found[:, 0])} %, test loss {mean(found[:, 1])}"
        if found is not plain:
            text += f"  ({mean(found[:, 0] - plain[:, 0])} %, {mean(found[:, 1] - plain[:, 1])})"
        print(text, flush=True)


if __name__ == "__main__":
    main()
