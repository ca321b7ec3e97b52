"""Parts that a project adds: found, owned, validated in one line, kept apart from other projects', and read no earlier than needed."""

from __future__ import annotations

import colorsys
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import polars as pl
import pytest
import yaml

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Column
from mlops_pipeline.config.pipeline import (
    Gate,
    Settings,
    checks_of,
    gate_rules_of,
    json_schema,
    load_settings,
    metrics_of,
    part_settings,
    parts_listed,
    parts_used,
)
from mlops_pipeline.contract.evaluation import Evaluation, Interval, Slice
from mlops_pipeline.contract.task import TASKS, Task
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import ignored
from mlops_pipeline.layout import layout_of
from mlops_pipeline.modelling.estimators import build_model, check_answers, why_not_fitted
from mlops_pipeline.modelling.gate import Judged, decide
from mlops_pipeline.modelling.metrics import Predictions, point
from mlops_pipeline.pipeline import runner
from mlops_pipeline.pipeline.artifacts import run_stage
from mlops_pipeline.pipeline.definition import STAGES, stage_named
from mlops_pipeline.pipeline.render import code_of
from mlops_pipeline.pipeline.render.dvc import dvc_files
from mlops_pipeline.pipeline.stages.validate import _sound
from mlops_pipeline.tables.checks import Examined
from mlops_pipeline.tables.schema import Failure, infer_schema
from tests.conftest import REPOSITORY, Project, make_project
from tests.unit_tests.workshop import assert_one_line, content_with, quiet, table_settings

EXAMPLES = REPOSITORY / "docs/parts"

OWN = {
    "train": {"estimator": "extra_trees", "params": {"trees": 20}},
    "evaluate": {"metrics": ["cost"]},
    "validate": {"checks": {"varied": {"at_least": 2}}},
    "gate": {"rules": {"narrow": {"width": 0.5}}},
}


def example(*names: str) -> str:
    return "\n\n".join((EXAMPLES / f"{name}.py").read_text() for name in names)


