"""Block: layers as one layer, and models within models: the same numbers as without it."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    Block,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    LayerNorm,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
    TrainStep,
    gradcheck,
)
from stepping import assert_same_training


def draw(rows=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 6)).astype(np.float32), rng.integers(0, 3, rows)


def fit(model, epochs=2):
    return model.fit(*draw(), loss=SoftmaxCrossEntropy(), optimizer=Adam(0.01), epochs=epochs,
                     batch_size=5, progress=False)  # fmt: skip


def parts():
    return [Dense(6, 8, l2=0.5), BatchNorm(8), ReLU(), Dense(8, 8, "tanh"), LayerNorm(8),
            Dense(8, 3)]  # fmt: skip


def flat(dtype="float32"):
    return Sequential(*parts(), seed=3, dtype=dtype, l2=0.1)


def cut(dtype="float32"):
    """The layers of `flat` in blocks, which begin with the same numbers."""
    a, b, c, d, e, f = copy.deepcopy(flat(dtype).layers)
    return Sequential(Block(a, Block(b, c)), d, Block(e, f), seed=3, dtype=dtype, l2=0.1)


def arrays(model):
    return list(model.state_dict().values())


# ---- a block is its layers ----


def test_blocks_train_and_predict_as_their_layers_do(isa, dtype):
    model, expected = cut(dtype), flat(dtype)
    assert list(model.parameters)[:4] == ["0.0.weight", "0.0.bias", "0.1.0.gamma", "0.1.0.beta"]
    assert list(model.state) == ["0.1.0.running_mean", "0.1.0.running_var"]
    histories = [fit(each) for each in (model, expected)]
    assert dict(histories[0])["loss"] == dict(histories[1])["loss"]
    for mine, its in zip(arrays(model), arrays(expected), strict=True):
        assert_same_bits(mine, its)
    x, _ = draw(30)
    assert_same_bits(model.predict(x), expected.predict(x))
    assert model.penalty(7) == expected.penalty(7) > 0


def test_blocks_are_recorded(isa, threads, dtype):
    batches = [draw(rows, seed) for seed, rows in enumerate((16, 16, 5, 150, 16, 150, 5))]
    assert TrainStep(cut(), SoftmaxCrossEntropy(), Adam()).recorded
    assert_same_training(partial(cut, dtype), SoftmaxCrossEntropy(), lambda: Adam(0.01), batches)


def test_a_predictor_folds_through_blocks(isa):
    """As many operations as without blocks, and the same bits."""
    model, expected, (x, _) = cut(), flat(), draw()
    for each in (model, expected):
        fit(each)
    predictor, other = model.predictor(12), expected.predictor(12)
    assert predictor.recorded
    assert len(predictor._operations) == len(other._operations) == 4
    assert_same_bits(predictor(x).copy(), other(x))


def test_gradients_of_blocks():
    x, y = draw(5)
    assert gradcheck(cut("float64"), SoftmaxCrossEntropy(), x, y) < 1e-7


def test_summary_and_shapes():
    model = cut()
    rows = [line.split()[:2] for line in model.summary().splitlines()[1:-1]]
    assert [row[0] for row in rows] == ["0", "0.0", "0.1", "0.1.0", "0.1.1", "1", "2", "2.0", "2.1"]
    assert rows[0][1] == rows[2][1] == rows[6][1] == "Block"
    assert (model.layers[0].output_shape((6,)), model.output_shape((6,))) == ((8,), (3,))
    images = Sequential(Block(Conv2D(1, 4, 3), MaxPool2D(2)), Block(Flatten(), Dense(36, 2)))
    assert images.output_shape((8, 8, 1)) == (2,)
    assert (images.in_features, images.out_features) == (1, 2)
    with pytest.raises(ValueError, match=r"^x: layer 1, Block: layer 1, Dense\(36, 2\) takes 36"):
        images.forward(np.zeros((1, 9, 12, 1)))


@pytest.mark.parametrize("layers, features, dimensions", [
    (lambda: [ReLU()], (None, None), (None, None)),
    (lambda: [ReLU(), Dense(3, 4)], (3, 4), (1, 1)),
    (lambda: [BatchNorm(3), MaxPool2D(2)], (3, 3), (3, 3)),
    (lambda: [Flatten()], (None, None), (None, 1)),
    (lambda: [Conv2D(1, 4, 3), GlobalAvgPool2D()], (1, 4), (3, 1)),
])  # fmt: skip
def test_what_is_known_of_a_block(layers, features, dimensions):
    block = Block(*layers())
    assert (block.in_features, block.out_features) == features
    assert (block.dimensions, block.out_dimensions) == dimensions
    chain = Sequential(Block(Block(*layers())))._chain
    assert (chain.in_features, chain.out_features) == features
    assert (chain.dimensions, chain.out_dimensions) == dimensions


def test_what_passes_through_a_block_is_known_behind_it():
    with pytest.raises(ValueError, match=r"layer 2, .* takes 5 features, but layer 0, .* gives 4"):
        Sequential(Dense(3, 4), Block(ReLU(), Block(Dropout(0.5))), Dense(5, 2))
    Sequential(Conv2D(1, 4, 3), Block(Flatten()), Dense(5, 2))  # known when data come


@pytest.mark.parametrize("layers, name, gain", [
    (lambda: [Dense(300, 300), Block(BatchNorm(300), ReLU())], "0.weight", 2),
    (lambda: [Dense(300, 300), Block(Dropout(0.1)), ReLU()], "0.weight", 2),
    (lambda: [Dense(300, 300), Block(Dense(300, 300), ReLU())], "0.weight", 1),
    (lambda: [Block(Dense(300, 300)), Block(Block(ReLU()))], "0.0.weight", 2),
    (lambda: [Block(ReLU(), Dense(300, 300)), Tanh()], "0.1.weight", 1),
])  # fmt: skip
def test_the_activation_behind_decides_how_weights_begin_through_blocks(layers, name, gain):
    weight = Sequential(*layers(), seed=0).parameters[name]
    np.testing.assert_allclose(weight.std(), np.sqrt(gain / 300), rtol=0.02)


def test_codes_go_into_a_block():
    x = np.arange(12).reshape(6, 2) % 7
    inner = Sequential(Embedding(7, 4), Flatten(), seed=1)
    model = Sequential(inner, Dense(8, 3), seed=2)
    assert_same_bits(model.parameters["0.0.weight"], inner.parameters["0.weight"])
    step, y = TrainStep(model, SoftmaxCrossEntropy(), SGD(0.1)), np.arange(6) % 3
    assert step.recorded
    first = step(x, y)
    assert step(x, y) < first
    assert_same_bits(model.predictor(6)(x), model.predict(x))
    with pytest.raises(ValueError, match="expected whole numbers from 0 to 6"):
        model.predict(x + 1)
    for layers in (
        [ReLU(), Block(Embedding(7, 4))],
        [Block(ReLU(), Embedding(7, 4))],
        [Residual(Block(Embedding(7, 6), GlobalAvgPool1D()), shortcut=Dense(2, 6))],
    ):
        with pytest.raises(ValueError, match="takes codes, so it must be the model's first layer"):
            Sequential(*layers)


# ---- models within models ----


def trained():
    model = Sequential(Dense(6, 6), BatchNorm(6), ReLU(), seed=1)
    model.flat_parameters[...] += 0.25
    model.state["1.running_var"][...] = 5
    return model


def learnt(model, prefix):
    """What stands in the model under the names that begin with `prefix`."""
    named = model.state_dict().items()
    return {n.removeprefix(prefix): array for n, array in named if n.startswith(prefix)}


@pytest.mark.parametrize("make, prefix", [
    (lambda its: Sequential(its, Dense(6, 3)), "0."),
    (lambda its: Sequential(Dense(6, 6), its), "1."),
    (lambda its: Sequential(its), "0."),
    (lambda its: Sequential(Block(its)), "0."),
    (lambda its: Sequential(Block(its, Dense(6, 3))), "0.0."),
    (lambda its: Sequential(Residual(its)), "0."),
    (lambda its: Sequential(Residual(ReLU(), its)), "0.1."),
    (lambda its: Sequential(Residual(Dense(6, 6), shortcut=its)), "0.shortcut."),
    (lambda its: Sequential(Residual(Sequential(Residual(its)))), "0.0."),
    (lambda its: Sequential(Sequential(Residual(Sequential(ReLU(), its)))), "0.0.1."),
])  # fmt: skip
def test_a_sequential_anywhere_is_copied_with_what_it_has_learnt(make, prefix, tmp_path):
    inner = trained()
    expected = inner.state_dict()
    model = make(inner)
    found = learnt(model, prefix)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert_same_bits(found[name], array)
    model.flat_parameters[...] = 3
    for name, array in expected.items():
        assert_same_bits(inner.state_dict()[name], array)
    model = make(inner)
    x = draw()[0]
    step = TrainStep(model, SoftmaxCrossEntropy(), SGD(0.1))
    assert step.recorded and np.isfinite([step(x, draw()[1]) for _ in range(3)]).all()
    model.save(tmp_path / "it")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)),
                 fastnn.load(tmp_path / "it")):  # fmt: skip
        assert repr(twin) == repr(model)
        assert_same_bits(twin.predict(x), model.predict(x))
    again = eval(repr(model), dict(vars(fastnn)))
    assert again.summary() == model.summary()


def test_the_same_sequential_twice_is_two_layers():
    inner = trained()
    model = Sequential(inner, inner)
    model.parameters["0.0.weight"][...] = 0
    assert model.parameters["1.0.weight"].all()


def test_a_model_that_runs_otherwise_is_no_layer():
    class Net(Sequential):
        def forward(self, x, training=False):
            return 2 * super().forward(x, training)

    class Named(Sequential):
        """Runs as a Sequential does."""

    for make in (Sequential, Block, Residual, lambda net: Residual(ReLU(), shortcut=net)):
        with pytest.raises(TypeError, match="expected a layer, got a Net with a forward, backward"):
            make(Net(ReLU()))
        make(Named(ReLU()))


# ---- layers of one's own ----


class Wider:
    """Without the base class, so that nobody knows what it gives."""

    def forward(self, x, training=False):
        return np.repeat(x.reshape(len(x), -1), 2, axis=1)

    def backward(self, dy):
        return dy.reshape(len(dy), -1, 2).sum(axis=2)


def test_layers_of_ones_own_within_a_block():
    model = Sequential(Block(Dense(6, 4), Wider()), Tanh(), Block(Dense(8, 3)), seed=0)
    assert model.layers[0].out_features is None and not model.layers[0].native
    assert gradcheck(model, SoftmaxCrossEntropy(), *draw(5)) < 1e-7
    assert not TrainStep(model, SoftmaxCrossEntropy(), SGD(0.1)).recorded
    for each in (model, model.layers[0]):
        with pytest.raises(RuntimeError, match=r"output_shape: a layer .* does not say its own"):
            each.output_shape((6,))
    Sequential(Conv2D(1, 4, 3), Block(Wider()), Dense(8, 3))  # known when data come
    Sequential(Wider(), Block(Flatten()), Dense(12, 3)).forward(np.zeros((2, 6)))


def test_settings_and_dropout_within_blocks():
    model = Sequential(Block(Dropout(0.5)), Block(Block(Dropout(0.5))), seed=1)
    x = np.ones((4, 50), np.float32)
    y = model.forward(x, training=True)
    assert (y == 4).any() and (y == 0).mean() > 0.6  # two masks
    assert (model.forward(x, training=True) != y).any()
    model.layers[0].layers[0].rate = model.layers[1].layers[0].layers[0].rate = 0
    assert_same_bits(model.forward(x, training=True), x)


# ---- bad input ----


@pytest.mark.parametrize("make, error, message", [
    (lambda: Block(), ValueError, "layers: expected at least one, got none"),
    (lambda: Block(ReLU), TypeError, r"layer 0: expected a layer, got the class; .*ReLU\(\)"),
    (lambda: Block([ReLU()]), TypeError, "layer 0: expected a layer, got a list"),
    (lambda: Block(Dense(3, 4), Dense(5, 3)), ValueError, "layer 1, .* takes 5 features, but"),
    (lambda: Block(*[Dense(3, 3)] * 2), ValueError, "layer 1: .* stands in the model twice"),
])  # fmt: skip
def test_bad_parts_are_refused(make, error, message):
    with pytest.raises(error, match=f"^Block: {message}"):
        make()


def test_a_block_belongs_to_one_model():
    block = Block(Dense(3, 3))
    with pytest.raises(RuntimeError, match=r"Block\(Dense\(3, 3\)\) is part of no model yet"):
        block.forward(np.zeros((2, 3)))
    model = Sequential(block)
    with pytest.raises(ValueError, match="is part of another model"):
        Sequential(block)
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        model.layers[0].backward(np.zeros((2, 3), np.float32))
    twin = Sequential(copy.copy(block))
    twin.flat_parameters[...] = 0
    assert model.parameters["0.0.weight"].all()
    with pytest.raises(AttributeError, match="layers is fixed once a Block is made"):
        block.layers = ()


def test_fit_warns_of_an_ending_within_a_block():
    model = Sequential(Dense(6, 3), Block(ReLU(), Block(Sigmoid())))
    with pytest.warns(UserWarning, match=r"ends in Sigmoid\(\): remove layer 1.1.0, Sigmoid"):
        fit(model, 1)
