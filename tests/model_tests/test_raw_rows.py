"""A raw row is the same prediction as its finished features, to the bit, by every way in, and refused by the names that its sender knows.

The model is the one of ``test_conformance``, as if a recipe had made two of its columns: ``score`` is ``half * 2``, and ``age`` is how
many rows of the table share ``house``.
"""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mlops_pipeline.config.serving import FeatureSettings as Settings
from mlops_pipeline.contract.dialect import Dialect
from mlops_pipeline.contract.spec import Aggregate, Column, History, Recipe, contract_of
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.keyed import state_of
from mlops_pipeline.features.online import OnlineFeatures, features_of, frame_of
from mlops_pipeline.features.state import CURRENT, open_state, write_state
from mlops_pipeline.inference.batch import predict_file
from mlops_pipeline.inference.engine import score
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.frames import judged
from mlops_pipeline.inference.raw import FEW, RawInput, RawRows, RowKinds, check_state
from mlops_pipeline.inference.scorer import Scorer, load_scorer
from mlops_pipeline.inference.signature import Length, Lengths, Rows, Signature
from mlops_pipeline.layout import StatePlace
from mlops_pipeline.modelling.described import with_own_words
from mlops_pipeline.modelling.skew import beside_table
from mlops_pipeline.serving import openapi
from mlops_pipeline.serving.computing import computing, is_stale
from mlops_pipeline.serving.protocol.either import Either, names_of_invocations, names_of_records, names_of_tensors
from mlops_pipeline.serving.protocol.invocations import Invocations
from mlops_pipeline.serving.protocol.open_inference import OpenInference
from mlops_pipeline.serving.protocol.predict import Predict
from mlops_pipeline.serving.request import Request
from tests.model_tests.test_conformance import MODEL, as_csv, split
from tests.unit_tests.workshop import quiet

Row = dict[str, Any]
PLAIN: Row = {"house": "north", "half": 0.125, "member": True, "plan": "pro", "floor": "2"}
FEATURES: Row = {"age": 41, "score": 0.25, "member": True, "plan": "pro", "floor": "2"}
KINDS = {"half": "FP64", "member": "BOOL", "age": "INT64", "score": "FP64"}
RECIPE = Recipe(derive={"score": "half * 2"}, counts={"age": ("house",)}, target="y")
MADE_OF = {"age": ("house",), "score": ("half",)}
HOUSES = {"north": 41, "south": 30, "full": 130}
ABSENT: Any = object()

ROWS: dict[str, tuple[Row, Row | tuple[str, str]]] = {
    # what is changed of a plain raw row; the features that it has, or why it is refused, and by which column
    "plain": ({}, {}),
    "another key": ({"house": "south"}, {"age": 30}),
    "a key with blanks of a column that the model does not take": ({"house": " south"}, ("null", "age")),
    "an unknown key": ({"house": "east"}, ("null", "age")),
    "a computed value out of bounds": ({"house": "full"}, ("out_of_bounds", "age")),
    "a number": ({"half": 0.1}, {"score": 0.2}),
    "a null number": ({"half": None}, {"score": None}),
    "a column that may be null is missing": ({"half": ABSENT}, {"score": None}),
    "a category with blanks": ({"plan": " pro "}, {"plan": "pro"}),
    "an unseen category": ({"plan": "gold"}, {"plan": "unseen"}),
    "a null category": ({"plan": None}, {"plan": None}),
    "a key that is a word for null": ({"house": "NA"}, ("null", "house")),
    "a raw column is null": ({"house": None}, ("null", "house")),
    "a raw column out of bounds": ({"half": 1000.0}, ("out_of_bounds", "half")),
    "a raw column of the wrong type": ({"half": "high"}, ("wrong_type", "half")),
    "a computed column beside it": ({"age": 7}, {}),
    "a stranger beside it": ({"note": "x"}, {}),
}


@dataclass(frozen=True)
class Model:
    folder: Path
    states: Path
    scorer: Scorer
    taken: RawInput
    features: OnlineFeatures

    def protocols(self, why_not: str = "", *, only_raw: bool = False) -> dict[str, Either]:
        raw, features = self.taken.signature, self.scorer.signature

        def either(made: Callable[[Any], Any], names: Any) -> Either:
            return Either(made(raw), made(features), self.taken, names, lambda: why_not, only_raw=only_raw)

        return {
            "predict": either(lambda signature: Predict(signature, "m", "1"), names_of_records),
            "invocations": either(Invocations, names_of_invocations),
            "v2": either(lambda signature: OpenInference(signature, "m", "1"), names_of_tensors),
        }

    def says(self, protocol: str, body: bytes, content_type: bytes = b"application/json", header_length: int | None = None) -> bytes:
        """The outputs' bytes of a request; raises :class:`Refused`."""
        rows = self.rows(protocol, body, content_type, header_length)
        return score(self.scorer.engine, rows.numbers, rows.categories).tobytes()

    def raw(self, rows: list[Row]) -> RawRows:
        """Rows as the source has them, as `/predict` reads them."""
        body = json.dumps({"records": rows}).encode()
        read, _ = self.protocols()["predict"].read(Request("r", "predict", "m", "/", 0, 0, JSON, len(body)), body)
        assert isinstance(read, RawRows)
        return read

    def rows(self, protocol: str, body: bytes, content_type: bytes = b"application/json", header_length: int | None = None) -> Rows:
        request = Request("r", protocol, "m", "/", 0, 0, content_type, len(body), header_length)
        given, _ = self.protocols()[protocol].read(request, body)
        return self.taken.computed(given, self.features) if isinstance(given, RawRows) else given


