"""The schema a table must keep: inferred once as a Pandera schema in YAML, then enforced."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Column, Dataset
from mlops_pipeline.config.pipeline import Validate
from mlops_pipeline.config.tree import BoundedLoader
from mlops_pipeline.contract.privacy import common
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import write_text

if TYPE_CHECKING:
    import pandera.polars as pa
    import polars as pl


NAMED_ROWS = 50
"""In so many rows or more, whole numbers that all differ are taken for names of the rows."""

NULL_SHARE = "max_null_share"
OTHER_SHARE = "max_other_share"
"""How many rows may have another level than those listed, where some were not listed since too few rows have them."""

BESIDE = (NULL_SHARE, OTHER_SHARE)
"""Limits that Pandera's file format has no place for: they stand beside its keys and are taken out on reading."""


@dataclass(frozen=True)
class Failure:
    """One rule that the table breaks: where, how often, and what was seen."""

    column: str
    rule: str
    rows: int
    seen: str
    remedy: str = ""
    """What to do where that is not to mend the data or to widen the schema."""
    stops: bool = False
    """Whether nothing true could be said of a model of this table, whatever ``validate.on_failure`` says."""


def infer_schema(table: pl.DataFrame, data: Dataset, rules: Validate, name: str) -> pa.DataFrameSchema:
    """Types from the description, ranges and categories and null shares from the rows, with the configured slack.

    It tells no value of a private column, and no level that fewer rows have than ``min_level_rows``.
    """
    import pandera.polars as pa

    least = data.min_level_rows
    columns = {column: _infer_column(table[column], description, rules, least) for column, description in data.columns.items()}
    return pa.DataFrameSchema(columns, strict=True, name=name)


def write_schema(schema: pa.DataFrameSchema, path: Path) -> None:
    """Write the schema as the YAML file that people read, edit and commit."""
    import yaml
    from pandera.io.polars_io import serialize_schema

    content = serialize_schema(schema)
    for name, column in schema.columns.items():
        content["columns"][name].update(column.metadata or {})
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, f"{_HEAD}{_digest(text)}\n{text}")


_HEAD = """# The table's schema, inferred once. Edit it where the world is wider than the first table; commit it.
# As long as nobody edits it, it is inferred anew when the columns change. As inferred: """


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_as_inferred(path: Path) -> bool:
    """Whether nobody has edited the schema since it was inferred."""
    text = path.read_text(encoding="utf-8")
    digest, _, rest = text.removeprefix(_HEAD).partition("\n")
    return text.startswith(_HEAD) and digest == _digest(rest)


def other_columns(table: pl.DataFrame, schema: pa.DataFrameSchema) -> str:
    """What tells the schema's columns and types from the table's; empty if nothing does."""
    for name, column in schema.columns.items():
        if name not in table.columns:
            return f"'{name}' is gone"
        if table.schema[name] != column.dtype.type:
            return f"'{name}' is {table.schema[name]}, not {column.dtype.type}"
    return next((f"'{name}' is new" for name in table.columns if name not in schema.columns), "")


def read_schema(path: Path) -> pa.DataFrameSchema:
    """Read the committed schema. Raises :class:`PipelineError` if the file is no Pandera schema."""
    import yaml
    from pandera.io.polars_io import deserialize_schema

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=BoundedLoader)  # noqa: S506  # a safe loader, with one check more
        limits = {name: {key: column.pop(key) for key in BESIDE if key in column} for name, column in content["columns"].items()}
        schema: pa.DataFrameSchema = deserialize_schema(content)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise PipelineError(f"{path}: is no Pandera schema ({one_line(error)}): mend it, or delete it to infer it anew") from error
    for name, limit in limits.items():
        if limit:
            schema.columns[name].metadata = limit
    return schema


def tells_private(schema: pa.DataFrameSchema, data: Dataset) -> str:
    """The first private column of whose values the schema tells some; empty if it tells none."""
    told = (name for name in data.columns if name in schema.columns and data.columns[name].private and data.columns[name].kind != "boolean")
    return next((name for name in told if schema.columns[name].checks), "")


def failures(table: pl.DataFrame, schema: pa.DataFrameSchema, least: int = 1) -> list[Failure]:
    """Every rule of the schema that the table breaks, most rows first; what is seen of texts are those that ``least`` rows have."""
    import pandera.polars as pa

    found = _other_columns(table, schema)
    # What has another type, or is missing, breaks no other rule.
    same = [name for name in schema.columns if name in table.columns and table.schema[name] == schema.columns[name].dtype.type]
    whole = schema
    schema = pa.DataFrameSchema({name: _strict(schema.columns[name]) for name in same}, strict=True, name=schema.name)
    table = table.select(same)
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        found += _grouped(error.failure_cases, table, least)
    for name in same:
        found += _beyond(table[name], whole.columns[name])
    return sorted(found, key=lambda failure: (-failure.rows, failure.column, failure.rule))


def _listed(column: pa.Column) -> Any:
    """The check by which a column lists its levels, where others may be there in a share of the rows; else None."""
    if OTHER_SHARE not in (column.metadata or {}):
        return None
    return next((check for check in column.checks if check.name == "isin"), None)


