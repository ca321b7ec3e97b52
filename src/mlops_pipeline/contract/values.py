"""What a value means in a column of a kind: one rule, whether it came as text, as JSON or out of a typed table.

Tables read whole columns at a time by the same words and bounds (``tables.cast``); a property test holds the two together.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

BLANKS = " \t\r\n\v\f\u00a0\u2007\u202f\ufeff"
"""What is taken off around a text before it is read."""

NULL_WORDS = ("", "NA", "NaN", "null", "None")
"""Texts that stand for null where the dataset names none of its own."""

TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0")

MISSING = "(missing)"
"""What a category's null is called inside a model."""

LARGEST = (2.0 - 2.0**-23) * 2.0**127
"""The largest number that a 32-bit float holds, as models take them (IEEE 754 binary32)."""

LARGEST_INTEGER = 2.0**53 - 1
"""The largest integer up to which a 64-bit float tells every one from the next (IEEE 754 binary64)."""

_NUMBER = re.compile(r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)
_NAN = re.compile(r"[+-]?nan", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"(-?\d+)\.0+", re.ASCII)
_INTEGER = re.compile(r"-?\d+", re.ASCII)


class DescribedColumn(Protocol):
    """A column's description, in a configuration or in a contract."""

    @property
    def kind(self) -> str: ...
    @property
    def min(self) -> float | None: ...
    @property
    def max(self) -> float | None: ...


class Written(NamedTuple):
    """How the numbers of a column are written: one pattern for Python and for Polars, and the marks within."""

    pattern: str
    thousands: str
    decimal: str

    def plain(self, text: str) -> str | None:
        """The same number as everybody writes it; None if it is not written so."""
        text = with_sign_before(text)
        match = re.fullmatch(self.pattern, text)
        if match is None:
            return text if _NOT_FINITE.fullmatch(text) else None
        bare = "".join(match.groups(""))
        return re.sub(self.thousands, "", bare).replace(self.decimal, ".") if self.thousands else bare.replace(self.decimal, ".")


SPACES = " \u00a0\u2007\u2009\u202f"
"""Blanks that may part thousands, or stand before a unit."""

BOUNDS = "<>≤≥"
"""Before a number they say that it is a bound: less than 5 is read as 5."""

_APOSTROPHES = "'’"
_UNIT = r"(?:[^0-9.,+()-]|(?<=[^\W\d_])\.)*"  # a point may end an abbreviation: kr.
_FORM = re.compile(rf"(?P<before>{_UNIT})1(?P<thousands>[.,{_APOSTROPHES}{SPACES}]?)234(?P<decimal>[.,])5(?P<after>{_UNIT}|\+)")
NOT_FINITE = "(?i)^[+-]?(?:inf|infinity|nan)$"
_NOT_FINITE = re.compile(NOT_FINITE, re.ASCII)

SIGNS = (
    ("[−–]", "-"),
    (rf"^-[{SPACES}]+([0-9])", "-${1}"),
    (r"^([^()0-9]*)\(([^()0-9]*[0-9][^()]*)\)([^()0-9]*)$", "-${1}${2}${3}"),
    (r"^([^.,]*[0-9])[.,]-{1,2}([^0-9()]*)$", "${1}${2}"),
    (r"([0-9][.,])-{1,2}([^0-9()]*)$", "${1}0${2}"),
    (rf"^((?:[^+-].*)?[^.,+{SPACES}-])[{SPACES}]*-$", "-${1}"),
)
"""How a number's sign may be written elsewhere than right before it, and the same with a minus there.

``−5``, ``- 5``, ``(5)``, ``5-``; ``5,-`` has none, and in ``1.234,-`` the mark before it is the decimal sign. Patterns for Python and for
Polars, to be replaced one after the other.
"""

ODD_SIGN = rf"[−–(]|-$|^-[{SPACES}]|[.,]-"
"""What a number has whose sign is written so."""

_ODD_SIGN = re.compile(ODD_SIGN)
_SIGNS = tuple((re.compile(pattern), re.sub(r"\$\{(\d)\}", r"\\g<\1>", made)) for pattern, made in SIGNS)


