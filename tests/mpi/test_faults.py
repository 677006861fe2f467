"""What ends a training on several processes: errors, dead ranks, Ctrl-C, and ranks that differ."""

import signal
import time

import pytest

import trainings
from launch import needs_mpi, outcome, start

HEAD = """
import os, signal, sys, time
import numpy as np
import fastnn, fastnn.mpi
import trainings

world = fastnn.mpi.World()
rank = world.rank

def fit(X=None, y=None, **options):
    if X is None:
        X, y = trainings.data()
    model = options.pop("model", None) or trainings.network()
    options = {"accumulate": 1, "epochs": 2} | options
    return trainings.trained(model, X, y, world=world, **options)
"""


@pytest.fixture(autouse=True)
def mpi():
    needs_mpi()


def test_differences_are_named_on_all_ranks():
    """And all ranks can go on."""
    program = """
def told(**options):
    try:
        fit(**options)
    except ValueError as error:
        texts = world.comm.allgather(str(error))
        assert texts[0] == texts[1]
        if rank == 0:
            print(error)

X, y = trainings.data()
told(optimizer=fastnn.Adam(0.01 * (1 + rank)))
told(X=X[: 203 - rank], y=y[: 203 - rank])
told(X=X + rank, y=y)
told(epochs=1 + rank)
told(seed=rank)
told(metrics=["accuracy", "balanced_accuracy"][: 1 + rank])
told(accumulate=1 + rank)
told(model=trainings.network(l2=0.1 * rank))
told(callbacks=[fastnn.EarlyStopping("loss", patience=1 + rank)])
told(model=fastnn.Sequential(fastnn.Dense(12, 3), seed=rank))
whole = fit()
print(whole == world.comm.bcast(whole))
"""
    code, lines, err = outcome(2, HEAD + program)
    assert code == 0, err
    text = "\n".join(lines)
    for said in (
        "the ranks differ: rank 1: optimizer is Adam(learning_rate=0.02), on rank 0 "
        "Adam(learning_rate=0.01)",
        "rank 1: rows is 202, on rank 0 203",
        "the ranks differ: rank 1: data is ",
        "the ranks differ: rank 1: epochs is 2, on rank 0 1",
        "the ranks differ: rank 1: order is ",
        "the ranks differ: rank 1: results is ['loss', 'accuracy', 'balanced_accuracy', ",
        "the ranks differ: rank 1: accumulate is 4, on rank 0 2",
        "the ranks differ: rank 1: l2 is 0.1, on rank 0 0.0",
        "the ranks differ: rank 1: callbacks is [('EarlyStopping', {'patience': 2, ",
        "the ranks differ: rank 1: seed of the model is 1, on rank 0 0; ",
    ):
        assert said in text
    assert lines.count("True") == 2


def test_an_error_of_one_rank_ends_all_and_says_whose_it_was():
    program = """
def batches():
    for i in range(30):
        if rank == 1 and i == 7:
            raise OSError("the disk is gone")
        yield np.ones((4, 12)), np.zeros(4, int)
fit(list(batches()) if rank == 2 else batches(), epochs=1)
time.sleep(60)
"""
    begin = time.monotonic()
    code, _, err = outcome(3, HEAD + program)
    assert code != 0
    assert "OSError: the disk is gone\nrank 1 of 3 ends all ranks by this error" in err
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    "program",
    [
        "if rank == 1: sys.exit()\nfit()",
        "if rank == 0: sys.exit(3)\nfit()",
        """
from fastnn import SGD, MeanSquaredError
model, batch = fastnn.Sequential(fastnn.Dense(4, 4)), np.ones((8, 4), np.float32)
step = fastnn.mpi.TrainStep(world, model, MeanSquaredError(), SGD(0.1))
for i in range(9):
    if rank == 2 and i == 7:
        sys.exit()
    step(batch, batch)
""",
    ],
    ids=["before fit", "rank 0", "between steps"],
)
def test_a_rank_that_leaves_by_sys_exit_ends_those_that_wait_for_it(program):
    code, _, err = outcome(3, HEAD + program)
    assert code != 0
    who = {"rank == 1": 1, "rank == 0": 0, "rank == 2": 2}
    left = next(number for text, number in who.items() if text in program)
    assert f"rank {left} of 3 has left, by sys.exit() or at its end, and rank " in err


def test_ranks_that_end_at_other_times_end_well():
    program = """
fit()
if rank == 0:
    time.sleep(5)
    print("done")
"""
    code, lines, err = outcome(2, HEAD + program)
    assert code == 0 and lines == ["done"], err


