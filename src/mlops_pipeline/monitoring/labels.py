"""Labels that come late: read from a table, kept once each, and found again among the rows of a window.

A label is of a prediction by its request's id and row, by the id that the client gave the row, or by an entity and a moment. Of an
entity are the rows whose id is its key (its values with ``/`` between them where it has several columns); each takes the first label
that happened after it.
"""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.contract.label import Target, prediction_name
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.contract.values import BLANKS, LARGEST_INTEGER, category_of, spelled
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import current_user
from mlops_pipeline.monitoring.state import Label, WatchState, digest

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.config.pipeline import Settings

REQUEST, ID, ENTITY = "request", "id", "entity"
REQUEST_COLUMN, ROW_COLUMN, ID_COLUMN, TARGET_COLUMN, TIME_COLUMN = "request_id", "row", "id", "label", "time"
CHUNK_MB = 64
DAY_S = 86_400.0
CLOCKS_S = 3600.0
"""By so much the clocks of a server and of who takes its labels may differ."""


@dataclass(frozen=True)
class Added:
    """What became of a table of labels, in rows; ``why`` is of the first that was refused."""

    rows: int = 0
    new: int = 0
    known: int = 0
    """Those that were there already, with the same value."""
    contradicting: int = 0
    """Those that say otherwise than one before, in the table or kept: the newest holds."""
    empty: int = 0
    """Those without a value: not known yet."""
    late: int = 0
    """Of those that are new or say otherwise, those that happened longer ago than labels are waited for."""
    early: int = 0
    """Those that happen later than tomorrow, by their own time."""
    untimed: int = 0
    """Those whose own time is no moment, though they can do without: it is left out."""
    unseen: int = 0
    """Those of a class that the model has never seen: they are kept, and count as wrong answers."""
    refused: int = 0
    why: str = ""
    by: str = ""
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many of each there were."""
        return {each.name: value for each in fields(self) if isinstance(value := getattr(self, each.name), int)}

    def __str__(self) -> str:
        parts = [f"{self.rows:,} rows: {self.new:,} new labels by {self.by}"]
        for name, count in (("there already", self.known), ("contradicting earlier ones, which they replace", self.contradicting)):
            parts += [f"{count:,} {name}"] if count else []
        parts += [f"{self.empty:,} without a value"] if self.empty else []
        parts += [f"{self.late:,} late"] if self.late else []
        parts += [f"{self.early:,} with a time that is still to come (UTC where no zone is given)"] if self.early else []
        parts += [f"{self.untimed:,} with a time that is no moment, and is left out"] if self.untimed else []
        parts += [f"{self.unseen:,} of a class that the model has never seen"] if self.unseen else []
        parts += [f"{self.refused:,} refused ({self.why})"] if self.refused else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what: ``target`` the value, ``when`` when it happened, the others which prediction it is of."""

    by: str
    target: str
    name: tuple[str, ...]
    row: str | None = None
    when: str | None = None

    @property
    def told(self) -> str:
        """By what labels are joined, in words."""
        if self.by == REQUEST:
            return REQUEST_COLUMN + (f" and {self.row}" if self.row else "")
        return " and ".join(self.name) + (f" and {self.when}" if self.by == ENTITY else "")


@dataclass(frozen=True)
class One:
    """A label that can be kept: of which prediction, its value, and when it happened (seconds since 1970; None: it does not say)."""

    by: str
    name: str
    place: int
    value: Any
    happened: float | None = None

    def row(self, turn: int) -> tuple[Any, ...]:
        """It as a row of what has come in."""
        moment = (self.happened or 0.0) if self.by == ENTITY else 0.0
        return (turn, self.by, self.name, self.place, moment, json.dumps(self.value), self.happened)


def target_of(settings: Settings) -> Target:
    """What labels are of, as a pipeline's settings say."""
    data = settings.dataset
    described = data.columns[data.target]
    when = data.columns[data.time_column] if data.time_column else None
    return Target(
        data.target,
        described.kind,
        has_classes(data.task),
        data.null_words(data.target),
        described.format,
        tuple(data.entity_key),
        data.time_column,
        None if when is None else when.format,
        data.source.trim,
    )


def keep_labels(state: WatchState, labels: Sequence[One], origin: str, who: str, *, empty: int = 0, wait_s: float = math.inf) -> Added:
    """Keep labels that were read already, all of them or none; ``empty`` more had no value. On return they are on the disk."""
    now, added = time.time(), Added(rows=len(labels) + empty, empty=empty)
    with state.writing():
        _make_incoming(state)
        state.database.many(_INSERT, (label.row(turn) for turn, label in enumerate(labels)))
        _sort_incoming(state)
        added = _keep(state, added, now, wait_s)
        _remember(state, added, origin, who, now)
    return added


