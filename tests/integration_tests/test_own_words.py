"""A table in its owner's words: yes and no, codes with leading zeros, a country called NA, an own word for null; the same by every way."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from tests.conftest import SMALL_SETTINGS, Project, make_project, unused_port
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import serving, started, until_healthy

COLUMNS = {
    "predicted": {"kind": "boolean"},
    "probability_of_rain": {"kind": "number", "min": 0, "max": 1},
    "country": {"kind": "category"},
    "zip_code": {"kind": "category", "nullable": False},
    "grade": {"kind": "category"},
    "__reason": {"kind": "integer"},
}
FEATURES = [name for name in COLUMNS if name != "predicted"]


def rows(count: int, seed: int) -> pl.DataFrame:
    """Rows as their owner writes them: text, ``-`` for null."""
    rng = np.random.default_rng(seed)
    rain, country = rng.uniform(size=count).round(3), rng.choice(["NA", "DE", "ZA", "-"], count)
    grade, zip_code = rng.integers(1, 6, count), rng.choice(["0200", "200", "02138", "1234"], count)
    chance = 0.1 + 0.5 * (rain > 0.5) + 0.2 * (zip_code == "0200") + 0.2 * (country == "NA")
    return pl.DataFrame(
        {
            "note": [f"[x] {n}" for n in range(count)],
            "predicted": np.where(rng.uniform(size=count) < chance, "Yes", "No"),
            "probability_of_rain": [str(value) for value in rain],
            "country": country,
            "zip_code": zip_code,
            "grade": [str(value) for value in grade],
            "__reason": [str(value) for value in rng.integers(0, 9, count)],
        }
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is trained on such a table."""
    made = make_project(tmp_path_factory.mktemp("own words [x]") / "Größe a")
    folder = made.folder
    rows(900, 1).write_csv(folder / "table.csv")
    content = {
        **SMALL_SETTINGS,
        "dataset": {
            "source": {"path": "table.csv", "null_values": ["", "-"]},
            "target": "predicted",
            "task": "binary",
            "positive": "Yes",
            "columns": COLUMNS,
        },
        "split": {"kind": "stratified"},
        "evaluate": {"metric": "accuracy", "resamples": 50, "slices": []},
        "validate": {"max_duplicate_share": 1},
        "gate": {"beat_baseline_by": None},
    }
    made.config.write_text(yaml.safe_dump(content, sort_keys=False))
    made.run()
    rows(300, 2).write_csv(folder / "new.csv")
    return made


@pytest.fixture(scope="module")
def predicted(project: Project) -> pl.DataFrame:
    done = project.mlops("predict", "--config", str(project.config), "--input", "new.csv", "--output", "out.csv")
    assert "300 rows predicted" in done.stdout, done.stdout
    return pl.read_csv(project.folder / "out.csv", infer_schema=False, glob=False)


def test_what_came_in_comes_back_and_beside_it_the_owners_words(project: Project, predicted: pl.DataFrame) -> None:
    given = pl.read_csv(project.folder / "new.csv", infer_schema=False, glob=False)
    assert predicted.columns == [*given.columns, "prediction", "probability_No", "probability_Yes"]
    assert predicted.select(given.columns).equals(given)
    assert set(predicted["prediction"]) == {"Yes", "No"}
    seen = json.loads((project.folder / "models/artifacts/training.json").read_text())
    assert seen["categories"]["country"] == ["(missing)", "DE", "NA", "ZA"]
    assert seen["categories"]["zip_code"] == ["0200", "02138", "1234", "200"]
    assert (seen["classes"], seen["labels"]) == ([0, 1], ["No", "Yes"])


def test_the_report_measures_what_predict_said(project: Project, predicted: pl.DataFrame) -> None:
    agreed = float((predicted["prediction"] == predicted["predicted"]).mean())  # type: ignore[arg-type]
    for current in ("new.csv", "out.csv"):
        project.mlops(*("monitor", "report"), "--config", str(project.config), "--current", current, "--output", "report")
        told = json.loads((project.folder / "report/report.json").read_text())["summary"]
        assert told["quality"]["accuracy"]["current"] == pytest.approx(agreed, abs=1e-9), current
        assert told["quality"]["accuracy"]["reference"] > 0.5
        assert "roc_auc" in told["quality"]


