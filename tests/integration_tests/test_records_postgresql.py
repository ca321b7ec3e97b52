"""Records in a real PostgreSQL: what is written reads back, and a server that is killed under load loses and doubles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest

from mlops_pipeline.config.serving import RecordStore
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.records.entry import Entry
from mlops_pipeline.records.process import open_store
from mlops_pipeline.records.reading import news, read, requests_of
from mlops_pipeline.records.store import StoreError
from tests.conftest import Project, wait_for
from tests.integration_tests.clients import load
from tests.integration_tests.conftest import postgresql_server, serving
from tests.unit_tests.test_records import BINARY, NOON, PRIVATE, database, entry, on_a_loop, recorder, until, write, written

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgresql")]


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with postgresql_server() as started:
        yield started
        started.ensure_postgres_running()


_numbers = iter(range(1000))


@pytest.fixture
def address(server: Any) -> str:
    """The address of a new database."""
    name = f"records{next(_numbers)}"
    server.psql(f"create database {name};")
    return str(server.get_uri(name))


def database_of(address: str) -> str:
    return address.split("/")[3].partition("?")[0]


def test_who_reads_on_is_handed_what_each_writer_has_added(address: str) -> None:
    stores, seen, read_to = [database(address, worker) for worker in (0, 1)], list[str](), dict[str, int]()
    for turn, worker in enumerate((0, 0, 1, 0)):
        # What is older than what was read may come later, from another worker.
        write(stores[worker], [entry(f"{turn}-{place}", time=NOON - turn + place) for place in range(3)], 3 * turn)
        with news(address, read_to, since=datetime.fromtimestamp(NOON - 2, UTC), model="champion") as found:
            new = pl.concat(found.frames)
        assert found.read_to is not None
        read_to = dict(found.read_to)
        assert {name.partition("-")[0] for name in new["request_id"]} == {str(turn)}
        seen += new["request_id"].to_list()
    assert sorted(seen) == sorted(read(address, since=datetime.fromtimestamp(NOON - 2, UTC))["request_id"])
    with news(address, read_to, since=datetime.fromtimestamp(NOON - 2, UTC), model="champion") as found:
        assert list(found.frames) == []
    for store in stores:
        store.close()


def test_pipelines_that_share_a_database_do_not_see_one_anothers_rows_and_what_an_older_release_wrote_stays(address: str) -> None:
    """Both call their model champion, and count versions from 1."""
    one, two = (RecordStore("postgresql", address, {}, of) for of in ("one", "two"))
    written(address, [entry("old", time=NOON)])
    with psycopg.connect(address) as connection:
        connection.execute("DROP TABLE mlops_prediction_runs")  # as an older release has left it
    assert read(one)["request_id"].to_list() == ["old"]
    for store, times in ((one, 1), (two, 2)):
        made = database(store)
        write(made, [entry(f"{store.of}-{place}", time=NOON + place) for place in range(1, 1 + times)])
        made.close()
    since = datetime.fromtimestamp(NOON, UTC)
    assert read(one)["request_id"].to_list() == ["old", "one-1"]
    assert read(two)["request_id"].to_list() == ["old", "two-1", "two-2"]
    assert [each.request_id for each in requests_of(one, since=since, model="champion")] == ["old", "one-1"]
    with news(two, {}, since=since, model="champion") as found:
        assert pl.concat(found.frames)["request_id"].sort().to_list() == ["old", "two-1", "two-2"]
    assert read(address).height == 4


def test_a_private_value_is_nowhere_in_the_database(server: Any, address: str) -> None:
    secret = np.float32(123456.79)
    written(address, [entry(layout=PRIVATE, numbers=np.array([[1, secret, 2]], np.float32), categories=np.array([["Ada", "x"]], object))])
    with psycopg.connect(address) as connection:
        [(blob,)] = connection.execute("SELECT blob FROM mlops_predictions").fetchall()
    assert np.array([1, 2], "<f4").tobytes() in blob
    assert secret.tobytes() not in blob
    assert b"Ada" not in blob
    assert set(read(address).columns) >= {"size", "weight", "kind"}
    assert not {"income", "name"} & set(read(address).columns)


def test_addresses_as_sqlalchemy_spells_them_and_workers_that_start_at_once(address: str) -> None:
    spelled = address.replace("postgresql://", "postgresql+psycopg://")

    def one(worker: int) -> None:
        written(spelled, [entry(str(worker), layout=replace(BINARY, key=str(worker % 3) * 64))], worker)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert sorted(read(spelled)["request_id"]) == [str(k) for k in range(8)]


def test_commits_are_synchronous_even_where_the_server_is_set_otherwise(server: Any, address: str) -> None:
    server.psql(f"alter database {database_of(address)} set synchronous_commit = off;")
    store = database(address)
    store.open()
    assert store._connection.execute("SHOW synchronous_commit").fetchone() == ("on",)  # type: ignore[attr-defined]
    store.close()


@on_a_loop
async def test_a_server_that_is_killed_under_load_loses_and_doubles_nothing(server: Any, address: str) -> None:
    """Shut down at once (as by a loss of power) and started again, three times, while eight clients wait for their commits."""
    from pgserver import pg_ctl

    acknowledged: list[str] = []
    sent: list[str] = []
    made = recorder(open_store(address, 0), loss_ms=0, max_bytes=1 << 26)
    stopping = asyncio.Event()

    async def client(name: int) -> None:
        while not stopping.is_set():
            request = f"{name}-{len(sent)}"
            sent.append(request)
            committed = made.add(entry(request))
            assert committed is not None
            await asyncio.shield(committed)
            acknowledged.append(request)

    clients = [asyncio.create_task(client(name)) for name in range(8)]
    for _ in range(3):
        before = len(acknowledged)
        await until(lambda before=before: len(acknowledged) > before + 200)
        await asyncio.to_thread(pg_ctl, ["-w", "stop", "-m", "immediate"], pgdata=server.pgdata, user=server.system_user)
        await until(lambda: made.problem)
        assert "\n" not in made.problem
        held = len(acknowledged)
        assert not any([await asyncio.sleep(0) for _ in range(100)])
        assert len(acknowledged) == held
        await asyncio.to_thread(server.ensure_postgres_running)
        await until(lambda held=held: len(acknowledged) > held)
        assert made.problem == ""
    stopping.set()
    await asyncio.gather(*clients)
    await made.close()
    assert made.pending == 0
    stored = read(address)["request_id"].to_list()
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    assert sorted(stored) == sorted(sent)


def test_a_commit_whose_answer_is_lost_is_not_stored_twice(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = database(address)
    store.open()
    connection = store._connection  # type: ignore[attr-defined]
    execute = connection.execute

    def lost(*arguments: Any) -> Any:
        execute(*arguments)
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    write(store, [entry("warm")])  # the layout is known from here on
    monkeypatch.setattr(connection, "execute", lost)
    group: list[Entry] = [entry("a"), entry("a")]
    with pytest.raises(StoreError, match="server closed"):
        write(store, group, 1)
    write(store, group, 1)
    store.close()
    assert read(address)["request_id"].to_list() == ["warm", "a", "a"]


def test_a_server_that_cannot_be_reached_is_told_in_one_line_without_the_password(free_port: int) -> None:
    for where in (
        f"postgresql://me:s3cret@127.0.0.1:{free_port}/records",
        f"postgresql://me@127.0.0.1:{free_port}/records?password=s3cret",
        f"postgres://me:s3cret@x@127.0.0.1:{free_port}/records",
        f"postgres://me:x@s3cret@127.0.0.1:{free_port}/records",
        f"postgresql://me:1/s3cret@127.0.0.1:{free_port}/records",
        f"postgresql://me:s3cret/x@127.0.0.1:{free_port}/records",
        f"postgresql://me:s3cret?x@127.0.0.1:{free_port}/records",
        f"postgresql://me:a@127.0.0.1:{free_port}/records?nonsense=s3cret",
        "postgresql://me:x@127.0.0.1:s3cret/records",
    ):
        with pytest.raises(PipelineError) as reading:
            read(where)
        with pytest.raises(StoreError) as writing:
            database(where).open()
        for said in (str(reading.value), str(writing.value)):
            assert "s3cret" not in said
            assert "\n" not in said
            assert "postgresql://" in said


def test_a_database_where_nothing_was_recorded_says_so(address: str) -> None:
    with pytest.raises(PipelineError, match="no server has recorded there"):
        read(address)


def test_a_reader_who_may_read_the_predictions_alone_is_told_what_else_to_be_granted(server: Any, address: str) -> None:
    """As where a server of this release has made a table more beside those that somebody was let read."""
    role = f"reader_of_{database_of(address)}"
    store = RecordStore("postgresql", address, {}, "one")
    made = database(store)
    write(made, [entry("a")])
    made.close()
    server.psql(f"create role {role} login;")
    reader = replace(store, where=address.replace("//postgres:", f"//{role}:"))
    assert reader.where != address
    with psycopg.connect(address, autocommit=True) as owner:
        for given, missing in (
            ("mlops_predictions", "mlops_layouts, mlops_prediction_runs"),
            ("mlops_layouts", "mlops_prediction_runs"),
        ):
            owner.execute(f"GRANT SELECT ON {given} TO {role}")
            with pytest.raises(PipelineError) as told:
                read(reader)
            assert f"may not read {missing}: have their owner say GRANT SELECT ON {missing} TO that user" in str(told.value)
            assert "\n" not in str(told.value)
            assert role not in str(told.value)
        owner.execute(f"GRANT SELECT ON mlops_prediction_runs TO {role}")
    assert read(reader)["request_id"].to_list() == ["a"]


@on_a_loop
async def test_the_recorder_says_what_is_wrong_before_the_first_request(server: Any, address: str) -> None:
    elsewhere = address.replace("records", "nowhere")
    database = database_of(elsewhere)
    made = recorder(open_store(elsewhere, 0), loss_ms=0, max_bytes=1 << 20)
    await until(lambda: made.problem)
    assert database in made.problem
    await asyncio.to_thread(server.psql, f"create database {database};")
    await until(lambda: made.problem == "")
    await made.close()


def test_a_model_server_rides_out_a_database_that_is_killed(server: Any, address: str, registered: Project, tmp_path: Path) -> None:
    """Requests wait for the database up to their deadline and are then refused; none that was answered is missing after."""
    from pgserver import pg_ctl

    record, limits = {"mode": "durable", "uri": address}, {"deadline_ms": 1000}
    with serving(registered, tmp_path / "serve", record=record, limits=limits, log={"requests": "none"}) as model_server:
        with load(f"{model_server.url}/predict", {"records": [model_server.example]}) as seen:
            wait_for(lambda: len(seen.acknowledged) > 100, 120, "answers")
            pg_ctl(["-w", "stop", "-m", "immediate"], pgdata=server.pgdata, user=server.system_user)
            wait_for(lambda: 503 in seen.statuses(), 120, "a refusal")
            wait_for(lambda: not model_server.is_ready(), 120, "a server that says it is not ready")
            server.ensure_postgres_running()
            wait_for(model_server.is_ready, 120, "a server that is ready again")
            already = len(seen.acknowledged)
            wait_for(lambda: len(seen.acknowledged) > already + 100, 120, "answers again")
        assert seen.statuses() == {200, 503}
        assert not seen.broken
    with psycopg.connect(address) as connection:
        assert set(connection.execute("SELECT of FROM mlops_prediction_runs")) == {("small",)}
    answered = read(address).filter(pl.col("error") == "")["request_id"]
    assert set(seen.acknowledged) <= set(answered)
    assert answered.n_unique() == len(answered)
