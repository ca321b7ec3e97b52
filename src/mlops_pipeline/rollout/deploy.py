"""`mlops deploy`: look first, apply, wait for the rollout, and go back to the version before when it fails."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.rollout.changes import changes
from mlops_pipeline.rollout.cluster import (
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    SECRETS,
    Cluster,
    ClusterRefused,
    Resource,
    Say,
    Unreachable,
)
from mlops_pipeline.rollout.manifests import Manifest, images_of, needed_secrets, read_manifests, the_deployment, with_image
from mlops_pipeline.rollout.progress import (
    HASH,
    Progress,
    Trouble,
    came_up,
    observed,
    pods_of,
    previous_template,
    progress_condition,
    progress_of,
    refusal_of_pods,
    replica_set_of,
    trouble_of,
    without_hash,
)

SUCCEEDED, FAILED, STOPPED = 0, 1, 130

LOOK_S = 2.0  # how often the pods are looked at while the Deployment says nothing new
_LAST_LOOK_S = 5.0  # what a look at the pods and the log may take when the time for the rollout is over
_DIFF_LINES = 12
_LOG_LINES = 5
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Order:
    """What to deploy, and how."""

    path: Path
    image: str | None = None
    dry_run: bool = False
    force_conflicts: bool = False
    timeout_s: float = 600
    text: str | None = None
    """What the file would say, where it is not there."""


@dataclass(frozen=True)
class Target:
    """An object of the file, where it goes, and how the cluster has it before."""

    manifest: Manifest
    resource: Resource
    namespace: str | None
    before: dict[str, Any] | None = None
    known: bool = True  # False where the cluster cannot check it yet, because its namespace is not there

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.manifest.name)

    @property
    def label(self) -> str:
        return self.manifest.label


class _Overtaken(Exception):
    """Somebody else changed the pod template after the apply: the rollout is theirs now."""


def manifests_here(config: Path | None, say: Say) -> tuple[Path, str | None]:
    """The manifest file of this project; where it has none its place, and what it would say for the pipeline's model.

    Raises :class:`PipelineError` where there is neither.
    """
    from mlops_pipeline.config.finding import option_for, pipeline_here, project_here
    from mlops_pipeline.config.pipeline import load_settings
    from mlops_pipeline.layout import find_project, layout_of
    from mlops_pipeline.pipeline.render import rendered
    from mlops_pipeline.pipeline.render.kubernetes import FILE
    from mlops_pipeline.pipeline.render.terms import TRACKING_URI

    file = FILE if FILE.exists() else Path(os.path.relpath(project_here() / FILE))
    if file.exists() and config is None:
        return file, None
    path = config or pipeline_here()
    if path is None:
        raise PipelineError(f"{file}: is not there, nor a pipeline to render it for: name a manifest file with --manifests")
    settings = load_settings(path)
    (made,) = rendered(settings, layout_of(settings, path, find_project(path)), "kubernetes")
    model, option = settings.registry.model or settings.name, option_for(path)
    why = "is not there" if not file.exists() else "is left aside"
    say(
        f"{file} {why}: deploying what `mlops render --target kubernetes{option}` gives for the model {model} "
        f"and the registry {TRACKING_URI} (--output {file} writes it, to be changed)"
    )
    return file, made.text


def read_order(order: Order) -> list[Manifest]:
    """The objects of the file, with the image that was asked for."""
    manifests = read_manifests(order.path, order.text)
    deployment = the_deployment(manifests, order.path)
    if order.image is None:
        return manifests
    return [with_image(manifest, order.image) if manifest is deployment else manifest for manifest in manifests]


def deploy(cluster: Cluster, order: Order, manifests: list[Manifest], *, namespace_is_given: bool, say: Say) -> int:
    """Apply, wait, and go back if need be; 0 when the new version serves, 1 when it does not, 130 when stopped by the user.

    Raises :class:`PipelineError` in one line for what the user can mend.
    """
    rollout = _Rollout(cluster, order, say)
    try:
        return rollout.run(manifests, namespace_is_given)
    except KeyboardInterrupt:
        say(f"stopped: {rollout.state}")
        return STOPPED
    except _Overtaken as error:
        say(str(error))
        return FAILED
    except ClusterRefused as error:
        raise PipelineError(f"{cluster.address}: {error.message} ({rollout.state})") from error
    except Unreachable as error:
        where = f"context {cluster.context}" if cluster.context else "in-cluster configuration"
        raise PipelineError(f"{where}: {error}: check that the cluster runs and can be reached from here ({rollout.state})") from error


class _Rollout:
    """One deployment on its way; ``state`` tells at any moment what it has done to the cluster."""

    def __init__(self, cluster: Cluster, order: Order, say: Say) -> None:
        self.cluster, self.order, self.say = cluster, order, say
        self.state = "nothing was changed"
        self.changed: list[str] = []

    def run(self, manifests: list[Manifest], namespace_is_given: bool) -> int:
        where = f"context {self.cluster.context}" if self.cluster.context else "the cluster that this runs in"
        self.say(f"{where}, namespace {self.cluster.namespace}" + (" (dry run: nothing is changed)" if self.order.dry_run else ""))
        targets = self._placed(manifests, namespace_is_given)
        self._check_namespaces(targets)
        self._check_secrets(targets)
        targets = [self._planned(target) for target in targets]
        if self.order.dry_run:
            return SUCCEEDED
        for number, target in enumerate(targets):
            left = ", ".join(t.label for t in targets[number:])
            self.state = f"applied: {', '.join(t.label for t in targets[:number]) or 'nothing'}; not yet: {left}"
            applied = self._applied(target)
            self._tell(target, applied)
            if target.before is None or changes(target.before, applied):
                self.changed.append(target.label)
        # The Deployment is the last of the file.
        return self._follow(targets[-1], applied)

    def _placed(self, manifests: list[Manifest], namespace_is_given: bool) -> list[Target]:
        targets, unknown = [], []
        for manifest in manifests:
            resource = self.cluster.resource(manifest.api_version, manifest.kind)
            if resource is None:
                self._refuse_typo(manifest)
                unknown.append(f"{manifest.label} ({manifest.api_version})")
                continue
            namespace = (manifest.namespace or self.cluster.namespace) if resource.namespaced else None
            if namespace_is_given and namespace not in (None, self.cluster.namespace):
                raise PipelineError(
                    f"{manifest.place}: metadata.namespace = {namespace!r}: is not --namespace {self.cluster.namespace}: "
                    "leave one of them out"
                )
            targets.append(Target(manifest, resource, namespace))
        if unknown:
            self.say(f"left out, because the cluster does not know these kinds: {', '.join(unknown)}")
        return targets

    def _refuse_typo(self, manifest: Manifest) -> None:
        """What is not there is a mistake, but for the group of somebody else, which may just not be installed."""
        kinds = self.cluster.kinds(manifest.api_version)
        group = manifest.api_version.rpartition("/")[0]
        if kinds is None and "." in group and not group.endswith(".k8s.io"):
            return
        if kinds is None:
            raise PipelineError(f"{manifest.place}: apiVersion = {manifest.api_version!r}: the cluster does not serve it: use a newer one")
        close = difflib.get_close_matches(manifest.kind, kinds, n=1)
        what = f"did you mean {close[0]!r}?" if close else "check its spelling"
        raise PipelineError(f"{manifest.place}: kind = {manifest.kind!r}: {manifest.api_version} has no such kind: {what}")

    def _check_namespaces(self, targets: list[Target]) -> None:
        made = {target.manifest.name for target in targets if target.resource == NAMESPACES}
        for namespace in sorted({target.namespace for target in targets if target.namespace} - made):
            if not self._exists(NAMESPACES.path(None, namespace)):
                kubectl = "kubectl" + (f" --context {self.cluster.context}" if self.cluster.context else "")
                raise PipelineError(
                    f"namespace {namespace}: does not exist: name another with --namespace, or run `{kubectl} create namespace {namespace}`"
                )

    def _check_secrets(self, targets: list[Target]) -> None:
        made = {(target.namespace, target.manifest.name) for target in targets if target.resource == SECRETS}
        for target in targets:
            namespace = str(target.namespace)
            for secret in needed_secrets(target.manifest):
                if (target.namespace, secret.name) in made or self._exists(SECRETS.path(namespace, secret.name)):
                    continue
                made.add((target.namespace, secret.name))
                told = (
                    f"{target.label}: needs the Secret {secret.name}, which is not in namespace {namespace}: "
                    f"run `{secret.creating(namespace, self.cluster.context)}`"
                )
                if target.manifest.is_deployment():
                    raise PipelineError(told)
                self.say(f"{told}; until then it cannot start")

    def _exists(self, path: str) -> bool:
        """Whether an object exists; where this may not be read, the cluster will say so itself in time."""
        try:
            return self.cluster.find(path, accept=_METADATA_ONLY) is not None
        except ClusterRefused as error:
            if error.status != 403:
                raise
            return True

    def _planned(self, target: Target) -> Target:
        """The object as it is before, after the cluster has agreed to the change in a dry run of its own."""
        try:
            before = self.cluster.find(target.path)
        except ClusterRefused as error:
            raise self._mendable(target, error, "get") from error
        target = replace(target, before=before)
        try:
            after = self.cluster.apply(target.path, target.manifest.content, force=self.order.force_conflicts, dry_run=True)
        except ClusterRefused as error:
            absent = error.status == 404 and target.namespace and not self._exists(NAMESPACES.path(None, target.namespace))
            if not absent and not error.no_dry_run:
                raise self._mendable(target, error, "patch") from error
            target, after = replace(target, known=False), target.manifest.content
        if (after.get("spec") or {}).get("paused") and target.manifest.is_deployment():
            raise PipelineError(
                f"{target.label}: spec.paused = true: nothing would be rolled out: "
                f"run `{self._kubectl(target)} rollout resume {target.label}`"
            )
        if self.order.dry_run:
            self._tell(target, after)
        return target

    def _applied(self, target: Target) -> dict[str, Any]:
        try:
            return self.cluster.apply(target.path, target.manifest.content, force=self.order.force_conflicts)
        except ClusterRefused as error:
            raise self._mendable(target, error, "patch") from error

    def _mendable(self, target: Target, error: ClusterRefused, verb: str) -> PipelineError:
        what = f"{target.manifest.place}: {target.label}"
        fields = ", ".join(str(cause.get("field")) for cause in error.causes[:5] if cause.get("field"))
        message = error.message
        if error.status == 401:
            text = f"context {self.cluster.context}: the cluster does not accept the credentials: log in again"
        elif error.status == 403:
            ask = f"ask for a Role that allows {verb} on {target.resource.plural}"
            text = f"{what}: forbidden: {message}: {ask}, or take another --context"
        elif error.conflicts:
            owners = sorted({_owner(cause) for cause in error.conflicts})
            text = (
                f"{what}: {fields}: {'is' if len(error.conflicts) == 1 else 'are'} managed by {', '.join(owners)}: take the field out "
                "of the file, or take it over with --force-conflicts"
            )
        elif error.status in (400, 422):
            text = f"{what}: the cluster refuses it: {message if fields == '' or fields in message else f'{fields}: {message}'}"
        else:
            text = f"{what}: {message} (HTTP {error.status})"
        return PipelineError(f"{text} ({self.state})")

    def _tell(self, target: Target, after: dict[str, Any]) -> None:
        would = "would be " if self.order.dry_run else ""
        found = changes(target.before, after) if target.before is not None else []
        if target.before is None:
            unchecked = "" if target.known else " (the cluster could not check it yet)"
            self.say(f"  {target.label}: {would}created{unchecked}")
        elif not target.known:
            self.say(f"  {target.label}: cannot be checked: an admission webhook of the cluster does not support a dry run")
        elif not found:
            self.say(f"  {target.label}: unchanged")
        else:
            self.say(f"  {target.label}: {would}changed")
            for line in found[:_DIFF_LINES]:
                self.say(f"      {line}")
            if len(found) > _DIFF_LINES:
                self.say(f"      … and {len(found) - _DIFF_LINES} more")

    def _follow(self, target: Target, applied: dict[str, Any]) -> int:
        kubectl = self._kubectl(target)
        leaving = f"follow it with `{kubectl} rollout status {target.label}`, take it back with `{kubectl} rollout undo {target.label}`"
        replaced = target.before is None or not _same_template(target.before, applied)
        # A version that was tried before has said what it says now: only of another one may the condition be stale.
        stale = progress_condition(applied) if replaced else None
        failure = self._wait(target, applied, stale, f"the rollout goes on in the cluster: {leaving}")
        if failure is None:
            self.say(f"{target.label} serves {images_of(applied['spec']['template'])}")
            return SUCCEEDED
        self.say(f"{target.label} failed: {failure}")
        self.state = f"{target.label} has failed and was not rolled back: {leaving}"
        try:
            return self._roll_back(target, applied, replaced)
        except (ClusterRefused, Unreachable, PipelineError) as error:
            self.say(f"{target.label} could not be rolled back: {one_line(error, 600)}: run `{kubectl} rollout undo {target.label}`")
            return FAILED

    def _roll_back(self, target: Target, applied: dict[str, Any], replaced: bool) -> int:
        live = self.cluster.find(target.path)
        if live is None:
            self.say(f"{target.label} was deleted meanwhile: there is nothing to roll back")
            return FAILED
        self._check_ours(target, live, applied)
        if target.before is not None and not replaced and came_up(target.before):
            self.say(
                f"{target.label} is not rolled back, because this apply did not change its version, which had come up before: "
                f"for an older one run `{self._kubectl(target)} rollout undo {target.label}`{self._left(target, applied)}"
            )
            return FAILED
        former = without_hash(target.before["spec"]["template"]) if target.before is not None and replaced else None
        if former is None:
            former = previous_template(live, self._list(REPLICA_SETS, target, live))
        if former is None:
            self.say(f"{target.label} has no version before this one to go back to: it stays as it is, and does not serve")
            return FAILED
        back = self._applied_again(target, former, live, applied)
        self.say(f"rolling back to {images_of(former)}")
        failure = self._wait(
            target,
            back,
            progress_condition(back),
            f"the pod template before ({images_of(former)}) is applied again and its rollout goes on in the cluster",
        )
        left = self._left(target, back)
        if failure is not None:
            self.say(f"{target.label} is rolled back to {images_of(former)}, and that does not become healthy either: {failure}{left}")
            return FAILED
        self.say(f"{target.label} is rolled back: it serves {images_of(former)} again{left}")
        return FAILED

    def _applied_again(self, target: Target, template: dict[str, Any], live: dict[str, Any], applied: dict[str, Any]) -> dict[str, Any]:
        """An apply like the one before, so that the next one finds no fields of another manager (kubernetes#107417)."""
        content = target.manifest.content
        before, after, now = (target.before or applied)["spec"], applied["spec"], live["spec"]
        # What somebody changed meanwhile, such as an autoscaler the replicas, stays as it is.
        spec = {key: (before if now.get(key) == after.get(key) else now).get(key) for key in content["spec"]}
        spec = {key: value for key, value in spec.items() if value is not None} | {"template": template}
        try:
            return self.cluster.apply(target.path, {**content, "spec": spec}, force=True)
        except ClusterRefused as error:
            if error.status not in (400, 422):
                raise
        # No apply leads from a strategy RollingUpdate to Recreate, for instance: then the template alone.
        return self.cluster.apply(target.path, {**content, "spec": {**content["spec"], "template": template}}, force=True)

    def _left(self, target: Target, now: dict[str, Any]) -> str:
        """What this run changed and has not taken back, for the end of a line."""
        before = (target.before or now)["spec"]
        keys = [key for key in {**before, **now["spec"]} if key != "template" and before.get(key) != now["spec"].get(key)]
        others = [label for label in self.changed if label != target.label]
        left = ", ".join([*others, *(f"{target.label} spec.{key}" for key in keys)])
        return f"; not taken back: {left}" if left else ""

    def _check_ours(self, target: Target, live: dict[str, Any], applied: dict[str, Any]) -> None:
        if not _same_template(live, applied):
            ours, theirs = ({"spec": {"template": without_hash(found["spec"]["template"])}} for found in (applied, live))
            raise _Overtaken(
                f"{target.label} was changed by somebody else meanwhile and is left as it is ({changes(ours, theirs)[0]}): "
                f"look at it with `{self._kubectl(target)} rollout history {target.label}`"
            )

    def _wait(self, target: Target, applied: dict[str, Any], stale: dict[str, Any] | None, state: str) -> str | None:
        """Wait until the rollout is done; why it failed, if it did."""
        self.state = state
        deadline = self.cluster.clock.now() + self.order.timeout_s
        with self.cluster.until(deadline):
            return self._outcome(target, applied, stale, deadline)

    def _outcome(self, target: Target, applied: dict[str, Any], stale: dict[str, Any] | None, deadline: float) -> str | None:
        said: set[str] = set()
        last: Progress | None = None
        live: dict[str, Any] | None = None
        looked, state = self.cluster.clock.now(), self.state
        for seen in self._events(target, deadline):
            live = seen or live
            if seen is not None:
                self._check_ours(target, seen, applied)
                stale = stale if progress_condition(seen) == stale else None
                now = progress_of(seen, stale)
                self.state = f"{target.label}: {now.text}; {state}"
                if last is None or now.text != last.text:
                    self.say(f"  {target.label}: {now.text}")
                last = now
                if now.done and now.failed is None:
                    return None
                if now.failed is not None:
                    return self._cause(now.failed, target, live, said)
            if live is not None and (seen is None or self.cluster.clock.now() - looked >= LOOK_S):
                looked = self.cluster.clock.now()
                for trouble in self._troubles(target, live):
                    if trouble.text not in said:
                        said.add(trouble.text)
                        self.say(f"  {trouble.text}")
                        if trouble.log:
                            self._say_log(target, trouble)
                    if trouble.hopeless:
                        return trouble.text
        if self.cluster.clock.now() < deadline:
            return "it was deleted meanwhile"
        return self._cause(f"not done within {self.order.timeout_s:g} s", target, live, said)

    def _cause(self, failure: str, target: Target, live: dict[str, Any] | None, said: set[str]) -> str:
        with self.cluster.until(self.cluster.clock.now() + _LAST_LOOK_S):
            found = self._troubles(target, live, late=True) if live is not None else []
            if found and found[0].log and found[0].text not in said:
                self._say_log(target, found[0])
        return failure + (f": {found[0].text}" if found else "")

    def _events(self, target: Target, deadline: float) -> Iterator[dict[str, Any] | None]:
        """The Deployment each time it changes, and nothing whenever there was no news for a while; it ends when it is deleted."""
        clock, version, failures = self.cluster.clock, "", 0
        while (left := deadline - clock.now()) > 0:
            began = clock.now()
            try:
                for seen, live in self._watched(target, version, min(LOOK_S, left)):
                    version, failures = seen, 0
                    if live is not None:
                        yield live
                    if clock.now() >= deadline:
                        return
                # A watch that ends at once, again and again, must not become a loop without a pause.
                failures = failures + 1 if clock.now() - began < LOOK_S / 10 else 0
            except ClusterRefused as error:
                if error.status == 404:
                    return
                if error.status == 410:
                    version = ""  # what happened since is forgotten: begin again with what is there now
                elif not error.passes:
                    raise
                failures += 1
            except Unreachable:
                failures += 1
            if failures:
                clock.sleep(max(0.0, min(self.cluster.backoff.pause(failures), deadline - clock.now())))
            yield None

    def _watched(self, target: Target, version: str, seconds: float) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Versions of the Deployment after one, or from the present one on; a bookmark is a version without news."""
        if not version:
            live = self.cluster.get(target.path)
            version = str(live["metadata"].get("resourceVersion", ""))
            yield version, live
        for event in self.cluster.watch(DEPLOYMENTS.path(target.namespace), target.manifest.name, version, seconds):
            metadata = event["object"].get("metadata") or {}
            if event["type"] == "BOOKMARK":
                yield str(metadata["resourceVersion"]), None
            elif metadata.get("name") == target.manifest.name:
                if event["type"] == "DELETED":
                    raise ClusterRefused(404, {"message": "deleted"})
                yield str(metadata["resourceVersion"]), event["object"]

    def _troubles(self, target: Target, live: dict[str, Any], late: bool = False) -> list[Trouble]:
        if not observed(live):
            return []
        refusal = refusal_of_pods(live)
        try:
            replica_set = replica_set_of(live, self._list(REPLICA_SETS, target, live))
            label = ((replica_set or {}).get("metadata", {}).get("labels") or {}).get(HASH)
            pods = pods_of(replica_set, self._list(PODS, target, live, label)) if replica_set else []
        except (ClusterRefused, Unreachable) as error:
            return [refusal] if refusal else [Trouble(f"the pods cannot be looked at: {one_line(error)}")]
        found = [trouble_of(pod, late) for pod in pods]
        return [trouble for trouble in (refusal, *found) if trouble is not None]

    def _list(self, resource: Resource, target: Target, live: dict[str, Any], template: str | None = None) -> list[dict[str, Any]]:
        labels = dict((live["spec"].get("selector") or {}).get("matchLabels") or {}) | ({HASH: template} if template else {})
        query = [("labelSelector", ",".join(f"{key}={value}" for key, value in labels.items()))] if labels else []
        return list(self.cluster.get(resource.path(target.namespace), query).get("items") or ())

    def _say_log(self, target: Target, trouble: Trouble) -> None:
        path = f"{PODS.path(target.namespace, trouble.pod)}/log"
        # A container that waits to be started again has said why in its life before; one that lives, in this one.
        for previous in ("true", "false"):
            query = [("container", str(trouble.log)), ("tailLines", str(_LOG_LINES)), ("previous", previous)]
            try:
                lines = self.cluster.text(path, query).splitlines()
            except (ClusterRefused, Unreachable):
                continue
            for line in lines[-_LOG_LINES:]:
                self.say(f"      │ {line[:400]}")
            if lines:
                return

    def _kubectl(self, target: Target) -> str:
        return "kubectl" + (f" --context {self.cluster.context}" if self.cluster.context else "") + f" --namespace {target.namespace}"


def _same_template(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return without_hash(one["spec"]["template"]) == without_hash(other["spec"]["template"])


def _owner(cause: dict[str, Any]) -> str:
    # The cluster's words: conflict with "kubectl" using apps/v1
    text = str(cause.get("message") or "")
    return text.split('"')[1] if text.count('"') >= 2 else text or "somebody else"
