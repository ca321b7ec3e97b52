"""The demo's figures are what they are called, and its picture and words say them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlops_pipeline.demo.earned import Earned, Month, earned
from mlops_pipeline.demo.picture import draw
from mlops_pipeline.demo.replay import Replayed
from mlops_pipeline.demo.story import LOOP, MONTHLY, NEVER, WINTER, Told
from mlops_pipeline.demo.year import report
from mlops_pipeline.monitoring.state import Window

NAMES = ("April", "May", "June")


def months(weights: dict[str, float]) -> list[Month]:
    """Three months of ten days, with scores that know more of the truth, or less."""
    random = np.random.default_rng(3)
    made = []
    for name in NAMES:
        late, days = random.integers(0, 2, 2000), random.integers(0, 10, 2000)
        noise = random.normal(size=2000)
        made.append(Month(name, late, days, {arm: 1 / (1 + np.exp(-weight * late - noise)) for arm, weight in weights.items()}))
    return made


def figures(weights: dict[str, float]) -> tuple[list[Month], Earned]:
    asked = months(weights)
    return asked, earned(asked, never=NEVER, loop=LOOP, monthly=MONTHLY, resamples=60)


def test_what_is_earned_is_the_mean_of_months_beside_never_and_its_interval_is_over_days() -> None:
    asked, found = figures({NEVER: 0.2, LOOP: 0.9, MONTHLY: 1.0})
    aucs = {arm: np.mean([roc_auc_score(month.late, month.said[arm]) for month in asked]) for arm in found.mean}
    for arm, value in aucs.items():
        assert found.mean[arm].value == pytest.approx(value)
        assert found.mean[arm].low < value < found.mean[arm].high
    assert found.gain[LOOP].value == pytest.approx(aucs[LOOP] - aucs[NEVER])
    assert found.share.value == pytest.approx((aucs[LOOP] - aucs[NEVER]) / (aucs[MONTHLY] - aucs[NEVER]))
    assert found.share.low < found.share.value < found.share.high < 1
    _, same = figures({NEVER: 0.2, LOOP: 1.0, MONTHLY: 1.0})
    assert (same.share.value, same.share.low, same.share.high) == (1, 1, 1)


def test_a_goal_that_is_missed_is_said_with_where_it_was_lost(tmp_path: Path) -> None:
    _, found = figures({NEVER: 0.2, LOOP: 0.4, MONTHLY: 1.0})
    windows = [Window(1, "champion", "1", 0, 1, 1, 0, False, True, {"probe.gain": 0.004}, "{}") for _ in NAMES]
    loop = tuple(Replayed(np.zeros(1), window, None, 0) for window in windows)
    told = Told(WINTER, 6000, found, loop, 2, 2)
    said = "\n".join(report([told]))
    assert "the goal is at least 0.8 with at most half: missed" in said
    assert "its probe had said +0.0040 a month before" in said
    draw([told], tmp_path / "year.png")
    assert (tmp_path / "year.png").read_bytes().startswith(b"\x89PNG")
