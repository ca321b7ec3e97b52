"""Runs in MLflow: found by the model's digest or made anew, so that recording the same thing twice changes nothing."""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
import sqlite3
import time
import urllib.error
from collections.abc import Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import Field

from mlops_pipeline.config.pipeline import Settings, registry_uri, shown_settings, tracking_uri
from mlops_pipeline.config.tree import Frozen, hidden, read_yaml, tree_of
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.errors import PipelineError, ServiceAway, one_line
from mlops_pipeline.events import current_user
from mlops_pipeline.files import sha256_of_file
from mlops_pipeline.layout import SQLITE, Layout, sqlite_path, sqlite_uri
from mlops_pipeline.registry.artifacts import artifact_root, bring_home, needs_of
from mlops_pipeline.registry.lock import connected, store_lock
from mlops_pipeline.registry.provenance import environment_facts
from mlops_pipeline.registry.reader import READ_HERE, AccessRefused, RegistryUnreachable, experiment_location
from mlops_pipeline.registry.rest import opened, refusal, told, why_not
from mlops_pipeline.registry.versions import EVALUATION_TAG, MODEL_TAG, REPORT_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Run

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a description."""

MAX_NOTE = 5000

SIGNATURE = "*Written by mlops-pipeline, and again with each verdict. What you write here instead stays.*"

SILENCE = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"


class Tracking:
    """The tracking server of one pipeline, opened when it is first asked; raises :class:`PipelineError` if it does not answer."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self.settings, self.layout = settings, layout
        self.uri = tracking_uri(settings, layout.default_tracking_uri)

    def open(self) -> Tracking:
        """Open it now, and see to it that what a run will write can be written, before a stage does work that would be lost."""
        location = self.client.get_experiment(self.experiment_id).artifact_location
        needs_of(location or "")
        return self

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client of both stores."""
        return open_client(self.settings, self.layout)

    @cached_property
    def experiment_id(self) -> str:
        """The pipeline's experiment, made if it is not there."""
        return self._experiment()

    def record_training(self, training: Contract, fit_seconds: float | None) -> str:
        """The run of this model: the one already recorded, or a new one with parameters, settings and environment."""
        found = self.find_run(training.model_sha256)
        if found is not None:
            return str(found.info.run_id)
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        now = int(time.time() * 1000)
        facts = self._facts(training)
        # What MLflow's list of runs has columns for.
        source = {
            "mlflow.user": current_user(),
            "mlflow.source.name": self.layout.relative(self.layout.config),
            "mlflow.source.type": "LOCAL",
        }
        if "mlops.git_commit" in facts:
            source["mlflow.source.git.commit"] = facts["mlops.git_commit"]
        run = self.client.create_run(
            self.experiment_id,
            start_time=now - int(1000 * (fit_seconds or 0)),
            run_name=f"{training.estimator}-{training.model_sha256[:8]}",
            tags={**facts, **source},
        )
        run_id = str(run.info.run_id)
        metrics = [Metric("fit_seconds", fit_seconds, now, 0)] if fit_seconds is not None else []
        params = {"estimator": training.estimator, **training.params, **{f"tuning.{k}": v for k, v in training.tuning.items()}}
        self.client.log_batch(run_id, metrics, [Param(k, str(v)) for k, v in params.items()])
        rows = json.dumps({"uri": self.layout.relative(self.layout.train)})
        data = Dataset(self.settings.name, training.train_sha256[:16], "local", rows, profile=json.dumps({"num_rows": training.train_rows}))
        # Another pipeline's run on the same rows would note the same dataset at once, and MLflow looks before it writes.
        with store_lock(self.uri, self.layout):
            self.client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
        self.client.log_text(run_id, yaml.safe_dump(shown_settings(self.settings), sort_keys=False, allow_unicode=True), "settings.yaml")
        if self.layout.lock.exists():
            self.client.log_artifact(run_id, str(self.layout.lock), "environment")
        # The digest comes last: a run without it was cut short, and is not found again.
        self.client.log_batch(run_id, tags=[RunTag(MODEL_TAG, training.model_sha256)])
        with _environment_kept(SILENCE):
            if hidden(self.uri) != self.uri:  # MLflow prints where the run can be seen, password and all
                os.environ[SILENCE] = "true"
            self.client.set_terminated(run_id)
        return run_id

    def record_evaluation(self, run_id: str, metrics: Mapping[str, float | None], folder: Path, digest: str) -> None:
        """Add metrics, plots and the report to a run, once per evaluation."""
        from mlflow.entities import Metric, RunTag

        if self.client.get_run(run_id).data.tags.get(EVALUATION_TAG) == digest:
            return
        now = int(time.time() * 1000)
        finite = {key: value for key, value in metrics.items() if value is not None and math.isfinite(value)}
        for file in sorted(folder.iterdir()):
            if file.suffix in (".html", ".json", ".png"):
                self.client.log_artifact(run_id, str(file), "evaluation")
        self.client.log_batch(run_id, [Metric(key, value, now, 0) for key, value in finite.items()], tags=[RunTag(EVALUATION_TAG, digest)])

    def describe(self, run_id: str, note: str, tags: Mapping[str, str], report: Path) -> None:
        """Put a note on a run, which MLflow shows first, and the report beside it; once for the same report and note."""
        from mlflow.entities import RunTag

        there = self.client.get_run(run_id).data.tags
        digest, note = sha256_of_file(report), described(there.get(NOTE), note)
        if there.get(REPORT_TAG) == digest and there.get(NOTE) == note:
            return
        self.client.log_artifact(run_id, str(report))
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in {**tags, NOTE: note, REPORT_TAG: digest}.items()])

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Put tags on a run."""
        from mlflow.entities import RunTag

        if tags:
            self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def find_run(self, model_sha256: str) -> Run | None:
        """The newest complete run of the model with this digest."""
        runs = self.client.search_runs([self.experiment_id], f"tags.`{MODEL_TAG}` = '{model_sha256}'", max_results=1)
        return runs[0] if runs else None

    def _experiment(self) -> str:
        name = self.settings.tracking.experiment or self.settings.name
        described = experiment_tags(self.layout.experiments, name)
        with store_lock(self.uri, self.layout):
            found = self.client.get_experiment_by_name(name)
            if found is None:
                # Without this tag MLflow's pages take a new experiment for one about language models.
                tags = {"mlflow.experimentKind": "custom_model_development", **described}
                return str(
                    self.client.create_experiment(name, artifact_location=artifact_root(self.settings, self.layout, self.uri), tags=tags)
                )
        if found.lifecycle_stage != "active":
            raise PipelineError(
                f"{self.layout.config}: tracking.experiment: '{name}' was deleted in MLflow: restore it there, or name another"
            )
        for key, value in described.items():
            if found.tags.get(key) != value:
                self.client.set_experiment_tag(found.experiment_id, key, value)
        return str(found.experiment_id)

    def _facts(self, training: Contract) -> dict[str, str]:
        facts = {
            **environment_facts(self.layout.project, self.layout.lock, self.layout.config),
            "train_sha256": training.train_sha256,
            "seed": str(training.seed),
            "pipeline": self.settings.name,
        }
        if self.layout.config.is_file():
            facts["config_sha256"] = sha256_of_file(self.layout.config)
        return {f"mlops.{key}": value for key, value in facts.items()}


def described(there: str | None, ours: str) -> str:
    """What a description becomes: ours, unless a person wrote one; whole lines of it, no more than MLflow's tables hold."""
    if there and not there.endswith(SIGNATURE):
        return there
    room = MAX_NOTE - len(SIGNATURE) - 4
    kept = ours if len(ours) <= room else f"{ours[:room].rpartition(chr(10))[0]}\n…"
    return f"{kept.rstrip()}\n\n{SIGNATURE}"


