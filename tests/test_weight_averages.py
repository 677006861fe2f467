"""Averages of the weights: against their formulas, in recorded steps, in `fit`, in files."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_close, assert_same_bits
from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    Callback,
    Conv2D,
    Dense,
    Dropout,
    EarlyStopping,
    ExponentialMovingAverage,
    Flatten,
    GradientStep,
    Layer,
    ModelCheckpoint,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    StochasticWeightAverage,
    TrainStep,
    update_batch_norm,
)
from stepping import CLASSES, FEATURES, SIZES, assert_alike, draw, network

LOSS = SoftmaxCrossEntropy()
MAKE = {"EMA": lambda: ExponentialMovingAverage(0.9), "SWA": lambda: StochasticWeightAverage(2)}
(X, Y), (VX, VY) = draw((40, 24))


def model_of(dtype="float32"):
    return Sequential(Dense(FEATURES, 9), Dense(9, CLASSES), seed=1, dtype=dtype)


def wander(model, steps):
    """Let the parameters take other values; yields them in float64 after each step."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        for array in model.parameters.values():
            array += rng.standard_normal(array.shape) * 10.0 ** rng.integers(-3, 2)
        yield model.flat_parameters.astype(np.float64)


# ---- formulas ----


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_the_moving_average_is_the_formula(decay, dtype, isa):
    """Σ decay^(t-i) p_i / Σ decay^(t-i)."""
    model, average, seen = model_of(dtype), ExponentialMovingAverage(decay), []
    for p in wander(model, 30):
        average.update(model)
        seen.append(p)
        weights = decay ** np.arange(len(seen) - 1, -1, -1.0)
        expected = np.average(seen, axis=0, weights=weights)
        magnitude = np.abs(seen).max(axis=0)
        assert_close(average.flat_parameters, expected, dtype, magnitude=magnitude, factor=9)
    assert average.updates == 30


def test_the_first_average_is_the_first_weights(dtype):
    for make in MAKE.values():
        model, average = model_of(dtype), make()
        average.update(model)
        assert_same_bits(average.flat_parameters, model.flat_parameters)


def test_the_mean_is_the_formula(dtype, isa):
    model, average, seen = model_of(dtype), StochasticWeightAverage(1), []
    for p in wander(model, 30):
        average.update(model)
        seen.append(p)
        magnitude = np.abs(seen).max(axis=0)
        expected = np.mean(seen, axis=0)
        assert_close(average.flat_parameters, expected, dtype, magnitude=magnitude, factor=9)


# ---- steps ----


def by_hand(model, optimizer, average, batches):
    for x, y in batches:
        gradient = LOSS(model.forward(x, training=True), y)[1]
        model.backward(gradient)
        optimizer.step(model)
        average.update(model)


def take_all(kind, model, optimizer, average, batches):
    if kind is TrainStep:
        step = TrainStep(model, LOSS, optimizer, average=average)
        for batch in batches:
            step(*batch)
    else:
        step = GradientStep(model, optimizer, average=average)
        for x, y in batches:
            step.backward(LOSS(step.forward(x), y)[1])
    assert step.recorded and step.steps == len(batches)
    assert repr(average) in repr(step)


@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
def test_recorded_steps_are_those_by_hand(kind, dtype, threads):
    model, hand = network(dtype), network(dtype)
    averages, batches = [ExponentialMovingAverage(0.9) for _ in range(2)], draw(SIZES * 3, dtype)
    take_all(kind, model, Adam(0.01), averages[0], batches)
    by_hand(hand, Adam(0.01), averages[1], batches)
    assert_alike(model, hand)
    assert averages[0].updates == averages[1].updates == len(batches)
    assert_same_bits(averages[0].flat_parameters, averages[1].flat_parameters)
    assert (averages[0].flat_parameters != model.flat_parameters).any()


