"""The loop on a real server's record: each window once, labels that come late, alerts that get through, a training that is asked for."""

from __future__ import annotations

import io
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from rich.console import Console

from mlops_pipeline.alerts.alert import moment
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import AlertFired, AlertResolved, Event, RetrainingDecided, RetrainingEnded, Warned, WindowCounted, ignored
from mlops_pipeline.layout import sqlite_path
from mlops_pipeline.monitoring import cutting, face, job, retraining
from mlops_pipeline.monitoring.job import Ran, run
from mlops_pipeline.monitoring.judging import STOP, judge
from mlops_pipeline.monitoring.labels import add_labels
from mlops_pipeline.monitoring.retraining import carry_out
from mlops_pipeline.monitoring.state import Retraining, WatchState
from mlops_pipeline.monitoring.status import lines, status
from mlops_pipeline.monitoring.watched import Watched, watched
from mlops_pipeline.registry.champion import registered_model
from tests.conftest import Project, forking, unused_port, write_table
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import postgresql_server, serving
from tests.integration_tests.loop_kills import kill_the_loop
from tests.integration_tests.receivers import receiver

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("monitoring_loop")]

ROWS = 300
WINDOWS = 3
"""Windows of the record, each of so many rows; in the last one the world has turned round."""
RULES = {
    "fell": {"figure": "quality", "worsens_by": 0.1, "surely": True, "severity": "critical", "owner": "anna"},
    "refused": {"figure": "refused.share", "above": 0.001},
}


@dataclass(frozen=True)
class Recorded:
    """A project with a champion, the settings of its server, and what came of what was asked."""

    project: Project
    server: Path
    labels: Path