@pytest.fixture(autouse=True)
def no_parts_of_a_project_stay() -> Iterator[None]:
    """Every test of other files works with ours alone."""
    yield
    plugins.use(plugins.NamedParts())
    plugins.parts(plugins.Metric)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a file of parts, one of each of the kinds that a stage uses."""
    return made(tmp_path / "project")


def made(folder: Path, text: str = "", named: tuple[str, ...] = ("mine.py",), file: str = "mine.py", **sections: Any) -> Path:
    (folder / ".dvc").mkdir(parents=True)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text or example("estimator", "encoder", "metric", "check", "gate_rule"))
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({**content_with(**sections), "plugins": list(named)}))
    return folder


def settings_in(folder: Path, **sections: Any) -> Settings:
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({**content_with(**sections), "plugins": ["mine.py"]}))
    return load_settings(folder / "pipeline.yaml")


def refusal(folder: Path) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        load_settings(folder / "pipeline.yaml")
    return caught.value


def code(folder: Path, settings: Settings) -> dict[str, list[str]]:
    layout = layout_of(settings, folder / "pipeline.yaml", folder)
    return {stage.name: code_of(stage, settings, layout) for stage in STAGES}


def test_a_part_is_used_when_it_is_named_and_then_its_file_is_code_of_the_stages_that_use_it(folder: Path) -> None:
    assert {name: files for name, files in code(folder, settings_in(folder)).items() if files} == {}
    trained = code(folder, settings_in(folder, train=OWN["train"]))
    assert {name for name, files in trained.items() if files == ["mine.py"]} == {"train", "evaluate", "register"}
    judged = code(folder, settings_in(folder, evaluate=OWN["evaluate"]))
    assert {name for name, files in judged.items() if files == ["mine.py"]} == {"evaluate", "register"}
    searched = code(folder, settings_in(folder, tuning={"metric": "cost", "trials": 1}))
    assert {name for name, files in searched.items() if files == ["mine.py"]} == {"train"}
    checked = code(folder, settings_in(folder, validate=OWN["validate"]))
    assert {name for name, files in checked.items() if files == ["mine.py"]} == {"validate"}
    ruled = code(folder, settings_in(folder, gate=OWN["gate"]))
    assert {name for name, files in ruled.items() if files == ["mine.py"]} == {"register"}


def test_files_that_a_part_imports_are_its_code_too_and_need_not_be_imported_by_name(tmp_path: Path) -> None:
    text = "import shapes.round\nfrom mlops_pipeline.plugins import metric\n\ndef late():\n    import beside\n\n\n"
    folder = made(tmp_path / "p", text + example("metric"), ("src/mine.py",), "src/mine.py", evaluate={"metrics": ["cost"]})
    for file in ("src/shapes/__init__.py", "src/shapes/round.py", "src/beside.py", "src/other.py"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("from . import square\n" if file.endswith("round.py") else "")
    (folder / "src/shapes/square.py").write_text("")
    settings = load_settings(folder / "pipeline.yaml")
    assert code(folder, settings)["evaluate"] == [
        "src/beside.py",
        "src/mine.py",
        "src/shapes/__init__.py",
        "src/shapes/round.py",
        "src/shapes/square.py",
    ]


def test_names_stand_beside_ours_with_their_own_settings_and_defaults(folder: Path) -> None:
    settings = settings_in(folder, **OWN)
    assert settings.train.params == {"trees": 20, "min_leaf": 3}
    assert metrics_of(settings)[-1] == "cost"
    assert [check.name for check in checks_of(settings)] == ["schema", "duplicates", "entity_key", "target", "leakage", "varied"]
    assert [rule.name for rule in gate_rules_of(settings.gate)] == ["held_out", "baseline", "champion", "skew", "rolled_back", "narrow"]
    again = Settings.model_validate(json.loads(settings.model_dump_json(by_alias=True)))
    assert again.model_dump() == settings.model_dump()


def test_the_members_of_a_mean_have_encoders_with_settings_of_their_own(folder: Path) -> None:
    binned = {"estimator": "logistic_regression", "encoder": "quantiles"}
    members = [{**binned, "encoder_params": {"bins": 3}}, binned, {"estimator": "random_forest"}]
    settings = settings_in(folder, train={"estimator": "blend", "params": {"members": members}})
    assert [one["encoder_params"] for one in settings.train.params["members"]] == [{"bins": 3}, {"bins": 8}, {}]
    features: dict[str, Column] = {"size": Column(kind="number")}
    model = build_model("blend", "binary", features, settings.train.params, 0, "whole")
    encoders = [member.named_steps["columns"] for member in model.named_steps["model"].members]
    assert [one.transformers[0][1].steps[1][1].n_bins for one in encoders[:2]] == [3, 8]


SETTINGS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "estimator out of range": (
        {"train": {"estimator": "extra_trees", "params": {"trees": 0}}},
        ("train.params.trees = 0: give a number of at least 1",),
    ),
    "format that there is not": ({"train": {"format": "pickle"}}, ("train.format = 'pickle': there is no such format", "skops")),
    "a twin as the model's own": ({"train": {"format": "onnx"}}, ("train.format = 'onnx': is a twin", "onnx.twins")),
    "a model's own as a twin": ({"onnx": {"twins": {"skops": {}}}}, ("onnx.twins.skops: is a model's own format", "train.format")),
    "settings that a format has not": ({"train": {"format_params": {"digits": 3}}}, ("train.format_params.digits: unknown key",)),
    "encoder out of range": (
        {"train": {"encoder": "quantiles", "encoder_params": {"bins": 1}}},
        ("train.encoder_params.bins = 1: give a number of at least 2",),
    ),
    "a member's encoder out of range": (
        {
            "train": {
                "estimator": "blend",
                "params": {"members": [{"estimator": "ridge", "encoder": "quantiles", "encoder_params": {"bins": 1}}]},
            }
        },
        ("train.params.members.0.encoder_params.bins = 1: give a number of at least 2",),
    ),
    "a member that there is not": (
        {"train": {"estimator": "blend", "params": {"members": [{"estimator": "gini"}]}}},
        ("train.params.members.0.estimator = 'gini': there is no such estimator",),
    ),
    "settings that an encoder has not": ({"train": {"encoder_params": {"bins": 4}}}, ("train.encoder_params.bins: unknown key",)),
    "metric out of range": (
        {"evaluate": {"metrics": ["cost"], "metric_params": {"cost": {"miss": 0}}}},
        ("evaluate.metric_params.cost.miss = 0: give a number above 0",),
    ),
    "settings that a metric has not": (
        {"evaluate": {"metric_params": {"roc_auc": {"miss": 2}}}},
        ("evaluate.metric_params.roc_auc.miss: unknown key",),
    ),
    "settings of a metric that is not computed": (
        {"evaluate": {"metrics": [], "metric_params": {"cost": {"miss": 2}}}},
        ("evaluate.metric_params.cost: is not computed: name it under evaluate.metrics",),
    ),
    "estimator misspelt": (
        {"train": {"estimator": "extra_trees", "params": {"treez": 5}}},
        ("train.params.treez: unknown key: did you mean 'trees'?",),
    ),
    "check of another type": (
        {"validate": {"checks": {"varied": {"at_least": "two"}}}},
        ("validate.checks.varied.at_least = 'two': give a",),
    ),
    "rule with an unknown key": ({"gate": {"rules": {"narrow": {"wide": 1}}}}, ("gate.rules.narrow.wide: unknown key",)),
    "rule that is a number": ({"gate": {"rules": {"narrow": 1}}}, ("gate.rules.narrow = 1: give a mapping",)),
    "unknown estimator": ({"train": {"estimator": "extra_trees_"}}, ("train.estimator = 'extra_trees_'", "extra_trees,", "plugins:")),
    "unknown encoder": ({"train": {"encoder": "hashed"}}, ("train.encoder = 'hashed'", "one_hot", "quantiles", "plugins:")),
    "unknown metric": ({"evaluate": {"metrics": ["gini"]}}, ("evaluate.metrics.0 = 'gini'", "roc_auc", "cost", "plugins:")),
    "unknown check": ({"validate": {"checks": {"vary": {}}}}, ("validate.checks = 'vary'", "varied", "plugins:")),
    "unknown rule": ({"gate": {"rules": {"wide": {}}}}, ("gate.rules = 'wide'", "narrow", "plugins:")),
    "ours as one's own": ({"gate": {"rules": {"baseline": {}}}}, ("gate.rules.baseline", "is ours and always asked")),
    "metric of another task": (
        {
            "dataset": {"target": "size", "task": "regression"},
            "train": {"estimator": "extra_trees", "params": {}},
            "evaluate": {"metric": "cost"},
        },
        ("evaluate.metric = 'cost': does not fit a regression task: use one of rmse, mae, r2",),
    ),
}


def test_tasks_may_be_a_list(tmp_path: Path) -> None:
    text = example("estimator").replace("search=search", 'tasks=["binary"]')
    settings = load_settings(made(tmp_path / "p", text, train={"estimator": "extra_trees", "params": {}}) / "pipeline.yaml")
    assert plugins.part(plugins.Estimator, "extra_trees") in parts_used(settings)["model"]


def test_the_members_of_a_mean_are_used_and_their_files_are_code(folder: Path) -> None:
    for one in ({"estimator": "extra_trees"}, {"estimator": "lightgbm", "encoder": "quantiles"}):
        settings = settings_in(folder, train={"estimator": "blend", "params": {"members": [one]}})
        assert {name for name, files in code(folder, settings).items() if files == ["mine.py"]} == {"train", "evaluate", "register"}
        assert {"blend", *one.values()} <= {part["name"] for part in parts_listed(settings) if part["used"]}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_mistake_in_a_parts_settings_is_one_line_like_any_other(folder: Path, case: str) -> None:
    sections, words = SETTINGS[case]
    with pytest.raises(PipelineError) as caught:
        settings_in(folder, **sections)
    assert_one_line(caught.value, str(folder / "pipeline.yaml"), *words)


METRIC = "from mlops_pipeline.plugins import metric\n\n@metric({arguments})\ndef mine(made, weights):\n    {body}\n"
FILES: dict[str, tuple[str, tuple[str, ...], str, tuple[str, ...]]] = {
    "a name of ours": (
        METRIC.format(arguments='"accuracy"', body="return 0"),
        ("mine.py",),
        "mine.py",
        ("metric 'accuracy'", "mlops-pipeline and mine.py", "rename"),
    ),
    "named twice": (example("metric"), ("mine.py", "mine.py"), "mine.py", ("plugins.1 = 'mine.py'", "named twice")),
    "no such file": ("", ("theirs.py",), "mine.py", ("plugins.0 = 'theirs.py'", "there is no such file")),
    "outside": ("", ("../mine.py",), "mine.py", ("plugins.0 = '../mine.py'", "outside the project", "move it inside")),
    "a library's name": ("", ("json.py",), "json.py", ("plugins.0 = 'json.py'", "another module is called 'json'", "rename")),
    "no module's name": ("", ("my parts.py",), "my parts.py", ("no module's name", "rename the file")),
    "neither file nor module": ("", ("mine.txt/",), "mine.py", ("plugins.0 = 'mine.txt/'", "src/mine.py or package.module")),
    "a folder": ("", ("parts",), "parts/mine.py", ("plugins.0 = 'parts'", "is a folder", "name its files, parts/mine.py")),
    "no such module": ("", ("nowhere.parts",), "mine.py", ("plugins.0 = 'nowhere.parts'", "ModuleNotFoundError")),
    "not Python": (
        "a = 1\nb = (\n",
        ("mine.py",),
        "mine.py",
        ("plugins.0 = 'mine.py'", "SyntaxError: '(' was never closed (line 2): mend it"),
    ),
    "fails": ("a = 1\nb = a / 0\n", ("mine.py",), "mine.py", ("plugins.0 = 'mine.py'", "ZeroDivisionError", "(line 2)")),
    "leaves": ("import sys\nsys.exit(0)\n", ("mine.py",), "mine.py", ("plugins.0 = 'mine.py'", "SystemExit: 0", "(line 2)", "mend it")),
    "leaves, by its dotted name": ("raise SystemExit\n", ("parts.mine",), "parts/mine.py", ("plugins.0 = 'parts.mine'", "SystemExit")),
    "a format": (
        "from mlops_pipeline.plugins import ModelFormat\nMINE = ModelFormat('mine', 'mine:load')\n",
        ("mine.py",),
        "mine.py",
        ("mine.py: format 'mine'", "nothing writes it", "save=..."),
    ),
    "a format in another's place": (
        "from mlops_pipeline.plugins import ModelFormat\nMINE = ModelFormat('mine', 'mine:load', save='mine:save', at='onnx')\n",
        ("mine.py",),
        "mine.py",
        ("mine.py: format 'mine'", "a folder of its own, formats/mine"),
    ),
    "a store": (
        "from mlops_pipeline import plugins\nMINE = [plugins.Store('mine', 'mine:Mine')]\n",
        ("mine",),
        "mine.py",
        ("mine.py: store 'mine'", "nothing reads what it keeps", "reader=..."),
    ),
    "a task that there is not": (
        METRIC.format(arguments='"mine", tasks=("ranking",)', body="return 0"),
        ("mine.py",),
        "mine.py",
        ("mine.py: metric 'mine'", "ranking", "multiclass"),
    ),
    "tasks that are a word": (
        METRIC.format(arguments='"mine", tasks="binary"', body="return 0"),
        ("mine.py",),
        "mine.py",
        ("mine.py: metric 'mine': tasks = 'binary': write a tuple: ('binary',)",),
    ),
    "a trusted type that is no tuple": (
        example("estimator").replace("search=search", 'trusted="mine.Trees"'),
        ("mine.py",),
        "mine.py",
        ("mine.py: estimator 'extra_trees': trusted = 'mine.Trees': write a tuple: ('mine.Trees',)",),
    ),
    "a decorator without a name": (
        METRIC.replace("({arguments})", "").format(body="return 0"),
        ("mine.py",),
        "mine.py",
        ("plugins.0 = 'mine.py'", '@metric is given no name: write @metric("NAME")', "(line 3)", "mend it"),
    ),
    "a name that YAML would not keep": (
        METRIC.format(arguments='"my one"', body="return 0"),
        ("mine.py",),
        "mine.py",
        ("'my one'", "letters"),
    ),
    "settings that change": (
        example("check").replace("class Varied(Frozen)", "import pydantic\nclass Varied(pydantic.BaseModel)"),
        ("mine.py",),
        "mine.py",
        ("check 'varied'", "Varied can be changed", "Frozen"),
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_good_is_told_in_one_line(tmp_path: Path, case: str) -> None:
    text, named, file, words = FILES[case]
    assert_one_line(refusal(made(tmp_path / "p", text, named, file)), *words)


def test_a_file_may_name_formats_and_stores_of_ours(tmp_path: Path) -> None:
    text = "from mlops_pipeline.parts import FORMATS, STORES\n" + example("metric")
    settings = load_settings(made(tmp_path / "p", text, evaluate={"metrics": ["cost"]}) / "pipeline.yaml")
    assert {part["owner"] for part in parts_listed(settings) if part["kind"] in ("format", "store")} == {"mlops-pipeline"}


def test_two_projects_may_each_have_a_file_of_that_name(tmp_path: Path) -> None:
    one = made(
        tmp_path / "one", METRIC.format(arguments='"gain"', body="return weights.sum(axis=1) * 0 + 1"), evaluate={"metrics": ["gain"]}
    )
    two = made(
        tmp_path / "two", METRIC.format(arguments='"gain"', body="return weights.sum(axis=1) * 0 + 2"), evaluate={"metrics": ["gain"]}
    )
    made_of = Predictions("binary", np.array([0, 1]), np.full((2, 2), 0.5))
    for folder, value in ((one, 1), (two, 2), (one, 1)):
        load_settings(folder / "pipeline.yaml")
        assert point("gain", made_of) == value
    assert str(two) not in sys.path


def test_a_file_may_import_another_that_is_named_too(tmp_path: Path) -> None:
    folder = made(tmp_path / "p", "import mine\n", ("first.py", "mine.py"), "first.py", evaluate={"metrics": ["cost"]})
    (folder / "mine.py").write_text(example("metric"))
    settings = load_settings(folder / "pipeline.yaml")
    assert code(folder, settings)["evaluate"] == ["mine.py"]


def test_an_edit_is_seen_by_a_process_that_goes_on(folder: Path) -> None:
    settings_in(folder, **OWN)
    (folder / "mine.py").write_text((folder / "mine.py").read_text().replace('"cost"', '"costs"'))
    assert_one_line(refusal(folder), "'cost'", "costs")


IMPORTING = "from mlops_pipeline.plugins import metric\n{how}\n\n@metric('gain')\ndef gain(made, weights):\n    return {call}\n"
HELPER = "def gained(weights):\n    return weights.sum(axis=1) * 0 + {value}\n"
EDITED: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "a file that the named one imports": (
        ("mine.py",),
        {"mine.py": IMPORTING.format(how="import beside", call="beside.gained(weights)"), "beside.py": HELPER},
        "beside.py",
    ),
    "one that is imported late": (
        ("mine.py",),
        {
            "mine.py": IMPORTING.format(how="", call="__import__('beside').gained(weights)") + "\ndef named():\n    import beside\n",
            "beside.py": HELPER,
        },
        "beside.py",
    ),
    "one in a package": (
        ("src/mine.py",),
        {
            "src/mine.py": IMPORTING.format(how="from shapes.inner import beside", call="beside.gained(weights)"),
            "src/shapes/__init__.py": "",
            "src/shapes/inner/__init__.py": "",
            "src/shapes/inner/beside.py": HELPER,
        },
        "src/shapes/inner/beside.py",
    ),
    "one in a folder": (
        ("mine.py",),
        {"mine.py": IMPORTING.format(how="from shapes import beside", call="beside.gained(weights)"), "shapes/beside.py": HELPER},
        "shapes/beside.py",
    ),
    "a module": (
        ("mp",),
        {"mp.py": IMPORTING.format(how="", call="gained(weights)") + HELPER},
        "mp.py",
    ),
    "a module in a folder": (
        ("shop.mp",),
        {"shop/mp.py": IMPORTING.format(how="", call="gained(weights)") + HELPER},
        "shop/mp.py",
    ),
    "a package": (
        ("mp",),
        {"mp/__init__.py": IMPORTING.format(how="from .beside import gained", call="gained(weights)"), "mp/beside.py": HELPER},
        "mp/beside.py",
    ),
}


@pytest.mark.parametrize("case", EDITED)
def test_an_edit_of_any_file_that_a_part_is_made_of_is_what_runs_next(tmp_path: Path, case: str) -> None:
    named, files, edited = EDITED[case]
    folder = made(tmp_path / "p", "", named, evaluate={"metrics": ["gain"]})
    made_of = Predictions("binary", np.array([0, 1]), np.full((2, 2), 0.5))
    for value in (1, 2, 3):
        for name, text in files.items():
            if value == 1 or name == edited:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text.replace("{value}", str(value)))
        settings = load_settings(folder / "pipeline.yaml")
        assert point("gain", made_of) == value
        assert edited in code(folder, settings)["evaluate"]


def one_loaded_before_another(folder: Path) -> Settings:
    """Settings of a project whose checks and metric another project's, which was loaded after it, does not have."""
    project = make_project(folder / "one")
    (project.folder / "mine.py").write_text(METRIC.format(arguments='"gain"', body="return weights.sum(axis=1) * 0 + 1") + example("check"))
    project.change(plugins=["mine.py"], evaluate={"metrics": ["gain"]}, validate={"checks": {"varied": {"at_least": 2}}})
    settings = load_settings(project.config)
    load_settings(made(folder / "two", METRIC.format(arguments='"gain"', body="return weights.sum(axis=1) * 0 + 2")) / "pipeline.yaml")
    return settings


