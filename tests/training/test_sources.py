"""Where `fit` takes its rows from: arrays on disk, a user's batches; class weights; and several
batches for one update."""

import re

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    BatchNorm,
    Dense,
    Dropout,
    Hinge,
    MeanSquaredError,
    ReLU,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    TrainStep,
)

ROWS, BATCH = 50, 16
X = np.random.default_rng(0).standard_normal((ROWS, 6)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(np.int64) + (X[:, 2] > 1)
WEIGHT = np.random.default_rng(1).random(ROWS).astype(np.float32) + 0.5


class OwnReLU(ReLU):
    """A custom class, so that its steps are not recorded."""


def network(relu=ReLU, **options):
    layers = (Dense(6, 20), BatchNorm(20), relu(), Dropout(0.2), Dense(20, 3))
    return Sequential(*layers, seed=1, **options)


def plain(**options):
    return Sequential(Dense(6, 9, activation="tanh"), Dense(9, 3), seed=1, **options)


def fit(model, *data, **options):
    settings = {
        "loss": SoftmaxCrossEntropy(), "optimizer": fastnn.Adam(0.01), "epochs": 3,
        "batch_size": BATCH, "seed": 4, "progress": False,
    }  # fmt: skip
    return model.fit(*data, **(settings | options))


def assert_alike(model, expected):
    for name, array in expected.state_dict().items():
        assert_same_bits(model.state_dict()[name], array)


# ---- on disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
def test_memory_maps(tmp_path, dtype):
    rows = np.round(X * 10 + 50).astype(dtype)
    np.save(tmp_path / "x.npy", rows)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    model, twin, streamed = network(), network(), network()
    history = fit(model, on_disk, Y)
    expected = fit(twin, rows, Y)
    fit(streamed, fastnn.batches(on_disk, Y, BATCH, seed=4))
    assert_alike(model, twin)
    assert_alike(streamed, twin)
    assert history.loss == expected.loss


def test_a_float32_memory_map_is_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", X)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    from fastnn.training.samples import check_samples

    data = check_samples(network(), SoftmaxCrossEntropy(), on_disk, Y)
    assert np.shares_memory(data.X, on_disk)


# ---- a user's batches --------------------------------------------------------------------------


class Batches:
    """Batches that can be repeated, but have no length."""

    def __init__(self, *arrays):
        self.order = fastnn.batches(
            X, Y, BATCH, seed=4, sample_weight=arrays[0] if arrays else None
        )

    def __iter__(self):
        return iter(self.order)


@pytest.mark.parametrize("relu", [ReLU, OwnReLU])
@pytest.mark.parametrize("weighted", [False, True])
def test_batches_train_as_the_arrays_do(relu, weighted):
    weight = WEIGHT if weighted else None
    model, twin = network(relu, l2=0.1), network(relu, l2=0.1)
    validation = (X[:9], Y[:9])
    history = fit(model, Batches(weight), validation_data=validation)
    expected = fit(twin, X, Y, sample_weight=weight, validation_data=validation)
    assert_alike(model, twin)
    for name in ("accuracy", "validation_loss", "validation_accuracy"):
        assert history[name] == expected[name]
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-6)


def test_a_list_of_batches_of_many_sizes():
    batches = [(X[:n], Y[:n]) for n in (7, 3, 7, 20, 3)]
    model, twin = network(), network()
    history = fit(model, batches, epochs=2)
    step = TrainStep(twin, SoftmaxCrossEntropy(), fastnn.Adam(0.01))
    for _ in range(2):
        losses = [step(*batch) for batch in batches]
    assert_alike(model, twin)
    rows = [len(x) for x, _ in batches]
    assert history.loss[-1] == pytest.approx(np.average(losses, weights=rows), rel=1e-12)
    assert history.samples_per_second[0] * history.seconds[0] == pytest.approx(sum(rows))


