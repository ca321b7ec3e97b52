"""The pipeline as ``dvc.yaml``, which the cache runs by."""

import os
import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline import plugins
from mlops_pipeline.config.moments import NEWEST, moment_of, shown_moment
from mlops_pipeline.config.pipeline import Settings, parts_used
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import text_of
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.code_graph import source_files
from mlops_pipeline.pipeline.definition import STAGES, Stage
from mlops_pipeline.pipeline.render.lock import FILE, is_installed, lock_yaml, named_settings, needs_lock

AS_OF = "--as-of"

CHECK = "settings"
"""The stage that keeps DVC from working by a file that is older than the settings."""


def dvc_yaml(settings: Settings, layout: Layout) -> str:
    """The text of ``dvc.yaml``: each stage with its data, settings, code and the lock as dependencies."""
    config = layout.relative(layout.config)
    check = {CHECK: _check(layout, config)} if settings.left_out else {}
    stages = {**check, **{stage.name: _dvc_stage(stage, settings, layout, config) for stage in STAGES}}
    head = f"# Rendered by `mlops render` from pipeline.py and {config}: edit those, not this file.\n"
    return head + yaml.dump({"stages": stages}, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)


def _check(layout: Layout, config: str) -> dict[str, Any]:
    """A stage that ends ``dvc repro`` where the settings have got a section that this file does not name, which DVC would not see."""
    entry: dict[str, Any] = {
        "desc": "Stop if the settings have sections that this file does not know: `mlops render` writes it anew",
        "cmd": f"mlops render --check --target dvc --config {shlex.quote(config)}",
        **_working_folder(layout),
    }
    return {**entry, "deps": [config]}


def _working_folder(layout: Layout) -> dict[str, str]:
    """DVC spells paths from the file's own folder, unless it is told otherwise."""
    return {} if layout.root == layout.project else {"wdir": "/".join([".."] * len(layout.root.relative_to(layout.project).parts))}


def _dvc_stage(stage: Stage, settings: Settings, layout: Layout, config: str) -> dict[str, Any]:
    def spelled(names: tuple[str, ...]) -> list[str]:
        return [layout.relative(getattr(layout, name)) for name in names]

    written: list[Any] = [{path: {"persist": True}} if stage.acts else path for path in spelled(stage.writes)]
    outs: list[Any] = [*written, *({p: {"cache": False, "persist": True}} for p in spelled(stage.owns))]
    entry: dict[str, Any] = {"desc": stage.summary, "cmd": _command(stage, settings, config)}
    entry |= _working_folder(layout)
    entry["deps"] = [*map(layout.relative, stage.inputs(settings, layout)), *code_of(stage, settings, layout), *_lock(layout)]
    entry["params"] = named_settings(stage, settings, layout)
    entry["outs"] = outs
    if stage.metrics:
        entry["metrics"] = [{path: {"cache": False}} for path in spelled(stage.metrics)]
    return entry


def _command(stage: Stage, settings: Settings, config: str) -> str:
    """What DVC runs. The as-of is an argument of the stage that reads the sources: DVC does the same by it, and notices when it changes."""
    words = ["mlops", "stage", stage.name, "--config", config]
    if settings.as_of is not None and not stage.reads:
        words += [AS_OF, shown_moment(settings.as_of)]
    return shlex.join(words)


def stored_as_of(layout: Layout) -> datetime | None:
    """The as-of in ``dvc.yaml``, where the last run that was given one has left it; None: all rows are seen."""
    try:
        text = text_of(layout.dvc_file)
    except OSError:
        return None
    if AS_OF not in text:
        return None
    try:
        content = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return None  # rendered anew, or refused, by who works by this file
    return as_of_in(content, STAGES[0].name)


def as_of_in(content: Any, stage: str) -> datetime | None:
    """The as-of in a stage's command, of ``dvc.yaml`` or ``dvc.lock``; None if there is none that can be read."""
    try:
        words = shlex.split(content["stages"][stage]["cmd"])
        return moment_of(words[words.index(AS_OF) + 1])
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def with_as_of(settings: Settings, layout: Layout, given: str | None = None) -> Settings:
    """The settings for a run that is given an as-of: a moment, ``newest`` for all rows, or nothing for what the last run left.

    Raises :class:`PipelineError` if it is no moment, or the table has no time.
    """
    if given == NEWEST:
        return settings.seen_until(None)
    if not given:
        return settings.seen_until(stored_as_of(layout))
    try:
        return settings.seen_until(moment_of(given))
    except ValueError as error:
        raise PipelineError(f"{AS_OF} {given}: {error}; {NEWEST} for every row") from error


