"""A race of candidates on folds of the training rows, within a stated time: the simplest that is as good as the best, or the mean of such.

The candidates, the rows and the folds follow from the seed alone, and so does the choice unless time cuts some candidate off, which
is recorded (``docs/race.md``). A large table is raced on some of its rows first, and only the leaders on more.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Settings, Train, feature_columns, without_features
from mlops_pipeline.contract.privacy import told_error
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.modelling.calendar_columns import calendar_columns
from mlops_pipeline.modelling.candidates import Candidate, Shape, candidates, mean_of
from mlops_pipeline.modelling.estimators import build_model, encoded, fit_estimator, native_categories, predict
from mlops_pipeline.modelling.fitting import Fitting, fitting_of
from mlops_pipeline.modelling.folds import FEW_ROWS, Folds, folds_of
from mlops_pipeline.modelling.frame import positive_index, sorted_classes
from mlops_pipeline.modelling.metrics import direction, score
from mlops_pipeline.modelling.trended import placed

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

FIRST_ROWS, MORE_ROWS, MOST_ROWS = 4_000, 20_000, 60_000
"""How many rows the first, second and third heat of a large table have."""

FAIR_SHARE = 2.0
"""What would take more than so many times its share of the time that is left waits until all others were tried."""

NO_FOLD = "no fold"

LEADERS = (4, 3)
"""How many go into the second heat, and into the third."""

HEAT_SHARE = 0.5
"""So much of the time that is left is for a heat that is not the last, so that what is slow leaves time for more rows."""

GROWTH = 0.9
GROWTH_OF = {"lightgbm": 0.5, "hist_gradient_boosting": 0.5, "random_forest": 1.05}
"""A fit on k times the rows is expected to take k to this power times as long: in boosting most of it is the same for any number.

From :data:`MORE_ROWS` on it is not: 200 rounds took 0.9 s of 40,000 rows and 3.6 s of 233,000.
"""

FINAL_SHARE = 0.5
"""A candidate whose fit on all rows would take a larger share of the time than this is given fewer trees, or left out."""

FEWEST_TREES = 10
"""With fewer trees than these, boosting is left out rather than cut down."""

PILOT_ROWS = 300
"""Before a candidate is fitted to many rows for the first time, it is to so many, to see how long it takes."""

ONE_THREAD = 10_000
"""Below so many rows, waking other threads takes longer than they save, but for a forest, whose trees have nothing to wait for, and
for :data:`MANY_VALUES`: of 3,000 rows of 1,000 numbers two threads fit in two thirds of the time."""

MANY_VALUES = 500_000

AVERAGED_ROWS = 20_000
"""With more rows than these the folds tell the best from the others, and one model is answered by sooner than several."""

CLEARLY = 2.0
"""A family that is behind by more than so many standard errors is no part of a mean."""

NEXT_TO_NOTHING = 0.02
"""A simpler candidate may be behind by so much of the best's error, or of what its score lacks to 1.