def add_labels(
    state: WatchState,
    settings: Settings,
    table: Path,
    origin: str,
    target: str | None = None,
    *,
    wait_s: float = math.inf,
    classes: Collection[Any] = (),
) -> Added:
    """Keep the labels of a file, all of them or none. Raises :class:`PipelineError` if it names no prediction, or no value.

    Those that happened longer than ``wait_s`` ago count as late, those of none of ``classes`` (if there are any) as unseen.
    """
    from mlops_pipeline.tables.source import as_written, read_file

    # An empty text is told from a word for null only where values are looked at.
    usual = settings.dataset.source.model_copy(update={"null_values": (), "sql": None, "uri": None})
    written, notes = as_written(table, usual, [target or settings.dataset.target])
    chunks = read_file(table, written, CHUNK_MB)
    added, known = Added(notes=notes), {str(spelled(each)) for each in classes}
    columns: Columns | None = None

    def gather() -> None:
        """Read all of it, while others may write: a large file takes minutes."""
        nonlocal added, columns
        _make_incoming(state)
        for chunk in chunks:
            if columns is None:
                columns = _columns(chunk.frame.columns, settings, target, origin)
                added = _with(added, by=columns.told)
            broken = [f"row {row.row}: {row.reason}" for row in chunk.broken]
            added = _counted(added, rows=len(broken), refused=len(broken), why=broken[0] if broken else "")
            added = _take(state, settings, chunk.frame, chunk.row_numbers, columns, added, known)
        if columns is None:
            raise PipelineError(f"{origin}: is empty: give a table with a header and rows")
        _sort_incoming(state)

    with state.writing(gather):
        now = time.time()
        added = _keep(state, added, now, wait_s)
        _remember(state, added, origin, current_user(), now)
    return added


def _remember(state: WatchState, added: Added, origin: str, who: str, now: float) -> None:
    """Keep that labels were added, from where and by whom."""
    state.database.ask(
        "INSERT INTO mlops_monitor_additions (made, who, origin, counts) VALUES (?, ?, ?, ?)", now, who, origin, json.dumps(added.counts)
    )


def _columns(there: Sequence[str], settings: Settings, target: str | None, origin: str) -> Columns:
    """What the columns of a table are. Raises :class:`PipelineError`."""
    data = settings.dataset
    value = target or next((name for name in (data.target, TARGET_COLUMN) if name in there), None)
    if value is None or value not in there:
        raise PipelineError(
            f"{origin}: has no column '{target or data.target}' with what came of it (it has {', '.join(there[:8])}): name it with --target"
        )
    when = data.time_column if data.time_column in there else TIME_COLUMN if TIME_COLUMN in there else None
    if REQUEST_COLUMN in there:
        return Columns(REQUEST, value, (REQUEST_COLUMN,), ROW_COLUMN if ROW_COLUMN in there else None, when)
    if ID_COLUMN in there:
        return Columns(ID, value, (ID_COLUMN,), None, when)
    if data.entity_key and set(data.entity_key) <= set(there):
        return Columns(ENTITY if when else ID, value, data.entity_key, None, when)
    keys = f", or {' and '.join(data.entity_key)} with a time" if data.entity_key else ""
    raise PipelineError(
        f"{origin}: says of no row which prediction it is of: add {REQUEST_COLUMN} (and {ROW_COLUMN}) as `mlops records export` has them, "
        f"{ID_COLUMN} as the client gave it{keys}"
    )


