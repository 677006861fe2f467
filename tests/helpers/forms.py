"""The same numbers in other layouts of memory, and arrays that kernels refuse."""

import numpy as np


def misaligned(a):
    """A copy that begins at an odd address."""
    memory = np.zeros(a.nbytes + 1, np.uint8)
    first = 1 - memory.ctypes.data % 2
    view = memory[first : first + a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def unusable(good):
    """What every face refuses in place of the float32 array `good`."""
    return [
        None, good.astype(np.float16), good.astype(np.int32), good.astype(">f4"), good[..., :0],
        np.repeat(good, 2, axis=-1)[..., ::2], good[..., ::-1], misaligned(good),
    ]  # fmt: skip


def overflowing(dtype):
    """Rows whose variance is infinite, though every element is finite."""
    huge = 4 * np.sqrt(np.finfo(dtype).max)
    signs = np.array([0, 1, -1, 1, -1, 0, 1, -1], dtype)
    return np.repeat(huge * signs[:, None], 3, axis=1).astype(dtype)
