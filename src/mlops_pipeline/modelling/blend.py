"""A mean of several models, each of raw columns with an encoder of its own: where none is clearly the best, luck chooses none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


class Blend(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The mean of what its members say, which are pipelines of the same raw columns: class probabilities or values."""

    def __init__(self, members: Sequence[Any] = ()) -> None:
        self.members = members

    def fit(self, x: Any, y: Any) -> Self:
        """Fit every member to the same rows."""
        for member in self.members:
            member.fit(x, y)
        return self

    @available_if(lambda self: all(hasattr(member, "predict_proba") for member in self.members))  # type: ignore[untyped-decorator]
    def predict_proba(self, x: Any) -> Any:
        """Shape (rows, classes), float64."""
        return np.mean([member.predict_proba(x) for member in self.members], axis=0, dtype=np.float64)

    def predict(self, x: Any) -> Any:
        """The likeliest class, or the value, of each row."""
        if hasattr(self, "predict_proba"):
            return self.classes_[np.argmax(self.predict_proba(x), axis=1)]
        return np.mean([np.asarray(member.predict(x), dtype=np.float64).ravel() for member in self.members], axis=0)

    @property
    def classes_(self) -> Any:
        """The classes in the order of the probabilities; raises :class:`AttributeError` where values are predicted."""
        return self.members[0].classes_

    def __sklearn_is_fitted__(self) -> bool:
        """It knows nothing that its members do not."""
        return True


def members_of(estimator: Any) -> Sequence[Any]:
    """The models that an estimator is the mean of; none if it is no blend: TabM's ``members`` are a number."""
    return estimator.members if isinstance(estimator, Blend) else ()
