"""Why a request is refused: one type for every protocol, as RFC 9457 problem details unless a protocol has its own shape."""

from __future__ import annotations

from typing import Any

import msgspec

from mlops_pipeline.inference.faults import SHOWN_FAULTS, Fault, Reason, Refused

TITLES = {
    400: "Bad request",
    401: "Not authorised",
    403: "Refused",
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


def refused(status: int, reason: Reason, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Refused:
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
