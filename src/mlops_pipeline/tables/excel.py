"""Sheets of Excel as tables, read by calamine."""

from __future__ import annotations

import html
import logging
import re
import zipfile
from collections.abc import Collection
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.contract.dialect import bare_names, column_names, numbered
from mlops_pipeline.spreadsheet import as_clock
from mlops_pipeline.tables.packing import seekable

if TYPE_CHECKING:
    import polars as pl

_MIXED = re.compile(r"unsupported column type combination.* for column (.+?)\n?\Z", re.DOTALL)
UNNAMED = re.compile(r"__UNNAMED__(\d+)")
_AGAIN = re.compile(r"(.+)_\d+")
"""What calamine's reader calls a column whose name stood there before, in a way of its own."""

NO_DAY, FIRST_DAY, LEAP_DAY = datetime(1899, 12, 31), datetime(1900, 1, 1), datetime(1900, 3, 1)
"""What a cell without a day holds as its day; the first that there is; and that from which on a sheet counts one too many."""

_NO_DATE = "0000-00-00 00:00:00"
"""How a zero is spelled that is shown as a day, as of an empty cell that a formula names: a word for null wherever one is read."""

TOOK_AT_MOST = datetime(1901, 1, 1)
"""Up to this moment a cell among durations is one, and no moment."""

_MERGED = re.compile(rb'<mergeCell ref="([A-Z]+([0-9]+):[A-Z]+[0-9]+)"')
_SHEET, _RELATED = re.compile("<sheet ([^>]*)>"), re.compile("<Relationship ([^>]*)>")
_ATTRIBUTE = re.compile('([A-Za-z:]+)="([^"]*)"')
LOOKED_BELOW = 100
"""So many empty rows may be above a header."""

_SPELLED = "%Y-%m-%d %H:%M:%S%.f"
_TIME_ALONE = f"^{NO_DAY:%Y-%m-%d} ([0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:[.][0-9]+)?)$"
"""How a time of day is spelled among texts."""

_BEFORE_1900 = "^1[0-8][0-9]{2}-"
"""How texts begin that are days of which Excel has none."""


def excel_table(path: Path, source: Source, n_rows: int | None = None) -> pl.DataFrame:
    """The table of a sheet, or its first rows, typed as its cells are, times of day too; raises :class:`ValueError`."""

    first = {"header_row": source.skip_lines} if source.header else {"header_row": None, "skip_rows": source.skip_lines}
    table, spelled = _typed(path, source.sheet, schema_sample_rows=None, n_rows=n_rows, **first)
    table = table.with_columns([_took(values, among_durations=values.name in spelled) for values in table])
    names = [f"column_{int(found[1]) + 1}" if (found := UNNAMED.fullmatch(name)) else name for name in table.columns]
    if source.header and any((found := _AGAIN.fullmatch(name)) and found[1] in names for name in names):
        names = names_as_written(path, source)
    table.columns = numbered(bare_names(names, source.dialect))
    return table


def names_as_written(path: Path, source: Source) -> list[str]:
    """The names in a sheet's header, of which some may be the same; a column without one is called by its place."""
    # A header without a place is the first row that holds anything; a place counts empty rows, too.
    header = excel_rows(path, source.sheet, source.skip_lines + 1, with_empty=source.skip_lines > 0)[source.skip_lines]
    return [name or made for name, made in zip(header, column_names(len(header)), strict=True)]


def _typed(path: Path, name: str | None, **options: Any) -> tuple[pl.DataFrame, Collection[str]]:
    """A sheet, and which of its columns are text since they hold durations beside other things."""
    import fastexcel

    book = _book(path)
    sheet = _sheet_of(book, name)
    spelled: dict[str, str] = {}
    while True:
        try:
            table: pl.DataFrame = book.load_sheet(sheet, dtypes=spelled or None, **options).to_polars()
        except fastexcel.FastExcelError as error:
            found = _MIXED.search(str(error))
            if found is None or found[1] in spelled:
                raise ValueError(str(error)) from error
            spelled[found[1]] = "string"
        else:
            return table, spelled


