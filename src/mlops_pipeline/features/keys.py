"""Keys of a state as 128 bits of BLAKE2b each: found by bisection in a mapped file, and in no file as what they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

_AT_ONCE = 1 << 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """A moment (UTC where it names no zone) in microseconds since 1970."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _number(value: Any) -> float | None:
    number = float(value) + 0.0  # one zero
    return None if math.isnan(number) else number


def _moment(value: Any) -> int:
    return microseconds(value) if isinstance(value, datetime) else int(value)


_PLAIN: dict[str, Callable[[Any], Any]] = {"number": _number, "integer": int, "boolean": int, "datetime": _moment}


class Keys:
    """How the keys over columns of these kinds become digests; ``salt`` parts those of one recipe from another's."""

    def __init__(self, kinds: Sequence[str], salt: bytes) -> None:
        self.kinds = tuple(kinds)
        self._plain = tuple(_PLAIN.get(kind, str) for kind in kinds)
        self._salt = salt
        self._encode = msgspec.msgpack.Encoder().encode

    def digest(self, key: Sequence[Any]) -> tuple[int, int]:
        """Two unsigned 64-bit numbers for one key of Python values, null as None; a moment is a datetime or µs since 1970."""
        found = self._digest(key)
        return int.from_bytes(found[:8], "little"), int.from_bytes(found[8:], "little")

    def digests_of(self, keys: Sequence[tuple[Any, ...]]) -> NDArray[np.uint64]:
        """The same of many: (keys, 2)."""
        return np.frombuffer(b"".join(map(self._digest, keys)), "<u8").reshape(-1, 2)

    def _digest(self, key: Sequence[Any]) -> bytes:
        plain = [None if value is None else of(value) for of, value in zip(self._plain, key, strict=True)]
        return blake2b(self._encode(plain), digest_size=16, key=self._salt).digest()

    def digests(self, columns: Sequence[pl.Series]) -> NDArray[np.uint64]:
        """The same of many keys: (keys, 2). Without columns there is one key, the empty one."""
        if not self.kinds:
            return np.array([self.digest(())], dtype=np.uint64)
        count = len(columns[0])
        made = np.empty((count, 2), dtype=np.uint64)
        for begin in range(0, count, _AT_ONCE):
            parts = [column.slice(begin, _AT_ONCE).to_list() for column in map(plain, columns, self.kinds)]
            made[begin : begin + _AT_ONCE] = np.frombuffer(b"".join(self._each(zip(*parts, strict=True))), "<u8").reshape(-1, 2)
        return made

    def _each(self, keys: Iterator[tuple[Any, ...]]) -> Iterator[bytes]:
        encode, begun = self._encode, blake2b(digest_size=16, key=self._salt)
        for key in keys:
            found = begun.copy()
            found.update(encode(key))
            yield found.digest()


def plain(values: pl.Series, kind: str) -> pl.Series:
    """A column as the values that are compared: Float64 without NaN and with one zero, Int64 (moments in µs), or String."""
    import polars as pl

    if kind == "datetime" and values.dtype.is_integer():
        return values.cast(pl.Int64)
    return values.to_frame().select(compared(pl.col(values.name), kind)).to_series()


def compared(column: pl.Expr, kind: str) -> pl.Expr:
    """The same as an expression; a moment is a Datetime."""
    import polars as pl

    if kind == "number":
        return column.cast(pl.Float64).fill_nan(None) + 0.0
    if kind in ("integer", "boolean"):
        return column.cast(pl.Int64)
    if kind == "datetime":
        return column.cast(pl.Datetime("us")).cast(pl.Int64)
    return column.cast(pl.String)
