"""Releases as servers and people are shown them: a page, and the same for a program."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from mlops_pipeline import pages
from mlops_pipeline.config.release import Step, Turn
from mlops_pipeline.files import in_json
from mlops_pipeline.release.opened import Opened
from mlops_pipeline.release.policy import PROMOTING, Decision, Evidence, Finding, Learned
from mlops_pipeline.release.table import LIVE, Started, Table, Transition

PAGE, JSON = "release", "release.json"
"""What each is called in the watch's memory, where servers read it."""
MOST = 20
"""The last releases that are shown."""

Latest = Mapping[int, tuple[Evidence, Decision]]


def put_there(of: Opened, table: Table, latest: Latest) -> None:
    """Put what is known now in the place of what was shown before."""
    known = known_of(of, table, latest)
    now = time.time()
    with closing(of.watch.state()) as state, state.writing():
        state.show(PAGE, page_of(of, known).replace("\0", "\ufffd"), now)
        state.show(JSON, json.dumps(known, allow_nan=False), now)


def known_of(of: Opened, table: Table | None, latest: Latest) -> dict[str, Any]:
    """The last releases as plain values, the newest first.

    ``verdict`` is of the newest, ``verdicts`` are of each challenger's, for whoever asks whether to go on with it.
    """
    releases: list[dict[str, Any]] = []
    if table is not None:
        shown = _last_shown(of)
        releases = [_release(of, table, each, latest, shown.get(each.number)) for each in reversed(table.releases(of.model)[-MOST:])]
    newest = releases[0] if releases else None
    # Older controllers have written numbers beside transitions that JSON has no word for.
    known: dict[str, Any] = in_json(
        {
            "pipeline": of.watch.pipeline.name,
            "model": of.model,
            "made": time.time(),
            "verdict": "none" if newest is None else newest["verdict"],
            "reason": "" if newest is None else newest["reason"],
            "verdicts": {each["challenger"]: each["verdict"] for each in reversed(releases)},
            "releases": releases,
        }
    )
    return known


VERDICTS = {"promoted": "promoted", "aborted": "failed", "inconclusive": "inconclusive", "paused": "paused"}


GOOD_S = 120.0
"""So long a look is believed where the server that tells of it does not know the lease itself: a controller looks more often."""


def _last_shown(of: Opened) -> dict[int, dict[str, Any]]:
    """Each release as it was shown last, for those who do not look themselves."""
    with closing(of.watch.state()) as state:
        shown = state.shown(JSON)
    told = [] if shown is None else json.loads(shown.content)["releases"]
    return {each["release"]: each for each in told}


def verdict_of(table: Table, last: Transition, seen: tuple[Evidence, Decision] | None, before: frozenset[int] = frozenset()) -> str:
    """One word; healthy only if a controller has looked at this step, has seen answers in it, and still holds the lease.

    ``before``: the transitions of which this was so at its last look, for who does not look.
    """
    if last.state != "running":
        return VERDICTS[last.state]
    if table.lease_until(last.release) < time.time() or table.breakers(last.release):
        return "unknown"
    if seen is None:
        return "healthy" if last.number in before else "unknown"
    evidence, decision = seen
    return "healthy" if last.step == PROMOTING or (evidence.rows and decision.move == "stay") else "unknown"


def _release(of: Opened, table: Table, started: Started, latest: Latest, shown: Mapping[str, Any] | None) -> dict[str, Any]:
    transitions = table.transitions(started.number)
    last = transitions[-1]
    evidence, decision = latest.get(started.number, (None, None))
    known = last_known(transitions, evidence, shown)
    reason, before = decision.reason if decision is not None and last.state in LIVE else last.reason, frozenset[int]()
    if not latest and shown is not None and shown["transitions"][-1]["number"] == last.number:
        reason = shown["reason"]
        before = frozenset({last.number} if shown["verdict"] == "healthy" and shown.get("good_until", 0) > time.time() else ())
    policy = of.policy(started)
    steps: list[Step | Turn] = [*policy.steps, *([policy.ending] if policy.ending is not None else [])]
    return {
        "release": started.number,
        "model": started.model,
        "champion": started.champion,
        "challenger": started.challenger,
        "unit": started.unit,
        "who": started.who,
        "made": started.made,
        "step": last.step,
        "state": last.state,
        "weight": last.weight,
        "shadow": last.shadow,
        "verdict": verdict_of(table, last, latest.get(started.number), before),
        "good_until": time.time() + GOOD_S,
        "reason": reason,
        "lease_until": table.lease_until(started.number) if last.state in LIVE else None,
        "evidence": known.evidence,
        "evidence_step": known.step,
        "evidence_made": known.made,
        "steps": [{"name": each.name, "weight": each.weight, "shadow": each.shadow} for each in steps],
        "transitions": [
            {
                "number": each.number,
                "step": each.step,
                "state": each.state,
                "weight": each.weight,
                "shadow": each.shadow,
                "reason": each.reason,
                "made": each.made,
                "who": each.who,
                "evidence": each.evidence,
            }
            for each in transitions
        ],
    }


class Known(NamedTuple):
    """What was found last: at which step, and when."""

    evidence: dict[str, Any]
    step: str = ""
    made: float = 0.0


