"""Known networks by name: what the command line trains.

Each is a function ``(input_shape, classes=10, dropout=...)`` that gives the list of layers of a classifier for images
(H, W, C); it ends in a softmax over the classes.  Put ``layers.Rescaling(1 / 255)`` before it for bytes.

    model = mc.Sequential([layers.Rescaling(1 / 255), *mc.networks.small((32, 32, 3), 5)])

``dropout`` is a rate in [0, 1]; None is the rate that the network is known with.  Networks that are known without
dropout have no such argument.
"""

from minicnn import _check, layers, regularizers

PENALTY = 0.5e-4  # of the residual networks: the paper's weight decay of 0.0001 as the factor of a sum of squares


def small(input_shape, classes=10, dropout=0.5):
    """A network with dropout before its last layer, and with half the rate after the pooling.

    Images whose shorter side is below 16 get two convolutions, others pairs of convolution and pooling until at most 8
    pixels are left along a side.
    """
    height, width, _ = _image("small", input_shape)
    dropout = 0.5 if dropout is None else dropout
    if min(height, width) < 16:
        chain = [
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(dropout / 2),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
        ]
    else:
        chain, filters = [], 32
        while not chain or (max(height, width) > 8 and min(height, width) >= 4):
            chain += [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D(2)]
            height, width, filters = (height - 2) // 2, (width - 2) // 2, 64
        chain.append(layers.Dropout(dropout / 2))
    return [
        *chain,
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(dropout),
        layers.Dense(classes, activation="softmax"),
    ]


def lenet5(input_shape, classes=10):
    """LeNet-5 with ReLUs and max-pooling, as it is taught today; for sides of 12 pixels or more.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of
    the IEEE 86 (1998), section II.B.
    """
    _image("lenet5", input_shape, 12)
    return [
        layers.Conv2D(6, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(120, activation="relu"),
        layers.Dense(84, activation="relu"),
        layers.Dense(classes, activation="softmax"),
    ]


def keras_mnist(input_shape, classes=10, dropout=0.5):
    """The network of Keras's example "Simple MNIST convnet"; for sides of 10 pixels or more."""
    _image("keras_mnist", input_shape, 10)
    return [
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.5 if dropout is None else dropout),
        layers.Dense(classes, activation="softmax"),
    ]


def keras_cifar(input_shape, classes=10, dropout=0.5):
    """The network of Keras's example for CIFAR-10, with half of ``dropout`` after each pooling; for sides of 10 pixels
    or more."""
    _image("keras_cifar", input_shape, 10)
    dropout = 0.5 if dropout is None else dropout
    chain = []
    for filters in (32, 64):
        chain += [
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.Conv2D(filters, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(dropout / 2),
        ]
    return [
        *chain,
        layers.Flatten(),
        layers.Dense(512, activation="relu"),
        layers.Dropout(dropout),
        layers.Dense(classes, activation="softmax"),
    ]


def resnet8(input_shape, classes=10):
    """The residual network of 8 layers: one block in each stage."""
    _image("resnet8", input_shape)
    return _resnet(8, classes)


def resnet20(input_shape, classes=10):
    """The residual network of 20 layers: three blocks in each stage.

    Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2; where the
    shape changes, the way around is a convolution of 1 x 1 (the paper's option B).
    """
    _image("resnet20", input_shape)
    return _resnet(20, classes)


def _resnet(depth, classes):
    chain = [*_normed(16), layers.ReLU()]
    for stage, filters in enumerate((16, 32, 64)):
        for place in range((depth - 2) // 6):
            strides = 2 if stage and not place else 1
            body = [*_normed(filters, strides=strides), layers.ReLU(), *_normed(filters)]
            shortcut = _normed(filters, size=1, strides=strides) if strides > 1 else None
            chain.append(layers.Residual(body, shortcut, activation="relu"))
    return [*chain, layers.GlobalAveragePooling2D(), layers.Dense(classes, activation="softmax")]


def _normed(filters, size=3, strides=1):
    """A convolution without bias, which the normalisation behind it would take away again."""
    convolution = layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=regularizers.L2(PENALTY),
    )
    return [convolution, layers.BatchNormalization(momentum=0.9)]


NETWORKS = {
    "small": small,
    "lenet5": lenet5,
    "keras_mnist": keras_mnist,
    "keras_cifar": keras_cifar,
    "resnet8": resnet8,
    "resnet20": resnet20,
}


def _image(name, input_shape, least=2):
    """(H, W, C); ValueError for what is no shape of images, or where a side is below ``least``."""
    shape = _check.sample_shape(f"networks.{name}", input_shape)
    if len(shape) != 3 or min(shape[:2]) < least:
        required = f"input_shape must be (height, width, channels) with at least {least} x {least} pixels"
        raise ValueError(_check.message(f"networks.{name}", required, input_shape))
    return shape
