"""Distributions for the page: shares of rows, reference beside current, from a sample where there are many rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_pipeline.contract.privacy import MIN_LEVEL_ROWS
from mlops_pipeline.inference.ngrams import words_of
from mlops_pipeline.modelling.text_facts import length_of
from mlops_pipeline.monitoring.pairs import Pair

if TYPE_CHECKING:
    import polars as pl

MAX_BARS = 30
FEW_VALUES = 20
REFERENCE_COLOR, CURRENT_COLOR = "#8b9bb0", "#c8102e"


@dataclass(frozen=True)
class Bars:
    """One axis for both sides: its labels, and each side's share of its rows that have a value."""

    labels: list[Any]
    reference: list[float]
    current: list[float]


@dataclass(frozen=True)
class Sample:
    """Which rows are drawn: all, or so many of each side, by a fixed seed and in the table's order."""

    rows: int
    seed: int

    def of(self, values: pl.Series) -> pl.Series:
        import polars as pl

        if len(values) <= self.rows:
            return values
        chosen = pl.int_range(len(values), eager=True).sample(self.rows, seed=self.seed).sort()
        return values.gather(chosen)


def bars_of(pair: Pair, sample: Sample) -> Bars:
    """The distribution of a column of numbers or categories on both sides; of texts how many words they have."""
    reference, current = (sample.of(side).drop_nulls() for side in (pair.reference, pair.current))
    if pair.kind == "prose":
        return _lengths(reference, current)
    return _histogram(reference, current) if pair.kind == "number" else _counts(reference, current)


def _lengths(reference: pl.Series, current: pl.Series) -> Bars:
    counts = [[len(words_of(text)) for text in side] for side in (reference, current)]
    names = list(dict.fromkeys(map(length_of, sorted({*counts[0], *counts[1]}))))
    sides = [Counter(map(length_of, side)) for side in counts]
    shares = [[side[name] / max(sum(side.values()), 1) for name in names] for side in sides]
    return Bars([f"{name} words" for name in names], shares[0], shares[1])


def _histogram(reference: pl.Series, current: pl.Series) -> Bars:
    import numpy as np
    import polars as pl

    both = pl.concat([reference, current])
    if both.n_unique() <= FEW_VALUES:
        return _counts(reference, current)
    edges = np.histogram_bin_edges(both.to_numpy(), "sturges")
    edges = np.linspace(edges[0], edges[-1], min(len(edges) - 1, MAX_BARS) + 1)
    shares = [(np.histogram(side.to_numpy(), edges)[0] / max(len(side), 1)).tolist() for side in (reference, current)]
    return Bars([float(f"{middle:.5g}") for middle in (edges[:-1] + edges[1:]) / 2], shares[0], shares[1])


def _counts(reference: pl.Series, current: pl.Series) -> Bars:
    """A bar a value; beyond the most frequent ones, and for texts that few rows have, one bar for the rest."""
    counts = [dict(zip(*side.value_counts().get_columns(), strict=True)) for side in (reference, current)]
    shares = [
        {value: count / max(len(side), 1) for value, count in c.items()} for c, side in zip(counts, (reference, current), strict=True)
    ]
    values = sorted({*shares[0], *shares[1]}, key=lambda value: (-(shares[0].get(value, 0) + shares[1].get(value, 0)), str(value)))
    shown = values[: MAX_BARS - 1] if len(values) > MAX_BARS else values
    if not reference.dtype.is_numeric():
        both = {value: sum(side.get(value, 0) for side in counts) for value in shown}
        shown = [value for value in shown if both[value] >= MIN_LEVEL_ROWS]
    rest = [value for value in values if value not in set(shown)]
    if reference.dtype.is_numeric():
        shown = sorted(shown)
    made = [[side.get(value, 0.0) for value in shown] for side in shares]
    if rest:
        made = [[*row, sum(side.get(value, 0.0) for value in rest)] for row, side in zip(made, shares, strict=True)]
    names = [f"{value:g}" if isinstance(value, float) else str(value) for value in shown]
    return Bars([*names, *([f"{len(rest)} others"] if rest else [])], made[0], made[1])
