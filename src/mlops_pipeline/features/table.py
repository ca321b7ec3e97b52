"""Columns that need more than their own row: a state of the table is asked for them, as a server asks its own; rows without a target go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.contract.spec import Recipe
from mlops_pipeline.features.keyed import state_of
from mlops_pipeline.features.state import FeatureState
from mlops_pipeline.files import replacing

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.features.rows import Joined

ROWS_AT_ONCE = 1 << 20
"""So many rows are asked for at once."""


def finish(table: Path, recipe: Recipe, kinds: Mapping[str, str], kept: Recipe | None = None, lookups: Joined = ()) -> FeatureState | None:
    """Add the recipe's late columns to a Parquet file and drop rows without target, in place; the columns of ``kinds`` are kept, in order.

    Gives the state that these were asked of, with the lookups, or that of the recipe to be ``kept``; None where nothing needs one.

    Counts and aggregates are over all rows, since leaving out those without an outcome would reveal it; histories over the outcomes.
    In memory is one row a key and moment, and the columns that are made.
    """
    import polars as pl

    rows = pl.scan_parquet(table, glob=False)
    labelled = made = rows.filter(pl.col(recipe.target).is_not_null())
    state = state_of(rows, recipe, kinds, lookups) if recipe.late or lookups else None
    if recipe.late and state is not None:
        columns = late_columns(labelled, state, recipe)
        made = pl.concat([labelled, columns.lazy()], how="horizontal", strict=True)
    if kept is not None and kept.late != recipe.late:
        state = state_of(rows, kept, kinds, lookups) if kept.late or lookups else None
    with replacing(table) as finished:
        made.select(list(kinds)).sink_parquet(finished, compression="zstd", maintain_order=True)
    return state


def late_columns(rows: pl.LazyFrame, state: FeatureState, recipe: Recipe) -> pl.DataFrame:
    """What a state says of each row, strictly before its moment."""
    import polars as pl

    needed = {name for late in recipe.late for name in state.keys_of(late)}
    if recipe.time_column is not None:
        needed.add(recipe.time_column)
    seen = rows.select(sorted(needed)).collect(engine="streaming")
    chunks = []
    for begin in range(0, max(seen.height, 1), ROWS_AT_ONCE):
        some = seen.slice(begin, ROWS_AT_ONCE)
        moments = None if recipe.time_column is None else some[recipe.time_column]
        chunks.append(pl.DataFrame([state.values(late, some.select(state.keys_of(late)).get_columns(), moments) for late in recipe.late]))
    return pl.concat(chunks)
