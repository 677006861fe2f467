"""The runtimes, fastnn's own threads and OpenMP's: who is asked, and that OpenMP's rules hold.
What both must do alike stands in test_threads.py and whole/test_determinism.py."""

import os
import pickle
import platform
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import _kernels
from processes import LINUX, python

OPENMP = pytest.mark.skipif(
    "openmp" not in fastnn.build_info()["runtimes"], reason="this build has no OpenMP"
)


def large_product():
    x = np.arange(300 * 200, dtype=np.float32).reshape(300, 200) % 7
    return _kernels.dense_forward(x, np.ones((200, 150), np.float32))


# ---- who is asked ----


@OPENMP
def test_set_and_get():
    for name in ("openmp", "own", "openmp"):
        fastnn.set_runtime(name)
        assert fastnn.get_runtime() == fastnn.build_info()["runtime"] == name
    assert "omp" in fastnn.build_info()["openmp"]


@OPENMP
def test_blocks_nest_and_belong_to_their_thread():
    fastnn.set_runtime("openmp")
    seen = []
    with fastnn.runtime("own") as block:
        assert fastnn.get_runtime() == "own"
        worker = threading.Thread(target=lambda: seen.append(fastnn.get_runtime()))
        worker.start()
        worker.join()
        with fastnn.runtime("openmp"):
            assert fastnn.get_runtime() == "openmp"
            with block:  # the same object again
                assert fastnn.get_runtime() == "own"
        assert fastnn.get_runtime() == "own"
    assert seen == ["openmp"] and fastnn.get_runtime() == "openmp"
    with pytest.raises(KeyError), fastnn.runtime("own"):
        raise KeyError
    assert fastnn.get_runtime() == "openmp"


@pytest.mark.parametrize("block", [fastnn.runtime("own"), fastnn.threads(5)])
def test_threads_may_enter_one_block_at_once(block):
    """And leave it in the order in which they entered, not the reverse."""
    settings = [fastnn.get_runtime(), fastnn.get_num_threads()]
    entered, left = threading.Event(), threading.Event()

    def other():
        with fastnn.threads(4), block:
            entered.set()
            left.wait(60)
        seen.append(fastnn.get_num_threads())

    seen = []
    worker = threading.Thread(target=other)
    with block:
        worker.start()
        entered.wait(60)
    left.set()
    worker.join(60)
    assert [fastnn.get_runtime(), fastnn.get_num_threads()] == settings
    assert seen == settings[1:]
    fastnn.set_num_threads(settings[1] + 1)  # nothing of the block is left
    assert fastnn.get_num_threads() == settings[1] + 1
    with pickle.loads(pickle.dumps(block)):
        assert fastnn.get_runtime() == "own" or fastnn.get_num_threads() == 5


@pytest.mark.parametrize("ask", [fastnn.set_runtime, fastnn.runtime])
@pytest.mark.parametrize("value, error", [("tbb", ValueError), (2, TypeError), (None, TypeError)])
def test_other_runtimes_are_refused(ask, value, error):
    with pytest.raises(error, match="runtime: expected 'own' or 'openmp', got"):
        ask(value)


def test_nothing_of_openmp_is_loaded_before_it_is_asked_for():
    program = """
import fastnn
product()
print("fastnn._openmp" in sys.modules, "libgomp" in open("/proc/self/maps").read(),
      repr(fastnn.build_info()["openmp"]))
"""
    if sys.platform == "linux":
        assert python(program, FASTNN_RUNTIME="own") == ["False", "False", "''"]


@OPENMP
@pytest.mark.parametrize("value", ["openmp", " OpenMP "])
def test_the_environment_chooses(value):
    program = "import fastnn\nprint(fastnn.get_runtime(), fastnn.build_info()['openmp'])"
    name, library = python(program, FASTNN_RUNTIME=value)
    assert name == "openmp" and "omp" in library


@pytest.mark.parametrize("value", ["tbb", "é", "x" * 5000])
def test_an_unknown_runtime_in_the_environment_warns(value):
    program = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastnn
message = str(caught[0].message)
print(len(caught), caught[0].category.__name__, message.startswith("FASTNN_RUNTIME: expected"),
      len(message) < 200, fastnn.get_runtime())
"""
    expected = ["1", "RuntimeWarning", "True", "True", "own"]
    assert python(program, FASTNN_RUNTIME=value) == expected


def test_a_build_without_openmp_says_so(monkeypatch):
    """As where the compiler does not know -fopenmp, and the module is missing."""
    before = fastnn.get_runtime()
    monkeypatch.setitem(sys.modules, "fastnn._openmp", None)
    monkeypatch.delattr(fastnn, "_openmp", raising=False)
    assert fastnn.build_info()["runtimes"] == ["own"]
    with pytest.raises(RuntimeError, match="this build of fastnn has no OpenMP"):
        fastnn.set_runtime("openmp")
    assert fastnn.get_runtime() == before


# ---- what holds under OpenMP ----


@OPENMP
def test_runtimes_and_thread_counts_that_change_between_calls():
    expected = large_product()
    for turn in range(40):
        fastnn.set_runtime(("own", "openmp")[turn % 3 == 0])
        fastnn.set_num_threads((1, 2, 5, 3, 16)[turn % 5])
        assert_same_bits(large_product(), expected)


@OPENMP
def test_many_callers_at_once():
    expected = large_product()
    fastnn.set_runtime("openmp")
    fastnn.set_num_threads(3)
    with ThreadPoolExecutor(8) as callers:
        for result in callers.map(lambda _: large_product(), range(160)):
            assert_same_bits(result, expected)


# Every thread of a parallel region of the OpenMP library that fastnn uses calls fastnn.
INSIDE = """
import ctypes
import fastnn
from fastnn import _openmp
fastnn.set_num_threads(3)
expected = product()
before = tasks()
equal = []
Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

