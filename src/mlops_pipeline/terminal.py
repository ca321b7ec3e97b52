"""The terminal: a console on which nothing that a user wrote is markup, and streams that any encoding can show."""

from __future__ import annotations

import codecs
import io
import sys
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN = {
    "✓": "+", "✗": "x", "▸": ">", "·": "-", "–": "-", "—": "-", "…": "...", "→": "->", "←": "<-", "×": "x", "≥": ">=", "≤": "<=", "±": "+-",
    "«": '"', "»": '"', "“": '"', "”": '"', "‘": "'", "’": "'", "µ": "u", "\N{NO-BREAK SPACE}": " ", "\N{REPLACEMENT CHARACTER}": "?",
}  # fmt: skip
"""Signs of ours, as plain text says them."""

READABLE = "mlops-readable"


def opened(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console that takes brackets for brackets: a path or a column may be called ``[x]``, ``[/s]`` or ``:car:``."""
    from rich.console import Console

    return Console(file=file, width=width, highlight=False, soft_wrap=True, markup=False, emoji=False)


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


def _plain(letter: str) -> str:
    """Our own signs in plain text, a spinner's as a star, a byte of a file's name as ``\\xfc``, any other letter as ``\\u00fc``."""
    code = ord(letter)
    if 0x2800 <= code <= 0x28FF:
        return "*"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return _PLAIN.get(letter) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
