"""Train: fit the named estimator on the training rows, tuned if asked, and save it as an MLflow model folder."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Settings, feature_columns, own_format, without_features
from mlops_pipeline.contract.label import in_owners_words
from mlops_pipeline.contract.privacy import private_names
from mlops_pipeline.contract.spec import FORMAT, Contract, Recipe
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.needs import as_finished, as_of_source, needed
from mlops_pipeline.features.rows import Origins, recipe_of
from mlops_pipeline.features.translated import translated
from mlops_pipeline.files import read_json, replacing_folder, sha256_of_file, write_json
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.described import described_columns, fitted_until, ranges_of, sample_of, usual_row, with_own_words
from mlops_pipeline.modelling.estimators import all_parts_of, build_model, check_answers, fit, why_not_fitted, without_extremes
from mlops_pipeline.modelling.fitting import fitting_of
from mlops_pipeline.modelling.formats.version import model_digest, size_in_bytes, write_version
from mlops_pipeline.modelling.frame import class_named, levels_of, model_input, read_target, sorted_classes, without_rare
from mlops_pipeline.modelling.requirements import requirements_of
from mlops_pipeline.registry.runs import Tracking
from mlops_pipeline.tables.columns import as_validated

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

SHOWN_CLASSES = 5


def train(settings: Settings, layout: Layout, console: Console) -> None:
    """Write ``models/artifacts/model`` and ``training.json``, and record the run in MLflow.

    Reads the training rows only. Raises :class:`PipelineError` if they hold a single class, or if MLflow cannot be
    reached (before anything is fitted).
    """
    import polars as pl

    from mlops_pipeline.modelling.race import race
    from mlops_pipeline.modelling.tuning import tune

    settings = as_validated(settings, layout.columns)
    tracking = Tracking(settings, layout).open()
    data, features = settings.dataset, feature_columns(settings)
    table = pl.read_parquet(layout.train, glob=False)
    y = read_target(layout.train, data)
    classes = _classes(y, settings, layout)
    x = without_rare(model_input(table, features), features, data.min_level_rows)
    summary: dict[str, Any] = {}
    if plugins.part(plugins.Estimator, settings.train.estimator).race:
        raced = race(settings, table, x, y, console)
        settings, summary = without_features(settings.model_copy(update={"train": raced.train}), raced.left_out), raced.summary
        features = feature_columns(settings)
        x = x[list(features)]
    estimator, parts = all_parts_of(settings.train.estimator, settings.train.encoder, settings.train.params)
    tuned = tune(settings, layout, table, x, y, console)
    params = {**settings.train.params, **tuned.params}
    model = build_model(
        settings.train.estimator, data.task, features, params, settings.seed, settings.train.encoder, settings.train.encoder_params
    )
    fitted_by = settings.model_copy(update={"train": settings.train.model_copy(update={"params": params})})
    fit_seconds = _fit(model, fitted_by, layout, table, x, y, console)
    if private_names(features):
        without_extremes(model)
    recipe = recipe_of(data, Origins.at(layout.origins))
    columns = as_finished(described_columns(features, table), recipe, data.source.number_format)
    sample = sample_of(x, columns)
    check_answers(estimator, model, sample, data.task, classes)
    form = own_format(settings)
    contract = Contract(
        format=FORMAT,
        task=data.task,
        target=data.target,
        classes=classes,
        labels=in_owners_words(classes, read_json(layout.target_words)),
        columns=columns,
        ranges=ranges_of(columns, table),
        categories=levels_of(x, features),
        min_level_rows=data.min_level_rows,
        private=tuple(sorted(private_names(data.columns))),
        keep_whole_rows=data.keep_whole_rows,
        null_values=data.source.null_values,
        dialect=data.source.dialect,
        **_computed(settings, recipe, table),
        estimator=settings.train.estimator,
        params=params,
        encoder_params=settings.train.encoder_params,
        tuning=tuned.summary,
        race=summary,
        parts=plugins.described([*parts, *plugins.not_ours([form])]),
        seed=settings.seed,
        train_rows=len(x),
        train_sha256=sha256_of_file(layout.train),
        fitted_until=fitted_until(table, settings),
        entity_key=tuple(data.entity_key),
        time_column=data.time_column or "",
    )
    requirements = requirements_of((*parts, form), features, model)
    trusted = [each for part in parts for each in part.trusted]
    with replacing_folder(layout.model) as folder:
        write_version(folder, form, model, sample, contract, settings.train.format_params, requirements, trusted, settings.onnx.tolerance)
    contract = msgspec.structs.replace(
        contract, model_sha256=model_digest(layout.model, form), model_bytes=size_in_bytes(layout.model, form)
    )
    write_json(layout.training, contract.as_json())
    tracking.record_training(contract, fit_seconds)
    console.print(f"            {settings.train.estimator} fitted on {len(x):,} × {len(features)} in {fit_seconds:.1f} s")


def _computed(settings: Settings, recipe: Recipe, table: pl.DataFrame) -> dict[str, Any]:
    """The contract's fields about columns that are computed of a source's rows: the recipe, what it needs and what it makes."""
    data, features = settings.dataset, feature_columns(settings)
    needs, makes = needed(features, recipe, data.columns)
    raw = with_own_words(as_of_source(described_columns(needs, table), recipe), table, data.source.null_values, features)
    made = as_finished(described_columns(makes, table), recipe, data.source.number_format)
    return {
        "recipe": recipe,
        "raw": raw,
        "made_of": {name: tuple(needed([name], recipe, data.columns)[0]) for name in features if name in makes},
        "raw_example": usual_row(raw, table, data.min_level_rows),
        "made": made,
        "expressions": translated(recipe, made, table),
    }


def _fit(model: Any, settings: Settings, layout: Layout, table: pl.DataFrame, x: Any, y: Any, console: Console) -> float:
    """Fit a model whose parameters are those of the settings; the seconds that it took."""
    train, began = settings.train, time.perf_counter()
    what = f"fitting {train.estimator} on {len(x):,} rows"
    with console.status(what) as status:
        during = fitting_of(
            settings,
            table,
            y,
            checkpoint=layout.unfinished_fit,
            say=lambda line: status.update(f"{what}: {line}"),
            tell=lambda line: console.print(f"            {train.estimator}: {line}"),
        )
        try:
            fit(model, x, y, train.threads, during)
        except PipelineError:
            raise
        except Exception as error:  # the libraries raise types of their own for parameters out of range
            _, parts = all_parts_of(train.estimator, train.encoder, train.params)
            why = why_not_fitted(error, parts, feature_columns(settings))
            raise PipelineError(f"train.params = {train.params}: {train.estimator} refuses to fit: {why}") from error
    return time.perf_counter() - began


def _classes(y: Any, settings: Settings, layout: Layout) -> list[Any]:
    data = settings.dataset
    if not has_classes(data.task):
        return []
    classes, counts = sorted_classes(y), Counter(y.tolist()).most_common()
    listed = ", ".join(f"'{value}' in {count:,} rows" for value, count in counts[:SHOWN_CLASSES])
    told = "" if data.columns[data.target].private else f" ({listed}{', …' if len(counts) > SHOWN_CLASSES else ''})"
    if len(classes) < 2:
        what = f"the training rows hold one class alone{told}: widen split, or name another target"
        raise PipelineError(f"{layout.config}: dataset.target = '{data.target}': {what}")
    if data.task == "binary" and len(classes) != 2:
        remedy = "mend the rows in which it holds no class, or write null_values: ['', WORD] with their words under it in dataset.columns"
        what = f"the target '{data.target}' has {len(classes)} classes{told}: {remedy}; if all are meant, write task: multiclass"
        raise PipelineError(f"{layout.config}: dataset.task = 'binary': {what}")
    if data.positive is not None and class_named(data.positive, classes, data) is None:
        raise PipelineError(
            f"{layout.config}: dataset.positive = {data.positive!r}: is none of the target's classes{told}: name one of them"
        )
    return classes
