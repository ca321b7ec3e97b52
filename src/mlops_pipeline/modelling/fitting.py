"""Under what a model is fitted, beside its rows: what estimators that learn in passes go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlops_pipeline.config.pipeline import Settings, tuning_metric
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.modelling.frame import positive_index
from mlops_pipeline.modelling.metrics import direction, score
from mlops_pipeline.tables.things import things_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def _untold(_line: str) -> None:
    """Nobody looks."""


class Learning(Protocol):
    """How passes over the rows go, for all that learns in passes."""

    seed: int
    dropout: float
    learning_rate: float
    weight_decay: float
    batch_rows: int | None
    epochs: int
    patience: int
    held_back: float
    device: str

    def get_params(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Fitting:
    """``threads``: at most so many, None: every core. ``moments``: of the rows, int64 (rows,), where they were split by time.

    ``things``: numbers, int64 (rows,), of what rows belong to, where all rows of one are on one side of the split; None elsewhere.

    ``seed``: of what is drawn for the fit and is no estimator's own.

    ``worth``: of probabilities (rows, classes) that are said of some rows, whose places in the table it is given first; the more the
    better, NaN if it is not defined. It is the metric ``measure``, or less than nothing by as much where of that less is better
    (``lower_is_better``). None: the estimator goes by its own loss.

    ``checkpoint``: a file in which a fit that was killed finds itself again, None: it begins anew. ``say``: hears how far it is,
    ``tell``: what is to be remembered of it.
    """

    threads: int | None = None
    moments: np.ndarray | None = None
    things: np.ndarray | None = None
    seed: int = 0
    worth: Callable[[np.ndarray, np.ndarray], float] | None = None
    measure: str = ""
    lower_is_better: bool = False
    checkpoint: Path | None = None
    say: Callable[[str], None] = _untold
    tell: Callable[[str], None] = _untold

    def parted(self, rows: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of the rows to learn from, and of a share held back to tell when that is enough; at least one of each of two or more.

        Held back are the last by time where there is one, else some at random: rows of one thing never apart, unless there is but one.
        """
        import numpy as np

        held = min(rows - 1, max(1, round(share * rows)))
        if self.things is not None and len(set(self.things.tolist())) > 1:
            drawn = _drawn(self.things, held, seed)
            return np.flatnonzero(~drawn), np.flatnonzero(drawn)
        order = np.random.default_rng(seed).permutation(rows) if self.moments is None else np.argsort(self.moments, kind="stable")
        return np.sort(order[:-held]), np.sort(order[-held:])

    def measured(self, worth: float) -> float:
        """The metric that is of such ``worth``."""
        return -worth if self.lower_is_better else worth

    def of_member(self, place: int) -> Fitting:
        """The same for one of several models that are fitted to the same rows: it finds itself in a file of its own."""
        kept = self.checkpoint
        return self if kept is None else replace(self, checkpoint=kept.with_name(f"{place}.{kept.name}"))


ALONE = Fitting()


def _drawn(things: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    """Which rows are of things that are drawn until about so many rows are; a thing of more than twice as many is not."""
    import numpy as np

    _, place, sizes = np.unique(things, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    several = np.where(sizes[order] > 2 * wanted, 0, sizes[order])
    drawn = np.zeros(len(sizes), dtype=bool)
    drawn[order] = (several > 0) & (np.cumsum(several) - several / 2 <= wanted)
    if not drawn.any() or drawn.all():
        drawn[:] = False
        drawn[sizes.argmin()] = True
    found: np.ndarray = drawn[place]
    return found


def fitting_of(settings: Settings, table: pl.DataFrame, y: np.ndarray, **more: Any) -> Fitting:
    """Under what these rows are fitted: when they were, or what they belong to, as they were split, and what classes are searched by."""
    import numpy as np

    metric, data = tuning_metric(settings), settings.dataset
    classes = np.unique(y).tolist() if has_classes(data.task) else []
    more["seed"] = settings.seed
    if settings.split.kind == "time":
        more["moments"] = table[str(data.time_column)].rank("dense").fill_null(0).cast(int).to_numpy()
    elif (hashes := things_of(table, settings)) is not None:
        more["things"] = np.unique(hashes, return_inverse=True)[1]
    if not classes:
        return Fitting(**more)
    positive, sign = positive_index(classes, data), direction(metric)

    def worth(rows: np.ndarray, said: np.ndarray) -> float:
        return sign * score(metric, data.task, y[rows], said, classes, positive)

    return Fitting(worth=worth, measure=metric, lower_is_better=sign < 0, **more)
