"""What a registered version is, and the names under which MLflow keeps what we note of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mlops_pipeline.config.moments import rfc3339
from mlops_pipeline.files import sha256_of_file
from mlops_pipeline.registry.admission import IDENTITY_TAG, PASSED_TAG, Decision, admitted_on, decisions, held, refusal, waits

CHAMPION = "champion"
"""The alias of the version that is served."""
CHALLENGER = "challenger"
"""The alias of the last version that passed its gate where that makes no champion."""

MODEL_TAG = "mlops.model_sha256"
"""On a version and on the run that trained it."""
CONTENT_TAG = "mlops.content_sha256"
"""Of every file of a version; of versions without an identity, of those that decide what it predicts."""
GATE_TAG = "mlops.gate"
EVALUATED_TAG = "mlops.evaluated_on"
AGAINST_TAG = "mlops.judged_against"
"""The content of the champion that it was last compared with; empty if there was no other."""
LATENCY_TAG = "mlops.latency_ms"
JUDGED_TAG = "mlops.judged_sha256"
"""On a version that was fitted again on all rows: the identity of the fit that was judged, and below the digest of its weights."""
JUDGED_MODEL_TAG = "mlops.judged_model_sha256"
ROLLED_BACK_TAG = "mlops.rolled_back"
UNTOLD_TAG = "mlops.champion_untold"
"""On a version: the event of its becoming champion, or of a person's word, written before that is done and emptied once it is told."""
TOLD_TAG = "mlops.champion_told"
"""On the version that was told of last as champion: where another has the alias, it was moved in MLflow itself."""
BECAME_TAG = "mlops.became_champion"
"""On a version: the event of its becoming champion, the last time, which stands whatever has the alias later."""
EVALUATION_TAG = "mlops.evaluation_sha256"
"""On a run."""
REPORT_TAG = "mlops.report_sha256"
"""On a run: the page that lies beside it."""
VERSION_TAG = "mlops.registered_as"
"""On a run."""
REASON_TAG = "mlops.reason"
"""On a version and its run: why the run that made it was made, as a watch or a person told it."""
AS_OF_TAG = "mlops.as_of"
"""On a version and its run: the moment from which on it saw no row."""
HISTORY_TAG = "mlops.former_champions"
"""On the registered model."""
LOOKED_AT_TAG = "mlops.champions_of_before"
"""On the registered model: the champions of before that were found, once, and are taken though a later gate said no."""

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
        """The digest of all its files; empty if it was not registered by us."""
        return digest_or_nothing(self.tags.get(CONTENT_TAG, ""))

    @property
    def identity_sha256(self) -> str:
        """The digest of what decides what it predicts; empty if it was not registered by us."""
        return digest_or_nothing(self.tags.get(IDENTITY_TAG, self.content_sha256))

    @property
    def model_sha256(self) -> str:
        return self.tags.get(MODEL_TAG, "")

    @property
    def is_sealed(self) -> bool:
        """Whether its digest covers every file, so that none can be added."""
        return IDENTITY_TAG in self.tags

    @property
    def judged_sha256(self) -> str:
        """The identity of the fit that was judged, if this one was made after it on all rows; else empty."""
        return self.tags.get(JUDGED_TAG, "")

    def is_of(self, model_sha256: str) -> bool:
        """Whether it is this very model, or one that was fitted again after this was judged."""
        return model_sha256 in (self.model_sha256, self.tags.get(JUDGED_MODEL_TAG))

    @property
    def is_champion(self) -> bool:
        return CHAMPION in self.aliases

    @property
    def passed(self) -> bool:
        """Whether the gate lets it pass, as it was last asked."""
        return self.tags.get(PASSED_TAG) == "true"

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Every person's word on it, oldest first."""
        return decisions(self.tags)

    @property
    def taken_back(self) -> str:
        """How a person took it back, in words; empty if none did, or it was promoted or approved since."""
        if self.rolled_back:
            return f"rolled back by a person at {self.rolled_back}"
        last = next(iter(self.decisions[::-1]), None)
        return f"rejected by {last.by} at {last.time}" if last is not None and last.decision == "rejected" else ""

    @property
    def refused(self) -> str:
        """Why it may not be served, used or published, and how to change that; empty if it may."""
        return self.why_refused()

    def why_refused(self, option: str = "") -> str:
        """The same, for one who types: ``option`` names the settings to a command."""
        return refusal(str(self.number), self.tags, self.content_sha256, option)

    @property
    def waits(self) -> bool:
        """Whether it becomes champion as soon as a person approves it."""
        return waits(self.tags, self.content_sha256) and not self.is_champion

    @property
    def held(self) -> bool:
        """Whether it waits since a run was told so, so that another run lets go of it only if it is told otherwise."""
        return held(self.tags, self.content_sha256)

    def was_judged_against(self, champion: Version | None) -> bool:
        """Whether its gate compared it with this very champion, or there is none, or none with other weights."""
        if champion is None or champion.is_of(self.model_sha256):
            return True
        return self.tags.get(AGAINST_TAG, "") == champion.content_sha256 != ""

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
    def made_because(self) -> str:
        """Why the run that made it was made, as a watch or a person told it."""
        return self.tags.get(REASON_TAG, "")

    @property
    def as_of(self) -> str:
        """The moment from which on it saw no row; empty if it saw all."""
        return self.tags.get(AS_OF_TAG, "")

    @property
    def latency_ms(self) -> float | None:
        """Median milliseconds for one row, as measured when it was registered; None if that cannot be read."""
        try:
            return float(self.tags.get(LATENCY_TAG, ""))
        except ValueError:
            return None

    def as_json(self, option: str = "") -> dict[str, Any]:
        """What is known of it, as plain values: moments in UTC; what is not known is empty or null. ``option`` as above."""
        return {
            "version": self.number,
            "aliases": sorted(self.aliases),
            "passed": self.passed or (False if self.gate else None),
            "waits": self.waits,
            "refused": self.why_refused(option),
            "content_sha256": self.content_sha256,
            "model_sha256": self.model_sha256,
            "judged_sha256": self.judged_sha256,
            "evaluated_on": self.evaluated_on,
            "registered": rfc3339(datetime.fromtimestamp(self.created, UTC)),
            "run_id": self.run_id,
            "as_of": self.as_of,
            "made_because": self.made_because,
            "rolled_back": self.rolled_back,
            "latency_ms": self.latency_ms,
            "gate": list(self.gate),
            "decisions": [msgspec.to_builtins(one) for one in self.decisions],
        }


