"""The champion behind MLflow's own server, as the mission types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_pipeline.registry.versions import content_digest
from tests.conftest import Project, copied
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import started, until_healthy

pytestmark = pytest.mark.slow


def test_mlflow_models_serve_answers_with_the_champion(registered: Project, tmp_path: Path, free_port: int) -> None:
    project = copied(registered, tmp_path / "project")
    best = project.folder / "models/registry/best_model"
    registered = content_digest(best)
    words = ("mlflow", "models", "serve", "-m", "models/registry/best_model", "-p", str(free_port), "--env-manager", "local")
    log = tmp_path / "serve.log"
    with started(*words, cwd=project.folder, log=log) as process:
        until_healthy(process, log, f"http://127.0.0.1:{free_port}/ping")
        body = (best / "serving_input_example.json").read_bytes()
        predictions = post(f"http://127.0.0.1:{free_port}/invocations", body)[1]["predictions"]
    assert [round(sum(row), 6) for row in predictions] == [1.0] * 3
    assert content_digest(best) == registered, "MLflow leaves the files as they were registered"
