"""What a test allows to be said, at every look: first whether its arms got their shares, then each metric, then the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlops_pipeline.config.experiment import Experiment, Metric
from mlops_pipeline.experiments.sequences import (
    Interval,
    adjusted,
    best_at,
    difference_of_means,
    difference_of_quantiles,
    holm,
    moments,
    p_of_means,
    p_of_shares,
    quantile_bounds,
)
from mlops_pipeline.experiments.units import Units

LOOKS = 60
"""Points of a curve; what is said holds at every unit, and is worked out at these."""

Floats = npt.NDArray[np.float64]
Word = Literal["better", "worse", "as_good", "not_decided", "too_few", "alike", "holds", "broken"]
UNTOLD: tuple[Word, ...] = ("too_few", "alike")
"""Of which there is no interval."""


@dataclass(frozen=True)
class Comparison:
    """A treatment beside the control by one metric, at each look (the first dimension of ``interval`` and ``p_value``).

    ``levels`` are the control's and the treatment's own figures at the end; ``units`` how many of each have the metric's value.
    """

    metric: str
    treatment: str
    word: Word
    interval: Interval
    p_value: Floats | None
    levels: tuple[float, float]
    units: tuple[int, int]
    narrowed: float | None = None
    """By how much what was known before has shrunk the variance; None where nothing was."""

    @property
    def now(self) -> tuple[float, float, float]:
        """The estimate and its ends at the last look."""
        return float(self.interval.estimate[-1]), float(self.interval.low[-1]), float(self.interval.high[-1])

    @property
    def relative(self) -> tuple[float, float, float] | None:
        """The same as shares of the control's figure; None where that is zero or below, or not known."""
        base = self.levels[0]
        return (self.now[0] / base, self.now[1] / base, self.now[2] / base) if np.isfinite(base) and base > 0 else None


@dataclass(frozen=True)
class Sliced:
    """A goal within one value of a column, looked at afterwards: a hint, not a proof."""

    column: str
    value: str
    comparison: Comparison
    false_discovery: float | None


@dataclass(frozen=True)
class Findings:
    """A test as it stands."""

    verdict: Literal["treatment", "control", "go_on", "cannot_judge"]
    winner: str | None
    why: str
    looks: npt.NDArray[np.int64]
    counts: dict[str, Floats]
    srm: Floats
    comparisons: tuple[Comparison, ...]
    slices: tuple[Sliced, ...]
    notes: tuple[str, ...]


def judged(experiment: Experiment, units: Units) -> Findings:
    """What may be said of a test now.

    Goals' intervals are at alpha over the number of goals and treatments (Bonferroni), their p-values by Holm; guardrails' are at alpha
    each, since missing a harm costs more than a false alarm. If the arms did not get their shares nothing else is believed.
    """
    looks = _looks(units.count, experiment.least_units)
    arms = list(experiment.arms)
    counts = {arm: np.cumsum(units.arm == place).astype(np.float64)[looks - 1] for place, arm in enumerate(arms)}
    srm = p_of_shares(list(counts.values()), list(experiment.shares.values()))
    notes = [*units.notes, *_unknown(experiment, units)]
    treatments = arms[1:]
    many = len(experiment.goals) * len(treatments)
    comparisons = []
    for arm in treatments:
        for name, metric in experiment.metrics.items():
            alpha = experiment.alpha / many if metric.role == "goal" else experiment.alpha
            comparisons.append(_compared(experiment, units, name, metric, arms.index(arm), looks, alpha))
    comparisons = _holm(experiment, comparisons)
    if srm[-1] < experiment.srm_alpha:
        got = ", ".join(f"{arm} {counts[arm][-1]:,.0f} ({counts[arm][-1] / units.count:.2%})" for arm in arms)
        planned = ", ".join(f"{arm} {share:.2%}" for arm, share in experiment.shares.items())
        why = (
            f"the arms did not get their shares (p = {srm[-1]:.1g}): {got} of {planned}. Somebody was lost or sent elsewhere on the way, "
            "and no other figure can be believed: find out where before you look at them"
        )
        return Findings("cannot_judge", None, why, looks, counts, srm, tuple(comparisons), (), tuple(notes))
    slices, more = _sliced(experiment, units)
    verdict, winner, why = _verdict(experiment, treatments, comparisons)
    return Findings(verdict, winner, why, looks, counts, srm, tuple(comparisons), slices, (*notes, *more))


def _looks(count: int, least: int) -> npt.NDArray[np.int64]:
    first = min(2 * least, count)
    return np.unique(np.concatenate([np.linspace(first, count, LOOKS), [count]]).round().astype(np.int64))


def _unknown(experiment: Experiment, units: Units) -> list[str]:
    """Units whose figure is not known, and whether one arm has more of them: they may be lost because of what the arm did."""
    notes = []
    for name, metric in experiment.metrics.items():
        notes += _gone(experiment, units, units.values[name], name, "they are in no figure of it")
        if name in units.before:
            notes += _gone(experiment, units, units.before[name], f"'{metric.before}'", "they count as its mean")
            notes += _not_of_before(experiment, units, units.before[name], str(metric.before))
    return notes


