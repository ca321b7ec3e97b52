"""What `mlops render` writes, run by what it is written for, or by the nearest that runs here.

Argo's controller needs a cluster, so its part is played by `Pod`: an input artifact is put at its path before the container starts,
an output artifact is taken from its path after it ended, and every pod begins with empty volumes. Airflow is the real one, and so
are Kubeflow's SDK and its local runner; a Kubeflow server is not there.
"""

from __future__ import annotations

import functools
import graphlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from tests.conftest import BIN, REPOSITORY, Project, lacking, make_project, process_environment, unused_port
from tests.integration_tests.test_serving_source import mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("orchestrators")]

HERE = Path(__file__).resolve().parent
STAGES = ["ingest", "validate", "split", "train", "evaluate", "register"]
USER = 10001
QUIET_AIRFLOW = {"AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False", "SCARF_ANALYTICS": "false", "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}


def done_by(*words: str, cwd: Path, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        words,
        cwd=cwd,
        env=process_environment(**environ),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0 or not check, (
        f"{' '.join(words)} ended with {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    )
    return done


def environment_of(name: str) -> Path:
    """The programs of an environment of its own, made from its requirements file when that has changed."""
    requirements, folder = HERE / f"requirements-{name}.txt", REPOSITORY / ".cache" / name
    stamp = folder / "made-from"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not stamp.exists() or stamp.read_text() != digest:
            uv = str(BIN / "uv")
            for words in (
                ["venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
                ["pip", "install", "--quiet", "--python", str(folder / "bin/python"), "-r", str(requirements)],
            ):
                made = subprocess.run([uv, *words], capture_output=True, text=True, timeout=900, check=False)
                if made.returncode:
                    lacking(name, f"uv could not make {folder} from {requirements.name}: {made.stderr[-600:]}")
            stamp.write_text(digest)
    return folder / "bin"


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on loopback, which containers reach by sharing the host's network."""
    port = unused_port()
    with mlflow_server(port, tmp_path_factory.mktemp("tracking") / "mlflow"):
        yield f"http://127.0.0.1:{port}"


def champion_at(uri: str, name: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri, registry_uri=uri).get_model_version_by_alias(name, "champion")


# Argo


class Pod:
    """What Argo makes of one template, played with the `docker` client: volumes, artifacts, the container and its limits."""

    def __init__(self, template: dict[str, Any], spec: dict[str, Any], folder: Path, parameters: dict[str, str]) -> None:
        self.template, self.spec, self.parameters = template, spec, parameters
        self.name = f"mlops-test-{uuid.uuid4().hex[:10]}"
        self.mounts: dict[str, Path] = {}
        for mount in template["container"]["volumeMounts"]:
            assert any(volume["name"] == mount["name"] and "emptyDir" in volume for volume in template["volumes"])
            self.mounts[mount["mountPath"]] = folder / mount["name"]
        for place in self.mounts.values():
            place.mkdir(parents=True)
            give(place)

    def place(self, path: str) -> Path:
        """Where a path of the container lies on this machine; Argo, too, takes an artifact from the volume it lies in."""
        mount = next(mount for mount in self.mounts if path.startswith(f"{mount}/"))
        return self.mounts[mount] / path.removeprefix(f"{mount}/")

    def put(self, artifact: dict[str, Any], content: Path) -> None:
        place = self.place(artifact["path"])
        place.parent.mkdir(parents=True, exist_ok=True)
        copy(content, place)
        for made in (place, *place.parents):
            if made in self.mounts.values():
                break
            give(made)

    def words(self) -> list[str]:
        container, pod = self.template["container"], self.spec["securityContext"]
        own = container["securityContext"]
        words = ["docker", "run", "--name", self.name, "--network", "host", "--user", f"{pod['runAsUser']}:{pod['runAsGroup']}"]
        words += ["--read-only"] if own["readOnlyRootFilesystem"] else []
        words += [] if own["allowPrivilegeEscalation"] else ["--security-opt", "no-new-privileges"]
        words += [word for name in own["capabilities"]["drop"] for word in ("--cap-drop", name)]
        words += ["--workdir", container["workingDir"], "--entrypoint", container["command"][0]]
        for variable in container["env"]:
            value = variable["value"] if "value" in variable else container["resources"]["limits"]["cpu"]
            words += ["--env", f"{variable['name']}={self.filled(value)}"]
        for path, place in self.mounts.items():
            words += ["--volume", f"{place}:{path}"]
        return [*words, self.filled(container["image"]), *container["command"][1:], *map(self.filled, container["args"])]

    def run(self) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(self.words(), capture_output=True, text=True, timeout=900, check=False)
        finally:
            # Not by --rm, with which podman's socket loses the exit code.
            subprocess.run(["docker", "rm", "--force", "--volumes", self.name], capture_output=True, check=False)

    def filled(self, text: str) -> str:
        for name, value in self.parameters.items():
            text = text.replace(f"{{{{workflow.parameters.{name}}}}}", value)
        assert "{{" not in text, text
        return text


def give(path: Path) -> None:
    """What fsGroup does: the files belong to the container's user."""
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        os.chown(each, USER, USER) if os.geteuid() == 0 else each.chmod(0o777)


def copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)


@dataclass(frozen=True)
class Workflow:
    """A rendered workflow that is carried out in a folder: its tasks, and what they have made so far, by TASK.ARTIFACT."""

    template: dict[str, Any]
    folder: Path
    given: dict[str, str]
    repository: dict[str, Path] = field(default_factory=dict)

    @property
    def templates(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.template["spec"]["templates"]}

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        return {task["name"]: task for task in self.templates[self.template["spec"]["entrypoint"]]["dag"]["tasks"]}

    def run(self) -> Workflow:
        """Every task in the DAG's order."""
        order = graphlib.TopologicalSorter({name: task.get("dependencies", []) for name, task in self.tasks.items()}).static_order()
        for name in order:
            self.run_task(name)
        return self

    def run_task(self, name: str, withheld: str = "") -> None:
        """A task in its pod; ``withheld`` is an input that it is not handed."""
        task, spec = self.tasks[name], self.template["spec"]
        template = self.templates[task["template"]]
        parameters = {each["name"]: each["value"] for each in spec["arguments"]["parameters"] if "value" in each} | self.given
        pod = Pod(template, spec, self.folder / "pods" / name, parameters)
        sent = {each["name"]: each["from"] for each in task.get("arguments", {}).get("artifacts", [])}
        for artifact in template.get("inputs", {}).get("artifacts", []):
            maker, made = sent[artifact["name"]].removeprefix("{{tasks.").removesuffix("}}").split(".outputs.artifacts.")
            assert maker in task["dependencies"], "an artifact of a task that need not have ended"
            if artifact["name"] != withheld:
                pod.put(artifact, self.repository[f"{maker}.{made}"])
        done = pod.run()
        assert done.returncode == 0, f"{name} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        # The image brings the committed schema: one made from the table itself would let every table pass.
        assert "schema inferred" not in done.stdout
        for artifact in template["outputs"]["artifacts"]:
            kept = self.folder / "repository" / name / artifact["name"]
            kept.parent.mkdir(parents=True, exist_ok=True)
            copy(pod.place(artifact["path"]), kept)
            # A folder is stored as an archive, a file as it is.
            assert kept.is_file() == ("archive" in artifact)
            self.repository[f"{name}.{artifact['name']}"] = kept
        for parameter in template["outputs"].get("parameters", []):
            json.loads(pod.place(parameter["valueFrom"]["path"]).read_text())
        shutil.rmtree(self.folder / "pods" / name)


@pytest.fixture(scope="module")
def workflow(training_image: str, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The committed workflow on the flights, carried out once."""
    template = yaml.safe_load((REPOSITORY / "cicd/argo_workflows/workflow-template.yaml").read_text())
    return Workflow(template, tmp_path_factory.mktemp("argo"), {"image": training_image, "mlflow-tracking-uri": tracking}).run()


def test_each_task_of_the_argo_workflow_runs_in_the_image_on_the_artifacts_it_declares(workflow: Workflow, tracking: str) -> None:
    made = workflow.repository
    registration = json.loads(made["register.registration"].read_text())
    version = champion_at(tracking, "flights")
    assert registration["passed"]
    assert version.tags["mlops.model_sha256"] == registration["model_sha256"]
    assert json.loads(made["evaluate.metrics"].read_text())["roc_auc"] > 0.7
    assert (made["evaluate.evaluation"] / "onnx/model.onnx").is_file()


def test_a_task_that_is_not_handed_what_it_declares_fails_in_its_fresh_container(workflow: Workflow, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"validate ended with 2[\s\S]*flights.parquet"):
        replace(workflow, folder=tmp_path).run_task("validate", withheld="raw")


# Stages that share no folder


def test_stages_with_a_folder_each_hand_on_what_they_name(tmp_path: Path) -> None:
    from mlops_pipeline.config.pipeline import load_settings
    from mlops_pipeline.layout import layout_of
    from mlops_pipeline.pipeline.artifacts import inputs_of, outputs_of
    from mlops_pipeline.pipeline.definition import STAGES as DEFINED

    whole, store = make_project(tmp_path / "whole"), tmp_path / "store"
    whole.run()
    uri = f"sqlite:///{tmp_path / 'tracking.db'}"
    settings = load_settings(whole.config)
    layout = layout_of(settings, whole.config, whole.folder)
    shutil.copy(whole.folder / "table.csv", tmp_path / "elsewhere.csv")
    for stage in DEFINED:
        alone = make_project(tmp_path / stage.name)
        (alone.folder / "table.csv").unlink()
        places = {"source": tmp_path / "elsewhere.csv"}
        inputs = [f"--input={name}={places.get(name, store / name)}" for name in inputs_of(stage, settings, layout)]
        outputs = [f"--output={name}={store / name}" for name in outputs_of(stage, layout)]
        alone.mlops("stage", stage.name, "--config", str(alone.config), *inputs, *outputs, MLFLOW_TRACKING_URI=uri)
    for name in ("raw", "train", "test", "metrics"):
        assert (store / name).read_bytes() == getattr(layout, name).read_bytes()
    registered = [json.loads(path.read_text()) for path in (store / "registration", layout.registration)]
    assert registered[0]["model_sha256"] == registered[1]["model_sha256"]
    assert champion_at(uri, "small").version in (1, "1")


# Airflow


@pytest.fixture
def airflow(tmp_path: Path) -> tuple[Project, Callable[..., subprocess.CompletedProcess[str]]]:
    """A small project, and the `airflow` command of an installation that holds its DAG alone."""
    programs, project, home = environment_of("airflow"), make_project(tmp_path / "project"), tmp_path / "airflow"
    dags = home / "dags"
    dags.mkdir(parents=True)
    project.mlops("render", "--config", str(project.config), "--target", "airflow", "--output", str(dags / "small.py"))
    assert str(project.folder) not in (dags / "small.py").read_text()
    environ = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(dags), "AIRFLOW_VAR_MLOPS_PROJECT": str(project.folder)}
    command = functools.partial(done_by, cwd=home, **environ, **QUIET_AIRFLOW)

    def ask(*words: str, program: str = "airflow", **options: Any) -> subprocess.CompletedProcess[str]:
        return command(str(programs / program), *words, **options)

    ask("db", "migrate")
    return project, ask


READ_DAG = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
dag = bag.dags.get("mlops-small")
tasks = {} if dag is None else {
    task.task_id: [sorted(task.upstream_task_ids), task.retries, task.retry_exponential_backoff, str(task.execution_timeout)]
    for task in dag.tasks
}
facts = [] if dag is None else [dag.catchup, dag.max_active_runs, dag.schedule]
print("READ", json.dumps({"errors": {str(k): str(v) for k, v in bag.import_errors.items()}, "tasks": tasks, "dag": facts}))
"""


def test_airflow_runs_the_rendered_dag_once_and_then_finds_nothing_to_do(
    airflow: tuple[Project, Callable[..., subprocess.CompletedProcess[str]]],
) -> None:
    project, ask = airflow
    said = ask("-c", READ_DAG, program="python").stdout
    read = json.loads(next(line for line in said.splitlines() if line.startswith("READ")).removeprefix("READ "))
    assert read["errors"] == {}
    assert list(read["tasks"]) == STAGES
    assert read["tasks"]["evaluate"] == [["ingest", "split", "train", "validate"], 2, 2, "2:00:00"]
    assert read["tasks"]["train"] == [["ingest", "split", "validate"], 2, 2, "12:00:00"]
    assert read["dag"] == [False, 1, "0 3 * * *"]

    first = ask("dags", "test", "mlops-small")
    assert "state=success" in first.stdout + first.stderr
    listed = project.mlops("models", "list", "--config", str(project.config)).stdout
    assert "champion" in listed
    before = {path: path.stat().st_mtime_ns for path in (project.folder / "models/artifacts").rglob("*")}
    second = ask("dags", "test", "mlops-small")
    assert "state=success" in second.stdout + second.stderr
    assert {path: path.stat().st_mtime_ns for path in (project.folder / "models/artifacts").rglob("*")} == before
    assert project.mlops("models", "list", "--config", str(project.config)).stdout == listed


# Kubeflow


RUN_PIPELINE = """
import importlib.util, os, sys
from docker.models.containers import ContainerCollection
from docker.models.images import ImageCollection
from kfp import local
from kfp.local import executor_output_utils

# A container that goes when it ends takes its log and exit code along, and the local runner then takes it for a success.
run = ContainerCollection.run
ContainerCollection.run = lambda self, *words, **options: run(self, *words, **{**options, "auto_remove": False})

# Before each task it looks at every image that the engine has, one after the other, for the one that the task names; one that another
# test takes away meanwhile fails the list. Of a hundred images that is 6 s of a core, six times.
ImageCollection.list = lambda self: [self.get(os.environ["MLOPS_IMAGE"])]

# Kubeflow's launcher hands on every artifact that a component declares. The local runner knows those alone that Kubeflow's Python
# executor lists in a file, which a container of another make does not write.
add_type = executor_output_utils.add_type_to_executor_output
def as_the_launcher(executor_input, executor_output):
    for name, artifacts in executor_input.outputs.artifacts.items():
        executor_output.artifacts[name].CopyFrom(artifacts)
    return add_type(executor_input, executor_output)
executor_output_utils.add_type_to_executor_output = as_the_launcher

spec = importlib.util.spec_from_file_location("rendered", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
local.init(runner=local.DockerRunner(network_mode="host", labels=[sys.argv[5]]), pipeline_root=sys.argv[2])
module.pipeline(source=sys.argv[3], tracking_uri=sys.argv[4])
"""


def image_of(project: Project, base: str, folder: Path) -> str:
    """The training image with a project of its own in it, as a team builds it; its source is no part of it."""
    folder.mkdir()
    for file in (project.config, project.folder / "dvc.yaml"):
        shutil.copy(file, folder)
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY pipeline.yaml dvc.yaml /opt/project/\n")
    done_by("docker", "build", "--quiet", "--tag", "localhost/mlops-pipeline:tests-small", str(folder), cwd=folder)
    return "localhost/mlops-pipeline:tests-small"


def test_kubeflows_sdk_compiles_the_rendered_pipeline_and_its_local_runner_runs_it(
    training_image: str, tracking: str, tmp_path: Path
) -> None:
    programs, project = environment_of("kfp"), make_project(tmp_path / "project")
    project.mlops("render", "--config", str(project.config))
    rendered = tmp_path / "rendered.py"
    project.mlops("render", "--config", str(project.config), "--target", "kubeflow", "--output", str(rendered))
    environ = {"MLOPS_IMAGE": image_of(project, training_image, tmp_path / "image"), "PYTHONPATH": ""}
    done_by(str(programs / "python"), str(rendered), "pipeline.yaml", cwd=tmp_path, **environ)
    tasks = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())["root"]["dag"]["tasks"]
    assert set(tasks) == {*STAGES, "importer"}
    assert tasks["evaluate"]["dependentTasks"] == ["ingest", "split", "train", "validate"]
    assert tasks["evaluate"]["retryPolicy"]["maxRetryCount"] == 2

    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(project.folder / "table.csv", root)
    root.chmod(0o777)  # the container's user writes there
    label = f"mlops-test-{uuid.uuid4().hex[:10]}"
    words = ("-c", RUN_PIPELINE, str(rendered), str(root), str(root / "table.csv"), tracking, label)
    try:
        said = done_by(str(programs / "python"), *words, cwd=tmp_path, **environ).stdout
    finally:
        listing = ["docker", "ps", "--all", "--quiet", "--filter", f"label={label}"]
        ended = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split()
        subprocess.run(["docker", "rm", "--force", "--volumes", *ended], capture_output=True, check=False)
    assert "small version 1: champion" in said
    assert len(ended) == len(STAGES)
    assert champion_at(tracking, "small").version in (1, "1")
