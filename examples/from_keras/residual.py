"""A small residual network: the imports are minicnn's, and a block is a layer where Keras calls layers on tensors.

python examples/from_keras/residual.py           # CIFAR-10, from $MINICNN_DATA/cifar10 or downloaded

For Keras ``block`` would be written with its functional API::

    def block(x, filters):
        y = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        y = layers.Conv2D(filters, 3, activation="relu", padding="same")(y)
        return layers.add([y, x])
"""

import minicnn as keras
from minicnn import layers


def block(filters):
    return layers.Residual(
        [
            layers.Conv2D(filters, 3, activation="relu", padding="same"),
            layers.Conv2D(filters, 3, activation="relu", padding="same"),
        ]
    )


(x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
x_train = x_train.astype("float32") / 255.0
x_test = x_test.astype("float32") / 255.0
y_train = keras.utils.to_categorical(y_train, 10)
y_test = keras.utils.to_categorical(y_test, 10)

model = keras.Sequential(
    [
        keras.Input(shape=(32, 32, 3)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(3),
        block(64),
        block(64),
        layers.Conv2D(64, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(256, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10),
    ],
    name="toy_resnet",
)
model.summary()

model.compile(
    optimizer=keras.optimizers.RMSprop(1e-3),
    loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    metrics=["acc"],
)
model.fit(x_train, y_train, batch_size=64, epochs=10, validation_split=0.2)

test_scores = model.evaluate(x_test, y_test, verbose=2)
print("Test loss:", test_scores[0])
print("Test accuracy:", test_scores[1])
