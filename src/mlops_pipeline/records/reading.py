"""Records read back as a table: one row a predicted row (and one for a request that failed), a bounded part of it in memory.

Columns: ``time`` (arrival, UTC), ``request_id``, ``row`` (from 0; null for a request without rows), ``id`` (the client's own),
``model``, ``version``, ``latency_ms``, ``error``, ``key_name`` (of the API key), ``arm`` and ``why`` (of a release; empty without one),
``prediction``, ``probability_`` and the class, and the features by name (``feature_`` and the name where it could be one of the others:
:func:`shown_as`); behind them, where rows came raw, those of their columns that are no features. What a layout does not have is null in
its rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from mlops_pipeline import plugins
from mlops_pipeline.config.serving import RecordStore
from mlops_pipeline.contract.task import PROBABILITY, has_classes
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import replacing
from mlops_pipeline.records.encoding import BRIEF_TEXT, NO_BLOB, Blob, Columns, arm_of, brief_blob, read_blob
from mlops_pipeline.records.entry import SHADOW, WITHDRAWN
from mlops_pipeline.records.query import BRIEF_BYTES, TOO_LARGE, Bounds, Filter, Recorded, wanted_by
from mlops_pipeline.records.store import Records, located, part_at
from mlops_pipeline.spreadsheet import TableFile, check_format

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

CHUNK_ROWS = 50_000
CHUNK_BYTES = 32 << 20
RAW = "\0raw "
"""Stands before the name of a raw column while tables are made: no writer of CSV or Parquet gives a user's column such a name."""
UNIT = "\0unit"
"""The column of what sticks to a release's arm, for those who judge it."""
OWN = ("time", "request_id", "row", "id", "model", "version", "latency_ms", "error", "key_name", "arm", "why", "prediction")
"""Columns that every table of records has; beside them those that begin with ``probability_``."""
FEATURE = "feature_"


def read(where: str | Path | RecordStore, *, limit: int | None = None, shadows: bool = False, **bounds: Unpack[Bounds]) -> pl.DataFrame:
    """The answers on record in a folder or at an address, in order of time; with ``limit`` only the newest rows.

    With ``shadows`` also what a release's challenger said behind answers, which nobody was told.
    Raises :class:`PipelineError` in one line if the store is not there, cannot be reached or is damaged.
    """
    import polars as pl

    if limit is not None and limit < 1:
        raise PipelineError(f"limit {limit}: must be at least 1")
    asked = limit if limit is None or shadows else 2 * limit + 1  # each answer has one shadow at most
    with _opened(where, wanted_by(**bounds)) as source:
        schema = _schema(source.layouts)
        frames = [_frame(requests, schema) for requests in _chunks(source.requests(asked, shadows=shadows))]
    table = pl.concat(frames) if frames else pl.DataFrame(schema=schema)
    table = table.sort("time", maintain_order=True)
    return table.tail(limit) if limit is not None else table


def are_answers() -> pl.Expr:
    """Which rows of such a table are answers: those with a prediction and no error."""
    import polars as pl

    return pl.col("prediction").is_not_null() & (pl.col("error").fill_null("") == "")


def newest(where: str | Path | RecordStore, limit: int, *, request: str = "", **bounds: Unpack[Bounds]) -> pl.DataFrame:
    """The newest rows without their features, texts cut after ``BRIEF_TEXT``: no more of them is ever in memory than a screen wants.

    With ``request`` only those of requests whose id begins so. Raises :class:`PipelineError` like :func:`read`.
    """
    with _opened(where, replace(wanted_by(**bounds), request=request, brief=True)) as source:
        # A store may hand over more than it is asked for, in any order.
        requests = heapq.nlargest(limit, map(_brief, source.requests(limit)), key=lambda request: request.time or 0)
    requests = list(_standing(iter(requests), {(request.request_id, request.time) for request in requests if request.error == WITHDRAWN}))
    schema = _schema([request.layout for request in requests if request.layout is not None], features=False)
    return _frame(requests[::-1], schema).sort("time", maintain_order=True).tail(limit)


def _brief(request: Recorded) -> Recorded:
    """A request as a screen shows it, whatever its store has left in it."""
    error = request.error
    if len(request.blob) > BRIEF_BYTES:
        blob, error = NO_BLOB, error or TOO_LARGE
    else:
        try:
            blob = brief_blob(request.blob)
        except msgspec.MsgspecError as wrong:
            raise _damaged(request, wrong) from wrong
    request_id, model, version, error = (
        text and text[: BRIEF_TEXT + 1] for text in (request.request_id, request.model, request.version, error)
    )
    return replace(request, request_id=request_id, model=model, version=version, error=error, blob=blob)


