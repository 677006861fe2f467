"""Activations, histograms by layer and dead units: the data of what is drawn."""

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("matplotlib.pyplot", reason="no matplotlib: the pictures need it")

import fastnn
from fastnn import BatchNorm, Dense, ReLU, Sequential

LOSS = fastnn.MeanSquaredError()


def test_activations_and_derivatives():
    sigmoid, elu = fastnn.plot.activations("sigmoid", fastnn.ELU(0.5), low=-2, high=3)
    for ax, name in ((sigmoid, "Sigmoid()"), (elu, "ELU(alpha=0.5)")):
        value, slope = ax.lines[:2]
        x, y = value.get_xydata().T
        if ax is sigmoid:
            wanted, derivative = 1 / (1 + np.exp(-x)), np.exp(-x) / (1 + np.exp(-x)) ** 2
        else:
            wanted = np.where(x > 0, x, 0.5 * np.expm1(x))
            derivative = np.where(x > 0, 1, 0.5 * np.exp(x))
        assert (x[0], x[-1]) == (-2, 3) and ax.get_title() == name
        np.testing.assert_allclose(y, wanted, atol=1e-14)
        np.testing.assert_allclose(slope.get_ydata(), derivative, atol=1e-14)
        assert value.get_linestyle() != slope.get_linestyle()
    assert [text.get_text() for text in sigmoid.get_legend().get_texts()] == ["f(x)", "f'(x)"]


def test_all_activations_are_drawn():
    titles = [ax.get_title().partition("(")[0] for ax in fastnn.plot.activations()]
    assert titles == [
        "ReLU", "LeakyReLU", "Sigmoid", "Tanh", "ELU", "SELU", "Softplus", "SiLU", "GELU", "Mish",
    ]  # fmt: skip


