"""Releases whose controller, worker, whole server or database is killed at random moments, and what must hold all the same."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from mlops_pipeline.events import ReleaseMoved, ignored, read_events
from mlops_pipeline.release.controller import Controller, begin
from mlops_pipeline.release.opened import Opened, opened
from mlops_pipeline.release.policy import ABORTING, PROMOTING
from mlops_pipeline.release.table import LIVE, Table
from tests.conftest import Project, process_environment, unused_port
from tests.forked import Forking
from tests.integration_tests.conftest import is_healthy, wait_for
from tests.integration_tests.loop_kills import KILLED

STEPS = [{"shadow": 1.0, "least_rows": 10}, {"weight": 0.5, "least_rows": 10}, {"weight": 1.0, "least_rows": 5}]
GUARDRAILS = {"failures": {"figure": "failures", "worse_by": 0.9}}
KILLS = 2
"""Of controllers, in each release at most; then it is carried on to its end."""
MOST_S = 2.5
END_S = 180.0
HELD_S = 4.0
"""So long at most another writes to the file: longer than a lease."""
STARTS = 20


@dataclass
class Seen:
    """How many kills hit what, how many requests were answered, and what was wrong in the end."""

    kills: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Database(Protocol):
    """Where the table of releases and the record are."""

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Of the server."""

    def hit(self, random: np.random.Generator) -> None:
        """Take it away for a while; on return it is there again, or will be by itself."""


@dataclass(frozen=True)
class File:
    """SQLite: the table's file, which another writes to for longer than a lease may last."""

    folder: Path

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        return {"record": {"folder": str(self.folder / "records"), "mode": "durable"}, "release": {"file": str(self._path)}}

    @property
    def _path(self) -> Path:
        return self.folder / "releases.sqlite"

    def hit(self, random: np.random.Generator) -> None:
        """Hold the file while others go on."""
        held = threading.Event()

        def hold(seconds: float) -> None:
            with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                held.set()
                time.sleep(seconds)
                connection.execute("ROLLBACK")

        threading.Thread(target=hold, args=(random.uniform(0.5, HELD_S),)).start()
        held.wait()


@dataclass(frozen=True)
class PostgreSQL:
    """One whose processes are killed, each at once, and which is begun again."""

    server: Any
    """As ``postgresql_server`` gives it."""
    uri: str

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        # A record that may lose less than the time without a database refuses meanwhile, as it was told to.
        return {"record": {"uri": self.uri, "loss_ms": 600_000}, "release": {"uri": self.uri}}

    def hit(self, random: np.random.Generator) -> None:
        """SIGKILL to all of it."""
        folder = Path(self.server.pgdata)
        noted = folder / "postmaster.pid"
        first = int(noted.read_text().split()[0])
        killed = [first, *children_of(first)]
        for pid in killed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(map(_is_at_work, killed)), 60, "the end of PostgreSQL")
        for lock in (noted, *folder.glob(".s.PGSQL.*.lock")):
            lock.unlink()  # who is dead and that nobody has reaped is taken for one at work
        time.sleep(random.uniform(0.0, HELD_S))
        for _ in range(STARTS):
            with suppress(subprocess.SubprocessError):
                self.server.ensure_postgres_running()
                return
        raise AssertionError("PostgreSQL does not begin again")


