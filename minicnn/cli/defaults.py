"""The words that options take, and what holds where an option is left out.  Imports nothing."""

MODELS = ("small", "lenet5", "keras_mnist", "keras_cifar", "resnet8", "resnet20")  # networks.NETWORKS
WITH_DROPOUT = ("small", "keras_mnist", "keras_cifar")
OPTIMIZERS = {  # names, and their learning rates
    "sgd": 0.05,
    "rmsprop": 0.001,
    "adagrad": 0.01,
    "adadelta": 1.0,
    "adam": 0.001,
    "adamw": 0.001,
    "adamax": 0.002,
    "nadam": 0.001,
}
SCHEDULES = ("constant", "exponential", "cosine", "step", "one-cycle", "plateau")
OVER_ALL_EPOCHS = ("cosine", "step", "one-cycle")  # their rates depend on the number of epochs
COLORS = ("rgb", "grayscale", "rgba")
FITS = ("stretch", "crop", "pad")
IMAGE_SIZE, COLOR = (32, 32), "rgb"
MOMENTUM, DROPOUT = 0.9, 0.5
DECAY = 0.93  # of "exponential": the factor of the rate from epoch to epoch

_OWN = {
    "model": "small",
    "epochs": 30,
    "batch_size": 32,
    "optimizer": "adam",
    "schedule": "constant",
    "validation": 0.2,
    "compare": False,
}
_LARGE = _OWN | {"epochs": 10, "batch_size": 64, "validation": 0.0}
_DIGITS = _OWN | {"optimizer": "sgd", "schedule": "exponential", "validation": 0.0, "compare": True}

OWN = "pictures"  # the key of pictures of one's own
SETTINGS = {
    "digits": _DIGITS,
    "mnist": _DIGITS | {"epochs": 5, "batch_size": 64},
    "fashion_mnist": _LARGE,
    "kmnist": _LARGE,
    "cifar10": _LARGE,
    "cifar100": _LARGE,
    OWN: _OWN,
}
DECAYS = {"mnist": 0.6}
DATA = tuple(name for name in SETTINGS if name != OWN)
AUGMENT = {  # words of --augment, and what holds without a value
    "flip": "horizontal",
    "translation": "0.1",
    "rotation": "0.05",
    "zoom": "0.1",
    "crop": "1/8",  # of each side
    "contrast": "0.2",
    "brightness": "0.1",
    "erasing": "0.5",
}
FLIPS = ("horizontal", "vertical", "both")
STANDARD = "standard"
STANDARD_FOR = {"writing": "translation,rotation", "pictures": "crop,flip"}  # docs/augmentation.md
WRITING = ("digits", "mnist", "kmnist")
ON_BLACK = (*WRITING, "fashion_mnist")
RATES = (0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # tune.RATES
