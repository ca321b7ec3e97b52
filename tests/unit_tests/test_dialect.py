"""Files of text as people write them: what `mlops init` finds, and that every way in reads them the same afterwards."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mlops_pipeline.config.dataset import Source, given_of_source
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.scaffold import starter
from mlops_pipeline.tables.dialect import Unclear, found
from mlops_pipeline.tables.source import as_written, read_file
from tests.unit_tests.workshop import ingested

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
    assert "  # not UTF-8: read as cp1252, which makes 'Größe', 'Köln', 'Brügge': name another encoding if that looks wrong\n" in made.text
    assert "  # the first line is no part of the table ('Bericht')\n  source:\n" in made.text
    assert yaml.safe_load(made.text)["dataset"]["source"] == {
        "path": source.as_posix(),
        "delimiter": ";",
        "encoding": "cp1252",
        "skip_lines": 1,
    }
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


def test_a_file_is_what_it_holds_whatever_it_is_called(tmp_path: Path) -> None:
    records = "".join(json.dumps(row) + "\n" for row in TABLE.to_dicts())
    for name, content in {
        "plain.csv.gz": text().encode(),
        "packed.csv": gzip.compress(text().encode()),
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
    with pytest.raises(PipelineError, match=r"column 'b' holds lists or records, .*: take it out, or flatten it"):
        read(path, {})
    path.write_text('{"a": 1\n')
    with pytest.raises(PipelineError, match=r"table\.jsonl: cannot be read as a table: its JSON cannot be read"):
        read(path, {})


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    for way in (lambda: list(read_file(tmp_path, Source(path="."), 1)), lambda: found(tmp_path)):
        with pytest.raises(PipelineError, match="is a folder: name a file in it"):
            way()


def test_a_sheet_of_excel_is_read_below_its_title(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("fastexcel")
    book = openpyxl.Workbook()
    book.active.title = "empty"
    sheet = book.create_sheet("data")
    for row in (["Report"], [], NAMES, *ROWS):
        sheet.append(list(row))
    book.create_sheet("notes").append(["x"])
    path = tmp_path / "table.xlsx"
    book.save(path)
    seen = found(path, ["churned"])
    assert seen.settings == {"skip_lines": 2, "sheet": "data"}
    assert seen.notes[0] == "of the sheets data, notes the table is data"
    assert read(path, seen.settings)["id"].to_list() == list(range(60))