@pytest.fixture(scope="module")
def recorded(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record_windows(registered, tmp_path_factory.mktemp("loop"))


def record_windows(registered: Project, folder: Path) -> Recorded:
    """Three windows of a real server's record, in one file, and one request that was refused, which came when the second was full."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(registered.folder, folder / "project")
    project = Project(folder / "project", folder / "project/pipeline.yaml")
    came = _asked_in_windows(project, folder)
    if len(list((folder / "served/records").glob("*.sqlite"))) > 1:  # midnight has passed meanwhile: each day has a file of its own
        shutil.rmtree(folder / "served")
        came = _asked_in_windows(project, folder)
    pl.DataFrame(came, schema=["id", "late"], orient="row").write_csv(folder / "labels.csv")
    return Recorded(project, folder / "served/serving.yaml", folder / "labels.csv")


def _asked_in_windows(project: Project, folder: Path) -> list[tuple[str, int]]:
    """The label of each row that a server has recorded, by its id."""
    came = []
    with serving(project, folder / "served") as server:
        for window in range(WINDOWS):
            write_table(folder / "table.csv", rows=ROWS, seed=window + 1)
            table = pl.read_csv(folder / "table.csv").with_columns(pl.col("weight").abs())
            for place in range(0, ROWS, 50):
                names = [f"{window}-{row}" for row in range(place, place + 50)]
                ask(server.url, {"records": table[place : place + 50].select("size", "weight", "kind").to_dicts(), "ids": names})
                late = table["late"][place : place + 50]
                came += list(zip(names, (1 - late if window == WINDOWS - 1 else late).to_list(), strict=True))
            if window == 1:
                assert post(f"{server.url}/predict", {"records": [{"size": "no number"}]})[0] == 422
    return came


def ask(url: str, body: dict[str, Any]) -> None:
    status, said, _ = post(f"{url}/predict", body)
    assert status == 200, said


def settings_in(folder: Path, recorded: Recorded, **sections: Any) -> Path:
    """A watch with a memory of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "monitoring.yaml"
    content = {
        "serving": str(recorded.server),
        "state": {"file": str(folder / "state.sqlite")},
        "windows": {"rows": ROWS, "settle_s": 0},
        "rules": RULES,
        "retraining": {"start": "nothing", "by": []},
        **sections,
    }
    config.write_text(yaml.safe_dump(content))
    return config


@contextmanager
def watching(config: Path) -> Iterator[tuple[Watched, WatchState]]:
    watch = watched(config)
    with closing(watch.state()) as state:
        yield watch, state


def once(config: Path, tell: list[Event] | None = None, **options: Any) -> Ran:
    with watching(config) as (watch, state):
        return run(watch, state, ignored if tell is None else tell.append, **options)


def add(config: Path, recorded: Recorded) -> None:
    with watching(config) as (watch, state):
        add_labels(state, watch.pipeline, recorded.labels, "labels.csv")


def test_the_loop_from_the_record_to_an_alert(recorded: Recorded, tmp_path: Path) -> None:
    """As it is typed."""
    with receiver() as server:
        hook = {"channel": "webhook", "least": "critical", "settings": {"url": server.url, "format": "plain"}}
        config = settings_in(tmp_path, recorded, channels={"log": {}, "hook": hook})
        mlops = recorded.project.mlops
        first = mlops("monitor", "run", "--config", str(config))
        assert first.stdout.count("\nwindow ") + first.stdout.startswith("window ") == WINDOWS
        assert f"{ROWS} rows" in first.stdout
        added = mlops("labels", "add", "--input", str(recorded.labels), "--config", str(config))
        assert f"{ROWS * WINDOWS} rows: {ROWS * WINDOWS} new labels by id" in added.stdout
        second = mlops("monitor", "run", "--config", str(config))
        assert second.stdout.count("counted again") == WINDOWS
        assert "critical small champion: fell: quality.roc_auc is" in second.stderr
        [told] = server.bodies()
        assert (told["rule"], told["kind"], told["owner"], told["version"]) == ("fell", "firing", "anna", "1")
        third = mlops("monitor", "run", "--config", str(config))
        assert "no window has ended" in third.stdout
        assert len(server.taken) == 1
        status = mlops("monitor", "status", "--config", str(config)).stdout
        assert len(status.splitlines()) <= 10
        assert "fell" in status
        assert "100% of the rows have labels" in status
        known = json.loads(mlops("monitor", "status", "--json", "--config", str(config)).stdout)
        assert known["models"]["champion"]["last"]["figures"]["quality.roc_auc"] < 0.5
    events = [json.loads(line) for line in (recorded.project.folder / "data/events.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "alert_fired" and event["rule"] == "fell" for event in events) == 1


def test_every_row_is_counted_once_and_figures_are_those_of_a_run_at_the_end(recorded: Recorded, tmp_path: Path) -> None:
    early, late = settings_in(tmp_path / "early", recorded), settings_in(tmp_path / "late", recorded)
    add(late, recorded)
    once(late)
    for _ in range(2):
        once(early)
        add(early, recorded)
    tables = []
    for config in (early, late):
        with watching(config) as (_, state):
            tables.append(state.table("champion").drop("number"))
    assert tables[0]["rows"].to_list() == [ROWS] * WINDOWS
    assert tables[0]["labels.share"].to_list() == [1.0] * WINDOWS
    assert tables[0].equals(tables[1], null_equal=True)
    assert tables[0]["refused.share"].to_list()[2] == pytest.approx(1 / 7)
    assert tables[0]["since"].to_list()[1:] == tables[0]["until"].to_list()[:-1]


def test_rows_that_are_written_late_are_counted_in_their_window_once(recorded: Recorded, tmp_path: Path) -> None:
    """With their labels, which were there before them; of two runs at once one measures it again."""
    shutil.copytree(recorded.server.parent / "records", tmp_path / "records")
    served = yaml.safe_load(recorded.server.read_text())
    (tmp_path / "serving.yaml").write_text(yaml.safe_dump({**served, "record": {"folder": str(tmp_path / "records")}}))
    (tmp_path / "watch").mkdir()
    config = settings_in(tmp_path / "watch", recorded, serving=str(tmp_path / "serving.yaml"))
    [file] = (tmp_path / "records").glob("*.sqlite")
    with closing(sqlite3.connect(file)) as store, store:
        store.execute("create table late as select * from predictions where rows > 0 order by time limit 2")
        store.execute("delete from predictions where key in (select key from late)")
    add(config, recorded)
    once(config)
    with watching(config) as (_, state):
        before = state.windows()
        assert [window.figures["labels"] for window in before] == [ROWS] * len(before)
    with closing(sqlite3.connect(file)) as store, store:
        # The very first is before the first window, which began with what there was then; a window has what is within it.
        store.execute("update late set time = (select max(time) from (select time from predictions order by time limit 3))")
        store.execute("insert into predictions select * from late")
    told: list[Event] = []
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: once(config, told), range(2)))
    once(config, told)
    with watching(config) as (_, state):
        after = state.windows()
    assert (after[0].figures["rows"], after[0].figures["labels"]) == (ROWS + 100, ROWS + 100)
    assert [window.figures for window in after[1:]] == [window.figures for window in before[1:]]
    assert sum(isinstance(event, Warned) and "2 of its requests were written late" in event.text for event in told) == 1
    # Of another version none was there: its window is new, and those that answered after it are still the last.
    with closing(sqlite3.connect(file)) as store, store:
        store.execute("update late set key = key + 1000000, version = 2, time = ?", (after[-1].since + 1e-3,))
        store.execute("insert into predictions select * from late")
    once(config, told)
    with watching(config) as (_, state):
        last = state.windows("champion")[-2:]
        assert [window.version for window in last] == ["2", "1"]
        assert (last[0].since, last[0].number > last[1].number) == (last[1].since, True)
        assert state.windows("champion", last=1) == last[1:]


@contextmanager
def copied(recorded: Recorded, folder: Path) -> Iterator[tuple[sqlite3.Connection, str]]:
    """A record of one's own to change, and its server's settings."""
    shutil.copytree(recorded.server.parent / "records", folder / "records")
    served = yaml.safe_load(recorded.server.read_text())
    (folder / "serving.yaml").write_text(yaml.safe_dump({**served, "record": {"folder": str(folder / "records")}}))
    [file] = (folder / "records").glob("*.sqlite")
    with closing(sqlite3.connect(file, isolation_level=None)) as store:
        yield store, str(folder / "serving.yaml")


def test_a_server_without_a_model_ends_no_alert_of_the_version_that_answered(recorded: Recorded, tmp_path: Path) -> None:
    with copied(recorded, tmp_path) as (store, server):
        config = settings_in(tmp_path / "watch", recorded, serving=server)
        add(config, recorded)
        once(config)
        store.execute(
            "insert into predictions select key + 1000000, time + 1, 'x', model, '', 0, 1, 'no model is loaded', null, x'94c0c0c0c0'"
            " from predictions order by time desc limit 3"
        )
    told: list[Event] = []
    once(config, told, close=True)
    with watching(config) as (_, state):
        last = state.windows()[-1]
        assert (last.version, last.requests, last.figures["rows"], last.figures["refused.share"]) == ("1", 3, 0, 1)
        assert "fell" in [row.rule for row in state.alerts("firing")]
        numbers = [window.number for window in state.windows()]
        # As an older release has counted them: they are not counted anew.
        state.database.ask("UPDATE mlops_monitor_windows SET version = '' WHERE number = ?", last.number)
    once(config, told)
    with watching(config) as (_, state):
        assert [window.number for window in state.windows()] == numbers
    assert not any(isinstance(event, AlertResolved) for event in told)


def test_rows_of_another_model_are_counted_and_the_next_window_is(recorded: Recorded, tmp_path: Path) -> None:
    """As where a folder that is served by its name holds another model now."""
    with copied(recorded, tmp_path) as (store, server):
        store.execute(
            "insert into layouts select number + 1, 'another', replace(columns, 'classes\":[0,1]', 'classes\":[\"n\",\"y\"]') from layouts"
        )
        [(classes,)] = store.execute("select columns from layouts where digest = 'another'")
        assert json.loads(classes)["classes"] == ["n", "y"]
        store.execute("update predictions set layout = layout + 1 where key in (select key from predictions order by time limit 2)")
        config = settings_in(tmp_path / "watch", recorded, serving=server)
        add(config, recorded)
        once(config)
    with watching(config) as (_, state):
        windows = state.windows()
    assert [window.enough for window in windows] == [False, True, True]
    assert (windows[0].figures["rows"], windows[0].figures["labels"]) == (ROWS, ROWS)
    assert "rows of another model are among these" in windows[0].detail.why


def test_rows_that_share_an_id_are_told_of(recorded: Recorded, tmp_path: Path) -> None:
    with copied(recorded, tmp_path) as (store, server):
        store.execute(
            "insert into predictions select key + 1000000, time, request_id || 'a', model, version, rows, latency_us, error, layout, blob"
            " from predictions order by time limit 2"
        )
        config = settings_in(tmp_path / "watch", recorded, serving=server)
        add(config, recorded)
        once(config)
    with watching(config) as (_, state):
        notes = [window.detail.notes for window in state.windows()]
    assert any(note.startswith("100 rows have the id of another row of the window, and with it its label") for note in notes[0])
    assert not any("the id of another row" in note for window in notes[1:] for note in window)


def test_what_is_known_is_told_though_the_record_is_gone(recorded: Recorded, tmp_path: Path) -> None:
    with copied(recorded, tmp_path) as (_, server):
        pass
    port = unused_port()
    hook = {"channel": "webhook", "settings": {"url": f"http://127.0.0.1:{port}", "format": "plain"}}
    config = settings_in(tmp_path / "watch", recorded, serving=server, channels={"hook": hook})
    assert "hook" in once(config).problems
    add(config, recorded)
    shutil.rmtree(tmp_path / "records")
    with receiver(port) as back, pytest.raises(PipelineError, match="there is no such folder of records"):
        once(config)
    assert [body["rule"] for body in back.bodies()] == ["refused"]


def test_the_alerts_of_a_name_that_is_served_no_more_end(recorded: Recorded, tmp_path: Path) -> None:
    """Else they would be told again and again for ever."""
    with copied(recorded, tmp_path) as (_, server):
        config = settings_in(tmp_path / "watch", recorded, serving=server)
    add(config, recorded)
    once(config)
    Path(server).write_text(yaml.safe_dump(yaml.safe_load(Path(server).read_text()) | {"models": {"other": "champion"}}))
    told: list[Event] = []
    once(config, told)
    ended = {event.text for event in told if isinstance(event, AlertResolved)}
    assert ended == {"champion is not served any more"}
    with watching(config) as (_, state):
        assert not state.alerts("firing")


def test_quality_is_told_with_the_version_that_it_is_of(recorded: Recorded, tmp_path: Path) -> None:
    """And beside what that version's held-out rows said, though another answers now."""
    pl.read_csv(recorded.labels).filter(~pl.col("id").str.starts_with("2-")).write_csv(tmp_path / "labels.csv")
    with copied(recorded, tmp_path) as (store, server):
        store.execute("update predictions set version = '2' where key in (select key from predictions order by time desc limit 6)")
        config = settings_in(tmp_path / "watch", recorded, serving=server)
        with watching(config) as (watch, state):
            add_labels(state, watch.pipeline, tmp_path / "labels.csv", "labels.csv")
        once(config, close=True)
    with watching(config) as (watch, state):
        known = status(watch, state)["models"]["champion"]
        held_out = watch.reference("champion", "1").quality["roc_auc"].value
        told = ["".join(words.text for words in line) for line in lines(watch, state)]
    assert (known["last"]["version"], known["judged"]["version"]) == ("2", "1")
    assert known["reference"]["quality.roc_auc"] == held_out
    [quality] = [line for line in told if line.startswith("quality")]
    assert quality.startswith("quality    of version 1, roc_auc ")
    assert f"{held_out:.4g} in the held-out rows" in quality


def test_of_a_window_that_has_not_ended_nothing_is_read(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, read = list[Any](), job.requests_of
    monkeypatch.setattr(job, "requests_of", lambda store, **of: asked.append(of["until"]) or read(store, **of))
    config = settings_in(tmp_path, recorded, windows={"every": "100y", "settle_s": 0})  # no clock turns one over while this runs
    once(config)
    assert asked == [datetime(1970, 1, 1, tzinfo=UTC) + cutting.TICK]
    with watching(config) as (_, state):
        assert not state.windows()


def test_a_registry_that_is_away_for_a_while_costs_no_window(recorded: Recorded, tmp_path: Path) -> None:
    """Nor does a version that it had not when it was asked first; the same watch finds it later."""
    with watching(settings_in(tmp_path, recorded)) as (watch, state):
        file = sqlite_path(registered_model(watch.pipeline, watch.layout).uri)
        aside = file.rename(file.with_name("aside"))
        try:
            with pytest.raises(PipelineError, match="the registry does not have it"):
                watch.reference("champion", "1")
            file.write_text("no database, while its disk is away")
            with pytest.raises(PipelineError, match="windows of champion that have ended are counted by the next run"):
                run(watch, state, ignored)
            assert not state.windows()
        finally:
            aside.rename(file)
        run(watch, state, ignored)
        assert [window.enough for window in state.windows()] == [True] * WINDOWS


def test_four_runs_at_once_do_each_thing_once(recorded: Recorded, tmp_path: Path) -> None:
    with receiver() as server:
        config = settings_in(
            tmp_path, recorded, channels={"hook": {"channel": "webhook", "settings": {"url": server.url, "format": "plain"}}}
        )
        add(config, recorded)
        told: list[Event] = []
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: once(config, told), range(4)))
        with watching(config) as (_, state):
            assert len(state.windows()) == WINDOWS
            assert [row.rule for row in state.alerts()].count("fell") == 1
        names = [(body["rule"], body["kind"]) for body in server.bodies()]
        assert sorted(names) == sorted(set(names))
        assert len({event.since for event in told if isinstance(event, WindowCounted) and not event.again}) == WINDOWS
        assert sum(isinstance(event, WindowCounted) and not event.again for event in told) == WINDOWS


