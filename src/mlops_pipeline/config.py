"""The settings tree: everything a run depends on, read from one YAML file, frozen and checked.

The file says *what* is done. The environment says only *where* services are (``MLFLOW_TRACKING_URI``,
``MLFLOW_REGISTRY_URI``), so that nothing that changes a result hides outside the file.
"""

import difflib
import json
import os
import re
from collections.abc import Hashable, Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, NaiveDatetime, ValidationError, model_validator

from mlops_pipeline.errors import PipelineError, one_line

Task = Literal["binary", "multiclass", "regression"]
Kind = Literal["number", "integer", "boolean", "category", "datetime", "text"]
Share = Annotated[float, Field(ge=0, le=1)]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

CLASSIFICATION_METRICS = ("roc_auc", "average_precision", "log_loss", "brier", "accuracy", "f1")
REGRESSION_METRICS = ("rmse", "mae", "r2")
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "rmse", "mae"})


class Frozen(BaseModel):
    """Base of every settings class: unknown keys are refused and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


Tree = TypeVar("Tree", bound=Frozen)


class Source(Frozen):
    """Where rows come from: a CSV or Parquet file, or such a file inside an installed Python package."""

    path: str | None = Field(None, description="CSV (also .zip, .gz) or Parquet file, relative to the project")
    package: str | None = Field(None, description="installed package that ships the file; it is never imported")
    member: str | None = Field(None, description="the file's path inside the package")
    null_values: tuple[str, ...] = ("", "NA", "NaN", "null", "None")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.package is None):
            raise ValueError("give either 'path', or 'package' with 'member'")
        if (self.package is None) != (self.member is None):
            raise ValueError("'package' and 'member' go together")
        return self


class Lookup(Source):
    """A small table joined to every row by equal keys; its keys must be unique."""

    keys: tuple[str, ...] = Field(min_length=1)


class Column(Frozen):
    """One column: its kind, and what a row may hold there."""

    kind: Kind
    min: float | None = None
    max: float | None = None
    nullable: bool = True
    private: bool = Field(False, description="never recorded by the server")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.kind in ("category", "text", "datetime", "boolean") and (self.min is not None or self.max is not None):
            raise ValueError(f"'min' and 'max' do not fit kind '{self.kind}'")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"'min' {self.min} is above 'max' {self.max}")
        return self


class History(Frozen):
    """A column with the target's mean over the given number of *earlier* days, of rows with the same key.

    The row's own day never counts, so that nothing known only after the outcome gets in. With fewer than
    ``prior_rows`` rows behind it the mean is drawn towards the mean over all rows of those days.
    """

    by: tuple[str, ...] = ()
    days: int = Field(ge=1, le=366)
    prior_rows: int = Field(20, ge=0)


class Dataset(Frozen):
    """The table: described once, for every stage, the server and the monitors."""

    source: Source
    lookups: tuple[Lookup, ...] = ()
    target: str
    task: Task
    positive: str | int | None = Field(None, description="binary: the class counted as positive (default: the last)")
    time_column: str | None = None
    entity_key: tuple[str, ...] = Field((), description="columns that join labels that come late")
    columns: dict[str, Column] = Field(min_length=1)
    derive: dict[str, str] = Field(default_factory=dict, description="new columns as SQL expressions over a row")
    counts: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="new columns: how many rows of the table share these columns"
    )
    history: dict[str, History] = Field(default_factory=dict)
    known_after_outcome: tuple[str, ...] = Field((), description="never features: known only after the outcome")

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        known = set(self.columns)
        if self.target not in known:
            raise ValueError(f"target '{self.target}' is not among 'columns': describe it there")
        if self.time_column is not None and (self.time_column not in known or self.columns[self.time_column].kind != "datetime"):
            raise ValueError(f"time_column '{self.time_column}' must be among 'columns' with kind 'datetime'")
        named = [("entity_key", self.entity_key), ("known_after_outcome", self.known_after_outcome)]
        named += [("lookups", lookup.keys) for lookup in self.lookups]
        named += [(f"counts.{name}", keys) for name, keys in self.counts.items()]
        named += [(f"history.{name}", history.by) for name, history in self.history.items()]
        for key, names in named:
            for name in names:
                if name not in known:
                    raise ValueError(f"{key} names '{name}', which is not among 'columns'")
        for made in ("derive", "counts", "history"):
            for name in getattr(self, made):
                if name not in known:
                    raise ValueError(f"{made} makes '{name}', which is not among 'columns': give it a kind there")
        if self.history and self.time_column is None:
            raise ValueError("history needs a time_column")
        self._nothing_from_after_the_outcome()
        if self.history and self.task == "multiclass":
            raise ValueError("history needs a binary or a regression target")
        if self.columns[self.target].kind in ("datetime", "text"):
            raise ValueError(f"target '{self.target}' cannot be of kind '{self.columns[self.target].kind}'")
        if self.task == "regression" and self.columns[self.target].kind not in ("number", "integer"):
            raise ValueError(f"a regression target must be a number, '{self.target}' is not")
        return self

    def _nothing_from_after_the_outcome(self) -> None:
        late = {self.target, *self.known_after_outcome}
        made = {name: (sql, set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", sql))) for name, sql in self.derive.items()}
        made |= {name: (", ".join(keys), set(keys)) for name, keys in self.counts.items()}
        made |= {name: (", ".join(history.by), set(history.by)) for name, history in self.history.items()}
        for name, (shown, used) in made.items():
            if name not in late and used & late:
                raise ValueError(
                    f"'{name}' is made from '{min(used & late)}' ({shown}), which is known only after the outcome: "
                    f"take it out, or list '{name}' under known_after_outcome"
                )


class Ingest(Frozen):
    """Reading the source."""

    max_broken_share: Share = 0.01
    chunk_mb: int = Field(8, ge=1, le=512, description="megabytes of the source read at a time")


class Validate(Frozen):
    """Checks on the table before anything is trained on it."""

    range_slack: float = Field(0.25, ge=0, description="inferred bounds are widened by this share of the range")
    null_share_slack: Share = 0.05
    max_categories: int = Field(1000, ge=2)
    max_duplicate_share: Share = 0.01
    min_class_share: Share = 0.01
    max_single_feature_auc: float = Field(0.95, gt=0.5, le=1)


class Split(Frozen):
    """What is held out: the rows from a moment on, or a share drawn at random within each class."""

    kind: Literal["time", "stratified"]
    train_from: NaiveDatetime | None = None
    test_from: NaiveDatetime | None = None
    test_until: NaiveDatetime | None = None
    test_share: float = Field(0.25, gt=0, lt=1)

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.kind == "stratified":
            if self.train_from or self.test_from or self.test_until:
                raise ValueError("'train_from', 'test_from' and 'test_until' belong to kind 'time'")
            return self
        if self.test_from is None:
            raise ValueError("kind 'time' needs 'test_from'")
        moments = [m for m in (self.train_from, self.test_from, self.test_until) if m is not None]
        if any(later <= earlier for earlier, later in pairwise(moments)):
            raise ValueError("'train_from' < 'test_from' < 'test_until' must hold")
        return self


class Features(Frozen):
    """Which columns the model sees."""

    include: tuple[str, ...] | None = Field(None, description="default: every column that may be a feature")
    exclude: tuple[str, ...] = ()


class Train(Frozen):
    """The estimator by name, and its parameters as the library spells them."""

    estimator: Literal["random_forest", "logistic_regression", "hist_gradient_boosting", "lightgbm", "dummy"]
    params: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    threads: int | None = Field(None, ge=1, description="default: every core of the machine")


class Tuning(Frozen):
    """Search for parameters on the training rows alone."""

    trials: int = Field(0, ge=0, description="0: no search")
    time_budget_s: float | None = Field(None, gt=0)
    folds: int = Field(3, ge=2, le=20)
    metric: str | None = Field(None, description="default: roc_auc, log_loss for several classes, rmse for regression")
    storage: str | None = Field(None, description="an Optuna storage address; default: a file under models/")


class Evaluate(Frozen):
    """How the held-out rows are scored."""

    metric: str = "roc_auc"
    confidence: float = Field(0.95, gt=0.5, lt=1)
    resamples: int = Field(500, ge=50)
    slices: tuple[str, ...] = ()
    min_slice_rows: int = Field(200, ge=1)
    importance_rows: int = Field(2000, ge=10)
    random_split_check: bool = Field(False, description="also fit on a random split, to show how much it would flatter the model")


class Gate(Frozen):
    """Rules a version must pass to become champion; null switches a rule off."""

    beat_baseline_by: float | None = Field(0.0, description="least gain over the dummy baseline, at the stated confidence")
    champion_margin: float | None = Field(0.01, ge=0, description="how much worse than the champion is still accepted")
    worst_slice: float | None = Field(None, description="least value of the metric in the worst slice")
    max_calibration_error: Share | None = None
    max_latency_ms: float | None = Field(None, gt=0, description="median time to predict one row")
    max_size_mb: float | None = Field(None, gt=0)


class Onnx(Frozen):
    """The twin that serves without scikit-learn."""

    enabled: bool = True
    tolerance: float = Field(1e-4, gt=0, description="largest difference accepted on any held-out row")


class Tracking(Frozen):
    """Where runs are recorded; ``MLFLOW_TRACKING_URI`` in the environment wins over ``uri``."""

    uri: str | None = Field(None, description="default: SQLite in mlflow/mlflow.db")
    experiment: Name | None = Field(None, description="default: the pipeline's name")
    artifacts: str | None = Field(None, description="artifact root; default: mlflow/artifacts, or the server's own")


class Registry(Frozen):
    """Where versions are registered; ``MLFLOW_REGISTRY_URI`` in the environment wins over ``uri``."""

    uri: str | None = Field(None, description="default: the tracking address")
    model: Name | None = Field(None, description="registered name; default: the pipeline's name")


class Paths(Frozen):
    """Where the pipeline keeps its files; a second pipeline in one project takes another root."""

    root: str = "."

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if Path(self.root).is_absolute() or ".." in Path(self.root).parts:
            raise ValueError(f"root '{self.root}' must be a folder inside the project")
        return self


class Settings(Frozen):
    """One pipeline."""

    name: Name
    seed: int = Field(ge=0, lt=2**32)
    dataset: Dataset
    ingest: Ingest
    validate_: Validate = Field(alias="validate")
    split: Split
    features: Features
    train: Train
    tuning: Tuning
    evaluate: Evaluate
    gate: Gate
    onnx: Onnx
    tracking: Tracking
    registry: Registry
    paths: Paths

    @model_validator(mode="after")
    def _features_exist(self) -> Self:
        data = self.dataset
        barred = {data.target: "the target", **dict.fromkeys(data.known_after_outcome, "known only after the outcome")}
        for key, names in (("features.include", self.features.include or ()), ("features.exclude", self.features.exclude)):
            for name in names:
                if name not in data.columns:
                    raise ValueError(f"{key} names '{name}', which is not among dataset.columns")
        for name in self.features.include or ():
            if name in barred:
                raise ValueError(f"features.include names '{name}', which is {barred[name]}: take it out")
            kind = data.columns[name].kind
            if kind in ("datetime", "text"):
                raise ValueError(f"features.include names '{name}' of kind '{kind}': derive a number from it")
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
        for name in self.evaluate.slices:
            if name not in data.columns:
                raise ValueError(f"evaluate.slices names '{name}', which is not among dataset.columns")
        allowed = REGRESSION_METRICS if data.task == "regression" else CLASSIFICATION_METRICS
        for key, metric in (("evaluate", self.evaluate.metric), ("tuning", tuning_metric(self))):
            if metric not in allowed:
                raise ValueError(f"{key}.metric '{metric}' does not fit a {data.task} task: use one of {', '.join(allowed)}")
        if self.train.estimator == "logistic_regression" and data.task == "regression":
            raise ValueError("train.estimator 'logistic_regression' cannot do regression: use 'lightgbm' or 'random_forest'")
        return self


PIPELINE_KEYS = frozenset({"dataset", "train"})
"""Keys by which a file is known to hold a pipeline's settings."""

