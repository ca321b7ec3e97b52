"""The features' state in a real PostgreSQL: several machines bring it up to date and ask it, and no death does harm."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from dvc.repo import Repo

from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.refresh import refresh, show
from mlops_pipeline.features.state import FeatureState, open_state
from mlops_pipeline.features.store import VERSIONS, Database, StateStore
from mlops_pipeline.features.versions import Origin, Refreshed, SharedVersions
from mlops_pipeline.layout import FEATURES_STATE, StatePlace
from mlops_pipeline.pipeline.runner import run
from mlops_pipeline.serving.computing import States
from tests.unit_tests.test_features_refresh import HEADER, KEPT, OWN, PLAN, Killed, line, of_day, of_days, shops, taken, told, typed
from tests.unit_tests.workshop import ingested, layout_in, quiet

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgresql")]


def address(server: Any, database: str) -> str:
    server.psql(f"create database {database};")
    return str(server.get_uri(database))


def sent(uri: str, folder: Path, rows: Sequence[tuple[Any, ...]], *, anew: bool = False) -> Refreshed:
    """Rows taken in by a machine whose own folder this is."""
    with closing(Database(uri, "shops")) as database:
        return SharedVersions(folder, database).refresh(PLAN, KEPT, KEPT.of(typed(rows)), [], Origin({}, OWN), anew=anew)


def asked(uri: str, folder: Path, name: str = "shops") -> FeatureState:
    store = StateStore(StatePlace(folder, uri, name))
    try:
        place = store.version()
        assert place is not None
        return open_state(place)
    finally:
        store.close()


def one(uri: str, query: str) -> Any:
    with psycopg.connect(uri) as connection:
        return connection.execute(query).fetchone()[0]  # type: ignore[index,arg-type]


def test_machines_share_a_state_and_a_day_more_sends_a_day(postgresql: Any, tmp_path: Path) -> None:
    uri, frame = address(postgresql, "days"), typed(of_days(26))
    assert StateStore(StatePlace(tmp_path / "asked", uri, "shops")).version() is None
    sent(uri, tmp_path / "0", of_days(20))
    old = {place.name for place in (tmp_path / "0").glob("000001-*/*.1.bin")}
    for day in range(20, 26):
        done = sent(uri, tmp_path / str(day % 2), of_day(day))
        state = asked(uri, tmp_path / "asked")
        assert (done.new, done.state.digest) == (4, state.digest)
    assert told(state, frame).equals(told(taken(tmp_path / "whole", of_days(26)).state, frame))
    assert one(uri, "SELECT count(*) FROM mlops_feature_states") == VERSIONS
    manifests = one(uri, "SELECT json_agg(files::json) FROM mlops_feature_states")
    parts = [{file: digest for file, (digest, _) in each.items() if file.endswith(".1.bin")} for each in manifests]
    assert parts[0].keys() == old
    assert parts[0] == parts[1] == parts[2], "old parts are there once"
    used = {digest for each in manifests for digest, _ in each.values()}
    assert one(uri, "SELECT count(DISTINCT digest) FROM mlops_feature_files") == len(used), "what no version has is gone"
    there = sorted(place.name for place in (tmp_path / "asked").iterdir())
    assert len(there) == VERSIONS + 2, there  # and CURRENT, and the lock: no rows
    copies = [{place.name: place.stat().st_ino for place in folder.glob("*.1.bin")} for folder in (tmp_path / "asked").glob("0*")]
    assert copies[0] == copies[1]
    assert copies[0].keys() == old
    again = sent(uri, tmp_path / "0", of_day(25))
    assert (again.new, again.is_new, again.version) == (0, False, done.version)
    # One that was never here goes on from what is there.
    assert sent(uri, tmp_path / "new", of_day(25)).version == done.version


@pytest.mark.parametrize("damage", ["update {} set content = 'x'", "delete from {}"])
@pytest.mark.parametrize("table", ["mlops_feature_files", "mlops_feature_rows"])
def test_a_state_that_is_damaged_in_the_database_is_mended_by_making_it_anew(
    postgresql: Any, tmp_path: Path, table: str, damage: str
) -> None:
    uri = address(postgresql, f"damaged_{table[-5:]}_{damage[:6]}")
    old = sent(uri, tmp_path / "0", of_days(21))
    with psycopg.connect(uri) as connection:
        connection.execute(damage.format(table))  # type: ignore[call-overload]
    with pytest.raises(PipelineError, match=r"is not what it was: make the state anew with `mlops features refresh --anew`"):
        sent(uri, tmp_path / "another", of_day(20))
    new = sent(uri, tmp_path / "another", of_days(21), anew=True)
    assert (old.state.digest, old.version < new.version) == (new.state.digest, True)
    assert asked(uri, tmp_path / "asked").digest == new.state.digest
    # Those who had the old one go on from the new.
    assert sent(uri, tmp_path / "0", of_days(21)).version == new.version
    assert sent(uri, tmp_path / "a third", of_day(21)).new == 4


@contextmanager
def dying(after: int) -> Iterator[list[int]]:
    """A death at one of the writes to the disk, or of the statements."""
    left, patch, real = [after], pytest.MonkeyPatch(), {"fsync": os.fsync, "execute": psycopg.Connection.execute}

    def counted(name: str) -> Any:
        def act(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real[name](*arguments, **more)

        return act

    patch.setattr(os, "fsync", counted("fsync"))
    patch.setattr(psycopg.Connection, "execute", counted("execute"))
    try:
        yield left
    finally:
        patch.undo()


def test_no_moment_of_death_does_harm(postgresql: Any, tmp_path: Path) -> None:
    uri, frame = address(postgresql, "deaths"), typed(of_days(21))
    before = told(sent(uri, tmp_path / "0", of_days(20)).state, frame)
    new = told(taken(tmp_path / "whole", of_days(21)).state, frame)
    died = 0
    while True:
        try:
            with dying(died):
                sent(uri, tmp_path / "0", of_day(20))
        except Killed:
            died += 1
        else:
            break
        assert told(asked(uri, tmp_path / "asked"), frame).equals(before)
    assert died > 30
    fetched = 0
    while True:
        try:
            with dying(fetched):
                asked(uri, tmp_path / "asked")
        except Killed:
            fetched += 1
        else:
            break
        assert told(open_state(tmp_path / "asked"), frame).equals(before)
    assert fetched > 10
    assert told(asked(uri, tmp_path / "asked"), frame).equals(new)
    assert not [place for place in tmp_path.rglob(".*") if place.is_dir()]
    assert sent(uri, tmp_path / "0", of_day(20)).new == 0


def test_a_pipelines_commands_go_there_by_an_address_alone(
    postgresql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = address(postgresql, "commands")
    own = shops()
    own = own.model_copy(update={"features": own.features.model_copy(update={"state": "${WHERE_STATES_ARE}"})})
    layout = layout_in(tmp_path, own)
    source = tmp_path / "table.csv"
    source.write_text(HEADER + "".join(map(line, of_days(20))), encoding="utf-8")
    with pytest.raises(PipelineError, match="WHERE_STATES_ARE is not set"):
        show(own, layout, quiet())
    monkeypatch.setenv("WHERE_STATES_ARE", uri)
    with pytest.raises(PipelineError, match="'small' in PostgreSQL: there is no state"):
        show(own, layout, quiet())
    assert refresh(own, layout, quiet()).new == 80
    show(own, layout, quiet(), as_json=True)
    assert '"as_of": "2024-02-20T03:00:00+00:00"' in capsys.readouterr().out
    monkeypatch.setenv(FEATURES_STATE, "postgresql://nobody:secret@127.0.0.1:9/none")
    with pytest.raises(PipelineError, match=r"^features\.state: postgresql://…@127\.0\.0\.1:9/none") as told_:
        refresh(own, layout, quiet(), source)
    assert "secret" not in str(told_.value)


def test_a_run_that_is_up_to_date_sends_what_the_folder_holds_where_the_database_has_none(
    postgresql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, more, console = address(postgresql, "moved"), tmp_path / "more.csv", quiet()
    config = tmp_path / "pipeline.yaml"
    config.write_text(yaml.safe_dump(shops().model_dump(mode="json", by_alias=True, exclude_defaults=True)))
    own = load_settings(config)
    (tmp_path / "table.csv").write_text(HEADER + "".join(map(line, of_days(20))), encoding="utf-8")
    more.write_text(HEADER + "".join(map(line, of_day(20))), encoding="utf-8")
    Repo.init(str(tmp_path), no_scm=True).close()
    layout = layout_in(tmp_path, own)
    assert run(own, layout, console, stop="ingest") == {"ingest": "ran"}
    assert refresh(own, layout, quiet(), more).rows == 84
    before = told(open_state(layout.state), typed(of_days(21)))
    monkeypatch.setenv(FEATURES_STATE, "postgresql://nobody:secret@127.0.0.1:9/none")
    assert run(own, layout, console, stop="ingest") == {"ingest": "current"}
    monkeypatch.setenv(FEATURES_STATE, uri)
    for _ in range(2):
        assert run(own, layout, console, stop="ingest") == {"ingest": "current"}
        assert told(asked(uri, tmp_path / "asked", own.name), typed(of_days(21))).equals(before)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert (shown.count("was sent to PostgreSQL"), shown.count("was not sent"), "secret" in shown) == (1, 1, False)


def test_an_ingest_whose_connection_is_lost_ends_and_loses_no_row(postgresql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, more = shops(), tmp_path / "more.csv"
    monkeypatch.setenv(FEATURES_STATE, address(postgresql, "lost"))
    (tmp_path / "table.csv").write_text(HEADER + "".join(map(line, of_days(20))), encoding="utf-8")
    more.write_text(HEADER + "".join(map(line, of_day(20))), encoding="utf-8")
    layout, real = layout_in(tmp_path, own), SharedVersions._current
    ingested(tmp_path, own)
    assert refresh(own, layout, quiet(), more).rows == 84

    def losing(self: SharedVersions) -> Any:
        postgresql.psql("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'lost';")
        monkeypatch.setattr(SharedVersions, "_current", real)
        return real(self)

    monkeypatch.setattr(SharedVersions, "_current", losing)
    with pytest.raises(PipelineError, match=r"^features\.state: "):
        ingested(tmp_path, own)
    ingested(tmp_path, own)
    assert refresh(own, layout, quiet()).rows == 84


def test_a_copy_that_cannot_be_written_is_one_line_told_once(postgresql: Any, tmp_path: Path) -> None:
    """A server starts all the same, and goes on to look at models: its disk may be full, or its folder another's."""
    uri = address(postgresql, "unwritable")
    sent(uri, tmp_path / "0", of_days(21))
    (tmp_path / "file").write_text("no folder")
    states = States(StatePlace(tmp_path / "file" / "state", uri, "shops"))
    with pytest.raises(
        PipelineError, match=r"file/state: the features' state cannot be put there \(.*\): make room, or let this user"
    ) as told:
        states.newest()
    assert "\n" not in str(told.value)
    assert states.newest() is None
    (tmp_path / "file").unlink()
    assert states.newest() is not None


def test_a_server_goes_on_with_what_it_fetched_last(postgresql: Any, tmp_path: Path) -> None:
    uri = address(postgresql, "away")
    done = sent(uri, tmp_path / "0", of_days(20))
    place = StatePlace(tmp_path / "asked", uri, "shops")
    states = States(place)
    first = states.newest()
    assert first is not None
    assert first.digest == done.state.digest
    assert states.newest() is None
    # A connection that has died is made again.
    postgresql.psql("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'away';")
    assert states.newest() is None
    newer = sent(uri, tmp_path / "0", of_day(20))
    second = states.newest()
    assert second is not None
    assert second.digest == newer.state.digest
    away = States(StatePlace(place.folder, "postgresql://nobody:secret@127.0.0.1:9/none", "shops"))
    known = away.newest()
    assert known is not None
    assert known.digest == newer.state.digest
    with pytest.raises(PipelineError, match="check the address") as told_:
        away.newest()
    assert "secret" not in str(told_.value)
    assert away.newest() is None, "it is told once"
