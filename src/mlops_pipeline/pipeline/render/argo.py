"""The pipeline for Argo Workflows: a template whose tasks hand each other artifacts, and its nightly run.

Each stage runs in a fresh container: the entrypoint puts the image's project under ``/project``, Argo puts the declared inputs at
their places in it before, and takes the declared outputs from their places afterwards.
"""

from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.artifacts import inputs_of, is_folder, makers, needs, outputs_of, sources
from mlops_pipeline.pipeline.definition import STAGES, Stage
from mlops_pipeline.pipeline.render import terms

FOLDER = Path("cicd/argo_workflows")
ACCOUNT = "mlops-pipeline-workflow"
"""The service account in ``service-account.yaml``, by which Argo's own container reports results."""
CREDENTIALS = "mlops-pipeline-credentials"
"""A Secret with what MLflow and its artifact store ask for, such as MLFLOW_TRACKING_PASSWORD; it may be absent."""
USER = 10001
AS_OF = "as-of"
DAY_S = 24 * 3600


def argo_files(settings: Settings, layout: Layout) -> dict[str, str]:
    """The text of each file by its name."""
    head = terms.head(layout, " --target argo")
    standard = (
        "# In a namespace that enforces the restricted Pod Security Standard, give Argo's own containers the same securityContext:\n"
        "# executor.securityContext in the ConfigMap of its controller.\n"
    )
    return {
        "workflow-template.yaml": head + standard + _dumped(_workflow_template(settings, layout)),
        "cron-workflow.yaml": head + _dumped(_cron_workflow(settings)),
    }


def _workflow_template(settings: Settings, layout: Layout) -> dict[str, Any]:
    name = terms.pipeline_name(settings)
    keys = {source: layout.relative(path) for source, path in sources(settings, layout).items()}
    parameters = [
        {"name": "image", "value": terms.image()},
        {"name": "mlflow-tracking-uri", "value": terms.TRACKING_URI},
        *({"name": source, "value": key, "description": "key in the artifact repository"} for source, key in keys.items()),
        *([{"name": AS_OF, "value": "", "description": terms.AS_OF}] if terms.has_time(settings) else []),
    ]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": name, "labels": _labels(settings)},
        "spec": {
            "entrypoint": "pipeline",
            "arguments": {"parameters": parameters},
            # Two runs at once would both decide who is champion.
            "synchronization": {"mutexes": [{"name": name}]},
            "activeDeadlineSeconds": DAY_S,
            "ttlStrategy": {"secondsAfterSuccess": 3 * DAY_S, "secondsAfterFailure": 14 * DAY_S},
            "podGC": {"strategy": "OnPodSuccess"},
            "archiveLogs": True,
            "workflowMetadata": {"labels": _labels(settings)},
            "podMetadata": {"labels": _labels(settings)},
            "serviceAccountName": ACCOUNT,
            # The stages get no token for the Kubernetes API, only Argo's container beside them.
            "automountServiceAccountToken": False,
            "executor": {"serviceAccountName": ACCOUNT},
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "templates": [_dag(), *(_template(stage, settings, layout) for stage in STAGES)],
        },
    }


def _dag() -> dict[str, Any]:
    """The stages in the order that follows from who makes what another reads; metrics come out as the workflow's own."""
    outputs: dict[str, list[Any]] = {"parameters": [], "artifacts": []}
    for stage in STAGES:
        for name in stage.metrics:
            made = f"{{{{tasks.{stage.name}.outputs"
            outputs["parameters"].append({"name": name, "valueFrom": {"parameter": f"{made}.parameters.{name}}}}}"}})
            outputs["artifacts"].append({"name": name, "from": f"{made}.artifacts.{name}}}}}"})
    return {"name": "pipeline", "outputs": outputs, "dag": {"tasks": [_task(stage) for stage in STAGES]}}


def _task(stage: Stage) -> dict[str, Any]:
    task: dict[str, Any] = {"name": stage.name, "template": stage.name}
    if stage.reads:
        task["dependencies"] = needs(stage)
        made = [{"name": name, "from": f"{{{{tasks.{maker.name}.outputs.artifacts.{name}}}}}"} for name, maker in makers(stage).items()]
        task["arguments"] = {"artifacts": made}
    return task


def _template(stage: Stage, settings: Settings, layout: Layout) -> dict[str, Any]:
    def path_of(path: Path) -> str:
        inside = path.is_relative_to(layout.project)
        return f"{terms.PROJECT}/{layout.relative(path)}" if inside else str(path)

    inputs = [
        # A source is no other stage's: it lies in the artifact repository, under a key that is a parameter.
        {"name": name, "path": path_of(path)} | ({} if stage.reads else {"s3": {"key": f"{{{{workflow.parameters.{name}}}}}"}})
        for name, path in inputs_of(stage, settings, layout).items()
    ]
    made = outputs_of(stage, layout)
    outputs: dict[str, Any] = {
        "artifacts": [
            {"name": name, "path": path_of(path)} | ({} if is_folder(path) else {"archive": {"none": {}}}) for name, path in made.items()
        ]
    }
    if stage.metrics:
        outputs["parameters"] = [{"name": name, "valueFrom": {"path": path_of(made[name])}} for name in stage.metrics]
    return {
        "name": stage.name,
        "metadata": {"annotations": {"workflows.argoproj.io/description": stage.summary}},
        **({"inputs": {"artifacts": inputs}} if inputs else {}),
        "outputs": outputs,
        "activeDeadlineSeconds": str(stage.hours * 3600),
        "retryStrategy": {
            "limit": str(stage.retries),
            "retryPolicy": "Always",
            "backoff": {"duration": f"{stage.retry_delay_s}s", "factor": str(stage.retry_factor), "maxDuration": f"{DAY_S}s"},
        },
        "container": _container(stage, settings, layout),
        "volumes": [
            {"name": "work", "emptyDir": {"sizeLimit": "20Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}},
        ],
    }


def _container(stage: Stage, settings: Settings, layout: Layout) -> dict[str, Any]:
    as_of = ["--as-of", f"{{{{workflow.parameters.{AS_OF}}}}}"] if terms.has_time(settings) and not stage.reads else []
    return {
        "image": "{{workflow.parameters.image}}",
        "imagePullPolicy": "IfNotPresent",
        # Argo runs a command of its own before this one, so the image's entrypoint has to be named.
        "command": [terms.ENTRYPOINT],
        "args": ["mlops", "stage", stage.name, "--config", layout.relative(layout.config), *as_of],
        "workingDir": terms.PROJECT,
        "env": [
            {"name": "MLFLOW_TRACKING_URI", "value": "{{workflow.parameters.mlflow-tracking-uri}}"},
            # Else a thread starts for every core of the node, and all wait for the share that the limit leaves them.
            {"name": "OMP_NUM_THREADS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
        "envFrom": [{"secretRef": {"name": CREDENTIALS, "optional": True}}],
        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "work", "mountPath": terms.PROJECT}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  # the container's own
    }


def _cron_workflow(settings: Settings) -> dict[str, Any]:
    name = terms.pipeline_name(settings)
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "metadata": {"name": f"{name}-nightly", "labels": _labels(settings)},
        "spec": {
            "schedules": [terms.NIGHTLY],
            "timezone": "UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "workflowSpec": {"workflowTemplateRef": {"name": name}},
        },
    }


def _labels(settings: Settings) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "mlops-pipeline",
        "app.kubernetes.io/component": "training",
        "app.kubernetes.io/instance": terms.pipeline_name(settings),
    }


def _dumped(content: dict[str, Any]) -> str:
    return yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