def _is_at_work(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_releases(project: Project, folder: Path, forking: Forking, releases: int, seed: int, database: Database | None = None) -> Seen:
    """So many releases of versions 1 and 2 by turns; ``project`` has both, and one of them is champion."""
    random, seen = np.random.default_rng(seed), Seen()
    database = database or File(folder)
    config = _settings(project, folder, database)
    server = _Server(folder)
    with server.running(), _asking(server, project, seen):
        for _ in range(releases):
            of = opened(config)
            with closing(of.table()) as table:
                number = _begun(of, table)
            _kill(of, number, server, database, forking, project, random, seen)
            with closing(of.table()) as table:
                _carry_on(of, table, number)
                seen.wrong += _wrong(of, table, number)
                last = table.last(number)
                seen.states[last.state if last is not None else "none"] += 1
    if failed := {status: count for status, count in seen.answers.items() if status >= http.client.INTERNAL_SERVER_ERROR}:
        seen.wrong.append(f"answers of {failed}")
    return seen


def _settings(project: Project, folder: Path, database: Database) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    serving = {
        "pipeline": str(project.config),
        "port": unused_port(),
        "workers": 2,
        "registry": {"cache": str(folder / "cache"), "poll_s": 0.2},
        **database.settings,
    }
    policy = {"steps": STEPS, "guardrails": GUARDRAILS}
    release = {"serving": "serving.yaml", "monitoring": "monitoring.yaml", "auto": False, "look_s": 0.2, "lease_s": 2, "policy": policy}
    watch = {"serving": "serving.yaml", "state": {"file": str(folder / "state.sqlite")}}
    for name, content in (("serving", serving), ("release", release), ("monitoring", watch)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder / "release.yaml"


class _Server:
    """`mlops serve`, begun again whenever it is killed."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "serving.yaml"
        self.port = int(yaml.safe_load(self.config.read_text())["port"])
        self._log = folder / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            if self._process is not None:
                self._process.terminate()
                self._process.wait(60)

    def start(self) -> None:
        with self._log.open("ab") as output:
            words = [sys.executable, "-m", "mlops_pipeline", "serve", "--config", str(self.config)]
            self._process = subprocess.Popen(words, env=process_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        wait_for(lambda: is_healthy(f"http://127.0.0.1:{self.port}/ready"), 120, "the server")

    def kill(self) -> None:
        """The supervisor and all its children at once, and begin again."""
        assert self._process is not None
        children = self._children()
        self._process.kill()
        self._process.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.start()

    def kill_worker(self, random: np.random.Generator) -> None:
        """One of its processes; the supervisor begins another."""
        if children := self._children():
            with suppress(ProcessLookupError):
                os.kill(int(random.choice(children)), signal.SIGKILL)

    def _children(self) -> list[int]:
        assert self._process is not None
        return children_of(self._process.pid)


@contextmanager
def _asking(server: _Server, project: Project, seen: Seen) -> Iterator[None]:
    """One client that asks all the while; who loses its connection asks again."""
    expected = json.loads((project.folder / "models/registry/best_model/expected.json").read_text())
    body = json.dumps({"records": [expected["rows"][0]]}).encode()
    leaving = threading.Event()

    def ask() -> None:
        while not leaving.wait(0.01):
            with (
                suppress(OSError, http.client.HTTPException),
                closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as one,
            ):
                one.request("POST", "/predict", body, {"Content-Type": "application/json"})
                seen.answers[one.getresponse().status] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        leaving.set()
        asking.join()


def _begun(of: Opened, table: Table) -> int:
    champion = of.registry().champion()
    assert champion is not None
    return begin(of, table, champion.number, 3 - champion.number, "typed", "test")


def _kill(
    of: Opened,
    number: int,
    server: _Server,
    database: Database,
    forking: Forking,
    project: Project,
    random: np.random.Generator,
    seen: Seen,
) -> None:
    """Controllers that are killed after a while, and between them, or under them, a worker, the server or the database."""
    for _ in range(KILLS):
        with closing(of.table()) as table:
            last = table.last(number)
        if last is None or last.state not in LIVE:
            return
        hit = None
        if random.random() < 1 / 3:
            hit = threading.Timer(random.uniform(0.0, 1.0), database.hit, (np.random.default_rng(random.integers(1 << 30)),))
            hit.start()
            seen.kills["database"] += 1
        text = KILLED.format(after=random.uniform(0.3, MOST_S), kill="os.kill")
        done = forking.run(project.folder, text=text, arguments=["release", "watch", "--config", str(of.origin)])
        seen.kills["controller"] += done is not None and done.returncode == -signal.SIGKILL
        which = random.random()
        if which < 1 / 3:
            server.kill_worker(random)
            seen.kills["worker"] += 1
        elif which < 1 / 2:
            server.kill()
            seen.kills["server"] += 1
        if hit is not None:
            hit.join()


def _carry_on(of: Opened, table: Table, number: int) -> None:
    """What the next controller does, until the release is over."""
    deadline = time.monotonic() + END_S
    with Controller(of, table, _listener(of)) as controller:
        while (last := table.last(number)) is not None and last.state in LIVE and time.monotonic() < deadline:
            controller.look()
            time.sleep(0.1)


def _listener(of: Opened) -> Any:
    from mlops_pipeline.events import kept_for

    return kept_for(of.watch.pipeline, of.watch.layout, ignored)


def _wrong(of: Opened, table: Table, number: int) -> Iterator[str]:
    transitions = table.transitions(number)
    names = [step.name for step in of.settings.policy.steps]
    order = [*names, PROMOTING, ABORTING]
    places = [order.index(each.step) for each in transitions]
    if places != sorted(places) or any(after - before > 1 for before, after in pairwise(places)):
        yield f"release {number}: steps {[each.step for each in transitions]}"
    last = transitions[-1]
    champions = [version.number for version in of.registry().versions() if version.is_champion]
    started = table.started(number)
    expected = started.challenger if last.state == "promoted" else started.champion
    if last.state in LIVE or champions != [int(expected)]:
        yield f"release {number}: {last.state}, champions {champions} and not {expected}: {last.reason}"
    told = {event.transition for event in read_events(of.watch.layout.events) if isinstance(event, ReleaseMoved)}
    if missing := {each.number for each in transitions} - told:
        yield f"release {number}: nobody was told of transitions {sorted(missing)}"
