"""The embedding layer in models; tests/kernels/test_embedding.py tests its kernels."""

import numpy as np
import pytest

from fastnn import (
    Adam,
    Conv1D,
    Dense,
    Embedding,
    Flatten,
    GlobalAvgPool1D,
    GradientStep,
    MeanSquaredError,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
    gradcheck,
)

CODES = np.random.default_rng(0).integers(0, 9, (40, 3))
LABELS = CODES.sum(axis=1) % 3


def network(dtype="float32", seed=0):
    return Sequential(
        Embedding(9, 5), Flatten(), Dense(15, 16, activation="tanh"), Dense(16, 3),
        seed=seed, dtype=dtype,
    )  # fmt: skip


def test_outputs_are_the_codes_rows():
    model = Sequential(Embedding(9, 5))
    np.testing.assert_array_equal(model.predict(CODES), model.parameters["0.weight"][CODES])


def test_gradient_adds_up_where_a_code_repeats():
    model = Sequential(Embedding(9, 5), dtype="float64")
    model.forward(CODES, training=True)
    dy = np.random.default_rng(1).standard_normal((40, 3, 5))
    model.backward(dy)
    wanted = np.zeros((9, 5))
    np.add.at(wanted, CODES, dy)
    np.testing.assert_allclose(model.gradients["0.weight"], wanted, rtol=1e-13, atol=1e-14)


def test_gradcheck():
    model = network("float64")
    assert gradcheck(model, SoftmaxCrossEntropy(), CODES, LABELS) < 1e-7


@pytest.mark.parametrize("rows", [7, 40])
def test_replayed_and_eager_steps_have_the_same_bits(rows):
    recorded, by_hand = network(), network()
    step, loss, optimizer = (
        TrainStep(recorded, SoftmaxCrossEntropy(), Adam(0.01)),
        SoftmaxCrossEntropy(),
        Adam(0.01),
    )
    assert step.recorded
    for i in range(6):
        x, y = np.roll(CODES, i, axis=0)[:rows], np.roll(LABELS, i)[:rows]
        value, gradient = loss(by_hand.forward(x, training=True), y)
        by_hand.backward(gradient)
        optimizer.step(by_hand)
        assert step(x, y) == value
    np.testing.assert_array_equal(recorded.flat_parameters, by_hand.flat_parameters)


def test_fit_learns_and_predictors_agree():
    model = network(seed=1)
    history = model.fit(
        CODES, LABELS, loss=SoftmaxCrossEntropy(), optimizer=Adam(0.02), epochs=60, batch_size=8,
        progress=False,
    )  # fmt: skip
    assert history.loss[-1] < 0.2 < history.loss[0]
    predictor = model.predictor(batch_size=40)
    np.testing.assert_array_equal(predictor(CODES), model.predict(CODES))


def test_sequences_of_codes():
    model = Sequential(Embedding(9, 4), Conv1D(4, 6, 2, activation="relu"), GlobalAvgPool1D())
    assert model.predict(CODES).shape == (40, 6)
    assert "(batch, 3, 4)" in model.summary((3,))


@pytest.mark.parametrize("use", [
    lambda model, x: model.predict(x),
    lambda model, x: model.predict(x.tolist()),
    lambda model, x: TrainStep(model, SoftmaxCrossEntropy(), Adam())(x, LABELS),
    lambda model, x: GradientStep(model, Adam()).forward(x),
    lambda model, x: model.predictor(batch_size=40)(x),
    lambda model, x: model.fit(
        x, LABELS, loss=SoftmaxCrossEntropy(), optimizer=Adam(), progress=False
    ),
])  # fmt: skip
def test_what_float32_would_round_to_a_code_is_refused(use):
    x = CODES.astype(np.float64)
    x[5, 1] = 4.99999999
    with pytest.raises(ValueError, match=r"expected whole numbers .* got 4\.99999999"):
        use(network(), x)


@pytest.mark.parametrize("bad", [-1, 9, 2.5, np.nan, np.inf, 1e30])
def test_what_is_no_code_is_refused_by_everything(bad):
    x = CODES.astype(np.float64)
    x[5, 1] = bad
    model, loss = network(), SoftmaxCrossEntropy()
    before = model.flat_parameters.copy()
    step, half = TrainStep(model, loss, Adam()), GradientStep(network(), Adam())
    predictor = model.predictor(batch_size=40)
    step(CODES, LABELS)
    after = model.flat_parameters.copy()
    assert (after != before).any()
    uses = [
        lambda: model.predict(x),
        lambda: model.forward(x, training=True),
        lambda: step(x, LABELS),
        lambda: step(x.astype(np.float32), LABELS),
        lambda: half.forward(x),
        lambda: predictor(x),
        lambda: predictor(x.astype(np.float32)),
        lambda: model.fit(x, LABELS, loss=loss, optimizer=Adam(), progress=False),
        lambda: model.evaluate(x, LABELS, loss=loss),
    ]
    for use in uses:
        with (
            np.errstate(over="ignore"),
            pytest.raises(ValueError, match=r"expected whole numbers from 0 to 8|contains"),
        ):
            use()
    np.testing.assert_array_equal(model.flat_parameters, after)


def test_an_embedding_must_come_first():
    for layers in (
        [ReLU(), Embedding(9, 5)],
        [Residual(Embedding(9, 9), GlobalAvgPool1D(), shortcut=Dense(9, 9))],
    ):
        with pytest.raises(ValueError, match="first layer"):
            Sequential(*layers)


def test_codes_have_no_gradient():
    model = network()
    outputs = model.forward(CODES, training=True)
    with pytest.raises(RuntimeError, match="codes, which have no gradient"):
        model.backward(outputs, input_gradient=True)


@pytest.mark.parametrize("arguments", [(0, 5), (9, 0), (9.0, 5), (True, 5)])
def test_codes_and_features_are_counts(arguments):
    with pytest.raises((TypeError, ValueError), match="expected an integer >= 1"):
        Embedding(*arguments)


def test_more_codes_than_float32_tells_apart_are_refused():
    with pytest.raises(ValueError, match=r"2\^24 codes"):
        Sequential(Embedding(2**24 + 1, 1))


def test_regression_on_one_column():
    model = Sequential(Embedding(9, 1), Flatten(), seed=0)
    y = np.arange(9.0)[CODES[:, :1]]
    history = model.fit(
        CODES[:, :1], y, loss=MeanSquaredError(), optimizer=Adam(0.1), epochs=200, progress=False
    )
    assert history.loss[-1] < 1e-3
