"""Rows as the source has them: told from finished features by their columns, held to the same rules, then computed by the recipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import msgspec
import numpy as np

from mlops_pipeline.contract.moments import WRITTEN
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.inference.faults import EXTRA_COLUMN, Fault, Notice, Refused
from mlops_pipeline.inference.signature import Lengths, Rows, Signature

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.features.online import Features

Kind = Literal["raw", "features"]

FEW = 64
"""Rows that are computed one by one faster than as a frame."""


class RawRows(msgspec.Struct, gc=False):
    """Checked rows of the source's columns, as the raw signature has them."""

    rows: Rows
    made: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    """What was computed of them: numbers, float64, and texts, as the features' signature has them."""

    @property
    def count(self) -> int:
        return self.rows.count


@dataclass(frozen=True)
class RowKinds:
    """Tells what a row is by the names of its columns."""

    marks: tuple[str, ...]
    """Columns that only a raw row has, and that every raw row has if they must be there."""
    computed: tuple[str, ...]
    """Features that no raw row has."""
    needed: tuple[str, ...]
    """Features that must be there."""
    certain: bool
    """Whether a raw row without its marks is refused."""

    @staticmethod
    def of(raw: Mapping[str, Column], features: Mapping[str, Column]) -> RowKinds:
        """Of a model that takes both."""
        own = [name for name in raw if name not in features]
        must = tuple(name for name in own if not raw[name].nullable)
        return RowKinds(
            marks=must or tuple(own),
            computed=tuple(name for name in features if name not in raw),
            needed=tuple(name for name, column in features.items() if not column.nullable),
            certain=bool(must),
        )

    def tell(self, names: Collection[str]) -> Kind:
        """What a row of these columns is.

        One with every mark is raw. Where the recipe needs nothing but what the model takes too, a row is raw that has none of the
        computed columns. A row that is neither is taken for what it seems to be meant for, and refused as such.
        """
        there = sum(mark in names for mark in self.marks)
        has_computed = any(name in names for name in self.computed)
        if not self.marks:
            return "features" if has_computed else "raw"
        if there == len(self.marks):
            return "raw"
        return "raw" if there and not has_computed and not all(name in names for name in self.needed) else "features"