def test_batches_with_a_wrong_length():
    class Short(list):
        def __len__(self):
            return 1

    with pytest.raises(ValueError, match="X: its __len__ is 1, but there are more batches"):
        fit(network(), Short([(X, Y)] * 2), schedule=lambda t, epochs: 1.0)
    assert fit(network(), Short([(X, Y)] * 2)).epochs == 3


def test_a_batch_size_beyond_all_rows():
    model, expected = network(), network()
    for each, size in ((model, 10**30), (expected, len(X))):
        fit(each, X, Y, batch_size=size)
    assert_alike(model, expected)


def test_a_generator_is_good_for_one_epoch():
    def once():
        yield X, Y

    assert fit(network(), once(), epochs=1).epochs == 1
    with pytest.raises(ValueError, match="X: a generator gives its batches once, not for 3 epochs"):
        fit(network(), once())


def test_progress_of_batches(capsys):
    fit(network(), Batches(), progress=True, epochs=2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


BAD_BATCHES = {
    "no batches": ([], "X: expected batches, got none"),
    "no pair": ([X], r"batch 1: expected \(x, y\) or \(x, y, sample_weight\)"),
    "four parts": ([(X, Y, WEIGHT, 3)], "batch 1: expected"),
    "other lengths": ([(X, Y), (X, Y[1:])], "differ in their number of rows"),
    "other features": ([(X, Y), (X[:, 1:], Y)], "batch 2: X: layer 0"),
    "NaN": ([(X, Y), (X * np.nan, Y)], "batch 2: X contains NaN"),
    "labels": ([(X, Y), (X, Y + 5)], r"batch 2: targets: expected labels in \[0, 3\), got"),
    "targets of another form": ([(X, Y), (X, np.eye(3)[Y])], r"batch 2: y: expected rows of shape"),
    "weights": ([(X, Y, -WEIGHT)], "batch 1: sample_weight: expected no negative"),
    "all weights 0": ([(X, Y, 0 * WEIGHT)], "batch 1: sample_weight"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_bad_batches(name):
    batches, text = BAD_BATCHES[name]
    model = network()
    with pytest.raises(ValueError, match=text):
        fit(model, batches)
    assert fit(model, X, Y).epochs == 3  # the model may train again


@pytest.mark.parametrize(
    ("data", "options", "error", "text"),
    [
        (X, {}, TypeError, "y: expected targets beside X; .* got float32 of shape"),
        (5, {}, TypeError, "y: expected targets beside X"),
        ([(X, Y)], {"sample_weight": WEIGHT}, ValueError, "sample_weight: in batches"),
        ([(X, Y)], {"class_weight": "balanced"}, ValueError, "class_weight: 'balanced' needs all"),
    ],
)
def test_arguments_that_do_not_go_together(data, options, error, text):
    with pytest.raises(error, match=text):
        fit(network(), data, **options)


# ---- weights of classes ------------------------------------------------------------------------


def test_class_weight_is_a_weight_for_each_row():
    by_class = {0: 2.0, 1: 0.5, np.int64(2): 3}
    of_rows = np.array([2.0, 0.5, 3.0], np.float32)[Y]
    for weight in (None, WEIGHT):
        model, twin = network(), network()
        fit(model, X, Y, class_weight=by_class, sample_weight=weight)
        fit(twin, X, Y, sample_weight=of_rows if weight is None else of_rows * weight)
        np.testing.assert_allclose(model.flat_parameters, twin.flat_parameters, atol=1e-6)
    streamed, twin = network(), network()
    fit(streamed, Batches(), class_weight=by_class)
    fit(twin, X, Y, class_weight=by_class)
    assert_alike(streamed, twin)


def test_balanced_class_weights():
    model, twin = network(), network()
    fit(model, X, Y, class_weight="balanced")
    fit(twin, X, Y, sample_weight=(ROWS / (3 * np.bincount(Y)))[Y])
    assert_alike(model, twin)


def test_a_class_that_is_left_out():
    model, twin = network(), network()
    fit(model, X, Y, class_weight={0: 0.0})
    fit(twin, X[Y > 0], Y[Y > 0], sample_weight=np.ones((Y > 0).sum()))
    assert_alike(model, twin)


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1)])
@pytest.mark.parametrize("kind, one", [(int, 1), (bool, True), (bool, np.True_), (float, 1)])
def test_class_weight_of_two_classes(shape, kind, one):
    y = (Y > 0).reshape(shape).astype(kind)
    model, twin = (Sequential(Dense(6, 1), seed=0) for _ in range(2))
    fit(model, X, y, loss=SigmoidCrossEntropy(), class_weight={one: 4.0})
    fit(twin, X, y, loss=SigmoidCrossEntropy(), sample_weight=np.where(Y > 0, 4.0, 1.0))
    assert_alike(model, twin)


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), Hinge()], ids=repr)
def test_class_weight_of_boolean_labels(loss):
    model, twin = (Sequential(Dense(6, 2), seed=0) for _ in range(2))
    fit(model, X, Y > 0, loss=loss, class_weight={True: 4.0, np.False_: 0.5})
    fit(twin, X, Y > 0, loss=loss, sample_weight=np.where(Y > 0, 4.0, 0.5))
    assert_alike(model, twin)


