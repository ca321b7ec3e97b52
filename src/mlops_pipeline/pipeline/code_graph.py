"""Which of our source files a function's module needs, read from the import graph."""

import sys
from functools import cache
from pathlib import Path

PACKAGE = "mlops_pipeline"


@cache
def source_files(module: str) -> tuple[Path, ...]:
    """Files of this package that importing ``module`` runs, itself included: its imports, direct or not.

    Imports inside functions count; those for type checkers alone do not. Files that are not Python (templates) belong
    to the package in whose folder they lie.
    """
    graph = _graph()
    modules = {module, *graph.find_upstream_modules(module)}
    packages = {".".join(name.split(".")[:n]) for name in modules for n in range(1, name.count(".") + 1)}
    home = Path(str(sys.modules[PACKAGE].__file__)).parent
    files = {_file(home, name) for name in modules | packages}
    return tuple(sorted(files | {data for file in files if file.name == "__init__.py" for data in _data_beside(file)}))


@cache
def _graph():  # type: ignore[no-untyped-def]  # grimp ships no public name for its graph's type
    import grimp

    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    if {f"{PACKAGE}.plugins", f"{PACKAGE}.parts"} <= graph.modules:
        # Imported by its name, as any module of parts is.
        graph.add_import(importer=f"{PACKAGE}.plugins", imported=f"{PACKAGE}.parts")
    return graph


def _file(home: Path, module: str) -> Path:
    path = home.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _data_beside(init: Path) -> list[Path]:
    return [path for path in init.parent.iterdir() if path.is_file() and path.suffix in (".html", ".md", ".css")]
