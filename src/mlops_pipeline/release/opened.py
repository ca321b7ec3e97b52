"""What a release is about: a server's model, the table, the record, the registry, each found by the settings."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.experiment import Experiment
from mlops_pipeline.config.finding import monitoring_config, option_for, option_for_releases, option_for_server, release_config
from mlops_pipeline.config.release import OF_CLASSES, OF_NUMBERS, Policy, Releases, load_releases, policy_of
from mlops_pipeline.config.tree import tree_of
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.compatible import Accepted, why_unfit
from mlops_pipeline.inference.raw import RawInput
from mlops_pipeline.inference.signature import Signature
from mlops_pipeline.monitoring.recorded import within
from mlops_pipeline.monitoring.watched import Watched, watched
from mlops_pipeline.records.reading import news
from mlops_pipeline.registry.champion import RegistryWriter
from mlops_pipeline.release.evidence import settled_after
from mlops_pipeline.release.ledger import Ledger
from mlops_pipeline.release.reward import refuse_untold
from mlops_pipeline.release.table import Started, Table, open_table, table_there, with_ends

if TYPE_CHECKING:
    from mlops_pipeline.contract.reference import Reference
    from mlops_pipeline.contract.spec import Contract
    from mlops_pipeline.release.evidence import Observations


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

    @property
    def look_ms(self) -> int:
        """How often the servers look at the table."""
        return self.watch.serving.release.look_ms

    @property
    def settle_s(self) -> float:
        """So long after a transition they may still divide as before."""
        return settled_after(self.look_ms)

    @property
    def option(self) -> str:
        """What a command about releases needs, to mean these."""
        return option_for_releases(self.origin)

    @property
    def option_of_pipeline(self) -> str:
        """What a command about versions needs."""
        return option_for(self.watch.config)

    @property
    def option_of_server(self) -> str:
        """What a command about the record needs."""
        return option_for_server(self.watch.server)

    def table(self) -> Table:
        """Open the table; it is made if it is missing."""
        return open_table(self.where, self.watch.place.model)

    def table_there(self) -> Table | None:
        """The table where somebody has made it, for who does not begin with it."""
        return table_there(self.where, self.watch.place.model)

    def registry(self) -> RegistryWriter:
        """The registry, to be written too."""
        from mlops_pipeline.registry.runs import Tracking

        return RegistryWriter(Tracking(self.watch.pipeline, self.watch.layout))

    def policy(self, started: Started) -> Policy:
        """The policy that a release was begun with: what the file says now is of the next."""
        return policy_of(started.policy)

    def testing(self, experiment: Experiment) -> Opened:
        """The same with a policy that is this test, under the guardrails of this one. Raises :class:`PipelineError`."""
        kept = self.settings.policy.model_dump(exclude={"steps", "bandit", "experiment"})
        policy = tree_of(Policy, {**kept, "experiment": experiment.model_dump()}, f"the test '{experiment.name}'")
        return replace(self, settings=self.settings.model_copy(update={"policy": policy}))

    def check(self, champion: str) -> None:
        """Raise :class:`PipelineError` in one line if a guardrail could say nothing of what this champion takes and answers.

        So of a reward, or a test's metrics, that the record could never tell.
        """
        policy = self.settings.policy
        if policy.ending is not None and not self.divides:
            raise PipelineError(
                f"{self.origin}: split = 'elsewhere': a {policy.ending.name} needs servers that divide units themselves: split: server"
            )
        if policy.ending is not None:
            refuse_untold(policy, self._reference_of(champion), str(self.origin or "the usual policy"))
        try:
            contract = self.watch.contract(self.model, champion)
        except PipelineError:
            return  # nobody can tell where it is: nothing is said of predictions either
        if contract is None:
            return
        private = {*contract.private, *(name for name, column in contract.columns.items() if column.private)}
        on_record = {*contract.columns, *contract.raw} - private
        sliced = [
            (f"{self.origin or 'the usual policy'}: policy.guardrails.{name}", guardrail.slices)
            for name, guardrail in policy.guardrails.items()
        ]
        if policy.experiment is not None:
            sliced.append((f"the test '{policy.experiment.name}'", policy.experiment.slices))
        for place, slices in sliced:
            unknown = next((column for column in slices if column not in on_record), None)
            if unknown is not None:
                close = get_close_matches(unknown, on_record, 1)
                remedy = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(sorted(on_record)[:8])}"
                why = "is private, and on no record" if unknown in private else "is no column of the record"
                raise PipelineError(f"{place}.slices: '{unknown}' {why}: {remedy}")
        for name, guardrail in policy.guardrails.items():
            place = f"{self.origin or 'the usual policy'}: policy.guardrails.{name}"
            of_classes = has_classes(contract.task)
            if guardrail.loss is not None and (guardrail.loss in OF_CLASSES) != of_classes:
                fit = OF_CLASSES if of_classes else OF_NUMBERS
                raise PipelineError(f"{place}.loss: '{guardrail.loss}' is none of a {contract.task} model's: use {' or '.join(fit)}")

    def refuse_unfit(self, champion: str, challenger: str) -> None:
        """Raise :class:`PipelineError` if servers would never ask this challenger, as far as what both take can be read here."""
        if not self.divides:
            return
        try:
            contracts = [self.watch.contract(self.model, version) for version in (champion, challenger)]
        except PipelineError:
            return  # the servers' own look tells
        both = [self._accepted(contract) for contract in contracts if contract is not None]
        if len(both) == len(contracts) and (problem := why_unfit(*both)):
            raise PipelineError(
                f"{self.model}: version {challenger} cannot take the requests of the champion, version {champion}: {problem}"
            )

    def _accepted(self, contract: Contract) -> Accepted:
        """What the server takes for a version of this contract, by its settings."""
        serving = self.watch.serving
        features = Signature.of(contract, refuse_extra=serving.extra_columns == "refuse")
        raw = RawInput.taken(contract, features, serving.inputs)
        return Accepted(features, None if raw is None else raw.signature, raw is not None and serving.inputs == "raw")

    def ledger(self, started: Started, policy: Policy, before: Ledger | None, *, until: datetime | None = None) -> Ledger:
        """What the record says of a release, ``before`` read on if it can be; ``until`` is its end, if it is over."""
        reference = self._reference_of(started.champion)
        if before is not None and (before.reference is None) == (reference is None):
            made = before
        else:
            tested = () if policy.experiment is None else policy.experiment.slices
            slices = tuple(dict.fromkeys([*(name for each in policy.guardrails.values() for name in each.slices), *tested]))
            made = Ledger(
                started.champion,
                started.challenger,
                reference,
                slices,
                sticks=started.unit != "request",
                within=within(self.watch),
                elsewhere=not self.divides,
                settle_s=self.settle_s,
            )
        with closing(self.watch.state()) as state:
            made.label(state.labels_after(made.labels_to, started.made))
        since = datetime.fromtimestamp(started.made, UTC)
        with news(self.watch.store, made.read_to, since=since, until=until, model=started.model) as found:
            made.read(found.frames, found.withdrawn, found.read_to)
        return made

    def answers_of(self, version: str, since: datetime, *, sticks: bool) -> Observations:
        """What the record and the labels say of a version since a moment, whether a release was under way or not."""
        made = Ledger(version, "\0", self._reference_of(version), (), sticks=sticks, within=within(self.watch), elsewhere=True)
        with closing(self.watch.state()) as state:
            made.label(state.labels_after(0, since.timestamp()))
        with news(self.watch.store, {}, since=since, model=self.model) as found:
            made.read(found.frames, found.withdrawn, found.read_to)
        return made.observations()

    def mirrored(self, started: Started) -> list[tuple[float, float]]:
        """When the challenger of a release that a mesh divides was to answer nobody."""
        if self.divides:
            return []
        with closing(self.table()) as table:
            turns = table.transitions(started.number)
        return [(each.made, end) for each, end in with_ends(turns) if each.weight == 0]

    def _reference_of(self, champion: str) -> Reference | None:
        """What the champion's outputs mean; without a summary of it nothing is said of predictions."""
        try:
            return self.watch.reference(self.model, champion)
        except PipelineError:
            return None


def opened(config: Path | None, project: Path | None = None) -> Opened:
    """The releases of a settings file, or of a project, by default this one. Raises :class:`PipelineError` in one line."""
    path = release_config(config, project)
    settings = load_releases(path)
    beside = path.parent if path is not None else Path()
    server = beside / settings.serving if settings.serving is not None else None
    watch = watched(beside / settings.monitoring if settings.monitoring is not None else monitoring_config(None, project), project, server)
    model = settings.model or watch.models[0]
    if model not in watch.references:
        raise PipelineError(f"{path}: model = '{model}': the server serves no such name: use one of {', '.join(watch.references)}")
    return Opened(settings, path, watch, model)


def lease_end(settings: Releases) -> float:
    """Until when a lease lasts that is renewed now."""
    return time.time() + settings.lease_s
