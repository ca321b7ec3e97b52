"""The schema a table must keep, and the checks that find what would make a model lie."""

from __future__ import annotations

import tracemalloc
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mlops_pipeline.config.pipeline import Settings, Validate, feature_columns
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import read_json
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.stages.validate import validate
from mlops_pipeline.tables.checks import Examined, few_duplicates
from mlops_pipeline.tables.columns import as_validated
from mlops_pipeline.tables.leakage import auc, phrase_in, single_feature_aucs, strong_features
from mlops_pipeline.tables.phrases import telling
from mlops_pipeline.tables.schema import Failure, failures, infer_schema, read_schema, write_schema
from tests.unit_tests.workshop import assert_one_line, layout_in, quiet, table_settings

ROWS = 400
COLUMNS: dict[str, Any] = {
    "n": "number",
    "i": {"kind": "integer", "min": 0},
    "b": "boolean",
    "c": {"kind": "category", "nullable": False},
    "t": "datetime",
    "y": "boolean",
}


def small_table(seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "n": rng.normal(size=ROWS),
            "i": rng.integers(0, 50, size=ROWS),
            "b": pl.Series(rng.integers(0, 2, size=ROWS), dtype=pl.Int8),
            "c": rng.choice(["a", "b", "c"], size=ROWS),
            "t": [datetime(2024, 1, 1) + timedelta(hours=h) for h in range(ROWS)],
            "y": pl.Series(rng.integers(0, 2, size=ROWS), dtype=pl.Int8),
        }
    )
    some = pl.int_range(pl.len()) % 10 == 0
    return frame.with_columns(pl.when(~some).then(pl.col("n")).alias("n"), pl.when(~some).then(pl.col("b")).alias("b"))


def small_settings(**changes: Any) -> Settings:
    return table_settings({**COLUMNS, **changes}, task="binary")


def broken_rules(table: pl.DataFrame) -> list[Failure]:
    """What a table breaks of the schema that was inferred from the small table."""
    return failures(table, infer_schema(small_table(), small_settings().dataset, Validate(), "small"))


def test_the_table_that_it_was_inferred_from_keeps_the_schema() -> None:
    assert broken_rules(small_table()) == []


