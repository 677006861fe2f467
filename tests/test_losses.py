"""Losses: value and gradient against the reference, weights, extreme outputs, refused arguments."""

import numpy as np
import pytest

import reference
from compare import assert_close, assert_same_bits, uses_threads
from fastnn import (
    SGD,
    Adam,
    Dense,
    Hinge,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    TrainStep,
    _kernels,
    gradcheck,
)
from stepping import assert_alike, by_hand, regression
from tables import LOSSES, draw, values

SHAPES = [(1, 1), (1, 2), (37, 3), (3, 5), (7, 15), (8, 16), (2, 17), (129, 10), (5, 300)]


def wide(array):
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def expected(name, outputs, targets, weight=None):
    rows, gradient = LOSSES[name][1](wide(outputs), wide(targets))
    return reference.weighted(rows, gradient, None if weight is None else wide(weight))


def check(name, outputs, targets, weight=None):
    value, gradient = LOSSES[name][0](outputs, targets, weight)
    expected_value, expected_gradient = expected(name, outputs, targets, weight)
    assert isinstance(value, float)
    tolerance = 4e-6 if outputs.dtype == np.float32 else 1e-14
    assert abs(value - expected_value) <= tolerance * (abs(expected_value) + 0.1)
    size = np.abs(expected_gradient).max(initial=1 / outputs.size)
    assert_close(gradient, expected_gradient, outputs.dtype, magnitude=size, factor=3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient(name, shape, dtype, isa, rng):
    check(name, *draw(name, shape, dtype, rng))


@pytest.mark.parametrize("name", LOSSES)
def test_sample_weight(name, dtype, isa, rng):
    outputs, targets = draw(name, (40, 7), dtype, rng)
    weight = rng.random(40).astype(dtype)
    weight[::5] = 0
    check(name, outputs, targets, weight)
    loss = LOSSES[name][0]
    assert not loss(outputs, targets, weight)[1][::5].any(), "a row of weight 0 has no gradient"
    for scale in (2.0, 0.5):  # only the weights' ratios count
        np.testing.assert_allclose(
            loss(outputs, targets, scale * weight)[0], loss(outputs, targets, weight)[0], rtol=1e-6
        )
    ones = loss(outputs, targets, np.ones(40))
    plain = loss(outputs, targets)
    np.testing.assert_allclose(ones[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(ones[1], plain[1], rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_same_bits_for_any_threads_and_fma_isa(name, dtype, threads, fma_isas, rng):
    loss = LOSSES[name][0]
    for shape in [(6500, 33), (220, 1000)]:
        outputs, targets = draw(name, shape, dtype, rng)
        weight = rng.random(shape[0])
        assert uses_threads(lambda: loss(outputs, targets))  # noqa: B023
        results = []
        for n, isa in [(1, fma_isas[0]), *((threads, isa) for isa in fma_isas)]:
            _kernels.set_threads(n)
            _kernels.set_isa(isa)
            results.append([*loss(outputs, targets), *loss(outputs, targets, weight)])
        for value, gradient, weighted_value, weighted_gradient in results[1:]:
            assert (value, weighted_value) == (results[0][0], results[0][2])
            assert_same_bits(gradient, results[0][1])
            assert_same_bits(weighted_gradient, results[0][3])


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_set_and_the_inputs_stay(name, dtype, isa, rng):
    outputs, targets = draw(name, (9, 5), dtype, rng)
    before = outputs.copy(), targets.copy()
    outputs.flags.writeable = targets.flags.writeable = False
    first = LOSSES[name][0](outputs, targets)
    second = LOSSES[name][0](outputs, targets)
    assert first[0] == second[0] and first[1] is not second[1]
    assert_same_bits(second[1], first[1])
    assert_same_bits(outputs, before[0])
    np.testing.assert_array_equal(targets, before[1])


# ---- extremes: the formulas hold where exp would overflow ----


def test_softmax_cross_entropy_of_huge_logits(dtype, isa):
    logits = np.array([[1e30, -1e30, 0], [-1e30, 1e30, 1e30], [1e30, 1e30, 1e30]], dtype)
    value, gradient = SoftmaxCrossEntropy()(logits, np.array([0, 1, 2]))
    np.testing.assert_allclose(value, (0 + np.log(2) + np.log(3)) / 3, rtol=1e-6)
    np.testing.assert_allclose(
        gradient, [[0, 0, 0], [0, -1 / 6, 1 / 6], [1 / 9, 1 / 9, -2 / 9]], atol=1e-7
    )
    value, gradient = SoftmaxCrossEntropy()(logits, np.array([1, 0, 0]))
    np.testing.assert_allclose(value, 4e30 / 3, rtol=1e-6)
    assert np.isfinite(gradient).all()
    soft = np.array([[0, 1, 0], [0, 0.5, 0.5], [1, 0, 0]], dtype)
    value, gradient = SoftmaxCrossEntropy()(logits, soft)
    np.testing.assert_allclose(value, 2e30 / 3, rtol=1e-6)
    assert np.isfinite(gradient).all()
    value, gradient = SoftmaxCrossEntropy(label_smoothing=0.1)(logits, np.array([0, 1, 2]))
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("classes", [2, 5, 16, 17, 40])
def test_a_target_of_zero_at_a_logit_of_minus_infinity_adds_nothing(classes, dtype, isa, rng):
    logits = (3 * rng.standard_normal((19, classes))).astype(dtype)
    targets = rng.random((19, classes)).astype(dtype) / classes
    logits[::2, 1], targets[::2, 1] = -np.inf, 0
    with np.errstate(invalid="ignore"):  # the reference computes 0 * inf, then drops it
        rows, gradient = reference.softmax_cross_entropy(wide(logits), wide(targets))
    expected_value, expected_gradient = reference.weighted(rows, gradient)
    value, gradient = SoftmaxCrossEntropy()(logits, targets)
    np.testing.assert_allclose(value, expected_value, rtol=4e-6)
    assert_close(gradient, expected_gradient, dtype, factor=3)
    assert not gradient[::2, 1].any()
    targets[0, 1] = 0.1
    assert SoftmaxCrossEntropy()(logits, targets)[0] == np.inf, "a class that cannot be, but is"
    logits[0, 1] = np.nan
    targets[0, 1] = 0
    value, gradient = SoftmaxCrossEntropy()(logits, targets)
    assert np.isnan(value) and np.isnan(gradient[0]).all(), "a NaN at a target of 0 is not hidden"


def test_sigmoid_cross_entropy_of_huge_logits(dtype, isa):
    logits = np.array([[1e30], [-1e30], [1e30], [-1e30]], dtype)
    value, gradient = SigmoidCrossEntropy()(logits, np.array([1, 0, 0, 1]))
    np.testing.assert_allclose(value, 5e29, rtol=1e-6)
    np.testing.assert_array_equal(gradient, [[0], [0], [0.25], [-0.25]])


FAR = 1e4  # exp(-FAR) is 0: in the reference, such a finite logit stands for an infinite one


def check_limit(loss, name, outputs, targets, weight=None):
    """Value and gradient at infinite outputs are those of outputs far away."""
    far = np.clip(outputs.astype(np.float64), -FAR, FAR)
    value, gradient = loss(outputs, targets, weight)
    right_value, right_gradient = expected(name, far, targets, weight)
    np.testing.assert_allclose(value, right_value, rtol=4e-6)
    size = np.abs(right_gradient).max(initial=1 / outputs.size)
    assert_close(gradient, right_gradient, outputs.dtype, magnitude=size, factor=3)


def test_a_masked_label_of_the_sigmoid_cross_entropy(dtype, isa):
    """log(1 + e^-1) / 2: the label that cannot be, and is not, adds nothing."""
    logits, targets = np.array([[-np.inf, 1.0]], dtype), np.array([[0.0, 1.0]], dtype)
    value, gradient = SigmoidCrossEntropy()(logits, targets)
    np.testing.assert_allclose(value, np.log1p(np.exp(-1)) / 2, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, -1 / (1 + np.exp(1)) / 2]], rtol=1e-6)


@pytest.mark.parametrize("columns", [1, 2, 12, 13, 40, 1025])
@pytest.mark.parametrize("name", ["sigmoid", "poisson"])
def test_right_and_infinite_logits(name, columns, dtype, isa, rng):
    outputs, targets = draw(name, (37, columns), dtype, rng)
    targets[::3] = 0
    outputs[(targets == 0) & (rng.random(targets.shape) < 0.3)] = -np.inf
    if name == "sigmoid":
        outputs[(targets == 1) & (rng.random(targets.shape) < 0.3)] = np.inf
    assert np.isinf(outputs).any()
    loss = LOSSES[name][0]
    check_limit(loss, name, outputs, targets)
    check_limit(loss, name, outputs, targets, rng.random(37).astype(dtype))
    outputs[3, -1] = np.nan
    value, gradient = loss(outputs, targets)
    assert np.isnan(value) and np.argwhere(np.isnan(gradient)).tolist() == [[3, columns - 1]]


@pytest.mark.parametrize("columns", [1, 2, 13, 40])
def test_wrong_and_infinite_logits(columns, dtype, isa):
    """The loss is infinite, of Poisson even where e^o - t o is inf - inf; NaN hides nowhere."""
    cases = [(SigmoidCrossEntropy(), -np.inf, t, -t) for t in (0.25, 1.0)]
    cases += [(SigmoidCrossEntropy(), np.inf, t, 1 - t) for t in (0.0, 0.25)]
    cases += [(Poisson(), -np.inf, 2.0, -2.0)] + [(Poisson(), np.inf, t, np.inf) for t in (0, 2.0)]
    for loss, output, target, slope in cases:
        outputs, targets = np.zeros((2, 5, columns), dtype)
        outputs[2, -1], targets[2, -1] = output, target
        value, gradient = loss(outputs, targets)
        assert value == np.inf
        np.testing.assert_allclose(gradient[2, -1], slope / 5 / columns, rtol=1e-6)
        assert np.isfinite(np.delete(gradient, 2, axis=0)).all()


@pytest.mark.parametrize("classes", [2, 5, 16, 17, 40, 300_000])
def test_one_logit_of_plus_infinity(classes, dtype, isa, rng):
    """Softmax is then 1 there and 0 elsewhere.  300,000 exponentials do not fit in scratch."""
    rows = 37 if classes < 100 else 3
    logits, labels = draw("softmax labels", (rows, classes), dtype, rng)
    logits[0, labels[0]] = logits[2, labels[2]] = np.inf
    logits[1, (labels[1] + 1) % classes] = -np.inf
    check_limit(SoftmaxCrossEntropy(), "softmax labels", logits, labels)
    one_hot = reference.one_hot(labels, classes, dtype)
    check_limit(SoftmaxCrossEntropy(), "softmax soft targets", logits, one_hot)
    labels[2] = (labels[2] + 1) % classes
    value, gradient = SoftmaxCrossEntropy()(logits, labels)
    assert value == np.inf, "another class is certain"
    np.testing.assert_allclose(gradient[2, labels[2] - 1], 1 / rows, rtol=1e-6)
    np.testing.assert_allclose(gradient[2, labels[2]], -1 / rows, rtol=1e-6)
    value, gradient = SoftmaxCrossEntropy(label_smoothing=0.1)(logits, labels)
    assert value == np.inf and np.isfinite(gradient).all()
    logits[2, labels[2]] = np.inf
    value, gradient = SoftmaxCrossEntropy()(logits, labels)
    assert np.isnan(value) and np.isnan(gradient[2]).any(), "two infinite logits have no limit"
    assert np.isfinite(gradient[:2]).all()


def test_hinge_of_infinite_scores(dtype, isa):
    for classes in (3, 40):
        scores, labels = np.zeros((4, classes), dtype), np.array([0, 1, 2, 0])
        scores[0, 1], scores[1, 1] = -np.inf, np.inf
        value, gradient = Hinge()(scores, labels)
        np.testing.assert_allclose(value, ((classes - 2) + 0 + 2 * (classes - 1)) / 4, rtol=1e-6)
        np.testing.assert_allclose(gradient[:2, :2], [[(2 - classes) / 4, 0], [0, 0]], rtol=1e-6)
        scores[2, 2], scores[3, 1] = -np.inf, np.inf
        value, gradient = Hinge()(scores, labels)
        assert value == np.inf and np.isfinite(gradient).all()


@pytest.mark.parametrize("columns", [1, 2, 16, 17, 40])
@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_weight_zero_may_have_an_infinite_loss(name, columns, dtype, isa, rng):
    several = "softmax" in name or "hinge" in name  # classes, 2 at least
    outputs, targets = draw(name, (37, max(columns, 1 + several)), dtype, rng)
    weight = rng.random(37).astype(dtype)
    left_out = [0, 5, 17, 36]
    weight[left_out] = 0
    loss = LOSSES[name][0]
    right = loss(outputs, targets, weight)
    for row in left_out:
        outputs[row, targets[row] if targets.ndim == 1 else 0] = -np.inf
    if targets.ndim == 2 and name != "poisson":
        targets[left_out, 0] = 0.5
    if name == "poisson":
        outputs[left_out, 0] = np.inf
    assert loss(outputs, targets)[0] == np.inf
    value, gradient = loss(outputs, targets, weight)
    assert value == right[0] and not gradient[left_out].any()
    assert_same_bits(np.delete(gradient, left_out, 0), np.delete(right[1], left_out, 0))
    outputs[5, 0] = np.nan
    value, gradient = loss(outputs, targets, weight)
    assert np.isnan(value) and np.isnan(gradient[5]).any(), "NaN in, NaN out"


def test_sigmoid_cross_entropy_keeps_its_digits_in_the_tail(dtype, isa):
    """The loss of a right and sure answer is log(1 + exp(-30)), not log(1)."""
    logits = np.array([[30.0], [-30.0]], dtype)
    value, gradient = SigmoidCrossEntropy()(logits, np.array([1, 0]))
    np.testing.assert_allclose(value, np.exp(-30), rtol=1e-5)
    np.testing.assert_allclose(gradient[1], np.exp(-30) / 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["squared", "absolute", "quantile", "huber"])
def test_regression_of_huge_outputs(name, dtype, isa):
    outputs, targets = np.array([[1e15], [-1e15]], dtype), np.zeros((2, 1), dtype)
    value, gradient = LOSSES[name][0](outputs, targets)
    expected = {"squared": 1e30, "quantile": 5e14}.get(name, 1e15)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_quantile_of_outputs_whose_square_overflows(dtype, isa):
    value, gradient = Quantile(0.75)(np.array([[1e30], [-1e30]], dtype), np.zeros((2, 1), dtype))
    np.testing.assert_allclose(value, 5e29, rtol=1e-6)
    np.testing.assert_array_equal(gradient, [[0.125], [-0.375]])


def test_poisson_of_huge_outputs(dtype, isa):
    """At -1e30, e^o is 0 and the loss linear.  Above the logarithm of the largest number, loss and
    gradient are infinite."""
    value, gradient = Poisson()(np.array([[-1e30], [-1e30]], dtype), np.array([3, 0]))
    np.testing.assert_allclose(value, 1.5e30, rtol=1e-6)
    np.testing.assert_array_equal(gradient, [[-1.5], [0]])
    last = 88.7 if dtype == np.float32 else 709.7
    for output, finite in ((last, True), (last + 0.1, False), (1e30, False)):
        value, gradient = Poisson()(np.array([[output]], dtype), np.array([3]))
        assert not np.isnan(value) and not np.isnan(gradient).any()
        assert np.isfinite(value) == np.isfinite(gradient).all() == finite


def test_huber_of_outputs_whose_square_overflows(dtype, isa):
    big = np.array([[1e30 if dtype == np.float32 else 1e200]], dtype)
    value, gradient = Huber()(big, np.zeros_like(big))
    np.testing.assert_allclose(value, float(big[0, 0]), rtol=1e-6)
    np.testing.assert_array_equal(gradient, [[1]])


def test_hinge_of_huge_scores(dtype, isa):
    value, gradient = Hinge()(np.array([[1e30, -1e30, 1e30]], dtype), np.array([0]))
    np.testing.assert_allclose(value, 1.0)
    np.testing.assert_array_equal(gradient, [[-1, 0, 1]])


def test_subgradients_at_the_kinks_are_zero(dtype, isa):
    same = np.array([[2.0, -1.0]], dtype)
    assert not MeanAbsoluteError()(same, same)[1].any()
    assert not Quantile(0.9)(same, same)[1].any()
    value, gradient = Hinge()(np.array([[1.0, 2.0]], dtype), np.array([1]))  # exactly the margin
    assert value == 0 and not gradient.any()
    _, gradient = Huber()(np.array([[1.0, -1.0]], dtype), np.zeros((1, 2), dtype))
    np.testing.assert_array_equal(gradient, [[0.5, -0.5]])  # both formulas agree here


@pytest.mark.parametrize("name", LOSSES)
def test_nan_makes_the_value_nan(name, dtype, isa, rng):
    outputs, targets = draw(name, (5, 20), dtype, rng)
    for column in (0, 3, 17):
        broken = outputs.copy()
        broken[2, column] = np.nan
        value, gradient = LOSSES[name][0](broken, targets)
        assert np.isnan(value) and np.isnan(gradient[2]).any()
        assert np.isfinite(np.delete(gradient, 2, axis=0)).all()


# ---- forms of targets ----


@pytest.mark.parametrize("loss", [MeanSquaredError(), MeanAbsoluteError(), Huber(), Quantile(0.9),
                                  Quantile([0.9]), Poisson(), SigmoidCrossEntropy()],
                         ids=repr)  # fmt: skip
def test_a_vector_of_targets_for_one_output(loss, rng):
    outputs, targets = rng.standard_normal((6, 1)), rng.integers(0, 2, 6)
    value, gradient = loss(outputs, targets)
    as_column = loss(outputs, targets[:, None].astype(float))
    assert value == as_column[0] and gradient.shape == (6, 1)
    assert_same_bits(gradient, as_column[1])


@pytest.mark.parametrize("columns", [2, 3, 17, 40])
def test_several_quantiles_of_one_target(columns, dtype, isa, rng):
    """Each column has a quantile, and a vector of targets counts for all columns."""
    q = np.linspace(0, 1, columns + 2)[1:-1]
    outputs, y = values(rng, (23, columns), dtype), values(rng, (23,), dtype)
    targets, weight = np.repeat(y[:, None], columns, axis=1), rng.random(23).astype(dtype)
    loss = Quantile(q)
    assert loss.q == tuple(q.tolist()) and repr(loss) == f"Quantile(q={loss.q})"
    rows, expected = reference.quantile(wide(outputs), wide(targets), q)
    expected_value, expected_gradient = reference.weighted(rows, expected, wide(weight))
    value, gradient = loss(outputs, targets, weight)
    np.testing.assert_allclose(value, expected_value, rtol=4e-6)
    assert_close(gradient, expected_gradient, dtype, factor=3)
    for form in (y, y[:, None], y.tolist()):
        assert loss(outputs, form, weight)[0] == value
        assert_same_bits(loss(outputs, form, weight)[1], gradient)
    for j in range(columns):  # the same as a loss for each column
        alone = Quantile(q[j])(outputs[:, j : j + 1], y, weight)[1]
        assert_close(gradient[:, j : j + 1] * columns, wide(alone), dtype)


def test_quantiles_are_learnt(rng):
    """One network learns three quantiles of y = x + noise; the noise is uniform from 0 to 1."""
    x = rng.random((3000, 1))
    y, q = x[:, 0] + rng.random(3000), (0.1, 0.5, 0.9)
    model = Sequential(Dense(1, 3), seed=0)
    history = model.fit(x, y, loss=Quantile(q), optimizer=Adam(0.02), epochs=15, progress=False,
                        validation_data=(x, y))  # fmt: skip
    below = (y[:, None] <= model.predict(x)).mean(axis=0)
    np.testing.assert_allclose(below, q, atol=0.04)
    expected = reference.quantile(model.predict(x), np.repeat(y[:, None], 3, axis=1), q)[0].mean()
    np.testing.assert_allclose(history.validation_loss[-1], expected, rtol=1e-5)


def test_quantiles_in_recorded_steps(rng):
    """The steps equal those by hand, with targets of each form and quantiles that change."""
    batches = [(rng.standard_normal((8, 7)), y) for y in
               (rng.random(8), rng.random((8, 1)), rng.random((8, 3)), rng.random(8))]  # fmt: skip
    loss, models = Quantile([0.1, 0.5, 0.9]), [regression(), regression()]
    step, expected = TrainStep(models[0], loss, Adam()), Adam()
    for batch in batches:
        (value,) = by_hand(models[1], loss, expected, [batch])
        assert step(*batch) == value
        loss.q = (loss.q[1], loss.q[2], loss.q[0])
    assert step.recorded
    assert_alike(models[0], models[1])


def test_counts_are_checked_before_each_step(rng):
    """Also where a replayed step takes the targets without Python."""
    x, y = rng.random((8, 2)).astype(np.float32), np.full((8, 1), 3, np.float32)
    step = TrainStep(Sequential(Dense(2, 1)), Poisson(), SGD(0.1))
    for _ in range(3):
        step(x, y)
    for wrong, name in ((-1, "-1.0"), (np.nan, "nan"), (np.inf, "inf")):
        y[5] = wrong
        with pytest.raises(ValueError, match=f"expected finite numbers >= 0, got {name} in row 5"):
            step(x, y)
    assert step.steps == 3


def test_poisson_is_the_deviance_but_for_constants(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    outputs, t = rng.standard_normal(50), rng.poisson(2, 50)
    value, _ = Poisson()(outputs[:, None], t)
    constant = np.where(t == 0, 0, t * np.log(np.maximum(t, 1))) - t
    expected = metrics.mean_poisson_deviance(t, np.exp(outputs))
    np.testing.assert_allclose(2 * (value + constant.mean()), expected)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
def test_quantile_is_the_pinball_loss_of_others(q, rng):
    metrics = pytest.importorskip("sklearn.metrics")
    outputs, t = rng.standard_normal((2, 50, 3))
    value, _ = Quantile(q)(outputs, t)
    np.testing.assert_allclose(value, metrics.mean_pinball_loss(t, outputs, alpha=q))


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint8, np.int32, np.uint64, np.longlong, np.ulonglong, ">i4", bool]
)
def test_labels_of_any_integer_type(kind, rng):
    outputs, targets = rng.standard_normal((6, 2)), rng.integers(0, 2, 6)
    for loss in (SoftmaxCrossEntropy(), Hinge()):
        assert loss(outputs, targets.astype(kind))[0] == loss(outputs, targets)[0]
        assert loss(outputs, targets.tolist())[0] == loss(outputs, targets)[0]


def test_labels_equal_their_one_hot_rows(dtype, isa, rng):
    outputs, targets = draw("softmax labels", (30, 17), dtype, rng)
    for smoothing in (0.0, 0.2):
        loss = SoftmaxCrossEntropy(label_smoothing=smoothing)
        value, gradient = loss(outputs, targets)
        one_hot = loss(outputs, reference.one_hot(targets, 17, dtype))
        np.testing.assert_allclose(value, one_hot[0], rtol=1e-5 if dtype == np.float32 else 1e-13)
        assert_close(gradient, one_hot[1].astype(float), dtype)


# ---- what they refuse ----

OUT, LABELS = np.zeros((4, 5)), np.zeros(4, int)
WRONG = {
    "label too large": (SoftmaxCrossEntropy(), OUT, [0, 1, 7, 0], r"labels in \[0, 5\), got 7"),
    "label below 0": (SoftmaxCrossEntropy(), OUT, [0, -1, 3, 0], r"labels in \[0, 5\), got -1"),
    "hinge label": (Hinge(), OUT, [0, 5, 3, 0], r"labels in \[0, 5\), got 5"),
    "float labels": (SoftmaxCrossEntropy(), OUT, [0.0, 1, 2, 0], "integer labels"),
    "float hinge labels": (Hinge(), OUT, [0.0, 1, 2, 0], "integer labels"),
    "too few labels": (SoftmaxCrossEntropy(), OUT, [0, 1, 2], "targets"),
    "labels in a column": (Hinge(), OUT, LABELS[:, None], "targets"),
    "soft targets of another shape": (SoftmaxCrossEntropy(), OUT, OUT[:, :4], "targets"),
    "soft targets above 1": (SoftmaxCrossEntropy(), OUT, OUT + 1.5, r"numbers in \[0, 1\], got"),
    "soft targets NaN": (SoftmaxCrossEntropy(), OUT, OUT * np.nan, r"numbers in \[0, 1\], got"),
    "sigmoid targets below 0": (SigmoidCrossEntropy(), OUT, OUT - 0.1, r"numbers in \[0, 1\], got"),
    "sigmoid targets NaN": (SigmoidCrossEntropy(), OUT, OUT * np.nan, r"numbers in \[0, 1\], got"),
    "one target a row, five outputs": (MeanSquaredError(), OUT, LABELS, r"\(4, 5\).*\(4,\)"),
    "targets that would broadcast": (MeanSquaredError(), OUT, OUT[:, :1], r"\(4, 5\).*\(4, 1\)"),
    "a number as target": (MeanAbsoluteError(), OUT, 1.0, "targets"),
    "counts below 0": (Poisson(), OUT, OUT - 2, "finite numbers >= 0, got -2.0 in row 0"),
    "counts NaN": (Poisson(), OUT, OUT * np.nan, "finite numbers >= 0, got nan"),
    "counts infinite": (Poisson(), OUT, OUT + np.inf, "finite numbers >= 0, got inf"),
    "fewer quantiles than columns": (
        Quantile([0.1, 0.9]),
        OUT,
        LABELS,
        "a column for each of 2 quantiles, got 5",
    ),
    "one target a row, one quantile": (Quantile(0.1), OUT, LABELS, r"\(4, 5\).*\(4,\)"),
    "too few targets of quantiles": (Quantile([0.1, 0.9]), OUT[:, :2], LABELS[:2], r"\(4, 2\)"),
    "complex targets": (Huber(), OUT, OUT * 1j, "complex"),
    "text as targets": (MeanSquaredError(), OUT, np.full((4, 5), "a"), "targets"),
    "masked targets": (MeanSquaredError(), OUT, np.ma.masked_array(OUT), "mask"),
    "outputs of one dimension": (MeanSquaredError(), OUT[0], OUT[0], "outputs"),
    "no rows": (MeanSquaredError(), OUT[:0], OUT[:0], "empty"),
    "no outputs": (SoftmaxCrossEntropy(), OUT[:, :0], LABELS, "empty"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_refused_targets(wrong):
    loss, outputs, targets, message = WRONG[wrong]
    with pytest.raises((ValueError, TypeError), match=message):
        loss(outputs, targets)


WEIGHTS = {
    "negative": [1, 1, -1, 1], "all zero": [0, 0, 0, 0], "NaN": [1, np.nan, 1, 1],
    "infinite": [1, np.inf, 1, 1], "too few": [1, 1, 1], "a column": [[1], [1], [1], [1]],
    "a number": 1.0, "complex": [1j, 1, 1, 1],
}  # fmt: skip


@pytest.mark.parametrize("wrong", WEIGHTS)
@pytest.mark.parametrize("name", LOSSES)
def test_refused_weights(name, wrong, rng):
    outputs, targets = draw(name, (4, 5), np.float64, rng)
    with pytest.raises((ValueError, TypeError), match="sample_weight"):
        LOSSES[name][0](outputs, targets, WEIGHTS[wrong])


@pytest.mark.parametrize("kind, name, value", [
    *((SoftmaxCrossEntropy, "label_smoothing", value) for value in (1.0, -0.1, np.nan, "a", True)),
    *((Quantile, "q", value) for value in (0, 1.0, -0.1, np.nan, "a", True, None, [], [0.5, 1])),
    *((kind, name, value) for kind, name in ((Huber, "delta"), (Hinge, "margin"))
      for value in (0, -1, np.nan, np.inf, True, None)),
])  # fmt: skip
def test_refused_constants(kind, name, value):
    """By the constructor and by the attribute, which then stays as it was."""
    with pytest.raises((ValueError, TypeError), match=f"{name}: expected a .*number"):
        kind(**{name: value})
    loss = kind(**{name: 0.5})
    with pytest.raises((ValueError, TypeError), match=f"{name}: expected a .*number"):
        setattr(loss, name, value)
    assert getattr(loss, name) == 0.5


def test_a_smoothing_must_be_named():
    with pytest.raises(TypeError, match="positional"):
        SoftmaxCrossEntropy(0.1)


def test_a_quantile_that_float32_cannot_hold():
    """In float32 it would be 0 or 1."""
    for q in (1e-50, 1 - 1e-12, [0.5, 0.5, 1e-50, 0.5, 0.5]):
        Quantile(q)(OUT, OUT)
        with pytest.raises(
            ValueError, match=r"^quantiles: expected numbers above 0 and below 1 in float32"
        ):
            Quantile(q)(OUT.astype(np.float32), OUT)


@pytest.mark.parametrize("name, value", [("delta", 1e-50), ("delta", 1e50), ("margin", 1e50)])
def test_a_constant_that_float32_cannot_hold(name, value):
    """In float32, 1e-50 is 0 and 1e50 infinity."""
    loss = {"delta": Huber, "margin": Hinge}[name](value)
    targets = {"delta": OUT, "margin": LABELS}[name]
    loss(OUT, targets)
    with pytest.raises(ValueError, match=f"^{name}: expected .*finite in float32, got"):
        loss(OUT.astype(np.float32), targets)


def test_weights_whose_sum_overflows(rng):
    for name in LOSSES:
        outputs, targets = draw(name, (4, 5), np.float64, rng)
        with pytest.raises(ValueError, match="sample_weight: expected a finite sum"):
            LOSSES[name][0](outputs, targets, np.full(4, 1e308))


class Cubed(Loss):
    """A custom loss, mean |o - t|³; `evaluate` gets arrays of one dtype and shape."""

    def evaluate(self, outputs, targets, weight):
        assert outputs.dtype == targets.dtype and outputs.shape == targets.shape
        weight = np.ones(len(outputs)) if weight is None else weight
        share = (weight / weight.sum() / outputs.shape[1])[:, None]
        d = outputs - targets
        return float((share * abs(d) ** 3).sum()), 3 * share * d * abs(d)


@pytest.mark.parametrize("loss", [Cubed(), lambda *batch: Cubed()(*batch)],
                         ids=["derived", "any callable"])  # fmt: skip
def test_losses_of_ones_own(loss, rng):
    X, weight = rng.standard_normal((20, 3)), np.arange(20)
    y = X @ [1.0, 2.0, 3.0]
    model = Sequential(Dense(3, 1), seed=0)
    assert gradcheck(model, loss, X, y, weight) < 1e-6
    history = model.fit(X, y, loss=loss, optimizer=SGD(0.05), epochs=9, sample_weight=weight,
                        progress=False)  # fmt: skip
    assert history.loss[-1] < 0.5 * history.loss[0]


def test_a_function_gets_the_targets_as_they_were_given(rng):
    """A function as a loss gets targets of shape (n,) as (n,), not as a column."""
    seen = []

    def loss(outputs, targets, sample_weight):
        seen.append((targets.shape[1:], targets.dtype))
        d = outputs - targets.reshape(outputs.shape)
        return float((d * d).mean()), 2 * d / d.size

    X = rng.standard_normal((20, 3))
    for y in (X[:, 0], X[:, :1], np.arange(20)):
        Sequential(Dense(3, 1)).fit(X, y, loss=loss, optimizer=SGD(1e-3), epochs=1, progress=False)
        kind = np.float32 if y.dtype == np.float64 else y.dtype
        assert set(seen) == {(y.shape[1:], np.dtype(kind))}
        seen.clear()


@pytest.mark.parametrize("face", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error",
                                  "absolute_error", "quantile", "huber", "poisson",
                                  "hinge"])  # fmt: skip
def test_faces_check_their_arguments(face):
    function = getattr(_kernels, face)
    outputs = np.zeros((4, 5), np.float32)
    targets = LABELS if face in ("softmax_cross_entropy", "hinge") else outputs
    function(outputs, targets, np.ones(4, np.float32))
    for wrong in (None, outputs[0], outputs[:, ::2], outputs.astype(np.float64), outputs[:0],
                  outputs.astype(int), LABELS.astype(np.int32)):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match="targets"):
            function(outputs, wrong)
        if wrong is None or wrong.dtype != np.float64:
            with pytest.raises((TypeError, ValueError), match=r"outputs|logits|scores"):
                function(wrong, targets)
    if face == "quantile":
        for quantiles in (np.full(5, 0.5), np.full(4, 0.5, np.float32), np.ones(5, np.float32),
                          np.full(5, np.nan, np.float32), np.zeros(5, np.float32)):  # fmt: skip
            with pytest.raises(ValueError, match=r"^quantiles: expected "):
                function(outputs, targets, None, quantiles)
    for weight in (np.ones(4), np.ones(3, np.float32), np.ones((4, 1), np.float32),
                   np.ones(8, np.float32)[::2]):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=r"^sample_weight: expected "):
            function(outputs, targets, weight)
