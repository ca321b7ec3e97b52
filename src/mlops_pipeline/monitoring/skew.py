"""Features that a server has computed beside those that the pipeline's table has of the same rows, once it has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import read_json
from mlops_pipeline.monitoring.measured import Figure, Measured, Skewed
from mlops_pipeline.records.reading import are_answers, features_in, sources

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.monitoring.watched import Watched

LOOKED_AT = 2_000
"""Rows of a window that are looked up, an even sample of those that came raw."""
LEAST_ROWS = 30
"""Of fewer rows no share is told."""
_DRAW = "\0draw"


def table_now(watch: Watched) -> str:
    """The digest of the pipeline's table; empty if there is none on this machine."""
    layout = watch.layout
    try:
        return str(read_json(layout.ingest_report)["sha256"]) if layout.raw.is_file() else ""
    except (PipelineError, OSError, ValueError, KeyError):
        return ""


def skewed(watch: Watched, model: str, version: str, since: float, until: float) -> Skewed | None:
    """What the pipeline's table says of a window's rows that came raw; None where no such row came, or the version has no recipe."""
    import polars as pl

    from mlops_pipeline.modelling.skew import beside_table

    contract = watch.contract(model, version)
    if contract is None or not contract.raw:
        return None
    drawn = _drawn(_raw_rows(watch, model, version, since, until, contract), watch.pipeline.seed)
    if drawn is None:
        return None
    came, raw, features = drawn
    digest = table_now(watch)
    if not digest:
        return Skewed(came=came, absent=raw.height)
    try:
        found = beside_table(contract, raw, features, pl.scan_parquet(watch.layout.raw, glob=False))
    except (OSError, pl.exceptions.PolarsError):  # another run is just making it anew, of other columns
        return Skewed(came=came, absent=raw.height)
    return Skewed(table=digest, came=came, rows=found.rows, absent=found.absent, differing=dict(found.differing))


def with_skew(measured: Measured, found: Skewed | None) -> Measured:
    """A window's figures with those of the skew of its features."""
    return measured if found is None else msgspec.structs.replace(measured, skew=found, figures={**measured.figures, **figures_of(found)})


def figures_of(found: Skewed) -> dict[str, Figure]:
    """``skew.rows`` that were looked up and found, ``skew.absent`` that the table has not yet, ``skew.share`` of the worst column."""
    enough = found.rows >= LEAST_ROWS
    shares = {f"skew.share.{name}": count / found.rows for name, count in found.differing.items()} if enough else {}
    return {
        "skew.rows": float(found.rows),
        "skew.absent": float(found.absent),
        "skew.share": max(shares.values(), default=0.0) if enough else None,
        **shares,
    }


def said_of(found: Skewed) -> str:
    """The same in words, the worst columns first."""
    waits = f"; {found.absent:,} are not in the table yet" if found.absent else ""
    if not found.table:
        return f"not looked at: the pipeline's table is not on this machine, or was never made ({found.absent:,} rows wait)"
    differ = sorted(((count, name) for name, count in found.differing.items() if count), reverse=True)
    if not found.rows:
        return f"not known: none of {found.absent:,} rows that were looked for is in the pipeline's table yet"
    if not differ:
        return f"none: {found.rows:,} rows have the same features in the pipeline's table{waits}"
    worst = ", ".join(f"{name} {count / found.rows:.1%}" for count, name in differ[:3])
    return f"of {found.rows:,} rows the pipeline's table says otherwise: {worst}{' …' if len(differ) > 3 else ''}{waits}"


def _drawn(rows: Iterable[tuple[pl.DataFrame, pl.DataFrame]], seed: int) -> tuple[int, pl.DataFrame, pl.DataFrame] | None:
    """How many rows came raw, an even sample of them as they came, and the features that were computed; None without one."""
    import polars as pl

    came, kept = 0, list[pl.DataFrame]()
    for raw, features in rows:
        draw = pl.int_range(came, came + raw.height, eager=True).hash(seed).alias(_DRAW)
        came += raw.height
        width = raw.width
        both = pl.concat([raw, features.rename(lambda name: f"\0{name}"), draw.to_frame()], how="horizontal")
        kept = [pl.concat([*kept, both], how="vertical_relaxed").bottom_k(LOOKED_AT, by=_DRAW)]
    if not kept or not came:
        return None
    table = kept[0].drop(_DRAW)
    return came, table[:, :width], table[:, width:].rename(lambda name: name[1:])


def _raw_rows(
    watch: Watched, model: str, version: str, since: float, until: float, contract: Contract
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The answered rows that came raw, a bounded number at a time, and the features that were computed of them."""
    import polars as pl

    made = [name for name in contract.columns if name in contract.made]
    computed = {name for name in made if name not in contract.raw}
    begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (since, until))
    for frame, own in sources(watch.store, since=begin, until=end, model=model, version=version):
        names = [name for name in contract.raw if name in own.columns]
        if not names or set(own.columns) & computed:
            continue  # no layout takes raw rows: these are features
        came = frame.select(are_answers()).to_series() & own.select(pl.any_horizontal(pl.col(names).is_not_null())).to_series()
        yield own.select(names).filter(came), features_in(frame.filter(came), made)