By three folds in time a ridge was 3 % behind boosting on 233,000 flights, less than one standard error, and 65 % on those held out.
"""

SAME_MATRIX = {"native": "ordinal"}
"""An encoder that makes the same numbers as another, and only tells an estimator more of them."""

RULE = (
    "of the best of each family, the simplest whose mean is within one standard error of the best's, by folds, and within 2 % of its error"
)
RULE_CUT_SHORT = "the best: time was over before the last heat, and with more rows the less simple gain more"
RULE_OF_MEANS = "the mean of the best of each family that folds do not tell from the best; where they tell all others, the best"


@dataclass
class Entry:
    """A candidate in the race: its scores on the folds of the last heat it was in, and what became of it.

    A score is NaN on a fold where the metric is not defined.
    """

    candidate: Candidate
    rows: int = 0
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0
    """That its last fit took, or the next is expected to take, as one to so many rows as ``timed``."""
    timed: int = 0
    begun: list[float] = field(default_factory=list)
    """Its scores on the first folds of the heat that it is in."""
    said: list[Any] = field(default_factory=list)
    """What it said of each fold of a heat of all rows, where several may be averaged."""
    heats: dict[int, list[float]] = field(default_factory=dict)
    """Its scores in every heat that it finished, by the rows of the heat."""
    state: str = "waiting"
    why: str = ""

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.scores)) if self.scores else float("nan")

    def expected(self, rows: int) -> float:
        """Seconds that a fit on so many rows is expected to take."""
        few, many = (max(min(each, MORE_ROWS), 1) for each in (self.timed, rows))
        beyond = max(rows, MORE_ROWS) / max(self.timed, MORE_ROWS)
        return float(self.seconds * (many / few) ** self.growth * beyond ** max(self.growth, GROWTH))

    @property
    def growth(self) -> float:
        return GROWTH_OF.get(self.candidate.estimator, GROWTH)

    def ended(self, state: str, why: str) -> bool:
        """It is not scored, and why."""
        self.state, self.why = state, why
        return False

    def as_json(self, times: float) -> dict[str, Any]:
        """Ready for JSON; the standard error is that of one round of folds, however many times over rows are scored."""
        defined = np.array([each for each in self.scores if np.isfinite(each)])
        spread = _mean_and_error(defined, times)[1] if len(defined) > 1 else None
        return {
            "name": self.candidate.name,
            "estimator": self.candidate.estimator,
            "encoder": self.candidate.encoder,
            "params": self.candidate.params,
            "without": list(self.candidate.without),
            "state": self.state,
            "why": self.why,
            "rows": self.rows,
            "scores": [round(each, 6) if np.isfinite(each) else None for each in self.scores],
            "mean": round(self.mean, 6) if self.scores else None,
            "standard_error": None if spread is None else round(spread, 6),
        }


@dataclass(frozen=True)
class Raced:
    """What the race chose, as the settings' section ``train`` would name it, and how it went, ready for ``training.json``."""

    train: Train
    summary: dict[str, Any]
    left_out: tuple[str, ...] = ()
    """Features that were raced and are not given to what was chosen."""


def race_metric(settings: Settings) -> str:
    """What candidates are compared by: ``tuning.metric``, else what `init` evaluates a task by."""
    return settings.tuning.metric or {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}[settings.dataset.task]


def race(settings: Settings, table: pl.DataFrame, x: Any, y: Any, console: Console) -> Raced:
    """Race the candidates that fit these training rows. Raises :class:`PipelineError` if none of them can be fitted at all."""
    began = time.monotonic()
    asked, data = settings.train, settings.dataset
    shape = shape_of(settings, x, y)
    entries = [Entry(each) for each in candidates(data.task, shape)]
    if asked.encoder is not None:
        entries = _with_encoder(entries, asked.encoder)
    track = _Track(settings, table, x, y, began + asked.time_budget_s)
    sizes = heats(len(y))
    running, last = [entry for entry in entries if not entry.candidate.of_many], 0
    with console.status("racing") as status:
        for heat, rows in enumerate(sizes):
            if heat:
                running = _leaders(running, LEADERS[heat - 1], track.sign)
                running += [entry for entry in entries if entry.candidate.of_many and rows == sizes[-1]]
            status.update(f"racing {len(running)} candidates on {rows:,} rows")
            leader = running[0] if heat else None
            finished = track.heat(running, rows, 1.0 if rows == sizes[-1] else HEAT_SHARE, leader)
            if not finished or (leader is not None and leader not in finished):
                break  # without the leader of the heat before, this one says nothing
            running, last = finished, rows
    scored = [entry for entry in entries if last in entry.heats]
    for entry in scored:
        # Why time kept one of them from a later heat stays written.
        entry.rows, entry.scores, entry.state = last, entry.heats[last], "scored"
    moments, without = track.without_moments(scored, last) if scored else (None, [])
    entries = [*entries, *without]
    if moments and not moments["kept"]:
        scored = [entry for entry in without if entry.state == "scored"]
    averages = asked.encoder is None and last == len(y) <= AVERAGED_ROWS
    leaders = leaders_of_families(scored, track.sign)
    mean = track.mean(leaders, scored) if averages else None
    rule = RULE_OF_MEANS if averages else RULE
    if not scored:
        chosen = _unraced(entries)
    elif averages:
        chosen = mean or leaders[0]
    elif last < sizes[-1]:
        chosen, rule = leaders[0], RULE_CUT_SHORT
    else:
        chosen = chosen_of([entry for entry in scored if entry in leaders], track.sign, track.times)
    entries = [*entries, *([mean] if mean else [])]
    seconds = time.monotonic() - began
    _say(console, chosen, entries, track, seconds, moments)
    train = asked.model_copy(
        update={"estimator": chosen.candidate.estimator, "encoder": chosen.candidate.encoder, "params": chosen.candidate.params}
    )
    best = _best(scored, track.sign)
    summary = {
        "metric": track.metric,
        "lower_is_better": track.sign < 0,
        "rule": rule,
        "chosen": chosen.candidate.name,
        "best": best.candidate.name if best else None,
        "time_budget_s": asked.time_budget_s,
        "rows": last,
        "folds": track.kind,
        "repeats": track.repeats,
        "moments": moments,
        "left_out": list(chosen.candidate.without),
        "candidates": [entry.as_json(track.times) for entry in entries],
    }
    return Raced(train, summary, chosen.candidate.without)


