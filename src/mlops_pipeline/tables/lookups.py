"""Small tables that are joined to every row by equal keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_pipeline.config.dataset import Dataset, Lookup
from mlops_pipeline.contract.privacy import UNTOLD
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import Layout
from mlops_pipeline.tables.cast import cast_columns
from mlops_pipeline.tables.source import locate, read_source

if TYPE_CHECKING:
    import polars as pl


def lookup_table(lookup: Lookup, data: Dataset, layout: Layout) -> pl.DataFrame:
    """The whole lookup table: its keys and those of its columns that the dataset describes, typed.

    Equal rows count once. Raises :class:`PipelineError` if a key stands for different values.
    """
    import polars as pl

    frames = [chunk.frame for chunk in read_source(lookup, layout, chunk_mb=64, used=data.columns)]
    if not frames:
        raise PipelineError(
            f"{layout.config}: dataset.lookups: '{locate(lookup, layout)[0]}' holds no row: give one with a header and rows"
        )
    table = pl.concat(frames)
    missing = [name for name in lookup.keys if name not in table.columns]
    if missing:
        raise PipelineError(
            f"{layout.config}: dataset.lookups.keys: '{missing[0]}' is not in the lookup table: its columns are {', '.join(table.columns)}"
        )
    described = [name for name in table.columns if name in data.columns]
    columns = {name: data.column_in(lookup, name) for name in described}
    table = cast_columns(table.select(described), columns, lookup.null_values).drop_nulls(lookup.keys)
    repeated = table.height - table.n_unique(lookup.keys)
    if repeated:
        table = table.unique(maintain_order=True)
        twice = table.filter(table.select(lookup.keys).is_duplicated())
        if twice.height:
            found = zip(lookup.keys, twice.select(lookup.keys).row(0), strict=True)
            key = {name: UNTOLD if data.columns[name].private else value for name, value in found}
            raise PipelineError(f"{layout.config}: dataset.lookups.keys: {key} stands for different values: make the keys unique")
    return table
