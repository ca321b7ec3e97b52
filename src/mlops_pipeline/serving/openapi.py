"""The API as OpenAPI 3.1, derived from the signatures of the models served, and the two pages with their policies.

What no schema can say (lists that must have equal lengths) stands in a description; all else is exact: what a schema takes
the server takes, and what it refuses the server refuses.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mlops_pipeline import plugins
from mlops_pipeline.contract import privacy
from mlops_pipeline.contract.spec import AS_TEXT, CATEGORIES, NUMBERS, Column
from mlops_pipeline.contract.task import TASKS
from mlops_pipeline.contract.values import bounds
from mlops_pipeline.inference.faults import CUT_TEXT, EXTRA_COLUMN, OUTSIDE_TRAINING, REASONS, SHOWN_FAULTS, STALE_FEATURES, UNSEEN_CATEGORY
from mlops_pipeline.inference.raw import RawInput, RowKinds
from mlops_pipeline.inference.signature import Signature
from mlops_pipeline.serving.problems import TITLES
from mlops_pipeline.serving.protocol import open_inference
from mlops_pipeline.serving.routes import LABELS_PATH, OPEN_PATHS, PAGES, PROBES, model_prefix, open_inference_prefix

if TYPE_CHECKING:
    from mlops_pipeline.contract.label import Target

_WHEN = {
    400: "The body is not what the route takes: not JSON, or not of its form.",
    401: "No API key, or one that is unknown or has expired.",
    403: "The request asks by a name that is none of this server's, or a page of another site sent it, or its API key "
    "is not good for this path or model.",
    404: "There is no such model, version or page.",
    408: "The body did not arrive in time.",
    413: "The body is too large, or has too many rows.",
    415: "The body has another content type than the route takes.",
    422: "A value, a column or a row is wrong; `errors` names them.",
    429: "Too many rows are waiting, or the API key's rate is used up: ask again after `Retry-After` seconds.",
    500: "The server failed; its log has the request's id.",
    503: "Not ready, too slow, or the record of predictions is full: ask again after `Retry-After` seconds.",
}
_OF_BODY = (400, 408, 413, 415, 422, 429, 500, 503)
_TAGS = {
    "predict": "Named records in, labels with probabilities or values out.",
    "mlflow": "What MLflow's own scoring server answers, for clients made for it.",
    "open inference": "The Open Inference Protocol, version 2, as KServe, Triton and MLServer speak it.",
    "labels": "What came of predictions.",
    "service": "State, figures and pages.",
}

Json = dict[str, Any]


class Labels(NamedTuple):
    """What `/labels` takes: labels of a target (None: it is not known which), so many rows, names so long."""

    target: Target | None
    max_rows: int
    longest: int


def document(
    models: Mapping[str, Signature],
    default: str,
    *,
    version: str,
    keys: bool,
    max_rows: int,
    open_metrics: bool = False,
    labels: Labels | None = None,
    raws: Mapping[str, RawInput] | None = None,
    examples: Mapping[str, Json] | None = None,
) -> Json:
    """The OpenAPI document of all routes; ``raws`` are of models that take raw rows too, ``examples`` rows of models."""
    schemas: Json = {"Problem": _problem(), "Warnings": _warnings(), "OpenInferenceError": _object({"error": _TEXT}), "Status": _status()}
    paths: Json = {}
    for name in sorted(models, key=lambda name: name != default):
        example, raw = (examples or {}).get(name) or made_up(models[name]), (raws or {}).get(name)
        schemas |= _model_schemas(name, models[name], max_rows, raw)
        paths |= _model_paths(name, models[name], example, raw, is_default=name == default)
    paths |= _service_paths()
    schemas |= _label_schemas(labels or Labels(None, max_rows, 256))
    paths[LABELS_PATH] = _label_path(labels or Labels(None, max_rows, 256))
    for path, operation in ((path, operation) for path, item in paths.items() for operation in item.values()):
        if PAGES.get(path) not in PROBES:
            operation["responses"] |= _problems((403,), open_inference=path.startswith("/v2"))
    components: Json = {"schemas": schemas, "responses": _problem_responses()}
    if keys:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        open_paths = (*OPEN_PATHS, "/metrics") if open_metrics else OPEN_PATHS
        for path, operation in ((path, operation) for path, item in paths.items() if path not in open_paths for operation in item.values()):
            operation["security"] = [{"bearer": []}, {"key": []}]
            operation["responses"] |= _problems((401, 403, 429), open_inference=path.startswith("/v2"))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mlops serve",
            "version": version,
            "description": "Predictions of registered models, and what is served. An error is an RFC 9457 problem; under /v2 it has the "
            "form of that protocol. A request may bring `X-Request-Id` (printable ASCII) and `traceparent`. How long "
            "ids and texts may be stands in the server's settings.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": components,
    }


def made_up(signature: Signature) -> Json:
    """A record that the model takes, of nobody's values; a private category that must be one of training's is null if it may be."""
    (values,) = privacy.made_up(signature.columns, signature.seen, signature.ranges, 1)
    hidden = (name for name in signature.seen if signature.columns[name].private and signature.columns[name].nullable)
    return values | (dict.fromkeys(hidden) if signature.reject_unseen else {})


# What a model takes and gives


def _model_schemas(name: str, signature: Signature, max_rows: int, raw: RawInput | None) -> Json:
    schemas = _input_schemas(name, signature, max_rows, kinds=None if raw is None else raw.kinds)
    if raw is not None:
        # Either is taken: what a row is, its columns tell.
        schemas |= _input_schemas(name, raw.signature, max_rows, "Raw", raw.kinds)
        for part in ("PredictRequest", "InvocationsRequest", "InferRequest"):
            schemas[f"Features{part}"] = schemas[part]
            schemas[part] = {"anyOf": [_of(name, f"Raw{part}"), _of(name, f"Features{part}")]}
    bare = _VALUE if not signature.classes else _row_of(_PROBABILITY, len(signature.classes))
    answered = {"type": "array", "minItems": 1, "maxItems": max_rows}
    computed = (
        {} if raw is None else {"features_as_of": {**_TEXT, "description": "What moment the computed features are true for, if asked."}}
    )
    schemas |= {
        "PredictAnswer": _object(
            {
                "request_id": _TEXT,
                "model": _object({"name": {"const": name}, "version": _TEXT}),
                "predictions": {**answered, "items": _of(name, "Prediction")},
                "warnings": _ref("Warnings"),
                **computed,
            },
            ["request_id", "model", "predictions"],
        ),
        "Prediction": _prediction(signature, raw),
        "InvocationsAnswer": _object({"predictions": {**answered, "items": bare}}),
        "InferAnswer": _infer_answer(name, signature, computed),
    }
    return {f"{name}.{part}": schema for part, schema in schemas.items()}


def _input_schemas(name: str, signature: Signature, max_rows: int, prefix: str = "", kinds: RowKinds | None = None) -> Json:
    """What a model takes by each protocol; ``kinds`` tell raw rows (``prefix``) from finished features where both may come."""
    values = {column: _named_value(signature, column) for column in signature.names}
    record = _record(values, signature)
    if kinds is not None:
        record = _told_apart(record, kinds, raw=bool(prefix))
    many = {"type": "array", "minItems": 1, "maxItems": max_rows}
    rows = {
        **many,
        "items": {
            "type": "array",
            "prefixItems": list(values.values()),
            "items": False,
            "minItems": len(values),
            "maxItems": len(values),
        },
        "description": f"Rows as lists of values in the order {', '.join(signature.names)}.",
    }
    records = {**many, "items": _of(name, f"{prefix}Record")}
    split = _object(
        {
            "columns": {
                "type": "array",
                "const": list(signature.names),
                "description": f"{_OTHERS[signature.refuse_extra]} Another order is taken too, if the values of `data` "
                "follow it; columns that may be null may be left out.",
            },
            "data": _of(name, f"{prefix}Rows"),
            "index": {"description": "Not looked at."},
        },
        ["columns", "data"],
    )
    by_column = _record(
        {column: {"anyOf": [{**many, "items": value}, {**many, "items": _row_of(value, 1)}, value]} for column, value in values.items()},
        signature,
        description="One list of values a column, all of the same length; a single value stands for a list of one.",
    )
    if kinds is not None:
        by_column = _told_apart(by_column, kinds, raw=bool(prefix))
    # Rows without names are of finished features.
    either = {"anyOf": [_of(name, f"{prefix}Records"), *([] if prefix else [_of(name, "Rows")])]}
    forms = {
        "dataframe_split": split,
        "dataframe_records": _of(name, f"{prefix}Records"),
        "instances": either,
        "inputs": {"anyOf": [by_column, *either["anyOf"]]},
    }
    params = {"type": ["object", "null"], "maxProperties": 0, "description": "These models take none."}
    ids = {"type": ["array", "null"], "items": _TEXT, "maxItems": max_rows, "description": "One a record; each comes back as `id`."}
    schemas = {
        "Record": record,
        "Records": records,
        "Rows": rows,
        "PredictRequest": _object({"records": _of(name, f"{prefix}Records"), "ids": ids}, ["records"]),
        "InvocationsRequest": {"oneOf": [_object({form: schema, "params": params}, [form]) for form, schema in forms.items()]},
        "InferRequest": _infer_request(signature, max_rows),
    }
    return {f"{prefix}{part}": schema for part, schema in schemas.items()}


def _told_apart(record: Json, kinds: RowKinds, *, raw: bool) -> Json:
    """A record that is told from those of the other kind by its columns."""
    if not kinds.marks:
        return record if not raw else {**record, "properties": record["properties"] | dict.fromkeys(kinds.computed, False)}
    if not raw:
        others: list[Json] = [{"required": list(kinds.marks)}]
        if kinds.computed and not {*kinds.computed} & {*record["required"]}:
            # With a column of raw rows and none that is computed, it is one of them that lacks something.
            own, computed = ([{"required": [name]} for name in names] for names in (kinds.own, kinds.computed))
            others.append({"anyOf": own, "not": {"anyOf": computed}})
        return {**record, "not": {"anyOf": others} if len(others) > 1 else others[0]}
    return {**record, "required": [*record["required"], *(mark for mark in kinds.marks if mark not in record["required"])]}


def _record(values: Json, signature: Signature, **more: Any) -> Json:
    """An object of the model's columns, at least one of them; others beside them, if the server ignores these."""
    needed = [column for column in signature.names if not signature.columns[column].nullable]
    schema = _object(values, needed, **more)
    if not signature.refuse_extra:
        schema["additionalProperties"] = True
    if not needed:
        schema["anyOf"] = [{"required": [column]} for column in signature.names]
    return schema


