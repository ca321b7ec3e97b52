"""The race of ``estimator: auto``: what it chooses, within which time, on which folds, and what it tells of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mlops_pipeline.config.pipeline import Settings, feature_columns
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.modelling import candidates as candidates_of
from mlops_pipeline.modelling import race as race_of
from mlops_pipeline.modelling.calendar_columns import calendar_columns
from mlops_pipeline.modelling.candidates import Candidate, Shape, candidates, lightgbm_params
from mlops_pipeline.modelling.estimators import build_model, fit, fit_estimator, predict
from mlops_pipeline.modelling.fitting import Fitting
from mlops_pipeline.modelling.folds import folds_of
from mlops_pipeline.modelling.frame import model_input
from mlops_pipeline.modelling.race import LEADERS, Entry, _leaders, chosen_of, heats, race
from tests.model_tests.workbench import FEATURES, KINDS, PROBLEMS, Problem, make_twin, raw_table, truth
from tests.unit_tests.workshop import quiet, table_settings

METRICS = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}


def settings_for(problem: Problem, **train: Any) -> Settings:
    columns = {name: column.model_dump(exclude_defaults=True) for name, column in FEATURES.items()}
    y = "number" if problem.task == "regression" else "category"
    settings = table_settings({**columns, "y": y}, task=problem.task)
    named = settings.train.model_copy(update={"estimator": "auto", "params": {}, "threads": 1, **train})
    return settings.model_copy(update={"train": named})


def raced(problem: Problem, rows: int = 520, **train: Any) -> Any:
    table = raw_table(rows)
    settings = settings_for(problem, **train)
    return race(settings, table, model_input(table, feature_columns(settings)), truth(table, problem), quiet())


def one_is_chosen_and_all_is_told(found: Any, problem: Problem) -> None:
    told = found.summary
    assert told["metric"] == METRICS[problem.task]
    names = [each["name"] for each in told["candidates"]]
    assert told["chosen"] in names and told["best"] in names
    chosen = told["candidates"][names.index(told["chosen"])]
    assert (found.train.estimator, found.train.encoder, found.train.params) == (chosen["estimator"], chosen["encoder"], chosen["params"])
    assert {each["state"] for each in told["candidates"]} == {"scored"}
    assert all(len(each["scores"]) == 5 * told["repeats"] for each in told["candidates"])


@pytest.mark.parametrize("name", [name for name in PROBLEMS if not name.startswith("binary")])
def test_one_is_chosen_and_the_whole_race_is_told(name: str) -> None:
    one_is_chosen_and_all_is_told(raced(PROBLEMS[name], time_budget_s=900), PROBLEMS[name])  # whatever else the machine does


def test_of_two_classes_too_and_the_same_seed_chooses_the_same() -> None:
    first, again = (raced(PROBLEMS["binary"], time_budget_s=900) for _ in range(2))
    one_is_chosen_and_all_is_told(first, PROBLEMS["binary"])
    assert first == again


def test_the_time_is_kept_by_what_fits_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that fits alone move: what else the machine does, imports and other tests' threads, is no fit's time."""
    now, fitted_for, fold = [0.0], list[float](), race_of._Track._fold

    def timed(track: Any, candidate: Candidate, place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        _, value, said = fold(track, candidate, place, fitted, scored)
        fitted_for.append(len(fitted) / 50_000)
        now[0] += fitted_for[-1]
        return fitted_for[-1], value, said

    monkeypatch.setattr(race_of, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(race_of._Track, "_fold", timed)
    told = raced(PROBLEMS["multiclass"], rows=1000, time_budget_s=0.5).summary
    assert {each["state"] for each in told["candidates"]} == {"scored", "out of time"}
    assert 0.5 - 5 * max(fitted_for) < now[0] <= 0.5


def test_a_fit_that_takes_as_long_on_few_rows_as_on_many_is_not_left_out_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that fits alone move: a linear model takes a second on any number of rows, which 300 do not tell."""
    now = [0.0]

    def timed(_: object, candidate: Candidate, _place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        seconds = 1.0 if candidate.linear else len(fitted) / 50_000
        now[0] += seconds
        return seconds, 0.5, np.zeros((len(scored), 2))

    monkeypatch.setattr(race_of, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(race_of._Track, "_fold", timed)
    told = raced(PROBLEMS["binary"], rows=3000, time_budget_s=30).summary
    assert {each["state"] for each in told["candidates"]} == {"scored"}


@pytest.mark.parametrize("rows", [600, 3000])
def test_one_that_is_slow_takes_no_time_from_the_others_and_is_scored_if_some_is_left(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """By a clock that fits alone move: the first candidate takes five seconds a fold, all others together eight."""
    now, last = [0.0], list[str]()

    def timed(_: object, candidate: Candidate, _place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        last.append(candidate.name)
        seconds = 5.0 if candidate.name == "logistic, strong penalty" else len(fitted) / rows / 4
        now[0] += seconds
        return seconds, 0.5, np.zeros((len(scored), 2))

    monkeypatch.setattr(race_of, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(race_of._Track, "_fold", timed)
    for budget, state in ((25, "out of time"), (60, "scored")):
        now[0] = 0.0
        told = raced(PROBLEMS["binary"], rows=rows, time_budget_s=budget).summary
        states = {each["name"]: each["state"] for each in told["candidates"]}
        assert states.pop("logistic, strong penalty") == state
        assert set(states.values()) == {"scored"}
        assert now[0] <= budget
    assert last[-1] == "logistic, strong penalty"


def test_a_leader_that_is_slow_waits_for_none_since_without_it_a_heat_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that fits alone move: of 400 rows the forest, which leads, takes seven seconds a fold, what comes after it six."""
    settings, (table, noise), now = by_time(), daily(400, 0), [0.0]
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"time_budget_s": 60})})

    def fold(_: object, candidate: Candidate, place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        leads = candidate.estimator == "random_forest"
        seconds = 0.1 if len(fitted) < 100 else 7.0 if leads else 3.0
        now[0] += seconds
        return seconds, 0.5 if leads else 1.0 + len(candidate.name) / 100, np.zeros(len(scored))

    monkeypatch.setattr(race_of, "FIRST_ROWS", 100)
    monkeypatch.setattr(race_of, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(race_of._Track, "_fold", fold)
    told = race(settings, table, model_input(table, feature_columns(settings)), noise, quiet()).summary
    assert told["rows"] == 400 and now[0] <= 60


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((300, 1.0), (900, 1.0), 1.0),
        ((300, 9.0), (900, 2.0), 2.0),
        ((300, 1.0), (900, 3.0), 10.0),
        ((300, 2.0), (900, 3.0), 6.5),
        ((300, 1.0), (900, 9.0), 100.0),
        ((300, 0.0), (900, 0.6), 2.7),
    ],
)
def test_what_many_rows_take_is_told_by_two_fits_on_few(first: tuple[int, float], second: tuple[int, float], expected: float) -> None:
    assert race_of.seconds_by_two(3000, first, second) == pytest.approx(expected)


