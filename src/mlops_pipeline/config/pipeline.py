"""The settings tree: everything a run depends on, read from one YAML file, frozen and checked.

The file says *what* is done. The environment says only *where* services are (``MLFLOW_TRACKING_URI``,
``MLFLOW_REGISTRY_URI``), so that nothing that changes a result hides outside the file.
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast, get_args

from pydantic import AfterValidator, BeforeValidator, Field, NaiveDatetime, PrivateAttr, model_validator

from mlops_pipeline import plugins
from mlops_pipeline.config.addresses import filled, holds_password, is_or_holds_postgresql
from mlops_pipeline.config.dataset import Column, Dataset, Length, Share
from mlops_pipeline.config.moments import Span, shown_moment, span_of
from mlops_pipeline.config.tree import Frozen, Name, read_yaml, refuse_another_kind, shown, tree_of
from mlops_pipeline.contract.spec import AS_TEXT
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import time_and_size
from mlops_pipeline.plugins import NamedParts


def _mapping(value: Any) -> Any:
    """Nothing below a name is as good as an empty mapping."""
    return {name: {} if below is None else below for name, below in value.items()} if isinstance(value, dict) else value


Named = Annotated[dict[Name, dict[str, Any]], BeforeValidator(_mapping)]
"""Parts by name, each with settings of its own."""


class Ingest(Frozen):
    """Reading the source."""

    max_broken_share: Share = Field(0.01, description="share of rows that may be set aside as unreadable; above it the run stops")
    chunk_mb: int = Field(8, ge=1, le=512, description="megabytes of the source read at a time")


class Validate(Frozen):
    """Checks on the table before anything is trained on it."""

    range_slack: float = Field(0.25, ge=0, description="inferred bounds are widened by this share of the range")
    null_share_slack: Share = Field(0.05, description="inferred limits of null shares are above what was seen by this share of the rows")
    max_categories: int = Field(1000, ge=2, description="an inferred schema lists a column's categories if it has no more than these")
    max_duplicate_share: Share = Field(0.01, description="share of rows that may repeat another")
    min_class_share: Share = Field(0.01, description="least share of the rows that each class has")
    max_single_feature_auc: float = Field(
        0.95, gt=0.5, le=1, description="a feature that alone tells the target with a larger AUC is suspected of knowing the outcome"
    )
    trusted: tuple[str, ...] = Field((), description="features that are no leak, however well each alone predicts the target")
    on_failure: Literal["warn", "stop"] = Field(
        "warn", description="what a failed check does; nothing to learn, a repeated entity_key and checks named below always stop"
    )
    checks: Named = Field(default_factory=dict, description="checks beside ours, by name, each with its own settings below it")


def _span(text: str) -> str:
    return str(span_of(text))


SpanText = Annotated[str, AfterValidator(_span)]
"""A span of time as it is written: 31d, 4w, 1mo, 12h."""


def _of_the_calendar(text: str) -> str:
    try:
        span_of(text).before(datetime(2000, 1, 1))  # in no zone
    except ValueError:
        raise ValueError(f"{text} is longer than the calendar reaches back: write 1000y for always") from None
    return text


PastSpan = Annotated[SpanText, AfterValidator(_of_the_calendar)]
"""A span that lies before any moment of ours, so that it can be counted back from now."""


class Split(Frozen):
    """What is held out: the rows from a moment on, the last rows of a window that moves, or a share drawn at random within each class."""

    kind: Literal["time", "stratified"] = Field(
        "stratified", description="time: later rows are held out, by dataset.time_column; stratified: some drawn at random, of each class"
    )
    train_from: NaiveDatetime | None = Field(None, description="rows before this moment are not trained on")
    test_from: NaiveDatetime | None = Field(None, description="rows from this moment on are held out")
    test_until: NaiveDatetime | None = Field(None, description="rows from this moment on are neither trained on nor held out")
    test_last: PastSpan | None = Field(
        None, description="instead of test_from: the span before the newest row, or before --as-of, such as 31d, 4w, 1mo, 12h"
    )
    train_last: PastSpan | None = Field(None, description="instead of train_from: train on the span before what is held out")
    test_share: float = Field(0.25, gt=0, lt=1, description="kind stratified: share of the rows that is held out")
    together: tuple[str, ...] = Field(
        (),
        description="columns that name what rows belong to, such as patients: none of these has rows on both sides, nor in two folds, "
        "and intervals draw these, not rows; equal rows of two of them may be parted",
    )

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.kind == "stratified":
            given = [key for key in ("train_from", "test_from", "test_until", "test_last", "train_last") if getattr(self, key) is not None]
            if given:
                raise ValueError(f"'{given[0]}' belongs to kind 'time'")
            return self
        if self.together:
            raise ValueError("'together' belongs to kind 'stratified': by time, later rows of the same things are asked about: take it out")
        if self.test_last is not None and (self.test_from or self.test_until):
            raise ValueError("'test_last' moves with the rows: leave out 'test_from' and 'test_until'")
        if self.train_last is not None and self.train_from is not None:
            raise ValueError("give either 'train_from' or 'train_last'")
        if self.test_from is None and self.test_last is None:
            raise ValueError("kind 'time' needs 'test_from', or 'test_last' for a window that moves with the rows")
        moments = [m for m in (self.train_from, self.test_from, self.test_until) if m is not None]
        if any(later <= earlier for earlier, later in pairwise(moments)):
            raise ValueError("'train_from' < 'test_from' < 'test_until' must hold")
        return self

    @property
    def test_span(self) -> Span | None:
        """How long the window is that moves with the rows; None if it stands still."""
        return span_of(self.test_last) if self.test_last else None

    @property
    def train_span(self) -> Span | None:
        """How much before it is trained on; None for everything from ``train_from`` on."""
        return span_of(self.train_last) if self.train_last else None


def _refuse_a_password(address: str | None, key: str) -> None:
    """Settings stand in Git, those of a stage also in ``dvc.lock`` and in what tells of a run."""
    if address is not None and holds_password(address):
        raise ValueError(f"{key} holds a password: put it into an environment variable and write ${{ITS_NAME}} in its place")


class Features(Frozen):
    """Which columns the model sees."""

    include: tuple[str, ...] | None = Field(None, description="default: every column that may be a feature")
    exclude: tuple[str, ...] = Field((), description="columns that are no features")
    time_column: bool = Field(False, description="the time column's hour, weekday and so on are features too")
    keep: Length | None = Field(
        None, description="how long before its newest row the features' state may be asked of, such as 60d; default: of all rows in it"
    )
    state: str | None = Field(
        None,
        description="postgresql://… where the features' state is kept, ${NAME} in it taken from the environment; default: data/state",
    )

    @model_validator(mode="after")
    def _known_state(self) -> Self:
        if self.state is not None and not is_or_holds_postgresql(self.state):
            raise ValueError("features.state must be an address such as postgresql://…: leave it out to keep the state under data/state")
        _refuse_a_password(self.state, "features.state")
        return self


_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")


def _numbers(value: Any) -> Any:
    """What is a number to everybody but YAML 1.1, for which 1e-3 is a text."""
    if not isinstance(value, dict):
        return value
    return {name: float(item) if isinstance(item, str) and _FLOAT.fullmatch(item) else item for name, item in value.items()}


class Member(Frozen):
    """One model of a blend, named as under ``train``."""

    estimator: str = Field(description="its name, as under train")
    encoder: str | None = Field(None, description="how columns become numbers; default: the estimator's own")
    encoder_params: dict[str, Any] = Field(default_factory=dict, description="the encoder's own settings")
    params: Annotated[dict[str, Any], BeforeValidator(_numbers)] = Field(default_factory=dict, description="the estimator's parameters")


class Members(Frozen):
    """The models that a blend is the mean of."""

    members: tuple[Member, ...] = Field((), description="each as under train; default: a linear model, a forest and LightGBM")


class Train(Frozen):
    """The estimator by name, and its parameters as the library spells them."""

    estimator: Name = Field("lightgbm", description="what is fitted; auto: the best of several; `mlops parts` lists them")
    encoder: Name | None = Field(None, description="how columns become numbers; default: the estimator's own")
    encoder_params: dict[str, Any] = Field(default_factory=dict, description="the encoder's own settings")
    params: Annotated[dict[str, bool | int | float | str | list[dict[str, Any]] | None], BeforeValidator(_numbers)] = Field(
        default_factory=dict, description="the estimator's own parameters, as its library spells them"
    )
    format: Name | None = Field(None, description="how the fitted model is saved; default: the estimator's own, mostly skops")
    format_params: dict[str, Any] = Field(default_factory=dict, description="the format's own settings")
    threads: int | None = Field(None, ge=1, description="default: every core of the machine")
    time_budget_s: float = Field(60, gt=0, description="estimator auto: longest time to look for one, in seconds")


class Tuning(Frozen):
    """Search for parameters on the training rows alone."""

    trials: int = Field(0, ge=0, description="0: no search")
    time_budget_s: float | None = Field(None, gt=0, description="no trial begins after so many seconds; default: no limit")
    folds: int = Field(3, ge=2, le=20, description="parts of the training rows on which each trial is scored in turn")
    metric: Name | None = Field(None, description="default: roc_auc, log_loss for several classes, rmse for regression")
    storage: str | None = Field(
        None, description="an Optuna storage address, ${NAME} in it taken from the environment; default: a file under models/"
    )

    @model_validator(mode="after")
    def _without_password(self) -> Self:
        _refuse_a_password(self.storage, "tuning.storage")
        return self


USUAL_METRICS = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}
"""What versions of a task are compared by where the settings do not say."""


class Evaluate(Frozen):
    """How the held-out rows are scored."""

    metric: Name = Field(USUAL_METRICS["binary"], description="what versions are compared by; default: by the task")
    metrics: tuple[Name, ...] = Field((), description="metrics beside ours, by name")
    metric_params: Named = Field(default_factory=dict, description="metrics' own settings, each below the metric's name")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the intervals that stand beside figures")
    resamples: int = Field(500, ge=50, description="of the held-out rows, from which intervals are made")
    slices: tuple[str, ...] = Field((), description="columns by whose values the metric is looked at, too")
    min_slice_rows: int = Field(200, ge=1, description="a slice of fewer held-out rows is not looked at")
    importance_rows: int = Field(2000, ge=10, description="held-out rows at most by which a feature's importance is measured")
    random_split_check: bool = Field(False, description="also fit on a random split, to show how much it would flatter the model")


Then = Literal["champion", "challenger", "approval"]
"""What becomes of a version that the gate lets pass."""


class Gate(Frozen):
    """Rules a version must pass to become champion; null switches a rule off."""

    then: Then = Field(
        "champion",
        description="what a version that passes becomes: champion, challenger (an alias), or it waits for a person (approval)",
    )
    beat_baseline_by: float | None = Field(
        0.0, description="least gain over the dummy baseline, which by f1 of two classes says the positive one, at the stated confidence"
    )
    champion_margin: float | None = Field(
        0.01,
        ge=0,
        description="how much worse than the champion is still accepted; of an error, such as rmse, a share of the champion's own",
    )
    worst_slice: float | None = Field(None, description="least value of the metric in the worst slice")
    max_calibration_error: Share | None = Field(None, description="largest mean gap between probabilities and what came of them")
    max_latency_ms: float | None = Field(None, gt=0, description="median time to predict one row")
    max_size_mb: float | None = Field(None, gt=0, description="largest size of the model's files, in megabytes")
    skew: bool | None = Field(
        True,
        description="features that a recipe makes, computed from rows of the source as a server does, are the table's to the bit",
    )
    rules: Named = Field(default_factory=dict, description="rules beside ours, by name, each with its own settings below it")


class Onnx(Frozen):
    """The twin that serves without scikit-learn."""

    enabled: bool = Field(True, description="make a twin, and serve it where it agrees")
    tolerance: float = Field(1e-4, gt=0, description="largest difference accepted on any held-out row")
    twins: Named = Field(default_factory=dict, description="twins in other formats, by name, each with its own settings below it")
    quantise: Literal["int8"] | None = Field(None, description="a second twin of a network or an encoder of text, with weights in 8 bits")
    int8_decisions: float = Field(
        0.97, gt=0, le=1, description="least share of held-out rows, by its lower bound, decided as the model does"
    )
    int8_loss: float = Field(0.005, ge=0, description="largest loss by roc_auc, or of rmse in standard deviations of the target")


class Tracking(Frozen):
    """Where runs are recorded; ``MLFLOW_TRACKING_URI`` in the environment wins over ``uri``."""

    uri: str | None = Field(None, description="${NAME} in it is taken from the environment; default: SQLite in mlflow/mlflow.db")
    experiment: Name | None = Field(None, description="default: the pipeline's name")
    artifacts: str | None = Field(None, description="artifact root; default: mlflow/artifacts, or the server's own")

    @model_validator(mode="after")
    def _without_password(self) -> Self:
        _refuse_a_password(self.uri, "tracking.uri")
        return self


class Card(Frozen):
    """The owner's own words on the model card; they travel with every version."""

    owner: str = Field("", description="who answers for the model, and how to reach them")
    intended_use: str = Field("", description="what its predictions are for, and what they are not for")
    limits: str = Field("", description="where it is not to be trusted")


