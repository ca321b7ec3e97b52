"""The notebooks as they are stored: whole, run in order, small, explained, and saying nothing of the machine they ran on."""

from __future__ import annotations

import base64
import re
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from notebooks.execute import FOLDER, MAX_BYTES, METADATA

from tests.conftest import REPOSITORY, lacking

STORIES = ("01_data_exploration", "02_model_training", "03_pipeline_implementation")
LONGEST_CELL = 25
PLACES = re.compile(r"(?<![\w.<])/(?:home|root|tmp|work|Users|var|private|usr|opt)/|[A-Z]:\\")


@pytest.fixture(autouse=True)
def _nbformat() -> None:
    if find_spec("nbformat") is None:
        lacking("nbformat", "make setup-dev")


def story(name: str) -> Any:
    import nbformat

    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(name: str) -> list[Any]:
    return [cell for cell in story(name).cells if cell.cell_type == "code"]


def outputs(name: str) -> list[Any]:
    return [output for cell in code_cells(name) for output in cell.outputs]


def shown_text(output: Any) -> str:
    """What a reader sees of an output, pictures aside."""
    if output.output_type == "stream":
        return str(output.text)
    return "\n".join(text for kind, text in output.data.items() if kind.startswith("text/"))


def test_there_are_the_three_stories_and_no_other() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(STORIES)


def test_the_readmes_picture_is_one_that_the_first_story_shows() -> None:
    pictures = [output.data["image/png"] for output in outputs(STORIES[0]) if "image/png" in output.get("data", {})]
    assert base64.b64encode((REPOSITORY / "docs/images/random_split.png").read_bytes()).decode() in pictures


@pytest.mark.parametrize("name", STORIES)
class TestStoredNotebook:
    def test_keeps_the_format_and_names_the_kernel_of_any_environment(self, name: str) -> None:
        import nbformat

        notebook = story(name)
        nbformat.validate(notebook)
        assert notebook.metadata == METADATA
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)

    def test_was_run_once_from_top_to_bottom(self, name: str) -> None:
        cells = code_cells(name)
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))

    def test_shows_pictures_and_tables_and_no_trouble(self, name: str) -> None:
        assert any("image/png" in output.get("data", {}) for output in outputs(name))
        for output in outputs(name):
            assert output.output_type != "error", output.evalue
            assert output.get("name") != "stderr", output.text
            assert "Warning" not in shown_text(output)

    def test_is_small(self, name: str) -> None:
        assert (FOLDER / f"{name}.ipynb").stat().st_size <= MAX_BYTES

    def test_says_nothing_of_when_and_where_it_ran(self, name: str) -> None:
        for cell in story(name).cells:
            assert not cell.metadata
            for text in (cell.source, *map(shown_text, cell.get("outputs", []))):
                assert not PLACES.search(text), PLACES.search(text)
                assert "0x7f" not in text
                assert str(REPOSITORY) not in text

    def test_tells_a_story_one_idea_a_cell(self, name: str) -> None:
        cells = story(name).cells
        assert cells[0].cell_type == "markdown"
        assert cells[0].source.startswith("# ")
        for before, cell in pairwise(cells):
            if cell.cell_type == "code":
                assert before.cell_type == "markdown", f"nothing explains:\n{cell.source}"
                lines = [line for line in cell.source.splitlines() if line.strip() and not line.startswith(("import ", "from "))]
                assert len(lines) <= LONGEST_CELL, cell.source

    def test_uses_the_package_and_touches_no_project(self, name: str) -> None:
        sources = [cell.source for cell in code_cells(name)]
        assert "environment.prepare()" in sources[0]
        assert any(re.search(r"^from mlops_pipeline\.", source, re.MULTILINE) for source in sources)
        assert "TemporaryDirectory()" in "\n".join(sources)

    def test_links_lead_somewhere(self, name: str) -> None:
        links = [link for cell in story(name).cells for link in re.findall(r"\]\(([^)#]+)\)", cell.source) if cell.cell_type == "markdown"]
        assert any(link.endswith(".ipynb") for link in links)
        for link in links:
            assert link.startswith("https://") or Path(FOLDER / link).exists(), link
