"""A first settings file for a table nobody has described yet."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlops_pipeline.config.dataset import Column, Source
from mlops_pipeline.config.finding import FOLDER
from mlops_pipeline.config.pipeline import USUAL_METRICS, Ingest, Settings, feature_columns, project_of, settings_of
from mlops_pipeline.config.tree import in_yaml
from mlops_pipeline.contract.values import BLANKS, NULL_WORDS
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.inference.ngrams import words_of
from mlops_pipeline.layout import files_of
from mlops_pipeline.tables import kinds, profile
from mlops_pipeline.tables.cast import cast_columns
from mlops_pipeline.tables.columns import FEATURE, LEFT_OUT, ColumnUse, described_use, judged, never_all_left_out, noted, told_by
from mlops_pipeline.tables.days import DAY, ROWS, VALUE, Days
from mlops_pipeline.tables.dialect import Found, found
from mlops_pipeline.tables.leakage import Strong, single_feature_aucs, strong_features
from mlops_pipeline.tables.packing import form_of
from mlops_pipeline.tables.source import COMMENTED, Chunk, namesakes, one_ahead, read_files, torn_columns

if TYPE_CHECKING:
    import polars as pl

FEW_ROWS = 100

FEW_DAYS = 10
"""With fewer distinct days in its time column, a table is not split by time unasked."""

HELD_OUT = 0.2
"""The share of the rows, the last ones, that a split by time holds out."""

HELD_OUT_AT_MOST = 0.4

SET_ASIDE_AT_MOST = 0.05
"""What `init` writes for the share of rows that may be broken, where some are and that is enough."""

TOTALS = frozenset(
    re.findall(
        "[^|]+",
        "total|totals|total général|total general|total geral|grand total|sum|summe|gesamt|gesamtsumme|insgesamt|summa|totalt|somme|suma|"
        "razem|celkem|totale|totaal|összesen|yhteensä|итого|всего|合计|总计|合計",
    )
)
"""What stands in a last row that sums up the others, in some languages."""

CHUNK_MB = 4

NOTE = 400
"""A comment has at most so many characters."""

TELLING = 0.7
"""From this ROC AUC on, a number that names rows is said to tell the target."""

FEW_THINGS, SEVERAL = 10, 0.9
"""A column names things of several rows each, if there are so many of them, and no more than this share of the rows."""

TIMELESS = 0.01
"""With a larger share of rows without a time, or far after all others, the column is not the one that orders the rows."""

MANY_STEPS = 10
"""Rows come far after others, if no less than so many usual steps from day to day lie between."""

MOST_DAYS = 999_999
"""So many days can be written as one span."""


SCHEMA_LINE = "# yaml-language-server: $schema=training_config.schema.json"
"""What tells an editor by which schema to check the settings beside it."""

HEAD = """\
# Written by `mlops init`: check each column's kind, and list under known_after_outcome what is known only afterwards.
# What is not here has its default: `mlops config` prints all of it.
"""


@dataclass(frozen=True)
class Starter:
    """A settings file's text; what is to know of the table, and, in its last line, which rows it holds out and why."""

    text: str
    split: str
    columns: list[ColumnUse]


@dataclass(frozen=True)
class DescribedTable:
    """A table's settings as a plain mapping, and its columns as they are described."""

    content: dict[str, Any]
    columns: dict[str, kinds.Described]
    days: Days
    notes: tuple[str, ...]
    """How the table is read, where that is not the usual way."""

    def said(self, uses: list[ColumnUse]) -> list[str]:
        """What the file says of its columns, a line each."""
        lines = [f"'{use.name}' is no feature: {use.why}." for use in uses if use.use == LEFT_OUT]
        kept = [use.name for use in uses if use.use == FEATURE and self.columns[use.name].left_out]
        lines += [f"'{name}' is a feature, for no other is left: {self.columns[name].left_out}." for name in kept]
        lines += self.words_for_null()
        return lines + [f"'{name}': {one.note}." for name, one in self.columns.items() if one.note]

    def words_for_null(self, usual: Collection[str] = ()) -> list[str]:
        """Which words but the ``usual`` ones stand for null, where, and in how many rows, a line each."""
        nothing: dict[str, list[str]] = {}
        for name, one in self.columns.items():
            for word, count in one.nothing:
                nothing.setdefault(word, []).append(f"{name} ({count:,})")
        return [
            f"'{word}' stands for null in {', '.join(where[:6])}{' and others' if len(where) > 6 else ''}."
            for word, where in nothing.items()
            if word not in usual
        ]

    def uses(self, settings: Settings, strong: dict[str, Strong], first: pl.DataFrame) -> list[ColumnUse]:
        """Each column, its kind and whether it is used, and why not; of a text that tells the target what of it does, in the first rows."""
        uses = [described_use(name, settings, one.kind, one.left_out, one.note) for name, one in self.columns.items()]
        uses = [judged(use, strong.get(use.name)) for use in uses]
        target = first[settings.dataset.target]
        told = {
            use.name: told_by(first[use.name], target, settings, use.name, words_of)
            for use in uses
            if use.kind == "text" and use.name in strong
        }
        return never_all_left_out([noted(use, told.get(use.name, "")) for use in uses])


