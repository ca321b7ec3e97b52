"""From what a column holds to its kind, and to whether a model should see it: what `mlops init` writes and `mlops run` keeps.

A column is left out of the features, with the reason said, if it tells a row from every other rather than what the row is: a
running number, an identifier, a table's index; if it says nothing: a constant, 98 % missing, equal to another column; or if
it cannot be read as one thing: numbers that no model's 32 bits hold, dates of which nobody can tell the day from the month.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mlops_pipeline.config.dataset import Kind
from mlops_pipeline.contract.moments import read_moment
from mlops_pipeline.contract.values import (
    BLANKS,
    BOUNDS,
    LARGEST_INTEGER,
    NULL_WORDS,
    SPACES,
    number_of,
    spelled,
    truth_of,
    with_sign_before,
    written_as,
)
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.tables.profile import COMPACT_DAY, MARKERS, SHEET_ERRORS, UNITS, ZERO_DATES, ColumnProfile, is_of_moments

ODD_SHARE = 0.005
"""Up to this share of a column's values may be none of its kind: their rows are set aside, and that is said."""

ODD_ROWS, ROWS_FOR_ONE = 2, 20
"""So may that many values, such as a line of units and one of remarks, if there are so many others for each."""

FEW_CATEGORIES = 50
"""A text column with at most this many values, or half as many as rows, is a category; with more it is free text."""

WORDS = 3
"""Texts of at least so many words on average are free text, where there are more than a few of them."""

UNIQUE = 0.9
"""With a larger share of different values, a column of single words names its rows."""

MISSING = 0.98
"""With a larger share of nulls, a column says nothing."""

MERGED = 0.5
"""Where less than so many rows have a value, and each another one, they may be of merged cells."""

FEW_CLASSES = 20
"""A target of at most this many whole numbers, each several times, is one of classes."""

MANY_CLASSES, RARE = 7, 0.01
"""With more whole numbers than these, of which one is as rare as that, a target counts something."""

DAYS_FOR_SURE = 10
"""So many different numbers that are days when read as 20240131 are days."""

WORDS_FOR_NOTHING, LEAST_NUMBERS = 2, 10
"""Up to so many words among at least so many different numbers may stand for null."""

MOMENTS_AS_NUMBERS = {"%Y%m%d": "days", "%Y%m": "months", "%Y%m%d%H%M": "moments", "%Y%m%d%H%M%S": "moments"}
"""How numbers may tell moments, the year first, and what they are then."""

OF_DAYS = f"read as days; if they are numbers, write kind: integer, without format: '{COMPACT_DAY}'"
ONE_OR_NONE = "holds one value or none: what it tells is whether there is one"
TWO_DIGITS = "years of two digits are read as 1970 to 2069"
SECONDS = "a time of day, or how long something took, is read as seconds"

EPOCHS_WITHIN = (datetime(1990, 1, 1, tzinfo=UTC).timestamp(), datetime(2100, 1, 1, tzinfo=UTC).timestamp())
"""Seconds since 1970 between which a column may tell moments."""

SPREADSHEET_DAYS = (20_000, 80_000)
"""What the days of 1954 to 2119 are in a spreadsheet."""

_NEARLY_NUMBER = re.compile(
    r"[<>≤≥~≈]?\s?[-+−]?\s?\d[\d.,]*\s?"
    r"(?:/\s?\d+|[-–]\s?\d[\d.,]*(?:\s?[^\W\d_]{1,8}(?:/[^\W\d_]{1,4})?)?|\+?\s[^\W\d_]{5,8}|\+|%"
    r"|[^\W\d_]{1,4}[²³]?(?:[ ,]{0,2}\d+\s?[^\W\d_]{1,4}){0,3}|[^\W\d_]{1,3}\.)"
    rf"|(?:{UNITS}|[~≈])\s?[-+−]?\d[\d.,]*|\d{{1,2}}:\d\d(?::\d\d)?[^\d:].{{0,12}}"
    r"|P(?:\d+[YMWD]){0,4}(?:T(?:[\d.]+[HMS]){1,3})?"
    r"|[-+−]?\d+(?:[.,]\d+)?(?:\s?(?:°.{0,20}|[±*†‡]\s?[\d.,]*|\(\w{1,3}\)|'\s?\d*\"?))?|\d{1,2}\s?h\s?\d\d|[='\"]{1,2}[-+]?\d[\d.,]*[\"']?"
    rf"|(?:ca|approx|about|etwa|env)[. ]\s?\d[\d.,]*|\d[\d.,'’{SPACES}]*[-−–]?\s?(?:{UNITS}|%|[^\W\d_]{{1,4}})"
)
"""What a person may take for a number, or for how long something took: a fraction, a range, a unit without a blank, years, degrees, a
footnote's mark, one that a spreadsheet was to leave alone; numbers in two ways of writing, or in other digits.
"""

_MONTHS = (
    "jan ene gen feb fév fev mar mär mrt apr avr abr mai may maj mei mag jun juin giu jul juil lug aug aoû ago sep set okt oct ott out "
    "nov dez dec déc dic"
)
_MONTH = rf"(?i:{_MONTHS.replace(' ', '|')})[^\W\d_]{{0,8}}\.?"
"""How a month's name begins in some languages; which it is, no format says."""

_NEARLY_MOMENT = re.compile(
    r"(?:\d{4}([-/.]) ?\d{1,2}\1 ?\d{1,2}\.?|\d{1,2}([-/.])\d{1,2}\2\d{4}|\d{8}T\d{4,6}"
    r"|(?:[^\W\d_]{2,10}\.?,? )?\d{1,2}(?:\.|er|st|nd|rd|th)?[ /-](?:de )?[^\W\d_]{3,12}\.?,?[ /-](?:de )?\d{4})(?!\d).{0,40}"
    rf"|{_MONTH}[ /-](?:de )?(?:\d{{2}}|\d{{4}})|{_MONTH} \d{{1,2}},? \d{{4}}.{{0,20}}|(?:KW|W|S|T) ?\d{{1,2}}[ /-]\d{{4}}"
)
"""What a person may take for a day, for a month or a week of a year, or for a moment."""

_OPEN_ENDED = re.compile(rf"\d+[{SPACES}]*[-−–+]")
OPEN_ENDS = 0.95
"""Where so large a share of values are whole numbers with a minus behind them (or a plus, at the end of such bands), they are labels."""

_DIALED = re.compile(rf"\+\d{{1,3}}(?:[{SPACES}]\d{{2,4}}){{2,5}}")
"""A number that is dialed, its country first."""

_DIALED_SOMEHOW = re.compile(r"[+(\d][\d\s()/.+-]{5,24}(?:(?:x|ext\.?)\s?\d{1,6})?")
"""The same however it is written, of which a telephone's name says what it is."""

_FOR_NULL = re.compile(r"-(9+|8{2,}|7{2,})")
"""What many write where there is no number, and no number is below zero."""

_WHOLE_WITH_EXPONENT = re.compile(r"\d+[eE]\d+")

