"""A twin: the fitted model in another format, which says the same of every held-out row, or is not kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import part_settings
from mlops_pipeline.contract.evaluation import TwinReport
from mlops_pipeline.contract.spec import AS_TEXT, Contract
from mlops_pipeline.errors import first_sentences
from mlops_pipeline.inference.engine import score
from mlops_pipeline.inference.formats import Engine, folder_of, load

if TYPE_CHECKING:
    import pandas as pd


class NotConvertible(Exception):
    """A format cannot hold the model; the message says why."""


def make_twin(
    form: plugins.ModelFormat, version: Path, fitted: Any, contract: Contract, x: pd.DataFrame, predicted: Any, tolerance: float, **own: Any
) -> TwinReport:
    """Save a fitted model as a twin in a version's folder, and compare it with ``predicted``, what the model itself said of the rows ``x``.

    Differences are absolute for probabilities, and in standard deviations of the predictions for regression. Kept only if no row
    differs by more than ``tolerance``. ``own`` are the format's settings.
    """
    twin = _made(form, version, fitted, contract, x, predicted, tolerance, own)
    if not twin.accepted:
        shutil.rmtree(folder_of(form, version), ignore_errors=True)
    return twin


def _made(
    form: plugins.ModelFormat,
    version: Path,
    fitted: Any,
    contract: Contract,
    x: pd.DataFrame,
    predicted: Any,
    tolerance: float,
    own: Mapping[str, Any],
) -> TwinReport:
    if fitted is None:
        return TwinReport(False, None, f"not convertible: a model in the format {contract.own_format} cannot be had as it was fitted")
    try:
        save(form, version, fitted, contract, own)
        said = predict(load(form, version, contract, 1), x, contract.features)
    except NotConvertible as error:
        return TwinReport(False, None, f"not convertible, {error}")
    except Exception as error:  # noqa: BLE001  # whatever a converter cannot do is a reason to serve without it, not to stop the run
        return TwinReport(False, None, f"not convertible: {type(error).__name__}: {first_sentences(error)}")
    if said.shape != predicted.shape:
        return TwinReport(False, None, f"predicts shape {said.shape}, not {predicted.shape}")
    difference = difference_of(said, predicted, contract)
    if not difference <= tolerance:
        return TwinReport(False, round(difference, 9), f"differs by {difference:.2g} on a held-out row, more than {tolerance:g}")
    return TwinReport(True, round(difference, 9), f"agrees within {difference:.1g} on all {len(x):,} held-out rows")


def save(form: plugins.ModelFormat, version: Path, fitted: Any, contract: Contract, own: Mapping[str, Any]) -> None:
    """Write a fitted model into its format's folder in a version's folder."""
    writes = dict(plugins.part(plugins.ModelFormat, contract.own_format).exports).get(form.name, form.save)
    folder_of(form, version).mkdir(parents=True, exist_ok=True)
    settings = [] if form.settings is None else [part_settings(form, dict(own), "formats")]
    plugins.run_at(form, writes, folder_of(form, version), fitted, contract, *settings)


def difference_of(said: np.ndarray, predicted: np.ndarray, contract: Contract) -> float:
    """The largest difference of two models' predictions of the same rows."""
    scale = 1.0 if contract.kind.has_classes else float(np.std(predicted)) or 1.0
    return float(np.max(np.abs(said - predicted), initial=0.0) / scale)


def predict(engine: Engine, x: pd.DataFrame, kinds: dict[str, str]) -> np.ndarray:
    """What an engine says of a model's raw columns: class probabilities, (rows, classes), or values, (rows,); float64."""
    numbers, categories = by_kind(kinds)
    outputs = score(
        engine,
        x[numbers].to_numpy(dtype=engine.precision) if numbers else None,
        x[categories].to_numpy(dtype=object) if categories else None,
    )
    return outputs.astype(np.float64)


def by_kind(kinds: dict[str, str]) -> tuple[list[str], list[str]]:
    """The names of the columns that are numbers, and of those that are asked for as text."""
    return [n for n, kind in kinds.items() if kind not in AS_TEXT], [n for n, kind in kinds.items() if kind in AS_TEXT]
