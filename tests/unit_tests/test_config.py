"""What a settings file may say, and how a mistake in it is told: one line with file, key, value and remedy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from mlops_pipeline.config.experiment import load_experiment
from mlops_pipeline.config.monitoring import load_monitoring
from mlops_pipeline.config.pipeline import Settings, feature_columns, json_schema, load_settings, settings_of, tracking_uri, tuning_metric
from mlops_pipeline.config.release import load_releases
from mlops_pipeline.config.serving import load_serving
from mlops_pipeline.config.tree import in_yaml, mapping_of
from mlops_pipeline.errors import PipelineError
from tests.conftest import REPOSITORY, SMALL_SETTINGS
from tests.unit_tests.workshop import assert_one_line, content_with, layout_in, settings_with


def columns_with(**changes: dict[str, Any]) -> dict[str, Any]:
    return {"columns": {**SMALL_SETTINGS["dataset"]["columns"], **changes}}


MISTAKES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown key, near a known one": ({"train": {"estimater": "lightgbm"}}, ("train.estimater: unknown key", "did you mean 'estimator'?")),
    "unknown key in a column": (
        {"dataset": columns_with(size={"kind": "number", "nulable": True})},
        ("dataset.columns.size.nulable: unknown key", "did you mean 'nullable'?"),
    ),
    "unknown key like nothing": ({"gate": {"zzz": 1}}, ("gate.zzz: unknown key", "remove it")),
    "unknown section": ({"vallidate": 3}, ("vallidate: unknown key", "did you mean 'validate'?")),
    "wrong type": ({"seed": "seven"}, ("seed = 'seven'", "give a whole number")),
    "a number for a list": ({"evaluate": {"slices": 3}}, ("evaluate.slices = 3", "give a list: [A, B]")),
    "share above one": ({"ingest": {"max_broken_share": 1.5}}, ("ingest.max_broken_share = 1.5", "give a number of at most 1")),
    "infinity": ({"onnx": {"tolerance": float("inf")}}, ("onnx.tolerance = inf", "give a finite number")),
    "a name with a slash": ({"name": "../up"}, ("name = '../up'", "use letters, digits, '.', '_' and '-'")),
    "unknown estimator": (
        {"train": {"estimator": "catboost"}},
        ("train.estimator = 'catboost'", "use one of random_forest, ", "lightgbm", "plugins:"),
    ),
    "unknown task": ({"dataset": {"task": "ranking"}}, ("dataset.task = 'ranking'", "'binary'")),
    "share of one": ({"split": {"test_share": 1}}, ("split.test_share = 1", "give a number below 1")),
    "number too small": ({"tuning": {"folds": 1}}, ("tuning.folds = 1", "give a number of at least 2")),
    "nothing above zero": ({"gate": {"max_size_mb": 0}}, ("gate.max_size_mb = 0", "give a number above 0")),
    "a word for a number": ({"evaluate": {"confidence": "high"}}, ("evaluate.confidence = 'high'", "give a number")),
    "a fraction of a seed": ({"seed": 1.5}, ("seed = 1.5", "give a whole number")),
    "a word for yes or no": ({"onnx": {"enabled": "maybe"}}, ("onnx.enabled = 'maybe'", "give true or false")),
    "a number for a text": ({"dataset": {"target": 3}}, ("dataset.target = 3", "in quotes")),
    "a word that YAML takes for a truth": ({"dataset": {"target": False}}, ("dataset.target = False", "in quotes: YAML takes yes, no")),
    "a list of columns": ({"dataset": {"columns": ["size", "late"]}}, ("dataset.columns", "give a mapping: KEY: VALUE")),
    "an empty section": ({"dataset": None}, ("dataset = None", "give a mapping: KEY: VALUE")),
    "an empty section that may be left so": ({"gate": None}, ("gate = None", "give a mapping", "{} takes every default")),
    "no source": ({"dataset": {"source": {}}}, ("dataset.source", "give one of 'path', 'package'")),
    "two sources": (
        {"dataset": {"source": {"path": "a.csv", "package": "p", "member": "m"}}},
        ("dataset.source", "give one of 'path', 'package'"),
    ),
    "package without member": ({"dataset": {"source": {"package": "p"}}}, ("dataset.source", "'member'")),
    "lookup without keys": ({"dataset": {"lookups": [{"path": "a.csv", "keys": []}]}}, ("dataset.lookups.0.keys", "name at least 1")),
    "lookup key not described": (
        {"dataset": {"lookups": [{"path": "a.csv", "keys": ["nowhere"]}]}},
        ("lookups names 'nowhere'", "not among 'columns'"),
    ),
    "bounds of a category": ({"dataset": columns_with(kind={"kind": "category", "min": 1})}, ("dataset.columns.kind", "do not fit")),
    "min above max": ({"dataset": columns_with(size={"kind": "number", "min": 2, "max": 1})}, ("dataset.columns.size", "above 'max'")),
    "target not described": ({"dataset": {"target": "lates"}}, ("target 'lates'", "describe it")),
    "time column of the wrong kind": ({"dataset": {"time_column": "kind"}}, ("time_column 'kind'", "'datetime'")),
    "entity key not described": ({"dataset": {"entity_key": ["id"]}}, ("entity_key names 'id'",)),
    "known after outcome not described": ({"dataset": {"known_after_outcome": ["gone"]}}, ("known_after_outcome names 'gone'",)),
    "derived column not described": ({"dataset": {"derive": {"double": "size * 2"}}}, ("derive makes 'double'", "kind")),
    "history without time": ({"dataset": {"time_column": None, "history": {"size": {"days": 3}}}}, ("history needs a time_column",)),
    "history by a column not described": (
        {"dataset": {"history": {"size": {"days": 3, "by": ["nowhere"]}}}},
        ("history", "'nowhere'", "not among 'columns'"),
    ),
    "counts of a column not described": ({"dataset": {"counts": {"size": ["nowhere"]}}}, ("counts", "'nowhere'", "not among 'columns'")),
    "history of several classes": (
        {"dataset": {"task": "multiclass", "history": {"size": {"days": 3}}}},
        ("history needs a binary or a regression target",),
    ),
    "target that is a time": ({"dataset": {"target": "day"}}, ("target 'day'", "'datetime'")),
    "regression of words": ({"dataset": {"target": "kind", "task": "regression"}}, ("a regression target must be a number",)),
    "time split without a moment": ({"split": {"test_from": None}}, ("split", "needs 'test_from'")),
    "time split backwards": ({"split": {"test_until": "2024-03-01"}}, ("split", "'test_from' < 'test_until'")),
    "random split with a moment": ({"split": {"kind": "stratified"}}, ("split", "'test_from' belongs to kind 'time'")),
    "a random split of a window": ({"split": {"kind": "stratified", "test_from": None, "test_last": "31d"}}, ("split", "'test_last'")),
    "what rows belong to in a split by time": ({"split": {"together": ["kind"]}}, ("split", "belongs to kind 'stratified'", "take it out")),
    "what rows belong to in a window that moves": (
        {"split": {"test_from": None, "test_last": "31d", "together": ["kind"]}},
        ("split", "belongs to kind 'stratified'", "take it out"),
    ),
    "rows that belong to no column": (
        {"split": {"kind": "stratified", "test_from": None, "together": ["who"]}},
        ("split.together names 'who'", "not among dataset.columns"),
    ),
    "rows that belong to the target": (
        {"split": {"kind": "stratified", "test_from": None, "together": ["late"]}},
        ("split.together names 'late', which is the target",),
    ),
    "a window that moves and stands still": ({"split": {"test_last": "31d"}}, ("split", "leave out 'test_from'")),
    "a span that is none": ({"split": {"test_from": None, "test_last": "1m"}}, ("split.test_last = '1m'", "31d, 4w, 1mo (months)")),
    "two beginnings": ({"split": {"train_from": "2024-01-01", "train_last": "1y"}}, ("split", "either 'train_from' or 'train_last'")),
    "time split without a time column": ({"dataset": {"time_column": None}}, ("dataset.time_column is not set", "'stratified'")),
    "feature that does not exist": ({"features": {"include": ["sise"]}}, ("features.include names 'sise'",)),
    "excluded feature that does not exist": ({"features": {"exclude": ["sise"]}}, ("features.exclude names 'sise'",)),
    "target as a feature": ({"features": {"include": ["late"]}}, ("features.include names 'late'", "the target", "take it out")),
    "feature known only after the outcome": (
        {"dataset": {"known_after_outcome": ["weight"]}, "features": {"include": ["weight"]}},
        ("features.include names 'weight'", "known only after the outcome", "take it out"),
    ),
    "no feature left": ({"features": {"exclude": ["size", "weight", "kind"]}}, ("no column is left", "features.exclude")),
    "slice that does not exist": ({"evaluate": {"slices": ["sort"]}}, ("evaluate.slices names 'sort'",)),
    "metric of another task": ({"evaluate": {"metric": "rmse"}}, ("evaluate.metric = 'rmse'", "binary", "roc_auc")),
    "tuning metric of another task": ({"tuning": {"metric": "mae"}}, ("tuning.metric = 'mae'", "binary", "roc_auc")),
    "root outside the project": ({"paths": {"root": "../elsewhere"}}, ("paths", "inside the project")),
    "a list of derived columns": ({"dataset": {"derive": [{"double": "size * 2"}]}}, ("dataset.derive", "give a mapping: KEY: VALUE")),
    "a number of aggregates": ({"dataset": {"aggregates": 3}}, ("dataset.aggregates = 3", "give a mapping: KEY: VALUE")),
    "a list of tasks": ({"dataset": {"task": ["binary"]}, "evaluate": None}, ("dataset.task", "'binary'")),
    "a date as a key": ({"validate": {"checks": {date(2024, 3, 10): {}}}}, ("validate.checks: the key 2024-03-10: put it in quotes",)),
    "a truth as a key": ({"gate": {"rules": {True: {}}}}, ("gate.rules: the key True: put it in quotes: YAML takes yes, no",)),
    "absolute root": ({"paths": {"root": "/data"}}, ("paths", "inside the project")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_file_key_value_and_remedy(mistake: str, tmp_path: Path) -> None:
    changes, words = MISTAKES[mistake]
    config = tmp_path / "pipeline.yaml"
    config.write_text(yaml.safe_dump(content_with(**changes)))
    with pytest.raises(PipelineError) as caught:
        load_settings(config)
    assert_one_line(caught.value, str(config), *words)


def test_logistic_regression_of_numbers_is_refused_with_what_to_use_instead() -> None:
    with pytest.raises(PipelineError) as caught:
        settings_with(
            dataset={"target": "size", "task": "regression"}, evaluate={"metric": "rmse"}, train={"estimator": "logistic_regression"}
        )
    assert_one_line(caught.value, "'logistic_regression'", "cannot do regression", "'lightgbm'")


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(PipelineError) as caught:
        settings_of({"dataset": {"source": {"path": "table.csv"}, "columns": {"a": {"kind": "number"}}}}, "pipeline.yaml")
    assert_one_line(caught.value, "pipeline.yaml: name, dataset.target, dataset.task: are missing: add them")


def test_one_key_that_is_missing_is_named() -> None:
    content = content_with()
    del content["dataset"]
    with pytest.raises(PipelineError) as caught:
        settings_of(content, "pipeline.yaml")
    assert_one_line(caught.value, "pipeline.yaml: dataset: is missing: add it")


@pytest.mark.parametrize(
    ("task", "target", "metric"), [("binary", "late", "roc_auc"), ("multiclass", "kind", "accuracy"), ("regression", "size", "rmse")]
)
def test_a_name_and_a_dataset_are_enough(task: str, target: str, metric: str) -> None:
    settings = settings_of({"name": "small", "dataset": {**SMALL_SETTINGS["dataset"], "target": target, "task": task}}, "pipeline.yaml")
    assert (settings.evaluate.metric, settings.split.kind, settings.seed) == (metric, "stratified", 42)


def test_the_first_mistake_is_told_and_the_others_are_named() -> None:
    with pytest.raises(PipelineError) as caught:
        settings_with(seed=-1, train={"threads": 0}, onnx={"tolerance": 0})
    assert_one_line(caught.value, "seed = -1", "(see to train.threads, onnx.tolerance too)")


def repeated(levels: int, each: str = "- *{0}\n" * 10, first: str = "- ha\n") -> str:
    """Lists of ten of the list before, as many levels deep."""
    lines = [f"l0: &l0\n{first}"]
    return "".join([*lines, *(f"l{k}: &l{k}\n" + each.format(f"l{k - 1}") for k in range(1, levels))])


LAUGHS = {
    "lists": repeated(30),
    "mappings": repeated(30, "  a: *{0}\n  b: *{0}\n  c: *{0}\n  d: *{0}\n", "  a: ha\n"),
    "merged mappings": repeated(30, "  <<: [*{0}, *{0}, *{0}, *{0}]\n", "  a: ha\n"),
    "very many levels": repeated(3000, "- *{0}\n- *{0}\n"),
}


@pytest.mark.parametrize("text", LAUGHS.values(), ids=LAUGHS)
@pytest.mark.parametrize("load", [load_settings, load_serving, load_monitoring, load_releases, load_experiment])
def test_aliases_that_would_be_read_as_millions_of_values_are_told_in_one_line(
    load: Callable[[Path], object], text: str, tmp_path: Path
) -> None:
    """Each file has few lines, and whoever goes through what it says comes to no end."""
    config = tmp_path / "settings.yaml"
    config.write_text(text)
    with pytest.raises(PipelineError) as caught:
        load(config)
    assert_one_line(caught.value, str(config), "is not valid YAML: line ", "(*NAME)", "more than 100,000 values")


def test_a_value_may_be_repeated_by_its_name_as_often_as_anybody_needs(tmp_path: Path) -> None:
    listed = [f"c{k}" for k in range(200)]
    text = f"listed: &all [{', '.join(listed)}]\nagain: [{', '.join(['*all'] * 400)}]\n"
    assert mapping_of(text, "a.yaml", "")["again"] == [listed] * 400
    written_out = "values:\n" + "- 1\n" * 150_000
    assert len(mapping_of(written_out, "a.yaml", "")["values"]) == 150_000


TEXTS = {
    "bare date": ("name: x\nsplit: {kind: time, test_from: 2024-03-10}\n", ("split.test_from = 2024-03-10", "in quotes")),
    "bare date in a list": ("a: [1, 2024-03-10]\n", ("a.1 = 2024-03-10", "in quotes")),
    "key given twice": ("seed: 1\nname: x\nseed: 2\n", ("key 'seed' is given twice", "line 3")),
    "nested key given twice": ("gate: {worst_slice: 1, worst_slice: 2}\n", ("key 'worst_slice' is given twice", "line 1")),
    "a tab": ("name: x\ngate:\n\tskew: true\n", ("is not valid YAML: line 3, column 1: ", "indent it by blanks, not by a tab")),
    "what is nested too deep": (f"gate: {'[' * 200}{']' * 200}\n", ("is not valid YAML: line 1, column 1", "more than 100 deep")),
    "what is nested too deep by its names": (
        "l0: &l0 [a]\n" + "".join(f"l{k}: &l{k} {'[' * 90}*l{k - 1}{']' * 90}\n" for k in range(1, 9)),
        ("is not valid YAML: line 3, column ", "more than 100 deep"),
    ),
    "what holds itself": ("gate: &g {rules: *g}\n", ("is not valid YAML", "holds itself", "*NAME")),
    "not YAML": ("a: [1,\nb: {\n", ("is not valid YAML", "line")),
    "a list": ("- 1\n- 2\n", ("holds no mapping", "mlops init")),
    "empty": ("", ("holds no mapping", "mlops init")),
    "code": ("!!python/object/apply:os.system ['true']\n", ("is not valid YAML",)),
    "a mapping as a key": ("? {a: 1}\n: 2\n", ("is not valid YAML",)),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_file_that_is_no_settings_tree_is_told_in_one_line(case: str, tmp_path: Path) -> None:
    text, words = TEXTS[case]
    config = tmp_path / "pipeline.yaml"
    config.write_text(text)
    with pytest.raises(PipelineError) as caught:
        load_settings(config)
    assert_one_line(caught.value, str(config), *words)


def test_keys_of_another_mapping_are_merged_as_yaml_has_it(tmp_path: Path) -> None:
    config = tmp_path / "pipeline.yaml"
    columns = "{size: &figure {kind: number, min: 0}, weight: {<<: *figure, min: 1}, late: {kind: boolean}}"
    config.write_text(f"name: small\ndataset: {{source: {{path: table.csv}}, target: late, task: binary, columns: {columns}}}\n")
    described = load_settings(config).dataset.columns
    assert (described["size"].min, described["weight"].kind, described["weight"].min) == (0, "number", 1)
    config.write_text(config.read_text().replace("min: 1", "min: 1, min: 2"))
    with pytest.raises(PipelineError, match="key 'min' is given twice"):
        load_settings(config)


@pytest.mark.parametrize(
    ("written", "meant"), [("1e-3", 1e-3), ("5E4", 5e4), ("-.5e+1", -5.0), ("1.5e3", 1500.0), ("e3", "e3"), ("l1", "l1")]
)
def test_a_parameter_is_the_number_that_it_looks_like_to_every_other_reader(written: str, meant: float | str, tmp_path: Path) -> None:
    """YAML 1.1, by which PyYAML reads, takes 1e-3 for a text, and scikit-learn does not take that."""
    config = tmp_path / "pipeline.yaml"
    content = yaml.safe_dump(content_with(train={"params": {"learning_rate": "HERE"}}))
    config.write_text(content.replace("HERE", written))
    found = load_settings(config).train.params["learning_rate"]
    assert (found, type(found)) == (meant, type(meant))


def test_a_root_that_is_a_link_out_of_the_project_is_told(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/big").symlink_to(tmp_path)
    with pytest.raises(PipelineError) as caught:
        layout_in(tmp_path / "project", settings_with(paths={"root": "big"}))
    assert_one_line(caught.value, "pipeline.yaml: paths.root = 'big': leads outside the project, to ", "name a folder in it")


def test_a_file_that_is_not_text_is_told_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "pipeline.yaml"
    config.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(PipelineError) as caught:
        load_settings(config)
    assert_one_line(caught.value, str(config), "is not valid YAML", "at byte 9: save it as UTF-8")


def test_a_missing_file_is_told_with_the_option_that_names_another(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        load_settings(tmp_path / "nowhere.yaml")
    assert_one_line(caught.value, "nowhere.yaml", "--config")


def test_settings_cannot_be_changed_after_reading() -> None:
    settings = settings_with()
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 8  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.train.estimator = "dummy"  # type: ignore[misc]


def test_reading_what_was_resolved_gives_the_same_settings() -> None:
    settings = settings_with()
    again = Settings.model_validate(json.loads(settings.model_dump_json(by_alias=True)))
    assert again == settings


def unexplained(node: Any, defs: dict[str, Any], at: str = "") -> Iterator[str]:
    """The keys below a schema's node of which it says nothing, neither itself nor in the section that it refers to."""
    if isinstance(node, list):
        for each in node:
            yield from unexplained(each, defs, at)
    if not isinstance(node, dict):
        return
    for key, said in node.get("properties", {}).items() if isinstance(node.get("properties"), dict) else ():
        sections = [each["$ref"].rpartition("/")[2] for each in (said, *said.get("anyOf", ())) if "$ref" in each]
        if not {"description", "const", "not"} & said.keys() and not any("description" in defs[name] for name in sections):
            yield f"{at}.{key}"
    for key, below in node.items():
        yield from unexplained(below, defs, f"{at}.{key}")


