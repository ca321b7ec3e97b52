"""Raw rows or finished features: each request goes the way of what its rows are, by whatever protocol it came."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.inference.faults import Fault, Refused
from mlops_pipeline.inference.raw import Kind, RawInput, RawRows
from mlops_pipeline.inference.signature import Rows
from mlops_pipeline.serving.protocol import Headers, Spoken
from mlops_pipeline.serving.protocol.python_json import python_json
from mlops_pipeline.serving.request import CSV, Request

if TYPE_CHECKING:
    import numpy as np

Names = Callable[[Any], Iterator[Collection[str]]]
"""From a decoded body to the names of each row's columns, or of all rows' at once."""


class Either:
    """A protocol for a model that takes raw rows, finished features, or both."""

    def __init__(self, raw: Spoken, features: Spoken, taken: RawInput, names: Names, why_not: Callable[[], str], *, only_raw: bool) -> None:
        """``why_not`` says why raw rows cannot be computed at present; empty if they can."""
        self._raw, self._features, self._kinds, self._names = raw, features, taken.kinds, names
        self._signature, self._why_not, self._only_raw = taken.signature, why_not, only_raw
        self._marks = [_quoted(name) for name in taken.kinds.marks]
        self._computed = [_quoted(name) for name in taken.kinds.computed]

    def read(self, request: Request, body: bytes) -> tuple[Rows | RawRows, Any]:
        """Checked rows of either kind; raises :class:`Refused`, also where a request holds both."""
        why_not = self._why_not()
        if self._only_raw:
            if why_not:
                raise Refused(503, [Fault("not_ready", why_not)])
            return self._read_raw(request, body)
        kind = self._kind(request, body)
        try:
            return self._read_raw(request, body) if kind == "raw" and not why_not else self._features.read(request, body)
        except Refused as refusal:
            if refusal.reason in ("missing_column", "unknown_column"):
                if kind == "raw" and why_not:
                    raise Refused(503, [Fault("not_ready", why_not)]) from refusal
                self._looked_at(request, body)
            raise

    def write(self, request: Request, rows: Rows, wanted: Any, outputs: np.ndarray) -> tuple[bytes, Headers]:
        """The answer, which is the same for both."""
        return self._features.write(request, rows, wanted, outputs)

    def _read_raw(self, request: Request, body: bytes) -> tuple[RawRows, Any]:
        rows, wanted = self._raw.read(request, body)
        return RawRows(rows) if isinstance(rows, Rows) else rows, wanted

    def _kind(self, request: Request, body: bytes) -> Kind:
        """What the rows of a request are, told by its bytes where these are plain."""
        if request.content_type[: len(CSV)].lower() == CSV:
            return self._looked_at(request, body)
        text = _json_of(request, body)
        if b"\\" in text:
            return self._looked_at(request, body)
        if not self._marks:
            has_computed = any(name in text for name in self._computed)
            return self._looked_at(request, body) if has_computed and text.count(b"{") > 2 else "features" if has_computed else "raw"
        there = sum(mark in text for mark in self._marks)
        if not there:
            return "features"
        return "raw" if there == len(self._marks) and self._kinds.certain else self._looked_at(request, body)

    def _looked_at(self, request: Request, body: bytes) -> Kind:
        """What each row is; a body that cannot be read is left to the protocol. Raises :class:`Refused` if there are both kinds."""
        if request.content_type[: len(CSV)].lower() == CSV:
            return self._kinds.tell(_header(body, self._signature.dialect.delimiter))
        try:
            kinds = [self._kinds.tell(names) for names in self._names(_decoded(_json_of(request, body)))]
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return "features"
        for row, (before, kind) in enumerate(pairwise(kinds)):
            if kind != before:
                words = {"raw": "raw", "features": "of finished features"}
                what = f"row {row} is {words[before]} and row {row + 1} {words[kind]}: send them in two requests"
                raise Refused(422, [Fault("malformed", what, row + 1)])
        return kinds[0] if kinds else "features"


def names_of_records(body: Any) -> Iterator[Collection[str]]:
    """Of ``/predict``."""
    return iter([record.keys() for record in body["records"]])


def names_of_invocations(body: Any) -> Iterator[Collection[str]]:
    """Of MLflow's forms; rows without names are of finished features."""
    if "dataframe_split" in body:
        return iter([body["dataframe_split"]["columns"]])
    rows = next(body[form] for form in ("dataframe_records", "instances", "inputs") if form in body)
    return iter([rows.keys()] if isinstance(rows, dict) else [row.keys() for row in rows])


def names_of_tensors(body: Any) -> Iterator[Collection[str]]:
    """Of the Open Inference Protocol."""
    return iter([[tensor["name"] for tensor in body["inputs"]]])


def _quoted(name: str) -> bytes:
    """A name as it stands in JSON without an escape."""
    return json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _json_of(request: Request, body: bytes) -> bytes:
    """The part of a body that is JSON."""
    length = request.header_length
    return body if length is None or request.protocol != "v2" else body[: max(0, length)]


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return python_json(text)


def _header(body: bytes, delimiter: str) -> list[str]:
    """The names in a CSV's first line, by commas and by the training data's own sign."""
    line = body.decode("utf-8-sig", "replace").lstrip().partition("\n")[0].rstrip("\r")
    found: list[str] = []
    for sign in {",", delimiter}:
        try:
            found += next(csv.reader([line], delimiter=sign), [])
        except csv.Error:
            continue
    return found
