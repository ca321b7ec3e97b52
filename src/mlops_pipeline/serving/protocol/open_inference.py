"""The Open Inference Protocol v2 over HTTP, with the binary tensor data extension: tensors to checked rows, outputs to tensors.

Written after https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md

A model's inputs are one tensor a column, shape [rows] or [rows, 1], named by the column. For speed all number columns may come
as one tensor ``numbers`` and all categories as one tensor ``categories``, columns in the order of the metadata's inputs.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Sequence
from itertools import chain, islice
from typing import Annotated, Any, NamedTuple, NoReturn

import msgspec
import numpy as np

from mlops_pipeline.contract.spec import AS_TEXT, CATEGORIES, NUMBERS
from mlops_pipeline.inference.faults import SHOWN_FAULTS, Fault, Notice, Reason, Refused
from mlops_pipeline.inference.signature import Rows, Signature, extra_columns
from mlops_pipeline.serving.problems import refused
from mlops_pipeline.serving.protocol import Headers
from mlops_pipeline.serving.protocol.predict import told
from mlops_pipeline.serving.protocol.python_json import check_keys, how_written, null_for_nan, whole_as_integers, without_nan
from mlops_pipeline.serving.request import JSON, NONE, OCTETS, Request

EXTENSIONS = ("binary_tensor_data",)


class Wanted(NamedTuple):
    """An output that the client asked for, and whether its data come after the JSON."""

    name: str
    binary: bool


class Parsed(NamedTuple):
    """A request: its rows, its ``id`` for the answer, the outputs in the order of the answer."""

    rows: Rows
    id: str | None
    outputs: tuple[Wanted, ...]
    asks_as_of: bool = False


class OpenInference:
    """The protocol for one version of a model, under its name and number."""

    def __init__(self, signature: Signature, name: str, version: str) -> None:
        self._signature, self._name, self._version = signature, name, version

    def read(self, request: Request, body: bytes) -> tuple[Rows, Parsed]:
        """Checked rows, and which outputs are wanted in what form; raises :class:`Refused`."""
        request.must_be(JSON, OCTETS, NONE)
        parsed = parse(self._signature, body, request.header_length)
        request.asks_as_of = parsed.asks_as_of
        return parsed.rows, parsed

    def write(self, request: Request, rows: Rows, wanted: Parsed, outputs: np.ndarray) -> tuple[bytes, Headers]:
        """The answer: JSON, or JSON and binary tensors with the length of the JSON in a header."""
        as_of = None if request.computed is None else request.computed.as_of
        content, header_length = answer(self._name, self._version, self._signature, wanted, outputs, rows.notices, as_of)
        if header_length is None:
            return content, [(b"content-type", JSON)]
        return content, [(b"content-type", OCTETS), (b"inference-header-content-length", b"%d" % header_length)]


class _InputParameters(msgspec.Struct, gc=False):
    binary_data_size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    shared_memory_region: str | None = None


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: _InputParameters | None = None


class _OutputParameters(msgspec.Struct, gc=False):
    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: str | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: _OutputParameters | None = None


class _RequestParameters(msgspec.Struct, gc=False):
    binary_data_output: bool = False
    features_as_of: bool = False


class _Request(msgspec.Struct, gc=False):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: _RequestParameters | None = None


class _Tensor(msgspec.Struct, omit_defaults=True, gc=False):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int] | None = None
    data: list[Any] | None = None


class _Response(msgspec.Struct, omit_defaults=True, gc=False):
    model_name: str
    outputs: list[_Tensor]
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, str] | None = None


class _Datatype(NamedTuple):
    """How a tensor's elements are read: from JSON flat or nested by rows, and from bytes (BYTES elements have no fixed size)."""

    dtype: np.dtype[Any] | None
    flat: msgspec.json.Decoder[list[Any]]
    nested: msgspec.json.Decoder[list[list[Any]]]
    words: str
    low: int = 0
    high: int = 0


