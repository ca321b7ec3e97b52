"""Rows as the source has them: told from finished features by their columns, held to the same rules, then computed by the recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import msgspec
import numpy as np

from mlops_pipeline.contract.moments import WRITTEN
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features import columns
from mlops_pipeline.features.needs import derived_for, given_by_lookups, kept_by
from mlops_pipeline.features.state import DAY_US
from mlops_pipeline.inference.faults import EXTRA_COLUMN, SHOWN_FAULTS, Fault, Notice, Refused
from mlops_pipeline.inference.signature import Lengths, Rows, Signature

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.config.serving import Inputs
    from mlops_pipeline.features.online import OnlineFeatures
    from mlops_pipeline.features.state import FeatureState

Kind = Literal["raw", "features"]

FEW = 64
"""Rows that are computed one by one faster than as a frame."""


class RawRows(msgspec.Struct, gc=False):
    """Checked rows of the source's columns, as the raw signature has them."""

    rows: Rows
    made: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    """What was computed of them: numbers, float64, and texts, as the features' signature has them."""
    values: list[tuple[Any, ...]] | None = None
    """The same of a few rows, in the order of that signature."""

    @property
    def count(self) -> int:
        return self.rows.count


@dataclass(frozen=True)
class RowKinds:
    """Tells what a row is by the names of its columns."""

    own: tuple[str, ...]
    """Columns that only a raw row has."""
    marks: tuple[str, ...]
    """Those of them that every raw row has if any must be there, else all."""
    computed: tuple[str, ...]
    """Features that no raw row has."""
    certain: bool
    """Whether a raw row without its marks is refused."""
    again: tuple[str, ...] = ()
    """Features that are made of the source's columns of the same names: computed from finished ones, they would be others."""

    @staticmethod
    def of(raw: Mapping[str, Column], features: Mapping[str, Column], made: Collection[str] = ()) -> RowKinds:
        """Of a model that takes both, and whose recipe makes these columns."""
        own = tuple(name for name in raw if name not in features)
        must = tuple(name for name in own if not raw[name].nullable)
        return RowKinds(
            own=own,
            marks=must or own,
            computed=tuple(name for name in features if name not in raw),
            certain=bool(must),
            again=tuple(name for name in raw if name in features and name in made),
        )

    def tell(self, names: Collection[str]) -> Kind:
        """What a row of these columns is.

        One with every mark is raw, unless it is finished and would be another if it were computed again. One with a computed column
        is of features, and one with none is raw if it has a column that only raw rows have, or if these have none.
        """
        if self.again and self.is_finished(names):
            return "features"
        if self.marks and all(mark in names for mark in self.marks):
            return "raw"
        if any(name in names for name in self.computed):
            return "features"
        if not self.own:
            return "raw" if self.computed else "features"
        return "raw" if any(name in names for name in self.own) else "features"

    def is_finished(self, names: Collection[str]) -> bool:
        """Whether a row of these columns holds all that would be computed."""
        return bool(self.computed) and all(name in names for name in self.computed)


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
    of_state: frozenset[str]
    """Which of them need more than the row."""

    @staticmethod
    def taken(contract: Contract, features: Signature, inputs: Inputs) -> RawInput | None:
        """How a model takes raw rows where ``inputs`` are taken: not at all where a row of either kind has the very same columns."""
        found = None if inputs == "features" else RawInput.of(contract, features)
        return None if found is None or (inputs == "either" and not found.kinds.own and not found.kinds.computed) else found

    @staticmethod
    def of(contract: Contract, features: Signature) -> RawInput | None:
        """Of a contract, by the policy of the features' signature; None for a model without a recipe."""
        if not contract.raw:
            return None
        signature = Signature.of(
            msgspec.structs.replace(contract, columns=contract.raw, made={}),
            reject_unseen=features.reject_unseen,
            refuse_extra=features.refuse_extra,
            max_rows=features.max_rows,
            lengths=features.lengths,
            precision=np.float64,
        )
        # Of a category that the model does not take no value is known, so that none is strange.
        known = {name: seen for name, seen in signature.seen.items() if name in contract.columns}
        kinds = RowKinds.of(contract.raw, features.columns, contract.made)
        of_state = frozenset((*given_by_lookups(contract.recipe), *contract.recipe.late))
        wide = replace(signature, seen=known, wide=True)
        return RawInput(
            wide, features, kinds, tuple(contract.raw), tuple(contract.columns), contract.raw_example, contract.made_of, of_state
        )

    @property
    def never_null(self) -> str | None:
        """A feature that only a state knows and that must not be null, if there is one."""
        return next((name for name in self.features.names if name in self.of_state and not self.features.columns[name].nullable), None)

    def limited(self, max_rows: int, lengths: Lengths) -> RawInput:
        """The same with other limits of what one request may hold."""
        raw, features = (replace(one, max_rows=max_rows, lengths=lengths) for one in (self.signature, self.features))
        return replace(self, signature=raw, features=features)

    def computed(self, raw: RawRows, by: OnlineFeatures) -> Rows:
        """The features of checked raw rows, checked themselves; in any thread. Raises :class:`Refused`."""
        rows = raw.rows
        try:
            if rows.count > FEW and (by.is_quick or has_frames()):
                done = self._checked(raw, self.by_columns(rows, by) if by.is_quick else self.by_frame(rows, by))
            else:
                values = by.of_rows(self.values(rows))
                usual = self._usual(values)
                if usual is None:
                    done = self._checked(raw, self._arrays(values))
                else:
                    raw.values = usual
                    done = self.features.rows(usual, rows.ids, usual=True)
        except Refused as refusal:
            self._refuse(refusal)
        except columns.Uncomputable as error:
            raise Refused(422, [self.uncomputed(error.name, row) for row in islice(error.rows, SHOWN_FAULTS)]) from None
        if rows.notices is None:
            return done
        notices = [self._told(notice) for notice in rows.notices]
        said = {(notice.reason, notice.column) for notice in notices}
        notices += [notice for notice in done.notices or () if (notice.reason, notice.column) not in said]
        done.notices = notices or None
        return done

    def _checked(self, raw: RawRows, made: tuple[np.ndarray | None, np.ndarray | None]) -> Rows:
        raw.made, (numbers, categories) = made, made
        # What is checked is spelled as training has it, in place.
        return self.features.checked(numbers, None if categories is None else categories.copy(), raw.rows.ids)

    def _usual(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]] | None:
        """Features of a few rows in the order of their signature; None if a number is none that needs no second look."""
        limits, order = self._limits
        for row in rows:
            for place, low, high, nullable, whole in limits:
                value = row[place]
                if value is None:
                    if not nullable:
                        return None
                elif not low <= value <= high or (whole and value % 1):
                    return None
        return [tuple([made(row[place]) for place, made in order]) for row in rows]

    @cached_property
    def _limits(self) -> tuple[list[tuple[int, float, float, bool, bool]], list[tuple[int, Callable[[Any], Any]]]]:
        """For each number its place among what the recipe gives, and its usual limits; the place of each feature, and how it is told."""
        signature, places = self.features, {name: place for place, name in enumerate(self.made)}
        columns = [(places[name], signature.columns[name]) for name in signature.numbers]
        limits = zip(columns, *(limit.tolist() for limit in signature.usual64), strict=True)
        as_told: dict[bool, Callable[[Any], Any]] = {True: _as_number, False: _as_text}
        order = [(places[name], as_told[name in signature.numbers]) for name in signature.names]
        return [(place, low, high, column.nullable, column.kind != "number") for (place, column), low, high in limits], order

    def told(self, raw: RawRows) -> list[dict[str, Any]]:
        """What was computed, a mapping for each row, without private columns."""
        if raw.values is not None:
            told = [name for name in self.made if not self.features.columns[name].private]
            named = (dict(zip(self.features.names, row, strict=True)) for row in raw.values)
            return [{name: row[name] for name in told} for row in named]
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
        if not columns:
            return [{} for _ in range(raw.count)]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def values(self, rows: Rows) -> list[tuple[Any, ...]]:
        """Checked raw rows as the recipe takes a few: float for a number, int for an integer or a truth, str, or a datetime in UTC."""
        nothing: list[Any] = [()] * rows.count
        numbers = nothing if rows.numbers is None else rows.numbers.tolist()
        texts = nothing if rows.categories is None else rows.categories.tolist()
        plan, found = self._plan, []
        for row in ((*some, *others) for some, others in zip(numbers, texts, strict=True)):
            found.append(tuple([None if (value := row[place]) == MISSING or value != value else made(value) for place, made in plan]))  # noqa: PLR0124  # NaN
        return found

    @cached_property
    def _plan(self) -> list[tuple[int, Callable[[Any], Any]]]:
        """For each of the source's columns its place in a checked row, and what makes a recipe's value of it."""
        kinds: dict[str, Callable[[Any], Any]] = {"integer": int, "boolean": int, "number": float, "datetime": datetime.fromisoformat}
        names = self.signature.names
        return [(names.index(name), kinds.get(self.signature.columns[name].kind, str)) for name in self.order]

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
            columns[name] = series.str.to_datetime(f"{WRITTEN}%.f", time_unit="us") if of_moments else series
        return pl.DataFrame({name: columns[name] for name in self.order})

    def by_row(self, rows: Rows, by: OnlineFeatures) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The features of a few checked raw rows: numbers, float64, and texts, as their signature has them."""
        return self._arrays(by.of_rows(self.values(rows)))

    def _arrays(self, made: list[tuple[Any, ...]]) -> tuple[np.ndarray | None, np.ndarray | None]:
        places = {name: place for place, name in enumerate(self.made)}
        numbers = categories = None
        if self.features.numbers:
            wanted = [places[name] for name in self.features.numbers]
            numbers = np.array([[row[place] for place in wanted] for row in made], dtype=np.float64)
        if self.features.categories:
            wanted = [places[name] for name in self.features.categories]
            categories = np.array([[_as_text(row[place]) for place in wanted] for row in made], dtype=object)
        return numbers, categories

    def by_columns(self, rows: Rows, by: OnlineFeatures) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The same of many, column by column."""
        given = [self._column(rows, name) for name in self.order]
        made, signature = dict(zip(self.made, by.of_columns(given, rows.count), strict=True)), self.features
        numbers = np.empty((rows.count, len(signature.numbers))) if signature.numbers else None
        categories = np.empty((rows.count, len(signature.categories)), dtype=object) if signature.categories else None
        for place, name in enumerate(signature.numbers):
            assert numbers is not None  # noqa: S101  # there are columns of numbers
            numbers[:, place] = made[name].numbers()
        for place, name in enumerate(signature.categories):
            assert categories is not None  # noqa: S101  # as above
            categories[:, place] = made[name].coded().texts(_as_text)
        return numbers, categories

    def _column(self, rows: Rows, name: str) -> columns.ColumnValues:
        """A column of the source as the recipe takes it."""
        kind, signature = self.signature.columns[name].kind, self.signature
        if name in signature.numbers:
            assert rows.numbers is not None  # noqa: S101  # as above
            return columns.Numbers.of(rows.numbers[:, signature.numbers.index(name)], whole=kind != "number")
        assert rows.categories is not None  # noqa: S101  # as above
        texts = columns.Coded.of(rows.categories[:, signature.categories.index(name)].tolist())
        meant = datetime.fromisoformat if kind == "datetime" else str
        return columns.Coded([None if text == MISSING else meant(text) for text in texts.values], texts.places)

    def by_frame(self, rows: Rows, by: OnlineFeatures) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The same of many."""
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

    def uncomputed(self, name: str, row: int) -> Fault:
        """The fault of a row on which the recipe's SQL of a column fails; no value of it is told."""
        return self.worded(Fault("wrong_type", f"row {row}, column '{name}' has no value: its SQL fails on what this row holds", row, name))

    def worded(self, fault: Fault) -> Fault:
        """A fault of a computed value, told as one."""
        if fault.column not in self.kinds.computed:
            return fault
        of = self.made_of.get(fault.column or "")
        source = " and ".join(filter(None, (", ".join(map(repr, of[:-1])), repr(of[-1])))) if of else "it"
        told = fault.detail.replace(f"column '{fault.column}'", f"'{fault.column}', which is computed from {source},", 1)
        if fault.reason == "null" and fault.column in self.of_state:
            told += ": the state of the features has nothing for this row (`mlops features refresh` brings it up to date)"
        return fault._replace(detail=told)


