"""The commands of releases: what is read, what is done, and the lines that are said of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.config.experiment import load_experiment
from mlops_pipeline.config.finding import release_config
from mlops_pipeline.config.release import TEST, load_releases
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Event, Listener, ReleaseMoved, current_user
from mlops_pipeline.layout import find_project
from mlops_pipeline.lines import Words, labelled, shown_on, text_of
from mlops_pipeline.records.entry import CHALLENGER as ANSWERED_ARM
from mlops_pipeline.records.reading import arm_in, requests_of
from mlops_pipeline.registry.lock import afterwards
from mlops_pipeline.registry.versions import CHALLENGER
from mlops_pipeline.release.controller import Controller, Looked, begin, end, moved, of_fixed, stop, tell_of
from mlops_pipeline.release.opened import Opened, opened
from mlops_pipeline.release.policy import ABORTING, PROMOTING
from mlops_pipeline.release.rendered import TARGETS, rendered
from mlops_pipeline.release.shown import ending_lines, known_of, put_there
from mlops_pipeline.release.table import LIVE, Release, Started, StateWord, Table, Transition
from mlops_pipeline.release.wake import told_for

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from mlops_pipeline.config.experiment import Experiment
    from mlops_pipeline.registry.champion import RegistryWriter
    from mlops_pipeline.release.offpolicy import Earned

LIVE_LINES = 8
LAST_TURNS = 5
"""Of a bandit's changes of shares that are told one by one."""
NONE_NOW = "no release is under way"
ALIKE = 5e-5
"""Ends of an estimate that are the same as far as it is written."""
SHARE = 4.0
"""Between two looks so much longer than a look took, at least."""
_UNTOLD = "what was decided is done; it cannot be told now, and is at the next look of `mlops release watch{}`: {}"


@contextmanager
def _opened(config: Path | None) -> Iterator[tuple[Opened, Table]]:
    of = opened(config)
    with closing(of.table()) as table:
        yield of, table


@contextmanager
def _there(config: Path | None) -> Iterator[tuple[Opened, Table | None]]:
    """The same for who only reads: no table where nobody has begun a release."""
    of = opened(config)
    if (table := of.table_there()) is None:
        yield of, None
        return
    with closing(table):
        yield of, table


@contextmanager
def _under_way(config: Path | None) -> Iterator[tuple[Opened, Table, Release]]:
    """The release that is under way. Raises :class:`PipelineError` if none is."""
    with _there(config) as (of, table):
        release = None if table is None else table.current().get(of.model)
        if table is None or release is None:
            raise PipelineError(f"{of.model}: no release is under way: `mlops release start VERSION{of.option}` begins one")
        yield of, table, release


def start(console: Console, config: Path | None, version: int, reason: str, *, wait: bool, experiment: Experiment | None = None) -> None:
    """`mlops release start`, or of an online test `mlops experiment start`.

    Raises :class:`PipelineError` for a version that may not be taken.
    """
    with _opened(config) as (settled, table):
        of = settled if experiment is None else settled.testing(experiment)
        registry = of.registry()
        challenger, champion = registry.get(version), registry.champion()
        if champion is None:
            promote = f"`mlops models promote {version}{of.option_of_pipeline}`"
            raise PipelineError(f"{registry.name}: has no champion to be beside: {promote} makes one")
        if champion.number == version:
            others = f"`mlops models list{of.option_of_pipeline}`"
            raise PipelineError(f"{registry.name} version {version}: is champion: name another, {others} shows them")
        if why := of_fixed(of):
            raise PipelineError(why)
        if challenger.refused:
            raise PipelineError(f"{registry.name} version {version}: {challenger.why_refused(of.option_of_pipeline)}")
        table.refuse_beside_another(of.model, of.option)
        of.check(str(champion.number))
        registry.fetch(challenger)
        of.refuse_unfit(str(champion.number), str(version))
        number = _begun(of, table, registry, champion.number, version, reason or "typed")
        _tell(of, table, console, _listener(of, console))
        if not wait:
            console.print(
                f"release {number} has begun: `mlops release watch{of.option}` carries it on; "
                f"without it the lease ends in {of.settings.lease_s:g} s"
            )
    if wait:
        watch(console, config, until_over=number)


