"""The promise: whole training runs give the same bits on any number of threads, whoever brings
them, and on any instruction set with fused multiply-adds."""

import hashlib
from itertools import product

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits, uses_threads
from fastnn import BatchNorm, Dense, Dropout, LayerNorm, ReLU, Sequential, _kernels

THREADS = (1, 2, 3, 7, 16)

# Threads start at 1e6 operations.  In full batches every product has more (96 * 130 * 260 * 2 is
# 6.5e6), except for the last layer's (96 * 250 * 12 * 2 is 0.6e6); in "one wide layer" norms,
# dropout and activations have more too (700 * 520 * 3 is 1.1e6).
ROWS, FEATURES, CLASSES = 720, 130, 12


def data(dtype):
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, FEATURES)).astype(dtype), rng.integers(0, CLASSES, ROWS)


def classifier(dtype):
    return Sequential(
        Dense(FEATURES, 260), BatchNorm(260), ReLU(), Dropout(0.2),
        Dense(260, 250, activation="gelu"), LayerNorm(250), Dropout(0.5),
        Dense(250, CLASSES), seed=7, dtype=dtype, l2=0.1,
    )  # fmt: skip


def wide(dtype):
    return Sequential(
        Dense(FEATURES, 520), BatchNorm(520), ReLU(), Dropout(0.2), LayerNorm(520),
        Dense(520, CLASSES), seed=2, dtype=dtype,
    )  # fmt: skip


def every_activation(dtype):
    names = [name for name in fastnn.layers.activations.ACTIVATIONS if name != "softmax"]
    layers = [Dense(FEATURES, 140), fastnn.Softmax()]
    layers += [Dense(140, 140, activation=name) for name in names]
    return Sequential(*layers, LayerNorm(140), Dense(140, CLASSES), seed=1, dtype=dtype)


# name -> (network, loss, optimizer, rows in a batch; the last one is short)
RUNS = {
    "adam": (
        classifier, fastnn.SoftmaxCrossEntropy(label_smoothing=0.1), lambda: fastnn.Adam(1e-2), 96,
    ),
    "clipped adamw": (
        classifier, fastnn.SoftmaxCrossEntropy(), lambda: fastnn.AdamW(1e-2, clip_norm=0.5), 96,
    ),
    "nesterov, hinge": (classifier, fastnn.Hinge(), lambda: fastnn.Nesterov(1e-3), 350),
    "one wide layer": (wide, fastnn.SoftmaxCrossEntropy(), lambda: fastnn.Momentum(1e-2), 700),
    "rmsprop, all activations": (
        every_activation, fastnn.SoftmaxCrossEntropy(), lambda: fastnn.RMSprop(1e-3), 128,
    ),
}  # fmt: skip


def run(name, dtype):
    """Digest of parameters, running statistics, history and predictions after training."""
    network, loss, optimizer, batch_size = RUNS[name]
    model = network(dtype)
    X, y = data(dtype)
    history = model.fit(
        X, y, loss=loss, optimizer=optimizer(), epochs=2, batch_size=batch_size, seed=3,
        validation_data=(X[:200], y[:200]), progress=False,
    )  # fmt: skip
    digest = hashlib.sha256()
    for array in [*model.state_dict().values(), model.predict(X)]:
        assert np.isfinite(array).all()
        digest.update(array.tobytes())
    numbers = [history[key] for key in ("loss", "accuracy", "validation_loss")]
    digest.update(np.array(numbers).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", RUNS)
def test_training_has_the_same_bits_for_any_threads_and_fma_isa(name, dtype, fma_isas):
    results = {}
    assert uses_threads(lambda: run(name, dtype))
    for isa, runtime in product(fma_isas, fastnn.build_info()["runtimes"]):
        _kernels.set_isa(isa)
        fastnn.set_runtime(runtime)
        for threads in THREADS:
            fastnn.set_num_threads(threads)
            results[isa, runtime, threads] = run(name, dtype)
    assert len(set(results.values())) == 1, results


def test_training_in_portable_code_has_the_same_bits_for_any_threads(dtype):
    _kernels.set_isa("portable")
    results = {}
    for threads, runtime in product(THREADS, fastnn.build_info()["runtimes"]):
        fastnn.set_num_threads(threads)
        fastnn.set_runtime(runtime)
        results[threads, runtime] = run("adam", dtype)
    assert len(set(results.values())) == 1, results


def test_seeds_decide_everything(dtype):
    """Other seeds give other results; the same give the same, whatever ran before."""
    X, y = data(dtype)

    def trained(model_seed, fit_seed):
        model = Sequential(Dense(FEATURES, 40), Dropout(0.5), Dense(40, CLASSES), seed=model_seed)
        model.fit(X, y, loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.SGD(0.1), epochs=1,
                  seed=fit_seed, progress=False)  # fmt: skip
        return model.flat_parameters

    base = trained(0, 0)
    np.random.default_rng(9).random(100)
    assert_same_bits(trained(0, 0), base)
    assert (trained(1, 0) != base).any() and (trained(0, 1) != base).any()


def test_predictions_do_not_depend_on_the_rest_of_the_batch(dtype, isa):
    model = classifier(dtype)
    X, _ = data(dtype)
    whole = model.predict(X)
    for rows in (1, 2, 5, 13, 14, 15, 100):
        assert_same_bits(model.predict(X[:rows]), whole[:rows])
