"""What a single column knows about the target, and whether it knows too much: a leak, or an honest strong feature.

A leak says alone what everything else together cannot: the outcome was written into it. An honest strong feature is one of
several signs of the same thing: without a petal's length its width still tells an iris, without one measure of a cell's
nucleus nine others do. So a column is suspected if it alone predicts the target nearly perfectly *and* a model of all the
others, on the same rows, errs ``FACTOR`` times as often; twice that for a number, where one size may honestly follow another,
and half of it where the column's name has the target's in it. Several copies of the outcome would clear each other: columns
that alone are all but perfect are also taken out together, and suspected if the rest then errs far more. A number that rises or
falls with a numeric target in every row is always suspected. A category of very many levels, each of which is of one class, is kept,
and said: breeds name a species more finely, as models name a make; an outcome that was written down has few words. So is a text in
one place of which stand many words for each class, as nouns that name a category at the end of titles. Else a table
of a few rows, or a single feature, accuses nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Dataset
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.tables.phrases import telling

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

ROWS = 50_000
"""Rows looked at, drawn by chance: enough to tell an AUC to the second digit."""

TEXT_ROWS, WORD_ROWS = 20_000, 5
"""Of texts so many rows are looked at, and words of so many rows at least in each half."""

BINS = 64
"""Quantile bins of a number; enough to see a dependence that is not monotone."""


FEW_ROWS = 100
"""In a smaller table a column may tell the target by chance."""

FACTOR = 4.0
PERFECT, NEARLY_PERFECT, COPIES_FACTOR = 0.999, 0.98, 10.0
"""From which AUC on several columns may be copies of a number and of a class, and how much more often the rest then errs."""

NUMBER_LIMIT = 0.98
"""For a number, the AUC of telling whether it is above its median is high for many an honest column."""

FOLLOWED_ROWS = 20
"""A column that follows the target through so many rows does not do so by chance."""

FINER_LEVELS, FINER_TIMES, FINER_ROWS = 30, 10, 5
"""A category names classes more finely from so many levels on, so many for each class, each in so many rows on average."""

MOST_ROWS, APART = 0.95, 8
"""A model of the others tells apart the classes that so many rows are of, where there are several: each from the rest by a fit of its own,
or, where they are more than so many, all by one."""

MODEL_ROWS, MODEL_COLUMNS, JUDGED = 4_000, 50, 6
"""The model of the others looks at so many rows and columns; so many strong columns are judged, the strongest."""


Words = Callable[[str], list[str]]
"""The words of a text."""


@dataclass(frozen=True)
class Strong:
    """A column that alone predicts the target: with which AUC, with which all others together, and whether that accuses it."""

    alone: float
    others: float
    suspected: bool
    finer: bool = False
    """It would be suspected, but has many levels for each class."""


def strong_features(
    table: pl.DataFrame, aucs: dict[str, float], data: Dataset, limit: float, seed: int, words: Words = str.split
) -> dict[str, Strong]:
    """Every feature with an AUC alone above the limit, judged against all the others; ``aucs`` are of every feature, alone.

    A column that is equal to another in every row is none of the others.
    """
    limit = limit if has_classes(data.task) else max(limit, NUMBER_LIMIT)
    following = [name for name in aucs if not has_classes(data.task) and len(aucs) > 1 and _follows(table[name], table[data.target])]
    if following:
        others = _others(_some(table), aucs, following, data, seed)
        found = {name: Strong(1.0, others, suspected=True) for name in following}
        rest = {name: value for name, value in aucs.items() if name not in following}
        return {**found, **strong_features(table, rest, data, limit, seed, words)}
    if table.height < FEW_ROWS or not any(value > limit for value in aucs.values()):
        return {}
    table = _some(table)
    labels = _labels(table[data.target], data)
    shares = [float(label.mean() or 0) for label in labels]  # type: ignore[arg-type]  # a mean of truths
    alone = {
        name: _mean(_aucs(table[name], labels, data.columns[name].kind == "text", words), shares)
        for name, auc in aucs.items()
        if auc > limit
    }
    ranked = sorted((name for name in alone if alone[name] > limit), key=lambda name: -alone[name])
    perfect = {name for name in ranked if alone[name] >= (NEARLY_PERFECT if has_classes(data.task) else PERFECT)}
    together = _others(table, aucs, perfect, data, seed) if len(perfect) > 1 else 1.0
    found = {}
    for name in ranked:
        others = together if name in perfect and len(perfect) > 1 else 1.0
        accused = 1 - others >= max(0.05, COPIES_FACTOR * (1 - alone[name]))
        if not accused and len(found) < JUDGED:
            # A model is fitted only where no other column alone clears this one.
            others = max((alone.get(other, aucs[other]) for other in aucs if other != name), default=1.0)
            if _far(alone[name], others, name, data):
                others = max(others if len(labels) < 2 else 0.0, _others(table, aucs, {name}, data, seed))
            accused = _far(alone[name], others, name, data)
        finer = accused and _is_finer(table[name], name, data, table[data.target].n_unique())
        if accused and data.columns[name].kind == "text":
            written = _mean(_aucs(table[name], labels, True, words, of_few=True), shares)
            finer = not (written > limit and _far(written, others, name, data))
        found[name] = Strong(alone[name], others, accused and not finer, finer)
    return found


def _follows(values: pl.Series, target: pl.Series) -> bool:
    """Whether a number rises, or falls, with the target in every row: it was computed from it, or the target from it."""
    import polars as pl

    if not values.dtype.is_numeric():
        return False
    rows = pl.DataFrame({"x": values, "y": target}).drop_nulls()
    if rows.height < FOLLOWED_ROWS or rows["x"].n_unique() * 2 < rows["y"].n_unique() or rows["y"].n_unique() < FOLLOWED_ROWS:
        return False
    rank = pl.corr("x", "y", method="spearman")
    return abs(float(rows.select(rank).item() or 0)) > 0.99999


def _is_finer(values: pl.Series, name: str, data: Dataset, classes: int) -> bool:
    """Whether a category has so many levels that it names the target's classes more finely."""
    if data.columns[name].kind != "category" or not has_classes(data.task) or _is_named_after(name, data):
        return False
    levels = values.drop_nulls().n_unique()
    return levels >= max(FINER_LEVELS, FINER_TIMES * classes) and levels * FINER_ROWS <= values.len()


