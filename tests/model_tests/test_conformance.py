"""The same row is the same prediction to the bit, or refused for the same reason, whatever way it comes in.

Every row of :data:`ROWS` is told with what it means: another row in plain values, or the reason of its refusal.
The model was made by the version before the contract had a number, and is read as it stands.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import shutil
import struct
from collections.abc import Callable
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.contract.values import CLOCKS
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.batch import predict_file
from mlops_pipeline.inference.engine import score
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.frames import judged
from mlops_pipeline.inference.scorer import Scorer, load_scorer, scorer_of
from mlops_pipeline.inference.signature import Rows, Signature
from mlops_pipeline.serving.protocol import open_inference
from mlops_pipeline.serving.protocol.invocations import Invocations
from mlops_pipeline.serving.protocol.predict import Predict
from mlops_pipeline.tables.cast import as_numbers
from mlops_pipeline.tables.source import read_file
from tests.conftest import HERE
from tests.unit_tests.workshop import quiet

MODEL = HERE / "models_made_before/stays/model"
KINDS = {"age": "integer", "score": "number", "member": "boolean", "plan": "category", "floor": "category"}
PLAIN: dict[str, Any] = {"age": 41, "score": 0.25, "member": True, "plan": "pro", "floor": "2"}
ABSENT: Any = object()
NAN, INFINITY = math.nan, math.inf

Row = dict[str, Any]
Outcome = str | bytes
"""The bytes of the outputs, or the reason of the refusal."""

ROWS: dict[str, tuple[Row, Row | str]] = {
    # name: what is changed of a plain row; what it means, as plain values, or why it is refused
    "plain": ({}, {}),
    **{
        f"true as {word!r}": ({"member": word}, {"member": True})
        for word in (1, 1.0, "true", "TRUE", "t", "yes", "Yes", "Y", "1", "1.0", " yes ")
    },
    **{f"false as {word!r}": ({"member": word}, {"member": False}) for word in (False, 0, 0.0, -0.0, "false", "F", "no", "N", "0", "0.0")},
    **{f"no truth, {word!r}": ({"member": word}, "wrong_type") for word in ("maybe", "on", "ja")},
    "a truth of 2 as text": ({"member": "2"}, "out_of_bounds"),
    "a truth of 2": ({"member": 2}, "out_of_bounds"),
    "a truth of a half": ({"member": 0.5}, "wrong_type"),
    **{f"a null number as {word!r}": ({"score": word}, {"score": None}) for word in (None, "", "NA", "NaN", "null", "None", NAN, " NA ")},
    **{f"a null category as {word!r}": ({"plan": word}, {"plan": None}) for word in (None, "", "NA", "null")},
    **{f"a null truth as {word!r}": ({"member": word}, {"member": None}) for word in (None, "None", NAN)},
    **{f"null where none may be, {word!r}": ({"age": word}, "null") for word in (None, "", "NA", NAN)},
    "a whole number as a float": ({"age": 41.0}, {"age": 41}),
    "a whole number as text": ({"age": "41"}, {"age": 41}),
    "a whole float as text": ({"age": "41.0"}, {"age": 41}),
    "a whole number with blanks": ({"age": " 41 "}, {"age": 41}),
    "leading zeros of a number": ({"age": "0041"}, {"age": 41}),
    "an exponent": ({"age": "4.1e1"}, {"age": 41}),
    "a plus": ({"score": "+.25"}, {"score": 0.25}),
    "half a year": ({"age": 41.5}, "wrong_type"),
    "half a year as text": ({"age": "41.5"}, "wrong_type"),
    "no number": ({"score": "high"}, "wrong_type"),
    "a comma": ({"score": "0,25"}, "wrong_type"),
    "an underscore": ({"age": "4_1"}, "wrong_type"),
    "a truth for a number": ({"score": True}, "wrong_type"),
    "a truth for an integer": ({"age": True}, "wrong_type"),
    "too young": ({"age": 17}, "out_of_bounds"),
    "too old as text": ({"age": "121"}, "out_of_bounds"),
    "2^53 - 1": ({"age": 2**53 - 1}, "out_of_bounds"),
    "2^53 + 1": ({"age": 2**53 + 1}, "out_of_bounds"),
    "2^60": ({"age": 2**60}, "out_of_bounds"),
    "2^53 - 1 where any number may be": ({"score": 2**53 - 1}, {"score": float(2**53)}),
    "2^53 + 1 where any number may be": ({"score": 2**53 + 1}, {"score": float(2**53)}),
    "2^60 where any number may be": ({"score": 2**60}, {"score": float(2**60)}),
    "10^23": ({"score": 1e23}, {"score": 1e23}),
    "10^23 as text": ({"score": "1e23"}, {"score": 1e23}),
    "1e39, more than a 32-bit float": ({"score": 1e39}, "out_of_bounds"),
    "-1e39 as text": ({"score": "-1e39"}, "out_of_bounds"),
    "1e400 as text": ({"score": "1e400"}, "not_finite"),
    "infinity": ({"score": INFINITY}, "not_finite"),
    "minus infinity as text": ({"score": "-inf"}, "not_finite"),
    "minus zero": ({"score": -0.0}, {"score": 0.0}),
    "subnormal": ({"score": 5e-324}, {"score": 0.0}),
    "a 32-bit subnormal": ({"score": 1e-45}, {"score": 1e-45}),
    "seventeen digits": ({"score": 0.1 + 0.2}, {"score": 0.30000000000000004}),
    "a category stored as an integer": ({"floor": 2}, {"floor": "2"}),
    "a category stored as a float": ({"floor": 2.0}, {"floor": "2"}),
    "a category written as a float": ({"floor": "2.0"}, {"floor": "2"}),
    "a category with blanks": ({"plan": " pro "}, {"plan": "pro"}),
    "a category with leading zeros": ({"floor": "02"}, {"floor": "unseen"}),
    "a category of a fraction": ({"floor": 2.5}, {"floor": "unseen"}),
    "a category of another case": ({"plan": "Pro"}, {"plan": "unseen"}),
    "an unseen category": ({"plan": "gold"}, {"plan": "unseen"}),
    "an unseen integer": ({"floor": 77}, {"floor": "unseen"}),
    "a category of a truth": ({"plan": True}, {"plan": "unseen"}),
    "a date as a category": ({"plan": "2013-01-31"}, {"plan": "unseen"}),
    "a moment with its zone as a category": ({"plan": "2013-01-31T10:00:00+02:00"}, {"plan": "unseen"}),
    "a category that is a word of Python": ({"plan": "nan"}, {"plan": "unseen"}),
    "umlauts and an emoji": ({"plan": "Größe 😀"}, {"plan": "unseen"}),
    "a quote, a comma and a line": ({"plan": 'a "b", c\nd'}, {"plan": "unseen"}),
    "a column that may be null is missing": ({"score": ABSENT}, {"score": None}),
    "a category that may be null is missing": ({"plan": ABSENT}, {"plan": None}),
    "a column that must be there is missing": ({"age": ABSENT}, "missing_column"),
}


GERMAN = "1.234,5 €"
WRITTEN: dict[str, tuple[Row, Row | str]] = {
    # the same, where the column `score` says that 1234.5 is written as GERMAN tells; numbers that are no text are what they are
    "a plain row": ({}, {}),
    "a number is a number": ({"score": 1234.5}, {"score": 1234.5}),
    **{f"a whole number, {number}": ({"score": number}, {"score": number}) for number in (3, 12, 100)},
    "a number of three decimals is no thousand": ({"score": 1.234}, {"score": 1.234}),
    "a decimal comma": ({"score": "0,25"}, {"score": 0.25}),
    "a bare comma": ({"score": ",5"}, {"score": 0.5}),
    "thousands": ({"score": "1.234.567,5"}, {"score": 1234567.5}),
    "a text of three decimals is a thousand": ({"score": "1.234"}, {"score": 1234.0}),
    "a zero before three decimals is no thousand": ({"score": "0.361"}, "wrong_type"),
    "no mark between thousands": ({"score": "1234,5"}, {"score": 1234.5}),
    "a unit": ({"score": " -1.234,50 € "}, {"score": -1234.5}),
    "a unit without a blank": ({"score": "+12€"}, {"score": 12.0}),
    "an exponent": ({"score": "1,5e3"}, {"score": 1500.0}),
    "an accountant's minus": ({"score": "(1.234,50)"}, {"score": -1234.5}),
    "the same around a unit": ({"score": "(1.234,50 €)"}, {"score": -1234.5}),
    "the same before a unit": ({"score": "(1.234,50) €"}, {"score": -1234.5}),
    "a minus behind": ({"score": "1.234,50-"}, {"score": -1234.5}),
    "a true minus": ({"score": "−1.234,50"}, {"score": -1234.5}),
    "a minus and a blank": ({"score": "- 1.234,50 €"}, {"score": -1234.5}),
    "a true minus and a blank": ({"score": "–\u00a05"}, {"score": -5.0}),
    "two minuses and a blank": ({"score": "- -5"}, "wrong_type"),
    "a dash for no cents": ({"score": "1.234,-"}, {"score": 1234.0}),
    "two dashes": ({"score": "5,--"}, {"score": 5.0}),
    "two minuses": ({"score": "-(5)"}, "wrong_type"),
    "a minus before and behind": ({"score": "-5-"}, "wrong_type"),
    "a remark in brackets": ({"score": "5 (2)"}, "wrong_type"),
    "a span": ({"score": "3–5"}, "wrong_type"),
    "another unit": ({"score": "12 $"}, "wrong_type"),
    "a decimal point": ({"score": "0.25"}, "wrong_type"),
    "thousands of two digits": ({"score": "1.23.456"}, "wrong_type"),
    "two signs": ({"score": "+-5"}, "wrong_type"),
    "a unit alone": ({"score": "€"}, "wrong_type"),
    "infinity": ({"score": "inf"}, "not_finite"),
    "NaN": ({"score": "NaN"}, {"score": None}),
    "the column's own word for null": ({"score": "k. A."}, {"score": None}),
    "another column's word for null": ({"age": "k. A."}, "wrong_type"),
    "a column without that word for null": ({"score": "NA"}, "wrong_type"),
    "a null where the others have one": ({"member": "NA"}, {"member": None}),
}


def row_of(changes: Row) -> Row:
    return {name: value for name, value in {**PLAIN, **changes}.items() if value is not ABSENT}


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load_scorer(MODEL)


def requested(scorer: Scorer, read: Callable[[], Rows]) -> Outcome:
    try:
        rows = read()
    except Refused as refusal:
        return refusal.reason
    return score(scorer.engine, rows.numbers, rows.categories).tobytes()


def of_frame(scorer: Scorer, table: pl.DataFrame) -> Outcome:
    try:
        done = scorer.score(table)
    except Refused as refusal:
        return refusal.reason
    return done.faults[0].reason if done.faults else done.outputs.tobytes()


def of_file(scorer: Scorer, folder: Path, name: str, write: Callable[[Path], Any]) -> Outcome:
    """What `mlops predict` makes of a file of one row."""
    write(folder / name)
    out = folder / "out.parquet"
    model = folder / "model" if (folder / "model").exists() else MODEL
    try:
        predict_file(model, folder / name, out, quiet())
    except PipelineError as error:
        if "is missing" in str(error):
            return "missing_column"
        return pl.read_csv(folder / "out.rejected.csv", infer_schema=False)["reason"][0].partition(":")[0]
    made = pl.read_parquet(out)
    return made.select("probability_0", "probability_1").cast(pl.Float32).to_numpy().tobytes()


def as_cell(value: Any) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if set(text) & set('",\r\n') else text


def as_csv(row: Row) -> str:
    return ",".join(row) + "\n" + ",".join(map(as_cell, row.values())) + "\n"


def as_table(row: Row) -> pl.DataFrame:
    types = {str: pl.String, bool: pl.Boolean, int: pl.Int64, float: pl.Float64}
    nothing = {"category": pl.String, "boolean": pl.Boolean}
    return pl.DataFrame(
        {
            name: pl.Series([value], dtype=types.get(type(value), nothing.get(KINDS[name], pl.Float64)), strict=False)
            for name, value in row.items()
        }
    )


def stored(row: Row, changed: Row, into: pl.DataType | type[pl.DataType]) -> pl.DataFrame | None:
    """The table with what was changed stored in another type; None if that type cannot hold it exactly."""
    table = as_table(row)
    for name in changed:
        if name not in table.columns or table[name].null_count():
            return None
        try:
            other = table[name].cast(into)
        except pl.exceptions.PolarsError:
            return None
        if table[name].dtype == pl.Boolean or other.cast(table[name].dtype).to_list() != table[name].to_list():
            return None
        table = table.with_columns(other)
    return table if changed else None


def infer(row: Row, *, binary: bool) -> tuple[bytes, int | None] | None:
    """A request of the open inference protocol; None where its typed tensors cannot say a value."""
    inputs, blocks = [], []
    for name, value in row.items():
        kind, many = KINDS[name], np.array([value]) if not isinstance(value, str) else None
        if kind == "category":
            if value is not None and not isinstance(value, str):
                return None
            datatype = "BYTES"
            block = None if value is None else struct.pack("<I", len(value.encode())) + value.encode()
        elif isinstance(value, str):
            return None
        elif isinstance(value, bool):
            datatype, block = "BOOL", bytes([value])
        elif isinstance(value, int) and kind != "boolean":
            datatype, block = "INT64", struct.pack("<q", value)
        else:
            datatype, block = "FP64", struct.pack("<d", NAN if value is None else value)
        assert many is None or len(many) == 1
        tensor: dict[str, Any] = {"name": name, "shape": [1], "datatype": datatype}
        if binary and block is not None:
            tensor["parameters"] = {"binary_data_size": len(block)}
            blocks.append(block)
        elif isinstance(value, float) and math.isinf(value):
            return None
        else:
            tensor["data"] = [None if isinstance(value, float) and math.isnan(value) else value]
        inputs.append(tensor)
    header = json.dumps({"inputs": inputs}).encode()
    return (header + b"".join(blocks), len(header)) if binary else (header, None)


def split(row: Row) -> dict[str, Any]:
    return {"columns": list(row), "data": [list(row.values())]}


Way = Callable[[Scorer, Row, Row, Path], Outcome | None]
"""From a row, and what of it was changed, to its outcome; None where the way cannot say the row."""


def by_invocations(form: Callable[[Row], dict[str, Any]]) -> Way:
    return lambda scorer, row, _changed, _folder: requested(
        scorer, lambda: Invocations(scorer.signature).rows(json.dumps(form(row)).encode())
    )


def by_protocol(*, binary: bool) -> Way:
    def way(scorer: Scorer, row: Row, _changed: Row, _folder: Path) -> Outcome | None:
        body = infer(row, binary=binary)
        return None if body is None else requested(scorer, lambda: open_inference.parse(scorer.signature, *body).rows)

    return way


def by_storage(into: Any, *, file: bool) -> Way:
    def way(scorer: Scorer, row: Row, changed: Row, folder: Path) -> Outcome | None:
        table = stored(row, changed, into)
        if table is None:
            return None
        return of_file(scorer, folder, "in.parquet", table.write_parquet) if file else of_frame(scorer, table)

    return way


def as_rows(row: Row) -> dict[str, Any]:
    # Rows without names have the model's order, and every column.
    return {"instances": [[row.get(name) for name in ("age", "score", "member", "plan", "floor")]]}


STORED = {
    "Int16": pl.Int16,
    "Int32": pl.Int32,
    "UInt8": pl.UInt8,
    "UInt64": pl.UInt64,
    "Float32": pl.Float32,
    "Float64": pl.Float64,
    "Decimal": pl.Decimal(38, 6),
    "Categorical": pl.Categorical,
    "String": pl.String,
}

STORED_AS_NUMBERS = {f"Parquet, {name}" for name in STORED if name not in ("Categorical", "String")}
"""Ways that no word comes in by."""

WAYS: dict[str, Way] = {
    "records": lambda scorer, row, _changed, _folder: requested(
        scorer, lambda: Predict(scorer.signature, "m", "1").rows(json.dumps({"records": [row]}).encode())
    ),
    "records, reordered": lambda scorer, row, _changed, _folder: (
        requested(scorer, lambda: Predict(scorer.signature, "m", "1").rows(json.dumps({"records": [dict(reversed(row.items()))]}).encode()))
        if all(not isinstance(value, float) or math.isfinite(value) for value in row.values())
        else None
    ),
    "dataframe_split": by_invocations(lambda row: {"dataframe_split": split(row)}),
    "dataframe_records": by_invocations(lambda row: {"dataframe_records": [row]}),
    "instances": by_invocations(lambda row: {"instances": [row]}),
    "rows": by_invocations(as_rows),
    "inputs": by_invocations(lambda row: {"inputs": {name: [value] for name, value in row.items()}}),
    "a request's CSV": lambda scorer, row, _changed, _folder: requested(
        scorer, lambda: Invocations(scorer.signature).rows_of_csv(as_csv(row).encode())
    ),
    "OIP": by_protocol(binary=False),
    "OIP, binary": by_protocol(binary=True),
    "a CSV file": lambda scorer, row, _changed, folder: of_file(scorer, folder, "in.csv", lambda path: path.write_text(as_csv(row))),
    "a Parquet file": lambda scorer, row, _changed, folder: of_file(scorer, folder, "in.parquet", as_table(row).write_parquet),
    **{f"Parquet, {name}": by_storage(into, file=True) for name, into in STORED.items()},
    "a Polars frame": lambda scorer, row, _changed, _folder: of_frame(scorer, as_table(row)),
    "a frame with an Enum": lambda scorer, row, changed, folder: by_storage(
        pl.Enum(sorted({value for value in changed.values() if isinstance(value, str)})), file=False
    )(scorer, row, changed, folder),
    "a pandas frame": lambda scorer, row, _changed, _folder: of_frame(scorer, pl.from_pandas(pd.DataFrame([row]))),
}


def expected(scorer: Scorer, meaning: Row | str) -> Outcome:
    """What plain values say, by the engine itself."""
    if isinstance(meaning, str):
        return meaning
    row = {**PLAIN, **meaning}
    numbers = np.array([[NAN if row[name] is None else float(row[name]) for name in ("age", "score", "member")]], dtype=np.float32)
    categories = np.array([["(missing)" if row[name] is None else row[name] for name in ("plan", "floor")]], dtype=object)
    return score(scorer.engine, numbers, categories).tobytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_row_means_the_same_by_every_way(way: str, scorer: Scorer, tmp_path: Path) -> None:
    assert_same(way, scorer, tmp_path, ROWS)


@pytest.mark.parametrize("way", WAYS)
def test_numbers_in_their_owners_writing_mean_the_same_by_every_way(way: str, tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    contract = json.loads((tmp_path / "model/training.json").read_text())
    contract["columns"]["score"] |= {"format": GERMAN, "null_values": ["", "k. A."]}
    (tmp_path / "model/training.json").write_text(json.dumps(contract))
    # A way that knows text alone cannot say a number that is none, and a column of numbers no text.
    texts = way in ("a request's CSV", "a CSV file", "Parquet, String")
    unsaid = (int, float) if texts else str if way in STORED_AS_NUMBERS else ()
    rows = {name: row for name, row in WRITTEN.items() if not isinstance(row[0].get("score"), unsaid)}
    assert_same(way, load_scorer(tmp_path / "model"), tmp_path, rows, {"score": "0,25"})


CLOCK: dict[str, tuple[Row, Row | str]] = {
    # the same, where `score` is a time of day, or how long something took, as seconds
    "hours and minutes": ({"score": "7:05"}, {"score": 25500.0}),
    "a zero before": ({"score": " 07:05 "}, {"score": 25500.0}),
    "seconds too": ({"score": "07:05:30.5"}, {"score": 25530.5}),
    "the afternoon": ({"score": "7:05 PM"}, {"score": 68700.0}),
    "midnight": ({"score": "12:00 a.m."}, {"score": 0.0}),
    "noon": ({"score": "12:00pm"}, {"score": 43200.0}),
    "no hour of a half day": ({"score": "13:00 PM"}, "wrong_type"),
    "days": ({"score": "2 days 03:00:00"}, {"score": 183600.0}),
    "longer than a day": ({"score": "100:00"}, {"score": 360000.0}),
    "less than nothing, as Python has it": ({"score": "-1 day, 23:00:00"}, {"score": -3600.0}),
    "as pandas has it": ({"score": "-2 days +03:00:00.5"}, {"score": -162000.0 + 0.5}),
    "as PostgreSQL has it": ({"score": "-1 days -02:00:00"}, {"score": -93600.0}),
    "a day less an hour": ({"score": "1 day -01:00:00"}, {"score": 82800.0}),
    "days that are all less than nothing": ({"score": "-2 days 03:00:00"}, {"score": -183600.0}),
    "a minus": ({"score": "-0:30"}, {"score": -1800.0}),
    "ISO 8601, as pandas has it": ({"score": "P0DT0H20M0S"}, {"score": 1200.0}),
    "a day and the rest of it": ({"score": " P2DT3H4M5.25S "}, {"score": 183845.25}),
    "a second less than nothing, as pandas has it": ({"score": "P-1DT23H59M59S"}, {"score": -1.0}),
    "the same, as Polars has it": ({"score": "-PT1S"}, {"score": -1.0}),
    "as PostgreSQL has ISO's": ({"score": "P-1DT-2H-0.5S"}, {"score": -93600.5}),
    "hours alone": ({"score": "PT36H"}, {"score": 129600.0}),
    "a fraction of an hour, with a comma": ({"score": "PT1,5H"}, {"score": 5400.0}),
    "weeks": ({"score": "P2W"}, {"score": 1209600.0}),
    "no years and no months": ({"score": "P0Y0M1DT0H"}, {"score": 86400.0}),
    **{
        f"no duration, {text}": ({"score": text}, "wrong_type")
        for text in ("P", "PT", "P1DT", "P1H", "PT1D", "1D", "P1D2H", "P T1S", "PP1D")
    },
    **{f"of no fixed length, {text}": ({"score": text}, "wrong_type") for text in ("P1Y", "P1M", "P1Y2M3DT4H", "-P3M")},
    "no minute": ({"score": "7:60"}, "wrong_type"),
    "a fraction of a minute": ({"score": "7:05.5"}, "wrong_type"),
    **{f"a number is a number, {number}": ({"score": number}, {"score": number}) for number in (25500.0, 60, 0)},
    "a number as text": ({"score": "25500"}, "wrong_type"),
    "nothing": ({"score": ""}, {"score": None}),
    "no number": ({"score": "nan"}, {"score": None}),
}


@pytest.mark.parametrize("way", [way for way in WAYS if way not in STORED_AS_NUMBERS])
def test_times_of_day_and_durations_mean_the_same_by_every_way(way: str, tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    contract = json.loads((tmp_path / "model/training.json").read_text())
    contract["columns"]["score"] |= {"format": "h:mm"}
    (tmp_path / "model/training.json").write_text(json.dumps(contract))
    texts = way in ("a request's CSV", "a CSV file", "Parquet, String")
    rows = {name: row for name, row in CLOCK.items() if not (texts and not isinstance(row[0]["score"], str))}
    assert_same(way, load_scorer(tmp_path / "model"), tmp_path, rows, {"score": "0:25"})


def test_a_duration_of_months_is_refused_with_the_reason() -> None:
    contract = Contract(task="regression", columns={"v": Column("number", format="h:mm:ss")})
    with pytest.raises(Refused) as refusal:
        Signature.of(contract).from_columns({"v": ["P1Y2M"]})
    assert refusal.value.faults[0].detail == (
        "row 0, column 'v' is 'P1Y2M', not a number: years and months have no fixed length: give days, hours, minutes or seconds"
    )


def test_typed_times_of_day_and_durations_are_seconds() -> None:
    assert as_numbers(pl.Series("score", [time(7, 5, 30, 500_000), None]), "number").to_list() == [25530.5, None]
    assert as_numbers(pl.Series("score", [timedelta(hours=30), timedelta(seconds=-1)]), "number").to_list() == [108000.0, -1.0]


def test_a_typed_duration_or_time_of_day_means_the_same_in_a_file_and_in_a_frame(scorer: Scorer, tmp_path: Path) -> None:
    for value in (timedelta(milliseconds=250), timedelta(days=1, seconds=-1), time(0, 0, 0, 250_000), None):
        seconds = None if value is None else value.total_seconds() if isinstance(value, timedelta) else value.microsecond / 1e6
        wanted = expected(scorer, {"score": seconds})
        table = as_table(PLAIN).with_columns(pl.Series("score", [value], dtype=pl.Time if isinstance(value, time) else pl.Duration("ms")))
        assert of_frame(scorer, table) == wanted
        assert of_file(scorer, tmp_path, "in.parquet", table.write_parquet) == wanted
        if not isinstance(value, time):
            for frame in (table.to_pandas(), table.to_arrow()):
                assert of_frame(scorer, pl.DataFrame(frame)) == wanted


def test_a_duration_comes_back_in_a_csv_file_as_it_is_read_again(tmp_path: Path) -> None:
    took = [timedelta(hours=30), timedelta(seconds=-1.5), None, timedelta(days=-1, seconds=3600), timedelta(microseconds=7)]
    rows = pl.DataFrame([PLAIN] * len(took)).with_columns(took=pl.Series(took), age=pl.Series([41] * 4 + [1]))
    rows.write_parquet(tmp_path / "in.parquet")
    predict_file(MODEL, tmp_path / "in.parquet", tmp_path / "out.csv", quiet())
    again = pl.read_csv(tmp_path / "out.csv", infer_schema=False)["took"]
    assert again.to_list() == ["30:00:00", "-0:00:01.5", None, "-23:00:00"]
    seconds = [None if each is None else each.total_seconds() for each in took]
    assert as_numbers(again, "number", (), "h:mm:ss").to_list() == seconds[:-1]
    aside = pl.read_csv(tmp_path / "out.rejected.csv", infer_schema=False)["content"]
    cells = pl.Series([next(csv.reader([row]))[-1] for row in aside])
    assert as_numbers(cells, "number", (), "h:mm:ss").to_list() == seconds[-1:]


OWN_WORDS: dict[str, tuple[Row, Row | str]] = {
    # the same, where null is `-` in the column `plan`, and nothing else; a file of text has no other empty cell than an empty text
    "a plain row": ({}, {}),
    "the column's own word": ({"plan": "-"}, {"plan": None}),
    "an empty text": ({"plan": ""}, {"plan": "unseen"}),
    "a word for null of the others": ({"plan": "NA"}, {"plan": "unseen"}),
    "an empty text in another column": ({"floor": ""}, {"floor": None}),
    "an empty text for a number": ({"score": ""}, {"score": None}),
    "the word in another column": ({"floor": "-"}, {"floor": "unseen"}),
    "the word for a number": ({"score": "-"}, "wrong_type"),
}


@pytest.mark.parametrize("way", [way for way in WAYS if way not in STORED_AS_NUMBERS])
def test_a_columns_own_words_for_null_mean_the_same_by_every_way(way: str, tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    contract = json.loads((tmp_path / "model/training.json").read_text())
    contract["columns"]["plan"] |= {"null_values": ["-"]}
    (tmp_path / "model/training.json").write_text(json.dumps(contract))
    assert_same(way, load_scorer(tmp_path / "model"), tmp_path, OWN_WORDS)


def assert_same(way: str, scorer: Scorer, tmp_path: Path, rows: dict[str, tuple[Row, Row | str]], plain: Row | None = None) -> None:
    wrong = {}
    said = 0
    for name, (changes, meaning) in rows.items():
        if way == "rows" and ABSENT in changes.values():
            continue  # rows without names have every column
        row = row_of({**(plain or {}), **changes})
        made = WAYS[way](scorer, row, {key: value for key, value in changes.items() if value is not ABSENT}, tmp_path)
        if made is None:
            continue
        said += 1
        if made != expected(scorer, meaning):
            wrong[name] = (made, expected(scorer, meaning))
    assert not wrong
    assert said >= 3, "a way that says next to nothing proves nothing"


def test_a_record_within_a_record_means_the_same_in_a_request_and_in_a_file(tmp_path: Path) -> None:
    columns = {"dose": Column("integer", nullable=False), "patient.age": Column("number"), "patient.at.ward": Column("category")}
    signature = Signature.of(Contract(task="regression", columns=columns, categories={"patient.at.ward": ["a", "b"]}))
    rows = [
        {"dose": 1, "patient": {"age": 40.5, "at": {"ward": "b"}, "name": "x"}},
        {"dose": 2, "patient": None},
        {"dose": 3, "patient": {"age": None, "at": None}},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    (chunk,) = read_file(path, Source(path=str(path)), 1, signature.names)
    found = judged(chunk.frame, signature).rows
    assert found.numbers is not None
    assert found.categories is not None
    assert found.categories.tolist() == [["b"], ["(missing)"], ["(missing)"]]
    cells = [[row["dose"], row["patient"]] for row in rows]
    for sent in (
        Predict(signature, "m", "1").rows(json.dumps({"records": rows}).encode()),
        Invocations(signature).rows(json.dumps({"dataframe_records": rows}).encode()),
        Invocations(signature).rows(json.dumps({"instances": rows}).encode()),
        Invocations(signature).rows(json.dumps({"dataframe_split": {"columns": ["dose", "patient"], "data": cells}}).encode()),
        Invocations(signature).rows(json.dumps({"inputs": {"dose": [1, 2, 3], "patient": [patient for _, patient in cells]}}).encode()),
    ):
        np.testing.assert_array_equal(sent.numbers, found.numbers)
        np.testing.assert_array_equal(sent.categories, found.categories)
        assert [notice.column for notice in sent.notices or ()] == ["patient.name"]
    alone, within = (
        Invocations(signature).rows(json.dumps({"inputs": inputs}).encode())
        for inputs in (
            rows[0],
            {"dose": [1, 2, 3], "patient": {"age": [40.5, None, None], "at": {"ward": ["b", None, None]}}},
        )
    )
    assert alone.numbers is not None
    assert alone.categories is not None
    assert (alone.numbers.tolist(), alone.categories.tolist()) == ([[1.0, 40.5]], [["b"]])
    np.testing.assert_array_equal(within.numbers, found.numbers)
    np.testing.assert_array_equal(within.categories, found.categories)
    uneven = {"dose": [1, 2], "patient": [{"age": 40.5}]}
    with pytest.raises(Refused) as refused:
        Invocations(signature).rows(json.dumps({"inputs": uneven}).encode())
    assert refused.value.faults[0].detail == "the columns have 1 to 2 values: give each the same number"
    twice = {"dose": 1, "patient.age": 40.5, "patient": {"age": 41}}
    with pytest.raises(Refused) as refused:
        signature.from_records([twice])
    assert refused.value.faults[0].detail == "row 0: column 'patient.age' is given twice, once within a record"


def test_a_first_row_of_words_for_null_is_a_row_and_no_line_of_dashes(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    facts = tmp_path / "model/training.json"
    contract = json.loads(facts.read_text())
    contract["columns"]["age"]["nullable"] = True
    facts.write_text(json.dumps({**contract, "null_values": ["", "--"]}))
    (tmp_path / "in.csv").write_text("age,score,member,plan,floor\n--,--,--,--,--\n41,0.25,true,pro,2\n")
    done = predict_file(tmp_path / "model", tmp_path / "in.csv", tmp_path / "out.csv", quiet())
    assert (done.rows, done.rejected, done.notes) == (2, 0, ())
    (tmp_path / "in.csv").write_text("age,score,member,plan,floor\n---,-----,------,----,-----\n41,0.25,true,pro,2\n")
    done = predict_file(tmp_path / "model", tmp_path / "in.csv", tmp_path / "out.csv", quiet())
    assert (done.rows, done.rejected) == (1, 1)


def test_points_in_a_file_whose_cells_end_otherwise_than_the_training_datas_are_told(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    facts = tmp_path / "model/training.json"
    contract = json.loads(facts.read_text())
    contract["columns"]["score"] |= {"format": "1.234,5"}
    facts.write_text(json.dumps({**contract, "dialect": msgspec.to_builtins(Source(path="t.csv", delimiter=";").dialect)}))
    for delimiter, told in ((",", ["'1.234' is read as 1234 where the training data has numbers such as '1.234,5'"]), (";", [])):
        lines = (["age", "score", "member", "plan", "floor"], ["41", "1.234", "true", "pro", "2"])
        (tmp_path / "in.csv").write_text("".join(delimiter.join(line) + "\n" for line in lines))
        done = predict_file(tmp_path / "model", tmp_path / "in.csv", tmp_path / "out.csv", quiet())
        assert [note for note in done.notes if "1234" in note] == told


def test_the_first_fault_of_a_row_is_the_same(scorer: Scorer) -> None:
    for changes in ({"age": 1e39, "score": "abc"}, {"age": None, "plan": [1]}, {"age": 17, "score": INFINITY}):
        row = row_of(changes)
        records = requested(scorer, lambda row=row: scorer.signature.from_records([row]))  # type: ignore[misc]
        table = pl.DataFrame({name: pl.Series([value], strict=False) for name, value in row.items()})
        assert of_frame(scorer, table) == records, changes


def test_blanks_of_every_sort_are_blanks_to_both(scorer: Scorer) -> None:
    for blank in ("\t", "\u00a0", "\u2007", "\x1c", "\x1f", "\u3000", "\ufeff"):
        row = row_of({"score": f"{blank}0.25{blank}"})
        assert of_frame(scorer, as_table(row)) == requested(scorer, lambda row=row: scorer.signature.from_records([row])), repr(blank)  # type: ignore[misc]


def test_a_row_means_the_same_in_company(scorer: Scorer) -> None:
    rows = [row_of(changes) for changes, meaning in ROWS.values() if not isinstance(meaning, str)]
    together = Predict(scorer.signature, "m", "1").rows(json.dumps({"records": rows}).encode())
    outputs = score(scorer.engine, together.numbers, together.categories)
    alone = [expected(scorer, meaning) for _, meaning in ROWS.values() if not isinstance(meaning, str)]
    assert [outputs[row : row + 1].tobytes() for row in range(len(rows))] == alone


texts = st.one_of(
    st.text("0123456789+-.eE \t\x1c\u00a0\u3000", max_size=8),
    st.text("0123+-.,' \u00a0’$%krE", max_size=9),
    st.from_regex(r"\A(Rs\.? ?)?[0-2]{1,2}(,[0-2]{2,3}){1,3}(\.5)?\Z"),
    st.text("012−–()-+<>≤=,.$ \u2009", max_size=7),
    st.from_regex(r"\A-?([0-2] days?,? [+-]?)?[0-2]{1,3}:[0-6]?[0-9](:[0-5]?[0-9])?(\.5)?( ?[aApP]\.?M)?\Z"),
    st.from_regex(r"\A[+-]?P([+-]?[0-2]{1,2}[YMWD]){0,3}(T(-?[0-9]{1,3}(\.[0-9]{1,7})?[HMS]){0,3})?\Z"),
    st.sampled_from(["inf", "-Infinity", "nan", "+NaN", "1_000", "１", "٣", "0x10", "1d5", "1,5", "yes", "F", "NA", "1e999", "5e-324"]),
    st.floats().map(repr),
    st.integers(-(10**25), 10**25).map(str),
)


FORMS = [
    None,
    "1,234.5",
    "$1,234.5",
    "1.234,5",
    "1 234,5 kr.",
    "1'234.5",
    "1234.5 %",
    "1234.5",
    "<1234.5",
    "1,234.5+",
    "Rs.1,234.5",
    *CLOCKS,
]


@pytest.mark.parametrize("kind", ["number", "integer", "boolean"])
@given(st.lists(texts, min_size=1, max_size=30), st.sampled_from(FORMS))
def test_a_text_is_read_alike_by_a_request_and_by_a_table(kind: str, values: list[str], form: str | None) -> None:
    contract = Contract(task="regression", columns={"v": Column(kind, format=None if kind == "boolean" else form)})
    signature = Signature.of(contract)
    found = judged(pl.DataFrame({"v": values}, schema={"v": pl.String}), signature)
    reasons = {fault.row: fault.reason for fault in found.faults}
    kept = iter([] if found.rows.numbers is None else found.rows.numbers[:, 0])
    for row, value in enumerate(values):
        try:
            numbers = signature.from_columns({"v": [value]}).numbers
        except Refused as refusal:
            assert reasons[row] == refusal.reason, value
            continue
        assert row not in reasons, value
        assert numbers is not None
        assert numbers[0, 0].tobytes() == next(kept).tobytes(), value


def test_the_table_is_as_awkward_as_it_says() -> None:
    assert len(ROWS) >= 60
    assert len(WAYS) >= 20


EXTRA: Row = {"id": "007", "note\n": 1.5, "größe": True}
FAR_OFF: dict[str, tuple[Row, list[tuple[str, str]]]] = {
    # what is changed of a plain row, and what is said of it: reason and column
    "usual": ({}, []),
    "at the edge": ({"score": 1.25, "age": 70}, []),
    "beyond it": ({"score": 1.5}, [("outside_training", "score")]),
    "far below, both": ({"score": -1e9, "age": 119}, [("outside_training", "age"), ("outside_training", "score")]),
    "an integer as a float": ({"age": 110.0}, [("outside_training", "age")]),
    "a null": ({"score": None}, []),
    "new": ({"plan": "gold", "score": 9}, [("outside_training", "score"), ("unseen_category", "plan")]),
    "more columns": (EXTRA, [("extra_column", name) for name in sorted(EXTRA)]),
    "all": ({**EXTRA, "score": 9}, [*(("extra_column", name) for name in sorted(EXTRA)), ("outside_training", "score")]),
}
SAID: dict[str, Callable[[Signature, Row], Rows]] = {
    "records": lambda signature, row: Predict(signature, "m", "1").rows(json.dumps({"records": [row]}).encode()),
    "split": lambda signature, row: Invocations(signature).rows(json.dumps({"dataframe_split": split(row)}).encode()),
    "dataframe_records": lambda signature, row: Invocations(signature).rows(json.dumps({"dataframe_records": [row]}).encode()),
    "inputs": lambda signature, row: Invocations(signature).rows(json.dumps({"inputs": {name: [row[name]] for name in row}}).encode()),
    "CSV": lambda signature, row: Invocations(signature).rows_of_csv(as_csv(row).replace("note\n", '"note\n"').encode()),
    "OIP": lambda signature, row: open_inference.parse(signature, *tensors_of(row, binary=False)).rows,
    "OIP, binary": lambda signature, row: open_inference.parse(signature, *tensors_of(row, binary=True)).rows,
}


def tensors_of(row: Row, *, binary: bool) -> tuple[bytes, int | None]:
    kinds = dict(KINDS)
    try:
        KINDS.update({"id": "category", "note\n": "number", "größe": "boolean"})
        made = infer(row, binary=binary)
    finally:
        KINDS.clear()
        KINDS.update(kinds)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def ranged(scorer: Scorer) -> Scorer:
    """The same model as if training had said what it saw."""
    contract = msgspec.structs.replace(scorer.contract, ranges={"age": (18.0, 60.0), "score": (0.0, 1.0)})
    return scorer_of(contract, scorer.engine)


@pytest.mark.parametrize("way", SAID)
def test_what_is_unusual_is_answered_and_said_alike_by_every_way(way: str, scorer: Scorer, ranged: Scorer, tmp_path: Path) -> None:
    for name, (changes, notices) in FAR_OFF.items():
        row = row_of(changes)
        rows = SAID[way](ranged.signature, row)
        assert [(one.reason, one.column) for one in rows.notices or ()] == notices, name
        assert {one.rows for one in rows.notices or ()} <= {1}
        of_table = ranged.score(as_table({key: value for key, value in row.items() if key in KINDS}))
        assert score(ranged.engine, rows.numbers, rows.categories).tobytes() == of_table.outputs.tobytes(), name
        assert set(of_table.far) == {column for reason, column in notices if reason == "outside_training"}, name
        if set(changes) & set(EXTRA):
            refusing = dataclasses.replace(ranged.signature, refuse_extra=True)
            with pytest.raises(Refused) as refused:
                SAID[way](refusing, row)
            assert refused.value.reason == "unknown_column"


def test_what_is_private_or_was_not_told_is_never_far_outside(scorer: Scorer) -> None:
    columns = {**scorer.contract.columns, "score": Column("number", private=True)}
    told = msgspec.structs.replace(scorer.contract, columns=columns, ranges={"score": (0.0, 1.0)})
    for contract in (told, scorer.contract):
        assert scorer_of(contract, scorer.engine).signature.from_records([row_of({"score": 1e9})]).notices is None


@pytest.mark.parametrize("extra", [{}, {"sise": 1}])
def test_a_row_with_none_of_the_models_columns_is_refused_by_every_way(extra: Row, scorer: Scorer) -> None:
    columns = {name: Column(column.kind) for name, column in scorer.contract.columns.items()}
    optional = scorer_of(msgspec.structs.replace(scorer.contract, columns=columns), scorer.engine).signature
    ways: dict[str, Callable[[], Any]] = {
        "records": lambda: Predict(optional, "m", "1").rows(json.dumps({"records": [PLAIN, extra]}).encode()),
        "lenient": lambda: Predict(optional, "m", "1").rows(json.dumps({"records": [{**PLAIN, "age": 41.0}, extra]}).encode()),
        "dataframe_records": lambda: Invocations(optional).rows(json.dumps({"dataframe_records": [extra]}).encode()),
        "inputs": lambda: Invocations(optional).rows(json.dumps({"inputs": extra}).encode()),
        "split": lambda: Invocations(optional).rows(json.dumps({"dataframe_split": split(extra)}).encode()),
        "a frame": lambda: judged(pl.DataFrame(extra or {"sise": [1]}), optional),
    }
    if extra:
        ways["CSV"] = lambda: Invocations(optional).rows_of_csv(as_csv(extra).encode())
        ways["OIP"] = lambda: open_inference.parse(
            optional, b'{"inputs": [{"name": "sise", "shape": [1], "datatype": "FP32", "data": [1]}]}'
        )
    for way, read in ways.items():
        with pytest.raises(Refused) as refused:
            read()
        assert refused.value.reason == "missing_column", way
    explicit = Predict(optional, "m", "1").rows(json.dumps({"records": [dict.fromkeys(KINDS)]}).encode())
    assert explicit.count == 1, "a row of nulls is a row"


def test_other_columns_stay_beside_the_predictions_of_a_file(tmp_path: Path) -> None:
    row = {"id": "007", **PLAIN, "note": "x"}
    (tmp_path / "in.csv").write_text(as_csv(row))
    done = predict_file(MODEL, tmp_path / "in.csv", tmp_path / "out.csv", quiet())
    kept = pl.read_csv(tmp_path / "out.csv", infer_schema=False)
    assert kept.row(0, named=True) == {**kept.row(0, named=True), "id": "007", "note": "x"}
    assert done.notes == ("2 columns are none of the model's, kept and not looked at: 'id', 'note'",)


def test_predictions_of_the_version_before_are_the_same(tmp_path: Path) -> None:
    source = MODEL.parent / "predicted.csv"
    before = pl.read_csv(source, infer_schema=False)
    given = before.drop("prediction", "probability_0", "probability_1")
    given.write_csv(tmp_path / "in.csv")
    predict_file(MODEL, tmp_path / "in.csv", tmp_path / "out.csv", quiet())
    made = pl.read_csv(tmp_path / "out.csv", infer_schema=False)
    assert made.columns == before.columns
    assert made["prediction"].equals(before["prediction"])
    names = ["probability_0", "probability_1"]
    assert np.array_equal(made.select(names).cast(pl.Float64).to_numpy(), before.select(names).cast(pl.Float64).to_numpy())


def test_what_came_in_comes_back_as_it_came_in(tmp_path: Path) -> None:
    given = pl.DataFrame(
        {"zip": ["0200", "NA"], "age": ["041", " 42"], "member": ["Yes", "t"], "plan": [" pro", "NA"], "floor": ["2.0", "3"]}
    )
    given.write_csv(tmp_path / "in.csv")
    predict_file(MODEL, tmp_path / "in.csv", tmp_path / "out.csv", quiet())
    made = pl.read_csv(tmp_path / "out.csv", infer_schema=False)
    assert made.select(given.columns).equals(given)


def test_names_of_the_users_mean_nothing_to_us(tmp_path: Path) -> None:
    given = pl.DataFrame(
        {**{name: [value] for name, value in PLAIN.items()}, "prediction": ["mine"], "probability_of_rain": [0.5], "__reason": ["r"]}
    )
    given.write_csv(tmp_path / "in.csv")
    done = predict_file(MODEL, tmp_path / "in.csv", tmp_path / "out.csv", quiet())
    made = pl.read_csv(tmp_path / "out.csv")
    assert made.columns == [*given.columns, "prediction_2", "probability_0_2", "probability_1_2"]
    assert made.select(given.columns).cast(pl.String).equals(given.cast(pl.String))
    assert done.rows == 1
    assert "prediction_2" in " ".join(done.notes)


def test_values_that_training_has_not_seen_are_counted_aloud(tmp_path: Path) -> None:
    given = pl.DataFrame({name: [value] * 4 for name, value in PLAIN.items()}).with_columns(plan=pl.Series(["gold", "pro", "tin", "gold"]))
    given.write_parquet(tmp_path / "in.parquet")
    done = predict_file(MODEL, tmp_path / "in.parquet", tmp_path / "out.csv", quiet())
    assert done.notes == ("column 'plan': 3 values that training has not seen, such as 'gold', 'tin'",)


def test_a_model_that_is_not_what_was_registered_predicts_nothing(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    expected = json.loads((tmp_path / "model/expected.json").read_text())
    expected["outputs"][0] = [0.5, 0.5]
    (tmp_path / "model/expected.json").write_text(json.dumps(expected))
    with pytest.raises(PipelineError, match=r"expected\.json: the model's outputs differ"):
        load_scorer(tmp_path / "model")


def test_a_row_that_was_set_aside_can_be_read_again(tmp_path: Path) -> None:
    rows = [{**PLAIN, "age": 17, "plan": 'a "b", c\nd'}, {**PLAIN, "age": 30}]
    (tmp_path / "in.csv").write_text(as_csv(rows[0]) + as_csv(rows[1]).partition("\n")[2])
    done = predict_file(MODEL, tmp_path / "in.csv", tmp_path / "out.csv", quiet())
    content = pl.read_csv(tmp_path / "out.rejected.csv", infer_schema=False)["content"][0]
    assert list(csv.reader(io.StringIO(content, newline=""))) == [["17", "0.25", "true", 'a "b", c\nd', "2"]]
    assert done.notes == (), "what is refused is not told as unseen too"


class Mad:
    """An engine that says NaN of whoever is 42."""

    name = "mad"
    precision = np.float32

    def predict(self, numbers: np.ndarray | None, _categories: np.ndarray | None) -> np.ndarray:
        assert numbers is not None
        outputs = np.full((len(numbers), 2), 0.5, dtype=np.float32)
        outputs[numbers[:, 0] == 42] = np.nan
        return outputs


def test_an_output_that_is_not_finite_is_never_a_label(scorer: Scorer) -> None:
    mad = Scorer(scorer.contract, scorer.signature, Mad())
    done = mad.score(pl.DataFrame([{**PLAIN, "age": age} for age in (41, 42, 17, 43)]))
    assert done.taken.tolist() == [True, False, False, True]
    assert [(fault.row, fault.reason) for fault in done.faults] == [(1, "output_not_finite"), (2, "out_of_bounds")]
    assert done.outputs.shape == (2, 2)
    rows = Predict(scorer.signature, "m", "1").rows(msgspec.json.encode({"records": [{**PLAIN, "age": 42}]}))
    with pytest.raises(Exception, match="not finite on row 0"):
        score(mad.engine, rows.numbers, rows.categories)


def test_a_csv_of_every_row_has_the_same_answers(scorer: Scorer, tmp_path: Path) -> None:
    """All rows in one file: what is refused goes aside, the others keep their order."""
    rows = {name: row_of(changes) for name, (changes, _) in ROWS.items() if ABSENT not in changes.values()}
    text = io.StringIO()
    text.write(",".join(PLAIN) + "\n")
    text.writelines(",".join(as_cell(row[name]) for name in PLAIN) + "\n" for row in rows.values())
    (tmp_path / "in.csv").write_text(text.getvalue())
    predict_file(MODEL, tmp_path / "in.csv", tmp_path / "out.parquet", quiet())
    made = pl.read_parquet(tmp_path / "out.parquet").select("probability_0", "probability_1").cast(pl.Float32).to_numpy()
    kept = [expected(scorer, ROWS[name][1]) for name in rows if not isinstance(ROWS[name][1], str)]
    assert [made[place : place + 1].tobytes() for place in range(len(made))] == kept
    aside = pl.read_csv(tmp_path / "out.rejected.csv", infer_schema=False)
    assert [reason.partition(":")[0] for reason in aside["reason"]] == [ROWS[name][1] for name in rows if isinstance(ROWS[name][1], str)]
