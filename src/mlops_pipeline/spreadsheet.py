"""CSV files that people open: a cell that a spreadsheet would run as a formula gets an apostrophe before it.

Excel, LibreOffice and Google's run what begins with ``=``, ``+``, ``-``, ``@``, a tab or a line's end, whoever wrote it; a client of the
server is anybody. What is a number, its signs and separators alone, stays one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_RUN = "^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_NUMBER = "^[+-]?[0-9.,'_ \u00a0\u202f]*[0-9][.,]?([eE][+-]?[0-9]+)?[ \u00a0\u202f]?%?$"


def harmless_text(text: str) -> str:
    """A text as a cell that is not run."""
    return f"'{text}" if re.match(_RUN, text) and not re.fullmatch(_NUMBER, text) else text


def harmless(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """A table whose texts and names of columns are not run, and how many of its cells are written otherwise than they are."""
    import polars as pl
    import polars.selectors as cs

    texts = [name for name in frame.select(cs.string()).columns if frame.height]
    run = frame.select((pl.col(name).str.contains(_RUN) & ~pl.col(name).str.contains(_NUMBER)).fill_null(value=False) for name in texts)
    counts = {name: int(run[name].sum()) for name in texts}
    touched = [name for name, count in counts.items() if count]
    frame = frame.with_columns(pl.when(run[name]).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name) for name in touched)
    return frame.rename(_harmless_names(frame.columns)), sum(counts.values())


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


def said_of(cells: int) -> str:
    """What the user has to know of so many cells."""
    what = "1 cell that a spreadsheet would run begins" if cells == 1 else f"{cells:,} cells that a spreadsheet would run begin"
    return f"{what} with an apostrophe: --raw leaves them as they are"
