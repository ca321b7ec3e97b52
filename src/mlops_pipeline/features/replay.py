"""What a version's features are computed again from before it is registered: rows as the source has them, and the state of then.

Ingest keeps both in a folder: ``rows.parquet`` with cells of the source as they were read, beside each row's number there and its place in
the table; and ``state``, where a recipe needs one. Rows are drawn by their number, so that the same source gives the same ones. Only
columns that a feature is made from are kept, so that a private one that none needs is in no copy more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import feature_columns
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.needs import needed
from mlops_pipeline.features.rows import Origins, recipe_of
from mlops_pipeline.features.state import FeatureState, open_state, write_state
from mlops_pipeline.files import replacing_folder
from mlops_pipeline.tables.cast import as_text

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.config.pipeline import Settings
    from mlops_pipeline.features.rows import Joined, TypedRows

DRAWN = 20_000
"""Rows that are kept of a source; all of one that has fewer."""

NUMBER, PLACE = "\0number", "\0place"
"""Columns beside the source's own: a row's number in the source (from 1), and its place in the table (from 0)."""

_DRAW = "\0draw"
_MIX = 2_654_435_761
"""An odd number near 2^32 over the golden ratio: multiples of it are spread evenly."""


class Drawing:
    """Draws rows with a target from the chunks of a source as they go by, in bounded memory."""

    def __init__(self, settings: Settings, lookups: Joined = ()) -> None:
        self._settings, self._lookups, self._placed = settings, lookups, 0
        self._names: list[str] | None = None
        self._drawn: pl.DataFrame | None = None

    def look(self, rows: TypedRows) -> None:
        """Take what is drawn of a chunk; nothing where no feature is made by a recipe."""
        import polars as pl

        if self._names is None:
            self._names = self._needed(rows.source.columns)
        if not self._names and self._drawn is not None:
            return
        labelled = rows.table[self._settings.dataset.target].is_not_null()
        source = rows.source.select(name for name in self._names if name in rows.source.columns)
        numbers = rows.numbers.cast(pl.Int64).alias(NUMBER).to_frame()
        taken = pl.concat([numbers, source], how="horizontal").filter(rows.usable).filter(labelled)
        taken = taken.with_columns(
            pl.int_range(self._placed, self._placed + taken.height, dtype=pl.Int64).alias(PLACE),
            ((pl.col(NUMBER) * _MIX) % (1 << 32)).alias(_DRAW),
        )
        self._placed += taken.height
        taken = taken if self._names else taken.clear()
        self._drawn = taken if self._drawn is None else pl.concat(_alike(self._drawn, taken), how="vertical_relaxed")
        if self._drawn.height > 2 * DRAWN:
            self._drawn = self._drawn.bottom_k(DRAWN, by=_DRAW)

    def _needed(self, there: Sequence[str]) -> list[str]:
        """The columns of a source with these that a feature is made from; none where none is made."""
        data = self._settings.dataset
        recipe = recipe_of(data, Origins.of(there, self._lookups, data))
        return list(needed(feature_columns(self._settings), recipe, data.columns)[0])

    def rows(self) -> pl.DataFrame:
        """The rows that were drawn, in their order."""
        assert self._drawn is not None  # noqa: S101  # a source without a row has been refused
        return self._drawn.bottom_k(min(DRAWN, self._drawn.height), by=_DRAW).sort(PLACE).drop(_DRAW)

    def write(self, place: Path, state: FeatureState | None) -> None:
        """Write the rows and a state as a folder, which appears whole or not at all."""
        with replacing_folder(place) as folder:
            self.rows().write_parquet(folder / "rows.parquet", compression="zstd")
            if state is not None:
                (folder / "state").mkdir()
                write_state(state, folder / "state")


def _alike(one: pl.DataFrame, other: pl.DataFrame) -> list[pl.DataFrame]:
    """Two chunks whose columns may be of other types, as JSON's are, with text where they are."""
    import polars as pl

    mixed = [name for name, held in one.schema.items() if other.schema[name] != held and pl.Null not in (held, other.schema[name])]
    return [each.with_columns([as_text(each[name]) for name in mixed]) for each in (one, other)]


@dataclass(frozen=True)
class Replay:
    """Rows of the source with their numbers and places, and the state of then; None where no column needs one."""

    rows: pl.DataFrame
    state: FeatureState | None


def read_replay(folder: Path) -> Replay:
    """What lies in a folder; the state is mapped, not read. Raises :class:`PipelineError`."""
    import polars as pl

    try:
        state = open_state(folder / "state") if (folder / "state").exists() else None
    except PipelineError as error:
        raise PipelineError(f"{folder}: holds a state that cannot be read now: run `mlops run --from ingest`") from error
    return Replay(pl.read_parquet(folder / "rows.parquet", glob=False), state)
