"""What `mlops init` writes of a column, `mlops run` keeps: kinds are read off every value, and nothing is left out without a word."""

from __future__ import annotations

import itertools
import re
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
import yaml
from rich.console import Console

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.scaffold import starter
from mlops_pipeline.spreadsheet import harmless_text
from mlops_pipeline.tables import kinds
from mlops_pipeline.tables.cast import cast_columns
from mlops_pipeline.tables.columns import ColumnUse, as_table
from mlops_pipeline.tables.kinds import names_things
from mlops_pipeline.tables.profile import profile_of, profiled
from mlops_pipeline.tables.source import Chunk
from tests.unit_tests.workshop import assert_one_line, ingested

ROWS = 240
HOURS = [f"{n}时" for n in range(ROWS)]


def cycle(*values: Any) -> list[Any]:
    return [values[n % len(values)] for n in range(ROWS)]


COLUMNS: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    # name: values of the CSV; how it is described; why it is no feature ("": it is one)
    "measure": (cycle("180.0", "193.0", "", "201.0"), {"kind": "number"}, ""),
    "count": (cycle("3", " 14 ", "15", "92"), {"kind": "integer"}, ""),
    "with NA": (cycle("3", "NA", "15"), {"kind": "integer"}, ""),
    "with ?": (cycle("0.5", "?", "1.5"), {"kind": "number"}, ""),
    "with unknown": (
        [str(n * 7 % 113) if n % 9 else "unknown" for n in range(ROWS)],
        {"kind": "integer", "null_values": ["", "NA", "NaN", "null", "None", "?", "N/A", "unknown"]},
        "",
    ),
    "kind, unknown": (cycle("a", "unknown", "b"), {"kind": "category"}, ""),
    "grades": (cycle("1", "2", "3", "absent"), {"kind": "category"}, ""),
    "19 digits": ([str(10**18 + n * 10**15) for n in range(ROWS)], {"kind": "text"}, "identifier: 240 different values"),
    "19 digits, few": (cycle(str(10**18 + 1), str(10**18 + 2), str(10**18 + 1)), {"kind": "category"}, ""),
    "1e200": ([f"{n + 1}e200" for n in range(ROWS)], {"kind": "text"}, "beyond a 32-bit float's 3.4e38"),
    "F and N": (cycle("F", "N", "N"), {"kind": "category"}, ""),
    "Y and T": (cycle("Y", "T", "T"), {"kind": "category"}, ""),
    "Y and N": (cycle("Y", "N", "N"), {"kind": "boolean"}, ""),
    "True and false": (cycle("True", "false", "FALSE"), {"kind": "boolean"}, ""),
    "yes, no, unknown": (cycle("yes", "no", "N/A", "no"), {"kind": "boolean"}, ""),
    "postcode": ([f"{n * 37 % 200:05}" for n in range(ROWS)], {"kind": "text"}, ""),
    "house code": (cycle("007", "011", "012", "7"), {"kind": "category"}, ""),
    "country": (cycle("DE", "NA", "FR", "ZA"), {"kind": "category", "null_values": ["", "NaN", "null", "None", "?", "N/A"]}, ""),
    "chinese": ([f"很好，质量差，{hour}，好极了。" for hour in HOURS], {"kind": "text"}, ""),
    "japanese": ([f"とても良い、{hour}、壊れた。" for hour in HOURS], {"kind": "text"}, ""),
    "thai": ([f"คุณภาพดีมากแต่ส่งช้า{hour}" for hour in HOURS], {"kind": "text"}, ""),
    "lao": ([f"ຄຸນນະພາບດີຫຼາຍແຕ່ສົ່ງຊ້າ{hour}" for hour in HOURS], {"kind": "text"}, ""),
    "khmer": ([f"គុណភាពល្អណាស់ប៉ុន្តែយឺត{hour}" for hour in HOURS], {"kind": "text"}, ""),
    "burmese": ([f"အရည်အသွေးကောင်းပေမယ့်နောက်ကျ{hour}" for hour in HOURS], {"kind": "text"}, ""),
    "chinese names": ([f"王{chr(0x4E00 + n)}明" for n in range(ROWS)], {"kind": "text"}, "identifier: 240 different values"),
    "utc": ([f"2024-01-{n % 28 + 1:02} 10:00:00 UTC" for n in range(ROWS)], {"kind": "datetime"}, ""),
    "zone": ([f"2024-01-{n % 28 + 1:02}T10:00:00+02:00" for n in range(ROWS)], {"kind": "datetime"}, ""),
    "dotted day": ([f"{n % 28 + 1:02}.{n % 11 + 1:02}.2024" for n in range(ROWS)], {"kind": "datetime", "format": "%d.%m.%Y"}, ""),
    "month first": (
        [f"{n % 12 + 1}/{n % 28 + 1}/2024 9:05 AM" for n in range(ROWS)],
        {"kind": "datetime", "format": "%m/%d/%Y %I:%M %p"},
        "",
    ),
    "day or month": (
        [f"{n % 12 + 1:02}/{n % 11 + 1:02}/2024" for n in range(ROWS)],
        {"kind": "text"},
        "no value tells the day from the month",
    ),
    "dollars": ([f"${n * 1013:,}.50" for n in range(ROWS)], {"kind": "number", "format": "$1,234.5"}, ""),
    "comma": ([f"{n},5" for n in range(ROWS)], {"kind": "number", "format": "1234,5"}, ""),
    "german": ([f"{n + 1}.{n % 1000:03},5" for n in range(ROWS)], {"kind": "number", "format": "1.234,5"}, ""),
    "offset of hours": ([f"2024-01-{n % 28 + 1:02} 10:00:00+02" for n in range(ROWS)], {"kind": "datetime"}, ""),
    "lower case": ([f"2024-01-{n % 28 + 1:02}t10:00:00z" for n in range(ROWS)], {"kind": "datetime"}, ""),
    "quarter": ([f"{2000 + n % 23}-Q{n % 4 + 1}" for n in range(ROWS)], {"kind": "datetime", "format": "%Y-Q%q"}, ""),
    "lakhs": ([f"{n % 7 + 1},{n % 90 + 10},{n % 900 + 100}.5" for n in range(ROWS)], {"kind": "number", "format": "1,234.5"}, ""),
    "percent": ([f"{n % 100} %" for n in range(ROWS)], {"kind": "number", "format": "1234.5 %"}, ""),
    "words": ([f"what customer {n} said of it" for n in range(ROWS)], {"kind": "text"}, ""),
    "names": ([f"name{n * 7919 % 1000}" for n in range(ROWS)], {"kind": "text"}, "identifier: 240 different values"),
    "number of row": ([str(n + 1) for n in range(ROWS)], {"kind": "integer"}, "running number"),
    "customerId": ([str(n * 7919 % 1000) for n in range(ROWS)], {"kind": "integer"}, "identifier: 240 different values"),
    "nothing": ([""] * ROWS, {"kind": "text"}, "every value is missing"),
    "almost nothing": (["7", "9", *[""] * (ROWS - 2)], {"kind": "integer"}, "99% missing"),
    "always": (cycle("x"), {"kind": "category"}, "constant"),
    "count again": (cycle("3", " 14 ", "15", "92"), {"kind": "integer"}, "equal to 'count' in every row"),
}
TARGET = cycle("1", "0.0", "0", "1.0", "1")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, str], str]:
    folder = tmp_path_factory.mktemp("kinds")
    source, config = folder / "table.csv", folder / "new.yaml"
    index = [str(n) for n in range(ROWS)]
    pl.DataFrame({"": index, **{name: column[0] for name, column in COLUMNS.items()}, "y": TARGET}).write_csv(source)
    made = starter(source, "y", config)
    config.write_text(made.text, encoding="utf-8")
    return config, yaml.safe_load(made.text), {use.name: "" if use.used else use.why for use in made.columns}, made.text


@pytest.mark.parametrize("name", COLUMNS)
def test_a_columns_kind_and_use_follow_from_its_values(name: str, table: Any) -> None:
    _, content, why, _ = table
    _, described, left_out = COLUMNS[name]
    assert content["dataset"]["columns"][name] == described
    assert left_out in why[name]
    if not left_out and described["kind"] not in ("datetime", "text"):
        assert why[name] == ""


