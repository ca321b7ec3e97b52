"""What decides of an arm: a request's unit, whether a challenger fits, what its failures are called, and when there are too many."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.inference import compatible
from mlops_pipeline.inference.compatible import Accepted
from mlops_pipeline.inference.engine import NotFinite
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.raw import RawRows

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Breaker as BreakerSettings
    from mlops_pipeline.inference.signature import Rows, Signature
    from mlops_pipeline.serving.models import Loaded
    from mlops_pipeline.serving.served import Served

# -------------------------------------------------------------------------------------------------------------- a unit


def header_of(name: bytes, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """What a request's header says, the first of that name in small letters; None if there is none or it is empty."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1") or None
    return None


def id_of(given: Rows | RawRows) -> str | None:
    """The one id that all rows of a request have; None if there is none, or more than one."""
    ids = (given.rows if isinstance(given, RawRows) else given).ids
    return ids[0] if ids and (len(ids) == 1 or ids.count(ids[0]) == len(ids)) and ids[0] else None


def value_of(name: str, given: Rows | RawRows, champion: Served) -> str | None:
    """The one value that all rows have in a column, as text; None if there is none, or more than one."""
    rows, signature = given, champion.signature
    if isinstance(given, RawRows):
        assert champion.loaded.raw is not None  # noqa: S101  # else no row is raw
        rows, signature = given.rows, champion.loaded.raw.signature
    return _only_value(name, rows, signature)  # type: ignore[arg-type]


def _only_value(name: str, rows: Rows, signature: Signature) -> str | None:
    if name in signature.categories and rows.categories is not None:
        texts = rows.categories[:, signature.categories.index(name)].tolist()
        return texts[0] if texts[0] != MISSING and texts.count(texts[0]) == len(texts) else None
    if name in signature.numbers and rows.numbers is not None:
        numbers = rows.numbers[:, signature.numbers.index(name)].tolist()
        first = numbers[0]
        if first != first or numbers.count(first) != len(numbers):  # noqa: PLR0124  # NaN is null
            return None
        return str(int(first)) if first.is_integer() else repr(first)
    return None


# ----------------------------------------------------------------------------------------------- may it answer at all


def why_unfit(champion: Served, challenger: Loaded) -> str:
    """Why requests that the champion answers cannot be given to another version; empty if they can."""
    raw, other_raw = champion.loaded.raw, challenger.raw
    return compatible.why_unfit(
        Accepted(champion.signature, None if raw is None else raw.signature, champion.only_raw),
        Accepted(challenger.signature, None if other_raw is None else other_raw.signature, champion.only_raw),
    )


READ_BY = (
    "numbers", "categories", "columns", "seen", "null_words", "reject_unseen", "refuse_extra", "max_rows", "lengths", "dialect",
    "precision", "wide", "trimmed",
)  # fmt: skip
"""Of a signature: what decides how a request's rows are read, and which are refused."""


def are_read_alike(champion: Served, challenger: Served) -> bool:
    """Whether rows of finished features that the champion has read are what the challenger would read."""
    if champion.loaded.raw is not None or challenger.loaded.raw is not None:
        return False
    one, other = champion.signature, challenger.signature
    return all(getattr(one, name) == getattr(other, name) for name in READ_BY)


def reason_of(error: Exception) -> str:
    """Why a challenger did not answer, in a word for figures."""
    if isinstance(error, NotFinite):
        return "not_finite"
    if isinstance(error, Refused):
        return {"deadline": "late", "queue_full": "queue_full"}.get(error.reason, "refused")
    return "failed"


def why_of(version: str, error: Exception) -> str:
    """The same in short words for the record: never a value of a column."""
    reason = reason_of(error)
    more = (
        f" {error.reason}"
        if isinstance(error, Refused) and reason == "refused"
        else f" {type(error).__name__}"
        if reason == "failed"
        else ""
    )
    return f"version {version}: {reason}{more}"


# --------------------------------------------------------------------------------------------------------- its breaker


class Breaker:
    """Counts what a challenger did with the requests that were its own; trips for good, until it is made anew."""

    def __init__(self) -> None:
        self.reason = ""
        """Why it has tripped; empty if it has not."""
        self._asked = self._in_a_row = 0
        self._failures: deque[int] = deque()
        """Of which of the requests, counted from the first."""

    def succeeded(self) -> None:
        """One more request that was the challenger's own to the end."""
        self._asked += 1
        self._in_a_row = 0

    def failed(self, settings: BreakerSettings) -> bool:
        """One more that the champion had to answer; true where this one trips it."""
        if self.reason:
            return False
        self._asked += 1
        self._in_a_row += 1
        failures = self._failures
        failures.append(self._asked)
        while failures[0] <= self._asked - settings.last:
            failures.popleft()
        if self._in_a_row >= settings.in_a_row:
            self.reason = f"{self._in_a_row} failures in a row"
        elif len(failures) >= max(settings.in_a_row, settings.share * settings.last):
            self.reason = f"{len(failures)} failures among the last {min(self._asked, settings.last)}"
        return bool(self.reason)
