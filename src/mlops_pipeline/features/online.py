"""Raw rows to a model's features, by the recipe of its contract: what ingest did for training's rows, for a frame or for a few rows.

Values of a row are Python's: float for a number, int for an integer and a truth (0 or 1), str for a category and a text, a datetime
in UTC without a zone for a moment; None for null. A few rows go through plain Python, where ``Contract.expressions`` has every derived
column; where it has not, and for a frame, Polars is needed. Both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from importlib.util import find_spec
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from mlops_pipeline.contract import spec
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.columns import Coded, ColumnValues, Uncomputable, column_of, keyed, told_apart
from mlops_pipeline.features.expressions import as_kind, columns_of, function_of
from mlops_pipeline.features.keys import microseconds
from mlops_pipeline.features.needs import given_by_lookups, kept_by
from mlops_pipeline.features.windows import NEVER

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.features.windows import Ints


class Known(Protocol):
    """What is known of keys at moments (``features.state.FeatureState``)."""

    def values(self, name: str, keys: Sequence[pl.Series], moments: pl.Series | None) -> pl.Series: ...

    def value(self, name: str, key: tuple[Any, ...], moment: int | None) -> float | int | str | None: ...

    def many(self, name: str, keys: Sequence[tuple[Any, ...]], places: Ints, moments: Ints) -> ColumnValues: ...


REMEMBERED = 1 << 12
"""Keys and moments of which each group of columns remembers the values: rows of one day share their weather."""

SEVERAL = 64
"""Rows that are faster as columns."""

_EPOCH = datetime(1970, 1, 1)  # moments are in UTC, without a zone


class OnlineFeatures:
    """How a model's features are made of raw rows, with a state as it is; use :func:`features_of`."""

    def __init__(self, contract: Contract, state: Known | None, names: Sequence[str]) -> None:
        self.contract, self.state = contract, state
        self.names = tuple(names)
        """The columns that are given, in order."""
        self._quick = _quick(contract, state, self.names)

    @property
    def raw(self) -> dict[str, spec.Column]:
        """What a raw row holds, by the source's names and kinds; empty where the model has no recipe."""
        return self.contract.raw

    @property
    def is_quick(self) -> bool:
        """Whether rows and columns go through plain Python."""
        return self._quick is not None

    def of_frame(self, typed: pl.DataFrame) -> pl.DataFrame:
        """The model's columns of raw rows that have their kinds' types (``tables.cast.cast_columns``). Raises :class:`Uncomputable`."""
        return self.all_of(typed).select(self.names)

    def of_rows(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The same of a few rows, each in the order of ``raw``, equal to the bit. Raises :class:`Uncomputable`."""
        if self._quick is None:
            return self.of_frame(frame_of(rows, self.raw)).rows()
        if len(rows) < SEVERAL:
            return list(map(self._quick.row, rows))
        kinds = [column.kind for column in self.raw.values()]
        made = self.of_columns(list(map(column_of, zip(*rows, strict=True), kinds)), len(rows))
        return list(zip(*(column.listed() for column in made), strict=True))

    def of_columns(self, columns: Sequence[ColumnValues], count: int) -> list[ColumnValues]:
        """The same of so many rows as columns, in the order of ``raw``; of a recipe that is quick."""
        assert self._quick is not None  # noqa: S101  # who asks has looked
        return self._quick.columns(columns, count)

    def all_of(self, typed: pl.DataFrame) -> pl.DataFrame:
        """Raw rows with all that is made of them, what the model does not take among it. Raises :class:`Uncomputable`."""
        from mlops_pipeline.features.rows import as_described

        recipe, frame = self.contract.recipe, typed
        for names in (given_by_lookups(recipe), recipe.derive, recipe.late):
            for name in names:
                if name not in self.contract.made:
                    continue
                if name in recipe.derive and names is recipe.derive:
                    made = _carried_out(frame, name, recipe.derive[name])
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


def features_of(contract: Contract, state: Known | None) -> OnlineFeatures:
    """How a model's features are made.

    Raises :class:`PipelineError` if they need a state and there is none, or Polars and it is not installed.
    """
    kept = [name for name in (*given_by_lookups(contract.recipe), *contract.recipe.late) if name in contract.made]
    if kept and state is None:
        raise PipelineError(f"'{kept[0]}' is looked up in the features' state, and there is none: run `mlops features refresh`")
    features = OnlineFeatures(contract, state, tuple(contract.columns))
    if not features.is_quick and find_spec("polars") is None:
        alone = next(name for name in contract.recipe.derive if name in contract.made and name not in contract.expressions)
        raise PipelineError(
            f"'{alone}' is derived by SQL that only Polars carries out: `pip install polars`, or ask with finished features"
        )
    return features


def _carried_out(frame: pl.DataFrame, name: str, sql: str) -> pl.DataFrame:
    """A frame of the one column that an expression gives. Raises :class:`Uncomputable`."""
    import polars as pl
    from polars.exceptions import PolarsError

    expression = pl.sql_expr(sql).alias(name)
    try:
        return frame.select(expression)
    except PolarsError:
        rows = _failing(frame, expression)
        first = next(rows, None)
        if first is None:
            raise
        raise Uncomputable(name, first, rows) from None  # Polars' own words show values, which may be private


def _failing(frame: pl.DataFrame, expression: pl.Expr, first: int = 0) -> Iterator[int]:
    """The places of the rows on which an expression fails, counted from ``first``: by halves, as few rows do."""
    from polars.exceptions import PolarsError

    try:
        frame.select(expression)
    except PolarsError:
        if frame.height < 2:
            yield from range(first, first + frame.height)
            return
        half = frame.height // 2
        yield from _failing(frame[:half], expression, first)
        yield from _failing(frame[half:], expression, first + half)


def frame_of(rows: Sequence[tuple[Any, ...]], raw: Mapping[str, spec.Column]) -> pl.DataFrame:
    """Rows of Python's values as a frame with the types of their kinds."""
    import polars as pl

    held: dict[str, Any] = {"number": pl.Float64, "integer": pl.Int64, "boolean": pl.Int8, "datetime": pl.Datetime("us")}
    return pl.DataFrame(rows, schema={name: held.get(column.kind, pl.String) for name, column in raw.items()}, orient="row")


class _Step(NamedTuple):
    """Makes columns: ``one`` adds them to a row's values, ``many`` to a list of columns."""

    one: Callable[[list[Any]], None]
    many: Callable[[list[ColumnValues], int], None]


class _Quick:
    """The way of rows through plain Python: what is made is added step by step, and what is wanted is picked in the end."""

    def __init__(self, contract: Contract, state: Known | None, names: Sequence[str]) -> None:
        recipe, steps = contract.recipe, list[_Step]()
        places = {name: place for place, name in enumerate(contract.raw or contract.columns)}
        held = len(places)
        made: list[tuple[str, ...]] = _groups(contract, given_by_lookups(recipe))
        made += [(name,) for name in recipe.derive if name in contract.made]
        made += _groups(contract, recipe.late)
        for group in made:
            derives = group[0] in contract.expressions
            steps.append(_derived(contract, group[0], places) if derives else _looked_up(contract, group, state, places))
            places |= {name: held + number for number, name in enumerate(group)}
            held += len(group)
        self._ones = [step.one for step in steps]
        self._manys = [step.many for step in steps]
        self._wanted = [places[name] for name in names]
        self._pick: Callable[[list[Any]], tuple[Any, ...]] = itemgetter(*self._wanted, self._wanted[0])

    def row(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for step in self._ones:
            step(values)
        return self._pick(values)[:-1]

    def columns(self, columns: Sequence[ColumnValues], count: int) -> list[ColumnValues]:
        held = list(columns)
        for step in self._manys:
            step(held, count)
        return [held[place] for place in self._wanted]


def _quick(contract: Contract, state: Known | None, names: Sequence[str]) -> _Quick | None:
    """The way through plain Python; None if a column needs Polars."""
    if any(name in contract.made and name not in contract.expressions for name in contract.recipe.derive):
        return None
    return _Quick(contract, state, names)


def _groups(contract: Contract, names: Iterable[str]) -> list[tuple[str, ...]]:
    """Columns that the state knows by the same keys and moment, together."""
    groups: dict[Any, list[str]] = {}
    for name in names:
        if name in contract.made:
            groups.setdefault(kept_by(contract.recipe, name), []).append(name)
    return list(map(tuple, groups.values()))


def _derived(contract: Contract, name: str, places: Mapping[str, int]) -> _Step:
    expression, column = contract.expressions[name], contract.made[name]
    typed = as_kind(expression["held"], column)
    assert typed is not None  # noqa: S101  # looked at when it was translated
    roots = sorted(columns_of(expression["of"]))
    of_row = function_of(expression["of"], places)
    of_roots = function_of(expression["of"], {root: place for place, root in enumerate(roots)})
    taken = [places[root] for root in roots]
    # Equal keys have equal bits, but for the two zeros.
    repeats = all((contract.made | contract.raw)[root].kind != "number" for root in roots)

    def one(values: list[Any]) -> None:
        value = of_row(values)
        values.append(None if value is None else typed(value))

    def of_key(key: tuple[Any, ...]) -> Any:
        value = of_roots(key)
        return None if value is None else typed(value)

    made = lru_cache(maxsize=REMEMBERED)(of_key) if repeats else of_key

    def many(columns: list[ColumnValues], count: int) -> None:
        keys, places = keyed([columns[place] for place in taken], count)
        columns.append(Coded(list(map(made, keys)), places))

    return _Step(one, many)


def _looked_up(contract: Contract, group: Sequence[str], state: Known | None, places: Mapping[str, int]) -> _Step:
    assert state is not None  # noqa: S101  # looked at by features_of
    keys, moment = kept_by(contract.recipe, group[0])
    value_of, many_of = state.value, state.many
    typed = [_typed(contract, name) for name in group]
    taken = [places[key] for key in keys] + ([] if moment is None else [places[moment]])

    def parted(key: tuple[Any, ...]) -> tuple[tuple[Any, ...], int | None]:
        if moment is None:
            return key, None
        return key[:-1], None if key[-1] is None else microseconds(key[-1])

    @lru_cache(maxsize=REMEMBERED)
    def known(key: tuple[Any, ...]) -> tuple[Any, ...]:
        alone, at = parted(key)
        found = (value_of(name, alone, at) for name in group)
        return tuple(of(value) for value, of in zip(found, typed, strict=True))

    def one(values: list[Any]) -> None:
        values.extend(known(tuple([values[place] for place in taken])))

    def many(columns: list[ColumnValues], count: int) -> None:
        keys, places = keyed([columns[place] for place in taken], count)
        columns.extend(Coded(values, places) for values in zip(*map(known, keys), strict=True))

    def many_at(columns: list[ColumnValues], count: int) -> None:
        *by, when = (columns[place] for place in taken)
        keys, places = keyed(by, count)
        moments, times = when.coded().values, when.coded().places
        rows, places_of_rows = told_apart(places * len(moments) + times)
        instants = np.array([NEVER if moment is None else microseconds(moment) for moment in moments], dtype=np.int64)
        for name, of in zip(group, typed, strict=True):
            found = many_of(name, keys, places[rows], instants[times[rows]])
            columns.append((Coded(list(map(of, found.values)), found.places) if isinstance(found, Coded) else found).taken(places_of_rows))

    return _Step(one, many if moment is None else many_at)


def _typed(contract: Contract, name: str) -> Callable[[Any], Any]:
    """What a state's value becomes as a value of its column's kind."""
    kind = contract.made[name].kind
    if kind == "datetime":
        return lambda value: None if value is None else _EPOCH + timedelta(microseconds=value)
    if kind == "number" and name not in contract.recipe.counts:
        return lambda value: None if value is None else float(value)
    return lambda value: value