def test_a_schema_is_the_same_after_its_yaml(tmp_path: Path) -> None:
    schema = infer_schema(small_table(), small_settings().dataset, Validate(), "small")
    path = tmp_path / "schema.yaml"
    write_schema(schema, path)
    again = read_schema(path)
    assert again == schema
    assert {name: column.metadata for name, column in again.columns.items()} == {n: c.metadata for n, c in schema.columns.items()}
    write_schema(again, tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == path.read_text()


def test_a_schema_read_back_finds_what_the_inferred_one_finds(tmp_path: Path) -> None:
    schema = infer_schema(small_table(), small_settings().dataset, Validate(), "small")
    write_schema(schema, tmp_path / "schema.yaml")
    wrong = small_table().with_columns(n=pl.lit(1e6), c=pl.lit("z"), b=pl.lit(None, dtype=pl.Int8))
    assert failures(wrong, read_schema(tmp_path / "schema.yaml")) == failures(wrong, schema)
    assert len(failures(wrong, schema)) == 3


FAILURES: dict[str, tuple[Any, str, str, int]] = {
    "type": (lambda t: t.with_columns(pl.col("i").cast(pl.Float64)), "i", "Int64", 1),
    "above the range": (lambda t: with_first(t, "n", 1e6), "n", "in_range", 1),
    "below the described bound": (lambda t: with_first(t, "i", -1), "i", "in_range", 1),
    "unknown category": (lambda t: with_first(t, "c", "z"), "c", "isin", 1),
    "no boolean": (lambda t: with_first(t, "b", 2), "b", "isin", 1),
    "null where none may be": (lambda t: with_first(t, "c", None), "c", "null", 1),
    "too many nulls": (
        lambda t: t.with_columns(pl.when(pl.int_range(pl.len()) % 5 != 0).then(pl.col("n"))),
        "n",
        "at most 15.0% null",
        80,
    ),
    "missing column": (lambda t: t.drop("b"), "b", "column_in_dataframe", 1),
    "extra column": (lambda t: t.with_columns(extra=1), "extra", "column_in_schema", 1),
}


def with_first(table: pl.DataFrame, column: str, value: Any) -> pl.DataFrame:
    """The table with one value replaced in its second row."""
    values = table[column].to_list()
    values[1] = value
    return table.with_columns(pl.Series(column, values, dtype=table.schema[column]))


@pytest.mark.parametrize("case", FAILURES)
def test_every_kind_of_broken_rule_is_found_and_counted(case: str) -> None:
    change, column, rule, rows = FAILURES[case]
    found = broken_rules(change(small_table()))
    assert len(found) == 1, found
    assert (found[0].column, found[0].rows) == (column, rows), found
    assert rule in found[0].rule, found


def test_what_a_private_column_holds_is_told_to_nobody(tmp_path: Path) -> None:
    private = small_settings(
        n={"kind": "number", "private": True}, c={"kind": "category", "nullable": False, "private": True}, i={"kind": "integer", "min": 0}
    )
    table = small_table().with_columns(n=pl.col("n") + 31_337)
    layout = layout_in(tmp_path, private)
    write_schema(infer_schema(table, private.dataset, Validate(), "small"), layout.schema)
    said = ""
    try:
        run_validate(tmp_path, with_first(table.with_columns(c=pl.lit("a secret")), "c", None), private)
    except PipelineError as error:
        said = str(error)
    report = read_json(layout.validation_json)
    assert [(each["column"], each["seen"]) for each in report["failures"]] == [("c", "private")]
    for text in (said, layout.validation_json.read_text(), layout.validation_html.read_text(), layout.schema.read_text()):
        assert "secret" not in text
        assert "3133" not in text


def test_a_schema_that_was_inferred_before_a_column_was_private_is_inferred_anew(tmp_path: Path) -> None:
    layout = layout_in(tmp_path, small_settings())
    write_schema(infer_schema(small_table(), small_settings().dataset, Validate(), "small"), layout.schema)
    assert read_schema(layout.schema).columns["c"].checks
    private = small_settings(c={"kind": "category", "nullable": False, "private": True})
    run_validate(tmp_path, small_table(), private)
    assert not read_schema(layout.schema).columns["c"].checks


def test_levels_that_few_rows_have_are_listed_nowhere_and_bounded_in_number(tmp_path: Path) -> None:
    table = with_first(small_table(), "c", "only once")
    schema = infer_schema(table, small_settings().dataset, Validate(null_share_slack=0.01), "small")
    write_schema(schema, tmp_path / "schema.yaml")
    assert "only once" not in (tmp_path / "schema.yaml").read_text()
    read = read_schema(tmp_path / "schema.yaml")
    assert failures(table, schema, 5) == failures(table, read, 5) == []
    others = table.with_columns(c=pl.when(pl.int_range(pl.len()) < 9).then(pl.lit("new")).otherwise("c"))
    (failure,) = failures(others, read, 5)
    assert (failure.column, failure.rows, failure.seen) == ("c", 9, "2.2% of others")
    listed = infer_schema(small_table(), small_settings().dataset, Validate(), "small")
    assert failures(table, listed, 5)[0].seen == "1 that fewer than 5 rows have"
    assert failures(others, listed, 5)[0].seen == "new"


def test_numbers_that_name_rows_have_no_range_for_those_of_later_rows_lie_beyond() -> None:
    data, keys = small_settings(i="integer").dataset, pl.Series(range(10_001, 10_001 + ROWS))
    schema = infer_schema(small_table().with_columns(i=keys), data, Validate(), "small")
    assert failures(small_table().with_columns(i=keys + 9_999), schema) == []


def test_every_missing_column_is_named() -> None:
    assert {failure.column for failure in broken_rules(small_table().drop("b", "n"))} == {"b", "n"}


def test_failures_come_with_most_rows_first() -> None:
    table = with_first(small_table(), "i", 999).with_columns(c=pl.lit("z"))
    assert [failure.rows for failure in broken_rules(table)] == [ROWS, 1]


def test_ranges_have_slack_but_what_was_never_negative_stays_so() -> None:
    table = pl.DataFrame({"n": [2.0, 10.0], "m": [-1.0, 1.0], "i": [3, 10], "y": [0, 1]}, schema_overrides={"y": pl.Int8})
    data = table_settings({"n": "number", "m": "number", "i": "integer", "y": "boolean"}, task="binary").dataset
    schema = infer_schema(table, data, Validate(range_slack=0.5), "small")
    bounds = {name: schema.columns[name].checks[0].statistics for name in ("n", "m", "i")}
    assert (bounds["n"]["min_value"], bounds["n"]["max_value"]) == (0, 14)
    assert (bounds["m"]["min_value"], bounds["m"]["max_value"]) == (-2, 2)
    assert (bounds["i"]["min_value"], bounds["i"]["max_value"]) == (0, 14)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-1e12, 1e12, allow_subnormal=False) | st.none(), min_size=1, max_size=15),
    st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=15),
    st.floats(0, 1),
)
def test_every_table_keeps_the_schema_inferred_from_it(numbers: list[float | None], integers: list[int], slack: float) -> None:
    rows = min(len(numbers), len(integers))
    table = pl.DataFrame({"n": numbers[:rows], "i": integers[:rows]}, schema={"n": pl.Float64, "i": pl.Int64})
    data = table_settings({"n": "number", "i": "integer"}, target="i").dataset
    assert failures(table, infer_schema(table, data, Validate(range_slack=slack), "any")) == []


