"""One pass over a window: what its rows, predictions and labels are beside a version's reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_pipeline.contract.reference import Levels, Reference
from mlops_pipeline.contract.task import PREDICTION
from mlops_pipeline.contract.values import category_of, spelled
from mlops_pipeline.inference.texts import FrozenEncoder
from mlops_pipeline.modelling.metrics import Predictions, bootstrap_all, calibration_error, direction, point
from mlops_pipeline.modelling.summary import NO_ENCODERS, encoded, scores_of
from mlops_pipeline.monitoring.estimated import BLIND, estimated, most_rows
from mlops_pipeline.monitoring.measured import (
    PROBE,
    UNMEASURED,
    Batch,
    ColumnDrift,
    Figure,
    Incomparable,
    Limits,
    Measured,
    SliceQuality,
    TextDrift,
)
from mlops_pipeline.monitoring.probe import LEAST_DAYS, domain_auc, probe, unit
from mlops_pipeline.monitoring.sampled import Sample
from mlops_pipeline.monitoring.statistics import (
    adjusted,
    chi_squared,
    grouped,
    jensen_shannon,
    kolmogorov_smirnov,
    pooled,
    share_effect,
    share_p,
    stability,
    wasserstein,
)
from mlops_pipeline.monitoring.tally import Categories, ColumnTally, Numbers
from mlops_pipeline.monitoring.texts import beside

if TYPE_CHECKING:
    import polars as pl

KEPT_ROWS = 200_000
"""Rows that are kept whole, of more an even sample."""
KEPT_VALUES = 20_000_000
"""Features among them."""
RESAMPLED_ROWS = 20_000
"""An interval is drawn from as many rows, and made narrower where there are more."""
DOMAIN_ROWS = 10_000
NOT_SUMMARISED = "words and embeddings are not compared, since the version's summary has none: `mlops run` makes one that has"
UNKNOWN = -2
"""The class of a row whose label is not known yet; -1 is one that the model has never seen."""


def measure(
    reference: Reference,
    batches: Iterable[Batch],
    limits: Limits | None = None,
    *,
    refused: int = 0,
    asks_probe: bool = False,
    before: pl.DataFrame | None = None,
    encoders: Mapping[str, FrozenEncoder] = NO_ENCODERS,
    advance: Callable[[], object] = lambda: None,
) -> Measured:
    """Measure a window; of any number of rows it holds one batch, the counts and a sample in memory.

    ``refused``: requests that were not answered. ``asks_probe``: whether retraining would help. ``before``: rows that a domain
    classifier shall tell from the window's. ``encoders``: by which the model reads columns of text. ``advance`` is called after each
    batch. Raises :class:`Incomparable` if scores are of another shape than the reference's.
    """
    window = _Window(reference, limits or Limits(), asks_probe, before, encoders)
    for batch in batches:
        window.add(batch)
        advance()
    return window.measured(refused)


@dataclass
class _Test:
    """One of the questions asked of a window at once: whether something has changed, and by enough to matter."""

    column: str
    reason: str
    p: float
    effect: float
    enough: bool
    adjusted: float = math.nan


@dataclass
class _Found:
    """A column's or the predictions' distribution beside the reference's."""

    statistics: dict[str, float]
    p: float
    effect: float


