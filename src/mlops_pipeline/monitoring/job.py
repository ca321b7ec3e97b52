"""One run of the watch: windows that have ended, labels that have come, alerts, deliveries, a training if a rule asks for one.

Each step is a transaction of its own: a run that is killed is gone on with by the next, and two at once do each thing once.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from mlops_pipeline.config.moments import span_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Listener, Warned, WindowCounted
from mlops_pipeline.lines import span
from mlops_pipeline.monitoring.cutting import TICK, Arrivals, Arrived, Requests, begun, between, by_count, by_time
from mlops_pipeline.monitoring.delivery import deliver
from mlops_pipeline.monitoring.judging import judge, judge_gone, judge_waiting, tell_all
from mlops_pipeline.monitoring.labels import CLOCKS_S, digests_of, is_for, keys_of, likely, matched
from mlops_pipeline.monitoring.measured import Measured
from mlops_pipeline.monitoring.recorded import RecordedRows, measured, within
from mlops_pipeline.monitoring.retraining import carry_out
from mlops_pipeline.monitoring.skew import skewed, table_now, with_skew
from mlops_pipeline.monitoring.state import WatchState, Window
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
    done, asked = Ran(), watch.asking_once()
    try:
        try:
            for model in watch.models:
                done.again += _count_late(watch, state, model, tell, as_of)
                done.counted += _count(watch, state, model, tell, as_of, close=close)
        finally:
            # Of windows that are counted already labels may come, even where those that have ended cannot be counted now.
            _find_labels(watch, state)
            done.again += _count_again(watch, state, tell, as_of)
            done.again += _look_up_again(watch, state, tell, as_of)
    finally:
        # What is known is told, even where the record cannot be read now.
        _deliver(asked, state, tell, done)
    done.retraining = carry_out(watch, state, tell, meanwhile)
    _deliver(watch.asking_once() if done.retraining else asked, state, tell, done)
    return done


def _deliver(watch: Watched, state: WatchState, tell: Listener, done: Ran) -> None:
    with suppress(PipelineError):  # a registry that is away says nothing new
        version = watch.waiting()
        with state.writing():
            judge_waiting(watch, state, version, time.time())
    with state.writing():
        judge_gone(watch, state, time.time())
        tell_all(watch, state, time.time())  # a silence may have ended
    delivered = deliver(watch, state, tell)
    done.sent += delivered.count
    done.problems = delivered.problems


def _count(watch: Watched, state: WatchState, model: str, tell: Listener, as_of: str | None, *, close: bool) -> list[Window]:
    """Count the windows of a model that have ended since the last run."""
    begin, settings = state.ended(model), watch.settings.windows
    now = time.time()
    settled = now if close else now - settings.settle_s
    if settings.rows is not None:
        parts = by_count(_arrived(watch, model, begin, settled), begin, settings.rows, close=close)
    else:
        # Of a window that has not ended nothing is read.
        each = span_of(settings.span)
        until = settled if close else begun(settled, each)
        arrived = _arrived(watch, model, begin, until) if begin is None or until > begin else Requests.of(())
        parts = by_time(arrived, begin, each, settled, close=close)
    made: list[Window] = []
    before = _last_version(state, model)
    for cut in parts:
        part = replace(cut, before=before)
        try:
            new = _add(watch, state, model, part, begin, as_of)
        except RegistryUnreachable as error:
            raise RegistryUnreachable(f"{error}; the windows of {model} that have ended are counted by the next run") from error
        if not new:
            break  # another run is at it, and goes on
        for window in new:
            tell(_event(watch, window))
        made += new
        begin, before = part.until, new[-1].version
    return made


def _arrived(watch: Watched, model: str, since: float | None, until: float) -> Requests:
    """A model's requests from one moment on and before another, in order of time."""
    first = None if since is None else datetime.fromtimestamp(since, UTC)
    end = datetime.fromtimestamp(until, UTC) + TICK  # a date may lie before the moment that it is of
    return Requests.of(
        Arrived(each.time, each.version, 0 if each.error else each.rows, arm_in(each) == CHALLENGER)
        for each in requests_of(watch.store, since=first, until=end, model=model)
        if each.time < until and (since is None or each.time >= since)
    )


