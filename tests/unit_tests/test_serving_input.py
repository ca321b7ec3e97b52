"""What the server takes of a client: typed and careful reading agree, and every fault is told by row and column."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.contract.dialect import Dialect, numbered
from mlops_pipeline.contract.label import Target
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.inference.faults import Notice, Refused, first_of, more_columns
from mlops_pipeline.inference.frames import judged
from mlops_pipeline.inference.signature import Length, Lengths, Rows, Signature, extra_columns
from mlops_pipeline.serving.answer import in_header
from mlops_pipeline.serving.protocol import open_inference
from mlops_pipeline.serving.protocol.invocations import Invocations
from mlops_pipeline.serving.protocol.labels import LabelBody
from mlops_pipeline.serving.protocol.predict import Predict, told
from mlops_pipeline.serving.protocol.python_json import check_keys, keys_in
from mlops_pipeline.serving.request import request_of

COLUMNS = {
    "size (cm)": Column("number", min=-5, max=5, nullable=False),
    "weight": Column("number"),
    "count": Column("integer", min=0),
    "round": Column("boolean"),
    "kind": Column("category", nullable=False),
    "colour": Column("category"),
}
SEEN = {"kind": ["a", "b"], "colour": ["red", "(missing)"]}
GOOD = {"size (cm)": 1.5, "weight": None, "count": 3, "round": True, "kind": "a", "colour": "red"}


def signature(*, reject_unseen: bool = True, refuse_extra: bool = False, max_rows: int = 5) -> Signature:
    training = Contract(task="binary", classes=[0, 1], columns=COLUMNS, categories=SEEN)
    return Signature.of(training, reject_unseen=reject_unseen, refuse_extra=refuse_extra, max_rows=max_rows)


def predicted(*records: Any, **policy: Any) -> Rows:
    return Predict(signature(**policy), "m", "1").rows(json.dumps({"records": records}).encode())


def refusal(body: bytes, form: str = "json", **policy: Any) -> Refused:
    protocol = Invocations(signature(**policy))
    with pytest.raises(Refused) as refused:
        protocol.rows(body) if form == "json" else protocol.rows_of_csv(body)
    return refused.value


def same(one: Rows, other: Rows) -> None:
    assert one.numbers is not None
    assert one.categories is not None
    np.testing.assert_array_equal(one.numbers, other.numbers)
    assert one.categories.tolist() == other.categories.tolist()  # type: ignore[union-attr]


values = st.fixed_dictionaries(
    {
        "size (cm)": st.floats(-5, 5),
        "weight": st.none() | st.floats(-1e30, 1e30) | st.integers(-(10**12), 10**12),
        "count": st.none() | st.integers(0, 2**40),
        "round": st.none() | st.booleans() | st.sampled_from([0, 1]),
        "kind": st.sampled_from(["a", "b"]),
        "colour": st.none() | st.just("red"),
    }
)


@given(st.lists(values, min_size=1, max_size=5))
def test_every_form_gives_the_same_rows(records: list[dict[str, Any]]) -> None:
    names = list(COLUMNS)
    data = [[record[name] for name in names] for record in records]
    reverse = {"columns": names[::-1], "data": [row[::-1] for row in data]}
    bodies: list[dict[str, Any]] = [
        {"dataframe_split": {"columns": names, "data": data}},
        {"dataframe_split": reverse},
        {"dataframe_split": {**reverse, "index": list(range(len(data)))}},
        {"dataframe_records": records},
        {"instances": records},
        {"instances": data},
        {"inputs": {name: [record[name] for record in records] for name in names}},
        {"inputs": {name: [[record[name]] for record in records] for name in names}, "params": {}},
        {"inputs": data},
    ]
    expected = predicted(*records)
    protocol = Invocations(signature())
    for body in bodies:
        same(protocol.rows(json.dumps(body).encode()), expected)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([["" if value is None else repr(value) if isinstance(value, float) else value for value in row] for row in data])
    same(protocol.rows_of_csv(text.getvalue().encode()), expected)
    same(signature().from_records(records), expected)


@pytest.mark.parametrize("name", ['the "big" one', "back\\slash", "a\0b", "two\nlines", "<script>", "", "nothing"])
def test_a_column_of_any_name_is_read(name: str) -> None:
    columns = {name: Column("number", nullable=False), "kind": Column("category")}
    hostile = Signature.of(Contract(task="binary", classes=[0, 1], columns=columns, categories={"kind": ["a"]}), max_rows=5)
    row = {name: 1.5, "kind": "a"}
    for read, body in ((Predict(hostile, "m", "1").rows, {"records": [row]}), (Invocations(hostile).rows, {"dataframe_records": [row]})):
        rows = read(json.dumps(body).encode())
        assert rows.numbers is not None
        assert rows.numbers.tolist() == [[1.5]]
    with pytest.raises(Refused):
        Predict(hostile, "m", "1").rows(json.dumps({"records": [{"kind": "a"}]}).encode())


def test_a_number_in_other_writing_is_refused_with_the_columns_own() -> None:
    columns = {"price": Column("number", format="1.234,5", nullable=False), "cost": Column("number", format="1.234,5", private=True)}
    protocol = Invocations(Signature.of(Contract(task="binary", classes=[0, 1], columns=columns), max_rows=5))
    with pytest.raises(Refused) as refused:
        protocol.rows_of_csv(b"price,cost\n11.05,11.05\n")
    assert [fault.detail for fault in refused.value.faults] == [
        "row 0, column 'price' is '11.05', not a number written as 1.234,5",
        "row 0, column 'cost' is not a number",
    ]


def test_null_is_nan_or_the_models_own_word() -> None:
    rows = predicted({**GOOD, "colour": None}, {k: v for k, v in GOOD.items() if k not in ("weight", "colour")})
    assert rows.numbers is not None
    assert rows.categories is not None
    assert np.isnan(rows.numbers[:, 1]).all()
    assert rows.categories[:, 1].tolist() == ["(missing)", "(missing)"]
    assert rows.numbers.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"size (cm)": 5.5}, "out_of_bounds", "row 1, column 'size (cm)' is 5.5, outside -5 to 5: give a value within"),
        ({"size (cm)": None}, "null", "row 1, column 'size (cm)' is null, which the model does not take"),
        ({"size (cm)": "big"}, "wrong_type", "row 1, column 'size (cm)' is 'big', not a number"),
        ({"size (cm)": "7"}, "out_of_bounds", "row 1, column 'size (cm)' is 7, outside -5 to 5: give a value within"),
        ({"round": "maybe"}, "wrong_type", "row 1, column 'round' is 'maybe', neither true nor false"),
        ({"kind": "NA"}, "null", "row 1, column 'kind' is null, which the model does not take"),
        ({"size (cm)": True}, "wrong_type", "row 1, column 'size (cm)' is True, not a number"),
        ({"size (cm)": [1]}, "wrong_type", "row 1, column 'size (cm)' is a list, not a number"),
        (
            {"weight": 1e300},
            "out_of_bounds",
            "row 1, column 'weight' is 1e+300, outside what a 32-bit float holds: give a number nearer to 0",
        ),
        ({"weight": 10**400}, "not_finite", "row 1, column 'weight' is inf, not a finite number"),
        ({"count": -1}, "out_of_bounds", "row 1, column 'count' is -1, below 0: give 0 or more"),
        ({"count": 1.5}, "wrong_type", "row 1, column 'count' is 1.5, not a whole number"),
        ({"round": 2}, "out_of_bounds", "row 1, column 'round' is 2, outside 0 to 1: give a value within"),
        ({"kind": 3}, "unseen_category", "row 1, column 'kind' is '3', which the model was not trained on: use one of its 2 categories"),
        ({"kind": [3]}, "wrong_type", "row 1, column 'kind' is a list, not text"),
        ({"kind": "z"}, "unseen_category", "row 1, column 'kind' is 'z', which the model was not trained on: use one of its 2 categories"),
        ({"kind": None}, "null", "row 1, column 'kind' is null, which the model does not take"),
        (
            {"sise": 1},
            "unknown_column",
            "row 1: column 'sise' is none of the model's: size (cm), weight, count, round, kind, colour",
        ),
    ],
)
def test_a_fault_names_row_column_value_and_remedy(change: dict[str, Any], reason: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        predicted(GOOD, {**GOOD, **change}, GOOD, refuse_extra=True)
    fault = refused.value.faults[0]
    assert (refused.value.status, fault.reason, fault.row, fault.column) == (422, reason, 1, next(iter(change)))
    assert fault.detail == said
    where = "row 1" if reason == "unknown_column" else f"row 1, column '{next(iter(change))}'"
    assert refused.value.place(COLUMNS) == f"{reason} ({where})", "a log must see neither values nor names that a client made up"


def test_a_missing_column_is_named() -> None:
    with pytest.raises(Refused, match=r"row 0: column 'kind' is missing: give it a value"):
        predicted({k: v for k, v in GOOD.items() if k != "kind"})


def test_columns_of_one_name_are_told_apart_as_in_training() -> None:
    columns = {"price": Column("number"), "price_2": Column("number", nullable=False)}
    of_two = Signature.of(Contract(task="regression", columns=columns, dialect=Dialect(numbered=True)))
    with pytest.raises(Refused, match=r"'price_2' \(column 2 of those that the training data's header calls 'price'\) is missing"):
        Predict(of_two, "m", "1").rows(b'{"records": [{"price": 1}]}')
    rows = Invocations(of_two).rows_of_csv(b"price,price\n1,2\n")
    assert rows.numbers is not None
    assert rows.numbers.tolist() == [[1, 2]]


def test_blanks_around_names_are_no_part_of_them_as_in_training() -> None:
    columns = {"price": Column("number"), "size": Column("number")}
    bare = Signature.of(Contract(task="regression", columns=columns, dialect=Dialect(bare_names=True)))
    rows = Invocations(bare).rows_of_csv(b"price, size\n1,2\n")
    assert rows.numbers is not None
    assert rows.numbers.tolist() == [[1, 2]]
    with pytest.raises(Refused, match="is none of the model's"):
        Invocations(Signature.of(Contract(task="regression", columns=columns), refuse_extra=True)).rows_of_csv(b"price, size\n1,2\n")


def test_every_fault_is_listed_in_the_order_of_rows() -> None:
    with pytest.raises(Refused) as refused:
        predicted({**GOOD, "kind": "z", "count": -1}, GOOD, {**GOOD, "size (cm)": -9})
    assert [(fault.row, fault.column) for fault in refused.value.faults] == [(0, "count"), (0, "kind"), (2, "size (cm)")]


def test_a_float32_at_a_bound_is_inside() -> None:
    columns = {"share": Column("number", min=0.1, max=0.7, nullable=False)}
    made = Signature.of(Contract(task="regression", columns=columns), reject_unseen=False, max_rows=9)
    edges = np.array([[0.1], [0.7]], dtype=np.float32)
    assert made.checked(edges, None).count == 2
    with pytest.raises(Refused, match=r"row 1, column 'share' is 0\.7\d*, outside 0\.1 to 0\.7"):
        made.checked(np.nextafter(edges, np.float32(1)), None)


@pytest.mark.parametrize(("beyond", "reason"), [(False, None), (True, "out_of_bounds")])
def test_a_float32_at_a_bound_is_inside_whatever_stands_beside_it(beyond: bool, reason: str | None) -> None:
    """As a column of a table, or as a tensor among others: as a float64 it would be further out than its bound."""
    columns = {"low": Column("number", max=0.1), "high": Column("number", min=0.7), "count": Column("integer", max=2**24 + 1)}
    made = Signature.of(Contract(task="regression", columns=columns), reject_unseen=False, max_rows=9)
    low, high = np.float32(0.1), np.float32(0.7)
    if beyond:
        low = np.nextafter(low, np.float32(1))
    tensors = {"low": ("FP32", low.tobytes()), "high": ("FP32", high.tobytes()), "count": ("INT64", np.int64(2**24 + 1).tobytes())}
    inputs = [
        {"name": name, "shape": [1], "datatype": datatype, "parameters": {"binary_data_size": len(block)}}
        for name, (datatype, block) in tensors.items()
    ]
    header = json.dumps({"inputs": inputs}).encode()
    body = header + b"".join(block for _, block in tensors.values())
    table = pl.DataFrame({"low": [low], "high": [high], "count": [2**24 + 1]}, schema_overrides={"low": pl.Float32, "high": pl.Float32})
    found = judged(table, made)
    assert [fault.reason for fault in found.faults] == ([] if reason is None else [reason])
    if reason is not None:
        with pytest.raises(Refused) as refused:
            open_inference.parse(made, body, len(header))
        assert refused.value.reason == reason
        return
    asked = made.from_columns({"low": [0.1], "high": [0.7], "count": [2**24 + 1]}).numbers
    assert asked is not None and found.rows.numbers is not None
    sent = open_inference.parse(made, body, len(header)).rows.numbers
    assert sent is not None
    assert asked.tobytes() == found.rows.numbers.tobytes() == sent.tobytes()


def test_a_number_above_the_only_bound_is_told_which() -> None:
    made = Signature.of(Contract(task="regression", columns={"depth": Column("number", max=0)}), reject_unseen=False, max_rows=9)
    assert made.checked(np.array([[-1e30]]), None).count == 1
    for value, said in ((0.5, "is 0.5, above 0: give 0 or less"), (-1e300, "is -1e+300, outside what a 32-bit float holds")):
        with pytest.raises(Refused, match=rf"row 0, column 'depth' {re.escape(said)}"):
            made.checked(np.array([[value]]), None)


def test_unseen_categories_pass_and_are_counted_where_the_policy_says_so() -> None:
    rows = predicted({**GOOD, "kind": "z", "colour": "blue"}, GOOD, reject_unseen=False)
    assert rows.categories is not None
    assert (rows.unseen, rows.categories[0].tolist()) == (2, ["z", "blue"])


@pytest.mark.parametrize(
    ("least", "said"), [(1, "1 value that training has not seen"), (5, "1 value that fewer than 5 rows of training have")]
)
def test_of_a_level_that_may_be_one_of_a_few_rows_it_is_not_said_that_training_has_not_seen_it(least: int, said: str) -> None:
    training = Contract(task="binary", classes=[0, 1], columns=COLUMNS, categories=SEEN, min_level_rows=least)
    made = Predict(Signature.of(training), "m", "1").rows(json.dumps({"records": [{**GOOD, "kind": "z"}]}).encode())
    assert [notice.detail for notice in made.notices or ()] == [f"column 'kind': {said}"]


@pytest.mark.parametrize(("count", "status"), [(0, 422), (5, 200), (6, 413)])
def test_rows_are_counted(count: int, status: int) -> None:
    body = json.dumps({"records": [GOOD] * count}).encode()
    if status == 200:
        assert Predict(signature(), "m", "1").rows(body).count == count
    else:
        with pytest.raises(Refused) as refused:
            Predict(signature(), "m", "1").rows(body)
        assert refused.value.status == status


def test_python_writes_nan_and_infinity_into_json() -> None:
    row = [1.5, math.nan, 3, 1, "a", "red"]
    body = json.dumps({"dataframe_split": {"columns": list(COLUMNS), "data": [row]}}).encode()
    rows = Invocations(signature()).rows(body)
    assert rows.numbers is not None
    assert math.isnan(rows.numbers[0, 1])
    infinite = json.dumps({"dataframe_split": {"columns": list(COLUMNS), "data": [[1.5, math.inf, *row[2:]]]}}).encode()
    assert refusal(infinite).reason == "not_finite"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "the body is not a JSON object with one of"),
        (b"\xff\xfe", 400, "the body is not a JSON object"),
        (b"[" * 100_000, 400, "the body is not a JSON object"),
        (b"[1]", 400, "the body is not a JSON object"),
        (b"{}", 400, "it holds none of them"),
        (b'{"instances": [], "inputs": []}', 400, "it holds instances and inputs"),
        (b'{"instances": [], "more": 1}', 400, "key 'more' is unknown"),
        (b'{"instances": []}', 422, "holds no row"),
        (b'{"instances": 3}', 422, "'instances' must be a list"),
        (b'{"instances": [1]}', 422, "row 0: 1 is no record"),
        (b'{"instances": [[1], 3]}', 422, "row 0: a list is no record"),
        (b'{"inputs": 3}', 422, "'inputs' must map columns"),
        (b'{"inputs": {"kind": ["a", "b"], "size (cm)": [1]}}', 422, "the columns have 1 to 2 values"),
        (b'{"dataframe_records": {}}', 422, "'dataframe_records' must be a list"),
        (b'{"dataframe_split": {"data": []}}', 422, "needs 'columns' and 'data'"),
        (b'{"dataframe_split": {"columns": "x", "data": []}}', 422, "must be a list of names"),
        (b'{"dataframe_split": {"columns": ["kind", "kind"], "data": [["a", "b"]]}}', 422, "column 'kind' is given twice"),
        (b'{"dataframe_split": {"columns": ["kind", "size (cm)"], "data": [["a"]]}}', 422, "row 0 has 1 values: give a list of 2 values"),
        (b'{"instances": [[1, 2]]}', 422, "row 0 has 2 values: give a list of 6 values"),
        (b'{"instances": [[NaN]', 400, "the body is not"),
        (b'{"instances": [{}], "params": {"x": 1}}', 422, "takes no 'params'"),
        (b" \r\n", 400, "it is empty"),
        (b'\xef\xbb\xbf{"instances": [{}]}', 400, "it begins with a byte order mark: send UTF-8 without one"),
        (b'\xef\xbb\xbf{"instances": [[NaN]]}', 400, "it begins with a byte order mark: send UTF-8 without one"),
        ('{"instances": [{}]}'.encode("utf-16"), 400, "it is UTF-16 or UTF-32: send UTF-8"),
        ('{"instances": [{}]}'.encode("utf-16-le"), 400, "it is UTF-16 or UTF-32: send UTF-8"),
        ('{"instances": [{}]}'.encode("utf-32-be"), 400, "it is UTF-16 or UTF-32: send UTF-8"),
    ],
)
def test_a_misshapen_body_is_told_what_is_wrong(body: bytes, status: int, said: str) -> None:
    refused = refusal(body)
    assert refused.status == status
    assert said in str(refused)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is empty"),
        (b"\xff", "not CSV in UTF-8: line 1 has a byte that is none"),
        (gzip.compress(b"kind,size (cm)\na,1\n", mtime=0), "not CSV in UTF-8: it is compressed by gzip: send it plain"),
        ("kind,size (cm)\na,1\n".encode("utf-16"), "not CSV in UTF-8: it is UTF-16 or UTF-32: send UTF-8"),
        (b"\xef\xbb\xbfkind,colour\na,red\nb,gr\xfcn\n", "line 3 has a byte that is none: write it in UTF-8"),
        (b"kind,size (cm)\n", "holds no row"),
        (b"kind,kind\na,b\n", "given twice"),
        (b"kind,size (cm)\na\n", "row 0 has 1 cells under a header of 2"),
        (b'kind,size (cm)\n"a,1\n', "not CSV"),
        (b"kind,size (cm)\na,long\n", "row 0, column 'size (cm)' is 'long', not a number"),
    ],
)
def test_misshapen_csv_is_told_what_is_wrong(body: bytes, said: str) -> None:
    assert said in str(refusal(body, "csv"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "it is empty"),
        (b"\xef\xbb\xbf%s", "it begins with a byte order mark: send UTF-8 without one"),
        ("{}".encode("utf-16"), "it is UTF-16 or UTF-32: send UTF-8"),
        (gzip.compress(b"{}", mtime=0), "it is compressed by gzip: send it plain"),
    ],
)
def test_every_protocol_says_how_a_body_is_written_that_is_no_json(body: bytes, said: str) -> None:
    request = request_of({"path": "/", "headers": [(b"content-type", b"application/json")]}, "ours", "predict", "m", 9)
    labels = LabelBody(Target("y", "boolean", has_classes=True), Lengths(), 9)
    for read, whole in (
        (Predict(signature(), "m", "1").read, {"records": [GOOD]}),
        (Invocations(signature()).read, {"instances": [GOOD]}),
        (open_inference.OpenInference(signature(), "m", "1").read, {"inputs": []}),
        (labels.read, {"labels": [{"id": "a", "label": 1}]}),
    ):
        with pytest.raises(Refused, match=said) as refused:
            read(request, body.replace(b"%s", json.dumps(whole).encode()))
        assert (refused.value.status, refused.value.reason) == (400, "malformed")


def test_a_number_that_never_closes_its_bracket_is_looked_at_once() -> None:
    """A pattern that tried each of its digits again after each other would take hours."""
    columns = {"price": Column("number", format="1.234,5")}
    priced = Signature.of(Contract(task="regression", columns=columns))
    read = Predict(priced, "m", "1").rows
    rows = read(json.dumps({"records": [{"price": "(1.234,5)"}, {"price": "(7)"}]}).encode())
    assert rows.numbers is not None
    assert rows.numbers.tolist() == [[-1234.5], [-7]]
    with pytest.raises(Refused, match=r"row 0, column 'price' is '\(1111"):
        read(json.dumps({"records": [{"price": "(" + "1" * 1_000_000}]}).encode())


def test_of_many_columns_that_are_none_of_the_models_some_are_named_and_all_are_counted() -> None:
    """Nor do they hide what is said of values: an answer has room for twenty warnings, its header for ten."""
    extra = {f"x{number:05}": 1 for number in range(30_000)}
    training = Contract(task="binary", classes=[0, 1], columns=COLUMNS, categories=SEEN, ranges={"weight": (0.0, 1.0)})
    taken = Signature.of(training)
    far = {**GOOD, "weight": 1e6}
    line = ",".join("" if value is None else str(value) for value in (*far.values(), *extra.values()))
    tensors = [{"name": name, "shape": [2], "datatype": "BYTES", "data": []} for name in extra]
    for name, value in far.items():
        kind = "BYTES" if isinstance(value, str) else "FP64"
        tensors.append({"name": name, "shape": [2], "datatype": kind, "data": [float(value) if kind == "FP64" else value] * 2})
    for rows in (
        Predict(taken, "m", "1").rows(json.dumps({"records": [{**far, **extra}] * 2}).encode()),
        Invocations(taken).rows(json.dumps({"dataframe_records": [{**far, **extra}] * 2}).encode()),
        Invocations(taken).rows_of_csv(f"{','.join((*far, *extra))}\n{line}\n{line}\n".encode()),
        open_inference.parse(taken, json.dumps({"inputs": tensors}).encode()).rows,
    ):
        notices = rows.notices or []
        assert sum(one.rows for one in notices if one.reason == "extra_column") == 60_000
        said = told(notices)
        assert (said[0]["reason"], said[0]["column"]) == ("outside_training", "weight")
        assert (said[1]["rows"], said[1]["detail"]) == (59_964, "29,982 more columns are none of the model's: they were ignored")
        assert [one["column"] for one in said[2:]] == [f"x{number:05}" for number in range(18)]
        header = json.loads(in_header(notices))
        assert header[0] == {"reason": "outside_training", "column": "weight", "rows": 2}
        assert (len(said), len(header)) == (20, 10)
        for shown in (said, header):
            assert sum(one["rows"] for one in shown if one["reason"] == "extra_column") == 60_000


@pytest.mark.parametrize(("extra", "values"), [(20, 1), (19, 3), (3, 25), (1, 20), (2, 19), (20, 0), (0, 25)])
def test_no_column_is_ignored_without_a_word_however_much_else_there_is_to_say(extra: int, values: int) -> None:
    of_values = [Notice("outside_training", f"v{k}", 1, "far") for k in range(values)]
    said = first_of([*extra_columns({f"x{k}": 1 for k in range(extra)}), *of_values], 20)
    assert len(said) == min(20, extra + values)
    ignored = [one for one in said if one.reason == "extra_column"]
    assert sum(one.columns for one in ignored) == sum(one.rows for one in ignored) == extra
    counted = [one.detail for one in ignored if not one.column]
    named = sum(bool(one.column) for one in ignored)
    assert counted == ([] if named == extra else [more_columns(extra - named, 0).detail])


def test_a_header_of_one_name_many_times_is_numbered_as_training_numbered_it() -> None:
    assert numbered(["a", "b", "a", "a_2", "a", "a_2"]) == ["a", "b", "a_3", "a_2", "a_4", "a_2_2"]
    assert numbered(["a"] * 100_000)[-1] == "a_100000"


@pytest.mark.parametrize("path", ["/predict", "/models/m/predict"])
def test_csv_where_json_is_taken_is_told_where_it_goes(path: str) -> None:
    request = request_of({"path": path, "headers": [(b"content-type", b"text/csv; charset=utf-8")]}, "ours", "predict", "m", 9)
    with pytest.raises(Refused) as refused:
        Predict(signature(), "m", "1").read(request, b"kind\na\n")
    wanted = f"the content type is text/csv: send application/json, or CSV to {path.replace('predict', 'invocations')}"
    assert (refused.value.status, str(refused.value)) == (415, wanted)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["kind", "a", "red"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["records", "ids", "instances", "inputs", *COLUMNS]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values | st.fixed_dictionaries({"records": st.lists(json_values)}) | st.fixed_dictionaries({"inputs": json_values}))
def test_nothing_but_rows_or_a_refusal_comes_of_any_json(content: Any) -> None:
    body = json.dumps(content).encode()
    for read in (Predict(signature(), "m", "1").rows, Invocations(signature()).rows, Invocations(signature()).rows_of_csv):
        try:
            assert isinstance(read(body), Rows)
        except Refused as refused:
            assert 400 <= refused.status < 500
            assert "\n" not in refused.faults[0].place(COLUMNS)


@given(st.binary(max_size=200))
def test_nothing_but_rows_or_a_refusal_comes_of_any_bytes(body: bytes) -> None:
    for read in (Predict(signature(), "m", "1").rows, Invocations(signature()).rows, Invocations(signature()).rows_of_csv):
        with pytest.raises(Refused):
            read(body)


AWKWARD: list[tuple[str, str]] = [
    *(("count", number) for number in ("3", "3.0", "3e0", "3.5", "0", "-0.0", "-1.0", "1e40", "9007199254740993", "9007199254740993.0")),
    *(
        ("count", number)
        for number in ("16777216.5", "18446744073709551616", "1" + "0" * 400, "true", '"3"', "null", "NaN", "Infinity", "-NaN")
    ),
    *(("round", flag) for flag in ("1", "1.0", "0.0", "0.5", "2.0", "true", "null", "NaN", '"yes"')),
    *(("weight", number) for number in ("1", "1e39", "-0.0", "5e-324", "null", "NaN", "-Infinity", "false")),
    *(("size (cm)", number) for number in ("5", "5.0", "5.0000001", "null", "NaN")),
    *(("kind", text) for text in ('"a"', '"NaN"', '"x: NaN, y"', r'"\"NaN"', r'"\u0061"', "NaN", "null", "1", '"c"')),
    *(("colour", text) for text in ('"red"', "null", "NaN", '""')),
]


def bodies_with(column: str, written: str) -> list[bytes]:
    """One row as each JSON form says it, whole numbers as pandas writes them, with one value exactly as given."""
    cells = {"size (cm)": "1.5", "weight": "NaN", "count": "3.0", "round": "1.0", "kind": '"a"', "colour": '"red"'} | {column: written}
    record = ",".join(f'"{name}": {cell}' for name, cell in cells.items())
    row, names = ", ".join(cells.values()), json.dumps(list(cells))
    return [
        f'{{"dataframe_records": [{{{record}}}]}}'.encode(),
        f'{{"dataframe_split": {{"index": [0], "columns": {names}, "data": [[{row}]]}}}}'.encode(),
        f'{{"instances": [[{row}]]}}'.encode(),
        f'{{"inputs": [[{row}]]}}'.encode(),
        f'{{"records": [{{{record}}}]}}'.encode(),
    ]


def outcome(read: Any, body: bytes) -> tuple[Any, ...]:
    try:
        rows = read(body)
    except Refused as refused:
        return refused.status, [(fault.reason, fault.row, fault.column) for fault in refused.faults]
    return rows.numbers.tobytes(), rows.categories.tolist(), rows.unseen


@pytest.mark.parametrize(("column", "written"), AWKWARD)
@pytest.mark.parametrize("reject_unseen", [True, False])
def test_what_is_read_fast_is_what_careful_reading_says(column: str, written: str, reject_unseen: bool) -> None:
    served = signature(reject_unseen=reject_unseen)
    invocations, predict = Invocations(served), Predict(served, "m", "1")
    *forms, records = bodies_with(column, written)
    careful = [outcome(invocations._looked_at_closely, body) for body in forms] + [outcome(predict._looked_at_closely, records)]
    assert [outcome(invocations.rows, body) for body in forms] + [outcome(predict.rows, records)] == careful


@pytest.mark.parametrize("reads", ["invocations", "predict"])
def test_floats_for_integers_nan_and_null_take_the_fast_road(monkeypatch: pytest.MonkeyPatch, reads: str) -> None:
    def too_slow(*_: Any) -> None:
        raise AssertionError("looked at value by value")

    monkeypatch.setattr(Invocations, "_looked_at_closely", too_slow)
    monkeypatch.setattr(Predict, "_looked_at_closely", too_slow)
    for column, written in (("count", "315"), ("count", "315.0"), ("count", "NaN"), ("count", "null"), ("colour", "NaN"), ("round", "0.0")):
        *forms, records = bodies_with(column, written)
        for body in forms if reads == "invocations" else [records]:
            rows = Invocations(signature()).rows(body) if reads == "invocations" else Predict(signature(), "m", "1").rows(body)
            assert rows.count == 1


RECORD = json.dumps(GOOD)
WITHOUT = json.dumps({name: value for name, value in GOOD.items() if name not in ("weight", "colour")})
TENSOR = '{"name": "kind", "shape": [1], "datatype": "BYTES", "data": ["a"]%s}'
ROW = json.dumps(list(GOOD.values()))
SPLIT = f'"columns": {json.dumps(list(GOOD))}, "data": [{ROW}]'


@pytest.mark.parametrize(
    ("form", "body", "key"),
    [
        ("predict", f'{{"records": [{{"kind": "b", {RECORD[1:]}]}}', "kind"),
        ("predict", f'{{"records": [{{"kind" : "b", {RECORD[1:]}]}}', "kind"),
        ("predict", f'{{"records": [{RECORD}, {{"kind": "b", {WITHOUT[1:]}]}}', "kind"),
        ("predict", f'{{"records": [{{"kind": "b", "colour": null, {WITHOUT[1:]}]}}', "kind"),
        ("predict", f'{{"records": [{{"count": 3.0, {RECORD[1:]}]}}', "count"),
        ("predict", f'{{"records": [{{"kind":":", {WITHOUT[1:]}]}}', "kind"),
        ("predict", f'{{"records": [], "records": [{RECORD}]}}', "records"),
        ("predict", f'{{"records": [{RECORD}], "ids": ["a:b"], "ids": ["x"]}}', "ids"),
        ("predict", f'{{"records": [{{"more": {{"a": 1, "a": 2}}, {RECORD[1:]}]}}', "a"),
        ("json", f'{{"dataframe_records": [{{"kind": "b", {RECORD[1:]}]}}', "kind"),
        ("json", f'{{"dataframe_records": [{{"kind": "b", {WITHOUT[1:]}]}}', "kind"),
        ("json", f'{{"instances": [{{"kind": "b", {RECORD[1:]}]}}', "kind"),
        ("json", f'{{"instances": [], "instances": [{ROW}]}}', "instances"),
        ("json", f'{{"inputs": [], "inputs": [{ROW}]}}', "inputs"),
        ("json", f'{{"dataframe_split": {{"data": [], {SPLIT}}}}}', "data"),
        ("json", f'{{"dataframe_split": {{"index": [0], "index": [1], {SPLIT}}}}}', "index"),
        ("json", '{"inputs": {"kind": ["a"], "kind": ["b"], "size (cm)": [1]}}', "kind"),
        ("v2", f'{{"id": "1", "id": "2", "inputs": [{TENSOR % ""}]}}', "id"),
        ("v2", f'{{"inputs": [{TENSOR % """, "data": ["b"]"""}]}}', "data"),
        ("v2", f'{{"inputs": [{TENSOR % """, "parameters": {"x": 1, "x": 2}"""}]}}', "x"),
        ("v2", f'{{"inputs": [], "inputs": [{TENSOR % ""}]}}', "inputs"),
    ],
)
def test_a_key_that_stands_twice_is_refused_by_every_protocol(form: str, body: str, key: str) -> None:
    served = signature()
    readers = {"predict": Predict(served, "m", "1").rows, "json": Invocations(served).rows}
    with pytest.raises(Refused) as caught:
        readers[form](body.encode()) if form in readers else open_inference.parse(served, body.encode())
    assert (caught.value.status, caught.value.reason) == (400, "repeated_key")
    assert caught.value.faults[0].detail == f"the key '{key}' stands twice in one object: send it once"


@given(st.recursive(st.none() | st.text("a:\"\\{}", max_size=6), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.text("ab:\"\\", max_size=3), inner, max_size=3), max_leaves=8))  # fmt: skip
def test_keys_are_counted_whatever_stands_in_texts(content: Any) -> None:
    count = 0

    def counted(pairs: list[tuple[str, Any]]) -> None:
        nonlocal count
        count += len(pairs)

    for body in (json.dumps(content).encode(), json.dumps(content, separators=(" , ", " : ")).encode()):
        count = 0
        json.loads(body, object_pairs_hook=counted)
        assert keys_in(body) == count
        check_keys(body)


def test_texts_are_bounded_in_characters_and_in_bytes() -> None:
    columns = {"kind": Column("category"), "note": Column("text"), "day": Column("datetime")}
    training = Contract(task="binary", classes=[0, 1], columns=columns, categories={"kind": ["known" * 9]})
    served = Signature.of(training, lengths=Lengths(id=Length(6, 8), category=Length(20, 30), text=Length(40, 60)))
    day = "2024-01-31 13:45:00"

    def told(row: dict[str, Any], **more: Any) -> str | None:
        body = json.dumps({"records": [row], **more}).encode()
        try:
            Predict(served, "m", "1").rows(body)
        except Refused as refused:
            assert (refused.status, refused.reason) == (422, "too_long")
            return refused.faults[0].detail
        return None

    for row, more in (
        ({"kind": "k" * 20, "note": "n" * 40, "day": day}, {"ids": ["i" * 6]}),
        ({"kind": "known" * 9}, {}),  # training's own category, however long
        ({"kind": "\N{EURO SIGN}" * 10, "note": "\N{EURO SIGN}" * 20}, {"ids": ["\N{EURO SIGN}" * 2]}),
    ):
        assert told(row, **more) is None
    said = "row 0, column 'kind' has 21 characters, more than 20 characters and 30 bytes: send fewer"
    assert told({"kind": "k" * 21}) == said
    for row, more in (
        ({"kind": "\N{EURO SIGN}" * 11}, {}),
        ({"note": "n" * 41}, {}),
        ({"day": f"{day}{' ' * 9}"}, {}),
        ({"kind": "a"}, {"ids": ["i" * 7]}),
        ({"kind": "a"}, {"ids": ["\N{EURO SIGN}" * 3]}),
    ):
        assert told(row, **more) is not None, (row, more)
    tensor = {"name": "kind", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    with pytest.raises(Refused, match="the id has 7 characters, more than 6 characters and 8 bytes"):
        open_inference.parse(served, json.dumps({"id": "i" * 7, "inputs": [tensor]}).encode())


@pytest.mark.parametrize(("said", "length"), [(b"12", 12), (b"0", 0), (b"0" * 5000 + b"12", 12), (b"9" * 5000, 0), (b"", 0), (b"-1", 0)])
def test_a_length_of_any_number_of_digits_is_read(said: bytes, length: int) -> None:
    assert request_of({"path": "/predict", "headers": [(b"content-length", said)]}, "ours", "predict", "m", 9).length == length


@pytest.mark.parametrize(
    ("given_id", "reason"),
    [(b"", None), (b"i" * 9, None), (b"i" * 10, "too_long"), (b"\xe2\x82\xac", "malformed"), (b"a\tb", "malformed")],
)
def test_a_request_id_that_cannot_be_kept_is_refused_not_replaced(given_id: bytes, reason: str | None) -> None:
    request = request_of({"path": "/predict", "headers": [(b"x-request-id", given_id)]}, "ours", "predict", "m", 9)
    if reason is None:
        request.check_id(9)
        assert request.request_id == (given_id.decode() or "ours")
        return
    with pytest.raises(Refused) as caught:
        request.check_id(9)
    assert (caught.value.status, caught.value.reason, request.request_id) == (400, reason, "ours")
