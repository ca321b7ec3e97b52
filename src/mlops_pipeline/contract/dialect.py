"""How a file is written: what parts a text into rows and cells, and where in a workbook a table stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mlops_pipeline.contract.values import BLANKS


class Dialect(msgspec.Struct, frozen=True):
    """A file's way of writing; without a word it is RFC 4180 in UTF-8 with a header."""

    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None
    """What makes a quote within quotes a sign like any other, beside writing it twice."""
    skip_blanks: bool = False
    """Whether blanks before a cell are no part of it."""
    closed: bool = False
    """Whether a delimiter also stands at the end of each row, though not of the header."""
    row_names: bool = False
    """Whether each row begins with its name, for which the header has no cell (R writes so): a first column without a name."""
    numbered: bool = False
    """Whether columns of one name are told apart by a number: price, price_2. Without it such a header is refused."""
    bare_names: bool = False
    """Whether blanks around the columns' names are no part of them."""
    trim: bool = False
    """Whether blanks around a cell are no part of it, as where a database pads its texts to one length."""
    encoding: str = "utf-8"
    header: bool = True
    """Whether the first line names the columns; else they are called ``column_1``, ``column_2`` …"""
    skip_lines: int = 0
    """Lines before the header, or before the first row, that are no part of the table."""
    comment: str | None = None
    """The sign with which lines begin that are no rows."""
    sheet: str | None = None
    """Of an Excel file: the sheet's name; None: the first that holds rows."""

    @property
    def unusual(self) -> dict[str, Any]:
        """What of it is not as RFC 4180 has it, by name."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) != getattr(PLAIN, name)}

    @property
    def is_plain(self) -> bool:
        """Whether Arrow reads it as it stands, once it is UTF-8."""
        return not self.skip_blanks and not (self.closed or self.row_names) and self.delimiter.isascii() and self.quote.isascii()


PLAIN = Dialect()


def column_names(count: int) -> list[str]:
    """What the columns of a file without a header are called."""
    return [f"column_{number}" for number in range(1, count + 1)]


def bare_names(names: Sequence[str], dialect: Dialect) -> list[str]:
    """The names without the blanks around them, where these are no part of them."""
    return [name.strip(BLANKS) for name in names] if dialect.bare_names else list(names)


def numbered(names: Sequence[str]) -> list[str]:
    """The names, each that stood there before told apart by a number: price, price_2."""
    there, made, counts = frozenset(names), dict[str, None](), dict[str, int]()
    for name in names:
        # What was taken stays taken: of many alike each goes on where the one before came to.
        count = counts.get(name, 1)
        one = name if count == 1 else f"{name}_{count}"
        while one in made or (count > 1 and one in there):
            count += 1
            one = f"{name}_{count}"
        counts[name], made[one] = count, None
    return list(made)
