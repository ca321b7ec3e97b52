"""What tests share: a small project in a folder of its own, the command line as a user types it, free ports, parts."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from hypothesis import settings

from mlops_pipeline import environment
from tests.forked import LIBRARIES, OURS, REPORTING, SET_BY_LIBRARIES, Forking
from tests.scheduling import (  # noqa: F401 - pytest asks for them here
    cores,
    pytest_collection,
    pytest_collection_modifyitems,
    pytest_configure_node,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)

environment.prepare()
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each process of a fresh environment would compile anew all that it imports
sys.dont_write_bytecode = False
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job: its children would not hear Ctrl-C either
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # each worker has its share of the cores: more threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))

# Property tests ask the same questions on every run, on a machine of any speed. Not quite the same: constants of the modules
# that are loaded are among them.
settings.register_profile("same everywhere", derandomize=True, deadline=None, database=None)
settings.load_profile("same everywhere")

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Project:
    """A pipeline project on disk, and the commands a user types in it."""

    folder: Path
    config: Path

    def mlops(self, *arguments: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        """``mlops`` in a process of its own: forked where its libraries are imported, unless it may be the only one."""
        given = process_environment(**environ)
        if (next(_asked_before) > 0 or "PYTEST_XDIST_WORKER" in os.environ) and forking().serves(given):
            done = forking().run(self.folder, module="mlops_pipeline", arguments=arguments, environ=given)
            if done is not None:
                return checked(("mlops", *arguments), done, check)
        return self.fresh(*arguments, check=check, **environ)

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``dvc`` likewise."""
        given = process_environment()
        done = forking().run(self.folder, module="dvc", arguments=arguments, environ=given) if forking().serves(given) else None
        return self.command("dvc", *arguments) if done is None else checked(("dvc", *arguments), done, check=True)

    def fresh(self, *arguments: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        """``mlops`` in a Python that is started for it: for runs side by side, or where one must share no seed of hashes with another."""
        return self.command(sys.executable, "-m", "mlops_pipeline", *arguments, check=check, **environ)

    def run(self, *arguments: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        if check and "--to" not in arguments and not any(name.startswith("MLFLOW_") for name in environ):
            self.with_empty_store()
        return self.mlops("run", "--config", str(self.config), *arguments, check=check, **environ)

    def with_empty_store(self) -> None:
        """Have what MLflow makes before its first use, where the project's own store is used and is not there yet."""
        if not (self.folder / "mlflow").exists() and not self.settings().get("tracking"):
            put_empty_store(self.folder / "mlflow/mlflow.db", str(self.folder / "mlruns"))

    @staticmethod
    def at_once(projects: Sequence[Project], *arguments: str, **environ: str) -> list[subprocess.CompletedProcess[str]]:
        """``mlops`` with each project's settings, side by side, each in a process of its own."""
        programs = [{"folder": str(each.folder), "arguments": [*arguments, "--config", str(each.config)]} for each in projects]
        done = forking().run_at_once([{"module": "mlops_pipeline", "environ": process_environment(**environ), **each} for each in programs])
        return [checked(("mlops", *arguments), each, check=True) for each in done]

    def command(self, *words: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, cwd=self.folder, env=process_environment(**environ), capture_output=True, text=True, timeout=600, check=False
        )
        return checked(words, done, check)

    def settings(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self.config.read_text()))

    def change(self, **sections: Any) -> None:
        """Replace keys of the settings; a mapping is merged into its section."""
        content = self.settings()
        for name, value in sections.items():
            content[name] = {**content[name], **value} if isinstance(value, dict) else value
        self.config.write_text(yaml.safe_dump(content, sort_keys=False))


def checked(words: tuple[str, ...], done: subprocess.CompletedProcess[str], check: bool) -> subprocess.CompletedProcess[str]:
    """What has been done; the failure, where it was to succeed, shows what was said."""
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def python(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a program of a few lines did in a process of its own: forked where the libraries are imported."""
    given = process_environment()
    done = forking().run(folder, text=text, arguments=arguments, environ=given) if forking().serves(given) else None
    if done is None:
        words = (sys.executable, "-c", text, *arguments)
        done = subprocess.run(words, cwd=folder, env=given, capture_output=True, text=True, timeout=600, check=False)
    return checked(("python", "-c", "…", *arguments), done, check=True)


def put_empty_store(file: Path, artifacts: str) -> None:
    """What MLflow makes in a store before its first use: tables, by migrations that take longer than a run. Made once, they are copied."""
    kept = REPOSITORY / ".pytest_cache/mlflow" / f"{version('mlflow')}.db"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            unfinished = kept.with_suffix(".new")
            unfinished.unlink(missing_ok=True)
            made = f"import mlflow; mlflow.MlflowClient('sqlite:///{unfinished}').search_registered_models()"
            subprocess.run([sys.executable, "-c", made], cwd=kept.parent, env=process_environment(), capture_output=True, check=True)
            unfinished.replace(kept)
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept, file)
    with closing(sqlite3.connect(file)) as store, store:
        store.execute("update experiments set artifact_location = ?", (f"{artifacts}/0",))


_asked_before = itertools.count()


@cache
def forking() -> Forking:
    """The one that this test process has."""
    made = Forking(process_environment(), (*LIBRARIES, *OURS, *REPORTING))
    atexit.register(made.end)
    return made


def process_environment(**changes: str) -> dict[str, str]:
    """The environment of a process started by a test: the package's source on the path, the environment's programs first.

    That a test is under way is not told: MLflow and Evidently would behave otherwise than for a user. Nor is what the test process
    has imported: programs could not be forked any more.
    """
    left_out = ("MLFLOW_", "PREFECT_", "COV_", "DVC_", "PYTEST_CURRENT_TEST", *SET_BY_LIBRARIES)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "PYTHONPATH": str(REPOSITORY / "src"), **environment.QUIET, **changes}


def write_table(path: Path, rows: int = 400, seed: int = 0) -> None:
    """A small binary problem: two numbers with gaps, a category, a time, and a target they half explain."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    size, weight = rng.normal(size=rows), rng.normal(10, 3, size=rows)
    kind = rng.choice(["a", "b", "c"], size=rows)
    late = (size + (kind == "a") + rng.normal(size=rows) > 0.5).astype(int)
    days = np.datetime64("2024-01-01") + np.arange(rows) // 4
    frame = pl.DataFrame({"size": size.round(4), "weight": weight.round(3), "kind": kind, "day": days.astype(str), "late": late})
    frame.with_columns(pl.when(pl.int_range(pl.len()) % 9 != 0).then(pl.col("weight"))).write_csv(path)


SMALL_SETTINGS: dict[str, Any] = {
    "name": "small",
    "seed": 7,
    "dataset": {
        "source": {"path": "table.csv"},
        "target": "late",
        "task": "binary",
        "time_column": "day",
        "columns": {
            "size": {"kind": "number"},
            "weight": {"kind": "number", "min": 0},
            "kind": {"kind": "category", "nullable": False},
            "day": {"kind": "datetime", "nullable": False},
            "late": {"kind": "boolean"},
        },
    },
    "ingest": {},
    "validate": {"on_failure": "stop"},
    "split": {"kind": "time", "test_from": "2024-03-10"},
    "features": {},
    "train": {"estimator": "lightgbm", "params": {"n_estimators": 20}},
    "tuning": {},
    "evaluate": {"metric": "roc_auc", "slices": ["kind"], "resamples": 100, "min_slice_rows": 10},
    "gate": {},
    "onnx": {},
    "tracking": {},
    "registry": {},
    "paths": {},
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh project with Git, DVC, a table of 400 rows and settings for it."""
    return make_project(tmp_path / "project")


def make_project(folder: Path) -> Project:
    shutil.copytree(_new_project(), folder)
    return Project(folder, folder / "pipeline.yaml")


@cache
def _new_project() -> Path:
    """The project that each test gets a copy of: made once a process, since Git and DVC take half a second."""
    place = Path(tempfile.mkdtemp(prefix="mlops-project-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    folder = place / "project"  # which others may read, as a container's user does
    folder.mkdir()
    write_table(folder / "table.csv")
    made = Project(folder, folder / "pipeline.yaml")
    made.config.write_text(yaml.safe_dump(SMALL_SETTINGS, sort_keys=False))
    made.command("git", "init", "--quiet")
    made.command("dvc", "init", "--quiet")
    return folder


def made_once(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], Project]) -> Project:
    """A project that all of xdist's workers share: the first that asks makes it, and all leave it as it is."""
    place = once(folders, name, make)
    return Project(place, place / "pipeline.yaml")


def once(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Where one of xdist's workers has made what all share."""
    base = folders.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    place.mkdir(exist_ok=True)
    done = place / f"{name}.done"
    with FileLock(place / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(place / name, ignore_errors=True)  # what a worker that failed has left
            make(place / name)
            done.touch()
    return place / name


def trained(folder: Path) -> Project:
    """A project whose pipeline has run once: it has a champion."""
    project = make_project(folder)
    project.run()
    return project


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once: it has a champion. Tests must leave it as it is."""
    return made_once(tmp_path_factory, "registered", trained)


def copied(project: Project, folder: Path) -> Project:
    """A project's copy, which a test may change: it works on its own files (test_copied_project)."""
    shutil.copytree(project.folder, folder, symlinks=True)
    return Project(folder, folder / project.config.name)


@pytest.fixture
def free_port() -> int:
    """A TCP port on loopback that nothing listens on."""
    return unused_port()


_ports = itertools.count(os.getpid())


def unused_port() -> int:
    """A TCP port on loopback that nothing listens on: none that the system gives to clients, none that another test process asks for."""
    first = 20_000 + 1_000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12)
    while True:
        port = first + next(_ports) % 1_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


LEAST_S = 60
"""How long every wait is worth: beside other tests, what takes a second may take twenty."""


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition holds; the failure names what did not come about."""
    seconds = max(seconds, LEAST_S)
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about in {seconds:g} s")
        pause.wait(0.1)


def lacking(part: str, install: str) -> None:
    """A part that is not there skips the test with the line that installs it, or fails it under MLOPS_TEST_STRICT=1."""
    message = f"{part} is not installed: {install}"
    if os.environ.get("MLOPS_TEST_STRICT") == "1":
        pytest.fail(message)
    pytest.skip(message)