@pytest.mark.parametrize("own", [False, True], ids=["recorded", "by hand"])
def test_an_average_is_updated_where_the_inputs_gradient_is_wanted(own):
    averages, batches = [ExponentialMovingAverage(0.9) for _ in range(2)], draw(SIZES)
    for average, wanted in zip(averages, (False, True), strict=True):
        optimizer = OwnSGD(0.1) if own else SGD(0.1)
        step = GradientStep(network(), optimizer, average=average)
        assert step.recorded != own
        for x, y in batches:
            step.backward(LOSS(step.forward(x), y)[1], input_gradient=wanted)
        assert average.updates == len(batches)
    assert_same_bits(averages[0].flat_parameters, averages[1].flat_parameters)


class OwnSGD(SGD):
    """A class of one's own, which is not recorded."""


def test_an_average_changes_no_bit_of_the_training():
    with_average, without = network(), network()
    batches = draw(SIZES)
    take_all(TrainStep, with_average, Adam(0.01), ExponentialMovingAverage(), batches)
    step = TrainStep(without, LOSS, Adam(0.01))
    for batch in batches:
        step(*batch)
    assert_alike(with_average, without)


def test_threads_and_instruction_sets_give_the_same_bits(fma_isas):
    results = []
    for threads in (1, 2, 3):
        for isa in fma_isas:
            fastnn.set_num_threads(threads)
            fastnn._kernels.set_isa(isa)
            model = Sequential(Dense(FEATURES, 300), BatchNorm(300), Dense(300, CLASSES), seed=1)
            average = ExponentialMovingAverage(0.9)
            model.fit(
                X, Y, loss=LOSS, optimizer=Adam(0.01), epochs=3, average=average, progress=False,
                validation_data=(VX, VY),
            )  # fmt: skip
            results.append(model)
            assert_alike(model, results[0])


def test_updates_of_several_batches_count_once():
    model, average = network(), ExponentialMovingAverage(0.5)
    step = TrainStep(model, LOSS, SGD(0.1), accumulate=2, average=average)
    seen = []
    for i, batch in enumerate(draw((8,) * 5)):
        step(*batch)
        if i % 2:
            seen.append(model.flat_parameters.copy())
    step.flush()
    seen.append(model.flat_parameters.copy())
    assert average.updates == 3
    expected = np.average(seen, axis=0, weights=[1, 2, 4])
    np.testing.assert_allclose(average.flat_parameters, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("fault", ["loss", "update"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_diverges_is_not_counted(recorded, fault, accumulate):
    model, average = model_of(), ExponentialMovingAverage(0.5)
    step = TrainStep(model, LOSS, SGD(0.1), accumulate=accumulate, average=average)
    if not recorded:
        step._recorded, step._hyper = False, np.zeros_like(step._hyper)
    for batch in draw((8,) * 4):
        step(*batch)
    if fault == "loss":
        model.parameters["0.weight"][...] = 3e38
    else:
        step.optimizer.learning_rate = 3e38
    (batch,) = draw((8,))
    batch[0] *= 1000
    with pytest.raises(FloatingPointError, match="the loss is" if fault == "loss" else "update"):
        for _ in range(accumulate):
            step(*batch)
    assert average.updates == 4 / accumulate
    assert np.isfinite(average.flat_parameters).all()


def test_frozen_weights_are_their_average():
    model, average = network(), ExponentialMovingAverage(0.9)
    model.layers[0].trainable = False
    take_all(TrainStep, model, Adam(0.01), average, draw(SIZES))
    with average.applied():
        applied = model.state_dict()
    assert_same_bits(applied["0.weight"], model.parameters["0.weight"])
    assert (applied["4.weight"] != model.parameters["4.weight"]).any()


# ---- the averaged weights in the model ----


@pytest.mark.parametrize("name", MAKE)
def test_applied_exchanges_and_puts_back(name):
    model, average = network(), MAKE[name]()
    step = TrainStep(model, LOSS, Adam(0.01))
    for batch in draw(SIZES):
        step(*batch)
        average.update(model)
    own, averaged = model.state_dict(), average.flat_parameters.copy()
    with average.applied():
        assert average.is_applied
        assert_same_bits(model.flat_parameters, averaged)
        assert_same_bits(average.flat_parameters, averaged)
        update_batch_norm(model, X)
        assert (model.state["1.running_mean"] != own["1.running_mean"]).all()
        with average.applied():  # is so already
            assert_same_bits(model.flat_parameters, averaged)
        with pytest.raises(RuntimeError, match=r"^update: the model has the averaged weights now"):
            average.update(model)
        with pytest.raises(RuntimeError, match=r"^fit: the model has the averaged weights now"):
            model.fit(X, Y, loss=LOSS, optimizer=SGD(0.1), average=average, progress=False)
    assert not average.is_applied
    for key, array in model.state_dict().items():
        assert_same_bits(array, own[key])
    assert_same_bits(average.flat_parameters, averaged)


def test_an_error_within_applied_puts_back_too():
    model, average = network(), ExponentialMovingAverage()
    average.update(model)
    before = model.flat_parameters.copy()
    model.flat_parameters[...] *= 2
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert_same_bits(model.flat_parameters, 2 * before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))])
def test_copies_go_on_alike(copied):
    model, average, batches = network(), ExponentialMovingAverage(0.9), draw(SIZES)
    optimizer = Adam(0.01)
    step = TrainStep(model, LOSS, optimizer, average=average)
    for batch in batches:
        step(*batch)
    twins = copied((step, model, average))
    for batch in batches:
        step(*batch)
        twins[0](*batch)
    assert_alike(model, twins[1])
    assert_same_bits(twins[2].flat_parameters, average.flat_parameters)
    assert twins[2].updates == average.updates == 2 * len(batches)


