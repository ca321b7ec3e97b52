"""What the watching job knows: windows, labels, alerts, what is to be delivered, retrainings; changed in whole transactions."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.database import RETURNING, Database, add_row, nothing
from mlops_pipeline.monitoring.database import opened
from mlops_pipeline.monitoring.measured import Measured, measured_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


@dataclass(frozen=True)
class Window:
    """One window of one version as it was last computed. ``stale``: labels have come since."""

    number: int
    model: str
    version: str
    since: float
    until: float
    requests: int
    labels_until: int
    stale: bool
    enough: bool
    figures: Mapping[str, float | None]
    measured: str
    """Empty where only figures were asked for."""

    @property
    def detail(self) -> Measured:
        """Its columns, slices and notes too."""
        return measured_of(json.loads(self.measured))


@dataclass(frozen=True)
class Label:
    """What came of one prediction: which, the value as JSON, when it happened if the label says so, and when it came."""

    number: int
    kind: str
    name: str
    place: int
    moment: float
    value: Any
    happened: float | None
    received: float


@dataclass(frozen=True)
class AlertRow:
    """An alert with its life; ``message`` is an ``alerts.alert.Alert`` as JSON."""

    number: int
    rule: str
    model: str
    version: str
    state: str
    message: str
    began: float
    made: float
    ended: float | None


@dataclass(frozen=True)
class Retraining:
    """A training that was asked for: ``state`` is waiting, started, done, failed or held back.

    ``part`` was the last window then, ``evidence`` the one that broke the rule, which may be older, as labels come late.
    """

    number: int
    part: int
    evidence: int
    rule: str
    model: str
    version: str
    as_of: str
    state: str
    made: float
    due: float
    ended: float | None
    identity: str
    outcome: str


@dataclass(frozen=True)
class Silence:
    """Nobody is told of a rule (``*``: of any) of a model until then."""

    rule: str
    model: str
    made: float
    until: float
    who: str
    why: str


@dataclass(frozen=True)
class Shown:
    """What the job has made for others to show: when (seconds since 1970), and the text."""

    made: float
    content: str


LABELS_AT_ONCE = 100_000
"""As many are held in memory where all are looked through."""
ASKED_AT_ONCE = 1000

OWNER = "pipeline"
"""The switch that says whose memory it is."""

_WINDOW = "number, model, version, since, until, requests, labels_until, stale, enough, figures"
_ALERT = "number, rule, model, version, state, message, began, made, ended"
_RETRAINING = "number, part, evidence, rule, model, version, as_of, state, made, due, ended, identity, outcome"
_LABEL = "number, kind, name, place, moment, value, happened, received"


def digest(kind: str, name: str) -> int:
    """What a window keeps of a prediction's name, to tell whether a label may be of it."""
    return zlib.crc32(f"{kind}\0{name}".encode("utf-8", "surrogatepass"))


