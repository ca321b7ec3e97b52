"""The platform of docker/docker-compose.yml, brought up by docker/compose as a user does, on ports and volumes of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY, lacking, process_environment, unused_port, wait_for
from tests.integration_tests.clients import get, post
from tests.integration_tests.conftest import is_healthy

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("compose")]

DOCKER = REPOSITORY / "docker"
SERVICES = ("postgresql", "s3", "mlflow", "prefect-server", "worker", "model-server", "watch", "prometheus")
FLIGHT = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "distance": 1400, "scheduled_minute": 315, "flights_that_day": 842}
RAW = {"year": 2013, "month": 8, "day": 1, "hour": 5, "minute": 15, "time_hour": "2013-08-01T09:00:00Z", "flight": 1545}
FEWER_TREES = "mkdir configs; sed 's/n_estimators: 300$/n_estimators: 44/' /opt/project/$0 >$0; grep 'n_estimators: 44$' $0"
BUCKET = """
import boto3, os
client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
for page in client.get_paginator("list_objects_v2").paginate(Bucket="mlflow"):
    for item in page.get("Contents", []):
        print(item["Key"])
"""


@dataclass(frozen=True)
class Platform:
    """A project of containers: its environment, and where its parts answer."""

    environ: dict[str, str]
    secrets: Path

    def compose(self, *words: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        begun = time.monotonic()
        done = subprocess.run(
            [str(DOCKER / "compose"), *words], env=self.environ, capture_output=True, text=True, timeout=timeout, check=False
        )
        print(f"docker/compose {' '.join(words[:4])}: {time.monotonic() - begun:.1f} s")
        assert done.returncode == 0 or not check, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done

    def inside(self, service: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(["podman", "exec", self.container(service), *words], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0 or not check, f"{service}: {done.stdout}\n{done.stderr}"
        return done

    def url(self, part: str) -> str:
        return f"http://127.0.0.1:{self.environ[f'{part}_PORT']}"

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

    def predict(self, request: str = "", key: str | None = None, **changes: Any) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {key or self.secret('api_key')}"}
        headers |= {"X-Request-Id": request} if request else {}
        status, said, _ = post(f"{self.url('MODEL_SERVER')}/predict", {"records": [{**FLIGHT, **changes}]}, **headers)
        return status, said

    def query(self, expression: str) -> list[Any]:
        """What Prometheus says to an expression; one it does not understand fails the test."""
        status, said, _ = get(f"{self.url('PROMETHEUS')}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert status == 200, f"{expression}: {said}"
        return list(said["data"]["result"])

    def sql(self, statement: str) -> str:
        words = ("psql", "--username=postgres", "--dbname=records", "--no-psqlrc", "--tuples-only", "--no-align", "--command", statement)
        return self.inside("postgresql", *words).stdout.strip()

    def container(self, service: str) -> str:
        return f"{self.environ['COMPOSE_PROJECT_NAME']}_{service}_1"


@pytest.fixture(scope="module")
def platform(training_image: str, serving_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Everything up, trained once and served; gone afterwards, with its volumes."""
    if not shutil.which("podman-compose") or not shutil.which("podman"):
        lacking("podman with podman-compose", "apt-get install podman; pip install podman-compose")
    if not os.environ.get("BASE_IMAGE"):
        lacking("a base image for docker-compose.local.yml", "export BASE_IMAGE=… (see CONTRIBUTING.md)")
    secrets = tmp_path_factory.mktemp("compose") / "secrets"
    ports = {f"{part}_PORT": str(unused_port()) for part in ("MLFLOW", "PREFECT", "MODEL_SERVER", "PROMETHEUS", "GRAFANA")}
    environ = process_environment(
        ENGINE="podman",
        COMPOSE_PROJECT_NAME=f"mlopstest{uuid.uuid4().hex[:8]}",
        SECRETS_FOLDER=str(secrets),
        LOCAL_IMAGES="1",
        VERSION="tests",
        **ports,
    )
    made = Platform(environ, secrets)
    # What a user has put on the volume stays: less training, whose figures nobody asks for here, is 13 s of a core.
    put = ["podman", "run", "--rm", "--volume", f"{environ['COMPOSE_PROJECT_NAME']}_project:/project", "--entrypoint", "sh", training_image]
    try:
        subprocess.run([*put, "-c", FEWER_TREES, "configs/training_config.yaml"], check=True)
        assert "model-server is healthy" in made.compose(timeout=1200).stdout
        yield made
    finally:
        # Nothing is to be kept, so nothing is waited for.
        mine = ["podman", "ps", "--quiet", "--filter", f"name=^{environ['COMPOSE_PROJECT_NAME']}_"]
        up = subprocess.run(mine, capture_output=True, text=True, check=False).stdout.split()
        subprocess.run(["podman", "stop", "--time", "0", *up], capture_output=True, check=False)
        made.compose("down", "--volumes", check=False)
        # podman-compose leaves the volumes of a container that was just being started again.
        left = subprocess.run(["podman", "volume", "ls", "--quiet"], capture_output=True, text=True, check=False).stdout.split()
        for name in (volume for volume in left if volume.startswith(environ["COMPOSE_PROJECT_NAME"])):
            subprocess.run(["podman", "volume", "rm", "--force", name], capture_output=True, check=False)


