"""Events are kept whole whoever writes and dies meanwhile, and what cannot be kept or told stops nothing."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import resource
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline import events
from mlops_pipeline.events import (
    KINDS,
    AlertFired,
    AlertResolved,
    Cause,
    ChampionChanged,
    Event,
    GateDecided,
    ModelLoaded,
    ModelRefused,
    ReleaseMoved,
    RetrainingDecided,
    RetrainingEnded,
    RuleApplied,
    StageBegan,
    StageFailed,
    StageRan,
    StageRestored,
    StageSkipped,
    VersionDecided,
    Warned,
    WindowCounted,
    append,
    current_user,
    kept,
    read_events,
    stage_told,
    told,
    without_nul,
)
from mlops_pipeline.lines import logged_to, shown_on, words
from mlops_pipeline.terminal import opened
from tests.conftest import process_environment

CHAMPION: dict[str, Any] = {"pipeline": "small", "model": "small", "version": 2, "content_sha256": "ab" * 32, "run_id": "f" * 32}
WATCHED: dict[str, Any] = {"pipeline": "small", "model": "champion", "version": "2"}
ONE_OF_EACH: list[Event] = [
    StageBegan(pipeline="small", stage="train", causes=(Cause("settings", "train.params: 1 → 2"), Cause("never run"))),
    StageRan(pipeline="small", stage="train", seconds=1.25),
    StageSkipped(pipeline="small", stage="train"),
    StageRestored(pipeline="small", stage="train", source="DVC cache"),
    StageFailed(pipeline="small", stage="train", seconds=0.1, error="PipelineError", reason="two\nlines, “quoted”"),
    Warned(text="nul \0, a line\u2028separator, \U0001f600"),
    GateDecided(**CHAMPION, passed=False, rules=(RuleApplied("baseline", False, "roc_auc [x]"),)),
    ChampionChanged(**CHAMPION, former=None, how="promoted by hand", reason="Ümläut", user="anna"),
    VersionDecided(**CHAMPION, decision="rejected", by="anna", reason="too «slow»"),
    ModelLoaded(name="main", reference="champion", version="2", content_sha256="ab" * 32, worker=0),
    ModelRefused(name="main", reference="champion", reason="checksum", detail="does not match", worker=3),
    WindowCounted(**WATCHED, since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2026, 1, 2, tzinfo=UTC), rows=3, labels=0, again=True),
    AlertFired(**WATCHED, rule="quality_fell", severity="warning", key="k", text="roc_auc is 0.5 [x]"),
    AlertResolved(**WATCHED, rule="quality_fell", severity="warning", key="k", text="version 2 answers now"),
    RetrainingDecided(**WATCHED, rule="retraining_helps", as_of="2026-01-02", held_back="stopped by anna"),
    RetrainingEnded(pipeline="small", model="champion", rule="retraining_helps", as_of="", succeeded=True, outcome="version 2 is champion"),
    ReleaseMoved(
        pipeline="small",
        model="champion",
        release=1,
        transition=3,
        champion="1",
        challenger="2",
        step="5 %",
        state="running",
        weight=0.05,
        shadow=0.0,
        reason="500 rows, no guardrail broken",
    ),
]
WRITER = """
import sys
from pathlib import Path
from mlops_pipeline.events import Warned, append
for number in range(int(sys.argv[2])):
    append(Path(sys.argv[1]), Warned(stage=sys.argv[3], text=f"{number} " + "x" * int(sys.argv[4])))
