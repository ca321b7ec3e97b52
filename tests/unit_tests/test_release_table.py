"""The table that says how much of the traffic a challenger answers."""

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.database import SQLite, Tables
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.release.face import _turns_told
from mlops_pipeline.release.policy import Decision, Evidence
from mlops_pipeline.release.shown import last_known, verdict_of
from mlops_pipeline.release.table import Anothers, Table, open_table
from mlops_pipeline.serving import look
from mlops_pipeline.serving.operations import while_judged


def begun(table: Table, **other: Any) -> int:
    given: dict[str, Any] = {
        "policy": "{}",
        "unit": "request",
        "step": "shadow",
        "weight": 0.0,
        "shadow": 1.0,
        "reason": "typed",
        "who": "ada",
        "lease_until": time.time() + 30,
    }
    return table.start("champion", "1", "2", **given | other)


def moved(table: Table, number: int, **other: Any) -> Any:
    last = table.last(number)
    assert last is not None
    given: dict[str, Any] = {
        "step": "5 %",
        "state": "running",
        "weight": 0.05,
        "shadow": 0.0,
        "reason": "enough rows",
        "evidence": {"rows": 200},
        "who": "controller",
    }
    return table.advance(number, last.number, **given | other)


def test_a_worker_leaves_a_table_alone_that_is_another_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(where: str, of: str) -> Table:
        asked.append(of)
        raise Anothers(f"{where}: holds the releases of another")

    monkeypatch.setattr(look, "open_table", refuse)
    worker = look.Look("postgresql://host/shared", "mine", "one", 0.01, lambda _: None)
    assert [worker.first(), worker.first()] == [{}, {}]
    assert asked == ["mine"]
    monkeypatch.setattr(look, "REFUSED_S", 0.0)
    worker = look.Look("postgresql://host/shared", "mine", "one", 0.01, lambda _: None)
    assert [worker.first(), worker.first()] == [{}, {}]
    assert asked == ["mine"] * 3


def test_workers_see_what_the_controller_decides_and_only_then_look(tmp_path: Path) -> None:
    controller, worker = open_table(tmp_path / "release.sqlite"), open_table(tmp_path / "release.sqlite")
    assert worker.changed()
    assert not worker.changed()
    assert worker.current() == {}
    number = begun(controller)
    assert worker.changed()
    assert not worker.changed()
    seen = worker.current()["champion"]
    assert (seen.champion, seen.challenger, seen.weight, seen.shadow, seen.state) == ("1", "2", 0.0, 1.0, "running")
    moved(controller, number)
    assert worker.changed()
    again = worker.current()["champion"]
    assert (again.step, again.weight, again.salt) == ("5 %", 0.05, seen.salt)
    moved(controller, number, state="aborted", weight=0.0)
    assert worker.current() == {}
    assert [each.reason for each in controller.transitions(number)] == ["typed", "enough rows", "enough rows"]
    assert controller.transitions(number)[1].evidence == {"rows": 200}


def test_a_commit_that_fails_undoes_what_it_was_of_and_the_next_is_kept(tmp_path: Path) -> None:
    statements = (
        "CREATE TABLE one (id INTEGER PRIMARY KEY);\nCREATE TABLE two (one INTEGER REFERENCES one (id) DEFERRABLE INITIALLY DEFERRED);\n"
    )
    with closing(SQLite(tmp_path / "file.sqlite", Tables(statements, 1, "a test", "test"), wait_s=1)) as database:
        database.ask("PRAGMA foreign_keys = ON")
        with pytest.raises(PipelineError, match="FOREIGN KEY constraint failed"), database.writing():
            database.ask("INSERT INTO two VALUES (7)")
        with database.writing():
            database.ask("INSERT INTO one VALUES (1)")
        assert (database.ask("SELECT * FROM one"), database.ask("SELECT * FROM two")) == ([(1,)], [])


def test_what_one_worker_trips_stops_the_challenger_in_all_whatever_is_decided_then(tmp_path: Path) -> None:
    table = open_table(tmp_path / "release.sqlite")
    number = begun(table)
    moved(table, number)
    table.add_breaker(number, "worker 1", "raised 5 times in a row")
    assert table.current()["champion"].weight == 0.0
    assert [each.reason for each in table.breakers(number)] == ["raised 5 times in a row"]
    moved(table, number, state="paused")
    moved(table, number, reason="resumed")
    moved(table, number, step="25 %", weight=0.25)
    assert table.current()["champion"].weight == 0.0
    assert [each.reason for each in table.breakers(number)] == ["raised 5 times in a row"]
    moved(table, number, state="aborted", weight=0.0)
    again = begun(table, weight=0.05)
    assert table.breakers(again) == []
    assert table.current()["champion"].weight == 0.05


def test_the_table_knows_which_workers_cannot_ask_the_challenger_until_they_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_table(tmp_path / "release.sqlite")
    number = begun(table)
    moved(table, number)
    for worker in ("worker 1", "worker 2", "worker 2"):
        table.say_unable(number, worker, "it needs columns")
    assert table.unable(number) == ["it needs columns"]
    assert table.current()["champion"].weight == 0.05, "it may be otherwise at the next try: nothing is stopped for good"
    table.say_unable(number, "worker 1", "")
    assert table.unable(number) == ["it needs columns"]
    with monkeypatch.context() as later:
        later.setattr("mlops_pipeline.release.table.HEARD_S", -1.0)
        assert table.unable(number) == [], "a worker that says so no more is gone"
    table.say_unable(number, "worker 2", "")
    assert table.unable(number) == []