def _named_value(signature: Signature, name: str) -> Json:
    """One value of a column in a record, where a category may be stored as a number or a truth."""
    value, column = _value(signature, name), signature.columns[name]
    return value if column.kind != "category" or "enum" in value else {**value, "type": _or_null(["string", "number", "boolean"], column)}


def _value(signature: Signature, name: str) -> Json:
    """One value of a column."""
    column = signature.columns[name]
    if column.kind == "category":
        return _category(signature, name, column)
    if column.kind in AS_TEXT:
        return {"type": _or_null(["string"], column), "examples": [privacy.made_up({name: column}, {}, {}, 1)[0][name]]}
    low, high = bounds(column)
    kinds = {"integer": ["integer"], "boolean": ["boolean", "integer"]}.get(column.kind, ["number"])
    least, most = _plain(low), _plain(high)
    return {"type": _or_null(kinds, column), "minimum": least, "maximum": most}


def _category(signature: Signature, name: str, column: Column) -> Json:
    known = signature.seen.get(name)
    seen = privacy.told_levels(column, known or ())
    schema: Json = {"type": _or_null(["string"], column)}
    if column.private:
        return {**schema, "description": "Private: which values the model knows is told to nobody."}
    if signature.reject_unseen and known is not None:
        return {**schema, "enum": [*seen, *([None] if column.nullable else [])]}
    nothing = sorted(set(signature.words_for_null(name)) - (known or frozenset()))
    if nothing and not column.nullable:
        # Each stands for null, as in a table.
        schema["not"] = {"enum": nothing}
    return {**schema, "examples": seen[:8]} if seen else schema


