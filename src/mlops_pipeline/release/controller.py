"""The controller: looks at the evidence, asks the policy, writes what it decides into the table, moves the alias, tells of it.

Each look begins with what is written, so that a controller that was killed is gone on with by the next: the table's last transition
says where. The alias moves between two transitions, ``promoting`` and ``promoted``; both are done, or done again. Whoever would end a
release after the first of them writes ``aborting``, and only when the alias names the former champion again, ``aborted``.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.finding import option_for
from mlops_pipeline.config.release import BANDIT, TEST, Policy, Step
from mlops_pipeline.errors import PipelineError, ServiceAway, one_line
from mlops_pipeline.events import Listener, ReleaseMoved, Warned, current_user
from mlops_pipeline.monitoring.delivery import deliver
from mlops_pipeline.monitoring.judging import judge_release
from mlops_pipeline.registry.download import Unfit
from mlops_pipeline.registry.reader import RegistryUnreachable
from mlops_pipeline.registry.versions import CHALLENGER, CHAMPION
from mlops_pipeline.release.bandit import batches_of, with_learned
from mlops_pipeline.release.evidence import Observations, evidence_of
from mlops_pipeline.release.ledger import Ledger
from mlops_pipeline.release.opened import Opened, lease_end
from mlops_pipeline.release.policy import ABORTING, PROMOTING, Decision, Evidence, Standing, covered, decide
from mlops_pipeline.release.shown import put_there
from mlops_pipeline.release.table import LIVE, Release, Started, StateWord, Table, Transition, with_ends
from mlops_pipeline.release.tested import with_tested

if TYPE_CHECKING:
    from mlops_pipeline.registry.champion import RegistryWriter

CONTROLLER = "controller"
STUCK_S = 120.0
"""A controller that has not ended a look for so long holds no lease any more."""
MAY_COME_BACK = ("unreachable", "cache")
"""Why files are not here, if that may be otherwise at the next look."""


@dataclass(frozen=True)
class Looked:
    """What a look at one release found, and what was decided."""

    started: Started
    last: Transition
    evidence: Evidence
    decision: Decision


class Controller:
    """One process that carries releases on; used on one thread."""

    def __init__(self, of: Opened, table: Table, tell: Listener) -> None:
        self._of, self._table, self._tell = of, table, tell
        self._holder = f"{socket.gethostname()} {os.getpid()} {time.time():.0f}"
        self._stuck_at = time.monotonic() + STUCK_S
        self._blind: frozenset[int] = frozenset()
        """Releases of which the record says nothing now: who sees nothing holds no lease."""
        self._ledgers: dict[int, Ledger] = {}
        self._leaving = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Controller:
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._renewing.join()
        with suppress(PipelineError):
            for release in self._table.current().values():
                self._table.release_lease(release.number, self._holder)

    def look(self) -> list[Looked]:
        """Carry on every release that is under way, and begin one where a version is called challenger and none is."""
        self._stuck_at = time.monotonic() + STUCK_S
        if self._of.settings.auto:
            self._begin_if_called_for()
        current = self._table.current()
        started = {each.number: each for each in self._table.releases()} if current else {}
        self._ledgers = {number: ledger for number, ledger in self._ledgers.items() if number in {each.number for each in current.values()}}
        found = [self._carry_on(started[release.number], release) for release in current.values()]
        self._stuck_at = time.monotonic() + STUCK_S
        tell_of(self._of, self._table, self._tell)
        put_there(self._of, self._table, {each.started.number: (each.evidence, each.decision) for each in found if each is not None})
        return [each for each in found if each is not None]

    def rest(self, pause_s: float) -> None:
        """Wait for the next look; who waits on purpose is not stuck."""
        self._stuck_at = time.monotonic() + pause_s + STUCK_S
        time.sleep(pause_s)

    def _carry_on(self, started: Started, release: Release) -> Looked | None:
        if release.number not in self._blind and not self._table.renew(release.number, self._holder, lease_end(self._of.settings)):
            return None  # another controller is at it
        last = self._table.last(release.number)
        if last is None or last.state not in LIVE:
            return None
        policy = self._of.policy(started)
        if last.step == ABORTING:
            decision = Decision("abort", last.reason)
            self._do(started, last, decision, Evidence())
            return Looked(started, self._table.last(release.number) or last, Evidence(), decision)
        champion, refused = self._registered(started)
        if champion == started.challenger and last.step != PROMOTING:
            decision = Decision("promote", f"version {champion} was made champion by hand")
            self._write(last, "promoted", decision.reason, Evidence())
            return Looked(started, self._table.last(release.number) or last, Evidence(), decision)
        ending = () if policy.ending is None else (policy.ending.name,)
        at_ending = Step(weight=last.weight, least_rows=0) if last.step in ending and last.weight > 0 else None
        step = next((each for each in policy.steps if each.name == last.step), at_ending)
        evidence = Evidence()
        problem = ""
        if step is not None:
            try:
                ledger = self._of.ledger(started, policy, self._ledgers.get(release.number))
            except PipelineError as error:
                problem = str(error)
            else:
                self._ledgers[release.number] = ledger
                seen = ledger.observations(self._of.mirrored(started))
                evidence = self._evidence(started, policy, step, last, seen)
        self._blind = self._blind | {release.number} if problem else self._blind - {release.number}
        now = time.time()
        standing = Standing(
            last.step,
            last.state,
            self._since(last),
            self._table.approved(release.number, last.step),
            [each.reason for each in self._table.breakers(release.number)],
            refused,
            "" if champion in ("", started.champion, started.challenger) else champion,
            self._stood_still(last, now),
            last.weight,
            self._of.option,
        )
        decision = decide(policy, standing, evidence, now)
        if problem and decision.move != "abort":  # what is not seen is not lacking, however late it is
            decision = Decision("stay", f"the record cannot be read, so the lease is not renewed: {problem}")
        if cannot := self._do(started, last, decision, evidence):
            decision = decision._replace(reason=f"{decision.reason}, but {cannot}")
        return Looked(started, self._table.last(release.number) or last, evidence, decision)

    def _evidence(self, started: Started, policy: Policy, step: Step, last: Transition, seen: Observations) -> Evidence:
        """Of the step, with what a bandit has learned, or a test says, where the release is at one."""
        since = self._since(last)
        if last.step not in (BANDIT, TEST):
            return evidence_of(policy, step, since, seen, splits_evenly=self._of.divides)
        turns = self._table.transitions(started.number)
        batches = [each.since for each in batches_of(turns)] if last.step == BANDIT else [since]
        evidence = evidence_of(policy, step, since, seen, splits_evenly=False, batches=batches)
        if last.step == BANDIT:
            return with_learned(evidence, policy, started.number, turns, seen, divides=self._of.divides)
        return with_tested(evidence, policy, turns, seen)

    def _since(self, last: Transition) -> float:
        """When the step began; a pause within it does not begin it anew, and rows of before the pause are of the same shares."""
        of_step = [each for each in self._table.transitions(last.release) if each.step == last.step]
        return of_step[0].made

    def _stood_still(self, last: Transition, now: float) -> float:
        """For how long of the step nothing was decided: it was paused, or the lease was over."""
        made = self._table.transitions(last.release)
        pauses = [(each.made, end) for each, end in with_ends(made, now) if each.state == "paused"]
        lapses = [*self._table.lapses(last.release), (self._table.lease_until(last.release), now)]
        return covered([*pauses, *lapses], self._since(last), now)

    def _do(self, started: Started, last: Transition, decision: Decision, evidence: Evidence) -> str:
        """Carry a decision out; why that cannot be done now, else empty."""
        match decision.move:
            case "advance" if decision.step is not None:
                self._write(last, "running", decision.reason, evidence, decision.step.name, decision.step.weight, decision.step.shadow)
            case "promote":
                return self._promote(started, last, decision, evidence)
            case "abort":
                self._end(started, last, "aborted", decision.reason, evidence)
            case "give up":
                self._end(started, last, "inconclusive", decision.reason, evidence)
            case _:
                pass
        return ""

    def _promote(self, started: Started, last: Transition, decision: Decision, evidence: Evidence) -> str:
        """The table first, then the alias, then the table: whoever is killed between finds ``promoting`` and does the rest."""
        if last.step != PROMOTING:
            made = self._write(last, "running", decision.reason, evidence, PROMOTING, last.weight, 0.0)
            if made is None:
                return ""
            last = made
        try:
            refused = promote(self._of, self._table, started, last, self._tell)
        except (RegistryUnreachable, ServiceAway, Unfit) as error:
            return f"that cannot be done now, and each look tries again: {error}"
        if refused:
            self._end(started, last, "aborted", refused, evidence)
        return ""

    def _end(self, started: Started, last: Transition, state: StateWord, reason: str, evidence: Evidence) -> None:
        end(self._of, self._table, started, last, state, reason, evidence.as_json(), CONTROLLER, self._tell)

    def _write(
        self,
        last: Transition,
        state: StateWord,
        reason: str,
        evidence: Evidence,
        step: str | None = None,
        weight: float | None = None,
        shadow: float = 0.0,
    ) -> Transition | None:
        return self._table.advance(
            last.release,
            last.number,
            step=last.step if step is None else step,
            state=state,
            weight=last.weight if weight is None else weight,
            shadow=shadow,
            reason=reason,
            evidence=evidence.as_json(),
            who=CONTROLLER,
        )

    def _registered(self, started: Started) -> tuple[str, str]:
        """The champion's number, and why the challenger may not be taken; both empty where the registry does not answer."""
        try:
            versions = {str(each.number): each for each in self._of.registry().versions()}
        except PipelineError:
            return "", ""
        challenger = versions.get(started.challenger)
        refused = f"version {started.challenger} is not in the registry" if challenger is None else challenger.refused
        return next((number for number, each in versions.items() if each.is_champion), ""), refused

    def _begin_if_called_for(self) -> None:
        """A version that is called challenger in the registry, and never had a release beside this champion, gets one."""
        if self._of.model in self._table.current():
            return
        try:
            versions = self._of.registry().versions()
        except PipelineError:
            return
        challenger = next((each for each in versions if CHALLENGER in each.aliases and not each.refused), None)
        champion = next((each for each in versions if each.is_champion), None)
        if challenger is None or champion is None or challenger.number == champion.number or of_fixed(self._of):
            return
        before = {(each.champion, each.challenger) for each in self._table.releases(self._of.model)}
        if (str(champion.number), str(challenger.number)) not in before:
            self._of.check(str(champion.number))
            with suppress(PipelineError):  # another controller was faster
                begin(self._of, self._table, champion.number, challenger.number, "is called challenger", CONTROLLER)

    def _renew(self) -> None:
        """Hold the leases while looks come to an end, on a connection of its own."""
        pause = self._of.settings.lease_s / 3
        while not self._leaving.wait(pause):
            if time.monotonic() > self._stuck_at:
                continue
            # A database that is away: the lease ends, and all traffic is the champion's.
            with suppress(PipelineError), closing(self._of.table()) as table:
                for number in {each.number for each in table.current().values()} - self._blind:
                    table.renew(number, self._holder, lease_end(self._of.settings))


