"""A table is read by its name alone, whatever is in it; what cannot be a column is told in one line with file and column."""

from __future__ import annotations

import gzip
import re
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from pyarrow import feather, orc
from pyarrow import parquet as pq

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.monitoring.window import read_table
from mlops_pipeline.tables.source import read_file, torn_notes
from tests.conftest import REPOSITORY

NO_COLUMN: dict[str, Any] = {
    "list": pa.array([[1], [2]]),
    "struct": pa.array([{"x": 1}, {"x": 2}]),
    "map": pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
    "binary": pa.array([b"\xff", b"b"]),
    "large_binary": pa.array([b"\xff", b"b"], pa.large_binary()),
    "fixed_size_binary": pa.array([b"ab", b"cd"], pa.binary(2)),
    "binary_view": pa.array([b"ab", b"cd"], pa.binary_view()),
    "extension": pa.array([b"0" * 16, b"1" * 16], pa.uuid()),
}
COLUMN: dict[str, Any] = {
    "decimal": pa.array([1, 2], pa.decimal128(5, 2)),
    "a decimal of 256 bits": pa.array([1, 2], pa.decimal256(38, 2)),
    "time": pa.array([1, 2], pa.time32("s")),
    "null": pa.nulls(2),
    "half": pa.array([1.0, 2.0], pa.float16()),
    "dictionary": pa.array(["a", "b"]).dictionary_encode(),
    "view": pa.array(["a", "b"], pa.string_view()),
    "boolean": pa.array([True, False]),
    "moment": pa.array([1, 2], pa.timestamp("ns", "Europe/Berlin")),
}


def read(path: Path, used: Collection[str] | None = None) -> pl.DataFrame:
    return pl.concat([chunk.frame for chunk in read_file(path, Source(path=str(path)), 1, used)])


def told(path: Path, used: Collection[str] | None = None) -> str:
    with pytest.raises(PipelineError) as caught:
        read(path, used)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a.csv".ljust(257, b"\0") + b"ustar\x0000" + bytes(1000), "is an archive of tar: unpack it, and name one of its files"),
        (b"$FL2@(#) SPSS DATA FILE" + bytes(100), "is a file of SPSS: export it as CSV"),
        (b"<stata_dta><header><release>118</release>" + bytes(100), "is a file of Stata: export it as CSV"),
        (b"r\x02\x01\x00" + bytes(100), "is a file of Stata: export it as CSV"),
        (bytes(12) + b"\xc2\xea\x81\x60" + bytes(100), "is a file of SAS: export it as CSV"),
        (b"Obj\x01\x04\x16avro.schema\xc2\x01{}" + bytes(100), "is a file of Avro: store it as Parquet"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "is an archive of 7-Zip: unpack it, and name one of its files"),
        (bytes(8) + b"DUCK\x40" + bytes(100), "is a database of DuckDB: store its table as Parquet"),
        (b"FEA1" + bytes(100), "is a file of Feather, version 1: store it as Parquet"),
        (b"RDX3\nX\n" + bytes(100), "is a file of R: export it as CSV"),
        (b"\x80\x04\x95\x10" + bytes(100), "is a pickle, which could run anything: store its table as Parquet"),
    ],
)
def test_a_file_of_another_program_is_called_by_its_name_with_what_to_do(content: bytes, said: str, tmp_path: Path) -> None:
    for name, written in (("table", content), ("table.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(written)
        assert told(tmp_path / name) == f"cannot be read as a table: {said}"


@pytest.mark.parametrize("rows", [1, 5000])
def test_what_arrow_writes_beside_parquet_is_called_by_its_name(rows: int, tmp_path: Path) -> None:
    path, table = tmp_path / "table.csv", pa.table({"a": range(rows), "b": ["x"] * rows})
    feather.write_feather(table, path)
    assert told(path) == "cannot be read as a table: is an Arrow file (Feather): store it as Parquet"
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    assert told(path) == "cannot be read as a table: is a stream of Arrow's: store it as Parquet"
    for compression in ("uncompressed", "zstd"):
        orc.write_table(table, path, compression=compression)
        assert told(path) == "cannot be read as a table: is a file of ORC: store it as Parquet"


@pytest.mark.parametrize("name", ["ORC", "FEA1", "ARROW1", "Obj", "7z", "Rar!"])
def test_a_table_may_have_a_column_of_such_a_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"{name},b\n1,2\n")
    assert read(path).rows() == [("1", "2")]


def test_a_text_may_have_the_word_by_which_an_archive_of_tar_is_known_where_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,".ljust(256, "b") + ",ustar\n1,2,0.3\n")
    assert [chunk.frame.row(0) for chunk in read_file(path, Source(path=str(path)), 1)] == [("1", "2", "0.3")]


@pytest.mark.parametrize("name", ["rep[1].csv", "rep*.csv", "rep?.csv", "{rep,x}.csv"])
def test_a_name_is_no_pattern(name: str, tmp_path: Path) -> None:
    for other in ("rep1.csv", "rep2.csv", "rep.csv", "x.csv"):
        (tmp_path / other).write_text("a,b\n1,1\n")
    (tmp_path / name).write_text("a,b\n9,9\n")
    assert read(tmp_path / name).rows() == [("9", "9")]
    assert read_table(tmp_path / name).rows() == [(9, 9)]
    table = (tmp_path / name).with_suffix(".parquet")
    pq.write_table(pa.table({"a": [9]}), table)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "rep1.parquet")
    assert read(table).rows() == read_table(table).rows() == [(9,)]