def _prediction(signature: Signature, raw: RawInput | None) -> Json:
    key: Json = {"id": _TEXT}
    if raw is not None:
        key["features"] = {"type": "object", "description": "What was computed of a raw row, if asked."}
    if not signature.classes:
        return _object({**key, "value": _VALUE}, ["value"])
    probabilities = _object({str(label): _PROBABILITY for label in signature.classes})
    return _object({**key, "label": {"enum": list(signature.classes)}, "probabilities": probabilities}, ["label", "probabilities"])


def _infer_request(signature: Signature, max_rows: int) -> Json:
    datatypes = _datatypes(signature)
    tensors = [_tensor(name, datatypes[name], _value(signature, name), max_rows) for name in signature.names]
    other = _other_tensor(signature)
    if not signature.refuse_extra:
        # One that may be left out may have another in its place.
        optional = [signature.columns[name].nullable for name in signature.names]
        tensors = [{"anyOf": [tensor, other]} if left_out else tensor for tensor, left_out in zip(tensors, optional, strict=True)]
    columns = {
        "type": "array",
        "prefixItems": tensors,
        "items": False if signature.refuse_extra else other,
        "minItems": len(tensors),
        "maxItems": len(tensors) + (not signature.refuse_extra),
        "description": f"{_OTHERS[signature.refuse_extra]} One tensor a column, all of the same length, in any order; columns that may be "
        "null may be left out. All number "
        "columns may come as one FP32 or FP64 tensor `numbers`, all categories as one BYTES tensor `categories`, of shape [rows, columns].",
    }
    output = {
        "type": "object",
        "properties": {
            "name": {"enum": [name for name, _, _ in _outputs(signature)]},
            "parameters": {"type": ["object", "null"], "properties": {"binary_data": {"type": ["boolean", "null"]}}, **_NOTHING_ELSE},
        },
        "required": ["name"],
    }
    return {
        "type": "object",
        "properties": {
            "inputs": columns,
            "id": {"type": ["string", "null"]},
            "outputs": {"type": ["array", "null"], "items": output, "description": "Default: all. None twice."},
            "parameters": {
                "type": ["object", "null"],
                "properties": {"binary_data_output": {"type": "boolean"}, "features_as_of": {"type": "boolean"}},
                **_NOTHING_ELSE,
            },
        },
        "required": ["inputs"],
    }


