"""Random networks train to the same bits however they are run:

    python proofs/random_networks.py [--networks N] [--minutes M] [--seed S]

Each is trained by `fit`, replayed; batch by batch; in Python, not recorded; by a loop of
`TrainStep`; and by the loop of docs/howto/own_loop.md.  `fit` runs on 1, 2, 3, 7, 16 or 64
threads, of fastnn's own and of OpenMP, on each instruction set; portable code, whose bits are its
own, is compared with itself.
A network is made smaller as long as its runs differ, and printed with what repeats it:
``--network '{...}'``.  The exit status is 1 at the first one."""

import argparse
import json
import sys
import time
import warnings

import numpy as np

import drawn
import fastnn
from fastnn import Callback, TrainStep, _kernels

THREADS = (1, 2, 3, 7, 16, 64)
FMA = [isa for isa in _kernels.isa_levels() if isa != "portable"]
RUNTIMES = fastnn.build_info()["runtimes"]


class EachBatch(Callback):
    """Wants to know of every batch, so that none is replayed together with others."""

    def on_batch_end(self, run):
        pass


def own(part):
    """The same part, of a class of the user's: nothing with it is recorded."""
    part.__class__ = type("Own", (type(part),), {})
    return part


class Run:
    """One way of training: what it ends with, as arrays by name."""

    def __init__(self, its):
        self.model, self.loss = drawn.network(its), drawn.loss_of(its)
        self.optimizer = drawn.optimizer_of(its)
        self.X, self.y, self.weight = drawn.data(its, self.model)
        self.its = its
        self.found = {}

    def arguments(self):
        return drawn.fit_arguments(self.its, self.X, self.y, self.weight)

    def fit(self, **more):
        arguments = self.arguments()
        history = self.model.fit(
            self.X, self.y, loss=self.loss, optimizer=self.optimizer, **arguments, **more
        )
        for name in set(history) - {"seconds", "samples_per_second"}:
            self.found[f"history {name}"] = np.array(history[name])
        if average := arguments.get("average"):
            self.found["average"] = np.array(average.updates)
        return self

    def epochs(self):
        """The batches of each epoch, as `fit` takes them: without rows that do not count."""
        its, counts = self.its, np.ones(len(self.X), bool)
        if "sample_weight" in its:
            counts &= self.weight > 0
        if its["loss"] == "softmax, masked":
            counts &= (self.y != -1).reshape(len(self.y), -1).any(axis=1)
        X, y, weight = (array[counts] for array in (self.X, self.y, self.weight))
        found = fastnn.batches(
            X, y, its["batch_size"], seed=its["seed"], drop_last=drawn.drops_last(its),
            sample_weight=weight if "sample_weight" in its else None,
        )  # fmt: skip
        for _ in range(its["epochs"]):
            yield found

    def steps(self):
        step = TrainStep(
            self.model, self.loss, self.optimizer, accumulate=self.its.get("accumulate", 1)
        )
        for epoch in self.epochs():
            for batch in epoch:
                step(*batch)
            step.flush()
        return self

    def by_hand(self):
        for epoch in self.epochs():
            for x, *targets in epoch:
                outputs = self.model.forward(x, training=True)
                _, gradient = self.loss(outputs, *targets)
                self.model.backward(gradient)
                self.optimizer.step(self.model)
        return self

    def result(self):
        """What it ended with; predictions too."""
        arrays = {**self.model.state_dict(), **self.optimizer._arrays(), **self.found}
        arrays["predictions"] = self.model.predict(self.X)
        return {name: np.array(array) for name, array in arrays.items()}


WAYS = {
    "replayed": lambda its: Run(its).fit(),
    "batch by batch": lambda its: Run(its).fit(callbacks=[EachBatch()]),
    "not recorded": lambda its: unrecorded(its).fit(),
    "TrainStep": lambda its: Run(its).steps(),
    "by hand": lambda its: Run(its).by_hand(),
}

# what a loop of one's own has no argument for
ONLY_FIT = {
    "TrainStep": {"schedule", "average", "class_weight"},
    "by hand": {"schedule", "average", "class_weight", "accumulate"},
}


def is_possible(way, its):
    return not (ONLY_FIT.get(way, set()) & its.keys())