def _take(
    state: WatchState, settings: Settings, frame: pl.DataFrame, numbers: pl.Series, columns: Columns, added: Added, classes: Collection[str]
) -> Added:
    """Put the labels of some rows among those that have come in; what cannot be read is counted, and the first of it told."""
    import polars as pl

    values, unread = _values(frame[columns.target], settings, columns.target)
    name = pl.Series("name", _texts(frame.select(columns.name)), dtype=pl.String)
    place, bad_place = _places(frame, columns)
    moment, bad_moment = _moments(frame, columns, settings)
    unnamed = name.is_null() | (name == "")
    late = bad_moment if columns.by == ENTITY else pl.repeat(value=False, n=frame.height, eager=True)
    reasons: tuple[tuple[pl.Series, str], ...] = (
        (unread, f"'{columns.target}' is none of the values that {settings.dataset.target} has"),
        (unnamed, f"{' and '.join(columns.name)} is empty"),
        (bad_place, f"'{columns.row}' is no row's number"),
        (late, f"'{columns.when}' is no moment"),
    )
    refused = pl.repeat(value=False, n=frame.height, eager=True)
    why = ""
    for wrong, reason in reasons:
        new = wrong & ~refused
        if not why and new.any():
            why = f"row {numbers[int(new.arg_true()[0])]}: {reason}"
        refused = refused | wrong
    empty = ~refused & pl.Series([value is None for value in values], dtype=pl.Boolean)
    kept = (~refused & ~empty).arg_true().to_list()
    soon = time.time() + DAY_S
    early = sum((moment[at] or 0.0) > soon for at in kept)
    untimed = int((~refused & ~empty & bad_moment & _is_written(frame, columns, settings)).sum())
    unseen = sum(category_of(str(spelled(values[at])), classes, ()) not in classes for at in kept) if classes else 0
    rows = (One(columns.by, name[at], place[at], values[at], moment[at]).row(added.rows + at) for at in kept)
    state.database.many(_INSERT, rows)
    counts = {"refused": int(refused.sum()), "empty": int(empty.sum()), "early": early, "untimed": untimed, "unseen": unseen}
    return _counted(added, rows=frame.height, why=why, **counts)


def _values(given: pl.Series, settings: Settings, name: str) -> tuple[list[Any], pl.Series]:
    """Labels as the table holds them, a yes/no target as 0 and 1, and which of them cannot be read (:meth:`Target.read`, by columns)."""
    import polars as pl

    from mlops_pipeline.tables.cast import cast_columns

    data = settings.dataset
    described = data.columns[data.target]
    frame = given.to_frame().rename({name: data.target}) if name != data.target else given.to_frame()
    cast = cast_columns(frame, {data.target: described}, data.null_words(data.target))[data.target]
    words = data.null_words(data.target)
    was_there = given.is_not_null()
    if given.dtype == pl.String:
        was_there &= ~(given.is_in([*words]) | given.str.strip_chars(BLANKS).is_in([*words, ""]))
        cast = cast.set(~was_there, None)
    elif given.dtype.is_float():
        was_there &= given.is_not_nan().fill_null(value=False)
    unread = was_there & cast.is_null()
    read: list[Any]
    if described.kind == "boolean":
        read = [None if value is None else int(value) for value in cast.to_list()]
    elif has_classes(data.task) and described.kind in ("integer", "number"):
        read = [None if value is None else int(value) if float(value).is_integer() else float(value) for value in cast.to_list()]
    elif described.kind == "category":
        read = [None if value is None else str(value) for value in cast.to_list()]
    else:
        read = [None if value is None else float(value) for value in cast.to_list()]
    return read, unread


def _texts(frame: pl.DataFrame) -> list[str | None]:
    """Keys as text: whole numbers as they are written, several columns with ``/`` between them."""
    import polars as pl

    parts = []
    for series in frame.iter_columns():
        if series.dtype.is_float():
            series = series.fill_nan(None)  # noqa: PLW2901
            if (series.drop_nulls() == series.drop_nulls().round()).all():
                series = series.cast(pl.Int64, strict=False)  # noqa: PLW2901
        parts.append([text and prediction_name(text) for text in series.cast(pl.String).to_list()])
    return [None if None in row else "/".join(row) for row in zip(*parts, strict=True)]


def _places(frame: pl.DataFrame, columns: Columns) -> tuple[list[int], pl.Series]:
    import polars as pl

    if columns.row is None:
        return [0] * frame.height, pl.repeat(value=False, n=frame.height, eager=True)
    places = frame[columns.row].cast(pl.Float64, strict=False)
    wrong = (places.is_null() | places.is_nan() | (places < 0) | (places > LARGEST_INTEGER) | (places != places.round())).fill_null(
        value=True
    )
    return [0 if bad else int(place) for place, bad in zip(places.to_list(), wrong.to_list(), strict=True)], wrong


def _moments(frame: pl.DataFrame, columns: Columns, settings: Settings) -> tuple[list[float | None], pl.Series]:
    """When each label happened, in seconds since 1970 (UTC where no zone is given), and for which that cannot be read."""
    import polars as pl

    from mlops_pipeline.tables.cast import cast_columns

    if columns.when is None:
        return [None] * frame.height, pl.repeat(value=True, n=frame.height, eager=True)
    data = settings.dataset
    described = data.columns[data.time_column] if data.time_column else None
    wanted = described if described is not None and columns.when == data.time_column else Column(kind="datetime")
    read = cast_columns(frame.select(columns.when), {columns.when: wanted}, settings.dataset.source.null_values)[columns.when]
    seconds = (read.cast(pl.Datetime("us")).dt.epoch("us") / 1e6).to_list()
    return seconds, read.is_null()


