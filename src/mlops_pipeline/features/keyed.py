"""From a recipe and rows to the keyed tables of a state: which tables there are, and what each holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlops_pipeline.config.dataset import words_of
from mlops_pipeline.contract.spec import Aggregate, Recipe
from mlops_pipeline.features.keys import Keys, compared, microseconds
from mlops_pipeline.features.needs import derived_for
from mlops_pipeline.features.state import DAY_US, SCALE, FeatureState, KeyedTable, Made, Table, TablePart, moment_in, salt_of
from mlops_pipeline.features.windows import END, NEVER

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.features.rows import Joined

_MOMENT, _VALUE, _COUNT, _CELL, _PLACE = "m", "v", "n", "c", "p"


class StatePlan:
    """The tables that a recipe's columns need, each once, and how each column is made from them."""

    def __init__(self, recipe: Recipe, kinds: Mapping[str, str], lookups: Joined = ()) -> None:
        self.recipe, self._kinds, self._lookups = recipe, kinds, lookups
        self.tables: list[KeyedTable] = []
        self.columns: dict[str, Made] = {}
        for number, (keys, table) in enumerate(lookups):
            cells = tuple((name, kinds[name]) for name in table.columns if name not in keys)
            self.tables.append(self._table("lookup", tuple(keys), of=str(number), cells=cells))
            for name, kind in cells:
                self.columns.setdefault(name, Made(how="lookup", kind=kind, table=number))
        for name, by in recipe.counts.items():
            self.columns[name] = Made(how="counts", kind="integer", table=self._known(self._table("counts", by)))
        for name, history in recipe.history.items():
            of = {"of": recipe.target, "of_kind": kinds[recipe.target], "daily": True}
            own, overall = (self._known(self._table("rows", by, **of)) for by in (history.by, ()))
            self.columns[name] = Made(
                how="history",
                kind="number",
                table=own,
                overall=overall,
                window_us=history.days * DAY_US,
                prior_rows=float(history.prior_rows),
            )
        for name, aggregate in recipe.aggregates.items():
            self.columns[name] = Made(
                how=aggregate.how,
                kind=kinds[name],
                table=self._known(self._of(aggregate)),
                window_us=aggregate.window_us,
                delay_us=aggregate.known_after_us,
            )
        self.salt = bytes.fromhex(salt_of(self.tables))

    def _table(self, what: str, by: Sequence[str], **more: Any) -> KeyedTable:
        of = () if what == "lookup" or more.get("of") is None else (more["of"],)
        derived = () if what == "lookup" else derived_for(self.recipe, (*by, *of))
        return KeyedTable(what=what, by=tuple(by), kinds=tuple(self._kinds[name] for name in by), derived=derived, **more)

    def _of(self, aggregate: Aggregate) -> KeyedTable:
        more: dict[str, Any] = {}
        if aggregate.of is not None:
            more = {"of": aggregate.of, "of_kind": self._kinds[aggregate.of]}
        if aggregate.how == "distinct":
            return self._table("distinct", aggregate.by, **more)
        if aggregate.how == "share":
            return self._table("rows", aggregate.by, **more, value=aggregate.value)
        if aggregate.how == "last":
            return self._table("rows", aggregate.by, **more, cells=((str(aggregate.of), more["of_kind"]),))
        return self._table("rows", aggregate.by, **more, extremes=aggregate.how in ("min", "max"))

    @cached_property
    def made_by(self) -> tuple[str, ...]:
        """Digests of what makes the columns that tables are made from, beside the source: SQL, and what lookups hold of them."""
        made = [table for table in self.tables if table.what != "lookup"]
        derived = sorted({each for table in made for each in table.derived})
        used = {name for table in made for name in (*table.by, table.of)} | {word for _, sql in derived for word in words_of(sql)}
        found = [hashlib.sha256(f"{name} {sql}".encode()).hexdigest() for name, sql in derived]
        for keys, frame in self._lookups:
            cells = tuple((name, self._kinds[name]) for name in frame.columns if name in used and name not in keys)
            if cells:
                table = self._table("lookup", tuple(keys), cells=cells)
                found.append(lookup_part(table, Keys(table.kinds, b"lookup"), frame).digest)
        return tuple(found)

    @property
    def needed(self) -> list[str]:
        """The columns of rows that the tables are made from, the time among them if it is asked for."""
        names: dict[str, None] = {}
        for table in self.tables:
            if table.what != "lookup":
                names |= dict.fromkeys((*table.by, *((table.of,) if table.of is not None else ())))
        return sorted(names | dict.fromkeys((self.recipe.time_column,) if self.recipe.time_column is not None else ()))

    def parts(self, rows: pl.LazyFrame, lookups: Joined, base: Sequence[Table] | None = None) -> list[tuple[TablePart, ...]]:
        """What rows make of each table: all of it, or with ``base`` what is added to that, which then comes after it."""
        made = self.lookup_parts(lookups)
        for number, table in enumerate(self.tables[len(made) :], len(made)):
            old = None if base is None else base[number]
            new = rows_part(table, Keys(table.kinds, self.salt), rows, self.recipe, old)
            made.append((new, *(() if old is None else old.parts)))
        return made

    def lookup_parts(self, lookups: Joined) -> list[tuple[TablePart, ...]]:
        """The lookups' tables, which are the first."""
        return [(lookup_part(table, Keys(table.kinds, self.salt), frame),) for table, (_, frame) in zip(self.tables, lookups, strict=False)]

    def pruned(self, parts: Sequence[tuple[TablePart, ...]], since: int) -> list[tuple[TablePart, ...]]:
        """Tables of one part without the rows that no row from ``since`` on asks for; a key's sums go on from what is left of it."""
        made = []
        for number, of_table in enumerate(parts):
            using = [each for each in self.columns.values() if number in (each.table, each.overall)]
            whole = any(each.window_us is None and each.how in ("min", "max", "distinct") for each in using)
            if self.tables[number].what not in ("rows", "distinct") or self.tables[number].cells or whole:
                made.append(of_table)
            else:
                made.append((_without(of_table[0], since - max(map(_reach, using))),))
        return made

    def is_of(self, state: FeatureState) -> bool:
        """Whether a state was made by this plan."""
        return [table.described for table in state.tables] == self.tables and dict(state.columns) == self.columns

    def goes_on(self, state: FeatureState) -> bool:
        """Whether it makes all that a state makes, and as that does; a lookup may give other columns beside."""
        described = [table.described for table in state.tables]
        return all(
            name in self.columns and _meaning(self.columns[name], self.tables) == _meaning(made, described)
            for name, made in state.columns.items()
        )

    def _known(self, table: KeyedTable) -> int:
        """The number of a table, which is added if it is new."""
        if table not in self.tables:
            self.tables.append(table)
        return self.tables.index(table)


