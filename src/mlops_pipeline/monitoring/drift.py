"""Drift of columns: a score by Evidently's own tests, over all rows, and whether chance alone would make as much of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlops_pipeline.monitoring.measured import LEAST_EFFECT, LEAST_ROWS, Limits, TextDrift
from mlops_pipeline.monitoring.pairs import Pair
from mlops_pipeline.monitoring.statistics import LEAST_DEVIATION, adjusted, chi_squared, jensen_shannon, kolmogorov_smirnov_of, share_p

SIGNIFICANCE = 0.05
FEW_VALUES = 5
"""Numbers of so few values are tested as categories, as Evidently does."""

LOST = "share of values lost"
EMBEDDINGS, NEW_WORDS, FORMS = "distance of mean embeddings", "growth of new words", "distance of scripts and lengths"
"""How texts are compared."""


@dataclass(frozen=True)
class Drift:
    """What a test says of one column. A p-value shows drift when it is small, a distance when it is large.

    ``beyond``: whether the score is beyond its threshold. ``p`` is of the Kolmogorov-Smirnov or the chi-squared test, ``p_adjusted``
    corrected for all columns (NaN as long as it is not); ``detected`` needs both, and an effect.
    """

    method: str
    score: float
    threshold: float
    beyond: bool
    p: float = math.nan
    effect: float = math.inf
    p_adjusted: float = math.nan
    detected: bool = False

    @property
    def strength(self) -> float:
        """How far beyond its threshold the score is, as a factor: what columns are ordered by."""
        if self.method == LOST:
            return math.inf
        if self.is_p_value:
            return self.threshold / max(self.score, 1e-300)
        return self.score / max(self.threshold, 1e-300)

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
        before, now = pair.reference.null_count(), pair.current.null_count()
        return Drift(LOST, 1.0, 1.0, beyond=True, p=share_p(before, len(pair.reference), now, len(pair.current)))
    kind = ColumnType.Numerical if pair.kind == "number" else ColumnType.Categorical
    reference, current = _numbers(pair) if pair.kind == "number" else _codes(pair)
    if not len(reference):
        return None
    test = get_stattest(reference, current, kind, None)
    said = test(reference, current, kind, None)
    found = Drift(test.display_name, float(said.drift_score), float(said.actual_threshold), bool(said.drifted))
    sides = reference.to_numpy(), current.to_numpy()
    counted = pair.kind == "category" or len(np.unique(np.concatenate(sides))) <= FEW_VALUES
    # A distance beyond its limit is an effect already.
    return replace(found, p=_p_value(*sides, counted), effect=_effect(*sides, counted) if found.is_p_value else math.inf)


def drift_of_texts(texts: TextDrift, limits: Limits) -> Drift | None:
    """Of three questions, new words, moved embeddings, and scripts and lengths, the one that says most, its p-value times three.

    Scripts and lengths are told where the others find nothing: these say more. None where nothing was asked.
    """
    asked = []
    if texts.distance is not None and texts.distance_p is not None:
        asked.append(_asked(EMBEDDINGS, texts.distance, limits.text_distance, texts.distance_p))
    if texts.unseen_p is not None:
        asked.append(_asked(NEW_WORDS, texts.unseen - texts.unseen_before, limits.unseen_words, texts.unseen_p))
    forms = [] if texts.forms is None or texts.forms_p is None else [_asked(FORMS, texts.forms, limits.effect, texts.forms_p)]
    sure, sure_forms = ([each for each in some if each.beyond and each.p < SIGNIFICANCE] for some in (asked, forms))
    return max(sure or sure_forms or asked or forms, key=lambda each: each.strength, default=None)


def _asked(method: str, found: float, limit: float, p: float) -> Drift:
    return Drift(method, found, limit, found > limit, p=min(1.0, 3 * p))


def decided(drifts: Sequence[Drift | None], rows: int) -> list[Drift | None]:
    """Which columns drifted: beyond the limit, by more than chance makes of so many columns, and in rows enough to tell."""
    corrected = adjusted([math.nan if drift is None else drift.p for drift in drifts])
    return [
        None
        if drift is None
        else replace(
            drift,
            p_adjusted=float(p),
            detected=drift.beyond and rows >= LEAST_ROWS and bool(p < SIGNIFICANCE) and drift.effect > LEAST_EFFECT,
        )
        for drift, p in zip(drifts, corrected, strict=True)
    ]


def _p_value(reference: Any, current: Any, counted: bool) -> float:
    """Of the Kolmogorov-Smirnov test, or, where values are counted, of the chi-squared one."""
    if not counted:
        return kolmogorov_smirnov_of(reference, current)[1]
    p = chi_squared(*_counts(reference, current))[1]
    return 1.0 if math.isnan(p) else p


def _effect(reference: Any, current: Any, counted: bool) -> float:
    """A Jensen-Shannon or a normed Wasserstein distance."""
    from scipy.stats import wasserstein_distance

    if counted:
        return jensen_shannon(*_counts(reference, current))
    return float(wasserstein_distance(reference, current)) / max(float(np.std(reference)), LEAST_DEVIATION)


def _counts(reference: Any, current: Any) -> tuple[Any, Any]:
    values, places = np.unique(np.concatenate([reference, current]), return_inverse=True)
    before, now = (np.bincount(side, minlength=len(values)) for side in np.split(places, [len(reference)]))
    return before, now


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
