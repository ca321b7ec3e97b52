"""What is printed can be read on any terminal, and brackets are brackets."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from mlops_pipeline import terminal
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
