"""The table of releases: what every worker looks at, and what the controller changes in whole transactions.

Transitions are only ever added. A release is as its last transition says, while its lease lasts and no worker has tripped.
"""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from mlops_pipeline import database
from mlops_pipeline.config.addresses import is_postgresql
from mlops_pipeline.database import LOCKED_S, RETURNING, NotThere, PostgreSQL, Row, add_row
from mlops_pipeline.errors import PipelineError

StateWord = Literal["running", "paused", "promoted", "aborted", "inconclusive"]
LIVE = ("running", "paused")
VERSION = 3
HEARD_S = 180.0
"""So long the word of a worker that cannot load a challenger stands: one that lives says it again sooner."""

TABLES = """
CREATE TABLE IF NOT EXISTS mlops_release_releases (
    number {serial}, model TEXT NOT NULL, champion TEXT NOT NULL, challenger TEXT NOT NULL, salt TEXT NOT NULL, unit TEXT NOT NULL,
    policy TEXT NOT NULL, made {real} NOT NULL, who TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_release_transitions (
    number {serial}, release BIGINT NOT NULL, step TEXT NOT NULL, state TEXT NOT NULL, weight {real} NOT NULL, shadow {real} NOT NULL,
    reason TEXT NOT NULL, evidence TEXT NOT NULL, made {real} NOT NULL, who TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_release_leases (release BIGINT PRIMARY KEY, holder TEXT NOT NULL, until {real} NOT NULL);
CREATE TABLE IF NOT EXISTS mlops_release_breakers (
    number {serial}, release BIGINT NOT NULL, worker TEXT NOT NULL, reason TEXT NOT NULL, made {real} NOT NULL, turn BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_release_approvals (
    number {serial}, release BIGINT NOT NULL, step TEXT NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL, made {real} NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_release_lapses (number {serial}, release BIGINT NOT NULL, since {real} NOT NULL, until {real} NOT NULL);
CREATE TABLE IF NOT EXISTS mlops_release_champions (number {serial}, model TEXT NOT NULL, version TEXT NOT NULL, made {real} NOT NULL);
CREATE TABLE IF NOT EXISTS mlops_release_unable (release BIGINT NOT NULL, worker TEXT NOT NULL, reason TEXT NOT NULL, made {real} NOT NULL);
CREATE TABLE IF NOT EXISTS mlops_release_told (number BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS mlops_release_owner (model TEXT NOT NULL);
"""
_OWNER = "SELECT model FROM mlops_release_owner"


class Release(msgspec.Struct, frozen=True, gc=False):
    """One release as a worker carries it out."""

    number: int
    model: str
    """The name in the address, such as ``champion``."""
    champion: str
    challenger: str
    """Version numbers."""
    step: str
    state: StateWord
    weight: float
    """Share of units that the challenger answers."""
    shadow: float
    """Share of requests in which the challenger is asked too, off the response path."""
    salt: str
    """Hexadecimal, for the keyed hash."""
    lease_until: float
    """In seconds since 1970; after it all traffic is the champion's, and nothing is asked in its shadow."""
    unit: str
    """``request``, ``header:NAME``, ``ids`` or ``column:NAME``."""
    turn: int = 0
    """Number of its last transition."""


class Transition(msgspec.Struct, frozen=True):
    """One change of a release, with why, and what was known then."""

    number: int
    release: int
    step: str
    state: StateWord
    weight: float
    shadow: float
    reason: str
    evidence: dict[str, Any]
    made: float
    who: str


def with_ends(transitions: Sequence[Transition], until: float = math.inf) -> Iterator[tuple[Transition, float]]:
    """Each of a release's transitions, with the moment at which the next took its place: of the last, ``until``."""
    return zip(transitions, [*(each.made for each in transitions[1:]), until], strict=True)


class Breaker(msgspec.Struct, frozen=True):
    """A worker that asks the challenger no more."""

    release: int
    worker: str
    reason: str
    made: float


class Started(msgspec.Struct, frozen=True):
    """What was decided when a release began; ``policy`` is its policy as JSON."""

    number: int
    model: str
    champion: str
    challenger: str
    policy: str
    made: float
    who: str
    salt: str
    unit: str


