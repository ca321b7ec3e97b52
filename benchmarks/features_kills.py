"""The features' state refreshed a day at a time under load, with SIGKILLs of the refresh, of a worker, of the server, and of both.

    python -m benchmarks.features_kills [--project FOLDER] [--kills 12] [--days 4] [--rate 100] [--postgresql] [--seed 7]

``--project`` is one in which `mlops run` has made the flights' champion. The state is made of the flights up to a part of one day; each
file that `mlops features refresh` takes in has another part of it, and a day more. It is killed at random moments until its share of the
kills is spent. Meanwhile flights of that one day are asked for at a rate. An answer says by which state it was computed
(``features_as_of``), and is compared with what that state gives, computed here with states that nobody disturbed. Requests may fail only
if a server or worker that may have held their connection was killed while they were under way, or none was ready. In the end the state is
compared with the undisturbed one.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import random
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import psutil
import yaml
from benchmarks.features import bodies_of
from benchmarks.measure import BIN, REPOSITORY, environment
from benchmarks.serving import launch

from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.features.online import features_of
from mlops_pipeline.features.state import open_state
from mlops_pipeline.features.store import StateStore
from mlops_pipeline.inference.engine import load_engine, score
from mlops_pipeline.inference.raw import RawInput, RawRows
from mlops_pipeline.inference.scorer import contract_at
from mlops_pipeline.inference.signature import Signature
from mlops_pipeline.layout import FEATURES_STATE, StatePlace, layout_of
from mlops_pipeline.serving.protocol.predict import Predict
from mlops_pipeline.serving.request import Computed, Request
from mlops_pipeline.tables.source import locate

ROWS, BODIES, CLIENTS = 8, 60, 8
VICTIMS = ("refresh", "worker", "server", "refresh and worker", "refresh and server")
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Asked:
    """A request: its body's number, since when its connection was open, when it ended, its status (0: broken off) and what came."""

    body: int
    opened: float
    ended: float
    status: int
    content: bytes


@dataclass
class Seen:
    """What was asked, when what was killed, and when no server was ready."""

    asked: list[Asked] = field(default_factory=list)
    deaths: list[float] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    def may_fail(self, one: Asked) -> bool:
        """Whether its connection may have been cut by a kill, or found no server."""
        return any(one.opened <= death <= one.ended for death in self.deaths) or any(
            one.opened <= until and since <= one.ended for since, until in self.away
        )


def mlops(folder: Path, *words: object, where: str | None) -> subprocess.Popen[bytes]:
    more = {} if where is None else {FEATURES_STATE: where}
    command = [BIN / "python", "-m", "mlops_pipeline", *map(str, words), "--config", folder / "pipeline.yaml"]
    there = environment(PYTHONPATH=str(REPOSITORY / "src"), **more)
    with (folder / "refresh.log").open("ab") as log:
        return subprocess.Popen(list(map(str, command)), cwd=folder, env=there, stdout=log, stderr=log)


def refreshed(folder: Path, *words: object, where: str | None = None) -> None:
    if mlops(folder, "features", "refresh", *words, where=where).wait():
        raise SystemExit((folder / "refresh.log").read_text()[-2000:])


