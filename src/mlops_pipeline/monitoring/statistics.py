"""Two distributions side by side, from counts alone: distances, tests, and which of many tests mean something."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlops_pipeline.contract.reference import Bins

Counts = npt.NDArray[np.int64]

GROUPS = 10
"""Of the reference's quantiles, over which the distances of numbers that need few cells are taken."""
EXPECTED = 5
"""Cells with fewer expected rows on one side are put together before a chi-squared test (Cochran 1954)."""
PERMUTATIONS, PERMUTED, PLAIN = 10_000, 500, 50
"""At most, at a time, and as many as far apart after which no more are needed (Besag and Clifford, 1991)."""
LEAST_DEVIATION = 0.001
"""As Evidently norms a distance."""


def wasserstein(before: Bins, counts: Counts, sums: npt.NDArray[np.float64]) -> float:
    """The first Wasserstein distance over the reference's standard deviation; ``sums`` are of the window's values in each bin.

    Exact where every value of the reference is an edge, and beyond the outer edges; else the reference is taken as straight within
    a bin.
    """
    reference, rows = np.asarray(before.counts, dtype=np.float64), counts.sum()
    if not before.rows or not rows or not before.edges:
        return math.nan
    edges = np.asarray(before.edges, dtype=np.float64)
    upper, widths = edges[1:], np.diff(edges)
    apart = (np.cumsum(reference)[:-1] / before.rows) - (np.cumsum(counts)[:-1] / rows)
    left, right = np.abs(apart[:-1]), np.abs(apart[1:])
    # The integral of what is apart, sign and all: what comes within a bin counts from where it is to the bin's end.
    theirs = np.maximum(counts[1:-1] * upper - sums[1:-1], 0) / rows
    ours = 0 if before.exact else reference[1:-1] / before.rows * widths / 2
    signed = np.abs(apart[:-1] * widths + ours - theirs)
    # Where the two cross within a bin, the parts do not make up for each other: in a step, or along a line.
    total = np.where(left + right > 0, left + right, 1.0)
    late = theirs * rows / np.maximum(counts[1:-1], 1)
    crossed = left * (widths - late) + right * late if before.exact else (left**2 + right**2) / total / 2 * widths
    inside = np.where(apart[:-1] * apart[1:] < 0, crossed, signed)
    below, above = (counts[0] * edges[0] - sums[0]) / rows, (sums[-1] - counts[-1] * edges[-1]) / rows
    ends = abs(before.below - below) + abs(before.above - above)
    return float((inside.sum() + ends) / max(before.deviation, LEAST_DEVIATION))


def kolmogorov_smirnov(before: Counts, counts: Counts) -> tuple[float, float]:
    """The largest distance between two distributions at the edges of their bins, and its two-sided p-value (the asymptotic one)."""
    from scipy.stats import kstwo

    n, m = int(before.sum()), int(counts.sum())
    if not n or not m:
        return math.nan, math.nan
    distance = float(np.abs(np.cumsum(before) / n - np.cumsum(counts) / m).max())
    return distance, float(np.clip(kstwo.sf(distance, max(round(n * m / (n + m)), 1)), 0, 1))


def kolmogorov_smirnov_of(before: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The same of the values themselves."""
    places = np.unique(np.concatenate([before, values]))
    upto = [np.searchsorted(np.sort(side), places, side="right") for side in (before, values)]
    first, second = (np.diff(side, prepend=0) for side in upto)
    return kolmogorov_smirnov(first, second)


def chi_squared(before: Counts, counts: Counts) -> tuple[float, float]:
    """Pearson's statistic of two rows of counts, and its p-value; thin cells count as one."""
    from scipy.special import chdtrc

    one, other = pooled(before, counts)
    table = np.stack([one, other]).astype(np.float64)
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return math.nan, math.nan
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    found = float(((table - expected) ** 2 / expected).sum())
    return found, float(chdtrc(table.shape[1] - 1, found))


def pooled(before: Counts, counts: Counts) -> tuple[Counts, Counts]:
    """The same counts, with all cells of which too few rows are expected on one side as a single one, at the end."""
    n, m = before.sum(), counts.sum()
    both = before + counts
    thin = both * min(n, m) < EXPECTED * (n + m)
    if not thin.any():
        return before, counts
    kept = [np.append(side[~thin], side[thin].sum()) for side in (before, counts)]
    if kept[0][-1] + kept[1][-1] == 0:
        return kept[0][:-1], kept[1][:-1]
    return kept[0], kept[1]


def jensen_shannon(before: Counts, counts: Counts) -> float:
    """The Jensen-Shannon distance, by natural logarithms, as SciPy's and Evidently's."""
    if not before.sum() or not counts.sum():
        return math.nan
    p, q = before / before.sum(), counts / counts.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / middle), 0) + np.where(q > 0, q * np.log(q / middle), 0)
    return math.sqrt(max(float(terms.sum()) / 2, 0.0))