@pytest.mark.parametrize(
    ("class_weight", "loss", "y", "text"),
    [
        ({0: -1.0}, SoftmaxCrossEntropy(), Y, "class_weight: expected a finite number >= 0"),
        ({-1: 1.0}, SoftmaxCrossEntropy(), Y, "class_weight: class: expected an integer from 0"),
        ({"cat": 1.0}, SoftmaxCrossEntropy(), Y, "class_weight: class: expected an integer from 0"),
        ({7: 1.0}, SoftmaxCrossEntropy(), Y, "an integer from 0 to 2, got 7"),
        ({2: 1.0}, SigmoidCrossEntropy(), Y > 1, "an integer from 0 to 1, got 2"),
        ({True: 1.0}, SoftmaxCrossEntropy(), Y, "an integer from 0 to 2, got True"),
        ({0: 2.0}, Hinge(), Y * 1.0, "a row, got y float64 of shape ("),
        ({1: 1e39}, SoftmaxCrossEntropy(), Y, "class_weight contains values too large for float32"),
        ({0: 0, 1: 0, 2: 0}, SoftmaxCrossEntropy(), Y, "class_weight: all weights are 0"),
        ([1, 2, 3], SoftmaxCrossEntropy(), Y, "class_weight: expected a dict"),
        ("equal", Hinge(), Y, "class_weight: expected a dict"),
        ({0: 2.0}, MeanSquaredError(), np.eye(3)[Y], "class_weight: needs one integer label a row"),
        (
            {0: 2.0},
            SoftmaxCrossEntropy(),
            np.eye(3)[Y],
            "class_weight: needs one integer label a row",
        ),
        (
            {0: 2.0},
            SigmoidCrossEntropy(),
            np.eye(3)[Y],
            "class_weight: needs one integer label a row",
        ),
    ],
)
def test_bad_class_weights_are_refused(class_weight, loss, y, text):
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        fit(network(), X, y, loss=loss, class_weight=class_weight)


# ---- the last batch ---------------------------------------------------------------------------


def cuts(rows, size, drop_last=False):
    """Where batches begin and end: a last one of one row joins the one before."""
    ends = [*range(size, rows + 1, size)] or [rows]
    if rows - ends[-1] == 1 and not drop_last:
        ends[-1] = rows
    if rows - ends[-1] > 1 and not drop_last:
        ends.append(rows)
    return list(zip([0, *ends], ends, strict=False))


