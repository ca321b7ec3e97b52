"""What columns that need other rows are made of: keyed tables with the moments that they are true for, asked by training and by serving.

Sums are kept as sums over all of a key's rows up to each moment, so that a window's is C(end) - C(begin): the same bits whether a state
was made at once, went on day by day, or lost the days that no window reaches. Each is kept with what rounding took from it, as two numbers
of twice the precision together, so that a great value takes nothing from the small ones after it; and in units of ``SCALE``, in which no
sum is too great for a number.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import repeat
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.columns import Coded, ColumnValues, Numbers, told_apart
from mlops_pipeline.features.keys import Keys
from mlops_pipeline.features.windows import BEGIN, END, NEVER, Floats, Ints, bisect, count_below, extremes
from mlops_pipeline.files import durable, linked, sync

if TYPE_CHECKING:
    import polars as pl

FORMAT = 2
FILE = "state.json"
ALIGNED = 64
"""Arrays begin at multiples of so many bytes of their file, as processors like it."""
CURRENT = "CURRENT"
"""In a folder of versions: the file whose text is the name of the current one's folder."""

DAY_US = 86_400_000_000

GREATEST = 2.0**62
"""A sum of whole numbers beyond it is none."""

SCALE = 2.0**64
"""What sums are kept in multiples of: values of any size can be added up, and nothing of them is lost, but for the tiniest there are."""

FEW = 24
"""Keys that are looked up one by one faster than together."""

REMEMBERED = 1 << 14
"""Keys of a table whose place a process remembers."""

_SUMMED = frozenset({"history", "mean", "share", "sum", "count"})
"""Aggregates of many rows at once; the others look at each row's window."""

Value = float | int | str | None
Array = NDArray[Any]


class KeyedTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table of a state: one row for each key, or for each key and moment."""

    by: tuple[str, ...]
    kinds: tuple[str, ...]
    """Of the columns ``by``."""
    what: str
    """lookup, counts, rows (running counts and sums) or distinct."""
    of: str | None = None
    of_kind: str = ""
    value: str | float | bool | None = None
    """Of a share: which value of ``of`` is summed as 1, all others as 0."""
    daily: bool = False
    """Whether its moments are days."""
    cells: tuple[tuple[str, str], ...] = ()
    """Columns of single values, with their kinds: a lookup's; of other tables the last value, or none."""
    extremes: bool = False
    """Whether the least and the greatest value of each moment are kept."""
    derived: tuple[tuple[str, str], ...] = ()
    """The SQL by which columns of the source become those that it is made from, by their names."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A column that a state makes: from which table, and how."""

    how: str
    kind: str
    table: int
    overall: int = -1
    """Of a history: the table of all rows together."""
    window_us: int | None = None
    delay_us: int = 0
    prior_rows: float = 0.0


class Stored(msgspec.Struct, frozen=True):
    """Where an array lies in a part's file: its NumPy type, how many values it has, and at which byte it begins."""

    name: str
    held: str
    count: int
    begin: int


class PartContent(msgspec.Struct, frozen=True):
    """What ``state.json`` says of a part's file."""

    file: str
    digest: str
    arrays: tuple[Stored, ...]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What ``state.json`` says."""

    format: int
    as_of: str
    digest: str
    salt: str
    since: int
    """The moment, in µs since 1970, from which on rows may be asked of."""
    tables: tuple[KeyedTable, ...]
    parts: tuple[tuple[PartContent, ...], ...]
    """For each table, the newest moments' first."""
    columns: dict[str, Made]


