"""The champion behind MLflow's own server, as the mission types it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mlops_pipeline.registry.versions import content_digest
from tests.conftest import Project, wait_for
from tests.integration_tests.conftest import started

pytestmark = pytest.mark.slow


def test_mlflow_models_serve_answers_with_the_champion(project: Project, tmp_path: Path, free_port: int) -> None:
    project.run()
    best = project.folder / "models/registry/best_model"
    registered = content_digest(best)
    words = ("mlflow", "models", "serve", "-m", "models/registry/best_model", "-p", str(free_port), "--env-manager", "local")
    with started(*words, cwd=project.folder, log=tmp_path / "serve.log"):
        wait_for(lambda: answered(f"http://127.0.0.1:{free_port}/ping"), 120, "an answer from mlflow models serve")
        body = (best / "serving_input_example.json").read_bytes()
        request = urllib.request.Request(
            f"http://127.0.0.1:{free_port}/invocations", body, {"Content-Type": "application/json"}
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=120) as answer:
            predictions = json.load(answer)["predictions"]
    assert [round(sum(row), 6) for row in predictions] == [1.0] * 3
    assert content_digest(best) == registered, "MLflow leaves the files as they were registered"


def answered(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
