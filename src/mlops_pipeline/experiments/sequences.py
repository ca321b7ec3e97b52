"""Statistics that hold at every look: confidence sequences of differences, and a sequential test of the arms' shares.

Sources: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, «Time-uniform central limit theory and asymptotic confidence sequences» (2021),
Theorem 2.2; Howard and Ramdas, «Sequential estimation of quantiles with applications to A/B testing and best-arm identification»
(Bernoulli 28, 2022), Theorem 1; Waudby-Smith and Ramdas, «Estimating means of bounded random variables by betting» (JRSS B 86, 2024);
Lindon and Malek, «Anytime-valid inference for multinomial count data» (NeurIPS 2022); Deng, Xu, Kohavi, Walker, «Improving the
sensitivity of online controlled experiments by utilizing pre-experiment data» (WSDM 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONCENTRATION = 1000.0
"""Of the prior about the arms' true shares: about how many units' worth of trust in the shares that were planned."""

BETS = 0.9 * 2.0 ** -np.arange(16)
"""Shares of the largest bet that mixtures of bets hold: small ones are right where means are near."""
BISECTIONS = 24
MANY, ORDER, LARGEST = 20_000, 20, 0.5
"""Of so many values bets are reckoned by sums of powers up to this one, where a bet on a value is at most so large."""


TOGETHER = 20
"""Batches with fewer units of an arm are taken together with the next."""


class Moments(NamedTuple):
    """An arm's number of units, their mean and their variance, one entry for each look."""

    units: Floats
    mean: Floats
    variance: Floats


class Interval(NamedTuple):
    """An estimate with both ends, one entry for each look; NaN where too few units had come."""

    estimate: Floats
    low: Floats
    high: Floats


def moments(values: Floats, looks: npt.NDArray[np.int64], *, is_share: bool = False) -> Moments:
    """Running moments of an arm's values in order of arrival, at looks that have seen so many of them.

    Of a share, whose values are 0 and 1, the variance is that of one more of each: an arm without an event is not one without chance.
    """
    count = looks.astype(np.float64)
    middle = float(values.mean()) if len(values) else 0.0
    off = values - middle  # far from zero, a sum of squares would lose all of its digits
    sums = np.concatenate([[0.0], np.cumsum(off)])[looks]
    squares = np.concatenate([[0.0], np.cumsum(off * off)])[looks]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / count
        variance = np.maximum(squares / count - mean * mean, 0.0) * count / (count - 1)
    if is_share:
        share = ((mean + middle) * count + 1) / (count + 2)
        variance = share * (1 - share)
    return Moments(count, mean + middle, variance)


