"""Programs: how recorded calls are sorted into phases, and which of them form chains."""

import numpy as np
import pytest

import fastnn
from fastnn import BatchNorm, Dense, Dropout, ReLU, Sequential, SoftmaxCrossEntropy, _kernels
from fastnn._kernels import HYPER, add_scaled, copy, dense_backward_bias
from programs import count, record, zeros

RELU, SOFTMAX = (_kernels.ACTIVATIONS[name] for name in ("relu", "softmax"))


def phases_of_a_step(model, rows, optimizer):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, model.in_features)).astype(model.dtype)
    step = fastnn.TrainStep(model, SoftmaxCrossEntropy(), optimizer)
    step(X, rng.integers(0, model.out_features, rows))
    (recording,) = step._recording._entries.values()
    return recording.program.phases()


def test_a_step_of_a_multilayer_perceptron_is_few_phases():
    model = Sequential(Dense(4, 64, activation="tanh"), Dense(64, 64, activation="tanh"),
                       Dense(64, 2), seed=0)  # fmt: skip
    phases = phases_of_a_step(model, 64, fastnn.Adam())
    assert 2 <= len(phases) <= 4
    calls, units = phases[0][1][0]
    assert calls >= 8 and units == 64  # forward, loss and backward by rows are one chain


def test_every_call_is_in_some_phase():
    model = Sequential(Dense(8, 40), BatchNorm(40), ReLU(), Dropout(0.2), Dense(40, 3), l2=0.1)
    phases = phases_of_a_step(model, 50, fastnn.AdamW(clip_norm=1.0))
    assert count(phases) > 30
    a = zeros(8)
    assert count(record(*[lambda: copy(a, a)] * 5, lambda: add_scaled(a, a, 1.0)).phases()) == 6


def test_no_calls_are_no_phases():
    program = record()
    assert program.phases() == [] and program.replay(3) == 3


def test_independent_calls_share_a_phase():
    a, b, c, d = zeros(64), zeros(64), zeros(320), zeros(320)
    ((alone, chains),) = record(lambda: copy(a, b), lambda: copy(c, d)).phases()
    assert alone == 0 and sorted(chains) == [(1, 4), (1, 20)]


def test_units_alike_form_a_chain_and_only_those():
    a, b, c, d = zeros(64), zeros(64), zeros(64), zeros(320)
    program = record(
        lambda: copy(a, b), lambda: add_scaled(a, c, 1.0), lambda: copy(b, a), lambda: copy(d, d)
    )
    assert program.phases() == [(0, [(1, 20), (3, 4)])]


