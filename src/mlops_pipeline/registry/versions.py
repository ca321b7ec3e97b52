"""What a registered version is, and the names under which MLflow keeps what we note of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mlops_pipeline.files import sha256_of_file

CHAMPION = "champion"
"""The alias of the version that is served."""

MODEL_TAG = "mlops.model_sha256"
"""On a version and on the run that trained it."""
CONTENT_TAG = "mlops.content_sha256"
GATE_TAG = "mlops.gate"
PASSED_TAG = "mlops.gate_passed"
EVALUATED_TAG = "mlops.evaluated_on"
LATENCY_TAG = "mlops.latency_ms"
JUDGED_TAG = "mlops.judged_sha256"
"""On a version that was fitted again on all rows: the content digest of the fit that was judged, and below the digest of its weights."""
JUDGED_MODEL_TAG = "mlops.judged_model_sha256"
OVERRIDE_TAG = "mlops.promoted_in_spite_of_gate"
ROLLED_BACK_TAG = "mlops.rolled_back"
EVALUATION_TAG = "mlops.evaluation_sha256"
"""On a run."""
REPORT_TAG = "mlops.report_sha256"
"""On a run: the page that lies beside it."""
VERSION_TAG = "mlops.registered_as"
"""On a run."""
HISTORY_TAG = "mlops.former_champions"
"""On the registered model."""

DIGEST = "^[0-9a-f]{64}$"


@dataclass(frozen=True)
class Version:
    """A version as the registry holds it; ``created`` is in seconds since 1970.

    ``location`` is where its files lie, or ``models:/…``, which :func:`reader.download_location` turns into that.
    """

    number: int
    aliases: frozenset[str]
    location: str
    run_id: str
    created: float
    tags: Mapping[str, str] = field(hash=False)

    @property
    def content_sha256(self) -> str:
        """The digest of its content, which covers the model and its ONNX twin; empty if it was not registered by us."""
        return digest_or_nothing(self.tags.get(CONTENT_TAG, ""))

    @property
    def model_sha256(self) -> str:
        return self.tags.get(MODEL_TAG, "")

    @property
    def judged_sha256(self) -> str:
        """The content digest of the fit that was judged, if this one was made after it on all rows; else empty."""
        return self.tags.get(JUDGED_TAG, "")

    def is_of(self, model_sha256: str) -> bool:
        """Whether it is this very model, or one that was fitted again after this was judged."""
        return model_sha256 in (self.model_sha256, self.tags.get(JUDGED_MODEL_TAG))

    @property
    def is_champion(self) -> bool:
        return CHAMPION in self.aliases

    @property
    def passed(self) -> bool:
        """Whether the gate let it pass."""
        return self.tags.get(PASSED_TAG) == "true"

    @property
    def evaluated_on(self) -> str:
        """The digest of the held-out rows; empty if it was never evaluated."""
        return self.tags.get(EVALUATED_TAG, "")

    @property
    def rolled_back(self) -> str:
        """When it was rolled back; empty if it was not, or was promoted by hand since."""
        return self.tags.get(ROLLED_BACK_TAG, "")

    @property
    def gate(self) -> tuple[dict[str, Any], ...]:
        return gate_rules(self.tags)

    @property
    def latency_ms(self) -> float | None:
        """Median milliseconds for one row, as measured when it was registered."""
        text = self.tags.get(LATENCY_TAG)
        return float(text) if text else None


class Found(msgspec.Struct, frozen=True):
    """What a reference means: a version's number (empty for a folder), the digest of its content, and where its files lie."""

    number: str
    content_sha256: Annotated[str, msgspec.Meta(pattern=DIGEST)]
    location: str
    tags: dict[str, str] = {}

    @property
    def gate(self) -> tuple[dict[str, Any], ...]:
        return gate_rules(self.tags)


def gate_rules(tags: Mapping[str, str]) -> tuple[dict[str, Any], ...]:
    """The gate's reasons among a version's tags; none if there are none that can be read."""
    try:
        rules = json.loads(tags.get(GATE_TAG, "[]"))
    except ValueError:
        return ()
    return tuple(rule for rule in rules if isinstance(rule, dict)) if isinstance(rules, list) else ()


def digest_or_nothing(text: str) -> str:
    """The text if it is a SHA-256 digest, else nothing: it becomes part of paths."""
    return text if re.match(DIGEST, text) else ""


def content_digest(folder: Path) -> str:
    """The identity of a version: the SHA-256 digests of all that decides what it predicts and what it refuses."""
    files = (folder / name for name in ("model.skops", "MLmodel", "training.json", "onnx/model.onnx"))
    parts = [sha256_of_file(file) if file.exists() else "none" for file in files]
    of_others = (file for file in (folder / "formats").rglob("*") if file.is_file())
    parts += [f"{name} {sha256_of_file(folder / name)}" for name in sorted(file.relative_to(folder).as_posix() for file in of_others)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