@dataclass(frozen=True)
class TablePart:
    """Some of a table, as arrays: ``keys`` and ``checks`` (the two halves of the keys' digests, sorted), and where the rows of each begin
    and end (``starts``); for each row its moment (``moments``, in µs since 1970, sorted within a key) and what it holds: how many there
    were up to then (``rows``) and their sum (``sums``), the moment's ``least`` and ``greatest``, ``before`` and ``what`` of different
    values (see ``keyed``), and single values by their column's name.
    """

    arrays: Mapping[str, Array]
    file: Path | None = None
    """Where it lies, if it was read."""
    written_digest: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what it holds, in hexadecimal digits."""
        if self.written_digest:
            return self.written_digest
        found = hashlib.sha256()
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            found.update(f"{name} {array.dtype} {array.shape} ".encode())
            if array.size:
                found.update(array.data)
        return found.hexdigest()

    @property
    def size(self) -> int:
        """How many rows it has."""
        return int(self.arrays["starts"][-1])

    @cached_property
    def views(self) -> dict[str, memoryview]:
        """The arrays as what gives Python's numbers one by one."""
        return {name: array.data for name, array in self.arrays.items()}

    def span(self, digest: tuple[int, int]) -> tuple[int, int] | None:
        """Where the rows of a key begin and end; None if it has none."""
        keys, (first, second) = self.views["keys"], digest
        place = bisect_left(keys, first)
        while place < len(keys) and keys[place] == first:
            if self.views["checks"][place] == second:
                starts = self.views["starts"]
                return starts[place], starts[place + 1]
            place += 1
        return None

    def spans(self, digests: NDArray[np.uint64]) -> tuple[Ints, Ints]:
        """The same of many keys: begin and end, both 0 for none."""
        keys, checks, starts = self.arrays["keys"], self.arrays["checks"], self.arrays["starts"]
        if not keys.size:
            nothing = np.zeros(len(digests), dtype=np.int64)
            return nothing, nothing
        first, second = digests[:, 0], digests[:, 1]
        place = np.searchsorted(keys, first)
        while True:
            here = np.minimum(place, keys.size - 1)
            there = (place < keys.size) & (keys[here] == first)
            other = there & (checks[here] != second)
            if not other.any():
                break
            place = place + other
        return np.where(there, starts[here], 0), np.where(there, starts[here + 1], 0)


