"""Encoders of our own: transformers that a saved model is made of, where scikit-learn has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

if TYPE_CHECKING:
    from typing import Self

DAY_S = 86_400.0
YEAR_DAYS = 365.25


class Moments(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Columns of moments, as text, to numbers: days since the year of training's first began, and parts of the calendar.

    Of these, those count that training has seen turn: the month once training spans a year, the weekday once it spans two weeks,
    the hour if moments have one. With ``cyclic`` a part is its sine and cosine, for linear models. A text that is no
    moment is missing: NaN in every part.
    """

    def __init__(self, *, cyclic: bool = False) -> None:
        self.cyclic = cyclic

    def fit(self, x: Any, _y: Any = None) -> Self:
        """Note each column's first year, for the first moment itself is a row's own value, and which parts of the calendar it has."""
        values = np.asarray(x, dtype=object)
        self.n_features_in_ = values.shape[1]
        self.first_: list[float] = []
        self.parts_: list[list[str]] = []
        for place in range(values.shape[1]):
            seconds = _seconds(values[:, place])
            known = seconds[~np.isnan(seconds)]
            span = float(known.max() - known.min()) / DAY_S if len(known) else 0.0
            self.first_.append(_year_of(float(known.min())) if len(known) else 0.0)
            turning = (("month", span >= YEAR_DAYS), ("weekday", span >= 14), ("hour", bool((known % DAY_S).any())))
            self.parts_.append([name for name, seen in turning if seen])
        return self

    def transform(self, x: Any) -> Any:
        """Shape (rows, parts of all columns), float64."""
        values = np.asarray(x, dtype=object)
        found: list[Any] = []
        for place, (first, parts) in enumerate(zip(self.first_, self.parts_, strict=True)):
            seconds = _seconds(values[:, place])
            found.append((seconds - first) / DAY_S)
            for name in parts:
                value, length = _part(name, seconds)
                turn = 2 * np.pi * value / length
                found += [np.sin(turn), np.cos(turn)] if self.cyclic else [value]
        return np.column_stack(found)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """A name for each column that is made."""
        given = [f"x{place}" for place in range(self.n_features_in_)] if input_features is None else list(input_features)
        names: list[str] = []
        for name, parts in zip(given, self.parts_, strict=True):
            ends = [f"{part} {turn}" for part in parts for turn in ("sine", "cosine")] if self.cyclic else parts
            names += [f"{name} {end}" for end in ("days", *ends)]
        return np.array(names, dtype=object)


def _seconds(texts: Any) -> Any:
    """Seconds since 1970, float64, NaN for what is no moment."""
    import pandas as pd

    moments = pd.to_datetime(pd.Series(texts, dtype=object), errors="coerce", format="ISO8601", utc=True)
    seconds = moments.to_numpy(dtype="datetime64[s]")
    return np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64).astype(np.float64))


def _year_of(seconds: float) -> float:
    """When the year of a moment began, in seconds since 1970."""
    year = np.datetime64(int(seconds), "s").astype("datetime64[Y]")
    return float(year.astype("datetime64[s]").astype(np.int64))


def _part(name: str, seconds: Any) -> tuple[Any, float]:
    """A part of the calendar of each moment, and how many of it make a round."""
    if name == "hour":
        return (seconds % DAY_S) / 3600, 24.0
    days = np.floor(seconds / DAY_S)
    if name == "weekday":
        return (days + 3) % 7, 7.0
    whole = np.where(np.isnan(days), 0, days).astype("datetime64[D]")
    return np.where(np.isnan(days), np.nan, whole.astype("datetime64[M]").astype(np.int64) % 12 + 1.0), 12.0
