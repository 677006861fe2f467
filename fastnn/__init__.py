"""fastnn: small and medium neural networks on CPUs, at the speed of the hardware.

>>> import fastnn
>>> from fastnn import Sequential, Dense, ReLU
>>> X, y = fastnn.datasets.digits()
>>> model = Sequential(Dense(64, 32), ReLU(), Dense(32, 10), seed=0)
>>> history = model.fit(
...     X, y, loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(1e-3), epochs=1,
...     progress=False,
... )
>>> model.predict(X).shape
(1797, 10)

By topic (``help(fastnn.Dense)`` and so on tells more):

Models         Sequential: fit, evaluate, predict, predictor, summary, save, state_dict; Predictor
Layers         Dense, Dropout, BatchNorm, LayerNorm, Scale, Flatten; Embedding,
               PeriodicEmbedding; Residual, Block, Heads, Columns: layers made of layers; Layer, to
               derive others from
Images and     Conv2D, MaxPool2D, AvgPool2D, GlobalMaxPool2D, GlobalAvgPool2D, to_nhwc;
sequences      Conv1D, MaxPool1D, AvgPool1D, GlobalMaxPool1D, GlobalAvgPool1D
Activations    Linear, ReLU, LeakyReLU, Sigmoid, Tanh, Softmax, ELU, SELU, Softplus, SiLU, GELU,
               Mish; ParametricActivation
Losses         SoftmaxCrossEntropy, SigmoidCrossEntropy, Hinge; MeanSquaredError,
               MeanAbsoluteError, Huber, Quantile, Poisson; Loss, to derive others from
Optimizers     SGD, Momentum, Nesterov, RMSprop, Adam, AdamW; fan_in_factors; Vector: numbers of no
               layer
Averages       ExponentialMovingAverage, StochasticWeightAverage, update_batch_norm
Schedules      StepDecay, ExponentialDecay, Cosine, OneCycle, CosLog, FlatCosine
Training       History; fit_many: many networks at once; loops of your own: TrainStep,
               GradientStep, batches
Callbacks      EarlyStopping, ReduceOnPlateau, ModelCheckpoint, CSVLogger, TensorBoard;
               Callback and Run, to write others
Metrics        accuracy, auc, f1, r2, confusion_matrix, ... in fastnn.metrics
Files          save, load, save_checkpoint, load_checkpoint, Checkpoint; export_c: a network in C
Data           datasets, batches, stratified_split, Standardizer, TableEncoder
Beginning      initializers, initialize_from_data
Learning how   gradcheck, ExponentialAverage; inspect: weights, activations, gradients in numbers;
               learning_rate_range; fastnn.plot: pictures
The machine    set_num_threads, get_num_threads, threads; set_runtime, get_runtime, runtime;
               build_info

scikit-learn's estimators, trained by fastnn: fastnn.sklearn.  ONNX files: fastnn.onnx.
Networks from and for PyTorch, and from Keras: fastnn.torch, fastnn.keras.  Training on several
processes or machines: fastnn.mpi.
"""

from typing import TYPE_CHECKING

from fastnn.support.installed import use_installed

if TYPE_CHECKING:
    from fastnn.export.c99 import export_c
    from fastnn.looking.inspection import inspect
    from fastnn.looking.range_test import learning_rate_range