class WatchState:
    """The job's memory. Reading needs no transaction; what changes is within :meth:`writing`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._ask = database.ask

    @contextmanager
    def writing(self, before: Callable[[], object] = nothing) -> Iterator[None]:
        """A transaction in which no other process writes; what is done ``before`` may touch temporary tables alone."""
        with self.database.writing(before):
            yield

    def close(self) -> None:
        """Leave the database."""
        self.database.close()

    # ----------------------------------------------------------------------------------------------------- windows

    def ended(self, model: str) -> float | None:
        """Until when the record of a model is counted; None at the beginning."""
        found = self._ask("SELECT until FROM mlops_monitor_ends WHERE model = ?", model)
        return float(found[0][0]) if found else None

    def end(self, model: str, until: float) -> None:
        """Say until when it is counted now."""
        add_row(self._ask, "mlops_monitor_ends", "ON CONFLICT (model) DO UPDATE SET until = excluded.until", model=model, until=until)

    def add(
        self,
        model: str,
        version: str,
        span: tuple[float, float],
        requests: int,
        measured: Measured,
        keys: bytes,
        labels_until: int,
        now: float,
    ) -> int:
        """Add a window; its number."""
        of = {"model": model, "version": version, "since": span[0], "until": span[1], "requests": requests}
        found = {"keys": keys, "labels_until": labels_until, **_kept(measured, now)}
        [(number,)] = add_row(self._ask, "mlops_monitor_windows", RETURNING, **of, **found)
        return int(number)

    def replace(self, window: Window, measured: Measured, now: float) -> bool:
        """Put what was computed again in a window's place, if nobody has found more labels for it meanwhile."""
        return self._put("labels_until = ?", window, window.labels_until, **_kept(measured, now))

    def recount(self, window: Window, requests: int, measured: Measured, keys: bytes, labels_until: int, now: float) -> bool:
        """Put a window's figures with the rows that came late in its place, if nobody else has."""
        found = {"requests": requests, "keys": keys, "labels_until": labels_until, **_kept(measured, now)}
        return self._put("requests = ?", window, window.requests, **found)

    def _put(self, still: str, window: Window, value: int, **columns: Any) -> bool:
        """Write columns of a window anew, if a condition on it holds still."""
        terms = ", ".join(f"{name} = ?" for name in columns)
        statement = f"UPDATE mlops_monitor_windows SET {terms} WHERE number = ? AND {still} RETURNING number"  # noqa: S608  # our own words
        return bool(self._ask(statement, *columns.values(), window.number, value))

    def order(self, numbers: Sequence[int]) -> None:
        """Say in which order windows of one time come, those of whoever answered last at the end."""
        self.database.many(
            "INSERT INTO mlops_monitor_places (number, place) VALUES (?, ?) ON CONFLICT (number) DO UPDATE SET place = excluded.place",
            list(zip(numbers, sorted(numbers), strict=True)),
        )

    def as_it_is(self, window: Window) -> None:
        """Leave a window as it was first computed, though labels have come: it cannot be computed any more."""
        self._ask("UPDATE mlops_monitor_windows SET stale = 0 WHERE number = ?", window.number)

    def windows(
        self,
        model: str | None = None,
        *,
        version: str | None = None,
        number: int | None = None,
        stale: bool | None = None,
        made_since: float | None = None,
        ended_since: float | None = None,
        ended_by: float | None = None,
        labels_before: int | None = None,
        last: int = 0,
        details: bool = True,
    ) -> list[Window]:
        """Windows, oldest first, those computed or ended from a moment on, or that labels up to a number were not all held against;
        only the ``last`` so many if it is not 0. Without ``details`` they have their figures alone: of a year's windows the rest is large.

        Of one time they are in the order in which their versions last answered, whenever each was counted.
        """
        where, values = ["1 = 1"], []
        wanted = {
            "model = ?": model,
            "version = ?": version,
            "number = ?": number,
            "stale = ?": None if stale is None else int(stale),
            "made >= ?": made_since,
            "until >= ?": ended_since,
            "until <= ?": ended_by,
            "labels_until < ?": labels_before,
        }
        for term, value in wanted.items():
            if value is not None:
                where.append(term)
                values.append(value)
        limit = f" LIMIT {last}" if last else ""
        place = "COALESCE((SELECT place FROM mlops_monitor_places AS late WHERE late.number = mlops_monitor_windows.number), number)"
        order = f"ORDER BY until DESC, {place} DESC{limit}"
        measured = "measured" if details else "''"
        statement = f"SELECT {_WINDOW}, {measured} FROM mlops_monitor_windows WHERE {' AND '.join(where)} {order}"  # noqa: S608  # our own words
        return [_window(row) for row in reversed(self._ask(statement, *values))]

    def window_counts(self) -> dict[tuple[str, str], int]:
        """How many windows there are of each model and version."""
        rows = self._ask("SELECT model, version, count(*) FROM mlops_monitor_windows GROUP BY model, version")
        return {(str(model), str(version)): int(count) for model, version, count in rows}

    def table(self, model: str | None = None) -> pl.DataFrame:
        """Windows × figures, oldest first: ``number``, ``model``, ``version``, ``since``, ``until`` (UTC), ``requests``, ``enough``, and a
        column (Float64) for every figure that any window has.
        """
        import polars as pl

        windows = self.windows(model, details=False)
        names = list(dict.fromkeys(name for window in windows for name in window.figures))
        moments = {
            name: pl.Series([round(getattr(window, name) * 1e6) for window in windows], dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
            for name in ("since", "until")
        }
        return pl.DataFrame(
            {
                "number": pl.Series([window.number for window in windows], dtype=pl.Int64),
                "model": pl.Series([window.model for window in windows], dtype=pl.String),
                "version": pl.Series([window.version for window in windows], dtype=pl.String),
                **moments,
                "requests": pl.Series([window.requests for window in windows], dtype=pl.Int64),
                "enough": pl.Series([window.enough for window in windows], dtype=pl.Boolean),
                **{name: pl.Series([window.figures.get(name) for window in windows], dtype=pl.Float64) for name in names},
            }
        )

    # ------------------------------------------------------------------------------------------------------ labels

    def newest_label(self) -> int:
        """The number of the label that came last; 0 without one."""
        return int(self._ask("SELECT coalesce(max(number), 0) FROM mlops_monitor_labels")[0][0])

    def labels_after(self, number: int, received: float) -> list[Label]:
        """Labels with a higher number, that came from a moment on."""
        return [label for labels in self.labels_in_parts(number, received) for label in labels]

    def labels_in_parts(self, number: int, received: float, most: int = LABELS_AT_ONCE) -> Iterator[list[Label]]:
        """The same, in the order of their numbers, at most so many at a time."""
        asked = f"SELECT {_LABEL} FROM mlops_monitor_labels WHERE number > ? AND received >= ? ORDER BY number LIMIT {most}"  # noqa: S608  # our own words
        while labels := [_label(row) for row in self._ask(asked, number, received)]:
            yield labels
            number = labels[-1].number

    def labels_numbered(self, numbers: Sequence[int]) -> list[Label]:
        """Those of these rising numbers that are kept still."""
        found: list[Label] = []
        for place in range(0, len(numbers), ASKED_AT_ONCE):
            some = numbers[place : place + ASKED_AT_ONCE]
            asked = f"SELECT {_LABEL} FROM mlops_monitor_labels WHERE number IN ({', '.join('?' for _ in some)}) ORDER BY number"  # noqa: S608  # our own words
            found += [_label(row) for row in self._ask(asked, *some)]
        return found

    def labels_of(self, part: int) -> list[Label]:
        """Labels of a window's rows."""
        columns = ", ".join(f"labels.{name}" for name in _LABEL.split(", "))
        asked = (
            f"SELECT {columns} FROM mlops_monitor_matches JOIN mlops_monitor_labels AS labels ON labels.number = label"  # noqa: S608  # our own words
            " WHERE part = ? ORDER BY labels.number"
        )
        return [_label(row) for row in self._ask(asked, part)]

    def keys_of(self, part: int) -> np.ndarray:
        """The digests of a window's predictions: uint32."""
        import numpy as np

        [(keys,)] = self._ask("SELECT keys FROM mlops_monitor_windows WHERE number = ?", part)
        return np.frombuffer(bytes(keys), "<u4")

    def match(self, part: int, labels: Iterable[int]) -> None:
        """Keep which labels are of a window's rows."""
        rows = [(label, part) for label in labels]
        self.database.many("INSERT INTO mlops_monitor_matches (label, part) VALUES (?, ?) ON CONFLICT DO NOTHING", rows)

    def tried(self, part: int, labels_until: int, *, stale: bool) -> None:
        """Labels up to a number have been held against a window; with ``stale`` some were its own."""
        extra = ", stale = 1" if stale else ""
        statement = f"UPDATE mlops_monitor_windows SET labels_until = ?{extra} WHERE number = ? AND labels_until < ?"  # noqa: S608  # our own words
        self._ask(statement, labels_until, part, labels_until)

    def label_counts(self) -> dict[str, int]:
        """How many labels there are, and how many of them are of no window yet."""
        # Two sets side by side, whatever their size: to look each label up in the other is what PostgreSQL would do row by row.
        [(known, matched)] = self._ask(
            "SELECT (SELECT count(*) FROM mlops_monitor_labels), (SELECT count(*) FROM mlops_monitor_labels AS labels"
            " JOIN (SELECT DISTINCT label FROM mlops_monitor_matches) AS matches ON matches.label = labels.number)"
        )
        return {"known": int(known), "unmatched": int(known) - int(matched)}

    # ------------------------------------------------------------------------------------------------------ alerts

    def alerts(self, state: str | None = None, last: int = 0) -> list[AlertRow]:
        """Alerts, oldest first."""
        where, values = ("WHERE state = ?", [state]) if state else ("", [])
        limit = f" LIMIT {last}" if last else ""
        statement = f"SELECT {_ALERT} FROM mlops_monitor_alerts {where} ORDER BY number DESC{limit}"  # noqa: S608  # our own words
        return [AlertRow(*row) for row in reversed(self._ask(statement, *values))]

    def raise_alert(self, rule: str, model: str, version: str, message: str, began: float, now: float) -> int:
        """Add an alert; its number."""
        of = {"rule": rule, "model": model, "version": version, "state": "firing"}
        [(number,)] = add_row(self._ask, "mlops_monitor_alerts", RETURNING, **of, message=message, began=began, made=now)
        return int(number)

    def change_alert(self, number: int, message: str, ended: float | None = None) -> None:
        """Say something else of an alert, or that it has ended."""
        state = "firing" if ended is None else "resolved"
        self._ask("UPDATE mlops_monitor_alerts SET state = ?, message = ?, ended = ? WHERE number = ?", state, message, ended, number)

    def post(self, alert: int, channel: str, kind: str, message: str, now: float) -> None:
        """Put a message into the outbox, once for each alert, channel and kind."""
        of = {"alert": alert, "channel": channel, "kind": kind}
        add_row(self._ask, "mlops_monitor_outbox", "ON CONFLICT DO NOTHING", **of, message=message, due=now, attempts=0, problem="")

    def posted_to(self, alert: int) -> list[str]:
        """The channels that are told, or to be told, that an alert fires."""
        return [
            str(channel) for (channel,) in self._ask("SELECT channel FROM mlops_monitor_outbox WHERE alert = ? AND kind = 'firing'", alert)
        ]

    def undelivered(self, now: float, repeating: Sequence[str] = ()) -> list[tuple[int, int, str, str, str, float]]:
        """What is to be sent now, oldest first: number, alert, channel, kind, message, due. What repeats is due again while it fires."""
        signs = ", ".join("?" for _ in repeating) or "NULL"
        return self._ask(  # these columns
            "SELECT outbox.number, alert, channel, kind, CASE WHEN sent IS NULL THEN outbox.message ELSE alerts.message END, due"  # noqa: S608  # our own words
            " FROM mlops_monitor_outbox AS outbox JOIN mlops_monitor_alerts AS alerts ON alerts.number = alert WHERE due <= ?"
            f" AND (sent IS NULL OR (kind = 'firing' AND state = 'firing' AND channel IN ({signs}))) ORDER BY outbox.number",
            now,
            *repeating,
        )

    def claim(self, number: int, due: float, now: float, until: float) -> bool:
        """Take a message for oneself until then; whether nobody else had, and it is its turn.

        The end of an alert waits until its beginning is through and nobody is at it; what has ended is not repeated.
        """
        done = self._ask(
            "UPDATE mlops_monitor_outbox AS mine SET due = ?, attempts = attempts + 1 WHERE number = ? AND due = ?"
            " AND NOT (kind = 'resolved' AND EXISTS (SELECT 1 FROM mlops_monitor_outbox AS earlier WHERE earlier.alert = mine.alert"
            " AND earlier.channel = mine.channel AND earlier.kind = 'firing'"
            " AND (earlier.sent IS NULL OR (earlier.attempts > 0 AND earlier.due > ?))))"
            " AND (sent IS NULL OR EXISTS (SELECT 1 FROM mlops_monitor_alerts AS alerts WHERE alerts.number = alert AND state = 'firing'))"
            " RETURNING number",
            until, number, due, now,
        )  # fmt: skip
        return bool(done)

    def sent(self, number: int, now: float, due: float) -> None:
        """A message has got through; ``due`` is when to send it again, if it repeats."""
        self._ask("UPDATE mlops_monitor_outbox SET sent = ?, due = ?, attempts = 0, problem = '' WHERE number = ?", now, due, number)

    def not_sent(self, number: int, due: float, problem: str) -> None:
        """A message has not got through."""
        self._ask("UPDATE mlops_monitor_outbox SET due = ?, problem = ? WHERE number = ?", due, problem, number)

    def waiting(self) -> list[tuple[str, int, str]]:
        """By channel: how many messages have not got through, and why the last has not."""
        found: dict[str, tuple[int, str]] = {}
        for channel, problem in self._ask("SELECT channel, problem FROM mlops_monitor_outbox WHERE sent IS NULL ORDER BY number"):
            count, last = found.get(channel, (0, ""))
            found[channel] = (count + 1, problem or last)
        return [(channel, count, problem) for channel, (count, problem) in found.items()]

    def silence(self, rule: str, model: str, until: float, who: str, why: str, now: float) -> None:
        """Let nobody be told of a rule until then; one that has passed ends those before it."""
        add_row(self._ask, "mlops_monitor_silences", rule=rule, model=model, made=now, until=until, who=who, why=why)

    def silences(self, now: float) -> list[Silence]:
        """Those that hold: of each rule and model the last one, if it has not passed."""
        rows = self._ask("SELECT rule, model, made, until, who, why FROM mlops_monitor_silences ORDER BY number")
        last = {(row[0], row[1]): Silence(*row) for row in rows}
        return [each for each in last.values() if each.until > now]

    # -------------------------------------------------------------------------------------------------- retrainings

    def ask_retraining(self, asked: Retraining) -> None:
        """Keep that a training was asked for; its number is given here."""
        add_row(self._ask, "mlops_monitor_retrainings", **{name: value for name, value in vars(asked).items() if name != "number"})

    def retrainings(self, *states: str, last: int = 0) -> list[Retraining]:
        """Those in these states, or all, oldest first."""
        where = f"WHERE state IN ({', '.join('?' for _ in states)})" if states else ""
        limit = f" LIMIT {last}" if last else ""
        statement = f"SELECT {_RETRAINING} FROM mlops_monitor_retrainings {where} ORDER BY number DESC{limit}"  # noqa: S608  # our own words
        return [Retraining(*row) for row in reversed(self._ask(statement, *states))]

    def take(self, number: int, due: float, until: float) -> bool:
        """Start a training, or go on with one whose starter is gone; whether nobody else has, until when it is one's own."""
        done = self._ask(
            "UPDATE mlops_monitor_retrainings SET state = 'started', due = ?"
            " WHERE number = ? AND due = ? AND ended IS NULL RETURNING number",
            until, number, due,
        )  # fmt: skip
        return bool(done)

    def hold(self, number: int, until: float) -> None:
        """Say that a training goes on."""
        self._ask("UPDATE mlops_monitor_retrainings SET due = ? WHERE number = ? AND ended IS NULL", until, number)

    def finish(self, number: int, state: str, outcome: str, now: float) -> None:
        """Say what became of a training."""
        self._ask("UPDATE mlops_monitor_retrainings SET state = ?, outcome = ?, ended = ? WHERE number = ?", state, outcome, now, number)

    def show(self, name: str, content: str, now: float) -> None:
        """Put a text there for others to show, in the place of the one before."""
        anew = "ON CONFLICT (name) DO UPDATE SET made = excluded.made, content = excluded.content"
        add_row(self._ask, "mlops_monitor_shown", anew, name=name, made=now, content=content)

    def shown_names(self) -> dict[str, float]:
        """What there is to show, and when each was made."""
        return {str(name): float(made) for name, made in self._ask("SELECT name, made FROM mlops_monitor_shown")}

    def shown(self, name: str) -> Shown | None:
        """What there is to show under a name."""
        found = self._ask("SELECT made, content FROM mlops_monitor_shown WHERE name = ?", name)
        return Shown(float(found[0][0]), str(found[0][1])) if found else None

    def owner(self, pipeline: str, who: str, now: float) -> str:
        """The pipeline whose memory this is: the one that asks, if it was nobody's before."""
        if not self.switched(OWNER)[0]:
            with self.writing():
                if not self.switched(OWNER)[0]:
                    self.switch(OWNER, pipeline, who, "", now)
        return self.switched(OWNER)[0]

    def switch(self, name: str, value: str, who: str, why: str, now: float) -> None:
        """Set a switch."""
        add_row(self._ask, "mlops_monitor_switches", name=name, value=value, made=now, who=who, why=why)

    def switched(self, name: str) -> tuple[str, str, str]:
        """A switch's value, who set it and why; empty where nobody has."""
        found = self._ask("SELECT value, who, why FROM mlops_monitor_switches WHERE name = ? ORDER BY number DESC LIMIT 1", name)
        return (str(found[0][0]), str(found[0][1]), str(found[0][2])) if found else ("", "", "")


def state_at(file: Path, uri: str | None = None) -> WatchState:
    """The memory in a file, or at PostgreSQL's address; made if it is missing. Raises :class:`PipelineError`."""
    return WatchState(opened(file, uri))


def _kept(measured: Measured, now: float) -> dict[str, Any]:
    """What is kept of a window's figures, by the columns of its row."""
    figures = {name: None if value is None or math.isnan(value) else value for name, value in measured.figures.items()}
    whole = msgspec.json.encode(measured).decode().replace("\\u0000", "\\ufffd")
    counts = {"rows": measured.rows, "labels": measured.labels, "enough": int(measured.enough)}
    return {**counts, "made": now, "stale": 0, "figures": json.dumps(figures), "measured": whole}


def _window(row: Sequence[Any]) -> Window:
    number, model, version, since, until, requests, labels_until, stale, enough, figures, measured = row
    return Window(number, model, version, since, until, requests, labels_until, bool(stale), bool(enough), json.loads(figures), measured)


def _label(row: Sequence[Any]) -> Label:
    number, kind, name, place, moment, value, happened, received = row
    return Label(number, kind, name, place, moment, json.loads(value), happened, received)
