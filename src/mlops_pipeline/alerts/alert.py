"""An alert as every channel is given it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from mlops_pipeline.config.moments import rfc3339

Kind = Literal["firing", "resolved"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """That a rule is broken, or is no longer. Moments are seconds since 1970."""

    delivery: str
    """Of this message, and of no other: one that comes twice is to be taken once."""
    key: str
    """Of the alert as long as it lasts: what tells of its beginning and of its end has the same."""
    kind: Kind
    rule: str
    pipeline: str
    model: str
    version: str
    severity: str
    figure: str
    value: float | None = None
    text: str
    """What is wrong, in one line."""
    said: str = ""
    """The rule's owner's own words."""
    owner: str = ""
    runbook: str = ""
    began: float
    """When the window ended with which it began."""
    ended: float | None = None
    window: tuple[float, float]
    """From and until when the rows of the last window arrived."""

    @property
    def head(self) -> str:
        """The alert in a few words."""
        return f"{'resolved: ' if self.kind == 'resolved' else ''}{self.pipeline} {self.model}: {self.rule}"

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content


def alert_of(content: bytes | str) -> Alert:
    """The same from JSON."""
    return msgspec.json.decode(content, type=Alert)


def moment(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 writes them."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC), "milliseconds")
