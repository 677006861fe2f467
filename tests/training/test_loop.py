"""fit, TrainStep and a loop by hand: the same bits; history, L2, weights, Ctrl-C, divergence."""

import copy
import math
import re
import signal

import numpy as np
import pytest

import fastnn
import reference
from compare import assert_same_bits
from fastnn import (
    BatchNorm,
    Dense,
    Dropout,
    History,
    MeanSquaredError,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
    batches,
)
from tables import LOSSES, OPTIMIZERS, draw

ROWS, EPOCHS, BATCH = 50, 3, 16  # the last batch has two rows


def data(rng=None):
    rng = np.random.default_rng(0) if rng is None else rng
    X = rng.standard_normal((ROWS, 6)).astype(np.float32)
    return X, (X[:, 0] > X[:, 1]).astype(np.int64) + (X[:, 2] > 1)


def network(dtype="float32", **options):
    return Sequential(
        Dense(6, 20),
        BatchNorm(20),
        ReLU(),
        Dropout(0.2),
        Dense(20, 3),
        seed=1,
        dtype=dtype,
        **options,
    )


def fit(model, X, y, **options):
    settings = {
        "loss": SoftmaxCrossEntropy(), "optimizer": fastnn.Adam(0.01), "epochs": EPOCHS,
        "batch_size": BATCH, "seed": 4, "progress": False,
    }  # fmt: skip
    return model.fit(X, y, **(settings | options))


def by_hand(model, X, y, optimizer, loss, weight=None):
    """The loop of docs/howto/own_loop.md; returns the mean loss of each epoch, L2 included."""
    order, losses = batches(X, y, batch_size=BATCH, seed=4), []
    for _ in range(EPOCHS):
        total = 0.0
        for xb, yb in order:
            outputs = model.forward(xb, training=True)
            value, gradient = loss(outputs, yb)
            total += (value + model.penalty(len(xb))) * len(xb)
            model.backward(gradient)
            optimizer.step(model)
        losses.append(total / len(X))
    return losses


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_three_ways_to_train_give_the_same_bits(optimizer, l2, dtype):
    (X, y), make, loss = data(), OPTIMIZERS[optimizer][0], SoftmaxCrossEntropy()
    hand, stepped, fitted = (network(dtype, l2=l2) for _ in range(3))
    hand_losses = by_hand(hand, X, y, make(), loss)
    step, order, step_losses = TrainStep(stepped, loss, make()), batches(X, y, BATCH, seed=4), []
    for _ in range(EPOCHS):
        terms = [step(xb, yb) * len(xb) for xb, yb in order]
        step_losses.append(np.cumsum(terms)[-1] / ROWS)  # `sum` compensates from Python 3.12 on
    history = fit(fitted, X, y, optimizer=make())
    for model in (stepped, fitted):
        for name, array in hand.state_dict().items():
            assert_same_bits(model.state_dict()[name], array)
    assert history.loss == step_losses
    np.testing.assert_allclose(hand_losses, step_losses, rtol=1e-15 if l2 else 0)
    assert step.recorded
    assert step.steps == EPOCHS * math.ceil(ROWS / BATCH)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_can_be_fitted(name, dtype, rng):
    outputs, targets = draw(name, (40, 3), dtype, rng)
    model = Sequential(Dense(3, 16), fastnn.Tanh(), Dense(16, 3), seed=0, dtype=dtype)
    history = fit(model, outputs, targets, loss=LOSSES[name][0], epochs=20)
    assert history.loss[-1] < history.loss[0]
    assert model.flat_parameters.dtype == dtype


