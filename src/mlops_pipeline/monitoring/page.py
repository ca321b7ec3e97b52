"""The report in Evidently's terms: its metrics for the JSON, its widgets for the page. Imports Evidently: load it late."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from evidently import BinaryClassification, DataDefinition, Dataset, MulticlassClassification, Regression, Report
from evidently.core.metric_types import (
    CountValue,
    Metric,
    MetricConfig,
    MetricResult,
    SingleValue,
    render_widgets,
)
from evidently.core.report import Snapshot
from evidently.legacy.model.widget import BaseWidgetInfo
from evidently.legacy.renderers.html_widgets import (
    ColumnDefinition,
    ColumnType,
    CounterData,
    RichTableDataRow,
    RowDetails,
    counter,
    group_widget,
    header_text,
    plotly_data,
    rich_table_data,
    table_data,
    text_widget,
)
from evidently.metrics import (
    MAE,
    RMSE,
    AbsMaxError,
    Accuracy,
    DriftedColumnsCount,
    F1Score,
    MeanError,
    MissingValueCount,
    Precision,
    QuantileValue,
    R2Score,
    Recall,
    ValueDrift,
)
from evidently.presets import ClassificationPreset, RegressionPreset

from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.modelling.text_summary import WORDS
from mlops_pipeline.monitoring.drawing import CURRENT_COLOR, REFERENCE_COLOR, Bars, Sample, bars_of
from mlops_pipeline.monitoring.figures import ColumnFigures, Figures, Quantile, by_strength
from mlops_pipeline.monitoring.labelled import Outcomes
from mlops_pipeline.monitoring.pairs import Pair

MAX_DRAWN = 200
"""Columns with a picture, the strongest drift first; a table names the others."""

POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; font-src data:; img-src data: blob:"
QUALITY_NAMES = {
    "Accuracy": "accuracy",
    "Precision": "precision",
    "Recall": "recall",
    "F1Score": "f1",
    "RocAuc": "roc_auc",
    "LogLoss": "log_loss",
    "MeanError": "mean_error",
    "MAE": "mae",
    "MAPE": "mape",
    "RMSE": "rmse",
    "R2Score": "r2",
    "AbsMaxError": "max_error",
}


MAPE_NAME = "Mean Absolute Percentage Error"


@dataclass(frozen=True)
class Quality:
    """What a model is worth on both sides: figures by name, Evidently's JSON of them, and their part of the page."""

    figures: dict[str, dict[str, Any]]
    metrics: list[dict[str, Any]]
    widgets: list[BaseWidgetInfo]


def quality_of(outcomes: Outcomes) -> Quality:
    """The model's quality on every row, by Evidently, or by scikit-learn where a class is missing on one side."""
    if has_classes(outcomes.task) and (outcomes.absent(outcomes.reference) or outcomes.absent(outcomes.current)):
        return _with_absent_classes(outcomes)
    snapshot = _measured(outcomes)
    widgets, metrics = list(snapshot._widgets), _metrics_of_quality(snapshot)
    if not has_classes(outcomes.task) and not outcomes.has_percentages:
        widgets.insert(0, header_text(label=f"Regression Model Performance. Target: '{outcomes.target}'"))
    elif not has_classes(outcomes.task):
        _spread_in_percent(snapshot, widgets, metrics)
    return Quality(_both_sides(snapshot), metrics, widgets)


def _spread_in_percent(snapshot: Snapshot, widgets: list[BaseWidgetInfo], metrics: list[dict[str, Any]]) -> None:
    """Evidently tells an error's mean in percent, and beside it its standard deviation as a share, which is a hundredth of that."""
    spreads: dict[str, float] = {}
    for identity, result in snapshot.metric_results.items():
        if _type_of(result.metric_value_location.metric.params["type"]) == "MAPE":
            sides = {"Current": result, "Reference": snapshot.context.get_reference_metric_result(identity)}
            spreads = {side_name: 100 * float(value.get_std().value) for side_name, value in sides.items()}
    for widget in widgets:
        title, counters = widget.title or "", (widget.params or {}).get("counters", ())
        for side_name, spread in spreads.items():
            for said_of_one in counters if title == f"{side_name}: Model Quality (+/- std)" else ():
                if said_of_one["label"] == "MAPE":
                    said_of_one["value"] = f"{said_of_one['value'].partition(' ')[0]} ({round(spread, 2)})"
            for said_of_one in counters if title == f"{MAPE_NAME}: {side_name}" else ():
                if said_of_one["label"] == "Std":
                    said_of_one["value"] = str(round(spread, 2))
    for metric in metrics:
        if _type_of(metric["config"]["type"]) == "MAPE":
            metric["value"]["std"] = spreads["Current"]


def _type_of(name: str) -> str:
    return name.rpartition(":")[2]


