"""The model card: what a person must know before trusting the version (after Mitchell et al. 2019)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from mlops_pipeline.config.finding import PIPELINE
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.evaluation import Evaluation
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.gate import Rule
from mlops_pipeline.modelling.report import warnings
from mlops_pipeline.pages import text


def model_card(
    settings: Settings,
    layout: Layout,
    training: Contract,
    evaluation: Evaluation,
    rules: list[Rule],
    identity_sha256: str,
    speeds: Mapping[str, float],
) -> str:
    """The card as Markdown; its commands are typed in the project's folder. ``speeds``: ms of one row by twin, where two are told."""
    config = layout.relative(layout.config)
    return text(
        "model_card.md",
        settings=settings,
        training=training,
        evaluation=evaluation,
        warnings=list(warnings(evaluation)),
        rules=rules,
        passed=all(rule.passed for rule in rules),
        identity_sha256=identity_sha256,
        speeds=speeds,
        model=shlex.quote(layout.relative(layout.best_model)),
        rows=shlex.quote(layout.relative(layout.test)),
        option="" if config == PIPELINE else f" --config {shlex.quote(config)}",
    )
