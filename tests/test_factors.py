"""Factors of learning rates and weight decay by patterns of names, and clipping by value."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_close, assert_same_bits
from fastnn import (
    SGD,
    Adam,
    AdamW,
    Dense,
    GradientStep,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
)
from stepping import CLASSES, FEATURES, SIZES, assert_alike, by_hand, draw, network, trainer
from tables import OPTIMIZERS

LOSS = SoftmaxCrossEntropy()
FACTORS = {"0.*": 0.5, "*.bias": 2.0, "2.weight": 0.0}
# the last pattern that a name matches counts
EXPECTED = {
    "0.weight": 0.5, "0.bias": 2.0, "1.weight": 1.0, "1.bias": 2.0, "2.weight": 0.0, "2.bias": 2.0,
}  # fmt: skip


def model_of(dtype):
    """Sizes that are no multiples of a vector's."""
    return Sequential(Dense(33, 7), Dense(7, 5), Dense(5, 3), seed=1, dtype=dtype)


def draw_gradients(model, step):
    rng = np.random.default_rng(step)
    for gradient in model.gradients.values():
        gradient[...] = rng.standard_normal(gradient.shape) * 10.0 ** rng.integers(-3, 2)


def assert_steps(model, optimizer, references, steps=10):
    """The optimizer's steps are those of a reference for each parameter; both get the gradients
    that the optimizer leaves, which it may have clipped."""
    expected = {key: p.astype(np.float64) for key, p in model.parameters.items()}
    for step in range(steps):
        draw_gradients(model, step)
        optimizer.step(model)
        for key, p in expected.items():
            expected[key] = references[key].step(p, model.gradients[key].astype(np.float64))
            assert_close(
                model.parameters[key], expected[key], model.dtype,
                magnitude=np.abs(expected[key]) + 2 * optimizer.learning_rate, factor=1 + step,
            )  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rates_by_pattern(name, dtype, isa):
    make, make_reference = OPTIMIZERS[name]
    references = {}
    for key, factor in EXPECTED.items():
        references[key] = make_reference()
        references[key].learning_rate *= factor
    model = model_of(dtype)
    before = model.parameters["2.weight"].copy()
    assert_steps(model, make(learning_rate_factors=FACTORS), references)
    assert_same_bits(model.parameters["2.weight"], before)


def test_weight_decay_by_pattern(dtype, isa):
    make, make_reference = OPTIMIZERS["adamw"]
    decay = {"*.bias": 0.0, "1.*": 3.0}
    factors = {"0.weight": 1.0, "0.bias": 0.0, "1.weight": 3.0, "1.bias": 3.0, "2.weight": 1.0,
               "2.bias": 0.0}  # fmt: skip
    references = {}
    for key, factor in factors.items():
        references[key] = make_reference()
        references[key].weight_decay *= factor
        references[key].learning_rate *= EXPECTED[key]
    optimizer = make(weight_decay_factors=decay, learning_rate_factors=FACTORS)
    assert_steps(model_of(dtype), optimizer, references)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_factors_of_1_change_no_bit(name, dtype):
    make = OPTIMIZERS[name][0]
    models = model_of(dtype), model_of(dtype)
    optimizers = make(), make(learning_rate_factors={"*": 1.0, "1.*": 1})
    for step in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            draw_gradients(model, step)
            optimizer.step(model)
    assert_same_bits(models[1].flat_parameters, models[0].flat_parameters)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
def test_recorded_steps_are_those_by_hand(name, kind, threads):
    """Also where factors and limits change between them."""
    model, hand, batches = network(l2=0.1), network(l2=0.1), draw(SIZES)
    optimizers = [OPTIMIZERS[name][0](clip_value=0.01, clip_norm=0.03) for _ in range(2)]
    step = trainer(kind, model, LOSS, optimizers[0])
    changes = [
        {}, {"learning_rate_factors": {"0.*": 0.25}}, {"clip_value": None},
        {"clip_value": 0.02, "clip_norm": None},
        {"learning_rate_factors": {"*.bias": 0.0, "*.gamma": 3.0}}, {"learning_rate_factors": None},
    ]  # fmt: skip
    for change in changes:
        for optimizer in optimizers:
            for key, value in change.items():
                setattr(optimizer, key, value)
        assert [step(*batch) for batch in batches] == by_hand(hand, LOSS, optimizers[1], batches)
        assert_alike(model, hand)


@pytest.mark.parametrize("recorded", [True, False])
def test_factors_count_from_the_next_step_on(recorded):
    model = network("float64")
    step = TrainStep(model, LOSS, SGD(0.1))
    step._recorded = recorded
    for factors, first_weight, first_bias, others in (
        ({"0.*": 0.5}, 0.5, 0.5, 1.0), ({"*": 2.0, "0.bias": 0.0}, 2.0, 0.0, 2.0), (None, 1, 1, 1),
    ):  # fmt: skip
        step.optimizer.learning_rate_factors = factors
        before = {name: array.copy() for name, array in model.parameters.items()}
        step(*draw((8,), "float64")[0])
        for name, array in model.parameters.items():
            factor = {"0.weight": first_weight, "0.bias": first_bias}.get(name, others)
            expected = before[name] - 0.1 * factor * model.gradients[name]
            np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-14)


