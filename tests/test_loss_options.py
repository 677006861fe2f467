"""What losses count apart: weights of classes, ignored labels, and how much a yes counts."""

import numpy as np
import pytest

import fastnn
import reference
from compare import assert_close, assert_same_bits
from fastnn import (
    Adam,
    Dense,
    ModelCheckpoint,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    TrainStep,
    _kernels,
    gradcheck,
)
from stepping import CLASSES, FEATURES, assert_alike, assert_same_training, by_hand, draw, network

WEIGHTS = [0.5, 3.0, 0.1, 1.0, 20.0, 2.0, 0.7] + 30 * [1.5]


def logits_and_labels(rng, shape, dtype=np.float64):
    return (3 * rng.standard_normal(shape)).astype(dtype), rng.integers(0, shape[1], shape[0])


def check(loss, outputs, targets, weight, expected):
    value, gradient = loss(outputs, targets, weight)
    np.testing.assert_allclose(value, expected[0], rtol=4e-6 if outputs.itemsize == 4 else 1e-13)
    assert_close(gradient, expected[1], outputs.dtype, factor=4)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("classes", [2, 5, 16, 17, 37])
@pytest.mark.parametrize("form", ["labels", "probabilities"])
def test_weights_of_classes(form, classes, smoothing, dtype, isa, rng):
    outputs, targets = logits_and_labels(rng, (29, classes), dtype)
    if form == "probabilities":
        targets = rng.dirichlet(np.ones(classes), 29).astype(dtype)
    loss = SoftmaxCrossEntropy(class_weight=WEIGHTS[:classes], label_smoothing=smoothing)
    for weight in (None, rng.random(29).astype(dtype)):
        wide = None if weight is None else weight.astype(float)
        t = targets if targets.ndim == 1 else targets.astype(float)
        expected = reference.class_weighted_cross_entropy(
            outputs.astype(float), t, WEIGHTS[:classes], smoothing, wide
        )
        check(loss, outputs, targets, weight, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_class_of_weight_zero_takes_no_part(smoothing, rng):
    outputs, labels = logits_and_labels(rng, (29, 3))
    loss = SoftmaxCrossEntropy(class_weight=[1.0, 0.0, 2.0], label_smoothing=smoothing)
    expected = reference.class_weighted_cross_entropy(outputs, labels, [1, 0, 2], smoothing)
    check(loss, outputs, labels, None, expected)
    assert not loss(outputs, labels)[1][labels == 1].any()


@pytest.mark.parametrize("ignored", [-100, -1, 0, 2, 7])
def test_ignored_labels(ignored, dtype, isa, rng):
    """The others have the bits that they have alone, but for the kernel's groups of rows."""
    outputs, labels = logits_and_labels(rng, (40, 5), dtype)
    labels[rng.random(40) < 0.3] = ignored
    kept, loss = labels != ignored, SoftmaxCrossEntropy(ignore_index=ignored, label_smoothing=0.1)
    assert 5 < kept.sum() < 40
    for weight in (None, rng.random(40).astype(dtype)):
        plain = SoftmaxCrossEntropy(label_smoothing=0.1)
        part = None if weight is None else weight[kept]
        value, right = plain(outputs[kept], labels[kept], part)
        expected = np.zeros(outputs.shape)
        expected[kept] = right
        check(loss, outputs, labels, weight, (value, expected))
        assert not loss(outputs, labels, weight)[1][~kept].any()


def test_ignored_labels_that_none_has(dtype, rng):
    outputs, labels = logits_and_labels(rng, (21, 4), dtype)
    value, gradient = SoftmaxCrossEntropy(ignore_index=-100)(outputs, labels)
    expected = SoftmaxCrossEntropy()(outputs, labels)
    assert value == expected[0]
    assert_same_bits(gradient, expected[1])


def test_all_labels_ignored(rng):
    x, outputs, labels = rng.random((6, FEATURES)), np.zeros((6, CLASSES)), np.full(6, -100)
    loss, model = SoftmaxCrossEntropy(ignore_index=-100), network()
    told = r"targets: expected some that count, got none for SoftmaxCrossEntropy\(ignore_index=-1"
    with pytest.raises(ValueError, match=f"^{told}"):
        loss(outputs, labels)
    options = {"loss": loss, "optimizer": Adam(), "progress": False}
    with pytest.raises(ValueError, match=f"^y: {told}"):
        model.fit(x, labels, **options)
    with pytest.raises(ValueError, match=f"^batch 2: {told}"):
        model.fit([(x, labels + 100), (x, labels)], **options)
    with pytest.raises(ValueError, match=f"^{told}"):
        TrainStep(model, loss, Adam())(x, labels)


@pytest.mark.parametrize("columns", [1, 2, 12, 13, 40, 1500])
def test_pos_weight_of_each_label(columns, dtype, isa, rng):
    p = rng.random(columns) * 10 + 0.1
    outputs = (3 * rng.standard_normal((37, columns))).astype(dtype)
    targets = rng.random(outputs.shape).astype(dtype)
    targets[::2] = targets[::2] > 0.5
    rows, gradient = reference.sigmoid_cross_entropy(
        outputs.astype(float), targets.astype(float), p
    )
    check(SigmoidCrossEntropy(pos_weight=p), outputs, targets, None,
          reference.weighted(rows, gradient))  # fmt: skip
    weight = rng.random(37)
    check(SigmoidCrossEntropy(pos_weight=p), outputs, targets, weight.astype(dtype),
          reference.weighted(rows, gradient, weight))  # fmt: skip
    value, gradient = SigmoidCrossEntropy(pos_weight=np.ones(columns))(outputs, targets)
    plain = SigmoidCrossEntropy()(outputs, targets)
    assert value == plain[0]
    assert_same_bits(gradient, plain[1])


@pytest.mark.parametrize("columns", [1, 3, 40])
def test_pos_weight_at_infinite_logits(columns, dtype, isa, rng):
    """Right and sure answers add nothing; a wrong one is infinitely wrong; NaN hides nowhere."""
    targets = rng.integers(0, 2, (20, columns)).astype(dtype)
    outputs = np.where(targets == 1, np.inf, -np.inf).astype(dtype)
    loss = SigmoidCrossEntropy(pos_weight=3)
    value, gradient = loss(outputs, targets)
    assert value == 0 and not gradient.any()
    outputs[3, -1] *= -1
    value, gradient = loss(outputs, targets)
    assert value == np.inf and np.isfinite(gradient).all()
    slope = -3 if targets[3, -1] == 1 else 1
    np.testing.assert_allclose(gradient[3, -1], slope / 20 / columns, rtol=1e-6)
    outputs[3, -1] = np.nan
    assert np.isnan(loss(outputs, targets)[0])


def test_pos_weight_that_float32_cannot_hold():
    outputs = np.zeros((2, 1), np.float32)
    for p in (1e-50, 1e50):
        SigmoidCrossEntropy(pos_weight=p)(outputs.astype(float), [0, 1])
        with pytest.raises(ValueError, match=r"^pos_weight: expected positive numbers, finite in"):
            SigmoidCrossEntropy(pos_weight=p)(outputs, [0, 1])


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(class_weight=[1, 2]),
                                  SigmoidCrossEntropy(pos_weight=[1, 2])], ids=repr)  # fmt: skip
