"""Rows of a table on their way to a model: the same rules as for a request's, a whole column at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mlops_pipeline.contract.values import MISSING, category_of
from mlops_pipeline.inference.faults import Fault, Refused
from mlops_pipeline.inference.signature import Rows, Signature, null_fault, wrong_type
from mlops_pipeline.tables.cast import are_there, as_numbers, as_text

if TYPE_CHECKING:
    import polars as pl

SHOWN_CATEGORIES = 3


@dataclass
class Unseen:
    """Values of one column that training has not seen: how many, and a few of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: Unseen) -> None:
        self.count += other.count
        self.examples += [one for one in other.examples if one not in self.examples]
        del self.examples[SHOWN_CATEGORIES:]


@dataclass(frozen=True)
class Judged:
    """A table's rows: those that the model takes, which they are of all (bool), and the first fault of each other one, by row."""

    rows: Rows
    taken: np.ndarray
    faults: list[Fault]
    unseen: dict[str, Unseen]
    absent: tuple[str, ...]
    """Columns that may be null and are not there: null in every row."""


def judged(table: pl.DataFrame, signature: Signature) -> Judged:
    """Look at every row of a table by the model's signature; other columns of the table mean nothing.

    Raises :class:`Refused` if a column is missing that has to be there, or if none of the model's columns is there.
    """
    absent = tuple(name for name in signature.names if name not in table.columns)
    needed = [name for name in absent if not signature.columns[name].nullable]
    if needed or len(absent) == len(signature.names):
        name = (needed or list(absent))[0]
        what = f"column '{name}' is missing: the model needs {', '.join(signature.names)}"
        raise Refused(422, [Fault("missing_column", what, None, name)])
    words, wrong = signature.null_words, np.zeros((table.height, len(signature.names)), dtype=bool)
    unseen: dict[str, Unseen] = {}
    numbers = np.full((table.height, len(signature.numbers)), np.nan) if signature.numbers else None
    for place, name in enumerate(signature.numbers):
        if numbers is not None and name not in absent:
            read = as_numbers(table[name], signature.columns[name].kind, words)
            wrong[:, place] = (are_there(table[name], signature.columns[name].kind, words) & read.is_null()).to_numpy()
            numbers[:, place] = read.to_numpy()
    split = len(signature.numbers)
    categories = np.full((table.height, len(signature.categories)), MISSING, dtype=object) if signature.categories else None
    for place, name in enumerate(signature.categories):
        if categories is None or name in absent:
            continue
        if not _has_text(table[name]):
            wrong[:, split + place] = table[name].is_not_null().to_numpy()
            continue
        meant = _meant(as_text(table[name]), signature, name, unseen)
        wrong[:, split + place] = meant.is_null().to_numpy() & (not signature.columns[name].nullable)
        categories[:, place] = meant.fill_null(MISSING).to_numpy()
    bad = wrong.copy()
    if numbers is not None:
        bad[:, :split] |= signature.broken(numbers)
    taken = np.logical_not(bad.any(axis=1))
    faults = [_fault(table, signature, int(row), int(bad[row].argmax()), numbers, wrong) for row in np.flatnonzero(~taken)]
    rows = Rows(
        int(np.count_nonzero(taken)),
        None if numbers is None else numbers[taken].astype(signature.precision),
        None if categories is None else categories[taken],
    )
    return Judged(rows, taken, faults, unseen, absent)


def _meant(texts: pl.Series, signature: Signature, name: str, unseen: dict[str, Unseen]) -> pl.Series:
    """The categories that texts mean, null for null; those that training has not seen are counted."""
    import polars as pl

    seen = signature.seen[name]
    counts = texts.value_counts(name="count" if texts.name != "count" else "counts")
    known, number = counts.get_columns()
    meant = [None if text is None else category_of(text, seen, signature.null_words) for text in known]
    new = [(one, count) for one, count in zip(meant, number, strict=True) if one is not None and one not in seen]
    if new:
        unseen[name] = Unseen(sum(count for _, count in new), sorted(one for one, _ in new)[:SHOWN_CATEGORIES])
    if all(one == text for one, text in zip(meant, known, strict=True)):
        return texts
    return texts.replace_strict(known, pl.Series(meant, dtype=pl.String), return_dtype=pl.String)


def _fault(table: pl.DataFrame, signature: Signature, row: int, place: int, numbers: np.ndarray | None, wrong: np.ndarray) -> Fault:
    name = signature.names[place]
    if not wrong[row, place]:
        assert numbers is not None  # noqa: S101  # only a number breaks a bound
        return signature.fault(row, place, numbers[row, place])
    if place >= len(signature.numbers) and _has_text(table[name]):
        return null_fault(row, name)
    value = table[name][row]
    return wrong_type(row, name, value.to_list() if hasattr(value, "to_list") else value, signature.columns[name].kind)


def _has_text(values: pl.Series) -> bool:
    """Whether a column's values can be spelled."""
    import polars as pl

    return not (values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object))