def stepped(rows, size, *, relu, rates=None, accumulate=1, weight=None, drop_last=False):
    """Three epochs by `TrainStep` on these batches; the model, and the epochs' mean losses."""
    model, optimizer, losses = network(relu, l2=0.1), fastnn.Adam(0.01), []
    step = TrainStep(model, SoftmaxCrossEntropy(), optimizer, accumulate=accumulate)
    order, parts = fastnn.batches(X[:rows], Y[:rows], seed=4), cuts(rows, size, drop_last)
    for epoch in range(3):
        permutation, values, weights = order.permutation(), [], []
        for i, (begin, end) in enumerate(parts):
            if rates is not None:
                optimizer.learning_rate = 0.01 * rates(epoch + (i + 0.5) / len(parts), 3)
            index = permutation[begin:end]
            w = None if weight is None else weight[index]
            values.append(step(X[index], Y[index], w))
            weights.append(len(index) if w is None else w.astype(float).sum())
        step.flush()
        losses.append(np.average(values, weights=weights))
    return model, losses


@pytest.mark.parametrize(
    "rows, size", [(17, 8), (17, 4), (33, 16), (9, 8), (3, 2), (10, 3), (2, 5)]
)
@pytest.mark.parametrize("relu", [ReLU, OwnReLU])
@pytest.mark.parametrize("options", [
    {}, {"accumulate": 2}, {"accumulate": 3}, {"weight": WEIGHT},
    {"rates": lambda t, epochs: 1 - t / (2 * epochs)},
    {"rates": lambda t, epochs: 1 - t / (2 * epochs), "accumulate": 2, "weight": WEIGHT},
])  # fmt: skip
def test_a_last_row_too_few_for_batch_norm_joins_the_batch_before(rows, size, relu, options):
    expected, losses = stepped(rows, size, relu=relu, **options)
    weight = options.get("weight")
    weight = None if weight is None else weight[:rows]
    settings = {"schedule": options.get("rates"), "accumulate": options.get("accumulate", 1)}
    arrays, streamed = network(relu, l2=0.1), network(relu, l2=0.1)
    history = fit(arrays, X[:rows], Y[:rows], batch_size=size, sample_weight=weight, **settings)
    data = fastnn.batches(X[:rows], Y[:rows], size, seed=4, sample_weight=weight)
    its = fit(streamed, data, **settings)
    assert_alike(arrays, expected)
    assert_alike(streamed, expected)
    np.testing.assert_allclose(its.loss, history.loss, rtol=1e-6)
    if "accumulate" not in options:  # the parts of a short group do not add up to the penalty
        np.testing.assert_allclose(history.loss, losses, rtol=1e-12)
    assert history.accuracy == its.accuracy
    assert history.samples_per_second[0] * history.seconds[0] == pytest.approx(rows)


@pytest.mark.parametrize("rows", range(2, 60))
def test_batch_norm_takes_any_number_of_rows(rows):
    seen = []

    class Sizes(OwnReLU):
        def forward(self, x, training=False):
            if training:
                seen.append(len(x))
            return super().forward(x, training)

    for size in (2, 3, 8):
        seen.clear()
        data = np.resize(X, (rows, 6)), np.resize(Y, rows)
        assert fit(network(Sizes), *data, batch_size=size, epochs=1).epochs == 1
        assert sum(seen) == rows and min(seen) > 1
        assert set(seen[:-1]) <= {size} and seen[-1] <= size + 1


def test_models_without_batch_norm_take_a_last_row_alone():
    seen = []

    class Sizes(OwnReLU):
        def forward(self, x, training=False):
            seen.append(len(x))
            return super().forward(x, training)

    model = Sequential(Dense(6, 3), Sizes(), Dense(3, 3))
    fit(model, X[:17], Y[:17], batch_size=8, epochs=1, metrics=[])
    assert seen == [8, 8, 1]


