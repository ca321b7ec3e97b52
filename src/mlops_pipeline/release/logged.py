"""The record as a log of decisions: by what rule each was made, from the table's transitions, and what a version would have decided.

Where no release divided, or only asked in the shadow, the champion decided everything: its decisions have the probability 1, every other
has none. Where one divided, the rule is a mixture of both versions' decisions, at the step's share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.experiments.sequences import Floats
from mlops_pipeline.monitoring.labels import Known
from mlops_pipeline.monitoring.measuring import truths_of
from mlops_pipeline.monitoring.recorded import within
from mlops_pipeline.records.reading import UNIT, are_answers, batches
from mlops_pipeline.release.evidence import CHALLENGER, CHAMPION, FALLBACK, figures_of, known_truths, scored
from mlops_pipeline.release.offpolicy import Earned, Logged, earned
from mlops_pipeline.release.opened import Opened
from mlops_pipeline.release.reward import refuse_untold, scaled
from mlops_pipeline.release.table import LIVE, with_ends

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.inference.scorer import Scorer


class Span(NamedTuple):
    """A time in which units were divided in one way."""

    since: float
    until: float
    champion: str
    challenger: str
    weight: float
    sticks: bool


def spans_of(of: Opened) -> list[Span]:
    """How units were divided, by the table's transitions, in order of time."""
    made = list[Span]()
    if (table := of.table_there()) is None:
        return made
    with closing(table):
        for started in table.releases(of.model):
            made += [
                Span(turn.made, end, started.champion, started.challenger, turn.weight, started.unit != "request")
                for turn, end in with_ends(table.transitions(started.number))
                if turn.state in LIVE
            ]
    return made


def earned_on_record(of: Opened, version: int, since: datetime | None, until: datetime | None) -> tuple[list[Earned], list[str]]:
    """What a version's decisions would have earned, and notes on rows that are left out. Raises :class:`PipelineError`.

    With classes what is earned is taken to depend on the decision, the likeliest class, alone. Where the version answered units that were
    given it by chance, it is told besides without that assumption; of numbers only so.
    """

    from mlops_pipeline.inference.scorer import load_scorer

    reward = of.settings.policy.reward
    if reward is None or reward.figure != "label":
        return [], []
    if not of.divides:
        return [], ["what decisions would have earned is not told: requests are divided elsewhere, at shares that nobody here knows"]
    registry = of.registry()
    champion = registry.champion()
    if champion is None:
        raise PipelineError(f"{registry.name}: has no champion")
    reference = of.watch.reference(of.model, str(champion.number))
    refuse_untold(of.settings.policy, reference, str(of.origin or "the usual policy"))
    with closing(of.watch.state()) as state:
        labels = state.labels_after(0, 0.0)
    known = Known.of(labels, within(of.watch))
    scorers: dict[str, Scorer] = {}

    def scorer(number: str) -> Scorer:
        if number not in scorers:
            scorers[number] = load_scorer(registry.fetch(registry.get(int(number))), threads=1)
        return scorers[number]

    by_decision, by_answer, beyond, dropped = list[Logged](), list[Logged](), 0, 0
    spans = spans_of(of)
    units: dict[str, int] = {}
    for frame in batches(of.watch.store, since=since, until=until, model=of.model, units=True):
        rows = frame.filter(are_answers())
        dropped += rows.height
        for part, span in _parts(rows, spans, of.settle_s):
            earns, outside = scaled(reward, known_truths(known, part, reference))
            decided, answered = _logged(part, span, str(version), reference, scorer, earns, units)
            fit = decided.propensity > 0
            by_decision.append(_of(decided, fit))
            by_answer.append(_of(answered, fit & (answered.overlap > 0) & (answered.overlap < 1)))
            beyond, dropped = beyond + outside, dropped - int(fit.sum())
    if not by_decision:
        raise PipelineError(f"{of.watch.store.where}: holds no answer in that time: nothing can be told of what was earned")
    policy = of.settings.policy
    divided = _joined(by_answer)
    found = [earned("decision", _joined(by_decision), policy.least_units, policy.alpha)] if reference.classes else []
    if len(divided.unit):
        found.append(earned("answer", divided, policy.least_units, policy.alpha))
    elif not found:
        raise PipelineError(
            f"{registry.name} version {version}: no units were divided between it and another in that time, and two models never say the "
            "same number: what it would have earned is on no record; a release, or `mlops experiment start`, finds out"
        )
    notes = []
    if dropped:
        notes.append(f"{dropped:,} rows are left out: they came while shares changed, or do not fit the share of their time")
    if beyond:
        notes.append(f"{beyond:,} labels lie outside of {reward.low:g} to {reward.high:g} and count as its ends")
    return found, notes


