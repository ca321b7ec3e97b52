"""An online test that we run: units of the record and their figures, judged by the same code as a table of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlops_pipeline.config.experiment import Experiment
from mlops_pipeline.config.release import TEST, TESTED_ARMS, Policy
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.experiments.face import facts_of
from mlops_pipeline.experiments.judging import judged
from mlops_pipeline.experiments.units import Units, units_in
from mlops_pipeline.release.evidence import ARMS, CHALLENGER, CHAMPION, FALLBACK, Observations, part_of_alpha
from mlops_pipeline.release.opened import Opened
from mlops_pipeline.release.policy import Evidence
from mlops_pipeline.release.reward import ANSWERED, figure_of
from mlops_pipeline.release.table import LIVE, Started, Transition

if TYPE_CHECKING:
    import polars as pl

SLICE = "slice "
"""Before the name of a user's column, which may be ``arm``, ``time`` or that of a figure."""


def with_tested(evidence: Evidence, policy: Policy, transitions: Sequence[Transition], answers: Observations) -> Evidence:
    """The evidence of a test's step, with what its report says now."""
    if policy.experiment is None:
        return evidence
    frame = _frame(answers, policy.experiment, transitions)
    if not frame.height:
        return evidence
    experiment = _of_record(policy.experiment, answers)
    units = _units(frame, experiment, answers)
    facts = facts_of(experiment, units, judged(experiment, units)) | {"all_units": units.count << answers.halved_units}
    return msgspec.structs.replace(evidence, tested=facts)


def units_of(of: Opened, started: Started, transitions: Sequence[Transition]) -> tuple[Experiment, Units]:
    """A test's settings, and its units until now or its end. Raises :class:`PipelineError` for a release that is none."""
    policy = of.policy(started)
    if policy.experiment is None:
        raise PipelineError(f"release {started.number}: is no online test: `mlops experiment start` begins one")
    over = None if transitions[-1].state in LIVE else datetime.fromtimestamp(transitions[-1].made, UTC)
    answers = of.ledger(started, policy, None, until=over).observations()
    frame = _frame(answers, policy.experiment, transitions)
    if not frame.height:
        raise PipelineError(f"release {started.number}: no unit of its test is on record yet")
    experiment = _of_record(policy.experiment, answers)
    return experiment, _units(frame, experiment, answers)


def units_on_record(of: Opened, experiment: Experiment, since: datetime) -> tuple[Experiment, Units, int]:
    """A test's settings as the record has them, the champion's units since a moment, and for how many each of them stands: for planning.

    Raises :class:`PipelineError` where the record has none.
    """
    import polars as pl

    champion = of.registry().champion()
    if champion is None:
        raise PipelineError(f"{of.model}: there is no champion, so there is nothing to plan a test by")
    tests = of.testing(experiment)
    tests.check(str(champion.number))
    sticks = of.settings.unit != "request"
    answers = of.answers_of(str(champion.number), since, sticks=sticks)
    given = answers.of(np.isin(answers.arm, [ARMS.index(CHAMPION), ARMS.index(FALLBACK)]))
    rows = given.of(given.unit >= 0)
    if not len(rows.time):
        why = "what sticks is on record only while a release or a test divides: plan by a table of your own, with --input"
        raise PipelineError(
            f"{of.watch.store.where}: names no unit of version {champion.number} since {since:%Y-%m-%d}"
            + (f": {why}" if sticks and len(given.time) else ": ask for a longer time with --since")
        )
    made = _of_record(experiment, rows).model_copy(update={"slices": ()})
    # Whoever was meant to be asked, the champion answered: one that was on both arms is one unit all the same.
    frame = _columns(rows, made).with_columns(pl.lit(CHAMPION).alias("arm"))
    return made, units_in(frame, made, Path("the record")), 1 << rows.halved_units


def _units(frame: pl.DataFrame, experiment: Experiment, answers: Observations) -> Units:
    """The units of a test's rows, with a note where they are not all."""
    named = experiment.model_copy(update={"slices": tuple(f"{SLICE}{name}" for name in experiment.slices)})
    units = units_in(frame, named, Path("the record"))
    units = replace(units, slices={name.removeprefix(SLICE): values for name, values in units.slices.items()})
    if not answers.halved_units:
        return units
    note = f"a random 1/{1 << answers.halved_units} of the units is looked at: the release has more rows than are kept"
    return replace(units, notes=(*units.notes, note))


def _of_record(experiment: Experiment, answers: Observations) -> Experiment:
    """The same test with the names that the record's columns have, the champion as its control, and what looks at so much have of alpha."""
    arms = {arm: experiment.arms[arm] for arm in TESTED_ARMS}
    part = part_of_alpha(answers.thinned)
    levels = {"alpha": experiment.alpha * part, "srm_alpha": experiment.srm_alpha * part}
    return experiment.model_copy(update={"arms": arms, "arm": "arm", "unit": "unit", "time": "time", **levels})


def _frame(answers: Observations, experiment: Experiment, transitions: Sequence[Transition]) -> pl.DataFrame:
    """The rows of the test's own step, each of the arm that its unit was given, whoever answered it in the end."""
    mine = [place for place, each in enumerate(transitions) if each.step == TEST and each.weight > 0]
    since = transitions[mine[0]].made + answers.settle_s if mine else np.inf
    until = transitions[mine[-1] + 1].made if mine and mine[-1] + 1 < len(transitions) else np.inf
    there = (answers.time >= since) & (answers.time < until) & (answers.unit >= 0) & np.isin(answers.arm, ANSWERED)
    return _columns(answers.of(there), experiment)


def _columns(rows: Observations, experiment: Experiment) -> pl.DataFrame:
    """Each row's arm, unit, time and figures."""
    import polars as pl

    columns: dict[str, Any] = {
        "arm": np.where(rows.arm == ARMS.index(CHAMPION), CHAMPION, CHALLENGER),
        "unit": rows.unit.astype(str),
        "time": (rows.time * 1e6).astype(np.int64).astype("datetime64[us]"),
    }
    for name in {metric.column for metric in experiment.metrics.values()}:
        columns[name] = figure_of(name, rows)
    for name in experiment.slices:
        columns[f"{SLICE}{name}"] = np.array(rows.values[name], dtype=object)[rows.slices[name]].astype(str)
    return pl.DataFrame(columns).with_columns(pl.col(name).fill_nan(None) for name in columns if columns[name].dtype.kind == "f")
