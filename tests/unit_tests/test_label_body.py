"""Labels that come by HTTP mean what the same table means to `mlops labels add`; whatever else comes is refused in one line a row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlops_pipeline.contract.dialect import Dialect
from mlops_pipeline.contract.label import Target, seconds_of, target_in
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.signature import ANY_LENGTH, Length, Lengths
from mlops_pipeline.monitoring.labels import _values, add_labels, keep_labels, target_of
from mlops_pipeline.monitoring.state import state_at
from mlops_pipeline.serving.problems import problem_details
from mlops_pipeline.serving.protocol.labels import LabelBody
from mlops_pipeline.serving.request import Request
from mlops_pipeline.tables.cast import as_moments
from tests.conftest import process_environment
from tests.unit_tests.workshop import settings_with, table_settings

SHOPS = table_settings(
    {"y": "boolean", "x": "number", "shop": "category", "item": "integer", "day": "datetime"},
    task="binary",
    time_column="day",
    entity_key=["shop", "item"],
)
TASKS = {
    "boolean": table_settings({"y": "boolean", "x": "number"}, task="binary"),
    "category": table_settings({"y": "category", "x": "number"}, task="multiclass"),
    "integer": table_settings({"y": "integer", "x": "number"}, task="multiclass"),
    "count": table_settings({"y": "integer", "x": "number"}),
    "number": table_settings({"y": "number", "x": "number"}),
}


def request(kind: str = "application/json") -> Request:
    return Request("id", "pages", "", "/labels", 0.0, 0.0, content_type=kind.encode())


def read(body: Any, target: Target | None = None, lengths: Lengths = ANY_LENGTH) -> Any:
    reader = LabelBody(target or target_of(settings_with()), lengths, 10)
    if isinstance(body, str):
        return reader.read(request("text/csv; charset=utf-8"), body.encode())
    return reader.read(request(), body if isinstance(body, bytes) else msgspec.json.encode(body))


def named(body: Any, target: Target | None = None) -> list[tuple[Any, ...]]:
    return [(one.by, one.name, one.place, one.value, one.happened) for one in read(body, target)[0]]


def test_each_form_says_the_same() -> None:
    wanted = [("request", "a", 0, 1, None), ("request", "a", 1, 0, 0.5)]
    assert named("request_id,row,late,time\na,0,yes,\na,1,0,1970-01-01T00:00:00.5Z\n") == wanted
    times = ["", "1970-01-01 00:00:00.5"]
    records = [
        {"request_id": "a", "label": True},
        {"request_id": " a", "row": 1, "late": 0, "time": times[1]},
    ]
    assert named({"labels": records}) == wanted
    assert named({"columns": {"request_id": ["a", "a"], "row": [0, 1.0], "label": [1, "no"], "time": times}}) == wanted
    by_entity = [("entity", "N/7", 0, 1, 86_400.0)]
    for row in ({"shop": "N", "item": 7, "day": "1970-01-02", "y": 1}, {"shop": "N", "item": "7", "time": "1970-01-02", "label": "true"}):
        assert named({"labels": [row]}, target_of(SHOPS)) == by_entity
    assert [name for _, name, *_ in named("id,label\n 7.0,1\nA1  ,0\n")] == ["7", "A1"]
    assert read({"labels": [{"id": 5, "label": None}, {"id": 6.0, "label": 1}]})[1] == 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "the body is not"),
        (b"[1]", 400, "the body is not"),
        (b'{"labels": [], "labels": []}', 400, "stands twice"),
        ({"labels": [], "columns": {}}, 400, "the body is not"),
        ({"labels": []}, 422, "no label"),
        ({"labels": [7]}, 422, "row 0 is no object"),
        ({"columns": {"id": ["a"], "label": []}}, 422, "from 0 to 1 values"),
        ({"labels": [{"id": "a", "label": 1}] * 11}, 413, "more than 10 rows"),
        ({"labels": [{"id": "a"}]}, 422, "row 0: 'label' is missing"),
        ({"labels": [{"id": "a", "label": 1, "wieght": 1}]}, 422, "'wieght' is no column of labels"),
        ({"labels": [{"label": 1}]}, 422, "row 0: does not say which prediction"),
        ({"labels": [{"id": "a", "request_id": "b", "label": 1}]}, 422, "names its prediction twice"),
        ({"labels": [{"id": "a", "row": 0, "label": 1}]}, 422, "goes with 'request_id' alone"),
        ({"labels": [{"id": "a", "label": "perhaps"}]}, 422, "none of the values that late has"),
        ({"labels": [{"id": "a", "label": {"x": 1}}]}, 422, "none of the values that late has"),
        ({"labels": [{"id": " ", "label": 1}]}, 422, "row 0: 'id' is empty"),
        ({"labels": [{"id": "a\0b", "label": 1}]}, 422, "no text that names"),
        ({"labels": [{"id": "a" * 9, "label": 1}]}, 422, "9 characters, more than 8"),
        ({"labels": [{"request_id": "a", "row": 1e30, "label": 1}]}, 422, "no row's number"),
        ({"labels": [{"request_id": "a", "row": -1, "label": 1}]}, 422, "no row's number"),
        ({"labels": [{"id": "a", "label": 1, "time": 5}]}, 422, "no moment"),
        ("id,label\na\n", 422, "row 0 has 1 cells under a header of 2"),
        ("id,id\na,b\n", 422, "column twice"),
        ("id;label\na;1\n", 422, "write commas"),
        ("", 400, "empty"),
        ('id,label\n"a,1\n', 400, "not CSV"),
    ],
)
def test_what_is_no_label_is_refused_in_one_line(body: Any, status: int, words: str) -> None:
    with pytest.raises(Refused) as caught:
        read(body, lengths=Lengths(id=Length(8, 32)))
    assert (caught.value.status, words in str(caught.value), "\n" in str(caught.value)) == (status, True, False), caught.value
    json.loads(problem_details(caught.value, "1"))


def test_an_entity_needs_its_whole_key_and_a_time() -> None:
    for row, words in (
        ({"shop": "N", "time": "1970-01-02"}, "'item' is part of the entity's key"),
        ({"shop": "N", "item": 1}, "needs 'time'"),
        ({"shop": [], "item": 1, "time": "1970-01-02"}, "'shop' is no text"),
    ):
        with pytest.raises(Refused, match=words):
            read({"labels": [{**row, "label": 1}]}, target_of(SHOPS))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=6))
NAMES = st.sampled_from(["request_id", "row", "id", "label", "time", "late", "other"])


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.binary(max_size=30), st.dictionaries(NAMES, SCALARS, max_size=5).map(lambda row: {"labels": [row]}), st.text(max_size=40))
)
def test_anything_is_read_or_refused(body: Any) -> None:
    assume(not isinstance(body, str) or body.isprintable())
    try:
        read(body)
    except Refused as refusal:
        assert "\n" not in str(refusal)


WORDS = st.sampled_from(
    ["yes", " No", "TRUE", "1", "1.0", "0", "2", "1e3", "NaN", "nan", "inf", "", " ", "NA", "null", "x", " x", "-7", "1.5"]
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(TASKS)),
    st.one_of(st.lists(WORDS, min_size=1), st.lists(st.floats(), min_size=1), st.lists(st.booleans(), min_size=1)),
)
def test_one_value_means_what_it_means_in_a_table(task: str, values: list[Any]) -> None:
    columns, unread = _values(pl.Series("y", values), TASKS[task], "y")
    one_by_one = [target_of(TASKS[task]).read(value) for value in values]
    assert [value for value, _ in one_by_one] == columns
    assert [not is_read for _, is_read in one_by_one] == unread.to_list()
    assert [type(value) for value, _ in one_by_one] == [type(value) for value in columns]


MOMENTS = st.sampled_from(
    [
        "2013-01-01",
        "2013-01-01T05:06:07.1234567Z",
        "2013-1-2 5:06",
        "2013-01-01 05:06:07+02:00",
        "2013-01-01T05:06:07.5 +0200",
        "2013-01-01t05:06:07.5+02",
        "2013-01-01 05:06:07,5z",
        "x",
        "",
        "7",
    ]
)


@given(MOMENTS)
def test_a_moment_is_the_same_to_the_microsecond(text: str) -> None:
    [wanted] = (as_moments(pl.Series("t", [text])).dt.epoch("us") / 1e6).to_list()
    assert seconds_of(text) == wanted


def test_a_number_says_when_only_where_its_form_has_the_year_first() -> None:
    day = seconds_of("2024-01-31")
    assert day == seconds_of(20240131, "%Y%m%d") == seconds_of(20240131.0, "%Y%m%d")
    assert seconds_of(20240131) is seconds_of(1112024, "%d%m%Y") is seconds_of(20240231, "%Y%m%d") is seconds_of(True, "%Y%m%d") is None


def test_the_same_table_by_either_way_is_there_already(tmp_path: Path) -> None:
    text = "shop,item,day,y\nN,7,1970-01-02,0\nN,7,1970-01-03 12:30:00.25,1\nS,1,1970-01-03,yes\nS,2,1970-01-03,\n"
    (tmp_path / "labels.csv").write_text(text)
    state = state_at(tmp_path / "state.sqlite")
    labels, empty = read(text, target_of(SHOPS))
    first = keep_labels(state, labels, "POST /labels", "anna", empty=empty, wait_s=86_400)
    again = keep_labels(state, labels, "POST /labels", "anna", empty=empty)
    assert (first.rows, first.new, first.empty, first.late) == (4, 3, 1, 3)
    assert (again.new, again.known, again.late) == (0, 3, 0)
    by_file = add_labels(state, SHOPS, tmp_path / "labels.csv", "labels.csv", wait_s=86_400)
    assert (by_file.rows, by_file.new, by_file.known, by_file.empty, by_file.late) == (4, 0, 3, 1, 0)
    [changed], _ = read(text.splitlines()[0] + "\nN,7,1970-01-02,1\n", target_of(SHOPS))
    assert keep_labels(state, [changed], "x", "anna", wait_s=1).counts | {"rows": 0} == {
        "rows": 0, "new": 0, "known": 0, "contradicting": 1, "empty": 0, "late": 1, "early": 0, "untimed": 0, "unseen": 0, "refused": 0,
    }  # fmt: skip
    state.close()


@pytest.mark.parametrize(("classes", "kind"), [([], "number"), ([0, 1], "boolean"), ([1, 2, 3], "integer"), (["a", "b"], "category")])
def test_a_contract_says_what_labels_are_of(classes: list[Any], kind: str) -> None:
    task = "multiclass" if classes else "regression"
    found = target_in(Contract(task=task, target="y", classes=classes, columns={"x": Column("number")}))
    assert (found.name, found.kind, found.has_classes) == ("y", kind, bool(classes))
    assert (found.entity, found.time_column) == ((), None)


def test_blanks_are_no_part_of_a_class_where_they_are_none_in_the_table(tmp_path: Path) -> None:
    text = "id,y\n1,red \n2, blue\n3, NA\n"
    contract = Contract(task="multiclass", target="y", classes=["red", "blue"], columns={"x": Column("number")}, dialect=Dialect(trim=True))
    labels, empty = read(text, target_in(contract))
    assert ([label.value for label in labels], empty) == (["red", "blue"], 1)
    data = TASKS["category"].dataset
    source = data.source.model_copy(update={"trim": True})
    settings = TASKS["category"].model_copy(update={"dataset": data.model_copy(update={"source": source})})
    assert [label.value for label in read(text, target_of(settings))[0]] == ["red", "blue"]
    state = state_at(tmp_path / "state.sqlite")
    keep_labels(state, labels, "POST /labels", "anna", empty=empty)
    (tmp_path / "labels.csv").write_text(text.replace(",", ";"))
    assert add_labels(state, settings, tmp_path / "labels.csv", "labels.csv", classes=["red", "blue"]).counts | {"rows": 0} == {
        "rows": 0, "new": 0, "known": 2, "contradicting": 0, "empty": 1, "late": 0, "early": 0, "untimed": 0, "unseen": 0, "refused": 0,
    }  # fmt: skip
    state.close()


def test_a_server_without_the_pipelines_settings_knows_entities_by_the_contract() -> None:
    contract = Contract(task="regression", target="y", columns={"x": Column("number")}, entity_key=("shop", "item"), time_column="day")
    [label], _ = read("shop,item,day,y\nN,7,1970-01-02,0.5\n", target_in(contract))
    assert (label.by, label.name, label.value, label.happened) == ("entity", "N/7", 0.5, 86_400)


def test_a_server_that_takes_labels_needs_no_library_that_its_image_lacks() -> None:
    """Polars and what trains are not in it."""
    lacking = ("polars", "sklearn", "lightgbm", "mlflow", "pandas", "scipy", "jinja2", "charset_normalizer", "fastexcel", "pyarrow")
    program = f"""
import sys, pathlib, tempfile
class Blocked:
    def find_spec(self, name, *_):
        if name.partition('.')[0] in {lacking!r}:
            raise ImportError(name + ' is not in the serving image')
sys.meta_path.insert(0, Blocked())
from mlops_pipeline.contract.label import Target
from mlops_pipeline.monitoring.labels import One, keep_labels
from mlops_pipeline.monitoring.state import state_at
import mlops_pipeline.serving.application, mlops_pipeline.serving.memory
state = state_at(pathlib.Path(tempfile.mkdtemp()) / 'state.sqlite')
print(keep_labels(state, [One('id', 'a', 0, 1)], 'here', 'me'))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=process_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout == "1 rows: 1 new labels by \n", done.stderr
