"""The report's pictures, each one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.modelling.metrics import Predictions, point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#2563a8", "#d9772b", "#8a8f98"


def draw_all(
    folder: Path, made: Predictions, classes: list[str], curve: list[dict[str, float]], importance: list[dict[str, Any]]
) -> list[str]:
    """Write the PNG files that fit the task and give their names in reading order."""
    draw: dict[str, Callable[[Axes], None]] = {}
    if made.task == "binary":
        positive = made.y == made.positive
        draw["roc.png"] = lambda ax: _roc(ax, [(made.predicted[:, made.positive], positive, f"AUC {point('roc_auc', made):.3f}")])
        draw["precision_recall.png"] = lambda ax: _precision_recall(ax, made)
    elif made.task == "multiclass":
        draw["roc.png"] = lambda ax: _roc(ax, [(made.predicted[:, k], made.y == k, str(name)) for k, name in enumerate(classes[:10])])
    if not has_classes(made.task):
        draw["predicted_against_true.png"] = lambda ax: _scatter(ax, made)
        draw["residuals.png"] = lambda ax: _residuals(ax, made)
    else:
        draw["confusion.png"] = lambda ax: _confusion(ax, made, classes)
    draw["calibration.png"] = lambda ax: _calibration(ax, curve, not has_classes(made.task))
    if importance:
        draw["importance.png"] = lambda ax: _importance(ax, importance)
    for name, function in draw.items():
        _figure(folder / name, function)
    return list(draw)


def _figure(path: Path, draw: Callable[[Axes], None]) -> None:
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context("default"):  # whatever style the caller's notebook has
        figure = Figure(figsize=(5.2, 4.2), dpi=110)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        figure.tight_layout()
        figure.savefig(path, metadata={"Software": None})


def _roc(ax: Axes, curves: list[tuple[Any, Any, str]]) -> None:
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for scores, positive, label in curves:
        hits = positive[np.argsort(-scores, kind="stable")]
        tpr, fpr = np.cumsum(hits) / max(hits.sum(), 1), np.cumsum(~hits) / max((~hits).sum(), 1)
        shown = np.unique(np.linspace(0, len(hits) - 1, min(len(hits), 1000)).astype(int))
        ax.plot(np.r_[0, fpr[shown]], np.r_[0, tpr[shown]], label=label, color=BLUE if len(curves) == 1 else None)
    ax.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    ax.legend(loc="lower right", frameon=False)


def _precision_recall(ax: Axes, made: Predictions) -> None:
    positive = made.y == made.positive
    hits = positive[np.argsort(-made.predicted[:, made.positive], kind="stable")]
    shown = np.unique(np.linspace(0, len(hits) - 1, min(len(hits), 1000)).astype(int))
    precision, recall = np.cumsum(hits) / np.arange(1, len(hits) + 1), np.cumsum(hits) / max(hits.sum(), 1)
    ax.plot(recall[shown], precision[shown], color=BLUE, label=f"AP {point('average_precision', made):.3f}")
    ax.axhline(positive.mean(), color=GREY, linestyle=":", linewidth=1, label=f"share of positives {positive.mean():.2f}")
    ax.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.02))
    ax.legend(loc="upper right", frameon=False)


def _calibration(ax: Axes, curve: list[dict[str, float]], regression: bool) -> None:
    said, seen = [p["predicted"] for p in curve], [p["observed"] for p in curve]
    low, high = min(said + seen), max(said + seen)
    ax.plot([low, high], [low, high], color=GREY, linestyle=":", linewidth=1, label="perfect")
    ax.plot(said, seen, color=BLUE, marker="o", label="tenths of the held-out rows")
    ax.set(xlabel="mean predicted", ylabel="mean observed" if regression else "share observed", title="Calibration")
    ax.legend(loc="upper left", frameon=False)


def _confusion(ax: Axes, made: Predictions, classes: list[str]) -> None:
    size = len(classes)
    counts = np.zeros((size, size), dtype=int)
    known = made.y >= 0
    np.add.at(counts, (made.y[known], made.predicted.argmax(axis=1)[known]), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if size <= 12:
        for i, j in np.ndindex(size, size):
            ax.text(
                j,
                i,
                f"{counts[i, j]:,}\n{shares[i, j]:.0%}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if shares[i, j] > 0.5 else "black",
            )
        ax.set_xticks(range(size), labels=classes)
        ax.set_yticks(range(size), labels=classes)
    ax.set(xlabel="predicted", ylabel="true", title="Confusion (share of the true class)")


def _importance(ax: Axes, importance: list[dict[str, Any]]) -> None:
    top = importance[:15][::-1]
    ax.barh([p["feature"] for p in top], [p["drop"] for p in top], xerr=[p["spread"] for p in top], color=BLUE, ecolor=GREY)
    ax.set(xlabel="loss of the metric when the column is shuffled", title="Importance by permutation")


def _scatter(ax: Axes, made: Predictions) -> None:
    shown = np.unique(np.linspace(0, len(made.y) - 1, min(len(made.y), 3000)).astype(int))
    ax.scatter(made.y[shown], made.predicted[shown], s=8, alpha=0.4, color=BLUE, edgecolors="none")
    low, high = float(made.y.min()), float(made.y.max())
    ax.plot([low, high], [low, high], color=GREY, linestyle=":", linewidth=1)
    ax.set(xlabel="true", ylabel="predicted", title="Predicted against true")


def _residuals(ax: Axes, made: Predictions) -> None:
    ax.hist(made.y - made.predicted, bins=40, color=BLUE)
    ax.axvline(0, color=ORANGE, linewidth=1)
    ax.set(xlabel="true − predicted", ylabel="rows", title="Residuals")
