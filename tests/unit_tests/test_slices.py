"""Where the model fails: the metric in parts of the held-out rows, worst first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from mlops_pipeline.modelling.evaluation import without_private
from mlops_pipeline.modelling.metrics import Predictions, bootstrap, point
from mlops_pipeline.modelling.slices import slice_interval, slices
from tests.conftest import SMALL_SETTINGS
from tests.unit_tests.workshop import settings_with

TABLE = pl.DataFrame({"kind": ["a"] * 40 + ["b"] * 40 + [None] * 40 + ["few"] * 5 + ["one class"] * 20})


def predictions() -> Predictions:
    """Right about a, no better than chance about b, wrong about the rows without a kind."""
    rng = np.random.default_rng(2)
    y = np.r_[np.tile([0, 1], 60), np.tile([0, 1], 3)[:5], np.ones(20, dtype=int)]
    skill = np.r_[np.ones(40), np.zeros(40), -np.ones(40), np.zeros(25)]
    ones = 0.5 + 0.3 * skill * (y - 0.5) + 0.1 * rng.uniform(-1, 1, size=len(y))
    return Predictions("binary", y, np.column_stack([1 - ones, ones]))


def test_slices_come_worst_first_without_those_too_small_or_undefined() -> None:
    found = slices(TABLE, ("kind",), "roc_auc", predictions(), 10)
    assert [(part.value, part.rows) for part in found] == [("(missing)", 40), ("b", 40), ("a", 40)]
    assert found[0].metric < 0.1 < found[1].metric < 0.9 < found[2].metric


def test_where_lower_is_better_the_worst_is_the_highest() -> None:
    found = slices(TABLE, ("kind",), "log_loss", predictions(), 40)
    assert [part.value for part in found] == ["(missing)", "b", "a"]
    assert found[0].metric > found[-1].metric


def test_a_slices_metric_is_that_of_its_rows_alone_and_lies_in_its_interval() -> None:
    made = predictions()
    part = next(part for part in slices(TABLE, ("kind",), "roc_auc", made, 10) if part.value == "b")
    rows = slice(40, 80)
    interval = slice_interval(TABLE, part, "roc_auc", made, 200, 0.95, 0)
    assert part.metric == round(point("roc_auc", Predictions("binary", made.y[rows], made.predicted[rows])), 6)
    assert interval.low < part.metric < interval.high


def test_a_slices_interval_draws_what_its_rows_belong_to() -> None:
    made, table = predictions(), TABLE.with_columns(who=pl.int_range(pl.len()))
    together = replace(made, things=(table["who"] // 3).to_numpy())
    few = replace(made, things=(table["who"] // 8).to_numpy())
    part = next(part for part in slices(table, ("kind",), "accuracy", made, 10) if part.value == "b")
    found = slice_interval(table, part, "accuracy", together, 200, 0.95, 0)
    rows = slice(40, 80)
    assert found == bootstrap("accuracy", together.of_rows(np.arange(145)[rows]), 200, 0.95, 0)
    assert found.low < found.value < found.high
    assert np.isnan(slice_interval(table, part, "accuracy", few, 200, 0.95, 0).low), "five or six things tell of no others"


def test_without_columns_there_are_no_slices() -> None:
    assert slices(TABLE, (), "roc_auc", predictions(), 1) == []


def test_the_values_of_a_private_column_are_only_counted() -> None:
    parts = slices(TABLE, ("kind",), "roc_auc", predictions(), 10)
    columns = {**SMALL_SETTINGS["dataset"]["columns"], "kind": {"kind": "category", "private": True}}
    shown = without_private(parts, settings_with(dataset={"columns": columns}))
    assert [(part.value, part.rows) for part in shown] == [("private value 1", 40), ("private value 2", 40), ("private value 3", 40)]
    assert [part.value for part in without_private(parts, settings_with())] == ["(missing)", "b", "a"]
