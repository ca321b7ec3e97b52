"""The Open Inference Protocol: our bytes and those of NVIDIA's client mean the same, and nothing else than rows or a refusal comes out."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.signature import Signature
from mlops_pipeline.serving.protocol import open_inference as protocol
from mlops_pipeline.serving.protocol.open_inference import Parsed, Wanted


def signature_of(
    task: str = "classification", classes: tuple[Any, ...] = ("no", "yes"), max_rows: int = 1000, **columns: Column
) -> Signature:
    categories = {name: ["Bern", "Genève", "Zürich", "a", "b"] for name, column in columns.items() if column.kind == "category"}
    return Signature.of(
        Contract(task=task, classes=list(classes), columns=columns, categories=categories, null_values=()),
        reject_unseen=False,
        max_rows=max_rows,
    )


PEOPLE = signature_of(
    age=Column("number", 0, 120, nullable=False),
    height=Column("number"),
    visits=Column("integer", 0, nullable=False),
    member=Column("boolean"),
    city=Column("category"),
    plan=Column("category", nullable=False),
)
NUMBERS = np.array([[41.5, 1.75, 3, 1], [7, math.nan, 0, 0], [120, -2, 2e6, math.nan]])
CATEGORIES = np.array([["Bern", "a"], ["Genève", "b"], ["", "a"]], dtype=object)


def encoded(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def as_json(name: str, datatype: str, values: Any, shape: list[int] | None = None, *, flat: bool = False) -> dict[str, Any]:
    array = np.array(values, dtype=object)
    data = [None if isinstance(value, float) and math.isnan(value) else value for value in array.ravel().tolist()]
    if array.ndim == 2 and not flat:
        data = [data[start : start + array.shape[1]] for start in range(0, len(data), array.shape[1])]
    return {"name": name, "shape": shape or list(array.shape), "datatype": datatype, "data": data}


def by_triton(*tensors: tuple[str, np.ndarray], json_names: tuple[str, ...] = (), **more: Any) -> tuple[bytes, int | None]:
    inputs = [
        InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype)).set_data_from_numpy(
            values, binary_data=name not in json_names
        )
        for name, values in tensors
    ]
    body, length = InferenceServerClient.generate_request_body(inputs, **more)
    return bytes(body), length


def columns(shape: tuple[int, ...] = (3,)) -> list[tuple[str, np.ndarray]]:
    """Each column in a datatype of its own."""
    datatypes = [np.float32, np.float64, np.uint32, np.float32]
    numbers = [NUMBERS[:, place].astype(datatype).reshape(shape) for place, datatype in enumerate(datatypes)]
    return list(zip(PEOPLE.names, [*numbers, *(CATEGORIES[:, place].reshape(shape) for place in (0, 1))], strict=True))


def forms() -> dict[str, tuple[bytes, int | None]]:
    datatypes = dict(zip(PEOPLE.names, ["FP32", "FP64", "UINT32", "FP64", "BYTES", "BYTES"], strict=True))
    values = dict(columns())
    values["visits"] = values["visits"].tolist()
    flat = [as_json(name, datatypes[name], values[name]) for name in PEOPLE.names]
    tall = [as_json(name, datatypes[name], np.reshape(values[name], (3, 1)).tolist()) for name in PEOPLE.names]
    gathered = [as_json("numbers", "FP64", NUMBERS), as_json("categories", "BYTES", CATEGORIES)]
    flattened = [as_json("numbers", "FP32", NUMBERS, flat=True), as_json("categories", "BYTES", CATEGORIES, flat=True)]
    spaced = json.dumps({"parameters": {"x": 1}, "inputs": gathered, "more": [[{}]]}, indent=2).encode()
    both = [("numbers", NUMBERS), ("categories", CATEGORIES)]
    return {
        "one tensor a column": (encoded(*flat), None),
        "one tensor a column, tall": (encoded(*tall), None),
        "in another order": (encoded(*reversed(flat)), None),
        "all JSON, with the header's length": (encoded(*flat), len(encoded(*flat))),
        "gathered, nested": (encoded(*gathered), None),
        "gathered, nested, with space": (spaced, None),
        "gathered, flat": (encoded(*flattened), None),
        "gathered numbers only": (encoded(gathered[0], *flat[4:]), None),
        "gathered categories only": (encoded(*tall[:4], gathered[1]), None),
        "binary, one tensor a column": by_triton(*columns()),
        "binary, one tensor a column, tall": by_triton(*columns((3, 1))),
        "binary, gathered": by_triton(*both),
        "binary, gathered as FP32": by_triton(("numbers", NUMBERS.astype(np.float32)), both[1]),
        "binary, some in JSON": by_triton(*columns(), json_names=("age", "city", "visits")),
    }


FORMS = forms()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: str) -> None:
    rows = protocol.parse(PEOPLE, *FORMS[form]).rows
    assert rows.count == 3
    assert rows.numbers is not None
    assert rows.categories is not None
    assert rows.numbers.dtype == np.float32
    assert rows.numbers.flags.c_contiguous
    assert rows.numbers.flags.aligned
    assert rows.categories.flags.c_contiguous
    np.testing.assert_array_equal(rows.numbers, NUMBERS.astype(np.float32))
    assert rows.categories.tolist() == CATEGORIES.tolist()
    assert rows.unseen == 1


def test_null_in_json_is_null_and_an_optional_column_may_be_left_out() -> None:
    rows = protocol.parse(
        PEOPLE,
        encoded(
            as_json("age", "FP32", [1, 2]),
            as_json("visits", "INT64", [0, 1]),
            {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["Bern", None]},
            as_json("plan", "BYTES", ["a", "b"]),
        ),
    ).rows
    np.testing.assert_array_equal(rows.numbers, [[1, math.nan, 0, math.nan], [2, math.nan, 1, math.nan]])
    assert rows.categories is not None
    assert rows.categories.tolist() == [["Bern", "a"], [MISSING, "b"]]
    body, length = by_triton(("age", np.array([1.0])), ("visits", np.array([2])), ("plan", np.array(["a"], dtype=object)))
    rows = protocol.parse(PEOPLE, body, length).rows
    np.testing.assert_array_equal(rows.numbers, [[1, math.nan, 2, math.nan]])
    assert rows.categories is not None
    assert rows.categories.tolist() == [[MISSING, "a"]]


def test_a_column_named_as_a_gathered_tensor_is_that_column() -> None:
    signature = signature_of(numbers=Column("number"), age=Column("number"), categories=Column("category"))
    body = encoded(as_json("numbers", "FP32", [1.5]), as_json("age", "FP32", [2]), as_json("categories", "BYTES", ["a"]))
    rows = protocol.parse(signature, body).rows
    assert rows.numbers is not None
    assert rows.numbers.tolist() == [[1.5, 2]]
    described = json.loads(protocol.model_metadata("m", "1", signature))
    assert not {"numbers", "categories"} & described["parameters"].keys()


@pytest.mark.parametrize("padding", range(4))
def test_float32_numbers_are_a_view_of_the_body_where_memory_allows(padding: int) -> None:
    signature = signature_of(**{f"n{place}": Column("number") for place in range(5)})
    values = np.arange(50, dtype=np.float32).reshape(10, 5)
    header = encoded({"name": "numbers", "shape": [10, 5], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}})
    header += b" " * padding
    body = header + values.tobytes()
    numbers = protocol.parse(signature, body, len(header)).rows.numbers
    assert numbers is not None
    np.testing.assert_array_equal(numbers, values)
    start = np.frombuffer(body, np.uint8).ctypes.data + len(header)
    assert (numbers.ctypes.data == start) == (start % 4 == 0)


INTEGERS = ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_keep_their_limits_in_json_and_binary(datatype: str) -> None:
    signature = signature_of(n=Column("number"))
    limits = np.iinfo(triton_to_np_dtype(datatype))
    values = np.array([limits.min, 0, limits.max], dtype=limits.dtype)
    for form in (by_triton(("n", values)), by_triton(("n", values), json_names=("n",))):
        numbers = protocol.parse(signature, *form).rows.numbers
        assert numbers is not None
        assert numbers[:, 0].tolist() == values.astype(np.float32).tolist()
    for beyond in (limits.min - 1, limits.max + 1, 10**400, 1.5, None, "1", True):
        with pytest.raises(
            Refused, match=rf"^tensor 'n', row 1, is not an integer from {limits.min} to {limits.max}, as {datatype} asks"
        ) as refusal:
            protocol.parse(signature, encoded({"name": "n", "shape": [2], "datatype": datatype, "data": [0, beyond]}))
        assert (refusal.value.status, refusal.value.faults[0].row, refusal.value.faults[0].column) == (422, 1, "n")


@pytest.mark.parametrize("datatype", ["INT8", "UINT8", "INT64", "UINT64"])
def test_whole_numbers_written_as_floats_are_integers_within_the_same_limits(datatype: str) -> None:
    one = [as_json("age", "FP32", [1]), as_json("plan", "BYTES", ["a"])]
    for value in (0, 3, 127, 128, 255, 256, -1, 2**53, 2**62, 2**63, 2**64):
        body, as_float = (encoded(*one, as_json("visits", datatype, [value])) for _ in (0, 1))
        as_float = as_float.replace(b'"data": [%d]' % value, b'"data": [%d.0]' % value)
        said = []
        for each in (body, as_float):
            try:
                said.append(repr(protocol.parse(PEOPLE, each).rows.numbers))
            except Refused as refused:
                said.append(f"{refused.status} {refused.reason}")
        assert said[0] == said[1], value
    with pytest.raises(Refused, match="'visits'"):
        protocol.parse(PEOPLE, encoded(*one, as_json("visits", datatype, [3.5])))


def test_bool_tensors_are_for_boolean_columns() -> None:
    signature = signature_of(a=Column("boolean"), n=Column("number"))
    good, other = np.array([True, False]), np.array([1.0, 2.0])
    for names in ((), ("a", "n")):
        numbers = protocol.parse(signature, *by_triton(("a", good), ("n", other), json_names=names)).rows.numbers
        assert numbers is not None
        assert numbers.tolist() == [[1, 1], [0, 2]]
        with pytest.raises(Refused, match="tensor 'n' has the datatype 'BOOL': give FP32, FP64, INT8"):
            protocol.parse(signature, *by_triton(("a", good), ("n", good), json_names=names))
    body, length = by_triton(("a", good), ("n", other))
    assert length is not None
    with pytest.raises(Refused, match="tensor 'a', row 1, is not 0 or 1, as BOOL asks"):
        protocol.parse(signature, body[: length + 1] + b"\x02" + body[length + 2 :], length)


AGE, VISITS, PLAN = as_json("age", "FP32", [1, 2]), as_json("visits", "INT64", [1, 2]), as_json("plan", "BYTES", ["a", "b"])
WHOLE = (AGE, VISITS, PLAN)
MATRIX = as_json("numbers", "FP32", [[1, 2, 3, 1], [4, 5, 6, 0]])
TEXTS = as_json("categories", "BYTES", [["Bern", "a"], ["Bern", "b"]])

REFUSED: list[tuple[bytes, int, str]] = [
    (b"", 400, "the request is not JSON: it is empty"),
    (b"\xff\xfe", 400, "the request is not JSON: it is UTF-16 or UTF-32: send UTF-8"),
    (b"[]", 400, "the request has the wrong form: Expected `object`, got `array`"),
    (b"{}", 400, "the request has the wrong form: Object missing required field `inputs`"),
    (b'{"inputs": [], "x": ' + b"[" * 100_000, 400, "the request is not JSON: the JSON is nested too deep"),
    (b'{"inputs": [{"name": "age", "data": [Infinity]}]}', 400, "(JSON has no NaN or Infinity: send null, or binary data)"),
    (b'{"id": "\xff", "inputs": []}', 400, "the request is not JSON: 'utf-8' codec can't decode"),
    (encoded(id=3), 400, "the request has the wrong form: Expected `str | null`, got `int` - at `$.id`"),
    (encoded(), 422, "there is no input tensor"),
    (encoded(AGE | {"name": 1}), 400, "the request has the wrong form: Expected `str`, got `int` - at `$.inputs[0].name`"),
    (encoded(AGE, PLAN | {"shape": "x"}), 400, "tensor 'plan' has the wrong form: Expected `array`, got `str` - at `$.inputs[1].shape`"),
    (encoded(AGE | {"shape": [-1]}), 400, "tensor 'age' has the wrong form: Expected `int` >= 0 - at `$.inputs[0].shape[0]`"),
    (encoded(AGE | {"shape": [2**70]}), 400, "tensor 'age' has the wrong form: Expected `int` <= 9223372036854775807"),
    (encoded(AGE | {"shape": [1.5]}), 400, "tensor 'age' has the wrong form: Expected `int`, got `float`"),
    (encoded(AGE | {"parameters": {"binary_data_size": -4}}), 400, "tensor 'age' has the wrong form: Expected `int` >= 0"),
    (encoded(AGE | {"shape": []}), 422, "tensor 'age' has the shape []: its first dimension is the number of rows"),
    (encoded(AGE | {"shape": [0], "data": []}), 422, "tensor 'age' holds no row: give at least one"),
    (encoded(AGE | {"shape": [1001]}), 413, "tensor 'age' holds 1,001 rows, more than the 1,000 of one request: send several"),
    (encoded(AGE | {"shape": [2**62, 2**62]}), 413, "tensor 'age' holds 4,611,686,018,427,387,904 rows, more than the 1,000"),
    (encoded(*WHOLE[:2], PLAN | {"shape": [3]}), 422, "tensor 'plan' has the shape [3]: give [2] or [2, 1]"),
    (encoded(AGE, VISITS | {"shape": [2, 2**62]}, PLAN), 422, "tensor 'visits' has the shape [2, 4611686018427387904]: give [2] or [2, 1]"),
    (encoded(AGE, VISITS | {"shape": [2] * 9}, PLAN), 422, "tensor 'visits' has the shape [2, 2, 2, 2, …]: give [2] or [2, 1]"),
    (encoded(MATRIX | {"shape": [2, 3]}, TEXTS), 422, "tensor 'numbers' has the shape [2, 3]: give [2, 4]"),
    (encoded(MATRIX | {"shape": [2]}, TEXTS), 422, "tensor 'numbers' has the shape [2]: give [2, 4]"),
    (encoded(MATRIX, TEXTS | {"shape": [1, 2]}), 422, "tensor 'categories' has the shape [1, 2]: give [2, 2]"),
    (encoded(AGE | {"data": [1]}, VISITS, PLAN), 422, "tensor 'age' has 1 values in data, not the 2 of its shape"),
    (encoded(AGE | {"data": [[1], [2]]}, VISITS, PLAN), 422, "tensor 'age' has nested data, but the shape [2]"),
    (encoded(AGE | {"shape": [2, 1], "data": [[1]]}, VISITS, PLAN), 422, "tensor 'age' has 1 rows in data, not the 2 of its shape"),
    (encoded(MATRIX | {"data": [[1, 2, 3, 1], [4]]}, TEXTS), 422, "tensor 'numbers', row 1, has 1 values, not the 4 of its shape"),
    (encoded(MATRIX | {"data": [[1, 2, 3, 1], [4, 5, "6", 1]]}, TEXTS), 422, "'numbers', row 1, value 2, is not a finite number"),
    (encoded(MATRIX | {"data": [1, 2, 3, 1, 4, True, 6, 1]}, TEXTS), 422, "'numbers', row 1, value 1, is not a finite number"),
    (encoded(MATRIX | {"data": [[1, 2, 3, 1], [4, 5, [6], 1]]}, TEXTS), 422, "'numbers', row 1, value 2, is not a finite number"),
    (encoded(AGE | {"data": ["1", 2]}, VISITS, PLAN), 422, "tensor 'age', row 0, is not a finite number or null, as FP32 asks"),
    (encoded(AGE | {"data": 1}, VISITS, PLAN), 422, "tensor 'age' has data that are no list of values"),
    (encoded(AGE | {"data": None}, VISITS, PLAN), 400, "tensor 'age' has neither data nor binary_data_size"),
    (encoded({"name": "age", "shape": [2], "datatype": "FP32"}, VISITS, PLAN), 400, "tensor 'age' has neither data nor binary_data_size"),
    (encoded(AGE, VISITS, PLAN | {"data": ["a", 1]}), 422, "tensor 'plan', row 1, is not text or null, as BYTES asks"),
    (encoded(AGE, VISITS, PLAN).replace(b'"b"', b'"\xff"'), 400, "tensor 'plan' has data that are not JSON: 'utf-8' codec"),
    (encoded(AGE, VISITS, PLAN).replace(b'"b"', b'"\\ud800x"'), 400, "the request is not JSON: JSON is malformed"),
    (encoded(AGE, VISITS, PLAN).replace(b'"b"', b"1e999"), 422, "tensor 'plan', row 1, is not text or null, as BYTES asks"),
    (encoded(*WHOLE).replace(b"[1, 2]", b"[1, 1e999]", 1), 422, "tensor 'age', row 1, is not a finite number or null, as FP32 asks"),
    (encoded(AGE | {"datatype": "BYTES"}, VISITS, PLAN), 422, "tensor 'age' has the datatype 'BYTES': give FP32, FP64, INT8"),
    (encoded(AGE, VISITS, PLAN | {"datatype": "FP32"}), 422, "tensor 'plan' has the datatype 'FP32': give BYTES"),
    (encoded(MATRIX | {"datatype": "INT64"}, TEXTS), 422, "tensor 'numbers' has the datatype 'INT64': give FP32, FP64"),
    (encoded(AGE | {"datatype": "x" * 999}, VISITS, PLAN), 422, f"tensor 'age' has the datatype '{'x' * 60}'…: give FP32"),
    (encoded(*WHOLE, as_json("tail\n", "FP32", [1, 2])), 422, "tensor 'tail\\n' is none of the model's: age, height, visits, "),
    (encoded(AGE, PLAN), 422, "tensor 'visits' is missing"),
    (encoded(AGE, VISITS), 422, "tensor 'plan' is missing"),
    (encoded(MATRIX), 422, "tensor 'plan' is missing"),
    (encoded(*WHOLE, AGE), 400, "tensor 'age' is more than once in inputs"),
    (encoded(MATRIX, AGE, TEXTS), 422, "tensor 'age' is given twice: alone, and as a column of 'numbers'"),
    (encoded(MATRIX, PLAN, TEXTS), 422, "tensor 'plan' is given twice: alone, and as a column of 'categories'"),
    (encoded(AGE | {"parameters": {"shared_memory_region": "r"}}, VISITS, PLAN), 422, "tensor 'age' is in shared memory, an ext"),
    (encoded(AGE | {"parameters": {"binary_data_size": 8}}, VISITS, PLAN), 400, "tensor 'age' has binary data, but Inference-Header"),
    (encoded(*WHOLE, outputs=[{"name": "prediction"}]), 422, "output 'prediction' is none of the model's: label, probabilities"),
    (encoded(*WHOLE, outputs=[{"name": "label"}] * 2), 400, "tensor 'label' is more than once in outputs"),
    (encoded(*WHOLE, outputs=[{"name": "label", "parameters": {"classification": 2}}]), 422, "asks for the classification extension"),
    (encoded(*WHOLE, outputs=[{"name": "label", "parameters": {"shared_memory_region": "r"}}]), 422, "asks for the shared memory ext"),
    (encoded(AGE | {"data": [1, 200]}, VISITS, PLAN), 422, "row 1, column 'age' is 200, outside 0 to 120"),
    (encoded(AGE, VISITS, PLAN | {"data": [None, "a"]}), 422, "row 0, column 'plan' is null, which the model does not take"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "detail"), REFUSED, ids=[detail[:60] for _, _, detail in REFUSED])
def test_what_is_wrong_is_said_in_one_line(body: bytes, status: int, detail: str) -> None:
    with pytest.raises(Refused) as refusal:
        protocol.parse(replace(PEOPLE, refuse_extra=True), body)
    assert detail in str(refusal.value)
    assert refusal.value.status == status
    assert "\n" not in str(refusal.value)


def test_a_tensor_that_is_none_of_the_models_is_ignored_and_said() -> None:
    other = as_json("tail\n", "COMPLEX", [1, 2, 3])
    for body in (encoded(other, *WHOLE), encoded(*WHOLE, other), encoded(MATRIX, other, TEXTS)):
        parsed = protocol.parse(PEOPLE, body)
        assert [(one.reason, one.column, one.rows) for one in parsed.rows.notices or ()] == [("extra_column", "tail\n", parsed.rows.count)]
        content, _ = protocol.answer("m", "1", PEOPLE, parsed, np.zeros((parsed.rows.count, 2), np.float32), parsed.rows.notices)
        assert json.loads(json.loads(content)["parameters"]["warnings"])[0]["column"] == "tail\n"
    with pytest.raises(Refused, match="tensor 'a' is missing: give it a value"):
        protocol.parse(signature_of(a=Column("number"), b=Column("category")), encoded(other))


def in_binary(plan: bytes, size: int | None = None, tail: bytes = b"", **more: Any) -> tuple[bytes, int]:
    """Two rows, ``age`` and ``plan`` in binary."""
    age = np.array([1, 2], np.float32).tobytes()
    header = encoded(
        {"name": "age", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        VISITS,
        {
            "name": "plan",
            "shape": [2],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": len(plan) if size is None else size},
            **more,
        },
    )
    return header + age + plan + tail, len(header)


def texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


GOOD, GOOD_LENGTH = in_binary(texts(b"a", b"b"))

BINARY_REFUSED: list[tuple[tuple[bytes, int], int, str]] = [
    (in_binary(texts(b"a", b"b"), tail=b"x"), 400, "1 bytes follow the last tensor: no binary_data_size counts them"),
    (in_binary(texts(b"a", b"b"), size=11), 400, "tensor 'plan' has 11 bytes by its binary_data_size, only 10 are left in the body"),
    (in_binary(texts(b"a", b"b"), size=2**62), 400, "tensor 'plan' has 4,611,686,018,427,387,904 bytes by its binary_data_size, only 10"),
    (in_binary(texts(b"a", b"b"), size=9), 400, "1 bytes follow the last tensor"),
    (in_binary(texts(b"a", b"b", b"c")), 400, "tensor 'plan' has 5 bytes after its 2 elements"),
    (in_binary(texts(b"a")), 400, "tensor 'plan', row 1, goes beyond the tensor's binary_data_size"),
    (in_binary(texts(b"a") + b"\x01\x00"), 400, "tensor 'plan', row 1, goes beyond the tensor's binary_data_size"),
    (in_binary(texts(b"a") + b"\xff\xff\xff\xffb"), 400, "tensor 'plan', row 1, goes beyond the tensor's binary_data_size"),
    (in_binary(b""), 400, "tensor 'plan', row 0, goes beyond the tensor's binary_data_size"),
    (in_binary(texts(b"a", "ä".encode("latin-1"))), 422, "tensor 'plan', row 1, is not UTF-8 text"),
    (in_binary(texts(b"a", b"b"), data=["a", "b"]), 400, "tensor 'plan' has data and binary_data_size: give one of them"),
    (in_binary(texts(b"a", b"b"), datatype="FP32"), 422, "tensor 'plan' has the datatype 'FP32': give BYTES"),
    ((GOOD.replace(b"FP32", b"FP64"), GOOD_LENGTH), 422, "tensor 'age' has 8 bytes, but its shape and datatype take 16"),
    ((b"{}", 3), 400, "Inference-Header-Content-Length is outside the body of 2 bytes"),
    ((b"{}", -1), 400, "Inference-Header-Content-Length is outside the body of 2 bytes"),
    ((b"{}", 10**5000), 400, "Inference-Header-Content-Length is outside the body of 2 bytes"),
    ((b"{}", 0), 400, "the request is not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "status", "detail"), BINARY_REFUSED, ids=[detail[:60] for _, _, detail in BINARY_REFUSED])
def test_what_is_wrong_with_binary_data_is_said_in_one_line(form: tuple[bytes, int], status: int, detail: str) -> None:
    with pytest.raises(Refused) as refusal:
        protocol.parse(PEOPLE, *form)
    assert detail in str(refusal.value)
    assert refusal.value.status == status


def test_the_good_form_of_the_refused_ones_is_taken() -> None:
    assert protocol.parse(PEOPLE, encoded(*WHOLE)).rows.count == 2
    assert protocol.parse(PEOPLE, encoded(MATRIX, TEXTS)).rows.count == 2
    rows = protocol.parse(PEOPLE, *in_binary(texts("Genève".encode(), b""))).rows
    assert rows.categories is not None
    assert rows.categories[:, 1].tolist() == ["Genève", ""]


SAID = np.array([[0.25, 0.75], [0.5, 0.5], [1, 0]], dtype=np.float32)
CLASSES = {
    "text": (("no", "jä"), "BYTES", ["jä", "no", "no"]),
    "integers": ((0, 7), "INT64", [7, 0, 0]),
    "booleans": ((False, True), "BOOL", [True, False, False]),
    "floats": ((0.5, 1.5), "BYTES", ["1.5", "0.5", "0.5"]),
}


def read(body: bytes, length: int | None) -> InferResult:
    return InferenceServerClient.parse_response_body(body, header_length=length)


def text(values: np.ndarray) -> list[Any]:
    return [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("kind", CLASSES)
def test_nvidias_client_reads_labels_and_probabilities(kind: str, binary: bool) -> None:
    classes, datatype, labels = CLASSES[kind]
    signature = signature_of(classes=classes, n=Column("number"))
    outputs = None if binary else [InferRequestedOutput("label", False), InferRequestedOutput("probabilities", False)]
    parsed = protocol.parse(signature, *by_triton(("n", np.arange(3.0)), outputs=outputs, request_id="r1"))
    body, length = protocol.answer("m", "3", signature, parsed, SAID)
    assert (length is not None) == binary
    result = read(body, length)
    assert text(result.as_numpy("label")) == labels
    assert result.as_numpy("label").dtype == triton_to_np_dtype(datatype)
    np.testing.assert_array_equal(result.as_numpy("probabilities"), SAID)
    said = result.get_response()
    assert (said["model_name"], said["model_version"], said["id"]) == ("m", "3", "r1")
    assert [(output["name"], output["datatype"], output["shape"]) for output in said["outputs"]] == [
        ("label", datatype, [3]),
        ("probabilities", "FP32", [3, 2]),
    ]
    assert all(("data" in output) != binary for output in said["outputs"])


def test_an_answer_in_json_is_as_the_specification_writes_it() -> None:
    parsed = protocol.parse(PEOPLE, encoded(*WHOLE))
    body, length = protocol.answer("m", "3", PEOPLE, parsed, SAID[:2])
    assert length is None
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "3",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["yes", "no"]},
            {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 0.5, 0.5]},
        ],
    }


CHOICES: list[tuple[dict[str, Any], list[Wanted]]] = [
    ({}, [Wanted("label", False), Wanted("probabilities", False)]),
    ({"outputs": []}, [Wanted("label", False), Wanted("probabilities", False)]),
    ({"parameters": None, "outputs": None}, [Wanted("label", False), Wanted("probabilities", False)]),
    ({"parameters": {"binary_data_output": True}}, [Wanted("label", True), Wanted("probabilities", True)]),
    ({"outputs": [{"name": "probabilities"}]}, [Wanted("probabilities", False)]),
    (
        {
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": False, "more": 1}}, {"name": "label"}],
            "parameters": {"binary_data_output": True, "priority": 3},
        },
        [Wanted("probabilities", False), Wanted("label", True)],
    ),
    ({"outputs": [{"name": "label", "parameters": {"binary_data": True}}]}, [Wanted("label", True)]),
]


@pytest.mark.parametrize(("more", "wanted"), CHOICES)
def test_the_client_chooses_outputs_and_their_form(more: dict[str, Any], wanted: list[Wanted]) -> None:
    parsed = protocol.parse(PEOPLE, encoded(*WHOLE, **more))
    assert list(parsed.outputs) == wanted
    result = read(*protocol.answer("m", "3", PEOPLE, parsed, SAID[:2]))
    assert [output["name"] for output in result.get_response()["outputs"]] == [name for name, _ in wanted]
    for name, binary in wanted:
        assert ("binary_data_size" in result.get_output(name).get("parameters", {})) == binary
        assert len(result.as_numpy(name)) == 2


@pytest.mark.parametrize("binary", [False, True])
def test_a_regression_answers_with_its_values(binary: bool) -> None:
    signature = signature_of("regression", (), n=Column("number"))
    parsed = protocol.parse(signature, *by_triton(("n", np.arange(3.0)), outputs=[InferRequestedOutput("prediction", binary)]))
    said = np.array([1.5, np.nan, -3], dtype=np.float32)
    body, length = protocol.answer("m", "3", signature, parsed, said)
    np.testing.assert_array_equal(read(body, length).as_numpy("prediction"), said)
    if not binary:
        assert json.loads(body, parse_constant=lambda _: pytest.fail("not JSON"))["outputs"][0]["data"] == [1.5, None, -3.0]


def test_the_metadata_describe_what_is_taken_and_given() -> None:
    described = json.loads(protocol.model_metadata("m", "3", PEOPLE))
    assert described == {
        "name": "m",
        "versions": ["3"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "age", "datatype": "FP32", "shape": [-1]},
            {"name": "height", "datatype": "FP32", "shape": [-1]},
            {"name": "visits", "datatype": "INT64", "shape": [-1]},
            {"name": "member", "datatype": "FP32", "shape": [-1]},
            {"name": "city", "datatype": "BYTES", "shape": [-1]},
            {"name": "plan", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ],
        "parameters": {
            "max_rows": 1000,
            "null": "NaN in FP32 and FP64; null in JSON data",
            "numbers": "FP32 or FP64 [-1, 4]",
            "numbers_columns": "'numbers' may replace the tensors of age, height, visits, member, in this order",
            "categories": "BYTES [-1, 2]",
            "categories_columns": "'categories' may replace the tensors of city, plan, in this order",
        },
    }
    samples: dict[str, np.ndarray] = {
        "FP32": np.ones(2, np.float32),
        "INT64": np.ones(2, np.int64),
        "BYTES": np.array(["a", "b"], dtype=object),
    }
    body, length = by_triton(*((given["name"], samples[given["datatype"]]) for given in described["inputs"]))
    assert protocol.parse(PEOPLE, body, length).rows.count == 2
    regression = json.loads(protocol.model_metadata("m", "3", signature_of("regression", (), a=Column("boolean", nullable=False))))
    assert regression["inputs"] == [{"name": "a", "datatype": "BOOL", "shape": [-1]}]
    assert regression["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [-1]}]


def test_the_small_bodies() -> None:
    assert json.loads(protocol.server_metadata("1.2")) == {"name": "mlops-pipeline", "version": "1.2", "extensions": ["binary_tensor_data"]}
    assert json.loads(protocol.model_ready("m")) == {"name": "m", "ready": True}
    assert json.loads(protocol.error("no «model»")) == {"error": "no «model»"}


def parsed_or_refused(body: bytes, length: int | None) -> Parsed | None:
    """What came of a request: anything but rows that fit the model, or a refusal in one line, fails the test."""
    try:
        parsed = protocol.parse(PEOPLE, body, length)
    except Refused as refusal:
        assert refusal.status in (400, 413, 422)
        assert len(str(refusal).splitlines()) == 1
        protocol.error(str(refusal))
        return None
    rows = parsed.rows
    assert rows.numbers is not None
    assert rows.categories is not None
    assert rows.numbers.shape == (rows.count, 4)
    assert rows.numbers.dtype == np.float32
    assert rows.categories.shape == (rows.count, 2)
    assert all(isinstance(value, str) for value in rows.categories.ravel())
    read(*protocol.answer("m", "1", PEOPLE, parsed, np.full((rows.count, 2), 0.5, np.float32)))
    return parsed


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.none() | st.integers(-5, 250))
def test_random_bytes_are_refused(body: bytes, length: int | None) -> None:
    assert parsed_or_refused(body, length) is None


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.data())
def test_damaged_requests_give_rows_or_a_refusal(form: str, data: st.DataObject) -> None:
    body, length = FORMS[form]
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged)))
        width = data.draw(st.integers(0, 5))
        damaged[place : place + width] = data.draw(
            st.binary(max_size=5) | st.sampled_from([b'"', b"[", b"]", b"-1", b"null", b"9" * 30, b"1e99"])
        )
    shift = data.draw(st.sampled_from([0, 0, 0, 1, -1, 4]))
    parsed_or_refused(bytes(damaged), None if length is None else length + shift)


ODD: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["FP32", "BYTES", "BOOL", "UINT64", "age", "numbers", "categories", "label", ""])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "data", "binary_data_size", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([WHOLE, (MATRIX, TEXTS)]), st.data())
def test_odd_values_in_a_good_request_give_rows_or_a_refusal(inputs: tuple[dict[str, Any], ...], data: st.DataObject) -> None:
    changed = [dict(given) for given in inputs]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(changed))
        place[data.draw(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]))] = data.draw(ODD)
    more = data.draw(st.dictionaries(st.sampled_from(["id", "outputs", "parameters", "x"]), ODD, max_size=2))
    body = encoded(*changed, **more)
    parsed_or_refused(body, data.draw(st.sampled_from([None, len(body)])))


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=200)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), st.booleans(), st.booleans(), st.data())
def test_tensors_survive_the_way_here_and_back(count: int, binary: bool, gathered: bool, data: st.DataObject) -> None:
    single = st.floats(width=32, allow_nan=True, allow_infinity=False)
    signature = signature_of(a=Column("number"), b=Column("number"), c=Column("category"), d=Column("category"))
    numbers = np.array(data.draw(st.lists(st.tuples(single, single), min_size=count, max_size=count)), dtype=np.float32)
    categories = np.array(data.draw(st.lists(st.tuples(TEXT, TEXT), min_size=count, max_size=count)), dtype=object)
    tensors = [("numbers", numbers), ("categories", categories)]
    if not gathered:
        tensors = [("a", numbers[:, 0]), ("b", numbers[:, 1:]), ("c", categories[:, 0]), ("d", categories[:, 1:])]
    names = () if binary else tuple(name for name, _ in tensors)
    rows = protocol.parse(signature, *by_triton(*tensors, json_names=names)).rows
    np.testing.assert_array_equal(rows.numbers, numbers)
    assert rows.categories is not None
    assert rows.categories.tolist() == categories.tolist()
