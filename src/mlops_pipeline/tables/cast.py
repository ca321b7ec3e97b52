"""Give rows the types that the dataset describes; tell apart the rows that cannot have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_pipeline.config.dataset import Column, Dataset
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.tables.source import Broken, Chunk

if TYPE_CHECKING:
    import polars as pl

TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0")


@dataclass(frozen=True)
class TypedRows:
    """The usable rows of a chunk (those without a target among them), the broken ones, and how many had no target."""

    table: pl.DataFrame
    broken: list[Broken]
    unlabelled: int
    read: int


def typed_rows(chunk: Chunk, data: Dataset, lookups: list[tuple[tuple[str, ...], pl.DataFrame]]) -> TypedRows:
    """Cast, join the lookups, derive columns, and set aside rows that break the description.

    A row is broken if a value does not parse as its column's kind, if it lies outside the column's bounds, or if it
    is null where null is not allowed. A row whose target is null is counted apart: it is unlabelled, not broken.
    """
    import polars as pl

    source = chunk.frame
    late = [*data.counts, *data.history]
    there = {*source.columns, *data.derive, *late}.union(*(table.columns for _, table in lookups))
    absent = [name for name in data.columns if name not in there]
    if absent:
        uncut = source.width == 1 and any(mark in source.columns[0] for mark in ";\t|")
        remedy = ": separate its fields with commas" if uncut else ""
        raise PipelineError(f"dataset.columns: '{absent[0]}' is not in the source: it has {', '.join(source.columns)}{remedy}")
    given = {name: column for name, column in data.columns.items() if name in source.columns}
    frame = cast_columns(source.select(list(given)), given)
    reason = first_reason(source, unparsed(frame, given))
    frame = frame.with_columns(reason.alias("__reason"))
    for keys, table in lookups:
        gone = [key for key in keys if key not in frame.columns]
        if gone:
            raise PipelineError(f"dataset.lookups.keys: '{gone[0]}' is not in the source: it has {', '.join(source.columns)}")
        new = table.select([*keys, *(name for name in table.columns if name not in frame.columns)])
        frame = frame.join(new, on=list(keys), how="left", maintain_order="left")
    frame = derive(frame, data)
    ruled = {name: column for name, column in data.columns.items() if name not in late}
    ruled[data.target] = ruled[data.target].model_copy(update={"nullable": True})
    frame = frame.with_columns(first_reason(frame, [pl.col("__reason"), *outside(ruled)]).alias("__reason"))
    good = frame.filter(pl.col("__reason").is_null())
    columns = [name for name in data.columns if name not in late]
    broken = [*chunk.broken, *as_broken(source, chunk.row_numbers, frame["__reason"])]
    return TypedRows(good.select(columns), broken, good[data.target].null_count(), source.height + len(chunk.broken))


def cast_columns(frame: pl.DataFrame, columns: dict[str, Column]) -> pl.DataFrame:
    """Cast each column to its kind's type; a value that does not parse becomes null.

    number → Float64, integer → Int64, boolean → Int8 (0 or 1), datetime → Datetime[µs] (UTC, no zone),
    category and text → String.
    """
    return frame.with_columns([_cast(frame, name, column).alias(name) for name, column in columns.items()])


def derive(frame: pl.DataFrame, data: Dataset) -> pl.DataFrame:
    """Add the configured SQL columns, typed by their description. Raises :class:`PipelineError` on a bad expression."""
    import polars as pl
    from polars.exceptions import PolarsError

    for name, sql in data.derive.items():
        try:
            made = frame.select(pl.sql_expr(sql).alias(name))
        except PolarsError as error:
            there = ", ".join(column for column in frame.columns if not column.startswith("__"))
            raise PipelineError(f"dataset.derive.{name} = {sql!r}: {one_line(error)}: columns are {there}") from error
        if made.height != frame.height:
            raise PipelineError(
                f"dataset.derive.{name} = {sql!r}: gives no value for each row: use columns, without SUM, COUNT and their like"
            )
        frame = frame.with_columns(cast_columns(made, {name: data.columns[name]}))
    return frame


def _cast(frame: pl.DataFrame, name: str, column: Column) -> pl.Expr:  # noqa: PLR0911  # one return a kind
    import polars as pl

    value, held = pl.col(name), frame.schema[name]
    if column.kind in ("number", "integer") and held == pl.String:
        value = value.str.strip_chars()
    if column.kind == "number":
        number = value.cast(pl.Float64, strict=False)
        return pl.when(number.is_finite()).then(number)
    if column.kind == "integer":
        number = value.cast(pl.Float64, strict=False)
        return pl.when(number.is_finite() & (number == number.round()) & (number.abs() < 2.0**53)).then(number).cast(pl.Int64, strict=False)
    if column.kind == "boolean":
        if held == pl.Boolean:
            return value.cast(pl.Int8)
        word = value.cast(pl.String).str.strip_chars().str.to_lowercase()
        return pl.when(word.is_in(TRUE_WORDS)).then(1).when(word.is_in(FALSE_WORDS)).then(0).cast(pl.Int8)
    if column.kind == "datetime":
        if held == pl.String:
            text = value.str.strip_chars().str.replace("T", " ", literal=True).str.strip_suffix("Z")
            forms = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")
            zoned = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", strict=False, time_unit="us", time_zone="UTC").dt.replace_time_zone(None)
            return pl.coalesce([*(text.str.to_datetime(form, strict=False, time_unit="us") for form in forms), zoned])
        if isinstance(held, pl.Datetime) and held.time_zone is not None:
            value = value.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return value.cast(pl.Datetime("us"), strict=False)
    return value.cast(pl.String, strict=False)


def unparsed(frame: pl.DataFrame, columns: dict[str, Column]) -> list[pl.Expr]:
    """Over the *source* rows of a cast frame: a reason where a value is there but did not become its column's kind."""
    import polars as pl

    return [
        pl.when(pl.col(name).is_not_null() & frame[name].is_null()).then(pl.lit(f"{name}: not a {column.kind}"))
        for name, column in columns.items()
    ]


def outside(columns: dict[str, Column]) -> list[pl.Expr]:
    """Over cast rows: a reason where a value is null or out of bounds against its column's description."""
    import polars as pl

    rules: list[pl.Expr] = []
    for name, column in columns.items():
        value = pl.col(name)
        if not column.nullable:
            rules.append(pl.when(value.is_null()).then(pl.lit(f"{name}: is null")))
        if column.min is not None:
            rules.append(pl.when(value < column.min).then(pl.lit(f"{name}: below {column.min:g}")))
        if column.max is not None:
            rules.append(pl.when(value > column.max).then(pl.lit(f"{name}: above {column.max:g}")))
    return rules


def first_reason(frame: pl.DataFrame, reasons: list[pl.Expr]) -> pl.Series:
    """The first reason that applies to each row, null where none does."""
    import polars as pl

    return frame.select(pl.coalesce([*reasons, pl.lit(None, dtype=pl.String)]).alias("reason"))["reason"]


def as_broken(source: pl.DataFrame, numbers: pl.Series, reason: pl.Series) -> list[Broken]:
    """The rows that have a reason, as they stood in the source."""
    at = reason.is_not_null().arg_true()
    return [
        Broken(number, why, why, ",".join("" if value is None else str(value) for value in line))
        for number, why, line in zip(numbers[at], reason[at], source[at].rows(), strict=True)
    ]
