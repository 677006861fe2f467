"""The work of a row of cases.py, whoever runs it; limits.py turns it into a time."""

from __future__ import annotations

from typing import NamedTuple


class Work(NamedTuple):
    """The least that a row must do."""

    operations: float  # floating-point operations of its matrix products and convolutions
    traffic: float  # bytes read and written, each array once
    size: float  # bytes of these arrays together
    reads: bool = False  # nearly all of the traffic is reading