_NO_NUMBER = re.compile(r"[^\d]{0,30}[^\W\d_][^\d]{0,30}")

_PAIRS = ({"true", "false"}, {"t", "f"}, {"yes", "no"}, {"y", "n"})
_NULL_EVERYWHERE = frozenset(
    {
        "NA",
        "NaN",
        "nan",
        "null",
        "NULL",
        "Null",
        "N/A",
        "n/a",
        "<NA>",
        "na",
        "NaT",
        "\\N",
        "(null)",
        "<null>",
        "[NULL]",
        *SHEET_ERRORS,
        *ZERO_DATES,
    }
)
"""Markers that are null in a column of categories too."""

_INDEX = re.compile(r"|Unnamed: \d+|rownames|row\.names|row_names|\.\.\.1|__index_level_\d+__|index", re.IGNORECASE)
_IDENTIFIER = set(
    re.findall(r"\w+", "id ids uuid guid key index rownames rowname rownum row nr no number nummer identifier recordid obs iban")
)
_DIALED_NAMES = set(re.findall(r"\w+", "phone telephone telefon telefono telefone tel fax"))
LEAST_DIALED = 1_000_000
"""From so many on, a whole number under a telephone's name is dialed; smaller ones count calls, minutes or amounts."""

_KEYS = {"id", "ids", "uuid", "guid"}
_THINGS = set(
    re.findall(
        r"\w+",
        "subject patient participant person individual respondent donor customer client user member account employee player student pupil "
        "household family animal kunde",
    )
)
_NUMBER_OF_A_THING = set(re.findall(r"\w+", "no nr num number nummer code key name"))
_THING_ID = re.compile(rf"({'|'.join(sorted(_THINGS))}|subj|pat|cust)id")
_MOMENT = set(re.findall(r"\w+", "timestamp ts epoch unix utc time datetime date moment created updated zeit datum"))
_TIME = set(re.findall(r"\w+", "year month week day date time period quarter age hour minute jahr monat woche tag"))
_STATES = (
    "AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA RI SC SD "
    "TN TX UT VT VA WA WV WI WY DC PR AB BC MB NB NL NS NT NU ON PE QC SK YT"
)
"""States and provinces, among which NA is none."""


RUNNING, IDENTIFIER = "running number", "identifier"
NAMES_ROWS = (RUNNING, IDENTIFIER)
"""How the reason of a column begins that names rows and is no feature."""

_NUMBERS = ("number", "integer")

_BARE = {form: form[1:-5] for form in ("1234,5", "1,234.5", "1.234,5", "1 234,5", "1 234.5", "1'234.5", "1'234,5")}
"""Ways of writing numbers without a unit, and their sign for thousands."""

_PARTED = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:(?:\.\d{3})+,(?:\d+|[-–])|(?:\.\d{3}){2,})(?![\d.,])")
"""What nobody writes but who parts thousands by points: ``15.900,00``, ``15.900,-``, ``1.000.000``."""

_BY_SOURCE = "write the settings by mlops init, with --source thousands=, or --source decimal=,"

_GERMAN = {"decimal": ",", "thousands": "."}

SEVERAL_PRICES = 3
"""So many different amounts with three digits behind each point are none with decimals."""

_MONEY = re.compile(UNITS)

MOST_READ = 0.9
"""A way of writing that reads so many values is told of where another reads more."""

_WITH_POINTS = (
    "$",
    "US$",
    "£",
    "USD",
    "GBP",
    "¥",
    "JPY",
    "₹",
    "Rs",
    "INR",
    "A$",
    "AU$",
    "AUD",
    "NZ$",
    "NZD",
    "HK$",
    "HKD",
    "S$",
    "SGD",
    "CNY",
    "₩",
)
"""Before an amount, they say that commas part its thousands."""

DAY = 86_400

THOUSAND = 1000
"""Who parts thousands writes no plain number from this on."""


@dataclass(frozen=True)
class Described:
    """A column as it is described: its kind, how it is written, the texts that are null in it, why it is no feature, what to know."""

    name: str
    kind: Kind
    format: str | None = None
    nothing: tuple[tuple[str, int], ...] = ()
    """Texts that stand for null here, and in how many rows."""
    here_alone: frozenset[str] = frozenset()
    """Those among them that are null in no other column unless it says so itself."""
    values: frozenset[str] = frozenset()
    """Texts that elsewhere stand for null and are values here."""
    left_out: str = ""
    note: str = ""
    or_else: str | None = None
    """How its numbers may be written as well, with another value, by all that the column holds."""
    odd: int = 0
    """Values that are none of its kind, whose rows are set aside."""


def described(columns: Mapping[str, ColumnProfile], target: str) -> dict[str, Described]:
    """Every column's description but the target's use; columns that are equal in every row are told from their first."""
    made: dict[str, Described] = {}
    first: dict[int, str] = {}
    for place, (name, column) in enumerate(columns.items()):
        one = _described(column)
        if name != target:
            worded = _word_among_levels(column, one)
            one = _noted(_text(column), worded) if worded else one
            twin = first.setdefault(column.content, name)
            why = _no_feature(column, one, place) or ("" if name.strip() else "it has no name: give it one")
            if not why and twin != name:
                why = f"equal to '{twin}' in every row"
            if not why and _distinct(column, one) == 1 and not _is_constant(column, one):
                one = _noted(_as_mark(column, one), ONE_OR_NONE)
            one = _with(one, left_out=one.left_out or why)
            one = _noted(one, "" if one.left_out else _once_each(column, one))
        made[name] = one
    return made


def task_of(column: ColumnProfile, one: Described) -> tuple[str, Described]:
    """The task that a target sets, and the target's description. Raises :class:`PipelineError` for one that cannot be learned."""
    distinct, there = _distinct(column, one), _there(column, one)
    if distinct == 1 and not column.beyond + column.infinite:
        raise PipelineError(f"--target {one.name}: holds one value alone: name a column of which there is something to learn")
    if one.kind in ("number", "integer"):
        if not _counts_as_classes(column, one, distinct, there):
            note = f"taken as a quantity of {distinct} values: for classes write task: multiclass" if distinct <= FEW_CLASSES else ""
            return "regression", _noted(_with(one, left_out=""), note)
        if distinct > 2:
            one = _noted(one, f"its {distinct} numbers are taken as classes: for a quantity write task: regression")
        kind: Kind = "integer" if column.whole else "category"
        return ("binary" if distinct <= 2 else "multiclass"), _with(one, kind=kind, left_out="")
    if column.beyond + column.infinite > 0:
        raise PipelineError(f"--target {one.name}: holds numbers beyond a 32-bit float's 3.4e38: name another, such as its logarithm")
    if one.kind == "datetime":
        raise PipelineError(f"--target {one.name}: holds dates: name a column of numbers or of classes")
    if distinct > FEW_CLASSES and distinct * 2 > there:
        raise PipelineError(
            f"--target {one.name}: holds {distinct:,} different texts in {there:,} rows: name a column of numbers or of classes"
        )
    one = _noted(one, _class_of_a_row(column, one, distinct))
    return ("binary" if distinct <= 2 else "multiclass"), _with(one, kind="boolean" if one.kind == "boolean" else "category", left_out="")