def test_killed_at_random_it_loses_nothing_does_nothing_twice_and_leaves_one_champion(recorded: Recorded, tmp_path: Path) -> None:
    """Labels, windows, delivery and a training; `python -m benchmarks.loop_kills` does it 30 times."""
    seen = kill_the_loop(recorded.project, recorded.server, recorded.labels, tmp_path, forking(), kills=4, seed=7)
    assert not seen.wrong
    assert seen.kills.total() == 4


def test_what_a_channel_does_not_take_goes_out_later_and_others_hear_at_once(recorded: Recorded, tmp_path: Path) -> None:
    port = unused_port()
    with receiver() as works:
        plain = {"format": "plain"}
        channels = {
            "dead": {"channel": "webhook", "settings": {"url": f"http://127.0.0.1:{port}", **plain}},
            "works": {"channel": "webhook", "settings": {"url": works.url, **plain}},
        }
        config = settings_in(tmp_path, recorded, channels=channels)
        add(config, recorded)
        done = once(config)
        assert set(done.problems) == {"dead"}
        heard = [(body["rule"], body["kind"]) for body in works.bodies()]
        assert ("fell", "firing") in heard
        again = recorded.project.mlops("monitor", "run", "--config", str(config), check=False)
        assert again.returncode == 2
        assert again.stderr.count("\n") == 1
        assert "channel 'dead'" in again.stderr
        assert "waiting" in recorded.project.mlops("monitor", "status", "--config", str(config)).stdout
        with receiver(port) as back:
            assert not once(config).problems
            assert [(body["rule"], body["kind"]) for body in back.bodies()] == heard
        assert not once(config).sent


