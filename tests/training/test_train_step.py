"""Recorded steps have the bits of a loop by hand, whatever is trained or changed between them."""

import copy
import gc
import itertools
import pickle
import tracemalloc
import weakref

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits, uses_threads
from fastnn import (
    BatchNorm,
    Dense,
    Dropout,
    GradientStep,
    Huber,
    LayerNorm,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
    _kernels,
)
from fastnn.training import sources
from fastnn.training.samples import check_samples
from forms import misaligned
from stepping import (
    CLASSES,
    FEATURES,
    SIZES,
    assert_alike,
    assert_same_training,
    by_hand,
    draw,
    network,
    trainer,
)
from tables import LAYERS, LOSSES, OPTIMIZERS


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer(layer, isa, dtype):
    def make():
        middle = LAYERS[layer](9)
        width = middle.out_features or 9
        return Sequential(
            Dense(FEATURES, 9), middle, Dense(width, CLASSES), seed=2, dtype=dtype, l2=0.01
        )

    batches = draw(SIZES, dtype)
    assert_same_training(make, SoftmaxCrossEntropy(), lambda: fastnn.Adam(0.01), batches)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_at_both_ends(layer):
    def make():
        last = LAYERS[layer](9)
        return Sequential(LAYERS[layer](FEATURES), Dense(width, 9), last, seed=2, l2=0.01)

    width = LAYERS[layer](FEATURES).out_features or FEATURES
    rng = np.random.default_rng(0)
    batches = [(x, rng.random((len(x), make().out_features or 9))) for x, _ in draw(SIZES)]
    assert_same_training(make, Huber(), lambda: fastnn.Adam(0.01), batches)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(loss, weighted, dtype):
    rng, batches = np.random.default_rng(1), draw(SIZES, dtype, weighted=weighted)
    for batch in batches:
        batch[1] = LOSSES[loss][2](rng, (len(batch[0]), CLASSES), dtype)
    assert_same_training(
        lambda: network(dtype), LOSSES[loss][0], lambda: fastnn.Momentum(0.01), batches
    )


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, clip, isa, dtype):
    make = OPTIMIZERS[optimizer][0]
    assert_same_training(
        lambda: network(dtype, l2=0.1), SoftmaxCrossEntropy(label_smoothing=0.1),
        lambda: make(clip_norm=clip), draw(SIZES, dtype, weighted=True),
    )  # fmt: skip


def test_many_sizes_in_any_order():
    """There are more sizes than a step keeps programs for; targets and weights vary too."""
    rng = np.random.default_rng(0)
    sizes = [*range(2, 27), *rng.integers(2, 27, 60).tolist()]
    batches = draw(sizes)
    for batch in batches[::3]:
        batch.append(rng.random(len(batch[0])) + 0.1)
    for batch in batches[::4]:
        batch[1] = np.eye(CLASSES)[batch[1]]
    loss, make_optimizer = SoftmaxCrossEntropy(), lambda: fastnn.AdamW(0.01)
    assert_same_training(network, loss, make_optimizer, batches)


def test_the_programs_of_the_last_sizes_are_kept():
    step = TrainStep(network(), SoftmaxCrossEntropy(), fastnn.SGD(0.01))
    for batch in draw(range(2, 50)):
        step(*batch)
    assert list(step._recording._entries) == [
        ((rows, FEATURES), 1, True, 1, 1) for rows in range(34, 50)
    ]


def test_any_form_of_the_arrays():
    forms = (
        lambda a: a.tolist(), np.asfortranarray, lambda a: a.astype(a.dtype.newbyteorder(">")),
        lambda a: np.repeat(a, 2, axis=0)[::2], lambda a: a.astype(np.int8), lambda a: a,
    )  # fmt: skip
    batches = [
        [form(np.round(x)), form(y), form(w)]
        for form, (x, y, w) in zip(forms, draw([8] * len(forms), weighted=True), strict=True)
    ]
    batches[4][2] = np.ones(8, np.int8)
    assert_same_training(network, SoftmaxCrossEntropy(), lambda: fastnn.SGD(0.01), batches)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_with_work_enough_for_threads(dtype, fma_isas):
    def make():
        return Sequential(
            Dense(90, 150), BatchNorm(150), ReLU(), Dropout(0.2), Dense(150, 130, "tanh"),
            LayerNorm(130), Dense(130, CLASSES), seed=3, dtype=dtype, l2=0.1,
        )  # fmt: skip

    batches, loss = draw((150, 150, 70, 150, 70), dtype, features=90), SoftmaxCrossEntropy()
    hand, expected = make(), None
    fastnn.set_num_threads(1)
    expected = by_hand(hand, loss, fastnn.Adam(clip_norm=0.1), batches)
    assert uses_threads(lambda: TrainStep(make(), loss, fastnn.Adam())(*batches[0]))
    for isa, threads in itertools.product(fma_isas, (1, 2, 3, 7)):
        _kernels.set_isa(isa)
        fastnn.set_num_threads(threads)
        model = make()
        step = TrainStep(model, loss, fastnn.Adam(clip_norm=0.1))
        assert [step(*batch) for batch in batches] == expected
        assert_alike(model, hand)


