"""A folder of versions of a state: made from rows and brought up to date by others, whole or not at all, whenever it is killed.

    CURRENT                        the name of the current version
    000003-1f0c…/                  a version: what servers map
    journal/000003-1f0c…/          the rows it was made of: the old ones, and those of the last days, which may still change

A version never changes. A new one is written beside it, on the disk before ``CURRENT`` names it; what an interrupted one left goes with
the next. Files that are the same in both are linked.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.journal import Kept, Merged, merged, without
from mlops_pipeline.features.keyed import StatePlan, newest
from mlops_pipeline.features.keys import microseconds
from mlops_pipeline.features.state import CURRENT, DAY_US, FeatureState, Table, TablePart, open_state, write_state
from mlops_pipeline.features.store import Database, point
from mlops_pipeline.features.windows import BEGIN
from mlops_pipeline.files import FOR_ITS_OWNER, durable, linked, replace_durably, replacing_folder
from mlops_pipeline.layout import Layout, address_of_state

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.config.pipeline import Settings
    from mlops_pipeline.features.rows import Joined

JOURNAL, JOURNAL_FILE, OLD_ROWS, LAST_ROWS = "journal", "journal.json", "old.parquet", "last.parquet"
VERSIONS = 3
"""So many of the newest versions are kept."""

LAST_DAYS = 7
"""Rows of so many days before the newest, beside the longest delay until they are known, may still change at no great cost."""

MANY_LAST_ROWS = 250_000
"""With more of them than this and a quarter of the old ones, all is made anew, and most become old."""

Seen = Mapping[str, tuple[int, int]]
"""By file of the source: its size and when it was written, in ns."""


@dataclass(frozen=True)
class Origin:
    """Where rows come from: the files that were read for them, and the columns that the source has."""

    seen: Seen
    columns: tuple[str, ...]
    keep_us: int | None = None
    """How long before the newest row one may be that is asked of, in µs; None: as long as one likes."""
    given: int = 0
    """So many of them, at most, are none of the source's."""
    is_whole: bool = False
    """Whether they are all that the source holds."""


class BrokenRows(PipelineError):
    """The rows that a version was made of are not what they were, and no trying again helps; others' errors are of the moment."""


class JournalContent(msgspec.Struct, frozen=True):
    """What ``journal.json`` says; ``cut`` parts old rows from the last, in µs since 1970."""

    kept: str
    rows: int
    cut: int | None
    seen: dict[str, tuple[int, int]]
    columns: tuple[str, ...]
    """The source's, when the rows were taken in."""
    keep_us: int | None = None
    given: int = 0
    """Rows that were none of the source's when they came."""


@dataclass(frozen=True)
class Current:
    """The current version, with the rows it was made of."""

    name: str
    state: FeatureState | None
    """None if it cannot be read; it is made of its rows again."""
    journal: JournalContent
    folder: Path

    def rows(self, file: str) -> pl.LazyFrame:
        """The old rows, or the last."""
        import polars as pl

        return pl.scan_parquet(self.folder / file, glob=False)


@dataclass(frozen=True)
class Refreshed:
    """What has become of a state: its version, of how many rows it is, how many of them are new, and how many have changed."""

    version: str
    state: FeatureState
    rows: int
    new: int
    changed: int
    is_new: bool
    """Whether there is a new version."""
    gone: int = 0
    """So many rows went, since the source holds them no more, or otherwise."""


@dataclass(frozen=True)
class _Rows:
    """The rows of a version: the old ones (None: those of the version before), the last, and what parts them."""

    old: pl.DataFrame | None
    last: pl.DataFrame
    cut: int | None
    count: int
    given: int = 0
    """So many of those before were none of the source's."""


