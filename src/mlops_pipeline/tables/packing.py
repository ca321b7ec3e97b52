"""What a file is by its first bytes, whatever it is called; a packed one is read as what is in it."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal

Form = Literal["text", "parquet", "excel", "json"]

PACKED = 3
"""How often a file may be packed."""

_CONTROLS = re.compile(rb"[\x00\x02-\x08\x0e-\x1a\x1c\x1d]")
_EXCEL_PARTS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")
_NO_TABLE = {
    b"SQLite format 3\x00": "is a SQLite database: give an SQL query with sql: … and uri: …",
    b"%PDF": "is a PDF: give a table",
    b"ARROW1\x00\x00": "is an Arrow file (Feather): store it as Parquet",
    b"\xff\xff\xff\xff": "is a stream of Arrow's: store it as Parquet",
    b"Obj\x01": "is a file of Avro: store it as Parquet",
    b"<!DOCTYPE": "is a page of HTML: give a table",
    b"<html": "is a page of HTML: give a table",
    b"<?xml": "is XML: give a table",
    b"\x93NUMPY": "is an array of NumPy's: store it as Parquet with names of columns",
    b"$FL2": "is a file of SPSS: export it as CSV",
    b"$FL3": "is a file of SPSS: export it as CSV",
    b"<stata_dta>": "is a file of Stata: export it as CSV",
    **{bytes([release, order, 1, 0]): "is a file of Stata: export it as CSV" for release in (113, 114, 115) for order in (1, 2)},
    bytes(12) + b"\xc2\xea\x81\x60": "is a file of SAS: export it as CSV",
    b"HEADER RECORD*******": "is a file of SAS: export it as CSV",
    b"RDX2\n": "is a file of R: export it as CSV",
    b"RDX3\n": "is a file of R: export it as CSV",
    b"X\n\x00\x00\x00": "is a file of R: export it as CSV",
    b"\x89HDF": "is a file of HDF5: store its table as Parquet",
    b"7z\xbc\xaf\x27\x1c": "is an archive of 7-Zip: unpack it, and name one of its files",
    b"Rar!\x1a\x07": "is an archive of RAR: unpack it, and name one of its files",
    b"\x80\x02": "is a pickle, which could run anything: store its table as Parquet",
    b"\x80\x03": "is a pickle, which could run anything: store its table as Parquet",
    b"\x80\x04\x95": "is a pickle, which could run anything: store its table as Parquet",
    b"\x80\x05\x95": "is a pickle, which could run anything: store its table as Parquet",
}
_LISTS = re.compile(rb'\[\s*\[\s*(?:"[^"]*"\s*[],]|-?[0-9.]+\s*[],]|(?:null|true|false)\s*[],]|\])')
_NO_TABLE_BESIDE_CONTROLS = {
    b"ORC": "is a file of ORC: store it as Parquet",
    b"FEA1": "is a file of Feather, version 1: store it as Parquet",
}
"""A text may begin with these, too, but has no such signs."""


def opened(path: Path, stack: ExitStack) -> IO[bytes]:
    """The bytes of a file's content, unpacked; raises :class:`ValueError` for what is no table."""
    stream: IO[bytes] = stack.enter_context(path.open("rb"))
    for _ in range(PACKED):
        inner = _unpacked(stream, stack)
        if inner is None:
            break
        stream = inner
    return stream


def seekable(path: Path, stack: ExitStack) -> IO[bytes]:
    """The same, to be read from any place: a packed file is unpacked into a temporary one."""
    stream = opened(path, stack)
    if isinstance(getattr(stream, "raw", None), io.FileIO):
        return stream
    whole: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the caller's stack closes it
    shutil.copyfileobj(stream, whole)
    whole.seek(0)
    return whole


def form_of(path: Path) -> Form:
    """What a file is by its first bytes, once it is unpacked; raises :class:`ValueError` for what is no table."""
    with ExitStack() as stack:
        stream = opened(path, stack)
        head = stream.read(4096)
        if head.startswith(b"PAR1"):
            return "parquet"
        if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
            return "excel"
        for mark, what in _NO_TABLE.items():
            if head.lstrip().lower().startswith(mark.lower()):
                raise ValueError(what)
        for mark, what in _NO_TABLE_BESIDE_CONTROLS.items():
            if head.startswith(mark) and _CONTROLS.search(head):
                raise ValueError(what)
        if head[8:12] == b"DUCK" and b"\0" in head[:24]:
            raise ValueError("is a database of DuckDB: store its table as Parquet")
        # A text may have the word there, too, but no zeros before it, which fill up a name in an archive.
        if head[257:262] == b"ustar" and b"\0" in head[:257]:
            raise ValueError("is an archive of tar: unpack it, and name one of its files")
        if len(_CONTROLS.findall(head)) > 0.01 * len(head) and not _is_wide(head):
            raise ValueError("is no text: it holds bytes that are no signs: export it as CSV or Parquet")
        bare = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        plain = head.lstrip(b"\xff\xfe\0").replace(b"\0", b"") if _is_wide(head) else b""
        if plain.startswith((b"{", b"[")) and _is_json(plain):
            raise ValueError("is JSON in UTF-16 or UTF-32: store it as UTF-8")
        if _LISTS.match(bare):
            raise ValueError("is JSON of lists: write each row as a record, which names its columns")
        if bare.startswith(b"{") or (bare.startswith(b"[") and bare[1:].lstrip()[:1] in (b"{", b"]")):
            return "json" if _is_json(bare) else "text"
    return "text"


def _is_wide(head: bytes) -> bool:
    """Whether a text has two or four bytes a sign."""
    return head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")) or max(head[::2].count(0), head[1::2].count(0)) > 0.2 * len(head)


def _is_json(head: bytes) -> bool:
    """Whether text that begins with a bracket is records of JSON: its first key is quoted."""
    return head.lstrip(b"[{ \t\r\n")[:1] in (b'"', b"}", b"]", b"")


def _unpacked(stream: IO[bytes], stack: ExitStack) -> IO[bytes] | None:
    """What is packed into a stream, or None if nothing is."""
    head = stream.read(8)
    stream.seek(0)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        archive = stack.enter_context(zipfile.ZipFile(stream))
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if any(part in names for part in _EXCEL_PARTS):
            stream.seek(0)
            return None
        if len(names) != 1:
            remedy = ": unpack it, and name one" if names else ""
            raise ValueError(f"the archive holds {len(names)} files instead of one{remedy}")
        return archive.open(names[0])
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]  # a binary stream in all but type
    if head.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(stream)
    if head.startswith(b"\xfd7zXZ\x00"):
        import lzma

        return lzma.LZMAFile(stream)
    return io.BufferedReader(_Zstandard(stream), 1 << 20) if head.startswith(b"\x28\xb5\x2f\xfd") else None


class _Zstandard(io.RawIOBase):
    """What zstd has packed, by Arrow's reader; it can be read again from its start."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._read = self._from_start()

    def _from_start(self) -> Any:
        import pyarrow as pa

        self._packed.seek(0)
        return pa.CompressedInputStream(_Open(self._packed), "zstd")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if (offset, whence) != (0, 0):
            raise io.UnsupportedOperation("a packed file is read from its start on")
        self._read = self._from_start()
        return 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what a BufferedReader hands it
        block = self._read.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


class _Open(io.RawIOBase):
    """A stream that stays open when its reader is closed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)