def test_loading_pytorch_is_no_part_of_what_a_fit_is_expected_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now, fits = [0.0], list[int]()

    def fold(_: object, _candidate: Candidate, _place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        seconds = len(fitted) / 1000 + (0 if fits else 10)
        fits.append(len(fitted))
        now[0] += seconds
        return seconds, 0.5, np.zeros((len(scored), 2))

    monkeypatch.setattr(race_of, "candidates", lambda *_: (Candidate("TabM", "torch_tabm", "native"),))
    monkeypatch.setattr(race_of, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(race_of._Track, "_fold", fold)
    told = raced(PROBLEMS["binary"], rows=2000, time_budget_s=60).summary
    assert [each["state"] for each in told["candidates"]] == ["scored"]
    assert len(fits) == 2 + 5


def test_who_time_cut_off_is_told() -> None:
    found = raced(PROBLEMS["multiclass"], rows=3000, time_budget_s=0.5)
    assert "out of time" in {each["state"] for each in found.summary["candidates"]}
    assert all(each["why"] for each in found.summary["candidates"] if each["state"] == "out of time")


def entry(mean: float, *offsets: float) -> Entry:
    return Entry(candidates("binary", Shape(100, 2))[0], 100, [mean + offset for offset in offsets], 1.0, "scored")


def test_the_simplest_within_one_standard_error_of_the_best_is_chosen() -> None:
    close, best = entry(0.808, 0.02, -0.02, 0.0), entry(0.81, -0.02, 0.02, 0.0)
    assert chosen_of([close, best], 1.0, 1) is close
    behind = entry(0.80, -0.02, 0.02, 0.0)  # by the same on every fold
    assert chosen_of([behind, best], 1.0, 1) is best
    assert chosen_of([best, behind], -1.0, 1) is behind


@pytest.mark.parametrize(("sign", "simple", "best"), [(1.0, 0.80, 0.81), (-1.0, 11.3, 10.9)])
def test_what_three_folds_hardly_tell_costs_no_more_than_next_to_nothing(sign: float, simple: float, best: float) -> None:
    entries = [entry(simple, 0.6, -0.6, 0.0), entry(best, -0.6, 0.6, 0.0)]
    assert chosen_of(entries, sign, 1) is entries[1]


def test_a_network_that_folds_do_not_tell_from_boosting_does_not_take_its_place() -> None:
    boosting, network = Candidate("LightGBM", "lightgbm", "ordinal"), Candidate("TabM", "torch_tabm", "native")
    entries = [Entry(each, 100, scores, 1.0) for each, scores in ((boosting, [0.80, 0.78, 0.79]), (network, [0.79, 0.80, 0.79]))]
    leaders = race_of.leaders_of_families(entries, 1.0)
    assert [each.candidate for each in leaders] == [network, boosting]
    assert chosen_of([each for each in entries if each in leaders], 1.0, 1).candidate == boosting


def test_a_fold_without_a_score_is_left_out_of_the_comparison_and_of_no_other() -> None:
    nan = float("nan")
    simple, best = entry(0.0, 0.70, nan, 0.82, 0.80), entry(0.0, 0.71, 0.10, 0.81, 0.81)
    assert chosen_of([simple, best], 1.0, 1) is simple
    # Behind on every fold that both have; its own mean would be the better one.
    behind, ahead = entry(0.0, nan, 0.80, 0.80, 0.80), entry(0.0, 0.10, 0.90, 0.90, 0.90)
    assert chosen_of([behind, ahead], 1.0, 1) is ahead
    told = behind.as_json(1)
    assert (told["scores"], told["mean"], told["standard_error"]) == ([None, 0.8, 0.8, 0.8], 0.8, 0.0)


def test_folds_that_are_cut_again_are_no_new_rows_in_the_report_either() -> None:
    once, again = entry(0.8, -0.02, 0.02), entry(0.8, *([-0.02, 0.02] * 4))
    assert once.as_json(1)["standard_error"] == pytest.approx(0.02)
    assert again.as_json(4)["standard_error"] == pytest.approx(np.std([-0.02, 0.02] * 4, ddof=1) / np.sqrt(2), abs=1e-6)


def test_where_folds_do_not_tell_families_apart_their_mean_is_chosen_and_served() -> None:
    rng = np.random.default_rng(0)
    table = raw_table(90)
    settings = settings_for(PROBLEMS["binary"], time_budget_s=900)
    x = model_input(table, feature_columns(settings))
    y = (table["size"].fill_null(0).to_numpy() + 2 * rng.normal(size=90) > 0).astype(int)  # more noise than folds can see through
    found = race(settings, table, x, y, quiet())
    told = found.summary["candidates"][-1]
    assert found.train.estimator == told["estimator"] == "blend"
    assert found.summary["chosen"] == told["name"]
    members = found.train.params["members"]
    assert len({each["estimator"] for each in members}) == len(members) > 1
    assert len(told["scores"]) == 5 * found.summary["repeats"]
    model = fit(build_model("blend", "binary", FEATURES, found.train.params, 0, found.train.encoder), x, y, 1)
    alone = [fit(build_model(each["estimator"], "binary", FEATURES, each["params"], 0, each["encoder"]), x, y, 1) for each in members]
    assert np.allclose(predict(model, x, "binary"), np.mean([predict(one, x, "binary") for one in alone], axis=0))
    assert make_twin(model, KINDS, x, predict(model, x, "binary"), "binary", 1e-5).accepted


def test_a_family_that_is_clearly_behind_is_no_part_of_a_mean_and_one_that_is_ahead_is_alone() -> None:
    table = raw_table(400)
    settings = settings_for(PROBLEMS["regression"], time_budget_s=900)
    x = model_input(table, feature_columns(settings))
    found = race(settings, table, x, 3 * table["count"].to_numpy().astype(float) ** 2, quiet())
    assert all(each["estimator"] not in ("ridge", "elastic_net") for each in found.train.params.get("members", [found.train.model_dump()]))


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"estimator": "blend", "params": {"members": [{"estimator": "auto"}]}}, "train.params.members: 'auto' is made of others itself"),
        ({"estimator": "blend", "encoder": "one_hot"}, "train.encoder = 'one_hot': each member of a blend has its own"),
    ],
)
def test_what_a_mean_cannot_be_made_of_is_told_in_one_line(train: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        build_model(train["estimator"], "binary", FEATURES, train.get("params", {}), 0, train.get("encoder"))


def test_a_large_table_is_raced_on_some_of_its_rows_first() -> None:
    assert heats(500) == [500]
    assert heats(20_000) == [4_000, 20_000]
    assert heats(300_000) == [4_000, 20_000, 60_000]


@pytest.mark.parametrize(("task", "rows", "is_tried"), [("regression", 499, False), ("regression", 4_000, True), ("binary", 4_000, False)])
def test_a_number_of_enough_rows_is_also_predicted_with_more_rounds(task: Any, rows: int, *, is_tried: bool) -> None:
    found = {one.name: one.params for one in candidates(task, Shape(rows, 2 if task == "binary" else 0))}
    assert ("LightGBM, more rounds" in found) is is_tried
    if is_tried:
        assert found["LightGBM, more rounds"]["n_estimators"] == 2 * found["LightGBM"]["n_estimators"]


@pytest.mark.parametrize(("task", "rows", "rounds"), [("binary", 20_001, 200), ("regression", 20_001, 200), ("regression", 100_000, 400)])
def test_of_many_rows_more_leaves_are_tried_in_the_last_heat_alone(task: Any, rows: int, rounds: int) -> None:
    shape = Shape(rows, 2 if task == "binary" else 0)
    assert not any(each.of_many for each in candidates(task, replace(shape, rows=20_000)))
    (more,) = [each for each in candidates(task, shape) if each.of_many]
    assert (more.params["num_leaves"], more.params["n_estimators"]) == (127, rounds)


def test_what_is_tried_of_many_rows_alone_is_raced_on_no_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, (table, noise), seen = by_time(), daily(400, 0), dict[str, set[int]]()

    def fold(_: object, candidate: Candidate, place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        seen.setdefault(candidate.name, set()).add(len(fitted) + len(scored))
        return 0.001, 1.0, np.zeros(len(scored))

    monkeypatch.setattr(race_of, "FIRST_ROWS", 100)
    monkeypatch.setattr(candidates_of, "MANY_ROWS", 300)
    monkeypatch.setattr(race_of._Track, "_fold", fold)
    race(settings, table, model_input(table, feature_columns(settings)), noise, quiet())
    assert max(seen["LightGBM, shallow"]) > 100 >= min(seen["LightGBM, shallow"])
    assert min(seen["LightGBM, more leaves"]) > 100


@pytest.mark.parametrize(("rows", "columns", "count"), [(4_999, 60, 5), (5_000, 39, 5), (5_000, 40, 3), (10_000, 2, 3)])
def test_folds_are_fewer_where_each_has_much_to_fit(rows: int, columns: int, count: int) -> None:
    names = [f"n{place}" for place in range(columns)]
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, columns)), columns=names)
    settings = table_settings({**dict.fromkeys(names, "number"), "y": "number"})
    found = folds_of(settings, pl.from_pandas(x), x, np.arange(rows, dtype=float), rows)
    assert (len(found.pairs), found.kind) == (count, f"{count} at random")