@pytest.mark.parametrize("decay", [-0.1, 1.0, np.nan, "a", None, True])
def test_what_is_no_decay(decay):
    with pytest.raises((TypeError, ValueError), match=r"^decay: expected a number in"):
        ExponentialMovingAverage(decay)


@pytest.mark.parametrize("epoch", [0, -1, 1.5, "a", None, True])
def test_what_is_no_epoch(epoch):
    with pytest.raises((TypeError, ValueError), match=r"^start_epoch: expected an integer >= 1"):
        StochasticWeightAverage(epoch)


def test_errors():
    model, average = model_of(), ExponentialMovingAverage()
    for use in (lambda: average.flat_parameters, lambda: average.applied().__enter__()):
        with pytest.raises(RuntimeError, match="has averaged nothing yet"):
            use()
    average.update(model)
    with pytest.raises(ValueError, match=r"^model: .* has averaged another model before"):
        average.update(model_of())
    for wrong in (0.999, "ema", ExponentialMovingAverage, fastnn.ExponentialAverage(0.9)):
        for use in (
            lambda wrong=wrong: TrainStep(model, LOSS, SGD(0.1), average=wrong),
            lambda wrong=wrong: GradientStep(model, SGD(0.1), average=wrong),
            lambda wrong=wrong: model.fit(X, Y, loss=LOSS, optimizer=SGD(0.1), average=wrong),
        ):
            with pytest.raises(TypeError, match=r"^average: expected None or an object such as"):
                use()
    with pytest.raises(ValueError, match=r"^average: Stochastic.* takes no part in steps"):
        TrainStep(model, LOSS, SGD(0.1), average=StochasticWeightAverage(1))
    with pytest.raises(AttributeError, match="decay is fixed"):
        average.decay = 0.5


# ---- batch norm's statistics ----


