"""Records of JSON as tables: a line each, one list of them, or one object that holds them."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mlops_pipeline.errors import one_line
from mlops_pipeline.tables.packing import opened

if TYPE_CHECKING:
    import polars as pl


NESTED = "each value holds several: store one value a cell"
MIXED = "some of its values are records or lists, and others are not: write all in one form"

_NO_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"|NaN|-?Infinity', re.DOTALL)


LONGEST = 1_000
"""A whole number of so many digits is larger than any number that is read."""

_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"  # a pair is a whole one
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""A line's end stands between the values of JSON, and never within a text."""


@dataclass(frozen=True)
class _Records:
    """The records of a file: each line is one, or ``whole`` holds them, as they are written in one value."""

    path: Path
    whole: Sequence[Any] | None

    @property
    def word(self) -> str:
        """What one of them is called where it is told of."""
        return "line" if self.whole is None else "record"

    def blocks(self, size: int) -> Iterator[tuple[int, bytes]]:
        """About as many bytes at a time, a record a line, and the number of the first line or record."""
        return _blocks(self.path, size) if self.whole is None else _joined(self.whole, size)


def json_tables(path: Path, used: Collection[str] | None, block_bytes: int) -> Iterator[pl.DataFrame]:
    """The records in order, about ``block_bytes`` at a time, each table with every column that any record has.

    What a record within a record holds is a column of both names, ``patient.age``. A column that holds numbers and text, or truth values
    and either, is text. Raises :class:`ValueError` if a column that is used holds lists, or records beside other values.
    """
    import polars as pl

    records = _records_of(path)
    types = _types_of_all(records, block_bytes)
    plain = _plain(types, used, records)
    read = _without_nested(types)
    try:
        for _, block in records.blocks(block_bytes):
            yield pl.read_ndjson(io.BytesIO(block), schema=read).select(plain)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"its JSON cannot be read: {one_line(error)}") from error


def unfit_columns(path: Path, block_bytes: int) -> dict[str, str]:
    """The columns that are in no table, with the reason: they hold lists, or records beside other values. Raises :class:`ValueError`."""
    return {name: reason for name, held, _ in _flat(_types_of_all(_records_of(path), block_bytes)) if (reason := _unfit(held))}


def _unfit(held: Any) -> str:
    """Why a type is in no table; empty if it is."""
    import polars as pl

    return MIXED if held == pl.Object else NESTED if held.is_nested() else ""


def _types_of_all(records: _Records, block_bytes: int) -> dict[str, Any]:
    """The type of each column that any record has; Object for records or lists beside other values."""
    types: dict[str, Any] = {}
    for number, block in records.blocks(block_bytes):
        for name, held in _types(block, records.word, number).items():
            types[name] = _both(types.get(name, held), held)
    return types


def _types(block: bytes, word: str, number: int) -> dict[str, Any]:
    """The type of each column of some lines, those of the first record first, in its order: Polars names them in any."""
    types = _types_by_polars(block, word, number) or _seen_in(block, word, number).types()
    first = json.loads(block.split(b"\n", 1)[0])
    return {name: types[name] for name in (*(name for name in first if name in types), *sorted(set(types) - set(first)))}


def _types_by_polars(block: bytes, word: str, number: int) -> dict[str, Any] | None:
    """The type of each column of some lines, where Polars sees all of them as they are; else None."""
    import polars as pl

    try:
        table = pl.read_ndjson(io.BytesIO(block), infer_schema_length=None)
        # It makes text of a list or an object that stands in a column of texts, and a zero of half a character.
        opens = [place.str.contains(r"^[\[{]").any() for _, held, place in _flat(table.schema) if held == pl.String]
        has_half = b"\\u" in block and _HALF.search(block) is not None
        if has_half or (opens and table.select(pl.any_horizontal(opens)).item()):
            return None
    except pl.exceptions.PolarsError:
        return None
    if _keys_in(block) != table.height * _count(table.schema):
        # Of a key that an object has twice it takes the first value, and others the last one.
        for place, line in _lines(block, number):
            _record(line, word, place)
    return dict(table.schema)


