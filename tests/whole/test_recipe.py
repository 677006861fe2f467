"""The parts of RealMLP's recipe for tables (D. Holzmüller, L. Grinsztajn, I. Steinwart, 2024)
together: a training is that of the formulas in NumPy, and recorded it has the bits of one by hand.
"""

import math

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import AdamW, CosLog, Dense, Dropout, FlatCosine, Sequential, SoftmaxCrossEntropy

ROWS, FEATURES, HIDDEN, CLASSES, EPOCHS, BATCH = 60, 7, 24, 3, 6, 16
STEPS = math.ceil(ROWS / BATCH)
SCHEDULE = {"learning_rate": CosLog(4), "weight_decay": FlatCosine(), "dropout": FlatCosine()}


class OwnDense(Dense):
    """A custom class, so that its steps are not recorded."""


def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, FEATURES))
    return X, (X @ rng.standard_normal((FEATURES, CLASSES))).argmax(axis=1)


def network(dropout=0.0, last=Dense, dtype="float64"):
    return Sequential(
        Dense(FEATURES, HIDDEN, activation="tanh", weight_init="xavier"), Dropout(dropout),
        last(HIDDEN, CLASSES), seed=2, dtype=dtype,
    )  # fmt: skip


def train(model, eps=1e-8, weight_decay=0.3, **options):
    rates, decays = fastnn.fan_in_factors(model)
    optimizer = AdamW(
        0.04, beta2=0.95, eps=eps, learning_rate_factors={"*.bias": 0.1, **rates},
        weight_decay=weight_decay, weight_decay_factors={"*.bias": 0.0, **decays},
    )  # fmt: skip
    model.fit(
        *data(), loss=SoftmaxCrossEntropy(label_smoothing=0.1), optimizer=optimizer, epochs=EPOCHS,
        batch_size=BATCH, schedule=SCHEDULE, progress=False, **options,
    )  # fmt: skip
    return model


def cos_log(t):
    return 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * t)))


def flat_cosine(t):
    return 1.0 if t < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * t - 1)))


def in_the_ntk_parametrisation(parameters, eps=1e-8):
    """The same training of weights W in y = x W / sqrt(fan in) + b, by AdamW with no factors but
    those of the biases; returns W / sqrt(fan in) and b."""
    values = {name: array.copy() for name, array in parameters.items()}
    roots = {"0.weight": math.sqrt(FEATURES), "2.weight": math.sqrt(HIDDEN)}
    for name, root in roots.items():
        values[name] *= root
    means, squares = ({name: 0.0 * array for name, array in values.items()} for _ in range(2))
    batches = fastnn.batches(*data(), BATCH, shuffle=True, seed=0)
    all_of_them = (batch for _ in range(EPOCHS) for batch in batches)
    for done, (x, y) in enumerate(all_of_them, 1):
        t = (done - 0.5) / (EPOCHS * STEPS)
        rate, decay = 0.04 * cos_log(t), 0.3 * flat_cosine(t)
        for name, gradient in gradients_of(values, roots, x, y).items():
            its = rate * (1.0 if name in roots else 0.1)
            if name in roots:
                values[name] *= 1 - its * decay
            means[name] = 0.9 * means[name] + 0.1 * gradient
            squares[name] = 0.95 * squares[name] + 0.05 * gradient**2
            mean, square = means[name] / (1 - 0.9**done), squares[name] / (1 - 0.95**done)
            values[name] -= its * mean / (np.sqrt(square) + eps)
    return {name: array / roots.get(name, 1.0) for name, array in values.items()}


def gradients_of(values, roots, x, y):
    h = np.tanh(x @ values["0.weight"] / roots["0.weight"] + values["0.bias"])
    logits = h @ values["2.weight"] / roots["2.weight"] + values["2.bias"]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    d = (p - (0.9 * np.eye(CLASSES)[y] + 0.1 / CLASSES)) / len(x)
    dz = d @ values["2.weight"].T / roots["2.weight"] * (1 - h**2)
    return {
        "0.weight": x.T @ dz / roots["0.weight"], "0.bias": dz.sum(axis=0),
        "2.weight": h.T @ d / roots["2.weight"], "2.bias": d.sum(axis=0),
    }  # fmt: skip


def test_fan_in_factors_train_as_the_ntk_parametrisation():
    """With all schedules; but for `eps`, which is another there, only rounding differs."""
    model = network()
    expected = in_the_ntk_parametrisation(model.parameters, eps=1e-30)
    begun = {name: array.copy() for name, array in model.parameters.items()}
    train(model, eps=1e-30)
    for name, array in model.parameters.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-9, atol=1e-11)
        assert np.abs(array - begun[name]).max() > 1e-3
    usual = in_the_ntk_parametrisation(network().parameters)
    for name, array in train(network()).parameters.items():
        np.testing.assert_allclose(array, usual[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recorded_as_by_hand(dtype, threads, isa):
    model = train(network(0.15, dtype=dtype))
    hand = train(network(0.15, OwnDense, dtype))
    assert_same_bits(model.flat_parameters, hand.flat_parameters)
