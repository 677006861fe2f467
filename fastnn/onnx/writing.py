"""export: a network as an ONNX file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from fastnn._version import __version__
from fastnn.data import TableEncoder
from fastnn.export.ends import category_numbers, column_names, exported, row_shape
from fastnn.files import safefile
from fastnn.layers import Embedding
from fastnn.layers.block import plain_layers
from fastnn.network import Network
from fastnn.onnx.ends import Result, add_results, add_scaler
from fastnn.onnx.graph import Graph, Value
from fastnn.onnx.nodes import add_layers
from fastnn.support import checks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from fastnn.export.ends import Estimator
    from fastnn.predictor import Ensemble

_NAMES = ("output", "output_label", "output_probability", "output_score", "variable")
OPSET, IR_VERSION = 17, 8  # the first that has LayerNormalization, and the format of its time
_MOST = 2**31 - 2**24  # bytes of arrays: those of the file are fewer than 2^31


def export(
    model: Network | Estimator,
    path: str | PathLike[str],
    *,
    input_name: str = "input",
    output_names: str | Sequence[str] | None = None,
    channels: str = "last",
    shape: tuple[int, ...] | None = None,
    scalers: bool = True,
) -> None:
    """Write the network as an ONNX file, for onnxruntime and others.

    The operators are those of opset 17.  Dropout is gone; the number of rows is free, as dimension
    "batch"; the input has the model's dtype, but codes are int64 where the model begins with an
    `Embedding`.  Arrays have the names of the model's parameters.  Outputs are equal to `predict`
    but for rounding; a model with ``compute="bfloat16"`` is computed in float32.  An old file is
    replaced when the new one is whole and on the disk.

    Parameters
    ----------
    model : a `Sequential` of fastnn's own layers, or an estimator of `fastnn.sklearn` after `fit`
        A model has one output, "output", and with `classes` that are as many "output_label"
        besides: the class of the largest output.  Classifiers have "output_label" (batch,), int64,
        text, bool or double as their `classes_`, and "output_probability" (batch, classes), of the
        hinge loss "output_score"; of multilabel targets both are (batch, labels).  Regressors have
        "variable" (batch, outputs).
    path : such as ``"net.onnx"``
    input_name, output_names : other names, the latter one or as many as there are outputs
    channels : "last" or "first"
        Images are (batch, height, width, channels), as in fastnn, and are transposed within the
        file where an operator needs it; or (batch, channels, height, width), as in PyTorch.  So are
        sequences, and outputs that are images or sequences.
    shape : of a row, in fastnn's order such as ``(28, 28, 1)``, for a model that takes several
    scalers : whether the model's `scaler` and `target_scaler`, if there are any, are written in
        They are computed in double; the output is rounded to the model's dtype.  With a
        `TableEncoder` the input is double, and so are values in the unit of a target scaler:
        categories as `export_c` takes them, NaN for what is missing.  Infinity is not refused, as
        `transform` does.

    In the file's metadata stand, as JSON, "features", the names of columns; "categories", for each
    column the texts whose places from 0 it takes, or null; and "classes".

    Raises TypeError or ValueError for a layer of your own, names that are equal or too few, a shape
    that the model does not take, scalers of other sizes, categories that are numbers but no
    doubles, classes of other types, and arrays of 2 GB; scikit-learn's NotFittedError before `fit`;
    OSError if it cannot write.

    >>> import tempfile, onnx, fastnn.onnx
    >>> from fastnn import Dense, Sequential
    >>> model = Sequential(Dense(4, 64, activation="tanh"), Dense(64, 2), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fastnn.onnx.export(model, f"{folder}/net.onnx", output_names="logits")
    ...     written = onnx.load(f"{folder}/net.onnx")
    >>> [node.op_type for node in written.graph.node], written.graph.output[0].name
    (['Gemm', 'Tanh', 'Gemm'], 'logits')
    """
    ensemble = exported(model, checks.flag(scalers, "scalers"))
    is_first = checks.choice(channels, "channels", ("last", "first")) == "first"
    wanted = [] if output_names is None else _checked_names(output_names, "output_names")
    names = [*_checked_names([input_name], "input_name"), *wanted]
    network = ensemble.model
    scaler, target_scaler = (network.scaler, network.target_scaler) if scalers else (None, None)
    shape = row_shape(network, shape, scaler)
    arrays = network.flat_parameters, *network.state.values()
    if sum(array.nbytes for array in arrays) > _MOST:
        raise ValueError("model: expected arrays of less than 2 GB, the most that ONNX holds")
    graph = Graph(network.dtype, [*names, *_NAMES])
    is_table = isinstance(scaler, TableEncoder)
    x, entry = _input(network, scaler, Value(input_name, shape, is_first), graph)
    y = add_layers(network.layers, add_scaler(scaler, x, shape, graph), graph)
    results = add_results(
        ensemble, target_scaler, graph.turned(y, is_first),
        is_estimator=not isinstance(model, Network), exact=is_table, graph=graph,
    )  # fmt: skip
    inputs = [_info(input_name, entry, x.dims)]
    outputs = _name_outputs(results, wanted, input_name, graph)
    metadata = _metadata(model, scaler, ensemble)
    safefile.replace(os.fsdecode(path), _file(graph, inputs, outputs, metadata))


export.__module__ = "fastnn.onnx"


def _checked_names(value: str | Sequence[str], argument: str) -> list[str]:
    """The name or names as a list; TypeError or ValueError for others."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument}: expected a name or several, got {value!r}")
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"{argument}: expected names that differ and are not empty, got {value!r}")
    if any("\ud800" <= letter <= "\udfff" for letter in "".join(names)):
        raise ValueError(f"{argument}: expected text that UTF-8 can hold, got {value!r}")
    return list(names)


