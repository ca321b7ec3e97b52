"""Every metric is scikit-learn's, under any weights; intervals and differences mean what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import metrics_of
from mlops_pipeline.modelling.evaluation import dummies_of
from mlops_pipeline.modelling.metrics import (
    Predictions,
    bootstrap,
    bootstrap_with_gain,
    calibration_curve,
    calibration_error,
    calibration_error_by_chance,
    class_indices,
    paired_difference,
    point,
    score,
    share_of,
    weighted,
    wilson,
    worth,
)
from tests.unit_tests.workshop import settings_with

EVERY = plugins.parts(plugins.Metric)
OURS = {name: part for name, part in EVERY.items() if plugins.is_ours(part)}
CLASSIFICATION_METRICS = tuple(name for name, part in OURS.items() if "binary" in part.tasks)
REGRESSION_METRICS = tuple(name for name, part in OURS.items() if "regression" in part.tasks)

FEW = settings(max_examples=100, deadline=None)


@st.composite
def classified(draw: st.DrawFn, classes: int, coarse: bool = True) -> Predictions:
    """Random probabilities from a coarse grid, so that ties are frequent, with every class among the truth."""
    rows = draw(st.integers(classes + 1, 40))
    y = draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    assume(len(set(y)) == classes)
    grid = st.integers(1, 5) if coarse else st.integers(1, 10_000)
    raw = np.array(draw(st.lists(st.lists(grid, min_size=classes, max_size=classes), min_size=rows, max_size=rows)), dtype=float)
    task = "binary" if classes == 2 else "multiclass"
    return Predictions(task, np.array(y), raw / raw.sum(axis=1, keepdims=True), classes - 1)


@st.composite
def numbers(draw: st.DrawFn) -> Predictions:
    rows = draw(st.integers(3, 40))
    offset = draw(st.sampled_from([0.0, 1e3, -1e6, 1e9]))
    value = st.floats(-100, 100).map(lambda x: round(x, 2))
    y, said = (np.array(draw(st.lists(value, min_size=rows, max_size=rows))) for _ in range(2))
    y[0] = y[1] + 1
    return Predictions("regression", y + offset, said + offset)


MAKES = {"binary": classified(2), "multiclass": classified(3), "regression": numbers()}

REGRESSION: dict[str, Any] = {"rmse": reference.root_mean_squared_error, "mae": reference.mean_absolute_error, "r2": reference.r2_score}
RANKED: dict[str, Any] = {"roc_auc": reference.roc_auc_score, "average_precision": reference.average_precision_score}


def by_sklearn(metric: str, made: Predictions) -> float:
    """The metric as scikit-learn computes it; of several classes, the mean over one against the rest."""
    y, said = made.y, made.predicted
    if made.task == "regression":
        return float(REGRESSION[metric](y, said))
    labels, hard = list(range(said.shape[1])), said.argmax(axis=1)
    kinds = [made.positive] if made.task == "binary" else labels
    found = {
        "accuracy": lambda: reference.accuracy_score(y, hard),
        "log_loss": lambda: reference.log_loss(y, said, labels=labels),
        "f1": lambda: reference.f1_score(y, hard, labels=kinds, average="macro", zero_division=0),
        "brier": lambda: sum(reference.brier_score_loss(y == k, said[:, k]) for k in kinds),
    }
    if metric in RANKED:
        return float(np.mean([RANKED[metric](y == k, said[:, k]) for k in kinds]))
    return float(found[metric]())


@pytest.mark.parametrize("metric", CLASSIFICATION_METRICS)
@FEW
@given(made=st.one_of(classified(2), classified(2, coarse=False), classified(3), classified(4)))
def test_classification_metrics_are_scikit_learns(metric: str, made: Predictions) -> None:
    assert point(metric, made) == pytest.approx(by_sklearn(metric, made), abs=1e-9)


@pytest.mark.parametrize("least", [0.0, 1e-300, 1e-12, 1e-8])
def test_a_model_that_is_all_but_sure_and_wrong_pays_for_it_as_by_scikit_learn(least: float) -> None:
    ones = [1 - least, least, 0.3, 0.7]
    made = Predictions("binary", np.array([1, 1, 0, 1]), np.column_stack([1 - np.array(ones), ones]), 1)
    assert point("log_loss", made) == pytest.approx(by_sklearn("log_loss", made), rel=1e-9)


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("metric", CLASSIFICATION_METRICS)
def test_either_class_can_be_the_positive_one(metric: str, positive: int) -> None:
    rng = np.random.default_rng(1)
    said = rng.dirichlet([1, 1], size=60)
    made = Predictions("binary", rng.integers(0, 2, size=60), said, positive)
    assert point(metric, made) == pytest.approx(by_sklearn(metric, made))


@pytest.mark.parametrize("metric", REGRESSION_METRICS)
@FEW
@given(made=numbers())
def test_regression_metrics_are_scikit_learns_wherever_the_numbers_lie(metric: str, made: Predictions) -> None:
    assert point(metric, made) == pytest.approx(by_sklearn(metric, made), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("metric", EVERY)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_weight_is_as_good_as_repeating_the_row(metric: str, data: st.DataObject) -> None:
    made = data.draw(st.one_of([MAKES[task] for task in EVERY[metric].tasks]))
    w = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(made.y), max_size=len(made.y))), dtype=float)
    w[0] = 1
    often = np.repeat(np.arange(len(made.y)), w.astype(int))
    repeated = Predictions(made.task, made.y[often], made.predicted[often], made.positive)
    both = weighted(metric, made, np.stack([w, np.ones(len(w))]))
    assert both[0] == pytest.approx(point(metric, repeated), rel=1e-6, abs=1e-9, nan_ok=True)
    assert both[1] == pytest.approx(point(metric, made), rel=1e-9, nan_ok=True)


def random_binary(rows: int, skill: float, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=rows)
    ones = 1 / (1 + np.exp(-(skill * (y - 0.5) + rng.normal(size=rows))))
    return Predictions("binary", y, np.column_stack([1 - ones, ones]))


def random_numbers(rows: int, noise: float, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=rows)
    return Predictions("regression", y, y + noise * np.random.default_rng(seed + 1).normal(size=rows))


@pytest.mark.parametrize("metric", EVERY)
def test_an_interval_holds_the_value_and_narrows_with_more_rows(metric: str) -> None:
    make = (lambda rows: random_numbers(rows, 0.5)) if "binary" not in EVERY[metric].tasks else (lambda rows: random_binary(rows, 1.5))
    few, many = (bootstrap(metric, make(rows), 300, 0.95, 3) for rows in (100, 2_000))
    assert few.low < few.value < few.high
    assert many.low < many.value < many.high
    assert many.high - many.low < few.high - few.low


def test_an_interval_of_higher_confidence_is_wider_and_the_seed_repeats_it() -> None:
    made = random_binary(200, 1.5)
    narrow, wide = bootstrap("roc_auc", made, 300, 0.8, 3), bootstrap("roc_auc", made, 300, 0.99, 3)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert bootstrap("roc_auc", made, 300, 0.8, 3) == narrow
    assert bootstrap("roc_auc", made, 300, 0.8, 4) != narrow


def test_the_interval_of_a_share_is_as_wide_as_statistics_says() -> None:
    rows, right = 900, 630
    y = (np.arange(rows) < right).astype(int)
    interval = bootstrap("accuracy", Predictions("binary", y, np.tile([0.1, 0.9], (rows, 1))), 2_000, 0.95, 0)
    half = 1.96 * np.sqrt(0.7 * 0.3 / rows)
    assert interval.value == 0.7
    assert (interval.low, interval.high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.1 * half)


def of_things(right: list[int], rows: int) -> Predictions:
    """So many rows of each thing, of which as many are right as it says."""
    hits = np.concatenate([np.arange(rows) < each for each in right]).astype(int)
    y = np.arange(len(hits)) // 3 % 2
    return Predictions("binary", y, np.eye(2)[np.where(hits, y, 1 - y)] * 0.8 + 0.1, 1, np.repeat(np.arange(len(right)), rows))


def test_rows_that_are_alike_tell_no_more_than_what_they_belong_to() -> None:
    """Right about all 5 rows of 280 patients of 400, wrong about all of the others: that is the interval of 400 rows, not of 2,000."""
    made = of_things([5] * 280 + [0] * 120, 5)
    interval = bootstrap("accuracy", made, 2_000, 0.95, 0)
    half = 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert interval.value == 0.7
    assert (interval.low, interval.high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.1 * half)
    alone = bootstrap("accuracy", replace(made, things=None), 2_000, 0.95, 0)
    assert alone.high - alone.low == pytest.approx((interval.high - interval.low) / np.sqrt(5), rel=0.1)


def test_intervals_hold_the_truth_where_rows_belong_together() -> None:
    """Of samples of 40 patients, some of whom the model knows better than others: resampled rows often miss the truth."""
    rng, samples, held = np.random.default_rng(0), 100, np.zeros(2)
    for _ in range(samples):
        made = of_things(rng.binomial(30, rng.beta(3.5, 1.5, size=40)).tolist(), 30)
        found = [bootstrap("accuracy", each, 200, 0.95, 0) for each in (made, replace(made, things=None))]
        held += [each.low <= 0.7 <= each.high for each in found]
    by_things, by_rows = held / samples
    assert by_things > 0.88
    assert by_rows < 0.7


def test_a_thing_of_one_row_is_a_row_and_the_order_of_rows_says_nothing() -> None:
    made = random_binary(200, 1.5)
    each = replace(made, things=np.arange(200))
    assert bootstrap("roc_auc", each, 100, 0.95, 3) == bootstrap("roc_auc", made, 100, 0.95, 3)
    many = replace(made, things=np.arange(200) % 40)
    order = np.random.default_rng(0).permutation(200)
    assert bootstrap("roc_auc", many, 100, 0.95, 3) == bootstrap("roc_auc", many.of_rows(order), 100, 0.95, 3)


@pytest.mark.parametrize("metric", EVERY)
def test_of_few_things_no_interval_is_told_however_many_rows_they_have(metric: str) -> None:
    made = random_numbers(900, 0.5) if "binary" not in EVERY[metric].tasks else random_binary(900, 1.5)
    nine, ten = (replace(made, things=np.arange(900) % things) for things in (9, 10))
    one_of_most = replace(made, things=np.where(np.arange(900) < 600, 0, np.arange(900)))
    assert worth(one_of_most.things) < 3  # type: ignore[arg-type]
    for few in (nine, one_of_most):
        found = bootstrap(metric, few, 100, 0.95, 3)
        assert np.isfinite(found.value) and np.isnan(found.low) and np.isnan(found.high)
        gain, differences = paired_difference(metric, few, few, 100, 0.95, 3)
        assert np.isnan(gain.low) and np.isnan(differences).all()
        intervals, gain = bootstrap_with_gain((metric,), metric, few, few, 100, 0.95, 3)
        assert np.isnan(intervals[metric].low) and np.isnan(gain.low)
    found = bootstrap(metric, ten, 100, 0.95, 3)
    assert found.low < found.value < found.high


def test_rows_that_all_agree_are_as_certain_as_their_things_are_many() -> None:
    made = of_things([30] * 12, 30)
    intervals, gain = bootstrap_with_gain(
        ("accuracy",), "accuracy", made, replace(made, predicted=np.tile([0.6, 0.4], (360, 1))), 200, 0.95, 0
    )
    assert intervals["accuracy"].low == pytest.approx(wilson(12, 12)[0])
    assert gain.value - gain.low >= 1 - wilson(12, 12)[0] - 1e-9
    sure = bootstrap("roc_auc", made, 200, 0.95, 0)
    assert sure.low == pytest.approx(wilson(*[3 * 12 * 12 / 25] * 2)[0])


def test_a_share_of_rows_that_belong_together_is_of_as_many_as_they_are_worth() -> None:
    things = np.repeat(np.arange(30), 20)
    alike, alone = things < 21, np.random.default_rng(0).permutation(things) < 21
    assert share_of(alike, None, 0.95) == (0.7, *wilson(420, 600))
    assert share_of(alike, things, 0.95) == pytest.approx((0.7, *wilson(21, 30)), abs=2e-3)
    assert share_of(alone, things, 0.95) == pytest.approx((0.7, *wilson(420, 600)), abs=0.01)
    assert share_of(np.ones(600, dtype=bool), things, 0.95) == (1.0, *wilson(30, 30))
    few = things < 6
    assert share_of(alone[few], things[few], 0.95)[1:] == pytest.approx(wilson(6 * float(alone[few].mean()), 6))


@pytest.mark.parametrize("metric", EVERY)
def test_the_difference_is_positive_where_ours_is_better_whatever_the_metrics_direction(metric: str) -> None:
    if "binary" not in EVERY[metric].tasks:
        good, bad = random_numbers(500, 0.2), random_numbers(500, 1.0)
    else:
        good, bad = random_binary(500, 4), random_binary(500, 0)
        bad = Predictions("binary", good.y, bad.predicted)
    gain, differences = paired_difference(metric, good, bad, 200, 0.95, 0)
    assert 0 < gain.low < gain.value < gain.high
    assert differences.shape == (200,)
    loss, _ = paired_difference(metric, bad, good, 200, 0.95, 0)
    assert (loss.value, loss.low, loss.high) == pytest.approx((-gain.value, -gain.high, -gain.low))


def test_a_model_does_not_differ_from_itself() -> None:
    made = random_binary(100, 1)
    gain, differences = paired_difference("roc_auc", made, made, 100, 0.95, 0)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert not differences.any()


def test_a_perfect_predictor_has_no_calibration_error_and_an_overconfident_one_has() -> None:
    rng = np.random.default_rng(0)
    ones = rng.uniform(size=50_000)
    y = (rng.uniform(size=50_000) < ones).astype(int)
    honest = calibration_error(Predictions("binary", y, np.column_stack([1 - ones, ones])))
    loud = np.clip(2 * ones - 0.5, 0, 1)
    overconfident = calibration_error(Predictions("binary", y, np.column_stack([1 - loud, loud])))
    assert honest is not None and honest < 0.01
    assert overconfident is not None and overconfident > 0.1
    sure = np.eye(3)[y]
    assert calibration_error(Predictions("multiclass", y, sure)) == 0
    assert calibration_error(random_numbers(20, 1)) is None


def test_the_calibration_curve_has_bins_of_equally_many_rows_in_order() -> None:
    curve = calibration_curve(random_binary(1_003, 1))
    assert sum(point["rows"] for point in curve) == 1_003
    assert {point["rows"] for point in curve} == {100, 101}
    assert [point["predicted"] for point in curve] == sorted(point["predicted"] for point in curve)
    assert [point["rows"] for point in calibration_curve(random_binary(35, 1))] == [12, 12, 11]
    assert [point["rows"] for point in calibration_curve(random_binary(3, 1))] == [3]


def binary(y: list[int], ones: list[float]) -> Predictions:
    """Two classes of which the second is the positive one."""
    return Predictions("binary", np.array(y), np.column_stack([1 - np.array(ones), ones]), 1)


@pytest.mark.parametrize("order", ["by class", "mixed"])
def test_rows_of_which_the_same_is_said_are_one_bin_whatever_order_they_come_in(order: str) -> None:
    rng = np.random.default_rng(0)
    rows = np.arange(200) if order == "by class" else rng.permutation(200)
    y, said = np.repeat([0, 1, 0, 1], [80, 20, 20, 80])[rows], np.repeat([0.2, 0.8], [100, 100])[rows]
    curve = calibration_curve(binary(y.tolist(), said.tolist()))
    assert [(each["predicted"], each["observed"], each["rows"]) for each in curve] == [(0.2, 0.2, 100), (0.8, 0.8, 100)]
    assert calibration_error(binary(y.tolist(), said.tolist())) == 0
    assert calibration_error(binary([0] * 50 + [1] * 50, [0.5] * 100)) == 0


def test_a_calibration_error_of_few_rows_is_told_beside_what_chance_alone_would_make() -> None:
    rng = np.random.default_rng(0)
    for rows in (60, 400):
        ones = rng.uniform(size=rows)
        by_chance = calibration_error_by_chance(binary([0] * rows, ones.tolist()))
        drawn = [calibration_error(binary((rng.uniform(size=rows) < ones).astype(int).tolist(), ones.tolist())) for _ in range(300)]
        assert by_chance == pytest.approx(np.mean([each for each in drawn if each is not None]), rel=0.1)
    assert calibration_error(random_binary(19, 1)) is None
    assert calibration_error_by_chance(random_binary(19, 1)) is None
    assert calibration_error_by_chance(random_numbers(50, 1)) is None
    assert calibration_error_by_chance(replace(random_binary(400, 1), things=np.arange(400) % 20)) is None


def test_a_share_has_the_interval_of_wilson() -> None:
    assert wilson(100, 100)[0] == pytest.approx(0.963, abs=1e-3)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_rows_that_all_agree_do_not_make_a_figure_certain() -> None:
    """Ten rows of which all are right may be of a model that is right in 72 of 100 (Wilson)."""
    y, ones = [0, 1] * 5, [0.1, 0.9] * 5
    for metric, low in (("accuracy", 0.7225), ("f1", 2 * 0.5655 / 1.5655), ("roc_auc", 0.6396), ("average_precision", 0.5655)):
        found = bootstrap(metric, binary(y, ones), 200, 0.95, 0)
        assert (found.value, found.high) == (1, 1), metric
        assert found.low == pytest.approx(low, abs=1e-4), metric
    several = Predictions("multiclass", np.arange(30) % 3, np.eye(3)[np.arange(30) % 3])
    assert bootstrap("accuracy", several, 200, 0.95, 0).low == pytest.approx(0.8865, abs=1e-4)
    assert bootstrap("roc_auc", several, 200, 0.95, 0).low == pytest.approx(1 - (1 - 0.8344) / np.sqrt(3), abs=1e-4)


@pytest.mark.parametrize(("ones", "others", "by_chance"), [(2, 5, 1 / 21), (2, 8, 1 / 45), (3, 7, 1 / 120)])
def test_few_rows_in_perfect_order_are_better_than_chance_where_chance_seldom_makes_it(ones: int, others: int, by_chance: float) -> None:
    """The share of orders that are perfect tells it exactly; the interval of 95 % leaves 2.5 % below it."""
    y = [0] * others + [1] * ones
    found = bootstrap("roc_auc", binary(y, np.linspace(0, 1, len(y)).tolist()), 200, 0.95, 0)
    assert found.value == 1
    assert (found.low > 0.5) == (by_chance < 0.025)


def test_one_positive_row_tells_little_of_how_positives_are_ranked() -> None:
    """Resampling draws that one again and again, and would have been sure."""
    ones = np.linspace(0, 1, 200)
    y = np.zeros(200, dtype=int)
    y[190] = 1
    found = bootstrap("roc_auc", binary(y.tolist(), ones.tolist()), 300, 0.95, 0)
    assert found.value > 0.95
    assert found.low < 0.4


@pytest.mark.parametrize(("rows", "is_sure"), [(1, False), (3, False), (20, True)])
def test_a_gain_over_a_dummy_is_no_surer_than_the_rows_are_many(rows: int, is_sure: bool) -> None:
    y = [1, *([0, 1] * rows)][:rows] if rows < 4 else [0, 1] * (rows // 2)
    ours, dummy = binary(y, [0.1 + 0.8 * each for each in y]), binary(y, [0.4] * rows)
    intervals, gain = bootstrap_with_gain(("accuracy",), "accuracy", ours, dummy, 200, 0.95, 0)
    assert intervals["accuracy"].value == 1
    assert (gain.low > 0) is is_sure
    assert np.isnan(gain.low) if rows == 1 else gain.low < gain.value <= gain.high


def test_a_figure_that_most_resamples_do_not_have_has_no_interval() -> None:
    """Of eight classes with a row each, hardly a resample has all."""
    y = np.r_[np.arange(8), np.zeros(12, dtype=int)]
    made = Predictions("multiclass", y, np.random.default_rng(0).dirichlet(np.ones(8), size=20))
    assert np.isfinite(point("roc_auc", made))
    found = bootstrap("roc_auc", made, 300, 0.95, 0)
    assert np.isnan(found.low) and np.isnan(found.high)


def test_f1_is_the_mean_over_classes_that_a_row_has_or_is_given() -> None:
    said = np.eye(4)[[0, 0, 1, 3]]
    made = Predictions("multiclass", np.array([0, 0, 1, 1]), said)
    assert point("f1", made) == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert point("f1", made) == pytest.approx(reference.f1_score(made.y, said.argmax(axis=1), average="macro"))
    assert np.isnan(point("f1", binary([0, 0, 0], [0.1, 0.2, 0.3])))
    assert point("f1", binary([0, 0, 1], [0.1, 0.2, 0.3])) == 0


def test_r2_is_not_defined_by_what_rounding_leaves() -> None:
    made = Predictions("regression", np.array([0.1, 0.4, 0.35]), np.array([0.2, 0.3, 0.3]))
    assert np.isnan(weighted("r2", made, 3 * np.eye(3))).all()


def test_a_class_never_seen_in_training_counts_as_wrong() -> None:
    said = np.array([[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3]])
    y = np.array(["a", "b", "c", "new"])
    assert class_indices(y, ["a", "b", "c"]).tolist() == [0, 1, 2, -1]
    assert score("accuracy", "multiclass", y, said, ["a", "b", "c"], 2) == 0.75
    known = score("log_loss", "multiclass", y[:3], said[:3], ["a", "b", "c"], 2)
    assert score("log_loss", "multiclass", y, said, ["a", "b", "c"], 2) > known + 3
    for metric in CLASSIFICATION_METRICS:
        assert np.isfinite(score(metric, "multiclass", y, said, ["a", "b", "c"], 2))


def test_labels_of_any_type_find_their_class() -> None:
    assert class_indices(np.array([1, 0, 1], dtype=np.int8), [0, 1]).tolist() == [1, 0, 1]
    assert class_indices(np.array(["no", "yes"], dtype=object), ["no", "yes"]).tolist() == [0, 1]


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_ranking_one_class_alone_is_undefined_and_not_wrong(metric: str) -> None:
    made = Predictions("binary", np.zeros(10, dtype=int), np.full((10, 2), 0.5))
    assert np.isnan(point(metric, made))
    interval = bootstrap(metric, made, 60, 0.95, 0)
    assert np.isnan(interval.low) and np.isnan(interval.high)


def test_r2_of_a_target_that_never_varies_is_undefined() -> None:
    assert np.isnan(point("r2", Predictions("regression", np.full(10, 0.1), np.arange(10.0))))


@pytest.mark.parametrize("metric", REGRESSION_METRICS)
def test_no_one_answer_to_all_rows_is_better_than_the_dummys(metric: str) -> None:
    """Of a target that is 0 for most rows, the mean is far off by MAE, and easily beaten."""
    y = np.r_[np.zeros(60), np.random.default_rng(0).lognormal(3, 1, 40)]
    truth = Predictions("regression", y, y)
    dummy = point(metric, dummies_of((metric,), y, truth, [])[metric])
    for said in np.linspace(0, 100, 401):
        other = point(metric, Predictions("regression", y, np.full(100, said)))
        assert other <= dummy + 1e-9 if metric == "r2" else other >= dummy - 1e-9


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("metric", CLASSIFICATION_METRICS)
def test_no_one_answer_to_all_rows_is_better_than_the_dummys_of_classes(metric: str, share: float) -> None:
    y = (np.arange(1_000) < 1_000 * share).astype(int)
    truth = Predictions("binary", y, np.eye(2)[y], 1)
    dummy = point(metric, dummies_of((metric,), y, truth, [0, 1])[metric])
    for said in np.linspace(0, 1, 101):
        other = point(metric, replace(truth, predicted=np.tile([1 - said, said], (1_000, 1))))
        assert other >= dummy - 1e-9 if metric in ("log_loss", "brier") else other <= dummy + 1e-9


def test_the_dummys_f1_is_that_of_the_class_that_is_looked_for() -> None:
    """The likelier class would have 0, and a model that calls one late flight late be better than nothing."""
    y = np.array([0] * 80 + [1] * 20)
    truth = Predictions("binary", y, np.eye(2)[y], 1)
    always = dummies_of(("f1", "accuracy"), y, truth, [0, 1])
    assert point("f1", always["f1"]) == pytest.approx(reference.f1_score(y, np.ones(100))) == pytest.approx(2 * 0.2 / 1.2)
    assert point("accuracy", always["accuracy"]) == 0.8
    assert point("f1", dummies_of(("f1",), y, replace(truth, positive=0), [0, 1])["f1"]) == pytest.approx(2 * 0.8 / 1.8)
    said = np.where(np.arange(100) == 99, 1, 0)
    _, gain = bootstrap_with_gain(("f1",), "f1", replace(truth, predicted=np.eye(2)[said]), always["f1"], 100, 0.95, 0)
    assert gain.value < 0


def test_every_task_has_its_metrics() -> None:
    assert CLASSIFICATION_METRICS == ("roc_auc", "average_precision", "log_loss", "brier", "accuracy", "f1")
    assert REGRESSION_METRICS == ("rmse", "mae", "r2")
    assert metrics_of(settings_with()) == CLASSIFICATION_METRICS
