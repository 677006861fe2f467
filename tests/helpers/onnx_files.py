"""Networks written as ONNX, checked and run: by onnxruntime, or where that has no kernel of float64
for an operator, by the evaluator of the onnx package."""

import math
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # onnx may warn at import
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: fastnn.onnx untested")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    import fastnn.onnx

# operators of which onnxruntime, or an older one, has no kernel of float64
ONLY_FLOAT32 = {"AveragePool", "Conv", "Cos", "Elu", "Erf", "Sigmoid", "Softplus"}


class Erf(OpRun):
    """The package's own one gives float32."""

    def _run(self, x):
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class Written:
    """A network or estimator written by export, whose arguments follow the path."""

    def __init__(self, model, folder, **arguments):
        self.path = folder / "net.onnx"
        fastnn.onnx.export(model, self.path, **arguments)
        self.proto = onnx.load(self.path)
        onnx.checker.check_model(self.proto, full_check=True)
        self.graph = self.proto.graph
        self.operators = [node.op_type for node in self.graph.node]
        self.input, self.outputs = self.graph.input[0], [one.name for one in self.graph.output]
        self.dtype = onnx.helper.tensor_dtype_to_np_dtype(self.input.type.tensor_type.elem_type)
        self.arrays = {a.name: onnx.numpy_helper.to_array(a) for a in self.graph.initializer}
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = ort.InferenceSession(self.path, options)
        except NoKernel:
            assert ONLY_FLOAT32 & set(self.operators)
            self._session = ReferenceEvaluator(self.proto, new_ops=[Erf])

    def __call__(self, x):
        """The outputs by their names; x must have the type that the file states."""
        assert x.dtype == self.dtype
        return dict(zip(self.outputs, self._session.run(None, {self.input.name: x}), strict=True))


def dims(info):
    """The shape that the file states of an input or output."""
    return [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]


def assert_close(y, expected, dtype=None):
    """Equal within 1e-5 (float64: 1e-12) of the largest of `expected`."""
    assert y.shape == expected.shape and y.dtype == (dtype or expected.dtype)
    bound = 1e-12 if y.dtype == np.float64 else 1e-5
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound * np.abs(expected).max())
