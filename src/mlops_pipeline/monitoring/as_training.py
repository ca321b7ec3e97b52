"""The record as a table that the pipeline trains on: rows as they came, by the source's names, and what came of them."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.serving import RecordStore
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import replacing
from mlops_pipeline.monitoring.labels import Known
from mlops_pipeline.monitoring.recorded import within
from mlops_pipeline.monitoring.watched import Watched
from mlops_pipeline.records.reading import sources
from mlops_pipeline.spreadsheet import harmless, said_of

if TYPE_CHECKING:
    import polars as pl

ARRIVED = "time"


@dataclass(frozen=True)
class Exported:
    """What a table of the record holds."""

    rows: int
    labelled: int
    notes: tuple[str, ...]


def export_as_training(
    watch: Watched,
    store: RecordStore,
    target: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    model: str | None = None,
    version: str | None = None,
    raw: bool = False,
) -> Exported:
    """Write the answered rows as a table with the pipeline's target, null where no label has come; it appears whole or not at all.

    Of raw rows these are the source's columns, of others the features. Private columns are in no record, so not in it. A CSV file has no
    cell that a spreadsheet would run, unless ``raw`` is. Raises :class:`PipelineError`.
    """
    import polars as pl
    import pyarrow.parquet as pq

    if target.suffix not in (".parquet", ".csv"):
        raise PipelineError(f"--output {target}: unknown format: end it in .parquet or .csv")
    data = watch.pipeline.dataset
    with closing(watch.state()) as state:
        known = Known.of(state.labels_after(0, 0.0), within(watch))
    rows = labelled = cells = finished = 0
    arrived = ""
    with replacing(target) as temporary, ExitStack() as stack:
        writer: Any = None
        for frame, own in sources(store, since=since, until=until, model=model, version=version):
            answered = frame["prediction"].is_not_null() & (frame["error"].fill_null("") == "")
            there = own.select(pl.any_horizontal(pl.all().is_not_null())).to_series() if own.width else answered & False
            finished += int((answered & ~there).sum())
            kept, table = frame.filter(answered & there), own.filter(answered & there)
            table = table.with_columns(_labels(known, kept, watch).alias(data.target))
            if data.time_column is not None and data.time_column not in table.columns and data.time_column not in data.derive:
                arrived = data.time_column
                table = table.with_columns(kept[ARRIVED].dt.replace_time_zone(None).alias(arrived))
            rows, labelled = rows + table.height, labelled + table[data.target].count()
            if target.suffix == ".csv":
                shown, run = (table, 0) if raw else harmless(table)
                cells += run
                file = writer or stack.enter_context(temporary.open("wb"))
                shown.write_csv(file, include_header=writer is None)
                writer = file
            else:
                arrow = table.to_arrow(compat_level=None)
                writer = writer or stack.enter_context(pq.ParquetWriter(temporary, arrow.schema, compression="zstd"))
                writer.write_table(arrow)
        if not rows:
            raise PipelineError(f"{target}: the record holds no answered row of these: nothing was written")
    notes = [f"column '{arrived}' holds when each row was asked: no row brought it"] if arrived else []
    notes += [f"{finished:,} rows left out: they came as finished features"] if finished else []
    notes += [said_of(cells)] if cells else []
    return Exported(rows, labelled, tuple(notes))


def _labels(known: Known, rows: pl.DataFrame, watch: Watched) -> pl.Series:
    """What came of each row, typed as the target is; null where that is not known."""
    import polars as pl

    data = watch.pipeline.dataset
    types = {"boolean": pl.Int8, "integer": pl.Int64, "number": pl.Float64}
    kind = types.get(data.columns[data.target].kind, pl.String)
    return pl.Series([None if label is None else label.value for label in known.of_rows(rows)], strict=False, dtype=kind)