_SERVER_KEYS = frozenset({"pipeline", "models", "record"})

_SECTIONS = ("ingest", "validate", "features", "tuning", "evaluate", "gate", "onnx", "tracking", "registry", "paths")


def feature_columns(settings: Settings) -> dict[str, Column]:
    """The model's input columns in order: numbers first, then categories."""
    data = settings.dataset
    barred = {data.target, data.time_column, *data.entity_key, *data.known_after_outcome, *settings.features.exclude}
    if settings.features.include is None:
        names = [n for n, c in data.columns.items() if n not in barred and c.kind not in ("datetime", "text")]
    else:
        names = [n for n in settings.features.include if n not in settings.features.exclude]
    return {
        **{n: data.columns[n] for n in names if data.columns[n].kind != "category"},
        **{n: data.columns[n] for n in names if data.columns[n].kind == "category"},
    }


def tuning_metric(settings: Settings) -> str:
    """What a search for parameters improves."""
    usual = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
    return settings.tuning.metric or usual[settings.dataset.task]


def load_settings(path: Path) -> Settings:
    """Read a pipeline's YAML file into the frozen tree.

    Raises :class:`PipelineError` in one line that names the file, the key, the value and the remedy.
    """
    content = read_yaml(path, "start from `mlops init`")
    if content.keys() & _SERVER_KEYS and not content.keys() & PIPELINE_KEYS:
        pipeline = content.get("pipeline")
        other = f"name its pipeline's, {path.parent / pipeline}," if isinstance(pipeline, str) else "name the pipeline's file"
        raise PipelineError(f"{path}: holds a server's settings, not a pipeline's: {other} with --config")
    for key, value in _bare_dates(content, ""):
        raise PipelineError(f"{path}: {key} = {value}: put the date in quotes, DVC cannot record a bare one")
    return settings_of(content, str(path))