@dataclass(frozen=True)
class RawInput:
    """How a model takes raw rows: what they may hold, and what is computed of them."""

    signature: Signature
    """Of the source's columns; numbers are float64, so that keys stay exact."""
    features: Signature
    kinds: RowKinds
    order: tuple[str, ...]
    """The source's columns as the recipe takes them."""
    made: tuple[str, ...]
    """The features as the recipe gives them."""
    example: dict[str, Any]
    """A row of usual values that is nobody's."""
    made_of: dict[str, tuple[str, ...]]
    """For each computed feature the raw columns that it is made of."""

    @staticmethod
    def of(contract: Contract, features: Signature) -> RawInput | None:
        """Of a contract, by the policy of the features' signature; None for a model without a recipe."""
        if not contract.raw:
            return None
        signature = Signature.of(
            msgspec.structs.replace(contract, columns=contract.raw),
            reject_unseen=features.reject_unseen,
            refuse_extra=features.refuse_extra,
            max_rows=features.max_rows,
            lengths=features.lengths,
            precision=np.float64,
        )
        # Of a category that the model does not take no value is known, so that none is strange.
        known = {name: seen for name, seen in signature.seen.items() if name in contract.columns}
        kinds = RowKinds.of(contract.raw, features.columns)
        wide = replace(signature, seen=known, wide=True)
        return RawInput(wide, features, kinds, tuple(contract.raw), tuple(contract.columns), contract.raw_example, contract.made_of)

    def limited(self, max_rows: int, lengths: Lengths) -> RawInput:
        """The same with other limits of what one request may hold."""
        raw, features = (replace(one, max_rows=max_rows, lengths=lengths) for one in (self.signature, self.features))
        return replace(self, signature=raw, features=features)

    def computed(self, raw: RawRows, by: Features) -> Rows:
        """The features of checked raw rows, checked themselves; in any thread. Raises :class:`Refused`."""
        rows = raw.rows
        notices = [self._told(notice) for notice in rows.notices or ()]
        try:
            raw.made = self.by_frame(rows, by) if rows.count > FEW and has_frames() else self.by_row(rows, by)
            numbers, categories = raw.made
            # What is checked is spelled as training has it, in place.
            done = self.features.checked(numbers, None if categories is None else categories.copy(), rows.ids)
        except Refused as refusal:
            self._refuse(refusal)
        said = {(notice.reason, notice.column) for notice in notices}
        notices += [notice for notice in done.notices or () if (notice.reason, notice.column) not in said]
        done.notices = notices or None
        return done

    def told(self, raw: RawRows) -> list[dict[str, Any]]:
        """What was computed, a mapping for each row, without private columns."""
        numbers, texts = raw.made
        columns: dict[str, list[Any]] = {}
        for name in self.made:
            column = self.features.columns[name]
            if column.private:
                continue
            if name in self.features.numbers and numbers is not None:
                listed = numbers[:, self.features.numbers.index(name)].tolist()
                whole = column.kind != "number"
                columns[name] = [None if value != value else int(value) if whole else value for value in listed]  # noqa: PLR0124  # NaN
            elif texts is not None:
                columns[name] = texts[:, self.features.categories.index(name)].tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def values(self, rows: Rows) -> list[tuple[Any, ...]]:
        """Checked raw rows as the recipe takes a few: float for a number, int for an integer or a truth, str, or a datetime in UTC."""
        signature, columns = self.signature, dict[str, Sequence[Any]]()
        for place, name in enumerate(signature.numbers):
            assert rows.numbers is not None  # noqa: S101  # there are columns of numbers
            whole = signature.columns[name].kind != "number"
            listed = rows.numbers[:, place].tolist()
            columns[name] = [None if value != value else int(value) if whole else value for value in listed]  # noqa: PLR0124  # NaN
        for place, name in enumerate(signature.categories):
            assert rows.categories is not None  # noqa: S101  # as above
            of_moments = signature.columns[name].kind == "datetime"
            texts = rows.categories[:, place].tolist()
            columns[name] = [None if text == MISSING else datetime.fromisoformat(text) if of_moments else text for text in texts]
        return list(zip(*(columns[name] for name in self.order), strict=True))

    def frame(self, rows: Rows) -> pl.DataFrame:
        """The same of many, with the types of their kinds."""
        import polars as pl

        signature, columns = self.signature, dict[str, pl.Series]()
        held: dict[str, Any] = {"number": pl.Float64, "integer": pl.Int64, "boolean": pl.Int8}
        for place, name in enumerate(signature.numbers):
            assert rows.numbers is not None  # noqa: S101  # as above
            series = pl.Series(np.ascontiguousarray(rows.numbers[:, place]), nan_to_null=True)
            columns[name] = series.cast(held[signature.columns[name].kind])
        for place, name in enumerate(signature.categories):
            assert rows.categories is not None  # noqa: S101  # as above
            series = pl.Series(rows.categories[:, place].tolist(), dtype=pl.String)
            series = series.set(series == MISSING, None)
            of_moments = signature.columns[name].kind == "datetime"
            columns[name] = series.str.to_datetime(WRITTEN, time_unit="us") if of_moments else series
        return pl.DataFrame({name: columns[name] for name in self.order})

    def by_row(self, rows: Rows, by: Features) -> tuple[np.ndarray | None, np.ndarray | None]:
        made, places = by.of_rows(self.values(rows)), {name: place for place, name in enumerate(self.made)}
        numbers = categories = None
        if self.features.numbers:
            wanted = [places[name] for name in self.features.numbers]
            numbers = np.array([[row[place] for place in wanted] for row in made], dtype=np.float64)
        if self.features.categories:
            wanted = [places[name] for name in self.features.categories]
            categories = np.array([[_as_text(row[place]) for place in wanted] for row in made], dtype=object)
        return numbers, categories

    def by_frame(self, rows: Rows, by: Features) -> tuple[np.ndarray | None, np.ndarray | None]:
        import polars as pl

        made, numbers, categories = by.of_frame(self.frame(rows)), None, None
        if self.features.numbers:
            numbers = np.empty((rows.count, len(self.features.numbers)))
            for place, name in enumerate(self.features.numbers):
                numbers[:, place] = made[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        if self.features.categories:
            categories = np.empty((rows.count, len(self.features.categories)), dtype=object)
            for place, name in enumerate(self.features.categories):
                series = made[name]
                text = series.dt.to_string(WRITTEN) if series.dtype.is_temporal() else series.cast(pl.String)
                categories[:, place] = text.to_numpy()
        return numbers, categories

    def _told(self, notice: Notice) -> Notice:
        """What is said of a column beside the raw ones: one that is computed is no stranger."""
        if notice.reason != EXTRA_COLUMN or notice.column not in self.kinds.computed:
            return notice
        return notice._replace(detail=f"column '{notice.column}' is computed from the raw row: what came was not looked at")

    def _refuse(self, refusal: Refused) -> NoReturn:
        """Say of a computed value that it is one, since the client has not sent it."""
        raise Refused(refusal.status, [self.worded(fault) for fault in refusal.faults], refusal.headers) from refusal

    def worded(self, fault: Fault) -> Fault:
        """A fault of a computed value, told as one."""
        if fault.column not in self.kinds.computed:
            return fault
        of = self.made_of.get(fault.column or "")
        source = " and ".join(filter(None, (", ".join(map(repr, of[:-1])), repr(of[-1])))) if of else "it"
        told = fault.detail.replace(f"column '{fault.column}'", f"'{fault.column}', which is computed from {source},", 1)
        return fault._replace(detail=told)


@cache
def has_frames() -> bool:
    """Whether many rows can be computed at once: a serving image need not hold what that takes."""
    return find_spec("polars") is not None


def _as_text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return f"{value.year:04}{value.strftime(WRITTEN[2:])}"
    return None if value is None else str(value)
