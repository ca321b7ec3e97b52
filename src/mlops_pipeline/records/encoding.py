"""An entry as bytes: what goes from the server to its writer, and what of it a store keeps as a blob.

A row is a MessagePack list: time, request_id, model, version, rows, latency_us, error, layout number, and the blob. The blob is a list
again: numbers as float32 bytes (little endian, row by row), categories as a flat list of text, outputs as float32 bytes, the client's
ids, and the name of the API key, which stands there only if there was one. Behind them, where a row came raw, its numbers as float64
bytes and its texts: what was computed of them stands before. At last, where a release was under way, the arm that answered, why, and what
sticks to it. What a list does not have is as if it were null, so that stores of any age are read alike. Private columns are left out
here, in the server, before anything else sees them.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.contract.spec import AS_TEXT
from mlops_pipeline.records.entry import Entry, RecordLayout

if TYPE_CHECKING:
    import numpy as np

Row = tuple[float, str, str, str, int, int, str, int, msgspec.Raw]

BRIEF_TEXT = 200
"""Characters of a text that a screen shows."""

_encode = msgspec.msgpack.Encoder().encode
_rows = msgspec.msgpack.Decoder(list[Row])
NO_BLOB = _encode((None, None, None, None))


class Blob(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An entry's arrays as they are stored, None where the entry has none, and the name of its key; then its raw rows, its arm and why.

    ``unit`` is what sticks to the arm.
    """

    numbers: bytes | None
    categories: list[Any] | None
    outputs: bytes | None
    ids: list[str] | None
    key_name: str | None = None
    raw_numbers: bytes | None = None
    raw_texts: list[Any] | None = None
    arm: str = ""
    why: str = ""
    unit: str = ""


