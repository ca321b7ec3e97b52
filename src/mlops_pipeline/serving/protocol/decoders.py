"""Decoders typed by a model's columns: types and bounds are checked while JSON is read, in C.

There are several of each. The strict one is narrower than what the server takes (a whole number written as 5.0 is no ``int`` to
it, nor does it take a number far outside what training saw), never wider: what it lets pass needs no other check of its numbers. The
lenient one takes floats for integers too, as pandas and its clients write them; :func:`are_whole` must say yes then. After it comes one
more for numbers far outside what training saw, if that is known, which then are counted. These ask for every column first, so that it is
known how many keys there are; then come the same with optional columns. Whatever all refuse is looked at again with care.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from mlops_pipeline.contract.spec import AS_TEXT, Column
from mlops_pipeline.inference.signature import Signature

INT64 = 2**63 - 1


class Lenient(NamedTuple):
    """What a lenient decoder is made for: a signature with these limits, ``usual`` ones or the bounds, every column there or not."""

    signature: Signature
    usual: bool
    complete: bool


def lenient_ones(signature: Signature) -> list[Lenient]:
    """Those to try in turn: the usual limits, then, if these are narrower, the bounds; with every column, then without some."""
    limited = [(signature, True), *([(replace(signature, usual64=signature.bounds64), False)] if signature.ranges else [])]
    some_optional = any(column.nullable for column in signature.columns.values())
    return [Lenient(*each, complete) for complete in ((True, False) if some_optional else (True,)) for each in limited]


def count_of_keys(values: list[tuple[Any, ...]], *, complete: bool) -> int:
    """How many keys the records of these values have at least, none of them repeated; exactly so many if they are complete."""
    if complete:
        return sum(map(len, values[:1])) * len(values)
    return sum(len(row) - row.count(None) for row in values)


def value_types(signature: Signature, *, lenient: bool = False) -> dict[str, Any]:
    """The type of a value of each column in the model's order, within the usual limits; a float for an integer too, if lenient."""
    low, high = (limits.tolist() for limits in signature.usual64)
    usual = {name: (low[place], high[place]) for place, name in enumerate(signature.numbers)}
    return {name: _value_type(column, *usual.get(name, (0, 0)), lenient=lenient) for name, column in signature.columns.items()}


def _value_type(column: Column, low: float, high: float, *, lenient: bool) -> Any:
    kind: Any = Annotated[float, msgspec.Meta(ge=low, le=high)]
    if column.kind in AS_TEXT:
        kind = str
    elif column.kind == "boolean":
        kind = bool | kind if lenient else bool | Literal[0, 1]
    elif column.kind == "integer" and not lenient:
        kind = Annotated[int, msgspec.Meta(ge=max(math.ceil(low), -INT64), le=min(math.floor(high), INT64))]
    return kind | None if column.nullable else kind


_ESCAPED = re.compile(r'["\\\x00-\x1f]')
"""Letters that JSON must write otherwise: msgspec finds no field of such a name."""


class _Nothing(msgspec.Struct):
    """A record that no JSON is, so that each is looked at with care."""

    nothing: Annotated[str, msgspec.Meta(min_length=1, max_length=0)]


def record_type(signature: Signature, *, lenient: bool = False, complete: bool = True) -> type[msgspec.Struct]:
    """A record by column names, none unknown; optional columns may be left out unless it is to be complete."""
    if any(_ESCAPED.search(name) for name in signature.names):
        return _Nothing
    fields: list[Any] = []
    for place, (name, kind) in enumerate(value_types(signature, lenient=lenient).items()):
        may_lack = signature.columns[name].nullable and not complete
        fields.append((f"c{place}", kind, None) if may_lack else (f"c{place}", kind))
    return msgspec.defstruct(
        "Record",
        fields,
        rename={f"c{place}": name for place, name in enumerate(signature.names)},
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def array_type(signature: Signature, *, lenient: bool = False) -> type[msgspec.Struct]:
    """A row as a list of values in the model's order."""
    fields = [(f"c{place}", kind) for place, kind in enumerate(value_types(signature, lenient=lenient).values())]
    return msgspec.defstruct("Row", fields, array_like=True, forbid_unknown_fields=True, gc=False)


def records_decoder(signature: Signature, *, lenient: bool = False, complete: bool = True) -> msgspec.json.Decoder[Any]:
    """Of ``{"records": […], "ids": […]}``."""
    record = record_type(signature, lenient=lenient, complete=complete)
    body = msgspec.defstruct(
        "Body",
        [("records", list[record]), ("ids", list[str] | None, None)],  # type: ignore[valid-type]  # made at run time
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(body)


_astuple = msgspec.structs.astuple


def values_of(records: Sequence[msgspec.Struct]) -> list[tuple[Any, ...]]:
    """The rows' values in the model's order."""
    return [_astuple(record) for record in records]


Values = Callable[[tuple[Any, ...]], Any]


def whole_columns(signature: Signature) -> tuple[Values, ...]:
    """For each integer and boolean column, what takes its value out of a row."""
    return tuple(itemgetter(place) for place, name in enumerate(signature.numbers) if signature.columns[name].kind != "number")


def are_whole(columns: tuple[Values, ...], values: list[tuple[Any, ...]]) -> bool:
    """Whether every value of these columns is a whole number or null, as a strict decoder would have it."""
    for column in columns:
        try:
            if not all(map(float.is_integer, map(column, values))):
                return False
        except TypeError:  # nulls or booleans among them
            if any(value and value % 1 for value in map(column, values)):
                return False
    return True
