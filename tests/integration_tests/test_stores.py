"""What every store of records keeps to, ours and the documented one of somebody's own: run over all that are registered."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.config.serving import RecordStore, store_at
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.records.process import open_store
from mlops_pipeline.records.reading import export, read
from mlops_pipeline.records.show import show
from tests.conftest import REPOSITORY
from tests.unit_tests.test_records import BINARY, NOON, database, entry, on_a_loop, recorder, until, write, written

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgresql")]

OF_ONES_OWN = ("lines",)
_numbers = iter(range(1000))


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[Path]:
    """A project whose settings name the documented store."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(REPOSITORY / "docs/parts/store.py", folder / "lines_store.py")
    plugins.use(plugins.NamedParts(folder, ("lines_store.py",), "serving.yaml"))
    yield folder
    plugins.use(plugins.NamedParts())
    plugins.parts(plugins.Store)


def new_database(request: pytest.FixtureRequest, _folder: Path) -> str:
    server, name = request.getfixturevalue("postgresql"), f"stores{next(_numbers)}"
    server.psql(f"create database {name};")
    return str(server.get_uri(name))


PLACES: dict[str, Callable[[pytest.FixtureRequest, Path], str]] = {
    "sqlite": lambda _request, folder: str(folder / "records"),
    "postgresql": new_database,
    "lines": lambda _request, folder: f"lines://{folder}/records",
}
"""A new place for records of each store."""


@pytest.fixture(params=[*plugins.parts(plugins.Store), *OF_ONES_OWN])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RecordStore:
    """Each store at a new place. One that is registered here and has no place above fails, which says what to add."""
    name = request.param
    return store_at(PLACES[name](request, tmp_path), name)


def without_nul(table: pl.DataFrame) -> pl.DataFrame:
    """PostgreSQL keeps no NUL in a text."""
    return table.with_columns(pl.col("request_id").str.replace_all("\0", "\N{REPLACEMENT CHARACTER}", literal=True))


def test_what_is_written_reads_back_equal_and_as_from_sqlite(store: RecordStore, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    many = rng.normal(size=(1000, 2)).astype(np.float32)
    many[::3] = np.nan
    entries = [
        entry("one", time=NOON + 0.123457),
        entry("thousand", time=NOON + 1, rows=1000, numbers=many, categories=np.full((1000, 1), "é\U0001f600", object),
              outputs=rng.random((1000, 2)).astype(np.float32), ids=[f"row {k}" for k in range(1000)]),
        entry("refused", time=NOON + 2, rows=0, numbers=None, categories=None, outputs=None, error="size: not a number"),
        entry("nul\0", time=NOON + 3, layout=None, numbers=None, categories=None, outputs=None, error="no \ud800 model"),
        entry("next day", time=NOON + 86400, version="4"),
    ]  # fmt: skip
    for where in (store, tmp_path / "files"):
        made = database(where)
        made.open()
        write(made, entries)
        write(made, entries)  # a group that comes again is stored once
        made.close()
    table, in_files = without_nul(read(store)), without_nul(read(tmp_path / "files"))
    assert table.height == 1004
    assert table.equals(in_files)
    picked = {"since": datetime(2026, 11, 24, 12, 0, 1), "until": datetime(2026, 11, 24, 12, 0, 3, tzinfo=UTC)}
    assert read(store, **picked).equals(read(tmp_path / "files", **picked))
    assert read(store, version="4")["request_id"].to_list() == ["next day"]
    assert read(store, model="other").is_empty()
    assert without_nul(read(store, limit=3)).equals(table.tail(3))
    assert export(store, tmp_path / "out.parquet") == 1004
    assert without_nul(pl.read_parquet(tmp_path / "out.parquet")).equals(table)
    assert show(store, limit=2).table.height == 2


def test_groups_of_two_workers_and_of_two_runs_are_kept_apart(store: RecordStore) -> None:
    for worker in (0, 1, 0):
        written(store, [entry(f"of worker {worker}"), entry("again")], worker)
    assert sorted(read(store)["request_id"]) == ["again"] * 3 + ["of worker 0"] * 2 + ["of worker 1"]


def test_only_columns_that_are_asked_for_stand_in_the_table(store: RecordStore) -> None:
    import dataclasses

    other = dataclasses.replace(BINARY, key="c" * 64, numbers=("height",), categories=())
    late = entry("late", time=NOON + 10, layout=other, version="9", numbers=np.array([[5]], np.float32), categories=None)
    written(store, [entry("early"), late])
    assert {"size", "height"} <= set(read(store).columns)
    assert "size" not in read(store, version="9").columns
    assert read(store, version="9")["height"].to_list() == [5.0]


@on_a_loop
async def test_a_server_writes_there_through_its_writer_process_and_a_killed_one_loses_and_doubles_nothing(store: RecordStore) -> None:
    pipe = open_store(store, 0)
    made = recorder(pipe, loss_ms=0, max_bytes=1 << 26)
    for count in range(60):
        waiting = made.add(entry(f"r{count}"))
        if count == 30:
            pipe._process.kill()  # type: ignore[attr-defined]  # as the system would, out of memory
        if waiting is not None and count % 10 == 9:
            await waiting
    await until(lambda: made.written == 60)
    await made.close(10)
    assert sorted(read(store)["request_id"]) == sorted(f"r{count}" for count in range(60))


@on_a_loop
async def test_a_store_of_ones_own_that_fails_is_named_with_its_line(project: Path, tmp_path: Path) -> None:
    broken = (
        "from mlops_pipeline.plugins import store\n\ndef opened(where, wanted):\n    return 3\n\n"
        "@store('bad', reader=opened)\ndef bad(where, worker, token):\n    raise RuntimeError('no disk')\n"
    )
    (project / "bad_store.py").write_text(broken)
    plugins.use(plugins.NamedParts(project, ("bad_store.py",), "serving.yaml"))
    found = store_at(str(tmp_path), "bad")
    with pytest.raises(PipelineError, match=r"bad_store\.py: store 'bad' fails: .*: mend it there"):
        read(found)
    made = recorder(open_store(found, 0), loss_ms=0, max_bytes=1 << 20)
    await until(lambda: made.problem)
    assert made.problem == "bad_store.py: store 'bad' fails: RuntimeError: no disk (line 8): mend it there"
    await made.close(1)
