"""Threads: none at import, as many as asked, forks that do not hang, two trainings at once, the
environment.  Tests that need a fresh process start one, with a time limit."""

import math
import os
import threading

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import Dense, Dropout, ReLU, Sequential, _kernels
from fastnn.support.threads import _cpu_quota
from processes import LINUX, python


@LINUX
def test_import_starts_no_thread():
    assert python("before = tasks()\nimport fastnn\nprint(tasks() - before)") == ["0"]


@LINUX
def test_as_many_threads_run_as_asked_and_no_sooner(runtime):
    """Little work starts none."""
    out = python("""
import fastnn
before = tasks()
fastnn.set_num_threads(3)
product(2)
print(tasks() - before)
product()
print(tasks() - before)
product()
print(tasks() - before)
""")
    assert out == ["0", "2", "2"]


@LINUX
def test_a_thread_takes_its_team_with_it_when_it_ends():
    out = python(
        """
import threading, time
import fastnn
fastnn.set_num_threads(3)
before = tasks()
for _ in range(5):
    worker = threading.Thread(target=product)
    worker.start()
    worker.join()  # Python's part of the thread; the system's ends a moment later
for _ in range(1000):
    if tasks() > before:
        time.sleep(0.01)
print(tasks() - before)
""",
        FASTNN_RUNTIME="own",
    )
    assert out == ["0"]


@LINUX
def test_fewer_threads_end_the_others():
    out = python(
        """
import time
import fastnn
before = tasks()
for count in (5, 2, 4, 3):
    fastnn.set_num_threads(count)
    product()
    for _ in range(1000):
        if tasks() - before >= count:
            time.sleep(0.01)  # the system counts a joined thread a moment longer
    print(tasks() - before)
""",
        FASTNN_RUNTIME="own",
    )
    assert out == ["4", "1", "3", "2"]


def test_more_threads_than_work_and_than_cores(runtime):
    out = python("""
import fastnn
expected = product()
fastnn.set_num_threads(61)
for rows in (300, 60, 61, 62):
    assert (product(rows) == expected[:rows]).all()
print("done")
""")
    assert out == ["done"]


FORK = """
import fastnn
fastnn.set_num_threads(3)
{before}
expected = product() if {used} else None
child = os.fork()
if child == 0:
    code = 1
    try:
        import numpy as np
        y = product()
        model = fastnn.Sequential(fastnn.Dense(200, 100), fastnn.Dense(100, 3))
        model.fit(np.ones((200, 200)), np.zeros(200, int), loss=fastnn.SoftmaxCrossEntropy(),
                  optimizer=fastnn.Adam(), epochs=1, progress=False)
        code = 0 if expected is None or (y == expected).all() else 2
    finally:
        os._exit(code)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
product()
print("parent goes on")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("used", [True, False])
def test_a_fork_does_not_hang(used, runtime):
    """Warnings are ignored, because Python 3.12 and later warns of a fork while threads run."""
    out = python(FORK.format(before="", used=used), warnings="ignore")
    assert out == ["0", "parent", "goes", "on"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_from_another_thread_does_not_hang(runtime):
    before = """
import threading
worker = threading.Thread(target=product)
worker.start()
worker.join()
"""
    out = python(FORK.format(before=before, used=False), warnings="ignore")
    assert out == ["0", "parent", "goes", "on"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_pool_of_forked_workers(runtime):
    out = python(
        """
