"""A recipe's SQL as expressions that plain Python carries out (``features.expressions``): those of which it is known to give the same bits.

Polars reads the SQL and says the type of each part. A part that is none of those below leaves the whole expression to Polars, and so
does one on which the two differ on any row that is looked at.
"""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_pipeline.contract.spec import Column, Recipe
from mlops_pipeline.features.expressions import as_kind, function_of
from mlops_pipeline.features.rows import as_described

if TYPE_CHECKING:
    import polars as pl

LOOKED_AT = 2000
"""Rows on which both ways are compared."""

Expression = list[Any]


class _Unknown(Exception):  # no error: it is left to Polars
    """A part of which nothing is known here."""


def translated(recipe: Recipe, made: Mapping[str, Column], table: pl.DataFrame) -> dict[str, Any]:
    """For each derived column that is needed: its expression, and what it gives, as ``{"of": […], "held": "integer"}``.

    Those that Polars alone carries out are not there. ``table`` holds typed rows, on which it is tried, among others.
    """
    found = {}
    for name, sql in recipe.derive.items():
        if name in made:
            expression = _translated(sql, made[name], table)
            if expression is not None and _agrees(expression, name, sql, made[name], table):
                found[name] = expression
    return found


def _translated(sql: str, column: Column, table: pl.DataFrame) -> dict[str, Any] | None:
    import polars as pl

    parsed = pl.sql_expr(sql)
    reader = _Reader(table.clear())
    try:
        node = json.loads(parsed.meta.serialize(format="json"))
        held = reader.held(node)
        return {"of": reader.read(node), "held": held} if as_kind(held, column) is not None else None
    except (_Unknown, KeyError, TypeError, ValueError):  # a shape of Polars' tree that is not known here
        return None


