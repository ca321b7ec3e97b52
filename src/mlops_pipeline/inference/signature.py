"""What a model takes: its columns with their bounds, and the checks that turn a client's values into arrays.

There are two ways in. Rows whose types and bounds a typed decoder has checked go through :meth:`Signature.rows`. Whatever
fails there, and every form that is not typed, goes through :meth:`Signature.from_columns`, which looks at each value and says
which row and column is wrong. Arrays, as binary protocols bring them, go through :meth:`Signature.checked`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from mlops_pipeline.inference.faults import SHOWN_FAULTS, Fault, Refused
from mlops_pipeline.records.entry import MISSING

LARGEST = float(np.finfo(np.float32).max)


class Rows(msgspec.Struct, gc=False):
    """Checked rows. ``numbers`` float32 (count, numbers), ``categories`` object (count, categories); None if there are no such columns."""

    count: int
    numbers: np.ndarray | None
    categories: np.ndarray | None
    unseen: int = 0
    ids: list[str] | None = None


class Column(msgspec.Struct, frozen=True):
    """One column as training described it."""

    kind: str
    min: float | None = None
    max: float | None = None
    nullable: bool = True
    private: bool = False


class Training(msgspec.Struct, frozen=True):
    """What the server reads of a version's ``training.json``."""

    task: str
    classes: list[Any]
    columns: dict[str, Column]
    categories: dict[str, list[str]]
    target: str = ""
    estimator: str = ""


