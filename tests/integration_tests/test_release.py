"""A release on a real server: from shadow to champion by what the record says, and back as soon as a person says so.

How many seconds that takes is no matter for tests, which share their machine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import yaml

from mlops_pipeline import terminal
from mlops_pipeline.config.pipeline import settings_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import ChampionChanged, Event, ReleaseMoved, Warned, ignored, read_events
from mlops_pipeline.layout import layout_of
from mlops_pipeline.monitoring.labels import add_labels
from mlops_pipeline.registry.champion import RegistryWriter
from mlops_pipeline.release.controller import Controller, begin, promote, stop, tell_of
from mlops_pipeline.release.evidence import SETTLE_S
from mlops_pipeline.release.face import end_releases
from mlops_pipeline.release.opened import Opened, opened
from mlops_pipeline.release.policy import ABORTING, PROMOTING
from mlops_pipeline.release.table import Table, open_table
from mlops_pipeline.release.wake import waking
from tests.conftest import SMALL_SETTINGS, Project, copied, wait_for, write_table
from tests.integration_tests.clients import get, load, post
from tests.integration_tests.conftest import Server, serving, started
from tests.integration_tests.receivers import alertmanager, alerts_at, receiver
from tests.unit_tests.test_release_table import begun, moved

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("release")]

POLICY = {
    "steps": [{"shadow": 1.0, "least_rows": 60, "least_labels": 60}, {"weight": 0.5, "least_rows": 60}, {"weight": 1.0, "least_rows": 20}],
    "guardrails": {
        "failures": {"figure": "failures", "worse_by": 0.5},
        "quality": {"figure": "quality", "worse_by": 2.0, "must_hold": True},
    },
    "expected_rows": 200,
}


RAILS = {"guardrails": {"failures": {"figure": "failures", "worse_by": 0.5}}, "least_units": 20, "srm_alpha": 1e-9}


@dataclass(frozen=True)
class Released:
    project: Project
    server: Server
    config: Path

    def version(self) -> str:
        """What answers now."""
        return str(self.predict(self.server.example)["mlops-model-version"])

    def predict(self, row: dict[str, Any], **more: Any) -> Any:
        """The headers of the answer."""
        status, said, headers = post(f"{self.server.url}/predict", {"records": [row], **more})
        assert status == 200, said
        return headers

    def get(self, path: str) -> Any:
        status, said, _ = get(f"{self.server.url}{path}")
        assert status == 200, said
        return said

    def mlops(self, *words: str, **options: Any) -> Any:
        return self.project.mlops(*words, **options)


@pytest.fixture(scope="module")
def released(challenged: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    """A server of a champion, and version 2, which passed its gate and is called challenger."""
    folder = tmp_path_factory.mktemp("release")
    project = copied(challenged, folder / "project")
    with serving(project, folder / "served", record={"mode": "durable"}) as server:
        yield Released(project, server, releasing(project, folder / "served"))


def releasing(project: Project, served: Path) -> Path:
    """The settings of a project's releases, whose server has its own in a folder."""
    (project.folder / "configs").mkdir(exist_ok=True)
    config, watch = project.folder / "configs/release_config.yaml", served / "monitoring_config.yaml"
    watch.write_text(yaml.safe_dump({"state": {"file": str(served / "state.sqlite")}, "serving": "serving.yaml"}))
    settings = {"serving": str(served / "serving.yaml"), "monitoring": str(watch), "look_s": 0.2, "policy": POLICY}
    config.write_text(yaml.safe_dump(settings))
    return config


@dataclass(frozen=True)
class Undone:
    """A project for one test, with a release that is becoming champion while nobody carries it on."""

    project: Project
    of: Opened
    table: Table
    number: int

    def mlops(self, command: str, *words: str, **options: Any) -> Any:
        """A command about releases, or versions, with the settings it needs."""
        return self.project.mlops(
            command, *words, "--config", str(self.of.origin if command == "release" else self.project.config), **options
        )

    def looked(self) -> tuple[str, str, int]:
        """What a controller that goes on makes of the release, and who is champion then."""
        with Controller(self.of, self.table, ignored) as controller:
            controller.look()
        last, champion = self.table.last(self.number), self.of.registry().champion()
        assert last is not None
        assert champion is not None
        return last.state, last.reason, champion.number


