"""The monitoring report: two frames in, one object out that saves as a page and as JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline import environment
from mlops_pipeline.config.dataset import Task
from mlops_pipeline.contract.task import PROBABILITY, TASKS, has_classes
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import in_json, write_text
from mlops_pipeline.monitoring.drawing import Sample
from mlops_pipeline.monitoring.figures import Figures, figures_of, quantile_of
from mlops_pipeline.monitoring.labelled import Outcomes, outcomes
from mlops_pipeline.monitoring.pairs import Pair, as_table, labels, listed, pairs
from mlops_pipeline.monitoring.texts import Reading

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

QUANTILE_COLUMN = "feature_1"
ROUNDED = 0.001
"""By so much probabilities that were written with few digits may miss one in sum."""


@dataclass(frozen=True)
class MonitoringReport:
    """What a comparison found. ``summary`` has every figure on both sides; ``notes`` say what was left out, and why."""

    figures: Figures
    quality: dict[str, dict[str, Any]]
    notes: tuple[str, ...]
    origins: tuple[str, str]
    _metrics: list[dict[str, Any]]
    _widgets: list[Any]

    @property
    def has_drifted(self) -> bool:
        """Whether the share of drifted columns reaches the limit."""
        return self.figures.has_drifted

    @property
    def summary(self) -> dict[str, Any]:
        """Every figure as plain values, reference beside current."""
        origins = dict(zip(("reference", "current"), self.origins, strict=True)) if any(self.origins) else None
        return {"origins": origins, **self.figures.summary(), "quality": self.quality or None, "notes": list(self.notes)}

    def dict(self) -> dict[str, Any]:
        """Evidently's ``metrics`` and ``tests``, and the summary beside them; a number that is not finite is None."""
        told: dict[str, Any] = in_json({"metrics": self._metrics, "tests": [], "summary": self.summary})
        return told

    def json(self) -> str:
        """The same as JSON text, byte for byte the same for the same input."""
        return json.dumps(self.dict(), indent=2, allow_nan=False, ensure_ascii=False)

    def get_html_str(self, as_iframe: bool = False) -> str:
        """One page that opens without a network."""
        from mlops_pipeline.monitoring.page import html_of

        return html_of(self._widgets, as_iframe=as_iframe)

    def save_html(self, filename: str | Path) -> None:
        """Write the page; it appears whole or not at all."""
        write_text(Path(filename), self.get_html_str())

    def save_json(self, filename: str | Path) -> None:
        """Write the JSON; it appears whole or not at all."""
        write_text(Path(filename), self.json() + "\n")

    def _repr_html_(self) -> str:
        return self.get_html_str(as_iframe=True)


def create_model_monitoring_report(
    reference_data: Any,
    current_data: Any,
    *,
    target: str = "target",
    prediction: str = "prediction",
    quantile_column: str | None = QUANTILE_COLUMN,
    quantile: float = 0.5,
    task: Task | None = None,
    positive: int | str | None = None,
    drift_share: float = 0.5,
    judged_data: Any = None,
    origins: tuple[str, str] = ("", ""),
    draw_rows: int = 20_000,
    seed: int = 42,
    reading: Reading | None = None,
    console: Console | None = None,
) -> MonitoringReport:
    """Compare current rows with reference rows: missing values, drift, the model's quality, a quantile of one column.

    Takes pandas or Polars frames. Every figure is from all rows; pictures are drawn from at most ``draw_rows`` of each side.
    ``quantile_column``: None takes ``feature_1`` or else the first column of numbers, and says nothing of it.
    ``judged_data``: rows whose predictions stand for the reference's, where the model was fitted on the reference itself.
    ``reading``: which columns hold texts, and how these are read; without it those whose values are sentences, by their words.
    ``origins``: where the two sides come from, as the page and the JSON shall say it.
    What is left out is said on the console, or as a warning without one. Raises :class:`PipelineError`.
    """
    _check(quantile, drift_share, draw_rows, task)
    notes: list[str] = []
    reference, current = as_table(reference_data, "the reference", notes), as_table(current_data, "the current data", notes)
    judged = reference if judged_data is None else as_table(judged_data, "the judged data", notes)
    with _progress(console) as (step, advance), warnings.catch_warnings():
        # Of the libraries that Evidently imports, and of SciPy and scikit-learn about a column or a class without variety.
        warnings.simplefilter("ignore")
        _load_evidently()
        found = outcomes(judged, current, notes, target=target, prediction=prediction, task=task, positive=positive)
        mirrored = _mirrored(current, prediction, found, notes)
        seen = [_with_labels(table, found).drop(mirrored, strict=False) for table in (reference, judged, current)]
        reading = reading or Reading()
        shared = _shared(seen[0], seen[1], seen[2], notes, reading.columns)
        median = quantile_of(shared, quantile_column, quantile, QUANTILE_COLUMN, (target, prediction), notes)
        step("comparing columns", len(shared))
        figures = figures_of(shared, (reference.height, current.height), drift_share, median, target, notes, advance, reading)
        step("measuring the model", 1)
        made = _assembled(figures, found, [*notes, *_sampled(figures, draw_rows, seed)], Sample(draw_rows, seed), origins)
        advance()
    if console is None:
        for line in notes:
            warnings.warn(line, stacklevel=2)
    else:
        for line in made.notes:
            console.print(f"[yellow]note[/yellow]       {_escaped(line)}", highlight=False, markup=True, emoji=False)
    return made