def _input(network: Network, scaler: Any, x: Value, graph: Graph) -> tuple[Value, np.dtype[Any]]:
    """What the file takes, and its type."""
    if isinstance(scaler, TableEncoder):
        return Value(x.name, (scaler.n_features_in_,)), np.dtype(np.float64)
    if scaler is None and isinstance(plain_layers(network.layers)[0], Embedding):
        graph.takes_codes = True
        return Value(x.name, x.shape), np.dtype(np.int64)
    return x._replace(first=x.first and len(x.shape) > 1), network.dtype


def _name_outputs(
    results: list[Result], wanted: list[str], input_name: str, graph: Graph
) -> list[ValueInfoProto]:
    """Give the outputs their names."""
    names = wanted or [result.name for result in results]
    if len(names) != len(results):
        its = ", ".join(result.name for result in results)
        raise ValueError(f"output_names: expected {len(results)} names, for {its}, got {wanted}")
    if input_name in names:
        raise ValueError(f"input_name: expected another name than the outputs', got {input_name!r}")
    for result, name in zip(results, names, strict=True):
        graph.give(result.value, name)
    return [
        _info(name, result.dtype, result.dims) for result, name in zip(results, names, strict=True)
    ]


def _info(name: str, dtype: np.dtype[Any], dims: list[int]) -> ValueInfoProto:
    text = dtype == np.dtype(object)
    kind = TensorProto.STRING if text else helper.np_dtype_to_tensor_dtype(dtype)
    return helper.make_tensor_value_info(name, kind, ["batch", *dims])


def _metadata(model: Any, scaler: Any, ensemble: Ensemble) -> dict[str, str]:
    """What the file says of its columns and classes, as JSON."""
    found: dict[str, Any] = {}
    features = getattr(model, "feature_names_in_", None)
    if isinstance(scaler, TableEncoder):
        features = column_names(scaler)
        found["categories"] = [None] * len(features)
        for column in scaler._columns:
            if not category_numbers(scaler, column)[1]:
                found["categories"][column.i] = list(column.numbers)
    if features is not None:
        found["features"] = list(features)
    if ensemble.classes is not None:
        found["classes"] = list(ensemble.classes)
    return {name: json.dumps(value, default=str) for name, value in found.items()}


def _file(
    graph: Graph,
    inputs: list[ValueInfoProto],
    outputs: list[ValueInfoProto],
    metadata: dict[str, str],
) -> bytes:
    """The file's bytes."""
    body = helper.make_graph(graph.nodes, "fastnn", inputs, outputs, graph.arrays)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="fastnn", producer_version=__version__,
        doc_string="A neural network, written by fastnn in evaluation mode.",
    )  # fmt: skip
    helper.set_model_props(model, metadata)
    data: bytes = model.SerializeToString()
    return data