@dataclass(frozen=True)
class Signature:
    """The columns of one model: numbers first, then categories, each in the model's order."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    columns: dict[str, Column]
    seen: dict[str, frozenset[str]]
    task: str
    classes: tuple[Any, ...]
    reject_unseen: bool
    max_rows: int
    bounds64: tuple[np.ndarray, np.ndarray]
    bounds32: tuple[np.ndarray, np.ndarray]
    whole: np.ndarray | None
    required: np.ndarray | None
    no_null_categories: tuple[int, ...]

    @staticmethod
    def of(training: Training, *, reject_unseen: bool, max_rows: int) -> Signature:
        """The signature of a trained model, with the server's own policy."""
        columns = training.columns
        numbers = tuple(name for name, column in columns.items() if column.kind != "category")
        categories = tuple(name for name, column in columns.items() if column.kind == "category")
        whole = np.array([columns[name].kind in ("integer", "boolean") for name in numbers], dtype=bool)
        low, high = (np.array([bounds(columns[name])[k] for name in numbers]) for k in (0, 1))
        required = np.array([not columns[name].nullable for name in numbers], dtype=bool)
        return Signature(
            numbers=numbers,
            categories=categories,
            columns={name: columns[name] for name in (*numbers, *categories)},
            seen={name: frozenset(training.categories.get(name, ())) for name in categories},
            task=training.task,
            classes=tuple(training.classes),
            reject_unseen=reject_unseen,
            max_rows=max_rows,
            bounds64=(low, high),
            bounds32=(low.astype(np.float32), high.astype(np.float32)),
            whole=whole if whole.any() else None,
            required=required if required.any() else None,
            no_null_categories=tuple(k for k, name in enumerate(categories) if not columns[name].nullable),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every column in the model's order."""
        return (*self.numbers, *self.categories)

    def rows(self, values: Sequence[tuple[Any, ...]], ids: list[str] | None = None) -> Rows:
        """Rows in the order of :attr:`names`, None for null, whose types and bounds a typed decoder has checked.

        Raises :class:`Refused` for too many rows and for categories.
        """
        self._check_count(len(values))
        split = len(self.numbers)
        numbers, categories, unseen = None, None, 0
        if split:
            numbers = np.array([row[:split] for row in values] if self.categories else values, dtype=np.float32)
        if self.categories:
            faults: list[Fault] = []
            categories = np.array([row[split:] for row in values] if split else values, dtype=object)
            unseen = self._check_categories(categories, faults)
            if faults:
                raise Refused(422, faults)
        return Rows(len(values), numbers, categories, unseen, ids)

    def checked(self, numbers: np.ndarray | None, categories: np.ndarray | None, ids: list[str] | None = None) -> Rows:
        """Arrays checked against bounds and seen categories; ``numbers`` is float32 or float64 with NaN for null, a null category is None.

        Raises :class:`Refused`.
        """
        faults: list[Fault] = []
        if numbers is not None:
            # Comparisons with NaN are false, so that a null passes here and is judged by itself.
            low, high = self.bounds32 if numbers.dtype == np.float32 else self.bounds64
            bad, null = (numbers < low) | (numbers > high), np.isnan(numbers)
            if self.required is not None:
                bad |= null & self.required
            if self.whole is not None:
                bad |= (np.rint(numbers) != numbers) & self.whole & ~null
            if bad.any():
                faults += self._faults_of_numbers(numbers, bad)
        unseen = 0
        if categories is not None:
            unseen = self._check_categories(categories, faults)
        if faults:
            faults.sort(key=lambda fault: -1 if fault.row is None else fault.row)
            raise Refused(422, faults)
        if numbers is not None:
            numbers = numbers.astype(np.float32, order="C", copy=False)
        count = len(numbers) if numbers is not None else len(categories) if categories is not None else 0
        return Rows(count, numbers, categories, unseen, ids)

    def from_records(self, records: Sequence[Any], ids: list[str] | None = None) -> Rows:
        """Rows given as one mapping each. Raises :class:`Refused` for whatever is wrong with them."""
        self._check_count(len(records))
        faults: list[Fault] = []
        for index, record in enumerate(records):
            if not isinstance(record, dict):
                faults.append(Fault("wrong_type", f"row {index}: {_shown(record)} is no record: give column names and values", index))
            elif record.keys() != self.columns.keys():
                faults += self._faults_of_names(record, index)
            if len(faults) >= SHOWN_FAULTS:
                break
        if faults:
            raise Refused(422, faults)
        return self.from_columns({name: [record.get(name) for record in records] for name in self.names}, ids)

    def from_columns(self, columns: dict[str, Sequence[Any]], ids: list[str] | None = None) -> Rows:
        """Rows given as one sequence a column; an optional column may be left out. Raises :class:`Refused`."""
        self.check_names(columns)
        lengths = {len(values) for values in columns.values()} or {0}
        if len(lengths) > 1:
            raise Refused(422, [Fault("malformed", f"the columns have {min(lengths)} to {max(lengths)} values: give each the same number")])
        count = lengths.pop()
        self._check_count(count)
        gaps: Sequence[Any] = [None] * count
        faults: list[Fault] = []
        numbers = [_numbers(name, columns.get(name, gaps), self.columns[name], faults) for name in self.numbers]
        texts = [_texts(name, columns.get(name, gaps), faults) for name in self.categories]
        if faults:
            faults.sort(key=lambda fault: -1 if fault.row is None else fault.row)
            raise Refused(422, faults)
        categories = np.empty((count, len(texts)), dtype=object) if texts else None
        for k, values in enumerate(texts):
            assert categories is not None  # noqa: S101  # made above, where there are texts
            categories[:, k] = values
        return self.checked(np.stack(numbers, axis=1) if numbers else None, categories, ids)

    def check_names(self, given: Iterable[str]) -> None:
        """Refuse unknown columns and missing ones that have to be there."""
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

    def _faults_of_numbers(self, numbers: np.ndarray, bad: np.ndarray) -> list[Fault]:
        faults = []
        for row, place in np.argwhere(bad)[:SHOWN_FAULTS]:
            name, value = self.numbers[place], float(numbers[row, place])
            low, high = bounds(self.columns[name])
            if math.isnan(value):
                reason, what = "null", "is null, which the model does not take"
            elif math.isinf(value):
                reason, what = "not_finite", f"is {value}, not a finite number"
            elif not low <= value <= high:
                reason, what = "out_of_bounds", f"is {value:g}, {_outside(value, low, high)}"
            else:
                reason, what = "wrong_type", f"is {value:g}, not a whole number"
            faults.append(Fault(reason, f"row {row}, column '{name}' {what}", int(row), name))
        return faults

    def _check_categories(self, categories: np.ndarray, faults: list[Fault]) -> int:
        unseen = 0
        for k, name in enumerate(self.categories):
            values = categories[:, k]
            if not self.seen[name].issuperset(values):
                unseen += self._look_closer(name, values, faults, nullable=k not in self.no_null_categories)
        return unseen

    def _look_closer(self, name: str, values: np.ndarray, faults: list[Fault], *, nullable: bool) -> int:
        unseen = 0
        for row, value in enumerate(values):
            if value is None:
                if nullable:
                    values[row] = MISSING
                else:
                    faults.append(Fault("null", f"row {row}, column '{name}' is null, which the model does not take", row, name))
            elif value not in self.seen[name]:
                unseen += 1
                if self.reject_unseen:
                    what = f"is {_shown(value)}, which the model was not trained on: use one of its {len(self.seen[name])} categories"
                    faults.append(Fault("unseen_category", f"row {row}, column '{name}' {what}", row, name))
            if len(faults) >= SHOWN_FAULTS:
                break
        return unseen

    def _faults_of_names(self, given: Iterable[str], row: int | None) -> list[Fault]:
        where = "" if row is None else f"row {row}: "
        names = given if isinstance(given, dict) else set(given)
        unknown = list(islice((str(name) for name in given if name not in self.columns), SHOWN_FAULTS))
        absent = [name for name, column in self.columns.items() if name not in names and not column.nullable]
        faults = [
            Fault("unknown_column", f"{where}column {_shown(name)} is none of the model's: {', '.join(self.names)}", row, name[:100])
            for name in unknown
        ]
        faults += [Fault("missing_column", f"{where}column '{name}' is missing: give it a value", row, name) for name in absent]
        return faults[:SHOWN_FAULTS]


def bounds(column: Column) -> tuple[float, float]:
    """Least and largest value of a number column; what a float32 can hold where nothing else is said."""
    if column.kind == "boolean":
        return 0.0, 1.0
    return (
        -LARGEST if column.min is None else max(column.min, -LARGEST),
        LARGEST if column.max is None else min(column.max, LARGEST),
    )


_PLAIN = frozenset({int, float, type(None)})


def _numbers(name: str, values: Sequence[Any], column: Column, faults: list[Fault]) -> np.ndarray:
    """One column as float64, NaN for null; faults name each value of another type."""
    kinds = set(map(type, values))
    if not kinds <= _PLAIN and not (column.kind == "boolean" and kinds <= _PLAIN | {bool}):
        for row, value in enumerate(values):
            if type(value) not in _PLAIN and not (column.kind == "boolean" and type(value) is bool):
                faults.append(Fault("wrong_type", f"row {row}, column '{name}' is {_shown(value)}, not a number", row, name))
                if len(faults) >= SHOWN_FAULTS:
                    break
        return np.zeros(len(values))
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.array([_float(value) for value in values], dtype=np.float64)


def _float(value: Any) -> float:
    """A number as a float; infinity for an integer too large to be one, so that the bounds refuse it."""
    try:
        return math.nan if value is None else float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _texts(name: str, values: Sequence[Any], faults: list[Fault]) -> Sequence[Any]:
    """One column of text, None for null; faults name each value of another type."""
    if not set(map(type, values)) <= {str, type(None)}:
        for row, value in enumerate(values):
            if not isinstance(value, str) and value is not None:
                faults.append(Fault("wrong_type", f"row {row}, column '{name}' is {_shown(value)}, not text", row, name))
                if len(faults) >= SHOWN_FAULTS:
                    break
    return values


def _shown(value: Any, limit: int = 60) -> str:
    """A client's value in an error: short, on one line."""
    text = repr(value) if not isinstance(value, dict | list) else f"a{' mapping' if isinstance(value, dict) else ' list'}"
    return text if len(text) <= limit else f"{text[:limit]}…"


def _outside(value: float, low: float, high: float) -> str:
    """What a number breaks, and what to give instead."""
    if low > -LARGEST and high < LARGEST:
        return f"outside {low:g} to {high:g}: give a value within"
    if low > -LARGEST and value < low:
        return f"below {low:g}: give {low:g} or more"
    if high < LARGEST and value > high:
        return f"above {high:g}: give {high:g} or less"
    return "outside what a 32-bit float holds: give a number nearer to 0"
