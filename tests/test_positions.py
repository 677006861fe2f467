"""Outputs at every position of a sequence or an image: each is a row of losses and metrics."""

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    Adam,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dropout,
    Hinge,
    Loss,
    MeanSquaredError,
    ModelCheckpoint,
    Quantile,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    TrainStep,
    gradcheck,
    metrics,
)
from stepping import assert_alike, assert_same_training
from tables import LOSSES, draw

CHANNELS, LENGTH, CLASSES = 4, 9, 3
SHAPES = [(5, 7, 3), (1, 1, 2), (4, 3, 5, 2), (2, 6, 1)]


def labeller(dtype="float32", outputs=CLASSES):
    return Sequential(
        Conv1D(CHANNELS, 8, 3, padding="same", activation="relu"), BatchNorm(8), Dropout(0.2),
        Conv1D(8, outputs, 1), seed=1, dtype=dtype, l2=0.01,
    )  # fmt: skip


def sequences(rows=50, seed=0, length=LENGTH):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, length, CHANNELS)).astype(np.float32)
    return x, (x[..., 0] > 0) + (x[..., 1] > 0).astype(np.int64), rng.random((rows, length))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_each_position_is_a_row(name, shape, dtype, rng):
    """With the bits of the loss on rows."""
    flat = (int(np.prod(shape[:-1])), shape[-1])
    several = "softmax" in name or "hinge" in name
    if several and shape[-1] == 1:
        pytest.skip("classes are 2 at least")
    outputs, targets = draw(name, flat, dtype, rng)
    loss, weight = LOSSES[name][0], rng.random(flat[0]).astype(dtype)
    at = targets.reshape(*shape[:-1], *targets.shape[1:])
    for w in (None, weight):
        value, gradient = loss(outputs, targets, w)
        w = None if w is None else w.reshape(shape[:-1])
        its_value, its_gradient = loss(outputs.reshape(shape), at, w)
        assert its_value == value
        assert_same_bits(its_gradient, gradient.reshape(shape))
    rows = rng.random(shape[0]).astype(dtype)  # a weight of a row is that of its positions
    expanded = np.broadcast_to(rows.reshape(-1, *[1] * (len(shape) - 2)), shape[:-1])
    value, gradient = loss(outputs.reshape(shape), at, rows)
    expected = loss(outputs.reshape(shape), at, expanded)
    assert value == expected[0]
    assert_same_bits(gradient, expected[1])


def test_targets_without_the_last_dimension(rng):
    outputs, targets = rng.standard_normal((4, 6, 1)), rng.integers(0, 2, (4, 6))
    for loss in (MeanSquaredError(), SigmoidCrossEntropy(), Quantile(0.9)):
        assert loss(outputs, targets)[0] == loss(outputs, targets[..., None])[0]
    outputs = rng.standard_normal((4, 6, 2))
    both = np.repeat(targets[..., None], 2, axis=-1).astype(float)
    loss = Quantile([0.1, 0.9])
    assert loss(outputs, targets)[0] == loss(outputs, targets[..., None])[0] == loss(
        outputs, both)[0]  # fmt: skip


