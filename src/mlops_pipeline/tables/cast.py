"""Give rows the types that the dataset describes; tell apart the rows that cannot have them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Column, Dataset
from mlops_pipeline.contract.moments import EPOCHS, ISO_SPELLINGS, QUARTER, day_of_none, is_of_numbers
from mlops_pipeline.contract.privacy import told_cells
from mlops_pipeline.contract.spec import Column as ContractColumn
from mlops_pipeline.contract.values import (
    BLANKS,
    CLOCK,
    CLOCKS,
    FALSE_WORDS,
    ISO_CLOCK,
    ISO_SECONDS,
    ISO_UNENDED,
    LARGEST_INTEGER,
    NOT_FINITE,
    ODD_SIGN,
    SIGNS,
    TRUE_WORDS,
    bounds,
    number_of,
    spelled,
    truth_of,
    written_as,
)
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


def cast_columns(frame: pl.DataFrame, columns: Mapping[str, Column | ContractColumn], null_words: Collection[str] = ()) -> pl.DataFrame:
    """Cast each column to its kind's type; a value that is none of its kind becomes null, and, but for categories, a text that means it.

    number → Float64, integer → Int64, boolean → Int8 (0 or 1), datetime → Datetime[µs] (UTC, no zone),
    category and text → String. A column's own ``null_values`` stand for ``null_words``.
    """
    return frame.with_columns([_cast(frame, name, column, null_words).alias(name) for name, column in columns.items()])


def as_numbers(values: pl.Series, kind: str, null_words: Collection[str] = (), form: str | None = None) -> pl.Series:
    """A column of numbers or truths as Float64, infinity among them; null for NaN, for a word for null and for what is none of the kind.

    ``form`` is how texts are written (``contract.values.number_of``). Times of day and durations are numbers of seconds.
    """
    import polars as pl

    held = values.dtype
    if held == pl.Boolean:
        return values.cast(pl.Float64) if kind == "boolean" else _nulls(values, pl.Float64())
    if _is_text(held):
        text = values.cast(pl.String)
        if form is None and kind != "boolean" and not _any_is_finite(null_words):
            number = text.cast(pl.Float64, strict=False)
            if number.null_count() == text.null_count() and number.is_finite().all():
                return number  # nothing but plain numbers, as in most columns
        text = _without(text, kind, null_words).str.strip_chars(BLANKS)
        number = (text if form is None else _plain(text, form)).cast(pl.Float64, strict=False)
        if kind == "boolean":
            word = text.str.to_lowercase()
            yes, no = word.is_in(TRUE_WORDS), word.is_in(FALSE_WORDS)
            number = pl.select(pl.when(yes).then(1.0).when(no).then(0.0).otherwise(number).alias(values.name)).to_series()
    elif held.is_numeric():
        number = values.cast(pl.Float64, strict=False)
    elif kind != "boolean" and held in (pl.Time, pl.Duration):
        number = (values.cast(pl.Duration("us")).dt.total_microseconds() / 1_000_000).cast(pl.Float64)
    else:
        return _nulls(values, pl.Float64())
    return number.fill_nan(None)


def _any_is_finite(words: Collection[str]) -> bool:
    """Whether a word is a number such as -999."""
    return any(math.isfinite(number) for word in words if (number := number_of(word.strip(BLANKS))) is not None)


def _plain(text: pl.Series, form: str) -> pl.Series:
    """Numbers written in their owner's way as everybody writes them; null for what is not written so."""
    import polars as pl

    written = written_as(form)
    if form in CLOCKS or written is None:
        return _seconds(text, form) if form in CLOCKS else text
    if text.str.contains(ODD_SIGN).any():
        for pattern, made in SIGNS:
            text = text.str.replace_all(pattern, made)
    value = pl.col(text.name)
    whole = f"^(?:{written.pattern})$"
    bare = value.str.replace(whole, "${1}${2}${3}${4}" if written.pattern.count("([+-]?)") == 2 else "${1}${2}${3}")
    bare = (bare.str.replace_all(written.thousands, "") if written.thousands else bare).str.replace(written.decimal, ".", literal=True)
    not_finite = value.str.contains(NOT_FINITE)
    read = pl.when(value.str.contains(whole)).then(bare).when(not_finite).then(value)
    return text.to_frame().select(read.alias(text.name)).to_series()