def test_a_run_works_with_the_parts_of_its_own_settings_whatever_was_loaded_since(tmp_path: Path) -> None:
    settings = one_loaded_before_another(tmp_path)
    layout = layout_of(settings, tmp_path / "one/pipeline.yaml", tmp_path / "one")
    assert runner.run(settings, layout, quiet(), stop="validate") == {"ingest": "ran", "validate": "ran"}
    assert "mine.py" in layout.dvc_file.read_text()
    assert '"varied"' in layout.validation_json.read_text()


def test_so_does_one_stage_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = one_loaded_before_another(tmp_path)
    seen: list[float] = []

    def measure(*_: Any) -> None:
        seen.append(point("gain", Predictions("binary", np.array([0, 1]), np.full((2, 2), 0.5))))

    layout = layout_of(settings, tmp_path / "one/pipeline.yaml", tmp_path / "one")
    monkeypatch.setattr("mlops_pipeline.pipeline.stages.train.train", measure)
    run_stage(stage_named("train"), settings, layout, quiet())
    assert seen == [1]


def test_a_prepared_run_brings_each_stage_up_to_date_with_its_own_parts(tmp_path: Path) -> None:
    settings = one_loaded_before_another(tmp_path)
    layout = layout_of(settings, tmp_path / "one/pipeline.yaml", tmp_path / "one")
    cache = runner.prepare(settings, layout, quiet())
    for name in ("ingest", "validate"):
        load_settings(tmp_path / "two/pipeline.yaml")
        stage = stage_named(name)
        assert runner.bring_up_to_date(stage, cache.causes([stage])[name], cache, settings, layout, quiet(), ignored) == "ran"


