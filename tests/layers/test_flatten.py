"""Flatten: views within a model, but none of the user's arrays."""

import numpy as np
import pytest

from compare import assert_same_bits
from fastnn import Flatten, Sequential
from image_models import draw


def test_flatten_is_a_view():
    layer, x = Flatten(), draw((5, 4, 6, 3))
    y = layer.forward(x, True)
    assert y.shape == (5, 72) and np.shares_memory(x, y)
    dy = draw((5, 72))
    dx = layer.backward(dy)
    assert dx.shape == x.shape and np.shares_memory(dx, dy)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(dy)


def test_a_model_of_flatten_hands_out_neither_its_input_nor_its_gradient():
    model, x, dy = Sequential(Flatten()), draw((5, 4, 3)), draw((5, 12))
    assert not np.shares_memory(model.predict(x), x)
    assert not np.shares_memory(model.forward(x, training=True), x)
    dx = model.backward(dy, input_gradient=True)
    assert dx.shape == x.shape and not np.shares_memory(dx, dy)
    assert_same_bits(dx.reshape(5, 12), dy)