def test_no_value_of_the_table_is_set_aside_by_the_ingest(table: Any) -> None:
    config, content, _, _ = table
    settings = load_settings(config)
    read, report, _ = ingested(config.parent, settings)
    assert (report["rows_kept"], report["rows_broken"], report["rows_without_target"]) == (ROWS, 0, 0)
    assert content["dataset"]["task"] == "binary"
    assert read["with NA"].null_count() == read["with ?"].null_count() == ROWS // 3
    assert read["with unknown"].null_count() == 27
    assert read["kind, unknown"].to_list() == COLUMNS["kind, unknown"][0]
    assert read["country"].to_list() == COLUMNS["country"][0]
    assert read["zone"][0] == read["offset of hours"][0] == datetime(2024, 1, 1, 8)
    assert read["lower case"][0] == datetime(2024, 1, 1, 10)
    assert read["quarter"][1] == datetime(2001, 4, 1)
    assert read["lakhs"][0] == 110100.5
    assert read["month first"][1] == datetime(2024, 2, 2, 9, 5)
    assert read["dollars"][100] == 101300.5
    assert read["german"][2] == 3002.5
    assert read["percent"][12] == 12


def test_what_is_left_out_and_what_stands_for_null_is_said_in_the_file(table: Any) -> None:
    _, content, why, text = table
    said = " ".join(text.replace("\n  # ", " ").replace("\n# ", " ").split())
    assert why[""] == "running number, the table's index"
    assert "" not in content["dataset"]["columns"]
    for name in content["features"]["exclude"]:
        assert f"'{name}' is no feature: {why[name]}" in said
    assert "'?' stands for null in with ? (80)" in said
    assert "'NA' stands for null in with NA (80)." in said
    assert "'with unknown': 'unknown' (27) is taken for null." in said


def as_chunks(*parts: list[Any]) -> Any:
    return lambda: [Chunk(pl.DataFrame({"x": pl.Series(part)}), pl.int_range(1, len(part) + 1, eager=True)) for part in parts]


def kind_of(*parts: list[Any]) -> kinds.Described:
    return kinds.described(profiled(as_chunks(*parts)), "x")["x"]


def test_a_cell_that_a_spreadsheet_could_not_compute_is_null() -> None:
    for values, kind in ((cycle("1.5", "#DIV/0!", "2.5"), "number"), (cycle("a", "#VALUE!", "b"), "category")):
        one = kind_of(values)
        assert (one.kind, dict(one.nothing)) == (kind, {values[1]: 80})


def test_a_column_of_one_value_and_of_nulls_tells_which_rows_have_it() -> None:
    marks = (cycle("x", None), cycle(True, None, None), cycle("EUR", "NA"), cycle(7, None), cycle("5 %", "", "NA"), cycle(2.0, None))
    marks = (*marks, cycle("49.5", None), cycle("2.0", ""), cycle("(5)", ""))
    for values in marks:
        one = kinds.described(profile_of(pl.DataFrame({"marked": values})), "y")["marked"]
        said = "holds one value or none: what it tells is whether there is one"
        said += f"; a request says it as '{values[0]}'" if values[0] in ("5 %", "(5)") else ""
        assert (one.left_out, one.note) == ("", said)
        assert (one.kind, one.format) == ("category", None), "a number that is filled in where it is missing tells nothing"
    for values in (cycle("49.90", None), cycle("2.00", ""), cycle("7", "7.0", None), [*cycle(7, None), 8]):
        assert kinds.described(profile_of(pl.DataFrame({"marked": values})), "y")["marked"].kind != "category"
    constant = profile_of(pl.DataFrame({"marked": ["x"] * (ROWS - 1) + [None]}))
    assert kinds.described(constant, "y")["marked"].left_out == "constant"


def test_values_far_between_that_stand_once_each_may_be_of_merged_cells() -> None:
    def note(values: list[str | None]) -> str:
        return kinds.described(profile_of(pl.DataFrame({"group": values})), "y")["group"].note

    merged = [f"group {n // 20}" if n % 20 == 0 else None for n in range(ROWS)]
    assert note(merged) == "each value stands once, and 228 rows have none: where cells were merged, fill them down"
    assert note([None if n % 3 else f"group {n % 12}" for n in range(ROWS)]) == ""


def test_all_rows_decide_not_the_first_chunk() -> None:
    whole = [str(n) for n in range(1, 60)]
    assert kind_of(whole, ["7.5"]).kind == "number"
    assert kind_of(whole, ["007"] * 9).kind != "integer"
    assert kind_of(whole, ["1,234.5", "7,000"]).format == "1,234.5"
    assert kind_of(["yes", "no"] * 9, ["maybe"]).kind == "category"
    assert kind_of(["01/02/2024"] * 9, ["31/01/2024"]).format == "%d/%m/%Y"
    assert kind_of(["01/02/2024"] * 9, ["01/31/2024"]).format == "%m/%d/%Y"


def test_values_are_counted_over_a_folder_of_small_files() -> None:
    """A file's few values are many once six files have others each: orders' numbers are seen to be such."""
    months = [[f"B-{month}{n:05}" for n in range(400)] for month in range(6)]
    held = profiled(as_chunks(*months))
    assert held["x"].distinct == 2400
    assert kinds.described(held, "y")["x"].left_out == "identifier: 2,400 different values in 2,400 rows"


def test_a_few_odd_values_are_set_aside_with_a_word_and_many_make_it_text() -> None:
    numbers = [str(n / 7) for n in range(1000)]
    one = kind_of([*numbers, "seven"])
    assert (one.kind, one.note) == ("number", "1 value is none of its kind (such as 'seven'): its row is set aside")
    assert kind_of([*numbers, *["six", "seven", "eight"] * 6]).kind == "text"


def test_a_word_that_comes_again_among_a_few_numbers_is_a_level_and_no_row_is_lost_for_it() -> None:
    grades = [str(9 + n % 4) for n in range(1000)]

    def kind(values: list[str]) -> str:
        return kinds.described(profiled(as_chunks(values)), "y")["x"].kind

    assert kind([*grades, *["other"] * 4]) == "category"
    assert kinds.described(profiled(as_chunks([*grades, *["other"] * 4])), "y")["x"].note == (
        "'other' is a value beside numbers: read as text; "
        "for numbers write kind: integer, and the rows of those that are none are set aside"
    )
    assert kind([*grades, *["x"] * 4]) == "integer", "the header once more"
    assert kind([*grades, "9b"]) == "integer"
    assert kind([*map(str, range(1000)), *["other"] * 4]) == "integer"
    columns = profiled(as_chunks([*grades, *["other"] * 4]))
    assert kinds.task_of(columns["x"], kinds.described(columns, "x")["x"])[1].note == (
        "its 4 numbers are taken as classes: for a quantity write task: regression; "
        "4 values are none of its kind (such as 'other'): their rows are set aside"
    )


def test_texts_among_many_numbers_are_said_to_make_text_of_them() -> None:
    heights = [*[str(150 + n / 10) for n in range(400)], *[f"5' {n}\"" for n in range(11)] * 4]
    one = kind_of(heights)
    assert one.kind in ("category", "text")
    assert one.note.startswith("""400 of 444 values are numbers, others (such as '5' 0"') are not: read as text; mend them""")
    assert kind_of([f"{n:05}" for n in range(400)] + ["none", "some", "any"] * 10).note == ""


def test_what_is_said_of_a_column_is_said_of_a_target_too() -> None:
    columns = profiled(as_chunks([*[str(n) for n in range(3, 18)] * 20, *["18+"] * 20]))
    note = kinds.task_of(columns["x"], kinds.described(columns, "x")["x"])[1].note
    assert note == "taken as a quantity of 16 values: for classes write task: multiclass; '18+' is read as 18"


def test_what_stands_for_null_is_counted_beyond_the_first_chunk_however_many_values_there_are() -> None:
    amounts = ["NA" if n % 10 == 0 else f"{n},25" for n in range(1, 3001)]
    moments = ["-" if n % 10 == 0 else f"2024-01-{n % 28 + 1:02}T{n % 24:02}:{n // 60:02}:{n % 60:02}" for n in range(1, 3001)]
    numbers = [*[f"no {n}" for n in range(1000)], *["NA" if n % 10 == 0 else str(n / 8) for n in range(250_000)]]
    for values, kind in ((amounts, "number"), (moments, "datetime"), (numbers, "number")):
        one = kind_of(values[:1500], values[1500:])
        assert (one.kind, dict(one.nothing)) == (kind, {word: values.count(word) for word in {"NA", "-"} & set(values)})


