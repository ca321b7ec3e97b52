"""What the record says of a release: each guardrail's figure by arm, with intervals that hold at every look.

What counts as one is a unit that was given an arm, or a request where nothing sticks, since the rows of one are no independent
witnesses. In pairs it is a request. Figures of arms are of one step, in which shares do
not change; those of pairs, which both models answered, are of the whole release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_pipeline.config.release import Guardrail, Policy, Step
from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.contract.task import PROBABILITY
from mlops_pipeline.experiments.sequences import (
    TOGETHER,
    Floats,
    Interval,
    best_at,
    bounded_mean,
    difference_of_means,
    difference_of_quantiles,
    mean_of,
    moments,
    of_same_mixture,
    p_of_shares,
    quantile_bounds,
    together,
)
from mlops_pipeline.records.reading import UNIT, column_in, features_in
from mlops_pipeline.release.policy import Evidence, Finding

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.inference.scorer import Scorer
    from mlops_pipeline.monitoring.labels import Known

CHAMPION, CHALLENGER, SHADOW, FALLBACK = "champion", "challenger", "shadow", "fallback"
SETTLE_S = 1.0
"""So long after a transition requests may still have been split as before, by servers that look often: they are not counted."""
MOST_SLICES = 10
"""Values of a column that are looked at: the commonest."""
ARMS = (CHAMPION, CHALLENGER, SHADOW, FALLBACK)
_CHAMPION, _CHALLENGER, _SHADOW, _FALLBACK = range(len(ARMS))
MOST_WINDOWS = 8
"""Of a bandit's or a test's time that are looked at: the last, since labels come late."""
OF_ALL = 15 / 16
"""Of alpha, for looks at every observation; of the rest each thinning (:mod:`mlops_pipeline.release.ledger`) takes half."""


class Answers(NamedTuple):
    """The rows that were answered under a release."""

    time: Floats
    """Arrival, seconds since 1970."""
    request: npt.NDArray[np.object_]
    row: npt.NDArray[np.int64]
    """Within its request; −1 where a request has none."""
    unit: npt.NDArray[np.object_]
    """What was given an arm as a whole; empty where the record does not say what."""
    arm: npt.NDArray[np.str_]
    failed: npt.NDArray[np.bool_]
    latency: Floats
    """Milliseconds."""
    scores: Floats
    """(rows, classes): probabilities; or (rows, 1): values."""
    truth: Floats
    """The place of the class, or the value; NaN where no label has come."""
    slices: Mapping[str, npt.NDArray[np.object_]]

    def of(self, mask: npt.NDArray[np.bool_]) -> Answers:
        """Those rows alone."""
        return _applied(self, lambda values: values[mask])


class Observations(NamedTuple):
    """The same as numbers, in order of time: what was a text is its place among the texts."""

    time: Floats
    request: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]
    """−1 where the record does not say what."""
    arm: npt.NDArray[np.int8]
    """The place in :data:`ARMS`."""
    failed: npt.NDArray[np.bool_]
    latency: Floats
    scores: Floats
    truth: Floats
    slices: Mapping[str, npt.NDArray[np.int64]]
    values: Mapping[str, Sequence[str]]
    """Of each column that is sliced: its texts."""
    thinned: int = 0
    """How often half of them were left out at random: each stands for two to the power of that."""
    halved_units: int = 0
    """How often half of the units were: of many requests of few units, all units may still be there."""
    settle_s: float = SETTLE_S
    """So long after a transition they may still have been split as before."""

    def of(self, mask: npt.NDArray[Any]) -> Observations:
        """Those rows alone, or in that order."""
        columns: dict[str, Any] = {name: getattr(self, name)[mask] for name in self._fields[:9]}
        return self._replace(**columns, slices={name: places[mask] for name, places in self.slices.items()})

    @classmethod
    def of_answers(cls, answers: Answers) -> Observations:
        """Answers whose texts are made places."""
        (request, _), (unit, units), (arm, arms) = (_places(texts) for texts in (answers.request, answers.unit, answers.arm))
        nameless = np.array([text == "" for text in units], dtype=bool)
        known = np.array([ARMS.index(text) if text in ARMS else -1 for text in arms], dtype=np.int8)
        slices = {name: _places(texts) for name, texts in answers.slices.items()}
        return cls(
            answers.time,
            request,
            answers.row,
            np.where(nameless[unit], -1, unit) if len(units) else unit,
            known[arm] if len(arms) else arm.astype(np.int8),
            answers.failed,
            answers.latency,
            answers.scores,
            answers.truth,
            {name: places for name, (places, _) in slices.items()},
            {name: texts for name, (_, texts) in slices.items()},
        )


def _places(texts: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], list[str]]:
    values, places = np.unique(texts.astype(str), return_inverse=True)
    return places.astype(np.int64), values.tolist()


def answers_in(
    frames: Iterable[pl.DataFrame],
    reference: Reference | None,
    champion: str,
    challenger: str,
    known: Known | None,
    slices: Sequence[str],
    *,
    sticks: bool = False,
    in_order: bool = True,
) -> Answers:
    """The rows of a record that were answered under a release of these versions; ``reference`` says what its outputs and labels mean.

    With ``sticks`` units are those that the record names, else requests. In order of time, or as the record hands them over.
    """
    import polars as pl

    parts = [_part(frame, reference, champion, challenger, known, slices, sticks=sticks) for frame in frames]
    parts = [part for part in parts if len(part.time)]
    if not parts:
        width = max(1, len(reference.classes) if reference is not None else 1)
        empty, texts = np.empty(0), np.empty(0, dtype=object)
        return Answers(
            empty, texts, empty.astype(int), texts, empty.astype(str), empty.astype(bool), empty, np.empty((0, width)), empty, {}
        )
    every = joined(parts)
    if not in_order:
        return every
    order = pl.Series(every.time).arg_sort().to_numpy()
    return _applied(every, lambda values: values[order])


def joined(parts: Sequence[Answers]) -> Answers:
    """The rows of several, one behind the other."""
    columns = [np.concatenate(several) for several in zip(*(part[:-1] for part in parts), strict=True)]
    return _made(columns, {name: np.concatenate([part.slices[name] for part in parts]) for name in parts[0].slices})


def _applied(answers: Answers, change: Callable[[Any], Any]) -> Answers:
    """The same rows with every column changed alike."""
    return _made(map(change, answers[:-1]), {name: change(values) for name, values in answers.slices.items()})


def _made(columns: Iterable[Any], slices: Mapping[str, Any]) -> Answers:
    return Answers(*(*columns, slices))


def _part(
    frame: pl.DataFrame,
    reference: Reference | None,
    champion: str,
    challenger: str,
    known: Known | None,
    slices: Sequence[str],
    *,
    sticks: bool,
) -> Answers:
    import polars as pl

    own = pl.when(pl.col("arm").is_in([CHALLENGER, SHADOW])).then(pl.lit(challenger)).otherwise(pl.lit(champion))
    there = pl.col("arm").is_in([CHAMPION, CHALLENGER, SHADOW, FALLBACK])
    frame = frame.filter(there & ((pl.col("version") == own) | (pl.col("version") == "") | pl.col("version").is_null()))
    height = frame.height
    failed = (frame["error"].fill_null("") != "").to_numpy()
    scores = scores_in(frame, reference)
    truth = np.full(height, np.nan) if known is None or reference is None or not height else known_truths(known, frame, reference)
    request = frame["request_id"].fill_null("").to_numpy().astype(object)
    units = frame[UNIT].fill_null("").to_numpy().astype(object) if UNIT in frame.columns else np.full(height, "", dtype=object)
    return Answers(
        (frame["time"].dt.epoch("us") / 1e6).to_numpy().astype(np.float64),
        request,
        frame["row"].fill_null(-1).to_numpy().astype(np.int64),
        units if sticks else request,
        frame["arm"].to_numpy().astype(str),
        failed,
        frame["latency_ms"].fill_null(float("nan")).to_numpy().astype(np.float64),
        scores,
        truth,
        {
            name: np.full(height, "(missing)", dtype=object) if column is None else slice_texts(column).to_numpy().astype(object)
            for name, column in ((name, column_in(frame, name)) for name in slices)
        },
    )


def slice_texts(values: pl.Series) -> pl.Series:
    """A column's values as the names of slices: the same for a value, whether one version has it as a feature or another as it came."""
    import polars as pl

    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int64)
    elif values.dtype.is_float():
        whole = (values == values.round()) & (values.abs() < 2**53)
        narrow = values.cast(pl.Float32)
        texts = values.cast(pl.String).zip_with(narrow.is_infinite().fill_null(value=False), narrow.cast(pl.String))
        values = values.cast(pl.Int64, strict=False).cast(pl.String).zip_with(whole.fill_null(value=False), texts)
    return values.cast(pl.String).fill_null("(missing)")


