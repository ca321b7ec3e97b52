"""What may be told of a column: made-up rows, levels that enough rows have, cells of rows set aside, and of what is derived."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.contract import privacy
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.contract.values import LARGEST, MISSING, bounds
from mlops_pipeline.inference.signature import Signature
from tests.unit_tests.workshop import ingested, table_settings

KINDS = ("number", "integer", "boolean", "category", "text", "datetime")
limits = st.floats(-1e9, 1e9) | st.integers(-1000, 1000).map(float)


@st.composite
def columns(draw: st.DrawFn) -> tuple[dict[str, Column], dict[str, list[str]], dict[str, tuple[float, float]]]:
    """A model's columns, what it knows of their levels, and what training saw of their numbers, within their bounds."""
    described, levels, ranges = {}, {}, {}
    for place in range(draw(st.integers(1, 5))):
        name, kind = f"c{place}", draw(st.sampled_from(KINDS))
        private = draw(st.booleans())
        low, high = sorted((draw(limits), draw(limits)))
        if kind == "integer":
            low, high = float(int(low)), float(int(high) + 1)
        is_number = kind in ("number", "integer")
        given_low, given_high = draw(st.booleans()) and is_number, draw(st.booleans()) and is_number
        described[name] = Column(kind, low if given_low else None, high if given_high else None, draw(st.booleans()), private)
        if kind == "category":
            levels[name] = draw(st.lists(st.text("ab12 ", min_size=1), unique=True, max_size=4))
        elif is_number and not private and draw(st.booleans()):
            ranges[name] = (low, high)
    return described, levels, ranges


@given(columns())
def test_made_up_rows_are_taken_by_the_model_they_are_made_for(
    made: tuple[dict[str, Column], dict[str, list[str]], dict[str, tuple[float, float]]],
) -> None:
    described, levels, ranges = made
    rows = privacy.made_up(described, levels, ranges)
    assert len(rows) == privacy.EXAMPLE_ROWS
    contract = Contract(task="regression", columns=described, categories=levels, ranges=ranges)
    taken = Signature.of(contract).from_records(rows)
    assert [notice.reason for notice in taken.notices or ()] == ["unseen_category"] * len(taken.notices or ())
    for row in rows:
        for name, value in row.items():
            column = described[name]
            if column.kind in ("number", "integer"):
                low, high = ranges.get(name, bounds(column))
                assert low <= value <= high
                assert abs(value) <= LARGEST
            if column.kind == "category":
                assert (value in levels[name]) == bool(levels[name] and not column.private) or value == "text"


def test_a_private_columns_example_hangs_on_nothing_that_training_saw() -> None:
    described = {"salary": Column("number", private=True), "town": Column("category", private=True)}
    rows = privacy.made_up(described, {"town": ["Aldermoor"]}, {"salary": (31_337.0, 98_765.0)})
    assert rows == privacy.made_up(described, {}, {})


def test_levels_are_told_in_order_without_what_stands_for_none() -> None:
    assert privacy.told_levels(Column("category"), ["b", MISSING, "a", privacy.RARE]) == ["a", "b"]
    assert privacy.told_levels(Column("category", private=True), ["b", "a"]) == []
    assert privacy.common({"a": 5, "b": 4, "c": 9}, 5) == ["a", "c"]


COLUMNS: dict[str, Any] = {"size": "number", "salary": {"kind": "number", "private": True}, "name": {"kind": "text", "private": True}}


@pytest.mark.parametrize(
    ("sql", "said", "private"),
    [
        ("salary / 12", {}, True),
        ('"salary" / 12', {}, True),
        ("size * 2", {}, False),
        ("salary > 0", {"private": False}, False),
    ],
)
def test_what_is_derived_of_a_private_column_is_private_unless_it_says_otherwise(sql: str, said: dict[str, bool], private: bool) -> None:
    columns = {**COLUMNS, "made": {"kind": "number", **said}, "again": "number", "y": "number"}
    made = table_settings(columns, derive={"made": sql, "again": "made + 1"}).dataset
    assert (made.columns["made"].private, made.columns["again"].private) == (private, private)


@pytest.mark.parametrize("how", ["mean", "sum", "share", "count", "min", "last"])
def test_an_aggregate_of_a_private_column_is_private_unless_it_says_otherwise(how: str) -> None:
    columns = {**COLUMNS, "made": {"kind": "number"}, "told": {"kind": "number", "private": False}, "day": "datetime", "y": "number"}
    more = {"value": 1.0} if how == "share" else {}
    made = {name: {"how": how, "of": of, **more} for name, of in (("made", "salary"), ("told", "salary"))}
    data = table_settings(columns, time_column="day", aggregates=made).dataset
    assert (data.columns["made"].private, data.columns["told"].private) == (True, False)
    columns |= {"y": {"kind": "number", "private": True}}
    data = table_settings(columns, time_column="day", aggregates={"told": {"how": "count"}}, history={"made": {"days": 3}}).dataset
    assert (data.columns["made"].private, data.columns["told"].private) == (True, False)


BROKEN = "size,salary,name,y\n" + "".join(f"{k},{k},n{k},{k}\n" for k in range(150)) + '7,"never, ever",Ada,1\n8,Ada\n'


def test_rows_set_aside_keep_private_cells_only_where_the_settings_say_so(tmp_path: Path) -> None:
    for whole, contents in ((False, ["7,,,1", ""]), (True, ['7,"never, ever",Ada,1', "8,Ada"])):
        folder = tmp_path / str(whole)
        folder.mkdir()
        (folder / "table.csv").write_text(BROKEN)
        _, _, quarantine = ingested(folder, table_settings(COLUMNS | {"y": "number"}, keep_whole_rows=whole))
        assert sorted(quarantine["row"].to_list()) == ["151", "152"]
        kept = dict(zip(quarantine["row"], quarantine["content"], strict=True))
        assert [kept["151"], kept["152"]] == contents


def test_values_of_a_private_column_are_in_no_fault() -> None:
    columns = {name: Column(kind, min=0 if kind == "number" else None, nullable=False, private=True) for name, kind in zip("nibctd", (
        "number", "integer", "boolean", "category", "text", "datetime"), strict=True)}  # fmt: skip
    signature = Signature.of(Contract(task="regression", columns=columns, categories={"c": ["x"]}), reject_unseen=True)
    good: dict[str, Any] = {"n": 1, "i": 1, "b": 1, "c": "x", "t": "x", "d": "2024-01-01"}
    for name, values in {
        "n": ["canary", -31337, 1e300, [31337]],
        "i": [313.5, "canary", True],
        "b": [31337, "canary"],
        "c": ["canary", {"canary": 1}],
        "t": [{"canary": 1}],
        "d": ["canary", 31337],
    }.items():
        for value in values:
            with pytest.raises(Exception, match=f"column '{name}'") as caught:
                signature.from_records([good | {name: value}])
            assert "canary" not in str(caught.value)
            assert "313" not in str(caught.value)
