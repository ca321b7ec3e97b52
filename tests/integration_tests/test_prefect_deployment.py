"""The registered deployment, as a user brings it up: a Prefect server, a process pool, a worker, one run."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mlops_pipeline.alerts.channels import post_event
from mlops_pipeline.config.channels import PrefectEvent
from mlops_pipeline.events import ignored
from mlops_pipeline.monitoring.job import run as run_watch
from mlops_pipeline.monitoring.labels import add_labels
from mlops_pipeline.monitoring.retraining import EVENT
from mlops_pipeline.monitoring.watched import watched
from mlops_pipeline.pipeline.definition import STAGES
from tests.conftest import REPOSITORY, Project, make_project, wait_for, write_table
from tests.integration_tests.conftest import mlflow_client, prefect_server, serving, started
from tests.integration_tests.test_monitoring_loop import ask

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect")]

POOL = "training-pool"
DEPLOYMENT = "mlops-pipeline/training-deployment"
EARLIER = "2024-03-20"
"""Rows from then on come later."""


@pytest.fixture
def deployable(tmp_path: Path) -> Project:
    """A small project laid out like the repository, with its ``prefect`` folder."""
    made = make_project(tmp_path / "project")
    config = made.folder / "configs/training_config.yaml"
    config.parent.mkdir()
    made.config.rename(config)
    shutil.copytree(REPOSITORY / "prefect", made.folder / "prefect", ignore=shutil.ignore_patterns("__pycache__"))
    project = Project(made.folder, config)
    project.change(split={"test_from": None, "test_last": "2w"}, gate={"champion_margin": 1.0})
    project.with_empty_store()
    return project


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
                deployable.command(
                    "prefect", "deployment", "run", DEPLOYMENT, "--param", f"as_of={EARLIER}", "--watch", "--watch-timeout", "590", **server
                )
            except AssertionError as error:
                raise AssertionError(f"{error}\n{(tmp_path / 'worker.log').read_text()}") from error
            check_deployment(client)
            check_run(client)
            check_watch(deployable, client, server["PREFECT_API_URL"], tmp_path)
    assert (deployable.folder / "models/registry/best_model/MLmodel").is_file()
    assert "Running stage" not in deployable.dvc("repro").stdout


def check_deployment(client: Any) -> None:
    """The nightly schedule is there and sleeps; the worker was told the folder, and nothing else of this machine."""
    deployment = client.read_deployment_by_name(DEPLOYMENT)
    assert [(schedule.schedule.cron, schedule.active) for schedule in deployment.schedules] == [("0 3 * * *", False)]
    assert deployment.parameters == {"config_path": "configs/training_config.yaml"}
    assert deployment.work_pool_name == POOL


def check_watch(project: Project, client: Any, url: str, folder: Path) -> None:
    """What is served turns out wrong: the watch has Prefect train until a moment, once, and both say why; so does the version in MLflow."""
    for name in ("monitoring-pipeline/monitoring-deployment", "features-pipeline/features-deployment"):
        assert client.read_deployment_by_name(name).work_pool_name == POOL
    with serving(project, folder / "served") as server:
        write_table(folder / "asked.csv", rows=300, seed=3)
        asked = pl.read_csv(folder / "asked.csv").with_columns(
            pl.col("weight").abs(), pl.Series("id", [f"row {row}" for row in range(300)])
        )
        body = {"records": asked.select("size", "weight", "kind").to_dicts(), "ids": asked["id"].to_list()}
        ask(server.url, body)
    turned = folder / "labels.csv"
    asked.select("id", "day", late=1 - pl.col("late")).write_csv(turned)
    config = folder / "watch.yaml"
    content = {
        "pipeline": str(project.config),
        "serving": str(folder / "served/serving.yaml"),
        "state": {"file": str(folder / "watch.sqlite")},
        "windows": {"rows": 300, "settle_s": 0},
        "retraining": {"start": "prefect", "prefect_url": url},
    }
    config.write_text(yaml.safe_dump(content))
    watch = watched(config)
    with closing(watch.state()) as state:
        add_labels(state, watch.pipeline, turned, "labels.csv")
        assert run_watch(watch, state, ignored, as_of="2024-04-10").retraining == "asked of Prefect"
        [asked_for] = state.retrainings()
        # The same event once more, as after a kill between its post and the note of it, starts nothing.
        post_event(EVENT, "mlops.pipeline.small", {}, asked_for.identity, PrefectEvent(url=url))

        def ended() -> bool:
            return len(found := client.read_flow_runs()) == 2 and all(run.state.is_final() for run in found)

        wait_for(ended, 300, "the end of the run that the event starts")
        [run] = [run for run in client.read_flow_runs() if run.parameters.get("reason")]
        reason = run.parameters["reason"]
        assert (run.state.name, run.name, run.parameters["as_of"]) == ("Completed", "retraining_helps as of 2024-04-10", "2024-04-10")
        assert reason.startswith("retraining_helps: probe.gain.relative is 0.")
        assert "(champion version 1, " in reason
        assert run_watch(watch, state, ignored).retraining == "version 2 is champion"
        assert len(client.read_flow_runs()) == 2
    mlflow = mlflow_client(project)
    version = mlflow.get_model_version("small", "2")
    trained_by = mlflow.get_run(version.run_id)
    for tags in (version.tags, trained_by.data.tags):
        assert (tags["mlops.reason"], tags["mlops.as_of"]) == (reason, "2024-04-10")
    assert "Made because of retraining" in version.description
    assert "--as-of 2024-04-10" in version.description
    assert mlflow.get_model_version("small", "1").tags["mlops.as_of"] == EARLIER
    assert reason in " ".join(project.mlops("models", "show", "2", "--config", str(project.config)).stdout.split())


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