def test_statistics_are_means_over_batches(dtype):
    """Each batch's mean and variance counts by its rows; the last batch has the rest."""
    model = Sequential(Dense(FEATURES, 5), BatchNorm(5), seed=0, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((23, FEATURES)).astype(dtype)
    update_batch_norm(model, x, batch_size=5, seed=3)
    z = model.layers[0].forward(x).astype(float)
    order = np.random.default_rng(3).permutation(23)
    parts = [z[order[5 * i : 5 * i + 5 if i < 3 else 23]] for i in range(4)]
    rows = [len(part) for part in parts]
    assert rows == [5, 5, 5, 8]
    mean = np.average([part.mean(axis=0) for part in parts], axis=0, weights=rows)
    var = np.average([part.var(axis=0) for part in parts], axis=0, weights=rows)
    assert_close(model.state["1.running_mean"], mean, dtype, factor=20)
    assert_close(model.state["1.running_var"], var, dtype, factor=20)


class Counts(Layer):
    def __init__(self):
        self.state = {"count": np.zeros(1)}

    def forward(self, x, training=False):
        if training:
            self.state["count"] += 1
        return x

    def backward(self, dy):
        return dy


def test_nothing_else_moves():
    model = Sequential(
        Conv2D(1, 4, 3), BatchNorm(4, momentum=0.3), Residual(BatchNorm(4), Dropout(0.5)),
        Flatten(), Dense(36 * 4, 3), Counts(), BatchNorm(3), seed=0,
    )  # fmt: skip
    model.layers[6].trainable = False
    x = np.random.default_rng(0).standard_normal((20, 8, 8, 1))
    before, counter = model.state_dict(), model._counter.copy()
    changes = fastnn.support.settings.changes
    update_batch_norm(model, x, batch_size=6)
    moved = {"1.running_mean", "1.running_var", "2.0.running_mean", "2.0.running_var"}
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]) == (name not in moved)
    assert model._counter == counter and fastnn.support.settings.changes == changes
    assert model.layers[1].momentum == 0.3
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        model.backward(np.ones((2, 3)))
    again = copy.deepcopy(model)
    update_batch_norm(again, x, batch_size=6)
    assert_alike(again, model)


@pytest.mark.parametrize("x, error", [
    (np.ones((1, FEATURES)), "two rows"), (np.ones((4, FEATURES + 1)), "^X: "),
    (np.ones(FEATURES), "^X: "), (np.full((4, FEATURES), "a"), "^x: "),
])  # fmt: skip
def test_bad_rows_change_nothing(x, error):
    model = network()
    update_batch_norm(model, X)
    before = model.state_dict()
    with pytest.raises((TypeError, ValueError), match=error):
        update_batch_norm(model, x)
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])
    assert model.layers[1].momentum == 0.1


# ---- fit ----


def fit(epochs=4, average=None, model=None, **options):
    model = model or network()
    settings = {"batch_size": 16, "progress": False, "validation_data": (VX, VY)}
    history = model.fit(
        X, Y, loss=LOSS, optimizer=Adam(0.02, clip_norm=1.0), epochs=epochs, average=average,
        **settings | options,
    )  # fmt: skip
    return model, history


class Look(Callback):
    """Keeps the weights that callbacks see."""

    def __init__(self):
        self.begins, self.ends, self.averages = [], [], []

    def on_epoch_begin(self, run):
        self.begins.append(run.model.flat_parameters.copy())

    def on_epoch_end(self, run):
        self.ends.append(run.model.flat_parameters.copy())
        self.averages.append(run.average)


@pytest.mark.parametrize("options", [
    {}, {"accumulate": 2}, {"schedule": fastnn.Cosine(warmup=1)}, {"validation_data": None},
])  # fmt: skip
def test_fit_is_steps_with_an_average(options):
    """The training is that without one; between the epochs the model has the averaged weights."""
    look, raw, average = Look(), Look(), ExponentialMovingAverage(0.9)
    model, history = fit(average=average, callbacks=[look], **options)
    plain, its_history = fit(callbacks=[raw], **options)
    assert history.loss == its_history.loss
    assert look.averages == [average] * 4 and raw.averages == [None] * 4
    for i in range(3):
        assert_same_bits(look.ends[i], look.begins[i + 1])
    assert_same_bits(look.ends[3], model.flat_parameters)
    assert_same_bits(average.flat_parameters, model.flat_parameters)
    assert (model.flat_parameters != plain.flat_parameters).any() and not average.is_applied
    steps = 3 if "accumulate" not in options else 2
    assert average.updates == 4 * steps


def test_the_mean_of_the_last_epochs():
    raw, look = Look(), Look()
    plain, _ = fit(callbacks=[raw])
    model, _ = fit(average=StochasticWeightAverage(3), callbacks=[look])
    assert_same_bits(look.ends[1], raw.ends[1])  # nothing is averaged yet
    assert_same_bits(look.ends[2], raw.ends[2])
    expected = (raw.ends[2].astype(float) + raw.ends[3]) / 2
    np.testing.assert_allclose(model.flat_parameters, expected, rtol=1e-5, atol=1e-7)
    assert (model.state["1.running_mean"] != plain.state["1.running_mean"]).all()


