"""The layers.  ``__all__`` is their registry: saved models name them by it, and the contract tests run over it.

Read ``dropout.py`` first.  The contract that all of them keep is in ``minicnn/layer.py``.
"""

from minicnn.layers.activation import (
    ELU,
    GELU,
    SELU,
    Activation,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Swish,
    Tanh,
)
from minicnn.layers.alpha_dropout import AlphaDropout
from minicnn.layers.augment import (
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
)
from minicnn.layers.compose import Chain, Concurrent, Residual
from minicnn.layers.compose import Composite as Composite  # a base class: not in the registry
from minicnn.layers.conv import Conv2D
from minicnn.layers.dense import Dense
from minicnn.layers.depthwise import DepthwiseConv2D, SeparableConv2D
from minicnn.layers.drop_block import DropBlock2D
from minicnn.layers.dropconnect import DropConnect
from minicnn.layers.dropout import Dropout, SpatialDropout2D
from minicnn.layers.gaussian import GaussianDropout, GaussianNoise
from minicnn.layers.input import Input as Input
from minicnn.layers.input import InputLayer as InputLayer
from minicnn.layers.norm import BatchNormalization, GroupNormalization, LayerNormalization
from minicnn.layers.normalization import Normalization
from minicnn.layers.pool import AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D
from minicnn.layers.reshape import Cropping2D, Flatten, Permute, Rescaling, Reshape, UpSampling2D, ZeroPadding2D
from minicnn.layers.resizing import Resizing
from minicnn.layers.stochastic_depth import StochasticDepth
from minicnn.layers.temperature import Temperature
from minicnn.layers.transpose import Conv2DTranspose

# Keras's short names, and PyTorch's SiLU.  The registry has each class once.
AvgPool2D = AveragePooling2D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalMaxPool2D = GlobalMaxPooling2D
MaxPool2D = MaxPooling2D
SiLU = Swish

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "AlphaDropout",
    "AveragePooling2D",
    "BatchNormalization",
    "Chain",
    "Concurrent",
    "Conv2D",
    "Conv2DTranspose",
    "Cropping2D",
    "Dense",
    "DepthwiseConv2D",
    "DropBlock2D",
    "DropConnect",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "LayerNormalization",
    "LeakyReLU",
    "LogSoftmax",
    "MaxPooling2D",
    "Normalization",
    "PReLU",
    "Permute",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Residual",
    "Resizing",
    "SeparableConv2D",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SpatialDropout2D",
    "StochasticDepth",
    "Swish",
    "Tanh",
    "Temperature",
    "UpSampling2D",
    "ZeroPadding2D",
]
