"""``metadata.json``: what the project is, for programs to read."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

from mlops_pipeline.config.dataset import Task
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import text_of
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.definition import STAGES

FILE = "metadata.json"


def metadata(settings: Settings, layout: Layout) -> str:
    """The file with everything that ``pyproject.toml``, the stages and the locks say; what people wrote besides stays.

    Raises :class:`PipelineError` if it or ``pyproject.toml`` is not readable.
    """
    kept, about = _kept(layout.project / FILE), _about(layout.project / "pyproject.toml")
    config, other = layout.relative(layout.config), configuration_in(kept)
    if other not in {None, config}:
        tells = f"pipeline.configuration = {other}: tells of another pipeline than {config}"
        raise PipelineError(f"{layout.project / FILE}: {tells}: render it with --config {other}")
    described = {
        "name": about["name"],
        "version": about["version"],
        "description": about.get("description", ""),
        "license": about.get("license", ""),
        "requires_python": about.get("requires-python", ""),
        "pipeline": {
            "name": settings.name,
            "configuration": config,
            "stages": [
                {
                    "name": stage.name,
                    "summary": stage.summary,
                    "reads": [layout.relative(path) for path in stage.inputs(settings, layout)],
                    "writes": [layout.relative(path) for path in stage.outputs(layout)],
                }
                for stage in STAGES
            ],
        },
        "tasks": {**kept.get("tasks", {}), "learning": list(get_args(Task))},
        "tested_with": {**kept.get("tested_with", {}), "packages": _tested(about, layout.project)},
    }
    return json.dumps({**kept, **described}, indent=2, ensure_ascii=False) + "\n"


def tells_of(layout: Layout) -> bool:
    """Whether the project keeps the file, and for this pipeline if it has been rendered before."""
    if not all((layout.project / name).is_file() for name in (FILE, "pyproject.toml")):
        return False
    return configuration_in(_kept(layout.project / FILE)) in {None, layout.relative(layout.config)}


def configuration_in(content: dict[str, Any]) -> str | None:
    """Which pipeline the file tells of; None before it was rendered."""
    named = content.get("pipeline", {}).get("configuration")
    return None if named is None else str(named)


def _kept(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror}): begin with one that holds {{}}") from None
    except ValueError as error:
        raise PipelineError(f"{path}: is no JSON ({error}): mend it, or restore it with git checkout") from None
    if not isinstance(found, dict) or not all(isinstance(found.get(key, {}), dict) for key in ("pipeline", "tasks", "tested_with")):
        raise PipelineError(f"{path}: has to be an object, and so have its pipeline, tasks and tested_with: restore it with git checkout")
    return found


def _about(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror}): {FILE} tells its name and version") from None
    except ValueError as error:
        raise PipelineError(f"{path}: is no TOML ({error}): mend it") from None
    for key in ("name", "version"):
        if not isinstance(found.get(key), str):
            raise PipelineError(f"{path}: project.{key} is missing: write it there, for {FILE} tells it")
    return dict(found)


def _tested(about: dict[str, Any], project: Path) -> dict[str, list[str]]:
    """Direct dependencies that a lock pins, by name; several versions where the lock has one for each Python."""
    wanted = [*about.get("dependencies", []), *(each for extra in about.get("optional-dependencies", {}).values() for each in extra)]
    names = sorted({re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0].lower().replace("_", "-") for each in wanted})
    locked: dict[str, dict[str, None]] = {}
    for lock in sorted(project.glob("requirements*.txt")):
        for name, version in re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text_of(lock), re.MULTILINE):
            locked.setdefault(name.lower(), {})[version] = None
    return {name: list(locked[name]) for name in names if name in locked}
