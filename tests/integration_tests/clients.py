"""Clients of the model server for tests: one request, or steady load that remembers every answer."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


def post(url: str, body: Any, content_type: str = "application/json", **headers: str) -> tuple[int, Any, Any]:
    """Status, JSON and headers of an answer, whatever its status."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return fetched(urllib.request.Request(url, data, {"Content-Type": content_type, **headers}))


def get(url: str, **headers: str) -> tuple[int, Any, Any]:
    """Status, content (JSON where it is) and headers of an answer, whatever its status."""
    return fetched(urllib.request.Request(url, headers=headers))


def fetched(request: urllib.request.Request) -> tuple[int, Any, Any]:
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:  # our own loopback address
            status, content, headers = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, content, headers = error.code, error.read(), error.headers
    is_json = "json" in (headers.get("Content-Type") or "")
    return status, json.loads(content) if is_json and content else content, headers


def metric(url: str, name: str, headers: dict[str, str] | None = None, /, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    from prometheus_client.parser import text_string_to_metric_families

    text = get(f"{url}/metrics", **(headers or {}))[1].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@dataclass
class Load:
    """What steady clients saw: each answer's status and content, and what broke."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    def statuses(self) -> set[int]:
        return {status for status, _ in self.answers}


@contextmanager
def load(
    url: str, body: Any, clients: int = 4, *, prefix: str = "", headers: dict[str, str] | None = None, pause_s: float = 0.0
) -> Iterator[Load]:
    """Clients that ask one after the other until the block ends, each request under an id of its own, after a pause."""
    seen, stop = Load(), threading.Event()
    content = json.dumps(body).encode()
    parts = urlsplit(url)

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        count = 0
        while not stop.wait(pause_s):
            count += 1
            name = f"{prefix}{number}-{count}"
            try:
                connection.request(
                    "POST", parts.path, content, {"Content-Type": "application/json", "X-Request-Id": name, **(headers or {})}
                )
                answer = connection.getresponse()
                said = json.loads(answer.read())
                seen.answers.append((answer.status, said))
                if answer.status == 200:
                    seen.acknowledged.append(name)
            except (OSError, http.client.HTTPException, ValueError) as error:
                seen.broken.append(error)
                return

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)
