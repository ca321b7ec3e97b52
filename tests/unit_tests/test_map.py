"""The map in CONTRIBUTING.md: it names every file of the package, and none that is gone; and no two modules import each other."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import grimp

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src/mlops_pipeline"
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:3] for line in TEXT.splitlines() if line.startswith("| ")]
LOOKS_LIKE_A_FILE = re.compile(r"`([\w./-]+(?:\.(?:py|md|json|yaml|toml)|/))`")


@cache
def named() -> dict[str, set[Path]]:
    """Each file or folder that the map names, and what there is by that name: in the row's own rooms, the package, the repository."""
    found: dict[str, set[Path]] = {}
    for place, what in ROWS:
        named_here = LOOKS_LIKE_A_FILE.findall(place) + LOOKS_LIKE_A_FILE.findall(what)
        bases = [PACKAGE, REPOSITORY]
        for name in named_here:
            there = {path for base in bases if (path := base / name).exists()}
            found.setdefault(name, set()).update(there)
            bases += [path if path.is_dir() else path.parent for path in there if path.is_relative_to(PACKAGE)]
    return found


def test_the_map_names_nothing_that_is_gone() -> None:
    gone = [name for name, there in named().items() if not there]
    outside_of_the_map = [
        name
        for name in LOOKS_LIKE_A_FILE.findall(TEXT)
        if name not in named() and "NAME" not in name and not any((base / name).exists() for base in (PACKAGE, REPOSITORY))
    ]
    assert not gone + outside_of_the_map


def test_the_map_names_every_file_of_the_package() -> None:
    shown = set().union(*named().values())
    files = {path for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")}
    assert sorted(str(path.relative_to(PACKAGE)) for path in files - shown) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for type checkers alone count too: import-linter's contracts leave them out."""
    graph = grimp.build_graph("mlops_pipeline", exclude_type_checking_imports=False, cache_dir=None)
    pairs = [(module, imported) for module in graph.modules for imported in graph.find_modules_directly_imported_by(module)]
    assert [pair for pair in pairs if graph.chain_exists(importer=pair[1], imported=pair[0])] == []
