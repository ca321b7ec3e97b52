"""Which source files a stage depends on: what its imports run, and nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.pipeline import code_graph
from mlops_pipeline.pipeline.definition import STAGES, Stage

HOME = Path(code_graph.__file__).parents[1]

FILES = {
    "__init__.py": "",
    "top.py": "\n".join(
        [
            "from typing import TYPE_CHECKING",
            "from workshop_house import middle",
            "if TYPE_CHECKING:",
            "    from workshop_house import typed",
        ]
    ),
    "middle.py": "def late():\n    from workshop_house.room import inner\n    return inner\n",
    "typed.py": "",
    "alone.py": "",
    "room/__init__.py": "",
    "room/inner.py": "import json\n",
    "room/beside.py": "",
    "room/page.html": "<p>",
    "room/notes.txt": "",
    "unused/__init__.py": "",
    "unused/page.html": "<p>",
}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small package of its own in the place of ours."""
    home = tmp_path / "workshop_house"
    for name, text in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code_graph, "PACKAGE", home.name)
    clear()
    importlib.import_module(home.name)
    yield home
    clear()
    for name in [name for name in sys.modules if name.split(".")[0] == home.name]:
        del sys.modules[name]


def clear() -> None:
    importlib.invalidate_caches()
    code_graph.source_files.cache_clear()
    code_graph._graph.cache_clear()


def names(home: Path, module: str) -> set[str]:
    return {path.relative_to(home).as_posix() for path in code_graph.source_files(module)}


def test_imports_count_through_others_and_inside_functions_but_not_for_type_checkers(house: Path) -> None:
    assert names(house, "workshop_house.top") == {
        "__init__.py",
        "top.py",
        "middle.py",
        "room/__init__.py",
        "room/inner.py",
        "room/page.html",
    }


def test_a_module_that_imports_nothing_needs_itself_and_its_package(house: Path) -> None:
    assert names(house, "workshop_house.alone") == {"__init__.py", "alone.py"}


def ours(module: str) -> set[str]:
    return names(HOME, f"mlops_pipeline.{module}")


def test_training_depends_on_what_it_trains_with_and_not_on_how_it_is_judged() -> None:
    files = ours("pipeline.stages.train")
    assert {"pipeline/stages/train.py", "modelling/estimators.py", "modelling/tuning.py", "config/pipeline.py", "__init__.py"} <= files
    assert (
        not {
            "modelling/gate.py",
            "pipeline/stages/evaluate.py",
            "pipeline/stages/register.py",
            "cli.py",
            "pipeline/runner.py",
            "pages/evaluation.html",
        }
        & files
    )


def test_templates_belong_to_the_pages_that_use_them() -> None:
    assert {"pages/__init__.py", "pages/evaluation.html", "pages/base.html"} <= ours("pipeline.stages.evaluate")
    assert not any(name.endswith(".html") for name in ours("pipeline.stages.split"))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_stage_depends_on_files_that_exist_and_on_no_face(stage: Stage) -> None:
    files = code_graph.source_files(stage.module)
    assert all(path.is_file() for path in files)
    assert not {"cli.py", "pipeline/runner.py", "pipeline/cache.py", "pipeline/definition.py", "__main__.py"} & {
        path.relative_to(HOME).as_posix() for path in files
    }
