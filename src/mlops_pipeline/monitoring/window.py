"""The rows that a report compares: a file, or a period of the pipeline's own table; by default the champion's training window."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.config.finding import option_for
from mlops_pipeline.config.pipeline import Settings, load_settings
from mlops_pipeline.contract.evaluation import FILE as EVALUATION
from mlops_pipeline.contract.spec import FILE, JUDGED, Contract
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import read_json
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.frames import meant_by
from mlops_pipeline.inference.scorer import contract_at, evaluation_at, load_scorer
from mlops_pipeline.layout import Layout, find_project, layout_of
from mlops_pipeline.modelling.frame import positive_index
from mlops_pipeline.monitoring.period import period_of
from mlops_pipeline.registry.champion import prove, registered_model
from mlops_pipeline.tables.cast import are_there, as_numbers, cast_columns
from mlops_pipeline.tables.dialect import FORMS, refuse_no_file
from mlops_pipeline.tables.packing import form_of
from mlops_pipeline.tables.source import as_written, read_file, torn_notes

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console


CHUNK_MB = 64


@dataclass(frozen=True)
class Pipeline:
    """A pipeline on disk: its settings, its files, its champion's contract (None without a champion), and which fit of it speaks.

    What is served speaks (``fit`` is empty), or the one that was ``judged`` before it was made on all rows.
    """

    settings: Settings
    layout: Layout
    champion: Contract | None
    fit: str = ""

    @property
    def model(self) -> Path:
        """The folder of the champion's fit that predicts."""
        return self.layout.best_model / self.fit

    @property
    def predictor(self) -> str:
        """The fit that predicts, in words."""
        return "the champion's judged fit" if self.fit else "the champion"

    @property
    def features(self) -> tuple[str, ...] | None:
        """The columns that the champion takes."""
        return None if self.champion is None else tuple(self.champion.columns)


@dataclass(frozen=True)
class ComparedRows:
    """Some rows and where they come from; ``judged`` are others whose predictions stand for theirs."""

    table: pl.DataFrame
    origin: str
    judged: pl.DataFrame | None = None


def open_pipeline(config: Path | None, default: Path | None) -> Pipeline | None:
    """The pipeline of a settings file; None if none is named and there is none where one usually lies."""
    path = config or default
    if path is None or (config is None and not (path.is_file() and any((folder / ".dvc").is_dir() for folder in path.resolve().parents))):
        return None
    settings = load_settings(path)
    layout = layout_of(settings, path, find_project(path))
    facts = layout.best_model / FILE
    return Pipeline(settings, layout, contract_at(facts) if facts.is_file() else None)


def as_judged(pipeline: Pipeline) -> Pipeline:
    """The same pipeline with the fit that was judged, where what is served was made after it on all rows: only that one has a
    training window, and rows that were held out from it.
    """
    facts = pipeline.layout.best_model / JUDGED / FILE
    if pipeline.champion is None or not pipeline.champion.judged_sha256 or not facts.is_file():
        return pipeline
    judged = contract_at(facts)
    return replace(pipeline, champion=judged, fit=JUDGED) if judged.model_sha256 == pipeline.champion.judged_sha256 else pipeline


def current_rows(named: str | None, since: datetime | None, until: datetime | None, pipeline: Pipeline | None) -> ComparedRows:
    """The rows to look at: a file, a period such as 2013-10, or the table's rows between two moments."""
    if named is not None:
        if since is not None or until is not None:
            raise PipelineError(f"--current {named}: give either --current, or --from and --until")
        return _named_rows("--current", named, pipeline)
    if since is None and until is None:
        there = "" if pipeline is None or not pipeline.layout.test.is_file() else f", such as {os.path.relpath(pipeline.layout.test)}"
        raise PipelineError(f"--current is missing: name a {FORMS}{there}, or a period such as 2013-10{_span(pipeline)}")
    return _table_rows("--from and --until", since or datetime.min, until or datetime.max, pipeline)


def reference_rows(named: str | None, pipeline: Pipeline | None) -> ComparedRows:
    """The rows to compare with: a file or a period; by default the champion's training window, judged on its held-out rows.

    Where a later run has trained on other rows, these stand in, and the origin says so.
    """
    return _champion_window(pipeline) if named is None else _named_rows("--reference", named, pipeline)


