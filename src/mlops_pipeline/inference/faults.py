"""What is wrong with rows: which row, which column, why, in one line each."""

from __future__ import annotations

from collections.abc import Container
from typing import Literal, NamedTuple, get_args

Reason = Literal[
    "malformed",
    "repeated_key",
    "wrong_type",
    "null",
    "not_finite",
    "out_of_bounds",
    "unseen_category",
    "too_long",
    "unknown_column",
    "missing_column",
    "unknown_output",
    "unsupported",
    "no_rows",
    "too_many_rows",
    "body_too_large",
    "head_too_large",
    "content_type",
    "foreign_host",
    "foreign_origin",
    "not_found",
    "method",
    "unauthorized",
    "key_expired",
    "forbidden",
    "rate_limited",
    "wrong_keys",
    "queue_full",
    "deadline",
    "record_full",
    "labels_not_kept",
    "not_ready",
    "stale_features",
    "timeout",
    "too_many_connections",
    "output_not_finite",
    "internal",
]
"""Every word for why something is refused: in answers, metrics, log and record. The type checker lets no other be raised."""
REASONS: tuple[Reason, ...] = get_args(Reason)

SHOWN_FAULTS = 20
"""Faults listed in one answer; a body of thousands of bad rows is told of its first ones."""


EXTRA_COLUMN, OUTSIDE_TRAINING, UNSEEN_CATEGORY = "extra_column", "outside_training", "unseen_category"
STALE_FEATURES, CUT_TEXT = "stale_features", "cut_text"
"""What is unusual and answered all the same, as words for metrics."""


class Notice(NamedTuple):
    """Something unusual in rows that were answered: in how many, and in which column, which may be a client's own word.

    ``detail`` tells no value of a row. Neither it nor the name of an extra column enters a log or a label of a metric.
    """

    reason: str
    column: str
    rows: int
    detail: str
    columns: int = 1
    """Of how many columns it is: of several none is named."""


def first_of(notices: list[Notice], count: int) -> list[Notice]:
    """So many of them: rather those of values that were read than of columns that were not, which are named or counted all the same."""
    if len(notices) <= count:
        return notices
    extra = [notice for notice in notices if notice.reason == EXTRA_COLUMN]
    of_values = [notice for notice in notices if notice.reason != EXTRA_COLUMN][: count - bool(extra)]
    return of_values + _some_named(extra, count - len(of_values))


def _some_named(extra: list[Notice], count: int) -> list[Notice]:
    """So many notices of columns that are none of the model's: the first of them by name, the others in one by their number."""
    if len(extra) <= count:
        return extra
    named = [notice for notice in extra if notice.columns == 1]
    named, left = named[: count - 1], [*named[count - 1 :], *(notice for notice in extra if notice.columns > 1)]
    return [more_columns(sum(notice.columns for notice in left), sum(notice.rows for notice in left)), *named]


def more_columns(columns: int, rows: int) -> Notice:
    """What is said of so many columns that are none of the model's and are not named; ``rows`` are those of each, summed up."""
    what = "1 more column is" if columns == 1 else f"{columns:,} more columns are"
    was = "it was" if columns == 1 else "they were"
    return Notice(EXTRA_COLUMN, "", rows, f"{what} none of the model's: {was} ignored", columns)


class Fault(NamedTuple):
    """One thing wrong with the input. ``reason`` is a word for metrics; ``detail`` may show the value, so it is never logged."""

    reason: Reason
    detail: str
    row: int | None = None
    column: str | None = None

    def place(self, columns: Container[str]) -> str:
        """Reason, row and column, without any value; ``columns`` are the model's: any other name is a client's word, and may be a value."""
        where = [f"row {self.row}"] if self.row is not None else []
        where += [f"column '{self.column}'"] if self.column is not None and self.column in columns else []
        return f"{self.reason} ({', '.join(where)})" if where else self.reason


class Refused(Exception):
    """A request that gets an error as its answer; nothing of it was predicted."""

    def __init__(self, status: int, faults: list[Fault], headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(faults[0].detail)
        self.status, self.faults, self.headers = status, faults, headers

    @property
    def reason(self) -> Reason:
        return self.faults[0].reason

    def place(self, columns: Container[str] = ()) -> str:
        """Reason, row and column of the first fault, for a log: see :meth:`Fault.place`."""
        return self.faults[0].place(columns)
