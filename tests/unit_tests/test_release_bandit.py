"""Shares that follow what is earned: where they go, what they cost, and how it ends."""

from typing import Any

import msgspec
import numpy as np
import pytest

from mlops_pipeline.config.experiment import Experiment
from mlops_pipeline.config.release import BANDIT, TEST, Bandit, Policy, Reward, Step, Turn
from mlops_pipeline.config.tree import tree_of
from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.release.bandit import Batch, Earnings, batches_of, earnings_of, learned, p_of_split, with_learned
from mlops_pipeline.release.evidence import Answers, Observations
from mlops_pipeline.release.policy import Evidence, Finding, Learned, Standing, decide
from mlops_pipeline.release.reward import earned_by, figure_of, why_not
from mlops_pipeline.release.table import Transition
from mlops_pipeline.release.tested import with_tested
from tests.unit_tests.test_release_policy import GOOD, finding

BANDITS = Bandit(batch_units=200, floor=0.05)
POLICY = Policy(bandit=BANDITS, reward=Reward(figure="label"))


def run(seed: int, champion: float, challenger: float, swing: float = 0.0, batches: int = 25) -> tuple[str, list[float], float]:
    """How a bandit ended, the shares on its way, and the part of units that the worse arm had; rates go up and down with ``swing``."""
    rng = np.random.default_rng(seed)
    weights, parts = [BANDITS.start], list[Earnings]()
    for batch in range(batches):
        arm = (rng.random(BANDITS.batch_units) < weights[-1]).astype(np.int64)
        chance = np.where(arm == 1, challenger, champion) + swing * np.sin(batch / 3)
        parts.append(Earnings(np.full(len(arm), batch), arm, (rng.random(len(arm)) < chance).astype(float)))
        units = Earnings(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        known = learned(BANDITS, seed, units, batch + 1)
        made = decide(POLICY, Standing(BANDIT, "running", 0.0, weight=weights[-1]), Evidence(learned=known), 60.0)
        if made.move in ("promote", "abort"):
            return made.move, weights, float((units.arm != int(challenger > champion)).mean())
        weights.append(made.step.weight if made.step is not None else weights[-1])
    return "undecided", weights, float((units.arm != int(challenger > champion)).mean())


@pytest.mark.parametrize(("champion", "challenger", "move"), [(0.2, 0.32, "promote"), (0.25, 0.13, "abort")])
def test_units_go_where_more_is_earned_and_the_floor_holds(champion: float, challenger: float, move: str) -> None:
    ends = [run(seed, champion, challenger) for seed in range(10)]
    moves = [each[0] for each in ends]
    assert moves.count(move) >= 9
    assert set(moves) <= {move, "undecided"}
    assert np.mean([each[2] for each in ends]) < 0.25  # an even split's regret is that of 0.5
    shares = [share for each in ends for share in each[1]]
    assert min(shares) >= 0.05
    assert max(shares) <= 0.95
    assert run(3, champion, challenger) == run(3, champion, challenger)


@pytest.mark.parametrize("swing", [0.0, 0.15])
def test_equal_arms_are_told_apart_no_oftener_than_said_though_every_hour_is_another(swing: float) -> None:
    ends = [run(seed, 0.25, 0.25, swing)[0] for seed in range(16)]
    assert sum(end != "undecided" for end in ends) <= 3  # 0.05 of 16, and twice its own error


def test_an_arm_is_not_better_for_having_its_units_in_a_good_hour() -> None:
    batch = np.repeat([0, 1], 1000)
    arm = np.concatenate([np.arange(1000) < 900, np.arange(1000) < 100]).astype(np.int64)
    reward = np.where(batch == 0, np.arange(2000) % 10 < 6, np.arange(2000) % 10 < 1).astype(float)
    found = learned(BANDITS, 1, Earnings(batch, arm, reward), 2)
    assert found.means == pytest.approx((0.35, 0.35))
    assert reward[arm == 1].mean() > reward[arm == 0].mean() + 0.3
    assert 0.3 < found.better < 0.7


def test_numbers_that_vary_little_are_told_apart_sooner_than_yes_and_no_of_the_same_mean() -> None:
    rng = np.random.default_rng(1)
    arm = (np.arange(600) % 2).astype(np.int64)
    sure = learned(BANDITS, 1, Earnings(np.zeros(600, int), arm, 0.5 + 0.02 * arm + 0.02 * rng.standard_normal(600)), 1)
    chance = learned(BANDITS, 1, Earnings(np.zeros(600, int), arm, (rng.random(600) < 0.5 + 0.02 * arm).astype(float)), 1)
    assert sure.better > 0.999
    assert sure.p < 1e-6
    assert chance.p > 0.05


def test_arms_that_earn_the_same_are_equally_good_though_all_is_won_or_lost() -> None:
    arm = (np.arange(2000) % 2).astype(np.int64)
    for rare in (0, 2, 20):
        for won in (0.0, 1.0):
            reward = np.where(np.arange(2000) < rare, 1 - won, won)
            alike = learned(BANDITS, 1, Earnings(np.zeros(2000, int), arm, reward), 1)
            assert alike.p == 1.0
            assert 0.45 < alike.better < 0.55, (rare, won)
    fewer = learned(BANDITS, 1, Earnings(np.zeros(2000, int), arm, np.where((arm == 1) & (np.arange(2000) < 60), 0.0, 1.0)), 1)
    assert fewer.better < 0.001


def test_rewards_that_are_known_of_one_arm_oftener_end_nothing_and_late_ones_do_not_look_so() -> None:
    rng = np.random.default_rng(4)
    batch = np.repeat([0, 1], 1000)
    arm = (rng.random(2000) < np.where(batch == 0, 0.2, 0.9)).astype(np.int64)
    reward = (rng.random(2000) < 0.3 + 0.2 * arm).astype(float)
    late = np.where((batch == 1) & (np.arange(2000) % 5 > 0), np.nan, reward)  # most of the newer batch, which is mostly the challenger's
    assert learned(BANDITS, 1, Earnings(batch, arm, late), 2).unlike is None
    only_yes = learned(BANDITS, 1, Earnings(batch, arm, np.where(reward > 0, reward, np.nan)), 2)
    assert only_yes.unlike == pytest.approx((0.3, 0.5), abs=0.05)
    made = decide(POLICY, Standing(BANDIT, "running", 0.0, weight=0.9), Evidence(learned=only_yes), 60.0)
    assert made.move == "stay"
    assert "what is known is not what was earned" in made.reason


@pytest.mark.parametrize("thinned", [1, 2])
def test_looks_at_what_is_left_of_a_long_record_have_a_small_part_of_alpha(thinned: int) -> None:
    rng = np.random.default_rng(5)
    rows = [
        (10.0 + place, f"u{place}", "challenger" if rng.random() < 0.5 else "champion", float(rng.random() < 0.3)) for place in range(800)
    ]
    turns, whole = [Transition(1, 1, BANDIT, "running", 0.5, 0.0, "", {}, 0.0, "")], answers(rows)
    left = whole._replace(thinned=thinned, halved_units=thinned)
    one, other = (with_learned(Evidence(), POLICY, 1, turns, each, divides=True) for each in (whole, left))
    assert one.learned is not None
    assert other.learned is not None
    ratio = (15 / 16) / (2.0**-thinned / 16)
    assert one.p_of_split is not None
    assert other.p_of_split == min(1.0, one.p_of_split * ratio)
    assert other.learned.p == pytest.approx(min(1.0, one.learned.p * ratio))
    assert other.learned.low is not None
    assert one.learned.low is not None
    assert other.learned.low < one.learned.low
    assert other.learned.fresh == one.learned.fresh << thinned
    experiment = tree_of(
        Experiment, {"arms": {"champion": 1, "challenger": 1}, "metrics": {"yes": {"column": "label"}}, "least_units": 30}, "test.yaml"
    )
    turns = [Transition(1, 1, TEST, "running", 0.5, 0.0, "", {}, 0.0, "")]
    tests = [with_tested(Evidence(), Policy(experiment=experiment), turns, each).tested for each in (whole, left)]
    ends = [(each["metrics"][0]["low"], each["metrics"][0]["high"]) for each in tests if each is not None]
    assert ends[1][0] < ends[0][0] < ends[0][1] < ends[1][1]


def answers(rows: list[tuple[float, str, str, float]]) -> Observations:
    """Rows of a time, a unit, an arm, and what came of it."""
    time, unit, arm, truth = (list(column) for column in zip(*rows, strict=True))
    count = len(rows)
    return Observations.of_answers(Answers(
        np.array(time), np.array([f"r{place}" for place in range(count)], dtype=object), np.zeros(count, np.int64),
        np.array(unit, dtype=object), np.array(arm), np.zeros(count, bool), np.full(count, 5.0), np.tile([0.4, 0.6], (count, 1)),
        np.array(truth), {},
    ))  # fmt: skip


def test_shares_of_many_units_change_seldom_so_that_what_is_kept_of_them_stays_small() -> None:
    rng, changes, weight, turns = np.random.default_rng(8), 0, 0.5, [Transition(1, 1, BANDIT, "running", 0.5, 0.0, "", {}, -5.0, "")]
    arm = np.empty(0, dtype=bool)
    for unit in range(200, 60_001, 200):
        arm = np.concatenate([arm, rng.random(200) < weight])
        told = seen(arm)
        found = with_learned(Evidence(), POLICY, 1, turns, told, divides=True).learned
        assert found is not None
        undecided = Evidence(learned=msgspec.structs.replace(found, p=1.0))
        made = decide(POLICY, Standing(BANDIT, "running", 0.0, weight=weight), undecided, 60.0)
        if made.step is not None:
            changes, weight = changes + 1, made.step.weight
            turns.append(Transition(len(turns) + 1, 1, BANDIT, "running", weight, 0.0, "", {}, float(unit) - 1.0, ""))
    assert changes < 50 + np.log(60_000 / 10_000) / np.log(50 / 49)


def seen(arm: Any) -> Observations:
    """A unit a second, each of its own, of which every fourth earns something."""
    count = len(arm)
    place = np.arange(count)
    return Observations(
        place.astype(float), place, np.zeros(count, np.int64), place, arm.astype(np.int8), np.zeros(count, bool), np.full(count, 5.0),
        np.tile([0.4, 0.6], (count, 1)), (place % 4 == 0).astype(float), {}, {},
    )  # fmt: skip


def test_a_unit_counts_once_where_it_came_first_and_as_whose_it_was() -> None:
    batches = [Batch(0.0, 100.0, 0.5), Batch(100.0, float("inf"), 0.1)]
    told = answers([
        (0.5, "early", "challenger", 1.0),  # may still have been divided as before
        (10.0, "a", "challenger", 1.0), (20.0, "a", "challenger", 0.0), (150.0, "a", "champion", 0.0),  # moved, as shares shrank
        (30.0, "b", "fallback", 1.0), (40.0, "c", "champion", float("nan")), (160.0, "d", "champion", 1.0), (170.0, "", "champion", 1.0),
    ])  # fmt: skip
    reward, beyond = earned_by(Reward(figure="label"), told)
    found = earnings_of(told, reward, batches)
    assert found.batch.tolist() == [0, 0, 0, 1]
    assert found.arm.tolist() == [1, 1, 0, 0]
    assert found.reward.tolist()[:2] == [0.5, 1.0]
    assert np.isnan(found.reward[2])
    assert beyond == 0
    made = [Transition(1, 1, "shadow", "running", 0.0, 1.0, "", {}, 0.0, "")]
    made += [
        Transition(place, 1, BANDIT, "running", weight, 0.0, "", {}, float(place), "") for place, weight in ((2, 0.5), (3, 0.5), (4, 0.1))
    ]
    assert [(each.since, each.until, each.weight) for each in batches_of(made)] == [(2.0, 4.0, 0.5), (4.0, float("inf"), 0.1)]


def test_shares_are_held_against_each_batchs_own() -> None:
    rng = np.random.default_rng(2)
    batches = [Batch(0.0, 1.0, 0.5), Batch(1.0, 2.0, 0.9)]
    batch = np.repeat([0, 1], 2000)
    right = Earnings(batch, (rng.random(4000) < np.where(batch == 0, 0.5, 0.9)).astype(np.int64), np.zeros(4000))
    assert (p_of_split(right, batches) or 0) > 0.01
    wrong = right._replace(arm=(rng.random(4000) < 0.7).astype(np.int64))
    assert (p_of_split(wrong, batches) or 0) < 1e-9


KNOWN = Learned((500, 500), (0.2, 0.3), 0.1, 0.05, 0.15, 0.999, 0.001, 0.95, 300, 4, (0, 1, 4))


@pytest.mark.parametrize(
    ("changes", "now", "move"),
    [
        ({}, 60.0, "promote"),
        ({"better": 0.001}, 60.0, "abort"),
        ({"p": 0.2}, 60.0, "advance"),
        ({"p": 0.2, "fresh": 30}, 60.0, "stay"),
        ({"p": 0.2, "weight": 0.505}, 60.0, "stay"),
        ({"p": 0.2, "wanted": 301}, 60.0, "stay"),
        ({"units": (500, 100), "fresh": 30}, 60.0, "stay"),
        ({"p": 0.2}, 86_400.0 * 31, "give up"),
    ],
)
def test_it_ends_when_it_is_sure_and_guardrails_come_first(changes: dict[str, Any], now: float, move: str) -> None:
    known = Learned(**{**{name: getattr(KNOWN, name) for name in KNOWN.__struct_fields__}, **changes})
    standing = Standing(BANDIT, "running", 0.0, weight=0.5)
    made = decide(POLICY, standing, Evidence(learned=known), now)
    assert made.move == move
    assert made.step == (Turn(BANDIT, known.weight) if move == "advance" else None)
    broken: Finding = finding(0.02, 0.05)
    assert decide(POLICY, standing, Evidence(learned=known, findings=(broken,)), now).move == "abort"
    assert decide(POLICY, standing, Evidence(learned=known, p_of_split=1e-9), now).move == "abort"


def test_steps_come_first_and_what_could_never_be_earned_is_refused() -> None:
    policy = Policy(steps=(Step(shadow=1, least_rows=100),), bandit=BANDITS, reward=Reward(figure="correct"), guardrails=POLICY.guardrails)
    assert POLICY.first == Turn(BANDIT, 0.5)
    made = decide(policy, Standing("shadow", "running", 0.0), GOOD, 60.0)
    assert (made.move, made.step) == ("advance", Turn(BANDIT, 0.5))
    assert Policy.model_validate_json(POLICY.model_dump_json()) == POLICY
    for content, said in (
        ({"bandit": {}}, "'bandit' needs 'reward'"),
        ({"bandit": {"start": 0.01}, "reward": {}}, "leaves one less than the floor"),
        ({"bandit": {}, "reward": {"figure": "latency"}}, "say with 'high' how much counts as the worst"),
        ({"bandit": {}, "reward": {"low": 2}}, "is not below"),
        ({"bandit": {}, "reward": {}, "steps": [{"weight": 0.9}]}, "a step has more than the 0.5 that 'bandit' begins with"),
        ({"steps": []}, "'steps' is empty"),
    ):
        with pytest.raises(PipelineError, match=said):
            tree_of(Policy, content, "policy.yaml")
    many = Reference(task="multiclass", classes=["a", "b", "c"], rows=1, columns={})
    number = Reference(task="regression", rows=1, columns={})
    assert "use correct, or brier" in why_not(Reward(), many)
    assert "say with 'low' and 'high'" in why_not(Reward(), number)
    assert "use label, absolute, squared" in why_not(Reward(figure="brier"), number)
    assert why_not(Reward(low=0, high=50), number) == why_not(Reward(figure="brier"), many) == ""


def test_rewards_are_between_nought_and_one_whatever_the_figure() -> None:
    told = answers([(1.0, "a", "champion", 1.0), (2.0, "b", "challenger", 0.0), (3.0, "c", "fallback", float("nan"))])
    for reward, values in (
        (Reward(figure="label", better="lower"), [0.0, 1.0, np.nan]),
        (Reward(figure="correct"), [1.0, 0.0, np.nan]),
        (Reward(figure="brier"), [1 - 0.16, 1 - 0.36, np.nan]),
        (Reward(figure="answered"), [1.0, 1.0, 0.0]),
        (Reward(figure="latency", high=4), [0.0, 0.0, 0.0]),
    ):
        found, beyond = earned_by(reward, told)
        np.testing.assert_allclose(found, values)
        assert beyond == (3 if reward.figure == "latency" else 0)
    np.testing.assert_allclose(figure_of("prediction", told), 0.6)


def test_an_online_test_ends_as_its_report_says() -> None:
    settings = {"arms": {"champion": 1, "challenger": 3}, "metrics": {"bought": {"column": "label"}}, "most_units": 1000}
    experiment = tree_of(Experiment, settings, "test.yaml")
    policy = Policy(experiment=experiment)
    assert policy.first == Turn(TEST, 0.75)

    def move(verdict: str, units: int = 500, **other: Any) -> tuple[str, str]:
        standing = Standing(TEST, "running", 0.0, weight=0.75, **other)
        made = decide(policy, standing, Evidence(tested={"verdict": verdict, "why": "since", "units": units}), 60.0)
        return made.move, made.reason

    assert move("go_on")[0] == "stay"
    assert move("go_on", 1000)[0] == "give up"
    assert move("control")[0] == move("cannot_judge")[0] == "abort"
    assert move("treatment")[1].endswith("waits for approval: `mlops release promote`")
    assert move("treatment", option=" --config mine.yaml")[1].endswith("`mlops release promote --config mine.yaml`")
    assert move("treatment", approved_by="ada") == ("promote", "the test says take the challenger, of 500 units: since, approved by ada")
    for changes, said in (
        ({"arms": {"A": 1, "B": 1}}, "are champion and challenger, not A, B"),
        ({"metrics": {"x": {"column": "spend"}}}, "'spend' is no figure of the record: use one of label"),
        ({"metrics": {"x": {"column": "label", "before": "prediction"}}}, "knows nothing of before"),
    ):
        with pytest.raises(PipelineError, match=said):
            tree_of(Policy, {"experiment": {**settings, **changes}}, "policy.yaml")
