"""The rows that a report compares: a file, or a period of the pipeline's own table; by default the champion's training window."""

from __future__ import annotations

import re
import tempfile
from calendar import monthrange
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.config.pipeline import Settings, load_settings
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import read_json
from mlops_pipeline.layout import Layout, find_project, layout_of
from mlops_pipeline.tables.source import header

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

PERIOD = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")
ROW = "__row"


@dataclass(frozen=True)
class Pipeline:
    """A pipeline on disk: its settings, its files, and the columns its champion takes (None without a champion)."""

    settings: Settings
    layout: Layout
    features: tuple[str, ...] | None


@dataclass(frozen=True)
class Rows:
    """Some rows and where they come from; ``judged`` are others whose predictions stand for theirs."""

    table: pl.DataFrame
    origin: str
    judged: pl.DataFrame | None = None


def open_pipeline(config: Path | None, default: Path) -> Pipeline | None:
    """The pipeline of a settings file; None if none is named and there is none where one usually lies."""
    path = config or default
    if config is None and not (path.is_file() and any((folder / ".dvc").is_dir() for folder in path.resolve().parents)):
        return None
    settings = load_settings(path)
    layout = layout_of(settings, path, find_project(path))
    facts = layout.best_model / "training.json"
    return Pipeline(settings, layout, tuple(read_json(facts)["columns"]) if facts.is_file() else None)


def current_rows(named: str | None, since: datetime | None, until: datetime | None, pipeline: Pipeline | None) -> Rows:
    """The rows to look at: a file, a period such as 2013-10, or the table's rows between two moments."""
    if named is not None:
        if since is not None or until is not None:
            raise PipelineError(f"--current {named}: give either --current, or --from and --until")
        return _named_rows("--current", named, pipeline)
    if since is None and until is None:
        raise PipelineError(f"--current is missing: name a CSV or Parquet file, or a period such as 2013-10{_span(pipeline)}")
    return _table_rows("--from and --until", since or datetime.min, until or datetime.max, pipeline)


def reference_rows(named: str | None, pipeline: Pipeline | None) -> Rows:
    """The rows to compare with: a file or a period; by default the champion's training window, judged on its held-out rows."""
    return _champion_window(pipeline) if named is None else _named_rows("--reference", named, pipeline)


def read_table(path: Path) -> pl.DataFrame:
    """A whole CSV or Parquet file with typed columns; raises :class:`PipelineError`."""
    import polars as pl

    if not path.is_file():
        raise PipelineError(f"{path}: does not exist: name a CSV or Parquet file")
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path, glob=False)
        if path.name.endswith((".csv", ".csv.gz")):
            nulls = list(Source(path=str(path)).null_values)
            header(path)  # says what is wrong with it; Polars would rename a column that stands twice
            return pl.read_csv(path, null_values=nulls, infer_schema_length=None, try_parse_dates=True, glob=False)
    except pl.exceptions.NoDataError as error:
        raise PipelineError(f"{path}: is empty: give a table with a header and rows") from error
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise PipelineError(f"{path}: cannot be read as a table: {one_line(error)}") from error
    raise PipelineError(f"{path}: unknown format: give a .csv, .csv.gz or .parquet file")


def with_predictions(rows: Rows, pipeline: Pipeline, prediction: str, console: Console) -> Rows:
    """The same rows with the champion's predictions where they have none and hold every column that it takes."""
    features = pipeline.features
    if features is None or rows.judged is not None or prediction in rows.table.columns or not set(features) <= set(rows.table.columns):
        return rows
    return replace(rows, table=_predicted(rows.table, pipeline, rows.origin, prediction, console))


def only_what_the_model_sees(rows: Rows, pipeline: Pipeline, besides: tuple[str, ...]) -> Rows:
    """The rows with the champion's columns, target and predictions alone; private columns go in any case."""
    columns = pipeline.settings.dataset.columns
    kept = [name for name in rows.table.columns if name not in columns or not columns[name].private]
    if pipeline.features is not None and set(pipeline.features) <= set(kept):
        kept = [name for name in kept if name in pipeline.features or name in besides or name.startswith("probability_")]
    return replace(rows, table=rows.table.select(kept))


def judged_rows(pipeline: Pipeline, prediction: str, console: Console) -> pl.DataFrame | None:
    """The champion's held-out rows with its predictions of them; None if they are no longer those it was judged on."""
    layout = pipeline.layout
    if pipeline.features is None or not (layout.test.is_file() and layout.split_report.is_file()):
        return None
    evaluated = layout.best_model / "evaluation.json"
    if not evaluated.is_file() or read_json(evaluated).get("test_sha256") != read_json(layout.split_report)["test_sha256"]:
        return None
    predicted = _predicted(read_table(layout.test), pipeline, layout.relative(layout.test), prediction, console)
    target = pipeline.settings.dataset.target
    return predicted.select([c for c in predicted.columns if c in (target, prediction) or c.startswith("probability_")])


def _named_rows(option: str, named: str, pipeline: Pipeline | None) -> Rows:
    if Path(named).is_file():
        return Rows(read_table(Path(named)), named)
    if (moments := _period(option, named)) is not None:
        return _table_rows(f"{option} {named}", *moments, pipeline)
    raise PipelineError(f"{option} {named}: does not exist: name a CSV or Parquet file, or a period such as 2013-10{_span(pipeline)}")