CONFLICTS = {  # a unit is 16 elements, so that two calls on one whole array may form a chain
    "read after write": lambda a, b, c: (lambda: copy(a, b), lambda: copy(c, a)),
    "write after read": lambda a, b, c: (lambda: copy(b, a), lambda: copy(a, c)),
    "write after write": lambda a, b, c: (lambda: copy(a, b), lambda: copy(a, c)),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_conflicts_by_units_make_a_chain(name):
    program = record(*CONFLICTS[name](zeros(64), zeros(64), zeros(64)))
    assert program.phases() == [(0, [(2, 4)])]


def test_only_reading_is_no_conflict():
    a, b, c = zeros(64), zeros(64), zeros(64)
    program = record(lambda: copy(b, a), lambda: copy(c, a), lambda: dense_backward_bias(
        a.reshape(2, 32), zeros(32)))  # fmt: skip
    assert len(program.phases()) == 1


@pytest.mark.parametrize("name", CONFLICTS)
@pytest.mark.parametrize("shift", [1, 16, 32])
def test_overlapping_views_that_begin_elsewhere_wait(name, shift):
    memory = zeros(128)
    a, shifted = memory[:64], memory[shift : shift + 64]
    first, second = CONFLICTS[name](a, zeros(64), zeros(64))
    _, after = CONFLICTS[name](shifted, zeros(64), zeros(64))
    assert len(record(first, after).phases()) == 2
    assert len(record(first, second).phases()) == 1
    apart = memory[64:]
    _, after = CONFLICTS[name](apart, zeros(64), zeros(64))
    assert len(record(first, after).phases()) == 1


def test_what_is_touched_whole_or_by_other_units_waits():
    x, y, bias = zeros(64, 32), zeros(64, 32), zeros(32)
    column_sum_after = record(lambda: copy(x, y), lambda: dense_backward_bias(x, bias))
    assert [chains for _, chains in column_sum_after.phases()] == [[(1, 128)], [(1, 2)]]
    write_after = record(lambda: dense_backward_bias(x, bias), lambda: copy(x, y))
    assert [chains for _, chains in write_after.phases()] == [[(1, 2)], [(1, 128)]]
    rows_after = record(lambda: copy(x, y), lambda: _kernels.activation_forward(x, SOFTMAX))
    assert [chains for _, chains in rows_after.phases()] == [[(1, 128)], [(1, 64)]]


@pytest.mark.parametrize("rows, phases", [(100, [(4, 10)]), (130, [(2, 10)])])
def test_columns_alike_form_a_chain(rows, phases):
    """A wide layer's product and column sums do; so does batch norm if one chunk has all rows."""
    x, weight, bias = zeros(rows, 20), zeros(20, 160), zeros(160)
    one, gamma = np.ones(160, np.float32), np.ones(160, np.float32)

    def layer():
        y = _kernels.dense_forward(x, weight)
        dense_backward_bias(y, bias)
        _kernels.batchnorm_forward(y, gamma, bias, zeros(160), one, 0.1, 1e-5)

    assert record(layer).phases()[0][1] == phases


def test_columns_and_rows_of_a_matrix_wait_for_one_another():
    x, weight = zeros(4, 20), zeros(20, 64)
    program = record(lambda: _kernels.activation_forward(_kernels.dense_forward(x, weight), RELU))
    assert [chains for _, chains in program.phases()] == [[(1, 4)], [(1, 4)]]


def test_an_update_is_cut_as_its_gradient():
    x, dz, hyper = zeros(8, 30), zeros(8, 50), np.zeros(len(HYPER))
    dweight, dbias, weight = zeros(1500), zeros(50), zeros(1500)

    def backward():
        _kernels.dense_backward_weight(x, dz, dweight.reshape(30, 50))
        dense_backward_bias(dz, dbias)
        _kernels.sgd(weight, dweight, hyper)
        _kernels.sgd(zeros(50), dbias, hyper)
        _kernels.sgd(weight[:20], dweight[:20], hyper)

    assert record(backward).phases() == [(0, [(2, 30), (2, 4)]), (0, [(1, 2)])]


def test_the_beginning_of_a_longer_array_waits():
    x = zeros(128)
    program = record(lambda: copy(x, zeros(128)), lambda: copy(zeros(64), x[:64]))
    assert [chains for _, chains in program.phases()] == [[(1, 8)], [(1, 4)]]


def test_small_calls_of_one_unit_run_alone_before_the_chains():
    hyper = np.zeros(len(HYPER))
    program = record(
        lambda: copy(zeros(64), zeros(64)),
        lambda: _kernels.advance_step(hyper),
        lambda: _kernels.sgd(zeros(64), zeros(64), hyper),
        lambda: _kernels.advance_step(hyper),  # after the update, which reads hyper
    )
    (first, second) = program.phases()
    assert first == (1, [(2, 4)]) and second == (1, [])


def test_large_calls_of_one_unit_do_not_run_alone():
    x, weight = zeros(1, 400), zeros(400, 400)
    weight[:] = 1
    program = record(lambda: _kernels.dense_forward(x, weight[:, :16].copy()))
    assert program.phases() == [(1, [])]
    rows = zeros(30000, 16)
    program = record(lambda: dense_backward_bias(rows, zeros(16)))
    assert program.phases() == [(0, [(1, 1)])]


def test_what_runs_alone_waits_for_a_large_call_of_one_unit():
    rows, bias, copied = np.ones((30000, 16), np.float32), zeros(16), zeros(16)
    program = record(lambda: dense_backward_bias(rows, bias), lambda: copy(copied, bias))
    assert program.phases() == [(0, [(1, 1)]), (1, [])]
    bias[:], copied[:] = 0, 0
    program.replay()
    assert (copied == 30000).all()


def test_a_sum_takes_what_the_phase_before_left():
    x = np.ones(4096 * 20, np.float32)
    value = np.zeros(1)
    program = record(lambda: _kernels.add_penalty(value, x, 1.0))
    assert len(program.phases()) == 2
    value[0] = 0
    program.replay()
    assert value[0] == x.size
