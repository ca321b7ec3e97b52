"""What is recorded reads back equal, private columns never reach a file, and the recorder keeps what it promises about loss."""

from __future__ import annotations

import asyncio
import csv
import io
import math
import os
import secrets
import shutil
import signal
import sqlite3
import stat
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.cli import main
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.records import sqlite
from mlops_pipeline.records.encoding import NO_FORM, Columns, Row, encode, form_of, read_rows, recorded_columns
from mlops_pipeline.records.entry import WITHDRAWN, Entry, RecordLayout
from mlops_pipeline.records.process import open_store
from mlops_pipeline.records.reading import UNIT, batches, export, features_in, read, requests_of, sources
from mlops_pipeline.records.show import show
from mlops_pipeline.records.store import Database, Store, StoreError
from mlops_pipeline.records.writer import open_database
from mlops_pipeline.serving import record
from mlops_pipeline.serving.record import Recorder, RecordFull

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
BINARY = RecordLayout("a" * 64, "binary", ("size", "weight"), ("kind",), frozenset(), ("no", "yes"))
PRIVATE = replace(BINARY, numbers=("size", "income", "weight"), categories=("name", "kind"), private=frozenset({"income", "name"}))


def entry(request_id: str = "r", **changes: Any) -> Entry:
    """A request of one row that was answered at noon."""
    values: dict[str, Any] = {
        "request_id": request_id, "time": NOON, "latency_us": 1500, "model": "champion", "version": "3", "layout": BINARY, "rows": 1,
        "numbers": np.array([[1, 2]], np.float32), "categories": np.array([["x"]], object), "outputs": np.array([[0.25, 0.75]], np.float32),
    }  # fmt: skip
    return Entry(**{**values, **changes})


def group_of(entries: Sequence[Entry]) -> tuple[list[Row], dict[int, Columns]]:
    """Entries as the writer gets them."""
    forms = {id(one.layout): form_of(one.layout, number + 1) for number, one in enumerate(entries) if one.layout is not None}
    rows = b"".join(encode(one, forms[id(one.layout)] if one.layout is not None else NO_FORM) for one in entries)
    columns = {form.number: recorded_columns(form.layout) for form in forms.values() if form.layout is not None}
    return read_rows(len(entries), rows), columns


def database(where: Path | str, worker: int = 0) -> Database:
    return open_database(where, worker, secrets.token_hex(16))


def write(store: Database, entries: Sequence[Entry], first: int = 0) -> None:
    store.write(first, *group_of(entries))


def written(where: Path | str, entries: Sequence[Entry], worker: int = 0) -> None:
    store = database(where, worker)
    write(store, entries)
    store.close()


def test_a_word_that_is_no_utf_8_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "records", [entry()])
    config = tmp_path / "serving.yaml"
    config.write_text("models: {champion: ./model}\nrecord: {folder: records}\n")
    for words in (["\udcff"], ["--model", "a\udcff"]):
        with pytest.raises(SystemExit) as ended:
            main(["records", "show", *words, "--config", str(config)])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said == f"error: {words[-1]!r}: holds a byte that is no UTF-8: write it in UTF-8\n"