def read_table(path: Path, pipeline: Pipeline | None = None) -> pl.DataFrame:
    """A whole file with typed columns: of the kinds that the pipeline describes, else of what their values are.

    Raises :class:`PipelineError`.
    """
    return _read(path, pipeline)[0]


def _read(path: Path, pipeline: Pipeline | None) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The same, and what to say of how it is written."""
    import polars as pl

    refuse_no_file(path)
    described = set() if pipeline is None else set(pipeline.settings.dataset.columns)
    nothing = Source(path=str(path)) if pipeline is None else pipeline.settings.dataset.source
    empty_is_null = pipeline is None or "" in pipeline.settings.dataset.common_null_words
    written, notes = as_written(path, nothing.model_copy(update={"null_values": ("",) if empty_is_null else ()}), described)
    # Beside the pipeline's columns others may hold what no table does.
    chunks = list(read_file(path, written, CHUNK_MB, None if pipeline is None else described, nothing.null_values))
    broken = [row for chunk in chunks for row in chunk.broken]
    if broken:
        raise PipelineError(f"{path}: cannot be read as a table: row {broken[0].row} has {broken[0].reason}: mend the file")
    frames = [chunk.frame for chunk in chunks if chunk.frame.height]
    if not frames:
        raise PipelineError(f"{path}: is empty: give a table with a header and rows")
    table = pl.concat(frames)
    notes = (*notes, *torn_notes(path, table.columns))
    return table if form_of(path) != "text" else _typed(table, described, nothing.null_values, path), notes


def _typed(table: pl.DataFrame, described: set[str], null_words: Sequence[str], path: Path) -> pl.DataFrame:
    """A CSV's text, the columns that nobody has described as what their values are."""
    import polars as pl

    plain = [name for name in table.columns if name not in described]
    if not plain:
        return table
    text = io.BytesIO()
    table.select(pl.col(plain).replace("", None)).write_csv(text)
    text.seek(0)
    try:
        read = pl.read_csv(text, null_values=list(null_words), infer_schema_length=None, try_parse_dates=True, glob=False)
    except pl.exceptions.PolarsError as error:
        raise PipelineError(f"{path}: cannot be read as a table: {one_line(error)}") from error
    return table.with_columns(read.get_columns())


def as_described(rows: ComparedRows, pipeline: Pipeline, prediction: str, console: Console) -> ComparedRows:
    """The same rows as the champion sees them, each column of the kind that the pipeline describes.

    Values that are none of it are null, and are told.
    """
    data, champion = pipeline.settings.dataset, pipeline.champion
    there = {name: column for name, column in data.columns.items() if name in rows.table.columns}
    cast = cast_columns(rows.table, there, data.source.null_values)
    for name, column in there.items():
        lost = int((are_there(rows.table[name], column.kind, data.null_words(name)) & cast[name].is_null()).sum())
        if lost:
            _note(console, f"{lost:,} values of {name} are not of kind {column.kind}: counted as missing")
        if column.kind == "category":
            seen = champion.categories.get(name, ()) if champion is not None else ()
            cast = cast.with_columns(meant_by(cast[name], frozenset(seen), data.null_words(name))[0].alias(name))
    if data.columns[data.target].kind == "boolean":
        words = champion.answers if champion is not None and champion.target == data.target else [0, 1]
        cast = _in_words(cast, rows.table, words, data.target, prediction, console)
    return replace(rows, table=cast)


def _in_words(
    cast: pl.DataFrame, given: pl.DataFrame, words: Sequence[object], target: str, prediction: str, console: Console
) -> pl.DataFrame:
    """A yes/no target, and what was predicted of it, in the words of its owner, however a file spells them."""
    import polars as pl

    said = pl.Series(words)
    if target in cast.columns:
        cast = cast.with_columns(said.gather(cast[target].cast(pl.UInt32)).alias(target))
    if prediction in given.columns and not given[prediction].dtype.is_float():
        truths = as_numbers(given[prediction], "boolean")
        known = truths.is_in([0.0, 1.0]).fill_null(value=False)
        lost = int((given[prediction].is_not_null() & ~known).sum())
        if lost and not known.any():
            _note(console, f"no value of {prediction} is a class of {target}: name the column of predictions with --prediction")
        if known.any():
            if lost:
                _note(console, f"{lost:,} values of {prediction} are no class of {target}: counted as missing")
            cast = cast.with_columns(said.gather(truths.set(~known, None).cast(pl.UInt32)).alias(prediction))
    return cast