@pytest.mark.parametrize("relu", [ReLU, OwnReLU])
@pytest.mark.parametrize("rows, size", [(50, 16), (49, 16), (48, 16), (50, 50)])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"weight": WEIGHT}])
def test_drop_last_leaves_out_a_last_short_batch(rows, size, relu, options):
    expected, losses = stepped(rows, size, relu=relu, drop_last=True, **options)
    weight = options.get("weight")
    weight = None if weight is None else weight[:rows]
    settings = {"accumulate": options.get("accumulate", 1)}
    arrays, streamed = network(relu, l2=0.1), network(relu, l2=0.1)
    history = fit(arrays, X[:rows], Y[:rows], batch_size=size, sample_weight=weight,
                  drop_last=True, **settings)  # fmt: skip
    data = fastnn.batches(X[:rows], Y[:rows], size, seed=4, drop_last=True, sample_weight=weight)
    its = fit(streamed, data, **settings)
    assert_alike(arrays, expected)
    assert_alike(streamed, expected)
    np.testing.assert_allclose(its.loss, history.loss, rtol=1e-6)
    if "accumulate" not in options:
        np.testing.assert_allclose(history.loss, losses, rtol=1e-12)
    assert history.accuracy == its.accuracy
    used = rows // size * size
    assert history.samples_per_second[0] * history.seconds[0] == pytest.approx(used)


def test_what_drop_last_cannot_be():
    for wrong in (1, None, "yes"):
        with pytest.raises(TypeError, match=r"^drop_last: expected True or False"):
            fit(network(), X, Y, drop_last=wrong)
    with pytest.raises(ValueError, match="drop_last: leaves nothing of 5 rows in batches of 16"):
        fit(network(), X[:5], Y[:5], drop_last=True)
    with pytest.raises(ValueError, match=r"drop_last: needs arrays; fastnn\.batches has"):
        fit(network(), [(X, Y)], drop_last=True)


@pytest.mark.parametrize("relu", [ReLU, OwnReLU])
@pytest.mark.parametrize("sizes, joined", [
    ([7, 1, 5], [7, 6]), ([1, 7], [8]), ([7, 1], [7]), ([1, 1, 4, 1], [2, 4]), ([6, 5], [6, 5]),
])  # fmt: skip
@pytest.mark.parametrize("weighted", [False, True])
def test_a_row_alone_in_batches_of_ones_own(sizes, joined, relu, weighted):
    """It joins the next batch, and is left out where there is none."""

    class Reusing:
        """Batches in memory that is used again, each time for the next one."""

        def __init__(self, sizes):
            self.sizes = sizes

        def __iter__(self):
            memory, start = [np.empty_like(X), np.empty_like(Y), np.empty_like(WEIGHT)], 0
            for size in self.sizes:
                for array, rows in zip(memory, (X, Y, WEIGHT), strict=True):
                    array[:size] = rows[start : start + size]
                yield tuple(array[:size] for array in memory[: 3 if weighted else 2])
                start += size

    model, twin = network(relu, l2=0.1), network(relu, l2=0.1)
    history, expected = fit(model, Reusing(sizes)), fit(twin, Reusing(joined))
    assert_alike(model, twin)
    assert history.loss == expected.loss and history.accuracy == expected.accuracy


def test_where_a_row_alone_has_no_other_to_join():
    for lonely in ([(X[:1], Y[:1])], fastnn.batches(X[:1], Y[:1])):
        with pytest.raises(ValueError, match=r"batch 1: .*at least two rows to train batch"):
            fit(network(), lonely)
    with pytest.raises(ValueError, match="batch 2: expected rows of the shape that the batch of"):
        fit(Sequential(BatchNorm(3), Dense(3, 3), dtype="float64"),
            [(np.ones((1, 3)), [0]), (np.ones((2, 3)), np.eye(3)[:2])])  # fmt: skip


# ---- several batches to one update -------------------------------------------------------------


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", [lambda: fastnn.SGD(0.1), lambda: fastnn.Adam(0.01)])
def test_accumulated_batches_are_one_large_batch(optimizer, l2):
    model, twin = plain(l2=l2, dtype="float64"), plain(l2=l2, dtype="float64")
    history = fit(model, X, Y, optimizer=optimizer(), batch_size=8, accumulate=3)
    expected = fit(twin, X, Y, optimizer=optimizer(), batch_size=24)
    np.testing.assert_allclose(model.flat_parameters, twin.flat_parameters, atol=1e-12)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-12)


