"""A target that grows with time: trees never say more than they have seen, so a line is taken off it before they are fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from mlops_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from typing import Self

TREND = "trend"
"""The parameter of a regressor that names the number or the moments along which its line goes."""


class Trended(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor of what a straight line along one column of the matrix leaves of the target (least squares).

    ``on`` is that column's name in the table, ``place`` where it stands in the matrix. Where it is missing the line is at its mean.
    On either side of the rows that it was fitted to the line goes on as far again as these reach, and is level from there: nothing
    tells that a growth goes on for longer than it was seen, and a year that is mistyped has no number without bounds.
    """

    def __init__(self, regressor: Any, on: str, place: int = -1) -> None:
        self.regressor = regressor
        self.on = on
        self.place = place

    def fit(self, x: Any, y: Any) -> Self:
        """Fit the regressor to what the line leaves."""
        self.regressor.fit(x, self.rest_of(x, y))
        return self

    def rest_of(self, matrix: Any, y: Any) -> Any:
        """Find the line, and give what it leaves of the target, float64 (rows,)."""
        along = self._along(matrix)
        known = np.isfinite(along)
        self.middle_ = float(along[known].mean()) if known.any() else 0.0
        first, last = (float(along[known].min()), float(along[known].max())) if known.any() else (0.0, 0.0)
        self.from_, self.until_ = 2 * first - last, 2 * last - first
        steps = np.where(known, along - self.middle_, 0.0)
        size = float(steps @ steps)
        self.height_ = float(np.mean(y))
        self.slope_ = float(steps @ (y - self.height_)) / size if size > 0 else 0.0
        return y - self._line(matrix)

    def predict(self, x: Any) -> Any:
        """Values of shape (rows,), float64."""
        return np.asarray(self.regressor.predict(x), dtype=np.float64).ravel() + self._line(x)

    def _along(self, matrix: Any) -> Any:
        column = matrix[:, [self.place]].toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)[:, self.place]
        return np.asarray(column, dtype=np.float64).ravel()

    def _line(self, matrix: Any) -> Any:
        along = self._along(matrix)
        # A model that was saved before the line had ends has none.
        within = np.clip(along, getattr(self, "from_", -np.inf), getattr(self, "until_", np.inf))
        return self.height_ + self.slope_ * np.where(np.isfinite(along), within - self.middle_, 0.0)

    def __sklearn_is_fitted__(self) -> bool:
        """It is fitted when its line is."""
        return hasattr(self, "slope_")


def placed(columns: Any, estimator: Any) -> None:
    """Tell an estimator with a line where its column stands in the matrix of a fitted encoder. Raises :class:`PipelineError`."""
    if not isinstance(estimator, Trended):
        return
    for name, step, names in getattr(columns, "transformers_", ()):
        if isinstance(names, list) and estimator.on in names:
            first = step.steps[0][1] if hasattr(step, "steps") else step
            # Of moments the days come first, and then what of the calendar each has.
            widths = (
                [1 + len(parts) * (2 if first.cyclic else 1) for parts in first.parts_] if hasattr(first, "parts_") else [1] * len(names)
            )
            estimator.place = int(columns.output_indices_[name].start) + sum(widths[: names.index(estimator.on)])
            return
    raise PipelineError(
        f"train.params.{TREND} = '{estimator.on}': the encoder does not say where it stands: use ordinal or ordinal_imputed"
    )
