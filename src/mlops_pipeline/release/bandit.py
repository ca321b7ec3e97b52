"""Shares that follow what is earned: Thompson sampling between champion and challenger, in batches of units.

Units whose arm is drawn at once get shares that are the probability of being better, which is Thompson's rule (1933) for a batch. Both
arms' means are taken over the same mixture of batches, however many units of each an arm had: else an arm that got most of its units in a
good hour would seem good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_pipeline.config.release import BANDIT, Bandit, Policy
from mlops_pipeline.experiments.sequences import (
    TOGETHER,
    Floats,
    best_at,
    difference_of_means,
    of_same_mixture,
    p_of_changing_shares,
    p_of_means,
    together,
)
from mlops_pipeline.release.evidence import ARMS, CHAMPION, Observations, part_of_alpha
from mlops_pipeline.release.policy import Evidence, Learned
from mlops_pipeline.release.reward import ANSWERED, earned_by
from mlops_pipeline.release.table import Transition, with_ends

DRAWS = 4_000
GROWS = 50
"""Shares change after a part of all units at the least, so that there are some hundred changes of millions of units, not some thousand."""
SURELY, MATTERS = 4.5, 0.05
"""Standard errors, and the difference of shares, from which arms differ in whose reward is known."""
LEAST_SPREAD = 1e-4
"""Of what a share's variance would be: rewards that are all alike so far are no certainty."""


class Batch(NamedTuple):
    """A time in which shares did not change."""

    since: float
    until: float
    weight: float


class Earnings(NamedTuple):
    """Units, each with the batch in which it came first, its arm (1: the challenger's) and its mean reward (NaN: not known yet)."""

    batch: npt.NDArray[np.int64]
    arm: npt.NDArray[np.int64]
    reward: Floats