def scores_in(frame: pl.DataFrame, reference: Reference | None) -> Floats:
    """What was said of some rows: probabilities in the order of ``reference``'s classes, or one column of values; NaN where nothing was."""
    import polars as pl

    if reference is None:
        return np.full((frame.height, 1), np.nan)
    if not reference.classes:
        return frame.select(pl.col("prediction").cast(pl.Float64, strict=False)).to_numpy().astype(np.float64)
    for of in (reference.answered, reference.classes):
        if set(names := [f"{PROBABILITY}{one}" for one in of]) <= set(frame.columns):
            return frame.select(names).cast(pl.Float64).to_numpy().astype(np.float64)
    return np.full((frame.height, len(reference.classes)), np.nan)


def known_truths(known: Known, frame: pl.DataFrame, reference: Reference) -> Floats:
    """What came of each of some rows, as :func:`truth_of` has it; NaN where no label has come."""
    values = [None if label is None else label.value for label in known.of_rows(frame)]
    return truth_of(reference, values) if any(value is not None for value in values) else np.full(frame.height, np.nan)


def truth_of(reference: Reference, values: Sequence[Any]) -> Floats:
    """Labels' values as places of classes or as numbers; NaN for what is none of them."""
    import polars as pl

    from mlops_pipeline.monitoring.measuring import truths_of

    read = truths_of(reference, pl.Series(values, strict=False)).astype(np.float64)
    made: Floats = np.where(read < 0, np.nan, read) if reference.classes else read
    return made


