"""A loaded version with all that answers for it: its batches, its protocols, its layout on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_pipeline.contract.privacy import private_names
from mlops_pipeline.records.entry import RecordLayout
from mlops_pipeline.serving import openapi
from mlops_pipeline.serving.computing import Computation, Computing, computing
from mlops_pipeline.serving.protocol import Spoken
from mlops_pipeline.serving.protocol.either import Either, names_of_invocations, names_of_records, names_of_tensors
from mlops_pipeline.serving.protocol.invocations import Invocations
from mlops_pipeline.serving.protocol.open_inference import OpenInference
from mlops_pipeline.serving.protocol.predict import Predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_pipeline.features.state import FeatureState
    from mlops_pipeline.inference.faults import Notice
    from mlops_pipeline.inference.signature import Signature
    from mlops_pipeline.serving.batching import Batcher
    from mlops_pipeline.serving.models import Loaded

NAMES = {"predict": names_of_records, "invocations": names_of_invocations, "v2": names_of_tensors}


class Served:
    """A loaded version with all that answers for it."""

    def __init__(
        self,
        loaded: Loaded,
        batcher: Batcher,
        state: FeatureState | None = None,
        *,
        only_raw: bool = False,
        computation: Computation | None = None,
    ) -> None:
        self.loaded, self.batcher, self.only_raw = loaded, batcher, only_raw and loaded.raw is not None
        self.computation = computation
        """Where its raw rows are computed, if not beside all others'."""
        self.signature, self.version = loaded.signature, loaded.version
        signature, name, version = loaded.signature, loaded.name, loaded.version
        self.protocols: dict[str, Spoken] = _protocols(signature, name, version)
        self.computing: Computing | None = None
        """What computes the features of raw rows; None for a model that takes none."""
        if loaded.raw is not None:
            self.compute_with(state)
            raw = _protocols(loaded.raw.signature, name, version)
            self.protocols = {
                kind: Either(raw[kind], spoken, loaded.raw, NAMES[kind], self._why_not, only_raw=only_raw)
                for kind, spoken in self.protocols.items()
            }
        self.layout = RecordLayout(
            key=loaded.content_sha256,
            task=signature.task,
            numbers=signature.numbers,
            categories=signature.categories,
            private=private_names(signature.columns) | private_names({} if loaded.raw is None else loaded.raw.signature.columns),
            classes=signature.classes,
            raw=() if loaded.raw is None else tuple((name, column.kind) for name, column in loaded.raw.signature.columns.items()),
        )
        self.names = frozenset(signature.columns) | frozenset(() if loaded.raw is None else loaded.raw.signature.columns)
        """The columns whose names may be told of a refusal: any other is a client's word."""
        self.headers = [(b"mlops-model", name.encode()), (b"mlops-model-version", version.encode())]
        self.taken = loaded.raw.signature if loaded.raw is not None and self.only_raw else signature
        """What its protocols take first: finished features, unless raw rows alone are taken."""
        self.notices: Callable[[Any], list[Notice]] | None = getattr(loaded.engine, "notices", None)
        """What its engine says of what it has read of a batch's categories, for one that reads texts."""
        self.example = loaded.raw.example if loaded.raw is not None else openapi.made_up(signature)

    def compute_with(self, state: FeatureState | None) -> None:
        """Compute raw rows with this state, from the next request on; with the one before if this one is of another recipe."""
        self.computing = computing(self.loaded.contract, state, self.computing)

    def _why_not(self) -> str:
        return "" if self.computing is None else self.computing.why_not


def _protocols(signature: Signature, name: str, version: str) -> dict[str, Spoken]:
    return {
        "predict": Predict(signature, name, version),
        "invocations": Invocations(signature),
        "v2": OpenInference(signature, name, version),
    }