def test_a_column_of_nulls_alone_has_no_range() -> None:
    table = small_table().with_columns(n=pl.lit(None, dtype=pl.Float64))
    schema = infer_schema(table, small_settings().dataset, Validate(), "small")
    assert schema.columns["n"].checks == []


@pytest.mark.parametrize("text", ["", "a: 1", "- 1", "columns: 3", "columns: {n: {dtype: nosuch}}", "{", "columns: {n: 5}"])
def test_a_file_that_is_no_schema_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text(text)
    with pytest.raises(PipelineError) as caught:
        read_schema(path)
    assert_one_line(caught.value, str(path), "is no Pandera schema", "delete it")


def run_validate(folder: Path, table: pl.DataFrame, settings: Settings) -> Layout:
    layout = layout_in(folder, settings)
    layout.raw.parent.mkdir(parents=True)
    table.write_parquet(layout.raw)
    validate(settings, layout, quiet())
    return layout


def test_a_good_table_passes_and_its_schema_is_written(tmp_path: Path) -> None:
    layout = run_validate(tmp_path, small_table(), small_settings())
    report = read_json(layout.validation_json)
    assert report["passed"]
    assert report["target"] == {str(k): v for k, v in sorted(small_table()["y"].value_counts().iter_rows())}
    assert layout.schema.is_file()
    assert "<html" in layout.validation_html.read_text()


def test_a_committed_schema_is_kept_and_enforced(tmp_path: Path) -> None:
    layout = layout_in(tmp_path, small_settings())
    write_schema(infer_schema(small_table(), small_settings().dataset, Validate(), "small"), layout.schema)
    before = layout.schema.read_bytes()
    with pytest.raises(PipelineError) as caught:
        run_validate(tmp_path, small_table().with_columns(c=pl.lit("z")), small_settings())
    assert_one_line(caught.value, "1 check failed", "c: ", "small.schema.yaml")
    assert layout.schema.read_bytes() == before


def noise(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=ROWS)


