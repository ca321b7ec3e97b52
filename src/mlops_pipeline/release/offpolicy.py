"""What a version's decisions would have earned, from the record of another's: inverse propensities, self-normalised, doubly robust.

As Dudík, Langford and Li (2011) and Swaminathan and Joachims (2015) have them, and Open Bandit Pipeline writes them («IPW», «SNIPW» and
«DR» of its documentation's «Off-Policy Evaluation Estimators»). Where nobody would have decided as the version does, no estimate says what
that earns: it is told as a share of the rows, and every interval is as much wider as it could matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_pipeline.experiments.sequences import Floats

MOST_WEIGHT = 100.0
"""A row that stands for more others than that makes every estimate a matter of luck."""
DRAWS = 400
FITS = 5.0
"""Standard errors by which the weights' mean may differ from what it has to be."""
SURELY = 0.001
"""That labels come as often whatever was decided: below this they do not."""
MATTERS = 0.05
"""And that much more often: less is of no consequence."""
PARTS = 10
"""Of the version's own figure, in each of which the earnings of a decision are one mean."""
SEED = 20110


class Logged(NamedTuple):
    """Rows on record of which it is known by what rule they were decided; each column is as long as the rows."""

    unit: npt.NDArray[np.int64]
    """What was given an arm as a whole."""
    taken: npt.NDArray[np.int64]
    """The decision."""
    wanted: npt.NDArray[np.int64]
    """The version's."""
    propensity: Floats
    """With what probability the rule decided as it did; above 0."""
    overlap: Floats
    """With what probability it would have decided as the version does."""
    reward: Floats
    """From 0 to 1; NaN where it is not known."""
    said: Floats
    """The version's own figure, by which earnings are guessed for the doubly robust estimate."""
    lost: Floats
    """For rows whose rule is not known, such as those of a challenger that failed: for how many others they stand; else 0."""

    @classmethod
    def of(cls, columns: Iterable[Any]) -> Logged:
        """From its columns in order."""
        return cls(*columns)


class Estimate(msgspec.Struct, frozen=True):
    """The mean reward by one estimator: from ``least`` to ``most``, one number where everything overlaps, with an interval of both."""

    name: str
    least: float
    most: float
    low: float
    high: float


class Earned(msgspec.Struct, frozen=True):
    """What can be said of a version's decisions."""

    by: str
    """``decision``: what is earned depends on it alone; ``answer``: on who answered."""
    rows: int
    labels: int
    units: int
    """With labels."""
    alike: float
    """The share of the rows with labels that were decided as the version does."""
    uncovered: float
    """The share of which no estimate can say anything."""
    effective: float
    """For how many equally weighted units those count that were decided alike (Kish)."""
    largest: float
    """The largest weight."""
    logged: float | None
    """What was earned."""
    estimates: tuple[Estimate, ...] = ()
    why_not: str = ""
    """Why there is no estimate."""


def earned(by: str, logged: Logged, least_units: int, alpha: float) -> Earned:
    """The version's mean reward by each estimator, with intervals by bootstrap over units; or why none can be told."""
    known = np.isfinite(logged.reward) & (logged.lost == 0)
    lost = logged.lost[np.isfinite(logged.reward)]
    rows = Logged.of(column[known] for column in logged)
    _, unit = np.unique(rows.unit, return_inverse=True)
    units = int(unit.max()) + 1 if len(unit) else 0
    weight = np.where(rows.taken == rows.wanted, 1.0 / rows.propensity, 0.0)
    of_units = np.bincount(unit, weight, units)
    squares = float((of_units**2).sum())
    effective = float(of_units.sum() ** 2 / squares) if squares else 0.0
    gone = float(lost.sum())
    uncovered = (float((rows.overlap <= 0).sum()) + gone) / max(1.0, len(unit) + gone)
    made = Earned(
        by,
        len(logged.unit),
        len(unit),
        units,
        float((weight > 0).mean()) if len(unit) else 0.0,
        uncovered,
        effective,
        float(weight.max()) if len(unit) else 0.0,
        float(rows.reward.mean()) if len(unit) else None,
    )
    if why := _why_not(made, logged, weight - (rows.overlap > 0), unit, least_units):
        return msgspec.structs.replace(made, why_not=why)
    return msgspec.structs.replace(made, estimates=_estimates(rows, weight, unit, units, gone, alpha))


