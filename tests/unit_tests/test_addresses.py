"""One rule says what is PostgreSQL's address, whichever key names it, and one what lies in files of its own."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlops_pipeline.config.addresses import filled, for_psycopg, is_postgresql, taken_as_it_is
from mlops_pipeline.config.dataset import Source
from mlops_pipeline.config.monitoring import WatchStateSettings, load_monitoring
from mlops_pipeline.config.serving import Record, Release, load_serving
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Event, StageSkipped, kept
from mlops_pipeline.features.store import StateStore
from mlops_pipeline.layout import StatePlace
from mlops_pipeline.monitoring.database import opened
from mlops_pipeline.records.postgresql import PostgreSQLTable, recorded_table
from mlops_pipeline.records.query import Filter
from mlops_pipeline.records.store import StoreError
from mlops_pipeline.registry.lock import connected
from mlops_pipeline.registry.reader import RegistryUnreachable, stored_versions
from mlops_pipeline.release.table import Table
from mlops_pipeline.server_layout import place_of
from mlops_pipeline.tables.database import tables_of
from tests.unit_tests.workshop import assert_one_line


@pytest.mark.parametrize("address", ["postgresql://h/d", "postgres://h/d", "postgresql+psycopg://u:p@h/d?a=b", "PostgreSQL://h/d"])
def test_postgresql_may_be_spelled_alike_under_every_key(address: str) -> None:
    assert is_postgresql(address)
    assert {of(uri=address).uri for of in (Record, Release, WatchStateSettings)} == {address}
    assert for_psycopg(address) == f"postgresql://{address.partition('://')[2]}"


def test_a_variable_may_hold_the_whole_address_under_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {of(uri="${PLACE}").uri for of in (Record, Release, WatchStateSettings)} == {"${PLACE}"}
    path = tmp_path / "serving.yaml"
    model = "models: {m: ./model}\n"
    path.write_text(f"{model}record: {{uri: '${{PLACE}}'}}\nrelease: {{uri: '${{PLACE}}'}}\n")
    monkeypatch.setenv("PLACE", "postgresql://h/d")
    place = place_of(load_serving(path), path)
    assert (place.store.where, place.releases) == ("postgresql://h/d", "postgresql://h/d")
    monkeypatch.setenv("PLACE", "data/records")
    for text, key in (("record: {uri: '${PLACE}'}\n", "record.uri"), ("release: {uri: '${PLACE}'}\n", "release.uri")):
        path.write_text(model + text)
        with pytest.raises(PipelineError) as caught:
            place_of(load_serving(path), path)
        assert_one_line(caught.value, key)


def test_a_password_out_of_a_file_may_look_like_a_variable() -> None:
    from psycopg.conninfo import conninfo_to_dict

    read = filled(taken_as_it_is("postgresql://u:a${X}b@h/d"), "state.uri")
    assert conninfo_to_dict(read)["password"] == "a${X}b"


@pytest.mark.parametrize("where", ["postgres.sqlite", "postgresql/state", "mysql://h/d", "postgresql+asyncpg://h/d", "postgresql:h"])
def test_what_is_none_of_it_is_taken_for_none_under_every_key(where: str) -> None:
    assert not is_postgresql(where)
    for of in (Release, WatchStateSettings):
        with pytest.raises(ValidationError, match=r"uri must be postgresql://…: leave it out for the SQLite file"):
            of(uri=where)


def test_a_table_of_releases_may_lie_in_a_file_that_is_called_after_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(Table("postgres.sqlite")) as table:
        assert table.place == "postgres.sqlite"
    assert (tmp_path / "postgres.sqlite").is_file()


KEYS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "record": ("uri", "uri_file", load_serving),
    "release": ("uri", "uri_file", load_serving),
    "features": ("state", "state_file", load_serving),
    "state": ("uri", "uri_file", load_monitoring),
}


@pytest.mark.parametrize("section", KEYS)
def test_an_address_that_lies_in_a_file_takes_the_key_s_place(section: str, tmp_path: Path) -> None:
    key, filed, load = KEYS[section]
    path, file = tmp_path / "settings.yaml", tmp_path / "there"
    path.write_text(f"{section}: {{{filed}: there}}\n")
    file.write_text("postgresql://u:p@h/d\n")
    settings = getattr(load(path), section)
    assert (getattr(settings, key), getattr(settings, filed)) == ("postgresql://u:p@h/d", None)
    for content in ("data/state", "postgresql://u:p@h/d\npostgresql://u:p@h/e"):
        file.write_text(content)
        with pytest.raises(PipelineError) as caught:
            load(path)
        assert_one_line(caught.value, f"{path}: {section}.{filed} = 'there': holds no address: put the address there, ")
    file.unlink()
    with pytest.raises(PipelineError, match=rf"{section}\.{filed} = 'there': there is no such file: put the address there"):
        load(path)


def test_an_address_in_settings_takes_what_it_names_from_the_environment_under_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path, uri = tmp_path / "serving.yaml", "postgresql://u:${P}@h/d"
    path.write_text(f"registry: {{uri: '{uri}', model: m}}\nrecord: {{uri: '{uri}'}}\nrelease: {{uri: '{uri}'}}\n")
    monkeypatch.setenv("P", "pa%20ss")
    place = place_of(load_serving(path), path)
    assert {place.registry, place.store.where, place.releases} == {"postgresql://u:pa%20ss@h/d"}
    monkeypatch.delenv("P")
    with pytest.raises(PipelineError, match=r"^registry\.uri: P is not set in the environment: set it$"):
        place_of(load_serving(path), path)
    with pytest.raises(PipelineError, match=r"^state\.uri: P is not set in the environment: set it$"):
        opened(tmp_path / "state.sqlite", uri)


ASKED: dict[str, Callable[[str], object]] = {
    "record.uri": lambda address: PostgreSQLTable(address, 0, "0" * 32).open(),
    "record.uri, read": lambda address: recorded_table(address, Filter()).__enter__(),
    "release.uri": Table,
    "features.state": lambda address: StateStore(StatePlace(Path(), address, "shops")).version(),
    "dataset.source.uri": lambda _: list(tables_of(Source(sql="select 1", uri="${SHOP}"), Path())),
    "registry.uri": lambda address: stored_versions(address, "small"),
    "tracking.uri": connected,
}
"""By the key where an address stands, what asks there."""


READ = ("sesame", "sesame?zz", "zz:sesame")
"""Passwords that the library reads as they are meant."""


@pytest.mark.parametrize("key", ASKED)
@pytest.mark.parametrize("password", [*READ, "sesame@zz", "zz@sesame", "sesame%zz", "sesame zz", "sesame/zz", "12/sesame"])
def test_no_part_of_a_password_is_told_wherever_an_address_stands(
    key: str, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    """One that is taken from the environment comes as it is, and the library reads a sign that is not encoded in its own way."""
    address = f"postgresql://anna:{password}@127.0.0.1:{free_port}/db"
    monkeypatch.setenv("SHOP", address)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((PipelineError, StoreError)) as caught:
        ASKED[key](address)
    assert str(caught.value).startswith(key.partition(",")[0])
    assert "\n" not in str(caught.value)
    said = "".join(traceback.format_exception(caught.value))
    assert not [word for word in ("sesame", "zz", "anna") if word in said]
    assert ("PostgreSQL does not answer at its host and port" if password in READ else "percent-encode the password") in str(caught.value)
    assert key != "registry.uri" or isinstance(caught.value, RegistryUnreachable)


def test_nor_where_an_event_is_kept(tmp_path: Path) -> None:
    heard: list[Event] = []
    tell = kept(tmp_path / "events.jsonl", "postgresql://anna:zz@sesame@127.0.0.1/db", heard.append)
    tell(StageSkipped(pipeline="small", stage="split"))
    assert len(heard) == 2
    assert not [event for event in heard if "sesame" in repr(event) or "zz" in repr(event)]