def _seconds(text: pl.Series, form: str) -> pl.Series:
    """The seconds that times of day or durations say (``contract.values.seconds_in``)."""
    import polars as pl

    found = pl.col(text.name).str.extract_groups(f"^(?:{CLOCK})$").struct
    first, second, third = (found.field(place).cast(pl.Float64) for place in "456")
    half, has_fraction = found.field("7").str.to_lowercase(), found.field("5").str.contains(".", literal=True)
    noon = pl.when(half == "p").then(12.0).otherwise(0.0)
    first = pl.when(half.is_null()).then(first).when(first.is_between(1, 12)).then(first % 12 + noon)
    of_two = first * 60 + second if form == "m:ss" else pl.when(~has_fraction).then(first * 3600 + second * 60)
    of_three = pl.when(~has_fraction).then(first * 3600 + second * 60 + third)
    seconds = pl.when(third.is_null()).then(of_two).otherwise(of_three)
    days, between = found.field("2").cast(pl.Float64).fill_null(0) * 86_400, found.field("3").fill_null("").str.strip_chars(" ")
    is_minus = found.field("1") == "-"
    apart = pl.when(is_minus).then(-days).otherwise(days) + pl.when(between.str.ends_with("-")).then(-seconds).otherwise(seconds)
    signed = pl.when(between != "").then(apart).when(is_minus).then(-(days + seconds)).otherwise(days + seconds)
    not_finite = pl.when(pl.col(text.name).str.contains(NOT_FINITE)).then(pl.col(text.name)).cast(pl.Float64)
    by_iso = [_iso_seconds(text.name)] if text.str.contains("^.?P").any() else []
    return text.to_frame().select(pl.coalesce(*by_iso, signed, not_finite).alias(text.name)).to_series()


def _iso_seconds(name: str) -> pl.Expr:
    """The seconds of a column's durations as ISO 8601 writes them; null for what is none."""
    import polars as pl

    found = pl.col(name).str.extract_groups(f"^(?:{ISO_CLOCK})$").struct
    parts = [found.field(str(place)).str.replace(",", ".", literal=True).cast(pl.Float64) for place in range(2, 7)]
    total = functools.reduce(
        operator.add, [part.fill_null(0.0) * seconds for part, seconds in zip(parts, ISO_SECONDS, strict=True)], pl.lit(0.0)
    )
    signed = pl.when(found.field("1") == "-").then(-total).otherwise(total)
    return pl.when(found.field("1").is_not_null() & ~pl.col(name).str.contains(ISO_UNENDED)).then(signed)


def as_text(values: pl.Series) -> pl.Series:
    """A column as text, whatever type it is stored in; NaN is null."""
    import polars as pl

    if _is_text(values.dtype):
        return values.cast(pl.String)
    if values.dtype.is_integer():
        return values.cast(pl.String)
    if values.dtype == pl.Duration:
        values = as_numbers(values, "number")  # its seconds
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
        nothing = _means_null(text, kind, null_words)
        if kind not in ("category", "text"):
            nothing |= text.str.strip_chars(BLANKS).str.contains("(?i)^[+-]?nan$")
        return there & ~nothing.fill_null(value=True)
    return there


def _means_null(text: pl.Series, kind: str, null_words: Collection[str]) -> pl.Series:
    """Where a text is a word for null: as it stands, and, but for categories and free text, without blanks around it."""
    words = list(null_words)
    said = text.is_in(words)
    return said if kind in ("category", "text") else said | text.str.strip_chars(BLANKS).is_in(words)


def without_words(text: pl.Series, null_words: Collection[str]) -> pl.Series:
    """Texts, null where they are a word for it as they stand."""
    return text.set(text.is_in(list(null_words)), None) if null_words else text


