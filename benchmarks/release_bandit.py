"""How bandits end and what they cost: equal challengers, better and worse ones, by simulation; their guardrails; off-policy intervals.

    python -m benchmarks.release_bandit [--times 150]

No server is asked: what is judged is what the record would hold, looked at once a batch, at most 50 batches of 200 units.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from mlops_pipeline.config.release import BANDIT, Bandit, Policy, Reward, Step
from mlops_pipeline.release.bandit import Earnings, learned
from mlops_pipeline.release.evidence import SETTLE_S, Answers, evidence_of
from mlops_pipeline.release.offpolicy import Logged, earned
from mlops_pipeline.release.policy import Evidence, Standing, decide

POLICY = Policy(bandit=Bandit(), reward=Reward())
SETTINGS, BATCHES = Bandit(), 50
CASES = {
    "equal, 20 % yes": (0.2, 0.2, 0.0),
    "equal, 2 % yes": (0.02, 0.02, 0.0),
    "equal, 30 % yes, up and down by 20 points": (0.3, 0.3, 0.2),
    "better, 25 % against 20 %": (0.2, 0.25, 0.0),
    "worse, 15 % against 20 %": (0.2, 0.15, 0.0),
    "better, 35 % against 30 %, up and down by 20 points": (0.3, 0.35, 0.2),
}


def ended(seed: int, champion: float, challenger: float, swing: float) -> tuple[str, int, float]:
    """How one ended, after how many batches, and the part of units that the worse arm (of equal ones: the champion) had."""
    rng = np.random.default_rng(seed)
    weight, parts = SETTINGS.start, list[Earnings]()
    for batch in range(BATCHES):
        arm = (rng.random(SETTINGS.batch_units) < weight).astype(np.int64)
        chance = np.where(arm == 1, challenger, champion) + swing * np.sin(batch / 3)
        parts.append(Earnings(np.full(len(arm), batch), arm, (rng.random(len(arm)) < chance).astype(float)))
        units = Earnings(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        known = learned(SETTINGS, seed, units, batch + 1)
        made = decide(POLICY, Standing(BANDIT, "running", 0.0, weight=weight), Evidence(learned=known), 60.0)
        if made.move in ("promote", "abort"):
            break
        weight = made.step.weight if made.step is not None else weight
    worse = int(challenger < champion)
    return made.move if made.move in ("promote", "abort") else "undecided", batch + 1, float((units.arm == worse).mean())


GUARDED = {
    "equal": (0.3, 0.0, 0.0),
    "equal, up and down by 20 points": (0.3, 0.2, 0.0),
    "says 1.4 times the truth from unit 20,000 on": (0.2, 0.0, 1.4),
}
PER_BATCH, GUARDED_BATCHES, TURNS = 1_000, 30, 20


def guarded(seed: int, chance: float, swing: float, turned: float) -> tuple[int, int]:
    """After how many units a challenger at changing shares is thrown out, by all guardrails and by those of the whole time alone; −1: not.

    Shares go up and down with the hours, as where a challenger seems better in good ones.
    """
    rng, count = np.random.default_rng(seed), PER_BATCH * GUARDED_BATCHES
    batch = np.arange(count) // PER_BATCH
    hour = np.sin(batch / 3)
    weights = 0.5 + 0.4 * np.sin(np.arange(GUARDED_BATCHES) / 3)
    mine = rng.random(count) < weights[batch]
    truly = np.clip(chance + swing * hour, 0.01, 0.99) * rng.lognormal(-0.02, 0.2, count).clip(0.5, 1.5)
    says = np.clip(np.where(mine & (batch >= TURNS) & (turned > 0), turned * truly, truly), 0, 1)
    names = np.array([f"r{place}" for place in range(count)], dtype=object)
    time = 10.0 + np.arange(count) * 0.1
    every = Answers(
        time, names, np.zeros(count, dtype=int), names, np.where(mine, "challenger", "champion"), np.zeros(count, dtype=bool),
        rng.gamma(4, 0.5, count), np.column_stack([1 - says, says]), (rng.random(count) < truly).astype(float), {},
    )  # fmt: skip
    first, of_all = -1, -1
    for seen in range(1, GUARDED_BATCHES + 1):
        made = every.of(batch < seen)
        step = Step(weight=float(weights[seen - 1]), least_rows=0)
        batches = [float(time[place * PER_BATCH]) - SETTLE_S for place in range(seen)]
        broken = evidence_of(POLICY, step, 0.0, made, splits_evenly=False, batches=batches).broken
        first = seen if broken and first < 0 else first
        of_all = seen if any(not each.window for each in broken) and of_all < 0 else of_all
        if min(first, of_all) > 0:
            break
    return first * PER_BATCH, of_all * PER_BATCH


def when(found: list[int]) -> str:
    there = sorted(each for each in found if each > 0)
    return f"{len(there)} of {len(found)}" + (f", half of them by unit {there[len(there) // 2]:,}" if there else "")


def covered(times: int) -> None:
    """How often the truth lies in an interval at 0.05, of logs of 2,000 rows of which a tenth was decided by the other version."""
    inside, widths = Counter[str](), Counter[str]()
    for seed in range(times):
        rng = np.random.default_rng(seed)
        context = rng.random(200_000 if seed == 0 else 2_000)
        first, second = (context > 0.5).astype(int), (context > 0.3).astype(int)
        taken = np.where(rng.random(len(context)) < 0.1, second, first)
        probability = [0.9 * (each == first) + 0.1 * (each == second) for each in (taken, second)]
        chances = 0.15 + 0.5 * context * (second == 1) + 0.3 * (1 - context) * (second == 0)
        if seed == 0:
            truth = float(chances.mean())
            continue
        of_taken = 0.15 + 0.5 * context * (taken == 1) + 0.3 * (1 - context) * (taken == 0)
        reward = (rng.random(len(context)) < of_taken).astype(float)
        rows = Logged(np.arange(len(context)), taken, second, probability[0], probability[1], reward, context, np.zeros(len(context)))
        for each in earned("decision", rows, 50, 0.05).estimates:
            inside[each.name] += each.low <= truth <= each.high
            widths[each.name] += each.high - each.low
    for name, count in inside.items():
        print(f"{name:<55} {count / (times - 1):.1%} of intervals hold the truth, {widths[name] / (times - 1):.3f} wide")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=150)
    times = parser.parse_args().times
    for title, case in CASES.items():
        ends = [ended(seed, *case) for seed in range(times)]
        moves = Counter(each[0] for each in ends)
        told = ", ".join(f"{move} {moves[move]}" for move in ("promote", "abort", "undecided"))
        batches, worse = (float(np.mean([each[place] for each in ends])) for place in (1, 2))
        print(f"{title:<55} {told}; {batches:.0f} batches; the worse arm had {worse:.0%} of the units")
    for title, guards in GUARDED.items():
        found = [guarded(seed, *guards) for seed in range(times // 5)]
        print(f"{title:<55} thrown out: {when([each[0] for each in found])}; by the whole time alone: {when([each[1] for each in found])}")
    covered(2 * times)


if __name__ == "__main__":
    main()
