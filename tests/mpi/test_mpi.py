"""Training on several processes, with a real mpirun: the bits of one process with `accumulate`."""

import json

import pytest

import trainings
from launch import needs_mpi, start


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each rank told of all trainings, and the folder with their checkpoints."""
    needs_mpi()
    folder = tmp_path_factory.mktemp("checkpoints")
    process = start(max(trainings.SIZES), trainings.__file__, str(folder))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return dict(map(json.loads, out.splitlines())), folder


@pytest.mark.parametrize("size", trainings.SIZES)
@pytest.mark.parametrize("case", trainings.CASES, ids=lambda case: case.__name__)
def test_bits_are_those_of_one_process_that_accumulates(told, case, size):
    ranks, _ = told
    alone = json.loads(json.dumps(case(None, size)))
    for rank in range(size):
        assert ranks[rank][str(size)][case.__name__] == alone, rank


def test_a_checkpoint_is_resumed_on_other_numbers_of_processes(told):
    ranks, folder = told
    whole = trainings.trained(
        trainings.network(), *trainings.data(), world=None, accumulate=4, epochs=4
    )
    assert [ranks[rank]["4"]["resumed"] for rank in range(4)] == [whole] * 4
    assert trainings.second_half(None, 4, folder / "of_4.safetensors") == whole