class _Reader:
    """From Polars' tree of an expression to ours. ``empty`` has the types of the columns."""

    def __init__(self, empty: pl.DataFrame) -> None:
        self._empty = empty

    def read(self, node: Any) -> Expression:
        (what, content), *others = node.items()
        if others:
            raise _Unknown
        if what == "Column":
            return ["column", content]
        if what == "Literal":
            return ["value", self._literal(node)]
        if what == "Ternary":
            out = self.type(node)
            return ["if", self._truth(content["predicate"]), self.read_as(content["truthy"], out), self.read_as(content["falsy"], out)]
        if what == "Cast":
            return self._cast(node)
        if what == "BinaryExpr":
            return self._two(node, str(content["op"]), content["left"], content["right"])
        if what == "Function":
            return self._function(node, content["function"], content["input"])
        raise _Unknown

    def type(self, node: Any) -> Any:
        import polars as pl
        from polars.exceptions import PolarsError

        try:
            parsed = pl.Expr.deserialize(io.BytesIO(json.dumps(node).encode()), format="json")
            return self._empty.lazy().select(parsed.alias("\0")).collect_schema()["\0"]
        except PolarsError as error:
            raise _Unknown from error

    def held(self, node: Any) -> str:
        import polars as pl

        out = self.type(node)
        if out.is_integer():
            return "integer"
        if isinstance(out, pl.Decimal):
            return f"decimal {out.scale}"
        names: dict[Any, str] = {pl.Float64(): "float", pl.Boolean(): "boolean", pl.String(): "text", pl.Datetime("us"): "moment"}
        return "moment" if out == pl.Date else names[out]

    def read_as(self, node: Any, out: Any) -> Expression:
        """A part as what it becomes where Polars widens it to the type ``out``."""
        import polars as pl

        if self._is_null(node):
            return ["value", None]
        own = self.type(node)
        if own == out or (own.is_integer() and out.is_integer() and (_is_literal(node) or _width(own) < _width(out))):
            return self.read(node)
        if out == pl.Float64 and (own.is_integer() or _is_literal(node)):
            return ["value", float(self._literal(node))] if _is_literal(node) else ["float", self.read(node)]
        if isinstance(out, pl.Decimal):
            return self._decimal(node, out.scale)
        raise _Unknown

    def _decimal(self, node: Any, scale: int) -> Expression:
        """A part as a whole number of the ``scale``th decimal place."""
        import polars as pl

        own = self.type(node)
        own_scale = own.scale if isinstance(own, pl.Decimal) else 0
        if not (own_scale or own.is_integer()) or own_scale > scale:
            raise _Unknown
        if _is_literal(node) and "Decimal" in node["Literal"].get("Scalar", {}):
            inner: Expression = ["value", int(node["Literal"]["Scalar"]["Decimal"][0])]
        else:
            inner = self.read(node)
        return inner if own_scale == scale else ["*", inner, ["value", 10 ** (scale - own_scale)]]

    def _scale(self, node: Any) -> int:
        import polars as pl

        own = self.type(node)
        return own.scale if isinstance(own, pl.Decimal) else 0

    def _truth(self, node: Any) -> Expression:
        import polars as pl

        return self.read_as(node, pl.Boolean())

    def _is_null(self, node: Any) -> bool:
        return _is_literal(node) and node["Literal"] == {"Scalar": {"Null": "Null"}}

    def _literal(self, node: Any) -> Any:
        (form, content), *_ = node["Literal"].items()
        if form == "Dyn":
            ((kind, value),) = content.items()
            return float(value) if kind == "Float" else int(value)
        ((kind, value),) = content.items()
        if kind in ("String", "Boolean", "Int8", "Int16", "Int32", "Int64"):
            return value
        if kind == "Decimal":
            unscaled, _, scale = value
            if abs(int(unscaled)) < 1 << 53 and scale <= 15:
                return int(unscaled) / 10**scale
        raise _Unknown

    def _text(self, node: Any) -> str:
        value = self._literal(node)
        if not isinstance(value, str):
            raise _Unknown
        return value

    def _cast(self, node: Any) -> Expression:
        import polars as pl

        inner = node["Cast"]["expr"]
        own, out = self.type(inner), self.type(node)
        if own == out or (own.is_integer() and out == pl.Float64):
            return self.read_as(inner, out)
        if own.is_integer() and out.is_integer() and _width(own) < _width(out):
            return self.read(inner)
        if own.is_integer() and out == pl.String:
            return ["text", self.read(inner)]
        if own.is_integer() and out == pl.Boolean:
            return ["true", self.read(inner)]
        if out == pl.Date and own == pl.Datetime("us"):
            return ["midnight", self.read(inner)]
        raise _Unknown

    def _two(self, node: Any, op: str, left: Any, right: Any) -> Expression:
        import polars as pl

        out = self.type(node)
        if op in ("And", "Or") and out == pl.Boolean:
            return [op.lower(), self._truth(left), self._truth(right)]
        if op in _COMPARED:
            return self._compared(_COMPARED[op], left, right)
        if op in ("Plus", "Minus", "Mul", "Multiply", "Div", "Rem", "IntDiv"):
            return self._arithmetic(op, left, right, out)
        raise _Unknown

    def _arithmetic(self, op: str, left: Any, right: Any, out: Any) -> Expression:
        import polars as pl

        sign = {"Plus": "+", "Minus": "-", "Mul": "*", "Multiply": "*", "Div": "/", "Rem": "%", "IntDiv": "//"}[op]
        own = [self.type(side) for side in (left, right)]
        if op == "Plus" and out == pl.String and own == [pl.String, pl.String]:
            return ["+", self.read(left), self.read(right)]
        if op == "Minus" and out == pl.Float64 and left == {"Literal": {"Dyn": {"Int": 0}}}:
            return ["negated", self.read_as(right, out)]
        if out == pl.Float64 and sign in "+-*/":
            return [sign, self.read_as(left, out), self.read_as(right, out)]
        if isinstance(out, pl.Decimal) and sign in "+-*":
            scales = [self._scale(side) for side in (left, right)] if sign == "*" else [out.scale] * 2
            if sign != "*" or sum(scales) == out.scale:
                return [sign, self._decimal(left, scales[0]), self._decimal(right, scales[1])]
        if out.is_integer() and all(each.is_integer() for each in own) and sign != "/":
            return ["wrapped", _width(out), out.is_signed_integer(), [sign, self.read(left), self.read(right)]]
        raise _Unknown

    def _compared(self, sign: str, left: Any, right: Any) -> Expression:
        import polars as pl

        own, held = [self.type(side) for side in (left, right)], pl.Float64()
        if all(each.is_integer() for each in own) or own in ([pl.String] * 2, [pl.Boolean] * 2, [pl.Datetime("us")] * 2):
            return [sign, self.read(left), self.read(right)]
        if held in own:
            return [f"float {sign}", self.read_as(left, held), self.read_as(right, held)]
        if any(isinstance(each, pl.Decimal) for each in own):
            scale = max(self._scale(side) for side in (left, right))
            return [sign, self._decimal(left, scale), self._decimal(right, scale)]
        raise _Unknown

    def _function(self, node: Any, function: Any, given: Sequence[Any]) -> Expression:
        if isinstance(function, str):
            return self._plain_function(function, given, self.type(node))
        ((family, which),) = function.items()
        (name, settings), *_ = which.items() if isinstance(which, dict) else [(which, None)]
        of_family = {
            "Sql": self._of_sql,
            "Boolean": self._of_truth,
            "StringExpr": self._of_text,
            "TemporalExpr": self._of_moment,
            "Pow": self._root,
        }
        return of_family[family](name, settings, given, node)

    def _of_sql(self, name: str, settings: Any, given: Sequence[Any], node: Any) -> Expression:
        import polars as pl

        if name == "Binary":
            return self._two(node, settings, *given)
        if name == "IsIn":
            return ["in", self.read(given[0]), self._listed(*given)]
        if name == "Round" and self.type(node) == pl.Float64:
            return ["round", self.read_as(given[0], pl.Float64()), ["value", 10.0 ** settings["decimals"]]]
        raise _Unknown

    def _of_truth(self, name: str, _settings: Any, given: Sequence[Any], _node: Any) -> Expression:
        if name == "Not":
            return ["not", self._truth(given[0])]
        if name in ("IsNull", "IsNotNull"):
            return ["is null" if name == "IsNull" else "is not null", self.read(given[0])]
        raise _Unknown

    def _of_moment(self, name: str, _settings: Any, given: Sequence[Any], _node: Any) -> Expression:
        if self.held(given[0]) != "moment":
            raise _Unknown
        return [_PARTS[name], self.read(given[0])]

    def _root(self, name: str, _settings: Any, given: Sequence[Any], node: Any) -> Expression:
        if name != "Sqrt":
            raise _Unknown
        return ["sqrt", self.read_as(given[0], self.type(node))]

    def _plain_function(self, function: str, given: Sequence[Any], out: Any) -> Expression:
        import polars as pl

        if function == "Coalesce":
            return ["first", *(self.read_as(each, out) for each in given)]
        if function in ("MaxHorizontal", "MinHorizontal") and out.is_integer():
            return ["greatest" if function == "MaxHorizontal" else "least", *(self.read_as(each, out) for each in given)]
        if function == "Abs" and (out.is_signed_integer() or out == pl.Float64):
            inner = ["abs", self.read_as(given[0], out)]
            return ["wrapped", _width(out), True, inner] if out.is_integer() else inner
        if function in ("Floor", "Ceil") and out == pl.Float64:
            return [function.lower(), self.read_as(given[0], out)]
        raise _Unknown

    def _of_text(self, name: str, settings: Any, given: Sequence[Any], _node: Any) -> Expression:
        import polars as pl

        if name == "ConcatHorizontal" and settings == {"delimiter": "", "ignore_nulls": True}:
            if all(self.type(each) == pl.String or self.type(each).is_integer() for each in given):
                return ["joined", *(self.read(each) for each in given)]
            raise _Unknown
        text, others = self.read_as(given[0], pl.String()), [each for each in given[1:] if not self._is_null(each)]
        if name in _OF_TEXT:
            return [_OF_TEXT[name], text, *(["value", self._text(each)] for each in others)]
        if name == "Slice":
            bounds = [self._literal(each) for each in others]
            if all(type(bound) is int and bound >= 0 for bound in bounds):
                return ["slice" if len(bounds) == 2 else "from", text, *(["value", bound] for bound in bounds)]
        if name == "Replace" and settings == {"n": -1, "literal": True} and self._text(given[1]):
            return ["replace", text, *(["value", self._text(each)] for each in others)]
        if name == "Contains" and settings["literal"] is True:
            return ["contains", text, ["value", self._text(given[1])]]
        raise _Unknown

    def _listed(self, value: Any, values: Any) -> list[Any]:
        import polars as pl

        parsed = pl.Expr.deserialize(io.BytesIO(json.dumps(values).encode()), format="json")
        listed = pl.select(parsed.alias("\0")).to_series()
        listed = listed.explode() if listed.dtype == pl.List else listed
        own = self.type(value)
        if listed.null_count() or not (
            (own.is_integer() and listed.dtype.is_integer()) or (own == pl.String and listed.dtype == pl.String)
        ):
            raise _Unknown
        return list(listed)


