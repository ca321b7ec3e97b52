"""One run of the watch: windows that have ended, labels that have come, alerts, deliveries, a training if a rule asks for one.

Each step is a transaction of its own: a run that is killed is gone on with by the next, and two at once do each thing once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from mlops_pipeline.config.moments import span_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Listener, Warned, WindowCounted
from mlops_pipeline.lines import span
from mlops_pipeline.monitoring.cutting import Arrivals, Arrived, by_count, by_time
from mlops_pipeline.monitoring.delivery import deliver
from mlops_pipeline.monitoring.judging import judge, judge_waiting, tell_all
from mlops_pipeline.monitoring.labels import keys_of, likely, matched
from mlops_pipeline.monitoring.measured import Measured
from mlops_pipeline.monitoring.recorded import RecordedRows, measured, within
from mlops_pipeline.monitoring.retraining import carry_out
from mlops_pipeline.monitoring.skew import skewed, table_now, with_skew
from mlops_pipeline.monitoring.state import Label, WatchState, Window
from mlops_pipeline.monitoring.waiting import version_waiting
from mlops_pipeline.monitoring.watched import Watched
from mlops_pipeline.records.entry import CHALLENGER
from mlops_pipeline.records.reading import arm_in, requests_of
from mlops_pipeline.registry.reader import RegistryUnreachable


@dataclass
class Ran:
    """What a run did."""

    counted: list[Window] = field(default_factory=list)
    again: list[Window] = field(default_factory=list)
    sent: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    """By channel: why it has not taken what it is to tell."""
    retraining: str = ""


def run(
    watch: Watched,
    state: WatchState,
    tell: Listener,
    *,
    close: bool = False,
    as_of: str | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Ran:
    """Do what is due. With ``close`` the window that has not ended, too; ``as_of`` is what a training sees instead of the window's end.

    ``meanwhile`` is called every few seconds while a training goes on.
    """
    done = Ran()
    try:
        for model in watch.models:
            done.again += _count_late(watch, state, model, tell, as_of)
            done.counted += _count(watch, state, model, tell, as_of, close=close)
    finally:
        # What is known is told, even where the record cannot be read now.
        _find_labels(watch, state)
        done.again += _count_again(watch, state, tell, as_of)
        done.again += _look_up_again(watch, state, tell, as_of)
        _deliver(watch, state, tell, done)
    done.retraining = carry_out(watch, state, tell, meanwhile)
    _deliver(watch, state, tell, done)
    return done


def _deliver(watch: Watched, state: WatchState, tell: Listener, done: Ran) -> None:
    with suppress(PipelineError):  # a registry that is away says nothing new
        version = version_waiting(watch)
        with state.writing():
            judge_waiting(watch, state, version, time.time())
    with state.writing():
        tell_all(watch, state, time.time())  # a silence may have ended
    delivered = deliver(watch, state, tell)
    done.sent += delivered.count
    done.problems = delivered.problems


def _count(watch: Watched, state: WatchState, model: str, tell: Listener, as_of: str | None, *, close: bool) -> list[Window]:
    """Count the windows of a model that have ended since the last run."""
    begin, now, settings = state.ended(model), time.time(), watch.settings.windows
    settled = now if close else now - settings.settle_s
    arrived = _arrived(watch, model, begin, settled)
    if settings.rows is not None:
        parts = by_count(arrived, begin, settings.rows, close=close)
    else:
        parts = by_time(arrived, begin, span_of(settings.span), settled, close=close)
    made: list[Window] = []
    for part in parts:
        try:
            new = _add(watch, state, model, part, begin, as_of)
        except RegistryUnreachable as error:
            raise RegistryUnreachable(f"{error}; the windows of {model} that have ended are counted by the next run") from error
        if not new:
            break  # another run is at it, and goes on
        for window in new:
            tell(_event(watch, window))
        made += new
        begin = part.until
    return made


def _arrived(watch: Watched, model: str, since: float | None, until: float) -> list[Arrived]:
    """A model's requests from one moment on and before another, in order of time."""
    first = None if since is None else datetime.fromtimestamp(since, UTC)
    return sorted(
        (
            Arrived(each.time, each.version, 0 if each.error else each.rows, arm_in(each) == CHALLENGER)
            for each in requests_of(watch.store, since=first, model=model)
            if each.time < until and (since is None or each.time >= since)
        ),
        key=lambda each: each.time,
    )