@dataclass
class _Window:
    """The counts and samples of a window, while its rows pass by."""

    reference: Reference
    limits: Limits
    asks_probe: bool
    before: pl.DataFrame | None
    encoders: Mapping[str, FrozenEncoder]
    rows: int = 0
    labels: int = 0
    strange: int = 0
    columns: list[ColumnTally] = field(init=False)
    scores: Numbers | None = field(init=False)
    answers: npt.NDArray[np.int64] = field(init=False)
    every: Sample = field(init=False)
    labelled: Sample = field(init=False)
    notes: list[str] = field(default_factory=list)
    has_scores: bool = True
    has_moments: bool = True
    has_things: bool = True
    orders: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        reference, seed = self.reference, self.limits.seed
        self.columns = [ColumnTally(name, summary, seed) for name, summary in reference.columns.items()]
        self.orders = reference.orders
        name = PREDICTION if not reference.classes else str(reference.positive)
        self.scores = Numbers(reference.scores[name]) if name in reference.scores else None
        self.answers = np.zeros(len(reference.classes), dtype=np.int64)
        self.every = Sample(self._most(self._keeps_features), seed)
        self.labelled = Sample(self._most(self._keeps_features or self.asks_probe), seed + 1)

    @property
    def _keeps_features(self) -> bool:
        """Whether features are needed of rows without a label."""
        return self.reference.losses is not None or self.before is not None

    def _most(self, features: bool) -> int:
        return min(KEPT_ROWS, max(KEPT_VALUES // max(len(self.columns), 1), 1000)) if features else KEPT_ROWS

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.rows += batch.features.height
        for column in self.columns:
            column.add(batch.features)
        if batch.scores is None:
            self.has_scores = False
            return
        predicted = self._checked(batch)
        self._add_scores(predicted)
        keeps, asks = self._keeps_features, self.asks_probe
        features = encoded(self.reference.columns, batch.features, self.orders) if keeps or (asks and batch.labels is not None) else None
        kept = {"predicted": predicted} | ({"features": features} if keeps and features is not None else {})
        self.every.add(len(predicted), kept)
        if batch.labels is not None:
            self._add_labels(batch, predicted, features)

    def _checked(self, batch: Batch) -> npt.NDArray[Any]:
        predicted = np.asarray(batch.scores)
        wanted = (batch.features.height, *([len(self.reference.classes)] if self.reference.classes else []))
        if predicted.shape != wanted:
            raise Incomparable(f"scores of shape {predicted.shape} for rows of which the version says {wanted}: they are another version's")
        return predicted

    def _add_scores(self, predicted: npt.NDArray[Any]) -> None:
        reference = self.reference
        if self.scores is not None:
            values = next(iter(scores_of(predicted, reference.task, reference.classes, reference.positive).values()))
            self.scores.add(np.sort(values.astype(np.float32)))
        if reference.classes:
            self.answers += np.bincount(predicted.argmax(axis=1), minlength=len(reference.classes))

    def _add_labels(self, batch: Batch, predicted: npt.NDArray[Any], features: npt.NDArray[Any] | None) -> None:
        import polars as pl

        labels = batch.labels
        if labels is None:
            return
        y = truths_of(self.reference, labels)
        known = y != UNKNOWN if self.reference.classes else np.isfinite(y)
        self.strange += int((y == -1).sum()) if self.reference.classes else 0
        self.labels += int(known.sum())
        kept: dict[str, npt.NDArray[Any]] = {"predicted": predicted[known], "y": y[known]}
        if batch.moments is None:
            self.has_moments = False
            kept["days"] = np.zeros(int(known.sum()), dtype=np.int64)
        else:
            kept["days"] = _days(batch.moments)[known]
        if self.limits.together:
            self.has_things &= batch.things is not None
            kept["things"] = np.zeros(int(known.sum()), dtype=np.uint64) if batch.things is None else batch.things[known]
        if features is not None:
            kept["features"] = features[known]
        for name in self.limits.slices:
            there = name in batch.features.columns
            texts = batch.features[name].cast(pl.String).fill_null("(missing)") if there else None
            kept[f"slice {name}"] = (
                texts.filter(pl.Series(known)).to_numpy() if texts is not None else np.full(int(known.sum()), "(missing)", dtype=object)
            )
        self.labelled.add(int(known.sum()), kept)

    def measured(self, refused: int) -> Measured:
        """What was found."""
        figures: dict[str, Figure] = dict.fromkeys(self._names())
        figures["rows"], figures["labels"] = float(self.rows), float(self.labels)
        figures["refused.share"] = refused / (refused + self.rows) if refused + self.rows else None
        if self.rows < self.limits.least_rows:
            why = f"too few rows: {self.rows:,}, and {self.limits.least_rows:,} are the least"
            return Measured(rows=self.rows, labels=self.labels, enough=False, why=why, figures=figures, notes=(why,))
        columns = self._drift(figures)
        slices: tuple[SliceQuality, ...] = ()
        sample = self.every.rows() if self.has_scores else {}
        metrics = list(self.reference.quality) or ([self.reference.metric] if self.reference.metric else [])
        if sample and metrics:
            expected = estimated(self.reference, sample["predicted"].astype(np.float64), sample.get("features"), metrics, self.limits.seed)
            figures |= {f"estimated.{name}": value for name, value in expected.items()}
            if any(value is not None for value in expected.values()):
                self.notes.append(BLIND)
            most = min(self.every.most, most_rows(self.reference))
            if not most:
                self.notes.append(f"quality is not estimated without labels: {len(self.reference.classes):,} classes are too many")
            elif self.every.seen > most:
                self.notes.append(f"quality is estimated from an even sample of {most:,} rows")
        if self.labels:
            slices = self._quality(figures, metrics)
        if self.before is not None and sample:
            figures["domain.auc"] = self._domain(sample)
        return Measured(
            rows=self.rows,
            labels=self.labels,
            figures={name: None if value is None or not math.isfinite(value) else value for name, value in figures.items()},
            columns=columns,
            slices=slices,
            notes=tuple(self.notes),
        )

    def _names(self) -> list[str]:
        metrics = list(self.reference.quality) or [self.reference.metric]
        quality = [f"quality.{name}{end}" for name in metrics for end in ("", ".low", ".high")]
        expected = [f"estimated.{name}{end}" for name in metrics for end in ("", ".error")]
        return [*FIGURES, *quality, *expected]

    def _drift(self, figures: dict[str, Figure]) -> tuple[ColumnDrift, ...]:
        found = {column.name: _distribution(column) for column in self.columns}
        texts = {column.name: read for column in self.columns if (read := self._texts(column)) is not None}
        tests = [test for column in self.columns for test in self._tests(column, found[column.name])]
        tests += [test for name, read in texts.items() for test in self._tests_of_texts(name, read)]
        score = self._score_drift()
        if score is not None:
            tests.append(_Test("", "score", score.p, score.effect, score.effect > self.limits.effect))
        for test, p in zip(tests, adjusted([test.p for test in tests]), strict=True):
            test.adjusted = float(p)
        if absent := [column.name for column in self.columns if column.absent]:
            self.notes.append(f"not among the rows, so null in each: {', '.join(absent)}")
        if score is not None:
            judged = tests[-1]
            figures["drift.score"] = score.effect
            figures["drift.score.detected"] = float(judged.enough and judged.adjusted < self.limits.significance)
        elif not self.has_scores:
            self.notes.append("rows without a prediction are among these: nothing is said of predictions and quality")
        elif not self.reference.held_out:
            self.notes.append("the reference has no held-out rows: nothing is said of the drift of predictions")
        self.notes += [f"{name}: {read.note}" for name, read in texts.items() if read.note]
        self.notes += [f"{column.name}: {NOT_SUMMARISED}" for column in self.columns if _is_of_before(column)]
        made = tuple(self._column(column, found[column.name], texts.get(column.name), tests) for column in self.columns)
        drifted = sum(column.drifted for column in made)
        figures["drift.columns"] = float(drifted)
        figures["drift.share"] = drifted / len(made) if made else None
        figures["missing.share"] = max((column.missing - column.missing_before for column in made), default=0.0)
        grown = (c.new_categories - (c.new_categories_before or 0.0) for c in made if c.new_categories is not None)
        figures["new_categories.share"] = max(grown, default=0.0)
        moved = [read.distance for read in texts.values() if read.distance is not None]
        new = [read.unseen - read.unseen_before for read in texts.values() if read.unseen_p is not None]
        figures["embedding.distance"], figures["unseen_words.share"] = max(moved, default=None), max(new, default=None)
        figures["out_of_bounds.share"] = max((c.out_of_bounds for c in made if c.out_of_bounds is not None), default=0.0)
        return made

    def _tests(self, column: ColumnTally, found: _Found | None) -> list[_Test]:
        rows, before = column.rows, self.reference.rows
        made = [] if found is None else [_Test(column.name, "distribution", found.p, found.effect, found.effect > self.limits.effect)]
        shares = [("missing", column.summary.nulls, before, column.nulls, rows)]
        there = rows - column.nulls
        if column.categories is not None and column.summary.levels is not None:
            levels = column.summary.levels
            shares.append(("new_categories", levels.rest + levels.once, levels.rows, column.categories.other, there))
        if (outside := _outside(column)) is not None:
            shares.append(("out_of_bounds", 0, before - column.summary.nulls, outside, there))
        for reason, first, of, second, seen in shares:
            if (first or second) and of and seen:
                effect = share_effect(first / of, second / seen)
                enough = effect > self.limits.share_effect or (reason == "missing" and -effect > self.limits.share_effect)
                made.append(_Test(column.name, reason, share_p(first, of, second, seen), effect, enough))
        return made

    def _texts(self, column: ColumnTally) -> TextDrift | None:
        summary = column.summary.texts
        if summary is None or column.texts is None:
            return None
        texts = column.texts.rows().get("texts", np.empty(0, dtype=object)).tolist()
        return beside(summary, texts, self.encoders, column.name, embed=self.limits.texts, seed=self.limits.seed)

    def _tests_of_texts(self, name: str, read: TextDrift) -> list[_Test]:
        limits, grown = self.limits, read.unseen - read.unseen_before
        made = [] if read.unseen_p is None else [_Test(name, "vocabulary", read.unseen_p, grown, grown > limits.unseen_words)]
        if read.distance is not None and read.distance_p is not None:
            made.append(_Test(name, "embedding", read.distance_p, read.distance, read.distance > limits.text_distance))
        return made

    def _column(self, column: ColumnTally, found: _Found | None, texts: TextDrift | None, tests: Sequence[_Test]) -> ColumnDrift:
        own = [test for test in tests if test.column == column.name]
        raised = [test for test in own if test.enough and test.adjusted < self.limits.significance]
        of_all = next((test for test in own if test.reason == "distribution"), None)
        outside, there, levels = _outside(column), column.rows - column.nulls, column.summary.levels
        new = None if column.categories is None else column.categories.other
        return ColumnDrift(
            name=column.name,
            kind=column.summary.kind,
            statistics={} if found is None else {name: value for name, value in found.statistics.items() if math.isfinite(value)},
            p=None if found is None else found.p,
            p_adjusted=None if of_all is None else of_all.adjusted,
            effect=None if found is None else max(found.effect, (texts and texts.distance) or 0.0),
            drifted=bool(raised),
            reasons=tuple(test.reason for test in raised),
            missing=column.nulls / column.rows if column.rows else 0.0,
            missing_before=column.summary.nulls / self.reference.rows if self.reference.rows else 0.0,
            new_categories=None if new is None or not there else new / there,
            new_categories_before=levels.rest / levels.rows if levels is not None and levels.rows else None,
            out_of_bounds=None if outside is None or not there else outside / there,
            texts=texts,
        )

    def _score_drift(self) -> _Found | None:
        reference = self.reference
        if not self.has_scores:
            return None
        if self.scores is not None:
            return _of_numbers(self.scores)
        if len(reference.classes) > 2 and any(reference.answers):
            return _of_counts(np.asarray(reference.answers, dtype=np.int64), self.answers)
        return None

    def _quality(self, figures: dict[str, Figure], metrics: Sequence[str]) -> tuple[SliceQuality, ...]:
        reference, limits = self.reference, self.limits
        if self.strange:
            self.notes.append(f"{self.strange:,} labels are of a class that the model has never seen")
        if self.labels < limits.least_labels:
            self.notes.append(f"too few labels: {self.labels:,}, and {limits.least_labels:,} are the least: no quality")
            return ()
        rows = self.labelled.rows()
        if self.labelled.seen > self.labelled.most:
            self.notes.append(f"quality is that of an even sample of {self.labelled.most:,} labelled rows")
        things = np.unique(rows["things"], return_inverse=True)[1].astype(np.int64) if limits.together and self.has_things else None
        if limits.together and things is None:
            names = " and ".join(map(repr, limits.together))
            self.notes.append(
                f"{names} is not on record: intervals of quality take each row for itself, and are too narrow where several are of one"
            )
        made = Predictions(reference.task, rows["y"], rows["predicted"].astype(np.float64), reference.positive, things)
        for name, (value, low, high) in self._intervals(metrics, made).items():
            figures |= {f"quality.{name}": value, f"quality.{name}.low": low, f"quality.{name}.high": high}
        if unknown := [name for name in metrics if not math.isfinite(figures[f"quality.{name}"] or 0.0)]:
            classes = len(reference.classes)
            absent = classes - len(np.unique(made.y[made.y >= 0])) if classes else 0
            why = f"no labelled row is of {absent:,} of the {classes:,} classes" if absent else "it is not defined on these labels"
            self.notes.append(f"{', '.join(unknown)} {UNMEASURED}: {why}")
        figures["calibration.error"] = calibration_error(made)
        for name, expected in estimated(reference, made.predicted, rows.get("features"), metrics, limits.seed).items():
            truth = figures[f"quality.{name}"]
            figures[f"estimated.{name}.error"] = None if expected is None or truth is None else expected - truth
        if self.asks_probe:
            self._probe(figures, rows, made)
        return self._slices(rows, made)

    def _probe(self, figures: dict[str, Figure], rows: dict[str, npt.NDArray[Any]], made: Predictions) -> None:
        """Rows of one day are alike: what is learned from half of them tells the other half more than any retraining would."""
        reference, limits = self.reference, self.limits
        days = rows["days"] if self.has_moments else None
        if days is not None and (known := len(np.unique(days))) < LEAST_DAYS:
            days_known = f"{known} day{'s' if known != 1 else ''}"
            self.notes.append(f"{PROBE} is not asked: labelled rows are of {days_known}, and {LEAST_DAYS} are the least")
            return
        found = probe(reference, rows["features"], made, days, resamples=limits.resamples, confidence=limits.confidence, seed=limits.seed)
        if not math.isfinite(found.value):
            self.notes.append(f"{PROBE} has no answer: half of the labelled days have too few rows for it, or lack a class")
        figures |= {"probe.gain": found.value, "probe.gain.low": found.low, "probe.gain.high": found.high}
        if scale := unit(reference):
            ends = {"": found.value, ".low": found.low, ".high": found.high}
            figures |= {f"probe.gain.relative{end}": None if value is None else value / scale for end, value in ends.items()}
        if days is None:
            self.notes.append(f"{PROBE}'s interval is over rows drawn at random, as nothing tells their days: it is too narrow")

    def _intervals(self, metrics: Sequence[str], made: Predictions) -> dict[str, tuple[float, float, float]]:
        rows, limits = len(made.y), self.limits
        values = {name: point(name, made) for name in metrics}
        chosen, narrower = made, 1.0
        if rows > RESAMPLED_ROWS:
            some, share = _some_rows(made, limits.seed)
            chosen = made.of_rows(some)
            narrower = math.sqrt(share)
        found = bootstrap_all(metrics, chosen, limits.resamples, limits.confidence, limits.seed)
        return {
            name: (
                value,
                value - narrower * (found[name].value - found[name].low),
                value + narrower * (found[name].high - found[name].value),
            )
            for name, value in values.items()
        }

    def _slices(self, rows: dict[str, npt.NDArray[Any]], made: Predictions) -> tuple[SliceQuality, ...]:
        """The metric by slice, worst first."""
        metric, found = self.reference.metric, []
        for name in self.limits.slices:
            texts = rows[f"slice {name}"]
            for value, count in zip(*np.unique(texts.astype(str), return_counts=True), strict=True):
                if count < self.limits.least_slice_rows:
                    continue
                own = texts == value
                part = made.of_rows(own)
                if np.isfinite(point(metric, part)):
                    said, low, high = self._intervals([metric], part)[metric]
                    found.append(
                        SliceQuality(column=name, value=str(value), rows=int(count), metric=said, low=_real(low), high=_real(high))
                    )
        found.sort(key=lambda one: (direction(metric) * (one.metric or 0.0), one.column, one.value))
        return tuple(found)

    def _domain(self, sample: dict[str, npt.NDArray[Any]]) -> Figure:
        if self.before is None:
            return None
        ours = encoded(self.reference.columns, self.before, self.orders)
        sides = [side[np.unique(np.linspace(0, len(side) - 1, DOMAIN_ROWS).astype(np.int64))] for side in (ours, sample["features"])]
        return domain_auc(sides[1], sides[0], self.limits.seed)


FIGURES = (
    "rows",
    "labels",
    "refused.share",
    "drift.columns",
    "drift.share",
    "drift.score",
    "drift.score.detected",
    "missing.share",
    "new_categories.share",
    "out_of_bounds.share",
    "embedding.distance",
    "unseen_words.share",
    "calibration.error",
    "probe.gain",
    "probe.gain.low",
    "probe.gain.high",
    "probe.gain.relative",
    "probe.gain.relative.low",
    "probe.gain.relative.high",
    "domain.auc",
)
"""Names of figures of every window; beside them ``quality.METRIC`` and ``estimated.METRIC``."""


def _some_rows(made: Predictions, seed: int) -> tuple[npt.NDArray[np.int64], float]:
    """Places of about :data:`RESAMPLED_ROWS` rows, in their order, and their share: of all rows, or of all things that rows belong to.

    Things are taken whole; one that is larger than that is taken all the same, alone.
    """
    draw = np.random.default_rng(seed)
    if made.things is None:
        return np.sort(draw.permutation(len(made.y))[:RESAMPLED_ROWS]), RESAMPLED_ROWS / len(made.y)
    _, place, sizes = np.unique(made.things, return_inverse=True, return_counts=True)
    order = draw.permutation(len(sizes))
    count = max(1, int(np.searchsorted(np.cumsum(sizes[order]), RESAMPLED_ROWS, side="right")))
    return np.flatnonzero(np.isin(place, order[:count])), count / len(sizes)


def _distribution(column: ColumnTally) -> _Found | None:
    if column.numbers is not None:
        return _of_numbers(column.numbers)
    if column.categories is not None and column.summary.levels is not None:
        return _of_counts(*_side_by_side(column.summary.levels, column.categories))
    return None


def _of_numbers(tally: Numbers) -> _Found | None:
    before, counts = np.asarray(tally.before.counts, dtype=np.int64), tally.counts
    if not before.sum() or not counts.sum():
        return None
    ks, p = kolmogorov_smirnov(before, counts)
    effect = wasserstein(tally.before, counts, tally.sums)
    few = grouped(before, counts)
    statistics = {"wasserstein": effect, "ks": ks, "jensen_shannon": jensen_shannon(*few), "psi": stability(*few)}
    return _Found(statistics, p, effect)


def _of_counts(before: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> _Found | None:
    if not before.sum() or not counts.sum():
        return None
    found, p = chi_squared(before, counts)
    distance = jensen_shannon(before, counts)
    statistics = {"jensen_shannon": distance, "psi": stability(before, counts), "chi_squared": found}
    # Of categories that are seen a few times each the distance is mostly chance: they count as one.
    return _Found(statistics, 1.0 if math.isnan(p) else p, jensen_shannon(*pooled(before, counts)))


def _side_by_side(levels: Levels, tally: Categories) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    before = np.fromiter(levels.counts.values(), dtype=np.int64, count=len(levels.counts))
    if not levels.rest and not tally.other:
        return before, tally.counts
    return np.append(before, levels.rest), np.append(tally.counts, tally.other)


def _is_of_before(column: ColumnTally) -> bool:
    """Whether a column holds texts of which the version's summary says nothing but their forms."""
    summary = column.summary
    return summary.words is not None and summary.texts is None and not summary.private and column.nulls < column.rows


def _outside(column: ColumnTally) -> int | None:
    return None if column.numbers is None or column.summary.least is None else column.numbers.outside


def truths_of(reference: Reference, labels: pl.Series) -> npt.NDArray[Any]:
    """Labels as places of classes (:data:`UNKNOWN` for null, -1 for a class never seen), or as values (NaN for null).

    A class is meant as a category of a column is: by ``1.0`` in a table with a gap, 1 (:func:`category_of`).
    """
    import polars as pl

    from mlops_pipeline.tables.cast import as_text

    if not reference.classes:
        return labels.cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
    places = {str(spelled(name)): place for names in (reference.answered, reference.classes) for place, name in enumerate(names)}
    if labels.dtype == pl.Boolean and not places.keys() & {"true", "false"}:
        labels = labels.cast(pl.Int8)
    texts = as_text(labels)
    places |= {text: places.get(category_of(text, places, ()) or "", -1) for text in texts.drop_nulls().unique()}
    found = texts.replace_strict(list(places), list(places.values()), default=-1, return_dtype=pl.Int64)
    return found.set(texts.is_null(), UNKNOWN).to_numpy()


def _days(moments: pl.Series) -> npt.NDArray[np.int64]:
    import polars as pl

    if moments.dtype.is_temporal():
        moments = moments.cast(pl.Date)
    return moments.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()


def _real(value: float) -> Figure:
    return value if math.isfinite(value) else None
