"""The Deployment's pod, run by `podman kube play` as committed, but for what podman 4.3 cannot do (`for_podman` says what)."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.conftest import REPOSITORY, Project, lacking, unused_port, wait_for
from tests.integration_tests import faults
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import is_healthy
from tests.integration_tests.test_images import DIGEST, KEY, example_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("images")]

MANIFEST = REPOSITORY / "k8s/model-deployment.yaml"
STATE = "/var/lib/mlops"
PAUSE = "localhost/mlops-test-pause:tests"
AUTHORISED = {"Authorization": f"Bearer {KEY}"}


# ------------------------------------------------------------------------------------------------------------- podman


@dataclass(frozen=True)
class Podman:
    """Podman with an image for what holds a pod's network, since its own wants a program that few machines have."""

    conf: Path

    def __call__(self, *words: str, check: bool = True, text: str | None = None) -> str:
        environ = {**os.environ, "CONTAINERS_CONF": str(self.conf)}
        done = subprocess.run(["podman", *words], env=environ, input=text, capture_output=True, text=True, timeout=300, check=False)
        if check and done.returncode:
            raise AssertionError(f"podman {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout.strip()

    def image(self, tag: str) -> str:
        """An image that the docker client has built, under podman's own name; handed over if the two do not share their images."""
        if subprocess.run(["podman", "image", "exists", tag], check=False).returncode:
            with subprocess.Popen(["docker", "save", tag], stdout=subprocess.PIPE) as saved:
                subprocess.run(["podman", "load", "--quiet"], stdin=saved.stdout, check=True, capture_output=True)
        return self("image", "inspect", "--format", "{{index .RepoTags 0}}", tag)

    def derived(self, image: str, tag: str, line: str, folder: Path) -> str:
        """An image with one more line."""
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(f"FROM {image}\n{line}\n")
        self("build", "--quiet", "--format", "docker", "--tag", tag, str(folder))
        return tag


@pytest.fixture(scope="module")
def podman(serving_image: str, tmp_path_factory: pytest.TempPathFactory) -> Podman:
    if not shutil.which("podman"):
        lacking("podman", "apt-get install podman")
    folder = tmp_path_factory.mktemp("podman")
    stated = Path(os.environ.get("CONTAINERS_CONF", folder / "none"))
    text = stated.read_text() if stated.is_file() else "[engine]\n"
    (folder / "containers.conf").write_text(text.replace("[engine]\n", f'[engine]\ninfra_image = "{PAUSE}"\n', 1))
    made = Podman(folder / "containers.conf")
    made.derived(made.image(serving_image), PAUSE, 'CMD ["sleep", "infinity"]', folder / "pause")
    return made


@pytest.fixture(scope="module")
def twice(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with two versions that answer differently."""
    project = faults.two_versions(tmp_path_factory.mktemp("twice") / "project", registered)
    faults.promote(project, "1")
    return project


def committed(kind: str) -> dict[str, Any]:
    return next(content for content in yaml.safe_load_all(MANIFEST.read_text()) if content["kind"] == kind)


def container_of(deployment: dict[str, Any]) -> dict[str, Any]:
    return dict(deployment["spec"]["template"]["spec"]["containers"][0])


def for_podman(podman: Podman, name: str, image: str, port: int, project: Project) -> str:
    """The committed ConfigMap and Deployment, changed in what differs from a cluster and nowhere else."""
    settings, deployment = committed("ConfigMap"), committed("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    # Names of this test alone; another image; no Service that leads to the pod.
    settings["metadata"]["name"] = volumes["config"]["configMap"]["name"] = f"{name}-config"
    deployment["metadata"]["name"] = name
    container["image"] = image
    container["ports"][0] |= {"hostPort": port, "hostIP": "127.0.0.1"}
    # No MLflow server: the registry is the project's own, which the pod may read and not write.
    content = yaml.safe_load(settings["data"]["serving_config.yaml"])
    content["registry"] |= {"uri": f"sqlite:///{project.folder}/mlflow/mlflow.db", "model": "small", "poll_s": 0.5}
    settings["data"]["serving_config.yaml"] = yaml.safe_dump(content)
    pod["volumes"].append({"name": "project", "hostPath": {"path": str(project.folder), "type": "Directory"}})
    container["volumeMounts"].append({"name": "project", "mountPath": str(project.folder), "readOnly": True})
    # Podman 4.3 hands a Secret's content on without decoding it.
    secret = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-keys"}, "data": {"api_keys": f"tests: {DIGEST}\n"}}
    del volumes["secrets"]["secret"]
    volumes["secrets"]["configMap"] = {"name": f"{name}-keys"}
    # It mounts nothing over a volume that the image declares, and makes one itself.
    if STATE in (json.loads(podman("image", "inspect", "--format", "{{json .Config.Volumes}}", image)) or {}):
        pod["volumes"].remove(volumes["state"])
        container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["mountPath"] != STATE]
    # It probes with a curl in the container, which ours has not, on the port's number, and joins the words of a command.
    probe = container["livenessProbe"]
    asked = probe.pop("httpGet")
    url = f"http://127.0.0.1:{container['ports'][0]['containerPort']}{asked['path']}"
    probe["exec"] = {
        "command": [f"python3 -c \"import urllib.request; urllib.request.urlopen('{url}', timeout={probe['timeoutSeconds'] - 1})\""]
    }
    # It stops a pod whose last container has ended, while it restarts that container: whichever is first.
    pod["containers"].append({"name": "held", "image": PAUSE, "securityContext": container["securityContext"]})
    return yaml.safe_dump_all([settings, secret, deployment])


@dataclass(frozen=True)
class Pod:
    """A pod at work."""

    podman: Podman
    name: str
    container: str
    url: str

    def is_ready(self) -> bool:
        return is_healthy(f"{self.url}/ready")

    def state(self, what: str) -> str:
        return self.podman("inspect", "--format", f"{{{{.State.{what}}}}}", self.container)

    def predicts(self, row: dict[str, Any]) -> tuple[int, Any]:
        return post(f"{self.url}/predict", {"records": [row]}, **AUTHORISED)[:2]


@contextmanager
def played(podman: Podman, image: str, project: Project) -> Iterator[Pod]:
    """The Deployment's pod under `podman kube play`, ready to answer."""
    name, port = f"mlops-test-{uuid.uuid4().hex[:10]}", unused_port()
    try:
        podman("kube", "play", "-", text=for_podman(podman, name, image, port, project))
        (container,) = (
            n for n in podman("ps", "--all", "--filter", f"name={name}", "--format", "{{.Names}}").split() if n.endswith("-server")
        )
        pod = Pod(podman, name, container, f"http://127.0.0.1:{port}")
        try:
            wait_for(pod.is_ready, 120, "a ready pod")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{podman('logs', container, check=False)}") from error
        yield pod
    finally:
        for found in podman("pod", "ps", "--filter", f"name={name}", "--format", "{{.Name}}").split():
            podman("pod", "rm", "--force", "--time", "0", found)
        podman("volume", "rm", "--force", f"{name}-config", f"{name}-keys", check=False)


# ------------------------------------------------------------------------------------------------------ a Service's part


@dataclass
class Endpoint:
    """A pod's address, and what its readiness probe has said of late."""

    url: str
    ready: bool = False
    failures: int = 0


@dataclass
class Traffic:
    """Clients of a Service: new connections go to the pods that are ready, in turn; one that is open stays where it is."""

    probe: dict[str, Any]
    body: bytes
    endpoints: list[Endpoint] = field(default_factory=list)
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Answers by address and version."""
    failed: list[str] = field(default_factory=list)
    _turn: Iterator[int] = field(default_factory=itertools.count)
    _threads: list[threading.Thread] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def add(self, url: str) -> Endpoint:
        self.endpoints.append(Endpoint(url))
        return self.endpoints[-1]

    def count(self, url: str = "", version: str = "") -> int:
        return sum(n for (where, what), n in list(self.answered.items()) if url in ("", where) and version in ("", what))

    def start(self, clients: int) -> None:
        self._threads += [threading.Thread(target=work) for work in (self.watch, *[self.ask] * clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every client finish its request; before the pods go."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(120)

    def watch(self) -> None:
        """Ask each pod as the kubelet does, with the period and the patience that the manifest states."""
        while not self._stopping.wait(self.probe["periodSeconds"]):
            for endpoint in list(self.endpoints):
                if is_healthy(f"{endpoint.url}/ready"):
                    endpoint.ready, endpoint.failures = True, 0
                else:
                    endpoint.failures += 1
                    endpoint.ready = endpoint.ready and endpoint.failures < self.probe["failureThreshold"]

    def ask(self) -> None:
        while not self._stopping.is_set():
            ready = [endpoint for endpoint in list(self.endpoints) if endpoint.ready]
            if not ready:
                self._stopping.wait(0.05)
                continue
            self._converse(ready[next(self._turn) % len(ready)].url)

    def _converse(self, url: str) -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        try:
            for _ in range(50):
                if self._stopping.is_set():
                    return
                connection.request("POST", "/predict", self.body, {"Content-Type": "application/json", **AUTHORISED})
                answer = connection.getresponse()
                closes, content = answer.will_close, json.loads(answer.read())
                if answer.status != 200:
                    self.failed.append(f"{url}: {answer.status} {content}")
                    return
                self.answered[url, content["model"]["version"]] += 1
                if closes:
                    return
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.failed.append(f"{url}: {error!r}")
        finally:
            connection.close()


@contextmanager
def traffic(row: dict[str, Any], clients: int = 4) -> Iterator[Traffic]:
    probe = container_of(committed("Deployment"))["readinessProbe"]
    made = Traffic(probe, json.dumps({"records": [row]}).encode())
    made.start(clients)
    try:
        yield made
    finally:
        made.stop()


# -------------------------------------------------------------------------------------------------------------- the tests


def test_the_pod_answers_a_prediction_from_within_its_confines(podman: Podman, serving_image: str, twice: Project) -> None:
    row, expected = example_of(twice)[0], faults.expected_of(twice)["1"]
    with played(podman, podman.image(serving_image), twice) as pod:
        status, said = pod.predicts(row)
        assert (status, said["model"]["version"]) == (200, "1")
        assert list(said["predictions"][0]["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
        assert post(f"{pod.url}/predict", {"records": [row]})[0] == 401
        pid = pod.state("Pid")
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        facts = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert facts["Uid"].split() == facts["Gid"].split() == ["10001"] * 4
        assert {int(facts[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {0}
        assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
        options = {
            place: words.split(",") for _, place, _, words, *_ in map(str.split, Path(f"/proc/{pid}/mounts").read_text().splitlines())
        }
        assert "ro" in options["/"], "the root file system can be written, if not by this user"
        for place in ("/", "/opt", "/etc/mlops", "/run/secrets/mlops", str(twice.folder)):
            assert podman("exec", pod.container, "sh", "-c", f"touch {place}/x 2>/dev/null || echo refused") == "refused", place
        podman("exec", pod.container, "touch", "/tmp/x", f"{STATE}/x")  # noqa: S108  # in the pod


def test_a_wedged_server_is_restarted_by_the_liveness_probe(podman: Podman, serving_image: str, twice: Project) -> None:
    """Podman runs the probe when it is told to (it has no clock without systemd); what then happens is podman's own doing."""
    row = example_of(twice)[0]
    probe = container_of(committed("Deployment"))["livenessProbe"]
    with played(podman, podman.image(serving_image), twice) as pod:
        before = pod.state("Pid")
        for _ in range(probe["failureThreshold"]):
            podman("healthcheck", "run", pod.container)
        assert pod.state("Pid") == before, "a server that is well was restarted"
        # The supervisor alone would not be missed: its workers go on answering.
        for process in (int(before), *faults.children(int(before), b"")):
            os.kill(process, signal.SIGSTOP)
        assert not pod.is_ready()
        for _ in range(probe["failureThreshold"]):
            assert pod.state("Pid") == before, "it was restarted before the probe had failed often enough"
            podman("healthcheck", "run", pod.container, check=False)
        wait_for(pod.is_ready, 120, "the pod's second life")
        assert pod.state("Pid") != before
        assert pod.predicts(row)[0] == 200


def test_a_killed_server_comes_back(podman: Podman, serving_image: str, twice: Project) -> None:
    with played(podman, podman.image(serving_image), twice) as pod:
        before = int(pod.state("Pid"))
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: pod.state("Pid") not in {"0", str(before)} and pod.is_ready(), 120, "the pod's second life")
        assert pod.predicts(example_of(twice)[0])[0] == 200


def test_a_new_image_takes_over_without_a_failed_request(podman: Podman, serving_image: str, twice: Project, tmp_path: Path) -> None:
    """The steps of a rolling update with maxUnavailable 0: another pod, ready; then SIGTERM to the old one, which drains."""
    old_image = podman.image(serving_image)
    new_image = podman.derived(old_image, "localhost/mlops-pipeline-serve:tests-next", "ENV MLOPS_GIT_COMMIT=next", tmp_path / "next")
    grace = committed("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    with played(podman, old_image, twice) as old, traffic(example_of(twice)[0]) as seen:
        leaving = seen.add(old.url)
        wait_for(lambda: seen.count(old.url) > 200, 120, "answers of the old pod")
        with played(podman, new_image, twice) as new:
            arriving = seen.add(new.url)
            wait_for(lambda: seen.count(new.url) > 200, 120, "answers of the new pod")
            began, stop = time.monotonic(), subprocess.Popen(["podman", "stop", "--time", str(grace), old.container])
            try:
                # Counted before each probe: on a busy machine the Service may have left the pod out by the time of its answer.
                answers: list[int] = []
                wait_for(lambda: answers.append(seen.count(old.url)) or not old.is_ready(), 120, "an old pod that says it is not ready")
                while_draining = answers[-1]
                wait_for(lambda: not leaving.ready, 120, "a Service that leaves out the old pod")
                assert seen.count(old.url) > while_draining, "the old pod took nothing while the Service still led to it"
            finally:
                assert stop.wait(grace + 10) == 0
            assert time.monotonic() - began < grace, "it was killed at the end of its time"
            assert old.state("ExitCode") == "0"
            after = seen.count(new.url)
            wait_for(lambda: seen.count(new.url) > after + 200, 120, "answers of the new pod alone")
            assert arriving.ready
            assert "MLOPS_GIT_COMMIT=next" in podman("exec", new.container, "env")
            seen.stop()
    assert seen.failed == []


def test_a_new_champion_takes_over_without_a_failed_request(podman: Podman, serving_image: str, twice: Project) -> None:
    with played(podman, podman.image(serving_image), twice) as pod, traffic(example_of(twice)[0]) as seen:
        seen.add(pod.url)
        wait_for(lambda: seen.count(version="1") > 200, 120, "answers of the first version")
        life = pod.state("Pid")
        try:
            faults.promote(twice, "2")
            wait_for(lambda: seen.count(version="2") > 200, 120, "answers of the second version")
        finally:
            faults.promote(twice, "1")
        wait_for(lambda: pod.predicts(example_of(twice)[0])[1]["model"]["version"] == "1", 120, "the first version again")
        assert pod.state("Pid") == life
        seen.stop()
    assert seen.failed == []
