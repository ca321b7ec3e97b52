"""A table that a query makes of a database: streamed into a snapshot, whose digest says whether anything has changed.

A database cannot be asked cheaply whether a query's answer is still the same, so each run asks the query again. The snapshot is
written anew only where the answer differs; the pipeline depends on that file as on any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.addresses import filled, is_postgresql
from mlops_pipeline.config.dataset import Source
from mlops_pipeline.config.tree import tree_of
from mlops_pipeline.errors import PipelineError, ServiceAway, one_line
from mlops_pipeline.files import sha256_of_file, write_text
from mlops_pipeline.layout import SQLITE, sqlite_path
from mlops_pipeline.postgresql import connect, first_line

if TYPE_CHECKING:
    import polars as pl

ROWS = 50_000
"""Rows that are fetched at a time."""

CONNECT_S = 10


def take_snapshot(source: Source, project: Path, snapshot: Path) -> bool:
    """Ask the query, and leave its rows in a Parquet file; whether they differ from those that were there.

    Raises :class:`PipelineError`, and :class:`ServiceAway` where the database does not answer.
    """
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=snapshot.parent, prefix=".") as folder:
        new = Path(folder, snapshot.name)
        _write(tables_of(source, project), new)
        if snapshot.is_file() and sha256_of_file(snapshot) == sha256_of_file(new):
            return False
        new.replace(snapshot)
    _keep_out_of_git(snapshot)
    return True


@contextmanager
def queried(given: Mapping[str, Any], project: Path) -> Iterator[Path]:
    """A temporary file with the rows of the query of a source that is ``given``; raises as :func:`take_snapshot`."""
    with TemporaryDirectory() as folder:
        rows = Path(folder, "query.parquet")
        take_snapshot(tree_of(Source, dict(given), "--source"), project, rows)
        yield rows


def _write(tables: Iterator[pl.DataFrame], path: Path) -> None:
    import pyarrow.parquet as pq

    first = next(tables, None)
    if first is None:
        raise PipelineError("dataset.source.sql: gives no row: mend the query")
    schema = first.to_arrow(compat_level=None).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in chain([first], tables):
            writer.write_table(table.to_arrow(compat_level=None))


def _keep_out_of_git(snapshot: Path) -> None:
    """DVC names what stages write in ``.gitignore``; it knows nothing of this file."""
    ignored = snapshot.with_name(".gitignore")
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.is_file() else []
    if f"/{snapshot.name}" not in lines:
        write_text(ignored, "\n".join([*lines, f"/{snapshot.name}"]) + "\n")


def tables_of(source: Source, project: Path) -> Iterator[pl.DataFrame]:
    """The rows of a source's query, typed as the database has them, some at a time, all with the same types.

    Raises as :func:`take_snapshot`.
    """
    address, named = filled(str(source.uri), "dataset.source.uri"), f"dataset.source.uri = '{source.uri}'"
    if address.startswith(SQLITE):
        yield from _of_sqlite(str(source.sql), project / sqlite_path(address), named)
    elif is_postgresql(address):
        yield from _of_postgresql(str(source.sql), address, named)
    else:
        raise PipelineError(f"dataset.source.uri: names no database that is read: write {SQLITE}FILE or postgresql://HOST/NAME")


def _of_sqlite(sql: str, path: Path, named: str) -> Iterator[pl.DataFrame]:
    """Twice through: SQLite's values have types of their own, and a column's is known when all are seen."""
    import sqlite3

    if not path.is_file():
        raise PipelineError(f"{named}: the file does not exist: name an existing file of SQLite's, from the project's folder on")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=CONNECT_S)) as connection:
            kinds: list[set[type]] = []
            for _, rows in _fetched(connection, sql):
                columns = list(zip(*rows, strict=True))
                kinds = kinds or [set() for _ in columns]
                for kind, column in zip(kinds, columns, strict=True):
                    kind.update(map(type, column))
            for names, rows in _fetched(connection, sql):
                yield _table(names, rows, [_sqlite_type(kind, name) for kind, name in zip(kinds, names, strict=True)])
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN):
            raise PipelineError(f"{named}: the file cannot be read as SQLite's: name one that can") from error
        raise PipelineError(f"dataset.source.sql: {one_line(error)}: mend the query") from error


def _fetched(connection: Any, sql: str) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    cursor = connection.execute(sql)
    names = _names([column[0] for column in cursor.description or ()])
    while rows := cursor.fetchmany(ROWS):
        yield names, rows


def _sqlite_type(kinds: set[type], name: str) -> Any:
    import polars as pl

    if bytes in kinds:
        raise _no_column(name, "bytes")
    held = kinds - {type(None)}
    if held <= {int}:
        return pl.Int64 if held else pl.String
    return pl.Float64 if held <= {int, float} else pl.String


def _of_postgresql(sql: str, address: str, named: str) -> Iterator[pl.DataFrame]:
    import psycopg

    try:
        with (
            connect(address, named, connect_timeout=CONNECT_S, application_name="mlops-pipeline") as connection,
            connection.cursor("mlops_source") as cursor,
        ):
            connection.read_only = True
            cursor.itersize = ROWS
            cursor.execute(sql)
            description = cursor.description or []
            names = _names([column.name for column in description])
            types = [_postgresql_type(column.type_code, column.name) for column in description]
            while rows := cursor.fetchmany(ROWS):
                yield _table(names, rows, types)
    except psycopg.OperationalError as error:
        raise ServiceAway(f"{named}: the database does not answer: {first_line(error)}: check the server") from error
    except psycopg.Error as error:
        raise PipelineError(f"dataset.source.sql: {first_line(error)}: mend the query") from error


def _postgresql_type(oid: int, name: str) -> Any:
    """The type of a column, by the names of PostgreSQL's own types; what has no counterpart is text."""
    import polars as pl
    from psycopg import postgres

    info = postgres.types.get(oid)
    known = info.name if info is not None else ""
    if known in ("bytea", "json", "jsonb", "record") or (info is not None and info.array_oid == oid):
        raise _no_column(name, known)
    return {
        "bool": pl.Boolean,
        "int2": pl.Int64,
        "int4": pl.Int64,
        "int8": pl.Int64,
        "float4": pl.Float64,
        "float8": pl.Float64,
        "numeric": pl.Float64,
        "date": pl.Date,
        "time": pl.Time,
        "interval": pl.Duration("us"),
        "timestamp": pl.Datetime("us"),
        "timestamptz": pl.Datetime("us", "UTC"),
    }.get(known, pl.String)


def _no_column(name: str, what: str) -> PipelineError:
    return PipelineError(f"dataset.source.sql: column '{name}' holds {what}, which is no number, text, time or truth value: leave it out")


def _names(names: list[str]) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PipelineError(f"dataset.source.sql: column '{twice}' stands twice: name one otherwise with AS")
    return names


def _table(names: Sequence[str], rows: Sequence[tuple[Any, ...]], types: Sequence[Any]) -> pl.DataFrame:
    import polars as pl

    columns = zip(*rows, strict=True)
    return pl.DataFrame([_series(name, column, held) for name, column, held in zip(names, columns, types, strict=True)])


def _series(name: str, values: tuple[Any, ...], held: Any) -> pl.Series:
    import polars as pl

    read: Callable[[Any], Any] | None = {pl.String: str, pl.Float64: float}.get(held)
    return pl.Series(name, values if read is None else [None if value is None else read(value) for value in values], dtype=held)
