"""Folds of the training rows: by time where the split is, else at random within each class, and rows that belong together never apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.tables.things import equal_rows, things_of

if TYPE_CHECKING:
    import polars as pl

FEW_ROWS = 1_000
"""Below so many rows folds are repeated, at most :data:`MOST_REPEATS` times."""

MANY_ROWS = 10_000
"""From so many rows on, three folds tell enough."""

MANY_VALUES, WIDE_ROWS = 200_000, 5_000
"""From so many values on, rows by columns, three folds do of fewer rows too, and leave time for all candidates.

Of fewer rows than the second they do not: fitted on two thirds of 1,100 rows of 775 columns, linear models say nothing of a fit on all.
"""

MOST_REPEATS = 4
AHEAD = 0.25
"""Folds by time are scored on as many rows as are usually held out: a quarter of those that are fitted on."""

KEPT_OF_A_CLASS = 20
"""When some rows are drawn of many, at least so many of each class are."""


@dataclass(frozen=True)
class Folds:
    """Pairs of row indices, to fit on and to score on; how they were cut, and how many times over."""

    pairs: list[tuple[Any, Any]]
    kind: str
    repeats: int

    @property
    def times(self) -> float:
        """How many times over a row is scored, on average: by time too, where folds that begin one after another share rows."""
        scored = [rows for _, rows in self.pairs]
        return sum(map(len, scored)) / len(np.unique(np.concatenate(scored))) if scored else 1.0


def folds_of(settings: Settings, table: pl.DataFrame, x: Any, y: Any, rows: int) -> Folds:
    """Folds of so many of the rows, which follow from the seed.

    Without pairs if the rows are too few, or no fold has two classes to fit on.
    """
    is_wide = len(y) >= WIDE_ROWS and x.shape[1] * len(y) >= MANY_VALUES
    count = 3 if len(y) >= MANY_ROWS or is_wide else 5
    classes = has_classes(settings.dataset.task)
    if settings.split.kind == "time":
        order, moments = in_time(settings, table)
        some = np.unique(np.linspace(0, len(order) - 1, rows).astype(int))
        pairs = list(_by_time(order[some], moments[some], count))
        found = Folds(pairs, f"{len(pairs)} by time", 1)
    else:
        chosen = _drawn(y, rows, settings.seed, classes=classes)
        repeats = max(1, min(MOST_REPEATS, FEW_ROWS // max(rows, 1)))
        groups = kept_together(settings, table[chosen], y[chosen])
        pairs = [pair for turn in range(repeats) for pair in _at_random(y, chosen, groups, count, settings.seed + turn, classes=classes)]
        found = Folds(pairs, f"{count} at random{_kept(settings) if groups is not None else ''}", repeats)
    if classes:
        found = Folds([pair for pair in found.pairs if len(set(y[pair[0]].tolist())) > 1], found.kind, found.repeats)
    return found


def in_time(settings: Settings, table: pl.DataFrame) -> tuple[Any, Any]:
    """Places of rows in the order of their moments, those of one in the table's order, and a number for the moment of each, rising."""
    ranks = table[str(settings.dataset.time_column)].rank("dense").fill_null(0).cast(int).to_numpy()
    order = np.argsort(ranks, kind="stable")
    return order, ranks[order]


def start_of_moment(moments: Any, start: int) -> int:
    """Where, at a place or before it, the first row of its moment stands; after the moment, if it is the first one of all.

    A split by time has no moment on both sides. ``moments`` rise.
    """
    first = int(np.searchsorted(moments, moments[start], side="left"))
    return first or int(np.searchsorted(moments, moments[start], side="right"))


def forward(moments: Any, count: int) -> Iterator[tuple[int, int]]:
    """Where rows to be scored begin and end, of at most so many folds of rows whose ``moments`` rise; all before are fitted on.

    Raises :class:`ValueError` of fewer rows than it takes.
    """
    from sklearn.model_selection import TimeSeriesSplit

    for _, scored in TimeSeriesSplit(count).split(moments):
        start, end = start_of_moment(moments, scored[0]), int(scored[-1]) + 1
        if start < end:
            yield start, end


def _by_time(order: Any, moments: Any, count: int) -> Iterator[tuple[Any, Any]]:
    """Fitted on half of the rows or more, since who wins on a few early ones says little of a fit on all; scored as far ahead as
    held-out rows lie, since trends that carry on for a month may not for three. No moment is on both sides."""
    if len(order) < 3:
        return
    ahead = max(1, round(AHEAD * len(order)))
    starts = np.unique(np.linspace(len(order) // 2, len(order) - ahead, count).astype(int))
    for start in sorted({start_of_moment(moments, place) for place in starts.tolist()}):
        if start < len(order):
            yield order[:start], order[start : start + ahead]


def _drawn(y: Any, rows: int, seed: int, *, classes: bool) -> Any:
    """So many rows at random, and some of every class; in their order."""
    if rows >= len(y):
        return np.arange(len(y))
    order = np.random.default_rng(seed).permutation(len(y))
    wanted = np.zeros(len(y), dtype=bool)
    wanted[order[:rows]] = True
    if classes:
        for value in set(y.tolist()):
            wanted[order[y[order] == value][:KEPT_OF_A_CLASS]] = True
    return np.flatnonzero(wanted)


def _kept(settings: Settings) -> str:
    names = " and ".join(map(repr, settings.split.together))
    return f", rows of one {names} together" if names else ", equal rows together"


def kept_together(settings: Settings, table: pl.DataFrame, y: Any) -> Any:
    """A number for each row, shared by those that are never parted: of one thing, or equal; None if none are."""
    things = things_of(table, settings)
    if things is None:
        return equal_rows(table, y, settings)
    _, groups = np.unique(things, return_inverse=True)
    return groups if groups.max(initial=-1) + 1 < len(things) else None


def cutter(groups: Any, count: int, seed: int, *, classes: bool) -> Any:
    """What cuts rows into folds at random, with the same share of each class, and equal rows never apart."""
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    if groups is None:
        return (StratifiedKFold if classes else KFold)(count, shuffle=True, random_state=seed)
    return (StratifiedGroupKFold if classes else GroupKFold)(count, shuffle=True, random_state=seed)


def _at_random(y: Any, chosen: Any, groups: Any, count: int, seed: int, *, classes: bool) -> Iterator[tuple[Any, Any]]:
    labels = np.unique(y[chosen].astype(str), return_inverse=True)[1] if classes else np.zeros(len(chosen))
    apart = len(chosen) if groups is None else int(groups.max()) + 1
    most = int(np.bincount(labels).max()) if classes else apart
    count = min(count, apart, most)
    if count < 2:  # a row, or rows that are all equal, or no class twice
        return
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for fitted, scored in cutter(groups, count, seed, classes=classes).split(np.zeros(len(chosen)), labels, groups):
            if len(fitted) and len(scored):
                yield chosen[fitted], chosen[scored]
