"""A chunk of a source becomes typed rows: cast, joined, derived; rows that break the description are set aside."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlops_pipeline.config.dataset import Column, Dataset, words_of
from mlops_pipeline.config.pipeline import Settings, feature_columns
from mlops_pipeline.contract.privacy import private_names, told_error
from mlops_pipeline.contract.spec import Aggregate, History, Recipe
from mlops_pipeline.contract.spec import Column as ContractColumn
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.needs import keys_of, needed
from mlops_pipeline.files import read_json
from mlops_pipeline.tables.cast import as_broken, cast_columns, first_reason, outside, unparsed, without_content
from mlops_pipeline.tables.source import Broken, Chunk

if TYPE_CHECKING:
    import polars as pl

LOOKED_AT = 64
"""Rows on which it is seen whether a derived column looks at other rows."""

Joined = Sequence[tuple[tuple[str, ...], "pl.DataFrame"]]
"""Lookup tables with the keys they are joined by."""


@dataclass(frozen=True)
class Origins:
    """Which described columns the source holds, and which each lookup gives beside its keys; what both have is the source's."""

    source: tuple[str, ...]
    lookups: tuple[tuple[str, ...], ...] = ()

    @staticmethod
    def of(source: Iterable[str], lookups: Joined, data: Dataset) -> Origins:
        """Told by the names of the source's columns and by the lookups' tables."""
        there = tuple(name for name in source if name in data.columns)
        taken, given = set(there), []
        for _, table in lookups:
            given.append(tuple(name for name in table.columns if name not in taken))
            taken.update(given[-1])
        return Origins(there, tuple(given))

    @staticmethod
    def at(path: Path) -> Origins:
        """As ingest has written them down."""
        written = read_json(path)
        return Origins(tuple(written["source"]), tuple(map(tuple, written["lookups"])))


def recipe_of(data: Dataset, origins: Origins | None = None) -> Recipe:
    """How a dataset's own columns are made, as it travels with a model; ``origins`` tell what each lookup gives."""
    given = [()] * len(data.lookups) if origins is None else origins.lookups
    return Recipe(
        lookups=tuple(lookup.model_dump() | {"columns": names} for lookup, names in zip(data.lookups, given, strict=True)),
        derive=dict(data.derive),
        counts=dict(data.counts),
        history={name: History(made.days, made.by, made.prior_rows) for name, made in data.history.items()},
        target=data.target,
        time_column=data.time_column,
        aggregates={
            name: Aggregate(
                how=made.how,
                of=made.of,
                value=data.value_of(made),
                by=made.by,
                window_us=made.window_us,
                known_after_us=made.known_after_us,
            )
            for name, made in data.aggregates.items()
        },
    )


def kept_recipe(settings: Settings, there: Collection[str], lookups: Joined) -> tuple[Recipe, Joined]:
    """The recipe and the lookups as a state outlives ingest: without what is made from a private column and needed by no feature."""
    data = settings.dataset
    origins = Origins.of(there, lookups, data)
    recipe = recipe_of(data, origins)
    made, private = needed(feature_columns(settings), recipe, data.columns)[1], private_names(data.columns)
    gone = {name for name in recipe.late if name not in made and private & {name, *_made_from(recipe, name)}}
    late = {
        part: {name: how for name, how in getattr(recipe, part).items() if name not in gone} for part in ("counts", "history", "aggregates")
    }
    given = [
        (keys, table.select(*keys, *(name for name in names if name in made or name not in private)))
        for (keys, table), names in zip(lookups, origins.lookups, strict=True)
    ]
    return msgspec.structs.replace(recipe, **late), given


def _made_from(recipe: Recipe, name: str) -> set[str]:
    """The columns whose values a column that needs more than its own row is made from."""
    of = recipe.target if name in recipe.history else recipe.aggregates[name].of if name in recipe.aggregates else None
    return keys_of(recipe, name) | ({of} if of is not None else set())


def carried_out(frame: pl.DataFrame, recipe: Recipe, columns: Mapping[str, Column], lookups: Joined) -> pl.DataFrame:
    """Add what a row's own values tell: the lookups' columns, then the derived ones. Raises :class:`PipelineError`."""
    for keys, table in lookups:
        new = table.select([*keys, *(name for name in table.columns if name not in frame.columns)])
        frame = frame.join(new, on=list(keys), how="left", maintain_order="left")
    return derived(frame, recipe, columns)


