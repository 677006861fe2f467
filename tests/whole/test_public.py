"""Every public name is in a table of tests: a name without a test fails here."""

import re

import fastnn
from paths import TESTS
from tables import IMAGE_LAYERS, LAYERS, LOSSES, OPTIMIZERS

# public names that are not in helpers/tables.py -> the file that tests them
ELSEWHERE = {
    "Checkpoint": "files/test_checkpoint.py",
    "CSVLogger": "training/test_callbacks.py",
    "Callback": "training/test_callbacks.py",
    "CosLog": "test_schedules.py",
    "Cosine": "test_schedules.py",
    "EarlyStopping": "training/test_monitors.py",
    "Embedding": "layers/test_embedding.py",
    "ExponentialAverage": "test_averages.py",
    "ExponentialDecay": "test_schedules.py",
    "ExponentialMovingAverage": "test_weight_averages.py",
    "FlatCosine": "test_schedules.py",
    "GradientStep": "training/test_gradient_step.py",
    "History": "training/test_loop.py",
    "Layer": "layers/test_own_layers.py",
    "Loss": "test_losses.py",
    "OneCycle": "test_schedules.py",
    "ModelCheckpoint": "training/test_resume.py",
    "Predictor": "test_predictor.py",
    "ReduceOnPlateau": "training/test_monitors.py",
    "Run": "training/test_callbacks.py",
    "Sequential": "test_model.py",
    "Standardizer": "data/test_standardizer.py",
    "StepDecay": "test_schedules.py",
    "StochasticWeightAverage": "test_weight_averages.py",
    "TableEncoder": "data/test_table.py",
    "TensorBoard": "training/test_callbacks.py",
    "TrainStep": "training/test_train_step.py",
    "Vector": "test_vector.py",
    "__version__": "whole/test_package.py",
    "batches": "data/test_batching.py",
    "build_info": "support/test_threads.py",
    "datasets": "test_datasets.py",
    "fan_in_factors": "test_factors.py",
    "fit_many": "training/test_many.py",
    "get_num_threads": "support/test_threads.py",
    "get_runtime": "support/test_runtimes.py",
    "export_c": "export/test_c99.py",
    "gradcheck": "test_gradcheck.py",
    "initialize_from_data": "test_from_data.py",
    "initializers": "test_initializers.py",
    "inspect": "test_inspection.py",
    "learning_rate_range": "test_range_test.py",
    "load": "files/test_checkpoint.py",
    "load_checkpoint": "files/test_checkpoint.py",
    "save": "files/test_checkpoint.py",
    "save_checkpoint": "files/test_checkpoint.py",
    "metrics": "test_metrics.py",
    "runtime": "support/test_runtimes.py",
    "set_num_threads": "support/test_threads.py",
    "set_runtime": "support/test_runtimes.py",
    "stratified_split": "data/test_splitting.py",
    "threads": "support/test_threads.py",
    "to_nhwc": "data/test_images.py",
    "update_batch_norm": "test_weight_averages.py",
}


def in_tables():
    layers = {type(make(4)).__name__ for make in (LAYERS | IMAGE_LAYERS).values()}
    losses = {type(loss).__name__ for loss, *_ in LOSSES.values()}
    return layers | losses | {type(make()).__name__ for make, _ in OPTIMIZERS.values()}


def test_every_public_name_is_in_a_test_table():
    assert in_tables() | set(ELSEWHERE) == set(fastnn.__all__)


def test_help_begins_with_an_index_that_names_everything():
    words = set(re.findall(r"\w+", fastnn.__doc__.partition("By topic")[2]))
    assert set(fastnn.__all__) - words == {"__version__"}


def test_the_files_named_do_test_the_names():
    for name, file in ELSEWHERE.items():
        text = (TESTS / file).read_text(encoding="utf-8")
        assert re.search(rf"\b{name}\b", text), f"{name} is not in {file}"


def test_all_is_sorted_complete_and_true():
    public = [name for name in vars(fastnn) if not name.startswith("_")]
    modules = [name for name in public if isinstance(getattr(fastnn, name), type(fastnn))]
    assert set(public) - set(modules) <= set(fastnn.__all__)
    assert len(set(fastnn.__all__)) == len(fastnn.__all__)
    for name in fastnn.__all__:
        assert hasattr(fastnn, name)


def test_every_kernel_face_is_called_somewhere_in_the_tests():
    text = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py"))
    faces = {name for name in dir(fastnn._kernels) if not name.startswith("_")}
    through_others = {  # by build_info, threads and runtimes
        *("COMPILER", "isa_compiled", "override_threads"),
        *("OWN_RUNTIME", "override_runtime", "is_forked"),
        *("MOST_FREQUENCIES", "MOST_OUT"),  # by PeriodicEmbedding's checks
    }
    untested = [name for name in faces - through_others if not re.search(rf"\b{name}\b", text)]
    assert untested == []