class Anothers(PipelineError):
    """The table holds another pipeline's releases, and will until a person mends that."""


class Table:
    """Releases in one place. Its methods may be called from several threads; each raises :class:`PipelineError` if it is away.

    ``of`` is the registered model whose releases these are; a database that is another's is refused. With ``wait_s`` nothing is made,
    which raises :class:`NotThere` where nobody has, and no statement waits longer for others.
    """

    def __init__(self, where: str | Path, of: str = "", wait_s: float | None = None) -> None:
        file, uri = Path(where), str(where) if is_postgresql(str(where)) else None
        tables = database.Tables(TABLES, VERSION, "releases", "release")
        self._database = database.opened(file, uri, tables) if wait_s is None else database.found(file, uri, tables, wait_s)
        self._lock = threading.RLock()
        self._seen: Row | None = None
        self.place = self._database.place
        if of and isinstance(self._database, PostgreSQL):
            try:
                self._refuse_anothers(of, claiming=wait_s is None)
            except PipelineError:
                self.close()
                raise

    def _refuse_anothers(self, of: str, *, claiming: bool) -> None:
        """Names in addresses and versions' numbers of two pipelines are alike: one would answer by the other's release."""
        found = self._ask(_OWNER)
        if not found and not claiming:
            return
        if not found:  # only now are others kept from writing: every worker asks this whenever it connects
            with self._writing():
                found = self._ask(_OWNER)
                if not found:
                    add_row(self._ask, "mlops_release_owner", model=of)
                    return
        if found[0][0] != of:
            raise Anothers(
                f"{self.place}: holds the releases of the registered model '{found[0][0]}', and this is '{of}': give each a "
                "database of its own under release.uri (or, if it was renamed, write so into mlops_release_owner)"
            )

    def changed(self) -> bool:
        """Whether another has written since this was last asked; true the first time. A few microseconds with SQLite."""
        with self._lock:
            if isinstance(self._database, PostgreSQL):
                [seen] = self._ask(
                    "SELECT (SELECT max(number) FROM mlops_release_transitions), (SELECT max(number) FROM mlops_release_breakers),"
                    " (SELECT max(number) FROM mlops_release_champions), (SELECT sum(until) FROM mlops_release_leases)"
                )
            else:
                [seen] = self._ask("PRAGMA data_version")
            before, self._seen = self._seen, seen
            return before != seen

    def current(self) -> dict[str, Release]:
        """The release of each model that has one under way, as workers are to carry it out."""
        rows = self._ask(
            "SELECT r.number, r.model, r.champion, r.challenger, t.step, t.state, t.weight, t.shadow, r.salt, l.until, r.unit, t.number,"
            " (SELECT count(*) FROM mlops_release_breakers AS b WHERE b.release = r.number)"
            " FROM mlops_release_releases AS r JOIN mlops_release_transitions AS t"
            " ON t.number = (SELECT max(number) FROM mlops_release_transitions WHERE release = r.number)"
            " LEFT JOIN mlops_release_leases AS l ON l.release = r.number"
            " WHERE t.state IN ('running', 'paused') ORDER BY r.number"
        )
        made = {}
        for *fields, breakers in rows:
            fields[9] = fields[9] or 0.0
            if breakers:
                fields[6] = fields[7] = 0.0  # what one worker has seen is enough for all
            made[fields[1]] = Release(*fields)
        return made

    def add_breaker(self, number: int, worker: str, reason: str) -> None:
        """A worker asks the challenger no more, and no other is to, whatever is decided on the release."""
        with self._writing():
            [(turn,)] = self._ask("SELECT coalesce(max(number), 0) FROM mlops_release_transitions WHERE release = ?", number)
            add_row(self._ask, "mlops_release_breakers", release=number, worker=worker, reason=reason, made=time.time(), turn=turn)

    def say_unable(self, number: int, worker: str, reason: str) -> None:
        """A worker does not ask the challenger now, for this reason, and tries again; for an empty one it does."""
        with self._writing():
            self._ask("DELETE FROM mlops_release_unable WHERE release = ? AND worker = ?", number, worker)
            if reason:
                said = reason.replace("\0", "\ufffd")
                add_row(self._ask, "mlops_release_unable", release=number, worker=worker, reason=said, made=time.time())

    # ------------------------------------------------------------------------------------------- the controller's side

    def start(
        self,
        model: str,
        champion: str,
        challenger: str,
        *,
        policy: str,
        unit: str,
        step: str,
        weight: float,
        shadow: float,
        reason: str,
        who: str,
        lease_until: float,
        option: str = "",
    ) -> int:
        """Begin a release with its first transition and its lease; its number. Raises :class:`PipelineError` if one is under way.

        ``option`` names the settings to a command.
        """
        now = time.time()
        with self._writing():
            self.refuse_beside_another(model, option)
            begun = {"model": model, "champion": champion, "challenger": challenger, "unit": unit, "policy": policy, "who": who}
            [(number,)] = add_row(self._ask, "mlops_release_releases", RETURNING, **begun, salt=secrets.token_hex(16), made=now)
            add_row(self._ask, "mlops_release_leases", release=number, holder="", until=lease_until)
            self._add(number, step, "running", (weight, shadow), reason, {}, who, now)
        return int(number)

    def refuse_beside_another(self, model: str, option: str = "") -> None:
        """Raise :class:`PipelineError` if a release is under way already; ``option`` names the settings to a command."""
        if (other := self.current().get(model)) is not None:
            raise PipelineError(
                f"{model}: release {other.number} of version {other.challenger} is under way: "
                f"`mlops release abort{option}` it first, or wait for its end"
            )

    def advance(
        self,
        number: int,
        after: int,
        *,
        step: str,
        state: StateWord,
        weight: float,
        shadow: float,
        reason: str,
        evidence: Mapping[str, Any],
        who: str,
    ) -> Transition | None:
        """Add a transition if ``after`` is still the last; None if somebody has decided something else meanwhile, or it has ended."""
        with self._writing():
            last = self.last(number)
            if last is None or last.number != after or last.state not in LIVE:
                return None
            self._add(number, step, state, (weight, shadow), reason, evidence, who, time.time())
            return self.last(number)

    def renew(self, number: int, holder: str, until: float) -> bool:
        """Hold the lease until a moment; false while another controller holds it. That it had lapsed is noted."""
        now = time.time()
        with self._writing():
            [(other, theirs)] = self._ask("SELECT holder, until FROM mlops_release_leases WHERE release = ?", number) or [("", 0.0)]
            if other not in ("", holder) and theirs > now:
                return False
            if 0 < theirs < now:
                add_row(self._ask, "mlops_release_lapses", release=number, since=theirs, until=now)
            self._ask("DELETE FROM mlops_release_leases WHERE release = ?", number)
            add_row(self._ask, "mlops_release_leases", release=number, holder=holder, until=until)
        return True

    def release_lease(self, number: int, holder: str) -> None:
        """A controller that leaves in order lets another go on at once; the lease itself lasts."""
        self._ask("UPDATE mlops_release_leases SET holder = '' WHERE release = ? AND holder = ?", number, holder)

    def last(self, number: int) -> Transition | None:
        """The last transition of a release."""
        found = self._transitions("release = ? ORDER BY number DESC LIMIT 1", number)
        return found[0] if found else None

    def transitions(self, number: int) -> list[Transition]:
        """All of a release, in order."""
        return self._transitions("release = ? ORDER BY number", number)

    def releases(self, model: str | None = None) -> list[Started]:
        """All releases, the newest last."""
        rows = self._ask(
            "SELECT number, model, champion, challenger, policy, made, who, salt, unit FROM mlops_release_releases ORDER BY number"
        )
        return [Started(*row) for row in rows if model in (None, row[1])]

    def started(self, number: int, option: str = "") -> Started:
        """How a release began. Raises :class:`PipelineError` for a number that none has; ``option`` names the settings to a command."""
        found = next((each for each in self.releases() if each.number == number), None)
        if found is None:
            raise PipelineError(f"release {number}: there is none: `mlops release status{option}` shows the last")
        return found

    def lease_until(self, number: int) -> float:
        """When the lease of a release ends; 0 without one."""
        rows = self._ask("SELECT until FROM mlops_release_leases WHERE release = ?", number)
        return float(rows[0][0]) if rows else 0.0

    def lapses(self, number: int) -> list[tuple[float, float]]:
        """From when to when nobody held the lease of a release, before it was taken up again."""
        return [(row[0], row[1]) for row in self._ask("SELECT since, until FROM mlops_release_lapses WHERE release = ?", number)]

    def breakers(self, number: int) -> list[Breaker]:
        """Workers that have tripped in a release."""
        rows = self._ask("SELECT release, worker, reason, made FROM mlops_release_breakers WHERE release = ? ORDER BY number", number)
        return [Breaker(*row) for row in rows]

    def unable(self, number: int) -> list[str]:
        """Why workers do not ask the challenger of a release now though they should, each reason once."""
        rows = self._ask(
            "SELECT reason FROM mlops_release_unable WHERE release = ? AND made > ? ORDER BY made", number, time.time() - HEARD_S
        )
        return list(dict.fromkeys(str(row[0]) for row in rows))

    def approve(self, number: int, step: str, who: str, reason: str) -> None:
        """A person lets a release leave a step."""
        add_row(self._ask, "mlops_release_approvals", release=number, step=step, who=who, reason=reason, made=time.time())

    def approved(self, number: int, step: str) -> str:
        """Who let a release leave a step; empty if nobody has."""
        rows = self._ask("SELECT who FROM mlops_release_approvals WHERE release = ? AND step = ? ORDER BY number", number, step)
        return str(rows[-1][0]) if rows else ""

    def champion_moved(self, model: str, version: str) -> None:
        """Have workers look at the registry at once: another version is champion there."""
        add_row(self._ask, "mlops_release_champions", model=model, version=version, made=time.time())

    def untold(self) -> list[Transition]:
        """Transitions of which no event has been told."""
        return self._transitions("number > (SELECT coalesce(max(number), 0) FROM mlops_release_told) ORDER BY number")

    def told(self, number: int) -> None:
        """All transitions up to this one have been told of."""
        with self._writing():
            self._ask("DELETE FROM mlops_release_told WHERE number < ?", number)
            add_row(self._ask, "mlops_release_told", number=number)

    def close(self) -> None:
        """Leave."""
        with self._lock:
            self._database.close()

    def _add(
        self,
        number: int,
        step: str,
        state: StateWord,
        shares: tuple[float, float],
        reason: str,
        evidence: Mapping[str, Any],
        who: str,
        now: float,
    ) -> None:
        weight, shadow = map(float, shares)
        made: dict[str, Any] = {"release": number, "step": step, "state": state, "weight": weight, "shadow": shadow}
        add_row(self._ask, "mlops_release_transitions", **made, reason=reason, evidence=json.dumps(evidence), made=now, who=who)

    def _transitions(self, condition: str, *values: Any) -> list[Transition]:
        rows = self._ask(
            "SELECT number, release, step, state, weight, shadow, reason, evidence, made, who FROM mlops_release_transitions"  # noqa: S608  # our own words
            f" WHERE {condition}",
            *values,
        )
        return [Transition(*(*row[:7], json.loads(row[7]), *row[8:])) for row in rows]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, self._database.writing():
            yield

    def _ask(self, statement: str, *values: Any) -> list[Row]:
        with self._lock:
            return self._database.ask(statement, *values)


def open_table(where: str | Path, of: str = "") -> Table:
    """The table in a SQLite file, made if it is missing, or at ``postgresql://…``, of a registered model. Raises :class:`PipelineError`."""
    return Table(where, of)


def table_there(where: str | Path, of: str = "", wait_s: float = LOCKED_S) -> Table | None:
    """The table where it is there already, for who only reads or tells: nothing is made. Raises :class:`PipelineError`."""
    try:
        return Table(where, of, wait_s)
    except NotThere:
        return None