def evidence_of(
    policy: Policy,
    step: Step,
    since: float,
    answers: Answers | Observations,
    *,
    splits_evenly: bool,
    batches: Sequence[float] = (),
) -> Evidence:
    """What is known of a step that began at a moment; ``splits_evenly``: each unit was given an arm by itself, in the step's shares.

    ``batches``: when each of a step's shares began, of one that lasts as a bandit or a test does. Arms are compared over the same mixture
    of them then, with half of alpha over the whole time, and with the rest in windows, so that who turns bad late is not made up for by
    what was good before.
    """
    seen = Observations.of_answers(answers) if isinstance(answers, Answers) else answers
    begun = seen.of(seen.time >= since + seen.settle_s)
    if batches:
        starts = np.asarray(batches)
        began = starts[np.maximum(np.searchsorted(starts, begun.time, "right") - 1, 0)]
        begun = begun.of(begun.time >= began + seen.settle_s)
    mine = _in(begun, _CHALLENGER, _SHADOW) & ~begun.failed
    theirs = _in(begun, _CHAMPION, _FALLBACK) & ~begun.failed
    requests = [_different(begun.request[answered]) << seen.thinned for answered in (theirs, mine)]
    labelled = _in(seen, _CHALLENGER, _SHADOW) & np.isfinite(seen.truth)
    pairs = _pairs(seen)
    part = part_of_alpha(seen.thinned)
    policy = policy.model_copy(update={"alpha": policy.alpha * part * (0.5 if batches else 1.0)})
    questions = [_Question(policy, name, each, seen, batches) for name, each in policy.guardrails.items()]
    findings = [found for question in questions for found in _findings(question, step, begun, seen, pairs)]
    findings += _in_windows(questions, step, begun, seen) if batches and questions else []
    arms = begun.of((begun.row <= 0) & (begun.unit >= 0))
    counts = (_different(arms.unit[_in(arms, _CHAMPION)]), _different(arms.unit[_in(arms, _CHALLENGER, _FALLBACK)]))
    p_of_split = None
    if splits_evenly and 0 < step.weight < 1 and any(counts):
        [p] = p_of_shares([np.array([float(count)]) for count in counts], [1 - step.weight, step.weight]).tolist()
        p_of_split = min(1.0, p / part)  # so that it may be held against the whole of alpha
    rows, labels = (int(chosen.sum()) << seen.thinned for chosen in (mine, labelled))
    return Evidence(rows, (requests[0], requests[1]), labels, tuple(findings), counts, p_of_split)