def state_of(
    rows: pl.LazyFrame, recipe: Recipe, kinds: Mapping[str, str], lookups: Joined = (), as_of: datetime | None = None
) -> FeatureState:
    """The state that a table's typed rows make; ``kinds`` are those of its columns.

    ``as_of`` (UTC) is by default the newest row's moment.
    """
    plan = StatePlan(recipe, kinds, lookups)
    return FeatureState.of(plan.tables, plan.parts(rows, lookups), plan.columns, as_of or newest(rows, recipe))


def newest(rows: pl.LazyFrame, recipe: Recipe) -> datetime:
    """The newest row's moment (UTC); now for a table whose rows have none.

    Rows of the future do not count, so that a mistyped year makes no state new for ever; those of a day do, for clocks of other zones.
    """
    import polars as pl

    now = datetime.now(UTC)
    if recipe.time_column is not None:
        moment = compared(pl.col(recipe.time_column), "datetime")
        last = rows.select(moment.filter(moment <= microseconds(now) + DAY_US).max()).collect(engine="streaming").item()
        if last is not None:
            return moment_in(last)
    return now


def lookup_part(table: KeyedTable, keys: Keys, frame: pl.DataFrame) -> TablePart:
    """A lookup's rows: its keys are unique and none of them is null."""
    import polars as pl

    digests = keys.digests(frame.select(table.by).get_columns())
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    arrays = {"keys": digests[order, 0], "checks": digests[order, 1], "starts": np.arange(len(order) + 1, dtype=np.int64)}
    for name, kind in table.cells:
        arrays |= cell_arrays(name, kind, frame[name].gather(pl.Series(order)))
    return TablePart(arrays)


def cell_arrays(name: str, kind: str, values: pl.Series) -> dict[str, Any]:
    """Single values as arrays: where one is there, and numbers, or texts one behind the other with the place where each ends."""
    import polars as pl

    plain = values.to_frame().select(compared(pl.col(values.name), kind)).to_series()
    arrays: dict[str, Any] = {f"{name}.there": plain.is_not_null().to_numpy().astype(np.uint8)}
    if plain.dtype == pl.String:
        full = plain.fill_null("")
        ends = np.concatenate(([0], np.cumsum(full.str.len_bytes().to_numpy(), dtype=np.int64)))
        text = np.frombuffer("".join(full.to_list()).encode(), dtype=np.uint8)
        return arrays | {f"{name}.ends": ends.astype(np.int64), f"{name}.text": text}
    return arrays | {name: plain.fill_null(0).to_numpy()}