def _begun(of: Opened, table: Table, registry: RegistryWriter, champion: int, version: int, reason: str) -> int:
    """The name first, then the table: a version that is only called challenger is begun by the next `mlops release watch`.

    Raises :class:`PipelineError` where another release was begun meanwhile; whoever was called challenger is called so again.
    """
    before = next((each.number for each in registry.versions() if CHALLENGER in each.aliases), None)
    registry.make_challenger(version)
    try:
        return begin(of, table, champion, version, reason, current_user())
    except PipelineError:
        there = table.current().get(of.model)
        if there is not None and there.challenger == str(version):
            return there.number  # `mlops release watch` was faster
        if before is None:
            registry.without_challenger(version)
        elif before != version:
            registry.make_challenger(before)
        raise


def watch(console: Console, config: Path | None, *, until_over: int | None = None) -> None:
    """`mlops release watch`: carry releases on until it is stopped, or until one is over."""
    try:
        _watch(console, config, until_over)
    except KeyboardInterrupt:
        with suppress(PipelineError), _opened(config) as (of, table):
            for release in table.current().values():
                console.print(
                    f"release {release.number} is left without this controller: unless another goes on, all traffic is the champion's in "
                    f"{of.settings.lease_s:g} s; `mlops release watch{of.option}` carries it on, `mlops release abort{of.option}` ends it"
                )
        raise


def _watch(console: Console, config: Path | None, until_over: int | None) -> None:
    from rich.console import Group
    from rich.live import Live

    of = opened(config)
    shown: list[Text] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:
        tell, announced = _announcing(live.console)
        while True:
            problem = ""
            try:
                with _opened(config) as (of, table), Controller(of, table, _kept(of, tell)) as controller:
                    while True:
                        began = time.monotonic()
                        found = controller.look()
                        took = time.monotonic() - began
                        shown = [line for each in found for line in _shown(of, table, each)]
                        if not found:
                            others = bool(table.current())
                            elsewhere = f"another controller carries on what is under way: `mlops release status{of.option}`"
                            said = elsewhere if others else NONE_NOW
                            shown = [text_of([Words(said, "dim")])]
                        live.update(Group(*shown), refresh=True)
                        if until_over is not None and (last := table.last(until_over)) is not None and last.state not in LIVE:
                            _say_end(live.console, of, table, table.started(until_over), announced)
                            return
                        # A long record takes long to read: it is not all that this machine does.
                        controller.rest(max(of.settings.look_s, SHARE * took))
            except Exception as error:  # a database or a registry that is away comes back
                from mlops_pipeline.registry.rest import told

                if (problem := str(error) if isinstance(error, PipelineError) else told(error) or "") == "":
                    raise
            live.update(Group(*shown, text_of(labelled("problem", problem, "red"))), refresh=True)
            time.sleep(min(of.settings.look_s, of.settings.lease_s / 3))


def status(console: Console, config: Path | None, *, as_json: bool) -> None:
    """`mlops release status`."""
    with _there(config) as (of, table):
        known = known_of(of, table, {})
        under_way = [each["release"] for each in known["releases"][:1] if each["state"] in LIVE]
        unable = [reason for number in under_way if table is not None for reason in table.unable(number)]
        if as_json:
            print(json.dumps({**known, "unable": unable}, indent=2))
            return
        if not known["releases"]:
            console.print(f"no release was begun yet: `mlops release start VERSION{of.option}` begins one")
            return
        newest = known["releases"][0]
        now = time.time()
        share = f"answers {newest['weight']:.0%}" + (f", asked besides in {newest['shadow']:.0%}" if newest["shadow"] else "")
        lines = [
            labelled("release", f"{newest['release']}, {newest['model']}, unit {newest['unit']}"),
            labelled("version", f"{newest['challenger']} beside {newest['champion']}: {share}"),
            labelled("step", f"{newest['step']}, {newest['state']}: {newest['reason']}"),
        ]
        if newest["lease_until"] is not None:
            left = newest["lease_until"] - now
            over = f"over: all traffic is the champion's until `mlops release watch{of.option}` goes on"
            said = f"{left:.0f} s" if left > 0 else over
            lines.append(labelled("lease", said, "" if left > 0 else "yellow"))
        lines += map(_unable, unable)
        if newest["evidence_made"]:
            looked = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(newest["evidence_made"]))
            rows = f"{newest['evidence'].get('rows', 0):,} rows of the challenger's in step {newest['evidence_step']}"
            lines.append(labelled("looked", f"{looked}: {rows}"))
        lines += [labelled("", text) for text in ending_lines(newest["evidence"])]
        for line in (*lines, *_turns_told(newest["transitions"], of.option)):
            console.print(text_of(line))


