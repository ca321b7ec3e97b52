"""What another version's decisions would have earned, from logs of which the truth is known."""

import numpy as np
import pytest

from mlops_pipeline.release.offpolicy import Logged, earned


def log(rng: np.random.Generator, count: int, weight: float = 0.3, *, beyond: float = 0.0) -> tuple[Logged, float]:
    """Rows decided by one of two models, the second at a share; and the mean reward of a third, which decides now as one, now as the other.

    In a part of ``beyond`` of the rows it decides as neither does.
    """
    context = rng.random(count)
    first, second = (context > 0.5).astype(int), (context > 0.3).astype(int)
    third = np.where(rng.random(count) < beyond, 2, np.where(context > 0.4, second, first))
    mine = rng.random(count) < weight
    taken = np.where(mine, second, first)

    def chance(decision: np.ndarray) -> np.ndarray:
        return 0.15 + 0.5 * context * (decision == 1) + 0.3 * (1 - context) * (decision == 0) + 0.2 * (decision == 2)

    def probability(decision: np.ndarray) -> np.ndarray:
        return (1 - weight) * (decision == first) + weight * (decision == second)

    reward = (rng.random(count) < chance(taken)).astype(float)
    logged = Logged(np.arange(count), taken, third, probability(taken), probability(third), reward, context, np.zeros(count))
    return logged, float(chance(third).mean())


def test_ten_rows_are_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, wanted = np.array([0, 0, 1, 1, 0, 1, 0, 1, 0, 1]), np.array([0, 1, 1, 0, 0, 1, 1, 1, 0, 1])
    propensity, reward = np.array([0.8, 0.8, 0.2, 0.2, 0.5, 0.5, 0.5, 0.5, 0.8, 0.2]), np.array([1, 0, 1, 0, 0.5, 1, 0, 0, 1, 1.0])
    overlap = np.where(taken == wanted, propensity, 1 - propensity)
    logged = Logged(np.arange(10), taken, wanted, propensity, overlap, reward, np.zeros(10), np.zeros(10))
    weight = np.where(taken == wanted, 1 / propensity, 0)  # 1.25, 0, 5, 0, 2, 2, 0, 2, 1.25, 5
    found = earned("decision", logged, 1, 0.05)
    ips, normalised, robust = (each.least for each in found.estimates)
    assert ips == pytest.approx((1.25 + 5 + 1 + 2 + 0 + 1.25 + 5) / 10)
    assert normalised == pytest.approx((1.25 + 5 + 1 + 2 + 0 + 1.25 + 5) / 18.5)
    assert found.effective == pytest.approx(18.5**2 / (weight**2).sum())
    guess = {}  # of the other half's rows, one more row of their mean beside them
    for half in (0, 1):
        other = np.arange(10) % 2 != half
        for decision in (0, 1):
            there = reward[other & (taken == decision)]
            guess[half, decision] = (there.sum() + reward[other].mean()) / (len(there) + 1)
    by_hand = [guess[row % 2, wanted[row]] + weight[row] * (reward[row] - guess[row % 2, taken[row]]) for row in range(10)]
    assert robust == pytest.approx(np.mean(by_hand))


def test_the_truth_is_inside_as_often_as_said_and_a_good_guess_takes_variance_away() -> None:
    inside, widths, times = np.zeros(3), np.zeros(3), 120
    truth = log(np.random.default_rng(10_000), 200_000)[1]
    for seed in range(times):
        found = earned("decision", log(np.random.default_rng(seed), 600)[0], 50, 0.1).estimates
        inside += [each.low <= truth <= each.high for each in found]
        widths += [each.high - each.low for each in found]
    assert (inside / times >= 0.84).all(), inside / times  # 0.9, less twice its own error
    assert (inside / times <= 0.97).all(), inside / times
    assert widths[2] < widths[0]


def test_where_nobody_decides_as_the_version_does_the_interval_holds_whatever_that_earns() -> None:
    logged, truth = log(np.random.default_rng(3), 20_000, beyond=0.1)
    found = earned("decision", logged, 50, 0.05)
    assert found.uncovered == pytest.approx(0.1, abs=0.01)
    for each in found.estimates:
        assert each.most - each.least == pytest.approx(found.uncovered)
        assert each.low < each.least < truth < each.most < each.high
    # A champion that decided everything: only rows that both decide alike say anything.
    alone = logged._replace(taken=logged.wanted * 0, propensity=np.ones(20_000), overlap=(logged.wanted == 0).astype(float))
    one = earned("decision", alone, 50, 0.05)
    assert one.uncovered == pytest.approx(1 - one.alike)
    assert all(each.most - each.least > 0.5 for each in one.estimates)


def test_what_cannot_be_told_is_said_and_has_no_number() -> None:
    logged, _ = log(np.random.default_rng(4), 4_000)
    count = len(logged.unit)
    rare = logged._replace(propensity=np.full(count, 0.001), overlap=np.full(count, 0.001))
    few = logged._replace(
        wanted=np.where(np.arange(count) < 30, logged.taken, 3), overlap=np.where(np.arange(count) < 30, logged.overlap, 0)
    )
    refused = logged._replace(reward=np.where((logged.taken == 0) & (np.arange(count) % 3 > 0), np.nan, logged.reward))
    unfit = logged._replace(propensity=np.where(logged.propensity == 0.3, 0.15, logged.propensity))
    for case, words in (
        (logged._replace(reward=np.full(count, np.nan)), "no row has a label"),
        (rare, "a row stands for 1,000 others"),
        (few, "24 units of 4,000, 50 are needed"),
        (refused, "labels come for 32% of the rows after one decision and for 100% after another"),
        (unfit, "does not fit the shares that the table of releases names"),
    ):
        found = earned("decision", case, 50, 0.05)
        assert words in found.why_not
        assert not found.estimates


def test_rows_of_a_unit_are_one_witness_and_a_failing_challenger_widens_the_interval() -> None:
    logged, truth = log(np.random.default_rng(5), 2_000)
    narrow = earned("decision", logged, 50, 0.05).estimates[1]
    tenfold = Logged.of(np.repeat(column, 10) for column in logged)
    repeated = earned("decision", tenfold, 50, 0.05)
    assert repeated.units == 2_000
    assert repeated.estimates[1].high - repeated.estimates[1].low == pytest.approx(narrow.high - narrow.low, rel=0.15)
    lost = np.where(np.arange(2_000) < 60, 1 / 0.3, 0.0)
    failing = earned("decision", logged._replace(lost=lost), 50, 0.05)
    assert failing.uncovered == pytest.approx(200 / (1_940 + 200))
    assert failing.estimates[1].low < truth < failing.estimates[1].high
