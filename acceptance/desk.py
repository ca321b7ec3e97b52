"""Where rows are typed: a clone with its environment activated, servers that end with their block, a clock for each row."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acceptance.rows import Unmet, expect

KEPT = ("LANG", "TZ", "TERM", "TMPDIR", "BASE_IMAGE", "CONTAINERS_CONF", "XDG_RUNTIME_DIR", "MLOPS_TEST_STRICT")
KEPT_PREFIXES = ("LC_", "PIP_", "UV_", "DOCKER_", "SSL_", "GIT_SSL_", "NODE_EXTRA_CA_", "NPM_CONFIG_")
KEPT_ENDINGS = ("_PROXY", "_CA_BUNDLE")
TAIL = 20
WIDEST = 300


def environment(caller: Mapping[str, str], home: Path, python: Path) -> dict[str, str]:
    """What a user has who has just logged in: nothing of the caller but the system's programs and the way to package indexes."""
    kept = {
        name: value
        for name, value in caller.items()
        if name in KEPT or name.upper().startswith(KEPT_PREFIXES) or name.upper().endswith(KEPT_ENDINGS)
    }
    venv = caller.get("VIRTUAL_ENV")
    path = [place for place in caller.get("PATH", os.defpath).split(os.pathsep) if not place_of_venv(place) and place != f"{venv}/bin"]
    there = Path(caller.get("HOME", "/nonexistent"))
    # Installing reads settings and caches of the caller, and so works as it does for the caller; nothing else does.
    config, cache = Path(caller.get("XDG_CONFIG_HOME", there / ".config")), Path(caller.get("XDG_CACHE_HOME", there / ".cache"))
    files = {"PIP_CONFIG_FILE": config / "pip/pip.conf", "UV_CONFIG_FILE": config / "uv/uv.toml", "DOCKER_CONFIG": there / ".docker"}
    found = {name: str(file) for name, file in files.items() if file.exists()}
    caches = {"PIP_CACHE_DIR": str(cache / "pip"), "UV_CACHE_DIR": str(cache / "uv")}
    fixed = {"HOME": str(home), "PATH": os.pathsep.join(path), "PYTHON": str(python), "DVC_SITE_CACHE_DIR": str(home / ".dvc-site")}
    return {**found, **caches, **kept, **fixed, "COLUMNS": "160"}


def place_of_venv(place: str) -> bool:
    """Whether a folder of the path belongs to a virtual environment."""
    return (Path(place).parent / "pyvenv.cfg").is_file()


def base_python() -> Path:
    """The interpreter behind this one, if this one is a virtual environment's."""
    return Path(getattr(sys, "_base_executable", sys.executable))


def last_lines(text: str, lines: int = TAIL) -> str:
    """The last lines of a text that are not empty, none of them endless."""
    return "\n".join([line[:WIDEST] for line in text.splitlines() if line.strip()][-lines:])


@dataclass(frozen=True)
class Typed:
    """A command that has ended."""

    line: str
    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> str:
        """Both outputs."""
        return f"{self.out}\n{self.err}"

    def told(self) -> str:
        """The line, how it ended, and its last words."""
        return f"$ {self.line}\n{last_lines(self.said)}\n[exit code {self.code} after {self.seconds:.1f} s]"


@dataclass(frozen=True)
class Answer:
    """What a server answered over HTTP."""

    status: int
    text: str

    def json(self) -> Any:
        """The answer as JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            raise Unmet(f"HTTP {self.status}, and no JSON: {self.text[:200]}") from None


def ask(url: str, body: Any = None, **headers: str) -> Answer:
    """One request, POST if there is a body; whatever its status. Raises OSError where nobody answers."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})  # noqa: S310  # our own loopback address
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(errors="replace"))


def answers(url: str) -> bool:
    """Whether a server answers with 200."""
    try:
        return ask(url).status == 200
    except OSError:
        return False