def _other_tensor(signature: Signature) -> Json:
    """A tensor that is none of the model's, and ignored."""
    known = [*signature.names, NUMBERS, CATEGORIES]
    shape = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}}
    properties = {"name": {"type": "string", "not": {"enum": known}}, "shape": shape, "datatype": _TEXT, "data": {}}
    return {"type": "object", "properties": properties, "required": ["name", "shape", "datatype"]}


def _tensor(name: str, datatype: str, value: Json, max_rows: int) -> Json:
    """One column's tensor, in the datatype that the model's metadata names."""
    if datatype == "BOOL":
        value = {"type": "boolean"}
    elif "boolean" in value["type"]:
        value = {**value, "type": ["integer", "null"]}
    elif datatype == "INT64":
        value |= {"minimum": max(value["minimum"], -(2**63)), "maximum": min(value["maximum"], 2**63 - 1)}
    other = "" if datatype == "BYTES" else "Another datatype of numbers is taken too, if it holds the values."
    return {
        "type": "object",
        "properties": {
            "name": {"const": name},
            "shape": {
                "type": "array",
                "prefixItems": [{"type": "integer", "minimum": 1, "maximum": max_rows}, {"const": 1}],
                "items": False,
                "minItems": 1,
                "description": "[rows] or [rows, 1].",
            },
            "datatype": {"const": datatype, "description": other},
            "data": {"type": "array", "items": value, "minItems": 1, "maxItems": max_rows, "description": "Its length is the shape."},
            "parameters": {"type": ["object", "null"], **_NOTHING_ELSE},
        },
        "required": ["name", "shape", "datatype", "data"],
    }


def _infer_answer(name: str, signature: Signature, computed: Json) -> Json:
    tensors = []
    for output, datatype, width in _outputs(signature):
        size = {"type": "integer", "minimum": 0}
        properties = {
            "name": {"const": output},
            "shape": _row_of({"type": "integer", "minimum": 1}, 2 if width else 1),
            "datatype": {"const": datatype},
            "data": {"type": "array", "items": _output_value(signature, output, datatype), "minItems": 1},
            "parameters": _object({"binary_data_size": size}),
        }
        tensors.append(_object(properties, ["name", "shape", "datatype"]))
    outputs = {"type": "array", "items": {"anyOf": tensors}, "minItems": 1, "maxItems": len(tensors)}
    warnings = _object({"warnings": {**_TEXT, "description": f"{_WARNED} As JSON in a text."}, **computed}, [] if computed else None)
    properties = {"model_name": {"const": name}, "model_version": _TEXT, "id": _TEXT, "outputs": outputs, "parameters": warnings}
    return _object(properties, ["model_name", "model_version", "outputs"])


def _output_value(signature: Signature, output: str, datatype: str) -> Json:
    if output == "label":
        return {"enum": [str(label) for label in signature.classes] if datatype == "BYTES" else list(signature.classes)}
    return _VALUE if output == "prediction" else _PROBABILITY


def _outputs(signature: Signature) -> list[tuple[str, str, int]]:
    """Name, datatype and width (0: one value a row) of each tensor of an answer."""
    tensors = _metadata(signature)["outputs"]
    return [(tensor["name"], tensor["datatype"], tensor["shape"][1] if len(tensor["shape"]) == 2 else 0) for tensor in tensors]


def _datatypes(signature: Signature) -> dict[str, str]:
    return {tensor["name"]: tensor["datatype"] for tensor in _metadata(signature)["inputs"]}


def _metadata(signature: Signature) -> Json:
    return dict(msgspec.json.decode(open_inference.model_metadata("", "", signature)))


# Routes


