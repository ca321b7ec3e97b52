"""Online tests: what is said holds however often one looks, and nothing is said that the table cannot show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.cli import main
from mlops_pipeline.config.experiment import Experiment, Metric, experiment_schema
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.experiments import sequences
from mlops_pipeline.experiments.judging import Findings, judged
from mlops_pipeline.experiments.planning import planned
from mlops_pipeline.experiments.sequences import (
    adjusted,
    best_at,
    bounded_mean,
    difference_of_means,
    holm,
    moments,
    p_of_means,
    p_of_shares,
    quantile_bounds,
)
from mlops_pipeline.experiments.units import read_units
from tests.conftest import REPOSITORY

LOOKS = np.unique(np.geomspace(100, 3000, 80).astype(np.int64))


def sequence(control: np.ndarray, treatment: np.ndarray, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sides = moments(control, LOOKS), moments(treatment, LOOKS)
    rho2 = best_at(6000, alpha)
    interval = difference_of_means(*sides, rho2, alpha, 100)
    return interval.low, interval.high, p_of_means(*sides, rho2, 100)


@pytest.mark.parametrize("draw", ["share", "skewed"])
def test_eighty_looks_at_tests_without_a_difference_alarm_no_oftener_than_asked(draw: str) -> None:
    random = np.random.default_rng(5)
    alarms = 0
    for _ in range(300):
        arms = (random.random((2, 3000)) < 0.1).astype(float) if draw == "share" else random.lognormal(0, 1, (2, 3000))
        low, high, _ = sequence(*arms)
        alarms += bool(((low > 0) | (high < 0)).any())
    assert alarms / 300 <= 0.05


def test_a_plain_z_test_looked_at_as_often_would_have_alarmed_many_times_as_often() -> None:
    random = np.random.default_rng(5)
    alarms = 0
    for _ in range(100):
        one, other = (moments(side, LOOKS) for side in random.normal(size=(2, 3000)))
        z = (other.mean - one.mean) / np.sqrt(one.variance / one.units + other.variance / other.units)
        alarms += bool((abs(z) > 1.96).any())
    assert alarms > 15  # or the test above could not fail


def test_the_true_difference_is_inside_at_every_look_and_is_found() -> None:
    random = np.random.default_rng(6)
    missed = found = 0
    for _ in range(200):
        low, high, _ = sequence(random.normal(size=3000), random.normal(0.15, 1, 3000))
        missed += bool(((low > 0.15) | (high < 0.15)).any())
        found += bool(low[-1] > 0)
    assert missed / 200 <= 0.05
    assert found / 200 > 0.9


@given(st.integers(0, 10_000), st.floats(-0.5, 0.5), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_p_value_is_below_alpha_just_where_an_interval_has_left_zero_out(seed: int, effect: float, alpha: float) -> None:
    random = np.random.default_rng(seed)
    sides = moments(random.normal(size=400), LOOKS[LOOKS <= 400]), moments(random.normal(effect, 1, 400), LOOKS[LOOKS <= 400])
    interval = difference_of_means(*sides, 0.01, alpha, 100)
    outside = (interval.low > 0) | (interval.high < 0)
    p = p_of_means(*sides, 0.01, 100)
    assert (outside == (p < alpha)).all()


def test_running_moments_are_numpys_far_from_zero_too() -> None:
    values = np.random.default_rng(1).normal(1e9, 3, 500)
    made = moments(values, np.array([2, 100, 500]))
    assert made.mean[1] == pytest.approx(values[:100].mean())
    assert made.variance[1] == pytest.approx(values[:100].var(ddof=1), rel=1e-6)


def test_a_quantile_is_inside_at_every_look_whatever_the_distribution() -> None:
    random = np.random.default_rng(2)
    missed = 0
    for _ in range(60):
        made = quantile_bounds(random.exponential(size=3000), LOOKS[::4], 0.9, 0.05)
        missed += bool(((made.low > np.log(10)) | (made.high < np.log(10))).any())
    assert missed / 60 <= 0.05
    assert made.high[-1] - made.low[-1] < 0.8


def test_shares_are_believed_where_they_are_right_and_not_where_they_are_not() -> None:
    random = np.random.default_rng(3)

    def p(share: float) -> float:
        first = np.cumsum(random.random(20_000) < share).astype(float)
        return float(p_of_shares([first, np.arange(1, 20_001) - first], [0.5, 0.5])[-1])

    assert sum(p(0.5) < 0.05 for _ in range(200)) / 200 <= 0.05
    assert max(p(0.53) for _ in range(20)) < 0.001


@given(st.permutations([0.04, 0.01, 0.03, 0.02]))
def test_holm_is_what_r_says_in_any_order(p_values: list[float]) -> None:
    said = {0.01: 0.04, 0.02: 0.06, 0.03: 0.06, 0.04: 0.06}  # p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm")
    assert holm(p_values) == pytest.approx([said[p] for p in p_values])


def test_what_was_known_before_takes_its_share_of_the_variance_and_moves_no_mean() -> None:
    random = np.random.default_rng(4)
    before = random.normal(size=5000)
    values = before + random.normal(size=5000)
    made = adjusted(values, np.where(random.random(5000) < 0.02, np.nan, before))
    assert made.mean() == pytest.approx(values.mean(), abs=0.02)
    assert made.var() == pytest.approx(values.var() / 2, rel=0.1)


@pytest.mark.parametrize(("part", "rate"), [(0.01, 0.01), (0.05, 0.005), (0.1, 0.005)])
def test_a_small_arm_in_which_nothing_rare_has_happened_yet_is_not_convicted(part: float, rate: float) -> None:
    random = np.random.default_rng(9)
    alarms = 0
    for _ in range(60):
        second = random.random(20_000) < part
        seen = np.cumsum(second)[LOOKS * 6 - 1]
        values = (random.random(20_000) < rate).astype(float)
        sides = moments(values[~second], LOOKS * 6 - seen, is_share=True), moments(values[second], seen, is_share=True)
        made = difference_of_means(*sides, best_at(10_000, 0.05), 0.05, 100)
        alarms += bool(((made.low > 0) | (made.high < 0)).any())
    assert alarms / 60 <= 0.05


# ---------------------------------------------------------------------------------------------------------------- tables


def settings(**more: object) -> Experiment:
    given = {"arms": {"A": 1, "B": 1}, "metrics": {"bought": {"column": "bought"}}, "unit": "who", "time": "at", **more}
    return Experiment.model_validate(given)


def table(folder: Path, count: int = 4000, lift: float = 0.1, lost: float = 0.0) -> Path:
    random = np.random.default_rng(8)
    arm = random.integers(0, 2, count)
    frame = pl.DataFrame(
        {
            "who": [f"u{k}" for k in range(count)],
            "arm": np.where(arm == 1, "B", "A"),
            "at": [f"2024-03-{1 + k * 20 // count:02} 10:00:00" for k in range(count)],
            "bought": np.where(random.random(count) < 0.2 + lift * arm, "yes", "no"),
            "seconds": random.lognormal(3, 0.4, count),
            "land": np.where(random.random(count) < 0.5, "DE", "FR"),
        }
    )
    path = folder / "outcomes.csv"
    frame.filter(pl.Series((arm == 0) | (random.random(count) >= lost))).write_csv(path, separator=";")
    return path


def ended(folder: Path, command: str, source: str, *options: str) -> object:
    """How a command on a folder's test ended."""
    with pytest.raises(SystemExit) as ended:
        main(["experiment", command, "-c", str(folder / "test.yaml"), "--input", str(folder / source), *options])
    return ended.value.code


