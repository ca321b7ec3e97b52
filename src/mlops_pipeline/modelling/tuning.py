"""Search for parameters on the training rows alone: pruned, bounded in time, resumed where it was stopped."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline import plugins
from mlops_pipeline.config.addresses import filled
from mlops_pipeline.config.pipeline import Settings, feature_columns, files_read, tuning_metric
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import sha256_of_file
from mlops_pipeline.layout import Layout, sqlite_uri
from mlops_pipeline.modelling.estimators import build_model, check_answers, fit, predict, why_not_fitted
from mlops_pipeline.modelling.fitting import fitting_of
from mlops_pipeline.modelling.folds import cutter, forward, in_time, kept_together
from mlops_pipeline.modelling.frame import positive_index
from mlops_pipeline.modelling.metrics import direction, score

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl
    from optuna import Study, Trial
    from rich.console import Console


CODE = tuple(sorted(Path(__file__).parent.glob("*.py")))
"""A search made by other code is another search."""


@dataclass(frozen=True)
class Tuned:
    """The parameters found (none without a search), and what the search saw."""

    params: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def tune(settings: Settings, layout: Layout, table: pl.DataFrame, x: Any, y: Any, console: Console) -> Tuned:
    """Run ``tuning.trials`` trials, each scored on folds of the training rows, hopeless ones cut after a fold.

    The sampler of every trial is seeded by the number of trials finished before it, so that a search that was killed
    and resumed asks the same questions as one that was not. A ``time_budget_s`` gives that up: time is not a seed.
    """
    estimator, _ = plugins.parts_of_model(settings.train.estimator, settings.train.encoder)
    if not settings.tuning.trials:
        return Tuned()
    if estimator.search is None:
        console.print(f"            nothing to search for: {estimator.name} names no search")
        return Tuned()
    import optuna
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = _study(settings, layout)
    folds = _folds(settings, table, y)
    deadline = time.monotonic() + (settings.tuning.time_budget_s or float("inf"))
    columns = (TextColumn("            tuning"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[best]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=settings.tuning.trials, best="")
        while (done := _finished(study)) < settings.tuning.trials and time.monotonic() < deadline:
            progress.update(bar, completed=done, best=_best(study))
            study.sampler = optuna.samplers.TPESampler(seed=settings.seed + done)
            study.optimize(lambda trial: _trial(trial, settings, x, y, table, folds), n_trials=1, catch=())
    return _result(study, settings, console)


def _result(study: Study, settings: Settings, console: Console) -> Tuned:
    """The best of the first ``tuning.trials`` trials: a study that has more does not change what fewer would have found.

    Its parameters are what the search makes of the trial's values, not the values: it may ask for an exponent.
    """
    import optuna

    asked = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")][: settings.tuning.trials]
    complete = [trial for trial in asked if trial.state.name == "COMPLETE"]
    if not complete:
        return Tuned({}, {"trials": 0})
    sign = -1 if study.direction.name == "MINIMIZE" else 1
    best = max(complete, key=lambda trial: sign * float(trial.value or 0))
    console.print(f"            {len(asked)} trials, best cross-validated {tuning_metric(settings)} {best.value:.4f}")
    estimator, _ = plugins.parts_of_model(settings.train.estimator, settings.train.encoder)
    params = plugins.sought(estimator, optuna.trial.FixedTrial(best.params, best.number))
    return Tuned(params, {"trials": len(asked), "pruned": len(asked) - len(complete), "best": round(float(best.value or 0), 6)})


def _study(settings: Settings, layout: Layout) -> Study:
    """The study of exactly these rows and settings; trials that a kill left running are written off."""
    import optuna

    data, metric = settings.dataset, tuning_metric(settings)
    asked = (
        settings.train,
        settings.tuning.folds,
        settings.seed,
        (settings.split.kind, settings.split.together),
        (metric, settings.evaluate.metric_params.get(metric)),
        (data.task, data.target, data.positive, data.time_column, data.min_level_rows),
        [(name, column.kind, column.private) for name, column in feature_columns(settings).items()],
    )
    parts = (*plugins.parts_of_model(settings.train.estimator, settings.train.encoder), plugins.part(plugins.Metric, metric))
    files = (layout.train, layout.lock, *CODE, *plugins.files(parts), *files_read(settings))
    made_with = [sha256_of_file(path) for path in files if path.exists()]
    key = hashlib.sha256(f"{made_with} {asked!r}".encode()).hexdigest()[:16]
    layout.tuning.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=filled(settings.tuning.storage, "tuning.storage")
        if settings.tuning.storage
        else sqlite_uri(layout.tuning / f"{settings.name}.db"),
        study_name=f"{settings.name}-{key}",
        direction="minimize" if direction(metric) < 0 else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )
    # In a shared store a running trial may be another machine's.
    for trial in () if settings.tuning.storage else study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _finished(study: Study) -> int:
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)


def _best(study: Study) -> str:
    complete = [trial.value for trial in study.trials if trial.state.name == "COMPLETE" and trial.value is not None]
    return f"best {(min if study.direction.name == 'MINIMIZE' else max)(complete):.4f}" if complete else ""


def _folds(settings: Settings, table: pl.DataFrame, y: Any) -> list[tuple[Any, Any]]:
    """Pairs of row indices. By time: train on what came before, score on what came after; else at random, equal rows, or rows of one
    thing, never apart.

    Raises :class:`PipelineError` if no fold has two classes to train on.
    """
    count = settings.tuning.folds
    try:
        folds = list(_cut(settings, table, y))
    except ValueError as error:
        raise PipelineError(f"tuning.folds = {count}: {one_line(error)}: use fewer") from error
    folds = [fold for fold in folds if len(fold[0]) and len(fold[1])]
    if has_classes(settings.dataset.task):
        folds = [fold for fold in folds if len(set(y[fold[0]].tolist())) > 1]
    if not folds:
        raise PipelineError(f"tuning.folds = {count}: no fold has two classes to train on: use fewer, or set tuning.trials to 0")
    return folds


def _cut(settings: Settings, table: pl.DataFrame, y: Any) -> Iterator[tuple[Any, Any]]:
    import numpy as np

    count = settings.tuning.folds
    if settings.split.kind == "time":
        order, moments = in_time(settings, table)
        return ((order[:start], order[start:end]) for start, end in forward(moments, count))
    groups, classes = kept_together(settings, table, y), has_classes(settings.dataset.task)
    return iter(cutter(groups, count, settings.seed, classes=classes).split(np.zeros(len(y)), y if classes else None, groups))


def _trial(trial: Trial, settings: Settings, x: Any, y: Any, table: pl.DataFrame, folds: list[tuple[Any, Any]]) -> float:
    import numpy as np
    import optuna

    data = settings.dataset
    estimator, _ = plugins.parts_of_model(settings.train.estimator, settings.train.encoder)
    params = {**settings.train.params, **plugins.sought(estimator, trial)}
    scores: list[float] = []
    for step, (fitted, scored) in enumerate(folds):
        model = build_model(
            settings.train.estimator,
            data.task,
            feature_columns(settings),
            params,
            settings.seed,
            settings.train.encoder,
            settings.train.encoder_params,
        )
        try:
            fit(model, x.iloc[fitted], y[fitted], settings.train.threads, fitting_of(settings, table[fitted], y[fitted]))
        except Exception as error:  # the libraries raise types of their own for parameters out of range
            why = why_not_fitted(error, plugins.parts_of_model(settings.train.estimator, settings.train.encoder), feature_columns(settings))
            raise PipelineError(f"train.params = {params}: {estimator.name} refuses to fit: {why}") from error
        classes = [] if not has_classes(data.task) else sorted(set(y[fitted].tolist()), key=lambda value: (str(type(value)), value))
        check_answers(estimator, model, x.iloc[scored].head(5), data.task, classes)
        predicted = predict(model, x.iloc[scored], data.task)
        seen = score(tuning_metric(settings), data.task, y[scored], predicted, classes, positive_index(classes, data))
        if np.isfinite(seen):
            scores.append(seen)
            trial.report(float(np.mean(scores)), step)
            if trial.should_prune():
                raise optuna.TrialPruned
    if not scores:
        # Optuna would write the trial off, and the search would ask for ever.
        raise PipelineError(f"tuning.metric '{tuning_metric(settings)}': is not defined on any fold, each has one class: use another")
    return float(np.mean(scores))
