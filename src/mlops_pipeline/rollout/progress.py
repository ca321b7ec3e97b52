"""How far a rollout is, why its pods fail, and what it was before: functions of what the cluster says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"
CRASHES = 3  # a container that could not start because another part was late has had 70 seconds by then

_STARTING = ("ContainerCreating", "PodInitializing")
_HOPELESS = ("InvalidImageName", "ErrImageNeverPull")


@dataclass(frozen=True)
class Progress:
    """A rollout at one moment; ``failed`` says why it cannot end well."""

    text: str
    done: bool = False
    failed: str | None = None


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not run; ``log`` names the container whose last words say more."""

    text: str
    hopeless: bool = False
    pod: str = ""
    log: str | None = None


def progress_of(deployment: dict[str, Any], stale: dict[str, Any] | None = None) -> Progress:
    """The state of a Deployment's rollout by the rules of ``kubectl rollout status``.

    They are in kubectl's pkg/polymorphichelpers/rollout_status.go, ``DeploymentStatusViewer.Status``.
    A condition that is still the ``stale`` one tells of the rollout before: the controller keeps it until a pod makes progress.
    """
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    if not observed(deployment):
        return Progress("waiting for the cluster to take notice of the change")
    updated, available, ready, replicas = (
        int(status.get(key) or 0) for key in ("updatedReplicas", "availableReplicas", "readyReplicas", "replicas")
    )
    wanted = spec.get("replicas")
    of = updated if wanted is None else int(wanted)
    text = f"{updated} of {of} updated, {ready} ready, {available} available"
    old = replicas - updated
    text += f", {old} old still there" if old > 0 else ""
    condition = progress_condition(deployment)
    if condition.get("reason") == "ProgressDeadlineExceeded" and condition != stale:
        return Progress(text, failed="exceeded its progress deadline")
    return Progress(text, done=updated >= of and replicas <= updated and available >= updated)


def observed(deployment: dict[str, Any]) -> bool:
    """Whether the controller knows the Deployment as it is now; until then its status and revision are those of the one before."""
    generation = int((deployment.get("metadata") or {}).get("generation") or 0)
    return generation <= int((deployment.get("status") or {}).get("observedGeneration") or 0)


def came_up(deployment: dict[str, Any]) -> bool:
    """Whether the present version was once rolled out in full, however many of its pods are away or missing now."""
    if not observed(deployment):
        return False
    reason, status = progress_condition(deployment).get("reason"), deployment.get("status") or {}
    if reason:
        return bool(reason == "NewReplicaSetAvailable")
    # Without a progress deadline the controller writes no condition: no older pod is left, and one of these serves.
    return int(status.get("replicas") or 0) == int(status.get("updatedReplicas") or 0) and bool(status.get("availableReplicas"))


def progress_condition(deployment: dict[str, Any]) -> dict[str, Any]:
    """The condition in which the controller says how its rollout goes."""
    return _condition(deployment, "Progressing")


def refusal_of_pods(deployment: dict[str, Any]) -> Trouble | None:
    """Why the cluster creates no pods at all: a quota, an admission rule, a missing service account."""
    condition = _condition(deployment, "ReplicaFailure")
    return (
        Trouble(f"no pod is created: {condition.get('message') or condition.get('reason')}") if condition.get("status") == "True" else None
    )


def trouble_of(pod: dict[str, Any], late: bool = False) -> Trouble | None:
    """Why a pod does not run, or nothing; when it is late, also that it runs and is not ready."""
    name, status = str(pod["metadata"]["name"]), pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return None
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Trouble(f"pod {name} is not placed on a node: {condition.get('message') or condition.get('reason')}")
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        found = _trouble_of_container(name, container)
        if found:
            return found
        if late and "running" in (container.get("state") or {}) and container.get("ready") is False:
            who = f"pod {name}, container {container.get('name')}"
            return Trouble(f"{who}: runs, but its readiness probe has not passed", pod=name, log=container.get("name"))
    return None


def replica_set_of(deployment: dict[str, Any], replica_sets: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The ReplicaSet of the Deployment's present revision."""
    revision = _revision(deployment)
    return next((found for found in _owned(replica_sets, deployment) if revision and _revision(found) == revision), None)


def previous_template(deployment: dict[str, Any], replica_sets: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The pod template of the revision before, as ``kubectl rollout undo`` finds it, without the hash that the controller adds."""
    present = without_hash(deployment["spec"]["template"])
    by_age = sorted(_owned(replica_sets, deployment), key=_revision, reverse=True)
    templates = [without_hash(found["spec"]["template"]) for found in by_age if _revision(found)]
    return next((template for template in templates if template != present), None)


def pods_of(replica_set: dict[str, Any], pods: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pods that a ReplicaSet owns."""
    return _owned(pods, replica_set)


def without_hash(template: dict[str, Any]) -> dict[str, Any]:
    """A pod template without the label by which the controller tells ReplicaSets apart."""
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH}
    return {**template, "metadata": {**{k: v for k, v in metadata.items() if k != "creationTimestamp"}, "labels": labels}}


def _trouble_of_container(pod: str, container: dict[str, Any]) -> Trouble | None:
    name, restarts = str(container.get("name")), int(container.get("restartCount") or 0)
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    last = (container.get("lastState") or {}).get("terminated") or ended
    reason, message = waiting.get("reason"), waiting.get("message")
    who = f"pod {pod}, container {name}"
    if reason == "CrashLoopBackOff" or (ended and ended.get("exitCode")):
        how = f"{last.get('reason') or 'Error'}, exit code {last.get('exitCode')}" if last else "its end is not recorded"
        said = f": {last['message'].strip()}" if last.get("message") else ""
        times = f"{restarts} restart{'s' * (restarts != 1)}"
        hopeless = reason == "CrashLoopBackOff" and restarts >= CRASHES
        log = None if said else name
        return Trouble(f"{who}: {reason or 'ended'} after {times} ({how}){said}", hopeless=hopeless, pod=pod, log=log)
    if reason and reason not in _STARTING:
        return Trouble(f"{who}: {reason}" + (f": {message}" if message else ""), hopeless=reason in _HOPELESS)
    return None


def _condition(deployment: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = (deployment.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def _owned(items: Iterable[dict[str, Any]], owner: dict[str, Any]) -> list[dict[str, Any]]:
    uid = owner["metadata"].get("uid")
    return [item for item in items if any(o.get("uid") == uid for o in item["metadata"].get("ownerReferences") or ())]


def _revision(item: dict[str, Any]) -> int:
    text = str((item["metadata"].get("annotations") or {}).get(REVISION, ""))
    return int(text) if text.isdecimal() else 0