CHECKS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a copy of the target": (lambda t: t.with_columns(n=pl.col("y").cast(pl.Float64)), {}, "n: no leakage"),
    "the target behind noise": (lambda t: t.with_columns(n=pl.col("y") * 10.0 + noise()), {}, "n: no leakage"),
    "a category that spells the target": (
        lambda t: t.with_columns(c=pl.when(pl.col("y") == 1).then(pl.lit("p")).otherwise(pl.lit("q"))),
        {},
        "c: no leakage",
    ),
    "nulls that give the target away": (lambda t: t.with_columns(n=pl.when(pl.col("y") == 1).then(pl.lit(3.0))), {}, "n: no leakage"),
    "duplicates": (lambda t: pl.concat([t, t.head(20)]), {}, "at most 1.0% duplicate rows"),
    "one class": (lambda t: t.with_columns(y=pl.lit(1, dtype=pl.Int8)), {}, "y: at least two classes"),
    "a rare class": (lambda t: t.with_columns(y=(pl.int_range(pl.len()) == 7).cast(pl.Int8)), {}, "y: each class at least 1.0%"),
    "a repeated key": (lambda t: t.with_columns(i=pl.int_range(pl.len()) // 2), {"entity_key": ["i"]}, "i: entity_key is unique"),
}


@pytest.mark.parametrize("case", CHECKS)
def test_what_would_make_a_model_lie_is_found_and_reported(case: str, tmp_path: Path) -> None:
    change, dataset, words = CHECKS[case]
    settings = table_settings(COLUMNS, task="binary", **dataset)
    with pytest.raises(PipelineError) as caught:
        run_validate(tmp_path, change(small_table()), settings)
    assert_one_line(caught.value, words)
    layout = layout_in(tmp_path, settings)
    report = read_json(layout.validation_json)
    assert not report["passed"]
    rules = [f"{failure['column']}: {failure['rule']}" for failure in report["failures"]]
    assert any(words in rule for rule in rules)
    assert words.split(": ")[-1] in layout.validation_html.read_text()


@pytest.mark.parametrize(
    ("limit", "repeated", "said"),
    [(0.01, 41, ("1.00%", "1.01%")), (0.01, 81, ("1.0%", "2.0%")), (0.0005, 41, ("0.05%", "1.01%")), (0.0, 1, ("0.00%", "0.02%"))],
)
def test_a_limit_and_what_was_seen_beyond_it_never_read_alike(limit: float, repeated: int, said: tuple[str, str]) -> None:
    table = pl.DataFrame({"x": range(4_000 + repeated)})
    examined = Examined(table, table_settings({"x": "number", "y": "number"}).dataset, ("x",), cast(Any, None), repeated, {})
    [failure] = few_duplicates(examined, Validate(max_duplicate_share=limit))
    assert (failure.rule, failure.seen) == (f"at most {said[0]} duplicate rows", said[1])


def test_a_regression_target_that_never_varies_is_found(tmp_path: Path) -> None:
    table = pl.DataFrame({"x": noise(), "y": np.ones(ROWS)})
    with pytest.raises(PipelineError, match="y: target varies"):
        run_validate(tmp_path, table, table_settings({"x": "number", "y": "number"}))


def test_a_regressions_leak_is_found(tmp_path: Path) -> None:
    table = pl.DataFrame({"x": noise() * 2 + 1, "y": noise()})
    with pytest.raises(PipelineError, match="x: no leakage"):
        run_validate(tmp_path, table, table_settings({"x": "number", "y": "number"}))


def gentle(columns: dict[str, Any] | None = None, task: str = "binary", **changes: Any) -> Settings:
    """Settings as `mlops init` writes them: a failed check warns."""
    made = table_settings(columns or COLUMNS, task=task)
    return made.model_copy(update={"validate_": Validate(**changes)})


def columns_of(layout: Layout) -> dict[str, Any]:
    return {column["name"]: column for column in read_json(layout.columns)["columns"]}


LEAKS: dict[str, Any] = {
    "a copy": lambda y, _rng: y.cast(pl.Float64),
    "a copy with a few wrong": lambda y, rng: pl.Series(np.where(rng.random(len(y)) < 0.01, 1 - y.to_numpy(), y.to_numpy())).cast(
        pl.Float64
    ),
    "known only where it happened": lambda y, rng: y.cast(pl.Float64).replace(0, None) * 7 + pl.Series(rng.normal(size=len(y))),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_suspected_leak_is_left_out_with_the_figure_that_accuses_it_and_the_run_goes_on(case: str, tmp_path: Path) -> None:
    table = small_table()
    table = table.with_columns(LEAKS[case](table["y"], np.random.default_rng(1)).alias("n"))
    layout = run_validate(tmp_path, table, gentle())
    report = columns_of(layout)
    assert report["n"]["use"] == "left out"
    assert report["n"]["alone"] > 0.95
    assert report["n"]["others"] < 0.7
    assert "alone it tells the target with AUC" in report["n"]["why"]
    assert "validate: {trusted: [n]}" in report["n"]["why"]
    assert report["n"]["why"] in layout.validation_html.read_text()
    assert "n" not in feature_columns(as_validated(gentle(), layout.columns))
    assert "i" in feature_columns(as_validated(gentle(), layout.columns))


def test_a_category_of_many_levels_names_the_classes_more_finely_and_is_kept_and_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 1200)
    breeds = pl.Series([f"{'dog' if one else 'cat'} {rng.integers(0, 20)}" for one in y])
    table = pl.DataFrame({"n": rng.normal(size=1200), "c": breeds, "y": pl.Series(y, dtype=pl.Int8)})
    columns = {"n": "number", "c": "category", "y": "integer"}
    report = columns_of(run_validate(tmp_path, table, gentle(columns)))
    assert report["c"]["use"] == "feature"
    assert "name the classes more finely" in report["c"]["note"]
    few = table.with_columns(c=pl.col("c").str.head(3))
    assert columns_of(run_validate(tmp_path / "few", few, gentle(columns)))["c"]["use"] == "left out"


def test_copies_of_the_outcome_do_not_clear_each_other(tmp_path: Path) -> None:
    table = small_table().with_columns(n=pl.col("y") * 2.0, i=pl.col("y").cast(pl.Int64) * 3 + (pl.int_range(pl.len()) % 3 == 0))
    report = columns_of(run_validate(tmp_path, table, gentle()))
    assert [report[name]["use"] for name in ("n", "i", "b")] == ["left out", "left out", "feature"]


def test_where_every_feature_is_suspected_all_are_kept_and_said(tmp_path: Path) -> None:
    price = pl.Series("y", np.random.default_rng(0).lognormal(size=400))
    table = pl.DataFrame([price]).select(n=pl.col("y") / 1.19, m=pl.col("y").log(), y="y")
    settings = gentle({"n": "number", "m": "number", "y": "number"}, "regression")
    layout = layout_in(tmp_path, settings)
    layout.raw.parent.mkdir(parents=True)
    table.write_parquet(layout.raw)
    told: list[Any] = []
    validate(settings, layout, quiet(), told.append)
    report = columns_of(layout)
    assert report["n"]["use"] == "feature"
    assert "suspected leak: alone it tells the target with AUC 1.000" in report["n"]["note"]
    assert any("no other feature is left" in event.text for event in told)


def test_a_trusted_column_is_kept(tmp_path: Path) -> None:
    table = small_table().with_columns(n=pl.col("y").cast(pl.Float64))
    report = columns_of(run_validate(tmp_path, table, gentle(trusted=("n",))))
    assert report["n"]["use"] == "feature"
    assert report["n"]["alone"] == 1
    assert "kept" in report["n"]["note"]


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "wine", "digits"])
def test_an_honest_strong_feature_is_kept(name: str, tmp_path: Path) -> None:
    from sklearn import datasets

    given = getattr(datasets, f"load_{name}")()
    names = [f"c{n}" for n in range(given.data.shape[1])]
    table = pl.DataFrame(dict(zip(names, given.data.T, strict=True))).with_columns(y=pl.Series(given.target))
    task = "binary" if name == "breast_cancer" else "multiclass"
    report = columns_of(run_validate(tmp_path, table, gentle({**dict.fromkeys(names, "number"), "y": "integer"}, task)))
    assert {column["use"] for name, column in report.items() if name != "y"} == {"feature"}


