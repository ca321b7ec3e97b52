"""Who holds an API key: what it is good for, and how much of its rates is used up."""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING

from mlops_pipeline.serving.problems import refused

if TYPE_CHECKING:
    from mlops_pipeline.config.keys import Key
    from mlops_pipeline.inference.faults import Reason, Refused
    from mlops_pipeline.serving.rates import Bucket, Rates


class Holder:
    """Who holds a key, as one worker knows him."""

    __slots__ = ("digest", "expires", "models", "name", "requests", "rows", "scopes")

    def __init__(self, name: str, key: Key, rates: Rates) -> None:
        self.name, self.digest = name, bytes.fromhex(key.digest.removeprefix("sha256:"))
        self.scopes = frozenset(key.scopes)
        self.models = None if key.models is None else frozenset(key.models)
        self.expires = math.inf if key.expires is None else key.expires.timestamp()
        self.requests, self.rows = rates.buckets(self.digest, key.requests_per_s, key.rows_per_s)

    def may_ask(self, model: str) -> bool:
        """Whether the key is good for a model."""
        return self.models is None or model in self.models

    def take(self, bucket: Bucket, count: int) -> None:
        """Count ``requests`` or ``rows``, by the bucket of one of them. Raises :class:`Refused` (429) above the key's rate."""
        wait = bucket.take(count, monotonic())
        if wait:
            what = "requests" if bucket is self.requests else "rows"
            raise too_fast("rate_limited", f"the key '{self.name}' is good for {bucket.rate:g} {what} a second", wait)

    def follow(self, before: Holder) -> None:
        """Go on with what the same key has used up already."""
        for own, other in ((self.requests, before.requests), (self.rows, before.rows)):
            if own is not None and other is not None:
                own.follow(other)


def too_fast(reason: Reason, what: str, wait: float) -> Refused:
    """A refusal (429) that says after how many seconds to come again."""
    seconds = max(1, math.ceil(wait))
    return refused(429, reason, f"{what}: send again in {seconds} s", ((b"retry-after", b"%d" % seconds),))