def test_a_better_arm_that_keeps_its_guardrail_is_to_be_taken(tmp_path: Path) -> None:
    test = settings(
        metrics={
            "bought": {"column": "bought"},
            "slow": {"column": "seconds", "quantile": 0.9, "better": "lower", "role": "guardrail", "no_worse_by": 30},
        },
        slices=("land",),
    )
    done = judged(test, read_units(table(tmp_path), test, "test.yaml"))
    assert (done.verdict, done.winner) == ("treatment", "B")
    assert [each.word for each in done.comparisons] == ["better", "holds"]
    assert {(each.column, each.value) for each in done.slices} == {("land", "DE"), ("land", "FR")}
    assert all(each.false_discovery is not None and each.false_discovery < 0.05 for each in done.slices)


def test_a_worse_arm_is_not_and_one_that_nobody_can_tell_apart_is_waited_for(tmp_path: Path) -> None:
    test = settings()
    assert judged(test, read_units(table(tmp_path, lift=-0.1), test, "")).verdict == "control"
    waiting = judged(test, read_units(table(tmp_path, lift=0.0), test, ""))
    assert (waiting.verdict, waiting.winner) == ("go_on", None)
    assert judged(test, read_units(table(tmp_path, count=150), test, "")).comparisons[0].word == "too_few"


