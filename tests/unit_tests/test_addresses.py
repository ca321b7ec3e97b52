"""One rule says what is PostgreSQL's address, whichever key names it, and one what lies in files of its own."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlops_pipeline.config.addresses import for_psycopg, is_postgresql
from mlops_pipeline.config.monitoring import WatchStateSettings
from mlops_pipeline.config.serving import Record, Release, load_serving
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.release.table import Table
from tests.unit_tests.workshop import assert_one_line


@pytest.mark.parametrize("address", ["postgresql://h/d", "postgres://h/d", "postgresql+psycopg://u:p@h/d?a=b", "PostgreSQL://h/d"])
def test_postgresql_may_be_spelled_alike_under_every_key(address: str) -> None:
    assert is_postgresql(address)
    assert {of(uri=address).uri for of in (Record, Release, WatchStateSettings)} == {address}
    assert for_psycopg(address) == f"postgresql://{address.partition('://')[2]}"


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


KEYS = {"record": ("uri", "uri_file"), "release": ("uri", "uri_file"), "features": ("state", "state_file")}


@pytest.mark.parametrize("section", KEYS)
def test_an_address_that_lies_in_a_file_takes_the_key_s_place(section: str, tmp_path: Path) -> None:
    key, filed = KEYS[section]
    path, file = tmp_path / "serving.yaml", tmp_path / "there"
    path.write_text(f"{section}: {{{filed}: there}}\n")
    file.write_text("postgresql://u:p@h/d\n")
    settings = getattr(load_serving(path), section)
    assert (getattr(settings, key), getattr(settings, filed)) == ("postgresql://u:p@h/d", None)
    for content in ("data/state", "postgresql://u:p@h/d\npostgresql://u:p@h/e"):
        file.write_text(content)
        with pytest.raises(PipelineError) as caught:
            load_serving(path)
        assert_one_line(caught.value, f"{path}: {section}.{filed} = 'there': holds no address: put the address there, ")
    file.unlink()
    with pytest.raises(PipelineError, match=rf"{section}\.{filed} = 'there': there is no such file: put the address there"):
        load_serving(path)