class Versions:
    """The versions of one state in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def current(self) -> Current | None:
        """The current version; None if there is none. Raises :class:`BrokenRows` for one whose rows are not whole."""
        return self._current()

    def _current(self) -> Current | None:
        import polars as pl
        from polars.exceptions import PolarsError

        try:
            name = (self.folder / CURRENT).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PipelineError(f"{self.folder / CURRENT}: cannot be read ({error.strerror}): see to it that it can") from error
        place = self.folder / JOURNAL / name
        try:
            journal = msgspec.json.decode((place / JOURNAL_FILE).read_bytes(), type=JournalContent)
            for file in (OLD_ROWS, LAST_ROWS):
                pl.read_parquet_schema(place / file)
        except (FileNotFoundError, msgspec.MsgspecError, PolarsError) as error:
            raise BrokenRows(f"{place}: cannot be read ({error}): `mlops features refresh --anew` makes it from the source") from error
        except OSError as error:
            raise PipelineError(f"{place}: cannot be read ({error.strerror}): see to it that it can") from error
        state = None
        with suppress(PipelineError):  # of an older format, say
            state = open_state(self.folder / name)
        return Current(name, state, journal, place)

    def refresh(self, plan: StatePlan, kept: Kept, new: pl.DataFrame, lookups: Joined, origin: Origin, *, anew: bool = False) -> Refreshed:
        """Take rows in, each once (:func:`mlops_pipeline.features.journal.merged`), while no other process does.

        Without a current version of such rows, or ``anew``, they are all there are. Where the source :attr:`Origin.is_whole`, one that it
        holds no more, or with another value, goes, but for those from before its first moment: it may reach back less far than it did.
        """
        import polars as pl
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), (self.folder / ".gitignore").open("x") as stream:
            stream.write("*\n")  # it is made from the source, as DVC's outputs are
        with FileLock(self.folder / ".lock"):
            self._clear()
            current = None if anew else self._current()
            if current is None or current.journal.kept != kept.digest:
                return self._write(None, plan, kept, _parted(new, plan), lookups, origin, (new.height, 0))
            if origin.is_whole and not current.journal.given and (gone := _gone(current, plan, kept, new)):
                rows = _parted(pl.concat([_earlier(current, plan, new), new]), plan)
                return replace(self._write(None, plan, kept, rows, lookups, origin, (new.height, 0)), gone=gone)
            return self._take(current, plan, kept, new, lookups, origin)

    def _take(self, current: Current, plan: StatePlan, kept: Kept, new: pl.DataFrame, lookups: Joined, origin: Origin) -> Refreshed:
        import polars as pl

        journal, is_last = current.journal, _is_last(plan, current.journal.cut)
        last = merged(current.rows(LAST_ROWS).collect(), new.filter(is_last), kept)
        old = self._old(current, plan, kept, new.filter(~is_last))
        found = (last.new + (old.new if old else 0), last.changed + (old.changed if old else 0))
        origin = replace(origin, seen={**journal.seen, **origin.seen})
        state = current.state
        same = state is not None and plan.is_of(state) and journal.keep_us == origin.keep_us
        looked_up = state is not None and _lookups(plan.lookup_parts(lookups)) == _lookups([table.parts for table in state.tables])
        # Without moments in it, a state is of the moment at which it was found to be true.
        if state is not None and not any(found) and same and looked_up and plan.recipe.time_column is not None:
            if origin.seen != journal.seen:
                self._note(current, origin.seen)
            return Refreshed(current.name, state, journal.rows, 0, 0, is_new=False)
        count = journal.rows + found[0]
        if old is None and same and last.rows.height <= max(MANY_LAST_ROWS, count / 5):
            return self._write(current, plan, kept, _Rows(None, last.rows, journal.cut, count, journal.given), lookups, origin, found)
        before = current.rows(OLD_ROWS).collect() if old is None else old.rows
        rows = replace(_parted(pl.concat([before, last.rows]), plan), given=journal.given)
        return self._write(None, plan, kept, rows, lookups, origin, found)

    def _old(self, current: Current, plan: StatePlan, kept: Kept, new: pl.DataFrame) -> Merged | None:
        """Old rows with others taken in; None if that changes nothing, which is seen on those of the same time."""
        import polars as pl

        if not new.height:
            return None
        there = current.rows(OLD_ROWS)
        if (time := plan.recipe.time_column) is not None:
            span = new.select(pl.col(time).min().alias("first"), pl.col(time).max().alias("last")).row(0)
            there = there.filter(pl.col(time).is_null() | pl.col(time).is_between(*span).fill_null(value=False))
        found = merged(there.collect(), new, kept)
        return merged(current.rows(OLD_ROWS).collect(), new, kept) if found.new or found.changed else None

    def _write(
        self,
        before: Current | None,
        plan: StatePlan,
        kept: Kept,
        rows: _Rows,
        lookups: Joined,
        origin: Origin,
        found: tuple[int, int],
    ) -> Refreshed:
        """Make a version, and the current one; ``before`` is the one whose old rows it shares."""
        as_of = newest((rows.last if rows.last.height or rows.old is None else rows.old).lazy(), plan.recipe)
        if before is not None and before.state is not None:
            base = [Table(table.described, table.parts[-1:], plan.salt) for table in before.state.tables]
            as_of, since = max(as_of, before.state.as_of), before.state.since
        else:
            assert rows.old is not None  # noqa: S101  # by its meaning
            made = plan.parts(rows.old.lazy(), lookups)
            since = BEGIN if origin.keep_us is None else microseconds(as_of) - origin.keep_us
            made = made if since == BEGIN else plan.pruned(made, since)
            base = [Table(table, parts, plan.salt) for table, parts in zip(plan.tables, made, strict=True)]
        state = FeatureState.of(plan.tables, plan.parts(rows.last.lazy(), lookups, base), plan.columns, as_of, since)
        given = rows.given + min(found[0], origin.given)
        content = JournalContent(kept.digest, rows.count, rows.cut, dict(origin.seen), origin.columns, origin.keep_us, given)
        name = f"{self._number() + 1:06d}-{state.digest[:12]}"
        with replacing_folder(self.folder / JOURNAL / name, on_disk=True) as place:
            if rows.old is not None:
                _write_rows(rows.old, place / OLD_ROWS)
            elif before is not None:
                _link(before.folder / OLD_ROWS, place / OLD_ROWS)
            _write_rows(rows.last, place / LAST_ROWS)
            with durable(place / JOURNAL_FILE, FOR_ITS_OWNER) as stream:
                stream.write(msgspec.json.encode(content))
        with replacing_folder(self.folder / name, on_disk=True) as place:
            write_state(state, place)
        point(self.folder, name)
        self._clear()
        return Refreshed(name, open_state(self.folder / name), rows.count, *found, is_new=True)

    def _note(self, current: Current, seen: Seen) -> None:
        """Remember files that hold nothing new."""
        content = msgspec.json.encode(msgspec.structs.replace(current.journal, seen=dict(seen)))
        replace_durably(current.folder / JOURNAL_FILE, content, FOR_ITS_OWNER)

    def names(self) -> list[str]:
        """The versions' names, the newest last."""
        return sorted(each.name for each in self.folder.glob("[0-9]*-*") if each.is_dir())

    def _number(self) -> int:
        return max(map(_number_of, self.names()), default=0)

    def _clear(self) -> None:
        """Take away what an interrupted refresh left, and all but the newest versions."""
        with suppress(OSError):
            current = (self.folder / CURRENT).read_text(encoding="utf-8").strip()
            kept = {current, *[name for name in self.names() if name <= current][-VERSIONS:]}
            for folder in (self.folder, self.folder / JOURNAL):
                for place in folder.glob("[0-9]*-*"):
                    if place.name not in kept:
                        shutil.rmtree(place, ignore_errors=True)
        for folder in (self.folder, self.folder / JOURNAL):
            for place in folder.glob(".*"):
                if place.is_dir():
                    shutil.rmtree(place, ignore_errors=True)


