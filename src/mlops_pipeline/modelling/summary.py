"""A model's own rows in a few hundred kilobytes: what stands in ``monitoring_reference.json`` (:mod:`contract.reference`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_pipeline.contract.evaluation import Evaluation
from mlops_pipeline.contract.reference import FORMAT, Bins, ColumnSummary, Curve, Kind, Levels, Losses, Reference
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.contract.task import PREDICTION
from mlops_pipeline.contract.values import FALSE_WORDS, TRUE_WORDS
from mlops_pipeline.inference.frames import meant_by
from mlops_pipeline.inference.texts import FrozenEncoder
from mlops_pipeline.modelling.text_facts import common_words, forms_of
from mlops_pipeline.modelling.text_summary import text_summary
from mlops_pipeline.tables.cast import as_numbers, as_text

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.modelling.metrics import Predictions

Floats = npt.NDArray[np.float32]

MOST_BINS = 1000
LEAST_BINS = 100
TAIL = 20
ALL_BINS = 20_000
"""Bins of all columns together, so that a table of a thousand columns has no summary of a hundred megabytes."""
MOST_LEVELS = 1000
PRIVATE_ROWS = 5
"""A private column's value, or bin, that fewer rows hold is not told."""
MOST_POINTS = 200
FEW_ROWS = 1000
"""Below this a calibration map is a logistic curve, as steps would follow noise (Platt 1999)."""
LOSS_ROWS = 100_000
LOSS_TREES = 40

NO_ENCODERS: Mapping[str, FrozenEncoder] = MappingProxyType({})

TRUTHS = frozenset({"0", "1"})

KINDS: dict[str, Kind] = {"number": "number", "integer": "number", "boolean": "category", "category": "category"}


def summary_of(
    contract: Contract,
    table: pl.DataFrame,
    held_out: pl.DataFrame,
    ours: Predictions,
    evaluation: Evaluation,
    encoders: Mapping[str, FrozenEncoder] = NO_ENCODERS,
) -> Reference:
    """A version's summary: columns over the rows it was fitted on, the rest over those that were held out, and what it said of them.

    ``encoders``: by which it reads columns of text.
    """
    scores = scores_of(ours.predicted, contract.task, contract.classes, ours.positive)
    classes = len(contract.classes)
    seen = ours.y >= 0 if classes else np.isfinite(ours.y.astype(np.float64))
    columns = columns_of(contract, table, encoders)
    least_rows = PRIVATE_ROWS if contract.target in contract.private else 1
    return Reference(
        format=FORMAT,
        task=contract.kind.name,
        classes=contract.classes,
        labels=contract.labels,
        positive=ours.positive,
        model_sha256=contract.model_sha256,
        rows=table.height,
        columns=columns,
        held_out=len(ours.y),
        scores={name: bins_of(values.astype(np.float32), MOST_BINS, least_rows) for name, values in scores.items() if len(scores) == 1},
        answers=_counted(ours.predicted.argmax(axis=1), classes) if classes else [],
        truths=_counted(ours.y[seen], classes) if classes else [],
        metric=evaluation.metric,
        quality=evaluation.metrics,
        calibration={
            name: curve
            for name, values in scores.items()
            if classes and (curve := _calibration(values[seen], (ours.y == _place(name)).astype(np.float64)[seen])) is not None
        },
        calibration_error=evaluation.calibration_error,
        losses=None if classes else _losses(columns, held_out, ours),
    )


def again_on(
    reference: Reference, contract: Contract, table: pl.DataFrame, encoders: Mapping[str, FrozenEncoder] = NO_ENCODERS
) -> Reference:
    """The same of a fit on other rows, whose outputs nothing was held out for: those of the fit that was judged stand for them."""
    losses = reference.losses
    if losses is not None:
        orders = reference.orders
        losses = msgspec.structs.replace(losses, levels={name: orders[name] for name in losses.columns if name in orders})
    return msgspec.structs.replace(reference, rows=table.height, columns=columns_of(contract, table, encoders), losses=losses)


