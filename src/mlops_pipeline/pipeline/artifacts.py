"""What stages hand each other by name, and running one where they share no folder: in containers, each with a disk of its own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Listener, ignored
from mlops_pipeline.files import replacing, replacing_folder
from mlops_pipeline.layout import Layout, fixed_part
from mlops_pipeline.pipeline.definition import STAGES, Stage

if TYPE_CHECKING:
    from rich.console import Console


def sources(settings: Settings, layout: Layout) -> dict[str, Path]:
    """The configured files and folders that the pipeline begins with, by name; none where they come with an installed package."""
    data = settings.dataset
    named = {"source": data.source, **{f"lookup_{number}": lookup for number, lookup in enumerate(data.lookups, 1)}}
    return {name: fixed_part(layout.project / source.path) for name, source in named.items() if source.path is not None}


def inputs_of(stage: Stage, settings: Settings, layout: Layout) -> dict[str, Path]:
    """Where a stage finds what it is handed, by name; a stage that reads no other's files reads the sources."""
    return {name: getattr(layout, name) for name in stage.reads} or sources(settings, layout)


def outputs_of(stage: Stage, layout: Layout) -> dict[str, Path]:
    """Where a stage leaves what it makes, by name."""
    return {name: getattr(layout, name) for name in (*stage.writes, *stage.owns, *stage.metrics)}


def makers(stage: Stage) -> dict[str, Stage]:
    """Which stage makes each thing that this one reads; raises :class:`PipelineError` if no stage before it does."""
    before = STAGES[: STAGES.index(stage)]
    made = {name: earlier for earlier in before for name in (*earlier.writes, *earlier.owns, *earlier.metrics)}
    for name in stage.reads:
        if name not in made:
            raise PipelineError(f"pipeline.py: stage '{stage.name}' reads '{name}', which no stage before it writes: mend reads or writes")
    return {name: made[name] for name in stage.reads}


def needs(stage: Stage) -> list[str]:
    """The stages whose files this one reads, in the order of the pipeline."""
    found = {maker.name for maker in makers(stage).values()}
    return [earlier.name for earlier in STAGES if earlier.name in found]


def is_folder(path: Path) -> bool:
    """Whether one of the layout's paths is a folder's: files have an ending."""
    return not path.suffix


def run_stage(
    stage: Stage,
    settings: Settings,
    layout: Layout,
    console: Console,
    tell: Listener = ignored,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> None:
    """Run a stage on files that lie elsewhere, and leave a copy of what it makes elsewhere, each given as ``NAME=PATH``.

    Raises :class:`PipelineError` before the stage runs if a name is not one of the stage's or a path cannot be used.
    """
    owned = {name: getattr(layout, name) for name in stage.owns}
    given = _places("--input", stage, inputs, {**inputs_of(stage, settings, layout), **owned})
    wanted = _places("--output", stage, outputs, outputs_of(stage, layout))
    for text, path, place in wanted:
        if path != place and (path.is_file() if is_folder(place) else path.is_dir()):
            raise PipelineError(f"{text}: is a {'file' if path.is_file() else 'folder'}: name another path")
        if path != place and path.is_dir() and any(path.iterdir()):
            raise PipelineError(f"{text}: holds something already: name an empty or new folder")
    for text, path, place in given:
        if not path.exists():
            raise PipelineError(f"{text}: does not exist: name what another stage has made")
        if path.is_dir() != is_folder(place):
            raise PipelineError(f"{text}: must be a {'folder' if is_folder(place) else 'file'}")
    for _, path, place in given:
        if path != place:
            _put(path, place)
    stage.carry_out(settings, layout, console, tell)
    for _, path, place in wanted:
        if path != place:
            _copy(place, path)


def _places(option: str, stage: Stage, words: Sequence[str], known: dict[str, Path]) -> list[tuple[str, Path, Path]]:
    """What the user wrote, the path in it, and the layout's own path for that name."""
    found = []
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise PipelineError(f"{option} {word}: write {option} NAME=PATH")
        if name not in known:
            choices = ", ".join(known) or "none: it reads no file of the project"
            raise PipelineError(f"{option} {word}: stage '{stage.name}' has no such {option[2:]} '{name}': use one of {choices}")
        found.append((f"{option} {word}", Path(path).resolve(), known[name].resolve()))
    return found


def _put(path: Path, place: Path) -> None:
    if path.is_dir():
        with replacing_folder(place) as folder:
            shutil.copytree(path, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    else:
        with replacing(place) as file:
            shutil.copyfile(path, file)


def _copy(place: Path, path: Path) -> None:
    # Straight into the path: it may be a mount, which nothing can be renamed over.
    path.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.copytree(place, path, dirs_exist_ok=True, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(place, path)
