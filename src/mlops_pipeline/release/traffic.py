"""Which arm of a release answers a unit: the same one in every worker and on every machine, for as long as weights only grow.

A unit is what sticks to an arm: a user, a client's id, or a request where nothing better is known.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from math import ceil

_DIGITS = 53
"""A float's own."""


def share_of(salt: str, unit: str, purpose: bytes = b"arm") -> float:
    """Where a unit stands in [0, 1): evenly spread, and for another ``salt`` (hexadecimal) or ``purpose`` as if drawn again.

    The challenger answers a unit whose share is below its weight, so that a weight that grows moves no unit away from it.
    """
    keyed = _keyed(salt, purpose).copy()
    keyed.update(unit.encode("utf-8", "surrogatepass"))
    return (int.from_bytes(keyed.digest(), "big") >> 64 - _DIGITS) * 2.0**-_DIGITS


def unit_on_record(salt: str, unit: str) -> str:
    """What stands for a unit on record: alike for alike units of one release, and nothing else can be told of it."""
    keyed = _keyed(salt, b"record").copy()
    keyed.update(unit.encode("utf-8", "surrogatepass"))
    return keyed.hexdigest()


class Taken:
    """Whether units are below a weight: what :func:`share_of` says, in half the time, and at once where all are or none."""

    __slots__ = ("_below", "_keyed", "every")

    def __init__(self, salt: str, weight: float, purpose: bytes = b"arm") -> None:
        below = ceil(min(max(weight, 0.0), 1.0) * 2**_DIGITS)
        self.every = {0: False, 2**_DIGITS: True}.get(below)
        """What holds of every unit; None where it depends on the unit."""
        self._keyed = _keyed(salt, purpose).copy
        self._below = b"" if self.every else (below << 64 - _DIGITS).to_bytes(8, "big")

    def has(self, unit: str) -> bool:
        """Whether the unit's share is below the weight."""
        if self.every is not None:
            return self.every
        keyed = self._keyed()
        keyed.update(unit.encode("utf-8", "surrogatepass"))
        return keyed.digest() < self._below


@lru_cache(64)
def _keyed(salt: str, purpose: bytes) -> blake2b:
    return blake2b(key=bytes.fromhex(salt), person=purpose, digest_size=8)
