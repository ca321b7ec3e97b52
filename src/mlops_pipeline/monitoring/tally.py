"""What is counted of each column while a window's rows pass by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops_pipeline.contract.reference import Bins, ColumnSummary
from mlops_pipeline.modelling.summary import Floats, levels_in, numbers_in
from mlops_pipeline.monitoring.sampled import Sample
from mlops_pipeline.monitoring.texts import WINDOW_TEXTS
from mlops_pipeline.tables.cast import as_text

if TYPE_CHECKING:
    import polars as pl

BEYOND = 0.25
"""Further out than this part of the range that training saw is far outside, as the server warns of it."""


class Numbers:
    """Counts and sums in a reference's bins, and how many values lie far outside."""

    def __init__(self, before: Bins, least: float | None = None, largest: float | None = None) -> None:
        self.before = before
        self.counts = np.zeros(len(before.edges) + 1, dtype=np.int64)
        self.sums = np.zeros(len(self.counts))
        self.outside = 0
        self._edges = np.asarray(before.edges, dtype=np.float32)
        self._ends: Floats | None = None
        if least is not None and largest is not None:
            room = BEYOND * (largest - least)
            self._ends = np.array([least - room, largest + room], dtype=np.float32)

    def add(self, values: Floats) -> None:
        """Count rising values."""
        upto = np.searchsorted(values, self._edges, side="right")
        self.counts += np.diff(upto, prepend=0, append=len(values))
        running = np.append(0.0, np.cumsum(values, dtype=np.float64))
        self.sums += np.diff(running[upto], prepend=0.0, append=running[-1])
        if self._ends is not None:
            self.outside += int(np.searchsorted(values, self._ends[0], side="left"))
            self.outside += len(values) - int(np.searchsorted(values, self._ends[1], side="right"))


@dataclass
class Categories:
    """Counts of the categories that the reference lists, and of all others."""

    known: dict[str, int]
    counts: npt.NDArray[np.int64] = field(init=False)
    other: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros(len(self.known), dtype=np.int64)

    def add(self, texts: pl.Series) -> None:
        """Count categories as the reference spells them."""
        names, counts = texts.drop_nulls().value_counts(name="\0count").get_columns()
        for name, count in zip(names.to_list(), counts.to_list(), strict=True):
            place = self.known.get(name)
            if place is None:
                self.other += count
            else:
                self.counts[place] += count


class ColumnTally:
    """Everything that is counted of one column."""

    def __init__(self, name: str, summary: ColumnSummary, seed: int = 0) -> None:
        self.name, self.summary = name, summary
        self.rows = self.nulls = 0
        self.absent = False
        self.numbers = Numbers(summary.bins, summary.least, summary.largest) if summary.bins is not None else None
        levels = summary.levels
        self.categories = Categories({level: place for place, level in enumerate(levels.counts)}) if levels is not None else None
        self.texts = Sample(WINDOW_TEXTS, seed) if summary.texts is not None else None

    def add(self, table: pl.DataFrame) -> None:
        """Count a batch's values."""
        self.rows += table.height
        if self.name not in table.columns:
            self.absent = True
            self.nulls += table.height
            return
        values = table[self.name]
        if self.numbers is not None:
            there = numbers_in(values)
            self.nulls += len(values) - len(there)
            self.numbers.add(there)
        elif self.categories is not None:
            texts = levels_in(self.summary, values, self.categories.known)
            self.nulls += texts.null_count()
            self.categories.add(texts)
            if self.texts is not None:
                given = as_text(values).drop_nulls()
                self.texts.add(len(given), {"texts": given.to_numpy()})
        else:
            self.nulls += values.null_count()
