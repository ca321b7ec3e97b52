"""The registered deployment, as a user brings it up: a Prefect server, a process pool, a worker, one run."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.alerts.channels import post_event
from mlops_pipeline.config.channels import PrefectEvent
from mlops_pipeline.monitoring.retraining import EVENT
from mlops_pipeline.pipeline.definition import STAGES
from tests.conftest import REPOSITORY, Project, make_project, wait_for
from tests.integration_tests.conftest import prefect_server, started

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect")]

POOL = "training-pool"
DEPLOYMENT = "mlops-pipeline/training-deployment"


@pytest.fixture
def deployable(tmp_path: Path) -> Project:
    """A small project laid out like the repository, with its ``prefect`` folder."""
    made = make_project(tmp_path / "project")
    config = made.folder / "configs/training_config.yaml"
    config.parent.mkdir()
    made.config.rename(config)
    shutil.copytree(REPOSITORY / "prefect", made.folder / "prefect", ignore=shutil.ignore_patterns("__pycache__"))
    return Project(made.folder, config)


def test_the_deployment_runs_to_completion_on_a_worker(deployable: Project, free_port: int, tmp_path: Path) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    with prefect_server(free_port, tmp_path / "prefect") as server:
        deployable.command("prefect", "work-pool", "create", "--type", "process", POOL, **server)
        deployable.command("prefect", "--no-prompt", "deploy", "--prefect-file", "prefect/deployments/prefect.yaml", "--all", **server)
        worker = ("prefect", "worker", "start", "--pool", POOL, "--type", "process")
        with (
            started(*worker, cwd=tmp_path, log=tmp_path / "worker.log", **server),
            SyncPrefectClient(api=server["PREFECT_API_URL"]) as client,
        ):
            try:
                deployable.command("prefect", "deployment", "run", DEPLOYMENT, "--watch", "--watch-timeout", "590", **server)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{(tmp_path / 'worker.log').read_text()}") from error
            check_deployment(client)
            check_run(client)
            check_trigger(client, server["PREFECT_API_URL"])
    assert (deployable.folder / "models/registry/best_model/MLmodel").is_file()
    assert "Running stage" not in deployable.command("dvc", "repro").stdout


def check_deployment(client: Any) -> None:
    """The nightly schedule is there and sleeps; the worker was told the folder, and nothing else of this machine."""
    deployment = client.read_deployment_by_name(DEPLOYMENT)
    assert [(schedule.schedule.cron, schedule.active) for schedule in deployment.schedules] == [("0 3 * * *", False)]
    assert deployment.parameters == {"config_path": "configs/training_config.yaml"}
    assert deployment.work_pool_name == POOL


def check_trigger(client: Any, url: str) -> None:
    """What the watch asks for starts the training with its window, once, however often it is asked."""
    for name in ("monitoring-pipeline/monitoring-deployment", "features-pipeline/features-deployment"):
        assert client.read_deployment_by_name(name).work_pool_name == POOL
    asked = {"config_path": "configs/training_config.yaml", "as_of": "2024-03-20", "rule": "retraining_helps"}
    identity = str(uuid.uuid4())
    for _ in range(2):
        post_event(EVENT, "mlops.pipeline.small", asked, identity, PrefectEvent(url=url))
    wait_for(lambda: len(client.read_flow_runs()) == 2, 120, "the run that the event starts")
    [run] = [run for run in client.read_flow_runs() if run.parameters.get("as_of")]
    assert run.parameters == {"config_path": "configs/training_config.yaml", "as_of": "2024-03-20"}
    wait_for(lambda: client.read_flow_run(run.id).state.type.value in ("COMPLETED", "FAILED", "CRASHED"), 300, "the end of that run")
    assert client.read_flow_run(run.id).state.type.value == "COMPLETED"
    assert len(client.read_flow_runs()) == 2


def check_run(client: Any) -> None:
    """On the server: one completed run, its tasks in order, a stage's words in the log, the figures as an artifact."""
    (run,) = client.read_flow_runs()
    assert run.state.type.value == "COMPLETED"
    tasks: list[Any] = []

    def recorded() -> bool:
        tasks[:] = sorted(
            (task for task in client.read_task_runs() if task.state and task.state.is_final()), key=lambda task: task.start_time
        )
        return len(tasks) == len(STAGES)

    wait_for(recorded, 120, "the end of every task run on the server")
    assert [task.name.rsplit("-", 1)[0] for task in tasks] == [
        "load_data",
        "validate_data",
        "preprocess_data",
        "train_model",
        "evaluate_model",
        "register_model",
    ]
    assert {task.state.name for task in tasks} == {"Completed"}

    def said() -> bool:
        logs = client.request("POST", "/logs/filter", json={"logs": {"task_run_id": {"any_": [str(tasks[-1].id)]}}}).json()
        return any("small version 1: champion" in line["message"] for line in logs)

    wait_for(said, 120, "the registration's words in the server's log")
    (artifact,) = client.request("POST", "/artifacts/filter", json={"artifacts": {"key": {"any_": ["evaluation-small"]}}}).json()
    assert (artifact["type"], artifact["flow_run_id"]) == ("table", str(run.id))
    assert "roc_auc" in artifact["data"]
    assert "baseline" in artifact["data"]
