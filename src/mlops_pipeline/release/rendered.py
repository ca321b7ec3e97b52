"""A policy for those who split traffic elsewhere: Gateway API, KServe, Argo Rollouts. All of them ask our verdict over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml

from mlops_pipeline.config.moments import seconds_of
from mlops_pipeline.config.release import Policy, Step

Target = Literal["httproute", "kserve", "rollouts"]
TARGETS: tuple[Target, ...] = ("httproute", "kserve", "rollouts")
SERVICE = "model-server"
PORT = 8000
WHOLE = 100
"""Weights of routes are whole percents."""
CHALLENGER_LABEL = "mlops-challenger"
"""Of a Rollout: the number of the version that it brings, whose verdict alone is asked for."""
OFTEN_S = 30
"""How often Argo Rollouts asks."""
HEAD = "# Rendered by `mlops release render` from {origin}, and render again.\n"


def rendered(target: Target, policy: Policy, step: Step, settings: Path | None, *, name: str, service: str = SERVICE) -> str:
    """The manifests as YAML, of the policy in ``settings`` (None: the usual one).

    ``step`` is the one to be at; ``name`` is the InferenceService's; ``service`` the champion's.
    """
    made = {"httproute": _route(step, service), "kserve": _inference_service(step, name), "rollouts": _rollouts(policy, service)}[target]
    origin = "the usual policy: write configs/release_config.yaml" if settings is None else f"the policy in {settings}: change that"
    return HEAD.format(origin=origin) + "---\n".join(yaml.safe_dump(each, sort_keys=False) for each in made)


def percent(weight: float) -> int:
    """A weight as a whole percent, at least 1 where it is any: what routes take."""
    return max(1, round(weight * WHOLE)) if weight > 0 else 0


def _route(step: Step, service: str) -> list[dict[str, Any]]:
    """Two Services, of the champion's pods and the challenger's, and a route that splits between them."""
    share = percent(step.weight)
    backends = [
        {"name": service, "port": PORT, "weight": WHOLE - share},
        {"name": f"{service}-challenger", "port": PORT, "weight": share},
    ]
    rule: dict[str, Any] = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}
    if step.shadow > 0:
        mirror: dict[str, Any] = {"backendRef": {"name": f"{service}-challenger", "port": PORT}}
        if step.shadow < 1:
            mirror["percent"] = percent(step.shadow)
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": mirror}]
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": service, "labels": _labels()},
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": [rule]},
        }
    ]


def _inference_service(step: Step, name: str) -> list[dict[str, Any]]:
    """A patch of the InferenceService: its newest revision gets so much, the one before the rest; 100 promotes it, 0 goes back.

    In the deployment mode Knative alone; KServe lets nobody change the mode, so a patch that names it is refused in another.
    """
    return [
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "annotations": {"serving.kserve.io/deploymentMode": "Knative"}},
            "spec": {"predictor": {"canaryTrafficPercent": percent(step.weight)}},
        }
    ]


def _rollouts(policy: Policy, service: str) -> list[dict[str, Any]]:
    """The template that asks our verdict, and a Rollout's strategy with a step for each of ours that has a weight."""
    template = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": "release-verdict", "labels": _labels()},
        "spec": {
            "args": [
                {"name": "service", "value": service},
                {"name": "version"},
                {"name": "key", "valueFrom": {"secretKeyRef": {"name": "mlops-release-key", "key": "key"}}},
            ],
            "metrics": [
                {
                    "name": "verdict",
                    "interval": f"{OFTEN_S}s",
                    "count": max(1, round(seconds_of(policy.patience) / OFTEN_S)),
                    "successCondition": 'result in ["healthy", "promoted"]',
                    "failureCondition": 'result in ["failed", "inconclusive"]',
                    "failureLimit": 0,
                    "inconclusiveLimit": 3,
                    "provider": {
                        "web": {
                            "url": f"http://{{{{args.service}}}}:{PORT}/release.json",
                            "headers": [{"key": "Authorization", "value": "Bearer {{args.key}}"}],
                            "timeoutSeconds": 10,
                            "jsonPath": "{$.verdicts['{{args.version}}']}",
                        }
                    },
                }
            ],
        },
    }
    steps: list[dict[str, Any]] = []
    for step in policy.steps:
        if 0 < step.weight < 1:
            least = {} if step.approval else {"duration": f"{round(seconds_of(step.least_time)) if step.least_time else OFTEN_S * 2}s"}
            steps += [{"setWeight": percent(step.weight)}, {"pause": least}]
    rollout = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": service, "labels": {**_labels(), CHALLENGER_LABEL: "VERSION"}},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service},
            "selector": {"matchLabels": {"app.kubernetes.io/name": service}},
            "strategy": {
                "canary": {
                    "stableService": service,
                    "canaryService": f"{service}-challenger",
                    "analysis": {
                        "templates": [{"templateName": "release-verdict"}],
                        "startingStep": 1,
                        "args": [{"name": "version", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{CHALLENGER_LABEL}']"}}}],
                    },
                    "steps": steps,
                }
            },
        },
    }
    return [template, rollout]


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/part-of": "mlops-pipeline"}
