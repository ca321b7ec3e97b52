"""`mlops features refresh`: each row counts once, a day more gives what the whole gives, and no moment of death does harm."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.spec import Column as ContractColumn
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features import versions
from mlops_pipeline.features.journal import kept_of
from mlops_pipeline.features.keyed import StatePlan, state_of
from mlops_pipeline.features.keys import microseconds
from mlops_pipeline.features.refresh import refresh, show
from mlops_pipeline.features.rows import recipe_of
from mlops_pipeline.features.state import REMEMBERED, FeatureState, open_state, version_folder
from mlops_pipeline.features.versions import Origin, Refreshed, Versions
from mlops_pipeline.inference.raw import check_state
from mlops_pipeline.pipeline.stages import ingest as stage
from mlops_pipeline.pipeline.stages.ingest import ingest
from mlops_pipeline.serving.computing import computing
from tests.conftest import REPOSITORY
from tests.unit_tests.workshop import assert_one_line, ingested, layout_in, quiet, table_settings

COLUMNS: dict[str, Any] = {
    "t": "datetime",
    "shop": {"kind": "category", "private": True},
    "price": "number",
    "word": "category",
    "y": "boolean",
    "seen": "integer",
    "rate": "number",
    "usual": "number",
    "least": "number",
    "different": "integer",
    "newest": "category",
}
RECIPE: dict[str, Any] = {
    "time_column": "t",
    "counts": {"seen": ["shop"]},
    "history": {"rate": {"by": ["shop"], "days": 3, "prior_rows": 2}},
    "aggregates": {
        "usual": {"how": "mean", "of": "price", "by": ["shop"], "window": "36h", "known_after": "1d"},
        "least": {"how": "min", "of": "price", "window": "20d"},
        "different": {"how": "distinct", "of": "word", "by": ["shop"]},
        "newest": {"how": "last", "of": "word", "by": ["shop"], "window": "9d"},
    },
}
OWN = ("t", "shop", "price", "word", "y")
START = datetime(2024, 2, 1)
HEADER = ",".join(OWN) + "\n"


def shops(**more: Any) -> Settings:
    return table_settings(COLUMNS, task="binary", **{**RECIPE, **more})


WIDER = table_settings(
    COLUMNS | {"size": "number", "most": "integer"},
    task="binary",
    **{**RECIPE, "derive": {"size": "price * 2"}, "counts": {**RECIPE["counts"], "most": ["size"]}},
)
"""A recipe that makes all of the same, and keeps a column more."""

DATA = shops().dataset
PLAN = StatePlan(recipe_of(DATA), {name: column.kind for name, column in DATA.columns.items()})
KEPT = kept_of(PLAN, DATA, OWN)
SCHEMA = {"t": pl.Datetime("us"), "shop": pl.String, "price": pl.Float64, "word": pl.String, "y": pl.Int8}


def typed(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def taken(folder: Path, rows: Sequence[tuple[Any, ...]]) -> Refreshed:
    return Versions(folder).refresh(PLAN, KEPT, KEPT.of(typed(rows)), [], Origin({}, OWN))


def told(state: FeatureState, frame: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame([state.values(name, frame.select(state.keys_of(name)).get_columns(), frame["t"]) for name in state.columns])


ROW = st.tuples(
    st.one_of(st.none(), st.integers(0, 60).map(lambda halves: START + timedelta(hours=12 * halves))),
    st.sampled_from(["a", "b", None]),
    st.one_of(st.none(), st.floats(-1e3, 1e3)),
    st.sampled_from(["x", "y", None]),
    st.sampled_from([0, 1, None]),
)


@settings(max_examples=10, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=25), cuts=st.lists(st.integers(0, 25), max_size=3))
def test_a_state_brought_up_to_date_is_the_state_made_at_once(
    rows: list[tuple[Any, ...]], cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Outcomes come a batch after their rows, and every batch comes twice."""
    folder = tmp_path_factory.mktemp("state")
    unknown = [(*row[:4], None) for row in rows]
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for begin, end in pairwise(bounds):
        for batch in (rows[:begin] + unknown[begin:end], rows[begin:end], rows[begin:end]):
            done = taken(folder, batch) if batch else None
    assert done is None or (not done.is_new and done.new == done.changed == 0)
    frame = typed(rows)
    whole = state_of(frame.lazy(), PLAN.recipe, dict(zip(COLUMNS, (DATA.columns[name].kind for name in COLUMNS), strict=True)))
    brought = open_state(folder)
    assert told(brought, frame).equals(told(whole, frame))
    assert Versions(folder).current().journal.rows == len(rows)  # type: ignore[union-attr]


