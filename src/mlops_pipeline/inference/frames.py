"""Rows of a table on their way to a model: the same rules as for a request's, a whole column at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mlops_pipeline.contract.moments import EXACTLY, WRITTEN
from mlops_pipeline.contract.spec import Column
from mlops_pipeline.contract.values import MISSING, category_of
from mlops_pipeline.inference.faults import Fault, Refused
from mlops_pipeline.inference.signature import Rows, Signature, null_fault, wrong_type
from mlops_pipeline.tables.cast import are_there, as_numbers, as_text, cast_columns, spelled_moments, without_words
from mlops_pipeline.tables.source import without_blanks

if TYPE_CHECKING:
    import polars as pl

SHOWN_CATEGORIES = 3


@dataclass
class Unseen:
    """Values of one column that training has not seen: how many, and a few of those that may be told."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: Unseen) -> None:
        self.count += other.count
        self.examples += [one for one in other.examples if one not in self.examples]
        del self.examples[SHOWN_CATEGORIES:]


@dataclass(frozen=True)
class TakenRows:
    """A table's rows: those that the model takes, which they are of all (bool), and the first fault of each other one, by row."""

    rows: Rows
    taken: np.ndarray
    faults: list[Fault]
    unseen: dict[str, Unseen]
    absent: tuple[str, ...]
    """Columns that may be null and are not there: null in every row."""
    far: dict[str, int]
    """How many values of the rows taken are far outside what training saw, by column."""


def judged(table: pl.DataFrame, signature: Signature) -> TakenRows:
    """Look at every row of a table by the model's signature; other columns of the table mean nothing.

    Raises :class:`Refused` if a column is missing that has to be there, or if none of the model's columns is there.
    """
    given = set(table.columns)
    absent = tuple(name for name in signature.names if name not in given)
    needed = [name for name in absent if not signature.columns[name].nullable]
    if needed or len(absent) == len(signature.names):
        name = (needed or list(absent))[0]
        what = f"column '{name}' is missing: the model needs {', '.join(signature.names)}"
        raise Refused(422, [Fault("missing_column", what, None, name)])
    split = len(signature.numbers)
    wrong, broken = (np.zeros((table.height, len(signature.names)), dtype=bool) for _ in range(2))
    unseen: dict[str, Unseen] = {}
    spelled: dict[str, pl.Series] = {}
    numbers = np.full((table.height, split), np.nan) if split else None
    categories = np.full((table.height, len(signature.categories)), MISSING, dtype=object) if signature.categories else None
    for place, name in enumerate(signature.names):
        if name not in given:
            continue
        values, column, words = table[name], signature.columns[name], signature.words_for_null(name)
        values = without_blanks(values) if name in signature.trimmed else values
        if numbers is not None and place < split:
            numbers[:, place], wrong[:, place] = _numbers(values, signature, place)
        elif categories is not None and column.kind == "datetime":
            values = spelled_moments(values, column.format)
            moments, lost = _moments(values, signature, column, words)
            # What a text means is looked at after the bounds of numbers, as a request's is.
            (broken if _is_text(values) else wrong)[:, place] = lost
            broken[:, place] |= moments.is_null().to_numpy() & (not column.nullable)
            categories[:, place - split] = moments.fill_null(MISSING).to_numpy()
        elif categories is not None and (column.kind == "text" or name not in signature.seen) and _has_text(values):
            texts = without_words(as_text(values), words)
            broken[:, place] = texts.is_null().to_numpy() & (not column.nullable)
            categories[:, place - split] = texts.fill_null(MISSING).to_numpy()
        elif categories is not None and _has_text(values):
            meant, new = _meant(values, signature, name)
            if new.count:
                unseen[name], spelled[name] = new, meant
            broken[:, place] = meant.is_null().to_numpy() & (not column.nullable)
            categories[:, place - split] = meant.fill_null(MISSING).to_numpy()
        else:
            wrong[:, place] = values.is_not_null().to_numpy()
    if numbers is not None:
        broken[:, :split] |= signature.broken(numbers)
    taken = np.logical_not((wrong | broken).any(axis=1))
    faults = [_fault(table, signature, int(row), numbers, wrong[row], broken[row]) for row in np.flatnonzero(~taken)]
    if faults:  # what is refused is told by itself
        least = signature.least_told
        unseen = {name: meant_by(meant.filter(taken), signature.seen[name], (), least)[1] for name, meant in spelled.items()}
    rows = Rows(
        int(np.count_nonzero(taken)),
        None if numbers is None else numbers[taken].astype(signature.precision),
        None if categories is None else categories[taken],
    )
    return TakenRows(rows, taken, faults, {name: new for name, new in unseen.items() if new.count}, absent, _far(numbers, taken, signature))


