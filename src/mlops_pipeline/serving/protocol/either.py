"""Raw rows or finished features: each request goes the way of what its rows are, by whatever protocol it came."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.contract.spec import CATEGORIES, NUMBERS
from mlops_pipeline.inference.faults import Fault, Refused
from mlops_pipeline.inference.raw import Kind, RawInput, RawRows
from mlops_pipeline.inference.signature import Rows, flat, names_within
from mlops_pipeline.serving.protocol import Headers, Spoken
from mlops_pipeline.serving.protocol.invocations import csv_header
from mlops_pipeline.serving.protocol.predict import text_of_csv
from mlops_pipeline.serving.protocol.python_json import python_json
from mlops_pipeline.serving.request import CSV, Request

if TYPE_CHECKING:
    import numpy as np

Names = Callable[[Any], Iterator[Any]]
"""From a decoded body to each row, or to the names of all rows' columns at once."""


_BETWEEN = ",:[]{} \t\r\n"
"""What may stand between two texts of JSON: a name that begins so may seem to be quoted where it is not."""


class Either:
    """A protocol for a model that takes raw rows, finished features, or both."""

    def __init__(self, raw: Spoken, features: Spoken, taken: RawInput, names: Names, why_not: Callable[[], str], *, only_raw: bool) -> None:
        """``why_not`` says why raw rows cannot be computed at present; empty if they can."""
        self._raw, self._features, self._kinds, self._names = raw, features, taken.kinds, names
        self._signature, self._why_not, self._only_raw = taken.signature, why_not, only_raw
        kinds = taken.kinds
        self._is_certain = kinds.certain and not kinds.again
        # A row without computed columns is refused as one of features, and looked at, if one of them must be there.
        is_refused = kinds.certain and any(not taken.features.columns[name].nullable for name in kinds.computed)
        self._telling, self._marks, self._computed, self._columns = (
            tuple(map(_quoted, names))
            for names in (kinds.marks if is_refused else kinds.own, kinds.marks, kinds.computed, taken.signature.names)
        )
        self._gathers = {NUMBERS, CATEGORIES} - taken.signature.columns.keys() - taken.features.columns.keys()
        self._quoted_gathers = tuple(map(_quoted, self._gathers))
        self._known = frozenset((*taken.signature.names, *taken.features.names))
        self._within = names_within(self._known)
        self._quoted_within = tuple(map(_quoted, sorted(self._within)))
        self._is_plain = not any(name.lstrip(_BETWEEN) != name for name in (*taken.signature.names, *taken.kinds.computed))

    def read(self, request: Request, body: bytes) -> tuple[Rows | RawRows, Any]:
        """Checked rows of either kind; raises :class:`Refused`, also where a request holds both."""
        if self._only_raw:
            return self._read_as("raw", request, body)
        kind = self._kind(request, body)
        try:
            return self._read_as(kind, request, body)
        except Refused as refusal:
            if refusal.reason in ("missing_column", "unknown_column"):
                looked_at = self._looked_at(request, body)
                if looked_at != kind:
                    return self._read_as(looked_at, request, body)
            raise

    def write(self, request: Request, rows: Rows, wanted: Any, outputs: np.ndarray) -> tuple[bytes, Headers]:
        """The answer, which is the same for both."""
        return self._features.write(request, rows, wanted, outputs)

    def _read_as(self, kind: Kind, request: Request, body: bytes) -> tuple[Rows | RawRows, Any]:
        if kind == "features":
            return self._features.read(request, body)
        why_not = self._why_not()
        if not why_not:
            rows, wanted = self._raw.read(request, body)
            return RawRows(rows) if isinstance(rows, Rows) else rows, wanted
        # What nothing can be computed for is still answered if it came computed.
        if self._only_raw or not all(map(self._kinds.is_finished, self._names_in(request, body))):
            raise Refused(503, [Fault("not_ready", why_not)])
        return self._features.read(request, body)

    def _kind(self, request: Request, body: bytes) -> Kind:
        """What the rows of a request are, told by its bytes where these are plain."""
        if request.content_type[: len(CSV)].lower() == CSV or not self._is_plain:
            return self._looked_at(request, body)
        text, is_tensor = _json_of(request, body), request.protocol == "v2"
        looked_for = self._quoted_gathers if is_tensor else self._quoted_within
        if b"\\" in text or any(name in text for name in looked_for):
            return self._looked_at(request, body)
        quick = self._by_marks(text, is_tensor) if self._marks else self._by_computed(text, is_tensor)
        return quick or self._looked_at(request, body)

    def _by_marks(self, text: bytes, is_tensor: bool) -> Kind | None:
        for name in self._telling:
            if name in text:
                is_raw = self._is_certain and all(_is_named(text, mark, is_tensor) for mark in self._marks)
                return "raw" if is_raw else None
        return "features"

    def _by_computed(self, text: bytes, is_tensor: bool) -> Kind | None:
        if not any(name in text for name in self._computed):
            return "raw" if any(_is_named(text, name, is_tensor) for name in self._columns) else None
        return "features" if text.count(b"{") <= 2 and any(_is_named(text, name, is_tensor) for name in self._computed) else None

    def _looked_at(self, request: Request, body: bytes) -> Kind:
        """What each row is; a body that cannot be read is left to the protocol. Raises :class:`Refused` if there are both kinds."""
        kinds = list(map(self._kinds.tell, self._names_in(request, body)))
        for row, (before, kind) in enumerate(pairwise(kinds)):
            if kind != before:
                words = {"raw": "raw", "features": "of finished features"}
                what = f"row {row} is {words[before]} and row {row + 1} {words[kind]}: send them in two requests"
                raise Refused(422, [Fault("malformed", what, row + 1)])
        return kinds[0] if kinds else "features"

    def _names_in(self, request: Request, body: bytes) -> list[Collection[str]]:
        """The names of each row's columns, or of all rows' at once; nothing for a body that has none or cannot be read."""
        if request.content_type[: len(CSV)].lower() == CSV:
            return self._names_in_csv(body)
        try:
            found = [_as_names(row, self._within, index) for index, row in enumerate(self._names(_decoded(_json_of(request, body))))]
            gathers = request.protocol == "v2" and any(name in self._gathers for names in found for name in names)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return []
        return [] if gathers else found

    def _names_in_csv(self, body: bytes) -> list[Collection[str]]:
        try:
            header, _ = csv_header(text_of_csv(body), self._signature.dialect, self._known)
        except (Refused, csv.Error):
            return []
        return [header]


