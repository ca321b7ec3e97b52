"""The monitoring report with real Evidently: its figures against others' arithmetic, its page in a browser, its command."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from sklearn import metrics

from mlops_pipeline.monitoring import history
from mlops_pipeline.monitoring.report import MonitoringReport, create_model_monitoring_report
from mlops_pipeline.monitoring.state import state_at
from mlops_pipeline.monitoring.window import current_rows, open_pipeline
from tests.conftest import REPOSITORY, Project
from tests.unit_tests.test_history import NOW, kept

ROWS = 1500
TWO, THREE = ["no", "yes"], ["left", "middle", "right"]


def frame(seed: int, shift: float, task: str, rows: int = ROWS) -> pl.DataFrame:
    """Two numbers, one with gaps, a category, and a target that is half explained by what was predicted."""
    random = np.random.default_rng(seed)
    size = random.normal(shift, 1, rows)
    noise = random.normal(0, 0.7, rows)
    if task == "regression":
        target, prediction = size + noise, size
    else:
        names = np.array(TWO if task == "binary" else THREE)
        cuts = [0.0] if task == "binary" else [-0.5, 0.5]
        target, prediction = names[np.digitize(size + noise, cuts)], names[np.digitize(size, cuts)]
    gaps = random.random(rows) < 0.1 + shift / 10
    columns = {
        "feature_1": size,
        "feature_2": random.normal(5, 1, rows),
        "kind": random.choice(["a", "b"], rows, p=[0.5 + shift / 5, 0.5 - shift / 5]),
    }
    table = pl.DataFrame({**columns, "target": target, "prediction": prediction})
    return table.with_columns(pl.when(~pl.Series(gaps)).then(pl.col("feature_2")).alias("feature_2"))


def both(task: str, rows: int = ROWS) -> tuple[pl.DataFrame, pl.DataFrame]:
    return frame(0, 0.0, task, rows), frame(1, 0.8, task, rows)


def quietly(*frames: Any, **options: Any) -> MonitoringReport:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return create_model_monitoring_report(*frames, **options)


def regression(reference: pl.DataFrame, current: pl.DataFrame) -> MonitoringReport:
    """The report on targets of which some are below zero, which it says."""
    with pytest.warns(UserWarning, match="no MAPE"):
        return create_model_monitoring_report(reference, current)


def by_name(report: MonitoringReport) -> dict[str, Any]:
    return {metric["metric_name"].partition("(")[0]: metric["value"] for metric in json.loads(report.json())["metrics"]}


def classification_figures(side: pl.DataFrame, average: str) -> dict[str, float]:
    options: dict[str, Any] = {"average": average, "pos_label": "yes" if average == "binary" else 1}
    truth, said = side["target"].to_numpy(), side["prediction"].to_numpy()
    return {
        "accuracy": metrics.accuracy_score(truth, said),
        "precision": metrics.precision_score(truth, said, **options),
        "recall": metrics.recall_score(truth, said, **options),
        "f1": metrics.f1_score(truth, said, **options),
    }


@pytest.mark.parametrize(("task", "average"), [("binary", "binary"), ("multiclass", "macro")])
def test_classification_quality_is_what_scikit_learn_says(task: str, average: str) -> None:
    reference, current = both(task)
    report = quietly(reference, current)
    quality = json.loads(report.json())["summary"]["quality"]
    for name, side in (("reference", reference), ("current", current)):
        for figure, value in classification_figures(side, average).items():
            assert quality[figure][name] == pytest.approx(value), (figure, name)
    evidently = by_name(report)
    assert evidently["Accuracy"] == pytest.approx(quality["accuracy"]["current"])
    assert sorted(evidently["RecallByLabel"]) == list(evidently["RecallByLabel"]) == (TWO if task == "binary" else THREE)


def test_regression_quality_is_what_scikit_learn_says() -> None:
    reference, current = both("regression")
    quality = json.loads(regression(reference, current).json())["summary"]["quality"]
    for name, side in (("reference", reference), ("current", current)):
        truth, said = side["target"].to_numpy(), side["prediction"].to_numpy()
        assert quality["mae"][name] == pytest.approx(metrics.mean_absolute_error(truth, said))
        assert quality["rmse"][name] == pytest.approx(metrics.root_mean_squared_error(truth, said))
        assert quality["r2"][name] == pytest.approx(metrics.r2_score(truth, said))
        assert quality["mean_error"][name] == pytest.approx(float((said - truth).mean()))


def test_an_error_in_percent_is_what_scikit_learn_says_where_every_target_is_above_zero() -> None:
    reference, current = (side.with_columns(pl.col("target", "prediction").exp()) for side in both("regression"))
    report = quietly(reference, current)
    for name, side in (("reference", reference), ("current", current)):
        expected = 100 * metrics.mean_absolute_percentage_error(side["target"].to_numpy(), side["prediction"].to_numpy())
        assert report.quality["mape"][name] == pytest.approx(expected)
    assert by_name(report)["MAPE"]["mean"] == pytest.approx(report.quality["mape"]["current"])


@pytest.mark.parametrize("lowest", [0.0, -3.0])
@pytest.mark.parametrize("where", ["reference", "current"])
def test_no_error_in_percent_is_told_where_a_target_is_not_above_zero(lowest: float, where: str) -> None:
    positive = frame(0, 0.0, "regression").with_columns(pl.col("target", "prediction").exp())
    first = pl.int_range(pl.len()) == 0
    other = positive.with_columns(target=pl.when(first).then(lowest).otherwise(pl.col("target")))
    reference, current = (other, positive) if where == "reference" else (positive, other)
    with pytest.warns(UserWarning, match="'target' has values of zero or below, .*: no MAPE"):
        report = create_model_monitoring_report(reference, current)
    assert set(report.quality) == {"mean_error", "mae", "rmse", "r2", "max_error"}
    assert set(by_name(report)) >= {"MeanError", "MAE", "RMSE", "R2Score", "AbsMaxError"}
    assert "MAPE" not in by_name(report)
    page = report.get_html_str()
    assert "Mean Absolute Error" in page
    assert "Absolute Percentage Error" not in page
    assert '"MAPE"' not in page


def test_probabilities_add_what_only_they_can_tell() -> None:
    sides = []
    for side in both("binary"):
        chance = 1 / (1 + (-2 * pl.col("feature_1")).exp())
        sides.append(side.with_columns(chance.alias("probability_yes"), (1 - chance).alias("probability_no")))
    report = quietly(*sides)
    for name, side in zip(("reference", "current"), sides, strict=True):
        truth = (side["target"] == "yes").to_numpy()
        assert report.quality["roc_auc"][name] == pytest.approx(metrics.roc_auc_score(truth, side["probability_yes"].to_numpy()))
        assert report.quality["log_loss"][name] == pytest.approx(metrics.log_loss(truth, side["probability_yes"].to_numpy()))
    assert "probability_yes" in report.summary["columns"]
    assert "probability_no" not in report.summary["columns"], "the mirror of the other would count one drift twice"


@pytest.mark.parametrize("absent", ["current", "reference"])
def test_a_class_that_one_side_lacks_does_not_change_what_the_figures_mean(absent: str) -> None:
    whole, part = frame(0, 0.0, "binary"), frame(1, 0.0, "binary").filter(target="no")
    reference, current = (whole, part) if absent == "current" else (part, whole)
    with pytest.warns(UserWarning, match=f"{absent}.* has no 'target' of class yes"):
        report = create_model_monitoring_report(reference, current)
    other = "reference" if absent == "current" else "current"
    for figure, value in classification_figures(whole, "binary").items():
        assert report.quality[figure][other] == pytest.approx(value)
    assert report.quality["accuracy"][absent] == pytest.approx(
        metrics.accuracy_score(part["target"].to_numpy(), part["prediction"].to_numpy())
    )
    assert report.quality["recall"][absent] == 0.0
    assert "Found of them" in report.get_html_str()


def test_a_class_seen_for_the_first_time_counts() -> None:
    reference, current = (
        frame(0, 0.0, "multiclass").filter(pl.col("target") != "right", pl.col("prediction") != "right"),
        frame(1, 0.0, "multiclass"),
    )
    with pytest.warns(UserWarning, match="the reference has no 'target' of class right"):
        report = create_model_monitoring_report(reference, current)
    for figure, value in classification_figures(current, "macro").items():
        assert report.quality[figure]["current"] == pytest.approx(value)


def test_missing_values_and_the_median_are_counted_on_every_row() -> None:
    reference, current = both("binary", rows=5000)
    report = quietly(reference, current, draw_rows=100)
    told = report.dict()
    for name, side in (("reference", reference), ("current", current)):
        assert told["summary"]["rows"][name] == side.height
        assert told["summary"]["columns"]["feature_2"]["missing"][name] == side["feature_2"].null_count() > 0
        assert told["summary"]["quantile"][name] == pytest.approx(side["feature_1"].median())
    counted = {m["config"]["column"]: m["value"] for m in told["metrics"] if m["config"]["type"].endswith(":MissingValueCount")}
    assert counted["feature_2"] == {"count": current["feature_2"].null_count(), "share": current["feature_2"].null_count() / 5000}
    assert any("drawn from 100 of its 5,000 rows (seed 42)" in note for note in told["summary"]["notes"])
    whole = quietly(reference, current)
    assert [m["value"] for m in whole.dict()["metrics"]] == [m["value"] for m in told["metrics"]], "a sample changes pictures alone"


@pytest.mark.parametrize("rows", [300, 3000])
def test_drift_is_what_evidently_called_plainly_says(rows: int) -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    reference, current = both("binary", rows)
    definition = DataDefinition(numerical_columns=["feature_1", "feature_2"], categorical_columns=["kind", "target", "prediction"])
    plainly = Report([DataDriftPreset()]).run(
        Dataset.from_pandas(current.to_pandas(), definition), Dataset.from_pandas(reference.to_pandas(), definition)
    )
    ours = {metric["metric_name"]: metric for metric in quietly(reference, current).dict()["metrics"]}
    expected = plainly.dict()["metrics"]
    assert len(expected) == 6
    for metric in expected:
        found = ours[metric["metric_name"]]
        assert (found["id"], found["config"]) == (metric["id"], metric["config"])
        assert found["value"] == pytest.approx(metric["value"])


def test_pandas_frames_say_what_polars_frames_say() -> None:
    reference, current = both("multiclass")
    assert quietly(reference.to_pandas(), current.to_pandas()).json() == quietly(reference, current).json()


def test_no_number_that_json_lacks_gets_into_it() -> None:
    reference, current = both("regression")
    current = current.with_columns(feature_1=pl.lit(float("inf")), target=pl.lit(1.0), prediction=pl.lit(0.0)).head(1)
    report = regression(reference, current)
    told = json.loads(report.json())
    assert told["summary"]["quantile"]["current"] is None
    assert math.isnan(report.quality["r2"]["current"])
    assert told["summary"]["quality"]["r2"]["current"] is None


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab without a network that fails the test at its end if a script failed or anything but the file was asked for."""
    errors: list[str] = []
    asked: list[str] = []
    tab = browser.new_page(offline=True)
    tab.set_default_timeout(30_000)
    tab.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    yield tab
    tab.close()
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_page_opens_without_a_network(page: Page, tmp_path: Path, task: str) -> None:
    report = (regression if task == "regression" else quietly)(*both(task))
    report.save_html(tmp_path / "report.html")
    page.goto((tmp_path / "report.html").as_uri())
    expect(page).to_have_title("Model monitoring report")
    expect(page.get_by_text(f"of {len(report.figures.scored)} columns drifted")).to_be_visible()
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=report.figures.drifted[0].pair.name, exact=True))
    expect(row).to_contain_text("yes")
    pictures = page.locator(".js-plotly-plot")
    before = pictures.count()
    row.get_by_role("button").click()
    expect(pictures).to_have_count(before + 1)
    expect(page.get_by_text("Missing values:")).to_be_visible()
    expect(page.get_by_text("Quantile 0.5 of 'feature_1'")).to_be_visible()
    expect(
        page.get_by_text("Regression Model Performance" if task == "regression" else "Classification Model Performance").first
    ).to_be_visible()


