"""Split: hold rows out, by time or at random within each class."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mlops_pipeline.config.moments import Span, moment_of, shown_moment
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Listener, Warned, ignored
from mlops_pipeline.files import read_json, replacing, sha256_of_file, write_json
from mlops_pipeline.layout import Layout
from mlops_pipeline.tables.columns import as_validated
from mlops_pipeline.tables.things import equal_rows, things_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from rich.console import Console

FEW_DIFFERENT = 20
"""A table with fewer different rows has them on both sides."""

FEW_ROWS = 200
"""Below this many held-out rows, intervals are so wide that a warning is due."""


def split(settings: Settings, layout: Layout, console: Console, tell: Listener = ignored) -> None:
    """Write the training and the held-out rows to separate files, so that training cannot read what is held out.

    Raises :class:`PipelineError` if either part would be empty.
    """
    import polars as pl

    if not read_json(layout.validation_json)["passed"]:
        raise PipelineError(f"{layout.relative(layout.validation_json)}: the table failed validation: mend it first")
    settings = as_validated(settings, layout.columns)
    table = pl.read_parquet(layout.raw, glob=False)
    rule = settings.split
    window = _window(table, settings, layout) if rule.kind == "time" else None
    train, test = _stratified(table, settings) if window is None else _by_time(table, settings, window)
    for part, name in ((train, "training"), (test, "held-out")):
        if not part.height:
            moved = f" ({window.shown})" if window is not None and window.shown else ""
            moved = f" with all rows of one {' and '.join(rule.together)} together" if rule.together else moved
            raise PipelineError(f"{layout.config}: split: no {name} row is left of {table.height}{moved}: {_span(table, settings)}")
    for part, path in ((train, layout.train), (test, layout.test)):
        with replacing(path) as temporary:
            part.write_parquet(temporary, compression="zstd")
    warning = _warning(test, settings)
    timeless = table[str(settings.dataset.time_column)].null_count() if rule.kind == "time" else 0
    write_json(
        layout.split_report,
        {
            "kind": rule.kind,
            "window": window.shown if window is not None else "",
            "train_rows": train.height,
            "test_rows": test.height,
            "train_sha256": sha256_of_file(layout.train),
            "test_sha256": sha256_of_file(layout.test),
            "train_span": _span(train, settings),
            "test_span": _span(test, settings),
            "rows_without_time": timeless,
            "warning": warning,
        },
    )
    apart = f", no {' and '.join(rule.together)} on both sides" if rule.together else ""
    console.print(f"            {train.height:,} rows to train on, {test.height:,} held out ({rule.kind}{apart})")
    if window is not None and window.shown:
        console.print(f"            {window.shown}")
    if timeless:
        tell(Warned(pipeline=settings.name, stage="split", text=f"{timeless:,} rows have no time and are in neither part"))
    if warning:
        tell(Warned(pipeline=settings.name, stage="split", text=warning))


@dataclass(frozen=True)
class _Window:
    """The rows trained on, from ``train_from`` until ``test_from``, and those held out, until ``test_until``; None: no bound."""

    train_from: datetime | None
    test_from: datetime
    test_until: datetime | None
    shown: str = ""
    """The window in words; empty for one that stands still."""


def _window(table: pl.DataFrame, settings: Settings, layout: Layout) -> _Window:
    """The window that the settings name, or the one that moves with the rows: before the run's as-of, or up to the newest row.

    The newest row counts, too, where a table ends long before the as-of, as one does that is no longer written. A span of days ends with
    the newest row's day, one of hours with the row itself. Raises :class:`PipelineError`.
    """
    rule, column = settings.split, str(settings.dataset.time_column)
    test_from, test_until, last = rule.test_from, rule.test_until, rule.test_span
    ends = ""
    if last is not None:
        as_of, newest = read_json(layout.ingest_report).get("as_of"), table[column].max()
        if as_of is None and not isinstance(newest, datetime):
            raise PipelineError(f"{layout.config}: split.test_last: no row has a {column!r}: use kind: stratified, or mend the column")
        if as_of is not None:
            test_until, ends = moment_of(as_of), f"before {as_of} (--as-of)"
        if isinstance(newest, datetime) and (test_until is None or _is_before(newest, last, test_until)):
            test_until = _after(newest, last)
            unlike = "" if as_of is None else f" (none is of the {last} before {as_of}, --as-of)"
            ends = f"up to the newest row, {shown_moment(newest)}{unlike}"
    try:
        if last is not None and test_until is not None:
            test_from = last.before(test_until)
        if test_from is None:
            raise ValueError("kind 'time' needs 'test_from' or 'test_last'")
        train_from = rule.train_span.before(test_from) if rule.train_span is not None else rule.train_from
    except ValueError as error:
        raise PipelineError(f"{layout.config}: split: {error}: give a shorter span") from error
    trained = f"from {shown_moment(train_from)} on" if train_from is not None else "from the first row on"
    moves = last is not None or rule.train_span is not None
    held = f"held out are {last} {ends}" if last is not None else f"held out is what is from {shown_moment(test_from)} on"
    if not settings.dataset.tells_time:
        return _Window(train_from, test_from, test_until, f"held out are {last or 'the last rows'}" if moves else "")
    return _Window(train_from, test_from, test_until, f"{held}; trained on {trained} until {shown_moment(test_from)}" if moves else "")


def _is_before(newest: datetime, last: Span, until: datetime) -> bool:
    """Whether no row is of the span that ends at a moment."""
    try:
        return newest < last.before(until)
    except ValueError:  # told by the caller
        return False


def _after(newest: datetime, last: Span) -> datetime:
    """The end of a window that the newest row is still in."""
    try:
        if last.of_days:
            return newest.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return newest + timedelta(microseconds=1)
    except OverflowError:  # the last day of all, which stands for «never» in many tables
        return datetime.max


def _by_time(table: pl.DataFrame, settings: Settings, window: _Window) -> tuple[pl.DataFrame, pl.DataFrame]:
    import polars as pl

    time = pl.col(str(settings.dataset.time_column))
    before, after = time < window.test_from, time >= window.test_from
    if window.train_from is not None:
        before &= time >= window.train_from
    if window.test_until is not None:
        after &= time < window.test_until
    return table.filter(before), table.filter(after)


def _stratified(table: pl.DataFrame, settings: Settings) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same share of every class; a class of one row stays in training, and at least one row is held out.

    Rows are drawn by a hash of their entity key, or of their content, so that they keep their side as the table grows:
    else a champion would be judged on rows that it was trained on.
    """
    import numpy as np

    belonging = things_of(table, settings)
    if belonging is not None:
        held = _by_thing(table, belonging, settings)
        return table.filter(~held), table.filter(held)
    keys = table.select(list(settings.dataset.entity_key or settings.dataset.columns))
    order = _hashes(keys, settings.seed).argsort(kind="stable")
    held = np.zeros(table.height, dtype=bool)
    target = table[settings.dataset.target].to_numpy()
    groups = [order] if not has_classes(settings.dataset.task) else [order[target[order] == value] for value in np.unique(target)]
    for group in groups:
        held[group[: min(round(settings.split.test_share * len(group)), len(group) - 1)]] = True
    if not held.any() and table.height > 1:
        held[max(groups, key=len)[0]] = True
    held = _together(held, table, settings)
    return table.filter(~held), table.filter(held)


