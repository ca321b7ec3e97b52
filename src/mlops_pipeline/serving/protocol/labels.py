"""``POST /labels``: what came of predictions, as JSON (records or columns) or CSV; read whole, or refused with its faults named."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from mlops_pipeline.contract.label import Target, prediction_name, seconds_of
from mlops_pipeline.contract.values import LARGEST_INTEGER, spelled
from mlops_pipeline.inference.faults import Fault, Reason, Refused
from mlops_pipeline.inference.signature import Lengths
from mlops_pipeline.monitoring.labels import ENTITY, ID, ID_COLUMN, REQUEST, REQUEST_COLUMN, ROW_COLUMN, TARGET_COLUMN, TIME_COLUMN, One
from mlops_pipeline.serving.problems import refused
from mlops_pipeline.serving.protocol.predict import not_json, text_of_csv
from mlops_pipeline.serving.protocol.python_json import check_keys, python_json
from mlops_pipeline.serving.request import CSV, JSON, Request

FORM = '{"labels": [{"request_id": …, "row": 0, "label": …}, …]} or {"columns": {"id": […], "label": […]}}'
MOST_FAULTS = 1000
"""Of more rows nobody is told; the rest is not looked at."""

Row = dict[str, Any]


class LabelBody:
    """Reads the labels of one target. Pure, without the network."""

    def __init__(self, target: Target, lengths: Lengths, max_rows: int) -> None:
        self._target, self._lengths, self._max_rows = target, lengths, max_rows
        aliases = {target.name: TARGET_COLUMN, **({target.time_column: TIME_COLUMN} if target.time_column else {})}
        own = (REQUEST_COLUMN, ROW_COLUMN, ID_COLUMN, TARGET_COLUMN, TIME_COLUMN)
        self._aliases = {name: alias for name, alias in aliases.items() if name not in own}
        self._known = frozenset((*own, *target.entity))

    def read(self, request: Request, body: bytes) -> tuple[list[One], int]:
        """The labels, and how many rows had none yet. Raises :class:`Refused` if any row is wrong."""
        rows = self._of_csv(body) if request.must_be(JSON, CSV) == CSV else self._of_json(body)
        if not rows:
            raise refused(422, "no_rows", "the body holds no label: send at least one")
        if len(rows) > self._max_rows:
            raise refused(413, "too_many_rows", f"the body has more than {self._max_rows:,} rows: send several requests")
        labels: list[One] = []
        faults: list[Fault] = []
        for place, row in enumerate(rows):
            try:
                found = self._label(self._renamed(row), place)
            except _Wrong as wrong:
                faults.append(wrong.fault)
                if len(faults) == MOST_FAULTS:
                    break
                continue
            if found is not None:
                labels.append(found)
        if faults:
            raise Refused(422, faults)
        return labels, len(rows) - len(labels)

    # ---------------------------------------------------------------------------------------------------- forms of it

    def _of_json(self, body: bytes) -> list[Row]:
        try:
            given = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            try:
                given = python_json(body) if b"NaN" in body else None
            except (ValueError, RecursionError):
                given = None
            if given is None:
                raise not_json(error, FORM, body) from error
        check_keys(body)
        if not isinstance(given, dict) or len(given) != 1 or not given.keys() <= {"labels", "columns"}:
            raise refused(400, "malformed", f"the body is not {FORM}")
        return _rows_of_columns(given["columns"]) if "columns" in given else _rows_of_records(given["labels"])

    def _of_csv(self, body: bytes) -> list[Row]:
        lines = csv.reader(io.StringIO(text_of_csv(body), newline=""), strict=True)
        try:
            read = list(islice((line for line in lines if line), self._max_rows + 2))
        except csv.Error as error:
            raise refused(400, "malformed", f"the body is not CSV: {error}") from error
        if not read:
            raise refused(400, "malformed", "the body is empty: give a header of column names and rows")
        header = [name.strip() for name in read[0]]
        if len(header) == 1 and any(sign in header[0] for sign in ";\t|"):
            raise refused(422, "malformed", "the header has one column alone: write commas between the cells")
        if len(set(header)) != len(header):
            raise refused(422, "malformed", "the header has a column twice: name each once")
        for place, line in enumerate(read[1:]):
            if len(line) != len(header):
                raise Refused(422, [Fault("malformed", f"row {place} has {len(line)} cells under a header of {len(header)}", place)])
        return [dict(zip(header, line, strict=True)) for line in read[1:]]

    def _renamed(self, row: Row) -> Row:
        """The row with the names of ours where it has those of the table."""
        renamed = {self._aliases.get(name, name) if self._aliases.get(name) not in row else name: value for name, value in row.items()}
        return renamed if self._aliases else row

    # ------------------------------------------------------------------------------------------------------- one label

    def _label(self, row: Row, place: int) -> One | None:
        """A row's label; None if it has none yet. Raises :class:`_Wrong`."""
        if (unknown := next((name for name in row if name not in self._known), None)) is not None:
            shown = ", ".join(sorted(self._known))
            raise _Wrong("unknown_column", f"'{unknown[:60]}' is no column of labels: leave it out, or use {shown}", place)
        value, happened = self._value(row, place), self._moment(row, place)
        named = self._named(row, place, happened)
        return None if value is None else One(*named, value, happened)

    def _value(self, row: Row, place: int) -> Any:
        if TARGET_COLUMN not in row:
            raise _Wrong("missing_column", f"'{TARGET_COLUMN}' is missing: what came of it", place, TARGET_COLUMN)
        given = row[TARGET_COLUMN]
        value, is_read = (None, False) if isinstance(given, dict | list) else self._target.read(given)
        if not is_read:
            raise _Wrong("wrong_type", f"'{TARGET_COLUMN}' is none of the values that {self._target.name} has", place, TARGET_COLUMN)
        if isinstance(value, str) and self._lengths.category.is_passed_by(value):
            longest = self._lengths.category
            raise _Wrong("too_long", f"'{TARGET_COLUMN}' has {len(value):,} characters, more than {longest}", place, TARGET_COLUMN)
        return value

    def _moment(self, row: Row, place: int) -> float | None:
        given = row.get(TIME_COLUMN)
        if given is None or given == "":
            return None
        happened = seconds_of(given, self._target.time_form)
        if happened is None:
            raise _Wrong("wrong_type", f"'{TIME_COLUMN}' is no moment: write 2013-01-31T12:00:00Z", place, TIME_COLUMN)
        return happened

    def _named(self, row: Row, place: int, happened: float | None) -> tuple[str, str, int]:
        """By what a label is joined, and the name and place of its prediction."""
        ways = [name for name in (REQUEST_COLUMN, ID_COLUMN) if name in row]
        entity = not ways and any(name in row for name in self._target.entity)
        if len(ways) + entity != 1:
            said = "names its prediction twice" if ways else "does not say which prediction it is of"
            raise _Wrong("malformed", f"{said}: give one of {self._ways()}", place)
        if ROW_COLUMN in row and ways != [REQUEST_COLUMN] and ROW_COLUMN not in self._target.entity:
            raise _Wrong("malformed", f"'{ROW_COLUMN}' goes with '{REQUEST_COLUMN}' alone", place, ROW_COLUMN)
        if entity:
            return ENTITY, self._of_entity(row, place, happened), 0
        name = self._name(row[ways[0]], place, ways[0])
        if ways == [ID_COLUMN]:
            return ID, name, 0
        number = _row_number(row.get(ROW_COLUMN, 0))
        if number is None:
            raise _Wrong("wrong_type", f"'{ROW_COLUMN}' is no row's number, counted from 0", place, ROW_COLUMN)
        return REQUEST, name, number

    def _of_entity(self, row: Row, place: int, happened: float | None) -> str:
        for name in self._target.entity:
            if row.get(name) in (None, ""):
                raise _Wrong("null", f"'{name}' is part of the entity's key, and is not given", place, name)
            if isinstance(row[name], dict | list):
                raise _Wrong("wrong_type", f"'{name}' is no text and no number", place, name)
        if happened is None:
            raise _Wrong("null", f"an entity's label needs '{TIME_COLUMN}': when it happened", place, TIME_COLUMN)
        return self._name("/".join((spelled(row[name]) or "").strip() for name in self._target.entity), place, self._target.entity[0])

    def _name(self, given: Any, place: int, column: str) -> str:
        if isinstance(given, float) and given.is_integer():
            given = int(given)
        if given is None or (isinstance(given, str) and not given.strip()):
            raise _Wrong("null", f"'{column}' is empty: it says which prediction the label is of", place, column)
        if isinstance(given, bool) or not isinstance(given, str | int) or "\0" in str(given):
            raise _Wrong("wrong_type", f"'{column}' is no text that names a prediction", place, column)
        name = prediction_name(str(given))
        if self._lengths.id.is_passed_by(name):
            raise _Wrong("too_long", f"'{column}' has {len(name):,} characters, more than {self._lengths.id}", place, column)
        return name

    def _ways(self) -> str:
        keys = " and ".join(self._target.entity)
        return f"'{REQUEST_COLUMN}' (and '{ROW_COLUMN}'), '{ID_COLUMN}'" + (f", or {keys} with '{TIME_COLUMN}'" if keys else "")


