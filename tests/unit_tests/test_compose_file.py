"""docker/docker-compose.yml: what is promised of every service, read from the file and from what podman-compose makes of it."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY, lacking, process_environment

DOCKER = REPOSITORY / "docker"
FILE = yaml.safe_load((DOCKER / "docker-compose.yml").read_text())
LOCAL = yaml.safe_load((DOCKER / "docker-compose.local.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
EXAMPLE = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", (DOCKER / ".env.example").read_text(), re.MULTILINE))
VERSION = re.findall(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)[0]


def test_the_files_follow_the_compose_specification() -> None:
    files = [str(DOCKER / name) for name in ("docker-compose.yml", "docker-compose.local.yml")]
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *files]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_checked_limited_hardened_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    for needed in service.get("depends_on", {}).values():
        assert needed == {"condition": "service_healthy"}


def test_ports_are_published_on_loopback_only_and_the_storage_not_at_all() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port), name
        assert "network_mode" not in service
    assert not [name for name in ("postgresql", "s3", "worker") if "ports" in SERVICES[name]]
    assert FILE["networks"]["storage"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if service["networks"] == ["storage"]} == {"postgresql", "s3"}


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    if "build" in SERVICES[name]:
        assert image.endswith(f":${{VERSION:-{VERSION}}}")
    else:
        assert re.fullmatch(r"docker\.io/[\w./-]+:v?\d+\.\d+(\.\d+)?@sha256:[0-9a-f]{64}", image)


def test_secrets_are_files_and_never_values() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN|CREDENTIALS", key):
                assert value.startswith("/run/secrets/"), f"{name}: {key}"
            assert not re.search(r"://[^/\s]*:[^/\s]*@", value), f"{name}: {key}"
        for secret in service.get("secrets", []):
            assert secret in FILE["secrets"]
    assert all(set(secret) == {"file"} for secret in FILE["secrets"].values())
    assert not [name for name in EXAMPLE if re.search("PASSWORD|TOKEN|_KEY", name)]
    assert {word for service in SERVICES.values() for word in service.get("secrets", [])} == set(FILE["secrets"])


def test_the_example_names_every_variable_and_its_default_and_no_other() -> None:
    text = (DOCKER / "docker-compose.yml").read_text() + (DOCKER / "docker-compose.local.yml").read_text()
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    assert used == set(EXAMPLE)
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text):
        assert EXAMPLE[name] == default


def test_what_is_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DOCKER / source).exists() if source.startswith("./") else source in FILE["volumes"], f"{name}: {volume}"
            assert not source.startswith("./") or volume.endswith(":ro"), f"{name}: {volume}"


def test_the_local_file_builds_every_image_that_is_pulled_otherwise_or_leaves_it_out() -> None:
    assert {name for name, service in LOCAL["services"].items() if "profiles" in service} == {"grafana"}
    for name, service in LOCAL["services"].items():
        if "profiles" not in service:
            assert service["build"]["args"] == {"BASE_IMAGE": "${BASE_IMAGE:?name a base image that this machine has}"}
            assert "build" in SERVICES[name] or (DOCKER / service["build"]["context"] / "Dockerfile").is_file()
    assert set(LOCAL["services"]) == set(SERVICES)


def test_podman_compose_fills_the_variables_in(tmp_path: Path) -> None:
    if not shutil.which("podman"):
        lacking("podman", "apt-get install podman")
    environ = process_environment(LOCAL_IMAGES="1", BASE_IMAGE="example/base:1", MLFLOW_PORT="15000", SECRETS_FOLDER=str(tmp_path))
    files = [word for name in ("docker-compose.yml", "docker-compose.local.yml") for word in ("-f", str(DOCKER / name))]
    words = [sys.executable, "-m", "podman_compose", *files, "config"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = yaml.safe_load(done.stdout)
    assert made["services"]["mlflow"]["ports"] == ["127.0.0.1:15000:5000"]
    assert made["services"]["prefect-server"]["environment"]["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:4200/api"
    assert made["secrets"]["api_keys"]["file"] == f"{tmp_path}/api_keys"
    assert made["services"]["postgresql"]["image"] == f"mlops-postgresql:{VERSION}"
    assert "$(cat /run/secrets/mlflow_database_password)" in made["services"]["mlflow"]["entrypoint"][-1]


def test_secrets_are_made_once_and_only_the_user_can_reach_them(tmp_path: Path) -> None:
    if not shutil.which("podman"):
        lacking("podman", "apt-get install podman")
    folder = tmp_path / "secrets"

    def make() -> dict[str, str]:
        subprocess.run([str(DOCKER / "compose"), "secrets"], env=process_environment(SECRETS_FOLDER=str(folder)), check=True)
        return {file.name: file.read_text() for file in folder.iterdir()}

    made = make()
    assert make() == made
    assert set(made) == {*FILE["secrets"], "api_key"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "grafana_password").unlink()
    again = make()
    assert again.pop("grafana_password") != made.pop("grafana_password")
    assert again == made


def test_scripts_and_dockerfiles_are_clean() -> None:
    scripts = [
        DOCKER / "compose",
        DOCKER / "s3/start",
        DOCKER / "worker/start",
        DOCKER / "watch/start",
        DOCKER / "postgresql/docker-entrypoint",
    ]
    dockerfiles = sorted(DOCKER.glob("*/Dockerfile"))
    assert len(dockerfiles) == 3
    for words in (["shellcheck", *scripts], ["hadolint", *dockerfiles], ["ruff", "check", DOCKER / "await"]):
        done = subprocess.run(words, env=process_environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", sorted((DOCKER / "grafana/dashboards").iterdir()), ids=lambda file: file.stem)
def test_a_dashboard_asks_for_metrics_that_the_server_has(file: Path) -> None:
    source = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/dashboards.yaml").read_text())["providers"]
    mounted = dict(volume.split(":")[1::-1] for volume in SERVICES["grafana"]["volumes"])
    assert mounted[provider["options"]["path"]] == "./grafana/dashboards"
    dashboard = json.loads(file.read_text())
    assert dashboard["uid"] == file.stem
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {entry["uid"] for entry in source}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = [(p["gridPos"]["x"], p["gridPos"]["y"], p["gridPos"]["w"], p["gridPos"]["h"]) for p in dashboard["panels"]]
    cells = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    sources = ("serving/metrics.py", "monitoring/exposed.py")
    metrics = "".join((REPOSITORY / "src/mlops_pipeline" / source).read_text() for source in sources)
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            for name in re.findall(r"\bmlops_(\w+?)(?:_total|_bucket|_sum|_count)?\b(?=[{\[ )]|$)", target["expr"]):
                assert re.search(rf'"(mlops_)?{name}"', metrics), name