def _assembled(figures: Figures, found: Outcomes | None, notes: list[str], sample: Sample, origins: tuple[str, str]) -> MonitoringReport:
    from mlops_pipeline.monitoring.page import metrics_of, quality_of, widgets_of

    quality = None if found is None else quality_of(found)
    metrics = [*metrics_of(figures), *(quality.metrics if quality else [])]
    told = [f"{side}: {origin}" for side, origin in zip(("reference", "current"), origins, strict=True) if origin]
    widgets = widgets_of(figures, [*told, *notes], sample, quality)
    return MonitoringReport(figures, quality.figures if quality else {}, tuple(notes), origins, metrics, widgets)


def _check(quantile: float, drift_share: float, draw_rows: int, task: str | None) -> None:
    if not 0 <= quantile <= 1:
        raise PipelineError(f"quantile {quantile}: must lie between 0 and 1")
    if not 0 < drift_share <= 1:
        raise PipelineError(f"drift_share {drift_share}: must lie above 0 and at most at 1")
    if draw_rows < 1:
        raise PipelineError(f"draw_rows {draw_rows}: must be at least 1")
    if task is not None and task not in TASKS:
        raise PipelineError(f"task '{task}': use binary, multiclass or regression")


def _load_evidently() -> None:
    environment.prepare()
    try:
        import mlops_pipeline.monitoring.page  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "evidently":
            raise
        raise PipelineError("evidently is not installed: `pip install 'evidently>=0.7.23,<0.8'`") from error


def _shared(reference: pl.DataFrame, judged: pl.DataFrame, current: pl.DataFrame, notes: list[str], prose: Collection[str]) -> list[Pair]:
    """The columns to compare: those of the reference, and from the judged rows the predictions that it lacks."""
    predicted = [name for name in judged.columns if name not in reference.columns and name in current.columns]
    made = pairs(reference, current.drop(predicted), notes, prose)
    if predicted:
        notes.append(f"{listed(predicted)}: compared with the predictions on {judged.height:,} rows that the model was judged on")
        made += pairs(judged.select(predicted), current.select(predicted), notes)
    return made


def _mirrored(table: pl.DataFrame, prediction: str, found: Outcomes | None, notes: list[str]) -> list[str]:
    """Of two probabilities that add up to one, the other class's, of more all: they would count the same drift again and again."""
    if found is not None and found.probability is not None:
        classes = {f"{PROBABILITY}{label}" for label in found.classes}
        others = [name for name in table.columns if name != found.probability and name in classes]
        return others if found.probability in table.columns and len(others) == 1 else []
    names = [name for name in table.columns if name.startswith(PROBABILITY) and table[name].dtype.is_float()]
    if prediction not in table.columns or len(names) < 2:
        return []
    total = table.select(names).drop_nulls().sum_horizontal()
    if not len(total) or not total.is_between(1 - ROUNDED, 1 + ROUNDED).all():
        return []
    kept = names[-1] if len(names) == 2 else prediction
    others = [name for name in names if name != kept]
    notes.append(f"{listed(others)}: add up to one with the rest, so '{kept}' alone is compared")
    return others


def _with_labels(table: pl.DataFrame, found: Outcomes | None) -> pl.DataFrame:
    """The table with its classes as text, so that they are compared as categories."""
    import polars as pl

    if found is None or not has_classes(found.task):
        return table
    names = [name for name in (found.target, found.prediction) if name in table.columns and name in found.reference.columns]
    names = [name for name in names if name != found.prediction or not table[name].dtype.is_float()]
    return table.with_columns(column.cast(pl.String) for column in labels(table[name] for name in names)) if names else table


def _sampled(figures: Figures, most: int, seed: int) -> list[str]:
    lines = []
    for name, rows in zip(("the reference", "the current data"), figures.rows, strict=True):
        if rows > most:
            lines.append(f"pictures of {name} are drawn from {most:,} of its {rows:,} rows (seed {seed}); every figure is from all rows")
    return lines


@contextmanager
def _progress(console: Console | None) -> Iterator[tuple[Callable[[str, int], None], Callable[[], None]]]:
    if console is None or not console.is_terminal:
        yield lambda _name, _total: None, lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("loading Evidently", total=None)

        def step(name: str, total: int) -> None:
            progress.reset(bar, description=name, total=total)

        yield step, lambda: progress.advance(bar)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
