"""Custom layers, losses, optimizers and models: their steps run in Python, not recorded."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    BatchNorm,
    Dense,
    GradientStep,
    Huber,
    MeanSquaredError,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
)
from stepping import (
    CLASSES,
    FEATURES,
    SIZES,
    assert_alike,
    assert_same_training,
    by_hand,
    draw,
    with_values,
)


class OwnLayer:
    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class OwnDense(Dense):
    def forward(self, x, training=False):
        return 2 * super().forward(x, training)

    def backward(self, dy):
        return super().backward(2 * dy)


class Counts(fastnn.Layer):
    """A layer whose state is no vector."""

    def __init__(self):
        self.state = {"count": np.array(0.0), "none": np.zeros((0, 3))}

    def forward(self, x, training=False):
        if training:
            self.state["count"][...] += 1
        return x

    def backward(self, dy):
        return dy


class OwnLoss(MeanSquaredError):
    def evaluate(self, outputs, targets, weight):
        value, gradient = super().evaluate(outputs, targets, weight)
        return 3 * value, 3 * gradient


def function(outputs, targets, weight=None):
    d = outputs - targets
    return float((d * d).sum()), 2 * d


class OwnOptimizer:
    hyper = "anything"

    def step(self, model):
        model.update(self.rule)

    def rule(self, parameters, gradients):
        parameters -= np.float32(0.01) * gradients


class OwnSGD(fastnn.SGD):
    def step(self, model):
        self.learning_rate *= 0.9
        super().step(model)


class OwnModel(Sequential):
    passes = 0

    def forward(self, x, training=False):
        self.passes += 1
        return super().forward(x, training)


class Named(Sequential):
    """Derived for its constructor only, it is recorded as any model."""

    def __init__(self, width):
        super().__init__(Dense(FEATURES, width), ReLU(), Dense(width, CLASSES))


def layers(middle):
    return lambda: Sequential(Dense(FEATURES, 6), BatchNorm(6), middle(), Dense(6, CLASSES))


PLAIN = layers(ReLU)
OWN = {
    "layer": (layers(OwnLayer), MeanSquaredError, lambda: fastnn.Adam(0.01)),
    "derived layer": (layers(lambda: OwnDense(6, 6)), MeanSquaredError, lambda: fastnn.Adam(0.01)),
    "layer with state": (layers(Counts), MeanSquaredError, lambda: fastnn.Adam(0.01)),
    "derived loss": (PLAIN, OwnLoss, lambda: fastnn.Adam(0.01)),
    "function as loss": (PLAIN, lambda: function, lambda: fastnn.Adam(0.01)),
    "optimizer": (PLAIN, MeanSquaredError, OwnOptimizer),
    "derived optimizer": (PLAIN, MeanSquaredError, lambda: OwnSGD(0.01)),
    "derived model": (
        lambda: OwnModel(Dense(FEATURES, 6), Dense(6, CLASSES)), MeanSquaredError,
        lambda: fastnn.Adam(0.01),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_own_parts_are_not_recorded_and_train_by_hand(name):
    make, make_loss, make_optimizer = OWN[name]
    batches, loss = with_values(draw(SIZES)), make_loss()
    hand, model, fitted = make(), make(), make()
    step = TrainStep(model, loss, make_optimizer())
    assert not step.recorded
    assert [step(*batch) for batch in batches] == by_hand(hand, loss, make_optimizer(), batches)
    assert_alike(model, hand)
    if isinstance(model, OwnModel):
        assert model.passes == len(SIZES)
    ((x, y),) = with_values(draw([20]))
    fitted.fit(x, y, loss=loss, optimizer=make_optimizer(), epochs=3, batch_size=8, shuffle=False,
               progress=False)  # fmt: skip
    hand, parts = make(), [(x[i : i + 8], y[i : i + 8]) for i in (0, 8, 16)]
    by_hand(hand, loss, make_optimizer(), parts * 3)
    assert_alike(fitted, hand)


@pytest.mark.parametrize("name", [name for name in OWN if "loss" not in name])
def test_own_parts_in_a_gradient_step(name):
    make, _, make_optimizer = OWN[name]
    batches, loss, hand, model = with_values(draw(SIZES)), Huber(), make(), make()
    optimizer = make_optimizer()
    step = GradientStep(model, optimizer)
    assert not step.recorded
    for x, y in batches:
        step.backward(loss(step.forward(x), y)[1])
    by_hand(hand, loss, make_optimizer(), batches)
    assert_alike(model, hand)


def test_a_model_of_a_derived_class_without_a_forward_of_its_own_is_recorded():
    assert TrainStep(Named(5), SoftmaxCrossEntropy(), fastnn.Adam()).recorded
    assert_same_training(lambda: Named(5), SoftmaxCrossEntropy(), fastnn.Adam, draw(SIZES))


def test_any_loss_of_three_arguments_can_be_fitted():
    def loss(outputs, targets, sample_weight):
        return float(((outputs - targets) ** 2).mean()), 2 * (outputs - targets) / outputs.size

    x = np.ones((8, 3), np.float32)
    history = fastnn.Sequential(fastnn.Dense(3, 2), seed=0).fit(
        x, np.ones((8, 2), np.float32), loss=loss, optimizer=fastnn.SGD(0.1), progress=False
    )
    assert history.loss[-1] < history.loss[0]


def test_a_derived_layers_backward_runs_in_the_first_place_too():
    first, second = (Sequential(kind(FEATURES, 3), seed=0) for kind in (OwnDense, Dense))
    x = np.ones((2, FEATURES), np.float32)
    for model in (first, second):
        model.backward(np.ones_like(model.forward(x, training=True)))
    assert_same_bits(first.flat_gradients, 2 * second.flat_gradients)


# ---- a method put on one object ----


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_method_put_on_a_layer_runs(method, early):
    """Put there before or after the layer is in a model, on each layer in turn."""
    ((x, y),) = with_values(draw([8]))
    for i in range(3):
        calls, parts = [], [Dense(FEATURES, 6), ReLU(), Dense(6, CLASSES)]

        def hook(*args, method=method, layer=parts[i], calls=calls):
            calls.append(args)
            return getattr(type(layer), method)(layer, *args)

        if early:
            setattr(parts[i], method, hook)
        model, twin = Sequential(*parts, seed=0), Sequential(*layers_of_three(), seed=0)
        setattr(parts[i], method, hook)
        step = TrainStep(model, MeanSquaredError(), fastnn.SGD(0.1))
        other = TrainStep(twin, MeanSquaredError(), fastnn.SGD(0.1))
        assert not step.recorded and other.recorded
        for _ in range(4):
            assert step(x, y) == other(x, y)
        assert_alike(model, twin)
        needless = (
            i == 0 and method == "backward" and not early
        )  # the first layer's input gradient is not needed
        assert len(calls) == (0 if needless else 4)


def layers_of_three():
    return [Dense(FEATURES, 6), ReLU(), Dense(6, CLASSES)]


def test_a_method_put_on_a_layer_runs_in_a_predictor():
    model, x = Sequential(*layers_of_three(), seed=0), np.ones((1, FEATURES), np.float32)
    model.layers[1].forward = lambda x, training=False: -x
    predictor = model.predictor()
    assert not predictor.recorded
    np.testing.assert_array_equal(predictor(x), model.predict(x))


def test_a_method_put_on_a_loss_or_an_optimizer_runs():
    ((x, y),), calls = with_values(draw([8])), []
    loss, optimizer = MeanSquaredError(), fastnn.SGD(0.1)

    def hook(model):
        calls.append(model)
        fastnn.SGD.step(optimizer, model)

    optimizer.step = hook
    loss.prepare_targets = lambda outputs, targets: 0 * targets
    model = Sequential(*layers_of_three(), seed=0)
    step = TrainStep(model, loss, optimizer)
    for _ in range(3):
        outputs = model.predict(x)
        np.testing.assert_allclose(step(x, y), (outputs**2).mean(), rtol=1e-5)
    assert calls == [model] * 3 and not step.recorded


# ---- what `fit` finds before it trains ----


class Fails(fastnn.Layer):
    def forward(self, x, training=False):
        raise ValueError("this layer is wrong")


class Widens(fastnn.Layer):
    """It does not say that it gives more features than it takes."""

    def forward(self, x, training=False):
        self.x = x
        return np.repeat(x, 2, axis=1)

    def backward(self, dy):
        return dy.reshape(len(dy), -1, 2).sum(axis=2)


@pytest.mark.parametrize("fails", [Fails, lambda: Plain(Fails())])
def test_a_layer_that_fails_leaves_the_model_as_it_was(fails):
    """Its error is its own, not one of y, and comes before any callback hears of the training."""
    told = []

    class Told(fastnn.Callback):
        def on_fit_begin(self, run):
            told.append(run)

    model = Sequential(Dense(FEATURES, 6), fastnn.Dropout(0.5), fails())
    ((x, y),) = with_values(draw([16]))
    with pytest.raises(ValueError, match=r"^this layer is wrong$"):
        model.fit(x, y, loss=MeanSquaredError(), optimizer=fastnn.SGD(0.1), progress=False,
                  callbacks=[Told()])  # fmt: skip
    assert told == [] and model._counter == 0 and model._passes == 0


class Plain:
    """The same without the base class."""

    def __init__(self, layer):
        self.forward, self.backward = layer.forward, layer.backward


def test_what_a_layer_states_of_its_shape_is_not_believed():
    x = np.random.default_rng(0).standard_normal((16, FEATURES)).astype(np.float32)
    model = Sequential(Dense(FEATURES, 2), Widens(), seed=0)
    history = model.fit(x, np.zeros((16, 4)), loss=MeanSquaredError(), optimizer=fastnn.SGD(0.1),
                        progress=False)  # fmt: skip
    assert history.loss[-1] < history.loss[0]


def test_a_parameter_may_have_any_name():
    class Named(fastnn.Layer):
        def parameter_shapes(self):
            return {"saved": (1,), "place": (2,), "model_parameters": (3,), "weight": (4,)}

        def forward(self, x, training=False):
            return x * self.parameters["saved"]

        def backward(self, dy):
            return dy

    layer = Named()
    model = Sequential(layer)
    model.forward(np.ones((2, 3)), training=True)
    model.backward(np.ones((2, 3)))
    assert layer._saved is None and layer._place.position == 0
    assert {name: a.shape for name, a in layer.parameters.items()} == layer.parameter_shapes()


@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
def test_a_shallow_copy_of_a_step_is_apart(kind):
    """Neither sees the other's outputs, nor the gradients that wait for its update."""
    batches, optimizer = with_values(draw([16] * 6)), fastnn.SGD(0.01)
    model, loss = PLAIN(), MeanSquaredError()
    options = {"accumulate": 2} if kind is TrainStep else {}
    step = kind(model, *([loss] if kind is TrainStep else []), optimizer, **options)

    def take(step, x, y):
        if kind is TrainStep:
            return step(x, y)
        step.backward(loss(outputs := step.forward(x), y)[1])
        return outputs

    take(step, *batches[0])
    copied, seen = copy.copy(step), step.outputs if kind is TrainStep else None
    if kind is TrainStep:
        waiting = step._recording.gradient_sum.copy()
        take(copied, *batches[1])
        assert_same_bits(step.outputs, seen)
        assert_same_bits(step._recording.gradient_sum, waiting)
    else:
        first = take(step, *batches[1]).copy()
        kept = step.forward(batches[1][0])
        before = kept.copy()
        copied.forward(batches[2][0])
        assert_same_bits(kept, before)
        assert first.shape == before.shape


