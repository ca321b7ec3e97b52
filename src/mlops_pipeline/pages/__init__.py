"""Pages for people, from templates that lie beside this file: self-contained HTML and Markdown."""

import math
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any


def page(template: str, **values: Any) -> str:
    """A self-contained HTML page: everything it shows is inside it."""
    return str(_environment(True).get_template(template).render(**values))


def text(template: str, **values: Any) -> str:
    """A Markdown text."""
    return str(_environment(False).get_template(template).render(**values))


def visible(text: str) -> str:
    """The text with a sign for each character that hides, or that turns what stands around it: controls, marks of direction."""
    return "".join(_sign(letter) if unicodedata.category(letter) in ("Cc", "Cs") or letter in _TURNING else letter for letter in text)


def short(text: Any, most: int = 80) -> str:
    """A name for a heading or a cell: visible, and cut where it would fill the page."""
    shown = visible(str(text))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def in_markdown(text: Any, most: int = 120) -> str:
    """A user's word inside Markdown: nothing of it is markup, a link or the edge of a cell."""
    return re.sub(r"([\\`*\[\]<>|~$&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", " ".join(short(text, most).split()))


def as_code(text: Any, most: int = 120) -> str:
    """A user's word as code inside Markdown, whatever backticks it has."""
    shown = " ".join(short(text, most).split())
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    gap = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{gap}{shown}{gap}{fence}"


def figure(value: float | None, digits: int = 4) -> str:
    """A figure with as many digits as a reader can use: fewer behind the point where there are thousands before it."""
    if value is None or math.isnan(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.1f}" if abs(value) < 1e12 else f"{value:.{digits}g}"
    if abs(value) >= 100:
        return f"{value:.{min(digits, 2)}f}"
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10**-digits else f"{value:.2g}"


def percent(share: float, digits: int = 0) -> str:
    """A share as people read it; what is not all, or not nothing, is never called so."""
    least = 10**-digits
    if 0 < share * 100 < least / 2:
        return f"< {least:g} %"
    if least / 2 >= 100 - share * 100 > 0:
        return f"> {100 - least:g} %"
    return f"{share * 100:.{digits}f} %"


def round_values(low: float, high: float) -> list[float]:
    """Round values between two, for an axis."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step = next(step * each for each in (1, 2, 5, 10) if (high - low) / (step * each) <= 6)
    return [round(place * step, 12) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff")


def _sign(letter: str) -> str:
    code = ord(letter)
    if letter in "\t\n\r":
        return " "
    return chr(0x2400 + code) if code < 0x20 else "\N{REPLACEMENT CHARACTER}"


def _plain(value: Any) -> Any:
    return visible(value) if type(value) is str else value


@cache
def _environment(html: bool) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=html,  # noqa: S701  # off for Markdown only
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_plain if html else None,
    )
    environment.filters["short"] = short
    environment.filters["md"] = in_markdown
    environment.filters["code"] = as_code
    environment.filters["figure"] = figure
    environment.filters["percent"] = percent
    environment.filters["count"] = lambda value: f"{value:,}"
    return environment
