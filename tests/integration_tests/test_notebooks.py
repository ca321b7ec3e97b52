"""Each notebook runs from top to bottom in a fresh kernel, says what it is stored with, and leaves the project alone."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from notebooks.execute import FOLDER, execute, text_of

from tests.conftest import REPOSITORY, lacking, process_environment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("notebooks")]

ELSEWHERE = {"kernelspec": {"name": "of-another-machine", "display_name": "Theirs", "language": "python"}}
PIECES = "import time\nfor number in range(3):\n    print(number, flush=True)\n    time.sleep(0.3)"
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
DIGEST = re.compile(r"(?<![\w.])[0-9a-f]{8,}(?!\w)")
FINEST = 0.0005  # what another machine's arithmetic may make of a figure, however many digits are printed
THE_PROJECTS_OWN = ("data", "models", "mlflow", "notebooks", "configs", "dvc.lock", "dvc.yaml")


@pytest.fixture(autouse=True)
def _parts() -> None:
    for module in ("nbclient", "ipykernel"):
        if find_spec(module) is None:
            lacking(module, "make setup-dev")


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of the project that a run may write, with its size and time."""
    files = [path for name in THE_PROJECTS_OWN for path in [folder / name, *(folder / name).rglob("*")] if path.is_file()]
    facts = {path.relative_to(folder).as_posix(): path.stat() for path in files if "__pycache__" not in path.parts}
    return {name: (fact.st_size, fact.st_mtime_ns) for name, fact in facts.items()}


def shown(notebook: Any) -> Iterator[tuple[str, str]]:
    """The kind of each output in order, and its plain text; a picture's text is its size."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                yield output.name, output.text
            else:
                yield " ".join(sorted(output.data)), output.data.get("text/plain", "")


def is_the_figure(now: str, stored: str) -> bool:
    """Whether two printed numbers differ by no more than another machine's arithmetic makes of one: whole numbers not at all."""
    a, b = (float(number.replace(",", "")) for number in (now, stored))
    if "e" in now + stored:
        return a == b or abs(math.log10(a / b)) <= 1
    if "." not in now or "." not in stored:
        return a == b
    last_digit = 10.0 ** -len(stored.partition(".")[2])
    return abs(a - b) <= max(2 * last_digit, FINEST) + 1e-9


def says_the_same(now: str, stored: str) -> bool:
    """Equal words, whatever the padding and the digests of what was made, and the same figures in the same places."""
    texts = [DIGEST.sub("digest", re.sub(r"[─┬┴]+", "─", text)) for text in (now, stored)]
    words = ["".join(NUMBER.sub("#", text).split()) for text in texts]
    numbers = [NUMBER.findall(text) for text in texts]
    return words[0] == words[1] and all(map(is_the_figure, *numbers))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_runs_and_says_what_it_is_stored_with(path: Path, tmp_path: Path) -> None:
    import nbformat

    before = state(REPOSITORY)
    copy = tmp_path / path.name
    shutil.copyfile(path, copy)
    now, stored = execute(copy), nbformat.read(path, as_version=4)
    text_of(now)
    assert list(shown(now)), "shows nothing"
    for (kind, text), (stored_kind, stored_text) in zip_longest(shown(now), shown(stored), fillvalue=("nothing", "")):
        stale = f"{path.name} is stale, run `make notebooks`:\n{stored_kind}: {stored_text}\nis now\n{kind}: {text}"
        assert kind == stored_kind, stale
        assert says_the_same(text, stored_text), stale
    assert state(REPOSITORY) == before


