"""Training-serving skew: features computed again from rows of the source as a server does, beside those that training had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlops_pipeline.contract.moments import WRITTEN
from mlops_pipeline.contract.spec import AS_TEXT, Column, Contract
from mlops_pipeline.contract.values import MISSING, category_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.online import OnlineFeatures, features_of
from mlops_pipeline.features.replay import NUMBER, PLACE, read_replay
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.frames import judged
from mlops_pipeline.inference.raw import RawInput
from mlops_pipeline.inference.signature import Rows, Signature

if TYPE_CHECKING:
    import polars as pl

REPLAYED = 2_000
"""Rows that are computed again as a large request's are."""

OF_TABLE = "\0table "
"""Stands before a feature's name while the table's is beside the record's."""

ONE_BY_ONE = 200
"""Of them those that are computed again as small requests' are, which goes another way."""


@dataclass(frozen=True)
class Skew:
    """How many rows were computed again, and the first difference in words; empty if there is none."""

    rows: int
    difference: str = ""


def skew_of(contract: Contract, replay: Path, raw: Path, test: Path) -> Skew | None:
    """Compute features of held-out rows again and compare them with the table's; None for a model without a recipe.

    ``replay`` is what ingest has kept, ``raw`` and ``test`` are the whole table's file and that of the held-out rows.
    """
    import polars as pl

    if not contract.raw:
        return None
    kept = read_replay(replay)
    try:
        features = features_of(contract, kept.state)
    except PipelineError as error:
        return Skew(0, str(error))
    table = pl.scan_parquet(raw, glob=False).select(pl.all().gather(kept.rows[PLACE])).collect()
    chosen = _held_out(table, pl.read_parquet(test, glob=False))
    return compared(contract, features, kept.rows[chosen], table[chosen])


def compared(contract: Contract, features: OnlineFeatures, source: pl.DataFrame, table: pl.DataFrame) -> Skew:
    """What differs between features made of the ``source``'s rows and the same rows of the ``table``."""
    # A null is no skew where training had none: a request's is refused by itself.
    optional = msgspec.structs.replace(contract, **{part: _nullable(getattr(contract, part)) for part in ("columns", "raw")})
    signature = Signature.of(optional, precision=np.float64)
    way = RawInput.of(optional, signature)
    assert way is not None  # noqa: S101  # there are raw columns
    told = _Told(contract, source[NUMBER].to_list())
    try:
        read, wanted = judged(source, way.signature), judged(table, signature)
    except Refused as refusal:
        return Skew(source.height, refusal.faults[0].detail)
    for found, what in ((read, "as the source has it is refused"), (wanted, "of the table is refused")):
        if found.faults:
            return Skew(source.height, told.refused(found.faults[0], what))
    ways = [way.by_frame(read.rows, features), way.by_row(_first(read.rows, ONE_BY_ONE), features)]
    if features.is_quick:
        ways.append(way.by_columns(read.rows, features))
    for numbers, texts in ways:
        difference = told.first(signature, (numbers, _meant(texts, signature)), (wanted.rows.numbers, wanted.rows.categories))
        if difference:
            return Skew(source.height, difference)
    return Skew(source.height)


@dataclass(frozen=True)
class Recorded:
    """Rows that a server has computed features of, beside the same rows of the training table."""

    rows: int
    """So many of them the table has."""
    absent: int
    """So many it has not (yet)."""
    differing: Mapping[str, int]
    """By computed feature: how many rows of those it has say another value there."""


def beside_table(contract: Contract, raw: pl.DataFrame, features: pl.DataFrame, table: pl.LazyFrame) -> Recorded:
    """Look recorded rows up in the training table, whose features ingest has made as of each row's moment.

    ``raw`` are the columns as they came and ``features`` those that were computed, numbers as float32, as the model took them; private ones
    may be missing. A row is the table's if all its raw columns are; where several are, one that agrees is enough.
    """
    import polars as pl

    there = set(table.collect_schema().names())
    keys = [name for name in contract.raw if name in raw.columns and name in there and name not in contract.made]
    names = [name for name in contract.columns if name in contract.made and name in features.columns and name in there]
    if not keys or not names:
        return Recorded(0, raw.height, dict.fromkeys(names, 0))
    kinds = {name: contract.raw[name].kind for name in keys}
    asked = raw.select(_as_key(name, kinds[name], raw.schema[name]) for name in keys).with_row_index(PLACE)
    own = table.select(
        *(_as_key(name, kinds[name], table.collect_schema()[name]) for name in keys), *(pl.col(n).alias(OF_TABLE + n) for n in names)
    )
    found = own.join(asked.drop(PLACE).unique().lazy(), on=keys, how="semi", nulls_equal=True).collect()
    pairs = asked.join(found, on=keys, how="inner", nulls_equal=True)
    served = features[pairs[PLACE]]
    agrees = [
        pl.Series(name, _said(served[name], contract.columns[name]) == _said(pairs[OF_TABLE + name], contract.columns[name]))
        for name in names
    ]
    by_row = pl.DataFrame([pairs[PLACE], *agrees]).group_by(PLACE).agg(pl.all().any())
    return Recorded(by_row.height, raw.height - by_row.height, {name: int((~by_row[name]).sum()) for name in names})


