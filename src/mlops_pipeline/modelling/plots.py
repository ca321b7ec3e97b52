"""The report's pictures: each a PNG file, and curves as SVG too, which the page draws in its own colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np

from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.modelling.metrics import Predictions, auc_of, point
from mlops_pipeline.pages import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY, INK = "#2563a8", "#d9772b", "#8a8f98", "#1c2430"
CURVES = ("roc", "precision_recall", "predicted_against_true", "residuals", "calibration")
"""Pictures that are SVG too, in reading order."""

MAX_LABEL = 22
"""Characters of a name on an axis."""
MAX_CLASSES = 40
"""Classes in a confusion matrix; of more, the commonest."""
NAMED = 6
"""Curves that have a colour and a name of their own."""

Draw = Callable[["Axes"], None]


def draw_all(
    folder: Path,
    made: Predictions,
    classes: list[str],
    curve: list[dict[str, float]],
    importance: list[dict[str, Any]],
    *,
    points: bool = True,
) -> None:
    """Write the files that fit the task: every picture as PNG, curves as SVG too; those of single rows' values only with ``points``."""
    curves: dict[str, Draw] = {}
    others: dict[str, tuple[Draw, float]] = {}
    positive = made.y == made.positive
    if made.task == "binary" and 0 < positive.sum() < len(positive):  # of one class there is no curve
        curves["roc"] = lambda ax: _roc(ax, [(made.predicted[:, made.positive], positive, f"AUC {point('roc_auc', made):.3f}")])
        curves["precision_recall"] = lambda ax: _precision_recall(ax, made)
    elif made.task == "multiclass":
        curves["roc"] = lambda ax: _roc_of_each(ax, made, classes)
    if not has_classes(made.task) and points:
        curves["predicted_against_true"] = lambda ax: _scatter(ax, made)
        curves["residuals"] = lambda ax: _residuals(ax, made)
    if has_classes(made.task):
        others["confusion"] = (lambda ax: _confusion(ax, made, classes), 4.2 + 0.28 * max(0, min(len(classes), MAX_CLASSES) - 6))
    if len(curve) > 1 and (has_classes(made.task) or points):
        curves["calibration"] = lambda ax: _calibration(ax, curve, not has_classes(made.task))
    if importance:
        others["importance"] = (lambda ax: _importance(ax, importance), 4.2)
    for name, draw in curves.items():
        _figure(folder / f"{name}.png", draw, svg=True)
    for name, (draw, height) in others.items():
        _figure(folder / f"{name}.png", draw, height)