def write_states(folder: Path, name: str, counts: dict[str, int], as_of: datetime | None = None) -> None:
    """Put a version of the state into a folder of versions, and make it the current one as `mlops features refresh` does: by one rename."""
    table = pl.LazyFrame({"house": [name for name, count in counts.items() for _ in range(count)]}).with_columns(y=0.0)
    (folder / name).mkdir(parents=True)
    write_state(state_of(table, RECIPE, {"house": "category", "age": "integer", "y": "number"}, as_of=as_of), folder / name)
    (folder / "new").write_text(name)
    (folder / "new").replace(folder / CURRENT)


def made_in(folder: Path) -> Model:
    """The model, and a state of its keys."""
    shutil.copytree(MODEL, folder / "model")
    contract = contract_of((folder / "model/training.json").read_bytes())
    columns = contract.columns
    raw = {
        "house": Column("category", nullable=False),
        "half": Column("number", max=100.0),
        **{name: columns[name] for name in ("member", "plan", "floor")},
    }
    made = {name: columns[name] for name in ("score", "age")}
    contract = msgspec.structs.replace(contract, raw=raw, recipe=RECIPE, made=made, made_of=MADE_OF, raw_example=PLAIN)
    (folder / "model/training.json").write_bytes(msgspec.json.encode(contract))
    write_states(folder / "states", "one", HOUSES)
    scorer = load_scorer(folder / "model")
    taken = RawInput.of(scorer.contract, scorer.signature)
    assert taken is not None
    return Model(folder / "model", folder / "states", scorer, taken, features_of(scorer.contract, open_state(folder / "states")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return made_in(tmp_path_factory.mktemp("raw"))


def changed(model: Model, folder: Path, *, nullable: tuple[str, ...] = (), **fields: Any) -> Model:
    """The same model with another recipe, or with features that may be null."""
    shutil.copytree(model.folder, folder)
    contract = msgspec.structs.replace(contract_of((folder / "training.json").read_bytes()), **fields)
    free = {name: msgspec.structs.replace(contract.columns[name], nullable=True) for name in nullable}
    contract = msgspec.structs.replace(contract, columns=contract.columns | free, made=contract.made | free)
    (folder / "training.json").write_bytes(msgspec.json.encode(contract))
    scorer = load_scorer(folder)
    taken = RawInput.of(scorer.contract, scorer.signature)
    assert taken is not None
    return Model(folder, model.states, scorer, taken, features_of(scorer.contract, open_state(model.states)))


def told(model: Model, protocol: str, body: Any, why_not: str = "") -> str:
    """What a request's rows are taken for, or why they are refused, and by which column."""
    sent = json.dumps(body, separators=(",", ":")).encode()
    try:
        rows, _ = model.protocols(why_not)[protocol].read(Request("r", protocol, "m", "/", 0, 0, JSON, len(sent)), sent)
    except Refused as refusal:
        return f"{refusal.status} {refusal.faults[0].column or refusal.reason}"
    return "raw" if isinstance(rows, RawRows) else "features"


def row_of(changes: Row) -> Row:
    return {name: value for name, value in {**PLAIN, **changes}.items() if value is not ABSENT}


def tensors(row: Row) -> bytes:
    return json.dumps(
        {
            "inputs": [
                {"name": name, "shape": [1], "datatype": "FP64" if value is None else KINDS.get(name, "BYTES"), "data": [value]}
                if name in KINDS
                else {"name": name, "shape": [1], "datatype": "BYTES", "data": [value]}
                for name, value in row.items()
            ]
        }
    ).encode()


def binary(row: Row) -> tuple[bytes, int]:
    inputs, blocks = [], []
    for name, value in row.items():
        if name in KINDS:
            kind = {"FP64": "<f8", "BOOL": "|u1", "INT64": "<i8"}[KINDS[name]]
            block = np.array([np.nan if value is None else value], kind).tobytes()
        else:
            block = len(str(value).encode()).to_bytes(4, "little") + str(value).encode()
        inputs.append({"name": name, "shape": [1], "datatype": KINDS.get(name, "BYTES"), "parameters": {"binary_data_size": len(block)}})
        blocks.append(block)
    header = json.dumps({"inputs": inputs}).encode()
    return header + b"".join(blocks), len(header)


JSON = b"application/json"
WAYS: dict[str, Callable[[Row], tuple[Any, ...]]] = {
    "records": lambda row: ("predict", json.dumps({"records": [row]}).encode()),
    "records, reordered": lambda row: ("predict", json.dumps({"records": [dict(reversed(row.items()))]}).encode()),
    "records, escaped": lambda row: ("predict", json.dumps({"records": [row]}).replace('"h', '"\\u0068').encode()),
    "split": lambda row: ("invocations", json.dumps({"dataframe_split": split(row)}).encode()),
    "dataframe_records": lambda row: ("invocations", json.dumps({"dataframe_records": [row]}).encode()),
    "instances": lambda row: ("invocations", json.dumps({"instances": [row]}).encode()),
    "inputs": lambda row: ("invocations", json.dumps({"inputs": {name: [value] for name, value in row.items()}}).encode()),
    "CSV": lambda row: ("invocations", as_csv(row).encode(), b"text/csv"),
    "OIP": lambda row: ("v2", tensors(row)),
    "OIP, binary": lambda row: ("v2", binary(row)[0], b"application/octet-stream", binary(row)[1]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_raw_row_is_what_its_features_predict(way: str, model: Model) -> None:
    said = 0
    for name, (changes, meaning) in ROWS.items():
        row = row_of(changes)
        if "OIP" in way and isinstance(row.get("half"), str):
            continue  # a tensor of numbers holds no text
        if "binary" in way and None in [value for key, value in row.items() if key not in KINDS]:
            continue
        said += 1
        try:
            made: Any = model.says(*WAYS[way](row))
        except Refused as refusal:
            made = (refusal.reason, refusal.faults[0].column)
        wanted = meaning
        if isinstance(meaning, dict):
            wanted = model.says("predict", json.dumps({"records": [{**FEATURES, **meaning}]}).encode())
        assert made == wanted, name
    assert said >= 12


def test_blanks_are_no_part_of_a_row_by_any_way_where_they_are_none_in_the_table(model: Model, tmp_path: Path) -> None:
    trimmed = changed(model, tmp_path / "model", dialect=Dialect(trim=True))
    bare, unknown = {**PLAIN, "house": "south", "floor": "(missing)"}, {**FEATURES, "age": 30}
    padded = {**bare, "house": " south", "plan": "pro\u00a0", "floor": " NA "}
    wanted = model.says("predict", json.dumps({"records": [{**unknown, "floor": None}]}).encode())
    assert {way: trimmed.says(*made(padded)) == wanted for way, made in WAYS.items()} == dict.fromkeys(WAYS, True)
    assert trimmed.says("predict", json.dumps({"records": [{**unknown, "floor": "\tNA"}]}).encode()) == wanted
    table = pl.DataFrame([padded], schema_overrides={"house": pl.Categorical})
    for file in (tmp_path / "rows.csv", tmp_path / "rows.parquet"):
        table.write_csv(file, separator=";") if file.suffix == ".csv" else table.write_parquet(file)
        predict_file(trimmed.folder, file, tmp_path / "out.parquet", quiet(), state=StatePlace(model.states))
        made = pl.read_parquet(tmp_path / "out.parquet")
        assert made["probability_1"].cast(pl.Float32).to_numpy().tobytes() == wanted[-4:]
        assert made["house"][0] == " south", "given back as it came"


def test_many_rows_are_computed_as_few_are(model: Model) -> None:
    rows = [row_of(changes) for changes, meaning in ROWS.values() if isinstance(meaning, dict)]
    together = model.says("predict", json.dumps({"records": rows * FEW}).encode())
    assert together == b"".join(model.says("predict", json.dumps({"records": [row]}).encode()) for row in rows) * FEW


def test_of_features_that_are_all_private_nothing_is_told(model: Model, tmp_path: Path) -> None:
    columns = {name: msgspec.structs.replace(column, private=True) for name, column in model.scorer.contract.columns.items()}
    private = changed(model, tmp_path / "private", columns=columns)
    for count in (1, FEW + 1):
        raw = private.raw([PLAIN] * count)
        private.taken.computed(raw, private.features)
        assert private.taken.told(raw) == [{}] * count


def test_what_is_said_of_a_raw_row_names_its_own_columns(model: Model) -> None:
    rows = model.rows("predict", json.dumps({"records": [row_of({"plan": "gold", "age": 3, "note": 1})]}).encode())
    assert {(notice.reason, notice.column) for notice in rows.notices or ()} == {
        ("unseen_category", "plan"), ("extra_column", "age"), ("extra_column", "note"),
    }  # fmt: skip
    assert any("computed from the raw row" in notice.detail for notice in rows.notices or ())
    with pytest.raises(Refused, match="'age', which is computed from 'house', is null"):
        model.rows("predict", json.dumps({"records": [row_of({"house": "east"})]}).encode())


def test_a_category_of_the_source_is_kept_as_it_is_written_as_keys_are_in_training(model: Model) -> None:
    raw = model.taken.signature
    rows = [row_of({"plan": plan, "floor": floor}) for plan, floor in ((" pro ", "2"), ("pro", 2), (None, "2.0"), ("gold", 2.0))]
    written = [(" pro ", "2"), ("pro", "2"), (MISSING, "2.0"), ("gold", "2")]
    asked = raw.from_records(rows)
    assert [(row[raw.categories.index("plan")], row[raw.categories.index("floor")]) for row in asked.categories] == written  # type: ignore[union-attr]
    table = pl.DataFrame(
        [row | {"floor": str(row["floor"]).replace("2.0", "2") if type(row["floor"]) is float else str(row["floor"])} for row in rows]
    )
    assert judged(table, raw).rows.categories.tolist() == asked.categories.tolist()  # type: ignore[union-attr]
    assert asked.unseen == 0
    assert model.taken.computed(RawRows(asked), model.features).unseen == 1  # gold; others mean a category of the model


@pytest.mark.parametrize(("own", "means"), [(None, MISSING), (("", "null"), "NA")])
def test_a_key_that_is_a_word_for_null_is_null_by_every_way_unless_training_had_it(
    own: tuple[str, ...] | None, means: str, model: Model
) -> None:
    """Of a key's column no values are known but those that are looked up: the contract says which words are none for null."""
    house = Column("category", null_values=own)
    raw = replace(model.taken.signature, columns={**model.taken.signature.columns, "house": house}, no_null_categories=())
    row, place = row_of({"house": "NA"}), raw.categories.index("house")
    for read in (raw.from_records([row]), judged(pl.DataFrame([row]), raw).rows, Invocations(raw).rows_of_csv(as_csv(row).encode())):
        assert read.categories is not None
        assert read.categories[0, place] == means


def test_a_word_for_null_that_training_had_as_a_key_is_none() -> None:
    """A table with types has the country `NA` as a text, and nulls beside it; one of text has nulls alone."""
    keys = {name: Column("category") for name in ("country", "town", "plan")} | {"half": Column("number")}
    table = pl.DataFrame({"country": ["NA", None, "DE"], "town": [None, "a", "b"], "plan": ["NA", "a", "b"], "half": [1.0, 2.0, 3.0]})
    made = with_own_words(keys, table, ("", "NA"), ("plan",))
    assert {name: column.null_values for name, column in made.items()} == {"country": ("",), "town": None, "plan": None, "half": None}
    own = {"country": Column("category", null_values=("-", "NA"))}
    assert with_own_words(own, table, ("", "NA"), ())["country"].null_values == ("-",)


def test_both_kinds_in_one_request_are_refused_in_one_line(model: Model) -> None:
    for mixed in ([PLAIN, FEATURES], [FEATURES, PLAIN]):
        with pytest.raises(Refused, match=r"row 0 is .* and row 1 .*: send them in two requests"):
            model.rows("predict", json.dumps({"records": mixed}).encode())
    with pytest.raises(Refused) as refused:
        model.rows("predict", json.dumps({"records": [row_of({"house": ABSENT, "half": 3})]}).encode())
    assert refused.value.faults[0].column == "house", "it has a column of raw rows, and none that is computed"


def test_a_raw_row_is_never_read_as_features_that_are_null(model: Model, tmp_path: Path) -> None:
    free = changed(model, tmp_path / "free", nullable=("age", "score"))
    half = {**FEATURES, "half": 0.125, "house": "north"}
    del half["age"]
    for row, with_state, without in (
        (PLAIN, "raw", "503 not_ready"),
        (row_of({"house": ABSENT}), "422 house", "503 not_ready"),
        (FEATURES, "features", "features"),
        ({**FEATURES, **PLAIN}, "raw", "features"),
        (half, "raw", "503 not_ready"),
        ({"member": True, "plan": "pro", "floor": "2"}, "features", "features"),
    ):
        for protocol, body in (("predict", {"records": [row]}), ("v2", json.loads(tensors(row))), ("invocations", {"instances": [row]})):
            assert told(free, protocol, body) == with_state, (protocol, row)
            assert told(free, protocol, body, "there is no state") == without, (protocol, row)
    described = openapi.document({"m": free.scorer.signature}, "m", version="1", keys=False, max_rows=3, raws={"m": free.taken})
    for row, kind in (
        (PLAIN, "raw"),
        (row_of({"house": ABSENT}), ""),
        (FEATURES, "features"),
        ({"plan": "pro", "member": True}, "features"),
    ):
        for prefix, meant in (("", "features"), ("Raw", "raw")):
            of_rows = {"$ref": f"#/components/schemas/m.{prefix}Record", "components": described["components"]}
            assert Draft202012Validator(of_rows).is_valid(row) == (kind == meant), (row, meant)
    pl.DataFrame([PLAIN]).write_parquet(tmp_path / "raw.parquet")
    with pytest.raises(PipelineError, match="holds raw rows"):
        predict_file(free.folder, tmp_path / "raw.parquet", tmp_path / "out.csv", quiet(), state=StatePlace(tmp_path / "none"))


@pytest.mark.parametrize("names", [5, None, True, 1.5, "house", [["house"]], [5], {"house": 1}])
def test_what_is_no_list_of_names_is_refused_in_one_line(names: Any, model: Model) -> None:
    """Also where the names of rows are looked at to tell raw ones: with an escape, or a column's name where none is due."""
    for more in ("", "\\", "house"):
        body = json.dumps({"dataframe_split": {"columns": names, "data": [[more]]}}).encode()
        with pytest.raises(Refused) as refused:
            model.rows("invocations", body)
        assert refused.value.status in (400, 422)
        with pytest.raises(Refused):
            model.rows("v2", json.dumps({"inputs": [{"name": names, "shape": [1], "datatype": more, "data": []}]}).encode())


@pytest.mark.parametrize("orient", ["records", "split", "index", "columns", "values", "table"])
def test_a_table_as_pandas_writes_it_is_refused_with_the_forms_that_are_taken(orient: Any, model: Model) -> None:
    body = pl.DataFrame([PLAIN, PLAIN]).to_pandas().to_json(orient=orient).encode()
    for protocol, said in (
        ("predict", "records"),
        ("invocations", "dataframe_split, dataframe_records, instances, inputs"),
        ("v2", "form"),
    ):
        with pytest.raises(Refused, match=said) as refused:
            model.rows(protocol, body)
        assert (refused.value.status, refused.value.reason) == (400, "malformed")


@pytest.mark.parametrize("body", [b"", b"null", b"5", b'"house"', b"[]", b"{}", b'{"house": 1}', b'[{"house": "north"}]', b'"house\\""'])
@pytest.mark.parametrize("protocol", ["predict", "invocations", "v2"])
def test_any_json_that_is_no_request_is_one_line(protocol: str, body: bytes, model: Model) -> None:
    with pytest.raises(Refused) as refused:
        model.rows(protocol, body)
    assert (refused.value.status, refused.value.reason) == (400, "malformed")


WORDS = (
    *("records", "ids", "dataframe_split", "columns", "data", "index", "dataframe_records", "instances", "inputs", "params", "name"),
    *("shape", "datatype", "BYTES", "FP64", "numbers", "categories", "parameters", "binary_data_size", "\\", "NaN", *PLAIN, *FEATURES),
)
some_word = st.sampled_from(WORDS)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | some_word,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(some_word, inner, max_size=4),
    max_leaves=20,
)


@given(anything, st.sampled_from(["predict", "invocations", "v2"]), st.sampled_from([None, 0, 3, 10**6]))
def test_nothing_but_rows_or_a_refusal_comes_of_any_json_of_either_kind(
    model: Model, content: Any, protocol: str, length: int | None
) -> None:
    with suppress(Refused):
        assert isinstance(model.rows(protocol, json.dumps(content).encode(), header_length=length), Rows)


@given(st.text(st.sampled_from("\"',;\r\n\ufeff \0ahouse1.")), st.sampled_from(["", "house,half,member,plan,floor\n"]))
def test_nothing_but_rows_or_a_refusal_comes_of_any_csv_of_either_kind(model: Model, text: str, header: str) -> None:
    with suppress(Refused):
        assert isinstance(model.rows("invocations", (header + text).encode(), b"text/csv"), Rows)


@pytest.mark.parametrize(
    ("dialect", "made"),
    [
        (Dialect(), lambda text: text.replace("\r\n", "\n")),
        (Dialect(), lambda text: text.replace("\r\n", "\r")),  # as Excel for the Mac may write it
        (Dialect(), lambda text: "\ufeff\r\n" + text),
        (Dialect(bare_names=True), lambda text: text.replace("house", " house ", 1)),
        (Dialect(delimiter=";", quote="'"), lambda text: text.replace(",", ";").replace("house", "'house'", 1)),
        (Dialect(delimiter=";"), lambda text: text),
    ],
)
def test_raw_rows_of_csv_are_told_however_it_is_written(dialect: Dialect, made: Callable[[str], str], model: Model, tmp_path: Path) -> None:
    written = changed(model, tmp_path / "model", dialect=dialect)
    text = "\r\n".join(as_csv(PLAIN).splitlines()) + "\r\n"
    wanted = model.says("predict", json.dumps({"records": [PLAIN]}).encode())
    assert written.says("invocations", made(text).encode(), b"text/csv") == wanted


def test_raw_columns_of_one_name_are_told_apart_as_in_training(model: Model, tmp_path: Path) -> None:
    raw = {("half_2" if name == "half" else name): column for name, column in model.scorer.contract.raw.items()}
    recipe = Recipe(derive={"score": "half_2 * 2"}, counts={"age": ("house",)}, target="y")
    twice = changed(model, tmp_path / "model", dialect=Dialect(numbered=True), raw={**raw, "half": Column("number")}, recipe=recipe)
    text = f"half,{as_csv(PLAIN).splitlines()[0]}\n9,{as_csv(PLAIN).splitlines()[1]}\n"
    wanted = model.says("predict", json.dumps({"records": [PLAIN]}).encode())
    assert twice.says("invocations", text.encode(), b"text/csv") == wanted


def test_a_key_of_the_source_may_be_no_longer_than_a_category(model: Model) -> None:
    taken = model.taken.limited(10, Lengths(category=Length(20, 80)))
    assert taken.signature.from_records([row_of({"house": "h" * 20})]).count == 1
    with pytest.raises(Refused, match="row 0, column 'house' has 21 characters, more than 20 characters"):
        taken.signature.from_records([row_of({"house": "h" * 21})])


def test_a_column_that_stands_as_a_value_marks_no_row(model: Model) -> None:
    for name in ("house", "half"):
        row = {**FEATURES, "plan": name}
        split = {"columns": list(row), "data": [list(row.values())]}
        for protocol, body in (
            ("predict", {"records": [row]}),
            ("invocations", {"inputs": [row]}),
            ("invocations", {"dataframe_split": split}),
            ("v2", json.loads(tensors(row))),
        ):
            assert told(model, protocol, body) == "features"


def test_where_raw_rows_have_no_column_of_their_own_those_without_a_computed_one_are_raw(model: Model, tmp_path: Path) -> None:
    made = {"age": model.scorer.contract.columns["age"]}
    raw = {name: column for name, column in model.scorer.contract.columns.items() if name not in made}
    recipe = Recipe(derive={"age": "CASE WHEN floor = '2' THEN 41 ELSE 30 END"}, target="y")
    plain = {name: value for name, value in FEATURES.items() if name not in made}
    bare = changed(model, tmp_path / "bare", raw=raw, recipe=recipe, made=made, made_of={"age": ("floor",)}, raw_example=plain)
    order = bare.scorer.signature.names
    gathered = {
        "inputs": [
            {"name": "numbers", "shape": [1, 3], "datatype": "FP64", "data": [float(FEATURES[name]) for name in order[:3]]},
            {"name": "categories", "shape": [1, 2], "datatype": "BYTES", "data": [FEATURES[name] for name in order[3:]]},
        ]
    }
    for row, wanted in (
        (plain, "raw"),
        ({**plain, "plan": "age"}, "raw"),
        (FEATURES, "features"),
        ({**FEATURES, "plan": "age"}, "features"),
    ):
        for protocol, body in (("predict", {"records": [row]}), ("v2", json.loads(tensors(row))), ("invocations", {"instances": [row]})):
            assert told(bare, protocol, body) == wanted, (protocol, row)
    assert told(bare, "v2", gathered) == "features"
    assert told(model, "v2", gathered) == "features"
    assert told(bare, "invocations", {"instances": [[FEATURES[name] for name in order]]}) == "features"


def test_a_raw_row_may_hold_records(model: Model, tmp_path: Path) -> None:
    columns = model.scorer.contract.columns
    others = {name: value for name, value in FEATURES.items() if name != "score"}
    nested = changed(
        model,
        tmp_path / "nested",
        raw={"home.half": Column("number"), **{name: columns[name] for name in others}},
        recipe=Recipe(derive={"score": '"home.half" * 2'}, target="y"),
        made={"score": columns["score"]},
        made_of={"score": ("home.half",)},
        raw_example={**others, "home.half": 0.125},
        nullable=("score",),
    )
    meant = nested.says("predict", json.dumps({"records": [FEATURES]}).encode())
    for row in ({**others, "home": {"half": 0.125}}, {**others, "home.half": 0.125}):
        for protocol, form in (("predict", "records"), ("invocations", "dataframe_records"), ("invocations", "instances")):
            assert told(nested, protocol, {form: [row]}) == "raw"
            assert nested.says(protocol, json.dumps({form: [row]}).encode()) == meant
    twice = [{**others, "home.half": 0.125}, {**others, "home.half": 0.125, "home": {"half": 0.1}}]
    with pytest.raises(Refused) as refused:
        nested.says("predict", json.dumps({"records": twice}).encode())
    assert refused.value.faults[0].detail == "row 1: column 'home.half' is given twice, once within a record"


def test_finished_features_are_not_computed_again(model: Model, tmp_path: Path) -> None:
    columns = model.scorer.contract.columns
    recipe = Recipe(derive={"score": "score / 100"}, target="y")
    own = changed(
        model, tmp_path / "own", raw=columns, recipe=recipe, made={"score": columns["score"]}, made_of={"score": ("score",)}, raw_example={}
    )
    assert RawInput.taken(own.scorer.contract, own.scorer.signature, "either") is None
    assert RawInput.taken(own.scorer.contract, own.scorer.signature, "raw") is not None
    said = {}
    pl.DataFrame([FEATURES]).write_parquet(tmp_path / "test.parquet")
    for inputs in ("either", "features", "raw"):
        done = predict_file(own.folder, tmp_path / "test.parquet", tmp_path / f"{inputs}.csv", quiet(), inputs=inputs)  # type: ignore[arg-type]
        said[inputs] = (tmp_path / f"{inputs}.csv").read_text()
        assert any("--inputs raw" in note for note in done.notes) == (inputs == "either")
    assert said["either"] == said["features"] != said["raw"]
    number = Column("number")
    both = RowKinds.of({"a": number, "b": number}, {"a": number, "c": number}, ("a", "c"))
    assert [both.tell(names) for names in ("ab", "ac", "abc")] == ["raw", "features", "features"]


def test_without_a_state_finished_features_are_taken_and_raw_rows_told_why(model: Model) -> None:
    told = model.protocols("raw rows cannot be computed: there is no state")
    request = Request("r", "predict", "m", "/", 0, 0, JSON)
    for row in (FEATURES, {**FEATURES, **PLAIN}):
        rows, _ = told["predict"].read(request, json.dumps({"records": [row]}).encode())
        assert isinstance(rows, Rows)
    with pytest.raises(Refused, match="there is no state") as refused:
        told["predict"].read(request, json.dumps({"records": [PLAIN]}).encode())
    assert refused.value.status == 503
    only = model.protocols(only_raw=True)["predict"]
    with pytest.raises(Refused) as refused:
        only.read(request, json.dumps({"records": [FEATURES]}).encode())
    assert refused.value.faults[0].column == "house"


def test_a_state_that_is_too_old_may_be_taken_for_one_that_knows_nothing(model: Model) -> None:
    now = computing(model.scorer.contract, open_state(model.states))
    assert now.features is not None
    assert now.without is not None
    assert now.as_of is not None
    rows = [("north", 0.5, 1, "pro", "2")] * 2
    assert now.without.of_rows(rows) == [(None, 1.0, 1, "pro", "2")] * 2
    assert now.without.of_rows(rows * 50) == [(None, 1.0, 1, "pro", "2")] * 100
    assert now.without.of_frame(frame_of(rows, now.features.raw))["age"].to_list() == [None, None]
    for settings, stale in ((Settings(), False), (Settings(max_age="1h"), True), (Settings(max_age="3h"), False)):
        assert is_stale(now.as_of, settings, now.as_of.timestamp() + 7200) == stale
    assert "mlops features refresh" in computing(model.scorer.contract, None).why_not


def test_which_feature_no_row_may_lack_is_known_before_nothing_is_known_of_any(model: Model) -> None:
    """With ``policy: null`` such a model answers 503, not that the client's row is at fault."""
    assert model.taken.never_null == "age"
    contract, age = model.scorer.contract, msgspec.structs.replace(model.scorer.contract.columns["age"], nullable=True)
    signature = Signature.of(msgspec.structs.replace(contract, columns={**contract.columns, "age": age}))
    assert replace(model.taken, features=signature).never_null is None


def test_a_state_of_another_recipe_is_not_asked(model: Model) -> None:
    contract, state = model.scorer.contract, open_state(model.states)
    for recipe in (
        msgspec.structs.replace(RECIPE, counts={"age": ("house", "plan")}),
        msgspec.structs.replace(RECIPE, counts={}, history={"age": History(7, ("house",))}),
    ):
        assert "does not make 'age' as this model has it" in computing(msgspec.structs.replace(contract, recipe=recipe), state).why_not
    other = msgspec.structs.replace(contract, raw=contract.raw | {"house": Column("integer")})
    with pytest.raises(PipelineError, match="does not make 'age'"):
        check_state(other, state)


def test_a_state_of_other_values_by_the_same_name_is_not_asked(model: Model) -> None:
    of = {
        "of": Aggregate(how="mean", of="pay", by=("house",)),
        "how": Aggregate(how="sum", of="y", by=("house",)),
        "value": Aggregate(how="share", of="y", value=1.0, by=("house",)),
        "value, too": Aggregate(how="share", of="y", value=2.0, by=("house",)),
        "nothing": Aggregate(how="count", by=("house",)),
        "known": Aggregate(how="mean", of="y", by=("house",), known_after_us=1),
    }
    recipes = {name: Recipe(aggregates={"score": aggregate}, target="y", time_column="day") for name, aggregate in of.items()}
    recipes |= {target: Recipe(history={"score": History(7, ("house",))}, target=target, time_column="day") for target in ("y", "pay")}
    kinds = {"house": "category", "y": "number", "pay": "number", "score": "number", "day": "datetime"}
    rows = pl.LazyFrame({"house": ["north"], "y": [1.0], "pay": [2.0], "day": [datetime(2024, 1, 31, tzinfo=UTC)]})
    states = {name: state_of(rows, recipe, kinds) for name, recipe in recipes.items()}
    made = {"score": Column("number")}
    raw = {"house": Column("category"), "day": Column("datetime")}
    for told, recipe in recipes.items():
        contract = msgspec.structs.replace(model.scorer.contract, recipe=recipe, made=made, raw=raw)
        for held, state in states.items():
            try:
                check_state(contract, state)
            except PipelineError:
                assert told != held
            else:
                assert told == held


def test_a_file_of_raw_rows_is_predicted_as_its_features(model: Model, tmp_path: Path) -> None:
    good = {
        name: (row_of(changes), meaning) for name, (changes, meaning) in ROWS.items() if isinstance(meaning, dict) and "age" not in changes
    }
    raw = pl.DataFrame([{"name": name, "half": None, **row} for name, (row, _) in good.items()], infer_schema_length=None)
    finished = pl.DataFrame([{**FEATURES, **meaning} for _, meaning in good.values()], infer_schema_length=None)
    said = {}
    for kind, table, inputs in (("raw", raw, "either"), ("features", finished, "features")):
        for suffix in ("csv", "parquet"):
            source, target = tmp_path / f"{kind}.{suffix}", tmp_path / f"{kind}.out.parquet"
            table.write_csv(source) if suffix == "csv" else table.write_parquet(source)
            done = predict_file(model.folder, source, target, quiet(), inputs=inputs, state=StatePlace(model.states))  # type: ignore[arg-type]
            said[kind, suffix] = pl.read_parquet(target)["probability_1"].to_list()
            if kind == "raw":
                assert "'age', 'score' computed from 'house', 'half'" in done.notes[0]
                assert "features_as_of" in done.notes[0]
    assert len({tuple(values) for values in said.values()}) == 1
    assert pl.read_parquet(tmp_path / "raw.out.parquet").columns[: raw.width] == raw.columns


def test_a_files_row_that_cannot_be_computed_is_set_aside(model: Model, tmp_path: Path) -> None:
    pl.DataFrame([PLAIN, {**PLAIN, "house": "east"}, {**PLAIN, "half": 1e6}, PLAIN]).write_csv(tmp_path / "in.csv")
    done = predict_file(model.folder, tmp_path / "in.csv", tmp_path / "out.csv", quiet(), state=StatePlace(model.states))
    assert (done.rows, done.rejected) == (2, 2)
    aside = pl.read_csv(tmp_path / "out.rejected.csv")
    assert aside["row"].to_list() == [2, 3]
    assert "null: 'age', which is computed from 'house', is null" in aside["reason"][0]
    assert "out_of_bounds: column 'half'" in aside["reason"][1]


def test_a_row_on_which_the_recipes_sql_fails_is_refused_and_no_other(model: Model, tmp_path: Path) -> None:
    """Polars gives up on all rows where one holds a text that cannot be cast, and shows it; so it may be no other's, nor in a log."""
    recipe = Recipe(derive={"score": "half * 2 + 0 * CAST(floor AS INTEGER)"}, counts={"age": ("house",)}, target="y")
    cast = changed(model, tmp_path / "cast", recipe=recipe, made_of={**MADE_OF, "score": ("half", "floor")})
    assert not cast.features.is_quick
    attic = row_of({"floor": "attic"})
    what = "'score', which is computed from 'half' and 'floor', has no value: its SQL fails on what this row holds"
    for before in (0, 1, 2 * FEW):
        rows = [PLAIN] * before + [attic, PLAIN, attic]
        with pytest.raises(Refused) as refused:
            cast.says("predict", json.dumps({"records": rows}).encode())
        faults = refused.value.faults
        assert [fault[::2] for fault in faults] == [("wrong_type", before), ("wrong_type", before + 2)]
        assert {fault.column for fault in faults} == {"score"}
        assert faults[0].detail == f"row {before}, {what}"
        assert "attic" not in "".join(traceback.format_exception(refused.value)), "what a log would have"
    one = cast.says("predict", json.dumps({"records": [PLAIN]}).encode())
    assert one == model.says("predict", json.dumps({"records": [PLAIN]}).encode())
    pl.DataFrame([PLAIN, attic, {**PLAIN, "house": "east"}, PLAIN, attic]).write_csv(tmp_path / "in.csv")
    done = predict_file(cast.folder, tmp_path / "in.csv", tmp_path / "out.parquet", quiet(), state=StatePlace(model.states))
    assert (done.rows, done.rejected) == (2, 3)
    aside = pl.read_csv(tmp_path / "out.rejected.csv")
    assert aside["row"].to_list() == [2, 3, 5]
    assert aside["reason"][0] == aside["reason"][2] == f"wrong_type: {what}"
    assert "null: 'age'" in aside["reason"][1]
    made = pl.read_parquet(tmp_path / "out.parquet")["probability_1"].cast(pl.Float32).to_numpy()
    assert made.tobytes() == one[-4:] * 2


def test_a_file_with_both_falls_back_to_its_own_features_without_a_state(model: Model, tmp_path: Path) -> None:
    pl.DataFrame([{**PLAIN, **FEATURES}]).write_parquet(tmp_path / "both.parquet")
    done = predict_file(model.folder, tmp_path / "both.parquet", tmp_path / "out.csv", quiet(), state=StatePlace(tmp_path / "none"))
    assert "the file's own features are taken" in done.notes[0]
    pl.DataFrame([PLAIN]).write_parquet(tmp_path / "raw.parquet")
    for inputs in ("either", "raw"):
        with pytest.raises(PipelineError, match=r"holds raw rows, and .*mlops features refresh"):
            predict_file(
                model.folder, tmp_path / "raw.parquet", tmp_path / "out.csv", quiet(), inputs=inputs, state=StatePlace(tmp_path / "none")
            )  # type: ignore[arg-type]


names = st.sets(st.sampled_from("abcdef"))


@given(names, names, names, names)
def test_a_row_with_all_that_the_recipe_needs_is_raw(own: set[str], shared: set[str], computed: set[str], nullable: set[str]) -> None:
    own, computed = {f"own {name}" for name in own}, {f"made {name}" for name in computed} or {"made"}
    raw = {name: Column("number", nullable=name.split()[-1] in nullable) for name in sorted(own | shared)}
    features = {name: Column("number", nullable=name.split()[-1] in nullable) for name in sorted(shared | computed)}
    kinds = RowKinds.of(raw, features)
    assert kinds.tell(raw) == "raw"
    assert kinds.tell(features) == "features"
    assert kinds.tell({*raw, *features}) == ("raw" if own else "features")


def test_recorded_rows_are_held_against_the_table_by_their_raw_columns(model: Model) -> None:
    """A row that the table has twice agrees if one of them does; what the table has not is counted; a private column may be missing."""
    rows = pl.DataFrame({"house": ["north", "south", None, "east"], "half": [0.1, 0.5, None, 0.2], "plan": [" pro", "pro", None, "pro"]})
    served = pl.DataFrame({"age": [41, 30, 7, 1], "score": [0.2, 1.0, None, 0.4]}).cast(pl.Float32)
    table = pl.DataFrame({"house": ["north", "north", "south", None], "half": [0.1, 0.1, 0.5, None], "plan": ["pro", "pro", "pro", None]})
    table = table.with_columns(age=pl.Series([40, 41, 31, 7]), score=pl.Series([0.2, 0.2, 1.0, None]), y=pl.lit(1))
    found = beside_table(model.scorer.contract, rows, served, table.lazy())
    assert (found.rows, found.absent, dict(found.differing)) == (3, 1, {"age": 1, "score": 0})
    nothing = beside_table(model.scorer.contract, rows, served, table.head(0).lazy())
    assert (nothing.rows, nothing.absent) == (0, 4)
    unknown = beside_table(model.scorer.contract, rows, served, table.select("y").lazy())
    assert (unknown.rows, unknown.absent) == (0, 4)
