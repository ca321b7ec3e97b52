"""Decoders typed by a model's columns: types and bounds are checked while JSON is read, in C.

They are narrower than what the server takes (a whole number written as 5.0 is no ``int`` to them), never wider: whatever they
refuse is looked at again with care, and whatever they let pass needs no other check of its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from mlops_pipeline.contract.spec import Column
from mlops_pipeline.contract.values import bounds
from mlops_pipeline.inference.signature import Signature

INT64 = 2**63 - 1


def value_type(column: Column) -> Any:
    """The type of one value of a column, bounds and all."""
    low, high = bounds(column)
    kind: Any = Annotated[float, msgspec.Meta(ge=low, le=high)]
    if column.kind == "category":
        kind = str
    elif column.kind == "boolean":
        kind = bool | Literal[0, 1]
    elif column.kind == "integer":
        kind = Annotated[int, msgspec.Meta(ge=max(math.ceil(low), -INT64), le=min(math.floor(high), INT64))]
    return kind | None if column.nullable else kind


def record_type(signature: Signature) -> type[msgspec.Struct]:
    """A record by column names, none unknown; optional columns may be left out."""
    fields: list[Any] = []
    for place, name in enumerate(signature.names):
        column = signature.columns[name]
        fields.append((f"c{place}", value_type(column), None) if column.nullable else (f"c{place}", value_type(column)))
    return msgspec.defstruct(
        "Record",
        fields,
        rename={f"c{place}": name for place, name in enumerate(signature.names)},
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def array_type(signature: Signature) -> type[msgspec.Struct]:
    """A row as a list of values in the model's order."""
    fields = [(f"c{place}", value_type(signature.columns[name])) for place, name in enumerate(signature.names)]
    return msgspec.defstruct("Row", fields, array_like=True, forbid_unknown_fields=True, gc=False)


def records_decoder(signature: Signature) -> msgspec.json.Decoder[Any]:
    """Of ``{"records": […], "ids": […]}``."""
    body = msgspec.defstruct(
        "Body",
        [("records", list[record_type(signature)]), ("ids", list[str] | None, None)],  # type: ignore[misc]  # a type made at run time
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(body)


_astuple = msgspec.structs.astuple


def values_of(records: Sequence[msgspec.Struct]) -> list[tuple[Any, ...]]:
    """The rows' values in the model's order."""
    return [_astuple(record) for record in records]