def check_state(contract: Contract, state: FeatureState) -> None:
    """Raises :class:`PipelineError` for a state of another recipe, which would say other things by the same names."""
    recipe = contract.recipe
    columns = {**contract.made, **contract.raw}
    for name in (*given_by_lookups(recipe), *recipe.late):
        if name in contract.made and not _is_as_told(name, contract, columns, state):
            raise PipelineError(f"the features' state does not make '{name}' as this model has it: run `mlops features refresh`")


def _is_as_told(name: str, contract: Contract, columns: Mapping[str, Column], state: FeatureState) -> bool:
    """Whether a state makes a column as a model's recipe has it, of columns of the same kinds."""
    recipe, made = contract.recipe, state.columns.get(name)
    if made is None:
        return False
    table = state.tables[made.table].described
    held = zip(table.by, table.kinds, strict=True)
    is_keyed = table.by == tuple(kept_by(recipe, name)[0]) and all(key not in columns or columns[key].kind == kind for key, kind in held)
    of = () if table.of is None else (table.of,)
    if not is_keyed or (name in recipe.late and table.derived != derived_for(recipe, (*table.by, *of))):
        return False
    if name in recipe.counts:
        return made.how == "counts"
    if name in recipe.history:
        history = recipe.history[name]
        wanted = ("history", history.days * DAY_US, float(history.prior_rows), recipe.target)
        return (made.how, made.window_us, made.prior_rows, table.of) == wanted
    is_kind = made.kind == contract.made[name].kind
    if name not in recipe.aggregates:
        return is_kind and made.how == "lookup"
    told = recipe.aggregates[name]
    is_of = told.of is None or told.of not in columns or columns[told.of].kind == table.of_kind
    value = told.value if told.how == "share" else None
    wanted_of = (told.how, told.window_us, told.known_after_us, told.of, value)
    return is_kind and is_of and (made.how, made.window_us, made.delay_us, table.of, table.value) == wanted_of


@cache
def has_frames() -> bool:
    """Whether many rows can be computed at once: a serving image need not hold what that takes."""
    return find_spec("polars") is not None


def _as_number(value: Any) -> Any:
    return value


def _as_text(value: Any) -> str | None:
    if type(value) is str:
        return value
    if isinstance(value, datetime):
        return f"{value.year:04}{value.strftime(WRITTEN[2:])}"
    return None if value is None else str(value)
