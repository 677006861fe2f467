"""Networks as ONNX files, which other programs run and write: `load`.

Needs onnx (``pip install onnx``), which ``import fastnn`` does not.
"""

from importlib.util import find_spec

if find_spec("onnx") is None:
    raise ImportError("fastnn.onnx needs onnx: pip install onnx")

from fastnn.onnx.reading import load

__all__ = ["load"]
del find_spec
