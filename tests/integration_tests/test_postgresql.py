"""A real PostgreSQL takes the place of SQLite by an address alone, and many runs at once leave everything right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.layout import layout_of
from tests.conftest import Project, make_project
from tests.integration_tests.conftest import postgresql_server, prefect_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgresql")]

AT_ONCE = 4


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Any]:
    with postgresql_server() as server:
        yield server


def address(server: Any, database: str, driver: str) -> str:
    """The address of a new database, as SQLAlchemy spells it for a driver."""
    server.psql(f"create database {database};")
    return str(server.get_uri(database)).replace("postgresql://", f"postgresql+{driver}://")


def test_runs_at_once_on_one_registry_leave_every_run_version_and_alias_right(
    postgresql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = address(postgresql, "mlflow", "psycopg")
    projects = [seeded(tmp_path / f"project-{seed}", seed) for seed in range(1, AT_ONCE + 1)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(project.fresh, "run", "--config", str(project.config), MLFLOW_TRACKING_URI=uri) for project in projects]
        said = [run.result().stdout for run in runs]
    assert all("small version" in text for text in said)
    assert not [project for project in projects if (project.folder / "mlflow/mlflow.db").exists()]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    check_stores(projects[0])
    projects[0].run(MLFLOW_TRACKING_URI=uri)  # takes the champion there, if another project's was promoted after its own
    check_stores(projects[0])
    again = projects[0].run(MLFLOW_TRACKING_URI=uri).stdout
    assert again.count("up to date") == 6, again
    check_events(str(postgresql.get_uri("mlflow")), projects)


def seeded(folder: Path, seed: int) -> Project:
    """A project whose model depends on its seed."""
    project = make_project(folder)
    project.change(seed=seed, train={"params": {"n_estimators": 20, "colsample_bytree": 0.5}})
    return project


def check_events(address: str, projects: list[Project]) -> None:
    """The table holds what every project's own file holds."""
    with psycopg.connect(address) as connection:
        stored = [json.dumps(content, sort_keys=True) for (content,) in connection.execute("select content from mlops_events").fetchall()]
    lines = [json.loads(line) for project in projects for line in (project.folder / "data/events.jsonl").read_text().splitlines()]
    assert sorted(stored) == sorted(json.dumps(line, sort_keys=True) for line in lines)
    assert sum(line["event"] == "gate_decided" for line in lines) >= AT_ONCE


def check_stores(project: Project) -> None:
    from mlops_pipeline.modelling.formats.skops import load_model, model_digest
    from mlops_pipeline.registry.champion import Registry
    from mlops_pipeline.registry.runs import Tracking
    from mlops_pipeline.registry.versions import EVALUATION_TAG, MODEL_TAG

    settings = load_settings(project.config)
    tracking = Tracking(settings, layout_of(settings, project.config, project.folder))
    runs = tracking.client.search_runs([tracking.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * AT_ONCE
    digests = {run.data.tags[MODEL_TAG]: run.info.run_id for run in runs}
    assert len(digests) == AT_ONCE
    assert {run.data.params["estimator"] for run in runs} == {"lightgbm"}
    assert all(run.data.tags[EVALUATION_TAG] and "roc_auc" in run.data.metrics for run in runs)

    registry = Registry(tracking)
    versions = registry.versions()
    assert sorted(version.number for version in versions) == list(range(1, AT_ONCE + 1))
    assert {version.model_sha256: version.run_id for version in versions} == digests
    for version in versions:
        folder = registry.fetch(version)
        assert model_digest(folder) == version.model_sha256
        load_model(folder)
    champions = [version for version in versions if version.is_champion]
    assert [version.passed for version in champions] == [True]
    assert registry.champion() == champions[0]


def test_prefects_server_keeps_its_data_in_postgresql(postgresql: Any, free_port: int, tmp_path: Path) -> None:
    uri = address(postgresql, "prefect", "asyncpg")
    with prefect_server(free_port, tmp_path / "prefect", PREFECT_API_DATABASE_CONNECTION_URL=uri):
        tables = postgresql.psql(
            "\\c prefect\nselect count(*) from information_schema.tables where table_name in ('flow_run', 'task_run');"
        )
    assert "2" in tables.split()
    assert not list((tmp_path / "prefect").glob("*.db"))