class Table:
    """One table of a state, in parts by time, the newest first."""

    def __init__(self, described: KeyedTable, parts: Sequence[TablePart], salt: bytes) -> None:
        self.described, self.parts = described, tuple(parts)
        self.keys = Keys(described.kinds, salt)
        self.spans = lru_cache(maxsize=REMEMBERED)(self._spans)
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._lock = Lock()
        # All rows of a day ask for the same sums.
        self.running = lru_cache(maxsize=REMEMBERED)(self._running) if described.daily else self._running

    @property
    def key_count(self) -> int:
        """How many keys it has."""
        count = 0
        for place, part in enumerate(self.parts):
            digests = np.stack((part.arrays["keys"], part.arrays["checks"]), axis=1)
            older = [stops > starts for starts, stops in (other.spans(digests) for other in self.parts[place + 1 :])]
            count += len(digests) - int(np.logical_or.reduce(older).sum() if older else 0)
        return count

    def _spans(self, key: tuple[Any, ...]) -> tuple[tuple[TablePart, int, int], ...]:
        """The parts that hold a key, the newest first, and where."""
        digest = self.keys.digest(key)
        found = ((part, part.span(digest)) for part in self.parts)
        return tuple((part, *span) for part, span in found if span is not None and span[0] < span[1])

    def last_before(self, key: tuple[Any, ...], moment: int) -> tuple[TablePart, int] | None:
        """The key's last row before a moment."""
        for part, start, stop in self.spans(key):
            place = bisect_left(part.views["moments"], moment, start, stop)
            if place > start:
                return part, place - 1
        return None

    def within(self, key: tuple[Any, ...], since: int, until: int) -> Iterator[tuple[TablePart, int, int]]:
        """The key's rows in [since, until), by part, the newest first."""
        for part, start, stop in self.spans(key):
            moments = part.views["moments"]
            begin, end = bisect_left(moments, since, start, stop), bisect_left(moments, until, start, stop)
            if begin < end:
                yield part, begin, end

    def _running(self, key: tuple[Any, ...], moment: int) -> tuple[int, float, float]:
        """How many rows the key has before a moment, their sum, and what is to be added to that."""
        found = self.last_before(key, moment)
        if found is None:
            return 0, 0.0, 0.0
        part, place = found
        views = part.views
        return views["rows"][place], views["sums"][place] if "sums" in views else 0.0, views["rests"][place] if "rests" in views else 0.0

    def between(self, key: tuple[Any, ...], since: int, until: int) -> tuple[int, float]:
        """How many rows the key has in [since, until), and their sum."""
        (rows, total, rest), (rows_before, total_before, rest_before) = self.running(key, until), self.running(key, since)
        return rows - rows_before, (total - total_before) + (rest - rest_before)

    def places(self, columns: Sequence[pl.Series], count: int) -> list[tuple[Ints, Ints]]:
        """For each part where the rows of each of ``count`` keys begin and end."""
        import polars as pl

        if not columns:
            digests = np.broadcast_to(self.keys.digests(()), (count, 2))
            return [part.spans(digests) for part in self.parts]
        from mlops_pipeline.features.keys import plain

        names = [f"k{number}" for number in range(len(columns))]
        frame = pl.DataFrame([plain(column, kind).alias(name) for name, column, kind in zip(names, columns, self.keys.kinds, strict=True)])
        single = frame.unique(maintain_order=True)
        digests = self.keys.digests(single.get_columns())
        numbered = single.with_row_index("\0place")
        place = frame.join(numbered, on=names, how="left", nulls_equal=True, maintain_order="left")["\0place"].to_numpy()
        return [(starts[place], stops[place]) for starts, stops in (part.spans(digests) for part in self.parts)]

    def places_of(self, keys: Sequence[tuple[Any, ...]]) -> list[tuple[Ints, Ints]]:
        """The same of keys of Python's values, whose places are remembered."""
        if len(keys) > REMEMBERED:
            return self._placed(keys)
        known = self._numbers
        with self._lock:
            numbers = np.fromiter(map(known.get, keys, repeat(-1)), np.int64, len(keys))
            new = np.flatnonzero(numbers < 0)
            if new.size:
                unknown = list(dict.fromkeys(keys[place] for place in new.tolist()))  # equal ones have one number
                if len(unknown) + len(known) > REMEMBERED:
                    known.clear()
                    unknown = list(dict.fromkeys(keys))
                first, last = len(known), len(known) + len(unknown)
                for (starts, stops), (begin, end) in zip(self._remembered, self._placed(unknown), strict=True):
                    starts[first:last], stops[first:last] = begin, end
                known.update(zip(unknown, range(first, last), strict=True))
                numbers = np.fromiter(map(known.__getitem__, keys), np.int64, len(keys))
            return [(starts[numbers], stops[numbers]) for starts, stops in self._remembered]

    def _placed(self, keys: Sequence[tuple[Any, ...]]) -> list[tuple[Ints, Ints]]:
        digests = self.keys.digests_of(keys)
        return [part.spans(digests) for part in self.parts]

    @cached_property
    def _remembered(self) -> list[tuple[Ints, Ints]]:
        """For each part where the rows of a remembered key begin and end, by the key's number."""
        return [(np.zeros(REMEMBERED, dtype=np.int64), np.zeros(REMEMBERED, dtype=np.int64)) for _ in self.parts]

    def between_many(self, places: Sequence[tuple[Ints, Ints]], since: Ints, until: Ints) -> tuple[Ints, Floats]:
        """:meth:`between` of many keys."""
        twice = [(np.tile(starts, 2), np.tile(stops, 2)) for starts, stops in places]
        rows, totals, rests = self.running_many(twice, np.concatenate((until, since)))
        ends, begins = slice(since.size), slice(since.size, None)
        return rows[ends] - rows[begins], (totals[ends] - totals[begins]) + (rests[ends] - rests[begins])

    def between_all(self, since: Ints, until: Ints) -> tuple[Ints, Floats]:
        """:meth:`between` of the only key of a table without columns."""
        if since.size >= FEW:
            return self.between_many(self.places((), since.size), since, until)
        each = [self.between((), *window) for window in zip(since.tolist(), until.tolist(), strict=True)]
        rows, totals = zip(*each, strict=True) if each else ((), ())
        return np.array(rows, dtype=np.int64), np.array(totals, dtype=np.float64)

    def running_many(self, places: Sequence[tuple[Ints, Ints]], moments: Ints) -> tuple[Ints, Floats, Floats]:
        """:meth:`running` of many keys."""
        rows, sums, rests = np.zeros(moments.shape, dtype=np.int64), np.zeros(moments.shape), np.zeros(moments.shape)
        left = np.arange(moments.size)
        for part, (starts, stops) in zip(self.parts, places, strict=True):
            begin = starts[left]
            place = bisect(part.arrays["moments"], moments[left], begin, stops[left])
            there = place > begin
            found = left[there]
            rows[found] = part.arrays["rows"][place[there] - 1]
            if "sums" in part.arrays:
                sums[found] = part.arrays["sums"][place[there] - 1]
            if "rests" in part.arrays:
                rests[found] = part.arrays["rests"][place[there] - 1]
            left = left[~there]
        return rows, sums, rests

    def within_many(self, places: Sequence[tuple[Ints, Ints]], since: Ints, until: Ints) -> Iterator[tuple[TablePart, Ints, Ints]]:
        """:meth:`within` of many keys: by part, begin and end for each."""
        for part, (starts, stops) in zip(self.parts, places, strict=True):
            begin = bisect(part.arrays["moments"], since, starts, stops)
            yield part, begin, bisect(part.arrays["moments"], until, begin, stops)


