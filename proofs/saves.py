"""Saving a model is all or nothing: ``python proofs/saves.py [--kills 1000] [--seed 0]``.

Processes that do nothing but save are killed at random moments, by SIGKILL and SIGTERM in turn.
Afterwards the file must be one of the models, and the temporary files left behind are counted.
Then: savers at the same time, a full disk, a folder that nobody may write, links.  Linux only.
The exit status is 1 at the first fault."""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fastnn
from fastnn import Dense, Sequential

LONGEST = 0.03  # seconds until a kill; a save takes about a tenth of it


def model_of(seed):
    return Sequential(Dense(50, 100), Dense(100, 50), seed=seed)


MODELS = [model_of(seed) for seed in (0, 1)]


def check(holds, what):
    if not holds:
        sys.exit(f"FAULT: {what}")


def is_whole(path):
    """Whether the file is one of the two models."""
    found = fastnn.load(path).flat_parameters
    return any((found == model.flat_parameters).all() for model in MODELS)


def others(path):
    """What lies beside the file."""
    return [name for name in os.listdir(path.parent) if name != path.name]


def forked(work):
    """The process that does the work and then ends."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def save_for_ever(path):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        for model in MODELS:
            model.save(path)


def kills(path, number, chance):
    """How many kills left a temporary file behind, by signal."""
    left = {signal.SIGKILL: 0, signal.SIGTERM: 0}
    MODELS[0].save(path)
    for i in range(number):
        how = list(left)[i % 2]
        child = forked(lambda: save_for_ever(path))
        time.sleep(LONGEST * chance.random())
        os.kill(child, how)
        os.waitpid(child, 0)
        check(is_whole(path), f"kill {i} by {how.name} tore the file")
        for name in others(path):
            left[how] += 1
            (path.parent / name).unlink()
    return left


def several_at_once(path, processes, saves):
    """Each process saves over the others; readers see whole files alone."""
    children = []
    for i in range(processes):
        model = MODELS[i % 2]
        children.append(forked(lambda model=model: [model.save(path) for _ in range(saves)]))
    reads = 0
    while reads < saves:
        check(is_whole(path), "a reader saw a torn file while several saved")
        reads += 1
    codes = [ended_well(child) for child in children]
    check(all(codes), "a saver failed beside others")
    check(is_whole(path) and not others(path), "several savers left something behind")


def refused(path, save, what):
    """The save fails with an OSError that names the file; the old one stays, and nothing else."""

    def work():
        try:
            save()
        except OSError as error:
            assert error.filename == str(path), error
        else:
            raise AssertionError("it was saved")

    check(ended_well(forked(work)), what)
    check(is_whole(path) and not others(path), f"{what}: the old file did not stay alone")


def full_disk(folder):
    """A disk in memory with room for one file, or, without root, a limit on a file's size."""
    size = (folder / "size").stat().st_size
    disk = folder / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size * 3 // 2 // 4096 * 4096}", "none", disk]
    mounted = os.geteuid() == 0 and subprocess.run(options, capture_output=True).returncode == 0
    try:
        path = disk / "model"
        MODELS[0].save(path)
        limit = resource.RLIM_INFINITY if mounted else size // 2

        def save():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            MODELS[1].save(path)

        refused(path, save, "a full disk")
    finally:
        if mounted:
            subprocess.run(["umount", disk], check=True)
    return "a tmpfs that was full" if mounted else "a limit on a file's size"


def read_only(folder):
    """A folder, and then a file, that the saver may not write."""
    place = folder / "mine"
    place.mkdir()
    path = place / "model"
    MODELS[0].save(path)
    path.chmod(0o444)

    def save():
        if os.geteuid() == 0:
            os.setegid(65534)
            os.seteuid(65534)
        MODELS[1].save(path)

    refused(path, save, "a file that may not be written")
    path.chmod(0o666)
    place.chmod(0o555)
    refused(path, save, "a folder that may not be written")
    place.chmod(0o755)


def links(folder):
    """A link stays a link, its target is replaced; one to nowhere makes its target."""
    place, link = folder / "targets", folder / "link"
    place.mkdir()
    link.symlink_to(Path("targets") / "model")
    for model in MODELS * 10:
        model.save(link)
        check(link.is_symlink() and os.listdir(place) == ["model"], "a link did not stay")
        check((fastnn.load(link).flat_parameters == model.flat_parameters).all(), "another model")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        (folder / "saved").mkdir()
        path = folder / "saved" / "model"
        left = kills(path, options.kills, random.Random(options.seed))
        counts = ", ".join(f"{count} after {how.name}" for how, count in left.items())
        print(f"{options.kills} kills: no torn file; temporary files left: {counts}", flush=True)
        several_at_once(path, 4, 100)
        print("4 processes saved 100 times each: every reader saw a whole file", flush=True)
        (folder / "size").write_bytes(path.read_bytes())
        print(f"{full_disk(folder)}: OSError, the old file stays")
        read_only(folder)
        print("a read-only file and folder: OSError, the old file stays")
        links(folder)
        print("links: stay, their targets are replaced")


if __name__ == "__main__":
    main()