def _hashes(keys: pl.DataFrame, seed: int) -> np.ndarray:
    """A hash of each row's keys, uint64 (rows,), and of how many of the same came before it, if any did."""
    import polars as pl

    hashes = keys.hash_rows(seed).alias("hash").to_frame().with_columns(before=pl.int_range(pl.len()).over("hash"))
    again = hashes.hash_rows(seed)
    return hashes.select(pl.when(pl.col("before") > 0).then(again).otherwise("hash")).to_series().to_numpy()


def _by_thing(table: pl.DataFrame, belonging: np.ndarray, settings: Settings) -> np.ndarray:
    """Which rows are held out, so that all rows of a thing (by ``belonging``) are on one side: the same share of each class.

    A thing counts as of its rarest class, so that this is on both sides where enough things have it. Things are drawn by their hashes,
    and so keep their side as the table grows. A class keeps rows to train on, and a thing with more rows than twice the share is trained
    on.
    """
    import numpy as np

    data = settings.dataset
    target = table[data.target].to_numpy() if has_classes(data.task) else np.zeros(table.height)
    # Groups come in the order of their hashes, which is as good as drawn.
    things, thing, sizes = np.unique(belonging, return_inverse=True, return_counts=True)
    values, counts = np.unique(target, return_counts=True)
    rarest = np.full(len(things), "", dtype=object)
    for value in values[counts.argsort(kind="stable")[::-1]]:  # a rarer one later
        rarest[np.unique(thing[target == value])] = str(value)
    drawn = np.zeros(len(things), dtype=bool)
    for value in values:
        several = np.where(rarest == str(value), sizes, 0)
        wanted = settings.split.test_share * several.sum()
        several[several / 2 > wanted] = 0  # or none that comes after it would be drawn
        drawn |= (several > 0) & (np.cumsum(several) - several / 2 <= wanted)
    if not drawn.any() and len(things) > 1:
        drawn[sizes.argmin()] = True
    held: np.ndarray = drawn[thing]
    for value in values:
        if held[target == value].all():
            held &= ~np.isin(thing, thing[target == value])
    return held