@pytest.mark.parametrize(
    ("now", "stored"),
    [
        ("┌──────┐\n│ auc ┆ 0.7725 ┆ 28,293 │", "┌───────┐\n│ auc ┆ 0.772 ┆ 28,293 │"),
        ("roc_auc 0.7722 (0.7667 to 0.7792)", "roc_auc 0.7725 (0.7670 to 0.7790)"),
        ("late, % 12.8", "late, % 12.6"),
        ("agrees within 2e-07", "agrees within 3e-07"),
        ("agrees within 9e-08", "agrees within 1e-07"),
        ("against champion 0b1c2d3e", "against champion fa4d562b"),
    ],
)
def test_another_machines_rounding_and_digests_are_no_staleness(now: str, stored: str) -> None:
    assert says_the_same(now, stored)


@pytest.mark.parametrize(
    ("now", "stored"),
    [
        ("auc 0.772", "auc 0.801"),
        ("auc 0.772", "brier 0.772"),
        ("auc -0.003", "auc 0.003"),
        ("1,000 rows", "1,001 rows"),
        ("12 of 19 columns", "13 of 19 columns"),
        ("version 1", "version 1.01"),
        ("version 1.01", "version 1"),
        ("gain 0.008", "gain 0.001"),
        ("July 0.772 shuffled 0.785", "July 0.785 shuffled 0.772"),
        ("lightgbm 0.772 random_forest 0.769", "lightgbm 0.769 random_forest 0.772"),
        ("roc_auc 0.7725", "roc_auc 0.7735"),
        ("late, % 12.8", "late, % 13.1"),
        ("agrees within 3e-02", "agrees within 3e-07"),
        ("against champion fa4d562b", "against champion none"),
        ("0.772", "0.772 0.785"),
    ],
)
def test_stale_figures_and_words_are_told(now: str, stored: str) -> None:
    assert not says_the_same(now, stored)


def write(path: Path, *sources: str) -> Path:
    import nbformat

    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=ELSEWHERE), path)
    return path


def run_script(path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, str(FOLDER / "execute.py"), str(path))
    return subprocess.run(words, env=process_environment(**environ), capture_output=True, text=True, timeout=120, check=False)


def test_a_second_execution_changes_no_byte(tmp_path: Path) -> None:
    import nbformat

    picture = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    path = write(tmp_path / "n.ipynb", "import os, sys\nprint(sys.prefix, os.environ.get('MLFLOW_TRACKING_URI'))", picture, PIECES)
    first = run_script(path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    content = path.read_bytes()
    again = run_script(path)
    assert (first.returncode, first.stdout, first.stderr) == (0, "n.ipynb: written\n", "")
    assert (again.returncode, again.stdout, again.stderr) == (0, "n.ipynb: as it was\n", "")
    assert path.read_bytes() == content
    outputs = [cell.outputs[0] for cell in nbformat.read(path, as_version=4).cells]
    assert outputs[0].text == f"{sys.prefix} None\n", "the kernel is that of this environment, and knows no server of the user's"
    assert "image/png" in outputs[1].data
    assert outputs[2].text == "0\n1\n2\n", "what comes in pieces is stored whole"
    assert b"Software" not in content


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("1 / 0", "cell 2 failed: ZeroDivisionError: division by zero"),
        ("import warnings\nwarnings.warn('old')", "cell 2 wrote to stderr"),
        ("print(('x' * 99 + '\\n') * 5_000)", "more than 400,000"),
    ],
    ids=["fails", "warns", "grows"],
)
def test_an_unsound_notebook_is_refused_in_one_line_and_left_as_it_was(tmp_path: Path, source: str, words: str) -> None:
    path = write(tmp_path / "n.ipynb", "print('fine')", source)
    before = path.read_bytes()
    done = run_script(path)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.startswith(f"error: {path}: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a notebook of format 4 (Expecting property name"),
        ("[]", "not a notebook of format 4 (no JSON object)"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}', "not a notebook of format 4 ("),
        (None, "no such file: name a notebook, or none for all of notebooks/"),
    ],
    ids=["cut off", "a list", "no cell", "missing"],
)
def test_what_is_no_notebook_is_refused_in_one_line(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "n.ipynb"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = run_script(path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: {words}"), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