@dataclass(frozen=True)
class ByTime:
    """A split by time: the column, and what of ``split`` says which rows are held out."""

    column: str
    window: dict[str, str]


def starter(
    source: Path, target: str, output: Path, *, path: str | None = None, name: str | None = None, given: Mapping[str, Any] | None = None
) -> Starter:
    """Settings for a table: how it is written (what is not ``given``), its columns' kinds and use, the task from the target's kind.

    It is split by time if exactly one column tells the time. ``path`` is the table's place in the project, where that is not ``source``.
    A pipeline that is given a ``name`` has the project to itself; others keep their files in a folder of their own. Raises
    :class:`PipelineError` if the table cannot be read or has no such target.
    """
    root = "."
    if name is None:
        name = name_from(output.stem)
        root = f"pipelines/{name}"
    written = _written(source, target, given)
    target = target.strip(BLANKS) if written.settings.get("bare_names") else target
    table = described(source, path or in_project(source, output), target, name, root, written)
    content = table.content
    by_time, why = _by_time(source, content["dataset"], table.days)
    if by_time is not None:
        content["dataset"] = _after(content["dataset"], "task", time_column=by_time.column)
        content["split"] = {"kind": "time", **by_time.window}
        content["features"] = {**content.get("features", {}), "time_column": True}
    if "sql" in (given or {}):
        found_words = {key: value for key, value in content["dataset"]["source"].items() if key == "null_values"}
        content["dataset"]["source"] = dict(given or {}) | found_words
    settings = settings_of(content, str(output))
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    first = _first_rows(source, settings)
    table = replace(table, columns=_with_telling_names(table.columns, first, settings))
    if by_time is None:
        table = replace(table, columns=_with_things(table.columns, first, settings))
    uses = table.uses(settings, _strong(first, settings), first)
    for key, comment in (("  source", table.notes), ("  columns", table.said(uses)), ("split", [why])):
        indent = key[: len(key) - len(key.lstrip())]
        text = text.replace(f"\n{key}:", f"\n{''.join(_comment(one_line(note, NOTE), indent) for note in comment)}{key}:", 1)
    return Starter(HEAD + text, "\n".join([*table.notes, *table.words_for_null(NULL_WORDS), why]), uses)


def _first_rows(source: Path, settings: Settings) -> pl.DataFrame:
    """The first rows that have a target, typed."""
    data = settings.dataset
    first = next(iter(read_files(files_of(source), data.source, CHUNK_MB, used=data.columns))).frame
    columns = {name: column for name, column in data.columns.items() if name in first.columns}
    return cast_columns(first.select(list(columns)), columns, data.source.null_values).drop_nulls(data.target)


def _with_telling_names(columns: dict[str, kinds.Described], rows: pl.DataFrame, settings: Settings) -> dict[str, kinds.Described]:
    """The columns; of a number that names rows, and so is no feature, it is said if it tells the target all the same."""
    named = [
        name
        for name, one in columns.items()
        if one.left_out.startswith(kinds.NAMES_ROWS) and one.kind == "integer" and name in rows.columns
    ]
    told = {name: auc for name, auc in single_feature_aucs(rows, named, settings.dataset).items() if auc >= TELLING}
    remedy = "if it is given before the outcome, and rises with time say, take it out of features.exclude"
    more = {
        name: replace(columns[name], left_out=f"{columns[name].left_out}; alone it tells the target with AUC {auc:.3f}: {remedy}")
        for name, auc in told.items()
    }
    return {**columns, **more}


