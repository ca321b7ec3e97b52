"""Evaluate: score the held-out rows, with intervals, slices, calibration, the baseline, the champion and the ONNX twin."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins
from msgspec.structs import replace

from mlops_pipeline.config.pipeline import Settings, feature_columns, without_features
from mlops_pipeline.contract.evaluation import FILE, SWITCHED_OFF, Evaluation
from mlops_pipeline.contract.reference import FILE as REFERENCE
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.contract.task import PROBABILITY, free_names, has_classes
from mlops_pipeline.files import replacing_folder, sha256_of_file, write_json, write_text
from mlops_pipeline.inference.engine import load_engine
from mlops_pipeline.inference.scorer import contract_at, scorer_of
from mlops_pipeline.inference.texts import frozen_encoders
from mlops_pipeline.layout import Layout
from mlops_pipeline.registry.champion import RegistryWriter
from mlops_pipeline.registry.runs import Tracking
from mlops_pipeline.tables.columns import as_validated

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from mlops_pipeline.modelling.metrics import Predictions


def evaluate(settings: Settings, layout: Layout, console: Console) -> None:
    """Write ``models/artifacts/evaluation`` (predictions, plots, report, ONNX twin, what later rows are compared with) and
    ``metrics.json``; add them to the run.
    """
    import polars as pl

    from mlops_pipeline.modelling.against_champion import compare
    from mlops_pipeline.modelling.by_class import classes_of
    from mlops_pipeline.modelling.evaluation import flat, measured, predictions_of
    from mlops_pipeline.modelling.formats.twins import make_twins
    from mlops_pipeline.modelling.frame import model_input
    from mlops_pipeline.modelling.importance import importance, inspected, said_by
    from mlops_pipeline.modelling.masked import listened_to
    from mlops_pipeline.modelling.plots import draw_all
    from mlops_pipeline.modelling.report import report, table_of
    from mlops_pipeline.modelling.summary import summary_of

    settings = as_validated(settings, layout.columns)
    tracking = Tracking(settings, layout).open()
    data, rules = settings.dataset, settings.evaluate
    contract = contract_at(layout.training)
    settings = without_features(settings, contract.race.get("left_out", ()))
    classes = contract.classes
    test = pl.read_parquet(layout.test, glob=False)
    x = model_input(test, feature_columns(settings))
    engine = load_engine(layout.model, contract, only=contract.own_format)
    with console.status(f"scoring {test.height:,} held-out rows"):
        predicted = scorer_of(contract, engine).taking_nulls().predict(test)
        ours = predictions_of(test, predicted, classes, settings)
        evaluation = measured(settings, layout, test, ours, classes)
        champion = RegistryWriter(tracking).champion_besides(contract.model_sha256)
        things = settings.split.together
        against = compare(*champion, ours, contract, test, layout.train, rules, settings.seed, things) if champion else None
    with replacing_folder(layout.evaluation) as folder:
        with console.status("making twins"), ThreadPoolExecutor(1) as aside:
            # Conversion is Python, importance is mostly LightGBM: side by side they take as long as the longer one.
            converting = aside.submit(make_twins, settings, folder, engine, contract, x, ours)
            model = inspected(engine, contract)
            important = importance(model, x, ours, settings)
            words = listened_to(contract, x, ours, lambda rows: said_by(model, rows, data.task), slowly=contract.encoder == "sentences")
            twins = converting.result()
        evaluation = replace(
            evaluation,
            classes=classes_of(settings, layout, test, ours, contract) if classes else None,
            table=table_of(settings, layout),
            champion=against,
            importance=important,
            texts=words,
            random_split=_random_split(settings, layout, contract, console) if rules.random_split_check else None,
            onnx=twins.pop("onnx", SWITCHED_OFF),
            twins=twins,
        )
        _write_predictions(folder / "predictions.parquet", test, ours, classes, settings)
        is_private = data.columns[data.target].private
        draw_all(
            folder, ours, [str(c) for c in contract.answers], *map(to_builtins, (evaluation.calibration, important)), points=not is_private
        )
        write_json(folder / FILE, evaluation.as_json())
        with console.status("summing the rows up"):
            summary = summary_of(contract, pl.read_parquet(layout.train, glob=False), test, ours, evaluation, frozen_encoders(folder))
        (folder / REFERENCE).write_bytes(summary.encoded())
        write_text(folder / "report.html", report(settings, contract, evaluation, folder, None))
    write_json(layout.metrics, flat(evaluation))
    run_id = tracking.record_training(contract, None)
    tracking.record_evaluation(run_id, flat(evaluation), layout.evaluation, sha256_of_file(layout.evaluation / FILE))
    _say(console, evaluation, ours, len(classes), " and ".join(settings.split.together))
    _say_nulls(console, contract, test)


def _say_nulls(console: Console, contract: Contract, test: pl.DataFrame) -> None:
    """Name the columns whose nulls a request may not bring, since training had none, but held-out rows do."""
    new = {name: test[name].null_count() for name, column in contract.columns.items() if not column.nullable}
    for name, count in ((name, count) for name, count in new.items() if count):
        remedy = f"such rows are refused when they are asked for: nullable: true under dataset.columns.{name} takes them"
        console.print(f"            {count:,} held-out rows have no '{name}', training rows all have one: {remedy}")


def _random_split(settings: Settings, layout: Layout, contract: Contract, console: Console) -> float | None:
    from mlops_pipeline.modelling.evaluation import random_split

    how = contract.estimator, contract.params, contract.encoder, contract.encoder_params
    what = f"fitting {contract.estimator} on a random split, to compare"
    with console.status(what) as status:
        return random_split(settings, layout, *how, say=lambda line: status.update(f"{what}: {line}"))


def _write_predictions(path: Path, test: pl.DataFrame, ours: Predictions, classes: list[Any], settings: Settings) -> None:
    import polars as pl

    outputs = ours.predicted.reshape(len(ours.predicted), -1)
    wanted = [f"{PROBABILITY}{name}" for name in classes] or ["predicted"]
    names = free_names(wanted, [settings.dataset.target])
    truth = test[settings.dataset.target]
    if settings.dataset.columns[truth.name].private:
        truth = truth.clear(len(truth))
    columns = [truth, *(pl.Series(name, outputs[:, k]) for k, name in enumerate(names))]
    pl.DataFrame(columns).write_parquet(path, compression="zstd")


def _say(console: Console, evaluation: Evaluation, ours: Predictions, classes: int, together: str) -> None:
    from rich.markup import escape

    metric = evaluation.metric
    main, baseline = evaluation.metrics[metric], evaluation.baseline[metric]
    rows = f"{evaluation.test_rows:,} held-out row{'' if evaluation.test_rows == 1 else 's'}"
    if evaluation.test_things is not None:
        rows += f" in {evaluation.test_things:,} group{'' if evaluation.test_things == 1 else 's'} by {together}"
    if main.value is None:
        console.print(f"            [bold]{metric} could not be measured[/bold]: {_only(ours, classes)} among {escape(rows)}", markup=True)
    else:
        told = (
            f"{evaluation.confidence * 100:.4g}% interval {_said(main.low)} to {_said(main.high)}"
            if main.low is not None
            else "too few for an interval"
            if evaluation.test_things is None
            else "groups too few, or too unequal, for an interval"
        )
        console.print(
            f"            [bold]{metric} {main.value:.4f}[/bold] ({told}) on {escape(rows)}; baseline {_said(baseline)}", markup=True
        )
    worst = evaluation.worst_slice
    if worst:
        console.print(f"            worst slice: {worst.column} = {worst.value} with {_said(worst.metric)} on {worst.rows:,} rows")
    if evaluation.random_split is not None:
        parted = f"rows of one {together}" if together else "equal rows"
        why = "is no promise for the future" if evaluation.split == "time" else f"may put {parted} on both sides"
        console.print(f"            a random split would have said {evaluation.random_split:.4f}, which {why}")
    for name, twin in {"ONNX": evaluation.onnx, **evaluation.twins}.items():
        console.print(f"            {name} twin{'' if twin.accepted else ', not kept'}: {twin.reason}")


def _said(figure: float | None) -> str:
    return "nan" if figure is None else f"{figure:.4f}"


def _only(ours: Predictions, classes: int) -> str:
    """What the held-out rows lack for a metric."""
    seen = len(set(ours.y.tolist()))
    if not has_classes(ours.task):
        return "only one value"
    return "only one class" if seen == 1 else f"only {seen} of {classes} classes"