def test_a_numbers_logarithm_is_suspected_and_its_honest_size_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = rng.lognormal(size=60)
    price = size * np.exp(rng.normal(0, 0.15, size=60))
    other = {"width": size * np.exp(rng.normal(0, 0.05, 60)), "noise": rng.normal(size=60)}
    table = pl.DataFrame({"size": size, **other, "logarithm": np.log(price), "y": price})
    kinds = dict.fromkeys(("size", "width", "noise", "logarithm", "y"), "number")
    report = columns_of(run_validate(tmp_path, table, gentle(kinds, "regression")))
    assert [name for name, column in report.items() if column["use"] == "left out"] == ["logarithm"]


@pytest.mark.parametrize("case", ["duplicates", "a rare class"])
def test_what_is_merely_unusual_is_said_and_counted_and_does_not_stop(case: str, tmp_path: Path) -> None:
    change, _, words = CHECKS[case]
    layout = layout_in(tmp_path, gentle())
    layout.raw.parent.mkdir(parents=True)
    change(small_table()).write_parquet(layout.raw)
    told: list[Any] = []
    validate(gentle(), layout, quiet(), told.append)
    report = read_json(layout.validation_json)
    assert report["passed"]
    assert any(words in f"{failure['column']}: {failure['rule']}" for failure in report["failures"])
    assert ("20 of 420 rows repeat another" if case == "duplicates" else "each class at least") in " ".join(event.text for event in told)


