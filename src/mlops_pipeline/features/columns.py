"""Columns of many rows as a recipe in plain Python takes them: what differs is looked at once, and arrays say where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlops_pipeline.features.windows import Floats, Ints

NARROW = 16
"""Numbers that spread over at most so many times their count are told apart by a table of all that lie between."""


class Uncomputable(Exception):
    """A recipe's SQL fails on some rows, as a cast does on a text that is no number.

    ``name`` is the column, ``rows`` are their places, which are looked for as they are asked for: each costs a try of its own.
    """

    def __init__(self, name: str, first: int, more: Iterator[int]) -> None:
        super().__init__(f"column '{name}' has no value on row {first}: its SQL fails there")
        self.name, self.rows = name, chain((first,), more)


class ColumnValues(Protocol):
    """A column's values, None for null."""

    def coded(self) -> Coded:
        """Its different values, and which of them each row has."""
        ...

    def numbers(self) -> Floats:
        """As float64, NaN for null."""
        ...

    def listed(self) -> list[Any]:
        """As Python's values."""
        ...

    def taken(self, places: Ints) -> ColumnValues:
        """Those of the rows at these places, in order."""
        ...


class Coded:
    """Values of Python, and for each row which of them it has. Equal ones may stand there twice."""

    def __init__(self, values: Sequence[Any], places: Ints) -> None:
        self.values, self.places = values, places

    @staticmethod
    def of(values: Sequence[Any]) -> Coded:
        """Of values that can be compared and of which equal ones are the same, as no two zeros are."""
        numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
        return Coded(list(numbers), np.fromiter(map(numbers.__getitem__, values), np.int64, len(values)))

    @staticmethod
    def each(values: Sequence[Any]) -> Coded:
        """Of any values."""
        return Coded(values, np.arange(len(values)))

    def coded(self) -> Coded:
        """Itself."""
        return self

    def numbers(self) -> Floats:
        return np.array(self.values, dtype=np.float64)[self.places]

    def texts(self, as_text: Callable[[Any], str | None]) -> NDArray[Any]:
        """As text, dtype object."""
        texts = np.empty(len(self.values), dtype=object)
        texts[:] = list(map(as_text, self.values))
        return texts[self.places]

    def listed(self) -> list[Any]:
        values = self.values
        return [values[place] for place in self.places.tolist()]

    def taken(self, places: Ints) -> Coded:
        return Coded(self.values, self.places[places])


class Numbers:
    """Numbers, float64 or int64, and which of them are null (None: none)."""

    def __init__(self, values: NDArray[Any], null: NDArray[np.bool_] | None) -> None:
        self._values, self._null = values, null
        self._coded: Coded | None = None

    @staticmethod
    def of(values: Floats, *, whole: bool) -> Numbers:
        """Of numbers with NaN for null; ``whole`` ones are Python's integers."""
        null = np.isnan(values)
        if not null.any():
            return Numbers(values.astype(np.int64) if whole else values, None)
        return Numbers(np.where(null, 0, values).astype(np.int64) if whole else values, null)

    def coded(self) -> Coded:
        """Its different values, by their bits, and which of them each row has."""
        if self._coded is None:
            values = np.ascontiguousarray(self._values)
            rows, places = told_apart(values.view(np.int64))
            different = values[rows].tolist()
            if self._null is not None:
                places = np.where(self._null, len(different), places)
                different.append(None)
            self._coded = Coded(different, places)
        return self._coded

    def numbers(self) -> Floats:
        values = self._values.astype(np.float64, copy=False)
        return values if self._null is None else np.where(self._null, np.nan, values)

    def listed(self) -> list[Any]:
        values = self._values.tolist()
        return values if self._null is None else [None if null else value for value, null in zip(values, self._null.tolist(), strict=True)]

    def taken(self, places: Ints) -> Numbers:
        return Numbers(self._values[places], None if self._null is None else self._null[places])


_KEYS: Mapping[str, Callable[[Sequence[Any]], Coded]] = {"number": Coded.each}


def column_of(values: Sequence[Any], kind: str) -> ColumnValues:
    """A column of Python's values of a kind."""
    return _KEYS.get(kind, Coded.of)(values)


def keyed(columns: Sequence[ColumnValues], count: int) -> tuple[list[tuple[Any, ...]], Ints]:
    """The different combinations of so many rows' values, and which of them each row has."""
    if not columns:
        return [()], np.zeros(count, dtype=np.int64)
    parts = [column.coded() for column in columns]
    places, size = parts[0].places, len(parts[0].values)
    for part in parts[1:]:
        if size > (1 << 62) // max(1, len(part.values)):
            rows, places = told_apart(places)
            size = len(rows)
        places, size = places * len(part.values) + part.places, size * len(part.values)
    rows, places = told_apart(places)
    return list(zip(*(part.taken(rows).listed() for part in parts), strict=True)), places


def told_apart(values: Ints) -> tuple[Ints, Ints]:
    """Of integers: a row of each different one, and for each row which of these is its own."""
    count = values.size
    if count:
        low = int(values.min())
        span = int(values.max()) - low + 1
        if span <= NARROW * count:
            offsets = values - low
            table = np.full(span, -1, dtype=np.int64)
            table[offsets] = np.arange(count)
            there = np.flatnonzero(table >= 0)
            rows = table[there]
            table[there] = np.arange(there.size)
            return rows, table[offsets]
    _, rows, places = np.unique(values, return_index=True, return_inverse=True)
    return rows, places