def test_a_number_for_each_column(loss):
    with pytest.raises(ValueError, match=r"^outputs: expected a column for each of 2 in .*, got 3"):
        loss(np.zeros((2, 3)), np.zeros((2, 3)))


# name -> (loss, what becomes of targets that are labels 0, 1 and 2)
OPTIONS = {
    "weights": (lambda: SoftmaxCrossEntropy(class_weight=[0.5, 2.0, 1.0]), lambda t: t),
    "ignored": (lambda: SoftmaxCrossEntropy(ignore_index=0), lambda t: t),
    "pos_weight": (lambda: SigmoidCrossEntropy(pos_weight=[0.5, 3.0, 1.0]), lambda t: np.eye(3)[t]),
    "all": (
        lambda: SoftmaxCrossEntropy(
            class_weight=[0.5, 2.0, 1.0], ignore_index=-100, label_smoothing=0.2
        ),
        lambda t: np.where(np.arange(len(t)) % 3 == 1, -100, t),
    ),
    "weights of probabilities": (
        lambda: SoftmaxCrossEntropy(class_weight=[0.5, 2.0, 1.0]),
        lambda t: 0.8 * np.eye(3)[t] + 0.1,
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients(name, rng):
    make, form = OPTIONS[name]
    x, y = rng.standard_normal((9, 4)), form(np.arange(9) % 3)
    model = Sequential(Dense(4, 5, activation="tanh"), Dense(5, 3), seed=0)
    for weight in (None, rng.random(9)):
        assert gradcheck(model, make(), x, y, sample_weight=weight) < 1e-7


def with_form(form, weighted):
    """Batches whose arrays are of one type each, so that a step may take them as they are."""
    batches = draw((16, 16, 16, 5, 16), weighted=weighted)
    for batch in batches:
        y = form(batch[1])
        batch[1] = y.astype(np.float32) if y.dtype.kind == "f" else y
    return batches


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_recorded_steps(name, weighted, dtype, threads):
    make, form = OPTIONS[name]
    batches = with_form(form, weighted)
    assert_same_training(lambda: network(dtype), make(), lambda: Adam(0.01), batches)


def test_what_is_set_between_steps():
    loss, hand, model = SoftmaxCrossEntropy(), network(), network()
    sigmoid = SigmoidCrossEntropy()
    step, optimizer = TrainStep(model, loss, Adam(0.01)), Adam(0.01)
    xb, yb = draw((16,))[0]
    changes = [("class_weight", [1, 2, 3]), ("label_smoothing", 0.1), ("ignore_index", 1),
               ("class_weight", None), ("ignore_index", None)]  # fmt: skip
    for name, value in [("label_smoothing", 0.0), *changes]:
        setattr(loss, name, value)
        for _ in range(2):
            assert [step(xb, yb)] == by_hand(hand, loss, optimizer, [(xb, yb)])
    assert_alike(model, hand)
    step, optimizer = TrainStep(model, sigmoid, Adam(0.01)), Adam(0.01)
    yb = np.eye(CLASSES, dtype=np.float32)[yb]
    for p in (None, 2.0, [1, 2, 3], None):
        sigmoid.pos_weight = p
        for _ in range(2):
            assert [step(xb, yb)] == by_hand(hand, sigmoid, optimizer, [(xb, yb)])
    assert_alike(model, hand)


@pytest.mark.parametrize("name", OPTIONS)
def test_resumed(name, tmp_path, rng):
    """With the bits of a training that never stopped."""
    make, form = OPTIONS[name]
    x, path = rng.standard_normal((50, FEATURES)), tmp_path / "training.safetensors"
    y = form(rng.integers(0, CLASSES, 50))

    def fit(epochs, **options):
        model = network()
        history = model.fit(x, y, loss=make(), optimizer=Adam(0.01), epochs=epochs, batch_size=16,
                            validation_data=(x, y), progress=False, **options)  # fmt: skip
        return model, history

    expected, whole = fit(4)
    fit(2, callbacks=[ModelCheckpoint(path)])
    model, history = fit(4, resume=path)
    assert_alike(model, expected)
    assert history.loss == whole.loss and history.validation_loss == whole.validation_loss
    assert len(set(whole.loss)) == 4 and all(map(np.isfinite, whole.loss))


def test_the_class_weights_of_fit_are_those_of_the_loss_in_training_alone(rng):
    x, y = rng.standard_normal((50, FEATURES)), rng.integers(0, CLASSES, 50)
    options = {"optimizer": Adam(0.01), "epochs": 3, "progress": False, "validation_data": (x, y)}
    models = network(), network()
    by_fit = models[0].fit(
        x, y, loss=SoftmaxCrossEntropy(), class_weight={0: 0.25, 2: 3.0}, **options
    )
    options["optimizer"] = Adam(0.01)
    by_loss = models[1].fit(x, y, loss=SoftmaxCrossEntropy(class_weight=[0.25, 1, 3.0]), **options)
    assert_alike(*models)
    assert by_fit.loss == by_loss.loss and by_fit.accuracy == by_loss.accuracy
    assert by_fit.validation_loss != by_loss.validation_loss


def test_ignored_rows_of_arrays_and_of_streams(rng):
    """The means are over the rows that count, and metrics do not see the others."""
    x, y = rng.standard_normal((48, FEATURES)), rng.integers(0, CLASSES, 48)
    masked = np.where(rng.random(48) < 0.4, -100, y)
    loss = SoftmaxCrossEntropy(ignore_index=-100)
    kept = masked >= 0
    options = {"loss": loss, "optimizer": fastnn.SGD(1e-30), "epochs": 1, "progress": False}
    model = Sequential(Dense(FEATURES, CLASSES), seed=0)
    expected = model.evaluate(x[kept], y[kept], loss=SoftmaxCrossEntropy())
    batches = [(x[i : i + 16], masked[i : i + 16]) for i in range(0, 48, 16)]
    for data in ((x, masked), (batches,)):
        history = model.fit(*data, validation_data=(x, masked), batch_size=16, **options)
        for name, value in expected.items():
            np.testing.assert_allclose(history[name], [value], rtol=1e-6)
            np.testing.assert_allclose(history[f"validation_{name}"], [value], rtol=1e-6)
    measured = model.evaluate(x, masked, loss=loss)
    assert measured["accuracy"] == expected["accuracy"]


def test_balanced_weights_of_labels_that_count(rng):
    x, y = rng.standard_normal((50, FEATURES)), rng.integers(0, CLASSES, 50)
    masked = np.where(rng.random(50) < 0.4, -1, y)
    kept, histories = masked >= 0, []
    for data, loss in (((x, masked), SoftmaxCrossEntropy(ignore_index=-1)),
                       ((x[kept], y[kept]), SoftmaxCrossEntropy())):  # fmt: skip
        histories.append(network().fit(
            *data, loss=loss, optimizer=Adam(), epochs=2, class_weight="balanced", progress=False
        ))  # fmt: skip
    assert histories[0].loss == histories[1].loss


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), fastnn.Hinge()], ids=repr)
def test_a_label_beyond_int64_is_told_as_it_came(loss):
    labels = np.array([0, 2**64 - 1], np.uint64)
    told = r"expected integers below 2\*\*63, got 18446744073709551615$"
    with pytest.raises(ValueError, match=f"^targets: {told}"):
        loss(np.zeros((2, 3)), labels)
    with pytest.raises(ValueError, match=f"^y: {told}"):
        Sequential(Dense(1, 3)).evaluate([[0.0], [1.0]], labels, loss=loss)


