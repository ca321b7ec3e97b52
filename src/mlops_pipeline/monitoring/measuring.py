"""One pass over a window: what its rows, predictions and labels are beside a version's reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.monitoring.measured import Batch, Limits, Measured

if TYPE_CHECKING:
    import polars as pl


def measure(
    reference: Reference,
    batches: Iterable[Batch],
    limits: Limits | None = None,
    *,
    refused: int = 0,
    probe: bool = False,
    before: pl.DataFrame | None = None,
    advance: Callable[[], object] = lambda: None,
) -> Measured:
    """Measure a window; memory is bounded by the batches, the columns and 16 bytes a class for each labelled row.

    ``refused``: requests that were not answered. ``probe`` asks whether retraining would help. ``before``: rows that a domain
    classifier shall tell from the window's. ``advance`` is called after each batch.
    """
    raise NotImplementedError
