"""Records read back as a table: one row a predicted row (and one for a request that failed), a bounded part of it in memory.

Columns: ``time`` (arrival, UTC), ``request_id``, ``row`` (from 0; null for a request without rows), ``id`` (the client's own),
``model``, ``version``, ``latency_ms``, ``error``, ``prediction``, ``probability_`` and the class, and the features by name
(``feature_`` and the name where one of the others has it). What a layout does not have is null in its rows.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import replacing
from mlops_pipeline.records.encoding import Blob, Columns, read_blob
from mlops_pipeline.records.entry import MISSING
from mlops_pipeline.records.sqlite import VERSION, files_of
from mlops_pipeline.records.store import StoreError, is_address

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

CHUNK_ROWS = 50_000
CHUNK_BYTES = 32 << 20
_FIELDS = "time, request_id, model, version, rows, latency_us, error, layout, blob"
FETCH = 256
"""Requests taken from the store at a time."""
SHORT_ID = 8
"""Characters of a request's id on a narrow terminal: enough to tell it from its neighbours."""
WIDE = 120
"""Columns of a terminal from which on ids are shown in full."""


@dataclass(frozen=True)
class Filter:
    """Which requests: arrived from ``since`` on and before ``until`` (UTC where no zone is given), of one model, one version."""

    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    version: str | None = None

    def where(self, time_of: str, sign: str) -> tuple[str, list[Any]]:
        """An SQL condition and its values; ``time_of`` turns a parameter into the store's kind of time."""
        terms: list[str] = []
        values: list[Any] = []
        for column, comparison, moment in (("time", ">=", self.since), ("time", "<", self.until)):
            if moment is not None:
                terms.append(f"{column} {comparison} {time_of}")
                values.append(moment.timestamp())
        for column, value in (("model", self.model), ("version", self.version)):
            if value is not None:
                terms.append(f"{column} = {sign}")
                values.append(value)
        return " AND ".join(terms) or "true", values


@dataclass(frozen=True, slots=True)
class Request:
    """One stored request."""

    time: float
    request_id: str
    model: str
    version: str
    rows: int
    latency_us: int
    error: str
    layout: Columns | None
    blob: bytes