def of_fixed(of: Opened) -> str:
    """Why nothing can be released under a name in the address: it does not follow the alias; empty if it does."""
    named = of.watch.references[of.model]
    return "" if named == CHAMPION else f"the server answers with '{named}' as {of.model}: let it follow the alias, {of.model}: {CHAMPION}"


def begin(of: Opened, table: Table, champion: int, challenger: int, reason: str, who: str) -> int:
    """Begin a release at its policy's first step; its number. Raises :class:`PipelineError` if one is under way."""
    policy = of.settings.policy
    first = policy.first
    return table.start(
        of.model,
        str(champion),
        str(challenger),
        policy=policy.model_dump_json(),
        unit=of.settings.unit,
        step=first.name,
        weight=first.weight,
        shadow=first.shadow,
        reason=reason,
        who=who,
        lease_until=lease_end(of.settings),
        option=of.option,
    )


def end(
    of: Opened,
    table: Table,
    started: Started,
    last: Transition,
    state: StateWord,
    reason: str,
    evidence: Mapping[str, Any],
    who: str,
    tell: Listener,
) -> bool:
    """All traffic is the champion's again; the version is called challenger no more. False if somebody has decided something else.

    Raises :class:`PipelineError` where the alias may have moved and nobody can tell: the release is ``aborting`` then, and the next look,
    or the next who ends it, goes on.
    """
    if last.step in (PROMOTING, ABORTING):
        return _abort_promotion(of, table, started, last, reason, evidence, who, tell)
    if _over(table, last, last.step, state, reason, evidence, who) is None:
        return False
    with suppress(PipelineError):  # a registry that is away: the table is what servers go by
        of.registry().without_challenger(int(started.challenger))
    return True


