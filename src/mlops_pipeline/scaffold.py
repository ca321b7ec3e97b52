"""A first settings file for a table nobody has described yet."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlops_pipeline.config.dataset import Column, Kind, Source
from mlops_pipeline.config.finding import FOLDER
from mlops_pipeline.config.pipeline import USUAL_METRICS, Settings, project_of, settings_of
from mlops_pipeline.contract.values import FALSE_WORDS, TRUE_WORDS
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.tables.cast import cast_columns
from mlops_pipeline.tables.source import read_file

if TYPE_CHECKING:
    import polars as pl

FEW_CATEGORIES = 50
"""A text column with at most this many values, or half as many as rows, is a category; with more it is free text."""

FEW_ROWS = 100

FEW_DAYS = 10
"""With fewer distinct days in its time column, a table is not split by time unasked."""

HELD_OUT = 0.2
"""The share of the rows, the last ones, that a split by time holds out."""

HELD_OUT_AT_MOST = 0.4

TIMELESS = 0.01
"""With a larger share of rows without a time, the column is not the one that orders the rows."""


SCHEMA_LINE = "# yaml-language-server: $schema=training_config.schema.json"
"""What tells an editor by which schema to check the settings beside it."""

HEAD = """\
# Written by `mlops init`: check each column's kind, and list under known_after_outcome what is known only afterwards.
# What is not here has its default: `mlops config` prints all of it.
"""


@dataclass(frozen=True)
class Starter:
    """A settings file's text, and in one line which rows it holds out and why."""

    text: str
    split: str


@dataclass(frozen=True)
class ByTime:
    """A split by time: the column, and the first day that is held out."""

    column: str
    test_from: str


def starter(source: Path, target: str, output: Path, *, path: str | None = None, name: str | None = None) -> Starter:
    """Settings for a table: its columns' kinds from the first chunk of rows, the task from the target's kind.

    It is split by time if exactly one column tells the time. ``path`` is the table's place in the project, where that is not ``source``.
    A pipeline that is given a ``name`` has the project to itself; others keep their files in a folder of their own. Raises
    :class:`PipelineError` if the table cannot be read or has no such target.
    """
    root = "."
    if name is None:
        name = name_from(output.stem)
        root = f"pipelines/{name}"
    content = described(source, path or in_project(source, output), target, name, root)
    by_time, why = _by_time(source, content["dataset"])
    if by_time is not None:
        content["dataset"] = _after(content["dataset"], "task", time_column=by_time.column)
        content["split"] = {"kind": "time", "test_from": by_time.test_from}
    settings_of(content, str(output))
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    comment = textwrap.fill(why, 110, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False)
    return Starter(HEAD + text.replace("\nsplit:\n", f"\n{comment}\nsplit:\n", 1), why)


def name_from(words: str) -> str:
    """A pipeline's name out of a file's or a folder's."""
    return "".join(c if (c.isascii() and c.isalnum()) or c in "_-" else "_" for c in words).strip("_-") or "pipeline"


def in_project(source: Path, output: Path) -> str:
    """A table's place as settings at ``output`` spell it: relative to their project, or to the folder that is to become one."""
    project, here = project_of(output), Path.cwd()
    if not (project / ".dvc").is_dir():
        project = here if output.resolve().is_relative_to(here) else project.parent if project.name == FOLDER else project
    return Path(os.path.relpath(source.resolve(), project)).as_posix()


def settings_for_table(source: Path, target: str, name: str, **changes: Any) -> Settings:
    """Settings for a table as :func:`starter` would describe it, with some sections replaced."""
    content = described(source, str(source.resolve()), target, name, root=".")
    return settings_of({**content, **changes}, str(source))


def described(source: Path, path: str, target: str, name: str, root: str) -> dict[str, Any]:
    """The settings as a plain mapping."""
    frame = next(iter(read_file(source, Source(path=path), 8)), None)
    if frame is None or not frame.frame.height:
        raise PipelineError(f"{source}: holds no rows: give a table with a header and at least a few rows")
    table = frame.frame
    if target not in table.columns:
        raise PipelineError(f"{source}: has no column '{target}': its columns are {', '.join(table.columns)}")
    kinds = {column.name: _kind(column) for column in table}
    task, kinds[target] = _task(table[target], kinds[target])
    return {
        "name": name,
        "dataset": {
            "source": {"path": path},
            "target": target,
            "task": task,
            "columns": {column: {"kind": kind} for column, kind in kinds.items()},
        },
        # In a table of a few rows, equal ones are chance and no mistake.
        **({"validate": {"max_duplicate_share": 1.0}} if table.height < FEW_ROWS else {}),
        "split": {"kind": "stratified", "test_share": 0.25},
        "train": {"estimator": "lightgbm"},
        "evaluate": {"metric": USUAL_METRICS[task]},
        **({"paths": {"root": root}} if root != "." else {}),
    }


