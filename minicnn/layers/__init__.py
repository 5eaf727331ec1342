"""The layers.  ``__all__`` is their registry: saved models name them by it, and the contract tests run over it.

Read ``dropout.py`` first.  The contract that all of them keep is in ``minicnn/layer.py``.
"""

from minicnn.layers.activation import ELU, GELU, Activation, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from minicnn.layers.compose import Chain, Concurrent, Residual
from minicnn.layers.compose import Composite as Composite  # a base class: not in the registry
from minicnn.layers.conv import Conv2D, Conv2DTranspose
from minicnn.layers.dense import Dense
from minicnn.layers.dropconnect import DropConnect
from minicnn.layers.dropout import Dropout, SpatialDropout2D
from minicnn.layers.gaussian import GaussianDropout
from minicnn.layers.input import Input as Input
from minicnn.layers.norm import BatchNormalization
from minicnn.layers.pool import AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D
from minicnn.layers.reshape import Flatten, Permute, Rescaling, Reshape, UpSampling2D, ZeroPadding2D

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Chain",
    "Concurrent",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DropConnect",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "LeakyReLU",
    "MaxPooling2D",
    "Permute",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Residual",
    "Sigmoid",
    "Softmax",
    "SpatialDropout2D",
    "Tanh",
    "UpSampling2D",
    "ZeroPadding2D",
]
