"""The demo's way through a real server: what was answered is on record, labelled and counted, month by month."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from mlops_pipeline.demo.replay import Replayed, replay
from mlops_pipeline.inference.scorer import load_scorer
from tests.conftest import Project, write_table

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("monitoring_loop")]


def test_days_are_replayed_through_a_server_and_the_watch_counts_every_row_with_its_label(registered: Project, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(registered.folder, folder)
    (folder / "configs").mkdir()
    shutil.move(folder / registered.config.name, folder / "configs/training_config.yaml")
    for name in ("dvc.yaml", "dvc.lock"):  # they name the settings where they lay before
        (folder / name).unlink()
    write_table(tmp_path / "table.csv", rows=400, seed=5)
    table = pl.read_csv(tmp_path / "table.csv", try_parse_dates=True).with_columns(pl.col("weight").abs(), pl.col("day").cast(pl.Datetime))
    months = [table.filter(pl.col("day").dt.month() == month) for month in (3, 4)]
    told: list[tuple[int, int]] = []

    def said(place: int, found: Replayed) -> None:
        told.append((place, len(found.said)))

    found = replay(folder, months, "1", said)
    assert told == [(place, month.height) for place, month in enumerate(months)]
    scorer = load_scorer(folder / "models/registry/best_model")
    for month, of in zip(months, found, strict=True):
        expected = scorer.predict(month.select(scorer.signature.names))[:, list(map(str, scorer.contract.answers)).index("1")]
        assert of.said == pytest.approx(expected, abs=1e-6)
        assert (of.window.figures["rows"], of.window.figures["labels"]) == (month.height, month.height)
        assert of.training is None or of.training.outcome.startswith("it made version 1 again"), "its split stands still"
    assert found[0].window.figures["probe.gain"] is not None
