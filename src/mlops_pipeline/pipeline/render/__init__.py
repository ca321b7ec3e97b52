"""The pipeline written out for other programs, from the one definition."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import text_of, write_text
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.render.airflow import airflow_dag
from mlops_pipeline.pipeline.render.argo import FOLDER, argo_files
from mlops_pipeline.pipeline.render.dvc import (
    CHECK,
    as_of_in,
    code_of,
    dvc_files,
    dvc_yaml,
    in_the_way,
    outdated,
    refuse_an_old_definition,
    with_as_of,
)
from mlops_pipeline.pipeline.render.kubeflow import kubeflow_pipeline
from mlops_pipeline.pipeline.render.kubernetes import model_deployment
from mlops_pipeline.pipeline.render.lock import DEFAULTS, is_installed
from mlops_pipeline.pipeline.render.lock import FILE as LOCK
from mlops_pipeline.pipeline.render.metadata import FILE as METADATA
from mlops_pipeline.pipeline.render.metadata import metadata, tells_of

__all__ = [
    "CHECK",
    "DEFAULTS",
    "LOCK",
    "TARGETS",
    "Rendered",
    "as_of_in",
    "code_of",
    "dvc_yaml",
    "in_the_way",
    "is_installed",
    "outdated",
    "refuse_an_old_definition",
    "rendered",
    "with_as_of",
]

TARGETS = ("dvc", "metadata", "argo", "airflow", "kubeflow", "kubernetes")

_SINGLE: dict[str, Callable[[Settings, Layout], str]] = {
    "airflow": airflow_dag,
    "kubeflow": kubeflow_pipeline,
    "kubernetes": model_deployment,
}


@dataclass(frozen=True)
class Rendered:
    """A file as the definition gives it now; without a path it is for the reader of standard output.

    ``in_the_way`` says what of others' stands in its place.
    """

    path: Path | None
    text: str
    in_the_way: str = ""

    def is_current(self) -> bool:
        """Whether the file on disk is this one."""
        return self.path is not None and self.path.is_file() and text_of(self.path) == self.text

    def write(self) -> None:
        """Put it on disk. Raises :class:`PipelineError` if something of others' would be lost."""
        if self.in_the_way:
            raise PipelineError(self.in_the_way)
        if self.path is not None:
            write_text(self.path, self.text)


def rendered(settings: Settings, layout: Layout, target: str | None = None, output: Path | None = None) -> list[Rendered]:
    """The files of a target; without one, those that the project keeps: ``dvc.yaml``, Argo's if it has
    their folder, and ``metadata.json`` if it has one beside a ``pyproject.toml``.

    ``output`` is the file to write, for Argo the folder. Raises :class:`PipelineError` if they do not go together.
    """
    folder = layout.project / FOLDER
    if target is None:
        if output is not None:
            raise PipelineError(f"--output {output}: name a --target too: {', '.join(TARGETS[2:])}")
        # Both belong to the pipeline at the project's root; others name theirs with --output.
        at_root = layout.root == layout.project
        keeps = {"dvc": True, "argo": at_root and folder.is_dir(), "metadata": at_root and tells_of(layout)}
        return [file for each, kept in keeps.items() if kept for file in rendered(settings, layout, each)]
    if target in {"dvc", "metadata"}:
        path = layout.dvc_file if target == "dvc" else layout.project / METADATA
        if output is not None:
            raise PipelineError(f"--output {output}: {layout.relative(path)} has its place already: leave --output out")
        files = dvc_files(settings, layout) if target == "dvc" else {path: metadata(settings, layout)}
        return [Rendered(file, text, in_the_way(layout) if file == layout.dvc_file else "") for file, text in files.items()]
    if target == "argo":
        return [Rendered((output or folder).resolve() / name, text) for name, text in argo_files(settings, layout).items()]
    if target not in _SINGLE:
        raise PipelineError(f"--target {target}: use one of {', '.join(TARGETS)}")
    return [Rendered(output.resolve() if output else None, _SINGLE[target](settings, layout))]
