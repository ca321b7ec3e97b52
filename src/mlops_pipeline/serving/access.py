"""Who may ask for what, and how fast: from a request's credentials to the name of the key's holder, or a refusal.

One :class:`Access` serves one worker, on its loop's thread. No key is kept, only digests.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mlops_pipeline.serving.holder import Holder, too_fast
from mlops_pipeline.serving.problems import refused
from mlops_pipeline.serving.rates import Bucket, Rates

if TYPE_CHECKING:
    from mlops_pipeline.config.keys import Key
    from mlops_pipeline.config.serving import Limits
    from mlops_pipeline.inference.faults import Refused
    from mlops_pipeline.serving.request import Request

log = logging.getLogger("mlops.serving")

ADDRESSES = 10_000
"""Addresses whose wrong keys are remembered, the latest."""
PREFIX = 64
"""Bits of an IPv6 address that tell a client from another: the rest he chooses himself."""
WRONG_KEYS: Final = "wrong_keys"
"""The reason of a refusal that the log is not told of each time: whoever tries keys would fill it."""
_ASKS = ((b"www-authenticate", b"Bearer"),)


class Access:
    """The keys of one worker, and the addresses that wrong ones came from."""

    def __init__(self, keys: Mapping[str, Key], limits: Limits, rates: Rates | None = None) -> None:
        self._rates = rates or Rates()
        self._wrong = WrongKeys(limits)
        self._holders: dict[bytes, Holder] = {}
        self.use(keys)

    def use(self, keys: Mapping[str, Key]) -> None:
        """Know these keys from now on, and no others. A key that stays goes on with the buckets that it has."""
        before, made = self._holders, dict[bytes, Holder]()
        self.keys = dict(keys)
        for name, key in keys.items():
            holder = Holder(name, key, self._rates)
            known = before.get(holder.digest)
            if known is not None:
                holder.follow(known)
            made.setdefault(holder.digest, holder)
        self._holders = made

    def limit(self, limits: Limits) -> None:
        """Let wrong keys be as many as these limits say."""
        self._wrong = WrongKeys(limits)

    def admit(self, request: Request, client: Sequence[Any] | None, scope: str, model: str = "") -> Holder:
        """The holder of the request's key, if it is good for what is asked and for one request more.

        Raises :class:`Refused`: 401 without a key that is known and not expired, 403 where it has not the right, 429 where it is
        asked too fast or wrong keys come from the client's address (its first part) too often. A right key is let in from any
        address: behind a proxy all clients have the same one.
        """
        for credential in request.credentials:
            digest = hashlib.sha256(credential).digest()
            holder = self._holders.get(digest)
            # Found by a hash of its own that nobody outside can tell; whether it is the same is asked in constant time.
            if holder is not None and hmac.compare_digest(holder.digest, digest):
                break
        else:
            raise (
                self._wrong.refusal(client[0] if client else "", len(request.credentials))
                if request.credentials
                else _unknown("an API key is needed: send Authorization: Bearer KEY")
            )
        request.holder = holder
        if request.arrived >= holder.expires:
            raise refused(401, "key_expired", f"the API key '{holder.name}' has expired: ask for a new one", _ASKS)
        if scope not in holder.scopes:
            raise refused(403, "forbidden", f"the API key '{holder.name}' has not the scope '{scope}'")
        if model and holder.models is not None and model not in holder.models:
            raise refused(403, "forbidden", f"the API key '{holder.name}' is not good for the model '{model}'")
        bucket = holder.requests
        if bucket is not None:
            if bucket.spare >= 1:
                bucket.spare -= 1
            else:
                holder.take(bucket, 1)
        return holder


class WrongKeys:
    """Wrong keys by address: so many at once, and again as many in each ``wrong_keys_s``. Only the latest addresses are kept."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._of: OrderedDict[str, Bucket] = OrderedDict()
        self._slowed: set[str] = set()

    def __len__(self) -> int:
        return len(self._of)

    def refusal(self, address: str, keys: int = 1) -> Refused:
        """What so many wrong keys from an address get: 401, or 429 if there were too many. The log is told of the first of these alone."""
        network, limits = _network(address), self._limits
        bucket = self._of.pop(network, None) or Bucket(limits.wrong_keys / limits.wrong_keys_s, limits.wrong_keys_s)
        self._of[network] = bucket
        if len(self._of) > ADDRESSES:
            self._slowed.discard(self._of.popitem(last=False)[0])
        wait = bucket.take(keys, time.monotonic())
        if not wait:
            self._slowed.discard(network)
            return _unknown("the API key is not one of this server's")
        if network not in self._slowed:
            self._slowed.add(network)
            log.warning("slows wrong keys down", extra={"address": network})
        return too_fast(WRONG_KEYS, "too many wrong API keys came from this address", wait)


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found), PREFIX), strict=False))


def _unknown(what: str) -> Refused:
    return refused(401, "unauthorized", what, _ASKS)
