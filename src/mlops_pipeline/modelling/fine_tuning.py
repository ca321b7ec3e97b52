"""Fine-tuning: an encoder of text learns from the rows, together with a linear head on its embeddings and the table's other columns.

What comes of it is an encoder of its own kind and a linear model, and so needs no PyTorch, is saved and converted as these are.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator

from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.modelling.fitting import Fitting

if TYPE_CHECKING:
    from optuna import Trial

    from mlops_pipeline.config.dataset import Task
    from mlops_pipeline.config.sentences import FineTuned

FIRST_ROWS = 20_000
"""So many rows at most are what the head knows before the encoder begins to learn."""

FIRST_C = 10.0
"""Of the logistic regression that the head begins with: embeddings have length 1, and small weights say little."""


def transformer(task: Task, seed: int, settings: FineTuned) -> FineTuning:
    """An encoder that learns, with a linear head."""
    return FineTuning(task=task, seed=seed, **settings.model_dump())


def search_transformer(trial: Trial) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-4, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.3),
    }


class FineTuning(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """How an encoder is to learn; :meth:`fine_tuned` does it."""

    def __init__(
        self,
        *,
        task: Task = "binary",
        seed: int = 0,
        layers: int | None = 2,
        dropout: float = 0.1,
        learning_rate: float = 5e-5,
        weight_decay: float = 0.01,
        batch_rows: int | None = None,
        epochs: int = 3,
        patience: int = 1,
        held_back: float = 0.1,
        time_limit_s: float | None = None,
        device: str = "auto",
        processes: int = 1,
    ) -> None:
        self.task, self.seed, self.layers, self.dropout = task, seed, layers, dropout
        self.learning_rate, self.weight_decay, self.batch_rows = learning_rate, weight_decay, batch_rows
        self.epochs, self.patience, self.held_back = epochs, patience, held_back
        self.time_limit_s, self.device, self.processes = time_limit_s, device, processes

    def learns(self, name: str, layers: int) -> bool:
        """Whether a weight of an encoder of so many layers, or of the head, learns."""
        if self.layers is None or name.startswith("head"):
            return True
        layer = name.partition(" ")[0]
        return layer.isdigit() and int(layer) >= layers - self.layers

    def fine_tuned(self, columns: Any, matrix: Any, x: Any, y: Any, during: Fitting) -> tuple[Any, Any]:
        """The columns' encoder with what its texts are now read by, and the linear model: of raw rows ``x``, and of the ``matrix`` that
        the encoder made of them before. Raises :class:`PipelineError`.
        """
        from mlops_pipeline.modelling.pretrained import pretrained
        from mlops_pipeline.modelling.sentences import FineTunedEmbeddings
        from mlops_pipeline.modelling.transformer_graph import encoder_graph
        from mlops_pipeline.modelling.transformer_training import TokensOfTexts, learned

        steps = {name: (step, column) for name, step, column in columns.transformers_ if isinstance(column, str)}
        first = next(step for step, _ in steps.values())
        found = pretrained(first.folder)
        if self.layers is not None and self.layers > found.shape.layers:
            raise PipelineError(
                f"train.params.layers = {self.layers}: the encoder has {found.shape.layers}: give no more, or null for all and its words"
            )
        texts = [
            TokensOfTexts.of(np.asarray(x[column], dtype=object).tolist(), first.tokenizer_, first.max_tokens_)
            for _, column in steps.values()
        ]
        of_texts = np.concatenate([np.arange(matrix.shape[1])[columns.output_indices_[name]] for name in steps])
        of_table = np.setdiff1d(np.arange(matrix.shape[1]), of_texts)
        places = np.concatenate([of_texts, of_table])
        target, head = self._target(y)
        parts = self._parts(target, during)
        weights, bias = head.first(matrix, target, parts[0], self.seed)
        given = {**found.weights, "head": weights[places].astype(np.float32), "head bias": bias.astype(np.float32)}
        made, course = learned(self, given, found.shape, texts, matrix[:, of_table] if len(of_table) else None, target, parts, during)
        during.tell(_told(course.costs, len(parts[1]), None if course.costs == course.losses else during))
        coefficients = np.empty_like(weights)
        coefficients[places] = made.pop("head")
        linear = head.model(coefficients, made.pop("head bias").astype(np.float64))
        graph = encoder_graph(made, found.shape)
        read_by = FineTunedEmbeddings.of(first, graph)
        tuned = copy.copy(columns)
        tuned.transformers_ = [(name, read_by if name in steps else step, names) for name, step, names in columns.transformers_]
        return tuned, linear

    def _target(self, y: Any) -> tuple[np.ndarray, _Classes | _Values]:
        if has_classes(self.task):
            classes, target = np.unique(y, return_inverse=True)
            return target.astype(np.int64), _Classes(classes)
        center, scale = float(np.mean(y)), float(np.std(y)) or 1.0
        return ((np.asarray(y, dtype=np.float64) - center) / scale).astype(np.float32), _Values(center, scale)

    def _parts(self, target: np.ndarray, during: Fitting) -> tuple[np.ndarray, np.ndarray]:
        from mlops_pipeline.modelling.network_training import parted

        return parted(self, target, during)


@dataclass(frozen=True)
class _Classes:
    """A head that says logits of classes."""

    classes: Any

    def first(self, matrix: Any, target: np.ndarray, taught: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights, (columns, classes), and the bias of each class, as the encoder is before it learns."""
        from sklearn.linear_model import LogisticRegression

        weights, bias = np.zeros((matrix.shape[1], len(self.classes))), np.zeros(len(self.classes))
        rows = _some(taught, seed)
        there = np.unique(target[rows])
        if len(there) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it need not be at its end: it goes on learning
                fitted = LogisticRegression(C=FIRST_C, max_iter=300).fit(matrix[rows], target[rows])
            binary = len(there) == 2
            weights[:, there[1:] if binary else there] = fitted.coef_.T
            bias[there[1:] if binary else there] = fitted.intercept_
        return weights, bias

    def model(self, weights: np.ndarray, bias: np.ndarray) -> Any:
        """The logistic regression that says the same."""
        from sklearn.linear_model import LogisticRegression

        made = LogisticRegression()
        made.classes_, made.n_features_in_ = self.classes, len(weights)
        binary = len(self.classes) == 2
        made.coef_ = np.ascontiguousarray((weights[:, 1:] - weights[:, :1] if binary else weights).T)
        made.intercept_ = bias[1:] - bias[:1] if binary else bias
        return made


