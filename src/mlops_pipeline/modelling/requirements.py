"""What a logged model needs to be loaded elsewhere: the libraries it was fitted with, at their versions."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from mlops_pipeline.errors import PipelineError

COMMON = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")


def model_requirements(more: Iterable[str] = ()) -> list[str]:
    """Pinned requirements of a model, as installed: a lock may hold other versions for another Python.

    ``more`` are the distributions that its parts name. Raises :class:`PipelineError` for one that is not installed.
    """
    try:
        return [f"{name}=={version(name)}" for name in dict.fromkeys((*COMMON, *more))]
    except PackageNotFoundError as error:
        raise PipelineError(f"requirements of the model's parts: {error.name} is not installed: install it, or take it out") from error
