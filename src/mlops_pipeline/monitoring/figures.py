"""The figures of a report: counts and scores, from every row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.monitoring.drift import LOST, Drift, decided, drift_of, drift_of_texts
from mlops_pipeline.monitoring.measured import LEAST_ROWS, TextDrift
from mlops_pipeline.monitoring.pairs import Pair, listed
from mlops_pipeline.monitoring.texts import Reading

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class ColumnFigures:
    """One column: how many values each side lacks, and its drift (None where there is nothing to compare)."""

    pair: Pair
    drift: Drift | None
    texts: TextDrift | None = None

    @property
    def missing(self) -> tuple[int, int]:
        return self.pair.reference.null_count(), self.pair.current.null_count()

    @property
    def missing_shares(self) -> tuple[float, float]:
        reference, current = self.missing
        return reference / len(self.pair.reference), current / len(self.pair.current)


@dataclass(frozen=True)
class Quantile:
    """One quantile of one column, by linear interpolation; None on a side without a value."""

    column: str
    quantile: float
    reference: float | None
    current: float | None


@dataclass(frozen=True)
class Figures:
    """All columns, and whether the dataset has drifted: when at least ``drift_share`` of those that were scored have."""

    columns: tuple[ColumnFigures, ...]
    rows: tuple[int, int]
    drift_share: float
    quantile: Quantile | None

    @property
    def scored(self) -> list[ColumnFigures]:
        return [column for column in self.columns if column.drift is not None]

    @property
    def drifted(self) -> list[ColumnFigures]:
        """The columns that drifted, the strongest first."""
        return sorted((c for c in self.columns if c.drift is not None and c.drift.detected), key=by_strength)

    @property
    def share_drifted(self) -> float:
        return len(self.drifted) / len(self.scored) if self.scored else 0.0

    @property
    def has_drifted(self) -> bool:
        return bool(self.scored) and self.share_drifted >= self.drift_share

    def summary(self) -> dict[str, Any]:
        """The figures as plain values, reference beside current."""
        return {
            "rows": {"reference": self.rows[0], "current": self.rows[1]},
            "dataset_drift": self.has_drifted,
            "drifted_columns": [column.pair.name for column in self.drifted],
            "share_of_drifted_columns": self.share_drifted,
            "drift_share": self.drift_share,
            "columns": {column.pair.name: _column(column) for column in self.columns},
            "quantile": None
            if self.quantile is None
            else {
                "column": self.quantile.column,
                "quantile": self.quantile.quantile,
                "reference": self.quantile.reference,
                "current": self.quantile.current,
            },
        }


def figures_of(
    pairs: list[Pair],
    rows: tuple[int, int],
    drift_share: float,
    quantile: Quantile | None,
    target: str,
    notes: list[str],
    advance: Callable[[], object],
    reading: Reading,
) -> Figures:
    """Score every column, calling ``advance`` after each; which ones have no usual score is added to ``said``."""
    drifts, read = [], {}
    for pair in pairs:
        # What came of a prediction is known later than the prediction: a target that is not there yet has not drifted.
        awaited = pair.name == target and pair.is_lost
        if pair.kind == "prose" and not pair.is_lost and (texts := reading.of(pair)) is not None:
            read[pair.name] = texts
            drifts.append(drift_of_texts(texts, reading.limits))
        else:
            drifts.append(None if awaited else drift_of(pair))
        advance()
    decisions = decided(drifts, min(rows))
    columns = [ColumnFigures(pair, drift, read.get(pair.name)) for pair, drift in zip(pairs, decisions, strict=True)]
    notes += [f"{name}: {texts.note}" for name, texts in read.items() if texts.note]
    notes += _unusual(columns)
    notes += _by_chance(columns, min(rows))
    return Figures(tuple(columns), rows, drift_share, quantile)


def _unusual(columns: list[ColumnFigures]) -> list[str]:
    unscored = [column for column in columns if column.pair.is_comparable and column.drift is None and column.texts is None]
    found = {
        "no value in the current data: counts as drifted": [
            c for c in columns if c.drift is not None and c.drift.method == LOST and c.drift.detected
        ],
        "no value in the current data yet: not counted in the drift": [c for c in unscored if c.pair.is_lost],
        "no value in the reference: not counted in the drift": [c for c in unscored if not c.pair.is_lost],
    }
    return [f"{listed([column.pair.name for column in those])}: {why}" for why, those in found.items() if those]


def _by_chance(columns: list[ColumnFigures], rows: int) -> list[str]:
    """Why columns beyond their limit have not drifted all the same."""
    beyond = [column.pair.name for column in columns if column.drift is not None and column.drift.beyond and not column.drift.detected]
    if not beyond:
        return []
    if rows < LEAST_ROWS:
        return [f"too few rows ({rows:,}; {LEAST_ROWS} are the least): {listed(beyond)}: beyond the limit, and not called drifted"]
    return [f"{listed(beyond)}: beyond the limit, but among {len(columns)} columns that may be chance or too little: not called drifted"]


def quantile_of(
    pairs: list[Pair], column: str | None, quantile: float, default: str, besides: tuple[str, ...], notes: list[str]
) -> Quantile | None:
    """A quantile of the named column; where the default is absent, of the first column of numbers, said aloud if it was named."""
    numbers = [pair for pair in pairs if pair.kind == "number"]
    named = next((pair for pair in pairs if pair.name == (column or default)), None)
    if column in (None, default) and (named is None or named.kind != "number"):
        named = next((pair for pair in numbers if pair.name not in besides), None)
        if named is None:
            notes.append(f"no column '{column}' of numbers, and no other: no quantile" if column else "no column of numbers: no quantile")
            return None
        if column:
            notes.append(f"no column '{column}' of numbers: the quantile is that of '{named.name}', the first column that has some")
    if named is None:
        raise PipelineError(f"quantile_column '{column}' is not in both tables: they share {listed([pair.name for pair in pairs], 40)}")
    if named.kind != "number":
        choices = listed([pair.name for pair in numbers], 40)
        raise PipelineError(
            f"quantile_column '{column}' holds no numbers: " + (f"choose one of {choices}" if choices else "no column does")
        )
    return Quantile(named.name, quantile, _quantile(named.reference, quantile), _quantile(named.current, quantile))


def _quantile(values: pl.Series, quantile: float) -> float | None:
    found = values.quantile(quantile, interpolation="linear")
    return None if found is None else float(found)


def by_strength(column: ColumnFigures) -> float:
    """Where a column stands among others: those that moved furthest come first."""
    return -column.drift.strength if column.drift is not None else 0.0


def _column(column: ColumnFigures) -> dict[str, Any]:
    counts, shares, drift = column.missing, column.missing_shares, column.drift
    return {
        "kind": column.pair.kind,
        "missing": {"reference": counts[0], "current": counts[1]},
        "missing_share": {"reference": shares[0], "current": shares[1]},
        "drift": None
        if drift is None
        else {
            "method": drift.method,
            "score": drift.score,
            "threshold": drift.threshold,
            "p_adjusted": drift.p_adjusted,
            "detected": drift.detected,
        },
        **({} if column.texts is None else {"texts": msgspec.to_builtins(column.texts)}),
    }
