"""What a version would have said of rows that are on record, held against the policy's guardrails before any traffic.

A label does not depend on who predicted here, so each row is scored again and compared within pairs: nothing has to be weighted.
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline.config.release import Step
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.monitoring.labels import Known
from mlops_pipeline.monitoring.recorded import within
from mlops_pipeline.records.reading import are_answers, batches
from mlops_pipeline.release.evidence import CHAMPION, SHADOW, answers_in, evidence_of, joined, scored
from mlops_pipeline.release.opened import Opened
from mlops_pipeline.release.policy import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

COMPARED = frozenset({"quality", "drift", "disagreement"})
"""Figures that a replay can say: it takes no time of a server, and refuses nothing."""


def replayed(of: Opened, version: int, since: datetime | None, until: datetime | None) -> Evidence:
    """The evidence of a shadow that was there all the while. Raises :class:`PipelineError` where rows cannot be scored again."""
    from mlops_pipeline.inference.scorer import load_scorer

    registry = of.registry()
    challenger, champion = registry.get(version), registry.champion()
    if champion is None or champion.number == version:
        raise PipelineError(f"{registry.name} version {version}: there is no other champion to compare it with")
    scorer, number = load_scorer(registry.fetch(challenger), threads=1), str(champion.number)
    reference = of.watch.reference(of.model, number)
    if list(reference.answered) != list(scorer.contract.answers or ()):
        raise PipelineError(f"{registry.name} version {version}: answers otherwise than version {number}: the two cannot be compared")
    with closing(of.watch.state()) as state:
        labels = state.labels_after(0, 0.0)
    known = Known.of(labels, within(of.watch)) if labels else None
    policy = of.settings.policy
    policy = policy.model_copy(update={"guardrails": {name: one for name, one in policy.guardrails.items() if one.figure in COMPARED}})
    slices = tuple(dict.fromkeys(name for one in policy.guardrails.values() for name in one.slices))
    said: list[Any] = []

    def frames() -> Iterator[pl.DataFrame]:
        import polars as pl

        for frame in batches(of.watch.store, since=since, until=until, model=of.model, version=number):
            rows = frame.filter(are_answers())
            if rows.height:
                said.append(scored(scorer, rows))
                yield rows.with_columns(pl.lit(CHAMPION).alias("arm"))

    answers = answers_in(frames(), reference, number, str(version), known, slices, in_order=False)
    if not said:
        raise PipelineError(f"{of.watch.store.where}: holds no answer of version {number} in that time: nothing can be compared")
    again = answers._replace(arm=np.full(len(answers.time), SHADOW), scores=np.concatenate(said))
    return evidence_of(policy, Step(shadow=1.0), 0.0, joined([answers, again]), splits_evenly=False)
