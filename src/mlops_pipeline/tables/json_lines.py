"""Records of JSON as tables: a line each, one list of them, or one object that holds them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mlops_pipeline.errors import one_line
from mlops_pipeline.tables.packing import opened

if TYPE_CHECKING:
    import polars as pl


_NO_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"|NaN|-?Infinity', re.DOTALL)


def json_tables(path: Path, used: Collection[str] | None, block_bytes: int) -> Iterator[pl.DataFrame]:
    """The records in order, about ``block_bytes`` at a time, each table with every column that any record has.

    What a record within a record holds is a column of both names, ``patient.age``. A column that holds numbers and text is text. Raises
    :class:`ValueError` if a column that is used holds lists.
    """
    import polars as pl

    try:
        if (records := _whole(path)) is not None:
            table = pl.read_json(io.BytesIO(records), infer_schema_length=None)
            yield table.select(_plain(dict(table.schema), used))
            return
        types = _types_of_all(path, block_bytes)
        plain = _plain(types, used)
        for block in _blocks(path, block_bytes):
            yield pl.read_ndjson(io.BytesIO(block), schema=types).select(plain)
    except (pl.exceptions.PolarsError, json.JSONDecodeError) as error:
        raise ValueError(f"its JSON cannot be read: {one_line(error)}") from error


def listing_columns(path: Path, block_bytes: int) -> list[str]:
    """The columns that hold lists in any record, and so are in no table. Raises :class:`ValueError`."""
    import polars as pl

    try:
        if (records := _whole(path)) is not None:
            types = dict(pl.read_json(io.BytesIO(records), infer_schema_length=None).schema)
        else:
            types = _types_of_all(path, block_bytes)
    except (pl.exceptions.PolarsError, json.JSONDecodeError) as error:
        raise ValueError(f"its JSON cannot be read: {one_line(error)}") from error
    return [name for name, held, _ in _flat(types) if held.is_nested()]


def _types_of_all(path: Path, block_bytes: int) -> dict[str, Any]:
    """The type of each column that any line has."""
    types: dict[str, Any] = {}
    for block in _blocks(path, block_bytes):
        for name, held in _types(block).items():
            types[name] = _both(types.get(name, held), held)
    return types


def _types(block: bytes) -> dict[str, Any]:
    """The type of each column of some lines."""
    import polars as pl

    schema = pl.read_ndjson(io.BytesIO(block), infer_schema_length=None).schema
    # Polars names columns in any order: that of the first record is its owner's.
    first = json.loads(block.split(b"\n", 1)[0])
    return {name: schema[name] for name in (*(name for name in first if name in schema), *sorted(set(schema) - set(first)))}


def _both(one: Any, other: Any) -> Any:
    """The type that holds the values of two."""
    import polars as pl

    if isinstance(other, pl.Null) or one == other:
        return one
    if isinstance(one, pl.Null):
        return other
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        left, right = ({field.name: field.dtype for field in struct.fields} for struct in (one, other))
        return pl.Struct({name: _both(left.get(name, right.get(name)), right.get(name, left.get(name))) for name in {**left, **right}})
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        return pl.List(_both(one.inner, other.inner))
    return pl.Float64 if one.is_numeric() and other.is_numeric() else pl.String


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
    for field in held.fields:
        yield from _within(f"{name}.{field.name}", field.dtype, place.struct.field(field.name))


def _plain(types: Mapping[str, Any], used: Collection[str] | None) -> list[pl.Expr]:
    plain: dict[str, pl.Expr] = {}
    for name, held, place in _flat(types):
        if held.is_nested() and (used is None or name in used):
            raise ValueError(f"column '{name}' holds lists, which are no number, text or truth value: take it out, or flatten it")
        if name in plain:
            raise ValueError(f"column '{name}' stands there twice, once within a record: give one of them another name")
        if not held.is_nested():
            plain[name] = place.alias(name)
    return list(plain.values())


def _whole(path: Path) -> bytes | None:
    """A file that is one value as a list of records; None where each line is a record. Raises :class:`ValueError`."""
    held = _one_value(path)
    return None if held is None else _strict(held)


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
        first = next((line for line in stream if line.strip()), b"").removeprefix(b"\xef\xbb\xbf").lstrip()
        if first.startswith(b"["):
            return first + stream.read()
        if _is_record(first):
            if any(line.strip() for line in stream):
                return None
            held = json.loads(first)
        else:
            held = json.loads(first + stream.read())
    return json.dumps(_records(held)).encode()


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
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


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    """Whole lines of a file, about as many bytes at a time."""
    with ExitStack() as stack:
        stream: IO[bytes] = opened(path, stack)
        rest = stream.read(3).removeprefix(b"\xef\xbb\xbf")
        while block := stream.read(size):
            whole, end, last = (rest + block).rpartition(b"\n")
            rest = last
            if (whole + end).strip():
                yield _strict((whole + end).lstrip())
        if rest.strip():
            yield _strict(rest.lstrip())
