"""The rows that a state was made of: of each what its tables need, and what tells it from every other, so that none counts twice.

A row is what was known of it before its outcome: the source's own columns, or ``entity_key`` and the moment where there is one. Equal rows
of one batch are as many rows; the same batch again, or a part of it, changes nothing. An outcome that comes later takes its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from mlops_pipeline.config.dataset import Dataset
from mlops_pipeline.features.keyed import StatePlan
from mlops_pipeline.features.keys import Keys

if TYPE_CHECKING:
    import polars as pl

_IDS, _NUMBER = ["\0first", "\0second"], "\0number"
"""Columns of ours: a row's digest in two halves, and which of the equal ones it is."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a row: ``names``, of which those in ``late`` may come later; ``identity`` tells it from others."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    late: tuple[str, ...]
    identity: tuple[str, ...]
    identity_kinds: tuple[str, ...]
    made_by: tuple[str, ...] = ()
    """Digests of what makes those that are none of the source's: what was made in another way is no longer what they are."""

    @property
    def digest(self) -> str:
        """SHA-256 of this description, in hexadecimal digits."""
        described = msgspec.to_builtins(self)
        if not self.made_by:  # as before there was such a thing
            del described["made_by"]
        return hashlib.sha256(msgspec.json.encode(described)).hexdigest()

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """The types of what is kept."""
        import polars as pl

        types = {"number": pl.Float64(), "integer": pl.Int64(), "boolean": pl.Int8(), "datetime": pl.Datetime("us")}
        return {name: types.get(kind, pl.String()) for name, kind in zip(self.names, self.kinds, strict=True)} | dict.fromkeys(
            _IDS, pl.UInt64()
        )

    def of(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What is kept of typed rows."""
        import polars as pl

        if not self.names:  # of lookups alone
            return pl.DataFrame(schema=self.schema)
        digests = Keys(self.identity_kinds, b"row").digests(frame.select(self.identity).get_columns())
        return frame.select(self.names).with_columns([pl.Series(name, digests[:, half]) for half, name in enumerate(_IDS)])


def kept_of(plan: StatePlan, data: Dataset, there: Collection[str]) -> Kept:
    """What is kept for a state's plan; ``there`` are the columns of the source."""
    late = {data.target, *data.known_after_outcome}
    time = () if data.time_column is None else (data.time_column,)
    own = [name for name in data.columns if name in there and name not in late]
    identity = tuple(dict.fromkeys((*(data.entity_key or own), *time)))
    names = plan.needed
    return Kept(
        tuple(names),
        tuple(data.columns[name].kind for name in names),
        tuple(name for name in names if name in late),
        identity,
        tuple(data.columns[name].kind for name in identity),
        plan.made_by,
    )


@dataclass(frozen=True)
class Merged:
    """Rows with others taken in: how many are new, and of how many something has become known or another."""

    rows: pl.DataFrame
    new: int
    changed: int


def merged(old: pl.DataFrame, new: pl.DataFrame, kept: Kept) -> Merged:
    """Take rows in among others. Old ones keep their order and their place; a null takes nothing away."""
    import polars as pl

    if old.equals(new):
        return Merged(old, 0, 0)
    keys = [*_IDS, _NUMBER]
    old, new = _numbered(old), _numbered(new)
    coming = {name: f"\0{number}" for number, name in enumerate(kept.late)}
    both = old.join(
        new.select(*keys, *(pl.col(name).alias(as_) for name, as_ in coming.items())), on=keys, how="left", maintain_order="left"
    )
    other = [pl.col(as_).is_not_null() & pl.col(as_).ne_missing(pl.col(name)) for name, as_ in coming.items()]
    changed = int(both.select(pl.any_horizontal(other).sum()).item()) if other and both.height else 0
    both = both.with_columns([pl.coalesce(as_, name).alias(name) for name, as_ in coming.items()])
    added = new.join(old, on=keys, how="anti", maintain_order="left")
    columns = [*kept.names, *_IDS]
    return Merged(pl.concat([both.select(columns), added.select(columns)]), added.height, changed)


def without(old: pl.DataFrame, new: pl.DataFrame, kept: Kept) -> int:
    """How many old rows are not among new ones, whatever their outcome is there."""
    same = [*_IDS, _NUMBER, *(name for name in kept.names if name not in kept.late)]
    return _numbered(old).join(_numbered(new), on=same, how="anti", nulls_equal=True).height


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the number that each has among those that are equal."""
    import polars as pl

    return rows.with_columns(pl.int_range(pl.len()).over(_IDS).alias(_NUMBER))
