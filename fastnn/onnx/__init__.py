"""Networks as ONNX files, which other programs run and write: `export` and `load`.

Needs onnx (``pip install onnx``), which ``import fastnn`` does not.
"""

from importlib.util import find_spec

if find_spec("onnx") is None:
    raise ImportError("fastnn.onnx needs onnx: pip install onnx")

from fastnn.onnx.reading import load
from fastnn.onnx.writing import export

__all__ = ["export", "load"]
del find_spec
