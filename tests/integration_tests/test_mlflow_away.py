"""MLflow's server goes away at any moment of a run: one line says so, and the next run ends with one champion."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import make_project, unused_port
from tests.integration_tests.test_serving_source import mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow_away")]


class Line(ThreadingHTTPServer):
    """The line to a real server: it carries so many requests, and is then dead."""

    daemon_threads = True

    def __init__(self, server_port: int, carries: int | None) -> None:
        self.target, self.left, self.carried, self.lock = server_port, carries, 0, threading.Lock()
        super().__init__(("127.0.0.1", 0), Carrier)

    def is_dead(self) -> bool:
        with self.lock:
            self.carried += 1
            return self.left is not None and self.carried > self.left


class Carrier(BaseHTTPRequestHandler):
    """One request over the line, and back."""

    server: Line

    def carry(self) -> None:
        if self.server.is_dead():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        onward = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=60)
        onward.request(self.command, self.path, body, dict(self.headers))
        answer = onward.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = carry  # noqa: N815  # names of http.server

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def line_to(port: int, carries: int | None = None) -> Iterator[Line]:
    line = Line(port, carries)
    thread = threading.Thread(target=line.serve_forever, daemon=True)
    thread.start()
    try:
        yield line
    finally:
        line.shutdown()
        line.server_close()
        thread.join()


def test_wherever_mlflow_goes_away_one_line_says_so_and_the_next_run_mends_it(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    port = unused_port()
    with mlflow_server(port, tmp_path / "server"):
        with line_to(port) as whole:
            address = f"http://127.0.0.1:{whole.server_port}"
            make_project(tmp_path / "undisturbed").run(MLFLOW_TRACKING_URI=address)
            requests = whole.carried
        assert requests > 20
        direct = f"http://127.0.0.1:{port}"
        client = MlflowClient(direct, registry_uri=direct)
        client.delete_registered_model("small")

        project = make_project(tmp_path / "project")
        project.run("--to", "split")
        cut_in: list[str] = []
        for carries in range(1, requests, requests // 4):
            with line_to(port, carries) as line:
                quick = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLOPS_TRACKING_TIMEOUT_S": "5"}
                done = project.run(check=False, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{line.server_port}", **quick)
            if done.returncode:  # later ones need fewer requests, for what an earlier one has done stays done
                assert done.returncode == 2, f"after {carries} requests\n{done.stdout}\n{done.stderr}"
                (said,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
                assert "run again" in said or "mlflow server" in said or "check tracking.uri" in said
                assert "Traceback" not in done.stderr
                cut_in.append([text for text in done.stdout.splitlines() if text.startswith("▸")][-1].split()[1])
        assert {"train", "evaluate", "register"} >= set(cut_in) > {"train"}, cut_in
        project.run(MLFLOW_TRACKING_URI=direct)
        assert project.run(MLFLOW_TRACKING_URI=direct).stdout.count("up to date") == 6
        champion = client.get_model_version_by_alias("small", "champion")
        assert champion.tags["mlops.gate_passed"] == "true"
