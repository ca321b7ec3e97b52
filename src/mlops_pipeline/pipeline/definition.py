"""The pipeline: its stages and their order, and nothing else.

This list is the only place where they stand. The command line, DVC, Prefect and CI are faces of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.config.pipeline import Settings, files_read
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Cause, Listener, stage_told
from mlops_pipeline.layout import Layout

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Stage:
    """One step: what it reads and writes (names of :class:`Layout` paths), and the settings it names. Its function is that of its module.

    ``owns`` are outputs that people edit too: they are kept in Git, and the stage reads them before it writes them.
    A stage that ``acts`` changes something besides its files, so its outputs are never restored in place of running it.
    One that ``fits`` reads what its parts read besides rows.
    The function of one that ``tells`` takes a listener too, for what happens within it.
    ``parts`` says for what it uses parts (names of :func:`parts_used`): the files of a project's own are code of the stage.
    What else a stage depends on follows from this: the modules that its own imports, and the lock file.

    Every orchestrator gives one try ``hours``, and after a failure waits ``retry_delay_s`` seconds, then ``retry_factor`` times as long.
    """

    name: str
    summary: str
    settings: tuple[str, ...]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    owns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    acts: bool = False
    fits: bool = False
    hours: int = 2
    tells: bool = False

    retries: ClassVar[int] = 2
    retry_delay_s: ClassVar[int] = 30
    retry_factor: ClassVar[int] = 2

    @property
    def module(self) -> str:
        """The module of its function, both of its own name."""
        return f"{__package__}.stages.{self.name}"

    def run(self, *arguments: Any) -> None:
        """Call its function, whose module is imported now: whoever only asks about a stage needs nothing of what it does."""
        getattr(import_module(self.module), self.name)(*arguments)

    def carry_out(
        self,
        settings: Settings,
        layout: Layout,
        console: "Console",
        tell: Listener,
        causes: Sequence[Cause] = (),
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Run the stage and what belongs to it, and tell of it: that it begins, why, and how it ended."""
        from mlops_pipeline.modelling.kept_embeddings import kept_embeddings

        settings.use_parts()
        with stage_told(settings.name, self.name, tuple(causes), tell), kept_embeddings(layout.embeddings):
            self.run(settings, layout, console, *([tell] if self.tells else []))
            then()

    def inputs(self, settings: Settings, layout: Layout) -> list[Path]:
        """Data files the stage reads; the first stage reads the configured sources, of which each may be several files."""
        if self.reads:
            read = files_read(settings) if self.fits else []
            return [*(getattr(layout, name) for name in self.reads), *(file for file in read if file.is_relative_to(layout.project))]
        if settings.dataset.source.sql is not None:
            return [layout.snapshot, *self._files(settings.dataset.lookups, layout)]
        return self._files((settings.dataset.source, *settings.dataset.lookups), layout)

    @staticmethod
    def _files(sources: Sequence[Source], layout: Layout) -> list[Path]:
        found = ((source.path, layout.source_files(source.path)) for source in sources if source.path is not None)
        return [file for path, files in found for file in files or [layout.project / path]]

    def outputs(self, layout: Layout) -> list[Path]:
        """Every file or folder the stage writes."""
        return [getattr(layout, name) for name in (*self.writes, *self.owns, *self.metrics)]


STAGES: tuple[Stage, ...] = (
    Stage(
        name="ingest",
        summary="Read the source into typed Parquet; keep broken rows aside with the reason",
        settings=("name", "dataset", "ingest"),
        writes=("raw", "quarantine", "ingest_report", "target_words", "origins", "replay"),
    ),
    Stage(
        name="validate",
        summary="Enforce the committed schema; look for leakage, duplicates and imbalance",
        settings=("name", "seed", "dataset", "features", "validate"),
        reads=("raw", "ingest_report", "target_words"),
        writes=("validation_json", "validation_html", "columns"),
        owns=("schema",),
        parts=("checks",),
        tells=True,
    ),
    Stage(
        name="split",
        summary="Hold rows out, by time or at random within each class",
        settings=("name", "seed", "dataset", "features", "split"),
        reads=("raw", "ingest_report", "validation_json", "columns"),
        writes=("train", "test", "split_report"),
        tells=True,
    ),
    Stage(
        name="train",
        summary="Fit the estimator, with its preprocessing inside, on the training rows alone",
        settings=("name", "seed", "dataset", "features", "split", "train", "tuning"),
        reads=("train", "target_words", "origins", "columns"),
        writes=("model", "training"),
        fits=True,
        hours=12,
        parts=("model", "search"),
    ),
    Stage(
        name="evaluate",
        summary="Score the held-out rows against the baseline and today's champion",
        settings=("name", "seed", "dataset", "features", "evaluate", "onnx"),
        reads=("ingest_report", "validation_json", "train", "test", "split_report", "model", "training", "columns"),
        writes=("evaluation",),
        metrics=("metrics",),
        parts=("model", "twins", "metrics"),
    ),
    Stage(
        name="register",
        summary="Put the version in the registry; make it champion if it passes the gate",
        settings=("name", "seed", "dataset", "evaluate", "gate", "registry"),
        reads=("raw", "replay", "train", "test", "model", "training", "evaluation", "metrics"),
        writes=("registration",),
        parts=("model", "twins", "metrics", "gate"),
        acts=True,
        tells=True,
    ),
)


def stage_named(name: str) -> Stage:
    """The stage of that name; :class:`PipelineError` names the choices if there is none."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise PipelineError(f"unknown stage '{name}': use one of {', '.join(stage.name for stage in STAGES)}")