def test_alertmanager_is_told_again_as_long_as_an_alert_lasts(recorded: Recorded, tmp_path: Path) -> None:
    with receiver() as server:
        settings = {"url": server.url, "repeat_s": 1e-6}
        config = settings_in(tmp_path, recorded, channels={"alertmanager": {"settings": settings}})
        add(config, recorded)
        for _ in range(2):
            once(config)
        fell = [body[0] for body in server.bodies() if body[0]["labels"]["alertname"] == "fell"]
        assert len(fell) > 2
        assert len({one["startsAt"] for one in fell}) == 1
        settings_in(tmp_path, recorded, channels={"alertmanager": {"settings": settings}}, rules={"refused": RULES["refused"]})
        told: list[Event] = []
        with watching(config) as (watch, state), state.writing():
            judge(watch, state, "champion", time.time())
        now = moment(time.time())
        once(config, told)
        [end] = [body[0] for body in server.bodies() if body[0]["annotations"]["description"] == "the rule is gone"]
        assert (end["startsAt"], end["labels"]) == (fell[0]["startsAt"], fell[0]["labels"])
        assert end["endsAt"] < now < fell[0]["endsAt"]
        assert any(isinstance(event, AlertResolved) and event.text == "the rule is gone" for event in told)


def test_nobody_is_told_of_what_is_silenced_until_it_ends(recorded: Recorded, tmp_path: Path) -> None:
    with receiver() as server:
        config = settings_in(
            tmp_path, recorded, channels={"hook": {"channel": "webhook", "settings": {"url": server.url, "format": "plain"}}}
        )
        add(config, recorded)
        mlops = recorded.project.mlops
        mlops("monitor", "silence", "*", "--for", "2h", "--why", "a holiday", "--config", str(config))
        told: list[Event] = []
        once(config, told)
        assert not server.taken
        assert any(isinstance(event, AlertFired) and event.rule == "fell" for event in told)
        wrong = mlops("monitor", "silence", "fel", "--for", "2h", "--config", str(config), check=False)
        assert (wrong.returncode, "use one of fell, refused" in wrong.stderr) == (2, True)
        mlops("monitor", "silence", "*", "--for", "0", "--config", str(config))
        once(config)
        assert sorted(body["rule"] for body in server.bodies()) == ["fell", "refused"]


