"""What a logged model needs to be loaded elsewhere, at the versions of the lock."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

COMMON = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")


def model_requirements(lock: Path, estimator: str) -> list[str]:
    """Pinned requirements of a model, from the lock file where there is one, else as installed."""
    wanted = (*COMMON, "lightgbm") if estimator == "lightgbm" else COMMON
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)) if lock.exists() else {}
    return [f"{name}=={pinned.get(name) or importlib.metadata.version(name)}" for name in wanted]
