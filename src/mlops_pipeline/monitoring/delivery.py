"""What is in the outbox goes out: each message at least once on its channel, what lasts again and again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from mlops_pipeline import plugins
from mlops_pipeline.alerts.alert import Alert, alert_of
from mlops_pipeline.errors import one_line, without_secrets
from mlops_pipeline.events import AlertFired, AlertResolved, Event, Listener
from mlops_pipeline.monitoring.judging import EVENTS
from mlops_pipeline.monitoring.state import WatchState
from mlops_pipeline.monitoring.watched import Watched

CLAIM_S = 30.0
"""A message that somebody has begun to send and not ended is sent again after this: its sender was killed."""


@dataclass
class Delivered:
    """How many messages went out, and what each channel that failed says."""

    count: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def deliver(watch: Watched, state: WatchState, tell: Listener) -> Delivered:
    """Send what is due. A channel that fails keeps nothing from the others; what it has not taken stays for the next time."""
    done = Delivered()
    repeating = [name for name, (part, _, _) in watch.channels.items() if part.repeats]
    behind: set[tuple[int, str]] = set()
    for number, alert, channel, kind, message, due in state.undelivered(time.time(), repeating):
        if channel in done.problems or (alert, channel) in behind:
            behind.add((alert, channel))
            continue
        if channel != EVENTS and channel not in watch.channels:
            with state.writing():
                state.sent(number, time.time(), due)  # nobody listens there any more
            continue
        now = time.time()
        with state.writing():
            if not state.claim(number, due, now, now + CLAIM_S):
                behind.add((alert, channel))  # another process is at it, or at what goes before
                continue
        try:
            _send(watch, channel, alert_of(message), tell)
        except plugins.FAILURES as error:
            done.problems[channel] = without_secrets(one_line(error)) or type(error).__name__
            with state.writing():
                state.not_sent(number, time.time(), done.problems[channel])
            continue
        now = time.time()
        with state.writing():
            state.sent(number, now, now + (_repeat_s(watch, channel) if kind == "firing" else 0.0))
        done.count += channel != EVENTS
    return done


def _send(watch: Watched, channel: str, alert: Alert, tell: Listener) -> None:
    if channel == EVENTS:
        tell(_event(alert))
        return
    part, settings, _ = watch.channels[channel]
    plugins.run(part, alert, *settings)


def _repeat_s(watch: Watched, channel: str) -> float:
    settings = watch.channels[channel][1] if channel in watch.channels else []
    return float(getattr(settings[0], "repeat_s", 0.0)) if settings else 0.0


def _event(alert: Alert) -> Event:
    kind = AlertFired if alert.kind == "firing" else AlertResolved
    return kind(
        pipeline=alert.pipeline,
        model=alert.model,
        version=alert.version,
        rule=alert.rule,
        severity=alert.severity,
        key=alert.key,
        text=alert.text,
    )
