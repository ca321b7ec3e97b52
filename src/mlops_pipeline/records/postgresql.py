"""Records in PostgreSQL: one statement a group, which is one transaction and one way there and back.

Its values are two: JSON of the small fields, and all blobs in one run of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.postgresql import KEPT_OPEN, connect, described
from mlops_pipeline.records.entry import WITHDRAWN
from mlops_pipeline.records.query import FETCH, Filter, Recorded, columns_of, recorded
from mlops_pipeline.records.store import StoreError

if TYPE_CHECKING:
    import psycopg

    from mlops_pipeline.records.encoding import Columns, Row

STATEMENT_MS = 30_000
"""A commit that waits longer, for a lock or a standby, is given up and tried again."""

_TABLES = """
SELECT pg_advisory_xact_lock(7216450913);
CREATE TABLE IF NOT EXISTS mlops_layouts (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, digest text NOT NULL UNIQUE, columns text NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_predictions (
    run bigint, count bigint, time timestamptz, request_id text, model text, version text, rows bigint, latency_us bigint,
    error text, layout integer, blob bytea, worker integer, PRIMARY KEY (run, count)
);
CREATE INDEX IF NOT EXISTS mlops_predictions_time ON mlops_predictions (time);
CREATE TABLE IF NOT EXISTS mlops_prediction_runs (run bigint PRIMARY KEY, of text NOT NULL);
"""
# Beside the table and no column of it, which would keep every reader and writer waiting while it is added: what an older release wrote
# stands in it as before, and is of nobody in particular.
_OTHERS = "run NOT IN (SELECT run FROM mlops_prediction_runs WHERE of <> %s)"
_INSERT = """
INSERT INTO mlops_predictions
SELECT %(run)s, %(first)s + place - 1, to_timestamp((value->>0)::float8), value->>1, value->>2, value->>3, (value->>4)::bigint,
       (value->>5)::bigint, value->>6, (value->>7)::integer,
       substring(%(blobs)b FROM (value->>8)::integer FOR (value->>9)::integer), %(worker)s
FROM jsonb_array_elements(%(text)s::jsonb) WITH ORDINALITY AS each (value, place)
ON CONFLICT DO NOTHING
"""

READ = ("mlops_predictions", "mlops_layouts", "mlops_prediction_runs")
"""What a reader needs SELECT on."""
_UNREADABLE = """
SELECT name FROM unnest(%s::text[]) AS name
WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(to_regclass(name), 'SELECT')
"""

# Each run, and its last entry's count, by steps through the primary key.
_RUNS = """
WITH RECURSIVE runs (run) AS (
    (SELECT run FROM mlops_predictions ORDER BY run LIMIT 1)
    UNION ALL
    SELECT (SELECT run FROM mlops_predictions WHERE run > runs.run ORDER BY run LIMIT 1) FROM runs WHERE runs.run IS NOT NULL
)
SELECT run, (SELECT max(count) FROM mlops_predictions AS each WHERE each.run = runs.run) FROM runs WHERE run IS NOT NULL
"""


class PostgreSQLTable:
    """A connection that is made again after any failure. A run's entries are told apart by its own number and their count."""

    def __init__(self, address: str, worker: int, token: str) -> None:
        self._address = address
        self._worker = worker
        self._run = int(token, 16) >> 65  # 63 bits, as a bigint holds
        self._of = ""
        self._connection: psycopg.Connection[Any] | None = None
        self._numbers: dict[int, int] = {}

    def belongs_to(self, name: str) -> None:
        """Rows are of this registered model."""
        self._of = name

    def open(self) -> None:
        """Connect, and make the tables if they are missing."""
        self._connected()

    def write(self, first: int, rows: Sequence[Row], layouts: Mapping[int, Columns]) -> None:
        """Write a group."""
        import psycopg

        connection = self._connected()
        try:
            numbers = {number: self._number(connection, number, layouts) for number in {row[7] for row in rows}}
            connection.execute(
                _INSERT,
                {
                    "run": self._run,
                    "first": first,
                    "worker": self._worker,
                    "text": _small_fields(rows, numbers),
                    "blobs": b"".join(row[8] for row in rows),
                },
            )
        except psycopg.Error as error:
            self.close()
            raise StoreError(described(self._address, error)) from error

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        self._numbers.clear()
        if connection is not None:
            connection.close()

    def _connected(self) -> psycopg.Connection[Any]:
        import psycopg

        if self._connection is not None:
            return self._connection
        try:
            connection = _opened(self._address)
        except PipelineError as error:
            raise StoreError(str(error)) from None
        try:
            with connection.transaction():
                connection.execute(_TABLES)
                if self._of:
                    mine = (self._run, _without_nul(self._of))
                    connection.execute("INSERT INTO mlops_prediction_runs (run, of) VALUES (%s, %s) ON CONFLICT DO NOTHING", mine)
            connection.execute(f"SET statement_timeout = {STATEMENT_MS}")
            if connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
                connection.execute("SET synchronous_commit = on")
        except psycopg.Error as error:
            connection.close()
            raise StoreError(described(self._address, error)) from error
        self._connection = connection
        return connection

    def _number(self, connection: psycopg.Connection[Any], number: int, layouts: Mapping[int, Columns]) -> int | None:
        """The number of a layout in this database; None for a request without one."""
        columns = layouts.get(number)
        if columns is None:
            return None
        if number not in self._numbers:
            digest = columns.digest()
            known = (digest, columns.as_json())
            connection.execute("INSERT INTO mlops_layouts (digest, columns) VALUES (%s, %s) ON CONFLICT DO NOTHING", known)
            [(self._numbers[number],)] = connection.execute("SELECT number FROM mlops_layouts WHERE digest = %s", (digest,)).fetchall()
        return self._numbers[number]


def _small_fields(rows: Sequence[Row], numbers: Mapping[int, int | None]) -> str:
    """The rows as JSON: all but their blobs, and where those begin (from 1) and how long they are."""
    fields, begin = [], 1
    for *small, number, blob in rows:
        length = len(memoryview(blob))
        fields.append((*small, numbers[number], begin, length))
        begin += length
    text = msgspec.json.encode(fields)
    if b"\\u0000" in text:  # PostgreSQL keeps no NUL in a text
        text = msgspec.json.encode([[_without_nul(field) for field in row] for row in fields])
    return text.decode()


def _without_nul(field: Any) -> Any:
    return field.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(field, str) else field


def _opened(address: str) -> psycopg.Connection[Any]:
    return connect(address, "record.uri", application_name="mlops records", **KEPT_OPEN)


class RecordedTable:
    """Requests in PostgreSQL."""

    def __init__(self, connection: Any, wanted: Filter) -> None:
        self._connection = connection
        self._fields = wanted.fields("octet_length")
        self._where, self._values = wanted.where("to_timestamp(%s)", "%s")
        if wanted.of and connection.execute("SELECT to_regclass('mlops_prediction_runs') IS NOT NULL").fetchone() == (True,):
            self._where, self._values = f"{self._where} AND {_OTHERS}", [*self._values, wanted.of]
        self.read_to: dict[str, int] = dict(wanted.after or {})
        if wanted.after is not None:
            self._behind(wanted.after)
        self._known = {number: columns_of(text) for number, text in connection.execute("SELECT number, columns FROM mlops_layouts")}
        self.layouts: list[Columns] = []
        self.withdrawn: frozenset[tuple[str, float]] = frozenset()
        if wanted.brief:
            return
        late = f"SELECT request_id, extract(epoch FROM time)::float8 FROM mlops_predictions WHERE {self._where} AND error = %s"  # noqa: S608  # our own words
        self.withdrawn = frozenset(connection.execute(late, [*self._values, WITHDRAWN]))
        used = connection.execute(f"SELECT DISTINCT layout FROM mlops_predictions WHERE {self._where}", self._values)  # noqa: S608  # our own words
        self.layouts = [self._known[number] for (number,) in sorted(used, key=str) if number in self._known]

    def _behind(self, after: Mapping[str, int]) -> None:
        """Ask for what each run has written behind what was read of it."""
        found = self._connection.execute(_RUNS).fetchall()
        new = [(run, after.get(str(run), -1)) for run, last in found if last > after.get(str(run), -1)]
        self.read_to |= {str(run): last for run, last in found}
        terms = " OR ".join("run = %s AND count > %s" for _ in new)
        self._where = f"{self._where} AND ({terms or 'false'})"
        self._values = [*self._values, *(value for each in new for value in each)]

    def requests(self, limit: int | None) -> Iterator[Recorded]:
        """All requests in order of time; or the newest, until they have so many rows."""
        held = 0
        with self._connection.cursor(name="records", binary=True) as cursor:
            cursor.itersize = FETCH
            fields = self._fields.replace("time", "extract(epoch FROM time)::float8", 1)
            newest_first = "" if limit is None else "DESC"
            cursor.execute(
                f"SELECT {fields} FROM mlops_predictions WHERE {self._where} ORDER BY time {newest_first}",  # noqa: S608  # our own words
                self._values,
            )
            for *values, layout, blob in cursor:
                request = recorded(values, self._known.get(layout), blob)
                yield request
                held += max(1, request.rows)
                if limit is not None and held >= limit:
                    return


@contextmanager
def recorded_table(address: str, wanted: Filter) -> Iterator[RecordedTable]:
    """What is recorded at an address, seen as of one moment. Raises :class:`PipelineError` without the password."""
    import psycopg

    try:
        with closing(_opened(address)) as connection:
            # One view of the table for the layouts and the rows.
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield RecordedTable(connection, wanted)
            except psycopg.errors.InsufficientPrivilege as error:
                raise PipelineError(_lacking(connection, address) or described(address, error)) from error
    except psycopg.errors.UndefinedTable as error:
        raise PipelineError(f"{described(address, error)}: no server has recorded there") from error
    except psycopg.Error as error:
        raise PipelineError(described(address, error)) from error


def _lacking(connection: psycopg.Connection[Any], address: str) -> str:
    """Which right a reader lacks, and what gives it, in one line; empty if it is another than to read one of the tables."""
    connection.execute("ROLLBACK")
    found = connection.execute(_UNREADABLE, (list(READ),)).fetchall()
    if not found:
        return ""
    tables = ", ".join(table for (table,) in found)
    remedy = f"have their owner say GRANT SELECT ON {tables} TO that user"
    return f"record.uri: {hidden(address)}: its user may not read {tables}: {remedy}"
