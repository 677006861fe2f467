"""Training on several processes, with a real mpirun: the bits of one process with `accumulate`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
import trainings
from paths import import_path

MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
pytest.importorskip("mpi4py", reason="mpi4py is not installed")
if MPIRUN is None:
    pytest.skip("no mpirun is installed", allow_module_level=True)
OPEN = "Open MPI" in subprocess.run([MPIRUN, "--version"], capture_output=True, text=True).stdout


def start(ranks, *program, options=(), **environment):
    """mpirun, which runs a program on so many processes of this machine."""
    if OPEN:
        options = "--allow-run-as-root", "--oversubscribe", *(options or ("--bind-to", "none"))
    path = os.pathsep.join(import_path(__file__))
    return subprocess.Popen(
        [MPIRUN, *options, "-n", str(ranks), sys.executable, *program], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip


def run(ranks, program, **more):
    """The return code, output and errors of a program in a string."""
    process = start(ranks, "-c", HEAD + program, **more)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each rank told of all trainings, and the folder with their checkpoints."""
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
