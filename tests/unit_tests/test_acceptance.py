"""The pure parts of `make acceptance`: which rows are typed, where, and how what they showed is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from acceptance import commands, interfaces, tree
from acceptance.commands import auc, summary
from acceptance.desk import Desk, environment
from acceptance.rows import Result, Row, Unmet, as_markdown, as_text, chosen, closing_line
from acceptance.setting_up import locked

from tests.conftest import wait_for


def says(text: str) -> Callable[..., str]:
    return lambda *_: text


A = Row("a", "One", "first", ("echo a | cat",), says("a"))
B = Row("b", "One", "second", ("echo b",), says("b"), needs=("a",))
C = Row("c", "Two", "third", ("echo c", "echo " + "long " * 30), says("c"), needs=("b",))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    for name in ("clone", "scratch", "home"):
        (tmp_path / name).mkdir()
    at = Desk(tmp_path / "clone", tmp_path / "scratch", environment({"PATH": "/usr/bin:/bin"}, tmp_path / "home", Path(sys.executable)))
    at.begin(30)
    return at


def test_a_part_brings_what_it_needs_in_order() -> None:
    assert chosen([A, B, C], []) == [A, B, C]
    assert chosen([A, B, C], ["THIRD"]) == [A, B, C]
    assert chosen([A, B, C], ["echo b"]) == [A, B]
    assert chosen([A, B, C], ["nothing like it"]) == []


def test_every_name_that_a_row_needs_is_a_row_before_it() -> None:
    names: list[str] = []
    for row in [*commands.rows("tests/", full=False), *tree.rows(), *interfaces.rows()]:
        assert set(row.needs) <= set(names), row.name
        assert row.name not in names
        names.append(row.name)


def test_the_tables_show_every_row_and_the_failure() -> None:
    results = [Result(A, True, "one | two", 1.0), Result(C, False, "three", 2.25, "$ echo c\nc\n[exit code 1]")]
    text = as_text(results, 120)
    assert "✓ One         echo a | cat" in text
    assert "✗ Two         echo c" in text
    assert max(map(len, text.splitlines())) <= 120
    page = as_markdown(results, "a fresh clone of abc", closing_line(results, 61.4))
    assert page.startswith("# 1 of 2 rows pass in 1 min 1 s\n")
    assert "| ✓ | One | first | `echo a \\| cat` | one \\| two | 1.0 |" in page
    assert page.endswith("## ✗ c\n\n```text\n$ echo c\nc\n[exit code 1]\n```\n")


def test_nothing_of_the_caller_goes_along_but_the_way_to_packages(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").touch()
    caller = {
        "HOME": "/home/somebody",
        "PATH": f"{venv}/bin:/usr/bin",
        "PYTHONPATH": "/elsewhere",
        "MLFLOW_TRACKING_URI": "http://elsewhere",
        "PREFECT_API_URL": "http://elsewhere",
        "PIP_INDEX_URL": "http://packages",
        "https_proxy": "http://proxy",
    }
    made = environment(caller, tmp_path / "home", Path("/usr/bin/python3"))
    assert made["PATH"] == "/usr/bin"
    assert (made["HOME"], made["PYTHON"]) == (str(tmp_path / "home"), "/usr/bin/python3")
    assert (made["PIP_INDEX_URL"], made["https_proxy"], made["PIP_CACHE_DIR"]) == (
        "http://packages", "http://proxy", "/home/somebody/.cache/pip",
    )  # fmt: skip
    assert not made.keys() & {"PYTHONPATH", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "VIRTUAL_ENV"}


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        ("--index-url https://packages\na==1 --hash=sha256:00\n", "names an index"),
        ("a==1 \\\n    --hash=sha256:00\nb==2\n", "without version or hash: b==2"),
        ("a>=1 --hash=sha256:00\n", "without version or hash: a>=1"),
    ],
)
def test_a_lock_with_an_index_or_without_a_hash_is_told(lock: str, fault: str) -> None:
    with pytest.raises(Unmet, match=fault):
        locked(lock)


def test_a_locks_pins_are_read_with_extras_and_markers() -> None:
    lock = "# head\nA_b[x]==1.0 ; python_full_version < '3.12' \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\na-b==2 --hash=sha256:22\n"
    assert locked(lock) == {"a-b": {"1.0", "2"}}


def test_pytests_closing_lines_are_read() -> None:
    text = "TOTAL    8123   1211   2050    180    84%\n=== 3 failed, 1200 passed, 2 skipped, 1 warning, 2 errors in 12.3s (0:00:12) ===\n"
    assert summary(text) == ({"passed": 1200, "failed": 3, "error": 2, "skipped": 2}, 84)
    assert summary("collected 0 items\n=== no tests ran in 0.01s ===\n") == ({}, None)


def test_the_area_under_the_curve_agrees_with_scikit_learn() -> None:
    import numpy as np
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    labels, scores = random.random(500) > 0.7, random.integers(0, 20, 500).astype(float)
    assert auc(labels.tolist(), scores.tolist()) == pytest.approx(roc_auc_score(labels, scores))


def test_a_line_that_ends_otherwise_than_it_should_is_told(desk: Desk) -> None:
    assert desk.type("echo $SCRATCH; exit 3", code=3).out == f"{desk.scratch}\n"
    with pytest.raises(Unmet, match="exit code 1 instead of 2"):
        desk.type("echo said; false", code=2)
    assert desk.detail().startswith("$ echo said; false\nsaid\n[exit code 1 ")
    desk.begin(0.5)
    with pytest.raises(Unmet, match="had not ended"):
        desk.type("sleep 60")


def test_a_server_ends_with_its_block_and_all_that_it_started(desk: Desk) -> None:
    port = desk.port()
    line = f"sleep 600 & echo $! >$SCRATCH/child; exec {sys.executable} -m http.server --bind 127.0.0.1 $PORT"
    with desk.serving(line, f"http://127.0.0.1:{port}/"):
        child = Path("/proc") / (desk.scratch / "child").read_text().strip()
        assert child.exists()
    wait_for(lambda: not child.exists(), 10, "the end of what the server had started")
    with (
        pytest.raises(Unmet, match="ended with exit code 7 before it was ready"),
        desk.serving("echo why; exit 7", f"http://127.0.0.1:{port}/"),
    ):
        pass
    assert "why" in desk.detail()
