"""What follows from what is known: a pure function of a release's standing, its evidence and the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from mlops_pipeline.config.release import Guardrail, Policy, Step, seconds_of

Move = Literal["stay", "advance", "promote", "abort", "give up"]
PROMOTING = "promoting"
"""The step between the last one and the alias in the registry, which a controller that goes on finds."""
ABORTING = "aborting"
"""The step of a release that is thrown out after that one: the alias may have to be moved back."""


class Finding(msgspec.Struct, frozen=True):
    """A guardrail's figure, the challenger's less the champion's (more is worse), with an interval that holds at every look."""

    guardrail: str
    figure: str
    estimate: float | None
    low: float | None
    high: float | None
    limit: float
    champion: float | None
    challenger: float | None
    requests: tuple[int, int]
    """Of the champion, of the challenger: so many witnesses, which in arms are units."""
    slice: str = ""
    source: str = "arms"
    """``arms``: units that each answered; ``pairs``: rows that both did."""

    @property
    def is_broken(self) -> bool:
        """Whether it is known to be worse by more than is borne."""
        return self.low is not None and self.low > self.limit

    @property
    def holds(self) -> bool:
        """Whether it is known not to be."""
        return self.high is not None and self.high <= self.limit

    @property
    def text(self) -> str:
        """In words, with its interval."""
        where = f" where {self.slice}" if self.slice else ""
        if self.estimate is None or self.low is None or self.high is None:
            return f"{self.figure}{where}: nothing can be said yet of {self.requests[0]:,} and {self.requests[1]:,} requests"
        unit = " ms" if self.figure.startswith("latency") else ""
        span = f"{self.low:+.4g} to {self.high:+.4g}{unit}"
        of_both, of_each = f"{self.requests[1]:,} requests of both", "{:,} and {:,} requests".format(*self.requests)
        requests = of_both if self.source == "pairs" else of_each
        return f"{self.figure}{where} {self.estimate:+.4g} ({span}; limit {self.limit:+.4g}{unit}), {requests}"


class Evidence(msgspec.Struct, frozen=True):
    """What the record and the labels say of a step."""

    rows: int = 0
    """That the challenger answered in this step, in its shadow too."""
    requests: tuple[int, int] = (0, 0)
    """Of the step: that the champion answered, and that the challenger did, in its shadow too; rows of one say little."""
    labels: int = 0
    """Of the whole release: rows with its answer for which a label has come."""
    findings: tuple[Finding, ...] = ()
    counts: tuple[int, int] = (0, 0)
    """Units (requests, unless something sticks) of the step that the split gave to the champion, and to the challenger."""
    p_of_split: float | None = None
    """Of «the arms got their shares», valid at every look; None where nothing is split, or not by us."""

    @property
    def broken(self) -> list[Finding]:
        """What is known to be worse."""
        return [each for each in self.findings if each.is_broken]

    def as_json(self) -> dict[str, Any]:
        """As it is kept beside a transition."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made


class Standing(NamedTuple):
    """Where a release is."""

    step: str
    state: str
    since: float
    """When the step began, seconds since 1970."""
    approved_by: str = ""
    breakers: Sequence[str] = ()
    """What workers have said that tripped."""
    refused: str = ""
    """Why the challenger may not be taken any more, as where a person has rejected it."""
    champion_is: str = ""
    """What the registry calls champion now, if it is another version than the release was begun beside."""
    stood_still: float = 0.0
    """Seconds of the step in which the release was paused, or nobody held its lease: they are no time of the step's."""

    def lasts(self, now: float) -> float:
        """For how many seconds the step has run."""
        return now - self.since - self.stood_still


class Decision(NamedTuple):
    """What is to be done, and why."""

    move: Move
    reason: str
    step: Step | None = None
    """The next, if it is to advance."""


