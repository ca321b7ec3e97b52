"""Batch prediction: a table in, the same table with predictions out, a bounded amount of it in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import replacing
from mlops_pipeline.inference.scorer import Scorer
from mlops_pipeline.tables.cast import as_broken, cast_columns, first_reason, outside, unparsed
from mlops_pipeline.tables.source import Chunk, count_rows, one_ahead, read_file

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

CHUNK_MB = 8


@dataclass(frozen=True)
class Predicted:
    """What a batch prediction did. Rejected rows are in ``rejects``, with the reason; None if there were none."""

    rows: int
    rejected: int
    seconds: float
    engine: str
    rejects: Path | None


def predict_file(model: Path, source: Path, target: Path, console: Console) -> Predicted:
    """Predict every row of a CSV or Parquet file that keeps the model's schema; keep the others aside.

    The output has the input's columns, then ``prediction`` and, for classes, one ``probability_`` column a class.
    It appears whole or not at all. Raises :class:`PipelineError` if a column is missing or nothing could be read.
    """
    if target.suffix not in (".csv", ".parquet"):
        raise PipelineError(f"--output {target}: unknown format: end it in .csv or .parquet")
    scorer = Scorer(model)
    began, rows, rejected = time.perf_counter(), 0, 0
    rejects = target.with_name(f"{target.stem}.rejected.csv")
    if source.resolve() in (target.resolve(), rejects.resolve()):
        raise PipelineError(f"--output {target}: the input {source} would be overwritten: name another file")
    chunks = one_ahead(read_file(source, Source(path=str(source)), CHUNK_MB))
    with ExitStack() as stack:
        write = stack.enter_context(_writing(target))
        aside = stack.enter_context(replacing(rejects)).open("w", encoding="utf-8")
        stack.enter_context(aside)
        aside.write("row,reason,content\n")
        advance = stack.enter_context(_progress(console, count_rows(source)))
        for chunk in chunks:
            good, broken = _checked(chunk, scorer, source)
            for row in broken:
                aside.write(row.as_csv())
            if good.height:
                write(_with_predictions(good, scorer))
            rows, rejected = rows + good.height, rejected + len(broken)
            advance(good.height + len(broken))
        if not rows and not rejected:
            raise PipelineError(f"{source}: holds no row: give a table with a header and rows")
    if not rejected:
        rejects.unlink()
    return Predicted(rows, rejected, time.perf_counter() - began, scorer.engine, rejects if rejected else None)


def _checked(chunk: Chunk, scorer: Scorer, source: Path) -> tuple[pl.DataFrame, list[Any]]:
    import polars as pl

    absent = [name for name in scorer.columns if name not in chunk.frame.columns]
    if absent:
        raise PipelineError(f"{source}: column '{absent[0]}' is missing: the model needs {', '.join(scorer.columns)}")
    taken = [name for name in chunk.frame.columns if name == "prediction" or name.startswith("probability_")]
    if taken:
        raise PipelineError(f"{source}: column '{taken[0]}' has the name of a prediction: rename it or leave it out")
    cast = cast_columns(chunk.frame.select(list(scorer.columns)), scorer.columns)
    reason = first_reason(chunk.frame, unparsed(cast, scorer.columns))
    reason = first_reason(cast.with_columns(reason.alias("__reason")), [pl.col("__reason"), *outside(scorer.columns)])
    kept = chunk.frame.with_columns(cast.get_columns()).filter(reason.is_null())
    return kept, [*chunk.broken, *as_broken(chunk.frame, chunk.row_numbers, reason)]


def _with_predictions(rows: pl.DataFrame, scorer: Scorer) -> pl.DataFrame:
    import polars as pl

    said = scorer.predict(rows)
    if scorer.task == "regression":
        return rows.with_columns(pl.Series("prediction", said))
    labels = pl.Series("prediction", scorer.classes)[said.argmax(axis=1)]
    return rows.with_columns(labels, *(pl.Series(f"probability_{name}", said[:, k]) for k, name in enumerate(scorer.classes)))


@contextmanager
def _writing(target: Path) -> Iterator[Any]:
    """A function that appends a frame to the target, which takes its place at the end."""
    import pyarrow.parquet as pq

    with replacing(target) as temporary, ExitStack() as stack:
        state: dict[str, Any] = {}

        def write_csv(frame: pl.DataFrame) -> None:
            state.setdefault("file", stack.enter_context(temporary.open("wb")) if "file" not in state else None)
            frame.write_csv(state["file"], include_header=not state.get("started"))
            state["started"] = True

        def write_parquet(frame: pl.DataFrame) -> None:
            table = frame.to_arrow(compat_level=None)
            if "writer" not in state:
                state["writer"] = stack.enter_context(pq.ParquetWriter(temporary, table.schema, compression="zstd"))
            state["writer"].write_table(table)

        yield write_csv if target.suffix == ".csv" else write_parquet
        if not state:
            raise PipelineError(f"{target}: no row could be predicted: see {target.with_name(f'{target.stem}.rejected.csv')}")


@contextmanager
def _progress(console: Console, total: int | None) -> Iterator[Any]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("predicting"), BarColumn(), TaskProgressColumn(), TextColumn("{task.completed:,} rows"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=total)
        yield lambda rows: progress.advance(bar, rows)
