"""The watch's rules as Prometheus's: the same judgement, told by whoever scrapes the server.

Prometheus does not judge again: it cannot tell windows from scrapes. A rule fires while the job holds it broken, under the labels by which
the channel ``alertmanager`` posts it, so that an Alertmanager which hears of it both ways takes it for one alert.
"""

from __future__ import annotations

import json
from typing import Any

from mlops_pipeline.config.monitoring import Rule
from mlops_pipeline.monitoring.exposed import BROKEN, FIGURE, RAN
from mlops_pipeline.monitoring.rules import Terms
from mlops_pipeline.monitoring.watched import Watched

HEAD = "# Written by `mlops monitor rules` from {origin}; do not edit.\n"
VALUE = '{{ with printf QUERY $labels.pipeline $labels.model | query }}{{ . | first | value | printf "%.4g" }}{{ end }}'
"""What Prometheus's templates put in the place of a figure."""
SILENT = "watch_is_silent"
"""The alert that the job itself has stopped."""
UNTOLD_FOR = "15m"
"""A server that is started anew is silent for less."""


def rendered_rules(watch: Watched, silent_after: str, silent_s: float) -> str:
    """The file; ``silent_after`` is how long the job may not have run, ``silent_s`` the same in seconds."""
    import yaml

    terms = watch.terms(watch.models[0], "")
    pipeline = watch.pipeline.name
    rules = [_alert(pipeline, name, rule, terms) for name, rule in watch.settings.rules.items()]
    rules.append(_silent(pipeline, silent_after, silent_s))
    content = {"groups": [{"name": f"mlops-monitor-{pipeline}", "rules": rules}]}
    origin = "the usual rules" if watch.origin is None else watch.origin.name
    return HEAD.format(origin=origin) + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)


def _alert(pipeline: str, name: str, rule: Rule, terms: Terms) -> dict[str, Any]:
    figure = terms.figure(rule.figure)
    chosen = f"{BROKEN}{{pipeline={json.dumps(pipeline)}, rule={json.dumps(name)}}}"
    # Every server that shares the memory tells the same.
    value = f"max({FIGURE}{{pipeline=%q, model=%q, figure={json.dumps(figure)}}})"
    asked = VALUE.replace("QUERY", json.dumps(value))
    notes = {
        "summary": f"{_plain(pipeline)} {{{{ $labels.model }}}}: {_plain(name)}",
        "description": f"{_plain(figure)} is {asked}; wrong is {condition(rule, terms)}",
        "note": _plain(rule.text),
        "runbook_url": _plain(rule.runbook),
    }
    labels = {"severity": rule.severity, "owner": _plain(rule.owner)}
    return {
        "alert": name,
        "expr": f"max by (pipeline, model) ({chosen}) == 1",
        "labels": {key: text for key, text in labels.items() if text},
        "annotations": {key: text for key, text in notes.items() if text},
    }


def _silent(pipeline: str, silent_after: str, silent_s: float) -> dict[str, Any]:
    ran = f"{RAN}{{pipeline={json.dumps(pipeline)}}}"
    summary = _if_untold("nobody tells of any `mlops monitor run`", f"`mlops monitor run` has not run for {silent_after}")
    return {
        "alert": SILENT,
        # Below 0 where nobody tells of any run, which is silence, too.
        "expr": f"time() - max by (pipeline) ({ran}) > {silent_s:g} or -absent({ran})",
        "for": UNTOLD_FOR,
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": f"{_plain(pipeline)}: {summary}",
            "description": _if_untold(
                "It has never run, or no server that reads its memory is scraped: nobody hears of it, whatever is wrong",
                "The last was {{ $value | humanizeDuration }} ago: no window has been counted since, whatever is wrong",
            ),
        },
    }


def _if_untold(untold: str, told: str) -> str:
    return f"{{{{ if lt $value 0.0 }}}}{untold}{{{{ else }}}}{told}{{{{ end }}}}"


def condition(rule: Rule, terms: Terms) -> str:
    """When a rule is broken, in words."""
    times = f" in {rule.windows} windows in a row" if rule.windows > 1 else ""
    surely = ", by the whole of its interval" if rule.surely else ""
    if rule.above is not None or rule.below is not None:
        side, limit = ("above", rule.above) if rule.above is not None else ("below", rule.below)
        more = "" if rule.and_surely is None else f", surely {side} {rule.and_surely:g}"
        return f"{side} {limit:g}{more}{surely}{times}"
    limit = next(each for each in (rule.rises_by, rule.falls_by, rule.worsens_by) if each is not None)
    rises = rule.rises_by is not None or (rule.worsens_by is not None and terms.lower_is_better)
    amount = f"{limit * 100:g} %" if rule.relative else f"{limit:g}"
    beside = "the held-out rows" if rule.against == "reference" else f"the mean of the {rule.against} windows before"
    return f"a {'rise' if rises else 'fall'} by more than {amount} beside {beside}{surely}{times}"


def _plain(text: str) -> str:
    """Text in which Prometheus's templates find nothing of their own."""
    return text.replace("{{", "{{ `{{` }}")