class Columns(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a reader needs of a layout: the columns that are recorded, in order. Kept in the store as JSON."""

    key: str
    task: str
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    classes: tuple[str | int | bool, ...]
    raw: tuple[tuple[str, str], ...] = ()
    """Name and kind of each column of a raw row."""

    @property
    def raw_numbers(self) -> tuple[str, ...]:
        return tuple(name for name, kind in self.raw if kind not in AS_TEXT)

    @property
    def raw_texts(self) -> tuple[str, ...]:
        return tuple(name for name, kind in self.raw if kind in AS_TEXT)

    def as_json(self) -> str:
        return msgspec.json.encode(self).decode()

    def digest(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


@dataclass(frozen=True, slots=True)
class Form:
    """A layout as entries of it are encoded: its number among a recorder's, its widths, and the places to keep (None: all)."""

    layout: RecordLayout | None
    number: int
    width_of_numbers: int
    width_of_categories: int
    numbers: list[int] | None
    categories: list[int] | None
    float32: Any
    raw_numbers: list[int] | None = None
    raw_texts: list[int] | None = None


NO_FORM = Form(None, 0, 0, 0, None, None, None)
"""A request that failed before a model was chosen."""


def form_of(layout: RecordLayout, number: int) -> Form:
    """How entries of a layout are encoded, under the number that a recorder gave it."""

    import numpy as np

    def kept(names: tuple[str, ...]) -> list[int] | None:
        left = [place for place, name in enumerate(names) if name not in layout.private]
        return None if len(left) == len(names) else left

    raw = [tuple(name for name, kind in layout.raw if (kind in AS_TEXT) == as_text) for as_text in (False, True)]
    widths = len(layout.numbers), len(layout.categories)
    return Form(layout, number, *widths, kept(layout.numbers), kept(layout.categories), np.dtype("<f4"), kept(raw[0]), kept(raw[1]))


def recorded_columns(layout: RecordLayout) -> Columns:
    """The columns of a layout without the private ones."""
    return Columns(
        layout.key,
        layout.task,
        tuple(name for name in layout.numbers if name not in layout.private),
        tuple(name for name in layout.categories if name not in layout.private),
        tuple(layout.classes),
        tuple((name, kind) for name, kind in layout.raw if name not in layout.private),
    )


def encode(entry: Entry, form: Form) -> bytes:
    """An entry as a row.

    What cannot be encoded (a lone surrogate in a text, arrays that do not fit the layout) is replaced or left out, and the
    entry says so: it never stops the others.
    """
    try:
        return _encode(
            (
                entry.time, entry.request_id, entry.model, entry.version, entry.rows, entry.latency_us, entry.error, form.number,
                _blob(entry, form),
            )
        )  # fmt: skip
    except (TypeError, ValueError):  # a UnicodeEncodeError is one
        return _mended(entry, form)


def _mended(entry: Entry, form: Form) -> bytes:
    error = entry.error
    try:
        blob = _blob(entry, form)
        _encode(blob)
    except (TypeError, ValueError):
        blob = _without_arrays(entry, None)
        error = f"{error} (features not recorded: they do not fit the layout)".lstrip()
    texts = [_text(text) for text in (entry.request_id, entry.model, entry.version)]
    return _encode((entry.time, *texts, entry.rows, entry.latency_us, _text(error), form.number, blob))


def read_rows(count: int, rows: bytes | bytearray) -> list[Row]:
    """The rows of a group, from one after another."""
    return _rows.decode(b"\xdd" + struct.pack(">I", count) + rows)  # the head of a list of so many


def read_blob(blob: bytes) -> Blob:
    """An entry's arrays."""
    return _from_blob(blob)


_from_blob = msgspec.msgpack.Decoder(Blob).decode


class _Parts(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A blob whose arrays are not looked at."""

    numbers: msgspec.Raw
    categories: msgspec.Raw
    outputs: msgspec.Raw
    ids: list[str] | None
    key_name: str | None = None
    raw_numbers: msgspec.Raw = msgspec.Raw(b"\xc0")
    raw_texts: msgspec.Raw = msgspec.Raw(b"\xc0")
    arm: str = ""
    why: str = ""
    unit: str = ""


_parts = msgspec.msgpack.Decoder(_Parts).decode


def brief_blob(blob: bytes) -> bytes:
    """The blob without its features, its ids cut after :data:`BRIEF_TEXT`: what a screen shows."""
    parts = _parts(blob)
    ids = None if parts.ids is None else [text[: BRIEF_TEXT + 1] for text in parts.ids]
    return _encode((None, None, parts.outputs, ids, None, None, None, parts.arm, parts.why[: BRIEF_TEXT + 1], parts.unit))


def arm_of(blob: bytes) -> str:
    """The arm that gave an entry's answer; none of its arrays is looked at."""
    return _parts(blob).arm


def _blob(entry: Entry, form: Form) -> tuple[Any, ...]:
    numbers, categories, outputs, ids, rows = entry.numbers, entry.categories, entry.outputs, entry.ids, entry.rows
    if form is NO_FORM:  # nobody knows which of its columns are private
        return _without_arrays(entry, ids)
    number_bytes = category_texts = output_bytes = None
    if numbers is not None:
        _check(len(numbers) == rows and numbers.size == rows * form.width_of_numbers)
        number_bytes = _bytes(numbers if form.numbers is None else numbers.take(form.numbers, axis=1), form)
    if categories is not None:
        _check(len(categories) == rows and categories.size == rows * form.width_of_categories)
        category_texts = (categories if form.categories is None else categories.take(form.categories, axis=1)).ravel().tolist()
    if outputs is not None:
        _check(len(outputs) == rows)
        output_bytes = _bytes(outputs, form)
    if ids is not None:
        _check(len(ids) == rows)
    if entry.arm:
        raw, texts = (None, None) if entry.raw_numbers is None and entry.raw_texts is None else _raw(entry, form)
        key_name = entry.key_name or None
        if entry.unit:
            return (number_bytes, category_texts, output_bytes, ids, key_name, raw, texts, entry.arm, entry.why, entry.unit)
        return (number_bytes, category_texts, output_bytes, ids, key_name, raw, texts, entry.arm, entry.why)
    if entry.raw_numbers is not None or entry.raw_texts is not None:
        key_name = entry.key_name or None
        return (number_bytes, category_texts, output_bytes, ids, key_name, *_raw(entry, form))
    if entry.key_name:
        return (number_bytes, category_texts, output_bytes, ids, entry.key_name)
    return (number_bytes, category_texts, output_bytes, ids)


def _of_release(entry: Entry) -> tuple[str, ...]:
    return (entry.arm, entry.why, entry.unit) if entry.unit else (entry.arm, entry.why)


def _raw(entry: Entry, form: Form) -> tuple[bytes | None, list[Any] | None]:
    numbers, texts = entry.raw_numbers, entry.raw_texts
    if numbers is not None:
        numbers = numbers if form.raw_numbers is None else numbers.take(form.raw_numbers, axis=1)
    if texts is not None:
        texts = texts if form.raw_texts is None else texts.take(form.raw_texts, axis=1)
    return None if numbers is None else numbers.astype("<f8").tobytes(), None if texts is None else texts.ravel().tolist()


def _without_arrays(entry: Entry, ids: list[str] | None) -> tuple[Any, ...]:
    if entry.arm:
        return (None, None, None, ids, entry.key_name or None, None, None, *_of_release(entry))
    return (None, None, None, ids, entry.key_name) if entry.key_name else (None, None, None, ids)


def _check(fits: bool) -> None:
    if not fits:
        raise ValueError("does not fit the layout")


def _bytes(values: np.ndarray, form: Form) -> bytes:
    return values.tobytes() if values.dtype is form.float32 else values.astype("<f4").tobytes()


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