@pytest.mark.parametrize("accumulate", [2, 3, 4, 9])
@pytest.mark.parametrize("weighted", [False, True])
def test_accumulating_recorded_and_by_hand(accumulate, weighted):
    weight = WEIGHT if weighted else None
    model, hand, streamed = network(l2=0.1), network(OwnReLU, l2=0.1), network()
    options = {"accumulate": accumulate, "sample_weight": weight}
    history = fit(model, X, Y, **options)
    expected = fit(hand, X, Y, **options)
    assert_alike(model, hand)
    assert history.loss == expected.loss
    twin = network()
    fit(streamed, Batches(weight), accumulate=accumulate)
    fit(twin, X, Y, **options)
    assert_alike(streamed, twin)


def linear_by_hand(x, y, size, accumulate, l2, rate, epochs):
    """Linear regression with the penalty, updated with the mean over each group's rows, in plain
    NumPy; returns the weight and the mean loss of each epoch."""
    w, losses = np.zeros((x.shape[1], 1)), []
    for _ in range(epochs):
        total = 0.0
        for start in range(0, len(x), size * accumulate):
            rows = slice(start, start + size * accumulate)
            error = x[rows] @ w - y[rows]
            count = len(error)
            total += (error**2).sum() + l2 / 2 * (w**2).sum()
            w = w - rate * (2 * x[rows].T @ error + l2 * w) / count
        losses.append(total / len(x))
    return w, losses


@pytest.mark.parametrize("rows", [1, 3, 5, 7, 12])
@pytest.mark.parametrize("size, accumulate", [(1, 2), (1, 3), (2, 3), (4, 9)])
@pytest.mark.parametrize("within", [False, True])
def test_a_short_last_group_bears_the_whole_penalty(rows, size, accumulate, within):
    """Arrays, batches of one's own and `TrainStep.flush`; a layer within another one too."""
    rng = np.random.default_rng(rows)
    x, y = rng.standard_normal((rows, 2)), rng.standard_normal((rows, 1))
    parts = [(x[i : i + size], y[i : i + size]) for i in range(0, rows, size)]

    def make():
        layer = Dense(2, 1, bias=False, weight_init="zeros", l2=1.0)
        layers = [fastnn.Residual(layer, shortcut=Zero())] if within else [layer]
        return Sequential(*layers, dtype="float64")

    options = {
        "loss": MeanSquaredError(), "epochs": 3, "accumulate": accumulate, "shuffle": False,
        "batch_size": size, "progress": False,
    }  # fmt: skip
    fitted, streamed, stepped = make(), make(), make()
    history = fitted.fit(x, y, optimizer=fastnn.SGD(0.1), **options)
    its = streamed.fit(parts, optimizer=fastnn.SGD(0.1), **options)
    step = TrainStep(stepped, MeanSquaredError(), fastnn.SGD(0.1), accumulate=accumulate)
    for _ in range(3):
        for part in parts:
            step(*part)
        step.flush()
    w, losses = linear_by_hand(x, y, size, accumulate, 1.0, 0.1, 3)
    (name,) = fitted.parameters
    np.testing.assert_allclose(fitted.parameters[name], w, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-13)
    np.testing.assert_allclose(its.loss, losses, rtol=1e-13)
    assert_alike(streamed, fitted)
    assert_alike(stepped, fitted)


class Zero:
    """A path that adds nothing."""

    def forward(self, x, training=False):
        return np.zeros((len(x), 1))

    def backward(self, dy):
        return np.zeros((len(dy), 2))


