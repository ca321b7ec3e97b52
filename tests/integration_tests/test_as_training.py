"""What was asked of a server, and what came of it, is a table that the pipeline takes in as its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import yaml

from mlops_pipeline.config.pipeline import settings_of
from mlops_pipeline.monitoring.as_training import settings_for
from mlops_pipeline.records.entry import Entry, RecordLayout
from tests.conftest import REPOSITORY, Project
from tests.unit_tests.test_records import written

RAW = (("length", "number"), ("day", "datetime"), ("kind", "category"))
LAYOUT = RecordLayout("c" * 64, "binary", ("size", "seen"), ("kind",), frozenset(), (0, 1), RAW)


def asked(name: str, rows: list[tuple[float, str, str]], *, raw: bool = True, **changes: Any) -> Entry:
    """A request of rows of length, day and kind."""
    lengths = np.array([[length] for length, _, _ in rows])
    texts = np.array([[day, kind] for _, day, kind in rows], dtype=object)
    return Entry(
        name, datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp(), 900, "champion", "1", LAYOUT, len(rows),
        np.hstack([lengths * 2, lengths]).astype(np.float32), texts[:, 1:], np.full((len(rows), 2), 0.5, np.float32),
        raw_numbers=lengths if raw else None, raw_texts=texts if raw else None, **changes,
    )  # fmt: skip


def test_the_record_is_a_table_that_the_pipeline_takes_in(project: Project) -> None:
    columns = {"length": {"kind": "number"}, "day": {"kind": "datetime"}, "kind": {"kind": "category"}, "late": {"kind": "boolean"}}
    made = {"size": {"kind": "number"}, "seen": {"kind": "integer"}, "arrived": {"kind": "number"}}
    derive = {"size": "length * 2", "late": "arrived > 15"}
    content = project.settings()
    content["dataset"] |= {"columns": columns | made, "derive": derive, "counts": {"seen": ["kind"]}, "known_after_outcome": ["arrived"]}
    (project.folder / "configs").mkdir()
    (project.folder / "configs/training_config.yaml").write_text(yaml.safe_dump(content))
    rows = [(0.1, "2024-02-01 10:00:00", "a"), (0.25, "2024-03-20 10:00:00", "(missing)"), (3.0, "2024-03-21 00:00:00", "b")]
    others = [asked("finished", rows, raw=False), asked("refused", rows, error="null (row 0, column 'day')")]
    written(project.folder / "data/records", [asked("r", rows), *others])
    pl.DataFrame({"request_id": ["r", "r"], "row": [0, 2], "late": [1, 0]}).write_csv(project.folder / "labels.csv")
    project.mlops("labels", "add", "--input", "labels.csv")
    done = project.mlops("records", "export", "--as-training", "--output", "asked.parquet")
    assert "3 rows written into asked.parquet, 2 with a label" in done.stdout
    assert "3 rows left out: they came as finished features" in done.stdout
    assert "on no record, so not in it: arrived" in done.stdout
    table = pl.read_parquet(project.folder / "asked.parquet")
    assert table.rows() == [(*rows[0], 1), (0.25, rows[1][1], None, None), (*rows[2], 0)]
    assert table.columns == ["length", "day", "kind", "late"]
    said = project.mlops("stage", "ingest", "--config", "asked.settings.yaml").stdout
    assert "2 rows kept of 3" in said
    taken = pl.read_parquet(project.folder / "pipelines/small_recorded/data/raw/small_recorded.parquet")
    assert taken.select("size", "seen", "late").rows() == [(0.2, 1, 1), (6.0, 1, 0)]
    (project.folder / "asked.settings.yaml").write_text("name: mine\n")
    (project.folder / "data/raw").mkdir(exist_ok=True)
    (project.folder / "data/raw/small.target.json").write_text('["in time", "late"]')
    project.mlops("records", "export", "--as-training", "--output", "words.csv")
    assert pl.read_csv(project.folder / "words.csv")["late"].to_list() == ["late", None, "in time"]
    again = project.mlops("records", "export", "--as-training", "--output", "asked.parquet").stdout
    assert "is not ours, left as it is" in again


def test_what_rows_belong_to_is_kept_only_where_it_is_on_record() -> None:
    columns = {name: {"kind": "category"} for name in ("ward", "patient", "size", "y")}
    split = {"kind": "stratified", "test_share": 0.2, "together": ["ward", "patient"]}
    dataset = {"source": {"path": "x.csv"}, "target": "y", "task": "binary", "columns": columns}
    content = {"name": "visits", "dataset": dataset, "train": {}, "split": split}
    assert settings_for(content, "asked.parquet", [*columns])["split"] == split
    made = settings_for(content, "asked.parquet", ["ward", "size", "y"])
    assert made["split"] == {"kind": "stratified", "test_share": 0.2}
    settings_of(made, "asked.settings.yaml")


def test_the_flights_settings_lose_what_no_request_holds() -> None:
    content = yaml.safe_load((REPOSITORY / "configs/training_config.yaml").read_text())
    raw = ["year", "month", "day", "hour", "minute", "time_hour", "flight", "carrier", "origin", "dest", "distance", "late"]
    weather = ["dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
    made = settings_for(content, "asked.parquet", raw, [weather])
    data = made["dataset"]
    assert list(data["derive"]) == ["date", "scheduled_minute"]
    assert set(content["dataset"]["columns"]) - set(data["columns"]) == {
        "tailnum", "dep_time", "dep_delay", "arr_time", "arr_delay", "air_time",
    }  # fmt: skip
    assert list(data["history"]) == list(content["dataset"]["history"])
    assert "known_after_outcome" not in data
    content["dataset"]["source"] |= {"delimiter": ";", "decimal": ",", "null_values": ["", "?"]}
    content["dataset"]["columns"]["distance"] = {"kind": "number", "format": "1.234,5 km", "min": 0}
    typed, text = (settings_for(content, f"asked.{kind}", raw, [weather])["dataset"] for kind in ("parquet", "csv"))
    assert typed["source"] == {"path": "asked.parquet", "decimal": ",", "null_values": ["", "?"]}
    assert typed["columns"]["distance"]["format"] == "1.234,5 km"
    assert text["source"] == {"path": "asked.csv", "null_values": ["", "?"]}, "no other word of the record means null"
    assert text["columns"]["distance"] == {"kind": "number", "min": 0}
    without_weather = settings_for(content, "asked.parquet", [name for name in raw if name != "time_hour"], [weather])["dataset"]
    assert not set(weather) & set(without_weather["columns"])
    assert "lookups" not in without_weather
