"""The newest records as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from mlops_pipeline.contract.task import PROBABILITY
from mlops_pipeline.pages import visible
from mlops_pipeline.records.encoding import BRIEF_TEXT
from mlops_pipeline.records.query import Bounds
from mlops_pipeline.records.reading import newest

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

    from mlops_pipeline.config.serving import RecordStore

SHORT_ID, LONG_ID = 8, 24
"""Characters of a request's id on a narrow terminal, if they tell it from the others shown: one worker's ids begin alike."""
WIDE = 120
"""Columns of a terminal from which on ids are shown in full."""


def show(where: str | Path | RecordStore, *, limit: int = 20, request: str = "", **bounds: Unpack[Bounds]) -> Shown:
    """The newest rows for the terminal, the last one lowest; the features are left to :func:`~mlops_pipeline.records.reading.export`.

    With ``request`` those of requests whose id begins so: what was answered, and what the other arm of a release said, if it was asked.
    """
    return Shown(newest(where, limit, request=request, **bounds))


@dataclass(frozen=True)
class Shown:
    """Records as a terminal of any width shows them: on a narrow one with the time alone if all are of one day, and short ids."""

    table: pl.DataFrame

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[Table | str]:
        if not self.table.height:
            yield "no records"
            return
        yield self._drawn(wide=options.max_width >= WIDE)

    def _drawn(self, *, wide: bool) -> Table:
        from rich.table import Table
        from rich.text import Text

        days = self.table["time"].drop_nulls().dt.date().unique().to_list()
        of_one_day = len(days) == 1
        clock = "%H:%M:%S" if of_one_day else "%Y-%m-%d %H:%M:%S" if wide else "%m-%d %H:%M:%S"
        has_many_rows, has_ids = bool((self.table["row"] > 0).any()), self.table["id"].null_count() < self.table.height
        has_arms = bool((self.table["arm"].fill_null("") != "").any())
        title = f"{days[0]:%Y-%m-%d} (UTC)" if of_one_day else None
        drawn = Table(box=None, title=title, title_justify="left", padding=(0, 2, 0, 0))
        drawn.add_column("time" if of_one_day else "time (UTC)", no_wrap=True)
        drawn.add_column("request", no_wrap=True)
        if has_many_rows:
            drawn.add_column("row", justify="right", no_wrap=True)
        if has_ids:
            drawn.add_column("id", overflow="fold")
        drawn.add_column("model", overflow="fold")
        if has_arms:
            drawn.add_column("arm", overflow="fold")
        drawn.add_column("ms", justify="right", no_wrap=True)
        drawn.add_column("prediction or error", overflow="fold")
        length = _telling(self.table["request_id"].drop_nulls().to_list())
        for row in self.table.iter_rows(named=True):
            request = _plain(row["request_id"] if wide else _short(row["request_id"], length))
            cells = (
                f"{row['time']:{clock}}.{row['time'].microsecond // 1000:03}" if row["time"] is not None else "",
                request,
                *([_plain(row["row"])] if has_many_rows else []),
                *([_plain(row["id"])] if has_ids else []),
                " ".join(filter(None, (_plain(row["model"]), _plain(row["version"])))),
                *([_arm(row)] if has_arms else []),
                "" if row["latency_ms"] is None else f"{row['latency_ms']:.2f}",
                _outcome(row),
            )
            drawn.add_row(*(Text.from_markup(cell, emoji=False) for cell in cells))
        return drawn


def _outcome(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"[red]{_plain(row['error'])}[/red]"
    said = row["prediction"]
    probability = row.get(f"{PROBABILITY}{said}")
    return (f"{said:.6g}" if isinstance(said, float) else _plain(said)) + ("" if probability is None else f"  {probability:.4f}")


def _arm(row: dict[str, Any]) -> str:
    """The arm that answered, and why where that is no matter of course."""
    return _plain(row["arm"]) + (f" ({_plain(row['why'])})" if row["why"] else "")


def _telling(ids: list[str]) -> int:
    """How many first characters tell ids apart, from :data:`SHORT_ID` to :data:`LONG_ID`."""
    return next((length for length in range(SHORT_ID, LONG_ID) if len({each[:length] for each in ids}) == len(set(ids))), LONG_ID)


def _short(text: str | None, length: int) -> str:
    return "" if text is None else text if len(text) <= length + 1 else f"{text[:length]}…"


def _plain(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    text = str(value)
    text = text if len(text) <= BRIEF_TEXT else f"{text[:BRIEF_TEXT]}…"
    return escape(visible(text))
