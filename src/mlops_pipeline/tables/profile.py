"""What each column of a table holds: all rows, one pass, a chunk at a time, in bounded memory."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_pipeline.contract.values import BLANKS, BOUNDS, CLOCKS, LARGEST, SPACES, number_of, with_sign_before
from mlops_pipeline.tables.cast import as_moments, as_numbers, as_text, written_moments
from mlops_pipeline.tables.source import Chunk

if TYPE_CHECKING:
    import polars as pl

FEW = 1000
"""Up to this many different values of a column are kept, each with its count."""

ODD = 200
"""Up to this many different texts that are no numbers are kept, each with its count."""

FEW_WORDS = 5
"""Up to so many different texts without a digit are counted beside any number of others."""

SAMPLE = 300
"""So many different values tell in which ways a column may be written; all values tell in which it is."""

MOST = 0.9
"""The share of the first values that a way of writing has to read to be looked at in all others."""

ROWS_AT_ONCE = 200_000

THREADS = 2
"""More would hold more of a chunk's copies at once than they gain."""

SKETCH = 1 << 16
"""So many hashes of a column are kept: enough to tell its different values to half a percent."""

SHEET_ERRORS = ("#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!")
"""What stands in a cell of a spreadsheet that could not be computed."""
_WORDS = "NA NaN nan null NULL None N/A n/a <NA> na NaT \\N ? - -- – — . .. ... … : * nil Null (null) <null> [NULL]"
NANS = ("NAN", "Nan", "-nan", "-NaN")
"""NaN as some programs write it: null where a number is due, whatever else it is."""
ZERO_DATES = ("0000-00-00", "0000-00-00 00:00:00")
"""What MySQL writes where there is no moment."""
NOT_STATED = ("n.a.", "N.A.", "n. a.", "k.A.", "k. A.", "k.A", "n/d", "N/D")
"""Not available, keine Angabe, no data."""
MARKERS = ("", *_WORDS.split(), *NOT_STATED, *SHEET_ERRORS, *NANS, *ZERO_DATES)
"""Texts that may stand for null, blanks alone among them; what else stands in a column says whether they do."""

_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d")
_SHORT = ("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%y")
_EAST = ("%Y年%m月%d日", "%Y년 %m월 %d일")
_WORDY = ("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%b %d %Y", "%B %d %Y", "%d%b%Y", "%Y-%b-%d")
_HOURS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p")
_YEARLY = ("%Y-%m", "%Y/%m", "%YM%m", "%Y-%b", "%G-W%V", "%GW%V", "%Y-Q%q", "%YQ%q", "%Y Q%q", "%Y/Q%q", "%Y年%m月")
_QUARTERLY = ("Q%q %Y", "Q%q-%Y", "Q%q/%Y", "Q%q%Y", "%qQ%Y", "%qQ %Y", "%qQ%y")
MONTH_FORMS: tuple[str, ...] = (*_YEARLY, "%m/%Y", "%m-%Y", "%b %Y", "%B %Y", "%b-%Y", "%B-%Y", "%b-%y", *_QUARTERLY)
COMPACT_DAY = "%Y%m%d"
_COMPACT = ("%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M")
_RARER = (*_COMPACT, "%Y-%m-%d %I:%M %p", "%Y-%m-%d %I:%M:%S %p", "%d/%b/%Y", "%d/%b/%Y:%H:%M:%S %z", "%d/%b/%Y:%H:%M:%S")
"""ISO 8601 without signs between, or with a half of the day, and as web servers log."""
MOMENT_FORMS = (*(day + hour for day, hour in itertools.product((*_DAYS, *_EAST, *_WORDY, *_SHORT), _HOURS)), *_RARER)
_LOGGED = ("%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S GMT")
"""As clocks, letters and servers write them (RFC 5322, RFC 9110)."""
WEEKDAY_FORMS: tuple[str, ...] = (
    *(before + day + hour for before, day, hour in itertools.product(("%a, ", "%a ", "%A, ", "%A "), _WORDY[:4], _HOURS)),
    *_LOGGED,
)
"""Moments that say the day of the week first; one that says a wrong one is none."""

