"""The table that a pipeline learns from: described once, for every stage, the server and the monitors."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mlops_pipeline.config.moments import Span, span_of
from mlops_pipeline.config.tree import Frozen, tree_of
from mlops_pipeline.contract.dialect import Dialect
from mlops_pipeline.contract.privacy import MIN_LEVEL_ROWS, private_names
from mlops_pipeline.contract.task import TaskName, has_classes
from mlops_pipeline.contract.values import CLOCKS, is_number_form, spelled, truth_of
from mlops_pipeline.errors import PipelineError, without_secrets

Task = TaskName


Kind = Literal["number", "integer", "boolean", "category", "datetime", "text"]


Share = Annotated[float, Field(ge=0, le=1)]


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ValueError("is no encoding that Python knows: name one such as utf-8, cp1252, latin-1 or utf-16") from error
    return encoding


Encoding = Annotated[str, AfterValidator(_known)]


class Source(Frozen):
    """Where rows come from: a file of text, Parquet, Excel or JSON, or such a file inside an installed Python package.

    What a file is, is seen from its content, whatever its name ends in, and whether it is packed (zip, gzip, bzip2, xz, zstd).
    """

    path: str | None = Field(
        None,
        description="a file, relative to the project: text such as CSV (blank lines are no rows), Parquet (one value a cell), Excel, JSON; "
        "or a folder, or a pattern (data/*.csv), of such files with the same columns, read in the order of their names",
    )
    package: str | None = Field(None, description="installed package that ships the file; it is never imported")
    member: str | None = Field(None, description="the file's path inside the package")
    sql: str | None = Field(None, description="instead of a file: a query whose rows are the table; it is asked again by each run")
    uri: str | None = Field(
        None, description="the database that is asked: sqlite:///FILE, postgresql://HOST/NAME, or ${VARIABLE} of the environment"
    )
    null_values: tuple[str, ...] = Field(("", "NA", "NaN", "null", "None"), description="texts that mean null")
    delimiter: str = Field(",", description="of a file of text: what parts its cells", min_length=1, max_length=1)
    quote: str = Field('"', description="what stands around a cell that holds a delimiter", min_length=1, max_length=1)
    escape: str | None = Field(None, description="what stands before a quote within quotes; default: another quote", max_length=1)
    skip_blanks: bool = Field(False, description="whether blanks before a cell are no part of it")
    closed: bool = Field(False, description="whether a delimiter also stands at the end of each row, though not of the header")
    row_names: bool = Field(False, description="whether each row begins with its name, for which the header has no cell, as R writes")
    numbered: bool = Field(False, description="whether columns of one name are told apart by a number (price, price_2), and not refused")
    bare_names: bool = Field(False, description="whether blanks around the columns' names are no part of them")
    trim: bool = Field(False, description="whether blanks around a cell are no part of it, as where a database pads its texts")
    encoding: Encoding = Field("utf-8", description="of a file of text, as Python calls it: utf-8, cp1252, latin-1, utf-16")
    header: bool = Field(True, description="whether a line names the columns; else they are column_1, column_2 and so on")
    skip_lines: int = Field(0, ge=0, description="lines before the header, or before the first row, that are no part of the table")
    comment: str | None = Field(
        None,
        description="of a file of text: the sign with which lines begin that are no rows, wherever they stand",
        max_length=1,
        min_length=1,
    )
    sheet: str | None = Field(None, description="of an Excel file: the sheet's name; default: the first that holds rows")
    decimal: Literal[".", ","] = Field(".", description="the decimal sign of numbers in columns that have no `format` of their own")
    thousands: Literal[".", ",", " ", "\u00a0", "\u2009", "\u202f", "'", "’"] | None = Field(
        None, description="the sign that may part the thousands of such numbers"
    )

    @property
    def number_format(self) -> str | None:
        """How numbers are written where a column does not say, as a column's ``format`` has it; None where they are plain."""
        return None if self.decimal == "." and self.thousands is None else f"1{self.thousands or ''}234{self.decimal}5"

    @property
    def dialect(self) -> Dialect:
        """How a file is written."""
        return Dialect(**{key: getattr(self, key) for key in Dialect.__struct_fields__})

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.path, self.package, self.sql)) != 1:
            raise ValueError("give one of 'path', 'package' with 'member', and 'sql' with 'uri'")
        if (self.sql is None) != (self.uri is None):
            raise ValueError("'sql' and 'uri' go together")
        if self.uri is not None and without_secrets(self.uri) != self.uri:
            raise ValueError("'uri' holds a password: put the address into an environment variable and write uri: ${ITS_NAME}")
        if (self.package is None) != (self.member is None):
            raise ValueError("'package' and 'member' go together")
        if self.thousands == self.decimal:
            raise ValueError(f"'thousands' and 'decimal' are both '{self.decimal}': a number has one sign for each")
        return self


