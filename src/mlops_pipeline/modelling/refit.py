"""Fit a model that has been judged again, on all rows: those that it was trained on and those that were held out."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.config.pipeline import Settings, feature_columns
from mlops_pipeline.contract.spec import FILE, JUDGED, Contract
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import write_json
from mlops_pipeline.inference.scorer import scorer_of
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.described import described_columns, fitted_until, ranges_of, sample_of
from mlops_pipeline.modelling.estimators import build_model, check_answers, fit, parts_of_model
from mlops_pipeline.modelling.frame import model_input, read_target
from mlops_pipeline.modelling.requirements import model_requirements

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


@dataclass(frozen=True)
class Refit:
    """A model fitted again: its contract, and what stands in ``evaluation.json`` of it."""

    contract: Contract
    facts: dict[str, Any]


def refit(settings: Settings, layout: Layout, judged: Contract, test_sha256: str, folder: Path, console: Console) -> Refit:
    """Fit the judged model's estimator with its parameters on all rows; write its folder, twin and contract, the judged fit beside.

    What was found for the judged fit stays: the parameters, the number of trees, the columns. Raises :class:`PipelineError`.
    """
    import numpy as np
    import polars as pl

    from mlops_pipeline.modelling.formats.onnx import make_twin
    from mlops_pipeline.modelling.formats.skops import SkopsEngine, model_digest, save_model, size_in_bytes

    data, features = settings.dataset, {name: column for name, column in feature_columns(settings).items() if name in judged.columns}
    test = pl.read_parquet(layout.test, glob=False)
    table = pl.concat([pl.read_parquet(layout.train, glob=False), test])
    y = np.concatenate([read_target(layout.train, data), read_target(layout.test, data)])
    unknown = sorted({*map(str, y.tolist())} - {*map(str, judged.classes)}) if judged.classes else []
    if unknown:
        raise PipelineError(
            f"registry.refit_on_all: the held-out rows have a class that was not judged, '{unknown[0]}': "
            "widen split so that training has it, or take refit_on_all out"
        )
    x = model_input(table, features)
    parts = parts_of_model(judged.estimator, judged.encoder)
    model = build_model(judged.estimator, data.task, features, judged.params, judged.seed, judged.encoder)
    with console.status(f"fitting {judged.estimator} again on all {len(x):,} rows"):
        try:
            fit(model, x, y, settings.train.threads)
        except PipelineError:
            raise
        except Exception as error:  # the libraries raise types of their own
            raise PipelineError(f"registry.refit_on_all: {judged.estimator} refuses to fit all rows: {one_line(error)}") from error
    columns = described_columns(features, table)
    sample = sample_of(x, columns)
    check_answers(parts[0], model, sample, data.task, judged.classes)
    requirements = [each for part in parts for each in part.requirements]
    save_model(
        folder, model, sample, data.task, model_requirements(requirements), trusted=[each for part in parts for each in part.trusted]
    )
    contract = msgspec.structs.replace(
        judged,
        columns=columns,
        categories={name: sorted(x[name].unique().tolist()) for name in judged.categories},
        ranges=ranges_of(columns, table),
        model_sha256=model_digest(folder),
        model_bytes=size_in_bytes(folder),
        train_rows=len(x),
        train_sha256=hashlib.sha256(f"{judged.train_sha256} {test_sha256}".encode()).hexdigest(),
        fitted_until=fitted_until(table, settings),
        judged_sha256=judged.model_sha256,
    )
    facts = {
        "rows": len(x),
        "fitted_until": contract.fitted_until,
        "model_sha256": contract.model_sha256,
        "judged_model_sha256": judged.model_sha256,
        "judged_rows": judged.train_rows,
    }
    if settings.onnx.enabled:
        predicted = scorer_of(contract, SkopsEngine(model, contract)).taking_nulls().predict(test)
        twin = make_twin(model, contract.features, model_input(test, features), predicted, data.task, settings.onnx.tolerance)
        facts["onnx"] = twin.as_json()
        if twin.content is not None:
            (folder / "onnx").mkdir()
            (folder / "onnx/model.onnx").write_bytes(twin.content)
    write_json(folder / FILE, contract.as_json())
    shutil.copytree(layout.model, folder / JUDGED)
    shutil.copy(layout.training, folder / JUDGED / FILE)
    return Refit(contract, facts)
