"""Labels are kept once each, whatever table they come in, and found again by request, by id or by entity and time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.label import prediction_name
from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.monitoring.labels import Added, Known, add_labels, is_for, keys_of, likely, matched
from mlops_pipeline.monitoring.measuring import truths_of
from mlops_pipeline.monitoring.state import WatchState, state_at
from mlops_pipeline.tables import source
from tests.unit_tests.workshop import settings_with, table_settings

YEAR = timedelta(days=365)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[WatchState]:
    state = state_at(tmp_path / "state.sqlite")
    yield state
    state.close()


def add(state: WatchState, tmp_path: Path, text: str, settings: Settings | None = None, **options: Any) -> Added:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return add_labels(state, settings or settings_with(), path, "labels.csv", **options)


def kept(state: WatchState) -> list[tuple[str, str, int, Any]]:
    return [(label.kind, label.name, label.place, label.value) for label in state.labels_after(0, 0)]


def rows(**columns: list[Any]) -> pl.DataFrame:
    height = len(next(iter(columns.values())))
    usual: dict[str, list[Any]] = {"request_id": [None] * height, "row": [0] * height, "id": [None] * height, "time": [0] * height}
    frame = pl.DataFrame({**usual, **columns}, schema_overrides={"request_id": pl.String, "id": pl.String})
    return frame.with_columns((pl.col("time") * 1_000_000).cast(pl.Datetime("us", "UTC")))


def test_the_same_table_twice_adds_nothing(state: WatchState, tmp_path: Path) -> None:
    text = "request_id,row,late\na,0,1\na,1,0\nb,0,yes\n"
    first, again = add(state, tmp_path, text), add(state, tmp_path, text)
    assert (first.rows, first.new, first.known) == (3, 3, 0)
    assert (again.rows, again.new, again.known) == (3, 0, 3)
    assert kept(state) == [("request", "a", 0, 1), ("request", "a", 1, 0), ("request", "b", 0, 1)]
    assert "request_id and row" in str(first)


def test_a_label_that_contradicts_replaces_and_is_told(state: WatchState, tmp_path: Path) -> None:
    add(state, tmp_path, "id,late\n1,0\n2,0\n")
    newest = state.newest_label()
    added = add(state, tmp_path, "id,late\n1,1\n2,0\n3,0\n3,1\n3,1\n")
    assert (added.new, added.known, added.contradicting) == (1, 2, 2)
    assert "contradicting" in str(added)
    assert sorted(kept(state)) == [("id", "1", 0, 1), ("id", "2", 0, 0), ("id", "3", 0, 1)]
    # Windows look at what has a higher number than all that they have looked at.
    assert {label.name for label in state.labels_after(newest, 0)} == {"1", "3"}


def test_a_time_to_come_and_a_class_that_no_model_knows_are_kept_and_said(state: WatchState, tmp_path: Path) -> None:
    added = add(state, tmp_path, "id,late,time\n1,1,2013-01-01\n2,0,2999-01-01T00:00:00+05:00\n3,1,\n", classes=[0])
    assert (added.new, added.early, added.unseen) == (3, 1, 2)
    assert "1 with a time that is still to come" in str(added)
    assert "2 of a class that the model has never seen" in str(added)
    untimed = add(state, tmp_path, "id,late,time\n4,1,1362096000\n5,0, \n6,,soon\n7,maybe,soon\n8,1,2013-01-01\n")
    assert (untimed.new, untimed.untimed, untimed.empty, untimed.refused) == (3, 1, 1, 1)
    assert "1 with a time that is no moment" in str(untimed)


def test_a_class_is_meant_as_a_category_of_a_column_is(state: WatchState, tmp_path: Path) -> None:
    """pandas writes whole numbers so where a column has a gap."""
    settings = table_settings({"stars": {"kind": "category"}, "x": {"kind": "number"}}, target="stars", task="multiclass")
    added = add(state, tmp_path, "id,stars\n1,1.0\n2,2\n3,\n4,6.0\n5,1.5\n", settings, classes=["1", "2"])
    assert (added.new, added.empty, added.unseen) == (4, 1, 2)
    values = pl.Series([label.value for label in state.labels_after(0, 0)])
    reference = Reference(task="multiclass", classes=["1", "2"], rows=1, columns={})
    assert truths_of(reference, values).tolist() == [0, 1, -1, -1]


def test_every_row_is_accounted_for(state: WatchState, tmp_path: Path) -> None:
    added = add(state, tmp_path, "request_id,row,late\na,0,1\n,0,1\nb,x,1\nc,0,\nd,0,perhaps\ne,0.5,1\nf,1.0,NA\n")
    assert (added.rows, added.new, added.empty, added.refused) == (7, 1, 2, 4)
    assert added.why == "row 5: 'late' is none of the values that late has"
    assert "4 refused" in str(added)


def test_what_says_nothing_is_refused_whole(state: WatchState, tmp_path: Path) -> None:
    for text, words in (
        ("id,outcome\n1,1\n", ("no column 'late'", "--target")),
        ("customer,late\n1,1\n", ("request_id", "records export")),
        ("id,late\n", ("is empty",)),
    ):
        with pytest.raises(PipelineError) as caught:
            add(state, tmp_path, text)
        assert all(word in str(caught.value) for word in ("labels.csv", *words)), caught.value
    assert not kept(state)
    assert add(state, tmp_path, "id,outcome\n1,1\n", target="outcome").new == 1


def test_others_may_write_while_a_file_is_read(state: WatchState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_pipeline.database.LOCKED_S", 0.01)
    other, read = state_at(tmp_path / "state.sqlite"), source.read_file

    def slowly(*given: Any) -> Iterator[Any]:
        yield from read(*given)
        with other.writing():
            other.switch("retraining", "stopped", "anna", "", 0)

    add(other, tmp_path, "id,late\n1,0\n")
    monkeypatch.setattr(source, "read_file", slowly)
    assert add(state, tmp_path, "id,late\n1,1\n2,0\n").contradicting == 1
    with pytest.raises(PipelineError, match="no column 'late'"):
        add(state, tmp_path, "id,other\n1,1\n")
    assert add(state, tmp_path, "id,late\n3,1\n").new == 1  # what was gathered of the one before is gone
    assert [name for _, name, *_ in kept(state)] == ["1", "2", "3"]
    assert state.switched("retraining")[0] == "stopped"
    other.close()


def test_a_clock_that_is_late_loses_no_label_that_names_its_row(state: WatchState, tmp_path: Path) -> None:
    """But one by an id that was there before the window may be of an earlier row of that id."""
    add(state, tmp_path, "request_id,late\na,1\n")
    add(state, tmp_path, "id,late\nb,1\n")
    by_request, by_id = state.labels_after(0, 0)
    assert [is_for(by_request, by_request.received + late) for late in (0, 600, 86_400)] == [True, True, False]
    assert [is_for(by_id, by_id.received + late) for late in (0, 600)] == [True, False]


def test_labels_that_are_of_no_window_yet_are_counted(state: WatchState, tmp_path: Path) -> None:
    assert state.label_counts() == {"known": 0, "unmatched": 0}
    add(state, tmp_path, "id,late\n1,0\n2,0\n3,1\n4,1\n")
    with state.writing():
        state.match(1, {1, 2})
        state.match(2, {2, 3})
    assert state.label_counts() == {"known": 4, "unmatched": 1}
    add(state, tmp_path, "id,late\n2,1\n")  # another word on what was matched is a label of its own
    assert state.label_counts() == {"known": 4, "unmatched": 2}


def test_labels_are_handed_over_a_bounded_number_at_a_time(state: WatchState, tmp_path: Path) -> None:
    add(state, tmp_path, "id,late\n" + "".join(f"{name},1\n" for name in "abcde"))
    assert [[label.name for label in part] for part in state.labels_in_parts(1, 0, most=2)] == [["b", "c"], ["d", "e"]]
    assert [label.name for label in state.labels_numbered([1, 3, 9])] == ["a", "c"]


def test_labels_of_each_task_are_read_as_the_table_holds_them(state: WatchState, tmp_path: Path) -> None:
    numbers = table_settings({"y": "number", "x": "number"})
    words = table_settings({"y": "category", "x": "number"}, task="multiclass")
    whole = table_settings({"y": "integer", "x": "number"}, task="multiclass")
    assert add(state, tmp_path, "id,y\n1,1.5\n2,n/a\n", numbers).refused == 1
    assert add(state, tmp_path, "id,y\n3,red\n", words).new == 1
    assert add(state, tmp_path, "id,y\n4,2.0\n", whole).new == 1
    assert [value for *_, value in kept(state)] == [1.5, "red", 2]


def test_other_ways_of_writing_are_read_with_a_word(state: WatchState, tmp_path: Path) -> None:
    added = add(state, tmp_path, "id;late\n1;1\n2;0\n")
    assert added.new == 2
    assert "otherwise" in added.notes[0]
    assert add(state, tmp_path, "id,label\n1,1\n").notes == ()  # another name for what came of it is no other way of writing
    pl.DataFrame({"id": [1.0, 5.0], "label": [True, False]}).write_parquet(tmp_path / "labels.parquet")
    assert add_labels(state, settings_with(), tmp_path / "labels.parquet", "x").new == 1  # 1 is there, and was true
    assert ("id", "5", 0, 0) in kept(state)


def test_labels_find_their_rows(state: WatchState, tmp_path: Path) -> None:
    add(state, tmp_path, "request_id,row,late\na,1,1\nz,0,1\n")
    add(state, tmp_path, "id,late\nmine,0\n")
    frame = rows(request_id=["a", "a", "b", "b"], row=[0, 1, 0, 1], id=["", None, "mine", "other"])
    own = likely(state.labels_after(0, 0), _keys(frame))
    assert {label.name for label in own} == {"a", "mine"}
    found = Known.of(own, YEAR).of_rows(frame)
    assert [None if label is None else label.value for label in found] == [None, 1, 0, None]
    assert len(matched(own, iter([frame, frame]), YEAR)) == 2


def test_an_id_is_the_same_by_whatever_program_it_was_written(state: WatchState, tmp_path: Path) -> None:
    """With blanks around it, or as a column of numbers with a gap has them, on either side."""
    predicted = ["A1  ", " 7", "8.0", "N / 9.0", "1.10", "x 2", "v1.0/3", "b", "\x0007"]
    written = ["A1", "7.0", " 8", "N/9", "1.10", "x 2", "v1.0 /3", "b\x1f", "7.00"]
    labelled = [prediction_name(text) for text in written]
    assert [prediction_name(text) == name for text, name in zip(predicted, labelled, strict=True)] == [True] * 8 + [False]
    assert [prediction_name(name) for name in labelled] == labelled
    add(state, tmp_path, "id,late\nA1,1\n7.0,0\n ,1\n8,1\n")
    pl.DataFrame({"id": [9.0, None, float("nan")], "label": [True, True, True]}).write_parquet(tmp_path / "labels.parquet")
    assert add_labels(state, settings_with(), tmp_path / "labels.parquet", "x").refused == 2
    frame = rows(id=["A1  ", "7", "8.0", "9.0", "", "10"])
    found = Known.of(likely(state.labels_after(0, 0), _keys(frame)), YEAR).of_rows(frame)
    assert [None if label is None else label.value for label in found] == [1, 0, 1, 1, None, None]


def test_an_entitys_rows_take_its_first_label_after_them(state: WatchState, tmp_path: Path) -> None:
    settings = table_settings(
        {"y": "boolean", "x": "number", "shop": "category", "item": "integer", "day": "datetime"},
        task="binary",
        time_column="day",
        entity_key=["shop", "item"],
    )
    added = add(state, tmp_path, "shop,item,day,y\nN,7,1970-01-02,0\nN,7,1970-01-03,1\nN,8,1970-01-03,1\nN,8,never,1\n", settings)
    assert (added.new, added.refused, added.by) == (3, 1, "shop and item and day")
    day = 86_400
    frame = rows(id=["N/7", "N/7", "N/7", "N/8", "N/9"], time=[0, day + 1, 3 * day, 0, 0])
    found = Known.of(state.labels_after(0, 0), YEAR).of_rows(frame)
    assert [None if label is None else label.value for label in found] == [0, 1, None, 1, None]
    near = Known.of(state.labels_after(0, 0), timedelta(hours=30)).of_rows(frame)
    assert near[3] is None  # two days are too long
    assert found[0] is not None
    assert found[0].happened == day


def test_a_memory_that_is_damaged_or_busy_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "damaged.sqlite").write_bytes(b"a letter, and no database at all. " * 100)
    with pytest.raises(PipelineError, match=r"not a database: put a copy of it from before in its place"):
        state_at(tmp_path / "damaged.sqlite")
    monkeypatch.setattr("mlops_pipeline.database.LOCKED_S", 0.01)
    one, other = (state_at(tmp_path / "state.sqlite") for _ in range(2))
    with one.writing(), pytest.raises(PipelineError, match=r"another process is writing to it: try again"), other.writing():
        pass
    one.close()
    other.close()


def test_a_contradiction_in_an_entity_is_of_its_moment_alone(state: WatchState, tmp_path: Path) -> None:
    settings = table_settings(
        {"y": "boolean", "shop": "category", "day": "datetime", "x": "number"}, task="binary", time_column="day", entity_key=["shop"]
    )
    added = add(state, tmp_path, "shop,day,y\nN,1970-01-02,0\nN,1970-01-03,1\nN,1970-01-03,0\n", settings)
    assert (added.new, added.contradicting) == (2, 1)


def _keys(frame: pl.DataFrame) -> Any:
    import numpy as np

    return np.frombuffer(keys_of([frame]), "<u4")