def _class_of_a_row(column: ColumnProfile, one: Described, distinct: int) -> str:
    """What to say of the only class that a single row has: it may be a remark, a unit or a type below the header."""
    counts = {text: count for text, count in (column.few or {}).items() if text not in dict(one.nothing)}
    alone = [text for text, count in counts.items() if count == 1]
    is_odd = one.kind == "category" and distinct > 2 and len(alone) == 1
    return f"'{alone[0][:20]}' is a class of one row: mend it if it is none" if is_odd else ""


def _counts_as_classes(column: ColumnProfile, one: Described, distinct: int, there: int) -> bool:
    """Whether a target's numbers name classes: two, or a few whole ones, each in rows enough; not a count with a thin end."""
    if distinct <= 2 or one.format is not None or not column.whole or column.few is None:
        return distinct <= 2 and one.format is None
    rarest = min(count for text, count in column.few.items() if number_of(text.strip(BLANKS)) is not None)
    return distinct <= FEW_CLASSES and distinct * 5 <= there and not (distinct > MANY_CLASSES and rarest < max(5, RARE * there))


def is_padded(column: ColumnProfile) -> bool:
    """Whether blanks stand around some of a category's values; numbers, moments and truths are read without them anyway."""
    around = any(text != text.strip(BLANKS) for text in column.few or ())
    return around and column.held == "text" and _described(column).kind == "category"


def null_values(made: Mapping[str, Described]) -> tuple[str, ...]:
    """The texts that stand for null in the table: the usual ones, but for those that are only ever values, and those found."""
    found = dict.fromkeys(word for one in made.values() for word, _ in one.nothing if word not in one.here_alone)
    values = {word for one in made.values() for word in one.values}
    return (*(word for word in NULL_WORDS if word not in values or word in found), *(word for word in found if word not in NULL_WORDS))


def decided(
    columns: Mapping[str, Described], held: Mapping[str, ColumnProfile], target: str, delimiter: str, signs: Mapping[str, str]
) -> dict[str, Described]:
    """The columns; of one such as ``48,123`` throughout, which is 48123 or 48.123, the file's other evidence says which.

    That is what the source says, or the columns that can be read in one way only, or plain numbers in the column itself, or a currency
    that is written with points, or any of several amounts, or a file whose cells end at commas. Else the column is left out and asks.
    Raises :class:`PipelineError` for such a target.
    """
    told = [written_as(one.format) for one in columns.values() if one.kind in _NUMBERS and one.format and not one.or_else]
    points = {written.decimal for written in told if written is not None}
    points |= {"."} if any(_has_points(one, held) for one in columns.values()) else set()
    made = dict(columns)
    for name, one in columns.items():
        if not signs and (doubt := _parted_by_both(one, held.get(name))):
            if name == target:
                raise PipelineError(f"--target {name}: {doubt}: write all in one way, or {_BY_SOURCE}")
            ways = f"write all in one way, or write format: '{one.format}' and take it out of features.exclude"
            made[name] = _with(one, left_out=one.left_out or f"{doubt}: {ways}")
            continue
        if one.or_else is None or one.format is None:
            continue
        plain = held[name].high if held[name].numbers else None
        if signs:
            comma, why = signs.get("decimal", ".") == ",", "as the source says"
        elif len(points) == 1:
            comma, why = points == {","}, "as all other columns of one meaning are written"
        elif plain is not None:
            comma, why = plain >= THOUSAND, f"for {plain:g} stands there too"
        elif one.format.startswith(_WITH_POINTS):
            comma, why = False, "as such amounts are written"
        elif _is_money(one.format) and len(held[name].bare) >= SEVERAL_PRICES:
            comma, why = False, f"as money has no three decimals; if it means 1.234, write format: '{one.or_else}'"
        elif delimiter == ",":
            comma, why = False, f"for cells end at commas; if it means 1.234, write format: '{one.or_else}'"
        elif name == target:
            raise PipelineError(f"--target {name}: nothing tells whether '1,234' is 1234 or 1.234: {_BY_SOURCE}")
        else:
            ways = f"write format: '{one.format}' or '{one.or_else}', and take it out of features.exclude"
            ask = f"nothing tells whether '1,234' is 1234 or 1.234: {ways}"
            made[name] = _with(one, left_out=one.left_out or ask)
            continue
        note = f"'1,234' is read as {'1.234' if comma else '1234'}, {why}"
        made[name] = _with(one, format=one.or_else if comma else one.format, note="; ".join(filter(None, (one.note, note))), or_else=None)
    return made


def _parted_by_both(one: Described, column: ColumnProfile | None) -> str:
    """What to say of ``€1,250`` beside ``€1.250`` in a column in which neither sign surely stands before decimals; else empty."""
    found = re.search(r"1([.,])234([.,])5", one.format or "")
    if one.kind not in _NUMBERS or found is None or column is None:
        return ""
    parts, before = found.groups()
    texts = [text for text in column.bare if number_of(text, one.format) is not None]
    parted = [text for text in texts if before not in text and re.search(rf"\d{re.escape(parts)}\d{{3}}(?!\d)", text)]
    others = [text for text in texts if before in text]
    if column.few is None and before == "." and column.pointed:
        others += ["1.234"] if column.by_points else ["1.5"]
    may_part = re.compile(rf"(?<!\d)[1-9]\d{{0,2}}{re.escape(before)}\d{{3}}(?!\d)")
    if not parted or not others or any(parts in text or may_part.search(text) is None for text in others):
        return ""
    text = _shortest(others)
    as_is, otherwise = number_of(text, one.format), number_of(text.replace(before, ""), one.format)
    return f"nothing tells whether '{text}' beside '{_shortest(parted)}' is {as_is:g} or {otherwise:g}"


def parted_by_points(columns: Mapping[str, Described], held: Mapping[str, ColumnProfile]) -> dict[str, Described]:
    """The columns; one whose every point may part thousands (``877``, ``1.146``) is written so where its file is sure to.

    That is where another column can be read in no other way (``15.900,00 €``, ``1.000.000``), and none has a point before decimals. Prices
    (``COP 7.250``, ``COP 45.900``) are written so anyway.
    """
    columns = {name: _as_prices(one, held) for name, one in columns.items()}
    parting = next((name for name, one in columns.items() if _is_parted(one, held)), None)
    if parting is None:
        return dict(columns)
    made = {}
    for name, one in columns.items():
        text, form = _in_doubt(one, held)
        made[name] = one
        if text:
            other = f"if it means {number_of(text, one.format):g}, write format: '{one.format or '1234.5'}'"
            note = f"'{text}' is read as {number_of(text, form):g}, for '{parting}' parts its thousands by points; {other}"
            made[name] = _with(one, format=form, note="; ".join(filter(None, (one.note, note))))
    return dict(columns) if any(_has_decimal_points(one, held) for one in made.values()) else made


