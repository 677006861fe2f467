"""Programs: calls of kernels' faces that are recorded and replayed.  test_phases.py tests how they
are sorted into phases."""

import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn
from compare import assert_same_bits
from fastnn import _kernels
from fastnn._kernels import HYPER, Hold, Program, add_scaled, copy, unrecorded
from fastnn.half_weights import HalfWeight
from programs import count, record, zeros

RELU, SOFTMAX = (_kernels.ACTIVATIONS[name] for name in ("relu", "softmax"))


# ---- what a program keeps alive ----


def test_arrays_live_as_long_as_the_program():
    x, weight = zeros(4, 8), zeros(8, 4)
    alive = [weakref.ref(weight)]
    program = Program()
    with program:
        y = _kernels.dense_forward(x, weight)
        alive.append(weakref.ref(y))
        y = alive.append(weakref.ref(_kernels.activation_forward(y, RELU)))
    del weight, y
    gc.collect()
    assert all(ref() is not None for ref in alive)
    x[:], alive[0]()[:] = 1, 1
    program.replay()
    assert (alive[2]() == 8).all()
    del program
    gc.collect()
    assert all(ref() is None for ref in alive)


def test_what_is_fed_lives_until_other_arrays_are_fed():
    x = zeros(4, 2)
    alive = weakref.ref(x)
    program = Program()
    program.feed(x)
    with program:
        program.take("x", 2)
    del x
    gc.collect()
    assert alive() is not None and program.replay() == 1
    program.feed(zeros(4, 2))
    gc.collect()
    assert alive() is None


# ---- recording ----


def test_a_program_of_nothing_does_nothing_and_may_still_record():
    program, x, y = Program(), np.ones(8, np.float32), zeros(8)
    with program:
        pass
    assert program.phases() == [] and program.replay() == 1
    with program:
        copy(y, x)
    y[:] = 0
    assert program.replay() == 1 and (y == 1).all()


def test_a_recording_within_another_is_its_own():
    outer, inner = Program(), Program()
    with outer:
        copy(zeros(8), zeros(8))
        with inner:
            copy(zeros(8), zeros(8))
            copy(zeros(8), zeros(8))
        unrecorded(lambda x: copy(x, x), zeros(8))
        copy(zeros(8), zeros(8))
    assert count(outer.phases()) == count(inner.phases()) == 2


def test_another_models_calls_are_not_recorded():
    """A signal handler or a finalizer may train and evaluate another model meanwhile."""
    mine, other = (fastnn.Sequential(fastnn.Dense(4, 2), seed=0) for _ in range(2))
    optimizer, x = fastnn.SGD(0.1), np.ones((3, 4), np.float32)
    with mine._hold, Program(None, mine._hold) as program:
        mine.forward(x, training=True)
        other.predict(x)
        other.predictor(batch_size=3)(x)
        other.backward(np.ones_like(other.forward(x, training=True)))
        optimizer.step(other)
        step = fastnn.TrainStep(other, fastnn.MeanSquaredError(), optimizer)
        for _ in range(2):
            step(x, np.zeros((3, 2), np.float32))
        mine.backward(np.ones((3, 2), np.float32))
    expected = Program(None, mine._hold)
    with mine._hold, expected:
        mine.forward(x, training=True)
        mine.backward(np.ones((3, 2), np.float32))
    assert program.phases() == expected.phases()
    before = other.flat_parameters.copy()
    program.replay()
    assert_same_bits(other.flat_parameters, before)


def test_one_thread_at_a_time_holds_a_model():
    hold, seen = Hold(), []

    def take():
        try:
            with hold:
                seen.append(True)
        except RuntimeError as error:
            seen.append(str(error))

    def elsewhere():
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()

    with hold, hold:
        take()
        elsewhere()
    elsewhere()
    assert seen[0] is True and seen[1].startswith("training: another thread") and seen[2] is True


def test_a_program_is_recorded_once():
    program = record(lambda: copy(zeros(8), zeros(8)))
    with pytest.raises(RuntimeError, match="has been recorded"):
        program.__enter__()
    record(lambda: None)


