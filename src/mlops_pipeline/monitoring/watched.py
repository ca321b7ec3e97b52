"""What is watched: a pipeline's model behind a server, the record of its predictions, and the rules it is held to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlops_pipeline import plugins
from mlops_pipeline.config.finding import monitoring_config, option_for_watch, pipeline_config, serving_config
from mlops_pipeline.config.monitoring import ChannelSettings, Monitoring, channels_of, load_monitoring
from mlops_pipeline.config.pipeline import Settings, load_settings
from mlops_pipeline.config.serving import RecordStore, Serving, is_folder, load_serving
from mlops_pipeline.config.tree import Frozen
from mlops_pipeline.contract.reference import FILE, Reference
from mlops_pipeline.contract.spec import FILE as CONTRACT
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import current_user
from mlops_pipeline.inference.scorer import contract_at
from mlops_pipeline.inference.texts import FrozenEncoder, frozen_encoders
from mlops_pipeline.layout import Layout, find_project, layout_of
from mlops_pipeline.monitoring.reference import reference_at
from mlops_pipeline.monitoring.rules import Terms
from mlops_pipeline.monitoring.state import OWNER, WatchState, state_at
from mlops_pipeline.parts import METRICS
from mlops_pipeline.registry.champion import registered_model
from mlops_pipeline.registry.reader import RegistryUnreachable, waiting
from mlops_pipeline.registry.versions import Version
from mlops_pipeline.server_layout import Place, place_of

Channels = dict[str, tuple[plugins.Channel, list[Frozen], ChannelSettings]]


@dataclass(frozen=True)
class Watched:
    """One watch, its settings resolved."""

    settings: Monitoring
    origin: Path | None
    pipeline: Settings
    layout: Layout
    config: Path
    """The pipeline's settings."""
    server: Path
    serving: Serving
    """The server's settings, and the file they are from."""
    place: Place
    references: Mapping[str, str]
    """Which version each name in the URL stands for, as the server's settings say."""
    models: tuple[str, ...]
    channels: Channels
    _known: dict[str, Reference] = field(default_factory=dict)
    _versions: dict[int, Version] = field(default_factory=dict)
    _asked: list[list[Version] | RegistryUnreachable] | None = None
    """What came of asking the registry, where that is done once; None where it is asked again for what is not known."""

    def asking_once(self) -> Watched:
        """The same of one moment: the registry is asked once at most, however many versions it would have to tell of."""
        return replace(self, _asked=[])

    @property
    def option(self) -> str:
        """What a command about this watch needs, to mean it."""
        return option_for_watch(self.origin)

    @property
    def store(self) -> RecordStore:
        """The record of predictions."""
        return self.place.store

    @property
    def state_file(self) -> Path:
        """Where the memory is, if it is a file."""
        return self.layout.root / self.settings.state.file

    def state(self) -> WatchState:
        """Open the memory; it is made if it is missing. Raises :class:`PipelineError`, also for a database that is another pipeline's."""
        state = state_at(self.state_file, self.settings.state.uri)
        if self.settings.state.uri is None:
            return state
        # Models of two pipelines have the same names: their windows, labels and trainings would be taken for one another's.
        name = self.pipeline.name
        if (owner := state.owner(name, current_user(), time.time())) != name:
            state.close()
            raise PipelineError(
                f"{state.database.place}: holds the watch of the pipeline '{owner}', and this is '{name}': give each a database of its own "
                f"(or, if it was renamed, write so into mlops_monitor_switches, where name is '{OWNER}')"
            )
        return state

    def reference(self, model: str, version: str) -> Reference:
        """The summary beside a version.

        Raises :class:`PipelineError` if there is none on this machine, :class:`RegistryUnreachable` if nobody can tell where it is.
        """
        key = version or model
        if key not in self._known:
            self._known[key] = reference_at(self._folder(model, version))
        return self._known[key]

    def encoders(self, model: str, version: str) -> dict[str, FrozenEncoder]:
        """The pretrained encoders that a version reads texts by; none where it has none, or its folder is not on this machine."""
        try:
            return frozen_encoders(self._folder(model, version))
        except RegistryUnreachable:
            raise
        except (PipelineError, OSError, ValueError):
            return {}

    def contract(self, model: str, version: str) -> Contract | None:
        """What a version takes and how that is made; None if no folder of it is on this machine."""
        try:
            return contract_at(self._folder(model, version) / CONTRACT)
        except RegistryUnreachable:
            raise
        except (PipelineError, OSError):
            return None

    def terms(self, model: str, version: str) -> Terms:
        """What rules need to know of a version."""
        metric = self.pipeline.evaluate.metric
        try:
            quality = self.reference(model, version).quality
        except PipelineError:
            quality = {}
        ends = {f"quality.{name}{end}": getattr(found, part) for name, found in quality.items() for end, part in _ENDS}
        estimated = {f"estimated.{name}": found.value for name, found in quality.items()}
        declared = {part.name: part for part in METRICS} | plugins.parts(plugins.Metric)
        return Terms(metric, declared[metric].lower_is_better, {**ends, **estimated}, self.settings.labels.least_share)

    def registered(self, version: str) -> Version | None:
        """A version as the registry has it; None if it has no such. Raises :class:`RegistryUnreachable` if that cannot be told."""
        if not version.isdigit():
            return None
        if int(version) not in self._versions:
            self._versions.update({each.number: each for each in self._there()})
        return self._versions.get(int(version))

    def waiting(self) -> Version | None:
        """The version that waits for a person's approval. Raises :class:`RegistryUnreachable` if that cannot be told."""
        return waiting(self._there())

    def _there(self) -> list[Version]:
        """Every version, newest first; raises :class:`RegistryUnreachable`."""
        found = self._asked[0] if self._asked else self._ask()
        if isinstance(found, RegistryUnreachable):
            raise found
        return found

    def _ask(self) -> list[Version] | RegistryUnreachable:
        """Ask the registry for its versions; why it does not tell, if it does not."""
        found: list[Version] | RegistryUnreachable
        try:
            found = registered_model(self.pipeline, self.layout).versions()
        except RegistryUnreachable as error:
            found = error
        except PipelineError as error:
            found = RegistryUnreachable(str(error))
        if self._asked is not None:
            self._asked.append(found)
        return found

    def _folder(self, model: str, version: str) -> Path:
        """The folder of a version on this machine that has a summary."""
        named = self.references.get(model, "")
        if is_folder(named):
            return Path(named)
        found = self.registered(version)
        if found is None:
            raise PipelineError(f"{model} version {version or '(none)'}: the registry does not have it: its rows are counted, not compared")
        short = found.content_sha256[:16] or f"version-{found.number}"
        folders = [self.layout.versions / short, self.place.versions / short, self.place.cache / short]
        return next((folder for folder in folders if (folder / FILE).is_file()), folders[0])