class SharedVersions(Versions):
    """Those in a database: brought into the folder before they are looked at, and sent from it when there is another."""

    def __init__(self, folder: Path, database: Database) -> None:
        super().__init__(folder)
        self._database = database
        self._least = ""

    def current(self) -> Current | None:
        with self._database.changing(self.folder):
            return self._current()

    def refresh(self, plan: StatePlan, kept: Kept, new: pl.DataFrame, lookups: Joined, origin: Origin, *, anew: bool = False) -> Refreshed:
        """Take rows in, while no other process does, here or elsewhere."""
        with self._database.changing(self.folder, anew=anew) as change:
            self._least = change.version
            done = super().refresh(plan, kept, new, lookups, origin, anew=anew)
            change.send(done.version)
            return done

    def _number(self) -> int:
        return max(super()._number(), _number_of(self._least))

    def begin(self) -> str:
        """Send the folder's current version where the database has none; its name, empty if nothing was sent."""
        if not (self.folder / CURRENT).exists() or self._database.has_version():
            return ""
        with self._database.changing(self.folder) as change:
            current = self._current() if change.is_first else None
            if current is None or current.state is None:
                return ""
            change.send(current.name)
            return current.name


def _number_of(version: str) -> int:
    """The number that a version's name begins with."""
    return int(version.partition("-")[0] or 0)


