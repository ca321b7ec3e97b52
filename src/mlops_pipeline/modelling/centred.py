"""A target far from zero: 32-bit floats, as trees and twins work in, do not tell 1.7e9 from 1.7e9 + 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from mlops_pipeline.modelling.blend import members_of

if TYPE_CHECKING:
    from typing import Self

TOLD_APART = 1e-3
"""A target is far from zero when 32-bit floats there lie further apart than this share of its standard deviation."""


class Centred(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor that was fitted to the target less ``center``, which its predictions get back as 64-bit floats."""

    def __init__(self, regressor: Any, center: float) -> None:
        self.regressor = regressor
        self.center = center

    def fit(self, x: Any, y: Any) -> Self:
        """Fit the regressor to what is left of the target."""
        self.regressor.fit(x, np.asarray(y, dtype=np.float64) - self.center)
        return self

    def predict(self, x: Any) -> Any:
        """Values of shape (rows,), float64."""
        return np.asarray(self.regressor.predict(x), dtype=np.float64).ravel() + self.center

    def __sklearn_is_fitted__(self) -> bool:
        """It knows nothing that its regressor does not."""
        return True


def center_of(y: Any) -> float:
    """What to take off a target before it is fitted to, a whole number; 0 if it is near enough to zero."""
    values = np.asarray(y)
    if values.dtype != np.float64 or not len(values):
        return 0.0
    center, spread = float(np.round(values.mean())), float(values.std())
    apart = float(np.spacing(np.float32(min(abs(center), 1e38))))
    return center if spread > 0 and apart > TOLD_APART * spread else 0.0


def is_centred(estimator: Any) -> bool:
    """Whether an estimator, or one of those that it is the mean of, predicts numbers that 32-bit floats do not tell apart.

    One with a line through time may, the further on the more.
    """
    return (
        hasattr(estimator, "center")
        or hasattr(estimator, "slope_")
        or any(is_centred(member.steps[-1][1]) for member in members_of(estimator))
    )
