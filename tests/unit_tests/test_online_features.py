"""Raw rows to features: what training's table holds, for a frame and for a few rows, to the bit; and the rule that says so of a version."""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.config.pipeline import Gate, Settings, feature_columns
from mlops_pipeline.contract.evaluation import Evaluation
from mlops_pipeline.contract.moments import moment_in
from mlops_pipeline.contract.spec import Column, Contract, History, Recipe
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.columns import Uncomputable
from mlops_pipeline.features.needs import as_of_source, needed
from mlops_pipeline.features.online import SEVERAL, features_of, frame_of
from mlops_pipeline.features.replay import Drawing, read_replay
from mlops_pipeline.features.rows import Origins, recipe_of
from mlops_pipeline.features.translated import same, translated
from mlops_pipeline.inference.raw import check_state
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.described import described_columns
from mlops_pipeline.modelling.gate import decide
from mlops_pipeline.modelling.skew import Skew, skew_of
from mlops_pipeline.tables.cast import as_moments
from tests.unit_tests.workshop import ingested, layout_in, table_settings

FLIGHTS = Recipe(
    lookups=({"keys": ("origin", "time_hour"), "columns": ("dewp", "humid")},),
    derive={"late": "arr_delay > 15", "date": "CONCAT(year, '-', month, '-', day)", "scheduled_minute": "hour * 60 + minute"},
    counts={"flights_that_day": ("date",)},
    history={"late_rate": History(7, ("carrier", "dest"))},
    target="late",
    time_column="date",
)


def test_what_a_raw_row_holds_is_what_the_features_need_and_nothing_of_the_outcome() -> None:
    names = "year month day hour minute time_hour carrier origin dest arr_delay tailnum date late scheduled_minute dewp humid"
    columns = {name: name.upper() for name in (*names.split(), "flights_that_day", "late_rate")}
    raw, made = needed(["origin", "scheduled_minute", "dewp", "late_rate"], FLIGHTS, columns)
    assert list(raw) == ["year", "month", "day", "hour", "minute", "time_hour", "carrier", "origin", "dest"]
    assert list(made) == ["date", "scheduled_minute", "dewp", "late_rate"]
    assert needed(["origin", "carrier"], FLIGHTS, columns) == ({}, {})
    assert list(needed(["scheduled_minute"], FLIGHTS, columns)[0]) == ["hour", "minute"]


