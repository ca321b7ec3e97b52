"""Pages for people, from templates that lie beside this file: self-contained HTML and Markdown."""

import math
from functools import cache
from pathlib import Path
from typing import Any


def page(template: str, **values: Any) -> str:
    """A self-contained HTML page: everything it shows is inside it."""
    return str(_environment(True).get_template(template).render(**values))


def text(template: str, **values: Any) -> str:
    """A Markdown text."""
    return str(_environment(False).get_template(template).render(**values))


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
    )
    environment.filters["figure"] = lambda value, digits=4: "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"
    environment.filters["count"] = lambda value: f"{value:,}"
    return environment
