"""History: a dict of equally long lists, whose names are attributes too."""

import copy
import json
import math
import pickle

import pytest

import fastnn
from fastnn import History


def history():
    made = History()
    made.append({"loss": 0.5, "my metric": 1})
    made.append({"loss": 0.25, "late": 7.0})
    made.interrupted = True
    return made


def test_columns_are_equally_long():
    made = history()
    assert made["loss"] == made.loss == [0.5, 0.25] and made.epochs == 2
    assert repr(made["my metric"]) == "[1.0, nan]" and repr(made.late) == "[nan, 7.0]"
    assert History().epochs == 0 and len(History()) == 0


def test_a_name_that_it_lacks():
    with pytest.raises(AttributeError, match="History has no 'lost'; it has loss, my metric, late"):
        history().lost  # noqa: B018
    with pytest.raises(KeyError, match="it has no epoch"):  # as where Ctrl-C ended the first one
        History()["loss"]
    with pytest.raises(AttributeError, match="it has no epoch"):
        History().loss  # noqa: B018
    with pytest.raises(KeyError, match="History has no 'lost'; it has loss, my metric, late"):
        history()["lost"]


def test_json_holds_all_columns():
    text = json.dumps(history())
    assert text == '{"loss": [0.5, 0.25], "my metric": [1.0, NaN], "late": [NaN, 7.0]}'
    assert json.loads(text)["loss"] == history().loss


def test_a_data_frame_has_a_row_per_epoch_and_a_column_per_name():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(history())
    assert list(frame.columns) == ["loss", "my metric", "late"] and frame.shape == (2, 3)
    assert frame["loss"].tolist() == [0.5, 0.25] and math.isnan(frame["late"][0])


def test_what_fit_returns_goes_into_json():
    model = fastnn.Sequential(fastnn.Dense(1, 1), seed=0)
    made = model.fit(
        [[1.0], [2.0]], [1.0, 2.0], loss=fastnn.MeanSquaredError(), optimizer=fastnn.SGD(0.1),
        epochs=3, validation_data=([[3.0]], [3.0]), progress=False,
    )  # fmt: skip
    assert json.loads(json.dumps(made)) == dict(made) == made
    assert {len(column) for column in made.values()} == {3}


@pytest.mark.parametrize("duplicate", [
    copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made)),
    lambda made: pickle.loads(pickle.dumps(made, protocol=0)),
])  # fmt: skip
def test_copies_and_pickles(duplicate):
    made = history()
    same = duplicate(made)
    assert type(same) is History and repr(same) == repr(made) and same.interrupted
    assert list(same) == list(made) and same.loss == made.loss
