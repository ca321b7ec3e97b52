"""What a model server must survive, each as a function of how often: the tests ask for a little, `benchmarks/serving` for all of it."""

from __future__ import annotations

import http.client
import json
import math
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import Project, copied, trained, wait_for
from tests.integration_tests.clients import get, load
from tests.integration_tests.conftest import Server, mlflow_client, serving


def two_versions(folder: Path, registered: Project | None = None) -> Project:
    """A project with two versions that predict differently, the second one champion; made of a copy of one that has the first."""
    project = copied(registered, folder) if registered else trained(folder)
    project.change(train={"estimator": "lightgbm", "params": {"n_estimators": 35, "num_leaves": 7}}, gate={"champion_margin": 1.0})
    project.run()
    return project


def expected_of(project: Project) -> dict[str, list[float]]:
    """The first expected output of each version, by its number."""
    found = {}
    for version in mlflow_client(project).search_model_versions("name = 'small'"):
        content = version.tags["mlops.content_sha256"]
        folder = project.folder / "models/versions" / content[:16]
        found[str(version.version)] = json.loads((folder / "expected.json").read_text())["outputs"][0]
    return found


def promote(project: Project, version: str) -> None:
    """Move the champion's alias, as MLflow's own client does."""
    mlflow_client(project).set_registered_model_alias("small", "champion", version)


def swap(project: Project, server: Server, times: int, clients: int = 4) -> Counter[str]:
    """Swap the champion under load, so many times; how many answers came of each version, failed, or were of no single version."""
    expected = expected_of(project)
    assert len(expected) == 2, expected
    assert abs(expected["1"][0] - expected["2"][0]) > 1e-3, "the two versions must be told apart"
    body = {"records": [server.example] * 3}
    seen: Counter[str] = Counter()
    with load(f"{server.url}/predict", body, clients) as answers:
        for number in range(times):
            version = str(1 + number % 2)
            promote(project, version)
            wait_for(lambda v=version: served_version(server.url) == v, 120, f"version {version} in service")  # type: ignore[misc]
            already = len(answers.answers)
            wait_for(lambda n=already: len(answers.answers) > n + 4 * clients or answers.broken, 120, "answers")  # type: ignore[misc]
    seen["failed"] = len(answers.broken)
    for status, said in answers.answers:
        if status != 200:
            seen["failed"] += 1
            continue
        version = said["model"]["version"]
        rows = [list(row["probabilities"].values()) for row in said["predictions"]]
        pure = all(abs(a - b) < 1e-6 for row in rows for a, b in zip(row, expected[version], strict=True))
        seen[version if pure else "mixed"] += 1
    return seen


def served_version(url: str) -> str:
    return str(get(f"{url}/v2/models/champion")[1]["versions"][0])


def kill(project: Project, folder: Path, times: int, uri: str | None = None) -> tuple[int, int]:
    """SIGKILL a durable server under load, so many times; how many answers were acknowledged, and how many of them are not on record.

    Every other time its writer is killed with it, so that nothing under way is written after all.
    """
    from mlops_pipeline.records.reading import read

    acknowledged: set[str] = set()
    record = {"mode": "durable", "folder": str(folder / "records"), **({"uri": uri} if uri else {})}
    for number in range(times):
        with serving(project, folder / str(number), record=record) as server:
            with load(f"{server.url}/predict", {"records": [server.example]}, 8, prefix=f"{number}/") as seen:
                enough = random.Random(number).randint(20, 400)  # noqa: S311
                wait_for(lambda n=enough: len(seen.acknowledged) >= n, 120, "acknowledged answers")  # type: ignore[misc]
                writers = children(server.process.pid, b"records.writer") if number % 2 else ()
                together = [server.process.pid, *workers_of(server), *writers]
                for pid in together:
                    os.kill(pid, signal.SIGKILL)
                server.process.wait(120)
            acknowledged |= set(seen.acknowledged)
            recorded = read(uri or folder / "records")
            missing = acknowledged - set(recorded["request_id"])
            if missing:
                return len(acknowledged), len(missing)
    return len(acknowledged), 0


