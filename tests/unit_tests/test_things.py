"""Rows of one thing, such as a patient, are together wherever rows are parted or drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_pipeline.config.pipeline import Settings, Split
from mlops_pipeline.files import sha256_of_file, write_json
from mlops_pipeline.modelling.evaluation import measured, predictions_of
from mlops_pipeline.modelling.fitting import Fitting, fitting_of
from mlops_pipeline.modelling.metrics import bootstrap
from mlops_pipeline.tables.things import things_of
from tests.unit_tests.workshop import layout_in, table_settings


def visits(patients: int, rows: int) -> pl.DataFrame:
    """Rows of a patient each: a number, and who is ill, which all rows of one say alike."""
    who = np.arange(patients * rows) % patients
    return pl.DataFrame({"size": np.random.default_rng(0).normal(size=len(who)), "who": who, "y": np.where(who % 3, "no", "yes")})


def together(**split: object) -> Settings:
    settings = table_settings({"size": "number", "who": "integer", "y": "category"}, task="binary")
    return settings.model_copy(update={"split": Split(together=("who",), **split)})  # type: ignore[arg-type]


def test_rows_belong_to_what_they_name_and_those_that_name_nothing_to_others_that_a_model_takes_for_the_same() -> None:
    table = pl.DataFrame({"size": [1.0, 2.0, 3.0, 3.0, 4.0], "who": [7, 7, None, None, None], "y": ["no", "yes", "no", "yes", "no"]})
    things = things_of(table, together())
    assert things is not None
    same = things[:, None] == things
    assert np.flatnonzero(same[0]).tolist() == [0, 1]
    assert np.flatnonzero(same[2]).tolist() == [2, 3]
    assert np.flatnonzero(same[4]).tolist() == [4]
    assert (things_of(table.reverse(), together()) == things[::-1]).all()
    assert things_of(table, table_settings({"size": "number", "who": "integer", "y": "category"}, task="binary")) is None


@pytest.mark.parametrize("seed", range(5))
def test_no_thing_is_both_learned_from_and_held_back(seed: int) -> None:
    table = visits(60, 10).with_columns(who=pl.when(pl.int_range(pl.len()) < 200).then(1000).otherwise("who"))
    during = fitting_of(together(), table, table["y"].to_numpy())
    taught, held = during.parted(table.height, 0.1, seed)
    who = table["who"].to_numpy()
    assert not set(who[taught]) & set(who[held])
    assert sorted([*taught, *held]) == list(range(600))
    assert len(held) == pytest.approx(60, abs=10)
    assert 1000 in who[taught], "a third of all rows is no tenth"


def test_one_thing_alone_is_parted_and_of_two_each_has_its_part() -> None:
    alone = Fitting(things=np.zeros(20, dtype=int)).parted(20, 0.1, 0)
    assert [len(part) for part in alone] == [18, 2]
    taught, held = Fitting(things=np.arange(20) // 14).parted(20, 0.1, 0)
    assert (taught.tolist(), held.tolist()) == (list(range(14)), list(range(14, 20)))


def test_without_things_rows_are_held_back_as_ever() -> None:
    table = visits(60, 10)
    settings = table_settings({"size": "number", "who": "integer", "y": "category"}, task="binary")
    assert fitting_of(settings, table, table["y"].to_numpy()).things is None
    order = np.random.default_rng(3).permutation(600)
    taught, held = Fitting().parted(600, 0.1, 3)
    assert (taught.tolist(), held.tolist()) == (sorted(order[:-60]), sorted(order[-60:]))
    assert Fitting(moments=np.arange(10)[::-1]).parted(10, 0.2, 3)[1].tolist() == [0, 1]


def test_what_is_measured_of_held_out_rows_draws_what_they_belong_to(tmp_path: Path) -> None:
    settings = together()
    table, layout = visits(60, 20), layout_in(tmp_path, settings)
    layout.train.parent.mkdir(parents=True)
    table.write_parquet(layout.train)
    report = {"kind": "stratified", "test_sha256": sha256_of_file(layout.train), "test_span": "", "train_span": "", "warning": None}
    write_json(layout.split_report, report)
    ill = np.where(table["y"].to_numpy() == "yes", 0.7, 0.3) + 0.4 * np.sin(table["who"].to_numpy())  # as sure of all rows of one
    said = np.clip(np.column_stack([1 - ill, ill]), 0, 1)
    ours = predictions_of(table, said, ["no", "yes"], settings)
    found = measured(settings, layout, table, ours, ["no", "yes"])
    assert found.test_things == 60
    alone = measured(
        settings, layout, table, predictions_of(table, said, ["no", "yes"], settings.model_copy(update={"split": Split()})), ["no", "yes"]
    )
    assert alone.test_things is None
    for metric, interval in found.metrics.items():
        other, drawn = (
            alone.metrics[metric],
            bootstrap(metric, ours, settings.evaluate.resamples, settings.evaluate.confidence, settings.seed),
        )
        assert interval.value == other.value
        assert None not in (interval.low, interval.high, other.low, other.high)
        assert interval.high - interval.low > 2.5 * (other.high - other.low), metric  # type: ignore[operator]
        assert (interval.low, interval.high) == pytest.approx((drawn.low, drawn.high), abs=1e-6)
    gains = [each.improvement_over_baseline for each in (found, alone)]
    assert gains[0].low < gains[1].low  # type: ignore[operator]