def test_equal_rows_are_never_on_both_sides_of_a_fold() -> None:
    settings = settings_for(PROBLEMS["binary"])
    table = pl.concat([raw_table(60)] * 3)
    x, y = model_input(table, feature_columns(settings)), truth(table, PROBLEMS["binary"])
    found = folds_of(settings, table, x, y, len(y))
    assert "equal rows together" in found.kind
    for fitted, scored in found.pairs:
        assert not set(fitted % 60) & set(scored % 60)


def test_rows_of_one_thing_are_never_on_both_sides_of_a_fold() -> None:
    settings = settings_for(PROBLEMS["binary"])
    table = raw_table(180).with_columns(who=pl.int_range(pl.len()) * 7 % 40)
    settings = settings.model_copy(update={"split": settings.split.model_copy(update={"together": ("who",)})})
    x, y = model_input(table, feature_columns(settings)), truth(table, PROBLEMS["binary"])
    found = folds_of(settings, table, x, y, len(y))
    assert "rows of one 'who' together" in found.kind
    who = table["who"].to_numpy()
    assert found.pairs
    for fitted, scored in found.pairs:
        assert not set(who[fitted]) & set(who[scored])


def test_by_time_folds_are_fitted_on_what_came_before() -> None:
    columns = {"when": "datetime", "size": "number", "y": "number"}
    settings = table_settings(columns, time_column="when")
    rule = settings.split.model_copy(update={"kind": "time"})
    settings = settings.model_copy(update={"split": rule})
    order = np.random.default_rng(0).permutation(200)
    table = pl.DataFrame({"when": order, "size": order, "y": order}).with_columns(pl.from_epoch("when", "d"))
    x, y = model_input(table, feature_columns(settings)), order.astype(float)
    found = folds_of(settings, table, x, y, 200)
    assert len(found.pairs) == 5
    assert all(order[fitted].max() < order[scored].min() for fitted, scored in found.pairs)
    assert all(len(fitted) >= 100 for fitted, _ in found.pairs)  # half, so that they tell of a fit on all


