"""A version that its gate let pass and that waits for a person: an alert, until somebody approves or rejects it."""

from __future__ import annotations

from mlops_pipeline.config.finding import option_for
from mlops_pipeline.monitoring.rules import WAITING, Judgement
from mlops_pipeline.monitoring.watched import Watched
from mlops_pipeline.registry.versions import Version


def said_of(watch: Watched, version: Version) -> str:
    """That it waits, and what a person types to decide on it."""
    option = option_for(watch.config)
    decide = f"`mlops models approve {version.number} --reason REASON{option}` makes it champion"
    drop = f"`mlops models reject {version.number} --reason REASON{option}` lets it go"
    return f"version {version.number} passed its gate and waits for approval: {decide}, {drop}"


def judgement(watch: Watched, version: Version) -> Judgement:
    """The same as what a rule says."""
    return Judgement(broken=True, figure=WAITING.figure, value=1.0, text=said_of(watch, version), since=version.created)
