"""Who holds an API key: what it is good for, and how much of its rates is used up."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from mlops_pipeline.serving.problems import refused

if TYPE_CHECKING:
    from mlops_pipeline.config.keys import Key
    from mlops_pipeline.inference.faults import Refused
    from mlops_pipeline.serving.rates import Bucket, Rates


class Holder:
    """Who holds a key, as one worker knows him."""

    __slots__ = ("_requests", "_rows", "digest", "expires", "models", "name", "scopes")

    def __init__(self, name: str, key: Key, rates: Rates) -> None:
        self.name, self.digest = name, bytes.fromhex(key.digest.removeprefix("sha256:"))
        self.scopes = frozenset(key.scopes)
        self.models = None if key.models is None else frozenset(key.models)
        self.expires = math.inf if key.expires is None else key.expires.timestamp()
        self._requests, self._rows = rates.buckets(self.digest, key.requests_per_s, key.rows_per_s)

    def may_ask(self, model: str) -> bool:
        """Whether the key is good for a model."""
        return self.models is None or model in self.models

    def count_request(self) -> None:
        """Raises :class:`Refused` (429) above the key's rate of requests."""
        if self._requests is not None:
            self._take(self._requests, 1, "requests")

    def count_rows(self, rows: int) -> None:
        """Raises :class:`Refused` (429) above the key's rate of rows."""
        if self._rows is not None:
            self._take(self._rows, rows, "rows")

    def follow(self, before: Holder) -> None:
        """Go on with what the same key has used up already."""
        for own, other in ((self._requests, before._requests), (self._rows, before._rows)):
            if own is not None and other is not None:
                own.follow(other)

    def _take(self, bucket: Bucket, count: int, what: str) -> None:
        wait = bucket.take(count, time.monotonic())
        if wait:
            raise too_fast("rate_limited", f"the key '{self.name}' is good for {bucket.rate:g} {what} a second", wait)


def too_fast(reason: str, what: str, wait: float) -> Refused:
    """A refusal (429) that says after how many seconds to come again."""
    seconds = max(1, math.ceil(wait))
    return refused(429, reason, f"{what}: send again in {seconds} s", ((b"retry-after", b"%d" % seconds),))