@pytest.mark.parametrize("years", [1, 2, 3, 40])
def test_by_time_no_moment_is_on_both_sides_of_a_fold(years: int) -> None:
    """As of the split: of many rows of one year, what is seen of some says much of the others."""
    settings = by_time()
    place = np.random.default_rng(0).permutation(400) % years
    table = pl.DataFrame({"when": [f"{1980 + each}-01-01" for each in place], "size": 0.0}).with_columns(pl.col("when").str.to_datetime())
    found = folds_of(settings, table, model_input(table, feature_columns(settings)), place.astype(float), 400)
    assert bool(found.pairs) is (years > 1)
    assert found.kind == f"{len(found.pairs)} by time"
    assert all(place[fitted].max() < place[scored].min() for fitted, scored in found.pairs)


def test_folds_by_time_that_share_rows_are_no_so_many_witnesses() -> None:
    settings, (table, noise) = by_time(), daily(400, 0)
    found = folds_of(settings, table, model_input(table, feature_columns(settings)), noise, 400)
    assert [len(scored) for _, scored in found.pairs] == [100] * 5
    assert found.times == pytest.approx(2.5)
    at_random = folds_of(settings_for(PROBLEMS["regression"]), raw_table(300), pd.DataFrame({"size": noise[:300]}), noise[:300], 300)
    assert at_random.times == at_random.repeats > 1


