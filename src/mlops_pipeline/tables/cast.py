"""Give rows the types that the dataset describes; tell apart the rows that cannot have them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Column, Dataset
from mlops_pipeline.contract.values import BLANKS, FALSE_WORDS, LARGEST_INTEGER, TRUE_WORDS, bounds, spelled, truth_of
from mlops_pipeline.tables.source import Broken

if TYPE_CHECKING:
    import polars as pl


class Spelling:
    """How a target of true and false is written in its source: counted as chunks go by."""

    def __init__(self) -> None:
        self._counts: dict[tuple[bool, Any], int] = {}

    def look(self, source: pl.DataFrame, data: Dataset) -> None:
        """Count the spellings of one chunk."""
        if data.columns[data.target].kind != "boolean" or data.target not in source.columns or data.target in data.derive:
            return
        for value, count in source[data.target].value_counts(name="\0count").iter_rows():
            truth = value if isinstance(value, bool) else truth_of(value.strip(BLANKS)) if isinstance(value, str) else None
            if truth in (0.0, 1.0):
                word = value if isinstance(value, bool) else value.strip(BLANKS)
                self._counts[bool(truth), word] = self._counts.get((bool(truth), word), 0) + count

    def words(self) -> list[str | bool]:
        """The usual word for false and the one for true; none if one of them never occurs, or if they are 0 and 1."""
        usual: list[str | bool] = []
        for truth in (False, True):
            known = sorted(
                ((count, str(word), word) for (said, word), count in self._counts.items() if said is truth),
                key=lambda one: (-one[0], one[1]),
            )
            if not known:
                return []
            usual.append(known[0][2])
        return [] if [str(word).removesuffix(".0") for word in usual] == ["0", "1"] else usual


def cast_columns(frame: pl.DataFrame, columns: Mapping[str, Column], null_words: Collection[str] = ()) -> pl.DataFrame:
    """Cast each column to its kind's type; a value that is none of its kind becomes null, and, but for categories, a text that means it.

    number → Float64, integer → Int64, boolean → Int8 (0 or 1), datetime → Datetime[µs] (UTC, no zone),
    category and text → String.
    """
    return frame.with_columns([_cast(frame, name, column, null_words).alias(name) for name, column in columns.items()])


def as_numbers(values: pl.Series, kind: str, null_words: Collection[str] = ()) -> pl.Series:
    """A column of numbers or truths as Float64, infinity among them; null for NaN, for a word for null and for what is none of the kind."""
    import polars as pl

    held = values.dtype
    if held == pl.Boolean:
        return values.cast(pl.Float64) if kind == "boolean" else _nulls(values, pl.Float64())
    if _is_text(held):
        text = values.cast(pl.String).str.strip_chars(BLANKS)
        text = text.set(text.is_in(list(null_words)), None) if null_words else text
        number = text.cast(pl.Float64, strict=False)
        if kind == "boolean":
            word = text.str.to_lowercase()
            yes, no = word.is_in(TRUE_WORDS), word.is_in(FALSE_WORDS)
            number = pl.select(pl.when(yes).then(1.0).when(no).then(0.0).otherwise(number).alias(values.name)).to_series()
    elif held.is_numeric():
        number = values.cast(pl.Float64, strict=False)
    else:
        return _nulls(values, pl.Float64())
    return number.fill_nan(None)


def as_text(values: pl.Series) -> pl.Series:
    """A column as text, whatever type it is stored in; NaN is null."""
    import polars as pl

    if _is_text(values.dtype):
        return values.cast(pl.String)
    if values.dtype.is_integer():
        return values.cast(pl.String)
    if values.dtype.is_temporal():
        return values.cast(pl.String).str.replace(r"\.0+$", "")
    known = values.drop_nulls().unique()
    if known.dtype == pl.Float32:
        # The shortest text of a 32-bit float is what its owner wrote, not its digits as a 64-bit one.
        new = [spelled(float(text)) for text in known.cast(pl.String)]
    else:
        new = [spelled(value) for value in known.to_list()]
    return values.replace_strict(known, pl.Series(new, dtype=pl.String), default=None, return_dtype=pl.String)


def are_there(values: pl.Series, kind: str, null_words: Collection[str] = ()) -> pl.Series:
    """Where a column of a kind has a value: not null, not NaN and no word for null."""
    import polars as pl

    there = values.is_not_null()
    if values.dtype.is_float():
        return there & values.is_not_nan().fill_null(value=False)
    if _is_text(values.dtype):
        text = values.cast(pl.String)
        if kind in ("category", "text"):
            return there & ~text.is_in(list(null_words)).fill_null(value=True)
        text = text.str.strip_chars(BLANKS)
        nothing = text.is_in(list(null_words)) | text.str.contains("(?i)^[+-]?nan$")
        return there & ~nothing.fill_null(value=True)
    return there


def _is_text(held: pl.DataType) -> bool:
    import polars as pl

    return held == pl.String or held == pl.Categorical or held == pl.Enum  # noqa: PLR1714  # a type compares with a class, and hashes as none


def _nulls(values: pl.Series, held: pl.DataType) -> pl.Series:
    import polars as pl

    return pl.Series(values.name, [None], dtype=held).new_from_index(0, len(values))


def _cast(frame: pl.DataFrame, name: str, column: Column, null_words: Collection[str]) -> pl.Expr | pl.Series:
    import polars as pl

    values = frame[name]
    if column.kind == "datetime":
        return _as_moment(values)
    if column.kind == "text":
        return values.cast(pl.String, strict=False)
    if column.kind == "category":
        return as_text(values)
    number = as_numbers(values, column.kind, null_words)
    if column.kind == "number":
        return number.set(~number.is_finite(), None)
    low, high = (0.0, 1.0) if column.kind == "boolean" else (-LARGEST_INTEGER, LARGEST_INTEGER)
    usable = (number == number.round()) & number.is_between(low, high)
    return number.set(~usable, None).cast(pl.Int8 if column.kind == "boolean" else pl.Int64)


def _as_moment(values: pl.Series) -> pl.Series:
    import polars as pl

    held, value = values.dtype, pl.col(values.name)
    if _is_text(held):
        text = value.cast(pl.String).str.strip_chars(BLANKS).str.replace("T", " ", literal=True).str.strip_suffix("Z")
        forms = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")
        zoned = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", strict=False, time_unit="us", time_zone="UTC").dt.replace_time_zone(None)
        read = pl.coalesce([*(text.str.to_datetime(form, strict=False, time_unit="us") for form in forms), zoned])
        return values.to_frame().select(read.alias(values.name)).to_series()
    if held != pl.Date and not isinstance(held, pl.Datetime):
        # A number is no moment: of which unit, and since when?
        return _nulls(values, pl.Datetime("us"))
    if isinstance(held, pl.Datetime) and held.time_zone is not None:
        value = value.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return values.to_frame().select(value.cast(pl.Datetime("us"), strict=False)).to_series()


def unparsed(frame: pl.DataFrame, source: pl.DataFrame, columns: Mapping[str, Column], null_words: Collection[str] = ()) -> list[pl.Series]:
    """For each column of a cast frame: a reason where its source has a value that did not become one of its kind."""
    import polars as pl

    return [
        pl.select(
            pl.when(are_there(source[name], column.kind, null_words) & frame[name].is_null()).then(pl.lit(f"{name}: not a {column.kind}"))
        ).to_series()
        for name, column in columns.items()
    ]


def outside(frame: pl.DataFrame, columns: Mapping[str, Column]) -> list[pl.Series]:
    """Over cast rows: a reason where a value is null or out of bounds against its column's description."""
    import polars as pl

    rules: list[pl.Expr] = []
    for name, column in columns.items():
        value = pl.col(name)
        if not column.nullable:
            rules.append(pl.when(value.is_null()).then(pl.lit(f"{name}: is null")).alias(f"{len(rules)}"))
        if column.kind not in ("number", "integer"):
            continue
        low, high = bounds(column)
        below = f"below {low:g}" if column.min is not None else "outside what a 32-bit float holds"
        above = f"above {high:g}" if column.max is not None else "outside what a 32-bit float holds"
        broken = pl.when(value < low).then(pl.lit(f"{name}: {below}")).when(value > high).then(pl.lit(f"{name}: {above}"))
        rules.append(broken.alias(f"{len(rules)}"))
    return frame.select(rules).get_columns()


def first_reason(reasons: Sequence[pl.Series], height: int) -> pl.Series:
    """The first reason that applies to each of ``height`` rows, null where none does."""
    import polars as pl

    nothing = pl.Series("reason", [None], dtype=pl.String).new_from_index(0, height)
    return pl.select(pl.coalesce([*reasons, nothing]).alias("reason")).to_series()


def as_broken(source: pl.DataFrame, numbers: pl.Series, reason: pl.Series) -> list[Broken]:
    """The rows that have a reason, as they stood in the source."""
    at = reason.is_not_null().arg_true()
    return [
        Broken(number, why, why, ",".join(map(_as_cell, line)))
        for number, why, line in zip(numbers[at], reason[at], source[at].rows(), strict=True)
    ]


def _as_cell(value: Any) -> str:
    """A value as a CSV holds it (RFC 4180), so that a row that was set aside can be mended and read again."""
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\r\n') else text
