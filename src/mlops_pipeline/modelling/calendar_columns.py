"""Which numbers of a table are its calendar in other words: the month, the day, the decimal year of each row's moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

FEWEST_ROWS = 30
"""Of fewer, nothing is said."""

NEVER = 1e-3
"""A clock goes back in at most so many of the rows, for the hours of a time zone that is not ours."""

SLOW = 0.1
"""What is the same for a while changes from row to row at most so much as often as in rows in any order."""

TURNS = 0.95
"""So many of a calendar's changes go up, or back to where it begins."""


def calendar_columns(table: pl.DataFrame, time_column: str, numbers: Iterable[str]) -> tuple[str, ...]:
    """Those of the named columns, all of numbers, that follow from when a row was."""
    ordered = table.sort(time_column, maintain_order=True, nulls_last=True)
    return tuple(name for name in numbers if follows_the_clock(ordered[name].cast(float).to_numpy()))


def follows_the_clock(values: Any) -> bool:
    """Whether values of rows in the order of time, float64, NaN where null, only grow, or grow slowly and begin anew."""
    values = values[np.isfinite(values)]
    shares = np.unique(values, return_counts=True)[1] / max(len(values), 1)
    if len(values) < FEWEST_ROWS or len(shares) < 3:
        return False
    steps = np.diff(values)
    if (steps < 0).mean() <= NEVER:
        return True
    changes = steps != 0
    turns = (steps > 0) | (values[1:] == values.min())
    return bool(changes.mean() <= SLOW * (1 - np.sum(shares**2)) and turns[changes].mean() >= TURNS)