def _model_paths(name: str, signature: Signature, example: Json, raw: RawInput | None, *, is_default: bool) -> Json:
    asked, may_ask = (signature, {}) if raw is None else (raw.signature, {"parameters": _ASKED})
    split = {"dataframe_split": {"columns": list(asked.names), "data": [[example.get(column) for column in asked.names]]}}
    invocations = {
        "application/json": {
            "schema": _of(name, "InvocationsRequest"),
            "examples": {
                "split": {"summary": "columns and data", "value": split},
                "records": {"summary": "records", "value": {"dataframe_records": [example]}},
            },
        },
        "text/csv": {
            "schema": {"type": "string", "description": "A header of column names, then one line a row; an empty cell is null."},
            "example": _csv(example),
        },
    }
    paths: Json = {}
    for prefix, suffix in (("", ""), (model_prefix(name), f".{name}"))[0 if is_default else 1 :]:
        whose = f"model {name}" if prefix else "the default model"
        paths[f"{prefix}/predict"] = _post(
            f"predict{suffix}",
            "predict",
            f"Predictions of {whose}",
            _json(_of(name, "PredictAnswer"), "One prediction a record, in their order."),
            {"application/json": {"schema": _of(name, "PredictRequest"), "example": {"records": [example], "ids": ["a"]}}},
            **may_ask,
        )
        paths[f"{prefix}/invocations"] = _post(
            f"invocations{suffix}",
            "mlflow",
            f"Predictions of {whose}, as MLflow serves them",
            _json(_of(name, "InvocationsAnswer"), "For each row its probabilities in the order of the classes, or its value."),
            invocations,
        )
    infer = {
        "application/json": {"schema": _of(name, "InferRequest"), "example": {"inputs": _example_tensors(asked, example)}},
        "application/octet-stream": {
            "schema": {
                "description": "JSON, then the bytes of binary tensors; the header `Inference-Header-Content-Length` says how long "
                "the JSON is."
            }
        },
    }
    infer_answer = _json(_of(name, "InferAnswer"), "Tensors; binary ones follow the JSON, if they were asked for.")
    infer_answer["content"]["application/octet-stream"] = {"schema": {}}
    infer_answer["headers"] = {"Inference-Header-Content-Length": {"description": "Length of the JSON.", "schema": _COUNT}}
    metadata = _json(_model_metadata(name, signature), "Its versions and tensors.")
    ready = _json(_object({"name": {"const": name}, "ready": {"const": True}}), "Yes.")
    not_ready = {"description": "No.", "content": {"application/json": {"schema": {"anyOf": [_NOT_READY, _ref("OpenInferenceError")]}}}}
    version = [{"name": "version", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}]
    for place, suffix in (("", ""), ("/versions/{version}", ".version")):
        whose = f"a version of model {name}" if place else f"model {name}"
        prefix = f"{open_inference_prefix(name)}{place}"
        more: Json = {"parameters": version, "unknown": True} if place else {}
        paths[prefix] = _get(f"v2.model.{name}{suffix}", _V2, f"Tensors of {whose}", metadata, (503,), **more)
        paths[f"{prefix}/ready"] = _get(f"v2.ready.{name}{suffix}", _V2, f"Whether {whose} answers", ready, more={"503": not_ready}, **more)
        paths[f"{prefix}/infer"] = _post(
            f"v2.infer.{name}{suffix}", _V2, f"Predictions of {whose}, as tensors", infer_answer, infer, **more
        )
    return paths


def _model_metadata(name: str, signature: Signature) -> Json:
    def tensors(names: list[str]) -> Json:
        shape = {"type": "array", "items": {"type": "integer"}}
        return _row_of(_object({"name": {"enum": names}, "datatype": _TEXT, "shape": shape}), len(names))

    return _object(
        {
            "name": {"const": name},
            "versions": {"type": "array", "items": _TEXT},
            "platform": _TEXT,
            "inputs": tensors(list(signature.names)),
            "outputs": tensors([output for output, _, _ in _outputs(signature)]),
            "parameters": _map({"type": ["string", "integer"]}),
        }
    )


def _example_tensors(signature: Signature, example: Json) -> list[Json]:
    tensors, datatypes = [], _datatypes(signature)
    for name in signature.names:
        datatype, value = datatypes[name], example.get(name)
        said = (
            bool(value)
            if datatype == "BOOL"
            else int(value)
            if value is not None and (datatype == "INT64" or value is True or value is False)
            else value
        )
        tensors.append({"name": name, "shape": [1], "datatype": datatype, "data": [said]})
    return tensors


def _service_paths() -> Json:
    text, html = {"text/plain": {"schema": _TEXT}}, {"text/html": {"schema": _TEXT}}
    reasons = {"type": "array", "items": _TEXT, "minItems": 1}
    ok = _json(_object({"status": {"const": "ok"}, "notes": reasons}, ["status"]), "Yes; notes say what does not answer all the same.")
    unready = _object({"status": {"const": "not ready"}, "reasons": reasons, "notes": reasons}, ["status", "reasons"])
    not_ready = {**_json(unready, "No, for these reasons."), "headers": _RETRY}
    line = {"description": "An empty line.", "content": text}
    no_line = {"503": {**line, "description": "Not ready: an empty line.", "headers": _RETRY}}
    v2_ready = _json(_object({"ready": {"const": True}}), "Yes.")
    v2_not_ready = {**_json(_object({"ready": {"const": False}}), "No."), "headers": _RETRY}
    metadata = _object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}})
    return {
        "/v2": _get("v2.server", _V2, "Name and extensions of the server", _json(metadata, "The server.")),
        "/v2/health/live": _get("v2.live", _V2, "Whether the process answers", _json(_object({"live": {"const": True}}), "Yes.")),
        "/v2/health/ready": _get("v2.ready", _V2, "Whether requests are answered", v2_ready, more={"503": v2_not_ready}),
        "/ping": _get("ping", "mlflow", "Whether requests are answered", line, more=no_line),
        "/health": _get("health", "mlflow", "Whether requests are answered", line, more=no_line),
        "/version": _get(
            "version", "mlflow", "Version of MLflow that wrote the model", {"description": "A version.", "content": text}, (503,)
        ),
        "/status": _get("status", "service", "What is served, and totals since the start", _json(_ref("Status"), "The state.")),
        "/metrics": _get("metrics", "service", "Figures for Prometheus", {"description": "Its text format.", "content": text}),
        "/monitoring": _get(
            "monitoring",
            "service",
            "How the model does: quality, drift, alerts, as a page of the watch's last run",
            {"description": "A page.", "content": html},
            (404,),
        ),
        "/release": _get(
            "release",
            "service",
            "How a challenger does beside the champion, as a page of the controller's last look",
            {"description": "A page.", "content": html},
            (404,),
        ),
        "/release.json": _get(
            "release-json",
            "service",
            "The same for a program: `verdict` is healthy, promoted, failed, inconclusive, paused, unknown or none",
            _json({"type": "object", "required": ["verdict"], "properties": {"verdict": _TEXT}}, "Releases."),
        ),
        "/live": _get("live", "service", "Whether the process answers", ok),
        "/ready": _get("ready", "service", "Whether requests are answered", ok, more={"503": not_ready}),
        "/": _get("page", "service", "What is served, live, as a page", {"description": "A page.", "content": html}),
        "/docs": _get("docs", "service", "This document, as a page", {"description": "A page.", "content": html}),
        "/openapi.json": _get("openapi", "service", "This document", _json({"type": "object"}, "OpenAPI 3.1.")),
    }


