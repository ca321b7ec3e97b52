"""What unit tests share: settings with some keys changed, their layout in a folder, a console that keeps quiet, one stage run."""

from __future__ import annotations

import copy
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline import terminal
from mlops_pipeline.config.pipeline import Settings, settings_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import read_json
from mlops_pipeline.layout import Layout, layout_of
from mlops_pipeline.pipeline.stages.ingest import ingest
from tests.conftest import SMALL_SETTINGS

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console


def content_with(**sections: Any) -> dict[str, Any]:
    """The small settings as a mapping, with keys of their sections replaced."""
    content = copy.deepcopy(SMALL_SETTINGS)
    for name, value in sections.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    return content


def settings_with(**sections: Any) -> Settings:
    return settings_of(content_with(**sections), "pipeline.yaml")


def layout_in(folder: Path, settings: Settings) -> Layout:
    return layout_of(settings, folder / "pipeline.yaml", folder)


def digest_of(key: str) -> str:
    """By what a server knows an API key."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def quiet() -> Console:
    return terminal.opened(io.StringIO(), 200)


def table_settings(
    columns: dict[str, Any], target: str = "y", task: str = "regression", source: str = "table.csv", **dataset: Any
) -> Settings:
    """Settings for a table with these columns, each a kind or a description; any share of broken rows is accepted."""
    described = {name: {"kind": column} if isinstance(column, str) else column for name, column in columns.items()}
    content = content_with(
        evaluate={"metric": "rmse" if task == "regression" else "accuracy", "slices": []}, ingest={"max_broken_share": 1}
    )
    content["dataset"] = {"source": {"path": source}, "target": target, "task": task, "columns": described, **dataset}
    content["split"] = {"kind": "time", "test_from": "2024-01-02"} if dataset.keys() & {"history", "aggregates"} else {"kind": "stratified"}
    return settings_of(content, "pipeline.yaml")


def ingested(folder: Path, settings: Settings) -> tuple[pl.DataFrame, dict[str, Any], pl.DataFrame]:
    """Run the ingest: the table, the report, and the quarantine as a table."""
    import polars as pl

    layout = layout_in(folder, settings)
    ingest(settings, layout, quiet())
    return pl.read_parquet(layout.raw), read_json(layout.ingest_report), pl.read_csv(layout.quarantine, infer_schema=False)


def assert_one_line(error: PipelineError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    for word in words:
        assert word in text, text
