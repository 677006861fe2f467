"""Bad input, in numbered groups: each case must raise an error that names what is wrong, and leave
the model as it was."""

import sys
import threading

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    LeakyReLU,
    MeanSquaredError,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
)
from forms import misaligned, read_only

ROWS, FEATURES, CLASSES = 8, 4, 3
X = np.random.default_rng(0).standard_normal((ROWS, FEATURES)).astype(np.float32)
Y = np.arange(ROWS) % CLASSES


def classifier(**options):
    return Sequential(Dense(FEATURES, 5), ReLU(), Dense(5, CLASSES), seed=0, **options)


def regressor(outputs=2):
    return Sequential(Dense(FEATURES, outputs), seed=0)


class Sparse:
    """To NumPy it looks as SciPy's sparse matrices do."""

    def toarray(self):
        return X


class WithGradient:
    """A tensor of PyTorch that requires a gradient refuses to become an array, like this."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


def fit(X=X, y=Y, model=None, **options):
    model = model or classifier()
    settings = {
        "loss": SoftmaxCrossEntropy(),
        "optimizer": SGD(0.1),
        "epochs": 1,
        "progress": False,
    }
    return model.fit(X, y, **(settings | options))


def forward(x):
    return classifier().forward(x)


def with_value(value, dtype=np.float64):
    bad = X.astype(dtype)
    bad[3, 2] = value
    return bad


class Own:
    """A custom layer that is the identity."""

    def forward(self, x, training=False):
        return x

    def backward(self, dy):
        return dy


def wrong_order(*calls):
    """A function that makes these calls on one model; the last must fail."""

    def run():
        model = classifier()
        for call in calls[:-1]:
            call(model)
        calls[-1](model)

    return run


def train(model):
    return model.forward(X, training=True)


def back(model, shape=(ROWS, CLASSES)):
    return model.backward(np.ones(shape))


ERRORS = (ValueError, TypeError)

# (group, what it is, call, error, message)
CASES = [
    # arrays and targets
    (1, "X of one dimension", lambda: fit(X[0], Y[:1]), ValueError, r"X.*\(batch, 4\).*\(4,\)"),
    (1, "X of three", lambda: fit(X[None], Y[:1]), ValueError, r"X.*\(batch, 4\).*\(1, 8, 4\)"),
    (1, "x of one dimension", lambda: forward(X[0]), ValueError, r"x.*\(batch, 4\).*\(4,\)"),
    (1, "predict, one dimension", lambda: classifier().predict(X[0]), ValueError, r"X.*\(4,\)"),
    (1, "no rows", lambda: fit(X[:0], Y[:0]), ValueError, r"X: expected rows .*\(0, 4\)"),
    (1, "no features", lambda: fit(X[:, :0], Y), ValueError, r"X: .*\(8, 0\)"),
    (1, "predict without rows", lambda: classifier().predict(X[:0]), ValueError, r"X: .*\(0, 4\)"),
    (2, "NaN in X", lambda: fit(with_value(np.nan)), ValueError, "X contains NaN in column 2$"),
    (2, "infinity in X", lambda: fit(with_value(np.inf)), ValueError,
     "X contains infinity in column 2$"),
    (2, "-infinity in X", lambda: fit(with_value(-np.inf)), ValueError, "X contains infinity"),
    (2, "NaN in y", lambda: fit(X, X[:, :2] * np.nan, regressor(), loss=MeanSquaredError()),
     ValueError, "y contains NaN in columns 0, 1$"),
    (2, "infinity in y", lambda: fit(X, X[:, :2] * np.inf, regressor(), loss=MeanSquaredError()),
     ValueError, "y contains infinity"),
    (2, "too large for float32",
     lambda: fit(with_value(1e300)), ValueError, "X.*too large for float32 in column 2$"),
    (2, "y too large",
     lambda: fit(X, 1e300 * np.ones((ROWS, 2)), regressor(), loss=MeanSquaredError()),
     ValueError, "y.*too large.*float32"),
    (2, "validation X", lambda: fit(validation_data=(with_value(np.nan), Y)), ValueError,
     "validation X contains NaN"),
    (2, "forward, too large", lambda: forward(with_value(1e300)), ValueError, "x.*too large"),
    (3, "y too short", lambda: fit(X, Y[:-1]), ValueError, "the arrays .*: X has 8, y has 7"),
    (3, "weights too few",
     lambda: fit(sample_weight=np.ones(7)), ValueError, r"sample_weight.*\(8,\)"),
    (3, "a weight below 0",
     lambda: fit(sample_weight=np.arange(8) - 1), ValueError, "sample_weight.*-1"),
    (3, "all weights 0", lambda: fit(sample_weight=np.zeros(8)), ValueError,
     "sample_weight: all weights are 0"),
    (3, "a NaN weight", lambda: fit(sample_weight=[np.nan] * 8), ValueError, "sample_weight.*NaN"),
    (4, "complex", lambda: fit(X * 1j), ERRORS, "X.*complex"),
    (4, "text", lambda: fit(X.astype(str)), ERRORS, "X.*real numbers"),
    (4, "bytes", lambda: fit(X.astype("S8")), ERRORS, "X.*real numbers"),
    (4, "objects", lambda: fit(with_value(1j, object)), ERRORS,
     r"X: expected real numbers, got 1j in column 2 \(dtype object\)$"),
    (4, "structured", lambda: fit(np.zeros(8, [("a", float), ("b", float)])), ERRORS,
     "X: expected real numbers"),
    (4, "dates", lambda: fit(np.zeros((8, 4), "datetime64[s]")), ERRORS, "X.*datetime"),
    (4, "durations", lambda: fit(np.zeros((8, 4), "timedelta64[s]")), ERRORS, "X.*timedelta"),
    (4, "masked", lambda: fit(np.ma.masked_array(X)), TypeError, "X.*mask"),
    (4, "masked y", lambda: fit(X, np.ma.masked_array(Y)), TypeError, "y.*mask"),
    (4, "ragged", lambda: fit([[1, 2, 3, 4], [1, 2]], Y[:2]), ERRORS, "X: not an array of numbers"),
    (4, "text columns", lambda: fit(np.array([["a", 1, 2, 3]] * 8, object)), ERRORS,
     r"X: expected real numbers, got 'a' in column 0 \(dtype object\); encode text"),
    *((4, f"a tensor with a gradient as {name}", call, TypeError,
       f"{name}: WithGradient gives no array .*requires grad") for name, call in (
        ("X", lambda: fit(WithGradient())), ("y", lambda: fit(y=WithGradient())),
        ("x", lambda: forward(WithGradient())), ("X", lambda: classifier().predict(WithGradient())),
    )),
    (4, "sparse", lambda: fit(Sparse()), ERRORS, r"X: .*a sparse matrix; write \.toarray"),
    (4, "None", lambda: fit(None), ERRORS, "X: expected real numbers"),
    (4, "a number", lambda: fit(1.0), ERRORS, "X: expected an array of rows"),
    (4, "a string", lambda: forward("abc"), ERRORS, "x: expected real numbers"),
    (4, "a set", lambda: forward({1, 2}), ERRORS, "x: expected real numbers"),
    (4, "complex gradient", wrong_order(train, lambda m: m.backward(1j * np.ones((8, 3)))), ERRORS,
     "gradient.*complex"),
    (6, "a label too large",
     lambda: fit(X, Y + 5), ValueError, r"y: targets: expected labels in \[0, 3\), got 5"),
    (6, "a label below 0",
     lambda: fit(X, Y - 1), ValueError, r"y: targets: expected labels in \[0, 3\), got -1"),
    (6, "float labels", lambda: fit(X, Y.astype(float)), ValueError,
     r"y: targets: expected integer labels, got float64; write \.astype\(int\)$"),
    (6, "float labels, hinge", lambda: fit(X, Y.astype("f2"), loss=fastnn.Hinge()), ValueError,
     "y: .*integer labels, got float16"),
    (6, "a column of labels", lambda: fit(X, Y[:, None]), ValueError,
     r"y: .*labels of shape \(8,\), got shape \(8, 1\); write \.ravel"),
    (6, "a column of labels, hinge", lambda: fit(X, Y[:, None], loss=fastnn.Hinge()), ValueError,
     r"y: .*labels of shape \(8,\), got shape \(8, 1\); write \.ravel"),
    (6, "classes by name", lambda: fit(X, list("abcabcab")), ValueError,
     "y: .*got dtype <U1; number the classes: .*np.unique"),
    (6, "one output", lambda: fit(X, Y % 2, regressor(1)), ValueError,
     "y: outputs: expected at least 2 classes, got 1.*SigmoidCrossEntropy"),
    (6, "one output, a column", lambda: fit(X, Y[:, None] % 2, regressor(1)), ValueError,
     "y: outputs: expected at least 2 classes, got 1.*SigmoidCrossEntropy"),
    (6, "label in validation", lambda: fit(validation_data=(X, Y + 1)), ValueError,
     r"validation y.*expected labels in \[0, 3\), got 3"),
    (7, "y broadcasts", lambda: fit(X, X[:, :1], regressor(), loss=MeanSquaredError()), ValueError,
     r"y: .*\(8, 2\).*\(8, 1\)"),
    (7, "y a vector", lambda: fit(X, X[:, 0], regressor(), loss=MeanSquaredError()), ValueError,
     r"y: .*\(8, 2\).*\(8,\)"),
    *((7, f"{kind.__name__} broadcasts", lambda kind=kind: fit(
        X, np.ones((ROWS, 1)), regressor(), loss=kind()), ValueError, r"y: .*\(8, 2\).*\(8, 1\)")
      for kind in (fastnn.MeanAbsoluteError, fastnn.Huber, fastnn.Quantile, fastnn.Poisson,
                   fastnn.SigmoidCrossEntropy)),
    (8, "features too many",
     lambda: forward(np.ones((2, 5))), ValueError, "x: layer 0, Dense.*4 features, got 5"),
    (8, "behind other layers", lambda: Sequential(ReLU(), BatchNorm(3)).forward(np.ones((2, 5))),
     ValueError, "x: layer 1, BatchNorm.*3 features, got 5"),
    (8, "behind an own layer", lambda: Sequential(Own(), Dense(3, 2)).forward(np.ones((2, 5))),
     ValueError, r"output of Own\(\): Dense\(3, 2\) behind it takes 3 features, got .*, 5\)"),
    # configuration
    *((9, f"units {value!r}",
       lambda value=value: Dense(4, value), ERRORS, "out_features.*integer >= 1")
      for value in (0, -1, True, 2.0, "3", None, np.ones(2, int), np.nan)),
    *((9, f"inputs {value!r}",
       lambda value=value: Dense(value, 4), ERRORS, "in_features.*integer >= 1")
      for value in (0, -1, True, 2.0, None)),
    *((9, f"norm {value!r}", lambda value=value: BatchNorm(value), ERRORS, "features.*integer >= 1")
      for value in (0, -1, True, 2.0, None)),
    *((9, f"{name} {value!r}", lambda name=name, value=value: fit(**{name: value}), ERRORS,
       f"{name}.*integer >= 1")
      for name in ("epochs", "batch_size") for value in (0, -1, True, 2.0, "3", None)),
    (9, "batch_size of predict",
     lambda: classifier().predict(X, batch_size=0), ERRORS, "batch_size: .*got 0"),
    (9, "bias as a number", lambda: Dense(4, 4, bias=1), ERRORS, "bias.*True or False"),
    *((10, f"rate {value!r}", lambda value=value: Dropout(value), ERRORS, r"rate.*\[0, 1\).*")
      for value in (1, 1.0, -0.1, np.nan, "0.5", None, True)),
    *((10, f"learning rate {value!r}",
       lambda value=value: Adam(value), ERRORS, "learning_rate.*> 0")
      for value in (0, -1e-3, np.nan, np.inf, "0.1", None, True)),
    (10, "beta", lambda: fastnn.Momentum(0.1, beta=1), ERRORS, r"beta.*\[0, 1\), got 1"),
    (10, "beta1", lambda: Adam(beta1=-0.1), ERRORS, r"beta1.*\[0, 1\), got -0.1"),
    (10, "eps", lambda: Adam(eps=0), ERRORS, "eps.*> 0, got 0"),
    (10, "eps of a norm", lambda: BatchNorm(3, eps=0), ERRORS, "eps.*> 0, got 0"),
    *((10, f"momentum {value!r}", lambda value=value: BatchNorm(3, momentum=value), ERRORS,
       r"momentum.*\(0, 1\]") for value in (0, -0.1, 1.1, np.nan, "a")),
    (10, "slope", lambda: LeakyReLU(-0.1), ERRORS, "alpha.*>= 0, got -0.1"),
    (10, "l2", lambda: classifier(l2=-1), ERRORS, "l2.*>= 0, got -1"),
    (10, "activation",
     lambda: Dense(2, 2, activation="rel"), ValueError, "activation.*relu.*mish.*'rel'"),
    (10, "activation class", lambda: Dense(2, 2, activation=ReLU), ERRORS,
     "activation: expected one of"),
    (10, "initializer",
     lambda: Dense(2, 2, weight_init="hee"), ValueError, "weight_init.*he.*'hee'"),
    (10, "initializer class",
     lambda: Dense(2, 2, bias_init=fastnn.initializers.He), ERRORS,
     "bias_init: expected an initializer, got the class"),
    (10, "metric",
     lambda: fit(metrics=["specificity"]), ValueError, "metrics.*'accuracy'.*'specificity'"),
    (10, "loss by name", lambda: fit(loss="mse"), ERRORS, "loss: expected an object"),
    (10, "loss class", lambda: fit(loss=MeanSquaredError), ERRORS,
     r"loss: expected an object .*got the class; write MeanSquaredError\(\)$"),
    (10, "optimizer by name", lambda: fit(optimizer="adam"), ERRORS,
     "optimizer: expected an object"),
    (10, "optimizer class", lambda: fit(optimizer=Adam), ERRORS,
     r"optimizer: expected an object .*got the class; write Adam\(\)$"),
    (10, "no loss", lambda: fit(loss=None), ERRORS, "loss: expected an object"),
    (10, "no optimizer", lambda: fit(optimizer=None), ERRORS, "optimizer: expected an object"),
    (10, "loss of evaluate", lambda: classifier().evaluate(X, Y, loss="mse"), ERRORS,
     "loss: expected an object"),
    (10, "model in TrainStep",
     lambda: TrainStep(Dense(2, 2), MeanSquaredError(), SGD(1)), ERRORS,
     "model: expected an object"),
    (11, "a list of layers", lambda: Sequential([Dense(4, 8), ReLU()]), TypeError,
     r"layer 0: expected a layer, got a list; write Sequential\(\*layers\)"),
    (11, "sizes", lambda: Sequential(Dense(4, 8), ReLU(), Dense(9, 2)), ValueError,
     "layer 2.* takes 9 features, but layer 0.* gives 8"),
    *((12, f"threads {value!r}", lambda value=value: fastnn.set_num_threads(value), ERRORS,
       r"n: expected an integer from 1 to \d+, got")
      for value in (0, -1, 10**6, 2**70, "abc", 1.5, True, None)),
    *((12, f"with threads {value!r}", lambda value=value: fastnn.threads(value), ERRORS,
       r"n: expected an integer from 1 to \d+, got") for value in (0, -1, 10**6, "abc")),
    *((12, f"runtime {value!r}", lambda value=value: fastnn.set_runtime(value), ERRORS,
       "runtime: expected 'own' or 'openmp', got") for value in ("tbb", "", 1, None)),
    (12, "instruction set",
     lambda: fastnn._kernels.set_isa("sse9"), ValueError, "FASTNN_ISA.*portable.*'sse9'"),
    # order of calls
    (13, "backward first", wrong_order(back), RuntimeError, "backward needs a forward"),
    (13, "backward after evaluation",
     wrong_order(lambda m: m.forward(X), back), RuntimeError, "backward needs a forward"),
    (13, "backward twice", wrong_order(train, back, back), RuntimeError,
     "backward needs a forward"),
    (13, "gradient of another shape", wrong_order(train, lambda m: back(m, (ROWS, 2))), ValueError,
     r"gradient: .*\(8, 3\), got \(8, 2\)"),
    (13, "gradient that would broadcast",
     wrong_order(train, lambda m: back(m, (1, CLASSES))), ValueError,
     r"gradient: .*\(8, 3\), got \(1, 3\)"),
    (14, "a batch of one",
     lambda: Sequential(BatchNorm(4)).forward(X[:1], training=True), ValueError,
     "x: expected at least two rows to train batch norm"),
    (14, "fit in batches of one",
     lambda: fit(model=Sequential(BatchNorm(4), Dense(4, 3)), batch_size=1),
     ValueError, "batch_size: batch norm trains on at least 2 rows at once, got 1"),
    (14, "fit on one row",
     lambda: fit(X[:1], Y[:1], model=Sequential(BatchNorm(4), Dense(4, 3))),
     ValueError, "X: batch norm trains on at least 2 rows at once, got 1 row"),
    *((21, f"state {what}", lambda state=state: classifier().load_state_dict(state), TypeError,
       message) for what, state, message in (
        ("None", None, "state: expected a dict of arrays by name, got a NoneType"),
        ("list", [np.ones(3)], "state: expected a dict of arrays by name, got a list"),
        ("of numbers", {0: np.ones(3)}, r"state: expected names such as '0\.weight', got 0"),
    )),
    (21, "state",
     lambda: classifier().load_state_dict({"a": 1}), ValueError,
     r"state: missing 0\.weight, 0\.bias, .*; unknown a$"),
    # limits
    *((24, f"{rows} x {columns} weights", lambda r=rows, c=columns: Sequential(Dense(r, c)),
       ValueError, r"layers: \d+ parameters are more than memory can address")
      for rows, columns in ((2**40, 2**40), (2**70, 1))),
    (24, "a weight beyond the memory", lambda: Sequential(Dense(2**24, 2**24)), MemoryError,
     "Unable to allocate"),
]  # fmt: skip


@pytest.mark.parametrize(
    "call, error, message",
    [case[2:] for case in CASES],
    ids=[f"{n} {what}" for n, what, *_ in CASES],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=f"^{message}") as caught:
        call()
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "bad", [case for case in CASES if case[0] in (*range(1, 8), 21)], ids=lambda c: f"{c[0]} {c[1]}"
)
def test_what_is_refused_changes_nothing(bad, monkeypatch):
    """Whatever is wrong with the arrays or the state, no parameter has changed."""
    made = []
    build = Sequential.__init__

    def remember(self, *layers, **options):
        build(self, *layers, **options)
        made.append((self, self.state_dict()))

    monkeypatch.setattr(Sequential, "__init__", remember)
    with pytest.raises(bad[3]):
        bad[2]()
    for model, before in made:
        for name, array in model.state_dict().items():
            assert_same_bits(array, before[name])


# 5. accepted forms: the results are those of the plain, contiguous array


SMALL = np.arange(32).reshape(8, 4) % 7  # exact in every type
ACCEPTED = {
    "lists": lambda a: a.tolist(),
    "objects": lambda a: a.astype(object),
    "bool": lambda a: a > 3,
    **{kind: lambda a, kind=kind: a.astype(kind) for kind in (
        "i1", "u1", "i4", "u8", "f2", "f4", "f8", ">f4", ">f8", ">i2", "<f4", "g")},
    "read-only": lambda a: read_only(a.astype("f4")),
    "negative stride": lambda a: a.astype("f4")[::-1].copy()[::-1],
    "both negative": lambda a: a.astype("f4")[::-1, ::-1].copy()[::-1, ::-1],
    "Fortran order": lambda a: np.asfortranarray(a.astype("f4")),
    "every second column": lambda a: np.repeat(a.astype("f4"), 2, axis=1)[:, ::2],
    "misaligned": lambda a: misaligned(a.astype("f4")),
    "misaligned f8": lambda a: misaligned(a.astype("f8")),
    "broadcast": lambda a: np.broadcast_to(a.astype("f4"), a.shape),
    "a subclass": lambda a: a.astype("f4").view(Subclass),
}  # fmt: skip


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_forms(name, dtype):
    """5: forward, predict, fit and backward take them, with the same bits."""
    given = ACCEPTED[name](SMALL)
    plain = np.array(given, dtype=dtype)  # the same numbers, contiguous
    model, twin = classifier(dtype=dtype), classifier(dtype=dtype)
    assert_same_bits(model.forward(given), twin.forward(plain))
    assert_same_bits(model.predict(given, batch_size=3), twin.predict(plain))
    assert type(model.predict(given)) is np.ndarray
    fit(given, model=model)
    fit(plain, model=twin)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)
    model.forward(plain, training=True)
    gradient = np.asarray(given)[:, :3] if isinstance(given, list) else given[:, :3]
    model.backward(gradient)
    twin.forward(plain, training=True)
    twin.backward(np.ascontiguousarray(plain[:, :3]))
    assert_same_bits(model.flat_gradients, twin.flat_gradients)


def test_values_too_large_for_float32_after_longdouble():
    if np.finfo(np.longdouble).max == np.finfo(np.float64).max:
        pytest.skip("long double is float64 here")
    with pytest.raises(ValueError, match="too large"):
        classifier(dtype="float64").forward(np.full((2, 4), np.longdouble(10) ** 400))


# 12, the environment, is in support/test_threads.py, 15 in test_model.py


def test_one_model_trained_from_two_threads():
    """16: RuntimeError for the second, and the first is not disturbed."""
    inside, leave = threading.Event(), threading.Event()

    class Waits(Own):
        def forward(self, x, training=False):
            if training and threading.current_thread() is not threading.main_thread():
                inside.set()
                assert leave.wait(30)
            return x

    model = Sequential(Dense(FEATURES, CLASSES), Waits(), seed=0)
    history = []
    worker = threading.Thread(target=lambda: history.append(fit(model=model)))
    worker.start()
    assert inside.wait(30)
    before = model.flat_parameters.copy()
    for call in (
        lambda: fit(model=model),
        lambda: model.forward(X, training=True),
        lambda: model.backward(np.ones((ROWS, CLASSES))),
        lambda: SGD(1.0).step(model),
        lambda: model.load_state_dict(model.state_dict()),
        lambda: TrainStep(model, SoftmaxCrossEntropy(), SGD(1.0))(X, Y),
    ):
        with pytest.raises(RuntimeError, match="another thread"):
            call()
    assert_same_bits(model.flat_parameters, before)
    assert model.predict(X).shape == (ROWS, CLASSES)  # evaluation is always possible
    leave.set()
    worker.join(30)
    assert history[0].epochs == 1
    twin = Sequential(Dense(FEATURES, CLASSES), Own(), seed=0)
    fit(model=twin)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


def test_a_step_that_another_thread_began_cannot_be_torn():
    """16: after another thread's forward, backward and update here would use its batch."""
    model = classifier()
    model.forward(X, training=True)
    worker = threading.Thread(target=lambda: model.forward(X[:3], training=True))
    worker.start()
    worker.join(30)
    for call in (lambda: back(model), lambda: SGD(0.1).step(model)):
        with pytest.raises(RuntimeError, match="thread"):
            call()
    model.forward(X, training=True)
    back(model)
    SGD(0.1).step(model)


