"""JSON as clients of Python write it: with the words NaN and Infinity, and whole numbers as 5.0."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec


def python_json(body: bytes) -> Any:
    """JSON with NaN read as null and Infinity kept; raises ValueError (also for halves of characters) or RecursionError."""
    read = json.loads(body)
    json.dumps(read, ensure_ascii=False).encode()  # Python reads "\\ud800" as text that no encoding can write
    return _changed(read, lambda number: None if math.isnan(number) else number)


def without_nan(body: bytes) -> bytes:
    """The same as strict JSON; raises ValueError or RecursionError, also for Infinity, which strict JSON cannot say."""
    return json.dumps(python_json(body), allow_nan=False).encode()


def null_for_nan(body: bytes) -> bytes:
    """The body with the word NaN written as null outside of its texts; as it is where that is not plain to see."""
    if b"NaN" not in body or b"\\" in body:
        return body
    first, *rest = body.split(b"NaN")
    pieces, quotes = [first], first.count(b'"')
    for piece in rest:  # without an escape, an odd number of quotes before a word has it in a text
        pieces += (b"NaN" if quotes % 2 else b"null", piece)
        quotes += piece.count(b'"')
    return b"".join(pieces)


def whole_as_integers(body: bytes | memoryview) -> bytes:
    """Strict JSON with every whole number written as an integer; raises what msgspec raises."""
    return msgspec.json.encode(_changed(msgspec.json.decode(body), lambda number: int(number) if number.is_integer() else number))


def _changed(value: Any, change: Callable[[float], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    return change(value) if isinstance(value, float) else value
