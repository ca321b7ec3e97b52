"""Held-out rows class by class: how many, how many were found, and what each was taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.frame import read_target
from mlops_pipeline.modelling.metrics import Predictions, auc_of, class_indices, share_of

if TYPE_CHECKING:
    import polars as pl

MAX_DRAWN = 40
"""Classes up to which the whole confusion matrix is kept; beyond it, only the commonest mistakes."""

MISTAKES = 15


def classes_of(settings: Settings, layout: Layout, test: pl.DataFrame, made: Predictions, contract: Contract) -> dict[str, Any]:
    """:func:`by_class` of an evaluation's held-out rows."""
    labels = class_indices(read_target(layout.train, settings.dataset), contract.classes)
    trained = np.bincount(labels[labels >= 0], minlength=len(contract.classes))
    return by_class(made, test[settings.dataset.target].to_list(), contract.answers, trained, settings.evaluate.confidence)


def by_class(
    made: Predictions, truth: list[Any], answers: list[Any], train_rows: npt.NDArray[np.int64], confidence: float
) -> dict[str, Any]:
    """Scores of every class, ready for JSON.

    ``truth`` are the held-out labels as the table has them, ``answers`` the model's classes as people know them,
    ``train_rows`` the number of training rows of each. Precision and recall carry Wilson's interval (1927), which holds
    for few rows too, of as many as rows that belong together are worth; None where no row could tell. ``unseen`` are classes that only
    held-out rows have.
    """
    size, said = len(answers), made.predicted.argmax(axis=1)
    known = made.y >= 0
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (made.y[known], said[known]), 1)
    there, told = counts.sum(axis=1), np.bincount(said, minlength=size)
    rows: list[dict[str, Any]] = []
    for k, label in enumerate(answers):
        hits = int(counts[k, k])
        f1 = 2 * hits / (there[k] + told[k]) if there[k] else None
        rows.append(
            {
                "label": str(label),
                "train_rows": int(train_rows[k]),
                "test_rows": int(there[k]),
                "predicted_rows": int(told[k]),
                "precision": _share(made, made.y == k, said == k, confidence),
                "recall": _share(made, said == k, made.y == k, confidence),
                "f1": None if f1 is None else round(float(f1), 6),
                "roc_auc": auc_of(made, k),
            }
        )
    unseen: dict[str, int] = {}
    for label, is_known in zip(truth, known.tolist(), strict=True):
        if not is_known:
            unseen[str(label)] = unseen.get(str(label), 0) + 1
    return {
        "scores": rows,
        "unseen": [{"label": label, "test_rows": count} for label, count in sorted(unseen.items())],
        "confusion": counts.tolist() if size <= MAX_DRAWN else None,
        "mistakes": _mistakes(counts, there, [row["label"] for row in rows]),
    }


def _share(made: Predictions, hits: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_], confidence: float) -> dict[str, float] | None:
    if not among.any():
        return None
    found = share_of(hits[among], None if made.things is None else made.things[among], confidence)
    return dict(zip(("value", "low", "high"), (round(each, 6) for each in found), strict=True))


def _mistakes(counts: npt.NDArray[np.int64], there: npt.NDArray[np.int64], labels: list[str]) -> list[dict[str, Any]]:
    """The commonest mistakes, most rows first."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]
    pairs = ((int(i), int(j)) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True))
    return [
        {"true": labels[i], "predicted": labels[j], "rows": int(wrong[i, j]), "share": round(float(wrong[i, j] / there[i]), 6)}
        for i, j in pairs
        if wrong[i, j]
    ]
