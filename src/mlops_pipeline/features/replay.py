"""What a version's features are computed again from before it is registered: rows as the source has them, and the state of then.

Ingest keeps both in a folder: ``rows.parquet`` with cells of the source as they were read, beside each row's number there and its place in
the table; and ``state``, where a recipe needs one. Rows are drawn by their number, so that the same source gives the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.features.state import State, open_state, write_state
from mlops_pipeline.files import replacing_folder

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.config.dataset import Dataset
    from mlops_pipeline.features.rows import TypedRows

DRAWN = 20_000
"""Rows that are kept of a source; all of one that has fewer."""

NUMBER, PLACE = "\0number", "\0place"
"""Columns beside the source's own: a row's number in the source (from 1), and its place in the table (from 0)."""

_DRAW = "\0draw"
_MIX = 2_654_435_761
"""An odd number near 2^32 over the golden ratio: multiples of it are spread evenly."""


class Drawing:
    """Draws rows with a target from the chunks of a source as they go by, in bounded memory."""

    def __init__(self, data: Dataset) -> None:
        self._data, self._placed = data, 0
        self._drawn: pl.DataFrame | None = None

    def look(self, rows: TypedRows) -> None:
        """Take what is drawn of a chunk."""
        import polars as pl

        labelled = rows.table[self._data.target].is_not_null()
        source = rows.source.select(name for name in rows.source.columns if name in self._data.columns)
        taken = source.with_columns(rows.numbers.cast(pl.Int64).alias(NUMBER)).filter(rows.usable).filter(labelled)
        taken = taken.with_columns(
            pl.int_range(self._placed, self._placed + taken.height, dtype=pl.Int64).alias(PLACE),
            ((pl.col(NUMBER) * _MIX) % (1 << 32)).alias(_DRAW),
        )
        self._placed += taken.height
        self._drawn = taken if self._drawn is None else pl.concat([self._drawn, taken], how="vertical_relaxed")
        if self._drawn.height > 2 * DRAWN:
            self._drawn = self._drawn.bottom_k(DRAWN, by=_DRAW)

    def rows(self) -> pl.DataFrame:
        """The rows that were drawn, in their order."""
        assert self._drawn is not None  # noqa: S101  # a source without a row has been refused
        return self._drawn.bottom_k(min(DRAWN, self._drawn.height), by=_DRAW).sort(PLACE).drop(_DRAW)

    def write(self, place: Path, state: State | None) -> None:
        """Write the rows and a state as a folder, which appears whole or not at all."""
        with replacing_folder(place) as folder:
            self.rows().write_parquet(folder / "rows.parquet", compression="zstd")
            if state is not None:
                (folder / "state").mkdir()
                write_state(state, folder / "state")


@dataclass(frozen=True)
class Replay:
    """Rows of the source with their numbers and places, and the state of then; None where no column needs one."""

    rows: pl.DataFrame
    state: State | None


def read_replay(folder: Path) -> Replay:
    """What lies in a folder; the state is mapped, not read."""
    import polars as pl

    state = open_state(folder / "state") if (folder / "state").exists() else None
    return Replay(pl.read_parquet(folder / "rows.parquet", glob=False), state)
