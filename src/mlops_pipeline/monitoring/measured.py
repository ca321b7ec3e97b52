"""What one window of rows is beside a version's reference: figures by flat names, and the columns behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

Figure = float | None
"""A number, or None where it could not be measured."""


UNMEASURED = "cannot be measured"
"""In a note on a metric that labels are there for, and do not tell."""
PROBE = "the probe"
"""How a note on it begins."""

LEAST_ROWS = 30
"""Of fewer rows nothing is called drift."""
LEAST_EFFECT = 0.1
"""Normed Wasserstein distance of numbers, Jensen-Shannon distance of categories: what Evidently's limits are too."""


class Incomparable(PipelineError):
    """Rows of another model than the reference is of: they can be counted, and no more."""


@dataclass(frozen=True)
class Batch:
    """Some rows of a window, as the record holds them.

    ``features`` are the model's columns (others mean nothing; a missing one is null in every row). ``scores`` are what the model said:
    class probabilities, (rows, classes), or values, (rows,). ``labels``: what came of it, null where it is not known yet, classes as the
    table or their owner writes them. ``moments``: when, as dates, moments, or whole numbers of days. ``things``: hashes, uint64 (rows,),
    of what rows belong to; None where they name nothing of the kind.
    """

    features: pl.DataFrame
    scores: np.ndarray | None = None
    labels: pl.Series | None = None
    moments: pl.Series | None = None
    things: np.ndarray | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """From when on something is called drift: significance over all columns (Benjamini-Hochberg), and an effect, both."""

    significance: float = 0.01
    effect: float = LEAST_EFFECT
    share_effect: float = 0.2
    """Cohen's h between two shares, of missing values say; 0.2 is small: 0 to 1 %, or 20 to 29 %."""
    least_rows: int = LEAST_ROWS
    least_labels: int = 100
    """The same of rows with a label, for quality and the probe."""
    confidence: float = 0.95
    resamples: int = 200
    texts: int = 400
    """Texts of a column that are embedded."""
    text_distance: float = 0.1
    """Of mean embeddings, over the spread of the model's own texts: about what one text in five of quite another topic makes."""
    unseen_words: float = 0.02
    """By how much the share of words that are new must grow."""
    slices: tuple[str, ...] = ()
    """Columns by whose values quality is told too."""
    least_slice_rows: int = 100
    together: tuple[str, ...] = ()
    """What names the things that rows belong to, such as patients, as ``split.together``: these are drawn for intervals of quality."""
    seed: int = 42


class TextDrift(msgspec.Struct, frozen=True, kw_only=True):
    """Texts of a window beside the model's own. ``by``: what made the embeddings, a frozen encoder's name or ``words``."""

    texts: int
    """Those that were read for words."""
    unseen: float = 0.0
    """Share of words that the model's own texts have not."""
    unseen_before: float = 0.0
    """The same of one of them beside all others."""
    unseen_p: Figure = None
    distance: Figure = None
    distance_p: Figure = None
    by: str = ""
    scripts: dict[str, tuple[float, float]] = {}
    """Share of texts, of the model's own and now; likewise ``lengths``, in words."""
    lengths: dict[str, tuple[float, float]] = {}
    forms: Figure = None
    """Jensen-Shannon distance of scripts and lengths."""
    forms_p: Figure = None
    note: str = ""
    """Why something was not compared."""


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a window beside the reference. ``p`` is of the Kolmogorov-Smirnov or the chi-squared test."""

    name: str
    kind: str
    statistics: dict[str, float] = {}
    """``wasserstein``, ``jensen_shannon``, ``psi``, ``ks``, ``chi_squared``: those of its kind."""
    p: Figure = None
    p_adjusted: Figure = None
    effect: Figure = None
    drifted: bool = False
    reasons: tuple[str, ...] = ()
    """Why: ``distribution``, ``missing``, ``new_categories``, ``out_of_bounds``, of texts ``vocabulary``, ``embedding``."""
    missing: float = 0.0
    missing_before: float = 0.0
    new_categories: Figure = None
    """Share of rows with a category that training had not, or in too few rows to be listed."""
    new_categories_before: Figure = None
    out_of_bounds: Figure = None
    """Share of rows beyond the column's bounds, or what training saw by a quarter of its range."""
    texts: TextDrift | None = None


class SliceQuality(msgspec.Struct, frozen=True, kw_only=True):
    """The metric on the labelled rows with one value of one column."""

    column: str
    value: str
    rows: int
    metric: Figure = None
    low: Figure = None
    high: Figure = None


class Skewed(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that came raw, and the features that were computed of them, beside the pipeline's table."""

    table: str = ""
    """The digest of the table that they were looked up in; empty if there was none."""
    came: int = 0
    rows: int = 0
    """Those of a sample that the table has."""
    absent: int = 0
    """Those that it has not yet."""
    differing: dict[str, int] = {}
    """By computed feature: how many rows have another value there."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One window: ``enough`` rows to say anything of, or ``why`` not.

    ``figures``: ``rows``, ``labels``, ``refused.share``; ``drift.columns``, ``drift.share``, ``drift.score`` (the effect, of the
    predictions) and ``drift.score.detected`` (0 or 1); ``missing.share`` (by how much it has grown), ``new_categories.share`` (likewise)
    and ``out_of_bounds.share``, each the largest over columns; of texts likewise ``embedding.distance`` and, by how much it has grown,
    ``unseen_words.share``; ``quality.METRIC`` with ``.low`` and ``.high``; ``estimated.METRIC``, and
    with ``.error`` the estimate less the truth on the labelled rows; ``calibration.error``; ``probe.gain`` with ``.low`` and
    ``.high``, and ``probe.gain.relative`` likewise, which has no unit (:func:`probe.unit`); ``domain.auc``;
    ``skew.rows``, ``skew.absent``, ``skew.share`` and ``skew.share.FEATURE`` (:func:`skew.figures_of`).
    Each is None where it was not measured.
    """

    rows: int
    labels: int = 0
    enough: bool = True
    why: str = ""
    figures: dict[str, Figure] = {}
    columns: tuple[ColumnDrift, ...] = ()
    slices: tuple[SliceQuality, ...] = ()
    notes: tuple[str, ...] = ()
    skew: Skewed | None = None

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        """The columns that drifted, the strongest first."""
        return tuple(sorted((column for column in self.columns if column.drifted), key=lambda column: -(column.effect or 0.0)))

    def as_json(self) -> dict[str, Any]:
        """As plain values, to be kept; :func:`measured_of` reads them back."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content


def measured_of(content: dict[str, Any]) -> Measured:
    """The same from plain values."""
    return msgspec.convert(content, Measured)
