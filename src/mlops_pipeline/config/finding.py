"""Which settings are meant where none are named: those of the project that one works in."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import text_of

MARKER = ".mlops.yaml"
"""A file at a project's top; its line ``configuration: configs/mine.yaml`` says which of several is meant."""

FOLDER = "configs"
PIPELINE, SERVING, MONITORING, RELEASE = (f"{FOLDER}/{name}_config.yaml" for name in ("training", "serving", "monitoring", "release"))
"""Where a project keeps its settings, unless it says otherwise."""

_IS_PIPELINE = re.compile(r"^(dataset|train)[ \t]*:", re.MULTILINE)
_IS_SERVING = re.compile(r"^(pipeline|models|record)[ \t]*:", re.MULTILINE)
_IS_MONITORING = re.compile(r"^(windows|rules|channels|retraining)[ \t]*:", re.MULTILINE)
_IS_RELEASE = re.compile(r"^(policy|auto|lease_s)[ \t]*:", re.MULTILINE)
_NAMED = re.compile(r"^configuration[ \t]*:[ \t]*(['\"]?)(?P<path>.+?)\1[ \t]*(#.*)?$", re.MULTILINE)


def pipeline_config(given: Path | None, project: Path | None = None) -> Path:
    """The pipeline's settings: what is given, else those of this project. Raises :class:`PipelineError` if it cannot tell."""
    found = given or pipeline_here(project)
    if found is None:
        raise PipelineError(
            f"{project or project_here()}: holds no pipeline's settings in {FOLDER}/: `mlops new DIR --data FILE --target COLUMN` makes a "
            "project, `mlops init` settings in one, --config names others"
        )
    return found


def pipeline_here(project: Path | None = None) -> Path | None:
    """The settings of a project's pipeline: the one in its marker, the usual file, or the only one; None if there is none.

    Raises :class:`PipelineError` if there are several.
    """
    project = project or project_here()
    if (named := _marked(project)) is not None:
        return named
    if (project / PIPELINE).is_file():
        return _shown(project / PIPELINE)
    return _only(pipeline_files(project), f", or write `configuration: PATH` into {MARKER}")


def serving_config(given: Path | None, project: Path | None = None) -> Path:
    """The server's settings: what is given, else those of this project, else its pipeline's, whose champion is then served."""
    return given or serving_here(project) or pipeline_config(None, project)


def serving_here(project: Path | None = None) -> Path | None:
    """The server's settings of a project; None if there are none. Raises :class:`PipelineError` if there are several."""
    project = project or project_here()
    if (project / SERVING).is_file():
        return _shown(project / SERVING)
    return _only(servers_here(project), "")


def servers_here(project: Path) -> list[Path]:
    """Every file among a project's settings that is a server's."""
    usual = [project / SERVING] if (project / SERVING).is_file() else []
    return usual + [path for path in _files(project, _IS_SERVING, but=_IS_PIPELINE) if path not in usual and not _is_monitoring(path)]


def monitoring_config(given: Path | None, project: Path | None = None) -> Path | None:
    """The watch's settings: what is given, else those of this project; None where there are none, and every default holds.

    Raises :class:`PipelineError` if there are several.
    """
    return given or _here(project, MONITORING, _IS_MONITORING)


def release_config(given: Path | None, project: Path | None = None) -> Path | None:
    """The settings of releases: what is given, else those of this project; None where there are none, and every default holds.

    Raises :class:`PipelineError` if there are several.
    """
    return given or _here(project, RELEASE, _IS_RELEASE)


def option_for(config: Path, project: Path | None = None) -> str:
    """What a command needs to mean this pipeline: nothing, or ``--config`` with its file, a blank before it.

    It is typed here, or in the folder of ``project``.
    """
    return _option(config, lambda: pipeline_here(project), project)


def option_for_watch(config: Path | None) -> str:
    """The same of the watch's settings; nothing where every default holds."""
    return "" if config is None else _option(config, lambda: monitoring_config(None))


def option_for_releases(config: Path | None) -> str:
    """The same of the settings of releases."""
    return "" if config is None else _option(config, lambda: release_config(None))


def option_for_server(config: Path) -> str:
    """The same of the server's settings."""
    return _option(config, lambda: serving_config(None))


def _option(config: Path, find: Callable[[], Path | None], project: Path | None = None) -> str:
    try:
        here = find()
    except (PipelineError, OSError):  # what is said to be typed keeps nothing from its work
        here = None
    is_found = here is not None and here.resolve() == config.resolve()
    return "" if is_found else f" --config {shlex.quote(os.path.relpath(config, project))}"


def project_here() -> Path:
    """The nearest folder, from this one upward, that is a project; else this one."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir() or (folder / PIPELINE).is_file()), here)


def pipeline_files(project: Path) -> list[Path]:
    """Every file among a project's settings that is a pipeline's."""
    return _files(project, _IS_PIPELINE, but=_IS_SERVING)


def _marked(project: Path) -> Path | None:
    try:
        named = _NAMED.search(text_of(project / MARKER))
    except FileNotFoundError:
        return None
    if named is None:
        return None
    path = project / named["path"]
    if not path.is_file():
        raise PipelineError(f"{_shown(project / MARKER)}: configuration = '{named['path']}': there is no such file: mend the line")
    return _shown(path)


def _files(project: Path, kind: re.Pattern[str], *, but: re.Pattern[str]) -> list[Path]:
    paths = sorted(path for ending in ("yaml", "yml") for path in (project / FOLDER).glob(f"*.{ending}"))
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()}
    return [path for path, text in texts.items() if kind.search(text) and not but.search(text)]


def _here(project: Path | None, usual: str, kind: re.Pattern[str]) -> Path | None:
    project = project or project_here()
    if (project / usual).is_file():
        return _shown(project / usual)
    return _only(_files(project, kind, but=_IS_PIPELINE), "")


def _is_monitoring(path: Path) -> bool:
    return _IS_MONITORING.search(path.read_text(encoding="utf-8", errors="replace")) is not None


def _only(paths: Iterable[Path], besides: str) -> Path | None:
    found = [_shown(path) for path in paths]
    if len(found) > 1:
        raise PipelineError(f"{', '.join(map(str, found))}: which one? Name it with --config{besides}")
    return found[0] if found else None


def _shown(path: Path) -> Path:
    """The path as one would type it here."""
    return Path(os.path.relpath(path))