def test_the_best_of_trees_goes_on_with_the_best_linear_models() -> None:
    linear, trees = Candidate("a", "ridge", "one_hot"), Candidate("b", "lightgbm", "ordinal")
    entries = [Entry(each, 100, [score], 1.0, "scored") for each, score in ((linear, 0.9), (linear, 0.8), (trees, 0.6), (trees, 0.7))]
    assert [each.scores for each in _leaders(entries, 2, 1.0)] == [[0.9], [0.7]]
    assert [each.scores for each in _leaders(entries, 3, -1.0)] == [[0.6], [0.7], [0.8]]


def test_the_last_heat_has_the_best_two_and_the_best_linear_model() -> None:
    linear, trees = Candidate("a", "ridge", "one_hot"), Candidate("b", "lightgbm", "ordinal")
    entries = [Entry(each, 100, [score], 1.0, "scored") for each, score in ((linear, 0.5), (linear, 0.6), (trees, 0.9), (trees, 0.8))]
    assert [each.scores for each in _leaders(entries, LEADERS[-1], 1.0)] == [[0.9], [0.8], [0.6]]


def test_a_column_of_nulls_alone_stops_no_boosting() -> None:
    """A fold by time may hold nothing of what is measured only since."""
    rng = np.random.default_rng(0)
    matrix = np.column_stack([rng.normal(size=300), np.full(300, np.nan)])
    y = (matrix[:, 0] > 0).astype(int)
    estimator = build_model("hist_gradient_boosting", "binary", FEATURES, {}, 0, "ordinal").named_steps["model"]
    said = fit_estimator(estimator, matrix, y, 1, []).predict_proba(np.column_stack([matrix[:, 0], y]))
    assert ((said[:, 1] > 0.5) == (y == 1)).mean() > 0.95


def test_rare_levels_of_native_categories_are_fitted_without_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    matrix = np.column_stack([rng.normal(size=300), rng.integers(-1, 4, 300).astype(float)])
    estimator = build_model("lightgbm", "regression", FEATURES, {"n_estimators": 3}, 0, "native").named_steps["model"]
    fit_estimator(estimator, matrix, matrix[:, 0], 1, [1])
    assert capfd.readouterr() == ("", "")


def test_a_number_that_is_a_sum_of_others_is_learned_to_the_digit() -> None:
    """Any penalty that is felt takes from every addend."""
    rng = np.random.default_rng(0)
    names = [f"n{place}" for place in range(20)]
    table = pl.DataFrame({name: rng.normal(size=600) * 10 ** rng.uniform(-1, 1) for name in names})
    settings = table_settings({**dict.fromkeys(names, "number"), "y": "number"}, task="regression")
    named = settings.train.model_copy(update={"estimator": "auto", "params": {}, "threads": 1, "time_budget_s": 900})
    settings = settings.model_copy(update={"train": named})
    y = table.sum_horizontal().to_numpy()
    found = race(settings, table, model_input(table, feature_columns(settings)), y, quiet())
    told = {each["name"]: each["mean"] for each in found.summary["candidates"]}
    assert told["ridge, weak penalty"] < 0.05 * told["ridge"]
    assert found.summary["chosen"] == "ridge, weak penalty"


