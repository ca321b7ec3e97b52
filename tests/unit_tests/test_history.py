"""The page of the watch, from windows as the job keeps them."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_pipeline.monitoring.history import heat, page, page_of, picture
from mlops_pipeline.monitoring.measured import ColumnDrift, Measured, TextDrift
from mlops_pipeline.monitoring.state import WatchState, Window, state_at
from mlops_pipeline.monitoring.status import status
from mlops_pipeline.monitoring.watched import watched
from tests.integration_tests.test_serving_source import answering
from tests.unit_tests.workshop import content_with

DAY = 86_400.0
BEGIN = datetime(2013, 4, 1, tzinfo=UTC).timestamp()
NOW = datetime(2013, 12, 31, tzinfo=UTC)


def kept(state: WatchState, count: int = 9) -> list[Window]:
    """So many windows of a month: quality falls, until another version answers from the sixth on."""
    for k in range(count):
        low = 0.72 - 0.012 * k if k < 5 else 0.73
        figures = {"quality.roc_auc": low, "quality.roc_auc.low": low - 0.02, "quality.roc_auc.high": low + 0.02, "labels.share": 0.9}
        figures |= {"estimated.roc_auc": 0.73 - 0.003 * k, "rows": 2000.0, "drift.columns": 1.0, "probe.gain": 0.01 * k}
        columns = tuple(
            ColumnDrift(name=name, kind="number", effect=effect, drifted=effect > 0.1)
            for name, effect in (("temp", 0.05 * k), ("<b>wind</b>", 0.02), ("hour", 0.01))
        )
        read = TextDrift(
            texts=90, unseen=0.4, unseen_before=0.01, unseen_p=0, distance=0.31, distance_p=0.0001, lengths={"under 8": (0.2, 1)}
        )
        columns += (ColumnDrift(name="note", kind="category", drifted=True, reasons=("embedding",), texts=read),)
        made = Measured(rows=2000, labels=1800, figures=figures, columns=columns)
        with state.writing():
            state.add("champion", "1" if k < 5 else "2", (BEGIN + k * 30 * DAY, BEGIN + (k + 1) * 30 * DAY), 20, made, b"", 0, BEGIN)
    return state.windows("champion")


def test_the_page_shows_quality_drift_alerts_and_trainings_and_needs_nothing_else(tmp_path: Path) -> None:
    state = state_at(tmp_path / "state.sqlite")
    windows = kept(state)
    message = json.dumps({"severity": "warning", "text": "roc_auc fell <script>"})
    with state.writing():
        state.raise_alert("quality_fell", "champion", "1", message, BEGIN + 120 * DAY, BEGIN + 120 * DAY)
    told = page(
        "Watch of flights",
        "roc_auc",
        {"champion": windows},
        {"champion": {"1": 0.74, "2": 0.71}},
        state.alerts(),
        (),
        state.label_counts(),
        NOW,
    )
    assert "quality_fell" in told
    assert "&lt;script&gt;" in told
    assert "<b>wind" not in told
    assert told.count("<circle") == 9
    assert ': – (embedding)"' in told  # a column without a distance has none, and says what has changed
    assert "0.7100 in the held-out rows" in told
    judged = [*windows[:4], *(replace(each, figures={"rows": 10.0}) for each in windows[5:])]
    told_of_one = page(
        "w", "roc_auc", {"champion": judged}, {"champion": {"1": 0.74, "2": 0.71}}, (), (), {"known": 0, "unmatched": 0}, NOW
    )
    assert "0.7400 in the held-out rows; of version 1" in told_of_one
    assert "0.7100 in the held-out rows" not in told_of_one
    assert ">v2<" in told
    assert all(part in told for part in ("1.0% → 40.0%", '<td class="warned">0.31, p 0.0001</td>', "under 8 20% → 100%"))
    assert not re.search(r"(?:src|href)=[\"']http", told)
    state.close()


def test_a_picture_holds_what_is_known_and_no_more(tmp_path: Path) -> None:
    state = state_at(tmp_path / "state.sqlite")
    windows = kept(state)
    found = picture(windows, "roc_auc", {"1": 0.74, "2": 0.71}, [windows[5].since])
    assert found is not None
    assert len(found.dots) == 9
    assert [mark.word for mark in found.versions] == ["v2"]
    assert len(found.trainings) == 1
    assert all(0 <= dot.x <= 1040 and 0 <= dot.y <= 260 for dot in found.dots)
    assert picture(windows, "rmse", {}) is None
    alone = picture(windows[:1], "roc_auc", {})
    assert alone is not None
    assert (alone.band, len(alone.dots)) == ("", 1)
    short = [windows[0], *(replace(windows[1], since=windows[1].since + k, until=windows[1].since + k + 1) for k in range(2))]
    days = picture(short, "roc_auc", {})
    assert days is not None
    assert [(mark.x, mark.word) for mark in days.days] == [(542.0, "2013-04-01"), (1000.0, "2013-05-01")]  # neither touches, nor leaves it
    assert found.measured.count("M") == 2  # no line leads from one version to another
    assert re.findall(r"M(\S+) \S+ H(\S+)", found.held_out) == [("58.0", "595.8"), ("595.8", "1026.0")]  # each version has its own
    heights = re.findall(r"M\S+ (\S+) H", found.held_out)
    assert float(heights[0]) < float(heights[1])  # 0.74 stands above 0.71
    state.close()


def test_words_of_marks_do_not_touch_and_stay_in_the_picture(tmp_path: Path) -> None:
    state = state_at(tmp_path / "state.sqlite")
    windows = kept(state)
    begin, end = windows[0].since, windows[-1].until
    found = picture(windows, "roc_auc", {}, [begin + (end - begin) * share for share in (0.8, 0.5, 0.51, 0.52, 1.0)])
    assert found is not None
    assert [(mark.shown, mark.is_left) for mark in found.trainings] == [
        (True, False),
        (False, False),
        (False, False),
        (True, False),
        (True, True),
    ]
    told = page("w", "roc_auc", {"champion": windows}, {"champion": {}}, (), (), {"known": 0, "unmatched": 0}, NOW)
    assert told.count("<title>v2</title>") == 1
    words = [at.start() for at in re.finditer('<text class="word', told)]
    assert max(at.start() for at in re.finditer("<line|<path|<circle", told)) < min(words)  # what is drawn later crosses what was before
    state.close()


def test_columns_that_drift_most_stand_first(tmp_path: Path) -> None:
    state = state_at(tmp_path / "state.sqlite")
    found = heat(kept(state))
    assert found is not None
    assert [row["name"] for row in found["rows"]] == ["temp", "<b>wind</b>", "hour", "note"]
    assert [cell["drifted"] for cell in found["rows"][0]["cells"]] == [False] * 3 + [True] * 6
    state.close()


def test_before_any_window_the_page_says_what_to_do() -> None:
    told = page("Watch of flights", "roc_auc", {"champion": []}, {"champion": {}}, (), (), {"known": 0, "unmatched": 0}, NOW)
    assert "mlops monitor run --close" in told


@pytest.mark.parametrize("has", ["no answer", "no version"])
def test_a_page_asks_the_registry_once_however_many_versions_it_shows(has: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is away each answer is long waited for; the next page asks again."""
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    asked: list[str] = []

    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        asked.append(request.path)
        return (503, {}, b"") if has == "no answer" else (404, {}, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}')

    with answering(answer) as port, closing(state_at(tmp_path / "state.sqlite")) as state:
        (tmp_path / ".dvc").mkdir()
        (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(content_with(registry={"uri": f"http://127.0.0.1:{port}"})))
        (tmp_path / "serving.yaml").write_text("pipeline: pipeline.yaml\nmodels: {champion: champion, second: champion}\n")
        (tmp_path / "monitoring.yaml").write_text("serving: serving.yaml\nmodels: [champion, second]\n")
        kept(state)
        with state.writing():
            state.add("second", "3", (BEGIN, BEGIN + DAY), 1, Measured(rows=1, labels=0, figures={"rows": 1.0}), b"", 0, BEGIN)
        watch = watched(tmp_path / "monitoring.yaml")
        for times in (1, 2):
            assert " in the held-out rows" not in page_of(watch, state)
            assert len(asked) == times, asked
        asked.clear()
        assert [each["windows"] for each in status(watch, state)["models"].values()] == [9, 1]
        assert len(asked) == 1, asked