LONGEST_S = 300


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, with a bound on its time, so that a promise that is not kept fails instead of hanging."""

    @wraps(test)
    def bounded(**given: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**given), LONGEST_S))

    return bounded


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.002)


# ------------------------------------------------------------------------------------------------------- reading back

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
RESERVED = {"time", "row", "id", "model", "version", "error", "arm", "why"}
"""Names that the record takes for itself: a column called so is told by another test."""
clean = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
floats = st.floats(width=32, allow_nan=True, allow_infinity=True)

arms = st.just({}) | st.fixed_dictionaries({"arm": st.sampled_from(["champion", "challenger", "shadow", "fallback"]), "why": texts})


@st.composite
def layouts(draw: st.DrawFn) -> RecordLayout:
    names = draw(st.lists(clean.filter(lambda name: name and name not in RESERVED), max_size=5, unique=True))
    cut = draw(st.integers(0, len(names)))
    task, classes = draw(
        st.sampled_from([("binary", ("no", "yes")), ("binary", (False, True)), ("multiclass", (3, 5, 9)), ("regression", ())])
    )
    private = frozenset(name for name in names if draw(st.integers(0, 3)) == 0)
    return RecordLayout("b" * 64, task, tuple(names[:cut]), tuple(names[cut:]), private, classes)


@st.composite
def any_entry(draw: st.DrawFn, layout: RecordLayout) -> Entry:
    rows = draw(st.integers(1, 4))
    numbers = draw(st.lists(floats, min_size=rows * len(layout.numbers), max_size=rows * len(layout.numbers)))
    words = draw(st.lists(texts, min_size=rows * len(layout.categories), max_size=rows * len(layout.categories)))
    width = len(layout.classes)
    count = rows * (width or 1)
    outputs = draw(st.lists(st.floats(0, 1, width=32), min_size=count, max_size=count))
    categories = np.empty((rows, len(layout.categories)), object)
    categories[:] = np.array(words, object).reshape(categories.shape)
    return Entry(
        draw(clean), draw(st.floats(NOON - 2e5, NOON + 2e5)), draw(st.integers(0, 10**9)), draw(clean), draw(clean), layout, rows,
        np.array(numbers, np.float32).reshape(rows, -1) if layout.numbers else np.empty((rows, 0), np.float32),
        categories, np.array(outputs, np.float32).reshape((rows, width) if width else (rows,)),
        draw(st.none() | st.lists(texts, min_size=rows, max_size=rows)), draw(clean), **draw(arms),
    )  # fmt: skip


def expected(one: Entry) -> list[dict[str, Any]]:
    """The rows of an entry, told without any of the code under test."""
    assert one.layout is not None
    assert not any(held is None for held in (one.numbers, one.categories, one.outputs))
    found = []
    for row in range(one.rows):
        shown: dict[str, Any] = {
            "request_id": one.request_id, "row": row, "id": one.ids[row] if one.ids is not None else None,
            "model": one.model, "version": one.version, "latency_ms": one.latency_us / 1000, "error": one.error,
            "arm": one.arm, "why": one.why,
        }  # fmt: skip
        for names, values in ((one.layout.numbers, one.numbers[row]), (one.layout.categories, one.categories[row])):
            for name, value in zip(names, values, strict=True):
                if name not in one.layout.private:
                    shown[name] = None if value == MISSING or (isinstance(value, np.float32) and np.isnan(value)) else value
        if one.layout.classes:
            shown["prediction"] = one.layout.classes[int(one.outputs[row].argmax())]
            shown |= {f"probability_{name}": value for name, value in zip(one.layout.classes, one.outputs[row], strict=True)}
        else:
            shown["prediction"] = one.outputs[row]
        found.append(shown)
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_written_reads_back_equal(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    entries = data.draw(st.lists(any_entry(layout), min_size=1, max_size=6))
    with tempfile.TemporaryDirectory() as name:
        written(Path(name), entries)
        table = read(name, shadows=True)
    ordered = sorted(entries, key=lambda one: int(one.time // 86400))
    ordered.sort(key=lambda one: round(one.time * 1e6))
    wanted = [row for one in ordered for row in expected(one)]
    assert table.height == len(wanted)
    moments = [round(one.time * 1e6) for one in ordered for _ in range(one.rows)]
    assert table["time"].cast(pl.Int64).to_list() == moments
    for found, row in zip(table.drop("time").rows(named=True), wanted, strict=True):
        own = [name for name in row if name in ("time", "row", "id", "model", "version", "error", "prediction")]
        assert set(found) >= set(own)
        assert {key: found[key] for key in row} == row
        assert not [name for name in found if name.removeprefix("feature_") in layout.private and name not in row]


def test_what_a_challenger_would_have_said_is_shown_beside_the_answer_and_counts_as_none(tmp_path: Path) -> None:
    private = replace(BINARY, raw=(("when", "text"), ("size", "number")))
    raw: dict[str, Any] = {"raw_numbers": np.array([[1.0]]), "raw_texts": np.array([["noon"]], object), "layout": private}
    written(
        tmp_path,
        [
            entry("one", arm="champion", unit="0a1b"),
            entry("one", arm="shadow", unit="0a1b", version="4", outputs=np.array([[0.9, 0.1]], np.float32), **raw),
            entry("two", time=NOON + 1, arm="fallback", why="version 4: not_finite", key_name="shop", **raw),
            entry(
                "three", time=NOON + 2, rows=0, numbers=None, categories=None, outputs=None, error="deadline", arm="challenger", layout=None
            ),
            entry("four", time=NOON + 3),
        ],
    )
    everything = read(tmp_path, shadows=True)
    assert everything["arm"].to_list() == ["champion", "shadow", "fallback", "challenger", ""]
    assert everything["why"][2] == "version 4: not_finite"
    given = pl.concat(list(batches(tmp_path)))
    assert read(tmp_path).equals(given)
    assert read(tmp_path, limit=2).equals(given.tail(2))
    assert (export(tmp_path, tmp_path / "a.csv"), export(tmp_path, tmp_path / "b.csv", shadows=True)) == (4, 5)
    assert given["arm"].to_list() == ["champion", "fallback", "challenger", ""]
    assert pl.concat(list(batches(tmp_path, shadows=True))).equals(everything)
    of_release = pl.concat(list(batches(tmp_path, shadows=True, units=True)))
    assert of_release[UNIT].to_list() == ["0a1b", "0a1b", "", "", ""]
    assert of_release.drop(UNIT).equals(everything)
    assert [each.request_id for each in requests_of(tmp_path)] == ["one", "two", "three", "four"]
    assert sum(rows.height for rows, _ in sources(tmp_path)) == 4
    shown = shown_at(120, show(tmp_path, request="on"))
    assert [line.split()[1:] for line in shown.splitlines()[2:]] == [
        ["one", "champion", "3", "champion", "1.50", "yes", "0.7500"],
        ["one", "champion", "4", "shadow", "1.50", "no", "0.9000"],
    ]
    assert "fallback (version 4: not_finite)" in shown_at(160, show(tmp_path))


def shown_at(width: int, what: Any) -> str:
    from rich.console import Console

    console = Console(width=width, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text()


def test_a_thousand_rows_come_back_as_float32_bit_by_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    numbers, outputs = rng.normal(size=(1000, 2)).astype(np.float32), rng.random((1000, 2)).astype(np.float32)
    numbers[::7, 1] = np.nan
    kinds = np.array([["é\U0001f600", MISSING][k % 2] for k in range(1000)], object).reshape(-1, 1)
    ids = [f"row {k}" for k in range(1000)]
    transposed = np.asfortranarray(numbers)
    written(tmp_path, [entry(rows=1000, numbers=transposed, categories=kinds, outputs=outputs, ids=ids), entry("later", time=NOON + 1)])
    table = read(tmp_path)
    assert table.height == 1001
    first = table.head(1000)
    assert np.array_equal(first["size"].to_numpy(), numbers[:, 0])
    assert first["weight"].null_count() == len(range(0, 1000, 7))
    assert first["weight"].dtype == pl.Float32
    assert first["kind"].to_list() == [None if k == MISSING else k for k in kinds[:, 0]]
    assert first["row"].to_list() == list(range(1000))
    assert first["id"].to_list() == ids
    assert np.array_equal(first["probability_yes"].to_numpy(), outputs[:, 1])
    assert first["prediction"].to_list() == [("no", "yes")[int(k)] for k in outputs.argmax(axis=1)]


@pytest.mark.parametrize("form", ["numbers", "categories"])
def test_a_private_value_is_nowhere_in_the_files(tmp_path: Path, form: str) -> None:
    secret = np.float32(123456.79)
    layout = PRIVATE if form == "numbers" else replace(PRIVATE, numbers=("size", "weight"))
    numbers = [[1, secret, 2]] if form == "numbers" else [[1, 2]]
    one = entry(layout=layout, numbers=np.array(numbers, np.float32), categories=np.array([["Ada Lovelace", "x"]], object))
    broken = entry("broken", layout=layout, numbers=np.array([[secret]], np.float32), categories=np.array([["Ada Lovelace"]], object))
    store = database(tmp_path, 0)
    write(store, [one, broken], 0)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    store.close()
    kept += b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert np.array([1, 2], "<f4").tobytes() in kept
    for value in (secret.tobytes(), secret.tobytes()[::-1], b"123456", b"Lovelace"):
        assert value not in kept
    table = read(tmp_path)
    assert not {"income", "name"} & set(table.columns)
    assert table.select("size", "weight", "kind").rows() == [(1, 2, "x"), (None, None, None)]
    assert "features not recorded" in table["error"][1]


@pytest.mark.parametrize(
    ("kind", "value", "held", "said"),
    [
        ("integer", 2**24 + 1, pl.Float64, [7.0, 2.0**24 + 1]),
        ("number", 0.1, pl.Float64, [7.0, 0.1]),
        ("boolean", 1, pl.Float32, [7.0, 1.0]),
        ("category", "x", pl.String, ["7", "x"]),
    ],
)
def test_a_number_stays_one_where_one_version_computes_with_it_and_another_from_it(
    tmp_path: Path, kind: str, value: Any, held: Any, said: list[Any]
) -> None:
    first = replace(BINARY, numbers=("hour",), categories=())
    second = replace(BINARY, key="b" * 64, numbers=("size", "weight"), raw=(("hour", kind),))
    raw = {"raw_texts": np.array([[value]], object)} if kind == "category" else {"raw_numbers": np.array([[value]], np.float64)}
    one = entry("one", layout=first, numbers=np.array([[7]], np.float32), categories=np.empty((1, 0), object))
    written(tmp_path, [one, entry("two", version="4", layout=second, **raw)])
    column = read(tmp_path)["hour"]
    assert (column.dtype, column.to_list()) == (held, said)


def test_what_no_store_can_hold_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = np.array([["\ud800"]], object)
    written(
        tmp_path,
        [entry("good"), entry("nul\0\ud800"), entry("lone", categories=bad), entry("not text", categories=np.array([[7]], object))],
    )
    table = read(tmp_path)
    assert table["request_id"].to_list() == ["good", "nul\0?", "lone", "not text"]
    assert table["kind"].to_list() == ["x", "x", None, "7"]


def test_refused_requests_are_rows_without_features(tmp_path: Path) -> None:
    written(
        tmp_path,
        [entry(rows=0, numbers=None, categories=None, outputs=None, error="size: not a number"), entry("x", layout=None, error="no model")],
    )
    table = read(tmp_path)
    assert table["error"].to_list() == ["size: not a number", "no model"]
    assert table["row"].to_list() == table["prediction"].to_list() == [None, None]


def test_versions_with_other_columns_are_joined(tmp_path: Path) -> None:
    regression = RecordLayout("c" * 64, "regression", ("weight", "time", "model"), (), frozenset(), ())
    other = entry(
        "other", layout=regression, numbers=np.array([[7, 8, 9]], np.float32), categories=None, outputs=np.array([2.5], np.float32)
    )
    written(tmp_path, [entry("one"), other])
    table = read(tmp_path)
    assert table.select(
        "request_id", "size", "weight", "kind", "prediction", "probability_yes", "feature_time", "feature_model"
    ).rows() == [
        ("one", 1, 2, "x", "yes", 0.75, None, None),
        ("other", None, 7, None, "2.5", None, 8, 9),
    ]
    assert read(tmp_path, model="champion", version="4").height == 0


def test_no_name_of_a_feature_is_taken_by_the_reader(tmp_path: Path) -> None:
    """A name that the reader had used for a column of its own."""
    layout = replace(BINARY, numbers=("_place", "of"), categories=("kind",))
    written(tmp_path, [entry(layout=layout)])
    assert read(tmp_path).select("_place", "of", "kind").rows() == [(1, 2, "x")]


def test_a_feature_is_read_back_by_its_owners_name_whatever_that_is(tmp_path: Path) -> None:
    """One of ours, one that begins as ours do, and one that another would be given in a table."""
    names = ("time", "feature_time", "feature_feature_time", "probability_of_rain", "probability_yes", "feature_probability_yes", "id")
    layout = replace(BINARY, numbers=names, categories=("model",))
    numbers = np.arange(len(names), dtype=np.float32)[None]
    written(tmp_path, [entry(layout=layout, numbers=numbers, categories=np.array([["golf"]], object))])
    table = read(tmp_path)
    assert table.select("model", "prediction", "probability_yes").row(0) == ("champion", "yes", 0.75)
    found = features_in(table, [*names, "model", "version"])
    assert found.columns == [*names, "model"]
    assert found.row(0) == (*range(len(names)), "golf")
    assert export(tmp_path, tmp_path / "out.parquet") == 1
    assert features_in(pl.read_parquet(tmp_path / "out.parquet"), names).row(0) == tuple(range(len(names)))


def test_the_probability_of_the_positive_class_alone_is_enough(tmp_path: Path) -> None:
    written(tmp_path, [entry(outputs=np.array([0.25], np.float32))])
    assert read(tmp_path).select("prediction", "probability_no", "probability_yes").row(0) == ("no", 0.75, 0.25)


def test_filters_and_limit_pick_the_same_rows_from_any_number_of_files(tmp_path: Path) -> None:
    for worker in (0, 1, 10):
        times = [NOON + 3600 * k + worker for k in range(0, 60, 6)]
        written(tmp_path, [entry(f"{worker}-{k}", time=time, version=str(k % 2)) for k, time in enumerate(times)], worker)
    assert len(list(tmp_path.glob("*.sqlite"))) == 9
    everything = read(tmp_path)
    assert everything.height == 30
    assert everything["time"].is_sorted()
    assert read(tmp_path, limit=7)["request_id"].to_list() == everything.tail(7)["request_id"].to_list()
    assert read(tmp_path, limit=1000).equals(everything)
    since, until_ = datetime(2026, 11, 25, 6), datetime(2026, 11, 26, 6, 0, 10, tzinfo=UTC)
    picked = read(tmp_path, since=since, until=until_, version="1")
    inside = everything.filter((pl.col("time") >= since.replace(tzinfo=UTC)) & (pl.col("time") < until_) & (pl.col("version") == "1"))
    assert picked.equals(inside)
    assert 0 < inside.height < 15
    with pytest.raises(PipelineError, match="limit 0"):
        read(tmp_path, limit=0)


def test_an_export_holds_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_pipeline.records.reading.CHUNK_ROWS", 7)
    folder = tmp_path / "records"
    written(folder, [entry(f"r{k}", time=NOON + k, layout=BINARY if k % 3 else PRIVATE_SAME) for k in range(50)])
    assert export(folder, tmp_path / "out.parquet") == 50
    assert pl.read_parquet(tmp_path / "out.parquet").equals(read(folder))
    assert export(folder, tmp_path / "out.csv", until=datetime(2026, 11, 24, 12, 0, 9, 500, tzinfo=UTC)) == 10
    with (tmp_path / "out.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["request_id"] for row in rows] == [f"r{k}" for k in range(10)]
    assert {row["prediction"] for row in rows} == {"yes"}
    assert export(folder, tmp_path / "none.parquet", model="nobody") == 0
    assert pl.read_parquet(tmp_path / "none.parquet").height == 0
    with pytest.raises(PipelineError, match=r"out.txt.*\.csv or \.parquet"):
        export(folder, tmp_path / "out.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.parquet", "out.csv", "out.parquet", "records"]


def test_a_category_that_became_a_number_reads_as_it_was_recorded(tmp_path: Path) -> None:
    later = RecordLayout("b" * 64, "binary", ("size", "weight", "kind"), (), frozenset(), ("no", "yes"))
    numbers = np.array([[1, 2, value] for value in (7, -3, 123456, 0.5, np.nan, np.inf)], np.float32)
    outputs = np.array([[0.25, 0.75]] * len(numbers), np.float32)
    before = entry(categories=np.array([["007"]], object))
    after = entry(time=NOON + 1, layout=later, rows=len(numbers), numbers=numbers, categories=None, outputs=outputs)
    written(tmp_path, [before, after])
    assert read(tmp_path)["kind"].to_list() == ["007", "7", "-3", "123456", "0.5", None, "inf"]


def test_a_csv_export_holds_no_cell_that_a_spreadsheet_runs_unless_it_is_raw(tmp_path: Path) -> None:
    numbers, outputs = np.array([[1, -2]] * 2, np.float32), np.array([[0.25, 0.75]] * 2, np.float32)
    categories = np.array([["+A1"], ["-2.5"]], dtype=object)
    two = entry("=1+1", rows=2, numbers=numbers, categories=categories, outputs=outputs, ids=["@SUM(1)", "-5"])
    written(tmp_path / "records", [two])
    notes: list[str] = []
    for raw, said in ((False, ["'=1+1", "'@SUM(1)", "'+A1"]), (True, ["=1+1", "@SUM(1)", "+A1"])):
        assert export(tmp_path / "records", tmp_path / "out.csv", raw=raw, notes=notes) == 2
        rows = pl.read_csv(tmp_path / "out.csv", infer_schema=False)
        assert [rows[name][0] for name in ("request_id", "id", "kind")] == said
        assert rows["id"][1] == "-5", "a number stays one"
        assert (rows["kind"][1], rows["weight"][1]) == ("-2.5", "-2.0")
    assert notes == ["4 cells that a spreadsheet would run have an apostrophe before that: --raw leaves them as they are"]


PRIVATE_SAME = replace(BINARY, private=frozenset({"kind"}))


def test_the_terminal_shows_the_newest_rows_and_no_control_codes(tmp_path: Path) -> None:
    from rich.console import Console

    written(tmp_path, [entry(f"r{k}[red]\x1b[2J", time=NOON + k) for k in range(30)])
    console = Console(width=200, record=True, file=(tmp_path / "shown").open("w"))
    console.print(show(tmp_path, limit=3))
    text = console.export_text()
    assert [line.split()[1][:4] for line in text.splitlines() if "champion" in line] == ["r27[", "r28[", "r29["]
    assert "\x1b" not in text
    assert "0.7500" in text


def test_the_terminal_never_loads_or_draws_more_than_it_shows(tmp_path: Path) -> None:
    """It ran for ten minutes on two dozen requests of 7.9 MB."""
    from rich.console import Console

    for number in range(8):
        long = chr(ord("a") + number) * 3_900_000
        categories = np.array([[long]], object)
        written(tmp_path, [entry(f"id{number}", time=NOON + 2 * number, ids=[long], categories=categories)], worker=number)
    many = 1000
    features = {"numbers": np.ones((many, 2), np.float32), "categories": np.array([["x"]] * many, object)}
    rows = entry("many", time=NOON + 1, rows=many, outputs=np.array([[0.5, 0.5]] * many, np.float32), ids=["i" * 3000] * many, **features)
    written(tmp_path, [rows, entry("e", error="E" * 5000)], worker=9)
    console = Console(width=150, record=True, file=(tmp_path / "shown").open("w"))
    tracemalloc.start()
    console.print(show(tmp_path, limit=20))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    lines = console.export_text().splitlines()
    assert most < 30_000_000, "one request's record at a time"
    assert sum("not shown, its record has more than 4 MB" in line for line in lines) == 7
    assert sum(line.strip().startswith("12:00:01") for line in lines) == 13
    assert len(lines) < 150


def shown(folder: Path, width: int) -> list[str]:
    """What `mlops records show` prints on a terminal of this width."""
    return [line.rstrip() for line in shown_at(width, show(folder)).splitlines()]


def test_a_narrow_terminal_shows_every_figure_whole(tmp_path: Path) -> None:
    request, error = str(uuid.UUID(int=7**40)), "missing_column (row 0, column 'kind')"
    refused = entry(request, time=NOON + 1, rows=0, numbers=None, categories=None, outputs=None, error=error)
    written(tmp_path, [entry(request), refused])
    assert shown(tmp_path, 80) == [
        "2026-11-24 (UTC)",
        "time          request    model         ms  prediction or error",
        f"12:00:00.000  {request[:8]}…  champion 3  1.50  yes  0.7500",
        f"12:00:01.000  {request[:8]}…  champion 3  1.50  missing_column (row 0, column",
        " " * 43 + "'kind')",
    ]
    assert [line for line in shown(tmp_path, 120) if line.endswith(f"  {request}  champion 3  1.50  {error}")]
    two = {"rows": 2, "numbers": np.ones((2, 2)), "categories": np.array([["x"], ["x"]], object), "outputs": np.array([[0, 1], [1, 0.0]])}
    written(tmp_path, [entry("two", time=NOON + 86400, ids=["a", "b"], **two)], worker=1)
    assert [line.split() for line in shown(tmp_path, 80) if "two" in line] == [
        ["11-25", "12:00:00.000", "two", "0", "a", "champion", "3", "1.50", "yes", "1.0000"],
        ["11-25", "12:00:00.000", "two", "1", "b", "champion", "3", "1.50", "no", "1.0000"],
    ]


def test_ids_that_begin_alike_are_told_apart_on_a_narrow_terminal(tmp_path: Path) -> None:
    written(tmp_path, [entry(f"6b0d2c0d9f4cefadd4{number}", time=NOON + number) for number in (2, 3, 17)])
    lines = shown(tmp_path, 80)[2:]
    assert [line.split()[1] for line in lines] == ["6b0d2c0d9f4cefadd42", "6b0d2c0d9f4cefadd43", "6b0d2c0d9f4cefadd417"]
    assert all(line.endswith("yes  0.7500") for line in lines)


def test_a_moment_is_asked_for_as_it_is_written_in_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, [entry("before", time=NOON - 1), entry("noon"), entry("after", time=NOON + 60)])
    config = tmp_path / "serving.yaml"
    config.write_text("models: {champion: ./model}\nrecord: {folder: .}\n", encoding="utf-8")

    def asked(*options: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["records", "show", "--config", str(config), *options])
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err  # type: ignore[return-value]

    code, out, err = asked("--since", "2026-11-24T13:00+01:00", "--until", "2026-11-24T12:01Z")
    assert (code, err) == (0, "")
    assert [name for name in ("before", "noon", "after") if name in out] == ["noon"]
    code, out, err = asked("--until", "noon")
    assert (code, out) == (2, "")
    assert err.startswith("error: --until noon: is no moment: write a date, 2013-10-01, or a moment")


def test_no_records_are_told_in_words(tmp_path: Path) -> None:
    assert shown(tmp_path, 80) == ["no records"]


def test_damage_is_told_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    with pytest.raises(PipelineError, match="no such folder"):
        read(folder)
    written(
        folder, [entry(f"r{k}", numbers=None, rows=1000, categories=np.full((1000, 1), "k" * 50, object), outputs=None) for k in range(50)]
    )
    (path,) = folder.glob("*.sqlite")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no database at all" * 100, whole[:8192] + b"\xff" * (len(whole) - 8192)):
        path.write_bytes(content)
        with pytest.raises(PipelineError) as caught:
            read(folder)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(PipelineError):
            export(folder, tmp_path / "out.parquet")
        assert not list(tmp_path.glob("*out.parquet*"))
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE predictions (other TEXT)")
    with pytest.raises(PipelineError, match="holds no records"):
        read(folder)


def test_a_file_whose_server_was_killed_while_it_made_it_is_empty_and_is_made_complete(tmp_path: Path) -> None:
    path = tmp_path / "2026-11-24.w0.sqlite"
    path.write_bytes(b"")
    assert read(tmp_path).height == 0
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert read(tmp_path).height == 0
    written(tmp_path, [entry()])
    assert read(tmp_path).height == 1


def test_a_reader_reads_while_the_server_writes_and_leaves_its_files_alone(tmp_path: Path) -> None:
    store = database(tmp_path, 0)
    for number in range(3):
        write(store, [entry(str(number))], number)
        assert read(tmp_path).height == number + 1
    store.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".sqlite"]


# ------------------------------------------------------------------------------------------------------------- the store


def test_a_group_that_comes_again_is_stored_once_and_equal_requests_are_all_stored(tmp_path: Path) -> None:
    store = database(tmp_path, 0)
    group = [entry("same"), entry("same", time=NOON + 86400), entry("same")]
    write(store, group, 0)
    write(store, group, 0)
    write(store, group, 3)
    store.close()
    again = database(tmp_path, 0)  # the same worker after a restart counts from 0 again
    write(again, group)
    again.close()
    assert read(tmp_path).height == 9
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["2026-11-24.w0.sqlite", "2026-11-25.w0.sqlite"]


def test_a_file_that_is_taken_away_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "SAME_FILE_S", 0)
    store = database(tmp_path / "records", 0)
    write(store, [entry("one")], 0)
    shutil.rmtree(tmp_path / "records")
    write(store, [entry("two")], 1)
    store.close()
    assert read(tmp_path / "records")["request_id"].to_list() == ["two"]


def test_files_of_another_version_are_not_written_to(tmp_path: Path) -> None:
    written(tmp_path, [entry()])
    (path,) = tmp_path.iterdir()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match=r"version 9.*move the file away"):
        written(tmp_path, [entry()])
    with pytest.raises(PipelineError, match="version"):
        read(tmp_path)


def test_a_file_says_what_it_is_and_is_synchronous(tmp_path: Path) -> None:
    store = database(tmp_path, 3)
    write(store, [entry()], 0)
    (path,) = tmp_path.glob("*.w3.sqlite")
    connection = store._connection  # type: ignore[attr-defined]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    store.close()
    with sqlite3.connect(path) as plain:
        assert plain.execute("SELECT request_id, model, version, rows, latency_us, time FROM predictions").fetchall() == [
            ("r", "champion", "3", 1, 1500, NOON)
        ]


def test_an_address_that_no_store_answers_to_is_refused_without_its_password() -> None:
    with pytest.raises(PipelineError, match=r"^record\.uri = mysql://…: no store here answers to it: .*postgresql://") as caught:
        open_store("mysql://me:secret@host/db", 0)
    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- the recorder


class Gate:
    """A store that commits a group when its gate is opened, and says what the test makes it say."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.is_open = is_open
        self.groups: list[tuple[int, list[str]]] = []
        self.sent: list[tuple[int, list[str]]] = []
        self.layouts: dict[int, Columns] = {}
        self.finished = self.killed = False

    def start(self, loop: asyncio.AbstractEventLoop, heard: Callable[[int, str], None], ended: Callable[[], None]) -> None:
        self.loop, self.heard, self.ended = loop, heard, ended

    def layout(self, number: int, columns: Columns) -> None:
        self.layouts[number] = columns

    def send(self, first: int, rows: Sequence[bytes]) -> None:
        assert self.groups == self.sent, "one group at a time"
        self.sent.append((first, [row[1] for row in read_rows(len(rows), b"".join(rows))]))
        if self.is_open:
            self.loop.call_soon(self.commit)

    def commit(self) -> None:
        self.groups.append(self.sent[-1])
        self.heard(self.sent[-1][0] + len(self.sent[-1][1]), "")

    def open(self) -> None:
        self.is_open = True
        if self.groups != self.sent:
            self.commit()

    def finish(self) -> None:
        assert self.groups == self.sent
        self.finished = True
        self.loop.call_soon(self.ended)

    def kill(self) -> None:
        self.killed = True


