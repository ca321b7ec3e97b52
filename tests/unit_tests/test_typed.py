"""How a value's text or type becomes its column's kind."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.tables.cast import Spelling, cast_columns, first_reason, outside, unparsed
from tests.unit_tests.workshop import table_settings


def cast(values: list[Any] | pl.Series, kind: str) -> list[Any]:
    return cast_columns(pl.DataFrame({"v": values}), {"v": Column(kind=kind)})["v"].to_list()  # type: ignore[arg-type]


WORDS = [
    (
        "boolean",
        ["true", "False", " YES ", "n", "1", "0", "1.0", "0.0", "T", "f", "2", "", None],
        [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, None, None, None],
    ),
    ("integer", ["3", "3.0", "-7", "1e3", "3.5", "x", " 4 ", None], [3, 3, -7, 1000, None, None, 4, None]),
    ("number", ["3", "-0.5", "1e-3", "1,5", "inf", "nan", " 4 ", None], [3.0, -0.5, 0.001, None, None, None, 4.0, None]),
    ("category", ["3", "a b", " ä ", None], ["3", "a b", " ä ", None]),
    ("text", ["3", "a\nb", None], ["3", "a\nb", None]),
]


@pytest.mark.parametrize(("kind", "values", "expected"), WORDS, ids=[kind for kind, _, _ in WORDS])
def test_text_becomes_its_kind_or_null(kind: str, values: list[Any], expected: list[Any]) -> None:
    assert cast(values, kind) == expected


TYPED = [
    ("boolean", [True, False, None], [1, 0, None]),
    ("boolean", [1, 0, 2], [1, 0, None]),
    ("boolean", [1.0, 0.0, 0.5], [1, 0, None]),
    ("integer", [3.0, 3.5, float("nan")], [3, None, None]),
    ("integer", [True, False], [None, None]),
    ("category", [1.0, 2.5, float("nan"), None], ["1", "2.5", None, None]),
    ("category", pl.Series([0.1, 1.0], dtype=pl.Float32), ["0.1", "1"]),
    ("number", [date(2024, 2, 29)], [None]),
    ("number", [1, 2, None], [1.0, 2.0, None]),
    ("number", [float("inf"), float("nan"), 1.0], [None, None, 1.0]),
    ("category", [1, 2, None], ["1", "2", None]),
    ("category", [True, None], ["true", None]),
    ("datetime", [date(2024, 2, 29), None], [datetime(2024, 2, 29), None]),
    ("datetime", [datetime(2024, 2, 29, 12, tzinfo=UTC), None], [datetime(2024, 2, 29, 12), None]),
]


@pytest.mark.parametrize(("kind", "values", "expected"), TYPED)
def test_typed_values_become_their_kind_or_null(kind: str, values: list[Any], expected: list[Any]) -> None:
    assert cast(values, kind) == expected


def test_what_is_no_moment_is_none_and_dates_may_be_stored_as_categories() -> None:
    assert cast([2013, 1380000000], "datetime") == [None, None]
    assert cast([True, False], "datetime") == [None, None]
    assert cast(pl.Series(["2024-02-29", None], dtype=pl.Categorical), "datetime") == [datetime(2024, 2, 29), None]
    assert cast(pl.Series([2**62], dtype=pl.Datetime("us")), "number") == [None]
    assert cast(pl.Series([date(2024, 2, 29)]), "category") == ["2024-02-29"]
    assert cast(pl.Series([datetime(2024, 2, 29, 12, 5)]), "category") == ["2024-02-29 12:05:00"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["Yes", "no", "No", "No", None], ["No", "Yes"]),
        (["5", "5", "5", "yes", "no", "nan"], ["no", "yes"]),
        (["0", "1", "1.0"], []),
        (["yes", "yes"], []),
        ([True, False], [False, True]),
    ],
)
def test_the_usual_word_for_true_and_false_is_kept(said: list[Any], words: list[Any]) -> None:
    data = table_settings({"count": "boolean", "x": "number"}, target="count", task="binary").dataset
    spelling = Spelling()
    for part in (said[:2], said[2:]):
        spelling.look(pl.DataFrame({"count": pl.Series(part, dtype=pl.Boolean if said[0] is True else pl.String)}), data)
    assert spelling.words() == words


def test_a_dictionary_encoded_column_is_a_category() -> None:
    assert cast(pl.Series(["a", None, "b"], dtype=pl.Categorical), "category") == ["a", None, "b"]


DATES = {
    "2024-02-29": datetime(2024, 2, 29),
    "2024-2-9": datetime(2024, 2, 9),
    "2024-02-29 13:05": datetime(2024, 2, 29, 13, 5),
    "2024-02-29 13:05:06": datetime(2024, 2, 29, 13, 5, 6),
    "2024-02-29T13:05:06": datetime(2024, 2, 29, 13, 5, 6),
    "2024-02-29T13:05:06Z": datetime(2024, 2, 29, 13, 5, 6),
    "2024-02-29 13:05:06.123456": datetime(2024, 2, 29, 13, 5, 6, 123456),
    "2024-02-29T13:05:06.5": datetime(2024, 2, 29, 13, 5, 6, 500000),
    "2024-02-29T13:05:06+02:00": datetime(2024, 2, 29, 11, 5, 6),
    "2024-02-29 13:05:06.5-05:00": datetime(2024, 2, 29, 18, 5, 6, 500000),
    " 2024-02-29 ": datetime(2024, 2, 29),
    "29.02.2024": None,
    "2023-02-29": None,
    "2024-02-29 25:00": None,
    "yesterday": None,
}


@pytest.mark.parametrize("text", DATES)
def test_iso_dates_and_times_are_read_as_utc(text: str) -> None:
    assert cast([text], "datetime") == [DATES[text]]


def test_each_text_of_a_mixed_column_is_read_on_its_own() -> None:
    assert cast(list(DATES), "datetime") == list(DATES.values())


def test_casting_twice_changes_nothing() -> None:
    columns = {"n": Column(kind="number"), "i": Column(kind="integer"), "b": Column(kind="boolean"), "c": Column(kind="category")}
    columns["d"] = Column(kind="datetime")
    once = cast_columns(pl.DataFrame({"n": ["1.5"], "i": ["2"], "b": ["yes"], "c": ["x"], "d": ["2024-01-01"]}), columns)
    assert cast_columns(once, columns).equals(once)
    assert once.schema == {"n": pl.Float64, "i": pl.Int64, "b": pl.Int8, "c": pl.String, "d": pl.Datetime("us")}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_every_double_survives_its_text(values: list[float]) -> None:
    assert cast([repr(value) for value in values], "number") == values


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**53) + 1, 2**53 - 1), min_size=1, max_size=20))
def test_every_integer_that_a_double_holds_survives_its_text(values: list[int]) -> None:
    assert cast([str(value) for value in values], "integer") == values


def test_a_null_has_no_reason_for_not_parsing_but_one_for_not_being_allowed() -> None:
    columns = {"v": Column(kind="number", nullable=False, min=0, max=10)}
    source = pl.DataFrame({"v": [None, "x", "-1", "11", "5"]})
    typed = cast_columns(source, columns)
    assert first_reason(unparsed(typed, source, columns), 5).to_list() == [None, "v: not a number", None, None, None]
    assert first_reason(outside(typed, columns), 5).to_list() == ["v: is null", "v: is null", "v: below 0", "v: above 10", None]


def test_the_first_reason_is_told() -> None:
    columns = {"a": Column(kind="number", min=0), "b": Column(kind="number", min=0)}
    frame = pl.DataFrame({"a": [-1.0, 1.0], "b": [-1.0, -1.0]})
    assert first_reason(outside(frame, columns), 2).to_list() == ["a: below 0", "b: below 0"]
