"""The commands of online tests: what is read, what is written, and the lines that are said of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline import pages
from mlops_pipeline.config.experiment import Experiment, Metric, load_experiment
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.experiments.drawing import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curve, exposure
from mlops_pipeline.experiments.judging import UNTOLD, Comparison, Findings, Word, judged
from mlops_pipeline.experiments.units import Units, read_units
from mlops_pipeline.files import in_json, write_text

if TYPE_CHECKING:
    from rich.console import Console

    from mlops_pipeline.experiments.planning import SamplePlan

WORDS: dict[Word, str] = {
    "better": "better",
    "worse": "worse",
    "as_good": "as good, to within the least effect",
    "not_decided": "not decided",
    "too_few": "too few units",
    "alike": "does not vary within an arm",
    "holds": "holds",
    "broken": "broken",
}
VERDICTS = {"treatment": "take {winner}", "control": "keep {winner}", "go_on": "go on", "cannot_judge": "cannot be judged"}


def plan(console: Console, config: Path, table: Path, per_day: float | None, *, as_json: bool) -> None:
    """`mlops experiment plan --input`."""
    experiment = load_experiment(config)
    tell_plan(console, experiment, read_units(table, experiment, str(config), arms=False), per_day, as_json=as_json)


def tell_plan(
    console: Console, experiment: Experiment, units: Units, per_day: float | None, *, each_stands_for: int = 1, as_json: bool
) -> None:
    """Say what a test of such units needs. Raises :class:`PipelineError` where its metrics cannot be planned."""
    from mlops_pipeline.experiments.planning import LOOKS, planned

    if per_day is not None and not per_day > 0:
        raise PipelineError(f"--per-day {per_day:g}: give how many units come in a day, above 0")
    rate = _rate(units)
    made = planned(experiment, units, per_day if per_day is not None or rate is None else rate * each_stands_for)
    if as_json:
        print(json.dumps([in_json(vars(each)) for each in made]))
        return
    for note in units.notes:
        console.print(note, style="yellow")
    for each in made:
        for line in _plan_lines(each, experiment, LOOKS):
            console.print(line)


def _plan_lines(plan: SamplePlan, experiment: Experiment, looks: int) -> list[str]:
    metric = experiment.metrics[plan.metric]
    what = f"the {metric.quantile:g} quantile" if metric.quantile is not None else "the mean"
    days = "" if plan.days is None else f", {plan.days:,.1f} days"
    wanted = f"{plan.effect:+g} in {100 * experiment.power:g}% of tests"
    lines = [
        f"{plan.metric}: {what} of '{metric.column}' is {_told(plan.base)}; to find {wanted}",
        f"  looked at as often as you like  {_count(plan.units, plan.tried_units)}{days}",
        f"  looked at once, at the end      {plan.fixed_units:,} units",
    ]
    if plan.units is None:
        lines.append(
            f"  by {plan.tried_units:,} units {plan.reached:.0%} of {plan.tests} tests on your rows found it: look for more, or less often"
        )
    lines.append(
        f"  without a difference, {plan.false_alarms:.1%} of {plan.tests} tests on your rows, looked at {looks} times, found one "
        f"({plan.false_alarms_low:.1%} to {plan.false_alarms_high:.1%}; asked for: at most {100 * experiment.alpha:g}%)"
    )
    if plan.narrowed is not None:
        lines.append(f"  '{metric.before}' takes {plan.narrowed:.0%} off the variance")
    return lines


def _count(units: int | None, tried: int) -> str:
    return f"more than {tried:,} units" if units is None else f"{units:,} units"


def _rate(units: Units) -> float | None:
    """Units a day, by the table's own times; where these are whole days, the last of them is one, too."""
    if units.moments is None or units.count < 2:
        return None
    first, last = units.moments.min(), units.moments.max()
    are_days = bool((units.moments == units.moments.astype("datetime64[D]")).all())
    days = float((last - first) / np.timedelta64(1, "D")) + are_days
    return units.count / days if days > 0 else None


def report(console: Console, config: Path, table: Path, output: Path | None, *, as_json: bool) -> bool:
    """`mlops experiment report`; whether the test can be judged at all."""
    experiment = load_experiment(config)
    return tell(console, experiment, read_units(table, experiment, str(config)), output, as_json=as_json, table=table)