def _as_prices(one: Described, held: Mapping[str, ColumnProfile]) -> Described:
    """A column of several amounts of money, whose every point may part thousands, is written so: money has no three decimals."""
    text, form = _in_doubt(one, held)
    if not text or one.format is None or not _is_money(one.format, per=True) or len(held[one.name].bare) < SEVERAL_PRICES:
        return one
    other = f"if it means {number_of(text, one.format):g}, write format: '{one.format}'"
    note = f"'{text}' is read as {number_of(text, form):g}, as money has no three decimals; {other}"
    return _with(one, format=form, note="; ".join(filter(None, (one.note, note))))


def _is_money(form: str, *, per: bool = False) -> bool:
    """Whether a way of writing numbers has a currency beside them, and nothing else; ``per`` lets it say of how much, too.

    Of a litre or of a kilowatt-hour a price has three decimals: ``1,679 €/l``.
    """
    found = re.fullmatch(r"(.*?)1.?234[.,]5(.*)", form)
    sides = [side.strip(BLANKS) for side in found.groups()] if found is not None else []
    units = [side.partition("/")[0].strip(BLANKS) if per else side for side in sides if side]
    return bool(units) and all(_MONEY.fullmatch(unit) is not None for unit in units)


def _is_parted(one: Described, held: Mapping[str, ColumnProfile]) -> bool:
    """Whether a column's numbers have points between thousands, and can have nothing else there."""
    written = written_as(one.format) if one.kind in _NUMBERS and one.format else None
    if written is None or written.decimal != "," or one.name not in held:
        return False
    return any(_PARTED.search(text) and number_of(text, one.format) is not None for text in held[one.name].bare)


def _in_doubt(one: Described, held: Mapping[str, ColumnProfile], usual: tuple[str, ...] = _WITH_POINTS) -> tuple[str, str]:
    """A value of a column whose points may all part thousands, and how the column is written then; empty where they may not.

    Nor do they behind a currency of ``usual``, which is written with points.
    """
    column, plain = held.get(one.name), one.format or "1234.5"
    form = re.sub(r"1,?234\.5", "1.234,5", plain)
    is_plain = one.kind == "number" and form != plain and not plain.startswith(usual)
    if column is None or column.held != "text" or not is_plain or not column.by_points:
        return "", ""
    if one.format is None and column.few is None:
        return ("1.234", form) if column.pointed else ("", "")
    if one.format is not None and column.forms.get(form) != column.forms.get(plain):
        return "", ""
    parted = []
    for text in column.bare:
        as_is, otherwise = number_of(text, one.format), number_of(text, form)
        if as_is is None:
            continue
        # Smaller it is where a comma, not a point, may part thousands.
        if otherwise is None or abs(otherwise) < abs(as_is) or (otherwise == as_is and abs(as_is) >= THOUSAND):
            return "", ""
        parted += [text] if otherwise != as_is else []
    return _shortest(parted), form


def _has_decimal_points(one: Described, held: Mapping[str, ColumnProfile]) -> bool:
    """Whether a column has points that are read as those before decimals, or commas between thousands."""
    if _has_points(one, held):
        return True
    written = written_as(one.format) if one.kind in _NUMBERS and one.format and not one.or_else else None
    if written is None or written.decimal == "," or one.name not in held:
        return False
    return any(re.search(r"\d[.,]\d", text) for text in held[one.name].bare)


def signs_of(columns: Mapping[str, Described], held: Mapping[str, ColumnProfile]) -> dict[str, str]:
    """The signs of numbers in which all columns agree, as ``dataset.source`` has them; none where they are plain or differ.

    A column that has plain points keeps them: that another one has decimal commas does not tell whether its points part thousands.
    """
    formats = {one.format for one in columns.values() if one.kind in _NUMBERS and one.format in _BARE and not one.or_else}
    decimals = {str(form)[-2] for form in formats}
    thousands = {_BARE[str(form)] for form in formats} - {""}
    if len(decimals) != 1 or len(thousands) > 1:
        return {}
    decimal = decimals.pop()
    if decimal != "." and any(_has_points(one, held) for one in columns.values()):
        return {}
    return ({"decimal": decimal} if decimal != "." else {}) | ({"thousands": thousands.pop()} if thousands else {})


def written_by_source(
    columns: Mapping[str, Described], held: Mapping[str, ColumnProfile], signs: Mapping[str, str]
) -> dict[str, Described]:
    """The columns, once the source says how numbers are written: a format of their own have those that are written otherwise.

    Where it says nothing and another column has decimal commas, one whose every point may part thousands asks.
    """
    told = (written_as(one.format) for one in columns.values() if one.kind in _NUMBERS and one.format)
    has_commas = any(written is not None and written.decimal == "," for written in told)
    made = {}
    for name, one in columns.items():
        if _has_points(one, held):
            made[name] = _pointed(one, held[name], signs, has_commas=has_commas)
        elif (
            signs
            and one.kind in _NUMBERS
            and name in held
            and one.format in _BARE
            and str(one.format)[-2] == signs.get("decimal", ".")
            and _BARE[one.format] in ("", signs.get("thousands"))
        ):
            made[name] = _with(one, format=None)
        elif has_commas and one.format is not None and (doubt := _in_doubt(one, held, ()))[0]:
            text, form = doubt
            plain, otherwise = number_of(text, one.format), number_of(text, form)
            note = f"'{text}' is read as {plain:g}; if it means {otherwise:g}, write format: '{form}'"
            made[name] = _with(one, note="; ".join(filter(None, (one.note, note))))
        else:
            made[name] = one
    return made


def _has_points(one: Described, held: Mapping[str, ColumnProfile]) -> bool:
    """Whether a column is of plain numbers that are texts with points."""
    column = held.get(one.name)
    if column is None or one.kind not in _NUMBERS or one.format is not None or column.held != "text" or not column.pointed:
        return False
    return column.few is None or any("." in text for text in column.bare)  # and not of 1e5 alone


def _pointed(one: Described, column: ColumnProfile, signs: Mapping[str, str], *, has_commas: bool) -> Described:
    """A column with points, as the source says if it says anything; else as plain numbers, with a question where they may not be."""
    note = ""
    if signs and not _may_be_written(column, signs):
        return _with(one, format="1234.5")
    if signs and signs.get("thousands") == ".":
        note = "'1.234' is read as 1234, as the source says"
    elif not signs and has_commas and _may_be_written(column, _GERMAN):
        note = "'1.234' is read as 1.234; if it means 1234, write format: '1.234,5'"
    return _with(one, note="; ".join(filter(None, (one.note, note))))


def _may_be_written(column: ColumnProfile, signs: Mapping[str, str]) -> bool:
    """Whether plain numbers with points may be written with these signs: ``1.234`` with ``.`` for thousands, but not ``1.5``, ``0.361``."""
    if signs.get("decimal", ".") == ".":
        return True
    form = f"1{signs.get('thousands', '')}234{signs['decimal']}5"
    if column.few is None:
        return signs == _GERMAN and column.by_points
    nothing = {word for word, _ in _markers(column)[0]}
    return all(number_of(text, form) is not None for text in column.bare if text not in nothing)