def given_of_source(words: Sequence[str], *, with_place: bool = False) -> dict[str, Any]:
    """The keys of a source that somebody gives as ``KEY=VALUE``, with where it lies or not; raises :class:`PipelineError`."""
    content: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise PipelineError(f"--source {word}: write --source KEY=VALUE, such as --source delimiter=tab")
        content[key] = {"tab": "\t", "space": " ", "\\t": "\t"}.get(value, value)
    if with_place and "sql" not in content:
        raise PipelineError("--input (of `mlops new`: --data) is missing: name your table, or give --source sql=… and --source uri=…")
    checked = tree_of(Source, content if with_place else {"path": ".", **content}, "--source")
    return {key: getattr(checked, key) for key in content}


class Lookup(Source):
    """A small table joined to every row by equal keys; its keys must be unique."""

    keys: tuple[str, ...] = Field(min_length=1, description="the columns, in both tables, by which a row finds its own")

    @model_validator(mode="after")
    def _no_query(self) -> Self:
        if self.sql is not None:
            raise ValueError("a lookup is a file: join in the source's own query, or give 'path'")
        return self


MOMENT_PARTS = "YmdyHMSfpIbBaAjzTeGVsQq"
"""Parts of a moment that a column's ``format`` may name."""


class Column(Frozen):
    """One column: its kind, and what a row may hold there."""

    kind: Kind = Field(description="what its values are; docs/rows.md says how each kind reads them")
    min: float | None = Field(None, description="the least value that is no error; default: none")
    max: float | None = Field(None, description="the largest value that is no error; default: none")
    nullable: bool = Field(
        True, description="whether rows may have no value here; default: in the table yes, in requests if training had such rows"
    )
    private: bool = Field(False, description="its values are told to nobody: in no record, report, page, schema, example, log or answer")
    format: str | None = Field(
        None,
        description="how texts are written: of numbers as 1234.5 is ('1.234,5', '$1,234.5', '1234.5 %'), or 'h:mm', 'h:mm:ss', 'm:ss' for "
        "seconds; of moments '%d.%m.%Y', '%Y-%m', '%Y-Q%q', '%G-W%V', or '%s' and '%Q' for seconds and milliseconds since 1970",
    )
    null_values: tuple[str, ...] | None = Field(None, description="texts that mean null in this column; default: the source's")

    @model_validator(mode="after")
    def _format(self) -> Self:
        if self.format is None:
            return self
        if self.kind in ("number", "integer"):
            if not is_number_form(self.format):
                raise ValueError(
                    f"format '{self.format}' does not say how 1234.5 is written, such as '1.234,5', '$1,234.5' or '1234.5 %', "
                    f"and is none of {', '.join(CLOCKS)}"
                )
        elif self.kind == "datetime":
            parts = set(re.findall("%[.]?(.)", self.format))
            if not parts or not parts <= set(MOMENT_PARTS):
                raise ValueError(
                    f"format '{self.format}' is no date's, such as '%d.%m.%Y %H:%M': its parts are %{', %'.join(MOMENT_PARTS)}"
                )
            if "q" in parts and parts & set("mbBdejGVT"):
                raise ValueError(f"format '{self.format}' has a quarter beside a month, a week or a day: write one of them, '%Y-Q%q'")
        else:
            raise ValueError(f"'format' does not fit kind '{self.kind}'")
        return self

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.kind in ("category", "text", "datetime", "boolean") and (self.min is not None or self.max is not None):
            raise ValueError(f"'min' and 'max' do not fit kind '{self.kind}'")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"'min' {self.min} is above 'max' {self.max}")
        return self