def _with_absent_classes(outcomes: Outcomes) -> Quality:
    """Evidently takes the classes of each side for itself: precision would be one class's here and all classes' there."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    classes = outcomes.classes
    sides = {"reference": outcomes.reference, "current": outcomes.current}
    one = {"average": "binary", "pos_label": outcomes.positive} if outcomes.task == "binary" else {"average": "macro", "labels": classes}
    figures: dict[str, dict[str, Any]] = {name: {} for name in ("accuracy", "precision", "recall", "f1")}
    recalls: dict[str, list[Any]] = {}
    for name, side in sides.items():
        truth, notes = side[outcomes.target].to_numpy(), side[outcomes.prediction].to_numpy()
        figures["accuracy"][name] = float(accuracy_score(truth, notes))
        precision, recall, f1, _ = precision_recall_fscore_support(truth, notes, zero_division=0, **one)
        figures["precision"][name], figures["recall"][name], figures["f1"][name] = float(precision), float(recall), float(f1)
        recalls[name] = list(zip(*precision_recall_fscore_support(truth, notes, labels=classes, zero_division=0)[1:4:2], strict=True))
    metrics = [_single(kind(), figures[QUALITY_NAMES[kind.__name__]]["current"]) for kind in (Accuracy, Precision, Recall, F1Score)]
    table = table_data(
        title="",
        column_names=["", "Reference", "Current"],
        data=[[name, f"{value['reference']:.4f}", f"{value['current']:.4f}"] for name, value in figures.items()],
    )
    by_class = table_data(
        title="",
        column_names=["Class", "Reference rows", "Found of them", "Current rows", "Found of them"],
        data=[
            [label, f"{before[1]:,}", f"{before[0]:.1%}" if before[1] else "–", f"{now[1]:,}", f"{now[0]:.1%}" if now[1] else "–"]
            for label, before, now in zip(classes, recalls["reference"], recalls["current"], strict=True)
        ],
    )
    return Quality(
        figures, metrics, [header_text(label=f"Quality of '{outcomes.prediction}' against '{outcomes.target}'"), table, by_class]
    )


def _measured(outcomes: Outcomes) -> Snapshot:
    """Evidently's own quality report on every row."""
    target, prediction = outcomes.target, outcomes.prediction
    if not has_classes(outcomes.task):
        definition = DataDefinition(numerical_columns=[target, prediction], regression=[Regression(target=target, prediction=prediction)])
        # Evidently divides by the larger of the target and the smallest number above zero: of targets below, its MAPE is absurd.
        # The preset cannot leave it out; these are its other metrics, and the mean absolute error would draw the RMSE's picture again.
        without_mape = [MeanError(), RMSE(), MAE(error_distr=False), R2Score(), AbsMaxError()]
        report = Report([RegressionPreset()] if outcomes.has_percentages else without_mape)
    else:
        kind: Any
        if outcomes.task == "multiclass":
            kind = MulticlassClassification(target=target, prediction_labels=prediction)
        else:
            probability = {} if outcomes.probability is None else {"prediction_probas": outcomes.probability}
            kind = BinaryClassification(target=target, prediction_labels=prediction, pos_label=outcomes.positive, **probability)
        numbers = [] if outcomes.probability is None else [outcomes.probability]
        definition = DataDefinition(categorical_columns=[target, prediction], numerical_columns=numbers, classification=[kind])
        report = Report([ClassificationPreset()])
    reference, current = (Dataset.from_pandas(side.to_pandas(), definition) for side in (outcomes.reference, outcomes.current))
    return report.run(current, reference)