def _noted(one: Described, note: str) -> Described:
    """The description with one more thing to know."""
    return _with(one, note="; ".join(filter(None, (note, one.note))))


def _with(one: Described, **changes: object) -> Described:
    return replace(one, **changes)  # type: ignore[arg-type]  # each is a field


def _described(column: ColumnProfile) -> Described:
    """A column's kind, from all its values."""
    name = column.name
    if not column.there:
        return Described(name, "text", left_out="every value is missing")
    typed = {"truth": Described(name, "boolean"), "moment": Described(name, "datetime"), "clock": Described(name, "number", "h:mm:ss")}
    if column.held in typed:
        return _with(typed[column.held], note=SECONDS if column.held == "clock" else "")
    if column.held in ("integer", "float", "text"):
        one, written = _moments_as_numbers(column) or _number(column), _written_number(column)
        if written is not None and (label := _bound_of_a_level(column, written) or _open_ends(column, written) or _dialed(column, written)):
            return _noted(_text(column), label)
        if written is not None and (one is None or written.odd < one.odd):
            return written
        return one or (_truth(column) or _moment(column) if column.held == "text" else None) or _text(column)
    return _text(column)


def _number(column: ColumnProfile) -> Described | None:
    """A column of plain numbers, or of digits that are none; None if it holds other things."""
    nothing, rest = _markers(column)
    words = _words_beside(column, column.numbers, rest, number_of)
    nothing, rest = (*nothing, *words), rest - sum(count for _, count in words)
    there = column.there - sum(count for _, count in nothing)
    if not column.numbers or rest > _odd_at_most(there) or column.zero_led:
        return None
    widest = max(-column.low, column.high)
    if column.whole and not column.pointed and widest > LARGEST_INTEGER and not column.beyond:
        return None
    if column.beyond + column.infinite > ODD_SHARE * there:
        what = f"numbers up to {widest:.3g}, beyond a 32-bit float's 3.4e38" if column.beyond else "infinite numbers"
        return Described(column.name, "text", nothing=nothing, left_out=f"{what}: derive its logarithm")
    kind: Kind = "integer" if column.whole and not column.pointed and widest <= LARGEST_INTEGER else "number"
    notes = [_taken_for_null(words)]
    notes += [_may_be_moments(column)] if kind == "integer" else []
    notes += [_may_be_null(column, nothing), _may_be_codes(column)]
    odd = rest + column.beyond + column.infinite
    note = "; ".join(filter(None, (*notes, _set_aside(column, odd))))
    return Described(column.name, kind, nothing=nothing, here_alone=frozenset(dict(words)), note=note, odd=odd)


