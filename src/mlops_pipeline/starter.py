"""A first settings file for a table nobody has described yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlops_pipeline.config import Kind, Settings, Source, settings_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.tables.source import read_file
from mlops_pipeline.tables.typed import FALSE_WORDS, TRUE_WORDS

if TYPE_CHECKING:
    import polars as pl

FEW_CATEGORIES = 50
"""A text column with at most this many values, or half as many as rows, is a category; with more it is free text."""

FEW_ROWS = 100


def starter_yaml(source: Path, target: str, output: Path) -> str:
    """The YAML text for a table: its columns' kinds from the first chunk of rows, the task from the target's kind.

    Raises :class:`PipelineError` if the table cannot be read or has no such target.
    """
    name = "".join(c if c.isalnum() or c in "_-" else "_" for c in output.stem).strip("_-") or "pipeline"
    path = source.as_posix()
    content = described(source, path, target, name, root=f"pipelines/{name}")
    settings_of(content, str(output))
    head = "# Written by `mlops init`: check each column's kind, and list under known_after_outcome what is known only afterwards.\n"
    return head + yaml.safe_dump(content, sort_keys=False, width=110)


def settings_for_table(source: Path, target: str, name: str, **changes: Any) -> Settings:
    """Settings for a table as :func:`starter_yaml` would describe it, with some sections replaced."""
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
        "seed": 42,
        "dataset": {
            "source": {"path": path},
            "target": target,
            "task": task,
            "columns": {column: {"kind": kind} for column, kind in kinds.items()},
        },
        "ingest": {},
        # In a table of a few rows, equal ones are chance and no mistake.
        "validate": {"max_duplicate_share": 1.0} if table.height < FEW_ROWS else {},
        "split": {"kind": "stratified", "test_share": 0.25},
        "features": {},
        "train": {"estimator": "lightgbm"},
        "tuning": {"trials": 0},
        "evaluate": {"metric": {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}[task]},
        "gate": {},
        "onnx": {},
        "tracking": {},
        "registry": {},
        "paths": {"root": root},
    }


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