def settled_after(look_ms: int) -> float:
    """Seconds after a transition in which servers that look so often may still divide as before."""
    return max(SETTLE_S, look_ms / 1000 + SETTLE_S / 2)


def part_of_alpha(thinned: int) -> float:
    """So that all looks together, at however many are left, keep to it."""
    return OF_ALL if thinned == 0 else float((1 - OF_ALL) * 0.5**thinned)


def _in(answers: Observations, *arms: int) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = answers.arm == arms[0]
    for arm in arms[1:]:
        found = found | (answers.arm == arm)
    return found


def _different(places: npt.NDArray[np.int64]) -> int:
    return int(np.count_nonzero(np.bincount(places))) if len(places) else 0


class _Pairs(NamedTuple):
    """Rows of the answers that both models said something of: places of the champion's, and of the challenger's."""

    champion: npt.NDArray[np.int64]
    shadow: npt.NDArray[np.int64]


def _pairs(answers: Observations) -> _Pairs:
    import polars as pl

    def side(arm: int) -> pl.DataFrame:
        chosen = np.flatnonzero((answers.arm == arm) & ~answers.failed & (answers.row >= 0))
        keys = {"request": answers.request[chosen], "row": answers.row[chosen], "place": chosen}
        return pl.DataFrame(keys).unique(["request", "row"], keep="first")

    joined = side(_CHAMPION).join(side(_SHADOW), on=["request", "row"], suffix="_shadow").sort("place")
    return _Pairs(joined["place"].to_numpy(), joined["place_shadow"].to_numpy())


def _in_windows(questions: Sequence[_Question], step: Step, begun: Observations, answers: Observations) -> Iterator[Finding]:
    """What is known of the last windows, of all but the newest only what is broken. Each that may ever come has a part of alpha."""
    policy = questions[0].policy
    windows = windows_in(begun, max(1, policy.expected_rows >> answers.thinned), policy.least_units)
    for number, (first, end) in list(enumerate(windows, 1))[-MOST_WINDOWS:]:
        part = begun.of(np.arange(first, end))
        one, other = (datetime.fromtimestamp(float(part.time[place]), UTC) for place in (0, -1))
        span = (
            f"{one:%Y-%m-%d %H:%M:%S} to {other:%H:%M:%S}"
            if one.date() == other.date()
            else f"{one:%Y-%m-%d %H:%M} to {other:%Y-%m-%d %H:%M}"
        )
        for question in questions:
            for found in _findings(question.with_alpha(policy.alpha / (number * (number + 1))), step, part, answers, None):
                if found.is_broken or (number == len(windows) and found.estimate is not None):
                    yield msgspec.structs.replace(found, window=f"{span} UTC")


def windows_in(begun: Observations, requests: int, units: int) -> list[tuple[int, int]]:
    """First and end row of each window: so many requests at least, and twice so many units of each arm; the last goes on."""
    made, first, count = [], 0, len(begun.time)
    while first < count:
        reach = requests
        while (
            end := _window_end(begun.of(np.arange(first, min(first + reach, count))), requests, units)
        ) is None and first + reach < count:
            reach *= 2
        # No request is cut in two.
        stop = count if end is None else int(np.searchsorted(begun.time, begun.time[first + end - 1], "right"))
        made.append((first, stop))
        first = stop
    return made


def _window_end(rows: Observations, requests: int, units: int) -> int | None:
    """After how many of some rows a window ends that begins with them; None if it does not."""
    ends = [_place_of(rows.row <= 0, requests)]
    for arms in ((_CHAMPION,), (_CHALLENGER, _FALLBACK)):
        places = np.flatnonzero(_in(rows, *arms) & (rows.unit >= 0))
        fresh = np.zeros(len(rows.time), dtype=bool)
        fresh[places[np.unique(rows.unit[places], return_index=True)[1]]] = True
        ends.append(_place_of(fresh, 2 * units))
    known = [each + 1 for each in ends if each is not None]
    return max(known) if len(known) == len(ends) else None


def _place_of(marks: npt.NDArray[np.bool_], wanted: int) -> int | None:
    """The place of the mark that makes them so many; None if there are fewer."""
    places = np.flatnonzero(marks)
    return int(places[wanted - 1]) if len(places) >= wanted else None