@pytest.mark.parametrize(
    ("usual", "rare", "form"),
    [
        (lambda n: f"{n % 900},25", "1.234,50", "1.234,5"),
        (lambda n: str(n % 900), "1'825", "1'234.5"),
        (lambda n: f"01/{n % 12 + 1:02}/2024", "31/01/2024", "%d/%m/%Y"),
        (lambda n: f"{n % 12 + 1:02}/01/2024", "01/31/2024", "%m/%d/%Y"),
    ],
)
def test_of_ways_of_writing_that_read_nearly_all_values_the_one_is_meant_that_reads_all(usual: Any, rare: str, form: str) -> None:
    one = kind_of([usual(n) for n in range(1000)], [rare] * 2)
    assert (one.format, one.odd, one.left_out) == (form, 0, "")


def test_a_value_that_is_set_aside_is_named_and_none_that_is_read() -> None:
    one = kind_of([f"{n % 150},25" for n in range(1000)], ["12,5 or so"] * 2)
    assert (one.format, one.odd) == ("1234,5", 2)
    assert one.note == "2 values are none of its kind (such as '12,5 or so'): their rows are set aside"


@pytest.mark.parametrize(
    ("written", "kind", "form"),
    [
        (lambda n: f"{n},25", "number", "1234,5"),
        (lambda n: f"$1,{n % 1000:03}.50", "number", "$1,234.5"),
        (lambda n: f"{n % 28 + 1:02}.{n // 28 % 12 + 1:02}.20{n // 336 % 100:02}", "datetime", "%d.%m.%Y"),
    ],
)
def test_however_many_rows_say_that_there_is_nothing_the_others_tell_the_kind(written: Any, kind: str, form: str) -> None:
    values = [written(n) if n % 3 == 0 else ("NA", "-")[n % 2] for n in range(900)]
    for one in (kind_of(values), kind_of(values, ["NA"] * 900), kind_of(["-"] * 900, values)):
        assert (one.kind, one.format, {word for word, _ in one.nothing}) == (kind, form, {"NA", "-"})


def test_a_typed_tables_floats_are_numbers_and_nan_is_null() -> None:
    assert kind_of([1.0, 2.0, float("nan")]).kind == "number"
    assert kind_of([2**60 + n for n in range(50)]).kind != "integer"
    assert kind_of([1, 2, None]).kind == "integer"


TARGETS: dict[str, tuple[list[Any], str]] = {
    "dates": (["2024-01-01", "2024-02-01"] * 20, "holds dates"),
    "names": ([f"name{n}" for n in range(60)], "60 different texts in 60 rows"),
    "one value": (["yes", None, "yes"] * 20, "holds one value alone"),
    "one number": (["1.0", "1"] * 20, "holds one value alone"),
    "beyond": ([f"{n}e200" for n in range(60)], "beyond a 32-bit float"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_cannot_be_learned_is_told_in_one_line(name: str) -> None:
    values, what = TARGETS[name]
    columns = profiled(as_chunks(values))
    with pytest.raises(PipelineError) as caught:
        kinds.task_of(columns["x"], kinds.described(columns, "x")["x"])
    assert_one_line(caught.value, what, "name ")


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["1", "1.0", "0"] * 20, "binary"),
        (["0.5", "1.5", "2.5"] * 20, "regression"),
        (["3", "4", "5"] * 20, "multiclass"),
        ([str(n) for n in range(15)], "regression"),
        (["yes", "no"] * 20, "binary"),
        (["Yes", " Yes ", "No", "No "] * 10, "binary"),
        (["F", "N"] * 20, "binary"),
        (["< 20 yrs", "> 20 yrs"] * 20, "binary"),
    ],
)
def test_the_task_follows_from_all_values_of_the_target(values: list[str], task: str) -> None:
    columns = profiled(as_chunks(values))
    assert kinds.task_of(columns["x"], kinds.described(columns, "x")["x"])[0] == task


def test_days_written_as_numbers_are_days_where_all_are_and_else_named_as_such() -> None:
    days = [f"2024{n % 12 + 1:02}{n % 28 + 1:02}" for n in range(100)]
    asked = "if these are days, write kind: datetime, format: '%Y%m%d'"
    for held in (days, [int(day) for day in days]):
        one = kind_of(held[:40], held[40:])
        assert (one.kind, one.format) == ("datetime", "%Y%m%d")
        assert one.note.startswith("read as days; if they are numbers")
    assert (kind_of(days[:3] * 20).kind, kind_of(days[:3] * 20).note) == ("integer", asked)
    assert (kind_of([*days, "20241231", "20241299"]).kind, kind_of([20240230, *map(int, days)]).kind) == ("integer", "integer")
    assert kind_of([str(20240000 + n * 37) for n in range(100)]).note == ""


def test_numbers_are_moments_since_1970_by_name_and_range_alone() -> None:
    seconds, milliseconds = ([str((1_600_000_000 + n * 98_765) * unit + n) for n in range(100)] for unit in (1, 1000))

    def described(name: str, values: list[str]) -> kinds.Described:
        return kinds.described(profile_of(pl.DataFrame({name: values})), "y")[name]

    assert [described(name, seconds).format for name in ("created_at", "eventTime", "ts")] == ["%s"] * 3
    assert described("ts_ms", milliseconds).format == "%Q"
    one = described("amount", seconds)
    assert (one.kind, one.note) == ("integer", "if these are seconds since 1970, write kind: datetime, format: '%s'")
    assert described("timestamp", [str(n * 98_765) for n in range(100)]).kind == "integer"
    for unit, what in ((10**6, "microseconds"), (10**9, "nanoseconds")):
        values = [str((1_700_000_000 + n * 5000) * unit) for n in range(100)]
        assert f"if these are {what} since 1970, write them as milliseconds" in described("event_ts", values).note
        assert described("card", values).note == ""
    serial = described("date", [str(44_200 + n * 3) for n in range(100)])
    assert (serial.kind, serial.note) == ("integer", "if these are days as a spreadsheet counts them, write them as dates")
    assert described("price", [str(44_200 + n * 3) for n in range(100)]).note == ""