OUT = np.zeros((2, 4, 3))
WRONG = {
    "labels of rows": (SoftmaxCrossEntropy(), [0, 1], None,
                       r"targets: .*labels of shape \(2, 4\) or .* \(2, 4, 3\), got shape \(2,\)"),
    "labels of too few": (Hinge(), OUT[:, :3, 0].astype(int), None, r"shape \(2, 4\), got shape "),
    "a column of labels": (SoftmaxCrossEntropy(), OUT[..., :1].astype(int), None,
                           r"of shape \(2, 4\), got .*; write .reshape\(y.shape\[:-1\]\)$"),
    "float labels": (SoftmaxCrossEntropy(), OUT[..., 0], None, "integer labels, got float64"),
    "a label too large": (SoftmaxCrossEntropy(), np.full((2, 4), 3), None, "labels in .*, got 3"),
    "values of others": (MeanSquaredError(), OUT[:, :, :2], None, r"shape \(2, 4, 3\), got \(2, 4"),
    "a negative": (SigmoidCrossEntropy(), OUT - [[[0]], [[1]]], None, "got -1.0 in row 1"),
    "weights": (MeanSquaredError(), OUT, np.ones((2, 3)), r"sample_weight: expected shape \(2,\) or"
                r" \(2, 4\), got \(2, 3\)"),
    "no weights": (MeanSquaredError(), OUT, np.zeros((2, 4)), "sample_weight: .*got only zeros"),
    "a weight below 0": (MeanSquaredError(), OUT, [-1, 1], "sample_weight: .*got -1"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_refused(wrong):
    loss, targets, weight, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        loss(OUT, targets, weight)


# ---- steps ----


OPTIONS = {
    "labels": (SoftmaxCrossEntropy, lambda y: y),
    "one hot": (SoftmaxCrossEntropy, lambda y: np.eye(CLASSES, dtype=np.float32)[y]),
    "ignored": (lambda: SoftmaxCrossEntropy(ignore_index=1, class_weight=[1, 2, 0.5]), lambda y: y),
    "squared": (MeanSquaredError, lambda y: np.eye(CLASSES, dtype=np.float32)[y]),
    "hinge": (Hinge, lambda y: y),
}


@pytest.mark.parametrize("weighted", [None, "rows", "positions"])
@pytest.mark.parametrize("name", OPTIONS)
def test_recorded_steps(name, weighted, threads):
    make, form = OPTIONS[name]
    batches = []
    for rows, length in ((8, 9), (8, 9), (8, 9), (3, 9), (8, 5), (8, 9)):
        x, y, weight = sequences(rows, seed=len(batches), length=length)
        weight = weight[:, 0] if weighted == "rows" else weight
        batches.append([x, form(y)] + ([] if weighted is None else [weight]))
    assert_same_training(labeller, make(), lambda: Adam(0.01), batches)


def test_labels_are_checked_before_each_step():
    """All of them, also where a replayed step takes them without Python."""
    x, y, _ = sequences(8)
    step = TrainStep(labeller(), SoftmaxCrossEntropy(), Adam())
    for _ in range(3):
        step(x, y)
    for wrong in (CLASSES, -1, LENGTH):
        bad = y.copy()
        bad[-1, -1] = wrong
        with pytest.raises(ValueError, match=rf"targets: expected labels in \[0, 3\), got {wrong}"):
            step(x, bad)
    assert step.steps == 3 and step.recorded


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients(name):
    make, form = OPTIONS[name]
    x, y, weight = sequences(4, length=5)
    model = Sequential(Conv1D(CHANNELS, 6, 3, padding=1, activation="tanh"), Conv1D(6, CLASSES, 1))
    for w in (None, weight):
        assert gradcheck(model, make(), x.astype(float), form(y), sample_weight=w) < 1e-7


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), lambda o, t, w: loss_of(o, t, w)],
                         ids=["fastnn's", "one's own"])  # fmt: skip
def test_accumulated_batches_count_by_their_positions(loss):
    """As one step on all of them does: of these sequences some are long and some short."""
    x, y, _ = sequences(6, length=8)
    parts = [(x[:4], y[:4]), (x[4:, :3], y[4:, :3])]
    rows = [(x.reshape(-1, 1, CHANNELS), y.reshape(-1, 1)) for x, y in parts]
    whole = [np.concatenate(p) for p in zip(*rows, strict=True)]
    models = [Sequential(Conv1D(CHANNELS, CLASSES, 1), seed=0) for _ in range(2)]
    models[0].fit(parts, loss=loss, optimizer=fastnn.SGD(1.0), epochs=1, accumulate=2,
                  progress=False)  # fmt: skip
    models[1].fit(*whole, loss=loss, optimizer=fastnn.SGD(1.0), epochs=1, batch_size=99,
                  progress=False)  # fmt: skip
    np.testing.assert_allclose(*(m.flat_parameters for m in models), rtol=1e-5, atol=1e-6)


def loss_of(outputs, targets, weight):
    return SoftmaxCrossEntropy()(outputs, targets, weight)


# ---- fit and evaluate ----


def fit(x, y=None, model=None, **options):
    model = model or labeller()
    settings = {"loss": SoftmaxCrossEntropy(), "optimizer": Adam(0.01), "epochs": 3,
                "batch_size": 8, "progress": False}  # fmt: skip
    return model, model.fit(x, y, **settings | options)


def test_a_network_learns_to_label_sequences():
    x, y, _ = sequences(200)
    model, history = fit(x, y, epochs=20, validation_data=sequences(50, 1)[:2], metrics=["f1"])
    assert history.validation_f1[-1] > 0.9 and history.loss[-1] < 0.5 * history.loss[0]
    outputs = model.predict(x)
    measured = model.evaluate(x, y, loss=SoftmaxCrossEntropy(), metrics=["accuracy", "log_loss"])
    assert measured["accuracy"] == (outputs.argmax(-1) == y).mean()
    np.testing.assert_allclose(measured["loss"], measured["log_loss"], rtol=1e-5)


