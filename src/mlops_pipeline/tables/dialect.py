"""How a file of text is written, found from its first rows; what cannot be told is asked for.

Each pair of a delimiter and a quote is tried. Right is the one under which rows have one width and cells are values of one kind
each, which is the measure of W. García, Detecting CSV file dialects by table uniformity (2024), with a prior on delimiters.
``benchmarks/dialects.py`` counts how often that is so on public files whose dialect is known, beside CleverCSV and DuckDB.
"""

from __future__ import annotations

import codecs
import csv
import io
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import msgspec

from mlops_pipeline.contract.dialect import Dialect, numbered
from mlops_pipeline.contract.values import BLANKS
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.layout import files_of
from mlops_pipeline.tables.excel import empty_rows, excel_rows, sheet_names
from mlops_pipeline.tables.packing import form_of, opened

SAMPLE = 1 << 18
"""Bytes from a file's start that are looked at."""

LOOKED_AT = 400
"""Rows that are looked at."""

DELIMITERS = {
    ",": 1.0,
    ";": 1.0,
    "\t": 1.0,
    "|": 0.98,
    "\x01": 1.0,
    "\x1e": 1.0,
    "\x1f": 1.0,
    "^": 0.9,
    "~": 0.9,
    "¬": 0.9,
    "§": 0.9,
    "#": 0.8,
    " ": 0.7,
    ":": 0.6,
}
"""Delimiters that are tried, and how much each is believed."""

STRONG = ",;\t|"
"""Delimiters that are believed without a second look."""

UNCLEAR = 0.95
"""The next best delimiter is this close to the best: either may be meant."""

HEADER_WITHIN = 50
"""Rows among which names of columns are looked for."""

LEAST = 0.3
"""With a smaller share of the rows of one width, a file is no table that can be told."""

COMMENT = "#"
"""The sign with which lines begin that may be comments."""

SHOWN_ROWS, SHOWN_SIGNS = 3, 60

FORMS = "CSV, Excel, JSON or Parquet file"
"""What a file of rows may be, in words."""

_WORTH = {
    "empty": 1.0,
    "number": 1.0,
    "time": 1.0,
    "address": 1.0,
    "word": 0.95,
    "sentence": 0.85,
    "list": 0.85,
    "mixed": 0.5,
    "torn": 0.0,
}
"""How much a cell of a kind speaks for the way in which it was read."""

