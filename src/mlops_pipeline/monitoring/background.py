"""A job beside a server, which takes the time that the server leaves: of one core, and after everybody else."""

from __future__ import annotations

import os

NICE = 10
"""By so much (of 19): a server that has something to do goes first, and the job still ends where the machine is never idle."""
ONE_THREAD = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What libraries read when they are loaded."""

_set_here: set[str] = set()


def step_back() -> None:
    """Go behind others. Before Polars and NumPy are loaded; what the user has set stays."""
    os.nice(NICE)
    for name in ONE_THREAD:
        if name not in os.environ:
            os.environ[name] = "1"
            _set_here.add(name)


def without_bounds() -> dict[str, str]:
    """The environment for a program that may use every core: as the user has set it."""
    return {name: value for name, value in os.environ.items() if name not in _set_here}
