"""Images to channels-last."""

import numpy as np
import pytest

from fastnn import to_nhwc


@pytest.mark.parametrize("kind", ["f4", "f8", ">f4", "u1", "?"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4), (1, 1, 4, 5), (3, 1, 1)])
def test_to_nhwc(shape, kind):
    x = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    y = to_nhwc(x)
    assert y.flags.c_contiguous and y.flags.owndata and not np.shares_memory(x, y)
    assert y.dtype == x.dtype.newbyteorder("=") and y.shape == (shape[0], *shape[2:], shape[1])
    for row, channel, *position in np.ndindex(*shape):
        assert y[(row, *position, channel)] == x[(row, channel, *position)]
    np.testing.assert_array_equal(to_nhwc(x[::-1].tolist()), y[::-1])


@pytest.mark.parametrize("x, message", [
    (np.zeros((3, 4)), r"x: expected shape \(batch, channels, height, width\) .*got \(3, 4\)"),
    (np.zeros((1, 2, 3, 4, 5)), r"x: expected shape .*got \(1, 2, 3, 4, 5\)"),
    (np.zeros((1, 2, 0, 4)), r"x: expected shape .*got \(1, 2, 0, 4\)"),
    (3.0, "x: expected an array of rows"), ("abc", "x: expected real numbers"),
    (1j * np.zeros((1, 2, 3)), "x: expected real numbers.*complex"),
    ([[[1.0], [2.0, 3.0]]], "x: not an array of numbers"),
    (np.ma.masked_array(np.zeros((1, 2, 3))), "x: a masked array"),
])  # fmt: skip
def test_to_nhwc_refuses(x, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        to_nhwc(x)
