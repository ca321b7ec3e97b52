"""Where artifacts lie, what a run needs, what Git knows of it, and what a registry's refusals say."""

from __future__ import annotations

import base64
import json
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from mlops_pipeline.config.pipeline import settings_of
from mlops_pipeline.errors import PipelineError, ServiceAway, one_line
from mlops_pipeline.events import ChampionChanged, Event, VersionDecided, Warned, event_of, ignored, kept, read_events
from mlops_pipeline.files import write_json
from mlops_pipeline.layout import Layout, layout_of, sqlite_path, sqlite_uri
from mlops_pipeline.registry import reader
from mlops_pipeline.registry.admission import IDENTITY_TAG, PASSED_TAG, WAITS_TAG
from mlops_pipeline.registry.artifacts import artifact_root, bring_home, near, needs_of
from mlops_pipeline.registry.champion import RegistryWriter, lacking
from mlops_pipeline.registry.download import Origin, Unfit, alone_beside, fetch, keep, put_copy
from mlops_pipeline.registry.lock import afterwards, store_lock
from mlops_pipeline.registry.provenance import environment_facts
from mlops_pipeline.registry.reader import NotThere, RegisteredModel, RegistryUnreachable, stored_versions
from mlops_pipeline.registry.rest import is_at, opened, told
from mlops_pipeline.registry.runs import Tracking, answers, open_client, refuse_what_is_known_to_fail
from mlops_pipeline.registry.versions import (
    CHALLENGER,
    CHAMPION,
    CONTENT_TAG,
    EVALUATED_TAG,
    GATE_TAG,
    HISTORY_TAG,
    LATENCY_TAG,
    UNTOLD_TAG,
    Version,
    content_digest,
)
from tests.conftest import SMALL_SETTINGS
from tests.integration_tests.test_serving_source import answering
from tests.unit_tests.workshop import assert_one_line


@pytest.fixture(autouse=True)
def no_credentials_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRACKING_USERNAME", "TRACKING_PASSWORD", "TRACKING_TOKEN", "TRACKING_URI", "REGISTRY_URI", "WORKSPACE"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def pipeline(folder: Path, **sections: Any) -> tuple[Any, Layout]:
    settings = settings_of({**SMALL_SETTINGS, **sections}, "pipeline.yaml")
    folder.mkdir(exist_ok=True)
    return settings, layout_of(settings, folder / "pipeline.yaml", folder)


# ------------------------------------------------------------------------------------------------ where artifacts lie


@pytest.mark.parametrize("name", ["plain", "a [x]", "ä ö ü", "100%", "50%20", "why?", "a#b", "a&b=c"])
def test_an_address_of_sqlite_leads_back_to_its_file_for_us_and_for_sqlalchemy(name: str, tmp_path: Path) -> None:
    from sqlalchemy.engine import make_url

    path = tmp_path / name / "mlflow.db"
    assert sqlite_path(sqlite_uri(path)) == path
    assert make_url(sqlite_uri(path)).database == str(path)


def test_files_are_looked_for_beside_the_database_first(tmp_path: Path) -> None:
    here, there = tmp_path / "a [x]", tmp_path / "old ä"
    database = here / "mlflow/mlflow.db"
    for project in (here, there):
        (project / "mlflow/artifacts/models/m-1/artifacts").mkdir(parents=True)
    (there / "mlflow/artifacts/models/m-2/artifacts").mkdir(parents=True)
    (here / "artifacts").mkdir()
    noted = there / "mlflow/artifacts/models/m-1/artifacts"
    assert near(noted.as_uri(), database) == (here / "mlflow/artifacts/models/m-1/artifacts").as_uri()
    assert near(str(noted), database) == (here / "mlflow/artifacts/models/m-1/artifacts").as_uri()
    only_there = (there / "mlflow/artifacts/models/m-2/artifacts").as_uri()
    assert near(only_there, database) == only_there
    for elsewhere in ("s3://bucket/models/m-1/artifacts", "mlflow-artifacts:/models/m-1/artifacts", "models:/m-1", "", "file:///artifacts"):
        assert near(elsewhere, database) == elsewhere