def _turns_told(turns: Sequence[Mapping[str, Any]], option: str = "") -> Iterator[Sequence[Words]]:
    """A line for each transition; of shares that changed within a step, the first and the last few."""
    within = [place for place in range(1, len(turns)) if _is_same(turns[place - 1], turns[place])]
    left_out = set(within[:-LAST_TURNS])
    for place, each in enumerate(turns):
        if place in left_out:
            if place - 1 not in left_out:
                count = next(end for end in range(place, len(turns) + 1) if end not in left_out) - place
                yield [Words(f"  … {count:,} more changes of its share, all in `mlops release status --json{option}`", "dim")]
            continue
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(each["made"]))
        yield [Words(f"  {when}  ", "dim"), Words(f"{each['step']:<10} {each['state']:<12} {each['reason']} ({each['who']})")]


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one["step"], one["state"]) == (other["step"], other["state"])


def change(console: Console, config: Path | None, state: StateWord, reason: str) -> None:
    """`mlops release pause`, `resume` and `abort`. Raises :class:`PipelineError` without a release that can be changed so."""
    with _under_way(config) as (of, table, release):
        if state == "aborted":
            started = table.started(release.number)
            tell, announced = _announcing(console)
            _abort(of, table, started, reason, console, _kept(of, tell))
            _say_end(console, of, table, started, announced)
            for line in _ended_lines(of, table, started):
                console.print(text_of(line))
            return
        if state == "paused" and release.state == "paused":
            raise PipelineError(f"release {release.number}: is paused already: `mlops release resume{of.option}` lets it go on")
        last = table.last(release.number)
        if last is None:
            raise PipelineError(f"release {release.number}: has no transition: its table is damaged")
        if last.step == ABORTING:
            raise PipelineError(
                f"release {release.number}: is being aborted: `mlops release abort{of.option}` again ends it, "
                f"or `mlops release watch{of.option}`"
            )
        if state == "paused" and last.step == PROMOTING:  # the alias moves at any moment, or has moved
            raise PipelineError(
                f"release {release.number}: too late to pause it, version {release.challenger} is becoming champion: "
                f"`mlops release abort{of.option}` ends it, and brings the former champion back"
            )
        if state == "running" and (tripped := table.breakers(release.number)):
            raise PipelineError(
                f"release {release.number}: a worker tripped ({tripped[0].reason}), so no worker asks the challenger any more: "
                f"`mlops release abort{of.option}`, and `mlops release start {release.challenger}{of.option}` to try it again"
            )
        made = table.advance(
            release.number,
            last.number,
            step=last.step,
            state=state,
            weight=last.weight,
            shadow=last.shadow,
            reason=reason or {"paused": "paused by hand"}.get(state, "resumed by hand"),
            evidence={},
            who=current_user(),
        )
        if made is None:
            raise PipelineError(
                f"release {release.number}: was changed by somebody else meanwhile: "
                f"look at `mlops release status{of.option}`, and type it again"
            )
        _tell(of, table, console, _listener(of, console))


def _tell(of: Opened, table: Table, console: Console, tell: Listener) -> None:
    """Tell of what was decided, which stands whether or not it can be told now: the next look tells what is left."""
    try:
        tell_of(of, table, tell)
        put_there(of, table, {})
    except PipelineError as error:
        console.print(_UNTOLD.format(of.option, error))


def _abort(of: Opened, table: Table, started: Started, reason: str, console: Console, tell: Listener) -> None:
    """Throw a challenger out, whatever is decided meanwhile. Raises :class:`PipelineError` if it is champion by then."""
    try:
        while (last := table.last(started.number)) is not None and last.state in LIVE:
            if end(of, table, started, last, "aborted", reason or "aborted by hand", {}, current_user(), tell):
                break
    except PipelineError as error:
        raise PipelineError(
            f"release {started.number}: goes no further; which version is champion cannot be settled now, "
            f"`mlops release watch{of.option}` does it once it can, or this command again: {error}"
        ) from error
    finally:
        _tell(of, table, console, tell)
    if (last := table.last(started.number)) is not None and last.state == "promoted":
        raise PipelineError(
            f"release {started.number}: was over before, version {started.challenger} is champion: "
            f"`mlops models rollback{of.option_of_pipeline}` brings the former back"
        )