def test_an_error_before_the_training_ends_all_and_says_whose_it_was():
    program = "if rank == 1:\n    raise OSError('no such file')\nfit()"
    code, _, err = outcome(2, HEAD + program)
    assert code != 0
    assert "OSError: no such file\nrank 1 of 2 ends all ranks by this error" in err


def test_the_training_of_a_killed_rank_ends_and_goes_on_from_its_checkpoint(tmp_path):
    program = """
X, y = trainings.data()
class Rows:
    def __init__(self): self.epoch = 0
    def __iter__(self):
        self.epoch += 1
        for i in range(rank, 24, 2):
            if rank == 1 and self.epoch == 3 and i == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            yield X[i * 8 : i * 8 + 8], y[i * 8 : i * 8 + 8]
fit(Rows(), epochs=4, callbacks=[fastnn.ModelCheckpoint(sys.argv[1])])
"""
    path = str(tmp_path / "training.safetensors")
    code, _, err = outcome(2, HEAD + program, path)
    assert code != 0 and "rank 1" in err
    X, y = trainings.data()
    whole = [(X[i : i + 8], y[i : i + 8]) for i in range(0, 192, 8)]
    options = {"world": None, "accumulate": 2, "epochs": 4}
    resumed = trainings.trained(trainings.network(), whole, resume=path, **options)
    assert resumed == trainings.trained(trainings.network(), whole, **options)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ctrl_c_on_one_rank_ends_the_training_of_all(name):
    program = f"""
class Press:
    epoch = 0
    def __iter__(self):
        self.epoch += 1
        for i in range(20):
            if rank == 1 and self.epoch == 3 and i == 5:
                os.kill(os.getpid(), signal.{name})
            yield np.ones((4, 12)), np.zeros(4, int)
model = trainings.network()
history = model.fit(
    Press(), epochs=10**6, loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(0.01),
    progress=False, distributed=world,
)
print(history.epochs, history.interrupted, trainings.left(model))
"""
    code, lines, err = outcome(2, HEAD + program)
    assert code == 0, err
    assert lines[0].startswith("2 True") and lines[0] == lines[1]


def test_what_no_rank_can_do_alone_is_refused_on_all():
    program = """
class Stateful(fastnn.Layer):
    def __init__(self):
        self.state = {"seen": np.zeros(1, np.float32)}
    def forward(self, x, training=False):
        return x
    def backward(self, dy, input_gradient=True):
        return dy

def told(**options):
    try:
        fit(**options)
    except (TypeError, ValueError) as error:
        print(rank, type(error).__name__, error)

batch = np.ones((4, 12)), np.zeros(4, int)
told(X=[batch] * (3 + 2 * rank))
told(X=[batch] * (3 + 1 * rank))
told(model=fastnn.Sequential(fastnn.Dense(12, 3), Stateful()))
class First(fastnn.Callback):
    batches = 0
    def on_batch_begin(self, run):
        First.batches += 1
first = First()
fit([batch] * (4 - rank), callbacks=[first])
print(rank, "batches", first.batches)
"""
    code, lines, err = outcome(2, HEAD + program)
    assert code == 0, err
    expected = (
        "X: rank 1 has more batches than rank 0, expected as many on each rank as on the one "
    )
    for rank in (0, 1):
        own = [line for line in lines if line.startswith(f"{rank} ")]
        assert sum(expected in line for line in own) == 2
        assert sum("has a state, which ranks cannot bring together" in line for line in own) == 1
    assert "0 batches 8" in lines and "1 batches 0" in lines


def test_threads_follow_the_cores_that_the_launcher_gives():
    program = "print(fastnn.get_num_threads(), len(os.sched_getaffinity(0)))"
    program = HEAD + "fastnn.mpi.World()\n" + program
    one = outcome(2, program, FASTNN_NUM_THREADS="", OMP_NUM_THREADS="")[1]
    cores = int(one[0].split()[1])
    assert [int(line.split()[0]) for line in one] == [max(1, cores // 2)] * 2
    told = outcome(2, program, FASTNN_NUM_THREADS="3")[1]
    assert [line.split()[0] for line in told] == ["3", "3"]


def test_ctrl_c_for_the_launcher_ends_all():
    program = """
class Tell(fastnn.Callback):
    def on_epoch_end(self, run):
        if run.epoch == 2:
            print("begun", flush=True)
fit(epochs=10**6, callbacks=[Tell()])
print("over", flush=True)
"""
    process = start(2, "-c", HEAD + program)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