def _with_things(columns: dict[str, kinds.Described], rows: pl.DataFrame, settings: Settings) -> dict[str, kinds.Described]:
    """The columns; of one that names patients, say, of several rows each, it is said that a random split parts these."""
    made = dict(columns)
    for name in feature_columns(settings):
        if columns[name].kind == "number" or not kinds.names_things(name):
            continue
        if FEW_THINGS <= rows[name].n_unique() <= SEVERAL * rows.height:
            flatters = f"rows of one '{name}' are on both sides of the split, which flatters if others are to be predicted"
            note = f"{flatters}: then write split: {{kind: stratified, together: {in_yaml(name)}}}"
            made[name] = replace(columns[name], note="; ".join(filter(None, (columns[name].note, note))))
    return made


def _strong(rows: pl.DataFrame, settings: Settings) -> dict[str, Strong]:
    """Which features predict the target nearly alone in the first rows; a run looks at all of them."""
    data = settings.dataset
    columns = {**feature_columns(settings), data.target: data.columns[data.target]}
    aucs = single_feature_aucs(rows, [name for name in columns if name != data.target], data, words_of)
    return strong_features(rows, aucs, data, settings.validate_.max_single_feature_auc, settings.seed, words_of)


def _comment(text: str, indent: str) -> str:
    before = f"{indent}# "
    lines = textwrap.fill(text, 110, initial_indent=before, subsequent_indent=before, break_long_words=False, break_on_hyphens=False)
    return lines + "\n"


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
    written = _written(source, target)
    target = target.strip(BLANKS) if written.settings.get("bare_names") else target
    content = described(source, str(source.resolve()), target, name, ".", written).content
    return settings_of({**content, **changes}, str(source))


def _written(source: Path, target: str, given: Mapping[str, Any] | None = None) -> Found:
    """How a table is written by its first rows; a sign of comments that is not given is one only if no row anywhere may begin with it."""
    known = dict(given or {})
    written = found(_first_of(source), (target,), known)
    if "comment" in known or "comment" not in written.settings:
        return written
    chunks = read_files(files_of(source), Source(path=str(source), **written.settings), CHUNK_MB)
    first = next((row for chunk in chunks for row in chunk.broken if row.reason_kind == COMMENTED), None)
    if first is None:
        return written
    plain = found(_first_of(source), (target,), {**known, "comment": None})
    mark = written.settings["comment"]
    note = f"lines that begin with {mark} may be rows ({first.reason.partition(' begins')[0]}): if none is, write comment: '{mark}'"
    return replace(plain, notes=(*plain.notes, note))


def _first_of(source: Path) -> Path:
    """The file itself, or the first of a folder or a pattern."""
    return next(iter(files_of(source)), source)


