"""The API keeps its own document: requests made up from it are taken or refused as it says, by schemathesis' checks."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import requests
import schemathesis
from schemathesis import Case, GenerationMode, HookContext
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

if TYPE_CHECKING:
    from tests.integration_tests.conftest import Server

SEED = 20261124
EXAMPLES = 12
"""Made-up requests an operation, beside those at the edges of its schemas."""
pytestmark = pytest.mark.slow


def document_of(server: Server, mode: GenerationMode) -> Any:
    generation = {"mode": mode.value, "max-examples": EXAMPLES, "deterministic": True, "database": "none", "no-shrink": True}
    checks = {"negative_data_rejection": {"expected-statuses": [400, 404, 405, 413, 415, 422]}}
    config = SchemathesisConfig.from_dict(
        {"seed": SEED, "generation": generation, "checks": checks, "suppress-health-check": ["all"], "continue-on-failure": True}
    )
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=config)


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Bodies are made up as JSON: of CSV and binary tensors a schema says nothing that one could break."""
    for operation in (operation for item in raw_schema["paths"].values() for operation in item.values()):
        for kind in {*operation.get("requestBody", {}).get("content", {})} - {"application/json"}:
            del operation["requestBody"]["content"][kind]


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """What no schema can say is mended in the requests that are to keep the document."""
    if case.meta is not None and case.meta.generation.mode.is_positive:
        case.body = agreeing(case.body)


def agreeing(body: Any) -> Any:
    """A body whose lists have the lengths that descriptions ask for and no schema can: ids, columns, tensors; outputs named once."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("records"), list) and isinstance(body.get("ids"), list):
        count = len(body["records"])
        body = {**body, "ids": [*body["ids"], *map(str, range(count))][:count]}
    if isinstance(body.get("labels"), list):
        body = {"labels": [{**label, "time": "2013-01-31T12:00:00Z"} if label.get("time") else label for label in body["labels"]]}
    if isinstance(body.get("columns"), dict) and all(isinstance(values, list) for values in body["columns"].values()):
        columns = dict(zip(body["columns"], of_one_length(list(body["columns"].values())), strict=True))
        body = {"columns": {name: [None for _ in values] if name == "time" else values for name, values in columns.items()}}
    inputs = body.get("inputs")
    if isinstance(inputs, dict):
        columns = {name: values if isinstance(values, list) else [values] for name, values in inputs.items()}
        body = {**body, "inputs": dict(zip(columns, of_one_length(list(columns.values())), strict=True))}
    elif isinstance(inputs, list) and all(isinstance(tensor, dict) and "datatype" in tensor for tensor in inputs):
        # A tensor that is none of the model's is not looked at, whatever its data are.
        full = [isinstance(tensor.get("data"), list) and bool(tensor["data"]) for tensor in inputs]
        data = iter(of_one_length([tensor["data"] for tensor, is_full in zip(inputs, full, strict=True) if is_full]))
        body = {**body, "inputs": [agreed(each, place, next(data) if full[place] else None) for place, each in enumerate(inputs)]}
        if body.get("outputs"):
            body["outputs"] = list({output["name"]: output for output in body["outputs"]}.values())
    return body


def agreed(tensor: dict[str, Any], place: int, data: list[Any] | None) -> dict[str, Any]:
    if data is None:
        return {**tensor, "shape": [1], "name": f"other {place}"}
    return {**tensor, "data": data, "shape": [len(data)]}


def of_one_length(columns: list[list[Any]]) -> list[list[Any]]:
    count = min((len(values) for values in columns if values), default=0)
    return [values[:count] for values in columns]


def findings(document: Any) -> tuple[list[str], Counter[str]]:
    """What the checks found, and how many requests each operation was asked with."""
    found, asked = [], Counter[str]()
    for event in from_schema(document).execute():
        if isinstance(event, NonFatalError | FatalError):
            found.append(f"{getattr(event, 'label', '')}: {getattr(event, 'value', None) or getattr(event, 'exception', None)}")
        if not isinstance(event, ScenarioFinished):
            continue
        for key, checks in event.recorder.checks.items():
            asked[event.recorder.cases[key].value.operation.label] += 1
            for failed in (check.failure_info for check in checks if check.failure_info is not None):
                found.append(f"{event.phase.name} {failed.failure.title}: {failed.failure.message}\n{failed.code_sample}")
    return found, asked


def test_what_keeps_the_document_is_answered_as_it_says(served: Server) -> None:
    document = document_of(served, GenerationMode.POSITIVE)
    found, asked = findings(document)
    assert not found, "\n\n".join(found)
    assert set(asked) == {operation.ok().label for operation in document.get_all_operations()}


def test_what_breaks_the_document_is_refused_as_it_says(served: Server) -> None:
    document = document_of(served, GenerationMode.NEGATIVE)
    found, asked = findings(document)
    assert not found, "\n\n".join(found)
    assert {label for label in asked if label.startswith("POST")} == {
        operation.ok().label for operation in document.get_all_operations() if operation.ok().method == "post"
    }


def test_the_document_keeps_the_rules_of_openapi(served: Server) -> None:
    document_of(served, GenerationMode.POSITIVE).validate()


def test_every_example_of_the_document_is_answered(served: Server) -> None:
    document = requests.get(f"{served.url}/openapi.json", timeout=120).json()
    answered = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for kind, media in operation.get("requestBody", {"content": {}})["content"].items():
                examples = (
                    [media["example"]] if "example" in media else [example["value"] for example in media.get("examples", {}).values()]
                )
                for example in examples:
                    body = example if isinstance(example, str) else json.dumps(example)
                    address = served.url + path.replace("{version}", "1")
                    said = requests.request(method, address, data=body, headers={"Content-Type": kind}, timeout=120)
                    assert said.status_code == 200, (path, kind, said.text)
                    answered.append((path, kind))
    assert {kind for _, kind in answered} == {"application/json", "text/csv"}
    assert len({path for path, _ in answered}) == 7
