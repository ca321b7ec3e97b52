"""Networks as scikit-learn takes estimators; a fitted one is NumPy's arrays, and needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.modelling.fitting import ALONE, Fitting
from mlops_pipeline.modelling.networks import InNumpy, first_weights, outputs

if TYPE_CHECKING:
    from typing import Self

    from optuna import Trial

    from mlops_pipeline.config.dataset import Task
    from mlops_pipeline.config.networks import Network

PART = 1024
"""Rows that are predicted at a time: TabM needs some kilobytes a row."""


def network(task: Task, seed: int, settings: Network) -> NetworkClassifier | NetworkRegressor:
    """A network with a few layers, or many in one."""
    return (NetworkRegressor if task == "regression" else NetworkClassifier)(seed=seed, **settings.model_dump())


def search_network(trial: Trial) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
        "width": trial.suggest_int("width", 32, 256, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.4),
    }


class _Network(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both kinds share: the settings, the fit and what its members say."""

    learns_in_passes = True
    """It is told which columns of the matrix are categories, and under what it is fitted."""

    def __init__(
        self,
        *,
        seed: int = 0,
        members: int = 1,
        width: int = 128,
        depth: int = 2,
        embedding: int = 4,
        bins: int = 8,
        dropout: float = 0.2,
        learning_rate: float = 2e-3,
        weight_decay: float = 3e-4,
        batch_rows: int | None = None,
        epochs: int = 50,
        patience: int = 4,
        held_back: float = 0.1,
        device: str = "auto",
        processes: int = 1,
    ) -> None:
        self.seed, self.members, self.width, self.depth = seed, members, width, depth
        self.embedding, self.bins, self.dropout = embedding, bins, dropout
        self.learning_rate, self.weight_decay, self.batch_rows = learning_rate, weight_decay, batch_rows
        self.epochs, self.patience, self.held_back = epochs, patience, held_back
        self.device, self.processes = device, processes

    def _learned(self, matrix: Any, target: Any, said: int, categories: Sequence[int], during: Fitting) -> None:
        """Keep the weights that the rows teach, and the loss after each pass."""
        if hasattr(matrix, "toarray"):
            raise PipelineError(
                f"train.encoder: a network takes no {matrix.shape[1]:,} columns that are mostly 0: use native, `beside: native` with "
                "sentences, or `numbers` with tfidf"
            )
        from mlops_pipeline.modelling.tabular_training import learned

        matrix = np.asarray(matrix, dtype=np.float64)
        self.n_features_in_ = matrix.shape[1]
        self.categories_ = [int(place) for place in categories]
        self.numbers_ = [place for place in range(matrix.shape[1]) if place not in set(self.categories_)]
        numbers, codes = self._parted(matrix)
        self.weights_, self.losses_ = learned(self, first_weights(numbers, codes, said, self), numbers, codes, target, during)

    def _parted(self, matrix: Any) -> tuple[Any, Any]:
        """The numbers and the codes of a matrix, or None for what there is none of."""
        numbers, codes = (matrix[:, places] if places else None for places in (self.numbers_, self.categories_))
        return numbers, codes

    def _said(self, matrix: Any) -> Iterator[Any]:
        """What each member says, (rows, members, outputs) in parts, float64: so a row's neighbours do not change the digits that count."""
        matrix = np.asarray(matrix, dtype=np.float64)
        weights = {name: each.astype(np.float64) for name, each in self.weights_.items()}
        for start in range(0, len(matrix), PART):
            yield outputs(InNumpy(), weights, *self._parted(matrix[start : start + PART]), self.depth)


class NetworkClassifier(ClassifierMixin, _Network):  # type: ignore[misc]  # scikit-learn has no types
    """A network whose outputs are probabilities: the mean of what its members say."""

    def fit(self, matrix: Any, y: Any, categorical_feature: Sequence[int] = (), during: Fitting = ALONE) -> Self:
        """Learn from rows whose ``categorical_feature`` are columns of numbered levels, -1 for a level not to be learned."""
        self.classes_, target = np.unique(y, return_inverse=True)
        self._learned(matrix, target.astype(np.int64), len(self.classes_), categorical_feature, during)
        return self

    def predict_proba(self, matrix: Any) -> Any:
        """Probabilities, float64 (rows, classes)."""
        return np.concatenate([softmax(said).mean(axis=1) for said in self._said(matrix)] or [np.empty((0, len(self.classes_)))])

    def predict(self, matrix: Any) -> Any:
        """The likeliest class of each row."""
        return self.classes_[self.predict_proba(matrix).argmax(axis=1)]


class NetworkRegressor(RegressorMixin, _Network):  # type: ignore[misc]  # scikit-learn has no types
    """A network whose output is a value: the mean of what its members say."""

    def fit(self, matrix: Any, y: Any, categorical_feature: Sequence[int] = (), during: Fitting = ALONE) -> Self:
        """The same as the classifier's; the target is scaled."""
        y = np.asarray(y, dtype=np.float64)
        self.center_, self.scale_ = float(y.mean()), float(y.std()) or 1.0
        self._learned(matrix, ((y - self.center_) / self.scale_).astype(np.float32), 1, categorical_feature, during)
        return self

    def predict(self, matrix: Any) -> Any:
        """Values, float64 (rows,)."""
        said = [each.mean(axis=(1, 2)) for each in self._said(matrix)] or [np.empty(0)]
        return np.concatenate(said) * self.scale_ + self.center_


def softmax(logits: Any) -> Any:
    """Along the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