def test_l2_is_in_the_loss_and_in_the_gradient():
    X, y = data()
    with_l2, without = network(l2=0.5), network()
    for model in (with_l2, without):
        model.forward(X, training=True)
        model.backward(np.ones((ROWS, 3)))
    step = TrainStep(network(l2=0.5), SoftmaxCrossEntropy(), fastnn.SGD(1e-9))
    plain = TrainStep(network(), SoftmaxCrossEntropy(), fastnn.SGD(1e-9))
    weights = [without.parameters[f"{i}.weight"].astype(float) for i in (0, 4)]
    penalty = reference.l2_penalty(weights, 0.5, ROWS)
    np.testing.assert_allclose(step(X, y) - plain(X, y), penalty, rtol=1e-5)
    for name in with_l2.gradients:
        added = with_l2.gradients[name] - without.gradients[name]
        expected = 0.5 / ROWS * without.parameters[name] if "weight" in name else 0
        np.testing.assert_allclose(added, expected * np.ones_like(added), rtol=1e-3, atol=1e-6)


def test_a_short_last_batch_counts_by_its_rows():
    """With a learning rate of almost 0 the loss of an epoch is that of the whole set."""
    X, y = data()
    model = Sequential(Dense(6, 3), seed=0)
    history = fit(model, X, y, optimizer=fastnn.SGD(1e-12), epochs=1)
    expected = SoftmaxCrossEntropy()(model.predict(X), y)[0]
    np.testing.assert_allclose(history.loss[0], expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 49, 50, 51, 1000])
def test_any_batch_size(size):
    X, y = data()
    model = Sequential(Dense(6, 3), seed=0)
    history = fit(model, X, y, batch_size=size, epochs=2)
    assert history.epochs == 2 and np.isfinite(history.loss).all()


def test_the_order_of_rows_follows_the_seed():
    X, y = data()
    seen = []

    class Watch:
        def forward(self, x, training=False):
            if training:
                seen.append(x[:, 0].copy())
            return x

        def backward(self, dy):
            return dy

    def rows(**options):
        seen.clear()
        fit(Sequential(Watch(), Dense(6, 3)), X, y, epochs=2, **options)
        return np.concatenate(seen)

    first = rows(seed=4)
    assert_same_bits(rows(seed=4), first)
    assert (rows(seed=5) != first).any()
    for epoch in (first[:ROWS], first[ROWS:]):
        np.testing.assert_array_equal(np.sort(epoch), np.sort(X[:, 0]))
    assert (first[:ROWS] != first[ROWS:]).any()
    np.testing.assert_array_equal(rows(shuffle=False), np.tile(X[:, 0], 2))


# ---- sample weights ----


def test_rows_of_weight_zero_take_no_part():
    X, y = data()
    weight = np.ones(ROWS, np.float32)
    weight[::5] = 0
    broken = X.copy()
    broken[::5] = 1e6
    models = [network(), network(), network()]
    used = weight > 0
    fit(models[0], X, y, sample_weight=weight)
    fit(models[1], broken, y, sample_weight=weight)
    fit(models[2], X[used], y[used])
    assert_same_bits(models[1].flat_parameters, models[0].flat_parameters)
    np.testing.assert_allclose(models[2].flat_parameters, models[0].flat_parameters, atol=1e-4)


def test_the_loss_of_an_epoch_is_the_weighted_mean():
    X, y = data()
    weight = np.arange(1, ROWS + 1, dtype=float)
    model = Sequential(Dense(6, 3), seed=0, dtype="float64")
    history = fit(model, X, y, optimizer=fastnn.SGD(1e-12), sample_weight=weight, epochs=1)
    expected = SoftmaxCrossEntropy()(model.predict(X), y, weight)[0]
    np.testing.assert_allclose(history.loss[0], expected, rtol=1e-9)


# ---- history ----


def test_history():
    X, y = data()
    model = network()
    history = fit(model, X, y, validation_data=(X[:20], y[:20]))
    assert list(history) == [
        "loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate",
        "seconds", "samples_per_second",
    ]  # fmt: skip
    assert isinstance(history, History)
    assert history.epochs == EPOCHS and len(history) == 7 and not history.interrupted
    assert history.loss is history["loss"]
    for values in history.values():
        assert len(values) == EPOCHS and all(type(value) is float for value in values)
    result = model.evaluate(X[:20], y[:20], loss=SoftmaxCrossEntropy())
    assert result["loss"] == history.validation_loss[-1]
    assert result["accuracy"] == history.validation_accuracy[-1]
    assert all(0 <= a <= 1 for a in history.accuracy)
    assert all(s > 0 for s in history.seconds + history.samples_per_second)
    with pytest.raises(AttributeError, match="it has loss"):
        history.lost  # noqa: B018
    assert "epochs=3" in repr(history)


