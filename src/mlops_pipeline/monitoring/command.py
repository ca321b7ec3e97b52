"""`mlops monitor report`: find the rows, compare them, write the page and the JSON, say the main figures."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.finding import monitoring_config
from mlops_pipeline.config.monitoring import load_monitoring
from mlops_pipeline.contract.task import free_names
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.texts import frozen_encoders
from mlops_pipeline.modelling.summary import NO_ENCODERS
from mlops_pipeline.monitoring.measured import Limits
from mlops_pipeline.monitoring.pairs import listed
from mlops_pipeline.monitoring.report import MonitoringReport, create_model_monitoring_report
from mlops_pipeline.monitoring.texts import Reading
from mlops_pipeline.monitoring.window import (
    ComparedRows,
    Pipeline,
    as_described,
    as_judged,
    current_rows,
    judged_rows,
    only_what_the_model_sees,
    open_pipeline,
    positive_of,
    reference_rows,
    with_predictions,
)

if TYPE_CHECKING:
    from rich.console import Console

USUAL_PLACE = Path("data/monitoring")
MOST_LINES = 20


def report(
    console: Console,
    *,
    reference: str | None,
    current: str | None,
    since: datetime | None,
    until: datetime | None,
    output: Path | None,
    config: Path | None,
    default_config: Path | None,
    target: str | None,
    prediction: str,
    quantile_column: str | None,
    drift_share: float,
) -> MonitoringReport:
    """Write ``report.html`` and ``report.json`` into the output folder and return what they say."""
    pipeline = open_pipeline(config, default_config)
    if pipeline is not None and reference is None:
        pipeline = as_judged(pipeline)
    folder = output or (pipeline.layout.root if pipeline else Path()) / USUAL_PLACE
    if folder.exists() and not folder.is_dir():
        raise PipelineError(f"--output {folder}: is a file: name a folder")
    with console.status("reading"):
        now = current_rows(current, since, until, pipeline)
        before = reference_rows(reference, pipeline)
    settings: dict[str, Any] = {"reading": reading_of(pipeline)}
    if pipeline is not None:
        # A feature of that name is no prediction.
        (prediction,) = free_names([prediction], pipeline.features or ())
        before, now, described = _as_the_pipeline_sees(
            before, now, pipeline, reference is None, target, prediction, quantile_column, console
        )
        settings |= described
    _told_rows(console, before, now)
    made = create_model_monitoring_report(
        before.table,
        now.table,
        target=settings.pop("target", target or "target"),
        prediction=prediction,
        quantile_column=quantile_column,
        drift_share=drift_share,
        judged_data=before.judged,
        origins=(before.origin, now.origin),
        console=console,
        **settings,
    )
    page, data = folder / "report.html", folder / "report.json"
    made.save_html(page)
    made.save_json(data)
    _tell(console, made)
    console.print(f"report     {page} ({page.stat().st_size / 1e6:.1f} MB, opens offline) and {data.name}")
    return made


def reading_of(pipeline: Pipeline | None) -> Reading:
    """How texts are read: by the champion's encoders, within the limits of the watch's settings."""
    if pipeline is None:
        return Reading()
    texts = load_monitoring(monitoring_config(None, pipeline.layout.root)).texts
    columns = {name for name, column in pipeline.settings.dataset.columns.items() if column.kind == "text"}
    return Reading(
        Limits(texts=texts.embedded, text_distance=texts.distance, unseen_words=texts.unseen_words, seed=pipeline.settings.seed),
        frozen_encoders(pipeline.layout.best_model) if pipeline.champion is not None else NO_ENCODERS,
        frozenset(columns),
    )


def _as_the_pipeline_sees(
    before: ComparedRows,
    now: ComparedRows,
    pipeline: Pipeline,
    by_default: bool,
    target: str | None,
    prediction: str,
    quantile: str | None,
    console: Console,
) -> tuple[ComparedRows, ComparedRows, dict[str, Any]]:
    """Both sides with the champion's predictions and without what it does not see, and what the settings say of the target."""
    data = pipeline.settings.dataset
    chosen = target or (data.target if data.target in (*before.table.columns, *now.table.columns) else "target")
    if by_default:
        before = replace(before, judged=judged_rows(pipeline, prediction, console))
    else:
        before = with_predictions(before, pipeline, prediction, console)
    now = with_predictions(now, pipeline, prediction, console)
    before, now = (as_described(rows, pipeline, prediction, console) for rows in (before, now))
    besides = (chosen, prediction, *([quantile] if quantile else []))
    before, now = (only_what_the_model_sees(rows, pipeline, besides) for rows in (before, now))
    return before, now, {"target": chosen, **({"task": data.task, "positive": positive_of(pipeline)} if chosen == data.target else {})}


def _told_rows(console: Console, before: ComparedRows, now: ComparedRows) -> None:
    for name, rows in (("reference", before), ("current", now)):
        console.print(f"{name:<10} {rows.table.height:,} rows, {rows.table.width} columns: {rows.origin}")


def _tell(console: Console, made: MonitoringReport) -> None:
    figures = made.figures
    drifted, scored = len(figures.drifted), len(figures.scored)
    verdict = "[red]dataset drift[/red]" if made.has_drifted else "[green]no dataset drift[/green]"
    console.print(f"drift      {verdict}: {drifted} of {scored} columns (the limit is {figures.drift_share:.0%} of them)", markup=True)
    for column in figures.drifted[:MOST_LINES]:
        if column.drift is not None:
            sign = "<" if column.drift.is_p_value else "≥"
            text = f"{column.pair.name:<24} {column.drift.score:.3g} {sign} {column.drift.threshold:g} ({column.drift.method})"
            console.print(f"           {text}")
    if drifted > MOST_LINES:
        console.print(f"           {listed([c.pair.name for c in figures.drifted[MOST_LINES:]])}")
    changed = sorted(
        (c for c in figures.columns if len(set(c.missing_shares)) > 1), key=lambda c: -abs(c.missing_shares[1] - c.missing_shares[0])
    )
    console.print(f"missing    {len(changed)} of {len(figures.columns)} columns changed" if changed else "missing    no share changed")
    for column in changed[:MOST_LINES]:
        before, now = column.missing_shares
        console.print(f"           {column.pair.name:<24} {before:.2%} → {now:.2%}")
    for name, value in made.quality.items():
        head = "quality" if name == next(iter(made.quality)) else ""
        console.print(f"{head:<10} {name:<24} {value['reference']:.4f} → {value['current']:.4f}")
    if figures.quantile is not None:
        found = figures.quantile
        sides = " → ".join("none" if value is None else f"{value:.6g}" for value in (found.reference, found.current))
        console.print(f"quantile   {found.quantile:g} of {found.column}: {sides}")
