"""What is asked of a store of records, and a recorded request as it comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

import msgspec

from mlops_pipeline.records.encoding import BRIEF_TEXT, NO_BLOB, Columns

FIELDS = "time, request_id, model, version, rows, latency_us, error, layout, blob"
"""What both stores keep of a request, in the order in which :func:`recorded` takes it."""
FETCH = 32
"""Requests taken from a server at a time: each may hold as much as a body may."""
BRIEF_BYTES = 4_000_000
"""For a screen, what a request of many rows holds; the blob of a larger one is not loaded."""
TOO_LARGE = f"not shown, its record has more than {BRIEF_BYTES / 1e6:g} MB: `mlops records export` has it"


class Bounds(TypedDict, total=False):
    """Which requests: arrived from ``since`` on and before ``until`` (UTC where no zone is given), of one model, one version; else all."""

    since: datetime | None
    until: datetime | None
    model: str | None
    version: str | None


@dataclass(frozen=True)
class Filter:
    """The same, and what of them is wanted."""

    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    version: str | None = None
    brief: bool = False
    """For a screen: layouts and features are not wanted, and texts may be cut after ``BRIEF_TEXT``."""
    request: str = ""
    """How a request's id begins; a store that cannot look for it may leave it, the reader looks again."""
    of: str = ""
    """The registered model that is asked about: what is known to be of another is not wanted; empty: all there is."""
    after: Mapping[str, int] | None = None
    """How far each of a store's writers was read (``Records.read_to``): only what is behind that; None: whatever there is."""

    def takes(self, time: float, model: str, version: str) -> bool:
        """Whether a request is among them, for a store that does not ask in SQL."""
        since, until = (None if moment is None else moment.timestamp() for moment in (self.since, self.until))
        in_time = (since is None or time >= since) and (until is None or time < until)
        return in_time and self.model in (None, model) and self.version in (None, version)

    def fields(self, length: str) -> str:
        """What is selected of a request, for :func:`recorded`; ``length`` is the store's word for the bytes of a blob."""
        if not self.brief:
            return FIELDS
        texts = {name: f"substr({name}, 1, {BRIEF_TEXT + 1})" for name in ("request_id", "model", "version", "error")}
        texts["blob"] = f"CASE WHEN {length}(blob) <= {BRIEF_BYTES} THEN blob END"
        return ", ".join(texts.get(name, name) for name in FIELDS.split(", "))

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
        if self.request:
            terms.append(f"substr(request_id, 1, {len(self.request)}) = {sign}")
            values.append(self.request)
        return " AND ".join(terms) or "true", values


@dataclass(frozen=True, slots=True)
class Recorded:
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


def wanted_by(since: datetime | None = None, until: datetime | None = None, model: str | None = None, version: str | None = None) -> Filter:
    """The filter of these bounds; a moment without a zone is UTC."""

    def utc(moment: datetime | None) -> datetime | None:
        return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    return Filter(utc(since), utc(until), model, version)


def recorded(fields: list[Any], layout: Columns | None, blob: bytes | None) -> Recorded:
    """A request from the values of :data:`FIELDS`, its layout found by its number. No blob: it is too large for a screen."""
    time, request_id, model, version, rows, latency_us, error = fields
    if blob is None:
        blob = NO_BLOB
        error = error or TOO_LARGE
    return Recorded(time, request_id, model, version, rows, latency_us, error, layout, blob)


def columns_of(text: str) -> Columns:
    """A layout as a store keeps it."""
    return msgspec.json.decode(text, type=Columns)