def _of(logged: Logged, mask: npt.NDArray[np.bool_]) -> Logged:
    return Logged.of(column[mask] for column in logged)


def _joined(parts: Sequence[Logged]) -> Logged:
    return Logged.of(np.concatenate(column) for column in zip(*parts, strict=True))


def _parts(rows: pl.DataFrame, spans: Sequence[Span], settle_s: float) -> Iterator[tuple[pl.DataFrame, Span | None]]:
    """Rows by the rule that decided them: those of no release (None), and those of each of its spans."""
    import polars as pl

    arm = pl.col("arm").fill_null("")
    alone = rows.filter(~arm.is_in([CHAMPION, CHALLENGER, FALLBACK]))
    if alone.height:
        yield alone, None
    divided = rows.filter(arm.is_in([CHAMPION, CHALLENGER, FALLBACK]))
    moment = pl.col("time").dt.epoch("us") / 1e6
    for span in spans if divided.height else ():
        part = divided.filter(
            (moment >= span.since + settle_s)
            & (moment < span.until)
            & pl.when(arm == CHALLENGER).then(pl.col("version") == span.challenger).otherwise(pl.col("version") == span.champion)
        )
        if part.height:
            yield part, span


def _logged(
    rows: pl.DataFrame, span: Span | None, version: str, reference: Reference, scorer: Any, earns: Floats, units: dict[str, int]
) -> tuple[Logged, Logged]:
    """The rows by what was decided, and by who answered."""
    said = scored(scorer(version), rows)
    wanted = said.argmax(axis=1) if reference.classes else np.zeros(rows.height, dtype=np.int64)
    arm = rows["arm"].fill_null("").to_numpy().astype(str)
    taken = truths_of(reference, rows["prediction"]).astype(np.int64) if reference.classes else np.zeros(rows.height, dtype=np.int64)
    weight, lost = 0.0, np.zeros(rows.height)
    others = np.full(rows.height, -1)  # what the other version would have decided, where one could have answered
    mine = arm == CHALLENGER
    if span is not None and 0 < span.weight < 1:
        weight = span.weight
        lost = np.where(arm == FALLBACK, 1 / weight, 0.0)
        if reference.classes:
            for answered, other in ((mine, span.champion), (~mine, span.challenger)):
                if answered.any():
                    others[answered] = scored(scorer(other), rows.filter(answered)).argmax(axis=1)
    elif span is not None:
        weight = span.weight
        lost = (arm == FALLBACK).astype(np.float64)
    own = np.where(mine, weight, 1 - weight)  # of the version that answered
    names = rows[UNIT].fill_null("").to_list() if span is not None and span.sticks else rows["request_id"].fill_null("").to_list()
    unit = np.array([units.setdefault(name, len(units)) for name in names], dtype=np.int64)
    by_decision = Logged(
        unit,
        taken,
        wanted,
        own + np.where(others == taken, 1 - own, 0.0),
        np.where(taken == wanted, own, 0.0) + np.where(others == wanted, 1 - own, 0.0),
        earns,
        figures_of(said),
        lost,
    )
    answered_by = rows["version"].cast(int, strict=False).fill_null(-1).to_numpy().astype(np.int64)
    target = int(version)
    weight_of = (
        (answered_by == target).astype(np.float64)
        if span is None
        else np.full(rows.height, weight if span.challenger == version else 1 - weight if span.champion == version else 0.0)
    )
    by_answer = by_decision._replace(taken=answered_by, wanted=np.full(rows.height, target), propensity=own, overlap=weight_of)
    return by_decision, by_answer
