"""What several rows of a table belong to, such as patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import Settings, feature_columns

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def things_of(table: pl.DataFrame, settings: Settings) -> np.ndarray | None:
    """A hash, as uint64 (rows,), of the thing that each row belongs to by ``split.together``; None where that names nothing.

    Rows that name none belong together if a model sees no difference between them: their places in the table tell nothing of them.
    """
    import numpy as np
    import polars as pl

    names = settings.split.together
    if not names:
        return None
    named = table.select(names)
    is_named = named.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_numpy()
    things = named.hash_rows(settings.seed).to_numpy()
    if is_named.all():
        return things
    return np.where(is_named, things, table.select(list(feature_columns(settings))).hash_rows(settings.seed).to_numpy())