@dataclass(frozen=True)
class FeatureState:
    """The tables, and what each column is made of. ``as_of`` is the moment (UTC) of the newest row in it.

    Of a row before ``since`` (µs since 1970) it knows nothing, and says null for what depends on the moment.
    """

    as_of: datetime
    digest: str
    tables: tuple[Table, ...]
    columns: Mapping[str, Made]
    since: int = BEGIN

    def keys_of(self, name: str) -> tuple[str, ...]:
        """The columns whose values are a column's key, in order."""
        return self.tables[self._made(name).table].described.by

    def value(self, name: str, key: tuple[Any, ...], moment: int | None) -> Value:
        """One row's value of a column: ``moment`` is the row's in µs since 1970 (UTC). A moment in a lookup is told in µs, too."""
        made = self._made(name)
        table = self.tables[made.table]
        if made.how == "lookup":
            found = table.spans(key)
            return _cell(found[0][0], name, made.kind, found[0][1]) if found else None
        if made.how == "counts":
            return table.running(key, END)[0] or None
        return None if moment is None or moment < self.since else self._within(made, table, key, *_window(made, moment))

    def _within(self, made: Made, table: Table, key: tuple[Any, ...], since: int, until: int) -> Value:
        """What a key's rows in [since, until) make."""
        if made.how == "history":
            return self._history(made, key, since, until)
        if made.how == "last":
            last = table.last_before(key, until)
            there = last is not None and last[0].views["moments"][last[1]] >= since
            return _cell(last[0], str(table.described.of), made.kind, last[1]) if last is not None and there else None
        if made.how in ("min", "max"):
            array, pick = ("least", np.min) if made.how == "min" else ("greatest", np.max)
            each = [float(pick(part.arrays[array][begin:end])) for part, begin, end in table.within(key, since, until)]
            return _number(float(pick(each)), made.kind) if each else None
        if made.how == "distinct":
            return sum(
                int(np.count_nonzero(part.arrays["before"][begin:end] < since)) for part, begin, end in table.within(key, since, until)
            )
        rows, total = table.between(key, since, until)
        if made.how in ("count", "sum"):
            return rows if made.how == "count" else _number(total * SCALE, made.kind)
        return _number(total / rows * SCALE, "number") if rows else None

    def _history(self, made: Made, key: tuple[Any, ...], since: int, until: int) -> float | None:
        rows, total = self.tables[made.overall].between((), since, until)
        if not rows:
            return None
        mean = total / rows
        rows, total = self.tables[made.table].between(key, since, until)
        weight = float(rows) + made.prior_rows
        return (total + made.prior_rows * mean) / weight * SCALE if weight else None

    def values(self, name: str, keys: Sequence[pl.Series], moments: pl.Series | None) -> pl.Series:
        """A column's values of many rows, the same bits as :meth:`value`; ``keys`` are the columns :meth:`keys_of` names, typed."""
        import polars as pl

        made = self._made(name)
        table = self.tables[made.table]
        count = len(keys[0]) if keys else 0 if moments is None else len(moments)
        places = table.places(keys, count)
        if made.how == "lookup":
            starts, stops = places[0]
            return _cells(table.parts[0], name, made.kind, starts, stops > starts).alias(name)
        if made.how == "counts":
            rows, *_ = table.running_many(places, np.full(count, END, dtype=np.int64))
            return _series(name, rows, rows > 0, "integer")
        if moments is None:
            return pl.Series(name, [None] * count, dtype=_dtype(made.kind))
        times = moments.cast(pl.Datetime("us")).cast(pl.Int64)
        known = (times >= self.since).fill_null(value=False).to_numpy()
        since, until = _windows(made, times.fill_null(0).to_numpy())
        if made.how == "last":
            return _last(table, name, made.kind, places, since, until, known)
        made_values, there = self._many(made, table, places, since, until)
        return _series(name, made_values, there & known, made.kind)

    def _many(self, made: Made, table: Table, places: list[tuple[Ints, Ints]], since: Ints, until: Ints) -> tuple[Array, Array]:
        """Values, and which of them are none of null."""
        everywhere = np.ones(since.shape, dtype=np.bool_)
        if made.how in ("min", "max"):
            greatest, best = made.how == "max", np.full(since.shape, np.nan)
            for part, begin, end in table.within_many(places, since, until):
                found = extremes(part.arrays["greatest" if greatest else "least"], begin, end, greatest=greatest)
                best = np.fmax(best, found) if greatest else np.fmin(best, found)
            return best, ~np.isnan(best)
        if made.how == "distinct":
            different = np.zeros(since.shape, dtype=np.int64)
            for part, begin, end in table.within_many(places, since, until):
                different += count_below(part.arrays["before"], since, begin, end)
            return different, everywhere
        rows, total = table.between_many(places, since, until)
        if made.how == "count":
            return rows, everywhere
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if made.how == "sum":
                total = total * SCALE
                return total, np.abs(total) <= (GREATEST if made.kind == "integer" else np.finfo(np.float64).max)
            if made.how != "history":
                mean = total / rows * SCALE
                return mean, (rows > 0) & np.isfinite(mean)
            overall = self.tables[made.overall]
            first, of_day = told_apart(until)
            every, whole = overall.between_all(since[first], until[first])
            mean, every = (whole / every)[of_day], every[of_day]
            weight = rows.astype(np.float64) + made.prior_rows
            return (total + made.prior_rows * mean) / weight * SCALE, (every > 0) & (weight > 0)

    def many(self, name: str, keys: Sequence[tuple[Any, ...]], places: Ints, moments: Ints) -> ColumnValues:
        """The same as :meth:`value` for many rows, quicker, and without Polars: ``places`` say which of the keys each has.

        ``moments`` are in µs since 1970; ``NEVER`` is null.
        """
        made = self._made(name)
        if made.how not in _SUMMED or places.size < FEW:
            asked = zip(places.tolist(), moments.tolist(), strict=True)
            return Coded.each([self.value(name, keys[place], None if moment == NEVER else moment) for place, moment in asked])
        table = self.tables[made.table]
        starts = [(starts[places], stops[places]) for starts, stops in table.places_of(keys)]
        known = moments >= max(self.since, BEGIN)
        values, there = self._many(made, table, starts, *_windows(made, np.where(known, moments, 0)))
        there = there & known
        kept = np.where(there, values, 0).astype(np.int64 if made.kind == "integer" else np.float64, copy=False)
        return Numbers(kept, None if there.all() else ~there)

    def _made(self, name: str) -> Made:
        try:
            return self.columns[name]
        except KeyError:
            raise PipelineError(
                f"the state does not make '{name}' (it makes {', '.join(self.columns) or 'nothing'}): run `mlops features refresh`"
            ) from None

    def with_parts(self, parts: Sequence[Sequence[TablePart]], as_of: datetime) -> Self:
        """The same tables with other content."""
        return type(self).of([table.described for table in self.tables], parts, self.columns, as_of, self.since)

    @classmethod
    def of(
        cls,
        described: Sequence[KeyedTable],
        parts: Sequence[Sequence[TablePart]],
        columns: Mapping[str, Made],
        as_of: datetime,
        since: int = BEGIN,
    ) -> Self:
        """A state of these tables, each in parts."""
        salt = bytes.fromhex(salt_of(described))
        tables = tuple(Table(table, of_table, salt) for table, of_table in zip(described, parts, strict=True))
        return cls(as_of, digest_of(tables, columns), tables, columns, since)

    @property
    def size(self) -> int:
        """Bytes of its arrays, as they lie on the disk and in the memory that processes share."""
        return sum(array.nbytes for table in self.tables for part in table.parts for array in part.arrays.values())