def _damaged(request: Recorded, wrong: Exception) -> PipelineError:
    return PipelineError(f"request {request.request_id[:BRIEF_TEXT]}: its record cannot be read ({one_line(wrong)}): the store is damaged")


def export(
    where: str | Path | RecordStore,
    target: Path,
    *,
    raw: bool = False,
    shadows: bool = False,
    notes: list[str] | None = None,
    **bounds: Unpack[Bounds],
) -> int:
    """Write the answers on record to a Parquet or CSV file, by day and worker (SQLite) or time (PostgreSQL); the number of rows.

    With ``shadows`` also what a release's challenger said behind answers, which nobody was told.

    A CSV file has no cell that a spreadsheet would run, unless ``raw`` is; ``notes`` takes a line if there were any. The file appears whole
    or not at all. Raises :class:`PipelineError` like :func:`read`.
    """
    check_format(target)
    rows = 0
    try:
        with (
            _opened(where, wanted_by(**bounds)) as source,
            replacing(target) as temporary,
            TableFile(temporary, target.suffix, raw=raw) as file,
        ):
            schema = _schema(source.layouts)
            file.write(_frame([], schema))  # the header, where nothing else comes
            for requests in _chunks(source.requests(None, shadows=shadows)):
                frame = _frame(requests, schema)
                file.write(frame)
                rows += frame.height
    except OSError as error:
        raise PipelineError(f"--output {target}: cannot be written ({error.strerror or one_line(error)}): name another place") from error
    if notes is not None:
        notes += file.notes
    return rows


def batches(
    where: str | Path | RecordStore, *, shadows: bool = False, units: bool = False, **bounds: Unpack[Bounds]
) -> Iterator[pl.DataFrame]:
    """The rows that were given as answers, a bounded number at a time, in no order; with ``shadows`` also those that nobody was told.

    With ``units`` in a column :data:`UNIT` what stuck to the arm of a release.

    Raises :class:`PipelineError` like :func:`read`.
    """
    import polars as pl

    with _opened(where, wanted_by(**bounds)) as source:
        schema = _schema(source.layouts) | ({UNIT: pl.String} if units else {})
        for requests in _chunks(source.requests(None, shadows=shadows)):
            yield _frame(requests, schema)