def _odd_at_most(there: int) -> float:
    """How many of so many values may be none of the column's kind."""
    return max(ODD_SHARE * there, min(ODD_ROWS, there // ROWS_FOR_ONE))


def _moments_as_numbers(column: ColumnProfile) -> Described | None:
    """A column of days as 20240131, or, by its name and range, of seconds or milliseconds since 1970; None if it is not surely one."""
    nothing, rest = _markers(column)
    there = column.there - sum(count for _, count in nothing)
    if column.forms.get(COMPACT_DAY) == there and column.distinct - len(nothing) >= DAYS_FOR_SURE:
        return Described(column.name, "datetime", format=COMPACT_DAY, nothing=nothing, note=OF_DAYS)
    form = _epoch(column)
    if form is None or rest or not _name_words(column.name) & _MOMENT:
        return None
    what = f"read as {_EPOCHS[form][1]} since 1970; if they are numbers, write kind: integer, without format: '{form}'"
    return Described(column.name, "datetime", format=form, nothing=nothing, note=what)


_EPOCHS = {"%s": (1, "seconds"), "%Q": (1000, "milliseconds")}


def _epoch(column: ColumnProfile) -> str | None:
    """By which form all numbers are moments since 1970, those of one unit that there may be."""
    low, high = EPOCHS_WITHIN
    is_within = (form for form, (unit, _) in _EPOCHS.items() if low * unit <= column.low <= column.high <= high * unit)
    return next(is_within, None) if column.numbers else None


def _may_be_moments(column: ColumnProfile) -> str:
    """What to say of whole numbers that may be days or moments."""
    for dated, what in MOMENTS_AS_NUMBERS.items():
        if _is_written(column.low, dated) and _is_written(column.high, dated) and (dated != "%Y%m" or _are_months(column)):
            return f"if these are {what}, write kind: datetime, format: '{dated}'"
    if (form := _epoch(column)) is not None:
        return f"if these are {_EPOCHS[form][1]} since 1970, write kind: datetime, format: '{form}'"
    if finer := _finer_than_milliseconds(column):
        return finer
    least, most = SPREADSHEET_DAYS
    is_named = bool(_name_words(column.name) & (_MOMENT | {"day", "tag"}))
    is_counted = is_named and least <= column.low <= column.high <= most
    return "if these are days as a spreadsheet counts them, write them as dates" if is_counted else ""


def _finer_than_milliseconds(column: ColumnProfile) -> str:
    """What to say of numbers that may be micro- or nanoseconds since 1970 by their name and range, for which there is no format."""
    low, high = EPOCHS_WITHIN
    for unit, what in ((1e6, "microseconds"), (1e9, "nanoseconds")):
        if column.numbers and low * unit <= column.low <= column.high <= high * unit and _name_words(column.name) & _MOMENT:
            return f"if these are {what} since 1970, write them as milliseconds, with kind: datetime, format: '%Q'"
    return ""


def _may_be_null(column: ColumnProfile, nothing: tuple[tuple[str, int], ...]) -> str:
    """What to say of the only number below zero, where it is one that many write for null: -999, or -1 among many."""
    low = f"{column.low:.0f}"
    is_alone = column.held == "text" and column.below == {column.low}
    if not is_alone or not (_FOR_NULL.fullmatch(low) or (low == "-1" and column.distinct > FEW_CLASSES)):
        return ""
    spelled = next((text for text in column.bare if number_of(text) == column.low), low)
    words = list(dict.fromkeys(("", *dict(nothing), spelled)))
    return f"{spelled} is its only number below zero: if it stands for null, write null_values: {words}"


def _may_be_codes(column: ColumnProfile) -> str:
    """What to say of numbers such as ``12E3``, all of which are whole with a whole exponent: so look codes, too."""
    held = [text for text in column.bare if number_of(text) is not None] if column.few is not None else []
    if len(held) < 2 or not all(map(_WHOLE_WITH_EXPONENT.fullmatch, held)):
        return ""
    text = _shortest(held)
    return f"'{text}' is read as {number_of(text):g}: for codes write kind: category"


def _is_written(number: float, form: str) -> bool:
    """Whether a number is a moment of the last or of this century, written so."""
    moment = read_moment(f"{number:.0f}", form)
    return moment is not None and 1900 <= moment.year < 2100 and moment.strftime(form) == f"{number:.0f}"


def _are_months(column: ColumnProfile) -> bool:
    """Whether all of a few different numbers are months, as 202401 is one: others count something."""
    few = [number_of(text.strip(BLANKS)) for text in column.few or ()]
    return len(few) > 2 and all(number is not None and _is_written(number, "%Y%m") for number in few)


def _words_beside(column: ColumnProfile, read: int, odd: int, reads: Callable[[str], object]) -> tuple[tuple[str, int], ...]:
    """The one or two words among the ``odd`` values beside those that are ``read``, many different ones: they say that there is none."""
    unread = sorted((word, count) for word, count in column.bare.items() if reads(word) is None)
    words = tuple((word, count) for word, count in unread if word not in MARKERS)
    is_worded = 0 < len(words) <= WORDS_FOR_NOTHING and all(_NO_NUMBER.fullmatch(word) for word, _ in words)
    values = column.distinct - len(unread)
    is_measured = values >= LEAST_NUMBERS and values > min(FEW_CATEGORIES, read / 2) and read > odd
    return words if is_worded and is_measured and sum(count for _, count in words) == odd > ODD_SHARE * column.there else ()


def _taken_for_null(words: tuple[tuple[str, int], ...]) -> str:
    return "; ".join(f"'{word}' ({count:,}) is taken for null" for word, count in words)


def _forms_of(
    column: ColumnProfile, forms: Mapping[str, int], there: int, reads: Callable[[str, str], object]
) -> tuple[list[str], tuple[tuple[str, int], ...]]:
    """The ways of writing by which most values are read, all but a few odd ones, and the words beside these that stand for null."""
    most = max(forms.values(), default=0)
    best = [form for form, count in forms.items() if count == most and most]
    words = _words_beside(column, most, there - most, lambda text: reads(text, best[0])) if best else ()
    least = there - sum(count for _, count in words) - _odd_at_most(there)
    return best if most >= least else [], words


def _word_among_levels(column: ColumnProfile, one: Described) -> str:
    """What to say of a column of a few numbers, and of words beside them that come again: grades, and «other»; empty if it is none."""
    if one.kind not in _NUMBERS or not one.odd or column.few is None:
        return ""
    words = {text: count for text, count in column.bare.items() if number_of(text, one.format) is None and text not in dict(one.nothing)}
    # A header that stands in the table again is no level.
    is_level = (_NO_NUMBER.fullmatch(text) and count > ODD_ROWS and text != column.name.strip() for text, count in words.items())
    if not words or len(column.bare) - len(words) > FEW_CLASSES or not all(is_level):
        return ""
    written = f", format: '{one.format}'" if one.format else ""
    remedy = f"for numbers write kind: {one.kind}{written}, and the rows of those that are none are set aside"
    return f"'{_shortest(words)}' is a value beside numbers: read as text; {remedy}"


def _bound_of_a_level(column: ColumnProfile, written: Described) -> str:
    """What to say of two among a few values that would be one number, as ``<5`` beside 5 or ``>5``; empty if no two would become one."""
    if column.few is None or len(column.few) > FEW_CLASSES:
        return ""
    of_number: dict[float, dict[str, str]] = {}
    for text in sorted(column.bare, key=lambda text: (len(text), text)):
        if (number := number_of(text, written.format)) is not None:
            of_number.setdefault(number, {}).setdefault(_side(text), text)
    both = next((ends for ends in of_number.values() if len(ends) > 1), {})
    if not both:
        return ""
    bound, other = (f"'{both[side]}'" for side in sorted(both, reverse=True)[:2])
    remedy = f"to make one number of them write kind: number, format: '{written.format}'"
    return f"{bound} and {other} are two values: read as text; {remedy}"


def _open_ends(column: ColumnProfile, written: Described) -> str:
    """What to say of bands and cohorts, ``50-`` and ``1935-``, of which an accountant would make negatives; empty if they are none.

    Amounts with a comma or a point are his however many have their minus behind.
    """
    held = {text: count for text, count in column.bare.items() if text not in MARKERS}
    ends = {text: count for text, count in held.items() if _OPEN_ENDED.fullmatch(text)}
    # Of many different values those are held that are no plain numbers.
    of_held = 1.0 if column.few is not None else 1 - column.numbers / column.there
    if not ends or sum(ends.values()) * of_held < OPEN_ENDS * sum(held.values()) or all(text.endswith("+") for text in ends):
        return ""
    example = _shortest(text for text in ends if not text.endswith("+"))
    remedy = f"to make {number_of(example, written.format):g} of it write kind: number, format: '{written.format}'"
    return f"values such as '{example}' end in a minus: read as text; {remedy}"


def _dialed(column: ColumnProfile, written: Described) -> str:
    """What to say of numbers that are dialed, ``+48 512 345 678``, of which blanks between thousands would make amounts; else empty.

    A word beside them, for one that nobody knows, makes no amounts of them.
    """
    held = [text for text in column.bare if number_of(text, written.format) is not None]
    if column.numbers or len(held) < 2 or not all(map(_DIALED.fullmatch, held)):
        return ""
    example = _shortest(held)
    remedy = f"to make {number_of(example, written.format):.0f} of it write kind: number, format: '{written.format}'"
    return f"values such as '{example}' are dialed: read as text; {remedy}"


def _side(text: str) -> str:
    """Of which numbers a text is the bound, those below or those above; empty where it is a number itself."""
    return "below" if text.startswith(("<", "≤")) else "above" if text.startswith((">", "≥")) or text.endswith("+") else ""


def _written_number(column: ColumnProfile) -> Described | None:
    """A column of numbers with marks for thousands, a decimal comma, a unit or a clock's colons; None if it holds other things."""
    nothing, _ = _markers(column)
    there = column.there - sum(count for _, count in nothing)
    counts = {form: count for form, count in column.forms.items() if not is_of_moments(form)}
    forms, words = _forms_of(column, counts, there, number_of)
    if not forms or column.zero_led:
        return None
    nothing, there = (*nothing, *words), there - sum(count for _, count in words)
    if "m:ss" in forms:
        return _clock(column, nothing, words, there)
    grouped = [form for form in forms if "1,234.5" in form]
    form = (grouped or forms)[0]
    odd = there - column.forms[form]
    aside = _set_aside(column, odd, words, lambda text: number_of(text, form))
    told = (
        _read_otherwise(column, form),
        _told_by_few(column, form, counts, there),
        _shares_beside(column, form),
        _taken_for_null(words),
        aside,
    )
    note = "; ".join(filter(None, told))
    other = next((one for one in forms if "1234,5" in one), None) if grouped else None
    here_alone = frozenset(dict(words))
    return Described(column.name, "number", format=form, nothing=nothing, here_alone=here_alone, note=note, or_else=other, odd=odd)


def _told_by_few(column: ColumnProfile, form: str, counts: Mapping[str, int], there: int) -> str:
    """What to say where another way of writing reads nearly all values, some as other numbers; empty where none does."""
    for rival, count in counts.items():
        if MOST_READ * there <= count < counts[form]:
            read = ((text, number_of(text, form), number_of(text, rival)) for text in column.odd)
            if text := _shortest(text for text, one, other in read if one is not None and other is not None and one != other):
                few = counts[form] - count
                why = f"as {few:,} value{'' if few == 1 else 's'} can be read in no other way"
                return f"'{text}' is read as {number_of(text, form):g}, {why}: if that is a slip, write format: '{rival}'"
    return ""


def _shares_beside(column: ColumnProfile, form: str) -> str:
    """What to say of percentages beside plain numbers that may be shares, as where a sheet shows 0.12 as 12 %; empty if there are none."""
    text = _shortest(text for text in column.odd if text.endswith("%") and (number_of(text, form) or 0) > 1)
    if not text or not 0 <= column.low <= column.high <= 1 or column.whole:
        return ""
    return f"'{text}' is read as {number_of(text, form):g} and {column.high:g} as {column.high:g}: if that is a share, write all in one way"


def _read_otherwise(column: ColumnProfile, form: str) -> str:
    """What a number is read as that stands behind a sign of bounds, before a plus, or has its minus elsewhere."""
    odd = (text for text in column.odd if text and (text[0] in BOUNDS or text[-1] == "+" or with_sign_before(text) != text))
    text = _shortest(text for text in odd if number_of(text, form) is not None)
    return f"'{text}' is read as {number_of(text, form):g}" if text else ""


def _shortest(texts: Iterable[str]) -> str:
    """The first of the shortest, whatever order they come in; empty if there are none."""
    return min(texts, key=lambda text: (len(text), text), default="")


def _clock(column: ColumnProfile, nothing: tuple[tuple[str, int], ...], words: tuple[tuple[str, int], ...], there: int) -> Described:
    """A column of times of day or of durations; of figures that may be hours and minutes, or minutes and seconds, one is asked for."""
    odd, is_either = there - column.forms["m:ss"], column.forms.get("h:mm") == column.forms["m:ss"]
    colons = column.colons - {0}  # a duration by ISO 8601 has none
    if is_either and colons == {1, 2}:
        ask = "nothing tells whether '12:34' is hours and minutes or minutes and seconds: write kind: number, format: 'h:mm' or 'm:ss'"
        return Described(column.name, "text", left_out=f"{ask}, and take it out of features.exclude")
    form = "m:ss" if not is_either else "h:mm:ss" if colons in (set(), {2}) else "h:mm" if column.longest <= DAY else "m:ss"
    other = {"h:mm": "; for minutes and seconds write format: 'm:ss'", "m:ss": "; for hours and minutes write format: 'h:mm'"}
    what = f"{SECONDS}{other.get(form, '') if is_either else ''}"
    aside = _set_aside(column, odd, words, lambda text: number_of(text, form))
    note = "; ".join(filter(None, (what, _taken_for_null(words), aside)))
    return Described(column.name, "number", format=form, nothing=nothing, here_alone=frozenset(dict(words)), note=note, odd=odd)


def _truth(column: ColumnProfile) -> Described | None:
    """A column of words for true and false that belong together, numbers for them beside these or not; None if it holds other things."""
    if column.few is None:
        return None
    nothing, _ = _markers(column)
    words = {word.lower() for word in column.bare} - {word.lower() for word, _ in nothing} - {"0", "1", "0.0", "1.0"}
    pairs = [pair for pair in _PAIRS if pair <= words]
    return Described(column.name, "boolean", nothing=nothing) if pairs and words == set().union(*pairs) else None


def _moment(column: ColumnProfile) -> Described | None:
    """A column of moments; None if it holds other things."""
    nothing, _ = _markers(column)
    there = column.there - sum(count for _, count in nothing)
    counts = {"": column.moments} if column.moments else {form: count for form, count in column.forms.items() if is_of_moments(form)}
    forms, words = _forms_of(column, counts, there, lambda text, form: read_moment(text, form or None))
    if not forms or (forms[0] in ("%Y-%m", "%Y/%m") and all(map(_is_season, column.bare))):
        return None
    day_first = [form for form in forms if form.startswith(("%d/%m", "%d-%m"))]
    month_first = [form for form in forms if form.startswith(("%m/%d", "%m-%d"))]
    if day_first and month_first:
        ask = f"no value tells the day from the month: write kind: datetime, format: '{day_first[0]}' or '{month_first[0]}'"
        return Described(column.name, "text", left_out=ask)
    nothing, odd = (*nothing, *words), there - sum(count for _, count in words) - counts[forms[0]]
    aside = _set_aside(column, odd, words, lambda text: read_moment(text, forms[0] or None))
    note = "; ".join(filter(None, (TWO_DIGITS if "%y" in forms[0] else "", _taken_for_null(words), aside)))
    here_alone = frozenset(dict(words))
    return Described(column.name, "datetime", format=forms[0] or None, nothing=nothing, here_alone=here_alone, note=note, odd=odd)


def _is_season(text: str) -> bool:
    """Whether a text such as 2010-11 may be two years: it is then no month for sure, unless others are."""
    return not text[:4].isdecimal() or not text[5:].isdecimal() or (int(text[:4]) + 1) % 100 == int(text[5:])


def _text(column: ColumnProfile) -> Described:
    """A column of names, codes or words."""
    few = column.few or {}
    values: set[str] = set()
    if "NA" in few and _country_codes(set(few) - {"NA"}):
        values.add("NA")
    nothing = tuple((word, few[word]) for word in MARKERS if word in few and word in _NULL_EVERYWHERE and word not in values)
    values |= {word for word in MARKERS if word in few and word not in dict(nothing)}
    distinct = column.distinct - len(nothing)
    there = column.there - sum(count for _, count in nothing)
    free = distinct > FEW_CATEGORIES and (column.words >= WORDS or distinct * 2 > there)
    texts = [text for text in column.bare if text not in MARKERS]
    note = _finer_than_milliseconds(column) or _nearly_moments(texts) or _mostly_numbers(column, there) or _nearly_numbers(texts)
    return Described(column.name, "text" if free else "category", nothing=nothing, values=frozenset(values), note=note)


def _nearly_moments(texts: list[str]) -> str:
    """What to say of texts that a person may take for moments; nothing where they are not."""
    near = [text for text in texts if _NEARLY_MOMENT.fullmatch(text)]
    if len(near) < max(2, 0.9 * len(texts)):
        return ""
    # No format has another language's months, a zone's name or an ordinal.
    is_worded = re.search(r"[^\W\d_]{2}", _shortest(near)) is not None
    remedy = "write them as 2024-01-31" + ("" if is_worded else ", or kind: datetime with a format that reads them")
    return f"values such as '{_shortest(near)[:30]}' are read as text, not as moments: {remedy}"


def _nearly_numbers(texts: list[str]) -> str:
    """What to say of texts that a person may take for numbers; nothing where they are not."""
    odd = [text for text in texts if number_of(text) is None]
    near = [text for text in odd if _NEARLY_NUMBER.fullmatch(text)]
    if len(odd) < 2 or len(near) < 0.9 * len(odd):
        return ""
    return f"values such as '{_shortest(near)[:20]}' are read as text, not as numbers"


def _mostly_numbers(column: ColumnProfile, there: int) -> str:
    """What to say of texts of which most are many different plain numbers; nothing where they are not, or are codes with zeros before."""
    plain = there - _markers(column)[1]
    if column.zero_led or column.numbers * 2 <= there or not column.odd_rows or column.distinct <= FEW_CATEGORIES:
        return ""
    text = _shortest(text for text in column.odd if text not in MARKERS and number_of(text) is None)
    remedy = "mend them, or write kind: number, and the rows of those that are none are set aside"
    return f"{plain:,} of {there:,} values are numbers, others (such as '{text[:20]}') are not: read as text; {remedy}" if text else ""


def _markers(column: ColumnProfile) -> tuple[tuple[tuple[str, int], ...], int]:
    """What stands for null in a column where most is something else, and how many other odd values there are."""
    held = column.bare
    nothing = tuple((word, held[word]) for word in MARKERS if word in held)
    return nothing, column.odd_rows - sum(column.odd.get(word, 0) for word, _ in nothing)


def _set_aside(column: ColumnProfile, odd: int, words: tuple[tuple[str, int], ...] = (), reads: Callable[[str], object] = number_of) -> str:
    if not odd:
        return ""
    nothing = {*dict(_markers(column)[0]), *dict(words)}
    example = _shortest(word for word in column.bare if word not in nothing and reads(word) is None)
    such = f" (such as '{example[:20]}')" if example else ""
    return (
        f"{odd:,} value{' is' if odd == 1 else 's are'} none of its kind{such}: {'its row is' if odd == 1 else 'their rows are'} set aside"
    )


def _country_codes(words: set[str]) -> bool:
    """Whether words are codes of two letters for countries or continents, so that NA is Namibia or North America."""
    codes = [word for word in words if re.fullmatch("[A-Z]{2}", word)]
    return len(codes) >= max(3, 0.8 * len(words)) and any(code not in _STATES for code in codes)


def _distinct(column: ColumnProfile, one: Described) -> int:
    if column.few is not None and column.held == "text" and one.kind == "boolean":
        # Yes and « yes » are one value.
        return len({truth_of(text) for text in column.bare if text not in dict(one.nothing)})
    if column.few is not None and one.kind in ("number", "integer") and column.held != "clock":
        # 1 and 1.0 are one value.
        return len({number_of(text.strip(BLANKS), one.format) for text in column.few} - {None})
    return column.distinct - (len(one.nothing) if column.few is not None else 0)


def _there(column: ColumnProfile, one: Described) -> int:
    return column.there - sum(count for _, count in one.nothing)


def _no_feature(column: ColumnProfile, one: Described, place: int) -> str:
    """Why a column says nothing of use about its rows; empty if it may."""
    distinct, there = _distinct(column, one), _there(column, one)
    if there < (1 - MISSING) * column.rows:
        return f"{1 - there / column.rows:.0%} missing"
    if _is_constant(column, one):
        return "constant"
    words = _name_words(column.name)
    all_differ = column.distinct >= 0.99 * column.there and there > 1
    is_index = place == 0 and _INDEX.fullmatch(column.name) is not None
    if column.steps in ({1.0}, {-1.0}) and not words & _TIME and one.kind != "datetime":
        return f"{RUNNING}, the table's index" if is_index else RUNNING
    if is_index and all_differ:
        return "the table's index"
    is_dialed = bool(words & _DIALED_NAMES) and _may_be_dialed(column, one)
    named = all_differ and (is_dialed or (bool(words & _IDENTIFIER) and one.kind != "number"))
    coded = one.kind == "text" and (column.words < WORDS) and distinct >= UNIQUE * there
    return f"{IDENTIFIER}: {distinct:,} different values in {there:,} rows" if named or coded else ""


def _may_be_dialed(column: ColumnProfile, one: Described) -> bool:
    """Whether a column under a telephone's name holds what is dialed; not how long a call took, what it cost or what was said."""
    if one.kind not in _NUMBERS:
        texts = [text for text in column.bare if text not in MARKERS] if one.kind in ("category", "text") else []
        return bool(texts) and sum(_DIALED_SOMEHOW.fullmatch(text) is not None for text in texts) >= 0.9 * len(texts)
    if one.format is None:
        return bool(column.numbers) and column.whole and column.low >= LEAST_DIALED
    read = [number for text in column.bare if (number := number_of(text, one.format)) is not None]
    return one.format in _BARE and bool(read) and all(number >= LEAST_DIALED and number == round(number) for number in read)


def _is_constant(column: ColumnProfile, one: Described) -> bool:
    """Whether a column has the same value in nearly every row; one of a value and of nulls says which rows have it."""
    return _distinct(column, one) <= 1 and _there(column, one) >= MISSING * column.rows


def _as_mark(column: ColumnProfile, one: Described) -> Described:
    """A column of one number or truth and of nulls, as a category: estimators that fill in what is missing would see a constant.

    Not a number such as ``49.90``: by JSON it comes as another text, and would be a category that no row had.
    """
    texts = set(column.few or ()) - set(dict(one.nothing))
    if len(texts) != 1 or one.kind not in (*_NUMBERS, "boolean"):
        return one
    text = texts.pop()
    by_json = spelled(number_of(text)) if one.kind in _NUMBERS and one.format is None else text
    if text not in (by_json, f"{by_json}.0"):
        return one
    # A category is read as no number.
    notes = [part for part in one.note.split("; ") if not part.startswith(f"'{text}' is read as ")]
    notes += [f"a request says it as '{text}'"] if one.format is not None else []
    note = "; ".join(filter(None, notes))
    return _with(one, kind="category", format=None, note=note)


def _once_each(column: ColumnProfile, one: Described) -> str:
    """What to say of names of which each stands once, far between: so are merged cells written. Measures and remarks are so anyway."""
    there = _there(column, one)
    is_name = one.kind == "category" and column.words < WORDS
    if not is_name or not 2 <= there < MERGED * column.rows or _distinct(column, one) < there:
        return ""
    return f"each value stands once, and {column.rows - there:,} rows have none: where cells were merged, fill them down"


def names_things(name: str) -> bool:
    """Whether a column's name says that its values name what several rows may belong to: patients, customers."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z]+", " ", name).lower().split()
    is_number = len(words) > 1 and words[-1] in _NUMBER_OF_A_THING and words[-2] in _THINGS
    return bool(words) and (words[-1] in _THINGS or is_number or not _KEYS.isdisjoint(words) or any(map(_THING_ID.fullmatch, words)))


def _name_words(name: str) -> set[str]:
    """The words of a column's name: those of ``customerId`` are customer and id."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z]+", " ", name).lower()
    return {*spaced.split(), *(("id",) if re.search(r"[a-z]id$", spaced) and len(spaced) < 8 else ())}
