"""Optimizers: twenty steps against the reference, clipping, bits, and what they refuse."""

import copy
import functools
import math

import numpy as np
import pytest

import reference
from compare import assert_close, assert_same_bits, uses_threads
from fastnn import SGD, Adam, AdamW, Dense, Momentum, Nesterov, RMSprop, Sequential, _kernels
from fastnn.support import settings
from tables import OPTIMIZERS

STEPS = 20


def model_of(dtype, width=33):
    """With padding (33 x 7 and 7 are no multiples of a vector's width) and a layer without bias."""
    return Sequential(Dense(width, 7), Dense(7, 3, bias=False), seed=1, dtype=dtype)


def gradients(model, step):
    """Draw gradients of very different sizes, some exactly 0; the padding stays 0."""
    rng = np.random.default_rng(step)
    for gradient in model.gradients.values():
        gradient[...] = rng.standard_normal(gradient.shape) * 10.0 ** rng.integers(-6, 2)
        gradient[rng.random(gradient.shape) < 0.1] = 0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps(name, dtype, isa):
    make, make_reference = OPTIMIZERS[name]
    model, optimizer = model_of(dtype), make()
    states = {key: make_reference() for key in model.parameters}
    expected = {key: p.astype(np.float64) for key, p in model.parameters.items()}
    for step in range(STEPS):
        gradients(model, step)
        optimizer.step(model)
        for key, p in expected.items():
            expected[key] = states[key].step(p, model.gradients[key].astype(np.float64))
            # each step may add an error of one rounding
            assert_close(
                model.parameters[key], expected[key], dtype,
                magnitude=np.abs(expected[key]) + optimizer.learning_rate, factor=1 + step,
            )  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_learning_rate_can_change(name):
    make, make_reference = OPTIMIZERS[name]
    model, optimizer, expected = model_of("float64"), make(), make_reference()
    p = model.parameters["0.weight"].copy()
    for step, rate in enumerate((0.1, 0.001, 0.5)):
        optimizer.learning_rate = expected.learning_rate = rate
        assert optimizer.learning_rate == rate
        gradients(model, step)
        p = expected.step(p, model.gradients["0.weight"])
        optimizer.step(model)
    np.testing.assert_allclose(model.parameters["0.weight"], p, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_padding_stays_zero(name):
    model, optimizer = model_of("float32"), OPTIMIZERS[name][0](clip_norm=1.0)
    used = np.zeros(model.flat_parameters.size, bool)
    for array in model.parameters.values():
        start = (array.ctypes.data - model.flat_parameters.ctypes.data) // 4
        used[start : start + array.size] = True
    assert not used.all()
    for step in range(3):
        gradients(model, step)
        optimizer.step(model)
    assert not model.flat_parameters[~used].any() and model.flat_parameters[used].all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_bits_for_any_threads_and_fma_isa(name, dtype, threads, fma_isas):
    results = []
    for n, isa in [(1, fma_isas[0]), *((threads, isa) for isa in fma_isas)]:
        _kernels.set_threads(n)
        _kernels.set_isa(isa)
        model, optimizer = model_of(dtype, width=80021), OPTIMIZERS[name][0](clip_norm=0.5)
        for step in range(3):
            draws = np.random.default_rng(step).standard_normal(9973)
            model.flat_gradients[...] = np.resize(draws, model.flat_gradients.shape)
            optimizer.step(model)
        results.append(model.flat_parameters.copy())
        assert_same_bits(results[-1], results[0])
    update = functools.partial(optimizer._step, model.flat_parameters, model.flat_gradients)
    assert uses_threads(update)
    assert uses_threads(lambda: _kernels.clip_norm(model.flat_gradients, optimizer.hyper, 0.5))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1023, 1024, 1025, 4096, 70001])