def _by_time(source: Path, dataset: dict[str, Any]) -> tuple[ByTime | None, str]:
    """How to split by time, or None; and why, in one line."""
    times = [name for name, column in dataset["columns"].items() if column["kind"] == "datetime"]
    at_random = "Rows are held out at random"
    name_it = 'under dataset.time_column and write split: {kind: time, test_from: "YYYY-MM-DD"}'
    if not times:
        return None, f"{at_random}: no column is a datetime."
    if len(times) > 1:
        several = ", ".join(repr(name) for name in times)
        return None, f"{at_random}, which flatters if rows have an order: of {several} put the one that orders them {name_it}."
    column = times[0]
    rows = _days_and_target(source, column, dataset["target"])
    days = rows.drop_nulls().group_by(column).len().sort(column)
    shares = days["len"].reverse().cum_sum().reverse() / max(days["len"].sum(), 1)
    # The first day cannot be held out: nothing would be left to train on.
    place = int((shares[1:] - HELD_OUT).abs().arg_min() or 0) + 1
    day = days[column][place] if place < days.height else None
    hindrance = _hindrance(rows, days.height, day, regression=dataset["task"] == "regression")
    if day is None or hindrance:
        return None, f"{at_random}: {hindrance}; if {column!r} orders the rows, put it {name_it}."
    return ByTime(column, day.isoformat()), (
        f"Rows from {day} on ({shares[place]:.0%} of those with a target) are held out, for a random split flatters. "
        f"If {column!r} does not order the rows, take time_column out and write split: {{kind: stratified}}."
    )


def _hindrance(rows: pl.DataFrame, days: int, day: date | None, *, regression: bool) -> str | None:
    """Why rows with a day and a target are not split at this day; None if they can be."""
    column, target = rows.columns
    timeless = rows[column].null_count() / max(rows.height, 1)
    if timeless > TIMELESS:
        return f"{timeless:.0%} of the rows have no {column!r}"
    if day is None or days < FEW_DAYS:
        return f"{column!r} has only {days} distinct day{'' if days == 1 else 's'}"
    rows = rows.drop_nulls()
    before, after = rows.filter(rows[column] < day), rows.filter(rows[column] >= day)
    if after.height > HELD_OUT_AT_MOST * rows.height:
        return f"the last day of {column!r} has {after.height / rows.height:.0%} of the rows"
    if not regression and (before[target].n_unique() < rows[target].n_unique() or after[target].n_unique() < 2):
        return f"before {day}, or from then on, a class of {target!r} is missing"
    return None


def _days_and_target(source: Path, column: str, target: str) -> pl.DataFrame:
    """The day and the target of every row that has a target."""
    import polars as pl

    parts = []
    for chunk in read_file(source, Source(path=str(source)), 8):
        times = cast_columns(chunk.frame.select(column), {column: Column(kind="datetime")})
        parts.append(times.select(pl.col(column).dt.date(), chunk.frame[target]).drop_nulls(target))
    return pl.concat(parts)


def _after(content: dict[str, Any], key: str, **more: Any) -> dict[str, Any]:
    """The mapping with more keys behind one of its own."""
    items = list(content.items())
    place = list(content).index(key) + 1
    return dict([*items[:place], *more.items(), *items[place:]])


def _kind(values: pl.Series) -> Kind:
    import polars as pl

    present = values.drop_nulls()
    if values.dtype == pl.Boolean:
        return "boolean"
    if values.dtype.is_temporal():
        return "datetime"
    text = present.cast(pl.String).str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False)
    if len(present) and numbers.null_count() == 0:
        return "integer" if bool((numbers == numbers.round()).all()) else "number"
    if len(present) and bool(text.str.to_lowercase().is_in(TRUE_WORDS + FALSE_WORDS).all()):
        return "boolean"
    if len(present) and text.str.contains(r"^\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}|$)").all():
        return "datetime"
    return "category" if present.n_unique() <= max(FEW_CATEGORIES, 2) or present.n_unique() * 2 <= min(len(present), 200) else "text"


def _task(target: pl.Series, kind: Kind) -> tuple[str, Kind]:
    distinct = target.drop_nulls().n_unique()
    if kind in ("number", "integer") and distinct > 20:
        return "regression", kind
    if kind == "number" or kind in ("text", "datetime"):
        kind = "category"
    return ("binary" if distinct <= 2 else "multiclass"), kind
