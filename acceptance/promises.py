"""A row of the contract, what became of it, and the table of them all."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+@")


class Unmet(Exception):
    """What a row promises did not come about."""


def expect(holds: object, otherwise: str) -> None:
    """Raise :class:`Unmet` unless something holds."""
    if not holds:
        raise Unmet(otherwise)


class InPart(str):
    """What a check saw that could not do all that its row is for, for want of something on this machine."""

    __slots__ = ()


def without_credentials(text: str) -> str:
    """The text without what stands for user and password in its addresses."""
    return CREDENTIALS.sub("***@", text)


@dataclass(frozen=True)
class Row:
    """One promise: the lines that a user types for it, and a function that types them and says what it saw.

    The function is called with the session and the lines, and raises :class:`Unmet`. ``needs`` are names of rows that come before.
    A row that ``installs`` is given the caller's way to package indexes, passwords included; the others are not.
    """

    name: str
    section: str
    promise: str
    types: tuple[str, ...]
    check: Callable[..., str]
    needs: tuple[str, ...] = ()
    within: float = 600
    installs: bool = False


@dataclass(frozen=True)
class Result:
    """What a row showed; ``detail`` is what was typed last and what it printed, where the row failed."""

    row: Row
    passed: bool
    seen: str
    seconds: float
    detail: str = ""

    @property
    def in_part(self) -> bool:
        """Whether nothing failed, and not all was done."""
        return self.passed and isinstance(self.seen, InPart)

    @property
    def mark(self) -> str:
        """One sign for how it went."""
        return "–" if self.in_part else "✓" if self.passed else "✗"

    def line(self) -> str:
        """One line for the terminal, as soon as it is known."""
        return f"{self.mark} {self.row.section:<10} {self.row.name:<34} {self.seconds:6.1f} s  {self.seen}"


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
            head = f"{result.mark} {result.row.section:<12}" if i == 0 else " " * 14
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
        cells: list[Any] = [r.mark, r.row.section, cell(r.row.promise), code(r.row.types), cell(r.seen), f"{r.seconds:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    failures = [r for r in results if not r.passed]
    for r in failures:
        lines += ["", f"## ✗ {r.row.name}", "", "```text", r.detail, "```"]
    return without_credentials("\n".join(lines)) + "\n"


def closing_line(results: Sequence[Result], seconds: float) -> str:
    """How many rows pass, how many of the others did a part, and in what time."""
    in_part = sum(result.in_part for result in results)
    passed = sum(result.passed for result in results) - in_part
    minutes, rest = divmod(round(seconds), 60)
    took = f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{passed} of {len(results)} rows pass{f', {in_part} in part,' if in_part else ''} in {took}"