def test_many_threads_predict_at_once():
    model, rows = classifier(), np.random.default_rng(1).standard_normal((400, FEATURES))
    expected, results = model.predict(rows), []
    threads = [
        threading.Thread(target=lambda: results.append(model.predict(rows, batch_size=7)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 8
    for result in results:
        assert_same_bits(result, expected)


# 17 and 18 are in training/test_faults.py, test_loop.py and test_interrupts.py; 19, 20 and 22 in
# files/test_safefile.py and test_safetensors_cases.py, and for every reader in test_readers.py;
# 23 in test_datasets.py and commands/test_tables.py


@pytest.mark.parametrize("scale", [1e30, 1e38])
def test_extreme_parameters_give_what_the_formula_says(scale, isa):
    """25: outputs may be infinite or NaN, but nothing crashes, and `fit` raises an error."""
    model = classifier()
    for name in ("0.weight", "2.weight"):
        model.parameters[name][...] = np.sign(model.parameters[name]) * scale
    with np.errstate(all="ignore"):
        x64 = X.astype(np.float64)
        p = {name: array.astype(np.float64) for name, array in model.parameters.items()}
        hidden = np.maximum(x64 @ p["0.weight"], 0).astype(np.float32).astype(np.float64)
        expected = (hidden @ p["2.weight"]).astype(np.float32)
    y = model.predict(X)
    finite = np.isfinite(expected)
    np.testing.assert_allclose(y[finite], expected[finite], rtol=1e-4)
    before = model.state_dict()
    with pytest.raises(FloatingPointError, match="step 1"):
        fit(model=model)
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])


def test_a_dropout_rate_at_which_nothing_survives(isa):
    """25: zeros, and no NaN."""
    model = Sequential(Dropout(np.nextafter(1.0, 0.0)), Dense(FEATURES, CLASSES), seed=0)
    history = fit(model=model)
    assert np.isfinite(history.loss).all() and np.isfinite(model.flat_parameters).all()


def test_logits_at_the_edge(isa):
    """25: ±1e30 through fit and evaluate."""
    model = Sequential(Dense(FEATURES, CLASSES, weight_init="zeros"), seed=0)
    model.parameters["0.bias"][...] = [1e30, -1e30, 0]
    result = model.evaluate(X, Y, loss=SoftmaxCrossEntropy())
    assert np.isfinite(result["loss"]) and result["loss"] > 1e29
    model.forward(X, training=True)
    model.backward(SoftmaxCrossEntropy()(model.predict(X), Y)[1])
    assert np.isfinite(model.flat_gradients).all()


def test_recursion_and_garbage_leave_no_trace():
    """Errors do not keep models alive: the exception holds no cycle through the kernels."""
    model = classifier()
    count = sys.getrefcount(model)
    for _ in range(3):
        with pytest.raises(ValueError):
            model.forward(X[0])
    assert sys.getrefcount(model) == count
