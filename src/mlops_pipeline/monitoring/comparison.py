"""Two tables side by side: the columns they share, of one kind each, and what is left out of the comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlops_pipeline.errors import PipelineError, one_line

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["number", "category", "text", "time", "other"]

MAX_CATEGORIES = 1000
"""Text with more values than this is free text or an identifier: its distribution says nothing."""

FEW_ROWS = 100


@dataclass(frozen=True)
class Pair:
    """One column of both tables; numbers and categories have a distribution that can be compared."""

    name: str
    kind: Kind
    reference: pl.Series
    current: pl.Series

    @property
    def is_comparable(self) -> bool:
        return self.kind in ("number", "category")


def as_table(data: Any, name: str) -> pl.DataFrame:
    """A pandas or Polars frame as a Polars frame whose NaN are null; ``name`` is what errors call it.

    Raises :class:`PipelineError` if it is no frame, cannot be read, or is empty.
    """
    import polars as pl
    import polars.selectors as cs

    frame = data.collect() if isinstance(data, pl.LazyFrame) else data
    if not isinstance(frame, pl.DataFrame):
        if type(frame).__module__.partition(".")[0] != "pandas" or type(frame).__name__ != "DataFrame":
            raise PipelineError(f"{name} is a {type(data).__name__}: give a pandas or Polars data frame")
        if not frame.columns.is_unique:
            twice = frame.columns[frame.columns.duplicated()][0]
            raise PipelineError(f"{name}: column '{twice}' stands twice: rename one")
        frame = _from_pandas(frame, name)
    if not frame.width or not frame.height:
        raise PipelineError(f"{name} is empty ({frame.height} rows, {frame.width} columns): give at least one row")
    return frame.with_columns(cs.float().fill_nan(None))


def pairs(reference: pl.DataFrame, current: pl.DataFrame, said: list[str]) -> list[Pair]:
    """The columns that both tables have, in the reference's order; what is not compared is added to ``said``.

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
            said.append(f"only {name} has {listed(alone)}: not compared")
    made = [_pair(name, reference[name], current[name]) for name in common]
    for kind, why in (
        ("text", "free text or identifiers"),
        ("time", "moments, which always move on"),
        ("other", "no values, or values without an order"),
    ):
        names = [pair.name for pair in made if pair.kind == kind]
        if names:
            said.append(f"{listed(names)}: {why}; only missing values are compared")
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
    return [column.cast(pl.String) for column in whole]


def _as_whole(values: pl.Series) -> pl.Series:
    import polars as pl

    if values.dtype in (pl.Boolean, pl.Null) or values.dtype.is_integer():
        return values.cast(pl.Int64)
    if values.dtype.is_numeric() and is_whole(values):
        return values.cast(pl.Float64).cast(pl.Int64)
    return values


def is_whole(values: pl.Series) -> bool:
    """Whether every number that is there is a whole one."""
    import polars as pl

    number = values.drop_nulls().cast(pl.Float64)
    return bool((number.is_finite() & (number == number.round())).all())


def _from_pandas(frame: Any, name: str) -> pl.DataFrame:
    import polars as pl
    import pyarrow as pa

    try:
        return pl.DataFrame(pl.from_pandas(frame.set_axis([str(column) for column in frame.columns], axis=1)))
    except (pa.ArrowException, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise PipelineError(f"{name}: cannot be read as a table: {one_line(error)}: give each column values of one type") from error


def _pair(name: str, reference: pl.Series, current: pl.Series) -> Pair:
    import polars as pl

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
        return Pair(name, "category" if _has_few_values(reference, current) else "text", reference, current)
    return Pair(name, "time" if kind == "time" else "other", reference, current)


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


def _has_few_values(reference: pl.Series, current: pl.Series) -> bool:
    for values in (reference, current):
        distinct, rows = values.drop_nulls().n_unique(), len(values) - values.null_count()
        if distinct > MAX_CATEGORIES or (rows >= FEW_ROWS and distinct * 2 > rows):
            return False
    return True
