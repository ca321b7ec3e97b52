"""A model's contract: written by training as ``training.json``, read by whatever predicts, serves, watches or judges the model."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from mlops_pipeline.contract.dialect import PLAIN, Dialect
from mlops_pipeline.contract.task import TASKS, Task
from mlops_pipeline.contract.values import NULL_WORDS

FORMAT = 1
"""The contract's version. Files of before there was one have 0: no null words, no labels, no recipe."""

FILE = "training.json"
JUDGED = "judged"
"""Folder of the fit that was judged, beside the one that was made after it on all rows."""
NUMBERS, CATEGORIES = "numbers", "categories"
"""The two inputs of every engine: float32 (rows, numbers) and text (rows, categories); one is None if there are no such columns."""

AS_TEXT = frozenset({"category", "text", "datetime"})
"""Kinds of columns that engines take among the categories: as text, a moment as ``contract.moments`` writes it."""


class Unreadable(Exception):
    """A contract that cannot be read; the message is one line without the file's name."""


class Column(msgspec.Struct, frozen=True):
    """One input column: its kind, and what a row may hold there."""

    kind: str
    min: float | None = None
    max: float | None = None
    nullable: bool = True
    private: bool = False
    format: str | None = None
    """How a text of the column is written, where that is not the usual way (see ``contract.values.written_as``)."""
    null_values: tuple[str, ...] | None = None
    """Texts that stand for null in this column; None: the contract's."""


class History(msgspec.Struct, frozen=True):
    """A column of the target's mean over earlier days (``days`` of them), of rows with the same key, drawn to the overall mean."""

    days: int
    by: tuple[str, ...] = ()
    prior_rows: int = 0


class Aggregate(msgspec.Struct, frozen=True, kw_only=True):
    """A column of what earlier rows with the same key held, each counted from ``known_after_us`` after its moment on.

    For a row at t these are the rows at a moment in [t - known_after - window, t - known_after), all before if there is no window.
    """

    how: str
    """mean, sum, count, min, max, last, distinct or share."""
    of: str | None = None
    """The column whose values these are, nulls left out; None for a count of rows."""
    value: str | float | bool | None = None
    """Of a share: which value's."""
    by: tuple[str, ...] = ()
    window_us: int | None = None
    known_after_us: int = 0


class Recipe(msgspec.Struct, frozen=True):
    """How columns of the table were made from those of its source, in the order of the fields."""

    lookups: tuple[dict[str, Any], ...] = ()
    """Tables joined by equal keys: where each lies, its ``keys``, and the ``columns`` that it gives."""
    derive: dict[str, str] = {}
    """SQL expressions over a row."""
    counts: dict[str, tuple[str, ...]] = {}
    """How many rows of the table share these columns."""
    history: dict[str, History] = {}
    """The target's mean over earlier days."""
    target: str = ""
    time_column: str | None = None
    aggregates: dict[str, Aggregate] = {}
    """What earlier rows with the same key held."""

    @property
    def late(self) -> tuple[str, ...]:
        """Columns that need more than their own row."""
        return (*self.counts, *self.history, *self.aggregates)