def rows_part(table: KeyedTable, keys: Keys, rows: pl.LazyFrame, recipe: Recipe, base: Table | None = None) -> TablePart:
    """What rows add to a table. They all come after those of ``base``, whose sums they go on from."""
    import polars as pl

    frame = _collected(table, rows, recipe)
    digests, frame = _placed(frame, keys)
    if table.what == "distinct":
        return _distinct(table, digests, frame, base)
    # Sums of one moment's rows go by their values, so that their order of arrival is none of theirs.
    frame = frame.sort(_PLACE, _MOMENT, *((_VALUE,) if _VALUE in frame.columns else ()), maintain_order=True)
    places, moments = frame[_PLACE].to_numpy().astype(np.int64), frame[_MOMENT].to_numpy()
    ends = np.flatnonzero(_changes(places, moments))
    begins = np.concatenate(([0], ends[:-1] + 1)) if ends.size else ends
    first = np.searchsorted(places, np.arange(len(digests), dtype=np.int64))
    old_rows, old_sums, old_rests = np.zeros(len(digests), dtype=np.int64), np.zeros(len(digests)), np.zeros(len(digests))
    if base is not None:
        spans = [part.spans(digests) for part in base.parts]
        old_rows, old_sums, old_rests = base.running_many(spans, np.full(len(digests), END, dtype=np.int64))
    counted = np.cumsum(frame[_COUNT].to_numpy().astype(np.int64))
    before = np.concatenate(([0], counted))[first] if len(first) else counted
    arrays: dict[str, Any] = {
        "keys": digests[:, 0].copy(),
        "checks": digests[:, 1].copy(),
        "starts": np.searchsorted(places[ends], np.arange(len(digests) + 1)).astype(np.int64),
        "moments": moments[ends],
        "rows": _narrow(counted[ends] - before[places[ends]] + old_rows[places[ends]]),
    }
    if _VALUE in frame.columns:
        values = frame[_VALUE].to_numpy()
        if table.extremes:
            arrays["least"], arrays["greatest"] = (
                pick.reduceat(values, begins) if ends.size else np.empty(0) for pick in (np.minimum, np.maximum)
            )
        else:
            sums, rests = _running_sums(places, first, values / SCALE, old_sums, old_rests)
            arrays["sums"] = sums[ends]
            if rests.any():
                arrays["rests"] = rests[ends]
    for name, kind in table.cells:
        arrays |= cell_arrays(name, kind, frame[_CELL].gather(pl.Series(ends)))
    return TablePart(arrays)


def _narrow(counts: Any) -> Any:
    """Counts in 32 bits where they fit: servers hold them in memory."""
    return counts.astype(np.uint32 if int(counts.max(initial=0)) < 1 << 32 else np.int64)


def _running_sums(places: Any, first: Any, values: Any, old_sums: Any, old_rests: Any) -> tuple[Any, Any]:
    """The sum of each key's values up to each of them, from an old one on, and the sum of what rounding has taken from it so far."""
    import polars as pl

    def summed(each: Any, old: Any) -> Any:
        each = each.copy()
        each[first] += old
        return pl.DataFrame({_PLACE: places, _VALUE: each}).select(pl.col(_VALUE).cum_sum().over(_PLACE)).to_series().to_numpy()

    if not len(first):
        return values, values
    sums = summed(values, old_sums)
    before = np.concatenate(([0.0], sums[:-1]))
    before[first] = old_sums
    added = sums - before
    return sums, summed((before - (sums - added)) + (values - added), old_rests)


def _collected(table: KeyedTable, rows: pl.LazyFrame, recipe: Recipe) -> pl.DataFrame:
    """The rows that count: their key, moment, number, and value; where order means nothing, one for all of the same key and moment."""
    import polars as pl

    names = [f"k{number}" for number in range(len(table.by))]
    taken = [compared(pl.col(column), kind).alias(name) for name, column, kind in zip(names, table.by, table.kinds, strict=True)]
    moment = pl.lit(0, dtype=pl.Int64) if table.what == "counts" else _moment(recipe, daily=table.daily)
    taken += [moment.alias(_MOMENT), pl.lit(1, dtype=pl.Int64).alias(_COUNT)]
    exact = table.what != "distinct"
    if table.of is not None:
        of = compared(pl.col(table.of), table.of_kind)
        if table.what == "distinct" or table.cells:
            taken.append(of.alias(_CELL))
            exact = False
        elif table.value is not None:
            taken.append((of == table.value).cast(pl.Float64).alias(_VALUE))
        elif table.of_kind in ("number", "integer", "boolean"):
            value = of.cast(pl.Float64)
            taken.append((value if table.extremes else pl.when(value.is_finite()).then(value)).alias(_VALUE))
            exact = table.of_kind == "boolean" and not table.extremes
        else:
            taken.append(of.is_not_null().replace_strict({True: 0.0}, default=None, return_dtype=pl.Float64).alias(_VALUE))
    chosen = rows.select(taken).drop_nulls(
        [name for name in (_MOMENT, _VALUE, _CELL) if name in [each.meta.output_name() for each in taken]]
    )
    if exact:
        chosen = chosen.group_by(*names, _MOMENT).agg(pl.all().sum())
    return chosen.collect(engine="streaming" if exact else "auto")