def recorder(store: Store, **changes: Any) -> Recorder:
    made = Recorder(store, asyncio.get_running_loop(), **{"durable": True, "loss_ms": 100, "max_bytes": 1 << 24, **changes})
    made.start()
    return made


@on_a_loop
async def test_durable_answers_wait_for_their_own_group_and_groups_gather_during_a_commit() -> None:
    store = Gate()
    made = recorder(store)
    first = [made.add(entry("0")), made.add(entry("1"))]
    assert first[0] is first[1] is not None
    await until(lambda: len(store.sent) == 1)
    second = [made.add(entry(str(number))) for number in range(2, 50)]
    assert len(set(second)) == 1
    assert second[0] is not first[0]
    assert made.pending == 50
    assert not first[0].done()
    store.open()
    await asyncio.gather(*{*first, *second})  # type: ignore[arg-type]
    assert [(begin, len(ids)) for begin, ids in store.groups] == [(0, 2), (2, 48)]
    assert (made.pending, made.written) == (0, 50)
    await made.close()
    assert store.finished
    with pytest.raises(RecordFull, match="stopping"):
        made.add(entry())


@on_a_loop
async def test_what_was_answered_in_the_end_takes_the_place_of_what_waits_and_follows_what_is_gone(tmp_path: Path) -> None:
    nothing = {"rows": 0, "numbers": None, "categories": None, "outputs": None}
    written(tmp_path, [entry("a"), entry("b"), entry("a", time=NOON + 9), entry("a", error=WITHDRAWN, **nothing)])
    told = [(row["request_id"], row["prediction"], row["error"]) for row in read(tmp_path).iter_rows(named=True)]
    assert told == [("b", "yes", ""), ("a", None, WITHDRAWN), ("a", "yes", "")]
    before = read(tmp_path, until=datetime.fromtimestamp(NOON + 9, UTC), model="champion")
    assert before["prediction"].to_list() == ["yes", None]
    assert show(tmp_path, limit=9).table["request_id"].to_list() == ["b", "a", "a"]
    store = Gate()
    made = recorder(store)
    made.add(entry("gone"))
    gone = made.last
    await until(lambda: len(store.sent) == 1)
    made.add(entry("kept"))
    made.add(entry("predicted"))
    assert made.replace(made.last, entry("refused", error="deadline", **nothing))
    assert not made.replace(gone, entry("refused", error="deadline", **nothing))
    assert made.pending == 3
    store.open()
    await made.close()
    assert [names for _, names in store.groups] == [["gone"], ["kept", "refused"]]
    assert made._held == 0


