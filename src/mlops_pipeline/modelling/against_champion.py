"""A challenger and today's champion on the same held-out rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from mlops_pipeline import plugins
from mlops_pipeline.config.moments import moment_of
from mlops_pipeline.config.pipeline import Evaluate
from mlops_pipeline.contract.evaluation import AgainstChampion
from mlops_pipeline.contract.spec import FILE, JUDGED, Contract
from mlops_pipeline.files import sha256_of_file
from mlops_pipeline.inference.scorer import contract_at, load_scorer
from mlops_pipeline.modelling.evaluation import figure, interval_of
from mlops_pipeline.modelling.formats.version import model_digest
from mlops_pipeline.modelling.metrics import Predictions, direction, paired_difference, point
from mlops_pipeline.modelling.trained_rows import FILE as TRAINED_ROWS
from mlops_pipeline.modelling.trained_rows import seen_alone

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from mlops_pipeline.registry.versions import Version


def compare(
    champion: Version,
    folder: Path,
    ours: Predictions,
    fitted: Contract,
    test: pl.DataFrame,
    train: Path,
    rules: Evaluate,
    seed: int,
    together: Sequence[str] = (),
) -> AgainstChampion:
    """The paired bootstrap of the metric's difference, positive where the challenger is better; ``folder`` holds the champion's files.

    ``fitted`` tells of the challenger, ``train`` are the rows that it is fitted on, and ``together`` names what rows belong to, as
    ``split.together``: of these things the champion may know other rows, which is said. Not comparable if the champion wants columns that
    the table has no more, or predicts other classes, or was fitted on all held-out rows.
    """
    facts = AgainstChampion(champion.number, champion.content_sha256, champion.model_sha256)
    if not (folder / FILE).is_file():
        return replace(facts, reason="it was not registered by this pipeline")
    contract = contract_at(folder / FILE)
    if reason := _hindrance(contract, ours, fitted.classes, test):
        return replace(facts, reason=reason)
    fair = _fair(folder, contract, test, train)
    if fair is None:
        otherwise = "all rows" if contract.judged_sha256 else "rows drawn otherwise"
        until = f"rows up to {contract.fitted_until}" if contract.fitted_until else otherwise
        reason = f"it was fitted on {until}, every held-out row among them, so which is better cannot be known (promote by hand)"
        return replace(facts, reason=reason)
    model, unseen = fair
    if not unseen.all():
        test, ours = test.filter(unseen), ours.of_rows(unseen)
    scored = load_scorer(model, only=contract.own_format).taking_nulls().score(test)
    if scored.faults:
        return replace(facts, reason=f"it does not take {len(scored.faults)} held-out rows, as {scored.faults[0].detail}")
    theirs = dataclasses.replace(ours, predicted=scored.outputs.astype(np.float64))
    gain, differences = paired_difference(rules.metric, ours, theirs, rules.resamples, rules.confidence, seed)
    return replace(
        facts,
        comparable=True,
        metric=figure(point(rules.metric, theirs)),
        improvement=interval_of(gain),
        share_of_resamples_worse=round(float((differences < 0).mean()), 4) if np.isfinite(differences).any() else None,
        lower_is_better=direction(rules.metric) < 0,
        rows=test.height,
        fit="judged" if model != folder else "served",
        simpler=contract.estimator if needs(fitted) - needs(contract) else "",
        reason=_doubt(model, test, train, together),
    )


def needs(contract: Contract) -> set[str]:
    """The extras without which a model, or a member of it, cannot be fitted."""
    members = contract.params.get("members", ()) if contract.estimator == "blend" else ()
    names = {contract.estimator, *(str(each.get("estimator", "")) for each in members)}
    return {part.extra.name for name, part in plugins.parts(plugins.Estimator).items() if name in names and part.extra is not None}


def _hindrance(contract: Contract, ours: Predictions, classes: list[Any], test: pl.DataFrame) -> str | None:
    """Why a champion cannot say anything of these rows; None if it can."""
    if lacking := plugins.lacking(contract.parts):
        return f"it needs {lacking}, which is not here: name its file under plugins:"
    absent = [name for name in contract.columns if name not in test.columns]
    if absent:
        return f"the table has no column '{absent[0]}' any more"
    if contract.task != ours.task or list(map(str, contract.classes)) != list(map(str, classes)):
        return "it predicts another target"
    return None


def _fair(folder: Path, contract: Contract, test: pl.DataFrame, train: Path) -> tuple[Path, np.ndarray] | None:
    """The champion's fit to compare with, and which held-out rows it has not been fitted on; None if it has seen them all.

    What is served, if it has seen none of them; else the fit that was judged before it was made on all rows, if that has seen fewer.
    Of rows that are drawn by chance a fit on all rows has seen each.
    """
    served = _unseen(folder, contract, test, train)
    fits = [(folder, served)] if contract.fitted_until or not contract.judged_sha256 else []
    beside, own = folder / JUDGED, plugins.part(plugins.ModelFormat, contract.own_format)
    is_needed = bool(contract.judged_sha256) and not (fits and served.all())
    if is_needed and (beside / FILE).is_file() and model_digest(beside, own) == contract.judged_sha256:
        fits.append((beside, _unseen(beside, contract_at(beside / FILE), test, train)))
    fits = [(place, unseen) for place, unseen in fits if unseen.any()]
    return max(fits, key=lambda one: int(one[1].sum())) if fits else None


def _unseen(folder: Path, contract: Contract, test: pl.DataFrame, train: Path) -> np.ndarray:
    """Which rows are newer than those that a model was fitted on, or, where no moment tells, not among them; all, if nothing tells."""
    column = _clock(contract, test)
    if column is not None:
        newer: np.ndarray = (test[column] > moment_of(contract.fitted_until)).fill_null(value=False).to_numpy()
        return newer
    seen = seen_alone(folder, contract, test, train)
    return np.ones(test.height, dtype=bool) if seen is None else ~seen


def _doubt(folder: Path, test: pl.DataFrame, train: Path, together: Sequence[str] = ()) -> str:
    """What a comparison cannot rule out; empty if the champion's fit in a folder has surely seen none of the rows, nor of their things."""
    contract = contract_at(folder / FILE)
    is_known = _clock(contract, test) is not None or (folder / TRAINED_ROWS).is_file()
    if (is_known and not together) or contract.train_sha256 == sha256_of_file(train):
        return ""
    if not is_known:
        return "it may have been fitted on some of these rows, for nothing tells which it was fitted on"
    return f"it may have been fitted on other rows of the same {' and '.join(map(repr, together))}"


def _clock(contract: Contract, test: pl.DataFrame) -> str | None:
    """The column whose moments tell which rows are newer than those that a model was fitted on; None if none does."""
    import polars as pl

    column = contract.recipe.time_column
    return column if contract.fitted_until and column is not None and isinstance(test.schema.get(column), pl.Datetime) else None