@pytest.mark.parametrize("relu", [ReLU, OwnReLU])
@pytest.mark.parametrize("weighted", [False, True])
def test_groups_that_turn_out_shorter_in_all_ways_to_train(relu, weighted):
    """50 rows are four batches: groups of 3 and 1, of 4, and one that is never full."""
    weight = WEIGHT if weighted else None
    for accumulate in (3, 4, 9):
        fitted, streamed, stepped = (network(relu, l2=0.3) for _ in range(3))
        history = fit(fitted, X, Y, accumulate=accumulate, sample_weight=weight)
        its = fit(streamed, Batches(weight), accumulate=accumulate)
        optimizer = fastnn.Adam(0.01)
        step = TrainStep(stepped, SoftmaxCrossEntropy(), optimizer, accumulate=accumulate)
        batches = Batches(weight)
        for _ in range(3):
            for batch in batches:
                step(*batch)
            step.flush()
        assert_alike(streamed, fitted)
        assert_alike(stepped, fitted)
        np.testing.assert_allclose(its.loss, history.loss, rtol=1e-6)


def test_a_step_that_accumulates():
    model, twin, loss = plain(), plain(), SoftmaxCrossEntropy()
    step = TrainStep(model, loss, fastnn.SGD(0.1), accumulate=2)
    optimizer = fastnn.SGD(0.1)
    for start in range(0, 40, 20):
        before = model.flat_parameters.copy()
        gradients = []
        for rows in (slice(start, start + 15), slice(start + 15, start + 20)):
            assert_same_bits(model.flat_parameters, before)
            value, gradient = loss(twin.forward(X[rows], training=True), Y[rows])
            twin.backward(gradient)
            gradients.append(twin.flat_gradients.copy())
            assert step(X[rows], Y[rows]) == value
        twin.flat_gradients[:] = (15 * gradients[0] + 5 * gradients[1]) / 20
        optimizer.step(twin)
        np.testing.assert_allclose(model.flat_parameters, twin.flat_parameters, atol=1e-7)
        twin.flat_parameters[:] = model.flat_parameters
    assert step.recorded and step.accumulate == 2 and step.steps == 4


def test_divergence_while_accumulating_leaves_nothing_behind():
    model, twin = plain(), plain()
    steps = [
        TrainStep(m, SoftmaxCrossEntropy(), fastnn.SGD(0.1), accumulate=2) for m in (model, twin)
    ]
    for step in steps:
        step(X, Y), step(X, Y)
    steps[0](X, Y)
    with pytest.raises(FloatingPointError):
        steps[0](np.full_like(X, np.nan), Y)
    for step in steps:
        step(X, Y), step(X, Y)
    assert_alike(model, twin)


@pytest.mark.parametrize("relu", [ReLU, OwnReLU])
def test_a_failed_step_of_another_loses_no_accumulated_batches(relu):
    """If not recorded, the failed step has run forward but not backward."""
    model, twin, loss = network(relu), network(relu), SoftmaxCrossEntropy()
    for each in (model, twin):
        optimizer = fastnn.SGD(0.1)
        step = TrainStep(each, loss, optimizer, accumulate=2)
        step(X, Y)
        if each is model:
            with pytest.raises(FloatingPointError):
                TrainStep(each, loss, optimizer)(np.full_like(X, np.nan), Y)
        step.flush()
    assert_alike(model, twin)


def test_fits_that_accumulate_otherwise_after_one_another():
    """A fit must not replay what one with another `accumulate` has recorded."""
    loss = SoftmaxCrossEntropy()
    model, optimizer = network(), fastnn.Adam(0.01)
    twin, its_optimizer = network(OwnReLU), fastnn.Adam(0.01)
    for accumulate in (1, 3, 1, 2, 3):
        fit(model, X, Y, loss=loss, optimizer=optimizer, accumulate=accumulate, epochs=2)
        fit(twin, X, Y, loss=loss, optimizer=its_optimizer, accumulate=accumulate, epochs=2)
        assert_alike(model, twin)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_a_bad_number_of_batches_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match=r"^accumulate: "):
        fit(network(), X, Y, accumulate=wrong)
