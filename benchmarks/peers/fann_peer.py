"""FANN, the Fast Artificial Neural Network library (Debian's libfann-dev), called by ctypes.

A step is an epoch of batch training on the one batch: forward, squared error, backward and plain
gradient descent.  It has no Adam, no cross-entropy, no ReLU and one thread, so it does less than
the others, and runs the rows with tanh alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes.util import find_library
from typing import Any

import numpy as np

from cases import ConvNet, Network, Unsupported

BATCH, LINEAR, TANH = 1, 0, 5  # in FANN's enums
FLOATS = ctypes.POINTER(ctypes.c_float)

fann = ctypes.CDLL(find_library("floatfann"))
fann.fann_create_standard_array.restype = ctypes.c_void_p
fann.fann_create_train_from_callback.restype = ctypes.c_void_p


def train(network: Network | ConvNet) -> Callable[[], Any]:
    if isinstance(network, ConvNet) or network.activation != "tanh":
        raise Unsupported("FANN has dense layers with tanh only")
    sizes = (ctypes.c_uint * len(network.sizes))(*network.sizes)
    net = ctypes.c_void_p(fann.fann_create_standard_array(len(sizes), sizes))
    fann.fann_set_activation_function_hidden(net, TANH)
    fann.fann_set_activation_steepness_hidden(net, ctypes.c_float(1))
    fann.fann_set_activation_function_output(net, LINEAR)
    fann.fann_set_training_algorithm(net, BATCH)
    fann.fann_set_train_error_function(net, LINEAR)
    fann.fann_set_learning_rate(net, ctypes.c_float(network.learning_rate))
    batch = samples(network)
    return lambda: fann.fann_train_epoch(net, batch)


def samples(network: Network) -> ctypes.c_void_p:
    """The batch, copied into FANN's memory; labels as one-hot rows."""
    x, y = network.data()
    if not network.regression:
        y = np.eye(network.sizes[-1], dtype=np.float32)[y]

    @ctypes.CFUNCTYPE(None, *[ctypes.c_uint] * 3, FLOATS, FLOATS)
    def copy(i: int, inputs: int, outputs: int, x_row: Any, y_row: Any) -> None:
        ctypes.memmove(x_row, x[i].ctypes.data, 4 * inputs)
        ctypes.memmove(y_row, y[i].ctypes.data, 4 * outputs)

    counts = (ctypes.c_uint(n) for n in (network.batch, network.sizes[0], network.sizes[-1]))
    return ctypes.c_void_p(fann.fann_create_train_from_callback(*counts, copy))
