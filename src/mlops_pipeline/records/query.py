"""What is asked of a store of records, and a recorded request as it comes back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from mlops_pipeline.records.encoding import Columns

FIELDS = "time, request_id, model, version, rows, latency_us, error, layout, blob"
"""What both stores keep of a request, in the order in which :func:`recorded` takes it."""
FETCH = 256
"""Requests taken from the store at a time."""


@dataclass(frozen=True)
class Filter:
    """Which requests: arrived from ``since`` on and before ``until`` (UTC where no zone is given), of one model, one version."""

    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    version: str | None = None

    def takes(self, time: float, model: str, version: str) -> bool:
        """Whether a request is among them, for a store that does not ask in SQL."""
        since, until = (None if moment is None else moment.timestamp() for moment in (self.since, self.until))
        in_time = (since is None or time >= since) and (until is None or time < until)
        return in_time and self.model in (None, model) and self.version in (None, version)

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


def wanted_by(since: datetime | None, until: datetime | None, model: str | None, version: str | None) -> Filter:
    """The filter of these bounds; a moment without a zone is UTC."""

    def utc(moment: datetime | None) -> datetime | None:
        return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    return Filter(utc(since), utc(until), model, version)


def recorded(fields: list[Any], layout: Columns | None, blob: bytes) -> Recorded:
    """A request from the values of :data:`FIELDS`, its layout found by its number."""
    time, request_id, model, version, rows, latency_us, error = fields
    return Recorded(time, request_id, model, version, rows, latency_us, error, layout, blob)


def columns_of(text: str) -> Columns:
    """A layout as a store keeps it."""
    return msgspec.json.decode(text, type=Columns)
