"""What features are made of: the source's columns they need, and the columns that are made on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from mlops_pipeline.config.dataset import words_of
from mlops_pipeline.contract.spec import Column, Recipe

SomeColumn = TypeVar("SomeColumn")


def needed(
    features: Iterable[str], recipe: Recipe, columns: Mapping[str, SomeColumn]
) -> tuple[dict[str, SomeColumn], dict[str, SomeColumn]]:
    """Of a table's columns, in its order: those of the source that the features need, and all that is made of them on the way.

    Both are empty where no feature is made by the recipe.
    """
    wanted, made = set(features), set[str]()
    for name in reversed(recipe.late):
        if name in wanted:
            wanted = wanted - {name} | keys_of(recipe, name)
            made.add(name)
    for name in reversed(recipe.derive):
        if name in wanted:
            wanted = wanted - {name} | roots_of(recipe.derive[name])
            made.add(name)
    for lookup in reversed(recipe.lookups):
        found = wanted & set(lookup["columns"])
        if found:
            wanted = wanted - found | set(lookup["keys"])
            made |= found
    if not made:
        return {}, {}
    return {name: columns[name] for name in columns if name in wanted}, {name: columns[name] for name in columns if name in made}


def as_of_source(raw: Mapping[str, Column], recipe: Recipe) -> dict[str, Column]:
    """Raw columns as a row of the source has them: the bounds of one that is derived from itself are those of what is made of it."""
    return {
        name: msgspec.structs.replace(column, min=None, max=None, nullable=True) if name in recipe.derive else column
        for name, column in raw.items()
    }


def as_finished(columns: Mapping[str, Column], recipe: Recipe, written: str | None) -> dict[str, Column]:
    """Columns as finished features have them: one that a lookup gives is not written as the source writes numbers (``written``)."""
    given = {*given_by_lookups(recipe)} if written is not None else set()
    return {
        name: msgspec.structs.replace(column, format=None) if name in given and column.format == written else column
        for name, column in columns.items()
    }


def keys_of(recipe: Recipe, name: str) -> set[str]:
    """What a column that needs more than its own row is found by: its keys, and the row's moment."""
    keys, moment = kept_by(recipe, name)
    return {*keys} if moment is None else {*keys, moment}


def kept_by(recipe: Recipe, name: str) -> tuple[tuple[str, ...], str | None]:
    """The keys of a column that the state knows, and the column of the row's moment, None where it is the same at any."""
    if name in recipe.counts:
        return recipe.counts[name], None
    if name in recipe.history:
        return recipe.history[name].by, recipe.time_column
    if name in recipe.aggregates:
        return recipe.aggregates[name].by, recipe.time_column
    return next((tuple(lookup["keys"]), None) for lookup in recipe.lookups if name in lookup["columns"])


def derived_for(recipe: Recipe, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The derived columns that others are made from, in order, each with its SQL. It is told by words, since a server has no Polars."""
    wanted, found = set(names), list[tuple[str, str]]()
    for name in reversed(recipe.derive):
        if name in wanted:
            found.append((name, recipe.derive[name]))
            wanted |= words_of(recipe.derive[name])
    return tuple(reversed(found))


def given_by_lookups(recipe: Recipe) -> list[str]:
    """The columns that lookups give."""
    return [name for lookup in recipe.lookups for name in lookup["columns"]]


def roots_of(sql: str) -> set[str]:
    """The columns that an expression reads."""
    import polars as pl

    return set(pl.sql_expr(sql).meta.root_names())