def test_clip_norm(size, dtype, isa, rng):
    hyper = np.zeros(len(_kernels.HYPER))
    g = rng.standard_normal(size).astype(dtype)
    norm, _ = reference.clip_norm(g.astype(np.float64), 1.0)
    for max_norm in (norm / 3, norm * 3):
        got = _kernels.clip_norm(g, hyper, max_norm)
        np.testing.assert_allclose(got, norm, rtol=1e-6 if dtype == np.float32 else 1e-14)
        scale = hyper[_kernels.HYPER["gradient_scale"]]
        expected = reference.clip_norm(g.astype(np.float64), max_norm)[1]
        np.testing.assert_allclose(scale, expected, rtol=1e-6 if dtype == np.float32 else 1e-14)
        assert scale == 1 or max_norm < norm


@pytest.mark.parametrize("limit", [1e-6, 1e-3, 1.0, 1e10])
def test_gradients_within_the_limit_are_not_scaled(limit, dtype, isa):
    """However small limit and gradients are; above it the norm becomes the limit itself."""
    hyper, limit = np.zeros(len(_kernels.HYPER)), float(dtype.type(limit))
    for norm in (limit / 2, float(np.nextafter(dtype.type(limit), dtype.type(0))), limit):
        assert _kernels.clip_norm(np.array([0, -norm, 0], dtype), hyper, limit) == norm
        assert hyper[_kernels.HYPER["gradient_scale"]] == 1
    g = np.array([3 * limit, 4 * limit], dtype)
    norm = math.hypot(*map(float, g))
    np.testing.assert_allclose(_kernels.clip_norm(g, hyper, limit), norm, rtol=1e-14)
    np.testing.assert_allclose(hyper[_kernels.HYPER["gradient_scale"]], limit / norm, rtol=1e-14)


