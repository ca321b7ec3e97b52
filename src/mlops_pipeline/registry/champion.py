"""Versions in MLflow's registry, and the alias that says which one is champion.

The order of writes is what keeps exactly one valid champion through a kill at any moment: artifacts first, then the
version with its digest and the gate's reasons, then the history, then the alias, then the local link. Each step is
found done, or done again, by the next run.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.pipeline import Settings, registry_uri
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import read_json, swap, write_text
from mlops_pipeline.layout import Layout
from mlops_pipeline.registry.lock import store_lock
from mlops_pipeline.registry.reader import CHAMPION, CONTENT_TAG, GATE_TAG, StoredVersion, content_digest, stored_versions

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mlflow.entities.model_registry import ModelVersion

    from mlops_pipeline.registry.runs import Tracking

MODEL_TAG = "mlops.model_sha256"
EVALUATED_TAG = "mlops.evaluated_on"
PASSED_TAG = "mlops.gate_passed"
LATENCY_TAG = "mlops.latency_ms"
OVERRIDE_TAG = "mlops.promoted_in_spite_of_gate"
ROLLED_BACK_TAG = "mlops.rolled_back"
HISTORY_TAG = "mlops.former_champions"


@dataclass(frozen=True)
class Version:
    """A registered version. ``content_sha256`` covers the model and its ONNX twin; empty if not registered by us."""

    number: int
    content_sha256: str
    model_sha256: str
    run_id: str
    created: float
    is_champion: bool
    passed: bool
    evaluated_on: str
    rolled_back: str
    gate: tuple[dict[str, Any], ...]
    latency_ms: float | None


@dataclass(frozen=True)
class Champion:
    """The champion as a model folder on this machine, with its number in the registry."""

    folder: Path
    number: int
    content_sha256: str
    model_sha256: str


class Registry:
    """The registered model of one pipeline."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking, self._client, self._layout = tracking, tracking.client, tracking.layout
        self.name = tracking.settings.registry.model or tracking.settings.name
        self._uri = registry_uri(tracking.settings, tracking.layout.default_tracking_uri)

    def deciding(self) -> AbstractContextManager[None]:
        """Only one process at a time may decide on the champion."""
        return store_lock(self._uri, self._layout, "champion")

    def versions(self) -> list[Version]:
        """Every version, newest first."""
        champion = self._champion_number()
        found = self._client.search_model_versions(f"name = '{self.name}'", max_results=1000)
        return sorted((_version(v, champion) for v in found), key=lambda v: -v.number)

    def champion(self) -> Version | None:
        """The version that the alias names."""
        number = self._champion_number()
        return None if number is None else self.get(number)

    def champion_besides(self, model_sha256: str) -> Champion | None:
        """The champion as a folder on this machine; None if there is none, or if it is this very model."""
        version = self.champion()
        if version is None or version.model_sha256 == model_sha256:
            return None
        return Champion(self.fetch(version), version.number, version.content_sha256, version.model_sha256)

    def get(self, number: int) -> Version:
        """One version; raises :class:`PipelineError` that names those there are."""
        from mlflow.exceptions import MlflowException

        try:
            return _version(self._client.get_model_version(self.name, str(number)), self._champion_number())
        except MlflowException as error:
            there = ", ".join(str(v.number) for v in self.versions()) or "none"
            raise PipelineError(f"{self.name}: has no version {number}: there are {there}") from error

    def find(self, content_sha256: str) -> Version | None:
        """The newest version with this content."""
        return next((v for v in self.versions() if v.content_sha256 == content_sha256), None)

    def add(self, folder: Path, content_sha256: str, run_id: str, tags: dict[str, str]) -> Version:
        """Store a model folder and register it as a new version, tags and all in one step."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        logged = self._client.create_logged_model(
            self._tracking.experiment_id, name=self.name, source_run_id=run_id, tags={CONTENT_TAG: content_sha256}
        )
        self._client.log_model_artifacts(logged.model_id, str(folder))
        self._client.finalize_logged_model(logged.model_id, "READY")
        made = self._client.create_model_version(
            self.name,
            source=f"models:/{logged.model_id}",
            run_id=run_id,
            tags={CONTENT_TAG: content_sha256, **tags},
            model_id=logged.model_id,
        )
        return self.get(int(made.version))

    def retag(self, number: int, tags: dict[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self.name, str(number), key, value)

    def make_champion(self, number: int) -> None:
        """Move the alias, after noting today's champion as a former one."""
        current = self._champion_number()
        if current == number:
            return
        history = self._history()
        if current is not None and history[-1:] != [current]:
            self._write_history([*history, current])
        self._client.set_registered_model_alias(self.name, CHAMPION, str(number))

    def promote(self, number: int, override: str | None) -> Version:
        """Make a version champion by hand; one that failed the gate only with a reason, which is kept as a tag.

        Raises :class:`PipelineError` for a version that was never evaluated on held-out rows, whatever the reason.
        """
        version = self.get(number)
        if not version.evaluated_on:
            raise PipelineError(f"{self.name} version {number}: was never evaluated on held-out rows: register it with `mlops run` first")
        if not version.passed and not override:
            failed = "; ".join(rule["text"] for rule in version.gate if not rule["passed"]) or "no reason stored"
            raise PipelineError(
                f"{self.name} version {number}: failed the gate ({failed}): give --override REASON to promote it all the same"
            )
        if not version.passed and override:
            self.retag(number, {OVERRIDE_TAG: override})
        self.fetch(version)
        self.retag(number, {ROLLED_BACK_TAG: ""})
        self.make_champion(number)
        return self.get(number)

    def rollback(self) -> tuple[Version, Version]:
        """Make the former champion champion again; the one that goes is not promoted again by a run."""
        current = self.champion()
        if current is None:
            raise PipelineError(f"{self.name}: has no champion to roll back from")
        there = {version.number for version in self.versions()}
        history = self._history()
        while history and (history[-1] == current.number or history[-1] not in there):
            history.pop()
        if not history:
            raise PipelineError(f"{self.name}: version {current.number} is the first champion: there is none to roll back to")
        former = self.get(history[-1])
        self.fetch(former)
        self.retag(current.number, {ROLLED_BACK_TAG: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        self._client.set_registered_model_alias(self.name, CHAMPION, str(former.number))
        self._write_history(history[:-1])
        return current, self.get(former.number)

    def fetch(self, version: Version) -> Path:
        """The version's model folder on this machine, downloaded once and checked against its digest."""
        folder = self._layout.versions / (version.content_sha256 or f"version-{version.number}")[:16]
        if _holds(folder, version):
            return folder
        import mlflow.artifacts

        self._layout.versions.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._layout.versions, prefix=".fetch-") as temporary:
            source = self._client.get_model_version_download_uri(self.name, str(version.number))
            try:
                fetched = Path(
                    mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=temporary, tracking_uri=self._tracking.uri)
                )
            except Exception as error:  # MLflow passes on whatever the artifact store raises
                raise PipelineError(
                    f"{self.name} version {version.number}: its artifacts at {source} cannot be read ({one_line(error)})"
                ) from error
            if not _holds(fetched, version):
                raise PipelineError(
                    f"{self.name} version {version.number}: its artifacts at {source} do not match its digest: promote another version"
                )
            keep(fetched, folder)
        return folder

    def publish(self) -> Path | None:
        """Point ``models/registry/best_model`` and the model card at the champion; None without one."""
        champion = self.champion()
        if champion is None:
            return None
        folder = self.fetch(champion)
        place = self._layout.best_model
        if not _is(place, champion.content_sha256):
            # A folder and no link, since MLflow refuses to read a model through one.
            staging = place.with_name(f".{place.name}.{os.getpid()}")
            shutil.rmtree(staging, ignore_errors=True)
            shutil.copytree(folder, staging)
            swap(staging, place)
            shutil.rmtree(staging, ignore_errors=True)
        card = folder / "MODEL_CARD.md"
        if card.exists():
            write_text(self._layout.model_card, card.read_text(encoding="utf-8"))
        return place

    def _champion_number(self) -> int | None:
        from mlflow.exceptions import MlflowException

        try:
            return int(self._client.get_model_version_by_alias(self.name, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def _history(self) -> list[int]:
        text = self._client.get_registered_model(self.name).tags.get(HISTORY_TAG, "[]")
        return [int(number) for number in json.loads(text)]

    def _write_history(self, history: list[int]) -> None:
        self._client.set_registered_model_tag(self.name, HISTORY_TAG, json.dumps(history))


def keep(folder: Path, place: Path) -> None:
    """Copy a complete folder to its place in one step; one that holds the same content already stays untouched."""
    if (place / "model.skops").is_file() and content_digest(place) == content_digest(folder):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    for old in place.parent.glob(f".{place.name}.*"):
        shutil.rmtree(old, ignore_errors=True)
    staging = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.copytree(folder, staging)
    shutil.rmtree(place, ignore_errors=True)
    staging.rename(place)


def missing_registration(settings: Settings, layout: Layout) -> str:
    """Why the recorded registration does not hold any more, or an empty string if it does.

    Asks the store without MLflow, whose import alone would take longer than the rest of an idle run. Only a clear
    «yes, it is there» counts: anything else sends the run through MLflow's own client.
    """
    try:
        recorded = read_json(layout.registration)
    except (OSError, ValueError):
        return "models/artifacts/registration.json is missing"
    name = settings.registry.model or settings.name
    there = _stored(settings, layout)
    if recorded["content_sha256"] not in {version.content_sha256 for version in there}:
        return f"{name} does not hold this model"
    if not any(CHAMPION in version.aliases for version in there):
        return f"{name} has lost its champion" if recorded["passed"] else ""
    return ""


def best_model_is_current(settings: Settings, layout: Layout) -> bool:
    """Whether ``best_model`` holds the registry's champion; True where there is none, or no clear answer."""
    champion = next((version for version in _stored(settings, layout) if CHAMPION in version.aliases), None)
    return champion is None or _is(layout.best_model, champion.content_sha256)


def _stored(settings: Settings, layout: Layout) -> list[StoredVersion]:
    """The versions of ours that the registry holds; none without a clear answer: the caller then asks through MLflow, which reports it."""
    try:
        found = stored_versions(registry_uri(settings, layout.default_tracking_uri), settings.registry.model or settings.name)
    except PipelineError:
        return []
    return [version for version in found if version.content_sha256]


def _is(folder: Path, content_sha256: str) -> bool:
    return (folder / "MLmodel").is_file() and content_digest(folder) == content_sha256


def _holds(folder: Path, version: Version) -> bool:
    if not (folder / "model.skops").is_file():
        return (folder / "MLmodel").is_file() and not version.content_sha256
    return not version.content_sha256 or content_digest(folder) == version.content_sha256


def _version(found: ModelVersion, champion: int | None) -> Version:
    tags = found.tags
    return Version(
        number=int(found.version),
        content_sha256=tags.get(CONTENT_TAG, ""),
        model_sha256=tags.get(MODEL_TAG, ""),
        run_id=found.run_id or "",
        created=found.creation_timestamp / 1000,
        is_champion=int(found.version) == champion,
        passed=tags.get(PASSED_TAG) == "true",
        evaluated_on=tags.get(EVALUATED_TAG, ""),
        rolled_back=tags.get(ROLLED_BACK_TAG, ""),
        gate=tuple(json.loads(tags.get(GATE_TAG, "[]"))),
        latency_ms=float(tags[LATENCY_TAG]) if tags.get(LATENCY_TAG) else None,
    )