def of_day(day: int) -> list[tuple[Any, ...]]:
    return [(START + timedelta(days=day, hours=hour), "ab"[hour % 2], hour / 10, "xyz"[day % 3], hour % 2) for hour in range(4)]


def of_days(count: int) -> list[tuple[Any, ...]]:
    return list(chain.from_iterable(map(of_day, range(count))))


def test_a_day_more_shares_the_old_rows_and_the_newest_versions_stay(tmp_path: Path) -> None:
    first = taken(tmp_path, of_days(20))
    for day in range(20, 25):
        last = taken(tmp_path, of_day(day))
    assert (last.new, last.rows, last.state.as_of) == (4, 100, datetime.fromisoformat("2024-02-25T03:00Z"))
    names = Versions(tmp_path).names()
    assert len(names) == versions.VERSIONS
    assert names[-1] == last.version
    assert {place.name for place in (tmp_path / "journal").iterdir()} == set(names)
    old = [(tmp_path / name / "0.1.bin").stat().st_ino for name in names]
    assert len(set(old)) == 1
    assert first.state.value("seen", ("a",), None) == 40  # a version that is gone is still read by who had it open
    assert (tmp_path / "journal" / last.version / "old.parquet").stat().st_mode & 0o077 == 0


def test_a_state_that_keeps_some_days_gives_these_days_the_same_bits_and_those_before_null(tmp_path: Path) -> None:
    keep = timedelta(days=10)
    origin = Origin({}, OWN, keep // timedelta(microseconds=1))
    rows = KEPT.of(typed(of_days(60)))
    kept = Versions(tmp_path / "kept").refresh(PLAN, KEPT, rows, [], origin).state
    whole = Versions(tmp_path / "whole").refresh(PLAN, KEPT, rows, [], Origin({}, OWN)).state
    assert kept.size < whole.size
    kept = Versions(tmp_path / "kept").refresh(PLAN, KEPT, KEPT.of(typed(of_day(60))), [], origin).state
    whole = taken(tmp_path / "whole", of_day(60)).state
    late, early = typed(of_days(62)[-44:]), typed(of_days(49))
    assert told(kept, late).equals(told(whole, late))
    assert told(kept, early).drop("seen").null_count().sum_horizontal().item() == early.height * (len(kept.columns) - 1)


def test_many_rows_asked_at_once_get_null_as_one_does_where_the_state_has_forgotten(tmp_path: Path) -> None:
    day_us = timedelta(days=1) // timedelta(microseconds=1)
    state = Versions(tmp_path).refresh(PLAN, KEPT, KEPT.of(typed(of_days(60))), [], Origin({}, OWN, 10 * day_us)).state
    moments = [microseconds(START + timedelta(days=day)) for day in range(20, 60)]
    for name in state.columns:
        key = ("a",) if state.keys_of(name) else ()
        each = [state.value(name, key, moment) for moment in moments]
        assert state.many(name, [key], np.zeros(len(moments), dtype=np.int64), np.array(moments)).listed() == each
        assert name == "seen" or None in each


KEYS = st.lists(
    st.tuples(st.sampled_from([0.0, -0.0, 1.0, 2.5, 7.0, None]), st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=9
)
"""Of one call: a column that is derived may hold a value several times, and there are two zeros."""


@pytest.fixture(scope="module")
def of_prices(tmp_path_factory: pytest.TempPathFactory) -> FeatureState:
    columns = {
        "t": "datetime",
        "price": "number",
        "shop": "category",
        "y": "boolean",
        "usual": "number",
        "rate": "number",
        "both": "number",
    }
    rates = {"rate": {"by": ["price"], "days": 9}, "both": {"by": ["price", "shop"], "days": 9, "prior_rows": 1}}
    means = {"usual": {"how": "mean", "of": "price", "by": ["shop"]}}
    data = table_settings(columns, task="binary", time_column="t", history=rates, aggregates=means).dataset
    plan = StatePlan(recipe_of(data), {name: column.kind for name, column in data.columns.items()})
    kept = kept_of(plan, data, ("t", "price", "shop", "y"))
    rows = [(START + timedelta(hours=3 * n), "ab"[n % 2], [0.0, 1.0, 2.5, None][n // 3 % 4], "x", n // 5 % 2) for n in range(200)]
    return Versions(tmp_path_factory.mktemp("prices")).refresh(plan, kept, kept.of(typed(rows)), [], Origin({}, OWN)).state


@settings(max_examples=25, deadline=None)
@given(calls=st.lists(KEYS, min_size=2, max_size=6), remembered=st.sampled_from([9, 12, REMEMBERED]))
def test_a_state_asked_for_many_rows_again_and_again_says_what_it_says_of_each(
    calls: list[list[tuple[Any, Any]]], remembered: int, of_prices: FeatureState
) -> None:
    """Whatever keys, equal ones among them, the calls before had, and where it forgets them between."""
    state = of_prices.with_parts([table.parts for table in of_prices.tables], of_prices.as_of)
    moments = [microseconds(START + timedelta(days=day)) for day in range(30)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_pipeline.features.state.REMEMBERED", remembered)
        for rows in calls:
            places = [number % len(rows) for number in range(len(moments))]
            for name, taken_ in {"rate": slice(1), "both": slice(2), "usual": slice(1, 2)}.items():
                keys = [row[taken_] for row in rows]
                each = [of_prices.value(name, keys[place], moment) for place, moment in zip(places, moments, strict=True)]
                assert state.many(name, keys, np.array(places), np.array(moments)).listed() == each


def test_what_is_kept_reaches_back_to_what_was_known_at_the_first_row_that_is_asked_of(tmp_path: Path) -> None:
    """Two means of one table: one of all rows but the last three days', one of the twenty days before."""
    columns = {"t": "datetime", "price": "number", "y": "boolean", "all": "number", "some": "number"}
    means = {"all": {"how": "mean", "of": "price", "known_after": "3d"}, "some": {"how": "mean", "of": "price", "window": "20d"}}
    data = table_settings(columns, task="binary", time_column="t", aggregates=means).dataset
    plan = StatePlan(recipe_of(data), {name: column.kind for name, column in data.columns.items()})
    kept, keep = kept_of(plan, data, ("t", "price", "y")), timedelta(days=10) // timedelta(microseconds=1)
    rows = kept.of(typed(of_days(60)))
    some = Versions(tmp_path / "kept").refresh(plan, kept, rows, [], Origin({}, OWN, keep)).state
    whole = Versions(tmp_path / "whole").refresh(plan, kept, rows, [], Origin({}, OWN)).state
    assert some.size < whole.size
    late = typed(of_days(60)[-40:])
    assert told(some, late).equals(told(whole, late))


def test_a_row_of_the_future_makes_no_state_new_and_no_row_forgotten(tmp_path: Path) -> None:
    keep = timedelta(days=10) // timedelta(microseconds=1)
    rows = [*of_days(40), (datetime(2242, 1, 1), "a", 1.0, "x", 1)]
    state = Versions(tmp_path).refresh(PLAN, KEPT, KEPT.of(typed(rows)), [], Origin({}, OWN, keep)).state
    assert state.as_of == datetime.fromisoformat("2024-03-11T03:00Z")
    assert state.value("usual", ("a",), microseconds(START + timedelta(days=39))) is not None
    assert taken(tmp_path / "other", rows[-1:]).state.as_of < datetime.now(UTC) + timedelta(minutes=1)


class Killed(BaseException):
    """As much of a death as a test survives."""


def test_no_moment_of_death_does_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write to the disk, and what comes between, ends in an fsync: dying at each of them leaves the old state or the new."""
    frame = typed(of_days(21))
    old = taken(tmp_path / "0", of_days(20))
    new = told(taken(tmp_path / "whole", of_days(21)).state, frame)
    real, left, died = os.fsync, 0, 0

    def fsync(handle: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    before = told(old.state, frame)
    while True:
        left = died
        try:
            taken(tmp_path / "0", of_day(20))
        except Killed:
            died += 1
        else:
            break
        left = 1 << 30
        found = told(open_state(tmp_path / "0"), frame)
        assert found.equals(before) or found.equals(new)
    assert died > 10
    left = 1 << 30
    assert told(open_state(tmp_path / "0"), frame).equals(new)
    assert taken(tmp_path / "0", of_day(20)).new == 0
    assert not [place for place in (tmp_path / "0").rglob(".*") if place.is_dir()]


def said(settings_: Settings, folder: Path, *arguments: Any, **more: Any) -> str:
    console = quiet()
    refresh(settings_, layout_in(folder, settings_), console, *arguments, **more)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def line(row: tuple[Any, ...]) -> str:
    return ",".join("" if value is None else value.isoformat() if isinstance(value, datetime) else str(value) for value in row) + "\n"


def test_rows_of_a_file_are_taken_in_once_and_outcomes_when_they_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = shops()
    (tmp_path / "table.csv").write_text(HEADER + "".join(map(line, of_days(20))))
    ingested(tmp_path, own)
    state = layout_in(tmp_path, own).state
    assert open_state(state).as_of == datetime.fromisoformat("2024-02-20T03:00Z")
    unknown = tmp_path / "unknown.csv"
    unknown.write_text("t,shop,price,word\n" + "".join(line(row[:4]) for row in of_day(20)) + "2024-02-30,a,1,x\n")
    assert "5 rows read: 4 new, 1 broken (row 5: t: not a datetime)" in said(own, tmp_path, unknown)
    known = tmp_path / "known.csv"
    known.write_text(HEADER + "".join(map(line, of_day(20))))
    assert "4 rows read: 0 new, 4 of which more is known" in said(own, tmp_path, known)
    assert "4 rows read: 0 new\nthe state stays 000003-" in said(own, tmp_path, known)
    assert "0 new" in said(own, tmp_path, unknown)
    unknown.write_text("t,price,word\n2024-01-01,1,x\n")
    with pytest.raises(PipelineError) as caught:
        said(own, tmp_path, unknown)
    assert_one_line(caught.value, f"--input {unknown}", "'shop'")
    assert "no file of the source is new" in said(own, tmp_path)
    with (tmp_path / "table.csv").open("a") as stream:
        stream.write("".join(map(line, of_day(21))))
    assert "84 rows read: 4 new" in said(own, tmp_path)
    console = quiet()
    show(own, layout_in(tmp_path, own), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "as of      2024-02-22T03:00:00 UTC" in shown
    assert "by shop: 2 keys" in shown
    show(own, layout_in(tmp_path, own), console, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["as_of"], facts["version"][7:]) == ("2024-02-22T03:00:00+00:00", facts["digest"][:12])
    assert {"by": ["shop"], "keys": 2, "rows": 4, "columns": ["seen"]} in facts["tables"]
    more = {**RECIPE, "aggregates": {"best": {"how": "max", "of": "price"}, **RECIPE["aggregates"]}}
    other = table_settings(COLUMNS | {"best": "number"}, task="binary", **more)
    assert "is 000005-" in said(other, tmp_path)  # of rows that are known
    assert "stays as it is: it is of another recipe" in made_by_ingest(own, tmp_path)
    with pytest.raises(PipelineError) as caught:
        said(WIDER, tmp_path)
    assert_one_line(caught.value, "4 of its rows came by --input", "--anew")
    assert "84 rows read: 84 new\n" in said(own, tmp_path, anew=True)
    assert "makes them in another way: the state is made anew" in said(WIDER, tmp_path)


def made_by_ingest(settings_: Settings, folder: Path) -> str:
    console = quiet()
    ingest(settings_, layout_in(folder, settings_), console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_run_leaves_the_state_that_a_champion_is_served_from(tmp_path: Path) -> None:
    """A trial recipe makes another; one that makes a column more goes on, but not with rows left out."""
    (tmp_path / "table.csv").write_text(HEADER + "".join(map(line, of_days(20))))
    own = shops()
    ingested(tmp_path, own)
    before = open_state(layout_in(tmp_path, own).state)
    usual = RECIPE["aggregates"]["usual"]
    trial = shops(aggregates={**RECIPE["aggregates"], "usual": {**usual, "window": "48h"}})
    assert "stays as it is: it is of another recipe" in made_by_ingest(trial, tmp_path)
    assert open_state(layout_in(tmp_path, own).state).digest == before.digest
    assert "stays as it is: the recipe keeps other columns than before, or makes them in another way; and --as-of" in made_by_ingest(
        WIDER.seen_until(START + timedelta(days=9)), tmp_path
    )
    assert open_state(layout_in(tmp_path, own).state).digest == before.digest
    assert "features' state as of 2024-02-20T03:00:00: 80 rows" in made_by_ingest(WIDER, tmp_path)
    assert "most" in open_state(layout_in(tmp_path, own).state).columns


def test_a_run_takes_what_was_corrected_in_the_source_in_place_of_what_stood_there(tmp_path: Path) -> None:
    """Rows from before the source's first day stay, an outcome that became known takes none away, nor is any taken beside given ones."""
    own, table = shops(), tmp_path / "table.csv"
    state = layout_in(tmp_path, own).state

    def of_source(*rows: tuple[Any, ...]) -> str:
        table.write_text(HEADER + "".join(map(line, rows)))
        return made_by_ingest(own, tmp_path)

    (when, shop, price, word, y), *others = of_days(20)
    of_source((when, shop, price, word, None), *others)
    assert "holds no more" not in of_source((when, shop, price, word, y), *others)
    corrected = (when, shop, 1.5 if price is None else price + 1.5, word, y)
    assert "rows that the source holds no more, or otherwise, go from the features' state: 1\n" in of_source(corrected, *others)
    assert told(open_state(state), typed(of_days(20))).equals(
        told(
            Versions(tmp_path / "other").refresh(PLAN, KEPT, KEPT.of(typed([corrected, *others])), [], Origin({}, OWN)).state,
            typed(of_days(20)),
        )
    )
    later = [row for row in others if row[0] >= START + timedelta(days=10)]
    assert "holds no more" not in of_source(*later)
    assert "80 rows" in of_source(*later), "the source reaches back less far than the state"
    more = tmp_path / "more.csv"
    more.write_text(HEADER + "".join(map(line, of_day(20))))
    said(own, tmp_path, more)
    assert "holds no more" not in of_source(*later[1:])


def made_of(bucket: str) -> tuple[Settings, Contract]:
    """Rows counted by a derived column and by a looked-up one, and the contract of a model with the first as its feature."""
    columns = {"t": "datetime", "price": "number", "y": "boolean", "size": "category", "zone": "category", "n": "integer", "m": "integer"}
    lookups = [{"path": "zones.csv", "keys": ["price"]}]
    own = table_settings(
        columns, task="binary", time_column="t", lookups=lookups, derive={"size": bucket}, counts={"n": ["size"], "m": ["zone"]}
    )
    contract = Contract(
        task="binary",
        columns={"n": ContractColumn("integer")},
        raw={"price": ContractColumn("number")},
        made={"size": ContractColumn("category"), "n": ContractColumn("integer")},
        recipe=recipe_of(own.dataset),
    )
    return own, contract


def test_keys_that_are_made_in_another_way_make_the_state_anew(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(HEADER + "".join(map(line, of_days(20))))
    zones = tmp_path / "zones.csv"
    zones.write_text("price,zone\n0.0,in\n0.1,in\n0.2,out\n0.3,out\n")
    before, old = made_of("CASE WHEN price < 0.1 THEN 'few' ELSE 'many' END")
    after, new = made_of("CASE WHEN price < 0.2 THEN 'few' ELSE 'many' END")
    ingested(tmp_path, before)
    folder = layout_in(tmp_path, before).state
    first = open_state(folder)
    assert (first.value("n", ("few",), None), first.value("m", ("in",), None)) == (20, 40)
    assert "no file of the source is new" in said(before, tmp_path)
    ingested(tmp_path, after)  # a trial takes nothing from a champion
    assert open_state(folder).digest == first.digest
    with pytest.raises(PipelineError, match="does not make 'n' as this model has it"):
        check_state(new, first)
    check_state(old, first)
    assert "makes them in another way: the state is made anew" in said(after, tmp_path)
    second = open_state(folder)
    assert second.value("n", ("few",), None) == 40
    check_state(new, second)
    serving = computing(old, first)
    assert not serving.why_not
    assert computing(old, second, serving) is serving  # a server goes on with what it knows
    zones.write_text("price,zone\n0.0,in\n0.1,out\n0.2,out\n0.3,out\n")
    ingested(tmp_path, after)  # what a lookup gives is no part of a recipe
    assert open_state(folder).value("m", ("in",), None) == 20


def test_a_file_that_grows_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, table = shops(), tmp_path / "table.csv"
    table.write_text(HEADER + "".join(map(line, of_days(20))))
    real = stage.typed_rows

    def growing(*arguments: Any) -> Any:
        with table.open("a") as stream:
            stream.write("".join(map(line, of_day(20))))
        return real(*arguments)

    monkeypatch.setattr(stage, "typed_rows", growing)
    ingested(tmp_path, own)
    monkeypatch.undo()
    assert "84 rows read: 4 new" in said(own, tmp_path)


@pytest.mark.parametrize("harm", ["format", "part", "gone", "journal", "rows"])
def test_a_state_that_cannot_be_read_is_made_anew_by_ingest_with_a_word(tmp_path: Path, harm: str) -> None:
    own = shops()
    (tmp_path / "table.csv").write_text(HEADER + "".join(map(line, of_days(20))))
    ingested(tmp_path, own)
    state = layout_in(tmp_path, own).state
    more = tmp_path / "more.csv"
    more.write_text(HEADER + "".join(map(line, of_day(20))))
    said(own, tmp_path, more)
    whole, (version, journal) = told(open_state(state), typed(of_days(21))), (version_folder(state), state / "journal")
    if harm == "format":
        content = (version / "state.json").read_text()
        (version / "state.json").write_text(content.replace('"format": 2', '"format": 1'))
        assert (version / "state.json").read_text() != content
    elif harm == "part":
        (version / "0.0.bin").unlink()
    elif harm == "gone":
        shutil.rmtree(version)
    else:
        file = journal / version.name / ("journal.json" if harm == "journal" else "old.parquet")
        file.write_bytes(file.read_bytes()[:-9])
    console = quiet()
    ingest(own, layout_in(tmp_path, own), console)
    word = console.file.getvalue()  # type: ignore[attr-defined]
    if harm in ("format", "part", "gone"):  # what came beside the source is not lost
        assert "is made anew of the rows that it was made of" in word
        assert told(open_state(state), typed(of_days(21))).equals(whole)
    else:
        assert "is made anew from the source: take in again what came by --input" in word
        assert not told(open_state(state), typed(of_days(21))).equals(whole)
    said(own, tmp_path, more)
    assert told(open_state(state), typed(of_days(21))).equals(whole)


def test_rows_that_cannot_be_read_now_are_not_given_up_by_ingest(tmp_path: Path) -> None:
    """As where a file system is away: what came by --input is there again when it is."""
    own, more = shops(), tmp_path / "more.csv"
    (tmp_path / "table.csv").write_text(HEADER + "".join(map(line, of_days(20))))
    ingested(tmp_path, own)
    more.write_text(HEADER + "".join(map(line, of_day(20))))
    said(own, tmp_path, more)
    state = layout_in(tmp_path, own).state
    for file in (state / "CURRENT", state / "journal" / version_folder(state).name / "journal.json"):
        file.rename(away := tmp_path / "away")
        file.mkdir()
        with pytest.raises(PipelineError) as caught:
            ingested(tmp_path, own)
        assert_one_line(caught.value, str(file.name if file.name == "CURRENT" else file.parent), "cannot be read")
        file.rmdir()
        away.rename(file)
    assert "features' state as of 2024-02-21T03:00:00: 84 rows" in made_by_ingest(own, tmp_path)


def test_a_state_holds_no_private_key_in_clear(tmp_path: Path) -> None:
    done = taken(tmp_path, [(START, "a secret shop", 1.0, "x", 1)] * 3)
    assert done.state.value("seen", ("a secret shop",), None) == 3
    for file in (tmp_path / done.version).rglob("*"):
        assert file.is_dir() or b"secret" not in file.read_bytes()


def test_a_table_without_such_columns_has_no_state_and_says_so(tmp_path: Path) -> None:
    plain = table_settings({"x": "number", "y": "number"})
    with pytest.raises(PipelineError) as caught:
        refresh(plain, layout_in(tmp_path, plain), quiet())
    assert_one_line(caught.value, "no state to refresh")
    with pytest.raises(PipelineError) as caught:
        show(plain, layout_in(tmp_path, plain), quiet())
    assert_one_line(caught.value, "no state to show")


def test_the_prefect_flow_refreshes_and_says_what_it_did(tmp_path: Path) -> None:
    from prefect.logging import disable_run_logger

    path = REPOSITORY / "prefect/flows/features_pipeline.py"
    spec = importlib.util.spec_from_file_location("features_pipeline", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "table.csv").write_text(HEADER + "".join(map(line, of_days(20))))
    config = tmp_path / "pipeline.yaml"
    config.write_text(yaml.safe_dump(shops().model_dump(mode="json", by_alias=True, exclude_defaults=True)))
    with disable_run_logger():
        done = module.features_pipeline.fn(str(config))
        again = module.features_pipeline.fn(str(config))
    assert (done["new"], done["as_of"]) == (80, "2024-02-20T03:00:00+00:00")
    assert (again["new"], again["version"]) == (0, done["version"])