def _datatype(dtype: str | None, element: Any, words: str) -> _Datatype:
    made = None if dtype is None else np.dtype(dtype)
    return _Datatype(made, msgspec.json.Decoder(list[element]), msgspec.json.Decoder(list[list[element]]), words)


def _integer(bits: int, *, signed: bool) -> _Datatype:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    # msgspec takes no bound above int64; what exceeds a UINT64 is found in _listed.
    meta = msgspec.Meta(ge=low, le=high) if high < 2**63 else msgspec.Meta(ge=low)
    made = _datatype(f"<{'i' if signed else 'u'}{bits // 8}", Annotated[int, meta], f"an integer from {low} to {high}")
    return made._replace(low=low, high=high)


_DATATYPES = {
    "FP32": _datatype("<f4", float | None, "a finite number or null"),
    "FP64": _datatype("<f8", float | None, "a finite number or null"),
    **{f"INT{bits}": _integer(bits, signed=True) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": _integer(bits, signed=False) for bits in (8, 16, 32, 64)},
    "BOOL": _datatype("|u1", bool, "true or false"),
    "BYTES": _datatype(None, str | None, "text or null"),
}
_OF_NUMBERS = {name: how for name, how in _DATATYPES.items() if name not in ("BOOL", "BYTES")}
_OF_BOOLEANS = {name: how for name, how in _DATATYPES.items() if name != "BYTES"}
_OF_CATEGORIES = {"BYTES": _DATATYPES["BYTES"]}
_OF_KIND = {"boolean": _OF_BOOLEANS, **dict.fromkeys(AS_TEXT, _OF_CATEGORIES)}
_OF_GATHERED_NUMBERS = {"FP32": _DATATYPES["FP32"], "FP64": _DATATYPES["FP64"]}

_FLOATS = msgspec.json.Decoder(list[float])
_REQUEST = msgspec.json.Decoder(_Request)
_ENCODE = msgspec.json.Encoder().encode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FLOAT32 = np.dtype("<f4")
_LENGTH = struct.Struct("<I")

_ONE_OUTPUT = {binary: (Wanted("prediction", binary),) for binary in (False, True)}
_TWO_OUTPUTS = {binary: (Wanted("label", binary), Wanted("probabilities", binary)) for binary in (False, True)}


def server_metadata(version: str) -> bytes:
    """The body of ``GET /v2``."""
    return _ENCODE({"name": "mlops-pipeline", "version": version, "extensions": EXTENSIONS})


def model_ready(name: str) -> bytes:
    """The body of ``GET /v2/models/{name}[/versions/{version}]/ready``."""
    return _ENCODE({"name": name, "ready": True})


def model_metadata(
    name: str, version: str, signature: Signature, platform: str = "onnx_onnxv1", raw: Signature | None = None, why_not: str = ""
) -> bytes:
    """The body of ``GET /v2/models/{name}[/versions/{version}]``.

    ``inputs`` are the columns' tensors, in a datatype that can say null where the column may be null. The gathered tensors are
    alternatives to them and stand under ``parameters``, whose values the specification keeps to strings and numbers; so do the tensors of
    a ``raw`` row, as JSON in a text, and ``why_not`` none are taken now.
    """
    inputs = _tensors(signature)
    parameters: dict[str, str | int] = {"max_rows": signature.max_rows, "null": "NaN in FP32 and FP64; null in JSON data"}
    for gathered, columns, datatype in _gathered(signature):
        parameters[gathered] = f"{datatype} [-1, {len(columns)}]"
        parameters[f"{gathered}_columns"] = f"'{gathered}' may replace the tensors of {', '.join(columns)}, in this order"
    if raw is not None:
        parameters["raw_inputs"] = _ENCODE(_tensors(raw)).decode()
        parameters["raw_inputs_note"] = "tensors of the source's columns, which may come instead of inputs: these are computed from them"
    if why_not:
        parameters["raw_inputs_not_taken"] = why_not
    return _ENCODE(
        {
            "name": name,
            "versions": [version],
            "platform": platform,
            "inputs": inputs,
            "outputs": [_Tensor(output, shape, datatype) for output, (datatype, shape) in _outputs(signature).items()],
            "parameters": parameters,
        }
    )


def _tensors(signature: Signature) -> list[_Tensor]:
    return [_Tensor(column, [-1], _usual_datatype(signature, column)) for column in signature.names]


def error(detail: str) -> bytes:
    """The body of every answer that is no success."""
    return _ENCODE({"error": detail})


def parse(signature: Signature, body: bytes, header_length: int | None = None) -> Parsed:
    """A request of ``POST /v2/models/{name}[/versions/{version}]/infer``.

    ``header_length`` is the request's ``Inference-Header-Content-Length``: the JSON's bytes, after which come the binary tensors;
    None if the body is all JSON. FP32 ``numbers`` in binary stay a view of the body where they lie aligned in memory.

    Raises :class:`Refused`: 400 if the bytes cannot be read, 422 if they say what the model does not take, 413 for too many rows.
    """
    request = _decoded(body, header_length)
    given = {tensor.name: tensor for tensor in request.inputs}
    if len(given) != len(request.inputs):
        _refuse_repeated([tensor.name for tensor in request.inputs], "inputs")
    if request.id is not None and signature.lengths.id.is_passed_by(request.id):
        raise refused(400, "too_long", f"the id has {len(request.id):,} characters, more than {signature.lengths.id}: send a shorter one")
    outputs = _wanted(signature, request)
    count = _count(signature, request.inputs)
    blocks = _blocks(request.inputs, body, header_length)
    numbers, used = _numbers(signature, given, count, blocks) if signature.numbers else (None, 0)
    categories, used_too = _categories(signature, given, count, blocks) if signature.categories else (None, 0)
    notices = None
    if used + used_too != len(given):
        notices = extra_columns(dict.fromkeys(_extra(signature, given), count))
    asks_as_of = request.parameters is not None and request.parameters.features_as_of
    return Parsed(signature.checked(numbers, categories, notices=notices), request.id, outputs, asks_as_of)


def answer(
    model_name: str,
    model_version: str,
    signature: Signature,
    parsed: Parsed,
    outputs: np.ndarray,
    notices: list[Notice] | None = None,
    as_of: str | None = None,
) -> tuple[bytes, int | None]:
    """The answer's body, and its ``Inference-Header-Content-Length`` if a tensor in it is binary.

    ``outputs`` are the engine's: probabilities float32 (rows, classes), or values float32 (rows,). A value that is not finite is
    null in JSON, which has no word for it. ``notices`` stand under ``parameters``, whose values the specification keeps to strings and
    numbers, as JSON in a text; beside them ``features_as_of``, if that is asked for.
    """
    tensors, blocks = [], []
    kinds = _outputs(signature)
    for name, binary in parsed.outputs:
        datatype, shape = kinds[name]
        tensor = _Tensor(name, [len(outputs), *shape[1:]], datatype)
        if binary:
            block = _bytes_of_labels(signature.classes, datatype, outputs) if name == "label" else outputs.astype(_FLOAT32).tobytes()
            tensor.parameters = {"binary_data_size": len(block)}
            blocks.append(block)
        elif name == "label":
            classes = _named(signature.classes, datatype)
            tensor.data = [classes[place] for place in outputs.argmax(axis=1).tolist()]
        else:
            tensor.data = outputs.ravel().tolist()
        tensors.append(tensor)
    parameters = {"warnings": _ENCODE(told(notices)).decode()} if notices else None
    if as_of is not None:
        parameters = {**(parameters or {}), "features_as_of": as_of}
    header = _ENCODE(_Response(model_name, tensors, model_version, parsed.id, parameters))
    return (b"".join((header, *blocks)), len(header)) if blocks else (header, None)


def _decoded(body: bytes, header_length: int | None) -> _Request:
    header: bytes | memoryview = body
    if header_length is not None:
        if not 0 <= header_length <= len(body):
            raise refused(400, "malformed", f"Inference-Header-Content-Length is outside the body of {len(body):,} bytes")
        header = memoryview(body)[:header_length]
    try:
        request = _REQUEST.decode(header)
    except _NOT_JSON as wrong:
        if not isinstance(wrong, msgspec.ValidationError) and b"NaN" in bytes(header):
            request = _decoded_with_nan(bytes(header), wrong)
        else:
            raise _unreadable(bytes(header), wrong) from None
    check_keys(bytes(header), _count_of_keys(request))
    return request


def _decoded_with_nan(header: bytes, wrong: Exception) -> _Request:
    with contextlib.suppress(*_NOT_JSON):
        return _REQUEST.decode(null_for_nan(header))
    with contextlib.suppress(ValueError, RecursionError, *_NOT_JSON):
        return _REQUEST.decode(without_nan(header))
    raise _unreadable(header, wrong) from None


def _count_of_keys(request: _Request) -> int:
    """How many keys a request has at least, none of them repeated: those that are seen to be there."""
    count = 1 + (request.id is not None)
    for tensor in request.inputs:
        count += 4 if tensor.data else 3
        if tensor.parameters is not None:
            count += 1 + (tensor.parameters.binary_data_size is not None)
    if request.outputs is not None:
        count += 1
        for output in request.outputs:
            count += 1
            if output.parameters is not None:
                count += 1 + (output.parameters.binary_data is not None)
    if request.parameters is not None:
        count += 1 + request.parameters.binary_data_output + request.parameters.features_as_of
    return count


def _unreadable(header: bytes, wrong: Exception) -> Refused:
    """Why a request was not decoded, with the name of the input concerned, if that can be read."""
    what = "the JSON is nested too deep" if isinstance(wrong, RecursionError) else str(wrong)
    if not isinstance(wrong, msgspec.ValidationError):
        hint = " (JSON has no NaN or Infinity: send null, or binary data)" if re.search(rb"\b(NaN|Infinity)\b", header) else ""
        return refused(400, "malformed", f"the request is not JSON: {how_written(header) or what}{hint}")
    place = re.search(r"`\$\.inputs\[(\d+)]", what)
    if place:
        try:
            name = msgspec.json.decode(header)["inputs"][int(place[1])]["name"]
        except (*_NOT_JSON, LookupError, TypeError):
            name = None
        if isinstance(name, str):
            return _refusal(name, "malformed", f"has the wrong form: {what}", status=400)
    return refused(400, "malformed", f"the request has the wrong form: {what}")


def _wanted(signature: Signature, request: _Request) -> tuple[Wanted, ...]:
    usual = request.parameters is not None and request.parameters.binary_data_output
    every = (_TWO_OUTPUTS if signature.classes else _ONE_OUTPUT)[usual]
    if not request.outputs:
        return every
    names = [output.name for output in every]
    if len({output.name for output in request.outputs}) != len(request.outputs):
        _refuse_repeated([output.name for output in request.outputs], "outputs")
    wanted = []
    for name, parameters in ((output.name, output.parameters) for output in request.outputs):
        if name not in names:
            raise refused(422, "unknown_output", f"output {_quoted(name)} is none of the model's: {', '.join(names)}")
        if parameters is None:
            wanted.append(Wanted(name, usual))
            continue
        if parameters.classification or parameters.shared_memory_region is not None:
            extension = "classification" if parameters.classification else "shared memory"
            raise refused(422, "unsupported", f"output '{name}' asks for the {extension} extension, which this server does not have")
        wanted.append(Wanted(name, usual if parameters.binary_data is None else parameters.binary_data))
    return tuple(wanted)


def _count(signature: Signature, inputs: list[_Input]) -> int:
    """The number of rows, by the first tensor; every other is then held to it."""
    if not inputs:
        raise refused(422, "no_rows", "there is no input tensor: give one for each column, as the model's metadata lists them")
    first = next((tensor for tensor in inputs if tensor.name in signature.columns or tensor.name in (NUMBERS, CATEGORIES)), inputs[0])
    if not first.shape:
        raise _refusal(first.name, "malformed", "has the shape []: its first dimension is the number of rows")
    count = first.shape[0]
    if not count:
        raise _refusal(first.name, "no_rows", "holds no row: give at least one")
    if count > signature.max_rows:
        limit = f"more than the {signature.max_rows:,} of one request: send several"
        raise _refusal(first.name, "too_many_rows", f"holds {count:,} rows, {limit}", status=413)
    return count


def _blocks(inputs: list[_Input], body: bytes, header_length: int | None) -> dict[str, memoryview]:
    """The bytes of each binary tensor; together they must be all that follows the JSON."""
    blocks: dict[str, memoryview] = {}
    start = len(body) if header_length is None else header_length
    for tensor in inputs:
        if tensor.parameters is None:
            continue
        size = tensor.parameters.binary_data_size
        if tensor.parameters.shared_memory_region is not None:
            raise _refusal(tensor.name, "unsupported", "is in shared memory, an extension that this server does not have")
        if size is None:
            continue
        if header_length is None:
            raise _refusal(tensor.name, "malformed", "has binary data, but Inference-Header-Content-Length is missing", status=400)
        if memoryview(tensor.data).nbytes:
            raise _refusal(tensor.name, "malformed", "has data and binary_data_size: give one of them", status=400)
        if size > len(body) - start:
            left = f"only {len(body) - start:,} are left in the body"
            raise _refusal(tensor.name, "malformed", f"has {size:,} bytes by its binary_data_size, {left}", status=400)
        blocks[tensor.name] = memoryview(body)[start : start + size]
        start += size
    if start != len(body):
        raise refused(400, "malformed", f"{len(body) - start:,} bytes follow the last tensor: no binary_data_size counts them")
    return blocks


def _numbers(signature: Signature, given: dict[str, _Input], count: int, blocks: dict[str, memoryview]) -> tuple[np.ndarray, int]:
    """The number columns side by side, and how many tensors they came in; float32 if all tensors are FP32 in binary, else float64."""
    names = signature.numbers
    if NUMBERS in given and NUMBERS not in signature.columns:
        _refuse_both(NUMBERS, names, given)
        values = _values(given[NUMBERS], _OF_GATHERED_NUMBERS, ([count, len(names)],), blocks)
        return _array(values).reshape(count, len(names)), 1
    columns, used = _one_by_one(signature, names, given, count, blocks)
    if not any(type(values) is np.ndarray for values in columns):
        return np.array(columns, dtype=np.float64).T, used
    together = np.empty((count, len(names)), np.float32 if all(_is_float32(values) for values in columns) else np.float64)
    for place, values in enumerate(columns):
        is_widened = together.dtype == np.float64 and _is_float32(values)
        together[:, place] = signature.widened(place, np.asarray(values)) if is_widened else values
    return together, used


def _categories(signature: Signature, given: dict[str, _Input], count: int, blocks: dict[str, memoryview]) -> tuple[np.ndarray, int]:
    """The category columns side by side, and how many tensors they came in."""
    names = signature.categories
    if CATEGORIES in given and CATEGORIES not in signature.columns:
        _refuse_both(CATEGORIES, names, given)
        values = _values(given[CATEGORIES], _OF_CATEGORIES, ([count, len(names)],), blocks)
        return np.array(values, dtype=object).reshape(count, len(names)), 1
    columns, used = _one_by_one(signature, names, given, count, blocks)
    return np.ascontiguousarray(np.array(columns, dtype=object).T), used


def _one_by_one(
    signature: Signature, names: tuple[str, ...], given: dict[str, _Input], count: int, blocks: dict[str, memoryview]
) -> tuple[list[list[Any] | np.ndarray], int]:
    """Columns that came as a tensor each, nulls for the optional ones that did not, and how many tensors there were."""
    shapes, used = ([count], [count, 1]), 0
    columns: list[list[Any] | np.ndarray] = []
    for name in names:
        tensor = given.get(name)
        if tensor is None:
            if not signature.columns[name].nullable:
                _refuse_names(signature, given)
            columns.append([None] * count)
            continue
        columns.append(_values(tensor, _OF_KIND.get(signature.columns[name].kind, _OF_NUMBERS), shapes, blocks))
        used += 1
    return columns, used


def _values(
    tensor: _Input, datatypes: dict[str, _Datatype], shapes: tuple[list[int], ...], blocks: dict[str, memoryview]
) -> list[Any] | np.ndarray:
    """A tensor's elements in row-major order: an array if they came as binary numbers, else a list with None for null."""
    how = datatypes.get(tensor.datatype)
    if how is None:
        raise _refusal(tensor.name, "wrong_type", f"has the datatype {_quoted(tensor.datatype)}: give {', '.join(datatypes)}")
    shape = tensor.shape
    if shape not in shapes:
        said = f"[{', '.join(map(str, shape[:4]))}{', …' if len(shape) > 4 else ''}]"
        raise _refusal(tensor.name, "malformed", f"has the shape {said}: give {' or '.join(map(str, shapes))}")
    count = shape[0] * shape[1] if len(shape) == 2 else shape[0]
    if tensor.name in blocks:
        return _unpacked(tensor, how, count, blocks[tensor.name])
    if len(shape) == 2 and bytes(memoryview(tensor.data)[:2]) == b"[[":
        return _nested(tensor, how)
    if how.high and b"." in bytes(tensor.data) and (floats := _whole_floats(tensor, how)) is not None and len(floats) == count:
        return floats
    try:
        values = how.flat.decode(tensor.data)
    except _NOT_JSON as wrong:
        if re.match(rb"\s*\[\s*\[", memoryview(tensor.data)):
            return _nested(tensor, how)
        whole = _whole(tensor, how.flat)
        if whole is None:
            raise _unread(tensor, how, wrong) from None
        values = whole
    if len(values) != count:
        raise _refusal(tensor.name, "malformed", f"has {len(values):,} values in data, not the {count:,} of its shape")
    return _listed(tensor, values)


def _nested(tensor: _Input, how: _Datatype) -> list[Any]:
    """The elements of data given as one list a row."""
    if len(tensor.shape) == 1:
        raise _refusal(tensor.name, "malformed", f"has nested data, but the shape {tensor.shape}")
    try:
        rows = how.nested.decode(tensor.data)
    except _NOT_JSON as wrong:
        mended = _whole(tensor, how.nested)
        if mended is None:
            raise _unread(tensor, how, wrong) from None
        rows = mended
    count, width = tensor.shape
    if len(rows) != count:
        raise _refusal(tensor.name, "malformed", f"has {len(rows):,} rows in data, not the {count:,} of its shape")
    for row, values in enumerate(rows):
        if len(values) != width:
            raise _refusal(tensor.name, "malformed", f"has {len(values):,} values, not the {width:,} of its shape", row)
    return _listed(tensor, list(chain.from_iterable(rows)))


def _whole_floats(tensor: _Input, how: _Datatype) -> list[Any] | None:
    """The data of an integer tensor in which every value is a whole number of the datatype, some written as 5.0; else None."""
    try:
        values = _FLOATS.decode(tensor.data)
    except _NOT_JSON:
        return None
    return values if values and all(map(float.is_integer, values)) and how.low <= min(values) and max(values) <= how.high else None


def _whole(tensor: _Input, decoder: msgspec.json.Decoder[list[Any]]) -> list[Any] | None:
    """The data of an integer tensor whose whole numbers are written as 5.0; None if that is not what is wrong."""
    if "INT" not in tensor.datatype:
        return None
    try:
        return decoder.decode(whole_as_integers(tensor.data))
    except (*_NOT_JSON, OverflowError):
        return None


def _listed(tensor: _Input, values: list[Any]) -> list[Any]:
    if tensor.datatype == "UINT64" and max(values) >= 2**64:
        row = next(place for place, value in enumerate(values) if value >= 2**64)
        raise _refusal(tensor.name, "wrong_type", f"is not {_DATATYPES['UINT64'].words}, as UINT64 asks", row)
    return values


def _unread(tensor: _Input, how: _Datatype, wrong: Exception) -> Refused:
    """Why data were not decoded; the place of a wrong value is what msgspec gives at the end of its message."""
    if bytes(tensor.data) in (b"", b"null"):
        return _refusal(tensor.name, "malformed", "has neither data nor binary_data_size", status=400)
    if not isinstance(wrong, msgspec.ValidationError):
        what = "are nested too deep" if isinstance(wrong, RecursionError) else f"are not JSON: {wrong}"
        return _refusal(tensor.name, "malformed", f"has data that {what}", status=400)
    place = re.search(r"`\$\[(\d+)](?:\[(\d+)])?`$", str(wrong))
    if place is None:
        return _refusal(tensor.name, "malformed", "has data that are no list of values")
    outer, inner = int(place[1]), place[2]
    width = tensor.shape[1] if len(tensor.shape) == 2 else 1
    row, within = (outer, int(inner)) if inner else divmod(outer, width)
    where = f"value {within}, " if width > 1 else ""
    return _refusal(tensor.name, "wrong_type", f"{where}is not {how.words}, as {tensor.datatype} asks", row)


def _unpacked(tensor: _Input, how: _Datatype, count: int, block: memoryview) -> list[Any] | np.ndarray:
    if how.dtype is None:
        return _texts(tensor, count, bytes(block))
    if len(block) != count * how.dtype.itemsize:
        size = count * how.dtype.itemsize
        raise _refusal(
            tensor.name, "malformed", f"has {len(block):,} bytes, but its shape and datatype take {size:,}: see binary_data_size"
        )
    values = np.frombuffer(block, how.dtype)
    if tensor.datatype == "BOOL" and (values > 1).any():
        raise _refusal(tensor.name, "wrong_type", "is not 0 or 1, as BOOL asks", int(np.argmax(values > 1)))
    # Array operations on elements that lie across their boundaries are slower than one copy, and compiled engines need them aligned.
    return values if values.flags.aligned else values.copy()


def _texts(tensor: _Input, count: int, block: bytes) -> list[Any]:
    """The elements of a BYTES tensor: each has its length before it, 4 bytes, so that the next one's place is known only from it."""
    # Lengths below 128 are ASCII too: if all bytes are, every slice of this string is an element's text.
    ascii_text = block.decode("ascii") if block.isascii() else None
    length_at, end, size = _LENGTH.unpack_from, 0, len(block)
    values: list[str] = []
    try:
        for _ in range(count):
            start = end + 4
            end = start + length_at(block, end)[0]
            if end > size:
                break
            values.append(ascii_text[start:end] if ascii_text is not None else str(block[start:end], "utf-8"))
    except struct.error:
        end = size + 1
    except UnicodeDecodeError:
        raise _refusal(tensor.name, "wrong_type", "is not UTF-8 text", _row(tensor, len(values))) from None
    if end > size:
        raise _refusal(tensor.name, "malformed", "goes beyond the tensor's binary_data_size", _row(tensor, len(values)), 400)
    if end < size:
        raise _refusal(tensor.name, "malformed", f"has {size - end:,} bytes after its {count:,} elements", status=400)
    return values


def _row(tensor: _Input, place: int) -> int:
    """The row of an element in row-major order."""
    return place // tensor.shape[1] if len(tensor.shape) == 2 else place


def _array(values: list[Any] | np.ndarray) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else np.array(values, dtype=np.float64)


def _is_float32(values: Sequence[Any] | np.ndarray) -> bool:
    return isinstance(values, np.ndarray) and values.dtype == _FLOAT32


def _usual_datatype(signature: Signature, column: str) -> str:
    described = signature.columns[column]
    if described.kind in AS_TEXT:
        return "BYTES"
    number = "FP64" if signature.wide else "FP32"
    return number if described.nullable else {"boolean": "BOOL", "integer": "INT64"}.get(described.kind, number)


def _gathered(signature: Signature) -> list[tuple[str, tuple[str, ...], str]]:
    """The tensors that may stand for several columns: none whose name is a column's."""
    both = ((NUMBERS, signature.numbers, "FP32 or FP64"), (CATEGORIES, signature.categories, "BYTES"))
    return [(name, columns, datatype) for name, columns, datatype in both if columns and name not in signature.columns]


def _outputs(signature: Signature) -> dict[str, tuple[str, list[int]]]:
    """Datatype and shape of each output."""
    if not signature.classes:
        return {"prediction": ("FP32", [-1])}
    return {"label": (_label_datatype(signature.classes), [-1]), "probabilities": ("FP32", [-1, len(signature.classes)])}


def _label_datatype(classes: Sequence[Any]) -> str:
    kinds = set(map(type, classes))
    if kinds == {bool}:
        return "BOOL"
    return "INT64" if kinds == {int} and all(-(2**63) <= value < 2**63 for value in classes) else "BYTES"


def _named(classes: Sequence[Any], datatype: str) -> Sequence[Any]:
    return [str(value) for value in classes] if datatype == "BYTES" else classes


def _bytes_of_labels(classes: Sequence[Any], datatype: str, outputs: np.ndarray) -> bytes:
    places = outputs.argmax(axis=1)
    if datatype == "BYTES":
        packed = [_LENGTH.pack(len(text)) + text for text in (name.encode() for name in _named(classes, datatype))]
        return b"".join([packed[place] for place in places.tolist()])
    block: bytes = np.array(classes, dtype="<i8" if datatype == "INT64" else "|u1")[places].tobytes()
    return block


def _extra(signature: Signature, given: dict[str, _Input]) -> list[str]:
    """The inputs that are none of the model's; raises :class:`Refused` if these are to be refused, or if there is no other."""
    gathered = [name for name, _, _ in _gathered(signature)]
    extra = [name for name in given if name not in signature.columns and name not in gathered]
    if signature.refuse_extra or len(extra) == len(given):
        _refuse_names(signature, given)
    return extra


def _refuse_names(signature: Signature, given: dict[str, _Input]) -> NoReturn:
    """Name each input that is none of the model's, if these are to be refused, and each that is missing."""
    gathered = {name: columns for name, columns, _ in _gathered(signature)}
    known = [*signature.names, *gathered]
    within = {column for name, columns in gathered.items() if name in given for column in columns}
    strange = [name for name in given if name not in signature.columns and name not in gathered]
    unknown = strange if signature.refuse_extra else []
    faults = [
        Fault("unknown_column", f"tensor {_quoted(name)} is none of the model's: {', '.join(known)}", None, name[:100])
        for name in islice(unknown, SHOWN_FAULTS)
    ]
    faults += [
        Fault("missing_column", f"tensor '{name}' is missing: give it a value", None, name)
        for name, column in signature.columns.items()
        if name not in given and name not in within and (not column.nullable or len(strange) == len(given))
    ]
    raise Refused(422, faults[:SHOWN_FAULTS])


def _refuse_both(gathered: str, columns: tuple[str, ...], given: dict[str, _Input]) -> None:
    """Refuse a column that comes both alone and within a gathered tensor."""
    if len(given) > 1:
        for name in columns:
            if name in given:
                raise _refusal(name, "malformed", f"is given twice: alone, and as a column of '{gathered}'")


def _refuse_repeated(names: list[str], where: str) -> NoReturn:
    seen: set[str] = set()
    name = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    raise _refusal(name, "malformed", f"is more than once in {where}", status=400)


def _refusal(name: str, reason: Reason, what: str, row: int | None = None, status: int = 422) -> Refused:
    where = "" if row is None else f", row {row},"
    return Refused(status, [Fault(reason, f"tensor {_quoted(name)}{where} {what}", row, name[:100])])


def _quoted(text: str, limit: int = 60) -> str:
    """A client's word in an error: short, on one line."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}…"