def _findings(question: _Question, step: Step, begun: Observations, answers: Observations, pairs: _Pairs | None) -> Iterator[Finding]:
    """A guardrail's figures, without ``pairs`` those of arms alone. Alpha is parted among guardrails, sources, steps and slices."""
    policy, figure = question.policy, question.guardrail.figure
    share = policy.alpha / max(1, len(policy.guardrails)) / 2
    by_arms = share / max(1, policy.divided)
    begun = begun.of(begun.unit >= 0)  # of others nobody can say how many witnesses they are
    for part in question.parts(answers):
        if figure in ("failures", "refused"):
            yield from question.of_requests(part.requests(begun), step, by_arms * part.share, part.label)
            if figure == "failures" and pairs is not None:
                yield from question.of_shadows(part, share * part.share)
        elif figure.startswith("latency"):
            if 0 < step.weight < 1:
                yield question.of_latency(part.requests(begun), by_arms * part.share, part.label)
        else:
            if 0 < step.weight < 1 and figure != "disagreement":
                yield question.of_arms(part.rows(begun), by_arms * part.share, part.label)
            if pairs is not None and len(pairs.shadow):
                there = part.has(answers)[pairs.champion]
                yield question.of_pairs(_Pairs(pairs.champion[there], pairs.shadow[there]), share * part.share, part.label)


class _Part(NamedTuple):
    """All rows, or those of a slice, and their part of alpha."""

    share: float
    label: str = ""
    column: str = ""
    place: int = -1
    """Among the column's values."""

    def has(self, rows: Observations) -> npt.NDArray[np.bool_]:
        """Which rows belong to it; what has failed is on record without its columns, so it belongs to no slice."""
        return (rows.slices[self.column] == self.place) & (rows.row >= 0) if self.column else np.ones(len(rows.time), dtype=bool)

    def rows(self, rows: Observations) -> Observations:
        """Those of some rows."""
        return rows.of(self.has(rows)) if self.column else rows

    def requests(self, rows: Observations) -> Observations:
        """One row of each request that has one: its first, here of those that belong to this part."""
        if not self.column:
            return rows.of(rows.row <= 0)
        mine = self.rows(rows)
        first = np.ones(len(mine.time), dtype=bool)
        first[1:] = (np.diff(mine.request) != 0) | (np.diff(mine.time) != 0)  # rows of a request stand together
        return mine.of(first)


class _Sample(NamedTuple):
    """One arm's units."""

    values: Floats
    batch: npt.NDArray[np.int64]