def described(source: Path, path: str, target: str, name: str, root: str, written: Found) -> DescribedTable:
    """The settings as a plain mapping, and every column with its kind and use. Raises :class:`PipelineError`."""
    read_as = Source(path=path, **written.settings)
    plainly = read_as.model_copy(update={"null_values": ("",)})
    days = Days(target)
    is_text = form_of(_first_of(source)) == "text"
    said: dict[str, None] = {}
    misshapen, last = set[int](), dict[str, Any]()

    def read() -> Iterator[Chunk]:
        for chunk in one_ahead(read_files(files_of(source), plainly, CHUNK_MB, used=(target,))):
            said.update(dict.fromkeys(chunk.notes))
            misshapen.update(row.row for row in chunk.broken)
            last.update(chunk.frame.row(-1, named=True) if chunk.frame.height else {})
            yield chunk

    held = profile.profiled(read, days.count if is_text else None)
    padded = [] if read_as.trim else [name for name, column in held.items() if kinds.is_padded(column)]
    if padded:
        which = ", ".join(f"'{name}'" for name in padded[:3]) + (" and others" if len(padded) > 3 else "")
        note = f"blanks around a cell are no part of it: {which} would hold one value in several spellings, or one that nobody sends"
        bare = replace(written, settings={**written.settings, "trim": True}, notes=(*written.notes, note))
        return described(source, path, target, name, root, bare)
    rows = max((column.rows for column in held.values()), default=0)
    if not rows:
        raise PipelineError(f"{source}: holds no rows: give a table with a header and at least a few rows")
    if target not in held:
        near = next((name for name in held if name.strip().casefold() == target.strip().casefold()), None)
        meant = "" if near is None else f" (is '{near}' meant?)"
        raise PipelineError(f"{source}: has no column '{target}'{meant}: its columns are {', '.join(held)}")
    columns = kinds.described(held, target)
    columns |= {
        name: kinds.Described(name, "text", left_out=why) for name, why in torn_columns(_first_of(source)).items() if name not in held
    }
    for copy in namesakes(_first_of(source), read_as, target):
        columns[copy] = replace(columns[copy], left_out=f"the header calls it '{target}' as well, which is the target")
    task, columns[target] = kinds.task_of(held[target], columns[target])
    # Cells of Excel, JSON and Parquet end at no sign, which would tell how their texts write numbers.
    delimiter = str(written.settings.get("delimiter", ",")) if is_text else ""
    columns = columns if written.signs else kinds.parted_by_points(columns, held)
    columns = kinds.decided(columns, held, target, delimiter, written.signs)
    nothing = kinds.null_values(columns)
    signs = written.signs or kinds.signs_of(columns, held)
    columns = kinds.written_by_source(columns, held, signs)
    said.update(dict.fromkeys(_of_last_row(last, held)))
    # A line of units, or remarks at the end, in a table of a few rows.
    lost = (len(misshapen) + max(one.odd for one in columns.values())) / (rows + len(misshapen))
    given = {"path": path, **written.settings, **signs} | ({"null_values": list(nothing)} if nothing != read_as.null_values else {})
    named = {name: _column(one, nothing, typed=not is_text) for name, one in columns.items() if name.strip() and name in held}
    if set(named) <= {target}:
        others = "".join(f"; '{name}': {one.left_out or 'it has no name'}" for name, one in columns.items() if name != target)
        raise PipelineError(f"{source}: has no column to learn '{target}' from: give a table with others beside it{others}")
    left_out = [name for name in named if columns[name].left_out]
    if not any(column for column in named if column not in (target, *left_out)):
        left_out = []
    content = {
        "name": name,
        "dataset": {"source": given, "target": target, "task": task, **_positive(held[target], task, columns[target]), "columns": named},
        **({"ingest": {"max_broken_share": SET_ASIDE_AT_MOST}} if Ingest().max_broken_share < lost <= SET_ASIDE_AT_MOST else {}),
        # In a table of a few rows, equal ones are chance and no mistake.
        **({"validate": {"max_duplicate_share": 1.0}} if rows < FEW_ROWS else {}),
        "split": {"kind": "stratified", "test_share": 0.25},
        **({"features": {"exclude": left_out}} if left_out else {}),
        "train": {"estimator": "auto"},
        "evaluate": {"metric": USUAL_METRICS[task]},
        **({"paths": {"root": root}} if root != "." else {}),
    }
    return DescribedTable(content, columns, days, (*written.notes, *said))


def _of_last_row(row: Mapping[str, Any], held: Mapping[str, profile.ColumnProfile]) -> Iterator[str]:
    """What to say of a last row that may be a sum of the others: a word for that stands nowhere else in its column."""
    for name, value in row.items():
        word = value.strip(" :.").casefold() if isinstance(value, str) else ""
        if word in TOTALS and (few := held[name].few) is not None and few.get(str(value)) == 1:
            yield f"the last row has '{value}' in '{name}': if it sums up the others, take it out, for it is no row to learn from"


def _positive(target: profile.ColumnProfile, task: str, one: kinds.Described) -> dict[str, Any]:
    """Of two classes that are words the rarer one: what is looked for is seldom the rule."""
    nothing = {text for text, _ in one.nothing}
    counts = {value: count for value, count in (target.few or {}).items() if value.strip() and value not in nothing}
    if task != "binary" or one.kind != "category" or len(counts) != 2:
        return {}
    return {"positive": min(counts, key=lambda value: (counts[value], value))}


def _column(one: kinds.Described, nothing: tuple[str, ...], *, typed: bool) -> dict[str, Any]:
    """A column's description as it stands in the file; a category of a source with types says itself which texts are null."""
    content: dict[str, Any] = {"kind": one.kind}
    if one.format is not None:
        content["format"] = one.format
    if one.values & set(nothing) or one.here_alone or (typed and one.kind == "category" and one.nothing):
        content["null_values"] = [*(word for word in nothing if word not in one.values), *sorted(one.here_alone)]
    return content


