"""The two images, built and run by the ordinary `docker` client: what a user of them relies on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY, SMALL_SETTINGS, Project, make_project, unused_port, wait_for, write_table
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import built, is_healthy
from tests.unit_tests.workshop import digest_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("images")]

HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # noqa: S108  # in the container
KEY = "a-key-of-these-tests"
DIGEST = digest_of(KEY)
DEPENDENCY_LAYERS = 2
"""The layers that our own code adds to a serving image after the dependencies: the package and the SBOM."""


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=600, check=False)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout + (done.stderr if words[0] == "logs" else "")


def ran(*words: str, code: int = 0) -> str:
    """What a container said that ran to its end with that exit code. (With --rm, podman's socket may forget the code.)"""
    name = f"mlops-test-{uuid.uuid4().hex[:10]}"
    done = subprocess.run(["docker", "run", "--name", name, *words], capture_output=True, text=True, timeout=600, check=False)
    docker("rm", "--force", "--volumes", name)
    assert done.returncode == code, f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def volume(engine: None) -> Iterator[str]:
    name = f"mlops-test-{uuid.uuid4().hex[:10]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name)


@contextmanager
def running(image: str, folder: Path, *options: str) -> Iterator[tuple[str, str]]:
    """A hardened serving container with one key; its name and address."""
    name, port = f"mlops-test-{uuid.uuid4().hex[:10]}", unused_port()
    (folder / "api_keys").write_text(f"tests: {DIGEST}\n")
    keys = f"{folder / 'api_keys'}:/run/secrets/api_keys:ro"
    docker("run", "--detach", "--name", name, *HARDENED, "--publish", f"127.0.0.1:{port}:8000", "--volume", keys, *options, image)
    try:
        wait_for(lambda: is_healthy(f"http://127.0.0.1:{port}/ready"), 120, f"an answer of the container: {docker('logs', name)}")
        yield name, f"http://127.0.0.1:{port}"
    finally:
        docker("rm", "--force", "--volumes", name)


def example_of(project: Project) -> tuple[dict[str, Any], list[float]]:
    expected = json.loads((project.folder / "models/registry/best_model/expected.json").read_text())
    return expected["rows"][0], expected["outputs"][0]


def layers(image: str) -> list[str]:
    return list(json.loads(docker("inspect", "--format", "{{json .RootFS.Layers}}", image)))


def size(image: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def base_image(dockerfile: str) -> str:
    pinned = next(line for line in (REPOSITORY / dockerfile).read_text().splitlines() if line.startswith("ARG BASE_IMAGE="))
    return os.environ.get("BASE_IMAGE") or pinned.split("=", 1)[1]


def context(folder: Path) -> Path:
    """A copy of what a build reads, to change."""
    kept = [
        *REPOSITORY.glob("requirements*.txt"),
        *(REPOSITORY / name for name in (".dockerignore", ".dvcignore", "pyproject.toml", "README.md", "dvc.yaml", "environment.yml")),
    ]
    folder.mkdir()
    for file in kept:
        shutil.copy2(file, folder / file.name)
    for name in ("docker", "src", "configs", "prefect", ".dvc", "data/validation"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "secrets", ".env", "cache", "tmp"))
    return folder


def test_the_serving_image_answers_without_root_and_capabilities_from_a_read_only_disk(
    serving_image: str, registered: Project, tmp_path: Path
) -> None:
    row, expected = example_of(registered)
    model = f"{registered.folder / 'models/registry/best_model'}:/models/champion:ro"
    with running(serving_image, tmp_path, "--volume", model) as (name, url):
        assert post(f"{url}/predict", {"records": [row]})[0] == 401
        status, said, _ = post(f"{url}/predict", {"records": [row]}, Authorization=f"Bearer {KEY}")
        assert (status, list(said["predictions"][0]["probabilities"].values())) == (200, pytest.approx(expected, abs=1e-5))
        assert docker("exec", name, "id", "-u").strip() == "10001"
        assert "CapEff:\t0000000000000000" in docker("exec", name, "cat", "/proc/1/status")
        assert "Read-only file system" in subprocess.run(
            ["docker", "exec", name, "touch", "/opt/x"], capture_output=True, text=True, check=False
        ).stderr.replace("read-only", "Read-only")
        check = json.loads(docker("inspect", "--format", "{{json .Config.Healthcheck.Test}}", name))
        docker("exec", name, *check[1:])


def test_a_stopped_container_answers_what_it_was_asked_and_ends_well(serving_image: str, registered: Project, tmp_path: Path) -> None:
    row, _ = example_of(registered)
    model = f"{registered.folder / 'models/registry/best_model'}:/models/champion:ro"
    answers: list[int] = []
    with running(serving_image, tmp_path, "--volume", model) as (name, url):
        stopping = threading.Thread(target=docker, args=("stop", "--time", "30", name))
        stopping.start()
        # It says that it is not ready, so that nobody sends it more, and takes what still comes.
        wait_for(lambda: not is_healthy(f"{url}/ready"), 120, "the container to say that it is not ready")
        answers = [post(f"{url}/predict", {"records": [row]}, Authorization=f"Bearer {KEY}")[0] for _ in range(20)]
        stopping.join()
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
    assert answers == [200] * 20


def test_a_model_may_be_part_of_the_image(registered: Project, tmp_path: Path, serving_image: str) -> None:
    there = context(tmp_path / "context")
    shutil.copytree(registered.folder / "models/registry/best_model", there / "models/registry/best_model")
    image = built("docker/Dockerfile.serve", "mlops-pipeline-serve:tests-model", "--target", "with-model", context=there)
    row, _ = example_of(registered)
    with running(image, tmp_path) as (_, url):
        assert post(f"{url}/predict", {"records": [row]}, Authorization=f"Bearer {KEY}")[0] == 200


def test_without_keys_the_container_says_what_it_lacks(serving_image: str) -> None:
    said = ran(serving_image, code=2)
    assert "api_keys_file = '/run/secrets/api_keys': there is no such file: write a line for each key there" in said


def test_the_serving_image_is_small_and_names_all_that_is_in_it(serving_image: str) -> None:
    files = ran(serving_image, "cat", "/usr/share/sbom/mlops-pipeline-serve.cdx.json")
    sbom = json.loads(files)
    assert sbom["bomFormat"] == "CycloneDX"
    listed = {component["name"].lower().replace("_", "-") for component in sbom["components"]}
    code = "import importlib.metadata as m, json; print(json.dumps([d.name.lower().replace('_', '-') for d in m.distributions()]))"
    installed = set(json.loads(ran(serving_image, "/opt/venv/bin/python", "-c", code))) - {"pip", "setuptools"}
    assert installed - {"mlops-pipeline"} <= listed
    assert {"onnxruntime", "uvicorn", "mlops-pipeline"} <= installed
    assert not installed & {"scikit-learn", "pandas", "mlflow", "polars", "dvc", "prefect", "uv", "hatchling"}
    assert size(serving_image) - size(base_image("docker/Dockerfile.serve")) <= 250e6


@pytest.mark.parametrize("dockerfile", ["docker/Dockerfile.serve", "docker/Dockerfile"])
def test_a_changed_file_makes_no_dependency_anew_and_no_secret_of_the_tree_gets_into_an_image(
    dockerfile: str, serving_image: str, training_image: str, tmp_path: Path
) -> None:
    serves = dockerfile.endswith(".serve")
    there = context(tmp_path / "context")
    tag = "mlops-pipeline:tests-changed"
    before = [layers(image) for image in (serving_image, built(dockerfile, tag, context=there))] if serves else []
    file = there / "src/mlops_pipeline/config/serving.py"
    if serves:  # once is enough for both, as their files say the same of layers
        file.write_text(file.read_text() + "\nCHANGED = True\n")
    secret = uuid.uuid4().hex
    places = (
        "src/mlops_pipeline/.env",
        "src/mlops_pipeline/secrets/key",
        "configs/.env",
        "configs/secrets/key",
        "prefect/.env",
        "data/raw/rows",
    )
    for place in places:
        (there / place).parent.mkdir(exist_ok=True, parents=True)
        (there / place).write_text(secret)
    image = built(dockerfile, tag, context=there)
    if serves:
        after = layers(image)
        assert before[0] == before[1] != after
        assert after[:-DEPENDENCY_LAYERS] == before[0][:-DEPENDENCY_LAYERS]
    searched = ["/opt/venv/lib/python3.11/site-packages/mlops_pipeline", "/etc/mlops" if serves else "/opt/project"]
    assert "config/serving.py" in ran("--entrypoint", "grep", image, "-rl", "class Serving", *searched)
    assert ran("--entrypoint", "grep", image, "-r", secret, *searched, code=1) == ""
    docker("rmi", "--force", image)


def test_the_pipeline_runs_in_its_image_and_keeps_its_state_on_a_volume(training_image: str, volume: str, tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv")
    tmp_path.chmod(0o755)
    settings = {**SMALL_SETTINGS, "dataset": {**SMALL_SETTINGS["dataset"], "source": {"path": "data/table.csv"}}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**settings, "paths": {"root": "pipelines/small"}}, sort_keys=False))
    place = ("--volume", f"{volume}:/project")
    words = (*HARDENED, *place)
    bring = "mkdir -p pipelines/small data && cp /given/table.csv data/ && cp /given/small.yaml configs/"
    ran(*words, "--volume", f"{tmp_path}:/given:ro", training_image, "sh", "-c", bring)
    said = ran(*words, training_image, "mlops", "run", "--config", "configs/small.yaml")
    assert "small version 1: champion" in said
    again = ran(*words, training_image, "mlops", "run", "--config", "configs/small.yaml")
    assert again.count("up to date") == 6
    compiled = "find src -name '*.pyc' | wc -l; find src -name '*.pyc' -newer .from-image"
    count, *anew = ran(*words, training_image, "sh", "-c", compiled).split()
    assert int(count) > 300
    assert anew == [], "what an empty volume is given needs no compiling"
    assert "small" in ran(*words, training_image, "mlops", "models", "list", "--config", "configs/small.yaml")