def _period(option: str, named: str) -> tuple[datetime, datetime] | None:
    """From 2013, 2013-10, 2013-10-05 or two of them with .. between: the first moment, and the first one after."""
    first, _, last = named.partition("..")
    begin, end = PERIOD.fullmatch(first), PERIOD.fullmatch(last or first)
    if begin is None or end is None:
        return None
    try:
        moments = _bounds(begin)[0], _bounds(end)[1]
    except (ValueError, OverflowError) as error:
        raise PipelineError(f"{option} {named}: is no date: {error}") from error
    if moments[0] >= moments[1]:
        raise PipelineError(f"{option} {named}: ends before it begins: turn the two round")
    return moments


def _bounds(match: re.Match[str]) -> tuple[datetime, datetime]:
    # What is not named is None, and what is named 0 is the text "0", which is no month and no day.
    year, month, day = match.groups()
    first = datetime(int(year), int(month or 1), int(day or 1))
    last_month = int(month or 12)
    last = datetime(first.year, last_month, int(day or monthrange(first.year, last_month)[1]))
    return first, last + timedelta(days=1)


def _table_rows(asked: str, since: datetime, until: datetime, pipeline: Pipeline | None) -> Rows:
    import polars as pl

    if pipeline is None:
        raise PipelineError(f"{asked}: a period is one of the pipeline's table, and there is no pipeline here: name one with --config")
    layout, column = pipeline.layout, pipeline.settings.dataset.time_column
    if column is None:
        raise PipelineError(f"{asked}: {layout.relative(layout.config)} names no dataset.time_column: name a file instead")
    if not layout.raw.is_file():
        raise PipelineError(f"{layout.relative(layout.raw)}: does not exist: run `mlops run` first, or name a file")
    table = pl.scan_parquet(layout.raw, glob=False).filter((pl.col(column) >= since) & (pl.col(column) < until)).collect()
    if not table.height:
        raise PipelineError(f"{asked}: no row of {layout.relative(layout.raw)} is of that time{_span(pipeline)}")
    first, last = table.select(pl.col(column).min().alias("first"), pl.col(column).max().alias("last")).row(0)
    return Rows(table, f"{layout.relative(layout.raw)}, {first:%Y-%m-%d} to {last:%Y-%m-%d}")


def _span(pipeline: Pipeline | None) -> str:
    """What the pipeline's table covers, as the end of an error."""
    import polars as pl

    if pipeline is None or pipeline.settings.dataset.time_column is None or not pipeline.layout.raw.is_file():
        return ""
    column = pl.col(pipeline.settings.dataset.time_column)
    first, last = (
        pl.scan_parquet(pipeline.layout.raw, glob=False).select(column.min().alias("first"), column.max().alias("last")).collect().row(0)
    )
    return f" (the table covers {first:%Y-%m-%d} to {last:%Y-%m-%d})" if first is not None else ""


def _champion_window(pipeline: Pipeline | None) -> Rows:
    if pipeline is None:
        raise PipelineError("--reference is missing: name a CSV or Parquet file, or the pipeline whose training window it is with --config")
    layout = pipeline.layout
    if pipeline.features is None:
        raise PipelineError(f"{layout.relative(layout.best_model)}: there is no champion yet: run `mlops run` first, or name --reference")
    if not (layout.train.is_file() and layout.split_report.is_file()):
        raise PipelineError(f"{layout.relative(layout.train)}: does not exist: run `mlops run` first, or name --reference")
    split = read_json(layout.split_report)
    if read_json(layout.best_model / "training.json").get("train_sha256") != split["train_sha256"]:
        raise PipelineError(
            f"{layout.relative(layout.train)}: is not what the champion was trained on: name its rows with --reference, or run `mlops run`"
        )
    span = f", {split['train_span']}" if split.get("train_span") else ""
    return Rows(read_table(layout.train), f"the champion's training window, {layout.relative(layout.train)}{span}")


def _predicted(table: pl.DataFrame, pipeline: Pipeline, origin: str, prediction: str, console: Console) -> pl.DataFrame:
    """The table with predictions beside its rows, null where a row breaks the champion's schema."""
    import polars as pl
    from rich.console import Console

    from mlops_pipeline.inference.batch import predict_file

    with tempfile.TemporaryDirectory(prefix="mlops-monitor-") as folder:
        source, target = Path(folder) / "rows.parquet", Path(folder) / "predicted.parquet"
        table.select(pipeline.features or ()).with_row_index(ROW).write_parquet(source)
        try:
            done = predict_file(pipeline.layout.best_model, source, target, console if console.is_terminal else Console(quiet=True))
        except PipelineError as error:
            why = str(error).replace(str(source), origin)
            raise PipelineError(f"{origin}: no row keeps the champion's schema" if str(target) in why else why) from error
        said = pl.read_parquet(target, glob=False).select(
            ROW, pl.col("prediction").alias(prediction), pl.selectors.starts_with("probability_")
        )
    broken = f"; {done.rejected:,} break its schema and have no prediction" if done.rejected else ""
    console.print(f"predicted  {done.rows:,} rows of {origin} with the champion{broken}", highlight=False)
    fresh = table.drop([c for c in table.columns if c in said.columns and c != ROW])
    return fresh.with_row_index(ROW).join(said, on=ROW, how="left", maintain_order="left").drop(ROW)
