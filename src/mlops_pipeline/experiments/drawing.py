"""Curves for the page, as points of a picture: an estimate with its interval, and each arm's share, over units or time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from mlops_pipeline.config.experiment import Experiment, Metric
from mlops_pipeline.experiments.judging import Comparison, Findings
from mlops_pipeline.experiments.units import Units
from mlops_pipeline.pages import figure, round_values

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 270, 70, 16, 14, 44
TICKS = 5
ABOVE, BELOW = 5, 14
"""How far from its line a word stands, in pixels."""


@dataclass(frozen=True)
class Line:
    """A path with its word, and which of the page's colours it has."""

    path: str
    word: str
    color: int = 0


@dataclass(frozen=True)
class Curve:
    """One picture: a band, lines, level lines with their words, and the axes' ticks."""

    band: str
    lines: tuple[Line, ...]
    levels: tuple[tuple[float, str, float], ...]
    """y, word, and where the word stands."""
    heights: tuple[tuple[float, str], ...]
    places: tuple[tuple[float, str, str], ...]
    """x, how many units, since which day."""


def curve(each: Comparison, looks: npt.NDArray[np.int64], units: Units, metric: Metric) -> Curve | None:
    """The estimate over the looks; None where too few units have come. What is not finite, or far wider than later, is cut off."""
    estimate, low, high = each.interval
    fit = np.isfinite(estimate)
    if not fit.any():
        return None
    ends = [end[np.isfinite(end)] for end in (low[fit], high[fit])]
    reach = 3 * max([abs(float(end[-1] - estimate[fit][-1])) for end in ends if len(end)] or [abs(float(estimate[fit][-1])) or 1.0])
    middle = float(estimate[fit][-1])
    lines = [0.0] + ([-metric.no_worse_by if metric.better == "higher" else metric.no_worse_by] if metric.no_worse_by else [])
    bottom = min(middle - reach, float(estimate[fit].min()), *lines)
    top = max(middle + reach, float(estimate[fit].max()), *lines)
    frame = _Frame(looks, bottom, top)
    inside = [(frame.x(k), frame.y(value)) for k, value in enumerate(estimate) if fit[k]]
    edge = [(frame.x(k), frame.y(_capped(high[k], top))) for k in range(len(looks)) if fit[k]]
    back = [(frame.x(k), frame.y(_capped(low[k], bottom))) for k in reversed(range(len(looks))) if fit[k]]
    words = sorted(zip(map(frame.y, lines), ("no difference", "still borne"), strict=False))
    return Curve(
        _path([*edge, *back]) + " Z", (Line(_path(inside), ""),), _levels(words, inside), frame.heights(), _places(frame, looks, units)
    )


def _levels(words: Sequence[tuple[float, str]], curve: Sequence[tuple[float, float]]) -> tuple[tuple[float, str, float], ...]:
    """Each line's word where the curve does not end; of two lines' words, from the top, each on the side that is not the other's."""
    end = [y for x, y in curve if x > WIDTH * 0.8] or [curve[-1][1]]
    is_above = sum(end) / len(end) <= words[0][0]
    below = [is_above] if len(words) == 1 else [False, True]
    return tuple((y, word, y + BELOW if under else y - ABOVE) for (y, word), under in zip(words, below, strict=True))


def exposure(done: Findings, units: Units, experiment: Experiment) -> Curve:
    """Each arm's share of the units at each look, beside what it was to get."""
    shares = {arm: count / done.looks for arm, count in done.counts.items()}
    values = [float(value) for share in shares.values() for value in share] + list(experiment.shares.values())
    frame = _Frame(done.looks, min(values) - 0.02, max(values) + 0.02)
    lines = tuple(
        Line(_path([(frame.x(k), frame.y(float(value))) for k, value in enumerate(share)]), arm, place)
        for place, (arm, share) in enumerate(shares.items())
    )
    levels = tuple((frame.y(share), "", 0.0) for share in sorted(set(experiment.shares.values())))
    return Curve("", lines, levels, frame.heights(percent=True), _places(frame, done.looks, units))


class _Frame:
    def __init__(self, looks: npt.NDArray[np.int64], low: float, high: float) -> None:
        room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
        self.low, self.high = low - room, high + room
        self.first, self.last = int(looks[0]), max(int(looks[-1]), int(looks[0]) + 1)
        self.looks = looks

    def x(self, place: int) -> float:
        return round(LEFT + (int(self.looks[place]) - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        held = min(max(value, self.low), self.high)
        return round(TOP + (self.high - held) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 1)

    def heights(self, *, percent: bool = False) -> tuple[tuple[float, str], ...]:
        return tuple((self.y(value), f"{value:.1%}" if percent else figure(value, 3)) for value in round_values(self.low, self.high))


def _places(frame: _Frame, looks: npt.NDArray[np.int64], units: Units) -> tuple[tuple[float, str, str], ...]:
    """Along the bottom: how many units, and since which day."""
    chosen = sorted({round(place) for place in np.linspace(0, len(looks) - 1, min(TICKS, len(looks)))})
    made = []
    for place in chosen:
        day = ""
        if units.moments is not None:
            seen: datetime = units.moments[int(looks[place]) - 1].astype("datetime64[us]").item()
            day = f"{seen:%Y-%m-%d}"
        made.append((frame.x(place), f"{int(looks[place]):,} units", day))
    return tuple(made)


def _capped(value: float, at: float) -> float:
    return value if np.isfinite(value) else at


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x} {y}" for x, y in points)
