"""Which fastnn is tested, and the fixtures for all tests: instruction set, real type, threads.

Plain `pytest` tests the installed fastnn, `python -m pytest` the one in this tree.  But a tree
without a built extension must not hide an installed package, and a tree built in place must be
found where none is installed.  Only tests/helpers/ is on sys.path (`pythonpath` in pyproject.toml,
with --import-mode=importlib), so that tests/sklearn/ does not hide scikit-learn.
"""

import importlib.util
import math
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def choose_package():
    """Take the tree off sys.path unless it holds a built extension; add it if nothing else does."""
    built = any((ROOT / "fastnn").glob("_kernels*.so"))
    if not built:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    elif importlib.util.find_spec("fastnn") is None:
        sys.path.insert(0, str(ROOT))


choose_package()
os.environ.setdefault("MPLBACKEND", "agg")  # matplotlib draws without opening windows

# NumPy's products take one thread of OpenBLAS, which reads this when it is loaded: with two, those
# of two workers would spin against each other.  What a test starts has the environment as it was.
before = os.environ.get("OPENBLAS_NUM_THREADS")
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np  # noqa: E402

del os.environ["OPENBLAS_NUM_THREADS"]
if before is not None:
    os.environ["OPENBLAS_NUM_THREADS"] = before

import pytest  # noqa: E402

import fastnn  # noqa: E402
from fastnn import _kernels  # noqa: E402
from fastnn.support.runtimes import RUNTIMES  # noqa: E402
from fastnn.training import interrupts  # noqa: E402
from machine import ISAS  # noqa: E402
from paths import TESTS  # noqa: E402

THREADS = [1, 2, 3, 7]


def pytest_report_header():
    return (
        f"fastnn {fastnn.__version__} from {Path(fastnn.__file__).parent}, "
        f"instruction sets {', '.join(_kernels.isa_levels())}"
    )


SLOW = (
    "kernels",
    "whole",
    "sklearn",
    "export/test_c99_tables.py",
    "support/test_runtimes.py",
    "support/test_threads.py",
    "files/test_safefile.py",
)


# what is about threads besides the tests whose name or fixture says so
ABOUT_THREADS = ("kernels/test_program.py", "support/test_runtimes.py", *(
    f"whole/test_{name}.py" for name in ("all_together", "determinism", "image_networks", "shapes")
))  # fmt: skip


def pytest_collection_modifyitems(items):
    """Mark the wings that take most of the time, so that ``-m "not slow"`` leaves them out; and
    what must hold for each kind of threads, so that ``-m "not slow or threads"`` does not."""
    items.sort(key=lambda item: item.path.name != "test_pages.py")  # the longest first
    for item in items:
        path = item.path.relative_to(TESTS).as_posix()
        if path.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        if "threads" in (*item.fixturenames, *item.name.split("_")) or path.startswith(
            ABOUT_THREADS
        ):
            item.add_marker(pytest.mark.threads)


@pytest.fixture(autouse=True)
def restore_settings():
    """Restore the instruction set, the number of threads and their runtime after each test; in
    tests, even little work wakes sleeping threads, and a Ctrl-C of another test is no first press
    of two."""
    isa, threads, wake_work = _kernels.get_isa(), _kernels.get_threads(), _kernels.set_wake_work(0)
    runtime = fastnn.get_runtime()
    interrupts._last_press = -math.inf
    yield
    _kernels.set_wake_work(wake_work)
    _kernels.set_isa(isa)
    _kernels.set_bfloat16(True)
    _kernels.set_threads(threads)
    fastnn.set_runtime(runtime)


@pytest.fixture(autouse=True)
def close_figures():
    """Close what pyplot keeps open, if a test has drawn."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session", autouse=True)
def heed_ctrl_c():
    """A shell starts jobs behind `&` with Ctrl-C ignored, and so would their tests of it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=ISAS)
def isa(request):
    """Each instruction set of this architecture; those that this machine lacks are skipped."""
    if request.param not in _kernels.isa_levels():
        pytest.skip(f"this machine does not run {request.param}")
    _kernels.set_isa(request.param)
    return request.param


@pytest.fixture
def fma_isas():
    """This machine's instruction sets that promise the same bits: all but the portable one."""
    return [name for name in _kernels.isa_levels() if name != "portable"]


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=THREADS)
def threads(request):
    """Each number of threads in THREADS, however many cores there are."""
    _kernels.set_threads(request.param)
    return request.param


@pytest.fixture(params=RUNTIMES)
def runtime(request, monkeypatch):
    """Each source of threads, for this process and for those that it starts."""
    if request.param not in fastnn.build_info()["runtimes"]:
        pytest.skip("this build has no OpenMP")
    monkeypatch.setenv("FASTNN_RUNTIME", request.param)
    fastnn.set_runtime(request.param)
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)