def _get(name: str, tag: str, summary: str, answer: Json, problems: tuple[int, ...] = (), **more: Any) -> Json:
    return {"get": _operation(name, tag, summary, answer, problems, **more)}


def _post(name: str, tag: str, summary: str, answer: Json, body: Json, **more: Any) -> Json:
    operation = _operation(name, tag, summary, answer, _OF_BODY, **more)
    answer = operation["responses"]["200"]
    served = {"Mlops-Model": {"schema": _TEXT}, **_ARMS, **_WARNINGS}
    operation["responses"]["200"] = {**answer, "headers": {**answer["headers"], **served}}
    return {"post": {**operation, "requestBody": {"required": True, "content": body}}}


def _operation(
    name: str,
    tag: str,
    summary: str,
    answer: Json,
    problems: tuple[int, ...],
    *,
    parameters: list[Json] | None = None,
    unknown: bool = False,
    more: Json | None = None,
) -> Json:
    """One operation; ``unknown`` if what its path names may not be there, ``more`` are answers that are no problems."""
    responses = {
        status: {**said, "headers": {**said.get("headers", {}), **_REQUEST_ID}} for status, said in {"200": answer, **(more or {})}.items()
    }
    responses |= _problems(((404,) if unknown else ()) + problems, open_inference=tag == _V2)
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        **({"parameters": parameters} if parameters else {}),
        "responses": responses,
    }


def _problems(statuses: tuple[int, ...], *, open_inference: bool) -> Json:
    kind = "OpenInference" if open_inference else "Problem"
    return {str(status): {"$ref": f"#/components/responses/{kind}{status}"} for status in statuses}


def _problem_responses() -> Json:
    """Each error's answer, in both shapes."""
    challenge = {"WWW-Authenticate": {"required": True, "schema": _TEXT}}
    headers = {401: challenge, 429: _RETRY, 503: _RETRY}
    responses: Json = {}
    for status, when in _WHEN.items():
        example = {"type": "/docs#malformed", "title": TITLES[status], "status": status, "detail": when, "request_id": "4f1c"}
        problem = {"application/problem+json": {"schema": _ref("Problem"), "example": example}}
        responses[f"Problem{status}"] = {"description": when, "headers": {**headers.get(status, {}), **_REQUEST_ID}, "content": problem}
        error = {"application/json": {"schema": _ref("OpenInferenceError"), "example": {"error": when}}}
        responses[f"OpenInference{status}"] = {"description": when, "headers": {**headers.get(status, {}), **_REQUEST_ID}, "content": error}
    return responses


# Labels


def _label_schemas(labels: Labels) -> Json:
    """A body's two forms; each record or set of columns names its predictions in one way."""
    value, many = _label_value(labels.target), {"type": "array", "minItems": 1, "maxItems": labels.max_rows}
    entity = () if labels.target is None else labels.target.entity
    key: Json = {"type": ["string", "integer"], "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$", "maxLength": labels.longest}
    ways: list[tuple[Json, list[str]]] = [
        ({"request_id": key, "row": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}}, ["request_id"]),
        ({"id": key}, ["id"]),
    ]
    if entity:
        ways.append(({name: {"type": ["string", "number", "boolean"], "minLength": 1} for name in entity}, [*entity, "time"]))
    when: Json = {"type": ["string", "null"], "description": "When it happened, by ISO 8601; UTC where it names no zone."}
    records, columns = [], []
    for names, needed in ways:
        needs_time = "time" in needed
        properties = {**names, "label": value, "time": {**when, "type": "string"} if needs_time else when}
        required = [*needed, "label"]
        records.append(_object(properties, required))
        columns.append(_object({name: {**many, "items": each} for name, each in properties.items()}, required))
    name = "the target" if labels.target is None else f"`{labels.target.name}`"
    said = f"In place of `label` the name {name} is taken too." if labels.target is not None else ""
    return {
        "Label": {"oneOf": records, "description": f"What came of one prediction. {said}".strip()},
        "LabelColumns": {"oneOf": columns, "description": "The same by columns, all lists of one length."},
        "LabelRequest": {
            "oneOf": [_object({"labels": {**many, "items": _ref("Label")}}), _object({"columns": _ref("LabelColumns")})],
        },
        "LabelAnswer": _object({"request_id": _TEXT, **{name: {**_COUNT, "description": text} for name, text in _LABEL_COUNTS.items()}}),
    }