# ---- what may write into its arguments ----


def test_a_loss_or_metric_that_writes_changes_nothing_of_the_users():
    ((x, y),) = with_values(draw([24]))

    def overwriting(outputs, targets, weight=None):
        d = outputs - targets
        value = float((d * d).mean())
        outputs[...], targets[...] = 2 * d / d.size, 0
        return value, outputs

    def careful(outputs, targets, weight=None):
        d = outputs - targets
        return float((d * d).mean()), 2 * d / d.size

    def mean(outputs, targets):
        return outputs.mean()

    before, histories = y.copy(), []
    for loss in (overwriting, careful):
        model = Sequential(*layers_of_three(), seed=0)
        histories.append(model.fit(x, y, loss=loss, optimizer=fastnn.SGD(0.1), epochs=3,
                                   batch_size=8, metrics=[mean], validation_data=(x, y),
                                   progress=False))  # fmt: skip
        assert_same_bits(y, before)
    for name in ("loss", "mean", "validation_loss", "validation_mean"):
        assert histories[0][name] == histories[1][name]

    def sorts(outputs, targets):
        targets.sort(axis=0)
        return 0.0

    model = Sequential(*layers_of_three(), seed=0)
    with pytest.raises(ValueError, match="read-only"):
        model.evaluate(x, y, loss=MeanSquaredError(), metrics=[sorts])
    assert_same_bits(y, before)


@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
def test_what_was_unpickled_into_read_only_memory_trains_on(kind):
    """As joblib does with large arrays."""
    (first, second), loss = with_values(draw([16, 16])), MeanSquaredError()
    optimizer = fastnn.Adam(0.01)
    step = kind(PLAIN(), *([loss] if kind is TrainStep else []), optimizer)

    def take(step, x, y):
        if kind is TrainStep:
            step(x, y)
        else:
            step.backward(loss(step.forward(x), y)[1])

    take(step, *first)
    buffers = []
    data = pickle.dumps(step, protocol=5, buffer_callback=buffers.append)
    copied = pickle.loads(data, buffers=[bytes(b) for b in buffers])
    for each in (step, copied):
        take(each, *second)
    assert_alike(copied.model, step.model)
    assert copied._hyper is copied.optimizer.hyper or not copied.recorded
    assert_same_bits(copied.optimizer.hyper, optimizer.hyper)
