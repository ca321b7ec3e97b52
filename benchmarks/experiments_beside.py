"""What online tests say beside GrowthBook's engine and tea-tasting: estimates, widths, CUPED and planned sizes of the same units.

    python -m benchmarks.experiments_beside --growthbook /tmp/gb/bin/python --tea-tasting /tmp/tt/bin/python

Either needs bounds that do not agree with ours, so each is in an environment of its own (`gbstats==0.8.0`; `tea-tasting==1.14.0 polars`).
GrowthBook's sequential interval is the same sequence; tea-tasting looks once, so that estimate, standard error and size are compared.
Ours takes no arm for steadier than both together: where arms vary unlike, it is wider.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_pipeline.config.experiment import Experiment
from mlops_pipeline.experiments.judging import judged
from mlops_pipeline.experiments.planning import planned
from mlops_pipeline.experiments.sequences import adjusted
from mlops_pipeline.experiments.units import Units, read_units

COUNT, EXPECTED, EFFECT, POWER = 12_000, 10_000, 0.5, 0.8
MOST_APART = {"estimate": 1e-6, "standard error": 2e-3, "low": 3e-3, "high": 3e-3, "units at one look": 5e-3}
"""Relative to the interval's width, or to the size."""

GROWTHBOOK = """
import json, sys
import numpy as np, pandas as pd
from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
from gbstats.models.statistics import ProportionStatistic, RegressionAdjustedStatistic, SampleMeanStatistic, compute_theta
table, expected = pd.read_csv(sys.argv[1]), int(sys.argv[2])
def mean(values):
    return SampleMeanStatistic(n=len(values), sum=float(values.sum()), sum_squares=float((values ** 2).sum()))
def of(part, name):
    if name == "bought":
        return ProportionStatistic(n=len(part), sum=int(part.bought.sum()))
    if name == "spend":
        return mean(part.spend)
    return RegressionAdjustedStatistic(n=len(part), post_statistic=mean(part.spend), pre_statistic=mean(part.before),
                                       post_pre_sum_of_products=float((part.spend * part.before).sum()), theta=0.0)
found = {}
for name in ("bought", "spend", "adjusted"):
    sides = [of(table[table.arm == arm], name) for arm in ("A", "B")]
    if name == "adjusted":
        theta = compute_theta(*sides)
        for side in sides:
            side.theta = theta
    test = SequentialTwoSidedTTest(*sides, SequentialConfig(difference_type="absolute", alpha=0.05, sequential_tuning_parameter=expected))
    low, high = test.confidence_interval
    found[name] = {"estimate": float(test.point_estimate), "low": float(low), "high": float(high)}
print(json.dumps(found))
"""
TEA_TASTING = """
import json, sys
import polars as pl, tea_tasting as tt
table = pl.read_csv(sys.argv[1])
effect, power = map(float, sys.argv[2:])
metrics = {"bought": tt.Mean("bought", use_t=False), "spend": tt.Mean("spend", use_t=False),
           "adjusted": tt.Mean("spend", "before", use_t=False)}
done = tt.Experiment(metrics, variant="arm").analyze(table, control="A")
z = 1.959963984540054
found = {name: {"estimate": float(done[name].effect_size),
                "standard error": float((done[name].effect_size_ci_upper - done[name].effect_size_ci_lower) / 2 / z)} for name in metrics}
asked = tt.Mean("spend", use_t=False, effect_size=effect, power=power, equal_var=True)
planned = asked.solve_power(table.filter(pl.col("arm") == "A"), "n_obs")
found["spend"]["units at one look"] = float(planned[0].n_obs)
print(json.dumps(found))
"""


def table_of(seed: int) -> pl.DataFrame:
    """Units of two arms: whether each bought, what it spent, and had spent before."""
    random = np.random.default_rng(seed)
    arm = random.random(COUNT) < 0.5
    before = random.gamma(2, 10, COUNT)
    return pl.DataFrame(
        {
            "arm": np.where(arm, "B", "A"),
            "bought": (random.random(COUNT) < 0.1 + 0.01 * arm).astype(int),
            "spend": 0.8 * before + random.gamma(2, 6, COUNT) + EFFECT * arm,
            "before": before,
        }
    )


def experiment() -> Experiment:
    """The settings of that table."""
    metrics = {
        "bought": {"column": "bought", "role": "guardrail", "better": "higher", "no_worse_by": 1.0},
        "spend": {"column": "spend", "least_effect": EFFECT},
        "adjusted": {"column": "spend", "before": "before", "role": "guardrail", "better": "higher", "no_worse_by": 100.0},
    }
    given = {"arms": {"A": 0.5, "B": 0.5}, "arm": "arm", "metrics": metrics, "expected_units": EXPECTED, "power": POWER}
    return Experiment.model_validate(given)


def ours(units: Units) -> dict[str, dict[str, float]]:
    """Our figures of some units."""
    made: dict[str, dict[str, float]] = {}
    for each in judged(experiment(), units).comparisons:
        values = units.values[each.metric]
        if each.metric in units.before:
            values = adjusted(values, units.before[each.metric])
        estimate, low, high = each.now
        spread = math.sqrt(sum(float(values[units.arm == side].var(ddof=1)) / int((units.arm == side).sum()) for side in (0, 1)))
        made[each.metric] = {"estimate": estimate, "low": low, "high": high, "standard error": spread}
    return made


def theirs(python: str, text: str, *words: str) -> dict[str, dict[str, float]]:
    """What a program of another environment prints."""
    done = subprocess.run([python, "-c", text, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print both sides' figures; exit status 1 if any are further apart than rounding and the estimate of a variance explain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--growthbook", required=True, help="a Python that has gbstats")
    parser.add_argument("--tea-tasting", required=True, help="a Python that has tea-tasting")
    asked, wrong = parser.parse_args(), False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "units.csv"
        table_of(7).write_csv(path)
        units = read_units(path, experiment(), "the benchmark")
        control = read_units(_control(path), experiment(), "the benchmark", arms=False)
        mine = ours(units)
        [plan] = [each for each in planned(experiment(), control, None) if each.metric == "spend"]
        mine["spend"]["units at one look"] = plan.fixed_units
        sides: dict[str, Any] = {
            "GrowthBook": theirs(asked.growthbook, GROWTHBOOK, str(path), str(EXPECTED)),
            "tea-tasting": theirs(asked.tea_tasting, TEA_TASTING, str(path), str(EFFECT), str(POWER)),
        }
    for whose, found in sides.items():
        for metric, figures in found.items():
            width = mine[metric]["high"] - mine[metric]["low"]
            for name, value in figures.items():
                own = mine[metric][name]
                apart = abs(own - value) / (value if name == "units at one look" else width)
                wrong = wrong or apart > MOST_APART[name]
                print(f"{whose:<12} {metric:<16} {name:<18} {own:>14.6f} ours {value:>14.6f} theirs, apart {apart:.1e}")
    raise SystemExit(wrong)


def _control(path: Path) -> Path:
    there = path.with_name("control.csv")
    pl.read_csv(path).filter(pl.col("arm") == "A").write_csv(there)
    return there


if __name__ == "__main__":
    main()