def test_what_was_not_edited_is_not_read_again(folder: Path) -> None:
    settings_in(folder, **OWN)
    before = plugins.part(plugins.Metric, "cost")
    settings_in(folder, **OWN)
    assert plugins.part(plugins.Metric, "cost") is before


BROKEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "raises": ("return 1 / 0", ("mine.py: metric 'mine' fails: ZeroDivisionError", "(line 5)")),
    "leaves": ("raise SystemExit(0)", ("mine.py: metric 'mine' fails: SystemExit: 0", "(line 5)")),
    "wrong shape": ("return weights", ("mine.py: metric 'mine' fails", "shape (1, 2)", "not (1,)")),
    "infinite": ("return weights.sum(axis=1) * float('inf')", ("mine.py: metric 'mine' fails", "infinite", "NaN where it is undefined")),
    "changes what it is given": ("made.predicted[:] = 0", ("mine.py: metric 'mine' fails: ValueError", "read-only", "(line 5)")),
    "changes the weights": ("weights += 1", ("mine.py: metric 'mine' fails: ValueError", "read-only", "(line 5)")),
    "no number": ("return ['many']", ("mine.py: metric 'mine' fails: ValueError",)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_metric_that_does_not_work_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    body, words = BROKEN[case]
    load_settings(made(tmp_path / "p", METRIC.format(arguments='"mine"', body=body)) / "pipeline.yaml")
    with pytest.raises(PipelineError) as caught:
        point("mine", Predictions("binary", np.array([0, 1]), np.full((2, 2), 0.5)))
    assert_one_line(caught.value, *words)


NONE_OF_THEM: dict[str, tuple[str, str]] = {
    "an estimator's class": ("estimator 'mine' fails: it gives the class Ridge itself: call it, Ridge()", "mine, one_hot, Ridge"),
    "an encoder's class": ("encoder 'mine' fails: it gives the class Ridge itself: call it, Ridge()", "ridge, mine, Ridge"),
    "no encoder": ("encoder 'mine' fails: it made a NoneType, which has no fit, as an encoder needs", "ridge, mine, None"),
    "a model for an encoder": ("encoder 'mine' fails: it made a Ridge, which has no transform", "ridge, mine, Ridge()"),
}


@pytest.mark.parametrize("case", NONE_OF_THEM)
def test_what_is_no_estimator_or_encoder_is_named_before_anything_is_fitted(tmp_path: Path, case: str) -> None:
    told, words = NONE_OF_THEM[case]
    name, columns, answer = words.split(", ")
    text = (
        "from sklearn.linear_model import Ridge\nfrom mlops_pipeline.plugins import encoder, estimator\n\n"
        f"@estimator('mine')\ndef made(task, seed):\n    return {answer}\n\n@encoder('mine')\ndef columns(features):\n    return {answer}\n"
    )
    load_settings(made(tmp_path / "p", text) / "pipeline.yaml")
    with pytest.raises(PipelineError) as caught:
        build_model(name, "regression", {"a": Column(kind="number")}, {}, 0, columns)
    assert_one_line(caught.value, f"mine.py: {told}")


def test_where_a_fit_fails_in_a_file_of_ones_own_is_told(tmp_path: Path) -> None:
    text = (
        "from sklearn.preprocessing import FunctionTransformer\nfrom mlops_pipeline.plugins import encoder\n"
        "from beside import looked_up\n\n"
        "@encoder('mine')\ndef columns(features):\n    return FunctionTransformer(looked_up)\n"
    )
    folder = made(tmp_path / "p", text)
    (folder / "beside.py").write_text("def looked_up(x):\n    return x['nothing']\n")
    load_settings(folder / "pipeline.yaml")
    model = build_model("ridge", "regression", {"a": Column(kind="number")}, {}, 0, "mine")
    with pytest.raises(KeyError) as caught:
        model.fit(pl.DataFrame({"a": [1.0]}).to_pandas(), [1.0])
    parts = plugins.parts_of_model("ridge", "mine")
    assert why_not_fitted(caught.value, parts, {"a": Column(kind="number")}) == "KeyError: 'nothing' (beside.py, line 2)"
    assert why_not_fitted(caught.value, parts, {"a": Column(kind="number", private=True)}) == "KeyError (beside.py, line 2)"


@pytest.mark.parametrize(("made_by", "words"), [("return None", "no fit"), ("return {}", "no fit"), ("return 1 / 0", "ZeroDivisionError")])
def test_an_estimator_that_makes_none_is_named(tmp_path: Path, made_by: str, words: str) -> None:
    text = f"from mlops_pipeline.plugins import estimator\n\n@estimator('mine')\ndef mine(task, seed):\n    {made_by}\n"
    load_settings(made(tmp_path / "p", text) / "pipeline.yaml")
    with pytest.raises(PipelineError) as caught:
        build_model("mine", "binary", {}, {}, 0)
    assert_one_line(caught.value, "mine.py: estimator 'mine' fails", words.replace("no fit", "no estimator of scikit-learn's"))


ANSWERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "raises": ("1 / 0", ("ZeroDivisionError", "line 9")),
    "too narrow": ("np.ones(len(x))", ("shape (2,) for 2 rows, not (2, 2)",)),
    "not finite": ("np.full((len(x), 2), np.nan)", ("not finite",)),
    "no probabilities": ("np.ones((len(x), 2))", ("do not sum to 1",)),
    "sound": ("np.full((len(x), 2), 0.5)", ()),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_estimator_whose_answers_are_none_is_named(tmp_path: Path, case: str) -> None:
    answer, words = ANSWERS[case]
    text = (
        "import numpy as np\nfrom mlops_pipeline.plugins import estimator\n\nclass Mine:\n    classes_ = [0, 1]\n    def fit(self, x, y):\n"
        f"        return self\n    def predict_proba(self, x):\n        return {answer}\n\n@estimator('mine')\ndef mine(task, seed):\n"
        "    return Mine()\n"
    )
    load_settings(made(tmp_path / "p", text) / "pipeline.yaml")
    part = plugins.part(plugins.Estimator, "mine")
    x = np.zeros((2, 1))
    if case == "sound":
        check_answers(part, plugins.run(part, "binary", 0), x, "binary", [0, 1])
        return
    with pytest.raises(PipelineError) as caught:
        check_answers(part, plugins.run(part, "binary", 0), x, "binary", [0, 1])
    assert_one_line(caught.value, "mine.py: estimator 'mine' fails", *words)


def evaluation(width: float) -> Evaluation:
    content = {
        "metric": "roc_auc",
        "test_rows": 9,
        "confidence": 0.95,
        "metrics": {"roc_auc": {"value": 0.7, "low": 0.6, "high": 0.6 + width}},
    }
    return msgspec.convert(content, Evaluation)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure(None, "r", 1, "s"), "column of its Failure is None, not text"),  # type: ignore[arg-type]
        (Failure("size", "r", 1, 3.5), "seen of its Failure is 3.5, not text"),  # type: ignore[arg-type]
        (Failure("size", "r", "many", "s"), "rows of its Failure is 'many', not a whole number"),  # type: ignore[arg-type]
        (Failure("size", "r", np.int64(3), "s"), ""),  # type: ignore[arg-type]
    ],
)
def test_a_failure_of_wrong_types_is_named(failure: Failure, told: str) -> None:
    check = plugins.Check("mine", "mine:check")
    if not told:
        assert type(_sound(check, failure).rows) is int
        return
    with pytest.raises(PipelineError) as caught:
        _sound(check, failure)
    assert_one_line(caught.value, f"check 'mine' fails: {told}: mend it there")


