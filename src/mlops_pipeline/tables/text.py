"""A file of text as Arrow's reader wants it: UTF-8, from its header on, written as RFC 4180 says where Arrow could not read it."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO

from mlops_pipeline.contract.dialect import Dialect
from mlops_pipeline.tables.dialect import Comments, csv_reader
from mlops_pipeline.tables.packing import opened

BLOCK = 1 << 20
ROWS = 10_000
"""Rows that are written anew at a time."""

_LINE = re.compile(rb"\r\n|\n|\r")


class _Blocks(io.RawIOBase):
    """A stream of blocks that are made as it is read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what a BufferedReader hands it
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def text_of(path: Path, dialect: Dialect, stack: ExitStack, left_out: Callable[[bytes, int], None] | None = None) -> IO[bytes]:
    """The text of a table in UTF-8; raises :class:`UnicodeDecodeError` while it is read if that is not its encoding.

    ``left_out`` is told of each comment below the table's header, and on which line it stands.
    """
    stream = opened(path, stack)
    head = stream.read(4)
    stream.seek(0)
    is_utf8 = codecs.lookup(dialect.encoding).name == "utf-8" or head.startswith(codecs.BOM_UTF8)
    if is_utf8 and not dialect.skip_lines and not dialect.comment and dialect.is_plain:
        return stream
    blocks = _blocks(stream) if is_utf8 else _recoded(_blocks(stream), dialect.encoding)
    if dialect.comment:
        blocks = without_comments(blocks, dialect, left_out)
    if dialect.skip_lines:
        blocks = _after_lines(blocks, dialect.skip_lines)
    if not dialect.is_plain:
        blocks = _rewritten(_stream(blocks), dialect)
    return _stream(blocks)


def _stream(blocks: Iterator[bytes]) -> IO[bytes]:
    return io.BufferedReader(_Blocks(blocks), BLOCK)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: stream.read(BLOCK), b"")


def _recoded(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder, begun = codecs.getincrementaldecoder(encoding)(), False
    for block in blocks:
        text = decoder.decode(block)
        yield (text if begun else text.removeprefix("\ufeff")).encode()
        begun = begun or bool(text)
    yield decoder.decode(b"", final=True).encode()


def _after_lines(blocks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """What stands behind some lines."""
    held = b""
    for block in blocks:
        held += block
        # A \r at the end may be half of a line's end.
        ends = [found.end() for found in _LINE.finditer(held) if found.end() < len(held) or held[-1:] == b"\n"]
        if len(ends) >= count:
            yield held[ends[count - 1] :]
            yield from blocks
            return


def without_comments(blocks: Iterable[bytes], dialect: Dialect, left_out: Callable[[bytes, int], None] | None = None) -> Iterator[bytes]:
    """The same without the lines that begin with a dialect's sign of comments, but for those within a quoted cell."""
    comments = Comments(dialect.comment or "", dialect.quote, dialect.delimiter, dialect.escape, skip_blanks=dialect.skip_blanks)
    held, number, above = b"", 0, dialect.skip_lines + dialect.header
    for block in chain(blocks, (b"",)):
        lines = (held + block).splitlines(keepends=True)
        # The last one may go on in the next block.
        held = lines.pop() if block and lines else b""
        kept = []
        for line in lines:
            number += 1
            if not comments.is_one(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line):
                above -= above > dialect.header or bool(line.strip())
                kept.append(line)
            elif left_out is not None and above <= 0:
                left_out(line, number)
        if kept:
            yield b"".join(kept)


def _rewritten(stream: IO[bytes], dialect: Dialect) -> Iterator[bytes]:
    """The same rows written as RFC 4180 says."""
    reader = csv_reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), dialect)
    width = 0
    while True:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        for count, row in enumerate(reader, 1):
            if len(row) > 1 or (row and row[0].strip()):
                row = ["", *row] if dialect.row_names and not width else row  # noqa: PLW2901  # the header
                width = width or len(row)
                writer.writerow(row[:-1] if dialect.closed and len(row) == width + 1 and not row[-1].strip() else row)
            if count >= ROWS:
                break
        if not text.tell():
            return
        yield text.getvalue().encode()