def test_a_copy_around_the_original_reads_its_own_files(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    for project in (tmp_path, inner):
        (project / "mlflow/artifacts/models/m-1/artifacts").mkdir(parents=True)
    noted = (inner / "mlflow/artifacts/models/m-1/artifacts").as_uri()
    assert near(noted, tmp_path / "mlflow/mlflow.db") == (tmp_path / "mlflow/artifacts/models/m-1/artifacts").as_uri()
    assert near(noted, inner / "mlflow/mlflow.db") == noted


NOTES = """
create table experiments (name, artifact_location); create table runs (artifact_uri);
create table logged_models (artifact_location); create table model_versions (storage_location, source);
"""


def store(layout: Layout, noted_in: Path, experiment: str = "small", root: str = "mlflow/artifacts") -> None:
    """A project's own store whose notes were made in another folder; of its two runs the files of one are here."""
    layout.mlflow.mkdir(parents=True)
    (layout.project / root / "run-1/artifacts").mkdir(parents=True)
    with closing(sqlite3.connect(layout.mlflow / "mlflow.db")) as connection, connection:
        connection.executescript(NOTES)
        connection.execute("insert into experiments values (?, ?)", (experiment, (noted_in / root).as_uri()))
        connection.executemany("insert into runs values (?)", [((noted_in / root / f"run-{k}/artifacts").as_uri(),) for k in (1, 2)])


def notes(layout: Layout) -> list[str]:
    with closing(sqlite3.connect(layout.mlflow / "mlflow.db")) as connection:
        return [
            value for (value,) in connection.execute("select artifact_location from experiments union all select artifact_uri from runs")
        ]


def test_a_store_is_brought_home_but_for_files_that_are_not_here(tmp_path: Path) -> None:
    settings, layout = pipeline(tmp_path / "a copy [x]")
    old, new = tmp_path / "old", layout.project
    store(layout, old)
    bring_home(layout.default_tracking_uri, settings, layout)
    home = new / "mlflow/artifacts"
    assert notes(layout) == [home.as_uri(), (home / "run-1/artifacts").as_uri(), (old / "mlflow/artifacts/run-2/artifacts").as_uri()]
    bring_home(layout.default_tracking_uri, settings, layout)
    assert notes(layout)[0] == home.as_uri()


def test_artifacts_in_a_folder_of_the_project_come_with_it(tmp_path: Path) -> None:
    settings, layout = pipeline(tmp_path / "copy", tracking={"artifacts": "kept/here"})
    assert artifact_root(settings, layout, layout.default_tracking_uri) == (layout.project / "kept/here").as_uri()
    store(layout, tmp_path / "old", root="kept/here")
    bring_home(layout.default_tracking_uri, settings, layout)
    assert notes(layout)[:2] == [(layout.project / "kept/here").as_uri(), (layout.project / "kept/here/run-1/artifacts").as_uri()]


@pytest.mark.parametrize(
    ("experiment", "root", "tracking"),
    [("another", "mlflow/artifacts", {}), ("small", "shared/store", {}), ("small", "mlflow/artifacts", {"artifacts": "/srv/artifacts"})],
)
def test_where_somebody_chose_to_keep_artifacts_stays_as_it_is(experiment: str, root: str, tracking: Any, tmp_path: Path) -> None:
    settings, layout = pipeline(tmp_path / "copy", tracking=tracking)
    store(layout, tmp_path / "old", experiment, root)
    bring_home(layout.default_tracking_uri, settings, layout)
    assert notes(layout)[0] == (tmp_path / "old" / root).as_uri()


def test_a_store_that_lies_outside_the_project_is_left_alone(tmp_path: Path) -> None:
    settings, layout = pipeline(tmp_path / "project")
    _, other = pipeline(tmp_path / "shared")
    store(other, tmp_path / "old")
    bring_home(other.default_tracking_uri, settings, layout)
    assert notes(other)[0] == (tmp_path / "old/mlflow/artifacts").as_uri()


# ------------------------------------------------------------------------------------------------------ what a run needs


@pytest.mark.parametrize(("address", "library"), [("s3://bucket/a", "boto3"), ("gs://bucket/a", "google.cloud.storage")])
def test_a_missing_library_is_asked_for_in_one_line(address: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library.partition(".")[0], None)
    with pytest.raises(PipelineError, match=rf"{address[:9]}.*{library} is not installed: pip install") as caught:
        needs_of(address)
    assert "\n" not in str(caught.value)
    for known in ("/folder", "file:///folder", "mlflow-artifacts:/", ""):
        needs_of(known)


@pytest.mark.parametrize("known_by", ["settings", "server", "its default experiment", "database"])
def test_a_run_that_will_need_boto3_asks_for_it_before_its_first_stage(
    known_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    from mlops_pipeline.cli import main

    monkeypatch.setitem(sys.modules, "boto3", None)
    (tmp_path / ".dvc").mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["dvc", "init", "--quiet", "--force"], cwd=tmp_path, check=True)

    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        if known_by == "its default experiment" and "get-by-name" in request.path:
            return 404, {}, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}'
        return 200, {}, b'{"experiment": {"experiment_id": "0", "artifact_location": "s3://bucket/0"}}'

    with answering(answer) as port:
        tracking = {"settings": {"artifacts": "s3://bucket/mlflow"}, "database": {}}.get(known_by, {"uri": f"http://127.0.0.1:{port}"})
        (tmp_path / "table.csv").write_text("size,weight,kind,day,late\n1,2,a,2024-01-01,1\n")
        (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump({**SMALL_SETTINGS, "tracking": tracking}))
        if known_by == "database":
            (tmp_path / "mlflow").mkdir()
            with closing(sqlite3.connect(tmp_path / "mlflow/mlflow.db")) as connection, connection:
                connection.executescript(
                    "create table experiments (name, artifact_location, workspace);"
                    "insert into experiments values ('small', 's3://bucket/1', 'default')"
                )
        with pytest.raises(SystemExit) as ended:
            main(["run", "--config", str(tmp_path / "pipeline.yaml")])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.err == "error: artifacts are kept at s3://bucket, but boto3 is not installed: pip install 'mlops-pipeline[s3]'\n"
    assert "▸" not in said.out
    assert not (tmp_path / "data").exists()


