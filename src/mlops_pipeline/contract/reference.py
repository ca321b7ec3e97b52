"""What a model's own rows looked like: written beside a version, so that what is seen later is compared without its training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from mlops_pipeline.contract.evaluation import Interval
from mlops_pipeline.contract.spec import read_as
from mlops_pipeline.contract.task import TaskName

FORMAT = 1
"""The summary's version."""

FILE = "monitoring_reference.json"

Kind = Literal["number", "category", "other"]
"""How a column is compared: by its distribution, by its levels, or by its missing values alone."""


class Bins(msgspec.Struct, frozen=True):
    """A distribution: how many values lie in each bin, whose upper edges (inclusive, rising) these are; the last bin has none.

    ``counts`` has one more than ``edges``. ``below`` and ``above``: by how much, in the mean over all values, they lie beneath
    the first edge and over the last. ``exact``: every value is an edge.
    """

    edges: list[float]
    counts: list[int]
    mean: float = 0.0
    deviation: float = 0.0
    below: float = 0.0
    above: float = 0.0
    exact: bool = False

    @property
    def rows(self) -> int:
        """Values that are there."""
        return sum(self.counts)


class Levels(msgspec.Struct, frozen=True):
    """How many rows hold each category, and how many one that is not listed, since too few rows hold it."""

    counts: dict[str, int]
    rest: int = 0
    once: int = 0
    """Listed categories of a single row: about so many rows, of as many new ones, will hold one that is new (Good 1953)."""

    @property
    def rows(self) -> int:
        """Values that are there."""
        return sum(self.counts.values()) + self.rest


class TextSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What later texts are compared with, beside their forms: no text and no word; none of a private column.

    ``by``: what made the embeddings of some of its texts, 8-bit (texts, numbers) times ``scale``: a frozen encoder, or ``words``.
    ``vocabulary``: 32-bit digests of words, rising. ``unseen``: the share of words that one text alone has, with its standard error.
    """

    by: str
    scale: float
    embeddings: bytes
    vocabulary: bytes
    forms: dict[str, int]
    """How many texts, of those looked at, are of a script and a length."""
    unseen: float
    unseen_error: float


class ColumnSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the model's rows.

    A private one tells no category and no word, not even a digest, no value that fewer than five rows hold, and no least and largest.
    """

    kind: Kind
    nulls: int = 0
    bins: Bins | None = None
    levels: Levels | None = None
    least: float | None = None
    largest: float | None = None
    private: bool = False
    words: list[str] | None = None
    """Of a column of texts the words that many have, none of a private one: its levels are forms of texts, told by these."""
    texts: TextSummary | None = None


class Curve(msgspec.Struct, frozen=True):
    """A map from what a model says to what is seen then, straight between its points."""

    said: list[float]
    seen: list[float]


class Losses(msgspec.Struct, frozen=True):
    """LightGBM models (as its text) of a value's absolute and squared error, by these columns and, last, the prediction.

    Private columns are none of them: the record does not hold these.
    """

    columns: list[str]
    absolute: str
    squared: str
    levels: dict[str, list[str]] = {}
    """The order of a column's categories that the models know, where the summary's columns are of other rows: after a refit."""


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A version's summary: its columns over the rows it was fitted on, its outputs and their quality over rows that were held out."""

    format: int = 0
    task: TaskName
    classes: list[Any] = []
    """In the order of the model's outputs, as the table holds them; empty for regression."""
    labels: list[Any] = []
    """The same as their owner wrote them; empty where that is the same."""
    positive: int = 1
    """The place of the class that a binary metric is of."""
    model_sha256: str = ""
    """Of the fit that was judged: scores, calibration and quality are its own."""
    rows: int
    """Rows of the columns."""
    columns: dict[str, ColumnSummary]
    held_out: int = 0
    """Rows of what follows; 0 where none were at hand: then quality and scores are unknown."""
    scores: dict[str, Bins] = {}
    """Of the positive class's probability, under its place, or of the value, under ``prediction``; of several classes none."""
    answers: list[int] = []
    """How often each class was the likeliest."""
    truths: list[int] = []
    """How often each class was seen."""
    metric: str = ""
    quality: dict[str, Interval] = {}
    calibration: dict[str, Curve] = {}
    """By the place of a class (of two the positive one alone): from its probability to the share of rows that were of it."""
    calibration_error: float | None = None
    losses: Losses | None = None
    """For regression: what its error will be."""

    @property
    def orders(self) -> dict[str, list[str]]:
        """Each column's categories in the order of their codes: that in which models of losses were fitted."""
        own = {name: list(column.levels.counts) for name, column in self.columns.items() if column.levels is not None}
        return own | (self.losses.levels if self.losses is not None else {})

    @property
    def names(self) -> list[str]:
        """The columns, in the model's order."""
        return list(self.columns)

    @property
    def answered(self) -> Sequence[Any]:
        """The classes as every way of prediction says them."""
        return self.labels or self.classes

    def encoded(self) -> bytes:
        """The content of its file."""
        return msgspec.json.encode(self)


def decoded(content: bytes) -> Reference:
    """Read a summary; raises :class:`mlops_pipeline.contract.spec.Unreadable`."""
    return read_as(Reference, content, "summary of a model's rows", FORMAT)