def test_a_rule_of_ones_own_decides_with_ours_and_says_why(folder: Path) -> None:
    gate = settings_in(folder, gate={**OWN["gate"], "beat_baseline_by": None, "champion_margin": None}).gate
    for width, passed in ((0.3, True), (0.6, False)):
        rules = {rule.name: rule for rule in decide(gate, evaluation(width), latency_ms=None, size_mb=1)}
        assert set(rules) == {"held_out", "narrow"}
        assert rules["narrow"].passed is passed
        assert rules["narrow"].text == f"interval of roc_auc at most 0.5 wide: {width}"


@pytest.mark.parametrize("said", ["'no', 'because'", "None, 'because'", "1, 'because'", "[], 'because'", "True, ''", "True"])
def test_a_rule_that_says_neither_true_nor_false_is_told_and_lets_nothing_pass(tmp_path: Path, said: str) -> None:
    text = f"from mlops_pipeline.plugins import gate_rule\n\n@gate_rule('mine')\ndef mine(judged, settings):\n    return {said}\n"
    settings = load_settings(made(tmp_path / "p", text, gate={"rules": {"mine": None}}) / "pipeline.yaml")
    with pytest.raises(PipelineError) as caught:
        decide(settings.gate, evaluation(0.1), latency_ms=None, size_mb=1)
    assert_one_line(caught.value, "mine.py: gate rule 'mine' fails: it gives", "not whether the version passes and why in words")