@pytest.fixture
def undone(challenged: Project, tmp_path: Path) -> Iterator[Undone]:
    """Of version 2 beside version 1; the alias has not moved yet."""
    project = copied(challenged, tmp_path / "project")
    (tmp_path / "served").mkdir()
    record = {"folder": str(tmp_path / "served/records")}
    (tmp_path / "served/serving.yaml").write_text(yaml.safe_dump({"pipeline": str(project.config), "record": record}))
    of = opened(releasing(project, tmp_path / "served"))
    with closing(of.table()) as table:
        number = begin(of, table, 1, 2, "test", "test")
        moved(table, number, step=PROMOTING, weight=1.0)
        yield Undone(project, of, table, number)


def asked(released: Released, seed: int, rows: int = 80) -> None:
    """Ask row by row; what came of each is known at once."""
    folder = released.config.parent
    write_table(folder / "table.csv", rows=rows, seed=seed)
    table = pl.read_csv(folder / "table.csv").with_columns(pl.col("weight").abs())
    for place, row in enumerate(table.select("size", "weight", "kind").to_dicts()):
        released.predict(row, ids=[f"{seed}-{place}"])
    labels = table.select(pl.Series("id", [f"{seed}-{place}" for place in range(rows)]), "late")
    labels.write_csv(folder / "labels.csv")
    of = opened(released.config)
    with closing(of.watch.state()) as state:
        add_labels(state, of.watch.pipeline, folder / "labels.csv", "labels.csv")


def answers_with(released: Released, version: str) -> None:
    """Wait until the server answers with a version only."""
    wait_for(lambda: {released.version() for _ in range(20)} == {version}, 120, f"answers of version {version}")


def test_guardrails_that_could_say_nothing_are_refused_in_one_line(released: Released) -> None:
    of = opened(released.config)
    of.check("1")
    for change, said in (
        ({"slices": ("kynd",)}, "'kynd' is no column of the record: did you mean 'kind'?"),
        ({"loss": "absolute"}, "use brier or"),
    ):
        quality = of.settings.policy.guardrails["quality"].model_copy(update=change)
        policy = of.settings.policy.model_copy(update={"guardrails": {"quality": quality}})
        with pytest.raises(PipelineError, match=re.escape(said)) as raised:
            replace(of, settings=of.settings.model_copy(update={"policy": policy})).check("1")
        assert "release_config.yaml: policy.guardrails.quality" in str(raised.value)


def test_a_challenger_becomes_champion_by_what_the_record_says_and_people_bring_the_former_one_back(released: Released) -> None:
    of, told = opened(released.config), list[Event]()
    with closing(of.table()) as table, Controller(of, table, told.append) as controller:
        controller.look()  # begins it by itself: version 2 is called challenger
        assert table.current()["champion"].step == "shadow"
        deadline, seed = time.monotonic() + 400, 0
        while table.current():
            assert time.monotonic() < deadline, controller.look()
            seed += 1
            asked(released, seed)
            controller.look()
        moves = [(event.step, event.state, event.weight) for event in told if isinstance(event, ReleaseMoved)]
        assert moves == [
            ("shadow", "running", 0.0), ("50 %", "running", 0.5), ("100 %", "running", 1.0), ("promoting", "running", 1.0),
            ("promoting", "promoted", 1.0),
        ]  # fmt: skip
        evidence = table.transitions(1)[2].evidence
        assert {each["guardrail"] for each in evidence["findings"]} == {"failures", "quality"}
        assert min(evidence["counts"]) > 10
    answers_with(released, "2")
    assert released.get("/release.json")["verdict"] == "promoted"
    page = released.get("/release").decode()
    assert "Version 2 champion" in page
    assert "version 2 is champion" in released.mlops("release", "status", "--config", str(released.config)).stdout
    # The former one.
    out = released.mlops("models", "rollback", "--config", str(released.project.config)).stdout
    assert "version 1 is champion again" in out
    answers_with(released, "1")
    replayed = released.mlops("release", "replay", "2", "--json", "--config", str(released.config), check=False)
    pairs = {each["guardrail"]: each for each in json.loads(replayed.stdout)["findings"] if each["source"] == "pairs"}
    assert pairs["quality"]["requests"][0] >= 60
    assert abs(pairs["quality"]["estimate"]) < 0.2