def test_a_store_that_does_not_answer_yet_stops_no_run(tmp_path: Path) -> None:
    for tracking in ({}, {"uri": "http://127.0.0.1:1"}, {"uri": f"sqlite:///{tmp_path}/none.db"}):
        refuse_what_is_known_to_fail(*pipeline(tmp_path / "project", tracking=tracking))


@pytest.mark.parametrize("of", ["tracking", "registry"])
def test_a_database_that_is_away_is_told_of_in_seconds_and_not_waited_for(of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One behind a firewall takes connections and never says a word."""
    monkeypatch.setattr("mlops_pipeline.registry.lock.TIMEOUT_S", 2)  # the least that the library takes
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql+psycopg://ann:hunter2@127.0.0.1:{silent.getsockname()[1]}/mlflow"
        monkeypatch.setenv("MLFLOW_TRACKING_URI" if of == "tracking" else "MLFLOW_REGISTRY_URI", address)
        with pytest.raises(ServiceAway, match="PostgreSQL does not answer") as caught:
            open_client(*pipeline(tmp_path / "project"))
        with pytest.raises(ServiceAway), store_lock(address, pipeline(tmp_path / "project")[1]):
            pass
    assert_one_line(caught.value, "postgresql+psycopg://…@127.0.0.1:", f"{of}.uri (MLFLOW_{of.upper()}_URI)")
    assert "hunter2" not in str(caught.value)


def test_a_registry_that_is_another_server_and_away_is_told_of_at_once(tmp_path: Path) -> None:
    """MLflow would ask it again and again for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServiceAway) as caught:
        open_client(*pipeline(tmp_path / "project", registry={"uri": f"http://127.0.0.1:{port}"}))
    assert_one_line(caught.value, f"http://127.0.0.1:{port}: the registry does not answer", "registry.uri or MLFLOW_REGISTRY_URI")


# ---------------------------------------------------------------------------------------------------- copies of versions


def test_what_a_kill_has_left_of_a_copy_goes_with_the_next_one_and_copies_at_once_harm_none(tmp_path: Path) -> None:
    model, place = tmp_path / "model", tmp_path / "registry/best_model"
    (model / "onnx").mkdir(parents=True)
    for name in ("MLmodel", "training.json", "evaluation.json", "expected.json", "onnx/model.onnx"):
        (model / name).write_text("{}")
    for left in (".best_model.4194304", ".best_model.old", ".another.4194304"):
        (tmp_path / "registry" / left).mkdir(parents=True)
        (tmp_path / "registry" / left / "MLmodel").write_text("half")

    def copy(_: int) -> None:
        with alone_beside(place):
            put_copy(model, place)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(copy, range(16)))
        list(pool.map(lambda _: keep(model, tmp_path / "versions/abc"), range(16)))
    assert {path.name for path in place.parent.iterdir()} == {".lock", ".another.4194304", "best_model"}
    assert {path.name for path in (tmp_path / "versions").iterdir()} == {".lock", "abc"}
    assert content_digest(place) == content_digest(tmp_path / "versions/abc") == content_digest(model)


# ---------------------------------------------------------------------------------------------------- refusals, passwords


def test_credentials_come_from_the_address_the_environment_or_mlflows_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard: list[str] = []

    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        word = request.headers.get("Authorization") or ""
        heard.append(base64.b64decode(word.removeprefix("Basic ")).decode() if word.startswith("Basic ") else word)
        return 200, {}, b"{}"

    with answering(answer) as port:
        plain = f"http://127.0.0.1:{port}"
        opened(plain, "health", {}).close()
        opened(f"http://ann:p%40ss%2Fword@127.0.0.1:{port}/", "health", {}).close()
        answers(f"http://ann:se%20cret@127.0.0.1:{port}")
        (tmp_path / "home/.mlflow").mkdir(parents=True)
        (tmp_path / "home/.mlflow/credentials").write_text("[mlflow]\nmlflow_tracking_username = bob\nmlflow_tracking_password = filed\n")
        opened(plain, "health", {}).close()
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "stated")
        opened(plain, "health", {}).close()
        (tmp_path / "home/.mlflow/credentials").write_text("[mlflow]\npassword hunter2\n")
        with pytest.raises(ValueError, match="is no file of credentials") as caught:
            opened(plain, "health", {})
    assert heard == ["", "ann:p@ss/word", "ann:se cret", "bob:filed", "bob:stated"]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "mlflow-artifacts"])