MEANT: dict[str, tuple[list[str], tuple[str, str | None], str, Any]] = {
    # values; kind and format; what is said; what the second value is read as
    "accounting": (cycle("7", "(1,234.50)", "2,000"), ("number", "1,234.5"), "'(1,234.50)' is read as -1234.5", -1234.5),
    "accounting, plain": (cycle("7", "(5)", "12"), ("number", "1234.5"), "'(5)' is read as -5", -5.0),
    "with a unit": (cycle("$ 7.5", "$ (1,234.50)"), ("number", "$1,234.5"), "'$ (1,234.50)' is read as -1234.5", -1234.5),
    "true minus": (cycle("7", "−5.5", "12"), ("number", "1,234.5"), "'−5.5' is read as -5.5", -5.5),
    "minus behind": (cycle("7", "5-", "12"), ("number", "1234.5"), "'5-' is read as -5", -5.0),
    "bands": (
        cycle("50-", "60-", "70-"),
        ("category", None),
        "values such as '50-' end in a minus: read as text; to make -50 of it write kind: number, format: '1234.5'",
        "60-",
    ),
    "bands up to a last one": (cycle("0-", "10-", "20-", "80+"), ("category", None), "values such as '0-' end in a minus", "10-"),
    "cohorts with a dash": (cycle("1935–", "1940 –", "NA"), ("category", None), "values such as '1935–' end in a minus", "1940 –"),
    "nearly all cohorts": (["1935-" if n % 60 else "1935" for n in range(ROWS)], ("category", None), "end in a minus", "1935-"),
    "many cohorts": ([f"{n}-" for n in range(1001, 2501)], ("text", None), "values such as '1001-' end in a minus", "1002-"),
    "an accountant's credits": (cycle("1.234,50-", "7,25-"), ("number", "1.234,5"), "'7,25-' is read as -7.25", -7.25),
    "no cents": (cycle("7,-", "500,-"), ("number", "1234.5"), "'7,-' is read as 7", 500.0),
    "thousands without cents": (cycle("7.500,-", "12.250,-"), ("number", "1.234,5"), "'7.500,-' is read as 7500", 12250.0),
    "no cents, and a currency behind": (cycle("7.500,– €", "12.250,50 €"), ("number", "1.234,5 €"), "is read as 7500", 12250.5),
    "francs": (cycle("Fr. 7.--", "Fr. 12'250.--"), ("number", "Fr.1'234.5"), "'Fr. 7.--' is read as 7", 12250.0),
    "no-break blanks": (cycle("1\u00a0000,5", "2\u202f500,5"), ("number", "1 234,5"), "", 2500.5),
    "thin blanks": (cycle("1\u2009000", "2\u2009500"), ("number", "1 234,5"), "", 2500.0),
    "apostrophes": (cycle("1'000.5", "2’500.5"), ("number", "1'234.5"), "", 2500.5),
    "apostrophes and commas": (cycle("1'000,5", "2’500,5"), ("number", "1'234,5"), "", 2500.5),
    "exponents and commas": (cycle("1,5E+02", "1,2E+03"), ("number", "1234,5"), "", 1200.0),
    "percent and commas": (cycle("12,5 %", "7,25%"), ("number", "1234,5 %"), "", 7.25),
    "a glued unit": (cycle("180cm", "165cm"), ("number", "1234.5cm"), "", 165.0),
    "bounds": (cycle("7", "<5", "9", ">100"), ("number", "<1234.5"), "'<5' is read as 5", 5.0),
    "and more": (cycle("3", "5+", "4"), ("number", "1234.5+"), "'5+' is read as 5", 5.0),
    "a bound beside its number": (
        cycle("5", "<5", "6", "10+"),
        ("category", None),
        "'<5' and '5' are two values: read as text; to make one number of them write kind: number, format: '<1234.5+'",
        "<5",
    ),
    "bounds of one number": (cycle("<6m", ">6m"), ("category", None), "'<6m' and '>6m' are two values: read as text", ">6m"),
    "bounds with a blank": (cycle("<= 1500 sf", "> 1500 sf"), ("category", None), "are two values: read as text", "> 1500 sf"),
    "up to, and more": (cycle("<5", "5+"), ("category", None), "'<5' and '5+' are two values: read as text", "5+"),
    "blanks beside": (cycle("3", "4", "  "), ("integer", None), "", 4),
    "truths and numbers": (cycle("0", "TRUE", "FALSE", "1"), ("boolean", None), "", 1),
    "time of day": (cycle("7:30", "23:15"), ("number", "h:mm"), "as seconds; for minutes and seconds", 83700.0),
    "with seconds": (cycle("7:30:00", "23:15:30"), ("number", "h:mm:ss"), "as seconds", 83730.0),
    "longer than a day": (cycle("27:30", "33:15"), ("number", "m:ss"), "for hours and minutes write format: 'h:mm'", 1995.0),
    "days and hours": (cycle("0 days 01:00:00", "2 days 03:00:00"), ("number", "h:mm:ss"), "as seconds", 183600.0),
    "months": (cycle("2021-03", "2022-11"), ("datetime", "%Y-%m"), "", datetime(2022, 11, 1)),
    "seasons": (cycle("2009-10", "2010-11", "2011-12"), ("category", None), "read as text", "2010-11"),
    "weeks": (cycle("2021-W05", "2021-W52"), ("datetime", "%G-W%V"), "", datetime(2021, 12, 27)),
    "quarters": (cycle("2021Q1", "2022Q4"), ("datetime", "%YQ%q"), "", datetime(2022, 10, 1)),
    "quarters first": (cycle("Q1 2021", "Q2 2022"), ("datetime", "Q%q %Y"), "", datetime(2022, 4, 1)),
    "short quarters": (cycle("1Q21", "3Q99"), ("datetime", "%qQ%y"), "read as 1970 to 2069", datetime(1999, 7, 1)),
    "no fifth quarter": (cycle("2021-Q1", "2021-Q5"), ("category", None), "", "2021-Q5"),
    "quarters alone": (cycle("Q1", "Q4"), ("category", None), "", "Q4"),
    "questions": (cycle("Q1-01", "Q4-12"), ("category", None), "", "Q4-12"),
    "rupees": (cycle("₹1,23,456.50", "₹12,34,567"), ("number", "₹1,234.5"), "", 1234567.0),
    "rupees in letters": (cycle("Rs. 500", "Rs 1,25,000", "Rs.7.50"), ("number", "Rs.1,234.5"), "", 125000.0),
    "kroner": (cycle("100 kr.", "2.500,50 kr.", "7 kr"), ("number", "1.234,5 kr."), "", 2500.5),
    "dollars of others": (cycle("CA$12.50", "CA$1,200"), ("number", "CA$1,234.5"), "", 1200.0),
    "a currency's code": (cycle("SEK 12.50", "SEK 7"), ("number", "SEK1,234.5"), "", 7.0),
    "two currencies": (cycle("EUR 12", "USD 15"), ("category", None), "values such as 'EUR 12' are read as text", "USD 15"),
    "versions": (cycle("1.2.3", "1.10.0"), ("category", None), "", "1.10.0"),
    "less than nothing": (cycle("0 days 01:00:00", "-1 days +23:00:00"), ("number", "h:mm:ss"), "as seconds", -3600.0),
    "months in words": (cycle("Mar 2021", "May 2022"), ("datetime", "%b %Y"), "", datetime(2022, 5, 1)),
    "months in full": (cycle("March 2021", "May 2022"), ("datetime", "%B %Y"), "", datetime(2022, 5, 1)),
    "days in words": (cycle("15 March 2021", "1 May 2022"), ("datetime", "%d %B %Y"), "", datetime(2022, 5, 1)),
    "a weekday before": (cycle("Sat, 01 Jan 2000", "Sun, 02 Jan 2000"), ("datetime", "%a, %d %b %Y"), "", datetime(2000, 1, 2)),
    "in full": (cycle("Saturday, January 1, 2000", "Sunday, January 2, 2000"), ("datetime", "%A, %B %d, %Y"), "", datetime(2000, 1, 2)),
    "of a letter": (
        cycle("Sat, 01 Jan 2000 10:00:00 +0200", "Sun, 02 Jan 2000 10:00:00 +0200"),
        ("datetime", "%a, %d %b %Y %H:%M:%S %z"),
        "",
        datetime(2000, 1, 2, 8),
    ),
    "of a server": (
        cycle("Sat, 01 Jan 2000 10:00:00 GMT", "Sun, 02 Jan 2000 10:00:00 GMT"),
        ("datetime", "%a, %d %b %Y %H:%M:%S GMT"),
        "",
        datetime(2000, 1, 2, 10),
    ),
    "of a clock": (
        cycle("Sat Jan  1 10:00:00 2000", "Sun Jan  2 10:00:00 2000"),
        ("datetime", "%a %b %d %H:%M:%S %Y"),
        "",
        datetime(2000, 1, 2, 10),
    ),
    "wrong weekdays": (cycle("Sun, 01 Jan 2000", "Mon, 02 Jan 2000"), ("category", None), "not as moments", "Mon, 02 Jan 2000"),
    "a short year": (cycle("3/15/21", "12/31/99"), ("datetime", "%m/%d/%y"), "read as 1970 to 2069", datetime(1999, 12, 31)),
    "a month and a short year": (cycle("Mar-21", "May-99"), ("datetime", "%b-%y"), "read as 1970 to 2069", datetime(1999, 5, 1)),
    "fractions": (cycle("1/2", "3/4"), ("category", None), "values such as '1/2' are read as text", "3/4"),
    "ranges": (cycle("0-9", "10-19"), ("category", None), "values such as '0-9' are read as text", "10-19"),
    "codes": (cycle("1E5", "1B5", "7A2"), ("category", None), "", "1B5"),
    "a word beside decimal commas": (
        [f"{n * 7 % 113},5" if n % 9 else "keine" for n in range(1, ROWS + 1)],
        ("number", "1234,5"),
        "'keine' (26) is taken for null",
        14.5,
    ),
    "a word beside days": (
        [f"{n % 28 + 1:02}.{n % 12 + 1:02}.2024" if n % 9 else "unknown" for n in range(1, ROWS + 1)],
        ("datetime", "%d.%m.%Y"),
        "'unknown' (26) is taken for null",
        datetime(2024, 3, 3),
    ),
    "a server's log": (
        cycle("01/Jan/2024:10:00:00 +0200", "31/Jan/2024:23:59:59 +0000"),
        ("datetime", "%d/%b/%Y:%H:%M:%S %z"),
        "",
        datetime(2024, 1, 31, 23, 59, 59),
    ),
    "without signs between": (
        cycle("20240101T101500Z", "20240131T235959Z"),
        ("datetime", "%Y%m%dT%H%M%SZ"),
        "",
        datetime(2024, 1, 31, 23, 59, 59),
    ),
    "months of another language": (
        cycle("1. März 2024", "12. Mai 2024"),
        ("category", None),
        "values such as '1. März 2024' are read as text, not as moments: write them as 2024-01-31",
        "12. Mai 2024",
    ),
    "days as in the East": (cycle("2024年8月6日", "2024年12月31日"), ("datetime", "%Y年%m月%d日"), "", datetime(2024, 12, 31)),
    "an hour in the East": (
        cycle("2024年8月6日 07:05", "2024年8月6日 7:05"),
        ("datetime", "%Y年%m月%d日 %H:%M"),
        "",
        datetime(2024, 8, 6, 7, 5),
    ),
    "in Korean": (cycle("2024년 8월 6일", "2024년 12월 31일"), ("datetime", "%Y년 %m월 %d일"), "", datetime(2024, 12, 31)),
    "months as in the East": (cycle("2024年8月", "2023年12月"), ("datetime", "%Y年%m月"), "", datetime(2023, 12, 1)),
    "two ways of writing": (cycle("3.5", "8,25", "4.5", "9,5"), ("category", None), "'9,5' are read as text, not as numbers", "8,25"),
    "degrees": (cycle("52°30'N", "9°2'N"), ("category", None), "values such as '9°2'N' are read as text, not as numbers", "9°2'N"),
    "other digits": (cycle("٦٤٧", "٨"), ("category", None), "values such as '٨' are read as text, not as numbers", "٨"),
    "kept from a spreadsheet": (cycle('="007"', '="12"'), ("category", None), "are read as text, not as numbers", '="12"'),
    "a footnote's mark": (cycle("3.5", "8.25*", "9*"), ("category", None), "values such as '9*' are read as text, not as numbers", "8.25*"),
    "addresses": (cycle("10.0.0.1", "10.0.0.2"), ("category", None), "", "10.0.0.2"),
    "percentages and shares": (cycle("12 %", "0.5", "7.5 %"), ("number", "1,234.5 %"), "'12 %' is read as 12 and 0.5 as 0.5: if that", 0.5),
    "percentages of little": (cycle("0.5 %", "0.25", "0.75 %"), ("number", "1,234.5 %"), "", 0.25),
    "no number below zero but one": (
        cycle("3", "-999", "15.5"),
        ("number", None),
        "-999 is its only number below zero: if it stands for null, write null_values: ['', '-999']",
        -999.0,
    ),
    "the same as a float": (cycle("3", "-9.0", "?"), ("number", None), "write null_values: ['', '?', '-9.0']", -9.0),
    "numbers on both sides": (cycle("3", "-999", "-15.5"), ("number", None), "", -999.0),
    "a scale around zero": (cycle("-1", "0", "1"), ("integer", None), "", 0),
    "a German hour": (cycle("7:05 Uhr", "16:30 Uhr"), ("number", "h:mm"), "as seconds", 59400.0),
    "a German hour with a point": (cycle("7.05 Uhr", "16.30 Uhr"), ("category", None), "are read as text, not as numbers", "16.30 Uhr"),
    "a unit for each": (cycle("5.4 mmol/l", "12 mmol/l"), ("number", "1,234.5 mmol/l"), "", 12.0),
    "a price for each": (cycle("45 €/m²", "1.250,50 €/m²"), ("number", "1.234,5 €/m²"), "", 1250.5),
    "speeds": (cycle("45km/h", "80km/h"), ("number", "1234.5km/h"), "", 80.0),
    "not available": (cycle("3", "n.a.", "5"), ("integer", None), "", None),
    "not stated": (cycle("3,5", "k. A.", "5,25"), ("number", "1234,5"), "", None),
    "a zone's name": (cycle("2024-01-01 10:00 EST", "2024-01-02 10:00 EST"), ("category", None), "not as moments", "2024-01-02 10:00 EST"),
    "months as numbers": (
        cycle("202401", "202402", "202312"),
        ("integer", None),
        "if these are months, write kind: datetime, format: '%Y%m'",
        202402,
    ),
    "numbers near months": (cycle("202401", "202402", "202399"), ("integer", None), "", 202402),
    "moments as numbers": (cycle("20240101100000", "20240131235959"), ("integer", None), "if these are moments", 20240131235959),
    "NaN of other programs": (cycle("0.5", "NAN", "1.5"), ("number", None), "", None),
    "a name": (cycle("Nan", "Eva", "Ida"), ("category", None), "", "Eva"),
    "about": (cycle("~5", "~7"), ("category", None), "values such as '~5' are read as text", "~7"),
    "decimals after many whole numbers": ([*map(str, range(1000)), *(f"{n},5" for n in range(200))], ("number", "1234,5"), "", 1.0),
    "dollars after many numbers": ([*map(str, range(1000)), *(f"${n}" for n in range(200))], ("number", "$1234.5"), "", 1.0),
    "up to midnight": (cycle("07:00", "24:00"), ("number", "h:mm"), "for minutes and seconds write", 86400.0),
    "no moment of MySQL": (cycle("2024-01-01 10:00:00", "0000-00-00 00:00:00", "2024-01-02 10:00:00"), ("datetime", None), "", None),
    "half days": (cycle("2024-01-31 01:05 AM", "2024-01-31 01:05 PM"), ("datetime", "%Y-%m-%d %I:%M %p"), "", datetime(2024, 1, 31, 13, 5)),
    "ordinals": (cycle("1st January 2024", "2nd May 2024"), ("category", None), "not as moments", "2nd May 2024"),
    "a minus and a blank": (cycle("- 7", "- 5.5", "3"), ("number", "1,234.5"), "'- 7' is read as -7", -5.5),
    "a comma's fraction": (cycle("07:05:05,123", "08:05:05,123"), ("category", None), "not as numbers", "08:05:05,123"),
    "proportions": (cycle("16:9", "4:3"), ("category", None), "", "4:3"),
    "part numbers": (cycle("4711-01", "4711-12"), ("category", None), "read as text", "4711-12"),
    "one odd of few": (["seven", *map(str, range(11, 51))], ("integer", None), "'seven' (1) is taken for null", 11),
    "dialed": (
        cycle("+48 512 345 678", "+48 601 234 567"),
        ("category", None),
        "values such as '+48 512 345 678' are dialed: read as text; to make 48512345678 of it write kind: number, format: '1 234,5'",
        "+48 601 234 567",
    ),
    "dialed, or unknown": (
        cycle(*(f"+48 512 {n + 100} {n * 37 % 1000:03}" for n in range(60)), "unbekannt"),
        ("text", None),
        "values such as '+48 512 100 000' are dialed: read as text",
        "+48 512 101 037",
    ),
    "gains and losses": (cycle("+1 250", "-1 500", "300"), ("number", "1 234,5"), "", -1500.0),
    "months alone in another language": (
        cycle("März 2024", "Mai 2024"),
        ("category", None),
        "'Mai 2024' are read as text, not as moments",
        "Mai 2024",
    ),
    "short months in another language": (cycle("janv. 24", "févr. 24"), ("category", None), "'févr. 24' are read as text", "févr. 24"),
    "a weekday in another language": (
        cycle("Montag, 4. März 2024", "Dienstag, 5. März 2024"),
        ("category", None),
        "'Montag, 4. März 2024' are read as text, not as moments",
        "Dienstag, 5. März 2024",
    ),
    "blanks within days": (cycle("2024. 01. 31.", "2024. 02. 01."), ("category", None), "not as moments", "2024. 02. 01."),
    "models of a year": (cycle("Golf 2010", "Polo 2011"), ("category", None), "", "Polo 2011"),
    "one year, and years": (
        cycle("1 year", "3 years", "10+ years"),
        ("category", None),
        "'1 year' are read as text, not as numbers",
        "3 years",
    ),
    "ranges of a unit": (cycle("0-9g/day", "10-19g/day"), ("category", None), "'0-9g/day' are read as text, not as numbers", "10-19g/day"),
    "codes with an E": (cycle("12E3", "7E1"), ("number", None), "'7E1' is read as 70: for codes write kind: category", 70.0),
    "weeks of a language": (cycle("S05-2023", "S06-2023"), ("category", None), "'S05-2023' are read as text, not as moments", "S06-2023"),
    "quarters of a language": (cycle("T1 2023", "T2 2023"), ("category", None), "'T1 2023' are read as text, not as moments", "T2 2023"),
    "a minus before a unit": (cycle("1.234,50- €", "7,25 €"), ("category", None), "'7,25 €' are read as text, not as numbers", "7,25 €"),
    "a word beside a few days": (
        cycle("Jan 3, 1985", "unknown", *(f"Jan {n}, 1985" for n in range(4, 14))),
        ("category", None),
        "not as moments",
        "unknown",
    ),
    "French hours": (cycle("8 h 30", "12 h 05"), ("category", None), "'8 h 30' are read as text, not as numbers", "12 h 05"),
}


