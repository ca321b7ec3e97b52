"""What is printed can be read on any terminal, and brackets are brackets."""

from __future__ import annotations

import io
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from mlops_pipeline import terminal
from mlops_pipeline.cli import main
from tests.conftest import process_environment

SAID = "✓ ▸ ✗ · → … × ± «é» \u4e2d \U0001f600 ⠋ caf\udce9"
PLAIN = '+ > x - -> ... x +- "\\u00e9" \\u4e2d \\U0001f600 * caf\\xe9'
PRINT = "import sys; from mlops_pipeline import terminal; terminal.make_readable(); print({0!a}); print({0!a}, file=sys.stderr)"
ASCII = {
    "asked for": {"PYTHONIOENCODING": "ascii"},
    "asked for, strictly": {"PYTHONIOENCODING": "ascii:strict"},
    "the locale's": {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


@pytest.mark.parametrize("case", ASCII)
def test_signs_that_an_encoding_lacks_are_said_in_plain_text(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT.format(SAID)], env=process_environment(**ASCII[case]), capture_output=True, check=True, timeout=300
    )
    assert done.stdout.decode("ascii") == done.stderr.decode("ascii") == PLAIN + "\n"


def test_where_the_encoding_has_them_they_stay() -> None:
    environ = process_environment(PYTHONIOENCODING="utf-8")
    done = subprocess.run([sys.executable, "-c", PRINT.format(SAID)], env=environ, capture_output=True, check=True, timeout=300)
    assert done.stdout.decode() == done.stderr.decode() == SAID.replace("\udce9", "\\xe9") + "\n"


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["key"], ["config", "--config", "ü [/x].yaml"], ["nonsense"]])
@pytest.mark.parametrize("case", ASCII)
def test_no_command_ends_in_a_traceback_on_an_ascii_terminal(case: str, words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlops_pipeline", *words]
    done = subprocess.run(command, cwd=tmp_path, env=process_environment(**ASCII[case]), capture_output=True, check=False, timeout=300)
    assert done.returncode == (0 if words[-1] in ("--help", "key") else 2)
    assert b"Traceback" not in done.stderr
    assert done.stdout + done.stderr


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["models", "--help"], 0), (["run", "--lala"], 2), (["models", "lst"], 2)])
def test_help_and_a_slip_are_answered_at_once_and_whole(words: list[str], code: int) -> None:
    asked = "import sys\nfrom mlops_pipeline.cli import main\ntry: main(sys.argv[1:])\nfinally: print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked, *words], env=process_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == code
    *said, loaded = done.stdout.splitlines()
    assert loaded == "False"  # it takes as long as all the rest
    assert "..." not in " ".join(said).replace("[ARGS]...", "")  # no sentence is cut
    if code:
        assert len(done.stderr.splitlines()) == 1
        assert "no such " in done.stderr


def test_what_users_write_is_no_markup_on_our_console() -> None:
    file = io.StringIO()
    console = terminal.opened(file, width=60)
    table = Table("[x]", title="[/s]")
    table.add_row("[/s] :car: [red]")
    console.print("[x] [/s] :car: [link=http://host]")
    console.print(table)
    said = file.getvalue()
    assert said.startswith("[x] [/s] :car: [link=http://host]\n")
    for text in ("[x]", "[/s]\n", "[/s] :car: [red]"):
        assert text in said


STEERS = st.text() | st.lists(st.sampled_from(["\x1b[2J", "\x9b31m", "\x07", "\r", "\u202e", "\u2028", "a", "ü", "\udcfc"])).map("".join)


@given(STEERS)
def test_what_others_have_written_cannot_steer_the_terminal(text: str) -> None:
    file = io.StringIO()
    console = terminal.opened(file, width=60)
    table = Table("x")
    table.add_row(text)
    console.print(text)
    console.print(Text(text, "red"))
    console.print(table)
    assert all(letter == "\n" or unicodedata.category(letter) != "Cc" for letter in file.getvalue())
    assert not set(file.getvalue()) & {"\u202e", "\u2028"}


def test_nor_does_a_name_in_an_error_and_a_line_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["init", "--input", str(tmp_path / "a\x1b[2J\u202e.csv"), "--target", "y", "--output", str(tmp_path / "new.yaml")])
    said = capsys.readouterr().err
    assert "a␛[2J\N{REPLACEMENT CHARACTER}.csv: does not exist" in said
    assert said.count("\n") == 1