def test_the_users_credentials_are_sent_to_the_configured_servers_alone(
    scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard: list[tuple[str, str | None]] = []
    below = "api/2.0/mlflow-artifacts/artifacts/m" if scheme == "http" else "m"

    def asked(name: str) -> Any:
        def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
            heard.append((name, request.headers.get("Authorization")))
            return 401, {}, b"who are you?"

        return answering(answer)

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "word")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    with asked("registry") as registry, asked("artifacts") as artifacts, asked("far") as far:
        servers = {"registry": f"http://127.0.0.1:{registry}", "artifacts": f"http://bob:hunter2@127.0.0.1:{artifacts}"}
        said = {}
        for name, port in (("registry", registry), ("artifacts", artifacts), ("far", far), ("far with a user", far)):
            place = f"eve:own@127.0.0.1:{port}" if "user" in name else f"127.0.0.1:{port}"
            origin = Origin(servers["registry"], "small", 3, f"{scheme}://{place}/{below}", "", servers["artifacts"])
            with pytest.raises(Unfit, match="HTTP 401") as caught:
                fetch(origin, tmp_path / "small")
            said[name] = str(caught.value)
    assert heard == [
        ("registry", "Bearer word"),
        ("artifacts", "Basic " + base64.b64encode(b"bob:hunter2").decode()),
        ("far", None),
        ("far", "Basic " + base64.b64encode(b"eve:own").decode()),
    ]
    assert "set MLFLOW_TRACKING_USERNAME" in said["registry"]
    assert "sent to the configured server alone" in said["far"]
    assert not any(word in "".join(said.values()) for word in ("hunter2", "own@", "\n"))


@pytest.mark.parametrize(
    ("address", "server", "same"),
    [
        ("http://host/a", "http://HOST:80", True),
        ("https://host:443/a", "https://ann:pw@host/mlflow", True),
        ("http://host/a", "https://host", False),
        ("http://host:443/a", "https://host", False),
        ("http://host:81/a", "http://host", False),
        ("http://host@evil/a", "http://host", False),
        ("http://host.evil/a", "http://host", False),
        ("http://host/a", "sqlite:////host/a", False),
        ("http:///a", "", False),
    ],
)
def test_a_server_is_known_by_host_and_port_and_never_less_safely(address: str, server: str, same: bool) -> None:
    assert is_at(address, server) is same


CREDENTIALS: dict[str, bytes] = {
    "no INI": b"[mlflow]\npassword hunter2\n",
    "no text": b"[mlflow]\nmlflow_tracking_password = hunter2\xff\n",
    "a single %": b"[mlflow]\nmlflow_tracking_username = ann\nmlflow_tracking_password = hunter2%x\n",
}


@pytest.mark.parametrize("case", CREDENTIALS)
def test_a_broken_file_of_credentials_is_named_and_no_server_is_to_be_started(case: str, tmp_path: Path) -> None:
    file = tmp_path / "home/.mlflow/credentials"
    file.parent.mkdir(parents=True)
    file.write_bytes(CREDENTIALS[case])
    with answering(lambda _: (200, {}, b"{}")) as port:
        uri = f"http://127.0.0.1:{port}"
        for ask in (lambda: answers(uri), lambda: stored_versions(uri, "small")):
            with pytest.raises(PipelineError, match=f"{re.escape(str(file))}: is no file of credentials .*: mend or remove it") as caught:
                ask()
            said = str(caught.value)
            assert "hunter2" not in said
            assert "mlflow server" not in said
            assert "\n" not in said


