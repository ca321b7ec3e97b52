"""The manifest file: its objects in the order of applying, the image of the serving container, the secrets it needs."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.config.tree import BoundedLoader
from mlops_pipeline.errors import PipelineError, one_line

# What others refer to comes first; a workload of another kind stands between, and the Deployment is last.
FIRST = (
    "Namespace",
    "ResourceQuota",
    "LimitRange",
    "PriorityClass",
    "ServiceAccount",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "PersistentVolume",
    "PersistentVolumeClaim",
)

# The grammar of image references (distribution/reference), without its length limits.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<repository>(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


@dataclass(frozen=True)
class Manifest:
    """One object as the file gives it, and the place that an error names."""

    content: dict[str, Any]
    place: str

    @property
    def api_version(self) -> str:
        return str(self.content["apiVersion"])

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def name(self) -> str:
        return str(self.content["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """The namespace that the file names, if it does."""
        named = self.content["metadata"].get("namespace")
        return None if named is None else str(named)

    @property
    def label(self) -> str:
        return f"{self.kind.lower()}/{self.name}"

    def is_deployment(self) -> bool:
        """Whether this is a Deployment of Kubernetes itself."""
        return self.kind == "Deployment" and self.api_version.startswith("apps/")


@dataclass(frozen=True)
class SecretReference:
    """A Secret that a pod cannot start without, and the keys that are taken from it."""

    name: str
    keys: tuple[str, ...]
    for_images: bool = False

    def creating(self, namespace: str, context: str | None) -> str:
        """The command line that makes it."""
        kubectl = "kubectl" + (f" --context {context}" if context else "") + f" --namespace {namespace} create secret"
        if self.for_images:
            return f"{kubectl} docker-registry {self.name} --docker-server=HOST --docker-username=USER --docker-password=PASSWORD"
        return f"{kubectl} generic {self.name} " + " ".join(f"--from-file={key}=FILE" for key in self.keys or ("KEY",))


def read_manifests(path: Path, text: str | None = None) -> list[Manifest]:
    """The objects of a manifest file, or of the text that it would hold, in the order of applying.

    Raises :class:`PipelineError` in one line.
    """
    try:
        documents = list(yaml.load_all(path.read_text(encoding="utf-8") if text is None else text, Loader=BoundedLoader))
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror}): name a manifest file with --manifests") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: is not valid YAML: {one_line(error)}") from error
    found = [_checked(content, place) for content, place in _objects(documents, str(path))]
    seen: dict[tuple[str, str, str | None], str] = {}
    for manifest in found:
        key = (manifest.kind, manifest.name, manifest.namespace)
        if key in seen:
            raise PipelineError(f"{manifest.place}: {manifest.label} stands in {seen[key]} already: take one out")
        seen[key] = manifest.place
    return sorted(found, key=_rank)


def the_deployment(manifests: list[Manifest], path: Path) -> Manifest:
    """The one Deployment of a file."""
    found = [manifest for manifest in manifests if manifest.is_deployment()]
    if len(found) != 1:
        names = ", ".join(manifest.label for manifest in found) or "none"
        raise PipelineError(f"{path}: must hold one Deployment, and holds {len(found)} ({names}): name another file with --manifests")
    return found[0]


def with_image(deployment: Manifest, image: str) -> Manifest:
    """The Deployment with another image in its serving container.

    That is the only container; among several the one that the pod template's annotation
    ``kubectl.kubernetes.io/default-container`` names, else the only one whose image comes from the same repository.
    """
    asked = _IMAGE.fullmatch(image)
    if asked is None:
        raise PipelineError(f"--image {image!r}: is no image reference: write it as registry.example/name:tag")
    content = copy.deepcopy(deployment.content)
    template = _template_of(content)
    containers = _containers(template)
    annotations = _mapping(_mapping(template, "metadata", deployment.place), "annotations", deployment.place)
    default = annotations.get("kubectl.kubernetes.io/default-container")
    same = [c for c in containers if repository_of(str(c.get("image", ""))) == asked["repository"]]
    marked = [c for c in containers if c.get("name") == default]
    fitting = containers if len(containers) == 1 else marked or same
    if len(fitting) != 1:
        names = ", ".join(str(c.get("name")) for c in containers) or "none"
        raise PipelineError(
            f"{deployment.place}: --image {image}: it is not plain which container serves (it has {names}): "
            "name it in the pod template's annotation kubectl.kubernetes.io/default-container"
        )
    fitting[0]["image"] = image
    return Manifest(content, deployment.place)


def repository_of(image: str) -> str | None:
    """An image reference without tag and digest."""
    match = _IMAGE.fullmatch(image)
    return match["repository"] if match else None


def images_of(template: dict[str, Any]) -> str:
    """The images of a pod template's containers, for people."""
    return ", ".join(str(container.get("image")) for container in _containers(template))