def _moment(recipe: Recipe, *, daily: bool) -> pl.Expr:
    import polars as pl

    column = pl.col(str(recipe.time_column)).cast(pl.Datetime("us"))
    return compared(column.dt.truncate("1d") if daily else column, "datetime")


def _placed(frame: pl.DataFrame, keys: Keys) -> tuple[Any, pl.DataFrame]:
    """The digests of the keys, sorted, and the rows with the place of theirs."""
    import polars as pl

    names = [name for name in frame.columns if name.startswith("k")]
    if not names:
        some = 1 if frame.height else 0
        return keys.digests(())[:some], frame.with_columns(pl.lit(0, dtype=pl.Int64).alias(_PLACE))
    single = frame.select(names).unique(maintain_order=True)
    digests = keys.digests(single.get_columns())
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    placed = single.with_columns(pl.Series(_PLACE, place))
    return digests[order], frame.join(placed, on=names, how="left", nulls_equal=True, maintain_order="left").drop(names)


def _changes(*columns: Any) -> Any:
    """Where a row is the last of those with the same values of columns by which rows are sorted."""
    if not len(columns[0]):
        return np.zeros(0, dtype=np.bool_)
    other = np.zeros(len(columns[0]) - 1, dtype=np.bool_)
    for column in columns:
        other |= column[1:] != column[:-1]
    return np.append(other, True)


def _meaning(made: Made, tables: Sequence[KeyedTable]) -> tuple[Any, ...]:
    """What a column is, wherever the tables stand that it is made from."""
    used = [tables[number] for number in (made.table, made.overall) if number >= 0]
    if made.how == "lookup":
        return made.how, made.kind, used[0].by, used[0].kinds
    return msgspec.structs.replace(made, table=0, overall=0), *used


def _reach(made: Made) -> int:
    """How far before its moment a row looks for sums, in µs: where no window begins, for the last that it may see."""
    return (made.window_us or 0) + made.delay_us + DAY_US


def _without(part: TablePart, before: int) -> TablePart:
    """A part without the rows before a moment, but for each key's last of them."""
    moments, starts = part.arrays["moments"], part.arrays["starts"]
    left = moments >= before
    follows = np.zeros_like(left)
    follows[:-1] = left[1:]
    follows[starts[1:] - 1] = True
    left |= follows
    counted = np.concatenate(([0], np.cumsum(left)))
    whole = {name: array for name, array in part.arrays.items() if name in ("keys", "checks")}
    rows = {name: array[left] for name, array in part.arrays.items() if name not in ("keys", "checks", "starts")}
    return TablePart({**whole, "starts": counted[starts], **rows})


def _distinct(table: KeyedTable, digests: Any, frame: pl.DataFrame, base: Table | None) -> TablePart:
    """One row for each key, moment and value, with the moment before at which the key had this value (``before``)."""
    import polars as pl

    values = frame[_CELL].unique(maintain_order=True)
    whats = Keys((table.of_kind,), b"value").digests([values])[:, 0]
    frame = frame.join(pl.DataFrame({_CELL: values, "w": whats}), on=_CELL, how="left", maintain_order="left")
    frame = frame.select(_PLACE, _MOMENT, "w").unique()
    older = frame.clear() if base is None else pl.concat(_older(digests, part) for part in base.parts)
    last = older.group_by(_PLACE, "w").agg(pl.col(_MOMENT).max().alias("older"))
    frame = frame.join(last, on=[_PLACE, "w"], how="left").sort(_PLACE, "w", _MOMENT)
    before = pl.col(_MOMENT).shift(1).over(_PLACE, "w").fill_null(pl.col("older")).fill_null(NEVER).alias("before")
    frame = frame.with_columns(before).sort(_PLACE, _MOMENT, "w")
    places = frame[_PLACE].to_numpy()
    return TablePart(
        {
            "keys": digests[:, 0].copy(),
            "checks": digests[:, 1].copy(),
            "starts": np.searchsorted(places, np.arange(len(digests) + 1)).astype(np.int64),
            "moments": frame[_MOMENT].to_numpy(),
            "before": frame["before"].to_numpy(),
            "what": frame["w"].to_numpy(),
        }
    )


def _older(digests: Any, part: TablePart) -> pl.DataFrame:
    """A part's rows of these keys."""
    import polars as pl

    starts, stops = part.spans(digests)
    lengths = stops - starts
    index = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)))[:-1], lengths) + np.arange(lengths.sum())
    place = np.repeat(np.arange(len(digests)), lengths)
    return pl.DataFrame({_PLACE: place, _MOMENT: part.arrays["moments"][index], "w": part.arrays["what"][index]})
