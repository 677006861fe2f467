"""The files of `ModelCheckpoint`: their names, and whether a better one stays."""

import os

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import Callback, EarlyStopping, ModelCheckpoint
from small_fit import Scripted, fit, network


def names(folder):
    return sorted(os.listdir(folder))


class Logs(Callback):
    def on_fit_begin(self, run):
        run.columns.append("norm")

    def on_epoch_end(self, run):
        run.log("norm", 10.0 * run.epoch)


# ---- fields in the name ----


def test_each_epoch_has_a_file_of_its_name(tmp_path):
    path = tmp_path / "m-{epoch:03d}-{validation_loss:.3f}.safetensors"
    fit(Scripted(0.5, 12, 0.0625), ModelCheckpoint(path), epochs=3)
    assert names(tmp_path) == [
        "m-001-0.500.safetensors", "m-002-12.000.safetensors", "m-003-0.062.safetensors"
    ]  # fmt: skip
    for epoch, name in enumerate(names(tmp_path), 1):
        model = network()
        fit(model=model, epochs=epoch)
        saved = fastnn.load_checkpoint(tmp_path / name)
        assert saved.history.epochs == epoch
        assert_same_bits(saved.model.flat_parameters, model.flat_parameters)


def test_every_and_monitor_go_with_fields(tmp_path):
    fit(ModelCheckpoint(tmp_path / "every-{epoch}", every=2), epochs=5)
    best = ModelCheckpoint(tmp_path / "best-{epoch}", monitor="val_loss")
    fit(Scripted(3, 4, 2, 5), best, epochs=4)
    assert names(tmp_path) == ["best-1", "best-3", "every-2", "every-4", "every-5"]


def test_keras_names_braces_and_results_of_ones_own(tmp_path):
    path = tmp_path / "{{{epoch}}}-{val_loss:g}-{norm:.0f}-{loss:+.0e}"
    history = fit(Scripted(2.0, 3.0), Logs(), ModelCheckpoint(path), epochs=2)
    expected = [f"{{{i + 1}}}-{i + 2}-{10 * (i + 1)}-{history.loss[i]:+.0e}" for i in range(2)]
    assert names(tmp_path) == expected


def test_a_validation_that_was_not_due_is_nan_in_the_name(tmp_path):
    fit(ModelCheckpoint(tmp_path / "{epoch}-{val_loss:.0f}"), epochs=3, validation_every=2)
    assert ["nan" in name for name in names(tmp_path)] == [True, False, False]


@pytest.mark.parametrize("name, text", [
    ("{epoc}", r"^path: expected fields among epoch, loss, .*, got 'epoc'"),
    ("{}", r"^path: expected fields among .*, got ''"),
    ("{0}", r"^path: expected fields among .*, got '0'"),
    ("{epoch.real}", r"^path: expected fields among .*, got 'epoch.real'"),
    ("{loss:d}", r"^path: .*cannot be filled in: Unknown format code 'd'"),
    ("{epoch:{loss}}", r"^path: .*cannot be filled in"),
    ("{accuracy}", r"^path: expected fields among .*, got 'accuracy'"),
])  # fmt: skip
def test_bad_names_are_told_before_the_first_step(name, text, tmp_path):
    model = network()
    with pytest.raises(ValueError, match=text):
        fit(ModelCheckpoint(tmp_path / name), model=model)
    assert_same_bits(model.flat_parameters, network().flat_parameters)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["{epoch", "epoch}", "{epoch!}", "{"])
def test_broken_fields_are_told_at_once(name):
    with pytest.raises(ValueError, match=r"^path: "):
        ModelCheckpoint(name)


# ---- a better model stays ----


def best(path, *values, **options):
    """Train so many epochs with these validation losses; which one is in the file."""
    checkpoint = ModelCheckpoint(path, monitor="val_loss", **options)
    fit(Scripted(*values), checkpoint, epochs=len(values), optimizer=fastnn.SGD(0.01))
    return fastnn.load_checkpoint(path).history.validation_loss


