"""Trainings whose bits are compared: on R processes, and on one with R times the `accumulate`.

``mpirun -n 7 python trainings.py FOLDER`` runs them on 2, 3, 4 and 7 processes, or on those numbers
of them that stand behind FOLDER; each rank prints a line of JSON: its number, and what each
training left, by size and name."""

import hashlib
import json
import sys
import tempfile
import warnings
from itertools import zip_longest

import numpy as np

import fastnn

SIZES = (2, 3, 4, 7)


def data(rows=203, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, 12)).astype(np.float32)
    return X, (X[:, 0] + 0.1 * rng.standard_normal(rows) > 0.3) + (X[:, 1] > 1).astype(int)


def network(**options):
    D = fastnn.Dense
    inner = fastnn.Block(D(33, 17, activation="tanh"), fastnn.BatchNorm(17, momentum=0.3))
    layers = [D(12, 33), fastnn.BatchNorm(33), fastnn.ReLU(), fastnn.Dropout(0.3), inner, D(17, 3)]
    return fastnn.Sequential(*layers, seed=3, **options)


class Twice(fastnn.Layer):
    """y = 2x, a layer of the user's, so that no step is recorded."""

    dimensions = None

    def forward(self, x, training=False):
        return x * 2

    def backward(self, dy, input_gradient=True):
        return dy * 2


class Logs(fastnn.Callback):
    """Logs a result, moves the learning rate and stops: what all ranks must hear of."""

    def on_epoch_end(self, run):
        run.log("epoch_squared", run.epoch**2)
        run.optimizer.learning_rate *= 0.5
        if run.epoch == 3:
            run.stop()


class StopsByBatch(fastnn.Callback):
    def on_batch_end(self, run):
        if run.epoch == 1 and run.batch >= 6:
            run.stop()


def left(model, history=None):
    """What a training left, as text."""
    found = hashlib.sha256(model._counter.tobytes())
    for array in model.state_dict().values():
        found.update(array.tobytes())
    times = ("seconds", "samples_per_second")
    columns = {name: values for name, values in (history or {}).items() if name not in times}
    return found.hexdigest()[:16] + " " + json.dumps(columns)


def trained(model, X, y=None, *, world, accumulate, optimizer=None, epochs=3, **options):
    options.setdefault("batch_size", 8)
    options.setdefault("loss", fastnn.SoftmaxCrossEntropy())
    history = model.fit(
        X, y, optimizer=optimizer or fastnn.Adam(0.01), epochs=epochs, progress=False,
        distributed=world, accumulate=accumulate, **options,
    )  # fmt: skip
    return left(model, history)


def everything(world, k, **more):
    model = network(l1=1e-4, l2=1e-3)
    model.layers[0].trainable = False
    X, y = data()
    schedule = {"learning_rate": fastnn.Cosine(warmup=1), "dropout": fastnn.FlatCosine()}
    return trained(
        model, X, y, world=world, accumulate=2 * k, schedule=schedule, class_weight="balanced",
        loss=fastnn.SoftmaxCrossEntropy(label_smoothing=0.1), validation_split=0.2, epochs=5,
        optimizer=fastnn.AdamW(0.01, weight_decay=0.1, **more),
        average=fastnn.ExponentialMovingAverage(0.9), sample_weight=np.linspace(0, 2, len(X)),
        callbacks=[fastnn.EarlyStopping("validation_loss", patience=1, restore_best=True)],
    )  # fmt: skip


def clipped_norms(world, k):
    return everything(world, k, clip_norm=1.0)


def clipped_values(world, k):
    factors = {"1.*": 0.5, "*.bias": 0.0}
    return everything(world, k, clip_value=0.02, learning_rate_factors=factors)


def few_parameters(world, k):
    """So few that some ranks have no part of the vector to add up."""
    X, y = data()
    loss, model = fastnn.SigmoidCrossEntropy(), fastnn.Sequential(fastnn.Dense(12, 1), seed=4)
    return trained(model, X, y > 0, world=world, accumulate=k, loss=loss, epochs=1)


def goes_on_alone(world, k):
    """With what the training on all ranks has left in the optimizer; then on all again."""
    model, optimizer = network(), fastnn.Adam(0.01)
    alone = k if world is None else k * world.size
    for turn, accumulate in (world, k), (None, alone), (world, k):
        options = {"optimizer": optimizer, "epochs": 1}
        found = trained(model, *data(), world=turn, accumulate=accumulate, **options)
    return found


def optimizers(world, k):
    kinds = (fastnn.SGD, fastnn.Momentum, fastnn.Nesterov, fastnn.Adam, fastnn.RMSprop)
    return [
        trained(network(), *data(), world=world, accumulate=k, optimizer=kind(0.01), epochs=1)
        for kind in kinds
    ]


def doubles_and_own_layers(world, k):
    model = fastnn.Sequential(
        fastnn.Dense(12, 5), Twice(), fastnn.BatchNorm(5), fastnn.Dense(5, 3), dtype="float64",
        seed=1,
    )  # fmt: skip
    return trained(model, *data(), world=world, accumulate=k, metrics=["accuracy"])


