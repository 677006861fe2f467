"""Recipe: the network, the optimizer and the schedules of RealMLP-TD, made of fastnn's parts.

D. Holzmüller, L. Grinsztajn, I. Steinwart, 2024, arXiv 2407.04491.  The estimators for tables and
the command line train by it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastnn.data import TableEncoder
from fastnn.from_data import initialize_from_data
from fastnn.initializers import Normal
from fastnn.layers import (
    BatchNorm,
    Block,
    Columns,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Layer,
    ParametricActivation,
    PeriodicEmbedding,
    Scale,
    activations,
)
from fastnn.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from fastnn.model import Sequential
from fastnn.optimizers import AdamW, fan_in_factors
from fastnn.schedules import CosLog, FlatCosine
from fastnn.training.monitors import EarlyStopping

if TYPE_CHECKING:
    from fastnn.schedules import Factors

_EMBEDDING_SIZE = 8
_SLOWLY = 0.1  # as a factor of the learning rate: of biases, embeddings of numbers, activations


@dataclass(frozen=True)
class Recipe:
    """What a network for tables is made of and how it is trained.

    The first settings are arguments of the estimators; with the others each part of the recipe may
    be left out, to see what it is worth."""

    hidden_layer_sizes: tuple[int, ...] = (256, 256, 256)
    activation: str = "selu"
    learning_rate: float = 0.04
    weight_decay: float = 0.02
    dropout: float = 0.15
    label_smoothing: float = 0.1
    periodic_embedding: bool = True
    embedding_sigma: float = 0.1
    front_scale: bool = True
    batch_norm: bool = False  # before each activation; not a part of RealMLP

    robust_scaling: bool = True  # else mean 0 and standard deviation 1, not clipped
    parametric_activation: bool = True
    data_dependent_init: bool = True  # else normal weights of variance 1 / fan in, biases of 0
    fan_in_factors: bool = True  # of the learning rate: 1 / sqrt(fan in) for weights
    group_factors: bool = True  # of the learning rate and the decay, for the other parameters
    learning_rate_schedule: bool = True  # else constant
    dropout_schedule: bool = True
    weight_decay_schedule: bool = True
    beta2: float = 0.95
    last_best_epoch: bool = True  # of epochs that are equally good; else the first of them

    def encoder(self, categorical_features: Any, max_one_hot: int) -> TableEncoder:
        """What makes numbers of a table."""
        robust = self.robust_scaling
        return TableEncoder(
            categorical_features,
            max_one_hot=max_one_hot,
            scaling="robust" if robust else "standard",
            clip=3.0 if robust else None,
            scale_one_hot=robust,
        )

    def network(self, encoder: TableEncoder, outputs: int, seed: int) -> Sequential:
        """A network for what the encoder, after `fit`, gives."""
        layers, features = self._first(encoder)
        if self.front_scale:
            layers.append(Scale(features))
        for width in self.hidden_layer_sizes:
            layers += [Dense(features, width), *[BatchNorm(width)] * self.batch_norm]
            layers.append(self._activation(width))
            if self.dropout:
                layers.append(Dropout(self.dropout))
            features = width
        return Sequential(*layers, Dense(features, outputs), seed=seed)

    def _first(self, encoder: TableEncoder) -> tuple[list[Layer], int]:
        """The layers that take an encoded row, and how many features they make of it."""
        numeric, one_hot, codes = encoder.numeric_, encoder.one_hot_, encoder.codes_
        parts: list[tuple[int, Layer | None]] = []
        features = numeric + one_hot
        if numeric and self.periodic_embedding:
            waves = PeriodicEmbedding(numeric, sigma=self.embedding_sigma)
            parts.append((numeric, waves))
            features += numeric * (waves.out - 1)
        elif numeric:
            parts.append((numeric, None))
        if one_hot:
            parts.append((one_hot, None))
        if codes:
            table = Embedding(encoder.n_codes_, _EMBEDDING_SIZE, weight_init=Normal(1.0))
            parts.append((codes, Block(table, Flatten())))
            features += codes * _EMBEDDING_SIZE
        learnt = [layer for _, layer in parts if layer is not None]
        if learnt and len(parts) > 1:
            return [Columns(*parts)], features
        return learnt, features

    def _activation(self, features: int) -> Layer:
        if self.parametric_activation:
            return ParametricActivation(features, self.activation)
        return activations.resolve(self.activation, "activation")

    def optimizer(self, model: Sequential) -> AdamW:
        """AdamW with a factor of the learning rate, and of the decay, for each parameter.

        A weight of n inputs learns as if it were a factor of 1 / sqrt(n) times a weight of
        variance 1.  Biases do not decay.  Where the public code of RealMLP multiplies the learning
        rate by a factor, the decay, which is multiplied by the learning rate, gets it twice."""
        rates, decays = fan_in_factors(model) if self.fan_in_factors else ({}, {})
        for name, layer in model._chain.named():
            parts: dict[str, tuple[float, float]] = {}
            if isinstance(layer, Dense):
                parts["bias"] = _SLOWLY, 0.0
            elif isinstance(layer, Scale):
                parts["scale"] = 6.0, 6.0
            elif isinstance(layer, ParametricActivation):
                parts["alpha"] = _SLOWLY, _SLOWLY
            elif isinstance(layer, PeriodicEmbedding):
                parts = dict.fromkeys(("frequency", "weight", "bias"), (_SLOWLY, _SLOWLY))
                turn = 2 * math.pi  # phases are in turns here, in radians there
                parts["phase"] = _SLOWLY / turn, _SLOWLY * turn
            for part, (rate, decay) in parts.items():
                rates[f"{name}.{part}"] = rate if self.group_factors else 1.0
                decays[f"{name}.{part}"] = decay if self.group_factors or not decay else 1.0
        return AdamW(
            self.learning_rate,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            learning_rate_factors=rates,
            weight_decay_factors=decays,
        )

    def begin(self, encoder: TableEncoder, outputs: int, rows: Any, seed: int) -> Sequential:
        """A network, with the parameters that it begins with on these rows."""
        model = self.network(encoder, outputs, seed)
        if self.data_dependent_init:
            initialize_from_data(model, rows, seed=seed)
        return model

    def keeper(self, monitor: str) -> EarlyStopping:
        """The callback that keeps the best epoch, and ends nothing."""
        ties = "last" if self.last_best_epoch else "first"
        return EarlyStopping(monitor, patience=None, higher_is_better=True, ties=ties)

    def schedule(self) -> dict[str, Factors]:
        """The factors of learning rate, decay and dropout in the course of training."""
        found: dict[str, Factors] = {}
        if self.learning_rate_schedule:
            found["learning_rate"] = CosLog(4)
        if self.weight_decay_schedule and self.weight_decay:
            found["weight_decay"] = FlatCosine(0.5)
        if self.dropout_schedule and self.dropout and self.hidden_layer_sizes:
            found["dropout"] = FlatCosine(0.5)
        return found

    def loss(self, classifies: bool) -> Loss:
        if classifies:
            return SoftmaxCrossEntropy(label_smoothing=self.label_smoothing)
        return MeanSquaredError()
