"""A training loop by hand, with train() and eval(), and the proof that ``fit`` does the same, to the bit."""

import argparse

import minicnn as mc
from minicnn import layers

BATCH_SIZE = 64


def network():
    model = mc.Sequential([
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ], seed=0)  # fmt: skip
    model.compile(mc.optimizers.SGD(learning_rate=0.05, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def accuracy(model, x, y):
    """The share of right answers, in the mode in which the model is."""
    return (model.forward(x).argmax(1) == y).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 epochs instead of 20")
    epochs = 3 if parser.parse_args().quick else 20
    (x, y), (x_test, y_test) = mc.datasets.digits.load_data()

    model = network()
    for epoch in range(epochs):
        model.train()  # from here on forward drops and keeps what backward needs
        total = 0.0
        for xb, yb in mc.datasets.batches(x, y, BATCH_SIZE, seed=model.seed, epoch=epoch):
            outputs = model.forward(xb)
            loss, gradient = model.loss(outputs, yb)  # the mean over the batch
            model.backward(gradient)  # overwrites the gradients: there is nothing to set to zero before
            model.optimizer.step()
            total += loss * len(xb)
        model.eval()  # from here on nothing is dropped
        right = 100 * accuracy(model, x_test, y_test)
        print(f"epoch {epoch + 1}  loss {total / len(x):.4f}  test accuracy {right:.1f} %")

    model.train()
    forgotten = 100 * accuracy(model, x_test, y_test)
    model.eval()
    print(f"with eval() forgotten the same weights would have scored {forgotten:.1f} %, and another figure each time")

    twin = network()
    twin.fit(x, y, BATCH_SIZE, epochs, verbose=0)
    print(f"by hand {model.fingerprint()}")
    print(f"by fit  {twin.fingerprint()}")
    print("the same bits" if model.fingerprint() == twin.fingerprint() else "DIFFERENT BITS")


if __name__ == "__main__":
    main()
