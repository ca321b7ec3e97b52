"""What happened: frozen values, told to listeners as it happens, and kept in a file that only grows.

A listener is a function from an event to nothing. The console, Prefect's log, the file and PostgreSQL's table are listeners;
alerts and audit follow. None of them reads text to know what happened.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from mlops_pipeline.config.pipeline import registry_uri
from mlops_pipeline.errors import one_line, without_secrets
from mlops_pipeline.files import sync
from mlops_pipeline.postgresql import connect

if TYPE_CHECKING:
    from mlops_pipeline.config.pipeline import Settings
    from mlops_pipeline.layout import Layout

CauseKind = Literal[
    "never run",
    "data",
    "settings",
    "code",
    "environment",
    "output missing",
    "output changed",
    "command",
    "forced",
    "best_model",
    "registry",
]

WAIT_S = 2.0
"""How long a writer waits for another; one that was stopped in the middle must not hold up a promotion."""

STATEMENT_MS = 5_000


def current_user() -> str:
    """Who is at work: ``MLOPS_USER``, else the system's user, else its number where that has no name."""
    stated = os.environ.get("MLOPS_USER", "").strip()
    if stated:
        return stated
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not be in its list
        return f"uid {os.getuid()}"


@dataclass(frozen=True)
class Cause:
    """One reason why a stage is stale, and the file or key behind it."""

    kind: CauseKind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


@dataclass(frozen=True)
class RuleApplied:
    """A rule of the gate as it was applied."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened: when (UTC), and who did it."""

    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    user: str = field(default_factory=current_user)


@dataclass(frozen=True, kw_only=True)
class StageBegan(Event):
    """A stage of a pipeline is about to run, or to be restored; no cause where nobody asked the cache."""

    pipeline: str
    stage: str
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StageRan(Event):
    """A stage did its work."""

    pipeline: str
    stage: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class StageSkipped(Event):
    """A stage was up to date."""

    pipeline: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class StageRestored(Event):
    """What a stage makes was brought back without running it."""

    pipeline: str
    stage: str
    source: Literal["DVC cache", "registry"]


@dataclass(frozen=True, kw_only=True)
class StageFailed(Event):
    """A stage ended in an error, or was stopped."""

    pipeline: str
    stage: str
    seconds: float
    error: str
    """The error's type."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something a person should know of, though the work goes on."""

    pipeline: str = ""
    stage: str = ""
    text: str


@dataclass(frozen=True, kw_only=True)
class GateDecided(Event):
    """The gate judged a version."""

    pipeline: str
    model: str
    version: int
    content_sha256: str
    run_id: str
    passed: bool
    rules: tuple[RuleApplied, ...]
    then: Literal["champion", "challenger", "approval"] = "champion"
    """What becomes of one that passed: approval is a person's, for which it waits."""


How = Literal["passed the gate", "promoted by hand", "approved by a person", "rolled back", "released", "moved outside"]


@dataclass(frozen=True, kw_only=True)
class ChampionChanged(Event):
    """Another version is champion now; ``former`` is None for the first. Nobody knows who moved one outside, or when."""

    pipeline: str
    model: str
    version: int
    former: int | None
    content_sha256: str
    run_id: str
    how: How
    reason: str = ""
    """A person's own words: why a version was promoted in spite of the gate."""


@dataclass(frozen=True, kw_only=True)
class VersionDecided(Event):
    """A person approved or rejected a version, whatever the gate says of it; ``user`` is who typed it."""

    pipeline: str
    model: str
    version: int
    content_sha256: str
    run_id: str
    decision: Literal["approved", "rejected"]
    by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ModelLoaded(Event):
    """A server answers with this version from now on; ``version`` is empty for a folder outside the registry."""

    name: str
    """In the URL."""
    reference: str
    version: str
    content_sha256: str
    worker: int


@dataclass(frozen=True, kw_only=True)
class ModelRefused(Event):
    """A server could not find or load what a reference means, or found it wrong."""

    name: str
    reference: str
    reason: str
    """A word, as in the server's metrics."""
    detail: str
    worker: int


@dataclass(frozen=True, kw_only=True)
class WindowCounted(Event):
    """A window of the record was measured; ``again``: with labels that have come since it was first."""

    pipeline: str
    model: str
    version: str
    since: datetime
    until: datetime
    rows: int
    labels: int
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class AlertFired(Event):
    """A rule is broken; ``key`` is the same when it ends."""

    pipeline: str
    model: str
    version: str
    rule: str
    severity: str
    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class AlertResolved(AlertFired):
    """A rule that was broken is no longer, or another version answers now."""