def test_faces_check_pos_weight():
    outputs = np.zeros((4, 5), np.float32)
    for wrong in (np.ones(5), np.ones(4, np.float32), np.zeros(5, np.float32),
                  np.full(5, np.nan, np.float32), np.full(5, np.inf, np.float32)):  # fmt: skip
        with pytest.raises(ValueError, match=r"^pos_weight: expected "):
            _kernels.sigmoid_cross_entropy(outputs, outputs, None, wrong)
    with pytest.raises(ValueError, match=r"^targets: expected finite numbers >= 0, got -1"):
        _kernels.softmax_cross_entropy(outputs, outputs - 1)


@pytest.mark.parametrize("wrong, message", [
    (np.ones(3), r"got array\(\[1., 1., 1.\]\); write dict\(enumerate\(...\)\)$"),
    ([1.0, 2.0, 3.0], r"got \[1.0, 2.0, 3.0\]; write dict\(enumerate\(...\)\)$"),
    ("even", "got 'even'$"), (2.0, "got 2.0$"),
])  # fmt: skip
def test_class_weights_of_fit_that_are_no_dict(wrong, message):
    with pytest.raises(TypeError, match=f"^class_weight: expected a dict of .*{message}"):
        network().fit(
            np.ones((3, FEATURES)), [0, 1, 2], loss=SoftmaxCrossEntropy(), optimizer=Adam(),
            class_weight=wrong, progress=False,
        )  # fmt: skip
