"""Swaps under load, kills under load, a registry that is gone, a store that is full, and clients that mean ill."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Project, wait_for
from tests.integration_tests import faults
from tests.integration_tests.clients import get, load, metric, post
from tests.integration_tests.conftest import mlflow_client, serving

pytestmark = pytest.mark.xdist_group("serving_faults")


@pytest.fixture(scope="module")
def twice(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield faults.two_versions(tmp_path_factory.mktemp("twice") / "project", registered)


@pytest.mark.slow
def test_swaps_under_load_drop_nothing_and_mix_nothing(twice: Project, tmp_path: Path) -> None:
    with serving(twice, tmp_path / "serve") as server:
        seen = faults.swap(twice, server, 10)
        assert (seen["failed"], seen["mixed"]) == (0, 0), seen
        assert seen["1"] > 20
        assert seen["2"] > 20
        assert metric(server.url, "mlops_model_loads_total") >= 10


def test_a_damaged_version_never_takes_traffic(twice: Project, tmp_path: Path) -> None:
    faults.promote(twice, "1")
    with serving(twice, tmp_path / "serve") as server:
        (other,) = [v for v in mlflow_client(twice).search_model_versions("name = 'small'") if str(v.version) == "2"]
        folder = twice.folder / "models/versions" / other.tags["mlops.content_sha256"][:16]
        model = folder / "onnx/model.onnx"
        whole = model.read_bytes()
        artifact = next(path for path in (twice.folder / "mlflow/artifacts").rglob("model.onnx") if path.read_bytes() == whole)
        try:
            for file in (model, artifact):
                file.write_bytes(whole[: len(whole) // 2])
            faults.promote(twice, "2")
            wait_for(lambda: metric(server.url, "mlops_model_load_failures_total", reason="checksum") > 0, 120, "a refused version")
            assert post(f"{server.url}/predict", {"records": [server.example]})[1]["model"]["version"] == "1"
            assert server.is_ready()
            assert "keeps its version" in server.log.read_text()
        finally:
            for file in (model, artifact):
                file.write_bytes(whole)
        wait_for(lambda: faults.served_version(server.url) == "2", 120, "the mended version in service")


def test_it_works_on_and_starts_again_while_the_registry_is_gone(twice: Project, tmp_path: Path) -> None:
    database = twice.folder / "mlflow/mlflow.db"
    away = database.with_suffix(".away")
    folder = tmp_path / "serve"
    try:
        with serving(twice, folder) as server:
            version = faults.served_version(server.url)
            database.rename(away)
            wait_for(lambda: metric(server.url, "mlops_model_load_failures_total", reason="unreachable") > 0, 120, "a missed registry")
            assert post(f"{server.url}/predict", {"records": [server.example]})[0] == 200
        with serving(twice, folder) as server:
            assert faults.served_version(server.url) == version
            assert post(f"{server.url}/predict", {"records": [server.example]})[0] == 200
    finally:
        if away.exists():
            away.rename(database)


@pytest.mark.slow
def test_a_kill_loses_no_acknowledged_record(twice: Project, tmp_path: Path) -> None:
    acknowledged, missing = faults.kill(twice, tmp_path, 3)
    assert acknowledged > 60
    assert missing == 0


def test_ill_meant_requests_never_give_a_server_error(twice: Project, tmp_path: Path) -> None:
    with faults.served_for_faults(twice, tmp_path / "serve") as server:
        seen = faults.malform(server, 1500)
        assert not {status for status in seen if status >= 500}, seen
        assert len(seen) >= 4, seen
        assert post(f"{server.url}/predict", {"records": [server.example]})[0] == 200


@pytest.mark.parametrize("mode", ["durable", "relaxed"])
def test_a_store_that_cannot_be_written_stops_answers_not_the_server(twice: Project, tmp_path: Path, mode: str) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    record, limits = {"mode": mode, "folder": str(blocked), "loss_ms": 50}, {"deadline_ms": 500}
    with serving(twice, tmp_path / "serve", until="/live", record=record, limits=limits) as server:
        wait_for(lambda: get(f"{server.url}/ready")[0] == 503, 120, "a server that says it is not ready")
        assert get(f"{server.url}/ready")[1]["reasons"] == [
            "the record of predictions cannot be written: the server's log and /status say why"
        ]
        assert str(blocked) in get(f"{server.url}/status")[1]["service"]["record"]["problem"]
        wait_for(lambda: post(f"{server.url}/predict", {"records": [server.example]})[0] == 503, 120, "a refusal")
        for number in range(2):
            status, late, _ = post(f"{server.url}/predict", {"records": [server.example]}, **{"X-Request-Id": f"late-{number}"})
            assert (status, late["type"]) == (503, "/docs#deadline")
        assert "the record of this request was not written within 500 ms, its disk or database is slow" in late["detail"]
        assert metric(server.url, "mlops_record_failing") == 1
        blocked.unlink()
        wait_for(server.is_ready, 120, "a server that is ready again")
        body = {"records": [server.example]}
        wait_for(lambda: post(f"{server.url}/predict", body, **{"X-Request-Id": "after"})[0] == 200, 120, "an answer again")
    events = [json.loads(line)["event"] for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert (events.count("record_cannot_be_written"), events.count("record_is_written_again")) == (1, 1)
    assert "Traceback" not in server.log.read_text()
    import polars as pl

    from mlops_pipeline.records.reading import read

    recorded = read(blocked)
    assert "after" in set(recorded["request_id"])
    assert set(recorded.filter(pl.col("request_id").str.starts_with("late"))["error"]) == {"deadline"}, "what was answered is on record"
    refused = recorded.filter(recorded["error"] != "")
    assert refused["request_id"].is_unique().all()
    assert not set(refused["request_id"]) & set(recorded.filter(recorded["error"] == "")["request_id"])


def test_too_much_at_once_is_turned_away_with_a_time_to_come_back(twice: Project, tmp_path: Path) -> None:
    limits = {"queue_rows": 2000, "max_rows": 2000}
    with serving(twice, tmp_path / "serve", limits=limits, record={"mode": "off"}) as server:
        body = {"records": [server.example] * 1500}
        seen: list[tuple[int, object]] = []

        def ask() -> None:
            for _ in range(6):
                status, _, headers = post(f"{server.url}/predict", body)
                seen.append((status, headers["Retry-After"]))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert {status for status, _ in seen} == {200, 429}
        assert all(int(str(after)) >= 1 for status, after in seen if status == 429)
        assert get(f"{server.url}/ready")[0] == 200


def test_two_models_at_once_and_a_name_that_appears_later(twice: Project, tmp_path: Path) -> None:
    client = mlflow_client(twice)
    faults.promote(twice, "1")
    models = {"champion": "champion", "challenger": "challenger", "second": "2"}
    with serving(twice, tmp_path / "serve", models=models) as server:
        body = {"records": [server.example]}
        assert post(f"{server.url}/models/second/predict", body)[1]["model"] == {"name": "second", "version": "2"}
        assert post(f"{server.url}/predict", body)[1]["model"] == {"name": "champion", "version": "1"}
        status, said, _ = post(f"{server.url}/models/challenger/predict", body)
        assert (status, said["detail"]) == (503, "model 'challenger' is not loaded: see /ready")
        client.set_registered_model_alias("small", "challenger", "2")
        try:
            wait_for(lambda: post(f"{server.url}/models/challenger/predict", body)[0] == 200, 120, "the challenger")
        finally:
            client.delete_registered_model_alias("small", "challenger")


def test_a_version_served_by_its_number_stops_when_it_is_rejected_and_the_champion_does_not(twice: Project, tmp_path: Path) -> None:
    faults.promote(twice, "1")
    config = ("--config", str(twice.config))
    with serving(twice, tmp_path / "serve", models={"champion": "champion", "second": "2"}) as server:
        body, second = {"records": [server.example]}, f"{server.url}/models/second/predict"
        assert post(second, body)[0] == 200
        with load(f"{server.url}/predict", body) as others:
            twice.mlops("models", "reject", "2", "--reason", "too slow", "--by", "anna", *config)
            try:
                wait_for(lambda: post(second, body)[0] == 503, 120, "the rejected version to stop")
                said = post(second, body)[1]["detail"]
                assert said == "model 'second' answers no more: its version 2 was rejected"
                assert math.isnan(metric(server.url, "mlops_model_version", model="second"))
                assert get(f"{server.url}/ready")[0] == 200
                wait_for(lambda: len(others.answers) > 100, 120, "answers")
            finally:
                twice.mlops("models", "approve", "2", "--reason", "fast enough", *config)
            wait_for(lambda: post(second, body)[0] == 200, 120, "the version that is approved again")
        assert others.statuses() == {200}
        assert not others.broken
        told = server.log.read_text()
        assert told.count('"answers no more"') == 1
        assert "was rejected by anna (too slow)" in told


def test_steady_load_is_answered_by_every_protocol(twice: Project, tmp_path: Path) -> None:
    with serving(twice, tmp_path / "serve") as server:
        row = server.example
        split = {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}
        with load(f"{server.url}/predict", {"records": [row]}) as one, load(f"{server.url}/invocations", split) as other:
            wait_for(lambda: len(one.answers) > 300 and len(other.answers) > 300, 120, "answers")
        assert one.statuses() == other.statuses() == {200}
        assert not one.broken
        assert not other.broken