def _note(console: Console, what: str) -> None:
    console.print(f"note       {what}")


def positive_of(pipeline: Pipeline) -> int | str | None:
    """The class that counts as positive, in its owner's words."""
    data, champion = pipeline.settings.dataset, pipeline.champion
    if champion is None or not champion.classes:
        return data.positive
    answer: int | str = champion.answers[positive_index(champion.classes, data)]
    return answer


def with_predictions(rows: ComparedRows, pipeline: Pipeline, prediction: str, console: Console) -> ComparedRows:
    """The same rows with the champion's predictions where they have none and hold every column that it needs."""
    champion = pipeline.champion
    if champion is None or rows.judged is not None or prediction in rows.table.columns:
        return rows
    needed = [name for name, column in champion.columns.items() if not column.nullable and name not in rows.table.columns]
    if needed or not set(champion.columns) & set(rows.table.columns):
        why = f"column '{(needed or list(champion.columns))[0]}' is missing, which the champion needs"
        _note(console, f"{rows.origin} has no column '{prediction}', and {why}: nothing is predicted")
        return rows
    return replace(rows, table=_predicted(rows.table, pipeline, rows.origin, prediction, console))


def only_what_the_model_sees(rows: ComparedRows, pipeline: Pipeline, besides: tuple[str, ...]) -> ComparedRows:
    """The rows with the champion's columns, target and predictions alone; private columns go in any case."""
    columns = pipeline.settings.dataset.columns
    kept = [name for name in rows.table.columns if name not in columns or not columns[name].private]
    probabilities = _probabilities(pipeline)
    if pipeline.features is not None and set(pipeline.features) <= set(kept):
        kept = [name for name in kept if name in pipeline.features or name in besides or name in probabilities]
    return replace(rows, table=rows.table.select(kept))


def judged_rows(pipeline: Pipeline, prediction: str, console: Console) -> pl.DataFrame | None:
    """The champion's held-out rows with its predictions of them; None if they are no longer those it was judged on."""
    layout = pipeline.layout
    if pipeline.features is None or not (layout.test.is_file() and layout.split_report.is_file()):
        return None
    evaluated = layout.best_model / EVALUATION
    if not evaluated.is_file() or evaluation_at(evaluated).test_sha256 != read_json(layout.split_report)["test_sha256"]:
        return None
    origin = f"{layout.relative(layout.test)}, which it was judged on,"
    held_out = _predicted(read_table(layout.test), pipeline, origin, prediction, console)
    predicted = as_described(ComparedRows(held_out, ""), pipeline, prediction, console).table
    target = pipeline.settings.dataset.target
    return predicted.select([c for c in predicted.columns if c in (target, prediction, *_probabilities(pipeline))])


def _probabilities(pipeline: Pipeline) -> list[str]:
    """The columns of the champion's probabilities."""
    return [] if pipeline.champion is None else pipeline.champion.kind.output_names(pipeline.champion.answers)[1:]


def _named_rows(option: str, named: str, pipeline: Pipeline | None) -> ComparedRows:
    if Path(named).is_file():
        table, notes = _read(Path(named), pipeline)
        return ComparedRows(table, ", ".join([named, *notes]))
    if (moments := period_of(option, named)) is not None:
        return _table_rows(f"{option} {named}", *moments, pipeline)
    raise PipelineError(f"{option} {named}: does not exist: name a {FORMS}, or a period such as 2013-10{_span(pipeline)}")