"""


def writer(path: Path, count: int, name: str, length: int, **options: Any) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", WRITER, str(path), str(count), name, str(length)]
    return subprocess.Popen(words, env=process_environment(), stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize(
    "text", ["C:\\u0000dir", "C:\\\\u0000dir", "\0", "\0\0 a\\\0b", "\\u0000\0\\u0000", "\\\0", "plain \\u000", "\ufffd"]
)
def test_a_nul_becomes_a_replacement_character_and_nothing_else_changes(text: str) -> None:
    line = without_nul(json.dumps({"text": text, text: 1}))
    assert json.loads(line) == {"text": text.replace("\0", "\ufffd"), text.replace("\0", "\ufffd"): 1}
    assert json.loads(without_nul(json.dumps(text, ensure_ascii=False))) == text.replace("\0", "\ufffd")


def test_every_kind_of_event_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "data/events.jsonl"
    for event in ONE_OF_EACH:
        append(path, event)
    assert list(read_events(path)) == ONE_OF_EACH
    assert {type(event) for event in ONE_OF_EACH} == set(KINDS.values())
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["event"] for line in lines] == list(KINDS)
    assert {line["time"][-1] for line in lines} == {"Z"}


def test_an_event_is_frozen_and_says_when_and_who(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_USER", "anna")
    event = StageSkipped(pipeline="small", stage="split")
    assert event.user == "anna"
    assert abs(datetime.now(UTC) - event.time) < timedelta(minutes=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.stage = "train"  # type: ignore[misc]


def test_the_user_is_who_is_stated_else_the_systems_else_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_USER", " anna ")
    monkeypatch.setenv("LOGNAME", "berta")
    assert current_user() == "anna"
    monkeypatch.setenv("MLOPS_USER", "")
    assert current_user() == "berta"
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert current_user() == "uid 54321"


def test_several_processes_write_at_once_and_no_line_is_lost_or_mixed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writers = [writer(path, 60, name, 20_000) for name in "abcd"]
    assert [process.wait(120) for process in writers] == [0] * 4
    found = list(read_events(path))
    for name in "abcd":
        texts = [event.text for event in found if isinstance(event, Warned) and event.stage == name]
        assert texts == [f"{number} {'x' * 20_000}" for number in range(60)]
    assert len(path.read_bytes().splitlines()) == 240


def test_half_a_line_of_a_killed_writer_is_no_event_and_harms_none(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first, half, last = ONE_OF_EACH[:3]
    append(path, first)
    with path.open("ab") as file:
        file.write(events.as_line(half)[:50])
    assert list(read_events(path)) == [first]
    append(path, last)
    assert list(read_events(path)) == [first, last]
    with path.open("ab") as file:
        file.write(b'{"event": "of a later version"}\n\n[1]\n"text"\nnull\n\xff\n')
    append(path, half)
    assert list(read_events(path)) == [first, last, half]


def test_writers_that_are_killed_leave_every_line_before_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, ONE_OF_EACH[0])
    for round_ in range(3):
        process = writer(path, 100_000, "killed", 50_000)
        size = path.stat().st_size
        while path.stat().st_size < size + 300_000:
            assert process.poll() is None
        process.kill()
        process.communicate()
        append(path, Warned(stage="after", text=str(round_)))
    found = list(read_events(path))
    assert [event.text for event in found if isinstance(event, Warned) and event.stage == "after"] == ["0", "1", "2"]
    numbers = [int(event.text.split()[0]) for event in found if isinstance(event, Warned) and event.stage == "killed"]
    assert numbers.count(0) == 3
    assert len(numbers) >= 9


def test_a_line_that_does_not_fit_any_more_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, ONE_OF_EACH[0])
    before = path.read_bytes()
    limit = len(before) + 100
    process = writer(path, 1, "cut", 5_000, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert b"No space left on device" in process.communicate(timeout=60)[1]
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["/dev/full", "/proc/version/events.jsonl", "/"])
def test_a_disk_that_is_full_or_not_to_be_written_is_said_once_and_the_others_hear_all(place: str) -> None:
    heard: list[Event] = []
    tell = kept(Path(place), "", heard.append)
    for event in ONE_OF_EACH:
        tell(event)
    assert [event for event in heard if event in ONE_OF_EACH] == ONE_OF_EACH
    (said,) = [event.text for event in heard if event not in ONE_OF_EACH and isinstance(event, Warned)]
    assert said.startswith(f"{place}: cannot be written (")
    assert said.endswith("): what happens now is not kept there")


def test_after_a_disk_has_room_again_the_next_failure_is_said_anew(tmp_path: Path) -> None:
    path, heard = tmp_path / "events.jsonl", []
    tell = kept(path, "", heard.append)
    for full in (True, True, False, True):
        if full:
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/full")
        else:
            path.unlink()
        tell(ONE_OF_EACH[0])
        if not full:
            assert list(read_events(path)) == [ONE_OF_EACH[0]]
    assert len([event for event in heard if isinstance(event, Warned)]) == 2


def test_what_is_told_again_after_a_kill_is_kept_once_and_nothing_else_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    changed, decided, ran = ONE_OF_EACH[7], ONE_OF_EACH[8], ONE_OF_EACH[1]
    for event in (changed, ran, decided, changed, ran, decided):
        append(path, event)
    later = dataclasses.replace(changed, time=changed.time + timedelta(microseconds=1))
    append(path, later)
    assert list(read_events(path)) == [changed, ran, decided, ran, later]


def test_a_writer_that_stopped_with_the_lock_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(events, "WAIT_S", 0.05)
    path = tmp_path / "events.jsonl"
    with path.open("ab") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        writing = threading.Thread(target=append, args=(path, ONE_OF_EACH[0]))
        writing.start()
        writing.join(120)
        assert not writing.is_alive()
    assert list(read_events(path)) == [ONE_OF_EACH[0]]


def test_a_listener_that_fails_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []

    def fails(_: Event) -> None:
        raise ValueError("http://anna:secret@host")

    with caplog.at_level(logging.ERROR):
        told(fails, heard.append)(ONE_OF_EACH[1])
    assert heard == [ONE_OF_EACH[1]]
    assert "stage_ran: a listener failed" in caplog.text
    assert "secret" not in caplog.text


def test_a_name_that_is_no_text_is_kept_readable(tmp_path: Path) -> None:
    append(tmp_path / "events.jsonl", Warned(text="caf\udce9.csv"))
    (event,) = read_events(tmp_path / "events.jsonl")
    assert isinstance(event, Warned)
    assert event.text == "caf?.csv"


def test_a_stage_tells_that_it_begins_and_how_it_ends() -> None:
    heard: list[Event] = []
    cause = Cause("data", "table.csv")
    with stage_told("small", "split", (cause,), heard.append):
        assert len(heard) == 1
    with pytest.raises(KeyboardInterrupt), stage_told("small", "train", (), heard.append):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="no"), stage_told("small", "train", (), heard.append):
        raise ValueError("no\nhttps://anna:secret@host/x?token=t0p")
    began, ran, _, stopped, _, failed = heard
    assert isinstance(began, StageBegan)
    assert began.causes == (cause,)
    assert isinstance(ran, StageRan)
    assert isinstance(stopped, StageFailed)
    assert stopped.error == "KeyboardInterrupt"
    assert isinstance(failed, StageFailed)
    assert (failed.error, failed.reason) == ("ValueError", "no https://…@host/x?token=…")


def test_a_log_is_warned_of_what_wants_looking_at(caplog: pytest.LogCaptureFixture) -> None:
    log = logged_to(logging.getLogger("told"))
    with caplog.at_level(logging.INFO, "told"):
        for event in ONE_OF_EACH:
            log(event)
    assert len(caplog.messages) == sum(bool(words(event)) for event in ONE_OF_EACH)
    warned = [record.getMessage().split()[0] for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == ["nul", "alert"]


def test_what_is_said_of_events_stands_on_a_console_as_it_is() -> None:
    file = io.StringIO()
    show = shown_on(opened(file))
    for event in (
        StageBegan(pipeline="small", stage="train", causes=(Cause("data", "[x]/[/s].csv"), Cause("settings", ":car:"))),
        StageRan(pipeline="small", stage="train", seconds=1.25),
        StageSkipped(pipeline="small", stage="split"),
        StageRestored(pipeline="small", stage="split", source="DVC cache"),
        Warned(text="[/red] is a name"),
    ):
        show(event)
    assert file.getvalue().splitlines() == [
        "▸ train     data: [x]/[/s].csv; settings: :car:",
        "            1.2 s",
        "✓ split     up to date",
        "            restored from the DVC cache",
        "            warning: [/red] is a name",
    ]
    assert words(ONE_OF_EACH[7]) == []