def _window(made: Made, moment: int) -> tuple[int, int]:
    """From when on, and before when, rows are seen by one at a moment."""
    until = moment - moment % DAY_US if made.how == "history" else moment - made.delay_us
    return (BEGIN if made.window_us is None else until - made.window_us), until


def _windows(made: Made, moments: Ints) -> tuple[Ints, Ints]:
    until = moments - moments % DAY_US if made.how == "history" else moments - made.delay_us
    return (np.full(until.shape, BEGIN, dtype=np.int64) if made.window_us is None else until - made.window_us), until


def _number(value: float, kind: str) -> float | int | None:
    """A value of its kind; None if that has none so great."""
    if kind == "integer":
        return int(value) if abs(value) <= GREATEST else None
    return value if math.isfinite(value) else None


def _dtype(kind: str) -> Any:
    import polars as pl

    types = {"number": pl.Float64(), "integer": pl.Int64(), "boolean": pl.Int8(), "datetime": pl.Datetime("us")}
    return types.get(kind, pl.String())


def _series(name: str, values: Array, there: Array, kind: str) -> pl.Series:
    """A column of numbers: null where nothing is there."""
    import polars as pl

    made = pl.Series(name, np.where(there, values, 0))
    return made.set(pl.Series(~there), None).cast(_dtype(kind))


