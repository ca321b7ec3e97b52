"""What `mlops demo release` does once its versions are trained, on a project of ours: server, controller, labels, picture, page.

`make acceptance` types the command itself, on the flights.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from mlops_pipeline.config.finding import PIPELINE
from mlops_pipeline.demo.release import released, show
from tests.conftest import Project, write_table

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("release")]

POLICY = {
    "steps": [{"shadow": 1.0, "least_rows": 100, "least_labels": 100}, {"weight": 0.5, "least_rows": 50}],
    "guardrails": {
        "failures": {"figure": "failures", "worse_by": 0.5},
        "quality": {"figure": "quality", "worse_by": 0.5, "must_hold": True},
    },
    "expected_rows": 200,
    "least_units": 20,
}


def test_a_challenger_goes_its_way_while_rows_are_asked_and_is_shown(challenged: Project, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(challenged.folder, folder, symlinks=True)
    (folder / PIPELINE).parent.mkdir(exist_ok=True)
    (folder / challenged.config.name).rename(folder / PIPELINE)
    write_table(tmp_path / "rows.csv", rows=6000, seed=3)
    rows = pl.read_csv(tmp_path / "rows.csv").with_columns(pl.col("weight").abs())
    said: list[str] = []
    told, page = released(folder, rows, POLICY, {2: "version 2, a few trees more"}, "1", said.append)
    show(told, page, tmp_path / "out", said.append)
    [known] = json.loads((tmp_path / "out/release.json").read_text())
    assert (known["state"], known["verdict"]) == ("promoted", "promoted"), known["reason"]
    assert [each["step"] for each in known["transitions"]] == ["shadow", "50 %", "promoting", "promoting"]
    assert 150 <= known["rows"] <= rows.height
    quality = [each for each in known["transitions"][1]["evidence"]["findings"] if each["guardrail"] == "quality"]
    assert any(each["source"] == "pairs" and each["high"] <= each["limit"] for each in quality)
    assert "version 2, a few trees more: promoted" in "\n".join(said)
    assert "Version 2 champion" in (tmp_path / "out/release.html").read_text()
    assert (tmp_path / "out/release.png").read_bytes().startswith(b"\x89PNG")
