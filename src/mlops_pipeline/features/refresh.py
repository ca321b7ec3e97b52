"""`mlops features`: the state that rows are asked of, brought up to date from the source or from new rows, and what it holds."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.moments import shown_moment, span_of
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.features.journal import Kept, kept_of
from mlops_pipeline.features.keyed import StatePlan
from mlops_pipeline.features.rows import Joined, kept_recipe, recipe_of, typed_rows
from mlops_pipeline.features.state import open_state
from mlops_pipeline.features.store import StateStore
from mlops_pipeline.features.versions import BrokenRows, Current, Origin, Refreshed, Seen, SharedVersions, versions_of
from mlops_pipeline.layout import Layout
from mlops_pipeline.tables.database import take_snapshot
from mlops_pipeline.tables.lookups import lookup_table
from mlops_pipeline.tables.source import Chunk, as_written, locate, read_file, read_files

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

OTHER = "the recipe keeps other columns than before, or makes them in another way"
"""Why the rows that a state is made of are read again."""


@dataclass
class _Read:
    """What a refresh has read: how many rows, how many of them are broken, the first reason, and what to say of the files."""

    rows: int = 0
    broken: int = 0
    why: str = ""
    where: str = ""
    """What an error in the rows is an error of."""
    is_given: bool = False
    """Whether the rows that come are none of the source's."""
    given: int = 0
    """How many of those are whole."""
    notes: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Asked:
    """What a dataset's state is made of, where its source has these columns."""

    there: tuple[str, ...]
    lookups: Joined
    plan: StatePlan
    kept: Kept


def has_state(settings: Settings) -> bool:
    """Whether a dataset has columns that are made of other rows, or looked up."""
    return bool(settings.dataset.lookups or recipe_of(settings.dataset).late)


def refresh(settings: Settings, layout: Layout, console: Console, given: Path | None = None, *, anew: bool = False) -> Refreshed:
    """Take the rows of a file in, or else those of the source's files that are new or have changed; ``anew``: of the source alone.

    The first state, and one of a recipe that keeps other columns, is of the whole source. Raises :class:`PipelineError`.
    """
    if not has_state(settings):
        raise _without_state(layout)
    data, versions = settings.dataset, versions_of(settings, layout)
    tables = [(lookup.keys, lookup_table(lookup, data, layout)) for lookup in data.lookups]
    current = None if anew else versions.current()
    asked = None if current is None else _asked(settings, current.journal.columns, tables)
    if current is not None and asked is not None and asked.kept.digest != current.journal.kept:
        if current.journal.given:
            raise PipelineError(
                f"{layout.config}: {OTHER}; and {_given(current)}: "
                "make the state anew with `mlops features refresh --anew`, then give these again"
            )
        console.print(f"            {OTHER}: the state is made anew from the source")
        current, asked = None, None
    _tell_unreadable(current, console)
    read, seen = _Read(), _files(settings, layout) if given is None or current is None else {}
    if current is not None:
        seen = {file: what for file, what in seen.items() if current.journal.seen.get(file) != what}
    chunks = _chunks(settings, layout, seen, given, read)
    if asked is None:
        first = next(chunks, None)
        if first is None:
            raise PipelineError(f"{layout.config}: dataset.source: holds no row: give one with a header and rows")
        asked, chunks = _asked(settings, first.frame.columns, tables), _again(first, chunks)
    if not asked.plan.tables:
        raise _without_state(layout)
    rows = _rows(settings, chunks, tables, asked.kept, read)
    origin = Origin(seen, asked.there, _keep_us(settings), read.given)
    done = versions.refresh(asked.plan, asked.kept, rows, asked.lookups, origin, anew=current is None)
    for note in read.notes:
        console.print(f"            {note}")
    _told(console, done, read)
    return done


def send_first(settings: Settings, layout: Layout, console: Console) -> None:
    """Where the state has come to be kept in PostgreSQL: send the folder's, with all that came by --input, if there is none yet.

    An ingest does so too, but runs only where the source has changed. One who needs the database and has none is told so by it.
    """
    versions = versions_of(settings, layout)
    if not isinstance(versions, SharedVersions) or not has_state(settings):
        return
    try:
        name = versions.begin()
    except PipelineError as error:
        console.print(f"the features' state was not sent, if there is none yet: {one_line(error)}")
        return
    if name:
        console.print(f"the features' state {name} of {layout.relative(layout.state)} was sent to PostgreSQL")


def seen_before(settings: Settings, layout: Layout) -> Seen:
    """The source's files as they are before an ingest reads them, so that what is written meanwhile is read another time."""
    if settings.as_of is not None or not has_state(settings):
        return {}
    return _files(settings, layout, ask=not layout.snapshot.is_file())


