"""How the record is cut into windows: pure. Moments are seconds since 1970; a window has its first moment, not its last."""

from __future__ import annotations

import calendar
import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt

from mlops_pipeline.config.moments import Span

MONDAY = 4 * 86_400
"""The first Monday of 1970: weeks begin on one."""
TICK = timedelta(microseconds=1)
MADE_AT_ONCE = 10_000
"""Requests that are objects at a time."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One request of the record: when, under which version, how many rows were predicted; none if it was refused."""

    time: float
    version: str
    rows: int
    on_trial: bool = False
    """Whether it was a release's challenger that answered."""


@dataclass(frozen=True)
class Requests(Sequence[Arrived]):
    """Requests in order of time, held by column: ten million take 170 MB, where so many objects take a gigabyte."""

    times: npt.NDArray[np.float64]
    versions: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    on_trial: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    """Of the versions, by their place."""

    @classmethod
    def of(cls, found: Iterable[Arrived]) -> Requests:
        """Requests that come in any order."""
        times, versions, rows, on_trial = array("d"), array("i"), array("i"), array("b")
        places: dict[str, int] = {}
        for each in found:
            times.append(each.time)
            versions.append(places.setdefault(each.version, len(places)))
            rows.append(each.rows)
            on_trial.append(each.on_trial)
        order = np.argsort(np.frombuffer(times, np.float64), kind="stable")
        held = (np.frombuffer(versions, np.int32)[order], np.frombuffer(rows, np.int32)[order], np.frombuffer(on_trial, np.bool_)[order])
        return cls(np.frombuffer(times, np.float64)[order], *held, tuple(places))

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[Arrived]:
        for place in range(0, len(self), MADE_AT_ONCE):
            some = self[place : place + MADE_AT_ONCE]
            columns = (some.times.tolist(), some.versions.tolist(), some.rows.tolist(), some.on_trial.tolist())
            for time, version, rows, on_trial in zip(*columns, strict=True):
                yield Arrived(time, self.names[version], rows, on_trial)

    @overload
    def __getitem__(self, place: int) -> Arrived: ...

    @overload
    def __getitem__(self, place: slice) -> Requests: ...

    def __getitem__(self, place: int | slice) -> Arrived | Requests:
        if isinstance(place, slice):
            return Requests(self.times[place], self.versions[place], self.rows[place], self.on_trial[place], self.names)
        version = self.names[int(self.versions[place])]
        return Arrived(float(self.times[place]), version, int(self.rows[place]), bool(self.on_trial[place]))


@dataclass(frozen=True)
class Arrivals:
    """A window's requests, in order of time; ``before`` is the version that answered last before them."""

    since: float
    until: float
    arrived: Sequence[Arrived]
    before: str = ""

    @cached_property
    def _held(self) -> Requests:
        return self.arrived if isinstance(self.arrived, Requests) else Requests.of(self.arrived)

    @cached_property
    def versions(self) -> tuple[str, ...]:
        """As they last answered, those first that were only on trial; where none did, all were refused, the one before."""
        held = self._held
        answered = np.where(held.on_trial, -1, np.arange(len(held)))
        places, firsts = np.unique(held.versions, return_index=True)
        first = {held.names[place]: at for place, at in zip(places.tolist(), firsts.tolist(), strict=True)}
        last = {held.names[place]: int(answered[held.versions == place].max()) for place in places.tolist()}
        named = sorted(filter(None, first), key=lambda version: (last[version], first[version]))
        return tuple(named) or (self.before,) * bool(self.arrived)

    def counted(self, version: str) -> tuple[int, int]:
        """How many requests count to a version, and how many of them were refused: before there was one they count to the last one."""
        held, names = self._held, {version, ""} if version == self.versions[-1] else {version}
        own = np.isin(held.versions, [place for place, name in enumerate(held.names) if name in names])
        return int(own.sum()), int((own & (held.rows == 0)).sum())


def between(arrived: Sequence[Arrived], since: float, until: float) -> Sequence[Arrived]:
    """Those of some requests, in order of time, that a span has."""
    first = bisect_left(arrived, since, key=_time_of)
    return arrived[first : bisect_left(arrived, until, first, key=_time_of)]


def begun(time: float, span: Span) -> float:
    """When the span began that a moment is in: by then every window that has ended before that moment had."""
    return _floor(time, span)


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
            yield Arrivals(first, begin, arrived[place : at + 1])
            place, held = at + 1, 0


def _until(arrived: Sequence[Arrived], place: int, end: float) -> tuple[Sequence[Arrived], int]:
    last = bisect_left(arrived, end, place, key=_time_of)
    return arrived[place:last], last


def _time_of(request: Arrived) -> float:
    return request.time


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
    seconds, first = span.microseconds / 1e6, MONDAY if span.unit == "w" else 0
    return math.floor((time - first) / seconds) * seconds + first


def _after(time: float, span: Span) -> float:
    """When the span ends that a moment is in."""
    begin = _floor(time, span)
    if span.unit in ("mo", "y"):
        moment = datetime.fromtimestamp(begin, UTC)
        return _month((moment.year - 1970) * 12 + moment.month - 1 + span.count * (12 if span.unit == "y" else 1))
    return begin + span.microseconds / 1e6


def _month(months: int) -> float:
    return float(calendar.timegm((1970 + months // 12, months % 12 + 1, 1, 0, 0, 0)))