def stop(of: Opened, table: Table, reason: str, who: str) -> None:
    """End what is under way, whatever is decided meanwhile, for one who moves the alias himself and lets nobody else do so."""
    for started in table.releases(of.model):
        while (last := table.last(started.number)) is not None and last.state in LIVE:
            _over(table, last, last.step, "aborted", reason, {}, who)
            with suppress(PipelineError):
                of.registry().without_challenger(int(started.challenger))


def _abort_promotion(
    of: Opened, table: Table, started: Started, last: Transition, reason: str, evidence: Mapping[str, Any], who: str, tell: Listener
) -> bool:
    """End a release whose challenger may be champion already: the table first, so that nobody promotes it any more, then the alias."""
    if last.step != ABORTING:
        made = table.advance(
            last.release, last.number, step=ABORTING, state="running", weight=0.0, shadow=0.0, reason=reason, evidence=evidence, who=who
        )
        if made is None:
            return False
        last = made
    registry = of.registry()
    with registry.deciding(tell):
        champion = registry.champion()
        if champion is not None and str(champion.number) == started.challenger and (kept := _kept(of, registry, started, reason, tell)):
            reason = f"{reason}, but version {champion.number} stays champion: {kept}"
        with suppress(PipelineError):  # it may be deleted
            registry.without_challenger(int(started.challenger))
        return _over(table, last, ABORTING, "aborted", reason, last.evidence, who) is not None


