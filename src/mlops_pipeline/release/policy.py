"""What follows from what is known: a pure function of a release's standing, its evidence and the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from mlops_pipeline.config.moments import seconds_of
from mlops_pipeline.config.release import BANDIT, TEST, Bandit, Guardrail, Policy, Step, Turn

if TYPE_CHECKING:
    from mlops_pipeline.config.experiment import Experiment

Move = Literal["stay", "advance", "promote", "abort", "give up"]
PROMOTING = "promoting"
"""The step between the last one and the alias in the registry, which a controller that goes on finds."""
SHOWN = 3
"""Of what is broken, in a reason."""
LEAST_CHANGE = 0.01
"""Shares of a bandit that would change by less stay."""
ABORTING = "aborting"
"""The step of a release that is thrown out after that one: the alias may have to be moved back."""


class Finding(msgspec.Struct, frozen=True):
    """A guardrail's figure, the challenger's less the champion's (more is worse), with an interval that holds at every look.

    An end that nothing is known of is None: a quantile of few answers may be anything beyond the largest.
    """

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
    window: str = ""
    """From when to when, where it is of a part of a bandit's or a test's time."""

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
        where = (f" where {self.slice}" if self.slice else "") + (f" in {self.window}" if self.window else "")
        if self.estimate is None or (self.low is None and self.high is None):
            return f"{self.figure}{where}: nothing can be said yet of {self.requests[0]:,} and {self.requests[1]:,} requests"
        unit = " ms" if self.figure.startswith("latency") else ""
        ends = [f"{end:+.4g}" for end in (self.low, self.high) if end is not None]
        span = " to ".join(ends) if len(ends) > 1 else f"{ends[0]} or {'more' if self.high is None else 'less'}"
        span += unit
        of_both, of_each = f"{self.requests[1]:,} requests of both", "{:,} and {:,} requests".format(*self.requests)
        requests = of_both if self.source == "pairs" else of_each
        return f"{self.figure}{where} {self.estimate:+.4g} ({span}; limit {self.limit:+.4g}{unit}), {requests}"


class Learned(msgspec.Struct, frozen=True):
    """What is known of the two arms' earnings; pairs are of the champion and the challenger."""

    units: tuple[int, int]
    """That have earned something, or nothing, for sure."""
    means: tuple[float, float] | None
    """Over the same batches; None before both arms have units."""
    gain: float | None
    low: float | None
    high: float | None
    """The challenger's mean less the champion's, with an interval that holds at every look."""
    better: float
    """The probability that the challenger's mean is higher."""
    p: float
    """Of «both earn the same», valid at every look."""
    weight: float
    """The share that follows."""
    fresh: int
    """Units of the last batch that have earned something."""
    batches: int
    seed: tuple[int, int, int]
    """Of the draws: the policy's, the release's number, the batch's."""
    beyond: int = 0
    """Figures outside of the reward's bounds, which count as these."""
    unlike: tuple[float, float] | None = None
    """The shares of both arms' units whose reward is known, where they differ more than chance would have it: then nothing follows."""
    wanted: int = 0
    """So many ``fresh`` ones before the shares change, if that is more than the policy says."""

    @property
    def text(self) -> str:
        """In words."""
        if self.means is None:
            return "{:,} and {:,} units have earned something, or nothing, for sure".format(*self.units)
        earned = "{:.4g} and {:.4g} of {:,} and {:,} units".format(*self.means, *self.units)
        span = "" if self.low is None or self.high is None else f" ({self.low:+.4g} to {self.high:+.4g})"
        gain = "" if self.gain is None else f", {self.gain:+.4g}{span}"
        beyond = f"; {self.beyond:,} figures lie beyond the reward's bounds and count as these" if self.beyond else ""
        if self.unlike is not None:
            known = "{:.0%} of the champion's units and of {:.0%} of the challenger's".format(*self.unlike)
            return f"rewards are known of {known}: what is known is not what was earned, so nothing follows from it"
        return f"earned {earned}{gain}; better with probability {self.better:.3g}{beyond}"


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
    learned: Learned | None = None
    """Of a bandit: what each arm earned."""
    tested: dict[str, Any] | None = None
    """Of an online test: its report for programs."""

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
    weight: float = 0.0
    """The challenger's share of units now."""
    option: str = ""
    """What a command about releases needs, to mean these."""

    def lasts(self, now: float) -> float:
        """For how many seconds the step has run."""
        return now - self.since - self.stood_still


class Decision(NamedTuple):
    """What is to be done, and why."""

    move: Move
    reason: str
    step: Step | Turn | None = None
    """The next, if it is to advance; a bandit advances to other shares of its own step."""


