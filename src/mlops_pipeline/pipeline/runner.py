"""Walk the stages in one process: skip what DVC knows to be current, run the rest, record each as it ends."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlops_pipeline import plugins
from mlops_pipeline.config.moments import NEWEST, shown_moment
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Cause, Listener, StageBegan, StageRestored, StageSkipped, Warned, kept_for
from mlops_pipeline.files import write_text
from mlops_pipeline.layout import Layout, address_of_state
from mlops_pipeline.lines import INDENT, shown_on
from mlops_pipeline.pipeline.cache import Cache
from mlops_pipeline.pipeline.definition import STAGES, Stage, stage_named
from mlops_pipeline.pipeline.render import in_the_way, outdated

if TYPE_CHECKING:
    from rich.console import Console

MODELS = ("sklearn.ensemble", "lightgbm", "mlflow.sklearn", "skops.io")
HEAVY: dict[str, tuple[str, ...]] = {
    "validate": ("pandera.polars",),
    "train": MODELS,
    "evaluate": (*MODELS, "skl2onnx", "onnxmltools", "onnxruntime", "matplotlib.figure"),
}
"""Libraries that a stage imports: four seconds of one core in all, while ingest leaves the other idle."""

ASKED_S = 1.0
"""Whoever only asks whether a run is at work holds its lock for a moment."""

WORTH_WRITING_S = 3.0
"""A stage quicker than this is written to ``dvc.lock`` with the next one; a kill in between costs no more than doing it again."""

Outcome = Literal["current", "restored", "ran"]


def prepare(settings: Settings, layout: Layout, console: Console) -> Cache:
    """Open the cache, after bringing ``dvc.yaml`` up to date with the definition and the configuration."""
    settings.use_parts()
    if not layout.config.is_relative_to(layout.project):
        raise PipelineError(f"{layout.config}: lies outside the project {layout.project}: move it inside")
    if settings.dataset.source.sql is not None:
        from mlops_pipeline.tables.database import take_snapshot

        changed = take_snapshot(settings.dataset.source, layout.project, layout.snapshot)
        console.print(f"the query was asked again: {'its rows are new' if changed else 'its rows are the same'}", style="dim")
    files = outdated(settings, layout)
    if layout.dvc_file in files and (others := in_the_way(layout)):
        raise PipelineError(others)
    for path, text in files.items():
        write_text(path, text)
        if path == layout.dvc_file:
            console.print(f"{layout.relative(path)} rendered from {layout.relative(layout.config)}", style="dim")
    return Cache(settings, layout)


def run(
    settings: Settings,
    layout: Layout,
    console: Console,
    *,
    force: bool = False,
    start: str | None = None,
    stop: str | None = None,
    listeners: Sequence[Listener] = (),
) -> dict[str, Outcome]:
    """Bring every stage (up to ``stop``) up to date and say for each what happened and why, to other listeners too.

    ``force`` runs all stages, ``start`` that one and all after it, stale or not. Raises :class:`PipelineError`.
    """
    settings.use_parts()
    tell = kept_for(settings, layout, shown_on(console), *listeners)
    if start and stop and STAGES.index(stage_named(stop)) < STAGES.index(stage_named(start)):
        raise PipelineError(f"--to {stop}: comes before --from {start}: name {start} or a stage after it")
    with alone(_shared(layout)):
        cache = prepare(settings, layout, console)
        if settings.as_of is not None:
            moment = shown_moment(settings.as_of)
            console.print(f"as of {moment}: rows from then on are not seen, now and by later runs, until `--as-of {NEWEST}`")
        if address_of_state(settings) is not None:
            from mlops_pipeline.features.refresh import send_first

            send_first(settings, layout, console)
        first_forced = STAGES.index(stage_named(start)) if start else 0 if force else len(STAGES)
        outcomes: dict[str, Outcome] = {}
        causes = cache.causes()
        last = STAGES.index(stage_named(stop)) if stop else len(STAGES) - 1
        first = min(first_forced, next((place for place, stage in enumerate(STAGES) if causes[stage.name]), len(STAGES)))
        trains = last >= STAGES.index(stage_named("train"))
        if trains and first < len(STAGES):
            from mlops_pipeline.registry.runs import refuse_what_is_known_to_fail

            for part in plugins.parts_of_model(settings.train.estimator, settings.train.encoder):
                plugins.check_extra(part)
            refuse_what_is_known_to_fail(settings, layout)
        ahead = STAGES[first : last + 1] if trains and (first_forced <= last or causes["train"] or causes["evaluate"]) else ()
        with importing_ahead([name for stage in ahead for name in HEAVY.get(stage.name, ())]):
            for index, stage in enumerate(STAGES[: last + 1]):
                because = [Cause("forced")] if index >= first_forced else causes[stage.name]
                outcomes[stage.name] = bring_up_to_date(stage, because, cache, settings, layout, console, tell)
                if any(outcome != "current" for outcome in outcomes.values()):
                    causes |= cache.causes(STAGES[index + 1 : index + 2])
            cache.write()
        return outcomes


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other run out of what the folder stands for; raises :class:`PipelineError` if one is at work."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "mlops-run.lock")
    try:
        lock.acquire(timeout=ASKED_S)
    except Timeout as error:
        raise PipelineError(f"{lock.lock_file}: another run is at work in this project: wait for it to end") from error
    try:
        yield
    finally:
        lock.release()


def refuse_beside_a_run(layout: Layout) -> None:
    """Raise :class:`PipelineError` if a run is at work in the project, whose stages would write the same files; DVC knows nothing of it."""
    with alone(_shared(layout)):
        pass


def _shared(layout: Layout) -> Path:
    """The folder that stands for what all runs in a project share."""
    return layout.project / ".dvc/tmp"


def bring_up_to_date(
    stage: Stage, because: list[Cause], cache: Cache, settings: Settings, layout: Layout, console: Console, tell: Listener
) -> Outcome:
    """Run one stage if there is a cause to, record it in the cache, and tell what happened."""
    settings.use_parts()
    name: dict[str, Any] = {"pipeline": settings.name, "stage": stage.name}
    if not because and stage is STAGES[-1]:
        because = registry_causes(settings, layout)
    if not because:
        cache.commit_places(stage)
        cache.write()
        tell(StageSkipped(**name))
        return "current"
    if all(cause.kind == "best_model" for cause in because):
        tell(StageBegan(**name, causes=tuple(because)))
        publish(settings, layout, tell)
        cache.write()
        tell(StageRestored(**name, source="registry"))
        return "restored"
    if not stage.acts and all(cause.kind == "output missing" for cause in because) and cache.restore(stage):
        tell(StageBegan(**name, causes=tuple(because)))
        tell(StageRestored(**name, source="DVC cache"))
        return "restored"
    before = cache.dependencies(stage)

    def record() -> None:
        edited = cache.edited(stage, before)
        if edited:
            tell(Warned(**name, text=f"{edited[0]} was edited meanwhile: not recorded, the next run does it again"))
        else:
            cache.commit(stage)
            for path, problem in cache.keep_added(stage).items():
                if problem:
                    tell(Warned(**name, text=f"{path} cannot be written ({problem}): a `dvc push` sends what was there before"))
                else:
                    console.print(f"{INDENT}DVC keeps what was read now: commit {path}", highlight=False)

    began = time.perf_counter()
    try:
        stage.carry_out(settings, layout, console, tell, because, then=record)
    except BaseException:
        cache.write()
        raise
    if stage is STAGES[-1]:
        cache.write()
    elif time.perf_counter() - began > WORTH_WRITING_S:
        cache.write(draft=True)
    return "ran"


def registry_causes(settings: Settings, layout: Layout) -> list[Cause]:
    """What the registry or the link to its champion lacks although DVC has the registration recorded."""
    from mlops_pipeline.registry.champion import lacking

    found = lacking(settings, layout)
    if found.registration:
        return [Cause("registry", found.registration)]
    return [Cause("best_model", f"{layout.relative(layout.best_model)} is not the champion")] if found.best_model else []


def publish(settings: Settings, layout: Layout, tell: Listener) -> None:
    """Point ``best_model`` at the champion, whoever it is, and tell of one that nobody was told of; nothing is decided anew."""
    from mlops_pipeline.registry.champion import RegistryWriter
    from mlops_pipeline.registry.runs import Tracking

    registry = RegistryWriter(Tracking(settings, layout))
    with registry.deciding(tell):  # else a promotion beside it could be written over by the champion that was
        registry.publish(tell)


@contextmanager
def importing_ahead(names: Sequence[str]) -> Iterator[None]:
    """Import heavy libraries in the background while the block runs; what fails here is told where it is needed."""
    stop = threading.Event()

    def work() -> None:
        for name in names:
            if stop.is_set():
                return
            with suppress(ImportError):
                importlib.import_module(name)

    thread = threading.Thread(target=work, name="importing-ahead")
    if names:
        # The stages call into Polars a thousand times and would wait five milliseconds for the interpreter each time.
        sys.setswitchinterval(0.0005)
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if names:
            thread.join()