def read_yaml(path: Path, remedy: str) -> dict[str, Any]:
    """The mapping that a YAML file holds; raises :class:`PipelineError` in one line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror}): name an existing file with --config") from error
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not valid YAML: {one_line(error)}") from error
    return mapping_of(text, str(path), remedy)


def mapping_of(text: str, origin: str, remedy: str) -> dict[str, Any]:
    """The mapping that YAML text holds; raises :class:`PipelineError` in one line that names ``origin``."""
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  # a safe loader, with one check more
    except yaml.YAMLError as error:
        raise PipelineError(f"{origin}: is not valid YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise PipelineError(f"{origin}: holds no mapping: {remedy}")
    return content


def settings_of(content: dict[str, Any], origin: str) -> Settings:
    """Build the tree from a mapping; ``origin`` is named in errors."""
    return tree_of(Settings, content, origin)


def tree_of(tree: type[Tree], content: dict[str, Any], origin: str) -> Tree:
    """Build any settings tree from a mapping; raises :class:`PipelineError` in one line."""
    try:
        return tree.model_validate(content)
    except ValidationError as error:
        raise PipelineError(_one_line(error, origin, tree)) from error


def json_schema() -> str:
    """The JSON schema that editors check the YAML file with."""
    return json.dumps(Settings.model_json_schema(by_alias=True), indent=2)


def tracking_uri(settings: Settings, default: str) -> str:
    """The tracking address: environment, then file, then the given default."""
    return os.environ.get("MLFLOW_TRACKING_URI") or settings.tracking.uri or default


def registry_uri(settings: Settings, default: str) -> str:
    """The registry address: environment, then file, then the tracking address."""
    return os.environ.get("MLFLOW_REGISTRY_URI") or settings.registry.uri or tracking_uri(settings, default)


def hidden(address: str) -> str:
    """An address without its user and password."""
    head, at, tail = address.rpartition("@")
    return f"{head.split('://')[0]}://…@{tail}" if at and "://" in head else address


def shown_settings(settings: Settings) -> dict[str, Any]:
    """The whole tree as plain values, without the passwords that addresses may hold."""
    content = settings.model_dump(mode="json", by_alias=True)
    for section, key in (("tracking", "uri"), ("tracking", "artifacts"), ("registry", "uri"), ("tuning", "storage")):
        if content[section][key]:
            content[section][key] = hidden(content[section][key])
    return content


class _UniqueKeyLoader(yaml.CSafeLoader):
    """Refuses a key given twice, which YAML would silently settle for the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _bare_dates(value: Any, key: str) -> Iterator[tuple[str, date]]:
    if isinstance(value, date):
        yield key, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from _bare_dates(item, f"{key}.{name}" if key else str(name))


