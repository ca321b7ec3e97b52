"""What is held out: by a moment in time, or at random within each class."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.config.pipeline import Features, Settings, Split
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import read_json, write_json
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.stages.split import _stratified, split
from mlops_pipeline.tables.columns import write_columns
from tests.unit_tests.workshop import assert_one_line, layout_in, quiet, settings_with, table_settings


def run_split(
    folder: Path, table: pl.DataFrame, settings: Settings, *, passed: bool = True, as_of: str | None = None
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    layout = layout_in(folder, settings)
    prepare(layout, table, passed, as_of)
    split(settings, layout, quiet())
    return pl.read_parquet(layout.train), pl.read_parquet(layout.test), read_json(layout.split_report)


def prepare(layout: Layout, table: pl.DataFrame, passed: bool, as_of: str | None) -> None:
    layout.raw.parent.mkdir(parents=True)
    table.write_parquet(layout.raw)
    write_json(layout.validation_json, {"passed": passed})
    write_columns(layout.columns, [])
    write_json(layout.ingest_report, {"as_of": as_of})


def hours(count: int) -> pl.DataFrame:
    start = datetime(2024, 1, 1)
    return pl.DataFrame({"day": [start + timedelta(hours=h) for h in range(count)], "late": [h % 2 for h in range(count)]})


def by_time(**moments: str) -> Settings:
    return settings_with(split={"test_from": None, "kind": "time", **moments})


def test_the_moment_itself_is_held_out_and_the_end_is_not(tmp_path: Path) -> None:
    settings = by_time(train_from="2024-01-01T02:00", test_from="2024-01-01T05:00", test_until="2024-01-01T07:00")
    train, test, report = run_split(tmp_path, hours(10), settings)
    assert [moment.hour for moment in train["day"]] == [2, 3, 4]
    assert [moment.hour for moment in test["day"]] == [5, 6]
    assert (report["kind"], report["train_rows"], report["test_rows"]) == ("time", 3, 2)
    assert report["test_span"] == "2024-01-01 05:00:00 to 2024-01-01 06:00:00"


def test_without_bounds_every_row_is_in_one_part(tmp_path: Path) -> None:
    train, test, _ = run_split(tmp_path, hours(10), by_time(test_from="2024-01-01T04:00"))
    assert pl.concat([train, test]).equals(hours(10))


@pytest.mark.parametrize(("moment", "part"), [("2023-01-01", "training"), ("2025-01-01", "held-out")])
def test_an_empty_part_is_told_in_one_line_with_the_span_of_the_table(moment: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        run_split(tmp_path, hours(10), by_time(test_from=moment))
    assert_one_line(caught.value, "split", f"no {part} row is left of 10", "2024-01-01 to 2024-01-01 09:00:00")
    assert not layout_in(tmp_path, by_time(test_from=moment)).train.exists()


def test_a_table_that_failed_validation_is_not_split(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="failed validation"):
        run_split(tmp_path, hours(10), by_time(test_from="2024-01-01T04:00"), passed=False)


def test_few_held_out_rows_are_warned_of(tmp_path: Path) -> None:
    _, _, few = run_split(tmp_path / "few", hours(300), by_time(test_from="2024-01-12"))
    _, _, enough = run_split(tmp_path / "enough", hours(300), by_time(test_from="2024-01-02"))
    assert few["warning"] == "only 36 rows are held out: no split of that size proves anything about the model"
    assert enough["warning"] is None


def days(count: int) -> pl.DataFrame:
    """Rows at noon of each day from 1 January 2024 on."""
    start = datetime(2024, 1, 1, 12)
    return pl.DataFrame({"day": [start + timedelta(days=d) for d in range(count)], "late": [d % 2 for d in range(count)]})


@pytest.mark.parametrize(
    ("rule", "as_of", "first", "held", "last"),
    [
        ({"test_last": "31d"}, None, "2024-01-01", "2024-03-01", "2024-03-31"),
        ({"test_last": "1mo"}, None, "2024-01-01", "2024-03-01", "2024-03-31"),
        ({"test_last": "2w", "train_last": "30d"}, None, "2024-02-17", "2024-03-18", "2024-03-31"),
        ({"test_last": "31d"}, "2024-03-01", "2024-01-01", "2024-01-30", "2024-02-29"),
        ({"test_last": "36h"}, None, "2024-01-01", "2024-03-30", "2024-03-31"),
        ({"test_from": "2024-03-01", "train_last": "7d"}, None, "2024-02-23", "2024-03-01", "2024-03-31"),
    ],
)
def test_a_window_moves_with_the_newest_row_or_before_the_as_of(
    rule: dict[str, str], as_of: str | None, first: str, held: str, last: str, tmp_path: Path
) -> None:
    table = days(91) if as_of is None else days(91).filter(pl.col("day") < datetime.fromisoformat(as_of))
    train, test, report = run_split(tmp_path, table, by_time(**rule), as_of=as_of)
    assert str(train["day"].min())[:10] == first
    assert [str(test["day"].min())[:10], str(test["day"].max())[:10]] == [held, last]
    assert train["day"].max() < test["day"].min()  # type: ignore[operator]
    assert ("as-of" in report["window"]) == (as_of is not None)
    assert "trained on" in report["window"]


def test_a_table_that_ends_long_before_the_as_of_has_its_newest_rows_held_out_and_that_is_said(tmp_path: Path) -> None:
    window = {"test_last": "10d"}
    _, newest, _ = run_split(tmp_path / "newest", days(91), by_time(**window))
    _, held, report = run_split(tmp_path, days(91), by_time(**window), as_of="2026-11-30T01:01:08")
    assert held.equals(newest)
    assert "up to the newest row" in report["window"]
    assert "none is of the 10d before 2026-11-30T01:01:08, --as-of" in report["window"]


def test_a_table_that_says_never_by_its_last_day_is_told_of_what_is_not_there(tmp_path: Path) -> None:
    table = pl.concat([days(10), pl.DataFrame({"day": [datetime(9999, 12, 31)], "late": [0]})])
    train, test, _ = run_split(tmp_path, table, by_time(test_last="5d"))
    assert (train.height, test.height) == (10, 1)
    with pytest.raises(PipelineError, match="before the year 1: give a shorter span"):
        run_split(tmp_path / "long", days(10).with_columns(pl.col("day").dt.offset_by("-1000y")), by_time(test_last="1500y"))


def at_random(share: float, task: str = "multiclass", seed: int = 7) -> Settings:
    settings = table_settings({"row": "number", "y": "category" if task == "multiclass" else "number"}, task=task)
    return settings.model_copy(update={"seed": seed, "split": settings.split.model_copy(update={"test_share": share})})


def test_every_class_has_the_same_share_held_out(tmp_path: Path) -> None:
    table = pl.DataFrame({"row": range(1000), "y": ["a"] * 700 + ["b"] * 200 + ["c"] * 100})
    _, test, _ = run_split(tmp_path, table, at_random(0.2))
    assert dict(test["y"].value_counts().iter_rows()) == {"a": 140, "b": 40, "c": 20}


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    table = pl.DataFrame({"row": range(100), "y": ["a", "b"] * 50})
    _, first, _ = run_split(tmp_path / "1", table, at_random(0.2))
    _, second, _ = run_split(tmp_path / "2", table, at_random(0.2))
    _, other, _ = run_split(tmp_path / "3", table, at_random(0.2, seed=8))
    assert first.equals(second)
    assert not first.equals(other)


def test_a_class_of_one_row_is_trained_on(tmp_path: Path) -> None:
    train, test, _ = run_split(tmp_path, pl.DataFrame({"row": range(5), "y": ["a", "a", "a", "a", "b"]}), at_random(0.5))
    assert "b" in train["y"].to_list()
    assert test.height == 2


def test_one_row_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no held-out row is left of 1"):
        run_split(tmp_path, pl.DataFrame({"row": [1], "y": ["a"]}), at_random(0.5))


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.sampled_from("abc"), min_size=2, max_size=40),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
    task=st.sampled_from(["multiclass", "regression"]),
)
def test_the_parts_are_disjoint_together_complete_and_never_empty(labels: list[str], share: float, seed: int, task: str) -> None:
    y: list[Any] = labels if task == "multiclass" else [float(ord(label)) for label in labels]
    table = pl.DataFrame({"row": range(len(labels)), "y": y})
    train, test = _stratified(table, at_random(share, task, seed))
    assert sorted([*train["row"], *test["row"]]) == list(range(len(labels)))
    assert train.height and test.height
    if task == "multiclass" and len(set(y)) < len(y):
        assert set(train["y"]) == set(y)


def sides(train: pl.DataFrame, test: pl.DataFrame, features: list[str]) -> set[tuple[Any, ...]]:
    """Feature values that stand on both sides."""
    return set(train.select(features).rows()) & set(test.select(features).rows())


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_equal_rows_are_never_parted_and_the_share_is_kept(task: str, tmp_path: Path) -> None:
    y = ["a", "b", "c"] if task == "multiclass" else [1.0, 2.0, 3.0]
    table = pl.DataFrame({"row": [n % 450 for n in range(600)], "y": [y[n % 450 % 3] for n in range(600)]})
    train, test, _ = run_split(tmp_path, table, at_random(0.2, task))
    assert not sides(train, test, ["row", "y"])
    assert test.height == pytest.approx(120, abs=16)
    assert sorted(pl.concat([train, test]).rows()) == sorted(table.rows())


@pytest.mark.parametrize("unused", ["entity_key", "known_after_outcome"])
def test_rows_that_differ_only_in_what_a_model_does_not_see_are_never_parted(unused: str, tmp_path: Path) -> None:
    table = pl.DataFrame({"row": [n // 2 for n in range(600)], "id": range(600), "y": [["a", "b", "c"][n // 2 % 3] for n in range(600)]})
    settings = table_settings({"row": "number", "id": "integer", "y": "category"}, task="multiclass")
    settings = settings.model_copy(update={"dataset": settings.dataset.model_copy(update={unused: ("id",)})})
    train, test, _ = run_split(tmp_path, table, settings)
    assert not sides(train, test, ["row"])
    assert test.height > 100


def test_rows_of_equal_features_and_other_classes_are_on_one_side(tmp_path: Path) -> None:
    table = pl.DataFrame({"row": [n // 5 for n in range(500)], "y": ["a" if n % 3 else "b" for n in range(500)]})
    train, test, _ = run_split(tmp_path, table, at_random(0.25))
    assert not sides(train, test, ["row"])
    assert test.height == pytest.approx(125, abs=5)


def by_sex_class_and_age(rows: int) -> pl.DataFrame:
    """People of whom three things are known, one of them often not: many are equal by chance, and no two of them need have one fate."""
    random = np.random.default_rng(5)
    sex, cabin = random.integers(0, 2, rows), random.integers(0, 3, rows)
    age = np.where(random.random(rows) < 0.25, -1, random.integers(1, 70, rows))
    return pl.DataFrame({"sex": sex, "cabin": cabin, "age": age, "y": np.where(random.random(rows) < 0.2 + 0.5 * sex, "a", "b")})


def test_rows_that_few_values_make_equal_are_held_out_like_any_others(tmp_path: Path) -> None:
    """Else all women of a cabin whose age is not known would be on one side, and a seventh of the cabin held out, or a half."""
    kinds = {"sex": "integer", "cabin": "integer", "age": "integer", "y": "category"}
    for seed in range(6):
        settings = table_settings(kinds, task="multiclass").model_copy(update={"seed": seed, "split": Split(test_share=0.25)})
        train, test, _ = run_split(tmp_path / str(seed), by_sex_class_and_age(1200), settings)
        unknown = [each.filter(pl.col("age") < 0).group_by("sex", "cabin").len().height for each in (train, test)]
        assert unknown == [6, 6]
        assert test.height == pytest.approx(300, abs=20)


def test_copies_of_rows_are_not_parted_though_few_values_make_others_equal(tmp_path: Path) -> None:
    kinds = {"sex": "integer", "cabin": "integer", "age": "integer", "weight": "number", "y": "category"}
    table = by_sex_class_and_age(600).with_columns(weight=pl.int_range(600).cast(pl.Float64))
    settings = table_settings(kinds, task="multiclass")
    train, test, _ = run_split(tmp_path, pl.concat([table] * 5), settings)
    assert test.height > 500
    assert not sides(train, test, ["sex", "cabin", "age", "weight"])


def test_rows_that_repeat_are_held_out_in_the_same_share_of_every_class(tmp_path: Path) -> None:
    """Eighty rows by treatment, sex and age: half are of one class, and so are half of those held out."""
    for seed in range(8):
        table = pl.DataFrame({"row": [n // 2 for n in range(80)], "y": [["a", "a", "b", "c"][n // 2 % 4] for n in range(80)]})
        _, test, _ = run_split(tmp_path / str(seed), table, at_random(0.25, seed=seed))
        assert test["y"].value_counts().sort("y").rows() == [("a", 10), ("b", 6), ("c", 6)]


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_all_rows_of_one_thing_are_on_one_side_and_the_share_is_kept(task: str, tmp_path: Path) -> None:
    y = ["a", "b", "b"] if task == "multiclass" else [1.0, 2.0, 3.0]
    table = pl.DataFrame({"row": range(600), "who": [None if n > 590 else n % 85 for n in range(600)], "y": [y[n % 3] for n in range(600)]})
    settings = table_settings({"row": "number", "who": "integer", "y": "category" if task == "multiclass" else "number"}, task=task)
    settings = settings.model_copy(update={"split": Split(test_share=0.2, together=("who",))})
    train, test, _ = run_split(tmp_path, table, settings)
    assert not sides(train.drop_nulls(), test.drop_nulls(), ["who"])
    assert 0 < test["who"].null_count() < 9, "rows that name nobody are no group"
    assert test.height == pytest.approx(120, abs=12)
    assert set(train["y"]) == set(test["y"])
    more = pl.concat([table, table.with_columns(pl.col("row") + 600)])
    later = run_split(tmp_path / "later", more, settings)[1]
    assert set(test["who"]) - {None} <= set(later["who"])


def test_rows_that_name_nothing_keep_their_side_in_whatever_order_they_come_and_equal_ones_are_not_parted(tmp_path: Path) -> None:
    rows = pl.DataFrame({"row": [n % 200 for n in range(500)], "who": [n if n % 5 == 0 else None for n in range(500)]})
    table = rows.with_columns(y=pl.col("row").cast(pl.Float64), id=pl.int_range(500))
    settings = table_settings({"row": "number", "who": "integer", "id": "integer", "y": "number"})
    settings = settings.model_copy(update={"split": Split(together=("who",)), "features": Features(exclude=("id",))})
    train, test, _ = run_split(tmp_path / "first", table, settings)
    nameless = [each.filter(pl.col("who").is_null()) for each in (train, test)]
    assert nameless[1].height and not sides(*nameless, ["row"])
    again = run_split(tmp_path / "again", table.sample(fraction=1, shuffle=True, seed=1), settings)[1]
    assert set(again["id"]) == set(test["id"])


def test_what_is_counted_of_rows_that_belong_together_are_the_things(tmp_path: Path) -> None:
    table = pl.DataFrame({"row": range(4000), "who": [n % 80 for n in range(4000)], "y": [float(n) for n in range(4000)]})
    settings = table_settings({"row": "number", "who": "integer", "y": "number"})
    assert run_split(tmp_path / "rows", table, settings)[2]["warning"] is None
    settings = settings.model_copy(update={"split": Split(together=("who",))})
    _, test, report = run_split(tmp_path / "things", table, settings)
    assert report["warning"].startswith(f"only {test['who'].n_unique()} groups by who are held out, in {test.height:,} rows: ")
    many = table.with_columns(who=pl.col("row") // 4)
    assert run_split(tmp_path / "many", many, settings)[2]["warning"] is None


@pytest.mark.parametrize("seed", range(4))
def test_a_thing_of_most_rows_is_trained_on_and_the_share_is_held_out_of_the_others(seed: int, tmp_path: Path) -> None:
    who = [0] * 700 + [1 + n % 30 for n in range(300)]
    table = pl.DataFrame({"row": range(1000), "who": who, "y": [float(n) for n in range(1000)]})
    settings = table_settings({"row": "number", "who": "integer", "y": "number"})
    settings = settings.model_copy(update={"split": Split(together=("who",)), "seed": seed})
    train, test, _ = run_split(tmp_path, table, settings)
    assert not sides(train, test, ["who"])
    assert test.height == 250
    assert 0 in set(train["who"])


def test_one_thing_of_all_rows_cannot_be_split(tmp_path: Path) -> None:
    table = pl.DataFrame({"row": range(60), "who": [1] * 60, "y": [float(n) for n in range(60)]})
    settings = table_settings({"row": "number", "who": "integer", "y": "number"})
    settings = settings.model_copy(update={"split": Split(together=("who",))})
    with pytest.raises(PipelineError) as caught:
        run_split(tmp_path, table, settings)
    assert_one_line(caught.value, "no held-out row is left of 60 with all rows of one who together")


def test_a_class_of_equal_rows_is_trained_on(tmp_path: Path) -> None:
    for seed in range(8):
        table = pl.DataFrame({"row": [n // 2 for n in range(100)] + [777] * 3, "y": ["a", "b"] * 50 + ["c"] * 3})
        train, _, _ = run_split(tmp_path / str(seed), table, at_random(0.5, seed=seed))
        assert "c" in train["y"].to_list()


def test_a_table_of_a_few_different_rows_is_drawn_row_by_row(tmp_path: Path) -> None:
    table = pl.DataFrame({"row": [n % 4 for n in range(200)], "y": ["a", "b"] * 100})
    _, test, _ = run_split(tmp_path, table, at_random(0.25))
    assert test.height == 50