@pytest.mark.parametrize("name", MAKE)
def test_validation_is_that_of_the_averaged_weights(name):
    model, history = fit(average=MAKE[name]())
    result = model.evaluate(VX, VY, loss=LOSS)
    assert history.validation_loss[-1] == result["loss"]
    assert history.validation_loss != fit()[1].validation_loss


@pytest.mark.parametrize("options", [{}, {"validation_data": None}])
def test_batch_norm_is_put_right(options):
    """Whether somebody looks at the model after each epoch or not."""
    model, _ = fit(average=ExponentialMovingAverage(0.9), **options)
    expected = copy.deepcopy(model)
    update_batch_norm(expected, X, batch_size=16)
    assert_alike(model, expected)


def test_frozen_batch_norms_stay():
    model = network()
    model.layers[1].trainable = False
    fit(average=ExponentialMovingAverage(0.9), model=model)
    assert not model.state["1.running_mean"].any()


def test_batches_of_ones_own_are_gone_through_once_an_epoch():
    class Own:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter([(X[:20], Y[:20]), (X[20:], Y[20:])])

    own, average, model = Own(), ExponentialMovingAverage(0.9), network()
    model.fit(own, loss=LOSS, optimizer=Adam(), epochs=3, average=average, progress=False)
    assert own.passes == 3 and average.updates == 6


@pytest.mark.parametrize("name", MAKE)
def test_early_stopping_restores_averaged_weights(name):
    look, stopping = Look(), EarlyStopping("validation_loss", patience=2)
    model, history = fit(30, MAKE[name](), callbacks=[look, stopping], validation_data=(VX, VY))
    assert stopping.best_epoch < history.epochs < 30
    assert_same_bits(model.flat_parameters, look.ends[stopping.best_epoch - 1])


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("at", [1, 3])
def test_training_goes_on_bit_for_bit(name, at, tmp_path):
    """Before something is averaged, and after."""
    path = tmp_path / "training.safetensors"
    part, _ = fit(at, MAKE[name](), callbacks=[ModelCheckpoint(path)])
    assert_alike(fastnn.load(path), part)  # the averaged weights
    resumed, expected = MAKE[name](), MAKE[name]()
    model, history = fit(5, resumed, resume=path)
    whole, its_history = fit(5, expected)
    assert_alike(model, whole)
    assert history.validation_loss == its_history.validation_loss
    assert_same_bits(resumed.flat_parameters, expected.flat_parameters)
    assert resumed.updates == expected.updates


def test_early_stopping_goes_on_with_averaged_weights(tmp_path):
    path, stops = tmp_path / "training.safetensors", [EarlyStopping(patience=2) for _ in range(3)]
    fit(3, MAKE["EMA"](), callbacks=[stops[0], ModelCheckpoint(path)])
    model, _ = fit(30, MAKE["EMA"](), callbacks=[stops[1]], resume=path)
    assert_alike(model, fit(30, MAKE["EMA"](), callbacks=[stops[2]])[0])


@pytest.mark.parametrize("saved, resumed", [
    (None, "EMA"), ("EMA", None), ("EMA", "SWA"),
])  # fmt: skip
def test_a_resume_with_another_average_is_refused(saved, resumed, tmp_path):
    path = tmp_path / "training.safetensors"
    fit(2, saved and MAKE[saved](), callbacks=[ModelCheckpoint(path)])
    with pytest.raises(ValueError, match=r"differs: average is .*, in the file"):
        fit(3, resumed and MAKE[resumed](), resume=path)
    with pytest.raises(ValueError, match=r"average is Exp.*\(decay=0.5\), in the file"):
        fit(3, ExponentialMovingAverage(0.5), resume=path)


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("updates", [0, 3])
def test_checkpoints_of_ones_own_loop(applied, updates, tmp_path):
    path, batches = tmp_path / "training.safetensors", draw((8,) * 6)
    model, optimizer, average = network(), Adam(0.01), ExponentialMovingAverage(0.9)
    step = TrainStep(model, LOSS, optimizer, average=average)
    for batch in batches[:updates]:
        step(*batch)
    if applied and updates:
        with average.applied():
            update_batch_norm(model, X)
            fastnn.save_checkpoint(path, model, optimizer, average=average)
    else:
        fastnn.save_checkpoint(path, model, optimizer, average=average)
    saved = fastnn.load_checkpoint(path)
    assert repr(saved.average) == repr(average) and saved.average.updates == updates
    assert saved.average.is_applied == (applied and updates > 0)
    if saved.average.is_applied:
        saved.average.put_back()
    its = TrainStep(saved.model, LOSS, saved.optimizer, average=saved.average)
    assert [its(*batch) for batch in batches[3:]] == [step(*batch) for batch in batches[3:]]
    assert_alike(saved.model, model)
    assert_same_bits(saved.average.flat_parameters, average.flat_parameters)