import multiprocessing
import fastnn
fastnn.set_num_threads(2)
expected = product()
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = pool.map(product, [300] * 6)
print(sum((y == expected).all() for y in results))
""",
        warnings="ignore",
    )
    assert out == ["6"]


def train(seed, results):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((256, 100)), rng.integers(0, 5, 256)
    model = Sequential(Dense(100, 200), ReLU(), Dropout(0.3), Dense(200, 5), seed=seed)
    model.fit(
        X, y, loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(0.01), epochs=4,
        batch_size=128, progress=False,
    )  # fmt: skip
    results[seed] = model.flat_parameters


def test_two_python_threads_train_two_models_at_once(threads, runtime):
    alone, together = {}, {}
    for seed in range(4):
        train(seed, alone)
    workers = [threading.Thread(target=train, args=(seed, together)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert set(together) == set(alone)
    for seed, flat in alone.items():
        assert_same_bits(together[seed], flat)


# ---- the calls ----


def test_set_and_get():
    for n in (1, 2, 7, _kernels.MAX_THREADS):
        fastnn.set_num_threads(n)
        assert fastnn.get_num_threads() == fastnn.build_info()["threads"] == n
    fastnn.set_num_threads(np.int64(2))
    assert fastnn.get_num_threads() == 2


def test_blocks_nest_and_belong_to_their_thread():
    fastnn.set_num_threads(2)
    seen = []
    with fastnn.threads(3):
        assert fastnn.get_num_threads() == 3
        worker = threading.Thread(target=lambda: seen.append(fastnn.get_num_threads()))
        worker.start()
        worker.join()
        with fastnn.threads(5) as block:
            assert fastnn.get_num_threads() == 5
            with block:  # the same object again
                assert fastnn.get_num_threads() == 5
        assert fastnn.get_num_threads() == 3
        fastnn.set_num_threads(7)
        assert fastnn.get_num_threads() == 3
    assert seen == [2] and fastnn.get_num_threads() == 7
    with pytest.raises(KeyError), fastnn.threads(4):
        raise KeyError
    assert fastnn.get_num_threads() == 7


def test_build_info():
    info = fastnn.build_info()
    assert info["version"] == fastnn.__version__ and info["numpy"] == np.__version__
    assert info["isa"] == _kernels.get_isa() and info["isa"] in info["isa_available"]
    assert set(info["isa_available"]) <= set(info["isa_compiled"])
    assert isinstance(info["compiler"], str) and info["compiler"]


# ---- the environment ----

SHOW = "import fastnn\nprint(fastnn.get_num_threads(), fastnn.build_info()['isa'])"


@pytest.mark.parametrize("environment, expected", [
    ({"FASTNN_NUM_THREADS": "3"}, 3), ({"OMP_NUM_THREADS": "5"}, 5),
    ({"FASTNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3), ({"OMP_NUM_THREADS": "4,2"}, 4),
    ({"FASTNN_NUM_THREADS": " 2 "}, 2), ({"FASTNN_NUM_THREADS": "", "OMP_NUM_THREADS": "6"}, 6),
    ({"FASTNN_NUM_THREADS": "256"}, 256),
])  # fmt: skip
def test_thread_counts_from_the_environment(environment, expected):
    assert python(SHOW, **environment)[0] == str(expected)


@pytest.mark.parametrize("value", ["0", "-1", "1000000", "abc", "1.5", "9" * 5000, "²", "0x2"])
@pytest.mark.parametrize("name", ["FASTNN_NUM_THREADS", "OMP_NUM_THREADS"])
def test_bad_thread_counts_in_the_environment_warn_and_are_ignored(name, value):
    program = f"""
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastnn
print(len(caught), caught[0].category.__name__, {name!r} in str(caught[0].message),
      len(str(caught[0].message)) < 200, 1 <= fastnn.get_num_threads() <= os.cpu_count())
"""
    said = python(program, FASTNN_RUNTIME="own", **{name: value})  # OpenMP has its own words for it
    assert said == ["1", "RuntimeWarning", "True", "True", "True"]


@LINUX
def test_the_default_follows_cpu_affinity():
    program = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + SHOW
    assert python(program)[0] == "1"


@pytest.mark.parametrize("name", _kernels.isa_levels())
def test_the_environment_lowers_the_instruction_set(name):
    assert python(SHOW, FASTNN_ISA=name)[1] == name
    assert python(SHOW, FASTNN_ISA=f" {name.upper()} ")[1] == name


@pytest.mark.parametrize("value", ["sse9", "avx1024", "\u00e9", "x" * 5000])
def test_an_unknown_instruction_set_in_the_environment_warns(value):
    program = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastnn
print(len(caught), caught[0].category.__name__, "FASTNN_ISA" in str(caught[0].message),
      "portable" in str(caught[0].message), fastnn.build_info()["isa"])
"""
    expected = ["1", "RuntimeWarning", "True", "True", _kernels.isa_levels()[-1]]
    assert python(program, FASTNN_ISA=value) == expected


# name -> (files of a container's control group, CPUs of its quota)
QUOTAS = {
    "no control groups": ({}, math.inf),
    "v2": ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
    "v2, none": (
        {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, math.inf),
    "v2, of the parent": (
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
         "sys/fs/cgroup/a/cpu.max": "200000 100000\n"}, 2.0),
    "v2, a container's own root": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
    "v1": (
        {"proc/self/cgroup": "4:cpu,cpuacct:/d\n3:memory:/d\n",
         "sys/fs/cgroup/cpu/d/cpu.cfs_quota_us": "300000\n",
         "sys/fs/cgroup/cpu/d/cpu.cfs_period_us": "100000\n"}, 3.0),
    "v1, none": (
        {"proc/self/cgroup": "4:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
         "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
    "rubbish": (
        {"proc/self/cgroup": "0::/a\nrubbish\n", "sys/fs/cgroup/a/cpu.max": "a b c\n"}, math.inf),
    "period 0": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "1 0\n"}, math.inf),
}  # fmt: skip


@pytest.mark.parametrize("name", QUOTAS)
def test_the_quota_of_a_control_group(name, tmp_path):
    files, expected = QUOTAS[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert _cpu_quota(str(tmp_path)) == expected
