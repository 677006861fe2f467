"""The network as a drawing: a box for each layer, and the shapes between them."""

from itertools import pairwise

import pytest

pytest.importorskip("matplotlib.pyplot", reason="no matplotlib: the pictures need it")

import fastnn
from fastnn import (
    Block,
    Columns,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Heads,
    MaxPool2D,
    Residual,
    Sequential,
    Tanh,
)


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def boxes(ax):
    """Left, lower, right and upper end of each box."""
    return [tuple(box.get_bbox().extents) for box in ax.patches if hasattr(box, "get_bbox")]


def test_layers_and_shapes_from_top_to_bottom():
    cnn = Sequential(Conv2D(1, 4, 3), MaxPool2D(2), Tanh(), Flatten(), Dense(36, 10))
    ax = fastnn.plot.network(cnn, (8, 8, 1))
    assert texts(ax) == [
        "8x8x1", "0  Conv2D(1, 4, 3)\n40 parameters", "6x6x4", "1  MaxPool2D(2)",
        "3x3x4", "2  Tanh()", "3x3x4", "3  Flatten()", "36",
        "4  Dense(36, 10)\n370 parameters", "10",
    ]  # fmt: skip
    ends = boxes(ax)
    assert len(ends) == 5 and all(a[1] > b[3] for a, b in pairwise(ends))
    fills = [box.get_facecolor() for box in ax.patches]
    assert fills[0] == fills[4] != fills[2] != fills[1] == fills[3]  # weights, activation, others


def test_shapes_that_are_not_known_are_left_out():
    model = Sequential(Conv2D(1, 4, 3), Flatten())
    assert texts(fastnn.plot.network(model)) == [
        "0  Conv2D(1, 4, 3)\n40 parameters", "1  Flatten()",
    ]  # fmt: skip

    class Own:
        def forward(self, x, training=False):
            return x

        def backward(self, dy):
            return dy

    ax = fastnn.plot.network(Sequential(Dense(3, 2), Own(), Tanh()))
    assert texts(ax) == ["3", "0  Dense(3, 2)\n8 parameters", "2", "1  Own()", "2  Tanh()"]
    with pytest.raises(ValueError, match=r"shape: layer 0, Conv2D\(1, 4, 3\), takes 1 channels"):
        fastnn.plot.network(model, (8, 8, 3))


def test_paths_stand_side_by_side_in_a_frame():
    model = Sequential(
        Residual(Dense(4, 4), Tanh()), Heads(Dense(4, 2), Block(Dense(4, 3), Tanh())), seed=0
    )
    ax = fastnn.plot.network(model)
    found = texts(ax)
    assert found[0] == "4" and found[-1] == "5"
    for part in (
        "0  Residual",
        "x",
        "+",
        "1  Heads",
        "1.1  Block",
        "1.1.1  Tanh()",
        "side by side",
    ):
        assert found.count(part) == 1, part
    assert "1.0  Dense(4, 2)\n10 parameters" in found
    frames = {
        text.get_text()[:5]: box
        for box in boxes(ax)
        for text in ax.texts
        if box[0] < text.get_position()[0] < box[2]
        and box[3] - 0.3 < text.get_position()[1] < box[3]
    }
    left, block = frames["1.0  "], frames["1.1  "]
    assert left[2] < block[0]
    inside, outside = frames["1.1.1"], block
    assert outside[0] < inside[0] and inside[2] < outside[2] and outside[1] < inside[1]


def test_arrows_have_heads_where_they_lead_to_a_box_or_out():
    """Not where a path ends and a line leads on to the others."""
    model = Sequential(Residual(Dense(4, 4), Tanh()), Dense(4, 1))
    ax = fastnn.plot.network(model)
    ends = [text.xy[1] for text in ax.texts if getattr(text, "arrow_patch", None)]
    out = min(text.get_position()[1] for text in ax.texts if text.get_text() == "1") - 0.18
    assert sorted(ends) == pytest.approx(sorted([out, *(top for *_, top in boxes(ax))]))


def test_columns_go_their_ways():
    embed = Block(Embedding(9, 2), Flatten())
    model = Sequential(Columns((3, None), (2, embed)), Dense(7, 1))
    found = texts(fastnn.plot.network(model))
    assert found[0] == "5" and "0  Columns" in found and found[-1] == "1"
    assert found.index("2") < found.index(next(t for t in found if "Embedding" in t))
