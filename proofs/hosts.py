"""Training on several hosts over a slow network that loses packets: the same bits, and no hang.

``python proofs/hosts.py`` as root on Linux, with mpi4py and Open MPI; it takes a minute or two.
Each host is a network namespace with a TAP device; this process is the network between them: it
delays every frame and drops some.  No packet leaves the machine.  MPI goes over TCP alone, as
between machines.  On a network without faults, on a slow one and on one that loses packets:

- the trainings of tests/helpers/trainings.py on 2 and 3 hosts have the bits of one process;
- it prints what a round takes, and what the cost model of docs/background/scale.md says.

Then a host is switched off in the middle of a training: the others must end within seconds.  At
last the network falls silent, as if a cable was pulled; it prints what a time limit does, and what
TCP does that is told to give up soon.
"""

import fcntl
import heapq
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/helpers"), str(ROOT / "benchmarks")]
HOSTS = 4
NAME = f"fastnn{os.getpid()}x"  # of the namespaces, with a number behind it
TAP = struct.pack("16sH", b"", 0x0002 | 0x1000)  # IFF_TAP | IFF_NO_PI: the kernel gives it a name
TUNSETIFF = 0x400454CA
ROUNDS = """
import time
import numpy as np, fastnn, fastnn.mpi
world = fastnn.mpi.World()
model = fastnn.Sequential(fastnn.Dense(30, 30), seed=0)
step = fastnn.mpi.TrainStep(world, model, fastnn.MeanSquaredError(), fastnn.SGD(0.1))
x = np.ones((8, 30), np.float32)
step(x, x)
begin = time.perf_counter()
for _ in range(20):
    step(x, x)
if world.rank == 0:
    print((time.perf_counter() - begin) / 20)
"""
FOREVER = """
import time
import numpy as np, fastnn, fastnn.mpi
world = fastnn.mpi.World()
model = fastnn.Sequential(fastnn.Dense(100, 100), seed=0)
x = np.ones((8, 100), np.float32)
class Tell(fastnn.Callback):
    def on_epoch_end(self, run):
        if run.epoch == 3:
            print("begun", flush=True)
model.fit(x, x, epochs=10**9, batch_size=2, loss=fastnn.MeanSquaredError(),
          optimizer=fastnn.SGD(0.1), progress=False, distributed=world, callbacks=[Tell()])
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Network(threading.Thread):
    """Hosts, and what carries frames between them: `delay` seconds later, but for a part `loss`."""

    def __init__(self):
        super().__init__(daemon=True)
        self.delay, self.loss = 0.0, 0.0
        self.devices = [self._host(i) for i in range(HOSTS)]
        self.start()

    def _host(self, i):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        name = fcntl.ioctl(device, TUNSETIFF, TAP)[:16].rstrip(b"\0").decode()
        ip("netns", "add", f"{NAME}{i}")
        ip("link", "set", name, "netns", f"{NAME}{i}")
        ip("-n", f"{NAME}{i}", "addr", "add", f"10.77.0.{i + 1}/24", "dev", name)
        for up in (name, "lo"):
            ip("-n", f"{NAME}{i}", "link", "set", up, "up")
        return device

    def run(self):
        with suppress(OSError):  # once the hosts are gone
            self._carry()

    def _carry(self):
        draw, waiting, number = random.Random(0), [], 0
        while True:
            pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 1.0
            for device in select.select(self.devices, [], [], pause)[0]:
                frame = os.read(device, 70000)
                others = [d for d in self.devices if d != device]
                if draw.random() >= self.loss:
                    number += 1  # to each: who is not meant, drops it
                    heapq.heappush(waiting, (time.monotonic() + self.delay, number, frame, others))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, frame, others = heapq.heappop(waiting)
                for device in others:
                    os.write(device, frame)

    def close(self):
        for i in range(HOSTS):
            subprocess.run(["ip", "netns", "del", f"{NAME}{i}"])


def launch(folder, ranks, *program, options=()):
    """mpirun on host 0, with a rank on each host."""
    agent = Path(folder) / "agent"
    enter = f"exec ip netns exec {NAME}$i unshare --uts sh -c"
    agent.write_text(f'#!/bin/sh\ni=$((${{1##*.}} - 1)); shift\n{enter} "hostname host$i; $*"\n')
    agent.chmod(0o755)
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    hosts = ",".join(f"10.77.0.{i + 1}" for i in range(ranks))
    over_tcp = ["--mca", "pml", "ob1", "--mca", "btl", "self,tcp"]
    over_tcp += ["--mca", "mpi_yield_when_idle", "1"]  # these hosts share the cores
    command = [
        mpirun, "--allow-run-as-root", "--prtemca", "plm_ssh_agent", str(agent), *over_tcp,
        *options, "--host", hosts, "-n", str(ranks), sys.executable, *program,
    ]  # fmt: skip
    path = f"{ROOT}:{ROOT / 'tests/helpers'}"
    return subprocess.Popen(
        [str(agent), "10.77.0.1", *command], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path, "FASTNN_NUM_THREADS": "1"},
    )  # fmt: skip


def written(folder, program):
    """The program in a file."""
    path = Path(folder) / "program.py"
    path.write_text(program)
    return str(path)


def check_bits(network, folder, sizes):
    import trainings

    for ranks in sizes:
        process = launch(folder, ranks, trainings.__file__, folder, str(ranks))
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0
        told = dict(map(json.loads, out.splitlines()))
        for case in trainings.CASES:
            alone = json.loads(json.dumps(case(None, ranks)))
            assert all(told[r][str(ranks)][case.__name__] == alone for r in range(ranks)), case
        print(f"  {ranks} hosts: {len(trainings.CASES)} trainings have the bits of one process")


def check_times(network, folder):
    """What rounds take beyond their computation, on 2 to 4 hosts, where latency is all."""
    from scale import messages

    program, alone = written(folder, ROUNDS), {}
    for delay in (0.0, 0.05):
        network.delay = delay
        for ranks in range(2, HOSTS + 1):
            taken = 1e3 * float(launch(folder, ranks, program).communicate(timeout=600)[0])
            alone.setdefault(ranks, taken)
            if delay:
                says = alone[ranks] + 1e3 * delay * messages(ranks)
                print(f"  {ranks} hosts: a round takes {taken:.0f} ms, by the model {says:.0f} ms")


def check_silence(network, folder):
    """A network that carries nothing any more, and two ways to end all the same."""
    for options, retries in ((("--timeout", "60"), 15), ((), 4)):
        for i in range(HOSTS):
            setting = f"net.ipv4.tcp_retries2={retries}"
            ip("netns", "exec", f"{NAME}{i}", "sysctl", "-q", "-w", setting)
        process = launch(folder, HOSTS, written(folder, FOREVER), options=options)
        assert process.stdout.readline() == "begun\n"
        network.loss, begin = 1.0, time.monotonic()
        try:
            process.communicate(timeout=120)
            how = f"the launcher has ended after {time.monotonic() - begin:.0f} s"
        except subprocess.TimeoutExpired:
            how = "the launcher waits for more than 120 s"
        time.sleep(10)
        left = [len(pids_of(host)) for host in range(HOSTS)]
        network.loss = 0.0
        for host in range(HOSTS):
            for pid in pids_of(host):
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        process.communicate()
        print(f"  {' '.join(options) or f'tcp_retries2 = {retries}'}: {how}; left on hosts: {left}")


def pids_of(host):
    found = subprocess.run(["ip", "netns", "pids", f"{NAME}{host}"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def check_dead_host(network, folder):
    process = launch(folder, HOSTS, written(folder, FOREVER))
    assert process.stdout.readline() == "begun\n"
    begin = time.monotonic()
    for pid in pids_of(HOSTS - 1):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    while any(pids_of(host) for host in range(HOSTS)):
        assert time.monotonic() - begin < 60
        time.sleep(0.1)
    print(f"a host is dead: all ended after {time.monotonic() - begin:.1f} s")


def main():
    warnings.simplefilter("ignore")
    network = Network()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for delay, loss in ((0.0, 0.0), (0.005, 0.0), (0.001, 0.01)):
                network.delay, network.loss = delay, loss
                print(f"{1e3 * delay:g} ms one way, {loss:.0%} of the packets lost")
                check_bits(network, folder, (2, 3) if not delay else (3,))
            network.loss = 0.0
            print("50 ms one way")
            check_times(network, folder)
            network.delay = 0.0
            check_dead_host(network, folder)
            print("the network falls silent")
            check_silence(network, folder)
    finally:
        network.close()


if __name__ == "__main__":
    main()