def _is_named(text: bytes, name: bytes, is_tensor: bool) -> bool:
    """Whether JSON without escapes has a quoted name where a column's stands, the first time that it has it.

    That is before a colon, among the ``columns`` of a table, or as a tensor's ``name``.
    """
    place = text.find(name)
    if place < 0:
        return False
    if is_tensor:
        return text[max(0, place - 16) : place].replace(b" ", b"").endswith(b'"name":')
    end = place + len(name)
    if text[end : end + 8].lstrip()[:1] == b":":
        return True
    begin = text.rfind(b"[", 0, place)
    return begin >= 0 and text[max(0, begin - 16) : begin].replace(b" ", b"").endswith(b'"columns":') and b"]" not in text[begin:place]


def names_of_records(body: Any) -> Iterator[Any]:
    """Of ``/predict``."""
    return map(_record, body["records"])


def names_of_invocations(body: Any) -> Iterator[Any]:
    """Of MLflow's forms; rows without names are of finished features."""
    if "dataframe_split" in body:
        return iter([body["dataframe_split"]["columns"]])
    rows: Any = next((body[form] for form in ("dataframe_records", "instances", "inputs") if form in body), [])
    return map(_record, [rows] if isinstance(rows, dict) else rows)


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


def _record(row: Any) -> dict[str, Any]:
    """A row with names; raises ``TypeError`` for one that has none."""
    if isinstance(row, dict):
        return row
    raise TypeError("no names")


def _as_names(row: Any, within: frozenset[str], index: int) -> Collection[str]:
    """The names that a client gives a row, those of records ``within`` it too; raises ``TypeError`` where what stands there is none."""
    if isinstance(row, dict):
        return flat(row, within, index).keys()
    if isinstance(row, list) and all(isinstance(name, str) for name in row):
        return row
    raise TypeError("no names")
