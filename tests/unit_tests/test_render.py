"""What is written for DVC, Argo, Airflow and Kubeflow follows from the one list of stages, and a file that does not is noticed."""

from __future__ import annotations

import ast
import copy
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hera.workflows.models import CronWorkflow, WorkflowTemplate

from mlops_pipeline.config.pipeline import load_settings, settings_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import layout_of
from mlops_pipeline.pipeline import artifacts, runner
from mlops_pipeline.pipeline import definition as pipeline
from mlops_pipeline.pipeline.artifacts import is_folder, needs, outputs_of, run_stage
from mlops_pipeline.pipeline.definition import STAGES, Stage, stage_named
from mlops_pipeline.pipeline.render import rendered
from tests.conftest import REPOSITORY, Project
from tests.unit_tests.workshop import assert_one_line, content_with, layout_in, quiet, settings_with

FOLDER = REPOSITORY / "cicd/argo_workflows"
CONFIG = REPOSITORY / "configs/training_config.yaml"


@pytest.fixture
def template() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "workflow-template.yaml").read_text()))


@pytest.fixture
def templates(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in template["spec"]["templates"]}


@pytest.fixture
def tasks(templates: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in templates["pipeline"]["dag"]["tasks"]}


def maker_of(name: str) -> str:
    return next(stage.name for stage in STAGES if name in (*stage.writes, *stage.owns, *stage.metrics))


def paths(artifacts: list[dict[str, Any]]) -> dict[str, str]:
    return {each["name"]: each["path"] for each in artifacts}


# Kubernetes


def test_the_model_server_on_kubernetes_serves_this_pipelines_model_with_the_defaults_of_this_repository(tmp_path: Path) -> None:
    def given(**changes: Any) -> list[dict[str, Any]]:
        settings = settings_of({**content_with(), **changes}, "pipeline.yaml")
        (file,) = rendered(settings, layout_in(tmp_path, settings), "kubernetes")
        return list(yaml.safe_load_all(file.text))

    def served(objects: list[dict[str, Any]]) -> tuple[str, str]:
        (settings,) = (each for each in objects if each["kind"] == "ConfigMap")
        (deployment,) = (each for each in objects if each["kind"] == "Deployment")
        (volume,) = (each for each in deployment["spec"]["template"]["spec"]["volumes"] if "configMap" in each)
        assert volume["configMap"]["name"] == settings["metadata"]["name"]
        return yaml.safe_load(settings["data"]["serving_config.yaml"])["registry"]["model"], settings["metadata"]["name"]

    ours = list(yaml.safe_load_all((REPOSITORY / "k8s/model-deployment.yaml").read_text()))
    assert given(name="flights") == ours
    named = given(name="shop")
    assert served(named)[0] == "shop"
    assert served(given(name="shop", registry={"model": "no"}))[0] == "no", "which YAML reads as a word for false"
    names = {served(each)[1] for each in (ours, named, given(name="stall"))}
    assert len(names) == 3, "another model rolls the pods"
    assert [each["kind"] for each in named] == [each["kind"] for each in ours]


# Argo


def test_the_committed_files_are_what_the_definition_gives() -> None:
    settings = load_settings(CONFIG)
    files = rendered(settings, layout_of(settings, CONFIG, REPOSITORY))
    argo = [FOLDER / "workflow-template.yaml", FOLDER / "cron-workflow.yaml"]
    assert [file.path for file in files] == [REPOSITORY / "dvc.yaml", *argo, REPOSITORY / "metadata.json"]
    assert [file.path for file in files if not file.is_current()] == []


def test_a_task_waits_for_the_stages_whose_files_it_reads_and_no_others(tasks: dict[str, dict[str, Any]]) -> None:
    assert list(tasks) == [stage.name for stage in STAGES]
    for stage in STAGES:
        assert set(tasks[stage.name].get("dependencies", [])) == {maker_of(name) for name in stage.reads}
    assert tasks["evaluate"]["dependencies"] == ["ingest", "validate", "split", "train"]


