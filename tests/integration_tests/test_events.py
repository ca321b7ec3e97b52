"""What happened to a pipeline, as its file tells it: runs, the gate, the champion, what servers load and refuse."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mlops_pipeline.events import (
    ChampionChanged,
    Event,
    GateDecided,
    ModelLoaded,
    ModelRefused,
    StageBegan,
    StageFailed,
    StageRan,
    StageRestored,
    StageSkipped,
    VersionDecided,
    Warned,
    append,
    as_line,
    kept,
    read_events,
    without_nul,
)
from mlops_pipeline.pipeline.definition import STAGES
from tests.conftest import Project, make_project, wait_for
from tests.integration_tests.conftest import mlflow_client, serving

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("events")]

NAMES = [stage.name for stage in STAGES]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that anna has run and run again with other parameters, so that two versions are registered."""
    project = make_project(tmp_path_factory.mktemp("events") / "project")
    project.run(MLOPS_USER="anna")
    project.change(train={"params": {"n_estimators": 25}})
    project.run(MLOPS_USER="anna")
    return project


def file_of(project: Project) -> Path:
    return project.folder / "data/events.jsonl"


def since(project: Project, count: int) -> list[Event]:
    """The events after the first so many."""
    return list(read_events(file_of(project)))[count:]


def count(project: Project) -> int:
    return len(since(project, 0))


def test_runs_tell_of_their_stages_the_gate_and_the_champion(twice: Project) -> None:
    told = list(read_events(file_of(twice)))
    assert {event.user for event in told} == {"anna"}
    assert [event.time for event in told] == sorted(event.time for event in told)
    assert [event.stage for event in told if isinstance(event, StageRan)] == [*NAMES, "train", "evaluate", "register"]
    assert [event.stage for event in told if isinstance(event, StageSkipped)] == ["ingest", "validate", "split"]
    causes = [[str(cause) for cause in event.causes] for event in told if isinstance(event, StageBegan)]
    assert causes[: len(NAMES)] == [["never run"]] * len(NAMES)
    assert causes[len(NAMES)] == ["settings: train.params.n_estimators: 20 → 25"]
    first, second = (event for event in told if isinstance(event, GateDecided))
    assert (first.version, first.passed, first.rules[0].name) == (1, True, "held_out")
    changed = [event for event in told if isinstance(event, ChampionChanged)]
    assert (changed[0].version, changed[0].former, changed[0].how) == (1, None, "passed the gate")
    assert second.passed == (len(changed) == 2)
    versions = {int(version.version): version for version in mlflow_client(twice).search_model_versions("name = 'small'")}
    for event in (first, second, *changed):
        assert event.content_sha256 == versions[event.version].tags["mlops.content_sha256"]
        assert event.run_id == versions[event.version].run_id


def test_runs_in_mlflow_are_of_the_user(twice: Project) -> None:
    client = mlflow_client(twice)
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert [run.data.tags["mlflow.user"] for run in runs] == ["anna", "anna"]
    assert {run.info.user_id for run in runs} == {"anna"}


def test_what_people_do_with_the_champion_is_told_with_who_and_why(twice: Project) -> None:
    config = ("--config", str(twice.config))
    twice.mlops("models", "promote", "2", *config, MLOPS_USER="berta")
    before = count(twice)
    twice.mlops("models", "rollback", *config, MLOPS_USER="clara")
    twice.mlops("models", "promote", "2", "--override", "the old one drifts", *config, MLOPS_USER="berta")
    twice.mlops("models", "promote", "2", *config, MLOPS_USER="berta")
    told = since(twice, before)
    decided = [(e.user, e.decision, e.by, e.reason) for e in told if isinstance(e, VersionDecided)]
    assert decided == [("berta", "approved", "berta", "the old one drifts")]
    assert all(isinstance(event, ChampionChanged | VersionDecided) for event in told)
    shown = [(e.user, e.version, e.former, e.how, e.reason) for e in told if isinstance(e, ChampionChanged)]
    assert shown == [("clara", 1, 2, "rolled back", ""), ("berta", 2, 1, "promoted by hand", "the old one drifts")]


def test_a_full_disk_keeps_no_event_and_stops_no_promotion(twice: Project) -> None:
    config = ("--config", str(twice.config))
    file, aside = file_of(twice), twice.folder / "aside"
    file.rename(aside)
    file.symlink_to("/dev/full")
    try:
        done = twice.mlops("models", "promote", "1", *config)
    finally:
        file.unlink()
        aside.rename(file)
    assert "small version 1 is champion" in done.stdout
    said = f"{file}: cannot be written (No space left on device): what happens now is not kept there"
    assert done.stdout.count(said) == 1
    assert mlflow_client(twice).get_model_version_by_alias("small", "champion").version in ("1", 1)
    twice.mlops("models", "promote", "2", *config)


def test_a_stage_that_fails_is_told_with_the_reason(project: Project) -> None:
    project.run("--to", "split")
    before = count(project)
    project.change(train={"params": {"n_estimators": -1}})
    done = project.run(check=False)
    assert done.returncode == 2
    *_, began, failed = since(project, before)
    assert isinstance(began, StageBegan)
    assert isinstance(failed, StageFailed)
    assert (failed.stage, failed.error) == ("train", "PipelineError")
    assert f"error: {failed.reason}" in " ".join(done.stderr.split())