def test_a_rule_that_gives_no_verdict_does_not_let_a_version_pass(tmp_path: Path) -> None:
    text = "from mlops_pipeline.plugins import gate_rule\n\n@gate_rule('mine')\ndef mine(judged, settings):\n    return True\n"
    gate = load_settings(made(tmp_path / "p", text, gate={"rules": {"mine": None}}) / "pipeline.yaml").gate
    with pytest.raises(PipelineError, match=r"mine\.py: gate rule 'mine' fails: it gives True, not whether"):
        decide(gate.model_copy(update={"beat_baseline_by": None}), evaluation(0.1), latency_ms=None, size_mb=1)


def test_the_json_schema_knows_the_parts_and_their_settings(folder: Path) -> None:
    settings_in(folder, **OWN)
    schema = json.loads(json_schema(folder / "pipeline.yaml"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load((folder / "pipeline.yaml").read_text()), schema)
    for mistake in (
        {"train": {"estimator": "extra_trees", "params": {"trees": 0}}},
        {"train": {"estimator": "catboost"}},
        {"gate": {"rules": {"narrow": {"width": -1}}}},
        {"validate": {"checks": {"vary": {}}}},
        {"evaluate": {"metrics": ["gini"]}},
        {"train": {"encoder": "quantiles", "encoder_params": {"bins": 1}}},
        {"evaluate": {"metrics": ["cost"], "metric_params": {"cost": {"misses": 2}}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content_with(**mistake), schema)
    plugins.use(plugins.NamedParts())
    assert "extra_trees" not in json_schema()


def test_what_there_is_is_listed_with_whose_it_is_and_whether_it_is_used(folder: Path) -> None:
    listed = {
        (part["kind"], part["name"]): part for part in parts_listed(settings_in(folder, train=OWN["train"], gate={"worst_slice": 0.5}))
    }
    assert listed["estimator", "extra_trees"] == {
        "kind": "estimator",
        "name": "extra_trees",
        "owner": "mine.py",
        "used": True,
        "summary": "Extremely randomised trees, averaged",
        "settings": ["trees", "min_leaf"],
    }
    assert not listed["metric", "cost"]["used"]
    assert listed["gate rule", "worst_slice"]["used"]
    assert not listed["gate rule", "latency"]["used"]
    assert listed["encoder", "ordinal_imputed"]["owner"] == "mlops-pipeline"
    assert {kind for kind, _ in listed} == {"estimator", "encoder", "metric", "check", "gate rule", "format", "store", "channel"}
    assert all(part["summary"] for part in listed.values())


def test_an_installed_distribution_brings_parts_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, info = tmp_path / "site", tmp_path / "site/their_parts-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlops_pipeline.parts]\nours = their_parts\n")
    (site / "their_parts.py").write_text(example("metric"))
    monkeypatch.syspath_prepend(str(site))
    folder = made(tmp_path / "p", "a = 1\n", evaluate={"metrics": ["cost"]})
    settings = load_settings(folder / "pipeline.yaml")
    assert next(part for part in parts_listed(settings) if part["name"] == "cost")["owner"] == "their-parts"
    assert code(folder, settings)["evaluate"] == []
    both = made(tmp_path / "q", example("metric"))
    assert_one_line(refusal(both), "metric 'cost' is declared by both their-parts and mine.py")


def test_the_version_of_what_brings_a_part_or_ships_a_source_is_what_the_stages_that_use_it_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    for name, version in (("their-parts", "1.0"), ("their-table", "2.0")):
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (site / "their_parts-1.0.dist-info/entry_points.txt").write_text("[mlops_pipeline.parts]\nours = their_parts\n")
    (site / "their_parts.py").write_text(example("metric"))
    monkeypatch.syspath_prepend(str(site))
    folder = made(tmp_path / "p", "a = 1\n", evaluate={"metrics": ["cost"]}, dataset={"source": {"package": "their_table", "member": "t"}})
    settings = load_settings(folder / "pipeline.yaml")
    layout = layout_of(settings, folder / "pipeline.yaml", folder)
    (folder / "mlops.lock").write_text("packages: {pytest: '0', gone: '1'}\n")  # of another pipeline
    files = {path.name: yaml.safe_load(text) for path, text in dvc_files(settings, layout).items()}
    named = {
        (name, key.removeprefix("packages."))
        for name, stage in files["dvc.yaml"]["stages"].items()
        for key in stage["params"][1]["mlops.lock"]
        if key.startswith("packages.")
    }
    assert named == {("ingest", "their-table"), ("evaluate", "their-parts"), ("register", "their-parts")}
    assert files["mlops.lock"]["packages"] == {"pytest": pytest.__version__, "their-parts": "1.0", "their-table": "2.0"}


def test_a_distribution_whose_parts_leave_the_process_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, info = tmp_path / "site", tmp_path / "site/leaving_parts-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leaving-parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlops_pipeline.parts]\nours = leaving_parts\n")
    (site / "leaving_parts.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(str(site))
    assert_one_line(refusal(made(tmp_path / "p", "a = 1\n")), "leaving-parts: its parts cannot be loaded: SystemExit: 0: mend or remove it")
    monkeypatch.undo()


def test_a_package_of_the_project_may_be_named_with_dots(tmp_path: Path) -> None:
    folder = made(tmp_path / "p", example("metric"), ("shop_parts.money",), "shop_parts/money.py", evaluate={"metrics": ["cost"]})
    settings = load_settings(folder / "pipeline.yaml")
    assert plugins.owner(plugins.part(plugins.Metric, "cost")).name == "shop_parts/money.py"
    assert code(folder, settings)["evaluate"] == ["shop_parts/money.py"]


def test_a_package_that_is_installed_in_place_is_code_with_what_it_imports_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = IMPORTING.format(how="from shop_in_src.money import gained", call="gained(weights)")
    folder = made(tmp_path / "p", text, ("shop_in_src.parts",), "src/shop_in_src/parts.py", evaluate={"metrics": ["gain"]})
    (folder / "src/shop_in_src/__init__.py").write_text("")
    (folder / "src/shop_in_src/money.py").write_text(HELPER)
    monkeypatch.syspath_prepend(str(folder / "src"))
    settings = load_settings(folder / "pipeline.yaml")
    assert code(folder, settings)["evaluate"] == [f"src/shop_in_src/{name}.py" for name in ("__init__", "money", "parts")]


def test_modules_of_pythons_own_are_no_code_of_a_project_that_holds_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one that Conda has made in the project's folder."""
    text = IMPORTING.format(how="import colorsys", call="weights.sum(axis=1) * colorsys.ONE_THIRD")
    folder = made(tmp_path / "p", text, evaluate={"metrics": ["gain"]})
    home = folder / "env/lib/python3"
    home.mkdir(parents=True)
    shutil.copy(colorsys.__file__, home)
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.delitem(sys.modules, "colorsys")
    assert code(folder, load_settings(folder / "pipeline.yaml"))["evaluate"] == ["mine.py"]


def test_what_a_model_needs_and_is_not_here_is_named(folder: Path) -> None:
    settings_in(folder, **OWN)
    needed = plugins.described([plugins.part(plugins.Estimator, "extra_trees"), plugins.part(plugins.Encoder, "ordinal")])
    assert plugins.lacking(needed) == ""
    plugins.use(plugins.NamedParts())
    assert plugins.lacking(needed) == "the estimator 'extra_trees' of mine.py"


COMPLETE = msgspec.structs.replace(
    evaluation(0.1), improvement_over_baseline=Interval(low=0.1), worst_slice=Slice("kind", "a", metric=0.6), calibration_error=0.1
)
EVERY_LIMIT = Gate(worst_slice=0.5, max_calibration_error=0.2, max_latency_ms=10, max_size_mb=10)


@pytest.mark.parametrize("name", plugins.parts(plugins.GateRule))
def test_every_rule_gives_a_verdict_in_words_or_none(name: str) -> None:
    rule = plugins.part(plugins.GateRule, name)
    own = EVERY_LIMIT if plugins.is_ours(rule) else part_settings(rule, {}, "gate", "rules")
    for judged in (Judged(COMPLETE, 1.0, 1.0), Judged(COMPLETE, 1.0, 1.0, "2026-01-01 by Ann")):
        verdict = plugins.run(rule, judged, own)
        assert verdict is None or (isinstance(verdict[0], bool) and verdict[1] and "\n" not in verdict[1])


@pytest.mark.parametrize("name", plugins.parts(plugins.Check))
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_every_check_passes_a_sound_table_or_names_what_it_found(name: str, task: str) -> None:
    check = plugins.part(plugins.Check, name)
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"n": rng.normal(size=300), "y": rng.integers(0, 2, size=300).astype(float if task == "regression" else int)})
    settings = table_settings({"n": "number", "y": "number" if task == "regression" else "integer"}, task=task)
    schema = infer_schema(frame, settings.dataset, settings.validate_, "small")
    examined = Examined(frame, settings.dataset, ("n",), schema, 0, {"n": 0.5})
    ours = plugins.is_ours(check)
    found = list(plugins.run(check, examined, settings.validate_ if ours else part_settings(check, {}, "validate", "checks")) or ())
    assert all(isinstance(failure, Failure) for failure in found)
    assert not (ours and found)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: str(task.name))
