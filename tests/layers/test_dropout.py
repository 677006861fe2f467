"""Dropout in a model: its masks follow from the model's seed, the step and its position."""

import numpy as np
import pytest

import reference
from fastnn import Dropout, Sequential


def test_dropout_masks_follow_seed_step_and_place():
    ones = np.ones((5, 40), np.float32)
    for seed in (0, 7, 2**64 - 1):
        model = Sequential(Dropout(0.4), Dropout(0.5), seed=seed)
        for step in (1, 2):
            y = model.forward(ones, training=True)
            keep = [
                reference.dropout_keep(5, 40, r, seed, step, i) for i, r in enumerate((0.4, 0.5))
            ]
            np.testing.assert_array_equal(y != 0, keep[0] & keep[1])


def test_dropout_outside_a_model_says_so():
    layer = Dropout(0.5)
    assert layer.forward(np.ones((2, 3))).tolist() == np.ones((2, 3)).tolist()
    with pytest.raises(RuntimeError, match="model"):
        layer.forward(np.ones((2, 3)), training=True)
