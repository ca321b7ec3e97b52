"""How many units a test needs, found by running it on one's own rows: drawn anew, with the effect added, and looked at a hundred times."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from mlops_pipeline.config.experiment import Experiment, Metric
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.experiments.sequences import (
    Interval,
    adjusted,
    best_at,
    difference_of_means,
    difference_of_quantiles,
    moments,
    quantile_bounds,
)
from mlops_pipeline.experiments.units import Units

TESTS = 400
LOOKS = 100
LONGEST = 4.0
"""A test is followed for so many times the units that one look at a fixed size would need."""
MOST_ALIKE = 0.05
"""A quantile that more units than this have is none that moves with an effect."""
MOST_UNITS = 2_000_000
MOST_DRAWS = 400_000_000
SEED = 7

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SamplePlan:
    """What one metric needs. Units are of all arms together."""

    metric: str
    base: float
    spread: float
    effect: float
    fixed_units: int
    """What a test that is looked at once would need, by the normal approximation."""
    units: int | None
    """What this one needs, looked at a hundred times; None: more than was tried."""
    tried_units: int
    tests: int
    reached: float
    """The share of tests with the effect that found it by ``units`` (by ``tried_units``, if more are needed)."""
    false_alarms: float
    """The share of tests without one that found one all the same, and the ends of its 95 % interval."""
    false_alarms_low: float
    false_alarms_high: float
    days: float | None
    narrowed: float | None


def planned(experiment: Experiment, units: Units, per_day: float | None, seed: int = SEED) -> tuple[SamplePlan, ...]:
    """What every goal with a ``least_effect`` needs. Raises :class:`PipelineError` in one line if none has one, or rows are too few."""
    wanted = {name: metric for name, metric in experiment.goals.items() if metric.least_effect is not None}
    if not wanted:
        names = ", ".join(f"metrics.{name}" for name in experiment.goals)
        raise PipelineError(f"{names}: has no least_effect: write the smallest difference worth finding, in the metric's own unit")
    return tuple(_plan(experiment, units, name, metric, per_day, seed) for name, metric in wanted.items())


def _plan(experiment: Experiment, units: Units, name: str, metric: Metric, per_day: float | None, seed: int) -> SamplePlan:
    known = ~np.isnan(units.values[name])
    values, narrowed = units.values[name][known], None
    if len(values) < experiment.least_units:
        raise PipelineError(f"metrics.{name}: {len(values):,} units have a value, of at least {experiment.least_units:,}: give more rows")
    if float(np.var(values)) == 0:
        raise PipelineError(f"metrics.{name}: every unit has the value {values[0]:g}: there is no chance in it to plan for")
    is_share = name in units.shares and metric.quantile is None
    before = units.before.get(name)
    if before is not None:
        less = adjusted(values, before[known])
        narrowed = 1 - float(np.var(less)) / float(np.var(values))
        values, is_share = less, False
    effect = float(metric.least_effect or 0) * (1 if metric.better == "higher" else -1)
    base = float(np.quantile(values, metric.quantile)) if metric.quantile is not None else float(values.mean())
    alike = float((values == base).mean())
    if metric.quantile is not None and alike > MOST_ALIKE:
        raise PipelineError(
            f"metrics.{name}.quantile = {metric.quantile:g}: {alike:.0%} of the units have just that value, {base:g}: it moves in steps, "
            "for which no effect can be planned: compare the mean"
        )
    if is_share and not 0 <= base + effect <= 1:
        raise PipelineError(f"metrics.{name}.least_effect = {abs(effect):g}: {base:.4g} and that is no share: give a smaller one")
    spread = float(values.std())
    draw = _Draw(values, base, effect, is_share=is_share)
    alpha = experiment.alpha / (len(experiment.goals) * (len(experiment.arms) - 1))
    shares = list(experiment.shares.values())[:2]
    part = shares[0] / sum(shares)
    fixed = _fixed(metric, values, effect, part, alpha, experiment.power)
    tried = int(min(max(LONGEST * fixed, 4 * experiment.least_units / min(part, 1 - part)), MOST_UNITS))
    tests = int(max(50, min(TESTS, MOST_DRAWS // (4 * tried))))
    looks = np.unique(np.geomspace(2 * experiment.least_units / min(part, 1 - part), tried, LOOKS).round().astype(np.int64))
    random = np.random.default_rng(seed)
    found = np.array([_first(draw, metric, looks, part, alpha, experiment, random, has_effect=True) for _ in range(tests)])
    false = np.array([_first(draw, metric, looks, part, alpha, experiment, random, has_effect=False) for _ in range(tests)])
    needed = float(np.quantile(found, experiment.power, method="inverted_cdf"))
    enough = int(needed) if np.isfinite(needed) else None
    whole = sum(experiment.shares.values()) / sum(shares)  # the other arms get units, too
    alarms = binomtest(int(np.isfinite(false).sum()), tests).proportion_ci(method="wilson")
    return SamplePlan(
        name, base, spread, effect, ceil(fixed * whole), None if enough is None else ceil(enough * whole), ceil(tried * whole), tests,
        float((found <= (enough or tried)).mean()), float(np.isfinite(false).mean()), float(alarms.low), float(alarms.high),
        None if per_day is None or enough is None else enough * whole / per_day, narrowed,
    )  # fmt: skip


@dataclass(frozen=True)
class _Draw:
    """Units drawn with replacement from those that there are; with the effect, if asked for."""

    values: Floats
    base: float
    effect: float
    is_share: bool

    def __call__(self, count: int, random: np.random.Generator, *, has_effect: bool) -> Floats:
        effect = self.effect if has_effect else 0.0
        if self.is_share:
            return (random.random(count) < self.base + effect).astype(np.float64)
        return self.values[random.integers(0, len(self.values), count)] + effect


def _fixed(metric: Metric, values: Floats, effect: float, part: float, alpha: float, power: float) -> int:
    """Both arms' units for one look at a fixed size: (z(1 − α/2) + z(power))² σ² (1/p + 1/(1 − p)) / effect²."""
    variance = float(values.var())
    if metric.quantile is not None:
        # The spread of a quantile is √(q(1 − q)) over the density there, seen as a difference over a twentieth of the rows.
        share = metric.quantile
        near = np.quantile(values, [max(share - 0.025, 0), min(share + 0.025, 1)])
        variance = share * (1 - share) * float((near[1] - near[0]) / 0.05) ** 2 or variance
    z = float(norm.ppf(1 - alpha / 2) + norm.ppf(power))
    return int(np.ceil(z * z * variance * (1 / part + 1 / (1 - part)) / effect**2))


def _first(
    draw: _Draw,
    metric: Metric,
    looks: npt.NDArray[np.int64],
    part: float,
    alpha: float,
    experiment: Experiment,
    random: np.random.Generator,
    *,
    has_effect: bool,
) -> float:
    """After how many units a test says that there is a difference; infinity if it never does."""
    to_control = np.round(looks * part).astype(np.int64)
    to_treatment = looks - to_control
    control = draw(int(to_control[-1]), random, has_effect=False)
    treatment = draw(int(to_treatment[-1]), random, has_effect=has_effect)
    if metric.quantile is None:
        rho2 = best_at(experiment.expected_units, alpha)
        sides = moments(control, to_control, is_share=draw.is_share), moments(treatment, to_treatment, is_share=draw.is_share)
        interval: Interval = difference_of_means(*sides, rho2, alpha, experiment.least_units)
    else:
        interval = difference_of_quantiles(
            quantile_bounds(control, to_control, metric.quantile, alpha / 2),
            quantile_bounds(treatment, to_treatment, metric.quantile, alpha / 2),
        )
    said = (interval.low > 0) | (interval.high < 0)
    return float(looks[int(np.argmax(said))]) if said.any() else float("inf")