def _one_line(error: ValidationError, origin: str, tree: type[Frozen]) -> str:
    # A misspelt key is also a missing one: the misspelling is what the user wants to hear of.
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
    value = first["input"]
    tellable = isinstance(value, str | int | float | bool | None) and first["type"] != "missing" and first["loc"][:1] != ("api_keys",)
    shown = f" = {(hidden(value) if isinstance(value, str) else value)!r}" if tellable else ""
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(first["loc"][-1]), _known_keys(tree, first["loc"][:-1]), n=1)
        what = f"unknown key: {f'did you mean {close[0]!r}?' if close else 'remove it'}"
    elif first["type"] == "missing":
        what = "is missing: add it"
    else:
        what = _remedy(first["type"], first.get("ctx", {})) or first["msg"].removeprefix("Value error, ")
    if first["type"] in ("missing", "model_type") and len(first["loc"]) == 1 and str(first["loc"][0]) in _SECTIONS:
        what += " (an empty mapping {} takes every default)"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{origin}: {key}{shown}: {what}{more}"


def _remedy(kind: str, given: dict[str, Any]) -> str | None:
    """What to write instead, for the commonest of pydantic's error types."""
    told = {
        "less_than": "give a number below {lt}",
        "less_than_equal": "give a number of at most {le}",
        "greater_than": "give a number above {gt}",
        "greater_than_equal": "give a number of at least {ge}",
        "finite_number": "give a finite number",
        "int_parsing": "give a whole number",
        "int_type": "give a whole number",
        "int_from_float": "give a whole number",
        "float_parsing": "give a number",
        "float_type": "give a number",
        "bool_parsing": "give true or false",
        "bool_type": "give true or false",
        "string_type": "give text, a number in quotes",
        "literal_error": "give one of {expected}",
        "list_type": "give a list: [A, B]",
        "tuple_type": "give a list: [A, B]",
        "dict_type": "give a mapping: KEY: VALUE, indented below it",
        "model_type": "give a mapping: KEY: VALUE, indented below it",
        "too_short": "name at least {min_length}",
    }
    if kind == "string_pattern_mismatch" and given["pattern"] == NAME_PATTERN:
        return "use letters, digits, '.', '_' and '-', a letter or digit first"
    return told[kind].format_map(given) if kind in told else None


def _known_keys(tree: type[Frozen], location: tuple[int | str, ...]) -> list[str]:
    model: Any = tree
    for part in location:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None) if _is_model(model) else None
        model = field.annotation if field else model
        arguments = getattr(model, "__args__", ())
        model = next((a for a in arguments if _is_model(a)), model)
    return [f.alias or n for n, f in model.model_fields.items()] if _is_model(model) else []


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
