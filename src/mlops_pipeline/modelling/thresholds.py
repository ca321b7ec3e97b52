"""Where boosted trees cut numbers: moved, within the gap between two rows' values, to where 32-bit floats fall on the same side.

A twin takes numbers and thresholds as 32-bit floats. The mean of 12.34 and 12.36 may be a hair below 12.35: to 64-bit floats a row of 12.35
is above it, to 32-bit ones it is equal, and another branch answers (https://github.com/onnx/sklearn-onnx/issues/1192). A forest of
scikit-learn's takes its rows as 32-bit floats itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Move = Callable[[npt.NDArray[np.int64], Floats], Floats]
"""New thresholds of some splits, by the columns that these cut, and the old ones."""

BOUNDLESS = 1e300
"""What LightGBM writes for a threshold that nothing lies above."""

IN_TEXT = re.compile(r"^(split_feature|threshold|decision_type)=(.*)$", flags=re.MULTILINE)


def settle(estimator: Any, matrix: Any) -> None:
    """Move a fitted booster's thresholds so that any row goes as its 32-bit floats do, and those it was fitted to as they went.

    One between values that 32-bit floats do not tell apart stays where it is: :func:`unsettled` then names its column.
    """
    columns: dict[int, Floats] = {}

    def values_of(column: int) -> Floats:
        if column not in columns:
            held = matrix[:, [column]].toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)[:, column]
            values = np.unique(held.astype(np.float64).ravel())
            columns[column] = values[~np.isnan(values)]
        return columns[column]

    def moved(cut: npt.NDArray[np.int64], thresholds: Floats) -> Floats:
        found = thresholds.copy()
        for column in np.unique(cut).tolist():
            here = cut == column
            found[here] = settled(thresholds[here], values_of(column))
        return found

    _each(estimator, moved)


def unsettled(estimator: Any) -> list[int]:
    """Columns of the matrix that fitted boosting cuts where 32-bit floats may fall on the other side."""
    found: set[int] = set()

    def noted(cut: npt.NDArray[np.int64], thresholds: Floats) -> Floats:
        with np.errstate(over="ignore"):
            found.update(cut[(thresholds != _last_of(thresholds.astype(np.float32))) & (np.abs(thresholds) < BOUNDLESS)].tolist())
        return thresholds

    _each(estimator, noted)
    return sorted(found)


def settled(thresholds: Floats, values: Floats) -> Floats:
    """The thresholds moved within the gaps between ``values``, in rising order, to the last number of those that are one 32-bit float."""
    if not len(values):
        return thresholds
    place = np.searchsorted(values, thresholds, side="right")
    inside = (place > 0) & (place < len(values)) & np.isfinite(thresholds)
    with np.errstate(over="ignore"):
        below = values[np.maximum(place - 1, 0)].astype(np.float32)
        above = values[np.minimum(place, len(values) - 1)].astype(np.float32)
        nearest = thresholds.astype(np.float32)
        wanted = np.where((below <= nearest) & (nearest < above), nearest, below)
        return np.where(inside & (below < above) & np.isfinite(wanted), _last_of(wanted), thresholds)


def _last_of(singles: npt.NDArray[np.float32]) -> Floats:
    """The greatest 64-bit float that is each of these as a 32-bit one."""
    with np.errstate(over="ignore", invalid="ignore"):
        middle = (singles.astype(np.float64) + np.nextafter(singles, np.float32(np.inf)).astype(np.float64)) / 2
        found: Floats = np.where(middle.astype(np.float32) == singles, middle, np.nextafter(middle, -np.inf))
    return found


def _each(estimator: Any, move: Move) -> None:
    """Let ``move`` say where a booster's splits on numbers lie; nothing of an estimator that is no booster."""
    if any(kind.__module__.startswith("lightgbm.") for kind in type(estimator).__mro__):
        _each_of_lightgbm(estimator, move)
    for tree in (tree for trees in getattr(estimator, "_predictors", ()) for tree in trees):
        splits = (tree.nodes["is_leaf"] == 0) & (tree.nodes["is_categorical"] == 0) & np.isfinite(tree.nodes["num_threshold"])
        if splits.any():
            cut = _columns_of(estimator)[tree.nodes["feature_idx"][splits]]
            tree.nodes["num_threshold"][splits] = move(cut, tree.nodes["num_threshold"][splits])


def _columns_of(estimator: Any) -> npt.NDArray[np.int64]:
    """The matrix's columns as histogram gradient boosting counts them: where it is told of categories, these first."""
    told = getattr(estimator, "is_categorical_", None)
    return np.arange(estimator.n_features_in_) if told is None else np.argsort(~np.asarray(told), kind="stable")


def _each_of_lightgbm(estimator: Any, move: Move) -> None:
    """The same of LightGBM, whose trees are read and written as text."""
    from lightgbm import Booster

    text = estimator.booster_.model_to_string(num_iteration=-1)
    header, first, rest = text.partition("\nTree=")
    trees, end, footer = rest.partition("\nend of trees\n")
    if not first or not end:
        return
    blocks = [f"Tree={each}" for each in trees.split("\nTree=")]
    parsed = [dict(IN_TEXT.findall(block)) for block in blocks]
    cuts = [_numbers(one.get("split_feature", "")).astype(np.int64) for one in parsed]
    olds = [_numbers(one.get("threshold", "")) for one in parsed]
    of_numbers = np.concatenate([_numbers(one.get("decision_type", "")).astype(np.int64) & 1 == 0 for one in parsed])
    cut, old = np.concatenate(cuts), np.concatenate(olds)
    if not of_numbers.any():
        return
    new = old.copy()
    new[of_numbers] = move(cut[of_numbers], old[of_numbers])
    if np.array_equal(new, old):
        return
    ends = np.cumsum([len(each) for each in olds])
    for place, (stop, length) in enumerate(zip(ends.tolist(), map(len, olds), strict=True)):
        if length:
            written = " ".join(f"{value:.17g}" for value in new[stop - length : stop].tolist())
            blocks[place] = re.sub(r"^threshold=.*$", f"threshold={written}", blocks[place], count=1, flags=re.MULTILINE)
    # By these sizes LightGBM finds where each tree begins: a block, and the line's end that parts it from the next.
    sizes = " ".join(str(len(block.encode()) + 1) for block in blocks)
    header = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", header, count=1, flags=re.MULTILINE)
    joined = "\n".join(blocks)
    estimator.__dict__.update(_Booster=Booster(model_str=f"{header}\n{joined}{end}{footer}"))


def _numbers(words: str) -> Floats:
    return np.array(words.split(), dtype=np.float64)