def test_an_exception_ends_the_recording():
    with pytest.raises(KeyError), Program():
        raise KeyError
    record(lambda: copy(zeros(8), zeros(8)))


def test_what_other_threads_run_is_not_recorded():
    a, b = zeros(8), np.ones(8, np.float32)
    with Program() as program:
        other = threading.Thread(target=lambda: copy(a, b))
        other.start()
        other.join()
    assert (a == 1).all() and program.phases() == []
    seen = []

    def both():
        seen.append(record(lambda: copy(a, b), lambda: copy(a, b)))

    with Program() as program:
        copy(a, b)
        other = threading.Thread(target=both)
        other.start()
        other.join()
    assert count(program.phases()) == 1 and count(seen[0].phases()) == 2


def test_a_replay_is_not_recorded():
    program = record(lambda: copy(zeros(8), zeros(8)))
    with Program() as outer:
        assert program.replay() == 1
    assert outer.phases() == []


# ---- rows in, results out ----


def summing(rows=4):
    """A program that takes rows, two at a time, and adds them to `total`, the last result."""
    X = np.arange(float(rows * 3)).astype(np.float32).reshape(rows, 3)
    y, weight = np.arange(rows), np.ones(rows, np.float32)
    total, value = zeros(2, 3), np.zeros(1)
    program = Program()
    outputs, losses = zeros(rows, 3), np.zeros(rows // 2)
    program.feed(X, y, weight, outputs=outputs, losses=losses)
    with program:
        x = program.take("x", 2)
        labels, weights = program.take("targets", 2), program.take("weights", 2)
        add_scaled(total, x, 1.0)
        _kernels.add_penalty(value, x, 1.0)
        program.give(total)
        program.end_batch(value)
    assert_same_bits(x, X[:2])
    np.testing.assert_array_equal(labels, [0, 1])
    assert_same_bits(weights, weight[:2])
    assert_same_bits(outputs[:2], X[:2])
    return program, X, y, weight, total


def test_batches_follow_one_another(threads):
    program, X, y, weight, total = summing(20)
    total[:] = 0
    outputs, losses = zeros(20, 3), np.zeros(10)
    program.feed(X, y, weight, outputs=outputs, losses=losses)
    assert program.replay(4) == 4 and program.replay(6) == 6
    assert_same_bits(outputs, X.reshape(10, 2, 3).cumsum(axis=0, dtype=np.float32).reshape(20, 3))
    assert (np.diff(losses) > 0).all()
    order = np.arange(19, -1, -1)
    total[:] = 0
    program.feed(X, y, weight, index=order, outputs=outputs)
    program.replay(10)
    backwards = X[::-1].reshape(10, 2, 3).cumsum(axis=0, dtype=np.float32).reshape(20, 3)
    assert_same_bits(outputs, backwards)


def test_an_index_may_repeat_rows_and_be_longer_than_they_are():
    program, X, y, weight, total = summing(4)
    total[:] = 0
    program.feed(X, y, weight, index=np.full(10, 3))
    assert program.replay(5) == 5
    np.testing.assert_array_equal(total, 5 * np.stack([X[3], X[3]]))


def wrong_feeds(X, y, weight):
    read_only = np.zeros_like(X)
    read_only.flags.writeable = False
    frozen = np.zeros(2)
    frozen.flags.writeable = False
    yield "x: rows of 8 bytes", (X[:, :2].copy(), y, weight), {}
    yield "targets", (X, y.astype(np.int32), weight), {}
    yield "weights of another type", (X, y, weight.astype(float)), {}
    yield "no targets", (X,), {}
    yield "no weights", (X, y), {}
    yield "not contiguous", (np.repeat(X, 2, axis=1)[:, ::2], y, weight), {}
    yield "Fortran order", (np.asfortranarray(X), y, weight), {}
    yield "no rows", (X[:0], y[:0], weight[:0]), {}
    yield "index of int32", (X, y, weight), {"index": np.arange(4, dtype=np.int32)}
    yield "index of floats", (X, y, weight), {"index": np.arange(4.0)}
    yield "index beyond", (X, y, weight), {"index": np.array([0, 4])}
    yield "index below", (X, y, weight), {"index": np.array([0, -1])}
    yield "index beyond the shortest", (X, y[:2], weight), {"index": np.array([0, 2])}
    yield "index with steps", (X, y, weight), {"index": np.repeat(np.arange(4), 2)[::2]}
    yield "read-only outputs", (X, y, weight), {"outputs": read_only}
    yield "outputs of other rows", (X, y, weight), {"outputs": zeros(4, 2)}
    yield "losses of float32", (X, y, weight), {"losses": zeros(2)}
    yield "read-only losses", (X, y, weight), {"losses": frozen}
    yield "rates of float32", (X, y, weight), {"rates": zeros(2)}
    yield "rates without columns", (X, y, weight), {"rates": np.zeros((2, 0))}


@pytest.mark.parametrize("name", [name for name, *_ in wrong_feeds(*summing()[1:4])])
def test_what_does_not_fit_is_refused_before_anything_runs(name):
    program, X, y, weight, total = summing()
    feeds = {name: feed for name, *feed in wrong_feeds(X, y, weight)}
    before = total.copy()
    (arrays, options) = feeds[name]
    with pytest.raises(ValueError):
        program.feed(*arrays, **options)
    with pytest.raises(ValueError):  # nothing refused may be used
        program.replay()
    assert_same_bits(total, before)
    program.feed(X, y, weight)
    assert program.replay(2) == 2


def test_too_few_rows_and_too_little_room():
    program, X, y, weight, total = summing()
    before = total.copy()
    for arrays, options, steps in (
        ((X, y, weight), {}, 3),
        ((X[:3], y, weight), {}, 2),
        ((X, y[:1], weight), {}, 1),
        ((X, y, weight), {"index": np.arange(3)}, 2),
        ((X, y, weight), {"outputs": zeros(3, 3)}, 2),
        ((X, y, weight), {"losses": np.zeros(1)}, 2),
        ((X, y, weight), {"losses": np.zeros(0)}, 1),
    ):
        program.feed(*arrays, **options)
        with pytest.raises(ValueError, match=r"rows are left for|room for"):
            program.replay(steps)
        assert_same_bits(total, before)
    program.feed(X, y, weight)
    assert program.replay(2) == 2
    with pytest.raises(ValueError, match="rows are left for, 0, got"):
        program.replay()


def test_each_step_takes_its_rate():
    hyper, X = np.zeros(len(_kernels.HYPER)), zeros(6, 3)
    rates, program, seen = np.array([0.5, 0.25, 0.125]), Program(), np.zeros(3)
    program.feed(X, losses=seen, rates=rates)
    with program:
        program.take("x", 2)
        program.take_rate(hyper)
        program.end_batch(hyper[:1])  # the learning rate, which is its first number
    program.replay(2)
    np.testing.assert_array_equal(seen, rates)
    with pytest.raises(ValueError, match="rates: expected more than the 3 used, got 3"):
        program.take_rate(hyper)
    program.feed(X, rates=rates[:1])
    with pytest.raises(ValueError, match="rates: expected 2 more, got 1"):
        program.replay(2)
    program.feed(X)
    program.replay(3)
    assert hyper[_kernels.HYPER["learning_rate"]] == 0.125  # none was given: it stays


def test_each_number_takes_its_column():
    """NaN leaves a number as it is."""
    numbers, other, program = np.full(3, 9.0), np.full(1, 9.0), Program()
    rates = np.array([[0.5, np.nan, 4.0], [0.25, 2.0, np.nan]])
    program.feed(zeros(4, 2), rates=rates)
    with program:
        program.take("x", 2)
        program.take_rate(numbers, 2, 0)
        program.take_rate(other, 0, 1)
        program.take_rate(numbers, 0, 2)
        program.end_batch(np.zeros(1))
    assert numbers.tolist() == [4.0, 9.0, 0.5] and other.tolist() == [9.0]
    program.replay()
    assert numbers.tolist() == [4.0, 9.0, 0.25] and other.tolist() == [2.0]
    for wrong in (rates[:, :2].copy(), rates[0]):
        with pytest.raises(ValueError, match="rates: expected 3 columns, got"):
            program.feed(zeros(4, 2), rates=wrong)
    program.feed(zeros(4, 2), rates=rates)
    for index, column, name in ((3, 0, "index"), (-1, 0, "index"), (0, 3, "col"), (0, -1, "col")):
        with pytest.raises(ValueError, match=f"{name}.*: expected one of"):
            program.take_rate(numbers, index, column)


def test_what_cannot_be_taken_or_given_while_recording():
    X = zeros(4, 3)
    program = Program()
    with pytest.raises(ValueError, match=r"take: expected .* got . of x"):
        program.take("x", 2)
    program.feed(X, losses=np.zeros(0))
    with program:
        for name, rows in ("targets", 2), ("weights", 2), ("outputs", 2), ("x", 0), ("x", -1):
            with pytest.raises(ValueError, match="take: "):
                program.take(name, rows)
        with pytest.raises(ValueError):
            program.take("z", 2)
        with pytest.raises(ValueError, match="rows: expected at most 4, got 5"):
            program.take("x", 5)
        program.take("x", 3)
        for take in (lambda: program.take("x", 2), lambda: program.give(zeros(2, 3))):
            with pytest.raises(ValueError, match=r"rows: expected 3 as before, .*, got 2"):
                take()
        with pytest.raises(ValueError, match="losses: expected room for more than"):
            program.end_batch(np.zeros(1))
    program = Program()
    program.feed(X, outputs=np.zeros((4, 3)))
    with program, pytest.raises(ValueError, match="outputs: expected float32"):
        program.give(zeros(4, 3))
    program = Program()
    program.feed(X)
    with program:
        program.take("x", 3)
        program.end_batch(np.zeros(1))
        with pytest.raises(ValueError, match=r"rows: .* at most 1, got"):
            program.take("x", 3)


def test_a_program_is_run_by_one_thread_at_a_time():
    """Meanwhile other threads are refused; they may run other programs."""
    x, weight = np.ones((1000, 500), np.float32), np.ones((500, 500), np.float32)
    program = Program()
    program.feed(x)
    with program:
        y = _kernels.dense_forward(program.take("x", 1000), weight)
    errors, done = [], []

    def run():
        for _ in range(200):
            if errors:
                break
            try:
                program.feed(x)
                done.append(program.replay())
            except RuntimeError as error:
                errors.append(str(error))
            done.append(record(lambda: copy(zeros(8), zeros(8))).replay())

    workers = [threading.Thread(target=run) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert set(errors) == {"another thread is running this program"} and set(done) == {1}
    y[:] = 0
    program.feed(x)
    assert program.replay() == 1 and (y == 500).all()


# ---- faults ----


def test_a_fault_stops_a_replay_at_once():
    hyper = np.zeros(len(HYPER))
    X, total, count = np.arange(10, dtype=np.float32).reshape(10, 1), zeros(1, 1), hyper.copy()
    value = np.zeros(1)
    X[6] = np.inf
    program = Program(hyper)
    program.feed(X)
    with program:
        x = program.take("x", 1)
        copied = _kernels.activation_forward(x, RELU)
        _kernels.add_penalty(value, copied, 1.0)
        _kernels.check_value(value, hyper)
        _kernels.advance_step(count)  # runs alone, as the check does, and after it
        _kernels.advance_step(hyper)
        add_scaled(total, x, 1.0)
        program.end_batch(value)
    total[:], value[:], hyper[:], count[:] = 0, 0, 0, 0
    program.feed(X)
    assert program.replay(10) == 6
    assert hyper[HYPER["fault"]] == _kernels.FAULT_VALUE
    assert hyper[HYPER["step"]] == 6
    before = hyper.copy()
    assert program.replay() == 0  # until the fault is cleared
    assert_same_bits(hyper, before)
    hyper[HYPER["fault"]], value[:] = 0, 0
    program.feed(X)
    assert program.replay(3) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_a_fault(bad):
    hyper = np.zeros(len(HYPER))
    _kernels.check_value(np.array([1e308]), hyper)
    assert hyper[HYPER["fault"]] == 0
    _kernels.check_value(np.array([bad]), hyper)
    assert hyper[HYPER["fault"]] == _kernels.FAULT_VALUE


def test_an_update_that_is_not_finite_ends_the_step(threads):
    hyper = np.zeros(len(HYPER))
    hyper[[HYPER["learning_rate"], HYPER["gradient_scale"]]] = 1
    parameters, gradients = zeros(20000), zeros(20000)
    program = Program(hyper)
    with program:
        _kernels.sgd(parameters, gradients, hyper)
    gradients[12345] = np.nan
    assert program.replay(5) == 0 and hyper[HYPER["fault"]] != 0
    assert (parameters == 0).all()


@pytest.mark.parametrize("hyper", [np.zeros(3), np.zeros(len(HYPER), np.float32)])
def test_the_place_of_the_fault_is_checked(hyper):
    with pytest.raises(ValueError, match="hyper: expected"):
        Program(hyper)


# ---- the same bits as one after the other ----

ROWS, FEATURES = 96, 96  # square: any array fits any argument; enough work for threads
NAMES = range(5)


def call_dense(a, i, j, k):
    copy(a[i], _kernels.dense_forward(a[j], a[k], None, RELU))


HALVES = HalfWeight(
    np.random.default_rng(5).standard_normal((FEATURES, 3 * FEATURES)).astype(np.float32),
    *("bfloat16", "weight", 1),
)


def call_half_weight(a, i, j, k):
    """All rows, and of three strips of columns the first."""
    y = _kernels.dense_forward(a[j], HALVES.wide, None, RELU, packed=HALVES.packed)
    copy(a[i], _kernels.split_columns(y, (FEATURES, 2 * FEATURES))[0])


def call_bfloat16(a, i, j, k):
    """All three forms; the weight's gradient is cut by rows, the others by rows and by columns."""
    if i not in (j, k):
        _kernels.dense_backward_weight(a[j], a[k], a[i], True)
    y = _kernels.dense_forward(a[j], a[k], a[k][0], RELU, keep_z=True, bfloat16=True)[0]
    wide = _kernels.dense_forward(y, HALVES.wide, bfloat16=True)
    copy(a[j], _kernels.split_columns(wide, (FEATURES, 2 * FEATURES))[0])
    copy(a[k], _kernels.dense_backward_input(a[j], a[i], True))


def call_gradient(a, i, j, k):
    if i not in (j, k):
        _kernels.dense_backward_weight(a[j], a[k], a[i])


def call_columns(a, i, j, k):
    _kernels.dense_backward_bias(a[j], a[i][k])  # a row of a matrix


def call_batch_norm(a, i, j, k):
    y, *_ = _kernels.batchnorm_forward(a[j], a[k][0], a[k][1], a[k][2], a[i][3], 0.1, 1e-3)
    copy(a[i], y)


def call_half(a, i, j, k):
    """Copy half of the rows to other rows, which may overlap other calls' halves."""
    copy(a[i][1 : ROWS // 2], a[j][k : k + ROWS // 2 - 1].copy() if i == j else a[j][
        k : k + ROWS // 2 - 1])  # fmt: skip


def call_loss(a, i, j, k):
    """The gradient of a loss of whose rows two make a row of the other calls."""
    targets = np.full((2 * ROWS, FEATURES // 2), 0.25, np.float32)
    p = np.linspace(0.5, 2, FEATURES // 2).astype(np.float32)
    outputs = a[j].reshape(targets.shape)
    _, gradient = _kernels.sigmoid_cross_entropy(outputs, targets, None, p)
    copy(a[i], gradient.reshape(a[i].shape))


def call_dropout(a, i, j, k):
    """Forward and backward, with a rate that a call of one unit sets."""
    rate, counter = np.empty(1), np.array([k], np.uint64)
    copy(rate, RATE)
    y, mask = _kernels.dropout_forward(a[j], rate, 0, counter, i)
    copy(a[i], _kernels.dropout_backward(y, mask, rate))


def call_parametric(a, i, j, k):
    weight, kind = a[k][1], _kernels.ACTIVATIONS["mish" if k % 2 else "selu"]
    y = _kernels.parametric_forward(a[j], weight, kind)
    copy(a[i], _kernels.parametric_backward(a[j], y, weight, a[i][k], kind))


def call_periodic(a, i, j, k):
    """24 features, 4 frequencies of each and 4 outputs."""
    if i in (j, k):
        return
    x, weight = a[j].reshape(-1, 24), a[k][:3].reshape(24, 4, 3)
    waves = a[k][3].reshape(24, 4), a[k][4].reshape(24, 4), weight
    y = _kernels.periodic_forward(x, *waves, a[k][5, :72].reshape(24, 3))
    gradients = [zeros(24, 4), zeros(24, 4), zeros(24, 4, 3), a[i][5, :72].reshape(24, 3)]
    copy(a[i], _kernels.periodic_backward(x, y, *waves, gradients).reshape(a[i].shape))
    copy(a[i][:3], gradients[2].reshape(3, FEATURES))


RATE = np.array([0.3])
CALLS = {
    "dropout": call_dropout,
    "dense": call_dense,
    "half weight": call_half_weight,
    "weight gradient": call_gradient,
    "bfloat16": call_bfloat16,
    "column sums": call_columns,
    "batch norm": call_batch_norm,
    "half": call_half,
    "loss": call_loss,
    "parametric": call_parametric,
    "periodic": call_periodic,
    "activation": lambda a, i, j, k: copy(a[i], _kernels.activation_forward(a[j], 4)),
    "softmax": lambda a, i, j, k: copy(a[i], _kernels.activation_forward(a[j], SOFTMAX)),
    "add": lambda a, i, j, k: add_scaled(a[i], a[j], 0.25) if i != j else None,
    "copy": lambda a, i, j, k: copy(a[i], a[j]) if i != j else None,
    "sign": lambda a, i, j, k: _kernels.add_sign(a[i], a[j], 0.25) if i != j else None,
    "clip": lambda a, i, j, k: _kernels.clip_value(a[i], 0.5),
    "columns": lambda a, i, j, k: copy(a[i], _kernels.join_columns(
        _kernels.split_columns(a[j], (k + 1, FEATURES - k - 1))[::-1])),
    "lerp": lambda a, i, j, k: _kernels.lerp(a[i], a[j], RATE),
    "flat add": lambda a, i, j, k: i != j and add_scaled(a[i].reshape(-1)[16:],
                                                         a[j].reshape(-1)[:-16], 0.5),
}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(CALLS)), *(st.sampled_from(NAMES) for _ in range(3))),
        min_size=1,
        max_size=14,
    )
)
def test_any_calls_replayed_have_the_bits_of_one_after_the_other(calls):
    rng = np.random.default_rng(0)
    begin = [rng.standard_normal((ROWS, FEATURES)).astype(np.float32) for _ in NAMES]
    expected = None
    for isa in _kernels.isa_levels()[1:]:
        _kernels.set_isa(isa)
        arrays = [a.copy() for a in begin]
        with Program() as program:
            for name, *which in calls:
                CALLS[name](arrays, *which)
        if expected is None:
            expected = [a.copy() for a in arrays]
        for a, b in zip(arrays, expected, strict=True):
            assert_same_bits(a, b)
        for threads in (1, 2, 3, 7):
            fastnn.set_num_threads(threads)
            for a, b in zip(arrays, begin, strict=True):
                a[:] = b
            program.replay()
            for a, b in zip(arrays, expected, strict=True):
                assert_same_bits(a, b)