def decide(policy: Policy, standing: Standing, evidence: Evidence, now: float) -> Decision:
    """What is to become of a release."""
    if standing.state != "running":
        return Decision("stay", f"is {standing.state}")
    place = next((place for place, step in enumerate(policy.steps) if step.name == standing.step), -1)
    if wrong := _wrong(policy, standing, evidence, is_known=place >= 0 or standing.step == PROMOTING):
        return Decision("abort", wrong)
    if standing.step == PROMOTING:
        return Decision("promote", "every step is done")
    step = policy.steps[place]
    if lacks := _lacks(policy, step, standing, evidence, now):
        is_over = standing.lasts(now) > seconds_of(policy.patience)
        return Decision("give up", f"{lacks} after {policy.patience}") if is_over else Decision("stay", lacks)
    if step.approval and not standing.approved_by:
        return Decision("stay", "waits for approval: `mlops release promote`")
    why = f"{evidence.rows:,} rows of {evidence.requests[1]:,} requests, no guardrail broken"
    if unknown := [name for name in policy.guardrails if not any(each.estimate is not None for each in _of(name, evidence))]:
        why += f", nothing is known of {', '.join(unknown)}"
    why += f", approved by {standing.approved_by}" if step.approval else ""
    following = next(iter(policy.steps[place + 1 :]), None)
    return Decision("promote" if following is None else "advance", why, following)


def covered(spans: Iterable[tuple[float, float]], since: float, until: float) -> float:
    """Seconds between two moments that lie in any of the spans; spans may overlap."""
    total, reached = 0.0, since
    for start, end in sorted(spans):
        begins, ends = max(start, reached), min(end, until)
        if ends > begins:
            total, reached = total + ends - begins, ends
    return total


def _wrong(policy: Policy, standing: Standing, evidence: Evidence, *, is_known: bool) -> str:
    """Why the challenger is to be thrown out; empty if nothing says so."""
    if standing.refused:
        return f"the challenger {standing.refused}"
    if standing.champion_is:
        return f"version {standing.champion_is} became champion meanwhile: the challenger was compared with another"
    if not is_known:
        return f"step '{standing.step}' is none of its policy's"
    if standing.breakers or evidence.broken:
        return "; ".join([*(f"a worker tripped: {why}" for why in standing.breakers[:1]), *(each.text for each in evidence.broken[:3])])
    if evidence.p_of_split is not None and evidence.p_of_split < policy.srm_alpha:
        counts = "{:,} and {:,}".format(*evidence.counts)
        return f"the arms did not get their shares ({counts}, p {evidence.p_of_split:.2g}): no figure is to be believed"
    return ""


def _lacks(policy: Policy, step: Step, standing: Standing, evidence: Evidence, now: float) -> str:
    """What has to be seen before the step can be left; empty if all is."""
    if evidence.rows < step.least_rows:
        return f"{evidence.rows:,} of {step.least_rows:,} rows"
    least = min(policy.least_units, step.least_rows)
    sides = evidence.requests if 0 < step.weight < 1 else evidence.requests[1:]
    if min(sides) < least:
        return f"{min(sides):,} of {least:,} requests{' of the champion' if sides[0] < sides[-1] else ''}"
    if evidence.labels < step.least_labels:
        return f"{evidence.labels:,} of {step.least_labels:,} labels"
    if step.least_time is not None and standing.lasts(now) < seconds_of(step.least_time):
        return f"{standing.lasts(now):.0f} s of {step.least_time}"
    if step.compares:
        for name, guardrail in policy.guardrails.items():
            if guardrail.must_hold and not _is_shown(name, guardrail, evidence):
                return f"{name} is not known to hold: {_worst(name, evidence)}"
    return ""


def _is_shown(name: str, guardrail: Guardrail, evidence: Evidence) -> bool:
    """Whether a guardrail holds over all rows by either source; slices must only not be broken."""
    return any(each.holds for each in _of(name, evidence) if each.figure == guardrail.figure)


def _worst(name: str, evidence: Evidence) -> str:
    found = _of(name, evidence)
    return found[0].text if found else "there is no figure"


def _of(name: str, evidence: Evidence) -> list[Finding]:
    """What is said of a guardrail over all rows."""
    return [each for each in evidence.findings if each.guardrail == name and not each.slice]
