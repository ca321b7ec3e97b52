"""How fast the holder of a key may ask: token buckets, which all workers of a server share where there are several.

A bucket is kept as one number, the moment at which it will be full again (the generic cell rate algorithm), of the monotonic
clock, which all processes of a machine read alike. Several workers keep these numbers in one mapped file and take from them
under a lock of the system's on the bucket's bytes, which goes with a process that is killed.
"""

from __future__ import annotations

import mmap
import os
from array import array
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf
from pathlib import Path
from typing import Any

SLOTS = 4096
"""Keys with a rate that workers can share; the buckets of others are each worker's own."""
SLOT_BYTES = 24
"""Of one key: a part of its digest, and the moments of its two buckets, requests and rows."""
BURST_S = 1.0
AHEAD_S = 0.01
"""What comes in so many seconds is taken ahead, for the requests that follow; nothing at less than 100 a second."""
SOON_S = 1e-9
"""A wait that is none: what rounding leaves."""
TRIES = 200
"""For the lock of a bucket, which others hold for microseconds: one that was stopped in between must not stop all."""


class Bucket:
    """So many a second, on average, and at most a second's worth at once.

    More than a full bucket holds is taken from a full one, and paid off afterwards; so no request is too large for ever.
    """

    __slots__ = ("_ahead", "_cells", "_full_s", "_lock", "_place", "rate", "spare")

    def __init__(self, rate: float, full_s: float = BURST_S, cells: Any = None, place: int = 0, lock: Lock | None = None) -> None:
        """``full_s``: how many seconds' worth a full bucket holds, though one at least."""
        self.rate = rate
        self._full_s = max(full_s, 1 / rate)
        self._cells, self._place, self._lock = array("d", [0.0]) if cells is None else cells, place, lock
        self._ahead, self.spare = float(int(rate * AHEAD_S)), 0.0

    def take(self, count: float, now: float) -> float:
        """0 if ``count`` were there and are taken, else the seconds until they will be. What is ``spare`` has been taken already."""
        if self.spare >= count:
            self.spare -= count
            return 0.0
        if self._lock is None:
            return self._take_ahead(count, now)
        with self._lock:
            return self._take_ahead(count, now)

    def _take_ahead(self, count: float, now: float) -> float:
        needed, ahead = count - self.spare, self._ahead
        if ahead and not self._take(needed + ahead, now):
            self.spare = ahead
            return 0.0
        wait = self._take(needed, now)
        if not wait:
            self.spare = 0.0
        return wait

    def _take(self, count: float, now: float) -> float:
        cells, place, cost = self._cells, self._place, count / self.rate
        used = cells[place] - now if cells[place] > now else 0.0
        wait: float = used + cost - self._full_s
        if cost > self._full_s:
            wait = used
        if wait > SOON_S:
            return wait
        cells[place] = now + used + cost
        return 0.0

    def follow(self, other: Bucket) -> None:
        """Go on where another stands, whatever its rate."""
        self._cells, self._place, self._lock = other._cells, other._place, other._lock


class Lock:
    """One byte of the shared file, held for as long as a block takes, or not at all if others hold it for too long."""

    __slots__ = ("_file", "_held", "_place")

    def __init__(self, file: int, place: int) -> None:
        self._file, self._place, self._held = file, place, False

    def __enter__(self) -> None:
        for _ in range(TRIES):
            try:
                lockf(self._file, LOCK_EX | LOCK_NB, 1, self._place)
            except OSError:
                continue
            self._held = True
            return

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._held = False
            lockf(self._file, LOCK_UN, 1, self._place)


class Rates:
    """Where the buckets of one worker lie: in its own memory, or in a file that all workers map."""

    def __init__(self, shared: Path | None = None) -> None:
        self._file = -1
        if shared is not None:
            self._file = os.open(shared, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._file, SLOTS * SLOT_BYTES)
            held = memoryview(mmap.mmap(self._file, SLOTS * SLOT_BYTES))
            self._owners, self._moments = held.cast("Q"), held.cast("d")

    def buckets(self, digest: bytes, *rates: float | None) -> list[Bucket | None]:
        """The buckets of a key for requests and for rows; None where no rate is given."""
        slot = self._slot(digest) if self._file >= 0 and any(rates) else None
        if slot is None:
            return [None if rate is None else Bucket(rate) for rate in rates]
        first, lock = slot * SLOT_BYTES // 8 + 1, Lock(self._file, slot)
        return [None if rate is None else Bucket(rate, BURST_S, self._moments, first + place, lock) for place, rate in enumerate(rates)]

    def _slot(self, digest: bytes) -> int | None:
        """Where a key's buckets lie for all workers: they take them in any order and come to the same place."""
        owner = int.from_bytes(digest[:8]) | 1
        with Lock(self._file, SLOTS):
            for step in range(SLOTS):
                slot = (owner + step) % SLOTS
                holder = self._owners[slot * SLOT_BYTES // 8]
                if holder in (0, owner):
                    self._owners[slot * SLOT_BYTES // 8] = owner
                    return slot
        return None
