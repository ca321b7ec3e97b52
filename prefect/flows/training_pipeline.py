"""The pipeline as a Prefect flow: the same stages in the same order, with retries, timeouts, logs and an artifact."""

import hashlib
import importlib.util
import io
import json
import shutil
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict
from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE, CachePolicy

if importlib.util.find_spec("mlops_pipeline") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "src"))

from mlops_pipeline import environment, terminal
from mlops_pipeline.config.dataset import Source
from mlops_pipeline.config.moments import shown_moment
from mlops_pipeline.config.pipeline import Settings, load_settings
from mlops_pipeline.contract.evaluation import FILE
from mlops_pipeline.errors import PipelineError, ServiceAway
from mlops_pipeline.files import read_json, replacing_folder, sha256_of_file, write_text
from mlops_pipeline.inference.scorer import evaluation_at
from mlops_pipeline.layout import Layout, find_project, layout_of
from mlops_pipeline.lines import INDENT, logged_to
from mlops_pipeline.pipeline import runner
from mlops_pipeline.pipeline.code_graph import source_files
from mlops_pipeline.pipeline.definition import STAGES, stage_named
from mlops_pipeline.pipeline.render import with_as_of
from mlops_pipeline.release.wake import told_for

if TYPE_CHECKING:
    from rich.console import Console

environment.prepare()


class LogLines(io.TextIOBase):
    """A file for a stage's console whose lines become lines of a Prefect log."""

    def __init__(self, logger: Any) -> None:
        self._logger, self._unfinished = logger, ""

    def write(self, text: str) -> int:
        """Log every line that is complete."""
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in filter(str.strip, lines):
            self._logger.info("%s", line.rstrip().removeprefix(INDENT))
        return len(text)


def is_worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Whether trying again may help: it does not for what a person has to mend."""
    failure = state.result(raise_on_failure=False)
    return isinstance(failure, ServiceAway) or not isinstance(failure, PipelineError)


def input_digest(_context: Any, arguments: dict[str, Any]) -> str | None:
    """What the ingested table depends on, as one digest: sources, settings, code and the lock; None if a source is missing."""
    from mlops_pipeline.tables.source import locate

    settings, layout = opened(arguments["config"], arguments["folder"])
    stage = stage_named("ingest")
    try:
        sources = [file for source in (settings.dataset.source, *settings.dataset.lookups) for file in locate(source, layout)]
    except PipelineError:
        return None
    if not all(file.is_file() for file in sources):  # a database that has not been asked yet
        return None
    code = source_files(stage.module)
    files = [*sources, *code, *([layout.lock] if layout.lock.exists() else [])]
    content = settings.model_dump(mode="json", by_alias=True)
    named = {key: content[key] for key in stage.settings}
    as_of = None if settings.as_of is None else settings.as_of.isoformat()
    return hashlib.sha256(json.dumps([str(layout.raw), named, as_of, [sha256_of_file(file) for file in files]]).encode()).hexdigest()


def stage_task(name: str, stage: str, **options: Any) -> Callable[[Callable[..., str]], Task[..., str]]:
    """A decorator that makes a task for a stage: what fails for a passing reason is tried again, as often as the stage says."""
    terms = stage_named(stage)
    return task(
        name=name,
        retries=terms.retries,
        retry_delay_seconds=[terms.retry_delay_s * terms.retry_factor**attempt for attempt in range(terms.retries)],
        retry_condition_fn=is_worth_retrying,
        timeout_seconds=terms.hours * 3600,
        **({"cache_policy": NO_CACHE, "persist_result": False} | options),
    )


@stage_task(
    "load_data",
    "ingest",
    cache_policy=CachePolicy.from_cache_key_fn(input_digest),
    cache_expiration=timedelta(hours=1),
    persist_result=True,
)
def load_data(config: str, folder: str | None, _after: str = "") -> str:
    """Read the source into a typed table; its path. Cached for an hour by the content of its input."""
    return run_stage("ingest", config, folder)


@stage_task("validate_data", "validate")
def validate_data(config: str, folder: str | None, _after: str = "") -> str:
    """Hold the table against its schema; the report's path."""
    return run_stage("validate", config, folder)