def with_sign_before(text: str) -> str:
    """A number in its owner's writing, its minus before it."""
    if _ODD_SIGN.search(text) is not None:
        for pattern, made in _SIGNS:
            text = pattern.sub(made, text)
    return text


CLOCKS = ("h:mm", "h:mm:ss", "m:ss")
"""Ways of writing a time of day, or how long something took, as a number of seconds. Two figures are hours and minutes but in the last."""

CLOCK = (
    r"([+-]?)(?:([0-9]+) ?d(?:ays?)?(,? ?[+-]?))?"
    r"([0-9]+):([0-5][0-9](?:\.[0-9]+)?)(?::([0-5][0-9](?:\.[0-9]+)?))?(?: ?([aApP])\.?[mM]\.?)?(?: ?Uhr)?"
)
"""Its sign, days, what parts these from the rest, three figures, the half of the day: one pattern for Python and for Polars.

A fraction is one of seconds. Where a comma or a sign stands behind the days, the first sign is theirs alone: ``-1 day, 23:00:00``, as
Python writes it, and pandas' ``-1 days +23:00:00`` are an hour less than nothing. ``7:05 Uhr`` is what Germans write.
"""

_CLOCK = re.compile(CLOCK)

_PART = "([+-]?[0-9]+(?:[.,][0-9]+)?)"
ISO_CLOCK = rf"([+-]?)P(?:0+Y)?(?:0+M)?(?:{_PART}W)?(?:{_PART}D)?(?:T(?:{_PART}H)?(?:{_PART}M)?(?:{_PART}S)?)?"
"""A duration by ISO 8601: its sign, weeks, days, hours, minutes and seconds, each with its own: a pattern for Python and for Polars.

pandas writes ``P0DT0H20M0S``, and ``P-1DT23H59M59S`` for a second less than nothing, others ``-PT1S``. Years and months have no fixed
length.
"""

ISO_SECONDS = (604_800, 86_400, 3_600, 60, 1)
"""The seconds of each of its parts."""

ISO_UNENDED = "[PT]$"
"""Behind these letters something has to come."""

_ISO_CLOCK = re.compile(ISO_CLOCK)
_OF_MONTHS = re.compile(rf"[+-]?P{_PART}[YM][0-9.,+MWDTHS-]*")


def seconds_in(text: str, form: str) -> float | None:
    """The seconds that a time of day or a duration says, by a way of ``CLOCKS`` or, by any of them, by ISO 8601; None if it is none."""
    if text[:1] == "P" or text[1:2] == "P":
        return _iso_seconds(text)
    match = _CLOCK.fullmatch(text)
    if match is None or ("." in match[5] and (match[6] is not None or form != "m:ss")):
        return None
    first, second = float(match[4]), float(match[5])
    if match[7] is not None:
        if not 1 <= first <= 12:
            return None
        first = first % 12 + (12 if match[7] in "pP" else 0)
    if match[6] is not None:
        seconds = first * 3600 + second * 60 + float(match[6])
    else:
        seconds = first * 60 + second if form == "m:ss" else first * 3600 + second * 60
    days, between = float(match[2] or 0) * 86_400, (match[3] or "").strip()
    if not between:
        return -(days + seconds) if match[1] == "-" else days + seconds
    return (-days if match[1] == "-" else days) + (-seconds if between[-1] == "-" else seconds)


def _iso_seconds(text: str) -> float | None:
    """The seconds of a duration as ISO 8601 writes it; None if it is none, or none of a fixed length."""
    match = _ISO_CLOCK.fullmatch(text)
    if match is None or text[-1] in "PT":
        return None
    total = 0.0  # not by sum, which since Python 3.12 rounds otherwise than tables do
    for part, seconds in zip(match.groups()[1:], ISO_SECONDS, strict=True):
        total += float((part or "0").replace(",", ".")) * seconds
    return -total if match[1] == "-" else total


def is_of_months(text: str) -> bool:
    """Whether a text is a duration of years or months by ISO 8601, which have no fixed length."""
    return _iso_seconds(text) is None and _OF_MONTHS.fullmatch(text) is not None