def code_of(stage: Stage, settings: Settings, layout: Layout) -> list[str]:
    """Source files in the project that the stage runs: of ours, what its module imports; of others, the parts that it uses."""
    used = parts_used(settings) if stage.parts else {}
    parts = [part for purpose in stage.parts for part in used[purpose]]
    ours: list[Path] = []
    if not is_installed(layout):
        modules = {stage.module, *plugins.our_modules(parts)}
        ours = sorted({file for module in modules for file in source_files(module)})
    return [layout.relative(path) for path in dict.fromkeys((*ours, *plugins.files(parts))) if path.is_relative_to(layout.project)]


def _lock(layout: Layout) -> list[str]:
    return [layout.relative(layout.lock)] if layout.lock.exists() else []


def dvc_files(settings: Settings, layout: Layout) -> dict[Path, str]:
    """What DVC is told by, path and text: ``dvc.yaml``, and ``mlops.lock`` where the pipeline depends on what stands there."""
    locked = {layout.project / FILE: lock_yaml(settings, layout)} if needs_lock(settings, layout) else {}
    return {layout.dvc_file: dvc_yaml(settings, layout), **locked}


def outdated(settings: Settings, layout: Layout) -> dict[Path, str]:
    """Those of :func:`dvc_files` that are not on disk as they would be written now."""
    files = dvc_files(settings, layout)
    return {path: text for path, text in files.items() if not (path.exists() and text_of(path) == text)}


_RENDERED = re.compile(r"# Rendered by (`mlops render` from pipeline\.py and (?P<config>.+): edit those, not this file\.)?")


def in_the_way(layout: Layout) -> str:
    """What of others' stands in ``dvc.yaml`` and would be lost with it, and what to do, in one line; empty if nothing does."""
    if not layout.dvc_file.exists():
        return ""
    file, mine, text = layout.relative(layout.dvc_file), layout.relative(layout.config), text_of(layout.dvc_file)
    head = _RENDERED.match(text)
    if text.strip() and head is None:
        return f"{mine}: paths.root: {file} is not of `mlops render`, which would write over it: {_apart(layout)}"
    other = head["config"] if head else None
    if other not in (None, mine) and (layout.project / str(other)).is_file():
        return f"{mine}: paths.root: {file} belongs to another configuration, {other}: {_apart(layout)}"
    added = _added(text)
    where = f"move it into a {layout.dvc_file.name} in another folder"
    return f"{file}: {added} is not of `mlops render`, which writes the file anew: {where}" if added else ""


def _apart(layout: Layout) -> str:
    free = f"pipelines/{layout.name}"
    while (layout.project / free).exists():
        free += "_2"
    return f"give this one a folder of its own, such as paths: {{root: {free}}}"


def _added(text: str) -> str:
    """What somebody has put into a rendered file: another section, or a stage, be its command another of ours."""
    try:
        content = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return ""  # such as half a merge, which is mended so
    sections = content if isinstance(content, dict) else {}
    stages = sections.get("stages")
    theirs = [f"section '{name}'" for name in sections if name != "stages"]
    theirs += [f"stage '{name}'" for name, stage in (stages if isinstance(stages, dict) else {}).items() if not _is_ours(stage)]
    return theirs[0] if theirs else ""


def _is_ours(stage: Any) -> bool:
    return isinstance(stage, dict) and str(stage.get("cmd", "")).startswith(("mlops stage ", "mlops render "))


def refuse_an_old_definition(settings: Settings, layout: Layout) -> None:
    """Raise :class:`PipelineError` if DVC is at work by a ``dvc.yaml`` that is not what would be rendered now."""
    if "DVC_STAGE" not in os.environ:
        return
    for path in outdated(settings, layout):
        asked = "what is installed" if path.name == FILE else layout.relative(layout.config)
        raise PipelineError(f"{layout.relative(path)}: is not what {asked} asks for any more: run `mlops render`")
