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