_TYPED = ("number", "time", "address")
_NUMBER = re.compile(
    r"[-+−<>(]?(?:[$€£¥]\s?)?[-+−]?(?:\d{1,3}(?:[,.'’ \u00a0\u2009\u202f]\d{3})+|\d+)?(?:[.,]\d+)?(?:[eE][-+]?\d+)?\)?\s?[%€$£]?"
)
_TIME = re.compile(
    r"(?:\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[- ./]?[A-Za-z]{3,9}[- ./,]*\d{2,4}|[A-Za-z]{3,9} \d{1,2},? \d{4})?"
    r"[T ,]*(?:\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s?(?:[aApP]\.?[mM]\.?)?)?\s?(?:Z|UTC|GMT|[-+]\d{2}:?\d{2})?"
)
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.)\S+|[^@\s,;|]+@[^@\s,;|]+\.[a-z]{2,}|\d{1,3}(?:\.\d{1,3}){3}", re.IGNORECASE)
_WORD = re.compile(r"[\w.\-+/&()'’*#°%@]+")
_NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "--", "?", ".", "nil", "\\n", "#n/a", "inf", "-inf"})
_SIGNS = {"\t": "a tab", " ": "blanks"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_YEAR = re.compile(r"(?:19|20)\d\d")
_MADE_NAME = re.compile(r"column_[1-9]\d*")


class Unclear(PipelineError):
    """How a file is written cannot be told: its owner is asked."""


@dataclass(frozen=True)
class Found:
    """How a file is written: what differs from the usual, as it stands under ``dataset.source``; and a line for each thing to know."""

    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    signs: dict[str, str] = field(default_factory=dict)
    """Of numbers, if they are given: nobody tells ``1.234`` from ``1,234`` by one cell, so all of a table's columns are asked."""


@dataclass(frozen=True)
class Candidate:
    """A way of writing, the rows that it makes of a sample, and how well they fit together (0 to 1)."""

    dialect: Dialect
    rows: list[list[str]]
    ends: list[int]
    """For each row, how many lines of the file end with it."""
    start: int
    """Lines before the first row that were not looked at."""
    width: int
    share: float
    worth: float
    score: float


def refuse_no_file(path: Path) -> None:
    """Raise :class:`PipelineError` where no file of rows is."""
    if path.is_dir():
        remedy = "name a file in it" if files_of(path) else "it holds no file: put files of rows into it, or name another"
        raise PipelineError(f"{path}: is a folder: {remedy}")
    if not path.is_file():
        raise PipelineError(f"{path}: does not exist: name a {FORMS}")


def found(path: Path, names: Collection[str] = (), given: Mapping[str, Any] | None = None) -> Found:
    """How a file is written, from its first rows, from ``names`` of columns that it should have, and from what is ``given``.

    Raises :class:`Unclear` where that cannot be told, and :class:`PipelineError` for a file that cannot be read.
    """
    refuse_no_file(path)
    known = dict(given or {})
    signs = {key: str(known.pop(key)) for key in ("decimal", "thousands") if known.get(key) is not None}
    return replace(_found(path, names, known), signs=signs)


def _found(path: Path, names: Collection[str], known: dict[str, Any]) -> Found:
    try:
        form = form_of(path)
        if form == "excel":
            return _found_in_excel(path, names, known)
        if form != "text":
            return Found({})
        with ExitStack() as stack:
            stream = opened(path, stack)
            head = stream.read(SAMPLE)
            encoding = known.get("encoding") or encoding_of(head, stream)
    except (OSError, ValueError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise PipelineError(f"{path}: cannot be read as a table: {one_line(error)}") from error
    encoding = "utf-8" if encoding == "ascii" else encoding
    return _found_in_text(path, decoded(head, encoding, path), len(head) == SAMPLE, encoding, names, known)


def _found_in_text(path: Path, text: str, is_cut: bool, encoding: str, names: Collection[str], known: dict[str, Any]) -> Found:
    if is_cut and "\n" in text[:-1]:
        text = text[: text.rindex("\n") + 1]
    if not text.strip():
        raise PipelineError(f"{path}: is empty: give a table with a header and rows")
    lines = _split(text)
    if known.get("comment"):
        comments = Comments(known["comment"], known.get("quote", '"'), known.get("delimiter", STRONG))
        lines = [line for line in lines if not comments.is_one(line.encode())]
    start = known.get("skip_lines", 0)
    text = "".join(lines[start:])
    signs = {key: known[key] for key in ("delimiter", "quote", "escape", "skip_blanks") if key in known}
    ranked = candidates(text, names)
    if signs:
        fitting = [one for one in ranked if all(getattr(one.dialect, key) == value for key, value in signs.items())]
        ranked = fitting or [_candidate(text, Dialect(**signs))]
    best = ranked[0] if signs else _best(path, text, ranked)
    even = _made_even(best)
    header, before = header_of(even, names)
    best = even if header else best
    if not (header or {"header", "skip_lines"} & set(known)):
        _ask_about_a_header(path, best, before)
    header, before = known.get("header", header), known.get("skip_lines", before)
    if "comment" not in known and (count := _comments(best, before - start)):
        which = f"lines that begin with {COMMENT} are no rows ({count} of the first {len(best.rows)})"
        again = _found_in_text(path, "".join(lines), is_cut, encoding, names, {**known, "comment": COMMENT})
        return replace(again, notes=(*again.notes, which))
    notes = [] if encoding.startswith("utf") or "encoding" in known else [_encoding_note(text, encoding)]
    if best.dialect.delimiter != ",":
        notes.append(f"cells end at {_SIGNS.get(best.dialect.delimiter, best.dialect.delimiter)}")
    if before:
        notes.append(
            f"{'the first line is' if before == 1 else f'the first {before} lines are'} no part of the table ({_shown(lines[:before])})"
        )
    first, *below = [row for row, end in zip(best.rows, best.ends, strict=True) if end + start > before] or [[]]
    named, said = _named(first, known) if header else ({}, [])
    notes += [*said, *filter(None, (_second_header(first, below) if header else "",))]
    if best.dialect.row_names:
        notes.append("each row begins with its name, for which the header has no cell: the first column has no name")
    if not header:
        notes.append(f"no line names the columns: they are column_1 to column_{best.width}")
    dialect = msgspec.structs.replace(
        best.dialect,
        encoding=encoding,
        header=header,
        skip_lines=before,
        comment=known.get("comment"),
        **named,
    )
    return Found(dialect.unusual, tuple(notes))


def _named(first: list[str], known: dict[str, Any], least_nameless: int = 2) -> tuple[dict[str, bool], list[str]]:
    """How a header's names are to be read, and a line for each thing to know of them."""
    notes = []
    if nameless := _nameless(first, least_nameless):
        notes.append(nameless)
    padded = [name for name in first if _has_blanks_around(name)]
    is_bare = bool(known.get("bare_names", padded))
    if is_bare and "bare_names" not in known:
        notes.append(f"blanks around the columns' names are no part of them (such as {padded[0]!r})")
    bare = [name.strip(BLANKS) if is_bare else name for name in first]
    called = [name if name.strip() else f"column_{place}" for place, name in enumerate(bare, 1)]
    repeated = [f"'{name}' is '{one}'" for name, one in zip(called, numbered(called), strict=True) if name != one]
    if repeated:
        notes.append(f"columns of one name are told apart by a number: the next {', the next '.join(repeated[:SHOWN_ROWS])}")
    return {"numbered": bool(repeated), "bare_names": is_bare}, notes


def _nameless(first: list[str], least: int) -> str:
    """What to say of columns without a name; empty where there are fewer."""
    made = [f"column_{place}" for place, name in enumerate(first, 1) if not name.strip()]
    listed = f"{', '.join(made[:SHOWN_ROWS])}{' …' * (len(made) > SHOWN_ROWS)}"
    return f"columns without a name are called by their place: {listed}" if len(made) >= least else ""


def _second_header(first: list[str], body: list[list[str]]) -> str:
    """What to say of a row below the header that names columns, too: years or words above numbers, wherever the header has no name."""
    places = [place for place, name in enumerate(first) if not name.strip()]
    if len(places) < 2 or len(body) < 3 or len(places) == len(first):
        return ""
    for place in places:
        cell, *below = (row[place].strip() if place < len(row) else "" for row in body)
        below = [value for value in below if kind_of(value) != "empty"]
        is_name = kind_of(cell) == "word" or (_YEAR.fullmatch(cell) is not None and not any(map(_YEAR.fullmatch, below)))
        if not below or not is_name or sum(kind_of(value) in _TYPED for value in below) < 0.8 * len(below):
            return ""
    shown = _shown([", ".join(filter(None, body[0]))])
    return f"the row below the header ({shown}) is read as a row: if it names columns, too, make one header of both"


def _has_blanks_around(name: str) -> bool:
    return name != name.strip(BLANKS) != ""


def _comments(best: Candidate, before: int) -> int:
    """How many lines below a table's first begin with the sign of comments; 0 if one of them has as many cells as a row, or more."""
    begins = [
        len(row) for row, end in zip(best.rows, best.ends, strict=True) if end > before and row[0].lstrip("\ufeff").startswith(COMMENT)
    ]
    return 0 if any(width >= best.width for width in begins) else len(begins)


class Comments:
    """Tells of lines, one after the other, which begin with the sign of comments, and not within a quoted cell."""

    def __init__(self, mark: str, quote: str, delimiters: str, escape: str | None = None, *, skip_blanks: bool = False) -> None:
        self._mark, self._quote, self._is_quoted = mark.encode(), quote.encode(), False
        sign, ends = re.escape(self._quote), b"|".join(re.escape(one.encode()) for one in delimiters)
        # A quote opens at a cell's start and nowhere else: 5" is a length.
        self._opens = re.compile(b"(?:^|" + ends + b")" + (b" *" if skip_blanks else b"") + sign)
        skipped = [sign * 2] if escape is None else [re.escape(escape.encode()) + b".", sign * 2]
        signs = b"".join(re.escape(one.encode()) for one in (quote, escape or "") if one.isascii())
        inside = b"[^" + signs + b"]+" if quote.isascii() and (escape or "").isascii() else b"(?!" + b"|".join((sign, *skipped)) + b")."
        self._closes = re.compile(b"(?:" + b"|".join((*skipped, inside)) + b")*+" + sign, re.DOTALL)

    def is_one(self, line: bytes) -> bool:
        """Whether the next line, without a mark of order, is a comment."""
        if not self._is_quoted and line.startswith(self._mark):
            return True
        place: int | None = 0
        while place is not None and line.find(self._quote, place) >= 0:
            found = self._closes.match(line, place) if self._is_quoted else self._opens.search(line, place)
            self._is_quoted ^= found is not None
            place = found.end() if found else None
        return False


def _made_even(best: Candidate) -> Candidate:
    """The same, where each row has one cell more than the header: an empty one at its end, or its name at its start."""
    first = next((place for place, row in enumerate(best.rows) if len(row) >= best.width - 1 and not _is_padding(row)), 0)
    head, body = best.rows[first] if best.rows else [], [row for row in best.rows[first + 1 :] if len(row) == best.width]
    if len(head) != best.width - 1 or not all(cell.strip() for cell in head) or not body:
        return best
    if not any(row[-1].strip() for row in body):
        rows = [row[:-1] if len(row) == best.width else row for row in best.rows]
        return replace(best, dialect=msgspec.structs.replace(best.dialect, closed=True), rows=rows, width=best.width - 1)
    names = {row[0].strip() for row in body}
    if len(body) > 2 and len(names) == len(body) and "" not in names:
        rows = [["", *row] if place == first else row for place, row in enumerate(best.rows)]
        return replace(best, dialect=msgspec.structs.replace(best.dialect, row_names=True), rows=rows)
    return best


def _ask_about_a_header(path: Path, best: Candidate, before: int) -> None:
    """Raise :class:`Unclear` if a line that is left out before rows without a header may be meant for one."""
    last = next((row for row, end in zip(best.rows, best.ends, strict=True) if end == before), None)
    if last is not None and len(last) > 1 and not _is_padding(last):
        what = f"its line {before} has {len(last)} cells and its rows have {best.width} ({_shown([best.dialect.delimiter.join(last)])})"
        raise Unclear(f"{path}: {what}: make them as many, or say where the table begins: `mlops init --source skip_lines=…`")


def _found_in_excel(path: Path, names: Collection[str], known: dict[str, Any]) -> Found:
    sheets = sheet_names(path)
    sheet = known.get("sheet") or _table_among(path, sheets, names)
    rows = excel_rows(path, sheet, HEADER_WITHIN)
    width = max(map(len, rows), default=1)
    header, before = header_of(Candidate(Dialect(), rows, list(range(1, len(rows) + 1)), 0, width, 1.0, 1.0, 1.0), names)
    header = known.get("header", header)
    # A place counts the empty rows above a table, which its first rows leave out.
    above = empty_rows(path, sheet, HEADER_WITHIN) if before or "skip_lines" in known or not header else 0
    start = known.get("skip_lines", before + above if before or not header else 0)
    before = max(0, start - above)
    settings: dict[str, Any] = {} if header else {"header": False}
    if start:
        settings["skip_lines"] = start
    if sheet is not None and len(sheets) > 1:
        settings["sheet"] = sheet
    notes = [f"of the sheets {', '.join(sheets)} the table is {sheet}"] if len(sheets) > 1 else []
    named = rows[before] if header and before < len(rows) else []
    made, said = _named(named, known, least_nameless=1)
    settings |= {"bare_names": True} if made["bare_names"] and "bare_names" not in known else {}
    notes += [*said, *filter(None, (_second_header(named, rows[before + 1 :]),))]
    if before:
        which = "the first row is" if before == 1 else f"the first {before} rows are"
        notes.append(f"{which} no part of the table ({_shown([', '.join(filter(None, row)) for row in rows[:before]])})")
    return Found(settings, tuple(notes))


def _table_among(path: Path, sheets: list[str], names: Collection[str]) -> str | None:
    """The first sheet that holds most of the names; where none holds any, the first with two rows of two cells, or the first."""
    if len(sheets) < 2:
        return next(iter(sheets), None)
    rows = {sheet: excel_rows(path, sheet, HEADER_WITHIN) for sheet in sheets}
    hits = {sheet: max((_hits(row, names) for row in rows[sheet]), default=0) for sheet in sheets}
    tables = [sheet for sheet in sheets if sum(sum(map(bool, row)) > 1 for row in rows[sheet]) > 1]
    return max(sheets, key=lambda sheet: hits[sheet]) if any(hits.values()) else next(iter(tables), sheets[0])


def _best(path: Path, text: str, ranked: list[Candidate]) -> Candidate:
    """The candidate that is meant; raises :class:`Unclear` if that may be another."""
    alone = _candidate(text, Dialect(delimiter=_unused(text)))
    parting = [one for one in ranked if one.width > 1]
    if not parting:
        blank = _candidate(text, Dialect(delimiter=" ", skip_blanks=True))
        if blank.width > 2 and blank.share > 0.5 and len(blank.rows) > 2 and blank.worth > 0.9:
            raise Unclear(_asked(path, text, "delimiter", "where its cells end"))
        return replace(alone, dialect=Dialect())
    best = parting[0]
    others = [one for one in parting[1:] if one.dialect.delimiter != best.dialect.delimiter]
    if best.share < LEAST or best.score < alone.score / 2 or (others and others[0].score > UNCLEAR * best.score):
        raise Unclear(_asked(path, text, "delimiter", "where its cells end"))
    return best


def _asked(path: Path, text: str, key: str, what: str) -> str:
    rows = _shown(text.splitlines())
    return f"{path}: cannot be told {what} in {rows}: say it with {key}: … under dataset.source (`mlops init --source {key}=…`)"


def _shown(lines: list[str]) -> str:
    short = [line.strip("\r\n") for line in lines if line.strip()][:SHOWN_ROWS]
    return " / ".join(repr(line if len(line) <= SHOWN_SIGNS else line[:SHOWN_SIGNS] + "…") for line in short)


def _unused(text: str) -> str:
    return next(sign for sign in "\x00\x02\x03\x04\x05" if sign not in text)


@lru_cache(maxsize=100_000)
def kind_of(cell: str) -> str:  # noqa: PLR0911  # a look at one kind after the other
    """What a cell looks like: a value of some kind, a list of such, mixed (with a delimiter in it) or torn (with half a quote)."""
    bare = cell.strip()
    if bare.lower() in _NOTHING:
        return "empty"
    has_digit = any(sign.isdigit() for sign in bare)
    if has_digit and _NUMBER.fullmatch(bare):
        return "number"
    if has_digit and _TIME.fullmatch(bare):
        return "time"
    if _ADDRESS.fullmatch(bare):
        return "address"
    if bare.count('"') % 2 or bare[0] in "\"'" or bare[-1] == '"':
        return "torn"
    parting = [sign for sign in STRONG if sign in bare]
    if parting:
        parts = bare.split(parting[0])
        return "list" if len(parting) == 1 and len(parts) > 2 and len(set(map(kind_of, parts))) == 1 else "mixed"
    return "word" if _WORD.fullmatch(bare) else "sentence"


def _candidate(text: str, dialect: Dialect, start: int = 0) -> Candidate:
    rows, ends = _rows(text, dialect)
    ends = [end + start for end in ends]
    if not rows:
        return Candidate(dialect, rows, ends, start, 1, 0.0, 0.0, 0.0)
    widths = Counter(map(len, rows))
    width = max(widths, key=lambda one: (widths[one] * (0.3 if one == 1 else 1), one))
    whole = [row for row in rows if len(row) == width]
    share = len(whole) / len(rows)
    worth = sum(_WORTH[kind_of(cell)] for row in whole for cell in row) / (len(whole) * width)
    fit = share * worth * (1 if len(rows[0]) == width else 0.9)
    if width == 1:
        return Candidate(dialect, rows, ends, start, width, share, worth, 0.3 * fit)
    believed = DELIMITERS.get(dialect.delimiter, 1.0)
    return Candidate(dialect, rows, ends, start, width, share, worth, believed * fit * share**0.5 * (1 - 1 / (width + 0.5)))


def _rows(text: str, dialect: Dialect) -> tuple[list[list[str]], list[int]]:
    """The first rows of a text and the lines that they end on; a blank line is no row."""
    reader = csv_reader(io.StringIO(text, newline=""), dialect)
    rows: list[list[str]] = []
    ends: list[int] = []
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                rows.append(row)
                ends.append(reader.line_num)
            if len(rows) >= LOOKED_AT:
                break
    except csv.Error:
        pass  # a cell longer than a sample: what stands before it counts
    return rows, ends


def csv_reader(lines: IO[str], dialect: Dialect) -> Any:
    """Python's reader of a text that is written so, with cells of any length."""
    csv.field_size_limit(2**31 - 1)
    return csv.reader(
        lines, delimiter=dialect.delimiter, quotechar=dialect.quote, escapechar=dialect.escape, skipinitialspace=dialect.skip_blanks
    )


def _beside(text: str, delimiter: str) -> list[Dialect]:
    """The quotes, each with an escape and blanks before it or not, that may be meant beside a delimiter."""
    mark, lines, made = re.escape(delimiter), text.count("\n") + 1, []
    aligned = delimiter == " " and "  " in text
    for quote, least in (('"', "*"), ("'", "+")):
        # Two apostrophes with nothing between are a word for nothing, and quote nothing.
        inner = rf"(?:[^{quote}\n\\]|\\.|{quote}{quote}){least}"
        inside = re.findall(rf"(?:^|{mark})( *){quote}{inner}{quote} *(?={mark}|\r|\n|$)", text, re.MULTILINE)
        quoted_names = re.match(rf"\s*{quote}[^{quote}\n]*{quote}(?:{mark} *{quote}[^{quote}\n]*{quote})+ *\r?\n", text)
        if not inside or (quote == "'" and len(inside) < 0.2 * lines and quoted_names is None):
            continue  # an apostrophe here and there quotes nothing
        skip_blanks = aligned or (delimiter != " " and any(inside))
        made.append((len(inside), Dialect(delimiter, quote, None, skip_blanks)))
        if f"\\{quote}" in text:
            made.append((len(inside), Dialect(delimiter, quote, "\\", skip_blanks)))
    if not any(dialect.quote == '"' for _, dialect in made):
        made.append((0, Dialect(delimiter, skip_blanks=aligned)))
    return [dialect for _, dialect in sorted(made, key=lambda one: -one[0])]


def candidates(text: str, names: Collection[str] = ()) -> list[Candidate]:
    """Every way in which a text may be written, the likeliest first; only those under which a row holds ``names``, if there are any."""
    start, text = _without_remarks(text)
    made = [_candidate(text, dialect, start) for delimiter in DELIMITERS if delimiter in text for dialect in _beside(text, delimiter)]
    alone = _candidate(text, Dialect(delimiter=_unused(text)))
    typed = sum(kind_of(row[0]) in _TYPED for row in alone.rows) > 0.4 * len(alone.rows)

    def is_whole(one: Candidate) -> bool:
        begun = sum(bool(row[0]) for row in one.rows) > 0.5 * len(one.rows)
        return begun and one.share >= 0.9 and len(one.rows) >= 3 and len(one.rows[0]) == one.width and one.worth > 0.7 and not typed

    hits = {id(one): max((_hits(row, names) for row in one.rows[:HEADER_WITHIN]), default=0) if one.width > 1 else 0 for one in made}
    most = max(hits.values(), default=0)
    kept = [
        one for one in made if hits[id(one)] == most and (one.dialect.delimiter in STRONG or is_whole(one) or (most and one.share >= 0.5))
    ]
    return sorted(kept, key=lambda one: -one.score)


def _hits(row: list[str], names: Collection[str]) -> int:
    """How many of the names stand in a row."""
    return len({cell.strip() for cell in row} & {name.strip() for name in names})


def _split(text: str) -> list[str]:
    """The lines of a text with their ends, as the reader of rows counts them."""
    return list(io.StringIO(text, newline=""))


def _without_remarks(text: str) -> tuple[int, str]:
    """How many lines of remarks (#) stand before a text, and the text behind them; the last of them may be its header."""
    lines = _split(text)
    first = next((number for number, line in enumerate(lines) if not line.startswith("#") and line.strip()), 0)
    before = max(first - 1, 0)
    return before, "".join(lines[before:])


def header_of(best: Candidate, names: Collection[str] = ()) -> tuple[bool, int]:
    """Whether a row names the columns, and how many lines stand before it, or before the first row where none does."""
    if not best.rows:
        return True, 0
    before = [best.start, *best.ends]
    hits = [_hits(row, names) for row in best.rows[:HEADER_WITHIN]]
    if any(hits):
        place = hits.index(max(hits))
        return True, before[place] if place else best.start
    place = next((k for k, row in enumerate(best.rows) if len(row) == best.width and not _is_padding(row)), 0)
    return _is_header(best.rows[place], [row for row in best.rows[place + 1 :] if len(row) == best.width], names), before[place]


def _is_padding(row: list[str]) -> bool:
    """Whether a row is a title that a spreadsheet has filled up with empty cells."""
    return len(row) > 2 and sum(bool(cell.strip()) for cell in row) <= max(1, len(row) // 4)


def _is_header(head: list[str], body: list[list[str]], names: Collection[str]) -> bool:
    if names and all(map(_MADE_NAME.fullmatch, names)):
        return False
    if not body:
        return True
    evidence = 0.0
    for place, cell in enumerate(head):
        column = [row[place] for row in body if kind_of(row[place]) != "empty"]
        if not column:
            continue
        own = kind_of(cell)
        if sum(kind_of(value) in _TYPED for value in column) >= 0.8 * len(column):
            is_year = _YEAR.fullmatch(cell.strip()) and sum(map(cell.strip().__eq__, column)) == 0
            evidence += 0.0 if own == "empty" or (own in _TYPED and is_year) else -1.0 if own in _TYPED else 1.0
        elif own in _TYPED:
            evidence -= 0.5
        elif own != "empty":
            recurs = cell in column
            alike = len(set(map(len, column))) == 1 and len(column) > 1
            evidence += -1.0 if recurs else (0.5 if alike and len(cell) != len(column[0]) else 0.1)
    told = [cell for cell in head if cell.strip()]
    return evidence - (len(told) > len(set(told))) > 0


def encoding_of(head: bytes, rest: IO[bytes]) -> str:
    """The encoding of a file: what its first bytes say, ASCII or UTF-8 if the whole file is, else the likeliest of one byte a sign."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    if head[1::2].count(0) > 0.4 * len(head[1::2]) > 0:
        return "utf-16-le"
    if head[0::2].count(0) > 0.4 * len(head[0::2]) > 0:
        return "utf-16-be"
    decoder, block, is_ascii = codecs.getincrementaldecoder("utf-8")(), head, True
    try:
        while block:
            is_ascii = is_ascii and block.isascii()
            if not is_ascii:
                decoder.decode(block)
            block = rest.read(1 << 20)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _of_one_byte(block if head.isascii() else head)
    return "ascii" if is_ascii else "utf-8"


def _of_one_byte(sample: bytes) -> str:
    """The likeliest encoding of bytes that are not UTF-8: Western European, but where most letters are none of ASCII's."""
    high = sum(byte > 127 for byte in sample)
    letters = len(re.findall(rb"[A-Za-z]", sample))
    inside = len(re.findall(rb"[A-Za-z][\x80-\x8b\x8d\x8f-\x91\x93-\x99\x9b\x9d]+[a-z]", sample))
    if high > 0.35 * (high + letters) or inside > 0.5 * high:
        from charset_normalizer import from_bytes

        likeliest = from_bytes(sample[:65536]).best()
        if likeliest is not None and likeliest.encoding not in ("ascii", "utf_8"):
            return str(likeliest.encoding).replace("_", "-")
    return "latin-1" if re.search(rb"[\x81\x8d\x8f\x90\x9d]", sample) else "cp1252"


def decoded(head: bytes, encoding: str, path: Path) -> str:
    """The text of a file's first bytes, without its mark of order; a sign that is cut at their end is left out."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head).removeprefix("\ufeff")
    except LookupError as error:
        raise PipelineError(f"{path}: encoding '{encoding}' is unknown: name one of Python's, such as cp1252") from error
    except UnicodeDecodeError as error:
        raise PipelineError(
            f"{path}: is not {encoding} ({error.reason}): name its encoding under dataset.source, such as cp1252"
        ) from error


def _encoding_note(text: str, encoding: str) -> str:
    words = list(dict.fromkeys(word for word in re.findall(r"\w+", text) if not word.isascii()))[:SHOWN_ROWS]
    example = f", which makes {', '.join(map(repr, words))}" if words else ""
    return f"not UTF-8: read as {encoding}{example}: name another encoding if that looks wrong"