def _not_of_before(experiment: Experiment, units: Units, before: Floats, name: str) -> list[str]:
    """That a figure of before the test is not alike in the arms: chance alone has divided it."""
    arms, known = list(experiment.arms), ~np.isnan(before)
    alpha = experiment.alpha / (len(arms) - 1)
    rho2 = best_at(experiment.expected_units, alpha)
    sides = [before[known & (units.arm == place)] for place in range(len(arms))]
    control, *others = (moments(side, np.array([len(side)])) for side in sides)
    differ = [
        arm for arm, other in zip(arms[1:], others, strict=True) if p_of_means(control, other, rho2, experiment.least_units)[-1] < alpha
    ]
    said = f"'{name}' differs between {experiment.control} and {' and '.join(differ)} more than chance would have it"
    return [f"{said}: if it was not known before, what the arm did is taken off with it"] if differ else []


def _gone(experiment: Experiment, units: Units, values: Floats, name: str, what: str) -> list[str]:
    from scipy.stats import chi2_contingency

    gone = [int(np.isnan(values[units.arm == place]).sum()) for place in range(len(experiment.arms))]
    there = [int((units.arm == place).sum()) for place in range(len(experiment.arms))]
    if not sum(gone):
        return []
    told = ", ".join(f"{arm} {lost:,} of {all_:,}" for arm, lost, all_ in zip(experiment.arms, gone, there, strict=True))
    note = f"{name} is not known of {sum(gone):,} units ({told}): {what}"
    table = np.array([[lost, all_ - lost] for lost, all_ in zip(gone, there, strict=True) if all_])
    if len(table) > 1 and (table.sum(axis=0) > 0).all() and chi2_contingency(table).pvalue < experiment.srm_alpha:
        note += ". That differs between the arms more than chance would have it: what is compared may be whom it is known of"
    return [note]


def _compared(
    experiment: Experiment, units: Units, name: str, metric: Metric, place: int, looks: npt.NDArray[np.int64], alpha: float
) -> Comparison:
    """One metric of one treatment beside the control's."""
    values = units.values[name]
    known = ~np.isnan(values)
    sides = [known & (units.arm == each) for each in (0, place)]
    narrowed = None
    if name in units.before:
        less = values.copy()  # by all arms, so that the control has one figure beside each of the others
        less[known] = adjusted(values[known], units.before[name][known])
        raw, shrunk = (sum(float(np.var(each[side])) for side in sides if side.any()) for each in (values, less))
        narrowed = 1 - shrunk / raw if raw else None
        values = less
    seen = [np.cumsum(side)[looks - 1] for side in sides]
    least, p_value = experiment.least_units, None
    few = (seen[0] < least) | (seen[1] < least)
    if metric.quantile is None:
        is_share = name in units.shares and narrowed is None
        arms = [moments(values[side], at, is_share=is_share) for side, at in zip(sides, seen, strict=True)]
        rho2 = best_at(experiment.expected_units, alpha)
        interval = difference_of_means(arms[0], arms[1], rho2, alpha, least)
        p_value = p_of_means(arms[0], arms[1], rho2, least)
        levels = (float(arms[0].mean[-1]), float(arms[1].mean[-1]))
    else:
        bounds = [quantile_bounds(values[side], at, metric.quantile, alpha / 2) for side, at in zip(sides, seen, strict=True)]
        interval = Interval(*(np.where(few, np.nan, each) for each in difference_of_quantiles(bounds[0], bounds[1])))
        levels = (float(bounds[0].estimate[-1]), float(bounds[1].estimate[-1]))
    counts = (int(sides[0].sum()), int(sides[1].sum()))
    treatment = list(experiment.arms)[place]
    return Comparison(name, treatment, _word(metric, interval, has_few=bool(few[-1])), interval, p_value, levels, counts, narrowed)


def _word(metric: Metric, interval: Interval, *, has_few: bool) -> Word:
    """What one interval says; an end that is not finite says nothing of its side.

    The sequence holds at all looks at once, so their intersection would too; the last one is used, which needs no explanation.
    """
    low, high = float(interval.low[-1]), float(interval.high[-1])
    if np.isnan(low) or np.isnan(high):
        return "too_few" if has_few else "alike"
    good, bad = (low, high) if metric.better == "higher" else (-high, -low)  # the gain lies between
    if metric.role == "guardrail":
        return "holds" if good >= -metric.no_worse_by else "broken" if bad < -metric.no_worse_by else "not_decided"
    if good > 0:
        return "better"
    if bad < 0:
        return "worse"
    if metric.least_effect is not None and good > -metric.least_effect and bad < metric.least_effect:
        return "as_good"
    return "not_decided"