def _count_late(watch: Watched, state: WatchState, model: str, tell: Listener, as_of: str | None) -> list[Window]:
    """Measure windows again of which rows were written later than a run waits for them; of a version of which none was there, anew."""
    oldest = span_of(watch.settings.windows.look_back).before(datetime.now(UTC)).timestamp()
    recent = state.windows(model, made_since=oldest, details=False)
    if not recent:
        return []
    arrived, newest, done = _arrived(watch, model, recent[0].since, recent[-1].until), state.newest_label(), []
    for since, until in dict.fromkeys((window.since, window.until) for window in recent):
        there = {window.version: window for window in recent if window.since == since}
        part = Arrivals(since, until, between(arrived, since, until), _last_version(state, model, ended_by=since))
        for version in part.versions:
            count, refused = part.counted(version)
            # Where all were refused an older release had counted them to a version without a name.
            known = there.get(version) or (there.get("") if count == refused else None)
            late = count - (known.requests if known else 0)
            if late <= 0:
                continue
            made = _measured(watch, state, model, version, part)
            with state.writing():
                now = time.time()
                counted = [each for each in state.windows(model, ended_since=until, details=False) if each.since == since]
                if known is None and all(each.version != version for each in counted):
                    number = state.add(model, version, (since, until), made.requests, made.figures, made.keys, newest, now)
                elif known is not None and state.recount(known, made.requests, made.figures, made.keys, newest, now):
                    number = known.number
                else:
                    continue  # another run has
                state.match(number, made.labels)
                # The version that answered last is the one that is judged: it stays the last, whichever was counted later.
                own = [each for each in state.windows(model, ended_since=until, details=False) if each.since == since]
                places = {name: place for place, name in enumerate(part.versions)}
                state.order([each.number for each in sorted(own, key=lambda each: places.get(each.version, -1))])
                judge(watch, state, model, now, as_of)
            done += state.windows(number=number)
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


def _measured(watch: Watched, state: WatchState, model: str, version: str, part: Arrivals) -> _Measured:
    rows = RecordedRows(watch, model, version, part.since, part.until)
    keys = keys_of(rows.frames()) if part.arrived else b""
    digests = np.frombuffer(keys, "<u4")
    came = state.labels_in_parts(0, part.since - CLOCKS_S) if keys else ()
    own = [label for labels in came for label in likely(labels, digests) if is_for(label, part.since)]
    numbers = matched(own, rows.frames(), within(watch)) if own else set()
    requests, refused = part.counted(version) if part.arrived else (0, 0)
    figures = measured(rows, [label for label in own if label.number in numbers], requests, refused)
    return _Measured(requests, figures, keys, numbers)


def _add(watch: Watched, state: WatchState, model: str, part: Arrivals, begin: float | None, as_of: str | None) -> list[Window]:
    """Measure a window and keep it, its end and what follows from it together; by version, none if somebody else has."""
    newest = state.newest_label()
    found = [(version, _measured(watch, state, model, version, part)) for version in part.versions or (part.before,)]
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


def _last_version(state: WatchState, model: str, ended_by: float | None = None) -> str:
    windows = state.windows(model, ended_by=ended_by, last=1, details=False)
    return windows[0].version if windows else ""


def _find_labels(watch: Watched, state: WatchState) -> None:
    """Hold labels that have come since against the rows of windows that are not too old."""
    newest, now = state.newest_label(), datetime.now(UTC)
    oldest = span_of(watch.settings.labels.look_back).before(now).timestamp()
    windows = state.windows(ended_since=oldest, labels_before=newest, details=False)
    if not windows:
        return
    keys = [state.keys_of(window.number) for window in windows]
    own = [array("q") for _ in windows]  # by number alone, as they may be millions
    for labels in state.labels_in_parts(min(window.labels_until for window in windows), 0.0):
        digests = digests_of(labels)
        for window, there, numbers in zip(windows, keys, own, strict=True):
            some = likely(labels, there, digests)
            numbers.extend(each.number for each in some if each.number > window.labels_until and is_for(each, window.since))
    for window, numbers in zip(windows, own, strict=True):
        rows = _rows_of(watch, window)
        found = matched(state.labels_numbered(numbers), rows.frames(), within(watch)) if numbers else set()
        with state.writing():
            state.match(window.number, found)
            state.tried(window.number, newest, stale=bool(found))


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
        done += state.windows(number=window.number)
        tell(_event(watch, done[-1], again=True))
    return done


def _look_up_again(watch: Watched, state: WatchState, tell: Listener, as_of: str | None) -> list[Window]:
    """Look rows up that the pipeline's table had not, where it is another now."""
    oldest, done = span_of(watch.settings.labels.look_back).before(datetime.now(UTC)).timestamp(), list[Window]()
    now = table_now(watch)
    waiting = state.windows(stale=False, ended_since=oldest, details=False) if now else []
    for number in [each.number for each in waiting if each.figures.get("skew.absent")]:
        # One for which labels have come meanwhile is another run's to count: what is put in its place has none of them.
        window = next(iter(state.windows(number=number, stale=False)), None)
        before = None if window is None else window.detail.skew
        if window is None or before is None or not before.absent or before.table == now:
            continue
        found = skewed(watch, window.model, window.version, window.since, window.until)
        if found is None or found.came < before.came:  # its rows are gone from the record
            continue
        with state.writing():
            if not state.replace(window, with_skew(window.detail, found), time.time()):
                continue
            judge(watch, state, window.model, time.time(), as_of)
        if found.rows != before.rows:
            done += state.windows(number=number)
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
