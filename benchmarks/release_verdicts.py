"""How often releases are thrown out: of challengers that are as good as the champion, and of ones that are worse, by simulation.

    python -m benchmarks.release_verdicts [--releases 200]

Each release is of the usual policy and is looked at eight times, in the shadow or at 50 %. No server is asked: what is judged is what the
record would hold.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from mlops_pipeline.config.release import Policy, Step
from mlops_pipeline.release.evidence import Answers, evidence_of

POLICY, SHADOW, HALF = Policy(), Step(shadow=1.0), Step(weight=0.5)
LOOKS = (60, 100, 200, 400, 800, 1200, 1600, 2000)


class Case(NamedTuple):
    """A kind of release: the chance of a yes, what either says of it (times the true chance), and who asks."""

    title: str
    is_equal: bool
    """Whether both say the same; else only `quality` counts, since `drift` is to find what says otherwise, were it better."""
    chance: float = 0.2
    says: tuple[float, float] = (1.0, 1.0)
    step: Step = SHADOW
    clients: int = 0
    """That stick to an arm, of unlike size and chance; 0: every request is its own."""
    refuses: bool = False
    """Whether one client's requests are all refused."""


CASES = (
    Case("equal, 20 % yes, shadow", True),
    Case("equal, 1 % yes, shadow", True, 0.01),
    Case("better, 1 % yes, shadow: the champion says half of the truth", False, 0.01, (0.5, 1.0)),
    Case("better, 0.5 % yes, shadow: the champion says 0.7 of the truth", False, 0.005, (0.7, 1.0)),
    Case("equal, 20 % yes, 50 %", True, step=HALF),
    Case("equal, 1 % yes, 50 %", True, 0.01, step=HALF),
    Case("equal, 40 clients that stick, 50 %", True, step=HALF, clients=40),
    Case("equal, 40 clients, one of them refused, 50 %", True, step=HALF, clients=40, refuses=True),
    Case("equal, 400 clients that stick, 50 %", True, step=HALF, clients=400),
    Case("equal, 400 clients, one of them refused, 50 %", True, step=HALF, clients=400, refuses=True),
    Case("worse, 20 % yes, shadow: says twice the truth", False, says=(1.0, 2.0)),
    Case("worse, 1 % yes, shadow: says 8 times the truth", False, 0.01, (1.0, 8.0)),
    Case("worse, 20 % yes, 50 %: says three times the truth", False, says=(1.0, 3.0), step=HALF),
    Case("worse, 400 clients that stick, 50 %: says three times the truth", False, says=(1.0, 3.0), step=HALF, clients=400),
    Case("worse, 40 clients that stick, shadow: says twice the truth", False, says=(1.0, 2.0), clients=40),
)


def answers(case: Case, seed: int) -> Answers:
    """Everything that a release of a kind puts on record."""
    rng, count = np.random.default_rng(seed), LOOKS[-1]
    who = np.array([f"r{place}" for place in range(count)], dtype=object)
    unit, chance = who, case.chance * rng.lognormal(-0.125, 0.5, count)
    refused = np.zeros(count, dtype=bool)
    share = rng.random(count)
    if case.clients:
        size = rng.lognormal(0, 1, case.clients)
        client = rng.choice(case.clients, count, p=size / size.sum())
        unit, share = client.astype(str).astype(object), rng.random(case.clients)[client]
        chance = (case.chance * rng.lognormal(-0.125, 0.5, case.clients))[client]
        refused = (client == client[0]) & case.refuses
    chance = np.clip(chance, 0, 1)
    truth = (rng.random(count) < chance).astype(float)
    mine = share < case.step.weight

    def side(arm: Any, times: Any) -> Answers:
        said = np.clip(chance * times, 0, 1)
        time, latency = 10.0 + np.arange(count) * 0.01, rng.gamma(4, 0.5, count)
        scores = np.column_stack([1 - said, said])
        return Answers(time, who, np.zeros(count, dtype=int), unit, np.broadcast_to(arm, count), refused, latency, scores, truth, {})

    before, after = case.says
    if case.step.weight:
        return side(np.where(mine, "challenger", "champion"), np.where(mine, after, before))
    both = [side("champion", before), side("shadow", after)]
    order = np.argsort(np.tile(np.arange(count), 2), kind="stable")
    return Answers(*(np.concatenate(columns)[order] for columns in zip(*(one[:-1] for one in both), strict=True)), {})


def thrown(case: Case, seed: int) -> tuple[int, str] | None:
    """After how many requests a release is thrown out, and by which guardrail; None if it is not."""
    every, each = answers(case, seed), 2 if case.step.shadow else 1
    for seen in LOOKS:
        made = every.of(np.arange(len(every.time)) < seen * each)
        evidence = evidence_of(POLICY, case.step, 0.0, made, splits_evenly=True)
        broken = [each.guardrail for each in evidence.broken if case.is_equal or each.guardrail == "quality"]
        if broken:
            return seen, broken[0]
        if (evidence.p_of_split or 1.0) < POLICY.srm_alpha:
            return seen, "shares"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=200)
    releases = parser.parse_args().releases
    for case in CASES:
        found = [each for seed in range(releases) if (each := thrown(case, seed)) is not None]
        when = f", half of them by request {sorted(seen for seen, _ in found)[len(found) // 2]:,}" if found else ""
        by = ", ".join(f"{name} {count}" for name, count in Counter(name for _, name in found).most_common())
        print(f"{case.title:<75} {len(found):>4} of {releases}{when}{f' ({by})' if by else ''}", flush=True)


if __name__ == "__main__":
    main()