def tell(console: Console, experiment: Experiment, units: Units, output: Path | None, *, as_json: bool, table: Path | None = None) -> bool:
    """Write a test's page and figures, and say five lines of them; whether the test can be judged at all. ``table``: what was read."""
    done = judged(experiment, units)
    target = output or Path(f"{experiment.name}.html")
    if target.suffix.lower() not in (".html", ".htm"):
        raise PipelineError(f"--output {target}: the report is a page: give a name that ends in .html")
    if not target.parent.is_dir():
        raise PipelineError(f"--output {target}: there is no folder {target.parent}: make it, or name another")
    figures = target.with_suffix(".json")
    if table is not None and figures.exists() and figures.samefile(table):
        raise PipelineError(f"--output {target}: its figures would take the place of the table, {figures}: give another name")
    facts = facts_of(experiment, units, done)
    write_text(target, page(experiment, units, done))
    write_text(figures, json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, allow_nan=False))
        return done.verdict != "cannot_judge"
    for note in done.notes:
        console.print(note, style="yellow")
    style = {"treatment": "bold green", "control": "bold", "go_on": "bold", "cannot_judge": "bold red"}[done.verdict]
    console.print(f"{experiment.name}: {_headline(done)}", style=style)
    console.print(done.why)
    if done.verdict != "cannot_judge":
        for each in done.comparisons:
            console.print(f"  {_line(each, experiment)}")
    console.print(f"{units.count:,} units; the page: {target}")
    return done.verdict != "cannot_judge"


def _headline(done: Findings) -> str:
    return VERDICTS[done.verdict].format(winner=done.winner)


def _line(each: Comparison, experiment: Experiment) -> str:
    estimate, low, high = each.now
    many = f" [{each.treatment}]" if len(experiment.arms) > 2 else ""
    figures = "" if each.word in UNTOLD else f"  {_told(estimate, signed=True)} ({_told(low, signed=True)} to {_told(high, signed=True)})"
    return f"{each.metric}{many}  {_told(each.levels[0])} → {_told(each.levels[1])}{figures}  {WORDS[each.word]}"


def _told(value: float, *, signed: bool = False) -> str:
    if math.isinf(value):
        return "+∞" if value > 0 else "-∞"
    if math.isnan(value):
        return "–"
    form = ",.0f" if 1e4 <= abs(value) < 1e15 else ".4g"
    return format(value, f"+{form}" if signed else form)


def facts_of(experiment: Experiment, units: Units, done: Findings) -> dict[str, Any]:
    """The report for a program: nothing that is not known has a number. Of a test that cannot be judged, no metric is told."""
    believed = done.verdict != "cannot_judge"
    content: dict[str, Any] = {
        "name": experiment.name,
        "verdict": done.verdict,
        "arm": done.winner,
        "why": done.why,
        "units": units.count,
        "arms": {arm: int(count[-1]) for arm, count in done.counts.items()},
        "srm_p": float(done.srm[-1]),
        "metrics": [_fact(each, experiment.metrics[each.metric]) for each in done.comparisons] if believed else [],
        "slices": [
            {"column": each.column, "slice": each.value, "false_discovery": each.false_discovery}
            | _fact(each.comparison, experiment.metrics[each.comparison.metric])
            for each in done.slices
        ],
        "notes": list(done.notes),
    }
    return dict(in_json(content))


def _fact(each: Comparison, metric: Metric) -> dict[str, Any]:
    estimate, low, high = each.now
    return {
        "metric": each.metric,
        "role": metric.role,
        "treatment": each.treatment,
        "says": each.word,
        "control": each.levels[0],
        "value": each.levels[1],
        "difference": estimate,
        "low": low,
        "high": high,
        "p": None if each.p_value is None else float(each.p_value[-1]),
        "units": list(each.units),
        "variance_taken_off": each.narrowed,
    }


def page(experiment: Experiment, units: Units, done: Findings) -> str:
    """The report as one page that opens offline."""
    believed = done.verdict != "cannot_judge"
    shown = [
        {
            "comparison": each,
            "metric": experiment.metrics[each.metric],
            "word": WORDS[each.word],
            "picture": curve(each, done.looks, units, experiment.metrics[each.metric]),
            "is_share": each.metric in units.shares and experiment.metrics[each.metric].quantile is None,
        }
        for each in (done.comparisons if believed else ())
    ]
    return pages.page(
        "experiment.html",
        title=experiment.name,
        experiment=experiment,
        done=done,
        units=units,
        headline=_headline(done),
        shown=shown,
        exposure=exposure(done, units, experiment),
        slices=[(each, WORDS[each.comparison.word]) for each in done.slices],
        told=_told,
        untold=UNTOLD,
        size=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
        many_arms=len(experiment.arms) > 2,
    )
