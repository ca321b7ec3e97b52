"""Sheets of Excel as tables, read by calamine."""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.contract.dialect import bare_names, numbered
from mlops_pipeline.tables.packing import seekable

if TYPE_CHECKING:
    import polars as pl

UNNAMED = re.compile(r"__UNNAMED__(\d+)")
FIRST_DAYS = (datetime(1899, 12, 30), datetime(1900, 1, 1))
"""Between these lie the moments of cells that hold a time of day alone."""


def excel_table(path: Path, source: Source, n_rows: int | None = None) -> pl.DataFrame:
    """The table of a sheet, or its first rows, typed as its cells are, times of day too; raises :class:`ValueError`."""
    import polars as pl

    first = {"header_row": source.skip_lines} if source.header else {"header_row": None, "skip_rows": source.skip_lines}
    table: pl.DataFrame = _sheet(path, source.sheet, schema_sample_rows=None, n_rows=n_rows, **first).to_polars()
    names = [f"column_{int(found[1]) + 1}" if (found := UNNAMED.fullmatch(name)) else name for name in table.columns]
    table.columns = numbered(bare_names(names, source.dialect))
    return table.with_columns(pl.col(values.name).dt.time() for values in table if _is_time_of_day(values))


def _is_time_of_day(values: pl.Series) -> bool:
    """Whether every value of a column of moments lies in the days before a sheet's first: its cells hold no day."""
    import polars as pl

    if not isinstance(values.dtype, pl.Datetime) or not values.count():
        return False
    return bool(values.is_between(*FIRST_DAYS, closed="left").all())


def excel_header(path: Path, source: Source) -> list[str]:
    """The names of its columns."""
    return excel_table(path, source, n_rows=1).columns


def excel_rows(path: Path, sheet: str | None, count: int) -> list[list[str]]:
    """The first rows of a sheet as text."""
    table: pl.DataFrame = _sheet(path, sheet, header_row=None, n_rows=count, dtypes="string").to_polars()
    return [["" if cell is None else str(cell) for cell in row] for row in table.rows()]


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


def _sheet(path: Path, name: str | None, **options: Any) -> Any:
    import fastexcel

    book = _book(path)
    if name is not None and name not in book.sheet_names:
        raise ValueError(f"has no sheet '{name}': its sheets are {', '.join(book.sheet_names)}")
    filled = [name] if name is not None else [each for each in book.sheet_names if book.load_sheet(each, header_row=None, n_rows=1).height]
    if not filled:
        raise ValueError("holds no row in any sheet")
    try:
        return book.load_sheet(filled[0], **options)
    except fastexcel.FastExcelError as error:
        raise ValueError(str(error)) from error
