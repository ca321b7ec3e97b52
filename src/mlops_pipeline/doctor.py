"""What of the environment works, what is missing, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.config.pipeline import Settings, load_settings, tracking_uri
from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import Layout, find_project, layout_of


@dataclass(frozen=True)
class Finding:
    """One thing looked at. An optional part may be missing without harm."""

    name: str
    works: bool
    seen: str
    remedy: str = ""
    optional: bool = False


PROGRAMS = {
    "chromium": ("draws pages for the tests and the README", "apt-get install chromium"),
    "prometheus": ("scrapes metrics in the tests", "apt-get install prometheus"),
    "podman": ("builds and runs images", "apt-get install podman"),
}


def examine(config: Path) -> list[Finding]:
    """Look at Python, the locked libraries, the project, the configuration, the stores and the optional programs."""
    findings = [_python()]
    try:
        settings = load_settings(config)
        findings.append(Finding("configuration", True, f"{config} is valid ({settings.name})"))
        layout = layout_of(settings, config, find_project(config))
        findings += [Finding("project", True, str(layout.project)), _lock(layout), _store(settings, layout)]
    except PipelineError as error:
        findings.append(Finding("configuration", False, str(error), "mend the line it names"))
    findings += [_program(name, *facts) for name, facts in PROGRAMS.items()]
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", (3, 11) <= sys.version_info[:2] <= (3, 13), version, "use Python 3.11, 3.12 or 3.13")


def _lock(layout: Layout) -> Finding:
    if not layout.lock.exists():
        return Finding("libraries", False, "requirements.txt is missing", "restore it with git checkout", optional=True)
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)( *;[^\\\n]*)?", layout.lock.read_text(encoding="utf-8"), re.MULTILINE)
    wrong, missing = [], []
    for name, pinned, marker in pins:
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not marker:
                missing.append(name)
            continue
        if installed != pinned and not marker:
            wrong.append(f"{name} {installed} instead of {pinned}")
    if wrong or missing:
        return Finding("libraries", False, "; ".join([*wrong[:3], *(f"{name} is missing" for name in missing[:3])]), "make setup")
    return Finding("libraries", True, f"{len(pins)} at the lock's versions")


def _store(settings: Settings, layout: Layout) -> Finding:
    """The tracking address and the registry, read as a run will find them; nothing is made."""
    from mlops_pipeline.registry.champion import registered_model
    from mlops_pipeline.registry.runs import answers

    uri = tracking_uri(settings, layout.default_tracking_uri)
    try:
        answers(uri)
        versions = registered_model(settings, layout).versions()
    except PipelineError as error:
        return Finding("tracking store", False, str(error), "start it, or mend tracking.uri")
    return Finding("tracking store", True, f"{hidden(uri)} ({len(versions)} version{'' if len(versions) == 1 else 's'})")


def _program(name: str, purpose: str, remedy: str) -> Finding:
    place = shutil.which(name)
    return Finding(name, place is not None, place or f"not installed ({purpose})", remedy, optional=True)