@pytest.mark.parametrize(("status", "words"), [(401, "set MLFLOW_TRACKING_USERNAME"), (403, "ask its administrator for the right")])
def test_a_refusal_says_what_to_ask_for_and_never_that_a_server_should_be_started(
    status: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHO", "ann:hunter2")
    with answering(lambda _: (status, {}, b"no")) as port:
        uri = f"http://ann:hunter2@127.0.0.1:{port}"
        settings, layout = pipeline(tmp_path / "project", tracking={"uri": f"http://${{WHO}}@127.0.0.1:{port}"})
        for ask in (lambda: stored_versions(uri, "small"), lambda: answers(uri), lambda: refuse_what_is_known_to_fail(settings, layout)):
            with pytest.raises(PipelineError, match=f"refuses .HTTP {status}.*{words}") as caught:
                ask()
            said = str(caught.value)
            assert "hunter2" not in said
            assert "start `mlflow server`" not in said
            assert "\n" not in said


def test_what_mlflow_and_the_stores_behind_it_raise_is_one_line_with_its_own_remedy() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, UNAUTHENTICATED
    from requests import HTTPError, Response
    from sqlalchemy.exc import OperationalError

    forbidden = Response()
    forbidden.status_code = 403
    full = OperationalError("create table t", {}, sqlite3.OperationalError("database or disk is full"))
    for error, words in (
        (MlflowException("no", error_code=PERMISSION_DENIED), "ask its administrator"),
        (MlflowException("no", error_code=UNAUTHENTICATED), "set MLFLOW_TRACKING_USERNAME"),
        (MlflowException("what\nelse"), "look after its server"),
        (HTTPError("403 for url: http://ann:hunter2@host/api", response=forbidden), "ask its administrator"),
        (full, "make room on the disk"),
        (sqlite3.OperationalError("disk I/O error"), "SQLite: disk I/O error: make room on the disk"),
    ):
        said = told(error)
        assert said is not None
        assert words in said
        assert "\n" not in said
        assert "hunter2" not in said
    assert told(ValueError("ours")) is None
    assert one_line("at postgresql://ann:p@ss@host/db and http://b:c@d/") == "at postgresql://…@host/db and http://…@d/"


# ----------------------------------------------------------------------------------------------------- what is registered


def test_a_store_that_is_not_made_yet_holds_no_version_and_one_that_is_missing_is_told(tmp_path: Path) -> None:
    default = sqlite_uri(tmp_path / "mlflow.db")
    assert RegisteredModel(default, "small", default).versions() == []
    with pytest.raises(RegistryUnreachable, match=r"other\.db: the registry's file is missing"):
        RegisteredModel(sqlite_uri(tmp_path / "other.db"), "small", default).versions()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").touch()
    assert RegisteredModel(default, "small", default).champion() is None
    with pytest.raises(NotThere):
        stored_versions(default, "small")
    with pytest.raises(PipelineError, match="small: has no version 3: there are none"):
        RegisteredModel(default, "small", default).get(3)


def test_a_store_of_another_kind_is_read_through_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setattr(reader, "PAGE", 2)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    model = RegisteredModel(uri, "small", sqlite_uri(tmp_path / "mlflow.db"))
    assert model.versions() == []
    client = MlflowClient(uri, registry_uri=uri)
    client.create_registered_model("small")
    for number in range(1, 6):
        client.create_model_version("small", source=f"/m/{number}", tags={CONTENT_TAG: f"{number:064d}"})
    client.set_registered_model_alias("small", CHAMPION, "3")
    assert [(version.number, version.is_champion) for version in model.versions()] == [(n, n == 3) for n in (5, 4, 3, 2, 1)]
    assert model.find(f"{2:064d}") == model.get(2)


def test_champions_of_before_are_taken_whatever_a_later_gate_said_and_an_alias_set_by_hand_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions 1 and 2 were champion, 3 is; 4 never was, and 2 was rejected since. 5 is of today."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    registry = RegistryWriter(Tracking(*pipeline(tmp_path / "project", tracking={"uri": uri})))
    client = MlflowClient(uri, registry_uri=uri)
    said: list[Event] = []
    registry.admit_champions_of_before(said.append)
    client.create_registered_model("small", tags={HISTORY_TAG: "[1, 2]"})
    for number in range(1, 6):
        tags = {CONTENT_TAG: f"{number:064x}", PASSED_TAG: "false"} | ({IDENTITY_TAG: "b" * 64} if number == 5 else {})
        client.create_model_version("small", source=f"/m/{number}", tags={**tags, EVALUATED_TAG: "a" * 64})
    client.set_registered_model_alias("small", CHAMPION, "3")
    registry.decide(2, "rejected", "too slow", said.append, "anna")
    assert [(event.decision, event.by) for event in said if isinstance(event, VersionDecided)] == [("rejected", "anna")]
    said.clear()
    assert {version.number for version in registry.versions() if not version.refused} == set()
    registry.admit_champions_of_before(said.append)
    assert "small versions 1, 2, 3: champion before versions were sealed" in said[0].text  # type: ignore[attr-defined]
    assert {version.number for version in registry.versions() if not version.refused} == {1, 3}
    for number in ("4", "5"):
        client.set_registered_model_alias("small", CHAMPION, number)
        registry.admit_champions_of_before(said.append)
        assert registry.get(int(number)).refused
    assert len(said) == 1


def test_the_memory_of_former_champions_fits_into_a_tag_however_many_there_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL refuses more than 5,000 characters, and the alias with them."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    registry = RegistryWriter(Tracking(*pipeline(tmp_path / "project", tracking={"uri": uri})))
    client = MlflowClient(uri, registry_uri=uri)
    client.create_registered_model("small", tags={HISTORY_TAG: json.dumps(list(range(100_000, 101_500)))})
    for number in (1, 2):
        client.create_model_version("small", source=f"/m/{number}", tags={CONTENT_TAG: f"{number:064x}"})
    client.set_registered_model_alias("small", CHAMPION, "1")
    registry.make_champion(2, "passed the gate", ignored)
    kept = client.get_registered_model("small").tags[HISTORY_TAG]
    assert len(kept) < 5_000
    assert json.loads(kept)[-2:] == [101_499, 1]
    assert registry.get(2).is_champion
    client.set_registered_model_tag("small", HISTORY_TAG, "[1, 'two']")
    with pytest.raises(PipelineError, match=r"small: the registered model's tag mlops.former_champions = .*: mend it in MLflow, or delete"):
        registry.rollback(ignored)


def test_a_change_whose_maker_was_killed_before_it_told_is_told_once_by_the_next_who_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    settings, layout = pipeline(tmp_path / "project", tracking={"uri": uri})
    registry, client = RegistryWriter(Tracking(settings, layout)), MlflowClient(uri, registry_uri=uri)
    client.create_registered_model("small")
    for number in (1, 2, 3):
        client.create_model_version("small", source=f"/m/{number}", tags={CONTENT_TAG: f"{number:064x}", WAITS_TAG: f"{number:064x}"})
    told: list[Event] = []
    registry.make_champion(1, "passed the gate", told.append)
    client.set_registered_model_alias("small", CHALLENGER, "2")

    def killed(_: Event) -> None:
        raise KeyboardInterrupt

    def late() -> list[tuple[int, int | None, str, str, str]]:
        heard: list[Event] = []
        with registry.deciding(heard.append):
            pass
        return [(e.version, e.former, e.how, e.reason, e.user) for e in heard if isinstance(e, ChampionChanged)]

    monkeypatch.setenv("MLOPS_USER", "anna")
    before = time.time()
    with pytest.raises(KeyboardInterrupt):
        registry.make_champion(2, "promoted by hand", killed, "the old one drifts")
    monkeypatch.setenv("MLOPS_USER", "berta")
    assert late() == [(2, 1, "promoted by hand", "the old one drifts", "anna")]
    assert late() == []
    assert [registry.became_champion(2, since) for since in (before, time.time() + 1)] == ["promoted by hand", None]
    second = registry.get(2)
    assert (second.aliases, second.waits) == (frozenset({CHAMPION}), False)
    # Killed after it was told, and before it was noted that it is: it is told again, and kept once.
    tell_and_keep = kept(layout.events, uri)
    with monkeypatch.context() as short, pytest.raises(KeyboardInterrupt):
        short.setattr(RegistryWriter, "_tidy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        registry.make_champion(1, "rolled back", tell_and_keep)
    event = event_of(registry.get(1).tags[UNTOLD_TAG])
    assert event is not None
    tell_and_keep(event)
    with registry.deciding(tell_and_keep):
        pass
    assert list(read_events(layout.events)) == [event]
    assert late() == []
    assert registry.became_champion(2, before) == "promoted by hand", "whoever is champion now"
    # Killed before the alias has moved: another is champion then, and nobody is told.
    with monkeypatch.context() as short, pytest.raises(KeyboardInterrupt):
        short.setattr(MlflowClient, "set_registered_model_alias", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        registry.make_champion(3, "passed the gate", tell_and_keep)
    assert late() == []
    assert not registry.became_champion(3, before)
    client.set_registered_model_alias("small", CHAMPION, "3")
    assert late() == [], "an alias that somebody sets later was not moved by who was killed"
    # Doing it again tells nothing, and takes away what a kill has left.
    client.set_registered_model_alias("small", CHALLENGER, "3")
    registry.make_champion(3, "passed the gate", killed)
    assert registry.get(3).aliases == {CHAMPION}


def test_a_version_whose_digest_somebody_has_spoiled_is_registered_anew_with_the_settings_that_are_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = RegistryWriter(Tracking(*pipeline(tmp_path / "project")))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unfit, match=r"version 1: its digest is none: register it anew with `mlops run --config project/pipeline\.yaml`"):
        registry.fetch(Version(1, frozenset(), "", "f", 0.0, {CONTENT_TAG: "spoiled"}))


def test_a_persons_word_whose_writer_was_killed_before_it_was_told_is_told_by_the_next_who_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    registry, client = RegistryWriter(Tracking(*pipeline(tmp_path / "project", tracking={"uri": uri}))), MlflowClient(uri, registry_uri=uri)
    client.create_registered_model("small")
    client.create_model_version("small", source="/m/1", tags={CONTENT_TAG: "a" * 64, EVALUATED_TAG: "b" * 64})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def late() -> list[tuple[int, str, str, str]]:
        heard: list[Event] = []
        with registry.deciding(heard.append):
            pass
        return [(e.version, e.decision, e.by, e.reason) for e in heard if isinstance(e, VersionDecided)]

    with pytest.raises(KeyboardInterrupt):
        registry.decide(1, "approved", "seen by eye", killed, "anna")
    assert late() == [(1, "approved", "anna", "seen by eye")]
    assert late() == []
    # Killed before it was written: nobody has said it.
    with monkeypatch.context() as short, pytest.raises(KeyboardInterrupt):
        short.setattr("mlops_pipeline.registry.champion.next_decision", killed)
        registry.decide(1, "rejected", "too slow", ignored, "berta")
    assert registry.get(1).tags[UNTOLD_TAG]
    assert late() == []
    assert not registry.get(1).tags[UNTOLD_TAG]


def test_an_alias_that_was_moved_in_mlflow_itself_is_told_once_by_the_next_who_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    registry, client = RegistryWriter(Tracking(*pipeline(tmp_path / "project", tracking={"uri": uri}))), MlflowClient(uri, registry_uri=uri)
    client.create_registered_model("small")
    for number, passed in enumerate(("true", "true", "true", "false"), 1):
        client.create_model_version("small", source=f"/m/{number}", tags={CONTENT_TAG: f"{number:064x}", PASSED_TAG: passed})

    def told_of() -> list[tuple[int, int | None, str, str]]:
        heard: list[Event] = []
        with registry.deciding(heard.append):
            pass
        return [(e.version, e.former, e.how, e.user) for e in heard if isinstance(e, ChampionChanged)]

    client.set_registered_model_alias("small", CHAMPION, "1")
    assert told_of() == [], "nothing is noted of what was before"
    client.set_registered_model_alias("small", CHAMPION, "2")
    assert told_of() == [(2, 1, "moved outside", "")]
    registry.make_champion(2, "promoted by hand", ignored)
    assert told_of() == []
    client.set_registered_model_alias("small", CHAMPION, "3")
    with monkeypatch.context() as reader_only:
        refuse = MlflowException("no right to")
        reader_only.setattr(MlflowClient, "set_model_version_tag", lambda *_: (_ for _ in ()).throw(refuse))
        assert told_of() == [], "who may only read leaves it to others"
    assert told_of() == [(3, 2, "moved outside", "")]
    assert told_of() == []
    client.set_registered_model_alias("small", CHAMPION, "4")
    assert told_of() == [], "which may not be taken, and is not"
    registry.make_champion(1, "promoted by hand", ignored)
    assert told_of() == []


def test_one_goes_back_to_who_was_champion_before_the_alias_was_moved_in_mlflow_which_who_lets_that_be_taken_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(RegistryWriter, "fetch", lambda *_: tmp_path)
    uri = (tmp_path / "mlruns").as_uri()
    registry, client = RegistryWriter(Tracking(*pipeline(tmp_path / "project", tracking={"uri": uri}))), MlflowClient(uri, registry_uri=uri)
    client.create_registered_model("small")
    for number, passed in enumerate(("true", "true", "true", "false"), 1):
        tags = {CONTENT_TAG: f"{number:064x}", PASSED_TAG: passed, EVALUATED_TAG: "b" * 64}
        client.create_model_version("small", source=f"/m/{number}", tags=tags)
    for number in (1, 2):
        registry.make_champion(number, "promoted by hand", ignored)
    client.set_registered_model_alias("small", CHAMPION, "4")
    heard: list[Event] = []
    with registry.deciding(heard.append):
        assert [version.number for version in registry.former_champion()] == [4, 2]
        assert heard == []
        registry.promote(4, "seen by eye", heard.append)
    assert [(type(event).__name__, getattr(event, "former", None)) for event in heard] == [("VersionDecided", None), ("ChampionChanged", 2)]
    client.set_registered_model_alias("small", CHAMPION, "3")
    for expected in ((3, 4), (4, 2), (2, 1)):
        with registry.deciding(ignored):
            assert tuple(version.number for version in registry.rollback(ignored)) == expected


def test_others_may_decide_while_what_is_slow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    settings, layout = pipeline(tmp_path / "project", tracking={"uri": (tmp_path / "mlruns").as_uri()})
    registry, done = RegistryWriter(Tracking(settings, layout)), []

    def slow() -> None:
        with FileLock(layout.mlflow / ".champion.lock", timeout=0):
            done.append("told")

    with registry.deciding(ignored):
        afterwards(slow)
    assert done == ["told"]


def test_who_waits_for_another_that_decides_says_so_and_then_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr("mlops_pipeline.registry.lock.SAID_S", 0.01)
    settings, layout = pipeline(tmp_path / "project", tracking={"uri": (tmp_path / "mlruns").as_uri()})
    layout.mlflow.mkdir()
    another, heard = FileLock(layout.mlflow / ".champion.lock", thread_local=False), list[Event]()
    another.acquire()
    in_the_end = threading.Timer(60, another.release)
    in_the_end.start()

    def tell(event: Event) -> None:
        heard.append(event)
        another.release()

    with RegistryWriter(Tracking(settings, layout)).deciding(tell):
        assert not another.is_locked
    in_the_end.cancel()
    assert [event.text for event in heard if isinstance(event, Warned)] == [
        "another process decides on the champion: this one waits until it has"
    ]


def test_a_registration_is_held_against_one_answer_of_the_registry_which_is_not_said_to_lack_what_it_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    asked: list[str] = []

    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        asked.append(request.path)
        return 503, {}, b""

    with answering(answer) as port:
        settings, layout = pipeline(tmp_path / "project", registry={"uri": f"http://127.0.0.1:{port}"})
        write_json(layout.registration, {"content_sha256": "a" * 64, "passed": True})
        found = lacking(settings, layout)
    assert found.registration.startswith(f"http://127.0.0.1:{port}: the registry does not answer (HTTP 503")
    assert (found.best_model, len(asked)) == (False, 1)


def test_what_a_killed_writer_left_is_taken_back_before_it_is_read(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(
            "create table model_versions (version, source, storage_location, run_id, creation_time, name, workspace, current_stage);"
            "create table model_version_tags (version, key, value, name, workspace);"
            "create table registered_model_aliases (version, alias, name, workspace);"
            "insert into model_versions values (1, 'models:/m-1', '/m', 'r', 1000, 'small', 'default', 'None')"
        )
    killed = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("pragma cache_size = 1")
connection.execute("update model_versions set version = 2")
connection.execute("create table filler (x)")
connection.executemany("insert into filler values (?)", [("x" * 1000,) for _ in range(500)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", killed, str(database)], check=False)
    assert database.with_name("mlflow.db-journal").exists()
    assert [version.number for version in stored_versions(sqlite_uri(database), "small")] == [1]


def test_tags_that_somebody_spoiled_are_no_digest_and_no_reasons(tmp_path: Path) -> None:
    version = Version(1, frozenset(), "/m", "", 0.0, {CONTENT_TAG: "../../../etc", GATE_TAG: "[1, {", LATENCY_TAG: "soon"})
    assert (version.content_sha256, version.gate, version.latency_ms) == ("", (), None)


def test_a_version_of_somebody_else_is_fetched_whole_with_its_folders(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    (origin / "code/deep").mkdir(parents=True)
    for name in ("MLmodel", "code/deep/part.py", "model.pkl"):
        (origin / name).write_text(name)
    place = tmp_path / "place/version-3"
    place.parent.mkdir()
    fetch(Origin("sqlite:///x.db", "small", 3, str(origin), ""), place)
    assert {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()} == {
        "MLmodel",
        "code/deep/part.py",
        "model.pkl",
    }
    (origin / "MLmodel").unlink()
    with pytest.raises(Unfit, match="MLmodel is missing"):
        fetch(Origin("sqlite:///x.db", "small", 3, str(origin), ""), place)
    assert (place / "MLmodel").exists(), "what is here stays until another is whole"


class Bucket:
    """An S3 client with what the download asks of it; boto3 is an extra that the tests do without."""

    exceptions = SimpleNamespace(Boto3Error=KeyError)

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects

    def client(self, _kind: str, endpoint_url: str | None) -> Bucket:
        assert endpoint_url is None
        return self

    def get_paginator(self, _call: str) -> Bucket:
        return self

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:  # noqa: N803  # boto3's names
        assert Bucket == "bucket"
        return [{"Contents": [{"Key": key}]} for key in self.objects if key.startswith(Prefix)] + [{}]

    def download_fileobj(self, _bucket: str, key: str, stream: Any) -> None:
        stream.write(self.objects[key])

    def close(self) -> None:
        """Nothing is held."""


def test_a_version_is_fetched_from_s3_page_by_page_and_never_out_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: name.encode() for name in ("m/MLmodel", "m/onnx/model.onnx", "m/code/part.py", "m/code/", "m2/MLmodel")}
    bucket = Bucket(**files)
    monkeypatch.setitem(sys.modules, "boto3", bucket)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", SimpleNamespace(BotoCoreError=KeyError, ClientError=KeyError))
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL", raising=False)
    origin = Origin("sqlite:///x.db", "small", 3, "s3://bucket/m", "")
    place = tmp_path / "version"
    fetch(origin, place)
    got = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert got == {"MLmodel", "onnx/model.onnx", "code/part.py"}
    bucket.objects["m/../../evil"] = b"evil"
    with pytest.raises(Unfit, match="which is no file's name"):
        fetch(origin, tmp_path / "version-evil")
    assert not list(tmp_path.rglob("evil"))


# ------------------------------------------------------------------------------------------------------- what Git knows


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "configs").mkdir(parents=True)
    (folder / "code.py").write_text("x = 1\n")
    (folder / "configs/a [x].yaml").write_text("seed: 1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def facts(folder: Path, config: Path) -> tuple[str | None, str | None]:
    said = environment_facts(folder, folder / "no.lock", config)
    return said.get("git_dirty"), said.get("config_in_git")


def test_a_clean_tree_is_clean_and_an_edited_one_dirty(repository: Path) -> None:
    config = repository / "configs/a [x].yaml"
    assert facts(repository, config) == ("false", "tracked")
    (repository / "code.py").write_text("x = 2\n")
    assert facts(repository, config) == ("true", "tracked")


def test_a_configuration_that_git_does_not_track_makes_the_tree_dirty(repository: Path) -> None:
    config = repository / "configs/a x.yaml"
    config.write_text("seed: 2\n")
    assert facts(repository, config) == ("true", "not tracked")
    (repository / ".git/info/exclude").write_text("*.yaml\n")
    assert facts(repository, config) == ("true", "not tracked")
    git(repository, "add", "--force", str(config))
    git(repository, "commit", "--quiet", "-m", "second")
    assert facts(repository, config) == ("false", "tracked")


def test_a_configuration_outside_the_repository_is_told_as_that(repository: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("seed: 3\n")
    assert facts(repository, outside) == ("true", "outside any repository")
    assert facts(tmp_path, outside) == (None, None), "without a repository nothing is said of one"


def test_a_configuration_in_a_repository_of_its_own_is_clean_when_that_is(repository: Path) -> None:
    own = repository / "own"
    own.mkdir()
    (own / "a.yaml").write_text("seed: 4\n")
    git(own, "init", "--quiet")
    git(own, "add", ".")
    git(own, "commit", "--quiet", "-m", "own")
    assert facts(repository, own / "a.yaml") == ("false", "tracked")
    (own / "a.yaml").write_text("seed: 5\n")
    assert facts(repository, own / "a.yaml") == ("true", "tracked")
