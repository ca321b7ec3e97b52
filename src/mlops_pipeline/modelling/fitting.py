"""Under what a model is fitted, beside its rows: what estimators that learn in passes go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import Settings

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def _untold(_line: str) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class Fitting:
    """``threads``: at most so many, None: every core. ``moments``: of the rows, int64 (rows,), where they were split by time.

    ``checkpoint``: a file in which a fit that was killed finds itself again, None: it begins anew. ``say``: hears how far it is.
    """

    threads: int | None = None
    moments: np.ndarray | None = None
    checkpoint: Path | None = None
    say: Callable[[str], None] = _untold


ALONE = Fitting()


def moments_of(settings: Settings, table: pl.DataFrame) -> np.ndarray | None:
    """When each row was, int64 (rows,); None where rows are not split by time."""
    if settings.split.kind != "time":
        return None
    moments: np.ndarray = table[str(settings.dataset.time_column)].rank("dense").fill_null(0).cast(int).to_numpy()
    return moments