def test_metrics():
    X, y = data()

    def worst(outputs, targets):
        return (outputs.argmax(axis=1) != targets).any()

    history = fit(network(), X, y, metrics=["accuracy", worst])
    assert list(history)[:3] == ["loss", "accuracy", "worst"]
    assert history.worst[0] in (0.0, 1.0)
    assert "accuracy" not in fit(network(), X, y, metrics=[])
    assert "accuracy" not in fit(
        Sequential(Dense(6, 1)), X, y.astype(float), loss=MeanSquaredError()
    )

    def seconds(outputs, targets):
        return 0.0

    nameless = [lambda outputs, targets, k=k: k for k in range(2)]
    for wrong in ("accuracy", ["speed"], [3], 5, [seconds], nameless):
        with pytest.raises((TypeError, ValueError), match="metrics"):
            fit(network(), X, y, metrics=wrong)


@pytest.mark.parametrize("loss", [
    MeanSquaredError(), fastnn.MeanAbsoluteError(), fastnn.Quantile(), fastnn.Huber(),
    fastnn.Poisson(),
])  # fmt: skip
def test_accuracy_needs_a_loss_that_classifies(loss):
    X, y = data()
    model = Sequential(Dense(6, 1), seed=0)
    for call in (
        lambda: fit(model, X, 1.0 * y, loss=loss, metrics=["accuracy"]),
        lambda: model.evaluate(X, 1.0 * y, loss=loss, metrics=["accuracy"]),
    ):
        with pytest.raises(ValueError, match=r"^metrics: 'accuracy' needs a loss that classifies"):
            call()


def test_metrics_get_targets_of_the_outputs_shape():
    """Otherwise outputs - targets would broadcast (n, 1) with (n,) to (n, n)."""
    X, y = data()
    seen = []

    def error(outputs, targets):
        seen.append((outputs.shape, targets.shape))
        return abs(outputs - targets).mean()

    model, loss = Sequential(Dense(6, 1), seed=0), fastnn.MeanAbsoluteError()
    history = fit(model, X, 1.0 * y, loss=loss, metrics=[error], validation_data=(X, 1.0 * y))
    np.testing.assert_allclose(history.validation_error, history.validation_loss, rtol=1e-5)
    assert set(seen) == {((ROWS, 1), (ROWS, 1))}
    seen.clear()
    model.evaluate(X, 1.0 * y[:, None], loss=loss, metrics=[error])
    fit(Sequential(Dense(6, 3)), X, y, metrics=[lambda o, t: seen.append((o.shape, t.shape)) or 0],
        epochs=1)  # fmt: skip
    assert seen == [((ROWS, 1), (ROWS, 1)), ((ROWS, 3), (ROWS,))]


def test_binary_accuracy():
    X, y = data()
    model = Sequential(Dense(6, 1), seed=0)
    loss = fastnn.SigmoidCrossEntropy()
    history = fit(model, X, y > 0, loss=loss, epochs=60, optimizer=fastnn.Adam(0.05))
    result = model.evaluate(X, y > 0, loss=loss)
    assert result["accuracy"] == ((model.predict(X)[:, 0] > 0) == (y > 0)).mean()
    assert history.accuracy[-1] > 0.75


def test_validation_data_may_have_weights():
    X, y = data()
    weight = np.arange(ROWS) % 3
    model = network()
    history = fit(model, X, y, validation_data=(X, y, weight))
    result = model.evaluate(X, y, loss=SoftmaxCrossEntropy(), sample_weight=weight)
    assert result["loss"] == history.validation_loss[-1]
    assert result["accuracy"] == history.validation_accuracy[-1]
    for wrong in (X, (X,), (X, y, weight, weight), "Xy"):
        with pytest.raises(ValueError, match=r"validation_data: expected \(X, y\) or \(X, y, s"):
            fit(model, X, y, validation_data=wrong)
    with pytest.raises(ValueError, match=r"^validation sample_weight: expected no negative"):
        fit(model, X, y, validation_data=(X, y, -weight))