def _numbers(values: pl.Series, signature: Signature, place: int) -> tuple[np.ndarray, np.ndarray]:
    """A column of numbers as float64, NaN for null, and where it has a value that is none."""
    import polars as pl

    name = signature.numbers[place]
    column, words = signature.columns[name], signature.words_for_null(name)
    read = as_numbers(values, column.kind, words, column.format)
    wrong = (are_there(values, column.kind, words) & read.is_null()).to_numpy()
    numbers = read.to_numpy()
    return (signature.widened(place, numbers.astype(np.float32)) if values.dtype == pl.Float32 else numbers), wrong


def _moments(values: pl.Series, signature: Signature, column: Column, words: Collection[str]) -> tuple[pl.Series, np.ndarray]:
    """A column of moments as text, null for what is none, and where it has a value that is none."""
    moments = as_moments(values, column, words, EXACTLY if signature.wide else WRITTEN)
    return moments, (are_there(values, column.kind, words) & moments.is_null()).to_numpy()


def _is_text(values: pl.Series) -> bool:
    import polars as pl

    return values.dtype in (pl.String, pl.Categorical, pl.Enum)


def _far(numbers: np.ndarray | None, taken: np.ndarray, signature: Signature) -> dict[str, int]:
    if numbers is None or not signature.ranges:
        return {}
    counts = signature.far(numbers)[taken].sum(axis=0)
    return {name: int(count) for name, count in zip(signature.numbers, counts, strict=True) if count}


def meant_by(texts: pl.Series, seen: Collection[str], null_words: Collection[str], least: int = 1) -> tuple[pl.Series, Unseen]:
    """The categories that texts mean, null for null, and what of them training has not seen, with examples that ``least`` rows have."""
    import polars as pl

    known, number = texts.value_counts(name="\0count").get_columns()
    meant = [None if text is None else category_of(text, seen, null_words) for text in known]
    new = [(one, count) for one, count in zip(meant, number, strict=True) if one is not None and one not in seen]
    unseen = Unseen(sum(count for _, count in new), sorted(one for one, count in new if count >= least)[:SHOWN_CATEGORIES])
    if all(one == text for one, text in zip(meant, known, strict=True)):
        return texts, unseen
    return texts.replace_strict(known, pl.Series(meant, dtype=pl.String), return_dtype=pl.String), unseen


def _meant(values: pl.Series, signature: Signature, name: str) -> tuple[pl.Series, Unseen]:
    """The categories that values mean; texts of a source's rows mean what they say, as the recipe finds keys by it in training, too."""
    seen, words, texts = signature.seen[name], signature.words_for_null(name), as_text(values)
    if not signature.wide:
        return meant_by(texts, seen, words, signature.least_told)
    if not _is_text(values):
        return meant_by(texts, seen, words)[0], Unseen()
    return texts.set(texts.is_in([word for word in words if word not in seen]), None), Unseen()


def as_moments(values: pl.Series, column: Column, null_words: Collection[str], written: str = WRITTEN) -> pl.Series:
    """A column of moments as text, as models take it; null for what is none."""
    return as_kind(values, column, null_words).dt.to_string(written).str.strip_suffix(".000000")


def as_kind(values: pl.Series, column: Column, null_words: Collection[str]) -> pl.Series:
    """A column as training reads it (``tables.cast.cast_columns``)."""
    return cast_columns(values.to_frame(), {values.name: column}, null_words)[values.name]


def _fault(table: pl.DataFrame, signature: Signature, row: int, numbers: np.ndarray | None, wrong: np.ndarray, broken: np.ndarray) -> Fault:
    """The first fault of a row: a value of the wrong type before one that breaks a bound, as a request is looked at."""
    place = int((wrong if wrong.any() else broken).argmax())
    name = signature.names[place]
    if wrong.any():
        # A moment beyond the year 9999 has no value in Python.
        value = (as_text(table[name].gather([row])) if table[name].dtype.is_temporal() else table[name].gather([row]))[0]
        return wrong_type(row, name, value.to_list() if hasattr(value, "to_list") else value, signature.columns[name])
    if numbers is None or place >= len(signature.numbers):
        column, value = signature.columns[name], table[name].gather([row])
        is_there = column.kind == "datetime" and are_there(value, column.kind, signature.words_for_null(name))[0]
        return wrong_type(row, name, value[0], column) if is_there else null_fault(row, name)
    return signature.fault(row, place, numbers[row, place])


def _has_text(values: pl.Series) -> bool:
    """Whether a column's values can be spelled."""
    import polars as pl

    kind = values.dtype
    return not (kind.is_nested() or kind in (pl.Binary, pl.Object) or isinstance(kind, pl.BaseExtension))