if not use_installed(__path__[0]):  # else the installed package stands in this one's place
    from fastnn import datasets, initializers, metrics
    from fastnn._version import __version__
    from fastnn.averages import ExponentialAverage
    from fastnn.data import Standardizer, TableEncoder, batches, stratified_split, to_nhwc
    from fastnn.files.checkpoint import save, save_checkpoint
    from fastnn.from_data import initialize_from_data
    from fastnn.gradcheck import gradcheck
    from fastnn.history import History
    from fastnn.layers import (
        ELU,
        GELU,
        SELU,
        AvgPool1D,
        AvgPool2D,
        BatchNorm,
        Block,
        Columns,
        Conv1D,
        Conv2D,
        Dense,
        Dropout,
        Embedding,
        Flatten,
        GlobalAvgPool1D,
        GlobalAvgPool2D,
        GlobalMaxPool1D,
        GlobalMaxPool2D,
        Heads,
        Layer,
        LayerNorm,
        LeakyReLU,
        Linear,
        MaxPool1D,
        MaxPool2D,
        Mish,
        ParametricActivation,
        PeriodicEmbedding,
        ReLU,
        Residual,
        Scale,
        Sigmoid,
        SiLU,
        Softmax,
        Softplus,
        Tanh,
    )
    from fastnn.losses import (
        Hinge,
        Huber,
        Loss,
        MeanAbsoluteError,
        MeanSquaredError,
        Poisson,
        Quantile,
        SigmoidCrossEntropy,
        SoftmaxCrossEntropy,
    )
    from fastnn.many import fit_many
    from fastnn.model import Checkpoint, Sequential, load, load_checkpoint
    from fastnn.optimizers import (
        SGD,
        Adam,
        AdamW,
        Momentum,
        Nesterov,
        RMSprop,
        fan_in_factors,
    )
    from fastnn.predictor import Predictor
    from fastnn.schedules import (
        Cosine,
        CosLog,
        ExponentialDecay,
        FlatCosine,
        OneCycle,
        StepDecay,
    )
    from fastnn.support.runtimes import get_runtime, runtime, set_runtime
    from fastnn.support.threads import (
        build_info,
        get_num_threads,
        set_defaults,
        set_num_threads,
        threads,
    )
    from fastnn.training.callbacks import Callback, CSVLogger, TensorBoard
    from fastnn.training.gradient_step import GradientStep
    from fastnn.training.monitors import EarlyStopping, ModelCheckpoint, ReduceOnPlateau
    from fastnn.training.run import Run
    from fastnn.training.train_step import TrainStep
    from fastnn.vector import Vector
    from fastnn.weight_averages import (
        ExponentialMovingAverage,
        StochasticWeightAverage,
        update_batch_norm,
    )


_LATER = {  # what is imported when it is used, and the module that has it, or that it is
    "export_c": "export.c99",
    "inspect": "looking.inspection",
    "learning_rate_range": "looking.range_test",
    "mpi": "mpi",
    "plot": "plot",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"{__name__}.{_LATER[name]}")
    return module if name == _LATER[name] else getattr(module, name)


__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "SGD",
    "Adam",
    "AdamW",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNorm",
    "Block",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "Columns",
    "Conv1D",
    "Conv2D",
    "CosLog",
    "Cosine",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "Embedding",
    "ExponentialAverage",
    "ExponentialDecay",
    "ExponentialMovingAverage",
    "FlatCosine",
    "Flatten",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GradientStep",
    "Heads",
    "Hinge",
    "History",
    "Huber",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MaxPool1D",
    "MaxPool2D",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Mish",
    "ModelCheckpoint",
    "Momentum",
    "Nesterov",
    "OneCycle",
    "ParametricActivation",
    "PeriodicEmbedding",
    "Poisson",
    "Predictor",
    "Quantile",
    "RMSprop",
    "ReLU",
    "ReduceOnPlateau",
    "Residual",
    "Run",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SigmoidCrossEntropy",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Standardizer",
    "StepDecay",
    "StochasticWeightAverage",
    "TableEncoder",
    "Tanh",
    "TensorBoard",
    "TrainStep",
    "Vector",
    "__version__",
    "batches",
    "build_info",
    "datasets",
    "export_c",
    "fan_in_factors",
    "fit_many",
    "get_num_threads",
    "get_runtime",
    "gradcheck",
    "initialize_from_data",
    "initializers",
    "inspect",
    "learning_rate_range",
    "load",
    "load_checkpoint",
    "metrics",
    "runtime",
    "save",
    "save_checkpoint",
    "set_num_threads",
    "set_runtime",
    "stratified_split",
    "threads",
    "to_nhwc",
    "update_batch_norm",
]

if "Sequential" in globals():
    for _name in __all__:  # pickles, tracebacks and help shall show the public path
        if getattr(globals().get(_name), "__module__", "").startswith("fastnn."):
            globals()[_name].__module__ = "fastnn"
    set_defaults()
    del _name, set_defaults
del TYPE_CHECKING, use_installed
