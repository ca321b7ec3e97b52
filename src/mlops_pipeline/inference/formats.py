"""The formats that a model may lie in (parts of the kind ``ModelFormat``); the loader of each is imported when a model of it is met."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mlops_pipeline import plugins
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.plugins import ModelFormat

FOLDER = "formats"
"""In a version's folder: a folder for each format that is not ours."""


class Engine(Protocol):
    """A loaded model; called from one thread at a time."""

    name: str
    """Of its format."""
    precision: Any
    """The type of the numbers it takes: float32, or float64."""

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        """Class probabilities, float32 (rows, classes), or values, float32 (rows,)."""
        ...


def folder_of(form: ModelFormat, version: Path) -> Path:
    """Where a format's files lie in a version's folder."""
    return version / (form.at or f"{FOLDER}/{form.name}")


def formats_in(version: Path) -> list[ModelFormat]:
    """The formats known here that a version's folder holds: twins first, and of those the ones that somebody named beside ours."""
    known = plugins.parts(ModelFormat).values()
    return sorted((form for form in known if _holds(form, version)), key=lambda form: (not form.twin, plugins.is_ours(form)))


def load(form: ModelFormat, version: Path, contract: Contract, threads: int) -> Engine:
    """The engine of a version's folder that holds this format. Raises :class:`PipelineError` if another's is none."""
    engine: Engine = plugins.run(form, folder_of(form, version), contract, threads)
    for need in ("predict", "precision"):
        if not hasattr(engine, need):
            raise plugins.broken(form, f"it loads a {type(engine).__name__}, which has no {need}, as every engine needs")
    if getattr(engine, "name", "") != form.name:
        raise plugins.broken(form, f"the name of its engine is {getattr(engine, 'name', None)!r}, not '{form.name}'")
    return engine


def _holds(form: ModelFormat, version: Path) -> bool:
    own = folder_of(form, version)
    return (own / form.file).is_file() if form.file else own.is_dir()