@pytest.mark.parametrize("name", MEANT)
def test_what_a_person_takes_for_a_number_or_a_moment_is_read_as_one_or_said_to_be_text(name: str) -> None:
    values, described, said, second = MEANT[name]
    one = kind_of(values)
    assert (one.kind, one.format) == described
    assert said in one.note
    assert bool(one.note) == bool(said)
    column = Column(kind=one.kind, format=one.format, null_values=("", *one.here_alone, *dict(one.nothing)))
    assert cast_columns(pl.DataFrame({"x": values}), {"x": column})["x"][1] == second


def test_figures_that_may_be_hours_or_minutes_are_asked_for() -> None:
    why = kind_of(cycle("58:12", "1:02:33")).left_out
    assert why.startswith("nothing tells whether '12:34' is hours and minutes or minutes and seconds: write kind: number, format: 'h:mm'")
    assert kind_of(cycle("58:12.5", "1:02:33")).format == "m:ss"


def test_a_line_of_units_and_remarks_at_the_end_do_not_make_text_of_a_small_tables_numbers(tmp_path: Path) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "new.yaml"
    rows = [f"{n * 37 % 101},{n % 9 / 2},{n % 2}\n" for n in range(60)]
    source.write_text("size,weight,y\n(cm),kg,\n" + "".join(rows) + "\nSource: the ministry\n")
    made = starter(source, "y", config)
    config.write_text(made.text)
    settings = load_settings(config)
    assert {use.name: use.kind for use in made.columns} == {"size": "integer", "weight": "number", "y": "integer"}
    assert settings.ingest.max_broken_share == 0.05
    report = ingested(tmp_path, settings)[1]
    assert (report["rows_kept"], report["rows_broken"]) == (60, 2)