def test_neighbours_of_equal_factors_are_one_call_by_hand():
    """Array by array in a program, where threads go on from an array's gradient to its update."""
    optimizer, model = SGD(0.1), model_of("float32")
    optimizer._attach(model)
    apart, together = optimizer._planned()
    assert [part.at for part in apart] == list(model._slices.values())
    assert [part.at for part in together] == [slice(0, model._slices["2.bias"].stop)]
    optimizer.learning_rate_factors = {"1.*": 0.5}
    assert [part.rate for part in optimizer._planned()[1]] == [1.0, 0.5, 1.0]
    model.layers[1].trainable = False
    assert len(optimizer._planned()[0]) == 4 and len(optimizer._planned()[1]) == 2


def test_patterns_are_those_of_fnmatch():
    model = Sequential(Residual(Dense(2, 2), ReLU(), Dense(2, 2)), Dense(2, 1))
    optimizer = SGD(0.1, learning_rate_factors={
        "?.weight": 2.0, "0.[01].*": 3.0, "0.2.bias": 4.0, "[!0].bias": 5.0,
    })  # fmt: skip
    optimizer._attach(model)
    assert dict(zip(model.parameters, (p.rate for p in optimizer._planned()[0]), strict=True)) == {
        "0.0.weight": 3.0, "0.0.bias": 3.0, "0.2.weight": 1.0, "0.2.bias": 4.0, "1.weight": 2.0,
        "1.bias": 5.0,
    }  # fmt: skip


def test_fan_in_factors_are_of_each_product():
    """Convolutions and layers within others have them, norms, biases and embeddings do not."""
    model = Sequential(
        fastnn.Embedding(9, 4), fastnn.Conv1D(4, 8, 3, groups=2, padding="same"),
        fastnn.LayerNorm(8), fastnn.Flatten(),
        Residual(Dense(80, 5), fastnn.Block(ReLU(), Dense(5, 80)), shortcut=Dense(80, 80)),
        fastnn.Heads(Dense(80, 2), Dense(80, 1)),
    )  # fmt: skip
    roots = {"1.weight": 6, "4.0.weight": 80, "4.1.1.weight": 5, "4.shortcut.weight": 80,
             "5.0.weight": 80, "5.1.weight": 80}  # fmt: skip
    rates, decays = fastnn.fan_in_factors(model)
    assert rates == {name: 1 / np.sqrt(n) for name, n in roots.items()}
    assert decays == {name: np.sqrt(n) for name, n in roots.items()}
    assert rates.keys() < model.parameters.keys()
    model.flat_gradients[:] = 1
    AdamW(learning_rate_factors=rates, weight_decay_factors=decays).step(model)
    assert fastnn.fan_in_factors(Sequential(ReLU())) == ({}, {})
    with pytest.raises(TypeError, match="model: expected an object such as"):
        fastnn.fan_in_factors("model")


@pytest.mark.parametrize("name", ["learning_rate_factors", "weight_decay_factors"])
@pytest.mark.parametrize("pattern", ["3.weight", "*.Weight", "weight", "*.gamma", ""])
def test_a_pattern_that_matches_nothing(name, pattern):
    """It is refused when the optimizer meets its model, and afterwards when it is set."""
    model, before = model_of("float32"), model_of("float32").flat_parameters
    draw_gradients(model, 0)
    optimizer = AdamW(**{name: {"*.bias": 0.5, pattern: 0.5}})
    message = f"^{name}: expected patterns of the model's .*, got '{pattern.replace('*', '[*]')}'"
    with pytest.raises(ValueError, match=message):
        optimizer.step(model)
    assert_same_bits(model.flat_parameters, before)
    setattr(optimizer, name, {"*.bias": 0.5})
    optimizer.step(model)
    with pytest.raises(ValueError, match=message):
        setattr(optimizer, name, {pattern: 0.5})
    assert getattr(optimizer, name) == {"*.bias": 0.5}


@pytest.mark.parametrize("name", ["learning_rate_factors", "weight_decay_factors"])
@pytest.mark.parametrize("factors", [
    "*.bias", 0.5, [("*.bias", 0.5)], {0: 0.5}, {"*": -1}, {"*": np.nan}, {"*": np.inf},
    {"*": "a"}, {"*": None}, {"*": True},
])  # fmt: skip
def test_what_are_no_factors(name, factors):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: .*expected .*, got"):
        AdamW(**{name: factors})