def _ended_lines(of: Opened, table: Table, started: Started) -> Iterator[Sequence[Words]]:
    """What has become of a release that was thrown out: who answers now, since when, what the challenger said, where to look."""
    challenger, turns = started.challenger, table.transitions(started.number)
    champion = _champion_now(of) or started.champion
    if not of.divides:
        said = f"requests are divided elsewhere: give version {challenger} none there, nobody here can"
    elif any(turn.weight > 0 for turn in turns):
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(_back_since(table, started, turns)))
        said = f"version {champion} answers everything since {when}; servers look at the table every {of.look_ms} ms"
    else:
        said = f"version {champion} answers everything, as all the while: version {challenger} was only asked besides"
    yield labelled("serves", said)
    yield labelled("answered", _answered_by(of, started))
    said = f"`mlops records show --version {challenger}{of.option_of_server}`"
    look = f"`mlops release status{of.option}`: what was decided, and on what; {said}: what it said"
    yield labelled("look", look)
    reject = f"`mlops models reject {challenger} --reason REASON{of.option_of_pipeline}`"
    again = f"`mlops release start {challenger}{of.option}` tries it again; {reject} keeps it out"
    yield labelled("next", again)


def _back_since(table: Table, started: Started, turns: Sequence[Transition]) -> float:
    """Since when a release's challenger answers nothing any more."""
    since = turns[-1].made
    if turns[-1].step == ABORTING:
        return since  # it was champion until the alias was moved back, just before
    for turn in reversed(turns):
        if turn.weight > 0:
            break
        since = turn.made
    return min(since, table.lease_until(started.number) or since, *(each.made for each in table.breakers(started.number)))


def _champion_now(of: Opened) -> str:
    """What the registry calls champion; empty where it does not answer."""
    try:
        champion = of.registry().champion()
    except PipelineError:
        return ""
    return "" if champion is None else str(champion.number)


def _answered_by(of: Opened, started: Started) -> str:
    """How much a release's challenger has answered since it began, by the record."""
    requests = rows = 0
    try:
        since = datetime.fromtimestamp(started.made, UTC)
        for each in requests_of(of.watch.store, since=since, model=of.model, version=started.challenger):
            if not each.error and (not of.divides or arm_in(each) == ANSWERED_ARM):
                requests, rows = requests + 1, rows + each.rows
    except PipelineError as error:
        return f"nobody can tell how much by version {started.challenger}, since the record cannot be read: {error}"
    return f"{requests:,} requests of {rows:,} rows by version {started.challenger}, as far as they are on record now"


def promote(console: Console, config: Path | None, reason: str, by: str) -> None:
    """`mlops release promote`: a person lets a release leave its step, where its policy asks for one."""
    with _under_way(config) as (of, table, release):
        started = table.started(release.number)
        step = next((each for each in of.policy(started).steps if each.name == release.step), None)
        experiment = of.policy(started).experiment
        if not (experiment is not None and experiment.then == "approval" if release.step == TEST else step is not None and step.approval):
            raise PipelineError(
                f"release {release.number}: step '{release.step}' asks for nobody: "
                f"`mlops models promote {release.challenger}{of.option_of_pipeline}` makes the "
                "version champion whatever the policy says"
            )
        who = " ".join(by.split()) or current_user()
        table.approve(release.number, release.step, who, reason)
        console.print(f"release {release.number} may leave step {release.step}, says {who}, once its guardrails let it")