def test_no_source_of_ours_reads_by_a_pattern() -> None:
    calls = re.compile(r"pl\.(?:read|scan)_(?:csv|parquet|ndjson|ipc)\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)")
    found = [(path.name, call) for path in (REPOSITORY / "src").rglob("*.py") for call in calls.findall(path.read_text())]
    assert len(found) > 10
    assert [each for each in found if "glob=False" not in each[1] and "io.BytesIO(" not in each[1]] == []


@pytest.mark.parametrize("before", ["", "\n", "\r\n\n", "\ufeff", "\ufeff\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_blank_lines_before_the_header_are_skipped_and_change_no_value(before: str, packed: bool, tmp_path: Path) -> None:
    content = f"{before}zip,b\n0200,1\n\n3\n0300,NA\n".encode()
    path = tmp_path / ("table.csv.gz" if packed else "table.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    chunks = list(read_file(path, Source(path=str(path)), 1))
    assert pl.concat([chunk.frame for chunk in chunks]).rows() == [("0200", "1"), ("0300", None)]
    assert [(broken.row, broken.content) for chunk in chunks for broken in chunk.broken] == [(2, "3")]


@pytest.mark.parametrize("first", ["   ", ",,", ' ," "'])
def test_a_first_line_that_names_no_column_is_told(first: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"{first}\na,b\n1,2\n")
    assert told(path) == "cannot be read as a table: its first line names no column: take it out, or write the names there"


def test_a_name_that_stands_twice_is_told_and_not_renamed(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("b,a,a,b\n1,2,3,4\n")
    assert told(path) == (
        "cannot be read as a table: column 'a' stands twice in the header: rename one, "
        "or write numbered: true under dataset.source, which calls the second a_2"
    )
    with pytest.raises(PipelineError, match="column 'a' stands twice"):
        read_table(path)
    table = tmp_path / "table.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 3, names=["x", "a", "a"]), table)
    assert told(table, used=["x"]) == "column 'a' stands twice: rename one"
    with pytest.raises(PipelineError, match=r"table\.parquet.*'a'"):
        read_table(table)


@pytest.mark.parametrize("kind", NO_COLUMN)
def test_a_parquet_column_of_lists_bytes_and_the_like_is_told_where_it_is_used(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"ok": [1, 2], "odd [x]": NO_COLUMN[kind]}), path)
    for used in (None, ["odd [x]"]):
        said = told(path, used)
        assert re.match(r"column 'odd \[x\]' holds \S.*, which is no number, text, time or truth value: take it out, or (store|give)", said)
    assert read(path, used=["ok"]).rows() == [(1,), (2,)]


@pytest.mark.parametrize(
    ("kind", "holds", "remedy"),
    [
        ("list", "list<element: int64>", "store one value a cell"),
        ("map", "map<string, int64 ('odd [x]')>", "store one value a cell"),
        ("struct", "struct<x: int64>", "give each of its fields a column of its own, as pyarrow's Table.flatten() does"),
        ("binary", "binary", "store it as text"),
    ],
)
def test_what_to_do_about_a_parquet_column_is_told_by_its_type(kind: str, holds: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = pa.table({"ok": [1, 2], "odd [x]": NO_COLUMN[kind]})
    pq.write_table(table, path)
    assert told(path) == f"column 'odd [x]' holds {holds}, which is no number, text, time or truth value: take it out, or {remedy}"
    for file in (path, tmp_path / "packed"):
        (tmp_path / "packed").write_bytes(gzip.compress(path.read_bytes()))
        assert torn_notes(file, ["ok"])[0].endswith(f": {remedy}")
    if kind == "struct":
        assert told(path, used=["odd [x].x"]) == told(path)
        pq.write_table(table.append_column("odd [x].x", pa.array([3, 4])), path)
        assert read(path, used=["ok", "odd [x].x"]).rows() == [(1, 3), (2, 4)]
        pq.write_table(table.flatten(), path)
        assert read(path).rows() == [(1, 1), (2, 2)]


def test_decimals_are_read_to_the_last_digit_or_told_that_they_are_too_long(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    longest = [Decimal("123456789012345678901234567890123456.78"), None, Decimal("-0.01")]
    for held in (pa.decimal128(38, 2), pa.decimal256(38, 2)):
        pq.write_table(pa.table({"n": [1, 2, 3], "d": pa.array(longest, held), "d2": pa.array(longest, held)}), path)
        assert read(path).rows() == list(zip((1, 2, 3), longest, longest, strict=True))
    pq.write_table(pa.table({"ok": [1, 2], "d": pa.array([1, 2], pa.decimal256(50, 2))}), path)
    assert told(path) == (
        "column 'd' holds decimal256(50, 2), which may be longer than the 38 digits that can be held here: "
        "take it out, or store it as double, or as a decimal of at most 38 digits"
    )
    assert read(path, used=["ok"]).rows() == [(1,), (2,)]
    assert torn_notes(path, ["ok"])[0].startswith(
        "column 'd' is left out: its numbers may be longer than the 38 digits that can be held here: store"
    )


def test_a_type_that_its_maker_alone_can_read_is_told_where_its_library_is_not_here(tmp_path: Path) -> None:
    """Periods of pandas are stored as whole numbers: a month would be read as 420."""
    path = tmp_path / "table.parquet"
    months = pa.field("month", pa.int64(), metadata={"ARROW:extension:name": "theirs.period", "ARROW:extension:metadata": "{}"})
    pq.write_table(pa.Table.from_arrays([pa.array([1, 2]), pa.array([420, 421])], schema=pa.schema([("ok", pa.int64()), months])), path)
    assert told(path) == (
        "column 'month' holds theirs.period, which is no number, text, time or truth value: take it out, or store it as one of them"
    )
    assert read(path, used=["ok"]).rows() == [(1,), (2,)]
    assert torn_notes(path, ["ok"]) == (
        "column 'month' is left out: its type is no number, text, time or truth value: store it as one of them",
    )


@pytest.mark.parametrize("kind", COLUMN)
def test_other_parquet_columns_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"ok": [1, 2], "c": COLUMN[kind]}), path)
    assert read(path).columns == ["ok", "c"]
