"""What held-out rows said of a model: written by evaluation as ``evaluation.json``, read by whatever judges, shows or serves it."""

from __future__ import annotations

from typing import Any

import msgspec

from mlops_pipeline.contract.spec import RESTORE, read_as

FORMAT = 1
"""The structure's version. Files of before it was one have 0, and the same fields, no ``twins``."""

FILE = "evaluation.json"

Figure = float | None
"""A number, or None where it could not be measured."""


class Interval(msgspec.Struct, frozen=True):
    """A figure with its bootstrap interval, which is None where rows, or what they belong to, are too few to tell it."""

    value: Figure = None
    low: Figure = None
    high: Figure = None


class Bin(msgspec.Struct, frozen=True):
    """Rows of like predictions: the mean of what was said of them, and of what was seen."""

    predicted: Figure = None
    observed: Figure = None
    rows: int = 0


class Slice(msgspec.Struct, frozen=True):
    """The rows with one value of one column, and the metric on them; of the worst, with its interval."""

    column: str
    value: str
    rows: int = 0
    metric: Figure = None
    low: Figure = None
    high: Figure = None


class Importance(msgspec.Struct, frozen=True):
    """How much of the metric is lost when a column is shuffled, and the spread of that: none where it was shuffled once."""

    feature: str
    drop: Figure = None
    spread: Figure = None


class MaskedWord(msgspec.Struct, frozen=True):
    """By how much a model's output falls, in the mean, when a word is taken out of a text; ``rows``: those that have it."""

    word: str
    weight: float
    rows: int = 0


class TextExample(msgspec.Struct, frozen=True):
    """A held-out text in pieces, each with its weight; what was true and what the model said."""

    truth: str
    said: str
    pieces: list[tuple[str, float]] = []


class TextImportance(msgspec.Struct, frozen=True):
    """What of a text the model listens to. A private column has none."""

    column: str
    rows: int = 0
    listed: list[MaskedWord] = []
    """The greatest weight first."""
    examples: list[TextExample] = []
    place: int = -1
    """Of two classes the one whose probability is looked at."""


class TwinReport(msgspec.Struct, frozen=True):
    """What became of a twin in another format."""

    accepted: bool = False
    max_difference: Figure = None
    reason: str = ""


SWITCHED_OFF = TwinReport(reason="switched off")


class OnAllRows(msgspec.Struct, frozen=True):
    """A fit on all rows, made after the judged one had passed, and what became of its twins."""

    rows: int = 0
    fitted_until: str = ""
    model_sha256: str = ""
    judged_model_sha256: str = ""
    judged_rows: int = 0
    onnx: TwinReport = SWITCHED_OFF
    twins: dict[str, TwinReport] = {}


class AgainstChampion(msgspec.Struct, frozen=True):
    """The model and the champion of then on the same rows; ``reason`` says why not, where they are not comparable.

    Where they are, it says what cannot be ruled out: that the champion has seen some of the rows.
    """

    version: int = 0
    content_sha256: str = ""
    model_sha256: str = ""
    comparable: bool = False
    reason: str = ""
    metric: Figure = None
    improvement: Interval = Interval()
    """Above 0 where the model is better."""
    share_of_resamples_worse: Figure = None
    lower_is_better: bool = False
    rows: int = 0
    """Those that the champion had not been fitted on, as far as is known."""
    fit: str = ""
    """Of the champion: what is ``served``, or the one that was ``judged`` before it was made on all rows."""
    simpler: str = ""
    """The champion's estimator, where it is fitted without a library that the model's needs."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation. ``metric`` is the one that versions are compared by, and a key of ``metrics`` and ``baseline``."""

    format: int = 0
    pipeline: str = ""
    metric: str = ""
    confidence: float = 0.95
    resamples: int = 0
    test_rows: int = 0
    test_things: int | None = None
    """How many groups the held-out rows are in, by ``split.together``, a patient's each or a row's that names none; None: no such."""
    test_sha256: str = ""
    test_span: str = ""
    train_span: str = ""
    split: str = ""
    warning: str | None = None
    metrics: dict[str, Interval] = {}
    baseline: dict[str, Figure] = {}
    """Of the dummy that says the training rows' class shares, or their mean; of ``mae`` their median, of ``f1`` the positive class."""
    improvement_over_baseline: Interval = Interval()
    calibration: list[Bin] = []
    calibration_error: Figure = None
    calibration_error_by_chance: Figure = None
    """What it would be about, were every probability right: of few rows, shares are off by chance."""
    slices: list[Slice] = []
    """Worst first."""
    worst_slice: Slice | None = None
    champion: AgainstChampion | None = None
    importance: list[Importance] = []
    texts: list[TextImportance] = []
    """What of each text column the model listens to."""
    random_split: Figure = None
    onnx: TwinReport = TwinReport()
    twins: dict[str, TwinReport] = {}
    """Of formats beside ours."""
    classes: dict[str, Any] | None = None
    """Scores of each class, what it was taken for, and classes that training never saw."""
    table: dict[str, Any] | None = None
    """What became of the source's rows and columns."""
    refit: OnAllRows | None = None

    def as_json(self) -> dict[str, Any]:
        """Ready for ``evaluation.json``."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content

    def __getitem__(self, key: str) -> Any:
        """As in the file, for gate rules that were written before this was a type."""
        return self.as_json()[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The same, with a default."""
        return self.as_json().get(key, default)


def evaluation_of(content: bytes) -> Evaluation:
    """Read an evaluation, also one of an earlier version; raises :class:`mlops_pipeline.contract.spec.Unreadable`."""
    return read_as(Evaluation, content, "evaluation of a model", FORMAT, RESTORE)