def _cell(part: TablePart, name: str, kind: str, place: int) -> Value:
    """A single value: text as str, numbers, truths as 0 and 1, moments as µs since 1970."""
    if not part.views[f"{name}.there"][place]:
        return None
    if f"{name}.ends" in part.arrays:
        ends = part.views[f"{name}.ends"]
        return str(part.views[f"{name}.text"][ends[place] : ends[place + 1]], "utf-8")
    value: float | int = part.views[name][place]
    return float(value) if kind == "number" else int(value)


def _cells(part: TablePart, name: str, kind: str, places: Ints, found: Array) -> pl.Series:
    """Single values of many rows."""
    import polars as pl

    there = part.arrays[f"{name}.there"]
    if not there.size:
        return pl.Series(name, [None] * places.size, dtype=_dtype(kind))
    places = np.where(found, places, 0)
    known = found & (there[places] != 0)
    if f"{name}.ends" not in part.arrays:
        return _series(name, part.arrays[name][places], known, kind)
    used, where = np.unique(places[known], return_inverse=True)
    texts = pl.Series([_cell(part, name, kind, int(place)) for place in used], dtype=pl.String)
    whole = np.full(places.shape, -1, dtype=np.int64)
    whole[known] = where
    index = pl.Series(whole)
    return texts.gather(index.set(index < 0, None))


def _last(table: Table, name: str, kind: str, places: list[tuple[Ints, Ints]], since: Ints, until: Ints, known: Array) -> pl.Series:
    import polars as pl

    of, made = str(table.described.of), pl.Series(name, [None] * since.size, dtype=_dtype(kind))
    left = known
    for part, begin, end in table.within_many(places, since, until):
        here = left & (end > begin)
        made = pl.Series(name, pl.select(pl.coalesce(made, _cells(part, of, kind, end - 1, here))).to_series())
        left = left & ~here
    return made