def needed_secrets(manifest: Manifest) -> list[SecretReference]:
    """The Secrets that the pods of an object refer to and cannot start without."""
    pod, place = _pod_of(manifest.content), manifest.place
    if pod is None:
        return []
    keys: dict[str, set[str]] = {}
    for name, key in _references(pod, place):
        keys.setdefault(name, set()).update([key] if key else [])
    named = [str(item["name"]) for item in _mappings(pod, "imagePullSecrets", place) if item.get("name")]
    return [
        *(SecretReference(name, tuple(sorted(found))) for name, found in keys.items()),
        *(SecretReference(name, (), for_images=True) for name in named if name not in keys),
    ]


def _objects(documents: list[Any], path: str) -> Iterator[tuple[Any, str]]:
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        place = f"{path}: document {number}"
        if isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items"), list):
            yield from ((item, f"{place}, item {index}") for index, item in enumerate(document["items"], 1))
        else:
            yield document, place


def _checked(content: Any, place: str) -> Manifest:
    if not isinstance(content, dict):
        raise PipelineError(f"{place}: holds no mapping: write a Kubernetes object")
    for key in ("apiVersion", "kind"):
        if not isinstance(content.get(key), str):
            raise PipelineError(f"{place}: {key} is missing: add it")
    metadata = content.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise PipelineError(f"{place}: metadata.name is missing: add it ({content['kind']} is applied by its name)")
    manifest = Manifest(content, place)
    if manifest.is_deployment():
        template = _template_of(content, place)
        _mapping(template, "metadata", place)
        _containers(template, place)
    return manifest


def _rank(manifest: Manifest) -> int:
    if manifest.is_deployment():
        return len(FIRST) + 1
    return FIRST.index(manifest.kind) if manifest.kind in FIRST else len(FIRST)


def _template_of(content: dict[str, Any], place: str = "") -> dict[str, Any]:
    template = _mapping(content, "spec", place).get("template")
    if not isinstance(template, dict):
        raise PipelineError(f"{place}: spec.template is missing: a Deployment needs a pod template")
    return template


def _containers(template: dict[str, Any], place: str = "") -> list[dict[str, Any]]:
    containers = _mapping(template, "spec", place).get("containers")
    if not isinstance(containers, list) or not containers or not all(isinstance(c, dict) for c in containers):
        raise PipelineError(f"{place}: spec.template.spec.containers is missing: a Deployment needs at least one container")
    return containers


def _mapping(content: dict[str, Any], key: str, place: str) -> dict[str, Any]:
    found = content.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise PipelineError(f"{place}: {key} = {one_line(found, 60)}: must be a mapping")
    return found


def _mappings(content: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    found = content.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise PipelineError(f"{place}: {key} = {one_line(found, 60)}: must be a list of mappings")
    return found


def _pod_of(content: dict[str, Any]) -> dict[str, Any] | None:
    """What is a pod's specification in an object of any kind, also of one that is not Kubernetes' own."""
    path = {"Pod": ("spec",), "CronJob": ("spec", "jobTemplate", "spec", "template", "spec")}
    found: Any = content
    for key in path.get(content["kind"], ("spec", "template", "spec")):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) and isinstance(found.get("containers"), list) else None


def _references(pod: dict[str, Any], place: str) -> Iterator[tuple[str, str | None]]:
    for container in [*_mappings(pod, "initContainers", place), *_mappings(pod, "containers", place)]:
        for variable in _mappings(container, "env", place):
            yield from _reference(_mapping(variable, "valueFrom", place), "secretKeyRef", "name", place)
        for source in _mappings(container, "envFrom", place):
            yield from _reference(source, "secretRef", "name", place)
    for volume in _mappings(pod, "volumes", place):
        yield from _reference(volume, "secret", "secretName", place)
        for source in _mappings(_mapping(volume, "projected", place), "sources", place):
            yield from _reference(source, "secret", "name", place)


def _reference(source: dict[str, Any], kind: str, name: str, place: str) -> Iterator[tuple[str, str | None]]:
    reference = _mapping(source, kind, place)
    if not reference.get(name) or reference.get("optional"):
        return
    keys = [item.get("key") for item in _mappings(reference, "items", place)] or [reference.get("key")]
    yield from ((str(reference[name]), str(key) if key else None) for key in keys)