def test_what_is_null_among_numbers_is_a_value_among_categories(tmp_path: Path) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "new.yaml"
    signs = ["-", "–", "..", ":", "*", "…"]
    numbers = [[sign if n % 9 == 0 else f"{n * 7 % 113 / 4}" for sign in signs] for n in range(200)]
    rows = [",".join([*cells, "-+*"[n % 3], "ab"[n % 2]]) for n, cells in enumerate(numbers)]
    source.write_text("\n".join(["a,b,c,d,e,f,sign,y", *rows]) + "\n", encoding="utf-8")
    made = starter(source, "y", config)
    config.write_text(made.text, encoding="utf-8")
    assert [use.kind for use in made.columns] == ["number"] * 6 + ["category"] * 2
    assert all(f"'{sign}' stands for null in {name} (23)" in made.split for name, sign in zip("abcdef", signs, strict=True))
    table, report, _ = ingested(tmp_path, load_settings(config))
    assert report["rows_kept"] == 200
    assert [table[name].null_count() for name in "abcdef"] == [23] * 6
    assert table["sign"].value_counts().sort("sign").rows() == [("*", 66), ("+", 67), ("-", 67)]


def test_files_put_together_with_their_headers_have_no_class_of_that_name(tmp_path: Path) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "new.yaml"
    rows = [f"{'NS'[n % 2]},{n * 37 % 101},{['good', 'bad'][n % 7 < 3]}\n" for n in range(120)]
    source.write_text("region,size,y\n" + "".join(rows[:60]) + "region,size,y\n" + "".join(rows[60:]))
    made = starter(source, "y", config)
    config.write_text(made.text)
    assert "table.csv: a row that is the header again is set aside" in made.split
    settings = load_settings(config)
    assert (settings.dataset.task, settings.dataset.columns["size"].kind) == ("binary", "integer")
    _, report, quarantine = ingested(tmp_path, settings)
    assert (report["rows_kept"], report["broken_reasons"]) == (120, {"the header again": 1})
    assert quarantine.rows() == [("61", "the header again", "region,size,y")]


@pytest.mark.parametrize("line", ["------,----,---", ":-----,----:,:---:", "--,,--"])
def test_a_line_of_dashes_below_the_header_is_no_row(line: str, tmp_path: Path) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "new.yaml"
    rows = [f"{'NS'[n % 2]},{n * 37 % 101},{['good', 'bad'][n % 7 < 3]}\n" for n in range(120)]
    source.write_text(f"region,size,y\n{line}\n" + "".join(rows))
    made = starter(source, "y", config)
    config.write_text(made.text)
    assert "table.csv: a line between the header and the rows is set aside" in made.split
    settings = load_settings(config)
    assert (settings.dataset.task, settings.dataset.columns["size"].kind) == ("binary", "integer")
    _, report, quarantine = ingested(tmp_path, settings)
    assert report["rows_kept"] == 120
    assert quarantine.rows() == [("1", "a line between the header and the rows", harmless_text(line))]