def take_ingested(
    settings: Settings, layout: Layout, console: Console, table: Path, there: Collection[str], tables: Joined, seen: Seen
) -> None:
    """Take in the rows of an ingest, a Parquet file without columns that are made of other rows: the first state, or what is new in it.

    ``seen`` is what :func:`seen_before` said. A state that makes other columns, by which a champion may be served, stays as it is.
    """
    import polars as pl

    if not has_state(settings):
        return
    asked = _asked(settings, there, tables)
    if not asked.plan.tables:
        return
    versions, current, anew = versions_of(settings, layout), None, False
    try:
        current = versions.current()
    except BrokenRows as error:
        console.print(f"            {one_line(error)}")
        console.print("            the features' state is made anew from the source: take in again what came by --input")
        anew = True
    if current is not None and (why := _stays(current, asked, settings)):
        console.print(f"            features' state {current.name} stays as it is: {why}")
        return
    if current is not None and current.journal.kept == asked.kept.digest:
        _tell_unreadable(current, console)
    needed = list(dict.fromkeys((*asked.kept.names, *asked.kept.identity)))
    rows = asked.kept.of(pl.scan_parquet(table, glob=False).select(needed).collect(engine="streaming"))
    origin = Origin(seen, asked.there, _keep_us(settings), is_whole=_is_whole(settings, layout, current, seen))
    done = versions.refresh(asked.plan, asked.kept, rows, asked.lookups, origin, anew=anew)
    if done.gone:
        console.print(f"            rows that the source holds no more, or otherwise, go from the features' state: {done.gone:,}")
    console.print(f"            features' state as of {shown_moment(done.state.as_of.replace(tzinfo=None))}: {done.rows:,} rows")


def _is_whole(settings: Settings, layout: Layout, current: Current | None, seen: Seen) -> bool:
    """Whether an ingest has read all that a state's rows came from, and nothing has been written meanwhile."""
    return (
        settings.as_of is None
        and current is not None
        and current.journal.seen.keys() <= seen.keys()
        and _files(settings, layout, ask=False) == seen
    )


def _stays(current: Current, asked: _Asked, settings: Settings) -> str:
    """Why a run leaves a state as it is; empty if it brings it up to date, or replaces it by one that makes all that it makes."""
    anew = "`mlops features refresh --anew` makes it of this recipe"
    if current.state is not None and not asked.plan.goes_on(current.state):
        return f"it is of another recipe, by which a champion may be served: {anew}"
    if current.journal.kept == asked.kept.digest:
        return ""
    if current.journal.given:
        return f"{OTHER}; and {_given(current)}: {anew}, then give these again"
    return f"{OTHER}; and --as-of leaves rows out: {anew}" if settings.as_of is not None else ""


def _given(current: Current) -> str:
    return f"{current.journal.given:,} of its rows came by --input"


def show(settings: Settings, layout: Layout, console: Console, *, as_json: bool = False) -> None:
    """`mlops features show`; ``as_json`` prints it for a program. Raises :class:`PipelineError` where there is no state."""
    asked = layout.asked_state(settings)
    place = StateStore(asked).version()
    if place is None and not has_state(settings):
        raise PipelineError(f"{layout.config}: no column is looked up, or made of other rows: there is no state to show")
    if place is None:
        where = layout.state if asked.address is None else f"features.state: '{asked.name}' in PostgreSQL"
        raise PipelineError(f"{where}: there is no state of features: make one with `mlops features refresh`")
    state = open_state(place)
    tables: list[dict[str, Any]] = [
        {
            "by": list(table.described.by),
            "keys": table.key_count,
            "rows": sum(part.size for part in table.parts),
            "columns": [name for name, made in state.columns.items() if made.table == number],
        }
        for number, table in enumerate(state.tables)
    ]
    if as_json:
        facts = {"version": place.name, "as_of": state.as_of.isoformat(), "digest": state.digest, "bytes": state.size, "tables": tables}
        print(json.dumps(facts))
        return
    lines = [
        f"version    {place.name}",
        f"as of      {shown_moment(state.as_of.replace(tzinfo=None))} UTC",
        f"digest     {state.digest}",
        f"size       {state.size / 1e6:,.1f} MB",
    ]
    for table in tables:
        lines.append(f"by {' and '.join(table['by']) or 'all rows'}: {table['keys']:,} keys, {table['rows']:,} rows")
        lines += [f"  {name}" for name in table["columns"]]
    console.print("\n".join(lines))