@dataclass
class _Seen:
    """What was seen under a key: each kind of value with the first line or record that has it, and what is in its records."""

    kinds: dict[str, int] = field(default_factory=dict)
    fields: dict[str, _Seen] = field(default_factory=dict)

    def add(self, value: Any, number: int, name: str = "") -> None:
        """Take one more value into account; raises :class:`ValueError` for a number that is too large and for half a character."""
        if value is None:
            return
        kind = _kind(value)
        self.kinds.setdefault(kind, number)
        if kind == "an object":
            for key, inner in value.items():
                self.fields.setdefault(key, _Seen()).add(inner, number, f"{name}.{key}" if name else key)
        elif isinstance(value, str) and _SURROGATES.search(value):
            raise ValueError(f"column '{name}' holds half a character (\\ud800 to \\udfff without its other half): mend the text")
        elif (isinstance(value, float) and math.isinf(value)) or (isinstance(value, int) and not -(2**127) <= value < 2**127):
            raise ValueError(f"column '{name}' holds a number that is too large to be read: write a smaller one, null or a text")

    def types(self) -> dict[str, Any]:
        """The type of each key of the records."""
        return {name: inner.held() for name, inner in self.fields.items()}

    def held(self) -> Any:
        """The type that holds all values."""
        import polars as pl

        kinds = set(self.kinds)
        if self.clash is not None:
            return pl.Object()
        if "an object" in kinds:
            return pl.Struct(self.types())
        plain = {
            "a list": pl.List(pl.Null),
            "a text": pl.String(),
            "a truth value": pl.Boolean(),
            "a fraction": pl.Float64(),
            "a whole number": pl.Int64(),
            "a long whole number": pl.Int128(),
        }
        if len(kinds) < 2:
            return plain[kinds.pop()] if kinds else pl.Null()
        if kinds & {"a text", "a truth value"}:
            return pl.String()
        return pl.Float64() if "a fraction" in kinds else pl.Int128()

    @property
    def clash(self) -> tuple[str, str] | None:
        """Two kinds of which one is a record or a list and the other is not, or is the other of them; the later one first."""
        for kind in ("an object", "a list"):
            other = next((other for other in self.kinds if other != kind), None) if kind in self.kinds else None
            if other is not None:
                return (kind, other) if self.kinds[kind] > self.kinds[other] else (other, kind)
        return None


def _kind(value: Any) -> str:
    """What a value of JSON is, in words."""
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int):
        return "a whole number" if -(2**63) <= value < 2**63 else "a long whole number"
    return {dict: "an object", list: "a list", str: "a text", float: "a fraction"}.get(type(value), "null")


def _seen_in(block: bytes, word: str, number: int, seen: _Seen | None = None) -> _Seen:
    """What some lines hold, and what is wrong with one: raises :class:`ValueError`, which names it."""
    seen = seen or _Seen()
    for place, line in _lines(block, number):
        record = _record(line, word, place)
        try:
            seen.add(record, place)
        except ValueError as error:
            raise ValueError(f"{word} {place}: {error}") from error
    return seen


def _keys_in(block: bytes) -> int:
    """How many keys some lines have, in all their objects together: each has a colon behind it, outside of texts."""
    if b"\\" in block:
        block = block.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(block.split(b'"')[::2]).count(b":")


def _lines(block: bytes, number: int) -> Iterator[tuple[int, bytes]]:
    """The lines that hold anything, each with its number."""
    return ((place, line) for place, line in enumerate(block.split(b"\n"), number) if line.strip())


def _record(line: bytes, word: str, place: int) -> dict[str, Any]:
    """What a line holds; raises :class:`ValueError`, with the line's number, for what is no record, and for a key that stands twice."""
    try:
        record = _loads(line)
    except json.JSONDecodeError as error:
        what = f"{error.msg}: character {error.pos + 1}"
        raise ValueError(f"{word} {place} is no JSON ({what}): mend it, or take it out") from error
    except ValueError as error:
        raise ValueError(f"{word} {place}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{word} {place} is {_kind(record)}, and no record: write it as the others are, or take it out")
    return record


def _loads(text: bytes) -> Any:
    return json.loads(text.decode(), object_pairs_hook=_once, parse_int=_whole_number)


def _whole_number(digits: str) -> float:
    """A number of more digits than anything holds is infinite, as one with such an exponent is; Python would refuse the longest."""
    return int(digits) if len(digits) < LONGEST else math.inf


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; raises :class:`ValueError` for a key that stands twice: readers take the one or the other (RFC 8259, 4)."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' stands twice in one object: take one out")
    return made


