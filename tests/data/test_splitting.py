"""stratified_split."""

import numpy as np
import pytest

from fastnn import stratified_split


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_split_keeps_every_class_share(fraction):
    y = np.repeat([0, 1, 5], [100, 30, 7])
    train, test = stratified_split(y, fraction, seed=2)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(137))
    assert len(test) == round(fraction * 137)
    for label, count in ((0, 100), (1, 30), (5, 7)):
        assert abs((y[test] == label).sum() - fraction * count) < 1
    again, other = stratified_split(y, fraction, seed=2), stratified_split(y, fraction, seed=3)
    np.testing.assert_array_equal(again[1], test)
    assert len(other[1]) == len(test) and (other[1] != test).any()


@pytest.mark.parametrize("options, message", [
    *(({"test_fraction": share}, r"test_fraction: expected a number in \(0, 1\), got")
      for share in (0, 1, -0.1, np.nan)),
    ({"y": []}, r"y: expected labels of shape \(n,\)"),
    ({"y": [[1, 2]]}, r"y: expected labels of shape \(n,\)"),
    ({"y": [1, 2], "test_fraction": 0.01}, "test_fraction: .* would leave a part empty"),
    ({"seed": -1}, "seed: expected an integer from 0"),
    ({"y": ["a", None, "b", "a"]}, "y: expected labels that can be sorted"),
])  # fmt: skip
def test_split_refuses(options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        stratified_split(**({"y": [0, 0, 1, 1]} | options))
