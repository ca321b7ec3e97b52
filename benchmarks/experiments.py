"""The promises of online tests, measured: false alarms of 2,000 peeked A/A tests, coverage over the whole time, power at the planned size.

python -m benchmarks.experiments [--tests 2000]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from mlops_pipeline.config.experiment import Experiment
from mlops_pipeline.experiments.planning import planned
from mlops_pipeline.experiments.sequences import best_at, difference_of_means, moments, p_of_shares
from mlops_pipeline.experiments.units import Units

ALPHA, UNITS, PEEKS = 0.05, 20_000, 200
Floats = npt.NDArray[np.float64]
DRAWS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "share of 20 %": lambda random, count: (random.random(count) < 0.2).astype(float),
    "share of 2 %": lambda random, count: (random.random(count) < 0.02).astype(float),
    "normal": lambda random, count: random.normal(size=count),
    "lognormal, heavy": lambda random, count: random.lognormal(0, 1.5, count),
}


def main() -> None:
    """Print a table for each promise."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tests", type=int, default=2000)
    tests = options.parse_args().tests
    looks = np.unique(np.geomspace(100, UNITS // 2, PEEKS).astype(np.int64))
    rho2 = best_at(10_000, ALPHA)
    z = float(norm.ppf(1 - ALPHA / 2))
    print(f"{tests:,} tests without a difference, {UNITS:,} units, looked at {len(looks)} times; asked for: at most {ALPHA:.0%}\n")
    print(f"{'units are':<20}{'these intervals':>28}{'a z test':>12}")
    for name, draw in DRAWS.items():
        random = np.random.default_rng(11)
        alarms = plain = 0
        for _ in range(tests):
            sides = [moments(draw(random, UNITS // 2), looks, is_share="share" in name) for _ in range(2)]
            made = difference_of_means(sides[0], sides[1], rho2, ALPHA, 100)
            alarms += bool(((made.low > 0) | (made.high < 0)).any())
            spread = np.sqrt(sum(side.variance / side.units for side in sides))
            plain += bool((np.abs(sides[1].mean - sides[0].mean) > z * spread).any())
        print(f"{name:<20}{share(alarms, tests):>28}{plain / tests:>12.1%}")
    for part, rate in ((0.01, 0.01), (0.05, 0.01), (0.1, 0.005)):
        random = np.random.default_rng(14)
        alarms = 0
        for _ in range(tests):
            second = random.random(UNITS) < part
            seen = np.cumsum(second)[looks * 2 - 1]
            values = (random.random(UNITS) < rate).astype(float)
            arms = [moments(values[~second], looks * 2 - seen, is_share=True), moments(values[second], seen, is_share=True)]
            made = difference_of_means(arms[0], arms[1], rho2, ALPHA, 100)
            alarms += bool(((made.low > 0) | (made.high < 0)).any())
        print(f"{f'{rate:.1%} in {part:.0%} of all':<20}{share(alarms, tests):>28}")
    random = np.random.default_rng(12)
    alarms = 0
    for _ in range(tests):
        first = np.cumsum(random.random(UNITS) < 0.5)[looks * 2 - 1].astype(float)
        alarms += bool(p_of_shares([first, looks * 2 - first], [0.5, 0.5])[-1] < ALPHA)
    print(f"{'shares of the arms':<20}{share(alarms, tests):>28}")

    print("\npower at the planned size, and whether the truth was inside at every look until then")
    test = Experiment.model_validate(
        {"arms": {"A": 1, "B": 1}, "metrics": {"goal": {"column": "goal", "least_effect": 0.02}}, "expected_units": 20_000}
    )
    random = np.random.default_rng(13)
    seen = (random.random(20_000) < 0.1).astype(float)
    plan = planned(test, Units(np.zeros(len(seen), np.int64), {"goal": seen}, {}, {}, None, frozenset({"goal"})), None)[0]
    if plan.units is None:
        print(f"more than {plan.tried_units:,} units are needed")
        return
    found = missed = 0
    looks = np.unique(np.geomspace(100, plan.units // 2, PEEKS).astype(np.int64))
    rho2 = best_at(test.expected_units, test.alpha)
    for _ in range(tests):
        control, treatment = (random.random(plan.units // 2) < rate for rate in (plan.base, plan.base + plan.effect))
        sides = [moments(side.astype(float), looks, is_share=True) for side in (control, treatment)]
        made = difference_of_means(sides[0], sides[1], rho2, test.alpha, 100)
        found += bool((made.low > 0).any())
        missed += bool(((made.low > plan.effect) | (made.high < plan.effect)).any())
    print(f"share of 10 % and 2 points more: {plan.units:,} units planned for {test.power:.0%} ({plan.fixed_units:,} for one look)")
    print(f"found            {share(found, tests)}")
    print(f"truth left out   {share(missed, tests)}")


def share(hits: int, of: int) -> str:
    """A share with its 95 % interval."""
    found = binomtest(hits, of).proportion_ci(method="wilson")
    return f"{hits / of:.1%} ({math.floor(1000 * found.low) / 10:.1f} to {math.ceil(1000 * found.high) / 10:.1f} %)"


if __name__ == "__main__":
    main()
