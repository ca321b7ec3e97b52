"""The server's models come from real registries: SQLite, MLflow's own server, PostgreSQL; and live on when these are gone."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.registry import reader as registry_store
from mlops_pipeline.registry.download import Unfit
from mlops_pipeline.registry.reader import RegistryUnreachable, stored_versions
from mlops_pipeline.registry.versions import CHAMPION, Found, Version, content_digest
from mlops_pipeline.serving.models import Failure, Loaded, Options, Watch
from mlops_pipeline.serving.openapi import made_up
from mlops_pipeline.serving.source import ModelSource
from tests.conftest import Project, copied, forking, make_project, process_environment, put_empty_store, wait_for
from tests.integration_tests.conftest import postgresql_server, stop, until_healthy

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("serving_source")]


@pytest.fixture(autouse=True)
def no_addresses_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD", "TOKEN", "URI"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.delenv("MLFLOW_WORKSPACE", raising=False)


@contextmanager
def watched(source: ModelSource, **models: str) -> Iterator[tuple[dict[str, Loaded], list[Failure]]]:
    """A watch at work: what it serves, and what it said, at the start and since."""
    failures: list[Failure] = []
    served: dict[str, Loaded] = {}
    watch = Watch(
        source,
        models,
        Options(),
        on_loaded=served.__setitem__,
        on_failed=lambda *failure: failures.append(Failure(*failure)),
        poll_s=0.5,  # each look asks MLflow's server, on the same cores
    )
    first, at_first = watch.first_load()
    served.update(first)
    failures.extend(at_first)
    watch.start()
    try:
        yield served, failures
    finally:
        watch.stop()


def two_versions(folder: Path, **environ: Any) -> Project:
    """A project whose registry holds two versions, the second one champion."""
    project = make_project(folder)
    project.run(**environ)
    return with_second_version(project, **environ)


def with_second_version(project: Project, **environ: Any) -> Project:
    project.change(train={"params": {"n_estimators": 25}})
    project.run(**environ)
    return project


def only_late_answers(failures: list[Failure]) -> None:
    """Nothing went wrong so far but that the registry of a busy machine may have been late; it is forgotten for what comes now."""
    assert {failure.reason for failure in failures} <= {"unreachable"}
    failures.clear()


def source_of(uri: str, folder: Path) -> ModelSource:
    return ModelSource(uri, "small", folder / "versions", folder / "cache")


def test_promotion_and_rollback_reach_the_server(registered: Project, tmp_path: Path) -> None:
    project = with_second_version(copied(registered, tmp_path / "project"))
    source = source_of(f"sqlite:///{project.folder / 'mlflow/mlflow.db'}", tmp_path)
    with watched(source, main=CHAMPION, first="1") as (served, failures):
        assert {name: loaded.version for name, loaded in served.items()} == {"main": "2", "first": "1"}
        project.mlops("models", "rollback", "--config", str(project.config))
        wait_for(lambda: served["main"].version == "1", 120, "the former champion")
        project.mlops("models", "promote", "2", "--config", str(project.config))
        wait_for(lambda: served["main"].version == "2", 120, "the promoted version")
        assert not failures


@contextmanager
def mlflow_server(port: int, folder: Path) -> Iterator[Any]:
    """MLflow's own server on SQLite, which keeps the artifacts too; ready to answer. What starts it is forked: it imports much."""
    if not (folder / "server.db").exists():
        put_empty_store(folder / "server.db", "mlflow-artifacts:")
    words = ("server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    stores = ("--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", str(folder / "artifacts"))
    log, environ = folder / "server.log", process_environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    server = forking().begin(folder, log, module="mlflow", arguments=[*words, *stores], environ=environ)
    try:
        # The first question opens its stores, which may take longer than the model server waits for an answer.
        until_healthy(server, log, f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/search?max_results=1")
        yield server
    finally:
        stop(server)


def test_an_mlflow_server_is_read_served_from_and_survived(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"http://127.0.0.1:{free_port}"
    source = source_of(uri, tmp_path)
    with mlflow_server(free_port, tmp_path / "server") as server:
        assert stored_versions(uri, "small") == []
        project = two_versions(tmp_path / "project", MLFLOW_TRACKING_URI=uri)
        monkeypatch.setattr(registry_store, "PAGE", 1)
        check_versions(stored_versions(uri, "small"), stored_versions(f"sqlite:///{tmp_path / 'server/server.db'}", "small"))
        check_credentials(uri, monkeypatch)
        with watched(source, main=CHAMPION, first="1") as (served, failures):
            assert {name: loaded.version for name, loaded in served.items()} == {"main": "2", "first": "1"}
            assert served["main"].folder.is_relative_to(source.cache)
            assert content_digest(served["main"].folder) == served["main"].content_sha256
            project.mlops("models", "rollback", "--config", str(project.config), MLFLOW_TRACKING_URI=uri)
            wait_for(lambda: served["main"].version == "1", 120, "the former champion")
            only_late_answers(failures)
            stop(server)
            # A look under way as the server ends fails in its own words: there may be more than one failure of a name.
            wait_for(lambda: {failure.name for failure in failures} == {"main", "first"}, 120, "word of a registry that is gone")
            assert {failure.reason for failure in failures} == {"unreachable"}
            rows = served["main"].signature.from_records([made_up(served["main"].signature)])
            assert served["main"].engine.predict(rows.numbers, rows.categories).shape == (1, 2)
    with watched(source, main=CHAMPION, first="1", other="challenger") as (served, failures):
        assert {name: loaded.version for name, loaded in served.items()} == {"main": "1", "first": "1"}
        assert [failure.reason for failure in failures] == ["unreachable"] * 3
        assert uri in failures[0].detail
        with mlflow_server(free_port, tmp_path / "server"):
            project.mlops("models", "promote", "2", "--config", str(project.config), MLFLOW_TRACKING_URI=uri)
            wait_for(lambda: served["main"].version == "2", 120, "the version promoted after the registry came back")
    shutil.rmtree(tmp_path / "server/artifacts")
    shutil.rmtree(source.cache)
    with mlflow_server(free_port, tmp_path / "server"), pytest.raises(Unfit) as caught:
        source.folder(source.resolve(CHAMPION))
    assert caught.value.reason == "missing"


def check_versions(through_server: list[Version], from_its_file: list[Version]) -> None:
    """MLflow's server and its database say the same; only where the files lie is asked for apart."""
    assert [version.number for version in through_server] == [2, 1]
    for version, stored in zip(through_server, from_its_file, strict=True):
        assert (version.content_sha256, version.aliases, version.tags) == (stored.content_sha256, stored.aliases, stored.tags)
        assert version.location.startswith("models:/")
        assert stored.location.startswith("mlflow-artifacts:/")
    assert [version.aliases for version in through_server] == [frozenset({CHAMPION}), frozenset()]


def check_credentials(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that wants a password or a token gets them as MLflow's own client sends them."""
    basic = "Basic " + base64.b64encode(b"ann:a b@c").decode()
    with guarded(uri, {basic, "Bearer word"}) as port:
        guarded_uri = f"http://127.0.0.1:{port}"
        with pytest.raises(RegistryUnreachable, match="MLFLOW_TRACKING_TOKEN") as caught:
            stored_versions(guarded_uri, "small")
        assert "\n" not in str(caught.value)
        assert len(stored_versions(f"http://ann:a%20b%40c@127.0.0.1:{port}", "small")) == 2
        with pytest.raises(RegistryUnreachable) as caught:
            stored_versions(f"http://ann:wrong@127.0.0.1:{port}", "small")
        assert "wrong" not in str(caught.value)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "word")
        assert len(stored_versions(guarded_uri, "small")) == 2
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "another")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a b@c")
        assert len(stored_versions(guarded_uri, "small")) == 2
        folder = Path(tempfile.mkdtemp())
        source = source_of(guarded_uri, folder)
        found = source.resolve(CHAMPION)
        assert content_digest(source.folder(found)) == found.content_sha256
        shutil.rmtree(folder)
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]) -> Iterator[int]:
    """A small HTTP server on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def guarded(uri: str, words: set[str]) -> Iterator[int]:
    """A proxy before a server that lets through who says one of the words."""

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if request.headers.get("Authorization") not in words:
            return 401, {}, b"who are you?"
        try:
            with urllib.request.urlopen(uri + request.path, timeout=120) as behind:
                return behind.status, {}, behind.read()
        except urllib.error.HTTPError as error:
            return error.code, {}, error.read()

    with answering(answer) as port:
        yield port


LISTINGS = {
    "a path out of the folder": {"onnx": ["../../../../evil"]},
    "an absolute path": {"onnx": ["/etc/evil"]},
    "a folder above": {"onnx": [".."]},
    "a backslash": {"onnx": ["..\\evil"]},
    "a zero byte": {"onnx": ["model\0.onnx"]},
    "names that no version has": {"": ["../evil", "/etc/evil", "evil.py"]},
}


@pytest.mark.parametrize("case", LISTINGS)
def test_what_a_server_lists_never_leads_out_of_the_folder(case: str, tmp_path: Path) -> None:
    found = Found("1", "0" * 64, "mlflow-artifacts:/models/m-1/artifacts")

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if "?path=" not in request.path:
            return 200, {}, b"evil"
        files = [{"path": name} for name in LISTINGS[case].get("onnx" if request.path.endswith("onnx") else "", ["MLmodel"])]
        return 200, {}, json.dumps({"files": [*files, {"path": "onnx", "is_dir": True}]}).encode()

    with answering(answer) as port, pytest.raises(Unfit) as caught:
        source_of(f"http://127.0.0.1:{port}", tmp_path).folder(found)
    assert caught.value.reason in ("unreachable", "checksum", "missing")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]


ANSWERS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "a page": (200, {}, b"<html>welcome</html>"),
    "another API": (200, {}, b'{"registered_model": {"aliases": [{"alias": 3}]}}'),
    "an empty answer": (200, {}, b""),
    "an error": (500, {}, b"no"),
    "nowhere": (404, {}, b"no such page"),
    "a short answer": (200, {"Content-Length": "1000"}, b"{}"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_none_of_mlflows_is_told_in_one_line(case: str) -> None:
    with answering(lambda _: ANSWERS[case]) as port, pytest.raises(RegistryUnreachable, match=f"127.0.0.1:{port}") as caught:
        stored_versions(f"http://127.0.0.1:{port}", "small")
    assert "\n" not in str(caught.value)


def test_a_password_is_not_sent_on_to_where_a_server_redirects(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str | None] = []

    def elsewhere(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        heard.append(request.headers.get("Authorization"))
        return 500, {}, b""

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "word")
    with (
        answering(elsewhere) as far,
        answering(lambda _: (302, {"Location": f"http://127.0.0.1:{far}/"}, b"")) as near,
        pytest.raises(RegistryUnreachable),
    ):
        stored_versions(f"http://127.0.0.1:{near}", "small")
    assert heard == [None]


def test_a_file_that_ends_early_is_not_taken(tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if "?path=" in request.path:
            return 200, {}, json.dumps({"files": [{"path": "MLmodel"}]}).encode()
        return 200, {"Content-Length": "1000"}, b"short"

    with answering(answer) as port, pytest.raises(Unfit, match=r"MLmodel ended after 5 of 1000 bytes|IncompleteRead") as caught:
        source_of(f"http://127.0.0.1:{port}", tmp_path).folder(Found("1", "0" * 64, "mlflow-artifacts:/m"))
    assert caught.value.reason == "unreachable"


def test_a_registry_in_postgresql_is_read_and_survived(tmp_path: Path) -> None:
    with postgresql_server() as server:
        server.psql("create database served;")
        uri = str(server.get_uri("served")).replace("postgresql://", "postgresql+psycopg://")
        project = two_versions(tmp_path / "project", MLFLOW_TRACKING_URI=uri)
        found = [(version.number, sorted(version.aliases)) for version in stored_versions(uri, "small")]
        assert found == [(2, [CHAMPION]), (1, [])]
        assert stored_versions(uri, "another") == []
        source = source_of(uri, tmp_path)
        with watched(source, main=CHAMPION) as (served, failures):
            assert served["main"].version == "2"
            project.mlops("models", "rollback", "--config", str(project.config), MLFLOW_TRACKING_URI=uri)
            wait_for(lambda: served["main"].version == "1", 120, "the former champion")
            only_late_answers(failures)
            server.cleanup()
            wait_for(lambda: failures, 120, "word of a registry that is gone")
            assert "PostgreSQL does not answer" in failures[0].detail
            assert served["main"].version == "1"
    with watched(source, main=CHAMPION) as (served, failures):
        assert (served["main"].version, [failure.reason for failure in failures]) == ("1", ["unreachable"])


def test_a_postgresql_address_that_hangs_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"postgresql://ann:secret@127.0.0.1:{silent.getsockname()[1]}/served"
        with pytest.raises(RegistryUnreachable) as caught:
            stored_versions(uri, "small")
    assert "secret" not in str(caught.value)