def test_a_deployment_run_on_the_worker_becomes_a_champion_that_is_served(platform: Platform) -> None:
    assert platform.predict(key="guessed")[0] == 401
    status, answer = platform.predict()
    assert (status, answer["model"]) == (200, {"name": "champion", "version": "1"})
    assert 0 < answer["predictions"][0]["probabilities"]["1"] < 1
    found = get(f"{platform.url('MLFLOW')}/api/2.0/mlflow/registered-models/alias?name=flights&alias=champion")[1]
    assert found["model_version"]["version"] == "1"


def test_artifacts_lie_in_the_bucket_and_clients_need_no_keys(platform: Platform) -> None:
    kept = platform.inside("mlflow", "python3", "-c", BUCKET).stdout.split()
    assert {"MLmodel", "settings.yaml", "evaluation.json"} <= {Path(key).name for key in kept}
    assert all(key.startswith("artifacts/") for key in kept)
    for service in ("worker", "model-server"):
        assert platform.inside(service, "sh", "-c", "env; ls /run/secrets 2>/dev/null", check=False).stdout.lower().count("s3_") == 0


def test_predictions_are_on_record_in_postgresql(platform: Platform) -> None:
    assert platform.predict(request="asked-by-the-test")[0] == 200
    asked = "SELECT model, version, rows FROM mlops_predictions WHERE request_id = 'asked-by-the-test'"
    wait_for(lambda: platform.sql(asked) == "champion|1|1", 120, "the record in PostgreSQL")


def test_raw_flights_are_computed_from_the_state_that_the_training_made(platform: Platform) -> None:
    status, answer = platform.predict(**RAW)
    assert status == 200, answer
    assert {found["column"] for found in answer["warnings"]} == {"scheduled_minute", "flights_that_day"}  # computed, not looked at
    assert answer["predictions"] != platform.predict()[1]["predictions"]


def test_the_watch_runs_and_the_server_shows_what_it_found(platform: Platform) -> None:
    wait_for(lambda: platform.query('mlops_monitor_run_seconds{pipeline="flights"}'), 120, "the watch's figures in Prometheus")


def test_each_role_reaches_its_own_database_and_no_other(platform: Platform) -> None:
    own = platform.secret("records_uri").replace("@postgresql:", "@127.0.0.1:")
    assert platform.inside("postgresql", "psql", own, "-Atc", "SELECT current_user").stdout.strip() == "records"
    for other in ("mlflow", "prefect", "postgres"):
        refused = platform.inside("postgresql", "psql", own.removesuffix("records") + other, "-c", "SELECT 1", check=False)
        assert "permission denied for database" in refused.stdout + refused.stderr


def test_the_worker_reaches_neither_the_database_nor_the_storage(platform: Platform) -> None:
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    assert platform.inside("mlflow", "python3", "-c", reach, "postgresql", "5432").returncode == 0
    for host, port in (("postgresql", "5432"), ("s3", "8333")):
        assert platform.inside("worker", "python3", "-c", reach, host, port, check=False).returncode != 0
    # The storage's own ports ask for no keys, so not even those beside it may reach them.
    for port in ("8888", "9333", "8080", "18888"):
        assert "refused" in platform.inside("mlflow", "python3", "-c", reach, "s3", port, check=False).stderr


