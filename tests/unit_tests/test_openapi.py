"""The API's document says exactly what the server takes, and the pages hold all that they show."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mlops_pipeline.config.serving import Serving
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.contract.values import LARGEST
from mlops_pipeline.inference.faults import REASONS, Refused
from mlops_pipeline.inference.signature import Signature
from mlops_pipeline.serving import openapi
from mlops_pipeline.serving.problems import problem_details, refused
from mlops_pipeline.serving.protocol import open_inference
from mlops_pipeline.serving.protocol.invocations import Invocations
from mlops_pipeline.serving.protocol.predict import Predict
from mlops_pipeline.serving.routes import routes_of, without_version

COLUMNS = {
    "share": Column("number", min=0, max=1, nullable=False),
    "size": Column("number"),
    "count": Column("integer", min=-2, nullable=False),
    "steps": Column("integer", max=7),
    "flag": Column("boolean", nullable=False),
    "sign": Column("boolean"),
    "kind": Column("category", nullable=False),
    "hue": Column("category"),
}
TRAINING = Contract(
    task="multiclass", classes=["a", "b", "c"], columns=COLUMNS, categories={"kind": ["x", "y"], "hue": ["(missing)", "red"]}
)
GOOD = {"share": 0.5, "size": None, "count": 3, "steps": 7, "flag": True, "sign": 0, "kind": "x", "hue": None}


FURTHEST = int(LARGEST) + 2**74
"""The largest integer that rounds to the largest 32-bit float."""


def signature(*, reject_unseen: bool = False, **changes: Any) -> Signature:
    return Signature.of(msgspec.structs.replace(TRAINING, **changes), reject_unseen=reject_unseen, max_rows=3)


def document(served: Signature | None = None, *, keys: bool = False) -> dict[str, Any]:
    return openapi.document({"m": served or signature()}, "m", version="1.2.3", keys=keys, max_rows=3)


def validator(content: dict[str, Any], name: str) -> Draft202012Validator:
    """Of one of the document's schemas."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": content["components"]})


def is_taken(read: Any, body: Any) -> bool:
    try:
        read(msgspec.json.encode(body))
    except Refused:
        return False
    return True


def reads_as_a_number(record: dict[str, Any]) -> bool:
    """Whether a record has a text where a number is due, which is read as a table's is, though the document asks for a number."""
    return any(isinstance(value, str) and COLUMNS[name].kind != "category" for name, value in record.items() if name in COLUMNS)


def parts_of(content: Any) -> Iterator[dict[str, Any]]:
    """Every mapping within a document."""
    if isinstance(content, dict):
        yield content
    for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from parts_of(part)


numbers = st.one_of(
    st.sampled_from(
        [
            0,
            1,
            -1,
            7,
            8,
            -2,
            -3,
            0.5,
            5.0,
            1e38,
            LARGEST,
            -LARGEST,
            LARGEST * 1.001,
            1e300,
            2**63,
            2**64,
            10**39,
            -(10**39),
            FURTHEST,
            FURTHEST + 1,
            -FURTHEST - 1,
        ]
    ),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
)
values = st.one_of(st.none(), st.booleans(), numbers, st.sampled_from(["x", "y", "red", "", "1"]), st.just([]), st.just({}))
records = st.fixed_dictionaries({}, optional=dict.fromkeys([*COLUMNS, "other"], values)).map(lambda given: {**GOOD, **given})


@settings(max_examples=400, deadline=None)
@given(st.lists(records, max_size=4), st.sets(st.sampled_from(list(COLUMNS))), st.booleans())
def test_a_record_is_taken_exactly_if_its_schema_takes_it(rows: list[dict[str, Any]], left_out: set[str], reject_unseen: bool) -> None:
    served = signature(reject_unseen=reject_unseen)
    assume(not any(map(reads_as_a_number, rows)))
    body = {"records": [{name: value for name, value in row.items() if name not in left_out} for row in rows]}
    said = validator(document(served), "m.PredictRequest").is_valid(body)
    assert is_taken(Predict(served, "m", "1").rows, body) == said


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(COLUMNS)), values, st.sampled_from(["split", "records", "instances", "rows", "inputs", "columns"]))
def test_each_form_of_invocations_is_taken_exactly_if_its_schema_takes_it(name: str, value: Any, form: str) -> None:
    record, served = {**GOOD, name: value}, signature()
    assume(not reads_as_a_number(record))
    rows = [[record[column] for column in served.names]]
    body = {
        "split": {"dataframe_split": {"columns": list(served.names), "data": rows}},
        "records": {"dataframe_records": [record]},
        "instances": {"instances": [record]},
        "rows": {"instances": rows},
        "inputs": {"inputs": rows},
        "columns": {"inputs": {column: [given] for column, given in record.items()}},
    }[form]
    said = validator(document(served), "m.InvocationsRequest").is_valid(body)
    assert is_taken(Invocations(served).rows, body) == said


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(COLUMNS)), values)
def test_a_tensor_is_taken_exactly_if_its_schema_takes_it(name: str, value: Any) -> None:
    served, content = signature(), document()
    body = content["paths"]["/v2/models/m/infer"]["post"]["requestBody"]["content"]["application/json"]["example"]
    for tensor in body["inputs"]:
        if tensor["name"] == name:
            tensor["data"] = [value]
    assert is_taken(lambda given: open_inference.parse(served, given), body) == validator(content, "m.InferRequest").is_valid(body)