def test_a_person_stops_a_release_for_every_worker_at_once_and_alertmanager_knows(released: Released, tmp_path: Path) -> None:
    words = ("--config", str(released.config))
    of = opened(released.config)
    # Alertmanager first: where there is none, nothing is begun.
    with receiver() as hook, alertmanager(tmp_path, hook.url) as url, closing(of.table()) as table:
        assert "is champion: name another" in released.mlops("release", "start", "1", *words, check=False).stderr
        released.mlops("release", "start", "2", "--no-wait", *words)
        last = table.last(table.current()["champion"].number)
        assert last is not None
        assert table.advance(
            last.release, last.number, step="100 %", state="running", weight=1.0, shadow=0.0, reason="test", evidence={}, who="test"
        )
        assert table.renew(last.release, "", time.time() + 600)
        answers_with(released, "2")
        assert "paused at 100 %" in released.mlops("release", "pause", *words).stdout
        assert "asks for nobody" in released.mlops("release", "promote", *words, check=False).stderr
        assert "is paused already" in released.mlops("release", "pause", *words, check=False).stderr
        table.add_breaker(last.release, "worker 1", "raised 5 times in a row")
        assert "a worker tripped (raised 5 times" in released.mlops("release", "resume", *words, check=False).stderr
        assert of.watch.origin is not None
        before = of.watch.origin.read_text()
        channels = {"alertmanager": {"settings": {"url": url}}}
        of.watch.origin.write_text(yaml.safe_dump({**yaml.safe_load(before), "channels": channels}))
        said = released.mlops("release", "abort", "--reason", "enough seen", *words).stdout
        answers_with(released, "1")
        of.watch.origin.write_text(before)
        [tripped] = table.breakers(last.release)
        since = datetime.fromtimestamp(tripped.made, UTC)
        assert "version 2, aborted at 100 %: enough seen" in said
        assert f"version 1 answers everything since {since:%Y-%m-%d %H:%M:%S} UTC; servers look at the table every 250 ms" in said
        assert int(re.search(r"answered   ([\d,]+) requests of \1 rows by version 2", said)[1]) >= 20  # type: ignore[index]
        assert "`mlops release status`" in said
        ended = [each for each in alerts_at(url) if each["labels"]["alertname"] == "release_ended"]
        assert [each["annotations"]["version"] for each in ended] == ["2"]
        assert "aborted at 100 %: enough seen" in ended[0]["annotations"]["description"]
        assert "no release is under way" in released.mlops("release", "abort", *words, check=False).stderr
    moved = [event for event in read_events(of.watch.layout.events) if isinstance(event, ReleaseMoved)]
    assert (moved[-1].state, moved[-1].reason) == ("aborted", "enough seen")
    assert "release_ended" in released.mlops("monitor", "status", "--config", str(of.watch.origin)).stdout


