"""Split: hold rows out, by time or at random within each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Listener, Warned, ignored
from mlops_pipeline.files import read_json, replacing, sha256_of_file, write_json
from mlops_pipeline.layout import Layout

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
    table = pl.read_parquet(layout.raw, glob=False)
    rule = settings.split
    train, test = _by_time(table, settings) if rule.kind == "time" else _stratified(table, settings)
    for part, name in ((train, "training"), (test, "held-out")):
        if not part.height:
            raise PipelineError(f"{layout.config}: split: no {name} row is left of {table.height}: {_span(table, settings)}")
    for part, path in ((train, layout.train), (test, layout.test)):
        with replacing(path) as temporary:
            part.write_parquet(temporary, compression="zstd")
    warning = _warning(test.height)
    timeless = table[str(settings.dataset.time_column)].null_count() if rule.kind == "time" else 0
    write_json(
        layout.split_report,
        {
            "kind": rule.kind,
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
    console.print(f"            {train.height:,} rows to train on, {test.height:,} held out ({rule.kind})")
    if timeless:
        tell(Warned(pipeline=settings.name, stage="split", text=f"{timeless:,} rows have no time and are in neither part"))
    if warning:
        tell(Warned(pipeline=settings.name, stage="split", text=warning))


def _by_time(table: pl.DataFrame, settings: Settings) -> tuple[pl.DataFrame, pl.DataFrame]:
    import polars as pl

    rule, time = settings.split, pl.col(str(settings.dataset.time_column))
    before = time < rule.test_from
    if rule.train_from is not None:
        before &= time >= rule.train_from
    after = time >= rule.test_from
    if rule.test_until is not None:
        after &= time < rule.test_until
    return table.filter(before), table.filter(after)


def _stratified(table: pl.DataFrame, settings: Settings) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same share of every class; a class of one row stays in training, and at least one row is held out.

    Rows are drawn by a hash of their entity key, or of their content, so that they keep their side as the table grows:
    else a champion would be judged on rows that it was trained on.
    """
    import numpy as np

    keys = table.select(list(settings.dataset.entity_key or settings.dataset.columns))
    order = keys.hash_rows(settings.seed).to_numpy().argsort(kind="stable")
    held = np.zeros(table.height, dtype=bool)
    target = table[settings.dataset.target].to_numpy()
    groups = [order] if not has_classes(settings.dataset.task) else [order[target[order] == value] for value in np.unique(target)]
    for group in groups:
        held[group[: min(round(settings.split.test_share * len(group)), len(group) - 1)]] = True
    if not held.any() and table.height > 1:
        held[max(groups, key=len)[0]] = True
    held = _together(held, table, settings)
    return table.filter(~held), table.filter(held)


def _together(held: np.ndarray, table: pl.DataFrame, settings: Settings) -> np.ndarray:
    """Which rows are held out, so that equal ones are on one side: the same rows if no two are equal in all that a model sees.

    Rows with equal features are drawn together, up to the same share, whatever their class: were they parted by it, training
    would see one answer and the held-out rows the other. A class keeps rows to train on. A table of but a few different rows is
    left as it is: nothing would be learned of most of them.
    """
    import numpy as np

    data = settings.dataset
    seen = [name for name in data.columns if name not in settings.features.exclude]
    if table.select(seen).is_unique().all():
        return held
    keys = [name for name in seen if name != data.target or not has_classes(data.task)]
    # Groups come in the order of their hashes, which is as good as drawn.
    _, equal, sizes = np.unique(table.select(keys).hash_rows(settings.seed).to_numpy(), return_inverse=True, return_counts=True)
    if len(sizes) < FEW_DIFFERENT:
        return held
    several = np.where(sizes > 1, sizes, 0)
    drawn = (sizes > 1) & (np.cumsum(several) <= settings.split.test_share * several.sum())
    together = np.where(sizes[equal] > 1, drawn[equal], held)
    if has_classes(data.task):
        target = table[data.target].to_numpy()
        for value in np.unique(target):
            rows = target == value
            if together[rows].all():
                together &= ~np.isin(equal, equal[rows])
    return together if together.any() and not together.all() else held


def _span(table: pl.DataFrame, settings: Settings) -> str:
    column = settings.dataset.time_column
    if column is None or not table.height:
        return f"{table.height} rows"
    return " to ".join(str(moment).removesuffix(" 00:00:00") for moment in (table[column].min(), table[column].max()))


def _warning(rows: int) -> str | None:
    if rows >= FEW_ROWS:
        return None
    return f"only {rows} {'row is' if rows == 1 else 'rows are'} held out: no split of that size proves anything about the model"