def test_weights_whose_sum_overflows():
    X, y = data()
    with pytest.raises(ValueError, match=r"^sample_weight: expected a finite sum"):
        fit(network("float64"), X, y, sample_weight=np.full(ROWS, 1e308))


# ---- a model that ends with the activation that its loss applies ----


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), fastnn.SigmoidCrossEntropy()], ids=repr)
@pytest.mark.parametrize("ending, what", [
    ([Dense(6, 3, activation="softmax")], "the activation of layer 0, Dense(6, 3, act"),
    ([Dense(6, 3, activation="sigmoid")], "the activation of layer 0, Dense(6, 3, act"),
    ([Dense(6, 3), fastnn.Softmax()], "layer 1, Softmax()"),
    ([Dense(6, 3), fastnn.Sigmoid()], "layer 1, Sigmoid()"),
])  # fmt: skip
def test_an_ending_that_the_loss_applies_itself(ending, what, loss):
    (X, y), model = data(), Sequential(*map(copy.copy, ending))
    message = f"^{re.escape(repr(loss))} takes logits, .*: remove {re.escape(what)}"
    targets = y if isinstance(loss, SoftmaxCrossEntropy) else reference.one_hot(y, 3)
    with pytest.warns(UserWarning, match=message) as caught:
        fit(model, X, targets, loss=loss)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match=message):
        TrainStep(model, loss, fastnn.SGD(0.1))
    TrainStep(model, MeanSquaredError(), fastnn.SGD(0.1))  # warnings are errors in these tests
    TrainStep(model, fastnn.Hinge(), fastnn.SGD(0.1))


def test_validation_does_not_change_training():
    X, y = data()
    with_it, without = network(), network()
    fit(with_it, X, y, validation_data=(X, y))
    fit(without, X, y)
    assert_same_bits(with_it.flat_parameters, without.flat_parameters)


# ---- Ctrl-C ----


class Interrupt:
    """Ctrl-C at the n-th training forward (or backward), through a real signal."""

    def __init__(self, at, where="forward"):
        self.at, self.where, self.count = at, where, 0

    def tick(self, where):
        if where == self.where:
            self.count += 1
            if self.count == self.at:
                signal.raise_signal(signal.SIGINT)

    def forward(self, x, training=False):
        if training:
            self.tick("forward")
        return x

    def backward(self, dy):
        self.tick("backward")
        return dy


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("step", [1, 4, 6])
def test_ctrl_c(step, where):
    """Four steps are one epoch.  The step is finished, and the model can be trained again."""
    X, y = data()
    interrupt = Interrupt(step, where)
    model = Sequential(Dense(6, 8), BatchNorm(8), interrupt, ReLU(), Dense(8, 3), seed=1)
    history = fit(model, X, y)
    assert history.interrupted and history.epochs == step // 4
    assert len(history.get("loss", [])) == history.epochs and "interrupted" in repr(history)
    expected = Sequential(Dense(6, 8), BatchNorm(8), Interrupt(0), ReLU(), Dense(8, 3), seed=1)
    trainer, done = TrainStep(expected, SoftmaxCrossEntropy(), fastnn.Adam(0.01)), 0
    order = batches(X, y, BATCH, seed=4)
    while done < step:
        for xb, yb in order:
            if done < step:
                trainer(xb, yb)
                done += 1
    assert_same_bits(model.parameters["0.weight"], expected.parameters["0.weight"])
    assert np.isfinite(model.predict(X)).all()
    again = fit(model, X, y)
    assert not again.interrupted and again.epochs == EPOCHS


# ---- divergence ----


