"""Where rows are typed: a clone with its environment activated, servers that end with their block, a clock for each row."""

from __future__ import annotations

import json
import os
import re
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

from acceptance.promises import Unmet, expect, without_credentials

LOGIN = {"LANG", "TZ", "TERM", "TMPDIR", "XDG_RUNTIME_DIR", "NO_PROXY", "MLOPS_TEST_STRICT"}
ENGINE = {
    *("BASE_IMAGE", "DOCKER_HOST", "DOCKER_BUILDKIT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
    *("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"),
}
CERTIFICATES = {
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"),
    *("GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "NODE_EXTRA_CA_CERTS"),
}
PATIENCE = {
    *("PIP_CACHE_DIR", "PIP_DEFAULT_TIMEOUT", "PIP_TIMEOUT", "PIP_RETRIES", "PIP_DISABLE_PIP_VERSION_CHECK"),
    *("UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "NPM_CONFIG_CACHE"),
}
HASTE = {"PIP_NO_COMPILE", "BYTECODE", "BYTECODE_OF", "GOMP_SPINCOUNT"}
"""Whether an installation compiles every package, leaves it to the first import or is lent it; how long threads spin that wait."""
KEPT = LOGIN | ENGINE | CERTIFICATES | PATIENCE | HASTE
ACCESS = {
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NETRC", "NPM_CONFIG_REGISTRY", "DOCKER_CONFIG", "DOCKER_AUTH_CONFIG"),
    *("PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST", "PIP_CLIENT_CERT"),
    *("PIP_KEYRING_PROVIDER", "UV_CONFIG_FILE", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    *("UV_FIND_LINKS", "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER"),
}
"""What may hold a password, or lead to one; ``UV_INDEX_NAME_USERNAME`` and ``_PASSWORD`` too."""
TAIL = 20
WIDEST = 300
NOT_ENDED = -1000
"""Instead of an exit code, which is negative after a signal too."""


def environment(caller: Mapping[str, str], home: Path, python: Path) -> dict[str, str]:
    """What a user has who has just logged in: nothing of the caller but the system's programs, its certificates and caches."""
    kept = {name: value for name, value in caller.items() if name.upper() in KEPT or name.startswith("LC_")}
    venv = caller.get("VIRTUAL_ENV")
    path = [place for place in caller.get("PATH", os.defpath).split(os.pathsep) if not place_of_venv(place) and place != f"{venv}/bin"]
    cache = Path(caller.get("XDG_CACHE_HOME", Path(caller.get("HOME", "/nonexistent")) / ".cache"))
    caches = {"PIP_CACHE_DIR": str(cache / "pip"), "UV_CACHE_DIR": str(cache / "uv")}
    fixed = {"HOME": str(home), "PATH": os.pathsep.join(path), "PYTHON": str(python), "DVC_SITE_CACHE_DIR": str(home / ".dvc-site")}
    # Four processes of MLflow's server, each of which imports all of MLflow, answer no better than one.
    return {**caches, **kept, **fixed, "COLUMNS": "160", "MLFLOW_WORKERS": "1"}


def package_access(caller: Mapping[str, str]) -> dict[str, str]:
    """The caller's way to package indexes and images, for the rows that install: it works for them as it does for the caller."""
    there = Path(caller.get("HOME", "/nonexistent"))
    config = Path(caller.get("XDG_CONFIG_HOME", there / ".config"))
    files = {
        "PIP_CONFIG_FILE": config / "pip/pip.conf",
        "UV_CONFIG_FILE": config / "uv/uv.toml",
        "DOCKER_CONFIG": there / ".docker",
        "NETRC": there / ".netrc",
    }
    found = {name: str(file) for name, file in files.items() if file.exists()}
    return found | {name: value for name, value in caller.items() if name.upper() in ACCESS or is_login_of_index(name)}


def is_login_of_index(name: str) -> bool:
    """Whether a variable is what uv logs in with at an index of a name."""
    return name.startswith("UV_INDEX_") and name.endswith(("_USERNAME", "_PASSWORD"))


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
        return without_credentials(f"$ {self.line}\n{last_lines(self.said)}\n[exit code {self.code} after {self.seconds:.1f} s]")


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
class Session:
    """A clone in which lines are typed. ``scratch`` is a folder beside it, ``$SCRATCH`` in lines."""

    folder: Path
    scratch: Path
    environ: dict[str, str]
    access: dict[str, str] = field(default_factory=dict)
    """What only rows that install are given besides."""
    installs: bool = False
    deadline: float = float("inf")
    history: list[Typed] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """What a failed row shows besides: the last words of its servers."""
    settings: dict[str, str] = field(default_factory=dict)
    """Variables that lines of the row at work name, such as ``$PORT``."""

    def begin(self, seconds: float, *, installs: bool = False) -> None:
        """Start a row: its clock, and nothing left of the row before."""
        self.deadline, self.installs = time.monotonic() + seconds, installs
        self.history, self.words, self.settings = [], [], {}

    def left(self) -> float:
        """Seconds that the row still has."""
        return max(self.deadline - time.monotonic(), 0.1)

    def type(self, line: str, *, code: int | None = 0, folder: Path | None = None) -> Typed:
        """Type a line and wait for its end. Raises :class:`Unmet` if it ends with another code than it should, or not in time."""
        typed = self._typed(line, folder or self.folder, self.left())
        self.history.append(typed)
        expect(typed.code != NOT_ENDED, f"`{line}` had not ended after {typed.seconds:.0f} s, when the row's time was up")
        expect(code is None or typed.code == code, f"`{line}` ended with exit code {typed.code}" + (f" instead of {code}" if code else ""))
        return typed

    def tidy(self, line: str, seconds: float = 60) -> str:
        """Clean up after a row, on a clock of its own, whatever comes of it: it never hides why the row failed. What it told."""
        try:
            return self._typed(line, self.folder, seconds).told()
        except OSError as error:
            return f"$ {line}\n{error}"

    @contextmanager
    def undone_by(self, *lines: str) -> Iterator[None]:
        """Lines that undo what the block changes: typed as the row's own, and all the same where it fails, for the rows after it."""
        try:
            yield
            for line in lines:
                self.type(line)
        except Exception:
            for line in lines:
                self.tidy(line, 300)
            raise

    @contextmanager
    def serving(self, line: str, ready: str | Callable[[], object]) -> Iterator[Path]:
        """A program at work in the background until the block ends; ready once an address answers. Yields its log."""
        log = self.scratch / f"server-{len(list(self.scratch.glob('server-*')))}.log"
        with log.open("wb") as output:
            process = self._start(line, self.folder, output, output)
        is_ready = (lambda: answers(ready)) if isinstance(ready, str) else ready
        try:

            def up() -> object:
                expect(process.poll() is None, f"`{line}` ended with exit code {process.returncode} before it was ready")
                return is_ready()

            self.wait_for(up, f"an answer of `{line}`")
            yield log
        except BaseException:
            # Before it is ended: what it says as it shuts down would push out why.
            self.words.append(f"log of `{line}`:\n{last_lines(log.read_text(errors='replace'))}")
            raise
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
        return "\n\n".join([*(typed.told() for typed in self.history[-1:]), *self.words])

    def public(self, text: str) -> str:
        """A text that may leave this machine: without its passwords, and with the row's own names for its folders."""
        secret = [value for name, value in self.access.items() if is_login_of_index(name) or name.upper() == "DOCKER_AUTH_CONFIG"]
        for value in filter(None, secret):
            text = text.replace(value, "***")
        text = re.sub(r"(?m)^(Looking in (?:indexes|links): ).*", r"\1***", text)
        names = {str(self.folder): "$CLONE", str(self.scratch): "$SCRATCH", self.environ["HOME"]: "$HOME", str(Path.home()): "~"}
        for place, name in names.items():
            text = re.sub(rf"{re.escape(place)}(?![\w.-])", name.replace("\\", ""), text)
        return without_credentials(text)

    def _typed(self, line: str, place: Path, seconds: float) -> Typed:
        began = time.monotonic()
        out, err = self.scratch / ".out", self.scratch / ".err"
        with out.open("wb") as output, err.open("wb") as errors:
            process = self._start(line, place, output, errors)
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = NOT_ENDED
            finally:
                end(process)
        return Typed(line, code, out.read_text(errors="replace"), err.read_text(errors="replace"), time.monotonic() - began)

    def _start(self, line: str, place: Path, output: Any, errors: Any) -> subprocess.Popen[bytes]:
        script = f"[ ! -f .venv/bin/activate ] || . .venv/bin/activate\n{line}"
        environ = {**self.environ, **(self.access if self.installs else {}), "SCRATCH": str(self.scratch), **self.settings}
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
