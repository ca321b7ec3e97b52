"""``POST /predict``: named records in, labels with probabilities out."""

from __future__ import annotations

import codecs
from typing import Any

import msgspec
import numpy as np

from mlops_pipeline.inference.faults import SHOWN_FAULTS, Fault, Notice, Refused, first_of
from mlops_pipeline.inference.signature import Rows, Signature
from mlops_pipeline.serving.protocol import Headers
from mlops_pipeline.serving.protocol.decoders import (
    Lenient,
    are_whole,
    count_of_keys,
    lenient_ones,
    records_decoder,
    values_of,
    whole_columns,
)
from mlops_pipeline.serving.protocol.python_json import check_keys, how_written, null_for_nan, python_json
from mlops_pipeline.serving.request import JSON, Request


class _Loose(msgspec.Struct, forbid_unknown_fields=True):
    """The same body with records of any kind: what a refused one is looked at through, to say what is wrong."""

    records: list[Any]
    ids: list[str] | None = None


_loose = msgspec.json.Decoder(_Loose)


class Predict:
    """The protocol for one version of a model, under its name and number."""

    def __init__(self, signature: Signature, name: str, version: str) -> None:
        self._signature = signature
        self._model = {"name": name, "version": version}
        self._whole = whole_columns(signature)
        self._strict = records_decoder(signature)
        self._lenient = [(records_decoder(one.signature, lenient=True, complete=one.complete), one) for one in lenient_ones(signature)]
        self._nothing, self._width = signature.nothing, len(signature.columns)
        self._label = [str(name) for name in signature.classes]

    def read(self, request: Request, body: bytes) -> tuple[Rows, None]:
        """Checked rows; raises :class:`Refused`."""
        request.must_be(JSON, csv_at="invocations")
        return self.rows(body), None

    def rows(self, body: bytes) -> Rows:
        """Checked rows of a JSON body; raises :class:`Refused`."""
        try:
            given = self._strict.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return self._looked_at_again(body, complete="missing required field" not in str(error))
        self._check_ids(given.ids, len(given.records))
        values = values_of(given.records)
        if self._nothing is not None and self._nothing in values:
            return self._looked_at_closely(body)
        check_keys(body, 1 + (given.ids is not None) + len(values) * self._width)
        return self._signature.rows(values, given.ids, usual=True)

    def _looked_at_again(self, body: bytes, *, complete: bool) -> Rows:
        read = self._read_leniently(null_for_nan(body), complete=complete)
        if read is None:
            return self._looked_at_closely(body)
        given, way = read
        values = values_of(given.records)
        if not are_whole(self._whole, values) or (self._nothing is not None and self._nothing in values):
            return self._looked_at_closely(body)
        self._check_ids(given.ids, len(values))
        check_keys(body, 1 + (given.ids is not None) + count_of_keys(values, complete=way.complete))
        return self._signature.rows(values, given.ids, usual=way.usual)

    def _read_leniently(self, body: bytes, *, complete: bool) -> tuple[Any, Lenient] | None:
        """The body as the first decoder reads it that can, and what that one was made for; no record is complete unless it may be."""
        for decoder, way in self._lenient:
            if way.complete and not complete:
                continue
            try:
                return decoder.decode(body), way
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
        return None

    def _looked_at_closely(self, body: bytes) -> Rows:
        try:
            given = _loosely(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise not_json(error, '{"records": [{column: value, …}, …]}', body) from error
        check_keys(body)
        self._check_ids(given.ids, len(given.records))
        return self._signature.from_records(given.records, given.ids)

    def _check_ids(self, ids: list[str] | None, count: int) -> None:
        if ids is None:
            return
        if len(ids) != count:
            raise Refused(422, [Fault("malformed", f"'ids' has {len(ids)} entries for {count} records: give one a record, or none")])
        longest = self._signature.lengths.id
        if ids and 4 * max(map(len, ids)) > min(4 * longest.characters, longest.bytes):
            for row, key in enumerate(ids):
                if longest.is_passed_by(key):
                    raise Refused(422, [Fault("too_long", f"ids[{row}] has {len(key):,} characters, more than {longest}", row)])

    def write(self, request: Request, rows: Rows, wanted: None, outputs: np.ndarray) -> tuple[bytes, Headers]:  # noqa: ARG002  # part of the protocol
        """The answer's JSON."""
        predictions: list[dict[str, Any]]
        if not self._signature.classes:
            predictions = [{"value": value} for value in outputs.tolist()]
        else:
            classes, labels = self._signature.classes, self._label
            best = outputs.argmax(axis=1).tolist()
            predictions = [
                {"label": classes[k], "probabilities": dict(zip(labels, row, strict=True))}
                for k, row in zip(best, outputs.tolist(), strict=True)
            ]
        if rows.ids is not None:
            predictions = [{"id": key, **prediction} for key, prediction in zip(rows.ids, predictions, strict=True)]
        answer = {"request_id": request.request_id, "model": self._model, "predictions": predictions}
        if request.computed is not None:
            if request.computed.features is not None:
                for prediction, features in zip(predictions, request.computed.features, strict=True):
                    prediction["features"] = features
            if request.computed.as_of is not None:
                answer["features_as_of"] = request.computed.as_of
        if rows.notices:
            answer["warnings"] = told(rows.notices)
        return msgspec.json.encode(answer), [(b"content-type", JSON)]


def told(notices: list[Notice]) -> list[dict[str, Any]]:
    """What is unusual, as an answer says it: the first of many."""
    shown = first_of(notices, SHOWN_FAULTS)
    return [{"reason": one.reason, "column": one.column, "rows": one.rows, "detail": one.detail} for one in shown]


def _loosely(body: bytes) -> _Loose:
    """The body with NaN read as null, as MLflow's route and the Open Inference Protocol's read it, and infinity as what it is."""
    try:
        return _loose.decode(body)
    except msgspec.DecodeError as error:
        if isinstance(error, msgspec.ValidationError) or (b"NaN" not in body and b"Infinity" not in body):
            raise
        try:
            return msgspec.convert(python_json(body), _Loose)
        except (ValueError, RecursionError):
            raise error from None


def not_json(error: Exception, form: str, body: bytes) -> Refused:
    """The refusal of a body that has not the protocol's form."""
    said = (
        "nested too deeply"
        if isinstance(error, RecursionError)
        else how_written(body) or ("not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error))
    )
    return Refused(400, [Fault("malformed", f"the body is not {form}: {said}")])


def text_of_csv(body: bytes) -> str:
    """The text of a CSV body; raises :class:`Refused` (400) that names the line of the first byte that is none."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        here = f"line {line} has a byte that is none: write it in UTF-8 (pandas: to_csv(encoding='utf-8'))"
        why = how_written(body.removeprefix(codecs.BOM_UTF8)) or here
        raise Refused(400, [Fault("malformed", f"the body is not CSV in UTF-8: {why}")]) from error
