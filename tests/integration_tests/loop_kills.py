"""The loop killed at random moments, in what it does of each kind, and what must hold all the same when it has come to its end."""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from mlops_pipeline.events import ignored
from mlops_pipeline.monitoring.job import run
from mlops_pipeline.monitoring.labels import add_labels
from mlops_pipeline.monitoring.state import WatchState
from mlops_pipeline.monitoring.watched import Watched, watched
from mlops_pipeline.registry.champion import registered_model
from tests.conftest import Project
from tests.forked import Forking
from tests.integration_tests.receivers import Receiver, receiver

WINDOW = 100
PIECES = 3
"""Tables that the labels come in."""
TOGETHER = 6
"""Kills of one memory; then there is nothing left to do."""
MOST_S, MOST_TRAINING_S = 1.5, 8.0
"""A kill comes so long after the start at the latest, by turns."""
IDLE_S = 300

KILLED = """
import os, signal, sys, threading
os.setsid()
ending = threading.Timer({after}, lambda: {kill}(os.getpid(), signal.SIGKILL))
ending.daemon = True
ending.start()
from mlops_pipeline.cli import main
main(sys.argv[1:])
"""
"""A command that is killed so many seconds after it began, alone or with all that it has started."""


@dataclass
class Seen:
    """How many kills hit which command, and what was wrong in the end."""

    kills: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def kill_the_loop(project: Project, server: Path, labels: Path, folder: Path, forking: Forking, kills: int, seed: int) -> Seen:
    """Kill labels, windows, delivery and retraining so many times; ``server`` are settings of one whose record holds rows of it."""
    random, seen = np.random.default_rng(seed), Seen()
    places = (folder / f"round-{number}" for number in range(kills))
    while (left := kills - seen.kills.total()) > 0:
        with receiver() as hook:
            round_ = _Round.made(next(places), project, server, labels, hook)
            seen.kills += round_.kill(forking, min(left, TOGETHER), random)
            round_.go_on_to_the_end()
            seen.wrong += round_.wrong(hook)
    return seen


