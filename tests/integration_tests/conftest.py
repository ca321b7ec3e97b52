"""What the tests with real servers share: processes that end with the test, one Prefect server in the process, the flow."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY, process_environment, wait_for

FLOW_FILE = REPOSITORY / "prefect/flows/training_pipeline.py"


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Prefect server on SQLite for every test of this process that runs flows; nothing goes to the user's PREFECT_HOME."""
    from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    home = tmp_path_factory.mktemp("prefect")
    with (
        temporary_settings({PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage"}),
        prefect_test_harness(server_startup_timeout=120),
    ):
        yield


@pytest.fixture(scope="session")
def flow_file() -> ModuleType:
    """The flow's file, loaded by its path as a worker loads it."""
    spec = importlib.util.spec_from_file_location("training_pipeline_file", FLOW_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def started(*words: str, cwd: Path, log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program at work in the background, in a session of its own that ends with the block; its output goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=cwd, env=process_environment(**environ), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and those it started: asked first, then made to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def prefect_server(port: int, folder: Path, **environ: str) -> Iterator[dict[str, str]]:
    """`prefect server start` on a port, ready to answer; yields the environment that leads to it."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    words = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with started(*words, cwd=folder, log=log, PREFECT_HOME=str(folder), **environ) as server:

        def answers() -> bool:
            assert server.poll() is None, log.read_text()
            return is_healthy(f"http://127.0.0.1:{port}/api/health")

        wait_for(answers, 120, "an answer of Prefect's server")
        yield {"PREFECT_HOME": str(folder), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}


def is_healthy(url: str) -> bool:
    """Whether a server answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # our own loopback address
            return bool(answer.status == 200)
    except OSError:
        return False
