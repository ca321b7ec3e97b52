"""Fit a model that has been judged again, on all rows: those that it was trained on and those that were held out."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Settings, feature_columns
from mlops_pipeline.contract.evaluation import SWITCHED_OFF, OnAllRows
from mlops_pipeline.contract.privacy import private_names
from mlops_pipeline.contract.reference import FILE as REFERENCE
from mlops_pipeline.contract.reference import decoded
from mlops_pipeline.contract.spec import FILE, JUDGED, Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import write_json
from mlops_pipeline.inference.engine import load_engine
from mlops_pipeline.inference.scorer import scorer_of
from mlops_pipeline.inference.texts import frozen_encoders
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.described import described_columns, fitted_until, ranges_of, sample_of
from mlops_pipeline.modelling.estimators import all_parts_of, build_model, check_answers, fit, why_not_fitted, without_extremes
from mlops_pipeline.modelling.fitting import fitting_of
from mlops_pipeline.modelling.frame import levels_of, model_input, read_target, without_rare
from mlops_pipeline.modelling.requirements import requirements_of
from mlops_pipeline.modelling.summary import again_on
from mlops_pipeline.modelling.trained_rows import write_trained_rows

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


@dataclass(frozen=True)
class Refit:
    """A model fitted again: its contract, and what stands in ``evaluation.json`` of it."""

    contract: Contract
    facts: OnAllRows


def refit(settings: Settings, layout: Layout, judged: Contract, test_sha256: str, folder: Path, console: Console) -> Refit:
    """Fit the judged model's estimator with its parameters on all rows; write its folder, twin and contract, the judged fit beside.

    What was found for the judged fit stays: the parameters, the number of trees, the columns. Raises :class:`PipelineError`.
    """
    import numpy as np
    import polars as pl

    from mlops_pipeline.modelling.evaluation import predictions_of
    from mlops_pipeline.modelling.formats.twins import make_twins
    from mlops_pipeline.modelling.formats.version import model_digest, size_in_bytes, write_version

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
    x = without_rare(model_input(table, features), features, data.min_level_rows)
    estimator, parts = all_parts_of(judged.estimator, judged.encoder, judged.params)
    model = build_model(judged.estimator, data.task, features, judged.params, judged.seed, judged.encoder, judged.encoder_params)
    what = f"fitting {judged.estimator} again on all {len(x):,} rows"
    with console.status(what) as status:
        during = fitting_of(
            settings,
            table,
            y,
            say=lambda line: status.update(f"{what}: {line}"),
            tell=lambda line: console.print(f"            {judged.estimator} on all rows: {line}"),
        )
        try:
            fit(model, x, y, settings.train.threads, during)
        except PipelineError:
            raise
        except Exception as error:  # the libraries raise types of their own
            why = why_not_fitted(error, parts, features)
            raise PipelineError(f"registry.refit_on_all: {judged.estimator} refuses to fit all rows: {why}") from error
    if private_names(features):
        without_extremes(model)
    columns = described_columns(features, table)
    sample = sample_of(x, columns)
    check_answers(estimator, model, sample, data.task, judged.classes)
    contract = msgspec.structs.replace(
        judged,
        columns=columns,
        categories=levels_of(x, features),
        ranges=ranges_of(columns, table),
        train_rows=len(x),
        train_sha256=hashlib.sha256(f"{judged.train_sha256} {test_sha256}".encode()).hexdigest(),
        fitted_until=fitted_until(table, settings),
        judged_sha256=judged.model_sha256,
    )
    form = plugins.part(plugins.ModelFormat, judged.own_format)
    trusted = [each for part in parts for each in part.trusted]
    requirements = requirements_of((*parts, form), features, model)
    write_version(folder, form, model, sample, contract, settings.train.format_params, requirements, trusted, settings.onnx.tolerance)
    contract = msgspec.structs.replace(contract, model_sha256=model_digest(folder, form), model_bytes=size_in_bytes(folder, form))
    engine = load_engine(folder, contract, only=form.name)
    predicted = scorer_of(contract, engine).taking_nulls().predict(test)
    ours = predictions_of(test, predicted, contract.classes, settings)
    twins = make_twins(settings, folder, engine, contract, model_input(test, features), ours)
    facts = OnAllRows(
        rows=len(x),
        fitted_until=contract.fitted_until,
        model_sha256=contract.model_sha256,
        judged_model_sha256=judged.model_sha256,
        judged_rows=judged.train_rows,
        onnx=twins.pop("onnx", SWITCHED_OFF),
        twins=twins,
    )
    write_json(folder / FILE, contract.as_json())
    if (summary := layout.evaluation / REFERENCE).exists():  # not where an older release has evaluated
        (folder / REFERENCE).write_bytes(again_on(decoded(summary.read_bytes()), contract, table, frozen_encoders(folder)).encoded())
    shutil.copytree(layout.model, folder / JUDGED)
    shutil.copy(layout.training, folder / JUDGED / FILE)
    write_trained_rows(folder / JUDGED, judged, layout.train)
    return Refit(contract, facts)