@dataclass(frozen=True)
class _Round:
    """A project of its own, with a memory of its own."""

    project: Project
    config: Path
    pieces: tuple[Path, ...]

    @classmethod
    def made(cls, folder: Path, project: Project, server: Path, labels: Path, hook: Receiver) -> _Round:
        shutil.copytree(project.folder, folder / "project")
        own = Project(folder / "project", folder / "project" / project.config.name)
        own.change(train={"params": {"n_estimators": 25}}, gate={"champion_margin": 1.0})
        config = folder / "monitoring.yaml"
        rules = {"fell": {"figure": "quality", "worsens_by": 0.1, "surely": True}, "always": {"figure": "rows", "above": 1}}
        content = {
            "pipeline": str(own.config),
            "serving": str(server),
            "state": {"file": str(folder / "state.sqlite")},
            "windows": {"rows": WINDOW, "settle_s": 0},
            "rules": rules,
            "channels": {"hook": {"channel": "webhook", "settings": {"url": hook.url, "format": "plain"}}},
            "retraining": {"by": ["always"], "see_until": "newest", "budget": 1},
        }
        config.write_text(yaml.safe_dump(content))
        table, pieces = pl.read_csv(labels), []
        for number, piece in enumerate(table.iter_slices(-(-table.height // PIECES))):
            pieces.append(folder / f"labels-{number}.csv")
            piece.write_csv(pieces[-1])
        return cls(own, config, tuple(pieces))

    def kill(self, forking: Forking, kills: int, random: np.random.Generator) -> Counter[str]:
        """So many kills, of labels and of the watch by turns; a command that ends before its kill goes on to the next."""
        found: Counter[str] = Counter()
        for attempt in range(4 * kills):
            if found.total() == kills:
                break
            with self._state() as (_, state), state.writing():
                _no_waiting(state)
            adds = attempt % 3 == 0
            words = ("labels", "add", "--input", str(self.pieces[attempt // 3 % PIECES])) if adds else ("monitor", "run")
            after = random.uniform(0, MOST_TRAINING_S if attempt % 3 == 2 else MOST_S)
            text = KILLED.format(after=after, kill="os.killpg" if random.random() < 0.5 else "os.kill")
            done = forking.run(self.project.folder, text=text, arguments=[*words, "--config", str(self.config)])
            assert done is not None
            found[" ".join(words[:2])] += done.returncode == -signal.SIGKILL
        return found

    def go_on_to_the_end(self) -> None:
        """What the next runs do, until nothing is left to be done."""
        with self._state() as (watch, state):
            for piece in self.pieces:
                add_labels(state, watch.pipeline, piece, str(piece))
        deadline = time.monotonic() + IDLE_S
        while time.monotonic() < deadline:
            with self._state() as (watch, state):
                with state.writing():
                    _no_waiting(state)
                run(watch, state, ignored)
                if state.retrainings("done", "failed") and not state.retrainings("waiting", "started") and not state.waiting():
                    return
            time.sleep(0.2)  # a training goes on whose starter was killed

    def wrong(self, hook: Receiver) -> Iterator[str]:
        """What is not as if nothing had been killed."""
        with self._state() as (watch, state):
            yield from _wrong(watch, state, self._undisturbed(), hook)

    def _undisturbed(self) -> pl.DataFrame:
        """The windows of a memory that nobody disturbed."""
        content = yaml.safe_load(self.config.read_text())
        content |= {"state": {"file": f"{self.config.parent}/whole.sqlite"}, "channels": {}, "retraining": {"start": "nothing", "by": []}}
        whole = self.config.with_name("whole.yaml")
        whole.write_text(yaml.safe_dump(content))
        watch = watched(whole)
        with closing(watch.state()) as state:
            for piece in self.pieces:
                add_labels(state, watch.pipeline, piece, str(piece))
            run(watch, state, ignored)
            return state.table("champion").drop("number")

    @contextmanager
    def _state(self) -> Iterator[tuple[Watched, WatchState]]:
        watch = watched(self.config)
        with closing(watch.state()) as state:
            yield watch, state


def _no_waiting(state: WatchState) -> None:
    """As if the minute had passed in which one waits for somebody who may only be slow."""
    state.database.ask("UPDATE mlops_monitor_outbox SET due = 0 WHERE sent IS NULL")
    state.database.ask("UPDATE mlops_monitor_retrainings SET due = 0 WHERE ended IS NULL")


def _wrong(watch: Watched, state: WatchState, whole: pl.DataFrame, hook: Receiver) -> Iterator[str]:
    windows = state.table("champion").drop("number")
    if not windows.equals(whole, null_equal=True):
        yield f"{windows.height} windows, {windows.unique(['since', 'version']).height} of them different, in place of {whole.height}"
    if (counts := state.label_counts())["known"] != whole["labels"].sum():
        yield f"{counts['known']} labels are known in place of {whole['labels'].sum():.0f}"
    due = {(row.rule, row.version, kind) for row in state.alerts() for kind in _kinds(row.state)}
    told: Sequence[dict[str, Any]] = hook.bodies()
    heard = {(body["rule"], body["version"], body["kind"]) for body in told}
    if due != heard:
        yield f"alerts {sorted(due - heard)} were not told, {sorted(heard - due)} are known to nobody"
    firing = Counter((row.rule, row.version) for row in state.alerts("firing"))
    if any(count > 1 for count in firing.values()):
        yield f"alerts fire twice: {firing}"
    if (trained := [each.state for each in state.retrainings() if each.state != "held back"]) != ["done"]:
        yield f"trainings: {trained}, {[each.outcome for each in state.retrainings()]}"
    versions = registered_model(watch.pipeline, watch.layout).versions()
    champions = [version.number for version in versions if version.is_champion]
    if champions != [2] or len(versions) != 2:
        yield f"champions {champions} of versions {[version.number for version in versions]}"


def _kinds(state: str) -> tuple[str, ...]:
    return ("firing", "resolved") if state == "resolved" else ("firing",)
