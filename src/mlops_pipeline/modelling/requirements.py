"""What a logged model needs to be loaded elsewhere: the libraries it was fitted with, at their versions."""

from __future__ import annotations

from importlib.metadata import version

COMMON = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")


def model_requirements(estimator: str) -> list[str]:
    """Pinned requirements of a model, as installed: a lock may hold other versions for another Python."""
    wanted = (*COMMON, "lightgbm") if estimator == "lightgbm" else COMMON
    return [f"{name}=={version(name)}" for name in wanted]