def test_containers_have_no_rights_and_show_no_secrets(platform: Platform) -> None:
    secret = [platform.secret(file.name) for file in platform.secrets.iterdir()]
    words = {word for content in secret for word in re.findall(r"[0-9a-f]{20,}", content)}
    assert len(words) >= 8
    for service in SERVICES:
        state = platform.inside(service, "sh", "-c", "grep -E 'CapEff|NoNewPrivs|^Uid' /proc/1/status; touch /written", check=False)
        facts = dict(line.split(":\t", 1) for line in state.stdout.splitlines() if ":\t" in line)
        assert int(facts["CapEff"], 16) == 0, service
        assert facts["NoNewPrivs"] == "1", service
        assert not facts["Uid"].startswith("0\t"), service
        assert "Read-only file system" in state.stderr, service
        shown = subprocess.run(["podman", "inspect", platform.container(service)], capture_output=True, text=True, check=True).stdout
        assert not [word for word in words if word in shown], service
        published = json.loads(shown)[0]["HostConfig"]["PortBindings"] or {}
        assert {binding["HostIp"] for bindings in published.values() for binding in bindings} <= {"127.0.0.1"}, service


def test_prometheus_scrapes_the_server_and_the_dashboard_finds_its_figures(platform: Platform) -> None:
    assert platform.predict(carrier="never seen")[0] == 200
    assert platform.predict(distance="far")[0] == 422
    wait_for(lambda: [r["value"][1] for r in platform.query('up{job="model-server"}')] == ["1"], 120, "a scrape")
    counted = 'sum(mlops_requests_total{protocol="predict", status="200"})'
    wait_for(lambda: [float(r["value"][1]) >= 2 for r in platform.query(counted)] == [True], 120, "the counted requests")
    dashboard = json.loads((DOCKER / "grafana/dashboards/model-server.json").read_text())
    expressions = [target["expr"].replace("$__rate_interval", "1m") for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) >= 15
    for expression in expressions:
        wait_for(lambda expression=expression: platform.query(expression), 120, f"a figure for {expression}")


def test_prometheus_evaluates_every_rule_on_metrics_that_exist(platform: Platform) -> None:
    files = ("rules.yml", "monitoring_rules.yml")
    written = [group for file in files for group in yaml.safe_load((DOCKER / "prometheus" / file).read_text())["groups"]]
    expected = {rule["alert"] for group in written for rule in group["rules"]}

    def rules() -> dict[str, str]:
        groups = get(f"{platform.url('PROMETHEUS')}/api/v1/rules")[1]["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    wait_for(lambda: rules() == dict.fromkeys(expected, "ok"), 120, f"good health of {expected}")
    families = set(re.findall(r"^# TYPE (\w+)", get(f"{platform.url('MODEL_SERVER')}/metrics")[1].decode(), re.MULTILINE))
    used = {name for group in written for rule in group["rules"] for name in re.findall(r"\bmlops_\w+", rule["expr"])}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} <= families


def test_alerts_fire_when_they_should_and_only_then(platform: Platform) -> None:
    files = f"{DOCKER}/prometheus:/rules:ro", f"{Path(__file__).with_name('alerts_test.yml')}:/alerts_test.yml:ro"
    mounts = [word for file in files for word in ("--volume", file)]
    image = f"mlops-prometheus:{platform.environ['VERSION']}"
    words = ["podman", "run", "--rm", *mounts, "--entrypoint", "promtool", image]
    for check in (
        ["check", "config", "--syntax-only", "/rules/prometheus.yml"],
        ["check", "rules", "/rules/rules.yml", "/rules/monitoring_rules.yml"],
    ):
        done = subprocess.run([*words, *check], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([*words, "test", "rules", "/alerts_test.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_is_still_there_after_down_and_up(platform: Platform) -> None:
    assert platform.predict(request="before-it-went-down")[0] == 200
    kept = "SELECT count(*) FROM mlops_predictions WHERE request_id = 'before-it-went-down'"
    wait_for(lambda: platform.sql(kept) == "1", 120, "the record in PostgreSQL")
    scraped = platform.query("time()")[1]
    platform.compose("down")
    assert not is_healthy(f"{platform.url('MODEL_SERVER')}/live")
    platform.compose("up", "--detach")
    begun = time.monotonic()
    wait_for(lambda: is_healthy(f"{platform.url('MODEL_SERVER')}/ready"), 180, "the champion served again")
    print(f"served again after {time.monotonic() - begun:.1f} s")
    status, answer = platform.predict()
    assert (status, answer["model"]["version"]) == (200, "1")
    assert platform.sql(kept) == "1"
    wait_for(lambda: is_healthy(f"{platform.url('PREFECT')}/api/health"), 120, "Prefect's server")
    assert [run["state_type"] for run in post(f"{platform.url('PREFECT')}/api/flow_runs/filter", {})[1]] == ["COMPLETED"]
    wait_for(lambda: is_healthy(f"{platform.url('PROMETHEUS')}/-/ready"), 120, "Prometheus")
    assert platform.query(f'up{{job="model-server"}} @ {scraped}') != []
