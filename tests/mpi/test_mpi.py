"""Training on several processes, with a real mpirun: the bits of one process with `accumulate`."""

import json
import re

import pytest

import trainings
from launch import needs_mpi, outcome, start
from optional import import_quietly
from paths import ROOT

HOWTO = ROOT / "docs/howto/many_machines.md"


def test_bits_are_those_of_one_process_that_accumulates(tmp_path):
    """Whole trainings on 2, 3, 4 and 7 processes, and those resumed on other numbers, have them."""
    needs_mpi()
    process = start(max(trainings.SIZES), trainings.__file__, str(tmp_path))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    told = dict(map(json.loads, out.splitlines()))
    assert sorted(told) == list(range(max(trainings.SIZES)))
    for size in trainings.SIZES:
        for case in trainings.CASES:
            alone = json.loads(json.dumps(case(None, size)))
            for rank in range(size):
                assert told[rank][str(size)][case.__name__] == alone, (size, case, rank)
    whole = trainings.trained(
        trainings.network(), *trainings.data(), world=None, accumulate=4, epochs=4
    )
    assert [told[rank]["4"]["resumed"] for rank in range(4)] == [whole] * 4
    assert trainings.second_half(None, 4, tmp_path / "of_4.safetensors") == whole


def test_docstrings_hold_on_two_processes():
    needs_mpi()
    program = """
import doctest
import numpy as np
import fastnn.mpi
fastnn.mpi.World, fastnn.mpi.TrainStep
failed, tried = doctest.testmod(fastnn.mpi, extraglobs={"np": np})
print(failed, tried > 0)
"""
    code, lines, err = outcome(2, program)
    assert code == 0 and lines == ["0 True"] * 2, (lines, err)


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_programs_of_the_howto_run(tmp_path):
    needs_mpi()
    programs = [block for block in blocks(HOWTO) if "mpi" in block]
    assert len(programs) == 3
    for program in programs:
        code, _, err = outcome(2, f"import os; os.chdir({str(tmp_path)!r})\n{program}")
        assert code == 0, err
    assert (tmp_path / "training.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of five iterations, which are few
def test_the_searches_of_the_howto_run_on_a_cluster_of_dask(tmp_path):
    import_quietly("sklearn")
    distributed = import_quietly("dask.distributed")
    programs = [block for block in blocks(HOWTO) if "dask" in block]
    assert programs
    local = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with distributed.Client(**local, dashboard_address=None) as client:
        for program in programs:
            made = re.sub(r"^client = .*", "", program, flags=re.MULTILINE)
            assert made != program
            exec(made, {"client": client, "__name__": "page"})