def replay(console: Console, config: Path | None, version: int, since: datetime | None, until: datetime | None, *, as_json: bool) -> bool:
    """`mlops release replay`; whether no guardrail is known to be broken."""
    from mlops_pipeline.release.logged import earned_on_record
    from mlops_pipeline.release.replayed import replayed

    of = opened(config)
    found = replayed(of, version, since, until)
    told, notes = earned_on_record(of, version, since, until)
    if as_json:
        earnings = {"earned": [msgspec.to_builtins(each) for each in told], "notes": notes} if told or notes else {}
        print(json.dumps({**found.as_json(), **earnings}, indent=2))
        return not found.broken
    lines = [labelled("replayed", f"{found.rows:,} rows of the record by version {version}, {found.labels:,} with labels")]
    for each in found.findings:
        word, style = ("broken", "red") if each.is_broken else ("holds", "green") if each.holds else ("open", "")
        lines.append([Words(f"{word:<11}", style), Words(f"{each.guardrail}: {each.text}")])
    lines += [line for earned in told for line in _earned_lines(earned)]
    lines += [labelled("", note, "yellow") for note in notes]
    for line in lines:
        console.print(text_of(line))
    return not found.broken


EARNED_BY = {
    "decision": "if what is earned depends on the decision alone",
    "answer": "where units were divided between it and another, whatever it depends on",
}


def _earned_lines(found: Earned) -> Iterator[list[Words]]:
    """What the version would have earned, or why nobody can tell."""
    yield labelled("earned", EARNED_BY[found.by])
    logged = "" if found.logged is None else f", which earned {found.logged:.4g} (0: the reward's worst, 1: its best)"
    yield labelled("", f"{found.labels:,} of {found.rows:,} rows have labels, {found.units:,} units{logged}")
    if found.why_not:
        yield labelled("", f"nothing is told: {found.why_not}", "yellow")
        return
    counted = f"they count for {found.effective:,.0f} units; largest weight {found.largest:.3g}"
    yield labelled("", f"{found.alike:.1%} were decided as the version does: {counted}")
    if found.uncovered > 0:
        uncovered = (
            f"in {found.uncovered:.1%} nobody would have decided so: what that earns is on no record, and may be anything from 0 to 1"
        )
        yield labelled("", uncovered, "yellow")
    for each in found.estimates:
        value = f"{each.least:.4g}" if each.most - each.least < ALIKE else f"{each.least:.4g} to {each.most:.4g}"
        yield labelled("", f"{each.name:<20} {value}  (interval {each.low:.4g} to {each.high:.4g})")


def begin_test(console: Console, config: Path | None, settings: Path, version: int, reason: str, *, wait: bool) -> None:
    """`mlops experiment start`."""
    start(console, config, version, reason, wait=wait, experiment=load_experiment(settings))


def plan_test(console: Console, config: Path | None, settings: Path, since: datetime, per_day: float | None, *, as_json: bool) -> None:
    """`mlops experiment plan` by what is on record."""
    from mlops_pipeline.experiments.face import tell_plan
    from mlops_pipeline.release.tested import units_on_record

    experiment, units, each = units_on_record(opened(config), load_experiment(settings), since)
    tell_plan(console, experiment, units, per_day, each_stands_for=each, as_json=as_json)


def report_test(console: Console, config: Path | None, number: int, output: Path | None, *, as_json: bool) -> bool:
    """`mlops experiment report --release`; whether the test can be judged at all."""
    from mlops_pipeline.experiments.face import tell
    from mlops_pipeline.release.tested import units_of

    with _there(config) as (of, table):
        if table is None:
            raise PipelineError(f"release {number}: there is none: `mlops release start VERSION{of.option}` begins the first")
        started = table.started(number, of.option)
        experiment, units = units_of(of, started, table.transitions(number))
    return tell(console, experiment, units, output, as_json=as_json)


def render(config: Path | None, target: str, step: str | None, name: str | None) -> None:
    """`mlops release render`. Raises :class:`PipelineError` for an unknown target or step."""
    from mlops_pipeline.pipeline.render.terms import kubernetes_name

    path = release_config(config)
    policy = load_releases(path).policy
    chosen = next((each for each in TARGETS if each == target), None)
    if chosen is None:
        raise PipelineError(f"'{target}': is no target: use one of {', '.join(TARGETS)}")
    if policy.ending is not None:
        raise PipelineError(
            f"{path}: policy.{policy.ending.name}: its shares are our servers' own to divide: render a policy of steps alone"
        )
    steps = {each.name: each for each in policy.steps}
    if step is None and chosen != "rollouts":
        step = _step_now(config)
    if step is not None and step not in steps:
        raise PipelineError(f"--step '{step}': the policy has no such step: use one of {', '.join(steps)}")
    if name is None and chosen == "kserve":
        name = kubernetes_name(opened(config).watch.pipeline.name)
    print(rendered(chosen, policy, steps[step] if step else policy.steps[0], path, name=name or ""), end="")


