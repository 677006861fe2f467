"""Recorded programs for the tests of their phases and replays."""

import numpy as np

from fastnn._kernels import Program


def record(*calls):
    program = Program()
    with program:
        for call in calls:
            call()
    return program


def count(phases):
    """The number of calls in all phases."""
    return sum(alone + sum(calls for calls, _ in chains) for alone, chains in phases)


def zeros(*shape):
    return np.zeros(shape, np.float32)