def columns_of(contract: Contract, table: pl.DataFrame, encoders: Mapping[str, FrozenEncoder] = NO_ENCODERS) -> dict[str, ColumnSummary]:
    """Every column of a model over its rows."""
    most = int(np.clip(ALL_BINS // max(len(contract.columns), 1), LEAST_BINS, MOST_BINS))
    least = contract.min_level_rows
    return {
        name: _column(column, table[name], most, least, encoders.get(name))
        for name, column in contract.columns.items()
        if name in table.columns
    }


def scores_of(predicted: Any, task: str, classes: list[Any], positive: int) -> dict[str, npt.NDArray[np.float64]]:
    """Outputs by name: of two classes the positive one's probability, of several each one's by its place, else the value."""
    if not classes:
        return {PREDICTION: np.asarray(predicted, dtype=np.float64)}
    places = [positive] if task == "binary" else range(len(classes))
    return {f"{place}": np.asarray(predicted[:, place], dtype=np.float64) for place in places}


def _place(name: str) -> int:
    return int(name)


def numbers_in(values: pl.Series) -> Floats:
    """The finite values of a column of numbers, as models take them, in 32 bits, rising: rows recorded so are compared with them."""
    import polars as pl

    if values.dtype == pl.String:
        values = as_numbers(values, "number")
    found = values.cast(pl.Float32, strict=False).drop_nulls().to_numpy()
    found = np.sort(found)
    # NaN and infinity stand at the ends.
    least, most = np.searchsorted(found, [-np.inf, np.inf], side="right") if len(found) else (0, 0)
    return found[least : np.searchsorted(found, np.inf, side="left")] if most else found


def categories_in(values: pl.Series, seen: Collection[str] | None = None, *, truths: bool = False) -> pl.Series:
    """A column as categories, those that were ``seen`` however they are spelled; ``truths`` are 0 and 1."""
    import polars as pl

    if truths:
        return as_numbers(values, "boolean").cast(pl.Int8, strict=False).cast(pl.String)
    texts = as_text(values)
    if seen is None:
        return texts
    meant = meant_by(texts, seen, ())[0]
    if not TRUTHS.issuperset(seen):
        return meant
    words = dict.fromkeys(TRUE_WORDS, "1") | dict.fromkeys(FALSE_WORDS, "0")
    return meant.str.to_lowercase().replace(words)


def levels_in(summary: ColumnSummary, values: pl.Series, known: Collection[str] | None = None) -> pl.Series:
    """A column as the categories that its summary counts; ``known``: those that are told by name, by default the summary's."""
    if summary.words is not None:
        return forms_of(as_text(values), summary.words, private=summary.private)
    listed = known if known is not None or summary.levels is None else summary.levels.counts
    return categories_in(values, listed)


def bins_of(values: Floats, most: int, least_rows: int = 1) -> Bins:
    """Rising values in bins of about equally many; with ``least_rows`` above 1 no bin of fewer, and the ends are told in the mean alone."""
    if not len(values):
        return Bins([], [0])
    values = np.sort(values)
    distinct, counts = np.unique(values, return_counts=True)
    exact = 2 * len(distinct) <= most and least_rows <= 1
    if exact:
        # What lies between two values is told from both.
        edges = np.unique(np.concatenate([np.nextafter(distinct, np.float32(-np.inf)), distinct]))
    elif least_rows <= 1:
        ranks = np.unique(
            np.concatenate([np.linspace(0, len(values) - 1, most - TAIL - 1), *_outermost(len(values))]).round().astype(np.int64)
        )
        edges = np.append(np.nextafter(values[:1], np.float32(-np.inf)), _short(np.unique(values[ranks])))
    else:
        edges = _roomy(distinct, counts, max(least_rows, -(-len(values) // most)))
    return _counted_in(values, edges, exact)


def _outermost(rows: int) -> list[npt.NDArray[np.float64]]:
    """Ranks ever closer to both ends, where a long tail has most of a distance."""
    steps = np.minimum(2.0 ** np.arange(TAIL // 2) - 1, rows - 1)
    return [steps, rows - 1 - steps]


def _counted_in(values: Floats, edges: Floats, exact: bool) -> Bins:
    upto = np.searchsorted(values, edges, side="right")
    wide = values.astype(np.float64)
    below, above = (np.maximum(edges[0] - wide, 0).mean(), np.maximum(wide - edges[-1], 0).mean()) if len(edges) else (0.0, 0.0)
    return Bins(
        edges=[_written(edge) for edge in edges],
        counts=np.diff(upto, prepend=0, append=len(values)).tolist(),
        mean=float(wide.mean()),
        deviation=float(wide.std()),
        below=float(below),
        above=float(above),
        exact=exact,
    )


def _roomy(distinct: Floats, counts: npt.NDArray[np.int64], least_rows: int) -> Floats:
    """Edges between values, which are nobody's, with at least so many values in each bin, below the first and above the last."""
    edges, held, left = [], 0, int(counts.sum())
    for place, count in enumerate(counts[:-1].tolist()):
        held, left = held + count, left - count
        if held >= least_rows and left >= least_rows:
            edges.append((float(distinct[place]) + float(distinct[place + 1])) / 2)
            held = 0
    return _short(np.unique(np.array(edges, dtype=np.float32)))


def _short(edges: Floats) -> Floats:
    """Edges moved up, by at most a hundredth of the way to the next, to numbers of few digits."""
    made = []
    for edge, gap in zip(edges.tolist(), np.diff(edges.astype(np.float64), append=np.inf).tolist(), strict=True):
        if not np.isfinite(gap):
            made.append(np.float32(edge))
            continue
        digits = 2 - int(np.floor(np.log10(gap)))
        near = np.float32(round(edge, digits))
        if near < edge:
            near = np.float32(round(edge + 10.0**-digits, digits))
        made.append(near if edge <= near < edge + gap / 2 else np.float32(edge))
    return np.array(made, dtype=np.float32)


def _written(edge: np.float32) -> float:
    """The number of fewest digits that is this one in 32 bits."""
    return float(str(edge))


def levels_of(texts: pl.Series, least_rows: int = 1) -> Levels:
    """How many rows hold each category, by name the most frequent of those that at least so many do."""
    counts = {str(name): int(count) for name, count in zip(*texts.drop_nulls().value_counts(name="\0count").get_columns(), strict=True)}
    order = sorted(counts, key=lambda name: (-counts[name], name))
    told = [name for name in order if counts[name] >= least_rows][:MOST_LEVELS]
    left = order[len(told) :]
    return Levels(
        counts={name: counts[name] for name in told},
        rest=sum(counts[name] for name in left),
        once=sum(counts[name] == 1 for name in told),
    )


def _column(column: Column, values: pl.Series, most: int, least_rows: int, encoder: FrozenEncoder | None) -> ColumnSummary:
    kind: Kind = KINDS.get(column.kind, "other")
    if column.private and column.kind == "category":
        # Not even by digests: who has them can try words. The record does not hold it, so that nothing would be compared.
        kind = "other"
    if kind == "category":
        texts = categories_in(values, truths=column.kind == "boolean")
        levels = levels_of(texts, max(least_rows, PRIVATE_ROWS) if column.private else least_rows)
        return ColumnSummary(kind=kind, nulls=len(values) - levels.rows, levels=levels, private=column.private)
    if column.kind == "text":
        words = [] if column.private else common_words(values, max(least_rows, PRIVATE_ROWS))
        levels = levels_of(forms_of(as_text(values), words, private=column.private), max(least_rows, PRIVATE_ROWS))
        beside = None if column.private else text_summary(as_text(values), encoder)
        nulls = len(values) - levels.rows
        return ColumnSummary(kind="category", nulls=nulls, levels=levels, private=column.private, words=words, texts=beside)
    if kind == "other":
        return ColumnSummary(kind=kind, nulls=values.null_count(), private=column.private)
    there = numbers_in(values)
    ends = (_written(there[0]), _written(there[-1])) if len(there) and not column.private else (None, None)
    return ColumnSummary(
        kind=kind,
        nulls=len(values) - len(there),
        bins=bins_of(there, most, PRIVATE_ROWS if column.private else 1),
        least=ends[0],
        largest=ends[1],
        private=column.private,
    )


def _counted(places: npt.NDArray[Any], classes: int) -> list[int]:
    counts: list[int] = np.bincount(places.astype(np.int64), minlength=classes).tolist()
    return counts


def _calibration(said: npt.NDArray[np.float64], seen: npt.NDArray[np.float64]) -> Curve | None:
    """From a probability to the share of rows of the class; None where one of the two was never seen."""
    if not 0 < seen.sum() < len(seen):
        return None
    if len(seen) < FEW_ROWS:
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=1e3).fit(logit(said)[:, None], seen)
        points = np.linspace(0, 1, 51)
        return _curve(points, fitted.predict_proba(logit(points)[:, None])[:, 1])
    from sklearn.isotonic import IsotonicRegression

    steps = IsotonicRegression(y_min=0, y_max=1).fit(said, seen)
    x, y = steps.X_thresholds_, steps.y_thresholds_
    kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(np.int64))
    return _curve(x[kept], y[kept])


def _curve(said: npt.NDArray[np.float64], seen: npt.NDArray[np.float64]) -> Curve:
    return Curve([round(float(one), 6) for one in said], [round(float(one), 6) for one in seen])


def logit(probability: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Log odds; those of 0 and 1 are finite."""
    near = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    made: npt.NDArray[np.float64] = np.log(near / (1 - near))
    return made


def encoded(columns: Mapping[str, ColumnSummary], table: pl.DataFrame, orders: Mapping[str, Sequence[str]]) -> Floats:
    """Columns as trees take them: numbers, and categories by their place in ``orders``, -1 for others; NaN for null.

    Shape (rows, columns).
    """
    import polars as pl

    made = np.full((table.height, len(columns)), np.nan, dtype=np.float32, order="F")
    for place, (name, column) in enumerate(columns.items()):
        if name not in table.columns or column.kind == "other":
            continue
        values = table[name]
        if column.kind == "number":
            read = as_numbers(values, "number") if values.dtype == pl.String else values
            made[:, place] = read.cast(pl.Float32, strict=False).to_numpy()
        elif column.levels is not None:
            known = dict.fromkeys(orders.get(name, column.levels.counts))
            texts = levels_in(column, values, known)
            codes = texts.replace_strict(list(known), list(range(len(known))), default=-1, return_dtype=pl.Float32)
            made[:, place] = codes.set(texts.is_null(), None).to_numpy()
    made[~np.isfinite(made)] = np.nan
    return made


def _losses(columns: Mapping[str, ColumnSummary], held_out: pl.DataFrame, ours: Predictions) -> Losses | None:
    """Models of the errors on some held-out rows (direct loss estimation, as NannyML calls it); None where there are too few rows."""
    if len(ours.y) < PRIVATE_ROWS * 20:
        return None
    rows = np.unique(np.linspace(0, len(ours.y) - 1, min(LOSS_ROWS, len(ours.y))).astype(np.int64))
    recorded = {name: column for name, column in columns.items() if not column.private}
    x = np.column_stack([encoded(recorded, held_out[rows], {}), ours.predicted[rows]])
    error = np.abs(ours.y[rows].astype(np.float64) - ours.predicted[rows])
    return Losses(columns=list(recorded), absolute=_fitted(x, error), squared=_fitted(x, error**2))


def _fitted(x: npt.NDArray[Any], y: npt.NDArray[np.float64]) -> str:
    import lightgbm as lgb

    data = lgb.Dataset(x, y, free_raw_data=True, params={"verbosity": -1})
    settings = {"objective": "regression", "num_leaves": 15, "min_data_in_leaf": 20, "verbosity": -1, "seed": 0, "deterministic": True}
    text: str = lgb.train(settings | {"force_col_wise": True, "num_threads": 1}, data, LOSS_TREES).model_to_string(num_iteration=-1)
    # The least and the greatest value of each column are written down, and not needed.
    text = re.sub(r"^feature_infos=.*$", f"feature_infos={' '.join(['none'] * x.shape[1])}", text, flags=re.MULTILINE)
    return text.partition("\nparameters:")[0] + "\nparameters:\nend of parameters\n"