_SPACELESS = ((r"[\p{Han}\p{Hiragana}\p{Katakana}]", 2), (r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]", 5))
"""Letters of languages that write no blanks between words, and about how many of them are a word."""

_BY_POINTS = r"^[+-]?(?:[1-9][0-9]{0,2}\.[0-9]{3}|[0-9]{1,3})$"
_ISO = r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_DATED = r"^[^\W_]{1,9}[./ -][^\W_]{1,9},?[./ -]+[0-9]{2,4}\b|^[0-9]{1,2}[A-Za-z]{3}[0-9]{4}|^[0-9]{8}T[0-9]|^[0-9]{4}[年년]"
_WEEKDAY = r"^(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6},? "
_YEAR = "(?:1[89]|2[01])[0-9]{2}"
_MONTHLY = (
    rf"^(?:{_YEAR}(?:[-/][0-9]{{1,2}}|-[A-Za-z]{{3,9}}|-?W[0-9]{{2}}|M[0-9]{{2}}|年[0-9]{{1,2}}月|[-/ ]?Q[1-4])|[0-9]{{1,2}}[-/]{_YEAR}"
    rf"|[A-Za-z]{{3,9}}[ -]{_YEAR}|[A-Za-z]{{3}}-[0-9]{{2}}|Q[1-4][-/ ]?{_YEAR}|[1-4]Q(?: ?{_YEAR}|[0-9]{{2}}))$"
)
"""What is no part number: 4711-12."""
_DAY_NUMBER = "^(?:19|20)[0-9]{6}$"
_CODES = (
    "AED|ARS|AUD|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KRW|MXN|MYR|NGN|NOK|NZD|PHP|PKR|PLN|RMB|RON|RUB|SAR|"
    "SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
UNITS = rf"(?:[$€£¥₹₽₩₺₪₫฿₴₦₱]|(?:US|CA|AU|NZ|HK|NT|MX|[ARSC])\$|{_CODES}|Rs\.?|kr\.?|S?Fr\.?|zł|Kč|Ft|lei|元|円|원)"
_BLANK = f"[{SPACES}]"
_DIGITS = f"(?P<digits>[0-9.,'’{SPACES}]*[0-9])(?:[eE][+-]?[0-9]+)?"
_PER = r"/[^\W\d_]{1,6}[²³]?"
"""As in km/h, mg/dl, €/m²."""
_BEFORE = f"(?P<before>{UNITS}|[{BOUNDS}]=?)?{_BLANK}?[+-]?"
_GLUED = "(?:[kcmµ]?[gml]|lbs?|oz|ft|in|mi|[kMGT]?[BW]|hrs?|h|min|m?s|px|x|[kKM])"
_AFTER = rf"(?P<after>{_BLANK}?(?:%|‰|\+|(?:{UNITS}|{_GLUED}[²³]?)(?:{_PER})?)|{_BLANK}[^\W\d_]{{1,6}}[²³]?(?:{_PER})?|{_BLANK}?°[CF]?)?"
_AMOUNT = re.compile(f"[+-]?{_BEFORE}{_DIGITS}{_AFTER}")
_TIMED = re.compile("[+-]?P.*T.+|.*:.*")
_SPELLINGS = ("1234.5", "1234,5", "1,234.5", "1.234,5", "1 234,5", "1 234.5", "1'234.5", "1'234,5")


@dataclass
class ColumnProfile:
    """What one column holds. Counts are of rows; ``nulls`` are empty cells, null and NaN: what else may mean null is a value here."""

    name: str
    held: str = "nothing"
    """How it is stored: text, integer, float, truth, moment, clock (a time of day or a duration), other, nothing."""
    rows: int = 0
    nulls: int = 0
    few: dict[str, int] | None = field(default_factory=dict)
    """Every value as text, with its count; None if there are more than ``FEW``."""
    numbers: int = 0
    odd: dict[str, int] = field(default_factory=dict)
    """Texts that are no plain numbers."""
    odd_rows: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    below: set[float] = field(default_factory=set)
    """Numbers below zero, two of them at most."""
    whole: bool = True
    """Whether every number is whole."""
    pointed: bool = False
    """Whether a number was written with a point or an exponent, or stored as a float."""
    by_points: bool = True
    """Whether every number may have points between its thousands: ``877``, ``1.146``, but not ``1146``, ``1.5``, ``0.361``."""
    zero_led: bool = False
    """Whether a number was written with a zero before its digits."""
    infinite: int = 0
    beyond: int = 0
    """Numbers that a 32-bit float does not hold."""
    steps: set[float] = field(default_factory=set)
    """Differences of numbers in neighbouring rows, two of them at most."""
    forms: dict[str, int] = field(default_factory=dict)
    """In which ways numbers or moments may be written, with how many values are."""
    colons: set[int] = field(default_factory=set)
    """How many colons a time of day or a duration has, where values may be such."""
    longest: float = 0.0
    """Seconds of the longest of them, read as hours and minutes."""
    moments: int = 0
    """Values that are moments by ISO 8601."""
    words: float = 0.0
    """Words of a text, on average over its first values."""
    content: int = 0
    """Equal for columns that are equal in every row."""
    looked: bool = False
    many_words: bool = False
    """Whether more than a few texts of a chunk have no digit."""
    late: bool = False
    """Whether ways of writing showed after the first chunk: another pass would count them."""
    read: dict[str | None, pl.Series] = field(default_factory=dict)
    """The last chunk's moments by each way of writing them, ISO 8601 by none, where each row's text was read."""
    _hashes: Any = ()
    _kept: int = 1
    _last: float | None = None

    @property
    def there(self) -> int:
        """Rows that have a value."""
        return self.rows - self.nulls

    @property
    def distinct(self) -> int:
        """How many different values there are, to half a percent where there are many."""
        return len(self.few) if self.few is not None else min(len(self._hashes) * self._kept, self.there)

    @property
    def bare(self) -> dict[str, int]:
        """Its few values without the blanks around them, or what is no plain number where there are many, each with its count."""
        if self.few is None:
            return self.odd
        counts: dict[str, int] = {}
        for text, count in self.few.items():
            bare = text.strip(BLANKS)
            counts[bare] = counts.get(bare, 0) + count
        return counts

    @property
    def ways(self) -> list[str | None]:
        """In which ways the values may be moments: None for ISO 8601."""
        return [*([None] if self.moments else []), *filter(is_of_moments, self.forms)]

    def add(self, values: pl.Series) -> None:
        """Take one chunk's values into account."""
        import polars as pl

        self.read = {}
        if values.dtype.is_float():
            values = values.fill_nan(None)
        hashes = values.hash()
        self._mark(hashes)
        self.rows += len(values)
        self.nulls += values.null_count()
        if values.null_count() == len(values):
            return
        self.held = _held(values.dtype)
        present = values.drop_nulls()
        seen = present.value_counts(name="\0count").get_columns() if self.few is not None else None
        if seen is not None:
            self._count(seen[0], seen[1])
        # Of few values too: they count among many once there are more than a few.
        self._sketch(hashes if seen is None else seen[0].hash())
        if self.held == "text":
            # What is true of a value is true of its every row.
            often = seen is not None and len(seen[0]) * 4 <= len(present)
            text, counts = seen if often and seen is not None else (present, None)
            self._text(text.cast(pl.String).str.strip_chars(BLANKS), counts)
        elif self.held in ("integer", "float"):
            self._numbers(present.cast(pl.Float64, strict=False), None)
            self.pointed |= self.held == "float"
            if self.held == "integer":
                self._days(present)
        if len(self.steps) < 2 and self.held in ("text", "integer", "float"):
            self._step((values.cast(pl.String) if self.held == "text" else values).cast(pl.Float64, strict=False))

    def _mark(self, hashes: pl.Series) -> None:
        import numpy as np

        raw = hashes.to_numpy()
        places = np.arange(self.rows, self.rows + len(raw), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
        self.content = (self.content + int((raw * places).sum(dtype=np.uint64))) % 2**64

    def _sketch(self, hashes: pl.Series) -> None:
        import numpy as np

        thinned = hashes if self._kept == 1 else hashes.filter(hashes % self._kept == 0)
        self._hashes = np.union1d(self._hashes, thinned.unique().to_numpy())
        while len(self._hashes) > SKETCH:
            self._kept *= 2
            self._hashes = self._hashes[self._hashes % np.uint64(self._kept) == 0]

    def _count(self, seen: pl.Series, counts: pl.Series) -> None:
        if self.few is None or len(seen) > FEW:
            self.few = None
            return
        for value, count in zip(as_text(seen), counts, strict=True):
            self.few[value] = self.few.get(value, 0) + count
        if len(self.few) > FEW:
            self.few = None

    def _step(self, numbers: pl.Series) -> None:
        if numbers.null_count():
            self.steps = {0.0, 1.0}  # no running number
            return
        self.steps |= set(numbers.diff().drop_nulls().unique().head(2).to_list())
        if self._last is not None:
            self.steps.add(numbers[0] - self._last)
        self._last = numbers[-1]

    def _text(self, text: pl.Series, counts: pl.Series | None) -> None:
        """Look at texts without blanks around; ``counts`` says how many rows each stands for, one where it is None."""
        sample = _without_markers(text.head(50 * SAMPLE).unique(maintain_order=True)).head(SAMPLE)
        first = not self.looked and len(sample) > 0
        if first:
            self.looked, self.words = True, _words(sample)
            self.forms |= dict.fromkeys(_forms(sample), 0)
        if self.numbers or first or not self.looked:
            odd = self._plain(text, counts)
            if len(odd) and self.numbers and not self.forms:
                fresh = number_forms(_without_markers(odd.unique(maintain_order=True)).head(SAMPLE).to_list(), beside_plain=True)
                self.late |= bool(fresh) and not first
                self.forms |= dict.fromkeys(fresh if first else (), 0)
        else:
            self.odd_rows += len(text) if counts is None else int(counts.sum())
            if self.forms or self.moments:
                self._words_alone(text, counts)
        for form in list(self.forms):
            read = written_moments(text, form) if is_of_moments(form) else as_numbers(text, "number", (), form)
            self.forms[form] += _weight(read.is_not_null(), counts)
            if counts is None and is_of_moments(form):
                self.read[form] = read
            if form == "h:mm":
                self._clock(text.filter(read.is_not_null()), read.drop_nulls())
            if read.null_count() * 2 > len(read) and self.forms[form] * 2 < self.there and _are_mostly_others(text, read):
                del self.forms[form]
        if self.moments or (first and bool(sample.str.contains(_ISO).any())):
            read = as_moments(text)
            self.moments += _weight(read.is_not_null(), counts)
            if counts is None:
                self.read[None] = read

    def _clock(self, text: pl.Series, seconds: pl.Series) -> None:
        """Look at times of day or durations, and at their seconds."""
        self.colons |= set(text.str.count_matches(":").unique().to_list())
        self.longest = max(self.longest, float(seconds.abs().max() or 0))  # type: ignore[arg-type]  # of numbers

    def _days(self, numbers: pl.Series) -> None:
        """Count whole numbers that may be days, 20240131; where one of them is none, they are not."""
        if not self.looked:
            self.looked, self.forms[COMPACT_DAY] = True, 0
        if COMPACT_DAY in self.forms:
            text = as_text(numbers)
            count = int(written_moments(text, COMPACT_DAY).count()) if text.str.contains(_DAY_NUMBER).all() else 0
            self.forms[COMPACT_DAY] += count
            if count < len(text):
                del self.forms[COMPACT_DAY]

    def _plain(self, text: pl.Series, counts: pl.Series | None) -> pl.Series:
        """Count the plain numbers; gives the texts that are none."""
        import polars as pl

        numbers = text.cast(pl.Float64, strict=False).fill_nan(None)
        odd = text.filter(numbers.is_null())
        how_often = counts.filter(numbers.is_null()) if counts is not None else None
        self.odd_rows += len(odd) if how_often is None else int(how_often.sum())
        counted = self._words_alone(odd, how_often) if len(odd) else None
        if len(self.odd) <= ODD and counted is not None:
            others = ~counted
            for word, count in _counted(odd.filter(others), how_often.filter(others) if how_often is not None else None):
                if len(self.odd) > ODD:
                    break
                self.odd[word] = self.odd.get(word, 0) + count
        good = numbers.is_not_null()
        if good.any():
            kept = text if good.all() else text.filter(good)
            zeros = kept.filter(kept.str.starts_with("0")) if not self.zero_led else kept[:0]
            self.zero_led = self.zero_led or bool(zeros.str.contains(r"^0[0-9]").any())
            if self.whole and not self.pointed:
                self.pointed = bool(kept.str.contains(r"[.eE]").any())
            self.by_points = self.by_points and bool(kept.str.contains(_BY_POINTS).all())
            self._numbers(numbers.filter(good), None if counts is None else counts.filter(good))
        return odd

    def _words_alone(self, text: pl.Series, counts: pl.Series | None) -> pl.Series:
        """Count the texts that may stand for null, however many others there are, and say which these are: markers, and a few words."""
        marked = text.is_in(list(MARKERS))
        if not self.many_words:
            words = ~marked & ~text.str.contains("[0-9]")
            self.many_words = text.filter(words).n_unique() > FEW_WORDS
            marked = marked if self.many_words else marked | words
        if marked.any():
            for word, count in _counted(text.filter(marked), counts.filter(marked) if counts is not None else None):
                self.odd[word] = self.odd.get(word, 0) + count
        return marked

    def _numbers(self, numbers: pl.Series, counts: pl.Series | None) -> None:
        """Look at plain numbers without null."""
        self.numbers += len(numbers) if counts is None else int(counts.sum())
        low, high = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]  # numbers, at least one
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low < 0 and len(self.below) < 2:
            self.below |= {low, float(numbers.filter(numbers < 0).max())}  # type: ignore[arg-type]  # of numbers
        if max(-low, high) > LARGEST:
            self.infinite += _weight(numbers.is_infinite(), counts)
            self.beyond += _weight((numbers.abs() > LARGEST) & numbers.is_finite(), counts)
        self.whole = self.whole and bool((numbers == numbers.round()).all())


def profiled(
    read: Callable[[], Iterable[Chunk]], beside: Callable[[pl.DataFrame, Mapping[str, ColumnProfile]], None] | None = None
) -> dict[str, ColumnProfile]:
    """What every column holds, from all rows of a table that is read without any word for null but the empty one.

    It is read again only where a column's later chunks are written in a way that its first one does not show. ``beside`` is called
    with each chunk once, after its columns.
    """
    columns = _profile((chunk.frame for chunk in read()), {}, beside)
    late = {name: number_forms(list(column.odd), beside_plain=True) for name, column in columns.items() if column.late}
    return _profile((chunk.frame for chunk in read()), late) if any(late.values()) else columns


def profile_of(table: pl.DataFrame) -> dict[str, ColumnProfile]:
    """What every column of a table in memory holds."""
    return _profile(table.iter_slices(ROWS_AT_ONCE), {})


def _profile(
    frames: Iterable[pl.DataFrame],
    forms: Mapping[str, list[str]],
    beside: Callable[[pl.DataFrame, Mapping[str, ColumnProfile]], None] | None = None,
) -> dict[str, ColumnProfile]:
    columns: dict[str, ColumnProfile] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for frame in frames:
            for name in frame.columns:
                columns.setdefault(name, ColumnProfile(name, forms=dict.fromkeys(forms.get(name, ()), 0)))
            list(pool.map(lambda values: columns[values.name].add(values), frame))
            if beside is not None:
                beside(frame, columns)
    return columns


def _forms(sample: pl.Series) -> list[str]:
    """The ways in which texts may be numbers or moments that are not plain; of digits alone, whether they may be days."""
    if as_numbers(sample, "number").null_count():
        return [*number_forms(sample.to_list()), *moment_forms(sample)]
    return [COMPACT_DAY] if sample.str.contains(_DAY_NUMBER).all() else []


def is_of_moments(form: str) -> bool:
    """Whether a form says how moments are written, and not numbers."""
    return re.search("%[A-Za-z]", form) is not None


def number_forms(sample: list[str], *, beside_plain: bool = False) -> list[str]:
    """The ways in which numbers that are not plain may be written, told by how 1234.5 is; each reads most of the sample.

    ``beside_plain``: there are plain numbers in the column, too.
    """
    most = max(MOST * len(sample), 1)
    # P1D and P7D alone may be codes.
    is_clock = any(_TIMED.fullmatch(text) for text in sample) or not any(text.lstrip("+-").startswith("P") for text in sample)
    if is_clock and sum(number_of(text, CLOCKS[-1]) is not None for text in sample) >= most:
        return [form for form in CLOCKS if form != "h:mm:ss"]
    amounts = [match for text in sample if (match := _AMOUNT.fullmatch(with_sign_before(text))) is not None]
    before = {BOUNDS[0] if (match["before"] or " ")[0] in BOUNDS else match["before"] or "" for match in amounts}
    after = {match["after"] or "" for match in amounts}
    units = [{unit.strip(BLANKS).rstrip(".") for unit in found} - {""} for found in (before, after)]
    if not amounts or max(map(len, units)) > 1:
        return []
    if "Uhr" in units[1]:
        return []  # 8.17 Uhr is 8:17
    if ("" in after or beside_plain) and any(re.fullmatch(rf"{_GLUED}[²³]?", unit) for unit in after):
        return []  # 12m beside 12 may be another thing
    marked = any(not match["digits"].isdigit() for match in amounts)
    forms = [f"{max(before, key=len)}{number}{max(after, key=len)}" for number in (_SPELLINGS if marked else _SPELLINGS[:1])]
    return [
        form
        for form in forms
        if sum(number_of(text, form) is not None for text in sample) >= most
        and (form != "1234.5" or any(number_of(text) is None and number_of(text, form) is not None for text in sample))
    ]


def moment_forms(sample: pl.Series) -> list[str]:
    """The ways in which texts may be moments; each reads most of the sample."""
    most = max(MOST * len(sample), 1)
    if sample.str.contains(_MONTHLY).sum() >= most:
        candidates = MONTH_FORMS
    elif sample.str.contains(_WEEKDAY).sum() >= most:
        candidates = WEEKDAY_FORMS
    elif sample.str.contains(_DATED).sum() >= most:
        candidates = MOMENT_FORMS
    else:
        return []
    # A year of two digits would be one of the first century.
    long = sample.str.contains(r"[0-9]{4}").sum() >= MOST * len(sample)
    forms = [form for form in candidates if ("%y" not in form) == long]
    if long and sample.str.contains(r"^[0-9]{4}").any():
        forms = [form for form in forms if form.startswith(("%Y", "%G"))]
    return [form for form in forms if written_moments(sample, form).is_not_null().sum() >= most]


def _held(held: pl.DataType) -> str:
    import polars as pl

    if held == pl.Boolean:
        return "truth"
    if held.is_integer():
        return "integer"
    if held.is_numeric():
        return "float"
    if held == pl.Date or isinstance(held, pl.Datetime):
        return "moment"
    if held in (pl.Time, pl.Duration):
        return "clock"
    return "text" if held in (pl.String, pl.Categorical, pl.Enum) or isinstance(held, pl.Enum) else "other"


def _are_mostly_others(text: pl.Series, read: pl.Series) -> bool:
    """Whether most texts that are no markers could not be read: however many rows say that there is nothing, the others have their form."""
    there = ~text.is_in(list(MARKERS))
    return int((there & read.is_null()).sum()) * 2 > int(there.sum())


def _without_markers(text: pl.Series) -> pl.Series:
    return text.filter(~text.is_in(list(MARKERS)))


def _words(texts: pl.Series) -> float:
    """How many words a text has in the mean, about."""

    def count(pattern: str) -> float:
        return float(texts.str.count_matches(pattern).mean() or 0)  # type: ignore[arg-type]  # a mean of counts

    return max(count(r"\S+"), sum(count(letters) / size for letters, size in _SPACELESS))


def _counted(text: pl.Series, counts: pl.Series | None) -> Iterator[tuple[str, int]]:
    """Each text as it first comes, and how many rows it stands for."""
    import polars as pl

    weights = pl.Series("\0n", [1], dtype=pl.UInt32).new_from_index(0, len(text)) if counts is None else counts.alias("\0n")
    named = pl.DataFrame([text.alias("\0t"), weights]).group_by("\0t", maintain_order=True).agg(pl.col("\0n").sum())
    yield from named.iter_rows()


def _weight(where: pl.Series, counts: pl.Series | None) -> int:
    return int(where.sum()) if counts is None else int(counts.filter(where).sum())