def _label_value(target: Target | None) -> Json:
    """A value of the target; null for one that is not known yet."""
    if target is None or target.kind == "category":
        return {"type": ["string", "number", "boolean", "null"], "maxLength": 100}
    if target.kind == "boolean":
        return {"enum": [True, False, 0, 1, None]}
    most = 2**53 - 1 if target.kind == "integer" else 1e308
    return {"type": ["integer" if target.kind == "integer" else "number", "null"], "minimum": -most, "maximum": most}


def _label_path(labels: Labels) -> Json:
    kind = "category" if labels.target is None else labels.target.kind
    value: Any = {"boolean": True, "category": "a", "integer": 1}.get(kind, 1.5)
    by_request, by_id = {"request_id": "a-request", "row": 0, "label": value}, {"id": "mine", "label": value}
    text = f"request_id,row,label\na-request,0,{str(value).lower()}\n"
    operation = _operation(
        "labels",
        "labels",
        "What came of predictions, as it becomes known",
        _json(_ref("LabelAnswer"), "They are on the server's disk; the same again adds nothing."),
        (*_OF_BODY, 404),
    )
    content = {
        "application/json": {
            "schema": _ref("LabelRequest"),
            "examples": {
                "records": {"summary": "records", "value": {"labels": [by_request, by_id]}},
                "columns": {"summary": "columns", "value": {"columns": {name: [each] for name, each in by_request.items()}}},
            },
        },
        "text/csv": {
            "schema": {"type": "string", "description": "A header of the same names, then one line a label; an empty cell is null."},
            "example": text,
        },
    }
    return {"post": {**operation, "requestBody": {"required": True, "content": content}}}


_LABEL_COUNTS = {
    "rows": "Rows of the body.",
    "new": "Labels of predictions that had none.",
    "known": "Those that were there already, with the same value.",
    "contradicting": "Those that say otherwise than one before, which they replace.",
    "empty": "Rows without a value: not known yet.",
    "late": "Of the new and the contradicting, those whose `time` lies longer ago than labels are waited for.",
}


# Shapes that no model changes


def _problem() -> Json:
    fault = _object(
        {
            "row": {"type": ["integer", "null"], "minimum": 0},
            "column": {"type": ["string", "null"]},
            "reason": {"enum": list(REASONS)},
            "detail": _TEXT,
        }
    )
    return _object(
        {
            "type": {"enum": [f"/docs#{reason}" for reason in REASONS], "description": "Where to read what to do."},
            "title": {"enum": list(TITLES.values())},
            "status": {"type": "integer", "enum": list(TITLES)},
            "detail": _TEXT,
            "request_id": _TEXT,
            "errors": {"type": "array", "items": fault, "minItems": 1, "maxItems": SHOWN_FAULTS},
        },
        ["type", "title", "status", "detail", "request_id"],
        description="A problem by RFC 9457.",
    )


def _status() -> Json:
    number, count, flag = {"type": "number"}, {"type": "number", "minimum": 0}, {"type": "boolean"}
    maybe = {"type": ["number", "null"]}
    column = _object(
        {
            "name": _TEXT,
            "kind": {"enum": ["number", "integer", "boolean", "category", "datetime", "text"]},
            "min": maybe,
            "max": maybe,
            "nullable": flag,
            "private": flag,
            "categories": {"type": ["array", "null"], "items": _TEXT},
        }
    )
    model = _object(
        {
            "project": _TEXT,
            "reference": _TEXT,
            "version": _TEXT,
            "content_sha256": _TEXT,
            "engine": {"enum": list(plugins.parts(plugins.ModelFormat))},
            "loaded": _TIME,
            "task": {"enum": list(TASKS)},
            "target": _TEXT,
            "classes": {"type": "array"},
            "estimator": _TEXT,
            "columns": {"type": "array", "items": column},
            "important": {"type": "array", "items": _TEXT},
            "raw": {"type": ["object", "null"], "description": "Of the source's columns, where rows are taken so."},
            "example": {"type": "object"},
            "metrics": _map(_object({"value": maybe, "low": maybe, "high": maybe})),
            "gate": {"type": "array", "items": _object({"name": _TEXT, "passed": flag, "text": _TEXT})},
        }
    )
    record = {"mode": {"enum": ["durable", "relaxed", "off"]}, "loss_ms": count, "pending": count, "written": count, "problem": _TEXT}
    service = {
        "version": _TEXT,
        "started": _TIME,
        "workers": {"type": "integer", "minimum": 1},
        "default": _TEXT,
        "record": _object(record),
        "not_ready": {"type": "array", "items": _TEXT},
    }
    bucket = _row_of({"anyOf": [number, {"const": "+Inf"}]}, 2)
    latency = {"count": count, "sum": count, "buckets": {"type": "array", "items": bucket, "description": "Upper bound in seconds, count."}}
    of_release = ("model", "champion", "challenger", "step", "state", "unit", "why_not", "tripped")
    release = _object(
        {
            **dict.fromkeys(of_release, _TEXT),
            **dict.fromkeys(("number", "weight", "shadow", "lease_until", "turn"), number),
            **dict.fromkeys(("enabled", "leased", "loaded"), flag),
        }
    )
    totals = {"requests": _map(count), "rejected": _map(count), "rows": count, "latency": _object(latency)}
    return _object({"service": _object(service), "models": _map(model), "releases": _map(release), "totals": _object(totals)})