def _together(held: np.ndarray, table: pl.DataFrame, settings: Settings) -> np.ndarray:
    """Which rows are held out, so that equal ones are on one side: the same rows if no two are equal in all that a model sees.

    Rows with equal features are drawn together, up to the same share, whatever their class: were they parted by it, training
    would see one answer and the held-out rows the other. A class keeps rows to train on. A table of but a few different rows is
    left as it is: nothing would be learned of most of them.
    """
    import numpy as np

    data = settings.dataset
    equal = equal_rows(table, table[data.target].to_numpy(), settings)
    if equal is None:
        return held
    _, first, sizes = np.unique(equal, return_index=True, return_counts=True)
    if len(sizes) < FEW_DIFFERENT:
        return held
    drawn = _drawn(sizes, table[data.target].to_numpy()[first] if has_classes(data.task) else None, settings.split.test_share)
    together = np.where(sizes[equal] > 1, drawn[equal], held)
    if has_classes(data.task):
        target = table[data.target].to_numpy()
        for value in np.unique(target):
            rows = target == value
            if together[rows].all():
                together &= ~np.isin(equal, equal[rows])
    return together if together.any() and not together.all() else held


def _drawn(sizes: np.ndarray, classes: np.ndarray | None, share: float) -> np.ndarray:
    """Which groups of several equal rows are held out: the same share of each class, by the first row of each group."""
    import numpy as np

    drawn = np.zeros(len(sizes), dtype=bool)
    if classes is None:
        several = np.where(sizes > 1, sizes, 0)
        drawn |= (several > 0) & (np.cumsum(several) <= share * several.sum())
        return drawn
    for value in np.unique(classes):
        several = np.where((sizes > 1) & (classes == value), sizes, 0)
        # A group is drawn if more than half of it lies within the share: few groups come out no smaller than they should.
        drawn |= (several > 0) & (np.cumsum(several) - several / 2 <= share * several.sum())
    return drawn


def _span(table: pl.DataFrame, settings: Settings) -> str:
    column = settings.dataset.time_column
    if column is None or not settings.dataset.tells_time or not table.height:
        return f"{table.height} rows"
    return " to ".join(str(moment).removesuffix(" 00:00:00") for moment in (table[column].min(), table[column].max()))


def _warning(test: pl.DataFrame, settings: Settings) -> str | None:
    """Of rows that belong together what is counted are the things: rows of one are alike."""
    import numpy as np

    things = things_of(test, settings)
    count = test.height if things is None else len(np.unique(things))
    if count >= FEW_ROWS:
        return None
    s, verb = ("", "is") if count == 1 else ("s", "are")
    if things is None:
        return f"only {count} row{s} {verb} held out: no split of that size proves anything about the model"
    names = " and ".join(settings.split.together)
    return f"only {count} group{s} by {names} {verb} held out, in {test.height:,} rows: a split of so few says little of any other"