def test_what_a_table_holds_is_shown_and_never_run(page: Page, tmp_path: Path) -> None:
    evil = "</script><script>window.ran = true</script><!--<script>"
    reference, current = (side.with_columns(kind=pl.lit(evil)).rename({"feature_2": f"{evil}2"}) for side in both("binary"))
    current = current.with_columns(kind=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("b")).otherwise(pl.lit(evil)))
    quietly(reference, current, origins=(evil, "current")).save_html(tmp_path / "report.html")
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.get_by_role("cell", name=f"{evil}2", exact=True).first).to_be_visible()
    assert page.evaluate("window.ran") is None


def monitor(folder: Path, *words: str, front_door: bool = False, **environ: str) -> subprocess.CompletedProcess[str]:
    project = Project(folder, folder / "pipeline.yaml")
    if front_door:
        return project.command(sys.executable, str(REPOSITORY / "src/monitoring.py"), *words, check=False, **environ)
    return project.mlops("monitor", "report", *words, check=False, **environ)


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    reference, current = both("binary")
    reference.write_csv(tmp_path / "reference.csv")
    current.write_parquet(tmp_path / "current.parquet")
    return tmp_path


FILES = ("--reference", "reference.csv", "--current", "current.parquet")


@pytest.mark.parametrize("front_door", [True, False])
def test_two_files_are_enough(two_files: Path, front_door: bool) -> None:
    done = monitor(two_files, *FILES, "--output", "out", front_door=front_door)
    assert done.returncode == 0, done.stderr
    assert f"{Path('out/report.html')}" in done.stdout
    summary = json.loads((two_files / "out/report.json").read_text())["summary"]
    assert summary["origins"] == {"reference": "reference.csv", "current": "current.parquet"}
    assert re.search(r"^drift +.*: \d of 5 columns", done.stdout, re.MULTILINE)
    for name in summary["drifted_columns"]:
        assert re.search(rf"^ +{name} +{summary['columns'][name]['drift']['score']:.3g} ", done.stdout, re.MULTILINE)
    accuracy = summary["quality"]["accuracy"]
    assert f"{accuracy['reference']:.4f} → {accuracy['current']:.4f}" in done.stdout
    assert (two_files / "out/report.html").stat().st_size > 1_000_000