class ExperimentDefinition(Frozen):
    """What an experiment bears in MLflow."""

    description: str = ""
    tags: dict[str, str | int | float | bool] = Field(default_factory=dict)


def experiment_tags(file: Path, name: str) -> dict[str, str]:
    """The tags that a project's file defines for an experiment; none without the file or without its name there.

    Raises :class:`PipelineError` in one line if the file is not what it should be.
    """
    if not file.is_file():
        return {}
    content = read_yaml(file, "write `NAME: {description: …}`")
    if name not in content:
        return {}
    definition = content[name] or {}
    if not isinstance(definition, dict):
        raise PipelineError(f"{file}: {name} = {definition!r}: is no mapping: write description or tags under it")
    experiment = tree_of(ExperimentDefinition, definition, f"{file}: {name}")
    return {
        **{key: str(value) for key, value in experiment.tags.items()},
        **({NOTE: experiment.description} if experiment.description else {}),
    }


def open_client(settings: Settings, layout: Layout) -> MlflowClient:
    """An MLflow client that says nothing of itself to anyone; the store is made or migrated by one process at a time."""
    uri, registry = tracking_uri(settings, layout.default_tracking_uri), registry_uri(settings, layout.default_tracking_uri)
    answers(uri)
    if registry != uri:
        answers(registry, "registry", "registry.uri or MLFLOW_REGISTRY_URI")
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    from mlflow import MlflowClient, set_registry_uri, set_tracking_uri

    try:
        # Downloads of artifacts look the addresses up in MLflow's own settings, whatever the client was given.
        with _environment_kept("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            set_tracking_uri(uri)
            set_registry_uri(registry)
        with store_lock(uri, layout), _quiet():
            if uri.startswith(SQLITE):
                _make_sqlite(sqlite_path(uri))
            for address in {uri, registry}:
                bring_home(address, settings, layout)
            client = MlflowClient(uri, registry_uri=registry)
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
    except Exception as error:
        said = told(error, "check tracking.uri or MLFLOW_TRACKING_URI")
        if said is None:
            raise
        raise PipelineError(f"{hidden(uri)}: cannot be opened: {said}") from error
    return client


def refuse_what_is_known_to_fail(settings: Settings, layout: Layout) -> None:
    """Before a run's first stage: raise :class:`PipelineError` if a library is missing, or a right, that recording will need.

    A store that does not answer now may do so by then.
    """
    uri = tracking_uri(settings, layout.default_tracking_uri)
    location: str | None = None
    try:
        location = experiment_location(uri, settings.tracking.experiment or settings.name) if uri.startswith(READ_HERE) else None
    except AccessRefused:
        raise
    except RegistryUnreachable:
        pass
    needs_of(location or artifact_root(settings, layout, uri) or "")


@contextmanager
def _environment_kept(*names: str) -> Iterator[None]:
    """MLflow writes addresses into the environment too, where the next pipeline of this process would read them as the user's."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def _make_sqlite(path: Path) -> None:
    """Make MLflow's tables in a file that appears whole: its migrations do not survive being killed half-way."""
    if path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    for old in path.parent.glob(f"{unfinished.name}*"):
        old.unlink()
    try:
        # MLflow would try for minutes to open a file that cannot be made.
        with closing(sqlite3.connect(unfinished)) as connection:
            connection.execute("pragma user_version = 0")
        MlflowClient(sqlite_uri(unfinished)).search_experiments(max_results=1)
        unfinished.replace(path)
    except BaseException:
        for left in path.parent.glob(f"{unfinished.name}*"):
            left.unlink()
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Alembic announces its migrations, and MLflow its retries, through logging configurations of their own."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


def answers(uri: str, what: str = "tracking server", key: str = "tracking.uri or MLFLOW_TRACKING_URI") -> None:
    """A server that is down, or that refuses who asks, is told at once, not after MLflow's minutes of retries."""
    if uri.startswith("postgresql"):
        connected(uri).close()
    if not uri.startswith("http"):
        return
    try:
        with opened(uri, "health", {}, float(os.environ.get("MLOPS_TRACKING_TIMEOUT_S", "10"))):
            return
    except urllib.error.HTTPError as error:
        if refusal(error):
            raise PipelineError(f"{hidden(uri)}: the {what} refuses ({why_not(error)})") from error
    except ValueError as error:
        raise PipelineError(f"{hidden(uri)}: the {what} cannot be asked: {one_line(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ServiceAway(
            f"{hidden(uri)}: the {what} does not answer ({type(error).__name__}): start `mlflow server`, or mend {key}"
        ) from error
