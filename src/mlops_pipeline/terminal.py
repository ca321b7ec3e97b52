"""The terminal: a console on which nothing that a user wrote is markup, and streams that any encoding can show."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from mlops_pipeline.pages import visible

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN = {
    "✓": "+", "✗": "x", "▸": ">", "·": "-", "–": "-", "—": "-", "…": "...", "→": "->", "←": "<-", "×": "x", "≥": ">=", "≤": "<=", "±": "+-",
    "«": '"', "»": '"', "“": '"', "”": '"', "‘": "'", "’": "'", "µ": "u", "\N{NO-BREAK SPACE}": " ", "\N{REPLACEMENT CHARACTER}": "?",
}  # fmt: skip
"""Signs of ours, as plain text says them."""

READABLE = "mlops-readable"


def opened(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console that takes brackets for brackets: a path or a column may be called ``[x]``, ``[/s]`` or ``:car:``.

    Nor is any sign that it is given an order to the terminal (:func:`steady`).
    """
    from rich.console import Console
    from rich.segment import Segment

    class Steady(Console):
        def render(self, *given: Any, **more: Any) -> Iterator[Segment]:
            for segment in super().render(*given, **more):
                yield segment if segment.control else Segment(steady(segment.text), segment.style)

    return Steady(file=file, width=width, highlight=False, soft_wrap=True, markup=False, emoji=False)


def steady(text: str) -> str:
    """Text of others with a sign for each character that would steer a terminal, or turn what stands around it; lines stay lines."""
    return text if text.isprintable() else "".join(letter if letter == "\n" or _is_byte(letter) else visible(letter) for letter in text)


def make_readable() -> None:
    """Let standard output and standard error replace what their encoding cannot show, instead of failing on it."""
    codecs.register_error(READABLE, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READABLE)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _is_byte(letter: str) -> bool:
    """Whether it stands for a byte of a file's name that is no text."""
    return "\udc80" <= letter <= "\udcff"


def _plain(letter: str) -> str:
    """Our own signs in plain text, a spinner's as a star, a byte of a file's name as ``\\xfc``, any other letter as ``\\u00fc``."""
    code = ord(letter)
    if 0x2800 <= code <= 0x28FF:
        return "*"
    if _is_byte(letter):
        return f"\\x{code - 0xDC00:02x}"
    return _PLAIN.get(letter) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