class Found(msgspec.Struct, frozen=True):
    """What a reference means: a version's number (empty for a folder), the digest of its content, and where its files lie."""

    number: str
    content_sha256: Annotated[str, msgspec.Meta(pattern=DIGEST)]
    location: str
    tags: dict[str, str] = {}

    def why_refused(self, option: str = "") -> str:
        """Why it may not be taken, and how to change that; empty if it may, as a folder that somebody names may.

        ``option`` names the settings to a command.
        """
        return refusal(self.number, self.tags, self.content_sha256, option) if self.number else ""

    @property
    def admitted_on(self) -> str:
        """The digest of the held-out rows on which the gate let it pass; empty where that is not what counts."""
        return admitted_on(self.tags, self.content_sha256) if self.number else ""

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
    """The SHA-256 digest of every file of a version, each with its name. Raises ``OSError``."""
    return hashlib.sha256(json.dumps(["version", 2, *_files(folder, folder)]).encode()).hexdigest()


def identity_digest(folder: Path) -> str:
    """The SHA-256 digest of all that decides what a version predicts and what it refuses, by which it is found again.

    It was the content's digest, too, of versions that were made before that covered every file. Raises ``OSError``.
    """
    files = (folder / name for name in ("model.skops", "MLmodel", "training.json", "onnx/model.onnx"))
    parts = [sha256_of_file(file) if file.exists() else "none" for file in files]
    of_others = (file for place in ("formats", "onnx/texts") for file in (folder / place).rglob("*") if file.is_file())
    parts += [f"{name} {sha256_of_file(folder / name)}" for name in sorted(file.relative_to(folder).as_posix() for file in of_others)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def holds(folder: Path, content_sha256: str) -> bool:
    """Whether a folder's files are those of the digest that a version was registered with, today or before. Raises ``OSError``."""
    return any(digest(folder) == content_sha256 for digest in (content_digest, identity_digest))


def _files(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Name and digest of each file, in the order of their names; of what is neither file nor folder, that it is there."""
    for entry in sorted(folder.iterdir()):
        name = entry.relative_to(root).as_posix()
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry, root)
        else:
            yield name, sha256_of_file(entry) if entry.is_file() else "none"
