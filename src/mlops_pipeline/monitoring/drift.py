"""Drift of one column: a score by Evidently's own tests, over all rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mlops_pipeline.monitoring.pairs import Pair

LOST = "share of values lost"


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
        if self.method == LOST:
            return math.inf
        if self.is_p_value:
            return self.threshold / max(self.score, 1e-300)
        return self.score / self.threshold

    @property
    def is_p_value(self) -> bool:
        return "p_value" in self.method


def drift_of(pair: Pair) -> Drift | None:
    """Score a column with the test that Evidently chooses for its kind and length; None where the reference has no value."""
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    if not pair.is_comparable:
        return None
    if pair.is_lost:
        # No test takes an empty side, yet no column has moved further than one that is gone: it counts.
        return Drift(LOST, 1.0, 1.0, detected=True)
    kind = ColumnType.Numerical if pair.kind == "number" else ColumnType.Categorical
    reference, current = _numbers(pair) if pair.kind == "number" else _codes(pair)
    if not len(reference):
        return None
    test = get_stattest(reference, current, kind, None)
    said = test(reference, current, kind, None)
    return Drift(test.display_name, float(said.drift_score), float(said.actual_threshold), bool(said.drifted))


def _numbers(pair: Pair) -> tuple[Any, Any]:
    import pandas as pd

    return pd.Series(pair.reference.drop_nulls().to_numpy()), pd.Series(pair.current.drop_nulls().to_numpy())


def _codes(pair: Pair) -> tuple[Any, Any]:
    """Categories as whole numbers in the order of their names: a sum over them is then the same in every process."""
    import pandas as pd
    import polars as pl

    order = pl.Enum(pl.concat([pair.reference, pair.current]).drop_nulls().unique().sort())
    sides = [side.drop_nulls().cast(order).to_physical().cast(pl.Int64).to_numpy() for side in (pair.reference, pair.current)]
    return pd.Series(sides[0]), pd.Series(sides[1])