def _is_written(frame: pl.DataFrame, columns: Columns, settings: Settings) -> pl.Series:
    """Whether each label says anything of when it happened."""
    import polars as pl

    from mlops_pipeline.tables.cast import are_there

    if columns.when is None:
        return pl.repeat(value=False, n=frame.height, eager=True)
    values = frame[columns.when]
    there = are_there(values, "datetime", settings.dataset.source.null_values)
    return there & (values.str.strip_chars(BLANKS) != "").fill_null(value=False) if values.dtype == pl.String else there


_KEY = "kind, name, place, moment"
_INSERT = "INSERT INTO mlops_monitor_incoming VALUES (?, ?, ?, ?, ?, ?, ?)"


def _make_incoming(state: WatchState) -> None:
    """What a transaction gathers; it drops it in the end, or it was never made."""
    state.database.ask(
        "CREATE TEMPORARY TABLE mlops_monitor_incoming (turn BIGINT, kind TEXT, name TEXT, place BIGINT, moment DOUBLE PRECISION,"
        " value TEXT, happened DOUBLE PRECISION)"
    )


def _sort_incoming(state: WatchState) -> None:
    state.database.ask(f"CREATE INDEX mlops_monitor_incoming_key ON mlops_monitor_incoming ({_KEY}, turn)")


def _keep(state: WatchState, added: Added, now: float, wait_s: float) -> Added:
    """Keep what has come in: of several of one prediction the last; one that is kept already with the same value stays as it is."""
    ask = state.database.ask
    same = " AND ".join(f"other.{column} = incoming.{column}" for column in _KEY.split(", "))
    later = f"SELECT 1 FROM mlops_monitor_incoming AS other WHERE {same} AND other.turn > incoming.turn"  # noqa: S608  # our own words
    otherwise = f"{later} AND other.value <> incoming.value"
    [(repeated,)] = ask(f"SELECT count(*) FROM mlops_monitor_incoming AS incoming WHERE EXISTS ({later})")  # noqa: S608
    [(opposed,)] = ask(f"SELECT count(*) FROM mlops_monitor_incoming AS incoming WHERE EXISTS ({otherwise})")  # noqa: S608
    last = f"NOT EXISTS ({later})"
    held = f"FROM mlops_monitor_incoming AS incoming JOIN mlops_monitor_labels AS other ON {same} WHERE {last}"
    [(known,)] = ask(f"SELECT count(*) {held} AND other.value = incoming.value")
    [(replaced,)] = ask(f"SELECT count(*) {held} AND other.value <> incoming.value")
    [(late,)] = ask(
        f"SELECT count(*) FROM mlops_monitor_incoming AS incoming WHERE {last} AND happened < CAST(? AS DOUBLE PRECISION) AND NOT EXISTS"  # noqa: S608
        f" (SELECT 1 FROM mlops_monitor_labels AS other WHERE {same} AND other.value = incoming.value)",
        now - wait_s,
    )
    # One that says otherwise comes as a new one, with a number of its own, so that every window looks at it again.
    ask(f"DELETE FROM mlops_monitor_labels WHERE number IN (SELECT other.number {held} AND other.value <> incoming.value)")  # noqa: S608
    [(before,)] = ask("SELECT count(*) FROM mlops_monitor_labels")
    ask(
        f"INSERT INTO mlops_monitor_labels ({_KEY}, value, happened, received) SELECT {_KEY}, value, happened, CAST(? AS DOUBLE PRECISION)"  # noqa: S608
        f" FROM mlops_monitor_incoming AS incoming WHERE {last} ORDER BY turn ON CONFLICT DO NOTHING",
        now,
    )
    [(after,)] = ask("SELECT count(*) FROM mlops_monitor_labels")
    ask("DROP TABLE mlops_monitor_incoming")
    return _counted(
        added,
        new=int(after) - int(before) - int(replaced),
        known=int(known) + int(repeated) - int(opposed),
        contradicting=int(replaced) + int(opposed),
        late=int(late),
    )