def sources(where: str | Path | RecordStore, **bounds: Unpack[Bounds]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The rows of :func:`batches` and, beside them, what their senders know of them: the source's columns of raw rows, else the features.

    The second has the same columns in each batch, null in rows that came otherwise. Raises :class:`PipelineError` like :func:`read`.
    """
    import polars as pl

    with _opened(where, wanted_by(**bounds)) as source:
        schema = _schema(source.layouts)
        raw: _Schema = {}
        for layout in source.layouts:
            for name, kind in _raw_types(layout).items():
                raw[RAW + name] = _wider(raw.get(RAW + name, kind), kind)
        features = list(dict.fromkeys(name for layout in source.layouts for name in (*layout.numbers, *layout.categories)))
        for requests in _chunks(source.requests(None, shadows=False)):
            frame = _frame(requests, {**schema, **raw})
            own = frame.select(pl.col(name).alias(name.removeprefix(RAW)) for name in raw) if raw else features_in(frame, features)
            yield frame.select(list(schema)), own


@dataclass(frozen=True)
class News:
    """What a store holds behind what was read of it before."""

    frames: Iterator[pl.DataFrame]
    """The rows, with those of shadows and with :data:`UNIT`, a bounded number at a time."""
    withdrawn: frozenset[tuple[str, float]]
    """Request ids and times of answers that were not given so in the end, though they may have been read before."""
    read_to: Mapping[str, int] | None
    """For the next time; None: the store cannot tell what is new, and hands over everything."""


@contextmanager
def news(
    where: str | Path | RecordStore, after: Mapping[str, int], *, since: datetime, model: str, until: datetime | None = None
) -> Iterator[News]:
    """What came to a store since ``after``, the ``read_to`` of the last time. Raises :class:`PipelineError` like :func:`read`."""
    import polars as pl

    with _opened(where, replace(wanted_by(since=since, until=until, model=model), after=after)) as source:
        schema = _schema(source.layouts) | {UNIT: pl.String}
        frames = (_frame(requests, schema) for requests in _chunks(source.requests(None)))
        withdrawn = frozenset(getattr(source.records, "withdrawn", None) or ())
        yield News(frames, withdrawn, getattr(source.records, "read_to", None))


def requests_of(where: str | Path | RecordStore, **bounds: Unpack[Bounds]) -> Iterator[Recorded]:
    """The requests themselves, in no order, each once. Raises :class:`PipelineError` like :func:`read`."""
    with _opened(where, wanted_by(**bounds)) as source:
        yield from source.requests(None, shadows=False)


def features_in(frame: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
    """The features of some rows under the names that the model has for them; those that were not recorded are left out."""
    found = {name: column_in(frame, name) for name in names}
    return frame.select(column.alias(name) for name, column in found.items() if column is not None)


def column_in(frame: pl.DataFrame, name: str) -> pl.Series | None:
    """A feature of some rows, or what came raw of them, by the name that their owner has for it; None where it was not recorded."""
    shown = shown_as(name)
    return frame[shown] if shown in frame.columns else None


def shown_as(name: str) -> str:
    """What a table of records calls a feature or a raw column: never as one of its own, and no two of them alike."""
    bare = name
    while bare.startswith(FEATURE):
        bare = bare.removeprefix(FEATURE)
    return f"{FEATURE}{name}" if bare in OWN or bare.startswith(PROBABILITY) else name


@contextmanager
def _opened(where: str | Path | RecordStore, wanted: Filter) -> Iterator[_Opened]:
    store = located(where)
    part, settings = part_at(store)
    with ExitStack() as stack:
        opening = plugins.run_at(part, part.reader, store.where, replace(wanted, of=store.of), *settings)
        yield _Opened(part, plugins.run_at(part, stack.enter_context, opening), wanted.request)


@dataclass(frozen=True)
class _Opened:
    """What a store holds; what goes wrong in another's is told in one line."""

    part: plugins.Store
    records: Records
    request: str

    @property
    def layouts(self) -> list[Columns]:
        return self.records.layouts

    def requests(self, limit: int | None, *, shadows: bool = True) -> Iterator[Recorded]:
        """Those asked for, as the store hands them over, without those that were not answered so in the end, and without ``shadows``
        unless these are wanted.
        """
        found = self._told(limit)
        if self.request:
            found = (request for request in found if request.request_id.startswith(self.request))
        return found if shadows else (request for request in found if not _is_shadow(request))

    def _told(self, limit: int | None) -> Iterator[Recorded]:
        withdrawn: Collection[tuple[str, float]] | None = getattr(self.records, "withdrawn", None)
        if withdrawn is None:
            withdrawn = {(each.request_id, each.time) for each in self._stored(limit) if each.error == WITHDRAWN}
        return _standing(self._stored(limit), withdrawn) if withdrawn else self._stored(limit)

    def _stored(self, limit: int | None) -> Iterator[Recorded]:
        return plugins.stepped(self.part, plugins.run_at(self.part, self.records.requests, limit))


def arm_in(request: Recorded) -> str:
    """Which arm of a release answered; empty where there was none."""
    try:
        return arm_of(request.blob)
    except msgspec.MsgspecError:  # what is damaged is told where its arrays are wanted
        return ""


def _is_shadow(request: Recorded) -> bool:
    return arm_in(request) == SHADOW


def _standing(requests: Iterator[Recorded], withdrawn: Collection[tuple[str, float]]) -> Iterator[Recorded]:
    return (request for request in requests if request.error == WITHDRAWN or (request.request_id, request.time) not in withdrawn)


# --------------------------------------------------------------------------------------------------------- the table

_Schema = dict[str, Any]


def _schema(layouts: list[Columns], *, features: bool = True) -> _Schema:
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
        "key_name": pl.String,
        "arm": pl.String,
        "why": pl.String,
        "prediction": _prediction_type(layouts),
    }
    for name in dict.fromkeys(name for layout in layouts for name in _probabilities(layout)):
        schema[name] = pl.Float32
    for layout in layouts if features else ():
        for name, kind in (*((name, pl.Float32) for name in layout.numbers), *((name, pl.String) for name in layout.categories)):
            shown = shown_as(name)
            schema[shown] = _wider(schema.get(shown, kind), kind)
    for layout in layouts if features else ():
        for name, kind in _raw_types(layout).items():
            if name not in {*layout.numbers, *layout.categories}:
                shown = shown_as(name)
                schema[shown] = _wider(schema.get(shown, kind), kind)
    return schema


def _wider(one: Any, other: Any) -> Any:
    """The narrowest type that holds what versions of a model have by one name: text where one of them has no number."""
    import polars as pl

    both = {one, other}
    if len(both) == 1:
        return one
    if not both <= {pl.Boolean, pl.Int64, pl.Float32, pl.Float64}:
        return pl.String
    without = both - {pl.Boolean}
    return without.pop() if len(without) == 1 else pl.Float64


def _raw_types(layout: Columns) -> dict[str, Any]:
    """What a raw row holds, by the source's names."""
    import polars as pl

    kinds = {"integer": pl.Int64, "boolean": pl.Boolean, "number": pl.Float64}
    return {name: kinds.get(kind, pl.String) for name, kind in layout.raw}