def shape_of(settings: Settings, x: Any, y: Any) -> Shape:
    """What the candidates' parameters are fitted to."""
    kinds = {name: column.kind for name, column in feature_columns(settings).items()}
    levels = [int(x[name].nunique()) for name, kind in kinds.items() if kind == "category"]
    classes = len(set(y.tolist())) if has_classes(settings.dataset.task) else 0
    time_column = settings.dataset.time_column or ""
    # Where it is anything else than numbers or moments, no line goes along it.
    has_time = settings.split.kind == "time" and not classes and kinds.get(time_column) in ("number", "integer", "datetime")
    return Shape(len(y), classes, max(levels, default=0), list(kinds.values()).count("text"), time_column if has_time else "")


def heats(rows: int) -> list[int]:
    """How many rows each heat has: all, unless they are many."""
    sizes = [size for size in (FIRST_ROWS, MORE_ROWS) if 3 * size < rows]
    return [*sizes, min(rows, MOST_ROWS)]


def leaders_of_families(scored: list[Entry], sign: float) -> list[Entry]:
    """The best of each family, the best of all first."""
    found: dict[str, Entry] = {}
    for entry in _leaders(scored, len(scored), sign):
        found.setdefault(entry.candidate.family, entry)
    return list(found.values())


def behind(entry: Entry, best: Entry, sign: float, times: float) -> tuple[float, float]:
    """By how much one is behind another on the folds on which both have a score, and one standard error of that; NaN if there are none.

    Rows that are scored several ``times`` over are no new rows: the error is that of one round of them.
    """
    lost = sign * (np.array(best.scores) - np.array(entry.scores))
    return _mean_and_error(lost, times)


def _mean_and_error(of_folds: Any, times: float) -> tuple[float, float]:
    defined = of_folds[np.isfinite(of_folds)]
    error = float(np.std(defined, ddof=1) / np.sqrt(len(defined) / times)) if len(defined) > 1 else 0.0
    return float(defined.mean()) if len(defined) else float("nan"), error


def chosen_of(scored: list[Entry], sign: float, times: float) -> Entry:
    """The first, and so the simplest, that is behind the best by no more than one standard error of the difference on the same folds,
    and by next to nothing: of three folds an error is hardly known.

    A fold on which either has no score tells nothing of the two.
    """
    best = _best(scored, sign)
    assert best is not None  # noqa: S101  # asked only where some are scored
    for entry in scored:
        lost, error = behind(entry, best, sign, times)
        if lost <= min(error, NEXT_TO_NOTHING * (abs(best.mean) if sign < 0 else max(1.0 - best.mean, 0.0))):
            return entry
    return best


def seconds_by_two(rows: int, first: tuple[int, float], second: tuple[int, float]) -> float:
    """Seconds that a fit on so many rows takes, by those on few and on more rows: on their line, or above it where they grow faster.

    A fit that was faster on more rows, as one that hardly converges on few, is expected to take no longer on all.
    """
    (few, short), (more, long) = first, second
    slope = max(long - short, 0.0) / (more - few)
    power = float(np.log(long / short) / np.log(more / few)) if 0 < short < long else 0.0
    return float(max(long + slope * (rows - more), long * (rows / more) ** power if power > 1 else 0.0))