def diverging():
    """A loss that explodes after a few steps: linear regression far beyond its stable rate."""
    X, y = data()
    return Sequential(Dense(6, 1), seed=0), 1e4 * X, 1e4 * y.astype(np.float32)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_divergence_stops_at_the_last_finite_parameters(optimizer):
    model, X, y = diverging()
    make = {"sgd": fastnn.SGD, "momentum": fastnn.Momentum, "nesterov": fastnn.Nesterov}[optimizer]
    with pytest.raises(FloatingPointError, match=r"epoch 1, step \d+: .* learning rate 3"):
        fit(model, X, y, loss=MeanSquaredError(), optimizer=make(3.0), batch_size=2)
    assert np.isfinite(model.flat_parameters).all()
    assert np.abs(model.flat_parameters).max() > 1e6
    assert np.isfinite(model.predict(X / 1e30)).all()


def test_a_nan_from_within_undoes_the_step():
    """Parameters and running statistics are those before the step that failed."""

    class Breaks:
        def __init__(self, at):
            self.at, self.count = at, 0

        def forward(self, x, training=False):
            self.count += training
            return x * np.nan if self.count == self.at else x

        def backward(self, dy):
            return dy

    X, y = data()
    model = Sequential(Dense(6, 8), BatchNorm(8), Breaks(3), Dense(8, 3), seed=1)
    twin = Sequential(Dense(6, 8), BatchNorm(8), Breaks(-1), Dense(8, 3), seed=1)
    step = TrainStep(model, SoftmaxCrossEntropy(), fastnn.Adam(0.01))
    other = TrainStep(twin, SoftmaxCrossEntropy(), fastnn.Adam(0.01))
    for _ in range(2):
        assert step(X, y) == other(X, y)
    with pytest.raises(FloatingPointError, match="step 3"):
        step(X, y)
    assert step.steps == 2
    for ours, theirs in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert_same_bits(ours, theirs)
    assert step(X, y) == other(X, y)  # it goes on as if nothing had happened


def test_a_gradient_that_overflows_leaves_its_parameters():
    class Explodes:
        def forward(self, x, training=False):
            return x

        def backward(self, dy):
            return dy * np.float32(1e38) * np.float32(1e38)

    X, y = data()
    model = Sequential(Dense(6, 4), Explodes(), Dense(4, 3), seed=1)
    before = model.state_dict()
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="update"):
        TrainStep(model, SoftmaxCrossEntropy(), fastnn.Adam(0.01))(X, y)
    assert_same_bits(model.parameters["0.weight"], before["0.weight"])
    assert np.isfinite(model.flat_parameters).all()


def test_parameters_whose_update_overflows_stay():
    X, y = data()
    model = Sequential(Dense(6, 3), seed=1)
    before = model.flat_parameters.copy()
    with pytest.raises(FloatingPointError, match=r"parameters.*learning rate 1e\+38"):
        TrainStep(model, MeanSquaredError(), fastnn.SGD(1e38))(
            X * 1e5, reference.one_hot(y, 3) * 1e5
        )
    assert_same_bits(model.flat_parameters, before)


# ---- whole tasks with a known answer ----


def test_xor_is_learnt(isa, dtype):
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    model = Sequential(Dense(2, 16, activation="tanh"), Dense(16, 1), seed=3, dtype=dtype)
    fit(model, X, y, loss=fastnn.SigmoidCrossEntropy(), optimizer=fastnn.Adam(0.05), epochs=200)
    assert ((model.predict(X)[:, 0] > 0) == y).all()


def test_digits_are_learnt():
    """The README's network on a stratified split, for a quarter of its epochs."""
    X, y = fastnn.datasets.digits()
    train, test = fastnn.stratified_split(y, 0.2, seed=0)
    model = Sequential(Dense(64, 128), BatchNorm(128), ReLU(), Dropout(0.2), Dense(128, 10), seed=0)
    history = model.fit(
        X[train], y[train], loss=SoftmaxCrossEntropy(), optimizer=fastnn.Adam(2e-3), epochs=8,
        validation_data=(X[test], y[test]), progress=False,
    )  # fmt: skip
    assert history.validation_accuracy[-1] > 0.96
