"""Raw rows to features: what training's table holds, for a frame and for a few rows, to the bit."""

from __future__ import annotations

from mlops_pipeline.contract.spec import Column, Contract, History, Recipe
from mlops_pipeline.features.needs import needed
from mlops_pipeline.features.online import features_of, frame_of

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


def test_a_column_derived_from_itself_is_the_sources_in_a_raw_row() -> None:
    columns = dict.fromkeys(("size", "twice", "word"), "")
    recipe = Recipe(derive={"size": "size * 2", "twice": "size * 2"})
    assert needed(["twice", "word"], recipe, columns) == ({"size": "", "word": ""}, {"size": "", "twice": ""})


def test_rows_and_frames_give_the_models_columns_in_its_order() -> None:
    integer, word = Column("integer"), Column("category")
    contract = Contract(
        task="regression",
        columns={"minute_of_day": integer, "word": word},
        recipe=Recipe(derive={"minute_of_day": "hour * 60 + minute"}),
        raw={"word": word, "hour": integer, "minute": integer},
        made={"minute_of_day": integer},
    )
    features = features_of(contract, None)
    rows = [("a", 1, 2), (None, 23, None)]
    assert features.of_rows(rows) == [(62, "a"), (None, None)]
    assert features.of_frame(frame_of(rows, features.raw)).rows() == features.of_rows(rows)