def test_what_would_make_the_result_false_always_stops(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="at least two classes"):
        run_validate(tmp_path, small_table().with_columns(y=pl.lit(1, dtype=pl.Int8)), gentle())
    assert not layout_in(tmp_path, gentle()).schema.exists(), "a run that failed leaves no schema in the next one's way"


def test_a_schema_that_nobody_edited_follows_the_columns(tmp_path: Path) -> None:
    layout = run_validate(tmp_path, small_table(), small_settings())
    settings = small_settings(i="category")
    other = small_table().with_columns(pl.col("i").cast(pl.String))
    other.write_parquet(layout.raw)
    validate(settings, layout, quiet())
    assert read_schema(layout.schema).columns["i"].dtype.type == pl.String


def test_a_schema_that_was_edited_stays_and_the_column_is_named(tmp_path: Path) -> None:
    layout = run_validate(tmp_path, small_table(), small_settings())
    layout.schema.write_text(layout.schema.read_text().replace("max_value: ", "max_value: 9", 1))
    small_table().with_columns(pl.col("i").cast(pl.String)).drop("b").write_parquet(layout.raw)
    changed = table_settings({**{name: kind for name, kind in COLUMNS.items() if name != "b"}, "i": "category"}, task="binary")
    with pytest.raises(PipelineError) as caught:
        validate(changed, layout, quiet())
    assert_one_line(caught.value, "first b: column_in_dataframe", "2 checks failed")
    found = {failure["column"]: failure for failure in read_json(layout.validation_json)["failures"]}
    assert found["i"]["rule"] == "its type is Int64"
    assert "delete the schema's file" in found["i"]["remedy"]


def test_a_running_number_that_is_a_feature_is_remarked_on(tmp_path: Path) -> None:
    table = small_table().with_columns(n=pl.int_range(pl.len()).cast(pl.Float64))
    assert "running number" in columns_of(run_validate(tmp_path, table, gentle()))["n"]["note"]


def feature_auc(feature: pl.Series, target: pl.Series, task: str = "binary") -> float:
    kind = "category" if feature.dtype == pl.String else "number"
    data = table_settings({"x": kind, "y": "category" if task == "multiclass" else "number"}, task=task).dataset
    return single_feature_aucs(pl.DataFrame({"x": feature, "y": target}), ["x"], data)["x"]


