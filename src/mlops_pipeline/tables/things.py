"""What several rows of a table belong to, such as patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def things_of(table: pl.DataFrame, names: Sequence[str], seed: int) -> np.ndarray:
    """A hash, as uint64, of the thing that each row belongs to by these columns; a row that names none is a thing of its own."""
    import numpy as np
    import polars as pl

    named = table.select(names)
    is_named = named.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_numpy()
    alone = table.with_row_index("\0row").hash_rows(seed).to_numpy()
    return np.where(is_named, named.hash_rows(seed).to_numpy(), alone)