def test_factors_cannot_be_changed_past_the_checks():
    given = {"*.bias": 0.5}
    optimizer = SGD(0.1, learning_rate_factors=given)
    given["*.bias"] = -1.0
    with pytest.raises(TypeError):
        optimizer.learning_rate_factors["*.bias"] = -1.0
    assert optimizer.learning_rate_factors == {"*.bias": 0.5}
    assert repr(optimizer) == "SGD(0.1, learning_rate_factors={'*.bias': 0.5})"
    optimizer.learning_rate_factors = None
    assert repr(optimizer) == "SGD(0.1)" and optimizer.learning_rate_factors == {}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_go_on_alike(copied):
    model, optimizer = network(), AdamW(
        learning_rate_factors={"0.*": 0.5}, weight_decay_factors={"*.bias": 0.0}, clip_value=0.01
    )  # fmt: skip
    batches = draw((8,) * 3)
    by_hand(model, LOSS, optimizer, batches)
    twin, its = copied((model, optimizer))
    assert repr(its) == repr(optimizer)
    assert by_hand(model, LOSS, optimizer, batches) == by_hand(twin, LOSS, its, batches)
    assert_alike(model, twin)


def test_a_copy_does_not_keep_the_plan_of_its_updates():
    """Settings are counted in each process: in another one, the count may be as it was here."""
    model, optimizer = network(), SGD(0.1)
    by_hand(model, LOSS, optimizer, draw((8,)))
    assert optimizer._plan is not None
    assert pickle.loads(pickle.dumps(optimizer))._plan is None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(name, tmp_path):
    path, (batch,) = tmp_path / "training.safetensors", draw((40,))
    more = {"weight_decay_factors": {"*.bias": 0.0}} if name == "adamw" else {}

    def fit(epochs, callbacks=(), resume=None, **options):
        model = network()
        model.fit(
            *batch, loss=LOSS, optimizer=OPTIMIZERS[name][0](**options), epochs=epochs,
            batch_size=16, progress=False, callbacks=callbacks, resume=resume,
        )  # fmt: skip
        return model

    options = {"learning_rate_factors": {"*": 0.5, "0.*": 2.0}, "clip_value": 1e-3, **more}
    fit(2, callbacks=[fastnn.ModelCheckpoint(path)], **options)
    expected = fit(4, **options)
    assert_alike(fit(4, resume=path), expected)  # all of it is taken from the file
    saved = fastnn.load_checkpoint(path).optimizer
    assert saved.learning_rate_factors == options["learning_rate_factors"]
    assert list(saved.learning_rate_factors) == ["*", "0.*"]
    assert not np.array_equal(fit(4).flat_parameters, expected.flat_parameters)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clipped_gradients_are_those_of_the_update(name, dtype, isa):
    make, make_reference = OPTIMIZERS[name]
    model = model_of(dtype)
    references = {key: make_reference() for key in model.parameters}
    assert_steps(model, make(clip_value=0.05), references)
    assert np.abs(model.flat_gradients).max() == dtype.type(0.05)


def test_values_are_clipped_before_their_norm():
    model = Sequential(Dense(2, 1, bias=False, weight_init="zeros"), dtype="float64")
    model.gradients["0.weight"][...] = [[30.0], [-0.4]]
    SGD(1.0, clip_value=0.3, clip_norm=0.1).step(model)
    expected = -0.1 * np.array([[0.3], [-0.3]]) / np.hypot(0.3, 0.3)
    np.testing.assert_allclose(model.parameters["0.weight"], expected, rtol=1e-14)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_clipping_by_value_hides_no_nan(value):
    model, optimizer = model_of("float32"), Adam(clip_value=0.1)
    draw_gradients(model, 0)
    model.gradients["1.weight"][0, 0] = value
    before = model.parameters["1.weight"][0, 0]
    if np.isnan(value):
        with pytest.raises(FloatingPointError, match="not finite"):
            optimizer.step(model)
        assert model.parameters["1.weight"][0, 0] == before
    else:
        optimizer.step(model)
        assert model.gradients["1.weight"][0, 0] == np.float32(0.1)
    assert np.isfinite(model.flat_parameters).all()


def test_threads_give_the_same_bits():
    results = []
    for threads in (1, 2, 3):
        fastnn.set_num_threads(threads)
        model = Sequential(Dense(FEATURES, 300), ReLU(), Dense(300, CLASSES), seed=1, l1=0.3)
        optimizer = AdamW(
            learning_rate_factors={"0.*": 0.5}, weight_decay_factors={"*.bias": 0.0},
            clip_value=1e-3, clip_norm=0.01,
        )  # fmt: skip
        step = TrainStep(model, LOSS, optimizer)
        for batch in draw((64,) * 5):
            step(*batch)
        results.append(model.flat_parameters)
        assert_same_bits(results[-1], results[0])
