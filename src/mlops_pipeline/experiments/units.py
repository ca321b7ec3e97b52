"""A table of outcomes becomes units: each once, in order of arrival, with its arm, its figures and its slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops_pipeline.config.dataset import Column, Source
from mlops_pipeline.config.experiment import Experiment, Metric
from mlops_pipeline.contract.values import NULL_WORDS
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.tables.cast import are_there, as_numbers, as_text, cast_columns
from mlops_pipeline.tables.source import as_written, read_file

if TYPE_CHECKING:
    import polars as pl

CHUNK_MB = 64
LARGEST = 1e150
"""Of numbers beyond it no variance is a number."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """Everybody who was in the test, in order of arrival.

    ``arm`` is each unit's place among the arms, ``values`` a metric's figure of each (NaN: not known), ``before`` what was known
    earlier, ``slices`` a column's text of each (null: not known), ``moments`` when each came first (None without a time column).
    """

    arm: npt.NDArray[np.int64]
    values: dict[str, Floats]
    before: dict[str, Floats]
    slices: dict[str, list[str | None]]
    moments: npt.NDArray[np.datetime64] | None
    shares: frozenset[str]
    """Metrics that are yes or no of each unit: their means are shares."""
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.arm)


def read_units(table: Path, experiment: Experiment, origin: str, *, arms: bool = True) -> Units:
    """The units of a table; without ``arms`` (for planning) all are of the control. Raises :class:`PipelineError` in one line."""
    names = _columns(experiment, arms=arms)
    written, notes = as_written(table, Source(path=str(table), null_values=()), names, "plain CSV")
    parts, broken = [], 0
    for chunk in read_file(table, written, CHUNK_MB, names):
        lacking = [name for name in names if name not in chunk.frame.columns]
        if lacking:
            there = ", ".join(chunk.frame.columns[:8])
            raise PipelineError(f"{table}: has no column '{lacking[0]}', which {origin} names (it has {there}): mend the one or the other")
        broken += len(chunk.broken)
        parts.append(_typed(chunk.frame.select(names), experiment, table, chunk.row_numbers, arms=arms))
    if not parts:
        raise PipelineError(f"{table}: is empty: give a table with a header and rows")
    told = [*notes, *([f"{broken:,} rows of another width than the header are left out"] if broken else [])]
    return _units(parts, experiment, table, told, arms=arms)


def units_in(frame: pl.DataFrame, experiment: Experiment, origin: Path) -> Units:
    """The units of rows that are at hand already; ``origin`` is what a fault names. Raises :class:`PipelineError` in one line."""
    import polars as pl

    names = _columns(experiment, arms=True)
    numbers = pl.Series(np.arange(1, frame.height + 1))
    return _units([_typed(frame.select(names), experiment, origin, numbers, arms=True)], experiment, origin, [], arms=True)


def _columns(experiment: Experiment, *, arms: bool) -> list[str]:
    named = [metric.column for metric in experiment.metrics.values()]
    named += [metric.before for metric in experiment.metrics.values() if metric.before is not None]
    named += [experiment.arm, *experiment.slices] if arms else []
    named += [name for name in (experiment.unit, experiment.time) if name is not None]
    return list(dict.fromkeys(named))


def _typed(frame: pl.DataFrame, experiment: Experiment, table: Path, numbers: pl.Series, *, arms: bool) -> pl.DataFrame:
    """A chunk's rows with columns of ours; nothing that cannot be read is taken for missing."""
    import polars as pl

    made: dict[str, pl.Series] = {}
    for name, metric in experiment.metrics.items():
        made[f"value {name}"] = _numbers(frame, name, metric, metric.column, table, numbers)
        made[f"share {name}"] = pl.Series([_is_yes_no(frame[metric.column])]).new_from_index(0, frame.height)
        if metric.before is not None:
            made[f"before {name}"] = _numbers(frame, name, metric, metric.before, table, numbers)
    if arms:
        given = _texts(frame[experiment.arm])
        strange = given.is_not_null() & ~given.is_in(list(experiment.arms))
        if strange.any():
            at = int(strange.arg_true()[0])
            known = ", ".join(experiment.arms)
            raise PipelineError(
                f"{table}: row {numbers[at]}: '{experiment.arm}' is '{given[at]}', which is no arm of the test ({known}): "
                "name it under arms, or leave its rows out of the table"
            )
        made["arm"] = given.replace_strict(list(experiment.arms), list(range(len(experiment.arms))), default=None, return_dtype=pl.Int64)
        for name in experiment.slices:
            made[f"slice {name}"] = _texts(frame[name])
    if experiment.unit is not None:
        made["unit"] = _texts(frame[experiment.unit])
    if experiment.time is not None:
        moment = cast_columns(frame.select(experiment.time), {experiment.time: Column(kind="datetime")}, NULL_WORDS)[experiment.time]
        unread = are_there(frame[experiment.time], "datetime", NULL_WORDS) & moment.is_null()
        if unread.any():
            at = int(unread.arg_true()[0])
            raise PipelineError(
                f"{table}: row {numbers[at]}: '{experiment.time}' is no moment: write it as 2024-01-31 or 2024-01-31 10:00:00"
            )
        made["moment"] = moment
    return pl.DataFrame(made)