@pytest.mark.parametrize("values", [40, 4000], ids=["few values", "as many values as rows"])
@pytest.mark.parametrize("kind", ["number", "category"])
def test_noise_is_no_leak_however_many_values_it_has(kind: str, values: int) -> None:
    rng = np.random.default_rng(3)
    feature = pl.Series(rng.integers(0, values, size=4000)).cast(pl.String if kind == "category" else pl.Float64)
    assert feature_auc(feature, pl.Series(rng.integers(0, 2, size=4000))) < 0.56


@pytest.mark.parametrize("rows", [1_000, 130_000], ids=["all rows", "some of many"])
def test_a_leak_is_seen_where_classes_come_by_turns(rows: int) -> None:
    """As winner and loser of each game do: of every other row all are of one class."""
    rng = np.random.default_rng(3)
    y = np.arange(rows) % 2
    assert feature_auc(pl.Series(y + rng.normal(scale=0.1, size=rows)), pl.Series(y)) > 0.99
    assert feature_auc(pl.Series(rng.normal(size=rows)), pl.Series(y)) < 0.56


def test_a_leak_is_left_out_where_classes_come_by_turns() -> None:
    rng = np.random.default_rng(3)
    y = np.arange(9_000) % 2
    data = table_settings({"leak": "number", "x": "number", "y": "integer"}, task="binary").dataset
    table = pl.DataFrame({"leak": y + rng.normal(scale=0.01, size=9_000), "x": rng.normal(size=9_000), "y": y})
    found = strong_features(table, single_feature_aucs(table, ["leak", "x"], data), data, 0.9, 0)
    assert [(name, each.suspected) for name, each in found.items()] == [("leak", True)]