def _warnings() -> Json:
    reasons = [EXTRA_COLUMN, OUTSIDE_TRAINING, UNSEEN_CATEGORY, STALE_FEATURES, CUT_TEXT]
    one = _object({"reason": {"enum": reasons}, "column": _TEXT, "rows": {"type": "integer", "minimum": 1}, "detail": _TEXT})
    return {"type": "array", "items": one, "minItems": 1, "maxItems": SHOWN_FAULTS, "description": _WARNED}


_V2 = "open inference"
_WARNED = (
    "What is unusual and was answered all the same: columns that are none of the model's, values far outside what training saw, "
    "categories that it never saw, texts that are longer than what is read of one. There only if there is any."
)
_ASKED = [
    {"name": name, "in": "query", "required": False, "schema": {"enum": ["true", "false"]}, "description": what}
    for name, what in (
        ("features", "Whether the answer tells what was computed of raw rows."),
        ("features_as_of", "Whether it tells what moment that is true for."),
    )
]
_OTHERS = {True: "Columns that are none of the model's are refused.", False: "Columns that are none of the model's are ignored, and said."}
_ARMS: Json = {
    "Mlops-Model-Version": {
        "description": "The version that answered: where a release is under way, the champion or its challenger.",
        "schema": {"type": "string"},
    },
    "Mlops-Arm": {
        "description": "Which arm of a release answered, if the server is set to say so; `fallback` is the champion for a challenger that "
        "failed.",
        "schema": {"type": "string", "enum": ["champion", "challenger", "fallback"]},
    },
}
_WARNINGS: Json = {"Mlops-Warnings": {"description": f"{_WARNED} A JSON list of reason, column and rows.", "schema": {"type": "string"}}}
_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_RETRY: Json = {"Retry-After": {"required": True, "description": "Seconds.", "schema": _COUNT}}
_REQUEST_ID: Json = {"X-Request-Id": {"required": True, "description": "The request's own, or one made up.", "schema": _TEXT}}
_NOT_READY: Json = {
    "type": "object",
    "properties": {"name": _TEXT, "ready": {"const": False}},
    "required": ["name", "ready"],
    "additionalProperties": False,
}
_TIME: Json = {"type": "string", "format": "date-time"}
_PROBABILITY: Json = {"type": "number", "minimum": 0, "maximum": 1}
_VALUE: Json = {"type": ["number", "null"], "description": "Null if the model gave no finite number."}
_NOTHING_ELSE: Json = {"additionalProperties": False}


def _object(properties: Json, required: list[str] | None = None, **more: Any) -> Json:
    """An object of these properties and no others; all are required unless said otherwise."""
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False, **more}


def _map(values: Json) -> Json:
    return {"type": "object", "additionalProperties": values}


def _row_of(items: Json, count: int) -> Json:
    return {"type": "array", "items": items, "minItems": count, "maxItems": count}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _of(model: str, part: str) -> Json:
    return _ref(f"{model}.{part}")


def _json(schema: Json, text: str) -> Json:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _or_null(kinds: list[str], column: Column) -> str | list[str]:
    return [*kinds, "null"] if column.nullable else kinds[0] if len(kinds) == 1 else kinds


def _plain(value: float) -> float | int:
    """A whole bound as an integer, where that is shorter to read."""
    return int(value) if abs(value) < 1e15 and value == int(value) else value


def _csv(record: Json) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([record.keys(), record.values()])
    return text.getvalue()


# Pages


@cache
def page(name: str) -> tuple[bytes, str]:
    """The bytes of the page ``index`` or ``docs``, and the policy that lets nothing run or style it but what is in it."""
    content = (Path(__file__).parent / "static" / f"{name}.html").read_bytes()

    def hashes(tag: bytes) -> str:
        found = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), content, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part).digest()).decode()}'" for part in found)

    policy = (
        f"default-src 'none'; script-src {hashes(b'script')}; style-src {hashes(b'style')}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return content, policy