@dataclass(frozen=True, kw_only=True)
class RetrainingDecided(Event):
    """A rule asked for a training: it is to be started, or was held back for a reason."""

    pipeline: str
    model: str
    version: str
    rule: str
    as_of: str
    held_back: str = ""


@dataclass(frozen=True, kw_only=True)
class RetrainingEnded(Event):
    """What became of a training that a rule has asked for."""

    pipeline: str
    model: str
    rule: str
    as_of: str
    succeeded: bool
    outcome: str


@dataclass(frozen=True, kw_only=True)
class ReleaseMoved(Event):
    """A release began, went on, went back or ended; ``user`` is who decided, a person or the controller."""

    pipeline: str
    model: str
    """The name in the address."""
    release: int
    transition: int
    """Its number: what is told twice, as after a controller that was killed, has the same."""
    champion: str
    challenger: str
    """Version numbers."""
    step: str
    state: Literal["running", "paused", "promoted", "aborted", "inconclusive"]
    weight: float
    shadow: float
    reason: str


KINDS: dict[str, type[Event]] = {
    "stage_began": StageBegan,
    "stage_ran": StageRan,
    "stage_skipped": StageSkipped,
    "stage_restored": StageRestored,
    "stage_failed": StageFailed,
    "warned": Warned,
    "gate_decided": GateDecided,
    "champion_changed": ChampionChanged,
    "version_decided": VersionDecided,
    "model_loaded": ModelLoaded,
    "model_refused": ModelRefused,
    "window_counted": WindowCounted,
    "alert_fired": AlertFired,
    "alert_resolved": AlertResolved,
    "retraining_decided": RetrainingDecided,
    "retraining_ended": RetrainingEnded,
    "release_moved": ReleaseMoved,
}
"""The word for each kind of event in files and tables. A word, once used, keeps its meaning."""

_WORDS = {kind: word for word, kind in KINDS.items()}

TOLD_AGAIN = (ChampionChanged, VersionDecided)
"""What is told again where a kill left open whether it was told: each place keeps it once."""

Listener = Callable[[Event], None]


def ignored(_: Event) -> None:
    """The listener of those who do not want to know."""


def told(*listeners: Listener) -> Listener:
    """All listeners as one. One that fails keeps nothing from the others, nor from the work that is told of."""

    def tell(event: Event) -> None:
        for listener in listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # a promotion must not stop half-way for a message that did not get out
                logging.getLogger(__name__).error("%s: a listener failed: %s", _WORDS[type(event)], without_secrets(one_line(error)))

    return tell


def kept(path: Path | None, uri: str, *others: Listener) -> Listener:
    """A listener that keeps events in a file and, where ``uri`` is PostgreSQL's, in its table, and then tells the others.

    What cannot be kept is told to the others as :class:`Warned`, once until it works again, and stops nothing.
    """
    rest = told(*others)
    keepers = [_Keeper(str(path), lambda event: append(path, event), rest)] if path is not None else []
    if uri.startswith("postgres"):
        keepers.append(_Keeper("table mlops_events in PostgreSQL", _Table(uri), rest))
    return told(*keepers, rest)


def kept_for(settings: Settings, layout: Layout, *others: Listener) -> Listener:
    """:func:`kept` where a pipeline keeps its events: in its layout's file, and in its registry's PostgreSQL."""
    return kept(layout.events, registry_uri(settings, layout.default_tracking_uri), *others)


@contextmanager
def stage_told(pipeline: str, stage: str, causes: tuple[Cause, ...], tell: Listener) -> Iterator[None]:
    """Tell of a stage that runs within the block: that it begins, and that it ran or failed."""
    tell(StageBegan(pipeline=pipeline, stage=stage, causes=causes))
    began = time.perf_counter()
    try:
        yield
    except BaseException as error:
        seconds, why = round(time.perf_counter() - began, 3), without_secrets(one_line(error))
        tell(StageFailed(pipeline=pipeline, stage=stage, seconds=seconds, error=type(error).__name__, reason=why))
        raise
    tell(StageRan(pipeline=pipeline, stage=stage, seconds=round(time.perf_counter() - began, 3)))