def _strict(column: pa.Column) -> pa.Column:
    """The column with the rules that hold in every row."""
    import pandera.polars as pa

    listed = _listed(column)
    if listed is None:
        return column
    return pa.Column(column.dtype, [check for check in column.checks if check is not listed], nullable=column.nullable)


def _beyond(values: pl.Series, column: pa.Column) -> Iterator[Failure]:
    """The limits of a share of the rows that a column breaks."""
    limits, listed, rows = column.metadata or {}, _listed(column), max(len(values), 1)
    if (limit := limits.get(NULL_SHARE)) is not None and (nulls := values.null_count()) > limit * rows:
        yield Failure(values.name, f"at most {limit:.1%} null", nulls, f"{nulls / rows:.1%} null")
    if listed is not None:
        limit = limits[OTHER_SHARE]
        others = int((~values.is_in(list(listed.statistics["allowed_values"]))).sum())
        if others > limit * rows:
            yield Failure(values.name, f"at most {limit:.1%} of other levels than those listed", others, f"{others / rows:.1%} of others")


def _other_columns(table: pl.DataFrame, schema: pa.DataFrameSchema) -> list[Failure]:
    found = []
    for name, column in schema.columns.items():
        if name not in table.columns:
            remedy = f"describe {name} under dataset.columns, or take it out of the schema"
            found.append(Failure(name, "column_in_dataframe: a column of the schema is there", 1, "not there", remedy))
        elif table.schema[name] != column.dtype.type:
            remedy = f"give {name} the kind that the schema has under dataset.columns, or delete the schema's file to infer it anew"
            found.append(Failure(name, f"its type is {column.dtype.type}", 1, str(table.schema[name]), remedy))
    remedy = "add it to the schema, or delete the schema's file to infer it anew"
    new = [name for name in table.columns if name not in schema.columns]
    return found + [Failure(name, "column_in_schema: a column is in the schema", 1, "not there", remedy) for name in new]


def _infer_column(values: pl.Series, description: Column, rules: Validate, least: int) -> pa.Column:
    import pandera.polars as pa

    checks: list[Any] = []
    limits: dict[str, float] = {}
    present = values.drop_nulls()
    if description.kind == "boolean":
        checks.append(pa.Check.isin([0, 1]))
    elif description.private:
        pass
    elif description.kind in ("number", "integer") and len(present) and not _names_rows(present, description):
        checks.append(pa.Check.in_range(*_widened(present, description, rules.range_slack)))
    elif description.kind == "category":
        counts = dict(present.value_counts(name="\0count").iter_rows())
        listed = common(counts, least)
        if 0 < len(listed) <= rules.max_categories:
            checks.append(pa.Check.isin(listed))
            if len(listed) < len(counts):
                limits[OTHER_SHARE] = _with_slack(len(present) - sum(counts[level] for level in listed), values, rules)
    if description.nullable:
        limits[NULL_SHARE] = _with_slack(values.null_count(), values, rules)
    return pa.Column(values.dtype, checks, nullable=description.nullable, metadata=limits or None)


def _names_rows(present: pl.Series, description: Column) -> bool:
    """Whether whole numbers differ in every row, as keys do: those of later rows lie beyond them, and break no rule."""
    return description.kind == "integer" and len(present) >= NAMED_ROWS and present.n_unique() == len(present)


def _with_slack(rows: int, values: pl.Series, rules: Validate) -> float:
    """A limit for the share that so many rows are now."""
    return round(min(1.0, rows / max(len(values), 1) + rules.null_share_slack), 4)


def _widened(present: pl.Series, description: Column, slack: float) -> tuple[float, float]:
    """The seen range, widened by the slack but never past the described bounds nor, for what is never negative, zero."""
    low, high = float(present.min()), float(present.max())  # type: ignore[arg-type]  # numeric by the caller's check
    room = slack * (high - low)
    wide_low = low - room if low < 0 else max(0.0, low - room)
    wide_high = high + room
    if description.kind == "integer":
        wide_low, wide_high = wide_low // 1, -(-wide_high // 1)
    else:
        wide_low, wide_high = min(low, float(f"{wide_low:.6g}")), max(high, float(f"{wide_high:.6g}"))
    return (
        float(description.min if description.min is not None else wide_low),
        float(description.max if description.max is not None else wide_high),
    )


def _grouped(cases: pl.DataFrame, table: pl.DataFrame, least: int) -> list[Failure]:
    import polars as pl

    grouped = cases.group_by("column", "check", maintain_order=True).agg(
        pl.len(), pl.col("failure_case").cast(pl.String).drop_nulls().unique(maintain_order=True)
    )
    return [
        Failure(column or "(table)", check, count, _seen(values, table[column] if column in table.columns else None, least))
        for column, check, count, values in grouped.iter_rows()
    ]


def _seen(values: list[str], column: pl.Series | None, least: int) -> str:
    """A few of the values that break a rule; of texts only those that ``least`` rows have."""
    import polars as pl

    if column is None or column.dtype != pl.String or least == 1:
        return ", ".join(values[:3])
    counts = dict(column.drop_nulls().value_counts(name="\0count").iter_rows())
    told = [value for value in values if counts.get(value, 0) >= least]
    few = len(values) - len(told)
    return ", ".join([*told[:3], *([f"{few} that fewer than {least} rows have"] if few else [])])
