"""Days replayed through a real server: requests over HTTP, labels a day late, the watch at the end of each month."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import yaml

from mlops_pipeline.config.finding import MONITORING, PIPELINE, SERVING
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import kept_for
from mlops_pipeline.files import make_own_folder
from mlops_pipeline.modelling.metrics import Array
from mlops_pipeline.monitoring.job import run
from mlops_pipeline.monitoring.labels import add_labels
from mlops_pipeline.monitoring.state import Retraining, Window
from mlops_pipeline.monitoring.watched import watched

if TYPE_CHECKING:
    import polars as pl

ROWS_A_REQUEST = 300
WAIT_S = 300.0
"""How long a server may take to begin, or to take a new champion, on a machine that has much else to do."""
_LISTENS = re.compile(r"on (http://127\.0\.0\.1:(\d+))\b")


@dataclass(frozen=True)
class Replayed:
    """A month as the server answered it: the chance of the positive class (rows,), the window, and the training it led to, if any."""

    said: Array
    window: Window
    training: Retraining | None
    alerts: int


def replay(project: Path, months: Sequence[pl.DataFrame], positive: str, said: Callable[[int, Replayed], object]) -> list[Replayed]:
    """Ask a project's champion of every row, day by day, and let its watch do what it finds right at the end of each month.

    ``months``: features, target and time column, in order of time. Each label is added a day after its row. ``said`` is told of each
    month as it ends. Raises :class:`PipelineError`.
    """
    config = settings_of(project)
    done: list[Replayed] = []
    with served(project) as server:
        for place, month in enumerate(months):
            until = _next_month(month, watched(config).pipeline.dataset.time_column or "")
            answers = _asked(server, config, month, positive, place)
            watch = watched(config)
            with closing(watch.state()) as state:
                before = {each.number for each in state.retrainings("done", "failed")}
                ran = run(watch, state, kept_for(watch.pipeline, watch.layout), close=True, as_of=until.isoformat())
                if not ran.counted:
                    raise PipelineError(f"{project}: the watch counted no window of {month.height:,} rows: see {watch.layout.events}")
                new = [each for each in state.retrainings("done", "failed") if each.number not in before]
                firing = len(state.alerts("firing"))
            if new and new[-1].state == "failed":
                raise PipelineError(f"a training that the watch asked for failed: {new[-1].outcome}: see {watch.state_file.parent}")
            found = Replayed(answers, ran.counted[-1], new[-1] if new else None, firing)
            if new:
                server.wait_for_version(_champion(project))
            done.append(found)
            said(place, found)
    return done


def _asked(server: Server, config: Path, month: pl.DataFrame, positive: str, place: int) -> Array:
    """What the server says of each row of a month; the labels of a day are added when the next one begins."""
    import polars as pl

    watch = watched(config)
    time_column, target = watch.pipeline.dataset.time_column or "", watch.pipeline.dataset.target
    names = [name for name in month.columns if name not in (target, time_column)]
    table = watch.state_file.with_name("labels.parquet")
    make_own_folder(table.parent)
    answers: list[float] = []
    with closing(watch.state()) as state:
        for (day,), rows in month.group_by(pl.col(time_column).dt.date(), maintain_order=True):
            ids = [f"{place}-{day}-{row}" for row in range(rows.height)]
            for start in range(0, rows.height, ROWS_A_REQUEST):
                some = rows[start : start + ROWS_A_REQUEST].select(names)
                answers += server.ask(some.to_dicts(), ids[start : start + ROWS_A_REQUEST], positive)
            # The next day begins: what came of this one's rows is known.
            rows.select(pl.Series("id", ids), target, time_column).write_parquet(table)
            add_labels(state, watch.pipeline, table, f"labels of {day}")
    return np.asarray(answers)


class Server:
    """`mlops serve` at work on a free port of loopback."""

    def __init__(self, url: str, port: int) -> None:
        self.url, self._port = url, port

    def ask(self, records: list[dict[str, Any]], ids: list[str], positive: str) -> list[float]:
        """The chance of the positive class for each record."""
        body = self._answer("POST", "/predict", msgspec.json.encode({"records": records, "ids": ids}))
        return [one["probabilities"][positive] for one in body["predictions"]]

    def wait_for_version(self, version: str) -> None:
        """Until the server answers with a version."""
        deadline = time.monotonic() + WAIT_S
        while version not in self._answer("GET", "/v2/models/champion")["versions"]:
            if time.monotonic() > deadline:
                raise PipelineError(f"{self.url}: does not take version {version} within {WAIT_S:.0f} s")
            time.sleep(0.2)

    def _answer(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        # A new one each time: while a training goes on, the server closes one that is idle.
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            content = answer.read()
        if answer.status != http.client.OK:
            raise PipelineError(f"{self.url}{path}: answered {answer.status}: {content[:300].decode(errors='replace')}")
        return dict(msgspec.json.decode(content))


@contextmanager
def served(project: Path) -> Iterator[Server]:
    """The project's server, ready to answer, until the block ends."""
    log = project / "data/serve.log"
    log.unlink(missing_ok=True)  # an earlier server has said there where it listened
    process = begun(project, log, "serve", "--config", str(project / SERVING), "--port", "0")
    try:
        deadline = time.monotonic() + WAIT_S
        while (found := _LISTENS.search(log.read_text(errors="replace"))) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise PipelineError(f"`mlops serve` did not begin: {last_line(log)}")
            time.sleep(0.1)
        yield Server(found[1], int(found[2]))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def begun(project: Path, log: Path, *words: str) -> subprocess.Popen[bytes]:
    """`mlops` at work in a process of its own; what it says goes to the end of a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "mlops_pipeline", *words], cwd=project, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


def settings_of(project: Path) -> Path:
    """Write the settings of the project's server and watch; the path of the latter's."""
    # What was answered is on record when it is labelled, and counted.
    # Rows come with the features that ingest has made of them: what is shown is what the watch does, not how features are computed.
    serving = {"pipeline": Path(PIPELINE).name, "inputs": "features", "record": {"mode": "durable"}, "registry": {"poll_s": 0.5}}
    # A year passes in minutes: what is counted in days of the clock has no meaning.
    watch = {
        "pipeline": Path(PIPELINE).name,
        "serving": Path(SERVING).name,
        "windows": {"every": "1y", "settle_s": 0},
        "channels": {},
        "retraining": {"budget": None},
    }
    for name, content in ((SERVING, serving), (MONITORING, watch)):
        (project / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return project / MONITORING


def _champion(project: Path) -> str:
    from mlops_pipeline.registry.champion import registered_model

    watch = watched(project / MONITORING)
    found = registered_model(watch.pipeline, watch.layout).champion()
    return str(found.number) if found else ""


def _next_month(month: pl.DataFrame, time_column: str) -> date:
    last: Any = month[time_column].max()
    return date(last.year + last.month // 12, last.month % 12 + 1, 1)


def last_line(log: Path) -> str:
    """The last line of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