def _texts(values: pl.Series) -> pl.Series:
    """A column as words, without blanks around them; an empty cell is null."""
    words = as_text(values).str.strip_chars()
    return words.set(words == "", None)


def _numbers(frame: pl.DataFrame, metric: str, settings: Metric, name: str, table: Path, row_numbers: pl.Series) -> pl.Series:
    """A column of figures: numbers as the metric says they are written, or yes and no as 1 and 0."""
    values = frame[name]
    read = (
        as_numbers(values, "boolean", NULL_WORDS) if settings.format is None else as_numbers(values, "number", NULL_WORDS, settings.format)
    )
    wrong = are_there(values, "number", NULL_WORDS) & (read.is_null() | ~read.is_finite().fill_null(value=False))
    if wrong.any():
        at = int(wrong.arg_true()[0])
        raise PipelineError(
            f"{table}: row {row_numbers[at]}: '{name}' is '{str(values[at])[:40]}', which is no number, nor yes or no: mend it, leave the "
            f"cell empty, or say by metrics.{metric}.format how 1234.5 is written, such as '1234,5'"
        )
    if isinstance(largest := read.abs().max(), float) and largest > LARGEST:
        raise PipelineError(f"{table}: '{name}': values as great as {largest:.3g} have no variance that a number holds: scale them")
    return read


def _is_yes_no(values: pl.Series) -> bool:
    read = as_numbers(values, "boolean", NULL_WORDS).drop_nulls()
    return bool(read.is_in([0.0, 1.0]).all())


def _units(parts: Sequence[pl.DataFrame], experiment: Experiment, table: Path, notes: list[str], *, arms: bool) -> Units:
    import polars as pl

    rows = pl.concat(parts)
    if not arms:
        rows = rows.with_columns(arm=pl.lit(0, dtype=pl.Int64))
    for name, column in (("arm", experiment.arm), ("unit", experiment.unit), ("moment", experiment.time)):
        if name in rows.columns and (gone := rows[name].null_count()):
            notes.append(f"{gone:,} of {rows.height:,} rows have no '{column}' and are left out")
            rows = rows.filter(pl.col(name).is_not_null())
    if "moment" in rows.columns:
        rows = rows.sort("moment", maintain_order=True)
    if "unit" in rows.columns:
        torn = rows.group_by("unit").agg(pl.col("arm").n_unique().alias("arms")).filter(pl.col("arms") > 1)["unit"]
        if len(torn):
            there, rows = rows.height, rows.filter(~pl.col("unit").is_in(torn.implode()))
            left = f"are left out with their {there - rows.height:,} rows"
            notes.append(f"{len(torn):,} units are in more than one arm and {left}: assignment was not sticky")
        rows = rows.group_by("unit", maintain_order=True).agg(
            *(_of_unit(name, metric) for name, metric in experiment.metrics.items()),
            *(pl.col(name).drop_nulls().first() for name in rows.columns if name.startswith(("before ", "slice "))),
            *(pl.col(name).first() for name in rows.columns if name in ("arm", "moment") or name.startswith("share ")),
        )
    if not rows.height:
        raise PipelineError(f"{table}: no unit is left to judge: {notes[-1] if notes else 'it has no rows'}")
    return Units(
        arm=rows["arm"].to_numpy(),
        values={name: _floats(rows[f"value {name}"]) for name in experiment.metrics},
        before={name: _floats(rows[f"before {name}"]) for name, metric in experiment.metrics.items() if metric.before is not None},
        slices={name: rows[f"slice {name}"].to_list() for name in experiment.slices} if arms else {},
        moments=rows["moment"].to_numpy() if "moment" in rows.columns else None,
        shares=frozenset(
            name
            for name in experiment.metrics
            if rows[f"share {name}"].all() and rows[f"value {name}"].drop_nulls().is_in([0.0, 1.0]).all()
        ),
        notes=tuple(notes),
    )


def _of_unit(name: str, metric: Metric) -> pl.Expr:
    """A unit's figure of its rows; not known where no row knows it, though the sum of nothing is zero to some."""
    import polars as pl

    column = pl.col(f"value {name}")
    made = {"mean": column.mean(), "max": column.max(), "sum": column.sum()}[metric.per_unit]
    return pl.when(column.is_not_null().any()).then(made).alias(f"value {name}")


def _floats(values: pl.Series) -> Floats:
    return np.asarray(values.fill_null(float("nan")).to_numpy(), dtype=np.float64)