@on_a_loop
async def test_relaxed_answers_go_out_at_once_until_the_oldest_is_older_than_the_bound() -> None:
    store = Gate()
    made = recorder(store, durable=False, loss_ms=1000)
    before = time.monotonic()
    assert made.add(entry("0")) is None
    added = time.monotonic()
    await until(lambda: len(store.sent) == 1)  # within half of the bound, without another answer
    free = 0
    while True:
        now = time.monotonic()
        held = made.add(entry("more"))
        if held is not None:
            break
        assert now - added <= 1
        free += 1
        await asyncio.sleep(0.001)
    assert time.monotonic() - before > 1
    assert free
    await asyncio.sleep(0)
    assert not held.done()
    store.open()
    await held
    assert sum(len(ids) for _, ids in store.groups) >= free + 2
    await until(lambda: made.pending == 0)
    assert made.add(entry("again")) is None
    await made.close()
    assert store.groups[-1][1] == ["again"]


@on_a_loop
async def test_relaxed_writes_early_when_much_is_pending() -> None:
    store = Gate()
    store.open()
    made = recorder(store, durable=False, loss_ms=3_600_000)
    for number in range(record.EARLY_ENTRIES):
        assert made.add(entry(str(number))) is None
    await until(lambda: made.written == record.EARLY_ENTRIES)
    big = np.ones((record.EARLY_BYTES // 8, 2), np.float32)
    made.add(entry("big", rows=len(big), numbers=big, categories=None, outputs=None))
    await until(lambda: made.written == record.EARLY_ENTRIES + 1)
    made.add(entry("last"))
    await made.close()
    assert store.groups[-1][1] == ["last"]


@on_a_loop
async def test_groups_are_capped_and_nothing_is_lost_or_doubled() -> None:
    store = Gate()
    made = recorder(store, max_bytes=1 << 30)
    waiting = {made.add(entry(str(number))) for number in range(3 * record.GROUP_ENTRIES + 5)}
    store.open()
    await asyncio.gather(*waiting)  # type: ignore[arg-type]
    await made.close()
    assert [len(ids) for _, ids in store.groups] == [
        record.EARLY_ENTRIES,
        record.GROUP_ENTRIES,
        record.GROUP_ENTRIES,
        record.GROUP_ENTRIES - 495,
    ]
    assert [begin for begin, _ in store.groups] == [0, *(record.EARLY_ENTRIES + k * record.GROUP_ENTRIES for k in range(3))]
    assert [int(one) for _, ids in store.groups for one in ids] == list(range(3 * record.GROUP_ENTRIES + 5))


NOTHING: dict[str, Any] = {"numbers": None, "categories": None, "outputs": None}
FILLING: dict[str, dict[str, Any]] = {
    "entries": {},
    "numbers": {"rows": 1000, **NOTHING, "numbers": np.zeros((1000, 2), np.float32)},
    "outputs": {"rows": 1000, **NOTHING, "outputs": np.zeros((1000, 2), np.float32)},
    "categories": {"categories": np.array([["k" * 8000]], object)},
    "ids": {"ids": ["i" * 8000]},
    "error": {"error": "e" * 8000},
    "request_id": {"request_id": "r" * 8000},
}


@pytest.mark.parametrize("what", FILLING)
@on_a_loop
async def test_memory_is_bounded_whatever_fills_it(what: str) -> None:
    store = Gate()
    made = recorder(store, max_bytes=100_000)
    taken = 0
    with pytest.raises(RecordFull):
        for taken in range(1000):  # noqa: B007
            made.add(entry(**FILLING[what]))
    assert taken == made.pending
    assert (taken == 12) if FILLING[what] else (taken > 300)
    store.open()
    await until(lambda: made.pending == 0)
    assert made.add(entry()) is not None
    await made.close()
    assert made.written == taken + 1


@on_a_loop
async def test_one_client_that_goes_away_does_not_take_the_others_along() -> None:
    store = Gate()
    made = recorder(store)

    async def answer(name: str) -> str:
        await asyncio.shield(made.add(entry(name)))  # type: ignore[arg-type]
        return name

    gone, stays = asyncio.create_task(answer("gone")), asyncio.create_task(answer("stays"))
    await until(lambda: made.pending == 2)
    gone.cancel()
    store.open()
    assert await stays == "stays"
    careless = made.add(entry("careless"))
    assert careless is not None
    careless.cancel()
    await until(lambda: made.pending == 0)
    await made.close()
    assert [one for _, ids in store.groups for one in ids] == ["gone", "stays", "careless"]


@on_a_loop
async def test_a_failing_store_is_told_and_nothing_is_dropped() -> None:
    store = Gate()
    made = recorder(store, max_bytes=20_000)
    waiting = made.add(entry("0"))
    assert waiting is not None
    await until(lambda: store.sent)
    store.heard(0, "the disk is full")
    assert made.problem == "the disk is full"
    with pytest.raises(RecordFull, match="the disk is full"):
        for number in range(1, 1000):
            made.add(entry(str(number)))
    held = made.pending
    assert not waiting.done()
    store.open()
    await waiting
    await until(lambda: made.pending == 0)
    assert made.problem == ""
    await made.close()
    assert [one for _, ids in store.groups for one in ids] == [str(number) for number in range(held)]


@on_a_loop
async def test_closing_on_a_store_that_stays_away_ends_and_says_what_is_lost() -> None:
    store = Gate()
    made = recorder(store)
    store.heard(0, "unreachable")
    waiting = [made.add(entry(str(number))) for number in range(3)]
    with pytest.raises(PipelineError, match="3 answers are not on record: unreachable"):
        await made.close(patience_s=0.1)
    assert store.killed
    assert not any(one.done() for one in waiting if one)


@on_a_loop
async def test_closing_twice_or_before_the_start_ends() -> None:
    idle = Recorder(Gate(), asyncio.get_running_loop(), durable=True, loss_ms=1, max_bytes=1000)
    await idle.close()
    made = recorder(Gate())
    await made.close()
    await made.close()


# ----------------------------------------------------------------------------------------------- the writer's process


def writer_of(made: Recorder) -> int:
    """The process id of a recorder's writer."""
    return int(made._store._process.pid)  # type: ignore[attr-defined]


@on_a_loop
async def test_a_durable_answer_is_never_released_before_its_commit(tmp_path: Path) -> None:
    made = recorder(open_store(tmp_path, 0))
    for number in range(20):
        committed = made.add(entry(str(number)))
        assert committed is not None
        await committed
        assert read(tmp_path).height == number + 1
    await made.close()


@on_a_loop
async def test_a_writer_that_is_killed_is_started_again_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    made = recorder(open_store(tmp_path, 0))
    stopping = asyncio.Event()
    answered: list[str] = []

    async def client(name: int) -> None:
        count = 0
        while not stopping.is_set():
            count += 1
            layout = replace(BINARY, key=str(count // 50 % 10) * 64)  # new layouts come all the time
            committed = made.add(entry(f"{name}-{count}", layout=layout))
            assert committed is not None
            await asyncio.shield(committed)
            answered.append(f"{name}-{count}")

    clients = [asyncio.create_task(client(name)) for name in range(4)]
    for _ in range(4):
        before = len(answered)
        await until(lambda before=before: len(answered) > before + 50)
        os.kill(writer_of(made), signal.SIGKILL)
        await until(lambda: "ended by itself" in made.problem)
        await until(lambda: made.problem == "")
    stopping.set()
    await asyncio.gather(*clients)
    await made.close()
    table = read(tmp_path)
    assert sorted(table["request_id"]) == sorted(answered)
    assert set(table.select("size", "kind").rows()) == {(1, "x")}


@on_a_loop
async def test_a_writer_that_hangs_holds_answers_back_and_memory_stays_bounded(tmp_path: Path) -> None:
    made = recorder(open_store(tmp_path, 0), durable=False, loss_ms=1, max_bytes=10_000_000)
    made.add(entry("first"))
    await until(lambda: made.pending == 0)
    os.kill(writer_of(made), signal.SIGSTOP)
    large = np.ones((1000, 2), np.float32)
    with pytest.raises(RecordFull):
        for number in range(10_000):
            committed = made.add(entry(str(number), rows=1000, numbers=large, categories=None, outputs=None))
            await asyncio.sleep(0)
    assert committed is not None
    assert not committed.done()
    held = made.pending
    os.kill(writer_of(made), signal.SIGCONT)
    await asyncio.shield(committed)
    await made.close()
    assert read(tmp_path).filter(row=0).height == held + 1


@on_a_loop
async def test_a_group_larger_than_the_pipe_arrives_whole(tmp_path: Path) -> None:
    made = recorder(open_store(tmp_path, 0), max_bytes=1 << 27)
    numbers = np.arange(400_000, dtype=np.float32).reshape(-1, 2)
    for number in range(3):
        made.add(entry(str(number), rows=len(numbers), numbers=numbers + number, categories=None, outputs=None))
        await asyncio.sleep(0)
    await made.close()
    table = read(tmp_path)
    assert table.height == 3 * len(numbers)
    for number in range(3):
        assert np.array_equal(table.filter(request_id=str(number))["weight"].to_numpy(), numbers[:, 1] + np.float32(number))


@on_a_loop
async def test_the_writer_ends_with_its_recorder_whatever_the_signals(tmp_path: Path) -> None:
    made = recorder(open_store(tmp_path, 0))
    await made.add(entry("one"))  # type: ignore[misc]
    writer = writer_of(made)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(writer, number)
    await made.add(entry("two"))  # type: ignore[misc]
    assert writer_of(made) == writer
    await made.close()
    with pytest.raises(ProcessLookupError):
        os.kill(writer, 0)
    assert read(tmp_path)["request_id"].to_list() == ["one", "two"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".sqlite"}


@on_a_loop
async def test_closing_ends_a_writer_that_cannot_write(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.write_text("in the way")
    made = recorder(open_store(folder, 0))
    made.add(entry())
    await until(lambda: made.problem)
    writer = writer_of(made)
    with pytest.raises(PipelineError, match="1 answers are not on record"):
        await made.close(patience_s=0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(writer, 0)


@on_a_loop
async def test_a_folder_that_cannot_be_written_recovers_by_itself(tmp_path: Path) -> None:
    """A file in the folder's place stands for a right that is missing: root may write everywhere."""
    folder = tmp_path / "records"
    folder.write_text("in the way")
    made = recorder(open_store(folder, 0))
    waiting = made.add(entry("kept"))
    assert waiting is not None
    await until(lambda: made.problem)
    assert str(folder) in made.problem
    assert "\n" not in made.problem
    folder.unlink()
    await waiting
    assert made.problem == ""
    await made.close()
    assert read(folder)["request_id"].to_list() == ["kept"]
    if os.geteuid():
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(StoreError, match="let the server write"):
            written(folder, [entry(time=NOON + 86400)])
        folder.chmod(0o755)


def test_a_full_database_says_so_and_takes_the_group_when_there_is_room(tmp_path: Path) -> None:
    store = database(tmp_path)
    write(store, [entry("before")])
    store._connection.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]  # SQLite's own way to be out of room
    large = [entry("large", rows=5000, numbers=np.ones((5000, 2), np.float32), categories=None, outputs=None)]
    with pytest.raises(StoreError, match=r"full: make room on the disk"):
        write(store, large, 1)
    write(store, large, 1)
    store.close()
    assert read(tmp_path).group_by("request_id", maintain_order=True).len().rows() == [("before", 1), ("large", 5000)]


@on_a_loop
async def test_a_disk_that_takes_no_more_is_told_and_everything_is_written_when_it_does(tmp_path: Path) -> None:
    import resource

    made = recorder(open_store(tmp_path, 0))
    await made.add(entry("before"))  # type: ignore[misc]
    resource.prlimit(writer_of(made), resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    waiting = made.add(entry("waits"))
    assert waiting is not None
    await until(lambda: made.problem)
    assert "\n" not in made.problem
    assert str(tmp_path) in made.problem
    assert not waiting.done()
    resource.prlimit(writer_of(made), resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await waiting
    assert made.problem == ""
    await made.close()
    assert read(tmp_path)["request_id"].to_list() == ["before", "waits"]


@on_a_loop
async def test_a_locked_file_holds_answers_back_and_is_waited_for(tmp_path: Path) -> None:
    made = recorder(open_store(tmp_path, 0))
    await made.add(entry("one"))  # type: ignore[misc]
    (path,) = tmp_path.glob("2026-11-24.*.sqlite")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = made.add(entry("two"))
    assert waiting is not None
    await until(lambda: "locked" in made.problem)
    assert not waiting.done()
    other.execute("ROLLBACK")
    await waiting
    other.close()
    await made.close()
    assert read(tmp_path).height == 2


@on_a_loop
async def test_two_workers_write_at_once_into_files_of_their_own(tmp_path: Path) -> None:
    workers = [recorder(open_store(tmp_path, number)) for number in range(2)]
    for number in range(3000):
        for name, made in enumerate(workers):
            made.add(entry(f"{name}-{number}"))
        if number % 100 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*(made.close() for made in workers))
    table = read(tmp_path)
    assert table.height == table["request_id"].n_unique() == 6000
    assert len(list(tmp_path.glob("2026-11-24.*.sqlite"))) == 2


def test_entries_of_the_next_day_go_to_the_next_days_file(tmp_path: Path) -> None:
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    times = [midnight - timedelta(microseconds=1), midnight, midnight - timedelta(seconds=1), midnight + timedelta(seconds=1)]
    written(tmp_path, [entry(str(k), time=time.timestamp()) for k, time in enumerate(times)])
    assert read(tmp_path, until=midnight)["request_id"].to_list() == ["2", "0"]
    assert read(tmp_path, since=midnight)["request_id"].to_list() == ["1", "3"]
    assert math.isclose(read(tmp_path)["time"][0].timestamp(), times[2].timestamp())
