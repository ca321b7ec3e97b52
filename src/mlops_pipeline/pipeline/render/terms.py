"""What every orchestrator is told of a run: where it works and when it starts.

How long a stage may take and how often it is tried again stands on :class:`~mlops_pipeline.pipeline.definition.Stage`.
A stage that fails is tried again whatever its exit code: 2 is also a tracking server that is down for a moment, and a stage
that a person has to mend fails again before it has done any work.
"""

import hashlib
import re
from importlib.metadata import version

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.layout import Layout

LONGEST_BACKOFF_S = 600
NIGHTLY = "0 3 * * *"
LONGEST_NAME = 52 - len("-nightly")
"""Argo takes no CronWorkflow with a name of more than 52 characters, since it puts a time behind it, and Kubernetes takes 63."""

PROJECT = "/project"
"""Where the training image keeps its project."""
ENTRYPOINT = "docker-entrypoint"
"""Fills an empty working folder with the image's project, then runs what it is told."""
TRACKING_URI = "http://mlflow:5000"
"""Where MLflow is unless the run is told otherwise."""

AS_OF = "a moment: rows from then on are not seen; newest: all are; empty: what dvc.yaml says"


def has_time(settings: Settings) -> bool:
    """Whether a run can be told an as-of."""
    return settings.dataset.time_column is not None


def image() -> str:
    """The training image of this version."""
    return f"mlops-pipeline:{version('mlops-pipeline')}"


def kubernetes_name(pipeline: str, before: str = "") -> str:
    """A pipeline's name as Kubernetes takes it: small letters, digits and dashes, a letter first.

    Of a long one its beginning, with a digest that tells it from others that begin so.
    """
    name = re.sub(r"[^a-z0-9]+", "-", f"{before}{pipeline}".lower()).strip("-")
    name = name if name[:1].isalpha() else f"model-{name}".rstrip("-")
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9].rstrip('-')}-{hashlib.sha256(pipeline.encode()).hexdigest()[:8]}"


def pipeline_name(settings: Settings) -> str:
    """A name that every orchestrator takes."""
    return kubernetes_name(settings.name, "mlops-")


def head(layout: Layout, target: str) -> str:
    """The first line of a rendered file: where to change it instead."""
    return f"# Rendered by `mlops render{target}` from pipeline.py and {layout.relative(layout.config)}: edit those, not this file.\n"
