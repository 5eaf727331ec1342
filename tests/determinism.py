"""Training that passes through every kind of layer, and what comes out of it as one number.

A layer that stands in none of the chains, as one in Python may, is trained by itself, as the table of the contract has
it.
"""

import hashlib

import numpy as np
from test_layer_contract import TABLE, new

import minicnn as mc
from minicnn import layers

# Several chains, so that all layers of the registry find a place; channels and sizes that fill no vector evenly.
CHAINS = (
    [
        lambda: layers.Rescaling(2.0, -1.0),
        lambda: layers.ZeroPadding2D(2),
        lambda: layers.Cropping2D(((1, 1), (2, 0))),
        lambda: layers.DepthwiseConv2D(3, padding=((0, 1), (0, 1)), depth_multiplier=2, activation="relu"),
        lambda: layers.Conv2D(10, 3, padding="same", activation="relu"),
        lambda: layers.BatchNormalization(),
        lambda: layers.MaxPooling2D(2),
        lambda: layers.Conv2D(20, (3, 2), strides=(2, 1), groups=2, dilation_rate=(1, 2), activation="gelu"),
        lambda: layers.GaussianNoise(0.1),
        lambda: layers.Dropout(0.2),
        lambda: layers.AveragePooling2D(2, strides=1, padding="same"),
        lambda: layers.SeparableConv2D(20, 3, padding=1, activation="tanh"),
        lambda: layers.SpatialDropout2D(0.3),
        lambda: layers.DropBlock2D(0.3, 2),
        lambda: layers.ELU(0.7),
        lambda: layers.PReLU("he_normal", shared_axes=[1, 2]),
        lambda: layers.GroupNormalization(5),
        lambda: layers.Conv2D(7, 1),
        lambda: layers.LayerNormalization(),
        lambda: layers.GlobalAveragePooling2D(),
        lambda: layers.Tanh(),
        lambda: layers.Dense(8, activation=layers.LeakyReLU(0.2)),
        lambda: layers.SELU(),
        lambda: layers.Dense(8),
        lambda: layers.HardSwish(),
        lambda: layers.LogSoftmax(),
        lambda: layers.Dense(5),
        lambda: layers.Temperature(1.5),
        lambda: layers.Softmax(),
    ],
    [
        lambda: layers.Reshape((13, 11, 3)),
        lambda: layers.Conv2D(33, 3, kernel_initializer="he_normal"),
        lambda: layers.LeakyReLU(0.1),
        lambda: layers.Dropout(0.5, mode="classical"),
        lambda: layers.Flatten(),
        lambda: layers.Dense(37),
        lambda: layers.ReLU(max_value=1.0),
        lambda: layers.PReLU(),
        lambda: layers.LayerNormalization(),
        lambda: layers.GaussianDropout(0.3),
        lambda: layers.DropConnect(33, 0.3, activation="elu"),
        lambda: layers.Dense(30, activation="tanh"),
        lambda: layers.AlphaDropout(0.2),
        lambda: layers.GroupNormalization(6, scale=False),
        lambda: layers.Reshape((5, 6, 1)),
        lambda: layers.Dropout(0.1, noise_shape=(None, None, 1, 1)),
        lambda: layers.GELU(),
        lambda: layers.Activation("sigmoid"),
        lambda: layers.GlobalMaxPooling2D(),
        lambda: layers.Dense(5),
        lambda: layers.Sigmoid(),
    ],
    [
        lambda: layers.Conv2D(6, 3, padding="same", activation="relu"),
        lambda: layers.Residual(
            [layers.Conv2D(9, 3, padding="same"), layers.LayerNormalization([1, 2, 3]), layers.StochasticDepth(0.2)],
            layers.Conv2D(9, 1),
            activation="elu",
        ),
        lambda: layers.Concurrent([[], [layers.Conv2D(5, 3, padding="same"), layers.StochasticDepth(0.3, "batch")]]),
        lambda: layers.StochasticDepth(0.2),
        lambda: layers.Chain([layers.Conv2D(7, 3, activation="softplus"), layers.MaxPooling2D(2)]),
        lambda: layers.ReLU(),
        lambda: layers.Softplus(),
        lambda: layers.Swish(),
        lambda: layers.HardSigmoid(),
        lambda: layers.UpSampling2D((2, 3), "bilinear"),
        lambda: layers.Conv2DTranspose(9, 3, strides=2, padding="same", activation="tanh"),
        lambda: layers.Permute((2, 3, 1)),
        lambda: layers.Flatten(),
        lambda: layers.Dense(5),
    ],
    [
        lambda: layers.Resizing(11, 13, crop_to_aspect_ratio=True),
        lambda: layers.Normalization(None, 0.5, 0.25),
        lambda: layers.Normalization([3], [0.5, 0.5, 0.5], 0.25, invert=True),
        lambda: layers.Resizing(12, 9, "nearest"),
        lambda: layers.RandomBrightness(0.2, (0, 1)),
        lambda: layers.RandomErasing(0.7, value_range=(0, 1)),
        lambda: layers.ZeroPadding2D(2),
        lambda: layers.RandomCrop(13, 10),
        lambda: layers.RandomFlip(),
        lambda: layers.RandomContrast(0.4, (0, 1)),
        lambda: layers.RandomTranslation(0.2, (-0.1, 0.3)),
        lambda: layers.Conv2D(5, 3, padding="same", activation="relu"),
        lambda: layers.RandomZoom(0.3, fill_mode="wrap"),
        lambda: layers.RandomRotation(0.1, fill_mode="constant", fill_value=0.5),
        lambda: layers.RandomContrast(0.4, (0, 1)),
        lambda: layers.RandomErasing(fill_value=0.25, value_range=None),
        lambda: layers.Conv2D(5, 3),
        lambda: layers.GlobalAveragePooling2D(),
    ],
)
LOSSES = ("sparse_categorical_crossentropy", "binary_crossentropy", *["sparse_categorical_crossentropy"] * 2)
OPTIMIZERS = (
    lambda: mc.optimizers.SGD(0.05, momentum=0.9, nesterov=True, clipnorm=1.0),
    lambda: mc.optimizers.AdamW(0.01),
    lambda: mc.optimizers.Adam(0.01),
    lambda: mc.optimizers.SGD(0.05),
)


def fingerprint(dtype="float32"):
    """SHA-256 over everything that two trainings leave behind: weights, losses, predictions."""
    digest = hashlib.sha256()
    rng = np.random.default_rng(5)
    x, labels = rng.random((40, 13, 11, 3)), np.arange(40) % 5
    runs = [*zip(CHAINS, LOSSES, OPTIMIZERS, [x] * len(CHAINS), strict=True)]
    for name in sorted(set(layers.__all__) - {type(make()).__name__ for chain in CHAINS for make in chain}):
        chain = [lambda name=name: new(name), layers.Flatten, lambda: layers.Dense(5)]
        runs.append((chain, LOSSES[0], OPTIMIZERS[0], rng.random((40, *TABLE[name][1]))))
    for chain, loss, optimizer, inputs in runs:
        model = mc.Sequential([make() for make in chain], seed=3, dtype=dtype)
        y = labels if loss.startswith("sparse") else np.eye(5)[labels]
        model.compile(optimizer(), loss)
        history = model.fit(inputs, y, batch_size=17, epochs=1, validation_split=0.2, verbose=0).history
        digest.update(f"{model.fingerprint()} {history}".encode())
        digest.update(model.predict(inputs).tobytes())
    return digest.hexdigest()