def decide(policy: Policy, standing: Standing, evidence: Evidence, now: float) -> Decision:
    """What is to become of a release."""
    if standing.state != "running":
        return Decision("stay", f"is {standing.state}")
    place = next((place for place, step in enumerate(policy.steps) if step.name == standing.step), -1)
    ending = () if policy.ending is None else (policy.ending.name,)
    if wrong := _wrong(policy, standing, evidence, is_known=place >= 0 or standing.step in (PROMOTING, *ending)):
        return Decision("abort", wrong)
    if standing.step == PROMOTING:
        return Decision("promote", "every step is done")
    if standing.step == BANDIT and policy.bandit is not None:
        return _of_bandit(policy.bandit, standing, evidence, now)
    if standing.step == TEST and policy.experiment is not None:
        return _of_test(policy.experiment, standing, evidence, now)
    return _of_step(policy, place, standing, evidence, now)


def _of_step(policy: Policy, place: int, standing: Standing, evidence: Evidence, now: float) -> Decision:
    step = policy.steps[place]
    if lacks := _lacks(policy, step, standing, evidence, now):
        is_over = standing.lasts(now) > seconds_of(policy.patience)
        return Decision("give up", f"{lacks} after {policy.patience}") if is_over else Decision("stay", lacks)
    if step.approval and not standing.approved_by:
        return Decision("stay", f"waits for approval: `mlops release promote{standing.option}`")
    why = f"{evidence.rows:,} rows of {evidence.requests[1]:,} requests, no guardrail broken"
    if unknown := [name for name in policy.guardrails if not any(each.estimate is not None for each in _of(name, evidence))]:
        why += f", nothing is known of {', '.join(unknown)}"
    why += f", approved by {standing.approved_by}" if step.approval else ""
    following = next(iter(policy.steps[place + 1 :]), policy.ending)
    return Decision("promote" if following is None else "advance", why, following)


def _of_bandit(bandit: Bandit, standing: Standing, evidence: Evidence, now: float) -> Decision:
    """Sure of one, it ends; else shares follow what is earned, batch by batch."""
    learned = evidence.learned
    if learned is None:
        return Decision("stay", "nothing is known yet of what was earned")
    is_ready = min(learned.units) >= bandit.least_units and learned.unlike is None
    if is_ready and learned.p <= bandit.alpha:
        if learned.better >= bandit.sure:
            return Decision("promote", f"the challenger earns more: {learned.text}")
        if 1 - learned.better >= bandit.sure:
            return Decision("abort", f"the challenger earns less: {learned.text}")
    if standing.lasts(now) > seconds_of(bandit.most_time):
        return Decision("give up", f"nobody can tell after {bandit.most_time} who earns more: {learned.text}")
    is_due = learned.unlike is None and learned.fresh >= max(bandit.batch_units, learned.wanted)
    if is_due and abs(learned.weight - standing.weight) >= LEAST_CHANGE:
        share = f"{learned.weight:.1%}"
        return Decision("advance", f"gets {share} of the units: {learned.text}", Turn(BANDIT, learned.weight))
    return Decision("stay", learned.text)


def _of_test(experiment: Experiment, standing: Standing, evidence: Evidence, now: float) -> Decision:
    """As the test's report says."""
    tested = evidence.tested
    if tested is None:
        return Decision("stay", "no unit has come yet")
    verdict, why = tested["verdict"], str(tested["why"])
    units = int(tested.get("all_units", tested["units"]))  # of a long record not all are looked at
    undecided = standing.lasts(now) > seconds_of(experiment.most_time) or units >= experiment.last_unit
    if verdict == "treatment":
        said = f"the test says take the challenger, of {units:,} units: {why}"
        if experiment.then == "promote" or standing.approved_by:
            return Decision("promote", said + (f", approved by {standing.approved_by}" if standing.approved_by else ""))
        return Decision("stay", f"{said}; waits for approval: `mlops release promote{standing.option}`")
    if verdict in ("control", "cannot_judge"):
        said = "says keep the champion, " if verdict == "control" else "cannot be judged, "
        return Decision("abort", f"the test {said}of {units:,} units: {why}")
    if undecided:
        spent = f"{units:,} units" if units >= experiment.last_unit else f"{experiment.most_time} and {units:,} units"
        return Decision("give up", f"undecided after {spent}: {why}")
    return Decision("stay", f"{units:,} of at most {experiment.last_unit:,} units: {why}")


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
        said = [*(f"a worker tripped: {why}" for why in standing.breakers[:1]), *(each.text for each in evidence.broken[:SHOWN])]
        more = len(evidence.broken) - SHOWN
        return "; ".join(said) + (f"; and {more} more guardrails or slices" if more > 0 else "")
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
    return [each for each in evidence.findings if each.guardrail == name and not each.slice and not each.window]
