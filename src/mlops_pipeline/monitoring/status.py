"""How the model does, in ten lines, or as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mlops_pipeline.alerts.alert import alert_of
from mlops_pipeline.config.pipeline import Split
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.lines import Words, span
from mlops_pipeline.monitoring.judging import held_back
from mlops_pipeline.monitoring.measured import UNMEASURED
from mlops_pipeline.monitoring.rules import WAITS, shown
from mlops_pipeline.monitoring.skew import said_of as said_of_skew
from mlops_pipeline.monitoring.state import AlertRow, WatchState, Window
from mlops_pipeline.monitoring.waiting import said_of
from mlops_pipeline.monitoring.watched import Watched

Line = list[Words]
MOST_ALERTS = 3
MOST_COLUMNS = 4

OF_ROWS = frozenset(
    ("drift", "quality", "estimated", "probe", "calibration", "missing", "new_categories", "out_of_bounds", "embedding", "unseen_words")
)
"""Figures, by their first word, of which a training on the rows that they are of may change something."""


def status(watch: Watched, state: WatchState) -> dict[str, Any]:
    """What is known, as plain values: the last window of each model, its alerts, labels, deliveries and trainings."""
    now, watch = time.time(), watch.asking_once()
    return {
        "pipeline": watch.pipeline.name,
        "models": {model: _model(watch, state, model, now) for model in watch.models},
        "waiting": _waiting(watch),
        "alerts": [json.loads(row.message) for row in state.alerts("firing")],
        "silences": [vars(each) for each in state.silences(now)],
        "labels": state.label_counts(),
        "undelivered": [
            {"channel": channel, "messages": count, "why": why} for channel, count, why in state.waiting() if channel[0] != ":"
        ],
        "retrainings": [vars(each) for each in state.retrainings(last=5)],
        "state": state.database.place,
    }


def _waiting(watch: Watched) -> dict[str, Any] | None:
    """The version that waits for a person's approval."""
    try:
        version = watch.waiting()
    except PipelineError:
        return None
    return None if version is None else {"version": version.number, "created": version.created, "text": said_of(watch, version)}


def _model(watch: Watched, state: WatchState, model: str, now: float) -> dict[str, Any]:
    windows = state.windows(model, details=False)
    last = state.windows(number=windows[-1].number)[0] if windows else None
    metric = f"quality.{watch.pipeline.evaluate.metric}"
    judged = next((each for each in reversed(windows) if each.figures.get(metric) is not None), None)
    looked_up = [each for each in windows if "skew.rows" in each.figures]
    compared = next((each for each in reversed(looked_up) if each.figures.get("skew.rows")), looked_up[-1] if looked_up else None)
    return {
        "windows": len(windows),
        "last": None if last is None else _window(last),
        "judged": None if judged is None else _window(*state.windows(number=judged.number)),
        "compared": None if compared is None else _window(*state.windows(number=compared.number)),
        "reference": dict(watch.terms(model, (judged or last).version).reference) if last is not None else {},
        "drifted": [] if last is None else [column.name for column in last.detail.drifted],
        "counted_until": state.ended(model),
        "retraining_held_back": held_back(watch, state, model, now),
        "held_out": None
        if last is None
        else held_out(watch.pipeline.split, [row for row in state.alerts("firing") if row.model == model], last.until),
    }


def held_out(split: Split, alerts: Sequence[AlertRow], newest: float) -> dict[str, Any] | None:
    """From when on a training would hold rows out by a window that moves, and the alerts all of whose rows lie there; None if none do."""
    if split.test_span is None:
        return None
    since = split.test_span.before(datetime.fromtimestamp(newest, UTC)).timestamp()
    rules = []
    for alert in (alert_of(row.message) for row in alerts):
        first, end = alert.window
        # An alert began when the first window that it is of ended.
        if alert.figure.partition(".")[0] in OF_ROWS and alert.began - (end - first) >= since - 1:
            rules.append(alert.rule)
    return {"since": since, "span": split.test_last, "rules": rules} if rules else None


def _window(window: Window) -> dict[str, Any]:
    detail = window.detail
    return {
        "version": window.version,
        "since": window.since,
        "until": window.until,
        "enough": window.enough,
        "why": detail.why,
        "figures": dict(window.figures),
        "notes": list(detail.notes),
        "skew": None if detail.skew is None else said_of_skew(detail.skew),
    }


def as_json(watch: Watched, state: WatchState) -> str:
    """The same for a program."""
    return json.dumps(status(watch, state), indent=2)


def lines(watch: Watched, state: WatchState) -> list[Line]:
    """The same for people: at most ten lines for one model."""
    known = status(watch, state)
    metric = watch.pipeline.evaluate.metric
    told: list[Line] = []
    for model, found in known["models"].items():
        told += _of_model(model, found, metric, watch.option)
    if known["waiting"]:
        told.append(_line("approval", known["waiting"]["text"], "yellow"))
    told += _of_alerts(known, watch.option)
    labels = known["labels"]
    told.append(_line("labels", f"{labels['known']:,} known" + (f", {labels['unmatched']:,} of no row yet" if labels["unmatched"] else "")))
    waiting = known["undelivered"]
    if waiting:
        each = "; ".join(f"{one['messages']} for {one['channel']}" + (f" ({one['why']})" if one["why"] else "") for one in waiting)
        told.append(_line("waiting", each, "yellow"))
    told.append(_line("training", _of_training(known)))
    return told


