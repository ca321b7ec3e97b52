"""The model server on Kubernetes, for this pipeline's model: what `mlops deploy` applies where a project keeps no file of its own.

The template is this repository's ``k8s/overlays/local`` as kustomize renders it.
"""

import hashlib
import re
from pathlib import Path

import yaml

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.layout import Layout

FILE = Path("k8s/model-deployment.yaml")
"""Where a project keeps its manifests."""
TEMPLATE = Path(__file__).parents[2] / "pages/model-deployment.yaml"
_MODEL = "      model: flights\n"
_SETTINGS_NAME = re.compile(r"\bmodel-server-[a-z0-9]{10}\b")


def model_deployment(settings: Settings, layout: Layout) -> str:  # noqa: ARG001  # as every renderer is called
    """The manifests; the ConfigMap's name follows from what it says, so that a change of that rolls the pods."""
    text, name = TEMPLATE.read_text(encoding="utf-8"), settings.registry.model or settings.name
    model = _MODEL.replace("flights", yaml.safe_dump(name, allow_unicode=True, width=10_000).partition("\n")[0])
    if model != _MODEL:
        suffix = hashlib.sha256(model.encode()).hexdigest()[:10]
        text = _SETTINGS_NAME.sub(f"model-server-{suffix}", text.replace(_MODEL, model))
    return _HEAD.format(file=FILE) + text


_HEAD = """\
# Rendered by `mlops render --target kubernetes`. `mlops deploy` applies it as it is; to change it, write it into the project
# (--output {file}) and edit it there. It needs:
#   the image, where the cluster finds it (`mlops deploy --image …` names another);
#   a Secret: `mlops key`, a file api_keys with a line `client: sha256:…`, and
#   `kubectl create secret generic mlops-api-keys --from-file=api_keys`;
#   an MLflow server at http://mlflow:5000, from pods labelled app.kubernetes.io/name: mlflow.
"""
