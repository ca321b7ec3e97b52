"""Raw rows to a model's features, by the recipe of its contract: what ingest did for training's rows, for a frame or for a few rows.

Values of a row are Python's: float for a number, int for an integer and a truth (0 or 1), str for a category and a text, a datetime
in UTC without a zone for a moment; None for null. A few rows go through plain Python, where ``Contract.expressions`` has every derived
column; where it has not, and for a frame, Polars is needed. Both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from importlib.util import find_spec
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.expressions import as_kind, function_of
from mlops_pipeline.features.keys import microseconds
from mlops_pipeline.features.needs import given_by_lookups, kept_by

if TYPE_CHECKING:
    import polars as pl


class Known(Protocol):
    """What is known of keys at moments (``features.state.State``)."""

    def values(self, name: str, keys: Sequence[pl.Series], moments: pl.Series | None) -> pl.Series: ...

    def value(self, name: str, key: tuple[Any, ...], moment: int | None) -> float | int | str | None: ...


REMEMBERED = 1 << 12
"""Keys and moments of which each group of columns remembers the values: rows of one day share their weather."""

_EPOCH = datetime(1970, 1, 1)  # moments are in UTC, without a zone

Step = Callable[[list[Any]], None]
"""Adds values to those of a row."""


class Features:
    """How a model's features are made of raw rows, with a state as it is; use :func:`features_of`."""

    def __init__(self, contract: Contract, state: Known | None, names: Sequence[str]) -> None:
        self.contract, self.state = contract, state
        self.names = tuple(names)
        """The columns that are given, in order."""
        self._of_row = _quick(contract, state, self.names)

    @property
    def raw(self) -> dict[str, Column]:
        """What a raw row holds, by the source's names and kinds; empty where the model has no recipe."""
        return self.contract.raw

    @property
    def is_quick(self) -> bool:
        """Whether :meth:`of_rows` goes through plain Python."""
        return self._of_row is not None

    def of_frame(self, typed: pl.DataFrame) -> pl.DataFrame:
        """The model's columns of raw rows that have the types of their kinds (``tables.cast.cast_columns``)."""
        return self.all_of(typed).select(self.names)

    def of_rows(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The same of a few rows, each in the order of ``raw``, equal to the bit."""
        if self._of_row is None:
            return self.of_frame(frame_of(rows, self.raw)).rows()
        return list(map(self._of_row, rows))

    def all_of(self, typed: pl.DataFrame) -> pl.DataFrame:
        """Raw rows with all that is made of them, what the model does not take among it."""
        import polars as pl

        from mlops_pipeline.features.rows import as_described

        recipe, frame = self.contract.recipe, typed
        for names in (given_by_lookups(recipe), recipe.derive, recipe.late):
            for name in names:
                if name not in self.contract.made:
                    continue
                if name in recipe.derive and names is recipe.derive:
                    made = frame.select(pl.sql_expr(recipe.derive[name]).alias(name))
                    frame = frame.with_columns(as_described(made, name, self.contract.made[name]))
                else:
                    frame = frame.with_columns(self._known(frame, name))
        return frame

    def _known(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """A column of what the state knows of each row's key."""
        assert self.state is not None  # noqa: S101  # looked at by features_of
        keys, moment = kept_by(self.contract.recipe, name)
        values = self.state.values(name, [frame[key] for key in keys], None if moment is None else frame[moment])
        return values.alias(name)


def features_of(contract: Contract, state: Known | None, names: Iterable[str] | None = None) -> Features:
    """How a model's features are made; ``names`` are the columns to give, in order (default: the contract's).

    Raises :class:`PipelineError` if they need a state and there is none, or Polars and it is not installed.
    """
    kept = [name for name in (*given_by_lookups(contract.recipe), *contract.recipe.late) if name in contract.made]
    if kept and state is None:
        raise PipelineError(f"'{kept[0]}' is looked up in the features' state, and there is none: run `mlops features refresh`")
    features = Features(contract, state, tuple(contract.columns if names is None else names))
    if not features.is_quick and find_spec("polars") is None:
        alone = next(name for name in contract.recipe.derive if name in contract.made and name not in contract.expressions)
        raise PipelineError(
            f"'{alone}' is derived by SQL that only Polars carries out: `pip install polars`, or ask with finished features"
        )
    return features


def frame_of(rows: Sequence[tuple[Any, ...]], raw: Mapping[str, Column]) -> pl.DataFrame:
    """Rows of Python's values as a frame with the types of their kinds."""
    import polars as pl

    held: dict[str, Any] = {"number": pl.Float64, "integer": pl.Int64, "boolean": pl.Int8, "datetime": pl.Datetime("us")}
    return pl.DataFrame(rows, schema={name: held.get(column.kind, pl.String) for name, column in raw.items()}, orient="row")


def _quick(contract: Contract, state: Known | None, names: Sequence[str]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    """The way of a row through plain Python; None if a column needs Polars."""
    recipe = contract.recipe
    if any(name in contract.made and name not in contract.expressions for name in recipe.derive):
        return None
    places = {name: place for place, name in enumerate(contract.raw or contract.columns)}
    steps: list[Step] = []
    count = len(places)
    for group in _groups(contract, given_by_lookups(recipe)):
        steps.append(_looked_up(group, contract, state, places))
        places |= {name: count + number for number, name in enumerate(group)}
        count += len(group)
    for name in recipe.derive:
        if name in contract.made:
            steps.append(_derived(contract.expressions[name], contract.made[name], places))
            places[name] = count
            count += 1
    for group in _groups(contract, recipe.late):
        steps.append(_looked_up(group, contract, state, places))
        places |= {name: count + number for number, name in enumerate(group)}
        count += len(group)
    wanted = [places[name] for name in names]
    pick: Callable[[list[Any]], tuple[Any, ...]] = itemgetter(*wanted) if len(wanted) > 1 else lambda values: (values[wanted[0]],)

    def of_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for step in steps:
            step(values)
        return pick(values)

    return of_row


def _groups(contract: Contract, names: Iterable[str]) -> list[tuple[str, ...]]:
    """Columns that the state knows by the same keys and moment, together."""
    groups: dict[Any, list[str]] = {}
    for name in names:
        if name in contract.made:
            groups.setdefault(kept_by(contract.recipe, name), []).append(name)
    return list(map(tuple, groups.values()))


def _derived(expression: Mapping[str, Any], column: Column, places: Mapping[str, int]) -> Step:
    of, typed = function_of(expression["of"], places), as_kind(expression["held"], column)
    assert typed is not None  # noqa: S101  # looked at when it was translated

    def step(values: list[Any]) -> None:
        value = of(values)
        values.append(None if value is None else typed(value))

    return step


def _looked_up(group: Sequence[str], contract: Contract, state: Known | None, places: Mapping[str, int]) -> Step:
    assert state is not None  # noqa: S101  # looked at by features_of
    keys, moment = kept_by(contract.recipe, group[0])
    value_of = state.value
    moments = [contract.made[name].kind == "datetime" for name in group]

    def known(key: tuple[Any, ...], at: datetime | None) -> tuple[Any, ...]:
        since = None if at is None else microseconds(at)
        values = [value_of(name, key, since) for name in group]
        return tuple(
            _EPOCH + timedelta(microseconds=int(value)) if is_moment and value is not None else value
            for value, is_moment in zip(values, moments, strict=True)
        )

    remembered = lru_cache(maxsize=REMEMBERED)(known)
    of_key = [places[key] for key in keys]
    if moment is None:
        return lambda values: values.extend(remembered(tuple([values[place] for place in of_key]), None))
    of_moment = places[moment]
    return lambda values: values.extend(remembered(tuple([values[place] for place in of_key]), values[of_moment]))