def _both_sides(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Each quality figure on both sides; a mean stands for the errors whose spread Evidently gives too."""
    found = {}
    for identity, result in snapshot.metric_results.items():
        name = QUALITY_NAMES.get(_type_of(result.metric_value_location.metric.params["type"]))
        if name is not None:
            sides = {"reference": snapshot.context.get_reference_metric_result(identity), "current": result}
            found[name] = {side: float(value.get_mean().value if hasattr(value, "mean") else value.value) for side, value in sides.items()}
    return found


def metrics_of(figures: Figures) -> list[dict[str, Any]]:
    """Missing values, drift and the quantile as Evidently's JSON has them: names, settings and values of the current data."""
    told = [_count(MissingValueCount(column=c.pair.name), c.missing[1], c.missing_shares[1]) for c in figures.columns]
    told.append(_count(DriftedColumnsCount(drift_share=figures.drift_share), len(figures.drifted), figures.share_drifted))
    for column in figures.scored:
        if column.drift is not None:
            metric = ValueDrift(column=column.pair.name, method=column.drift.method, threshold=column.drift.threshold)
            # Evidently names a metric by what was asked for, before it has chosen a test.
            told.append(_single(metric, column.drift.score, ValueDrift(column=column.pair.name).metric_id))
    quantile = figures.quantile
    if quantile is not None and quantile.current is not None:
        told.append(_single(QuantileValue(column=quantile.column, quantile=quantile.quantile), quantile.current))
    return told


def _metrics_of_quality(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Evidently's JSON of the quality; it gathers classes in a set, whose order changes from one process to the next."""
    metrics: list[dict[str, Any]] = snapshot.dict()["metrics"]
    for metric in metrics:
        if isinstance(metric["value"], dict):
            metric["value"] = dict(sorted(metric["value"].items(), key=lambda item: str(item[0])))
    return metrics


def _single(metric: Metric, value: float, identity: str | None = None) -> dict[str, Any]:
    return _as_json(SingleValue(value=value, display_name=""), metric, identity)


def _count(metric: Metric, count: int, share: float) -> dict[str, Any]:
    values = {name: SingleValue(value=value, display_name="") for name, value in (("count", count), ("share", share))}
    return _as_json(CountValue(display_name="", **values), metric)


def _as_json(result: MetricResult, metric: Metric, identity: str | None = None) -> dict[str, Any]:
    result.set_metric_location(MetricConfig(metric_id=identity or metric.metric_id, params=metric.dict(exclude_none=True)))
    return dict(result.to_dict())


def widgets_of(figures: Figures, notes: list[str], sample: Sample, quality: Quality | None) -> list[BaseWidgetInfo]:
    """The page from top to bottom: what was compared, drift, missing values, quality, the quantile."""
    made = [_head(figures), text_widget(text="\n".join(f"- {line}" for line in notes))] if notes else [_head(figures)]
    made += _drift(figures, sample)
    made += _texts(figures)
    made += _missing(figures)
    made += _quantile(figures, sample)
    return made + (quality.widgets if quality is not None else [])


def html_of(widgets: list[BaseWidgetInfo], *, as_iframe: bool) -> str:
    """One page with everything in it, that asks nothing of any other host."""
    page: str = render_widgets([group_widget(title="", widgets=widgets)], as_iframe=as_iframe)
    return page if as_iframe else _safe(page)


def _safe(page: str) -> str:
    """The page with a title, a policy that forbids requests, and data that cannot end the script it stands in."""
    begin = re.search(r"var (metric_[0-9a-f]{32}) = ", page)
    if begin is None:
        raise RuntimeError("Evidently's page has another form than that of 0.7.23")
    end = page.rindex("</script>", begin.start(), page.index(f'<div id="root_{begin[1]}">'))
    data = page[begin.start() : end].replace("</", "<\\/").replace("<!--", "<\\u0021--")
    head = f'<head><meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>Model monitoring report</title>'
    return page[: begin.start()].replace("<head>", head, 1) + data + page[end:]


def _head(figures: Figures) -> BaseWidgetInfo:
    reference, current = figures.rows
    return counter(
        title="Model monitoring report",
        counters=[
            CounterData("reference rows", f"{reference:,}"),
            CounterData("current rows", f"{current:,}"),
            CounterData("columns compared", str(len(figures.scored))),
            CounterData("drifted columns", str(len(figures.drifted))),
        ],
    )


def _drift(figures: Figures, sample: Sample) -> list[BaseWidgetInfo]:
    if not figures.scored:
        return [header_text(label="No column has a distribution to compare")]
    verdict = "Dataset drift" if figures.has_drifted else "No dataset drift"
    text = (
        f"{verdict}: {len(figures.drifted)} of {len(figures.scored)} columns drifted "
        f"({figures.share_drifted:.0%}; the limit is {figures.drift_share:.0%})"
    )
    order = [*figures.drifted, *sorted((c for c in figures.scored if c not in figures.drifted), key=by_strength)]
    table = rich_table_data(
        title="Drift by column, the strongest first (grey: reference, red: current; open a row to see them in one picture)",
        rows_per_page=20,
        columns=[
            ColumnDefinition("Column", "column"),
            ColumnDefinition("Kind", "kind"),
            ColumnDefinition("Reference", "reference", ColumnType.HISTOGRAM, options=_histogram_options(REFERENCE_COLOR)),
            ColumnDefinition("Current", "current", ColumnType.HISTOGRAM, options=_histogram_options(CURRENT_COLOR)),
            ColumnDefinition("Drift", "drift"),
            ColumnDefinition("Score", "score"),
            ColumnDefinition("Limit", "limit"),
            ColumnDefinition("Test", "test"),
        ],
        data=[_drift_row(column, bars_of(column.pair, sample)) for column in order[:MAX_DRAWN]],
    )
    rest = order[MAX_DRAWN:]
    more = [
        table_data(
            title="Columns without a picture", column_names=["Column", "Drift", "Score", "Limit", "Test"], data=map(_plain_row, rest)
        )
    ]
    return [header_text(label=text), table, *(more if rest else [])]


def _histogram_options(color: str) -> dict[str, str]:
    return {"xField": "x", "yField": "y", "color": color}


def _drift_row(column: ColumnFigures, bars: Bars) -> RichTableDataRow:
    drift = column.drift
    if drift is None:
        raise ValueError(column.pair.name)
    places = list(range(len(bars.labels)))
    return RichTableDataRow(
        fields={
            "column": column.pair.name,
            "kind": column.pair.kind,
            "reference": {"x": places, "y": bars.reference},
            "current": {"x": places, "y": bars.current},
            "drift": "yes" if drift.detected else "no",
            "score": f"{drift.score:.4g}",
            "limit": f"{'<' if drift.is_p_value else '≥'} {drift.threshold:g}",
            "test": drift.method,
        },
        details=RowDetails().with_part("Distribution", info=_picture("", bars)),
    )


def _texts(figures: Figures) -> list[BaseWidgetInfo]:
    """Columns of texts: new words, moved embeddings, scripts and lengths; nothing that a text says."""
    read = [(column.pair.name, column.texts) for column in figures.columns if column.texts is not None]
    if not read:
        return []
    rows = [
        [
            name,
            "–" if texts.unseen_p is None else f"{texts.unseen_before:.1%} → {texts.unseen:.1%} (p {texts.unseen_p:.2g})",
            "–" if texts.distance is None else f"{texts.distance:.3g} (p {texts.distance_p:.2g}; {_made_by(texts.by)})",
            _moved(texts.scripts),
            _moved(texts.lengths),
        ]
        for name, texts in read
    ]
    heads = ["Column", "Words that are new", "Distance of mean embeddings", "Scripts", "Words of a text"]
    return [table_data(title="Texts (reference → current)", column_names=heads, data=rows)]


def _made_by(by: str) -> str:
    return "of hashed words" if by == WORDS else "of the model's encoder"


def _moved(shares: dict[str, tuple[float, float]]) -> str:
    return "; ".join(f"{name} {before:.0%} → {now:.0%}" for name, (before, now) in list(shares.items())[:6])


def _plain_row(column: ColumnFigures) -> list[str]:
    row = _drift_row(column, Bars([], [], [])).fields
    return [row["column"], row["drift"], row["score"], row["limit"], row["test"]]


def _picture(title: str, bars: Bars) -> BaseWidgetInfo:
    sides = (("reference", bars.reference, REFERENCE_COLOR), ("current", bars.current, CURRENT_COLOR))
    traces = [{"type": "bar", "name": n, "x": bars.labels, "y": y, "marker": {"color": color}, "opacity": 0.85} for n, y, color in sides]
    axis: dict[str, Any] = {"type": "category"} if bars.labels and isinstance(bars.labels[0], str) else {}
    layout = {
        "barmode": "group",
        "bargap": 0.1,
        "yaxis": {"title": {"text": "share of rows"}, "tickformat": ".0%"},
        "xaxis": axis,
        "margin": {"t": 20, "b": 60},
    }
    return plotly_data(title=title, data=traces, layout=layout)


def _missing(figures: Figures) -> list[BaseWidgetInfo]:
    totals = [sum(column.missing[side] for column in figures.columns) for side in (0, 1)]
    rows = [
        [c.pair.name, f"{c.missing[0]:,}", f"{c.missing_shares[0]:.2%}", f"{c.missing[1]:,}", f"{c.missing_shares[1]:.2%}", _change(c)]
        for c in sorted(figures.columns, key=lambda c: -abs(c.missing_shares[1] - c.missing_shares[0]))
        if any(c.missing)
    ]
    head = header_text(label=f"Missing values: {totals[0]:,} in the reference, {totals[1]:,} in the current data")
    names = ["Column", "Reference", "Share", "Current", "Share", "Change in points"]
    return [head, table_data(title="", column_names=names, data=rows)] if rows else [head]


def _change(column: ColumnFigures) -> str:
    return f"{100 * (column.missing_shares[1] - column.missing_shares[0]):+.2f}"


def _quantile(figures: Figures, sample: Sample) -> list[BaseWidgetInfo]:
    found = figures.quantile
    if found is None:
        return []
    pair = next(column.pair for column in figures.columns if column.pair.name == found.column)
    return [_quantile_counter(found), *_quantile_picture(pair, sample)]


def _quantile_counter(found: Quantile) -> BaseWidgetInfo:
    counters = [
        CounterData(side, "none" if value is None else f"{value:.6g}")
        for side, value in (("reference", found.reference), ("current", found.current))
    ]
    return counter(title=f"Quantile {found.quantile:g} of '{found.column}'", counters=counters)


def _quantile_picture(pair: Pair, sample: Sample) -> list[BaseWidgetInfo]:
    bars = bars_of(pair, sample)
    return [_picture(f"Distribution of '{pair.name}'", bars)] if bars.labels else []