_COMPARED = {"Eq": "=", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
_PARTS = {
    "Year": "year",
    "Month": "month",
    "Day": "day",
    "Hour": "hour",
    "Minute": "minute",
    "Second": "second",
    "WeekDay": "weekday",
    "OrdinalDay": "day of year",
    "Week": "week",
    "Quarter": "quarter",
}
_OF_TEXT = {
    "Uppercase": "upper",
    "Lowercase": "lower",
    "LenChars": "length",
    "StripChars": "strip",
    "StripCharsStart": "strip start",
    "StripCharsEnd": "strip end",
    "StartsWith": "starts with",
    "EndsWith": "ends with",
}


def _is_literal(node: Any) -> bool:
    return list(node) == ["Literal"]


def _width(held: Any) -> int:
    """Bits of an integer's type."""
    return int(str(held).lstrip("UInt"))


# ------------------------------------------------------------------------------------------------ whether both say the same

EDGES: dict[str, list[Any]] = {
    "number": [None, 1.7e308, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 7.0, 1e300, -1e-300, 0.1, 3.4e38, 2.0**53, 15.0],
    "integer": [None, 0, 1, -1, 2, 7, -7, 12, 31, 60, 127, 128, -129, 2024, 2**31, -(2**31) - 1, 2**53 - 1, 1 - 2**53],
    "boolean": [None, 0, 1],
    "datetime": [
        None,
        datetime(1970, 1, 1),
        datetime(1969, 12, 31, 23, 59, 59, 999_999),
        datetime(2024, 2, 29, 13, 5, 6),
        datetime(2021, 1, 3, 12),
        datetime(9999, 12, 31),
    ],  # in UTC
    "text": [
        None,
        "",
        " ",
        "a",
        "A b",
        " x\t",
        "é",
        "ß",
        "Σ",
        "0",
        "-1",
        "2013-7-1",
        "2024-02-30",
        "2024-01-01 10:00",
        "true",
        "NA",
        "a,b",
        "日本",
    ],
}


def edge_rows(columns: Iterable[tuple[str, str]], count: int) -> dict[str, list[Any]]:
    """Rows of what is unusual in columns of these kinds, the same each time."""
    chance = random.Random(0)  # noqa: S311  # no secret
    return {name: [chance.choice(EDGES.get(kind, EDGES["text"])) for _ in range(count)] for name, kind in columns}


def _agrees(expression: Mapping[str, Any], name: str, sql: str, column: Column, table: pl.DataFrame) -> bool:
    """Whether Python gives what Polars gives on rows of the table, and on rows of what is unusual."""
    import polars as pl
    from polars.exceptions import PolarsError

    parsed = pl.sql_expr(sql)
    roots = sorted(set(parsed.meta.root_names()))
    if not roots:
        return False
    rows = table.select(roots).head(LOOKED_AT)
    edges = pl.DataFrame(edge_rows(((root, _kind(held)) for root, held in rows.schema.items()), LOOKED_AT), schema=rows.schema)
    of, typed = function_of(expression["of"], {root: place for place, root in enumerate(roots)}), as_kind(expression["held"], column)
    try:
        for frame in (rows, edges):
            theirs = as_described(frame.select(parsed.alias(name)), name, column)[name].to_list()
            ours = [None if (value := of(row)) is None or typed is None else typed(value) for row in frame.rows()]
            if not all(map(same, ours, theirs)):
                return False
    except (PolarsError, ArithmeticError, ValueError, TypeError, AttributeError):
        return False
    return True


def _kind(held: Any) -> str:
    import polars as pl

    return {pl.Float64: "number", pl.Int64: "integer", pl.Int8: "boolean", pl.String: "text"}.get(held.base_type(), "datetime")


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal to the bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.copysign(1.0, one) == math.copysign(1.0, other) and (one == other or (math.isnan(one) and math.isnan(other)))
    return bool(one == other)
