"""A real PostgreSQL takes the place of SQLite by an address alone, and many runs at once leave everything right."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Source
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.errors import PipelineError, ServiceAway
from mlops_pipeline.layout import layout_of
from mlops_pipeline.registry.lock import store_lock
from mlops_pipeline.tables.database import tables_of
from tests.conftest import Project, make_project
from tests.integration_tests.conftest import prefect_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgresql")]

AT_ONCE = 4


def address(server: Any, database: str, driver: str) -> str:
    """The address of a new database, as SQLAlchemy spells it for a driver."""
    server.psql(f"create database {database};")
    return str(server.get_uri(database)).replace("postgresql://", f"postgresql+{driver}://")


def test_runs_at_once_on_one_registry_leave_every_run_version_and_alias_right(
    postgresql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = address(postgresql, "mlflow", "psycopg")
    projects = [seeded(tmp_path / f"project-{seed}", seed) for seed in range(1, AT_ONCE + 1)]
    said = [run.stdout for run in Project.at_once(projects, "run", MLFLOW_TRACKING_URI=uri)]
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
    from mlops_pipeline.modelling.formats.skops import load_model
    from mlops_pipeline.modelling.formats.version import model_digest
    from mlops_pipeline.registry.champion import RegistryWriter
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

    registry = RegistryWriter(tracking)
    versions = registry.versions()
    assert sorted(version.number for version in versions) == list(range(1, AT_ONCE + 1))
    assert {version.model_sha256: version.run_id for version in versions} == digests
    for version in versions:
        folder = registry.fetch(version)
        assert model_digest(folder, plugins.part(plugins.ModelFormat, "skops")) == version.model_sha256
        load_model(folder)
    champions = [version for version in versions if version.is_champion]
    assert [version.passed for version in champions] == [True]
    assert registry.champion() == champions[0]


def test_who_waits_in_postgresql_for_another_that_decides_says_so(postgresql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_pipeline.registry.lock.SAID_S", 0.05)
    project = make_project(tmp_path / "project")
    layout = layout_of(load_settings(project.config), project.config, project.folder)
    uri, said = address(postgresql, "waiting", "psycopg"), list[str]()
    with ExitStack() as another:
        another.enter_context(store_lock(uri, layout, "champion"))

        def waits() -> None:
            said.append("another decides")
            another.close()

        with store_lock(uri, layout, "champion", waits), store_lock(uri, layout, "something else", waits):
            assert said == ["another decides"]


def test_prefects_server_keeps_its_data_in_postgresql(postgresql: Any, free_port: int, tmp_path: Path) -> None:
    uri = address(postgresql, "prefect", "asyncpg")
    with prefect_server(free_port, tmp_path / "prefect", PREFECT_API_DATABASE_CONNECTION_URL=uri):
        tables = postgresql.psql(
            "\\c prefect\nselect count(*) from information_schema.tables where table_name in ('flow_run', 'task_run');"
        )
    assert "2" in tables.split()
    assert not list((tmp_path / "prefect").glob("*.db"))


def test_a_querys_rows_are_a_source_typed_as_the_database_has_them(
    postgresql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = address(postgresql, "shop", "psycopg")
    postgresql.psql(
        "\\c shop\nCREATE TYPE mood AS ENUM ('good', 'bad');\n"
        "CREATE TABLE sales AS SELECT n AS id, (n / 4.0)::numeric(8, 2) AS price, n % 2 = 0 AS paid, date '2024-01-01' + n AS day, "
        "timestamptz '2024-01-01 10:00+02' AS at, 'good'::mood AS mood, NULL::text AS note, '{}'::jsonb AS more, "
        "time '07:05' AS opened, n * interval '-1 minute' AS took "
        "FROM generate_series(0, 119999) AS n;"
    )
    monkeypatch.setenv("SHOP", uri)
    source = Source(sql="SELECT id, price, paid, day, at, mood, note, opened, took FROM sales ORDER BY id", uri="${SHOP}")
    tables = list(tables_of(source, tmp_path))
    assert [table.height for table in tables] == [50_000, 50_000, 20_000]
    assert [str(held) for held in tables[0].dtypes] == [
        "Int64",
        "Float64",
        "Boolean",
        "Date",
        "Datetime(time_unit='us', time_zone='UTC')",
        "String",
        "String",
        "Time",
        "Duration(time_unit='us')",
    ]
    day, at = date(2024, 1, 2), datetime(2024, 1, 1, 8, tzinfo=UTC)
    assert tables[0].row(1) == (1, 0.25, False, day, at, "good", None, time(7, 5), timedelta(minutes=-1))
    for sql, said in (
        ("SELECT more FROM sales", "column 'more' holds jsonb"),
        ("SELECT nothing FROM sales", 'column "nothing" does not exist: mend the query'),
        ("DELETE FROM sales RETURNING id", "mend the query"),
    ):
        with pytest.raises(PipelineError, match=said):
            list(tables_of(source.model_copy(update={"sql": sql}), tmp_path))
    monkeypatch.setenv("SHOP", uri.replace("/shop", "/nowhere"))
    with pytest.raises(ServiceAway, match="the server has no such database or user: mend the address"):
        list(tables_of(source, tmp_path))
