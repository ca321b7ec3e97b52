"""What a text means in a column of moments, and how a moment is written for a model: one form, by every way in.

Tables read whole columns at a time by the same forms (``tables.cast``).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from mlops_pipeline.contract.values import BLANKS, LARGEST_INTEGER, number_of

WRITTEN = "%Y-%m-%d %H:%M:%S"
"""How a model is given a moment: in UTC, to the second."""

EXACTLY = f"{WRITTEN}%.6f"
"""The same to the microsecond, as Polars writes it."""

ISO_SPELLINGS: tuple[tuple[tuple[str, str], ...], ...] = (
    ((r"(?i) ?(?:Z|UTC|GMT)$", ""), ("[Tt]", " ")),
    ((r"(:[0-9]{1,2}),([0-9])", "${1}.${2}"), (r"(:[0-9]{1,2}(?:\.[0-9]+)?) ?([+-][0-9]{2})$", "${1}${2}:00")),
)
"""What ISO 8601 may be written with, and the same in one way: UTC told behind it, a T between day and hour; more rarely a comma before a
second's fraction, and a zone of whole hours, as PostgreSQL has it (``+02``).

Patterns for Python and for Polars, each to be replaced once, one after the other.
"""

_SPELLINGS = tuple([(re.compile(pattern), re.sub(r"\$\{(\d)\}", r"\\g<\1>", made)) for pattern, made in some] for some in ISO_SPELLINGS)
_MOMENT = re.compile(
    r"\s*+(\+\d++|\d{1,4}+)-\s*+(\d{1,2}+)-\s*+(\d{1,2}+)"
    r"(?:\s*+(\d{1,2}+):\s*+(\d{1,2}+)(?::\s*+(\d{1,2}+)(?:\.(\d++))?)?(?:\s*+([+-])(\d{2})[\s:]*+(\d{2}))?)?",
    re.ASCII,
)
"""ISO 8601 as tables read it: with blanks before a number or none, and with fewer digits."""
_USUAL = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}Z?", re.ASCII)
_FRACTION = re.compile(r"\.\d+")

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
_SHORT_MONTHS = "|".join(month[:3] for month in _MONTHS)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORT_WEEKDAYS = "|".join(weekday[:3] for weekday in _WEEKDAYS)
_WHOLES = {"%F": "%Y-%m-%d", "%T": "%H:%M:%S", "%R": "%H:%M", "%D": "%m/%d/%y"}
_PARTS = {
    "%Y": r"\s*+(?P<year>\+[0-9]++|[0-9]{1,4}+)",
    "%y": r"\s*+(?P<short>[0-9]{1,2}+)",
    "%m": r"\s*+(?P<month>[0-9]{1,2}+)",
    "%q": r"(?P<quarter>[1-4])",
    "%b": rf"(?P<word>(?i:{_SHORT_MONTHS}))",
    "%B": rf"(?P<word>(?>(?i:{'|'.join(_MONTHS)}|{_SHORT_MONTHS})))",
    "%a": rf"(?P<weekday>(?i:{_SHORT_WEEKDAYS}))",
    "%A": rf"(?P<weekday>(?>(?i:{'|'.join(_WEEKDAYS)}|{_SHORT_WEEKDAYS})))",
    "%G": r"\s*+(?P<year>\+[0-9]++|[0-9]{1,4}+)",
    "%V": r"\s*+(?P<week>[0-9]{1,2}+)",
    "%d": r"\s*+(?P<day>[0-9]{1,2}+)",
    "%e": r"\s*+(?P<day>[0-9]{1,2}+)",
    "%H": r"\s*+(?P<hour>[0-9]{1,2}+)",
    "%I": r"\s*+(?P<half>[0-9]{1,2}+)",
    "%p": r"(?P<noon>(?i:am|pm))",
    "%M": r"\s*+(?P<minute>[0-9]{1,2}+)",
    "%S": r"\s*+(?P<second>[0-9]{1,2}+)",
    "%.f": r"(?:\.(?P<fraction>[0-9]++))?+",
    "%z": r"\s*+(?P<sign>[+-])(?P<away>[0-9]{2})[\s:]*+(?P<minutes_away>[0-9]{2})",
}
"""How tables read each part of a form (the strftime of Rust's chrono): a number with fewer digits or blanks before it, too."""


EPOCHS = {"%s": 1_000_000, "%Q": 1_000}
"""Forms of a number of seconds, or of milliseconds, since 1970 in UTC, and how many microseconds each of them is."""


def is_of_numbers(form: str | None) -> bool:
    """Whether a number may be a moment written so: since 1970, or as 20240131, the year first, so that it has lost no zero before it."""
    return form is not None and (form in EPOCHS or form.startswith("%Y"))


QUARTER = "%q"
"""The part of a form that is a quarter of a year, 1 to 4; its first day is meant."""


def day_of_none(form: str) -> tuple[str, str] | None:
    """The day that is meant by a form without one, and how it is written: a week's Monday, a month's first; None if a form has a day."""
    parts = set(re.findall(r"%\.?(.)", form))
    if parts & set("dejDF"):
        return None
    return ("1", "%u") if "V" in parts else ("1", "%d") if parts & set("mbB") else None


def moment_in(text: str) -> datetime | None:
    """A text as a moment in UTC to the microsecond, as ``tables.cast.as_moments`` reads it; None if it is none."""
    text = text.strip(BLANKS)
    for some in _SPELLINGS:
        for pattern, made in some:
            text = pattern.sub(made, text, count=1)
        if (match := _MOMENT.fullmatch(text)) is not None:
            break
    else:
        return None
    fraction, sign = int((match[7] or "0").ljust(6, "0")[:6]), match[8]
    day, clock, zone = ([int(part or 0) for part in match.group(*groups)] for groups in ((1, 2, 3), (4, 5, 6), (9, 10)))
    hour, minute, second = clock
    if second > 60 or zone[0] > 23 or zone[1] > 59:
        return None
    try:
        moment = datetime(day[0], day[1], day[2], hour, minute, min(second, 59), fraction)
        if second == 60 or sign:
            away = timedelta(hours=zone[0], minutes=zone[1])
            moment += timedelta(seconds=second // 60) + (away if sign == "-" else -away)
    except (ValueError, OverflowError):
        return None
    return moment


def moment_of(text: str, form: str | None = None) -> str | None:
    """A text as a moment, written as models take it; None if it is none.

    ``form`` is how it is written, as strftime has it; ISO 8601 is read in any case.
    """
    usual = _usual(text, form)
    if usual is not None:
        return usual
    moment = read_moment(text, form)
    return None if moment is None else _written(moment)


def _usual(text: str, form: str | None) -> str | None:
    """What nearly all clients write, told in a tenth of the time."""
    if form is not None or _USUAL.fullmatch(text) is None:
        return None
    try:
        datetime.fromisoformat(text[:19])
    except ValueError:
        return None
    return f"{text[:10]} {text[11:19]}"


def exact_moment_of(text: str, form: str | None = None) -> str | None:
    """The same with the microseconds behind it, if it has any: of a row's moment, before which others are counted."""
    usual = _usual(text, form)
    if usual is not None:
        return usual
    moment = read_moment(text, form)
    if moment is None:
        return None
    return f"{_written(moment)}.{moment.microsecond:06}" if moment.microsecond else _written(moment)


def read_moment(text: str, form: str | None = None) -> datetime | None:
    """A text as a moment in UTC to the microsecond, as ``tables.cast.as_moments`` reads it; None if it is none."""
    bare = text.strip(BLANKS)
    said = None if form is None else _since_1970(bare, EPOCHS[form]) if form in EPOCHS else _in_form(bare, form)
    return moment_in(text) if said is None else said


@lru_cache(maxsize=256)
def _pattern(form: str) -> re.Pattern[str] | None:
    """What matches a moment that is written so; None for a form with other parts, or with one twice."""
    for whole, parts in _WHOLES.items():
        form = form.replace(whole, parts)
    made = ""
    for part in re.findall(r"%\.f|%.|\s+|[^%\s]", form, re.DOTALL):
        if part.startswith("%") and part not in _PARTS:
            return None
        made += _PARTS.get(part) or (r"\s*+" if part.isspace() else re.escape(part))
    try:
        return re.compile(made)
    except re.error:
        return None


def _in_form(bare: str, form: str) -> datetime | None:
    pattern = _pattern(form)
    if pattern is None:
        return _by_strptime(bare, form)
    found = pattern.fullmatch(bare)
    if found is None:
        return None
    parts = found.groupdict("")
    year = int(parts.get("year") or 0) if "year" in parts else int(parts.get("short") or 0)
    if "year" not in parts:
        year += 2000 if year < 70 else 1900
    word = parts.get("word", "").lower()[:3]
    month = next(number for number, name in enumerate(_MONTHS, 1) if name.startswith(word)) if word else int(parts.get("month", 1))
    month = int(parts["quarter"]) * 3 - 2 if "quarter" in parts else month
    hour, second = int(parts.get("hour", 0)), int(parts.get("second", 0))
    if "half" in parts:
        hour = int(parts["half"])
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if parts.get("noon", "").lower() == "pm" else 0)
    away, minutes_away = int(parts.get("away", 0)), int(parts.get("minutes_away", 0))
    if second > 60 or away > 23 or minutes_away > 59:
        return None
    micros = int(parts.get("fraction", "").ljust(6, "0")[:6])
    try:
        day = date.fromisocalendar(year, int(parts["week"]), 1) if "week" in parts else date(year, month, int(parts.get("day", 1)))
        if not _WEEKDAYS[day.weekday()].startswith(parts.get("weekday", "").lower()[:3]):
            raise ValueError("another day of the week")
        moment = datetime(day.year, day.month, day.day, hour, int(parts.get("minute", 0)), min(second, 59), micros)
        ahead = timedelta(hours=away, minutes=minutes_away)
        return moment + timedelta(seconds=second // 60) - (-ahead if parts.get("sign") == "-" else ahead)
    except (ValueError, OverflowError):
        return None


def _since_1970(bare: str, unit: int) -> datetime | None:
    """A number of seconds or milliseconds, each so many microseconds, as a moment."""
    number = number_of(bare)
    if number is None or not abs(number * unit) < LARGEST_INTEGER:
        return None
    try:
        return datetime(1970, 1, 1) + timedelta(microseconds=round(number * unit))
    except OverflowError:
        return None


def _by_strptime(bare: str, form: str) -> datetime | None:
    """A moment in a form with rarer parts, such as the day of the year, which Python and Polars read nearly alike."""
    fraction = "f" in re.findall(r"%[.\d]*([A-Za-z])", form)
    form = re.sub(r"%\.?\d?f", "", form).rstrip(".")
    try:
        moment = datetime.strptime(_FRACTION.sub("", bare, count=1) if fraction else bare, form)  # what has no zone is in UTC
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # in UTC it may lie outside the years that there are
        return None


def _written(moment: datetime) -> str:
    return f"{moment.year:04}{moment.strftime(WRITTEN[2:])}"
