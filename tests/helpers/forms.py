"""Forms of an array that hold the same numbers otherwise in memory."""

import numpy as np


def misaligned(a):
    """A copy that begins at an odd address."""
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a