def test_the_report_predicts_what_predict_predicts(project: Project, predicted: pl.DataFrame) -> None:
    """One strange target, and values that no model takes: neither becomes something else on the way to the report."""
    strange = predicted.drop("prediction", "probability_No", "probability_Yes").with_row_index("n")
    at = pl.col("n")
    strange = strange.with_columns(
        pl.when(at == 0).then(pl.lit("maybe")).otherwise(pl.col("predicted")).alias("predicted"),
        pl.when(at == 1)
        .then(pl.lit("inf"))
        .when(at == 2)
        .then(pl.lit("abc"))
        .otherwise(pl.col("probability_of_rain"))
        .alias("probability_of_rain"),
    ).drop("n")
    strange.write_csv(project.folder / "strange.csv")
    agreed = float((predicted["prediction"] == predicted["predicted"])[3:].mean())  # type: ignore[arg-type]
    done = project.mlops("monitor", "report", "--config", str(project.config), "--current", "strange.csv", "--output", "report")
    assert "298 rows of strange.csv" in done.stdout
    assert "2 break its schema" in done.stdout
    assert "1 values of predicted" in done.stdout
    told = json.loads((project.folder / "report/report.json").read_text())["summary"]
    assert told["quality"]["accuracy"]["current"] == pytest.approx(agreed, abs=1e-9)


def test_a_float_parquet_of_codes_is_the_same_table(project: Project, predicted: pl.DataFrame) -> None:
    given = pl.read_csv(project.folder / "new.csv", infer_schema=False, glob=False)
    table = given.with_columns(pl.col("grade", "probability_of_rain").cast(pl.Float64), pl.col("country").replace("-", None))
    table.write_parquet(project.folder / "new.parquet")
    done = project.mlops("predict", "--config", str(project.config), "--input", "new.parquet", "--output", "out.parquet")
    assert "not seen" not in done.stdout
    made = pl.read_parquet(project.folder / "out.parquet", glob=False)
    assert made["probability_Yes"].to_list() == predicted["probability_Yes"].cast(pl.Float64).to_list()
    assert made.select(table.columns).equals(table)


def test_the_server_answers_in_the_owners_words(project: Project, predicted: pl.DataFrame, tmp_path: Path) -> None:
    given = pl.read_csv(project.folder / "new.csv", infer_schema=False, glob=False).select(FEATURES)
    with serving(project, tmp_path) as server:
        url = server.url
        status, answer, _ = post(f"{url}/predict", {"records": given.to_dicts()})
        assert status == 200, answer
        assert [one["label"] for one in answer["predictions"]] == predicted["prediction"].to_list()
        said = [one["probabilities"]["Yes"] for one in answer["predictions"]]
        assert said == predicted["probability_Yes"].cast(pl.Float64).to_list()
        text = io.StringIO()
        given.write_csv(text)
        status, answer, _ = post(f"{url}/invocations", text.getvalue().encode(), "text/csv")
        assert status == 200, answer
        assert [row[1] for row in answer["predictions"]] == said


def test_a_model_of_the_version_before_is_served(tmp_path: Path) -> None:
    from tests.conftest import HERE

    folder, port = HERE / "models_made_before/stays", unused_port()
    before = pl.read_csv(folder / "predicted.csv", infer_schema=False, glob=False)
    (tmp_path / "serving.yaml").write_text(yaml.safe_dump({"port": port, "record": {"folder": str(tmp_path / "records")}}))
    words = ("mlops", "serve", "--config", "serving.yaml", "--model", str(folder / "model"))
    log, url = tmp_path / "server.log", f"http://127.0.0.1:{port}"
    with started(*words, cwd=tmp_path, log=log) as process:
        until_healthy(process, log, f"{url}/ready")
        records = before.select("age", "score", "plan", "floor", "member").to_dicts()
        status, answer, _ = post(f"{url}/predict", {"records": records})
    assert status == 200, answer
    assert [str(one["label"]) for one in answer["predictions"]] == before["prediction"].to_list()
    assert [one["probabilities"]["1"] for one in answer["predictions"]] == before["probability_1"].cast(pl.Float64).to_list()