def _holm(experiment: Experiment, comparisons: list[Comparison]) -> list[Comparison]:
    """Goals' p-values, corrected at each look for the number of all goals: a quantile, which has none, counts as one that found nothing."""
    goals = [each for each in comparisons if each.metric in experiment.goals]
    if len(goals) < 2:
        return comparisons
    given = np.array([np.ones(len(each.interval.low)) if each.p_value is None else each.p_value for each in goals])
    at_looks = np.array([holm(list(row)) for row in given.T]).T
    new = {id(each): replace(each, p_value=row) for each, row in zip(goals, at_looks, strict=True) if each.p_value is not None}
    return [new.get(id(each), each) for each in comparisons]


def _sliced(experiment: Experiment, units: Units) -> tuple[tuple[Sliced, ...], list[str]]:
    """Goals by the values of columns, with the share of false ones among findings as sure as each (Benjamini and Hochberg)."""
    from scipy.stats import false_discovery_control

    made: list[Sliced] = []
    notes = []
    for column, texts in units.slices.items():
        values = sorted({text for text in texts if text is not None})
        place_of, arms = {value: place for place, value in enumerate(values)}, len(experiment.arms)
        given = np.array([-1 if text is None else place_of[text] for text in texts], dtype=np.int64)
        known = given >= 0
        counts = np.bincount(given[known] * arms + units.arm[known], minlength=len(values) * arms).reshape(-1, arms)
        large = np.flatnonzero(counts.min(axis=1) >= experiment.least_units)
        for at in large:
            value, inside = values[at], given == at
            part = Units(
                units.arm[inside],
                {name: each[inside] for name, each in units.values.items()},
                {name: each[inside] for name, each in units.before.items()},
                {},
                None,
                units.shares,
            )
            own = _looks(part.count, experiment.least_units)
            for place, _ in enumerate(list(experiment.arms)[1:], start=1):
                for name, metric in experiment.goals.items():
                    made.append(Sliced(column, value, _compared(experiment, part, name, metric, place, own, experiment.alpha), None))
        if small := len(values) - len(large):
            notes.append(f"not looked at: values of '{column}' that fewer than {experiment.least_units:,} units in an arm have ({small:,})")
        if not known.all():
            notes.append(f"'{column}' is not known of {int((~known).sum()):,} units: they are in no slice of it")
    tested = [each for each in made if each.comparison.p_value is not None]
    if tested:
        found = false_discovery_control([float(each.comparison.p_value[-1]) for each in tested if each.comparison.p_value is not None])
        rates = {id(each): float(rate) for each, rate in zip(tested, found, strict=True)}
        made = [replace(each, false_discovery=rates.get(id(each))) for each in made]
    return tuple(made), notes


def _verdict(
    experiment: Experiment, treatments: list[str], comparisons: list[Comparison]
) -> tuple[Literal["treatment", "control", "go_on"], str | None, str]:
    """The whole: a treatment that is better by a goal, worse by none, and keeps every guardrail; or the control; or wait."""
    words: Mapping[str, dict[str, Word]] = {
        arm: {each.metric: each.word for each in comparisons if each.treatment == arm} for arm in treatments
    }
    fit, out = [], []
    for arm in treatments:
        goals = {name: words[arm][name] for name in experiment.goals}
        rails = {name: word for name, word in words[arm].items() if name not in goals}
        harmed = [name for name, word in (*goals.items(), *rails.items()) if word in ("worse", "broken")]
        if harmed:
            out.append(f"{arm} is worse by {' and '.join(harmed)}")
        elif all(word == "as_good" for word in goals.values()):
            out.append(f"{arm} is no better by more than the least effect")
        elif "better" in goals.values() and all(word == "holds" for word in rails.values()):
            fit.append(arm)
    if fit:
        best = max(fit, key=lambda arm: _gain(experiment, comparisons, arm))
        won = " and ".join(name for name in experiment.goals if words[best][name] == "better")
        guardrails = " and ".join(name for name in experiment.metrics if name not in experiment.goals)
        kept = f", and keeps {guardrails}" if guardrails else ""
        return "treatment", best, f"{best} is better by {won}{kept}"
    if len(out) == len(treatments):
        return "control", experiment.control, "; ".join(out)
    waiting = [f"{each.metric} of {each.treatment}" for each in comparisons if each.word in ("not_decided", *UNTOLD)]
    more = f"; {'; '.join(out)}" if out else ""
    return "go_on", None, f"not decided yet: {', '.join(waiting)}{more}"


def _gain(experiment: Experiment, comparisons: list[Comparison], arm: str) -> float:
    """How sure the first goal's gain is: the end of its interval that is nearest to none."""
    name, metric = next(iter(experiment.goals.items()))
    low, high = next(each.now[1:] for each in comparisons if each.metric == name and each.treatment == arm)
    return low if metric.better == "higher" else -high
