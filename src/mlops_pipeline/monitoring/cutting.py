"""How the record is cut into windows: pure. Moments are seconds since 1970; a window has its first moment, not its last."""

from __future__ import annotations

import calendar
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mlops_pipeline.config.moments import Span

MONDAY = 4 * 86_400
"""The first Monday of 1970: weeks begin on one."""
TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Arrived:
    """One request of the record: when, under which version, how many rows were predicted; none if it was refused."""

    time: float
    version: str
    rows: int


@dataclass(frozen=True)
class Arrivals:
    """A window's requests, in order of time; ``versions`` in the order in which they first answered."""

    since: float
    until: float
    arrived: tuple[Arrived, ...]

    @property
    def versions(self) -> tuple[str, ...]:
        """Refused requests without a version count to the last one."""
        named = tuple(dict.fromkeys(each.version for each in self.arrived if each.version))
        return named or ("",) * bool(self.arrived)


def by_time(arrived: Sequence[Arrived], begin: float | None, span: Span, now: float, *, close: bool) -> Iterator[Arrivals]:
    """The windows of whole spans (UTC) that have ended, the empty ones too, from ``begin`` or the first request on.

    With ``close`` the one that has not ended, up to its last request.
    """
    if begin is None:
        if not arrived:
            return
        begin = _floor(arrived[0].time, span)
    place = 0
    while (end := _after(begin, span)) <= now or (close and place < len(arrived)):
        if end > now:
            end = min(end, _behind(arrived[-1].time))
        held, place = _until(arrived, place, end)
        yield Arrivals(begin, end, held)
        begin = end


def by_count(arrived: Sequence[Arrived], begin: float | None, rows: int, *, close: bool) -> Iterator[Arrivals]:
    """The windows of at least so many predicted rows, each ending with the request that makes it full; with ``close`` the rest too."""
    place = held = 0
    for at, each in enumerate(arrived):
        held += each.rows
        is_last = at + 1 == len(arrived)
        if (held >= rows or (close and is_last)) and (is_last or arrived[at + 1].time >= _behind(each.time)):
            first = _at(arrived[place].time) if begin is None else begin
            begin = _behind(each.time)
            yield Arrivals(first, begin, tuple(arrived[place : at + 1]))
            place, held = at + 1, 0


def _until(arrived: Sequence[Arrived], place: int, end: float) -> tuple[tuple[Arrived, ...], int]:
    last = place
    while last < len(arrived) and arrived[last].time < end:
        last += 1
    return tuple(arrived[place:last]), last


def _at(time: float) -> float:
    """The last moment, of those that a date can tell, that is not after one: what is asked of a store is told in dates."""
    moment = datetime.fromtimestamp(time, UTC)
    return (moment if moment.timestamp() <= time else moment - TICK).timestamp()


def _behind(time: float) -> float:
    """The first such moment after one."""
    return (datetime.fromtimestamp(_at(time), UTC) + TICK).timestamp()


def _floor(time: float, span: Span) -> float:
    """When the span began that a moment is in: by the calendar for months and years, else counted from 1970."""
    if span.unit in ("mo", "y"):
        moment = datetime.fromtimestamp(time, UTC)
        each = span.count * (12 if span.unit == "y" else 1)
        months = (moment.year - 1970) * 12 + moment.month - 1
        return _month(months - months % each)
    seconds, first = _seconds(span), MONDAY if span.unit == "w" else 0
    return math.floor((time - first) / seconds) * seconds + first


def _after(time: float, span: Span) -> float:
    """When the span ends that a moment is in."""
    begin = _floor(time, span)
    if span.unit in ("mo", "y"):
        moment = datetime.fromtimestamp(begin, UTC)
        return _month((moment.year - 1970) * 12 + moment.month - 1 + span.count * (12 if span.unit == "y" else 1))
    return begin + _seconds(span)


def _month(months: int) -> float:
    return float(calendar.timegm((1970 + months // 12, months % 12 + 1, 1, 0, 0, 0)))


def _seconds(span: Span) -> float:
    return timedelta(**{{"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}[span.unit]: span.count}).total_seconds()
