"""Expressions over one row in plain Python: what a recipe's SQL says, as lists that JSON holds, and the functions they become.

``features.translated`` makes them of SQL, where they are known to give what training's engine gives, to the bit. An expression is
``["column", name]``, ``["value", constant]`` or ``[operation, argument, …]``; null is None, and so is the result of an operation with a
null among its arguments, but for those in :data:`_OF_NULLS`. Integers have a width, at which they wrap around.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from mlops_pipeline.contract.moments import moment_in
from mlops_pipeline.contract.spec import Column
from mlops_pipeline.contract.values import LARGEST_INTEGER, spelled

Row = Sequence[Any]
Function = Callable[[Row], Any]
"""From a row's values, in the order they were told, to a value."""

WHITE = "".join(map(chr, (*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)))
"""What Unicode calls white space."""


def function_of(expression: Sequence[Any], places: Mapping[str, int]) -> Function:
    """The function of an expression; ``places`` say where a row holds each column."""
    operation, *arguments = expression
    if operation == "column":
        place = places[arguments[0]]
        return lambda row: row[place]
    if operation == "value":
        constant = arguments[0]
        return lambda _row: constant
    if operation == "wrapped":
        bits, signed, inner = arguments
        return _wrapped(bits, signed, function_of(inner, places))
    if operation == "in":
        return _among(function_of(arguments[0], places), frozenset(arguments[1]))
    made = [function_of(argument, places) for argument in arguments]
    if operation in _OF_NULLS:
        return _OF_NULLS[operation](*made)
    of = _OPERATIONS[operation]
    return _of_one(of, made[0]) if len(made) == 1 else _of_two(of, *made) if len(made) == 2 else _of_several(of, made)


def columns_of(expression: Sequence[Any]) -> set[str]:
    """The columns that an expression reads."""
    operation, *arguments = expression
    if operation == "column":
        return {arguments[0]}
    if operation == "value":
        return set()
    inner = {"in": arguments[:1], "wrapped": arguments[2:]}.get(operation, arguments)
    return set[str]().union(*map(columns_of, inner))


def _of_one(of: Callable[[Any], Any], one: Function) -> Function:
    def made(row: Row) -> Any:
        value = one(row)
        return None if value is None else of(value)

    return made


def _of_two(of: Callable[[Any, Any], Any], one: Function, other: Function) -> Function:
    def made(row: Row) -> Any:
        left, right = one(row), other(row)
        return None if left is None or right is None else of(left, right)

    return made


def _of_several(of: Callable[..., Any], each: Sequence[Function]) -> Function:
    def made(row: Row) -> Any:
        values = [one(row) for one in each]
        return None if None in values else of(*values)

    return made


def _wrapped(bits: int, signed: bool, inner: Function) -> Function:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    span = 1 << bits

    def made(row: Row) -> Any:
        value = inner(row)
        return value if value is None or low <= value <= high else (value - low) % span + low

    return made


def _among(inner: Function, values: frozenset[Any]) -> Function:
    def made(row: Row) -> Any:
        value = inner(row)
        return None if value is None else value in values

    return made


def _if(predicate: Function, then: Function, otherwise: Function) -> Function:
    return lambda row: then(row) if predicate(row) else otherwise(row)


def _first(*each: Function) -> Function:
    return lambda row: next((value for one in each if (value := one(row)) is not None), None)


def _joined(*each: Function) -> Function:
    return lambda row: "".join(str(value) for one in each if (value := one(row)) is not None)


def _settled(by: bool, one: Function, other: Function) -> Function:
    """AND, which one false side settles, and OR, which a true one does: whatever the other is, null too."""

    def made(row: Row) -> Any:
        left, right = one(row), other(row)
        return by if left is by or right is by else None if left is None or right is None else not by

    return made


def _extreme(pick: Callable[[Sequence[int]], int]) -> Callable[..., Function]:
    def of(*each: Function) -> Function:
        def made(row: Row) -> Any:
            values = [value for one in each if (value := one(row)) is not None]
            return pick(values) if values else None

        return made

    return of


_OF_NULLS: dict[str, Callable[..., Function]] = {
    "if": _if,
    "first": _first,
    "joined": _joined,
    "and": partial(_settled, False),
    "or": partial(_settled, True),
    "greatest": _extreme(max),
    "least": _extreme(min),
    "is null": lambda one: lambda row: one(row) is None,
    "is not null": lambda one: lambda row: one(row) is not None,
}