def last_known(transitions: Sequence[Transition], seen: Evidence | None, shown: Mapping[str, Any] | None) -> Known:
    """The newest evidence of a release: of this look, of the one that was ``shown`` last, or beside a transition.

    What is written beside a transition was found at the step that it left.
    """
    written = [Known(each.evidence, before.step, each.made) for before, each in pairwise(transitions) if _says_something(each.evidence)]
    if seen is not None and _says_something(found := seen.as_json()):
        is_written = bool(written) and json.dumps(written[-1].evidence) == json.dumps(found)
        return written[-1] if is_written else Known(found, transitions[-1].step, time.time())
    if shown is not None and shown.get("evidence_made"):
        written.append(Known(shown["evidence"], shown["evidence_step"], shown["evidence_made"]))
    return max(written, key=lambda each: each.made, default=Known({}))


def _says_something(evidence: Mapping[str, Any]) -> bool:
    return any(evidence.get(part) for part in ("rows", "findings", "learned", "tested"))


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1040, 150, 58, 14, 14, 26
BAR_WIDTH, BAR_HEIGHT = 340, 26


def page_of(of: Opened, known: Mapping[str, Any]) -> str:
    """The page of what is known."""
    releases = known["releases"]
    return pages.page(
        "release.html",
        title=f"Releases of {of.watch.pipeline.name}",
        known=known,
        ending_lines=ending_lines,
        newest=_drawn(releases[0]) if releases else None,
        made=_moment(known["made"]),
        moment=_moment,
        now=known["made"],
        size=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
        bar=(BAR_WIDTH, BAR_HEIGHT),
    )


def ending_lines(evidence: Mapping[str, Any]) -> list[str]:
    """What a bandit has learned, or an online test says, in a few lines."""
    if evidence.get("learned"):
        known = msgspec.convert(evidence["learned"], Learned)
        return [f"{known.text}; {known.batches} batches, seed {known.seed[0]}, so the challenger is to get {known.weight:.1%}"]
    if evidence.get("tested"):
        told = evidence["tested"]
        arms = ", ".join(f"{arm} {count:,}" for arm, count in told["arms"].items())
        return [f"{told['name']}: {told['verdict'].replace('_', ' ')} ({arms} units): {told['why']}", *told["notes"]]
    return []


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _drawn(release: Mapping[str, Any]) -> dict[str, Any]:
    """The newest release with its picture: the challenger's share over time as a path, and a bar for each guardrail."""
    transitions = release["transitions"]
    first = transitions[0]["made"]
    until = transitions[-1]["made"] if release["state"] not in LIVE else time.time()
    length = max(until - first, 1e-3)

    def x(moment: float) -> float:
        place: float = LEFT + (moment - first) / length * (WIDTH - LEFT - RIGHT)
        return round(place, 1)

    def y(weight: float) -> float:
        return round(TOP + (1 - weight) * (HEIGHT - TOP - BOTTOM), 1)

    path, shadows = f"M{x(first)} {y(0)}", []
    marks: list[tuple[float, str]] = []
    ends = [*(each["made"] for each in transitions[1:]), until]
    for each, end in zip(transitions, ends, strict=True):
        weight = each["weight"] if each["state"] in (*LIVE, "promoted") else 0.0
        path += f" L{x(each['made'])} {y(weight)} L{x(end)} {y(weight)}"
        if each["shadow"]:
            shadows.append((x(each["made"]), round(x(end) - x(each["made"]), 1)))
        word = each["step"] if each["state"] == "running" else each["state"]
        if not marks or marks[-1][1] != word:  # a bandit's shares change within its step
            marks.append((x(each["made"]), word))
    kept: list[tuple[float, str]] = []
    for at, word in marks:  # words that would lie on each other are left out, but for the last
        if not kept or at - kept[-1][0] > 62:
            kept.append((at, word))
        elif (at, word) == marks[-1]:
            kept[-1] = (at, word)
    heights = [(y(share), f"{share:.0%}") for share in (0.0, 0.5, 1.0)]
    return {
        **release,
        "path": path,
        "marks": kept,
        "shadows": shadows,
        "heights": heights,
        "guardrails": [_bar(Finding(**{**each, "requests": tuple(each["requests"])})) for each in release["evidence"].get("findings", ())],
    }


def _bar(found: Finding) -> dict[str, Any]:
    """One guardrail as a line of a table: an interval beside its limit, both on a scale of its own."""
    made: dict[str, Any] = {
        "name": found.guardrail,
        "figure": found.figure,
        "slice": found.slice,
        "window": found.window,
        "text": found.text,
        "source": found.source,
    }
    made["word"] = "broken" if found.is_broken else "holds" if found.holds else "open"
    made["champion"], made["challenger"] = found.champion, found.challenger
    if found.estimate is None or (found.low is None and found.high is None):
        return {**made, "low": None}
    low, high = (end if value is None else value for value, end in ((found.low, -math.inf), (found.high, math.inf)))
    finite = [value for value in (low, high) if math.isfinite(value)]
    reach: float = max([abs(found.limit) * 2, abs(found.estimate) * 1.2, *(abs(value) * 1.05 for value in finite)]) or 1.0
    reach = float(min(float(reach), max(abs(found.limit) * 8, abs(found.estimate) * 2, 1e-9)))

    def x(value: float) -> float:
        inside = min(max(value / reach, -1.0), 1.0)
        place: float = (inside + 1) / 2 * (BAR_WIDTH - 12) + 6
        return round(place, 1)

    return {**made, "low": x(low), "high": x(high), "estimate": x(found.estimate), "limit": x(found.limit), "zero": x(0.0)}
