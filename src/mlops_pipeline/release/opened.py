"""What a release is about: a server's model, the table, the record, the registry, each found by the settings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.finding import monitoring_config, release_config
from mlops_pipeline.config.release import Policy, Releases, load_releases, policy_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.monitoring.labels import Known
from mlops_pipeline.monitoring.recorded import within
from mlops_pipeline.monitoring.watched import Watched, watched
from mlops_pipeline.records.reading import batches
from mlops_pipeline.registry.champion import RegistryWriter
from mlops_pipeline.release.evidence import Answers, answers_in, by_version
from mlops_pipeline.release.table import Started, Table, open_table

if TYPE_CHECKING:
    from mlops_pipeline.contract.reference import Reference


@dataclass(frozen=True)
class Opened:
    """Releases of one server, their settings resolved."""

    settings: Releases
    origin: Path | None
    watch: Watched
    model: str
    """The name in the address."""

    @property
    def where(self) -> str:
        """The table's file or address."""
        return self.watch.place.releases

    @property
    def divides(self) -> bool:
        """Whether servers of ours divide, as the table says, so that shares may be held against it."""
        return self.settings.split == "server"

    def table(self) -> Table:
        """Open the table; it is made if it is missing."""
        return open_table(self.where)

    def registry(self) -> RegistryWriter:
        """The registry, to be written too."""
        from mlops_pipeline.registry.runs import Tracking

        return RegistryWriter(Tracking(self.watch.pipeline, self.watch.layout))

    def policy(self, started: Started) -> Policy:
        """The policy that a release was begun with: what the file says now is of the next."""
        return policy_of(started.policy)

    def answers(self, started: Started, policy: Policy) -> Answers:
        """What was answered under a release until now, with the labels that have come."""
        watch = self.watch
        slices = tuple(dict.fromkeys(name for each in policy.guardrails.values() for name in each.slices))
        state = watch.state()
        try:
            labels = state.labels_after(0, started.made)
        finally:
            state.close()
        known = Known.of(labels, within(watch)) if labels else None
        frames = batches(watch.store, since=datetime.fromtimestamp(started.made, UTC), model=started.model, shadows=True, units=True)
        if self.settings.split == "elsewhere":
            frames = (by_version(frame, started.champion, started.challenger) for frame in frames)
        return answers_in(
            frames, self._reference(started), started.champion, started.challenger, known, slices, sticks=started.unit != "request"
        )

    def _reference(self, started: Started) -> Reference | None:
        """What the champion's outputs mean; without a summary of it nothing is said of predictions."""
        try:
            return self.watch.reference(started.model, started.champion)
        except PipelineError:
            return None


def opened(config: Path | None) -> Opened:
    """The releases of a settings file, or of this project. Raises :class:`PipelineError` in one line."""
    path = release_config(config)
    settings = load_releases(path)
    beside = path.parent if path is not None else Path()
    watch = watched(beside / settings.monitoring if settings.monitoring is not None else monitoring_config(None))
    model = settings.model or watch.models[0]
    if model not in watch.references:
        raise PipelineError(f"{path}: model = '{model}': the server serves no such name: use one of {', '.join(watch.references)}")
    return Opened(settings, path, watch, model)


def lease_end(settings: Releases) -> float:
    """Until when a lease lasts that is renewed now."""
    return time.time() + settings.lease_s