class _Wrong(Exception):
    """What is wrong with one row."""

    def __init__(self, reason: Reason, what: str, place: int, column: str | None = None) -> None:
        super().__init__(what)
        self.fault = Fault(reason, f"row {place}: {what}", place, column)


def _row_number(given: Any) -> int | None:
    if isinstance(given, str):
        given = int(given.strip()) if given.strip().isdecimal() and len(given) < 20 else None
    if isinstance(given, bool) or not isinstance(given, int | float) or given != given // 1:
        return None
    return int(given) if 0 <= given <= LARGEST_INTEGER else None


def _rows_of_records(given: Any) -> list[Row]:
    if not isinstance(given, list):
        raise refused(422, "malformed", f"'labels' is no list: the body is {FORM}")
    wrong = next((place for place, row in enumerate(given) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise Refused(422, [Fault("malformed", f"row {wrong} is no object of columns and values", wrong)])
    return given


def _rows_of_columns(given: Any) -> list[Row]:
    if not isinstance(given, dict) or not given or not all(isinstance(values, list) for values in given.values()):
        raise refused(422, "malformed", f"'columns' maps names to lists of values: the body is {FORM}")
    lengths: Sequence[int] = sorted({len(values) for values in given.values()})
    if len(lengths) > 1:
        raise refused(422, "malformed", f"the lists of 'columns' have from {lengths[0]} to {lengths[-1]} values: give each the same number")
    return [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]
