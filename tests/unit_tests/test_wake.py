"""Servers hear of another champion once, when nobody waits for whoever decided, and by a table that somebody has made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mlops_pipeline.config.pipeline import Settings, settings_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import ChampionChanged, Event, VersionDecided, Warned
from mlops_pipeline.layout import Layout, layout_of
from mlops_pipeline.registry.lock import afterwards, putting_off
from mlops_pipeline.release import wake
from mlops_pipeline.release.table import open_table, table_there
from mlops_pipeline.release.wake import waking
from tests.conftest import SMALL_SETTINGS

CHANGED = ChampionChanged(
    pipeline="small", model="small", version=2, former=1, content_sha256="ab" * 32, run_id="f" * 32, how="approved by a person"
)
APPROVED = VersionDecided(
    pipeline="small", model="small", version=2, content_sha256="ab" * 32, run_id="f" * 32, decision="approved", by="anna", reason="seen"
)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Settings, Layout]:
    """A pipeline whose champion is served as its own settings say."""
    config = tmp_path / "pipeline.yaml"
    config.write_text(yaml.safe_dump(SMALL_SETTINGS))
    settings = settings_of(SMALL_SETTINGS, str(config))
    return settings, layout_of(settings, config, tmp_path)


def table_of(layout: Layout) -> Path:
    return layout.root / "data/monitoring/releases.sqlite"


def said_to_move(layout: Layout) -> list[str]:
    with closing(sqlite3.connect(table_of(layout))) as raw:
        return [version for (version,) in raw.execute("SELECT version FROM mlops_release_champions ORDER BY number")]


def test_what_nobody_is_to_wait_for_is_done_after_a_decision_once_however_that_ends(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def first() -> None:
        done.append("first")

    def fails() -> None:
        raise ValueError("postgresql://anna:sesame@host")

    afterwards(first)
    assert done == ["first"], "where nobody waits, at once"
    with pytest.raises(PipelineError, match="no"), putting_off():
        for work in (first, fails, lambda: done.append("second"), first):
            afterwards(work)
        assert done == ["first"]
        raise PipelineError("no")
    assert done == ["first", "first", "second"]
    assert "after a decision: " in caplog.text
    assert "sesame" not in caplog.text
    afterwards(first)
    assert done[3:] == ["first"]


def test_what_one_person_decides_wakes_servers_once_when_others_may_decide_again(small: tuple[Settings, Layout]) -> None:
    settings, layout = small
    open_table(table_of(layout)).close()
    tell = waking(settings, layout)
    with putting_off():
        tell(APPROVED)
        tell(CHANGED)
        assert said_to_move(layout) == []
    assert said_to_move(layout) == ["2"]
    tell(replace(CHANGED, version=3, former=2))
    tell(replace(APPROVED, decision="rejected"))
    assert said_to_move(layout) == ["2", "3"]


def test_a_table_that_another_writes_to_is_not_waited_for_long_and_that_is_said(
    small: tuple[Settings, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, layout = small
    open_table(table_of(layout)).close()
    heard: list[Event] = []
    monkeypatch.setattr(wake, "WAIT_S", 0.05)
    with closing(sqlite3.connect(table_of(layout), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waking(settings, layout, heard.append)(CHANGED)
        other.execute("ROLLBACK")
    (said,) = [event.text for event in heard if isinstance(event, Warned)]
    assert said.startswith("a server was not told of version 2, and hears of it when it looks at the registry itself: ")
    assert said.endswith("another process is writing to it: try again when that is done")
    assert said_to_move(layout) == []


def test_where_no_table_is_nobody_is_told_and_none_is_made(small: tuple[Settings, Layout]) -> None:
    settings, layout = small
    heard: list[Event] = []
    tell, file = waking(settings, layout, heard.append), table_of(layout)
    tell(CHANGED)
    assert not file.parent.exists()
    file.parent.mkdir(parents=True)
    file.touch()
    tell(CHANGED)
    assert file.read_bytes() == b""
    with closing(sqlite3.connect(file)) as another:
        another.execute("CREATE TABLE notes (text)")
    before = file.read_bytes()
    tell(CHANGED)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]
    assert heard == []
    assert table_there(file) is None


def test_a_server_of_another_model_is_not_woken(small: tuple[Settings, Layout]) -> None:
    settings, layout = small
    open_table(table_of(layout)).close()
    (layout.root / ".dvc").mkdir()
    (layout.root / "configs").mkdir()
    server = layout.root / "configs/serving_config.yaml"
    server.write_text("pipeline: ../pipeline.yaml\nregistry: {model: another}\n")
    waking(settings, layout)(CHANGED)
    assert said_to_move(layout) == []
    server.write_text("pipeline: ../pipeline.yaml\nregistry: {model: small}\n")
    waking(settings, layout)(CHANGED)
    assert said_to_move(layout) == ["2"]