def salt_of(tables: Sequence[KeyedTable]) -> str:
    """What parts the digests of this state's keys from those of another recipe's, as hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(tables)).hexdigest()[:32]


def digest_of(tables: Sequence[Table], columns: Mapping[str, Made]) -> str:
    """SHA-256 of what a state holds, in hexadecimal digits: the same rows in the same parts have the same."""
    described = msgspec.json.encode((tuple(table.described for table in tables), dict(columns)), order="deterministic")
    found = hashlib.sha256(described)
    for table in tables:
        found.update(" ".join(part.digest for part in table.parts).encode() + b"\n")
    return found.hexdigest()


def write_state(state: FeatureState, folder: Path) -> None:
    """Write a state into an empty folder: ``state.json``, and a file for each part; all is on the disk when it returns.

    The files of parts that were read from another version's folder, which never change, are linked.
    """
    contents = tuple(
        tuple(_write_part(part, folder / f"{number}.{place}.bin") for place, part in enumerate(table.parts))
        for number, table in enumerate(state.tables)
    )
    described = tuple(table.described for table in state.tables)
    content = Content(
        format=FORMAT,
        as_of=state.as_of.isoformat(),
        digest=state.digest,
        salt=salt_of(described),
        since=state.since,
        tables=described,
        parts=contents,
        columns=dict(state.columns),
    )
    with durable(folder / FILE) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(content)))
    sync(folder)


def _write_part(part: TablePart, file: Path) -> PartContent:
    """Write the arrays one behind the other, each from a multiple of ``ALIGNED`` bytes on."""
    stored, end = [], ALIGNED
    for name, array in part.arrays.items():
        stored.append(Stored(name, array.dtype.str, array.size, end))
        end += -(-array.nbytes // ALIGNED) * ALIGNED
    if part.file is None or not linked(part.file, file):
        with durable(file) as stream:
            for each in stored:
                stream.seek(each.begin)
                stream.write(np.ascontiguousarray(part.arrays[each.name]).data)
            stream.truncate(end)
    return PartContent(file.name, part.digest, tuple(stored))


def open_state(folder: Path) -> FeatureState:
    """Open a state, memory-mapped: a version's folder, or a folder of versions, whose current one is meant.

    Raises :class:`PipelineError`.
    """
    place = version_folder(folder)
    try:
        content = msgspec.json.decode((place / FILE).read_bytes(), type=Content)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PipelineError(f"{place / FILE}: is no state of features ({error}): make one with `mlops features refresh --anew`") from error
    if content.format != FORMAT:
        what = f"has the format {content.format}, not {FORMAT}"
        raise PipelineError(f"{place / FILE}: {what}: make it anew with `mlops features refresh --anew`")
    salt = bytes.fromhex(content.salt)
    tables = tuple(
        Table(described, [_mapped(place, part) for part in parts], salt)
        for described, parts in zip(content.tables, content.parts, strict=True)
    )
    return FeatureState(datetime.fromisoformat(content.as_of), content.digest, tables, content.columns, content.since)


def version_folder(folder: Path) -> Path:
    """The current version's folder of a folder of versions; any other folder itself."""
    try:
        return folder / (folder / CURRENT).read_text(encoding="utf-8").strip()
    except OSError:
        return folder


def _mapped(folder: Path, content: PartContent) -> TablePart:
    file = folder / content.file
    try:
        whole = np.memmap(file, dtype=np.uint8, mode="r")
        return TablePart({each.name: _stored(whole, each) for each in content.arrays}, file, content.digest)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{file}: cannot be read ({error}): make the state anew with `mlops features refresh --anew`") from error


def _stored(whole: NDArray[np.uint8], each: Stored) -> Array:
    held = np.dtype(each.held)
    content = np.asarray(whole)[each.begin : each.begin + each.count * held.itemsize]
    if content.size != each.count * held.itemsize:
        raise ValueError("it ends too early")
    return content.view(held)


def moment_in(state_us: int) -> datetime:
    """A moment in µs since 1970 as a datetime (UTC)."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=state_us)