def _without(text: pl.Series, kind: str, null_words: Collection[str]) -> pl.Series:
    return text.set(_means_null(text, kind, null_words), None) if null_words else text


def _is_text(held: pl.DataType) -> bool:
    import polars as pl

    return held == pl.String or held == pl.Categorical or held == pl.Enum  # noqa: PLR1714  # a type compares with a class, and hashes as none


def _nulls(values: pl.Series, held: pl.DataType) -> pl.Series:
    import polars as pl

    return pl.Series(values.name, [None], dtype=held).new_from_index(0, len(values))


def _cast(frame: pl.DataFrame, name: str, column: Column | ContractColumn, null_words: Collection[str]) -> pl.Expr | pl.Series:
    import polars as pl

    values = frame[name]
    if column.null_values is not None:
        null_words = column.null_values
    if column.kind == "datetime":
        values = spelled_moments(values, column.format)
        text = _without(values.cast(pl.String), column.kind, null_words) if _is_text(values.dtype) else values
        return as_moments(text, column.format)
    if column.kind == "text":
        return _without(as_text(values), column.kind, null_words)
    if column.kind == "category":  # a source's own words were taken out as it was read, and are values where it has types
        return _without(as_text(values), column.kind, column.null_values or ())
    number = as_numbers(values, column.kind, null_words, column.format)
    if column.kind == "number":
        return _only(number, number.is_finite())
    low, high = (0.0, 1.0) if column.kind == "boolean" else (-LARGEST_INTEGER, LARGEST_INTEGER)
    usable = (number == number.round()) & number.is_between(low, high)
    return _only(number, usable).cast(pl.Int8 if column.kind == "boolean" else pl.Int64)


def _only(values: pl.Series, usable: pl.Series) -> pl.Series:
    """The values, null where they are not usable; a null is neither."""
    return values if usable.all() else values.set(~usable, None)


MOMENTS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z")
"""How a moment is written where nothing else is said (ISO 8601, ``T`` or a blank between day and hour, a zone or none)."""


def as_moments(values: pl.Series, form: str | None = None) -> pl.Series:
    """A column as Datetime[µs] in UTC, without a zone; null for what is no moment. ``form`` is how texts are written, as strftime."""
    import polars as pl

    held, value = values.dtype, pl.col(values.name)
    if _is_text(held):
        text = values.cast(pl.String)
        if form is not None:
            # ISO 8601 means one thing only: a client may send it whatever the owner's table has.
            text = text.str.strip_chars(BLANKS)
            return pl.select(pl.coalesce(written_moments(text, form), as_moments(text)).alias(values.name)).to_series()
        return _iso_moments(text)
    if form is not None and held.is_numeric() and is_of_numbers(form):
        return written_moments(as_text(values), form)
    if held != pl.Date and not isinstance(held, pl.Datetime):
        # A number is no moment, unless its form says of which unit, and since when.
        return _nulls(values, pl.Datetime("us"))
    if isinstance(held, pl.Datetime) and held.time_zone is not None:
        value = value.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return _of_four_digits(values.to_frame().select(value.cast(pl.Datetime("us"), strict=False)).to_series())


def _iso_moments(text: pl.Series) -> pl.Series:
    """Texts as ISO 8601 has moments: most are written in one way, and read by one; the rest is looked at in every other."""
    import polars as pl

    usual = _usual_form(text)
    read = written_moments(text, usual)
    if read.null_count() == text.null_count():
        return read
    left = text.set(read.is_not_null(), None).str.strip_chars(BLANKS)
    for spellings in ISO_SPELLINGS:
        if left.null_count() == len(left):
            return read
        for pattern, made in spellings:
            left = left.str.replace(pattern, made)
        usual = _usual_form(left)
        read = pl.select(pl.coalesce(read, written_moments(left, usual)).alias(text.name)).to_series()
        left = left.set(read.is_not_null(), None)
    for other in MOMENTS:
        if left.null_count() == len(left):
            break
        if other != usual:
            zoned = left.str.replace(r" ([+-][0-9]{2}:?[0-9]{2})$", "${1}") if "%z" in other else left
            read = pl.select(pl.coalesce(read, written_moments(zoned, other)).alias(text.name)).to_series()
            left = left.set(read.is_not_null(), None)
    return read