def stability(before: Counts, counts: Counts) -> float:
    """The population stability index; an empty cell counts as a small share, as Evidently has it."""
    if not before.sum() or not counts.sum():
        return math.nan
    p, q = (_filled(side / side.sum()) for side in (before, counts))
    return float(((p - q) * np.log(p / q)).sum())


def _filled(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    least = float(shares[shares > 0].min())
    return np.where(shares == 0, least / 1e6 if least <= 0.0001 else 0.0001, shares)


def grouped(before: Counts, counts: Counts, groups: int = GROUPS) -> tuple[Counts, Counts]:
    """Fewer bins, each with about the same share of the reference."""
    upto = np.cumsum(before)
    wanted = np.arange(1, groups) * upto[-1] / groups
    ends = np.unique(np.append(np.searchsorted(upto, wanted) + 1, len(before)))
    starts = np.append(0, ends[:-1])
    first, second = np.add.reduceat(before, starts), np.add.reduceat(counts, starts)
    return first, second


def share_p(before: int, of: int, count: int, rows: int) -> float:
    """Two-sided p-value of two shares: by the chi-squared test, or exactly (Fisher's, the smaller tail twice) where a count is thin."""
    from scipy.special import chdtrc
    from scipy.stats import hypergeom

    total, there = of + rows, before + count
    if not of or not rows or not 0 < there < total:
        return 1.0
    least = min(there, total - there) * min(of, rows) / total
    if least < EXPECTED:
        tails = hypergeom.sf(count - 1, total, there, rows), hypergeom.cdf(count, total, there, rows)
        return float(min(1.0, 2 * min(tails)))
    apart = before / of - count / rows
    mean = there / total
    return float(chdtrc(1, apart**2 / (mean * (1 - mean) * (1 / of + 1 / rows))))


def means_apart(before: npt.NDArray[np.float32], now: npt.NDArray[np.float32], seed: int) -> tuple[float, float]:
    """How far the means of two sides' vectors, (rows, numbers), lie apart, and its p-value by permutation.

    Over the root mean square distance of the first side's vectors from their mean, less what chance alone makes of so many rows: the
    maximum mean discrepancy with a linear kernel (Gretton and others, 2012). Where no permutation is as far, the tail beyond them all
    is told by the gamma distribution with their mean, deviation and skewness, lest a sure finding be lost among many tests.
    """
    n, m = len(before), len(now)
    if n < 2 or m < 2:
        return math.nan, math.nan
    spread, other = (float(side.var(axis=0, ddof=1).sum()) for side in (before, now))
    both = np.concatenate([before, now]).astype(np.float32)
    both -= both.mean(axis=0)
    # Of vectors whose mean is zero the first side's sum tells the other's.
    apart = float((both[:n].sum(axis=0) ** 2).sum())
    sides = np.zeros((PERMUTED, n + m), dtype=np.float32)
    sides[:, :n] = 1
    random, drawn, as_far = np.random.default_rng(seed), np.empty(0), 0
    while len(drawn) < PERMUTATIONS and as_far < PLAIN:
        sums = random.permuted(sides, axis=1) @ both
        drawn = np.append(drawn, (sums**2).sum(axis=1))
        as_far = int((drawn >= apart * (1 - 1e-6)).sum())
    squared = apart * (1 / n + 1 / m) ** 2 - spread / n - other / m
    scale = math.sqrt(spread) or 1.0
    p = (1 + as_far) / (1 + len(drawn))
    return math.sqrt(max(squared, 0.0)) / scale, p if as_far else min(p, _gamma_tail(drawn, apart))


def _gamma_tail(drawn: npt.NDArray[np.float64], value: float) -> float:
    """How likely a value as large is by the gamma distribution with the first three moments of what was drawn (Pearson's type III)."""
    from scipy.special import gammaincc

    deviation = float(drawn.std())
    if not deviation:
        return 1.0
    skewness = max(float((((drawn - drawn.mean()) / deviation) ** 3).mean()), 0.01)
    shape = 4 / skewness**2
    return float(gammaincc(shape, max(shape + math.sqrt(shape) * (value - drawn.mean()) / deviation, 0.0)))


def shares_p(before: float, error: float, share: float, other: float) -> float:
    """Two-sided p-value of two shares with their standard errors."""
    together = math.hypot(error, other)
    return math.erfc(abs(share - before) / together / math.sqrt(2)) if together else float(share == before)


def share_effect(before: float, share: float) -> float:
    """Cohen's h, above 0 where the share has grown."""
    return 2 * math.asin(math.sqrt(min(max(share, 0.0), 1.0))) - 2 * math.asin(math.sqrt(min(max(before, 0.0), 1.0)))


def adjusted(p: Sequence[float]) -> npt.NDArray[np.float64]:
    """P-values corrected for their number by Benjamini and Hochberg (1995); a NaN is no test and stays one."""
    values = np.asarray(p, dtype=np.float64)
    made = np.full(len(values), np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    if len(tested):
        order = tested[np.argsort(values[tested], kind="stable")]
        scaled = values[order] * len(tested) / np.arange(1, len(tested) + 1)
        made[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return made