def test_rows_on_which_sql_fails_are_looked_for_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is told of a few: to look for each of its ten thousand would hold the server up."""
    score = {"score": Column("number")}
    recipe = Recipe(derive={"score": "CAST(floor AS INTEGER)"})
    contract = Contract(task="regression", columns=score, raw={"floor": Column("category")}, made=score, recipe=recipe)
    looks, select = list[int](), pl.DataFrame.select

    def counted(frame: pl.DataFrame, *given: Any, **named: Any) -> pl.DataFrame:
        looks.append(frame.height)
        return select(frame, *given, **named)

    monkeypatch.setattr(pl.DataFrame, "select", counted)
    with pytest.raises(Uncomputable, match="column 'score' has no value on row 0") as failed:
        features_of(contract, None).of_frame(pl.DataFrame({"floor": ["attic"] * 5_000}))
    assert list(islice(failed.value.rows, 20)) == list(range(20))
    assert 20 <= len(looks) < 100


def test_a_column_derived_from_itself_is_the_sources_in_a_raw_row() -> None:
    columns = dict.fromkeys(("size", "twice", "word"), Column("number", min=10, nullable=False))
    recipe = Recipe(derive={"size": "size * 2", "twice": "size * 2"})
    raw, made = needed(["twice", "word"], recipe, columns)
    assert list(raw) == ["size", "word"]
    assert list(made) == ["size", "twice"]
    assert as_of_source(raw, recipe) == {"size": Column("number"), "word": columns["word"]}


def test_a_model_without_a_recipe_has_no_raw_rows_and_one_with_a_state_needs_it() -> None:
    whole = Contract(task="regression", columns={"x": Column("number")})
    assert features_of(whole, None).raw == {}
    counted = msgspec.structs.replace(
        whole, recipe=Recipe(counts={"x": ("k",)}), raw={"k": Column("category")}, made={"x": Column("integer")}
    )
    with pytest.raises(PipelineError, match="'x' is looked up in the features' state, and there is none: run `mlops features refresh`"):
        features_of(counted, None)


# ---------------------------------------------------------------------------------------------------- derived columns

KINDS = {"i": "integer", "j": "integer", "f": "number", "g": "number", "s": "text", "u": "category", "b": "boolean", "t": "datetime"}
WORDS = "CASE WHEN s LIKE 'a%' THEN 'x' WHEN s LIKE '%b' THEN u END"
CASES = "CASE WHEN i > 1 AND f > 0 THEN i WHEN s = 'a' OR b = 1 THEN 2 END"
IN_PYTHON = {
    "integer": f"""i + j * 60; i - 1; -i; i % j; i // j; i * i * i * i; ABS(i); COALESCE(i, 0); NULLIF(i, 7); GREATEST(i, j); {CASES};
        LENGTH(s) - 5; EXTRACT(HOUR FROM t) * 60; i IN (1, 2); EXTRACT(DOW FROM t); EXTRACT(WEEK FROM t); EXTRACT(DOY FROM t);
        i BETWEEN 1 AND 5; s IS NOT NULL; NOT f > g; b + b""",
    "number": """i / j; f / g; f * 1.5 + g; i * 1.5; f - i; FLOOR(f); CEIL(g); ROUND(f, 1); SQRT(f); i > 0.5;
        CASE WHEN f > g THEN f ELSE 0.5 END; COALESCE(f, i); (f / g) > 1; CAST(i AS DOUBLE)""",
    "category": f"""CONCAT(i, '-', j, s); s || u; UPPER(s); TRIM(s); SUBSTR(s, 1, 2); REPLACE(s, 'a', 'b'); f * 2; i > j;
        s IN ('a', 'b'); {WORDS}""",
    "boolean": "i > 1; s < u; f = g; b",
    "datetime": "CONCAT(i, '-', j, '-', 3); s; CAST(t AS DATE); t",
}
BY_POLARS = {"category": "CONCAT(i, f)", "number": "LN(f)", "integer": "TRY_CAST(s AS INTEGER)"}


@cache
def in_python() -> Contract:
    """A recipe whose every column plain Python can make."""
    return contract_with(IN_PYTHON)


def contract_with(expressions: dict[str, str]) -> Contract:
    derive, made = {}, {}
    for kind, listed in expressions.items():
        for number, sql in enumerate(re.split(r";\s+", listed)):
            derive[f"{kind} {number}"], made[f"{kind} {number}"] = sql, Column(kind)
    recipe, raw = Recipe(derive=derive), {name: Column(kind) for name, kind in KINDS.items()}
    known = translated(recipe, made, frame_of([], raw))
    return Contract(task="regression", columns=made, raw=raw, made=made, recipe=recipe, expressions=known)


NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0, 0.5, 1.0, -2.5]))
WHOLE = st.one_of(st.none(), st.integers(-(2**53) + 1, 2**53 - 1), st.integers(-3, 30))
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "b", "ab", "2024-2-29", " x", "É"]), st.text("aB2-: Tß\t", max_size=8))
MOMENTS = st.one_of(st.none(), st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)))
ROWS = st.lists(st.tuples(WHOLE, WHOLE, NUMBERS, NUMBERS, TEXTS, TEXTS, st.sampled_from([None, 0, 1]), MOMENTS), min_size=1, max_size=20)


@settings(max_examples=30)
@given(rows=ROWS)
def test_derived_columns_of_rows_and_of_columns_are_those_of_a_frame_to_the_bit(rows: list[tuple[Any, ...]]) -> None:
    contract = in_python()
    features = features_of(contract, None)
    assert features.is_quick, contract.recipe.derive.keys() - contract.expressions.keys()
    for given_ in (rows, (rows * SEVERAL)[: SEVERAL + len(rows)]):
        frame = features.of_frame(frame_of(given_, features.raw))
        for found, expected in zip(features.of_rows(given_), frame.rows(), strict=True):
            for name, one, other in zip(features.names, found, expected, strict=True):
                assert same(one, other), (name, contract.recipe.derive[name], one, other)


def test_an_expression_that_python_does_not_carry_out_is_served_all_the_same() -> None:
    contract = contract_with(BY_POLARS)
    assert contract.expressions == {}
    features = features_of(contract, None)
    assert not features.is_quick
    row = (1, 2, 1.0, 0.5, "7", "b", 1, None)
    assert features.of_rows([row]) == [("11.0", 0.0, 7)]


def test_a_moment_is_read_of_a_text_as_training_reads_it() -> None:
    parts = [["2024", "24", "0", "10000"], ["-", "/", "- "], ["2", "12", "13", "002"], ["-"], ["29", "30", "5"]]
    parts += [
        ["", " 1:5", "T23:59:60", " 2:3:4.5", " 24:00", "T01:02:03.123456789"],
        ["", "Z", " UTC", "+02:00", "-0530", "+25:00", "-07", "x"],
    ]
    texts = [""]
    for each in parts:
        texts = [text + part for text in texts for part in each]
    assert list(map(moment_in, texts)) == as_moments(pl.Series(texts)).to_list()


# ------------------------------------------------------------------------------------------- features computed again

COLUMNS: dict[str, Any] = {
    "year": {"kind": "integer", "nullable": False},
    "day": {"kind": "integer", "min": 1},
    "place": {"kind": "category", "nullable": False},
    "at": {"kind": "datetime", "nullable": False},
    "secret": {"kind": "number", "private": True},
    "size": {"kind": "number"},
    "date": {"kind": "datetime", "nullable": False},
    "twice": {"kind": "number"},
    "hidden": {"kind": "number", "private": True},
    "rain": {"kind": "number"},
    "third": {"kind": "integer"},
    "that_day": {"kind": "integer"},
    "before": {"kind": "number"},
    "mean_size": {"kind": "number"},
    "mean_third": {"kind": "number"},
    "y": {"kind": "number"},
}
MORE: dict[str, Any] = {
    "time_column": "at",
    "derive": {"date": "CONCAT(year, '-', 1, '-', day)", "twice": "size * 2", "hidden": "secret + 1", "third": "day // 7"},
    "lookups": [{"path": "rain.csv", "keys": ["place", "day"]}],
    "counts": {"that_day": ["date"]},
    "history": {"before": {"by": ["place"], "days": 7, "prior_rows": 2}},
    "aggregates": {
        "mean_size": {"how": "mean", "of": "size", "by": ["place"], "window": "36h"},
        "mean_third": {"how": "mean", "of": "size", "by": ["third"]},
    },
}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, Contract]:
    """A table with a recipe of every kind that has been read, its last days held out, and the contract of a model that takes all."""
    folder = tmp_path_factory.mktemp("recipe")
    lines = ["year,day,place,at,secret,size,y"]
    for n in range(300):  # rows 60 apart share day, place and second
        at = f"2024-01-{1 + n % 20:02} 10:00:{n % 60:02}.{n % 7}"
        cells = (2024, 1 + n % 20, "abc"[n % 3], at, f"{n / 7:.3f}", "" if n % 11 == 5 else n / 3, "" if n % 13 == 4 else n % 9)
        lines.append(",".join(map(str, cells)))
    (folder / "table.csv").write_text("\n".join([*lines, "2024,x,a,2024-01-01,1,1,1"]) + "\n")
    (folder / "rain.csv").write_text("place,day,rain\n" + "".join(f"{'abc'[n % 3]},{1 + n % 17},{n / 10}\n" for n in range(51)))
    chosen = table_settings(COLUMNS, **MORE)
    table, _, _ = ingested(folder, chosen)
    layout = layout_in(folder, chosen)
    layout.test.parent.mkdir(parents=True)
    table.filter(pl.col("day") > 15).write_parquet(layout.test)
    return layout, contract_of(chosen, layout, table)


def contract_of(chosen: Settings, layout: Layout, table: pl.DataFrame) -> Contract:
    data, features = chosen.dataset, feature_columns(chosen)
    recipe = recipe_of(data, Origins.at(layout.origins))
    raw, made = (described_columns(each, table) for each in needed(features, recipe, data.columns))
    columns = described_columns(features, table)
    seen = {"place": ["a", "b", "c"]}
    known = translated(recipe, made, table)
    about = {"task": "regression", "categories": seen, "null_values": data.source.null_values}
    return Contract(columns=columns, recipe=recipe, raw=raw, made=made, expressions=known, **about)


JUDGED = Evaluation(metric="rmse", confidence=0.95, test_rows=9)


def again(layout: Layout, contract: Contract) -> Skew | None:
    return skew_of(contract, layout.replay, layout.raw, layout.test)


def test_features_computed_again_from_the_sources_rows_are_the_tables(known: tuple[Layout, Contract]) -> None:
    layout, contract = known
    assert list(contract.raw) == ["year", "day", "place", "at", "secret", "size"]
    assert again(layout, contract) == Skew(pl.read_parquet(layout.test).height)
    kept = read_replay(layout.replay)
    assert kept.state is not None
    check_state(contract, kept.state)
    assert again(layout, msgspec.structs.replace(contract, raw={}, made={})) is None


def test_requests_of_many_rows_one_after_another_are_given_what_each_row_is_given_alone(known: tuple[Layout, Contract]) -> None:
    """``third`` is one value of many days: a key that a request holds several times, and the next ones too."""
    layout, contract = known
    state = read_replay(layout.replay).state
    assert state is not None
    features, alone = features_of(contract, state), features_of(contract, state)
    assert features.is_quick
    for days in (range(7), range(7, 14), range(14, 21), range(21)):
        cells = [(day, datetime(2024, 1, 20, 12, number % 60)) for number, day in enumerate([*days] * SEVERAL)]
        rows: list[tuple[Any, ...]] = [(2024, day, "abc"[day % 3], at, 0.5, 1.0) for day, at in cells]
        assert features.of_rows(rows) == [alone.of_rows([row])[0] for row in rows]


DIFFERENT: dict[str, tuple[str, str, list[str]]] = {
    "the recipe is another one": ("derive", "twice", ["size * 3"]),
    "Python would carry it out otherwise": ("expressions", "twice", [{"of": ["*", ["column", "size"], ["value", 3.0]], "held": "float"}]),
    "a private column": ("derive", "hidden", ["secret + 2"]),
    "the state is asked for another key": ("counts", "that_day", [("day",)]),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_difference_names_column_and_row_and_fails_the_gate(case: str, known: tuple[Layout, Contract]) -> None:
    layout, contract = known
    part, name, [instead] = DIFFERENT[case]
    owner = contract if part == "expressions" else contract.recipe
    changed = msgspec.structs.replace(owner, **{part: {**getattr(owner, part), name: instead}})
    found = again(layout, changed if isinstance(changed, Contract) else msgspec.structs.replace(contract, recipe=changed))
    assert found is not None
    if part == "counts":  # its key is a whole number there, and no moment: nothing is found
        assert "None" not in found.difference
    assert found.difference.startswith(f"column '{name}' of row ")
    assert ("another than in the table" in found.difference) == (name == "hidden")
    row = int(found.difference.split(" of row ")[1].split()[0])
    assert (row - 1) % 20 + 1 > 15
    rules = {rule.name: rule for rule in decide(Gate(), JUDGED, latency_ms=1, size_mb=1, skew=found)}
    assert not rules["skew"].passed
    assert found.difference in rules["skew"].text


def test_the_rule_is_silent_without_a_recipe_and_can_be_switched_off() -> None:
    for gate, skew in ((Gate(), None), (Gate(skew=None), Skew(9, "column 'x'")), (Gate(skew=False), Skew(9, "column 'x'"))):
        rules = decide(gate, JUDGED, latency_ms=1, size_mb=1, skew=skew)
        assert "skew" not in {rule.name for rule in rules}


def test_rows_are_drawn_from_the_whole_source_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlops_pipeline.features import replay, rows

    monkeypatch.setattr(replay, "DRAWN", 100)
    kinds = {"x": "number", "y": "number", "z": "number"}
    drawing, idle = Drawing(table_settings(kinds, derive={"z": "x + 1"})), Drawing(table_settings(kinds))
    for begin in range(0, 5000, 500):
        frame = pl.DataFrame({"x": [1.0] * 500, "y": [None if n % 10 == 0 else 1.0 for n in range(500)]})
        numbers = pl.int_range(begin + 1, begin + 501, eager=True)
        chunk = rows.TypedRows(frame, [], 50, 500, frame, numbers, pl.repeat(True, 500, eager=True))
        drawing.look(chunk)
        idle.look(chunk)
    drawn = drawing.rows()
    assert idle.rows().is_empty()
    assert drawn.height == 100
    assert drawn[replay.PLACE].is_sorted()
    assert drawn[replay.NUMBER].to_list() == [place // 9 * 10 + place % 9 + 2 for place in drawn[replay.PLACE]]
    assert math.isclose(float(drawn[replay.NUMBER].mean()), 2500, rel_tol=0.1)  # type: ignore[arg-type]