def _counted(added: Added, *, why: str = "", **more: int) -> Added:
    return _with(added, why=added.why or why, **{name: getattr(added, name) + count for name, count in more.items()})


def _with(added: Added, **changed: Any) -> Added:
    return Added(**{each.name: changed.get(each.name, getattr(added, each.name)) for each in fields(Added)})


# ------------------------------------------------------------------------------------------------ among a window's rows


def keys_of(frames: Iterable[pl.DataFrame]) -> bytes:
    """The digests of all names that rows of a window have, sorted: four bytes each."""
    found: set[int] = set()
    for frame in frames:
        found |= names_in(frame)
    return np.array(sorted(found), dtype="<u4").tobytes()


def names_in(frame: pl.DataFrame) -> set[int]:
    """The digests of the names that some rows have: of their requests, and of the ids that clients gave."""
    requests = {digest(REQUEST, prediction_name(name)) for name in frame["request_id"].unique().drop_nulls().to_list()}
    ids = frame["id"].unique().drop_nulls().to_list()
    return requests | {digest(ID, prediction_name(name)) for name in ids}


def digests_of(labels: Sequence[Label]) -> np.ndarray:
    """The digests of what labels name, as a window's keys have them: uint32."""
    # Those that an older release has kept are as they came.
    names = ((REQUEST if label.kind == REQUEST else ID, prediction_name(label.name)) for label in labels)
    return np.array([digest(*name) for name in names], dtype=np.uint32)


def likely(labels: Sequence[Label], keys: np.ndarray, digests: np.ndarray | None = None) -> list[Label]:
    """Those labels that may be of a window's rows, by the digests of their names."""
    if not labels or not len(keys):
        return []
    there = np.isin(digests_of(labels) if digests is None else digests, keys)
    return [labels[place] for place in np.flatnonzero(there).tolist()]


def is_for(label: Label, since: float) -> bool:
    """Whether a label may be of rows that arrived from a moment on.

    One by id that was there before may be of an earlier row, as ids are used again. The others name their row, or say when it was, and
    are as old as the clock of the machine that took them has it.
    """
    return label.received >= (since if label.kind == ID else since - CLOCKS_S)


@dataclass(frozen=True)
class Known:
    """Labels by what joins them, for the rows of one window."""

    by_request: dict[tuple[str, int], Label]
    by_id: dict[str, Label]
    by_entity: dict[str, list[Label]]
    """In order of time."""
    within: timedelta

    @classmethod
    def of(cls, labels: Iterable[Label], within: timedelta) -> Known:
        """Of several labels with the same name the last holds."""
        requests: dict[tuple[str, int], Label] = {}
        ids: dict[str, Label] = {}
        entities: dict[str, list[Label]] = {}
        for label in labels:
            name = prediction_name(label.name)
            if label.kind == REQUEST:
                requests[name, label.place] = label
            elif label.kind == ID:
                ids[name] = label
            else:
                entities.setdefault(name, []).append(label)
        for each in entities.values():
            each.sort(key=_moment_of)
        return cls(requests, ids, entities, within)

    def of_rows(self, frame: pl.DataFrame) -> list[Label | None]:
        """The label of each row, by its request, by its id, or by entity and moment; None where there is none."""
        if not (self.by_request or self.by_id or self.by_entity):
            return [None] * frame.height
        places = frame["row"].to_list()
        requests, ids = ([text and prediction_name(text) for text in frame[name].to_list()] for name in ("request_id", "id"))
        found = [
            self.by_request.get((request, place)) or self.by_id.get(name)
            for request, place, name in zip(requests, places, ids, strict=True)
        ]
        if self.by_entity:
            times = (frame["time"].dt.epoch("us") / 1e6).to_list()
            found = [label or self._of_entity(name, moment) for label, name, moment in zip(found, ids, times, strict=True)]
        return found

    def _of_entity(self, name: str | None, arrived: float | None) -> Label | None:
        """The first label of an entity that happened after a prediction, and not too long after it."""
        there = self.by_entity.get(name or "", ())
        if arrived is None or (place := bisect_left(there, arrived, key=_moment_of)) == len(there):
            return None
        return there[place] if there[place].moment - arrived <= self.within.total_seconds() else None


def _moment_of(label: Label) -> float:
    return label.moment


def matched(labels: Sequence[Label], frames: Iterator[pl.DataFrame], within: timedelta) -> set[int]:
    """The numbers of those labels that are of some row."""
    known, found = Known.of(labels, within), set()
    for frame in frames:
        found |= {label.number for label in known.of_rows(frame) if label is not None}
    return found