# ---- fit ----


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [2, 9, 16, 26, 52, 100])
def test_fit_is_the_loop_by_hand(batch_size, weighted, dtype):
    ((X, y, weight),), loss = draw([52], dtype, weighted=True), SoftmaxCrossEntropy()
    hand, model, optimizers = network(dtype), network(dtype), (fastnn.Adam(), fastnn.Adam())
    arrays = {"sample_weight": weight} if weighted else {}
    order = fastnn.batches(X, y, batch_size, seed=5, **arrays)
    values, outputs = [], []
    for _ in range(3):
        values.append([])
        for batch in order:
            total = batch[2].astype(float) if weighted else np.ones(len(batch[0]))
            (value,) = by_hand(hand, loss, optimizers[0], [batch])
            values[-1].append((value, total.sum()))
    history = model.fit(
        X, y, loss=loss, optimizer=optimizers[1], epochs=3, batch_size=batch_size, seed=5,
        progress=False, metrics=["accuracy", lambda o, t: outputs.append(o) or 0], **arrays,
    )  # fmt: skip
    assert_alike(model, hand)
    for epoch, loss_of_epoch in zip(values, history.loss, strict=True):
        total = sum(w for _, w in epoch)
        np.testing.assert_allclose(sum(v * w for v, w in epoch) / total, loss_of_epoch, rtol=1e-12)
    assert all(o.shape == (52, CLASSES) for o in outputs)


def test_the_accuracy_of_fit_is_that_of_the_outputs_in_training():
    ((X, y),), loss = draw([50]), SoftmaxCrossEntropy()
    model, hand = network(), network()
    optimizer, right = fastnn.Adam(), 0
    for xb, yb in fastnn.batches(X, y, 8, seed=0):
        outputs = copy.deepcopy(hand).forward(xb, training=True)
        right += (outputs.argmax(axis=1) == yb).sum()
        by_hand(hand, loss, optimizer, [(xb, yb)])
    history = model.fit(X, y, loss=loss, optimizer=fastnn.Adam(), epochs=1, batch_size=8,
                        seed=0, progress=False)  # fmt: skip
    assert history.accuracy == [right / 50]


# ---- what changes between steps ----


def change_everything(i, model, loss, optimizer):
    if i == 1:
        optimizer.learning_rate = 0.5
    elif i == 2:
        model.layers[3].rate = 0.6
    elif i == 3:
        model.layers[1].momentum, model.layers[1].eps = 0.7, 0.01
    elif i == 4:
        optimizer.clip_norm = 1e-3
    elif i == 5:
        optimizer.beta = 0.3
    elif i == 6:
        loss.label_smoothing = 0.5
    elif i == 7:
        optimizer.clip_norm = None
    elif i == 8:
        model.layers[4].activation.alpha = 0.9
    elif i == 9:
        optimizer.nesterov, model.layers[0].l2 = True, 3.0
    elif i == 10:
        model.layers[0].l2, model.layers[4].l2 = 0.0, 0.4
    elif i == 11:
        model.layers[3].rate = 0.0
    elif i == 12:
        loss.label_smoothing = 0.0
    elif i == 13:
        model.parameters["0.weight"][...] *= 0.5
        model.state["1.running_mean"][...] = 7
    elif i == 14:
        model.load_state_dict({k: v * 0.9 for k, v in model.state_dict().items()})
    elif i == 15:
        model.flat_parameters[:] *= 1.25


CHANGES = 16


@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
def test_what_is_set_between_steps_acts_at_the_next(kind):
    models = network(), network()
    losses = SoftmaxCrossEntropy(), SoftmaxCrossEntropy()
    optimizers = fastnn.Momentum(0.01), fastnn.Momentum(0.01)
    take = trainer(kind, models[1], losses[1], optimizers[1])
    seen = set()
    for i, batch in enumerate(draw([8] * CHANGES)):
        for part in zip(models, losses, optimizers, strict=True):
            change_everything(i, *part)
        for _ in range(2):  # recorded anew, then replayed
            (expected,) = by_hand(models[0], losses[0], optimizers[0], [batch])
            np.testing.assert_allclose(take(*batch), expected, rtol=1e-12)
            assert_alike(models[1], models[0])
        seen.add(expected)
    assert len(seen) == CHANGES