def _step_now(config: Path | None) -> str | None:
    """Where the release is that is under way; None where there is none, or nobody can tell."""
    try:
        of = opened(config)
        if (table := of.table_there()) is None:
            return None
        with closing(table):
            found = table.current().get(of.model)
    except PipelineError:
        return None
    return None if found is None else found.step


def end_releases(pipeline: Path, console: Console, why: str) -> None:
    """End what is under way of a pipeline, for one who moves the alias himself: no other process may decide on the champion meanwhile.

    Nothing is made where there is no table. What has ended is told when others may decide again.
    """
    project = find_project(pipeline)
    try:
        of = opened(None, project)
    except PipelineError as error:
        console.print(f"no release was looked at, since the settings of {project} do not say where they are: {error}")
        return
    if of.watch.config.resolve() != pipeline.resolve():
        console.print(
            f"no release was looked at: the server that the settings of {project} name has another pipeline; "
            "`mlops release abort --config FILE` ends one that is under way"
        )
        return
    try:
        if (table := of.table_there()) is None:
            return
        with closing(table):
            stop(of, table, why, current_user())
    except PipelineError as error:  # nobody waits for a table to be rid of a champion; the next look ends what is of another champion
        console.print(
            f"a release may still be under way, since the table of releases cannot be asked: a challenger may answer its share until its "
            f"lease ends; `mlops release abort{of.option}` ends one that is under way once it can: {error}"
        )
        return
    afterwards(partial(_tell_ended, of, console))


def _tell_ended(of: Opened, console: Console) -> None:
    try:
        with closing(of.table()) as table:
            _tell(of, table, console, _listener(of, console))
    except PipelineError as error:
        console.print(_UNTOLD.format(of.option, error))


def _shown(of: Opened, table: Table, looked: Looked) -> list[Text]:
    """A look at one release, under what workers say of themselves."""
    return [text_of(line) for line in (*_lines(of, looked), *map(_unable, table.unable(looked.started.number)))]


def _unable(reason: str) -> list[Words]:
    return labelled("problem", f"servers do not ask the challenger: {reason}", "red")


def _lines(of: Opened, looked: Looked) -> list[list[Words]]:
    last, evidence = looked.last, looked.evidence
    asked = f", asked besides in {last.shadow:.0%}" if last.shadow else ""
    lines = [
        labelled("release", f"{looked.started.number}: version {looked.started.challenger} beside {looked.started.champion}"),
        labelled("step", f"{last.step}, {last.state}, answers {last.weight:.0%}{asked}: {looked.decision.reason}"),
    ]
    lines += [labelled("", line) for line in ending_lines(evidence.as_json())]
    known = sorted((each for each in evidence.findings if each.estimate is not None), key=lambda each: (not each.is_broken, each.holds))
    for found in known[:LIVE_LINES]:
        lines.append(labelled("", found.text, "red" if found.is_broken else "green" if found.holds else ""))
    if len(known) > LIVE_LINES:
        lines.append(labelled("", f"and {len(known) - LIVE_LINES} more, on the page /release", "dim"))
    looked_at = time.strftime("%H:%M:%S UTC", time.gmtime())
    return [*lines, labelled("looked", f"{looked_at}, {of.settings.look_s:g} s apart", "dim")]


def _listener(of: Opened, console: Console) -> Listener:
    return _kept(of, shown_on(console))


def _announcing(console: Console) -> tuple[Listener, set[int]]:
    """A listener that says on a console what happens, and the numbers of the transitions that it has said."""
    show, announced = shown_on(console), set[int]()

    def tell(event: Event) -> None:
        if isinstance(event, ReleaseMoved):
            announced.add(event.transition)
        show(event)

    return tell, announced


def _say_end(console: Console, of: Opened, table: Table, started: Started, announced: set[int]) -> None:
    """How a release ended, unless that was said here: whichever process looks first tells of it."""
    if (last := table.last(started.number)) is not None and last.number not in announced:
        shown_on(console)(moved(of, started, last))


def _kept(of: Opened, show: Listener) -> Listener:
    return told_for(of.watch.pipeline, of.watch.layout, show, where=of.where)
