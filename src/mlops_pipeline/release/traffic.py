"""Which arm of a release answers a unit: the same one in every worker and on every machine, for as long as weights only grow.

A unit is what sticks to an arm: a user, a client's id, or a request where nothing better is known.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

_DIGITS = 53
"""A float's own."""


def share_of(salt: str, unit: str, purpose: bytes = b"arm") -> float:
    """Where a unit stands in [0, 1): evenly spread, and for another ``salt`` (hexadecimal) or ``purpose`` as if drawn again.

    The challenger answers a unit whose share is below its weight, so that a weight that grows moves no unit away from it.
    """
    keyed = _keyed(salt, purpose).copy()
    keyed.update(unit.encode("utf-8", "surrogatepass"))
    return (int.from_bytes(keyed.digest(), "big") >> 64 - _DIGITS) * 2.0**-_DIGITS


@lru_cache(64)
def _keyed(salt: str, purpose: bytes) -> blake2b:
    return blake2b(key=bytes.fromhex(salt), person=purpose, digest_size=8)