@pytest.mark.parametrize("of", ["states of six rows each", "wavelengths that all but say the same"])
def test_few_rows_are_learned_of_with_next_to_no_penalty_too_where_folds_say_so(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    if of.startswith("states"):
        place = np.arange(240) % 40
        table, y = pl.DataFrame({"state": [f"s{each}" for each in place]}), 10.0 * rng.normal(size=40)[place] + 0.5 * rng.normal(size=240)
    else:
        level, bend = rng.normal(size=(2, 120))
        waves = {f"w{place}": level + 0.01 * bend * place + 1e-4 * rng.normal(size=120) for place in range(20)}
        table, y = pl.DataFrame(waves), 10.0 * bend + 0.1 * rng.normal(size=120)
    settings = table_settings({**{name: "category" if name == "state" else "number" for name in table.columns}, "y": "number"})
    named = settings.train.model_copy(update={"estimator": "auto", "params": {}, "threads": 1, "time_budget_s": 900})
    settings = settings.model_copy(update={"train": named})
    monkeypatch.setattr(race_of, "candidates", lambda *shape: tuple(each for each in candidates(*shape) if each.linear))
    found = race(settings, table, model_input(table, feature_columns(settings)), y, quiet())
    told = {each["name"]: each["mean"] for each in found.summary["candidates"]}
    assert told["ridge, weak penalty"] < 0.7 * told["ridge"]
    assert found.summary["chosen"] == "ridge, weak penalty"


def test_of_two_classes_too_a_weak_penalty_learns_what_numbers_that_all_but_say_the_same_differ_by(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    level, bend = rng.normal(size=(2, 200))
    table = pl.DataFrame({f"w{place}": level + 0.002 * bend * place + 1e-4 * rng.normal(size=200) for place in range(20)})
    settings = table_settings({**dict.fromkeys(table.columns, "number"), "y": "category"}, task="binary")
    named = settings.train.model_copy(update={"estimator": "auto", "params": {}, "threads": 1, "time_budget_s": 900})
    settings = settings.model_copy(update={"train": named})
    monkeypatch.setattr(race_of, "candidates", lambda *shape: tuple(each for each in candidates(*shape) if each.linear))
    y = (bend + 0.3 * rng.normal(size=200) > 0).astype(int)
    found = race(settings, table, model_input(table, feature_columns(settings)), y, quiet())
    told = {each["name"]: each["mean"] for each in found.summary["candidates"]}
    assert told["logistic, weak penalty"] > told["logistic"] + 0.02
    assert found.summary["chosen"] == "logistic, weak penalty"


@pytest.mark.parametrize(
    ("shape", "is_tried"),
    [
        (Shape(99, 2), False),
        (Shape(100, 2), True),
        (Shape(9_000, 9, 200), True),
        (Shape(9_000, 2, 201), False),
        (Shape(9_000, 2, texts=1), False),
    ],
)
def test_a_weak_penalty_is_tried_of_enough_rows_and_where_it_takes_no_long_time(shape: Shape, *, is_tried: bool) -> None:
    assert ("logistic, weak penalty" in {each.name for each in candidates("binary", shape)}) is is_tried


def test_boosting_of_many_rows_learns_from_all_of_them() -> None:
    """Unasked, histogram gradient boosting holds some back, by which it may end when it has hardly begun."""
    (one,) = [each for each in candidates("regression", Shape(10_400)) if each.estimator == "hist_gradient_boosting"]
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(10_400, 3))
    y = 0.05 * matrix[:, 0] + rng.normal(size=10_400)
    estimator = build_model(one.estimator, "regression", FEATURES, one.params, 0, one.encoder).named_steps["model"]
    fit_estimator(estimator, matrix, y, 1, [])
    assert estimator.n_iter_ == one.params["max_iter"]


def test_boosting_that_would_take_too_long_is_cut_to_fewer_rounds() -> None:
    boosting = Candidate("LightGBM", "lightgbm", "ordinal", {"n_estimators": 200, "learning_rate": 0.05, "num_leaves": 31})
    cut = boosting.with_share_of_trees(0.25, 10)
    assert cut is not None
    assert (cut.name, cut.params) == ("LightGBM, cut to 50 rounds", {"n_estimators": 50, "learning_rate": 0.2, "num_leaves": 31})
    again = cut.with_share_of_trees(0.5, 10)
    assert again is not None
    assert (again.name, again.params["learning_rate"]) == ("LightGBM, cut to 25 rounds", 0.3)
    assert boosting.with_share_of_trees(0.01, 10) is None
    assert Candidate("forest", "random_forest", "ordinal", {"min_samples_leaf": 5}).with_share_of_trees(0.5, 10) is None


@pytest.mark.parametrize(
    ("size", "task", "kind"),
    [
        ([1.0], "binary", "stratified"),
        ([1.0], "regression", "stratified"),
        ([1.0], "regression", "time"),
        ([1.0, 2.0], "binary", "stratified"),
        ([1.0, 2.0], "binary", "time"),
        ([1.0, 2.0], "regression", "time"),
        ([5.0] * 40, "binary", "stratified"),
        ([5.0] * 40, "regression", "stratified"),
    ],
)
def test_rows_that_give_no_fold_get_the_simplest_candidate(size: list[float], task: str, kind: str) -> None:
    y = "number" if task == "regression" else "category"
    settings = table_settings({"when": "datetime", "size": "number", "y": y}, task=task, time_column="when")
    named = settings.train.model_copy(update={"estimator": "auto", "params": {}, "threads": 1})
    unused = settings.features.model_copy(update={"exclude": ("when",)})
    settings = settings.model_copy(update={"train": named, "split": settings.split.model_copy(update={"kind": kind}), "features": unused})
    table = pl.DataFrame({"when": range(len(size)), "size": size}).with_columns(pl.from_epoch("when", "d"))
    truths = np.arange(len(size)) % 2 if task == "binary" else np.ones(len(size))
    x = model_input(table, feature_columns(settings))
    raced = race(settings, table, x, truths, quiet())
    assert raced.summary["chosen"] == raced.summary["candidates"][0]["name"]
    assert {each["why"] for each in raced.summary["candidates"]} == {f"{len(size)} rows give no fold to fit on and to score"}


def test_every_candidate_of_many_levels_is_fitted_and_its_twin_agrees() -> None:
    rng = np.random.default_rng(0)
    table = raw_table(2000).with_columns(kind=pl.Series(rng.integers(0, 60, 2000)).cast(pl.String))
    effect = rng.normal(size=60)[table["kind"].cast(pl.Int64).to_numpy()]
    x = model_input(table, FEATURES)
    unseen = x.assign(kind=x["kind"].where(x.index % 10 != 0, "never seen"))
    for task, y in (("binary", (effect > 0).astype(int)), ("regression", effect)):
        for each in candidates(task, Shape(2000, 2 if task == "binary" else 0, 60)):  # type: ignore[arg-type]
            params = {**each.params, **({"n_estimators": 20} if "n_estimators" in each.params else {})}
            model = fit(build_model(each.estimator, task, FEATURES, params, 0, each.encoder), x, y, 1)  # type: ignore[arg-type]
            twin = make_twin(model, KINDS, unseen, predict(model, unseen, task), task, 1e-4)  # type: ignore[arg-type]
            assert twin.accepted, (each.name, twin.reason)


def test_thirty_rows_grow_a_tree_and_a_rare_class_of_many_keeps_its_leaves_small() -> None:
    assert lightgbm_params(Shape(30))["min_child_samples"] == 2
    rng = np.random.default_rng(0)
    table = raw_table(4000).with_columns(kind=pl.Series(rng.choice(300, 4000)).cast(pl.String))
    y = np.where(table["kind"].cast(pl.Int64).to_numpy() < 150, "cat", "dog").astype(object)
    y[rng.choice(4000, 12, replace=False)] = "goat"
    x = model_input(table, FEATURES)
    model = fit(build_model("lightgbm", "multiclass", FEATURES, lightgbm_params(Shape(4000, 3, 300)), 0), x, y, 1)
    assert (model.predict(x) == y).mean() > 0.98
    assert model.named_steps["model"].booster_.trees_to_dataframe()["value"].abs().max() < 20


def test_parameters_of_its_own_are_refused_in_one_line(tmp_path: Path) -> None:
    from mlops_pipeline.config.pipeline import settings_of
    from tests.unit_tests.workshop import content_with

    content = content_with()
    content["train"] = {"estimator": "auto", "params": {"n_estimators": 5}}
    with pytest.raises(PipelineError, match=r"train.params.n_estimators: 'auto' finds parameters itself") as caught:
        settings_of(content, str(tmp_path / "pipeline.yaml"))
    assert "\n" not in str(caught.value)


def by_time() -> Settings:
    settings = table_settings({"when": "datetime", "size": "number", "y": "number"}, task="regression", time_column="when")
    return settings.model_copy(
        update={
            "split": settings.split.model_copy(update={"kind": "time"}),
            "features": settings.features.model_copy(update={"time_column": True}),
            "train": settings.train.model_copy(update={"estimator": "auto", "params": {}, "threads": 1, "time_budget_s": 900}),
        }
    )


def daily(rows: int, seed: int) -> tuple[pl.DataFrame, Any]:
    """A table with a row a day, and noise."""
    rng = np.random.default_rng(seed)
    days, size = np.arange(rows), rng.normal(size=rows)
    table = pl.DataFrame({"when": days, "size": size}).with_columns(pl.from_epoch("when", "d").cast(pl.Datetime("us")))
    return table, rng.normal(size=rows)


@pytest.mark.parametrize("helps", [True, False])
def test_a_calendar_is_given_to_the_model_only_if_folds_in_time_say_that_it_helps(*, helps: bool) -> None:
    settings, (table, noise) = by_time(), daily(400, 0)
    y = table["size"].to_numpy() + 0.3 * noise + (3.0 * (np.arange(400) % 7 > 4) if helps else 0.0)
    found = race(settings, table, model_input(table, feature_columns(settings)), y, quiet())
    assert found.summary["moments"]["kept"] is helps
    assert found.left_out == (() if helps else ("when",))
    assert found.summary["left_out"] == list(found.left_out)


def test_rows_that_are_held_back_of_a_fold_are_its_last_by_time_as_of_a_fit_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, (table, _), seen = by_time(), daily(400, 0), list[tuple[Any, Any]]()
    table, y = table[::-1], np.arange(400)[::-1].astype(float)

    def noted(estimator: Any, matrix: Any, y: Any, threads: Any, categories: Any, during: Fitting) -> Any:
        seen.append((y, during.moments))
        return fit_estimator(estimator, matrix, y, threads, categories, during)

    monkeypatch.setattr(race_of, "fit_estimator", noted)
    race(settings, table, model_input(table, feature_columns(settings)), y, quiet())
    assert seen
    assert all(np.array_equal(np.argsort(moments), np.argsort(days)) for days, moments in seen)


def test_numbers_that_say_the_calendar_again_are_left_out_with_it_and_no_others() -> None:
    days = np.arange(800) // 2
    moments = np.datetime64("2022-12-30") + days
    months = moments.astype("datetime64[M]").astype(int) % 12 + 1.0
    rng = np.random.default_rng(0)
    columns = {
        "month": months,
        "day": (moments - moments.astype("datetime64[M]")).astype(float),
        "decimal year": 2022 + days / 365,
        "price of that month": rng.normal(size=13)[np.unique(moments.astype("datetime64[M]"), return_inverse=True)[1] % 13],
        "weekend": (days % 7 > 4).astype(float),
        "before the new year": (months == 12).astype(float),
        "seldom": (rng.random(800) < 0.01).astype(float) * rng.integers(1, 4, 800),
        "size": rng.normal(size=800),
        "empty": np.full(800, np.nan),
    }
    table = pl.DataFrame({"when": moments, **columns}).sample(fraction=1, shuffle=True, seed=0)
    assert calendar_columns(table, "when", columns) == ("month", "decimal year")


def test_a_month_in_a_column_of_its_own_is_raced_with_the_moments() -> None:
    """It alone would be taken for the last one that training saw, in all that come."""
    settings, (table, noise) = by_time(), daily(400, 0)
    month = table["when"].dt.month().cast(pl.Float64)
    table = table.with_columns(month=month)
    columns = {**settings.dataset.columns, "month": settings.dataset.columns["size"]}
    settings = settings.model_copy(update={"dataset": settings.dataset.model_copy(update={"columns": columns})})
    y = table["size"].to_numpy() + 0.3 * noise
    found = race(settings, table, model_input(table, feature_columns(settings)), y, quiet())
    assert found.summary["moments"]["columns"] == ["when", "month"]
    assert set(found.left_out) == {"when", "month"}


def test_a_calendar_that_is_left_out_is_left_out_of_a_mean_too() -> None:
    settings, (table, noise) = by_time(), daily(120, 3)
    found = race(settings, table, model_input(table, feature_columns(settings)), np.abs(table["size"].to_numpy()) + 3.0 * noise, quiet())
    assert found.train.estimator == "blend" and not found.summary["moments"]["kept"]
    assert found.left_out == ("when",) and found.summary["left_out"] == ["when"]
    assert found.summary["candidates"][-1]["without"] == ["when"]


def test_what_is_slow_on_few_rows_leaves_time_for_a_heat_of_more(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, (table, noise), now = by_time(), daily(400, 0), [0.0]
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"time_budget_s": 60})})

    def fold(_: object, candidate: Candidate, place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        seconds = len(fitted) / (5 if candidate.estimator in ("elastic_net", "random_forest") else 300)
        now[0] += seconds
        return seconds, 0.5 if candidate.estimator == "lightgbm" else 1.0, np.zeros(len(scored))

    monkeypatch.setattr(race_of, "FIRST_ROWS", 100)
    monkeypatch.setattr(race_of, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(race_of._Track, "_fold", fold)
    told = race(settings, table, model_input(table, feature_columns(settings)), noise, quiet()).summary
    states = {each["name"]: each["state"] for each in told["candidates"]}
    assert told["rows"] == 400 and now[0] <= 60
    assert (states["forest"], states["LightGBM"]) == ("out of time", "scored")


@pytest.mark.parametrize("better", [True, False])
def test_a_calendar_is_judged_by_the_families_that_time_does_for(monkeypatch: pytest.MonkeyPatch, *, better: bool) -> None:
    settings, (table, noise), now = by_time(), daily(400, 0), [0.0]
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"time_budget_s": 60})})

    def fold(_: object, candidate: Candidate, place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        seconds = 5.5 if candidate.estimator == "random_forest" else 0.01  # once, and not a second time
        now[0] += seconds
        value = 0.9 if candidate.estimator == "random_forest" else 1.0 if not candidate.without else 0.5 if better else 0.95
        return seconds, value, np.zeros(len(scored))

    monkeypatch.setattr(race_of, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(race_of._Track, "_fold", fold)
    found = race(settings, table, model_input(table, feature_columns(settings)), noise, quiet())
    states = {each["name"]: each["state"] for each in found.summary["candidates"]}
    assert states["forest, without when"] == "out of time"
    assert found.left_out == (("when",) if better else ())
    assert (found.summary["moments"] is None) is not better


def test_what_a_calendar_gains_for_a_family_that_is_clearly_behind_is_no_reason_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, (table, noise) = by_time(), daily(400, 0)

    def fold(_: object, candidate: Candidate, place: int, fitted: Any, scored: Any) -> tuple[float, float, Any]:
        behind = candidate.linear or bool(candidate.trend)
        value = (3.0 if candidate.without else 2.0) if behind else (0.9 if candidate.without else 1.0)
        return 0.001, value + 0.001 * place, np.zeros(len(scored))

    monkeypatch.setattr(race_of._Track, "_fold", fold)
    found = race(settings, table, model_input(table, feature_columns(settings)), noise, quiet())
    assert found.summary["moments"]["gain"] == pytest.approx(-0.1)
    assert found.left_out == ("when",)