def _tell_unreadable(current: Current | None, console: Console) -> None:
    if current is not None and current.state is None:
        what = "is of another format, or cannot be read: it is made anew of the rows that it was made of"
        console.print(f"            the features' state {current.name} {what}")


def _without_state(layout: Layout) -> PipelineError:
    return PipelineError(f"{layout.config}: no column is looked up, or made of other rows: there is no state to refresh")


def _asked(settings: Settings, there: Collection[str], tables: Joined) -> _Asked:
    """What is asked for; a lookup gives no column that the source has itself."""
    data = settings.dataset
    recipe, lookups = kept_recipe(settings, there, tables)
    plan = StatePlan(recipe, {name: column.kind for name, column in data.columns.items()}, lookups)
    return _Asked(tuple(there), lookups, plan, kept_of(plan, data, there))


def _keep_us(settings: Settings) -> int | None:
    keep = settings.features.keep
    return None if keep is None else span_of(keep).microseconds


def _files(settings: Settings, layout: Layout, *, ask: bool = True) -> dict[str, tuple[int, int]]:
    """The source's files, each with its size and the moment it was written; a query is asked again."""
    source = settings.dataset.read_as
    if source.sql is not None and ask:
        take_snapshot(source, layout.project, layout.snapshot)
    return {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in locate(source, layout)}


def _chunks(settings: Settings, layout: Layout, seen: Seen, given: Path | None, read: _Read) -> Iterator[Chunk]:
    data, chunk_mb = settings.dataset, settings.ingest.chunk_mb
    if seen:
        read.where = str(layout.config)
        yield from read_files([Path(file) for file in seen], data.read_as, chunk_mb, data.columns)
    if given is not None:
        if not given.is_file():
            raise PipelineError(f"--input {given}: does not exist: name a file with rows as the source has them")
        plain = data.read_as.model_copy(update={"sql": None, "uri": None})
        written, notes = as_written(given, plain, [name for name in data.columns if name not in recipe_of(data).late])
        read.notes |= dict.fromkeys(notes)
        read.where, read.is_given = f"--input {given}", True
        yield from read_file(given, written, chunk_mb, data.columns)


def _again(first: Chunk, others: Iterator[Chunk]) -> Iterator[Chunk]:
    yield first
    yield from others


def _rows(settings: Settings, chunks: Iterable[Chunk], tables: Joined, kept: Kept, read: _Read) -> pl.DataFrame:
    """What is kept of the rows that are whole. Raises :class:`PipelineError` if too many are not."""
    import polars as pl

    data, recipe = settings.dataset, recipe_of(settings.dataset)
    late = {data.target, *data.known_after_outcome}
    frames = [pl.DataFrame(schema=kept.schema)]
    for chunk in chunks:
        # An outcome that is not known yet may be no column at all.
        missing = [name for name in data.columns if name in late and name not in chunk.frame.columns and name not in recipe.derive]
        frame = chunk.frame.with_columns([pl.lit(None, dtype=pl.String).alias(name) for name in missing])
        read.notes |= dict.fromkeys(chunk.notes)
        try:
            typed = typed_rows(Chunk(frame, chunk.row_numbers, chunk.broken), data, recipe, tables)
        except PipelineError as error:
            raise PipelineError(f"{read.where}: {error}") from error
        read.rows += typed.read
        read.given += typed.table.height if read.is_given else 0
        read.broken += len(typed.broken)
        read.why = read.why or next((f"row {row.row}: {row.reason}" for row in typed.broken), "")
        frames.append(kept.of(typed.table))
    if read.rows and read.broken / read.rows > settings.ingest.max_broken_share:
        share = settings.ingest.max_broken_share
        raise PipelineError(
            f"{read.where}: ingest.max_broken_share = {share}: {read.broken} of {read.rows} rows are broken ({read.why}): "
            "nothing was taken in: mend them, or raise the share"
        )
    return pl.concat(frames)


def _told(console: Console, done: Refreshed, read: _Read) -> None:
    parts = [f"{read.rows:,} rows read: {done.new:,} new"] if read.rows else ["no file of the source is new, or has changed"]
    parts += [f"{done.changed:,} of which more is known"] if done.changed else []
    parts += [f"{read.broken:,} broken ({read.why})"] if read.broken else []
    console.print(", ".join(parts))
    as_of = shown_moment(done.state.as_of.replace(tzinfo=None))
    what = "is" if done.is_new else "stays"
    console.print(f"the state {what} {done.version}: as of {as_of} UTC, {done.rows:,} rows, {done.state.size / 1e6:,.1f} MB")
