"""`kubectl apply`, as near to a cluster as a machine without one comes: schemas, an emulated API, the pod's container."""

from __future__ import annotations

import re
import secrets
import shutil
from typing import Any

from acceptance.promises import InPart, expect
from acceptance.session import Answer, Session, answers, ask

API = """\
import sys, threading
from pathlib import Path
from tests.integration_tests.kubernetes_api import kubernetes_api
with kubernetes_api("default") as api:
    Path(sys.argv[1], "url").write_text(api.url)
    api.kubeconfig(Path(sys.argv[1]))
    threading.Event().wait()
"""
KINDS = {"Deployment", "Service", "ConfigMap", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"}


def kubectl_apply(at: Session, server: str, schema: str, apply: str, again: str, build: str, run: str) -> str:
    folder = at.scratch / "cluster"
    folder.mkdir(exist_ok=True)
    (folder / "api.py").write_text(API, encoding="utf-8")
    at.settings["KUBECONFIG"] = str(folder / "kubeconfig")
    objects = at.read_yaml("k8s/model-deployment.yaml")
    missing = KINDS - {one["kind"] for one in objects}
    expect(not missing, f"the file has no {', '.join(sorted(missing))}")
    valid = at.type(schema).said
    expect(
        valid.count(" passed for resource ") == len(objects), f"{valid.count(' passed for resource ')} of {len(objects)} objects are valid"
    )
    with at.serving(server, (folder / "kubeconfig").is_file):
        created = at.type(apply).out
        expect(created.count(" created\n") == len(objects), f"of {len(objects)} objects these were created: {created}")
        second = at.type(again).out
        expect(second.count("\n") == len(objects) and " created" not in second, f"a second apply created something: {second}")
        url = (folder / "url").read_text()
        live = ask(f"{url}/apis/apps/v1/namespaces/default/deployments/model-server").json()
        (container,) = live["spec"]["template"]["spec"]["containers"]
        service = ask(f"{url}/api/v1/namespaces/default/services/model-server").json()
        expect(service["spec"]["selector"].items() <= live["spec"]["template"]["metadata"]["labels"].items(), "the Service finds no pod")
    seen = (
        f"no cluster here: {len(objects)} objects valid against the schemas, created by kubectl in an emulated API (kmock) that runs no "
        f"pods, none created twice; the Deployment there names {container['image']}"
    )
    lacking = no_engine(at)
    if lacking:
        expect(at.environ.get("MLOPS_TEST_STRICT") != "1", f"the pod was not run: {lacking}")
        return InPart(f"{seen}; the pod was not run: {lacking}")
    return f"{seen}; {pod_in_a_container(at, objects, container, build, run)}"


def no_engine(at: Session) -> str:
    """Why no container can be run here; empty if one can."""
    if not shutil.which("docker", path=at.environ["PATH"]):
        return "there is no `docker` client, by which podman is reached too"
    if at.type("docker info", code=None).code:
        return "no container engine answers `docker info` (podman: its socket in DOCKER_HOST)"
    return ""


def pod_in_a_container(at: Session, objects: list[Any], container: dict[str, Any], build: str, run: str) -> str:
    """Run the Deployment's container as the Deployment states, with its ConfigMap and Secret, and ask it for a prediction."""
    pod = next(one for one in objects if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    name = f"acceptance-{secrets.token_hex(4)}"
    folder, port = at.scratch / "pod", at.port()
    folder.mkdir(exist_ok=True)
    key = re.findall(r": +(\S+)$", at.type("mlops key").out, re.MULTILINE)
    (folder / "api_keys").write_text(f"client: {key[1]}\n", encoding="utf-8")
    config = next(one for one in objects if one["kind"] == "ConfigMap")["data"]["serving_config.yaml"]
    changed = re.sub(r"uri: \S+", f"uri: sqlite:///{at.folder}/mlflow/mlflow.db", config)
    expect(changed != config, "the ConfigMap names no registry")
    (folder / "serving_config.yaml").write_text(changed, encoding="utf-8")
    user = pod["securityContext"]
    rights = container["securityContext"]
    expect(rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"] and user["runAsNonRoot"], "the pod is not confined")
    at.settings |= {
        "NAME": name,
        "POD_USER": f"{user['runAsUser']}:{user['runAsGroup']}",
        "POD_COMMAND": " ".join(container["command"]),
        "MEMORY": container["resources"]["limits"]["memory"].lower().removesuffix("i"),
    }
    for file in (folder, folder / "api_keys", folder / "serving_config.yaml"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    try:
        at.type(build)
        at.type(run)
        url = f"http://127.0.0.1:{port}"
        at.wait_for(lambda: answers(f"{url}{container['readinessProbe']['httpGet']['path']}"), "a ready container")
        example = at.read_json("models/registry/best_model/expected.json")
        asked = {"records": [example["rows"][0]]}
        said: Answer = ask(f"{url}/predict", asked, Authorization=f"Bearer {key[0]}")
        expect(said.status == 200, f"the container answers with {said.status}: {said.text[:200]}")
        probability = said.json()["predictions"][0]["probabilities"]["1"]
        expect(abs(probability - example["outputs"][0][1]) < 1e-4, f"{probability} is not the champion's {example['outputs'][0][1]}")
        expect(ask(f"{url}/predict", asked).status == 401, "the container answers without a key")
    except Exception:
        at.words.append(at.tidy(f"docker logs {name}"))
        raise
    finally:
        at.tidy(f"docker rm --force --volumes {name}")
        at.tidy(f"docker rmi --force {name}")
    return (
        f"its container under docker with the Deployment's user, command, limits and ConfigMap (registry: this clone's): HTTP 200, "
        f"probability {probability:.4f} as the champion's; 401 without a key"
    )
