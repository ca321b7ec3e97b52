"""What a label means: one value of the target as its owner, a client or a file writes it, and when it happened.

Tables read whole columns at a time by the same words (``monitoring.labels``); a property test holds the two together.
"""

from __future__ import annotations

import decimal
import math
import re
from calendar import timegm
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from mlops_pipeline.contract.moments import is_of_numbers, read_moment
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.contract.values import BLANKS, LARGEST_INTEGER, NULL_WORDS, number_of, spelled, truth_of

_ODD_NAME = re.compile(r"\s|\.0(?:/|\Z)")
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0")


@dataclass(frozen=True)
class Target:
    """What labels are of: the target's name, its kind of column and whether a model says classes; and what names a prediction."""

    name: str
    kind: str
    has_classes: bool
    null_words: tuple[str, ...] = NULL_WORDS
    form: str | None = None
    """How its numbers are written, if not the usual way (``contract.values.written_as``)."""
    entity: tuple[str, ...] = ()
    """Columns whose values, with ``/`` between them, are the ids of an entity's predictions."""
    time_column: str | None = None
    time_form: str | None = None
    trim: bool = False
    """Whether blanks around a class are no part of it."""

    def read(self, given: Any) -> tuple[Any, bool]:
        """The value as a model's table holds it, a yes/no target as 0 and 1; None for nothing; and whether it could be read."""
        if given is None or (isinstance(given, float | decimal.Decimal) and math.isnan(given)):
            return None, True
        if isinstance(given, str) and (given in self.null_words or given.strip(BLANKS) in ("", *self.null_words)):
            return None, True
        if self.kind == "category":
            text = given if isinstance(given, str) else spelled(given)
            return (text.strip(BLANKS) if text is not None and self.trim else text), True
        number = _number(given, self.kind, self.form)
        if number is None or not math.isfinite(number) or not _fits(number, self.kind):
            return None, False
        is_whole = self.kind == "boolean" or (self.has_classes and number.is_integer())
        return (int(number) if is_whole else number), True


def in_owners_words(classes: Sequence[Any], words: Sequence[Any]) -> list[Any]:
    """The classes 0 and 1 of a target of words, as its owner wrote them; none if that is how they stand.

    ``words`` are the owner's for 0 and for 1, as ingest found them; none for a target of any other kind.
    """
    return [words[int(truth)] for truth in classes] if words and set(classes) <= {0, 1} else []


def prediction_name(text: str) -> str:
    """A request's or a row's id as labels are joined by it: without blanks around it, or around a part of an entity's key; 7 for 7.0.

    Whoever predicts and whoever labels write the same id, each with a program of their own; a table with a gap writes its numbers so.
    """
    if _ODD_NAME.search(text) is None:
        return text
    return "/".join(_WHOLE.sub(r"\1", part) if _WHOLE.fullmatch(part) else part for part in map(str.strip, text.split("/")))


def _fits(number: float, kind: str) -> bool:
    """Whether a column of a kind can hold a number."""
    if kind == "boolean":
        return number in (0.0, 1.0)
    return kind != "integer" or (number.is_integer() and abs(number) <= LARGEST_INTEGER)


def _number(given: Any, kind: str, form: str | None) -> float | None:
    if isinstance(given, str):
        bare = given.strip(BLANKS)
        return truth_of(bare) if kind == "boolean" else number_of(bare, form)
    if isinstance(given, bool):
        return float(given) if kind == "boolean" else None
    try:
        return float(given) if isinstance(given, int | float | decimal.Decimal) else None
    except OverflowError:
        return math.inf


def target_in(contract: Contract) -> Target:
    """What a model's own contract says of its target: enough where nobody has the pipeline's settings."""
    return Target(
        contract.target,
        _kind(contract.classes),
        bool(contract.classes),
        contract.null_values,
        entity=contract.entity_key,
        time_column=contract.time_column or None,
        trim=contract.dialect.trim,
    )


def _kind(classes: list[Any]) -> str:
    if not classes:
        return "number"
    if any(isinstance(each, str) for each in classes):
        return "category"
    return "boolean" if set(classes) <= {0, 1} else "integer" if all(float(each).is_integer() for each in classes) else "number"


def seconds_of(given: Any, form: str | None = None) -> float | None:
    """A moment in seconds since 1970, UTC where it names no zone, to the microsecond; None if it is none."""
    if isinstance(given, datetime | date):
        given = given.isoformat()
    elif type(given) in (int, float) and is_of_numbers(form):
        given = spelled(given)
    moment = read_moment(given, form) if isinstance(given, str) else None
    return None if moment is None else (timegm(moment.timetuple()) * 1_000_000 + moment.microsecond) / 1e6
