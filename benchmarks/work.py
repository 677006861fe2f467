"""What a row of cases.py has to do, whoever runs it; limits.py makes a time of it."""

from __future__ import annotations

from typing import NamedTuple


class Work(NamedTuple):
    """The least that a row must do."""

    operations: float  # floating-point operations of its matrix products and convolutions
    traffic: float  # bytes read and written, each array once
    size: float  # bytes of these arrays together
    reads: bool = False  # as good as all of the traffic is reading