def derived(frame: pl.DataFrame, recipe: Recipe, columns: Mapping[str, Column]) -> pl.DataFrame:
    """Add the recipe's SQL columns, typed by their description. Raises :class:`PipelineError` on a bad expression."""
    import polars as pl
    from polars.exceptions import PolarsError

    for name, sql in recipe.derive.items():
        expression = pl.sql_expr
        try:
            made = frame.select(expression(sql).alias(name))
            some, parts = frame.head(LOOKED_AT), (slice(0, 1), slice(1, LOOKED_AT // 2), slice(LOOKED_AT // 2, LOOKED_AT))
            alone = [some[part].select(expression(sql).alias(name)) for part in parts if some[part].height]
        except PolarsError as error:
            there = ", ".join(frame.columns)
            named = {column: columns[column] for column in words_of(sql) & columns.keys()}
            raise PipelineError(f"dataset.derive.{name} = {sql!r}: {told_error(error, named)}: columns are {there}") from error
        together = pl.concat(alone, how="vertical_relaxed") if alone else made.head(LOOKED_AT)
        if made.height != frame.height or not made.head(LOOKED_AT).equals(together):
            what = "does not make each row's value of that row alone: use columns, without SUM, COUNT, OVER and their like"
            raise PipelineError(f"dataset.derive.{name} = {sql!r}: {what}")
        frame = frame.with_columns(as_described(made, name, columns[name]))
    return frame


def as_described(made: pl.DataFrame, name: str, column: Column | ContractColumn) -> pl.DataFrame:
    """A frame of the one column that an expression gave, typed by its description."""
    import polars as pl

    if made[name].dtype == pl.Boolean and column.kind in ("number", "integer"):
        # What SQL calls true is 1 where its owner wants a number of it.
        made = made.cast(pl.Int8)
    return cast_columns(made, {name: column})


@dataclass(frozen=True)
class TypedRows:
    """The usable rows of a chunk (those without a target among them), the broken ones, and how many had no target.

    ``source`` are the rows that were looked at, as they came, with their ``numbers``, and ``usable`` says which of them ``table`` holds;
    ``later`` is how many were not, for the moment they are from.
    """

    table: pl.DataFrame
    broken: list[Broken]
    unlabelled: int
    read: int
    source: pl.DataFrame
    numbers: pl.Series
    usable: pl.Series
    later: int = 0


def typed_rows(chunk: Chunk, data: Dataset, recipe: Recipe, lookups: Joined, as_of: datetime | None = None) -> TypedRows:
    """Cast, join the lookups, derive columns, and set aside rows that break the description.

    Rows at or after ``as_of`` (UTC), and those without a time if there is one, are not looked at. A row is broken if a value does not
    parse as its column's kind, if it lies outside the column's bounds, or if it is null where null is not allowed. A row whose target
    is null is counted apart: it is unlabelled, not broken.
    """

    source = chunk.frame
    late = recipe.late
    there = {*source.columns, *recipe.derive, *late}.union(*(table.columns for _, table in lookups))
    absent = [name for name in data.columns if name not in there]
    if absent:
        uncut = next((mark for mark in ";\t|," if source.width == 1 and mark in source.columns[0]), None)
        remedy = f": write delimiter: {uncut!r} under dataset.source" if uncut else ""
        raise PipelineError(f"dataset.columns: '{absent[0]}' is not in the source: it has {', '.join(source.columns)}{remedy}")
    given = {name: column for name, column in data.columns.items() if name in source.columns}
    null_words = data.source.null_values
    if data.common_null_words != null_words:  # the others are left for each column to judge
        given = {name: column.model_copy(update={"null_values": data.null_words(name)}) for name, column in given.items()}
    frame = cast_columns(source.select(list(given)), given, null_words)
    reasons = unparsed(frame, source, given, null_words)
    for keys, _ in lookups:
        gone = [key for key in keys if key not in frame.columns]
        if gone:
            raise PipelineError(f"dataset.lookups.keys: '{gone[0]}' is not in the source: it has {', '.join(source.columns)}")
    frame = carried_out(frame, recipe, data.columns, lookups)
    if as_of is not None:
        seen = _before(frame, str(data.time_column), as_of, first_reason(reasons, frame.height))
        frame, source, reasons = frame.filter(seen), source.filter(seen), [each.filter(seen) for each in reasons]
        row_numbers = chunk.row_numbers.filter(seen)
    else:
        row_numbers = chunk.row_numbers
    ruled = {name: column for name, column in data.columns.items() if name not in late}
    ruled[data.target] = ruled[data.target].model_copy(update={"nullable": True})
    reason = first_reason([*reasons, *outside(frame, ruled)], frame.height)
    usable = reason.is_null()
    good = frame.filter(usable)
    columns = [name for name in data.columns if name not in late]
    private = data.set_aside_without
    broken = [*without_content(chunk.broken, private), *as_broken(source, row_numbers, reason, private)]
    read, later = chunk.frame.height + len(chunk.broken), chunk.frame.height - source.height
    return TypedRows(good.select(columns), broken, good[data.target].null_count(), read, source, row_numbers, usable, later)


def _before(frame: pl.DataFrame, time_column: str, as_of: datetime, reason: pl.Series) -> pl.Series:
    """Which rows are known to be from before a moment; those whose time cannot be read stay, to be set aside as broken."""
    import polars as pl

    time = pl.col(time_column)
    unread = time.is_null() & reason.str.starts_with(f"{time_column}: ").fill_null(value=False)
    return frame.select((time < as_of).fill_null(value=False) | unread).to_series()