def _as_key(name: str, kind: str, held: pl.DataType) -> pl.Expr:
    """A raw column so that equal values are equal, as a request or the table holds it."""
    import polars as pl

    column = pl.col(name)
    if kind in ("number", "integer", "boolean"):
        return column.cast(pl.Float64, strict=False)
    if kind == "datetime":
        as_moment = column.str.to_datetime(f"{WRITTEN}%.f", time_unit="us", strict=False) if held == pl.String else column
        return as_moment.cast(pl.Datetime("us"))
    return column.cast(pl.String).str.strip_chars()


def _said(values: pl.Series, column: Column) -> np.ndarray:
    """Values of a feature as a model takes them, so that what is equal is the same to it."""
    import polars as pl

    if values.dtype.is_temporal():
        values = values.dt.to_string(WRITTEN)
    if column.kind in AS_TEXT:
        return values.cast(pl.String).fill_null(MISSING).to_numpy()
    return _bits(values.cast(pl.Float32).fill_null(float("nan")).to_numpy().astype(np.float64))


def _held_out(table: pl.DataFrame, test: pl.DataFrame) -> pl.Series:
    """The places of rows to compute again: those that are held out; others where the sample has none of these."""
    placed = table.with_row_index("\0index")
    found = placed.join(test.unique(), on=table.columns, how="semi", nulls_equal=True)["\0index"]
    return (found if found.len() else placed["\0index"]).head(REPLAYED)


def _nullable(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: msgspec.structs.replace(column, nullable=True) for name, column in columns.items()}


def _first(rows: Rows, count: int) -> Rows:
    numbers, texts = (None if part is None else part[:count] for part in (rows.numbers, rows.categories))
    return Rows(min(count, rows.count), numbers, texts)


def _meant(texts: np.ndarray | None, signature: Signature) -> np.ndarray | None:
    """Texts as the model is given them: a category as training has spelled it."""
    if texts is None:
        return None
    meant = texts.copy()
    for place, name in enumerate(signature.categories):
        seen, words = signature.seen.get(name), signature.words_for_null(name)
        spelled = {text: text if text is None or seen is None else category_of(text, seen, words) for text in set(texts[:, place])}
        meant[:, place] = [MISSING if spelled[text] is None else spelled[text] for text in texts[:, place]]
    return meant


class _Told:
    """Puts a difference into words, without the values of private columns."""

    def __init__(self, contract: Contract, numbers: Sequence[int]) -> None:
        self._contract, self._numbers = contract, numbers

    def refused(self, fault: Any, what: str) -> str:
        return f"row {self._numbers[fault.row or 0]} {what}: column '{fault.column}': {fault.reason}"

    def first(self, signature: Signature, made: Sequence[np.ndarray | None], wanted: Sequence[np.ndarray | None]) -> str:
        """The first place at which two are not equal to the bit, numbers before texts; empty if there is none."""
        for names, ours, theirs in zip((signature.numbers, signature.categories), made, wanted, strict=True):
            if ours is not None and theirs is not None and (differ := _bits(ours) != _bits(theirs[: len(ours)])).any():
                row, place = map(int, np.argwhere(differ)[0])
                return self._words(row, names[place], ours[row, place], theirs[row, place])
        return ""

    def _words(self, row: int, name: str, ours: Any, theirs: Any) -> str:
        column = self._contract.columns[name]
        shown = "another than in the table" if column.private else f"{ours!s} as a server computes it, {theirs!s} in the table"
        return f"column '{name}' of row {self._numbers[row]} is {shown}"


def _bits(values: np.ndarray) -> np.ndarray:
    """What is equal only where bits are; every NaN is null, and both zeros are one: Polars says either of 0 - x, by the height."""
    if values.dtype != np.float64:
        return values
    return (np.where(np.isnan(values), np.nan, values) + 0.0).view(np.int64)
