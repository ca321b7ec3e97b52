"""Why a request is refused: one type for every protocol, as RFC 9457 problem details unless a protocol has its own shape."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

SHOWN_FAULTS = 20
"""Faults listed in one answer; a body of thousands of bad rows is told of its first ones."""

TITLES = {
    400: "Bad request",
    401: "Not authorised",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    413: "Too large",
    431: "Headers too large",
    415: "Unsupported content type",
    422: "Invalid input",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available",
}


RETRY = ((b"retry-after", b"1"),)


class Fault(NamedTuple):
    """One thing wrong with the input. ``reason`` is a word for metrics; ``detail`` may show the value, so it is never logged."""

    reason: str
    detail: str
    row: int | None = None
    column: str | None = None

    @property
    def place(self) -> str:
        """Reason, row and column, without any value; a name that is none of the model's is a client's word, and may be a value."""
        where = [f"row {self.row}"] if self.row is not None else []
        where += [f"column '{self.column}'"] if self.column is not None and self.reason not in ("unknown_column", "malformed") else []
        return f"{self.reason} ({', '.join(where)})" if where else self.reason


class Refused(Exception):
    """A request that gets an error as its answer; nothing of it was predicted."""

    def __init__(self, status: int, faults: list[Fault], headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(faults[0].detail)
        self.status, self.faults, self.headers = status, faults, headers

    @property
    def reason(self) -> str:
        return self.faults[0].reason

    @property
    def place(self) -> str:
        return self.faults[0].place


def refused(status: int, reason: str, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Refused:
    """A refusal that concerns the whole request."""
    return Refused(status, [Fault(reason, detail)], headers)


def problem_details(refusal: Refused, request_id: str) -> bytes:
    """The body of an ``application/problem+json`` answer (RFC 9457); ``type`` is relative to this server's page of problems."""
    first, count = refusal.faults[0], len(refusal.faults)
    content: dict[str, Any] = {
        "type": f"/docs#{first.reason}",
        "title": TITLES[refusal.status],
        "status": refusal.status,
        "detail": first.detail + (f" (and {count - 1} more)" if count > 1 else ""),
        "request_id": request_id,
    }
    if first.row is not None or first.column is not None:
        content["errors"] = [
            {"row": fault.row, "column": fault.column, "reason": fault.reason, "detail": fault.detail}
            for fault in refusal.faults[:SHOWN_FAULTS]
        ]
    return msgspec.json.encode(content)