def _prediction_type(layouts: list[Columns]) -> Any:
    """The narrowest type that holds the predictions of all layouts."""
    import polars as pl

    kinds = {float if not has_classes(layout.task) else type(label) for layout in layouts for label in layout.classes or (0.0,)}
    for held, kind in (({bool}, pl.Boolean), ({int}, pl.Int64), ({int, float}, pl.Float64)):
        if kinds and kinds <= held:
            return kind
    return pl.String


def _probabilities(layout: Columns) -> list[str]:
    return [f"{PROBABILITY}{label}" for label in layout.classes]


def _chunks(requests: Iterator[Recorded]) -> Iterator[list[Recorded]]:
    chunk: list[Recorded] = []
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


def _frame(requests: list[Recorded], schema: _Schema) -> pl.DataFrame:
    """The table of a chunk, in the order of its requests."""
    import numpy as np
    import polars as pl

    alike: dict[Any, tuple[list[int], list[Blob]]] = {}
    for place, request in enumerate(requests):
        try:
            blob = read_blob(request.blob)
        except msgspec.MsgspecError as error:
            raise _damaged(request, error) from error
        width = 0 if blob.outputs is None or not request.rows else len(blob.outputs) // (4 * request.rows)
        is_raw = (blob.raw_numbers is None, blob.raw_texts is None)
        shape = (id(request.layout), blob.numbers is None, blob.categories is None, width, blob.ids is None, *is_raw)
        places, blobs = alike.setdefault(shape, ([], []))
        places.append(place)
        blobs.append(blob)
    parts, order = [], []
    for shape, (places, blobs) in alike.items():
        part, of = _part([requests[place] for place in places], blobs, shape[3], schema)
        parts.append(part)
        order.append(np.array(places)[of])
    if not parts:
        return pl.DataFrame(schema=schema)
    return pl.concat(parts)[np.argsort(np.concatenate(order), kind="stable")]


def _part(requests: list[Recorded], blobs: list[Blob], width: int, schema: _Schema) -> tuple[pl.DataFrame, np.ndarray[Any, Any]]:
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
        "key_name": pl.Series([blob.key_name for blob in blobs], dtype=pl.String),
        "arm": pl.Series([blob.arm for blob in blobs], dtype=pl.String),
        "why": pl.Series([blob.why for blob in blobs], dtype=pl.String),
        UNIT: pl.Series([blob.unit for blob in blobs], dtype=pl.String),
    }
    columns = {name: series.gather(of) for name, series in columns.items()}
    columns["time"] = columns["time"].cast(schema["time"])
    if has_rows:
        columns["row"] = pl.Series(np.arange(len(of)) - np.repeat(begins, heights))
    if first.ids is not None:
        columns["id"] = _texts([text for blob in blobs for text in blob.ids or ()])
    if layout is not None:
        for name, series in _features(layout, blobs, len(of)):
            columns[shown_as(name)] = series
        for name, series in _raw(layout, blobs, len(of)):
            columns[RAW + name] = series
            if name not in {*layout.numbers, *layout.categories}:
                columns[shown_as(name)] = series
        if width:
            columns |= _outputs(layout, np.frombuffer(b"".join(blob.outputs or b"" for blob in blobs), "<f4").reshape(len(of), -1))
    frame = pl.DataFrame(
        [
            _cast(columns[name], kind).alias(name) if name in columns else pl.Series(name, [None], dtype=kind).new_from_index(0, len(of))
            for name, kind in schema.items()
        ]
    )
    return frame, of


def _cast(series: pl.Series, kind: Any) -> pl.Series:
    """A column as another type; as text, a whole number of a column that another version takes for a category has no ``.0``."""
    import polars as pl

    if kind != pl.String or not series.dtype.is_float():
        return series.cast(kind)
    whole = (series == series.round()) & (series.abs() < 2**53)
    return series.cast(pl.Int64, strict=False).cast(pl.String).zip_with(whole.fill_null(value=False), series.cast(pl.String))


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


def _raw(layout: Columns, blobs: list[Blob], rows: int) -> Iterator[tuple[str, pl.Series]]:
    """The columns of rows as they came raw."""
    import numpy as np
    import polars as pl

    types = _raw_types(layout)
    if blobs[0].raw_numbers is not None and (names := layout.raw_numbers):
        numbers = np.frombuffer(b"".join(blob.raw_numbers or b"" for blob in blobs), "<f8").reshape(rows, len(names))
        for place, name in enumerate(names):
            yield name, pl.Series(np.ascontiguousarray(numbers[:, place]), nan_to_null=True).cast(types[name])
    if blobs[0].raw_texts is not None and (names := layout.raw_texts):
        texts = [text for blob in blobs for text in blob.raw_texts or ()]
        for place, name in enumerate(names):
            series = _texts(texts[place :: len(names)])
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
