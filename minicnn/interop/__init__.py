"""Models and weights from other frameworks' files, and into them: ONNX, PyTorch, Keras, safetensors.

What one side says and the other cannot is a ``ConversionError``: nothing is guessed, nothing is left out silently.
The libraries that read and write the files are optional extras, imported where they are used: ``onnx`` and ``interop``.
"""

from minicnn.interop.errors import ConversionError
from minicnn.interop.onnx_reader import from_onnx

__all__ = ["ConversionError", "from_onnx"]
