"""Ingest: from the source to typed Parquet, streamed; broken rows are kept aside with the reason."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlops_pipeline.config.moments import NEWEST, shown_moment
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.refresh import seen_before, take_ingested
from mlops_pipeline.features.replay import Drawing
from mlops_pipeline.features.rows import Origins, kept_recipe, recipe_of, typed_rows
from mlops_pipeline.features.table import finish
from mlops_pipeline.files import FOR_ITS_OWNER, replacing, sha256_of_file, write_json
from mlops_pipeline.layout import Layout
from mlops_pipeline.tables.cast import Spelling
from mlops_pipeline.tables.lookups import lookup_table
from mlops_pipeline.tables.source import one_ahead, read_source

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from mlops_pipeline.config.dataset import Dataset


def ingest(settings: Settings, layout: Layout, console: Console) -> None:
    """Write ``data/raw``: the typed table, the quarantine and a report with counts and the table's SHA-256.

    Memory is bounded by ``ingest.chunk_mb`` and the lookup tables. Raises :class:`PipelineError` if the source
    cannot be read or more than ``ingest.max_broken_share`` of its rows are broken.
    """
    import pyarrow.parquet as pq

    _refuse_absent(settings, layout)
    data = settings.dataset
    recipe = recipe_of(data)
    lookups = [(lookup.keys, lookup_table(lookup, data, layout)) for lookup in data.lookups]
    read = broken = unlabelled = later = 0
    reasons, said, there = dict[str, int](), dict[str, None](), list[str]()
    spelling, drawing, files = Spelling(), Drawing(settings, lookups), seen_before(settings, layout)
    as_of = None if settings.as_of is None else shown_moment(settings.as_of)
    with replacing(layout.raw) as table_file, replacing(layout.quarantine, FOR_ITS_OWNER) as quarantine_file:
        writer: pq.ParquetWriter | None = None
        with quarantine_file.open("w", encoding="utf-8") as quarantine:
            quarantine.write("row,reason,content\n")
            for chunk in one_ahead(read_source(data.read_as, layout, settings.ingest.chunk_mb, data.columns)):
                said.update(dict.fromkeys(chunk.notes))
                try:
                    rows = typed_rows(chunk, data, recipe, lookups, settings.as_of)
                except PipelineError as error:
                    raise PipelineError(f"{layout.config}: {error}") from error
                spelling.look(rows.source, data)
                drawing.look(rows)
                there = chunk.frame.columns
                read += rows.read
                later += rows.later
                broken += len(rows.broken)
                unlabelled += rows.unlabelled
                for row in rows.broken:
                    reasons[row.reason_kind] = reasons.get(row.reason_kind, 0) + 1
                    quarantine.write(row.as_csv())
                if rows.table.height:
                    arrow = rows.table.to_arrow(compat_level=None)
                    writer = writer or pq.ParquetWriter(table_file, arrow.schema, compression="none")
                    writer.write_table(arrow)
        if later and later == read:
            raise PipelineError(f"--as-of {as_of}: none of {read} rows is from before: give a later moment, or --as-of {NEWEST}")
        if writer is None or read == broken + unlabelled + later:
            raise PipelineError(
                f"{layout.config}: dataset.source: no usable row in {read} read ({_listed(reasons)}): check dataset.columns"
            )
        writer.close()
        seen = read - later
        if broken / seen > settings.ingest.max_broken_share:
            raise _too_many_broken(settings, layout, quarantine_file, f"{broken} of {seen} rows are broken ({_listed(reasons)})")
        take_ingested(settings, layout, console, table_file, there, lookups, files)
        drawing.write(layout.replay, finish(table_file, recipe, _kinds(data), *kept_recipe(settings, there, lookups)))
        report = {
            "dataset": settings.name,
            "rows_read": read,
            "rows_kept": seen - broken - unlabelled,
            "rows_without_target": unlabelled,
            "rows_broken": broken,
            "as_of": as_of,
            "rows_not_seen": later,
            "broken_reasons": reasons,
            "columns_not_described": [name for name in there if name not in data.columns],
            "sha256": sha256_of_file(table_file),
        }
    write_json(layout.ingest_report, report)
    write_json(layout.target_words, spelling.words())
    write_json(layout.origins, asdict(Origins.of(there, lookups, data)))
    where = [f"broken: {_listed(reasons)}: see {layout.relative(layout.quarantine)}"] if broken else []
    for line in (
        *said,
        f"{seen - broken - unlabelled:,} rows kept of {read:,} · {unlabelled:,} without target · {broken:,} broken",
        *where,
    ):
        console.print(f"            {line}")
    if as_of is not None:
        console.print(f"            {later:,} rows from {as_of} on, or without a time, are not seen")


def _refuse_absent(settings: Settings, layout: Layout) -> None:
    """Raise :class:`PipelineError` for a table that is not here since it lies where DVC keeps it, as in a fresh clone."""
    lookups = [("dataset.lookups", lookup) for lookup in settings.dataset.lookups]
    for key, source in (("dataset.source", settings.dataset.source), *lookups):
        if source.path is None or layout.source_files(source.path):
            continue
        place = layout.project / source.path
        beside = (path.with_name(f"{path.name}.dvc") for path in (place, *place.parents) if layout.project in path.parents)
        if (kept := next((file for file in beside if file.is_file()), None)) is not None:
            get = f"`dvc pull {shlex.quote(os.path.relpath(kept))}` gets it from DVC's remote"
            raise PipelineError(f"{layout.config}: {key}: '{place}' is not here, and DVC keeps it: {get}, or put it there")


def _kinds(data: Dataset) -> dict[str, str]:
    return {name: column.kind for name, column in data.columns.items()}


def _too_many_broken(settings: Settings, layout: Layout, quarantine_file: Path, what: str) -> PipelineError:
    """The broken rows stay beside the quarantine of the last run that went well."""
    kept = layout.quarantine.with_suffix(".rejected.csv")
    quarantine_file.replace(kept)
    quarantine_file.touch(FOR_ITS_OWNER)
    share = settings.ingest.max_broken_share
    return PipelineError(f"{layout.config}: ingest.max_broken_share = {share}: {what}: mend the source, see {kept}, or raise the share")


def _listed(reasons: dict[str, int]) -> str:
    top = sorted(reasons.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{count} × {reason}" for reason, count in top) or "none was read"
