"""Each rule of the promotion gate lets pass what it should, and stops the rest; what was not measured never passes."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from mlops_pipeline.config.pipeline import Gate
from mlops_pipeline.contract.evaluation import Evaluation
from mlops_pipeline.modelling.gate import Rule, decide, decide_again

OFF = {"beat_baseline_by": None, "champion_margin": None}
CHAMPION: dict[str, Any] = {
    "comparable": True,
    "model_sha256": "0123456789abcdef",
    "improvement": {"value": 0.02, "low": -0.005, "high": 0.05},
}
OF_AN_ERROR = {**CHAMPION, "metric": 36000.0, "lower_is_better": True}


def evaluation(**changes: Any) -> Evaluation:
    content = {
        "metric": "roc_auc",
        "confidence": 0.95,
        "test_rows": 1000,
        "improvement_over_baseline": {"value": 0.2, "low": 0.15, "high": 0.25},
        "champion": None,
        "worst_slice": {"column": "kind", "value": "a", "metric": 0.62, "low": 0.5, "high": 0.7},
        "calibration_error": 0.04,
        **changes,
    }
    return msgspec.convert(content, Evaluation)


def decided(
    gate: dict[str, Any], latency_ms: float | None = 3.0, size_mb: float = 2.0, rolled_back: str = "", **changes: Any
) -> dict[str, Rule]:
    rules = decide(Gate(**{**OFF, **gate}), evaluation(**changes), latency_ms=latency_ms, size_mb=size_mb, rolled_back=rolled_back)
    return {rule.name: rule for rule in rules}


RULES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "held-out rows": ("held_out", {}, {}, {"test_rows": 0}),
    "better than the baseline": (
        "baseline",
        {"beat_baseline_by": 0.1},
        {},
        {"improvement_over_baseline": {"value": 0.2, "low": 0.05, "high": 0.3}},
    ),
    "not as good as the baseline": (
        "baseline",
        {"beat_baseline_by": 0.0},
        {},
        {"improvement_over_baseline": {"value": 0, "low": 0.0, "high": 0}},
    ),
    "first champion": (
        "champion",
        {"champion_margin": 0.01},
        {},
        {"champion": {**CHAMPION, "comparable": False, "reason": "another target"}},
    ),
    "a little worse than the champion": (
        "champion",
        {"champion_margin": 0.01},
        {"champion": CHAMPION},
        {"champion": {**CHAMPION, "improvement": {"value": 0.02, "low": -0.011, "high": 0.05}}},
    ),
    "a hundredth of the champion's error, in whatever unit": (
        "champion",
        {"champion_margin": 0.01},
        {"metric": "rmse", "champion": {**OF_AN_ERROR, "improvement": {"value": 50.0, "low": -340.0, "high": 400.0}}},
        {"metric": "rmse", "champion": {**OF_AN_ERROR, "improvement": {"value": 50.0, "low": -370.0, "high": 400.0}}},
    ),
    "a network that is no better than trees": (
        "champion",
        {"champion_margin": 0.01},
        {"champion": {**CHAMPION, "simpler": "lightgbm"}},
        {"champion": {**CHAMPION, "simpler": "lightgbm", "improvement": {"value": -0.001, "low": -0.005, "high": 0.003}}},
    ),
    "worst slice": ("worst_slice", {"worst_slice": 0.6}, {}, {"worst_slice": {"column": "k", "value": "b", "metric": 0.59}}),
    "worst slice, where lower is better": (
        "worst_slice",
        {"worst_slice": 0.6},
        {"metric": "log_loss", "worst_slice": {"column": "k", "value": "b", "metric": 0.59}},
        {"metric": "log_loss"},
    ),
    "calibration": ("calibration", {"max_calibration_error": 0.05}, {}, {"calibration_error": 0.06}),
    "latency": ("latency", {"max_latency_ms": 5}, {}, {"latency_ms": 5.1}),
    "size": ("size", {"max_size_mb": 2}, {}, {"size_mb": 2.1}),
}


@pytest.mark.parametrize("case", RULES)
def test_each_rule_passes_what_it_should_and_stops_the_rest(case: str) -> None:
    name, gate, good, bad = RULES[case]
    if case != "not as good as the baseline":
        assert decided(gate, **good)[name].passed
    assert not decided(gate, **bad)[name].passed
    assert all(rule.passed for other, rule in decided(gate, **bad).items() if other != name)


def test_a_gain_on_few_things_is_not_known_however_many_rows_they_have() -> None:
    unknown = {"value": 0.2, "low": None, "high": None}
    rule = decided({"beat_baseline_by": 0.1}, test_rows=5_000, test_things=7, improvement_over_baseline=unknown)["baseline"]
    assert not rule.passed
    assert "could not be measured; the gain that was measured is 0.2, but 7 groups of held-out rows" in rule.text
    champion = {**CHAMPION, "improvement": {"value": 0.02, "low": -0.05, "high": 0.1}}
    against = decided({"champion_margin": 0.01}, test_rows=5_000, test_things=40, champion=champion)["champion"]
    assert not against.passed
    assert "but 40 groups of held-out rows (split.together) are too few to be sure of it" in against.text


UNMEASURED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "baseline": ("baseline", {"beat_baseline_by": -1}, {"improvement_over_baseline": {"value": None, "low": None, "high": None}}),
    "champion": ("champion", {"champion_margin": 1}, {"champion": {**CHAMPION, "improvement": {"value": None, "low": None, "high": None}}}),
    "worst slice": ("worst_slice", {"worst_slice": 0}, {"worst_slice": {"column": "k", "value": "b", "metric": None}}),
    "calibration": ("calibration", {"max_calibration_error": 1}, {"calibration_error": None}),
    "latency": ("latency", {"max_latency_ms": 1e9}, {"latency_ms": None}),
}


def test_a_margin_in_the_unit_of_an_error_is_no_share_of_it() -> None:
    rule = decided({"champion_margin": 50}, metric="rmse", champion=OF_AN_ERROR)["champion"]
    assert not rule.passed
    assert "write 0.01 for 1 %" in rule.text


@pytest.mark.parametrize("case", UNMEASURED)
def test_what_was_not_measured_never_passes(case: str) -> None:
    name, gate, changes = UNMEASURED[case]
    assert not decided(gate, **changes)[name].passed


def test_nan_is_not_measured_either() -> None:
    nan = {"value": math.nan, "low": math.nan, "high": math.nan}
    rules = decided({"beat_baseline_by": -1, "max_calibration_error": 1}, improvement_over_baseline=nan, calibration_error=math.nan)
    assert not rules["baseline"].passed
    assert not rules["calibration"].passed


def test_slices_too_small_to_judge_do_not_stop_a_version_but_say_so() -> None:
    rule = decided({"worst_slice": 0.99}, worst_slice=None)["worst_slice"]
    assert rule.passed
    assert "no slice" in rule.text


def test_a_version_that_a_person_rolled_back_stays_out() -> None:
    rules = decided({}, rolled_back="2024-05-01T00:00:00Z")
    assert not rules["rolled_back"].passed
    assert "2024-05-01" in rules["rolled_back"].text
    assert "rolled_back" not in decided({})


def test_a_rule_switched_off_is_not_among_the_reasons() -> None:
    assert set(decided({})) == {"held_out"}
    assert set(decided({"beat_baseline_by": 0.0, "champion_margin": 0.0, "max_size_mb": 5})) == {"held_out", "baseline", "champion", "size"}


def test_every_reason_names_the_limit_and_what_was_seen() -> None:
    rules = decided({"beat_baseline_by": 0.1, "worst_slice": 0.6, "max_calibration_error": 0.05, "max_size_mb": 5})
    for name, limit, seen in [
        ("baseline", "0.1", "0.15"),
        ("worst_slice", "0.6", "0.62"),
        ("calibration", "0.05", "0.04"),
        ("size", "5", "2"),
    ]:
        assert limit in rules[name].text
        assert rules[name].text.endswith(f": {seen}")
    assert "kind = a" in rules["worst_slice"].text


def test_latency_is_judged_but_not_quoted_so_that_equal_models_have_equal_reasons() -> None:
    slow, fast = (decided({"max_latency_ms": 100}, latency_ms=latency)["latency"] for latency in (71.234, 3.987))
    assert slow == fast


def test_a_gain_says_that_its_figure_is_the_lower_bound_of_an_interval() -> None:
    rules = decided({"beat_baseline_by": 0.1, "champion_margin": 0.01}, champion=CHAMPION)
    assert rules["baseline"].text == "roc_auc better than the dummy baseline by more than 0.1 (95 % lower bound): 0.15"
    assert rules["champion"].text == "roc_auc against champion 01234567: gain of at least -0.01 (95 % lower bound): -0.005"


def test_a_gain_whose_lower_bound_alone_is_short_says_that_the_rows_are_too_few_to_be_sure() -> None:
    unsure = {"value": 0.05, "low": -0.1, "high": 0.2}
    few = "held-out rows are too few to be sure of it"
    rules = decided(
        {"beat_baseline_by": 0.0, "champion_margin": 0.01}, improvement_over_baseline=unsure, champion={**CHAMPION, "improvement": unsure}
    )
    for name in ("baseline", "champion"):
        assert not rules[name].passed
        assert f": -0.1; the gain that was measured is 0.05, but 1,000 {few}" in rules[name].text
    worse = decided({"champion_margin": 0.01}, champion={**CHAMPION, "improvement": {"value": -0.2, "low": -0.3, "high": -0.1}})
    assert few not in worse["champion"].text
    # Just as good, with no gain asked for: sure of nothing.
    none = decided({"beat_baseline_by": 0.0}, improvement_over_baseline={"value": 0.0, "low": -0.1, "high": 0.1})
    assert few not in none["baseline"].text


def again(gate: dict[str, Any], then: list[Rule], **changes: Any) -> dict[str, Rule]:
    rules = decide_again(Gate(**{**OFF, **gate}), evaluation(**changes), then, latency_ms=3.0, size_mb=2.0)
    return {rule.name: rule for rule in rules}


def test_the_sitting_champion_is_judged_by_todays_gate() -> None:
    then = list(decided({"beat_baseline_by": 0.0}).values())
    assert again({"beat_baseline_by": 0.0}, then)["baseline"].passed
    assert not again({"beat_baseline_by": 0.5}, then)["baseline"].passed
    assert not again({"max_size_mb": 1}, then)["size"].passed
    assert "baseline" not in again({}, then)


def test_the_sitting_champion_is_compared_with_its_predecessor_and_never_with_itself() -> None:
    then = list(decided({"champion_margin": 0.01}, champion=CHAMPION).values())
    assert not again({"champion_margin": 0.001}, then, champion=CHAMPION)["champion"].passed, "today's margin, while the figures are there"
    stored = {rule.name: rule for rule in then}["champion"]
    another = {**CHAMPION, "model_sha256": "f" * 64, "improvement": {"value": -1, "low": -1, "high": -1}}
    for champion in (None, another):
        assert again({"champion_margin": 0.001}, then, champion=champion)["champion"] == stored
    assert "champion" not in again({}, then)


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
@pytest.mark.parametrize("value", ["{unknown}", "{}", "}{", "{0}", "%s"])
def test_a_slice_is_named_as_its_table_names_it(value: str, metric: str) -> None:
    rules = decided({"worst_slice": 0.6}, metric=metric, worst_slice={"column": "{city}", "value": value, "metric": 0.6})
    side = "least" if metric == "roc_auc" else "most"
    assert rules["worst_slice"].text == f"{metric} in the worst slice ({{city}} = {value}) at {side} 0.6: 0.6"
    assert rules["worst_slice"].passed