def spelled_moments(values: pl.Series, form: str | None) -> pl.Series:
    """A column of moments with numbers such as 20240131 as texts, where these may be moments; another as it is."""
    return as_text(values) if values.dtype.is_numeric() and is_of_numbers(form) else values


def _usual_form(text: pl.Series) -> str:
    """The way in which the first text is written, or else the first way: most others are written so too, and read at once."""
    first = text.drop_nulls().head(1)
    return next((form for form in MOMENTS if written_moments(first, form).count()), MOMENTS[0])


def _of_four_digits(moments: pl.Series) -> pl.Series:
    """The same without those outside the years 1 to 9999, which Python has no moments for (``contract.moments``)."""
    return moments.set(~moments.is_between(datetime.min, datetime.max), None)


def written_moments(text: pl.Series, form: str) -> pl.Series:
    """Texts written in one way as moments in UTC; null for what is not written so.

    A quarter and a month are their first day, a week its Monday.
    """
    import polars as pl

    if form in EPOCHS:
        moments = (as_numbers(text, "number") * EPOCHS[form]).round()
        return _of_four_digits(_only(moments, moments.abs() < LARGEST_INTEGER).cast(pl.Int64).cast(pl.Datetime("us")))
    if form.endswith("%y"):  # of which Polars reads 5Z as 5
        text = text.set(~text.str.contains("[0-9]$"), None)
    if QUARTER in form:  # which no reader of texts knows: each of the four is a month
        months = [written_moments(text + f"|{3 * n - 2}", f"{form.replace(QUARTER, str(n))}|%m") for n in range(1, 5)]
        return pl.select(pl.coalesce(months).alias(text.name)).to_series()
    day = day_of_none(form)
    if day is not None:
        text, form = text + f"|{day[0]}", f"{form}|{day[1]}"
    if "%z" in form:
        return _of_four_digits(text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC").dt.replace_time_zone(None))
    return _of_four_digits(text.str.to_datetime(form, strict=False, time_unit="us"))


def unparsed(frame: pl.DataFrame, source: pl.DataFrame, columns: Mapping[str, Column], null_words: Collection[str] = ()) -> list[pl.Series]:
    """For columns of a cast frame: a reason where its source has a value that did not become one of its kind."""
    import polars as pl

    # A source's null stays null: with no more nulls than it has, a column has lost no value.
    lost = {name: column for name, column in columns.items() if frame[name].null_count() > source[name].null_count()}
    said = {name: f"{name}: not a {column.kind}" for name, column in lost.items()}
    words = {name: null_words if column.null_values is None else column.null_values for name, column in lost.items()}
    there = {name: are_there(source[name], column.kind, words[name]) for name, column in lost.items()}
    return [pl.select(pl.when(there[name] & frame[name].is_null()).then(pl.lit(what))).to_series() for name, what in said.items()]


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


def as_broken(source: pl.DataFrame, numbers: pl.Series, reason: pl.Series, private: Collection[str] = ()) -> list[Broken]:
    """The rows that have a reason, as they stood in the source, but for the cells of ``private`` columns, which are empty."""
    at = reason.is_not_null().arg_true()
    return [
        Broken(number, why, why, ",".join(map(_as_cell, told_cells(line, source.columns, private))))
        for number, why, line in zip(numbers[at], reason[at], source[at].rows(), strict=True)
    ]


def without_content(broken: list[Broken], private: Collection[str]) -> list[Broken]:
    """Rows that had no shape, without their text where some of it may be of a private column: nobody knows which."""
    return [replace(row, content="") for row in broken] if private else broken


def _as_cell(value: Any) -> str:
    """A value as a CSV holds it (RFC 4180), so that a row that was set aside can be mended and read again."""
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\r\n') else text