def _far(alone: float, others: float, name: str, data: Dataset) -> bool:
    factor = FACTOR * (1 if has_classes(data.task) else 1.5) * (0.5 if _is_named_after(name, data) else 1)
    return 1 - others >= max(factor * (1 - alone), 0.01)


def _is_named_after(name: str, data: Dataset) -> bool:
    """Whether a column's name has the target's in it."""
    words = set(re.findall(r"[a-z]+", data.target.lower()))
    return bool(words) and words <= set(re.findall(r"[a-z]+", name.lower()))


def _mean(values: list[float], shares: list[float]) -> float:
    return sum(value * share for value, share in zip(values, shares, strict=True)) / (sum(shares) or 1)


def _others(table: pl.DataFrame, aucs: dict[str, float], without: Collection[str], data: Dataset, seed: int) -> float:
    """The AUC with which a model of all columns but some predicts the target: the better of trees and a linear one, cross-validated."""
    import numpy as np

    names = sorted((name for name in aucs if name not in without), key=lambda name: -aucs[name])[:MODEL_COLUMNS]
    if not names:
        return 1.0
    rows = table.gather_every(-(-table.height // MODEL_ROWS))
    x = np.stack([_codes(rows[name]) for name in names], axis=1)
    labels = _labels(rows[data.target], data)
    kept = [label for label in _most(labels) if 3 <= int(label.sum()) <= len(label) - 3]
    if not kept:
        return 1.0
    shares = [float(label.mean() or 0) for label in kept]  # type: ignore[arg-type]  # a mean of truths
    best = 0.0
    for model in _models(seed, len(x), len(kept)):
        scores = [auc(said, label) for said, label in zip(_out_of_fold(model, x, kept, seed), kept, strict=True)]
        best = max(best, _mean(scores, shares))
    return best


def _most(labels: list[pl.Series]) -> list[pl.Series]:
    """The labels that nearly all rows have, the most usual first: rare ones weigh next to nothing, and each costs as many fits."""
    ranked = sorted(labels, key=lambda label: -int(label.sum()))
    before, found = 0, list[Any]()
    for label in ranked:
        if found and before >= MOST_ROWS * len(label):
            break
        found.append(label)
        before += int(label.sum())
    return found


def _models(seed: int, rows: int, classes: int) -> list[Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    boosted = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, early_stopping=False, random_state=seed)
    forest = RandomForestClassifier(n_estimators=60, min_samples_leaf=2, random_state=seed, n_jobs=1)
    linear = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), LogisticRegression(max_iter=500))
    # Boosting grows a tree for each class, as often as if each had a fit of its own.
    return [boosted if rows > MODEL_ROWS // 2 and classes <= APART else forest, linear]


def _out_of_fold(model: Any, x: np.ndarray, labels: list[pl.Series], seed: int) -> list[pl.Series]:
    """With which probability each label is each row's, by models of other rows."""
    import warnings

    import numpy as np
    import polars as pl
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    truths = [label.to_numpy() for label in labels]
    if len(labels) > APART:
        # Of the classes that are not told apart, all are one.
        truths = [np.argmax([*truths, ~np.logical_or.reduce(truths)], axis=0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a linear model that has not converged: it is one of two opinions
        said = [cross_val_predict(model, x, truth, cv=folds, method="predict_proba") for truth in truths]
    columns = said[0].T[: len(labels)] if len(labels) > APART else [each[:, 1] for each in said]
    return [pl.Series(column) for column in columns]


def _codes(values: pl.Series) -> np.ndarray:
    """A column as float64: numbers and moments as they are, categories by how often they occur; NaN for null."""
    import polars as pl

    if values.dtype.is_temporal():
        values = values.to_physical()
    if not values.dtype.is_numeric():
        values = values.cast(pl.String)
        ranked = values.value_counts(sort=True, name="\0count")[values.name]
        values = values.replace_strict(ranked, pl.Series(range(len(ranked)), dtype=pl.Float64), return_dtype=pl.Float64)
    codes: np.ndarray = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return codes


def single_feature_aucs(table: pl.DataFrame, features: list[str], data: Dataset, words: Words = str.split) -> dict[str, float]:
    """For each feature, the ROC AUC with which it alone predicts the target, 0.5 to 1.

    The feature's score is the target's mean among *other* rows with the same category or quantile bin (two folds, by
    chance), so that a column with many values does not score on its own noise. Several classes: the best of one
    against the rest. Regression: whether the target is above its median. A text scores by its one best word, too, or words in a
    row, or what stands in one place of it, chosen among other rows.
    """
    table = _some(table)
    labels = _labels(table[data.target], data)
    texts = {name for name, column in data.columns.items() if column.kind == "text"}
    return {name: max(_aucs(table[name], labels, name in texts, words), default=0.5) for name in features}


def _some(table: pl.DataFrame) -> pl.DataFrame:
    """At most so many rows as are looked at, in an order by chance that is the same each time.

    Of rows that come by turns, as winner and loser do, every other one has one class alone.
    """
    import numpy as np

    return table[np.random.default_rng(0).permutation(table.height)[:ROWS]]


def _aucs(values: pl.Series, labels: list[pl.Series], are_texts: bool, words: Words, *, of_few: bool = False) -> list[float]:
    """The AUC of each label by one feature alone; ``of_few`` as in ``phrases.telling``."""
    bins = _bins(values)
    found = [_feature_auc(bins, label) for label in labels]
    if not are_texts:
        return found
    read, fewer = _read(values, labels, words)
    by_phrase = [each.aucs for each in telling(read, fewer, _feature_auc, of_few=of_few)]
    return [max(each) for each in zip(found, _word_aucs(read, fewer), *by_phrase, strict=True)]


def _read(texts: pl.Series, labels: list[pl.Series], words: Words) -> tuple[list[list[str]], list[pl.Series]]:
    """The words of each text, of many rows evenly some, and the labels of these."""
    import polars as pl

    step = max(1, -(-len(texts) // TEXT_ROWS))
    read = [[] if text is None else words(text) for text in texts.gather_every(step).cast(pl.String).to_list()]
    return read, [label.gather_every(step) for label in labels]


def phrase_in(texts: pl.Series, target: pl.Series, data: Dataset, limit: float, words: Words) -> tuple[str, float] | None:
    """What of a text alone tells the target with an AUC above the limit, in words, and that AUC; None if nothing does.

    Measured on rows that it was not chosen on.
    """
    import polars as pl

    rows = _some(pl.DataFrame({"text": texts, "target": target}))
    read, fewer = _read(rows["text"], _labels(rows["target"], data), words)
    if len(read) < FEW_ROWS:
        return None
    shares = [float(label.mean() or 0) for label in fewer]  # type: ignore[arg-type]  # a mean of truths
    found = [(each.what, _mean(each.aucs, shares)) for each in telling(read, fewer, _feature_auc)]
    best = max(found, key=lambda each: each[1], default=("", 0.0))
    return best if best[1] > limit else None


def _word_aucs(read: list[list[str]], labels: list[pl.Series]) -> list[float]:
    """The AUC of each label by whether the best word stands in a text: the best of one half of the rows, measured on the other."""
    import numpy as np

    number: dict[str, int] = {}
    rows: list[int] = []
    places: list[int] = []
    for row, text in enumerate(read):
        there = {number.setdefault(word, len(number)) for word in text}
        rows += [row] * len(there)
        places += there
    if not number:
        return [0.5] * len(labels)
    of_row, of_place = np.array(rows), np.array(places)
    found = []
    for label in labels:
        positive = label.fill_null(value=False).to_numpy().astype(bool)
        even = np.arange(len(positive)) % 2 == 0
        told = [_told_by_words(of_row, of_place, len(number), positive, half) for half in (even, ~even)]
        parts = []
        for here, other in (told, told[::-1]):
            best = int(np.argmax(np.abs(here)))
            parts.append(0.5 + np.sign(here[best]) * other[best] / 2)
        found.append(max(0.5, float(sum(parts) / 2)))
    return found


def _told_by_words(rows: np.ndarray, places: np.ndarray, words: int, positive: np.ndarray, half: np.ndarray) -> np.ndarray:
    """For each word, in how much more of the positive rows of one half it stands than in the others; 0 for a rare one."""
    import numpy as np

    ones, zeros = int((positive & half).sum()), int((~positive & half).sum())
    if not ones or not zeros:
        return np.zeros(words)
    counts = [np.bincount(places[(half & label)[rows]], minlength=words) for label in (positive, ~positive)]
    told: np.ndarray = counts[0] / ones - counts[1] / zeros
    return np.where(counts[0] + counts[1] < WORD_ROWS, 0.0, told)


def auc(scores: pl.Series, positive: pl.Series) -> float:
    """The area under the ROC curve by ranks (Mann-Whitney), ties counted half; 0.5 with one class only."""
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return 0.5
    ranks = scores.rank("average").to_numpy()[positive.to_numpy()]
    return float((ranks.sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _labels(target: pl.Series, data: Dataset) -> list[pl.Series]:
    if not has_classes(data.task):
        return [target > target.median()]
    values = sorted(target.unique().to_list())
    return [target == value for value in (values[1:] if len(values) == 2 else values)]


def _bins(values: pl.Series) -> pl.Series:
    import polars as pl

    if not values.dtype.is_numeric() or values.n_unique() <= BINS:
        return values.cast(pl.String).fill_null("").alias("bin")
    return (values.rank("average") * BINS / len(values)).floor().fill_null(-1).cast(pl.String).alias("bin")


def _feature_auc(bins: pl.Series, positive: pl.Series) -> float:
    import polars as pl

    frame = pl.DataFrame({"bin": bins, "y": positive.cast(pl.Float64), "fold": pl.int_range(len(bins), eager=True) % 2})
    means = frame.group_by("bin", "fold").agg(pl.col("y").mean().alias("score")).with_columns(fold=1 - pl.col("fold"))
    scored = frame.join(means, on=["bin", "fold"], how="left", maintain_order="left")
    score = scored["score"].fill_null(frame["y"].mean())
    folds = [frame["fold"] == fold for fold in (0, 1)]
    parts = [auc(score.filter(rows), positive.filter(rows)) for rows in folds]
    return max(0.5, sum(parts) / 2)
