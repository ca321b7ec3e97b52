"""`mlops init` describes a table that nobody has described yet, and its description can be run."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from mlops_pipeline.config.pipeline import load_settings, settings_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import read_json
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.stages.split import split
from mlops_pipeline.pipeline.stages.validate import validate
from mlops_pipeline.scaffold import starter
from mlops_pipeline.tables.days import Days
from tests.conftest import process_environment
from tests.unit_tests.workshop import assert_one_line, ingested, layout_in, quiet

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
    "dotted": "number",
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
    return dict(yaml.safe_load(starter(source, target, folder / "new.yaml").text))


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
    assert settings_of(content, "new.yaml").evaluate.metric == metric


@pytest.mark.parametrize("target", TARGETS)
def test_the_description_is_valid_and_no_row_of_its_table_is_broken(target: str, tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    TABLE.write_csv(source)
    config = tmp_path / "new.yaml"
    config.write_text(starter(source, target, config).text)
    settings = load_settings(config)
    assert settings.dataset.source.path == "table.csv"
    table, report, _ = ingested(tmp_path, settings)
    assert report["rows_broken"] == 0
    assert table.height == ROWS


def test_a_typed_table_is_described_too(tmp_path: Path) -> None:
    source = tmp_path / "table.parquet"
    table = TABLE.select(
        pl.col("whole").cast(pl.Int32), pl.col("real").cast(pl.Float32), pl.col("flag") == "yes", pl.col("date").str.to_date()
    )
    table.with_columns(pl.Series("colour", TABLE["colour"], dtype=pl.Categorical)).write_parquet(source)
    content = yaml.safe_load(starter(source, "flag", tmp_path / "new.yaml").text)
    kinds = {name: column["kind"] for name, column in content["dataset"]["columns"].items()}
    assert kinds == {"whole": "integer", "real": "number", "flag": "boolean", "date": "datetime", "colour": "category"}


def test_the_pipelines_name_comes_from_the_file_and_its_files_lie_apart(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    TABLE.write_csv(source)
    content = yaml.safe_load(starter(source, "flag", tmp_path / "my table (2).yaml").text)
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


def test_a_column_that_asks_and_is_kept_for_want_of_another_still_asks(tmp_path: Path) -> None:
    table = pl.DataFrame({"lat": [f"48,{100 + n * 7}" for n in range(60)], "x": [str(n) for n in range(60)], "y": ["no", "yes"] * 30})
    source = tmp_path / "table.tsv"
    table.write_csv(source, separator="\t")
    text = " ".join(starter(source, "y", tmp_path / "new.yaml").text.replace("\n  # ", " ").split())
    assert "'lat' is a feature, for no other is left: nothing tells whether '1,234' is 1234 or 1.234" in text


DAYS = 40
SALES = pl.DataFrame(
    {
        "sold": [(date(2024, 1, 1) + timedelta(days=n // 5)).isoformat() for n in range(5 * DAYS)],
        "Fläche (m²)": [n * 37 % 101 for n in range(5 * DAYS)],
        "returned": [["no", "yes"][n % 2] for n in range(5 * DAYS)],
    }
)


def test_names_stand_in_the_file_and_in_the_schema_as_in_the_table(tmp_path: Path) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "größe.yaml"
    SALES.write_csv(source)
    config.write_text(starter(source, "returned", config).text, encoding="utf-8")
    assert "    Fläche (m²):\n" in config.read_text(encoding="utf-8")
    settings = load_settings(config)
    ingested(tmp_path, settings)
    layout = layout_in(tmp_path, settings)
    validate(settings, layout, quiet())
    assert "  Fläche (m²):\n" in layout.schema.read_text(encoding="utf-8")


def run_until_split(folder: Path, config: Path) -> Layout:
    settings = load_settings(config)
    ingested(folder, settings)
    layout = layout_in(folder, settings)
    validate(settings, layout, quiet())
    split(settings, layout, quiet())
    return layout


def test_a_table_with_one_time_column_is_split_by_it_at_the_last_fifth(tmp_path: Path) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "sales.yaml"
    SALES.sample(fraction=1, shuffle=True, seed=0).write_csv(source)
    made = starter(source, "returned", config)
    config.write_text(made.text, encoding="utf-8")
    settings = load_settings(config)
    assert settings.dataset.time_column == "sold"
    report = read_json(run_until_split(tmp_path, config).split_report)
    assert (report["kind"], report["train_rows"], report["test_rows"]) == ("time", 160, 40)
    assert report["test_span"] == "2024-02-02 to 2024-02-09"
    for words in (made.split, " ".join(made.text.replace("\n# ", " ").split())):
        assert "Rows from 2024-02-02 on (20% of those with a target) are held out" in words
        assert "If 'sold' does not order the rows, take time_column out and write split: {kind: stratified}." in words


def test_the_day_is_found_in_the_whole_table_not_in_its_first_chunk(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    wide = pl.concat([SALES.with_columns(pl.lit("x" * 50_000).alias("note"))] * 2).sort("sold", maintain_order=True)
    wide.write_csv(source)
    assert source.stat().st_size > 2 * (8 << 20)
    assert starter(source, "returned", tmp_path / "new.yaml").split.startswith("Rows from 2024-02-02 on (20%")


MANY = 600
WRITTEN = {
    "days, with gaps": lambda n: ["", "NA", "no day"][n % 3] if n % 300 == 0 else f"2024-{n // 60 + 1:02}-{n % 28 + 1:02}",
    "seconds, zones": lambda n: f"2024-{n // 60 + 1:02}-{n % 28 + 1:02}T{n % 24:02}:{n % 60:02}:{n % 60:02}{'+02:00' * (n % 2)}",
    "German": lambda n: f"{n % 28 + 1:02}.{n // 60 + 1:02}.2024",
    "German, some ISO": lambda n: f"2024-05-{n % 28 + 1:02}" if n % 400 == 0 else f"{n % 28 + 1:02}.{n // 60 + 1:02}.2024 00:{n % 60:02}",
}
LEARNED = {
    "classes": lambda n: "?" if n % 50 == 0 else ["late", "punctual", "NA"][n % 3],
    "numbers": lambda n: "-" if n % 10 == 0 else "inf" if n == 99 else str(n * 37 % 277 / 4),
    "amounts": lambda n: "NA" if n % 10 == 0 else f"{n * 37 % 277 + 1000},25",
    "many classes": lambda n: f"c{n % 60}",
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("target", LEARNED)
def test_one_pass_splits_by_time_where_a_pass_of_its_own_would(
    written: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_pipeline.tables.profile.FEW", 50)
    monkeypatch.setattr("mlops_pipeline.scaffold.CHUNK_MB", 1)
    monkeypatch.setattr("mlops_pipeline.scaffold._strong", lambda *_: {})  # fits models, which know nothing of the split
    source, (moment, value) = tmp_path / "table.csv", (WRITTEN[written], LEARNED[target])
    rows = [{"when": moment(n), "note": "x" * 4_000, "y": value(n)} for n in range(MANY)]
    pl.DataFrame(rows).write_csv(source)
    one = starter(source, "y", tmp_path / "new.yaml")
    monkeypatch.setattr(Days, "count", lambda *_: None)
    assert one == starter(source, "y", tmp_path / "new.yaml")


AT_RANDOM: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "no time": (lambda t: t.drop("sold"), "no column is a datetime"),
    "two times": (lambda t: t.with_columns(paid="sold"), "of 'sold', 'paid' put the one that orders them under dataset.time_column"),
    "a few days": (lambda t: t.head(20), "'sold' has only 4 distinct days"),
    "often without": (
        lambda t: t.with_columns(pl.when(pl.int_range(pl.len()) % 10 != 0).then("sold").alias("sold")),
        "10% of the rows have no 'sold'",
    ),
    "most rows on the last day": (
        lambda t: pl.concat([t, *[t.tail(2)] * 200]),
        "the last day of 'sold' has",
    ),
    "a class that comes late": (
        lambda t: t.with_columns(returned=pl.when(pl.int_range(pl.len()) < 170).then(pl.lit("no")).otherwise(pl.col("returned"))),
        "before 2024-02-02, or from then on, a class of 'returned' is missing",
    ),
}


@pytest.mark.parametrize("case", AT_RANDOM)
def test_where_no_split_by_time_fits_rows_are_drawn_at_random_and_the_file_says_why(case: str, tmp_path: Path) -> None:
    change, why = AT_RANDOM[case]
    source = tmp_path / "table.csv"
    change(SALES).write_csv(source)
    made = starter(source, "returned", tmp_path / "new.yaml")
    content = yaml.safe_load(made.text)
    assert (content["split"]["kind"], "time_column" in content["dataset"]) == ("stratified", False)
    assert made.split.startswith("Rows are held out at random")
    assert why in made.split
    assert why in " ".join(made.text.replace("\n# ", " ").split())


def with_rows(table: pl.DataFrame, day: str, count: int) -> pl.DataFrame:
    return pl.concat([table, table.head(count).with_columns(sold=pl.lit(day))])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("day", ["9999-12-31", "2262-04-11", "2099-01-01", "2024-12-24"])
def test_a_few_rows_far_after_all_others_do_not_say_what_is_held_out(day: str, count: int, tmp_path: Path) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "new.yaml"
    with_rows(SALES, day, count).write_csv(source)
    made = starter(source, "returned", config)
    config.write_text(made.text, encoding="utf-8")
    assert yaml.safe_load(made.text)["split"] == {"kind": "time", "test_from": "2024-02-02"}
    assert f"{day} is far after all others" in made.split or f"from {day} on, are far after all others" in made.split
    assert "test_last: 8d moves them on" in made.split
    assert "test_last: 8d moves them on" in " ".join(made.text.replace("\n# ", " ").split())
    layout = run_until_split(tmp_path, config)
    assert read_json(layout.split_report)["train_rows"] == 160


def test_what_says_never_in_many_rows_does_not_order_them(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    with_rows(SALES, "9999-12-31", 60).write_csv(source)
    made = starter(source, "returned", tmp_path / "new.yaml")
    assert yaml.safe_load(made.text)["split"]["kind"] == "stratified"
    assert "23% of the rows have a 'sold' from 9999-12-31 on, far after all others" in made.split


def test_days_that_stand_for_nothing_at_the_beginning_leave_the_end_as_it_is(tmp_path: Path) -> None:
    assert described(tmp_path, "returned", with_rows(SALES, "1900-01-01", 40))["split"] == {"kind": "time", "test_last": "10d"}


@pytest.mark.parametrize(
    ("sold", "split"),
    [
        (lambda n: f"2024-01-01 {n // 60:02}:{n % 60:02}:00", {"kind": "time", "test_last": "40min"}),
        (lambda n: f"2024-01-01 {n // 10:02}:00:00", {"kind": "time", "test_last": "4h"}),
        (lambda n: f"2024-01-0{n // 40 + 1}", {"kind": "time", "test_last": "1d"}),
        (
            lambda n: f"2024-01-0{n // 40 + 1}" if n < 199 else "9999-12-31",
            {"kind": "time", "test_from": "2024-01-05", "test_until": "2024-01-06"},
        ),
        (lambda _: "2024-01-01", None),
    ],
)
def test_the_split_that_is_named_for_a_table_of_few_days_can_be_run(
    sold: Callable[[int], str], split: dict[str, str] | None, tmp_path: Path
) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "new.yaml"
    SALES.with_columns(sold=pl.Series([sold(n) for n in range(SALES.height)])).write_csv(source)
    made = starter(source, "returned", config)
    named = made.split.rpartition("write split: ")[2].removesuffix(".")
    assert (yaml.safe_load(named) if "write split: " in made.split else None) == split
    if split is not None:
        content = yaml.safe_load(made.text) | {"split": split}
        content["dataset"]["time_column"] = "sold"
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        report = read_json(run_until_split(tmp_path, config).split_report)
        assert 30 <= report["test_rows"] <= 45 and report["train_rows"] >= 150


def test_paths_are_relative_to_the_project_or_to_the_folder_that_is_to_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "configs", "elsewhere"):
        (tmp_path / name).mkdir()
    source = tmp_path / "data/table.csv"
    TABLE.write_csv(source)

    def path(output: Path) -> str:
        return str(yaml.safe_load(starter(source, "verdict", output).text)["dataset"]["source"]["path"])

    monkeypatch.chdir(tmp_path / "elsewhere")
    assert path(tmp_path / "configs/new.yaml") == "data/table.csv"
    monkeypatch.chdir(tmp_path)
    assert path(Path("configs/new.yaml")) == path(Path("new.yaml")) == "data/table.csv"
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    assert path(Path("../configs/new.yaml")) == "data/table.csv"


def test_a_number_that_names_rows_is_left_out_and_said_to_tell_the_target_where_it_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    year = rng.integers(1900, 2000, 300)
    table = pl.DataFrame(
        {"id": year * 1000 + rng.permutation(300), "key": rng.permutation(90_000)[:300], "x": rng.random(300), "year": year}
    )
    table.write_csv(tmp_path / "t.csv")
    uses = {use.name: use for use in starter(tmp_path / "t.csv", "year", tmp_path / "t.yaml").columns}
    assert {name: use.used for name, use in uses.items()} == {"id": False, "key": False, "x": True, "year": True}
    assert "alone it tells the target with AUC" in uses["id"].why and "features.exclude" in uses["id"].why
    assert uses["key"].why == "identifier: 300 different values in 300 rows"


def test_an_unusual_word_for_null_is_said_when_a_table_is_described_and_a_usual_one_in_the_file_alone(tmp_path: Path) -> None:
    rows = [{"age": ["?", "NA", str(n)][min(n % 10, 2)], "size": n * 1.5, "y": "ab"[n % 2]} for n in range(60)]
    pl.DataFrame(rows).write_csv(tmp_path / "table.csv")
    made = starter(tmp_path / "table.csv", "y", tmp_path / "new.yaml")
    assert made.split.splitlines()[0] == "'?' stands for null in age (6)."
    assert "'NA'" not in made.split
    assert "# 'NA' stands for null in age (6)." in made.text


def test_a_disk_that_is_full_leaves_no_settings_that_would_be_in_the_way_of_the_next_try(tmp_path: Path) -> None:
    TABLE.write_csv(tmp_path / "table.csv")

    def asked(most: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlops_pipeline", "init", "--input", "table.csv", "--target", "verdict", "--output", "new.yaml"],
            cwd=tmp_path,
            env={**process_environment(), "PYTHONDONTWRITEBYTECODE": "1"},  # none that is cut off at so many bytes
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY)),
        )

    full = asked(100)
    assert (full.returncode, full.stderr.count("\n")) == (2, 1), full.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert asked(resource.RLIM_INFINITY).returncode == 0
    load_settings(tmp_path / "new.yaml")
