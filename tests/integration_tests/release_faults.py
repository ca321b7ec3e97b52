"""Faulty challengers, released by the real controller on a real server while clients ask: where each is stopped, and by what."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import yaml

from mlops_pipeline.monitoring.labels import add_labels
from mlops_pipeline.records.reading import UNIT, batches
from mlops_pipeline.release.opened import Opened, opened
from mlops_pipeline.release.table import LIVE
from tests.conftest import wait_for, write_table
from tests.integration_tests.clients import get

WEIGHT = 0.2
SHADOW = {"shadow": 1.0, "least_rows": 1500}
DIVIDED = [{"weight": WEIGHT, "least_rows": 600}, {"weight": 1.0, "least_rows": 50}]
GUARDRAILS = {
    "failures": {"figure": "failures", "worse_by": 0.02},
    "slow": {"figure": "latency.p50", "worse_by": 10.0},
    "quality": {"figure": "quality", "worse_by": 0.2, "slices": ["kind"]},
}
USERS = 100_000
CLIENTS = 4
PAUSE_S = 0.015
ASKED_OFTEN = 12
"""So often in turn that one of two workers is not missed."""
ENDS_WITHIN_S = 240.0


class Fault(NamedTuple):
    """What a challenger does, whether it is asked in the shadow first, where it must be stopped, and what the reason must name."""

    does: str
    in_shadow: bool
    step: str
    reason: str


FAULTS = (
    *(Fault(does, True, "shadow", "failure") for does in ("throw", "nan", "sleep 3")),
    Fault("flip a", True, "shadow", "quality where kind = a"),
    Fault("slow 0.03", True, "20 %", "latency.p50"),
    *(Fault(does, False, "20 %", "failure") for does in ("throw", "nan", "sleep 3")),
    Fault("flip a", False, "20 %", "quality where kind = a"),
)


@dataclass
class Stopped:
    """What became of a release, and what clients saw of it."""

    fault: Fault
    state: str = ""
    step: str = ""
    reason: str = ""
    seconds: float = 0.0
    answers: Counter[int] = field(default_factory=Counter)
    champions_errors: int = 0
    users: int = 0
    touched: int = 0
    """Users of whom a request was the challenger's, whoever answered it in the end."""

    @property
    def wrong(self) -> list[str]:
        """What must not be."""
        said = []
        if (self.state, self.step) != ("aborted", self.fault.step) or self.fault.reason not in self.reason:
            said.append(f"{self.state} at {self.step}: {self.reason}")
        if set(self.answers) != {200}:
            said.append(f"answers {dict(self.answers)}")
        if self.champions_errors:
            said.append(f"{self.champions_errors} errors of the champion")
        share = WEIGHT if self.fault.step == "20 %" else 0.0
        most = share + 4 * (share * (1 - share) / max(self.users, 1)) ** 0.5  # chance alone gives no arm more
        if self.touched > most * self.users:
            said.append(f"{self.touched} of {self.users} users touched")
        return said


def stopped(url: str, folder: Path, behaviour: Path, fault: Fault, release: Callable[..., Any]) -> Stopped:
    """A release of version 2 beside version 1 at a server; its settings are in ``folder``, and ``release`` types `mlops release`."""
    steps = [SHADOW, *DIVIDED] if fault.in_shadow else DIVIDED
    policy = {"steps": steps, "guardrails": GUARDRAILS, "expected_rows": 500, "patience": "1h"}
    config = folder / "release.yaml"
    content = {"serving": "serving.yaml", "monitoring": "monitoring_config.yaml", "unit": "header:X-User", "auto": False, "look_s": 0.2}
    config.write_text(yaml.safe_dump({**content, "policy": policy}))
    watch = folder / "monitoring_config.yaml"
    watch.write_text(yaml.safe_dump({**yaml.safe_load(watch.read_text()), "serving": "serving.yaml"}))
    of = opened(config)
    seen = Stopped(fault)
    try:
        with _asking(url, of, folder, seen), ThreadPoolExecutor(1) as beside:
            done = beside.submit(release, "start", "2", "--config", str(config), timeout=ENDS_WITHIN_S)
            # Whoever fails on its own expected outputs is never asked at all.
            wait_for(lambda: done.done() or all(_is_loaded(url) for _ in range(ASKED_OFTEN)), 120, "a challenger in every worker")
            behaviour.write_text(fault.does)
            began = time.monotonic()
            done.result()
            seen.seconds = time.monotonic() - began
    finally:
        behaviour.write_text("ok")
    with closing(of.table()) as table:
        started = table.releases()[-1]
        last = table.last(started.number)
        assert last is not None
        assert last.state not in LIVE, last
        seen.state, seen.step, seen.reason = last.state, last.step, last.reason
        entries = pl.concat(list(batches(of.watch.store, shadows=True, units=True)))
    entries = entries.filter(pl.col("time").dt.epoch("us") / 1e6 >= started.made)
    seen.champions_errors = entries.filter((pl.col("arm") == "champion") & (pl.col("error").fill_null("") != "")).height
    mine = entries.filter(pl.col("arm").is_in(["challenger", "fallback"]))
    seen.users, seen.touched = entries.filter(pl.col("arm") != "shadow")[UNIT].n_unique(), mine[UNIT].n_unique()
    return seen


def _is_loaded(url: str) -> bool:
    return bool(get(f"{url}/status")[1]["releases"].get("champion", {}).get("loaded"))


@contextmanager
def _asking(url: str, of: Opened, folder: Path, seen: Stopped) -> Iterator[None]:
    """Clients of many users that ask row by row, and labels that come a little later."""
    write_table(folder / "asked.csv", rows=2000, seed=5)
    rows = pl.read_csv(folder / "asked.csv").with_columns(pl.col("weight").abs())
    bodies = [json.dumps({"records": [row]}).encode() for row in rows.select("size", "weight", "kind").to_dicts()]
    late = rows["late"].to_list()
    leaving, told, lock = threading.Event(), list[tuple[str, int]](), threading.Lock()
    parts, run = urlsplit(url), f"{time.time():.0f}"

    def ask(client: int) -> None:
        rng = np.random.default_rng(client)
        with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as one:
            count = 0
            while not leaving.wait(PAUSE_S):
                count += 1
                place, name = int(rng.integers(len(bodies))), f"{run}-{client}-{count}"
                more = {"X-Request-Id": name, "X-User": f"user-{rng.integers(USERS)}", "Content-Type": "application/json"}
                one.request("POST", "/predict", bodies[place], more)
                answer = one.getresponse()
                answer.read()
                with lock:
                    seen.answers[answer.status] += 1
                    told.append((name, late[place]))

    def label() -> None:
        done = 0
        with closing(of.watch.state()) as state:
            while not leaving.wait(0.3):
                new = told[done:]
                done += len(new)
                if new:
                    pl.DataFrame(new, schema=["request_id", "late"], orient="row").write_csv(folder / "labels.csv")
                    add_labels(state, of.watch.pipeline, folder / "labels.csv", "labels.csv")

    threads = [*(threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)), threading.Thread(target=label)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        leaving.set()
        for thread in threads:
            thread.join()
