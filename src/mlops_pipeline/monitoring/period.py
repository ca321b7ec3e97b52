"""A span of time as people name it: 2013, 2013-10, 2013-10-05, or two of them with .. between."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta

from mlops_pipeline.errors import PipelineError

PERIOD = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")


def period_of(option: str, named: str) -> tuple[datetime, datetime] | None:
    """From 2013, 2013-10, 2013-10-05 or two of them with .. between: the first moment, and the first one after."""
    first, _, last = named.partition("..")
    begin, end = PERIOD.fullmatch(first), PERIOD.fullmatch(last or first)
    if begin is None or end is None:
        return None
    try:
        moments = _bounds(begin)[0], _bounds(end)[1]
    except (ValueError, OverflowError) as error:
        raise PipelineError(f"{option} {named}: is no date: {error}") from error
    if moments[0] >= moments[1]:
        raise PipelineError(f"{option} {named}: ends before it begins: turn the two round")
    return moments


def _bounds(match: re.Match[str]) -> tuple[datetime, datetime]:
    # What is not named is None, and what is named 0 is the text "0", which is no month and no day.
    year, month, day = match.groups()
    first = datetime(int(year), int(month or 1), int(day or 1))
    last_month = int(month or 12)
    last = datetime(first.year, last_month, int(day or monthrange(first.year, last_month)[1]))
    return first, last + timedelta(days=1)
