"""Drift of one column: a score by Evidently's own tests, over all rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_pipeline.monitoring.comparison import Pair

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Drift:
    """What a test says of one column. A p-value shows drift when it is small, a distance when it is large."""

    method: str
    score: float
    threshold: float
    detected: bool

    @property
    def strength(self) -> float:
        """How far beyond its threshold the score is, as a factor: what columns are ordered by."""
        if self.is_p_value:
            return self.threshold / max(self.score, 1e-300)
        return self.score / self.threshold

    @property
    def is_p_value(self) -> bool:
        return "p_value" in self.method


def drift_of(pair: Pair) -> Drift | None:
    """Score a column with the test that Evidently chooses for its kind and length; None where one side has no value."""
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    if not pair.is_comparable:
        return None
    kind = ColumnType.Numerical if pair.kind == "number" else ColumnType.Categorical
    reference, current = _numbers(pair) if pair.kind == "number" else _codes(pair)
    if not len(reference) or not len(current):
        return None
    test = get_stattest(reference, current, kind, None)
    said = test(reference, current, kind, None)
    score = float(said.drift_score)
    return Drift(test.display_name, score, float(said.actual_threshold), bool(said.drifted)) if math.isfinite(score) else None


def _numbers(pair: Pair) -> tuple[Any, Any]:
    import pandas as pd

    return pd.Series(_finite(pair.reference).to_numpy()), pd.Series(_finite(pair.current).to_numpy())


def _finite(values: pl.Series) -> pl.Series:
    return values.filter(values.is_finite())


def _codes(pair: Pair) -> tuple[Any, Any]:
    """Categories as whole numbers in the order of their names: a sum over them is then the same in every process."""
    import pandas as pd
    import polars as pl

    order = pl.Enum(pl.concat([pair.reference, pair.current]).drop_nulls().unique().sort())
    sides = [side.drop_nulls().cast(order).to_physical().cast(pl.Int64).to_numpy() for side in (pair.reference, pair.current)]
    return pd.Series(sides[0]), pd.Series(sides[1])