@pytest.mark.parametrize(
    ("start", "was", "becomes"),
    [("process", "waiting", "held back"), ("process", "started", "failed"), ("prefect", "waiting", "held back")],
)
def test_a_training_that_waits_is_not_begun_once_people_stop_them(
    recorded: Recorded, tmp_path: Path, start: str, was: str, becomes: str
) -> None:
    """Neither is one begun anew whose starter was killed."""
    config = settings_in(tmp_path, recorded, retraining={"start": start, "by": [], "prefect_url": "http://127.0.0.1:1/api"})
    with watching(config) as (watch, state):
        asked = Retraining(0, 1, 1, "fell", "champion", "1", "", was, time.time(), time.time(), None, "a", "")
        with state.writing():
            state.ask_retraining(asked)
            state.switch(STOP, "stopped", "anna", "a freeze", time.time())
        told: list[Event] = []
        assert "stopped by anna: a freeze" in carry_out(watch, state, told.append)
        assert [each.state for each in state.retrainings()] == [becomes]
        assert len(told) == 1


def test_others_may_write_while_it_is_told_that_prefect_was_asked(recorded: Recorded, tmp_path: Path) -> None:
    told: list[Event] = []
    with receiver() as server:
        config = settings_in(tmp_path, recorded, retraining={"start": "prefect", "by": [], "prefect_url": server.url})
        with watching(config) as (watch, state):
            with state.writing():
                state.ask_retraining(Retraining(0, 1, 1, "fell", "champion", "1", "", "waiting", time.time(), time.time(), None, "a", ""))

            def tell(event: Event) -> None:
                with closing(sqlite3.connect(watch.state_file, timeout=0, isolation_level=None)) as another:
                    another.execute("BEGIN IMMEDIATE")
                told.append(event)

            assert carry_out(watch, state, tell) == "asked of Prefect"
    assert [type(event) for event in told] == [RetrainingDecided]