def with_learned(
    evidence: Evidence, policy: Policy, release: int, transitions: Sequence[Transition], answers: Observations, *, divides: bool
) -> Evidence:
    """The evidence of a bandit's step, with what each arm earned in it. With ``divides`` shares are held against the table's."""
    if policy.bandit is None or policy.reward is None:
        return evidence
    batches = batches_of(transitions)
    reward, beyond = earned_by(policy.reward, answers)
    earnings = earnings_of(answers, reward, batches)
    counts = (int((earnings.arm == 0).sum()), int((earnings.arm == 1).sum()))
    part = part_of_alpha(answers.thinned)
    known = learned(policy.bandit.model_copy(update={"alpha": policy.bandit.alpha * part}), release, earnings, len(batches), beyond)
    p = p_of_split(earnings, batches) if divides else None
    return msgspec.structs.replace(
        evidence,
        # Every p-value is over its part of alpha, so that it may be held against the whole.
        learned=msgspec.structs.replace(
            known,
            p=min(1.0, known.p / part),
            fresh=known.fresh << answers.halved_units,
            wanted=max(policy.bandit.batch_units, (sum(known.units) << answers.halved_units) // GROWS),
        ),
        counts=counts,
        p_of_split=None if p is None else min(1.0, p / part),
    )


def batches_of(transitions: Sequence[Transition]) -> list[Batch]:
    """The batches of a release so far."""
    starts: list[Transition] = []
    for each in transitions:
        if each.step == BANDIT and (not starts or each.weight != starts[-1].weight):
            starts.append(each)
    return [Batch(each.made, end, each.weight) for each, end in with_ends(starts)]


def earnings_of(answers: Observations, reward: Floats, batches: Sequence[Batch]) -> Earnings:
    """Each unit once, by its first answer; what it earned on the other arm, after shares had changed, is left out.

    A request that the champion answered for a challenger that failed is the challenger's: that is whom it was given to.
    """
    since, until = (np.array(ends) for ends in zip(*((batch.since, batch.until) for batch in batches), strict=True))
    made = np.searchsorted(since, answers.time, "right") - 1
    settled = (made >= 0) & (answers.time >= since[made] + answers.settle_s) & (answers.time < until[made])
    there = settled & (answers.unit >= 0) & np.isin(answers.arm, ANSWERED)
    arm, batch_of, reward = (answers.arm[there] != ARMS.index(CHAMPION)).astype(np.int64), made[there], reward[there]
    order = np.argsort(answers.time[there], kind="stable")
    _, first, unit = np.unique(answers.unit[there][order], return_index=True, return_inverse=True)
    arm, batch_of, reward = arm[order], batch_of[order], reward[order]
    counts = np.isfinite(reward) & (arm == arm[first][unit])
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = np.bincount(unit[counts], reward[counts], len(first))
        means: Floats = sums / np.bincount(unit[counts], minlength=len(first))
    return Earnings(batch_of[first], arm[first], means)


def p_of_split(earnings: Earnings, batches: Sequence[Batch]) -> float | None:
    """Of «in each batch the arms got their shares of the units that were new», valid at every look; None before any came."""
    if not len(earnings.arm):
        return None
    counts = np.array([np.bincount(earnings.batch[earnings.arm == arm], minlength=len(batches)) for arm in (0, 1)]).T.tolist()
    return p_of_changing_shares(counts, [(1 - batch.weight, batch.weight) for batch in batches])


def learned(bandit: Bandit, release: int, earnings: Earnings, batches: int, beyond: int = 0) -> Learned:
    """What the units of so many batches say, and the share that follows from it."""
    known = np.isfinite(earnings.reward)
    unlike = _unlike(earnings, known, batches)
    batch, arm, reward = earnings.batch[known], earnings.arm[known], earnings.reward[known]
    units = (int((arm == 0).sum()), int((arm == 1).sum()))
    seed = (bandit.seed, release, batches)
    fresh = int((batch == batches - 1).sum())
    if not min(units):
        return Learned(units, None, None, None, None, 0.5, 1.0, bandit.start, fresh, batches, seed, beyond, unlike)
    group = together(batch, arm)
    groups = int(group.max()) + 1
    counts, sums = (
        np.array([np.bincount(group[arm == side], values[arm == side], groups) for side in (0, 1)])
        for values in (np.ones(len(reward)), reward)
    )
    share = counts.sum(axis=0) / counts.sum()
    usual = (sums.sum(axis=0) + 0.5) / (counts.sum(axis=0) + 1)
    scale = 1.0
    if not np.isin(reward, [0.0, 1.0]).all():  # numbers vary less than yes and no of the same mean
        whole = float(usual @ share * (1 - usual @ share))
        scale = max(1.0, whole / max(float(reward.var()), LEAST_SPREAD * whole))
    mean, variance = _posterior(counts, sums, usual, share, scale)
    rng = np.random.default_rng(seed)
    better = _better(rng, mean, variance)
    weight = round(float(np.clip(better, bandit.floor, 1 - bandit.floor)), 3)
    sides = of_same_mixture(reward, arm, group, is_share=bool(np.isin(reward, [0.0, 1.0]).all()))
    rho2 = best_at(bandit.expected_units, bandit.alpha)
    interval = difference_of_means(sides[0], sides[1], rho2, bandit.alpha, TOGETHER)
    gain, low, high = (None if np.isnan(end[0]) else float(end[0]) for end in interval)
    p = float(p_of_means(sides[0], sides[1], rho2, TOGETHER)[0])
    means = (float(sides[0].mean[0]), float(sides[1].mean[0]))
    return Learned(units, means, gain, low, high, better, p, weight, fresh, batches, seed, beyond, unlike)


def _unlike(earnings: Earnings, known: npt.NDArray[np.bool_], batches: int) -> tuple[float, float] | None:
    """The shares of units with a reward by arm, over the same batches, if they differ surely (Mantel and Haenszel's test) and by much."""
    mine, both = earnings.arm == 1, np.bincount(earnings.batch, minlength=batches)
    of_mine, there, seen = (np.bincount(earnings.batch[chosen], minlength=batches) for chosen in (mine, known, mine & known))
    fit = (of_mine > 0) & (of_mine < both) & (both > 1)
    count, of_mine, there, seen = both[fit], of_mine[fit], there[fit], seen[fit]
    spread = float((of_mine * (count - of_mine) * there * (count - there) / (count**2 * (count - 1.0))).sum())
    if not spread or abs(float((seen - of_mine * there / count).sum())) < SURELY * np.sqrt(spread):
        return None
    share = count / count.sum()
    shares = float(((there - seen) / (count - of_mine)) @ share), float((seen / of_mine) @ share)
    return shares if abs(shares[0] - shares[1]) > MATTERS else None


def _posterior(counts: Floats, sums: Floats, usual: Floats, share: Floats, scale: float) -> tuple[Floats, Floats]:
    """Mean and variance of what each arm earns: Betas of each group, of a prior that is worth one unit of both arms' mean there."""
    won, lost = scale * (sums + usual), scale * (counts - sums + 1 - usual)
    mean = won / (won + lost)
    variance = mean * (1 - mean) / (won + lost + 1)
    return mean @ share, variance @ share**2


def _better(rng: np.random.Generator, mean: Floats, variance: Floats) -> float:
    """The probability that the challenger's mean is higher. Near 1 what is lost is drawn: it is not rounded. Ties are half won."""
    loses = bool(mean.mean() > 0.5)
    one, other = (_drawn(rng, 1 - mean[side] if loses else mean[side], variance[side]) for side in (0, 1))
    return float((other < one if loses else other > one).mean() + (other == one).mean() / 2)


def _drawn(rng: np.random.Generator, mean: float, variance: float) -> Floats:
    """From the Beta of that mean and variance."""
    total = mean * (1 - mean) / variance - 1
    made: Floats = rng.beta(mean * total, (1 - mean) * total, DRAWS)
    return made
