"""The locked MLflow, Prefect, DVC and Evidently work side by side in one process, and tell nobody of it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect"), pytest.mark.usefixtures("prefect_api")]


def test_mlflow_prefect_dvc_and_evidently_work_in_one_process(tmp_path: Path) -> None:
    import pandas as pd
    from dvc.repo import Repo
    from evidently import Report
    from evidently.presets import DataDriftPreset
    from mlflow import MlflowClient
    from prefect import flow, task

    logging.getLogger("alembic").setLevel(logging.ERROR)
    client = MlflowClient(uri := f"sqlite:///{tmp_path / 'mlflow.db'}", registry_uri=uri)
    run_id = client.create_run(client.create_experiment("together", (tmp_path / "artifacts").as_uri())).info.run_id

    @task
    def drifted() -> str:
        rng = np.random.default_rng(0)
        reference = pd.DataFrame({"feature_1": rng.normal(size=200), "feature_2": rng.normal(size=200)})
        current = reference.assign(feature_1=reference["feature_1"] + 3)
        report = Report([DataDriftPreset()]).run(current, reference)
        page = tmp_path / "drift.html"
        report.save_html(str(page))
        shares = [metric["value"]["share"] for metric in report.dict()["metrics"] if "DriftedColumnsCount" in metric["metric_name"]]
        client.log_metric(run_id, "drifted_share", shares[0])
        client.log_artifact(run_id, str(page))
        return str(page)

    @flow
    def watch() -> str:
        return drifted()

    page = Path(watch())
    assert "<html" in page.read_text(encoding="utf-8")
    assert client.get_run(run_id).data.metrics["drifted_share"] == 0.5
    assert [file.path for file in client.list_artifacts(run_id)] == ["drift.html"]
    project = make_project(tmp_path / "project")
    assert Repo(str(project.folder)).status() == {}


def test_each_of_them_has_its_usage_statistics_switched_off() -> None:
    import dvc.analytics
    from evidently.telemetry import event_logger
    from mlflow.telemetry.utils import is_telemetry_disabled
    from prefect._internal.analytics import is_telemetry_enabled
    from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED

    assert is_telemetry_disabled()
    assert not is_telemetry_enabled()
    assert not PREFECT_SERVER_ANALYTICS_ENABLED.value()
    assert not dvc.analytics.is_enabled()
    assert not event_logger.is_enabled()
