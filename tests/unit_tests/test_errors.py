"""What other libraries say is told in one line: whole sentences of it, or with a sign that it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mlops_pipeline.cli import main
from mlops_pipeline.errors import first_sentences, one_line
from tests.conftest import process_environment


def test_what_is_cut_off_says_so() -> None:
    assert one_line("a\n  b") == "a b"
    assert one_line("x" * 300) == "x" * 199 + "…"


def test_a_long_reason_is_told_in_whole_sentences() -> None:
    said = "No converter for MyTrees. It usually means that none is registered. " + "You may write one. " * 30
    assert first_sentences(said).startswith("No converter for MyTrees. It usually means that none is registered.")
    assert first_sentences(said).endswith("You may write one.")
    assert first_sentences("short") == "short"
    assert first_sentences("x" * 400).endswith("x…")


def test_the_command_line_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code
    assert capsys.readouterr().out == f"mlops-pipeline {version('mlops-pipeline')}\n"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("models approve 3", "error: mlops models approve: missing option '--reason': `mlops models approve --help` says what it takes\n"),
        ("nope", "error: mlops: no such command 'nope': `mlops --help` says what it takes\n"),
        ("models approve x --reason y", "error: mlops models approve: invalid value for 'version': "),
        ("run --nope", "error: mlops run: no such option: --nope"),
    ],
)
def test_what_was_typed_wrongly_is_one_line_that_names_the_help(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(typed.split())
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert told.err.startswith(said)
    assert told.err.count("\n") == 1


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models"])
    told = capsys.readouterr()
    assert (ended.value.code, told.err) == (2, "")
    assert "Usage: mlops models" in told.out


def test_who_stops_a_command_is_told_what_becomes_of_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlops_pipeline.doctor.examine", stopped)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped; what is finished stays, and the same command goes on from there\n"


def test_a_file_that_ends_too_early_is_not_taken_for_a_person_who_ends_a_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def short(_: object) -> None:
        raise EOFError("the stream ended")

    monkeypatch.setattr("mlops_pipeline.doctor.examine", short)
    with pytest.raises(EOFError, match="the stream ended"):
        main(["doctor"])
    assert "nothing is done" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["models"], ["parts", "--json"]])
def test_who_reads_no_more_ends_a_command_without_a_word_and_a_disk_that_is_full_is_told(words: list[str]) -> None:
    def ended(output: int) -> tuple[int, str]:
        typed = [sys.executable, "-m", "mlops_pipeline", *words]
        done = subprocess.run(
            typed, env=process_environment(PYTHONUNBUFFERED=""), stdout=output, stderr=subprocess.PIPE, text=True, check=False
        )
        return done.returncode, done.stderr

    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert ended(writer) == (1, "")
    finally:
        os.close(writer)
    with Path("/dev/full").open("wb") as full:
        code, said = ended(full.fileno())
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "No space left on device" in said


def test_settings_are_not_named_beside_manifests_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["deploy", "--manifests", "here.yaml", "--config", "mine.yaml"])
    assert ended.value.code == 2
    told = "error: --config mine.yaml: says for which pipeline manifests are rendered: leave it or --manifests out\n"
    assert capsys.readouterr().err == told
