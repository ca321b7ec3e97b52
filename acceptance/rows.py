"""A row of the contract, what became of it, and the table of them all."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MARKS = {True: "✓", False: "✗"}


class Unmet(Exception):
    """What a row promises did not come about."""


def expect(holds: object, otherwise: str) -> None:
    """Raise :class:`Unmet` unless something holds."""
    if not holds:
        raise Unmet(otherwise)


@dataclass(frozen=True)
class Row:
    """One promise: the lines that a user types for it, and a function that types them and says what it saw.

    The function is called with the desk and the lines, and raises :class:`Unmet`. ``needs`` are names of rows that come before.
    """

    name: str
    section: str
    promise: str
    types: tuple[str, ...]
    check: Callable[..., str]
    needs: tuple[str, ...] = ()
    within: float = 300


@dataclass(frozen=True)
class Result:
    """What a row showed; ``detail`` is what was typed last and what it printed, where the row failed."""

    row: Row
    passed: bool
    seen: str
    seconds: float
    detail: str = ""

    def line(self) -> str:
        """One line for the terminal, as soon as it is known."""
        return f"{MARKS[self.passed]} {self.row.section:<10} {self.row.name:<34} {self.seconds:6.1f} s  {self.seen}"


def chosen(rows: Sequence[Row], only: Sequence[str], *, again: bool = False) -> list[Row]:
    """The rows whose section, name, promise or lines contain one of the texts, and, unless that was done before, those that they need."""
    by_name = {row.name: row for row in rows}
    wanted: set[str] = set()

    def want(row: Row) -> None:
        if row.name not in wanted:
            wanted.add(row.name)
            for name in () if again else row.needs:
                want(by_name[name])

    for row in rows:
        words = " ".join((row.section, row.name, row.promise, *row.types)).lower()
        if not only or any(text.lower() in words for text in only):
            want(row)
    return [row for row in rows if row.name in wanted]


def missing_need(row: Row, failed: Collection[str]) -> str | None:
    """The first row that this one needs and that has failed."""
    return next((name for name in row.needs if name in failed), None)


def as_text(results: Iterable[Result], width: int = 150) -> str:
    """The table as aligned text; long cells go on in the next line."""
    left = 54
    right = max(width - left - 24, 40)
    lines = [f"{'':2}{'section':<12}{'what is typed':<{left}}{'seconds':>8}  what was seen", "─" * (left + right + 24)]
    for result in results:
        typed = [
            part for line in result.row.types for part in textwrap.wrap(line, left - 2, subsequent_indent="    ", break_on_hyphens=False)
        ]
        seen = textwrap.wrap(result.seen, right) or [""]
        for i in range(max(len(typed), len(seen))):
            head = f"{MARKS[result.passed]} {result.row.section:<12}" if i == 0 else " " * 14
            seconds = f"{result.seconds:8.1f}" if i == 0 else " " * 8
            cells = [column[i] if i < len(column) else "" for column in (typed, seen)]
            lines.append(f"{head}{cells[0]:<{left}}{seconds}  {cells[1]}".rstrip())
    return "\n".join(lines)


def as_markdown(results: Iterable[Result], head: str, closing: str) -> str:
    """The same as a Markdown page."""

    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ")

    def code(lines: Iterable[str]) -> str:
        return "<br>".join(f"``{cell(line)}``" if "`" in line else f"`{cell(line)}`" for line in lines)

    lines = [
        f"# {closing}",
        "",
        head,
        "",
        "| | section | what must happen | what was typed | what was seen | s |",
        "|---|---|---|---|---|--:|",
    ]
    for r in results:
        cells: list[Any] = [MARKS[r.passed], r.row.section, cell(r.row.promise), code(r.row.types), cell(r.seen), f"{r.seconds:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    failures = [r for r in results if not r.passed]
    for r in failures:
        lines += ["", f"## ✗ {r.row.name}", "", "```text", r.detail, "```"]
    return "\n".join(lines) + "\n"


def closing_line(results: Sequence[Result], seconds: float) -> str:
    """How many rows pass, and in what time."""
    passed = sum(result.passed for result in results)
    minutes, rest = divmod(round(seconds), 60)
    took = f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{passed} of {len(results)} rows pass in {took}"
