"""A loaded version with all that answers for it: its batches, its protocols, its layout on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_pipeline.contract.privacy import private_names
from mlops_pipeline.records.entry import Layout
from mlops_pipeline.serving import openapi
from mlops_pipeline.serving.protocol import Spoken
from mlops_pipeline.serving.protocol.invocations import Invocations
from mlops_pipeline.serving.protocol.open_inference import OpenInference
from mlops_pipeline.serving.protocol.predict import Predict

if TYPE_CHECKING:
    from mlops_pipeline.serving.batching import Batcher
    from mlops_pipeline.serving.models import Loaded


class Served:
    """A loaded version with all that answers for it."""

    def __init__(self, loaded: Loaded, batcher: Batcher) -> None:
        self.loaded, self.batcher = loaded, batcher
        self.signature, self.version = loaded.signature, loaded.version
        signature, name, version = loaded.signature, loaded.name, loaded.version
        self.protocols: dict[str, Spoken] = {
            "predict": Predict(signature, name, version),
            "invocations": Invocations(signature),
            "v2": OpenInference(signature, name, version),
        }
        self.layout = Layout(
            key=loaded.content_sha256,
            task=signature.task,
            numbers=signature.numbers,
            categories=signature.categories,
            private=private_names(signature.columns),
            classes=signature.classes,
        )
        self.headers = [(b"mlops-model", name.encode()), (b"mlops-model-version", version.encode())]
        self.example = openapi.made_up(signature)