def read(
    where: str | Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    model: str | None = None,
    version: str | None = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The records in a folder or at a PostgreSQL address, in order of time; with ``limit`` only the newest rows.

    Raises :class:`PipelineError` in one line if the store is not there, cannot be reached or is damaged.
    """
    import polars as pl

    wanted = _filter(since, until, model, version)
    if limit is not None and limit < 1:
        raise PipelineError(f"limit {limit}: must be at least 1")
    with _opened(where, wanted) as source:
        schema = _schema(source.layouts)
        frames = [_frame(requests, schema) for requests in _chunks(source.requests(limit))]
    table = pl.concat(frames) if frames else pl.DataFrame(schema=schema)
    table = table.sort("time", maintain_order=True)
    return table.tail(limit) if limit is not None else table


def export(
    where: str | Path,
    target: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    model: str | None = None,
    version: str | None = None,
) -> int:
    """Write the records to a Parquet or CSV file, by day and worker (SQLite) or time (PostgreSQL); the number of rows.

    The file appears whole or not at all. Raises :class:`PipelineError` like :func:`read`.
    """
    import pyarrow.parquet as pq

    if target.suffix not in (".parquet", ".csv"):
        raise PipelineError(f"--output {target}: unknown format: end it in .parquet or .csv")
    rows = 0
    try:
        with _opened(where, _filter(since, until, model, version)) as source, replacing(target) as temporary, ExitStack() as stack:
            schema = _schema(source.layouts)
            chunks: Iterator[list[Request]] = itertools.chain([[]], _chunks(source.requests(None)))  # the first gives the header
            if target.suffix == ".csv":
                file = stack.enter_context(temporary.open("wb"))
                for number, requests in enumerate(chunks):
                    frame = _frame(requests, schema)
                    frame.write_csv(file, include_header=number == 0)
                    rows += frame.height
            else:
                writer = None
                for requests in chunks:
                    frame = _frame(requests, schema)
                    part = frame.to_arrow(compat_level=None)
                    writer = writer or stack.enter_context(pq.ParquetWriter(temporary, part.schema, compression="zstd"))
                    if frame.height:
                        writer.write_table(part)
                    rows += frame.height
    except OSError as error:
        raise PipelineError(f"--output {target}: cannot be written ({error.strerror or one_line(error)}): name another place") from error
    return rows


def show(
    where: str | Path,
    *,
    limit: int = 20,
    since: datetime | None = None,
    until: datetime | None = None,
    model: str | None = None,
    version: str | None = None,
) -> Shown:
    """The newest rows for the terminal, the last one lowest; the features are left to :func:`export`."""
    return Shown(read(where, since=since, until=until, model=model, version=version, limit=limit))


@dataclass(frozen=True)
class Shown:
    """Records as a terminal of any width shows them: on a narrow one with the time alone if all are of one day, and short ids."""

    table: pl.DataFrame

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[Table | str]:
        if not self.table.height:
            yield "no records"
            return
        yield self._drawn(wide=options.max_width >= WIDE)

    def _drawn(self, *, wide: bool) -> Table:
        from rich.table import Table
        from rich.text import Text

        days = self.table["time"].drop_nulls().dt.date().unique().to_list()
        of_one_day = len(days) == 1
        clock = "%H:%M:%S" if of_one_day else "%Y-%m-%d %H:%M:%S" if wide else "%m-%d %H:%M:%S"
        has_many_rows, has_ids = bool((self.table["row"] > 0).any()), self.table["id"].null_count() < self.table.height
        title = f"{days[0]:%Y-%m-%d} (UTC)" if of_one_day else None
        drawn = Table(box=None, title=title, title_justify="left", padding=(0, 2, 0, 0))
        drawn.add_column("time" if of_one_day else "time (UTC)", no_wrap=True)
        drawn.add_column("request", no_wrap=True)
        if has_many_rows:
            drawn.add_column("row", justify="right", no_wrap=True)
        if has_ids:
            drawn.add_column("id", overflow="fold")
        drawn.add_column("model", overflow="fold")
        drawn.add_column("ms", justify="right", no_wrap=True)
        drawn.add_column("prediction or error", overflow="fold")
        for row in self.table.iter_rows(named=True):
            request = _plain(row["request_id"] if wide else _short(row["request_id"]))
            cells = (
                f"{row['time']:{clock}}.{row['time'].microsecond // 1000:03}" if row["time"] is not None else "",
                request,
                *([_plain(row["row"])] if has_many_rows else []),
                *([_plain(row["id"])] if has_ids else []),
                " ".join(filter(None, (_plain(row["model"]), _plain(row["version"])))),
                "" if row["latency_ms"] is None else f"{row['latency_ms']:.2f}",
                _outcome(row),
            )
            drawn.add_row(*(Text.from_markup(cell, emoji=False) for cell in cells))
        return drawn


def _outcome(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"[red]{_plain(row['error'])}[/red]"
    said = row["prediction"]
    probability = row.get(f"probability_{said}")
    return (f"{said:.6g}" if isinstance(said, float) else _plain(said)) + ("" if probability is None else f"  {probability:.4f}")


def _short(text: str | None) -> str:
    return "" if text is None else text if len(text) <= SHORT_ID + 1 else f"{text[:SHORT_ID]}…"


def _plain(value: Any) -> str:
    from rich.markup import escape

    return "" if value is None else escape("".join(letter if letter.isprintable() else "�" for letter in str(value)))


def _filter(since: datetime | None, until: datetime | None, model: str | None, version: str | None) -> Filter:
    def utc(moment: datetime | None) -> datetime | None:
        return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    return Filter(utc(since), utc(until), model, version)


# -------------------------------------------------------------------------------------------------------- the stores


class _Files:
    """Requests in SQLite files."""

    def __init__(self, folder: Path, wanted: Filter) -> None:
        if not folder.is_dir():
            raise PipelineError(f"{folder}: there is no such folder of records: name the one that the server writes to (record.folder)")
        self._files: list[Path] = []
        self._where, self._values = wanted.where("?", "?")
        self._last: dict[Path, int] = {}
        self.layouts: list[Columns] = []
        for path in files_of(folder, wanted.since, wanted.until):
            with _reading(path) as connection:
                if not _has_tables(connection, path):
                    continue
                self._files.append(path)
                # What comes in from now on may have other columns.
                (self._last[path],) = connection.execute("SELECT coalesce(max(key), 0) FROM predictions").fetchone()
                used = f"SELECT DISTINCT layout FROM predictions WHERE key <= ? AND {self._where}"  # noqa: S608  # our own words
                found = connection.execute(
                    f"SELECT columns FROM layouts WHERE number IN ({used})",  # noqa: S608  # our own words
                    [self._last[path], *self._values],
                )
                self.layouts += [_columns(text) for (text,) in found]

    def requests(self, limit: int | None) -> Iterator[Request]:
        """All requests, by day and worker; or the newest, until they have so many rows."""
        if limit is None:
            for path in self._files:
                yield from self._of(path, "key")
            return
        for _, files in itertools.groupby(reversed(self._files), key=lambda path: path.name.partition(".")[0]):
            rows = 0
            for path in files:
                held = 0
                for request in self._of(path, "key DESC"):
                    yield request
                    held += max(1, request.rows)
                    if held >= limit:
                        break
                rows += held
            if rows >= limit:
                return

    def _of(self, path: Path, order: str) -> Iterator[Request]:
        with _reading(path) as connection:
            layouts = {number: _columns(text) for number, text in connection.execute("SELECT number, columns FROM layouts")}
            cursor = connection.execute(
                f"SELECT {_FIELDS} FROM predictions WHERE key <= ? AND {self._where} ORDER BY {order}",  # noqa: S608  # our own words
                [self._last[path], *self._values],
            )
            while found := cursor.fetchmany(FETCH):
                for *fields, layout, blob in found:
                    yield _request(fields, layouts.get(layout), blob)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A file that its server may be writing to. What a killed server left is folded in, which needs the right to write."""
    try:
        with closing(_connection(path)) as connection:
            yield connection
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        raise PipelineError(
            f"{path}: cannot be read ({one_line(error)}): move it out of the folder if it is damaged, or get the right to write"
        ) from error


def _has_tables(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether anything can be recorded: a server may be making the file, or have been killed while it did."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version != VERSION and (version or tables):
        raise PipelineError(f"{path}: holds no records of version {VERSION} (but {version}): move the file out of the folder")
    return bool(tables)


def _connection(path: Path) -> sqlite3.Connection:
    for mode in ("rw", "ro"):
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=10)
        try:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error:
            connection.close()
            if mode == "ro":
                raise
        else:
            break
    return connection


def _request(fields: list[Any], layout: Columns | None, blob: bytes) -> Request:
    time, request_id, model, version, rows, latency_us, error = fields
    return Request(time, request_id, model, version, rows, latency_us, error, layout, blob)


def _columns(text: str) -> Columns:
    return msgspec.json.decode(text, type=Columns)


class _Rows:
    """Requests in PostgreSQL."""

    def __init__(self, connection: Any, wanted: Filter) -> None:
        self._connection = connection
        self._where, self._values = wanted.where("to_timestamp(%s)", "%s")
        self._known = {number: _columns(text) for number, text in connection.execute("SELECT number, columns FROM mlops_layouts")}
        used = connection.execute(f"SELECT DISTINCT layout FROM mlops_predictions WHERE {self._where}", self._values)  # noqa: S608  # our own words
        self.layouts = [self._known[number] for (number,) in sorted(used, key=str) if number in self._known]

    def requests(self, limit: int | None) -> Iterator[Request]:
        """All requests in order of time; or the newest, until they have so many rows."""
        held = 0
        with self._connection.cursor(name="records", binary=True) as cursor:
            cursor.itersize = FETCH
            fields = _FIELDS.replace("time", "extract(epoch FROM time)::float8", 1)
            newest_first = "" if limit is None else "DESC"
            cursor.execute(
                f"SELECT {fields} FROM mlops_predictions WHERE {self._where} ORDER BY time {newest_first}",  # noqa: S608  # our own words
                self._values,
            )
            for *values, layout, blob in cursor:
                request = _request(values, self._known.get(layout), blob)
                yield request
                held += max(1, request.rows)
                if limit is not None and held >= limit:
                    return


@contextmanager
def _opened(where: str | Path, wanted: Filter) -> Iterator[_Files | _Rows]:
    if not is_address(where):
        yield _Files(Path(where), wanted)
        return
    import psycopg

    from mlops_pipeline.records.postgresql import connect, described

    try:
        with closing(connect(str(where))) as connection:
            # One view of the table for the layouts and the rows.
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield _Rows(connection, wanted)
    except psycopg.errors.UndefinedTable as error:
        raise PipelineError(f"{described(str(where), error)}: no server has recorded there") from error
    except psycopg.Error as error:
        raise PipelineError(described(str(where), error)) from error
    except StoreError as error:
        raise PipelineError(str(error)) from error


# --------------------------------------------------------------------------------------------------------- the table

_Schema = dict[str, Any]


def _schema(layouts: list[Columns]) -> _Schema:
    """Name and type of every column that rows of these layouts have."""
    import polars as pl

    schema: _Schema = {
        "time": pl.Datetime("us", "UTC"),
        "request_id": pl.String,
        "row": pl.Int64,
        "id": pl.String,
        "model": pl.String,
        "version": pl.String,
        "latency_ms": pl.Float64,
        "error": pl.String,
        "prediction": _prediction_type(layouts),
    }
    for name in dict.fromkeys(name for layout in layouts for name in _probabilities(layout)):
        schema[name] = pl.Float32
    own = set(schema)
    for layout in layouts:
        for name, kind in (*((name, pl.Float32) for name in layout.numbers), *((name, pl.String) for name in layout.categories)):
            shown = _feature(name, own)
            schema[shown] = kind if schema.get(shown, kind) == kind else pl.String
    return schema


def _prediction_type(layouts: list[Columns]) -> Any:
    """The narrowest type that holds the predictions of all layouts."""
    import polars as pl

    kinds = {float if layout.task == "regression" else type(label) for layout in layouts for label in layout.classes or (0.0,)}
    for held, kind in (({bool}, pl.Boolean), ({int}, pl.Int64), ({int, float}, pl.Float64)):
        if kinds and kinds <= held:
            return kind
    return pl.String


def _probabilities(layout: Columns) -> list[str]:
    return [f"probability_{label}" for label in layout.classes]


def _feature(name: str, own: set[str]) -> str:
    while name in own:
        name = f"feature_{name}"
    return name


def _chunks(requests: Iterator[Request]) -> Iterator[list[Request]]:
    chunk: list[Request] = []
    rows = held = 0
    for request in requests:
        chunk.append(request)
        rows += max(1, request.rows)
        held += len(request.blob)
        if rows >= CHUNK_ROWS or held >= CHUNK_BYTES:
            yield chunk
            chunk, rows, held = [], 0, 0
    if chunk:
        yield chunk


def _frame(requests: list[Request], schema: _Schema) -> pl.DataFrame:
    """The table of a chunk, in the order of its requests."""
    import numpy as np
    import polars as pl

    alike: dict[Any, tuple[list[int], list[Blob]]] = {}
    for place, request in enumerate(requests):
        try:
            blob = read_blob(request.blob)
        except msgspec.MsgspecError as error:
            raise PipelineError(
                f"request {request.request_id}: its record cannot be read ({one_line(error)}): the store is damaged"
            ) from error
        width = 0 if blob.outputs is None or not request.rows else len(blob.outputs) // (4 * request.rows)
        shape = (id(request.layout), blob.numbers is None, blob.categories is None, width, blob.ids is None)
        places, blobs = alike.setdefault(shape, ([], []))
        places.append(place)
        blobs.append(blob)
    own = {"time", "request_id", "row", "id", "model", "version", "latency_ms", "error", "prediction"}
    own |= {name for name in schema if name.startswith("probability_")}
    parts, order = [], []
    for shape, (places, blobs) in alike.items():
        part, of = _part([requests[place] for place in places], blobs, shape[3], own, schema)
        parts.append(part)
        order.append(np.array(places)[of])
    if not parts:
        return pl.DataFrame(schema=schema)
    return pl.concat(parts)[np.argsort(np.concatenate(order), kind="stable")]


def _part(
    requests: list[Request], blobs: list[Blob], width: int, own: set[str], schema: _Schema
) -> tuple[pl.DataFrame, np.ndarray[Any, Any]]:
    """The rows of requests whose blobs hold the same things, and which of the requests each row is of."""
    import numpy as np
    import polars as pl

    first, layout = blobs[0], requests[0].layout
    has_rows = any(held is not None for held in (first.numbers, first.categories, first.outputs, first.ids))
    heights = np.array([request.rows if has_rows else 1 for request in requests], dtype=np.int64)
    of = np.repeat(np.arange(len(requests)), heights)
    begins = np.cumsum(heights) - heights
    columns: dict[str, Any] = {
        "time": pl.Series([None if r.time is None else round(r.time * 1e6) for r in requests], dtype=pl.Int64),
        "request_id": pl.Series([r.request_id for r in requests], dtype=pl.String),
        "model": pl.Series([r.model for r in requests], dtype=pl.String),
        "version": pl.Series([r.version for r in requests], dtype=pl.String),
        "latency_ms": pl.Series([None if r.latency_us is None else r.latency_us / 1000 for r in requests], dtype=pl.Float64),
        "error": pl.Series([r.error for r in requests], dtype=pl.String),
    }
    columns = {name: series.gather(of) for name, series in columns.items()}
    columns["time"] = columns["time"].cast(schema["time"])
    if has_rows:
        columns["row"] = pl.Series(np.arange(len(of)) - np.repeat(begins, heights))
    if first.ids is not None:
        columns["id"] = _texts([text for blob in blobs for text in blob.ids or ()])
    if layout is not None:
        for name, series in _features(layout, blobs, len(of)):
            columns[_feature(name, own)] = series
        if width:
            columns |= _outputs(layout, np.frombuffer(b"".join(blob.outputs or b"" for blob in blobs), "<f4").reshape(len(of), -1))
    frame = pl.DataFrame(
        [
            columns[name].cast(kind).alias(name) if name in columns else pl.Series(name, [None], dtype=kind).new_from_index(0, len(of))
            for name, kind in schema.items()
        ]
    )
    return frame, of


def _features(layout: Columns, blobs: list[Blob], rows: int) -> Iterator[tuple[str, pl.Series]]:
    import numpy as np
    import polars as pl

    if blobs[0].numbers is not None and layout.numbers:
        numbers = np.frombuffer(b"".join(blob.numbers or b"" for blob in blobs), "<f4").reshape(rows, len(layout.numbers))
        for place, name in enumerate(layout.numbers):
            yield name, pl.Series(np.ascontiguousarray(numbers[:, place]), nan_to_null=True)
    if blobs[0].categories is not None and layout.categories:
        texts = [text for blob in blobs for text in blob.categories or ()]
        for place, name in enumerate(layout.categories):
            series = _texts(texts[place :: len(layout.categories)])
            yield name, series.set(series == MISSING, None)


def _texts(values: list[Any]) -> pl.Series:
    import polars as pl

    try:
        return pl.Series(values, dtype=pl.String)
    except (TypeError, pl.exceptions.PolarsError):
        return pl.Series([value if value is None else str(value) for value in values], dtype=pl.String)


def _outputs(layout: Columns, outputs: np.ndarray) -> dict[str, pl.Series]:
    """Prediction and probabilities, from outputs of shape (rows, classes), or (rows, 1) where there is but one value a row."""
    import numpy as np
    import polars as pl

    if not layout.classes:
        return {"prediction": pl.Series(outputs[:, 0])}
    if outputs.shape[1] == 1 and len(layout.classes) == 2:
        outputs = np.hstack([1 - outputs, outputs])
    names = _probabilities(layout)
    found = {name: pl.Series(np.ascontiguousarray(outputs[:, place])) for place, name in enumerate(names)}
    labels = pl.Series([str(label) for label in layout.classes] if len({type(label) for label in layout.classes}) > 1 else layout.classes)
    found["prediction"] = labels.gather(outputs.argmax(axis=1))
    return found
