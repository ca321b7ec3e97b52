"""Brackets, blanks, quotes and umlauts in the names of folders, files, columns and values, on a terminal that shows ASCII alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import polars as pl
import pytest
import yaml

from tests.conftest import SMALL_SETTINGS, Project, make_project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("awkward_names")]

ASCII = {"PYTHONIOENCODING": "ascii", "LANG": "C"}
CONFIG = "my [/cfg] ü/it's a $cfg.yaml"
TABLE = "rep[1] & [x].csv"


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has run, and a table beside its own that a glob of its name would read instead."""
    made = make_project(tmp_path_factory.mktemp("awkward") / "a [x] ü/project")
    table = pl.read_csv(made.folder / "table.csv", glob=False).rename({"size": "[/s]", "weight": ":car:", "kind": "[x] ü"})
    made.config.unlink()
    (made.folder / "table.csv").unlink()
    values = pl.col("[x] ü").replace({"a": "[/red]", "b": "[bold]", "c": "ç"})
    table.with_columns(values).write_csv(made.folder / TABLE)
    table.head(3).write_csv(made.folder / "rep1 & x.csv")
    project = Project(made.folder, made.folder / CONFIG)
    project.config.parent.mkdir(parents=True)
    content = {**SMALL_SETTINGS, "evaluate": {**SMALL_SETTINGS["evaluate"], "slices": ["[x] ü"]}}
    names = {"size": "[/s]", "weight": ":car:", "kind": "[x] ü"}
    columns = {names.get(name, name): column for name, column in content["dataset"]["columns"].items()}
    content["dataset"] = {**content["dataset"], "source": {"path": TABLE}, "columns": columns}
    project.config.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return project


@pytest.fixture(scope="module")
def first(awkward: Project) -> subprocess.CompletedProcess[str]:
    return awkward.run(**ASCII)


def test_a_run_says_every_name_as_it_is_in_ascii(awkward: Project, first: subprocess.CompletedProcess[str]) -> None:
    assert "dvc.yaml rendered from my [/cfg] \\u00fc/it's a $cfg.yaml\n" in first.stdout
    assert "> ingest    never run\n" in first.stdout
    assert "399 rows kept of 400 - 0 without target - 1 broken\n" in first.stdout
    assert "worst slice: [x] \\u00fc = " in first.stdout
    assert "small version 1: champion\n" in first.stdout
    assert "[bold green]" not in first.stdout
    assert first.stdout.isascii()
    assert not first.stderr


def test_dvc_finds_nothing_to_do_and_runs_a_stage_by_its_command(awkward: Project, first: subprocess.CompletedProcess[str]) -> None:
    repro = awkward.dvc("repro")
    assert "Running stage" not in repro.stdout
    assert "up to date" in repro.stdout
    again = awkward.dvc("repro", "--force", "--single-item", "split")
    assert "275 rows to train on" in again.stdout
    said = awkward.mlops("status", "--config", CONFIG, **ASCII).stdout
    assert said.count("+") == 6, said


def test_the_table_that_is_named_is_the_one_that_is_predicted_and_compared(
    awkward: Project, first: subprocess.CompletedProcess[str]
) -> None:
    done = awkward.mlops("predict", "--config", CONFIG, "--input", TABLE, "--output", "said [1].csv", **ASCII)
    assert "399 rows predicted into said [1].csv" in done.stdout
    assert "1 row rejected, with reasons in said [1].rejected.csv" in done.stdout
    report = ("monitor", "report", "--config", CONFIG, "--output", "report [x]")
    done = awkward.mlops(*report, "--reference", TABLE, "--current", TABLE, **ASCII)
    assert done.stdout.count(f"predicted  399 rows of {TABLE} with the champion; 1 break its schema") == 2
    assert "0.5 of [/s]: " in done.stdout
    assert "report [x]/report.html" in done.stdout


def test_versions_are_listed_and_shown(awkward: Project, first: subprocess.CompletedProcess[str]) -> None:
    assert "champion" in awkward.mlops("models", "list", "--config", CONFIG, **ASCII).stdout
    shown = awkward.mlops("models", "show", "--config", CONFIG, **ASCII).stdout
    assert "  + held_out: evaluated on 124 held-out rows" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "--config", "[/x] ü.yaml"), "error: [/x] \\u00fc.yaml: cannot be read"),
        (("init", "--input", "[/x].csv", "--target", "[x]", "--output", "[y].yaml"), "error: [/x].csv: does not exist"),
        (("init", "--input", TABLE, "--target", "[/t]", "--output", "[y].yaml"), "has no column '[/t]': its columns are [/s], :car:, [x]"),
        (("predict", "--config", CONFIG, "--input", "[/x].csv", "--output", "out.csv"), "error: [/x].csv: does not exist"),
        (("monitor", "report", "--config", CONFIG, "--current", "[/x].csv"), "error: --current [/x].csv: does not exist"),
    ],
)
def test_a_fault_is_one_line_with_the_name_as_it_is(
    awkward: Project, first: subprocess.CompletedProcess[str], words: tuple[str, ...], told: str
) -> None:
    done = awkward.mlops(*words, check=False, **ASCII)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.isascii()


def test_a_check_that_fails_names_the_column_as_it_is(awkward: Project, first: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    schema = awkward.folder / "data/validation/small.schema.yaml"
    before = schema.read_text(encoding="utf-8")
    content = yaml.safe_load(before)
    content["columns"]["[/s]"]["in_range"]["max_value"] = 0.0
    schema.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    try:
        done = awkward.run("--to", "validate", check=False, **ASCII)
    finally:
        schema.write_text(before, encoding="utf-8")
    assert done.returncode == 2
    assert "first [/s]: " in done.stderr
    assert "| [/s] " in done.stdout