def unrecorded(its):
    run = Run(its)
    own(run.model.layers[-1])
    return run


def trained(its, way, isa, runtime, threads):
    """What one run ends with; if it is an error, only its kind: how far it came is not said."""
    _kernels.set_isa(isa)
    with fastnn.threads(threads), fastnn.runtime(runtime):
        try:
            return WAYS[way](its).result()
        except (FloatingPointError, ValueError) as error:  # it diverged, or is no training
            return {"error": np.array(type(error).__name__)}


def settings(its):
    """The runs of a network: each way and each instruction set, on drawn numbers of threads."""
    rng = np.random.default_rng([its["seed"], 2])
    ways = [way for way in WAYS if is_possible(way, its)]
    for isa in [*FMA[-1:], "portable"]:
        for way in ways:
            yield way, isa, str(rng.choice(RUNTIMES)), int(rng.choice(THREADS))
    for isa in [*FMA, *FMA, "portable"]:
        for runtime in RUNTIMES:
            yield "replayed", isa, runtime, int(rng.choice(THREADS[1:]))


def difference(one, other):
    """The first name whose arrays differ in a bit, or ""; a NaN is a NaN."""
    if "error" in one or "error" in other:
        same = str(one.get("error")) == str(other.get("error"))
        return "" if same else f"error {one.get('error')} / {other.get('error')}"
    for name in sorted(one.keys() & other.keys()):
        a, b = one[name], other[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return name
        nan = np.isnan(a) if a.dtype.kind == "f" else np.zeros(a.shape, bool)
        if a[~nan].tobytes() != b[~nan].tobytes() or not np.isnan(b[nan]).all():
            return name
    return ""


def parting(its, runs):
    """The first run that ends with other bits than replayed on one thread, and where; or None.

    Raises ValueError for a description of no training, as of batch norm on batches of one row."""
    expected = {}
    for run in runs:
        kind = "portable" if run[1] == "portable" else FMA[0]
        if kind not in expected:
            expected[kind] = trained(its, "replayed", kind, "own", 1)
        if str(expected[kind].get("error")) == "ValueError":
            raise ValueError("this is no training")
        found = trained(its, *run)
        if run[0] in ONLY_FIT and str(found.get("error")) == "ValueError":
            continue  # batch norm refuses a last batch of one row, which `fit` leaves out
        if where := difference(expected[kind], found):
            return run, where
    return None


def shrunk(its, run):
    """The smallest description found in which this run still differs."""
    goes_on = True
    while goes_on:
        goes_on = False
        for other in drawn.smaller(its):
            try:
                differs = any(parting(other, [run]) for _ in range(3))
            except ValueError:  # what is left is no network
                continue
            if differs:
                its, goes_on = other, True
                break
    return its


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=10**9)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first network; then 1 more each"
    )
    parser.add_argument("--network", type=json.loads, help="one that was printed")
    options = parser.parse_args()
    _kernels.set_wake_work(0)  # even little work is for all threads
    warnings.simplefilter("ignore")
    end, runs, networks, refused = time.monotonic() + 60 * options.minutes, 0, 0, 0
    seed = options.seed
    while networks < options.networks and time.monotonic() < end:
        its = options.network or drawn.draw(seed)
        todo, seed = list(settings(its)), seed + 1
        try:
            found = parting(its, todo)
        except ValueError:
            refused += 1
            continue
        except BaseException:
            print(f"seed {its['seed']}: --network '{json.dumps(its)}'", flush=True)
            raise
        if found:
            print(f"seed {its['seed']}: {found[0]} differs in {found[1]}", flush=True)
            print(f"smallest: --network '{json.dumps(shrunk(its, found[0]))}'")
            sys.exit(1)
        networks, runs = networks + 1, runs + len(todo)
        if networks % 100 == 0:
            print(f"seeds {options.seed} to {seed - 1}: {runs} runs", flush=True)
        if options.network:
            break
    print(f"{networks} networks of seeds {options.seed} to {seed - 1}, {runs} runs: the same bits")
    print(f"{refused} were no training, such as batch norm on batches of one row")
    sys.exit(networks == 0 or refused > networks)


if __name__ == "__main__":
    main()