def test_what_a_task_is_handed_comes_from_the_place_where_its_maker_leaves_it(
    tasks: dict[str, dict[str, Any]], templates: dict[str, dict[str, Any]]
) -> None:
    for stage in STAGES:
        taken = paths(templates[stage.name].get("inputs", {}).get("artifacts", []))
        handed = {each["name"]: each["from"] for each in tasks[stage.name].get("arguments", {}).get("artifacts", [])}
        assert tuple(taken) == tuple(handed) == stage.reads
        for name, place in taken.items():
            maker = maker_of(name)
            assert handed[name] == f"{{{{tasks.{maker}.outputs.artifacts.{name}}}}}"
            assert paths(templates[maker]["outputs"]["artifacts"])[name] == place
        assert tuple(paths(templates[stage.name]["outputs"]["artifacts"])) == (*stage.writes, *stage.owns, *stage.metrics)


def test_the_metrics_come_out_of_the_workflow(templates: dict[str, dict[str, Any]]) -> None:
    outputs = templates["pipeline"]["outputs"]
    assert outputs["parameters"] == [{"name": "metrics", "valueFrom": {"parameter": "{{tasks.evaluate.outputs.parameters.metrics}}"}}]
    assert outputs["artifacts"] == [{"name": "metrics", "from": "{{tasks.evaluate.outputs.artifacts.metrics}}"}]
    assert templates["evaluate"]["outputs"]["parameters"][0]["valueFrom"]["path"].endswith("metrics.json")


def keeps_schema(model: type[Any], content: dict[str, Any]) -> bool:
    """Whether Argo's schema, in the models that hera generates from it, knows every key of the content.

    The models drop a key that they do not know instead of refusing it, so what comes back must be the whole.
    """
    return bool(model.model_validate(content).model_dump(mode="json", by_alias=True, exclude_unset=True) == content)