class _Question:
    """One guardrail's."""

    def __init__(self, policy: Policy, name: str, guardrail: Guardrail, answers: Observations, batches: Sequence[float] = ()) -> None:
        self.policy, self.guardrail = policy, guardrail
        self._name, self._answers, self._batches = name, answers, tuple(batches)
        self._is_classes = answers.scores.shape[1] > 1
        usual = answers.of((answers.arm == _CHAMPION) & ~answers.failed)
        with np.errstate(invalid="ignore"):
            self._spread = float(np.nanstd(figures_of(usual.scores))) if len(usual.time) else float("nan")
        losses = self._losses(usual.scores, usual.truth)
        known = losses[np.isfinite(losses)]
        self._usual_loss = float(known.mean()) if len(known) else float("nan")

    def with_alpha(self, alpha: float) -> _Question:
        """The same question with another part of alpha."""
        made = copy(self)
        made.policy = self.policy.model_copy(update={"alpha": alpha})
        return made

    def parts(self, answers: Observations) -> Iterator[_Part]:
        """All rows, and each slice of them."""
        columns = [name for name in self.guardrail.slices if name in answers.slices]
        half = 0.5 if columns else 1.0
        yield _Part(half)
        for column in columns:
            counts = np.bincount(answers.slices[column][answers.row >= 0], minlength=len(answers.values[column]))
            commonest = [int(place) for place in np.argsort(-counts, kind="stable")[:MOST_SLICES] if counts[place]]
            for place in commonest:
                label = f"{column} = {answers.values[column][place]}"
                yield _Part(half / len(columns) / len(commonest), label, column, place)

    def of_requests(self, heads: Observations, step: Step, alpha: float, label: str) -> Iterator[Finding]:
        """Shares of each unit's requests: those that the champion had to answer instead, or those that were refused."""
        is_failure, limit = self.guardrail.figure == "failures", self.guardrail.worse_by
        sides = [heads.of(_in(heads, *arms)) for arms in ((_CHAMPION,), (_CHALLENGER, _FALLBACK) if is_failure else (_CHALLENGER,))]
        champion, challenger = (
            self._sample(side, (side.arm == _FALLBACK if is_failure else side.failed).astype(np.float64)) for side in sides
        )
        if step.weight == 0 or not len(challenger.values):
            return
        if step.weight < 1:
            yield self._unpaired(champion, challenger, alpha, limit, label, is_share=True)
        elif is_failure:
            failed = challenger.values
            yield self._paired(failed, alpha, limit, label, (0.0, float(failed.mean())), is_share=True)

    def of_shadows(self, part: _Part, alpha: float) -> Iterator[Finding]:
        """Shares of those in which the challenger, asked in the shadow, gave no answer; the champion's rows say of which slice they are."""
        answers = self._answers
        heads = answers.of((answers.arm == _SHADOW) & (answers.row <= 0))
        if part.column and len(heads.time):
            behind = np.zeros(int(answers.request.max()) + 1, dtype=bool)
            behind[answers.request[part.has(answers) & (answers.arm == _CHAMPION)]] = True
            heads = heads.of(behind[heads.request])
        failed = heads.failed.astype(np.float64)
        if len(failed):
            yield self._paired(failed, alpha, self.guardrail.worse_by, part.label, (0.0, float(failed.mean())), is_share=True)

    def of_latency(self, heads: Observations, alpha: float, label: str) -> Finding:
        """A quantile of the time that answers took, of both arms over the same mixture of batches."""
        share = float(self.guardrail.figure.removeprefix("latency.p")) / 100
        heads = heads.of(~heads.failed & np.isfinite(heads.latency) & _in(heads, _CHAMPION, _CHALLENGER, _FALLBACK))
        _, first = np.unique(heads.unit, return_index=True)
        heads = heads.of(np.sort(first))  # one answer of each unit
        arm = (heads.arm != _CHAMPION).astype(np.int64)
        units = (int((arm == 0).sum()), int((arm == 1).sum()))
        if min(units) < max(self.policy.least_units, TOGETHER):
            return self._unknown(label, units, "arms")
        group = together(self._batch_of(heads.time), arm)
        part = np.bincount(group) / len(group)
        sides = [_as_drawn(heads.latency[arm == side], group[arm == side], part) for side in (0, 1)]
        bounds = [quantile_bounds(side, np.array([len(side)]), share, alpha / 2) for side in sides]
        found = difference_of_quantiles(bounds[0], bounds[1])
        made = (float(bounds[0].estimate[0]), float(bounds[1].estimate[0]))
        return self._finding(found, self.guardrail.worse_by, label, made, units, "arms")

    def of_arms(self, begun: Observations, alpha: float, label: str) -> Finding:
        """A mean over units of each arm."""
        rows = begun.of(~begun.failed & (begun.row >= 0))
        figure = self._losses(rows.scores, rows.truth) if self.guardrail.figure == "quality" else figures_of(rows.scores)
        one, other = (self._sample(rows.of(chosen), figure[chosen]) for chosen in (rows.arm == _CHAMPION, rows.arm == _CHALLENGER))
        made = self._unpaired(one, other, alpha, self._limit, label)
        return made if self.guardrail.figure == "quality" else _either_way(made)

    def of_pairs(self, pairs: _Pairs, alpha: float, label: str) -> Finding:
        """A mean over requests of what the challenger said in the shadow of the champion's answer, less that."""
        answers, one, other = self._answers, pairs.champion, pairs.shadow
        figure = self.guardrail.figure
        if figure == "quality":
            return self._of_losses(pairs, alpha, label)
        if figure == "drift":
            before, after = figures_of(answers.scores[one]), figures_of(answers.scores[other])
        else:
            before, after = np.zeros(len(one)), self._differs(answers.scores[one], answers.scores[other])
        kept = np.isfinite(before) & np.isfinite(after)
        sides = (float(before[kept].mean()), float(after[kept].mean())) if kept.any() else (0.0, 0.0)
        values = _mean_of_each(answers.request[one][kept], (after - before)[kept])
        made = self._paired(values, alpha, self._limit, label, sides, is_share=figure == "disagreement" and self._is_classes)
        return _either_way(made) if figure == "drift" else made

    def _of_losses(self, pairs: _Pairs, alpha: float, label: str) -> Finding:
        """The same of losses. Whatever label a row that was answered may still get is reckoned with, since a rare one comes late."""
        answers, one, other = self._answers, pairs.champion, pairs.shadow
        truth = np.where(np.isfinite(answers.truth[one]), answers.truth[one], answers.truth[other])
        scores = answers.scores[one], answers.scores[other]
        before, after = (self._losses(side, truth) for side in scores)
        known = np.isfinite(before) & np.isfinite(after)
        request = answers.request[one]
        borne, limit = (0.0, self._limit) if label or not self._is_classes else (self.guardrail.worse_by, 0.0)
        values = _mean_of_each(request, after - (1 + borne) * before)
        rows = (len(values), len(values))
        if len(values) < self.policy.least_units or not np.isfinite(limit):
            return self._unknown(label, rows, "pairs")
        least, most = self._ends(*scores, 1 + borne, truth[known])
        ends = [
            (_mean_of_each(request[some], least[some]), _mean_of_each(request[some], most[some])) for some in (known, np.isfinite(least))
        ]
        below, above = max(-float(low.min()) for low, _ in ends), max(float(high.max()) for _, high in ends)
        found = bounded_mean(values, below, above, alpha)
        if borne:  # of the loss of the same rows, so that it is as sure as the difference is
            limit = borne * float(_mean_of_each(request, before).mean())
            found = Interval(*(each + limit for each in found))
        return self._finding(found, limit, label, (float(before[known].mean()), float(after[known].mean())), rows, "pairs")

    def _ends(self, before: Floats, after: Floats, times: float, truth: Floats) -> tuple[Floats, Floats]:
        """The least and the most that each row's loss by ``after``, less so many ``times`` that by ``before``, is under any label."""
        if not self._is_classes:
            apart = np.abs(after[:, 0] - before[:, 0])
            if self.guardrail.loss == "squared":  # a label may be any between those that have come
                middle = after[:, 0] + before[:, 0]
                apart = apart * np.maximum(np.abs(middle - 2 * truth.min()), np.abs(middle - 2 * truth.max()))
            return -apart, apart
        places = np.arange(before.shape[1], dtype=np.float64)
        each = [
            self._losses(after, np.full(len(after), place)) - times * self._losses(before, np.full(len(before), place)) for place in places
        ]
        return np.min(each, axis=0), np.max(each, axis=0)

    @property
    def _limit(self) -> float:
        """How much worse is borne, in the figure's own unit."""
        guardrail = self.guardrail
        if guardrail.figure == "quality":
            return guardrail.worse_by * self._usual_loss
        if guardrail.figure == "drift" or not self._is_classes:
            return guardrail.worse_by * self._spread
        return guardrail.worse_by

    def _losses(self, scores: Floats, truth: Floats) -> Floats:
        """Each row's loss; NaN without a label."""
        if scores.shape[1] == 1:
            off = scores[:, 0] - truth
            lost: Floats = off**2 if self.guardrail.loss == "squared" else np.abs(off)
            return lost
        known = np.isfinite(truth)
        made = np.full(len(truth), np.nan)
        place = truth[known].astype(int)
        if self.guardrail.loss == "error":
            made[known] = scores[known].argmax(axis=1) != place
        else:
            seen = np.zeros((int(known.sum()), scores.shape[1]))
            seen[np.arange(len(place)), place] = 1.0
            made[known] = ((scores[known] - seen) ** 2).sum(axis=1) / 2
        return made

    def _differs(self, one: Floats, other: Floats) -> Floats:
        if one.shape[1] == 1:
            apart: Floats = np.abs(one[:, 0] - other[:, 0])
        else:
            apart = (one.argmax(axis=1) != other.argmax(axis=1)).astype(np.float64)
        return apart

    def _sample(self, rows: Observations, values: Floats) -> _Sample:
        """The mean of each unit's known values, and the batch in which it was seen first."""
        means = _mean_of_each(rows.unit, values)
        if len(self._batches) <= 1:
            return _Sample(means, np.zeros(len(means), dtype=np.int64))
        known = np.isfinite(values)
        _, first = np.unique(rows.unit[known], return_index=True)
        return _Sample(means, self._batch_of(rows.time[known][first]))

    def _batch_of(self, time: Floats) -> npt.NDArray[np.int64]:
        """In which of the step's shares each moment lies."""
        if len(self._batches) <= 1:
            return np.zeros(len(time), dtype=np.int64)
        made: npt.NDArray[np.int64] = np.maximum(np.searchsorted(np.asarray(self._batches), time, "right") - 1, 0).astype(np.int64)
        return made

    def _unpaired(
        self, champion: _Sample, challenger: _Sample, alpha: float, limit: float, label: str, *, is_share: bool = False
    ) -> Finding:
        rows = (len(champion.values), len(challenger.values))
        if min(rows) < max(self.policy.least_units, TOGETHER) or not np.isfinite(limit):
            return self._unknown(label, rows, "arms")
        arm = np.repeat([0, 1], rows)
        values, batch = (np.concatenate(both) for both in zip(champion, challenger, strict=True))
        one, other = of_same_mixture(values, arm, together(batch, arm), is_share=is_share)
        found = difference_of_means(one, other, best_at(self.policy.expected_rows, alpha), alpha, self.policy.least_units)
        return self._finding(found, limit, label, (float(one.mean[0]), float(other.mean[0])), rows, "arms")

    def _paired(
        self, values: Floats, alpha: float, limit: float, label: str, sides: tuple[float, float], *, is_share: bool = False
    ) -> Finding:
        rows = (len(values), len(values))
        if len(values) < self.policy.least_units or not np.isfinite(limit):
            return self._unknown(label, rows, "pairs")
        of = moments(values, np.array([len(values)]), is_share=is_share)
        if self.guardrail.figure == "drift":  # an offset that is the same everywhere is one
            of = of._replace(variance=np.maximum(of.variance, (self._spread / 1000) ** 2))
        found = mean_of(of, best_at(self.policy.expected_rows, alpha), alpha, self.policy.least_units)
        return self._finding(found, limit, label, sides, rows, "pairs")

    def _finding(
        self, found: Interval, limit: float, label: str, sides: tuple[float, float], rows: tuple[int, int], source: str
    ) -> Finding:
        estimate, low, high = (float(ends[0]) for ends in found)
        if np.isnan(low) or np.isnan(high) or not (np.isfinite(low) or np.isfinite(high)):
            return self._unknown(label, rows, source)
        least, most = (end if np.isfinite(end) else None for end in (low, high))
        return Finding(self._name, self.guardrail.figure, estimate, least, most, limit, *sides, rows, label, source)

    def _unknown(self, label: str, rows: tuple[int, int], source: str) -> Finding:
        limit = self.guardrail.worse_by
        return Finding(self._name, self.guardrail.figure, None, None, None, limit, None, None, rows, label, source)