def prepared(project: Path, folder: Path, days: int) -> tuple[list[Path], pl.DataFrame]:
    """A project whose source ends within a day before the last; a file of each of these with more of that day, and its flights."""
    config = project / "configs/training_config.yaml"
    settings = load_settings(config)
    [source] = locate(settings.dataset.read_as, layout_of(settings, config, project))
    rows = pl.read_csv(source if source.suffix == ".csv" else _unpacked(source), infer_schema=False)
    dates = rows.select(pl.date(pl.col("year").cast(int), pl.col("month").cast(int), pl.col("day").cast(int))).to_series()
    first, *last = dates.unique().sort().tail(days + 1).to_list()
    part = pl.int_range(rows.height, eager=True) % (days + 1)
    content = yaml.safe_load(config.read_text())
    content["dataset"]["source"] = {"path": "rows.csv"}
    for made in ("undisturbed", "killed"):
        (folder / made).mkdir()
        (folder / made / ".dvc").mkdir()
        (folder / made / "pipeline.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        rows.filter((dates < first) | ((dates == first) & (part == 0))).write_csv(folder / made / "rows.csv")
    files = []
    for number, day in enumerate(last, 1):
        files.append(folder / f"{day}.csv")
        rows.filter((dates == day) | ((dates == first) & (part == number))).write_csv(files[-1])
    return files, rows.filter(dates == first)


def _unpacked(source: Path) -> bytes:
    import zipfile

    with zipfile.ZipFile(source) as archive:
        return archive.read(archive.namelist()[0])


class Expected:
    """What each state answers to each body."""

    def __init__(self, model: Path, bodies: Sequence[bytes]) -> None:
        self._contract, self._bodies = contract_at(model / "training.json"), bodies
        self._features = Signature.of(self._contract)
        self._raw = RawInput.of(self._contract, self._features) or exit_with("the champion takes no raw rows")
        self._engine = load_engine(model, self._contract, 1)
        self.answers: dict[str, list[Any]] = {}

    def learn(self, state: Path) -> None:
        known = open_state(state)
        by, read = features_of(self._contract, known), Predict(self._raw.signature, "champion", "")
        write, made = Predict(self._features, "champion", ""), []
        for body in self._bodies:
            raw = RawRows(read.rows(body))
            rows = self._raw.computed(raw, by)
            request = Request("", "", "", "", 0.0, 0.0, computed=Computed(None, self._raw.told(raw)))
            content, _ = write.write(request, rows, None, score(self._engine, rows.numbers, rows.categories))
            made.append(json.loads(content)["predictions"])
        self.answers[known.as_of.isoformat(timespec="seconds").replace("+00:00", "Z")] = made


@contextmanager
def asking(port: int, bodies: Sequence[bytes], rate: float, seen: Seen) -> Iterator[None]:
    """Ask at a rate, over some connections, while the block lasts."""
    due: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    stop = threading.Event()

    def pace() -> None:
        began, count = time.monotonic(), 0
        while not stop.wait(max(0.0, began + count / rate - time.monotonic())):
            due.put(count % len(bodies))
            count += 1
        for _ in range(CLIENTS):
            due.put(None)

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        opened = time.monotonic()
        while (body := due.get()) is not None:
            status, content = 0, b""
            try:
                connection.request("POST", "/predict?features_as_of=true&features=true", bodies[body], HEADERS)
                answer = connection.getresponse()
                status, content = answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                status, content = 0, repr(error).encode()
                connection.close()
            ended = time.monotonic()
            seen.asked.append(Asked(body, opened, ended, status, content))
            opened = opened if status else ended

    threads = [threading.Thread(target=work, daemon=True) for work in (pace, *[client] * CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Server:
    """`mlops serve`, which is started again when it was killed."""

    def __init__(self, folder: Path, model: Path, state: str) -> None:
        self.port, self._folder = launch.free_port(), folder
        settings = {
            "models": {"champion": str(model)},
            "workers": 2,
            "features": {"state": state, "name": "flights"},
            "registry": {"poll_s": 0.2, "cache": str(folder / "cache")},
            "record": {"folder": str(folder / "records")},
        }
        folder.mkdir()
        (folder / "serving.yaml").write_text(yaml.safe_dump(settings))

    def start(self) -> None:
        words = [BIN / "python", "-m", "mlops_pipeline", "serve", "--config", self._folder / "serving.yaml", "--port", self.port]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                list(map(str, words)), env=environment(PYTHONPATH=str(REPOSITORY / "src")), stdout=log, stderr=log, start_new_session=True
            )
        ends = time.monotonic() + 120
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > ends:
                raise SystemExit(f"the server does not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return launch.ask(self.port, "GET", "/ready")[0] == 200
        return False

    def kill_worker(self, chance: random.Random, seen: Seen) -> None:
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self._process.pid).children()
            victim = chance.choice(own)
            seen.deaths.append(time.monotonic())
            victim.kill()

    def kill(self, seen: Seen) -> None:
        """SIGKILL to all of it, and a new one."""
        since = time.monotonic()
        seen.deaths.append(since)
        for each in (*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self._process.wait()
        self.start()
        seen.away.append((since, time.monotonic()))

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()


def killed_refreshes(
    server: Server, folder: Path, file: Path, where: str | None, victims: Sequence[str], usual_s: float, chance: random.Random, seen: Seen
) -> None:
    """One day more, with these kills at random moments of its refresh, then without."""
    for victim in victims:
        process = mlops(folder, "features", "refresh", "--input", file, where=where)
        time.sleep(chance.uniform(0.2, 1.1) * usual_s)
        if "refresh" in victim:
            process.kill()
        if "worker" in victim:
            server.kill_worker(chance, seen)
        if "server" in victim:
            server.kill(seen)
        seen.kills[victim] += 1
        process.wait()
    refreshed(folder, "--input", file, where=where)


def judged(seen: Seen, expected: Expected) -> tuple[Counter[str], list[str]]:
    counts, wrong = Counter[str](), list[str]()
    for one in seen.asked:
        if one.status == 200:
            said = json.loads(one.content)
            known = expected.answers.get(said.get("features_as_of"))
            if known is None or said["predictions"] != known[one.body]:
                wrong.append(f"body {one.body}: by a state of {said.get('features_as_of')}: {one.content[:300].decode()}")
            counts["answered"] += 1
        elif not one.status and seen.may_fail(one):
            counts["cut by a kill"] += 1
        else:
            wrong.append(f"body {one.body}: {one.status} {one.content[:300].decode(errors='replace')}")
    return counts, wrong


def asked_for() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.features_kills", description=__doc__)
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.add_argument("--project", type=Path, default=REPOSITORY, metavar="FOLDER")
    arguments.add_argument("--kills", type=int, default=12)
    arguments.add_argument("--days", type=int, default=4)
    arguments.add_argument("--rate", type=float, default=100, help="requests a second, of 8 rows each")
    arguments.add_argument("--postgresql", action="store_true", help="the state in a PostgreSQL of its own")
    arguments.add_argument("--seed", type=int, default=7)
    return arguments.parse_args()


def main() -> None:
    wanted = asked_for()
    began, chance = time.monotonic(), random.Random(wanted.seed)  # noqa: S311  # no secret
    config = wanted.project / "configs/training_config.yaml"
    model = layout_of(load_settings(config), config, wanted.project).best_model.resolve()
    with tempfile.TemporaryDirectory(prefix="mlops-kills-") as temporary, database(wanted.postgresql) as where:
        folder = Path(temporary)
        files, flights = prepared(wanted.project, folder, wanted.days)
        bodies = bodies_of(
            typed(flights.sample(ROWS * BODIES, with_replacement=True, seed=wanted.seed), contract_at(model / "training.json")),
            ROWS,
            BODIES,
        )
        expected, undisturbed, usual_s = Expected(model, bodies), folder / "undisturbed", 0.0
        for words in ((), *(("--input", file) for file in files)):
            since = time.monotonic()
            refreshed(undisturbed, *words)
            usual_s = time.monotonic() - since
            expected.learn(undisturbed / "data/state/flights")
        refreshed(folder / "killed", where=where)
        server, seen = Server(folder / "server", model, where or str(folder / "killed/data/state/flights")), Seen()
        server.start()
        victims = [VICTIMS[number % len(VICTIMS)] for number in range(wanted.kills)]
        with asking(server.port, bodies, wanted.rate, seen):
            for number, file in enumerate(files):
                killed_refreshes(server, folder / "killed", file, where, victims[number :: len(files)], usual_s, chance, seen)
            newest = max(expected.answers)
            ends = time.monotonic() + 60
            while time.monotonic() < ends and not all(newest.encode() in one.content for one in seen.asked[-20:]):
                time.sleep(0.1)
        server.end()
        counts, wrong = judged(seen, expected)
        place = StateStore(StatePlace(folder / "asked", where, "flights") if where else StatePlace(folder / "killed/data/state/flights"))
        ours, theirs = open_state(place.version() or folder), open_state(undisturbed / "data/state/flights")
        if ours.digest != theirs.digest:
            wrong.append("the state in the end is not the one that was not disturbed")
        states = Counter(json.loads(one.content)["features_as_of"] for one in seen.asked if one.status == 200)
        if newest not in {json.loads(one.content).get("features_as_of") for one in seen.asked[-20:] if one.status == 200}:
            wrong.append("the last state is not served")
    kills = ", ".join(f"{count} of {what}" for what, count in sorted(seen.kills.items()))
    told = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
    by_state = ", ".join(f"{name[:10]} {count:,}" for name, count in sorted(states.items()))
    differ = sum(len({json.dumps(each) for each in answers}) == len(files) + 1 for answers in zip(*expected.answers.values(), strict=True))
    kept = "PostgreSQL" if where else "a folder"
    print(f"{seen.kills.total()} SIGKILLs ({kills}), {len(files)} days, {time.monotonic() - began:.0f} s, the state in {kept}")
    print(f"{len(seen.asked):,} requests of {ROWS} raw flights: {told}; by state: {by_state}")
    print(f"{differ} of {BODIES} bodies are answered otherwise by each of the {len(expected.answers)} states")
    right = "every answer equals to the bit what one state gives; the state in the end is the undisturbed one's"
    print(f"{len(wrong)} wrong: {'; '.join(wrong[:5])}" if wrong else right)
    raise SystemExit(bool(wrong))


def typed(flights: pl.DataFrame, contract: Any) -> pl.DataFrame:
    kinds = {"integer": pl.Int64, "number": pl.Float64}
    return flights.select(
        pl.col(name).str.slice(0, 19).str.replace("T", " ")
        if column.kind == "datetime"
        else pl.col(name).cast(kinds.get(column.kind, pl.String))
        for name, column in contract.raw.items()
    )


def exit_with(why: str) -> NoReturn:
    raise SystemExit(why)


@contextmanager
def database(wanted: bool) -> Iterator[str | None]:
    if not wanted:
        yield None
        return
    from tests.integration_tests.conftest import postgresql_server

    with postgresql_server() as server:
        server.psql("create database features;")
        yield str(server.get_uri("features"))


if __name__ == "__main__":
    main()