_ENDS = (("", "value"), (".low", "low"), (".high", "high"))


def watched(config: Path | None, project: Path | None = None, server: Path | None = None) -> Watched:
    """The watch of a settings file, or of a project, by default this one; of a ``server`` whose settings are named elsewhere.

    Raises :class:`PipelineError` in one line, also where the watch is another server's.
    """
    path = monitoring_config(config, project)
    settings = load_monitoring(path)
    beside = path.parent if path is not None else Path()
    own = beside / settings.serving if settings.serving is not None else None
    if own is not None and server is not None and own.resolve() != server.resolve():
        raise PipelineError(
            f"{path}: serving = '{settings.serving}': is another server than the release's, {server}: name the same in both"
        )
    server = own or server or serving_config(None, project)
    serving = load_serving(server)
    if settings.pipeline is not None:
        pipeline_path = beside / settings.pipeline
    elif serving.pipeline is not None:
        pipeline_path = server.parent / serving.pipeline
    else:
        pipeline_path = pipeline_config(None, project)
    pipeline = load_settings(pipeline_path)
    place = place_of(serving, server)
    if settings.plugins:
        here = plugins.source()
        plugins.use(replace(here, plugins=tuple(dict.fromkeys((*here.plugins, *settings.plugins))), origin=str(path)))
    unknown = [name for name in settings.models or () if name not in serving.models]
    if unknown:
        raise PipelineError(f"{path}: models = '{unknown[0]}': {server} serves no such name: use one of {', '.join(serving.models)}")
    return Watched(
        settings,
        path,
        pipeline,
        layout_of(pipeline, pipeline_path, find_project(pipeline_path)),
        pipeline_path,
        server,
        serving,
        place,
        serving.models,
        settings.models or (serving.default_model,),
        channels_of(settings, path),
    )