@pytest.mark.parametrize("name", ["training", "serving", "monitoring", "experiment", "release"])
def test_the_schema_that_editors_read_explains_every_key(name: str) -> None:
    schema = json.loads((REPOSITORY / f"configs/{name}_config.schema.json").read_text())
    sections = [*schema["$defs"].items(), ("", {"properties": schema["properties"]})]
    assert [key for at, section in sections for key in unexplained(section, schema["$defs"], at)] == []


def test_the_json_schema_accepts_our_own_file_and_refuses_an_unknown_key() -> None:
    schema = json.loads(json_schema())
    content = yaml.safe_load((REPOSITORY / "configs/training_config.yaml").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    content["train"]["estimater"] = "lightgbm"
    with pytest.raises(jsonschema.ValidationError, match="estimater"):
        jsonschema.validate(content, schema)


def test_our_own_file_is_valid() -> None:
    settings = load_settings(REPOSITORY / "configs/training_config.yaml")
    assert settings.dataset.target == "late"


def test_features_are_every_allowed_column_numbers_first() -> None:
    settings = settings_with(dataset={"columns": {"kind": {"kind": "category"}, **SMALL_SETTINGS["dataset"]["columns"]}})
    assert list(feature_columns(settings)) == ["size", "weight", "kind"]


def test_what_is_known_only_after_the_outcome_is_never_a_feature() -> None:
    settings = settings_with(dataset={"known_after_outcome": ["weight"], "entity_key": ["size"]})
    assert list(feature_columns(settings)) == ["kind"]


def test_the_environment_says_where_the_tracking_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_with(tracking={"uri": "http://file"})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(settings_with(), "default") == "default"
    assert tracking_uri(settings, "default") == "http://file"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert tracking_uri(settings, "default") == "http://environment"


def test_a_search_improves_the_tasks_usual_metric_unless_told_otherwise() -> None:
    assert tuning_metric(settings_with()) == "roc_auc"
    assert tuning_metric(settings_with(tuning={"metric": "log_loss"})) == "log_loss"


def test_a_servers_file_given_for_a_pipelines_is_told_with_the_one_it_names() -> None:
    file = REPOSITORY / "configs/serving_config.yaml"
    with pytest.raises(PipelineError) as caught:
        load_settings(file)
    pipeline = REPOSITORY / "configs/training_config.yaml"
    assert_one_line(caught.value, f"{file}: holds a server's settings, not a pipeline's: name its pipeline's, {pipeline}, with --config")


def test_a_servers_file_without_a_pipeline_is_told_too(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text("models: {main: ./model}\n")
    with pytest.raises(PipelineError) as caught:
        load_settings(file)
    assert_one_line(caught.value, str(file), "name the pipeline's file with --config")


def test_a_pipelines_file_given_for_a_servers_serves_its_champion(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content_with()))
    (tmp_path / "serving.yaml").write_text("pipeline: mine.yaml\n")
    assert load_serving(tmp_path / "mine.yaml") == load_serving(tmp_path / "serving.yaml")


@pytest.mark.parametrize("keys", ["[hush]", "hush", "[{me: hush}]"])
def test_keys_that_are_no_mapping_are_told_how_to_write_without_showing_them(keys: str, tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(f"api_keys: {keys}\n")
    with pytest.raises(PipelineError) as caught:
        load_serving(file)
    assert_one_line(caught.value, f"{file}: api_keys: must be a mapping: write NAME: sha256:…")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("patient", "[patient]"),
        ("two words", "[two words]"),
        ("Patient #", '["Patient #"]'),
        ("no", '["no"]'),
        ("1", '["1"]'),
        ("a: b", '["a: b"]'),
    ],
)
def test_a_name_to_be_written_stands_in_quotes_where_yaml_would_read_another_thing(name: str, written: str) -> None:
    assert in_yaml(name) == written
    assert yaml.safe_load(written) == [name]
