"""What a model takes: its columns with their bounds, and the checks that turn a client's values into arrays.

There are two ways in. Rows whose types and bounds a typed decoder has checked go through :meth:`Signature.rows`. Whatever
fails there, and every form that is not typed, goes through :meth:`Signature.from_columns`, which looks at each value and says
which row and column is wrong. Arrays, as binary protocols bring them, go through :meth:`Signature.checked`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest
from itertools import islice
from typing import Any, NamedTuple
from unicodedata import is_normalized, normalize

import msgspec
import numpy as np

from mlops_pipeline.contract.dialect import PLAIN, Dialect
from mlops_pipeline.contract.moments import exact_moment_of, is_of_numbers, moment_of
from mlops_pipeline.contract.privacy import private_names, told_value
from mlops_pipeline.contract.spec import AS_TEXT, Column, Contract
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.contract.values import (
    BLANKS,
    LARGEST,
    LARGEST_INTEGER,
    MISSING,
    bounds,
    category_of,
    is_nothing,
    is_of_months,
    number_of,
    spelled,
    truth_of,
)
from mlops_pipeline.inference.faults import (
    EXTRA_COLUMN,
    OUTSIDE_TRAINING,
    SHOWN_FAULTS,
    UNSEEN_CATEGORY,
    Fault,
    Notice,
    Reason,
    Refused,
    more_columns,
)

FAR = 0.25
"""A value is far outside what training saw when it is further out than this share of training's own range."""


class Length(NamedTuple):
    """How long a text may be, in characters and in bytes of UTF-8."""

    characters: int = 2**62
    bytes: int = 2**62

    def __str__(self) -> str:
        return f"{self.characters:,} characters" + ("" if self.bytes >= 4 * self.characters else f" and {self.bytes:,} bytes")

    def is_passed_by(self, text: str) -> bool:
        """Whether a text is longer."""
        count = len(text)
        return count > self.characters or (4 * count > self.bytes and len(text.encode("utf-8", "surrogatepass")) > self.bytes)


class Lengths(NamedTuple):
    """How long the texts of a request may be."""

    id: Length = Length()
    category: Length = Length()
    """Of one that training has not seen, and of a moment."""
    text: Length = Length()
    texts: int = 2**62
    """Characters of all texts of a request together."""


GROWTH = 18
"""So many characters, at most, does NFKC make of one."""
ROW_OF_TEXT = 200
"""Characters of text that take about as long as a row does."""


def read_characters(text: str, most: int = 2**62) -> int:
    """The characters of a text in the form NFKC, in which it is read; of a longer one than ``most``, some number above that."""
    if text.isascii() or is_normalized("NFKC", text):
        return len(text)
    count = 0
    for start in range(0, len(text), 1000):
        count += len(normalize("NFKC", text[start : start + 1000]))
        if count > most:
            break
    return count


ANY_LENGTH = Lengths()

Limits = tuple[np.ndarray, np.ndarray]
"""The least and the greatest value of each number column."""


class Rows(msgspec.Struct, gc=False):
    """Checked rows. ``numbers`` (count, numbers), float32 or float64 as the engine takes them; ``categories`` object (count, categories).

    Either is None if there are no such columns. ``notices`` say what is unusual; None where nothing is.
    """

    count: int
    numbers: np.ndarray | None
    categories: np.ndarray | None
    unseen: int = 0
    ids: list[str] | None = None
    notices: list[Notice] | None = None