def _why_not(found: Earned, logged: Logged, off: Floats, unit: npt.NDArray[np.int64], least_units: int) -> str:
    """``off``: each weight less what it is in the mean, if the rule is as the table says."""
    if not found.labels:
        return "no row has a label yet, so nothing is known of what was earned"
    if why := _labels_by_decision(logged):
        return why
    if found.effective < least_units:
        return (
            f"too few were decided as the version does: they count for {found.effective:,.0f} units of {found.units:,}, "
            f"{least_units:,} are needed"
        )
    if found.largest > MOST_WEIGHT:
        return (
            f"a row stands for {found.largest:,.0f} others, more than {MOST_WEIGHT:g}: it was decided at too small a share; "
            "leave the time of that step out with --since"
        )
    of_units = np.bincount(unit, off, found.units)
    if abs(float(of_units.sum())) > FITS * float(np.sqrt((of_units**2).sum())) + 1e-9:
        return (
            "the record does not fit the shares that the table of releases names: weights have a mean that is off by "
            f"{off.mean():+.3f}, so none is to be believed"
        )
    return ""


def _labels_by_decision(logged: Logged) -> str:
    """Whether labels come oftener after one decision than after another: then what is known is not what was earned."""
    from scipy.stats import chi2_contingency

    there = np.isfinite(logged.reward)
    table = np.array(
        [[(there & chosen).sum(), (~there & chosen).sum()] for chosen in (logged.taken == one for one in np.unique(logged.taken))]
    )
    if len(table) < 2 or not (table.sum(axis=0) > 0).all():
        return ""
    shares = table[:, 0] / table.sum(axis=1)
    if shares.max() - shares.min() < MATTERS or chi2_contingency(table).pvalue >= SURELY:
        return ""
    return (
        f"labels come for {shares.min():.0%} of the rows after one decision and for {shares.max():.0%} after another: what is known is not "
        "what was earned, and nobody can tell from it what another would have; if labels are only late, leave the newest rows out "
        "with --until"
    )


def _estimates(rows: Logged, weight: Floats, unit: npt.NDArray[np.int64], units: int, gone: float, alpha: float) -> tuple[Estimate, ...]:
    """Sums by unit, so that drawing units again is one product of matrices for all estimators."""
    covered = (rows.overlap > 0).astype(np.float64)
    of_wanted, of_taken = _guessed(rows, unit)
    robust = covered * of_wanted + weight * (rows.reward - of_taken)
    columns = (np.ones(len(unit)), covered, weight, weight * rows.reward, robust)
    sums = np.column_stack([np.bincount(unit, column, units) for column in columns])
    rng = np.random.default_rng(SEED)
    drawn = np.array([np.bincount(rng.integers(0, units, units), minlength=units) @ sums for _ in range(DRAWS)])
    now = sums.sum(axis=0)[None]

    def ips(total: Floats) -> Floats:
        made: Floats = total[:, 3] / (total[:, 0] + gone)
        return made

    def self_normalised(total: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            made: Floats = total[:, 3] / total[:, 2] * total[:, 1] / (total[:, 0] + gone)
        return made

    def doubly_robust(total: Floats) -> Floats:
        made: Floats = total[:, 4] / (total[:, 0] + gone)
        return made

    ways: dict[str, Callable[[Floats], Floats]] = {"IPS": ips, "self-normalised IPS": self_normalised, "doubly robust": doubly_robust}
    made = []
    for name, way in ways.items():
        least = float(way(now)[0])
        beyond = float((now[0, 0] - now[0, 1] + gone) / (now[0, 0] + gone))
        low, high = np.nanquantile(way(drawn), [alpha / 2, 1 - alpha / 2])
        made.append(Estimate(name, least, least + beyond, max(0.0, float(low)), min(1.0, float(high) + beyond)))
    return tuple(made)


def _guessed(rows: Logged, unit: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """What the wanted and the taken decision are guessed to earn: the mean in a tenth of the version's figure, of the other half's units.

    However bad a guess is, the estimate stays right where propensities are; a good one takes its variance away.
    """
    edges = np.unique(np.quantile(rows.said, np.linspace(0, 1, PARTS + 1)[1:-1]))
    part = np.searchsorted(edges, rows.said, side="right")
    _, decision = np.unique(np.concatenate([rows.taken, rows.wanted]), return_inverse=True)
    taken, wanted = decision[: len(unit)], decision[len(unit) :]
    width = int(decision.max()) + 1
    cells, half = (len(edges) + 1) * width, unit % 2
    guesses = np.empty((2, len(unit)))
    for own in (0, 1):
        other = half != own
        place = part[other] * width + taken[other]
        usual = float(rows.reward[other].mean()) if other.any() else 0.5
        # one more row of the usual reward, for cells of which nothing is known
        means = (np.bincount(place, rows.reward[other], cells) + usual) / (np.bincount(place, minlength=cells) + 1)
        mine = ~other
        guesses[0, mine], guesses[1, mine] = means[part[mine] * width + wanted[mine]], means[part[mine] * width + taken[mine]]
    return guesses[0], guesses[1]
