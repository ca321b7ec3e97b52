"""What of the environment works, what is missing, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline import plugins
from mlops_pipeline.config.finding import pipeline_config
from mlops_pipeline.config.pipeline import Settings, load_settings, tracking_uri
from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import text_of
from mlops_pipeline.layout import Layout, find_project, layout_of
from mlops_pipeline.pipeline.render import LOCK, is_installed


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


def examine(given: Path | None) -> list[Finding]:
    """Look at Python, the locked libraries, the project, the configuration, the stores and the optional programs."""
    findings = [_python(), _package(), _git()]
    programs = PROGRAMS
    try:
        config = pipeline_config(given)
        settings = load_settings(config)
        findings.append(Finding("configuration", True, f"{config} is valid ({settings.name})"))
        layout = layout_of(settings, config, find_project(config))
        findings += [Finding("project", True, str(layout.project)), _lock(layout), _store(settings, layout)]
        # What this repository's tests and pictures need is nothing to a project of one's own.
        programs = {} if is_installed(layout) else PROGRAMS
    except PipelineError as error:
        findings.append(Finding("configuration", False, str(error), "mend what it names"))
    findings += [_program(name, *facts) for name, facts in programs.items()]
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", (3, 11) <= sys.version_info[:2] <= (3, 13), version, "use Python 3.11, 3.12 or 3.13")


def _package() -> Finding:
    return Finding(plugins.DISTRIBUTION, True, f"{importlib.metadata.version(plugins.DISTRIBUTION)} in {Path(__file__).parent}")


def _git() -> Finding:
    place = shutil.which("git")
    return Finding("git", place is not None, place or "not installed (a project is kept in it)", "apt-get install git", optional=True)


def _lock(layout: Layout) -> Finding:
    if not layout.lock.exists():
        if is_installed(layout):
            return Finding(
                "libraries", True, f"as installed: the project pins none in a requirements.txt; {LOCK} notes what results depend on"
            )
        return Finding("libraries", False, "requirements.txt is missing", "restore it with git checkout", optional=True)
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)( *;[^\\\n]*)?", text_of(layout.lock), re.MULTILINE)
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
        remedy = "pip install -r requirements.txt, or `mlops upgrade` to pin what is here" if is_installed(layout) else "make setup"
        return Finding("libraries", False, "; ".join([*wrong[:3], *(f"{name} is missing" for name in missing[:3])]), remedy)
    return Finding(
        "libraries",
        True,
        f"{len(pins)} at the version that requirements.txt pins" if len(pins) == 1 else f"{len(pins)} at the lock's versions",
    )


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