def member(_):
    equal.append(bool((product() == expected).all()))

region = ctypes.CDLL(_openmp.path).GOMP_parallel
region.argtypes = Callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
region(Callback(member), None, 3, 0)
print(len(equal), all(equal), tasks() - before)
product()
print("goes on")
"""


@OPENMP
@LINUX
def test_inside_a_parallel_region_calls_run_on_their_thread_alone():
    out = python(INSIDE, FASTNN_RUNTIME="openmp", OMP_MAX_ACTIVE_LEVELS="5")
    assert out == ["3", "True", "0", "goes", "on"]


# Somebody lets the threads of the OpenMP library round up.
ROUNDING = """
import ctypes
import fastnn
from fastnn import _kernels, _openmp
fastnn.set_num_threads(3)
rng = np.random.default_rng(0)
x = rng.standard_normal((300, 200)).astype(np.float32)
weight = rng.standard_normal((200, 150)).astype(np.float32)
expected = _kernels.dense_forward(x, weight)
libm, UPWARD = ctypes.CDLL("libm.so.6"), 0x800
Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
region = ctypes.CDLL(_openmp.path).GOMP_parallel
region.argtypes = Callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
modes = []
region(Callback(lambda _: libm.fesetround(UPWARD) and None), None, 3, 0)
equal = all((_kernels.dense_forward(x, weight) == expected).all() for _ in range(100))
region(Callback(lambda _: modes.append(libm.fegetround())), None, 3, 0)
print(equal, modes == [UPWARD] * 3)
"""


@OPENMP
@LINUX
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the mode is a number of x86's")
def test_threads_that_round_otherwise_give_the_same_bits_and_round_so_afterwards():
    assert python(ROUNDING, FASTNN_RUNTIME="openmp") == ["True", "True"]


THREADS = """
import fastnn
fastnn.set_num_threads(1)
alone = product()
before = set(os.listdir("/proc/self/task"))
fastnn.set_num_threads(3)
print((product() == alone).all())
started = set(os.listdir("/proc/self/task")) - before
print(len(started), max(len(os.sched_getaffinity(int(task))) for task in started))
"""


@OPENMP
@LINUX
def test_a_limit_of_openmp_holds():
    """One thread is the most, though three are asked for."""
    assert python(THREADS, FASTNN_RUNTIME="openmp", OMP_THREAD_LIMIT="2")[:2] == ["True", "1"]
    assert python(THREADS, FASTNN_RUNTIME="openmp")[:2] == ["True", "2"]


@OPENMP
@LINUX
def test_places_of_openmp_hold():
    places = {"OMP_PROC_BIND": "true", "OMP_PLACES": "{0},{1}"}
    out = python(THREADS, FASTNN_RUNTIME="openmp", **places)
    assert out == ["True", "2", "1"]


@OPENMP
@LINUX
@pytest.mark.parametrize("name, value", [("OMP_PROC_BIND", "true"), ("OMP_PLACES", "cores")])
def test_places_of_openmp_leave_the_number_of_threads(name, value):
    """Though OpenMP binds the first thread to one CPU when it is loaded."""
    count = "import fastnn\nprint(fastnn.get_num_threads())"
    assert python(count, FASTNN_RUNTIME="openmp", **{name: value}) == python(count)


@OPENMP
@pytest.mark.parametrize("policy", ["active", "passive", "ACTIVE", ""])
def test_every_wait_policy_gives_the_same(policy):
    program = """
import fastnn
alone = product()
fastnn.set_num_threads(2)
print(all((product() == alone).all() for _ in range(200)))
"""
    assert python(program, FASTNN_RUNTIME="openmp", OMP_WAIT_POLICY=policy) == ["True"]


@OPENMP
def test_how_briefly_openmp_waits_is_not_told_to_child_processes():
    program = """
import fastnn
names = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
print([os.environ.get(name) for name in names])
"""
    assert python(program, FASTNN_RUNTIME="openmp") == ["[None,", "None]"]
    assert python(program, FASTNN_RUNTIME="openmp", GOMP_SPINCOUNT="7") == ["['7',", "None]"]


@OPENMP
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_own_threads():
    """libgomp's would wait for ever for those of the parent."""
    out = python(
        """
import fastnn
fastnn.set_num_threads(3)
expected = product()
child = os.fork()
if child == 0:
    code = 1
    try:
        with_openmp = True
        try:
            fastnn.set_runtime("openmp")
        except RuntimeError as error:
            with_openmp = "fork" not in str(error)
        right = (product() == expected).all() and fastnn.get_runtime() == "own"
        code = 0 if right and not with_openmp else 2
    finally:
        os._exit(code)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), fastnn.get_runtime())
""",
        warnings="ignore",
        FASTNN_RUNTIME="openmp",
    )
    assert out == ["0", "openmp"]
