"""Two tables side by side: the columns they share, of one kind each, and what is left out of the comparison."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.tables.cast import as_numbers

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["number", "category", "prose", "text", "time", "other"]

MAX_CATEGORIES = 1000
"""Text with more values than this is free text or an identifier: its distribution says nothing."""

PROSE = 3
"""Words of a value, in the mean, from which on text that nobody described is sentences rather than identifiers."""

FEW_ROWS = 100

LARGEST = 1e150
"""Numbers beyond this count as infinite: their squares, which a standard deviation adds up, are."""


@dataclass(frozen=True)
class Pair:
    """One column of both tables; numbers and categories have a distribution that can be compared, prose is read."""

    name: str
    kind: Kind
    reference: pl.Series
    current: pl.Series

    @property
    def is_comparable(self) -> bool:
        return self.kind in ("number", "category", "prose")

    @property
    def is_lost(self) -> bool:
        """Whether the reference has values and the current data has none."""
        return self.current.null_count() == len(self.current) and self.reference.null_count() < len(self.reference)


def as_table(data: Any, name: str, notes: list[str]) -> pl.DataFrame:
    """A pandas or Polars frame as a Polars frame; NaN and infinite numbers are null, the latter said. ``name``: what messages call it.

    Raises :class:`PipelineError` if it is no frame, cannot be read, or is empty.
    """
    import polars as pl

    frame = _collected(data, name) if isinstance(data, pl.LazyFrame) else data
    if not isinstance(frame, pl.DataFrame):
        if type(frame).__module__.partition(".")[0] != "pandas" or type(frame).__name__ != "DataFrame":
            raise PipelineError(f"{name} is a {type(data).__name__}: give a pandas or Polars data frame")
        if not frame.columns.is_unique:
            twice = frame.columns[frame.columns.duplicated()][0]
            raise PipelineError(f"{name}: column '{twice}' stands twice: rename one")
        frame = _from_pandas(frame, name)
    if not frame.width or not frame.height:
        raise PipelineError(f"{name} is empty ({frame.height} rows, {frame.width} columns): give at least one row")
    return _finite(frame, name, notes)


def pairs(reference: pl.DataFrame, current: pl.DataFrame, notes: list[str], prose: Collection[str] = ()) -> list[Pair]:
    """The columns that both tables have, in the reference's order; what is not compared is added to ``said``.

    ``prose``: columns that are known to hold sentences.

    Raises :class:`PipelineError` if there are none, or if a column is of unlike types.
    """
    common = [name for name in reference.columns if name in current.columns]
    if not common:
        raise PipelineError(
            "the reference and the current data have no column in common: "
            f"the reference has {listed(reference.columns)}; the current data has {listed(current.columns)}"
        )
    for table, other, name in ((reference, current, "the reference"), (current, reference, "the current data")):
        alone = [column for column in table.columns if column not in other.columns]
        if alone:
            notes.append(f"only {name} has {listed(alone)}: not compared")
    made = [_pair(name, reference[name], current[name], is_prose=name in prose) for name in common]
    for kind, why in (
        ("text", "free text or identifiers"),
        ("time", "dates or times, always later in newer data"),
        ("other", "no values, or values without an order"),
    ):
        names = [pair.name for pair in made if pair.kind == kind]
        if names:
            notes.append(f"{listed(names)}: {why}; only missing values are compared")
    return made


def listed(names: Sequence[object], most: int = 12) -> str:
    """Names in one line, the first few of them if there are many."""
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def labels(columns: Iterable[pl.Series]) -> list[pl.Series]:
    """Class labels that compare equal across columns: whole numbers where all are, else text."""
    import polars as pl

    whole = [_as_whole(column) for column in columns]
    if all(column.dtype == pl.Int64 for column in whole):
        return whole
    return [_as_text(column) for column in whole]


def _as_text(labels: pl.Series) -> pl.Series:
    import polars as pl

    try:
        return labels.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        raise PipelineError(f"column '{labels.name}' is of type {labels.dtype}, which holds no classes: name another column") from error


def _as_whole(values: pl.Series) -> pl.Series:
    import polars as pl

    if values.dtype in (pl.Boolean, pl.Null) or values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
    elif values.dtype.is_numeric() and is_whole(values):
        whole = values.cast(pl.Float64).cast(pl.Int64, strict=False)
    else:
        return values
    # A number that 64 bits with a sign do not hold has become null.
    return whole if whole.null_count() == values.null_count() else values


def is_whole(values: pl.Series) -> bool:
    """Whether every number that is there is a whole one."""
    import polars as pl

    number = values.drop_nulls().cast(pl.Float64)
    return bool((number.is_finite() & (number == number.round())).all())


def _collected(data: pl.LazyFrame, name: str) -> pl.DataFrame:
    import polars as pl

    try:
        return data.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PipelineError(f"{name}: the lazy frame cannot be collected: {one_line(error)}: mend its query") from error


def _finite(frame: pl.DataFrame, name: str, notes: list[str]) -> pl.DataFrame:
    """The frame with null for numbers that no sum and no distance can take; those that are not NaN are counted in ``said``."""
    import polars as pl

    floats = [column for column, dtype in frame.schema.items() if dtype.is_float()]
    if not floats:
        return frame
    # Both, as the bound itself is infinite for numbers of 32 bits.
    usable = pl.col(floats).is_finite() & (pl.col(floats).abs() <= LARGEST)
    counts = frame.select((~usable & pl.col(floats).is_not_nan()).sum()).row(0)
    infinite = [
        f"{count:,} of {frame.height:,} in '{column}' ({count / frame.height:.1%})"
        for column, count in zip(floats, counts, strict=True)
        if count
    ]
    if infinite:
        notes.append(f"{name}: infinite numbers, or beyond {LARGEST:g}, count as missing: {listed(infinite)}")
    return frame.with_columns(pl.when(usable).then(pl.col(floats)))


def _from_pandas(frame: Any, name: str) -> pl.DataFrame:
    import polars as pl
    import pyarrow as pa

    try:
        return pl.DataFrame(pl.from_pandas(frame.set_axis([str(column) for column in frame.columns], axis=1)))
    except (pa.ArrowException, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise PipelineError(f"{name}: cannot be read as a table: {one_line(error)}: give each column values of one type") from error


def _pair(name: str, reference: pl.Series, current: pl.Series, *, is_prose: bool = False) -> Pair:
    import polars as pl

    reference, current = _in_seconds(reference), _in_seconds(current)
    kinds = {_raw_kind(reference), _raw_kind(current)} - {"empty"}
    if kinds == {"number", "boolean"}:
        kinds, reference, current = {"number"}, _as_number(reference), _as_number(current)
    if kinds == {"text", "time"}:
        kinds = {"time"}
    if len(kinds) > 1:
        types = f"{reference.dtype} in the reference and {current.dtype} in the current data"
        raise PipelineError(f"column '{name}' is of type {types}: give both the same type")
    kind = kinds.pop() if kinds else "other"
    if kind == "number":
        return Pair(name, "number", reference.cast(pl.Float64), current.cast(pl.Float64))
    if kind == "boolean":
        return Pair(name, "category", reference.cast(pl.String), current.cast(pl.String))
    if kind == "text":
        reference, current = reference.cast(pl.String), current.cast(pl.String)
        # By the reference alone: values that are new in the current data are drift, however many they are.
        if is_prose or (not _has_few_values(reference) and _holds_sentences(reference)):
            return Pair(name, "prose", reference, current)
        return Pair(name, "category" if _has_few_values(reference) else "text", reference, current)
    return Pair(name, "time" if kind == "time" else "other", reference, current)


def _in_seconds(values: pl.Series) -> pl.Series:
    """Times of day and durations as numbers of seconds, which is what they are in a pipeline's table; another column as it is."""
    import polars as pl

    return as_numbers(values, "number") if values.dtype in (pl.Time, pl.Duration) else values


def _raw_kind(values: pl.Series) -> str:
    import polars as pl

    if values.null_count() == len(values):
        return "empty"
    if values.dtype.is_numeric():
        return "number"
    if values.dtype == pl.Boolean:
        return "boolean"
    if values.dtype.is_temporal():
        return "time"
    return "text" if isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum) else "nested"


def _as_number(values: pl.Series) -> pl.Series:
    import polars as pl

    return values.cast(pl.Int8) if values.dtype == pl.Boolean else values


def _holds_sentences(values: pl.Series) -> bool:
    words = values.drop_nulls().head(1000).str.count_matches(r"\w+").mean()
    return isinstance(words, float) and words >= PROSE


def _has_few_values(values: pl.Series) -> bool:
    distinct, rows = values.drop_nulls().n_unique(), len(values) - values.null_count()
    return distinct <= MAX_CATEGORIES and (rows < FEW_ROWS or distinct * 2 <= rows)
