"""JSON as clients write it: with the words NaN and Infinity, whole numbers as 5.0, and sometimes with one key twice."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import numpy as np

from mlops_pipeline.serving.problems import refused

GZIP = b"\x1f\x8b"
SHORT = 100_000
"""Bytes of a text that is searched several times faster than it is looked at as a whole."""


def python_json(body: bytes) -> Any:
    """JSON with NaN read as null and Infinity kept; raises ValueError (also for halves of characters) or RecursionError."""
    read = json.loads(body.decode())  # of bytes it would take UTF-16 too, which no other reader here does
    json.dumps(read, ensure_ascii=False).encode()  # Python reads "\\ud800" as text that no encoding can write
    return _changed(read, lambda number: None if math.isnan(number) else number)


def how_written(body: bytes) -> str:
    """Why a body is no JSON, where its first bytes tell; empty where they do not. JSON is UTF-8 without a mark (RFC 8259, 8.1)."""
    if not body.strip():
        return "it is empty"
    if body.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark: send UTF-8 without one"
    if body.startswith(GZIP):
        return "it is compressed by gzip: send it plain"
    return "it is UTF-16 or UTF-32: send UTF-8" if body[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in body[:2] else ""


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


def keys_in(body: bytes) -> int:
    """How many keys a JSON text has, in all its objects together: each has a colon after it, outside of texts."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    letters = np.frombuffer(body, np.uint8)
    in_text = np.bitwise_xor.accumulate(letters == ord('"'))
    return int(np.count_nonzero((letters == ord(":")) & ~in_text))


def check_keys(body: bytes, distinct: int = -1) -> None:
    """Raises :class:`Refused` (400) for a JSON text in which an object has a key twice, since readers differ in which they take.

    ``distinct``: at most as many keys as it has without repeated ones. If it has no more there is nothing to look for.
    """
    if body.count(b":") == distinct or (len(body) < SHORT and _has_plain_keys(body, distinct)) or keys_in(body) == distinct:
        return
    try:
        # Numbers are not looked at, and Python would refuse the longest.
        json.loads(body, object_pairs_hook=_once, parse_int=len, parse_float=len, parse_constant=len)
    except (ValueError, RecursionError):
        raise refused(400, "malformed", "the body is nested too deeply to look for keys that stand twice: send it flatter") from None


def _has_plain_keys(body: bytes, count: int) -> bool:
    """Whether there are at most so many keys: without blanks each has its colon straight after it, and few other colons a quote before."""
    return body.translate(None, b" \t\r\n").count(b'":') == count


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        seen: set[str] = set()
        _refuse(next(name for name in names if name in seen or seen.add(name)))  # type: ignore[func-returns-value]


def _refuse(name: str) -> NoReturn:
    raise refused(400, "repeated_key", f"the key {name[:60]!r} stands twice in one object: send it once")


def _changed(value: Any, change: Callable[[float], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    return change(value) if isinstance(value, float) else value