def _of_model(model: str, found: dict[str, Any], metric: str, option: str) -> list[Line]:
    last, judged = found["last"], found["judged"]
    if last is None:
        return [_line(model, f"no window has ended yet: `mlops monitor run --close{option}` ends one now")]
    figures = last["figures"]
    count = found["windows"]
    head = f"version {last['version'] or '?'}, {count} window{'s' * (count != 1)}, the last {_span(last)}"
    rows = f"{figures['rows']:,.0f} rows in {figures['requests']:,.0f} requests"
    if figures.get("refused.share"):
        rows += f", {figures['refused.share']:.1%} refused"
    told = [_line(model, head), _line("rows", rows + (f"; {last['why']}" if last["why"] else ""))]
    before = found["reference"].get(f"quality.{metric}")
    if judged is None:
        why = next((note for note in last["notes"] if UNMEASURED in note), "no window has labels enough")
        told.append(_line("quality", f"not known: {why}"))
    else:
        values = judged["figures"]
        said = f"{metric} {shown(values[f'quality.{metric}'])}" + _interval(values, f"quality.{metric}")
        said += f", {shown(before)} in the held-out rows" if before is not None else ""
        other = "" if judged["version"] == last["version"] else f"version {judged['version'] or '?'}"
        said = f"of {other}, {said}" if other else said
        when = "" if judged["until"] == last["until"] else f" (window of {_span(judged)})"
        told.append(_line("quality", f"{said}; {values['labels.share']:.0%} of the rows have labels{when}"))
        if values.get("probe.gain") is not None:
            gain = f"{shown(values['probe.gain'])}{_interval(values, 'probe.gain')}"
            told.append(_line("probe", f"retraining would gain {gain}" + (f" beside {other}" if other else "")))
    if figures.get(f"estimated.{metric}") is not None:
        told.append(
            _line("estimate", f"{metric} {shown(figures[f'estimated.{metric}'])} without labels; it cannot see that the world changed")
        )
    if figures.get("drift.columns") is not None:
        names = found["drifted"]
        more = f": {', '.join(names[:MOST_COLUMNS])}{' …' if len(names) > MOST_COLUMNS else ''}" if names else ""
        share = figures.get("drift.share")
        of = "" if share is None else f", {share:.0%} of those compared"
        told.append(_line("drift", f"{figures['drift.columns']:.0f} columns{of}{more}; it says little of quality"))
    if (compared := found["compared"]) is not None:
        when = "" if compared["until"] == last["until"] else f" (window of {_span(compared)})"
        told.append(_line("skew", f"{compared['skew']}{when}"))
    return told


def _of_alerts(known: dict[str, Any], option: str) -> list[Line]:
    alerts = [each for each in known["alerts"] if each["rule"] != WAITS]  # which has a line of its own
    if not alerts:
        return [_line("alerts", "none", "green")]
    said = [_line("alert", f"{each['severity']} {each['rule']}: {each['text']}", "red") for each in alerts[:MOST_ALERTS]]
    rest = len(alerts) - MOST_ALERTS
    return said + ([_line("", f"and {rest} more: `mlops monitor status --json{option}`")] if rest > 0 else [])


def _of_training(known: dict[str, Any]) -> str:
    last = known["retrainings"][-1] if known["retrainings"] else None
    held = next((found["retraining_held_back"] for found in known["models"].values() if found["retraining_held_back"]), "")
    told = ["none was asked for"]
    if last is not None:
        outcome = f", {last['outcome']}" if last["outcome"] else ""
        told = [f"{datetime.fromtimestamp(last['made'], UTC):%Y-%m-%d %H:%M} by {last['rule']}: {last['state']}{outcome}"]
    if held and (last is None or last["state"] != "held back"):
        told.append(f"now held back: {held}")
    for out in (found["held_out"] for found in known["models"].values() if found["held_out"]):
        day = f"{datetime.fromtimestamp(out['since'], UTC):%Y-%m-%d}"
        told.append(
            f"one now would learn from no row since {day} (split.test_last = {out['span']}), so from none that {out['rules'][0]} is of"
        )
    return "; ".join(told)


def _interval(values: dict[str, Any], name: str) -> str:
    low, high = values.get(f"{name}.low"), values.get(f"{name}.high")
    return "" if low is None or high is None else f" ({shown(low)} to {shown(high)})"


def _span(window: dict[str, Any]) -> str:
    return span(*(datetime.fromtimestamp(window[end], UTC) for end in ("since", "until")))


def _line(name: str, text: str, style: str = "") -> Line:
    return [Words(f"{name:<10} ", "bold" if not style else ""), Words(text, style)]
