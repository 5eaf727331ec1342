"""Models and weights from other frameworks' files, and into them: ONNX, PyTorch, Keras, safetensors.

What one side says and the other cannot is a ``ConversionError``: nothing is guessed, nothing is left out silently.
The libraries that read and write the files are optional extras, imported where they are used: ``onnx`` and ``interop``.
"""

from minicnn.interop.errors import ConversionError
from minicnn.interop.keras_files import from_keras
from minicnn.interop.keras_weights import load_keras_weights
from minicnn.interop.onnx_reader import from_onnx
from minicnn.interop.safetensors_files import load_safetensors, save_safetensors
from minicnn.interop.torch_weights import load_torch, to_torch

__all__ = [
    "ConversionError",
    "from_keras",
    "from_onnx",
    "load_keras_weights",
    "load_safetensors",
    "load_torch",
    "save_safetensors",
    "to_torch",
]