@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_between_steps_go_on_alike(duplicate, kind):
    model, optimizer, loss = network(), fastnn.Adam(0.01), SoftmaxCrossEntropy()
    take = trainer(kind, model, loss, optimizer)
    batches = draw([8] * 9)
    for batch in batches[:3]:
        take(*batch)
    twin, its_optimizer = duplicate((model, optimizer))
    its_take = trainer(kind, twin, loss, its_optimizer)
    for batch in batches[3:6]:
        assert take(*batch) == its_take(*batch)
    assert_alike(twin, model)
    before = twin.flat_parameters.copy()
    take(*batches[6])
    assert_same_bits(twin.flat_parameters, before)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
def test_a_step_itself_may_be_copied(kind, duplicate):
    (batch,), loss = draw([8]), SoftmaxCrossEntropy()
    model, optimizer = network(), fastnn.Adam(0.01)
    step = kind(model, optimizer) if kind is GradientStep else kind(model, loss, optimizer)

    def take(step):
        if kind is TrainStep:
            return step(*batch)
        value, gradient = loss(step.forward(batch[0]), batch[1])
        step.backward(gradient)
        return value

    for _ in range(3):
        take(step)
    twin = duplicate(step)
    for _ in range(3):
        assert take(step) == take(twin)
    assert_alike(twin.model, model)
    assert twin.steps == step.steps == 6
    with pytest.raises(FloatingPointError, match="step 7"):  # a fault of the twin alone
        if kind is TrainStep:
            twin(np.full((8, FEATURES), np.nan), batch[1])
        else:
            twin.forward(batch[0])
            twin.backward(np.full((8, CLASSES), np.nan))
    take(step)


def test_by_hand_and_replayed_steps_in_turn():
    """What a step of one kind leaves behind does not disturb the other kind."""
    batches, loss = draw([8, 8, 4, 8] * 4), SoftmaxCrossEntropy()
    models, optimizers = (network(), network()), (fastnn.Adam(), fastnn.Adam(clip_norm=None))
    step = TrainStep(models[1], loss, optimizers[1])
    expected = by_hand(models[0], loss, optimizers[0], batches)
    for i, batch in enumerate(batches):
        if i % 3 == 2:
            assert by_hand(models[1], loss, optimizers[1], [batch]) == [expected[i]]
        else:
            assert step(*batch) == expected[i]
        models[1].predict(batch[0])
    assert_alike(models[1], models[0])


# ---- memory ----


def test_fit_takes_rows_from_the_users_own_memory(tmp_path):
    rows, features = 20000, 100  # 8 MB
    np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (rows, features))[:] = 1
    for mode in (None, "r", "r+", "c"):
        X = np.load(tmp_path / "X.npy", mmap_mode=mode)
        y = np.zeros(rows, np.int64)
        model, seen = Sequential(Dense(features, 2), seed=0), []

        def look(*given, seen=seen):
            data = check_samples(*given)
            seen.append(data.X)
            return data

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "check_samples", look)
            tracemalloc.start()
            model.fit(X, y, loss=SoftmaxCrossEntropy(), optimizer=fastnn.SGD(0.1), epochs=2,
                      batch_size=100, progress=False)  # fmt: skip
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert np.shares_memory(seen[0], X) and peak < X.nbytes / 2


def test_rows_that_are_not_aligned_are_taken_in_place():
    """A program copies bytes, so only the batches need to be aligned."""
    ((X, y),), loss = draw([50]), SoftmaxCrossEntropy()
    models = network(), network()
    for model, rows in zip(models, (X, misaligned(X)), strict=True):
        model.fit(rows, y, loss=loss, optimizer=fastnn.Adam(), batch_size=8, epochs=2,
                  progress=False)  # fmt: skip
    assert_alike(models[1], models[0])


def test_the_outputs_of_a_step_are_the_callers():
    model, loss = network(), SoftmaxCrossEntropy()
    step = TrainStep(model, loss, fastnn.Adam())
    assert step.outputs is None
    seen = []
    for batch in draw([8] * 4):
        expected = copy.deepcopy(model).forward(batch[0], training=True)
        step(*batch)
        seen.append((step.outputs, expected))
        step.outputs[:] = 0
    for outputs, expected in seen:
        assert_same_bits(outputs, expected)


# ---- one recording for many calls of fit ----


def fit_once(model, loss, optimizer, batch, **options):
    return model.fit(
        *batch[:2],
        loss=loss,
        optimizer=optimizer,
        epochs=1,
        batch_size=8,
        progress=False,
        **options,
    ).loss[0]


def count_recordings(monkeypatch):
    made, record = [], TrainStep._record

    def counting(self, *args, **kwargs):
        made.append(self)
        return record(self, *args, **kwargs)

    monkeypatch.setattr(TrainStep, "_record", counting)
    return made


