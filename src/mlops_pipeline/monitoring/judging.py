"""What the newest windows mean: alerts that begin and end, messages for each channel, a training that is asked for.

All of it happens within the transaction that keeps the windows.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from mlops_pipeline.alerts.alert import Alert, alert_of
from mlops_pipeline.config.moments import span_of
from mlops_pipeline.config.monitoring import SEVERITIES, Rule
from mlops_pipeline.monitoring.rules import RELEASE, RELEASED, WAITING, WAITS, Judgement, Seen, judged, rule_named
from mlops_pipeline.monitoring.state import AlertRow, Retraining, WatchState
from mlops_pipeline.monitoring.waiting import judgement
from mlops_pipeline.monitoring.watched import Watched
from mlops_pipeline.registry.versions import Version

EVENTS = ":events"
"""The channel by which ``events.py`` is told; no user's channel can be called so."""
REMEMBERED = 400
"""Windows that rules look back on."""
STOP = "retraining"
"""The switch by which people stop trainings."""


def judge(watch: Watched, state: WatchState, model: str, now: float, as_of: str | None = None) -> None:
    """Hold the windows of the version that answers now against every rule."""
    windows = state.windows(model, last=REMEMBERED, details=False)
    if not windows:
        return
    version = windows[-1].version
    series = [Seen(each.number, each.since, each.until, each.figures, each.enough) for each in windows if each.version == version]
    terms = watch.terms(model, version)
    found = {name: judged(rule, series, terms) for name, rule in watch.settings.rules.items() if name not in (WAITS, RELEASE)}
    firing = {row.rule: row for row in state.alerts("firing") if row.model == model and row.rule not in (WAITS, RELEASE)}
    for name, row in firing.items():
        said = found.get(name)
        if said is None:
            _resolve(state, row, now, "the rule is gone")
        elif row.version != version:
            _resolve(state, row, now, f"version {version} answers now")
        elif said.broken is False:
            _resolve(state, row, now, said.text)
    for name, said in found.items():
        if said.broken:
            _fire(watch, state, model, version, (name, watch.settings.rules[name]), said, firing.get(name), now)
            if name in watch.settings.retraining.by:
                _ask_for_training(watch, state, model, version, name, said, now, as_of)
    tell_all(watch, state, now)


def judge_gone(watch: Watched, state: WatchState, now: float) -> None:
    """Let the alerts of names end that the server has no more: no window will ever say otherwise."""
    for row in state.alerts("firing"):
        if row.model not in watch.references:
            _resolve(state, row, now, f"{row.model} is not served any more")


def judge_waiting(watch: Watched, state: WatchState, version: Version | None, now: float) -> None:
    """Let an alert begin for a version that waits for approval, and end when it waits no more."""
    rows = [row for row in state.alerts("firing") if row.rule == WAITS]
    for row in rows:
        if version is None or row.version != str(version.number):
            _resolve(state, row, now, f"version {row.version} waits no more")
    if version is not None and not any(row.version == str(version.number) for row in rows):
        rule = watch.settings.rules.get(WAITS, WAITING)
        _fire(watch, state, watch.models[0], str(version.number), (WAITS, rule), judgement(watch, version), None, now)


def judge_release(watch: Watched, state: WatchState, model: str, version: str, text: str, now: float) -> None:
    """Let the alert of a release begin that did not make its challenger champion, or that waits for a person; without text, end it."""
    rows = [row for row in state.alerts("firing") if row.rule == RELEASE and row.model == model]
    for row in rows:
        if row.version != version or not text:
            _resolve(state, row, now, f"the release of version {row.version} is over")
    if text:
        same = next((row for row in rows if row.version == version), None)
        rule = watch.settings.rules.get(RELEASE, RELEASED)
        said = Judgement(broken=True, figure=RELEASED.figure, value=1.0, text=text, since=now)
        _fire(watch, state, model, version, (RELEASE, rule), said, same, now)
    tell_all(watch, state, now)


def tell_all(watch: Watched, state: WatchState, now: float) -> None:
    """Put the message of every alert that fires into the outbox of each channel that it is for, unless it is silenced."""
    silenced = {(each.rule, each.model) for each in state.silences(now)}
    for row in state.alerts("firing"):
        rule = rule_named(watch.settings.rules, row.rule)
        state.post(row.number, EVENTS, "firing", row.message, now)
        if rule is None or _is_silent(rule, row, silenced, now):
            continue
        for channel, (_, _, given) in watch.channels.items():
            if SEVERITIES.index(rule.severity) >= SEVERITIES.index(given.least) and (rule.channels is None or channel in rule.channels):
                state.post(row.number, channel, "firing", _new_delivery(row.message), now)


def _is_silent(rule: Rule, row: AlertRow, silenced: set[tuple[str, str]], now: float) -> bool:
    by_file = rule.silent_until is not None and now < rule.silent_until.timestamp()
    return by_file or any((name, model) in silenced for name in (row.rule, "*") for model in (row.model, "*"))