def test_a_release_that_is_ended_after_the_alias_has_moved_has_the_former_champion_back(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--config", str(released.config))
    of = opened(released.config)
    registry = of.registry()
    with closing(of.table()) as table:

        def killed_while_promoting() -> int:
            number = begin(of, table, 1, 2, "test", "test")
            moved(table, number, step=PROMOTING, weight=1.0)
            registry.promote(2, None, ignored, "released", f"release {number}")
            return number

        number = killed_while_promoting()
        released.mlops("release", "abort", "--reason", "stop it", *words)
        assert [(each.step, each.state, each.weight, each.reason) for each in table.transitions(number)[-2:]] == [
            (ABORTING, "running", 0.0, "stop it"), (ABORTING, "aborted", 0.0, "stop it"),
        ]  # fmt: skip
        answers_with(released, "1")
        # A controller goes on with what a person, or another, was killed in; and who is late moves nothing.
        number = killed_while_promoting()
        late = table.last(number)
        assert late is not None
        moved(table, number, step=ABORTING, weight=0.0, reason="a worker tripped")
        assert promote(of, table, table.started(number), late, lambda _: None) == ""
        told = list[Event]()
        with Controller(of, table, told.append) as controller:
            controller.look()
        last, champion = table.last(number), registry.champion()
        assert last is not None
        assert champion is not None
        assert (last.state, last.reason, champion.number) == ("aborted", "a worker tripped", 1)
        # What fails after the alias has moved does not undo it.
        number = killed_while_promoting()
        monkeypatch.setattr(RegistryWriter, "publish", lambda *_: (_ for _ in ()).throw(OSError("no space left on device")))
        with Controller(of, table, told.append) as controller:
            controller.look()
        last = table.last(number)
        assert last is not None
        assert last.state == "promoted"
        assert any("no space left on device" in event.text for event in told if isinstance(event, Warned))
        assert "no release is under way" in released.mlops("release", "abort", *words, check=False).stderr
    monkeypatch.undo()
    released.mlops("models", "rollback", "--config", str(released.project.config))
    answers_with(released, "1")


def test_a_person_who_brings_the_former_champion_back_is_not_overruled_by_a_release_gone_on_with(undone: Undone) -> None:
    registry = undone.of.registry()
    with registry.deciding(ignored):  # and killed before it has written «promoted»
        registry.promote(2, None, ignored, "released", f"release {undone.number}")
    undone.mlops("models", "promote", "1")
    assert undone.looked() == ("aborted", "version 1 was made champion again after version 2 had become it", 1)
    # What was before a release began is no word on it.
    again = replace(undone, number=begin(undone.of, undone.table, 1, 2, "test", "test"))
    moved(again.table, again.number, step=PROMOTING, weight=1.0)
    assert again.looked() == ("promoted", "version 2 is champion", 2)


def test_so_it_is_where_a_person_made_the_challenger_champion_before_and_nobody_looked(undone: Undone) -> None:
    undone.mlops("models", "promote", "2")
    undone.mlops("models", "promote", "1")
    assert undone.looked() == ("aborted", "version 1 was made champion again after version 2 had become it", 1)


def test_so_it_is_after_a_rollback_that_went_on_while_the_table_of_releases_was_away(
    undone: Undone, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, registry = StringIO(), undone.of.registry()
    with monkeypatch.context() as away, registry.deciding(ignored):
        registry.promote(2, None, ignored, "released", f"release {undone.number}")
        away.setattr(Opened, "table_there", lambda _: (_ for _ in ()).throw(PipelineError("does not answer")))
        end_releases(undone.project.config, terminal.opened(said, 1000), "a person's word")
        registry.rollback(ignored)
    assert said.getvalue().startswith("a release may still be under way, since the table of releases cannot be asked: ")
    assert said.getvalue().endswith("ends one that is under way once it can: does not answer\n")
    assert undone.looked() == ("aborted", "version 1 was made champion again after version 2 had become it", 1)


def test_a_challenger_that_a_person_made_champion_stays_it_though_its_release_is_aborted(undone: Undone) -> None:
    undone.mlops("models", "promote", "2")
    said = undone.mlops("release", "abort", "--reason", "enough seen").stdout
    assert "enough seen, but version 2 stays champion: it was promoted by hand" in said
    assert undone.looked() == ("aborted", "enough seen, but version 2 stays champion: it was promoted by hand", 2)


def test_so_does_one_that_is_aborted_where_no_former_champion_may_be_taken(undone: Undone) -> None:
    registry = undone.of.registry()
    with registry.deciding(ignored):
        registry.promote(2, None, ignored, "released", f"release {undone.number}")
        registry.decide(1, "rejected", "is wrong", ignored)
    moved(undone.table, undone.number, step=ABORTING, weight=0.0, reason="a worker tripped")
    why = "small: version 2: none of those before it may be taken: there is none to roll back to"
    assert undone.looked() == ("aborted", f"a worker tripped, but version 2 stays champion: {why}", 2)


def test_a_pause_that_comes_too_late_is_refused_and_an_abort_is_not(undone: Undone) -> None:
    said = undone.mlops("release", "pause", check=False)
    assert (said.returncode, "too late to pause it, version 2 is becoming champion" in said.stderr) == (2, True), said.stderr
    assert [each.state for each in undone.table.transitions(undone.number)] == ["running", "running"]
    undone.mlops("release", "abort", "--reason", "enough seen")
    assert undone.looked() == ("aborted", "enough seen", 1)


def test_what_is_refused_changes_nothing_and_what_is_away_for_a_moment_loses_nothing(
    released: Released, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("--config", str(released.config))
    of = opened(released.config)
    elsewhere = Project(tmp_path, released.project.config)
    with closing(of.table()) as table:
        number = begin(of, table, 1, 7, "test", "test")
        of.registry().without_challenger(2)
        assert "version 7 is under way" in released.mlops("release", "start", "2", "--no-wait", *words, check=False).stderr
        assert not any("challenger" in each.aliases for each in of.registry().versions())
        # Nobody can go back from the first champion, so nothing ends.
        assert "there is none to roll back to" in elsewhere.mlops("models", "rollback", *pipeline(released), check=False).stderr
        assert table.current()["champion"].number == number
        # A record that is away, when a step has lasted longer than it may: nothing is lacking that was not looked for.
        with closing(sqlite3.connect(of.where)) as raw, raw:
            raw.execute("UPDATE mlops_release_transitions SET made = made - 1e7 WHERE release = ?", (number,))
        with monkeypatch.context() as away, Controller(of, table, lambda _: None) as controller:
            away.setattr(Opened, "ledger", lambda *_, **__: (_ for _ in ()).throw(PipelineError("is locked")))
            away.setattr(Controller, "_registered", lambda *_: ("1", ""))
            [looked] = controller.look()
            assert (looked.decision.move, table.current()["champion"].number) == ("stay", number)
            assert "the record cannot be read, so the lease is not renewed: is locked" in looked.decision.reason
        # A memory that is away when a release ends: its alert comes with the next look.
        tell_of(of, table, lambda _: None)
        stop(of, table, "a guardrail broke", "test")
        told = list[Event]()
        with monkeypatch.context() as away:
            away.setattr("mlops_pipeline.release.controller.judge_release", lambda *_: (_ for _ in ()).throw(PipelineError("locked")))
            with pytest.raises(PipelineError, match="locked"):
                tell_of(of, table, told.append)
        tell_of(of, table, told.append)
        assert [event.reason for event in told if isinstance(event, ReleaseMoved)] == ["a guardrail broke"]
        assert "a guardrail broke" in released.mlops("monitor", "status", "--config", str(of.watch.origin)).stdout
        # From whatever folder it is typed, a rollback ends what is under way.
        of.registry().promote(2, None, ignored)
        begin(of, table, 2, 1, "test", "test")
        elsewhere.mlops("models", "rollback", *pipeline(released))
        assert table.current() == {}
        # Looks that are far apart on purpose do not let the lease go.
        monkeypatch.setattr("mlops_pipeline.release.controller.STUCK_S", 0.05)
        number = begin(of, table, 1, 2, "test", "test")
        slow = replace(of, settings=of.settings.model_copy(update={"lease_s": 1.0}))
        with Controller(slow, table, lambda _: None) as controller:
            controller.look()
            before = table.lease_until(number)
            controller.rest(1.5)
            assert table.lease_until(number) > before
        stop(of, table, "test", "test")


def test_a_memory_that_is_away_holds_no_rollback_up_and_what_has_ended_is_told_when_others_may_decide_again(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = opened(released.config)
    told = list[Event]()
    with closing(of.table()) as table:
        number = begin(of, table, 1, 2, "test", "test")
        said = StringIO()
        with monkeypatch.context() as away:
            away.setattr("mlops_pipeline.release.controller.judge_release", lambda *_: (_ for _ in ()).throw(PipelineError("locked")))
            with of.registry().deciding(ignored):
                end_releases(released.project.config, terminal.opened(said, 1000), "a person's word")
                assert (last := table.last(number)) is not None
                assert (last.state, said.getvalue()) == ("aborted", "")
        assert "what was decided is done; it cannot be told now, and is at the next look" in said.getvalue()
        tell_of(of, table, told.append)
        assert [event.reason for event in told if isinstance(event, ReleaseMoved)][-1] == "a person's word"


def pipeline(released: Released) -> tuple[str, str]:
    return "--config", str(released.project.config)


def divides(released: Released, number: int) -> None:
    """Ask until both versions answer, and what is asked from now on is of the new shares for sure."""
    deadline, seen = time.monotonic() + 400, set[str]()
    with closing(opened(released.config).table()) as table:
        began = table.transitions(number)[-1].made
    while seen != {"1", "2"} or time.time() < began + SETTLE_S:
        assert time.monotonic() < deadline, seen
        seen |= {released.version()}


def test_an_online_test_of_ours_is_judged_from_the_record(released: Released, tmp_path: Path) -> None:
    releases = ("--releases", str(released.config))
    settings = {
        "name": "late", "arms": {"champion": 1, "challenger": 1}, "expected_units": 200, "least_units": 30, "srm_alpha": 1e-9,
        "metrics": {
            "right": {"column": "correct", "least_effect": 0.9},
            "late": {"column": "label", "role": "guardrail", "no_worse_by": 0.9},
        },
        "slices": ["kind"],
    }  # fmt: skip
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(settings))
    released.mlops("experiment", "start", "2", "--no-wait", "--config", str(tmp_path / "test.yaml"), *releases)
    of = opened(released.config)
    with closing(of.table()) as table, Controller(of, table, lambda _: None) as controller:
        number = table.current()["champion"].number
        divides(released, number)
        for seed in range(100, 110):
            asked(released, seed)
            [looked] = controller.look()
            if looked.decision.move != "stay":
                break
    assert (looked.last.state, looked.last.step) == ("aborted", "test")
    assert "the test says keep the champion" in looked.last.reason
    assert "no better by more than the least effect" in looked.last.reason
    page = tmp_path / "late.html"
    out = released.mlops("experiment", "report", "--release", str(number), "--output", str(page), "--json", *releases).stdout
    told = json.loads(out)
    assert told["verdict"] == "control"
    assert told["units"] == sum(told["arms"].values()) >= 60
    assert {each["metric"]: each["says"] for each in told["metrics"]} == {"right": "as_good", "late": "holds"}
    assert "Who was in which arm" in page.read_text()
    assert "keep the champion" in released.get("/release").decode()
    # What the champion answered is what the next test is planned by.
    settings["metrics"] = {"right": {"column": "correct", "least_effect": 0.2}}
    (tmp_path / "next.yaml").write_text(yaml.safe_dump({**settings, "slices": []}))
    out = released.mlops("experiment", "plan", "--config", str(tmp_path / "next.yaml"), "--json", *releases).stdout
    [planned] = json.loads(out)
    assert 0.6 < planned["base"] < 0.95
    assert planned["fixed_units"] < planned["units"]
    assert planned["days"] > 0
    past = ("--since", "2100-01-01")
    said = released.mlops("experiment", "plan", "--config", str(tmp_path / "next.yaml"), *past, *releases, check=False)
    assert (said.returncode, "names no unit of version 1 since 2100-01-01: ask for a longer time" in said.stderr) == (2, True), said.stderr


def test_a_bandits_shares_follow_what_is_earned_and_a_replay_tells_of_them(released: Released) -> None:
    bandit = {"bandit": {"batch_units": 20, "least_units": 5000, "floor": 0.1, "seed": 7}, "reward": {"figure": "label"}}
    before = released.config.read_text()
    released.config.write_text(yaml.safe_dump({**yaml.safe_load(before), "policy": {**RAILS, **bandit}}))
    of, words = opened(released.config), ("--config", str(released.config))
    with closing(of.table()) as table, Controller(of, table, lambda _: None) as controller:
        number = begin(of, table, 1, 2, "test", "test")
        divides(released, number)
        since = datetime.now(UTC).isoformat()
        for seed in range(120, 130):
            asked(released, seed)
            [looked] = controller.look()
            if looked.decision.move == "advance":
                break
        assert looked.last.step == "bandit"
        assert 0.1 <= looked.last.weight <= 0.9
        assert looked.last.weight != 0.5
        assert looked.last.evidence["learned"]["seed"] == [7, number, 1]
        wait_for(lambda: "What was earned" in released.get("/release").decode(), 60, "what was earned on the page")
        assert "better with probability" in released.mlops("release", "status", *words).stdout
        stop(of, table, "test", "test")
    # What the challenger's decisions would have earned, by the shares of their moments.
    replayed = json.loads(released.mlops("release", "replay", "2", "--json", "--since", since, *words, check=False).stdout)
    assert replayed["notes"] == []
    by = {each["by"]: each for each in replayed["earned"]}
    assert set(by) == {"decision", "answer"}
    for each in by.values():
        assert each["why_not"] == ""
        assert [one["name"] for one in each["estimates"]] == ["IPS", "self-normalised IPS", "doubly robust"]
        for one in each["estimates"]:
            assert one["low"] <= one["least"] <= one["high"]
        assert abs(each["estimates"][1]["least"] - each["logged"]) < 0.3  # no label depends on who predicted here
    assert by["answer"]["uncovered"] == 0
    released.config.write_text(before)


def test_the_table_may_be_in_postgresql_for_servers_on_several_machines(postgresql: Any) -> None:
    postgresql.psql("create database releases;")
    where = str(postgresql.get_uri("releases"))
    with closing(open_table(where)) as controller, closing(open_table(where)) as worker:
        assert worker.changed()
        assert not worker.changed()
        number = begun(controller)
        assert worker.changed()
        assert worker.current() == controller.current()
        assert not worker.changed()
        moved(controller, number)
        assert worker.changed()
        assert worker.current()["champion"].weight == 0.05
        worker.add_breaker(number, "worker 1", "raised 5 times in a row")
        assert controller.changed()
        assert controller.current()["champion"].weight == 0.0
        assert controller.renew(number, "one", time.time() + 30)
        assert not worker.renew(number, "two", time.time() + 30)
        with pytest.raises(PipelineError, match="is under way"):
            begun(worker)
        moved(controller, number, state="aborted", weight=0.0)
        assert worker.current() == {}
        assert [each.number for each in worker.untold()] == [1, 2, 3]
        worker.told(3)
        assert controller.untold() == []
        assert "postgresql://" in worker.place
    # A table of before is whose pipeline's it is that comes first; another with such a database would answer by these releases.
    for _ in range(2):
        open_table(where, "small").close()
    with pytest.raises(PipelineError, match="the releases of the registered model 'small', and this is 'other': give each a"):
        open_table(where, "other")


def test_servers_that_look_at_postgresql_are_told_with_nothing_made_and_no_writer_waited_for(postgresql: Any, tmp_path: Path) -> None:
    postgresql.psql("create database woken;")
    where, config = str(postgresql.get_uri("woken")), tmp_path / "pipeline.yaml"
    config.write_text(yaml.safe_dump(SMALL_SETTINGS))
    settings, heard = settings_of(SMALL_SETTINGS, str(config)), list[Event]()
    tell = waking(settings, layout_of(settings, config, tmp_path), heard.append, where=where)
    changed = ChampionChanged(pipeline="small", model="small", version=2, former=1, content_sha256="ab", run_id="f", how="promoted by hand")
    with psycopg.connect(where, autocommit=True) as watching:
        tell(changed)
        assert watching.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'mlops_%'").fetchone() == (0,)
        open_table(where).close()
        with watching.transaction():
            watching.execute("SELECT pg_advisory_xact_lock(7216450915)")  # another, that writes
            tell(changed)
            assert watching.execute("SELECT version FROM mlops_release_champions").fetchall() == [("2",)]
        assert watching.execute("SELECT model FROM mlops_release_owner").fetchall() == [], "who only tells does not make it his"
        assert heard == []
        open_table(where, "other").close()
        tell(changed)
        assert watching.execute("SELECT version FROM mlops_release_champions").fetchall() == [("2",)]
    (said,) = [event.text for event in heard if isinstance(event, Warned)]
    assert "a server was not told of version 2" in said
    assert "holds the releases of the registered model 'other', and this is 'small'" in said


def test_who_waited_for_another_sees_what_that_has_decided_whatever_the_databases_default_is(postgresql: Any) -> None:
    postgresql.psql("create database strict;")
    postgresql.psql("alter database strict set default_transaction_isolation = 'repeatable read';")
    where = str(postgresql.get_uri("strict"))
    with closing(open_table(where)) as first, closing(open_table(where)) as second, psycopg.connect(where, autocommit=True) as watching:
        number = begun(first)
        last = first.last(number)
        assert last is not None
        with ThreadPoolExecutor(1) as pool:
            with first._writing():
                late = pool.submit(moved, second, number)
                waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                wait_for(lambda: watching.execute(waits).fetchone() == (1,), 60, "the other, that waits")
                assert moved(first, number, state="aborted", weight=0.0) is not None
            assert late.result() is None
        assert [each.state for each in first.transitions(number)] == ["running", "aborted"]


def version_of(status: int, said: Any) -> str:
    """Which version has answered, or what the refusal was."""
    return str(said["model"]["version"]) if status == 200 else f"{status} {said}"


def test_replicas_that_share_postgresql_are_divided_alike_whoever_of_them_or_the_database_is_killed(
    released: Released, postgresql: Any, tmp_path: Path
) -> None:
    from pgserver import pg_ctl

    postgresql.psql("create database shared;")
    uri, row = str(postgresql.get_uri("shared")), released.server.example
    shared = {"record": {"uri": uri, "loss_ms": 600_000}, "release": {"uri": uri}, "workers": 1, "limits": {"deadline_ms": 20_000}}
    config = tmp_path / "release.yaml"
    steps = [{"shadow": 1.0, "least_rows": 30}, {"weight": 0.5, "least_rows": 1_000_000}]
    policy = {"steps": steps, "guardrails": {"failures": POLICY["guardrails"]["failures"]}}  # type: ignore[index]
    settings = {"serving": "one/serving.yaml", "monitoring": "one/monitoring_config.yaml", "auto": False, "look_s": 0.2, "lease_s": 2}
    config.write_text(yaml.safe_dump({**settings, "policy": policy}))
    words = ("--config", str(config))
    with serving(released.project, tmp_path / "one", **shared) as one, serving(released.project, tmp_path / "two", **shared) as two:
        watch = tmp_path / "one/monitoring_config.yaml"
        watch.write_text(yaml.safe_dump({**yaml.safe_load(watch.read_text()), "serving": "serving.yaml"}))
        released.mlops("release", "start", "2", "--no-wait", *words)
        with ExitStack() as clients:
            seen = [clients.enter_context(load(f"{each.url}/predict", {"records": [row]}, 1, pause_s=0.02)) for each in (one, two)]

            def by(versions: set[str]) -> Callable[[], bool]:
                """Whether the last answers of both replicas are of these versions."""
                return lambda: all({version_of(*each) for each in some.answers[-20:]} == versions for some in seen)

            with started("mlops", "release", "watch", *words, cwd=tmp_path, log=tmp_path / "watch.log"):
                wait_for(by({"1", "2"}), 120, "the challenger's answers from both replicas")
                pg_ctl(["-w", "stop", "-m", "immediate"], pgdata=postgresql.pgdata, user=postgresql.system_user)
                wait_for(by({"1"}), 120, "the champion's answers alone, once the lease is over")
                postgresql.ensure_postgres_running()
                wait_for(by({"1", "2"}), 120, "the challenger's answers again")
                released.mlops("release", "abort", "--reason", "enough seen", *words)
                with closing(open_table(uri)) as table:
                    [release] = table.releases()
                    turns = table.transitions(release.number)
                    wait_for(by({"1"}), 30, "the champion's answers alone")
                    assert [(each.step, each.state, each.weight) for each in turns] == [
                        ("shadow", "running", 0.0), ("50 %", "running", 0.5), ("50 %", "aborted", 0.0),
                    ]  # fmt: skip
                    number = begin(opened(config), table, 1, 2, "test", "test")
                    os.killpg(two.process.pid, signal.SIGKILL)
                    wait_for(lambda: (last := table.last(number)) is not None and last.step == "50 %", 120, "the next step")
                    wait_for(lambda: {version_of(*each) for each in seen[0].answers[-20:]} == {"1", "2"}, 60, "both versions")
        assert [each.statuses() for each in seen] == [{200}, {200}]
        assert seen[0].broken == [], "whoever is killed, the other answers"
