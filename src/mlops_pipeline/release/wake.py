"""Servers look at the registry at once where another version is champion, or a person lets one be taken: whoever it was told of it.

What wakes them is a row in the table of releases, once nobody waits for whoever decided. Who misses it looks every ``registry.poll_s`` all
the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.addresses import is_postgresql, resolved
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import ChampionChanged, Event, Listener, VersionDecided, Warned, kept_for, told
from mlops_pipeline.registry.lock import afterwards
from mlops_pipeline.registry.versions import CHAMPION

if TYPE_CHECKING:
    from mlops_pipeline.config.pipeline import Settings
    from mlops_pipeline.layout import Layout

WAIT_S = 5.0
"""At most so long a table is waited for that others write to; so long, too, for a server of PostgreSQL to answer."""


def told_for(settings: Settings, layout: Layout, *others: Listener, where: str = "") -> Listener:
    """:func:`kept_for` that wakes servers too, for whoever may change the champion."""
    return told(kept_for(settings, layout, *others), waking(settings, layout, *others, where=where))


def waking(settings: Settings, layout: Layout, *others: Listener, where: str = "") -> Listener:
    """A listener that wakes the servers of a pipeline: those that its project's settings name, and those that look at the table ``where``.

    What is told while others wait for a decision wakes them when that is over, and once, whatever was decided. Servers that cannot be
    told are no reason to fail: :class:`Warned` is kept and told to the others.
    """
    heard: list[int] = []

    def wake() -> None:
        problems: list[str] = []
        version, places = heard[-1], _places(settings, layout, problems)
        heard.clear()
        for place in sorted(places | {_place(where)} if where else places):
            try:
                _wake(place, settings.registry.model or settings.name, str(version))
            except PipelineError as error:
                problems.append(str(error))
        for problem in problems:
            text = f"a server was not told of version {version}, and hears of it when it looks at the registry itself: {problem}"
            kept_for(settings, layout, *others)(Warned(pipeline=settings.name, text=text))

    def hear(event: Event) -> None:
        if isinstance(event, ChampionChanged) or (isinstance(event, VersionDecided) and event.decision == "approved"):
            heard.append(event.version)
            afterwards(wake)

    return hear


def _places(settings: Settings, layout: Layout, problems: list[str]) -> set[str]:
    """Where the servers of a pipeline look at releases, as the settings of its project say; one without any by the pipeline's own."""
    from mlops_pipeline.config.serving import load_serving

    found, model = set[str](), settings.registry.model or settings.name
    for path in set(_servers(layout.config, problems)) or {layout.config.resolve()}:
        try:
            serving = load_serving(path, running=True)
            table = resolved(serving.release.uri, "release.uri") if serving.release.uri else ""
        except PipelineError as error:
            problems.append(str(error))
            continue
        is_of_this = serving.pipeline is not None and (path.parent / serving.pipeline).resolve() == layout.config.resolve()
        if (serving.registry.model or (model if is_of_this else None)) != model or (serving.pipeline is not None and not is_of_this):
            continue  # another pipeline's, or another model's
        base = layout.root if is_of_this else path.parent
        found.add(table or _place(str(base / serving.release.file)))
    return found


def _servers(pipeline: Path, problems: list[str]) -> Iterator[Path]:
    """The settings of every server that the settings of a pipeline's project are of, or name."""
    from mlops_pipeline.config.finding import monitoring_config, release_config, servers_here
    from mlops_pipeline.config.monitoring import load_monitoring
    from mlops_pipeline.config.release import load_releases
    from mlops_pipeline.layout import find_project

    try:
        project = find_project(pipeline)
    except PipelineError:
        return  # a table by itself is no server's
    try:
        yield from (path.resolve() for path in servers_here(project))
        watch, releases = monitoring_config(None, project), release_config(None, project)
        if watch is not None and (named := load_monitoring(watch).serving) is not None:
            yield (watch.parent / named).resolve()
        if releases is not None and (named := load_releases(releases).serving) is not None:
            yield (releases.parent / named).resolve()
    except PipelineError as error:
        problems.append(str(error))


def _place(where: str) -> str:
    return where if is_postgresql(where) else str(Path(where).resolve())


def _wake(place: str, of: str, version: str) -> None:
    """Nothing where there is no table: nobody looks there."""
    from mlops_pipeline.release.table import table_there

    table = table_there(place, of, WAIT_S)
    if table is not None:
        with closing(table):
            table.champion_moved(CHAMPION, version)