@stage_task("preprocess_data", "split")
def preprocess_data(config: str, folder: str | None, _after: str = "") -> str:
    """Split the table; the training rows' path. What is fitted on rows is part of the model, so it is not done here."""
    return run_stage("split", config, folder)


@stage_task("train_model", "train")
def train_model(config: str, folder: str | None, _after: str = "") -> str:
    """Fit the model and log it to MLflow; the model folder's path."""
    return run_stage("train", config, folder)


@stage_task("evaluate_model", "evaluate")
def evaluate_model(config: str, folder: str | None, _after: str = "") -> str:
    """Score the held-out rows and show the figures as an artifact of the run; the evaluation folder's path."""
    made = run_stage("evaluate", config, folder)
    show_evaluation(*opened(config, folder))
    return made


@stage_task("register_model", "register")
def register_model(config: str, folder: str | None, _after: str = "", reason: str = "") -> str:
    """Register the version, and make it champion if it passes the gate; the registration's path."""
    return run_stage("register", config, folder, reason)


TASKS: dict[str, Task[..., str]] = {
    "ingest": load_data,
    "validate": validate_data,
    "split": preprocess_data,
    "train": train_model,
    "evaluate": evaluate_model,
    "register": register_model,
}


def name_of_run() -> str:
    """What Prefect calls the run: what a rule of the watch started, and until when it sees rows; else the name that Prefect gave it."""
    from prefect.runtime import flow_run

    given = flow_run.get_parameters()
    rule, as_of = str(given.get("reason") or "").partition(":")[0], given.get("as_of")
    said = " ".join(filter(None, (rule, as_of and f"as of {as_of}")))
    return said[:200] or str(flow_run.get_name())


@flow(
    name="mlops-pipeline",
    flow_run_name=name_of_run,
    description="From a table of data to a registered model: ingest, validate, split, train, evaluate, register.",
    log_prints=False,
)
def training_pipeline(
    data_path: str | None = None,
    model_output_path: str | None = None,
    config_path: str = "configs/training_config.yaml",
    target: str = "target",
    as_of: str | None = None,
    reason: str = "",
) -> str:
    """Run the pipeline of a configuration, or with ``data_path`` on that table alone, and return the path of the model.

    Without ``data_path`` the stages go through DVC's cache as with `mlops run`; the path is the champion's, or the
    trained model's if there is no champion. With it they run beside ``model_output_path``, described by the
    configuration if that fits the table, else from the table itself. ``model_output_path`` receives the trained model.
    With ``as_of`` this run and later ones see no row from that moment on, until it is "newest"; for a configuration only.
    ``reason`` is why, in words: it stays with a version that this run makes, and with its run in MLflow.
    """
    if reason:
        get_run_logger().info("why: %s", reason)
    if as_of and data_path is not None:
        raise PipelineError(f"as_of = {as_of}: is for the pipeline of a configuration: leave out data_path")
    output = Path(model_output_path).absolute() if model_output_path else None
    if output is not None:
        refuse_to_overwrite(output)
    if data_path is None:
        config, folder = Path(config_path), None
        lock = find_project(config) / ".dvc/tmp"
    else:
        output = output or enclosing_project(Path.cwd()) / "models/artifacts/trained_model"
        folder = output.with_name(f".{output.name}-pipeline")
        config, lock = folder / "pipeline.yaml", folder
    with runner.alone(lock):
        if folder is not None and data_path is not None:
            describe(Path(data_path), Path(config_path), target, folder, config)
        elif as_of:
            settings, layout = opened(str(config), None)
            runner.prepare(with_as_of(settings, layout, as_of), layout, log_console())
        layout = walk(str(config), None if folder is None else str(folder), reason)
        if output is not None:
            with replacing_folder(output) as copy:
                shutil.copytree(layout.model, copy, dirs_exist_ok=True)
            return str(output)
    return str(layout.best_model if layout.best_model.exists() else layout.model)