def _fire(
    watch: Watched, state: WatchState, model: str, version: str, of: tuple[str, Rule], said: Judgement, row: AlertRow | None, now: float
) -> None:
    name, rule = of
    is_same = row is not None and row.version == version
    former = alert_of(row.message) if row is not None and is_same else None
    alert = Alert(
        delivery=str(uuid.uuid4()),
        key=former.key if former else str(uuid.uuid4()),
        kind="firing",
        rule=name,
        pipeline=watch.pipeline.name,
        model=model,
        version=version,
        severity=rule.severity,
        figure=said.figure,
        value=said.value,
        text=said.text,
        said=rule.text,
        owner=rule.owner,
        runbook=rule.runbook,
        began=former.began if former else said.since,
        window=(said.window.since, said.window.until) if said.window else (said.since, said.since),
    )
    message = msgspec.json.encode(alert).decode()
    if row is not None and is_same:
        state.change_alert(row.number, message)
    else:
        state.raise_alert(name, model, version, message, alert.began, now)


def _resolve(state: WatchState, row: AlertRow, now: float, text: str) -> None:
    ended = msgspec.structs.replace(alert_of(row.message), kind="resolved", ended=now, text=text, delivery=str(uuid.uuid4()))
    message = msgspec.json.encode(ended).decode()
    state.change_alert(row.number, message, now)
    for channel in state.posted_to(row.number):
        state.post(row.number, channel, "resolved", _new_delivery(message), now)


def _new_delivery(message: str) -> str:
    """The same message with a name of its own, as each channel gets its own."""
    return msgspec.json.encode(msgspec.structs.replace(alert_of(message), delivery=str(uuid.uuid4()))).decode()


def _ask_for_training(
    watch: Watched, state: WatchState, model: str, version: str, name: str, said: Judgement, now: float, as_of: str | None
) -> None:
    """Ask for a training, or keep why none is started: once for each window that breaks a rule, if that training came to its end."""
    policy, window = watch.settings.retraining, said.window
    if policy.start == "nothing" or window is None or state.retrainings("waiting", "started"):
        return
    before = [each for each in state.retrainings() if each.model == model and each.evidence == window.number]
    held = held_back(watch, state, model, now)
    if any(each.state == "done" for each in before) or (held and before and before[-1].outcome == held):
        return
    until = datetime.fromtimestamp(window.until, UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    seen = as_of or ("newest" if policy.see_until == "newest" else until)
    state.ask_retraining(
        Retraining(
            number=0,
            part=state.windows(model, last=1, details=False)[0].number,
            evidence=window.number,
            rule=name,
            model=model,
            version=version,
            as_of=seen if watch.pipeline.dataset.time_column is not None else "",
            state="held back" if held else "waiting",
            made=now,
            due=now,
            ended=now if held else None,
            identity=str(uuid.uuid4()),
            outcome=held,
        )
    )


def held_back(watch: Watched, state: WatchState, model: str, now: float) -> str:
    """Why no training may be started now; empty if one may."""
    if why := stopped(watch, state):
        return why
    begun = [each for each in state.retrainings() if each.state != "held back"]
    return _over_budget(watch, begun, now) or _too_soon(watch, state, [each for each in begun if each.model == model], now)


def stopped(watch: Watched, state: WatchState) -> str:
    """Who stopped trainings, and why; empty if nobody has."""
    value, who, why = state.switched(STOP)
    if watch.settings.retraining.stopped:
        return "retraining.stopped is set"
    return f"stopped by {who}{f': {why}' if why else ''}" if value == "stopped" else ""


def _over_budget(watch: Watched, begun: Sequence[Retraining], now: float) -> str:
    policy = watch.settings.retraining
    since = span_of(policy.budget_per).before(datetime.fromtimestamp(now, UTC)).timestamp()
    is_spent = policy.budget is not None and sum(each.made >= since for each in begun) >= policy.budget
    return f"the budget of {policy.budget} in {policy.budget_per} is spent" if is_spent else ""


def _too_soon(watch: Watched, state: WatchState, mine: Sequence[Retraining], now: float) -> str:
    policy = watch.settings.retraining
    if not mine:
        return ""
    if policy.cool_down is not None and mine[-1].made > span_of(policy.cool_down).before(datetime.fromtimestamp(now, UTC)).timestamp():
        return f"the last was less than {policy.cool_down} ago"
    wanted = policy.cool_down_windows
    windows = state.windows(mine[-1].model, last=REMEMBERED, details=False)
    before = next((each.until for each in windows if each.number == mine[-1].part), float("-inf"))
    since_then = len({each.until for each in windows if each.until > before})
    return f"{since_then} of {wanted} windows have ended since the last" if since_then < wanted else ""
