"""Learning curves and the range of learning rates: what the lines hold."""

import numpy as np
import pytest

pytest.importorskip("matplotlib.pyplot", reason="no matplotlib: the pictures need it")

import fastnn
from fastnn import Dense, Sequential
from fastnn.looking.range_test import LearningRateRange

NAN = float("nan")


MARKED = "lowest validation loss: epoch {}"


def lines(ax):
    return {line.get_label(): line.get_xydata().T.tolist() for line in ax.lines}


def test_curves_of_a_history():
    X, y = fastnn.datasets.digits()
    model = Sequential(Dense(64, 10), seed=0)
    history = model.fit(
        X, y, loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.SGD(0.1), epochs=3,
        metrics=["top_2_accuracy"], validation_split=0.5, validation_every=2,
        schedule=fastnn.StepDecay(1, 0.25), progress=False,
    )  # fmt: skip
    loss, accuracy, rate = fastnn.plot.learning_curves(history, beta=0.5)
    assert [ax.get_ylabel() for ax in (loss, accuracy, rate)] == [
        "loss", "top 2 accuracy", "learning rate",
    ]  # fmt: skip
    a, b, c = history.loss
    held = [v for v in history.validation_loss if v == v]
    assert len(held) == 2
    drawn = lines(loss)
    assert drawn["training"] == [[1, 2, 3], [a, b, c]]
    np.testing.assert_allclose(
        drawn["training, smoothed (β = 0.5)"][1],
        [a, (a + 2 * b) / 3, (a + 2 * b + 4 * c) / 7],
    )
    assert drawn["validation"] == [[2, 3], held]  # the last epoch is always validated
    assert lines(accuracy)["training"][1] == history.top_2_accuracy
    assert lines(rate)["learning_rate"][1] == history.learning_rate == [0.1, 0.025, 0.00625]
    assert rate.get_yscale() == "log" and rate.get_legend() is None
    assert all(ax.get_xlabel() == "epoch" for ax in (loss, accuracy, rate))


def test_curves_of_any_mapping():
    (loss,) = fastnn.plot.learning_curves({"validation_loss": [NAN, 2.0, 1.0], "seconds": [1, 1]})
    assert lines(loss) == {"validation": [[2, 3], [2, 1]], MARKED.format(3): [[3, 3], [0, 1]]}
    (loss,) = fastnn.plot.learning_curves({"loss": [2.0, 1.0]}, beta=0.0)
    assert lines(loss) == {"training": [[1, 2], [2, 1]]}
    (loss,) = fastnn.plot.learning_curves({"validation_loss": [NAN, NAN], "loss": [1.0, 2.0]})
    assert not any("lowest" in line for line in lines(loss))
    for rates in ([0.1, 1e-9], [0.1, 0.0], [0.1, 0.1]):
        *_, rate = fastnn.plot.learning_curves({"loss": [2.0, 1.0], "learning_rate": rates})
        assert rate.get_yscale() == "linear"


def test_the_average_is_drawn_where_there_are_enough_epochs():
    smoothed = "training, smoothed (β = 0.6)"
    for epochs, options, there in ((29, {}, False), (30, {}, True), (2, {"beta": 0.6}, True),
                                   (99, {"beta": 0.0}, False)):  # fmt: skip
        values = [float(n) for n in range(epochs, 0, -1)]
        (ax,) = fastnn.plot.learning_curves({"loss": values}, **options)
        assert (smoothed in lines(ax)) == there


def test_the_best_epoch_is_marked():
    history = {
        "loss": [3.0, 2.0, 1.0], "accuracy": [0.1, 0.2, 0.3], "learning_rate": [1.0, 1.0, 1.0],
        "validation_loss": [2.0, 1.5, 1.7], "validation_accuracy": [0.1, 0.2, 0.3],
    }  # fmt: skip
    for best, text, epoch in ((None, MARKED.format(2), 2), (3, "best: epoch 3", 3)):
        *both, rate = fastnn.plot.learning_curves(history, best_epoch=best)
        assert len(both) == 2 and all(lines(ax)[text] == [[epoch] * 2, [0, 1]] for ax in both)
        assert list(lines(rate)) == ["learning_rate"]
    with pytest.raises(ValueError, match="best_epoch: expected"):
        fastnn.plot.learning_curves(history, best_epoch=0)


@pytest.mark.parametrize("history", [{}, fastnn.History(), {"loss": []}, {"seconds": [1.0]}])
def test_a_history_without_epochs_is_refused(history):
    with pytest.raises(ValueError, match="history: expected one with at least one epoch"):
        fastnn.plot.learning_curves(history)


def test_the_range_of_learning_rates():
    rates, losses = np.array([1e-3, 1e-2, 0.1, 1]), np.array([2.0, 1.5, 1.0, 90.0])
    found = LearningRateRange(rates, losses, losses + 0.5, 1e-2)
    ax = fastnn.plot.learning_rate_range(found)
    assert lines(ax) == {
        "loss of a batch": [rates.tolist(), losses.tolist()],
        "smoothed": [rates.tolist(), (losses + 0.5).tolist()],
        "suggestion 0.01, a tenth of the\nrate with the smallest loss": [[1e-2, 1e-2], [0, 1]],
    }
    assert ax.get_xscale() == "log" and ax.get_ylim() == (0, 1.3 * 90)
    ax = fastnn.plot.learning_rate_range(found._replace(suggestion=NAN))
    assert list(lines(ax)) == ["loss of a batch", "smoothed"]
    assert repr(found) == "LearningRateRange(steps=4, rates=0.001 to 1, suggestion=0.01)"