class Registry(Frozen):
    """Where versions are registered; ``MLFLOW_REGISTRY_URI`` in the environment wins over ``uri``."""

    uri: str | None = Field(None, description="${NAME} in it is taken from the environment; default: the tracking address")
    model: Name | None = Field(None, description="registered name; default: the pipeline's name")
    card: Card = Card()
    refit_on_all: bool = Field(
        False,
        description="register a version that passes the gate fitted again, with the same parameters, on its held-out rows too; "
        "its figures stay those of the fit that was judged",
    )

    @model_validator(mode="after")
    def _without_password(self) -> Self:
        _refuse_a_password(self.uri, "registry.uri")
        return self


class Paths(Frozen):
    """Where the pipeline keeps its files; a second pipeline in one project takes another root."""

    root: str = Field(".", description="the folder in the project below which data/ and models/ lie")

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if Path(self.root).is_absolute() or ".." in Path(self.root).parts:
            raise ValueError(f"root '{self.root}' must be a folder inside the project")
        return self


Part = TypeVar("Part", bound=plugins.Part)


class Settings(Frozen):
    """One pipeline."""

    name: Name = Field(description="of the pipeline: its files, experiment and registered model are called so")
    seed: int = Field(42, ge=0, lt=2**32, description="of all that is drawn at random: the same seed gives the same model")
    dataset: Dataset
    ingest: Ingest = Ingest()
    validate_: Validate = Field(Validate(), alias="validate")
    split: Split = Split()
    features: Features = Features()
    train: Train = Train()
    tuning: Tuning = Tuning()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()
    onnx: Onnx = Onnx()
    tracking: Tracking = Tracking()
    registry: Registry = Registry()
    paths: Paths = Paths()
    plugins: tuple[str, ...] = Field((), description="files (src/mine.py, relative to the project) and modules that declare parts")
    _source: NamedParts | None = PrivateAttr(None)
    _left_out: tuple[str, ...] = PrivateAttr(())
    _read_as: tuple[int, int] | None = PrivateAttr(None)
    _as_of: datetime | None = PrivateAttr(None)
    _then_is_told: bool = PrivateAttr(False)
    _reason: str = PrivateAttr("")

    @property
    def left_out(self) -> tuple[str, ...]:
        """The sections that the file does not have, of which every default is taken."""
        return self._left_out

    @property
    def read_as(self) -> tuple[int, int] | None:
        """By what an edit of the file is noticed since it was read (:func:`mlops_pipeline.files.time_and_size`); None without a file."""
        return self._read_as

    def written_in(self, content: dict[str, Any], read_as: tuple[int, int] | None = None) -> Self:
        """The same settings, which keep what of them stands in the file, and how that was when it was read."""
        settings = self.model_copy()
        settings._left_out = tuple(name for name in SECTIONS if name not in content)
        settings._read_as = read_as
        return settings

    def read_from(self, source: NamedParts) -> Self:
        """The same settings, which keep where their parts come from."""
        settings = self.model_copy()
        settings._source = source
        return settings

    @property
    def as_of(self) -> datetime | None:
        """The moment (UTC) from which on no row is seen; None: all rows are. It is no key of the file: a run is told it."""
        return self._as_of

    def seen_until(self, moment: datetime | None) -> Self:
        """The same settings for a run that sees no row at or after a moment. Raises :class:`PipelineError` without a time column."""
        if moment is not None and self.dataset.time_column is None:
            origin = self._source.origin if self._source is not None else self.name
            what = "dataset.time_column is not set, so no row can be told to be later: name the column there"
            raise PipelineError(f"{origin}: --as-of {shown_moment(moment)}: {what}")
        settings = self.model_copy()
        settings._as_of = moment
        return settings

    @property
    def then_is_told(self) -> bool:
        """Whether this run was told what one that passes becomes, so that ``gate.then`` is not the file's."""
        return self._then_is_told

    def with_then(self, then: Then) -> Self:
        """The same settings for a run that is told what one that passes becomes."""
        settings = self.model_copy(update={"gate": self.gate.model_copy(update={"then": then})})
        settings._then_is_told = True
        return settings

    @property
    def reason(self) -> str:
        """Why this run is made, in words; empty if it was not told."""
        return self._reason

    def with_reason(self, reason: str) -> Self:
        """The same settings for a run that is told why it is made."""
        settings = self.model_copy()
        settings._reason = one_line(reason, 500)
        return settings

    def use_parts(self) -> None:
        """Let this process work with the parts that these settings name, whatever others were loaded since."""
        if self._source is not None:
            plugins.use(self._source)
        plugins.use_metrics(self.evaluate.metric_params)

    @model_validator(mode="before")
    @classmethod
    def _metric_of_the_task(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        dataset, evaluate = content.get("dataset"), content.get("evaluate", {})
        task = dataset.get("task") if isinstance(dataset, dict) else None
        if not isinstance(evaluate, dict) or "metric" in evaluate or not isinstance(task, str) or task not in USUAL_METRICS:
            return content
        return {**content, "evaluate": {**evaluate, "metric": USUAL_METRICS[task]}}

    @model_validator(mode="after")
    def _features_exist(self) -> Self:
        data = self.dataset
        barred = {data.target: "the target", **dict.fromkeys(data.known_after_outcome, "known only after the outcome")}
        for key, names in (("features.include", self.features.include or ()), ("features.exclude", self.features.exclude)):
            for name in names:
                if name not in data.columns:
                    raise ValueError(f"{key} names '{name}', which is not among dataset.columns")
        for key, names in (("validate.trusted", self.validate_.trusted), ("split.together", self.split.together)):
            for name in names:
                if name not in data.columns:
                    raise ValueError(f"{key} names '{name}', which is not among dataset.columns")
        if data.target in self.split.together:
            raise ValueError(f"split.together names '{data.target}', which is the target: name what several rows belong to")
        for name in self.features.include or ():
            if name in barred:
                raise ValueError(f"features.include names '{name}', which is {barred[name]}: take it out")
        if not feature_columns(self):
            raise ValueError("no column is left as a feature: check features.exclude and dataset.columns")
        return self

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        data = self.dataset
        if self.split.kind == "time" and data.time_column is None:
            raise ValueError("split.kind is 'time', but dataset.time_column is not set: name it or use 'stratified'")
        if data.history and self.split.kind != "time":
            raise ValueError("dataset.history needs split.kind 'time': with another split it would carry held-out labels into training")
        late = {data.target, *data.known_after_outcome}
        told = next((name for name, made in data.aggregates.items() if made.of in late), None)
        if told is not None and self.split.kind != "time":
            raise ValueError(
                f"dataset.aggregates.{told} is of '{data.aggregates[told].of}', known only after the outcome, and needs split.kind 'time': "
                "with another split it would carry held-out labels into training"
            )
        for name in self.evaluate.slices:
            if name not in data.columns:
                raise ValueError(f"evaluate.slices names '{name}', which is not among dataset.columns")
        return self


PLACES = {"features": ("state",), "tuning": ("storage",)}
"""Settings that say where something is kept: whoever changes them makes nothing else."""

SECTIONS = tuple(field.alias or name for name, field in Settings.model_fields.items() if name not in ("name", "dataset", "plugins"))
"""What a file may leave out: every default is then taken."""

PIPELINE_KEYS = frozenset({"dataset", "train"})
"""Keys by which a file is known to hold a pipeline's settings."""

_SERVER_KEYS = frozenset({"pipeline", "models", "record"})


def feature_columns(settings: Settings) -> dict[str, Column]:
    """The model's input columns in order: numbers first, then those that travel as text."""
    data = settings.dataset
    barred = {data.target, *data.entity_key, *data.known_after_outcome, *settings.features.exclude}
    if not settings.features.time_column:
        barred.add(str(data.time_column))
    if settings.features.include is None:
        names = [n for n in data.columns if n not in barred]
    else:
        names = [n for n in settings.features.include if n not in settings.features.exclude]
    return {
        **{n: data.columns[n] for n in names if data.columns[n].kind not in AS_TEXT},
        **{n: data.columns[n] for n in names if data.columns[n].kind in AS_TEXT},
    }


def without_features(settings: Settings, names: Collection[str]) -> Settings:
    """The settings, but for some features that a stage has left out."""
    if not names:
        return settings
    features = settings.features.model_copy(update={"exclude": (*settings.features.exclude, *names)})
    return settings.model_copy(update={"features": features})


def tuning_metric(settings: Settings) -> str:
    """What a search for parameters improves."""
    usual = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
    return settings.tuning.metric or usual[settings.dataset.task]


def load_settings(path: Path, *, with_parts: bool = True) -> Settings:
    """Read a pipeline's YAML file into the frozen tree; from then on this process works with the parts that it names.

    Without parts their files are not read and no name of one is checked, for who only asks where things are. Raises
    :class:`PipelineError` in one line that names the file, the key, the value and the remedy.
    """
    read_as = time_and_size(path)
    content = read_yaml(path, "start from `mlops init`")
    if content.keys() & _SERVER_KEYS and not content.keys() & PIPELINE_KEYS:
        pipeline = content.get("pipeline")
        other = f"name its pipeline's, {path.parent / pipeline}," if isinstance(pipeline, str) else "name the pipeline's file"
        raise PipelineError(f"{path}: holds a server's settings, not a pipeline's: {other} with --config")
    refuse_another_kind(content, path, "a pipeline's")
    for key, value in _bare_dates(content, ""):
        raise PipelineError(f"{path}: {key} = {value}: put the date in quotes, DVC cannot record a bare one")
    settings = tree_of(Settings, content, str(path)).written_in(content, read_as)
    settings = settings.read_from(plugins.NamedParts(project_of(path), settings.plugins, str(path)))
    settings.use_parts()
    return with_known_parts(settings, str(path)) if with_parts else settings


def settings_of(content: dict[str, Any], origin: str) -> Settings:
    """Build the tree from a mapping; ``origin`` is named in errors."""
    return with_known_parts(tree_of(Settings, content, origin), origin)


def project_of(path: Path) -> Path:
    """The nearest folder above a file that holds ``.dvc``; else the file's own."""
    folder = path.resolve().parent
    return next((each for each in (folder, *folder.parents) if (each / ".dvc").is_dir()), folder)


def with_known_parts(settings: Settings, origin: str) -> Settings:
    """The settings, once every part that they name is known and fits the task, with every default of the parts' own settings.

    Raises :class:`PipelineError` in one line.
    """
    task, train = settings.dataset.task, settings.train
    estimator = plugins.part(plugins.Estimator, train.estimator, f"{origin}: train.estimator")
    if task not in estimator.tasks:
        others = ", ".join(f"'{name}'" for name, part in plugins.parts(plugins.Estimator).items() if task in part.tasks)
        raise PipelineError(f"{origin}: train.estimator = '{train.estimator}': cannot do {task}: use one of {others}")
    if estimator.race and train.params:
        first = next(iter(train.params))
        raise PipelineError(
            f"{origin}: train.params.{first}: '{train.estimator}' finds parameters itself: take it out, or name an estimator"
        )
    encoder = plugins.part(plugins.Encoder, train.encoder or estimator.encoder, f"{origin}: train.encoder")
    form = plugins.part(plugins.ModelFormat, train.format or estimator.format, f"{origin}: train.format")
    if form.twin:
        raise PipelineError(
            f"{origin}: train.format = '{form.name}': is a twin, made beside the model's own format: name it under onnx.twins"
        )
    for name in settings.onnx.twins:
        if not plugins.part(plugins.ModelFormat, name, f"{origin}: onnx.twins").twin:
            raise PipelineError(f"{origin}: onnx.twins.{name}: is a model's own format, not a twin: name it under train.format")
    fitting = [name for name, part in plugins.parts(plugins.Metric).items() if task in part.tasks]
    named = [("evaluate.metric", settings.evaluate.metric), ("tuning.metric", tuning_metric(settings))]
    for key, metric in (*named, *((f"evaluate.metrics.{place}", name) for place, name in enumerate(settings.evaluate.metrics))):
        if task not in plugins.part(plugins.Metric, metric, f"{origin}: {key}").tasks:
            raise PipelineError(f"{origin}: {key} = '{metric}': does not fit a {task} task: use one of {', '.join(fitting)}")
    # Parameters of a library's own stay as they are: the estimator knows them when it is made.
    params = train.params if estimator.settings is None else _completed(estimator, train.params, origin, "train", "params")
    if estimator.settings is Members:
        params = _members_completed(params, origin)
    encoder_params = _completed(encoder, train.encoder_params, origin, "train", "encoder_params")
    metric_params = _of_metrics(settings, origin)
    plugins.use_metrics(metric_params)
    format_params = _completed(form, train.format_params, origin, "train", "format_params")
    twins = {name: _of_named(plugins.ModelFormat, name, given, origin, "onnx", "twins") for name, given in settings.onnx.twins.items()}
    checks = {
        name: _of_named(plugins.Check, name, given, origin, "validate", "checks") for name, given in settings.validate_.checks.items()
    }
    rules = {name: _of_named(plugins.GateRule, name, given, origin, "gate", "rules") for name, given in settings.gate.rules.items()}
    return settings.model_copy(
        update={
            "train": train.model_copy(update={"params": params, "encoder_params": encoder_params, "format_params": format_params}),
            "evaluate": settings.evaluate.model_copy(update={"metric_params": metric_params}),
            "onnx": settings.onnx.model_copy(update={"twins": twins}),
            "validate_": settings.validate_.model_copy(update={"checks": checks}),
            "gate": settings.gate.model_copy(update={"rules": rules}),
        }
    )


def _of_metrics(settings: Settings, origin: str) -> dict[str, dict[str, Any]]:
    """The settings of every metric that is used and has some, by name."""
    given, used = settings.evaluate.metric_params, {*metrics_of(settings), tuning_metric(settings)}
    for name in given:
        plugins.part(plugins.Metric, name, f"{origin}: evaluate.metric_params")
        if name not in used:
            raise PipelineError(
                f"{origin}: evaluate.metric_params.{name}: is not computed: name it under evaluate.metrics, or take this out"
            )
    parts = {name: plugins.part(plugins.Metric, name) for name in sorted(used)}
    return {
        name: _completed(part, given.get(name, {}), origin, "evaluate", "metric_params", name)
        for name, part in parts.items()
        if part.settings is not None or name in given
    }


def _of_named(kind: type[Part], name: str, given: dict[str, Any], origin: str, *at: str) -> dict[str, Any]:
    part = plugins.part(kind, name, f"{origin}: {'.'.join(at)}")
    if plugins.is_ours(part):
        raise PipelineError(f"{origin}: {'.'.join((*at, name))}: is ours and always asked: set its limit under {at[0]}, and take this out")
    return _completed(part, given, origin, *at, name)


def _completed(part: plugins.Part, given: dict[str, Any], origin: str, *at: str) -> dict[str, Any]:
    """A part's own settings with its defaults, as plain values."""
    made: dict[str, Any] = tree_of(part.settings or Frozen, given, origin, at).model_dump(mode="json")
    return made


def _members_completed(params: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """A blend's parameters, each member with its encoder's own settings."""
    return {"members": [_member_completed(one, origin, place) for place, one in enumerate(params["members"])]}


def _member_completed(member: dict[str, Any], origin: str, place: int) -> dict[str, Any]:
    """A blend's member with its encoder's own settings."""
    at = ("train", "params", "members", str(place))
    estimator = plugins.part(plugins.Estimator, member["estimator"], f"{origin}: {'.'.join(at)}.estimator")
    encoder = plugins.part(plugins.Encoder, member["encoder"] or estimator.encoder, f"{origin}: {'.'.join(at)}.encoder")
    return {**member, "encoder_params": _completed(encoder, member["encoder_params"], origin, *at, "encoder_params")}


def part_settings(part: plugins.Part, given: dict[str, Any], *at: str) -> Frozen:
    """A part's own settings as the model that it declares."""
    made: Frozen = tree_of(part.settings or Frozen, given, plugins.owner(part).name, (*at, part.name))
    return made


def metrics_of(settings: Settings) -> tuple[str, ...]:
    """The metrics that a version is evaluated by: ours that fit the task, and those that the settings name."""
    ours = (name for name, part in plugins.parts(plugins.Metric).items() if plugins.is_ours(part) and settings.dataset.task in part.tasks)
    return tuple(dict.fromkeys((*ours, settings.evaluate.metric, *settings.evaluate.metrics)))


def checks_of(settings: Settings) -> tuple[plugins.Check, ...]:
    """The checks that a table has to stand: ours, and those that the settings name."""
    return _ours_and(plugins.Check, settings.validate_.checks)


def gate_rules_of(gate: Gate) -> tuple[plugins.GateRule, ...]:
    """The rules that a version has to pass: ours that are not switched off, and those that the settings name."""
    return tuple(rule for rule in _ours_and(plugins.GateRule, gate.rules) if not rule.limit or getattr(gate, rule.limit) is not None)


def _ours_and(kind: type[Part], names: Iterable[str]) -> tuple[Part, ...]:
    known = plugins.parts(kind)
    return (*(part for part in known.values() if plugins.is_ours(part)), *(plugins.part(kind, name) for name in names))


def own_format(settings: Settings) -> plugins.ModelFormat:
    """The format that a model is saved in: the one named, or else its estimator's."""
    train = settings.train
    return plugins.part(plugins.ModelFormat, train.format or plugins.part(plugins.Estimator, train.estimator).format, "train.format")


def _models(settings: Settings) -> list[tuple[plugins.Estimator, plugins.Encoder, dict[str, Any]]]:
    """The estimator with its encoder and the encoder's own settings; then those of the models that it is the mean of, if it is."""
    train = settings.train
    named = [(train.estimator, train.encoder, train.encoder_params)]
    members = train.params.get("members")
    if plugins.part(plugins.Estimator, train.estimator).settings is Members and isinstance(members, list | tuple):
        named += [(one["estimator"], one.get("encoder"), one.get("encoder_params", {})) for one in members]
    estimators = [(plugins.part(plugins.Estimator, name), encoder, params) for name, encoder, params in named]
    return [(made, plugins.part(plugins.Encoder, encoder or made.encoder), params) for made, encoder, params in estimators]


def files_read(settings: Settings) -> list[Path]:
    """The files that a fit reads besides rows. Raises :class:`PipelineError` if one is not there."""
    found: list[Path] = []
    for _, encoder, params in _models(settings):
        if encoder.reads:
            found += plugins.run_at(encoder, encoder.reads, part_settings(encoder, params, "train"))
    return list(dict.fromkeys(found))


def twins_of(settings: Settings) -> tuple[plugins.ModelFormat, ...]:
    """The formats in which a model's twins are made: ONNX where it is on, and those that the settings name."""
    names = (*(("onnx",) if settings.onnx.enabled else ()), *settings.onnx.twins)  # one in 8 bits is made of the first
    return tuple(plugins.part(plugins.ModelFormat, name, "onnx.twins") for name in names)


def parts_used(settings: Settings) -> dict[str, tuple[plugins.Part, ...]]:
    """The parts that the settings use, by what for: ``model``, ``twins``, ``search``, ``metrics``, ``checks`` and ``gate``."""
    models = {(type(part), part.name): part for estimator, encoder, _ in _models(settings) for part in (estimator, encoder)}
    return {
        "model": (*models.values(), own_format(settings)),
        "twins": twins_of(settings),
        "search": (plugins.part(plugins.Metric, tuning_metric(settings)),) if settings.tuning.trials else (),
        "metrics": tuple(plugins.part(plugins.Metric, name) for name in metrics_of(settings)),
        "checks": checks_of(settings),
        "gate": gate_rules_of(settings.gate),
    }


def parts_listed(settings: Settings | None) -> list[dict[str, Any]]:
    """Every part that there is: kind, name, owner, a line on it, its settings' keys, and whether it is used (None: nobody says)."""
    used: set[int] = set()
    if settings is not None:
        used = {id(part) for parts in parts_used(settings).values() for part in parts}
    return [
        {
            "kind": kind.KIND,
            "name": name,
            "owner": plugins.owner(part).name,
            # Stores are named in the server's settings, not in a pipeline's.
            "used": None if settings is None or kind in (plugins.Store, plugins.Channel) else id(part) in used,
            "summary": part.summary,
            "settings": [] if part.settings is None else list(part.settings.model_fields),
        }
        for kind in plugins.KINDS
        for name, part in plugins.parts(kind).items()
    ]


def json_schema(path: Path | None = None) -> str:
    """The JSON schema that editors check the YAML file with, with the parts that the file at ``path``, if there is one, names."""
    if path is not None and path.is_file():
        named = read_yaml(path, "start from `mlops init`").get("plugins", ())
        plugins.use(plugins.NamedParts(project_of(path), tuple(map(str, named)) if isinstance(named, list) else (), str(path)))
    schema = Settings.model_json_schema(by_alias=True)
    for moment in ("train_from", "test_from", "test_until"):
        # A date alone is a moment too, and what YAML makes of either is for YAML to say.
        schema["$defs"]["Split"]["properties"][moment]["anyOf"][0].pop("format")
    for described in schema["properties"].values():
        if "$ref" in described:  # what a section has for defaults stands in it
            described.pop("default", None)
    sections: dict[str, Any] = schema["$defs"]
    train = sections["Train"]["properties"]
    estimators, metrics = plugins.parts(plugins.Estimator), list(plugins.parts(plugins.Metric))
    train["estimator"]["enum"] = list(estimators)
    train["encoder"]["anyOf"][0]["enum"] = list(plugins.parts(plugins.Encoder))
    sections["Evaluate"]["properties"]["metric"]["enum"] = metrics
    sections["Evaluate"]["properties"]["metrics"]["items"]["enum"] = metrics
    sections["Tuning"]["properties"]["metric"]["anyOf"][0]["enum"] = metrics
    with_own = {name: part_schema(part, sections) for name, part in estimators.items() if part.settings is not None}
    if with_own:
        sections["Train"]["allOf"] = [
            {"if": {"properties": {"estimator": {"const": name}}}, "then": {"properties": {"params": own}}}
            for name, own in with_own.items()
        ]
    encoders = {name: part_schema(part, sections) for name, part in plugins.parts(plugins.Encoder).items() if part.settings is not None}
    if encoders:
        sections["Train"].setdefault("allOf", []).extend(
            {"if": {"properties": {"encoder": {"const": name}}, "required": ["encoder"]}, "then": {"properties": {"encoder_params": own}}}
            for name, own in encoders.items()
        )
    formats = plugins.parts(plugins.ModelFormat)
    owns = {name: part for name, part in formats.items() if not part.twin}
    train["format"]["anyOf"][0]["enum"] = list(owns)
    of_formats = {name: part_schema(part, sections) for name, part in owns.items() if part.settings is not None}
    if of_formats:
        sections["Train"].setdefault("allOf", []).extend(
            {"if": {"properties": {"format": {"const": name}}, "required": ["format"]}, "then": {"properties": {"format_params": own}}}
            for name, own in of_formats.items()
        )
    below: tuple[tuple[str, str, Iterable[plugins.Part]], ...] = (
        ("Validate", "checks", plugins.parts(plugins.Check).values()),
        ("Gate", "rules", plugins.parts(plugins.GateRule).values()),
        ("Onnx", "twins", (part for part in formats.values() if part.twin)),
        ("Evaluate", "metric_params", (part for part in plugins.parts(plugins.Metric).values() if part.settings is not None)),
    )
    for section, key, candidates in below:
        theirs = {part.name: {"anyOf": [part_schema(part, sections), {"type": "null"}]} for part in plugins.not_ours(candidates)}
        described = sections[section]["properties"][key]
        sections[section]["properties"][key] = {
            **{word: described[word] for word in ("title", "description") if word in described},
            "type": "object",
            "properties": theirs,
            "additionalProperties": False,
        }
    return json.dumps(schema, indent=2)


def part_schema(part: plugins.Part, sections: dict[str, Any]) -> dict[str, Any]:
    """The schema of a part's own settings; what it refers to is put among the sections."""
    place = f"{part.KIND} {part.name}".replace(" ", "_")
    schema: dict[str, Any] = (part.settings or Frozen).model_json_schema(ref_template=f"#/$defs/{place}.{{model}}")
    sections |= {f"{place}.{name}": inner for name, inner in schema.pop("$defs", {}).items()}
    return {**schema, "description": part.summary} if part.summary else schema


def with_then(settings: Settings, then: str | None) -> Settings:
    """The settings, where a version that passes the gate becomes something else this time. Raises :class:`PipelineError`."""
    words = get_args(Then)
    if then is not None and then not in words:
        raise PipelineError(f"--then {then}: is not known: use {', '.join(words[:-1])} or {words[-1]}")
    return settings if then is None else settings.with_then(cast("Then", then))


def tracking_uri(settings: Settings, default: str) -> str:
    """The tracking address: environment, then file, then the given default."""
    return os.environ.get("MLFLOW_TRACKING_URI") or filled(settings.tracking.uri or "", "tracking.uri") or default


def registry_uri(settings: Settings, default: str) -> str:
    """The registry address: environment, then file, then the tracking address."""
    stated = os.environ.get("MLFLOW_REGISTRY_URI") or filled(settings.registry.uri or "", "registry.uri")
    return stated or tracking_uri(settings, default)


def shown_settings(settings: Settings) -> dict[str, Any]:
    """The whole tree as plain values, without the passwords that addresses may hold."""
    return dict(shown(settings.model_dump(mode="json", by_alias=True)))


def _bare_dates(value: Any, key: str) -> Iterator[tuple[str, date]]:
    if isinstance(value, date):
        yield key, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from _bare_dates(item, f"{key}.{name}" if key else str(name))
