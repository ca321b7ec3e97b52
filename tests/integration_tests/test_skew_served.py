"""Skew in service: features that a server has computed are held against the training table, once it has their rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml

from mlops_pipeline.events import AlertFired, Event
from tests.conftest import make_project, write_table
from tests.integration_tests.conftest import serving
from tests.integration_tests.test_monitoring_loop import ask, once, watching

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("monitoring_loop")]

KNOWN, NEW = 60, 40


def test_rows_are_looked_up_when_the_table_has_them_and_a_source_that_was_corrected_is_skew(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    data = project.settings()["dataset"]
    made = {"usual": {"kind": "number"}, "twice": {"kind": "number"}}
    data |= {"derive": {"twice": "size * 2"}, "aggregates": {"usual": {"how": "mean", "of": "weight", "by": ["kind"], "window": "28d"}}}
    project.change(dataset={**data, "columns": {**data["columns"], **made}})
    table = project.folder / "table.csv"
    write_table(table, rows=400 + NEW)
    whole = pl.read_csv(table).with_columns(pl.col("weight").abs())
    whole.head(400).write_csv(table)
    project.run()
    served = whole.tail(KNOWN + NEW).select("size", "weight", "kind", "day").with_columns(pl.col("day") + "T00:00:00")
    with serving(project, tmp_path / "served") as server:
        ask(server.url, {"records": served.to_dicts()})
    config = tmp_path / "watch.yaml"
    content = {
        "serving": str(tmp_path / "served/serving.yaml"),
        "state": {"file": str(tmp_path / "state.sqlite")},
        "windows": {"rows": KNOWN + NEW, "settle_s": 0},
    }
    config.write_text(yaml.safe_dump(content))
    once(config)
    with watching(config) as (_, state):
        figures = state.windows()[0].figures
    assert (figures["skew.rows"], figures["skew.absent"], figures["skew.share"]) == (KNOWN, NEW, 0.0)
    status = ("monitor", "status", "--config", str(config))
    assert (
        f"none: {KNOWN} rows have the same features in the pipeline's table; {NEW} are not in the table yet"
        in project.mlops(*status).stdout
    )
    # The new rows come, and with them a correction of old ones, which the server had not known.
    whole.with_columns(pl.when(pl.col("day") < "2024-03-15").then(pl.col("weight") + 1).otherwise(pl.col("weight"))).write_csv(table)
    project.run("--to", "ingest")
    told: list[Event] = []
    once(config, told)
    with watching(config) as (_, state):
        window = state.windows()[0]
    assert (window.figures["skew.rows"], window.figures["skew.absent"], window.figures["skew.share.twice"]) == (KNOWN + NEW, 0, 0.0)
    assert window.figures["skew.share.usual"] == window.figures["skew.share"]
    assert window.figures["skew.share"] > 0.5
    [alert] = [event for event in told if isinstance(event, AlertFired)]
    assert (alert.rule, alert.severity) == ("features_skew", "warning")
    assert f"of {KNOWN + NEW} rows the pipeline's table says otherwise: usual " in project.mlops(*status).stdout
    page = tmp_path / "watch.html"
    project.mlops("monitor", "open", "--no-show", "--output", str(page), "--config", str(config))
    assert "Skew of the features" in page.read_text()
    assert not once(config).again