def _count(types: Mapping[str, Any]) -> int:
    """How many keys a record has that has all."""
    import polars as pl

    inner = [{one.name: one.dtype for one in held.fields} for held in types.values() if isinstance(held, pl.Struct)]
    return len(types) + sum(map(_count, inner))


def _clash(records: _Records, name: str) -> str:
    """Where a column has records or lists beside other values, in words."""
    seen = _Seen()
    for number, block in records.blocks(1 << 20):
        _seen_in(block, records.word, number, seen)
        found = dict(_places(seen.fields)).get(name)
        if found is not None and found.clash is not None:
            later, earlier = found.clash
            return (
                f"column '{name}' holds {later} in {records.word} {found.kinds[later]}, but {earlier} in {records.word} "
                f"{found.kinds[earlier]}: write all in one form, or take it out"
            )
    return f"column '{name}': {MIXED}"


def _places(fields: Mapping[str, _Seen], before: str = "") -> Iterator[tuple[str, _Seen]]:
    for key, inner in fields.items():
        yield f"{before}{key}", inner
        yield from _places(inner.fields, f"{before}{key}.")


def _both(one: Any, other: Any) -> Any:
    """The type that holds the values of two."""
    import polars as pl

    if isinstance(one, pl.Null) or isinstance(other, pl.Null) or one == other:
        return other if isinstance(one, pl.Null) else one
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        left, right = ({inner.name: inner.dtype for inner in struct.fields} for struct in (one, other))
        return pl.Struct({name: _both(left.get(name, right.get(name)), right.get(name, left.get(name))) for name in {**left, **right}})
    if one.is_nested() or other.is_nested() or pl.Object in (one, other):
        return one if isinstance(one, pl.List) and isinstance(other, pl.List) else pl.Object()
    if not (one.is_numeric() and other.is_numeric()):
        return pl.String()
    return pl.Int128() if one.is_integer() and other.is_integer() else pl.Float64()


