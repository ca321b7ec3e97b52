"""A challenger and today's champion on the same held-out rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Evaluate
from mlops_pipeline.contract.spec import FILE
from mlops_pipeline.inference.scorer import contract_at, load_scorer
from mlops_pipeline.modelling.metrics import Predictions, direction, paired_difference, point

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
    if not (folder / FILE).is_file():
        return {**facts, "comparable": False, "reason": "it was not registered by this pipeline"}
    contract = contract_at(folder / FILE)
    if lacking := plugins.lacking(contract.parts):
        return {**facts, "comparable": False, "reason": f"it needs {lacking}, which is not here: name its file under plugins:"}
    absent = [name for name in contract.columns if name not in test.columns]
    if absent:
        return {**facts, "comparable": False, "reason": f"the table has no column '{absent[0]}' any more"}
    if contract.task != ours.task or list(map(str, contract.classes)) != list(map(str, classes)):
        return {**facts, "comparable": False, "reason": "it predicts another target"}
    scored = load_scorer(folder, only="skops").taking_nulls().score(test)
    if scored.faults:
        reason = f"it does not take {len(scored.faults)} held-out rows, as {scored.faults[0].detail}"
        return {**facts, "comparable": False, "reason": reason}
    theirs = Predictions(ours.task, ours.y, scored.outputs.astype(np.float64), ours.positive)
    gain, differences = paired_difference(rules.metric, ours, theirs, rules.resamples, rules.confidence, seed)
    return {
        **facts,
        "comparable": True,
        "metric": round(point(rules.metric, theirs), 6),
        "improvement": gain.rounded(),
        "share_of_resamples_worse": round(float((differences < 0).mean()), 4),
        "lower_is_better": direction(rules.metric) < 0,
    }
