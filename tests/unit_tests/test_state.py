"""Columns of other rows: what each is, held against a slow and obvious way; one row and many, whole and in parts, to the bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.config.dataset import Aggregate
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.keyed import rows_part, state_of
from mlops_pipeline.features.keys import microseconds
from mlops_pipeline.features.rows import recipe_of
from mlops_pipeline.features.state import FeatureState
from tests.unit_tests.workshop import assert_one_line, ingested, table_settings

START = datetime(2024, 2, 25, 23)
SCHEMA = {"t": pl.Datetime("us"), "k": pl.String, "n": pl.Int64, "x": pl.Float64, "word": pl.String, "y": pl.Int8}
KINDS = {"t": "datetime", "k": "category", "n": "integer", "x": "number", "word": "category", "y": "boolean"}

HOWS: dict[str, dict[str, Any]] = {
    "mean": {"how": "mean", "of": "x"},
    "sum": {"how": "sum", "of": "x"},
    "rows": {"how": "count"},
    "words": {"how": "count", "of": "word"},
    "least": {"how": "min", "of": "x"},
    "most": {"how": "max", "of": "n"},
    "last_x": {"how": "last", "of": "x"},
    "last_word": {"how": "last", "of": "word"},
    "different": {"how": "distinct", "of": "word"},
    "share": {"how": "share", "of": "word", "value": "a"},
    "truths": {"how": "share", "of": "y", "value": "yes"},
}
WHERE: list[dict[str, Any]] = [
    {"by": ["k"], "window": "36h"},
    {"by": ["k", "n"], "window": "3d", "known_after": "1d"},
    {"by": ["n"], "known_after": "5h"},
    {"by": [], "window": "90min"},
]
MADE_KINDS = {"rows": "integer", "words": "integer", "most": "integer", "last_word": "category", "different": "integer"}


class Row(NamedTuple):
    t: datetime | None
    k: str | None
    n: int | None
    x: float | None
    word: str | None
    y: int | None


def aggregates_of(where: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {**how, **where} for name, how in HOWS.items()}


def made_by(where: dict[str, Any]) -> Any:
    kinds = KINDS | {name: MADE_KINDS.get(name, "number") for name in HOWS}
    more = {"time_column": "t", "aggregates": aggregates_of(where), "counts": {"seen": ["k", "n"]}}
    content = table_settings({**kinds, "seen": "integer"}, task="binary", **more)
    data = content.dataset
    return recipe_of(data), {name: column.kind for name, column in data.columns.items()}, data.aggregates


ABOUT = {json_key: made_by(where) for json_key, where in enumerate(WHERE)}

HOURS = st.one_of(st.none(), st.integers(0, 12).map(lambda half: half * 0.5), st.integers(0, 200).map(float))
ROW = st.builds(
    Row,
    HOURS.map(lambda hours: None if hours is None else START + timedelta(hours=hours)),
    st.sampled_from(["a", "b", "", None]),
    st.sampled_from([1, 2, None]),
    st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 0.1, 0.2])),
    st.sampled_from(["a", "b", "ä", "", None]),
    st.sampled_from([0, 1, None]),
)
ROWS = st.lists(ROW, min_size=1, max_size=30)


def frame_of(rows: Sequence[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def obvious(made: Aggregate, rows: Sequence[Row], row: Row) -> Any:
    """What an aggregate of a row is, as its description says it."""
    if row.t is None:
        return None
    until = row.t - timedelta(microseconds=made.known_after_us)
    since = datetime(1, 1, 1) if made.window_us is None else until - timedelta(microseconds=made.window_us)
    seen = [each for each in rows if each.t is not None and since <= each.t < until]
    seen = [each for each in seen if all(getattr(each, name) == getattr(row, name) for name in made.by)]
    seen = sorted((each for each in seen if made.of is None or getattr(each, made.of) is not None), key=lambda each: each.t or START)
    values = [1 if made.of is None else getattr(each, made.of) for each in seen]
    always = {"count": len(values), "distinct": len(set(values)), "sum": math.fsum(values) if made.how == "sum" else None}
    if made.how in always or not values:
        return always.get(made.how)
    if made.how == "share":
        return sum(value == (1 if made.of == "y" else made.value) for value in values) / len(values)
    return math.fsum(values) / len(values) if made.how == "mean" else {"min": min(values), "max": max(values), "last": values[-1]}[made.how]


def asked(state: FeatureState, name: str, frame: pl.DataFrame) -> pl.Series:
    return state.values(name, frame.select(state.keys_of(name)).get_columns(), frame["t"])


def one_by_one(state: FeatureState, name: str, frame: pl.DataFrame) -> list[Any]:
    keys = frame.select(state.keys_of(name)).iter_rows() if state.keys_of(name) else [()] * frame.height
    return [state.value(name, tuple(key), None if t is None else microseconds(t)) for key, t in zip(keys, frame["t"], strict=True)]


def bits(values: Sequence[Any]) -> list[Any]:
    return [value.hex() if isinstance(value, float) else value for value in values]


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, where=st.sampled_from(range(len(WHERE))))
def test_aggregates_are_what_their_description_says(rows: list[Row], where: int) -> None:
    recipe, kinds, described = ABOUT[where]
    frame = frame_of(rows)
    state = state_of(frame.lazy(), recipe, kinds)
    for name, made in described.items():
        found = asked(state, name, frame)
        for row, value in zip(rows, found, strict=True):
            expected = obvious(made, rows, row)
            same = (
                math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-6)
                if isinstance(expected, float) and value is not None
                else value == expected
            )
            assert same, (name, row, value, expected)
        assert bits(one_by_one(state, name, frame)) == bits(found.to_list())


def of_x(values: Sequence[float]) -> pl.DataFrame:
    return frame_of([Row(START + timedelta(days=day), "a", 1, value, None, None) for day, value in enumerate(values)])


SUMS = {name: HOWS[name] | {"by": ["k"], "window": "36h"} for name in ("sum", "mean")}
SMALL = table_settings({**KINDS, "sum": "number", "mean": "number"}, task="binary", time_column="t", aggregates=SUMS)


@pytest.mark.parametrize(
    ("values", "sums"),
    [
        ([1e17, 0.125, 0.25, 0.5], [0.0, 1e17, 0.125, 0.25]),
        ([1e300, 1.0, -1e300, 0.5, 0.25], [0.0, 1e300, 1.0, -1e300, 0.5]),
        ([1.7e308, 1.7e308, 1.5, 2.5, 3.5], [0.0, 1.7e308, 1.7e308, 1.5, 2.5]),
        ([math.inf, 0.5, -math.inf, 0.25, 2.0], [0.0, 0.0, 0.5, 0.0, 0.25]),
    ],
)
def test_a_great_value_takes_nothing_from_the_small_ones_after_it(values: list[float], sums: list[float]) -> None:
    frame = of_x(values)
    kinds = {name: column.kind for name, column in SMALL.dataset.columns.items()}
    for cut in range(len(values)):
        first = state_of(frame.head(cut).lazy(), recipe_of(SMALL.dataset), kinds)
        new, recipe = frame.slice(cut).lazy(), recipe_of(SMALL.dataset)
        parts = [[rows_part(table.described, table.keys, new, recipe, table), *table.parts] for table in first.tables]
        state = first.with_parts(parts, START)
        assert asked(state, "sum", frame).to_list() == sums == one_by_one(state, "sum", frame)
        means = asked(state, "mean", frame).to_list()
        assert means[1:] == [None if total == 0 else total for total in sums[1:]]
        assert means == one_by_one(state, "mean", frame)


def test_a_sum_beyond_all_numbers_is_null_and_the_mean_is_there() -> None:
    rows = [Row(START + timedelta(hours=hour), "a", 1, 1.7e308, None, None) for hour in range(3)]
    kinds = {name: column.kind for name, column in SMALL.dataset.columns.items()}
    state = state_of(frame_of(rows).lazy(), recipe_of(SMALL.dataset), kinds)
    for name, last in (("sum", None), ("mean", 1.7e308)):
        assert asked(state, name, frame_of(rows)).to_list()[-1] == one_by_one(state, name, frame_of(rows))[-1] == last


@settings(max_examples=20, deadline=None)
@given(rows=ROWS, random=st.randoms(use_true_random=False))
def test_in_what_order_the_rows_of_a_moment_came_is_no_matter(rows: list[Row], random: Any) -> None:
    recipe, kinds, described = ABOUT[0]
    mixed = random.sample(rows, len(rows))
    one, other = (state_of(frame_of(each).lazy(), recipe, kinds) for each in (rows, mixed))
    for name in described:
        if not name.startswith("last"):
            assert bits(asked(one, name, frame_of(rows)).to_list()) == bits(asked(other, name, frame_of(rows)).to_list())


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, where=st.sampled_from(range(len(WHERE))), cut=st.integers(0, 200))
def test_a_state_that_went_on_gives_the_bits_of_one_made_at_once(rows: list[Row], where: int, cut: int) -> None:
    recipe, kinds, _ = ABOUT[where]
    frame = frame_of(rows)
    whole = state_of(frame.lazy(), recipe, kinds)
    early = pl.col("t").fill_null(START) < START + timedelta(hours=cut)
    old, new = frame.filter(early), frame.filter(~early)
    first = state_of(old.lazy(), recipe, kinds)
    parts = [[rows_part(table.described, table.keys, new.lazy(), recipe, table), *table.parts] for table in first.tables]
    grown = first.with_parts(parts, whole.as_of)
    for name in (*recipe.aggregates, "seen"):
        expected = asked(whole, name, frame)
        assert bits(asked(grown, name, frame).to_list()) == bits(expected.to_list()), name
        assert bits(one_by_one(grown, name, frame)) == bits(expected.to_list()), name


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "nothing to be of": ({"how": "mean"}, ("aggregates.rate", "'mean' needs 'of'")),
    "a share of no value": ({"how": "share", "of": "word"}, ("'share' needs 'value'",)),
    "a value without a share": ({"how": "mean", "of": "x", "value": 1}, ("'value' is for how: share",)),
    "a truth that is none": ({"how": "share", "of": "y", "value": "maybe"}, ("'maybe'", "boolean")),
    "a mean of words": ({"how": "mean", "of": "word"}, ("'word'", "category", "use count, distinct, last or share")),
    "a month": ({"how": "count", "window": "1mo"}, ("aggregates.rate.window", "1mo", "31d")),
    "no span": ({"how": "count", "window": "a while"}, ("aggregates.rate.window", "31d")),
    "no such column": ({"how": "count", "by": ["nowhere"]}, ("aggregates.rate", "'nowhere'")),
    "of the target's key": ({"how": "count", "by": ["y"]}, ("'rate'", "'y'", "known only after the outcome")),
    "of another of them": ({"how": "count", "by": ["seen"]}, ("aggregates.rate", "'seen'", "made of other rows")),
    "an unknown way": ({"how": "median", "of": "x"}, ("aggregates.rate.how", "mean")),
}


@pytest.mark.parametrize("case", BAD)
def test_an_aggregate_that_cannot_be_is_told_in_one_line(case: str) -> None:
    made, words = BAD[case]
    columns = {**KINDS, "rate": "number", "seen": "integer"}
    with pytest.raises(PipelineError) as caught:
        table_settings(columns, task="binary", time_column="t", counts={"seen": ["k"]}, aggregates={"rate": made})
    assert_one_line(caught.value, *words)


def test_an_aggregate_of_another_kind_than_its_column_is_told_in_one_line() -> None:
    with pytest.raises(PipelineError) as caught:
        table_settings({**KINDS, "rate": "integer"}, time_column="t", aggregates={"rate": {"how": "mean", "of": "x"}})
    assert_one_line(caught.value, "aggregates.rate", "mean of 'x'", "number", "integer")


def test_a_count_by_nothing_is_told_in_one_line() -> None:
    with pytest.raises(PipelineError) as caught:
        table_settings({"y": "number", "all": "integer"}, counts={"all": []})
    assert_one_line(caught.value, "counts.all", "no column")


def test_aggregates_without_a_time_are_told_in_one_line() -> None:
    with pytest.raises(PipelineError) as caught:
        table_settings({**KINDS, "rate": "integer"}, aggregates={"rate": {"how": "count"}})
    assert_one_line(caught.value, "aggregates need a time_column")


def test_what_tells_a_private_columns_value_is_private() -> None:
    columns = {**KINDS, "x": {"kind": "number", "private": True}, "most": "number", "usual": "number"}
    aggregates = {"most": {"how": "max", "of": "x", "by": ["k"]}, "usual": {"how": "mean", "of": "x"}}
    described = table_settings(columns, task="binary", time_column="t", aggregates=aggregates).dataset.columns
    assert described["most"].private
    assert described["usual"].private, "of one row, the mean is its value"


def test_an_aggregate_is_a_column_of_the_training_table(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(
        "t,shop,price,y\n2024-01-01T09:00,a,1,1\n2024-01-01T10:00,a,3,\n2024-01-02T09:00,b,5,2\n2024-01-02T09:30,a,7,3\n"
    )
    aggregates = {
        "usual": {"how": "mean", "of": "price", "by": ["shop"], "window": "24h"},
        "busy": {"how": "count", "window": "1d", "known_after": "1h"},
    }
    columns = {"t": "datetime", "shop": "category", "price": "number", "y": "number", "usual": "number", "busy": "integer"}
    table, _, _ = ingested(tmp_path, table_settings(columns, time_column="t", aggregates=aggregates))
    assert table.select("y", "usual", "busy").rows() == [(1, None, 0), (2, None, 2), (3, 3.0, 2)]