def walk(config: str, folder: str | None, reason: str = "") -> Layout:
    """Run the task of every stage in order, and say where the files lie."""
    after = ""
    for stage in STAGES:
        work = TASKS[stage.name]
        if stage.name == "ingest":
            work = work.with_options(refresh_cache=not is_ingested(config, folder))
        after = work(config, folder, after, **({"reason": reason} if stage is STAGES[-1] else {}))
    return opened(config, folder)[1]


def run_stage(name: str, config: str, folder: str | None, reason: str = "") -> str:
    """Bring one stage up to date through DVC's cache, or just run it in a folder of its own; the path of what it made."""
    settings, layout = opened(config, folder)
    settings = settings.with_reason(reason)
    stage, console = stage_named(name), log_console()
    tell = told_for(settings, layout, logged_to(get_run_logger()))
    if settings.as_of is not None and not stage.reads:
        get_run_logger().info("as of %s: rows from then on are not seen", shown_moment(settings.as_of))
    if folder is None:
        cache = runner.prepare(settings, layout, console)
        runner.bring_up_to_date(stage, cache.causes([stage])[name], cache, settings, layout, console, tell)
        cache.write()
    else:
        stage.carry_out(settings, layout, console, tell)
    return str(stage.outputs(layout)[0])


def opened(config: str, folder: str | None) -> tuple[Settings, Layout]:
    """The settings and the layout that two references stand for; ``folder`` holds the files of a table by itself."""
    path = Path(config)
    settings = load_settings(path)
    if folder is None:
        layout = layout_of(settings, path, find_project(path))
        return with_as_of(settings, layout), layout
    return settings, table_layout(settings.name, Path(folder), path)


def table_layout(name: str, folder: Path, config: Path) -> Layout:
    """Files in the folder; MLflow and the lock of the project that is being worked in, if it is one."""
    return Layout(project=enclosing_project(Path.cwd(), otherwise=folder), root=folder, name=name, config=config)


def enclosing_project(here: Path, otherwise: Path | None = None) -> Path:
    """The DVC project around a folder; without one the other folder, or this one."""
    try:
        return find_project(here / "pipeline.yaml")
    except PipelineError:
        return otherwise or here


def describe(table: Path, config: Path, target: str, folder: Path, output: Path) -> None:
    """Write the settings for a table by itself: the configuration's if it fits, else what the table's first rows say."""
    import yaml

    from mlops_pipeline.scaffold import settings_for_table
    from mlops_pipeline.tables.dialect import found

    logger = get_run_logger()
    settings = load_settings(config) if config.is_file() else None
    if settings is not None:
        source = source_at(table, settings)
        layout = layout_of(settings, config, enclosing_project(Path.cwd(), otherwise=folder))
        unlike = unlike_described(settings, source, table, layout)
        if unlike:
            logger.info("%s does not describe %s (%s): described from its first rows", config, table, unlike)
            settings = None
        else:
            # A table by itself is registered under a name of its own: it must not take the place of the project's champion.
            apart = settings.registry.model_copy(update={"model": f"{settings.registry.model or settings.name}-by-itself"})
            settings = settings.model_copy(update={"registry": apart, "dataset": settings.dataset.model_copy(update={"source": source})})
    if settings is None:
        columns = columns_of(table, Source(path=str(table), **found(table, (target,), {}).settings))
        if columns and target not in columns:
            raise PipelineError(f'{table}: has no column {target!r}: pass target="NAME", one of {", ".join(columns)}')
        name = "".join(c if c.isalnum() and c.isascii() else "_" for c in table.stem).strip("_") or "table"
        settings = settings_for_table(table, target, name)
        times = [column for column, described in settings.dataset.columns.items() if described.kind == "datetime"]
        if times:
            words = "rows are held out at random: to split by time (%s), pass config_path with what `mlops init --input %s` writes"
            logger.info(words, ", ".join(times), table)
        # The schema inferred from another table says nothing of this one.
        table_layout(name, folder, output).schema.unlink(missing_ok=True)
    write_text(output, yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True))


