"""Threads that others see and limit: threadpoolctl, joblib's backends, callers at the same time."""

import multiprocessing
import threading
import warnings
from contextlib import contextmanager

import joblib
import pytest
import threadpoolctl
from joblib.externals.loky import get_reusable_executor

import fastnn
from fastnn import _kernels
from processes import python
from sharing import task, work_until


def entry():
    (info,) = (info for info in threadpoolctl.threadpool_info() if info["user_api"] == "fastnn")
    return info


# ---- threadpoolctl ----


def test_threadpoolctl_sees_the_number_of_threads():
    for n in (1, 3, 2):
        fastnn.set_num_threads(n)
        assert entry()["num_threads"] == n
    assert entry()["version"] == fastnn.__version__
    assert entry()["runtime"] == fastnn.get_runtime()


def test_threadpoolctl_limits_the_number_of_threads():
    fastnn.set_num_threads(3)
    with threadpoolctl.threadpool_limits(limits=1):
        assert fastnn.get_num_threads() == entry()["num_threads"] == 1
        with threadpoolctl.threadpool_limits({"fastnn": 5}):
            assert fastnn.get_num_threads() == 5
        assert fastnn.get_num_threads() == 1
    assert fastnn.get_num_threads() == 3
    with fastnn.threads(3):  # as many as for the process, but for this thread alone
        with threadpoolctl.threadpool_limits(limits=1):
            pass
        fastnn.set_num_threads(2)
        assert fastnn.get_num_threads() == 3
    fastnn.set_num_threads(3)
    with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
        assert fastnn.get_num_threads() == 3
    fastnn.set_num_threads(2)  # nothing of the limit is left
    assert fastnn.get_num_threads() == 2


def test_limits_of_two_threads_do_not_restore_one_another():
    fastnn.set_num_threads(3)
    entered, left, seen = threading.Event(), threading.Event(), []

    def other():
        with threadpoolctl.threadpool_limits(limits=1):
            entered.set()
            left.wait(60)
            seen.append(fastnn.get_num_threads())
        seen.append(fastnn.get_num_threads())

    worker = threading.Thread(target=other)
    with threadpoolctl.threadpool_limits(limits=2):
        worker.start()
        entered.wait(60)
    left.set()
    worker.join(60)
    assert seen == [1, 3] and fastnn.get_num_threads() == 3


@pytest.mark.parametrize("modules", [
    "fastnn, threadpoolctl", "threadpoolctl, fastnn", "fastnn, sklearn, threadpoolctl",
    "fastnn, importlib.util; importlib.util.find_spec('threadpoolctl'); import threadpoolctl",
    "fastnn, importlib, threadpoolctl; importlib.reload(threadpoolctl)",
])  # fmt: skip
def test_fastnn_registers_whoever_is_imported_first(modules):
    program = f"""
import {modules}
fastnn.set_num_threads(2)
with threadpoolctl.threadpool_limits(1):
    print(fastnn.get_num_threads())
print(fastnn.get_num_threads())
"""
    assert python(program) == ["1", "2"]


def test_fastnn_imports_no_threadpoolctl():
    program = "import fastnn\nproduct()\nprint('threadpoolctl' in sys.modules)"
    assert python(program) == ["False"]


def test_a_program_without_threadpoolctl_imports_as_before():
    program = """
import fastnn
sys.path[:] = []
try:
    import threadpoolctl
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert python(program) == ["threadpoolctl"]


# ---- callers at the same time share the threads ----


def is_granted(n):
    return lambda: _kernels.granted_threads() == n


FORK = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork here"
)


@contextmanager
def another_thread():
    done = threading.Event()
    other = threading.Thread(target=work_until, args=(done.is_set,))
    other.start()
    try:
        yield
    finally:
        done.set()
        other.join(60)


@contextmanager
def a_forked_process():
    context = multiprocessing.get_context("fork")
    done = context.Event()
    other = context.Process(target=work_until, args=(done.is_set,))
    with warnings.catch_warnings():  # Python 3.12 and later warn of a fork while threads run
        warnings.simplefilter("ignore", DeprecationWarning)
        other.start()
    try:
        yield
    finally:
        done.set()
        other.join(60)


@pytest.mark.parametrize("other", [another_thread, pytest.param(a_forked_process, marks=FORK)])
def test_callers_at_the_same_time_share_the_threads(other):
    fastnn.set_num_threads(5)
    with other():
        assert work_until(is_granted(2))  # of five, half and rounded down
        assert fastnn.get_num_threads() == 5
        with fastnn.threads(4):  # what was set for this thread alone
            assert _kernels.granted_threads() == 4
    assert work_until(is_granted(5))


def test_nobody_is_left_without_a_thread():
    fastnn.set_num_threads(2)
    granted, looks = set(), iter(range(500))

    def has_looked_often():
        granted.add(_kernels.granted_threads())
        return next(looks, None) is None

    with another_thread(), another_thread(), another_thread():
        assert work_until(has_looked_often)
    assert granted in ({1}, {1, 2})


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_two_jobs_of_joblib_have_half_of_the_threads_each(backend, tmp_path, monkeypatch):
    cpus = joblib.cpu_count()
    if backend == "multiprocessing" and multiprocessing.get_start_method() != "fork":
        pytest.skip("processes that are not forked know nothing of one another")
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    get_reusable_executor().shutdown(wait=True)  # workers of other tests
    fastnn.set_num_threads(cpus)
    jobs = (joblib.delayed(task)(name, tmp_path, max(1, cpus // 2)) for name in "ab")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert joblib.Parallel(n_jobs=2, backend=backend)(jobs) == [True, True]
    get_reusable_executor().shutdown(wait=True)