def _by_time(source: Path, dataset: dict[str, Any], counted: Days) -> tuple[ByTime | None, str]:
    """How to split by time, or None; and why, in one line."""
    import polars as pl

    times = [name for name, column in dataset["columns"].items() if column["kind"] == "datetime"]
    at_random = "Rows are held out at random"
    if not times:
        return None, f"{at_random}: no column is a datetime."
    if len(times) > 1:
        several = ", ".join(repr(name) for name in times)
        return None, (
            f"{at_random}, which flatters if rows have an order: of {several} put the one that orders them under dataset.time_column "
            "and write split: {kind: time, test_last: 30d}, or whatever is a fifth of its time."
        )
    column = times[0]
    rows = _counted_days(column, dataset, counted)
    if rows is None:
        rows = _days_and_classes(source, column, dataset)
    days = rows.drop_nulls(column).group_by(column).agg(pl.col(ROWS).sum()).sort(column)
    far = _far_from(days)
    near, odd = days.head(far), days.tail(days.height - far)
    place = _held_out_from(near)
    day = near[column][place] if place < near.height else None
    hindrance = _hindrance(rows, days.height, odd, day, regression=dataset["task"] == "regression")
    if day is None or hindrance:
        window = _window_within(source, column, dataset) if day is None else _window(near, odd, day)
        if odd.height:
            window["test_until"] = (near[column][-1] + timedelta(days=1)).isoformat()
        inner = ", ".join(f"{key}: {value if key == 'test_last' else json.dumps(value)}" for key, value in window.items())
        remedy = f"; if {column!r} orders the rows, put it under dataset.time_column and write split: {{kind: time, {inner}}}"
        return None, f"{at_random}: {hindrance}{remedy if window else ''}."
    window = _window(near, odd, day)
    moves = "new rows move them on."
    if odd.height:
        far_rows = f"the row of {odd[column][0]} is" if _number(odd) == 1 else f"{_number(odd):,} rows, from {odd[column][0]} on, are"
        span = f"{_days_from(near, day)}d"
        moves = f"{far_rows} far after all others: mend that if it is wrong, and test_last: {span} moves them on with new rows."
    elif "test_last" not in window:
        moves = "new rows are held out too."
    held = _number(days.filter(pl.col(column) >= day)) / _number(days)
    return ByTime(column, window), (
        f"Rows from {day} on ({held:.0%} of those with a target) are held out, for a random split flatters; {moves} "
        f"If {column!r} does not order the rows, take time_column out and write split: {{kind: stratified}}."
    )


def _held_out_from(days: pl.DataFrame) -> int:
    """Which day the rows are held out from. The first cannot be: nothing would be left to train on."""
    shares = days[ROWS].reverse().cum_sum().reverse() / max(_number(days), 1)
    return int((shares[1:] - HELD_OUT).abs().arg_min() or 0) + 1


def _far_from(days: pl.DataFrame) -> int:
    """The place of the first day that is far after all before it, or how many days there are.

    Such is 9999-12-31, which says «never», or a mistyped year: of a few rows, or still to come, and behind a gap that is longer than
    the time of the rows that would be held out without it.
    """
    import numpy as np

    moments, rows, total = days.to_series(0), days[ROWS].to_list(), _number(days)
    steps, today = moments.diff().dt.total_days(), datetime.now(UTC).date()
    many_steps = MANY_STEPS * float(np.median(steps[1:].to_numpy())) if days.height > 1 else 0.0
    far, after = days.height, 0
    for place in range(days.height - 1, 0, -1):
        after += rows[place]
        if after > HELD_OUT_AT_MOST * total:
            break
        if steps[place] > many_steps and (after <= max(1, TIMELESS * total) or moments[place] > today):
            near = days.head(place)
            if steps[place] > _days_from(near, moments[min(_held_out_from(near), place - 1)]):
                far = place
    return far


def _days_from(days: pl.DataFrame, day: date) -> int:
    """How many days there are from one on to the last."""
    return int((days.to_series(0)[-1] - day).days) + 1


def _window(near: pl.DataFrame, odd: pl.DataFrame, day: date) -> dict[str, str]:
    """What of ``split`` holds out the rows from a day on: it moves with the newest row, unless that is far after all others."""
    held = _days_from(near, day)
    return {"test_from": day.isoformat()} if odd.height or held > MOST_DAYS else {"test_last": f"{held}d"}


