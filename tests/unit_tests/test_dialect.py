"""Files of text as people write them: what `mlops init` finds, and that every way in reads them the same afterwards."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pytest
import xlsxwriter
import yaml

from mlops_pipeline.config.dataset import Dataset, Source, given_of_source
from mlops_pipeline.config.pipeline import Settings, load_settings
from mlops_pipeline.contract.dialect import Dialect
from mlops_pipeline.contract.spec import Column, Contract, Recipe
from mlops_pipeline.contract.spec import Column as ContractColumn
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.needs import as_finished
from mlops_pipeline.inference.batch import predict_file
from mlops_pipeline.inference.signature import Signature
from mlops_pipeline.pipeline.definition import STAGES
from mlops_pipeline.scaffold import starter
from mlops_pipeline.serving.protocol.invocations import Invocations
from mlops_pipeline.tables.cast import as_numbers, cast_columns
from mlops_pipeline.tables.dialect import Unclear, found
from mlops_pipeline.tables.json_lines import json_tables, unfit_columns
from mlops_pipeline.tables.source import as_written, read_file, read_source
from tests.conftest import HERE
from tests.unit_tests.workshop import ingested, layout_in, quiet, table_settings

ROWS = [(n, ["Köln", "Gent", "Brügge"][n % 3], f"{n / 4:.2f}", f"2024-01-{n % 28 + 1:02}", ["yes", "no"][n % 2]) for n in range(60)]
NAMES = ["id", "Größe, Ort", "price", "day", "churned"]
TABLE = pl.DataFrame(ROWS, schema=NAMES, orient="row").cast(pl.String)


def text(separator: str = ",", quote: str = '"', *, header: bool = True) -> str:
    return TABLE.write_csv(separator=separator, quote_char=quote, include_header=header)


WRITTEN: dict[str, tuple[bytes, dict[str, Any]]] = {
    "plain": (text().encode(), {}),
    "semicolons in Latin-1": (text(";").encode("latin-1"), {"delimiter": ";", "encoding": "cp1252"}),
    "semicolons with a mark of order": (text(";").encode("utf-8-sig"), {"delimiter": ";"}),
    "tabs in UTF-16": (text("\t").encode("utf-16"), {"delimiter": "\t", "encoding": "utf-16"}),
    "bars": (text("|").encode(), {"delimiter": "|"}),
    "single quotes": (text(quote="'").replace("yes", "'yes'").encode(), {"quote": "'"}),
    "a title before": (f"Report of 2024\n\n{text(';')}".encode(), {"delimiter": ";", "skip_lines": 1}),
    "remarks before": (f"# made by x\n# on Monday\n{text()}".encode(), {"skip_lines": 2}),
    "comments between rows": (text().replace("\n9,", '\n# batch 2, by hand, of "B\n9,').encode(), {"comment": "#"}),
    "a blank before each quote": (text().replace(",", ", ").replace('"Größe, ', '"Größe,').encode(), {"skip_blanks": True}),
    "a delimiter at the end of each row": (text().replace("yes\n", "yes,\n").replace("no\n", "no,\n").encode(), {"closed": True}),
    "lines that end in CR LF": (text(";").replace("\n", "\r\n").encode(), {"delimiter": ";"}),
    "lines that end in CR": (text(";").replace("\n", "\r").encode(), {"delimiter": ";"}),
}


def read(path: Path, settings: dict[str, Any]) -> pl.DataFrame:
    return pl.concat([chunk.frame for chunk in read_file(path, Source(path=str(path), **settings), 1)])


@pytest.mark.parametrize("case", WRITTEN)
def test_a_file_is_read_as_it_is_written(case: str, tmp_path: Path) -> None:
    content, settings = WRITTEN[case]
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    assert found(path, ["churned"]).settings == found(path).settings == settings
    assert read(path, settings).equals(TABLE)


def test_a_file_without_a_header_has_numbered_columns_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text(header=False))
    seen = found(path)
    assert seen.settings == {"header": False}
    assert seen.notes == ("no line names the columns: they are column_1 to column_5",)
    assert found(path, ["column_5"]).settings == seen.settings
    table = read(path, seen.settings)
    assert (table.columns, table.height) == ([f"column_{n}" for n in range(1, 6)], 60)


def test_columns_of_one_name_are_told_apart_by_a_number_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a;b;a;a_2;a\n" + "".join(f"{n};x{n % 3};{n + 1};{n + 2};{n + 3}\n" for n in range(9)))
    seen = found(path, ["b"])
    assert seen.settings == {"delimiter": ";", "numbered": True}
    assert seen.notes[-1] == "columns of one name are told apart by a number: the next 'a' is 'a_3', the next 'a' is 'a_4'"
    assert read(path, seen.settings).row(1, named=True) == {"a": "1", "b": "x1", "a_3": "2", "a_2": "3", "a_4": "4"}


def test_names_of_rows_as_r_writes_them_are_a_column_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a;b\n" + "".join(f"r{n};{n};x\n" for n in range(9)))
    seen = found(path)
    assert seen.settings == {"delimiter": ";", "row_names": True}
    assert seen.notes[-1] == "each row begins with its name, for which the header has no cell: the first column has no name"
    assert read(path, seen.settings).row(1, named=True) == {"": "r1", "a": "1", "b": "x"}


def test_a_header_of_another_width_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b,c,d\n" + "".join(f"{n},{n}\n" for n in range(9)))
    with pytest.raises(Unclear, match=r"its line 1 has 4 cells and its rows have 2 \('a,b,c,d'\): make them as many, or say where"):
        found(path)


def test_what_cannot_be_told_is_asked_for_in_one_line_with_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("".join(f"{n}, {n % 3};\n" for n in range(40)))
    with pytest.raises(Unclear) as caught:
        found(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: cannot be told where its cells end in '0, 0;' / '1, 1;' / '2, 2;': say it with delimiter: … ")
    assert "\n" not in said
    assert found(path, given={"delimiter": ","}).settings["header"] is False


def test_what_is_given_is_not_guessed() -> None:
    assert given_of_source(["delimiter=tab", "header=false", "skip_lines=2"]) == {"delimiter": "\t", "header": False, "skip_lines": 2}
    for words, said in ((["delimiter"], "write --source KEY=VALUE"), (["dellimiter=;"], "did you mean 'delimiter'?")):
        with pytest.raises(PipelineError, match=r"--source") as caught:
            given_of_source(words)
        assert said in str(caught.value)


def test_init_writes_how_a_table_is_written_with_a_comment_and_ingest_reads_it(tmp_path: Path) -> None:
    source, config = tmp_path / "kunden.csv", tmp_path / "kunden.yaml"
    source.write_bytes(b"Bericht\n" + text(";").encode("cp1252"))
    made = starter(source, "churned", config)
    config.write_text(made.text, encoding="utf-8")
    comments = re.sub(r"\n *# ", " ", made.text)
    assert "not UTF-8: read as cp1252, which makes 'Größe', 'Köln', 'Brügge': name another encoding if that looks wrong" in comments
    assert "the first line is no part of the table ('Bericht')\n  source:\n" in comments
    written = yaml.safe_load(made.text)["dataset"]["source"]
    assert {key: written[key] for key in written if key != "path"} == {"delimiter": ";", "encoding": "cp1252", "skip_lines": 1}
    table, report, _ = ingested(tmp_path, load_settings(config))
    assert (report["rows_kept"], sorted(table["Größe, Ort"].unique())) == (60, ["Brügge", "Gent", "Köln"])


@pytest.mark.parametrize("case", WRITTEN)
def test_a_file_that_is_written_otherwise_than_the_training_data_is_read_all_the_same(case: str, tmp_path: Path) -> None:
    content, settings = WRITTEN[case]
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    needed = ["id", "price", "churned"]
    for usual in ({}, {"delimiter": ";", "encoding": "cp1252"}, {"delimiter": "\t"}, settings):
        source, notes = as_written(path, Source(path="training.csv", **usual), needed)
        assert read(path, source.dialect.unusual).select(needed).equals(TABLE.select(needed))
        assert bool(notes) == (source.dialect != Source(path="x", **usual).dialect)


def test_rows_that_begin_as_comments_do_and_are_as_wide_as_the_table_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("tag,count\n" + "".join(f"#{n % 3},{n}\n" for n in range(30)))
    assert found(path).settings == {}
    assert read(path, {}).height == 30
    # Named with the sign, as a header may be: what is a comment behind it is set aside, and the remedy said.
    path.write_text("#tag,count\n1,2\n# batch 2\n3,4\n")
    assert found(path).settings == {}
    path.write_text("tag,count\n1,2\n# batch 2\n3,4\n")
    (row,) = [row for chunk in read_file(path, Source(path=str(path)), 1) for row in chunk.broken]
    assert row.reason == "1 fields instead of 2: if it is a comment, write comment: '#' under dataset.source"


MANY = "".join(f"t{n % 5},a{n % 3},{n % 2}\n" for n in range(500))


def test_comments_are_counted_and_one_that_may_be_a_row_is_set_aside(tmp_path: Path) -> None:
    # Where the sign is found, no row may begin with it, however far down.
    source, config = tmp_path / "table.csv", tmp_path / "table.yaml"
    source.write_text(f"tag,word,y\n# by hand\n{MANY}#t17,b,1\n")
    made = starter(source, "y", config)
    assert "comment" not in yaml.safe_load(made.text)["dataset"]["source"]
    assert "lines that begin with # may be rows (line 503): if none is, write comment: '#'" in made.split
    config.write_text(made.text)
    settings = load_settings(config)
    table, report, _ = ingested(tmp_path, settings)
    assert (report["rows_read"], report["rows_kept"], report["rows_broken"]) == (502, 501, 1)
    assert table["tag"].to_list()[-1] == "#t17"
    # A cell too many makes no comment.
    source.write_text(f"tag,word,y\n#13,hello, you,1\n{MANY}")
    assert found(source).settings == {}
    # Where it is given, what is left out is counted, and what may be a row is set aside.
    source.write_text(f"# tag,word,y\ntag,word,y\n# by hand\n{MANY}#17,b,1\n")
    chunks = list(read_file(source, Source(path=str(source), comment="#"), 1))
    assert sum(chunk.frame.height for chunk in chunks) == 500
    (row,) = [row for chunk in chunks for row in chunk.broken]
    assert (row.row, row.content) == (501, "#17,b,1")
    assert row.reason == "line 504 begins with # as comments do, and has as many cells as a row: take its sign out, or the line"
    assert chunks[-1].notes == ("table.csv: 2 lines that begin with # left out as comments, 1 of which may be rows and is set aside",)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        pytest.param('5" pipe,a\n# retired\n7,b\n', ['5" pipe', "7"], id="a length"),
        pytest.param('"5"" pipe",a\n# retired\n7,b\n', ['5" pipe', "7"], id="two quotes for one"),
        pytest.param('"5 ""\n# ""pipe",a\n# retired\n7,b\n', ['5 "\n# "pipe', "7"], id="lines within a cell"),
        pytest.param('7,"a"\n# retired\n8,"b ""\n"\n# retired\n', ["7", "8"], id="the last cell"),
    ],
)
def test_a_quote_opens_at_the_start_of_a_cell_and_nowhere_else(rows: str, kept: list[str], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"what,letter\n{rows}")
    assert read(path, {"comment": "#"})["what"].to_list() == kept


def test_signs_of_numbers_in_which_all_columns_agree_stand_once_under_the_source(tmp_path: Path) -> None:
    text = "id;preis;einwohner;quote;y\n"
    text += "".join(f"{n};{n}.234,5;{n % 7 + 1}.000.000;{n},5 %;{str(n / 8).replace('.', ',')}\n" for n in range(9, 99))
    source, config = tmp_path / "orte.csv", tmp_path / "orte.yaml"
    source.write_text(text)
    made = starter(source, "y", config)
    config.write_text(made.text)
    settings = load_settings(config)
    data = yaml.safe_load(made.text)["dataset"]
    assert (data["source"]["decimal"], data["source"]["thousands"]) == (",", ".")
    assert {name: column["format"] for name, column in data["columns"].items() if "format" in column} == {"quote": "1234,5 %"}
    table, report, _ = ingested(tmp_path, settings)
    assert (report["rows_kept"], *table.row(0)) == (90, 9, 9234.5, 3000000.0, 9.5, 1.125)


ASKED = "'anteil': '1.234' is read as 1.234; if it means 1234, write format: '1.234,5'."


@pytest.mark.parametrize(
    ("shares", "first", "asked"),
    [
        pytest.param(lambda n: f"0.{n:02}1", 0.091, False, id="thousands never begin with zero"),
        pytest.param(lambda n: f"{n}.123", 9.123, True, id="three decimals may be thousands"),
        pytest.param(lambda n: f"{n}.5", 9.5, False, id="plain"),
    ],
)
def test_a_column_with_points_is_not_taken_along_by_one_with_decimal_commas(
    shares: Callable[[int], str], first: float, asked: bool, tmp_path: Path
) -> None:
    rows = "".join(f"{n};{n}.234,5;{shares(n)};{n / 8}\n" for n in range(9, 99))
    source, config = tmp_path / "orte.csv", tmp_path / "orte.yaml"
    source.write_text("id;preis;anteil;y\n" + rows)
    made = starter(source, "y", config)
    config.write_text(made.text)
    data = yaml.safe_load(made.text)["dataset"]
    assert not {"decimal", "thousands"} & set(data["source"])
    assert {name: column["format"] for name, column in data["columns"].items() if "format" in column} == {"preis": "1.234,5"}
    assert (ASKED in re.sub(r"\n *# ", " ", made.text)) is asked
    table, report, _ = ingested(tmp_path, load_settings(config))
    assert (report["rows_kept"], *table.row(0)) == (90, 9, 9234.5, first, 1.125)
    # What is given is believed, but a column that cannot be written so says that it is not.
    made = starter(source, "y", config, given=given_of_source(["decimal=,", "thousands=."]))
    data = yaml.safe_load(made.text)["dataset"]
    assert (data["source"]["thousands"], data["columns"]["anteil"].get("format")) == (".", None if asked else "1234.5")
    assert ("'anteil': '1.234' is read as 1234, as the source says." in made.text) is asked


GERMAN = ";".join(("preis", "km", "weg", "anteil", "y"))


def german(n: int, **cells: str) -> str:
    """A row of a file with points between thousands; with ``cells`` that are written otherwise."""
    km = f"{n % 90 + 1}.{n * 7 % 1000:03}" if n % 3 else f"{n * 7 % 1000}"
    row = {"preis": f"{n % 50 + 1}.900,00 €", "km": km, "weg": f"{n % 9 + 1}.{n * 3 % 1000:03} km" if n % 2 else f"{n * 3 % 1000} km"}
    row |= {"anteil": f"{n % 70},{n % 10}", "y": str(n * 37 % 101)}
    return ";".join((row | cells).values()) + "\n"


@pytest.mark.parametrize("rows", [90, 2500])
def test_points_part_thousands_where_another_column_of_the_file_can_mean_nothing_else(rows: int, tmp_path: Path) -> None:
    source, config = tmp_path / "autos.csv", tmp_path / "autos.yaml"
    source.write_text(f"{GERMAN}\n" + "".join(german(n) for n in range(1, rows + 1)))
    made = starter(source, "y", config)
    config.write_text(made.text)
    data = yaml.safe_load(made.text)["dataset"]
    assert (data["source"]["decimal"], data["source"]["thousands"]) == (",", ".")
    formats = {name: column["format"] for name, column in data["columns"].items() if "format" in column}
    assert formats == {"preis": "1.234,5 €", "weg": "1.234,5 km"}
    said = re.sub(r"\n *# ", " ", made.text)
    assert re.search(
        r"'km': '[\d.]+' is read as \d+, for 'preis' parts its thousands by points; if it means [\d.]+, write format: '1234.5'", said
    )
    assert re.search(r"'weg': '[\d.]+ km' is read as \d+, for 'preis' .*, write format: '1,234.5 km'", said)
    table, report, _ = ingested(tmp_path, load_settings(config))
    assert report["rows_kept"] == rows
    assert table.row(0) == (2900.0, 2007.0, 2003.0, 1.1, 37)
    assert table.row(2) == (4900.0, 21.0, 4009.0, 3.3, 10)


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(lambda n: {"preis": f"{n}.900 €", "y": f"{n * 37 % 101}"}, id="no value with both signs"),
        pytest.param(lambda n: {"anteil": f"{n % 70}.{n % 10}"}, id="a column with points before decimals"),
        pytest.param(lambda n: {"anteil": f"{n % 70}.{n % 10} %"}, id="one with a unit"),
    ],
)
def test_points_stay_before_decimals_where_the_file_is_not_sure(cells: Callable[[int], dict[str, str]], tmp_path: Path) -> None:
    source, config = tmp_path / "autos.csv", tmp_path / "autos.yaml"
    source.write_text(f"{GERMAN}\n" + "".join(german(n, **cells(n)) for n in range(1, 91)))
    made = starter(source, "y", config)
    config.write_text(made.text)
    data = yaml.safe_load(made.text)["dataset"]
    assert "thousands" not in data["source"]
    assert data["columns"]["weg"]["format"] == "1,234.5 km"
    said = re.sub(r"\n *# ", " ", made.text)
    assert "'km': '1.234' is read as 1.234; if it means 1234, write format: '1.234,5'" in said
    assert re.search(r"'weg': '[\d.]+ km' is read as [\d.]+; if it means \d+, write format: '1.234,5 km'", said)
    table, *_ = ingested(tmp_path, load_settings(config))
    assert table["km"][0] == 2.007


@pytest.mark.parametrize("km", ["1146", "0.361", "1.5"])
def test_a_number_that_nobody_writes_who_parts_thousands_keeps_a_columns_points_before_decimals(km: str, tmp_path: Path) -> None:
    source = tmp_path / "autos.csv"
    source.write_text(f"{GERMAN}\n" + "".join(german(n, **({"km": km} if n == 40 else {})) for n in range(1, 91)))
    data = yaml.safe_load(starter(source, "y", tmp_path / "autos.yaml").text)["dataset"]
    assert data["columns"]["km"].get("format") is None
    assert "thousands" not in data["source"]


def test_a_lookup_has_signs_of_its_own() -> None:
    columns = {"id": {"kind": "integer"}, "price": {"kind": "number"}, "rate": {"kind": "number"}, "twice": {"kind": "number"}}
    columns |= {"mean": {"kind": "number"}, "day": {"kind": "datetime"}}
    data = Dataset(
        source={"path": "a.csv", "decimal": ","},
        lookups=[{"path": "b.csv", "keys": ["id"]}],
        target="id",
        task="regression",
        columns=columns,
        derive={"twice": "2 * price"},
        time_column="day",
        aggregates={"mean": {"how": "mean", "of": "price"}},
    )
    assert {name: column.format for name, column in data.columns.items()} == {
        "id": "1234,5",
        "price": "1234,5",
        "rate": "1234,5",
        "twice": None,
        "mean": None,
        "day": None,
    }
    # What the recipe makes is no text of the source: 1.234 is no thousand there.
    described = {name: ContractColumn(kind="number", format=data.columns[name].format) for name in ("price", "rate")}
    finished = as_finished(described, Recipe(lookups=({"keys": ("id",), "columns": ("rate",)},)), data.source.number_format)
    assert {name: column.format for name, column in finished.items()} == {"price": "1234,5", "rate": None}
    assert data.column_in(data.lookups[0], "rate").format is None
    assert Dataset(**data.model_dump()) == data
    with pytest.raises(ValueError, match="a number has one sign for each"):
        Source(path="a.csv", decimal=",", thousands=",")


def test_a_file_is_what_it_holds_whatever_it_is_called(tmp_path: Path) -> None:
    records = "".join(json.dumps(row) + "\n" for row in TABLE.to_dicts())
    for name, content in {
        "plain.csv.gz": text().encode(),
        "packed.csv": gzip.compress(text().encode()),
        "packed.csv.zst": pa.compress(text().encode(), "zstd", asbytes=True),
        "in two frames": b"".join(pa.compress(part.encode(), "zstd", asbytes=True) for part in (text()[:500], text()[500:])),
        "lines.csv": records.encode(),
        "list.txt": json.dumps(TABLE.to_dicts()).encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name, {}).equals(TABLE), name
    TABLE.write_parquet(tmp_path / "parquet.csv")
    assert read(tmp_path / "parquet.csv", {}).equals(TABLE)
    with zipfile.ZipFile(tmp_path / "archive.csv", "w") as archive:
        archive.write(tmp_path / "parquet.csv", "any name")
    assert read(tmp_path / "archive.csv", {}).equals(TABLE)


def test_records_of_json_have_every_column_that_any_of_them_has(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text('{"a": 1, "b": "x"}\n{"a": 2.5}\n\n{"c": true, "a": null, "b": 7}\n')
    assert read(path, {}).rows() == [(1.0, "x", None), (2.5, None, None), (None, "7", True)]
    path.write_text('{"a": 1, "b": [1]}\n')
    with pytest.raises(PipelineError, match=r"column 'b' holds lists, .*: take it out, or flatten it"):
        read(path, {})
    path.write_text('{"a": 1\n')
    with pytest.raises(PipelineError, match=r"table\.jsonl: cannot be read as a table: its JSON cannot be read"):
        read(path, {})


FORMS = {"lines": lambda rows: "\n".join(map(json.dumps, rows)), "a list": lambda rows: json.dumps(rows, indent=1)}


@pytest.mark.parametrize("form", FORMS)
def test_numbers_truths_and_texts_under_one_key_of_json_are_texts_however_they_are_written(form: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    for values, read_as in {
        (1, True): ["1", "true"],
        (False, 1.5, None): ["false", "1.5", None],
        (1, "a"): ["1", "a"],
        ("a", True, 2**70): ["a", "true", str(2**70)],
        (1, 2**70): [1, 2**70],
        (True, None): [True, None],
    }.items():
        for rows in ([{"x": value} for value in values], [{"p": {"x": value}, "l": [value]} for value in values]):
            path.write_text(FORMS[form](rows))
            for size in (1, 1000):
                blocks = pl.concat(json_tables(path, ("x", "p.x"), size))
                assert blocks.to_series().to_list() == read_as, (values, size)


@pytest.mark.parametrize("form", FORMS)
def test_objects_and_lists_beside_other_values_of_json_are_told_with_column_and_place(form: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    told = {"a whole number": 1, "a fraction": 0.5, "a truth value": True, "a text": "a", "a list": [1], "an object": {"q": 1}}
    word = "line" if form == "lines" else "record"
    for first, second in itertools.permutations(told, 2):
        if not {"a list", "an object"} & {first, second}:
            continue
        for name, rows in (
            ("x", [{"k": 1, "x": None}, {"x": told[first]}, {"k": 2}, {"x": told[second]}]),
            ("p.x", [{"k": 1}, {"p": {"x": told[first]}}, {"p": None}, {"p": {"x": told[second]}}]),
        ):
            path.write_text(FORMS[form](rows))
            with pytest.raises(PipelineError) as told_of:
                read(path, {})
            assert str(told_of.value) == (
                f"{path}: cannot be read as a table: column '{name}' holds {second} in {word} 4, but {first} in {word} 2: "
                "write all in one form, or take it out"
            )
            with pytest.raises(ValueError, match=f"column '{re.escape(name)}' holds"):
                list(json_tables(path, (f"{name}.q",), 1000))
            for size in (1, 1000):  # a column that nobody asks for is none of the table's
                assert pl.concat(json_tables(path, ("k",), size)).columns == ["k"]
                assert unfit_columns(path, size) == {
                    name: "some of its values are records or lists, and others are not: write all in one form"
                }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1}\n\n{"a": 1e400}', "line 3: column 'a' holds a number that is too large to be read: write a smaller one, null or a text"),
        (f'{{"a": 1}}\n{{"a": {"1" * 5000}}}', "line 2: column 'a' holds a number that is too large to be read: .*"),
        ('{"a": 1}\n{"a": "\\ud800"}', r"line 2: column 'a' holds half a character .*: mend the text"),
        ('{"a": 1}\n{"a":\n{"a": 2}', r"line 2 is no JSON \(Expecting value: character 6\): mend it, or take it out"),
        ('{"a": 1}\n5', "line 2 is a whole number, and no record: write it as the others are, or take it out"),
        ('[{"a": 1}, null]', "record 2 is null, and no record: write it as the others are, or take it out"),
        ('[{"a": 1},\n{"a": "x\ny"}]', r"its JSON cannot be read: Invalid control character at: line 2 column 9 .*: mend it there"),
        ('{"a": 1}\n{"a": 2, "a": 3}', "line 2: the key 'a' stands twice in one object: take one out"),
        ('{"a": 1, "b": 1.5}\n{"b": 2, "b": 3}', "line 2: the key 'b' stands twice in one object: take one out"),
        ('[{"p": {"a": 1, "a": 2}}]', "record 1: the key 'a' stands twice in one object: take one out"),
        ('{"data": [{"a": 1, "a": 2}]}', "the key 'a' stands twice in one object: take one out"),
        ('{"a": 1}\n{"a": 2}'.encode("utf-16"), "is JSON in UTF-16 or UTF-32: store it as UTF-8"),
        ('[\n{"a": 1}]'.encode("utf-16-be"), "is JSON in UTF-16 or UTF-32: store it as UTF-8"),
        ('[["a", "b"],\n[1, 2]]', "is JSON of lists: write each row as a record, which names its columns"),
        ('{"a": null}\n{"a": {}}', "column 'a' holds records without a key, .*: take it out, or flatten it"),
        (b'{"a": "\xe4"}\n{"a": 1}', "it is not written in UTF-8, as JSON is: store it as UTF-8"),
    ],
)
def test_what_is_wrong_in_json_is_told_with_its_place_and_a_remedy(text: str | bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PipelineError, match=rf"^{re.escape(str(path))}: cannot be read as a table: {told}$"):
        read(path, {})


def test_an_escaped_pair_is_one_character_and_a_text_of_json_a_text(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    rows = [{"a": "😀"}, {"a": "\\ud800"}, {"a": '{"q": 1}'}, {"a": "[1"}]
    path.write_text("\ufeff\n\n" + FORMS["lines"](rows))
    assert read(path, {}).to_dicts() == rows


def test_a_record_within_a_record_is_columns_and_a_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    lines = [
        f'{{"id": {n}, "who": {{"age": {n % 40}, "at": {{"town": "{"ab"[n % 2]}"}}}}, "seen": [1, 2], "y": {n % 2}}}' for n in range(60)
    ]
    path.write_text("\n".join(lines))
    made = starter(path, "y", tmp_path / "s.yaml")
    assert {use.name: use.use for use in made.columns} == {
        "id": "left out",
        "who.age": "feature",
        "who.at.town": "feature",
        "seen": "left out",
        "y": "target",
    }
    path.write_text('{"a": {"b": 1}, "a.b": 2}\n{"a": {"b": 1}, "a.b": 2}\n')
    with pytest.raises(PipelineError, match=r"column 'a\.b' stands there twice, once within a record: give one of them another name"):
        read(path, {})


def test_records_that_grow_between_blocks_are_one_table(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text('{"a": {"x": 1}}\n{"a": {"y": "s"}}\n{"a": {"x": 1.5}}\n')
    blocks = [table for size in (1, 1000) for table in [pl.concat(json_tables(path, None, size))]]
    assert blocks[0].equals(blocks[1])
    assert blocks[0].rows() == [(1.0, None), (None, "s"), (1.5, None)]


@pytest.mark.parametrize(
    "written",
    [
        {"status": "ok", "data": TABLE.to_dicts()},
        {"results": TABLE.to_dicts()},
        {"columns": NAMES, "index": list(range(60)), "data": [list(row) for row in TABLE.rows()]},
        {"schema": {"fields": []}, "data": TABLE.to_dicts()},
        {name: {str(n): value for n, value in enumerate(TABLE[name])} for name in NAMES},
        {name: TABLE[name].to_list() for name in NAMES},
        {str(n): row for n, row in enumerate(TABLE.to_dicts())},
        TABLE.to_dicts(),
    ],
    ids=["a list under a name", "results", "split", "table", "columns", "lists", "index", "records"],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_one_value_of_json_is_the_table_that_it_holds(written: Any, indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(written, indent=indent), encoding="utf-8")
    assert read(path, {}).equals(TABLE)


def test_a_lone_record_is_a_table_of_one_row(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    for indent in (None, 1):
        path.write_text(json.dumps({"a": 1, "who": {"age": 3}}, indent=indent))
        assert read(path, {}).rows(named=True) == [{"a": 1, "who.age": 3}]


def test_a_list_that_comes_late_is_no_less_one(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    long = "x" * 100_000
    path.write_text("".join(json.dumps({"a": n % 7, "text": long, "tags": [n] if n > 55 else None, "y": n % 2}) + "\n" for n in range(60)))
    why = {use.name: use.why for use in starter(path, "y", tmp_path / "s.yaml").columns}
    assert why == {"a": "", "text": "constant", "tags": "each value holds several: store one value a cell", "y": ""}


def test_blanks_around_the_columns_names_are_no_part_of_them(tmp_path: Path) -> None:
    rows = [[40, 0.5, "true", "pro", "2"]] * 3
    names = ["age ", " score", " member", "\u00a0plan", "floor"]
    path = tmp_path / "table.csv"
    path.write_text(",".join(names) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    with xlsxwriter.Workbook(tmp_path / "table.xlsx") as book:
        sheet = book.add_worksheet("data")
        for place, row in enumerate((names, *rows)):
            sheet.write_row(place, 0, row)
    for file in (path, tmp_path / "table.xlsx"):
        seen = found(file, ["member"])
        assert seen.settings == {"bare_names": True}
        assert seen.notes[0].startswith("blanks around the columns' names are no part of them")
        assert read(file, seen.settings).columns == ["age", "score", "member", "plan", "floor"]
    assert found(path, ["member"], {"bare_names": False}).settings == {}
    # A file to predict may have them, whatever the training data had.
    done = predict_file(HERE / "models_made_before/stays/model", path, tmp_path / "out.parquet", quiet())
    assert pl.read_parquet(tmp_path / "out.parquet")["age"].to_list() == ["40"] * 3
    assert done.notes == ("table.csv is written otherwise than the training data: read with bare_names: True",)


def test_a_column_of_lists_that_the_model_does_not_take_is_left_out_of_predictions_with_a_word(tmp_path: Path) -> None:
    row = {"age": 40, "score": 0.5, "member": True, "plan": "pro", "floor": "2", "note": "a"}
    (tmp_path / "new.jsonl").write_text(f"{json.dumps({**row, 'tags': ['a', 'b']})}\n{json.dumps(row)}\n")
    pl.DataFrame([{**row, "tags": ["a", "b"]}] * 2).write_parquet(tmp_path / "new.parquet")
    for name in ("new.jsonl", "new.parquet"):
        done = predict_file(HERE / "models_made_before/stays/model", tmp_path / name, tmp_path / "out.csv", quiet())
        assert pl.read_csv(tmp_path / "out.csv").columns[: len(row) + 1] == [*row, "prediction"]
        assert done.notes[0] == "column 'tags' is left out: each value holds several: store one value a cell"


def test_durations_and_times_of_day_of_a_sheet_are_seconds(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet, took, at = book.add_worksheet("data"), *(book.add_format({"num_format": form}) for form in ("[h]:mm:ss", "hh:mm"))
        sheet.write_row(0, 0, ["took", "at", "y"])
        for place in range(1, 31):
            sheet.write_datetime(place, 0, timedelta(hours=place), took)
            if place > 1:
                sheet.write_datetime(place, 1, time(place % 24, place), at)
            sheet.write(place, 2, "ab"[place % 2])
    table, columns = read(path, {}), {name: Column(kind="number", format="h:mm:ss") for name in ("took", "at")}
    seconds = cast_columns(table, columns)
    assert seconds["took"].to_list() == [3600.0 * place for place in range(1, 31)]
    assert seconds["at"].to_list() == [None, *(place % 24 * 3600.0 + place * 60 for place in range(2, 31))]
    assert {use.name: use.kind for use in starter(path, "y", tmp_path / "s.yaml").columns} == {
        "took": "number",
        "at": "number",
        "y": "category",
    }


def test_a_sheets_column_of_durations_and_other_things_is_text_and_no_year_1900(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    columns: dict[str, list[Any]] = {
        "number": [timedelta(hours=30), 5, timedelta(minutes=90)],
        "word": [timedelta(hours=2000), "x", timedelta(seconds=1)],
        "time": [timedelta(hours=3), time(4), time(5, 30)],
        "times": [time(7, 5), "noon", time(8)],
        "long": [time(3), timedelta(hours=26), time(0)],
        "day": [datetime(2024, 1, 31), datetime(2024, 2, 1, 10), None],
    }
    with xlsxwriter.Workbook(path) as book:
        sheet, took, at = book.add_worksheet("data"), *(book.add_format({"num_format": form}) for form in ("[h]:mm", "hh:mm"))
        for place, (name, cells) in enumerate(columns.items()):
            sheet.write(0, place, name)
            for row, cell in enumerate(cells, 1):
                form = at if isinstance(cell, time | datetime) or name == "long" else took
                sheet.write(row, place, cell, form if isinstance(cell, time | timedelta | datetime) else None)
    table = read(path, {})
    assert table.select("number", "word", "time", "times").to_dict(as_series=False) == {
        "number": ["30:00:00", "5", "1:30:00"],
        "word": ["2000:00:00", "x", "0:00:01"],
        "time": ["3:00:00", "4:00:00", "5:30:00"],
        "times": ["07:05:00", "noon", "08:00:00"],
    }
    assert as_numbers(table["long"], "number").to_list() == [10800.0, 93600.0, 0.0]
    assert table["day"].to_list() == columns["day"]


def test_a_time_among_days_is_no_day_and_a_text_keeps_the_day_it_names(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    days = [datetime(2024, 1, 1) + timedelta(days=place, hours=place) for place in range(400)]
    with xlsxwriter.Workbook(path) as book:
        sheet, day, at = book.add_worksheet("data"), *(book.add_format({"num_format": form}) for form in ("yyyy-mm-dd", "hh:mm"))
        sheet.write_row(0, 0, ["day", "named", "born", "y"])
        for place, moment in enumerate(days, 1):
            if place % 9 == 0:
                sheet.write_number(place, 0, 0, day)  # what a formula makes of an empty cell
            elif place == 10:
                sheet.write_datetime(place, 0, time(7, 5), at)
            else:
                sheet.write_datetime(place, 0, moment, day)
            sheet.write(place, 1, "1899-12-31 07:00" if place % 2 else "never")
            sheet.write(place, 2, ["1899-12-31 07:00:00", "1899-12-30 07:00:00"][place % 2])
            sheet.write(place, 3, "ab"[place % 2])
    table = read(path, {})
    assert table["day"].to_list()[7:11] == ["2024-01-08 07:00:00", "0000-00-00 00:00:00", "7:05:00", "2024-01-11 10:00:00"]
    assert table["named"].to_list()[:2] == ["1899-12-31 07:00", "never"]
    assert table["born"].to_list()[:2] == ["1899-12-30 07:00:00", "1899-12-31 07:00:00"]
    made = starter(path, "y", tmp_path / "s.yaml")
    assert "'0000-00-00 00:00:00' stands for null in day (44)" in made.split
    use = next(use for use in made.columns if use.name == "day")
    assert (use.kind, use.note) == ("datetime", "1 value is none of its kind (such as '7:05:00'): its row is set aside")


def test_a_nan_of_pythons_json_is_null_and_one_in_a_text_is_none(tmp_path: Path) -> None:
    rows = [{"x": float("nan"), "t": 'NaN, "NaN" \\'}, {"x": 1.5, "t": "-Infinity"}]
    for name, text in (
        ("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        ("a.json", json.dumps(rows)),
        ("b.json", json.dumps({"d": rows})),
    ):
        (tmp_path / name).write_text(text)
        assert read(tmp_path / name, {}).rows(named=True) == [{**rows[0], "x": None}, rows[1]]
        (tmp_path / name).write_text(text.replace("1.5", "-Infinity"))
        with pytest.raises(PipelineError, match="it holds -Infinity, which is no number in JSON: write null or a number there"):
            read(tmp_path / name, {})


def test_the_sheet_is_that_in_which_the_target_stands(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("read me").write(0, 0, "please do not change")
        for name, columns in (("other", ["a", "b"]), ("data", NAMES)):
            sheet = book.add_worksheet(name)
            for place, row in enumerate((columns, *ROWS)):
                sheet.write_row(place, 0, row[: len(columns)])
    assert found(path, ["churned"]).settings == {"sheet": "data"}
    assert found(path).settings == {"sheet": "other"}


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "table.csv").touch()
    for way in (lambda: list(read_file(tmp_path, Source(path="."), 1)), lambda: found(tmp_path)):
        with pytest.raises(PipelineError, match="is a folder: name a file in it"):
            way()


def test_a_folder_without_a_file_of_rows_says_so(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    with pytest.raises(PipelineError, match=r"is a folder: it holds no file: put files of rows into it, or name another$"):
        starter(tmp_path, "y", tmp_path / "new.yaml")


def test_a_sheet_of_excel_is_read_below_its_title(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("empty")
        sheet = book.add_worksheet("data")
        for place, row in enumerate((["Report"], [], NAMES, *ROWS)):
            sheet.write_row(place, 0, row)
        book.add_worksheet("notes").write(0, 0, "x")
    seen = found(path, ["churned"])
    assert seen.settings == {"skip_lines": 2, "sheet": "data"}
    assert seen.notes[0] == "of the sheets data, notes the table is data"
    assert read(path, seen.settings)["id"].to_list() == list(range(60))


@pytest.mark.parametrize(("above", "header"), [(0, 1), (2, 1), (0, 2)])
def test_merged_cells_of_a_sheet_are_told_where_rows_are_and_nowhere_else(above: int, header: int, tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("other").merge_range(5, 0, 6, 0, "x")
        sheet = book.add_worksheet("a & b")
        if header == 2:
            sheet.merge_range(above, 0, above, 1, "both")
        sheet.write_row(above + header - 1, 0, ("kind", "x", "y"))
        for row in range(4):
            sheet.write_row(above + header + row, 1, (row, row % 2))
        sheet.merge_range(above + header, 0, above + header + 1, 0, "a")
        sheet.write_column(above + header + 2, 0, ("b", "c"))
    source = Source(path=str(path), sheet="a & b", skip_lines=above + header - 1 if header == 2 else 0)
    chunks = list(read_file(path, source, 1))
    assert chunks[0].frame["kind"].to_list() == ["a", None, "b", "c"]
    first = above + header + 1
    said = f"the others are empty (such as A{first}:A{first + 1}): unmerge and fill them"
    notes = [note for chunk in chunks for note in chunk.notes]
    assert notes == [f"table.xlsx: the value of a merged cell stands in its first alone, {said}"]


def test_names_that_a_sheet_has_in_two_rows_are_told(tmp_path: Path) -> None:
    rows = [[place, 100.5 + place, 7 * place, 9 * place] for place in range(20)]
    for years in ((2022, 2023), ("before", "after")):
        header, second = ["who", "size", None, None], [None, None, *years]
        with xlsxwriter.Workbook(tmp_path / "table.xlsx") as book:
            sheet = book.add_worksheet("data")
            for place, row in enumerate((header, second, *rows)):
                sheet.write_row(place, 0, row)
        lines = [["" if cell is None else str(cell) for cell in row] for row in (header, second, *rows)]
        (tmp_path / "table.csv").write_text("\n".join(map(",".join, lines)) + "\n")
        for name in ("table.xlsx", "table.csv"):
            notes = found(tmp_path / name, ["size"]).notes
            assert "columns without a name are called by their place: column_3, column_4" in notes
            assert any(
                f"{years[0]}, {years[1]}') is read as a row: if it names columns, too, make one header of both" in note for note in notes
            )
    (tmp_path / "table.csv").write_text("who,size,,\n" + "".join(f"{n},{n},{n},{n}\n" for n in range(2000, 2020)))
    assert len(found(tmp_path / "table.csv", ["size"]).notes) == 1


def test_columns_of_one_name_in_a_sheet_are_called_as_in_a_text(tmp_path: Path) -> None:
    names = ["size", "y", "y", "y", "size_1", None]
    with xlsxwriter.Workbook(tmp_path / "table.xlsx") as book:
        sheet = book.add_worksheet("data")
        for place, row in enumerate(
            (["Report"], [], names, *([n * 37 % 101, n % 2, n % 2, n % 3, n * 5 % 13, n * 3 % 7] for n in range(60)))
        ):
            sheet.write_row(place, 0, row)
    made = starter(tmp_path / "table.xlsx", "y", tmp_path / "new.yaml")
    assert "columns of one name are told apart by a number: the next 'y' is 'y_2', the next 'y' is 'y_3'" in made.split
    assert "columns without a name are called by their place: column_6" in made.split
    uses = {use.name: (use.use, use.why) for use in made.columns}
    copies = ("left out", "the header calls it 'y' as well, which is the target")
    assert (uses["y_2"], uses["y_3"]) == (copies, copies)
    assert {name for name, (use, _) in uses.items() if use == "feature"} == {"size", "size_1", "column_6"}


@pytest.mark.parametrize("names", [["size", "y", "y", "z"], ["size", "y", "x", "z"], None])
def test_empty_rows_above_a_sheets_title_or_table_are_counted(names: list[str] | None, tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    rows: list[list[Any]] = [[n * 37 % 101 / 2, n % 7 / 4, n * 5 % 13 / 2, n * 3 % 7 / 4] for n in range(60)]
    head: list[list[Any]] = [] if names is None else [["Report"], [], names]
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("data")
        for place, row in enumerate([*head, *rows], 2):
            sheet.write_row(place, 0, row)
    wanted = ["column_1", "column_2", "column_3", "column_4"] if names is None else ["size", "y", "y_2" if "x" not in names else "x", "z"]
    start = 2 if names is None else 4
    for known in ({}, {"skip_lines": start}):
        seen = found(path, ["size", "y"], known)
        table = read(path, {**known, **seen.settings})
        assert seen.settings["skip_lines"] == start
        assert (table.columns, table.height, table.row(1)) == (wanted, 60, tuple(rows[1]))


def test_a_file_is_read_from_the_sheet_of_the_training_data(tmp_path: Path) -> None:
    for name, sheets in {"same": ("2022", "2023"), "another": ("2024", "2025"), "one": ("2024",)}.items():
        with xlsxwriter.Workbook(tmp_path / f"{name}.xlsx") as book:
            for place, title in enumerate(sheets):
                sheet = book.add_worksheet(title)
                sheet.write_row(0, 0, ["age", "score", "member", "plan", "floor"])
                sheet.write_row(1, 0, [40 + place, 0.5, "true", "pro", "2"])
    shutil.copytree(HERE / "models_made_before/stays/model", tmp_path / "model")
    facts = tmp_path / "model/training.json"
    trained = Source(path="t.xlsx", sheet="2023").dialect
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "dialect": msgspec.to_builtins(trained)}))
    for name, age, notes in (
        ("same", 41, ()),
        ("another", 40, ("another.xlsx has no sheet '2023' with rows, as the training data has: '2024' is read",)),
        ("one", 40, ("one.xlsx has no sheet '2023' with rows, as the training data has: '2024' is read",)),
    ):
        done = predict_file(tmp_path / "model", tmp_path / f"{name}.xlsx", tmp_path / "out.parquet", quiet())
        assert (pl.read_parquet(tmp_path / "out.parquet")["age"].to_list(), done.notes) == ([age], notes)


def several(folder: Path, **files: str) -> Settings:
    """A pipeline over the CSV files of a folder."""
    (folder / "parts").mkdir()
    for name, content in files.items():
        (folder / "parts" / f"{name}.csv").write_text(content)
    return table_settings({"word": "category", "y": "number"}, source="parts/*.csv")


def test_the_files_of_a_folder_or_a_pattern_are_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    settings = several(tmp_path, b="y;word\n3;c\n\n4;d\n", a="word,y\na,1\nb\nb,2\n", c="word,y,z\ne,5,0\n")
    for source in ("parts/*.csv", "parts", "p*/?.csv", "**/[a-c].csv"):
        table, report, _ = ingested(tmp_path, with_source(settings, source))
        assert (table.rows(), report["rows_broken"]) == ([("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0), ("e", 5.0)], 1)
    layout = layout_in(tmp_path, settings)
    assert STAGES[0].inputs(settings, layout) == [tmp_path / "parts" / f"{name}.csv" for name in "abc"]
    chunks = list(read_source(settings.dataset.source, layout, 1, ()))
    assert [number for chunk in chunks for number in (*(row.row for row in chunk.broken), *chunk.row_numbers)] == [2, 1, 3, 4, 5, 6]
    assert [note for chunk in chunks for note in chunk.notes] == [
        "b.csv is written otherwise than the training data: read with delimiter: ';'",
        "b.csv: its columns stand in another order than those of a.csv: read by their names",
        "c.csv: column 'z' is not in a.csv: left out, in later files too",
    ]


def with_source(settings: Settings, path: str) -> Settings:
    data = settings.dataset
    source = data.source.model_copy(update={"path": path})
    return settings.model_copy(update={"dataset": data.model_copy(update={"source": source})})


def test_a_file_that_lacks_a_column_of_the_others_is_named(tmp_path: Path) -> None:
    settings = several(tmp_path, a="word,y\na,1\n", b="word,z\nb,2\n")
    layout = layout_in(tmp_path, settings)
    with pytest.raises(PipelineError, match=r"parts/b\.csv: has no column 'y', which a\.csv has: give every file the same columns"):
        list(read_source(settings.dataset.source, layout, 1, ()))


def test_a_folder_or_a_pattern_without_files_says_so(tmp_path: Path) -> None:
    settings = several(tmp_path)
    layout = layout_in(tmp_path, settings)
    for source, said in (("parts", "holds no file: put files into it"), ("parts/*.csv", "no file matches it: mend the pattern")):
        with pytest.raises(PipelineError, match=said):
            list(read_source(Source(path=source), layout, 1, ()))


def test_brackets_in_a_name_are_read_as_they_stand_where_there_is_such_a_file(tmp_path: Path) -> None:
    project = tmp_path / "my [project]"
    project.mkdir()
    settings = several(project, **{"rep[1]": "word,y\na,1\n", "rep1": "word,y\nb,2\n"})
    for source, names in (("parts/rep[1].csv", ["rep[1]"]), ("parts/rep[0-9].csv", ["rep1"]), ("parts/*.csv", ["rep1", "rep[1]"])):
        files = layout_in(project, settings).source_files(source)
        assert [file.stem for file in files] == names


def test_init_describes_a_folder_by_its_first_file_and_splits_by_all(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for month in range(1, 13):
        lines = [f"2024-{month:02}-{day + 1:02},{day % 7},{['no', 'yes'][day % 2]}\n" for day in range(28)]
        (tmp_path / f"parts/{month:02}.csv").write_text("day,x,late\n" + "".join(lines))
    config = tmp_path / "new.yaml"
    config.write_text(starter(tmp_path / "parts", "late", config).text)
    settings = load_settings(config)
    assert (Path(str(settings.dataset.source.path)).name, settings.dataset.time_column) == ("parts", "day")
    assert settings.split.test_last == "72d"  # from 18 October on
    assert ingested(tmp_path, settings)[1]["rows_kept"] == 336


@pytest.mark.parametrize("form", ["xlsx", "parquet", "json", "tsv"])
def test_cells_that_end_at_no_sign_do_not_tell_thousands_from_decimals(tmp_path: Path, form: str) -> None:
    table = pl.DataFrame({"lat": [f"48,{100 + n * 7}" for n in range(60)], "x": [n * n % 11 for n in range(60)], "y": ["no", "yes"] * 30})
    path = tmp_path / f"geo.{form}"
    if form == "xlsx":
        table.write_excel(path)
    else:
        {"parquet": table.write_parquet, "json": table.write_ndjson, "tsv": lambda p: table.write_csv(p, separator="\t")}[form](path)
    made = starter(path, "y", tmp_path / "new.yaml")
    assert any(use.name == "lat" and use.why.startswith("nothing tells whether '1,234' is 1234 or 1.234") for use in made.columns)


def test_lines_that_are_given_as_no_part_of_the_table_are_believed(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"a\x0cb\x85c;d\n\n1;2\n{text(';')}")
    seen = found(path, given={"skip_lines": 3})
    assert seen.settings == {"delimiter": ";", "skip_lines": 3}
    assert not [note for note in seen.notes if "without a name" in note]
    assert read(path, seen.settings).equals(TABLE)
    assert found(path, ["churned"]).settings == {"delimiter": ";", "skip_lines": 3}


def test_the_servers_csv_is_plain_or_written_as_the_training_data() -> None:
    columns = {"size": Column("number"), "city": Column("category")}
    contract = Contract(task="regression", columns=columns, categories={"city": ["Gent; Oost"]}, dialect=Dialect(delimiter=";", quote="'"))
    protocol = Invocations(Signature.of(contract))
    for body in ("size,city\n1.5,Gent; Oost\n", "\ufeffsize;city\r\n1.5;'Gent; Oost'\r\n", '\n"city","size"\n"Gent; Oost",1.5\n'):
        rows = protocol.rows_of_csv(body.encode())
        assert rows.numbers is not None and rows.categories is not None
        assert (rows.numbers.tolist(), rows.categories.tolist()) == ([[1.5]], [["Gent; Oost"]])


@pytest.mark.parametrize(
    ("header", "row", "form"),
    [
        ("weight;price;y", "48,123;3.682,15", "1234,5"),  # another column has decimal commas
        ("weight;share;y", "48,123;0,25", "1234,5"),
        ("weight;price;y", "48,123;3,682.15", "1,234.5"),  # another has decimal points
        ("weight,x,y", '"48,123",7', "1,234.5"),  # cells end at commas
        ("weight;x;y", "$48,123;7", "$1,234.5"),
        ("weight;x;y", "48,123;7", None),
    ],
)
def test_a_number_of_two_meanings_is_read_by_the_files_other_evidence_or_asked_for(
    tmp_path: Path, header: str, row: str, form: str | None
) -> None:
    cut = header[6]
    rows = [f"{row}{cut}{['no', 'yes'][n % 2]}".replace("123", str(123 + n)).replace("7", str(n * n % 11)) for n in range(40)]
    (tmp_path / "table.csv").write_text("\n".join([header, *rows]) + "\n")
    made = starter(tmp_path / "table.csv", "y", tmp_path / "new.yaml")
    (tmp_path / "new.yaml").write_text(made.text)
    settings = load_settings(tmp_path / "new.yaml")
    assert ("weight" in settings.features.exclude) is (form is None)
    assert any(use.why.startswith("nothing tells whether '1,234' is 1234 or 1.234") for use in made.columns) is (form is None)
    if form is not None:
        assert (settings.dataset.columns["weight"].format or settings.dataset.source.number_format) in (form, "1.234,5")


def test_a_cell_may_be_long_even_in_the_first_row(tmp_path: Path) -> None:
    table = TABLE.head(9).with_columns(pl.lit("a long review " * 15_000).alias("price"))
    path = tmp_path / "table.csv"
    table.write_csv(path)
    assert read(path, found(path).settings).equals(table)