@pytest.mark.parametrize(("name", "model"), [("workflow-template", WorkflowTemplate), ("cron-workflow", CronWorkflow)])
def test_the_files_keep_argos_schema(name: str, model: type[Any]) -> None:
    assert keeps_schema(model, yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


def test_a_key_that_argo_does_not_know_is_noticed(template: dict[str, Any]) -> None:
    for misspell in (
        lambda spec: spec.update(ttlStrategie={}),
        lambda spec: spec["templates"][1]["container"].update(securitycontext={}),
        lambda spec: spec["templates"][1]["outputs"]["artifacts"][0].update(archiv={"none": {}}),
    ):
        changed = copy.deepcopy(template)
        misspell(changed["spec"])
        assert not keeps_schema(WorkflowTemplate, changed)


def test_every_pod_meets_the_restricted_pod_security_standard(template: dict[str, Any]) -> None:
    spec = template["spec"]
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert spec["automountServiceAccountToken"] is False
    for each in spec["templates"][1:]:
        own = each["container"]["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["readOnlyRootFilesystem"] is True
        assert all("emptyDir" in volume for volume in each["volumes"])


def test_every_stage_is_tried_again_with_growing_pauses_and_ends_in_time(templates: dict[str, dict[str, Any]]) -> None:
    for stage in STAGES:
        each = templates[stage.name]
        assert int(each["retryStrategy"]["limit"]) == 2
        assert each["retryStrategy"]["backoff"]["factor"] == "2"
        assert 0 < int(each["activeDeadlineSeconds"]) <= 12 * 3600


def test_the_nightly_run_names_the_template_and_lets_no_second_one_begin(template: dict[str, Any]) -> None:
    cron = yaml.safe_load((FOLDER / "cron-workflow.yaml").read_text())["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    assert cron["workflowSpec"]["workflowTemplateRef"]["name"] == template["metadata"]["name"]
    assert cron["schedules"] == ["0 3 * * *"]


def test_a_pipeline_of_any_name_has_one_of_its_own_that_argo_takes(tmp_path: Path) -> None:
    names = [
        "small",
        "x" * 38,
        "x" * 39,
        "customer_churn.prediction-of-the-whole-year-2024_a",
        "customer_churn.prediction-of-the-whole-year-2024_b",
    ]
    found = []
    for name in names:
        settings = settings_with(name=name)
        made = [yaml.safe_load(file.text)["metadata"] for file in rendered(settings, layout_in(tmp_path, settings), "argo")]
        found.append(made[0]["name"])
        assert made[1]["name"] == f"{made[0]['name']}-nightly"
        assert len(made[1]["name"]) <= 52, "Argo refuses a longer one"
        for metadata in made:
            assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", metadata["name"])
            assert len(metadata["labels"]["app.kubernetes.io/instance"]) <= 63
    assert found[:2] == ["mlops-small", f"mlops-{'x' * 38}"]
    assert len(set(found)) == len(names)


@pytest.mark.parametrize("version", ["1.33", "1.35"])
def test_the_service_account_is_there_under_the_name_that_the_template_uses(template: dict[str, Any], version: str) -> None:
    objects = list(yaml.safe_load_all((FOLDER / "service-account.yaml").read_text()))
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)
    account = template["spec"]["executor"]["serviceAccountName"]
    named = {each["kind"]: each["metadata"]["name"] for each in objects}
    assert named["ServiceAccount"] == account == template["spec"]["serviceAccountName"]
    assert named["Secret"] == f"{account}.service-account-token"


def test_a_source_of_the_projects_own_comes_from_the_artifact_repository(tmp_path: Path) -> None:
    settings = settings_with()
    text = rendered(settings, layout_in(tmp_path, settings), "argo")[0].text
    spec = yaml.safe_load(text)["spec"]
    assert {"name": "source", "value": "table.csv", "description": "key in the artifact repository"} in spec["arguments"]["parameters"]
    taken = spec["templates"][1]["inputs"]["artifacts"]
    assert taken == [{"name": "source", "path": "/project/table.csv", "s3": {"key": "{{workflow.parameters.source}}"}}]
    assert keeps_schema(WorkflowTemplate, yaml.safe_load(text))


def test_a_source_outside_the_project_is_put_where_the_settings_say(tmp_path: Path) -> None:
    settings = settings_with(dataset={"source": {"path": "/data/table.csv"}})
    taken = yaml.safe_load(rendered(settings, layout_in(tmp_path, settings), "argo")[0].text)["spec"]["templates"][1]["inputs"]["artifacts"]
    assert taken[0]["path"] == "/data/table.csv"


# The definition


def with_stages(monkeypatch: pytest.MonkeyPatch, stages: tuple[Stage, ...]) -> None:
    from mlops_pipeline.pipeline.render import airflow, argo, dvc, kubeflow

    for module in (pipeline, artifacts, argo, airflow, dvc, kubeflow):
        monkeypatch.setattr(module, "STAGES", stages)


def without_train(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    return tuple(stage for stage in stages if stage.name != "train")


def with_a_renamed_output(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    return tuple(replace(stage, writes=("tuning", "training")) if stage.name == "train" else stage for stage in stages)


@pytest.mark.parametrize("change", [without_train, with_a_renamed_output])
@pytest.mark.parametrize("target", ["argo", "airflow", "kubeflow"])
def test_a_stage_that_reads_what_none_makes_is_noticed(
    change: Callable[[tuple[Stage, ...]], tuple[Stage, ...]], target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stages(monkeypatch, change(STAGES))
    settings = settings_with()
    with pytest.raises(PipelineError) as caught:
        rendered(settings, layout_in(tmp_path, settings), target)
    assert_one_line(caught.value, "stage 'evaluate' reads 'model', which no stage before it writes")


def test_a_stage_more_is_in_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = Stage(name="compress", summary="Make it small", settings=(), reads=("model",), writes=("tuning",))
    with_stages(monkeypatch, (*STAGES, more))
    settings = settings_with()
    layout = layout_in(tmp_path, settings)
    for target, edge in (("argo", "{{tasks.train.outputs.artifacts.model}}"), ("airflow", "[train] >> compress")):
        assert edge in rendered(settings, layout, target)[0].text
    assert 'compress(\n            tracking_uri=tracking_uri,\n            model=train_task.outputs["model"],' in (
        rendered(settings, layout, "kubeflow")[0].text
    )


# Airflow and Kubeflow


def test_airflows_edges_are_those_that_follow_from_the_stages(tmp_path: Path) -> None:
    settings = settings_with()
    text = rendered(settings, layout_in(tmp_path, settings), "airflow")[0].text
    edges = {
        node.right.id: [name.id for name in node.left.elts]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift)
        if isinstance(node.left, ast.List) and isinstance(node.right, ast.Name)
    }
    assert edges == {stage.name: needs(stage) for stage in STAGES if stage.reads}
    assert str(tmp_path) not in text


def test_kubeflows_components_take_and_leave_what_the_stages_name(tmp_path: Path) -> None:
    settings = settings_with()
    text = rendered(settings, layout_in(tmp_path, settings), "kubeflow")[0].text
    components = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    for stage in STAGES:
        kinds = {argument.arg: ast.unparse(argument.annotation or ast.Constant(None)) for argument in components[stage.name].args.args}
        assert {name for name, kind in kinds.items() if kind.startswith("dsl.Input")} == set(stage.reads or ("source",))
        made = {*stage.writes, *stage.owns, *stage.metrics}
        assert {name for name, kind in kinds.items() if kind.startswith("dsl.Output")} == made
    assert str(tmp_path) not in text


# The commands


def test_a_projects_argo_files_are_kept_current_with_its_dvc_yaml(project: Project) -> None:
    config = ("--config", str(project.config))
    folder = project.folder / "cicd/argo_workflows"
    assert project.mlops("render", *config).stdout == "dvc.yaml written\nmlops.lock written\n"
    assert not folder.exists()
    project.mlops("render", *config, "--target", "argo")
    assert project.mlops("render", *config, "--check").stdout.count("is current") == 4
    file = folder / "workflow-template.yaml"
    file.write_text(file.read_text().replace("runAsNonRoot: true", "runAsNonRoot: false"))
    said = project.mlops("render", *config, "--check", check=False)
    assert said.returncode == 2
    assert (
        said.stderr
        == "error: cicd/argo_workflows/workflow-template.yaml: is not what the definition gives: run `mlops render` and commit it\n"
    )
    project.mlops("render", *config)
    assert project.mlops("render", *config, "--check").stdout.count("is current") == 4


def test_the_definition_of_the_stages_is_read_without_the_libraries_that_stages_work_with(project: Project) -> None:
    """Every command that renders, plans or checks reads it, and waits for whatever it imports."""
    heavy = "sklearn mlflow lightgbm polars pandas scipy torch prefect dvc"
    loaded = f"import sys, mlops_pipeline.pipeline.render; print([name for name in {heavy.split()} if name in sys.modules])"
    assert project.command(sys.executable, "-c", loaded).stdout == "[]\n"


def test_a_run_that_ends_before_training_imports_nothing_that_trains(project: Project) -> None:
    heavy = "[name for name in ('sklearn', 'lightgbm', 'mlflow', 'skops', 'skl2onnx', 'onnxruntime', 'matplotlib') if name in sys.modules]"
    code = f"import sys\nfrom mlops_pipeline.cli import main\ntry: main(sys.argv[1:])\nfinally: print({heavy})"
    said = project.command(sys.executable, "-c", code, "run", "--to", "split", "--config", "pipeline.yaml").stdout
    assert "275 rows to train on" in said
    assert said.splitlines()[-1] == "[]"


def test_dvc_is_refused_when_it_works_by_an_old_definition_and_others_are_not(project: Project) -> None:
    stage = ("stage", "ingest", "--config", str(project.config))
    refused = project.mlops(*stage, check=False, DVC_STAGE="ingest")
    assert refused.returncode == 2
    assert refused.stderr == "error: dvc.yaml: is not what pipeline.yaml asks for any more: run `mlops render`\n"
    assert "399 rows kept of 400" in project.mlops(*stage).stdout


HEAD = "# Rendered by `mlops render` from pipeline.py and pipeline.yaml: edit those, not this file.\n"
OTHERS = {
    "one of their own": (
        "stages:\n  theirs:\n    cmd: make theirs\n",
        "pipeline.yaml: paths.root: dvc.yaml is not of `mlops render`, which would write over it: give this one a folder of its own",
    ),
    "another pipeline's": (
        f"{HEAD.replace('pipeline.yaml', 'other.yaml')}stages: {{}}\n",
        "pipeline.yaml: paths.root: dvc.yaml belongs to another configuration, other.yaml: give this one a folder of its own",
    ),
    "a stage beside ours": (
        f"{HEAD}stages:\n  split: {{cmd: mlops stage split}}\n  theirs: {{cmd: make theirs}}\n",
        "dvc.yaml: stage 'theirs' is not of `mlops render`, which writes the file anew: move it into a dvc.yaml in another folder",
    ),
    "a stage of theirs with a command of ours": (
        f"{HEAD}stages:\n  split: {{cmd: mlops stage split}}\n  batch: {{cmd: mlops predict --input new.csv --output made.csv}}\n",
        "dvc.yaml: stage 'batch' is not of `mlops render`",
    ),
    "a section beside ours": (
        f"{HEAD}stages: {{}}\nplots: [a.csv]\n",
        "dvc.yaml: section 'plots' is not of `mlops render`",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("words", [("run", "--to", "ingest"), ("status",), ("render",)], ids=lambda words: words[0])
def test_what_others_have_put_into_dvcs_file_is_never_written_over(case: str, words: tuple[str, ...], project: Project) -> None:
    text, told = OTHERS[case]
    (project.folder / "dvc.yaml").write_text(text)
    (project.folder / "other.yaml").write_text("")
    said = project.mlops(*words, "--config", str(project.config), check=False)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1), said.stderr
    assert told in said.stderr
    assert (project.folder / "dvc.yaml").read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{HEAD.replace('pipeline.yaml', 'before.yaml')}stages: {{}}\n",
        f"{HEAD}stages:\n<<<<<<< HEAD\n",
    ],
    ids=["an empty one", "of a configuration that was renamed", "half a merge"],
)
def test_a_file_of_dvcs_that_holds_nothing_of_others_is_written_anew(text: str, project: Project) -> None:
    (project.folder / "dvc.yaml").write_text(text)
    assert "dvc.yaml written" in project.mlops("render", "--config", str(project.config)).stdout
    assert "<<<" not in (project.folder / "dvc.yaml").read_text()


def test_a_stage_that_dvc_starts_beside_a_run_is_refused(project: Project) -> None:
    with runner.alone(project.folder / ".dvc/tmp"):
        said = project.mlops("stage", "ingest", "--config", str(project.config), check=False)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1), said.stderr
    assert "another run is at work in this project: wait for it to end" in said.stderr
    assert not (project.folder / "data").exists()


@pytest.mark.parametrize(
    ("target", "output", "words"),
    [
        ("jenkins", None, ["--target jenkins: use one of dvc, metadata, argo, airflow, kubeflow, kubernetes"]),
        (None, "x.py", ["--output x.py: name a --target too: argo, airflow, kubeflow, kubernetes"]),
        ("dvc", "x.yaml", ["--output x.yaml: dvc.yaml has its place already"]),
    ],
)
def test_what_render_cannot_do_is_told_in_one_line(target: str | None, output: str | None, words: list[str], tmp_path: Path) -> None:
    settings = settings_with()
    with pytest.raises(PipelineError) as caught:
        rendered(settings, layout_in(tmp_path, settings), target, Path(output) if output else None)
    assert_one_line(caught.value, *words)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (["train"], [], ["--input train: write --input NAME=PATH"]),
        (["model=m"], [], ["--input model=m: stage 'train' has no such input 'model': use one of train"]),
        ([], ["metrics=m"], ["--output metrics=m: stage 'train' has no such output 'metrics': use one of model, training"]),
        (["train={here}/none"], [], ["/none: does not exist"]),
        (["train={here}/folder"], [], ["/folder: must be a file"]),
        ([], ["model={here}/file"], ["/file: is a file: name another path"]),
        ([], ["training={here}/folder"], ["/folder: is a folder: name another path"]),
        ([], ["model={here}/folder"], ["/folder: holds something already: name an empty or new folder"]),
    ],
)
def test_artifacts_that_a_stage_cannot_take_are_told_before_it_runs(
    inputs: list[str], outputs: list[str], words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/held").touch()
    (tmp_path / "file").touch()
    given, wanted = ([word.replace("{here}", str(tmp_path)) for word in each] for each in (inputs, outputs))
    settings = settings_with()
    with pytest.raises(PipelineError) as caught:
        run_stage(stage_named("train"), settings, layout_in(tmp_path / "project", settings), quiet(), inputs=given, outputs=wanted)
    assert_one_line(caught.value, *words)
    assert not (tmp_path / "project").exists()


def test_an_artifact_that_lies_in_its_place_already_is_left_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_with()
    layout = layout_in(tmp_path, settings)
    seen: list[bytes] = []

    def read(*_: Any) -> None:
        seen.append(layout.train.read_bytes())
        layout.model.mkdir(parents=True)
        (layout.model / "MLmodel").write_text("made")

    layout.train.parent.mkdir(parents=True)
    layout.train.write_bytes(b"rows")
    monkeypatch.setattr(Stage, "run", read)
    run_stage(
        stage_named("train"), settings, layout, quiet(), inputs=[f"train={layout.train}"], outputs=[f"model={tmp_path / 'out/model'}"]
    )
    assert seen == [b"rows"]
    assert (tmp_path / "out/model/MLmodel").read_text() == "made"


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_folders_are_told_from_files_by_their_ending(stage: Stage, tmp_path: Path) -> None:
    settings = settings_with()
    folders = {name for name, path in outputs_of(stage, layout_in(tmp_path, settings)).items() if is_folder(path)}
    assert folders == {"replay", "model", "evaluation"} & {*stage.writes}


AWKWARD = """my cfgs [1]/it's "{a}" & $x ü.yaml"""


def test_a_configuration_of_any_name_is_named_as_it_is(tmp_path: Path) -> None:
    settings = settings_with()
    layout = layout_of(settings, tmp_path / AWKWARD, tmp_path)
    dvc = yaml.safe_load(rendered(settings, layout, "dvc")[0].text)["stages"]
    for stage in STAGES:
        assert shlex.split(dvc[stage.name]["cmd"]) == ["mlops", "stage", stage.name, "--config", AWKWARD]
        assert list(dvc[stage.name]["params"][0]) == [AWKWARD]
    airflow = ast.parse(rendered(settings, layout, "airflow")[0].text)
    (command,) = (each.value for each in ast.walk(airflow) if isinstance(each, ast.keyword) and each.arg == "bash_command")
    said = eval(compile(ast.Expression(command), "bash_command", "eval"), {"name": "train"})  # noqa: S307  # our own words
    assert shlex.split(said.partition("exec ")[2]) == ["mlops", "run", "--to", "train", "--config", AWKWARD, "--as-of", "$MLOPS_AS_OF"]
    kubeflow = ast.parse(rendered(settings, layout, "kubeflow")[0].text)
    assert AWKWARD in [each.value for each in ast.walk(kubeflow) if isinstance(each, ast.Constant)]
    argo = yaml.safe_load(rendered(settings, layout, "argo")[0].text)
    commands = [each["container"]["args"] for each in argo["spec"]["templates"] if "container" in each]
    assert [words[3:5] for words in commands] == [["--config", AWKWARD]] * len(STAGES)
    told = {words[2]: words[5:] for words in commands}
    assert told.pop("ingest") == ["--as-of", "{{workflow.parameters.as-of}}"]
    assert not any(told.values())