def _took(values: pl.Series, *, among_durations: bool) -> pl.Series:
    """A column of cells that hold a time of day alone, or how long something took, as durations; as clocks where it is text.

    Excel has no day before 1900: what lies there is a time without one.
    """
    import polars as pl

    if isinstance(values.dtype, pl.Datetime):
        low, high = values.min(), values.max()
        if not (isinstance(low, datetime) and isinstance(high, datetime) and NO_DAY <= low < FIRST_DAY):
            return values
        alone = (values - NO_DAY).alias(values.name)
        if high < LEAP_DAY:
            return alone
        # A time among days is no day, and nothing that is shown as a day is none: as texts each is what it is.
        clocks, moments = as_clock(alone), values.cast(pl.String).str.replace(r"\.0+$", "")
        spelled = pl.when(values == NO_DAY).then(pl.lit(_NO_DATE)).when(values < FIRST_DAY).then(clocks).otherwise(moments)
        return pl.select(spelled.alias(values.name)).to_series()
    if values.dtype != pl.String:
        return values
    if not among_durations:
        # Whoever writes other days before 1900 writes this one too.
        others = values.str.contains(_BEFORE_1900) & ~values.str.starts_with(f"{NO_DAY:%Y-%m-%d}")
        return values if others.any() else values.str.replace(_TIME_ALONE, "${1}")
    moment = values.str.to_datetime(_SPELLED, strict=False, time_unit="ms")
    first = pl.when(pl.col(values.name) < LEAP_DAY).then(pl.lit(NO_DAY)).otherwise(pl.lit(NO_DAY - timedelta(days=1)))
    took = moment.to_frame().select(pl.when(pl.col(values.name) < TOOK_AT_MOST).then(pl.col(values.name) - first).alias(values.name))
    return pl.select(pl.coalesce(as_clock(took.to_series()), values).alias(values.name)).to_series()


def excel_header(path: Path, source: Source) -> list[str]:
    """The names of its columns."""
    return excel_table(path, source, n_rows=1).columns


def excel_rows(path: Path, sheet: str | None, count: int, *, with_empty: bool = False) -> list[list[str]]:
    """The first rows of a sheet as text; those that are empty at its start are among them only ``with_empty``."""
    book = _book(path)
    options = {"header_row": None, "skip_rows": 0 if with_empty else None, "n_rows": count, "dtypes": "string"}
    table: pl.DataFrame = book.load_sheet(_sheet_of(book, sheet), **options).to_polars()
    return [["" if cell is None else str(cell) for cell in row] for row in table.rows()]


def empty_rows(path: Path, sheet: str | None, within: int) -> int:
    """How many rows at a sheet's start are empty; 0 if more than so many are."""
    return next((place for place, row in enumerate(excel_rows(path, sheet, within, with_empty=True)) if any(row)), 0)


def merged_below_header(path: Path, source: Source) -> list[str]:
    """The merged cells among a sheet's rows, ``A3:A6``: each has its value in its first cell alone. None are known but of .xlsx.

    https://learn.microsoft.com/en-us/dotnet/api/documentformat.openxml.spreadsheet.mergecell
    """
    name = _sheet_of(_book(path), source.sheet)
    with ExitStack() as stack:
        content = seekable(path, stack)
        if not zipfile.is_zipfile(content):
            return []
        with zipfile.ZipFile(content) as archive:
            part = _part_of(archive, name)
            merged = _MERGED.findall(archive.read(part)) if part is not None else []
    if not merged:
        return []
    # Without a place the header is the first row that holds anything; merged with what is below it, it has two rows.
    header = (source.skip_lines or empty_rows(path, name, LOOKED_BELOW)) + 1 if source.header else 0
    return [cells.decode() for cells, first in merged if int(first) > header]


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """Where in an archive a sheet lies; None if it is no .xlsx."""
    names = archive.namelist()
    if "xl/workbook.xml" not in names or "xl/_rels/workbook.xml.rels" not in names:
        return None
    sheets = [dict(_ATTRIBUTE.findall(tag)) for tag in _SHEET.findall(archive.read("xl/workbook.xml").decode())]
    key = next((one.get("r:id") for one in sheets if html.unescape(one.get("name", "")) == sheet), None)
    parts = [dict(_ATTRIBUTE.findall(tag)) for tag in _RELATED.findall(archive.read("xl/_rels/workbook.xml.rels").decode())]
    target = next((one.get("Target", "") for one in parts if one.get("Id") == key), "")
    found = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    return found if found in names else None


def sheet_names(path: Path) -> list[str]:
    """The names of its sheets that hold anything."""
    book = _book(path)
    return [name for name in book.sheet_names if book.load_sheet(name, header_row=None, n_rows=1).height]


def _book(path: Path) -> Any:
    try:
        import fastexcel
    except ImportError as error:
        raise ValueError("is an Excel file, which needs fastexcel: `pip install fastexcel`, or save it as CSV") from error
    # A column of which the cells told no type is text: nothing that a person could mend.
    logging.getLogger("fastexcel.types.dtype").setLevel(logging.ERROR)
    with ExitStack() as stack:
        content = seekable(path, stack).read()
    try:
        return fastexcel.read_excel(content)
    except fastexcel.FastExcelError as error:
        raise ValueError(str(error)) from error


def _sheet_of(book: Any, name: str | None) -> str:
    """The name of a book's sheet; without one that of the first that holds anything."""
    if name is not None and name not in book.sheet_names:
        raise ValueError(f"has no sheet '{name}': its sheets are {', '.join(book.sheet_names)}")
    if name is None:
        filled = (each for each in book.sheet_names if book.load_sheet(each, header_row=None, n_rows=1).height)
        name = next(filled, None)
    if name is None:
        raise ValueError("holds no row in any sheet")
    return name
