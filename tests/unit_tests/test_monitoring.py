"""What the monitoring report rests on: which columns are compared, what quality is measured on, which rows are meant."""

from __future__ import annotations

import re
import warnings
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.monitoring.drawing import MAX_BARS, Sample, bars_of
from mlops_pipeline.monitoring.drift import Drift, decided, drift_of, drift_of_texts
from mlops_pipeline.monitoring.figures import ColumnFigures, Figures, quantile_of
from mlops_pipeline.monitoring.labelled import Outcomes, outcomes
from mlops_pipeline.monitoring.measured import Limits
from mlops_pipeline.monitoring.pairs import Pair, as_table, labels, pairs
from mlops_pipeline.monitoring.report import create_model_monitoring_report
from mlops_pipeline.monitoring.texts import Reading
from mlops_pipeline.monitoring.window import ComparedRows, Pipeline, as_described, current_rows, open_pipeline, read_table, reference_rows
from tests.unit_tests.workshop import layout_in, quiet, table_settings

NUMBERS = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=200)
WORDS = st.lists(st.one_of(st.none(), st.sampled_from("abcdefghij")), min_size=1, max_size=200)


def pair_of(name: str, reference: pl.Series, current: pl.Series) -> Pair:
    return pairs(pl.DataFrame({name: reference}), pl.DataFrame({name: current}), [])[0]


def judged(reference: dict[str, Any], current: dict[str, Any], **changes: Any) -> tuple[Outcomes | None, list[str]]:
    said: list[str] = []
    asked = {"target": "target", "prediction": "prediction", "task": None, "positive": None, **changes}
    return outcomes(pl.DataFrame(reference), pl.DataFrame(current), said, **asked), said


GOOD = {"feature_1": [1.0, 2.5, 3.0], "target": [0, 1, 1], "prediction": [0, 1, 0]}


@pytest.mark.parametrize(
    ("reference", "current", "options", "line"),
    [
        ({"a": 1}, GOOD, {}, "the reference is a dict: give a pandas or Polars data frame"),
        (pd.Series([1]), GOOD, {}, "the reference is a Series: give a pandas or Polars data frame"),
        (GOOD, {name: [] for name in GOOD}, {}, "the current data is empty (0 rows, 3 columns): give at least one row"),
        (pd.DataFrame(), GOOD, {}, "the reference is empty (0 rows, 0 columns): give at least one row"),
        (
            GOOD,
            {"x": [1], "y": [2]},
            {},
            (
                "the reference and the current data have no column in common: "
                "the reference has feature_1, target, prediction; the current data has x, y"
            ),
        ),
        (
            GOOD,
            {**GOOD, "feature_1": ["x", "y", "z"]},
            {},
            "column 'feature_1' is of type Float64 in the reference and String in the current data: give both the same type",
        ),
        (GOOD, {"feature_1": [1, "x"]}, {}, "the current data: cannot be read as a table: .* give each column values of one type"),
        (
            pd.DataFrame([[1, 2]], columns=["a", "a"]),
            GOOD,
            {},
            "the reference: column 'a' stands twice: rename one",
        ),
        (GOOD, GOOD, {"quantile_column": "size"}, "quantile_column 'size' is not in both tables: they share feature_1, target, prediction"),
        (GOOD, GOOD, {"quantile_column": "target"}, "quantile_column 'target' holds no numbers: choose one of feature_1"),
        (GOOD, GOOD, {"target": "prediction"}, "target and prediction are both 'prediction': name two columns"),
        (GOOD, GOOD, {"positive": "late"}, "positive 'late' is no class of 'target': it holds 0, 1"),
        (GOOD, GOOD, {"task": "ranking"}, "task 'ranking': use binary, multiclass or regression"),
        (GOOD, GOOD, {"quantile": 1.5}, "quantile 1.5: must lie between 0 and 1"),
        (GOOD, GOOD, {"drift_share": 0}, "drift_share 0: must lie above 0 and at most at 1"),
        (GOOD, GOOD, {"draw_rows": 0}, "draw_rows 0: must be at least 1"),
        (
            {**GOOD, "prediction": [0.1, 0.2, 0.3], "target": [0, 1, 2]},
            GOOD,
            {},
            re.escape("'prediction' holds fractions, but 'target' holds classes (0, 1, 2): give predicted classes, or task=\"regression\""),
        ),
        (
            {**GOOD, "prediction": ["a", "b", "c"]},
            GOOD,
            {"task": "regression"},
            "column 'prediction' is of type .*, and a regression needs numbers: name another column",
        ),
        (
            GOOD,
            {**GOOD, "target": [[0], [1], [1]]},
            {},
            re.escape("column 'target' is of type List(Int64), which holds no classes: name another column"),
        ),
        (
            {**GOOD, "probability_1": [0.1, 0.9, 0.2]},
            {**GOOD, "probability_1": [0.1, 7.0, 0.2]},
            {},
            "column 'probability_1' of the current data holds 7: give probabilities between 0 and 1, or drop the column",
        ),
        (
            pl.LazyFrame(GOOD).select("absent"),
            GOOD,
            {},
            'the reference: the lazy frame cannot be collected: unable to find column "absent".*: mend its query',
        ),
        (
            GOOD,
            pl.scan_parquet("there is no such file.parquet"),
            {},
            "the current data: the lazy frame cannot be collected: .*there is no such file.*: mend its query",
        ),
    ],
)
def test_what_the_user_can_mend_is_one_line(reference: Any, current: Any, options: dict[str, Any], line: str) -> None:
    def frame(data: Any) -> Any:
        return pd.DataFrame(data) if data is GOOD or (isinstance(data, dict) and "a" not in data) else data

    with pytest.raises(PipelineError) as raised:
        create_model_monitoring_report(frame(reference), frame(current), **options)
    assert re.fullmatch(line if "\\" in line or ".*" in line else re.escape(line), str(raised.value))