def children(pid: int, word: bytes) -> list[int]:
    """The processes that a server started, or one of those, and that have this word in their command line."""
    parents, words = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
            line = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(status.parent.name)], words[int(status.parent.name)] = int(fields[1]), line

    def descends(child: int) -> bool:
        parent = parents.get(child, 0)
        return parent == pid or (parent > 1 and descends(parent))

    return sorted(child for child in parents if word in words[child] and descends(child))


def workers_of(server: Server) -> list[int]:
    """The processes that answer: copies of the one that was started, or new ones."""
    return children(server.process.pid, b"\0serve\0") or children(server.process.pid, b"spawn_main")


def malform(server: Server, times: int, seed: int = 0) -> Counter[int]:
    """Send requests damaged in every way; how many answers came of each status. A connection that breaks counts as 599."""
    chance = random.Random(seed)  # noqa: S311
    statuses: Counter[int] = Counter()
    parts = urlsplit(server.url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)) as connection:
        for _ in range(times):
            path, headers, body = _damaged(server.example, chance)
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                statuses[answer.status] += 1
                if "json" in (answer.headers["Content-Type"] or ""):
                    json.loads(content)
            except (OSError, http.client.HTTPException):
                statuses[599] += 1
                connection.close()
    return statuses


def _damaged(row: dict[str, Any], chance: random.Random) -> tuple[str, dict[str, str], bytes]:
    names = list(row)
    tensors = [{"name": name, "shape": [1], "datatype": "BYTES" if isinstance(v, str) else "FP64", "data": [v]} for name, v in row.items()]
    path, content = chance.choice(
        [
            ("/predict", {"records": [row], "ids": ["x"]}),
            ("/invocations", {"dataframe_split": {"columns": names, "data": [list(row.values())]}}),
            ("/invocations", {"inputs": {name: [value] for name, value in row.items()}}),
            ("/v2/models/champion/infer", {"id": "7", "inputs": tensors}),
        ]
    )
    body = bytearray(json.dumps(_mutated(content, chance)).encode())
    headers = {"Content-Type": chance.choice(["application/json", "application/json", "application/json", "text/csv", "text/html", ""])}
    for _ in range(chance.choice([0, 0, 1, 3])):
        where = chance.randrange(len(body) or 1)
        body[where : where + chance.randrange(3)] = bytes(chance.randrange(256) for _ in range(chance.randrange(4)))
    if chance.random() < 0.1:
        headers["Inference-Header-Content-Length"] = chance.choice(["0", "5", "-1", "abc", "999999999999999999", str(len(body))])
    if chance.random() < 0.05:
        headers["X-Request-Id"] = "x" * chance.randrange(300)
    return path, headers, bytes(body)


STRANGE: list[Any] = [
    "\ud800",
    math.nan,
    math.inf,
    None,
    True,
    -1,
    1e308,
    10**30,
    "",
    "NaN",
    "\u0000",
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    "z" * 1000,
    0.5,
    -0.0,
]


def _mutated(value: Any, chance: random.Random) -> Any:
    """The same JSON with something in it exchanged, lost or repeated."""
    if chance.random() < 0.08:
        return chance.choice(STRANGE)
    if isinstance(value, dict):
        items = [(key, _mutated(item, chance)) for key, item in value.items() if chance.random() > 0.03]
        if chance.random() < 0.05:
            items.append((chance.choice(["more", "records", "inputs", ""]), chance.choice(STRANGE)))
        return dict(items)
    if isinstance(value, list):
        items = [_mutated(item, chance) for item in value]
        return items * 2 if chance.random() < 0.03 else items
    return value


@contextmanager
def served_for_faults(project: Project, folder: Path, **settings: Any) -> Iterator[Server]:
    """A server whose log says nothing of refusals, since thousands are meant."""
    with serving(project, folder, log={"requests": "none"}, **settings) as server:
        yield server
