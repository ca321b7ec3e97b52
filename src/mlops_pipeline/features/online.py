"""Raw rows to a model's features, by the recipe of its contract: what ingest did for training's rows, for a frame or a few rows.

Values of a row are Python's: float for a number, int for an integer and a truth (0 or 1), str for a category and a text, a datetime
in UTC without a zone for a moment; None for null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.needs import kept_by

if TYPE_CHECKING:
    import polars as pl


class Known(Protocol):
    """What is known of keys at moments (``features.state.State``)."""

    def values(self, name: str, keys: Sequence[pl.Series], moments: pl.Series | None) -> pl.Series: ...

    def value(self, name: str, key: tuple[Any, ...], moment: int | None) -> float | int | str | None: ...


@dataclass(frozen=True)
class Features:
    """How a model's features are made of raw rows, with the state as it is."""

    contract: Contract
    state: Known | None

    @property
    def raw(self) -> dict[str, Column]:
        """What a raw row holds, by the source's names and kinds; empty where the model has no recipe."""
        return self.contract.raw

    def of_frame(self, typed: pl.DataFrame) -> pl.DataFrame:
        """The model's columns in order of raw rows that have the types of their kinds (``tables.cast.cast_columns``)."""
        return self.all_of(typed).select(list(self.contract.columns))

    def of_rows(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The same of a few rows, each in the order of ``raw``, equal to the bit."""
        return self.of_frame(frame_of(rows, self.raw)).rows()

    def all_of(self, typed: pl.DataFrame) -> pl.DataFrame:
        """Raw rows with all that is made of them, what the model does not take among it."""
        import polars as pl

        from mlops_pipeline.features.rows import as_described

        frame = typed
        for name in self._made(name for lookup in self.contract.recipe.lookups for name in lookup["columns"]):
            frame = frame.with_columns(self._known(frame, name))
        for name in self._made(self.contract.recipe.derive):
            made = frame.select(pl.sql_expr(self.contract.recipe.derive[name]).alias(name))
            frame = frame.with_columns(as_described(made, name, self.contract.made[name]))
        for name in self._made(self.contract.recipe.late):
            frame = frame.with_columns(self._known(frame, name))
        return frame

    def _made(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self.contract.made]

    def _known(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """A column of what the state knows of each row's key."""
        assert self.state is not None  # noqa: S101  # looked at by features_of
        keys, moment = kept_by(self.contract.recipe, name)
        values: pl.Series = self.state.values(name, [frame[key] for key in keys], None if moment is None else frame[moment])
        return values.alias(name)


def features_of(contract: Contract, state: Known | None) -> Features:
    """How a model's features are made; raises :class:`PipelineError` if they need a state and there is none."""
    recipe = contract.recipe
    kept = [name for name in (*(each for lookup in recipe.lookups for each in lookup["columns"]), *recipe.late) if name in contract.made]
    if kept and state is None:
        raise PipelineError(f"'{kept[0]}' is looked up in the features' state, and there is none: run `mlops features refresh`")
    return Features(contract, state)


def frame_of(rows: Sequence[tuple[Any, ...]], raw: Mapping[str, Column]) -> pl.DataFrame:
    """Rows of Python's values as a frame with the types of their kinds."""
    import polars as pl

    held: dict[str, Any] = {"number": pl.Float64, "integer": pl.Int64, "boolean": pl.Int8, "datetime": pl.Datetime("us")}
    return pl.DataFrame(rows, schema={name: held.get(column.kind, pl.String) for name, column in raw.items()}, orient="row")