@dataclass
class _Track:
    """Where the race is run: the rows, the folds of each heat, and the time that is left."""

    settings: Settings
    table: pl.DataFrame
    x: Any
    y: Any
    deadline: float
    kind: str = ""
    repeats: int = 1
    times: float = 1.0
    """How many times over rows were scored, which makes them no more rows."""
    matrices: dict[tuple[str, tuple[str, ...], int], tuple[Any, Any, float, Any]] = field(default_factory=dict)
    """Of this heat, by encoder and fold: what several candidates are fitted to is encoded once."""
    scored_rows: list[Any] = field(default_factory=list)
    """Of this heat, by fold, where several candidates may be averaged."""
    until: float = 0.0
    """When this heat ends."""
    reserve: float = 0.0
    """Seconds kept for the fit on all rows: the longest that a candidate which may be chosen would take."""

    @property
    def metric(self) -> str:
        return race_metric(self.settings)

    @property
    def sign(self) -> float:
        return direction(self.metric)

    def heat(self, entries: list[Entry], rows: int, share: float = 1.0, first: Entry | None = None) -> list[Entry]:
        """Those that were scored on every fold of so many rows, in a share of the time that is left; the others say why not.

        Empty if time is over for all. The ``first`` waits for none, as without it the heat says nothing.
        """
        self.until = self.deadline - (1 - share) * max(self.deadline - time.monotonic(), 0.0)
        self.reserve = max((entry.expected(len(self.y)) for entry in entries), default=0.0)
        folds = folds_of(self.settings, self.table, self.x, self.y, rows)
        if not folds.pairs:
            for entry in entries:
                entry.state, entry.why = NO_FOLD, f"{len(self.y)} rows give no fold to fit on and to score"
            return []
        self.matrices = {}
        self.scored_rows = [scored for _, scored in folds.pairs] if rows == len(self.y) <= AVERAGED_ROWS else []
        finished = self._finished(entries, folds, rows, first)
        if finished:
            self.kind, self.repeats, self.times = folds.kind, folds.repeats, folds.times
        return finished

    def _finished(self, entries: list[Entry], folds: Folds, rows: int, first: Entry | None = None) -> list[Entry]:
        """Those that were scored on every fold, in their order. But for the first, one that is slow takes no time from those after it."""
        for entry in entries:
            entry.begun, entry.said = [], []
        slow, finished = [], []
        for place, entry in enumerate(entries):
            waits = entry is not first and place + 1 < len(entries)
            most = FAIR_SHARE * self._left() / (len(entries) - place) if waits else self._left()
            if self._score(entry, folds, rows, most):
                finished.append(entry)
            elif entry.state == "waiting":
                slow.append(entry)
        finished += [entry for entry in sorted(slow, key=lambda entry: entry.expected(rows)) if self._score(entry, folds, rows)]
        return [entry for entry in entries if entry in finished]

    def without_moments(self, scored: list[Entry], rows: int) -> tuple[dict[str, Any] | None, list[Entry]]:
        """What moments gain by the folds of a split by time, and the best of each family without them, in the order of ``scored``.

        A calendar that has turned once or not at all, and days that no row has seen yet, cannot be learned of, though trees and linear
        models go on as if they could: moments are kept only if they gain more than one standard error, on average over the families
        that with them or without are not clearly behind: what a linear model gains says nothing of the trees that will be chosen.
        Numbers that say the same, such as a month in a column of its own, go with them: half a calendar is worse than either.
        A family that time did not do for says nothing; if it is that of the best of all, and none of the others is better than that best
        without them, moments are not judged. None where they are not, where there is no such split, no moment, or nothing else.
        """
        kinds = {name: column.kind for name, column in feature_columns(self.settings).items()}
        moments = tuple(name for name, kind in kinds.items() if kind == "datetime")
        if self.settings.split.kind != "time" or not moments:
            return None, []
        numbers = [name for name, kind in kinds.items() if kind in ("integer", "number")]
        moments += calendar_columns(self.table, str(self.settings.dataset.time_column), numbers)
        if len(moments) == len(kinds):
            return None, []
        best, *others = leaders_of_families(scored, self.sign)
        families = [each for each in scored if each in (best, *others)]
        leaders = [each for each in families if not each.candidate.trend]
        without = [Entry(each.candidate.without_features(moments), each.rows, seconds=each.seconds, timed=each.timed) for each in leaders]
        finished = self.heat(without, rows)
        compared = [(each, other) for each, other in zip(leaders, without, strict=True) if other in finished]
        # What a line through time gains is so much over boosting that knows no time.
        plain = next((other for other in finished if other.candidate.family == "boosting"), None)
        compared += [(each, plain) for each in families if each.candidate.trend and plain is not None]
        is_judged = any(each is best for each, _ in compared) or _best([best, *finished], self.sign) is not best
        if not compared or not is_judged:
            return None, without
        top = _best([each for pair in compared for each in pair], self.sign)
        assert top is not None  # noqa: S101  # some are compared
        # Of a line through time what counts is whether it is near itself.
        near = [pair for pair in compared if any(self._is_near(each, top) for each in (pair[:1] if pair[0].candidate.trend else pair))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fold on which none has a score
            gains = [np.array(each.scores) - np.array(other.scores) for each, other in near]
            gain, error = _mean_and_error(self.sign * np.nanmean(gains, axis=0), self.times)
        told = {"columns": list(moments), "gain": round(gain, 6), "standard_error": round(error, 6), "kept": gain > error}
        return told, without

    def _is_near(self, entry: Entry, best: Entry) -> bool:
        """Whether folds do not tell one from the best by more than :data:`CLEARLY`."""
        lost, error = behind(entry, best, self.sign, self.times)
        return lost <= CLEARLY * error

    def mean(self, leaders: list[Entry], scored: list[Entry]) -> Entry | None:
        """The mean of those families' best that folds do not tell from the first of them; None where it would not be chosen.

        Of many rows only those are in it that better it by folds. It is not chosen if there is one alone, if it is behind the best by
        more than one standard error, or if time does not do for its fit.
        """
        best, few = leaders[0], len(self.y) < FEW_ROWS
        made = best
        members = [best]
        for each in leaders[1:]:
            if self._is_near(each, best):
                wider = [one for one in scored if one in (*members, each)]
                mean = self._mean_of(wider)
                if few or behind(mean, made, self.sign, self.times)[0] < 0:
                    made, members = mean, wider
        if len(members) < 2 or made.seconds > self.deadline - time.monotonic():
            return None
        lost, error = behind(made, best, self.sign, self.times)
        return made if lost <= error else None

    def _mean_of(self, members: list[Entry]) -> Entry:
        """The mean of some, scored on the folds by what they said of them."""
        seconds = sum(each.expected(len(self.y)) for each in members)
        made = Entry(mean_of([each.candidate for each in members]), len(self.y), seconds=seconds, timed=len(self.y), state="scored")
        for place, scored_rows in enumerate(self.scored_rows):
            said = np.mean([each.said[place] for each in members], axis=0)
            made.scores.append(self._value(self.y[scored_rows], said))
        return made

    def _value(self, y: Any, said: Any) -> float:
        data, classes = self.settings.dataset, self.classes
        return score(self.metric, data.task, y, said, classes, positive_index(classes, data) if classes else 0)

    @cached_property
    def classes(self) -> list[Any]:
        """All of the training rows', as a model that is fitted to all of them has them."""
        return sorted_classes(self.y) if has_classes(self.settings.dataset.task) else []

    def _score(self, entry: Entry, folds: Folds, rows: int, most: float = float("inf")) -> bool:
        """Whether it was scored on every fold. If that takes more than ``most`` seconds it waits, and goes on later from where it is."""
        if not entry.seconds:
            entry.seconds, entry.timed = self._tried_on_few(entry, folds.pairs[0][0], len(folds.pairs))
        for place, (fitted, scored) in list(enumerate(folds.pairs))[len(entry.begun) :]:
            left, due = self._left(), entry.expected(len(fitted)) * (len(folds.pairs) - place)
            if left <= 0 or due > min(left, most):
                why = f"about {due:.0f} s would be needed, {max(left, 0):.0f} s were left"
                return entry.ended("out of time" if left <= 0 or due > left else "waiting", why)
            try:
                entry.seconds, value, said = self._fold(entry.candidate, place, fitted, scored)
            except Exception as error:  # noqa: BLE001  # the libraries raise types of their own; another candidate may do
                return entry.ended("failed", told_error(error, feature_columns(self.settings)))
            entry.timed = len(fitted)
            final = entry.expected(len(self.y))
            longest = FINAL_SHARE * self.settings.train.time_budget_s
            if final > longest:
                fewer = entry.candidate.with_share_of_trees(0.8 * longest / final, FEWEST_TREES)
                if fewer is not None and not entry.heats:
                    entry.candidate, entry.seconds, entry.begun, entry.said = fewer, 0.0, [], []
                    return self._score(entry, folds, rows, most)
                return entry.ended("out of time", f"a fit on all {len(self.y):,} rows would take about {final:.0f} s")
            entry.begun.append(float(value) if np.isfinite(value) else float("nan"))
            if self.scored_rows:
                entry.said.append(said)
        if not np.isfinite(entry.begun).any():
            return entry.ended("failed", f"{self.metric} is not defined on any fold")
        entry.rows, entry.scores, entry.state, entry.why = rows, entry.begun, "scored", ""
        entry.heats[rows] = entry.begun
        self.reserve = max(self.reserve, entry.expected(len(self.y)))
        return True

    def _left(self) -> float:
        """Seconds of this heat that may still be spent."""
        return min(self.deadline - self.reserve, self.until) - time.monotonic()

    def _tried_on_few(self, entry: Entry, fitted: Any, folds: int) -> tuple[float, int]:
        """Seconds that a first fit is expected to take on so many rows, by one on a few of them; 0 if they are few, or tell nothing.

        Where time would not do for all folds, three times as many rows tell how much of it grows with the rows at all.
        """
        rows = len(fitted)
        if rows < 3 * PILOT_ROWS or time.monotonic() >= self.deadline:
            return 0.0, rows
        first, few = self._pilot(entry, fitted, PILOT_ROWS)
        expected = float(first * (rows / few) ** entry.growth)
        if expected * folds <= self._left() or 3 * first >= self._left():
            return expected, rows
        second, more = self._pilot(entry, fitted, 3 * PILOT_ROWS)
        return seconds_by_two(rows, (few, first), (more, second)) if second and more > few else expected, rows

    def _pilot(self, entry: Entry, fitted: Any, rows: int) -> tuple[float, int]:
        """Seconds of a fit on about so many of the rows, and on how many; no seconds if it failed."""
        few = fitted[:: max(len(fitted) // rows, 1)]
        has_library = plugins.part(plugins.Estimator, entry.candidate.estimator).extra is not None
        try:
            # The first of two fits loads the library, which takes ten times as long as the fit.
            seconds = [self._fold(entry.candidate, -1, few, few[:2])[0] for _ in range(1 + has_library)][-1]
        except Exception:  # noqa: BLE001  # a few rows may lack a class; the whole fit will tell
            return 0.0, len(few)
        finally:
            self.matrices = {key: kept for key, kept in self.matrices.items() if key[-1] != -1}
        return seconds, len(few)

    def _fold(self, candidate: Candidate, place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        """Seconds of the fit, the score, and what was said of the rows that were scored, of every class."""
        settings, data = self.settings, self.settings.dataset
        threads = 1 if len(fitted) < ONE_THREAD and candidate.family != "forest" else settings.train.threads
        model = build_model(
            candidate.estimator,
            data.task,
            feature_columns(without_features(settings, candidate.without)),
            candidate.params,
            settings.seed,
            candidate.encoder,
            settings.train.encoder_params,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            columns, estimator = model.named_steps["columns"], model.named_steps["model"]
            during = fitting_of(settings, self.table[fitted], self.y[fitted])
            matrix, held, encoding, encoder = self._encoded(columns, candidate, place, fitted, scored, threads, during)
            placed(encoder, estimator)
            if matrix.shape[0] * matrix.shape[1] >= MANY_VALUES:
                threads = settings.train.threads
            began = time.monotonic()
            estimator = fit_estimator(estimator, matrix, self.y[fitted], threads, native_categories(columns, estimator), during)
            seconds = encoding + time.monotonic() - began
            said = predict(estimator, held, data.task)
        if not has_classes(data.task):
            return seconds, self._value(self.y[scored], said), said
        classes = estimator.classes_.tolist()
        value = score(self.metric, data.task, self.y[scored], said, classes, positive_index(classes, data))
        of_all = np.zeros((len(said), len(self.classes)))
        of_all[:, [self.classes.index(each) for each in classes]] = said
        return seconds, value, of_all

    def _encoded(
        self, columns: Any, candidate: Candidate, place: int, fitted: Any, scored: Any, threads: int | None, during: Fitting
    ) -> tuple[Any, Any, float, Any]:
        """The two matrices of a fold, how many seconds the first of them took, and what it was fitted by."""
        key = SAME_MATRIX.get(candidate.encoder, candidate.encoder), candidate.without, place
        if key not in self.matrices:
            began = time.monotonic()
            matrix = encoded(columns, self.x.iloc[fitted], self.y[fitted], threads, during)
            seconds = time.monotonic() - began
            self.matrices[key] = matrix, columns.transform(self.x.iloc[scored]), seconds, columns
        return self.matrices[key]


def _with_encoder(entries: list[Entry], encoder: str) -> list[Entry]:
    """The candidates with the encoder that the settings name, each estimator and parameters once."""
    from dataclasses import replace

    found: list[Entry] = []
    for entry in entries:
        one = replace(entry.candidate, encoder=encoder)
        if not any((each.candidate.estimator, each.candidate.params) == (one.estimator, one.params) for each in found):
            found.append(Entry(one))
    return found


def _leaders(entries: list[Entry], count: int, sign: float) -> list[Entry]:
    """The best of those that were scored, the best first: if time is short, it is theirs.

    The best of another family is the last of them if it would be none: trees gain more by more rows than linear models do.
    """
    means = _means(entries)
    ranked = [entries[place] for place in sorted(range(len(entries)), key=lambda place: -sign * means[place])]
    first = ranked[:count]
    other = next((each for each in ranked if first and each.candidate.linear != first[0].candidate.linear), None)
    return first if other is None or other in first or count < 2 else [*first[:-1], other]


def _best(scored: list[Entry], sign: float) -> Entry | None:
    return next(iter(_leaders(scored, 1, sign)), None)


def _means(entries: list[Entry]) -> list[float]:
    """The mean score of each on the folds on which all have one; on its own folds, if there are none such."""
    scores = np.array([entry.scores for entry in entries])
    shared = np.isfinite(scores).all(axis=0) if len(entries) else np.zeros(0, dtype=bool)
    return scores[:, shared].mean(axis=1).tolist() if shared.any() else [entry.mean for entry in entries]


def _unraced(entries: list[Entry]) -> Entry:
    """The simplest that did not fail: time was too short for any score, or the rows too few for any fold."""
    for entry in entries:
        if entry.state != "failed":
            return entry
    raise PipelineError(f"train.estimator 'auto': no candidate can be fitted: {entries[0].why}: name an estimator")


def _say(console: Console, chosen: Entry, entries: list[Entry], track: _Track, seconds: float, moments: dict[str, Any] | None) -> None:
    scored = sum(entry.state == "scored" for entry in entries)
    value = (
        f", cross-validated {track.metric} {chosen.mean:.4f}" if chosen.scores else f", unraced: {chosen.why or 'the time was too short'}"
    )
    console.print(f"            auto: {chosen.candidate.name}{value}, of {scored} candidates in {seconds:.0f} s", markup=False)
    if moments is not None:
        named = ", ".join(f"'{name}'" for name in moments["columns"])
        gained = f"by folds gains {moments['gain']:.4f} {track.metric}, ± {moments['standard_error']:.4f}"
        why = "kept" if moments["kept"] else "left out, for it does not gain more than one standard error"
        console.print(f"            auto: the calendar of {named} {gained}: {why}", markup=False)
    for entry in entries:
        if entry.state in ("out of time", "failed"):
            console.print(f"            auto: {entry.candidate.name} {entry.state}: {entry.why}", markup=False)
