"""`mlops new DIR --example reviews`: from a table of texts to an answer, and a challenger of another kind through the same gate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from mlops_pipeline.project import new
from tests.conftest import Project
from tests.integration_tests.clients import get, post
from tests.integration_tests.conftest import Server, serving

GOOD = "The pictures are sharp, and it is easy to use 😀"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The example, run once."""
    folder = tmp_path_factory.mktemp("example") / "reviews"
    made = new(folder, None, None, "reviews")
    assert (made.name, (folder / "data/LICENSE.txt").read_text().startswith("The MIT License")) == ("reviews", True)
    project = Project(folder, folder / "configs/training_config.yaml")
    project.config.write_text(project.config.read_text() + "\ntracking: {}\n")
    project.change(train={"encoder_params": {"words": [1, 2]}})
    project.run()
    return project


@pytest.fixture(scope="module")
def server(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(project, tmp_path_factory.mktemp("served")) as server:
        yield server


def test_it_reads_texts_better_than_chance_and_says_what_it_reads(project: Project) -> None:
    evaluation = json.loads((project.folder / "models/artifacts/evaluation/evaluation.json").read_text())
    assert evaluation["metrics"]["roc_auc"]["low"] > 0.7
    assert evaluation["onnx"]["accepted"], evaluation["onnx"]
    assert {part["column"] for part in evaluation["slices"]} == {"review, words"}
    (read,) = evaluation["texts"]
    weights = {each["word"]: each["weight"] for each in read["listed"]}
    assert weights["great"] > 0 > weights["not"]
    assert len(read["examples"]) == 6
    report = (project.folder / "models/artifacts/report.html").read_text()
    assert "What the model reads in" in report
    assert '<mark class="for"' in report
    facts = json.loads((project.folder / "data/validation/reviews.report.json").read_text())["texts"]["review"]
    assert facts["scripts"]["Latin"] > 0.99


def test_a_text_gets_the_same_answer_by_three_protocols_from_a_server_without_scikit_learn(server: Server) -> None:
    status, answer, _ = post(f"{server.url}/predict", {"records": [{"review": GOOD}, {"review": "It broke at once, do not buy it"}]})
    assert (status, [each["label"] for each in answer["predictions"]]) == (200, ["positive", "negative"])
    wanted = answer["predictions"][0]["probabilities"]
    mlflow = post(f"{server.url}/invocations", {"dataframe_records": [{"review": GOOD}]})[1]["predictions"][0]
    tensor = {"name": "review", "shape": [1], "datatype": "BYTES", "data": [GOOD]}
    kserve = post(f"{server.url}/v2/models/champion/infer", {"inputs": [tensor]})[1]["outputs"][1]["data"]
    assert mlflow == kserve == list(wanted.values())
    assert post(f"{server.url}/predict", {"records": [{"review": "x" * 100_001}]})[1]["errors"][0]["reason"] == "too_long"
    described = get(f"{server.url}/openapi.json")[1]
    assert '"review"' in json.dumps(described)
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "sklearn" not in maps
    assert "polars" not in maps


def test_boosting_goes_through_the_same_gate(project: Project) -> None:
    before = (project.folder / "models/registry/best_model/training.json").read_bytes()
    boosted = {"estimator": "lightgbm", "encoder": "tfidf", "encoder_params": {"numbers": 16}, "params": {"n_estimators": 30}}
    project.change(train=boosted)
    said = project.run(check=False).stdout
    assert "champion: " in said
    judged = json.loads((project.folder / "models/artifacts/evaluation/evaluation.json").read_text())
    assert judged["champion"]["comparable"]
    assert judged["champion"]["improvement"]["high"] < 0.05
    assert judged["onnx"]["accepted"], judged["onnx"]
    assert (project.folder / "models/registry/best_model/training.json").read_bytes() == before


def test_later_texts_in_other_words_are_seen_as_drift_in_a_window_and_in_a_report(project: Project) -> None:
    from mlops_pipeline.contract.reference import decoded
    from mlops_pipeline.monitoring.measured import Batch
    from mlops_pipeline.monitoring.measuring import measure

    (file,) = (project.folder / "models/registry/best_model").rglob("monitoring_reference.json")
    reference = decoded(file.read_bytes())
    others = [f"{word} камера отличная и звук тоже хороший" for word in ("очень", "вот", "это")] * 20
    held_out = pl.read_parquet(project.folder / "data/processed/reviews.test.parquet")
    (usual,) = (column for column in measure(reference, [Batch(held_out)]).columns if column.name == "review")
    assert not usual.drifted
    (moved,) = (column for column in measure(reference, [Batch(pl.DataFrame({"review": others}))]).columns if column.name == "review")
    assert moved.reasons == ("distribution", "new_categories", "vocabulary", "embedding")
    assert moved.texts is not None and moved.texts.scripts["Cyrillic"] == (0.0, 1.0)
    pl.DataFrame({"review": others}).write_csv(project.folder / "later.csv")
    said = project.mlops("monitor", "report", "--current", "later.csv", "--config", str(project.config)).stdout
    assert "(distance of mean embeddings)" in said or "(growth of new words)" in said
    told = json.loads((project.folder / "data/monitoring/report.json").read_text())["summary"]["columns"]["review"]
    assert told["drift"]["detected"] and told["texts"]["unseen"] > 0.9