def versions_of(settings: Settings, layout: Layout) -> Versions:
    """The versions of a pipeline's state, where it keeps them."""
    address = address_of_state(settings)
    return Versions(layout.state) if address is None else SharedVersions(layout.state, Database(address, layout.name))


def _parted(rows: pl.DataFrame, plan: StatePlan) -> _Rows:
    """Rows as old ones, and those of the last days; of a table without a time all are old."""
    if plan.recipe.time_column is None or not rows.height:
        return _Rows(rows, rows.clear(), None, rows.height)
    last = microseconds(newest(rows.lazy(), plan.recipe))
    delay = max((made.delay_us for made in plan.columns.values()), default=0)
    cut = last - last % DAY_US - LAST_DAYS * DAY_US - delay
    is_last = _is_last(plan, cut)
    return _Rows(rows.filter(~is_last), rows.filter(is_last), cut, rows.height)


def _held(current: Current) -> pl.LazyFrame:
    import polars as pl

    return pl.concat([current.rows(OLD_ROWS), current.rows(LAST_ROWS)])


def _earlier(current: Current, plan: StatePlan, new: pl.DataFrame) -> pl.DataFrame:
    """The rows of a version from before the first moment of others."""
    import polars as pl

    time = plan.recipe.time_column
    return _held(current).filter(pl.lit(value=False) if time is None else pl.col(time) < new[time].min()).collect()


def _gone(current: Current, plan: StatePlan, kept: Kept, new: pl.DataFrame) -> int:
    """How many rows of a version are not among others, as far as these reach back; an outcome may be another."""
    import polars as pl

    held, time = _held(current).collect(), plan.recipe.time_column
    is_last = _is_last(plan, current.journal.cut)
    if held.equals(pl.concat([new.filter(~is_last), new.filter(is_last)])):
        return 0
    if time is not None:
        held = held.filter((pl.col(time) < new[time].min()).not_().fill_null(value=True))
    return without(held, new, kept)


def _is_last(plan: StatePlan, cut: int | None) -> pl.Expr:
    """Whether a row is one of the last days, as an expression; a row without a time is not."""
    import polars as pl

    if cut is None or plan.recipe.time_column is None:
        return pl.lit(value=False)
    return (pl.col(plan.recipe.time_column).cast(pl.Datetime("us")).cast(pl.Int64) >= cut).fill_null(value=False)


def _lookups(parts: Sequence[Sequence[TablePart]]) -> list[str]:
    """The digests of lookups' tables, which have no moments."""
    return [of_table[0].digest for of_table in parts if "moments" not in of_table[0].arrays]


def _write_rows(rows: pl.DataFrame, path: Path) -> None:
    with durable(path, FOR_ITS_OWNER) as stream:
        rows.write_parquet(stream, compression="zstd", compression_level=1)


def _link(old: Path, new: Path) -> None:
    if not linked(old, new):
        shutil.copyfile(old, new)
        new.chmod(FOR_ITS_OWNER)