@dataclass(frozen=True)
class Signature:
    """The columns of one model: numbers first, then categories, each in the model's order."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    columns: dict[str, Column]
    seen: dict[str, frozenset[str]]
    task: str
    classes: tuple[Any, ...]
    null_words: frozenset[str]
    reject_unseen: bool
    refuse_extra: bool
    max_rows: int
    bounds64: Limits
    bounds32: Limits
    usual64: Limits
    usual32: Limits
    """Within the bounds, and not far outside what training saw."""
    ranges: dict[str, tuple[float, float]]
    whole: np.ndarray | None
    required: np.ndarray | None
    no_null_categories: tuple[int, ...]
    texts: tuple[int, ...]
    """Places of free text among the categories."""
    dialect: Dialect = PLAIN
    """How text in rows is written, unless it turns out to be plain CSV."""
    lengths: Lengths = ANY_LENGTH
    least_told: int = 1
    """Of values that training has not seen, those are named that so many rows have."""
    trimmed: frozenset[str] = frozenset()
    """Columns of text of which blanks around a value are no part, as they were none in training (``dataset.source.trim``)."""
    precision: Any = np.float32
    """What the engine takes numbers as: float32, or float64."""
    wide: bool = False
    """Whether it is of a source's rows: numbers are asked for in 64 bits, moments read to the microsecond, and categories kept as they are
    written, since the recipe's keys are. What the model makes of a category is said of its own columns.
    """

    @staticmethod
    def of(
        contract: Contract,
        *,
        reject_unseen: bool = False,
        refuse_extra: bool = False,
        max_rows: int = 2**62,
        precision: Any = np.float32,
        lengths: Lengths = ANY_LENGTH,
    ) -> Signature:
        """The signature of a trained model, with the server's own policy."""
        columns = contract.columns
        numbers = tuple(name for name, column in columns.items() if column.kind not in AS_TEXT)
        categories = tuple(name for name, column in columns.items() if column.kind in AS_TEXT)
        whole = np.array([columns[name].kind in ("integer", "boolean") for name in numbers], dtype=bool)
        low, high = (np.array([bounds(columns[name])[k] for name in numbers], dtype=np.float64) for k in (0, 1))
        usual = usual_limits(contract, numbers)
        usual = (np.maximum(low, usual[0]), np.minimum(high, usual[1]))
        required = np.array([not columns[name].nullable for name in numbers], dtype=bool)
        return Signature(
            numbers=numbers,
            categories=categories,
            columns={name: columns[name] for name in (*numbers, *categories)},
            seen={name: frozenset(contract.categories.get(name, ())) for name in categories if columns[name].kind == "category"},
            task=contract.task,
            classes=tuple(contract.answers),
            null_words=frozenset(contract.null_values),
            reject_unseen=reject_unseen,
            refuse_extra=refuse_extra,
            max_rows=max_rows,
            bounds64=(low, high),
            bounds32=(_float32_bounds(low, whole, 1.0), _float32_bounds(high, whole, -1.0)),
            usual64=usual,
            usual32=(_float32_bounds(usual[0], whole, 1.0), _float32_bounds(usual[1], whole, -1.0)),
            ranges=contract.ranges,
            whole=whole if whole.any() else None,
            required=required if required.any() else None,
            dialect=contract.dialect,
            # What the recipe makes is as it makes it, in training as here.
            trimmed=frozenset(name for name in categories if contract.dialect.trim and name not in contract.made),
            least_told=contract.min_level_rows,
            precision=precision,
            lengths=lengths,
            texts=tuple(k for k, name in enumerate(categories) if columns[name].kind == "text"),
            no_null_categories=tuple(k for k, name in enumerate(categories) if not columns[name].nullable),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every column in the model's order."""
        return (*self.numbers, *self.categories)

    @property
    def has_classes(self) -> bool:
        """Whether the model says a probability for each class, or a value."""
        return has_classes(self.task)

    @property
    def unlisted(self) -> str:
        """In words, what values are that are none of a column's categories: a few rows of training may have them, and are not told of."""
        return "that training has not seen" if self.least_told < 2 else f"that fewer than {self.least_told} rows of training have"

    def words_for_null(self, name: str) -> Collection[str]:
        """The texts that stand for null in a column."""
        own = self.columns[name].null_values
        return self.null_words if own is None else own

    @property
    def every_word_for_null(self) -> frozenset[str]:
        """The texts that stand for null in any column."""
        return self.null_words.union(*(column.null_values or () for column in self.columns.values()))

    @cached_property
    def within(self) -> frozenset[str]:
        """The names of records that a row may hold, with columns in them."""
        return names_within(self.columns)

    @property
    def nothing(self) -> tuple[None, ...] | None:
        """The values of a record without a single column, where every column may be left out; None elsewhere."""
        return (None,) * len(self.columns) if all(column.nullable for column in self.columns.values()) else None

    def rows(self, values: Sequence[tuple[Any, ...]], ids: list[str] | None = None, *, usual: bool = False) -> Rows:
        """Rows in the order of :attr:`names`, None for null, whose types and bounds a typed decoder has checked.

        ``usual`` says that it has found every number within the usual limits too.

        Raises :class:`Refused` for too many rows and for categories.
        """
        self._check_count(len(values))
        split = len(self.numbers)
        numbers, categories, unseen, notices = None, None, 0, None
        if split:
            numbers = np.array([row[:split] for row in values] if self.categories else values, dtype=self.precision)
            notices = None if usual else self._far_outside(numbers)
        if self.categories:
            faults: list[Fault] = []
            categories = np.array([row[split:] for row in values] if split else values, dtype=object)
            unseen, new = self._check_categories(categories, faults)
            if faults:
                raise Refused(422, faults)
            notices = [*(notices or ()), *new] if new else notices
        return Rows(len(values), numbers, categories, unseen, ids, notices)

    def row_weights(self, rows: Rows) -> list[int] | None:
        """What each row costs, in rows: more with a long text; None for a model that reads none."""
        if not self.texts or rows.categories is None:
            return None
        weights = [1] * rows.count
        for place in self.texts:
            for row, text in enumerate(rows.categories[:, place].tolist()):
                weights[row] += read_characters(text) // ROW_OF_TEXT
        return weights

    def checked(
        self,
        numbers: np.ndarray | None,
        categories: np.ndarray | None,
        ids: list[str] | None = None,
        notices: list[Notice] | None = None,
    ) -> Rows:
        """Arrays checked against bounds and seen categories; ``numbers`` is float32 or float64 with NaN for null, a null category is None.

        ``notices`` are of what came beside them. Raises :class:`Refused`.
        """
        faults: list[Fault] = []
        # What is usual is within bounds: the one look finds whether there is anything to be said at all.
        if numbers is not None and self._breaks(numbers, self._limits(numbers, usual=True)).any():
            bad = self.broken(numbers)
            faults += [self.fault(int(row), int(place), numbers[row, place]) for row, place in np.argwhere(bad)[:SHOWN_FAULTS]]
            if not faults and (far := self._far_outside(numbers)):
                notices = [*(notices or ()), *far]
        unseen = 0
        if categories is not None:
            unseen, new = self._check_categories(categories, faults)
            notices = [*(notices or ()), *new] if new else notices
        if faults:
            faults.sort(key=lambda fault: -1 if fault.row is None else fault.row)
            raise Refused(422, faults)
        if numbers is not None:
            numbers = numbers.astype(self.precision, order="C", copy=False)
        count = len(numbers) if numbers is not None else len(categories) if categories is not None else 0
        return Rows(count, numbers, categories, unseen, ids, notices)

    def from_records(self, records: Sequence[Any], ids: list[str] | None = None) -> Rows:
        """Rows given as one mapping each; what a record within one holds are columns of both names, as in a table of JSON.

        Raises :class:`Refused` for whatever is wrong with them.
        """
        self._check_count(len(records))
        faults: list[Fault] = []
        extra: dict[str, int] = {}
        if self.within:
            records = [flat(record, self.within, index) if isinstance(record, dict) else record for index, record in enumerate(records)]
        for index, record in enumerate(records):
            if not isinstance(record, dict):
                what = "this" if private_names(self.columns) else shown(record)
                faults.append(Fault("wrong_type", f"row {index}: {what} is no record: give column names and values", index))
            elif record.keys() != self.columns.keys():
                faults += self._faults_of_names(record, index)
                for name in record.keys() - self.columns.keys():
                    extra[name] = extra.get(name, 0) + 1
            if len(faults) >= SHOWN_FAULTS:
                break
        if faults:
            raise Refused(422, faults)
        columns: dict[str, Sequence[Any]] = {name: [record.get(name) for record in records] for name in self.names}
        return self.from_columns(columns, ids, extra_columns(extra) if extra else None)

    def from_columns(self, columns: dict[str, Sequence[Any]], ids: list[str] | None = None, notices: list[Notice] | None = None) -> Rows:
        """Rows given as one sequence a column; an optional column may be left out.

        ``notices`` are of what came beside them. Raises :class:`Refused`.
        """
        self.check_names(columns)
        lengths = {len(values) for name, values in columns.items() if name in self.columns} or {0}
        if len(lengths) > 1:
            raise Refused(422, [Fault("malformed", f"the columns have {min(lengths)} to {max(lengths)} values: give each the same number")])
        count = lengths.pop()
        self._check_count(count)
        if extra := columns.keys() - self.columns.keys():
            notices = [*(notices or ()), *extra_columns(dict.fromkeys(extra, count))]
        gaps: Sequence[Any] = [None] * count
        faults: list[Fault] = []
        numbers = [_numbers(name, columns.get(name, gaps), self.columns[name], self.words_for_null(name), faults) for name in self.numbers]
        known: dict[str, frozenset[str]] = self.seen if self.wide else {}
        texts = [_texts(name, columns.get(name, gaps), self.columns[name], faults, known.get(name)) for name in self.categories]
        if faults:
            faults.sort(key=lambda fault: -1 if fault.row is None else fault.row)
            raise Refused(422, faults)
        categories = np.empty((count, len(texts)), dtype=object) if texts else None
        for k, values in enumerate(texts):
            assert categories is not None  # noqa: S101  # made above, where there are texts
            categories[:, k] = values
        return self.checked(np.stack(numbers, axis=1) if numbers else None, categories, ids, notices)

    def check_names(self, given: Iterable[str]) -> None:
        """Refuse missing columns that have to be there, all of them missing, and unknown ones if these are to be refused."""
        faults = self._faults_of_names(given, None)
        if faults:
            raise Refused(422, faults)

    def _check_count(self, count: int) -> None:
        if not count:
            raise Refused(422, [Fault("no_rows", "holds no row: give at least one")])
        if count > self.max_rows:
            raise Refused(
                413, [Fault("too_many_rows", f"holds {count:,} rows, more than the {self.max_rows:,} of one request: send several")]
            )

    def broken(self, numbers: np.ndarray) -> np.ndarray:
        """Which numbers, float32 or float64 (rows, numbers) with NaN for null, the model does not take."""
        return self._breaks(numbers, self._limits(numbers, usual=False))

    def widened(self, place: int, values: np.ndarray) -> np.ndarray:
        """A column of 32-bit floats in 64 bits: what is a bound to so many bits, as 0.1 is in neither, is that bound."""
        wide, (low, high) = values.astype(np.float64), self.bounds64
        within = (values >= self.bounds32[0][place]) & (values <= self.bounds32[1][place])
        return np.where(within, np.clip(wide, low[place], high[place]), wide)

    def far(self, numbers: np.ndarray) -> np.ndarray:
        """Which numbers, float32 or float64 (rows, numbers) with NaN for null, are far outside what training saw, or out of bounds."""
        low, high = self._limits(numbers, usual=True)
        far: np.ndarray = (numbers < low) | (numbers > high)
        return far

    def told_range(self, name: str) -> str:
        """What training saw of a column of numbers, in words."""
        low, high = self.ranges[name]
        return f"only {low:g}" if low == high else f"{low:g} to {high:g}"

    def _limits(self, numbers: np.ndarray, *, usual: bool) -> Limits:
        if numbers.dtype == np.float32:
            return self.usual32 if usual else self.bounds32
        return self.usual64 if usual else self.bounds64

    def _breaks(self, numbers: np.ndarray, limits: Limits) -> np.ndarray:
        # Comparisons with NaN are false, so that a null passes here and is judged by itself.
        low, high = limits
        bad: np.ndarray = (numbers < low) | (numbers > high)
        if self.required is not None or self.whole is not None:
            null = np.isnan(numbers)
            if self.required is not None:
                bad |= null & self.required
            if self.whole is not None:
                bad |= (np.rint(numbers) != numbers) & self.whole & ~null
        return bad

    def fault(self, row: int, place: int, number: float) -> Fault:
        """Why the model does not take a number of the column at ``place``."""
        name, value = self.numbers[place], float(number)
        column = self.columns[name]
        low, high = bounds(column)
        reason: Reason
        if math.isnan(value):
            reason, what = "null", "is null, which the model does not take"
        elif math.isinf(value):
            reason, what = "not_finite", f"is {told_value(column, str(value), 'not a finite number')}"
        elif not low <= value <= high:
            reason, what = "out_of_bounds", f"is {told_value(column, f'{value:g}', _outside(value, low, high, column.kind))}"
        else:
            reason, what = "wrong_type", f"is {told_value(column, f'{value:g}', 'not a whole number')}"
        return Fault(reason, f"row {row}, column '{name}' {what}", row, name)

    def _far_outside(self, numbers: np.ndarray) -> list[Notice] | None:
        if not self.ranges:
            return None
        far = self.far(numbers)
        if not far.any():
            return None
        return [self.far_notice(self.numbers[place], int(far[:, place].sum())) for place in np.flatnonzero(far.any(axis=0))]

    def far_notice(self, name: str, rows: int) -> Notice:
        """What is said of values far outside what training saw."""
        what = f"{_times(rows)} far outside what training saw ({self.told_range(name)})"
        return Notice(OUTSIDE_TRAINING, name, rows, f"column '{name}': {what}")

    def _check_categories(self, categories: np.ndarray, faults: list[Fault]) -> tuple[int, list[Notice]]:
        """How many values training has not seen, and what is said of them."""
        unseen, notices = 0, []
        if self.texts:
            self._check_characters(categories, len)
        for k, name in enumerate(self.categories):
            values = categories[:, k]
            if name in self.trimmed and not self.seen.get(name, frozenset()).issuperset(values):
                values[:] = [None if value is None else value.strip(BLANKS) for value in values.tolist()]
            if name not in self.seen:
                self._check_texts(name, values, faults, nullable=k not in self.no_null_categories)
                continue
            if not self.seen[name].issuperset(values):
                new = self._look_closer(name, values, faults, nullable=k not in self.no_null_categories)
                if new:
                    unseen += new
                    notices.append(Notice(UNSEEN_CATEGORY, name, new, f"column '{name}': {_times(new)} {self.unlisted}"))
        if self.texts and not faults:
            self._check_characters(categories, read_characters)
        return unseen, notices

    def _check_characters(self, categories: np.ndarray, measure: Callable[[str], int]) -> None:
        """Refuse texts that are longer together than a request's may be; no more of them is measured than it takes."""
        texts = [text for place in self.texts for text in categories[:, place].tolist() if text is not None]
        most = self.lengths.texts
        if GROWTH * sum(map(len, texts)) <= most:
            return
        count = 0
        for text in texts:
            count += measure(text)
            if count > most:
                what = f"the texts of the request have more than {most:,} characters: send fewer rows in each request"
                raise Refused(422, [Fault("too_long", what)])

    def _check_texts(self, name: str, values: np.ndarray, faults: list[Fault], *, nullable: bool) -> None:
        """Free text, moments as text, or a source's categories that the model does not take: there is no list of values to keep to."""
        kind, form, words = self.columns[name].kind, self.columns[name].format, self.words_for_null(name)
        moments, longest = kind == "datetime", self.lengths.text if kind == "text" else self.lengths.category
        as_moment = exact_moment_of if self.wide else moment_of
        if moments and len(values) > 1:
            # Rows that come together are often of the same moments.
            given = values.tolist()
            plain = {text: None if self._is_odd(text, words, longest) else as_moment(text, form) for text in dict.fromkeys(given)}
            if None not in plain.values():
                values[:] = [plain[text] for text in given]
                return
        for row, value in enumerate(values):
            if value is None or value in words or (moments and is_nothing(value.strip(BLANKS), words)):
                meant: str | None = MISSING
                if not nullable:
                    faults.append(null_fault(row, name))
            elif longest.is_passed_by(value) or (
                # Before NFKC a few characters may stand for many.
                kind == "text"
                and GROWTH * len(value) > longest.characters
                and read_characters(value, longest.characters) > longest.characters
            ):
                meant = None
                faults.append(_too_long(row, name, value, longest))
            else:
                meant = as_moment(value, form) if moments else value
                if meant is None:
                    faults.append(wrong_type(row, name, value, self.columns[name]))
            values[row] = meant
            if len(faults) >= SHOWN_FAULTS:
                break

    @staticmethod
    def _is_odd(moment: str | None, words: Collection[str], longest: Length) -> bool:
        """Whether there is more to be said of a moment's text than what it means."""
        return moment is None or moment in words or is_nothing(moment.strip(BLANKS), words) or longest.is_passed_by(moment)

    def _look_closer(self, name: str, values: np.ndarray, faults: list[Fault], *, nullable: bool) -> int:
        unseen, seen, words = 0, self.seen[name], self.words_for_null(name)
        for row, value in enumerate(values):
            meant = self._meant(value, seen, words)
            if meant is None:
                if nullable:
                    values[row] = MISSING
                else:
                    faults.append(null_fault(row, name))
            elif meant in seen:
                values[row] = meant
            elif self.lengths.category.is_passed_by(meant):
                faults.append(_too_long(row, name, meant, self.lengths.category))
            elif not self.wide:
                unseen += 1
                if self.reject_unseen:
                    is_private = self.columns[name].private
                    what = f"is {'one' if is_private else shown(value) + ','} which the model was not trained on"
                    what += "" if is_private else f": use one of its {len(seen)} categories"
                    faults.append(Fault("unseen_category", f"row {row}, column '{name}' {what}", row, name))
            if len(faults) >= SHOWN_FAULTS:
                break
        return unseen

    def _meant(self, value: str | None, seen: Collection[str], words: Collection[str]) -> str | None:
        """The category that a text means; of a source's row what it says, as the recipe finds keys by it in training, too."""
        if value is None or not self.wide:
            return None if value is None else category_of(value, seen, words)
        return None if value in words and value not in seen else value

    def _faults_of_names(self, given: Iterable[str], row: int | None) -> list[Fault]:
        where = "" if row is None else f"row {row}: "
        names = given if isinstance(given, dict) else set(given)
        strange = list(islice((str(name) for name in given if name not in self.columns), SHOWN_FAULTS))
        unknown = strange if self.refuse_extra else []
        absent = [name for name, column in self.columns.items() if name not in names and not column.nullable]
        if not absent and self.columns.keys().isdisjoint(names):
            absent = list(self.columns)
        faults = [
            Fault("unknown_column", f"{where}column {shown(name)} is none of the model's: {', '.join(self.names)}", row, name[:100])
            for name in unknown
        ]
        hint = f" (of those given, {', '.join(map(shown, strange[:3]))} is none of the model's)" if strange and not unknown else ""
        for name in absent:
            what = f"column '{name}'{self._told_apart(name)} is missing: give it a value{hint}"
            faults.append(Fault("missing_column", where + what, row, name))
        return faults[:SHOWN_FAULTS]

    def _told_apart(self, name: str) -> str:
        """Of a column whose name stands twice in the training data's header, which one it is, in words."""
        first, _, count = name.rpartition("_")
        is_another = self.dialect.numbered and first in self.columns and count.isdecimal() and int(count) > 1
        return f" (column {count} of those that the training data's header calls '{first}')" if is_another else ""


def names_within(names: Iterable[str]) -> frozenset[str]:
    """The names under which a row may have a record that holds columns: `patient` where one is called `patient.age`."""
    known = set(names)
    return frozenset(name[:place] for name in known if "." in name for place, sign in enumerate(name) if sign == ".") - known


def flat(record: dict[str, Any], within: frozenset[str], row: int) -> dict[str, Any]:
    """A row with the columns of the records ``within`` it beside its own; without one that is null, as are all that it would hold.

    Raises :class:`Refused` for a column that comes both ways.
    """
    if within.isdisjoint(record):
        return record
    made: dict[str, Any] = {}
    for name, value in _within("", record, within):
        if name in made:
            raise Refused(
                422, [Fault("malformed", f"row {row}: column {shown(name)} is given twice, once within a record", row, name[:100])]
            )
        made[name] = value
    return made


def _within(before: str, record: dict[str, Any], within: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        name = f"{before}{key}"
        if name in within and isinstance(value, dict):
            yield from _within(f"{name}.", value, within)
        elif name not in within or value is not None:
            yield name, value


def extra_columns(rows: Mapping[str, int]) -> list[Notice]:
    """What is said of columns that are none of the model's: in how many rows each came. Of very many some alone are named."""
    named, notices = sorted(rows) if len(rows) <= SHOWN_FAULTS else nsmallest(SHOWN_FAULTS - 1, rows), []
    if len(named) < len(rows):
        notices.append(more_columns(len(rows) - len(named), sum(rows.values()) - sum(rows[name] for name in named)))
    return notices + [
        Notice(EXTRA_COLUMN, name[:100], rows[name], f"column {shown(name)} is none of the model's: it was ignored") for name in named
    ]


def usual_limits(contract: Contract, numbers: Sequence[str]) -> Limits:
    """The least and the greatest value of each column that is not far outside what training saw; infinite where that is not known."""
    low, high = np.full(len(numbers), -np.inf), np.full(len(numbers), np.inf)
    for place, name in enumerate(numbers):
        if name in contract.ranges and not contract.columns[name].private:
            least, most = contract.ranges[name]
            low[place], high[place] = least - FAR * (most - least), most + FAR * (most - least)
    return low, high


def _times(count: int) -> str:
    return f"{count:,} value{'' if count == 1 else 's'}"


_PLAIN = frozenset({int, float, type(None)})
_NOT_A = {
    "boolean": "neither true nor false",
    "category": "not text",
    "text": "not text",
    "datetime": "no moment such as 2024-01-31 13:45:00",
}


def wrong_type(row: int, name: str, value: Any, column: Column) -> Fault:
    """The fault of a value that is none of its column's kind."""
    written = f" written as {column.format}" if column.format is not None and isinstance(value, str) and not column.private else ""
    if written and is_of_months(str(value).strip(BLANKS)):
        written = ": years and months have no fixed length: give days, hours, minutes or seconds"
    what = told_value(column, shown(value), _NOT_A.get(column.kind, f"not a number{written}"))
    return Fault("wrong_type", f"row {row}, column '{name}' is {what}", row, name)


def _too_long(row: int, name: str, value: str, longest: Length) -> Fault:
    """The fault of a text that is longer than this server takes."""
    form = "" if longest.is_passed_by(value) else "of which Unicode's form NFKC makes "
    what = f"has {len(value):,} characters, {form}more than {longest}: send fewer"
    return Fault("too_long", f"row {row}, column '{name}' {what}", row, name)


def null_fault(row: int, name: str) -> Fault:
    """The fault of a null in a column that must have a value."""
    return Fault("null", f"row {row}, column '{name}' is null, which the model does not take", row, name)


def _numbers(name: str, values: Sequence[Any], column: Column, null_words: Collection[str], faults: list[Fault]) -> np.ndarray:
    """One column as float64, NaN for null; faults name each value that is none of its kind."""
    if not _PLAIN.issuperset(map(type, values)):
        read: list[float | None] = []
        for row, value in enumerate(values):
            number = value if type(value) in _PLAIN else _read(value, column, null_words)
            if number is _NOTHING:
                faults.append(wrong_type(row, name, value, column))
                if len(faults) >= SHOWN_FAULTS:
                    break
            read.append(number)
        if faults:
            return np.zeros(len(values))
        values = read
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.array([_float(value) for value in values], dtype=np.float64)


_NOTHING: Any = object()


def _read(value: Any, column: Column, null_words: Collection[str]) -> Any:
    """A truth or a text as a number, None for a word for null; ``_NOTHING`` if it is no value of the kind."""
    if isinstance(value, bool):
        return float(value) if column.kind == "boolean" else _NOTHING
    if not isinstance(value, str):
        return _NOTHING
    text = value.strip(BLANKS)
    if text in null_words or value in null_words:
        return None
    number = truth_of(text) if column.kind == "boolean" else number_of(text, column.format)
    return _NOTHING if number is None else number


def _float(value: Any) -> float:
    """A number as a float; infinity for an integer too large to be one, so that the bounds refuse it."""
    try:
        return math.nan if value is None else float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _texts(name: str, values: Sequence[Any], column: Column, faults: list[Fault], known: Collection[str] | None = None) -> Sequence[Any]:
    """One column of text, None for null; faults name each value that cannot be spelled.

    A value that is no text is spelled as those ``known`` are.
    """
    if _TEXT.issuperset(map(type, values)):
        return values
    for row, value in enumerate(values):
        if not _has_spelling(value, column):
            faults.append(wrong_type(row, name, value, column))
            if len(faults) >= SHOWN_FAULTS:
                break
    return [value if value is None or isinstance(value, str | dict | list) else _spelled(value, known) for value in values]


def _has_spelling(value: Any, column: Column) -> bool:
    if isinstance(value, dict | list):
        return False
    if column.kind != "datetime" or isinstance(value, str) or spelled(value) is None:
        return True
    return is_of_numbers(column.format) and not isinstance(value, bool)


def _spelled(value: Any, known: Collection[str] | None) -> str | None:
    text = spelled(value)
    return text if text is None or known is None else category_of(text, known, ())


_TEXT = frozenset({str, type(None)})


def shown(value: Any, limit: int = 60) -> str:
    """A client's value in an error: short, on one line."""
    text = repr(value) if not isinstance(value, dict | list) else f"a{' mapping' if isinstance(value, dict) else ' list'}"
    return text if len(text) <= limit else f"{text[:limit]}…"


def _outside(value: float, low: float, high: float, kind: str) -> str:
    """What a number breaks, and what to give instead; the widest bounds were named by nobody."""
    widest = LARGEST_INTEGER if kind == "integer" else LARGEST
    if low > -widest and high < widest:
        return f"outside {low:g} to {high:g}: give a value within"
    if low > -widest and value < low:
        return f"below {low:g}: give {low:g} or more"
    if high < widest and value > high:
        return f"above {high:g}: give {high:g} or less"
    if widest == LARGEST_INTEGER and abs(value) <= LARGEST:
        return "beyond the integers that a 64-bit float tells apart: give a number nearer to 0, or train the column as a category"
    return "outside what a 32-bit float holds: give a number nearer to 0"


def _float32_bounds(bounds64: np.ndarray, whole: np.ndarray, inward: float) -> np.ndarray:
    """Bounds for float32 values: the nearest ones, for a client's 0.1 is what float32 makes of it; for integers the next ones inward."""
    nearest = bounds64.astype(np.float32)
    past = (nearest.astype(np.float64) - bounds64) * inward < 0
    return np.where(past & whole, np.nextafter(nearest, np.float32(inward * np.inf), dtype=np.float32), nearest)
