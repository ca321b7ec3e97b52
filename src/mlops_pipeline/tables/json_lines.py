"""Records of JSON as tables: a line each, or one list of them."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mlops_pipeline.errors import one_line
from mlops_pipeline.tables.packing import opened

if TYPE_CHECKING:
    import polars as pl


def json_tables(path: Path, used: Collection[str] | None, block_bytes: int) -> Iterator[pl.DataFrame]:
    """The records in order, about ``block_bytes`` at a time, each table with every column that any record has.

    A column that holds numbers and text is text. Raises :class:`ValueError` if a column that is used holds lists or records.
    """
    import polars as pl

    try:
        if _is_list(path):
            with ExitStack() as stack:
                table = pl.read_json(io.BytesIO(opened(path, stack).read().removeprefix(b"\xef\xbb\xbf")), infer_schema_length=None)
            yield table.select(_plain(dict(table.schema), used))
            return
        types: dict[str, Any] = {}
        for block in _blocks(path, block_bytes):
            schema = pl.read_ndjson(io.BytesIO(block), infer_schema_length=None).schema
            # Polars names columns in any order: that of the first record is its owner's.
            first = json.loads(block.split(b"\n", 1)[0])
            for name in (*(name for name in first if name in schema), *sorted(set(schema) - set(first))):
                types[name] = _both(types.get(name, schema[name]), schema[name])
        plain = _plain(types, used)
        for block in _blocks(path, block_bytes):
            yield pl.read_ndjson(io.BytesIO(block), schema=types).select(plain)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"its JSON cannot be read: {one_line(error)}") from error


def _both(one: Any, other: Any) -> Any:
    """The type that holds the values of two."""
    import polars as pl

    if isinstance(other, pl.Null) or one == other:
        return one
    if isinstance(one, pl.Null):
        return other
    return pl.Float64 if one.is_numeric() and other.is_numeric() else pl.String


def _plain(types: dict[str, Any], used: Collection[str] | None) -> list[str]:
    nested = [name for name, held in types.items() if held.is_nested()]
    for name in nested:
        if used is None or name in used:
            raise ValueError(
                f"column '{name}' holds lists or records, which are no number, text or truth value: take it out, or flatten it"
            )
    return [name for name in types if name not in nested]


def _is_list(path: Path) -> bool:
    with ExitStack() as stack:
        return opened(path, stack).read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    """Whole lines of a file, about as many bytes at a time."""
    with ExitStack() as stack:
        stream: IO[bytes] = opened(path, stack)
        rest = stream.read(3).removeprefix(b"\xef\xbb\xbf")
        while block := stream.read(size):
            whole, end, last = (rest + block).rpartition(b"\n")
            rest = last
            if (whole + end).strip():
                yield (whole + end).lstrip()
        if rest.strip():
            yield rest.lstrip()
