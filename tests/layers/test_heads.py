"""`Heads`: several paths from the same input, side by side; what the tables cannot test."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    Adam,
    Block,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAvgPool2D,
    Heads,
    MeanSquaredError,
    ReLU,
    Residual,
    Sequential,
    TrainStep,
    _kernels,
    gradcheck,
)


class Double:
    """y = 2 x"""

    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


def actor_critic(**kwargs):
    heads = Heads(Block(Dense(16, 8, activation="tanh"), Dense(8, 3)), Dense(16, 1))
    return Sequential(Dense(5, 16, activation="tanh"), heads, seed=0, **kwargs)


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 5), (40, 17), (2, 3, 4, 5), (20, 2, 7), (4,)], ids=str
)
@pytest.mark.parametrize("widths", [(1,), (1, 1), (16, 3, 17), (64, 1)], ids=str)
def test_columns_are_joined_and_split(shape, widths, dtype, isa, rng):
    parts = [rng.standard_normal((*shape[:-1], width)).astype(dtype) for width in widths]
    joined = _kernels.join_columns(parts)
    assert_same_bits(joined, np.concatenate(parts, axis=-1))
    for part, again in zip(parts, _kernels.split_columns(joined, widths), strict=True):
        assert_same_bits(again, part)


def test_columns_are_checked():
    a = np.ones((3, 4), np.float32)
    for wrong in ([], [a, a[:2]], [a, a.astype(float)], [a, a[:, ::2]], [None], [a, a[0]]):
        with pytest.raises((TypeError, ValueError), match=r"^parts: expected"):
            _kernels.join_columns(wrong)
    for widths in ((), (4, 1), (5, -1), (4, 0), (3,)):
        with pytest.raises(ValueError, match=r"^widths: expected"):
            _kernels.split_columns(a, widths)


def test_each_head_gives_what_it_gives_alone(dtype):
    model = actor_critic(dtype=dtype)
    trunk, heads = model.layers
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(dtype)
    outputs, hidden = model.forward(x), trunk.forward(x)
    assert outputs.shape == (7, 4) and model.out_features == 4
    policy, value = heads.layers
    assert_same_bits(outputs[:, 3:].copy(), value.forward(hidden))
    assert_same_bits(outputs[:, :3].copy(), policy.forward(hidden))
    assert_same_bits(model.predictor(7)(x), outputs)


def test_two_critics_in_one_model_train_as_two_models_do():
    def critic(seed):
        return Sequential(Dense(4, 32, activation="relu"), Dense(32, 1), seed=seed, dtype="float64")

    one, two = critic(1), critic(2)
    twins = Sequential(Heads(one, two), dtype="float64")
    optimizers = [Adam(0.01) for _ in range(3)]
    rng = np.random.default_rng(0)
    for _ in range(4):
        x, dy = rng.normal(size=(16, 4)), rng.normal(size=(16, 2))
        both = twins.forward(x, training=True)
        for k, model in enumerate((one, two)):
            assert_same_bits(model.forward(x, training=True), both[:, k : k + 1].copy())
            model.backward(dy[:, k : k + 1])
            optimizers[k].step(model)
        twins.backward(dy)
        optimizers[2].step(twins)
    for k, model in enumerate((one, two)):
        for name, array in model.parameters.items():
            assert_same_bits(twins.parameters[f"0.{k}.{name}"], array)


def test_replayed_steps_have_the_bits_of_those_by_hand(dtype, fma_isas):
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(24, 5)), rng.normal(size=(24, 4))) for _ in range(5)]
    ends = []
    for isa in fma_isas:
        _kernels.set_isa(isa)
        for threads in (1, 2, 3):
            fastnn.set_num_threads(threads)
            for by_hand in (False, True):
                model, loss, optimizer = actor_critic(dtype=dtype), MeanSquaredError(), Adam(0.01)
                step = TrainStep(model, loss, optimizer)
                assert step.recorded
                for x, y in batches:
                    if by_hand:
                        model.backward(loss(model.forward(x, training=True), y)[1])
                        optimizer.step(model)
                    else:
                        step(x, y)
                ends.append(model.flat_parameters.copy())
    for end in ends:
        assert_same_bits(end, ends[0])


def test_heads_in_files_copies_and_summary(tmp_path):
    model = actor_critic(dtype="float64")
    x = np.random.default_rng(0).normal(size=(3, 5))
    model.save(tmp_path / "model.safetensors")
    others = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for other in (*others, fastnn.load(tmp_path / "model.safetensors")):
        assert_same_bits(other.forward(x), model.forward(x))
    assert repr(model.layers[1]).startswith("Heads(Block(Dense(16, 8, activation='tanh'), Dense")
    assert "(batch, 4)" in model.summary() and "Dense(16, 1)" in model.summary()


def test_images_and_layers_of_ones_own():
    model = Sequential(
        Heads(Conv2D(3, 4, 3, padding="same"), Conv2D(3, 2, 1, activation="tanh")),
        Heads(GlobalAvgPool2D(), Flatten(), Block(Double(), Flatten(), Dense(5 * 5 * 6, 2))),
        dtype="float64",
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 5, 3)), rng.normal(size=(2, 6 + 150 + 2))
    assert model.forward(x).shape == y.shape
    assert gradcheck(model, MeanSquaredError(), x, y) < 1e-7
    native = Sequential(Heads(Conv2D(3, 4, 1), Conv2D(3, 1, 1)), Flatten(), seed=0)
    assert native.output_shape((5, 5, 3)) == (125,)


def test_heads_within_others():
    inner = Heads(Dense(4, 3), Heads(Dense(4, 2), Dense(4, 1)))
    model = Sequential(Residual(Dense(4, 4), ReLU(), shortcut=Dropout(0.0)),
                       Residual(inner, shortcut=Dense(4, 6)), dtype="float64")  # fmt: skip
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 4)), rng.normal(size=(3, 6))
    assert gradcheck(model, MeanSquaredError(), x, y) < 1e-7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Heads(), "Heads: layers: expected at least one"),
        (lambda: Heads(Dense(3, 2), Dense(4, 2)), "takes 3 features, but layer 1 takes 4"),
        (lambda: Heads(Dense(3, 2), Conv2D(3, 2, 1)), "takes 1 dimensions, but layer 1 takes 3"),
        (lambda: Heads(Conv2D(3, 2, 1), GlobalAvgPool2D()), "gives 3 dimensions, but layer 1"),
        (lambda: Sequential(Heads(Dense(3, 2), Dense(3, 1)), Dense(2, 1)), "takes 2 features"),
        (lambda: Heads(Dense(3, 2), "relu"), "layer 1: expected a layer"),
        (lambda: Sequential(Heads(Embedding(3, 2), Dense(3, 2))), "Embedding|dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_rows_of_other_shapes_are_refused_when_data_come():
    model = Sequential(Heads(Conv2D(1, 2, 3), Conv2D(1, 2, 1)))
    with pytest.raises(ValueError, match=r"gives shape \(batch, 2, 2, 2\), but .*only the last"):
        model.forward(np.ones((1, 4, 4, 1)))
    layer = Dense(3, 2)
    with pytest.raises(ValueError, match="twice"):
        Heads(layer, layer)
    with pytest.raises(RuntimeError, match="part of no model yet"):
        Heads(Dense(3, 2)).forward(np.ones((1, 3), np.float32))
