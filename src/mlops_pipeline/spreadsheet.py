"""Tables that people open: a cell of a CSV file that a spreadsheet would run as a formula gets an apostrophe before it.

Excel, LibreOffice and Google's run what begins with ``=``, ``+``, ``-``, ``@``, a tab or a line's end, whoever wrote it; a client of the
server is anybody. Some end a cell at ``;`` or a tab, as Excel does in German and French, and then quotes around the whole hold no line's
end: what follows one of these within a text is a cell too. What is a number, its signs and separators alone, stays one, and so does a
duration, which calls and names nothing; signs alone, as ``-`` for nothing, run nothing. How long something took, of which such a file has
no type, is written as a clock.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.errors import PipelineError

if TYPE_CHECKING:
    import polars as pl

_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_RUN = f"^[{_SIGNS}\t\r\n]"
_WITHIN = f'[;\t\r\n]"*[{_SIGNS}]'
_PIECE = re.compile(f'([;\t\r\n])("*[{_SIGNS}][^;\t\r\n]*)')
_CLOCK = "[0-9]+(?::[0-5][0-9]){1,2}(?:[.][0-9]+)?"
_TOOK = f"^[+-]?[0-9]+ ?d(?:ays?)?(?:,? ?[+-]?{_CLOCK})?$|^[+-]?{_CLOCK}$"
_PLAIN = f"^[{_SIGNS}]*$|^[+-]?[0-9.,'_ \u00a0\u202f]*[0-9][.,]?([eE][+-]?[0-9]+)?[ \u00a0\u202f]?%?$|{_TOOK}"


def harmless_text(text: str) -> str:
    """A text as a cell that is not run, nor any piece of it that may become a cell."""
    begin = "'" if re.match(_RUN, text) and not re.fullmatch(_PLAIN, text) else ""
    return begin + _PIECE.sub(lambda piece: piece[0] if re.fullmatch(_PLAIN, piece[2]) else f"{piece[1]}'{piece[2]}", text)


def as_clock(values: pl.Series) -> pl.Series:
    """A column of durations as texts, hours first, that are read as the same seconds again (``h:mm:ss``): ``30:00:00``, ``-0:00:01.5``."""
    import polars as pl

    whole = pl.col(values.name).cast(pl.Duration("us")).dt.total_microseconds()
    micros = whole.abs()
    parts = (micros // 3_600_000_000, micros // 60_000_000 % 60, micros // 1_000_000 % 60, micros % 1_000_000)
    hours, minutes, seconds, rest = (part.cast(pl.String) for part in parts)
    fraction = pl.when(parts[3] > 0).then("." + rest.str.zfill(6).str.strip_chars_end("0")).otherwise(pl.lit(""))
    sign = pl.when(whole < 0).then(pl.lit("-")).otherwise(pl.lit(""))
    clock = pl.concat_str(sign, hours, pl.lit(":"), minutes.str.zfill(2), pl.lit(":"), seconds.str.zfill(2), fraction)
    return values.to_frame().select(clock.alias(values.name)).to_series()


def harmless(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """A table whose texts and names of columns are not run, and how many of its cells are written otherwise than they are."""
    import polars as pl
    import polars.selectors as cs

    cells = 0
    for name in frame.select(cs.string()).columns:
        text = pl.col(name).str
        runs = text.contains(_RUN) & ~text.contains(_PLAIN) | text.contains(_WITHIN)
        suspects = frame.filter(runs)[name]
        shown = {each: other for each in suspects.unique() if (other := harmless_text(each)) != each}
        if shown:
            cells += int(suspects.is_in(list(shown)).sum())
            frame = frame.with_columns(pl.col(name).replace(shown))
    return frame.rename(_harmless_names(frame.columns)), cells


def _harmless_names(names: list[str]) -> dict[str, str]:
    taken, changed = set(names), {}
    for name in names:
        shown = harmless_text(name)
        while shown != name and shown in taken:
            shown = f"'{shown}"
        if shown != name:
            taken.add(shown)
            changed[name] = shown
    return changed


def check_format(target: Path) -> None:
    """Raise :class:`PipelineError` where a table is to be written in no format that :class:`TableFile` knows."""
    if target.suffix not in (".csv", ".parquet"):
        raise PipelineError(f"--output {target}: unknown format: end it in .csv or .parquet")


class TableFile(ExitStack):
    """A table that is written part by part: CSV or Parquet, by a ``suffix``. Of CSV no cell is run, unless it is to be ``raw``."""

    def __init__(self, path: Path, suffix: str, *, raw: bool) -> None:
        super().__init__()
        self._path, self._is_csv, self._raw = path, suffix == ".csv", raw
        self._writer: Any = None
        self._cells = 0

    @property
    def has_begun(self) -> bool:
        """Whether a part was written, if only one without rows."""
        return self._writer is not None

    @property
    def notes(self) -> list[str]:
        """What the user has to know of it."""
        return [said_of(self._cells)] if self._cells else []

    def write(self, frame: pl.DataFrame) -> None:
        """Add rows; all parts have the same columns."""
        import polars as pl
        import pyarrow.parquet as pq

        if self._is_csv:
            shown, cells = (frame, 0) if self._raw else harmless(frame)
            self._cells += cells
            shown = shown.with_columns([as_clock(values) for values in shown if values.dtype == pl.Duration])
            is_first, self._writer = not self.has_begun, self._writer or self.enter_context(self._path.open("wb"))
            shown.write_csv(self._writer, include_header=is_first)
            return
        table = frame.to_arrow(compat_level=None)
        self._writer = self._writer or self.enter_context(pq.ParquetWriter(self._path, table.schema, compression="zstd"))
        if table.num_rows:
            self._writer.write_table(table)


def said_of(cells: int) -> str:
    """What the user has to know of so many cells."""
    what = "1 cell that a spreadsheet would run has" if cells == 1 else f"{cells:,} cells that a spreadsheet would run have"
    return f"{what} an apostrophe before that: --raw leaves them as they are"