def test_arms_that_lost_units_are_not_judged_whatever_their_figures_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test.yaml").write_text(settings().model_dump_json())
    source = table(tmp_path, count=20_000, lost=0.2)
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "report", "-c", str(tmp_path / "test.yaml"), "--input", str(source), "--output", str(tmp_path / "r.html")])
    assert ended.value.code == 1
    assert "did not get their shares" in capsys.readouterr().out
    facts = json.loads((tmp_path / "r.json").read_text())
    assert (facts["verdict"], facts["metrics"]) == ("cannot_judge", [])
    assert "better" not in (tmp_path / "r.html").read_text().partition("</style>")[2].partition("<style>")[0]


def test_units_count_once_torn_ones_not_at_all_and_what_is_not_known_is_told(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "who": ["a", "a", "b", "c", "c", None, "d"],
            "arm": ["A", "A", "B", "A", "B", "A", "B"],
            "at": ["2024-01-02", "2024-01-01", "2024-01-03", "2024-01-01", "2024-01-02", "2024-01-01", "2024-01-01"],
            "bought": ["1.5", "2", "3", "1", "1", "1", ""],
        }
    )
    rows.write_csv(tmp_path / "t.csv")
    test = settings(metrics={"bought": {"column": "bought", "per_unit": "sum"}})
    units = read_units(tmp_path / "t.csv", test, "")
    assert units.arm.tolist() == [0, 1, 1]
    assert np.array_equal(units.values["bought"], [3.5, np.nan, 3.0], equal_nan=True)  # in order of each unit's first time
    assert any("1 units are in more than one arm and are left out with their 2 rows" in note for note in units.notes)
    assert any("1 of 7 rows have no 'who'" in note for note in units.notes)


def test_p_values_of_goals_are_corrected_for_those_goals_too_that_have_none(tmp_path: Path) -> None:
    """Interval and p-value of a goal are of the same family: a quantile beside it is asked as well."""
    source, bought = table(tmp_path, lift=0.06), {"bought": {"column": "bought"}}
    alone, beside = (
        settings(metrics=bought),
        settings(metrics={**bought, "slow": {"column": "seconds", "quantile": 0.5, "better": "lower"}}),
    )
    one, two = (judged(test, read_units(source, test, "")).comparisons for test in (alone, beside))
    assert one[0].p_value is not None
    assert two[0].p_value is not None
    assert two[1].p_value is None
    assert 0 < one[0].p_value[-1] < 0.5
    rho2 = best_at(10_000, 0.025)  # at half of alpha the sequence is tuned otherwise
    units = read_units(source, beside, "")
    sides = [moments(units.values["bought"][units.arm == arm], np.array([(units.arm == arm).sum()]), is_share=True) for arm in (0, 1)]
    assert two[0].p_value[-1] == pytest.approx(2 * p_of_means(sides[0], sides[1], rho2, 100)[-1])


