"""The training flow under Prefect: five rows train, loading is cached, DVC agrees, what a person must mend is not retried."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
import yaml

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.pipeline.definition import STAGES
from mlops_pipeline.scaffold import settings_for_table
from tests.conftest import SMALL_SETTINGS, Project, put_empty_store, wait_for, write_table

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect"), pytest.mark.usefixtures("prefect_api")]

STORE = ".model-pipeline/mlflow/mlflow.db"
"""Where a flow over a table keeps its runs. That it makes one where there is none, one test sees."""
FIVE_ROWS = "feature_1,feature_2,target\n1.0,10,0\n2.5,20,1\n3.0,30,0\n4.5,40,1\n5.0,50,0\n"


@pytest.fixture(autouse=True)
def stores_of_the_project_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes to a server that the user's environment names."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def five_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of five rows in a folder that belongs to no project, which is also the working directory."""
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "five.csv"
    table.write_text(FIVE_ROWS)
    return table


@pytest.fixture
def five_rows(five_rows_alone: Path) -> Path:
    """The same beside an empty store of MLflow's."""
    there = five_rows_alone.parent
    put_empty_store(there / STORE, str(there / "mlruns"))
    return five_rows_alone


def task_runs(flow_run_id: UUID | None, tasks: int) -> dict[str, Any]:
    """The task runs of a flow run by task name, once the server knows the end of all of them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    assert flow_run_id is not None
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    found: list[Any] = []
    with get_client(sync_client=True) as client:

        def all_ended() -> bool:
            found[:] = client.read_task_runs(flow_run_filter=wanted)
            return len(found) == tasks and all(run.state is not None and run.state.is_final() for run in found)

        wait_for(all_ended, 120, f"the end of {tasks} task runs on the server")
    return {run.name.rsplit("-", 1)[0]: run for run in found}


def states(flow_run_id: UUID | None) -> dict[str, str]:
    return {name: run.state.name for name, run in task_runs(flow_run_id, len(STAGES)).items()}


def test_every_stage_has_a_task_in_the_pipelines_order(flow_file: ModuleType) -> None:
    assert list(flow_file.TASKS) == [stage.name for stage in STAGES]
    assert flow_file.TASKS["ingest"] is flow_file.load_data
    assert flow_file.TASKS["split"] is flow_file.preprocess_data
    assert flow_file.TASKS["train"] is flow_file.train_model


def test_every_task_has_the_time_and_the_tries_of_its_stage(flow_file: ModuleType) -> None:
    for stage in STAGES:
        task = flow_file.TASKS[stage.name]
        assert (task.timeout_seconds, task.retries) == (stage.hours * 3600, stage.retries), stage.name
        assert task.retry_delay_seconds == [30, 60]


def test_five_rows_train_into_a_model_that_loads_with_a_warning_in_the_log(
    flow_file: ModuleType, five_rows_alone: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow.pyfunc
    import pandas as pd

    logger = logging.getLogger("prefect.task_runs")
    logger.addHandler(caplog.handler)
    try:
        path = flow_file.training_pipeline(str(five_rows_alone), str(five_rows_alone.parent / "saved/model"))
    finally:
        logger.removeHandler(caplog.handler)
    assert path == str(five_rows_alone.parent / "saved/model")
    predicted = mlflow.pyfunc.load_model(path).predict(pd.read_csv(five_rows_alone)[["feature_1", "feature_2"]].astype(float))
    assert predicted.shape == (5, 2)
    assert predicted.sum(axis=1) == pytest.approx(1)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text for text in warnings if "no split of that size proves anything" in text]


def test_five_rows_of_which_some_are_equal_train_too(flow_file: ModuleType, five_rows: Path) -> None:
    five_rows.write_text("feature_1,feature_2,target\n1,0,0\n1,0,0\n0,1,1\n0,1,1\n1,1,0\n")
    path = flow_file.training_pipeline(str(five_rows), str(five_rows.parent / "model"))
    assert (Path(path) / "MLmodel").is_file()


def test_load_data_is_cached_until_its_input_changes_or_its_output_is_gone(flow_file: ModuleType, five_rows: Path) -> None:
    """Under settings that fit one small model, where a table without any has all families race."""
    config = five_rows.with_name("five.yaml")
    settings = settings_for_table(five_rows, "target", "five", train={"estimator": "lightgbm", "params": {"n_estimators": 5}})
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json", by_alias=True)))

    def run() -> str:
        ended = flow_file.training_pipeline(str(five_rows), str(five_rows.parent / "model"), str(config), return_state=True)
        found = states(ended.state_details.flow_run_id)
        assert {name: state for name, state in found.items() if name != "load_data"} == dict.fromkeys(
            ("validate_data", "preprocess_data", "train_model", "evaluate_model", "register_model"), "Completed"
        )
        return found["load_data"]

    raw = five_rows.parent / ".model-pipeline/data/raw/five.parquet"
    assert run() == "Completed"
    assert run() == "Cached"
    raw.unlink()
    assert run() == "Completed"
    assert run() == "Cached"
    raw.write_bytes(b"not what was recorded")
    assert run() == "Completed"
    five_rows.write_text(FIVE_ROWS.replace("5.0,50,0", "6.0,60,1"))
    assert run() == "Completed"
    assert run() == "Cached"


def test_loading_is_cached_by_every_file_of_a_folder_and_by_the_rows_of_a_query(flow_file: ModuleType, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    config, parts = tmp_path / "pipeline.yaml", tmp_path / "parts"
    parts.mkdir()
    for name in ("a.csv", "b.csv"):
        (parts / name).write_text(FIVE_ROWS)

    def digest(source: dict[str, str]) -> str | None:
        columns = {"feature_1": {"kind": "number"}, "target": {"kind": "integer"}}
        dataset = {"source": source, "target": "target", "task": "binary", "columns": columns}
        config.write_text(yaml.safe_dump({**SMALL_SETTINGS, "dataset": dataset, "split": {"kind": "stratified"}, "evaluate": {}}))
        found: str | None = flow_file.input_digest(None, {"config": str(config), "folder": None})
        return found

    folder = {"path": "parts"}
    before = digest(folder)
    assert before is not None and digest(folder) == before
    (parts / "b.csv").write_text(FIVE_ROWS + "6.0,60,1\n")
    assert digest(folder) not in (None, before)
    query = {"sql": "SELECT * FROM sales", "uri": "sqlite:///shop.db"}
    assert digest(query) is None, "it has not been asked yet"
    snapshot = flow_file.opened(str(config), None)[1].snapshot
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(b"some rows")
    before = digest(query)
    snapshot.write_bytes(b"other rows")
    after = digest(query)
    assert before is not None and after not in (None, before)


def test_a_table_by_itself_is_read_where_the_configuration_asks_a_database(flow_file: ModuleType, five_rows: Path) -> None:
    from prefect.logging import disable_run_logger

    from mlops_pipeline.config.pipeline import load_settings

    config, made = five_rows.with_name("shop.yaml"), five_rows.with_name("made.yaml")
    columns = {"feature_1": {"kind": "number"}, "target": {"kind": "integer"}}
    source = {"sql": "SELECT * FROM sales", "uri": "sqlite:///shop.db"}
    dataset = {"source": source, "target": "target", "task": "binary", "columns": columns}
    config.write_text(yaml.safe_dump({**SMALL_SETTINGS, "dataset": dataset, "split": {"kind": "stratified"}, "evaluate": {}}))
    with disable_run_logger():
        flow_file.describe(five_rows, config, "target", five_rows.parent / "folder", made)
    assert load_settings(made).dataset.source.path == str(five_rows)


def test_a_table_by_itself_is_read_as_the_configuration_says_and_may_lack_what_that_makes(flow_file: ModuleType, five_rows: Path) -> None:
    from prefect.logging import disable_run_logger

    from mlops_pipeline.config.pipeline import load_settings

    config, made = five_rows.with_name("shop.yaml"), five_rows.with_name("made.yaml")
    five_rows.write_text("day;feature_1;target\n" + "".join(f"2024-01-0{day};{day},5;{day % 2}\n" for day in range(1, 6)))
    columns = {
        "day": {"kind": "datetime"},
        "feature_1": {"kind": "number"},
        "seen": {"kind": "integer"},
        "target": {"kind": "integer"},
    }
    source = {"path": "shop.csv", "delimiter": ";", "decimal": ","}
    dataset = {"source": source, "target": "target", "task": "binary", "time_column": "day", "columns": columns}
    dataset["aggregates"] = {"seen": {"how": "count", "window": "7d"}}
    split = {"kind": "time", "test_last": "2d"}
    config.write_text(yaml.safe_dump({**SMALL_SETTINGS, "dataset": dataset, "split": split, "evaluate": {}}))
    with disable_run_logger():
        flow_file.describe(five_rows, config, "target", five_rows.parent / "folder", made)
        assert load_settings(made).train.params == {"n_estimators": 20}
        flow_file.describe(five_rows, five_rows.with_name("none.yaml"), "target", five_rows.parent / "folder", made)
    assert load_settings(made).dataset.source.delimiter == ";"


def test_after_a_flow_over_the_configuration_dvc_has_nothing_to_do(
    flow_file: ModuleType, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    project.with_empty_store()
    path = flow_file.training_pipeline(config_path="pipeline.yaml", as_of="2024-04-01")
    assert Path(path) == project.folder / "models/registry/best_model"
    assert "to 2024-03-31" in (project.folder / "data/processed/small.split.json").read_text()
    assert (Path(path) / "MLmodel").is_file()
    repro = project.dvc("repro")
    assert "Running stage" not in repro.stdout
    assert "up to date" in repro.stdout
    again = project.run().stdout
    assert again.count("up to date") == len(STAGES), again
    assert "as of 2024-04-01" in again


def test_a_flow_after_mlops_run_runs_only_what_is_stale(
    flow_file: ModuleType, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(project.folder)
    project.run()
    made = {path: path.stat().st_mtime_ns for path in (project.folder / "data").rglob("*.parquet")}
    assert made
    project.change(train={"params": {"n_estimators": 5}})
    path = flow_file.training_pipeline(config_path="pipeline.yaml", model_output_path=str(tmp_path / "copy"))
    assert path == str(tmp_path / "copy")
    assert (Path(path) / "model.skops").read_bytes() == (project.folder / "models/artifacts/model/model.skops").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert yaml.safe_load((project.folder / "models/artifacts/training.json").read_text())["params"] == {"n_estimators": 5}


def test_a_table_that_the_configuration_describes_is_trained_with_its_settings(
    flow_file: ModuleType, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(project.folder)
    write_table(tmp_path / "other.csv", seed=1)
    flow_file.training_pipeline(str(tmp_path / "other.csv"), str(tmp_path / "model"), config_path="pipeline.yaml")
    used = yaml.safe_load((tmp_path / ".model-pipeline/pipeline.yaml").read_text())
    assert used["dataset"]["source"]["path"] == str(tmp_path / "other.csv")
    assert (used["name"], used["train"]["params"], used["split"]["kind"]) == ("small", {"n_estimators": 20}, "time")
    assert (project.folder / "mlflow/mlflow.db").is_file()
    assert not (project.folder / "dvc.yaml").exists()


def test_what_a_person_must_mend_fails_at_once_and_what_may_pass_is_tried_three_times(
    flow_file: ModuleType, five_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, config = five_rows.parent / "model", "pipeline.yaml"
    settings = settings_for_table(five_rows, "target", "five")
    Path(config).write_text(yaml.safe_dump(settings.model_dump(mode="json", by_alias=True)))
    five_rows.write_text(FIVE_ROWS.replace(",1\n", ",0\n"))
    ended = flow_file.training_pipeline(str(five_rows), str(output), config_path=config, return_state=True)
    assert ended.is_failed()
    with pytest.raises(PipelineError, match="at least two classes"):
        ended.result()
    runs = task_runs(ended.state_details.flow_run_id, tasks=2)
    assert (runs["validate_data"].state.name, runs["validate_data"].run_count) == ("Failed", 1)

    raw = five_rows.parent / ".model-pipeline/data/raw/five.parquet"
    raw.unlink()
    raw.mkdir()
    monkeypatch.setitem(flow_file.TASKS, "ingest", flow_file.load_data.with_options(retry_delay_seconds=0))
    ended = flow_file.training_pipeline(str(five_rows), str(output), config_path=config, return_state=True)
    assert ended.is_failed()
    runs = task_runs(ended.state_details.flow_run_id, tasks=1)
    assert (runs["load_data"].state.name, runs["load_data"].run_count) == ("Failed", 3)
    assert not output.exists()


def test_a_table_without_the_target_is_told_with_the_parameter_that_names_another(flow_file: ModuleType, five_rows: Path) -> None:
    five_rows.write_text(FIVE_ROWS.replace("target", "churned"))
    with pytest.raises(PipelineError) as caught:
        flow_file.training_pipeline(str(five_rows), str(five_rows.parent / "model"))
    words = "has no column 'target': pass target=\"NAME\", one of feature_1, feature_2, churned"
    assert str(caught.value) == f"{five_rows}: {words}"
    flow_file.training_pipeline(str(five_rows), str(five_rows.parent / "model"), target="churned")
    assert (five_rows.parent / "model/MLmodel").is_file()


def test_a_table_with_a_time_is_said_to_be_split_at_random(
    flow_file: ModuleType, five_rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header, *rows = five_rows.read_text().splitlines()
    dated = [f"2024-01-0{day},{row}" for day, row in enumerate(rows, 1)]
    five_rows.write_text("\n".join([f"sold,{header}", *dated]) + "\n")
    logger = logging.getLogger("prefect.flow_runs")
    logger.addHandler(caplog.handler)
    try:
        flow_file.training_pipeline(str(five_rows), str(five_rows.parent / "model"))
    finally:
        logger.removeHandler(caplog.handler)
    said = {record.getMessage() for record in caplog.records if "at random" in record.getMessage()}
    assert said == {
        f"rows are held out at random: to split by time (sold), pass config_path with what `mlops init --input {five_rows}` writes"
    }


def test_one_process_keeps_the_stores_of_two_projects_apart(
    flow_file: ModuleType, five_rows: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    flow_file.training_pipeline(str(five_rows), str(five_rows.parent / "model"))
    monkeypatch.chdir(project.folder)
    project.with_empty_store()
    flow_file.training_pipeline(config_path="pipeline.yaml")
    for store, name in ((five_rows.parent / ".model-pipeline", "five"), (project.folder, "small")):
        uri = f"sqlite:///{store / 'mlflow/mlflow.db'}"
        client = MlflowClient(uri, registry_uri=uri)
        assert [model.name for model in client.search_registered_models()] == [name]


def test_a_folder_that_is_no_model_is_never_overwritten(flow_file: ModuleType, five_rows: Path) -> None:
    kept = five_rows.parent / "precious"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")
    with pytest.raises(PipelineError, match="model_output_path"):
        flow_file.training_pipeline(str(five_rows), str(kept))
    assert (kept / "notes.txt").read_text() == "mine"
