"""What other libraries say is told in one line: whole sentences of it, or with a sign that it goes on."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from mlops_pipeline.cli import main
from mlops_pipeline.errors import first_sentences, one_line


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