def test_a_rule_may_ask_for_a_training_within_its_bounds(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {**RULES, "always": {"figure": "rows", "above": 1, "severity": "info"}}
    policy = {"by": ["always"], "start": "process", "cool_down_windows": 1, "budget": 1}
    config = settings_in(tmp_path, recorded, rules=rules, retraining=policy)
    recorded.project.mlops("monitor", "stop", "--why", "a freeze", "--config", str(config))
    told: list[Event] = []
    once(config, told, as_of="2024-03-20")
    held = [event.held_back for event in told if isinstance(event, RetrainingDecided)]
    assert len(held) >= 1
    assert "a freeze" in held[-1]
    recorded.project.mlops("monitor", "resume", "--config", str(config))
    (tmp_path / "state.sqlite").unlink()
    told.clear()
    beside: list[str] = []
    monkeypatch.setattr(retraining, "WAIT_S", 0.1)
    done = once(config, told, as_of="2024-03-20", meanwhile=lambda: beside or beside.append(once(config).retraining))
    assert beside == ["under way, in another process"]
    [decided] = [event for event in told if isinstance(event, RetrainingDecided) and not event.held_back]
    [ended] = [event for event in told if isinstance(event, RetrainingEnded)]
    assert (decided.rule, decided.as_of) == ("always", "2024-03-20")
    assert ended.succeeded, ended.outcome
    assert ended.outcome.startswith("it made version 1 again")  # its split stands still
    assert done.retraining == ended.outcome
    told.clear()
    with watching(config) as (watch, state), state.writing():
        for _ in range(2):  # what was asked by the first window is done; the last one is held back, and says so once
            judge(watch, state, "champion", time.time())
            assert [each.state for each in state.retrainings()] == ["done", "held back"]
    for _ in range(2):
        once(config, told)
    assert [event.held_back for event in told if isinstance(event, RetrainingDecided)] == ["the budget of 1 in 30d is spent"]
    status = recorded.project.mlops("monitor", "status", "--config", str(config)).stdout
    assert "the budget of 1 in 30d is spent" in status


def test_what_a_training_makes_waits_for_a_named_person_where_the_policy_says_so(recorded: Recorded, tmp_path: Path) -> None:
    """An alert and the status name it and the command; by that word it becomes champion, and the alert ends."""
    shutil.copytree(recorded.project.folder, tmp_path / "project")
    project = Project(tmp_path / "project", tmp_path / "project/pipeline.yaml")
    project.change(train={"params": {"n_estimators": 25}}, gate={"champion_margin": 1.0})
    rules = {"always": {"figure": "rows", "above": 1}}
    policy = {"by": ["always"], "start": "process", "then": "approval", "budget": 1}
    config = settings_in(tmp_path / "watch", recorded, pipeline=str(project.config), rules=rules, retraining=policy)
    told: list[Event] = []
    assert once(config, told, as_of="newest").retraining == "version 2 passed the gate and waits for approval"
    once(config, told)
    [alert] = [event for event in told if isinstance(event, AlertFired) and event.rule == "version_waits"]
    assert "`mlops models approve 2 --reason REASON" in alert.text
    status = project.mlops("monitor", "status", "--config", str(config)).stdout
    assert "approval   version 2 passed its gate and waits for approval: `mlops models approve 2" in " ".join(status.split("\n"))

    def models(*words: str, **options: Any) -> str:
        done = project.mlops("models", *words, "--config", str(project.config), **options)
        return str(done.stdout + done.stderr)

    project.change(gate={"max_size_mb": 100})
    assert "version 2: waits for approval" in project.run().stdout, "another run that was not told so does not let it go"
    assert "version 1 (champion)" in models("show")
    assert "waits for approval, so it is not taken" in models("show", "2")
    assert "failed the gate" not in models("promote", "2", check=False)
    assert "version 2 is approved by anna, and champion" in models("approve", "2", "--reason", "seen by eye", "--by", "anna")
    assert "version 2 (champion)" in models("show")
    told.clear()
    once(config, told)
    assert [event.text for event in told if isinstance(event, AlertResolved)] == ["version 2 waits no more"]
    assert "approval " not in project.mlops("monitor", "status", "--config", str(config)).stdout
    # Of one that is to be challenger, the alias says so until it is champion.
    project.change(train={"params": {"n_estimators": 30}})
    assert "version 3: challenger" in project.run("--then", "challenger").stdout
    assert "version 2 (champion)" in models("show")
    with watching(config) as (watch, _):
        versions = registered_model(watch.pipeline, watch.layout)
        assert versions.get(3).aliases == {"challenger"}
        models("promote", "3")
        assert versions.get(3).aliases == {"champion"}


def test_a_watch_opens_all_anew_each_time_and_goes_on_while_it_trains(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = {"always": {"figure": "rows", "above": 1}}
    config = settings_in(tmp_path, recorded, rules=rules, retraining={"by": ["always"], "start": "process"})
    rounds: list[tuple[Watched, WatchState]] = []
    trainings: list[list[str]] = []

    def run_some(watch: Watched, state: WatchState, *given: Any, **named: Any) -> Ran:
        rounds.append((watch, state))
        trainings.append([each.state for each in state.retrainings()])
        if len(rounds) == 1:
            raise PipelineError("the record is away")
        if len(rounds) == 4:
            raise KeyboardInterrupt
        return run(watch, state, *given, **named)

    monkeypatch.setattr(face, "run", run_some)
    monkeypatch.setattr(face, "_seconds", lambda *_: 0.0)
    monkeypatch.setattr(retraining, "WAIT_S", 0.05)
    screen = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        face.keep_watching(Console(file=screen, width=24, force_terminal=True, soft_wrap=True), config, "1min")
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "problem the record is away" in " ".join(drawn.split())  # wrapped, where the screen is narrow, and not cut
    assert trainings == [[], [], ["started"], ["started"]]
    assert len({id(part) for both in rounds for part in both}) == 2 * len(rounds)


def test_the_memory_may_be_in_postgresql(recorded: Recorded, tmp_path: Path) -> None:
    with postgresql_server() as server:
        server.psql("create database watch;")
        (tmp_path / "uri").write_text(str(server.get_uri("watch")))
        here, there = (
            settings_in(tmp_path / "here", recorded),
            settings_in(tmp_path / "there", recorded, state={"uri_file": str(tmp_path / "uri")}),
        )
        tables = []
        for config in (here, there):
            once(config)
            add(config, recorded)
            add(config, recorded)
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda _, config=config: once(config), range(2)))
            with watching(config) as (_, state):
                tables.append((state.table("champion").drop("number"), [row.rule for row in state.alerts()], state.label_counts()))
        assert tables[0][0].equals(tables[1][0], null_equal=True)
        assert tables[0][1:] == tables[1][1:]
        assert "postgresql://" in recorded.project.mlops("monitor", "status", "--json", "--config", str(there)).stdout
        other = yaml.safe_load(recorded.project.config.read_text()) | {"name": "another"}
        renamed = recorded.project.folder / "another.yaml"
        renamed.write_text(yaml.safe_dump(other))
        settings_in(tmp_path / "there", recorded, state={"uri_file": str(tmp_path / "uri")}, pipeline=str(renamed))
        refused = recorded.project.mlops("monitor", "status", "--config", str(there), check=False)
        assert refused.returncode == 2
        assert "holds the watch of the pipeline 'small', and this is 'another'" in refused.stderr
