"""What may be told of a column: the one place that examples, schemas, reports, pages, files set aside and answers ask.

Of a private column no value is told, neither one of its rows nor the least or the greatest. Of any column no level is listed that
fewer rows have than ``min_level_rows``: it may point at a person as a name does. What a model needs stays in the model's own files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from mlops_pipeline.contract.spec import AS_TEXT
from mlops_pipeline.contract.values import MISSING, DescribedColumn, bounds
from mlops_pipeline.errors import one_line

MIN_LEVEL_ROWS = 5

RARE = "(rare)\u2063"
"""What a level that too few rows have is called while a model is fitted; the invisible sign tells it from a user's own word."""

UNTOLD = "private"
"""Stands where a private column's value would."""

EXAMPLE_ROWS = 3
_TEXTS = ("text", "a few words of text", "other words, 12 of them")
_MOMENTS = ("2024-01-31 13:45:00", "2024-05-17 08:30:00", "2024-11-02 21:15:00")
_TURN = 0.6180339887498949
"""Multiples of the golden ratio spread evenly, and no two columns' alike (Knuth, TAOCP 3, 6.4)."""


class Told(DescribedColumn, Protocol):
    """A column's description, with whether its values may be told."""

    @property
    def private(self) -> bool: ...


def private_names(columns: Mapping[str, Told]) -> frozenset[str]:
    """The columns of which no value is told."""
    return frozenset(name for name, column in columns.items() if column.private)


def told_value(column: Told | None, shown: str, what: str) -> str:
    """What is wrong with a value, with the value as it is ``shown`` unless it is private: "'x', not a number", or "not a number"."""
    return what if column is not None and column.private else f"{shown}, {what}"


def told_error(error: Exception, columns: Mapping[str, Told]) -> str:
    """What a library says of rows, in one line; its kind alone where one of their columns is private, for it may quote a value."""
    return type(error).__name__ if private_names(columns) else one_line(error)


def told_levels(column: Told, levels: Iterable[str]) -> list[str]:
    """The levels of a category that may be listed, in the order of the alphabet; none of a private one."""
    return [] if column.private else sorted(set(levels) - {MISSING, RARE})


def common(counts: Mapping[str, int], least: int) -> list[str]:
    """The levels that at least so many rows have, in the order of the alphabet."""
    return sorted(level for level, rows in counts.items() if rows >= least)


def told_cells(row: Sequence[Any], names: Sequence[str], private: Collection[str]) -> list[Any]:
    """A row's cells, those of private columns empty."""
    return [None if name in private else cell for name, cell in zip(names, row, strict=True)]


def made_up(
    columns: Mapping[str, Told],
    levels: Mapping[str, Iterable[str]],
    ranges: Mapping[str, tuple[float, float]],
    rows: int = EXAMPLE_ROWS,
) -> list[dict[str, Any]]:
    """Rows that a model takes, made of what may be told of its columns and of no row: for examples, and to prove a model on.

    A number lies within what training saw of it, if that is told, else within its bounds. Integers are int, truths 0 or 1.
    """
    return [
        {name: _made_up(column, levels.get(name, ()), ranges.get(name), place, row) for place, (name, column) in enumerate(columns.items())}
        for row in range(rows)
    ]


def _made_up(column: Told, levels: Iterable[str], seen: tuple[float, float] | None, place: int, row: int) -> Any:
    share = (0.5 + _TURN * (row * 7 + place)) % 1
    if column.kind == "category":
        listed = told_levels(column, levels)
        return listed[int(share * len(listed))] if listed else _TEXTS[0]
    if column.kind in AS_TEXT:
        return (_MOMENTS if column.kind == "datetime" else _TEXTS)[row % len(_TEXTS)]
    if column.kind == "boolean":
        return int(share > 1 / 2)
    low, high = bounds(column)
    if seen is None or column.private:
        # Within its bounds if both are stated, else a small number.
        least, most = (low, high) if column.min is not None and column.max is not None else (max(low, 0.0), min(high, 2.0))
    else:
        least, most = max(low, seen[0]), min(high, seen[1])
    least, most = min(least, most), max(least, most)
    # The middle of the range, in few digits: it is nobody's value.
    value = least + (0.1 + 0.8 * share) * (most - least)
    value = min(max(float(f"{value:.3g}"), low, least), high, most)
    if column.kind != "integer":
        return value
    whole = round(value)
    return int(whole if low <= whole <= high else min(max(whole, -(-low // 1)), high // 1))