def test_settings_on_the_volume_are_the_user_s_and_stay(training_image: str, volume: str) -> None:
    place = ("--volume", f"{volume}:/project")
    ran(
        *HARDENED,
        *place,
        training_image,
        "sh",
        "-c",
        "echo '# mine' >>configs/training_config.yaml; echo '# mine' >>dvc.yaml; echo x >.from-image",
    )
    said = ran(*HARDENED, *place, training_image, "sh", "-c", "tail -n 1 configs/training_config.yaml; tail -n 1 dvc.yaml")
    assert "/project/configs/training_config.yaml stays as it is; the image's own is /opt/project/configs/training_config.yaml" in said
    assert said.count("# mine") == 1
    assert "stays" not in ran(*HARDENED, *place, training_image, "true")


def test_a_folder_that_is_no_project_is_not_written_into(training_image: str, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    said = ran("--user", "0:0", "--volume", f"{tmp_path}:/project", training_image, "mlops", "status", code=2)
    assert (
        said.strip()
        == "error: /project: holds src, but no .dvc: run 'git init && dvc init' in your project first, or mount an empty folder"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_a_project_of_ones_own_is_mounted_and_stays_as_it_is(training_image: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    before = {path.name for path in project.folder.iterdir()}
    place = f"{project.folder}:/project"
    said = ran(*HARDENED, "--user", "0:0", "--volume", place, training_image, "mlops", "run", "--config", "pipeline.yaml")
    assert "small version 1: champion" in said
    made = {path.name for path in project.folder.iterdir()} - before
    assert made == {"data", "models", "mlflow", "dvc.yaml", "dvc.lock", "mlops.lock"}


def test_servers_that_the_compose_file_takes_from_the_training_image_are_there(training_image: str) -> None:
    programs = " && ".join(f"{program} --help" for program in ("mlops", "mlflow", "prefect", "dvc"))
    code = "import boto3, psycopg, lightgbm, evidently; print('all of them')"
    assert ran(*HARDENED, training_image, "sh", "-c", f'{programs} && exec python3 -c "$0"', code).strip().endswith("all of them")
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", training_image))
    assert labels["org.opencontainers.image.title"] == "mlops-pipeline"
    assert json.loads(ran(training_image, "cat", "/usr/share/sbom/mlops-pipeline.cdx.json"))["components"]