def sequences(world, k):
    layers = fastnn.Embedding(9, 6), fastnn.Dropout(0.2), fastnn.Conv1D(6, 4, 1)
    model = fastnn.Sequential(*layers, seed=2)
    codes = np.random.default_rng(4).integers(0, 9, (50, 7))
    y = np.where(codes % 5 < 4, codes % 5, -1)
    loss = fastnn.SoftmaxCrossEntropy(ignore_index=-1)
    return trained(model, codes, y, world=world, accumulate=k, loss=loss)


def streams(world, k):
    X, y = data()
    weight = np.linspace(0.5, 1, len(X))
    whole = [tuple(part[i : i + 9] for part in (X, y, weight)) for i in range(0, len(X), 9)]
    mine = whole if world is None else list(world.own(whole))
    return trained(
        network(l2=1e-3), mine, world=world, accumulate=k, metrics=["accuracy"],
        schedule=fastnn.Cosine(warmup=1),
    )  # fmt: skip


class InTurn:
    """A batch of each shard, one after the other."""

    def __init__(self, shards):
        self.shards = shards

    def __iter__(self):
        for round_ in zip_longest(*self.shards):
            yield from (batch for batch in round_ if batch is not None)


def shards(world, k):
    """Each process has its own rows; resumed in the middle."""
    X, y = data(200)
    number = k if world is None else world.size

    def shard(r):
        return fastnn.batches(X[r::number], y[r::number], 8, seed=r)

    if world is None:
        its = InTurn([shard(r) for r in range(number)])
        return trained(network(), its, world=None, accumulate=k, epochs=4)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/training.safetensors"
        saves, mine = fastnn.ModelCheckpoint(path), shard(world.rank)
        trained(network(), mine, world=world, accumulate=k, epochs=2, callbacks=[saves])
        mine = shard(world.rank)
        return trained(network(), mine, world=world, accumulate=k, epochs=4, resume=path)


def steps_of_streams(world, k):
    """Each process has 7 batches, of which an epoch takes 4."""
    X, y = data()
    number = 7 * (k if world is None else world.size)
    whole = [(X[i : i + 4], y[i : i + 4]) for i in range(number)]
    mine = whole if world is None else list(world.own(whole))
    return trained(network(), mine, world=world, accumulate=k, steps_per_epoch=4 * k)


def callbacks(world, k):
    plateau = fastnn.ReduceOnPlateau("loss", patience=1, min_delta=10.0)
    lists = [plateau, Logs()], [StopsByBatch()]
    return [
        trained(network(), *data(), world=world, accumulate=k, epochs=6, callbacks=callbacks)
        for callbacks in lists
    ]


def a_step_of_ones_own(world, k):
    model, loss, optimizer = network(), fastnn.SoftmaxCrossEntropy(), fastnn.Adam(0.01)
    X, y = data()
    number = 4 * (k if world is None else world.size)
    batches = [(X[7 * i : 7 * i + 7], y[7 * i : 7 * i + 7]) for i in range(number)]
    if world is None:
        step = fastnn.TrainStep(model, loss, optimizer, accumulate=k)
        losses = [step(*batch) for batch in batches]
    else:
        step = fastnn.mpi.TrainStep(world, model, loss, optimizer, accumulate=k)
        losses = [step(*batch) for batch in world.own(batches)]
        losses = [float(v) for row in zip(*world.comm.allgather(losses), strict=True) for v in row]
    return left(model, {"loss": losses})


def not_finite(world, k):
    """In the middle of the second round, a number that is too large."""
    X, y = data()
    k_alone = k if world is None else world.size
    X[8 * (k_alone + k_alone // 2)] = 3e38
    model = network()
    try:
        trained(model, X, y, world=world, accumulate=k, shuffle=False)
    except FloatingPointError as error:
        return f"{error} {left(model)}"
    raise AssertionError("expected a FloatingPointError")


def update_not_finite(world, k):
    """The losses are finite, the update is not."""
    model = network()
    try:
        trained(model, *data(), world=world, accumulate=k, optimizer=fastnn.SGD(1e38))
    except FloatingPointError as error:
        return f"{error} {left(model)}"
    raise AssertionError("expected a FloatingPointError")


CASES = (
    everything, clipped_norms, clipped_values, few_parameters, goes_on_alone, optimizers,
    doubles_and_own_layers, sequences, streams, shards, steps_of_streams, callbacks,
    a_step_of_ones_own, not_finite, update_not_finite,
)  # fmt: skip


def first_half(world, k, path):
    saves = fastnn.ModelCheckpoint(path)
    return trained(network(), *data(), world=world, accumulate=k, epochs=2, callbacks=[saves])


def second_half(world, k, path):
    return trained(network(), *data(), world=world, accumulate=k, epochs=4, resume=path)


def main(folder, sizes=SIZES):
    import fastnn.mpi

    everyone, told = fastnn.mpi.World(), {}
    for size in sizes:
        part = everyone.comm.Split(int(everyone.rank >= size))
        if everyone.rank >= size:
            continue
        world = fastnn.mpi.World(part)
        if size % 2:
            world._on_one_machine = False  # gradients travel as between machines
        told[size] = {case.__name__: case(world, 1) for case in CASES}
        if size == 2:
            first_half(world, 2, f"{folder}/of_2.safetensors")
        if size == 4:
            told[size]["resumed"] = second_half(world, 1, f"{folder}/of_2.safetensors")
            first_half(world, 1, f"{folder}/of_4.safetensors")
    print(json.dumps([everyone.rank, told]), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], tuple(map(int, sys.argv[2:])) or SIZES)
