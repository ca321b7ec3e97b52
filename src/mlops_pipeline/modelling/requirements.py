"""What a logged model needs to be loaded elsewhere: the libraries it was fitted with, at their versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Column
from mlops_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

COMMON = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")


def model_requirements(more: Iterable[str] = ()) -> list[str]:
    """Pinned requirements of a model, as installed: a lock may hold other versions for another Python.

    ``more`` are the distributions that its parts name. Raises :class:`PipelineError` for one that is not installed.
    """
    try:
        return [f"{name}=={version(name)}" for name in dict.fromkeys((*COMMON, *more))]
    except PackageNotFoundError as error:
        raise PipelineError(f"requirements of the model's parts: {error.name} is not installed: install it, or take it out") from error


def requirements_of(
    parts: Iterable[plugins.Estimator | plugins.Encoder | plugins.ModelFormat], features: Mapping[str, Column], fitted: Pipeline
) -> list[str]:
    """Pinned requirements of a fitted model that is made of these parts and takes these columns."""
    from mlops_pipeline.modelling.centred import is_centred

    named = [each for part in parts for each in part.requirements]
    if any(column.kind in ("datetime", "text") for column in features.values()) or is_centred(fitted.named_steps["model"]):
        # The encoders of moments and of texts are ours, and so is what centres a target.
        named.append(plugins.DISTRIBUTION)
    return model_requirements(named)