@dataclass(frozen=True)
class _Values:
    """A head that says values, which it learns scaled."""

    center: float
    scale: float

    def first(self, matrix: Any, target: np.ndarray, taught: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.linear_model import Ridge

        rows = _some(taught, seed)
        fitted = Ridge(alpha=1.0).fit(matrix[rows], target[rows].astype(np.float64))
        return fitted.coef_[:, None], np.atleast_1d(fitted.intercept_)

    def model(self, weights: np.ndarray, bias: np.ndarray) -> Any:
        """The linear regression that says the same, unscaled."""
        from sklearn.linear_model import Ridge

        made = Ridge()
        made.coef_, made.n_features_in_ = weights[:, 0] * self.scale, len(weights)
        made.intercept_ = float(bias[0] * self.scale + self.center)
        return made


def _some(rows: np.ndarray, seed: int) -> np.ndarray:
    """The rows, or as many of them, drawn, as the first head learns from."""
    return rows if len(rows) <= FIRST_ROWS else np.sort(np.random.default_rng(seed).permutation(rows)[:FIRST_ROWS])


def _told(costs: list[float], held: int, by: Fitting | None) -> str:
    """What the passes gained ``by`` the metric that they were compared by; None: by the loss, as where that metric is not defined."""
    best = costs.index(min(costs))
    measure = "loss" if by is None else by.measure
    began, ended = (each if by is None else by.measured(-each) for each in (costs[0], costs[best]))
    if not best:
        return f"no pass was better than the encoder as it came ({measure} {began:.4f} on {held:,} training rows held back)"
    return f"{measure} {began:.4f} → {ended:.4f} on {held:,} training rows held back, by pass {best} of {len(costs) - 1}"
