"""Sheets of Excel as tables, read by calamine."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.contract.dialect import bare_names, numbered
from mlops_pipeline.spreadsheet import as_clock
from mlops_pipeline.tables.packing import seekable

if TYPE_CHECKING:
    import polars as pl

_MIXED = re.compile(r"unsupported column type combination.* for column (.+?)\n?\Z", re.DOTALL)
UNNAMED = re.compile(r"__UNNAMED__(\d+)")
NO_DAY, FIRST_DAY, LEAP_DAY = datetime(1899, 12, 31), datetime(1900, 1, 1), datetime(1900, 3, 1)
"""What a cell without a day holds as its day; the first that there is; and that from which on a sheet counts one too many."""

TOOK_AT_MOST = datetime(1901, 1, 1)
"""Up to this moment a cell among durations is one, and no moment."""

_SPELLED = "%Y-%m-%d %H:%M:%S%.f"
_TIME_ALONE = f"^{NO_DAY:%Y-%m-%d} "


def excel_table(path: Path, source: Source, n_rows: int | None = None) -> pl.DataFrame:
    """The table of a sheet, or its first rows, typed as its cells are, times of day too; raises :class:`ValueError`."""

    first = {"header_row": source.skip_lines} if source.header else {"header_row": None, "skip_rows": source.skip_lines}
    table, spelled = _typed(path, source.sheet, schema_sample_rows=None, n_rows=n_rows, **first)
    table = table.with_columns([_took(values, among_durations=values.name in spelled) for values in table])
    names = [f"column_{int(found[1]) + 1}" if (found := UNNAMED.fullmatch(name)) else name for name in table.columns]
    table.columns = numbered(bare_names(names, source.dialect))
    return table


def _typed(path: Path, name: str | None, **options: Any) -> tuple[pl.DataFrame, Collection[str]]:
    """A sheet, and which of its columns are text since they hold durations beside other things."""
    spelled: dict[str, str] = {}
    while True:
        try:
            table: pl.DataFrame = _sheet(path, name, dtypes=spelled or None, **options).to_polars()
        except ValueError as error:
            found = _MIXED.search(str(error))
            if found is None or found[1] in spelled:
                raise
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
        has_none = isinstance(low, datetime) and isinstance(high, datetime) and NO_DAY <= low < FIRST_DAY and high < LEAP_DAY
        return (values - NO_DAY).alias(values.name) if has_none else values
    if values.dtype != pl.String:
        return values
    if not among_durations:
        return values.str.replace(_TIME_ALONE, "")
    moment = values.str.to_datetime(_SPELLED, strict=False, time_unit="ms")
    first = pl.when(pl.col(values.name) < LEAP_DAY).then(pl.lit(NO_DAY)).otherwise(pl.lit(NO_DAY - timedelta(days=1)))
    took = moment.to_frame().select(pl.when(pl.col(values.name) < TOOK_AT_MOST).then(pl.col(values.name) - first).alias(values.name))
    return pl.select(pl.coalesce(as_clock(took.to_series()), values).alias(values.name)).to_series()


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