def _window_within(source: Path, column: str, dataset: dict[str, Any]) -> dict[str, str]:
    """The same for rows of a single day, in hours or minutes; nothing if they are of one moment."""
    import polars as pl

    target = dataset["target"]
    columns = {name: _as_written(dataset, name) for name in (column, target)}
    parts = [
        cast_columns(chunk.frame.select(list(columns)), columns).drop_nulls().get_column(column)
        for chunk in one_ahead(read_files(files_of(source), Source(**dataset["source"]), CHUNK_MB, used=columns))
    ]
    moments = pl.concat(parts).sort() if parts else pl.Series(dtype=pl.Datetime("us"))
    if not len(moments):
        return {}
    ahead = moments[-1] - moments[int((1 - HELD_OUT) * (len(moments) - 1))]
    for unit, length in (("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        count = ahead // length
        if count and moments[-1] - count * length >= moments[0]:
            return {"test_last": f"{count}{unit}"}
    return {}


def _hindrance(rows: pl.DataFrame, days: int, odd: pl.DataFrame, day: date | None, *, regression: bool) -> str | None:
    """Why rows with a day and a target are not split at this day; None if they can be."""
    column, target, _ = rows.columns
    timeless = _number(rows.filter(rows[column].is_null())) / max(_number(rows), 1)
    if timeless > TIMELESS:
        return f"{timeless:.0%} of the rows have no {column!r}"
    if day is None or days < FEW_DAYS:
        return f"{column!r} has only {days} distinct day{'' if days == 1 else 's'}"
    late = _number(odd) / max(_number(rows), 1)
    if _number(odd) > max(1, TIMELESS * _number(rows)):
        return f"{late:.0%} of the rows have a {column!r} from {odd[column][0]} on, far after all others"
    rows = rows.drop_nulls(column)
    before, after = rows.filter(rows[column] < day), rows.filter(rows[column] >= day)
    if _number(after) > HELD_OUT_AT_MOST * _number(rows):
        return f"the last day of {column!r} has {_number(after) / _number(rows):.0%} of the rows"
    if not regression and (before[target].n_unique() < rows[target].n_unique() or after[target].n_unique() < 2):
        return f"before {day}, or from then on, a class of {target!r} is missing"
    return None


def _number(rows: pl.DataFrame) -> int:
    return int(rows[ROWS].sum())


def _counted_days(column: str, dataset: dict[str, Any], counted: Days) -> pl.DataFrame | None:
    """What :func:`_days_and_classes` gives, out of what the first pass counted; None if it did not."""
    import polars as pl

    target, is_quantity = dataset["target"], dataset["task"] == "regression"
    days = counted.of(column, dataset["columns"][column].get("format"), quantity=is_quantity)
    if days is None:
        return None
    described, source = _as_written(dataset, target), Source(**dataset["source"])
    nothing = source.null_values if described.null_values is None else described.null_values
    rows = days.select(pl.col(DAY).alias(column), pl.when(~pl.col(VALUE).is_in(list(nothing))).then(pl.col(VALUE)).alias(target), ROWS)
    rows = cast_columns(rows, {target: described}, nothing).drop_nulls(target)
    rows = rows.with_columns(pl.lit(0).alias(target)) if is_quantity else rows
    return rows.group_by(column, target).agg(pl.col(ROWS).sum()).select(column, target, ROWS)


def _days_and_classes(path: Path, column: str, dataset: dict[str, Any]) -> pl.DataFrame:
    """How many rows with a target each day has, of each class if there are classes."""
    import polars as pl

    target, columns = dataset["target"], {name: _as_written(dataset, name) for name in (column, dataset["target"])}
    counted: pl.DataFrame | None = None
    for chunk in one_ahead(read_files(files_of(path), Source(**dataset["source"]), CHUNK_MB, used=columns)):
        rows = cast_columns(chunk.frame.select(list(columns)), columns).drop_nulls(target)
        one_class = pl.lit(0).alias(target) if dataset["task"] == "regression" else pl.col(target)
        days = rows.select(pl.col(column).dt.date(), one_class, pl.lit(1, pl.UInt64).alias(ROWS))
        counted = (
            (days if counted is None else pl.concat([counted, days]))
            .group_by(column, target)
            .agg(pl.col(ROWS).sum())
            .select(column, target, ROWS)
        )
    return pl.DataFrame() if counted is None else counted


def _as_written(dataset: dict[str, Any], name: str) -> Column:
    """A column as the file describes it, with the source's signs where it has none of its own."""
    column, form = Column(**dataset["columns"][name]), Source(**dataset["source"]).number_format
    is_number = column.kind in ("number", "integer") and column.format is None
    return column.model_copy(update={"format": form}) if is_number else column


def _after(content: dict[str, Any], key: str, **more: Any) -> dict[str, Any]:
    """The mapping with more keys behind one of its own."""
    items = list(content.items())
    place = list(content).index(key) + 1
    return dict([*items[:place], *more.items(), *items[place:]])