def test_what_was_known_before_is_taken_off_alike_in_all_arms_and_a_figure_of_after_is_told(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    arm, before = random.integers(0, 3, 3000), random.normal(50, 10, 3000)
    spend = before + random.normal(0, 5, 3000) + 4.0 * (arm == 1)
    frame = pl.DataFrame({"arm": np.array(["A", "B", "C"])[arm], "spend": spend, "before": before, "after": spend * 0.9})
    frame.write_csv(tmp_path / "t.csv")

    def done(name: str) -> Findings:
        metrics = {"spend": {"column": "spend", "before": name}}
        test = settings(arms={"A": 1, "B": 1, "C": 1}, metrics=metrics, unit=None, time=None)
        return judged(test, read_units(tmp_path / "t.csv", test, ""))

    honest = done("before")
    assert [each.word for each in honest.comparisons] == ["better", "not_decided"]
    assert len({each.levels[0] for each in honest.comparisons}) == 1
    assert not honest.notes
    [note] = done("after").notes
    assert note.startswith("'after' differs between A and B more than chance would have it")


def test_a_figure_that_does_not_vary_is_not_said_to_have_too_few_units(tmp_path: Path) -> None:
    test = settings(metrics={"bought": {"column": "bought"}, "price": {"column": "price", "role": "guardrail", "no_worse_by": 1}})
    pl.read_csv(table(tmp_path), separator=";").with_columns(price=pl.lit(5)).write_csv(tmp_path / "t.csv")
    done = judged(test, read_units(tmp_path / "t.csv", test, ""))
    assert (done.verdict, [each.word for each in done.comparisons]) == ("go_on", ["better", "alike"])
    assert done.why == "not decided yet: price of B"


@pytest.mark.filterwarnings("error")
def test_a_test_of_which_one_arm_alone_has_come_is_told_without_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {
        "slow": {"column": "seconds", "before": "earlier"},
        "late": {"column": "seconds", "quantile": 0.9, "better": "lower"},
    }
    (tmp_path / "test.yaml").write_text(settings(metrics=metrics, slices=("land",)).model_dump_json())
    rows = pl.read_csv(table(tmp_path, count=60), separator=";").filter(pl.col("arm") == "A")
    rows.with_columns(earlier=pl.when(pl.col("seconds") > 12).then(pl.col("seconds")), land=pl.lit(None)).write_csv(tmp_path / "t.csv")
    assert ended(tmp_path, "report", "t.csv", "--output", str(tmp_path / "r.html")) == 0
    said = capsys.readouterr().out
    assert "too few units" in said
    assert "'earlier' is not known of" in said
    assert f"'land' is not known of {rows.height} units" in said
    assert "nan" not in said + (tmp_path / "r.html").read_text().partition("</style>")[2]
    facts = json.loads((tmp_path / "r.json").read_text())
    assert [(each["value"], each["difference"], each["variance_taken_off"]) for each in facts["metrics"]][1] == (None, None, None)


def test_a_report_never_takes_the_place_of_the_table_that_it_is_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test.yaml").write_text(settings().model_dump_json())
    source = tmp_path / "outcomes.json"
    pl.read_csv(table(tmp_path), separator=";").write_ndjson(source)
    before = source.read_bytes()
    assert ended(tmp_path, "report", "outcomes.json", "--output", str(tmp_path / "outcomes.html")) == 2
    assert "would take the place of the table" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_a_table_of_whole_days_has_as_many_units_a_day_as_days_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = settings(metrics={"slow": {"column": "seconds", "least_effect": 3.0, "better": "lower"}})
    (tmp_path / "test.yaml").write_text(test.model_dump_json())
    days = pl.Series([f"2024-03-0{1 + place % 2}" for place in range(4000)])
    pl.read_csv(table(tmp_path), separator=";").with_columns(at=days).write_csv(tmp_path / "t.csv")
    assert ended(tmp_path, "plan", "t.csv", "--json") == 0
    [plan] = json.loads(capsys.readouterr().out)
    assert plan["days"] == pytest.approx(plan["units"] / 2000)


def test_a_guardrail_that_nobody_has_touched_holds(tmp_path: Path) -> None:
    errors = {"column": "failed", "role": "guardrail", "better": "lower", "no_worse_by": 0.01}
    test = settings(metrics={"bought": {"column": "bought"}, "errors": errors})
    pl.read_csv(table(tmp_path), separator=";").with_columns(failed=pl.lit("no")).write_csv(tmp_path / "t.csv")
    done = judged(test, read_units(tmp_path / "t.csv", test, ""))
    assert (done.verdict, done.comparisons[1].word) == ("treatment", "holds")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": {"m": {"column": "x"}, "g": {"column": "y", "role": "guardrail"}}}, "a guardrail needs 'no_worse_by'"),
        ({"metrics": {"m": {"column": "seconds", "least_effect": 1, "quantile": 0.5}}}, "have just that value"),
        ({"metrics": {"m": {"column": "huge", "least_effect": 1}}}, "have no variance that a number holds"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    frame = pl.read_csv(table(tmp_path), separator=";").with_columns(
        seconds=pl.Series([1.0, 3.0, 3.0, 3.0] * 1000), huge=pl.Series([1e300, -1e300] * 2000)
    )
    frame.write_csv(tmp_path / "t.csv")
    with pytest.raises((PipelineError, ValueError), match=said):
        test = settings(**changes)
        planned(test, read_units(tmp_path / "t.csv", test, "", arms=False), None)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("arm", "C", "row 2: 'arm' is 'C', which is no arm of the test (A, B)"),
        ("bought", "maybe", "row 2: 'bought' is 'maybe', which is no number"),
        ("at", "soon", "row 2: 'at' is no moment"),
    ],
)
def test_what_cannot_be_read_is_never_taken_for_missing(tmp_path: Path, column: str, value: str, said: str) -> None:
    rows = pl.DataFrame({"who": ["a", "b"], "arm": ["A", "B"], "at": ["2024-01-01", "2024-01-02"], "bought": ["1", "0"]})
    rows.with_columns(pl.Series(column, [rows[column][0], value])).write_csv(tmp_path / "t.csv")
    with pytest.raises(PipelineError) as error:
        read_units(tmp_path / "t.csv", settings(), "")
    assert said in str(error.value)