def test_of_very_many_classes_a_leak_is_told_from_two_signs_of_the_same_thing() -> None:
    """They are told apart by one model, not by one for each."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 40, size=1_200)
    noise = rng.normal(size=(3, 1_200))
    signs = {"length": classes * 10 + noise[0], "width": classes * 7 - noise[1]}
    for columns, suspected in (({"number": classes * 3, "x": noise[2]}, {"number": True}), (signs, {"length": False, "width": False})):
        table = pl.DataFrame({**columns, "y": [f"k{each}" for each in classes]})
        data = table_settings(dict.fromkeys(columns, "number") | {"y": "category"}, task="multiclass").dataset
        found = strong_features(table, single_feature_aucs(table, list(columns), data), data, 0.9, 0)
        assert {name: each.suspected for name, each in found.items()} == suspected


def test_a_number_that_predicts_in_no_straight_line_is_seen() -> None:
    x = np.random.default_rng(3).normal(size=4000)
    assert feature_auc(pl.Series(x), pl.Series((np.abs(x) > 0.7).astype(int))) > 0.95


def test_a_column_that_tells_one_of_several_classes_is_seen() -> None:
    y = np.random.default_rng(3).choice(["a", "b", "c"], size=2000)
    assert feature_auc(pl.Series((y == "b").astype(float)), pl.Series(y), "multiclass") == 1


def test_a_text_scores_by_its_best_word_and_not_by_its_noise() -> None:
    draw = np.random.default_rng(3)
    y = pl.Series(draw.integers(0, 2, size=1000))
    data = table_settings({"x": "text", "y": "number"}, task="binary").dataset
    noise = [" ".join(f"w{word}" for word in draw.integers(0, 300, size=12)) for _ in range(1000)]
    twin = [f"{text} {('beta', 'alpha')[label]}" for text, label in zip(noise, y, strict=True)]
    none: list[str | None] = [None] * 1000
    found = [single_feature_aucs(pl.DataFrame({"x": pl.Series(x, dtype=pl.String), "y": y}), ["x"], data)["x"] for x in (noise, twin, none)]
    assert found[0] < 0.56
    assert found[1:] == [1.0, 0.5]


TEXT_TABLE = {"x": "text", "y": "category"}


def written_into(text: str, draw: Any, label: int, how: str) -> str:
    """A text with its class written into it, in words each of which says nothing alone."""
    if how == "words in a row":
        first, *rest = text.split()
        return " ".join([first, "case was closed" if label else draw.choice(["case", "was", "closed", "", ""]), *rest])
    if how == "behind a word":
        return f"case {('open', 'pending', 'held', 'closed', 'done', 'settled')[3 * label + draw.integers(0, 3)]} {text}"
    return f"by C{draw.integers(0, 40) * 2 + label} {text}"


@pytest.mark.parametrize(
    ("how", "what"),
    [("words in a row", "the words «case was closed»"), ("behind a word", "the word behind «case»"), ("identifier", "its first code")],
)
@pytest.mark.parametrize("private", [False, True])
def test_a_text_with_the_outcome_written_into_it_is_named_with_the_figure_that_accuses_it(
    how: str, what: str, private: bool, tmp_path: Path
) -> None:
    draw = np.random.default_rng(3)
    y = (draw.random(800) < 0.25).astype(int)
    noise = [" ".join(f"w{'abcdefghij'[word]}" for word in draw.integers(0, 10, size=9)) for _ in y]
    texts = [written_into(text, draw, label, how) for text, label in zip(noise, y, strict=True)]
    table = pl.DataFrame({"x": texts, "y": np.array(["no", "yes"])[y]})
    settings = gentle({"x": {"kind": "text", "private": private}, "y": "category"})
    layout = run_validate(tmp_path, table, settings)
    use = columns_of(layout)["x"]
    assert use["use"] == "feature", "nothing else is left to learn from"
    told = "by some words in it" if private else f"by {what}"
    assert f"{told} alone the target is told with AUC 1.000 on rows not looked at for it: is the outcome written there?" in use["note"]
    assert read_json(layout.validation_json)["single_feature_auc"]["x"] == 1
    if private:
        assert "«" not in use["note"]


@pytest.mark.parametrize(("values", "use"), [(2, "left out"), (5, "feature")], ids=["the outcome", "nouns of a category"])
def test_a_text_whose_last_word_names_the_class_is_left_out_where_few_words_do(values: int, use: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    y = draw.integers(0, 3, size=900)
    heads = (" ".join(f"w{'abcdefghij'[word]}" for word in draw.integers(0, 10, size=4)) for _ in y)
    texts = [f"{head} {'abc'[label]}{'vwxyz'[draw.integers(0, values)]}" for head, label in zip(heads, y, strict=True)]
    table = pl.DataFrame({"x": texts, "n": draw.normal(size=900), "y": np.array(["no", "yes", "so"])[y]})
    settings = gentle({"x": "text", "n": "number", "y": "category"}, "multiclass")
    found = columns_of(run_validate(tmp_path, table, settings))["x"]
    assert found["use"] == use
    assert "by its last word alone the target is told with AUC 1.000" in found["note"]
    assert ("many words in one place of it name the classes more finely" in found["note"]) == (use == "feature")


def test_one_long_word_costs_no_memory_for_every_text() -> None:
    words = [[f"w{row % 7}", "x" * (100_000 if row == 5 else 1)] for row in range(300)]
    label = pl.Series([row % 2 == 0 for row in range(300)])
    tracemalloc.start()
    telling(words, [label], lambda *_: 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_text_without_the_outcome_in_it_is_not_accused_of_it() -> None:
    draw = np.random.default_rng(4)
    y = draw.integers(0, 2, size=800)
    noise = [" ".join(f"w{word}" for word in draw.integers(0, 30, size=9)) for _ in y]
    texts = pl.Series([text + (" good" if draw.random() < 0.3 + 0.4 * one else "") for text, one in zip(noise, y, strict=True)])
    data = table_settings(TEXT_TABLE, task="binary").dataset
    assert phrase_in(texts, pl.Series(y), data, 0.8, str.split) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_the_area_under_the_curve_is_scikit_learns(rows: list[tuple[int, bool]]) -> None:
    scores, positive = [float(s) for s, _ in rows], [p for _, p in rows]
    expected = roc_auc_score(positive, scores) if len(set(positive)) == 2 else 0.5
    assert auc(pl.Series(scores), pl.Series(positive)) == pytest.approx(expected)
