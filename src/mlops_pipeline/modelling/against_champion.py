"""A challenger and today's champion on the same held-out rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.config.pipeline import LOWER_IS_BETTER, Evaluate
from mlops_pipeline.files import read_json
from mlops_pipeline.modelling.estimators import predict
from mlops_pipeline.modelling.formats.skops import load_model
from mlops_pipeline.modelling.frame import model_input
from mlops_pipeline.modelling.metrics import Predictions, paired_difference, point

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from mlops_pipeline.registry.versions import Version


def compare(
    champion: Version, folder: Path, ours: Predictions, classes: list[Any], test: pl.DataFrame, rules: Evaluate, seed: int
) -> dict[str, Any]:
    """The paired bootstrap of the metric's difference, positive where the challenger is better; ``folder`` holds the champion's files.

    Not comparable if the champion wants columns that the table has no more, or predicts other classes.
    """
    facts = {"version": champion.number, "content_sha256": champion.content_sha256, "model_sha256": champion.model_sha256}
    card = folder / "training.json"
    if not card.is_file():
        return {**facts, "comparable": False, "reason": "it was not registered by this pipeline"}
    training = read_json(card)
    absent = [name for name in training["features"] if name not in test.columns]
    if absent:
        return {**facts, "comparable": False, "reason": f"the table has no column '{absent[0]}' any more"}
    if training["task"] != ours.task or list(map(str, training["classes"])) != list(map(str, classes)):
        return {**facts, "comparable": False, "reason": "it predicts another target"}
    x = model_input(test, {name: Column(kind=kind) for name, kind in training["features"].items()})
    theirs = Predictions(ours.task, ours.y, predict(load_model(folder), x, ours.task), ours.positive)
    gain, differences = paired_difference(rules.metric, ours, theirs, rules.resamples, rules.confidence, seed)
    return {
        **facts,
        "comparable": True,
        "metric": round(point(rules.metric, theirs), 6),
        "improvement": gain.rounded(),
        "share_of_resamples_worse": round(float((differences < 0).mean()), 4),
        "lower_is_better": rules.metric in LOWER_IS_BETTER,
    }