@pytest.mark.slow
def test_the_same_files_give_the_same_json_in_every_process(two_files: Path) -> None:
    assert monitor(two_files, *FILES, "--output", "1").returncode == 0
    assert monitor(two_files, *FILES, "--output", "2", PYTHONHASHSEED="2").returncode == 0
    assert (two_files / "1/report.json").read_bytes() == (two_files / "2/report.json").read_bytes()


@pytest.mark.slow
def test_drift_can_fail_a_job_and_what_is_to_mend_ends_with_two(two_files: Path) -> None:
    assert monitor(two_files, *FILES, "--output", "out", "--drift-share", "0.2", "--fail-on-drift").returncode == 1
    assert (two_files / "out/report.json").is_file()
    assert monitor(two_files, *FILES, "--output", "out", "--drift-share", "1", "--fail-on-drift").returncode == 0
    done = monitor(two_files, "--reference", "reference.csv", "--current", "absent.csv", "--output", "none")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --current absent.csv: does not exist")
    assert done.stderr.count("\n") == 1
    assert not (two_files / "none").exists()


@pytest.mark.slow
def test_the_champion_predicts_a_period_and_its_training_window_is_the_reference(registered: Project, tmp_path: Path) -> None:
    """The table of 400 days in four rows each: the reference is what lies before the split, the current rows are of one month."""
    done = monitor(registered.folder, "--current", "2024-03", "--config", str(registered.config), "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    raw = pl.read_parquet(registered.folder / "data/raw/small.parquet")
    train = pl.read_parquet(registered.folder / "data/processed/small.train.parquet")
    march = raw.filter(pl.col("day").dt.strftime("%Y-%m") == "2024-03")
    summary = json.loads((tmp_path / "report.json").read_text())["summary"]
    assert summary["rows"] == {"reference": train.height, "current": march.height}
    assert set(summary["columns"]) == {"size", "weight", "kind", "late", "prediction", "probability_1"}
    held_out = json.loads((registered.folder / "models/registry/best_model/evaluation.json").read_text())["metrics"]
    for figure in ("accuracy", "roc_auc", "log_loss", "f1"):
        assert summary["quality"][figure]["reference"] == pytest.approx(held_out[figure]["value"], abs=1e-4), figure
    assert summary["quantile"]["column"] == "size"
    assert "feature_1" not in done.stdout, "nobody named it"
    assert f"predicted  {march.height} rows" in done.stdout
    by_moments = ("--from", "2024-03-01", "--until", "2024-04-01", "--config", str(registered.config), "--output", str(tmp_path / "again"))
    assert monitor(registered.folder, *by_moments).returncode == 0
    assert json.loads((tmp_path / "again/report.json").read_text())["summary"] == summary


def test_rows_that_break_the_champions_schema_are_counted_and_not_predicted(registered: Project, tmp_path: Path) -> None:
    raw = pl.read_parquet(registered.folder / "data/raw/small.parquet")
    broken = raw.with_columns(weight=pl.when(pl.int_range(pl.len()) < 7).then(-1.0).otherwise(pl.col("weight")))
    broken.write_parquet(tmp_path / "broken.parquet")
    words = ("--current", str(tmp_path / "broken.parquet"), "--config", str(registered.config), "--output", str(tmp_path))
    done = monitor(registered.folder, *words)
    assert done.returncode == 0, done.stderr
    assert "7 break its schema and have no prediction" in done.stdout
    summary = json.loads((tmp_path / "report.json").read_text())["summary"]
    assert summary["rows"]["current"] == raw.height
    assert summary["columns"]["prediction"]["missing"]["current"] == 7


def test_a_period_without_rows_names_what_there_is(registered: Project) -> None:
    done = monitor(registered.folder, "--current", "2019-10", "--config", str(registered.config))
    assert done.returncode == 2
    assert done.stderr == (
        "error: --current 2019-10: no row of data/raw/small.parquet is of that time (the table covers 2024-01-01 to 2024-04-09)\n"
    )


@pytest.mark.parametrize(
    ("named", "first", "last"),
    [
        ("2024-03-05", "2024-03-05", "2024-03-05"),
        ("2024-02-27..2024-03", "2024-02-27", "2024-03-31"),
        ("2024-2", "2024-02-01", "2024-02-29"),
    ],
)
def test_a_period_begins_with_its_first_day_and_ends_with_its_last(registered: Project, named: str, first: str, last: str) -> None:
    rows = current_rows(named, None, None, open_pipeline(registered.config, registered.config))
    days = rows.table["day"].dt.strftime("%Y-%m-%d")
    assert (days.min(), days.max()) == (first, last)


def test_a_training_window_that_is_not_the_champions_stands_in_and_that_is_said(registered: Project, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(registered.folder, copy, symlinks=True)
    report = copy / "data/processed/small.split.json"
    report.unlink()
    report.write_text(json.dumps({"train_sha256": "of other rows", "test_sha256": "of others"}))
    done = monitor(copy, "--current", "2024-03", "--config", str(copy / registered.config.name))
    assert done.returncode == 0, done.stderr
    own = "what the last run trained on, for the champion's own training rows are here no more, data/processed/small.train.parquet"
    assert own in " ".join(done.stdout.split())


def test_the_spread_of_an_error_in_percent_is_in_percent_too() -> None:
    """Evidently's own is a share, beside a mean in percent."""
    sides = [frame(seed, 0.0, "regression").with_columns(pl.col("target", "prediction") + 20) for seed in (0, 1)]
    report = quietly(*sides)
    spreads = [(100 * (side["prediction"] - side["target"]).abs() / side["target"]).std() for side in sides]
    [told] = [metric["value"] for metric in report.dict()["metrics"] if metric["config"]["type"].endswith(":MAPE")]
    assert told["std"] == pytest.approx(spreads[1])
    assert told["mean"] == pytest.approx(report.quality["mape"]["current"])
    page = report.get_html_str()
    assert all(page.count(f"({round(spread, 2)})") == 1 for spread in spreads)
    assert all(f'"{round(spread, 2)}"' in page for spread in spreads)


def test_every_cell_of_drift_has_its_frame_however_pale_it_is(browser: Browser, tmp_path: Path) -> None:
    with closing(state_at(tmp_path / "state.sqlite")) as state:
        windows = kept(state)
        told = history.page("w", "roc_auc", {"champion": windows}, {"champion": {}}, (), (), {"known": 0, "unmatched": 0}, NOW)
    (tmp_path / "watch.html").write_text(told, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto((tmp_path / "watch.html").as_uri())
    cells = page.locator(".heat td.yes").all()
    assert len(cells) == 6 + 9  # of temp, in the last six windows, and of the note
    for cell in cells:
        drawn = Image.open(io.BytesIO(cell.screenshot())).convert("RGB")
        red, green, blue = drawn.getpixel((drawn.width // 2, 2))
        assert red > green + 60
        assert red > blue + 60
    page.close()