def _figure(path: Path, draw: Draw, height: float = 4.2, *, svg: bool = False) -> None:
    from matplotlib import rc_context, style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import TightLayoutEngine

    own: Any = {f"{part}.color": INK for part in ("text", "xtick", "ytick")} | {"axes.edgecolor": INK, "axes.labelcolor": INK}
    # Nothing of a user's is a formula; equal pictures are equal to the byte, and no two on a page share a name.
    own |= {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": path.stem, "axes.titlesize": 12, "axes.titleweight": "bold"}
    with style.context("default"), rc_context(own), catch_warnings():  # whatever style the caller's notebook has
        simplefilter("ignore", UserWarning)  # of letters that the font lacks: the page's own text has them
        figure = Figure(figsize=(height + 1, height), dpi=110)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        TightLayoutEngine().execute(figure)  # a figure's own leaves it with an engine, for which each file is drawn twice
        figure.savefig(path, metadata={"Software": None})
        if svg:
            figure.savefig(path.with_suffix(".svg"), transparent=True, metadata={"Date": None, "Creator": None})


def _label(name: str) -> str:
    """A name as an axis can show it: nothing invisible, not too long."""
    text = visible(str(name))
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"


def _few_ticks(ax: Axes, *sides: str) -> None:
    """At most five ticks, and thousands as people write them, so that no two figures touch."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for side in sides:
        axis = ax.xaxis if side == "x" else ax.yaxis
        axis.set_major_locator(MaxNLocator(5))
        low, high = sorted(ax.get_xlim() if side == "x" else ax.get_ylim())
        most = max(abs(low), abs(high))
        if most >= 10_000 and high - low > most / 100:
            axis.set_major_formatter(EngFormatter(sep=""))


def _roc(ax: Axes, curves: list[tuple[Any, Any, str]]) -> None:
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for scores, positive, label in curves:
        ax.plot(*_rates(scores, positive), label=label, color=BLUE if len(curves) == 1 else None)
    ax.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    ax.legend(loc="lower right", frameon=False)


def _rates(scores: Any, positive: Any) -> tuple[Any, Any]:
    """False and true positive rates; rows that the model cannot tell apart are one step."""
    hits, shown = _by_score(scores, positive)
    tpr, fpr = np.cumsum(hits) / max(hits.sum(), 1), np.cumsum(~hits) / max((~hits).sum(), 1)
    return np.r_[0, fpr[shown]], np.r_[0, tpr[shown]]


def _by_score(scores: Any, positive: Any) -> tuple[Any, Any]:
    """The hits, best score first, and the places of at most 1,000 of the scores that differ from the next."""
    order = np.argsort(-scores, kind="stable")
    steps = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    return positive[order], steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 1000)).astype(int))]


def _roc_of_each(ax: Axes, made: Predictions, classes: list[str]) -> None:
    """One against the rest. Of many classes only the weakest are named: all the names would hide the curves."""
    seen = [k for k in range(len(classes)) if 0 < (made.y == k).sum() < len(made.y)]
    rates = {k: _rates(made.predicted[:, k], made.y == k) for k in seen}
    areas = {k: auc_of(made, k) or 0.0 for k in seen}  # of every score, of which the curve shows some
    named = seen if len(seen) <= NAMED else sorted(seen, key=lambda k: areas[k])[: NAMED // 2]
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for k in seen:
        if k not in named:
            ax.plot(*rates[k], color=GREY, linewidth=0.7, alpha=0.6)
    for k in named:
        ax.plot(*rates[k], label=f"{_label(classes[k])} ({areas[k]:.3f})")
    ax.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, one class against the rest")
    if named:
        ax.legend(loc="lower right", frameon=False, fontsize=8, title=None if named == seen else "the weakest (AUC)")


def _precision_recall(ax: Axes, made: Predictions) -> None:
    positive = made.y == made.positive
    hits, shown = _by_score(made.predicted[:, made.positive], positive)
    precision, recall = np.cumsum(hits) / np.arange(1, len(hits) + 1), np.cumsum(hits) / max(hits.sum(), 1)
    # As its area is added up: each threshold's precision holds back to the recall of the one before.
    ax.step(
        np.r_[0, recall[shown]], precision[shown][[0, *range(len(shown))]], color=BLUE, label=f"AP {point('average_precision', made):.3f}"
    )
    ax.axhline(positive.mean(), color=GREY, linestyle=":", linewidth=1, label=f"share of positives {positive.mean():.2g}")
    ax.set(xlabel="recall", ylabel="precision", title="Precision and recall", xlim=(-0.02, 1.02), ylim=(0, 1.02))
    ax.legend(loc="best", frameon=False)


def _calibration(ax: Axes, curve: list[dict[str, float]], regression: bool) -> None:
    said, seen = [p["predicted"] for p in curve], [p["observed"] for p in curve]
    low, high = min(said + seen), max(said + seen)
    ax.plot([low, high], [low, high], color=GREY, linestyle=":", linewidth=1, label="perfect")
    ax.plot(said, seen, color=BLUE, marker="o", label="tenths of the held-out rows" if len(curve) == 10 else "the held-out rows")
    ax.set(xlabel="mean predicted", ylabel="mean observed" if regression else "share observed", title="Calibration")
    _few_ticks(ax, "x", "y")
    ax.legend(loc="upper left", frameon=False)


def _confusion(ax: Axes, made: Predictions, classes: list[str]) -> None:
    known = made.y >= 0
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (made.y[known], made.predicted.argmax(axis=1)[known]), 1)
    title = "Confusion (share of the true class)"
    if len(classes) > MAX_CLASSES:
        kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:MAX_CLASSES])
        classes, title = [classes[k] for k in kept], f"Confusion, the {MAX_CLASSES} commonest of {len(classes)} classes"
        shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(kept, kept)]
        counts = counts[np.ix_(kept, kept)]
    else:
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(classes)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(size, size):
        if size <= 8 or (size <= 24 and counts[i, j]):
            text = f"{counts[i, j]:,}\n{shares[i, j]:.0%}" if size <= 8 else f"{counts[i, j]}"
            color = "white" if shares[i, j] > 0.5 else "black"
            ax.text(j, i, text, ha="center", va="center", fontsize=9 if size <= 8 else 6.5, color=color)
    labels, small = [_label(name) for name in classes], None if size <= 8 else 7.5
    if any(label != name for label, name in zip(labels, classes, strict=True)):  # names cut short may look the same: a number tells them
        labels = [f"{k}  {label}" for k, label in enumerate(labels, 1)]
        ax.set_xticks(range(size), labels=[str(k) for k in range(1, size + 1)], fontsize=small)
    else:
        slanted = size > 4 or max(map(len, labels)) > 10
        ax.set_xticks(range(size), labels=labels, rotation=90 if slanted else 0, fontsize=small)
    ax.set_yticks(range(size), labels=labels, fontsize=small)
    ax.set(xlabel="predicted", ylabel="true", title=title)


def _importance(ax: Axes, importance: list[dict[str, Any]]) -> None:
    top = importance[:15][::-1]
    spreads = [p["spread"] for p in top]
    ax.barh(range(len(top)), [p["drop"] for p in top], xerr=None if None in spreads else spreads, color=BLUE, ecolor=GREY)
    ax.set_yticks(range(len(top)), labels=[_label(p["feature"]) for p in top])
    ax.set(xlabel="loss of the metric when the column is shuffled", title="Importance by permutation")
    _few_ticks(ax, "x")


def _scatter(ax: Axes, made: Predictions) -> None:
    shown = np.unique(np.linspace(0, len(made.y) - 1, min(len(made.y), 1500)).astype(int))
    few = len(shown) < 100
    ax.scatter(
        made.y[shown],
        made.predicted[shown],
        s=24 if few else 8,
        alpha=0.8 if few else 0.4,
        color=BLUE,
        edgecolors="none",
        rasterized=not few,
    )
    low, high = float(made.y.min()), float(made.y.max())
    ax.plot([low, high], [low, high], color=GREY, linestyle=":", linewidth=1)
    ax.set(xlabel="true", ylabel="predicted", title="Predicted against true")
    _few_ticks(ax, "x", "y")


def _residuals(ax: Axes, made: Predictions) -> None:
    ax.hist(made.y - made.predicted, bins=min(40, max(5, len(made.y) // 4)), color=BLUE)
    ax.axvline(0, color=ORANGE, linewidth=1.5)
    ax.set(xlabel="true − predicted", ylabel="rows", title="Residuals")
    _few_ticks(ax, "x", "y")