def together(batch: npt.NDArray[np.int64], arm: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The group of each unit: batches in a row, until each arm has enough; what is left at the end belongs to the last."""
    batches = int(batch.max()) + 1
    counts = np.array([np.bincount(batch[arm == side], minlength=batches) for side in (0, 1)])
    of_batch, group, seen = np.zeros(batches, dtype=np.int64), 0, np.zeros(2)
    for place in range(batches):
        of_batch[place] = group
        seen += counts[:, place]
        if seen.min() >= TOGETHER:
            group, seen = group + 1, np.zeros(2)
    if group:
        of_batch[of_batch == group] = group - 1
    made: npt.NDArray[np.int64] = of_batch[batch]
    return made


def of_same_mixture(values: Floats, arm: npt.NDArray[np.int64], group: npt.NDArray[np.int64], *, is_share: bool) -> tuple[Moments, Moments]:
    """Moments of arms 0 and 1 over the same mixture of groups, each of which has units of both; one look, at all of them.

    Where shares change with time, plain means would say of an arm what is true of the hours in which it had most of its units.
    """
    groups = int(group.max()) + 1
    counts, sums = (
        np.array([np.bincount(group[arm == side], each[arm == side], groups) for side in (0, 1)]) for each in (np.ones(len(values)), values)
    )
    part = counts.sum(axis=0) / counts.sum()

    def side(place: int) -> Moments:
        count, own = counts[place].sum(), values[arm == place]
        share = (own.sum() + 1) / (count + 2)
        variance = share * (1 - share) if is_share else own.var() * count / max(count - 1, 1)
        return Moments(
            np.array([count]),
            np.array([(sums[place] / counts[place]) @ part]),
            np.array([count * variance * (part**2 / counts[place]).sum()]),
        )

    return side(0), side(1)


def best_at(units: float, alpha: float) -> float:
    """The mixture's ρ² for which the sequence is narrowest at so many units (appendix B of the paper, the closed approximation)."""
    return float((-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) / units)


def difference_of_means(control: Moments, treatment: Moments, rho2: float, alpha: float, least: int) -> Interval:
    """Treatment's mean less the control's, with its confidence sequence: with probability 1 − alpha it is true at all looks at once.

    Asymptotic: the variance is estimated, so nothing is said before each arm has ``least`` units.
    """
    count = control.units + treatment.units
    estimate = treatment.mean - control.mean
    spread = np.sqrt(_variance(control, treatment))  # of the estimate
    with np.errstate(divide="ignore", invalid="ignore"):
        width = spread * np.sqrt(2 * (count * rho2 + 1) / (count * rho2) * np.log(np.sqrt(count * rho2 + 1) / alpha))
    return _known(estimate, width, control, treatment, least)


def mean_of(values: Moments, rho2: float, alpha: float, least: int) -> Interval:
    """A mean, such as that of differences within pairs, with its confidence sequence; the same theorem, so asymptotic as well."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = values.units * rho2
        width = np.sqrt(values.variance / values.units * 2 * (scaled + 1) / scaled * np.log(np.sqrt(scaled + 1) / alpha))
    fit = (values.units >= least) & (values.variance > 0)
    return Interval(*(np.where(fit, ends, np.nan) for ends in (values.mean, values.mean - width, values.mean + width)))


def bounded_mean(values: Floats, below: float, above: float, alpha: float) -> Interval:
    """The mean of values from −``below`` to ``above``, seen so far, with a confidence sequence that asks nothing else of them.

    By betting: a mixture of bets of fixed sizes against each mean, so that what is rare and has not been seen yet is reckoned with. One
    entry, since only the last look is asked for; NaN without values, or where both bounds are zero.
    """
    if not len(values) or max(below, above) <= 0:
        return Interval(*np.full((3, 1), np.nan))
    mean, least = float(values.mean()), max(below, above) * 1e-6  # a side without any room would divide by zero
    low, high = -_bet_against(values, mean, max(below, least), alpha / 2), _bet_against(-values, -mean, max(above, least), alpha / 2)
    return Interval(np.array([mean]), np.array([low]), np.array([high]))


def _bet_against(values: Floats, mean: float, below: float, alpha: float) -> float:
    """How far the mean of values above −``below`` may lie below zero: less the least mean against which bets have not won."""
    scaled = values / below
    won = _won_by_sums(scaled) if len(scaled) > MANY else _won(scaled)
    low, high = -1.0, mean / below
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        # So much of what is owned is never lost whole, since no value is less than −1.
        sizes = np.asarray(BETS / (1 + middle), dtype=np.float64)
        if np.logaddexp.reduce(won(middle, sizes)) - np.log(len(BETS)) >= -np.log(alpha):
            low = middle
        else:
            high = middle
    return -low * below


_Won = Callable[[float, Floats], Floats]
"""The logarithm of what bets of some sizes against a mean have made."""


def _won(values: Floats) -> _Won:
    def won(mean: float, sizes: Floats) -> Floats:
        made: Floats = np.log1p(np.outer(sizes, values - mean)).sum(axis=1)
        return made

    return won


def _won_by_sums(values: Floats) -> _Won:
    """The same of many values by sums of their powers; bets too large for that count as lost, which says less, and nothing wrong."""
    middle, reach = values.mean(), np.abs(values).max()
    off = values - middle
    sums = [float((off**power).sum()) for power in range(ORDER + 1)]

    def won(mean: float, sizes: Floats) -> Floats:
        apart = middle - mean
        made = np.zeros(len(sizes))
        for power in range(1, ORDER + 1):
            of_mean = sum(comb(power, part) * sums[part] * apart ** (power - part) for part in range(power + 1))
            made -= (-sizes) ** power * of_mean / power
        return np.where(sizes * (reach + abs(mean)) <= LARGEST, made, -np.inf)

    return won


def p_of_means(control: Moments, treatment: Moments, rho2: float, least: int) -> Floats:
    """The p-value of «no difference» at each look, valid whenever one stops: the smallest alpha whose interval leaves zero out there."""
    count = control.units + treatment.units
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = (treatment.mean - control.mean) ** 2 / _variance(control, treatment)
        log_p = 0.5 * np.log(count * rho2 + 1) - squared * count * rho2 / (2 * (count * rho2 + 1))
    fit = (control.units >= least) & (treatment.units >= least) & np.isfinite(log_p)
    return np.exp(np.where(fit, np.minimum(log_p, 0.0), 0.0))


def _variance(control: Moments, treatment: Moments) -> Floats:
    """Of the difference. No arm counts as steadier than both together: a small one that has seen nothing rare yet only seems so."""
    with np.errstate(divide="ignore", invalid="ignore"):
        both = (control.units * control.variance + treatment.units * treatment.variance) / (control.units + treatment.units)
        made: Floats = np.maximum(control.variance, both) / control.units + np.maximum(treatment.variance, both) / treatment.units
    return made


def _known(estimate: Floats, width: Floats, control: Moments, treatment: Moments, least: int) -> Interval:
    """A variance of zero, of values that are all alike so far, is no sign of certainty: nothing is said of it either."""
    fit = (control.units >= least) & (treatment.units >= least) & (control.variance + treatment.variance > 0)
    return Interval(*(np.where(fit, values, np.nan) for values in (estimate, estimate - width, estimate + width)))


def quantile_bounds(values: Floats, looks: npt.NDArray[np.int64], share: float, alpha: float) -> Interval:
    """A quantile of an arm's values in order of arrival, with a confidence sequence that asks nothing of their distribution."""
    made = np.full((3, len(looks)), np.nan)
    for place, seen in enumerate(looks):
        if seen == 0:
            continue
        ordered = np.sort(values[:seen])
        log_term = (1.4 * np.log(np.log(2.1 * seen)) + np.log(10 / alpha)) / seen
        reach = 1.5 * np.sqrt(share * (1 - share) * log_term) + 0.8 * log_term
        low, high = share - reach, share + reach
        made[0, place] = ordered[max(int(np.ceil(seen * share)) - 1, 0)]
        made[1, place] = -np.inf if low <= 0 else ordered[max(int(np.ceil(seen * low)) - 1, 0)]
        made[2, place] = np.inf if high >= 1 else ordered[min(int(np.floor(seen * high)), seen - 1)]
    return Interval(*made)


def difference_of_quantiles(control: Interval, treatment: Interval) -> Interval:
    """Treatment's quantile less the control's, each arm's sequence at half of alpha."""
    return Interval(treatment.estimate - control.estimate, treatment.low - control.high, treatment.high - control.low)


def p_of_shares(counts: Sequence[Floats], shares: Sequence[float]) -> Floats:
    """The always-valid p-value of «the arms get these shares», at each look: counts of each arm, one entry for each look.

    A mixture of multinomials over a Dirichlet prior around the planned shares against the planned ones; by Ville's inequality one over
    its running maximum is a p-value at any time.
    """
    made: Floats = np.exp(-np.maximum(np.maximum.accumulate(_evidence_against(counts, shares)), 0.0))
    return made


def p_of_changing_shares(counts: Sequence[Sequence[float]], shares: Sequence[Sequence[float]]) -> float:
    """The same where shares change: counts and planned shares of each batch, whose evidence adds up; valid whenever one looks."""
    against = [_evidence_against([np.array([each]) for each in batch], of)[0] for batch, of in zip(counts, shares, strict=True)]
    return float(np.exp(-max(float(np.sum(against)), 0.0)))


def _evidence_against(counts: Sequence[Floats], shares: Sequence[float]) -> Floats:
    """The logarithm of the Bayes factor against «the arms get these shares»."""
    from scipy.special import gammaln

    prior = CONCENTRATION * np.asarray(shares)
    total = np.sum(counts, axis=0)
    log_bayes: Floats = gammaln(prior.sum()) - gammaln(prior.sum() + total)
    for count, weight, share in zip(counts, prior, shares, strict=True):
        log_bayes = log_bayes + gammaln(weight + count) - gammaln(weight) - count * np.log(share)
    return log_bayes


def adjusted(values: Floats, before: Floats) -> Floats:
    """Values less what a figure known before explains of them (CUPED): the mean over all arms stays, the variance shrinks.

    Units whose figure of before is not known (NaN) count as its mean.
    """
    known = np.isfinite(before)
    if known.sum() < 2 or float(np.var(before[known])) == 0.0:
        return values
    covariance = np.cov(values[known], before[known])
    slope = covariance[0, 1] / covariance[1, 1]
    made: Floats = values - slope * np.where(known, before - before[known].mean(), 0.0)
    return made


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several questions, corrected so that one wrong answer among all is no likelier than of one (Holm, 1979)."""
    order = np.argsort(p_values, kind="stable")
    made, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        made[place] = worst
    return made
