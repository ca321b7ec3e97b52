"""A tracking server behind credentials: they may stand in its address, are shown to nobody, and a refusal says what to ask for."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Project, make_project, unused_port
from tests.integration_tests.test_mlflow_away import Carrier, Line, line_to
from tests.integration_tests.test_serving_source import mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow_away")]

PASSWORD = "hunter 2/@"
QUOTED = "hunter%202%2F%40"


class Guard(Carrier):
    """Lets through who says the password, and who may only read not to write."""

    def carry(self) -> None:
        word = self.headers.get("Authorization", "")
        known = {base64.b64encode(f"{user}:{PASSWORD}".encode()).decode(): user for user in ("ann", "reader")}
        user = known.get(word.removeprefix("Basic "))
        # MLflow's searches are POSTs too.
        if user == "ann" or (user == "reader" and (self.command == "GET" or self.path.endswith("/search"))):
            super().carry()
            return
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"Permission denied"
        self.send_response(403 if user else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = carry  # noqa: N815  # names of http.server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    port = unused_port()
    with mlflow_server(port, tmp_path_factory.mktemp("guarded") / "server"), line_to(port) as line:
        line.RequestHandlerClass = Guard
        yield line


def refused(project: Project, uri: str, *more: str) -> str:
    """The one line by which a run says that it was refused."""
    done = project.run(*more, check=False, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 2, done.stdout + done.stderr
    (said,) = done.stderr.splitlines()
    assert "hunter" not in done.stdout + done.stderr
    assert "start `mlflow server`" not in said
    assert "look after" not in said
    return said


def test_a_password_in_the_address_works_everywhere_and_is_kept_nowhere(guarded: Line, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    host = f"127.0.0.1:{guarded.server_port}"
    uri = f"http://ann:{QUOTED}@{host}"
    assert "set MLFLOW_TRACKING_USERNAME" in refused(project, f"http://{host}")
    assert "set MLFLOW_TRACKING_USERNAME" in refused(project, f"http://ann:hunter@{host}")
    assert not (project.folder / "data").exists(), "it is told before the first stage"
    assert "ask its administrator for the right" in refused(project, f"http://reader:{QUOTED}@{host}")
    ran = project.run(MLFLOW_TRACKING_URI=uri)
    said = ran.stdout + ran.stderr
    for command in (("models", "list"), ("models", "show"), ("doctor",), ("status",)):
        done = project.mlops(*command, "--config", str(project.config), MLFLOW_TRACKING_URI=uri)
        said += done.stdout + done.stderr
    assert "version 1 (champion)" in said
    assert f"http://…@{host} (1 version)" in said
    shown = project.mlops("models", "list", "--config", str(project.config), MLFLOW_TRACKING_URI=f"http://reader:{QUOTED}@{host}")
    assert "champion" in shown.stdout
    (project.folder / "models/versions").rename(project.folder / "gone")
    project.mlops("models", "promote", "1", "--config", str(project.config), MLFLOW_TRACKING_URI=uri)
    assert len(list((project.folder / "models/versions").glob("[!.]*"))) == 1
    assert "hunter" not in said
    kept = [path for path in project.folder.rglob("*") if path.is_file() and b"hunter" in path.read_bytes()]
    assert not kept
