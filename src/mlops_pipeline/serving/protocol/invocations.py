"""MLflow's ``/invocations``: four JSON forms and CSV, as MLflow's own scoring server takes them.

Source: mlflow.org/docs/latest/ml/deployment/deploy-model-locally («Inference Server Specification») and
``mlflow.pyfunc.scoring_server``. JSON may hold the words NaN and Infinity, since Python's own writer, which MLflow's
client uses, writes them: NaN is taken for null, infinity is refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from mlops_pipeline.contract.dialect import PLAIN, Dialect, bare_names, numbered
from mlops_pipeline.inference.faults import Fault, Refused
from mlops_pipeline.inference.signature import Rows, Signature, flat
from mlops_pipeline.serving.protocol import Headers
from mlops_pipeline.serving.protocol.decoders import (
    are_whole,
    array_type,
    count_of_keys,
    lenient_ones,
    record_type,
    values_of,
    whole_columns,
)
from mlops_pipeline.serving.protocol.predict import not_json, text_of_csv
from mlops_pipeline.serving.protocol.python_json import check_keys, null_for_nan, python_json
from mlops_pipeline.serving.request import CSV, JSON, Request

# How long a text may be is for the signature to say, as for every other form; a body's size is limited before.
csv.field_size_limit(2**31 - 1)

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_FORM = "a JSON object with one of dataframe_split, dataframe_records, instances, inputs"


class _Forms:
    """The JSON forms whose values one decoder reads as it is told their columns."""

    def __init__(self, signature: Signature, *, lenient: bool = False, complete: bool = True) -> None:
        self._names, self._nothing, self._complete = list(signature.names), signature.nothing, complete
        row, record = array_type(signature, lenient=lenient), record_type(signature, lenient=lenient, complete=complete)
        split = msgspec.defstruct(
            "Split",
            [("columns", list[str]), ("data", list[row]), ("index", msgspec.Raw, msgspec.Raw())],  # type: ignore[valid-type]
            forbid_unknown_fields=True,
        )
        body = msgspec.defstruct(
            "Body",
            [
                ("dataframe_split", split | msgspec.UnsetType, UNSET),
                ("dataframe_records", list[record] | msgspec.UnsetType, UNSET),  # type: ignore[valid-type]
                ("instances", msgspec.Raw, msgspec.Raw()),
                ("inputs", msgspec.Raw, msgspec.Raw()),
            ],
            forbid_unknown_fields=True,
        )
        self._body: msgspec.json.Decoder[Any] = msgspec.json.Decoder(body)
        self._rows: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]

    def values(self, body: bytes) -> list[tuple[Any, ...]] | None:
        """The rows' values in the model's order; None if the body is not of a form, a type or an order that can be read so.

        Raises :class:`Refused` for a key that is repeated.
        """
        try:
            given = self._body.decode(body)
            split, records, instances, inputs = given.dataframe_split, given.dataframe_records, given.instances, given.inputs
            if split is not UNSET and records is UNSET and not instances and not inputs and split.columns == self._names:
                check_keys(body, 4 if split.index else 3)
                return values_of(split.data)
            if records is not UNSET and split is UNSET and not instances and not inputs:
                values = values_of(records)
                if self._nothing is not None and self._nothing in values:
                    return None
                check_keys(body, 1 + count_of_keys(values, complete=self._complete))
                return values
            if split is UNSET and records is UNSET and bool(instances) != bool(inputs):
                values = values_of(self._rows.decode(instances or inputs))
                check_keys(body, 1)
                return values
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        return None


class Invocations:
    """The protocol for one model."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._names = list(signature.names)
        self._whole = whole_columns(signature)
        self._strict = _Forms(signature)
        self._lenient = [(_Forms(one.signature, lenient=True, complete=one.complete), one.usual) for one in lenient_ones(signature)]

    def read(self, request: Request, body: bytes) -> tuple[Rows, None]:
        """Checked rows of JSON or CSV; raises :class:`Refused`."""
        return (self.rows_of_csv(body) if request.must_be(JSON, CSV) == CSV else self.rows(body)), None

    def rows(self, body: bytes) -> Rows:
        """Checked rows of a JSON body; raises :class:`Refused`."""
        if (values := self._strict.values(body)) is not None:
            return self._signature.rows(values, usual=True)
        readable = null_for_nan(body)
        for forms, usual in self._lenient:
            if (values := forms.values(readable)) is not None and are_whole(self._whole, values):
                return self._signature.rows(values, usual=usual)
        return self._looked_at_closely(body)

    def rows_of_csv(self, body: bytes) -> Rows:
        """Checked rows of a CSV body with a header, plain or with the signs of the training data; raises :class:`Refused`."""
        text = text_of_csv(body)
        try:
            header, written = csv_header(text, self._signature.dialect, self._names)
            rows = list(islice(_lines(text, written), 1, self._signature.max_rows + 2))
        except csv.Error as error:
            raise Refused(400, [Fault("malformed", f"the body is not CSV: {error}")]) from error
        if not header:
            raise Refused(400, [Fault("malformed", "the body is empty: give a header of column names and rows")])
        _check_names(header)
        self._signature.check_names(header)
        for index, row in enumerate(rows):
            if len(row) != len(header):
                raise Refused(422, [Fault("malformed", f"row {index} has {len(row)} cells under a header of {len(header)}", index)])
        empty = {name: None if "" in self._signature.words_for_null(name) else "" for name in self._names}
        known = self._signature.columns
        return self._signature.from_columns(
            {name: [row[k] or empty[name] for row in rows] if name in known else () for k, name in enumerate(header)}
        )

    def write(self, request: Request, rows: Rows, wanted: None, outputs: np.ndarray) -> tuple[bytes, Headers]:  # noqa: ARG002  # part of the protocol
        """The answer's JSON: probabilities a row, or values."""
        return msgspec.json.encode({"predictions": outputs.tolist()}), [(b"content-type", JSON)]

    def _looked_at_closely(self, body: bytes) -> Rows:
        try:
            given = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            given = _python_json(body, error)
        check_keys(body)
        if not isinstance(given, dict):
            raise Refused(400, [Fault("malformed", f"the body is not {_FORM}")])
        there = [form for form in FORMS if form in given]
        unknown = sorted(given.keys() - {*FORMS, "params"})
        if len(there) != 1 or unknown:
            what = f"key '{unknown[0][:60]}' is unknown" if unknown else f"it holds {' and '.join(there) or 'none of them'}"
            raise Refused(400, [Fault("malformed", f"the body is not {_FORM}: {what}")])
        if given.get("params") is not None and given["params"] != {}:
            raise Refused(422, [Fault("malformed", "this model takes no 'params': leave them out")])
        value = given[there[0]]
        read: dict[str, Callable[[Any], Rows]] = {
            "dataframe_split": self._split,
            "dataframe_records": self._records,
            "instances": self._instances,
            "inputs": self._inputs,
        }
        return read[there[0]](value)

    def _split(self, value: Any) -> Rows:
        if not isinstance(value, dict) or not {"columns", "data"} <= value.keys() <= {"columns", "data", "index"}:
            raise Refused(422, [Fault("malformed", "'dataframe_split' needs 'columns' and 'data' (and may have 'index')")])
        columns, data = value["columns"], value["data"]
        if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns) or not isinstance(data, list):
            raise Refused(422, [Fault("malformed", "'dataframe_split.columns' must be a list of names and 'data' a list of rows")])
        _check_names(columns)
        if not self._signature.within.isdisjoint(columns):
            _check_widths(columns, data)
            return self._signature.from_records([dict(zip(columns, row, strict=True)) for row in data])
        self._signature.check_names(columns)
        return self._table(columns, data)

    def _records(self, value: Any) -> Rows:
        if not isinstance(value, list):
            raise Refused(422, [Fault("malformed", "'dataframe_records' must be a list of records")])
        return self._signature.from_records(value)

    def _instances(self, value: Any) -> Rows:
        if not isinstance(value, list):
            raise Refused(422, [Fault("malformed", "'instances' must be a list of records, or of rows in the model's order")])
        if value and all(isinstance(row, list) for row in value):
            return self._table(self._names, value)
        return self._signature.from_records(value)

    def _inputs(self, value: Any) -> Rows:
        if isinstance(value, dict):
            within = self._signature.within
            given = flat(value, within, 0) if within else value
            columns: dict[str, Sequence[Any]] = {
                name: _flat(values if isinstance(values, list) else [values]) for name, values in given.items()
            }
            if not within.isdisjoint(columns):
                lengths = set(map(len, columns.values()))
                if len(lengths) > 1:
                    what = f"the columns have {min(lengths)} to {max(lengths)} values: give each the same number"
                    raise Refused(422, [Fault("malformed", what)])
                return self._signature.from_records([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
            return self._signature.from_columns(columns)
        if isinstance(value, list):
            return self._instances(value)
        raise Refused(422, [Fault("malformed", "'inputs' must map columns to lists of values, or be a list of rows")])

    def _table(self, columns: list[str], data: list[Any]) -> Rows:
        _check_widths(columns, data)
        known = self._signature.columns
        return self._signature.from_columns({name: [row[k] for row in data] if name in known else () for k, name in enumerate(columns)})


def _check_widths(columns: list[str], data: list[Any]) -> None:
    """Raises :class:`Refused` for a row that has not a value for each column."""
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            what = f"has {len(row)} values" if isinstance(row, list) else "is no list"
            raise Refused(422, [Fault("malformed", f"row {index} {what}: give a list of {len(columns)} values", index)])


def csv_header(text: str, dialect: Dialect, known: Collection[str]) -> tuple[list[str], Dialect]:
    """The names in the header of a CSV text, as training told them, none for an empty one, and how the text is written.

    That is plainly, or as the training data is (``dialect``) where no name between commas is ``known``. Raises ``csv.Error``.
    """
    written = PLAIN
    if dialect.delimiter != PLAIN.delimiter:
        by_commas = next(csv.reader(io.StringIO(text.lstrip(), newline="")), [])
        written = dialect if set(by_commas).isdisjoint(known) else PLAIN
    names = bare_names(next(_lines(text, written), []), dialect)
    return numbered(names) if dialect.numbered else names, written


def _lines(text: str, dialect: Dialect) -> Iterator[list[str]]:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        escapechar=dialect.escape,
        skipinitialspace=dialect.skip_blanks,
        strict=True,
    )
    return (line for line in reader if line)


def _check_names(names: list[str]) -> None:
    seen: set[str] = set()
    twice = next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]
    if twice is not None:
        raise Refused(422, [Fault("malformed", f"column '{twice[:60]}' is given twice", None, twice[:100])])


def _flat(values: list[Any]) -> list[Any]:
    """A column given as ``[[1], [2]]`` is the same as ``[1, 2]``."""
    if values and all(isinstance(value, list) and len(value) == 1 for value in values):
        return [value[0] for value in values]
    return values


def _python_json(body: bytes, error: Exception) -> Any:
    """JSON as Python writes it, with NaN and Infinity."""
    if b"NaN" not in body and b"Infinity" not in body:
        raise not_json(error, _FORM, body) from error
    try:
        return python_json(body)
    except (ValueError, RecursionError) as second:
        raise not_json(second, _FORM, body) from second