def _over(left: float, right: float) -> float:
    """IEEE 754's quotient, which by zero is infinite or no number."""
    if right:
        return left / right
    return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1.0, right)


def _rest(left: int, right: int) -> int | None:
    return None if right == 0 else int(math.copysign(1, left)) * (abs(left) % abs(right))


def _whole(left: int, right: int) -> int | None:
    return None if right == 0 else abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _rounded(to: Callable[[float], int]) -> Callable[[float], float]:
    def made(value: float) -> float:
        return math.copysign(float(to(value)), value) if math.isfinite(value) else value

    return made


_even = _rounded(round)


def _order(value: float) -> tuple[bool, float]:
    """What numbers are compared by: NaN equals itself, and is greater than any other."""
    return (True, 0.0) if math.isnan(value) else (False, value)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _over,
    "%": _rest,
    "//": _whole,
    "=": lambda left, right: left == right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "float =": lambda left, right: _order(left) == _order(right),
    "float <": lambda left, right: _order(left) < _order(right),
    "float <=": lambda left, right: _order(left) <= _order(right),
    "float >": lambda left, right: _order(left) > _order(right),
    "float >=": lambda left, right: _order(left) >= _order(right),
    "not": lambda value: not value,
    "float": float,
    "text": str,
    "abs": abs,
    "floor": _rounded(math.floor),
    "ceil": _rounded(math.ceil),
    "round": lambda value, power: _even(scaled) / power if math.isfinite(scaled := value * power) else value,
    "negated": lambda value: -value,
    "true": bool,
    "sqrt": lambda value: math.sqrt(value) if value >= 0 else math.nan,
    "upper": str.upper,
    "lower": str.lower,
    "length": len,
    "strip": lambda text: text.strip(WHITE),
    "strip start": lambda text: text.lstrip(WHITE),
    "strip end": lambda text: text.rstrip(WHITE),
    "slice": lambda text, start, length: text[start : start + length],
    "from": lambda text, start: text[start:],
    "replace": lambda text, old, new: text.replace(old, new),
    "starts with": str.startswith,
    "ends with": str.endswith,
    "contains": lambda text, part: part in text,
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month,
    "day": lambda moment: moment.day,
    "hour": lambda moment: moment.hour,
    "minute": lambda moment: moment.minute,
    "second": lambda moment: moment.second,
    "weekday": lambda moment: moment.isoweekday(),
    "day of year": lambda moment: moment.timetuple().tm_yday,
    "week": lambda moment: moment.isocalendar().week,
    "quarter": lambda moment: (moment.month + 2) // 3,
    "midnight": lambda moment: datetime(moment.year, moment.month, moment.day),  # moments are in UTC, without a zone
}


# ------------------------------------------------------------------------------------------- what a kind makes of a value


def as_kind(held: str, column: Column) -> Callable[[Any], Any] | None:
    """What typing (``tables.cast.cast_columns``) makes of values that an expression gives, null left out; None if that is not known here.

    ``held`` is what they are: integer, float, boolean, text, moment, or ``decimal N`` for a whole number of the Nth decimal place.
    """
    if column.null_values is not None or column.format is not None:
        return None
    if held.startswith("decimal "):
        power, as_number = 10.0 ** int(held.removeprefix("decimal ")), _KINDS.get(("float", column.kind))
        return None if as_number is None or column.kind in ("category", "text") else lambda value: as_number(float(value) / power)
    return _KINDS.get((held, "category" if column.kind == "text" else column.kind))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _integer(value: float) -> int | None:
    return int(value) if value.is_integer() and abs(value) <= LARGEST_INTEGER else None


def _near(value: int) -> int | None:
    return _integer(float(value))


def _truth(value: float) -> int | None:
    return int(value) if value in (0, 1) else None


_KINDS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("integer", "number"): float,
    ("integer", "integer"): _near,
    ("integer", "boolean"): _truth,
    ("integer", "category"): str,
    ("float", "number"): _finite,
    ("float", "integer"): _integer,
    ("float", "boolean"): _truth,
    ("float", "category"): spelled,
    ("boolean", "number"): float,
    ("boolean", "integer"): int,
    ("boolean", "boolean"): int,
    ("boolean", "category"): spelled,
    ("text", "category"): str,
    ("text", "datetime"): moment_in,
    ("moment", "datetime"): lambda moment: moment,
}
