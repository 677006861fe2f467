"""The cost model of docs/background/scale.md against a simulator, to a thousand ranks.

``python proofs/simulated_ranks.py [RANKS...]``; 2 to 256 unless told, which takes two minutes, and
1,024 half an hour.  Needs smpicc and smpirun of SimGrid (Debian: libsimgrid-dev).  SimGrid runs a
program in C that sends what an update sends, in as many processes as told, on a network of a stated
latency and bandwidth, where messages share the links; how a collective call becomes messages is as
in Open MPI.  The model must not promise more than a tenth too much, and not be far too careful.
"""

import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks")]
from scale import FEATURES, NETWORKS, messages, moved  # noqa: E402

RANKS = (2, 3, 4, 8, 16, 32, 64, 128, 256)
UPDATE = r"""
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    int rank, size, n = atoi(argv[argc - 1]), first = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int *counts = calloc(size, sizeof(int)), *begins = calloc(size, sizeof(int));
    int *gives = calloc(size, sizeof(int)), *takes = calloc(size, sizeof(int));
    int *places = calloc(size, sizeof(int));
    for (int r = 0; r < size; r++) {
        counts[r] = n / size + (r < n % size);
        begins[r] = first;
        first += counts[r];
    }
    for (int r = 0; r < size; r++) {
        gives[r] = r == rank ? 0 : counts[r];
        takes[r] = r == rank ? 0 : counts[rank];
    }
    float *vector = SMPI_SHARED_MALLOC(n * sizeof(float)); /* one for all: nobody reads it */
    float *got = SMPI_SHARED_MALLOC(n * sizeof(float));
    double *lines = SMPI_SHARED_MALLOC(7 * size * sizeof(double)), line[7] = {0};
    MPI_Barrier(MPI_COMM_WORLD);
    double begin = MPI_Wtime();
    MPI_Allgather(line, 7, MPI_DOUBLE, lines, 7, MPI_DOUBLE, MPI_COMM_WORLD);
    MPI_Alltoallv(vector, gives, begins, MPI_FLOAT, got, takes, places, MPI_FLOAT, MPI_COMM_WORLD);
    MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_FLOAT, vector, counts, begins, MPI_FLOAT, MPI_COMM_WORLD);
    double taken = MPI_Wtime() - begin, longest;
    MPI_Reduce(&taken, &longest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0) printf("%.9f\n", longest);
    MPI_Finalize();
}
"""
PLATFORM = """<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1"><zone id="all" routing="Full">
<cluster id="hosts" prefix="host" suffix="" radical="0-{last}" speed="1Gf" bw="{bandwidth}Bps"
 lat="{half}s"/>
</zone></platform>
"""  # a route has two links, each with half of the latency
OPTIONS = (
    "--log=root.thres:warning", "--cfg=network/model:CM02", "--cfg=smpi/simulate-computation:no",
    "--cfg=smpi/coll-selector:ompi",
    "--cfg=smpi/alltoallv:ring",  # as "ompi", which SMPI has for powers of two alone
)  # fmt: skip


def simulated(folder, ranks, size, latency, bandwidth):
    """How long the messages of an update take, in ms."""
    (folder / "hosts").write_text("".join(f"host{i}\n" for i in range(ranks)))
    described = PLATFORM.format(last=ranks - 1, bandwidth=bandwidth, half=latency / 2)
    (folder / "platform.xml").write_text(described)
    where = ["-platform", folder / "platform.xml", "-hostfile", folder / "hosts"]
    command = ["smpirun", "-np", str(ranks), *where, *OPTIONS, folder / "update", str(size // 4)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return 1e3 * float(done.stdout)


def main():
    ranks = tuple(map(int, sys.argv[1:])) or RANKS
    size = 4 * sum((inputs + 1) * outputs for inputs, outputs in pairwise(FEATURES))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "update.c").write_text(UPDATE)
        update = ["smpicc", "-O1", folder / "update.c", "-o", folder / "update"]
        subprocess.run(update, check=True)
        for network, (us, gb) in NETWORKS.items():
            print(f"{network}; {size:,} bytes\n\n| ranks | model, ms | simulated, ms | ratio |")
            print("|---|---|---|---|")
            for number in ranks:
                says = us / 1e3 * messages(number) + moved(number, size) / (1e6 * gb)
                found = simulated(folder, number, size, us / 1e6, 1e9 * gb)
                ratio = found / says
                print(f"| {number:,} | {says:.2f} | {found:.2f} | {ratio:.2f} |", flush=True)
                assert 0.5 < ratio < 1.1
            print()


if __name__ == "__main__":
    main()