def test_a_table_of_a_target_alone_is_told(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    source.write_text("y\n" + "yes\nno\n" * 30)
    with pytest.raises(PipelineError, match=r"table\.csv: has no column to learn 'y' from: give a table with others beside it$"):
        starter(source, "y", tmp_path / "new.yaml")
    source = tmp_path / "table.parquet"
    pl.DataFrame({"tags": [[n] for n in range(60)], "y": [0, 1] * 30}).write_parquet(source)
    with pytest.raises(PipelineError, match=r"others beside it; 'tags': each value holds several: store one value a cell$"):
        starter(source, "y", tmp_path / "new.yaml")


def test_a_class_of_one_row_is_named() -> None:
    def note(*more: str) -> str:
        columns = profiled(as_chunks([*cycle("good", "bad"), *more]))
        return kinds.task_of(columns["x"], kinds.described(columns, "x")["x"])[1].note

    assert note("string") == "'string' is a class of one row: mend it if it is none"
    assert note("fair", "fair") == note() == ""


def test_a_last_row_that_may_be_a_sum_is_named(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    rows = "".join(f"{'NS'[n % 2]},{n * 37 % 101},{n % 9}\n" for n in range(60))
    source.write_text("region,size,y\n" + rows + "Total:,2980,234\n")
    assert "the last row has 'Total:' in 'region': if it sums up the others" in starter(source, "y", tmp_path / "new.yaml").split
    source.write_text("region,size,y\nTotal:,2980,234\n" + rows)
    assert "Total" not in starter(source, "y", tmp_path / "new.yaml").split


def test_a_column_without_a_name_and_a_target_of_another_spelling_are_told(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    source.write_text("x,, Sold \n" + "".join(f"{n % 7},{n % 5},{n % 2}\n" for n in range(60)))
    for target in (" Sold ", "Sold"):
        why = {use.name: use.why for use in starter(source, target, tmp_path / "new.yaml").columns}
        assert why == {"x": "", "": "it has no name: give it one", "Sold": ""}
    with pytest.raises(PipelineError, match=r"has no column 'sold' \(is 'Sold' meant\?\): its columns are x, , Sold"):
        starter(source, "sold", tmp_path / "new.yaml")


def test_what_no_table_can_have_of_parquet_is_named_with_its_reason(tmp_path: Path) -> None:
    source = tmp_path / "table.parquet"
    columns = {"x": [n % 7 for n in range(60)], "raw": [b"\x00"] * 60, "who": [{"a": n} for n in range(60)], "y": [0, 1] * 30}
    pl.DataFrame(columns).write_parquet(source)
    why = {use.name: use.why for use in starter(source, "y", tmp_path / "new.yaml").columns if not use.used}
    assert why.pop("y", "") == ""
    assert why == {
        "raw": "bytes are no number, text or truth value: store it as text",
        "who": "each value is a record: give each of its fields a column of its own, as pyarrow's Table.flatten() does",
    }
    with pytest.raises(PipelineError, match=r"column 'who' holds struct<a: int64>, which .*: take it out, or give each of its"):
        starter(source, "who", tmp_path / "new.yaml")


@pytest.mark.parametrize("form", ["parquet", "json", "xlsx"])
def test_what_is_said_to_be_null_in_a_category_is_null_where_the_source_has_types(form: str, tmp_path: Path) -> None:
    source, config = tmp_path / f"table.{form}", tmp_path / "new.yaml"
    smokes, country = cycle("often", "NA", "never", "#N/A"), cycle("DE", "NA", "FR", "ZA")
    table = pl.DataFrame(
        {"smokes": smokes, "country": country, "size": [n * 37 % 101 for n in range(ROWS)], "y": cycle("a", "b", "NA", "b", "a")}
    )
    {"parquet": table.write_parquet, "json": table.write_json, "xlsx": table.write_excel}[form](source)  # type: ignore[operator]
    made = starter(source, "y", config)
    config.write_text(made.text, encoding="utf-8")
    said = " ".join(made.text.replace("\n  # ", " ").split())
    assert "'NA' stands for null in smokes (60), y (48)." in said
    assert "'#N/A' stands for null in smokes (60)." in said
    read, report, _ = ingested(tmp_path, load_settings(config))
    assert report["rows_without_target"] == 48
    assert set(read["smokes"]) == {"often", "never", None}
    assert set(read["country"]) == {"DE", "NA", "FR", "ZA"}


def test_durations_and_times_of_day_of_parquet_are_seconds(tmp_path: Path) -> None:
    source, config = tmp_path / "table.parquet", tmp_path / "new.yaml"
    took, at = [timedelta(seconds=n * 37 - 1) for n in range(60)], [time(n % 24, n) for n in range(60)]
    pl.DataFrame({"took": took, "at": at, "y": [0, 1] * 30}).write_parquet(source)
    made = starter(source, "y", config)
    config.write_text(made.text)
    described = {use.name: (use.kind, use.use, use.note) for use in made.columns}
    assert described["took"] == described["at"] == ("number", "feature", "a time of day, or how long something took, is read as seconds")
    table = ingested(tmp_path, load_settings(config))[0]
    assert table["took"].to_list() == [each.total_seconds() for each in took]
    assert table["at"].to_list() == [each.hour * 3600.0 + each.minute * 60 for each in at]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_durations_as_iso_writes_them_are_seconds(form: str, tmp_path: Path) -> None:
    source, config = tmp_path / f"table.{form}", tmp_path / "new.yaml"
    took = [timedelta(seconds=n * 37 - 1) for n in range(60)]
    term = [f"P{(1, 7, 30)[n % 3]}D" for n in range(60)]
    table = pl.DataFrame({"took": [pd.Timedelta(each).isoformat() for each in took], "term": term, "y": [0, 1] * 30})
    {"csv": table.write_csv, "json": table.write_json}[form](source)
    made = starter(source, "y", config)
    config.write_text(made.text)
    described = {use.name: (use.kind, use.use, use.note) for use in made.columns}
    assert described["took"] == ("number", "feature", "a time of day, or how long something took, is read as seconds")
    assert described["term"][0] == "category", "days alone may be codes"
    settings = load_settings(config)
    assert settings.dataset.columns["took"].format == "h:mm:ss"
    assert ingested(tmp_path, settings)[0]["took"].to_list() == [each.total_seconds() for each in took]


def test_a_column_of_lists_is_left_out_with_a_word(tmp_path: Path) -> None:
    source, config = tmp_path / "table.parquet", tmp_path / "new.yaml"
    pl.DataFrame({"x": [n % 7 for n in range(60)], "tags": [[n] for n in range(60)], "y": [0, 1] * 30}).write_parquet(source)
    made = starter(source, "y", config)
    config.write_text(made.text)
    assert "'tags' is no feature: each value holds several" in made.text
    assert ingested(tmp_path, load_settings(config))[1]["rows_kept"] == 60


def test_blanks_around_categories_are_no_part_of_them_with_a_word(tmp_path: Path) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "new.yaml"
    classes, nothing = ("good", " good", "bad ", "bad"), ("Bonn  ", "Köln", " NA ")
    source.write_text("x,city,y\n" + "".join(f"{n % 7},{nothing[n % 3]},{classes[n % 4]}\n" for n in range(60)))
    made = starter(source, "y", config)
    config.write_text(made.text)
    settings = load_settings(config)
    assert (settings.dataset.task, settings.dataset.source.trim) == ("binary", True)
    assert "blanks around a cell are no part of it: 'city', 'y' would hold one value in several spellings" in made.split
    table = ingested(tmp_path, settings)[0]
    assert (set(table["y"]), set(table["city"])) == ({"good", "bad"}, {"Bonn", "Köln", None})


def test_a_second_column_of_the_targets_name_is_no_feature(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    source.write_text("a,y,y,a\n" + "".join(f"{n * 37 % 11},{n % 2},{n % 2},{n * 5 % 13}\n" for n in range(90)))
    uses = {use.name: (use.use, use.why) for use in starter(source, "y", tmp_path / "new.yaml").columns}
    assert uses["y_2"] == ("left out", "the header calls it 'y' as well, which is the target")
    assert {name: use for name, (use, _) in uses.items()} == {"a": "feature", "y": "target", "y_2": "left out", "a_2": "feature"}


def test_a_suspected_leak_is_named_when_the_table_is_described(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    rows = range(300)
    pl.DataFrame({"x": [n * 37 % 101 for n in rows], "paid": [n % 3 // 2 * 9 for n in rows], "y": [n % 3 // 2 for n in rows]}).write_csv(
        source
    )
    made = starter(source, "y", tmp_path / "new.yaml")
    assert {use.name: use.use for use in made.columns} == {"x": "feature", "paid": "left out", "y": "target"}
    assert "'paid' is no feature: suspected leak: alone it tells the target with AUC 1.000" in " ".join(
        made.text.replace("\n# ", " ").split()
    )
    assert "exclude" not in made.text, "the run decides, on all rows"


def test_rows_of_one_patient_on_both_sides_of_a_random_split_are_said_with_what_keeps_them_together(tmp_path: Path) -> None:
    source, config = tmp_path / "table.csv", tmp_path / "new.yaml"
    numbers = range(300)
    rows = {"Patient #": [n % 60 for n in numbers], "size": [n * 37 % 101 for n in numbers], "y": [n % 7 / 2 for n in numbers]}
    pl.DataFrame(rows).write_csv(source)
    note = {use.name: use.note for use in starter(source, "y", config).columns}["Patient #"]
    assert note.startswith("rows of one 'Patient #' are on both sides of the split, which flatters")
    assert note.endswith('then write split: {kind: stratified, together: ["Patient #"]}')
    pl.DataFrame({**rows, "paid": rows["Patient #"], "Patient #": list(range(0, 600, 2))}).write_csv(source)
    assert all("both sides" not in use.note for use in starter(source, "y", config).columns)
    pl.DataFrame({**rows, "day": [datetime(2024, 1, 1) + timedelta(days=n) for n in range(300)]}).write_csv(source)
    assert all("both sides" not in use.note for use in starter(source, "y", config).columns), "later rows of the same are what is asked for"


@pytest.mark.parametrize(
    "name", ["customer_id", "CustomerID", "custid", "Patient #", "patient_no", "subject", "id", "student_code", "Member"]
)
def test_a_column_that_names_whom_rows_belong_to_is_known_by_its_name(name: str) -> None:
    assert names_things(name)


@pytest.mark.parametrize(
    "name", ["year", "store", "paid", "customer_age", "n_customers", "household_size", "valid", "users", "code", "name"]
)
def test_a_column_that_tells_something_of_a_row_names_no_thing(name: str) -> None:
    assert not names_things(name)


def test_of_many_columns_those_with_something_to_say_come_first_and_each_other_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    plain = [ColumnUse(f"n{place}", "number", "feature") for place in range(300)]
    said = [
        ColumnUse("y", "integer", "target"),
        ColumnUse("id", "integer", "left out", "identifier"),
        ColumnUse("d", "datetime", "feature", "", "odd"),
    ]
    Console(width=100).print(as_table([*plain, *said]))
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) < 60
    assert printed.index("identifier") < printed.index("300 columns")
    assert {f"n{place}" for place in range(300)} <= set(re.findall(r"n\d+", printed))
    Console(width=100).print(as_table([*plain[:20], *said]))
    assert capsys.readouterr().out.count("number") == 20


@pytest.mark.parametrize("values", [["500", "700", "900", "3M", "5M"], ["12", "14", "15", "12m"], ["12", "14", "15", "12B"]])
@pytest.mark.parametrize("rows", [10, 400])
def test_an_amount_with_a_glued_letter_beside_plain_numbers_is_no_number(values: list[str], rows: int) -> None:
    """3M may be three millions, and 12B a house: neither is 3 beside 500, however few there are."""
    plain, odd = [each for each in values if each.isdigit()], [each for each in values if not each.isdigit()]
    made = kinds.described(profile_of(pl.DataFrame({"x": [*(plain * rows), *odd]})), "y")["x"]
    assert made.format is None
    assert made.kind != "number" or made.odd == len(odd)


@pytest.mark.parametrize("rows", [40, 1_000])
def test_a_slip_that_says_how_all_others_are_written_is_told(rows: int) -> None:
    made = kinds.described(profile_of(pl.DataFrame({"x": [*(f"1,{100 + n % 900}" for n in range(rows)), "12,5"]})), "y")["x"]
    assert (made.format, made.odd) == ("1234,5", 0)
    assert "'1,100' is read as 1.1, as 1 value can be read in no other way: if that is a slip, write format: '1,234.5'" in made.note


def test_money_whose_points_stand_before_three_digits_alone_is_no_thousandth_of_it(tmp_path: Path) -> None:
    source = tmp_path / "flats.csv"
    prices = itertools.cycle(["COP 900", "COP 7.250", "COP 45.900", "COP 1.125.900"])
    rents, tips = itertools.cycle(["€7.250", "€12.500", "€45.900"]), itertools.cycle(["$7.250", "$12.500", "$45.900"])
    rows = [
        f"{price},{rent},{tip},{n % 7},{['yes', 'no'][n % 2]}" for n, price, rent, tip in zip(range(300), prices, rents, tips, strict=False)
    ]
    source.write_text("\n".join(["price,rent,tip,size,kept", *rows]) + "\n", encoding="utf-8")
    config = tmp_path / "flats.yaml"
    config.write_text(starter(source, "kept", config).text, encoding="utf-8")
    table, _, _ = ingested(tmp_path, load_settings(config))
    assert table["price"].head(4).to_list() == [900, 7250, 45900, 1125900]
    assert table["rent"].head(3).to_list() == [7250, 12500, 45900]
    assert table["tip"].head(3).to_list() == [7.25, 12.5, 45.9]
    told = " ".join(config.read_text(encoding="utf-8").replace("\n  # ", " ").split())
    assert "'€7.250' is read as 7250, as money has no three decimals; if it means 7.25, write format: '€1,234.5'" in told


@pytest.mark.parametrize("delimiter", [";", ","])
def test_money_whose_commas_stand_before_three_digits_alone_is_no_thousandth_of_it(delimiter: str, tmp_path: Path) -> None:
    source, config = tmp_path / "flats.csv", tmp_path / "flats.yaml"
    rents, prices = itertools.cycle(["€1,250", "€900", "€12,500"]), itertools.cycle(["97,950 CHF", "120,000 CHF", "88,125 CHF"])
    rows = [f'"{rent}"{delimiter}"{price}"{delimiter}{n * 37 % 11}' for n, rent, price in zip(range(90), rents, prices, strict=False)]
    source.write_text("\n".join([delimiter.join(["rent", "price", "y"]), *rows]) + "\n", encoding="utf-8")
    config.write_text(starter(source, "y", config).text, encoding="utf-8")
    table, _, _ = ingested(tmp_path, load_settings(config))
    assert table["rent"].head(3).to_list() == [1250, 900, 12500]
    assert table["price"].head(3).to_list() == [97950, 120000, 88125]


def test_dollars_with_three_digits_behind_their_points_are_told_where_others_have_decimal_commas(tmp_path: Path) -> None:
    source = tmp_path / "flats.csv"
    rows = [f"${n % 9 + 1}.{n * 7 % 900 + 100};{n},5;{n % 2}" for n in range(90)]
    source.write_text("\n".join(["rent;size;y", *rows]) + "\n", encoding="utf-8")
    notes = {use.name: use.note for use in starter(source, "y", tmp_path / "new.yaml").columns}
    assert notes["rent"] == "'$1.100' is read as 1.1; if it means 1100, write format: '$1.234,5'"


@pytest.mark.parametrize("unit", ["€/l", "Frauen"])
def test_what_is_no_amount_of_money_alone_is_asked_for(unit: str, tmp_path: Path) -> None:
    source = tmp_path / "prices.csv"
    rows = [f"1,{n * 7 % 900 + 100} {unit};{n * 13 % 101};{n * 37 % 11}" for n in range(90)]
    source.write_text("\n".join(["price;size;y", *rows]) + "\n", encoding="utf-8")
    (use,) = (use for use in starter(source, "y", tmp_path / "new.yaml").columns if use.name == "price")
    assert use.use == "left out"
    assert use.why.startswith("nothing tells whether '1,234' is 1234 or 1.234")


BOTH_SIGNS: dict[str, tuple[list[str], str]] = {
    # values by turns; what cannot be told of them, empty where something can
    "money": (["€1.250", "€2,300", "€900"], "'€1.250' beside '€2,300' is 1.25 or 1250"),
    "no unit": (["1.250", "2,300", "900"], "'1.250' beside '2,300' is 1.25 or 1250"),
    "with decimal points": (["€1.250", "€2,300", "€2,300.50"], ""),
    "with a longer fraction": (["1.2505 kg", "2,300 kg"], ""),
    "with a fraction of one": (["0.250 kg", "2,300 kg"], ""),
    "with decimal commas": (["€1.250", "€2,300", "€1.250,50"], ""),
}


@pytest.mark.parametrize("case", BOTH_SIGNS)
def test_where_both_signs_may_part_thousands_the_column_is_asked_for(case: str, tmp_path: Path) -> None:
    source, config = tmp_path / "flats.csv", tmp_path / "flats.yaml"
    values, doubt = BOTH_SIGNS[case]
    rows = [f"{values[n % len(values)]};{n * 13 % 101};{n * 37 % 11}" for n in range(90)]
    source.write_text("\n".join(["price;size;y", *rows]) + "\n", encoding="utf-8")
    (use,) = (use for use in starter(source, "y", config).columns if use.name == "price")
    assert (use.use, use.why[: len(f"nothing tells whether {doubt}")]) == (
        ("left out", f"nothing tells whether {doubt}") if doubt else ("feature", "")
    )
    if doubt:
        with pytest.raises(PipelineError, match=r"--target price: nothing tells .*, or write the settings by mlops init, with --source"):
            starter(source, "price", config)
        told = {"decimal": ".", "thousands": ","}
        assert next(use.use for use in starter(source, "y", config, given=told).columns if use.name == "price") == "feature"


UNDER_A_TELEPHONES_NAME: dict[str, tuple[list[Any], bool]] = {
    "phone": ([5_551_000_000 + n * 7919 for n in range(ROWS)], True),
    "phone_number": ([f"{5_551_000_000 + n * 7919}" for n in range(ROWS)], True),
    "telephone": ([f"+49 30 {1_000_000 + n * 7919}" for n in range(ROWS)], True),
    "fax": ([f"512 {n + 100} {n * 37 % 1000:03}" for n in range(ROWS)], True),
    "phone_calls": ([n * 37 % 241 for n in range(ROWS)], False),
    "phone_bill": ([f"€{n * 37 % 241}.{n % 100:02}" for n in range(ROWS)], False),
    "phone_minutes": ([f"{n * 37 % 241}:{n % 60:02}" for n in range(ROWS)], False),
    "last_phone_call": ([f"2024-01-{n % 28 + 1:02} 10:{n // 28:02}" for n in range(ROWS)], False),
    "phone_transcript": ([f"please call again about {n} and its delivery" for n in range(ROWS)], False),
}


@pytest.mark.parametrize("name", UNDER_A_TELEPHONES_NAME)
def test_under_a_telephones_name_what_is_dialed_is_no_feature_and_what_is_measured_is_one(name: str) -> None:
    values, is_dialed = UNDER_A_TELEPHONES_NAME[name]
    table = pl.DataFrame({"size": [n * 53 % 97 for n in range(ROWS)], name: values})
    assert kinds.described(profile_of(table), "y")[name].left_out == ("identifier: 240 different values in 240 rows" if is_dialed else "")
