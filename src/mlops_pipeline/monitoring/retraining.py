"""A training that a rule has asked for: `mlops run` as a process of its own, or an event for a Prefect automation.

The gate judges what it makes, as after every run; nothing here promotes.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from mlops_pipeline.alerts.alert import alert_of
from mlops_pipeline.alerts.channels import post_event
from mlops_pipeline.config.channels import PrefectEvent
from mlops_pipeline.errors import PipelineError, one_line, without_secrets
from mlops_pipeline.events import ChampionChanged, GateDecided, Listener, RetrainingDecided, RetrainingEnded, read_events
from mlops_pipeline.files import make_own_file, make_own_folder
from mlops_pipeline.lines import span
from mlops_pipeline.monitoring.background import without_bounds
from mlops_pipeline.monitoring.judging import stopped
from mlops_pipeline.monitoring.state import Retraining, WatchState
from mlops_pipeline.monitoring.watched import Watched

LEASE_S = 60.0
"""A training whose starter has not said for so long that it goes on is taken over: its starter was killed."""
WAIT_S = LEASE_S / 4
EVENT = "mlops.retraining.requested"


def carry_out(watch: Watched, state: WatchState, tell: Listener, meanwhile: Callable[[], object] = lambda: None) -> str:
    """Do the training that waits, or go on with one whose starter is gone; what became of it, in words; empty where there is none.

    ``meanwhile`` is called every few seconds while a process trains.
    """
    said = ""
    for asked in state.retrainings("held back", last=1):
        if asked.ended == asked.made:
            said = f"held back: {asked.outcome}"
            with state.writing():  # once told, it is not told again
                state.finish(asked.number, "held back", asked.outcome, asked.made + 1e-3)
            tell(_decided(watch, asked, asked.outcome))
    for asked in state.retrainings("waiting", "started"):
        if asked.due > time.time() and asked.state == "started" and watch.settings.retraining.start == "process":
            return "under way, in another process"
        if watch.settings.retraining.start == "prefect":
            said = _by_prefect(watch, state, asked, tell)
        elif watch.settings.retraining.start == "process":
            said = _by_process(watch, state, asked, tell, meanwhile)
    return said


def _decided(watch: Watched, asked: Retraining, held_back: str = "") -> RetrainingDecided:
    return RetrainingDecided(
        pipeline=watch.pipeline.name,
        model=asked.model,
        version=asked.version,
        rule=asked.rule,
        as_of=asked.as_of,
        held_back=held_back,
    )


def _stopped(watch: Watched, state: WatchState, asked: Retraining, tell: Listener) -> str:
    """Let go of a training that was not begun, or whose starter is gone, if people have stopped them; what is said of it then."""
    with state.writing():
        why = stopped(watch, state)
        if not why or not state.take(asked.number, asked.due, time.time() + LEASE_S):
            return why
        if asked.state == "waiting":
            state.finish(asked.number, "held back", why, time.time())
    if asked.state != "waiting":
        return _end(watch, state, asked, tell, succeeded=False, outcome=why)
    tell(_decided(watch, asked, why))
    return f"held back: {why}"


def _by_process(watch: Watched, state: WatchState, asked: Retraining, tell: Listener, meanwhile: Callable[[], object]) -> str:
    with _alone(watch.state_file.with_name("retraining.lock")) as lock:
        if lock is None:
            return "under way, in another process"
        if said := _stopped(watch, state, asked, tell):
            return said
        with state.writing():
            if not state.take(asked.number, asked.due, time.time() + LEASE_S):
                return "under way, in another process"
        if asked.state == "waiting":
            tell(_decided(watch, asked))
        words = [sys.executable, "-m", "mlops_pipeline", "run", "--config", str(watch.config.resolve())]
        words += ["--as-of", asked.as_of] if asked.as_of else []
        words += ["--reason", _reason(state, asked)]
        words += ["--then", watch.settings.retraining.then] if watch.settings.retraining.then else []
        log = watch.state_file.with_name("retraining.log")
        make_own_folder(log.parent)
        make_own_file(log)
        with log.open("ab") as output:
            # The child holds the lock as long as it works, whatever becomes of this process.
            child = subprocess.Popen(
                words,
                cwd=watch.layout.project,
                env=without_bounds(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
            )
            code = _waited(child, watch, asked, meanwhile)
        failed = "it took too long" if code is None else f"`mlops run` ended with {code}: {_last_line(log)}" if code else ""
        with closing(watch.state()) as state_now:  # the connection of hours ago may be gone
            return _end(watch, state_now, asked, tell, succeeded=not failed, outcome=failed or _outcome(watch, asked))


def _waited(child: subprocess.Popen[bytes], watch: Watched, asked: Retraining, meanwhile: Callable[[], object]) -> int | None:
    """The exit code; None for one that took too long. Meanwhile others are told that somebody is at it."""
    deadline = time.monotonic() + watch.settings.retraining.hours * 3600
    while True:
        try:
            return child.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                child.terminate()
                try:
                    child.wait(LEASE_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                return None
            # A database that is away stops no training.
            with suppress(PipelineError), closing(watch.state()) as state, state.writing():
                state.hold(asked.number, time.time() + LEASE_S)
            meanwhile()
        except BaseException:
            child.terminate()
            child.wait()
            raise


def _by_prefect(watch: Watched, state: WatchState, asked: Retraining, tell: Listener) -> str:
    """Post the event until it is taken; then wait, run by run, until the gate has decided."""
    policy, now = watch.settings.retraining, time.time()
    if asked.state == "waiting":
        if said := _stopped(watch, state, asked, tell):
            return said
        payload = {
            "config_path": watch.layout.relative(watch.config.resolve()),
            "as_of": asked.as_of or "newest",
            "reason": _reason(state, asked),
            "rule": asked.rule,
            "model": asked.model,
            "version": asked.version,
        }
        try:
            post_event(EVENT, f"mlops.pipeline.{watch.pipeline.name}", payload, asked.identity, PrefectEvent(url=policy.prefect_url))
        except PipelineError as error:
            return f"waits: {error}"
        with state.writing():
            is_ours = state.take(asked.number, asked.due, now)
        if is_ours:  # others may write while it is told
            tell(_decided(watch, asked))
        return "asked of Prefect"
    if outcome := _outcome(watch, asked, otherwise=""):
        return _end(watch, state, asked, tell, succeeded=True, outcome=outcome)
    if now - asked.made > policy.hours * 3600:
        return _end(watch, state, asked, tell, succeeded=False, outcome=f"the gate has decided nothing in {policy.hours:g} hours")
    return "under way, with Prefect"


def _reason(state: WatchState, asked: Retraining) -> str:
    """Why it was asked for: the rule, what it says, of which version in which window."""
    row = next((row for row in state.alerts("firing") if (row.rule, row.model) == (asked.rule, asked.model)), None)
    of = f"{asked.model} version {asked.version}"
    if row is None:
        return f"{asked.rule}: {of}"
    alert = alert_of(row.message)
    return f"{asked.rule}: {alert.text} ({of}, {span(*(datetime.fromtimestamp(end, UTC) for end in alert.window))})"


def _outcome(
    watch: Watched, asked: Retraining, otherwise: str = "nothing was stale: the source has no row that the last training had not"
) -> str:
    """What the gate has said since, by the pipeline's events."""
    since, said = datetime.fromtimestamp(asked.made, UTC), ""
    for event in read_events(watch.layout.events) if watch.layout.events.is_file() else ():
        if event.time < since:
            continue
        if isinstance(event, GateDecided) and event.pipeline == watch.pipeline.name:
            failed = [f"{rule.name}: {rule.text}" for rule in event.rules if not rule.passed]
            passed = {"approval": "passed the gate and waits for approval", "challenger": "passed the gate and is the challenger"}
            said = f"version {event.version} "
            said += passed.get(event.then, "passed the gate") if event.passed else f"did not pass: {'; '.join(failed)}"
            if str(event.version) == asked.version:
                said = f"it made version {event.version} again: the same rows, as where a split's dates are fixed (see split.test_last)"
        elif isinstance(event, ChampionChanged) and event.pipeline == watch.pipeline.name and event.how == "passed the gate":
            said = f"version {event.version} is champion"
    return said or otherwise


def _end(watch: Watched, state: WatchState, asked: Retraining, tell: Listener, *, succeeded: bool, outcome: str) -> str:
    told = without_secrets(one_line(outcome, 500))
    with state.writing():
        state.finish(asked.number, "done" if succeeded else "failed", told, time.time())
    tell(
        RetrainingEnded(
            pipeline=watch.pipeline.name, model=asked.model, rule=asked.rule, as_of=asked.as_of, succeeded=succeeded, outcome=told
        )
    )
    return told if succeeded else f"failed: {told}"


@contextmanager
def _alone(path: Path) -> Iterator[int | None]:
    """A lock that a child can inherit; None where another process has it."""
    make_own_folder(path.parent)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file
    finally:
        os.close(file)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