def test_stages_that_dvc_runs_and_outputs_it_brings_back_are_told(project: Project) -> None:
    project.run("--to", "split")
    before = count(project)
    (project.folder / "data/raw/small.parquet").unlink()
    project.run("--to", "ingest")
    began, restored = since(project, before)
    assert isinstance(began, StageBegan)
    assert isinstance(restored, StageRestored)
    assert restored.source == "DVC cache"
    before = count(project)
    project.dvc("repro", "--force", "--single-item", "split")
    told = since(project, before)
    assert [type(event) for event in told] == [StageBegan, Warned, StageRan]
    assert isinstance(told[1], Warned)
    assert told[1].text == "only 124 rows are held out: no split of that size proves anything about the model"


def test_a_server_tells_what_it_loads_and_what_it_refuses(twice: Project, tmp_path: Path) -> None:
    def told() -> list[Event]:
        return list(read_events(tmp_path / "serve/events.jsonl"))

    with serving(twice, tmp_path / "serve", {"MLOPS_USER": "server"}, models={"main": "champion", "ghost": "9"}, default="main"):
        loaded, refused = told()
        assert isinstance(loaded, ModelLoaded)
        assert (loaded.name, loaded.reference, loaded.version, loaded.worker, loaded.user) == ("main", "champion", "2", 0, "server")
        assert isinstance(refused, ModelRefused)
        assert (refused.name, refused.reference, refused.reason) == ("ghost", "9", "missing")
        twice.mlops("models", "promote", "1", "--config", str(twice.config))
        wait_for(lambda: len(told()) == 3, 120, "the word of another version")
        assert [event.version for event in told() if isinstance(event, ModelLoaded)] == ["2", "1"]
    twice.mlops("models", "promote", "2", "--config", str(twice.config))


def test_events_stand_in_a_table_too_where_the_registry_is_postgresqls(postgresql: Any, tmp_path: Path) -> None:
    postgresql.psql("create database events;")
    address = str(postgresql.get_uri("events"))
    uri = address.replace("postgresql://", "postgresql+psycopg2://")
    happened = [StageRestored(pipeline=f"nul \0 «é» {number}", stage="train", source="DVC cache", user="anna") for number in range(6)]
    heard: list[Event] = []

    def tell(event: Event) -> None:
        kept(tmp_path / "events.jsonl", uri, heard.append)(event)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(tell, happened))
    assert {event.time for event in heard} == {event.time for event in happened}
    with psycopg.connect(address) as connection:
        rows = connection.execute("select time, event, \"user\", content->>'pipeline' from mlops_events order by 4").fetchall()
    assert rows == [(one.time, "stage_restored", "anna", one.pipeline.replace("\0", "\N{REPLACEMENT CHARACTER}")) for one in happened]
    assert sorted(read_events(tmp_path / "events.jsonl"), key=lambda event: event.time) == sorted(happened, key=lambda event: event.time)


def test_a_change_that_a_kill_has_left_in_a_file_alone_or_in_the_table_reaches_both_and_stands_in_each_once(
    postgresql: Any, tmp_path: Path
) -> None:
    postgresql.psql("create database once;")
    address = str(postgresql.get_uri("once"))
    uri, here, elsewhere = address.replace("postgresql://", "postgresql+psycopg2://"), tmp_path / "here.jsonl", tmp_path / "elsewhere.jsonl"
    facts: dict[str, Any] = {"pipeline": "small", "model": "small", "content_sha256": "ab", "run_id": "f", "how": "promoted by hand"}
    first, second = (ChampionChanged(version=number, former=None, reason="nul \0 «é»", **facts) for number in (1, 2))

    def versions() -> list[int]:
        return [version for (version,) in connection.execute("select (content->'version')::int from mlops_events order by number")]

    with psycopg.connect(address, autocommit=True) as connection:
        # The table as it was made before, in which one stands twice.
        connection.execute(
            "create table mlops_events (number bigint generated always as identity primary key, time timestamptz not null,"
            ' event text not null, "user" text not null, content jsonb not null)'
        )
        for _ in range(2):
            connection.execute(
                'insert into mlops_events (time, event, "user", content) values (%s, %s, %s, %s::jsonb)',
                [first.time, "champion_changed", first.user, without_nul(as_line(first).decode())],
            )
        append(here, first)
        kept(elsewhere, uri)(first)
        assert versions() == [1, 1]
        append(here, second)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda place: kept(place, uri)(second), [here, elsewhere] * 2))
        assert versions() == [1, 1, 2]
    for place in (here, elsewhere):
        assert list(read_events(place)) == [first, second]


def test_a_database_that_is_away_is_said_once_without_its_password(tmp_path: Path, free_port: int) -> None:
    heard: list[Event] = []
    tell = kept(tmp_path / "events.jsonl", f"postgresql://anna:sesame@127.0.0.1:{free_port}/events", heard.append)
    event = StageSkipped(pipeline="small", stage="split")
    tell(event)
    tell(event)
    assert list(read_events(tmp_path / "events.jsonl")) == [event, event]
    (said,) = [event.text for event in heard if isinstance(event, Warned)]
    assert said.startswith("table mlops_events in PostgreSQL: cannot be written (")
    assert "sesame" not in said