def _kept(of: Opened, registry: RegistryWriter, started: Started, reason: str, tell: Listener) -> str:
    """Take a challenger back that is champion; why it stays one, else empty.

    It stays where another than the release made it champion, or no former one may be taken. Raises :class:`PipelineError` where that
    cannot be done now and may be later.
    """
    how = registry.became_champion(int(started.challenger), started.made)
    if how not in (None, "released"):
        return f"it was {how}" if how != "passed the gate" else f"it {how}"
    try:
        registry.rollback(tell, f"release {started.number}: {reason}")
    except PipelineError as error:
        if _may_be_later(error):
            raise
        return str(error)
    _publish(of, registry, tell)
    return ""


def _may_be_later(error: PipelineError) -> bool:
    """Whether what failed may be done at the next look."""
    return isinstance(error, (RegistryUnreachable, ServiceAway)) or (isinstance(error, Unfit) and error.reason in MAY_COME_BACK)


def _over(
    table: Table, last: Transition, step: str, state: StateWord, reason: str, evidence: Mapping[str, Any], who: str
) -> Transition | None:
    return table.advance(
        last.release, last.number, step=step, state=state, weight=0.0, shadow=0.0, reason=reason, evidence=evidence, who=who
    )


def promote(of: Opened, table: Table, started: Started, last: Transition, tell: Listener) -> str:
    """Move the alias, if it is not moved yet, and write ``promoted``; why the version may not be taken, else empty.

    Nothing is moved where ``last`` is the last transition no more, or the registry calls a third version champion; nor where the
    challenger has been champion since the release began, and somebody has moved the alias back. Raises :class:`PipelineError` where that
    cannot be done now and may be later.
    """
    registry = of.registry()
    with registry.deciding(tell):
        now = table.last(started.number)
        former = registry.champion()
        if now is None or now.number != last.number:
            return ""
        if former is not None and str(former.number) not in (started.champion, started.challenger):
            return ""
        if tripped := table.breakers(started.number):
            return f"a worker tripped: {tripped[0].reason}"
        if former is None or str(former.number) != started.challenger:
            try:
                if former is not None and registry.became_champion(int(started.challenger), started.made) is not None:
                    return f"version {former.number} was made champion again after version {started.challenger} had become it"
                registry.promote(int(started.challenger), None, tell, "released", f"release {started.number}")
            except PipelineError as error:
                if _may_be_later(error):
                    raise
                return str(error)
        _publish(of, registry, tell)
        table.advance(
            last.release,
            last.number,
            step=PROMOTING,
            state="promoted",
            weight=1.0,
            shadow=0.0,
            reason=f"version {started.challenger} is champion",
            evidence={},
            who=CONTROLLER,
        )
    return ""


def _publish(of: Opened, registry: RegistryWriter, tell: Listener) -> None:
    """Bring the champion's files here; servers have their own, so a disk that is full holds no release up."""
    try:
        registry.publish(tell)
    except (PipelineError, OSError) as error:
        here = f"`mlops run{option_for(of.watch.config)}` brings the champion's files here"
        tell(Warned(pipeline=of.watch.pipeline.name, text=f"best_model: {one_line(error)}: {here}"))


def tell_of(of: Opened, table: Table, tell: Listener) -> None:
    """The alert of what a person should know of, then an event for each transition of which none was told.

    In this order, since who fails or is killed between does both again at the next look, and an alert that fires is not fired twice.
    """
    new = table.untold()
    if not new:
        return
    started = {each.number: each for each in table.releases()}
    last = new[-1]
    release = started[last.release]
    text = f"release {last.release} of version {release.challenger} {last.state} at {last.step}: {last.reason}"
    with closing(of.watch.state()) as state:
        with state.writing():
            judge_release(
                of.watch, state, release.model, release.challenger, text if last.state in ("aborted", "inconclusive") else "", time.time()
            )
        deliver(of.watch, state, tell)
    for each in new:
        tell(moved(of, started[each.release], each))
        table.told(each.number)


def moved(of: Opened, release: Started, made: Transition) -> ReleaseMoved:
    """A transition as an event."""
    return ReleaseMoved(
        user=current_user() if made.who == CONTROLLER else made.who,
        pipeline=of.watch.pipeline.name,
        model=release.model,
        release=made.release,
        transition=made.number,
        champion=release.champion,
        challenger=release.challenger,
        step=made.step,
        state=made.state,
        weight=made.weight,
        shadow=made.shadow,
        reason=made.reason,
    )