def _as_drawn(values: Floats, group: npt.NDArray[np.int64], part: Floats) -> Floats:
    """Values as if they had been drawn of that mixture of groups: its quantiles, evenly spread, as many as they count for (Kish's size)."""
    if len(part) == 1:
        return values
    weight = (part / np.bincount(group, minlength=len(part)))[group]
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    count = int(weight.sum() ** 2 / (weight**2).sum())
    made: Floats = values[order][np.searchsorted(reached / reached[-1], (np.arange(count) + 0.5) / count)]
    return made


def scored(scorer: Scorer, rows: pl.DataFrame) -> Floats:
    """What a version says of rows on record, as :class:`Answers` have it: (rows, classes), or (rows, 1)."""
    made = scorer.predict(features_in(rows, scorer.signature.names))
    return made if made.ndim == 2 else made.reshape(-1, 1)


def figures_of(scores: Floats) -> Floats:
    """One number for what was said of a row: the last class's probability, of several classes the likeliest one's, or the value."""
    made: Floats = scores.max(axis=1) if scores.shape[1] > 2 else scores[:, -1]
    return made


def _mean_of_each(groups: npt.NDArray[np.int64], values: Floats) -> Floats:
    """The mean of the known values of each request or unit."""
    known = np.isfinite(values)
    if not known.any():
        return np.empty(0)
    counts = np.bincount(groups[known])
    there = counts > 0
    means: Floats = np.bincount(groups[known], values[known])[there] / counts[there]
    return means


def _either_way(found: Finding) -> Finding:
    """The same of how far it is from none, whichever way."""
    if found.low is None or found.high is None or found.estimate is None:
        return found
    low, high = max(found.low, -found.high, 0.0), max(abs(found.low), abs(found.high))
    return msgspec.structs.replace(found, estimate=abs(found.estimate), low=low, high=high)