def test_a_task_of_the_contract_is_one_that_parts_are_for(task: Task) -> None:
    assert task.name in plugins.Metric("mine", "mine:mine").tasks
    assert task.name in plugins.part(plugins.Estimator, "dummy").tasks
    assert (task.name in plugins.part(plugins.Estimator, "logistic_regression").tasks) is task.has_classes
    assert (task.name in plugins.part(plugins.Metric, "log_loss").tasks) is task.has_classes
    assert (task.name in plugins.part(plugins.Metric, "rmse").tasks) is not task.has_classes


def test_every_function_that_ours_name_is_there() -> None:
    for kind in plugins.KINDS:
        for part in plugins.parts(kind).values():
            assert callable(plugins.loaded(part.function)), part
    for part in plugins.parts(plugins.Estimator).values():
        assert part.search is None or callable(plugins.loaded(part.search))


def test_listing_loads_no_heavy_library_and_reads_no_file_that_is_not_named(project: Project) -> None:
    said = project.command(
        sys.executable,
        "-c",
        "import sys; from mlops_pipeline.cli import main\n"
        "try: main(['parts', '--json', '--config', 'pipeline.yaml'])\n"
        "finally: print([name for name in ('sklearn', 'mlflow', 'lightgbm', 'polars', 'pandas', 'numpy', 'rich') if name in sys.modules],"
        " file=sys.stderr)",
        check=False,
    )
    assert said.stderr.strip() == "[]"
    assert {"kind": "estimator", "name": "lightgbm"}.items() <= next(p for p in json.loads(said.stdout) if p["used"]).items()