def test_a_step_of_tiny_gradients_under_a_tiny_limit(dtype, isa):
    model = Sequential(Dense(1, 1, weight_init="zeros"), dtype=dtype)
    for size, expected in ((5e-7, 5e-7), (5e-6, 1e-6)):
        model.parameters["0.weight"][...] = 0
        model.gradients["0.weight"][...] = size
        SGD(1.0, clip_norm=1e-6).step(model)
        np.testing.assert_allclose(model.parameters["0.weight"], -expected, rtol=2e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_clipped_step_is_a_step_with_scaled_gradients(name):
    """The step with tiny gradients shows that an earlier clipping leaves no trace."""
    make = OPTIMIZERS[name][0]
    clipped, scaled = model_of("float64"), model_of("float64")
    optimizer, plain = make(clip_norm=0.1), make()
    for step, size in enumerate((1.0, 1e-9, 1.0)):
        for model in (clipped, scaled):
            gradients(model, step)
            model.flat_gradients[...] *= size
        optimizer.step(clipped)
        scaled.flat_gradients[...] *= reference.clip_norm(scaled.flat_gradients, 0.1)[1]
        plain.step(scaled)
    np.testing.assert_allclose(
        clipped.flat_parameters, scaled.flat_parameters, rtol=1e-11, atol=1e-14
    )


def test_a_gradient_of_nan_is_not_hidden_by_clipping():
    model = model_of("float32")
    model.flat_gradients[...] = 1
    model.gradients["0.weight"][0, 0] = np.nan
    before = model.flat_parameters.copy()
    with pytest.raises(FloatingPointError, match="not finite"):
        Adam(clip_norm=1.0).step(model)
    assert np.array_equal(model.flat_parameters, before)


@pytest.mark.parametrize("optimizer", [
    lambda: SGD(1.0), lambda: Momentum(1.0), lambda: Nesterov(1.0), lambda: RMSprop(1.0),
    lambda: Adam(1.0), lambda: AdamW(1.0, weight_decay=1e38),
], ids=["SGD", "Momentum", "Nesterov", "RMSprop", "Adam", "AdamW"])  # fmt: skip
@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_what_would_not_be_finite_stays_as_it_was(optimizer, bad):
    """Parameter and optimizer's state stay finite, so that training can go on."""
    model, rule = model_of("float32"), optimizer()
    model.flat_parameters[...] = np.where(model.flat_parameters, 3e38, 0)
    model.flat_gradients[...] = 0
    model.gradients["0.weight"][0, 0] = -bad
    before = model.flat_parameters.copy()
    with pytest.raises(FloatingPointError, match="not finite"):
        rule.step(model)
    assert model.parameters["0.weight"][0, 0] == before[0]
    assert all(np.isfinite(buffer).all() for buffer in rule._buffers)
    assert np.isfinite(model.flat_parameters).all()


@pytest.mark.parametrize("size", [1, 15, 17, 1000, 5000])
@pytest.mark.parametrize("value", [1e15, 1e25, 3e38, 1e-30])
def test_the_norm_of_gradients_whose_squares_float32_cannot_hold(value, size, isa):
    hyper = np.zeros(len(_kernels.HYPER))
    g = np.full(size, value, np.float32)
    norm = float(g[0]) * size**0.5
    np.testing.assert_allclose(_kernels.clip_norm(g, hyper, 1.0), norm, rtol=1e-14)
    scale = min(1.0, 1 / norm)
    np.testing.assert_allclose(hyper[_kernels.HYPER["gradient_scale"]], scale, rtol=1e-14)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_of_huge_gradients_is_clipped(name):
    """It equals a step of smaller gradients, which are clipped to the same norm."""
    results = []
    for size in (1e10, 1e25):
        model, optimizer = model_of("float32"), OPTIMIZERS[name][0](clip_norm=0.5)
        gradients(model, 0)
        model.flat_gradients[...] *= np.float32(size)
        optimizer.step(model)
        results.append(model.flat_parameters)
    assert (results[1] != model_of("float32").flat_parameters).any()
    np.testing.assert_allclose(results[1], results[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_belongs_to_its_first_model(name):
    first, optimizer = model_of("float32"), OPTIMIZERS[name][0]()
    gradients(first, 0)
    optimizer.step(first)
    for other in (model_of("float32"), copy.deepcopy(first)):
        before = other.flat_parameters.copy()
        with pytest.raises(ValueError, match="another model"):
            optimizer.step(other)
        assert_same_bits(other.flat_parameters, before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clipping_can_be_turned_off(name):
    """The next step does not use the scale of the last clipped one."""
    model, optimizer = model_of("float64"), OPTIMIZERS[name][0](clip_norm=1e-3)
    gradients(model, 0)
    optimizer.step(model)
    twin, its_optimizer = copy.deepcopy((model, optimizer))
    optimizer.clip_norm, its_optimizer.clip_norm = None, 1e30
    gradients(model, 1)
    gradients(twin, 1)
    optimizer.step(model)
    its_optimizer.step(twin)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


def test_bias_correction_can_be_turned_off():
    corrected, plain = RMSprop(0.1, bias_correction=True), RMSprop(0.1)
    models = model_of("float64"), model_of("float64")
    for model, optimizer in zip(models, (corrected, plain), strict=True):
        gradients(model, 0)
        optimizer.step(model)
    models[0].flat_parameters[...] = models[1].flat_parameters
    corrected.bias_correction = False
    for model, optimizer in zip(models, (corrected, plain), strict=True):
        optimizer.step(model)
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)


# optimizer -> what may be set, with another value
CLIPPED = {"clip_value": 0.2, "learning_rate_factors": {"*.bias": 0.5}}
NUMBERS = {
    SGD: CLIPPED, Momentum: {"beta": 0.5, "nesterov": True, **CLIPPED},
    Nesterov: {"beta": 0.5, **CLIPPED},
    RMSprop: {"beta": 0.5, "eps": 0.1, "bias_correction": True, **CLIPPED},
    Adam: {"beta1": 0.5, "beta2": 0.6, "eps": 0.1, **CLIPPED},
    AdamW: {"beta1": 0.5, "beta2": 0.6, "eps": 0.1, "weight_decay": 0.3,
            "weight_decay_factors": {"1.*": 0.0}, **CLIPPED},
}  # fmt: skip


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_may_be_read_and_set(kind):
    numbers = NUMBERS[kind] | {"learning_rate": 0.2, "clip_norm": 0.7}
    made, changed = kind(**numbers), kind(0.1)
    before = settings.changes
    for name, value in numbers.items():
        setattr(changed, name, value)
        assert getattr(changed, name) == getattr(made, name) == value
    kernels_get = {"clip_norm", "clip_value", "nesterov", "bias_correction"} & set(numbers)
    kernels_get |= {name for name in numbers if name.endswith("_factors")}
    assert settings.changes == before + len(kernels_get)
    assert repr(changed) == repr(made)
    models = model_of("float32"), model_of("float32")
    for model, optimizer in zip(models, (made, changed), strict=True):
        gradients(model, 0)
        optimizer.step(model)
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)


@pytest.mark.parametrize("kind", NUMBERS)
def test_settings_are_checked_when_they_are_set(kind):
    optimizer = kind(0.1)
    for name in NUMBERS[kind] | {"learning_rate": 0, "clip_norm": 0}:
        before = getattr(optimizer, name)
        for wrong in (-1, np.nan, "a"):
            with pytest.raises((ValueError, TypeError), match=f"^{name}: expected .*, got"):
                setattr(optimizer, name, wrong)
        assert getattr(optimizer, name) == before


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("name", ["lr", "weight", "step"])
def test_nothing_else_may_be_set(kind, name):
    numbers = sorted([*NUMBERS[kind], "learning_rate", "clip_norm"])
    with pytest.raises(AttributeError, match=f"{name}; what may be set: {', '.join(numbers)}$"):
        setattr(kind(0.1), name, 1)


def test_a_derived_class_may_set_what_it_likes():
    class Counting(SGD):
        def __init__(self):
            super().__init__(0.1)
            self.count = 0

    assert Counting().count == 0


def test_a_step_needs_a_backward_before_it():
    model, optimizer = model_of("float32"), SGD(0.1)
    with pytest.raises(RuntimeError, match=r"^no gradients yet: call model\.backward"):
        optimizer.step(model)
    for _ in range(2):
        outputs = model.forward(np.ones((2, model.in_features)), training=True)
        with pytest.raises(RuntimeError, match=r"^the gradients are not yet .* call model\.backw"):
            optimizer.step(model)
        model.backward(outputs)
        optimizer.step(model)


def test_what_an_optimizer_was_made_with_is_fixed():
    with pytest.raises(AttributeError, match="nesterov is fixed once a Nesterov is made"):
        Nesterov(0.1).nesterov = False
    with pytest.raises(AttributeError, match="hyper is fixed"):
        SGD(0.1).hyper = np.zeros(3)


@pytest.mark.parametrize("kind", NUMBERS)
def test_all_but_the_learning_rate_must_be_named(kind):
    with pytest.raises(TypeError, match="positional"):
        kind(0.1, 0.01)


VANISHING = [
    (SGD, "learning_rate", 1e-50), (SGD, "learning_rate", 1e50), (SGD, "clip_norm", 1e-50),
    (Momentum, "beta", 1 - 1e-12), (RMSprop, "eps", 1e-50), (RMSprop, "beta", 1 - 1e-12),
    (Adam, "eps", 1e-50), (Adam, "beta1", 1 - 1e-12), (AdamW, "weight_decay", 1e-50),
]  # fmt: skip


@pytest.mark.parametrize("kind, name, value", VANISHING)
def test_numbers_that_float32_cannot_hold(kind, name, value):
    """In float32 they would be 0, 1 or infinity.  The first step refuses them; later, setting."""
    settings = {"learning_rate": 0.1} | {name: value}
    model, optimizer = model_of("float32"), kind(**settings)
    double, before = model_of("float64"), model.flat_parameters.copy()
    for each in (model, double):
        gradients(each, 0)
    with pytest.raises(ValueError, match=f"^{name}.*float32"):
        optimizer.step(model)
    assert_same_bits(model.flat_parameters, before)
    kind(**settings).step(double)
    later = kind(0.1)
    later.step(model)
    with pytest.raises(ValueError, match=f"^{name}.*float32"):
        setattr(later, name, value)
        later.step(model)


REFUSED = {
    "learning_rate 0": lambda: SGD(0), "learning_rate < 0": lambda: Adam(-1e-3),
    "learning_rate NaN": lambda: SGD(np.nan), "learning_rate infinite": lambda: SGD(np.inf),
    "learning_rate bool": lambda: Momentum(True), "learning_rate text": lambda: Adam("fast"),
    "beta 1": lambda: Momentum(0.1, beta=1.0), "beta < 0": lambda: Nesterov(0.1, beta=-0.1),
    "beta NaN": lambda: RMSprop(0.1, beta=np.nan), "beta1": lambda: Adam(beta1=1),
    "beta2": lambda: Adam(beta2=1.5), "eps 0": lambda: Adam(eps=0),
    "eps": lambda: RMSprop(0.1, eps=-1),
    "weight_decay": lambda: AdamW(weight_decay=-0.1), "clip_norm": lambda: SGD(0.1, clip_norm=0),
    "clip_norm NaN": lambda: SGD(0.1, clip_norm=np.nan),
}  # fmt: skip


@pytest.mark.parametrize("refused", REFUSED)
def test_refused_constants(refused):
    name = refused.split()[0]
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected .*, got"):
        REFUSED[refused]()


@pytest.mark.parametrize("rate", [0, -1, np.nan, np.inf, "a", True, None])
def test_refused_learning_rates_leave_the_old_one(rate):
    optimizer = Adam(0.5)
    with pytest.raises((ValueError, TypeError), match="learning_rate"):
        optimizer.learning_rate = rate
    assert optimizer.learning_rate == 0.5


def faces():
    p, g, s, m = np.ones((4, 10), np.float32)
    hyper = np.zeros(len(_kernels.HYPER))
    return {
        "sgd": [p, g, hyper], "momentum": [p, g, s, hyper, False], "rmsprop": [p, g, s, hyper],
        "adam": [p, g, s, m, hyper], "clip_norm": [g, hyper, 1.0], "add_scaled": [p, g, 0.5],
        "advance_step": [hyper],
    }  # fmt: skip


# where two arguments disagree, either may be named
NAMES = r"^(parameters|gradients|the optimizer's state|hyper|x|y): expected |^Argument '\w+' "
CASES = [(face, i) for face, arguments in faces().items() for i, a in enumerate(arguments)
         if isinstance(a, np.ndarray)]  # fmt: skip


@pytest.mark.parametrize("face, position", CASES)
def test_faces_check_every_argument(face, position):
    arguments = faces()[face]
    good = arguments[position]
    alone = face in ("advance_step", "clip_norm")
    broken = [None, good.astype(np.int32), np.repeat(good, 2)[::2], good[:0]]
    broken += [] if alone and good.dtype == np.float32 else [good[:3], good[:, None]]
    for wrong in broken:
        with pytest.raises((TypeError, ValueError), match=NAMES):
            getattr(_kernels, face)(*arguments[:position], wrong, *arguments[position + 1 :])
    written = {"clip_norm": [1], "add_scaled": [0], "adam": [0, 2, 3]}
    read_only = good.copy()
    read_only.flags.writeable = False
    if position in written.get(face, [0]) or (face in ("momentum", "rmsprop") and position == 2):
        with pytest.raises(ValueError, match="writable"):
            getattr(_kernels, face)(*arguments[:position], read_only, *arguments[position + 1 :])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_remembers_does_not_fade_into_denormal_numbers(name, dtype, isa):
    """A dead ReLU has gradient 0, and beta 0.5 then shrinks the state by 2^-64 in 64 steps."""
    model, optimizer = model_of(dtype, width=33), OPTIMIZERS[name][0]()
    for setting in ("beta", "beta1", "beta2"):
        if hasattr(optimizer, setting):
            setattr(optimizer, setting, 0.5)
    model.flat_gradients[...] = 1e-6
    optimizer.step(model)
    model.flat_gradients[...] = 0.0
    for _ in range(1200):
        optimizer.step(model)
    for buffer in optimizer._buffers:
        assert (buffer == 0).all()