class History(Frozen):
    """A column with the target's mean over the given number of *earlier* days, of rows with the same key.

    The row's own day never counts, so that nothing known only after the outcome gets in. With fewer than
    ``prior_rows`` rows behind it the mean is drawn towards the mean over all rows of those days.
    """

    by: tuple[str, ...] = Field((), description="the columns that make the key; none: all rows together")
    days: int = Field(ge=1, le=366, description="how many days before the row's own count")
    prior_rows: int = Field(20, ge=0, description="with fewer rows than about these behind it the mean is drawn to that of all")


def _length(text: str) -> Span:
    """A span of time that is equally long whenever it begins."""
    found = span_of(text)
    if found.unit in ("mo", "y"):
        raise ValueError(f"'{text}' is not equally long whenever it begins: write days, hours or minutes: 31d, 12h, 90min")
    return found


Length = Annotated[str, AfterValidator(lambda text: str(_length(text)))]


class Aggregate(Frozen):
    """A column of what earlier rows with the same key held.

    A row at t sees the rows at a moment in [t - known_after - window, t - known_after): never its own moment's.
    """

    how: Literal["mean", "sum", "count", "min", "max", "last", "distinct", "share"] = Field(
        description="count: of rows, or of values of 'of'; last: the newest value; distinct: how many different ones; share: of one value"
    )
    of: str | None = Field(None, description="the column whose values these are; nulls are left out")
    value: str | int | float | bool | None = Field(None, description="share: which value's")
    by: tuple[str, ...] = Field((), description="the columns that make the key; none: all rows together")
    window: Length | None = Field(None, description="how far back: 7d, 36h, 90min; default: all rows before")
    known_after: Length | None = Field(
        None, description="how long after its moment a row is known: 1d where an outcome takes a day; default: at once"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.of is None and self.how != "count":
            raise ValueError(f"'{self.how}' needs 'of': the column whose values these are")
        if (self.value is None) == (self.how == "share"):
            raise ValueError("'share' needs 'value': which value's share it is" if self.how == "share" else "'value' is for how: share")
        return self

    @property
    def window_us(self) -> int | None:
        """The window in µs."""
        return None if self.window is None else _length(self.window).microseconds

    @property
    def known_after_us(self) -> int:
        """The delay in µs."""
        return 0 if self.known_after is None else _length(self.known_after).microseconds


def words_of(sql: str) -> set[str]:
    """What an expression may name: words, and whatever stands in double quotes."""
    return {*re.findall(r"[A-Za-z_][A-Za-z0-9_]*", sql), *re.findall(r'"([^"]+)"', sql)}


class Dataset(Frozen):
    """The table: described once, for every stage, the server and the monitors."""

    source: Source
    lookups: tuple[Lookup, ...] = Field((), description="small tables that are joined to every row by equal keys")
    target: str = Field(description="the column to predict")
    task: Task = Field(description="binary: of two classes; multiclass: of several; regression: a number")
    positive: str | int | None = Field(None, description="binary: the class counted as positive (default: the last)")
    time_column: str | None = Field(None, description="the column that says when a row was; a split by time goes by it")
    entity_key: tuple[str, ...] = Field((), description="columns that join labels that come late")
    columns: dict[str, Column] = Field(min_length=1, description="each column that is read, by name: those not here are left out")
    derive: dict[str, str] = Field(default_factory=dict, description="new columns as SQL expressions over a row")
    counts: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="new columns: how many rows of the table share these columns"
    )
    history: dict[str, History] = Field(default_factory=dict, description="new columns: the target's mean over days before the row's own")
    aggregates: dict[str, Aggregate] = Field(default_factory=dict, description="new columns of what earlier rows with the same key held")
    known_after_outcome: tuple[str, ...] = Field((), description="never features: known only after the outcome")
    min_level_rows: int = Field(
        MIN_LEVEL_ROWS, ge=1, description="a category's values that fewer rows have are listed nowhere, and predicted as unseen ones"
    )
    keep_whole_rows: bool = Field(
        False, description="rows that are set aside (quarantine, rejected rows of `mlops predict`) keep their private columns"
    )

    @model_validator(mode="before")
    @classmethod
    def _made_of_private(cls, content: Any) -> Any:
        """What is made of a private column's values is private, unless its own description says otherwise.

        So is a mean or a sum: of a key that few rows have it is what one of them holds.
        """
        if not isinstance(content, dict) or not isinstance(content.get("columns"), dict):
            return content
        columns = dict(content["columns"])
        private = {name for name, column in columns.items() if isinstance(column, dict) and column.get("private") is True}
        derive, history, aggregates = (
            made if isinstance(made, dict) else {} for made in (content.get(key) for key in ("derive", "history", "aggregates"))
        )
        used = {name: words_of(str(sql)) for name, sql in derive.items()}
        used |= {name: {str(content.get("target"))} for name in history}
        of = {name: made.get("of") if isinstance(made, dict) else getattr(made, "of", None) for name, made in aggregates.items()}
        used |= {name: {column} for name, column in of.items() if isinstance(column, str)}
        for name, words in used.items():
            column = columns.get(name)
            if isinstance(column, dict) and "private" not in column and private & words:
                columns[name] = {**column, "private": True}
                private.add(name)
        return {**content, "columns": columns}

    @model_validator(mode="before")
    @classmethod
    def _numbers_as_the_source_has_them(cls, content: Any) -> Any:
        """A number's column that does not say how it is written is written as the source says; what is made here is not written."""
        if not isinstance(content, dict) or not isinstance(content.get("columns"), dict):
            return content
        source = content.get("source")
        signs = {key: source[key] for key in ("decimal", "thousands") if key in source} if isinstance(source, dict) else {}
        try:
            form = source.number_format if isinstance(source, Source) else Source(path=".", **signs).number_format
        except ValueError:
            return content  # said of the source itself
        sections = [content.get(key) for key in ("derive", "counts", "history", "aggregates")]
        made = {name for section in sections if isinstance(section, dict) for name in section}
        columns = {
            name: {**column, "format": form}
            if form is not None
            and name not in made
            and isinstance(column, dict)
            and column.get("kind") in ("number", "integer")
            and column.get("format") is None
            else column
            for name, column in content["columns"].items()
        }
        return {**content, "columns": columns}

    def column_in(self, source: Source, name: str) -> Column:
        """A column as it is written in another of the table's sources, unless it has a format of its own."""
        column = self.columns[name]
        if column.kind not in ("number", "integer") or column.format != self.source.number_format:
            return column
        return column.model_copy(update={"format": source.number_format})

    @property
    def set_aside_without(self) -> frozenset[str]:
        """The columns of which rows that are set aside hold no value."""
        return frozenset() if self.keep_whole_rows else private_names(self.columns)

    @property
    def tells_time(self) -> bool:
        """Whether rows have a moment, and their first and last may be told."""
        return self.time_column is not None and not self.columns[self.time_column].private

    @property
    def read_as(self) -> Source:
        """The source as its text is read: a word that is a value in some column is null in none yet."""
        return self.source.model_copy(update={"null_values": self.common_null_words})

    @property
    def common_null_words(self) -> tuple[str, ...]:
        """The source's texts for null that mean null in every column."""
        own = [set(column.null_values) for column in self.columns.values() if column.null_values is not None]
        return tuple(word for word in self.source.null_values if all(word in words for words in own))

    def null_words(self, name: str) -> tuple[str, ...]:
        """The texts that mean null in one column."""
        own = self.columns[name].null_values if name in self.columns else None
        return self.source.null_values if own is None else own

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        known = set(self.columns)
        if self.target not in known:
            raise ValueError(f"target '{self.target}' is not among 'columns': describe it there")
        if self.time_column is not None and (self.time_column not in known or self.columns[self.time_column].kind != "datetime"):
            raise ValueError(f"time_column '{self.time_column}' must be among 'columns' with kind 'datetime'")
        named = [("entity_key", self.entity_key), ("known_after_outcome", self.known_after_outcome)]
        named += [("lookups", lookup.keys) for lookup in self.lookups]
        named += [(f"counts.{name}", keys) for name, keys in self.counts.items()]
        named += [(f"history.{name}", history.by) for name, history in self.history.items()]
        named += [(f"aggregates.{name}", (*made.by, *((made.of,) if made.of else ()))) for name, made in self.aggregates.items()]
        for key, names in named:
            for name in names:
                if name not in known:
                    raise ValueError(f"{key} names '{name}', which is not among 'columns'")
        for made in ("derive", "counts", "history", "aggregates"):
            for name in getattr(self, made):
                if name not in known:
                    raise ValueError(f"{made} makes '{name}', which is not among 'columns': give it a kind there")
        self._made_of_rows(named)
        self._nothing_from_after_the_outcome()
        if self.history and self.task == "multiclass":
            raise ValueError("history needs a binary or a regression target")
        if self.columns[self.target].kind in ("datetime", "text"):
            raise ValueError(f"target '{self.target}' cannot be of kind '{self.columns[self.target].kind}'")
        if not has_classes(self.task) and self.columns[self.target].kind not in ("number", "integer"):
            raise ValueError(f"a regression target must be a number, '{self.target}' is not")
        return self

    def _made_of_rows(self, named: list[tuple[str, tuple[str, ...]]]) -> None:
        """Columns of other rows are made once, each from what a row holds by itself, and are of the kind that they make."""
        if self.history and self.time_column is None:
            raise ValueError("history needs a time_column")
        if self.aggregates and self.time_column is None:
            raise ValueError("aggregates need a time_column: they are of the rows before each row's moment")
        bare = next((name for name, keys in self.counts.items() if not keys), None)
        if bare is not None:
            raise ValueError(f"counts.{bare} names no column: name those that rows share, or count earlier rows under 'aggregates'")
        late = [*self.counts, *self.history, *self.aggregates]
        twice = next((name for name in late if late.count(name) > 1 or name in self.derive), None)
        if twice is not None:
            raise ValueError(f"'{twice}' is made twice: leave one of 'derive', 'counts', 'history' and 'aggregates'")
        for key, names in named:
            above = next((name for name in names if name in late and key.partition(".")[0] in ("counts", "history", "aggregates")), None)
            if above is not None:
                raise ValueError(f"{key} names '{above}', which is itself made of other rows: use columns of the source, or derived ones")
        for name, made in self.aggregates.items():
            fits, what = self._kinds_of(made)
            if self.columns[name].kind not in fits:
                raise ValueError(
                    f"aggregates.{name}: {what} is of kind {fits[0]}: column '{name}' is described as '{self.columns[name].kind}'"
                )

    def _kinds_of(self, made: Aggregate) -> tuple[tuple[str, ...], str]:
        """The kinds that an aggregate's column may have, the best first, and what it is of."""
        if made.of is None or made.how in ("count", "distinct"):
            return ("integer", "number"), made.how
        kind = self.columns[made.of].kind
        what = f"{made.how} of '{made.of}'"
        if made.how == "share":
            _ = self.value_of(made)
            return ("number",), what
        if made.how == "last":
            return (("category", "text") if kind in ("category", "text") else ("integer", "number") if kind == "integer" else (kind,)), what
        if kind not in ("number", "integer", "boolean"):
            raise ValueError(
                f"aggregates: {what}: it is of kind '{kind}', and {made.how} is of numbers: use count, distinct, last or share"
            )
        return (("number", "integer") if made.how != "mean" and kind != "number" else ("number",)), what

    def value_of(self, made: Aggregate) -> str | float | bool | None:
        """The value of a share as its column holds it. Raises ValueError for one that it cannot hold."""
        if made.of is None or made.value is None:
            return None
        kind, value = self.columns[made.of].kind, made.value
        if kind in ("category", "text"):
            return spelled(value)
        number = truth_of(value) if kind == "boolean" and isinstance(value, str) else value
        if kind == "datetime" or isinstance(number, str) or number is None or (kind == "boolean" and number not in (0, 1)):
            raise ValueError(f"aggregates: share of '{made.of}': {value!r} is no value of kind '{kind}'")
        return float(number) if kind == "number" else int(number)

    def _nothing_from_after_the_outcome(self) -> None:
        late = {self.target, *self.known_after_outcome}
        made = {name: (sql, words_of(sql)) for name, sql in self.derive.items()}
        made |= {name: (", ".join(keys), set(keys)) for name, keys in self.counts.items()}
        made |= {name: (", ".join(history.by), set(history.by)) for name, history in self.history.items()}
        made |= {name: (", ".join(each.by), set(each.by)) for name, each in self.aggregates.items()}
        for name, (shown, used) in made.items():
            if name not in late and used & late:
                raise ValueError(
                    f"'{name}' is made from '{min(used & late)}' ({shown}), which is known only after the outcome: "
                    f"take it out, or list '{name}' under known_after_outcome"
                )
