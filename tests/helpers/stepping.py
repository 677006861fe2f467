"""Networks, batches and hand-written loops for the tests of recorded steps."""

import numpy as np

from compare import assert_same_bits
from fastnn import (
    BatchNorm,
    Dense,
    Dropout,
    GradientStep,
    LayerNorm,
    LeakyReLU,
    ReLU,
    Sequential,
    TrainStep,
)

FEATURES, CLASSES = 7, 3
SIZES = (16, 16, 5, 16, 5, 16)


def by_hand(model, loss, optimizer, batches):
    """The loop of docs/howto/own_loop.md; returns each step's loss, penalty included."""
    values = []
    for xb, yb, *weight in batches:
        outputs = model.forward(xb, training=True)
        value, gradient = loss(outputs, yb, *weight)
        value = np.array([value])
        model._chain.add_penalty(value, len(xb))
        model.backward(gradient)
        optimizer.step(model)
        values.append(value[0])
    return values


def assert_alike(model, expected):
    assert_same_bits(model.flat_parameters, expected.flat_parameters)
    state = model.state_dict()
    for name, array in expected.state_dict().items():
        assert_same_bits(state[name], array)
    assert model._counter == expected._counter


def assert_same_training(make, loss, make_optimizer, batches):
    """TrainStep gives the losses, parameters and statistics of the hand-written loop."""
    hand, model = make(), make()
    step = TrainStep(model, loss, make_optimizer())
    assert step.recorded
    expected = by_hand(hand, loss, make_optimizer(), batches)
    assert [step(*batch) for batch in batches] == expected
    assert np.isfinite(expected).all() and step.steps == len(batches)
    assert np.isfinite(model.flat_parameters).all()
    assert_alike(model, hand)


def draw(sizes, dtype="float32", seed=0, weighted=False, features=FEATURES):
    rng, batches = np.random.default_rng(seed), []
    for rows in sizes:
        batch = [rng.standard_normal((rows, features)).astype(dtype)]
        batch.append(rng.integers(0, CLASSES, rows))
        if weighted:
            batch.append(rng.random(rows).astype(dtype) + 0.1)
        batches.append(batch)
    return batches


def network(dtype="float32", **options):
    return Sequential(
        Dense(FEATURES, 20, l2=0.2), BatchNorm(20), ReLU(), Dropout(0.2),
        Dense(20, 12, activation=LeakyReLU(0.1)), LayerNorm(12), Dropout(0.5), Dense(12, CLASSES),
        seed=1, dtype=dtype, **options,
    )  # fmt: skip


def trainer(kind, model, loss, optimizer):
    """A TrainStep or GradientStep as a function: batch -> loss, penalty included."""
    step = kind(model, optimizer) if kind is GradientStep else kind(model, loss, optimizer)
    if kind is TrainStep:
        return step

    def take(x, *targets):
        value, gradient = loss(step.forward(x), *targets)
        value = np.array([value])
        model._chain.add_penalty(value, len(x))
        step.backward(gradient)
        return value[0]

    return take


def with_values(batches):
    rng = np.random.default_rng(3)
    return [(x, rng.standard_normal((len(x), CLASSES)).astype(x.dtype)) for x, *_ in batches]


def regression():
    return Sequential(Dense(FEATURES, 6), BatchNorm(6), Dropout(0.3), Dense(6, CLASSES), seed=1)