def source_at(table: Path, settings: Settings) -> Source:
    """The settings' source, but for where it lies: a table by itself is written as theirs is."""
    elsewhere = dict.fromkeys(("package", "member", "sql", "uri"))
    return settings.dataset.source.model_copy(update={"path": str(table.resolve()), **elsewhere})


def columns_of(table: Path, source: Source) -> list[str]:
    """The names of a table's columns; none where it has no rows. Raises :class:`PipelineError` if it cannot be read so."""
    from mlops_pipeline.tables.source import read_file

    chunk = next(iter(read_file(table, source, 1)), None)
    return chunk.frame.columns if chunk is not None else []


def unlike_described(settings: Settings, source: Source, table: Path, layout: Layout) -> str:
    """Why the settings are not of the table, in words: it is written otherwise, or lacks columns; empty if they are."""
    try:
        lacking = lacking_columns(settings, columns_of(table, source), layout)
    except PipelineError as error:
        return str(error)
    return f"no column {', '.join(lacking[:5])}" if lacking else ""


def lacking_columns(settings: Settings, columns: list[str], layout: Layout) -> list[str]:
    """Columns the settings describe that are neither in the table nor made from it."""
    from mlops_pipeline.tables.lookups import lookup_table

    data = settings.dataset
    made = {*data.derive, *data.counts, *data.history, *data.aggregates, *columns}
    lacking = [name for name in data.columns if name not in made]
    looked_up = {
        name for lookup in data.lookups if lacking for name in lookup_table(lookup, data, layout).columns if name not in lookup.keys
    }
    return [name for name in lacking if name not in looked_up]


def is_ingested(config: str, folder: str | None) -> bool:
    """Whether what a cached ``load_data`` stands for is on disk as it was recorded, so that the cache may be believed."""
    settings, layout = opened(config, folder)
    if folder is None:
        return not runner.prepare(settings, layout, log_console()).causes()["ingest"]
    try:
        return bool(read_json(layout.ingest_report)["sha256"] == sha256_of_file(layout.raw)) and layout.quarantine.is_file()
    except (OSError, ValueError, KeyError):
        return False


def refuse_to_overwrite(output: Path) -> None:
    """Raise :class:`PipelineError` if the model's place is taken by anything but a model folder."""
    is_free = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if output.is_symlink() or not (is_free or (output / "MLmodel").is_file()):
        raise PipelineError(f"model_output_path = {output}: is there and is no model folder: name another path, or remove it")


def log_console() -> "Console":
    """A console whose lines stand in the log of the run at work, and so in Prefect's UI."""
    return terminal.opened(LogLines(get_run_logger()), width=160)  # type: ignore[arg-type]  # a text file


def show_evaluation(settings: Settings, layout: Layout) -> None:
    """Put the held-out figures beside the baseline's as a table into Prefect's UI."""
    from prefect.artifacts import create_table_artifact

    evaluation = evaluation_at(layout.evaluation / FILE)
    rows = [{"metric": name, **asdict(figures), "baseline": evaluation.baseline[name]} for name, figures in evaluation.metrics.items()]
    words = [f"{settings.name} on {evaluation.test_rows:,} held-out rows ({evaluation.split} split)", evaluation.warning]
    key = "".join(c if c.isalnum() and c.isascii() else "-" for c in settings.name.lower())
    create_table_artifact(rows, key=f"evaluation-{key}", description=": ".join(filter(None, words)))


if __name__ == "__main__":
    training_pipeline()