def test_fit_goes_on_with_the_recordings_of_the_last_one(monkeypatch):
    """It has the bits of a fit that records anew."""
    made, parts = count_recordings(monkeypatch), (network(), SoftmaxCrossEntropy(), fastnn.Adam())
    twin, its_optimizer = copy.deepcopy((parts[0], parts[2]))
    for i, batch in enumerate(draw([20, 20, 12, 20], weighted=True)):
        parts[2].learning_rate = its_optimizer.learning_rate = 0.1 / (i + 1)
        options = {"seed": i, "sample_weight": batch[2] if i == 3 else None}
        value = fit_once(*parts, batch, **options)
        twin, its_optimizer = copy.deepcopy((twin, its_optimizer))  # a copy records anew
        assert value == fit_once(twin, SoftmaxCrossEntropy(), its_optimizer, batch, **options)
        assert_alike(twin, parts[0])
        assert sum(step.model is parts[0] for step in made) == (4 if i == 3 else 2)


def test_fit_records_anew_what_has_changed(monkeypatch):
    (batch,), made = draw([16]), count_recordings(monkeypatch)
    model, loss, optimizer = network(), SoftmaxCrossEntropy(), fastnn.Adam()

    def recordings(loss=loss):
        made.clear()
        twin, its_optimizer = copy.deepcopy((model, optimizer))
        value = fit_once(model, loss, optimizer, batch)
        count = len(made)
        assert value == fit_once(twin, loss, its_optimizer, batch)
        return count

    assert (recordings(), recordings()) == (1, 0)
    model.layers[1].momentum = 0.2
    assert (recordings(), recordings()) == (1, 0)
    model.layers[3].rate = 0.6  # which kernels read when they run
    assert recordings() == 0
    optimizer.clip_norm = 0.1
    assert (recordings(), recordings()) == (1, 0)
    assert (recordings(SoftmaxCrossEntropy()), recordings()) == (1, 1)
    pickle.loads(pickle.dumps(optimizer)), copy.copy(optimizer)
    assert recordings() == 0
    with pytest.raises(ValueError, match="has stepped another model before"):
        fit_once(network(), loss, optimizer, batch)


def test_a_fit_within_a_fit_does_not_disturb_it():
    """A metric calls `fit`, which must not feed the recording in use."""
    ((X, y),), parts = draw([24]), (network(), SoftmaxCrossEntropy(), fastnn.Adam())

    def trains(outputs, targets):
        fit_once(*parts, (X[:16], y[:16]))
        return 0.0

    for _ in range(3):
        fit_once(*parts, (X, y), metrics=[trains])
    hand, optimizer = network(), fastnn.Adam()
    for _ in range(3):
        for rows in (24, 16):
            by_hand(hand, parts[1], optimizer, fastnn.batches(X[:rows], y[:rows], 8))
    assert_alike(parts[0], hand)


def test_what_fit_keeps_holds_neither_data_nor_model():
    ((X, y),), (model, optimizer) = draw([20]), (network(), fastnn.Adam())
    fit_once(model, SoftmaxCrossEntropy(), optimizer, (X, y))
    alive = [weakref.ref(X), weakref.ref(y)]
    del X, y
    assert len(model._handover._left) == 1 and [ref() for ref in alive] == [None, None]
    ref = weakref.ref(model)
    gc.disable()
    try:
        del model, optimizer
        assert ref() is None
    finally:
        gc.enable()


# ---- what a step is made of ----


def test_the_parts_of_a_step_are_fixed():
    step = TrainStep(network(), fastnn.SoftmaxCrossEntropy(), fastnn.SGD(0.1))
    for name in ("model", "loss", "optimizer", "recorded"):
        with pytest.raises(AttributeError, match=f"{name} is fixed once a TrainStep is made"):
            setattr(step, name, getattr(step, name))


def test_a_step_shows_what_it_is_made_of():
    step = TrainStep(network(), SoftmaxCrossEntropy(), fastnn.SGD(0.1))
    assert repr(step) == (
        "<TrainStep: Sequential of 8 layers, SGD(0.1), SoftmaxCrossEntropy(), "
        "steps=0, recorded=True>"
    )
    assert repr(GradientStep(network(), fastnn.SGD(0.1))) == (
        "<GradientStep: Sequential of 8 layers, SGD(0.1), steps=0, recorded=True>"
    )


def test_the_warning_of_an_ending_shows_the_users_line():
    ((x, y),) = draw([8])
    model, loss = Sequential(Dense(FEATURES, CLASSES, "softmax")), SoftmaxCrossEntropy()
    for call in (
        lambda: fit_once(model, loss, fastnn.SGD(0.1), (x, y)),
        lambda: TrainStep(model, loss, fastnn.SGD(0.1)),
    ):
        with pytest.warns(UserWarning, match="takes logits") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]