class Card(msgspec.Struct, frozen=True):
    """What a model's owner says of it, in their own words; empty where they say nothing."""

    owner: str = ""
    intended_use: str = ""
    limits: str = ""


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and says, and what it was made of."""

    format: int = 0
    task: str
    target: str = ""
    classes: list[Any] = []
    """The target's values in the model's order, as the table holds them; empty for regression."""
    labels: list[Any] = []
    """The same as their owner wrote them; empty where that is the same."""
    columns: dict[str, Column]
    categories: dict[str, list[str]] = {}
    """For each category column, the values that training saw in at least ``min_level_rows`` rows."""
    ranges: dict[str, tuple[float, float]] = {}
    """For each column of numbers or integers that is not private, the least and the greatest value that training saw."""
    min_level_rows: int = 1
    """Values of a category that fewer rows had are not among ``categories``: they were learned as unseen ones."""
    private: tuple[str, ...] = ()
    """The table's private columns, whether the model takes them or not."""
    keep_whole_rows: bool = False
    """Whether rows that are set aside keep their private columns."""
    null_values: tuple[str, ...] = NULL_WORDS
    """Texts that stand for null."""
    dialect: Dialect = PLAIN
    """How files are written, unless they turn out to be written otherwise."""
    recipe: Recipe = Recipe()
    raw: dict[str, Column] = {}
    """What a row of the source holds that ``columns`` are made of, by the source's names; empty where they are the source's own."""
    made_of: dict[str, tuple[str, ...]] = {}
    """For each of ``columns`` that the recipe makes, the columns of ``raw`` that it is made of."""
    raw_example: dict[str, Any] = {}
    """For each column of ``raw`` a value that many rows have: together they are nobody's row."""
    made: dict[str, Column] = {}
    """Every column that the recipe makes on the way from ``raw`` to ``columns``, whether the model takes it or not."""
    expressions: dict[str, Any] = {}
    """Of ``made``'s derived columns those that plain Python derives too, to the bit (``features.translated``)."""
    estimator: str = ""
    params: dict[str, Any] = {}
    encoder_params: dict[str, Any] = {}
    tuning: dict[str, Any] = {}
    race: dict[str, Any] = {}
    """How the estimator ``auto`` came to its choice (``docs/race.md``); empty if an estimator was named."""
    parts: list[dict[str, str]] = []
    """Parts of others that the model needs: kind, name and owner of each."""
    card: Card = Card()
    seed: int = 0
    model_sha256: str = ""
    model_bytes: int = 0
    train_rows: int = 0
    train_sha256: str = ""
    fitted_until: str = ""
    """The newest moment (UTC) of the rows it was fitted on; empty if these were not split by time."""
    entity_key: tuple[str, ...] = ()
    """Columns whose values, with ``/`` between them, name what a row is of: labels that come late are joined by them."""
    time_column: str = ""
    """The column of a row's moment; empty where rows have none."""
    judged_sha256: str = ""
    """``model_sha256`` of the fit that was judged, if this one was made after it on all rows; it lies in ``judged/``."""

    @property
    def kind(self) -> Task:
        """What its task is."""
        return TASKS[self.task]

    @property
    def own_format(self) -> str:
        """The format that is the model's own, not a twin of it."""
        return next((part["name"] for part in self.parts if part["kind"] == "format"), "skops")

    @property
    def answers(self) -> list[Any]:
        """The classes as every way of prediction says them."""
        return self.labels or self.classes

    @property
    def encoder(self) -> str | None:
        """The feature encoder's name; None in contracts of before, whose estimator says it."""
        return next((part["name"] for part in self.parts if part.get("kind") == "encoder"), None)

    @property
    def set_aside_without(self) -> frozenset[str]:
        """The columns of which rows that are set aside hold no value."""
        named = {*self.private, *(name for name, column in self.columns.items() if column.private)}
        return frozenset() if self.keep_whole_rows else frozenset(named)

    @property
    def features(self) -> dict[str, str]:
        """The kinds of its columns."""
        return {name: column.kind for name, column in self.columns.items()}

    def as_json(self) -> dict[str, Any]:
        """Ready for ``training.json``."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content


RESTORE = "restore the file, or train again"


class _Versioned(Protocol):
    @property
    def format(self) -> int: ...


Of = TypeVar("Of", bound=_Versioned)


def read_as(kind: type[Of], content: bytes, what: str, newest: int, remedy: str = "") -> Of:
    """Read what travels with a model, also as an earlier version wrote it; raises :class:`Unreadable`."""
    try:
        found = msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"is no {what} ({error}){': ' * bool(remedy)}{remedy}") from error
    if found.format > newest:
        raise Unreadable(f"has the format {found.format}, newer than {newest}: install a newer mlops-pipeline")
    return found


def contract_of(content: bytes) -> Contract:
    """Read a contract, also one of an earlier version; raises :class:`Unreadable`."""
    contract = read_as(Contract, content, "contract of a model", FORMAT, RESTORE)
    if contract.task not in TASKS:
        raise Unreadable(f"names the unknown task '{contract.task}': train again, or install the version that knows it")
    if contract.kind.has_classes and not contract.classes:
        raise Unreadable("names no `classes`: train again")
    if not contract.columns:
        raise Unreadable("names no column: train again")
    return contract