def test_a_decision_on_what_is_no_longer_so_is_not_taken(tmp_path: Path) -> None:
    table = open_table(tmp_path / "release.sqlite")
    number = begun(table)
    first = table.last(number)
    assert first is not None
    assert moved(table, number, state="paused") is not None
    late = table.advance(
        number, first.number, step="25 %", state="running", weight=0.25, shadow=0.0, reason="late", evidence={}, who="controller"
    )
    assert late is None
    assert moved(table, number, state="aborted", weight=0.0) is not None
    assert moved(table, number) is None
    assert begun(table) == number + 1


def test_one_release_of_a_model_at_a_time_under_one_controller(tmp_path: Path) -> None:
    table = open_table(tmp_path / "release.sqlite")
    number = begun(table)
    with pytest.raises(PipelineError, match=r"release 1 of version 2 is under way: `mlops release abort --config mine\.yaml` it first"):
        begun(table, option=" --config mine.yaml")
    with pytest.raises(PipelineError, match=r"release 7: there is none: `mlops release status --config mine\.yaml` shows the last"):
        table.started(7, " --config mine.yaml")
    with pytest.raises(PipelineError, match="release 1 of version 2 is under way: `mlops release abort` it first"):
        begun(table)
    assert table.renew(number, "one", time.time() + 30)
    assert not table.renew(number, "two", time.time() + 30)
    assert table.renew(number, "one", time.time() - 1)
    assert table.lapses(number) == []
    assert table.renew(number, "two", time.time() + 30)
    [(since, until)] = table.lapses(number)
    assert 0.5 < until - since < 30


def test_a_release_is_begun_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_table(tmp_path / "release.sqlite")
    monkeypatch.setattr(table, "_add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        begun(table)
    assert table.releases() == []
    assert open_table(tmp_path / "release.sqlite").current() == {}


def test_what_is_shown_of_a_step_was_found_there_or_says_where(tmp_path: Path) -> None:
    with closing(open_table(tmp_path / "release.sqlite")) as table:
        number = begun(table)
        assert last_known(table.transitions(number), None, None) == ({}, "", 0.0)
        moved(table, number, evidence=Evidence(rows=500).as_json())  # leaves the shadow
        left = table.transitions(number)
        assert last_known(left, Evidence(rows=500), None)[1:] == ("shadow", left[-1].made)
        assert last_known(left, Evidence(), None)[1] == "shadow"
        seen = last_known(left, Evidence(rows=5), None)
        assert (seen.evidence["rows"], seen.step) == (5, "5 %")
        moved(table, number, state="aborted", evidence={})  # by hand: what was seen last is still of this step
        over = table.transitions(number)
        assert last_known(over, None, None)[1] == "shadow"
        shown = {"evidence": seen.evidence, "evidence_step": seen.step, "evidence_made": seen.made}
        assert last_known(over, None, shown) == seen
        assert last_known(over, None, {"evidence": {}})[1] == "shadow", "as a program of before showed it"
        number = begun(table)
        for step, state, evidence in (("promoting", "running", seen.evidence), ("promoting", "promoted", {})):
            moved(table, number, step=step, state=state, evidence=evidence)
        assert last_known(table.transitions(number), Evidence(rows=5), None)[1] == "shadow", "in the look that made it champion"


def test_a_release_is_healthy_only_while_somebody_judges_what_is_answered(tmp_path: Path) -> None:
    with closing(open_table(tmp_path / "release.sqlite")) as table:
        number = begun(table)
        seen, good = table.last(number), (Evidence(rows=300), Decision("stay", "300 of 500 rows"))
        assert seen is not None
        assert verdict_of(table, seen, good) == "healthy"
        assert verdict_of(table, seen, None) == "unknown", "nobody has looked yet"
        assert verdict_of(table, seen, None, frozenset({seen.number})) == "healthy", "a controller has, in another process"
        assert verdict_of(table, seen, (Evidence(), good[1])) == "unknown", "nothing was answered yet"
        told = {"challenger": "2", "release": number, "verdict": "healthy", "good_until": 100.0}
        before = {**told, "release": 0, "verdict": "promoted"}
        content = json.dumps({"verdict": "healthy", "verdicts": {"2": "healthy"}, "releases": [told, before]})
        for leases, now, word in (({}, 99.0, "healthy"), ({}, 101.0, "unknown"), ({number: 50.0}, 99.0, "unknown")):
            shown = json.loads(while_judged(content, leases, now))
            assert (shown["verdict"], shown["verdicts"], shown["releases"][1]["verdict"]) == (word, {"2": word}, "promoted")
        table.renew(number, "", time.time() - 1)
        assert verdict_of(table, seen, good) == "unknown", "the controller is gone"
        table.renew(number, "", time.time() + 30)
        table.add_breaker(number, "worker", "failed")
        assert verdict_of(table, seen, good) == "unknown"
        assert verdict_of(table, moved(table, number, state="aborted"), good) == "failed"


def test_a_long_bandits_status_leaves_changes_of_its_share_out_and_says_how_many() -> None:
    steps = [
        ("shadow", "running"),
        *[("bandit", "running")] * 40,
        ("bandit", "paused"),
        *[("bandit", "running")] * 3,
        ("bandit", "aborted"),
    ]
    turns = [
        {"step": step, "state": state, "made": 0.0, "reason": f"turn {place}", "who": "ada"} for place, (step, state) in enumerate(steps)
    ]
    told = ["".join(words.text for words in line) for line in _turns_told(turns)]
    assert told[1].endswith("turn 1 (ada)"), "where the bandit began"
    assert told[2] == "  … 36 more changes of its share, all in `mlops release status --json`"
    assert [line.rpartition("turn ")[2] for line in told[3:]] == [f"{place} (ada)" for place in range(38, 46)]
    assert len(list(_turns_told(turns[:6]))) == 6