def test_an_average_of_another_model_is_not_saved(tmp_path):
    model, average = network(), ExponentialMovingAverage()
    average.update(network())
    with pytest.raises(ValueError, match="has averaged another model"):
        fastnn.save_checkpoint(tmp_path / "x", model, Adam(), average=average)
    with pytest.raises(TypeError, match=r"^average: expected None or an object such as"):
        fastnn.save_checkpoint(tmp_path / "x", model, Adam(), average=0.9)
    assert not (tmp_path / "x").exists()


def test_each_fit_begins_the_average_anew():
    average, twin = ExponentialMovingAverage(0.9), ExponentialMovingAverage(0.9)
    model, _ = fit(2, average)
    other = copy.deepcopy(model)
    for each, its in ((model, average), (other, twin)):
        fit(2, its, model=each)
    assert average.updates == twin.updates == 6
    assert_alike(model, other)


def test_what_a_fit_recorded_goes_with_its_average():
    """A later fit with another average does not replay the updates of the first one's."""
    model, optimizer, loss = network(), Adam(0.01), LOSS
    averages = [MAKE["EMA"](), MAKE["EMA"](), None, MAKE["EMA"]()]
    hand, by_its = network(), Adam(0.01)
    for average in averages:
        options = {"epochs": 2, "batch_size": 16, "progress": False}
        model.fit(X, Y, loss=loss, optimizer=optimizer, average=average, **options)
        again = None if average is None else ExponentialMovingAverage(0.9)
        hand.fit(X, Y, loss=SoftmaxCrossEntropy(), optimizer=by_its, average=again, **options)
        assert_alike(model, hand)
        if average is not None:
            assert_same_bits(average.flat_parameters, again.flat_parameters)


def test_training_that_ends_with_an_error_leaves_averaged_weights():
    class Fails(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                raise KeyError("enough")

    average, look = ExponentialMovingAverage(0.9), Look()
    model = network()
    with pytest.raises(KeyError):
        fit(5, average, model=model, callbacks=[look, Fails()])
    assert_same_bits(model.flat_parameters, look.ends[1])
    assert not average.is_applied
    assert_same_bits(average.flat_parameters, model.flat_parameters)


@pytest.mark.parametrize("own", [False, True], ids=["recorded", "by hand"])
def test_no_step_trains_the_averaged_weights(own):
    """Neither a replayed step nor the first by hand, which would move the model's own weights."""
    optimizer, average = OwnSGD(0.1) if own else SGD(0.1), ExponentialMovingAverage(0.9)
    model, (batch, *others) = network(), draw(SIZES)
    step = TrainStep(model, LOSS, optimizer, average=average)
    for each in others:
        step(*each)
    own_weights, averaged = model.flat_parameters.copy(), average.flat_parameters.copy()
    half = GradientStep(model, optimizer, average=average)
    with average.applied():
        for use in (lambda: step(*others[0]), lambda: step(*batch), lambda: half.forward(batch[0])):
            with pytest.raises(RuntimeError, match=r"^a training step: the model has the averaged"):
                use()
        assert_same_bits(model.flat_parameters, averaged)
    assert_same_bits(model.flat_parameters, own_weights)
    assert_same_bits(average.flat_parameters, averaged)
    step(*batch)


def test_an_average_is_of_models():
    with pytest.raises(TypeError, match=r"^model: expected a Sequential, got Vector"):
        ExponentialMovingAverage(0.5).update(fastnn.Vector([1.0]))
