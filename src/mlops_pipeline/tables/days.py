"""How many rows each day of a table has, of each value of its target: counted in the pass that looks at its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlops_pipeline.tables.cast import as_moments
from mlops_pipeline.tables.profile import ColumnProfile

if TYPE_CHECKING:
    import polars as pl

DAY, VALUE, ROWS = "\0day", "\0value", "\0rows"

MOST = 100_000
"""Of so many days and values at most is counted."""


@dataclass
class Days:
    """The counts of a table of texts, of its one column that may tell the time, by each way in which that may be written."""

    target: str
    column: str | None = None
    _by_way: dict[str | None, pl.DataFrame] = field(default_factory=dict)
    _given_up: bool = False
    _is_quantity: bool = False

    def count(self, frame: pl.DataFrame, columns: Mapping[str, ColumnProfile]) -> None:
        """Take one chunk into account, which its columns' profiles have looked at."""
        if not self._given_up and self.column is None:
            timed = [column.name for column in columns.values() if column.name != self.target and column.ways]
            self.column = timed[0] if len(timed) == 1 else None
        self._given_up |= self.column is None or self.target not in columns
        if self._given_up or self.column is None:
            self._by_way = {}
            return
        self._is_quantity = columns[self.target].few is None
        raw, column = frame.select(self.column, self.target), columns[self.column]
        self._by_way = {way: self._added(self._by_way.get(way), _days(raw, column, way)) for way in column.ways}
        self._given_up = any(counted.height > MOST for counted in self._by_way.values())

    def of(self, column: str, way: str | None, *, quantity: bool) -> pl.DataFrame | None:
        """Day, value of the target as text, and rows; None if that was not counted. Of a ``quantity`` a number's value is lost."""
        return self._by_way.get(way) if column == self.column and (quantity or not self._is_quantity) else None

    def _added(self, before: pl.DataFrame | None, days: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        both = days if before is None else pl.concat([before, days])
        if self._is_quantity:  # of more values than are counted only that they are numbers matters
            number = pl.col(VALUE).cast(pl.Float64, strict=False)
            both = both.with_columns(pl.when(number.is_finite()).then(pl.lit("0")).otherwise(pl.col(VALUE)).alias(VALUE))
        return both.group_by(DAY, VALUE).agg(pl.col(ROWS).sum())


def _days(raw: pl.DataFrame, column: ColumnProfile, way: str | None) -> pl.DataFrame:
    """A chunk's days, values and rows; what its profile has read is not read again."""
    import polars as pl

    raw.columns = [DAY, VALUE]
    read = column.read.get(way)
    if read is not None and len(read) == raw.height and (way is None or not read.null_count()):
        days = raw.with_columns(read.dt.date().alias(DAY)).group_by(DAY, VALUE).agg(pl.len().cast(pl.UInt64).alias(ROWS))
    else:
        days = raw.group_by(DAY, VALUE).agg(pl.len().cast(pl.UInt64).alias(ROWS))
        days = days.with_columns(as_moments(days[DAY], way).dt.date().alias(DAY))
    return days
