"""A query's rows as a source: read only, typed, asked again, and nothing secret told."""

from __future__ import annotations

import sqlite3
import traceback
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from mlops_pipeline.config.dataset import Source, given_of_source
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.config.tree import tree_of
from mlops_pipeline.errors import PipelineError, ServiceAway
from mlops_pipeline.pipeline.definition import STAGES
from mlops_pipeline.scaffold import starter
from mlops_pipeline.tables.database import queried, tables_of, take_snapshot
from tests.unit_tests.workshop import ingested, layout_in

QUERY = "SELECT id, price, city, CASE WHEN id % 2 THEN 'yes' ELSE 'no' END AS churned FROM sales ORDER BY id"


def with_sales(folder: Path, rows: int = 60) -> Source:
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE sales (id INTEGER, price, city TEXT, photo BLOB)")
        cities = ["Köln", "Gent", None]
        connection.executemany(
            "INSERT INTO sales VALUES (?, ?, ?, x'00')", [(n, n if n % 5 else n / 4, cities[n % 3]) for n in range(rows)]
        )
    return Source(sql=QUERY, uri="sqlite:///shop.db")


def test_a_querys_rows_have_the_types_of_all_their_values(tmp_path: Path) -> None:
    table = pl.concat(tables_of(with_sales(tmp_path), tmp_path))
    assert dict(table.schema) == {"id": pl.Int64, "price": pl.Float64, "city": pl.String, "churned": pl.String}
    assert table.row(0) == (0, 0.0, "Köln", "no")


def test_a_snapshot_changes_only_with_the_rows(tmp_path: Path) -> None:
    source, snapshot = with_sales(tmp_path), tmp_path / "data/raw/shop.snapshot.parquet"
    assert take_snapshot(source, tmp_path, snapshot) is True
    written = snapshot.stat()
    assert take_snapshot(source, tmp_path, snapshot) is False
    assert snapshot.stat() == written
    assert (snapshot.parent / ".gitignore").read_text() == "/shop.snapshot.parquet\n"
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("INSERT INTO sales VALUES (60, 1, 'Gent', NULL)")
    assert take_snapshot(source, tmp_path, snapshot) is True
    assert pl.read_parquet(snapshot, glob=False).height == 61


def test_init_describes_a_query_and_ingest_asks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_sales(tmp_path)
    monkeypatch.setenv("SHOP", "sqlite:///shop.db")
    given = given_of_source([f"sql={QUERY}", "uri=${SHOP}"], with_place=True)
    config = tmp_path / "shop.yaml"
    with queried(given, tmp_path) as table:
        config.write_text(starter(table, "churned", config, given=given).text)
    settings = load_settings(config)
    assert (settings.dataset.source.sql, settings.dataset.source.uri) == (QUERY, "${SHOP}")
    table, report, _ = ingested(tmp_path, settings)
    assert (report["rows_kept"], table.columns) == (60, ["id", "price", "city", "churned"])
    layout = layout_in(tmp_path, settings)
    assert STAGES[0].inputs(settings, layout) == [layout.snapshot]


WRONG = {
    "no such variable": ({"uri": "${NOT_SET_HERE}"}, "NOT_SET_HERE is not set in the environment"),
    "no such file": ({"uri": "sqlite:///nowhere.db"}, "dataset.source.uri = 'sqlite:///nowhere.db': the file does not exist"),
    "no file of SQLite's": ({"uri": "sqlite:///notes.txt"}, "dataset.source.uri = 'sqlite:///notes.txt': the file cannot be read"),
    "another database": ({"uri": "mysql://host/db"}, "names no database that is read"),
    "no such table": ({"sql": "SELECT * FROM absent"}, "no such table: absent: mend the query"),
    "it writes": ({"sql": "DELETE FROM sales RETURNING id"}, "readonly database: mend the query"),
    "no rows": ({"sql": "SELECT id FROM sales WHERE id < 0"}, "gives no row"),
    "bytes": ({"sql": "SELECT * FROM sales"}, "column 'photo' holds bytes"),
    "a name twice": ({"sql": "SELECT id, id FROM sales"}, "column 'id' stands twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_query_is_one_line(case: str, tmp_path: Path) -> None:
    changes, said = WRONG[case]
    source = with_sales(tmp_path).model_copy(update=changes)
    (tmp_path / "notes.txt").write_text("nothing of a database, and longer than the header of one" * 20)
    with pytest.raises(PipelineError) as caught:
        take_snapshot(source, tmp_path, tmp_path / "out.parquet")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


def test_a_password_in_a_file_is_refused_and_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PipelineError, match="put the address into an environment variable") as caught:
        tree_of(Source, {"sql": QUERY, "uri": "postgresql://me:swordfish@host/db"}, "c.yaml")
    assert "swordfish" not in str(caught.value)
    monkeypatch.setenv("SHOP", "postgresql://me:swordfish@127.0.0.1:1/db?password=swordfish")
    with pytest.raises(ServiceAway, match="PostgreSQL does not answer at its host and port") as caught:
        list(tables_of(Source(sql=QUERY, uri="${SHOP}"), tmp_path))
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:xq%rdfish@127.0.0.1:1/db",
        "postgresql://me:xq rdfish@127.0.0.1:1/db",
        "postgresql://me:xq/rdfish@127.0.0.1:1/db",
        "postgresql://me:xq@rdfish@127.0.0.1:1/db",
        "postgresql://me:xq:rdfish@127.0.0.1:1/db",
        "postgresql://me:xq#rdfish@127.0.0.1:1/db?xq=rdfish",
        "postgresql://me:xq\trdfish@127.0.0.1:xq/db?port=rdfish",
        "sqlite:///xq/rdfish.db",
        "mysql://me:xq-rdfish@host/db",
    ],
)
def test_an_address_that_cannot_be_read_is_blamed_by_its_variable_and_never_told(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP", address)
    with pytest.raises(PipelineError, match=r"^dataset\.source\.uri") as caught:
        list(tables_of(Source(sql=QUERY, uri="${SHOP}"), tmp_path))
    said = "".join(traceback.format_exception(caught.value))
    assert "rdfish" not in said
    assert "xq" not in str(caught.value)
    assert "percent-encode" in said or not set(address) & set("% ")


def test_a_place_is_one_of_three() -> None:
    for content in ({}, {"path": "a.csv", "sql": QUERY, "uri": "sqlite:///a"}, {"sql": QUERY}, {"path": "a.csv", "uri": "sqlite:///a"}):
        with pytest.raises(PipelineError, match=r"give one of 'path'|go together"):
            tree_of(Source, content, "c.yaml")