@pytest.mark.parametrize(
    "served",
    [
        signature(),
        signature(reject_unseen=True),
        signature(task="regression", classes=[]),
        signature(columns={"kind": COLUMNS["kind"]}),
        signature(columns={"size": COLUMNS["size"]}, task="binary", classes=[False, True]),
    ],
)
def test_every_schema_is_one_and_every_reference_leads_somewhere(served: Signature) -> None:
    content = document(served)
    for schema in content["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for reference in {part["$ref"] for part in parts_of(content) if "$ref" in part}:
        _, _, kind, name = reference.split("/")
        assert name in content["components"][kind], reference
    operations = [operation for item in content["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert {tag for operation in operations for tag in operation["tags"]} == {tag["name"] for tag in content["tags"]}
    made = openapi.made_up(served)
    assert is_taken(Predict(served, "m", "1").rows, {"records": [made]})
    assert validator(content, "m.Record").is_valid(made)


def test_categories_are_listed_only_where_others_are_refused() -> None:
    kinds = [document(signature(reject_unseen=on))["components"]["schemas"]["m.Record"]["properties"] for on in (True, False)]
    assert kinds[0]["kind"]["enum"] == ["x", "y"]
    assert kinds[0]["hue"]["enum"] == ["red", None]
    assert "enum" not in kinds[1]["kind"]


def test_with_keys_all_but_probes_and_pages_ask_for_one() -> None:
    paths = document(keys=True)["paths"]
    unlocked = {path for path, item in paths.items() for operation in item.values() if not operation.get("security")}
    assert unlocked == {"/", "/docs", "/live", "/ready", "/ping", "/health", "/v2/health/live", "/v2/health/ready"}
    assert all("401" in operation["responses"] for path in paths.keys() - unlocked for operation in paths[path].values())
    assert "securitySchemes" not in document()["components"]


def test_it_describes_every_route_and_no_other() -> None:
    routes = {path: route.method.lower() for path, route in routes_of(Serving(models={"m": "champion"})).items()}
    described = {path: set(item) for path, item in document()["paths"].items() if "{version}" not in path}
    assert described == {path: {method} for path, method in routes.items()}
    for path in (path for path in document()["paths"] if "{version}" in path):
        unversioned, version = without_version(path.replace("{version}", "7")) or ("", "")
        assert (version, unversioned in routes) == ("7", True), path


def test_a_problem_has_the_shape_that_the_document_says() -> None:
    problems = validator(document(), "Problem")
    problems.validate(msgspec.json.decode(problem_details(refused(503, "deadline", "too late"), "1")))
    with pytest.raises(Refused) as caught:
        Predict(signature(), "m", "1").rows(msgspec.json.encode({"records": [{**GOOD, "share": 2, "count": None}]}))
    problems.validate(msgspec.json.decode(problem_details(caught.value, "1")))


class Reader(HTMLParser):
    """What a page refers to, runs and styles."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", ["index", "docs"])
def test_a_page_holds_all_that_it_shows_and_its_policy_lets_in_nothing_else(name: str) -> None:
    content, policy = openapi.page(name)
    text = content.decode()
    tags = Reader(text).tags
    assert [tag for tag, _ in tags].count("script") == [tag for tag, _ in tags].count("style") == 1
    for _, attributes in tags:
        assert not {key for key in attributes if key == "style" or key.startswith("on")}
        assert not attributes.get("src")
        assert re.match(r"(data:|/|#)", attributes.get("href") or "/")
    assert not re.search(r"\burl\(|@import|innerHTML|insertAdjacentHTML|document\.write|eval\(|https?://(?!www\.w3\.org/2000/svg)", text)
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    for tag in ("script", "style"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inside is not None
        digest = base64.b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
        assert directives[f"{tag}-src"] == f"'sha256-{digest}'"
    assert (directives["default-src"], directives["connect-src"], directives["img-src"]) == ("'none'", "'self'", "data:")


def test_every_problem_has_its_paragraph_and_is_raised_somewhere() -> None:
    """That no other word is raised, the type checker says: a fault's reason is one of these."""
    source = Path(openapi.__file__).parents[1]
    files = [file for room in ("inference", "serving") for file in (source / room).rglob("*.py") if file.name != "faults.py"]
    words = {node.value for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
    assert set(REASONS) - words == set()
    anchors = {
        attributes["id"] for tag, attributes in Reader(openapi.page("docs")[0].decode()).tags if tag == "section" and "id" in attributes
    }
    assert anchors == set(REASONS)