def test_a_figure_is_read_as_its_metric_says_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("who;arm;at;bought\na;A;2024-01-01;1.234,5\nb;B;2024-01-02;-0,25\n")
    with pytest.raises(PipelineError, match=r"'bought' is '1.234,5', which is no number.* metrics\.bought\.format"):
        read_units(tmp_path / "t.csv", settings(), "")
    told = settings(metrics={"bought": {"column": "bought", "format": "1.234,5"}})
    assert read_units(tmp_path / "t.csv", told, "").values["bought"].tolist() == [1234.5, -0.25]
    with pytest.raises(ValueError, match=r"does not say how 1234\.5 is written"):
        Metric(column="x", format="comma")


def test_a_plan_needs_more_than_one_look_would_and_keeps_its_word_on_the_users_own_rows(tmp_path: Path) -> None:
    test = settings(metrics={"slow": {"column": "seconds", "least_effect": 2.0, "better": "lower"}}, time=None)
    plan = planned(test, read_units(table(tmp_path), test, "", arms=False), per_day=100)[0]
    assert plan.units is not None
    assert plan.fixed_units < plan.units < 3 * plan.fixed_units
    assert plan.reached >= test.power
    assert plan.false_alarms <= test.alpha
    assert plan.days == pytest.approx(plan.units / 100)
    three = settings(arms={"A": 1, "B": 1, "C": 2}, metrics=test.model_dump()["metrics"], time=None)
    among = planned(three, read_units(table(tmp_path), three, "", arms=False), per_day=100)[0]
    assert among.fixed_units > 2 * plan.fixed_units  # half of the units go to C
    with pytest.raises(PipelineError, match=r"metrics\.bought: has no least_effect"):
        planned(settings(), read_units(table(tmp_path), settings(), "", arms=False), None)


def test_settings_say_in_one_line_what_is_wrong_with_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test.yaml").write_text("arms: {A: 1, B: 0}\nmetrics: {m: {column: x}}\n")
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "plan", "-c", str(tmp_path / "test.yaml"), "--input", "none.csv"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "every arm needs a weight above zero" in said
    assert said.count("\n") == 1


def test_the_schema_is_the_settings() -> None:
    committed = (REPOSITORY / "configs/experiment_config.schema.json").read_text()
    assert experiment_schema() + "\n" == committed, "mlops config --experiment --schema > configs/experiment_config.schema.json"
    assert Metric(column="x").role == "goal"


def test_bets_on_a_bounded_mean_hold_it_and_say_the_same_of_many_values_by_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of values that are mostly small, and once in a hundred far below: their mean is zero."""
    rng = np.random.default_rng(5)
    values = np.where(rng.random((60, 600)) < 0.01, -0.99, 0.01)
    wrong = [any(bounded_mean(one[:seen], 1.0, 1.0, 0.05).low[0] > 0 for seen in (50, 100, 200, 400, 600)) for one in values]
    assert sum(wrong) <= 3
    many = np.clip(rng.normal(0.01, 0.2, 3000), -1, 1)
    exact = bounded_mean(many, 1.0, 1.0, 0.01)
    assert exact.low[0] < 0.01 < exact.high[0]
    monkeypatch.setattr(sequences, "MANY", 1000)
    by_sums = bounded_mean(many, 1.0, 1.0, 0.01)
    assert np.allclose(exact, by_sums, atol=1e-4)