def test_a_second_run_does_not_overwrite_a_better_model(tmp_path):
    path = tmp_path / "best"
    assert best(path, 3, 2, 4, keep_better=True) == [3, 2]
    before = path.read_bytes()
    assert best(path, 3, 2.5, 2, keep_better=True) == [3, 2]  # no better than the same
    assert path.read_bytes() == before
    assert best(path, 3, 5, 1.5, 1.4, 8, keep_better=True) == [3, 5, 1.5, 1.4]
    assert best(path, 1.3, keep_better=True, min_delta=0.5) == [3, 5, 1.5, 1.4]
    assert best(path, 0.8, keep_better=True, min_delta=0.5) == [0.8]
    assert best(path, 7) == [7]


def test_a_file_whose_larger_results_are_better(tmp_path):
    path = tmp_path / "best"
    assert best(path, 3, 5, 4, keep_better=True, higher_is_better=True) == [3, 5]
    assert best(path, 4, 4, keep_better=True, higher_is_better=True) == [3, 5]
    assert best(path, 6, 4, keep_better=True, higher_is_better=True) == [6]


def test_a_resume_from_the_file_that_it_keeps(tmp_path):
    path, values = tmp_path / "best", (3, 2, 4, 1, 5)

    def run(epochs, **options):
        checkpoint = ModelCheckpoint(path, monitor="val_loss", keep_better=True)
        fit(Scripted(*values), checkpoint, epochs=epochs, **options)
        return fastnn.load_checkpoint(path).history.validation_loss

    assert run(3) == [3, 2]
    assert run(5, resume=path) == [3, 2, 4, 1]


@pytest.mark.parametrize("in_file, kept", [(1.0, [1.0]), (5.0, [5.0]), (1.7, [3, 2, 1.8, 1.6])])
def test_a_resume_from_another_file_counts_both(in_file, kept, tmp_path):
    """Written is what is better than the file and than the epochs before the resume."""
    path, other = tmp_path / "best", tmp_path / "other"
    best(path, in_file)
    fit(Scripted(3, 2), ModelCheckpoint(other), epochs=2)
    values = (3, 2, 1.8, 1.6) if in_file == 1.7 else (3, 2, 2.5, 4)
    checkpoint = ModelCheckpoint(path, monitor="val_loss", keep_better=True)
    fit(Scripted(*values), checkpoint, epochs=4, resume=other)
    assert fastnn.load_checkpoint(path).history.validation_loss == kept


def test_what_cannot_be_compared_with_is_refused_and_kept(tmp_path):
    path, model = tmp_path / "file", network()
    checkpoint = ModelCheckpoint(path, monitor="val_loss", keep_better=True)
    for write, text in (
        (lambda: model.save(path), "holds a model without its training"),
        (lambda: fit(ModelCheckpoint(path), validation_data=None, epochs=1),
         "^keep_better: .* has no result 'validation_loss' to compare with"),
        (lambda: fastnn.save_checkpoint(path, network(), fastnn.Adam()), "^keep_better: .*result"),
        (lambda: path.write_bytes(b"other"), "file"),
    ):  # fmt: skip
        write()
        before = path.read_bytes()
        with pytest.raises(ValueError, match=text):
            fit(checkpoint, model=model)
        assert path.read_bytes() == before
    assert_same_bits(model.flat_parameters, network().flat_parameters)


@pytest.mark.parametrize("options", [
    {}, {"monitor": "loss", "path": "m-{epoch}"}, {"every": 2},
])  # fmt: skip
def test_keeping_needs_a_monitor_and_one_name(options):
    options = {"path": "file"} | options
    with pytest.raises(ValueError, match=r"^keep_better: needs a monitor, and a path that is al"):
        ModelCheckpoint(keep_better=True, **options)
    with pytest.raises(TypeError, match=r"^keep_better: expected True or False"):
        ModelCheckpoint("file", keep_better="yes")


# ---- what else is in them ----


def test_the_best_state_is_in_the_file_only_where_it_is_not_the_last(tmp_path):
    path, sizes = tmp_path / "file", []

    class Look(Callback):
        _last = True

        def on_epoch_end(self, run):
            sizes.append(path.stat().st_size)
            saved = fastnn.load(path)
            assert_same_bits(saved.flat_parameters, run.model.flat_parameters)

    fit(Scripted(3, 2, 4, 1), EarlyStopping(), ModelCheckpoint(path), Look(), epochs=4)
    size = network().flat_parameters.nbytes
    assert sizes[2] - sizes[1] > size / 2 and abs(sizes[3] - sizes[1]) < size / 2
    assert np.isfinite(sizes).all()