def test_a_network_learns_to_denoise_images(rng):
    clean = np.zeros((60, 8, 8, 1), np.float32)
    clean[:, 2:6, 2:6] = 1
    noisy = clean + 0.5 * rng.standard_normal(clean.shape)
    model = Sequential(Conv2D(1, 8, 3, padding="same", activation="relu"),
                       Conv2D(8, 1, 3, padding="same"), seed=0)  # fmt: skip
    history = model.fit(noisy, clean, loss=MeanSquaredError(), optimizer=Adam(0.01), epochs=10,
                        progress=False, metrics=["mean_squared_error"])  # fmt: skip
    assert history.loss[-1] < 0.3 * history.loss[0]
    np.testing.assert_allclose(history.loss, history.mean_squared_error, rtol=1e-5)
    vector = model.evaluate(noisy, clean[..., 0], loss=MeanSquaredError())
    assert vector == model.evaluate(noisy, clean, loss=MeanSquaredError())


def test_masks_by_weights_and_by_labels_are_one():
    x, y, weight = sequences(40)
    mask = weight > 0.3
    mask[:3] = False  # rows that take no part at all
    masked = np.where(mask, y, -100)
    loss = SoftmaxCrossEntropy(ignore_index=-100)
    a, by_weight = fit(
        x, y, sample_weight=mask, validation_data=(x, y, mask), metrics=["f1", "auc"]
    )
    b, by_label = fit(x, masked, loss=loss, validation_data=(x, masked), metrics=["f1", "auc"])
    assert_alike(a, b)
    for name in by_weight:
        if name not in ("seconds", "samples_per_second"):
            assert by_weight[name] == by_label[name], name
    outputs = a.predict(x)
    expected = metrics.f1(outputs[mask], y[mask])
    assert by_weight.validation_f1[-1] == expected
    assert metrics.f1(outputs, masked, sample_weight=mask) == expected
    ours = a.evaluate(x, y, loss=SoftmaxCrossEntropy(), sample_weight=mask)
    right = SoftmaxCrossEntropy()(outputs[mask], y[mask])[0]
    np.testing.assert_allclose(ours["loss"], right, rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_an_epoch_is_the_mean_over_positions(weighted):
    """They may be arrays, one's own batches, and sequences of several lengths."""
    x, y, weight = sequences(22)
    w = weight if weighted else None
    still = {"optimizer": fastnn.SGD(1e-30), "epochs": 1, "metrics": []}
    model = Sequential(Conv1D(CHANNELS, CLASSES, 1), seed=0)
    outputs = model.predict(x)
    expected = SoftmaxCrossEntropy()(outputs, y, w)[0]
    batches = [(x[i : i + 8], y[i : i + 8]) + ((w[i : i + 8],) if weighted else ())
               for i in range(0, 22, 8)]  # fmt: skip
    for data in ({"x": x, "y": y, "sample_weight": w}, {"x": batches}):
        np.testing.assert_allclose(fit(model=model, **data, **still)[1].loss, expected, rtol=1e-6)
    lengths = [(x[:8], y[:8]), (x[8:, :2], y[8:, :2])]
    long, short = (model.predict(part).reshape(-1, CLASSES) for part, _ in lengths)
    rows = np.concatenate([long, short]), np.concatenate([part.ravel() for _, part in lengths])
    history = fit(lengths, model=model, **still | {"metrics": ["accuracy"]})[1]
    np.testing.assert_allclose(history.loss, SoftmaxCrossEntropy()(*rows)[0], rtol=1e-6)
    assert history.accuracy == [metrics.accuracy(*rows)]
    lengths[1] += (weight[8:, :2],)
    history = fit(lengths, model=model, **still | {"metrics": ["accuracy"]})[1]
    weights = np.concatenate([np.ones(long.shape[0]), lengths[1][2].ravel()])
    expected = metrics.accuracy(*rows, sample_weight=weights)
    np.testing.assert_allclose(history.accuracy, [expected], rtol=1e-6)


def test_class_weights_of_positions():
    x, y, weight = sequences()
    counts = np.bincount(y.ravel())
    by_class = y.size / (CLASSES * counts)
    a, balanced = fit(x, y, class_weight="balanced", sample_weight=weight)
    b, _ = fit(x, y, class_weight=dict(enumerate(by_class)), sample_weight=weight)
    c, _ = fit(x, y, sample_weight=weight * by_class[y])
    assert_alike(a, b)
    np.testing.assert_allclose(a.flat_parameters, c.flat_parameters, rtol=1e-3, atol=1e-4)
    plain = fit(x, y, sample_weight=weight)[1]
    assert plain.loss != balanced.loss
    for form in (y > 1, (y > 1)[..., None]):
        fit(x, form, labeller(outputs=1), loss=SigmoidCrossEntropy(), class_weight={True: 2.0})


def test_resumed(tmp_path):
    x, y, weight = sequences()
    masked, path = np.where(weight > 0.2, y, -1), tmp_path / "training.safetensors"
    options = {"loss": SoftmaxCrossEntropy(ignore_index=-1, label_smoothing=0.1), "accumulate": 2,
               "sample_weight": weight, "validation_data": (x, masked, weight)}  # fmt: skip
    expected, whole = fit(x, masked, epochs=4, **options)
    fit(x, masked, epochs=2, callbacks=[ModelCheckpoint(path)], **options)
    model, history = fit(x, masked, epochs=4, resume=path, **options)
    assert_alike(model, expected)
    assert history.validation_loss == whole.validation_loss


# ---- parts of one's own ----


def test_a_derived_loss_gets_positions_as_rows():
    seen = []

    class Own(Loss):
        def evaluate(self, outputs, targets, weight):
            seen.append((outputs.shape, targets.shape, None if weight is None else weight.shape))
            return MeanSquaredError().evaluate(outputs, targets, weight)

    x, y, weight = sequences(8)
    y = np.eye(CLASSES)[y]
    _, own = fit(x, y, loss=Own(), sample_weight=weight)
    _, expected = fit(x, y, loss=MeanSquaredError(), sample_weight=weight)
    assert own.loss == expected.loss
    assert seen[-1] == ((8 * LENGTH, CLASSES), (8 * LENGTH, CLASSES), (8 * LENGTH,))


def test_functions_get_the_shapes_that_there_are():
    seen = []

    def loss(outputs, targets, weight):
        seen.append((outputs.shape, targets.shape, None if weight is None else weight.shape))
        return SoftmaxCrossEntropy()(outputs, targets, weight)

    def metric(outputs, targets, sample_weight):
        seen.append((outputs.shape, targets.shape, sample_weight.shape))
        return 0.0

    x, y, weight = sequences(8)
    for w in (weight, weight[:, 0]):
        fit(x, y, loss=loss, sample_weight=w, metrics=[], epochs=1)
        assert seen[-1] == ((8, LENGTH, CLASSES), (8, LENGTH), w.shape)
    labeller().evaluate(x, y, loss=SoftmaxCrossEntropy(), metrics=[metric], sample_weight=weight)
    assert seen[-1] == ((8, LENGTH, CLASSES), (8, LENGTH), (8, LENGTH))


def test_functions_of_scikit_learn_get_positions_as_rows():
    theirs = pytest.importorskip("sklearn.metrics")
    x, y, weight = sequences(20)
    mask, model = weight > 0.4, labeller()
    masked, answers = np.where(mask, y, -1), model.predict(x).argmax(-1)
    measured = model.evaluate(x, masked, loss=SoftmaxCrossEntropy(ignore_index=-1),
                              metrics=[theirs.accuracy_score], sample_weight=weight)  # fmt: skip
    expected = theirs.accuracy_score(y[mask], answers[mask], sample_weight=weight[mask])
    np.testing.assert_allclose(measured["accuracy_score"], expected, rtol=1e-6)
    images = np.random.default_rng(0).standard_normal((5, 4, 4, 2)).astype(np.float32)
    model = Sequential(Conv2D(2, 2, 3, padding=1), seed=0)
    measured = model.evaluate(images, images, loss=MeanSquaredError(), metrics=[theirs.r2_score])
    expected = theirs.r2_score(images.reshape(-1, 2), model.predict(images).reshape(-1, 2))
    np.testing.assert_allclose(measured["r2_score"], expected, rtol=1e-5)


REFUSED = {
    "weights": ({"sample_weight": np.ones((8, 3))}, r"^sample_weight: .*\(8,\) or \(8, 9\), got"),
    "all masked": ({"sample_weight": np.zeros((8, 9))}, "^sample_weight: all weights are 0"),
    "a row of labels": ({"y": np.zeros(8, int)}, r"^y: targets: expected labels of shape \(8, 9\)"),
    "float labels": ({"y": np.zeros((8, 9))}, "^y: targets: expected integer labels, got float64"),
    "a label": ({"y": np.full((8, 9), 3)}, r"^y: targets: expected labels in \[0, 3\), got 3"),
    "weighted rows of labels": ({"y": np.zeros(8, int), "class_weight": {0: 2.0},
                                 "sample_weight": np.ones((8, 9))}, "^y: targets: expected labels"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED)
def test_refused_by_fit(wrong):
    options, message = REFUSED[wrong]
    x, y, _ = sequences(8)
    model = labeller()
    before = model.flat_parameters.copy()
    with pytest.raises(ValueError, match=message):
        fit(x, **{"y": y} | options, model=model)
    assert_same_bits(model.flat_parameters, before)