def is_number_form(form: str) -> bool:
    """Whether a text says how a column's numbers are written."""
    return form in CLOCKS or written_as(form) is not None


@lru_cache(maxsize=256)
def written_as(form: str) -> Written | None:
    """How numbers are written, told by how 1234.5 is: ``1.234,5``, ``$1,234.5``, ``1234.5 %``; None if the text does not tell it.

    What stands before or after a number may be left out, and so may the marks between thousands. A sign of ``BOUNDS`` stands for each.
    """
    match = _FORM.fullmatch(form)
    if match is None or match["thousands"] == match["decimal"]:
        return None
    mark = match["thousands"]
    same = next((f"[{group}]" for group in (SPACES, _APOSTROPHES) if mark and mark in group), re.escape(mark))
    point = re.escape(match["decimal"])
    # Nobody parts thousands behind a zero: 0.361 is no 361.
    whole = f"[1-9][0-9]{{0,2}}(?:{same}[0-9]{{3}})+|[0-9]+" if mark else "[0-9]+"
    if mark == ",":  # 12,34,567 as in India
        whole = f"[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}}|{whole}"
    before, after = (re.sub(r"\\\.$", r"\\.?", re.escape(match[side].strip(BLANKS))) for side in ("before", "after"))
    before = f"[{BOUNDS}]=?" if before and before in BOUNDS else before
    blank = f"[{SPACES}]*"
    start = f"([+-]?)(?:{before}{blank})?([+-]?)" if before else "([+-]?)"
    end = f"(?:{blank}{after})?" if after else ""
    return Written(f"{start}((?:{whole})(?:{point}[0-9]*)?|{point}[0-9]+)((?:[eE][+-]?[0-9]+)?){end}", same, match["decimal"])


def bounds(column: DescribedColumn) -> tuple[float, float]:
    """Least and largest value of a number column; what a model can tell apart where nothing else is said."""
    if column.kind == "boolean":
        return 0.0, 1.0
    widest = LARGEST_INTEGER if column.kind == "integer" else LARGEST
    return (
        -widest if column.min is None else max(column.min, -widest),
        widest if column.max is None else min(column.max, widest),
    )


def number_of(text: str, form: str | None = None) -> float | None:
    """A text as a number, which may be infinite or NaN, written as ``form`` tells (:func:`written_as`, ``CLOCKS``); None if it is none."""
    if form in CLOCKS:
        return float(text) if _NOT_FINITE.fullmatch(text) else seconds_in(text, form)
    if form is not None and (written := written_as(form)) is not None:
        text = written.plain(text) or ""
    return float(text) if _NUMBER.fullmatch(text) else None


def is_nothing(bare: str, null_words: Collection[str]) -> bool:
    """Whether a text without blanks around it stands for null where numbers and moments are due: a word for it, or NaN."""
    return bare in null_words or (len(bare) <= 4 and _NAN.fullmatch(bare) is not None)


def truth_of(text: str) -> float | None:
    """A word for true (1) or false (0), or any number; None if it is none of them."""
    word = text.lower()
    return 1.0 if word in TRUE_WORDS else 0.0 if word in FALSE_WORDS else number_of(text)


def spelled(value: Any) -> str | None:
    """A category's value as text: whole numbers without a point, so that 1, 1.0 and a Parquet column of either are one; NaN is null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float | decimal.Decimal):
        if math.isnan(value):
            return None
        return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def category_of(text: str, seen: Collection[str], null_words: Collection[str]) -> str | None:
    """The category that a text means: one that was seen, by other blanks, as 1 for 1.0, as True for true; None for a word for null.

    A text that means none of them is a category of its own, which training has not seen.
    """
    if text in seen:
        return text
    bare = text.strip(BLANKS)
    if bare in seen:
        return bare
    if text in null_words:
        return None
    others: tuple[str, ...] = ()
    if match := _WHOLE.fullmatch(bare):
        others = (match[1],)
    elif _INTEGER.fullmatch(bare):
        others = (f"{bare}.0",)
    elif bare.lower() in ("true", "false"):
        others = (bare.lower(), bare.capitalize(), bare.upper())
    return next((other for other in others if other in seen), text)