@dataclass
class Desk:
    """A clone in which lines are typed. ``scratch`` is a folder beside it, ``$SCRATCH`` in lines."""

    folder: Path
    scratch: Path
    environ: dict[str, str]
    deadline: float = float("inf")
    history: list[Typed] = field(default_factory=list)
    logs: list[tuple[str, Path]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    """Variables that lines of the row at work name, such as ``$PORT``."""

    def begin(self, seconds: float) -> None:
        """Start a row: its clock, and nothing left of the row before."""
        self.deadline = time.monotonic() + seconds
        self.history, self.logs, self.settings = [], [], {}

    def left(self) -> float:
        """Seconds that the row still has."""
        return max(self.deadline - time.monotonic(), 0.1)

    def type(self, line: str, *, code: int | None = 0, folder: Path | None = None) -> Typed:
        """Type a line and wait for its end. Raises :class:`Unmet` if it ends with another code than it should, or not in time."""
        place, began = folder or self.folder, time.monotonic()
        out, err = self.scratch / ".out", self.scratch / ".err"
        with out.open("wb") as output, err.open("wb") as errors:
            process = self._start(line, place, output, errors)
            try:
                ended: int | None = process.wait(self.left())
            except subprocess.TimeoutExpired:
                ended = None
            finally:
                end(process)
        seconds = time.monotonic() - began
        typed = Typed(line, -1 if ended is None else ended, out.read_text(errors="replace"), err.read_text(errors="replace"), seconds)
        self.history.append(typed)
        expect(ended is not None, f"`{line}` had not ended after {seconds:.0f} s, when the row's time was up")
        expect(code is None or ended == code, f"`{line}` ended with exit code {ended}" + (f" instead of {code}" if code else ""))
        return typed

    @contextmanager
    def serving(self, line: str, ready: str | Callable[[], object]) -> Iterator[Path]:
        """A program at work in the background until the block ends; ready once an address answers. Yields its log."""
        log = self.scratch / f"server-{len(list(self.scratch.glob('server-*')))}.log"
        self.logs.append((line, log))
        with log.open("wb") as output:
            process = self._start(line, self.folder, output, output)
        is_ready = (lambda: answers(ready)) if isinstance(ready, str) else ready
        try:

            def up() -> object:
                expect(process.poll() is None, f"`{line}` ended with exit code {process.returncode} before it was ready")
                return is_ready()

            self.wait_for(up, f"an answer of `{line}`")
            yield log
        finally:
            end(process)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds, as long as the row has time."""
        pause = threading.Event()
        while not condition():
            expect(time.monotonic() < self.deadline, f"{what} did not come about in the row's time")
            pause.wait(0.2)

    def port(self, name: str = "PORT") -> int:
        """A free port on loopback, under a name that lines use."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            number = int(probe.getsockname()[1])
        self.settings[name] = str(number)
        return number

    def python(self, code: str) -> Any:
        """What a few lines of Python in the clone's environment print last, as JSON: it has readers that this one lacks."""
        return json.loads(self.type(f"python -c {shlex.quote(code)}").out.splitlines()[-1])

    def read_yaml(self, path: str) -> list[Any]:
        """Every document of a YAML file."""
        return list(
            self.python(f"import json, yaml; print(json.dumps(list(yaml.safe_load_all(open({path!r}, encoding='utf-8'))), default=str))")
        )

    def read_json(self, path: str) -> Any:
        """A JSON file of the clone."""
        file = self.folder / path
        expect(file.is_file(), f"{path} is not there")
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise Unmet(f"{path} is no JSON: {error}") from None

    def tracked(self, *paths: str) -> list[str]:
        """The files that Git keeps under paths."""
        return self.type(f"git ls-files -- {shlex.join(paths)}").out.split()

    def detail(self) -> str:
        """What a failed row shows: its last line with its last words, and the last words of its servers."""
        parts = [typed.told() for typed in self.history[-1:]]
        parts += [f"log of `{line}`:\n{last_lines(log.read_text(errors='replace'))}" for line, log in self.logs if log.exists()]
        return "\n\n".join(parts)

    def _start(self, line: str, place: Path, output: Any, errors: Any) -> subprocess.Popen[bytes]:
        script = f"[ ! -f .venv/bin/activate ] || . .venv/bin/activate\n{line}"
        environ = {**self.environ, "SCRATCH": str(self.scratch), **self.settings}
        return subprocess.Popen(
            ["bash", "-c", script], cwd=place, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it started: asked first, then made to."""
    for number, patience in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        deadline, pause = time.monotonic() + patience, threading.Event()
        while time.monotonic() < deadline:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return
            pause.wait(0.1)