def _count_late(watch: Watched, state: WatchState, model: str, tell: Listener, as_of: str | None) -> list[Window]:
    """Measure windows again of which rows were written later than a run waits for them; of a version of which none was there, anew."""
    oldest = span_of(watch.settings.windows.look_back).before(datetime.now(UTC)).timestamp()
    recent = state.windows(model, made_since=oldest)
    if not recent:
        return []
    arrived, newest, done = _arrived(watch, model, recent[0].since, recent[-1].until), state.newest_label(), []
    for since, until in dict.fromkeys((window.since, window.until) for window in recent):
        there = {window.version: window for window in recent if window.since == since}
        part = Arrivals(since, until, tuple(each for each in arrived if since <= each.time < until))
        labels: list[Label] | None = None
        for version in part.versions:
            known, count = there.get(version), len(_requests(part, version))
            late = count - (known.requests if known else 0)
            if late <= 0:
                continue
            labels = state.labels_after(0, since) if labels is None else labels
            made = _measured(watch, model, version, part, labels)
            with state.writing():
                now = time.time()
                if known is None and not any(each.version == version for each in state.windows(model) if each.since == since):
                    number = state.add(model, version, (since, until), made.requests, made.figures, made.keys, newest, now)
                elif known is not None and state.recount(known, made.requests, made.figures, made.keys, newest, now):
                    number = known.number
                else:
                    continue  # another run has
                state.match(number, made.labels)
                # The version that answered last is the one that is judged: it stays the last, whichever was counted later.
                own = [each for each in state.windows(model) if each.since == since]
                places = {name: place for place, name in enumerate(part.versions)}
                state.order([each.number for each in sorted(own, key=lambda each: places.get(each.version, -1))])
                judge(watch, state, model, now, as_of)
            done += [each for each in state.windows(model, version=version) if each.number == number]
            tell(Warned(pipeline=watch.pipeline.name, text=f"{_named(done[-1])}: {late:,} of its requests were written late"))
            tell(_event(watch, done[-1], again=True))
    return done


@dataclass(frozen=True)
class _Measured:
    """One version's rows of a window: how many requests, their figures, the digests of their names, which labels are theirs."""

    requests: int
    figures: Measured
    keys: bytes
    labels: set[int]


def _requests(part: Arrivals, version: str) -> list[Arrived]:
    """The requests that count to a version; those refused before there was one count to the last."""
    return [each for each in part.arrived if each.version == version or (not each.version and version == part.versions[-1])]


def _measured(watch: Watched, model: str, version: str, part: Arrivals, labels: list[Label]) -> _Measured:
    rows = RecordedRows(watch, model, version, part.since, part.until)
    keys = keys_of(rows.frames()) if part.arrived else b""
    own = likely(labels, np.frombuffer(keys, "<u4"))
    numbers = matched(own, rows.frames(), within(watch)) if own else set()
    requests = _requests(part, version)
    refused = sum(not each.rows for each in requests)
    figures = measured(rows, [label for label in own if label.number in numbers], len(requests), refused)
    return _Measured(len(requests), figures, keys, numbers)


def _add(watch: Watched, state: WatchState, model: str, part: Arrivals, begin: float | None, as_of: str | None) -> list[Window]:
    """Measure a window and keep it, its end and what follows from it together; by version, none if somebody else has."""
    newest = state.newest_label()
    versions = part.versions or (_last_version(state, model),)
    labels = state.labels_after(0, part.since) if part.arrived else []
    found = [(version, _measured(watch, model, version, part, labels)) for version in versions]
    with state.writing():
        if state.ended(model) != begin:
            return []
        now, added = time.time(), set()
        for version, made in found:
            number = state.add(model, version, (part.since, part.until), made.requests, made.figures, made.keys, newest, now)
            state.match(number, made.labels)
            added.add(number)
        state.end(model, part.until)
        judge(watch, state, model, now, as_of)
        return [window for window in state.windows(model, last=len(found)) if window.number in added]


