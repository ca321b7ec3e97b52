"""`mlops init` describes a table that nobody has described yet, and its description can be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mlops_pipeline.config import load_settings, settings_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.starter import starter_yaml
from tests.unit_tests.workshop import assert_one_line, ingested

ROWS = 120
TABLE = pl.DataFrame(
    {
        "whole": [str(n) for n in range(ROWS)],
        "dotted": [f"{n}.0" for n in range(ROWS)],
        "real": [f"{n / 7:.3f}" for n in range(ROWS)],
        "gaps": ["" if n % 5 == 0 else f" {n}" for n in range(ROWS)],
        "flag": [["yes", "no"][n % 2] for n in range(ROWS)],
        "colour": [["red", "green", "blue"][n % 3] for n in range(ROWS)],
        "date": [f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}" for n in range(ROWS)],
        "moment": [f"2024-01-{n % 28 + 1:02}T12:{n % 60:02}:00Z" for n in range(ROWS)],
        "comment": [f"what customer {n} said" for n in range(ROWS)],
        "verdict": [["good", "bad"][n % 2] for n in range(ROWS)],
        "code": [str(n % 2) for n in range(ROWS)],
        "grade": [str(n % 5) for n in range(ROWS)],
    }
)
KINDS = {
    "whole": "integer",
    "dotted": "integer",
    "real": "number",
    "gaps": "integer",
    "flag": "boolean",
    "colour": "category",
    "date": "datetime",
    "moment": "datetime",
    "comment": "text",
    "verdict": "category",
    "code": "integer",
    "grade": "integer",
}


def described(folder: Path, target: str, table: pl.DataFrame = TABLE) -> dict[str, Any]:
    source = folder / "table.csv"
    table.write_csv(source)
    return dict(yaml.safe_load(starter_yaml(source, target, folder / "new.yaml")))


def test_every_columns_kind_is_read_off_its_rows(tmp_path: Path) -> None:
    columns = described(tmp_path, "verdict")["dataset"]["columns"]
    assert {name: column["kind"] for name, column in columns.items()} == KINDS


TARGETS = {
    "verdict": ("binary", "category", "roc_auc"),
    "flag": ("binary", "boolean", "roc_auc"),
    "code": ("binary", "integer", "roc_auc"),
    "colour": ("multiclass", "category", "accuracy"),
    "grade": ("multiclass", "integer", "accuracy"),
    "real": ("regression", "number", "rmse"),
    "whole": ("regression", "integer", "rmse"),
}


@pytest.mark.parametrize("target", TARGETS)
def test_the_task_follows_from_the_target(target: str, tmp_path: Path) -> None:
    content = described(tmp_path, target)
    task, kind, metric = TARGETS[target]
    assert (content["dataset"]["task"], content["dataset"]["columns"][target]["kind"]) == (task, kind)
    assert content["evaluate"]["metric"] == metric


@pytest.mark.parametrize("target", TARGETS)
def test_the_description_is_valid_and_no_row_of_its_table_is_broken(target: str, tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    TABLE.write_csv(source)
    config = tmp_path / "new.yaml"
    config.write_text(starter_yaml(source, target, config))
    settings = load_settings(config)
    assert settings.dataset.source.path == source.as_posix()
    table, report, _ = ingested(tmp_path, settings)
    assert report["rows_broken"] == 0
    assert table.height == ROWS


def test_a_typed_table_is_described_too(tmp_path: Path) -> None:
    source = tmp_path / "table.parquet"
    table = TABLE.select(
        pl.col("whole").cast(pl.Int32), pl.col("real").cast(pl.Float32), pl.col("flag") == "yes", pl.col("date").str.to_date()
    )
    table.with_columns(pl.Series("colour", TABLE["colour"], dtype=pl.Categorical)).write_parquet(source)
    content = yaml.safe_load(starter_yaml(source, "flag", tmp_path / "new.yaml"))
    kinds = {name: column["kind"] for name, column in content["dataset"]["columns"].items()}
    assert kinds == {"whole": "integer", "real": "number", "flag": "boolean", "date": "datetime", "colour": "category"}


def test_the_pipelines_name_comes_from_the_file_and_its_files_lie_apart(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    TABLE.write_csv(source)
    content = yaml.safe_load(starter_yaml(source, "flag", tmp_path / "my table (2).yaml"))
    settings_of(content, "new.yaml")
    assert content["name"] == "my_table__2"
    assert content["paths"]["root"] == "pipelines/my_table__2"


def test_a_target_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        described(tmp_path, "verdikt", TABLE.select("flag", "verdict"))
    assert_one_line(caught.value, "no column 'verdikt'", "flag, verdict")


def test_a_table_without_rows_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        described(tmp_path, "verdict", TABLE.clear())
    assert_one_line(caught.value, "holds no rows")


def test_a_table_of_one_column_leaves_no_feature_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        described(tmp_path, "verdict", TABLE.select("verdict"))
    assert_one_line(caught.value, "no column is left as a feature")