def as_line(event: Event) -> bytes:
    """An event as one line of JSON, without the line's end."""
    content = {"event": _WORDS[type(event)], **msgspec.to_builtins(event)}
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")  # a file's name may hold bytes that are no text


def without_nul(line: str) -> str:
    """A line of JSON whose NULs, which PostgreSQL keeps in no text, are replacement characters; text that reads like one stays."""
    return re.sub(r"(?<!\\)((?:\\\\)*)\\u0000", r"\1\\ufffd", line)


def append(path: Path, event: Event) -> None:
    """Add a line to the file and see it on the disk; a line that a killed writer left half-written is ended first.

    What may be :data:`TOLD_AGAIN` is added once.

    Raises :class:`OSError`; then the file is as it was, or ends in half a line that :func:`read_events` leaves out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        alone = _locked(file)
        if isinstance(event, TOLD_AGAIN) and _is_kept(path, event):
            return
        size = os.fstat(file).st_size
        line = as_line(event) + b"\n"
        if size and os.pread(file, 1, size - 1) != b"\n":
            line = b"\n" + line
        written = os.write(file, line)
        if written < len(line):
            if alone:
                os.ftruncate(file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file)
        if not size:
            sync(path.parent)
    finally:
        os.close(file)


def read_events(path: Path) -> Iterator[Event]:
    """The events that a file holds, in the order they were written; half lines and kinds not known here are left out."""
    with path.open("rb") as lines:
        for line in lines:
            event = event_of(line)
            if event is not None:
                yield event


def _is_kept(path: Path, event: Event) -> bool:
    """Whether a file holds an event."""
    if not path.is_file():
        return False
    word = _WORDS[type(event)].encode()
    with path.open("rb") as lines:
        return any(event_of(line) == event for line in lines if word in line)


def event_of(line: bytes | str) -> Event | None:
    """The event that a line tells of; None for half a line, or a kind that is not known here."""
    try:
        content = json.loads(line)
        return msgspec.convert(content, KINDS[content["event"]])
    except (ValueError, KeyError, TypeError):
        return None


class _Keeper:
    """A way of keeping events that may fail; it says so once, and again after it has worked."""

    def __init__(self, what: str, keep: Listener, warn: Listener) -> None:
        self._what, self._keep, self._warn, self._fails = what, keep, warn, False

    def __call__(self, event: Event) -> None:
        try:
            self._keep(event)
        except Exception as error:  # noqa: BLE001  # whatever a disk or a database says
            why = error.strerror if isinstance(error, OSError) else without_secrets(one_line(str(error).strip().partition("\n")[0]))
            if not self._fails:
                self._warn(Warned(text=f"{self._what}: cannot be written ({why}): what happens now is not kept there"))
            self._fails = True
        else:
            self._fails = False


_KEPT = (
    "SELECT 1 FROM mlops_events, (SELECT %s::jsonb AS line) AS given WHERE time = (line->>'time')::timestamptz AND content = line LIMIT 1"
)
_KEEP = (
    'INSERT INTO mlops_events (time, event, "user", content)'
    " SELECT (line->>'time')::timestamptz, line->>'event', line->>'user', line FROM (SELECT %s::jsonb AS line) AS given"
)


class _Table:
    """The table in PostgreSQL: a connection an event, since there are few and a server waits months between them."""

    def __init__(self, uri: str) -> None:
        self._address = uri
        self._is_made = False

    def __call__(self, event: Event) -> None:
        line = without_nul(as_line(event).decode())
        with connect(self._address, "registry.uri", application_name="mlops events") as connection:
            connection.execute(f"SET LOCAL statement_timeout = {STATEMENT_MS}")
            if not self._is_made or isinstance(event, TOLD_AGAIN):
                connection.execute("SELECT pg_advisory_xact_lock(7216450914)")
            if not self._is_made:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS mlops_events (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                    ' time timestamptz NOT NULL, event text NOT NULL, "user" text NOT NULL, content jsonb NOT NULL)'
                )
            if not (isinstance(event, TOLD_AGAIN) and connection.execute(_KEPT, [line]).fetchone()):
                connection.execute(_KEEP, [line])
        self._is_made = True


def _locked(file: int) -> bool:
    """Whether this process is the only writer now; after some seconds it writes all the same, as appending by itself is whole."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return False
        else:
            return True