def _last_version(state: WatchState, model: str) -> str:
    windows = state.windows(model, last=1)
    return windows[0].version if windows else ""


def _find_labels(watch: Watched, state: WatchState) -> None:
    """Hold labels that have come since against the rows of windows that are not too old."""
    newest, now = state.newest_label(), datetime.now(UTC)
    oldest = span_of(watch.settings.labels.look_back).before(now).timestamp()
    new: dict[int, list[Label]] = {}
    for window in state.windows():
        if window.labels_until >= newest or window.until < oldest:
            continue
        if window.labels_until not in new:
            new[window.labels_until] = state.labels_after(window.labels_until, 0.0)
        own = likely([label for label in new[window.labels_until] if label.received >= window.since], state.keys_of(window.number))
        numbers = matched(own, _rows_of(watch, window).frames(), within(watch)) if own else set()
        with state.writing():
            state.match(window.number, numbers)
            state.tried(window.number, newest, stale=bool(numbers))


def _count_again(watch: Watched, state: WatchState, tell: Listener, as_of: str | None) -> list[Window]:
    """Measure windows again for which labels have come."""
    done: list[Window] = []
    for window in state.windows(stale=True):
        labels = state.labels_of(window.number)
        refused = round((window.figures.get("refused.share") or 0.0) * window.requests)
        try:
            made = measured(_rows_of(watch, window), labels, window.requests, refused)
        except RegistryUnreachable as error:
            tell(Warned(pipeline=watch.pipeline.name, text=f"{_named(window)}: labels have come, the next run counts it again: {error}"))
            break
        lost = int(window.figures.get("rows") or 0) - int(made.figures["rows"] or 0)
        if lost > 0:
            tell(
                Warned(
                    pipeline=watch.pipeline.name, text=f"{_named(window)}: {lost:,} of its rows are gone from the record: not counted again"
                )
            )
            with state.writing():
                state.as_it_is(window)
            continue
        with state.writing():
            now = time.time()
            if not state.replace(window, made, now):
                continue  # more labels have come: the next run
            judge(watch, state, window.model, now, as_of)
        done += [each for each in state.windows(window.model, version=window.version) if each.number == window.number]
        tell(_event(watch, done[-1], again=True))
    return done


def _look_up_again(watch: Watched, state: WatchState, tell: Listener, as_of: str | None) -> list[Window]:
    """Look rows up that the pipeline's table had not, where it is another now."""
    oldest, done = span_of(watch.settings.labels.look_back).before(datetime.now(UTC)).timestamp(), list[Window]()
    now = table_now(watch)
    for window in state.windows(stale=False) if now else ():
        before = window.detail.skew
        if before is None or not before.absent or window.until < oldest or before.table == now:
            continue
        found = skewed(watch, window.model, window.version, window.since, window.until)
        if found is None or found.came < before.came:  # its rows are gone from the record
            continue
        with state.writing():
            if not state.replace(window, with_skew(window.detail, found), time.time()):
                continue
            judge(watch, state, window.model, time.time(), as_of)
        if found.rows != before.rows:
            done += [each for each in state.windows(window.model, version=window.version) if each.number == window.number]
            tell(_event(watch, done[-1], again=True))
    return done


def _rows_of(watch: Watched, window: Window) -> RecordedRows:
    return RecordedRows(watch, window.model, window.version, window.since, window.until)


def _named(window: Window) -> str:
    return f"{window.model} {window.version}, {span(*(datetime.fromtimestamp(end, UTC) for end in (window.since, window.until)))}"


def _event(watch: Watched, window: Window, *, again: bool = False) -> WindowCounted:
    return WindowCounted(
        pipeline=watch.pipeline.name,
        model=window.model,
        version=window.version,
        since=datetime.fromtimestamp(window.since, UTC),
        until=datetime.fromtimestamp(window.until, UTC),
        rows=int(window.figures.get("rows") or 0),
        labels=int(window.figures.get("labels") or 0),
        again=again,
    )
