"""What answers of two arms say of a challenger."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mlops_pipeline.config.release import Guardrail, Policy, Step
from mlops_pipeline.release.evidence import ARMS, SETTLE_S, Answers, Observations, evidence_of, joined, settled_after, windows_in

SHADOW, FIVE, HALF = Step(shadow=1), Step(weight=0.05), Step(weight=0.5)
POLICY = Policy(
    steps=(SHADOW, FIVE, HALF, Step(weight=1)),
    guardrails={
        "failures": Guardrail(figure="failures", worse_by=0.01),
        "slow": Guardrail(figure="latency.p50", worse_by=10),
        "drift": Guardrail(figure="drift", worse_by=0.5),
        "differ": Guardrail(figure="disagreement", worse_by=0.3),
        "quality": Guardrail(figure="quality", worse_by=0.05, slices=("carrier",)),
    },
)


def answered(rng: np.random.Generator, count: int, weight: float, *, shadow: bool = False, worse: Any = None) -> Answers:
    """Answers of two equal models, of which the challenger's are changed by ``worse``, a function of its rows' columns."""
    carrier = rng.choice(["AA", "B6", "UA"], count).astype(object)
    chance = rng.beta(2, 6, count)
    truth = (rng.random(count) < chance).astype(float)
    mine = rng.random(count) < weight
    columns: dict[str, Any] = {
        "time": 10.0 + np.arange(count) * 0.01,
        "request": np.array([f"r{place}" for place in range(count)], dtype=object),
        "row": np.zeros(count, dtype=np.int64),
        "unit": np.array([f"r{place}" for place in range(count)], dtype=object),
        "arm": np.where(mine, "challenger", "champion").astype("<U10"),
        "failed": np.zeros(count, dtype=bool),
        "latency": rng.gamma(4, 0.5, count),
        "scores": np.column_stack([1 - chance, chance]),
        "truth": truth,
    }
    if shadow:
        columns = {name: np.concatenate([values, values]) for name, values in columns.items()}
        columns["arm"] = np.repeat(["champion", "shadow"], count).astype("<U10")
        carrier, mine = np.concatenate([carrier, carrier]), np.repeat([False, True], count)
    if worse is not None:
        worse(columns, mine, carrier)
    return Answers(**columns, slices={"carrier": carrier})


def broken(answers: Answers, step: Step, policy: Policy = POLICY) -> set[str]:
    found = evidence_of(policy, step, 0.0, answers, splits_evenly=True)
    return {f"{each.guardrail} {each.slice}".strip() for each in found.broken}


def slower(columns: dict[str, Any], mine: Any, _: Any) -> None:
    columns["latency"][mine] += 30


def failing(columns: dict[str, Any], mine: Any, _: Any) -> None:
    columns["arm"][mine] = "fallback"


def failing_on_one(columns: dict[str, Any], mine: Any, carrier: Any) -> None:
    columns["arm"][mine & (carrier == "B6")] = "fallback"


def slower_on_one(columns: dict[str, Any], mine: Any, carrier: Any) -> None:
    columns["latency"][mine & (carrier == "B6")] += 30


def silent_on_one(columns: dict[str, Any], mine: Any, carrier: Any) -> None:
    """In the shadow: an entry of what failed has no columns."""
    chosen = mine & (carrier == "B6")
    columns["failed"][chosen], columns["row"][chosen], carrier[chosen] = True, -1, "(missing)"


def silent(columns: dict[str, Any], mine: Any, _: Any) -> None:
    columns["failed"][mine] = True


def flipped_on_one(columns: dict[str, Any], mine: Any, carrier: Any) -> None:
    chosen = mine & (carrier == "B6")
    columns["scores"][chosen] = columns["scores"][chosen][:, ::-1]


def flipped(columns: dict[str, Any], mine: Any, _: Any) -> None:
    columns["scores"][mine] = columns["scores"][mine][:, ::-1]


@pytest.mark.parametrize(
    ("worse", "step", "rows", "said"),
    [
        (slower, FIVE, 8000, "slow"),
        (failing, FIVE, 8000, "failures"),
        (silent, SHADOW, 1000, "failures"),
        (flipped_on_one, SHADOW, 3000, "quality carrier = B6"),
        (flipped_on_one, HALF, 6000, "quality carrier = B6"),
        (flipped, SHADOW, 500, "differ"),
        (flipped, FIVE, 8000, "quality"),
    ],
)
def test_each_fault_breaks_the_guardrail_that_can_see_it(worse: Any, step: Step, rows: int, said: str) -> None:
    made = answered(np.random.default_rng(7), rows, step.weight, shadow=step.shadow > 0, worse=worse)
    assert said in broken(made, step)


BY_CARRIER = POLICY.model_copy(
    update={
        "guardrails": {
            "failures": Guardrail(figure="failures", worse_by=0.4, slices=("carrier",)),
            "slow": Guardrail(figure="latency.p50", worse_by=10, slices=("carrier",)),
        }
    }
)


@pytest.mark.parametrize(
    ("worse", "step", "said"),
    [
        (failing_on_one, HALF, "failures carrier = B6"),
        (failing_on_one, Step(weight=1), "failures carrier = B6"),
        (silent_on_one, SHADOW, "failures carrier = B6"),
        (slower_on_one, HALF, "slow carrier = B6"),
    ],
)
def test_a_fault_of_one_kind_of_rows_is_seen_among_these_though_all_rows_dilute_it(worse: Any, step: Step, said: str) -> None:
    made = answered(np.random.default_rng(7), 4000, step.weight, shadow=step.shadow > 0, worse=worse)
    assert broken(made, step, BY_CARRIER) == {said}
    good = answered(np.random.default_rng(7), 4000, step.weight, shadow=step.shadow > 0)
    assert not broken(good, step, BY_CARRIER)


def test_a_request_is_of_each_slice_that_one_of_its_rows_has_and_counts_once() -> None:
    rng, count = np.random.default_rng(2), 3000
    made = answered(rng, count, 0.5, worse=failing_on_one)
    place = np.repeat(np.arange(count), 3)
    rows = made.of(place)._replace(row=np.tile(np.arange(3), count))
    carriers = np.where(rows.row == 1, rows.slices["carrier"], "UA").astype(object)
    found = evidence_of(BY_CARRIER, HALF, 0.0, rows._replace(slices={"carrier": carriers}), splits_evenly=True)
    by_slice = {each.slice: each for each in found.findings if each.guardrail == "failures"}
    assert sum(by_slice["carrier = UA"].requests) == sum(by_slice[""].requests) > 2 * sum(by_slice["carrier = B6"].requests)
    assert [each.slice for each in found.broken] == ["carrier = B6"]


def test_an_equal_challenger_is_thrown_out_no_more_often_than_alpha_however_often_one_looks() -> None:
    policy = POLICY.model_copy(update={"guardrails": {name: each for name, each in POLICY.guardrails.items() if name != "quality"}})
    strict = {name: each.model_copy(update={"worse_by": 0.0}) for name, each in policy.guardrails.items() if name != "differ"}
    policy = policy.model_copy(update={"guardrails": strict})
    thrown = 0
    for seed in range(40):
        made = answered(np.random.default_rng(seed), 2000, 0.5)
        thrown += any(broken(made.of(np.arange(len(made.time)) < seen), HALF, policy) for seen in range(200, 2001, 200))
    assert thrown <= 4


@pytest.mark.parametrize(("says", "is_thrown_out"), [((0.5, 1.0), False), ((1.0, 1.0), False), ((1.0, 15.0), True)])
def test_what_is_rare_and_has_not_come_yet_convicts_nobody(says: tuple[float, float], is_thrown_out: bool) -> None:
    """One row of a hundred is a yes: before the first, whoever says less seems better. What is far worse is found all the same."""
    policy = POLICY.model_copy(update={"guardrails": {"quality": Guardrail(figure="quality", worse_by=0.03)}})
    for seed in range(8):
        rng = np.random.default_rng(seed)
        true = np.clip(0.01 * rng.lognormal(-0.125, 0.5, 1200), 0, 1)
        both = [answered(np.random.default_rng(seed), 1200, 0.0)] * 2
        given = zip(both, says, ("champion", "shadow"), strict=True)
        champion, shadow = (
            each._replace(
                scores=np.column_stack([1 - true * times, true * times]),
                truth=(np.random.default_rng(seed + 99).random(1200) < true).astype(float),
                arm=np.full(1200, arm),
            )
            for each, times, arm in given
        )
        seen = [joined([side.of(np.arange(1200) < count) for side in (champion, shadow)]) for count in (60, 150, 500, 1200)]
        assert any(broken(made, SHADOW, policy) for made in seen) is is_thrown_out, seed


def test_rows_of_one_request_are_one_witness() -> None:
    made = answered(np.random.default_rng(3), 4000, 0.5, worse=flipped)
    one = np.where(made.arm == "champion", "a", "b").astype(object)
    one = made._replace(request=one, unit=one, row=np.arange(4000))
    found = evidence_of(POLICY, HALF, 0.0, one, splits_evenly=False)
    assert not found.broken
    assert found.p_of_split is None


def sticking(rng: np.random.Generator, clients: int, worse: Any = None) -> Answers:
    """Answers of equal models at 50 %, of clients that stick to an arm; all requests of the first one are refused."""
    made = answered(rng, 4000, 0.5)
    client = rng.integers(0, clients, 4000)
    mine = (rng.random(clients) < 0.5)[client]
    chance = rng.beta(1, 4, clients)[client]
    columns = {**made._asdict(), "arm": np.where(mine, "challenger", "champion"), "unit": client.astype(str).astype(object)}
    columns |= {"scores": np.column_stack([1 - chance, chance]), "truth": (rng.random(4000) < chance).astype(float), "failed": client == 0}
    if worse is not None:
        worse(columns, mine, None)
    return Answers(**columns)


@pytest.mark.parametrize("clients", [40, 400])
def test_what_sticks_to_an_arm_is_one_witness(clients: int) -> None:
    refused = {**POLICY.guardrails, "refused": Guardrail(figure="refused", worse_by=0.02)}
    policy = POLICY.model_copy(update={"guardrails": refused})
    assert not [seed for seed in range(12) if broken(sticking(np.random.default_rng(seed), clients), HALF, policy)]
    bad = broken(sticking(np.random.default_rng(3), clients, flipped), HALF, policy)
    assert ("drift" in bad) == (clients == 400)
    unknown = sticking(np.random.default_rng(3), clients, flipped)._replace(unit=np.full(4000, "", dtype=object))
    found = evidence_of(policy, HALF, 0.0, unknown, splits_evenly=True)
    assert (found.broken, found.counts, found.p_of_split) == ([], (0, 0), None)


def test_arms_that_did_not_get_their_shares_are_found() -> None:
    made = answered(np.random.default_rng(3), 3000, 0.4)
    assert (evidence_of(POLICY, HALF, 0.0, made, splits_evenly=True).p_of_split or 1) < POLICY.srm_alpha
    fair = answered(np.random.default_rng(3), 3000, 0.5)
    assert (evidence_of(POLICY, HALF, 0.0, fair, splits_evenly=True).p_of_split or 0) > POLICY.srm_alpha


def test_what_nothing_is_known_of_beyond_one_end_is_told_so_and_is_json() -> None:
    few = answered(np.random.default_rng(3), 20_000, 0.05, worse=slower)
    policy = POLICY.model_copy(update={"guardrails": {"slowest": Guardrail(figure="latency.p99", worse_by=1)}})
    [found] = evidence_of(policy, FIVE, 0.0, few, splits_evenly=True).findings
    assert found.high is None
    assert found.low is not None
    assert " or more ms; limit +1 ms)" in found.text
    assert not found.holds
    json.dumps(evidence_of(policy, FIVE, 0.0, few, splits_evenly=True).as_json(), allow_nan=False)
    [unknown] = evidence_of(policy, FIVE, 0.0, few.of(few.time < 12), splits_evenly=True).findings
    assert unknown.estimate is None


def test_what_servers_that_look_seldom_still_divided_as_before_is_left_out() -> None:
    made = Observations.of_answers(answered(np.random.default_rng(3), 4000, 0.5))
    late = made._replace(arm=np.where(made.time < 10.0 + 10, ARMS.index("champion"), made.arm).astype(np.int8))  # of the step before
    assert (evidence_of(POLICY, HALF, 10.0, late, splits_evenly=True).p_of_split or 1) < POLICY.srm_alpha
    assert settled_after(250) == SETTLE_S
    settled = late._replace(settle_s=settled_after(10_000))
    assert (evidence_of(POLICY, HALF, 10.0, settled, splits_evenly=True).p_of_split or 0) > POLICY.srm_alpha


def test_without_labels_or_rows_nothing_is_said() -> None:
    made = answered(np.random.default_rng(3), 1000, 0.5)
    bare = made._replace(truth=np.full(1000, np.nan))
    found = {each.guardrail: each for each in evidence_of(POLICY, HALF, 0.0, bare, splits_evenly=True).findings if not each.slice}
    assert found["quality"].estimate is None
    assert found["drift"].holds
    nothing = evidence_of(POLICY, HALF, 0.0, made.of(np.zeros(1000, dtype=bool)), splits_evenly=True)
    assert (nothing.rows, nothing.broken, nothing.p_of_split) == (0, [], None)


def in_batches(chance: Any, weights: Any, says: Any) -> tuple[Answers, list[float]]:
    """Answers at shares that change every 1,000 requests, by a challenger that says so many times the truth; when each share began."""
    rng, count = np.random.default_rng(4), 1000 * len(weights)
    batch = np.arange(count) // 1000
    truly = np.asarray(chance)[batch] * rng.uniform(0.8, 1.2, count)
    mine = rng.random(count) < np.asarray(weights)[batch]
    said = np.where(mine, np.asarray(says)[batch] * truly, truly)
    names = np.array([f"r{place}" for place in range(count)], dtype=object)
    time = 10.0 + 0.1 * np.arange(count)
    made = Answers(
        time, names, np.zeros(count, dtype=np.int64), names, np.where(mine, "challenger", "champion"), np.zeros(count, dtype=bool),
        rng.gamma(4, 0.5, count), np.column_stack([1 - said, said]), (rng.random(count) < truly).astype(float), {},
    )  # fmt: skip
    return made, [float(start) - SETTLE_S for start in time[::1000]]


def test_hours_in_which_a_challenger_had_most_of_its_units_are_no_fault_of_its() -> None:
    hours = np.sin(np.arange(12) / 2)
    answers, batches = in_batches(0.3 + 0.2 * hours, 0.5 + 0.4 * hours, np.ones(12))
    policy = Policy(guardrails={"drift": Guardrail(figure="drift", worse_by=0.2), "quality": Guardrail(figure="quality", worse_by=0.1)})
    found = evidence_of(policy, HALF, 0.0, answers, splits_evenly=False, batches=batches)
    assert not found.broken
    # The same by plain means, as if shares had been the same all the time.
    plain = evidence_of(policy, HALF, 0.0, answers, splits_evenly=False, batches=batches[:1])
    assert {each.guardrail for each in plain.broken} == {"drift", "quality"}


@pytest.mark.parametrize(("slower_by", "is_broken"), [(0.0, False), (60.0, True)])
def test_hours_in_which_all_answers_were_slow_are_no_fault_of_who_had_most_units_then(slower_by: float, is_broken: bool) -> None:
    hours = np.sin(np.arange(12) / 2)
    answers, batches = in_batches(np.full(12, 0.2), 0.5 + 0.4 * hours, np.ones(12))
    slow = answers._replace(latency=answers.latency + np.repeat(40 + 40 * hours, 1000) + slower_by * (answers.arm == "challenger"))
    policy = Policy(guardrails={name: Guardrail(figure=f"latency.{name}", worse_by=15) for name in ("p50", "p90")}, expected_rows=100_000)
    found = evidence_of(policy, HALF, 0.0, slow, splits_evenly=False, batches=batches)
    assert bool(found.broken) is is_broken
    # By plain quantiles, as if shares had been the same all the time, it is broken even without.
    assert evidence_of(policy, HALF, 0.0, slow, splits_evenly=False, batches=batches[:1]).broken


def test_what_turns_bad_late_is_not_made_up_for_by_what_was_good_before() -> None:
    answers, batches = in_batches(np.full(14, 0.2), np.full(14, 0.5), [*[1.0] * 12, 1.6, 1.6])
    policy = Policy(guardrails={"drift": Guardrail(figure="drift", worse_by=1.0)})
    found = evidence_of(policy, HALF, 0.0, answers, splits_evenly=False, batches=batches[:1])
    [broken] = found.broken
    assert broken.window
    assert f"drift in {broken.window}" in broken.text
    assert not any(each.is_broken for each in found.findings if not each.window)
    good, batches = in_batches(np.full(14, 0.2), np.full(14, 0.5), np.ones(14))
    assert not evidence_of(policy, HALF, 0.0, good, splits_evenly=False, batches=batches[:1]).broken


def test_windows_are_of_so_many_requests_and_units_of_both_and_leave_nothing_out() -> None:
    rng = np.random.default_rng(1)
    answers = Observations.of_answers(answered(rng, 6000, 0.05))
    windows = windows_in(answers, 500, 50)
    assert windows[0][0] == 0
    assert windows[-1][1] == 6000
    assert all(one[1] == other[0] for one, other in pairwise(windows))
    for first, end in windows[:-1]:
        mine = int((answers.arm[first:end] == ARMS.index("challenger")).sum())
        assert end - first >= 500
        assert mine == 100
    assert windows_in(answers.of(np.zeros(6000, dtype=bool)), 500, 50) == []
