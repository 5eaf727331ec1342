"""Digits in 20 lines: a CNN with dropout learns real handwritten digits and is tested on those of other writers."""

import argparse

import minicnn as mc
from minicnn import layers

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--quick", action="store_true", help="4 epochs instead of 30")
epochs = 4 if options.parse_args().quick else 30

(x, y), (x_test, y_test) = mc.datasets.digits.load_data()  # float32 (n, 8, 8, 1) in [0, 1]; labels 0 to 9
model = mc.Sequential([
    layers.Conv2D(16, 3, padding="same", activation="relu"),
    layers.MaxPooling2D(2),
    layers.Dropout(0.25),
    layers.Flatten(),
    layers.Dense(64, activation="relu"),
    layers.Dropout(0.5),
    layers.Dense(10, activation="softmax"),
], seed=0)  # fmt: skip
model.compile(
    optimizer=mc.optimizers.SGD(learning_rate=0.05, momentum=0.9),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
model.fit(x, y, batch_size=64, epochs=epochs, validation_split=0.1)
model.summary()

loss, accuracy = model.evaluate(x_test, y_test)  # nothing is dropped here, in either mode
print(f"test loss {loss:.4f}, test accuracy {100 * accuracy:.1f} %")

model.save("digits.npz")
labels = mc.Sequential.load("digits.npz").predict(x_test[:10]).argmax(1)
print(f"digits.npz, loaded again, reads the first ten as {labels.tolist()}; they are {y_test[:10].tolist()}")
