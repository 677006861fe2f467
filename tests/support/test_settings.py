"""Settings of layers and losses: which values they take or refuse, and when a change counts."""

import copy
import pickle

import numpy as np
import pytest

from compare import assert_same_bits
from fastnn import (
    ELU,
    BatchNorm,
    Dense,
    Dropout,
    Hinge,
    Huber,
    LayerNorm,
    LeakyReLU,
    MeanSquaredError,
    Quantile,
    ReLU,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from fastnn.support import settings

# name -> (object, attribute, another value, values that are refused)
NOT_POSITIVE = (0, -1, np.nan, np.inf, "a", True, None)
SETTINGS = {
    "dropout": (lambda: Dropout(0.5), "rate", 0.25, (1, -0.1, np.nan, "a", True, None)),
    "batch norm": (lambda: BatchNorm(3), "momentum", 1.0, (0, 1.1, np.nan, "a", True, None)),
    "batch norm eps": (lambda: BatchNorm(3), "eps", 1.0, NOT_POSITIVE),
    "layer norm eps": (lambda: LayerNorm(3), "eps", 1.0, NOT_POSITIVE),
    "l1": (lambda: Dense(3, 3), "l1", 0.5, (-1, np.nan, np.inf, "a", True)),
    "l2": (lambda: Dense(3, 3), "l2", 0.5, (-1, np.nan, np.inf, "a", True)),
    "trainable": (lambda: LayerNorm(3), "trainable", False, (0, 1, None, "a", np.True_)),
    "leaky relu": (LeakyReLU, "alpha", 0, (-1, np.nan, np.inf, "a", True, None)),
    "elu": (ELU, "alpha", 0.5, NOT_POSITIVE),
    "huber": (Huber, "delta", 2.0, NOT_POSITIVE),
    "quantile": (Quantile, "q", 0.25, (0, 1, -0.1, np.nan, "a", True, None, [])),
    "quantiles": (
        lambda: Quantile([0.1, 0.9]),
        "q",
        (0.25, 0.5),
        ([0.1, 1.0], (0.1, "a"), [[0.1]]),
    ),
    "hinge": (Hinge, "margin", 2.0, NOT_POSITIVE),
    "smoothing": (SoftmaxCrossEntropy, "label_smoothing", 0.5, (1, -0.1, np.nan, "a", True)),
    "class weights": (
        SoftmaxCrossEntropy,
        "class_weight",
        (0.0, 2.0),
        ({0: 1}, 2.0, "balanced", [], [0, 0], [-1, 1], [np.nan], [[1.0]]),
    ),
    "ignore_index": (SoftmaxCrossEntropy, "ignore_index", -100, (1.0, "a", True, 2**63)),
    "pos_weight": (
        SigmoidCrossEntropy,
        "pos_weight",
        (0.5, 2.0),
        (0, -1, np.inf, np.nan, "a", True, [], [1, 0], [[1.0]]),
    ),
}


READ_BY_KERNELS = {"dropout"}  # when they run: a change outdates nothing that was recorded


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_checked_and_counted(name):
    make, attribute, value, refused = SETTINGS[name]
    before, owner = settings.changes, make()
    assert settings.changes == before
    setattr(owner, attribute, value)
    after = before + (name not in READ_BY_KERNELS)
    assert settings.changes == after and getattr(owner, attribute) == value
    for wrong in refused:
        with pytest.raises((ValueError, TypeError), match=f"^{attribute}: expected .*, got"):
            setattr(owner, attribute, wrong)
    assert settings.changes == after and getattr(owner, attribute) == value
    for twin in (copy.deepcopy(owner), pickle.loads(pickle.dumps(owner))):
        assert getattr(twin, attribute) == value and repr(twin) == repr(owner)


@pytest.mark.parametrize("make, message", [
    (lambda: Dropout(0.5), "Dropout has no typo; what may be set: rate, trainable$"),
    (lambda: Dense(3, 3), "Dense has no typo; what may be set: l1, l2, trainable$"),
    (lambda: BatchNorm(3), "BatchNorm has no typo; what may be set: eps, momentum, trainable$"),
    (ReLU, "ReLU has no typo; what may be set: trainable$"),
    (Huber, "Huber has no typo; what may be set: delta"),
    (MeanSquaredError, "MeanSquaredError has no typo; what may be set: nothing"),
    (lambda: Sequential(ReLU()), "'Sequential' object has no attribute 'typo'"),
])  # fmt: skip
def test_a_misspelt_setting_is_refused(make, message):
    for part in (make(), copy.deepcopy(make())):
        with pytest.raises(AttributeError, match=f"^{message}"):
            part.typo = 0.5


def test_a_method_is_no_setting():
    with pytest.raises(AttributeError, match="Dropout has no forward; what may be set: rate"):
        Dropout(0.5).forward = 0.5
    with pytest.raises(AttributeError, match="'Sequential' object attribute 'forward' is read-o"):
        Sequential(ReLU()).forward = print


@pytest.mark.parametrize("kind, argument", [
    (Dropout, 0.5), (Huber, 1.0), (Sequential, ReLU()),
])  # fmt: skip
def test_a_derived_class_may_set_what_it_likes(kind, argument):
    class Derived(kind):
        def __init__(self):
            super().__init__(argument)
            self.anything = 0.5

    assert Derived().anything == 0.5


def test_settings_count_at_the_next_step(rng):
    """A changed model computes the same as a model made with the new values."""
    x = rng.standard_normal((9, 3))

    def model(rate=0.5, momentum=0.1, eps=1e-5, alpha=1.0, l2=None):
        return Sequential(
            Dense(3, 3, activation=ELU(alpha), l2=l2), BatchNorm(3, momentum, eps),
            Dropout(rate), LeakyReLU(alpha), LayerNorm(3, eps=eps), seed=1,
        )  # fmt: skip

    changed, made = model(), model(rate=0.25, momentum=0.5, eps=0.1, alpha=0.5, l2=2.0)
    dense, batch, dropout, leaky, layer = changed.layers
    dense.activation.alpha = leaky.alpha = 0.5
    dense.l2, batch.momentum, batch.eps, layer.eps, dropout.rate = 2.0, 0.5, 0.1, 0.1, 0.25
    for each in (changed, made):
        each.backward(each.forward(x, training=True))
    assert_same_bits(changed.flat_gradients, made.flat_gradients)
    assert_same_bits(changed.predict(x), made.predict(x))
    assert changed.penalty(9) == made.penalty(9) > 0