@pytest.mark.parametrize("functions, ends, message", [
    (["softmax"], {}, "functions: expected elementwise ones, got softmax"),
    (["rely"], {}, "functions: expected one of linear, relu, "),
    (["relu"], {"low": 4.0}, "high: expected more than low, 4.0, got 4.0"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_named(functions, ends, message):
    with pytest.raises(ValueError, match=message):
        fastnn.plot.activations(*functions, **ends)


@pytest.fixture
def found(rng):
    model = Sequential(Dense(4, 8), BatchNorm(8), ReLU(), Dense(8, 1), seed=1, dtype="float64")
    model.layers[3].trainable = False
    return fastnn.inspect(model, rng.standard_normal((50, 4)), np.ones((50, 1)), LOSS)


def ridges(ax):
    return {int(patch.get_data().baseline): patch.get_data() for patch in ax.patches}


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_histograms(found, scale):
    axes = fastnn.plot.histograms(found, scale=scale)
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    assert names == ["0  Dense(4, 8)", "1  BatchNorm(8)", "2  ReLU()", "3  Dense(8, 1)"]
    keys = ["0.weight", "1.gamma", None, "3.weight"]
    for ax, named, own in zip(
        axes, (found.weights, found.activations, found.gradients), (keys, "0123", keys), strict=True
    ):
        drawn = ridges(ax)
        assert ax.get_xscale() == scale and ax.get_ylim() == (3.1, -1)
        for row, key in enumerate(own):
            if key is None or (not named[key].norm and scale == "log"):
                assert row not in drawn
                continue
            counts = named[key].magnitudes if scale == "log" else named[key].counts
            heights = row - drawn[row].values
            np.testing.assert_allclose(heights.max(), 0.85)
            seen = counts[counts >= counts.max() / 200]
            np.testing.assert_allclose(np.sort(heights)[-len(seen):],
                                       np.sort(seen) * 0.85 / seen.max())  # fmt: skip
            edges = drawn[row].edges
            if scale == "linear":
                assert set(edges) <= set(named[key].edges)
            else:
                np.testing.assert_allclose(np.diff(np.log10(edges)), 0.1)
    zeros = [f"{found.activations['2'].zeros:.0%} are 0"] if scale == "log" else []
    assert [text.get_text() for text in axes[1].texts] == zeros
    frozen = ["100% are 0"] if scale == "log" else []
    assert [text.get_text() for text in axes[2].texts][-1:] == frozen


def test_a_share_of_zeros_is_told_of_activations_only():
    """As of gradients of the weights of pixels that are always 0, it would look like vanishing."""
    x = [[1.0, 0.0], [2.0, 0.0]]
    found = fastnn.inspect(Sequential(Dense(2, 3)), x, np.ones((2, 3)), LOSS)
    assert found.gradients["0.weight"].zeros == 0.5
    assert [len(ax.texts) for ax in fastnn.plot.histograms(found)] == [0, 0, 0]


def test_an_axis_of_less_than_a_decade_has_two_ticks_and_one_of_many_has_few(rng):
    tiny, small = (fastnn.initializers.Normal(std) for std in (1e-9, 1e-3))
    few = Sequential(Dense(4, 4, activation="sigmoid", weight_init=tiny))  # all are 0.5
    many = Sequential(*(Dense(4, 4, activation="tanh", weight_init=small) for _ in range(6)))
    x = rng.standard_normal((50, 4))
    for model, ticks in ((few, {2}), (many, {3, 4, 5, 6})):
        ax = fastnn.plot.histograms(fastnn.inspect(model, x, x, LOSS))[1]
        ax.figure.canvas.draw()
        low, high = ax.get_xlim()
        shown = [at for at, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
                 if low <= at <= high and label.get_text()]  # fmt: skip
        assert len(shown) in ticks


def test_names_of_layers_are_whole():
    layer = Dense(100, 100, activation="sigmoid", bias=False, l2=0.001)
    found = fastnn.inspect(Sequential(layer), np.ones((1, 100)), np.ones((1, 100)), LOSS)
    (name,) = (text.get_text() for text in fastnn.plot.histograms(found)[0].get_yticklabels())
    assert name.split() == f"0 {found.layers['0']}".split()
    assert max(map(len, name.split("\n"))) <= 44


def test_what_vanishes_moves_left(rng):
    small = fastnn.initializers.Normal(0.01)
    layers = (Dense(50, 50, activation="tanh", weight_init=small) for _ in range(4))
    x = rng.standard_normal((50, 50))
    found = fastnn.inspect(Sequential(*layers), x, x, LOSS)
    drawn = ridges(fastnn.plot.histograms(found)[1])
    places = [drawn[row].edges[np.argmin(drawn[row].values)] for row in range(4)]
    assert all(5 < before / after < 30 for before, after in pairwise(places))


def test_numbers_that_are_not_finite_are_told(rng):
    model = Sequential(Dense(2, 2))
    model.parameters["0.weight"][0, 0] = np.nan
    found = fastnn.inspect(model, [[1.0, 1.0]], [[0.0, 0.0]], LOSS)
    axes = fastnn.plot.histograms(found)
    assert axes[0].texts[0].get_text() == "25.0% not finite"
    with pytest.raises(ValueError, match="scale: expected one of log, linear, got 'lin'"):
        fastnn.plot.histograms(found, scale="lin")


def test_dead_units(found):
    model = Sequential(Dense(1, 4, activation="relu"), Dense(4, 4, activation="relu"), Dense(4, 1))
    model.parameters["0.weight"][...] = [[1, -1, 1, 1]]
    model.parameters["1.weight"][...] = -1
    found = fastnn.inspect(model, [[1.0]], [[0.0]], LOSS)
    ax = fastnn.plot.dead_units(found)
    assert [bar.get_width() for bar in ax.patches] == [25, 100]
    assert [text.get_text() for text in ax.texts] == ["1 of 4", "4 of 4"]
    assert [label.get_text()[0] for label in ax.get_yticklabels()] == ["0", "1"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first layer is at the top
    with pytest.raises(ValueError, match="inspection: expected a model with activations"):
        fastnn.plot.dead_units(found._replace(dead={}))
