"""Moments and spans of time as people write them: ``2013-10-01``, ``31d``, ``1mo``. The one place for both grammars."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

NEWEST = "newest"
"""Instead of a moment: whatever the newest row's is."""

_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks", "mo": "months", "y": "years"}
_SPAN = re.compile(rf"([1-9]\d{{0,5}})({'|'.join(_UNITS)})")
_GRAMMAR = "write a number and a unit: 31d, 4w, 1mo (months), 2y, 12h or 90min (minutes)"


@dataclass(frozen=True)
class Span:
    """A span of time: so many minutes, hours, days, weeks, months or years (``unit`` as it is written)."""

    count: int
    unit: str

    @property
    def of_days(self) -> bool:
        """Whether it is counted in whole days, so that windows of it begin and end at midnight."""
        return self.unit not in ("min", "h")

    @property
    def microseconds(self) -> int:
        """How long it is; of months and years, which are not equally long, nothing is said."""
        return self.count * {"min": 60, "h": 3_600, "d": 86_400, "w": 604_800}[self.unit] * 1_000_000

    def before(self, moment: datetime) -> datetime:
        """The moment that lies so long before another; a month before 31 March is the last day of February.

        Raises ValueError for one before the year 1.
        """
        try:
            return self._from(moment, -self.count)
        except (OverflowError, ValueError, IndexError) as error:
            raise ValueError(f"{self} before {shown_moment(moment)} is before the year 1") from error

    def after(self, moment: datetime) -> datetime:
        """The moment that lies so long after another, as :meth:`before`. Raises ValueError for one after the year 9999."""
        try:
            return self._from(moment, self.count)
        except (OverflowError, ValueError, IndexError) as error:
            raise ValueError(f"{self} after {shown_moment(moment)} is after the year 9999") from error

    def _from(self, moment: datetime, count: int) -> datetime:
        if self.unit in ("mo", "y"):
            months = moment.year * 12 + moment.month - 1 + count * (12 if self.unit == "y" else 1)
            year, month = months // 12, months % 12 + 1
            return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))
        return moment + timedelta(**{_UNITS[self.unit]: count})

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


def seconds_of(text: str) -> float:
    """How long a span is, counted from now back: months and years are not equally long. Raises ValueError as :func:`span_of`."""
    now = datetime.now(UTC)
    return (now - span_of(text).before(now)).total_seconds()


def span_of(text: str) -> Span:
    """Read a span; raises ValueError, whose message names the remedy."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"is no span of time: {_GRAMMAR}")
    return Span(int(found[1]), found[2])


def moment_of(text: str) -> datetime:
    """Read a date or a moment, UTC unless a zone is behind it; in UTC, without one. Raises ValueError, whose message names the remedy."""
    try:
        read = datetime.fromisoformat(text.strip())
        return read if read.tzinfo is None else read.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise ValueError("is no moment: write a date, 2013-10-01, or a moment, 2013-10-01T12:00 (UTC, or with a zone: +02:00)") from error


def rfc3339(moment: datetime, timespec: str = "seconds") -> str:
    """A moment in UTC as RFC 3339 writes it, ``Z`` at its end; what is finer than ``timespec`` is left out."""
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")


def shown_moment(moment: datetime) -> str:
    """A moment as it is written: a midnight as its date."""
    return moment.isoformat().removesuffix("T00:00:00")