def _table_rows(asked: str, since: datetime, until: datetime, pipeline: Pipeline | None) -> ComparedRows:
    import polars as pl

    if pipeline is None:
        raise PipelineError(f"{asked}: a period is one of the pipeline's table, and there is no pipeline here: name one with --config")
    layout, column = pipeline.layout, pipeline.settings.dataset.time_column
    if column is None:
        raise PipelineError(f"{asked}: {layout.relative(layout.config)} names no dataset.time_column: name a file instead")
    if not layout.raw.is_file():
        raise PipelineError(f"{_unmade(layout, layout.raw)}, or name a file")
    table = pl.scan_parquet(layout.raw, glob=False).filter((pl.col(column) >= since) & (pl.col(column) < until)).collect()
    if not table.height:
        raise PipelineError(f"{asked}: no row of {layout.relative(layout.raw)} is of that time{_span(pipeline)}")
    if not pipeline.settings.dataset.tells_time:
        return ComparedRows(table, f"{layout.relative(layout.raw)}, {asked}")
    first, last = table.select(pl.col(column).min().alias("first"), pl.col(column).max().alias("last")).row(0)
    return ComparedRows(table, f"{layout.relative(layout.raw)}, {first:%Y-%m-%d} to {last:%Y-%m-%d}")


def _unmade(layout: Layout, path: Path) -> str:
    """That a run has not made a file yet, as the beginning of an error."""
    return f"{layout.relative(path)}: does not exist: run `mlops run{option_for(layout.config)}` first"


def _span(pipeline: Pipeline | None) -> str:
    """What the pipeline's table covers, as the end of an error."""
    import polars as pl

    if pipeline is None or not pipeline.settings.dataset.tells_time or not pipeline.layout.raw.is_file():
        return ""
    column = pl.col(str(pipeline.settings.dataset.time_column))
    first, last = (
        pl.scan_parquet(pipeline.layout.raw, glob=False).select(column.min().alias("first"), column.max().alias("last")).collect().row(0)
    )
    return f" (the table covers {first:%Y-%m-%d} to {last:%Y-%m-%d})" if first is not None else ""


def _champion_window(pipeline: Pipeline | None) -> ComparedRows:
    if pipeline is None:
        raise PipelineError(f"--reference is missing: name a {FORMS}, or the pipeline whose training window it is with --config")
    layout = pipeline.layout
    if pipeline.features is None:
        why = registered_model(pipeline.settings, layout).without_champion(option_for(layout.config))
        raise PipelineError(f"{layout.relative(layout.best_model)}: {why}, or name --reference")
    if not (layout.train.is_file() and layout.split_report.is_file()):
        raise PipelineError(f"{_unmade(layout, layout.train)}, or name --reference")
    split = read_json(layout.split_report)
    if pipeline.champion is not None and pipeline.champion.train_sha256 != split["train_sha256"]:
        whose = "what the last run trained on, for the champion's own training rows are here no more"
    else:
        whose = "the champion's training window"
    span = f", {split['train_span']}" if split.get("train_span") else ""
    return ComparedRows(read_table(layout.train), f"{whose}, {layout.relative(layout.train)}{span}")


def _predicted(table: pl.DataFrame, pipeline: Pipeline, origin: str, prediction: str, console: Console) -> pl.DataFrame:
    """The table with predictions beside its rows, null where a row breaks the champion's schema."""
    import numpy as np
    import polars as pl

    if noted := prove(pipeline.settings, pipeline.layout, pipeline.layout.best_model):
        console.print(f"note       {noted}")
    scorer = load_scorer(pipeline.model)
    try:
        scored = scorer.score(table.select([name for name in scorer.signature.names if name in table.columns]))
    except Refused as refusal:
        raise PipelineError(f"{origin}: {refusal.faults[0].detail}") from refusal
    if not scored.taken.any():
        raise PipelineError(f"{origin}: no row keeps the champion's schema: {scored.faults[0].detail}")
    broken = f"; {len(scored.faults):,} break its schema and have no prediction" if scored.faults else ""
    console.print(f"predicted  {int(scored.taken.sum()):,} rows of {origin} with {pipeline.predictor}{broken}")
    names = [prediction, *scorer.contract.kind.output_names(scorer.contract.answers)[1:]]
    places = pl.Series(np.where(scored.taken, np.cumsum(scored.taken) - 1, 0)).set(pl.Series(~scored.taken), None)
    said = [column.gather(places).alias(column.name) for column in scorer.columns_of(scored.outputs, names)]
    # A feature of that name is the user's, and stays.
    added = [column for column in said if column.name not in scorer.contract.columns]
    replaced = [column.name for column in added if column.name in table.columns]
    if replaced:
        _note(console, f"{origin}: {', '.join(replaced)} is what {pipeline.predictor} says now, not what the table held")
    return table.drop(replaced).with_columns(added)