def test_without_a_prediction_column_the_report_says_that_it_has_no_section_on_quality() -> None:
    frame = pd.DataFrame(GOOD).drop(columns="prediction")
    with pytest.warns(UserWarning, match="the reference has no prediction column 'prediction': no section on the model's quality"):
        report = create_model_monitoring_report(frame, frame)
    assert report.summary["quality"] is None


def test_the_same_frames_give_no_warning_and_no_drift() -> None:
    frame = pl.DataFrame(GOOD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = create_model_monitoring_report(frame, frame)
    assert not report.has_drifted
    assert report.summary["drifted_columns"] == []


def test_pandas_and_polars_lack_the_same_values() -> None:
    said: list[str] = []
    from_pandas = as_table(pd.DataFrame({"a": [1.0, None, 3.0], "b": ["x", None, "y"]}), "it", said)
    from_polars = as_table(pl.DataFrame({"a": [1.0, float("nan"), 3.0], "b": ["x", None, "y"]}).lazy(), "it", said)
    assert said == []
    assert from_pandas["a"].null_count() == from_polars["a"].null_count() == 1
    assert from_pandas["b"].to_list() == from_polars["b"].to_list() == ["x", None, "y"]


def test_columns_are_compared_by_what_they_hold() -> None:
    said: list[str] = []
    rows = 200
    table = pl.DataFrame(
        {
            "whole": range(rows),
            "flag": [True, False] * (rows // 2),
            "word": ["a", "b"] * (rows // 2),
            "identifier": [f"row {i}" for i in range(rows)],
            "moment": [datetime(2024, 1, 1)] * rows,
            "took": [timedelta(minutes=1)] * rows,
            "at": [time(12)] * rows,
            "list": [[1]] * rows,
            "nothing": pl.Series([None] * rows, dtype=pl.Null),
        }
    )
    found = {pair.name: pair.kind for pair in pairs(table.with_columns(alone=1), table, said)}
    assert found == {
        "whole": "number",
        "flag": "category",
        "word": "category",
        "identifier": "text",
        "moment": "time",
        "took": "number",
        "at": "number",
        "list": "other",
        "nothing": "other",
    }
    assert said == [
        "only the reference has alone: not compared",
        "identifier: free text or identifiers; only missing values are compared",
        "moment: dates or times, always later in newer data; only missing values are compared",
        "list, nothing: no values, or values without an order; only missing values are compared",
    ]


@pytest.mark.parametrize("classes", ["abc", "ab"])
def test_probabilities_of_one_prediction_are_not_counted_as_so_many_columns(classes: str) -> None:
    """Labels or none: else a model of many classes would outvote the table's columns."""
    random = np.random.default_rng(1)

    def side(sharp: float) -> pl.DataFrame:
        said = random.dirichlet([sharp] * len(classes), 400)
        columns = {f"probability_{name}": said[:, place] for place, name in enumerate(classes)}
        predicted = [classes[place] for place in said.argmax(axis=1)]
        return pl.DataFrame({"x": random.normal(size=400), "probability_of_rain": "high", "prediction": predicted, **columns})

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = create_model_monitoring_report(side(3.0), side(0.5))
    scored = [column.pair.name for column in made.figures.scored]
    assert scored == ["x", "probability_of_rain", "prediction", *(["probability_b"] if classes == "ab" else [])]
    kept = "probability_b" if classes == "ab" else "prediction"
    assert any(str(each.message).endswith(f"add up to one with the rest, so '{kept}' alone is compared") for each in said)


def test_numbers_of_which_the_first_are_alike_are_compared_as_numbers() -> None:
    """As in a table that is sorted by them, or by time where what is counted begins at 0."""
    random = np.random.default_rng(3)
    sides = [pl.Series([0.0] * 1500 + random.uniform(low, low + 1, 1500).tolist()) for low in (1, 4)]
    found = drift_of(pair_of("spent", *sides))
    assert found is not None
    assert found.method == "Wasserstein distance (normed)"
    assert found.p < 1e-6
    [decision] = decided([found], 3000)
    assert decision is not None
    assert decision.detected


def test_a_column_without_values_on_one_side_is_compared_as_the_other_side_has_it() -> None:
    empty = pl.Series([None, None], dtype=pl.String)
    assert pair_of("a", pl.Series([1.0, 2.0]), empty).kind == "number"
    assert pair_of("a", empty, pl.Series([1.0, 2.0])).kind == "number"
    assert drift_of(pair_of("a", empty, pl.Series([1.0, 2.0]))) is None


@pytest.mark.parametrize("rows", [500, 5000])
def test_a_category_whose_values_are_all_new_has_drifted_however_many_they_are(rows: int) -> None:
    few, identifiers = pl.Series(["a", "b", "c", "d", "e"] * (rows // 5)), pl.Series([f"id {i}" for i in range(rows)])
    exploded = pair_of("a", few, identifiers)
    assert exploded.kind == "category"
    (drift,) = decided([drift_of(exploded)], rows)
    assert drift is not None
    assert drift.detected
    assert pair_of("a", identifiers, few).kind == "text", "what the reference cannot tell is not compared"


@pytest.mark.parametrize("values", [[1.5, 2.5, 3.5, 1.5], ["a", "b", "a", "b"], [True, False, True, False]])
@pytest.mark.parametrize("dtype", [pl.Null, pl.String])
def test_a_column_that_lost_every_value_counts_as_drifted(values: list[Any], dtype: type[pl.DataType]) -> None:
    reference = pl.DataFrame({"steady": [1.0, 2.0, 3.0, 4.0] * 10, "lost": values * 10})
    with pytest.warns(UserWarning, match="^lost: no value in the current data: counts as drifted$"):
        report = create_model_monitoring_report(reference, reference.with_columns(lost=pl.lit(None, dtype)))
    assert report.summary["drifted_columns"] == ["lost"]
    assert report.summary["share_of_drifted_columns"] == 0.5
    assert report.has_drifted
    assert "share of values lost" in report.get_html_str()


def test_sentences_are_compared_by_their_words_and_embeddings_and_the_page_tells_none_of_them() -> None:
    draw = np.random.default_rng(0)

    def notes(rows: int, words: list[str]) -> list[str]:
        return [" ".join(row) for row in draw.choice(words, (rows, 6))]

    usual = ["lens", "sharp", "bright", "sound", "battery", "picture", "menu"]
    before = pl.DataFrame({"note": notes(300, usual), "size": draw.normal(size=300)})
    after = pl.DataFrame({"note": [*notes(150, usual), *notes(100, ["refund", "courier", "посылка"])], "size": draw.normal(size=250)})
    report = create_model_monitoring_report(before, after, quantile_column="size")
    told = report.summary["columns"]["note"]
    assert told["kind"] == "prose" and told["drift"]["detected"]
    assert told["drift"]["method"] in ("distance of mean embeddings", "growth of new words")
    assert told["texts"]["unseen"] == pytest.approx(0.4, abs=0.05) and told["texts"]["unseen_before"] == 0
    assert told["texts"]["scripts"]["Latin"][0] == 1.0
    page = report.get_html_str()
    assert "Distance of mean embeddings" in page and "of hashed words" in page and "under 8 words" in page
    assert "courier" not in page and "lens" not in page
    same = create_model_monitoring_report(before, before.head(20), quantile_column="size")
    assert not same.summary["columns"]["note"]["drift"]
    assert any(line.startswith("note: too few texts") for line in same.notes)


def test_texts_that_were_cut_or_emptied_have_drifted_though_no_word_is_new() -> None:
    words = np.random.default_rng(0).choice([f"q{n}" for n in range(50)], (200, 8))
    before = pl.Series("note", [" ".join(row) for row in words])
    for now, is_far in ((before.head(100), False), (pl.Series("note", words[:, 0]), True), (pl.Series("note", [""] * 100), True)):
        texts = Reading().of(Pair("note", "prose", before, now))
        assert texts is not None
        found = drift_of_texts(msgspec.structs.replace(texts, unseen=0.0, unseen_before=0.0, distance=0.05), Limits())
        assert found is not None
        assert (found.beyond and found.p < 1e-6, found.method == "distance of scripts and lengths") == (is_far, is_far)


def test_a_few_rows_of_the_same_table_have_not_drifted_and_the_report_says_why() -> None:
    random = np.random.default_rng(0)
    table = pl.DataFrame({f"feature_{k}": random.normal(size=3000) for k in range(12)} | {"kind": random.choice(list("abc"), 3000)})
    with pytest.warns(
        UserWarning, match=r"^too few rows \(20; 30 are the least\): feature_\d+, .*: beyond the limit, and not called drifted$"
    ):
        few = create_model_monitoring_report(table, table.sample(20, seed=1))
    assert few.summary["drifted_columns"] == []
    with pytest.warns(UserWarning, match="may be chance or too little: not called drifted$"):
        more = create_model_monitoring_report(table, table.sample(60, seed=1))
    assert more.summary["drifted_columns"] == []
    moved = table.sample(60, seed=1).with_columns(pl.col("feature_3") + 1.5)
    with pytest.warns(UserWarning, match="not called drifted$"):
        assert create_model_monitoring_report(table, moved).summary["drifted_columns"] == ["feature_3"]


def test_a_lost_column_stands_before_all_others() -> None:
    lost, far = drift_of(pair_of("a", pl.Series([1.0, 2.0]), pl.Series([None, None]))), Drift("K-S p_value", 0.0, 0.05, True)
    assert lost is not None
    assert sorted([far, lost], key=lambda drift: -drift.strength) == [lost, far]


def test_a_target_that_is_not_known_yet_has_not_drifted() -> None:
    reference = pl.DataFrame(GOOD)
    with pytest.warns(UserWarning, match="^target: no value in the current data yet: not counted in the drift$"):
        report = create_model_monitoring_report(reference, reference.with_columns(target=None))
    assert [column.pair.name for column in report.figures.scored] == ["feature_1", "prediction"]


def test_a_column_without_a_value_in_the_reference_is_said_to_be_out_of_the_count() -> None:
    current = pl.DataFrame(GOOD)
    with pytest.warns(UserWarning, match="^feature_1: no value in the reference: not counted in the drift$"):
        report = create_model_monitoring_report(current.with_columns(feature_1=None), current)
    assert [column.pair.name for column in report.figures.scored] == ["target", "prediction"]
    assert len(report.notes) == 1


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Float32])
@pytest.mark.parametrize("infinite", [float("inf"), float("-inf"), 1.7e308, -1e200])
def test_infinite_numbers_are_counted_and_are_missing(infinite: float, dtype: type[pl.DataType]) -> None:
    values, unusable = [float(i) for i in range(2000)], [infinite] * 3000
    reference = pl.DataFrame({"feature_1": pl.Series(values, dtype=dtype)})
    broken = pl.DataFrame({"feature_1": pl.Series(values[:1500] + unusable, dtype=dtype)})
    lacking = pl.DataFrame({"feature_1": pl.Series(values[:1500] + [None] * 3000, dtype=dtype)})
    with pytest.warns(
        UserWarning, match=r"^the current data: infinite numbers, .* count as missing: 3,000 of 4,500 in 'feature_1' \(66.7%\)$"
    ):
        report = create_model_monitoring_report(reference, broken)
    with pytest.warns(UserWarning, match="no target column"):
        expected = create_model_monitoring_report(reference, lacking)
    assert report.summary["columns"] == expected.summary["columns"]
    assert report.summary["columns"]["feature_1"]["missing_share"]["current"] == pytest.approx(2 / 3)
    assert report.summary["quantile"] == expected.summary["quantile"]
    assert report.summary["quantile"]["current"] == 749.5
    assert not any("infinite" in note for note in expected.notes)
    report.get_html_str()


def test_the_quality_of_a_regression_is_that_of_its_finite_predictions() -> None:
    truth = [0.5 + i for i in range(40)]
    reference = pl.DataFrame({"feature_1": truth, "target": truth, "prediction": truth})
    some = reference.with_columns(prediction=pl.when(pl.col("target") > 30).then(float("inf")).otherwise(pl.col("prediction") + 1))
    with pytest.warns(UserWarning, match="^quality of the current data: 30 of 40 rows, those with 'target' and 'prediction'$"):
        assert create_model_monitoring_report(reference, some).quality["mae"] == {"reference": 0.0, "current": 1.0}
    with pytest.warns(UserWarning, match="^the current data has no row with both 'target' and 'prediction'"):
        report = create_model_monitoring_report(reference, reference.with_columns(prediction=float("inf")))
    assert report.summary["quality"] is None
    assert report.summary["drifted_columns"] == ["prediction"]


def test_truth_values_and_zeros_and_ones_are_the_same() -> None:
    pair = pair_of("a", pl.Series([True, False]), pl.Series([1, 0]))
    assert pair.reference.to_list() == pair.current.to_list() == [1.0, 0.0]


@given(st.lists(st.integers(-5, 5), min_size=1), st.sampled_from([pl.Int8, pl.Int64, pl.Float64]))
def test_labels_compare_equal_whatever_type_of_number_they_have(values: list[int], dtype: type[pl.DataType]) -> None:
    left, right = labels([pl.Series(values), pl.Series(values).cast(dtype)])
    assert left.to_list() == right.to_list() == values
    texts = labels([pl.Series(values).cast(dtype), pl.Series([str(value) for value in values])])
    assert texts[0].to_list() == texts[1].to_list()


@pytest.mark.parametrize("large", [pl.Series([0, 2**64 - 1], dtype=pl.UInt64), pl.Series([0.0, 1e300])])
def test_classes_beyond_64_bits_with_a_sign_are_classes(large: pl.Series) -> None:
    found, _ = judged({"target": large, "prediction": large}, {"target": large, "prediction": large.reverse()})
    assert found is not None
    assert found.task == "binary"
    assert (found.reference["target"] == found.reference["prediction"]).to_list() == [True, True]
    assert (found.current["target"] == found.current["prediction"]).to_list() == [False, False]


@given(NUMBERS, NUMBERS)
def test_a_column_of_numbers_loses_nothing_in_its_picture(reference: list[float | None], current: list[float | None]) -> None:
    pair = Pair("a", "number", pl.Series(reference, dtype=pl.Float64), pl.Series(current, dtype=pl.Float64))
    bars = bars_of(pair, Sample(1000, 0))
    assert len(bars.labels) == len(bars.reference) == len(bars.current) <= MAX_BARS
    for values, shares in ((reference, bars.reference), (current, bars.current)):
        there = any(value is not None for value in values)
        assert sum(shares) == pytest.approx(1.0 if there else 0.0)


@given(WORDS, WORDS)
def test_the_bars_of_a_category_are_its_shares(reference: list[str | None], current: list[str | None]) -> None:
    pair = Pair("a", "category", pl.Series(reference, dtype=pl.String), pl.Series(current, dtype=pl.String))
    bars = bars_of(pair, Sample(1000, 0))
    for values, shares in ((reference, bars.reference), (current, bars.current)):
        present = [value for value in values if value is not None]
        listed = [label for label in bars.labels if not label.endswith(" others")]
        wanted = [present.count(label) for label in listed]
        # What fewer than five rows have has no bar of its own.
        assert all((*reference, *current).count(label) >= 5 for label in listed)
        wanted += [len(present) - sum(wanted)] * (len(bars.labels) - len(listed))
        assert shares == pytest.approx([count / max(len(present), 1) for count in wanted])


def test_many_categories_end_in_one_bar_for_the_rest() -> None:
    words = pl.Series([f"w{i:03}" for i in range(100) for _ in range(100 - i)])
    bars = bars_of(Pair("a", "category", words, words), Sample(10_000, 0))
    assert len(bars.labels) == MAX_BARS
    assert bars.labels[:2] == ["w000", "w001"]
    assert bars.labels[-1] == f"{100 - MAX_BARS + 1} others"
    assert sum(bars.reference) == pytest.approx(1.0)


def test_a_picture_of_many_rows_is_drawn_from_the_same_sample_each_time() -> None:
    values = pl.Series(range(1000))
    drawn = [Sample(100, seed).of(values).to_list() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 100
    assert drawn[0] == sorted(drawn[0])
    assert Sample(1000, 1).of(values).to_list() == values.to_list()


def figures_with(*detected: bool | None, share: float = 0.5) -> Figures:
    pair = Pair("a", "number", pl.Series([1.0]), pl.Series([1.0]))
    drifts = [None if found is None else Drift("normed", 0.3 if found else 0.0, 0.1, found, detected=found) for found in detected]
    return Figures(tuple(ColumnFigures(pair, drift) for drift in drifts), (1, 1), share, None)


def test_the_dataset_has_drifted_when_the_share_of_scored_columns_reaches_the_limit() -> None:
    assert figures_with(True, False).has_drifted
    assert not figures_with(True, False, False).has_drifted
    assert figures_with(True, False, None).has_drifted, "a column without a score does not count"
    assert not figures_with(None, None).has_drifted
    assert not figures_with(True, False, share=0.6).has_drifted


def test_a_small_p_value_and_a_large_distance_are_both_strong() -> None:
    weak, strong = Drift("K-S p_value", 0.04, 0.05, True), Drift("K-S p_value", 1e-9, 0.05, True)
    distance = Drift("Wasserstein distance (normed)", 0.5, 0.1, True)
    assert sorted([distance, weak, strong], key=lambda drift: -drift.strength) == [strong, distance, weak]


def test_the_quantile_falls_back_to_the_first_numbers_and_says_so() -> None:
    found = pairs(pl.DataFrame({"w": ["a", "b"], "late": [0, 1], "x": [1.0, 2.0]}), pl.DataFrame({"w": ["a"], "late": [0], "x": [4.0]}), [])
    said: list[str] = []
    quantile = quantile_of(found, "feature_1", 0.5, "feature_1", ("late", "prediction"), said)
    assert quantile is not None
    assert (quantile.column, quantile.reference, quantile.current) == ("x", 1.5, 4.0)
    assert said == ["no column 'feature_1' of numbers: the quantile is that of 'x', the first column that has some"]
    assert quantile_of(found[:1], "feature_1", 0.5, "feature_1", (), said) is None
    assert said[-1] == "no column 'feature_1' of numbers, and no other: no quantile"


def test_a_quantile_column_that_nobody_named_is_chosen_without_a_word() -> None:
    table = pl.DataFrame({"w": ["a", "b"], "late": [0, 1], "x": [1.0, 2.0], "feature_1": [5.0, 5.0]})
    said: list[str] = []
    for found, column in ((pairs(table, table, []), "feature_1"), (pairs(table[:, :3], table[:, :3], []), "x")):
        quantile = quantile_of(found, None, 0.5, "feature_1", ("late", "prediction"), said)
        assert quantile is not None
        assert quantile.column == column
    assert said == []
    assert quantile_of(pairs(table[:, :1], table[:, :1], []), None, 0.5, "feature_1", (), said) is None
    assert said == ["no column of numbers: no quantile"]


def test_quality_is_measured_where_target_and_prediction_are_known() -> None:
    reference = {"target": [0, 1, None], "prediction": [0, 1, 1]}
    found, said = judged(reference, {"target": [0, 1], "prediction": [1, 0]})
    assert found is not None
    assert found.task == "binary"
    assert found.reference.height == 2
    assert said == ["quality of the reference: 2 of 3 rows, those with 'target' and 'prediction'"]
    found, said = judged({"target": [None, None], "prediction": [0, 1]}, reference)
    assert found is None
    assert said == ["the reference has no row with both 'target' and 'prediction': no section on the model's quality"]


def test_the_task_follows_from_the_target() -> None:
    few = {"target": ["a", "b", "c"], "prediction": ["a", "b", "c"]}
    assert judged(few, few)[0].task == "multiclass"  # type: ignore[union-attr]
    many = {"target": list(range(40)), "prediction": list(range(40))}
    assert judged(many, many)[0].task == "regression"  # type: ignore[union-attr]
    halves = {"target": [0.5, 1.0], "prediction": [1.0, 2.0]}
    assert judged(halves, halves)[0].task == "regression"  # type: ignore[union-attr]


def test_probabilities_are_used_where_they_are_what_the_prediction_was_made_from() -> None:
    side = {"target": [0, 1, 1], "prediction": [0, 1, 0], "probability_0": [0.8, 0.3, 0.6], "probability_1": [0.2, 0.7, 0.4]}
    found, _ = judged(side, side)
    assert found is not None
    assert (found.positive, found.probability) == (1, "probability_1")
    found, said = judged(side, {**side, "prediction": [1, 1, 1]})
    assert found is not None
    assert found.probability is None
    assert said == ["'prediction' is not 'probability_1' cut at one half: no ROC AUC, no log loss"]


def test_fractions_beside_two_classes_are_probabilities() -> None:
    side = {"target": ["no", "yes"], "prediction": [0.2, 0.9]}
    found, _ = judged(side, side)
    assert found is not None
    assert (found.positive, found.probability) == ("yes", "probability_yes")
    assert found.current["prediction"].to_list() == ["no", "yes"]
    other, _ = judged(side, side, positive="no")
    assert other is not None
    assert other.current["prediction"].to_list() == ["yes", "no"]


def test_a_class_that_one_side_lacks_is_said() -> None:
    found, said = judged({"target": [0, 1], "prediction": [0, 1]}, {"target": [0, 2], "prediction": [0, 1]})
    assert found is not None
    assert found.task == "multiclass"
    assert said == [
        "the reference has no 'target' of class 2: precision, recall and F1 count a class without rows as 0",
        "the current data has no 'target' of class 1: precision, recall and F1 count a class without rows as 0",
    ]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("absent.csv", None, "does not exist: name a CSV, Excel, JSON or Parquet file"),
        ("empty.csv", "", "is empty: give a table with a header and rows"),
        ("table.xlsx", "PK\x03\x04", "cannot be read as a table: .*"),
        ("broken.parquet", "PAR1", "cannot be read as a table: .*"),
        ("ragged.csv", "a,b\n1,2,3\n", "cannot be read as a table: .*"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, name: str, content: str | None, line: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(PipelineError, match=f"^{re.escape(str(path))}: {line}$") as raised:
        read_table(path)
    assert "\n" not in str(raised.value)


def test_a_csv_file_is_read_with_types_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("day,size,word\n2024-01-01,1.5,a\n2024-01-02,NA,\n")
    table = read_table(path)
    assert table.schema == {"day": pl.Date, "size": pl.Float64, "word": pl.String}
    assert table.null_count().row(0) == (0, 1, 1)


def test_without_a_pipeline_the_missing_names_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_pipeline(None, Path("configs/training_config.yaml")) is None
    for call, line in (
        (
            lambda: current_rows(None, None, None, None),
            "--current is missing: name a CSV, Excel, JSON or Parquet file, or a period such as 2013-10",
        ),
        (lambda: current_rows("x.csv", None, None, None), "--current x.csv: does not exist: .*"),
        (lambda: current_rows("2013-10", None, None, None), "--current 2013-10: a period is one of the pipeline's table.*"),
        (lambda: current_rows("2013-13", None, None, None), "--current 2013-13: is no date: .*"),
        (lambda: current_rows("2013-00", None, None, None), "--current 2013-00: is no date: .*"),
        (lambda: current_rows("2013-10-0", None, None, None), "--current 2013-10-0: is no date: .*"),
        (lambda: current_rows("2013-10-0..2013-10-05", None, None, None), "--current 2013-10-0..2013-10-05: is no date: .*"),
        (lambda: current_rows("2013-01..2013-00", None, None, None), "--current 2013-01..2013-00: is no date: .*"),
        (lambda: current_rows("9999", None, None, None), "--current 9999: is no date: .*"),
        (lambda: current_rows("0000", None, None, None), "--current 0000: is no date: .*"),
        (lambda: current_rows("2013-10..2013-09", None, None, None), "--current .*: ends before it begins: turn the two round"),
        (lambda: current_rows("a.csv", datetime(2013, 1, 1), None, None), "--current a.csv: give either --current, or --from and --until"),
        (lambda: reference_rows(None, None), "--reference is missing: name a CSV, Excel, JSON or Parquet file, .*"),
    ):
        with pytest.raises(PipelineError, match=f"^{line}$"):
            call()


def test_a_column_of_lists_that_nobody_describes_is_in_no_report_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"size": [1.0, 2.0], "tags": [["a"], ["b"]], "y": [1.0, 2.0]}).write_parquet(path)
    pipeline = Pipeline(settings := table_settings({"size": "number", "y": "number"}), layout_in(tmp_path, settings), None)
    rows = current_rows(str(path), None, None, pipeline)
    assert rows.table.columns == ["size", "y"]
    assert "column 'tags' is left out: each value holds several" in rows.origin
    with pytest.raises(PipelineError, match=r"'tags' holds .*list"):
        read_table(path)


def test_a_file_has_its_gaps_where_training_has_them(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("words,region,size,more,y\nNA,,1,,1\n,-,,2.5,2\ngood,NA,NA,3,3\n")
    columns = {"words": "text", "region": {"kind": "category", "null_values": ["-"]}, "size": "number", "y": "number"}
    settings = table_settings(columns)
    pipeline = Pipeline(settings, layout_in(tmp_path, settings), None)
    rows = as_described(ComparedRows(read_table(path, pipeline), "the file"), pipeline, "prediction", quiet())
    assert rows.table["words"].to_list() == [None, None, "good"]
    assert rows.table["region"].to_list() == ["", None, "NA"]
    assert rows.table["size"].to_list() == [1.0, None, None]
    assert rows.table["more"].to_list() == [None, 2.5, 3.0], "a column that nobody describes has the source's words"