def _without_nested(types: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what is in no table: Polars reads no column of lists that differ, or of mixed values."""
    import polars as pl

    kept: dict[str, Any] = {}
    for name, held in types.items():
        if isinstance(held, pl.Struct) and held.fields:
            if inner := _without_nested({inner.name: inner.dtype for inner in held.fields}):
                kept[name] = pl.Struct(inner)
        elif not _unfit(held):
            kept[name] = held
    return kept


def _flat(types: Mapping[str, Any]) -> Iterator[tuple[str, Any, pl.Expr]]:
    """Each column that is no record, or stands in one: its name, type and where it is found."""
    import polars as pl

    for name, held in types.items():
        yield from _within(name, held, pl.col(name))


def _within(name: str, held: Any, place: pl.Expr) -> Iterator[tuple[str, Any, pl.Expr]]:
    import polars as pl

    if not isinstance(held, pl.Struct) or not held.fields:
        yield name, held, place
        return
    for inner in held.fields:
        yield from _within(f"{name}.{inner.name}", inner.dtype, place.struct.field(inner.name))


def _plain(types: Mapping[str, Any], used: Collection[str] | None, records: _Records) -> list[pl.Expr]:
    import polars as pl

    plain: dict[str, pl.Expr] = {}
    there = [name for name, _, _ in _flat(types)]
    absent = () if used is None else tuple(name for name in used if name not in there)
    for name, held, place in _flat(types):
        is_used = used is None or name in used or (held == pl.Object and any(one.startswith(f"{name}.") for one in absent))
        if is_used and held == pl.Object:
            raise ValueError(_clash(records, name))
        if is_used and held.is_nested():
            what = "lists" if isinstance(held, pl.List) else "records without a key"
            raise ValueError(f"column '{name}' holds {what}, which are no number, text or truth value: take it out, or flatten it")
        if name in plain:
            raise ValueError(f"column '{name}' stands there twice, once within a record: give one of them another name")
        if not _unfit(held):
            plain[name] = place.alias(name)
    return list(plain.values())


def _records_of(path: Path) -> _Records:
    """The records of a file, however they are written. Raises :class:`ValueError`."""
    import msgspec

    try:
        held = _one_value(path)
        if held is None:
            return _Records(path, None)
        held = _strict(held)
        try:
            return _Records(path, msgspec.json.decode(held, type=list[msgspec.Raw]))
        except msgspec.MsgspecError:
            json.loads(held.decode())  # which says on which line it is wrong
            raise
    except UnicodeDecodeError as error:
        raise ValueError("it is not written in UTF-8, as JSON is: store it as UTF-8") from error
    except (msgspec.MsgspecError, json.JSONDecodeError) as error:
        raise ValueError(f"its JSON cannot be read: {one_line(error)}: mend it there") from error


def _joined(whole: Sequence[Any], size: int) -> Iterator[tuple[int, bytes]]:
    """Records that stand in one value, a line each."""
    block: list[bytes] = []
    held = 0
    for number, record in enumerate(whole, 1):
        block.append(bytes(record).translate(_ONE_LINE))
        held += len(block[-1])
        if held >= size or number == len(whole):
            yield number - len(block) + 1, b"\n".join(block)
            block, held = [], 0


def _strict(held: bytes) -> bytes:
    """JSON with null for the NaN that Python's writer puts there, but for one within a text. Raises :class:`ValueError` for infinity."""
    if b"NaN" not in held and b"Infinity" not in held:
        return held
    return _NO_JSON.sub(_null_for_nan, held)


def _null_for_nan(found: re.Match[bytes]) -> bytes:
    if found[0].startswith(b'"'):
        return found[0]
    if found[0] != b"NaN":
        raise ValueError(f"it holds {found[0].decode()}, which is no number in JSON: write null or a number there")
    return b"null"


def _one_value(path: Path) -> bytes | None:
    """The same as it is written."""
    with ExitStack() as stack:
        stream = opened(path, stack)
        lines = (line.removeprefix(b"\xef\xbb\xbf").lstrip() for line in stream)
        first = next(filter(None, lines), b"")
        if first.startswith(b"["):
            return first + stream.read()
        if _is_record(first):
            if any(line.strip() for line in stream):
                return None
            held = _loads(first)
        else:
            held = _loads(first + stream.read())
    return json.dumps(_records(held)).encode()


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line, parse_int=_whole_number), dict)
    except json.JSONDecodeError:
        return False


def _records(held: dict[str, Any]) -> list[dict[str, Any]]:
    """The records that one object holds: a list of them under some name, or a table as pandas writes it; else it is one itself."""
    values = list(held.values())
    listed = [value for value in values if isinstance(value, list) and value and all(isinstance(one, dict) for one in value)]
    if len(listed) == 1 or ("schema" in held and held.get("data") in listed):
        return list(held["data"] if len(listed) > 1 else listed[0])
    names, rows = held.get("columns"), held.get("data")
    if isinstance(names, list) and isinstance(rows, list) and all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return [dict(zip(map(str, names), row, strict=True)) for row in rows]
    if all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1:
        return [dict(zip(held, row, strict=True)) for row in zip(*values, strict=True)]
    return _keyed(held) if values and all(isinstance(value, dict) for value in values) else [held]


def _keyed(held: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of an object of objects: of rows by their number, of columns with equal keys; else it is one itself."""
    values = list(held.values())
    if all(key.isdigit() for key in held) and not all(key.isdigit() for key in values[0]):
        return values
    if len({tuple(value) for value in values}) == 1 < len(values[0]):
        return [{name: column[key] for name, column in held.items()} for key in values[0]]
    return [held]


def _blocks(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a file, about as many bytes at a time, and the number of the first one."""
    with ExitStack() as stack:
        stream: IO[bytes] = opened(path, stack)
        rest, number = stream.read(3).removeprefix(b"\xef\xbb\xbf"), 1
        while block := stream.read(size):
            whole, end, rest = (rest + block).rpartition(b"\n")
            yield from _begun(whole + end, number)
            number += whole.count(b"\n") + len(end)
        yield from _begun(rest, number)


def _begun(lines: bytes, number: int) -> Iterator[tuple[int, bytes]]:
    """The same from the first line on that holds anything."""
    bare = lines.lstrip()
    if bare:
        yield number + lines[: len(lines) - len(bare)].count(b"\n"), _strict(bare)
