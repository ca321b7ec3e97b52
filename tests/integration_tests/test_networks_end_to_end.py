"""The examples with a network and with an encoder of text, from `mlops new` to a served answer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Project
from tests.encoders import needs_tokenizers, write_encoder
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import serving

needs_pytorch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: make torch")


def example(folder: Path, name: str) -> Project:
    """An example as `mlops new` writes it."""
    Project(folder.parent, folder).mlops("new", folder.name, "--example", name)
    return Project(folder, folder / "configs/training_config.yaml")


def evaluation(project: Project) -> dict[str, Any]:
    return dict(json.loads((project.folder / "models/artifacts/evaluation/evaluation.json").read_text()))


@needs_pytorch
def test_the_flights_by_a_network_go_through_the_gate_and_are_served(tmp_path: Path) -> None:
    project = example(tmp_path / "flights", "flights")
    project.change(split={"train_from": "2013-06-01"}, evaluate={"random_split_check": False, "resamples": 50})
    content = project.settings() | {"tracking": {}}
    params = {"epochs": 2, "members": 4, "width": 16, "learning_rate": 0.01, "device": "cpu"}
    content["train"] = {"estimator": "torch_tabm", "params": params}
    content["onnx"] = {"tolerance": 1e-5, "quantise": "int8", "int8_decisions": 0.9, "int8_loss": 0.02}
    project.config.write_text(json.dumps(content))
    said = project.run().stdout
    assert "version 1: champion" in said, said
    judged = evaluation(project)
    assert judged["onnx"]["accepted"] and judged["metrics"]["roc_auc"]["value"] > 0.65
    assert judged["twins"]["onnx_int8"]["accepted"], judged["twins"]
    assert "by the exact twin in" in (project.folder / "models/registry/best_model/MODEL_CARD.md").read_text()
    with serving(project, tmp_path / "serving", inputs="features") as server:
        status, answer, _ = post(f"{server.url}/predict", {"records": [server.example]})
        assert status == 200
        assert list(answer["predictions"][0]["probabilities"].values()) == pytest.approx(server.expected, abs=1e-6)


@needs_tokenizers
def test_texts_by_an_encoder_in_a_folder_are_served_by_three_protocols(tmp_path: Path) -> None:
    project = example(tmp_path / "reviews", "reviews")
    encoder = write_encoder(project.folder / "models/encoders/tiny")
    content = project.settings() | {"tracking": {}}
    content["train"] = {
        "estimator": "logistic_regression",
        "encoder": "sentences",
        "encoder_params": {"folder": "models/encoders/tiny", "max_tokens": 12},
    }
    content["gate"] = {"beat_baseline_by": None}  # of an encoder that has learned nothing
    project.config.write_text(json.dumps(content))
    assert "version 1: champion" in project.run().stdout
    assert evaluation(project)["onnx"]["accepted"]
    with serving(project, tmp_path / "serving") as server:
        text = next(name for name in server.example if content["dataset"]["columns"][name]["kind"] == "text")
        row = {**server.example, text: "it works great " * 20}
        status, answer, headers = post(f"{server.url}/predict", {"records": [row]})
        assert status == 200, answer
        assert [(one["reason"], one["column"], one["rows"]) for one in answer["warnings"]] == [("cut_text", text, 1)]
        assert "cut_text" in headers["Mlops-Warnings"]
        probabilities = list(answer["predictions"][0]["probabilities"].values())
        assert post(f"{server.url}/invocations", {"dataframe_records": [row]})[1]["predictions"] == [pytest.approx(probabilities, abs=1e-9)]
        tensors = [
            {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}
            for name, value in row.items()
        ]
        outputs = post(f"{server.url}/v2/models/champion/infer", {"inputs": tensors})[1]["outputs"]
        assert next(one["data"] for one in outputs if one["name"] == "probabilities") == pytest.approx(probabilities, abs=1e-9)
    write_encoder(encoder, width=32)
    status_said = project.mlops("status", "--config", str(project.config), check=False).stdout
    assert "data: models/encoders/tiny/model.safetensors" in status_said


@needs_pytorch
@needs_tokenizers
def test_a_fine_tuned_challenger_that_is_worse_than_tfidf_is_turned_down_and_answers_once_a_person_says_so(tmp_path: Path) -> None:
    project = example(tmp_path / "reviews", "reviews")
    encoder, table = write_encoder(project.folder / "models/encoders/tiny"), project.folder / "data/reviews.csv"
    table.write_text("".join(table.read_text(encoding="utf-8").splitlines(keepends=True)[:1001]), encoding="utf-8")
    content = project.settings() | {"tracking": {}, "validate": {}}
    content["train"]["encoder_params"] = {"words": [1, 1]}
    content["gate"] = {"beat_baseline_by": None, "champion_margin": 0.01}
    project.config.write_text(json.dumps(content))
    assert "version 1: champion" in project.run().stdout
    content["train"] = {
        "estimator": "transformer",
        "params": {"epochs": 1, "layers": 1, "learning_rate": 1e-3, "device": "cpu"},
        "encoder_params": {"folder": "models/encoders/tiny"},
    }
    project.config.write_text(json.dumps(content))
    said = project.run().stdout
    assert "training rows held back" in said, said
    assert "✗ champion" in said and "version 2: champion" not in said, said
    assert evaluation(project)["onnx"]["accepted"], evaluation(project)["onnx"]
    assert not (project.folder / "models/tuning/reviews.fit.npz").exists()
    project.mlops("models", "promote", "2", "--override", "to be asked", "--config", str(project.config))
    with serving(project, tmp_path / "serving") as server:
        status, answer, _ = post(f"{server.url}/predict", {"records": [server.example]})
        assert status == 200, answer
        assert list(answer["predictions"][0]["probabilities"].values()) == pytest.approx(server.expected, abs=1e-6)
    (encoder / "tokenizer.json").write_text((encoder / "tokenizer.json").read_text() + " ", encoding="utf-8")
    assert "data: models/encoders/tiny/tokenizer.json" in project.mlops("status", "--config", str(project.config), check=False).stdout
